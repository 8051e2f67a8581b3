//! What the client makes of answers, and which connections it keeps.

use std::{
    io::Write,
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use gpurouter::http::client::{Deadlines, Outgoing, ReadError, SendError};

use crate::support::{
    OK, PATIENCE, Upstream, answering, body, client, close, closed_by_peer, deadlines, eventually,
    get, send, until, upstream,
};

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
    let (go, wait) = mpsc::channel::<()>();
    let (sent, stray) = mpsc::channel();
    let wait = std::sync::Mutex::new(wait);
    let upstream = upstream(move |number, mut stream| {
        until(&mut stream, "\r\n\r\n");
        stream.write_all(OK.as_bytes()).unwrap();
        if number == 0 {
            wait.lock().unwrap().recv().unwrap();
            let late = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(late).unwrap();
            sent.send(()).unwrap();
        }
        assert!(closed_by_peer(&mut stream));
    });
    let client = client();
    assert_eq!(body(&mut send(&client, &upstream).unwrap()).unwrap(), "ok");
    go.send(()).unwrap();
    stray.recv_timeout(PATIENCE).unwrap();
    let mut incoming = send(&client, &upstream).unwrap();
    assert_eq!(incoming.status(), 200);
    assert_eq!(body(&mut incoming).unwrap(), "ok");
}
