//! `serve --record`: what came in, as a trace that the benchmarks read.

use std::fs;

use serde_json::{Value, json};

use crate::common::{LIMIT, Router, Scratch, Sim, client, eventually};

/// Lines of a trace.
fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a JSON line"))
        .collect()
}

fn recorded(arguments: &[&str]) -> (String, Vec<String>) {
    let mut args = vec!["--gpu", "rtx4090", "--clock", "virtual"];
    for model in ["qwen2.5-coder:7b", "qwen2.5-coder:1.5b", "nomic-embed-text"] {
        args.extend(["--model", model]);
    }
    let sim = Sim::start(&args);
    let scratch = Scratch::new();
    let file = scratch.path().join("trace.jsonl");
    let node = format!("sim={}", sim.urls[0]);
    let mut args = vec![
        "--node",
        node.as_str(),
        "--record",
        file.to_str().expect("UTF-8"),
    ];
    args.extend(arguments);
    let mut router = Router::start(&args, "");
    router.wait_ready(1);
    let long = "The shelf holds nine jars. ".repeat(200);
    let chat = |ask: &str| {
        json!({"model": "qwen2.5-coder:7b", "stream": false, "options": {"num_ctx": 8192, "num_predict": 5},
            "messages": [{"role": "user", "content": long}, {"role": "user", "content": ask}]})
    };
    for request in [chat("secret one"), chat("secret two")] {
        assert_eq!(client::post(router.addr, "/api/chat", &request).status, 200);
    }
    let streamed = json!({"model": "qwen2.5-coder:1.5b", "stream": true, "messages": [{"role": "user", "content": "short"}]});
    assert_eq!(
        client::post(router.addr, "/v1/chat/completions", &streamed).status,
        200
    );
    let embed = json!({"model": "nomic-embed-text", "input": "secret three"});
    assert_eq!(client::post(router.addr, "/api/embed", &embed).status, 200);
    // What asks for no work, or is nonsense, is no request of a trace.
    let load = json!({"model": "qwen2.5-coder:7b", "messages": []});
    assert_eq!(client::post(router.addr, "/api/chat", &load).status, 200);
    assert_eq!(
        client::post(router.addr, "/api/chat", &json!({"stream": 1})).status,
        400
    );
    let unknown = json!({"model": "none", "messages": [{"role": "user", "content": "x"}]});
    assert_eq!(client::post(router.addr, "/api/chat", &unknown).status, 404);
    assert_eq!(client::get(router.addr, "/api/tags").status, 200);
    // Lines are there before the end: a crash loses little.
    assert!(eventually(LIMIT, || {
        fs::read_to_string(&file).is_ok_and(|text| text.lines().count() == 4)
    }));
    router.terminate();
    assert!(
        router
            .wait_exit(LIMIT)
            .is_some_and(|status| status.success())
    );
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(&file).expect("the trace").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let told = router.stderr();
    assert!(
        told.iter().any(|line| line.contains("recorded 4 requests")),
        "{told:#?}"
    );
    (fs::read_to_string(&file).expect("the trace"), told)
}

#[test]
fn a_trace_has_the_contracts_shape_and_no_word_of_the_prompts() {
    let (text, _) = recorded(&[]);
    assert!(
        !text.contains("secret") && !text.contains("shelf") && !text.contains("short"),
        "{text}"
    );
    let lines = lines(&text);
    let names = [
        "at_ms",
        "session",
        "lane",
        "model",
        "ctx",
        "tokens_in",
        "tokens_out",
        "prefix",
        "images",
        "stream",
    ];
    for line in &lines {
        let object = line.as_object().expect("an object");
        assert_eq!(object.keys().collect::<Vec<_>>(), names, "{line}");
    }
    let [one, two, streamed, embed] = &lines[..] else {
        panic!("{lines:#?}");
    };
    assert_eq!(
        (&one["model"], &one["ctx"], &one["tokens_out"]),
        (&json!("qwen2.5-coder:7b"), &json!(8192), &json!(5))
    );
    let blocks = one["prefix"].as_array().expect("hashes").len() as u64;
    let tokens = one["tokens_in"].as_u64().expect("a count");
    assert!(
        blocks >= 4 && blocks * 256 <= tokens,
        "{blocks} blocks of {tokens} tokens"
    );
    // Both begin alike, and end otherwise.
    assert_eq!(one["prefix"], two["prefix"]);
    assert_eq!(
        (&streamed["stream"], &streamed["ctx"], &one["stream"]),
        (&json!(true), &Value::Null, &json!(false))
    );
    assert_eq!(
        (&embed["lane"], &one["lane"]),
        (&json!("embedding"), &json!("interactive"))
    );
    assert!(one["at_ms"].as_u64() <= two["at_ms"].as_u64());
}

#[test]
fn what_is_recorded_is_what_replay_and_live_read() {
    let (text, _) = recorded(&[]);
    let requests = gpurouter::replay::parse(&text).expect("a trace");
    assert_eq!(requests.len(), 4);
    for (request, line) in requests.iter().zip(lines(&text)) {
        assert_eq!(json!(request.at_ms), line["at_ms"]);
        assert_eq!(json!(request.prefix), line["prefix"]);
        assert_eq!(json!(request.tokens_in), line["tokens_in"]);
        assert_eq!(json!(request.ctx), line["ctx"]);
        assert_eq!(json!(request.lane), line["lane"]);
    }
    // Written by replay and read again, it is the same.
    let again = gpurouter::replay::write(&requests);
    assert_eq!(gpurouter::replay::parse(&again).expect("a trace"), requests);
    let live = gpurouter::live::read_trace(&text).expect("a trace");
    assert_eq!(
        (live.prompts.len(), live.left_out, live.text),
        (3, 1, false)
    );
}

#[test]
fn the_prompts_are_there_only_when_they_are_asked_for() {
    let (text, _) = recorded(&["--record-prompts"]);
    let lines = lines(&text);
    assert_eq!(
        lines[0]["prompt"][1],
        json!({"role": "user", "content": "secret one"})
    );
    let live = gpurouter::live::read_trace(&text).expect("a trace");
    assert!(live.text);
    assert_eq!(live.prompts[1].messages[1].content, "secret two");
}

#[test]
fn a_trace_is_never_written_over() {
    let scratch = Scratch::new();
    let file = scratch.write("trace.jsonl", "mine\n");
    let done = crate::common::command(&scratch)
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--node",
            "http://127.0.0.1:9",
            "--record",
        ])
        .arg(&file)
        .output()
        .expect("the binary that cargo built");
    assert_eq!(done.status.code(), Some(2));
    let told = String::from_utf8_lossy(&done.stderr);
    assert!(told.contains("a trace is never written over"), "{told}");
    assert_eq!(fs::read_to_string(&file).expect("the file"), "mine\n");
}
