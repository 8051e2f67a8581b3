//! Request bodies.

use std::io::{Read, Write};
use std::time::Instant;

use serde_json::json;

use super::common::client::{self, Connection, End};
use super::common::{LIMIT, Peer, Request};
use super::{MODEL, chat_body, counted, grown_mib, post, proper, stack, survived, told};

/// A path of each form.
const PATHS: [&str; 9] = [
    "/api/chat",
    "/api/generate",
    "/api/embed",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/responses",
];

#[test]
fn bodies_that_are_no_request_are_refused_in_the_dialect() {
    let (stub, mut router) = stack(proper);
    let deep = "[".repeat(200_000);
    let deep_model = format!(
        "{{\"model\":\"m\",\"messages\":{}",
        "[{\"a\":".repeat(50_000)
    );
    let bodies: Vec<(&str, &[u8], u16)> = vec![
        ("empty", b"", 400),
        ("blank", b"  \r\n", 400),
        ("not JSON", b"hello", 400),
        ("cut", b"{\"model\":\"m\",\"messages\":[{\"role\":\"us", 400),
        ("two documents", b"{\"model\":\"m\"}{\"model\":\"m\"}", 400),
        ("an array", b"[]", 400),
        ("an array of requests", b"[{\"model\":\"m\"}]", 400),
        ("null", b"null", 400),
        ("a number", b"42", 400),
        ("a string", b"\"m\"", 400),
        (
            "no model",
            b"{\"messages\":[],\"prompt\":\"\",\"input\":\"\"}",
            400,
        ),
        ("model null", b"{\"model\":null}", 400),
        ("model empty", b"{\"model\":\"\"}", 400),
        ("model a number", b"{\"model\":5}", 400),
        ("model an array", b"{\"model\":[\"m\"]}", 400),
        ("model twice", b"{\"model\":\"m\",\"model\":\"nope\"}", 400),
        (
            "stream a string",
            b"{\"model\":\"m\",\"messages\":[],\"stream\":\"yes\"}",
            400,
        ),
        (
            "stream a number",
            b"{\"model\":\"m\",\"messages\":[],\"stream\":1}",
            400,
        ),
        (
            "unknown model",
            b"{\"model\":\"nope\",\"messages\":[]}",
            404,
        ),
        (
            "half a name",
            b"{\"model\":\"m:late\",\"messages\":[]}",
            404,
        ),
        ("NUL", b"{\"model\":\"m\0\"}", 400),
        (
            "not UTF-8",
            b"{\"model\":\"m\xff\xfe\",\"messages\":[]}",
            400,
        ),
        ("UTF-16", b"\xff\xfe{\0\"\0m\0", 400),
        ("deep", deep.as_bytes(), 400),
        ("deep in a request", deep_model.as_bytes(), 400),
    ];
    for path in PATHS {
        for (what, body, status) in &bodies {
            let mut request = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
            request.extend_from_slice(body);
            let answer = client::send(router.addr, &request);
            assert_eq!(
                answer.status,
                *status,
                "{path} with {what}: {}",
                answer.text()
            );
            told(path, &answer);
        }
    }
    assert!(
        stub.requests()
            .iter()
            .all(|request| request.body.is_empty()),
        "a refused body reached the node"
    );
    survived(&mut router, "bodies");
}

#[test]
fn wrong_types_elsewhere_are_the_nodes_business_or_refused_but_never_hang() {
    let (_stub, mut router) = stack(proper);
    for path in PATHS {
        for value in [
            "5",
            "\"x\"",
            "{}",
            "[1,2]",
            "[null]",
            "[[]]",
            "[{}]",
            "[{\"role\":5,\"content\":7}]",
            "[{\"content\":[{\"type\":9}]}]",
            "null",
            "true",
        ] {
            for key in [
                "messages",
                "prompt",
                "input",
                "options",
                "system",
                "tools",
                "keep_alive",
                "max_tokens",
                "images",
                "stream_options",
                "think",
            ] {
                let body = format!("{{\"model\":\"m\",\"stream\":false,\"{key}\":{value}}}");
                let answer = post(&router, path, &body);
                assert_eq!(answer.end, End::Complete, "{path} {body}");
                if answer.status != 200 {
                    assert!(
                        (400..500).contains(&answer.status),
                        "{path} {body}: {} {}",
                        answer.status,
                        answer.text()
                    );
                    told(path, &answer);
                }
            }
        }
    }
    survived(&mut router, "types");
}

