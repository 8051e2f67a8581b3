//! Models that fell back to the CPU: told once, avoided, forgiven.

use std::time::Duration;

use serde_json::{Value, json};

use super::common::client;
use super::common::{LIMIT, Router, Sim, Stub, eventually, reply};
use super::{SMALL, chat, record, start, told};

const GIB: u64 = 1 << 30;

/// Warnings of the status about the CPU.
fn warnings(router: &Router) -> Vec<Value> {
    let status = router.api("/gpurouter/api/status");
    let mut warnings = status["warnings"].as_array().unwrap().clone();
    warnings.retain(|warning| {
        let code = warning["code"].as_str().unwrap();
        code.ends_with("on_cpu")
    });
    warnings
}

fn wait_for(router: &Router, code: Option<&str>) {
    let found = eventually(LIMIT, || {
        let warnings = warnings(router);
        warnings.first().map(|w| w["code"].as_str().unwrap()) == code
    });
    assert!(
        found,
        "{code:?}: {:?}; {:#?}",
        warnings(router),
        router.stderr()
    );
}

/// Lines of the log about this model and the CPU.
fn lines(router: &Router, model: &str) -> usize {
    let records = router.records();
    let about = |line: &&Value| {
        let message = line["message"].as_str().unwrap_or("");
        line["level"] == "warning" && message.contains(" runs on") && message.contains(model)
    };
    records.iter().filter(about).count()
}

/// What `/api/ps` says of a model of 8 GiB.
fn ps(vram: u64) -> Value {
    json!({"models": [{"name": "m:latest", "model": "m:latest", "digest": "d", "size": 8 * GIB,
        "size_vram": vram, "context_length": 4096, "expires_at": "2099-01-01T00:00:00Z"}]})
}

#[test]
fn a_node_whose_gpu_is_not_used_is_told_once_and_the_other_one_answers() {
    let bad = Sim::start(&["--gpu", "rtx3060", "--clock", "virtual", "--fault", "cpu"]);
    let good = Sim::start(&["--gpu", "rtx3060", "--clock", "virtual"]);
    let config = format!(
        "[[node]]\nname = \"a\"\nurl = \"{}\"\ngpu = \"RTX 3060\"\n[[node]]\nname = \"b\"\nurl = \"{}\"\ngpu = \"RTX 3060\"\n",
        bad.urls[0], good.urls[0]
    );
    let router = Router::start(&["--log-format", "json"], &config);
    router.wait_ready(2);
    let ask = || client::post(router.addr, "/api/chat", &chat(SMALL, "hello", false));
    assert_eq!(told(&ask(), "node"), "a", "the first in order");
    wait_for(&router, Some("on_cpu"));
    let warning = &warnings(&router)[0];
    assert!(
        warning["text"]
            .as_str()
            .unwrap()
            .contains("on a runs on the CPU"),
        "{warning}"
    );
    assert!(!warning["cure"].as_str().unwrap().is_empty());
    let answer = eventually(LIMIT, || told(&ask(), "node") == "b");
    assert!(answer, "{:?}", ask());
    let last = ask();
    record(&router, &last);
    let why = router.api(&format!("/gpurouter/api/why/{}", told(&last, "id")));
    let candidates = why["candidates"].as_array().unwrap();
    let a = candidates.iter().find(|c| c["node"] == "a").unwrap();
    assert_eq!(
        (&a["reason"], &a["admitted"]),
        (&json!("on_cpu"), &json!(true))
    );
    let metrics = client::get(router.addr, "/metrics").text();
    let gauge = |node: &str| {
        let start = format!("gpurouter_cpu_fallback_ratio{{node=\"{node}\"");
        let line = metrics.lines().find(|line| line.starts_with(&start));
        line.and_then(|line| line.rsplit(' ').next())
            .map(str::to_owned)
    };
    assert_eq!(gauge("a").as_deref(), Some("1"), "{metrics}");
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(lines(&router, SMALL), 1, "{:#?}", router.stderr());
}

#[test]
fn a_node_without_a_gpu_is_not_blamed() {
    let sim = Sim::start(&["--gpu", "cpu", "--clock", "virtual"]);
    let router = start(&[("a", sim.urls[0].clone())], "");
    client::post(router.addr, "/api/chat", &chat(SMALL, "hello", false));
    std::thread::sleep(Duration::from_secs(5));
    assert!(warnings(&router).is_empty(), "{:?}", warnings(&router));
    assert_eq!(lines(&router, ""), 0);
}

#[test]
fn e12_full_partial_and_cpu_are_told_apart_and_recovery_is_silent() {
    let stub = Stub::ollama(&["m"], reply::healthy);
    stub.set_document("/api/ps", ps(8 * GIB));
    let router = start(&[("a", stub.url())], "");
    let percent = |wanted: u64| {
        let seen = eventually(LIMIT, || {
            let status = router.api("/gpurouter/api/status");
            status.pointer("/nodes/0/loaded/0/gpu_percent") == Some(&json!(wanted))
        });
        assert!(seen, "{wanted}");
    };
    percent(100);
    // Nothing is configured: that the model was on a GPU is how the router knows of it.
    std::thread::sleep(Duration::from_secs(3));
    stub.set_document("/api/ps", ps(5 * GIB));
    wait_for(&router, Some("partly_on_cpu"));
    let text = warnings(&router)[0]["text"].to_string();
    assert!(text.contains("only 62 % on the GPU"), "{text}");
    stub.set_document("/api/ps", ps(GIB));
    wait_for(&router, Some("on_cpu"));
    stub.set_document("/api/ps", ps(8 * GIB));
    wait_for(&router, None);
    assert_eq!(
        lines(&router, "`m:latest`"),
        1,
        "told once, recovered silently: {:#?}",
        router.stderr()
    );
}
