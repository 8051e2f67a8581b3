//! What the server makes of bytes, and which bytes it answers with.

use std::{
    io::{Read, Write},
    sync::mpsc,
    time::Duration,
};

use gpurouter::http::server::{BodyError, Framing, Limits, Reply, Request};

use crate::support::{Running, limits, serve, status, text, until};

/// Answers with method, target and body.
fn echo(request: &mut Request<'_>, reply: &mut Reply<'_>) {
    let (method, target) = (request.method(), request.target());
    let answer = match request.read_body() {
        Ok(body) => format!("{method} {target} {}", String::from_utf8_lossy(&body)),
        Err(error) => {
            let body = error.to_string();
            reply.full(error.status(), &[], body.as_bytes()).unwrap();
            return;
        }
    };
    reply
        .full(200, &[("Content-Type", "text/plain")], answer.as_bytes())
        .unwrap();
}

fn echoing() -> Running {
    serve(limits(), echo)
}

#[test]
fn an_invalid_head_is_refused_and_the_connection_closed() {
    let server = echoing();
    let many = "A: b\r\n".repeat(101);
    let long = format!("A: {}\r\n", "b".repeat(70_000));
    let cases = [
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n", "400"),
        ("GET / HTTP/3.0\r\nHost: a\r\n\r\n", "505"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
            "400",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello",
            "400",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\nhello",
            "400",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "400",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
            "400",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
            "400",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\nhello",
            "501",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nExpect: soup\r\nContent-Length: 5\r\n\r\nhello",
            "417",
        ),
        ("\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}", "400"),
        ("CONNECT host:443 HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ];
    for (bytes, expected) in cases {
        let answer = server.talk(bytes);
        assert_eq!(status(&answer), expected, "{bytes:?}: {answer}");
        assert!(answer.contains("Connection: close\r\n"), "{answer}");
        assert_eq!(answer.matches("Connection:").count(), 1, "{answer}");
    }
    for fields in [&many, &long] {
        let answer = server.talk(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        assert_eq!(status(&answer), "431", "{answer}");
    }
    let answer = server.talk("GET /api/chat HTTP/1.1\r\n\r\n");
    assert!(answer.ends_with("/api/chat"), "{answer}");
}

#[test]
fn unusual_but_valid_heads_are_answered() {
    let server = echoing();
    for (head, expected) in [
        (
            "\r\n\r\nGET /a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
            "GET /a ",
        ),
        ("GET /b HTTP/1.1\nHost: h\nConnection: close\n\n", "GET /b "),
        (
            "GET /c HTTP/1.1\r\nHost: h\r\nX-Title: Café\r\nConnection: close\r\n\r\n",
            "GET /c ",
        ),
        (
            "GET http://h/d?e HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
            "GET /d?e ",
        ),
        (
            "GET /f HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n",
            "GET /f ",
        ),
        (
            "PUT /g HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3;x\r\nabc\r\n2\r\nde\r\n0\r\nT: v\r\n\r\n",
            "PUT /g abcde",
        ),
    ] {
        let answer = server.talk(head);
        assert_eq!(status(&answer), "200", "{answer}");
        assert!(answer.ends_with(expected), "{answer}");
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_and_bodies_are_never_requests() {
    let server = echoing();
    let answer = server.talk(
        "POST /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 27\r\n\r\nGET /x HTTP/1.1\r\nHost: h\r\n\r\n\
         POST /2 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nGET /\r\n0\r\n\r\n\
         GET /3 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n\
         GET /4 HTTP/1.1\r\nHost: h\r\n\r\n",
    );
    let places: Vec<_> = ["POST /1 GET", "POST /2 GET", "GET /3 "]
        .iter()
        .map(|part| answer.find(part).unwrap())
        .collect();
    assert!(places.is_sorted(), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 3, "{answer}");
}

#[test]
fn a_small_unread_body_is_skipped_and_a_large_one_closes_the_connection() {
    let server = serve(limits(), |request, reply| {
        reply.full(200, &[], request.method().as_bytes()).unwrap();
    });
    let answer = server.talk(
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello\
         GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 2, "{answer}");
    assert!(answer.ends_with("\r\n\r\nGET"), "{answer}");
    for framing in ["Content-Length: 1000000", "Transfer-Encoding: chunked"] {
        let answer = server.talk(format!(
            "POST / HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"
        ));
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
        assert!(answer.contains("Connection: close"), "{answer}");
    }
}

#[test]
fn a_body_that_is_too_large_is_refused_before_it_is_read_and_the_answer_arrives() {
    let limits = Limits {
        max_body: 1000,
        ..limits()
    };
    let server = serve(limits, echo);
    for length in ["1001", "200000000000", "18446744073709551615"] {
        let mut stream = server.connect();
        write!(
            stream,
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n"
        )
        .unwrap();
        let head = until(&mut stream, "\r\n\r\n");
        assert_eq!(status(&head), "413", "{head}");
    }
    // A client that sends everything before it reads still gets the answer.
    let mut stream = server.connect();
    stream
        .write_all(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 8000000\r\n\r\n")
        .unwrap();
    stream.write_all(&vec![b'x'; 8_000_000]).unwrap();
    assert_eq!(status(&text(&mut stream)), "413");
    let chunk = format!("3e8\r\n{}\r\n", "x".repeat(1000));
    let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = server.talk(format!("{head}{chunk}0\r\n\r\nGET / HTTP/1.0\r\n\r\n"));
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 2, "{answer}");
    assert_eq!(status(&server.talk(format!("{head}{chunk}{chunk}"))), "413");
}

#[test]
fn a_truncated_body_is_never_complete() {
    for request in [
        &b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhello"[..],
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ] {
        for streamed in [false, true] {
            let (seen, saw) = mpsc::channel();
            let server = serve(limits(), move |request, _| {
                let error = if streamed {
                    let mut sink = Vec::new();
                    let read = request.body_reader().read_to_end(&mut sink);
                    read.map(|_| ()).map_err(|error| error.kind())
                } else {
                    let read = request.read_body().map(|_| ());
                    read.map_err(|error| std::io::Error::from(error).kind())
                };
                seen.send(error).unwrap();
            });
            let mut stream = server.connect();
            stream.write_all(request).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(saw.recv(), Ok(Err(std::io::ErrorKind::UnexpectedEof)));
        }
    }
    let answer = echoing()
        .talk("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX");
    assert_eq!(status(&answer), "400");
}

#[test]
fn a_body_that_does_not_come_in_time_is_told_so() {
    let limits = Limits {
        body: Duration::from_millis(50),
        ..limits()
    };
    let server = serve(limits, |request, reply| {
        let error = request.read_body().unwrap_err();
        assert!(matches!(error, BodyError::Timeout));
        reply.full(error.status(), &[], b"").unwrap();
    });
    let answer = server.talk("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhello");
    assert_eq!(status(&answer), "408");
}

#[test]
fn a_streamed_body_has_no_limit_of_size() {
    let limits = Limits {
        max_body: 10,
        ..limits()
    };
    let server = serve(limits, |request, reply| {
        let mut sum = 0_u64;
        let mut piece = [0; 5000];
        let mut body = request.body_reader();
        loop {
            match body.read(&mut piece).unwrap() {
                0 => break,
                count => {
                    sum += piece[..count]
                        .iter()
                        .map(|byte| u64::from(*byte))
                        .sum::<u64>();
                }
            }
        }
        reply.full(200, &[], sum.to_string().as_bytes()).unwrap();
    });
    let body = "\u{1}".repeat(300_000);
    let length = format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 300000\r\n\r\n{body}");
    let chunks = format!("64\r\n{}\r\n", "\u{2}".repeat(100)).repeat(1000);
    let chunked = format!(
        "POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n"
    );
    let wire = length + &chunked;
    let answer = server.talk(wire);
    assert!(answer.contains("\r\n\r\n300000HTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n200000"), "{answer}");
}

#[test]
fn continue_is_sent_only_when_the_body_is_wanted() {
    let server = serve(limits(), |request, reply| {
        if request.path() == "/wanted" {
            echo(request, reply);
        } else {
            reply.full(403, &[], b"").unwrap();
        }
    });
    let mut stream = server.connect();
    stream
        .write_all(b"POST /wanted HTTP/1.1\r\nHost: h\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\n")
        .unwrap();
    assert_eq!(
        until(&mut stream, "\r\n\r\n"),
        "HTTP/1.1 100 Continue\r\n\r\n"
    );
    stream.write_all(b"hello").unwrap();
    assert!(until(&mut stream, "hello").starts_with("HTTP/1.1 200 OK"));
    stream
        .write_all(
            b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        )
        .unwrap();
    let answer = text(&mut stream);
    assert_eq!(status(&answer), "403");
    assert!(answer.contains("Connection: close"), "{answer}");
}

#[test]
fn each_kind_of_client_gets_a_body_it_can_delimit() {
    let server = serve(limits(), |request, reply| {
        if request.path() == "/none" {
            return reply.full(204, &[], b"").unwrap();
        }
        let headers = [("Content-Type", "text/plain"), ("Trailer", "X-T")];
        let framing = match request.path() {
            "/length" => Framing::Length(6),
            _ => Framing::Chunked,
        };
        reply.start(200, &headers, framing).unwrap();
        reply.push(&[b"a", b"bc"]).unwrap();
        reply.push(&[]).unwrap();
        reply.end_with_trailers(&[b"def"], &[("X-T", "v")]).unwrap();
    });
    let body = |answer: &str| answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    let ask = |method: &str, path: &str, version: &str, fields: &str| {
        server.talk(format!(
            "{method} {path} HTTP/{version}\r\nHost: h\r\n{fields}\r\n"
        ))
    };
    let close = "Connection: close\r\n";
    let chunked = ask("GET", "/", "1.1", close);
    assert!(chunked.contains("Transfer-Encoding: chunked\r\n"));
    assert_eq!(body(&chunked), "3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n");
    let trailers = ask(
        "GET",
        "/",
        "1.1",
        "Connection: close, TE\r\nTE: trailers\r\n",
    );
    assert_eq!(
        body(&trailers),
        "3\r\nabc\r\n3\r\ndef\r\n0\r\nX-T: v\r\n\r\n"
    );
    let old = ask("GET", "/", "1.0", "Connection: keep-alive\r\n");
    assert!(
        !old.contains("Transfer-Encoding") && !old.contains("Content-Length"),
        "{old}"
    );
    assert!(old.contains("Connection: close"), "{old}");
    assert_eq!(body(&old), "abcdef");
    let length = ask("GET", "/length", "1.1", close);
    assert_eq!(body(&length), "abcdef");
    for path in ["/", "/length"] {
        let head = ask("HEAD", path, "1.1", close);
        assert_eq!((status(&head), body(&head).as_str()), ("200", ""), "{head}");
    }
    let none = ask("GET", "/none", "1.1", close);
    assert_eq!((status(&none), body(&none).as_str()), ("204", ""));
    assert!(!none.contains("Content-Length"), "{none}");
    // An HTTP/1.0 client that asks for it keeps its connection.
    let mut stream = server.connect();
    for _ in 0..2 {
        stream
            .write_all(b"GET /length HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            .unwrap();
        assert!(until(&mut stream, "abcdef").contains("Connection: keep-alive"));
    }
}

#[test]
fn hop_by_hop_fields_and_dates_are_not_doubled() {
    let server = serve(limits(), |_, reply| {
        reply.add_header("X-Bytes", b"\xff");
        reply.add_header("transfer-encoding", b"chunked");
        let headers = [
            ("date", "Thu, 01 Jan 1970 00:00:00 GMT"),
            ("Content-Length", "77"),
            ("connection", "keep-alive"),
            ("X-Split", "a\r\nX-Evil: b"),
        ];
        reply.full(200, &headers, b"ok").unwrap();
    });
    let mut stream = server.connect();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    assert_eq!(
        bytes,
        b"HTTP/1.1 200 OK\r\nX-Bytes: \xff\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
          X-Split: a  X-Evil: b\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
    );
    let server = echoing();
    let answer = server.talk("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(answer.matches("\r\nDate: ").count(), 1, "{answer}");
}

#[test]
fn a_length_that_is_not_kept_cuts_the_answer() {
    let server = serve(limits(), |request, reply| {
        reply.start(200, &[], Framing::Length(4)).unwrap();
        if request.path() == "/short" {
            reply.push(&[b"ab"]).unwrap();
            assert!(reply.end().is_err());
        } else {
            assert!(reply.push(&[b"abcde"]).is_err());
            assert!(reply.push(&[b"a"]).is_err());
        }
    });
    let short = server.talk("GET /short HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(short.ends_with("\r\n\r\nab"), "{short}");
    assert_eq!(server.talk("GET /long HTTP/1.1\r\nHost: h\r\n\r\n"), "");
}
