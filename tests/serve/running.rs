//! The running router: streaming, many clients, learning, stopping, and who may talk to it.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::common::client::{self, Connection, End};
use super::common::{LIMIT, Peer, Request, Router, Scratch, Stub, command, eventually, reply};
use super::{chat, record, start, told};

fn slowly(request: &Request, peer: &mut Peer) {
    let tokens = ["a "; 8];
    let pieces = if request.path() == "/api/chat" {
        reply::ollama_chat("m", &tokens)
    } else {
        reply::openai_chat("m", &tokens)
    };
    peer.send_slowly(&pieces, Duration::from_millis(100));
}

#[test]
fn tokens_arrive_one_by_one() {
    let node = Stub::ollama(&["m"], slowly);
    let router = start(&[("only", node.url())], "");
    for (path, content_type) in [
        ("/api/chat", "application/x-ndjson"),
        ("/v1/chat/completions", "text/event-stream"),
    ] {
        let answer = client::post(router.addr, path, &chat("m", "hi", true));
        assert_eq!(
            (answer.status, answer.end, answer.header("content-type")),
            (200, End::Complete, Some(content_type))
        );
        assert!(
            answer.arrivals(Duration::from_millis(40)) >= 6,
            "{path}: {:?}",
            answer.pieces
        );
        // The first came long before the node was done.
        let first = answer.pieces.first().unwrap().0;
        assert!(
            first + Duration::from_millis(300) < answer.ended_at,
            "{path}: {first:?} of {:?}",
            answer.ended_at
        );
        assert!(answer.head_at < answer.ended_at);
        let record = record(&router, &answer);
        assert!(
            record["timings"]["ttft_ms"].as_f64() < record["timings"]["total_ms"].as_f64(),
            "{record}"
        );
    }
}

#[test]
fn twenty_slow_streams_do_not_hold_up_a_quick_question() {
    let node = Stub::ollama(&["m"], |_, peer| {
        peer.send_slowly(
            &reply::ollama_chat("m", &["a "; 20]),
            Duration::from_millis(100),
        );
    });
    let router = start(&[("only", node.url())], "[admission]\nslots = 20\n");
    let address = router.addr;
    let streams: Vec<_> = (0..20)
        .map(|_| thread::spawn(move || client::post(address, "/api/chat", &chat("m", "hi", true))))
        .collect();
    node.wait_request(20);
    let quickest = (0..5)
        .map(|_| {
            let asked = Instant::now();
            assert_eq!(client::get(router.addr, "/health").status, 200);
            asked.elapsed()
        })
        .min();
    assert!(quickest < Some(Duration::from_millis(500)), "{quickest:?}");
    assert_eq!(
        router.api("/gpurouter/api/status")["nodes"][0]["active"],
        20
    );
    for stream in streams {
        let answer = stream.join().unwrap();
        assert_eq!(
            (answer.status, answer.end, answer.lines().len()),
            (200, End::Complete, 21)
        );
    }
}

#[test]
fn a_client_that_leaves_stops_the_node() {
    let (sender, gone) = std::sync::mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    let node = Stub::ollama(&["m"], move |_, peer| {
        peer.send(&reply::ollama_chat("m", &["one "])[..2].concat());
        let seen = peer.wait_gone(LIMIT);
        // The test has ended when nobody listens any more.
        let _ = sender.lock().unwrap().send(seen.is_some());
    });
    let router = start(&[("only", node.url())], "");
    let mut connection = Connection::open(router.addr).unwrap();
    connection.write(&client::post_bytes(
        router.addr,
        "/api/chat",
        &chat("m", "hi", true).to_string(),
    ));
    node.wait_request(1);
    drop(connection);
    assert_eq!(gone.recv_timeout(Duration::from_secs(5)), Ok(true));
    router.wait_record(|record| record["outcome"] == "client_gone");
    let idle = eventually(LIMIT, || {
        router.api("/gpurouter/api/status")["nodes"][0]["active"] == 0
    });
    assert!(idle);
}

