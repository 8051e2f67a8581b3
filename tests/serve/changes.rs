//! Requests about nodes: what changes their models, what unloads, and what is passed on unread.

use std::time::Duration;

use serde_json::{Value, json};

use super::common::client::{self, Connection, End, Response};
use super::common::{Kind, Peer, Request, Router, Stub, reply};
use super::{start, told};

fn send(router: &Router, method: &str, path: &str, headers: &str, body: &str) -> Response {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: tester/1\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        router.addr,
        body.len()
    );
    Connection::open(router.addr)
        .unwrap()
        .exchange(request.as_bytes())
}

fn ok(_: &Request, peer: &mut Peer) {
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
}

/// The warning in the log that names the client and what it asked for.
fn asked_by(router: &Router, method: &str, what: &str) -> Value {
    router.wait_record(|record| {
        let message = record["message"].as_str().unwrap_or("");
        record["level"] == "warning"
            && message.contains(method)
            && message.contains(what)
            && message.contains("asked by 127.0.0.1")
            && message.contains("tester/1")
    })
}

#[test]
fn delete_and_copy_reach_every_node_that_has_the_model() {
    let [a, b, c] = [
        Stub::ollama(&["m"], ok),
        Stub::ollama(&["m", "x"], ok),
        Stub::ollama(&["x"], ok),
    ];
    let router = start(&[("a", a.url()), ("b", b.url()), ("c", c.url())], "");
    let body = "{ \"model\":\"m\" ,\"x\":1.0}";
    let answer = send(&router, "DELETE", "/api/delete", "", body);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        (a.requests().len(), b.requests().len(), c.requests().len()),
        (1, 1, 0)
    );
    for node in [&a, &b] {
        let seen = &node.requests()[0];
        assert_eq!(
            (seen.method.as_str(), seen.target.as_str()),
            ("DELETE", "/api/delete")
        );
        assert_eq!(String::from_utf8_lossy(&seen.body), body);
    }
    asked_by(&router, "DELETE", "`m` on a,b");
    let copied = send(
        &router,
        "POST",
        "/api/copy",
        "",
        "{\"source\":\"x\",\"destination\":\"y\"}",
    );
    assert_eq!(copied.status, 200, "{copied:?}");
    assert_eq!((b.requests().len(), c.requests().len()), (2, 1));
    asked_by(&router, "POST /api/copy", "`x` on b,c");
    let missing = send(&router, "DELETE", "/api/delete", "", "{\"model\":\"nope\"}");
    assert_eq!(
        (missing.status, missing.json()["error"].is_string()),
        (404, true)
    );
}

#[test]
fn a_failure_on_one_of_the_nodes_is_told() {
    let a = Stub::ollama(&["m"], ok);
    let b = Stub::ollama(&["m"], |_, peer| {
        peer.send(&reply::json(500, &json!({"error": "disk on fire"})));
    });
    let router = start(&[("a", a.url()), ("b", b.url())], "");
    let answer = send(&router, "DELETE", "/api/delete", "", "{\"model\":\"m\"}");
    assert_eq!(
        (answer.status, answer.json()),
        (500, json!({"error": "disk on fire"}))
    );
}

fn progress(_: &Request, peer: &mut Peer) {
    let line = |document: &Value| reply::chunk(format!("{document}\n").as_bytes());
    let mut pieces = vec![reply::chunked_head("application/x-ndjson")];
    pieces.extend((1..=3).map(|n| {
        line(&json!({"status": "pulling", "digest": "sha256:ab", "total": 3, "completed": n}))
    }));
    pieces.push(line(&json!({"status": "success"})));
    pieces.push(reply::last_chunk());
    peer.send_slowly(&pieces, Duration::from_millis(60));
}

