//! Request heads and framing.

use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

use super::common::client::{self, Connection, End};
use super::common::{LIMIT, eventually};
use super::{chat_body, grown_mib, post, proper, stack, survived, told};

/// A POST to the chat with these header lines and this body, then a second request that must not be taken for one of its own.
fn smuggling(lines: &str, body: &str) -> String {
    format!(
        "POST /api/chat HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n{body}DELETE /api/delete HTTP/1.1\r\nHost: localhost\r\nContent-Length: 13\r\n\r\n{{\"model\":\"m\"}}"
    )
}

#[test]
fn ambiguous_framing_is_refused_and_nothing_behind_it_is_read_as_a_request() {
    let (stub, mut router) = stack(proper);
    let chat = chat_body(true);
    let n = chat.len();
    let cases = [
        ("plus", format!("Content-Length: +{n}\r\n"), 400),
        ("minus", "Content-Length: -1\r\n".into(), 400),
        ("hex", "Content-Length: 0x10\r\n".into(), 400),
        ("empty", "Content-Length: \r\n".into(), 400),
        ("words", "Content-Length: abc\r\n".into(), 400),
        ("fraction", "Content-Length: 5.0\r\n".into(), 400),
        ("list", format!("Content-Length: {n}, {n}\r\n"), 400),
        (
            "twice the same",
            format!("Content-Length: {n}\r\nContent-Length: {n}\r\n"),
            400,
        ),
        (
            "twice differing",
            format!("Content-Length: {n}\r\nContent-Length: 5\r\n"),
            400,
        ),
        (
            "length and chunked",
            format!("Content-Length: {n}\r\nTransfer-Encoding: chunked\r\n"),
            400,
        ),
        (
            "chunked and length",
            format!("Transfer-Encoding: chunked\r\nContent-Length: {n}\r\n"),
            400,
        ),
        (
            "above 64 bits",
            "Content-Length: 99999999999999999999999\r\n".into(),
            400,
        ),
        ("200 GB", "Content-Length: 200000000000\r\n".into(), 413),
        (
            "2^64-1",
            "Content-Length: 18446744073709551615\r\n".into(),
            413,
        ),
        ("gzip", "Transfer-Encoding: gzip\r\n".into(), 501),
        (
            "gzip, chunked",
            "Transfer-Encoding: gzip, chunked\r\n".into(),
            501,
        ),
        (
            "chunked, chunked",
            "Transfer-Encoding: chunked, chunked\r\n".into(),
            501,
        ),
        (
            "chunked twice",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n".into(),
            400,
        ),
        ("identity", "Transfer-Encoding: identity\r\n".into(), 501),
        ("no coding", "Transfer-Encoding: \r\n".into(), 501),
        (
            "space before the colon",
            format!("Content-Length : {n}\r\n"),
            400,
        ),
        (
            "folded line",
            format!("X-A: b\r\n c\r\nContent-Length: {n}\r\n"),
            400,
        ),
        ("NUL", "X-A: b\0c\r\n".into(), 400),
        ("no colon", "nonsense\r\n".into(), 400),
    ];
    for (what, lines, status) in cases {
        let mut connection = Connection::open(router.addr).unwrap();
        let answer = connection.exchange(smuggling(&lines, &chat).as_bytes());
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        told("/api/chat", &answer);
        let second = connection.read(false, LIMIT);
        assert_eq!(
            second.status,
            0,
            "{what}: a second answer {}",
            second.text()
        );
    }
    assert!(
        stub.requests().is_empty(),
        "a refused request reached the node: {:?}",
        stub.requests()
    );
    survived(&mut router, "framing");
}

