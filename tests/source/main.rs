//! From MODEL to a header: files, stores, nodes, and loopback registries that behave and misbehave as real ones do.

#[path = "../common/mod.rs"]
mod common;

mod hub;
mod local;
mod nodes;
mod registry;
mod transport;

use std::path::Path;
use std::time::Duration;

use gpurouter::source::{Finder, Found, Limits, Places, SourceError, Spec, find};

use common::Scratch;

/// Short enough for a test, long enough for a busy machine.
const LIMITS: Limits = Limits {
    connect: Duration::from_secs(5),
    idle: Duration::from_millis(700),
    total: Duration::from_secs(60),
    search: Duration::from_secs(120),
    patience: Duration::from_secs(2),
};

/// Places of a user who has nothing: every directory is inside of the scratch one.
fn places(scratch: &Scratch) -> Places {
    Places {
        home: Some(scratch.path().to_owned()),
        ollama_models: vec![scratch.path().join("models")],
        cache: Some(scratch.path().join("cache")),
        ..Places::default()
    }
}

/// A finder that asks this registry and no other.
fn finder<'a>(places: &'a Places, url: &'a str) -> Finder<'a> {
    Finder {
        ollama_registry: url,
        huggingface: url,
        limits: LIMITS,
        ..Finder::new(places)
    }
}

fn look(model: &str, finder: &Finder<'_>) -> Result<Found, SourceError> {
    let spec = Spec::parse(model).unwrap_or_else(|error| panic!("{model}: {error}"));
    find(&spec, finder)
}

fn found(model: &str, finder: &Finder<'_>) -> Found {
    look(model, finder).unwrap_or_else(|error| panic!("{model}: {error}"))
}

fn failed(model: &str, finder: &Finder<'_>) -> (String, String) {
    let error = look(model, finder).expect_err("an error");
    (error.to_string(), error.hint().unwrap_or_default())
}

fn write(path: &Path, bytes: &[u8], size: u64) {
    std::fs::create_dir_all(path.parent().expect("a directory")).expect("a scratch directory");
    std::fs::write(path, bytes).expect("a scratch file");
    let file = std::fs::File::options()
        .write(true)
        .open(path)
        .expect("the file");
    file.set_len(size.max(bytes.len() as u64))
        .expect("a sparse file");
}
