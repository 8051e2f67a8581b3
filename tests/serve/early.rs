//! Answers that begin before the node's: legal pieces in each dialect, fail-over behind them, errors in band, trailers.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::common::client::{self, End, Response};
use super::common::{Stub, reply};
use super::{chat, start};

const EARLY: &str = "[context]\nearly_response = \"200ms\"\n";

/// A node that says nothing for a while, then streams.
fn slow() -> Stub {
    let node = Stub::ollama(&["m"], |request, peer| {
        thread::sleep(Duration::from_millis(700));
        let pieces = match request.path() {
            "/api/chat" => reply::ollama_chat("m", &["one ", "two"]),
            _ => reply::openai_chat("m", &["one ", "two"]),
        };
        peer.send(&pieces.concat());
    });
    node.set_loaded(&["m"]);
    node
}

fn post(router: &super::Router, path: &str, body: &Value) -> Response {
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nTE: trailers\r\nConnection: TE\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    client::send(router.addr, request.as_bytes())
}

/// NDJSON as a strict client reads it: every line is a document.
fn documents(text: &str) -> Vec<Value> {
    assert!(text.ends_with('\n'), "{text}");
    let lines = text.strip_suffix('\n').unwrap().split('\n');
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?}: {error}")))
        .collect()
}

/// Events as the standard wants them read: comments are left out, an event ends with an empty line.
fn events(text: &str) -> Vec<(String, String)> {
    let mut events = Vec::new();
    for block in text.split("\n\n").filter(|block| !block.is_empty()) {
        let (mut name, mut data) = (String::new(), String::new());
        for line in block.lines().filter(|line| !line.starts_with(':')) {
            let (field, value) = line.split_once(':').unwrap_or_else(|| panic!("{line:?}"));
            match field {
                "event" => value.trim().clone_into(&mut name),
                "data" => data.push_str(value.strip_prefix(' ').unwrap_or(value)),
                other => panic!("field {other:?}"),
            }
        }
        if !data.is_empty() {
            events.push((name, data));
        }
    }
    events
}

fn early(answer: &Response, content_type: &str) {
    assert_eq!(
        (answer.status, answer.end, answer.header("content-type")),
        (200, End::Complete, Some(content_type)),
        "{answer:?}"
    );
    assert!(
        answer.head_at < Duration::from_millis(600),
        "{:?}",
        answer.head_at
    );
}

#[test]
fn an_ollama_client_reads_empty_pieces_and_never_an_empty_line() {
    let node = slow();
    let router = start(&[("only", node.url())], EARLY);
    let answer = post(&router, "/api/chat", &chat("m", "hi", true));
    early(&answer, "application/x-ndjson");
    let documents = documents(&answer.text());
    assert_eq!(documents[0]["message"]["content"], "");
    let said: String = documents
        .iter()
        .map(|line| {
            line["message"]["content"]
                .as_str()
                .expect("a message in every line")
        })
        .collect();
    assert_eq!(said, "one two");
    assert!(documents.len() >= 5, "{documents:?}");
    let done: Vec<bool> = documents.iter().map(|line| line["done"] == true).collect();
    assert_eq!(done.iter().filter(|done| **done).count(), 1);
    assert_eq!(done.last(), Some(&true));
    let told: Vec<&str> = answer
        .trailers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    assert!(
        told.iter()
            .any(|name| name.eq_ignore_ascii_case("x-gpurouter-node")),
        "{told:?}"
    );
}

#[test]
fn an_openai_client_reads_comments() {
    let node = slow();
    let router = start(&[("only", node.url())], EARLY);
    let answer = post(&router, "/v1/chat/completions", &chat("m", "hi", true));
    early(&answer, "text/event-stream");
    assert!(answer.text().starts_with(": ping\n\n"), "{}", answer.text());
    let events = events(&answer.text());
    let said: String = events
        .iter()
        .filter_map(|(_, data)| serde_json::from_str::<Value>(data).ok())
        .filter_map(|data| {
            Some(
                data.pointer("/choices/0/delta/content")?
                    .as_str()?
                    .to_owned(),
            )
        })
        .collect();
    assert_eq!(said, "one two");
    assert_eq!(events.last().map(|(_, data)| data.as_str()), Some("[DONE]"));
}

