//! What the integration tests share: the real binary as a child ([`Router`]), scripted upstreams ([`Stub`]) and a
//! raw HTTP client that keeps bytes and arrival times ([`client`]).
//!
//! Nothing here uses the code under test: heads, framing and JSON are read with plain `std` and `serde_json`, so that
//! a mistake in `src/http` cannot hide itself. Every port is 0 and every wait has a limit ([`LIMIT`]).
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test target uses another part of the harness"
)]
#![allow(
    clippy::print_stderr,
    reason = "what a test has to say goes to the test runner's stderr"
)]

pub mod client;
pub mod fleet;
pub mod gguf;
pub mod nvml;
pub mod registry;
mod router;
mod sim;
mod stub;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub use router::{Resources, Router, command};
pub use sim::Sim;
pub use stub::{Kind, Peer, RefusedPort, Request, Stub, reply};

/// The longest a test waits for anything; generous, because CI shares two cores.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Calls `probe` until it says yes; false when `limit` has passed.
pub fn eventually(limit: Duration, mut probe: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if probe() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A directory of one test, removed on drop.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes an empty directory under Cargo's directory for test files.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                panic!("{}: {error}", path.display())
            }
            _ => {}
        }
        std::fs::create_dir_all(&path).expect("a writable target directory");
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file into it and returns its path.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).expect("a writable scratch directory");
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left-overs are removed with target/; a failing removal must not hide the test's own failure.
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// The JSON document in `bytes`; panics with the text when it is none.
pub fn json(bytes: &[u8]) -> serde_json::Value {
    serde_json::from_slice(bytes).unwrap_or_else(|error| {
        panic!("no JSON ({error}): {:?}", String::from_utf8_lossy(bytes));
    })
}