#[test]
fn broken_chunks_are_refused() {
    let (stub, mut router) = stack(proper);
    for (what, body) in [
        ("no number", "xyz\r\n{}\r\n0\r\n\r\n"),
        ("negative", "-1\r\n{}\r\n0\r\n\r\n"),
        ("hex prefix", "0x2\r\n{}\r\n0\r\n\r\n"),
        ("too large", "fffffffffffffffff\r\n{}\r\n0\r\n\r\n"),
        ("longer than its size", "2\r\n{}}\r\n0\r\n\r\n"),
        ("bare line feeds", "2\n{}\n0\n\n"),
        ("empty size", "\r\n{}\r\n0\r\n\r\n"),
    ] {
        let request = format!(
            "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
        );
        let answer = client::send(router.addr, request.as_bytes());
        assert_eq!(answer.status, 400, "{what}: {}", answer.text());
        told("/api/chat", &answer);
    }
    let chat = chat_body(true);
    let proper = format!(
        "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{:x};ext=\"1\"\r\n{}\r\n{:X}\r\n{}\r\n0\r\nTrailer: x\r\n\r\n",
        10,
        &chat[..10],
        chat.len() - 10,
        &chat[10..]
    );
    let answer = client::send(router.addr, proper.as_bytes());
    assert_eq!((answer.status, answer.end), (200, End::Complete));
    assert_eq!(stub.wait_request(1).body, chat.as_bytes());
    survived(&mut router, "chunks");
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn odd_heads_are_answered_or_refused_in_the_dialect() {
    let (_stub, mut router) = stack(proper);
    let cases: [(&str, &str, u16); 20] = [
        ("no Host", "GET /api/tags HTTP/1.1\r\n\r\n", 400),
        (
            "two Hosts",
            "GET /api/tags HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
            400,
        ),
        (
            "a foreign Host",
            "GET /api/tags HTTP/1.1\r\nHost: evil.example\r\n\r\n",
            403,
        ),
        (
            "a foreign Host with a port",
            "GET /v1/models HTTP/1.1\r\nHost: evil.example:8512\r\n\r\n",
            403,
        ),
        (
            "a foreign Host in the target",
            "GET http://evil.example/api/tags HTTP/1.1\r\nHost: evil.example\r\n\r\n",
            403,
        ),
        (
            "a rebinding Host",
            "GET /api/tags HTTP/1.1\r\nHost: localhost.evil.example\r\n\r\n",
            403,
        ),
        (
            "a foreign Origin",
            "GET /api/tags HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n\r\n",
            403,
        ),
        (
            "Origin null",
            "GET /api/tags HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\n\r\n",
            403,
        ),
        (
            "a foreign preflight",
            "OPTIONS /api/chat HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\nAccess-Control-Request-Method: POST\r\n\r\n",
            403,
        ),
        (
            "a local preflight",
            "OPTIONS /api/chat HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost:3000\r\nAccess-Control-Request-Method: POST\r\n\r\n",
            204,
        ),
        (
            "HTTP/1.0 without Host",
            "GET /api/tags HTTP/1.0\r\n\r\n",
            200,
        ),
        (
            "text beyond ASCII",
            "GET /api/tags HTTP/1.1\r\nHost: localhost\r\nX-Title: Caf\u{e9}\r\n\r\n",
            200,
        ),
        (
            "an absolute target",
            "GET http://localhost/api/tags HTTP/1.1\r\nHost: localhost\r\n\r\n",
            200,
        ),
        (
            "an offer of h2c",
            "GET /api/tags HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n",
            200,
        ),
        (
            "empty lines before",
            "\r\n\r\nGET /api/tags HTTP/1.1\r\nHost: localhost\r\n\r\n",
            200,
        ),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ("HTTP/3.0", "GET / HTTP/3.0\r\nHost: localhost\r\n\r\n", 505),
        (
            "no path",
            "GET api/tags HTTP/1.1\r\nHost: localhost\r\n\r\n",
            400,
        ),
        (
            "another Expect",
            "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nExpect: wonders\r\nContent-Length: 2\r\n\r\n{}",
            417,
        ),
        (
            "TLS",
            "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}\r\n\r\n",
            400,
        ),
    ];
    for (what, bytes, status) in cases {
        let answer = client::send(router.addr, bytes.as_bytes());
        assert_eq!(
            answer.status,
            status,
            "{what}: {} {}",
            answer.status_line,
            answer.text()
        );
        if status >= 400 {
            told(
                if bytes.contains("/v1/") {
                    "/v1/models"
                } else {
                    "/api"
                },
                &answer,
            );
        }
    }
    survived(&mut router, "odd heads");
}

#[test]
fn a_head_with_bare_line_feeds_is_answered_or_refused_but_never_hangs() {
    let (_stub, mut router) = stack(proper);
    let answer = client::send(router.addr, b"GET /api/tags HTTP/1.1\nHost: localhost\n\n");
    assert!(matches!(answer.status, 200 | 400), "{}", answer.status_line);
    assert_eq!(answer.end, End::Complete);
    survived(&mut router, "line feeds");
}

#[test]
fn a_preflight_of_a_local_page_is_granted_with_its_headers() {
    let (_stub, router) = stack(proper);
    let asked = b"OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nOrigin: app://obsidian.md\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: x-stainless-os, authorization\r\n\r\n";
    let answer = client::send(router.addr, asked);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("app://obsidian.md")
    );
    assert_eq!(
        answer.header("access-control-allow-headers"),
        Some("x-stainless-os, authorization")
    );
    // A browser refuses an answer that names the origin twice.
    for once in ["access-control-allow-origin", "vary"] {
        let named = answer.headers.iter();
        let times = named.filter(|(name, _)| name.eq_ignore_ascii_case(once));
        assert_eq!(times.count(), 1, "{once}");
    }
}

