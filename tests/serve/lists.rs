//! Lists and lookups, merged over the nodes.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::common::client::{self, Connection, Response};
use super::common::{Kind, LIMIT, RefusedPort, Router, Stub, eventually, reply};
use super::{config, start};

fn names(list: &Value, field: &str) -> Vec<String> {
    let entries = list.as_array().unwrap_or_else(|| panic!("no list: {list}"));
    entries
        .iter()
        .map(|entry| entry[field].as_str().unwrap().to_owned())
        .collect()
}

fn head(router: &Router, path: &str) -> Response {
    Connection::open(router.addr)
        .unwrap()
        .exchange(format!("HEAD {path} HTTP/1.1\r\nHost: {}\r\n\r\n", router.addr).as_bytes())
}

#[test]
fn lists_hold_every_model_once_and_the_virtual_ones() {
    let [a, b] = [
        Stub::ollama(&["m:latest", "a:1b"], reply::healthy),
        Stub::ollama(&["m:latest", "b:2b"], reply::healthy),
    ];
    let llama = Stub::llama_server("tiny", reply::healthy);
    let router = start(&[("a", a.url()), ("b", b.url()), ("c", llama.url())], "");
    let tags = router.api("/api/tags");
    let mut tagged = names(&tags["models"], "model");
    tagged.sort();
    assert_eq!(tagged, ["a:1b", "auto", "b:2b", "m:latest", "tiny:latest"]);
    for entry in tags["models"].as_array().unwrap() {
        assert!(
            entry["details"].is_object()
                && entry["size"].is_u64()
                && entry["modified_at"].is_string(),
            "{entry}"
        );
        assert!(
            entry["digest"]
                .as_str()
                .is_some_and(|digest| digest.len() >= 12),
            "{entry}"
        );
    }
    let models = router.api("/v1/models");
    let ids = names(&models["data"], "id");
    assert_eq!(
        (&models["object"], ids.len()),
        (&json!("list"), 5),
        "{ids:?}"
    );
    for id in ids {
        assert_eq!(
            router.api(&format!("/v1/models/{}", id.replace(':', "%3A")))["id"],
            id
        );
    }
    let missing = client::get(router.addr, "/v1/models/nope");
    assert_eq!(
        (missing.status, missing.json()["error"]["type"].is_string()),
        (404, true)
    );
}

#[test]
fn a_dead_node_takes_its_models_out_and_a_silent_one_delays_nothing() {
    let mut dying = Stub::ollama(&["gone"], reply::healthy);
    let live = Stub::ollama(&["m"], reply::healthy);
    // Connections to it succeed and are never answered.
    let black_hole = TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = RefusedPort::new();
    let hole = format!("http://{}", black_hole.local_addr().unwrap());
    let nodes = [
        ("hole", hole),
        ("dying", dying.url()),
        ("refused", refused.url()),
        ("live", live.url()),
    ];
    let router = Router::start(&["--log-format", "json"], &config(&nodes, ""));
    router.wait_ready(2);
    dying.kill();
    let forgotten = eventually(LIMIT, || {
        names(&router.api("/api/tags")["models"], "name") == ["auto", "m"]
    });
    assert!(forgotten, "{}", router.api("/api/tags"));
    for path in [
        "/api/tags",
        "/api/ps",
        "/api/version",
        "/v1/models",
        "/",
        "/health",
        "/gpurouter/api/status",
    ] {
        let asked = Instant::now();
        let answer = client::get(router.addr, path);
        assert_eq!(answer.status, 200, "{path}");
        assert!(
            asked.elapsed() < Duration::from_millis(500),
            "{path}: {:?}",
            asked.elapsed()
        );
    }
    let status = router.api("/gpurouter/api/status");
    let seen: Vec<&str> = status["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| node["state"].as_str().unwrap())
        .collect();
    assert_eq!(seen, ["down", "down", "down", "up"]);
    assert_eq!(
        client::post(router.addr, "/api/chat", &super::chat("m", "hi", false)).status,
        200
    );
}

#[test]
fn a_list_without_models_is_empty_and_never_null() {
    let refused = RefusedPort::new();
    let router = Router::start(
        &[],
        &config(
            &[("dead", refused.url())],
            "[routing]\nvirtual_models = []\n",
        ),
    );
    assert_eq!(router.api("/api/tags"), json!({"models": []}));
    assert_eq!(router.api("/api/ps"), json!({"models": []}));
    assert_eq!(
        router.api("/v1/models"),
        json!({"object": "list", "data": []})
    );
}

#[test]
fn the_root_says_ollama_is_running_while_a_node_is_up() {
    let node = Stub::ollama(&["m"], reply::healthy);
    let router = start(&[("only", node.url())], "");
    let answer = client::get(router.addr, "/");
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, "Ollama is running")
    );
    for path in ["/", "/api/version", "/api/tags"] {
        let answer = head(&router, path);
        assert_eq!((answer.status, answer.body.len()), (200, 0), "{path}");
    }
    // The command line of Ollama asks with HEAD and takes any answer for a running server.
    assert_eq!(client::get(router.addr, "/nothing/here").status, 404);
    assert_eq!(client::get(router.addr, "/api/chat").status, 405);
}

