//! Hostile input against the real binary: malformed heads and bodies, clients that dawdle and vanish, nodes that lie, hang and die. After each
//! of them the router answers the next request and holds nothing.

#![allow(
    clippy::print_stderr,
    reason = "measured values go to the test runner's stderr"
)]
#![allow(clippy::float_cmp, reason = "counts and gauges are whole numbers")]

#[path = "../common/mod.rs"]
mod common;

mod bodies;
mod clients;
mod heads;
mod nodes;

use std::time::Duration;

use serde_json::{Value, json};

use common::client::{self, End, Response};
use common::{LIMIT, Peer, Request, Router, Stub, eventually, reply};

/// The model of every stub here.
const MODEL: &str = "m:latest";

/// What a node sends as the answer to a chat that works.
fn chat_tokens(request: &Request) -> Vec<Vec<u8>> {
    let words = ["one ", "two ", "three"];
    let streams = |default: bool| {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        body["stream"].as_bool().unwrap_or(default)
    };
    match request.path() {
        "/api/chat" if streams(true) => reply::ollama_chat(MODEL, &words),
        "/v1/chat/completions" if streams(false) => reply::openai_chat(MODEL, &words),
        _ => vec![reply::json(
            200,
            &json!({"model": MODEL, "message": {"role": "assistant", "content": "one two three"}, "done": true}),
        )],
    }
}

/// A node that answers every request properly.
fn proper(request: &Request, peer: &mut Peer) {
    peer.send(&chat_tokens(request).concat());
}

/// A router over one Ollama whose requests `handler` answers.
fn stack(handler: impl Fn(&Request, &mut Peer) + Send + Sync + 'static) -> (Stub, Router) {
    stack_with("", handler)
}

/// The same with a configuration.
fn stack_with(
    config: &str,
    handler: impl Fn(&Request, &mut Peer) + Send + Sync + 'static,
) -> (Stub, Router) {
    let stub = Stub::ollama(&[MODEL], handler);
    stub.set_forms(&["/v1/messages", "/v1/responses"]);
    let url = stub.url();
    let router = Router::start(&["--log-format", "json", "--node", &url], config);
    router.wait_ready(1);
    (stub, router)
}

/// The body of a chat in either form.
fn chat_body(stream: bool) -> String {
    json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": stream, "max_tokens": 5}).to_string()
}

/// A POST of `body`.
fn post(router: &Router, path: &str, body: &str) -> Response {
    client::send(router.addr, &client::post_bytes(router.addr, path, body))
}

/// The message of an error in the dialect of `path`; panics when it is none.
fn told(path: &str, answer: &Response) -> String {
    let context = format!("{path}: {} {}", answer.status_line, answer.text());
    assert_eq!(answer.end, End::Complete, "{context}");
    assert!(answer.status >= 400, "{context}");
    let kind = answer.header("content-type").unwrap_or("");
    assert!(kind.starts_with("application/json"), "{context}: {kind}");
    error_of(path, &answer.body).unwrap_or_else(|| panic!("{context} is no error of the dialect"))
}

/// The message of an error document in the dialect of `path`.
fn error_of(path: &str, body: &[u8]) -> Option<String> {
    let document: Value = serde_json::from_slice(body).ok()?;
    let error = &document["error"];
    let message = if path.starts_with("/v1/messages") {
        assert_eq!(document["type"], "error", "{document}");
        &error["message"]
    } else if path.starts_with("/v1/") {
        assert!(error["type"].is_string(), "{document}");
        &error["message"]
    } else {
        error
    };
    message
        .as_str()
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}

/// The sum of a metric's series whose labels contain `label`.
fn metric(router: &Router, name: &str, label: &str) -> f64 {
    let text = client::get(router.addr, "/metrics").text();
    let matching = text
        .lines()
        .filter(|line| line.starts_with(name) && line.contains(label));
    matching
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum()
}

/// Waits until as many requests have ended with that outcome; they are counted after the client has its answer.
fn counted(router: &Router, outcome: &str, requests: f64) {
    let label = format!("outcome=\"{outcome}\"");
    let count = || metric(router, "gpurouter_requests_total{", &label);
    let reached = eventually(Duration::from_secs(5), || count() >= requests);
    assert!(
        reached && count() < requests + 0.5,
        "{} of {requests} requests ended with {outcome}",
        count()
    );
}

/// Whether nothing is in flight, queued or connected but the one who asks.
fn at_rest(router: &Router) -> bool {
    metric(router, "gpurouter_in_flight{", "") == 0.0
        && metric(router, "gpurouter_queued{", "") == 0.0
}

/// The router lives, holds nothing of what was done to it, and answers the next request.
fn survived(router: &mut Router, what: &str) {
    assert!(router.alive(), "{what}: the router died");
    assert!(
        eventually(LIMIT, || at_rest(router)),
        "{what}: something is still in flight"
    );
    let answer = client::get(router.addr, "/api/tags");
    assert_eq!(answer.status, 200, "{what}: {}", answer.text());
    let chat = post(router, "/api/chat", &chat_body(true));
    assert_eq!(
        (chat.status, chat.end),
        (200, End::Complete),
        "{what}: {}",
        chat.text()
    );
    assert_eq!(chat.lines().last().unwrap()["done"], true, "{what}");
}

/// The memory that the router has taken since `before`, in MiB.
fn grown_mib(router: &Router, before: u64) -> u64 {
    router.resources().rss_bytes.saturating_sub(before) / (1024 * 1024)
}

/// How long the router took to close a node's connection after its client had left; generous for a shared machine.
const SOON: Duration = Duration::from_millis(250);
