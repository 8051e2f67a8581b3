//! The test harness against itself: a stub and the raw client must agree on framing, cuts, resets and times before
//! they may judge the router.

mod common;

use std::time::{Duration, Instant};

use serde_json::json;

use common::client::{self, Connection, End};
use common::{Peer, RefusedPort, Request, Stub, reply};

fn chat(request: &Request, peer: &mut Peer) {
    let pieces = reply::ollama_chat("m:latest", &["one ", "two ", "three"]);
    match request.path() {
        "/slow" => {
            peer.send_slowly(&pieces, Duration::from_millis(30));
        }
        "/bytes" => {
            for byte in pieces.concat() {
                peer.send(&[byte]);
            }
        }
        "/cut" => {
            peer.send(&pieces[..2].concat());
            peer.close();
        }
        "/reset" => {
            peer.send(&pieces[..2].concat());
            std::thread::sleep(Duration::from_millis(50));
            peer.reset();
        }
        _ => {
            peer.send(&pieces.concat());
        }
    }
}

#[test]
fn reads_a_stream_in_one_piece_and_byte_by_byte_alike() {
    let stub = Stub::ollama(&["m:latest"], chat);
    let whole = client::post(stub.addr, "/api/chat", &json!({}));
    let bytes = client::post(stub.addr, "/bytes", &json!({}));
    assert_eq!(whole.end, End::Complete);
    assert_eq!((whole.status, &whole.body), (200, &bytes.body));
    assert_eq!(whole.raw, bytes.raw);
    assert_eq!(whole.lines().len(), 4);
    assert_eq!(whole.lines()[3]["done"], true);
}

#[test]
fn tells_when_each_piece_came() {
    let stub = Stub::ollama(&["m:latest"], chat);
    let slow = client::post(stub.addr, "/slow", &json!({}));
    assert_eq!(slow.arrivals(Duration::from_millis(10)), 4);
}

#[test]
fn tells_a_cut_and_a_reset_from_a_whole_answer() {
    let stub = Stub::ollama(&["m:latest"], chat);
    assert_eq!(client::post(stub.addr, "/cut", &json!({})).end, End::Cut);
    let reset = client::post(stub.addr, "/reset", &json!({}));
    assert_eq!((reset.end, reset.lines().len()), (End::Reset, 1));
}

#[test]
fn reuses_a_connection_and_records_requests_and_probes_apart() {
    let stub = Stub::ollama(&["m:latest"], chat);
    let mut connection = Connection::open(stub.addr).unwrap();
    for _ in 0..2 {
        let request = client::post_bytes(stub.addr, "/api/chat", "{\"model\":\"m\"}");
        assert_eq!(connection.exchange(&request).end, End::Complete);
    }
    let tags = connection.exchange(b"GET /api/tags HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(tags.json()["models"][0]["model"], "m:latest");
    let requests = stub.requests();
    assert_eq!((requests.len(), stub.probes().len()), (2, 1));
    assert_eq!(requests[0].connection, requests[1].connection);
    assert_eq!(requests[1].json()["model"], "m");
}

#[test]
fn sees_the_client_leave() {
    let (sender, gone) = std::sync::mpsc::channel();
    let stub = Stub::ollama(&["m:latest"], move |_, peer| {
        sender.send(peer.wait_gone(common::LIMIT)).unwrap();
    });
    let mut connection = Connection::open(stub.addr).unwrap();
    connection.write(&client::post_bytes(stub.addr, "/api/chat", "{}"));
    stub.wait_request(1);
    let left = Instant::now();
    connection.reset();
    let seen = gone.recv().unwrap().expect("the stub saw the end");
    assert!(seen >= left);
}

#[test]
fn a_killed_stub_and_a_refused_port_refuse() {
    let mut stub = Stub::llama_server("m", chat);
    let mut connection = Connection::open(stub.addr).unwrap();
    stub.kill();
    assert_eq!(connection.exchange(b"GET / HTTP/1.1\r\n\r\n").status, 0);
    assert!(Connection::open(stub.addr).is_err());
    assert!(Connection::open(RefusedPort::new().addr).is_err());
}