#[test]
fn the_version_is_the_lowest_of_the_nodes() {
    let stubs = ["0.10.2", "0.9.5", "0.32.15"].map(|version| {
        let stub = Stub::ollama(&["m"], reply::healthy);
        stub.set_document("/api/version", json!({"version": version}));
        stub
    });
    let router = start(
        &[
            ("a", stubs[0].url()),
            ("b", stubs[1].url()),
            ("c", stubs[2].url()),
        ],
        "",
    );
    assert_eq!(router.api("/api/version"), json!({"version": "0.9.5"}));
}

fn in_memory(size: u64, vram: u64, expires: &str) -> Value {
    json!({"models": [{"name": "m:latest", "model": "m:latest", "size": size, "digest": "cd".repeat(32), "details": {"family": "llama"},
        "expires_at": expires, "size_vram": vram, "context_length": 4096}]})
}

#[test]
fn a_model_in_memory_on_two_nodes_is_one_row() {
    let [a, b] = [
        Stub::ollama(&["m"], reply::healthy),
        Stub::ollama(&["m"], reply::healthy),
    ];
    a.set_document("/api/ps", in_memory(100, 100, "2026-11-21T10:00:00Z"));
    b.set_document("/api/ps", in_memory(200, 50, "2026-11-21T12:00:00Z"));
    let router = start(&[("a", a.url()), ("b", b.url())], "");
    let ps = router.api("/api/ps");
    let row = &ps["models"][0];
    assert_eq!(ps["models"].as_array().unwrap().len(), 1, "{ps}");
    assert_eq!(
        (&row["size"], &row["size_vram"], &row["expires_at"]),
        (&json!(300), &json!(150), &json!("2026-11-21T12:00:00Z"))
    );
    assert_eq!(names(&row["gpurouter"]["nodes"], "node").len(), 2);
    let status = router.api("/gpurouter/api/status");
    assert_eq!(
        (
            &status["nodes"][0]["loaded"][0]["gpu_percent"],
            &status["nodes"][1]["loaded"][0]["gpu_percent"]
        ),
        (&json!(100), &json!(25))
    );
}

#[test]
fn show_is_the_nodes_own_answer_or_one_put_together() {
    let [ollama, llama] = [
        Stub::ollama(&["m"], reply::healthy),
        Stub::llama_server("tiny", reply::healthy),
    ];
    let plain = Stub::start(Kind::OpenAi, &["vllm/model"], reply::healthy);
    let router = start(
        &[("a", ollama.url()), ("b", llama.url()), ("c", plain.url())],
        "",
    );
    // Continue writes `name`, others `model`; all of them read capabilities and the context length.
    for (body, node) in [
        (json!({"name": "m"}), "a"),
        (json!({"model": "tiny"}), "b"),
        (json!({"model": "tiny:latest"}), "b"),
        (json!({"model": "vllm/model"}), "c"),
    ] {
        let answer = client::post(router.addr, "/api/show", &body);
        assert_eq!(answer.status, 200, "{body}: {answer:?}");
        let shown = answer.json();
        assert!(shown["details"].is_object(), "{node}: {shown}");
        assert!(
            shown["capabilities"]
                .as_array()
                .is_some_and(|all| all.contains(&json!("completion"))),
            "{node}: {shown}"
        );
        assert!(
            shown["model_info"]["general.architecture"].is_string(),
            "{node}: {shown}"
        );
    }
    let tiny = client::post(router.addr, "/api/show", &json!({"model": "tiny"})).json();
    let context = tiny["model_info"]
        .as_object()
        .unwrap()
        .iter()
        .find(|(key, _)| key.ends_with(".context_length"));
    assert_eq!(
        context.map(|(_, value)| value),
        Some(&json!(8192)),
        "{tiny}"
    );
    assert_eq!(
        client::post(router.addr, "/api/show", &json!({"model": "auto"})).status,
        200
    );
    let missing = client::post(router.addr, "/api/show", &json!({"model": "nope"}));
    assert_eq!(
        (missing.status, missing.json()["error"].is_string()),
        (404, true)
    );
    assert_eq!(
        client::post(router.addr, "/api/show", &json!({})).status,
        400
    );
}
