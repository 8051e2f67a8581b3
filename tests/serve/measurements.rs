//! What is measured is used, shown and kept; what a node does wrong is not held against it for longer than it should be.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use super::common::client;
use super::common::{LIMIT, Peer, Request, Router, Scratch, Stub, command, eventually, reply};
use super::{chat, config, record};

/// An Ollama that counts 2,000 tokens of prompt in half a second and 100 of answer in two.
fn measured(_: &Request, peer: &mut Peer) {
    let mut answer = reply::ollama_whole("m", "one two three");
    for (key, value) in [
        ("load_duration", 1_000_000_u64),
        ("prompt_eval_count", 2000),
        ("prompt_eval_duration", 500_000_000),
        ("eval_count", 100),
        ("eval_duration", 2_000_000_000),
    ] {
        answer[key] = json!(value);
    }
    peer.send(&reply::json(200, &answer));
}

fn run(nodes: &[(&str, String)], state: &Path, more: &str) -> Router {
    let state = format!(
        "[sources]\nstate_dir = {:?}\n{more}",
        state.display().to_string()
    );
    let router = Router::start(&["--log-format", "json"], &config(nodes, &state));
    router.wait_ready(nodes.len());
    router
}

fn stop(mut router: Router) {
    router.terminate();
    let status = router.wait_exit(LIMIT);
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
}

fn speed(router: &Router) -> Value {
    let status = router.api("/gpurouter/api/status");
    status["nodes"][0]["speeds"][0].clone()
}

fn node(answer: &client::Response) -> &str {
    super::told(answer, "node")
}

fn ask(router: &Router) -> client::Response {
    let words = "The river has risen since the morning. ".repeat(250);
    client::post(router.addr, "/api/chat", &chat("m", &words, false))
}

#[test]
fn speeds_are_shown_and_survive_a_restart_and_a_damaged_file_costs_only_them() {
    let stub = Stub::ollama(&["m"], measured);
    let (nodes, scratch) = ([("a", stub.url())], Scratch::new());
    let router = run(&nodes, scratch.path(), "");
    assert_eq!(speed(&router), Value::Null);
    ask(&router);
    let expected = [json!(4000.0), json!(50.0), json!(1)];
    let told = |router: &Router| {
        let speed = speed(router);
        let figures = ["prefill_tps", "decode_tps", "samples"];
        (
            figures.map(|figure| speed[figure].clone()),
            speed["load_ms"].clone(),
        )
    };
    let seen = eventually(LIMIT, || told(&router).0 == expected);
    assert!(seen, "{}", speed(&router));
    // How long a load takes is what the router saw when it had the model loaded.
    let before = told(&router);
    assert!(before.1.as_f64().is_some_and(|ms| ms > 0.0), "{before:?}");
    stop(router);
    let file = scratch.path().join("measurements.json");
    let kept: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(kept["version"], 1, "{kept}");
    let router = run(&nodes, scratch.path(), "");
    assert_eq!(told(&router), before);
    // Known speeds are what the decision predicts with.
    let predicted = record(&router, &ask(&router))["predicted"]["decode_ms"].clone();
    assert_eq!(predicted, 2000);
    stop(router);
    fs::write(&file, "{\"version\":1,\"nodes\":{\"a\"").unwrap();
    let router = run(&nodes, scratch.path(), "");
    router.wait_record(|line| {
        let message = line["message"].as_str().unwrap_or("");
        line["level"] == "warning" && message.contains("measurements.json.unusable")
    });
    assert_eq!(speed(&router), Value::Null);
    let aside = fs::read_to_string(scratch.path().join("measurements.json.unusable")).unwrap();
    assert!(aside.starts_with("{\"version\":1"), "{aside}");
    ask(&router);
    stop(router);
    let kept: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(kept["nodes"]["a"]["models"]["m:latest"]["samples"], 1);
}