#[test]
fn endless_heads_cost_no_memory() {
    let (_stub, mut router) = stack(proper);
    survived(&mut router, "before");
    let before = router.resources().rss_bytes;
    let piece = vec![b'a'; 1 << 20];
    let many = "X-A: b\r\n".repeat(200_000);
    for (what, start, repeated) in [
        ("one line", "X-Long: ", &piece[..]),
        ("many lines", "", many.as_bytes()),
    ] {
        let mut connection = Connection::open(router.addr).unwrap();
        connection
            .write(format!("GET /api/tags HTTP/1.1\r\nHost: localhost\r\n{start}").as_bytes());
        let mut sent = 0;
        while sent < 100 << 20 && connection.stream.write_all(repeated).is_ok() {
            sent += repeated.len();
        }
        let answer = connection.read(false, LIMIT);
        assert!(
            matches!(answer.status, 0 | 431),
            "{what}: {}",
            answer.status_line
        );
    }
    let small = format!(
        "GET /api/tags HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n",
        "a".repeat(70_000)
    );
    let answer = client::send(router.addr, small.as_bytes());
    assert_eq!(answer.status, 431, "{}", answer.text());
    told("/api/tags", &answer);
    let grown = grown_mib(&router, before);
    assert!(grown < 10, "{grown} MiB more than before");
    survived(&mut router, "endless heads");
}

#[test]
fn a_head_that_never_ends_is_given_up_however_it_drips() {
    let (_stub, mut router) = stack(proper);
    let addr = router.addr;
    let start = Instant::now();
    std::thread::scope(|scope| {
        let half = scope.spawn(move || {
            let mut connection = Connection::open(addr).unwrap();
            connection.write(b"POST /v1/messages HTTP/1.1\r\nHost: loc");
            connection.read(false, LIMIT)
        });
        let silent = scope.spawn(move || Connection::open(addr).unwrap().read(false, LIMIT));
        let dripping = scope.spawn(move || {
            let mut connection = Connection::open(addr).unwrap();
            connection.write(b"GET /api/tags HTTP/1.1\r\nHost: localhost\r\nX-Slow: ");
            while start.elapsed() < LIMIT && connection.stream.write_all(b"a").is_ok() {
                std::thread::sleep(Duration::from_millis(100));
            }
            start.elapsed()
        });
        assert_eq!(half.join().unwrap().status, 408);
        assert!(matches!(silent.join().unwrap().status, 0 | 408));
        assert!(dripping.join().unwrap() < LIMIT, "the drip went on");
    });
    survived(&mut router, "half heads");
}

