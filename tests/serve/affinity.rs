//! Conversations stay at the node that has read them, while that is cheaper than waiting for it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::common::client::{self, Response};
use super::common::{LIMIT, Peer, Request, Router, Sim, Stub, eventually, reply};
use super::{config, record, start, told};

/// Claude Code's first system text; `cch` is another with every request.
fn billing(cch: &str) -> String {
    format!("x-anthropic-billing-header: cc_version=2.1.37.0d9; cc_entrypoint=cli; cch={cch};")
}

/// The beginning of a system prompt of Claude Code's.
fn turn(cch: &str, subject: &str) -> String {
    format!("{}\n{subject}", billing(cch))
}

fn post(router: &Router, path: &str, headers: &str, body: &str) -> Response {
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        router.addr,
        body.len()
    );
    client::send(router.addr, request.as_bytes())
}

/// Two simulated nodes of one speed, both with the model in memory and measured.
struct Pair {
    router: Router,
    _sim: Sim,
}

impl Pair {
    fn new(rest: &str) -> Self {
        let sim = Sim::start(&[
            "--gpu",
            "rtx3060",
            "--gpu",
            "rtx3060",
            "--model",
            "m=100000000",
            "--speed",
            "4000,10",
        ]);
        let nodes = [("a", sim.urls[0].clone()), ("b", sim.urls[1].clone())];
        let rest = format!("{rest}\n[admission]\nslots = 1\n");
        let router = Router::start(&["--log-format", "json"], &config(&nodes, &rest));
        router.wait_ready(2);
        let pair = Self { router, _sim: sim };
        // A node that was never measured is only tried when the other one would let it wait longer than a load.
        let measured = |status: &Value| {
            let nodes = status["nodes"].as_array().unwrap();
            nodes
                .iter()
                .all(|node| node["speeds"][0]["decode_tps"].is_number())
        };
        for round in 0..10 {
            if measured(&pair.router.api("/gpurouter/api/status")) {
                return pair;
            }
            pair.both(&format!("{round} one"), "", &format!("{round} other"), "");
        }
        panic!("{}", pair.router.api("/gpurouter/api/status"));
    }

