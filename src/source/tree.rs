//! The files of a Hugging Face repository and which of them are meant. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::files;
use super::found::Variant;
use super::manifest;
use super::repository::{Pick, is_file};
use crate::vram::ShardName;

/// The quantisation taken where none is said, as Ollama and llama.cpp take it.
const DEFAULT: &str = "Q4_K_M";

/// The next best, as llama.cpp has it.
const NEXT: &str = "Q4_0";

/// Projectors: the usual precision first.
const PROJECTORS: [&str; 4] = ["F16", "BF16", "Q8_0", "F32"];

/// An entry as the tree call lists it.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type", default)]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    #[serde(default)]
    oid: String,
    #[serde(default)]
    size: u64,
}

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RepositoryFile {
    /// Its path.
    pub path: String,
    /// Bytes.
    pub bytes: u64,
    /// Digest of its content (`sha256:…`), for large files.
    pub digest: Option<String>,
}

/// A model in a repository: one file, or several that belong together, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    /// Its files; at least one.
    pub files: Vec<RepositoryFile>,
    /// Quantisation as the name tells it.
    pub quantization: Option<String>,
}

/// What a repository has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Tree {
    /// Whole models.
    pub groups: Vec<Group>,
    /// Projectors.
    pub projectors: Vec<RepositoryFile>,
    /// Split models of which files are missing, by their first file's name.
    pub incomplete: Vec<String>,
    /// Bytes of safetensors files.
    pub safetensors_bytes: u64,
}

impl Group {
    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.files
            .iter()
            .fold(0, |sum, file| sum.saturating_add(file.bytes))
    }

    /// Path of the first file.
    pub(super) fn path(&self) -> &str {
        self.files.first().map_or("", |file| &file.path)
    }

    /// What identifies the content of all files together; `None` when some file has no digest.
    pub(super) fn key(&self) -> Option<String> {
        let digests: Option<Vec<&str>> = (self.files.iter())
            .map(|file| file.digest.as_deref())
            .collect();
        digests.map(|digests| digests.join("+"))
    }

    pub(super) fn variant(&self) -> Variant {
        Variant {
            quantization: self.quantization.clone(),
            file: self.path().to_owned(),
            files: u32::try_from(self.files.len()).unwrap_or(u32::MAX),
            bytes: self.bytes(),
        }
    }

    /// Whether the quantisation is this one; the "dynamic" ones (`UD-`) answer to the plain name too.
    fn is(&self, wanted: &str) -> bool {
        let plain = |name: &str| name.to_uppercase().trim_start_matches("UD-").to_owned();
        let own = self.quantization.as_deref().unwrap_or_default();
        own.eq_ignore_ascii_case(wanted)
            || (!wanted.to_uppercase().starts_with("UD-") && plain(own) == plain(wanted))
    }
}

/// One page of a listing; `None` when it is none.
pub(super) fn page(text: &[u8]) -> Option<Vec<RepositoryFile>> {
    let entries: Vec<Entry> = serde_json::from_slice(text).ok()?;
    let files = entries
        .into_iter()
        .filter(|entry| entry.kind == "file")
        .map(|entry| {
            let lfs = entry.lfs;
            RepositoryFile {
                bytes: lfs.as_ref().map_or(0, |lfs| lfs.size).max(entry.size),
                digest: lfs
                    .map(|lfs| format!("sha256:{}", lfs.oid))
                    .filter(|digest| manifest::is_digest(digest)),
                path: entry.path,
            }
        });
    Some(files.collect())
}

