//! One API in front of nodes that speak another: Ollama's and Anthropic's forms on chat completions.

use std::time::Duration;

use serde_json::{Value, json};

use super::common::client::{self, End};
use super::common::{Kind, Peer, Request, Router, Stub, reply};
use super::{chat, record, start, told};

fn llama(handler: impl Fn(&Request, &mut Peer) + Send + Sync + 'static) -> (Stub, Router) {
    let node = Stub::llama_server("tiny", handler);
    let router = start(&[("llama", node.url())], "");
    (node, router)
}

#[test]
fn an_ollama_chat_on_a_llama_server() {
    let (node, router) = llama(reply::healthy);
    let body = json!({"model": "tiny", "stream": false, "options": {"temperature": 0.5, "num_predict": 7, "stop": ["x"]},
        "messages": [{"role": "system", "content": "be short"}, {"role": "user", "content": "hi"}]});
    let answer = client::post(router.addr, "/api/chat", &body);
    assert_eq!(
        (answer.status, told(&answer, "node")),
        (200, "llama"),
        "{answer:?}"
    );
    let told_back = answer.json();
    assert_eq!(
        (&told_back["message"], &told_back["done"]),
        (
            &json!({"role": "assistant", "content": "one two three"}),
            &json!(true)
        )
    );
    assert_eq!(
        (&told_back["prompt_eval_count"], &told_back["eval_count"]),
        (&json!(10), &json!(3))
    );
    assert!(
        told_back["created_at"].is_string() && told_back["total_duration"].is_u64(),
        "{told_back}"
    );
    let seen = &node.requests()[0];
    assert_eq!(seen.path(), "/v1/chat/completions");
    let sent = seen.json();
    assert_eq!(
        (&sent["temperature"], &sent["max_tokens"], &sent["stop"]),
        (&json!(0.5), &json!(7), &json!(["x"]))
    );
    assert_eq!(sent["messages"], body["messages"]);
    let record = record(&router, &answer);
    assert_eq!(
        (
            &record["dialect"],
            &record["tokens"]["prompt"],
            &record["tokens"]["completion"]
        ),
        (&json!("ollama"), &json!(10), &json!(3))
    );
}

#[test]
fn an_ollama_stream_on_a_llama_server_arrives_piece_by_piece() {
    let (_node, router) = llama(|_, peer| {
        peer.send_slowly(
            &reply::openai_chat("tiny", &["one ", "two ", "three"]),
            Duration::from_millis(60),
        );
    });
    // Without `stream`, Ollama streams.
    let body = json!({"model": "tiny", "messages": [{"role": "user", "content": "hi"}]});
    let answer = client::post(router.addr, "/api/chat", &body);
    assert_eq!((answer.status, answer.end), (200, End::Complete));
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    let lines = answer.lines();
    let text: String = lines
        .iter()
        .filter_map(|line| line["message"]["content"].as_str())
        .collect();
    assert_eq!(text, "one two three");
    let last = lines.last().unwrap();
    assert_eq!(
        (&last["done"], &last["done_reason"]),
        (&json!(true), &json!("stop"))
    );
    assert_eq!(lines.iter().filter(|line| line["done"] == true).count(), 1);
    assert!(
        answer.arrivals(Duration::from_millis(20)) >= 3,
        "{:?}",
        answer.pieces
    );
    let generated = client::post(
        router.addr,
        "/api/generate",
        &json!({"model": "tiny", "prompt": "hi"}),
    );
    let text: String = generated
        .lines()
        .iter()
        .filter_map(|line| line["response"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(text, "one two three");
    assert_eq!(generated.lines().last().unwrap()["done"], true);
}

#[test]
fn a_cut_translated_stream_has_no_clean_end() {
    let (_node, router) = llama(|_, peer| {
        peer.send(&reply::openai_chat("tiny", &["one ", "two"])[..3].concat());
        std::thread::sleep(Duration::from_millis(50));
        peer.close();
    });
    let answer = client::post(router.addr, "/api/chat", &chat("tiny", "hi", true));
    let lines = answer.lines();
    assert!(lines.last().unwrap()["error"].is_string(), "{lines:?}");
    assert!(lines.iter().all(|line| line["done"] != true));
    assert_eq!(record(&router, &answer)["outcome"], "cut");
}

#[test]
fn tools_are_translated_both_ways() {
    let (node, router) = llama(|request, peer| {
        assert_eq!(request.json()["tools"][0]["function"]["name"], "weather");
        let mut answer = reply::openai_whole("tiny", "");
        answer["choices"][0]["message"] = json!({"role": "assistant", "content": null, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{\"city\":\"Porto\"}"}}]});
        answer["choices"][0]["finish_reason"] = json!("tool_calls");
        peer.send(&reply::json(200, &answer));
    });
    let tool = json!({"type": "function", "function": {"name": "weather", "description": "d", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}});
    let body = json!({"model": "tiny", "stream": false, "tools": [tool], "messages": [
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Faro"}}}]},
        {"role": "tool", "content": "sunny", "tool_name": "weather"},
        {"role": "user", "content": "and Porto?"}]});
    let answer = client::post(router.addr, "/api/chat", &body);
    assert_eq!(answer.status, 200, "{answer:?}");
    let call = &answer.json()["message"]["tool_calls"][0]["function"];
    assert_eq!(
        (&call["name"], &call["arguments"]),
        (&json!("weather"), &json!({"city": "Porto"}))
    );
    // Arguments are text in OpenAI's form, and a tool's result names the call it answers.
    let messages = &node.requests()[0].json()["messages"];
    assert_eq!(
        messages[1]["tool_calls"][0]["function"]["arguments"],
        "{\"city\":\"Faro\"}"
    );
    assert_eq!(
        messages[2]["tool_call_id"],
        messages[1]["tool_calls"][0]["id"]
    );
}

