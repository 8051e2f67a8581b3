//! What was measured, kept across restarts in a small file.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cluster::ClusterSnapshot;
use crate::routing::speed::KeptModel;

/// Form of the file.
const VERSION: u32 = 1;
/// Largest file that is read.
const LARGEST: u64 = 8 << 20;
/// Nodes that are kept, and models of each: an honest file is far smaller.
const MOST_NODES: usize = 256;
const MOST_MODELS: usize = 64;

/// What is kept of all nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    version: u32,
    /// By name.
    pub nodes: BTreeMap<String, KeptNode>,
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            version: VERSION,
            nodes: BTreeMap::new(),
        }
    }
}

/// What is kept of a node.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct KeptNode {
    /// Its address: the same name elsewhere is another machine.
    pub url: String,
    /// The most GPU memory in bytes that its models were ever seen to hold together.
    #[serde(default)]
    pub vram_seen_bytes: u64,
    /// What was measured, by full model name.
    #[serde(default)]
    pub models: BTreeMap<String, KeptModel>,
}

impl Kept {
    /// The file in the directory of what is kept.
    pub fn path(directory: &Path) -> PathBuf {
        directory.join("measurements.json")
    }

    /// What the file holds; nothing where there is none.
    ///
    /// # Errors
    /// It cannot be read, is too large, is of another version, or is damaged.
    pub fn load(path: &Path) -> io::Result<Self> {
        match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error),
            Ok(file) if file.len() > LARGEST => {
                return Err(invalid(format!("it is larger than {LARGEST} bytes")));
            }
            Ok(_) => {}
        }
        let kept: Self = serde_json::from_slice(&fs::read(path)?)?;
        if kept.version != VERSION {
            let version = kept.version;
            return Err(invalid(format!(
                "it is of version {version}, and this gpurouter knows {VERSION}"
            )));
        }
        Ok(kept)
    }

    /// The most GPU memory in bytes that each of these nodes was ever seen to hold, by node.
    pub fn held(&self, snapshot: &ClusterSnapshot) -> BTreeMap<String, u64> {
        let here = |name: &str, url: &str| snapshot.node(name).is_some_and(|node| node.url == url);
        let nodes = self.nodes.iter();
        nodes
            .filter(|(name, node)| node.vram_seen_bytes > 0 && here(name, &node.url))
            .map(|(name, node)| (name.clone(), node.vram_seen_bytes))
            .collect()
    }

    /// The same from the file in the directory of what is kept. A router warns of a file that it cannot use; here it only means that nothing was
    /// seen.
    pub fn seen(directory: Option<&Path>, snapshot: &ClusterSnapshot) -> BTreeMap<String, u64> {
        let path = directory.map(Self::path);
        let kept = path.and_then(|path| Self::load(&path).ok());
        kept.unwrap_or_default().held(snapshot)
    }

    /// Moves an unusable file out of the way; returns where it is now.
    ///
    /// # Errors
    /// It cannot be renamed.
    pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
        let aside = path.with_extension("json.unusable");
        fs::rename(path, &aside)?;
        Ok(aside)
    }

    /// Writes the file; whoever reads meanwhile sees the old one or the new one.
    ///
    /// # Errors
    /// It cannot be written; the old one is still there.
    pub fn store(&self, path: &Path) -> io::Result<()> {
        let directory = path.parent().unwrap_or_else(|| Path::new("."));
        fs::create_dir_all(directory)?;
        let draft = path.with_extension(format!("json.{}", std::process::id()));
        let written = File::create(&draft).and_then(|mut file| {
            file.write_all(&serde_json::to_vec(self)?)?;
            file.sync_all()
        });
        let stored = written.and_then(|()| fs::rename(&draft, path));
        if stored.is_err() {
            // The draft is of no use, and there may be none.
            let _ = fs::remove_file(&draft);
        }
        stored
    }

    /// Leaves out what is beyond the limits.
    pub(super) fn bounded(mut self) -> Self {
        while self.nodes.len() > MOST_NODES {
            self.nodes.pop_last();
        }
        for node in self.nodes.values_mut() {
            while node.models.len() > MOST_MODELS {
                // The one that was measured least.
                let least = node.models.iter().min_by_key(|(_, model)| model.samples);
                let Some(name) = least.map(|(name, _)| name.clone()) else {
                    break;
                };
                node.models.remove(&name);
            }
        }
        self
    }
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}
