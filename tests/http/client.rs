//! The client against scripted upstreams.

use std::{
    io::{Cursor, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use gpurouter::http::{
    Watch,
    client::{Deadlines, Origin, Outgoing, OutgoingBody, ReadError, SendError},
};

use crate::support::{
    PATIENCE, Upstream, answering, body, client, close, closed_by_peer, deadlines, eventually, get,
    post, send, until, upstream,
};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn a_body_is_read_to_its_proper_end_in_each_framing() {
    for (answer, close_delimited, length) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            false,
            Some(5),
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x\r\nllo\r\n0\r\n\r\n",
            false,
            None,
        ),
        ("HTTP/1.1 200 OK\r\n\r\nhello", true, None),
        ("HTTP/1.0 200 OK\r\n\r\nhello", true, None),
        (
            "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            false,
            Some(5),
        ),
    ] {
        let upstream = answering(answer);
        let mut incoming = send(&client(), &upstream).unwrap();
        assert_eq!(incoming.status(), 200);
        assert_eq!(incoming.close_delimited(), close_delimited, "{answer}");
        assert_eq!(incoming.length(), length, "{answer}");
        assert_eq!(body(&mut incoming).unwrap(), "hello");
        assert!(incoming.ended());
        assert!(matches!(incoming.next(None), Ok(None)));
    }
}

#[test]
fn one_piece_holds_the_payload_of_one_read_and_tells_when_it_is_the_last() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let upstream = upstream(move |_, mut stream| {
        until(&mut stream, "\r\n\r\n");
        let pieces = [
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n2\r\nab\r\n1\r\nc\r\n",
            "3\r\nde",
            "f\r\n",
            "1\r\ng\r\n0\r\nX-T: v\r\n\r\n",
        ];
        for piece in pieces {
            stream.write_all(piece.as_bytes()).unwrap();
            wait.lock().unwrap().recv().unwrap();
        }
    });
    let mut incoming = send(&client(), &upstream).unwrap();
    let mut pieces = Vec::new();
    for expected in ["abc", "de", "f"] {
        if expected == "f" {
            // Only framing comes before the next payload.
            go.send(()).unwrap();
        }
        if expected == "f" {
            break;
        }
        let piece = incoming.next(None).unwrap().unwrap().to_vec();
        pieces.push(String::from_utf8(piece).unwrap());
        assert!(!incoming.ended());
        go.send(()).unwrap();
    }
    let mut rest = String::new();
    go.send(()).unwrap();
    while let Some(piece) = incoming.next(None).unwrap() {
        rest.push_str(std::str::from_utf8(piece).unwrap());
        if rest == "fg" {
            assert!(incoming.ended());
        }
    }
    assert_eq!((pieces.concat() + &rest).as_str(), "abcdefg");
    assert_eq!(incoming.trailers().get_str("x-t"), Some("v"));
}

#[test]
fn answers_without_a_body_leave_the_connection_usable() {
    let upstream = upstream(|number, mut stream| {
        assert_eq!(number, 0, "a second connection");
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
            OK,
        ] {
            until(&mut stream, "\r\n\r\n");
            stream.write_all(answer.as_bytes()).unwrap();
        }
        close(&stream);
    });
    let client = client();
    for method in ["HEAD", "GET", "GET"] {
        let outgoing = Outgoing { method, ..get() };
        let incoming = client
            .send(&upstream.origin, outgoing, &deadlines(), None)
            .unwrap();
        assert!(incoming.ended());
    }
    assert_eq!(body(&mut send(&client, &upstream).unwrap()).unwrap(), "ok");
}

#[test]
fn a_malformed_answer_is_not_relayed() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(100);
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(70_000));
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\nhello",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 999 What\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        interim.as_str(),
        long.as_str(),
    ] {
        let error = send(&client(), &answering(answer)).unwrap_err();
        assert!(
            matches!(error, SendError::Malformed(_)),
            "{error:?} {answer:.60}"
        );
        assert!(error.answered());
    }
    let cut = send(&client(), &answering("HTTP/1.1 200 OK\r\nContent-")).unwrap_err();
    assert!(
        matches!(cut, SendError::CutHead) && cut.answered(),
        "{cut:?}"
    );
    let none = send(&client(), &answering("")).unwrap_err();
    assert!(
        matches!(none, SendError::ClosedWithoutAnswer) && !none.answered(),
        "{none:?}"
    );
}