#[test]
fn a_pull_streams_its_progress_from_the_main_node_or_the_named_one() {
    let [a, b] = [
        Stub::ollama(&["x"], progress),
        Stub::ollama(&["x"], progress),
    ];
    let router = start(&[("a", a.url()), ("b", b.url() + "\"\nrole = \"main")], "");
    let answer = send(&router, "POST", "/api/pull", "", "{\"model\":\"new\"}");
    assert_eq!(
        (answer.status, answer.end, told(&answer, "node")),
        (200, End::Complete, "b")
    );
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
    assert_eq!(answer.lines().len(), 4);
    assert!(
        answer.arrivals(Duration::from_millis(20)) >= 3,
        "{:?}",
        answer.pieces
    );
    asked_by(&router, "POST /api/pull", "`new` on b");
    for (path, headers) in [
        ("/api/pull", "X-Gpurouter-Node: a\r\n"),
        ("/api/pull?node=a", ""),
    ] {
        let named = send(&router, "POST", path, headers, "{\"model\":\"new\"}");
        assert_eq!((named.status, told(&named, "node")), (200, "a"));
    }
    let nobody = send(
        &router,
        "POST",
        "/api/pull",
        "X-Gpurouter-Node: z\r\n",
        "{\"model\":\"new\"}",
    );
    assert!(nobody.status >= 400, "{nobody:?}");
    assert_eq!((a.requests().len(), b.requests().len()), (2, 1));
}

#[test]
fn a_cut_pull_is_never_a_success() {
    let node = Stub::ollama(&["x"], |_, peer| {
        peer.send(&reply::chunked_head("application/x-ndjson"));
        peer.send(&reply::chunk(b"{\"status\":\"pulling\"}\n"));
        std::thread::sleep(Duration::from_millis(50));
        peer.close();
    });
    let router = start(&[("only", node.url())], "");
    let answer = send(&router, "POST", "/api/pull", "", "{\"model\":\"new\"}");
    assert!(
        answer
            .lines()
            .last()
            .is_some_and(|line| line["error"].is_string()),
        "{}",
        answer.text()
    );
    let pushed = send(&router, "POST", "/api/push", "", "{\"model\":\"x\"}");
    assert!(pushed.text().contains("error"), "{}", pushed.text());
    asked_by(&router, "POST /api/push", "`x` on only");
}

#[test]
fn a_blob_is_streamed_to_the_node_that_creates_from_it() {
    let [a, b] = [Stub::ollama(&["x"], blobs), Stub::ollama(&["base"], blobs)];
    let router = start(&[("a", a.url()), ("b", b.url() + "\"\nrole = \"main")], "");
    let digest = format!("/api/blobs/sha256:{}", "a".repeat(64));
    let head = Connection::open(router.addr)
        .unwrap()
        .exchange(format!("HEAD {digest} HTTP/1.1\r\nHost: {}\r\n\r\n", router.addr).as_bytes());
    assert_eq!(head.status, 404);
    // Larger than the body limit of ordinary requests would allow here, in pieces whose ends fall anywhere.
    let bytes: Vec<u8> = (0..3_000_000_u32)
        .map(|n| u8::try_from(n % 251).unwrap())
        .collect();
    let mut request = format!("POST {digest} HTTP/1.1\r\nHost: {}\r\nUser-Agent: tester/1\r\nTransfer-Encoding: chunked\r\n\r\n", router.addr).into_bytes();
    for piece in bytes.chunks(70_001) {
        request.extend(reply::chunk(piece));
    }
    request.extend(reply::last_chunk());
    let answer = client::send(router.addr, &request);
    assert_eq!(answer.status, 201, "{answer:?}");
    let create = format!(
        "{{\"model\":\"mine\",\"files\":{{\"m.gguf\":\"sha256:{}\"}}}}",
        "a".repeat(64)
    );
    assert_eq!(
        send(&router, "POST", "/api/create", "", &create).status,
        200
    );
    let seen: Vec<String> = b
        .requests()
        .iter()
        .map(|request| request.method.clone() + " " + request.path())
        .collect();
    assert_eq!(
        seen,
        [
            format!("HEAD {digest}"),
            format!("POST {digest}"),
            "POST /api/create".to_owned()
        ]
    );
    assert!(
        b.requests()[1].body == bytes,
        "{} bytes arrived",
        b.requests()[1].body.len()
    );
    assert!(a.requests().is_empty());
    asked_by(&router, "POST /api/create", "`mine` on b");
}