#[test]
fn pipelined_requests_are_answered_in_order_and_a_flood_is_held_back() {
    let (stub, mut router) = stack(proper);
    let one = client::post_bytes(router.addr, "/api/chat", &chat_body(true));
    let tags = b"GET /api/tags HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut connection = Connection::open(router.addr).unwrap();
    connection.write(
        &[
            &one[..],
            tags,
            &one,
            b"HEAD /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n",
            &one,
        ]
        .concat(),
    );
    for stream in [true, false, true] {
        let answer = connection.read(false, LIMIT);
        assert_eq!((answer.status, answer.end), (200, End::Complete));
        assert_eq!(
            answer.text().contains("\"done\":true"),
            stream,
            "{}",
            answer.text()
        );
    }
    assert_eq!(connection.read(true, LIMIT).status, 200);
    assert_eq!(connection.read(false, LIMIT).end, End::Complete);
    assert_eq!(stub.requests().len(), 3);
    let before = router.resources().rss_bytes;
    let mut flood = Connection::open(router.addr).unwrap();
    flood
        .stream
        .set_write_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    let many = tags.repeat(1000);
    let mut written = 0_usize;
    let blocked = loop {
        match flood.stream.write(&many) {
            Ok(n) => written += n,
            Err(error) => {
                break matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
            }
        }
        if written > 256 << 20 {
            break false;
        }
    };
    assert!(
        blocked,
        "{written} bytes of requests were taken without one answer being read"
    );
    let grown = grown_mib(&router, before);
    assert!(grown < 10, "{grown} MiB more than before");
    drop(flood);
    survived(&mut router, "flood");
}

#[test]
fn expect_continue_is_told_only_when_the_body_is_wanted() {
    let (stub, mut router) = stack(proper);
    let chat = chat_body(true);
    let mut connection = Connection::open(router.addr).unwrap();
    connection.write(
        format!("POST /api/chat HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n", chat.len()).as_bytes(),
    );
    let mut line = [0; 25];
    std::io::Read::read_exact(&mut connection.stream, &mut line).unwrap();
    assert_eq!(&line, b"HTTP/1.1 100 Continue\r\n\r\n");
    let answer = connection.exchange(chat.as_bytes());
    assert_eq!((answer.status, answer.end), (200, End::Complete));
    assert_eq!(stub.wait_request(1).header("expect"), None);
    let refused = client::send(
        router.addr,
        b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 67108865\r\n\r\n",
    );
    assert_eq!((refused.status, refused.interim.len()), (413, 0));
    told("/api/chat", &refused);
    survived(&mut router, "expect");
}

#[test]
fn http_1_0_gets_no_chunks_and_head_gets_no_body() {
    let (_stub, mut router) = stack(proper);
    let chat = chat_body(true);
    let request = format!(
        "POST /api/chat HTTP/1.0\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{chat}",
        chat.len()
    );
    let answer = client::send(router.addr, request.as_bytes());
    assert_eq!(
        (
            answer.status,
            answer.header("transfer-encoding"),
            answer.end
        ),
        (200, None, End::Complete)
    );
    assert_eq!(answer.lines().last().unwrap()["done"], true);
    for (path, status) in [
        ("/", 200),
        ("/api/version", 200),
        ("/api/tags", 200),
        ("/v1/models", 200),
        ("/api/chat", 405),
        ("/nope", 404),
    ] {
        let mut connection = Connection::open(router.addr).unwrap();
        let request = format!(
            "HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\nGET /api/version HTTP/1.1\r\nHost: localhost\r\n\r\n"
        );
        connection.write(request.as_bytes());
        let head = connection.read(true, LIMIT);
        assert_eq!(head.status, status, "HEAD {path}");
        assert_eq!(
            connection.read(false, LIMIT).json()["version"],
            "0.32.15",
            "after HEAD {path}"
        );
    }
    survived(&mut router, "old clients");
}

#[test]
fn more_connections_than_allowed_get_a_503_and_leave_room_again() {
    let (_stub, mut router) = super::stack_with("[admission]\nmax_connections = 8\n", proper);
    let alone = || super::metric(&router, "gpurouter_connections ", "") <= 1.0;
    assert!(
        eventually(LIMIT, alone),
        "the connections of the start are still there"
    );
    // The one that asked may be there for a moment longer.
    std::thread::sleep(Duration::from_millis(100));
    let held: Vec<Connection> = (0..8)
        .map(|_| Connection::open(router.addr).unwrap())
        .collect();
    let full = eventually(LIMIT, || {
        client::get(router.addr, "/api/tags").status == 503
    });
    assert!(full, "the ninth connection was served");
    let refused = post(&router, "/api/chat", &chat_body(true));
    assert_eq!(refused.status, 503);
    assert!(
        refused.header("retry-after").is_some(),
        "{:?}",
        refused.headers
    );
    told("/api", &refused);
    drop(held);
    assert!(eventually(LIMIT, || client::get(router.addr, "/api/tags")
        .status
        == 200));
    survived(&mut router, "many connections");
}
