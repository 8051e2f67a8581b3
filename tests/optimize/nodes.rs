//! Nodes that are no Ollama of today: a llama-server in router mode, and an Ollama that lists no capabilities.

use gpurouter::sim::Fleet;
use serde_json::{Value, json};

use super::common::{Kind, LIMIT, Peer, Request, Router, Scratch, Stub, eventually, reply};
use super::{User, finish, holds, nodes_of, spec, start};

fn ok(document: &Value) -> impl Fn(&Request, &mut Peer) + Send + Sync + 'static {
    let body = document.to_string();
    move |_, peer| {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        peer.send(head.as_bytes());
        peer.send(body.as_bytes());
        peer.close();
    }
}

fn user_of(stub: &Stub, models: &str) -> User {
    let fleet = start(vec![]);
    let user = User::new(&fleet, "");
    let nodes = format!(
        "[[node]]\nname = \"n\"\nurl = \"{}\"\nvram = \"8GiB\"\n",
        stub.url()
    );
    user.configure(
        "gpurouter.toml",
        &nodes,
        &format!("priority_models = {models}"),
    );
    user
}

/// `/v1/models` of llama.cpp b11669 in router mode, as far as it matters.
fn listed(status: &Value) -> Value {
    json!({"object": "list", "data": [{"id": "llama3.2:1b", "object": "model", "owned_by": "llamacpp",
        "status": status, "architecture": {"input_modalities": ["text"]}}]})
}

fn router_mode() -> Stub {
    let stub = Stub::llama_server("llama3.2:1b", ok(&json!({"success": true})));
    stub.set_document(
        "/props",
        json!({"role": "router", "models_autoload": true, "default_generation_settings": {"params": null, "n_ctx": 0}, "build_info": "b11669"}),
    );
    stub.set_document("/v1/models", listed(&json!({"value": "unloaded"})));
    stub
}

/// The answer to `/models/load` comes before the model is there: the end of the load is waited for.
#[test]
fn a_llama_server_in_router_mode_loads_what_it_is_told_to() {
    let stub = router_mode();
    let user = user_of(&stub, "[\"llama3.2:1b\"]");
    let child = user.start(&["--apply", "--json"]);
    let request = stub.wait_request(1);
    assert_eq!(
        (request.method.as_str(), request.path()),
        ("POST", "/models/load")
    );
    assert_eq!(request.json(), json!({"model": "llama3.2:1b"}));
    stub.set_document("/v1/models", listed(&json!({"value": "loading"})));
    std::thread::sleep(std::time::Duration::from_millis(300));
    stub.set_document("/v1/models", listed(&json!({"value": "loaded"})));
    let done = finish(child, LIMIT);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(done.json()["failed"], json!([]));
    assert_eq!(stub.requests().len(), 1);
}

