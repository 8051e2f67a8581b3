//! Clients that read slowly, and clients that leave.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::common::client::{self, Connection};
use super::common::{LIMIT, Peer, Request, eventually, reply};
use super::{
    SOON, at_rest, chat_body, counted, grown_mib, metric, proper, stack, stack_with, survived,
};

/// When a client leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// While the node reads the prompt.
    Prefill,
    /// After some tokens, while more come.
    Stream,
    /// After some tokens, while the node says nothing.
    Silence,
    /// While a whole answer is on its way.
    Document,
}

/// Plays a node at `moment` and returns when the router closed; `None` when it did not.
fn play(moment: Moment, path: &str, peer: &mut Peer) -> Option<Instant> {
    let pieces = if path == "/api/chat" {
        reply::ollama_chat("m:latest", &["one "])
    } else {
        reply::openai_chat("m:latest", &["one "])
    };
    let (head, token) = (&pieces[0], &pieces[1]);
    match moment {
        Moment::Prefill => {}
        Moment::Document => {
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"model\":");
        }
        Moment::Silence | Moment::Stream => {
            peer.send(&[&head[..], token].concat());
        }
    }
    let deadline = Instant::now() + LIMIT;
    while moment == Moment::Stream && Instant::now() < deadline {
        if let Some(gone) = peer.wait_gone(Duration::from_millis(20)) {
            return Some(gone);
        }
        if !peer.send(token) {
            return Some(Instant::now());
        }
    }
    peer.wait_gone(LIMIT)
}

#[test]
fn a_client_that_leaves_closes_the_node_at_once() {
    let (sender, gone) = mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    let (stub, mut router) = stack(move |request: &Request, peer: &mut Peer| {
        let moment = match request.header("x-moment") {
            Some("Prefill") => Moment::Prefill,
            Some("Stream") => Moment::Stream,
            Some("Silence") => Moment::Silence,
            Some("Document") => Moment::Document,
            _ => return proper(request, peer),
        };
        let seen = play(moment, request.path(), peer);
        sender.lock().unwrap().send(seen).unwrap();
    });
    let mut worst = Duration::ZERO;
    for path in ["/api/chat", "/v1/chat/completions"] {
        for moment in [
            Moment::Prefill,
            Moment::Stream,
            Moment::Silence,
            Moment::Document,
        ] {
            for reset in [false, true] {
                let before = stub.requests().len();
                let mut connection = Connection::open(router.addr).unwrap();
                let body = chat_body(moment != Moment::Document);
                connection.write(
                    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nX-Moment: {moment:?}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes(),
                );
                stub.wait_request(before + 1);
                if matches!(moment, Moment::Stream | Moment::Silence) {
                    let mut first = [0; 16];
                    std::io::Read::read_exact(&mut connection.stream, &mut first).unwrap();
                } else {
                    std::thread::sleep(Duration::from_millis(30));
                }
                let left = Instant::now();
                if reset {
                    connection.reset();
                } else {
                    drop(connection);
                }
                let closed = gone
                    .recv_timeout(LIMIT)
                    .unwrap()
                    .unwrap_or_else(|| panic!("{path} {moment:?}: the node was never told"));
                let took = closed.saturating_duration_since(left);
                eprintln!(
                    "{path} {moment:?} {}: {took:?}",
                    if reset { "RST" } else { "FIN" }
                );
                assert!(took < SOON, "{path} {moment:?}: {took:?}");
                worst = worst.max(took);
            }
        }
    }
    eprintln!("worst: {worst:?}");
    survived(&mut router, "clients that left");
    counted(&router, "client_gone", 16.0);
    counted(&router, "ok", 1.0);
    router.wait_record(|record| record["outcome"] == "client_gone" && record["status"] == 499);
}

#[test]
fn a_client_that_leaves_the_queue_never_reaches_the_node() {
    let (stub, mut router) = stack_with(
        "[admission]\nslots = 1\nqueue = 2\n",
        |request: &Request, peer: &mut Peer| {
            if request.header("x-hold").is_some() {
                peer.wait_gone(LIMIT);
            } else {
                proper(request, peer);
            }
        },
    );
    let body = chat_body(true);
    let request = |hold: &str| {
        format!(
            "POST /api/chat HTTP/1.1\r\nHost: localhost\r\n{hold}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let mut holding = Connection::open(router.addr).unwrap();
    holding.write(request("X-Hold: 1\r\n").as_bytes());
    stub.wait_request(1);
    let mut waiting: Vec<Connection> = (0..2)
        .map(|_| Connection::open(router.addr).unwrap())
        .collect();
    for connection in &mut waiting {
        connection.write(request("").as_bytes());
    }
    assert!(eventually(LIMIT, || metric(
        &router,
        "gpurouter_queued{",
        ""
    ) == 2.0));
    let refused = client::send(router.addr, request("").as_bytes());
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.header("retry-after").is_some());
    super::told("/api/chat", &refused);
    waiting.pop().unwrap().reset();
    drop(waiting);
    assert!(eventually(LIMIT, || metric(
        &router,
        "gpurouter_queued{",
        ""
    ) == 0.0));
    drop(holding);
    assert!(eventually(LIMIT, || at_rest(&router)));
    assert_eq!(stub.requests().len(), 1);
    survived(&mut router, "queue");
}

#[test]
fn a_reader_that_stops_holds_the_node_back_and_costs_no_memory() {
    let (sender, gone) = mpsc::channel();
    let sender = std::sync::Mutex::new(sender);
    let (_stub, mut router) = stack(move |request: &Request, peer: &mut Peer| {
        if request.header("x-flood").is_none() {
            return proper(request, peer);
        }
        let line = json!({"model": "m", "message": {"role": "assistant", "content": "x".repeat(900)}, "done": false});
        let chunk = reply::chunk(format!("{line}\n").repeat(64).as_bytes());
        peer.send(&reply::chunked_head("application/x-ndjson"));
        let mut sent = 0_usize;
        while sent < 256 << 20 && peer.send(&chunk) {
            sent += chunk.len();
        }
        sender.lock().unwrap().send(sent).unwrap();
    });
    survived(&mut router, "before");
    let before = router.resources().rss_bytes;
    let body = chat_body(true);
    let mut connection = Connection::open(router.addr).unwrap();
    connection.write(format!("POST /api/chat HTTP/1.1\r\nHost: localhost\r\nX-Flood: 1\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
    assert!(
        gone.recv_timeout(Duration::from_secs(1)).is_err(),
        "256 MiB went into a client that does not read"
    );
    let grown = grown_mib(&router, before);
    assert!(grown < 10, "{grown} MiB more than before");
    assert_eq!(metric(&router, "gpurouter_in_flight{", ""), 1.0);
    drop(connection);
    let sent = gone.recv_timeout(LIMIT).expect("the node is told");
    assert!(sent < 64 << 20, "{sent} bytes were taken");
    survived(&mut router, "slow reader");
}
