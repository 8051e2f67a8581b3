//! The GPUs of a machine, as the real binary finds them: through a stand-in for NVML that the test compiles, below a made-up sysfs, and
//! in a fixed inventory.
#![allow(
    clippy::print_stderr,
    reason = "what a test has to say goes to the test runner's stderr"
)]

#[path = "../common/mod.rs"]
mod common;

mod fixed;
mod probe;
mod serving;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use common::{Router, Scratch, command, json, nvml};

/// Two cards in the wrong order: NVML may tell them in any.
const TWO: &str = "\
name=NVIDIA GeForce RTX 3060; total=12288; used=6000; reserved=200; gpu=99; temp=80; power=165; cc=8.6; cores=3584; bus=192; clock=7501; pci=65; uuid=GPU-b
name=NVIDIA GeForce RTX 3090; total=24576; used=1024; reserved=512; gpu=7; temp=41; power=32.5; energy=1234567; cc=8.6; cores=10496; bus=384; clock=9751; pci=1; uuid=GPU-a
";

/// A machine with a driver of ours.
struct Machine {
    scratch: Scratch,
    library: PathBuf,
}

impl Machine {
    /// Compiles the stand-in, with these flags; `None`, told by name, where there is no C compiler.
    fn new(test: &str, flags: &[&str]) -> Option<Self> {
        let scratch = Scratch::new();
        let library = scratch.path().join("fake.so");
        if !nvml::compile(test, flags, &library) {
            return None;
        }
        let machine = Self { scratch, library };
        machine.driver(TWO);
        Some(machine)
    }

    /// What the driver says from now on.
    fn driver(&self, text: &str) {
        // Replaced whole: the driver may be reading it.
        let next = self.scratch.write("next", text);
        fs::rename(next, self.scratch.path().join("gpus.txt")).expect("a writable directory");
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let path = |path: PathBuf| path.into_os_string().into_string().expect("UTF-8");
        vec![
            ("GPUROUTER_NVML_LIB", path(self.library.clone())),
            ("FAKE_NVML", path(self.scratch.path().join("gpus.txt"))),
            (
                "FAKE_NVML_SHUTDOWN",
                path(self.scratch.path().join("shutdown")),
            ),
            (
                "GPUROUTER_SYSFS_ROOT",
                path(self.scratch.path().join("sys")),
            ),
        ]
    }

    /// `gpurouter status --json`, asking this machine itself.
    fn status(&self) -> Value {
        status(&self.environment(), &[])
    }

    /// `gpurouter serve` on this machine.
    fn serve(&self, args: &[&str]) -> Router {
        self.serve_with(args, "")
    }

    /// The same, with a configuration.
    fn serve_with(&self, args: &[&str], config: &str) -> Router {
        let environment = self.environment();
        let environment: Vec<(&str, &str)> = environment
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        Router::start_in(&environment, args, config)
    }

    /// A file below its sysfs.
    fn sysfs(&self, name: &str, content: &str) {
        let path = self.scratch.path().join("sys").join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a writable directory");
        fs::write(path, content).expect("a writable directory");
    }
}

/// `gpurouter status --json` without a router or a node, in that environment; 3 says that no node is up.
fn status(environment: &[(&str, String)], args: &[&str]) -> Value {
    let scratch = Scratch::new();
    let output = command(&scratch)
        .envs(environment.iter().map(|(name, value)| (*name, value)))
        // No node: the one that is named is nobody's.
        .args(["status", "--json", "--node", "http://127.0.0.1:9"])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("the binary that cargo built");
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    let document = json(&output.stdout);
    holds("status", &document);
    document
}

/// Fails with every violation of a committed schema.
fn holds(name: &str, document: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/schemas/{name}.json"));
    let schema = json(&fs::read(path).expect("a committed schema"));
    let validator = jsonschema::draft202012::new(&schema).expect("a schema");
    let errors: Vec<String> = validator
        .iter_errors(document)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{name}: {errors:#?} in {document}");
}

/// The state of a source.
fn state<'d>(document: &'d Value, source: &str) -> &'d str {
    let sources = document["gpu_sources"].as_array().expect("sources");
    let found = sources.iter().find(|status| status["source"] == source);
    found
        .and_then(|status| status["state"].as_str())
        .unwrap_or_else(|| panic!("no {source} in {document}"))
}

/// The warning with that code.
fn warning<'d>(document: &'d Value, code: &str) -> &'d Value {
    let warnings = document["warnings"].as_array().expect("warnings");
    warnings
        .iter()
        .find(|warning| warning["code"] == code)
        .unwrap_or_else(|| panic!("no {code} in {document}"))
}

/// The codes of warnings about GPUs.
fn codes(document: &Value) -> Vec<&str> {
    let warnings = document["warnings"].as_array().expect("warnings");
    warnings
        .iter()
        .filter_map(|warning| warning["code"].as_str())
        .filter(|code| code.starts_with("gpu_"))
        .collect()
}
