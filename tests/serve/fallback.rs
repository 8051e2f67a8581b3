//! What happens when a node fails: the next one before the first byte, the truth after it.

use std::time::{Duration, Instant};

use serde_json::json;

use super::common::client::{self, End};
use super::common::{Kind, LIMIT, Peer, RefusedPort, Request, Stub, eventually, reply};
use super::{LARGE, SMALL, chat, config, record, start, told};
use crate::common::Router;

/// A failing node before a healthy one, both with the model `m`.
fn before_a_healthy_one(
    failing: impl Fn(&Request, &mut Peer) + Send + Sync + 'static,
) -> (Stub, Stub, Router) {
    let first = Stub::ollama(&["m"], failing);
    let second = Stub::ollama(&["m"], reply::healthy);
    let router = start(&[("first", first.url()), ("second", second.url())], "");
    (first, second, router)
}

#[test]
fn a_refusal_that_another_node_may_not_share_goes_to_the_next_one() {
    for status in [404, 429, 502, 503, 504] {
        let (first, second, router) = before_a_healthy_one(move |_, peer| {
            peer.send(&reply::json(status, &json!({"error": "not here"})));
        });
        let answer = client::post(router.addr, "/api/chat", &chat("m", "hi", true));
        assert_eq!(
            (answer.status, told(&answer, "node"), answer.end),
            (200, "second", End::Complete),
            "after {status}"
        );
        assert_eq!(
            answer.lines().last().map(|line| line["done"].clone()),
            Some(json!(true))
        );
        assert!(
            told(&answer, "fallback").starts_with("first="),
            "{answer:?}"
        );
        assert_eq!(
            (first.requests().len(), second.requests().len()),
            (1, 1),
            "after {status}"
        );
        assert_eq!(first.requests()[0].body, second.requests()[0].body);
        let record = record(&router, &answer);
        assert_eq!(
            (&record["outcome"], &record["fallbacks"][0]["node"]),
            (&json!("ok"), &json!("first"))
        );
        let metrics = client::get(router.addr, "/metrics").text();
        assert!(
            metrics.contains("gpurouter_fallbacks_total{node=\"first\""),
            "{metrics}"
        );
    }
}

#[test]
fn a_close_without_an_answer_goes_to_the_next_node() {
    let (first, _second, router) = before_a_healthy_one(|_, peer| peer.close());
    let answer = client::post(router.addr, "/v1/chat/completions", &chat("m", "hi", false));
    assert_eq!((answer.status, told(&answer, "node")), (200, "second"));
    assert!(told(&answer, "fallback").starts_with("first="));
    assert!(!first.requests().is_empty());
}

#[test]
fn a_refused_connection_goes_to_the_next_node_at_once() {
    let (mut first, _second, router) = before_a_healthy_one(reply::healthy);
    first.kill();
    let asked = Instant::now();
    let answer = client::post(router.addr, "/api/chat", &chat("m", "hi", false));
    assert_eq!((answer.status, told(&answer, "node")), (200, "second"));
    assert!(
        asked.elapsed() < Duration::from_secs(2),
        "{:?}",
        asked.elapsed()
    );
    // The failure is remembered before the next look of the monitor: nothing is tried in vain twice.
    let again = client::post(router.addr, "/api/chat", &chat("m", "hi", false));
    assert_eq!(
        (again.status, again.header("x-gpurouter-fallback")),
        (200, None),
        "{again:?}"
    );
}