#[test]
fn an_error_of_the_node_is_told_in_the_clients_words() {
    let (_node, router) = llama(|_, peer| {
        let error = json!({"error": {"code": 400, "message": "request (18015 tokens) exceeds the available context size (2048 tokens)",
            "type": "exceed_context_size_error", "n_prompt_tokens": 18015, "n_ctx": 2048}});
        peer.send(&reply::json(400, &error));
    });
    let ollama = client::post(router.addr, "/api/chat", &chat("tiny", "hi", true));
    let error = ollama.json()["error"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(
        ollama.status == 400 && error.contains("18015") && error.contains("2048"),
        "{ollama:?}"
    );
    let anthropic = client::post(
        router.addr,
        "/v1/messages",
        &json!({"model": "tiny", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}),
    );
    let error = anthropic.json()["error"].clone();
    assert_eq!(
        (anthropic.status, &error["type"]),
        (400, &json!("invalid_request_error"))
    );
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|text| text.starts_with("prompt is too long: 18015 tokens > 2048")),
        "{error}"
    );
}

fn messages(stream: bool) -> Value {
    json!({"model": "n", "max_tokens": 50, "stream": stream, "system": "be short", "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]})
}

#[test]
fn anthropic_messages_on_a_node_that_knows_chat_completions_only() {
    let node = Stub::start(Kind::OpenAi, &["n"], reply::healthy);
    let router = start(&[("plain", node.url())], "");
    let answer = client::post(router.addr, "/v1/messages?beta=true", &messages(false));
    assert_eq!(answer.status, 200, "{answer:?}");
    let whole = answer.json();
    assert_eq!(
        (&whole["type"], &whole["role"], &whole["stop_reason"]),
        (&json!("message"), &json!("assistant"), &json!("end_turn"))
    );
    assert_eq!(
        (
            &whole["content"][0]["text"],
            &whole["usage"]["output_tokens"]
        ),
        (&json!("one two three"), &json!(3))
    );
    let seen = &node.requests()[0];
    assert_eq!(
        (seen.path(), &seen.json()["messages"][0]),
        (
            "/v1/chat/completions",
            &json!({"role": "system", "content": "be short"})
        )
    );
    let streamed = client::post(router.addr, "/v1/messages", &messages(true));
    let events: Vec<String> = streamed
        .events()
        .into_iter()
        .filter_map(|(event, _)| event)
        .collect();
    assert_eq!(
        (
            events.first().map(String::as_str),
            events.last().map(String::as_str)
        ),
        (Some("message_start"), Some("message_stop")),
        "{events:?}"
    );
    let text: String = streamed
        .events()
        .iter()
        .filter_map(|(_, data)| {
            serde_json::from_str::<Value>(data).ok()?["delta"]["text"]
                .as_str()
                .map(str::to_owned)
        })
        .collect();
    assert_eq!(text, "one two three");
}

#[test]
fn tokens_are_counted_by_the_node_or_estimated() {
    let [counting, plain] = [
        Stub::llama_server("m", count),
        Stub::ollama(&["n"], reply::healthy),
    ];
    counting.set_forms(&["/v1/messages", "/v1/messages/count_tokens"]);
    let router = start(&[("counting", counting.url()), ("plain", plain.url())], "");
    let count_of = |model: &str, text: &str| {
        let body = json!({"model": model, "messages": [{"role": "user", "content": text}]});
        let answer = client::post(router.addr, "/v1/messages/count_tokens", &body);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["input_tokens"].as_u64().unwrap()
    };
    assert_eq!(count_of("m", "hi"), 4242);
    let sentence = "The quick brown fox jumps over the lazy dog. ";
    let (short, long) = (count_of("n", sentence), count_of("n", &sentence.repeat(20)));
    assert!(
        (8..30).contains(&short) && (180..400).contains(&long),
        "{short} {long}"
    );
    assert!(plain.requests().is_empty());
}

fn count(_: &Request, peer: &mut Peer) {
    peer.send(&reply::json(200, &json!({"input_tokens": 4242})));
}
