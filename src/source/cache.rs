//! Headers that were read before, by what identifies their content, in a directory of the user's cache.
//!
//! A header of megabytes, most of it vocabulary, is kept as a few kilobytes of JSON. Nothing here is needed: whatever goes wrong costs a
//! reading from the registry, and is told at most once as a warning.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::vram::{Header, Metadata, Tensor, TensorType, Value};

/// Most headers that are kept.
const MOST_ENTRIES: usize = 64;

/// Most bytes that they may take together.
const MOST_BYTES: u64 = 256 * 1024 * 1024;

/// Largest entry in bytes. The table of 65,536 tensors has 6 MB.
const LARGEST: u64 = 16 * 1024 * 1024;

/// Entries of another version are not read: a newer gpurouter may read more out of the same bytes.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "/1");

/// Kept headers.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    directory: Option<PathBuf>,
}

/// What is known of some content.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Kept {
    /// Its header; of all shards together.
    pub header: Header,
    /// Bytes of all its files, where they are known.
    pub size: Option<u64>,
}

/// Why a header could not be kept.
#[derive(Debug)]
pub(super) struct CacheError {
    path: PathBuf,
    cause: io::Error,
}

impl fmt::Display for CacheError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the header cannot be kept for the next time in {}: {}",
            self.path.display(),
            self.cause
        )
    }
}

impl Cache {
    pub(super) fn new(directory: Option<PathBuf>) -> Self {
        Self { directory }
    }

    /// What is kept under that key; an entry that cannot be read counts as none, and is replaced when the header was read again.
    pub(super) fn get(&self, key: &str) -> Option<Kept> {
        let path = self.directory.as_ref()?.join(file_name(key));
        let mut bytes = Vec::new();
        let file = fs::File::open(path).ok()?;
        file.take(LARGEST + 1).read_to_end(&mut bytes).ok()?;
        let entry: Entry = serde_json::from_slice(&bytes).ok()?;
        (entry.version == VERSION && entry.key == key).then(|| entry.into_kept())
    }

    /// Keeps a header: written beside and renamed, so that nobody reads half of it.
    pub(super) fn put(&self, key: &str, kept: &Kept) -> Result<(), CacheError> {
        let Some(directory) = &self.directory else {
            return Ok(());
        };
        let write = || -> io::Result<()> {
            fs::create_dir_all(directory)?;
            let bytes = serde_json::to_vec(&Entry::of(key, kept))?;
            if bytes.len() as u64 > LARGEST {
                return Ok(());
            }
            let name = file_name(key);
            let beside = directory.join(format!("tmp-{}-{name}", std::process::id()));
            let target = directory.join(&name);
            let written = fs::File::create(&beside)
                .and_then(|mut file| file.write_all(&bytes))
                .and_then(|()| fs::rename(&beside, &target));
            if written.is_err() {
                // It may not even have been made.
                let _ = fs::remove_file(&beside);
            }
            written?;
            prune(directory, &target)
        };
        write().map_err(|cause| CacheError {
            path: directory.clone(),
            cause,
        })
    }
}

/// Removes the oldest entries beyond the limits, `newest` aside.
fn prune(directory: &Path, newest: &Path) -> io::Result<()> {
    let mut entries: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // Somebody may have pointed the cache at a directory with other things in it.
        if !["sha256-", "etag-", "tmp-"]
            .iter()
            .any(|start| name.starts_with(start))
        {
            continue;
        }
        let Ok(about) = entry.metadata() else {
            // Another process removed it in between.
            continue;
        };
        if about.is_file() && entry.path() != newest {
            let changed = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            entries.push((changed, about.len(), entry.path()));
        }
    }
    entries.sort();
    let mut bytes: u64 = entries.iter().map(|(_, size, _)| size).sum();
    let mut count = entries.len() + 1;
    for (_, size, path) in entries {
        if count <= MOST_ENTRIES && bytes <= MOST_BYTES {
            break;
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {
                count -= 1;
                bytes -= size;
            }
        }
    }
    Ok(())
}

/// A digest names its own file; any other key a file by its hash (FNV-1a), and the key inside tells two with the same hash apart.
fn file_name(key: &str) -> String {
    if super::manifest::is_digest(key) {
        return format!("{}.json", key.replace(':', "-"));
    }
    let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("etag-{hash:016x}.json")
}

#[derive(Serialize, Deserialize)]
struct Entry {
    version: String,
    key: String,
    size: Option<u64>,
    gguf: u32,
    big_endian: bool,
    data_offset: u64,
    shards: u32,
    metadata: BTreeMap<String, Word>,
    tensors: Vec<(String, u32, Vec<u64>)>,
}

/// A metadata value. Floats are kept by their bits: JSON's decimals would not come back exactly, and have no NaN.
#[derive(Serialize, Deserialize)]
enum Word {
    U(u64),
    S(i64),
    F(u64),
    B(bool),
    T(String),
    N(Vec<u64>),
    L(u64),
}

impl Entry {
    fn of(key: &str, kept: &Kept) -> Self {
        let header = &kept.header;
        let metadata = (header.metadata.0.iter())
            .map(|(key, value)| (key.clone(), Word::of(value)))
            .collect();
        let tensors = (header.tensors.iter())
            .map(|tensor| (tensor.name.clone(), tensor.kind.0, tensor.dims.clone()))
            .collect();
        Self {
            version: VERSION.to_owned(),
            key: key.to_owned(),
            size: kept.size,
            gguf: header.version,
            big_endian: header.big_endian,
            data_offset: header.data_offset,
            shards: header.shards,
            metadata,
            tensors,
        }
    }

