//! What the router tells of itself: headers, records, counters, `why`, and the same answer from `route`.

use std::process::Stdio;

use serde_json::{Value, json};

use super::common::client::{self, Response};
use super::common::{LIMIT, Router, Scratch, Sim, Stub, command, eventually, reply};
use super::{LARGE, SMALL, chat, record, start, told};

/// `gpurouter route --json` as a user of the running router calls it.
fn route(router: &Router, arguments: &[&str]) -> (i32, Value) {
    let scratch = Scratch::new();
    let file = scratch.write("gpurouter.toml", &format!("listen = \"{}\"\n", router.addr));
    let output = command(&scratch)
        .args(["--json", "--config"])
        .arg(file)
        .arg("route")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let document = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| json!(String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), document)
}

fn same(answer: &Response, document: &Value) {
    let decision = &document["decision"];
    for name in ["node", "model", "tier", "plan", "reason"] {
        assert_eq!(decision[name], told(answer, name), "{name}: {document}");
    }
}

#[test]
fn route_says_what_serve_does() {
    let sim = Sim::start(&[
        "--gpu",
        "rtx4080super",
        "--gpu",
        "rtx3060",
        "--clock",
        "virtual",
    ]);
    let classes = "[routing]\nsimple = { model = \"qwen2.5-coder:1.5b\", prefer = \"gpu1\" }\nmoderate = { model = \"qwen2.5-coder:7b\" }\ncomplex = { model = \"qwen2.5-coder:7b\", prefer = \"gpu0\" }\n[aliases]\n\"gpt-*\" = \"qwen2.5-coder:7b\"\n";
    let router = start(
        &[("gpu0", sim.urls[0].clone()), ("gpu1", sim.urls[1].clone())],
        classes,
    );
    for (model, prompt) in [
        (
            "auto",
            "Implement a binary search tree with insert and delete",
        ),
        ("auto", "Write a docstring for a sort function"),
        ("auto", "Refactor this code to improve performance"),
        (SMALL, "Implement a compiler"),
        (LARGE, "hi"),
        ("gpt-5", "hi"),
    ] {
        let (code, document) = route(&router, &["--model", model, prompt]);
        assert_eq!(
            (code, &document["source"]),
            (0, &json!("router")),
            "{document}"
        );
        let answer = client::post(
            router.addr,
            "/v1/chat/completions",
            &chat(model, prompt, false),
        );
        assert_eq!(answer.status, 200, "{answer:?}");
        same(&answer, &document);
        // The same request as a body instead of words.
        let scratch = Scratch::new();
        let file = scratch.write("body.json", &chat(model, prompt, true).to_string());
        let (code, from_body) = route(&router, &["--messages", file.to_str().unwrap()]);
        assert_eq!(
            (code, &from_body["decision"]["model"]),
            (0, &document["decision"]["model"])
        );
    }
    let (code, error) = route(&router, &["--model", "qwen2.5-coder:7", "hi"]);
    assert_eq!(code, 1, "{error}");
    assert!(
        error
            .as_str()
            .is_some_and(|text| text.contains("qwen2.5-coder:7b")),
        "{error}"
    );
    assert_eq!(
        client::post(
            router.addr,
            "/api/chat",
            &chat("qwen2.5-coder:7", "hi", false)
        )
        .status,
        404
    );
    // Nothing that was only asked about is remembered as a request.
    let remembered = || {
        router.api("/gpurouter/api/decisions")["decisions"]
            .as_array()
            .unwrap()
            .len()
    };
    assert!(eventually(LIMIT, || remembered() >= 7));
    assert_eq!(remembered(), 7);
}