/// A node whose counters say how fast it decodes; every answer says that a load took 200 ms, so that everything is predictable.
fn measured(milliseconds_per_token: &Arc<AtomicU64>) -> Stub {
    let speed = Arc::clone(milliseconds_per_token);
    Stub::ollama(&["m"], move |_, peer| {
        let decode = speed.load(Ordering::SeqCst) * 100 * 1_000_000;
        let mut answer = reply::ollama_whole("m", "text");
        for (key, value) in [
            ("load_duration", 200_000_000),
            ("prompt_eval_count", 1000),
            ("prompt_eval_duration", 500_000_000),
            ("eval_count", 100),
            ("eval_duration", decode),
        ] {
            answer[key] = json!(value);
        }
        // Long enough that a second request finds this node busy.
        thread::sleep(Duration::from_millis(400));
        peer.send(&reply::json(200, &answer));
    })
}

#[test]
fn only_a_measured_speed_changes_the_winner() {
    let [fast, slow] = [2, 10].map(|ms| Arc::new(AtomicU64::new(ms)));
    let [a, b] = [measured(&slow), measured(&fast)];
    a.set_loaded(&["m"]);
    b.set_loaded(&["m"]);
    let router = start(
        &[("a", a.url()), ("b", b.url())],
        "[admission]\nslots = 1\n",
    );
    let ask = || {
        let answer = client::post(router.addr, "/api/chat", &chat("m", "hi", false));
        assert_eq!(answer.status, 200);
        // What it taught is known when it is written down.
        record(&router, &answer);
        told(&answer, "node").to_owned()
    };
    // Nothing is measured: configuration order, and no predicted time.
    let first = client::post(router.addr, "/api/chat", &chat("m", "hi", false));
    assert_eq!(told(&first, "node"), "a");
    assert_eq!(
        record(&router, &first)["predicted"]["decode_ms"],
        Value::Null
    );
    // While `a` is busy `b` answers, and is measured.
    let address = router.addr;
    let busy = thread::spawn(move || client::post(address, "/api/chat", &chat("m", "hi", false)));
    a.wait_request(2);
    assert_eq!(ask(), "b");
    record(&router, &busy.join().unwrap());
    let answer = client::post(router.addr, "/api/chat", &chat("m", "hi", false));
    assert_eq!(
        (told(&answer, "node"), told(&answer, "reason")),
        ("b", "soonest_on_b")
    );
    let record = record(&router, &answer);
    assert_eq!(record["predicted"]["decode_ms"], 200, "{record}");
    // The same requests, another speed: the other node.
    fast.store(500, Ordering::SeqCst);
    let changed = (0..20).any(|_| ask() == "a");
    assert!(changed, "{}", router.api("/gpurouter/api/status")["nodes"]);
    let speeds = &router.api("/gpurouter/api/status")["nodes"][0]["speeds"][0];
    assert_eq!(
        (
            &speeds["model"],
            &speeds["decode_tps"],
            &speeds["prefill_tps"]
        ),
        (&json!("m:latest"), &json!(100.0), &json!(2000.0))
    );
}

#[test]
fn sigterm_lets_a_running_stream_end() {
    let node = Stub::ollama(&["m"], slowly);
    let mut router = start(&[("only", node.url())], "");
    let address = router.addr;
    let stream = thread::spawn(move || client::post(address, "/api/chat", &chat("m", "hi", true)));
    node.wait_request(1);
    router.terminate();
    let refused = eventually(LIMIT, || Connection::open(address).is_err());
    assert!(refused);
    let answer = stream.join().unwrap();
    assert_eq!(
        (answer.status, answer.end, answer.lines().len()),
        (200, End::Complete, 9)
    );
    let status = router
        .wait_exit(LIMIT)
        .expect("it ends when the stream does");
    assert_eq!(status.code(), Some(0), "{:#?}", router.stderr());
}

#[test]
fn the_record_says_whether_a_gpu_was_used_and_null_when_nobody_knows() {
    for (ps, expected) in [
        (json!([{"size": 1000, "size_vram": 1000}]), json!(true)),
        (
            json!([{"size": 14_000_000, "size_vram": 1_572_864}]),
            json!(false),
        ),
        (json!([{"size": 1000, "size_vram": 0}]), json!(false)),
        (json!([{"size": 0, "size_vram": 0}]), Value::Null),
        (json!([]), Value::Null),
    ] {
        let node = Stub::ollama(&["m"], reply::healthy);
        let mut models = ps.clone();
        for model in models.as_array_mut().unwrap() {
            for (key, value) in [
                ("name", "m:latest"),
                ("model", "m:latest"),
                ("digest", "ab"),
                ("expires_at", "2099-01-01T00:00:00Z"),
            ] {
                model[key] = json!(value);
            }
            model["details"] = json!({});
        }
        node.set_document("/api/ps", json!({"models": models}));
        let router = start(&[("only", node.url())], "");
        let answer = client::post(router.addr, "/api/chat", &chat("m", "hi", false));
        assert_eq!(record(&router, &answer)["gpu_used"], expected, "{ps}");
    }
}