#[test]
fn a_cut_answer_is_never_an_end() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
    ] {
        let mut incoming = send(&client(), &answering(answer)).unwrap();
        let error = body(&mut incoming).unwrap_err();
        assert!(matches!(error, ReadError::Cut), "{error:?} {answer}");
        assert!(!incoming.ended());
        assert!(matches!(incoming.next(None), Err(ReadError::Cut)));
    }
}

/// An upstream that keeps its connections and says on which one a request came.
fn keeping() -> Upstream {
    upstream(|number, mut stream| {
        let text = number.to_string();
        let mut byte = [0];
        while matches!(stream.peek(&mut byte), Ok(1)) {
            until(&mut stream, "\r\n\r\n");
            let length = text.len();
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{text}");
            stream.write_all(answer.as_bytes()).unwrap();
        }
    })
}

#[test]
fn finished_connections_are_kept_and_unfinished_ones_closed() {
    let upstream = keeping();
    let client = client();
    for _ in 0..3 {
        assert_eq!(body(&mut send(&client, &upstream).unwrap()).unwrap(), "0");
    }
    let unfinished = send(&client, &upstream).unwrap();
    let mut other = send(&client, &upstream).unwrap();
    assert_eq!(body(&mut other).unwrap(), "1");
    drop((unfinished, other));
    assert_eq!(upstream.ended.recv_timeout(PATIENCE), Ok(0));
    assert_eq!(body(&mut send(&client, &upstream).unwrap()).unwrap(), "1");
    assert_eq!(client.idle(), 1);
}

#[test]
fn a_connection_that_the_upstream_closed_is_replaced_without_an_error() {
    let upstream = upstream(|_, mut stream| {
        until(&mut stream, "\r\n\r\n");
        stream.write_all(OK.as_bytes()).unwrap();
        close(&stream);
    });
    let client = client();
    for _ in 0..3 {
        assert_eq!(body(&mut send(&client, &upstream).unwrap()).unwrap(), "ok");
        // The close may come before or after the next request begins.
    }
    assert_eq!(body(&mut send(&client, &upstream).unwrap()).unwrap(), "ok");
    // The upstream waits for our close, so its own FIN is here for sure when it is swept.
    eventually("the sweep finds it", || {
        client.sweep();
        client.idle() == 0
    });
}

/// An upstream whose connection `0` answers once and treats the second request with `second`; others answer `OK`.
fn failing(
    second: impl Fn(&mut TcpStream) + Send + Sync + 'static,
) -> (Upstream, Arc<AtomicUsize>) {
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    let upstream = upstream(move |number, mut stream| {
        until(&mut stream, "\r\n\r\n");
        count.fetch_add(1, Ordering::SeqCst);
        stream.write_all(OK.as_bytes()).unwrap();
        if number == 0 {
            until(&mut stream, "\r\n\r\n");
            count.fetch_add(1, Ordering::SeqCst);
            second(&mut stream);
        }
    });
    (upstream, requests)
}

#[test]
fn a_request_is_repeated_once_only_if_a_kept_connection_failed_before_any_answer() {
    let (upstream, requests) = failing(|_| {});
    let client = client();
    for _ in 0..2 {
        assert_eq!(body(&mut send(&client, &upstream).unwrap()).unwrap(), "ok");
    }
    assert_eq!(requests.load(Ordering::SeqCst), 3);

    let (upstream, requests) = failing(|stream| stream.write_all(b"HTTP/1.1 2").unwrap());
    body(&mut send(&client, &upstream).unwrap()).unwrap();
    let error = send(&client, &upstream).unwrap_err();
    assert!(matches!(error, SendError::CutHead), "{error:?}");
    assert_eq!(requests.load(Ordering::SeqCst), 2);

    let (upstream, requests) = failing(|stream| assert!(closed_by_peer(stream)));
    body(&mut send(&client, &upstream).unwrap()).unwrap();
    let short = Deadlines {
        first_byte: Some(Duration::from_millis(30)),
        ..deadlines()
    };
    let error = client
        .send(&upstream.origin, get(), &short, None)
        .unwrap_err();
    assert!(matches!(error, SendError::FirstByteTimeout), "{error:?}");
    assert_eq!(requests.load(Ordering::SeqCst), 2);

    // A fresh connection that fails is not tried again.
    let upstream = answering("");
    let error = send(&client, &upstream).unwrap_err();
    assert!(matches!(error, SendError::ClosedWithoutAnswer), "{error:?}");
    upstream.ended.recv_timeout(PATIENCE).unwrap();
    assert!(upstream.ended.try_recv().is_err());
}