    /// A conversation's turn of about a thousand tokens that begins with these words, and an answer of eight.
    fn ask(&self, begins: &str, headers: &str) -> Response {
        let words = format!("{begins} ") + &"The river rose. ".repeat(250);
        let body = json!({"model": "m", "stream": false, "options": {"num_predict": 8},
            "messages": [{"role": "system", "content": words}, {"role": "user", "content": "Go on"}]});
        let answer = post(&self.router, "/api/chat", headers, &body.to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer
    }

    /// The node of each of two requests, of which the second is sent while the first is being answered.
    fn both(
        &self,
        one: &str,
        one_headers: &str,
        other: &str,
        other_headers: &str,
    ) -> (String, String) {
        thread::scope(|scope| {
            let first = scope.spawn(|| self.ask(one, one_headers));
            let busy = eventually(LIMIT, || {
                let status = self.router.api("/gpurouter/api/status");
                let nodes = status["nodes"].as_array().unwrap();
                nodes.iter().any(|node| node["active"] == 1)
            });
            assert!(busy || first.is_finished());
            let second = self.ask(other, other_headers);
            let first = first.join().unwrap();
            // What they taught is known when they are written down.
            record(&self.router, &first);
            record(&self.router, &second);
            (node(&first), node(&second))
        })
    }

    fn alone(&self, begins: &str, headers: &str) -> String {
        let answer = self.ask(begins, headers);
        record(&self.router, &answer);
        node(&answer)
    }
}

fn node(answer: &Response) -> String {
    told(answer, "node").to_owned()
}

#[test]
fn a_conversation_that_its_client_names_stays_at_its_node_until_waiting_costs_more() {
    let pair = Pair::new("");
    let (x, y) = (
        "X-Claude-Code-Session-Id: x\r\n",
        "X-OpenWebUI-Chat-Id: y\r\n",
    );
    let (home_of_x, home_of_y) = pair.both("Monday", x, "Tuesday", y);
    assert_ne!(home_of_x, home_of_y);
    // Whatever their prompts begin with.
    assert_eq!(pair.alone("Wednesday of x", x), home_of_x);
    assert_eq!(pair.alone("Wednesday of y", y), home_of_y);
    // A thousand tokens are read again in a quarter of a second; the answer that is under way takes longer.
    let (first, meanwhile) = pair.both("x Friday", x, "x Saturday", x);
    assert_eq!((&first, &meanwhile), (&home_of_x, &home_of_y));
}

/// A llama-server that reads a thousand tokens in a second, writes its answer in so many milliseconds, and says how much of a prompt that
/// begins with the word `again` it had in its cache.
fn counting(answer_ms: u64, cached: u64) -> Stub {
    Stub::llama_server("m", move |request: &Request, peer: &mut Peer| {
        let again = String::from_utf8_lossy(&request.body).contains("again");
        let cached = if again { cached } else { 0 };
        let mut answer = reply::openai_whole("m", "one two");
        answer["usage"] = json!({"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100,
            "prompt_tokens_details": {"cached_tokens": cached}});
        answer["timings"] = json!({"cache_n": cached, "prompt_n": 1000 - cached, "prompt_ms": 1000 - cached,
            "predicted_n": 100, "predicted_ms": answer_ms});
        // Long enough that another request finds this node busy.
        thread::sleep(Duration::from_millis(200));
        peer.send(&reply::json(200, &answer));
    })
}

#[test]
fn a_name_is_believed_as_far_as_the_node_s_own_counts_bear_it_out() {
    // The second node is slower by a tenth of what a thousand cached tokens save.
    let homes = |cached| -> Vec<String> {
        let nodes = [counting(1000, 0), counting(1100, cached)];
        let listed = [("a", nodes[0].url()), ("b", nodes[1].url())];
        let router = start(&listed, "[admission]\nslots = 1\n");
        let turn = AtomicUsize::new(0);
        let ask = |begins: &str, headers: &str| {
            let turn = turn.fetch_add(1, Ordering::SeqCst);
            let words = format!("{turn} {begins} ") + &"The river rose. ".repeat(230);
            let body = json!({"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": words}]});
            let answer = post(&router, "/v1/chat/completions", headers, &body.to_string());
            assert_eq!(answer.status, 200, "{}", answer.text());
            record(&router, &answer);
            node(&answer)
        };
        let while_a_is_busy = |begins: &str, headers: &str| {
            thread::scope(|scope| {
                let before = nodes[0].requests().len();
                let first = scope.spawn(|| ask("other", ""));
                nodes[0].wait_request(before + 1);
                let second = ask(begins, headers);
                assert_eq!(
                    (first.join().unwrap().as_str(), second.as_str()),
                    ("a", "b")
                );
            });
        };
        while_a_is_busy("other", "");
        let named = "X-Session-Id: x\r\n";
        while_a_is_busy("first", named);
        (0..8).map(|_| ask("again", named)).collect()
    };
    let kept = homes(1000);
    assert!(kept.iter().all(|node| node == "b"), "{kept:?}");
    let broken = homes(0);
    assert_eq!(broken[0], "b", "it is believed at first");
    assert_eq!(broken[7], "a", "{broken:?}");
}

#[test]
fn without_a_name_or_with_names_switched_off_the_prompt_alone_says_it() {
    let pair = Pair::new("[affinity]\nsessions = false\n");
    let (x, y) = ("X-Session-Id: x\r\n", "X-Session-Id: y\r\n");
    let (home_of_x, home_of_y) = pair.both("Monday", x, "Tuesday", y);
    assert_ne!(home_of_x, home_of_y);
    assert_eq!(pair.alone("Monday", ""), home_of_x, "begins alike");
    assert_eq!(pair.alone("Tuesday", ""), home_of_y, "begins alike");
    // Both nodes are as good for what begins differently, so that the names make no difference.
    let nodes = [x, y].map(|name| pair.alone("Wednesday", name));
    assert_eq!(nodes[0], nodes[1]);
    // So does a line that changes with every request, while no rule makes it constant.
    let homes = pair.both(&turn("fa690", "rivers"), "", &turn("0aaa9", "hills"), "");
    assert_ne!(homes.0, homes.1);
    let again = [turn("1c8b4", "rivers"), turn("36ee5", "hills")];
    let again = again.map(|begins| pair.alone(&begins, ""));
    assert_eq!(again[0], again[1]);
}

