//! `estimate --verify` beside what a real llama-server says that it allocated, on the CPU and on the software GPU, and beside an installed
//! llama-fit-params. The models have shapes of several architectures and no data.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use common::fleet::{LlamaLog, fit_params_directory};
use common::{Scratch, command, json};

/// A model file of that architecture; sparse, so that it takes no room.
fn model(scratch: &Scratch, architecture: &str) -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/make_arch_gguf.py");
    let status = Command::new("python3")
        .arg(script)
        .arg(scratch.path())
        .arg(architecture)
        .status()
        .expect("python3, to write a model");
    assert!(
        status.success(),
        "make_arch_gguf.py {architecture}: {status}"
    );
    scratch.path().join(format!("{architecture}.gguf"))
}

/// Verifies and returns the document. The estimate holds, and weights and caches are equal but for the hundredths of a MiB that logs have.
fn verified(scratch: &Scratch, model: &Path, flags: &[&str], path: Option<&Path>) -> Value {
    let mut gpurouter = command(scratch);
    gpurouter
        .args(["estimate", "--offline", "--json"])
        .arg(model)
        .args(flags);
    gpurouter.args(["--node", "http://127.0.0.1:9"]);
    if let Some(directory) = path {
        gpurouter.env("PATH", directory);
    }
    let output = gpurouter.output().expect("the binary that cargo built");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.stdout.is_empty(), "{text}");
    let document = json(&output.stdout);
    let verification = &document["verification"];
    assert_eq!(verification["holds"], true, "{verification}");
    assert_eq!(output.status.code(), Some(0), "{text}");
    document
}

fn exact_parts(document: &Value, tolerance: u64) {
    let parts = document["verification"]["parts"].as_array().expect("parts");
    for part in parts
        .iter()
        .filter(|part| part["part"] == "weights" || part["part"] == "KV and state")
    {
        let number = |key: &str| part[key].as_u64().expect("bytes");
        let off = number("predicted_bytes").abs_diff(number("actual_bytes"));
        assert!(off <= tolerance, "{part}");
    }
}

/// Two lines of two decimals each (full and windowed layers) are off by a hundredth of a MiB at most, small mapped tensors by pages.
const HUNDREDTH: u64 = 2 * 11_000;

fn against_logs(gpu: bool, cases: &[(&str, &[&str])], test: &str) {
    for (architecture, args) in cases {
        let scratch = Scratch::new();
        let file = model(&scratch, architecture);
        let Some(log) = LlamaLog::of(test, gpu, &file, args) else {
            return;
        };
        let path = scratch.path().join("server.log");
        fs::write(&path, log.text()).expect("a scratch file");
        let flag = format!("--verify={}", path.display());
        let document = verified(&scratch, &file, &[&flag], None);
        exact_parts(&document, HUNDREDTH);
        let parts = document["verification"]["parts"].to_string();
        assert_eq!(parts.contains("Vulkan0"), gpu, "{architecture}: {parts}");
    }
}

#[test]
fn a_llama_server_on_the_cpu_takes_what_was_estimated() {
    let cases: &[(&str, &[&str])] = &[
        ("llama", &["-c", "4096"]),
        ("gemma3", &["-c", "8192", "-np", "2"]),
        ("lfm2moe", &["-c", "2048", "-ub", "256"]),
    ];
    against_logs(
        false,
        cases,
        "a_llama_server_on_the_cpu_takes_what_was_estimated",
    );
}

/// No tensor over 128 MiB: the software GPU binds no larger one, and llama.cpp then keeps it in RAM.
#[test]
fn a_llama_server_on_the_software_gpu_takes_what_was_estimated() {
    let cases: &[(&str, &[&str])] = &[
        ("llama", &["-c", "4096"]),
        ("gemma3", &["-c", "8192", "-ngl", "6"]),
        (
            "qwen3",
            &["-c", "2048", "-ctk", "q8_0", "-ctv", "q8_0", "-fa", "on"],
        ),
    ];
    against_logs(
        true,
        cases,
        "a_llama_server_on_the_software_gpu_takes_what_was_estimated",
    );
}

#[test]
fn an_installed_llama_fit_params_agrees() {
    let Some(directory) = fit_params_directory("an_installed_llama_fit_params_agrees") else {
        return;
    };
    let scratch = Scratch::new();
    for (architecture, flags) in [
        ("llama", &["--verify", "--ctx", "8192"][..]),
        (
            "cohere2",
            &["--verify", "--ctx", "16384", "--ubatch", "256"],
        ),
    ] {
        let file = model(&scratch, architecture);
        let document = verified(&scratch, &file, flags, Some(&directory));
        // Whole MiB.
        exact_parts(&document, 1 << 20);
        assert_eq!(document["verification"]["against"], "llama-fit-params");
    }
}