fn blobs(request: &Request, peer: &mut Peer) {
    let status = match request.method.as_str() {
        "HEAD" => "404 Not Found",
        _ if request.path() == "/api/create" => "200 OK",
        _ => "201 Created",
    };
    let body = if status.starts_with('4') {
        ""
    } else {
        "{\"status\":\"success\"}\n"
    };
    peer.send(
        format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .as_bytes(),
    );
}

#[test]
fn an_unload_reaches_every_node_that_holds_the_model() {
    let unloaded = |_: &Request, peer: &mut Peer| {
        peer.send(&reply::json(200, &json!({"model": "m", "created_at": "2026-11-01T00:00:00Z", "response": "", "done": true, "done_reason": "unload"})));
    };
    let stubs = [(); 3].map(|()| Stub::ollama(&["m"], unloaded));
    let ps = json!({"models": [{"name": "m:latest", "model": "m:latest", "size": 10, "digest": "cd", "details": {}, "expires_at": "2099-01-01T00:00:00Z", "size_vram": 10}]});
    stubs[0].set_document("/api/ps", ps.clone());
    stubs[2].set_document("/api/ps", ps);
    let router = start(
        &[
            ("a", stubs[0].url()),
            ("b", stubs[1].url()),
            ("c", stubs[2].url()),
        ],
        "",
    );
    let body = "{\"model\":\"m\",\"keep_alive\":0}";
    let answer = send(
        &router,
        "POST",
        "/api/generate",
        "Content-Type: application/json\r\n",
        body,
    );
    assert_eq!(
        (answer.status, &answer.json()["done_reason"]),
        (200, &json!("unload")),
        "{answer:?}"
    );
    let counts = [0, 1, 2].map(|n: usize| stubs[n].requests().len());
    assert_eq!(counts, [1, 0, 1]);
    assert_eq!(String::from_utf8_lossy(&stubs[2].requests()[0].body), body);
}

#[test]
fn what_an_api_has_besides_is_passed_on() {
    let echo = |request: &Request, peer: &mut Peer| {
        let seen = json!({"method": request.method, "target": request.target, "body": String::from_utf8_lossy(&request.body)});
        peer.send(&reply::json(200, &seen));
    };
    let [plain, ollama] = [
        Stub::start(Kind::OpenAi, &["n"], echo),
        Stub::ollama(&["m"], echo),
    ];
    let router = start(&[("plain", plain.url()), ("ollama", ollama.url())], "");
    for (method, target, body, node) in [
        (
            "POST",
            "/api/experimental/web_search?q=1",
            "{\"query\":\"x\"}",
            "ollama",
        ),
        ("GET", "/api/status", "", "ollama"),
        ("POST", "/api/me", "{}", "ollama"),
        (
            "POST",
            "/v1/rerank?x=%2F",
            "{\"model\":\"m\",\"query\":\"x\"}",
            "ollama",
        ),
        (
            "POST",
            "/v1/rerank",
            "{\"model\":\"n\",\"query\":\"x\"}",
            "plain",
        ),
        ("POST", "/v1/tokenize", "{\"prompt\": 1.0 }", "plain"),
    ] {
        let answer = send(
            &router,
            method,
            target,
            "Content-Type: application/json\r\n",
            body,
        );
        assert_eq!(
            (answer.status, told(&answer, "node")),
            (200, node),
            "{method} {target}: {answer:?}"
        );
        assert_eq!(
            answer.json(),
            json!({"method": method, "target": target, "body": body})
        );
    }
}
