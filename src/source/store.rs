//! Ollama's store on this machine: `manifests/HOST/NAMESPACE/MODEL/TAG` and `blobs/sha256-…`.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::manifest::{self, Manifest};
use super::tag::{HOST, NAMESPACE, OllamaName};
use crate::cluster::ModelName;

/// Most entries of one directory that are looked at; the largest stores have hundreds of models.
const MOST_ENTRIES: usize = 10_000;

/// One directory of models.
#[derive(Debug, Clone, Copy)]
pub(super) struct Store<'a> {
    directory: &'a Path,
}

/// What a store has of a model.
pub(super) enum Stored {
    /// Its manifest.
    Manifest(Manifest),
    /// Something in its place that cannot be used; a sentence.
    Unreadable(String),
}

impl<'a> Store<'a> {
    pub(super) fn new(directory: &'a Path) -> Self {
        Self { directory }
    }

    /// The model of that name; `None` when the store does not have it, or there is no store.
    pub(super) fn find(self, name: &OllamaName) -> Option<Stored> {
        let exact = self
            .manifests()
            .join(&name.host)
            .join(&name.namespace)
            .join(&name.model)
            .join(&name.tag);
        let path = if exact.is_file() {
            exact
        } else {
            // Case does not matter in names, but it does in directories.
            let wanted = ModelName::new(&name.to_string());
            let mut there = self.listed().into_iter();
            let (_, path) = there.find(|(name, _)| ModelName::new(name) == wanted)?;
            path
        };
        Some(match read_small(&path, manifest::LIMIT) {
            Ok(bytes) => Manifest::parse(&bytes).map_or_else(
                || Stored::Unreadable(format!("{} is no manifest", path.display())),
                Stored::Manifest,
            ),
            Err(error) => Stored::Unreadable(format!("{}: {error}", path.display())),
        })
    }

    /// Whether there is a store that belongs to somebody else.
    pub(super) fn is_closed(self) -> bool {
        fs::read_dir(self.manifests())
            .is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    }

    /// The names of all models in it.
    pub(super) fn names(self) -> Vec<String> {
        self.listed().into_iter().map(|(name, _)| name).collect()
    }

    /// Where it is, for people.
    pub(super) fn place(self) -> String {
        self.directory.display().to_string()
    }

    /// Where a blob is.
    pub(super) fn blob(self, digest: &str) -> PathBuf {
        self.directory.join("blobs").join(digest.replace(':', "-"))
    }

    /// A small blob's content.
    pub(super) fn small_blob(self, digest: &str) -> io::Result<Vec<u8>> {
        read_small(&self.blob(digest), manifest::SMALL_BLOB)
    }

    fn manifests(self) -> PathBuf {
        self.directory.join("manifests")
    }

    fn listed(self) -> Vec<(String, PathBuf)> {
        let mut found = Vec::new();
        for (host, path) in entries(&self.manifests()) {
            for (namespace, path) in entries(&path) {
                for (model, path) in entries(&path) {
                    for (tag, path) in entries(&path) {
                        let name = short(&host, &namespace, &model, &tag);
                        if found.len() < MOST_ENTRIES && path.is_file() {
                            found.push((name, path));
                        }
                    }
                }
            }
        }
        found
    }
}

fn short(host: &str, namespace: &str, model: &str, tag: &str) -> String {
    match (host, namespace) {
        (HOST, NAMESPACE) => format!("{model}:{tag}"),
        (HOST, _) => format!("{namespace}/{model}:{tag}"),
        _ => format!("{host}/{namespace}/{model}:{tag}"),
    }
}

/// Names and paths in a directory, in order; nothing where it cannot be listed, as for the store of a service that belongs to another user.
fn entries(directory: &Path) -> Vec<(String, PathBuf)> {
    let Ok(listed) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut entries: Vec<(String, PathBuf)> = listed
        .take(MOST_ENTRIES)
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            (!name.starts_with('.')).then(|| (name, entry.path()))
        })
        .collect();
    entries.sort();
    entries
}

fn read_small(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path)?
        .take(limit + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let told = format!("larger than {} MiB", limit >> 20);
        return Err(io::Error::new(io::ErrorKind::InvalidData, told));
    }
    Ok(bytes)
}
