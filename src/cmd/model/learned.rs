//! What runtimes were seen to take on this machine's GPUs, kept across runs.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context;

use crate::config::Config;
use crate::vram::Learned;

/// Largest file that is read; 256 GPUs take a few kilobytes.
const LARGEST: u64 = 1 << 20;

/// Where it is kept; `None` without a home directory.
fn path(config: &Config) -> Option<PathBuf> {
    Some(config.state.as_ref()?.join("runtime.json"))
}

/// What was learned; nothing where nothing is kept.
///
/// # Errors
/// The file is there and cannot be used; it is left as it is.
pub(in crate::cmd) fn load(config: &Config) -> anyhow::Result<Learned> {
    let Some(path) = path(config) else {
        return Ok(Learned::default());
    };
    let unusable = || format!("cannot use {}; move it away to start anew", path.display());
    match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Learned::default()),
        Err(error) => return Err(error).with_context(unusable),
        Ok(file) if file.len() > LARGEST => {
            anyhow::bail!("{}: it is larger than {LARGEST} bytes", unusable());
        }
        Ok(_) => {}
    }
    let text = fs::read(&path).with_context(unusable)?;
    serde_json::from_slice(&text).with_context(unusable)
}

/// Keeps what was learned; returns where.
///
/// # Errors
/// The file cannot be written; what was kept before is still there.
pub(in crate::cmd) fn store(config: &Config, learned: &Learned) -> anyhow::Result<PathBuf> {
    let path = path(config)
        .context("there is no home directory to keep it in; set [sources] state_dir")?;
    let failed = || format!("cannot write {}", path.display());
    let directory = path.parent().with_context(failed)?;
    fs::create_dir_all(directory).with_context(failed)?;
    // Whoever reads meanwhile sees the old file or the new one.
    let draft = directory.join(format!("runtime.json.{}", std::process::id()));
    let written = fs::File::create(&draft).and_then(|mut file| {
        file.write_all(&serde_json::to_vec(learned)?)?;
        file.sync_all()
    });
    written
        .and_then(|()| fs::rename(&draft, &path))
        .with_context(failed)?;
    Ok(path)
}
