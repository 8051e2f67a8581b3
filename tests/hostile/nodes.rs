//! Nodes that lie, hang and die.

use std::time::{Duration, Instant};

use serde_json::json;

use super::common::client::{self, Connection, End, Response};
use super::common::{LIMIT, Peer, Request, Router, Stub, eventually, reply};
use super::{
    MODEL, chat_body, counted, error_of, grown_mib, metric, post, proper, stack, stack_with,
    survived, told,
};

/// An answer with these header lines and this body, as it stands.
fn raw(lines: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{lines}\r\n{body}").into_bytes()
}

/// A request whose lie is named in a header.
fn ask(router: &Router, path: &str, lie: &str, stream: bool) -> Response {
    let body = chat_body(stream);
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nX-Lie: {lie}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    client::send(router.addr, request.as_bytes())
}

/// Answers that are no answers, by name.
#[allow(clippy::too_many_lines, reason = "a table")]
fn lies() -> Vec<(&'static str, Vec<u8>)> {
    let json = "Content-Type: application/json\r\n";
    let document =
        "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"hi\"},\"done\":true}";
    let n = document.len();
    let chunked = "Transfer-Encoding: chunked\r\n";
    let line = "{\"model\":\"m\",\"message\":{\"role\":\"assistant\",\"content\":\"hi\"},\"done\":false}\n";
    vec![
        (
            "length-too-long",
            raw(&format!("{json}Content-Length: {}\r\n", n + 50), document),
        ),
        (
            "length-too-short",
            raw(&format!("{json}Content-Length: {}\r\n", n - 5), document),
        ),
        (
            "two-lengths",
            raw(
                &format!("{json}Content-Length: {n}\r\nContent-Length: 5\r\n"),
                document,
            ),
        ),
        (
            "length-and-chunked",
            raw(&format!("{json}{chunked}Content-Length: {n}\r\n"), document),
        ),
        (
            "length-of-words",
            raw(&format!("{json}Content-Length: many\r\n"), document),
        ),
        (
            "length-plus",
            raw(&format!("{json}Content-Length: +{n}\r\n"), document),
        ),
        (
            "coding-gzip",
            raw(&format!("{json}Transfer-Encoding: gzip\r\n"), document),
        ),
        ("no-http", b"HELLO\r\n\r\n".to_vec()),
        ("ssh", b"SSH-2.0-OpenSSH_9.9\r\n".to_vec()),
        ("status-20", b"HTTP/1.1 20 OK\r\n\r\n".to_vec()),
        (
            "status-999",
            b"HTTP/1.1 999 Nope\r\nContent-Length: 0\r\n\r\n".to_vec(),
        ),
        ("http-2", b"HTTP/2 200\r\n\r\n".to_vec()),
        ("nothing", Vec::new()),
        ("half-a-head", b"HTTP/1.1 200 OK\r\nContent-Ty".to_vec()),
        ("interim-only", b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()),
        (
            "interim-flood",
            b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n".repeat(5000),
        ),
        (
            "switching",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"
                .to_vec(),
        ),
        ("nul-in-head", raw("X-A: b\0c\r\nContent-Length: 0\r\n", "")),
        (
            "html",
            raw(
                "Content-Type: text/html\r\nContent-Length: 40\r\n",
                "<html><body>It works!</body></html>     ",
            ),
        ),
        ("no-type-no-json", raw("Content-Length: 5\r\n", "hello")),
        (
            "text",
            raw("Content-Type: text/plain\r\nContent-Length: 5\r\n", "hello"),
        ),
        (
            "no-json",
            raw(&format!("{json}Content-Length: 5\r\n"), "hello"),
        ),
        ("half-json-closed", raw(json, &document[..n - 10])),
        (
            "empty-json",
            raw(&format!("{json}Content-Length: 0\r\n"), ""),
        ),
        (
            "empty-stream",
            raw(
                &format!("Content-Type: application/x-ndjson\r\n{chunked}"),
                "0\r\n\r\n",
            ),
        ),
        (
            "empty-events",
            raw(
                &format!("Content-Type: text/event-stream\r\n{chunked}"),
                "0\r\n\r\n",
            ),
        ),
        (
            "chunk-garbage",
            raw(&format!("{json}{chunked}"), "zz\r\nhello\r\n0\r\n\r\n"),
        ),
        (
            "chunk-overflow",
            raw(&format!("{json}{chunked}"), "ffffffffffffffffff\r\nhello"),
        ),
        (
            "chunk-cut",
            raw(
                &format!("{json}{chunked}"),
                &format!("{n:x}\r\n{document}\r\n"),
            ),
        ),
        (
            "gzip-stream",
            raw(
                "Content-Type: application/x-ndjson\r\nContent-Encoding: gzip\r\nContent-Length: 6\r\n",
                "\u{1f}\u{8b}\u{8}",
            ),
        ),
        (
            "lines-without-end",
            raw("Content-Type: application/x-ndjson\r\n", line),
        ),
        (
            "no-type-stream",
            raw(
                chunked,
                &format!("{:x}\r\n{line}{line}\r\n0\r\n\r\n", line.len() * 2),
            ),
        ),
        (
            "redirect",
            b"HTTP/1.1 302 Found\r\nLocation: http://evil.example/\r\nContent-Length: 0\r\n\r\n"
                .to_vec(),
        ),
        ("no-content", b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
        (
            "not-modified",
            b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec(),
        ),
    ]
}

/// Whether the answer owns up: an error of the dialect, or a stream that ends with one.
fn owns_up(path: &str, answer: &Response) -> Result<(), String> {
    let shown = format!(
        "{} {:?} {:?}",
        answer.status_line,
        answer.end,
        answer.text()
    );
    if answer.end != End::Complete {
        return Err(shown);
    }
    if answer.status >= 400 {
        return error_of(path, &answer.body).map(drop).ok_or(shown);
    }
    let text = answer.text();
    let last = text
        .trim_end()
        .trim_end_matches("data: [DONE]")
        .trim_end()
        .rsplit('\n')
        .next()
        .unwrap_or("");
    let last = last.strip_prefix("data: ").unwrap_or(last);
    match serde_json::from_str::<serde_json::Value>(last) {
        Ok(document) if document.get("error").is_some() => Ok(()),
        _ => Err(shown),
    }
}

#[test]
fn lies_are_told_as_errors_and_never_as_answers() {
    let (_stub, mut router) = stack(|request: &Request, peer: &mut Peer| {
        let Some(lie) = request.header("x-lie") else {
            return proper(request, peer);
        };
        let (_, bytes) = lies().into_iter().find(|(name, _)| *name == lie).unwrap();
        peer.send(&bytes);
        peer.close();
    });
    let mut taken = Vec::new();
    for (lie, _) in lies() {
        for path in ["/api/chat", "/v1/chat/completions", "/v1/messages"] {
            for stream in [false, true] {
                let answer = ask(&router, path, lie, stream);
                if let Err(shown) = owns_up(path, &answer) {
                    taken.push(format!("{lie} at {path}, stream {stream}: {shown}"));
                }
            }
        }
    }
    assert!(taken.is_empty(), "taken for answers: {taken:#?}");
    survived(&mut router, "lies");
    let failed = |outcome| metric(&router, "gpurouter_requests_total{", outcome);
    let all = f64::from(u32::try_from(lies().len()).unwrap());
    let counted_all =
        || failed("outcome=\"upstream_error\"") + failed("outcome=\"cut\"") >= 6.0 * all;
    assert!(
        eventually(LIMIT, counted_all),
        "not every lie was counted as a failure"
    );
    counted(&router, "ok", 1.0);
}

#[test]
fn a_stream_for_a_client_that_asked_for_none_is_no_answer() {
    let (_stub, mut router) = stack(|request: &Request, peer: &mut Peer| {
        match (request.header("x-lie"), request.path()) {
            (None, _) => proper(request, peer),
            (_, "/api/chat") => drop(peer.send(&reply::ollama_chat(MODEL, &["a", "b"]).concat())),
            _ => drop(peer.send(&reply::openai_chat(MODEL, &["a", "b"]).concat())),
        }
    });
    for path in ["/api/chat", "/v1/chat/completions"] {
        let answer = ask(&router, path, "stream", false);
        assert_eq!(answer.status, 502, "{path}: {}", answer.text());
        told(path, &answer);
    }
    survived(&mut router, "unasked stream");
}

#[test]
fn an_error_line_in_a_stream_is_passed_on_and_counted() {
    let (_stub, mut router) = stack(|request: &Request, peer: &mut Peer| {
        if request.header("x-lie").is_none() {
            return proper(request, peer);
        }
        let mut pieces = reply::ollama_chat(MODEL, &["a"])[..2].to_vec();
        pieces.push(reply::chunk(
            b"{\"error\":\"an error was encountered while running the model: unexpected EOF\"}\n",
        ));
        pieces.push(reply::last_chunk());
        peer.send(&pieces.concat());
    });
    let answer = ask(&router, "/api/chat", "error", true);
    assert_eq!((answer.status, answer.end), (200, End::Complete));
    let lines = answer.lines();
    assert_eq!(
        (lines.len(), lines[1]["error"].is_string()),
        (2, true),
        "{lines:?}"
    );
    router.wait_record(|record| record["outcome"] == "upstream_error" && record["status"] == 200);
    survived(&mut router, "error line");
}

#[test]
fn endless_heads_and_bodies_of_nodes_cost_no_memory() {
    let (_stub, mut router) = stack(|request: &Request, peer: &mut Peer| {
        let (start, repeated) = match request.header("x-lie") {
            None => return proper(request, peer),
            Some("head") => (
                &b"HTTP/1.1 200 OK\r\n"[..],
                b"X-A: bbbbbbbbbbbbbb\r\n".repeat(1000),
            ),
            Some("line") => (&b"HTTP/1.1 200 OK\r\nX-A: "[..], vec![b'a'; 20_000]),
            Some("document") => (
                &b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"x\":\""[..],
                vec![b'a'; 64_000],
            ),
            _ => (
                &b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n{\"x\":\""[..],
                vec![b'a'; 64_000],
            ),
        };
        peer.send(start);
        let mut sent = 0_usize;
        while sent < 100 << 20 && peer.send(&repeated) {
            sent += repeated.len();
        }
        peer.close();
    });
    survived(&mut router, "before");
    let before = router.resources().rss_bytes;
    for lie in ["head", "line"] {
        let answer = ask(&router, "/api/chat", lie, true);
        assert_eq!(answer.status, 502, "{lie}: {}", answer.text());
        told("/api/chat", &answer);
    }
    for lie in ["document", "ndjson"] {
        let answer = ask(&router, "/api/chat", lie, lie == "ndjson");
        let whole = answer.end == End::Complete && owns_up("/api/chat", &answer).is_err();
        assert!(
            !whole,
            "{lie}: {} bytes came as a whole answer",
            answer.body.len()
        );
    }
    let grown = grown_mib(&router, before);
    assert!(grown < 40, "{grown} MiB more than before");
    survived(&mut router, "endless answers");
}

#[test]
fn hanging_nodes_are_given_up_in_time_and_in_the_dialect() {
    let timeouts = "[timeouts]\nconnect = \"500ms\"\nload = \"600ms\"\nidle = \"600ms\"\n";
    let (_stub, mut router) = stack_with(timeouts, |request: &Request, peer: &mut Peer| {
        let pieces = if request.path() == "/api/chat" {
            reply::ollama_chat(MODEL, &["a"])
        } else {
            reply::openai_chat(MODEL, &["a"])
        };
        match request.header("x-lie") {
            None => return proper(request, peer),
            Some("head") => {}
            Some("half-head") => drop(peer.send(&pieces[0][..20])),
            Some("body") => drop(peer.send(&pieces[0])),
            Some("half-line") => drop(peer.send(&[&pieces[0][..], b"40\r\n{\"model\":"].concat())),
            Some("document") => drop(peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"a\":")),
            _ => drop(peer.send(&pieces[..pieces.len() - 2].concat())),
        }
        peer.wait_gone(LIMIT);
    });
    for path in ["/api/chat", "/v1/chat/completions"] {
        for lie in ["head", "half-head", "body", "half-line", "document"] {
            let start = Instant::now();
            let answer = ask(&router, path, lie, lie != "document");
            let took = start.elapsed();
            assert_eq!(answer.status, 504, "{path} {lie}: {}", answer.text());
            told(path, &answer);
            assert!(
                took > Duration::from_millis(500) && took < Duration::from_secs(10),
                "{path} {lie}: {took:?}"
            );
        }
        let answer = ask(&router, path, "stream", true);
        assert_eq!((answer.status, answer.end), (200, End::Complete), "{path}");
        owns_up(path, &answer).unwrap();
        assert!(
            answer.text().contains("\"a\""),
            "{path}: the token that came is lost: {}",
            answer.text()
        );
        assert!(
            answer.text().contains("time limit"),
            "{path}: {}",
            answer.text()
        );
    }
    survived(&mut router, "hanging nodes");
}

#[test]
fn a_total_limit_ends_a_stream_that_goes_on() {
    let (_stub, mut router) = stack_with(
        "[timeouts]\ntotal = \"700ms\"\n",
        |request: &Request, peer: &mut Peer| {
            if request.header("x-lie").is_none() {
                return proper(request, peer);
            }
            let pieces = reply::ollama_chat(MODEL, &["a"]);
            peer.send(&pieces[0]);
            let deadline = Instant::now() + LIMIT;
            while Instant::now() < deadline && peer.send(&pieces[1]) {
                std::thread::sleep(Duration::from_millis(20));
            }
        },
    );
    let answer = ask(&router, "/api/chat", "on and on", true);
    assert_eq!((answer.status, answer.end), (200, End::Complete));
    owns_up("/api/chat", &answer).unwrap();
    survived(&mut router, "total");
}

/// Two nodes with the model, and a price for what they save.
fn two(
    handler: impl Fn(&Request, &mut Peer) + Send + Sync + Clone + 'static,
) -> (Stub, Stub, Router) {
    let one = Stub::ollama(&[MODEL], handler.clone());
    let two = Stub::ollama(&[MODEL], handler);
    let config = "[prices]\nas_of = \"2026-11-01\"\ncurrency = \"USD\"\nreference = \"x\"\nmodels = { \"x\" = { input = 100.0, output = 100.0 } }\n";
    let (a, b) = (format!("a={}", one.url()), format!("b={}", two.url()));
    let router = Router::start(
        &["--log-format", "json", "--node", &a, "--node", &b],
        config,
    );
    router.wait_ready(2);
    (one, two, router)
}

#[test]
fn with_every_node_dead_the_error_is_quick_clear_and_saves_no_money() {
    let (mut one, mut two, mut router) = two(proper);
    survived(&mut router, "before");
    counted(&router, "ok", 1.0);
    let saved = metric(&router, "gpurouter_cost_saved_usd_total ", "");
    assert!(saved > 0.0, "an answer saves money");
    one.kill();
    two.kill();
    for round in 0..2 {
        for path in ["/api/chat", "/v1/chat/completions", "/v1/messages"] {
            for stream in [false, true] {
                let start = Instant::now();
                let answer = post(&router, path, &chat_body(stream));
                let took = start.elapsed();
                assert_eq!(
                    answer.status,
                    502,
                    "{path} round {round}: {}",
                    answer.text()
                );
                told(path, &answer);
                assert!(took < Duration::from_secs(3), "{path}: {took:?}");
            }
        }
        // In the second round the monitor has noticed as well.
        assert!(eventually(LIMIT, || router.nodes_up() == Some(0)));
    }
    counted(&router, "upstream_error", 12.0);
    assert!((metric(&router, "gpurouter_cost_saved_usd_total ", "") - saved).abs() < f64::EPSILON);
    assert!(
        router
            .records()
            .iter()
            .filter(|record| record["status"] == 502)
            .all(|record| record["cost_saved_usd"].is_null())
    );
    assert_eq!(client::get(router.addr, "/health").status, 200);
    assert!(router.alive());
}

#[test]
fn a_node_that_dies_loses_no_request_that_had_not_begun_to_answer() {
    let (mut one, _two, mut router) = two(|request: &Request, peer: &mut Peer| {
        std::thread::sleep(Duration::from_millis(50));
        proper(request, peer);
    });
    let addr = router.addr;
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(move || {
                    (0..10)
                        .map(|_| {
                            client::send(
                                addr,
                                &client::post_bytes(addr, "/api/chat", &chat_body(true)),
                            )
                        })
                        .filter(|answer| {
                            answer.status != 200 || answer.lines().last().unwrap()["done"] != true
                        })
                        .map(|answer| format!("{} {}", answer.status_line, answer.text()))
                        .collect::<Vec<String>>()
                })
            })
            .collect();
        std::thread::sleep(Duration::from_millis(200));
        one.kill();
        for client in clients {
            let lost = client.join().unwrap();
            assert!(lost.is_empty(), "{lost:?}");
        }
    });
    assert!(
        metric(&router, "gpurouter_fallbacks_total{", "node=\"a\"") > 0.0,
        "nothing had to fall over"
    );
    survived(&mut router, "a dead node");
}