#[test]
fn an_anthropic_client_reads_pings() {
    let node = slow();
    let router = start(&[("only", node.url())], EARLY);
    let mut request = chat("m", "hi", true);
    request["max_tokens"] = json!(5);
    let answer = post(&router, "/v1/messages", &request);
    early(&answer, "text/event-stream");
    let events = events(&answer.text());
    let names: Vec<&str> = events.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names[0], "ping");
    let start = names.iter().position(|name| *name != "ping").unwrap();
    assert_eq!(names[start], "message_start", "{names:?}");
    assert_eq!(names.last(), Some(&"message_stop"), "{names:?}");
    for (name, data) in &events {
        let data: Value = serde_json::from_str(data).unwrap();
        assert_eq!(data["type"], name.as_str());
    }
}

#[test]
fn a_cold_load_is_bridged_and_an_answer_that_is_no_stream_is_not() {
    let node = Stub::ollama(&["m"], reply::healthy);
    node.set_load(Duration::from_millis(900), 200);
    let router = start(&[("only", node.url())], EARLY);
    let answer = post(&router, "/api/chat", &chat("m", "hi", true));
    early(&answer, "application/x-ndjson");
    assert!(documents(&answer.text()).len() >= 4 + 2);
    let node = slow();
    let router = start(&[("only", node.url())], EARLY);
    let answer = post(&router, "/api/chat", &chat("m", "hi", false));
    assert!(
        answer.head_at >= Duration::from_millis(600),
        "{:?}",
        answer.head_at
    );
}

#[test]
fn another_node_takes_over_behind_an_early_answer() {
    let broken = Stub::ollama(&["m"], |_, peer| {
        thread::sleep(Duration::from_millis(500));
        peer.close();
    });
    let good = Stub::ollama(&["m"], reply::healthy);
    for node in [&broken, &good] {
        node.set_loaded(&["m"]);
    }
    let router = start(&[("broken", broken.url()), ("good", good.url())], EARLY);
    let answer = post(&router, "/api/chat", &chat("m", "hi", true));
    early(&answer, "application/x-ndjson");
    assert_eq!(documents(&answer.text()).last().unwrap()["done"], true);
    let trailer = |name: &str| {
        let mut found = answer
            .trailers
            .iter()
            .filter(|(field, _)| field.eq_ignore_ascii_case(name));
        found
            .next()
            .map(|(_, value)| value.clone())
            .unwrap_or_default()
    };
    assert_eq!(trailer("x-gpurouter-node"), "good");
    assert!(
        trailer("x-gpurouter-fallback").starts_with("broken="),
        "{:?}",
        answer.trailers
    );
}

#[test]
fn what_goes_wrong_behind_an_early_answer_is_told_in_band() {
    let node = Stub::ollama(&["m"], |_, peer| {
        thread::sleep(Duration::from_millis(500));
        peer.send(&reply::json(500, &json!({"error": "it broke"})));
    });
    node.set_loaded(&["m"]);
    let router = start(&[("only", node.url())], EARLY);
    let answer = post(&router, "/api/chat", &chat("m", "hi", true));
    early(&answer, "application/x-ndjson");
    let last = documents(&answer.text()).pop().unwrap();
    assert!(
        last["error"]
            .as_str()
            .is_some_and(|text| text.contains("it broke")),
        "{last}"
    );
    let answer = post(&router, "/v1/chat/completions", &chat("m", "hi", true));
    early(&answer, "text/event-stream");
    assert!(
        events(&answer.text())
            .iter()
            .any(|(_, data)| data.contains("it broke"))
    );
    let mut request = chat("m", "hi", true);
    request["max_tokens"] = json!(5);
    let answer = post(&router, "/v1/messages", &request);
    early(&answer, "text/event-stream");
    let (name, data) = events(&answer.text()).pop().unwrap();
    assert!(
        name == "error" && data.contains("it broke"),
        "{name} {data}"
    );
}
