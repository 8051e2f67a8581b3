//! Whole translations: real upstream streams in, a client's stream out.

mod embeddings;
mod messages;
mod native;
mod ollama;
mod properties;
mod responses;

use serde_json::Value;

use super::{Action, Form, Stamp, TranslateError, Translated, request};

const LLAMA_STREAM: &[u8] = include_bytes!("../testdata/llama_chat_stream.sse");
const LLAMA_COMPLETIONS: &[u8] = include_bytes!("../testdata/llama_completions_stream.sse");
const OLLAMA_STREAM: &[u8] = include_bytes!("../testdata/ollama_chat_stream.sse");
const NO_USAGE_STREAM: &[u8] = include_bytes!("../testdata/llama_cpp_python_chat_stream.sse");
const LLAMA_WHOLE: &[u8] = include_bytes!("../testdata/llama_chat.json");
const LLAMA_LOGPROBS: &[u8] = include_bytes!("../testdata/llama_chat_logprobs.json");
const LLAMA_EMBEDDINGS: &[u8] = include_bytes!("../testdata/llama_embeddings.json");
/// Written by hand after llama-server's form: the tiny model of the recordings calls no tools.
const TOOLS_STREAM: &[u8] = include_bytes!("../testdata/tools_stream.sse");

fn stamp() -> Stamp {
    Stamp {
        created_unix: 1_795_209_373,
        created_at: "2026-11-20T21:46:10Z".to_owned(),
        id: "7f".to_owned(),
    }
}

fn act(form: Form, body: &str) -> Result<Action, TranslateError> {
    request(form, body.as_bytes(), "at-node", "shown", stamp())
}

fn send(form: Form, body: &str) -> Translated {
    match act(form, body) {
        Ok(Action::Send(translated)) => *translated,
        other => panic!("{other:?}"),
    }
}

fn sent(form: Form, body: &str) -> Value {
    serde_json::from_slice(&send(form, body).body).unwrap()
}

fn refusal(form: Form, body: &str) -> String {
    act(form, body).unwrap_err().message
}

/// The client's stream when the node's arrives in `pieces`, at one fixed moment.
fn stream_in(form: Form, body: &str, pieces: &[&[u8]]) -> String {
    let mut reply = send(form, body).reply;
    let mut out = Vec::new();
    for piece in pieces {
        reply.push(piece, 5_000, &mut out);
    }
    reply.finish(9_000, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn stream(form: Form, body: &str, upstream: &[u8]) -> String {
    stream_in(form, body, &[upstream])
}

fn whole(form: Form, body: &str, upstream: &[u8]) -> String {
    String::from_utf8(send(form, body).reply.whole(upstream, 9_000).unwrap()).unwrap()
}

/// The `data` of each event, with its name checked against its type.
fn events(stream: &str) -> Vec<Value> {
    stream
        .split_terminator("\n\n")
        .map(|event| {
            let (name, data) = event.split_once('\n').unwrap();
            let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
            assert_eq!(name, format!("event: {}", data["type"].as_str().unwrap()));
            data
        })
        .collect()
}

fn types(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect()
}