#[test]
fn an_answer_that_nobody_asked_for_is_not_taken_for_the_next_one() {
    let upstream = upstream(|number, mut stream| {
        until(&mut stream, "\r\n\r\n");
        stream.write_all(OK.as_bytes()).unwrap();
        if number == 0 {
            let late = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(late).unwrap();
        }
        assert!(closed_by_peer(&mut stream));
    });
    let client = client();
    assert_eq!(body(&mut send(&client, &upstream).unwrap()).unwrap(), "ok");
    eventually("the stray answer is noticed", || {
        client.sweep();
        client.idle() == 0
    });
    assert_eq!(body(&mut send(&client, &upstream).unwrap()).unwrap(), "ok");
}

#[test]
fn each_phase_has_its_own_limit() {
    let short = Some(Duration::from_millis(40));
    let silent = || {
        upstream(|_, mut stream| {
            until(&mut stream, "\r\n\r\n");
            assert!(closed_by_peer(&mut stream));
        })
    };
    let first = Deadlines {
        first_byte: short,
        ..deadlines()
    };
    let error = client().send(&silent().origin, get(), &first, None);
    assert!(matches!(error, Err(SendError::FirstByteTimeout)));
    let total = Deadlines {
        total: short,
        ..deadlines()
    };
    let error = client().send(&silent().origin, get(), &total, None);
    assert!(matches!(error, Err(SendError::TotalTimeout)));
    let stalls = || {
        upstream(|_, mut stream| {
            until(&mut stream, "\r\n\r\n");
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart")
                .unwrap();
            assert!(closed_by_peer(&mut stream));
        })
    };
    let between = Deadlines {
        between: short,
        ..deadlines()
    };
    for (limits, idle) in [(&between, true), (&total, false)] {
        let upstream = stalls();
        let mut incoming = client()
            .send(&upstream.origin, get(), limits, None)
            .unwrap();
        assert_eq!(incoming.next(None).unwrap(), Some(&b"part"[..]));
        match incoming.next(None) {
            Err(ReadError::Idle) if idle => {}
            Err(ReadError::Total) if !idle => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(upstream.ended.recv_timeout(PATIENCE), Ok(0));
    }
    // An upstream that does not read.
    let deaf = upstream(|_, stream| {
        std::thread::sleep(Duration::from_millis(500));
        drop(stream);
    });
    let large = vec![b'x'; 64 << 20];
    let error = client().send(&deaf.origin, post(&large), &between, None);
    assert!(matches!(error, Err(SendError::SendTimeout)));
}

#[test]
fn connecting_has_a_limit_and_a_refusal_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let origin = Origin::parse(&format!("http://{address}")).unwrap();
    // With a full queue of connections nobody accepts, further ones are not answered.
    rustix::net::listen(&listener, 0).unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        queued.push(stream);
        assert!(queued.len() < 10);
    }
    let limits = Deadlines {
        connect: Duration::from_millis(50),
        ..deadlines()
    };
    let error = client().send(&origin, get(), &limits, None);
    assert!(matches!(error, Err(SendError::ConnectTimeout)), "{error:?}");
    let (near, far) = pair();
    let gone = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        drop(far);
    });
    let error = client().send(&origin, get(), &deadlines(), Some(Watch::new(&near)));
    assert!(matches!(error, Err(SendError::ClientGone)), "{error:?}");
    gone.join().unwrap();
    drop((listener, queued));
    let error = client().send(&origin, get(), &deadlines(), None);
    assert!(matches!(error, Err(SendError::Connect(_))), "{error:?}");
    let unknown = Origin::parse("http://no-such-host.invalid").unwrap();
    let error = client().send(&unknown, get(), &limits, None);
    assert!(
        matches!(
            error,
            Err(SendError::Resolve(_) | SendError::ConnectTimeout)
        ),
        "{error:?}"
    );
}

#[test]
fn both_families_of_localhost_are_tried() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        return;
    };
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        until(&mut stream, "\r\n\r\n");
        stream.write_all(OK.as_bytes()).unwrap();
    });
    let origin = Origin::parse(&format!("http://localhost:{port}")).unwrap();
    let mut incoming = client().send(&origin, get(), &deadlines(), None).unwrap();
    assert_eq!(body(&mut incoming).unwrap(), "ok");
}

/// Both ends of a loopback connection.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

