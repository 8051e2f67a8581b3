//! What reaches a node: the client's bytes, and the few that have to be others.

use serde_json::json;

use super::common::client::{self, Connection, Response};
use super::common::{Kind, Peer, Request, Router, Stub, reply};
use super::start;

/// Numbers, escapes, spaces, an order and fields that a re-encoding would not keep.
const ODD: &str = "{ \"x_future\":[1e3, 1.0,-0.0 ,12345678901234567890123, 0.1000],\"messages\":[ {\"role\":\"user\",\"content\":\"caf\\u00e9 \\/ \u{1F600}\",\"x\":null} ],\r\n\t\"model\":\"m:latest\" ,\"options\":{\"num_ctx\":4096,\"temperature\":0.70,\"x\":{}},\"stream\":false , \"keep_alive\":\"5m\"}";

fn post(router: &Router, path: &str, headers: &str, body: &str) -> Response {
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        router.addr,
        body.len()
    );
    Connection::open(router.addr)
        .unwrap()
        .exchange(request.as_bytes())
}

#[test]
fn a_body_that_needs_no_change_arrives_byte_for_byte() {
    for kind in [Kind::Ollama, Kind::OpenAi] {
        let node = Stub::start(kind, &["m:latest"], reply::healthy);
        let router = start(&[("only", node.url())], "");
        let path = if kind == Kind::Ollama {
            "/api/chat?trace=1&x=%20"
        } else {
            "/v1/chat/completions?trace=1&x=%20"
        };
        let answer = post(&router, path, "", ODD);
        assert_eq!(answer.status, 200, "{answer:?}");
        let seen = &node.requests()[0];
        assert_eq!(String::from_utf8_lossy(&seen.body), ODD);
        assert_eq!(seen.target, path);
    }
}

#[test]
fn another_model_name_changes_its_span_and_nothing_else() {
    let node = Stub::ollama(&["m:latest"], reply::healthy);
    let router = start(&[("only", node.url())], "[aliases]\n\"other\" = \"m\"\n");
    let odd = ODD.replace("m:latest", "other");
    assert_eq!(post(&router, "/api/chat", "", &odd).status, 200);
    assert_eq!(String::from_utf8_lossy(&node.requests()[0].body), ODD);
}

#[test]
fn answers_come_back_byte_for_byte_too() {
    let odd = "{ \"model\":\"m\",\"total_duration\":9007199254740993 ,\"x\":1.0,\"message\":{\"role\":\"assistant\",\"content\":\"caf\\u00e9\"},\"done\":true }";
    let node = Stub::ollama(&["m"], move |_, peer| {
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nX-Node-Says: hello\r\nServer: node\r\nContent-Length: {}\r\n\r\n{odd}",
            odd.len()
        );
        peer.send(answer.as_bytes());
    });
    let router = start(&[("only", node.url())], "");
    let answer = client::post(
        router.addr,
        "/api/chat",
        &json!({"model": "m", "messages": [], "stream": false, "x": 1}),
    );
    assert_eq!(answer.text(), odd);
    assert_eq!(
        (answer.header("x-node-says"), answer.header("server")),
        (Some("hello"), None)
    );
}

#[test]
fn a_stream_comes_back_byte_for_byte_in_either_form() {
    let node = Stub::ollama(&["m"], reply::healthy);
    let router = start(&[("only", node.url())], "");
    for (path, expected) in [
        (
            "/api/chat",
            reply::ollama_chat("m", &["one ", "two ", "three"]),
        ),
        (
            "/v1/chat/completions",
            reply::openai_chat("m", &["one ", "two ", "three"]),
        ),
    ] {
        let answer = post(
            &router,
            path,
            "",
            "{\"model\":\"m\",\"stream\":true,\"x\":1,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}",
        );
        let direct: Vec<u8> = {
            let stub = Stub::ollama(&["m"], move |_: &Request, peer: &mut Peer| {
                peer.send(&expected.concat());
            });
            client::post(stub.addr, "/", &json!({})).body
        };
        assert_eq!(
            String::from_utf8_lossy(&answer.body),
            String::from_utf8_lossy(&direct),
            "{path}"
        );
        assert_eq!(answer.header("x-accel-buffering"), Some("no"));
    }
}

#[test]
fn headers_of_the_connection_and_of_the_browser_stay_here() {
    let node = Stub::ollama(&["m"], reply::healthy);
    let router = start(&[("only", node.url())], "");
    let headers = "Accept-Encoding: gzip, br\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nTE: trailers\r\nOrigin: http://localhost:3000\r\nX-OpenWebUI-Chat-Id: 7\r\nAuthorization: Bearer t\r\nUser-Agent: test\r\n";
    assert_eq!(post(&router, "/api/chat", headers, ODD).status, 200);
    let seen = &node.requests()[0];
    assert_eq!(seen.header("host"), Some(node.addr.to_string().as_str()));
    for gone in ["accept-encoding", "x-hop", "keep-alive", "te", "origin"] {
        assert_eq!(seen.header(gone), None, "{gone}");
    }
    for (kept, value) in [
        ("x-openwebui-chat-id", "7"),
        ("authorization", "Bearer t"),
        ("user-agent", "test"),
        ("content-type", "application/json"),
    ] {
        assert_eq!(seen.header(kept), Some(value), "{kept}");
    }
}

#[test]
fn a_limit_that_ollama_does_not_read_is_said_again_for_it() {
    let [ollama, other] = [
        Stub::ollama(&["m"], reply::healthy),
        Stub::start(Kind::OpenAi, &["n"], reply::healthy),
    ];
    let router = start(&[("ollama", ollama.url()), ("other", other.url())], "");
    let body = |model: &str| {
        format!(
            "{{\"model\":\"{model}\",\"max_completion_tokens\": 77,\"messages\":[{{\"role\":\"user\",\"content\":\"hi\"}}]}}"
        )
    };
    for model in ["m", "n"] {
        assert_eq!(
            post(&router, "/v1/chat/completions", "", &body(model)).status,
            200
        );
    }
    assert_eq!(ollama.requests()[0].json()["max_tokens"], 77);
    let untouched =
        String::from_utf8_lossy(&ollama.requests()[0].body).replace("\"max_tokens\":77,", "");
    assert_eq!(untouched, body("m"));
    assert_eq!(
        String::from_utf8_lossy(&other.requests()[0].body),
        body("n")
    );
}

#[test]
fn a_compressed_body_is_read_for_its_model_and_sent_on_plain() {
    use std::io::Write;
    let node = Stub::start(Kind::OpenAi, &["m"], reply::healthy);
    let router = start(&[("only", node.url())], "");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(ODD.as_bytes()).unwrap();
    let body = gzip.finish().unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {}\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        router.addr,
        body.len()
    );
    let answer = client::send(router.addr, &[head.as_bytes(), &body].concat());
    assert_eq!(answer.status, 200, "{answer:?}");
    let seen = &node.requests()[0];
    assert_eq!(seen.header("content-encoding"), None);
    assert_eq!(String::from_utf8_lossy(&seen.body), ODD);
}