#[test]
fn empty_messages_go_to_the_node_as_they_are() {
    let (stub, mut router) = stack(proper);
    let body = "{\"model\":\"m\",\"messages\":[]}";
    let answer = post(&router, "/api/chat", body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(stub.wait_request(1).body, body.as_bytes());
    survived(&mut router, "empty messages");
}

#[test]
fn a_body_above_the_limit_is_refused_before_it_is_read() {
    let (stub, mut router) = stack(proper);
    survived(&mut router, "before");
    let before = router.resources().rss_bytes;
    let reached = stub.requests().len();
    for path in PATHS {
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 67108865\r\n\r\n");
        let answer = client::send(router.addr, head.as_bytes());
        assert_eq!(answer.status, 413, "{path}");
        told(path, &answer);
    }
    let mut connection = Connection::open(router.addr).unwrap();
    connection.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut piece = b"100000\r\n".to_vec();
    piece.resize(piece.len() + 0x10_0000, b' ');
    piece.extend_from_slice(b"\r\n");
    for _ in 0..65 {
        connection.write(&piece);
    }
    let answer = connection.read(false, LIMIT);
    assert_eq!(answer.status, 413, "{}", answer.status_line);
    told("/v1/chat/completions", &answer);
    assert_eq!(stub.requests().len(), reached);
    survived(&mut router, "too large");
    let grown = grown_mib(&router, before);
    assert!(
        grown < 100,
        "{grown} MiB more than before: what was read is kept"
    );
}

#[test]
fn a_body_of_exactly_the_limit_passes_unchanged() {
    const LARGEST: usize = 64 << 20;
    let (stub, mut router) = stack(|request: &Request, peer: &mut Peer| {
        assert!(request.body.len() == LARGEST || request.body.len() < 1000);
        proper(request, peer);
    });
    // Far more text than fits any window would be refused: most of it is a field that nobody reads.
    let (front, back) = (
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}],\"x_padding\":[\"",
        "\"]}",
    );
    let mut body = front.to_owned();
    let piece = "abc \\n \u{e9} \",\"";
    while body.len() + piece.len() <= LARGEST - back.len() {
        body.push_str(piece);
    }
    body.push_str(&"x".repeat(LARGEST - back.len() - body.len()));
    body.push_str(back);
    let start = Instant::now();
    let mut connection = Connection::open(router.addr).unwrap();
    connection.write(&client::post_bytes(router.addr, "/api/chat", &body));
    // Unoptimised code on a shared machine takes its time.
    let answer = connection.read(false, 4 * LIMIT);
    assert_eq!(
        (answer.status, answer.end),
        (200, End::Complete),
        "{}",
        answer.text()
    );
    assert!(
        stub.wait_request(1).body == body.as_bytes(),
        "the body was changed"
    );
    eprintln!("64 MiB took {:?} in this build", start.elapsed());
    survived(&mut router, "64 MiB");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// As many zeros, compressed.
fn bomb(bytes: u64, gz: bool) -> Vec<u8> {
    if gz {
        let mut encoder = flate2::read::GzEncoder::new(
            std::io::repeat(b' ').take(bytes),
            flate2::Compression::fast(),
        );
        let mut out = Vec::new();
        encoder.read_to_end(&mut out).unwrap();
        return out;
    }
    // A frame of run-length blocks (RFC 8878, 3.1.1.2): 128 KiB from four bytes.
    let mut out = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];
    for block in 0..bytes.div_ceil(128 << 10) {
        let last = u32::from((block + 1) * (128 << 10) >= bytes);
        let header = ((128_u32 << 10) << 3) | (1 << 1) | last;
        out.extend_from_slice(&header.to_le_bytes()[..3]);
        out.push(b' ');
    }
    out
}

