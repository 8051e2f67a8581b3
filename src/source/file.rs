//! A GGUF file on this machine, with all its shards.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::error::{FileTrouble, SourceError};
use crate::vram::{self, GgufError, Header, ShardName};

/// What a local file says.
pub(super) struct LocalFile {
    /// Its header; of all shards together.
    pub header: Header,
    /// Bytes of all its files.
    pub bytes: u64,
}

/// Reads the header of a file; of all files of a split model, whichever of them is named.
pub(super) fn read(path: &Path) -> Result<LocalFile, SourceError> {
    let name = path.file_name().and_then(|name| name.to_str());
    let Some(shard) = name.and_then(ShardName::parse) else {
        let file = read_one(path)?;
        // A blob has a digest for a name; that it is one of several its header tells.
        return whole(path, vec![file.header]).map(|header| LocalFile { header, ..file });
    };
    let mut headers = Vec::new();
    let mut bytes = 0_u64;
    for name in shard.all() {
        let file = read_one(&path.with_file_name(name))?;
        bytes = bytes.saturating_add(file.bytes);
        headers.push(file.header);
    }
    let header = whole(path, headers)?;
    Ok(LocalFile { header, bytes })
}

fn whole(path: &Path, headers: Vec<Header>) -> Result<Header, SourceError> {
    vram::merge(headers).map_err(|error| failed(path, FileTrouble::Shards(error)))
}

/// Reads the header of this one file.
pub(super) fn read_one(path: &Path) -> Result<LocalFile, SourceError> {
    let io = |error| failed(path, FileTrouble::Io(error));
    // Looked at before it is opened: opening a pipe would wait for a writer.
    let about = std::fs::metadata(path).map_err(io)?;
    if !about.is_file() {
        return Err(failed(path, FileTrouble::NotAFile));
    }
    let mut file = File::open(path).map_err(io)?;
    let header = vram::read(&mut file).map_err(|error| {
        failed(
            path,
            match error {
                GgufError::Io(error) => FileTrouble::Io(error),
                error => FileTrouble::Header(error),
            },
        )
    })?;
    Ok(LocalFile {
        header,
        bytes: about.len(),
    })
}

fn failed(path: &Path, trouble: FileTrouble) -> SourceError {
    SourceError::File {
        path: PathBuf::from(path),
        trouble,
    }
}
