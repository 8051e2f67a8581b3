//! What a real llama-server has in its cache of a conversation, and what a client's changing line costs.

#![allow(
    clippy::print_stderr,
    reason = "the figures belong into the test runner's output"
)]

mod common;

use serde_json::json;

use common::Router;
use common::client;
use common::fleet::{Fleet, SOLO};

/// Tokens of each of three prompts that differ in Claude Code's line only, and how many of them the node had in its cache.
fn cached(router: &Router) -> Vec<(u64, u64)> {
    let ask = |cch: &str| {
        let system = format!(
            "x-anthropic-billing-header: cc_version=2.1.37.0d9; cc_entrypoint=cli; cch={cch};\n{}",
            "Be kind to whoever asks. ".repeat(40)
        );
        let request = json!({"model": SOLO, "max_tokens": 1, "messages": [
            {"role": "system", "content": system}, {"role": "user", "content": "Go on"}]});
        let answer = client::post(router.addr, "/v1/chat/completions", &request);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let usage = answer.json()["usage"].clone();
        let count = |pointer: &str| usage.pointer(pointer).and_then(serde_json::Value::as_u64);
        let counts = count("/prompt_tokens").zip(count("/prompt_tokens_details/cached_tokens"));
        counts.unwrap_or_else(|| panic!("{usage}"))
    };
    ["fa690", "36ee5", "0aaa9"].map(ask).to_vec()
}

#[test]
fn a_line_that_changes_costs_the_cache_and_made_constant_it_does_not() {
    let test = "a_line_that_changes_costs_the_cache_and_made_constant_it_does_not";
    let Some(fleet) = Fleet::own(test) else {
        return;
    };
    let node = format!("solo={}", fleet.llama.url());
    let over = |config: &str| {
        let router = Router::start(&["--node", &node], config);
        router.wait_ready(1);
        router
    };
    let as_they_came = cached(&over(""));
    let constant = cached(&over("[affinity]\ncanonical = [\"claude-code-billing\"]\n"));
    eprintln!("(tokens, cached) as they came: {as_they_came:?}, made constant: {constant:?}");
    for (tokens, cached) in as_they_came {
        assert!(cached * 2 < tokens, "{cached} of {tokens}");
    }
    // The first one is not in the cache yet.
    for (tokens, cached) in constant.into_iter().skip(1) {
        assert!(cached * 10 > tokens * 9, "{cached} of {tokens}");
    }
}