#[test]
fn encoded_bodies_are_decoded_within_the_limit() {
    let (stub, mut router) = stack(proper);
    let chat = chat_body(true);
    let send = |encoding: &str, body: &[u8]| {
        let mut request = format!("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: {encoding}\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        request.extend_from_slice(body);
        client::send(router.addr, &request)
    };
    for (encoding, body) in [
        ("gzip", gzip(chat.as_bytes())),
        ("zstd", zstd(chat.as_bytes())),
        ("identity", chat.clone().into_bytes()),
    ] {
        let answer = send(encoding, &body);
        assert_eq!(answer.status, 200, "{encoding}: {}", answer.text());
        let arrived = stub.requests().pop().unwrap();
        assert_eq!(
            (
                arrived.header("content-encoding"),
                String::from_utf8(arrived.body.clone()).unwrap()
            ),
            (None, chat.clone()),
            "{encoding}"
        );
    }
    let reached = stub.requests().len();
    let before = router.resources().rss_bytes;
    let damaged = |mut body: Vec<u8>| {
        let at = body.len() - 6;
        body.truncate(at);
        body
    };
    for (what, encoding, body, status) in [
        ("damaged gzip", "gzip", damaged(gzip(chat.as_bytes())), 400),
        ("damaged zstd", "zstd", damaged(zstd(chat.as_bytes())), 400),
        ("not gzip", "gzip", chat.clone().into_bytes(), 400),
        ("not zstd", "zstd", chat.clone().into_bytes(), 400),
        ("brotli", "br", chat.clone().into_bytes(), 415),
        ("nested", "gzip, zstd", chat.clone().into_bytes(), 415),
        ("a gzip bomb", "gzip", bomb(200 << 20, true), 413),
        ("a zstd bomb", "zstd", bomb(200 << 20, false), 413),
        (
            "a zstd window of 2 GB",
            "zstd",
            vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x03, 0x00, 0x00],
            400,
        ),
    ] {
        let answer = send(encoding, &body);
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        told("/v1/chat/completions", &answer);
    }
    assert_eq!(
        stub.requests().len(),
        reached,
        "a refused body reached the node"
    );
    survived(&mut router, "encodings");
    let grown = grown_mib(&router, before);
    assert!(grown < 200, "{grown} MiB more than before");
}

#[test]
fn a_body_that_never_ends_reaches_no_node() {
    let (stub, mut router) = stack(proper);
    for bytes in [
        &b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n{\"model\":\"m\""[..],
        b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{\"model\":\"m\"",
    ] {
        for reset in [false, true] {
            let mut connection = Connection::open(router.addr).unwrap();
            connection.write(bytes);
            if reset {
                connection.reset();
            }
        }
    }
    survived(&mut router, "half bodies");
    assert_eq!(
        stub.requests().len(),
        1,
        "only the probe of survival: {:?}",
        stub.requests()
    );
    counted(&router, "ok", 1.0);
}

#[test]
fn changes_of_models_with_bad_bodies_are_refused() {
    let (stub, mut router) = stack(proper);
    for (method, path) in [
        ("POST", "/api/pull"),
        ("POST", "/api/create"),
        ("POST", "/api/copy"),
        ("DELETE", "/api/delete"),
        ("POST", "/api/show"),
        ("POST", "/api/push"),
    ] {
        for body in ["", "[]", "{", "{}", "{\"model\":5}", "{\"model\":\"\"}"] {
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let answer = client::send(router.addr, request.as_bytes());
            assert_eq!(answer.status, 400, "{path} {body}: {}", answer.text());
            told(path, &answer);
        }
    }
    assert!(stub.requests().is_empty());
    let shown = post(&router, "/api/show", &json!({"name": MODEL}).to_string());
    assert_eq!(shown.status, 200);
    survived(&mut router, "changes");
}
