//! Slots and the queue of a node.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::json;

use super::common::client::{self, Connection, Response};
use super::common::{LIMIT, Router, Stub, eventually, reply};
use super::{chat, record, start, told};

const ONE_SLOT: &str = "[admission]\nslots = 1\nqueue = 1\n";

/// A node that answers when it is told to.
fn held() -> (Stub, Arc<AtomicBool>) {
    let open = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&open);
    let stub = Stub::ollama(&["m"], move |request, peer| {
        eventually(LIMIT, || gate.load(Ordering::SeqCst));
        reply::healthy(request, peer);
    });
    stub.set_loaded(&["m"]);
    (stub, open)
}

fn ask(router: &Router) -> JoinHandle<Response> {
    let address = router.addr;
    thread::spawn(move || client::post(address, "/api/chat", &chat("m", "hi", false)))
}

/// Waits until the first node has this many requests in flight and waiting.
fn wait_load(router: &Router, active: u64, queued: u64) {
    let mut seen = json!(null);
    let reached = eventually(LIMIT, || {
        seen = router.api("/gpurouter/api/status")["nodes"][0].clone();
        seen["active"] == active && seen["queued"] == queued
    });
    assert!(reached, "{seen}");
}

#[test]
fn beyond_slots_and_queue_is_503_with_retry_after() {
    let (node, open) = held();
    let router = start(&[("only", node.url())], ONE_SLOT);
    let first = ask(&router);
    wait_load(&router, 1, 0);
    node.wait_request(1);
    let second = ask(&router);
    wait_load(&router, 1, 1);
    let asked = Instant::now();
    for path in ["/api/chat", "/v1/chat/completions"] {
        let third = client::post(router.addr, path, &chat("m", "hi", false));
        assert_eq!(third.status, 503, "{third:?}");
        let seconds = third
            .header("retry-after")
            .and_then(|seconds| seconds.parse::<u32>().ok());
        assert!(seconds >= Some(1), "{third:?}");
        assert!(third.text().contains("busy"), "{}", third.text());
    }
    assert!(asked.elapsed() < Duration::from_secs(5));
    // The one that waits has not been sent.
    assert_eq!(node.requests().len(), 1);
    open.store(true, Ordering::SeqCst);
    let [first, second] = [first, second].map(|thread| thread.join().unwrap());
    assert_eq!((first.status, second.status), (200, 200));
    let waited = record(&router, &second)["timings"]["queue_ms"]
        .as_f64()
        .unwrap();
    assert!(
        waited
            > record(&router, &first)["timings"]["queue_ms"]
                .as_f64()
                .unwrap()
    );
    wait_load(&router, 0, 0);
}

#[test]
fn a_full_node_gives_way_to_a_free_one() {
    let (first, open) = held();
    let second = Stub::ollama(&["m"], reply::healthy);
    // A node that would have to load first gives way to one that does not.
    second.set_loaded(&["m"]);
    let router = start(
        &[("first", first.url()), ("second", second.url())],
        ONE_SLOT,
    );
    let waiting = ask(&router);
    first.wait_request(1);
    let answer = client::post(router.addr, "/api/chat", &chat("m", "hi", false));
    assert_eq!((answer.status, told(&answer, "node")), (200, "second"));
    open.store(true, Ordering::SeqCst);
    assert_eq!(told(&waiting.join().unwrap(), "node"), "first");
}

#[test]
fn a_client_that_leaves_the_queue_is_never_sent() {
    let (node, open) = held();
    let router = start(&[("only", node.url())], ONE_SLOT);
    let first = ask(&router);
    wait_load(&router, 1, 0);
    let mut leaving = Connection::open(router.addr).unwrap();
    leaving.write(&client::post_bytes(
        router.addr,
        "/api/chat",
        &chat("m", "I will not wait", false).to_string(),
    ));
    wait_load(&router, 1, 1);
    drop(leaving);
    wait_load(&router, 1, 0);
    let gone = router.wait_record(|record| record["outcome"] == "client_gone");
    assert_eq!(gone["status"], 499);
    open.store(true, Ordering::SeqCst);
    assert_eq!(first.join().unwrap().status, 200);
    wait_load(&router, 0, 0);
    assert_eq!(node.requests().len(), 1);
}

#[test]
fn a_llama_server_gets_as_many_requests_as_it_has_slots() {
    let open = Arc::new(AtomicBool::new(false));
    let gate = Arc::clone(&open);
    let node = Stub::llama_server("m", move |request, peer| {
        eventually(LIMIT, || gate.load(Ordering::SeqCst));
        reply::healthy(request, peer);
    });
    let router = start(&[("only", node.url())], "");
    let waiting: Vec<_> = (0..6).map(|_| ask(&router)).collect();
    wait_load(&router, 4, 2);
    node.wait_request(4);
    assert_eq!(node.requests().len(), 4);
    open.store(true, Ordering::SeqCst);
    assert!(
        waiting
            .into_iter()
            .all(|thread| thread.join().unwrap().status == 200)
    );
}
