//! What the client writes.

use std::{
    io::{Cursor, Read, Write},
    net::Shutdown,
    sync::mpsc,
    time::Duration,
};

use gpurouter::http::client::{Origin, Outgoing, OutgoingBody, SendError};

use crate::support::{OK, PATIENCE, body, client, deadlines, get, post, until, upstream};

#[test]
fn an_early_answer_to_a_large_body_is_read() {
    for closes in [true, false] {
        let upstream = upstream(move |_, mut stream| {
            until(&mut stream, "\r\n\r\n");
            stream
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")
                .unwrap();
            if closes {
                // With unread bytes this is a reset.
                stream.shutdown(Shutdown::Both).unwrap();
            } else {
                std::thread::sleep(Duration::from_millis(300));
            }
        });
        let large = vec![b'x'; 64 << 20];
        let client = client();
        let mut incoming = client
            .send(&upstream.origin, post(&large), &deadlines(), None)
            .unwrap();
        assert_eq!(incoming.status(), 413);
        assert_eq!(body(&mut incoming).unwrap(), "big");
        drop(incoming);
        assert_eq!(client.idle(), 0, "half a request was sent on it");
        let mut stream = Cursor::new(&large);
        let outgoing = Outgoing {
            body: OutgoingBody::Stream {
                reader: &mut stream,
                length: None,
            },
            ..post(b"")
        };
        let incoming = client
            .send(&upstream.origin, outgoing, &deadlines(), None)
            .unwrap();
        assert_eq!(incoming.status(), 413);
    }
}

#[test]
fn a_request_is_written_as_the_upstream_must_read_it() {
    let (seen, requests) = mpsc::channel();
    let upstream = upstream(move |_, mut stream| {
        let head = until(&mut stream, "\r\n\r\n");
        let body = if head.contains("chunked") {
            until(&mut stream, "0\r\n\r\n")
        } else {
            until(
                &mut stream,
                if head.contains("Length: 0") {
                    ""
                } else {
                    "body"
                },
            )
        };
        seen.send((head, body)).unwrap();
        stream.write_all(OK.as_bytes()).unwrap();
    });
    let origin = Origin::parse(&format!("{}/prefix/", upstream.origin)).unwrap();
    let host = upstream.origin.host_header().to_owned();
    let headers: [(&str, &[u8]); 10] = [
        ("Host", b"elsewhere"),
        ("Connection", b"close, X-Private"),
        ("X-Private", b"1"),
        ("Content-Length", b"99"),
        ("transfer-encoding", b"gzip"),
        ("Expect", b"100-continue"),
        ("TE", b"trailers"),
        ("X-Kept", b"a\r\nX-Evil: b"),
        ("X-Bytes", "é".as_bytes()),
        ("Bad Name", b"x"),
    ];
    let (mut long, mut exact) = (Cursor::new(b"body and more"), Cursor::new(b"body"));
    let written = |body| {
        let outgoing = Outgoing {
            method: "POST",
            target: "/api/chat?x=1",
            headers: &headers,
            body,
        };
        let sent = client().send(&origin, outgoing, &deadlines(), None);
        assert_eq!(sent.unwrap().status(), 200);
        requests.recv_timeout(PATIENCE).unwrap()
    };
    let start = format!(
        "POST /prefix/api/chat?x=1 HTTP/1.1\r\nHost: {host}\r\nX-Kept: a  X-Evil: b\r\nX-Bytes: é\r\n"
    );
    let (head, _) = written(OutgoingBody::Empty);
    assert_eq!(head, format!("{start}Content-Length: 0\r\n\r\n"));
    let (head, body) = written(OutgoingBody::Bytes(b"body"));
    assert_eq!(
        (head, body.as_str()),
        (format!("{start}Content-Length: 4\r\n\r\n"), "body")
    );
    let (head, body) = written(OutgoingBody::Stream {
        reader: &mut long,
        length: Some(4),
    });
    assert_eq!(
        (head, body.as_str()),
        (format!("{start}Content-Length: 4\r\n\r\n"), "body")
    );
    let (head, body) = written(OutgoingBody::Stream {
        reader: &mut exact,
        length: None,
    });
    assert_eq!(head, format!("{start}Transfer-Encoding: chunked\r\n\r\n"));
    assert_eq!(body, "4\r\nbody\r\n0\r\n\r\n");
    for target in ["/a b", "/a\r\nX: y"] {
        let outgoing = Outgoing { target, ..get() };
        let refused = client().send(&upstream.origin, outgoing, &deadlines(), None);
        assert!(matches!(refused, Err(SendError::Body(_))), "{target}");
    }
}

/// A body whose source breaks off.
struct Failing;

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::UnexpectedEof.into())
    }
}

#[test]
fn a_body_that_ends_early_is_not_sent_as_complete() {
    let (seen, saw) = mpsc::channel();
    let upstream = upstream(move |_, mut stream| {
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        seen.send(String::from_utf8(all).unwrap()).unwrap();
    });
    for length in [Some(10), None] {
        let mut reader = b"hello".chain(Failing);
        let outgoing = Outgoing {
            body: OutgoingBody::Stream {
                reader: &mut reader,
                length,
            },
            ..post(b"")
        };
        let error = client().send(&upstream.origin, outgoing, &deadlines(), None);
        assert!(matches!(error, Err(SendError::Body(_))), "{error:?}");
        let all = saw.recv_timeout(PATIENCE).unwrap();
        assert!(!all.ends_with("0\r\n\r\n"), "{all}");
    }
}