#[test]
fn money_is_saved_at_a_configured_price_only() {
    let node = Stub::ollama(&["m"], reply::healthy);
    let without = start(&[("only", node.url())], "");
    let answer = client::post(without.addr, "/api/chat", &chat("m", "hi", false));
    assert_eq!(record(&without, &answer)["cost_saved_usd"], Value::Null);
    let prices = "[prices]\nas_of = \"2026-11-01\"\ncurrency = \"USD\"\nreference = \"r\"\n[prices.models.r]\ninput = 0.25\noutput = 2.0\n";
    let with = start(&[("only", node.url())], prices);
    let answer = client::post(with.addr, "/api/chat", &chat("m", "hi", false));
    // 10 prompt tokens at 0.25 and 3 answer tokens at 2.00 per million.
    let saved = record(&with, &answer)["cost_saved_usd"].as_f64().unwrap();
    assert!((saved - 8.5e-6).abs() < 1e-12, "{saved}");
}

#[test]
fn a_page_of_a_stranger_does_not_reach_the_models() {
    let node = Stub::ollama(&["m"], reply::healthy);
    let router = start(
        &[("only", node.url())],
        "[security]\nhosts = [\"gpu.example\"]\n",
    );
    let body = chat("m", "hi", false).to_string();
    let ask = |host: &str, origin: Option<&str>| {
        let origin = origin
            .map(|origin| format!("Origin: {origin}\r\n"))
            .unwrap_or_default();
        let request = format!(
            "POST /api/chat HTTP/1.1\r\nHost: {host}\r\n{origin}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        client::send(router.addr, request.as_bytes())
    };
    for (host, origin) in [
        ("evil.example", None),
        ("localhost.evil.example:8512", None),
        ("localhost", Some("https://evil.example")),
        ("127.0.0.1", Some("null")),
    ] {
        let answer = ask(host, origin);
        assert_eq!(
            (answer.status, answer.json()["error"].is_string()),
            (403, true),
            "{host} {origin:?}"
        );
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    assert!(node.requests().is_empty());
    for (host, origin) in [
        ("localhost:8512", None),
        ("192.168.7.7", None),
        ("gpu.example", None),
        ("[::1]:8512", Some("http://localhost:3000")),
        ("localhost", Some("vscode-webview://x")),
    ] {
        let answer = ask(host, origin);
        assert_eq!(
            (answer.status, answer.header("access-control-allow-origin")),
            (200, origin),
            "{host} {origin:?}"
        );
    }
    let preflight = String::from(
        "OPTIONS /api/chat HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost:3000\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: x-stainless-os\r\n\r\n",
    );
    let answer = client::send(router.addr, preflight.as_bytes());
    assert_eq!(
        (answer.status, answer.header("access-control-allow-headers")),
        (204, Some("x-stainless-os"))
    );
    let preflight = preflight.replace("http://localhost:3000", "https://evil.example");
    assert_eq!(client::send(router.addr, preflight.as_bytes()).status, 403);
}

#[test]
fn an_address_that_others_can_reach_is_refused() {
    let scratch = Scratch::new();
    for address in ["0.0.0.0:0", "192.168.1.1:8512", "[::]:0"] {
        let output = command(&scratch)
            .args(["serve", "--listen", address])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{address}: {stderr}");
        assert!(
            stderr.starts_with("error: ") && stderr.contains("loopback"),
            "{stderr}"
        );
    }
}

#[test]
fn an_address_in_use_is_told_with_a_hint() {
    let node = Stub::ollama(&["m"], reply::healthy);
    let router: Router = start(&[("only", node.url())], "");
    let scratch = Scratch::new();
    let output = command(&scratch)
        .args([
            "serve",
            "--listen",
            &router.addr.to_string(),
            "--node",
            &node.url(),
        ])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(
        stderr.contains("error: cannot listen on") && stderr.contains("hint: "),
        "{stderr}"
    );
}