/// Runs `phase` with a client that leaves once `ready` says so, and returns how long the upstream took to see it.
fn leave(
    ready: mpsc::Receiver<()>,
    closed: mpsc::Receiver<Instant>,
    phase: impl FnOnce(Watch<'_>) -> bool,
) -> Duration {
    let (near, far) = pair();
    let leaving = std::thread::spawn(move || {
        ready.recv().unwrap();
        std::thread::sleep(Duration::from_millis(20));
        let at = Instant::now();
        drop(far);
        at
    });
    assert!(phase(Watch::new(&near)), "not told that the client left");
    let left = leaving.join().unwrap();
    closed.recv_timeout(PATIENCE).unwrap() - left
}

#[test]
fn a_client_that_leaves_closes_the_upstream_in_every_phase() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for phase in ["prefill", "silence", "stream", "sending"] {
        let (at, ready) = mpsc::channel();
        let (end, closed) = mpsc::channel();
        let upstream = upstream(move |_, mut stream| {
            if phase == "sending" {
                let mut some = [0; 1000];
                stream.read_exact(&mut some).unwrap();
                at.send(()).unwrap();
                std::thread::sleep(Duration::from_millis(60));
                assert!(closed_by_peer(&mut stream));
                end.send(Instant::now() - Duration::from_millis(40))
                    .unwrap();
                return;
            }
            until(&mut stream, "\r\n\r\n");
            if phase != "prefill" {
                stream.write_all(chunked.as_bytes()).unwrap();
            }
            at.send(()).unwrap();
            while phase == "stream" && stream.write_all(b"3\r\nabc\r\n").is_ok() {
                std::thread::sleep(Duration::from_micros(200));
            }
            assert!(closed_by_peer(&mut stream));
            end.send(Instant::now()).unwrap();
        });
        let large = vec![b'x'; 32 << 20];
        let took = leave(ready, closed, |watch| {
            let outgoing = if phase == "sending" {
                post(&large)
            } else {
                get()
            };
            let sent = client().send(&upstream.origin, outgoing, &deadlines(), Some(watch));
            let mut incoming = match sent {
                Ok(incoming) => incoming,
                Err(error) => return matches!(error, SendError::ClientGone),
            };
            loop {
                match incoming.next(Some(watch)) {
                    Ok(Some(_)) => {}
                    other => return matches!(other, Err(ReadError::ClientGone)),
                }
            }
        });
        println!("{phase}: {took:?}");
        // 5 ms on a quiet machine; a limit that only a missed departure exceeds.
        assert!(took < Duration::from_secs(2), "{phase}: {took:?}");
    }
}

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
    let (seen, saw) = mpsc::channel();
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
    let send = |body| {
        let outgoing = Outgoing {
            method: "POST",
            target: "/api/chat?x=1",
            headers: &headers,
            body,
        };
        let sent = client().send(&origin, outgoing, &deadlines(), None);
        assert_eq!(sent.unwrap().status(), 200);
        saw.recv_timeout(PATIENCE).unwrap()
    };
    let start = format!(
        "POST /prefix/api/chat?x=1 HTTP/1.1\r\nHost: {host}\r\nX-Kept: a  X-Evil: b\r\nX-Bytes: é\r\n"
    );
    let (head, _) = send(OutgoingBody::Empty);
    assert_eq!(head, format!("{start}Content-Length: 0\r\n\r\n"));
    let (head, body) = send(OutgoingBody::Bytes(b"body"));
    assert_eq!(
        (head, body.as_str()),
        (format!("{start}Content-Length: 4\r\n\r\n"), "body")
    );
    let (head, body) = send(OutgoingBody::Stream {
        reader: &mut long,
        length: Some(4),
    });
    assert_eq!(
        (head, body.as_str()),
        (format!("{start}Content-Length: 4\r\n\r\n"), "body")
    );
    let (head, body) = send(OutgoingBody::Stream {
        reader: &mut exact,
        length: None,
    });
    assert_eq!(head, format!("{start}Transfer-Encoding: chunked\r\n\r\n"));
    assert_eq!(body, "4\r\nbody\r\n0\r\n\r\n");
    for target in ["/a b", "/a\r\nX: y"] {
        let outgoing = Outgoing { target, ..get() };
        let sent = client().send(&upstream.origin, outgoing, &deadlines(), None);
        assert!(
            target.is_empty() || matches!(sent, Err(SendError::Body(_))),
            "{target}"
        );
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
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::UnexpectedEof.into())
        }
    }
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
