//! The file of a receipt.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use crate::measure::{Header, Recorder};
use crate::render::Told;

/// Begins a receipt in a new file. What was measured once is never written over.
pub(super) fn start(file: &Path, header: &Header) -> anyhow::Result<Recorder<File>> {
    let told = |error: &io::Error| {
        let told = Told::usage(format!("cannot write `{}`: {error}", file.display()));
        if error.kind() == io::ErrorKind::AlreadyExists {
            told.hint("a receipt is never written over: name another file")
        } else {
            told
        }
    };
    let out = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(file)
        .map_err(|error| told(&error))?;
    Ok(Recorder::start(out, header).map_err(|error| told(&error))?)
}
