//! `gpurouter serve` as its clients see it: the real binary in front of scripted and simulated nodes.

#[path = "../common/mod.rs"]
mod common;

mod admission;
mod affinity;
mod bytes;
mod changes;
mod classes;
mod cpu;
mod early;
mod fallback;
mod forms;
mod lists;
mod measurements;
mod record;
mod residency;
mod running;
mod told;
mod truncation;

use std::fmt::Write;

use serde_json::{Value, json};

use common::Router;
use common::client::Response;

const SMALL: &str = "qwen2.5-coder:1.5b";
const LARGE: &str = "qwen2.5-coder:7b";

/// A configuration with these nodes (`name`, `url`) in this order, and the rest as written. Keys without a table go into `top`.
fn config(nodes: &[(&str, String)], rest: &str) -> String {
    let mut text = String::new();
    for (name, url) in nodes {
        writeln!(text, "[[node]]\nname = \"{name}\"\nurl = \"{url}\"").unwrap();
    }
    text + rest
}

/// A router with JSON logs in front of these nodes, when all of them are up.
fn start(nodes: &[(&str, String)], rest: &str) -> Router {
    let router = Router::start(&["--log-format", "json"], &config(nodes, rest));
    router.wait_ready(nodes.len());
    router
}

/// A chat request that is valid in Ollama's and OpenAI's form.
fn chat(model: &str, prompt: &str, stream: bool) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": prompt}], "stream": stream})
}

/// `X-Gpurouter-NAME` of an answer; panics when it is missing.
fn told<'r>(answer: &'r Response, name: &str) -> &'r str {
    answer
        .header(&format!("x-gpurouter-{name}"))
        .unwrap_or_else(|| panic!("no X-Gpurouter-{name} in {answer:?}"))
}

/// The record of an answer's request.
fn record(router: &Router, answer: &Response) -> Value {
    let id = told(answer, "id");
    router.wait_record(|record| record["id"] == id)
}