#[test]
fn statuses_of_trouble_fall_over_and_the_others_do_not() {
    let config_and_statuses = [
        (429, true),
        (502, true),
        (503, true),
        (504, true),
        (404, true),
        (400, false),
        (401, false),
        (500, false),
    ];
    for (status, falls_over) in config_and_statuses {
        let bad = Stub::ollama(&[MODEL], move |_: &Request, peer: &mut Peer| {
            peer.send(&reply::json(status, &json!({"error": "the test says so"})));
        });
        let good = Stub::ollama(&[MODEL], proper);
        let (a, b) = (format!("a={}", bad.url()), format!("b={}", good.url()));
        let router = Router::start(&["--log-format", "json", "--node", &a, "--node", &b], "");
        router.wait_ready(2);
        for path in ["/v1/chat/completions", "/api/chat"] {
            let before = bad.requests().len();
            let answer = post(&router, path, &chat_body(true));
            // Which of the two is tried first is the decision's business.
            if bad.requests().len() == before {
                assert_eq!(answer.status, 200, "{status} at {path}: {}", answer.text());
                continue;
            }
            if falls_over {
                assert_eq!(answer.status, 200, "{status} at {path}: {}", answer.text());
            } else {
                assert_eq!(answer.status, status, "{path}: {}", answer.text());
                assert_eq!(told(path, &answer), "the test says so");
            }
        }
        assert!(
            !bad.requests().is_empty(),
            "{status}: the bad node was never tried"
        );
    }
}

#[test]
fn a_reused_connection_that_the_node_closed_is_no_error() {
    let (stub, mut router) = stack(|request: &Request, peer: &mut Peer| {
        proper(request, peer);
        if request.header("x-lie").is_some() {
            peer.close();
        }
    });
    let mut connection = Connection::open(router.addr).unwrap();
    for round in 0..20 {
        let body = chat_body(true);
        let request = format!(
            "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nX-Lie: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = connection.exchange(request.as_bytes());
        assert_eq!(answer.status, 200, "round {round}: {}", answer.text());
    }
    assert!(stub.requests().len() >= 20);
    survived(&mut router, "closed connections");
}
