//! A driver of ours: `tests/tools/fake_nvml.c`, compiled by the test that needs it.

use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

/// Compiles the stand-in for NVML into `library`, with these flags; `false`, told by name, where there is no C compiler.
pub fn compile(test: &str, flags: &[&str], library: &Path) -> bool {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/fake_nvml.c");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(library)
        .args(flags)
        .arg(source)
        .status();
    match compiled {
        Ok(status) => {
            assert!(status.success(), "tests/tools/fake_nvml.c does not compile");
            true
        }
        Err(error) => {
            // Past libtest's capture, in one write.
            let line = format!("skipped: {test}: no C compiler (cc: {error})\n");
            io::stderr().write_all(line.as_bytes()).expect("stderr");
            false
        }
    }
}