#[test]
fn a_request_is_told_the_same_way_everywhere() {
    let node = Stub::ollama(&["m"], reply::healthy);
    let router = start(&[("only", node.url())], "");
    let body = chat("m", "hi", true).to_string();
    let request = format!(
        "POST /api/chat?x=1 HTTP/1.1\r\nHost: {}\r\nUser-Agent: tester/1\r\nX-Gpurouter-Task: docstring\r\nContent-Length: {}\r\n\r\n{body}",
        router.addr,
        body.len()
    );
    let answer = client::send(router.addr, request.as_bytes());
    let logged = record(&router, &answer);
    assert_eq!(
        (
            &logged["path"],
            &logged["task"],
            &logged["status"],
            &logged["outcome"]
        ),
        (
            &json!("/api/chat"),
            &json!("docstring"),
            &json!(200),
            &json!("ok")
        )
    );
    assert!(logged["client"].as_str().is_some_and(|client| client.starts_with("127.0.0.1:") && client.ends_with(" tester/1")), "{logged}");
    assert_eq!(
        (
            &logged["tokens"]["prompt"],
            &logged["tokens"]["completion"],
            &logged["node"]
        ),
        (&json!(10), &json!(3), &json!("only"))
    );
    for (field, header) in [
        ("id", "id"),
        ("node", "node"),
        ("model", "model"),
        ("tier", "tier"),
        ("plan", "plan"),
        ("reason", "reason"),
    ] {
        assert_eq!(logged[field], told(&answer, header), "{field}");
    }
    let newest = router.api("/gpurouter/api/decisions?limit=1");
    // The log's line is the record, and beside it the names that the source documents' readers know.
    let mut record = logged.clone();
    for (name, value) in [
        ("route", json!("local")),
        ("tokens_in", json!(10)),
        ("tokens_out", json!(3)),
        ("total_tokens", json!(13)),
        ("latency_ms", logged["timings"]["total_ms"].clone()),
        ("dual_gpu_enabled", json!(false)),
    ] {
        let told = record.as_object_mut().unwrap().remove(name);
        assert_eq!(told, Some(value), "{name}");
    }
    let logged = record;
    assert_eq!(newest["decisions"][0], logged);
    let why = router.api(&format!("/gpurouter/api/why/{}", told(&answer, "id")));
    for (field, value) in logged.as_object().unwrap() {
        assert_eq!(&why[field], value, "{field}");
    }
    assert_eq!(
        (
            &why["candidates"][0]["node"],
            &why["candidates"][0]["admitted"]
        ),
        (&json!("only"), &json!(true))
    );
    assert!(
        why["timeline"]
            .as_array()
            .is_some_and(|steps| steps.len() >= 3),
        "{why}"
    );
    assert_eq!(
        client::get(router.addr, "/gpurouter/api/why/0000").status,
        404
    );
}

#[test]
fn counters_add_up_to_the_requests_that_were_sent() {
    let [a, b] = [
        Stub::ollama(&["m"], reply::healthy),
        Stub::ollama(&["n"], reply::healthy),
    ];
    let router = start(&[("a", a.url()), ("b", b.url())], "");
    for model in ["m", "n", "n", "nope"] {
        let answer = client::post(router.addr, "/api/chat", &chat(model, "hi", false));
        // Counted when it is written down, which is after the last byte.
        record(&router, &answer);
    }
    let metrics = client::get(router.addr, "/metrics");
    assert!(
        metrics
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("text/plain"))
    );
    let text = metrics.text();
    let value = |labels: &[&str], name: &str| -> f64 {
        text.lines()
            .filter(|line| {
                line.starts_with(name) && labels.iter().all(|label| line.contains(label))
            })
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    };
    let count = |labels: &[&str], name: &str| format!("{}", value(labels, name));
    assert_eq!(count(&[], "gpurouter_requests_total{"), "4", "{text}");
    assert_eq!(
        count(
            &["node=\"a\"", "outcome=\"ok\""],
            "gpurouter_requests_total{"
        ),
        "1"
    );
    assert_eq!(
        count(
            &["node=\"b\"", "model=\"n\"", "tier=\"explicit\""],
            "gpurouter_requests_total{"
        ),
        "2"
    );
    assert_eq!(
        count(
            &["status=\"404\"", "outcome=\"refused\""],
            "gpurouter_requests_total{"
        ),
        "1"
    );
    assert_eq!(
        count(
            &["kind=\"prompt\"", "node=\"b\""],
            "gpurouter_tokens_total{"
        ),
        "20"
    );
    assert_eq!(
        count(
            &["phase=\"total\"", "node=\"b\""],
            "gpurouter_request_duration_seconds_count{"
        ),
        "2"
    );
    assert_eq!(count(&[], "gpurouter_selections_total{"), "3");
    assert_eq!(count(&[], "gpurouter_node_up{"), "2");
    assert_eq!(count(&[], "gpurouter_in_flight{"), "0");
    // Every line is a comment or a sample, and every family is described.
    for line in text.lines() {
        let family = line
            .trim_start_matches("# HELP ")
            .trim_start_matches("# TYPE ")
            .split(['{', ' '])
            .next()
            .unwrap();
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|end| family.strip_suffix(end))
            .unwrap_or(family);
        assert!(text.contains(&format!("# TYPE {family} ")), "{line}");
    }
}