#[test]
fn the_nodes_own_verdict_on_the_request_is_the_answer() {
    for status in [400, 401, 500] {
        let (first, second, router) = before_a_healthy_one(move |_, peer| {
            peer.send(&reply::json(
                status,
                &json!({"error": "the node's own words"}),
            ));
        });
        let answer = client::post(router.addr, "/api/chat", &chat("m", "hi", true));
        assert_eq!((answer.status, told(&answer, "node")), (status, "first"));
        assert_eq!(answer.json(), json!({"error": "the node's own words"}));
        // In OpenAI's form the same is said in OpenAI's words.
        let answer = client::post(router.addr, "/v1/chat/completions", &chat("m", "hi", true));
        assert_eq!(
            (answer.status, &answer.json()["error"]["message"]),
            (status, &json!("the node's own words"))
        );
        assert_eq!(record(&router, &answer)["outcome"], "upstream_error");
        assert_eq!(
            (first.requests().len(), second.requests().len()),
            (2, 0),
            "after {status}"
        );
    }
}

#[test]
fn nothing_is_tried_again_after_the_first_byte() {
    let (_first, second, router) = before_a_healthy_one(|request, peer| {
        let path = request.path();
        let pieces = if path == "/api/chat" {
            reply::ollama_chat("m", &["one ", "two"])
        } else {
            reply::openai_chat("m", &["one ", "two"])
        };
        peer.send(&pieces[..3].concat());
        std::thread::sleep(Duration::from_millis(100));
        peer.close();
    });
    let answer = client::post(router.addr, "/api/chat", &chat("m", "hi", true));
    assert_eq!((answer.status, answer.end), (200, End::Complete));
    assert!(
        answer
            .lines()
            .last()
            .is_some_and(|line| line["error"].is_string()),
        "{}",
        answer.text()
    );
    assert!(answer.lines().iter().all(|line| line["done"] != true));
    assert_eq!(record(&router, &answer)["outcome"], "cut");
    let answer = client::post(router.addr, "/v1/chat/completions", &chat("m", "hi", true));
    let events = answer.events();
    let errors = events
        .iter()
        .filter(|(_, data)| data.contains("\"error\""))
        .count();
    assert_eq!(errors, 1, "{events:?}");
    assert!(second.requests().is_empty());
}

#[test]
fn a_model_that_every_node_is_missing_is_404_in_the_nodes_words() {
    let missing = |_: &Request, peer: &mut Peer| {
        peer.send(&reply::json(404, &json!({"error": "model 'm' not found"})));
    };
    let [first, second] = [Stub::ollama(&["m"], missing), Stub::ollama(&["m"], missing)];
    let router = start(&[("first", first.url()), ("second", second.url())], "");
    let answer = client::post(router.addr, "/api/chat", &chat("m", "hi", false));
    assert_eq!(
        (answer.status, answer.json()),
        (404, json!({"error": "model 'm' not found"}))
    );
    assert_eq!((first.requests().len(), second.requests().len()), (1, 1));
}

#[test]
fn a_node_that_says_when_to_come_back_is_quoted() {
    let node = Stub::ollama(&["m"], |_, peer| {
        peer.send(b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nRetry-After: 17\r\nContent-Length: 21\r\n\r\n{\"error\":\"too much!\"}");
    });
    let router = start(&[("only", node.url())], "");
    let answer = client::post(router.addr, "/api/chat", &chat("m", "hi", false));
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (429, Some("17")),
        "{answer:?}"
    );
}

#[test]
fn both_nodes_dead_is_a_quick_502_and_no_money_is_saved() {
    let mut stubs = [
        Stub::ollama(&["m"], reply::healthy),
        Stub::ollama(&["m"], reply::healthy),
    ];
    let prices = "[prices]\nreference = \"r\"\n[prices.models.r]\ninput = 1.0\noutput = 1.0\n";
    let router = start(
        &[("first", stubs[0].url()), ("second", stubs[1].url())],
        prices,
    );
    stubs.iter_mut().for_each(Stub::kill);
    for path in ["/api/chat", "/v1/chat/completions", "/v1/messages"] {
        let asked = Instant::now();
        let body =
            json!({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]});
        let answer = client::post(router.addr, path, &body);
        assert_eq!(answer.status, 502, "{path}: {answer:?}");
        assert!(
            asked.elapsed() < Duration::from_secs(3),
            "{path}: {:?}",
            asked.elapsed()
        );
        assert!(
            !answer.json()["error"].is_null(),
            "{path}: {}",
            answer.text()
        );
        let record = record(&router, &answer);
        assert_eq!(
            (&record["outcome"], &record["cost_saved_usd"]),
            (&json!("upstream_error"), &json!(null))
        );
    }
    let metrics = client::get(router.addr, "/metrics").text();
    assert!(
        metrics.contains("outcome=\"upstream_error\",status=\"502\""),
        "{metrics}"
    );
    assert!(
        metrics.contains("gpurouter_cost_saved_usd_total 0\n"),
        "{metrics}"
    );
    assert_eq!(client::get(router.addr, "/health").status, 200);
}

