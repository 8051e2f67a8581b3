//! A real Ollama cuts a prompt without a word; the router tells.
//!
//! `GPUROUTER_TEST_OLLAMA` names the program (`tests/tools/real-servers.sh get DIR` brings it); without it the tests are skipped by name.

mod common;

use serde_json::{Value, json};

use common::Router;
use common::client::{self, End, Response};
use common::fleet::TinyOllama;

/// `words` words, each of which is at least a token for the tiny model.
fn asking(words: usize) -> Value {
    let text = "the quick brown fox jumps over the lazy dog ".repeat(words / 9);
    json!({"model": "tiny", "messages": [{"role": "user", "content": text}], "stream": false,
        "truncate": true, "options": {"num_ctx": 4096, "num_predict": 4}})
}

fn ask(router: &Router, words: usize) -> Response {
    let answer = client::post(router.addr, "/api/chat", &asking(words));
    assert_eq!(
        (answer.status, answer.end),
        (200, End::Complete),
        "{answer:?}"
    );
    answer
}

fn record(router: &Router, answer: &Response) -> Value {
    let id = answer.header("x-gpurouter-id").unwrap().to_owned();
    router.wait_record(|record| record["id"] == id.as_str())
}

#[test]
fn nine_thousand_words_at_a_window_of_4096_are_told_to_be_cut() {
    let test = "nine_thousand_words_at_a_window_of_4096_are_told_to_be_cut";
    let Some(ollama) = TinyOllama::start(test) else {
        return;
    };
    // A router that changes no context, and requests that ask to be cut: else it would give them a larger one, or refuse.
    let context = "[context]\nnum_ctx = \"pass\"\n";
    let router = Router::start(&["--log-format", "json", "--node", &ollama.url()], context);
    router.wait_ready(1);
    let whole = ask(&router, 900);
    assert_eq!(whole.header("x-gpurouter-truncated"), None);
    assert_eq!(record(&router, &whole)["truncated"], false);
    let cut = ask(&router, 9000);
    let header = cut
        .header("x-gpurouter-truncated")
        .unwrap_or_else(|| panic!("{cut:?}"));
    assert!(
        header.contains("read=2050") && header.ends_with("window=4096"),
        "{header}"
    );
    assert_eq!(record(&router, &cut)["truncated"], true);
    // The same prompt again, now from the node's cache: still whole, still cut.
    let again = ask(&router, 900);
    assert_eq!(record(&router, &again)["truncated"], false);
    assert!(ask(&router, 9000).header("x-gpurouter-truncated").is_some());
    // Of a conversation it drops the oldest messages, which leaves any number below the window.
    let turn = |at: usize| {
        let role = if at.is_multiple_of(2) {
            "user"
        } else {
            "assistant"
        };
        json!({"role": role, "content": "the quick brown fox jumps over the lazy dog ".repeat(20)})
    };
    let mut talk = asking(0);
    talk["messages"] = (0..61).map(turn).collect();
    let answer = client::post(router.addr, "/api/chat", &talk);
    let header = answer
        .header("x-gpurouter-truncated")
        .unwrap_or_else(|| panic!("{answer:?}"));
    assert!(header.ends_with("window=4096"), "{header}");
    let status = router.api("/gpurouter/api/status");
    let warnings = status["warnings"].as_array().unwrap();
    let about = warnings.iter().filter(|w| w["code"] == "prompt_truncated");
    assert_eq!(about.count(), 1, "{warnings:?}");
}