#[test]
fn a_llama_server_that_cannot_load_is_told() {
    let stub = router_mode();
    let user = user_of(&stub, "[\"llama3.2:1b\"]");
    let child = user.start(&["--apply", "--json"]);
    stub.wait_request(1);
    stub.set_document(
        "/v1/models",
        listed(&json!({"value": "unloaded", "exit_code": 1, "failed": true})),
    );
    let done = finish(child, LIMIT);
    assert_eq!(done.code, 1, "{done:?}");
    let error = done.json()["failed"][0]["error"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(error.contains("could not load the model"), "{error}");
}

/// Before its lists told capabilities, Ollama told them in `/api/show`.
#[test]
fn an_ollama_without_capabilities_in_its_list_is_asked() {
    let stub = Stub::start(
        Kind::Ollama,
        &["bge-m3"],
        |request: &Request, peer: &mut Peer| {
            if request.path() == "/api/embed" {
                ok(&json!({"embeddings": []}))(request, peer);
            } else {
                reply::healthy(request, peer);
            }
        },
    );
    stub.set_document(
        "/api/tags",
        json!({"models": [{"name": "bge-m3:latest", "model": "bge-m3:latest", "size": 1_000_000}]}),
    );
    stub.set_document(
        "/api/show",
        json!({"capabilities": ["embedding"], "model_info": {}}),
    );
    let user = user_of(&stub, "[\"bge-m3\"]");
    // The node says that it loaded the model, and lists nothing.
    stub.set_document("/api/ps", json!({"models": []}));
    let done = finish(user.start(&["--apply", "--json"]), LIMIT);
    let loads = stub.loads();
    assert_eq!(loads.len(), 1, "{loads:?}");
    assert_eq!(loads[0].path(), "/api/embed");
    assert_eq!(
        loads[0].json(),
        json!({"model": "bge-m3:latest", "input": "", "keep_alive": -1})
    );
    assert_eq!(done.code, 1);
    let error = done.json()["failed"][0]["error"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(error.contains("does not hold it"), "{error}");
}

/// A node that is not known to be on this machine, of whose memory the configuration says nothing.
fn elsewhere(url: &str) -> (String, String) {
    // This machine under a name that says nothing of it.
    let url = url.replace("127.0.0.1", "0.0.0.0");
    (format!("[[node]]\nname = \"far\"\nurl = \"{url}\"\n"), url)
}

/// A directory with what a router kept of a node: the most GPU memory that it was seen to hold.
fn kept(url: &str, bytes: u64) -> (Scratch, String) {
    let scratch = Scratch::new();
    let kept = json!({"version": 1, "nodes": {"far": {"url": url, "vram_seen_bytes": bytes, "models": {}}}});
    let file = scratch.write("measurements.json", &kept.to_string());
    let directory = file
        .parent()
        .expect("a file in a directory")
        .display()
        .to_string();
    (scratch, directory)
}

/// What a node was seen to hold counts for a plan as it counts for `fit`.
#[test]
fn a_node_of_unknown_memory_gets_what_it_was_seen_to_hold() {
    let fleet: Fleet = start(vec![spec("far", 4, &["nomic-embed-text"])]);
    let user = User::new(&start(vec![]), "");
    let (node, url) = elsewhere(&fleet.urls()[0]);
    let (_scratch, directory) = kept(&url, 2 << 30);
    let wanted = "priority_models = [\"nomic-embed-text\"]\n";
    let rest = |state: &str| format!("{wanted}[sources]\nstate_dir = \"{state}\"");
    let empty = Scratch::new();
    user.configure(
        "gpurouter.toml",
        &node,
        &rest(&empty.path().display().to_string()),
    );
    let unknown = user.optimize(&["--json"]);
    assert_eq!(unknown.changes(), [""; 0], "{unknown:?}");
    assert!(
        unknown.out.contains("memory of this node is not known"),
        "{unknown:?}"
    );
    user.configure("gpurouter.toml", &node, &rest(&directory));
    let seen = user.optimize(&["--json"]);
    assert_eq!(
        seen.changes(),
        ["load far nomic-embed-text:latest"],
        "{seen:?}"
    );
    // The cycle inside `serve` knows it too.
    let router = Router::start(&[], &format!("{}\n{node}", rest(&directory)));
    let pinned = ["nomic-embed-text:latest 100% pinned"];
    assert!(eventually(LIMIT, || holds(&fleet.urls()[0]) == pinned));
    drop(router);
}

/// The GPUs behind another gpurouter are told as it reports them.
#[test]
fn the_memory_behind_another_gpurouter_is_its_own_report() {
    let fleet = start(vec![spec("gpu0", 4, &["llama3.2:1b"])]);
    let rest = "auto_optimize = false\n[security]\nhosts = [\"0.0.0.0\"]\n";
    let router = Router::start(&["--gpus", "24GiB"], &format!("{rest}{}", nodes_of(&fleet)));
    router.wait_ready(1);
    let user = User::new(&start(vec![]), "");
    let (node, _) = elsewhere(&router.url);
    user.configure("gpurouter.toml", &node, "");
    let report = user.optimize(&["--json", "--report-only"]);
    let far = &report.json()["nodes"][0];
    assert_eq!(
        (&far["node"], &far["total_bytes"]),
        (&json!("far"), &json!(24_u64 << 30)),
        "{report:?}"
    );
}