#[test]
fn a_node_that_never_answers_is_504_and_not_tried_elsewhere() {
    let hanging = Stub::ollama(&["m"], |_, peer| {
        peer.wait_gone(LIMIT);
    });
    let second = Stub::ollama(&["m"], reply::healthy);
    let router = start(
        &[("first", hanging.url()), ("second", second.url())],
        "[timeouts]\nidle = \"1s\"\nload = \"1s\"\n",
    );
    let asked = Instant::now();
    let answer = client::post(router.addr, "/api/chat", &chat("m", "hi", true));
    assert_eq!(answer.status, 504, "{answer:?}");
    assert!(
        (1..8).contains(&asked.elapsed().as_secs()),
        "{:?}",
        asked.elapsed()
    );
    assert!(answer.json()["error"].is_string());
    assert!(second.requests().is_empty());
}

#[test]
fn without_the_small_node_the_large_one_answers_and_one_warning_says_so() {
    let simple = "Write a docstring for a sort function";
    let classes = "[routing]\nsimple = { model = \"qwen2.5-coder:1.5b\", prefer = \"gpu1\" }\ncomplex = { model = \"qwen2.5-coder:7b\", prefer = \"gpu0\" }\n";
    let big = Stub::ollama(&[LARGE], reply::healthy);
    let mut small = Stub::ollama(&[SMALL], reply::healthy);
    let router = start(&[("gpu0", big.url()), ("gpu1", small.url())], classes);
    let address = small.addr;
    small.kill();
    for _ in 0..3 {
        let answer = client::post(router.addr, "/api/chat", &chat("auto", simple, false));
        assert_eq!(
            (answer.status, told(&answer, "node"), told(&answer, "model")),
            (200, "gpu0", LARGE)
        );
    }
    // Long enough for the monitor to look again, which is no second warning.
    std::thread::sleep(Duration::from_secs(3));
    let warnings: Vec<String> = router
        .stderr()
        .into_iter()
        .filter(|line| line.contains("\"level\":\"warning\""))
        // The other warning of a start is that this machine has no GPU.
        .filter(|line| !line.contains("CPU-only"))
        .collect();
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(warnings[0].contains("gpu1"));
    let _revived = Stub::start_at(address, Kind::Ollama, &[SMALL], reply::healthy);
    let back = eventually(LIMIT, || {
        let answer = client::post(router.addr, "/api/chat", &chat("auto", simple, false));
        answer.status == 200 && told(&answer, "node") == "gpu1"
    });
    assert!(back, "{:#?}", router.stderr());
}

#[test]
fn a_node_that_was_never_there_is_no_candidate() {
    let refused = RefusedPort::new();
    let healthy = Stub::ollama(&["m"], reply::healthy);
    let router = Router::start(
        &["--log-format", "json"],
        &config(&[("dead", refused.url()), ("live", healthy.url())], ""),
    );
    router.wait_ready(1);
    let answer = client::post(router.addr, "/api/chat", &chat("m", "hi", false));
    assert_eq!(
        (
            answer.status,
            told(&answer, "node"),
            answer.header("x-gpurouter-fallback")
        ),
        (200, "live", None)
    );
}
