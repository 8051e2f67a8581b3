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
    json!({"model": "tiny", "messages": [{"role": "user", "content": text}], "stream": false, "max_tokens": 4})
}

fn ask(router: &Router, words: usize) -> Response {
    // The form that cannot carry a context: the router cannot repair it on the way.
    let answer = client::post(router.addr, "/v1/chat/completions", &asking(words));
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
    let router = Router::over(&[ollama.url()]);
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
    let status = router.api("/gpurouter/api/status");
    let warnings = status["warnings"].as_array().unwrap();
    let about = warnings.iter().filter(|w| w["code"] == "prompt_truncated");
    assert_eq!(about.count(), 1, "{warnings:?}");
}
