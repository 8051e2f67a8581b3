//! `--gpus`: sizes or a file instead of a look.

use std::path::Path;

use serde_json::{Value, json};

use super::common::{LIMIT, Router, Stub, reply};
use super::common::{Scratch, client, command, eventually};
use super::{codes, holds, state, status, warning};

const QUICKSTART: &str = "tests/data/gpu/quickstart.json";

fn data(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    path.into_os_string().into_string().unwrap()
}

#[test]
fn sizes_are_gpus() {
    let document = status(&[], &["--gpus", "24GiB,8GiB"]);
    assert_eq!(state(&document, "fixed"), "ok");
    let totals: Vec<&Value> = document["gpus"]
        .as_array()
        .unwrap()
        .iter()
        .map(|gpu| &gpu["total_bytes"])
        .collect();
    assert_eq!(totals, [&json!(24_u64 << 30), &json!(8_u64 << 30)]);
    assert_eq!(document["gpus"][0]["used_bytes"], Value::Null);
}

#[test]
fn what_status_tells_is_an_inventory() {
    let told = status(&[], &["--gpus", &data(QUICKSTART)]);
    let scratch = Scratch::new();
    let file = scratch.write("gpus.json", &told["gpus"].to_string());
    let again = status(&[], &["--gpus", file.to_str().unwrap()]);
    assert_eq!(told["gpus"], again["gpus"]);
}

#[test]
fn what_cannot_be_is_refused_with_the_name_of_the_field() {
    let scratch = Scratch::new();
    for (text, field, hint) in [
        ("[]", "the list of GPUs is empty", "leave --gpus away"),
        (
            "[{\"total_bytes\": -1}]",
            "GPU 0: `total_bytes`: is negative",
            "",
        ),
        (
            "[{\"total_bytes\": 1, \"utilization\": 101}]",
            "GPU 0: `utilization`: 101 is more than 100",
            "",
        ),
        (
            "[{\"total_bytes\": 1, \"used_bytes\": 2}]",
            "GPU 0: `used_bytes`: more than",
            "",
        ),
        (
            "[{\"total_bytes\": 1, \"usedbytes\": 1}]",
            "GPU 0: `usedbytes`: no such field",
            "did you mean `used_bytes`?",
        ),
        (
            "[{\"total_bytes\": 1, \"uuid\": \"a\"}, {\"total_bytes\": 1, \"uuid\": \"a\"}]",
            "GPU 1: `uuid`: another",
            "",
        ),
        ("[{", "cannot read", "--gpus 24GiB,8GiB"),
    ] {
        scratch.write("gpus.json", text);
        for command_ in [vec!["status"], vec!["serve", "--listen", "127.0.0.1:0"]] {
            let output = command(&scratch)
                .args(command_)
                .args(["--gpus", "gpus.json"])
                .output()
                .unwrap();
            let told = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{text}: {told}");
            assert!(
                told.starts_with("error: ") && told.contains(field),
                "{told}"
            );
            assert!(hint.is_empty() || told.contains("\nhint: "), "{told}");
            assert!(told.contains(hint), "{told}");
        }
    }
}

/// An Ollama that holds one model of that many bytes, all on the GPU.
fn ollama(model: &str, bytes: u64) -> Stub {
    let stub = Stub::ollama(&[model], reply::healthy);
    let loaded = json!({"name": model, "model": model, "size": bytes, "size_vram": bytes});
    stub.set_document("/api/ps", json!({"models": [loaded]}));
    stub
}

#[test]
fn the_health_sample_of_the_source_documents() {
    let stub = ollama("microsoft/Phi-3-mini-4k-instruct", 2_469_606_195);
    let config = format!(
        "[[node]]\nname = \"server_0\"\nurl = \"{}\"\ngpu = \"RTX 4080\"\n",
        stub.url()
    );
    let router = Router::start(&["--gpus", &data(QUICKSTART)], &config);
    let loaded = eventually(LIMIT, || {
        router.api("/health")["servers"][0]["model_id"].is_string()
    });
    let health = router.api("/health");
    assert!(loaded, "{health}");
    holds("health", &health);
    let golden = std::fs::read(data("tests/data/gpu/quickstart_health.json")).unwrap();
    assert_eq!(health["gpu_pool_status"], super::json(&golden));
    let port = stub
        .url()
        .rsplit(':')
        .next()
        .unwrap()
        .parse::<u16>()
        .unwrap();
    assert_eq!(
        health["servers"],
        json!([{
            "id": "server_0", "host": "127.0.0.1", "port": port,
            "model_id": "microsoft/phi-3-mini-4k-instruct:latest", "status": "running",
            "gpu_assignment": {
                "gpu_ids": [0], "tensor_splits": [1.0], "estimated_vram_required": null,
                "actual_vram_used": 2.3, "actual_vram_bytes": 2_469_606_195_u64
            }
        }])
    );
}

