//! Prompts that a node cuts without a word are reported everywhere; whole ones are not.

use serde_json::{Value, json};

use super::common::client::{self, End, Response};
use super::common::{Peer, Request, Router, Sim, Stub, reply};
use super::{chat, record, start, told};

/// About so many tokens of English.
fn prompt(tokens: usize) -> String {
    const TEXT: &str =
        "The river has risen since the morning and the road to the mill is under water now. ";
    TEXT.repeat(tokens / 18)
}

/// An Ollama that says it read so many tokens, whatever it was sent.
fn reading(tokens: u64) -> Stub {
    Stub::ollama(&["m"], move |request: &Request, peer: &mut Peer| {
        let stream = request.json()["stream"].as_bool() != Some(false);
        if stream {
            let pieces = reply::ollama_chat("m", &["one"]).concat();
            let text = String::from_utf8(pieces).unwrap();
            // The counter keeps its length, so that the chunk's size stays right.
            let counted = format!("\"prompt_eval_count\":{}", tokens % 100);
            peer.send(
                text.replace("\"prompt_eval_count\":10", &counted)
                    .as_bytes(),
            );
        } else {
            let mut answer = reply::ollama_whole("m", "one");
            answer["prompt_eval_count"] = json!(tokens);
            peer.send(&reply::json(200, &answer));
        }
    })
}

fn warnings(router: &Router) -> Vec<Value> {
    let status = router.api("/gpurouter/api/status");
    let warnings = status["warnings"].as_array().unwrap();
    let mut warnings = warnings.clone();
    warnings.retain(|warning| warning["code"] == "prompt_truncated");
    warnings
}

#[test]
fn a_cut_prompt_is_told_in_the_header_the_record_the_log_the_metrics_and_the_status() {
    let stub = reading(1026);
    let router = start(&[("a", stub.url())], "");
    let mut asked = chat("m", &prompt(9000), false);
    asked["options"] = json!({"num_ctx": 2048});
    let answer = client::post(router.addr, "/api/chat", &asked);
    assert_eq!((answer.status, answer.end), (200, End::Complete));
    let header = told(&answer, "truncated");
    assert!(header.starts_with("1; estimated="), "{header}");
    assert!(header.ends_with(", read=1026, window=2048"), "{header}");
    let record = record(&router, &answer);
    assert_eq!(record["truncated"], true, "{record}");
    router.wait_record(|line| {
        let message = line["message"].as_str().unwrap_or("");
        line["level"] == "warning" && message.contains("the prompt was cut: 1026 of about")
    });
    let metrics = client::get(router.addr, "/metrics").text();
    let counter = "gpurouter_truncated_prompts_total{node=\"a\",model=\"m\"} 1";
    assert!(metrics.contains(counter), "{metrics}");
    client::post(router.addr, "/api/chat", &asked);
    let warnings = warnings(&router);
    assert_eq!(
        warnings.len(),
        1,
        "once for a model on a node: {warnings:?}"
    );
    let text = warnings[0]["text"].as_str().unwrap();
    assert!(
        text.contains("2 prompts were cut") && text.contains("1026"),
        "{text}"
    );
    assert!(warnings[0]["cure"].as_str().unwrap().contains("num_ctx"));
    let why = router.api(&format!("/gpurouter/api/why/{}", told(&answer, "id")));
    let timeline = why["timeline"].to_string();
    assert!(timeline.contains("a cut the prompt"), "{why}");
}

#[test]
fn a_stream_tells_it_in_a_trailer_to_a_client_that_takes_trailers() {
    let stub = reading(26);
    let router = start(&[("a", stub.url())], "");
    let body = chat("m", &prompt(3000), true).to_string();
    let ask = |more: &str| -> Response {
        let head = format!(
            "POST /api/chat HTTP/1.1\r\nHost: {}\r\n{more}Content-Length: {}\r\n\r\n",
            router.addr,
            body.len()
        );
        client::send(router.addr, &[head.as_bytes(), body.as_bytes()].concat())
    };
    let answer = ask("TE: trailers\r\nConnection: TE\r\n");
    assert_eq!(answer.end, End::Complete, "{answer:?}");
    let trailer = answer
        .trailers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("x-gpurouter-truncated"))
        .unwrap_or_else(|| panic!("{answer:?}"));
    assert!(trailer.1.contains("read=26"), "{trailer:?}");
    assert_eq!(record(&router, &answer)["truncated"], true);
}

#[test]
fn a_stream_without_trailers_tells_it_in_the_record() {
    let stub = reading(26);
    let router = start(&[("a", stub.url())], "");
    let answer = client::post(router.addr, "/api/chat", &chat("m", &prompt(3000), true));
    assert!(answer.trailers.is_empty());
    assert_eq!(record(&router, &answer)["truncated"], true);
}

#[test]
fn a_whole_prompt_is_not_suspected_and_one_that_was_in_the_cache_is_not_judged() {
    let whole = reading(3000);
    let router = start(&[("a", whole.url())], "");
    let answer = client::post(router.addr, "/api/chat", &chat("m", &prompt(3000), false));
    assert_eq!(answer.header("x-gpurouter-truncated"), None);
    assert_eq!(record(&router, &answer)["truncated"], false);
    assert!(warnings(&router).is_empty());
    drop(router);
    // An old Ollama that leaves tokens of its cache out of its count.
    let first = std::sync::atomic::AtomicBool::new(true);
    let leaving = Stub::ollama(&["m"], move |_: &Request, peer: &mut Peer| {
        let mut answer = reply::ollama_whole("m", "one");
        let cold = first.swap(false, std::sync::atomic::Ordering::SeqCst);
        answer["prompt_eval_count"] = json!(if cold { 3000 } else { 12 });
        peer.send(&reply::json(200, &answer));
    });
    let router = start(&[("a", leaving.url())], "");
    let words = prompt(3000);
    client::post(router.addr, "/api/chat", &chat("m", &words, false));
    let further = words + "And a further question?";
    let again = client::post(router.addr, "/api/chat", &chat("m", &further, false));
    assert_eq!(again.header("x-gpurouter-truncated"), None);
    assert_eq!(record(&router, &again)["truncated"], Value::Null);
    assert!(warnings(&router).is_empty());
}

#[test]
fn five_ways_of_cutting_are_found_behind_the_real_router() {
    for shape in ["half", "window", "front", "tail", "middle"] {
        let fault = format!("truncate={shape}:2048");
        let sim = Sim::start(&["--gpu", "rtx3060", "--clock", "virtual", "--fault", &fault]);
        let router = start(&[("a", sim.urls[0].clone())], "");
        let model = "qwen2.5-coder:1.5b";
        for (path, tokens, cut) in [
            ("/v1/chat/completions", 300, false),
            ("/v1/chat/completions", 1200, false),
            ("/v1/chat/completions", 3000, true),
            ("/api/chat", 1200, false),
            ("/api/chat", 3000, true),
            // The router has a larger context loaded for it; the node cuts all the same.
            ("/api/chat", 9000, true),
        ] {
            let answer = client::post(router.addr, path, &chat(model, &prompt(tokens), false));
            assert_eq!(answer.status, 200, "{answer:?}");
            let header = answer.header("x-gpurouter-truncated");
            assert_eq!(header.is_some(), cut, "{shape} {tokens} {path}: {answer:?}");
            let told = record(&router, &answer)["truncated"].clone();
            assert_eq!(told, cut, "{shape} {tokens} {path}");
        }
    }
}