impl Tree {
    /// Sorts the files of a repository by what they are.
    pub(super) fn new(files: Vec<RepositoryFile>) -> Self {
        let mut tree = Self::default();
        let mut split: BTreeMap<String, Vec<(u32, u32, RepositoryFile)>> = BTreeMap::new();
        for file in files {
            if file.path.to_ascii_lowercase().ends_with(".safetensors") {
                tree.safetensors_bytes = tree.safetensors_bytes.saturating_add(file.bytes);
            }
            if !is_file(&file.path) || files::is_no_model(&file.path) {
                continue;
            }
            if files::is_projector(&file.path) {
                tree.projectors.push(file);
            } else if let Some(shard) = ShardName::parse(&file.path) {
                let group = split.entry(shard.first()).or_default();
                group.push((shard.number, shard.count, file));
            } else {
                tree.groups.push(Group {
                    quantization: files::quantization(&file.path),
                    files: vec![file],
                });
            }
        }
        for (first, mut shards) in split {
            shards.sort_by_key(|(number, ..)| *number);
            let whole = (1..)
                .zip(&shards)
                .all(|(expected, (number, ..))| expected == *number)
                && (shards.last()).is_some_and(|(number, count, _)| number == count);
            if whole {
                tree.groups.push(Group {
                    quantization: files::quantization(&first),
                    files: shards.into_iter().map(|(.., file)| file).collect(),
                });
            } else {
                tree.incomplete.push(first);
            }
        }
        tree.groups
            .sort_by(|a, b| (a.bytes(), a.path()).cmp(&(b.bytes(), b.path())));
        tree
    }

    /// The model that is meant. `quant` is the wish of somebody who named no file.
    pub(super) fn pick(&self, pick: &Pick, quant: Option<&str>) -> Option<&Group> {
        match (pick, quant) {
            (Pick::File(path), _) => self.file(path),
            (Pick::Quant(wanted), _) => self.quantized(wanted),
            (Pick::Default, Some(wanted)) => self.quantized(wanted),
            (Pick::Default, None) => (self.quantized(DEFAULT))
                .or_else(|| self.quantized(NEXT))
                .or(self.groups.first()),
        }
    }

    /// Whether a model is what everybody takes where nothing is said.
    pub(super) fn is_default(group: &Group) -> bool {
        group.is(DEFAULT)
    }