#[test]
fn a_line_that_changes_with_every_request_takes_no_conversation_away_when_it_is_made_constant() {
    let pair = Pair::new("[affinity]\ncanonical = [\"claude-code-billing\"]\n");
    let (home_of_x, home_of_y) =
        pair.both(&turn("fa690", "rivers"), "", &turn("0aaa9", "hills"), "");
    assert_ne!(home_of_x, home_of_y);
    // The lines are shorter than a block, so that the rest of the first block tells the two apart.
    assert_eq!(pair.alone(&turn("1c8b4", "rivers"), ""), home_of_x);
    assert_eq!(pair.alone(&turn("36ee5", "hills"), ""), home_of_y);
}

#[test]
fn a_node_s_prompt_cache_serves_what_was_made_constant() {
    let read = |rest: &str| -> Vec<u64> {
        let sim = Sim::start(&[
            "--gpu",
            "rtx3060",
            "--model",
            "m=100000000",
            "--speed",
            "2000,400",
            "--clock",
            "virtual",
        ]);
        let router = Router::start(
            &["--log-format", "json"],
            &config(&[("a", sim.urls[0].clone())], rest),
        );
        router.wait_ready(1);
        let ask = |cch: &str| {
            let system = format!("{}\n{}", billing(cch), "Be kind. ".repeat(600));
            let body = json!({"model": "m", "stream": false, "messages": [
                {"role": "system", "content": system}, {"role": "user", "content": cch}]});
            let answer = client::post(router.addr, "/api/chat", &body);
            assert_eq!(answer.status, 200, "{}", answer.text());
            answer.json()["prompt_eval_duration"].as_u64().unwrap()
        };
        ["fa690", "36ee5", "0aaa9"].map(ask).to_vec()
    };
    let as_they_came = read("");
    assert!(
        as_they_came[1] * 2 > as_they_came[0] && as_they_came[2] * 2 > as_they_came[0],
        "{as_they_came:?}"
    );
    let constant = read("[affinity]\ncanonical = [\"claude-code-billing\"]\n");
    assert!(
        constant[1] * 10 < constant[0] && constant[2] * 10 < constant[0],
        "{constant:?}"
    );
}

#[test]
fn only_the_span_of_a_rule_is_changed_and_that_is_told() {
    let stub = Stub::ollama(&["m"], reply::healthy);
    stub.set_loaded(&["m"]);
    let body = |cch: &str| {
        format!(
            "{{ \"messages\" : [ {{\"role\":\"system\",\"content\":\"{}\\n\\u00e9 Be kind\"}},\n {{\"role\":\"user\",\"content\":\"{}\"}}],\"model\":\"m\" , \"x\":1e3,\"stream\":false}}",
            billing(cch),
            billing("quoted"),
        )
    };
    let nodes = [("a", stub.url())];
    // Off by default: byte for byte.
    let plain = start(&nodes, "");
    let sent = body("fa690");
    let answer = post(&plain, "/api/chat", "", &sent);
    assert_eq!(answer.header("x-gpurouter-canonical"), None);
    assert_eq!(record(&plain, &answer)["canonical"], json!([]));
    assert_eq!(String::from_utf8_lossy(&stub.wait_request(1).body), sent);
    let router = start(
        &nodes,
        "[affinity]\ncanonical = [\"pi-clock\", \"claude-code-billing\"]\n",
    );
    let answer = post(&router, "/api/chat", "", &sent);
    assert_eq!(answer.status, 200);
    assert_eq!(told(&answer, "canonical"), "claude-code-billing");
    let written: Value = record(&router, &answer)["canonical"].clone();
    assert_eq!(written, json!(["claude-code-billing"]));
    let why = router.api(&format!("/gpurouter/api/why/{}", told(&answer, "id")));
    assert!(
        why["timeline"].to_string().contains("claude-code-billing"),
        "{why}"
    );
    let expected = sent
        .replacen("2.1.37.0d9", "2.1.37.000", 1)
        .replacen("fa690", "00000", 1);
    assert_eq!(
        String::from_utf8_lossy(&stub.wait_request(2).body),
        expected
    );
    // What no rule is about stays as it came.
    let other =
        "{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":\"x\"}],\"stream\":false}";
    let answer = post(&router, "/api/chat", "", other);
    assert_eq!(answer.header("x-gpurouter-canonical"), None);
    assert_eq!(String::from_utf8_lossy(&stub.wait_request(3).body), other);
}
