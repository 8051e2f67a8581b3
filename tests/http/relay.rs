//! Server and client together, as the router uses them.

use std::{io::Write, sync::mpsc, time::Duration};

use gpurouter::http::{
    client::{Client, Origin, Outgoing, OutgoingBody},
    server::{Framing, Reply, Request},
};

use crate::support::{
    PATIENCE, Running, client, close, closed_by_peer, deadlines, limits, serve, text, until,
    upstream,
};

/// Relays one request as plainly as it can be done.
fn relay(client: &Client, origin: &Origin, request: &mut Request<'_>, reply: &mut Reply<'_>) {
    let body = request.read_body().unwrap();
    let headers: Vec<_> = request.headers().iter().collect();
    let outgoing = Outgoing {
        method: request.method(),
        target: request.target(),
        headers: &headers,
        body: OutgoingBody::Bytes(&body),
    };
    let watch = reply.watch();
    let mut incoming = match client.send(origin, outgoing, &deadlines(), Some(watch)) {
        Ok(incoming) => incoming,
        Err(error) => {
            let _ = reply.full(502, &[], error.to_string().as_bytes());
            return;
        }
    };
    for (name, value) in incoming.headers().iter() {
        reply.add_header(name, value);
    }
    let framing = incoming.length().map_or(Framing::Chunked, Framing::Length);
    let status = incoming.status();
    reply.start(status, &[], framing).unwrap();
    if incoming.ended() {
        return reply.end().unwrap();
    }
    loop {
        let sent = match incoming.advance(Some(watch)) {
            Err(_) => return reply.abort(),
            Ok(false) => return reply.end().unwrap_or(()),
            Ok(true) if incoming.ended() => {
                return reply.push_last(&[incoming.piece()]).unwrap_or(());
            }
            Ok(true) => reply.push(&[incoming.piece()]),
        };
        if sent.is_err() {
            return;
        }
    }
}

fn relaying(origin: Origin) -> Running {
    let client = client();
    serve(limits(), move |request, reply| {
        relay(&client, &origin, request, reply);
    })
}

#[test]
fn a_stream_is_relayed_piece_by_piece() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let upstream = upstream(move |_, mut stream| {
        let head = until(&mut stream, "\r\n\r\n{}");
        assert!(
            head.starts_with("POST /api/chat HTTP/1.1\r\nHost: 127.0.0.1:"),
            "{head}"
        );
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nDate: then\r\nServer: mock\r\nTransfer-Encoding: chunked\r\n\r\n")
            .unwrap();
        for _ in 0..3 {
            stream.write_all(b"6\r\ntoken\n\r\n").unwrap();
            wait.lock().unwrap().recv().unwrap();
        }
        stream.write_all(b"4\r\nlast\r\n0\r\n\r\n").unwrap();
        close(&stream);
    });
    let server = relaying(upstream.origin.clone());
    let mut stream = server.connect();
    stream
        .write_all(b"POST /api/chat HTTP/1.1\r\nHost: router\r\nContent-Length: 2\r\n\r\n{}")
        .unwrap();
    let head = until(&mut stream, "\r\n\r\n");
    assert_eq!(head.matches("Date:").count(), 1, "{head}");
    assert!(head.contains("Date: then\r\nServer: mock\r\n"), "{head}");
    for _ in 0..3 {
        until(&mut stream, "6\r\ntoken\n\r\n");
        go.send(()).unwrap();
    }
    until(&mut stream, "4\r\nlast\r\n0\r\n\r\n");
}

#[test]
fn a_cut_upstream_is_an_unfinished_answer() {
    for answer in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ntoken\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ntoken",
    ] {
        let upstream = upstream(move |_, mut stream| {
            until(&mut stream, "\r\n\r\n");
            stream.write_all(answer.as_bytes()).unwrap();
            close(&stream);
        });
        let server = relaying(upstream.origin.clone());
        let seen = server.talk("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert!(seen.contains("token"), "{seen}");
        assert!(!seen.ends_with("0\r\n\r\n"), "{seen}");
        assert!(!seen.contains("Content-Length: 5"), "{seen}");
    }
}

#[test]
fn a_departed_client_frees_the_upstream_during_prefill_and_during_the_stream() {
    for streaming in [false, true] {
        let (at, ready) = mpsc::channel();
        let upstream = upstream(move |_, mut stream| {
            until(&mut stream, "\r\n\r\n");
            if streaming {
                stream
                    .write_all(
                        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\ntoken\r\n",
                    )
                    .unwrap();
            }
            at.send(()).unwrap();
            assert!(closed_by_peer(&mut stream));
        });
        let server = relaying(upstream.origin.clone());
        let mut stream = server.connect();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            .unwrap();
        ready.recv_timeout(PATIENCE).unwrap();
        if streaming {
            until(&mut stream, "token\r\n");
        }
        std::thread::sleep(Duration::from_millis(10));
        drop(stream);
        assert_eq!(upstream.ended.recv_timeout(PATIENCE), Ok(0));
    }
}

#[test]
fn an_upstream_that_is_down_is_an_answer() {
    let origin = Origin::parse("http://127.0.0.1:1").unwrap();
    let server = relaying(origin);
    let mut stream = server.connect();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        .unwrap();
    assert!(text(&mut stream).starts_with("HTTP/1.1 502 Bad Gateway"));
}