    /// Models of that quantisation; more than one where a repository holds several models.
    pub(super) fn of_quantization<'a>(
        &'a self,
        wanted: &'a str,
    ) -> impl Iterator<Item = &'a Group> {
        self.groups.iter().filter(move |group| group.is(wanted))
    }

    fn quantized(&self, wanted: &str) -> Option<&Group> {
        let exact = self.groups.iter().find(|group| {
            let own = group.quantization.as_deref();
            own.is_some_and(|own| own.eq_ignore_ascii_case(wanted))
        });
        // `latest` is Ollama's word for no choice.
        if exact.is_none() && wanted.eq_ignore_ascii_case("latest") {
            return self.pick(&Pick::Default, None);
        }
        exact.or_else(|| self.groups.iter().find(|group| group.is(wanted)))
    }

    fn file(&self, path: &str) -> Option<&Group> {
        let holds = |group: &&Group| group.files.iter().any(|file| file.path == path);
        let named =
            |group: &&Group| (group.files.iter()).any(|file| file.path.eq_ignore_ascii_case(path));
        (self.groups.iter().find(holds)).or_else(|| self.groups.iter().find(named))
    }

    /// The projector that goes with a model: in its directory before others, the usual precision first.
    pub(super) fn projector(&self, group: &Group) -> Option<&RepositoryFile> {
        let directory = |path: &str| path.rsplit_once('/').map_or("", |(at, _)| at).to_owned();
        let home = directory(group.path());
        self.projectors.iter().min_by_key(|file| {
            let precision = files::quantization(&file.path).unwrap_or_default();
            let rank = PROJECTORS.iter().position(|known| *known == precision);
            (
                directory(&file.path) != home,
                rank.unwrap_or(PROJECTORS.len()),
                file.path.clone(),
            )
        })
    }

    /// What to choose from: quantisations, else files.
    pub(super) fn choices(&self) -> Vec<String> {
        let mut names: Vec<String> = (self.groups.iter())
            .map(|group| {
                let name = group.quantization.clone();
                name.unwrap_or_else(|| group.path().to_owned())
            })
            .collect();
        names.dedup();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, bytes: u64) -> RepositoryFile {
        RepositoryFile {
            path: path.to_owned(),
            bytes,
            digest: None,
        }
    }

    fn tree(paths: &[(&str, u64)]) -> Tree {
        Tree::new(
            paths
                .iter()
                .map(|(path, bytes)| file(path, *bytes))
                .collect(),
        )
    }

    fn usual() -> Tree {
        tree(&[
            ("README.md", 1),
            ("m-Q8_0.gguf", 80),
            ("m-Q4_K_M.gguf", 45),
            ("m-UD-Q4_K_XL.gguf", 46),
            ("m-imatrix.gguf", 2),
            ("mmproj-F32.gguf", 9),
            ("mmproj-F16.gguf", 5),
            ("BF16/m-BF16-00002-of-00002.gguf", 70),
            ("BF16/m-BF16-00001-of-00002.gguf", 90),
            ("x-Q2_K-00001-of-00002.gguf", 7),
        ])
    }

    fn picked(tree: &Tree, pick: &Pick) -> Option<String> {
        tree.pick(pick, None).map(|group| group.path().to_owned())
    }

    #[test]
    fn groups_what_belongs_together() {
        let tree = usual();
        assert_eq!(tree.choices(), ["Q4_K_M", "UD-Q4_K_XL", "Q8_0", "BF16"]);
        let split = tree.groups.last().expect("groups");
        assert_eq!((split.bytes(), split.files.len()), (160, 2));
        assert_eq!(split.path(), "BF16/m-BF16-00001-of-00002.gguf");
        assert_eq!(tree.incomplete, ["x-Q2_K-00001-of-00002.gguf"]);
        assert_eq!(
            tree.projector(split).map(|file| file.bytes),
            Some(5),
            "F16 before F32"
        );
    }

    #[test]
    fn picks_what_was_said_in_any_case() {
        let tree = usual();
        let quant = |name: &str| picked(&tree, &Pick::Quant(name.to_owned()));
        assert_eq!(quant("q8_0").as_deref(), Some("m-Q8_0.gguf"));
        assert_eq!(quant("q4_k_xl").as_deref(), Some("m-UD-Q4_K_XL.gguf"));
        assert_eq!(quant("latest").as_deref(), Some("m-Q4_K_M.gguf"));
        assert_eq!(quant("Q4_K"), None, "never a part of a name");
        assert_eq!(quant("Q2_K"), None, "not whole");
        let path = "BF16/m-BF16-00002-of-00002.gguf".to_owned();
        assert_eq!(
            picked(&tree, &Pick::File(path)).as_deref(),
            Some("BF16/m-BF16-00001-of-00002.gguf"),
            "any shard names the whole"
        );
        assert_eq!(
            picked(&tree, &Pick::File("mmproj-F16.gguf".to_owned())),
            None
        );
    }

    #[test]
    fn the_default_is_what_others_take() {
        assert_eq!(
            picked(&usual(), &Pick::Default).as_deref(),
            Some("m-Q4_K_M.gguf")
        );
        let without = tree(&[
            ("m-Q8_0.gguf", 80),
            ("m-q4_0.gguf", 40),
            ("m-Q2_K.gguf", 20),
        ]);
        assert_eq!(
            picked(&without, &Pick::Default).as_deref(),
            Some("m-q4_0.gguf")
        );
        let odd = tree(&[("m-Q8_0.gguf", 80), ("m-Q3_K_S.gguf", 30)]);
        assert_eq!(
            picked(&odd, &Pick::Default).as_deref(),
            Some("m-Q3_K_S.gguf")
        );
        assert_eq!(
            picked(&tree(&[("model.safetensors", 9)]), &Pick::Default),
            None
        );
    }

    #[test]
    fn a_page_tells_sizes_and_digests() {
        let oid = "a".repeat(64);
        let text = format!(
            r#"[{{"type":"directory","path":"d","size":0}},{{"type":"file","path":"m.gguf","size":9,"oid":"x","lfs":{{"oid":"{oid}","size":9,"pointerSize":1}}}},{{"type":"file","path":"small.gguf","size":3}}]"#
        );
        let files = page(text.as_bytes()).expect("a page");
        assert_eq!(files.len(), 2);
        assert_eq!(files[0].digest, Some(format!("sha256:{oid}")));
        assert_eq!(files[1].digest, None);
        assert_eq!(page(b"{\"error\":\"x\"}"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_listing_is_sorted_without_a_panic(paths in proptest::collection::vec("[a-cQ0-9_/-]{0,12}(-0000[0-3]-of-0000[0-3])?(\\.gguf)?", 0..12)) {
            let tree = Tree::new(paths.iter().map(|path| file(path, 1)).collect());
            let _ = tree.pick(&Pick::Default, None).map(|group| tree.projector(group));
        }
    }
}