    fn into_kept(self) -> Kept {
        let metadata = (self.metadata.into_iter())
            .map(|(key, word)| (key, word.value()))
            .collect();
        let tensors = (self.tensors.into_iter())
            .map(|(name, kind, dims)| Tensor {
                name,
                kind: TensorType(kind),
                dims,
            })
            .collect();
        Kept {
            size: self.size,
            header: Header {
                version: self.gguf,
                big_endian: self.big_endian,
                metadata: Metadata(metadata),
                tensors,
                data_offset: self.data_offset,
                shards: self.shards,
            },
        }
    }
}

impl Word {
    fn of(value: &Value) -> Self {
        match value {
            Value::Unsigned(number) => Self::U(*number),
            Value::Signed(number) => Self::S(*number),
            Value::Float(number) => Self::F(number.to_bits()),
            Value::Bool(truth) => Self::B(*truth),
            Value::Text(text) => Self::T(text.clone()),
            Value::Numbers(numbers) => Self::N(numbers.iter().map(|one| one.to_bits()).collect()),
            Value::Length(length) => Self::L(*length),
        }
    }

    fn value(self) -> Value {
        match self {
            Self::U(number) => Value::Unsigned(number),
            Self::S(number) => Value::Signed(number),
            Self::F(bits) => Value::Float(f64::from_bits(bits)),
            Self::B(truth) => Value::Bool(truth),
            Self::T(text) => Value::Text(text),
            Self::N(bits) => Value::Numbers(bits.into_iter().map(f64::from_bits).collect()),
            Self::L(length) => Value::Length(length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path =
                std::env::temp_dir().join(format!("gpurouter-cache-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn kept() -> Kept {
        let values = [
            ("u", Value::Unsigned(u64::MAX)),
            ("s", Value::Signed(-7)),
            ("f", Value::Float(0.1 + 0.2)),
            ("i", Value::Float(f64::INFINITY)),
            ("b", Value::Bool(true)),
            ("t", Value::Text("\u{0}\"ü".to_owned())),
            ("n", Value::Numbers(vec![0.0, -0.0, 1e-320])),
            ("l", Value::Length(151_936)),
        ];
        let metadata = values
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        Kept {
            size: Some(7),
            header: Header {
                version: 3,
                big_endian: true,
                metadata: Metadata(metadata),
                tensors: vec![Tensor {
                    name: "a".to_owned(),
                    kind: TensorType(12),
                    dims: vec![256, 2],
                }],
                data_offset: 64,
                shards: 2,
            },
        }
    }

    fn digest(number: usize) -> String {
        format!("sha256:{number:064x}")
    }

    #[test]
    fn gives_back_exactly_what_it_was_given() {
        let scratch = Scratch::new("exact");
        let cache = Cache::new(Some(scratch.0.clone()));
        for key in [digest(1), "http://host/m.gguf \"tag\"".to_owned()] {
            assert_eq!(cache.get(&key), None);
            cache.put(&key, &kept()).expect("a writable directory");
            assert_eq!(cache.get(&key), Some(kept()));
        }
        let names: Vec<_> = fs::read_dir(&scratch.0).expect("a directory").collect();
        assert_eq!(names.len(), 2, "nothing is left beside them");
    }

    #[test]
    fn ignores_and_replaces_what_it_cannot_read() {
        let scratch = Scratch::new("corrupt");
        let cache = Cache::new(Some(scratch.0.clone()));
        let path = scratch.0.join(file_name(&digest(1)));
        cache
            .put(&digest(1), &kept())
            .expect("a writable directory");
        let good = fs::read_to_string(&path).expect("an entry");
        for bad in [
            String::new(),
            good[..good.len() / 2].to_owned(),
            good.replace(VERSION, "0"),
            good.replace(&digest(1), &digest(2)),
            "[]".to_owned(),
        ] {
            fs::write(&path, bad).expect("a writable entry");
            assert_eq!(cache.get(&digest(1)), None);
            cache
                .put(&digest(1), &kept())
                .expect("a writable directory");
            assert_eq!(cache.get(&digest(1)), Some(kept()));
        }
    }

    #[test]
    fn keeps_the_newest_and_touches_nothing_else() {
        let scratch = Scratch::new("prune");
        let cache = Cache::new(Some(scratch.0.clone()));
        fs::create_dir_all(&scratch.0).expect("a directory");
        fs::write(scratch.0.join("mine.txt"), "x").expect("a file");
        for number in 0..70 {
            cache
                .put(&digest(number), &kept())
                .expect("a writable directory");
            let path = scratch.0.join(file_name(&digest(number)));
            let file = fs::File::options()
                .write(true)
                .open(path)
                .expect("an entry");
            let age = std::time::Duration::from_secs(1000 - number as u64);
            file.set_modified(SystemTime::now() - age).expect("a time");
        }
        let kept = (0..70).filter(|number| cache.get(&digest(*number)).is_some());
        assert_eq!(kept.collect::<Vec<_>>(), (6..70).collect::<Vec<_>>());
        assert!(scratch.0.join("mine.txt").exists());
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_told() {
        let scratch = Scratch::new("file");
        fs::write(&scratch.0, "a file").expect("a file");
        let cache = Cache::new(Some(scratch.0.join("below")));
        let told = cache.put(&digest(1), &kept()).unwrap_err().to_string();
        assert!(told.contains("cannot be kept"), "{told}");
        assert_eq!(cache.get(&digest(1)), None);
        assert!(
            Cache::new(None)
                .put(&digest(1), &super::tests::kept())
                .is_ok()
        );
        fs::remove_file(&scratch.0).expect("the file");
    }
}