#[test]
fn models_are_assigned_to_the_only_gpu_and_to_none_of_two() {
    let stub = ollama("m", 1 << 30);
    let assigned = |gpus: &str| {
        let router = Router::start(&["--gpus", gpus, "--node", &stub.url()], "");
        router.wait_ready(1);
        router.api("/health")["gpu_pool_status"]["gpu_list"]
            .as_array()
            .unwrap()
            .iter()
            .map(|gpu| gpu["assigned_models"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(assigned("8GiB"), [json!(["m:latest"])]);
    assert_eq!(assigned("8GiB,8GiB"), [json!([]), json!([])]);
}

#[test]
fn a_change_of_the_file_is_seen_at_the_next_look() {
    let scratch = Scratch::new();
    let write = |text: &str| {
        // Replaced whole, as an editor does.
        let next = scratch.write("next", text);
        std::fs::rename(next, scratch.path().join("gpus.json")).unwrap();
    };
    write("[{\"total_bytes\": 1000, \"used_bytes\": 100}]");
    let file = scratch.path().join("gpus.json");
    let router = Router::start(&["--gpus", file.to_str().unwrap()], "");
    let used = || router.api("/health")["gpu_pool_status"]["gpu_list"][0]["used_bytes"].clone();
    assert_eq!(used(), 100);
    write("[{\"total_bytes\": 1000, \"used_bytes\": 950}]");
    assert_eq!(used(), 950);
    let status = router.api("/gpurouter/api/status");
    holds("status", &status);
    assert_eq!(codes(&status), ["gpu_memory_full"]);
    // A file that is wrong is told, with the field; what was known stays.
    write("[{\"total_bytes\": 1000, \"used_bytes\": 1001}]");
    let status = router.api("/gpurouter/api/status");
    assert_eq!(status["gpus"][0]["used_bytes"], 950);
    let text = &warning(&status, "gpu_inventory")["text"];
    assert!(text.as_str().unwrap().contains("`used_bytes`"), "{text}");
    write("[{\"total_bytes\": 1000}, {\"total_bytes\": 2000, \"state\": \"error\"}]");
    let pool = router.api("/health")["gpu_pool_status"].clone();
    assert_eq!(
        (
            &pool["total_gpus"],
            &pool["available_gpus"],
            &pool["total_vram_bytes"]
        ),
        (&json!(2), &json!(1), &json!(3000))
    );
    assert_eq!(
        pool["available_vram_bytes"], 800,
        "nothing of the one in error"
    );
    assert_eq!(codes(&router.api("/gpurouter/api/status")), ["gpu_error"]);
}

#[test]
fn e29_advice_at_91_and_at_29_percent() {
    let stub = ollama("m", 29);
    let advice = |used: u64, node: &str| {
        let scratch = Scratch::new();
        let text = json!([{"total_bytes": 100, "used_bytes": used}]).to_string();
        let file = scratch.write("gpus.json", &text);
        let router = Router::start(&["--gpus", file.to_str().unwrap(), "--node", node], "");
        let status = router.api("/gpurouter/api/status");
        codes(&status).join(",")
    };
    assert_eq!(advice(91, &stub.url()), "gpu_memory_full");
    assert_eq!(advice(90, &stub.url()), "");
    assert_eq!(advice(30, &stub.url()), "");
    assert_eq!(advice(29, &stub.url()), "gpu_memory_free");
    // A card that nobody uses is no matter.
    assert_eq!(advice(29, "http://127.0.0.1:9"), "");
}

#[test]
fn figures_of_the_gpus_are_metrics_and_what_is_unknown_is_absent() {
    let router = Router::start(&["--gpus", &data(QUICKSTART)], "");
    let text = client::get(router.addr, "/metrics").text();
    let labels = "gpu=\"0\",uuid=\"GPU-4080\",name=\"GeForce RTX 4080\"";
    for line in [
        "# TYPE gpurouter_gpu_memory_total_bytes gauge".to_owned(),
        format!("gpurouter_gpu_up{{{labels}}} 1"),
        format!("gpurouter_gpu_memory_total_bytes{{{labels}}} 17179869184"),
        format!("gpurouter_gpu_memory_used_bytes{{{labels}}} 2469606195"),
        format!("gpurouter_gpu_utilization_ratio{{{labels}}} 0.15"),
        format!("gpurouter_gpu_temperature_celsius{{{labels}}} 42"),
        format!("gpurouter_gpu_power_watts{{{labels}}} 85.5"),
        "gpurouter_gpu_power_watts{gpu=\"1\",uuid=\"GPU-3080\",name=\"GeForce RTX 3080\"} 35"
            .to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    assert!(!text.contains("gpu_energy"), "{text}");
}