#[test]
fn what_a_node_was_seen_to_hold_is_what_fit_knows_of_it_later() {
    const GIB: u64 = 1 << 30;
    let stub = Stub::ollama(&["m"], reply::healthy);
    let loaded = json!({"models": [{"name": "m:latest", "model": "m:latest", "size": 8 * GIB,
        "size_vram": 8 * GIB, "context_length": 4096, "expires_at": "2099-01-01T00:00:00Z"}]});
    stub.set_document("/api/ps", loaded);
    let scratch = Scratch::new();
    // Not known as this machine's own, whose driver would know better.
    let nodes = [("a", stub.url().replace("127.0.0.1", "0.0.0.0"))];
    stop(run(&nodes, scratch.path(), ""));
    stub.set_document("/api/ps", json!({"models": []}));
    let usable = |state: &Path| -> Value {
        let here = Scratch::new();
        let state = format!(
            "[sources]\noffline = true\nstate_dir = {:?}\n",
            state.display().to_string()
        );
        let file = here.write("gpurouter.toml", &config(&nodes, &state));
        let output = command(&here)
            .args(["--json", "--config"])
            .arg(file)
            .args(["fit", "3b", "--quant", "Q4_K_M", "--nodes-only"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let document: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        document
            .pointer("/nodes/0/usable_bytes")
            .unwrap_or_else(|| panic!("{document} {}", String::from_utf8_lossy(&output.stderr)))
            .clone()
    };
    assert_eq!(usable(Scratch::new().path()), Value::Null);
    let bytes = usable(scratch.path()).as_u64().unwrap();
    assert!((6 * GIB..=8 * GIB).contains(&bytes), "{bytes}");
}

#[test]
fn a_node_that_gave_no_answer_in_time_is_tried_last_for_a_while() {
    let silent = Stub::ollama(&["m"], |_, peer| {
        peer.wait_gone(LIMIT);
    });
    let other = Stub::ollama(&["m"], reply::healthy);
    for stub in [&silent, &other] {
        stub.set_loaded(&["m"]);
    }
    let nodes = [("a", silent.url()), ("b", other.url())];
    let limits = "[timeouts]\nidle = \"500ms\"\nload = \"500ms\"\n";
    let router = run(&nodes, Scratch::new().path(), limits);
    let ask = || client::post(router.addr, "/api/chat", &chat("m", "hi", false));
    let first = ask();
    assert_eq!((first.status, node(&first)), (504, "a"), "{first:?}");
    for _ in 0..3 {
        let answer = ask();
        assert_eq!((answer.status, node(&answer)), (200, "b"), "{answer:?}");
    }
    let state = router.api("/gpurouter/api/status")["nodes"][0]["state"].clone();
    assert_eq!(state, "up", "its own routes answer");
}

#[test]
fn what_a_client_did_wrong_is_not_held_against_the_node() {
    let statuses = [400_u16, 401, 403, 404, 405, 413, 415, 422];
    let count = std::sync::atomic::AtomicUsize::new(0);
    let picky = Stub::ollama(&["m"], move |request: &Request, peer: &mut Peer| {
        let at = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        match statuses.get(at) {
            Some(status) => drop(peer.send(&reply::json(*status, &json!({"error": "no"})))),
            None => reply::healthy(request, peer),
        }
    });
    picky.set_loaded(&["m"]);
    let other = Stub::ollama(&["m"], reply::healthy);
    let nodes = [("a", picky.url()), ("b", other.url())];
    let router = run(&nodes, Scratch::new().path(), "");
    for status in statuses {
        let answer = client::post(router.addr, "/api/chat", &chat("m", "hi", false));
        // A node that lacks the model after all is the only case for another one.
        let expected = if status == 404 {
            (200, "b")
        } else {
            (status, "a")
        };
        assert_eq!((answer.status, node(&answer)), expected, "{answer:?}");
        let status = router.api("/gpurouter/api/status");
        assert_eq!(status["nodes"][0]["state"], "up");
    }
    std::thread::sleep(Duration::from_millis(50));
    let answer = client::post(router.addr, "/api/chat", &chat("m", "hi", false));
    assert_eq!((answer.status, node(&answer)), (200, "a"));
}
