//! `optimize` and the cycle inside `serve` in front of real Ollamas, one of which has its models on a (software) GPU.

#![allow(
    clippy::print_stderr,
    reason = "measured values go to the test runner's stderr"
)]

mod common;

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use common::fleet::{self, Server};
use common::{RefusedPort, Router, Scratch, client, command, eventually, json};

/// The longest wait for a load on a software GPU of a busy machine.
const LOADED: Duration = Duration::from_secs(120);
const WANTED: &str = "priority_models = [\"tiny\", \"tiny-embed\"]\n";

/// What a node has in memory: name, percent on the GPU, whether it stays.
fn holds(server: &Server) -> Vec<(String, u64, bool)> {
    let Some(answer) = client::try_get(server.addr, "/api/ps") else {
        return Vec::new();
    };
    let ps: Value = answer.json();
    let mut models: Vec<_> = ps["models"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|model| {
            let of = |key: &str| model[key].as_u64().unwrap_or(0);
            (
                model["name"].as_str().unwrap().to_owned(),
                of("size_vram") * 100 / of("size").max(1),
                model["expires_at"].as_str().unwrap() > "2200",
            )
        })
        .collect();
    models.sort();
    models
}

fn on_gpu() -> Vec<(String, u64, bool)> {
    ["tiny-embed:latest", "tiny:latest"]
        .map(|name| (name.to_owned(), 100, true))
        .to_vec()
}

/// The GPU of the first is what the configuration says; that of the second is none, because this machine has none that a driver tells of.
fn config(gpu: &Server, cpu: &Server) -> String {
    format!(
        "{WANTED}[[node]]\nname = \"cpu\"\nurl = \"{}\"\n[[node]]\nname = \"gpu\"\nurl = \"{}\"\nvram = \"8GiB\"\n",
        cpu.url(),
        gpu.url()
    )
}

fn optimize(config: &str, arguments: &[&str]) -> (i32, Value) {
    let port = RefusedPort::new();
    let scratch = Scratch::new();
    scratch.write(
        "gpurouter.toml",
        &format!("listen = \"{}\"\n{config}", port.addr),
    );
    let output = command(&scratch)
        .args(["optimize", "--json"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the binary that cargo built");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.stdout.is_empty(), "{text}");
    (output.status.code().unwrap_or(-1), json(&output.stdout))
}

fn steps(document: &Value) -> Vec<String> {
    let changes = document["changes"].as_array().expect("changes");
    changes
        .iter()
        .map(|change| {
            let text = |key: &str| change[key].as_str().unwrap();
            format!("{} {} {}", text("action"), text("node"), text("model"))
        })
        .collect()
}

/// E13, E14, E27 with real ones: the models come to the GPU, stay there without a further call, and return after a restart.
#[test]
fn e13_priority_models_are_on_the_gpu_and_return_after_a_restart() {
    let test = "e13_priority_models_are_on_the_gpu_and_return_after_a_restart";
    let Some([mut gpu, cpu]) = fleet::gpu_and_cpu(test) else {
        return;
    };
    let config = config(&gpu, &cpu);
    let loads = ["load gpu tiny:latest", "load gpu tiny-embed:latest"];
    let (code, plan) = optimize(&config, &[]);
    assert_eq!(
        (code, steps(&plan)),
        (1, loads.map(str::to_owned).to_vec()),
        "{plan}"
    );
    assert_eq!(holds(&gpu), []);
    let (code, applied) = optimize(&config, &["--apply"]);
    assert_eq!(code, 0, "{applied}");
    assert_eq!(holds(&gpu), on_gpu());
    let planned: Vec<u64> = applied["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| change["bytes"].as_u64().unwrap())
        .collect();
    let real: Vec<u64> = applied["nodes"][1]["loaded"]
        .as_array()
        .unwrap()
        .iter()
        .map(|loaded| loaded["vram_bytes"].as_u64().unwrap())
        .collect();
    eprintln!("planned {planned:?} bytes (with the runtime), held {real:?}");
    let (code, again) = optimize(&config, &["--apply"]);
    assert_eq!((code, steps(&again)), (0, Vec::new()), "{again}");
    gpu.kill();
    gpu.restart_ollama();
    assert_eq!(holds(&gpu), []);
    let (code, back) = optimize(&config, &["--apply"]);
    assert_eq!((code, steps(&back).len()), (0, 2), "{back}");
    assert_eq!(holds(&gpu), on_gpu());
    assert_eq!(holds(&cpu), [], "a node without a GPU is left alone");
}

/// A model that a client loaded with a context of its own is pinned with that context, without being loaded anew.
#[test]
fn a_pin_does_not_load_anew() {
    let Some([gpu, cpu]) = fleet::gpu_and_cpu("a_pin_does_not_load_anew") else {
        return;
    };
    let request =
        serde_json::json!({"model": "tiny", "options": {"num_ctx": 2048}, "stream": false});
    let mut connection = client::Connection::open(gpu.addr).expect("a listening address");
    connection.write(&client::post_bytes(
        gpu.addr,
        "/api/generate",
        &request.to_string(),
    ));
    assert_eq!(connection.read(false, LOADED).status, 200);
    let (code, applied) = optimize(&config(&gpu, &cpu), &["--apply"]);
    assert_eq!(code, 0, "{applied}");
    assert_eq!(
        steps(&applied),
        ["pin gpu tiny:latest", "load gpu tiny-embed:latest"]
    );
    let ps: Value = client::get(gpu.addr, "/api/ps").json();
    let tiny = ps["models"]
        .as_array()
        .unwrap()
        .iter()
        .find(|model| model["name"] == "tiny:latest")
        .unwrap()
        .clone();
    assert_eq!(tiny["context_length"], 2048, "{ps}");
    assert_eq!(holds(&gpu), on_gpu());
}

/// E27 inside `serve`.
#[test]
fn e27_a_running_router_brings_models_back() {
    let Some([mut gpu, cpu]) = fleet::gpu_and_cpu("e27_a_running_router_brings_models_back") else {
        return;
    };
    let router = Router::start(&[], &config(&gpu, &cpu));
    assert!(
        eventually(LOADED, || holds(&gpu) == on_gpu()),
        "{:?}",
        holds(&gpu)
    );
    gpu.kill();
    assert!(eventually(LOADED, || router.nodes_up() == Some(1)));
    gpu.restart_ollama();
    assert!(
        eventually(LOADED, || holds(&gpu) == on_gpu()),
        "{:?}",
        holds(&gpu)
    );
    assert_eq!(holds(&cpu), []);
}
