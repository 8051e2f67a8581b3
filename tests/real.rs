//! `gpurouter serve` in front of two real Ollamas and a real llama-server.

mod common;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use common::client::{self, End, Response};
use common::fleet::{self, Fleet, SOLO};
use common::{LIMIT, Router, Scratch, command, eventually, json};

/// "Quickly", for a failure that no time limit has to find.
const QUICK: Duration = Duration::from_secs(5);

/// The longest wait for the first answer from a software GPU, whose driver compiles every shader for it (ten seconds on two
/// idle cores).
const SHADERS: Duration = Duration::from_secs(120);

/// The shared fleet and a router of the test's own before it; returns from the test where there are no real servers.
macro_rules! router {
    ($test:literal) => {{
        let Some(fleet) = Fleet::shared($test) else {
            return;
        };
        let router = Router::over(&fleet.urls());
        (fleet, router)
    }};
}

fn hello() -> Value {
    json!([{"role": "user", "content": "What is the capital of France?"}])
}

fn ok(answer: Response) -> Response {
    assert_eq!(
        (answer.status, answer.end),
        (200, End::Complete),
        "{}",
        answer.text()
    );
    answer
}

/// Asserts an answer in which a whole text came and the model's own limit or end was the reason to stop.
fn finished(reason: &Value) {
    assert!(
        matches!(reason.as_str(), Some("stop" | "length")),
        "{reason}"
    );
}

#[test]
fn says_what_ollama_says_at_the_root_and_the_version() {
    let (_fleet, router) = router!("says_what_ollama_says_at_the_root_and_the_version");
    assert_eq!(
        ok(client::get(router.addr, "/")).text(),
        "Ollama is running"
    );
    let head = client::send(router.addr, b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(router.api("/api/version")["version"], "0.32.15");
}

#[test]
fn lists_every_model_of_every_node_once() {
    let (_fleet, router) = router!("lists_every_model_of_every_node_once");
    let tags = router.api("/api/tags");
    let mut names: Vec<&str> = tags["models"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|model| model["model"].as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["auto", "solo:latest", "tiny-embed:latest", "tiny:latest"]
    );
    let models = router.api("/v1/models");
    assert_eq!(models["data"].as_array().map(Vec::len), Some(4), "{models}");
}

#[test]
fn chats_and_generates() {
    let (_fleet, router) = router!("chats_and_generates");
    let chat = json!({"model": "tiny", "messages": hello(), "stream": false, "options": {"num_predict": 8}});
    let answer = ok(client::post(router.addr, "/api/chat", &chat));
    assert!(answer.header("x-gpurouter-node").is_some(), "{answer:?}");
    let answer = answer.json();
    assert_eq!(
        (&answer["done"], &answer["message"]["role"]),
        (&json!(true), &json!("assistant"))
    );
    assert!(
        answer["eval_count"].as_u64().is_some_and(|n| n <= 8),
        "{answer}"
    );
    let generate =
        json!({"model": "tiny", "prompt": "hello", "stream": false, "options": {"num_predict": 8}});
    let answer = ok(client::post(router.addr, "/api/generate", &generate)).json();
    finished(&answer["done_reason"]);
    assert!(answer["response"].is_string(), "{answer}");
}

#[test]
fn streams_tokens_one_by_one() {
    let (_fleet, router) = router!("streams_tokens_one_by_one");
    for (path, model) in [
        ("/api/chat", "tiny"),
        ("/v1/chat/completions", "tiny"),
        ("/api/chat", SOLO),
    ] {
        let request = json!({"model": model, "messages": hello(), "stream": true});
        // Now and then the model ends after a few tokens, which shows nothing.
        let streamed = (0..20).any(|_| {
            let answer = ok(client::post(router.addr, path, &request));
            let last = if path == "/api/chat" {
                answer.lines().last().map(|line| line["done"] == true)
            } else {
                answer.events().last().map(|(_, data)| data == "[DONE]")
            };
            assert_eq!(last, Some(true), "{path} {model}: {}", answer.text());
            let first = answer
                .pieces
                .first()
                .map_or(Duration::ZERO, |piece| piece.0);
            answer.pieces.len() > 10 && first < answer.ended_at / 2
        });
        assert!(streamed, "{path} {model}: never more than ten pieces");
    }
}

#[test]
fn embeds_and_refuses_to_embed_with_a_chat_model() {
    let (_fleet, router) = router!("embeds_and_refuses_to_embed_with_a_chat_model");
    let request = json!({"model": "tiny-embed", "input": ["hello", "world"]});
    let answer = ok(client::post(router.addr, "/api/embed", &request)).json();
    assert_eq!(
        answer["embeddings"][1].as_array().map(Vec::len),
        Some(128),
        "{answer}"
    );
    let answer = ok(client::post(router.addr, "/v1/embeddings", &request)).json();
    assert_eq!(
        answer["data"][1]["embedding"].as_array().map(Vec::len),
        Some(128),
        "{answer}"
    );
    let request = json!({"model": "tiny", "input": "hello"});
    let refused = client::post(router.addr, "/api/embed", &request);
    assert!(
        refused.status >= 400 && refused.json()["error"].is_string(),
        "{refused:?}"
    );
    let refused = client::post(router.addr, "/v1/embeddings", &request);
    assert!(
        refused.status >= 400 && refused.json()["error"]["message"].is_string(),
        "{refused:?}"
    );
}

#[test]
fn answers_anthropic_messages_and_counts_tokens() {
    let (_fleet, router) = router!("answers_anthropic_messages_and_counts_tokens");
    for model in ["tiny", SOLO] {
        let request = json!({"model": model, "max_tokens": 8, "messages": hello()});
        let answer = ok(client::post(router.addr, "/v1/messages", &request)).json();
        assert_eq!(answer["type"], "message", "{answer}");
        assert!(
            answer["usage"]["output_tokens"]
                .as_u64()
                .is_some_and(|n| n <= 8),
            "{answer}"
        );
        let request = json!({"model": model, "messages": hello()});
        let counted = ok(client::post(
            router.addr,
            "/v1/messages/count_tokens",
            &request,
        ))
        .json();
        assert!(
            counted["input_tokens"].as_u64().is_some_and(|n| n > 0),
            "{counted}"
        );
        let request = json!({"model": model, "max_tokens": 8, "messages": hello(), "stream": true});
        let stream = ok(client::post(
            router.addr,
            "/v1/messages?beta=true",
            &request,
        ));
        let last = stream.events().pop().expect("events");
        assert_eq!(last.0.as_deref(), Some("message_stop"), "{stream:?}");
    }
}

#[test]
fn answers_responses() {
    let (_fleet, router) = router!("answers_responses");
    for model in ["tiny", SOLO] {
        let request = json!({"model": model, "input": "hello", "max_output_tokens": 16});
        let answer = ok(client::post(router.addr, "/v1/responses", &request)).json();
        assert_eq!(answer["object"], "response", "{answer}");
        assert_eq!(answer["output"][0]["type"], "message", "{answer}");
    }
}

#[test]
fn honours_max_completion_tokens_in_front_of_a_node_that_does_not() {
    let (_fleet, router) =
        router!("honours_max_completion_tokens_in_front_of_a_node_that_does_not");
    let request = json!({"model": "tiny", "messages": hello(), "max_completion_tokens": 3});
    for _ in 0..8 {
        let answer = ok(client::post(router.addr, "/v1/chat/completions", &request)).json();
        let tokens = answer["usage"]["completion_tokens"].as_u64();
        assert!(tokens.is_some_and(|n| n <= 3), "{answer}");
    }
}

#[test]
fn speaks_ollama_in_front_of_a_llama_server() {
    let (_fleet, router) = router!("speaks_ollama_in_front_of_a_llama_server");
    let show = ok(client::post(
        router.addr,
        "/api/show",
        &json!({"model": SOLO}),
    ))
    .json();
    assert_eq!(show["capabilities"][0], "completion", "{show}");
    let chat = json!({"model": SOLO, "messages": hello(), "options": {"num_predict": 8}});
    let stream = ok(client::post(router.addr, "/api/chat", &chat));
    assert_eq!(stream.header("content-type"), Some("application/x-ndjson"));
    let last = stream.lines().pop().expect("lines");
    assert_eq!(last["done"], true, "{last}");
    assert!(
        last["eval_count"].as_u64().is_some_and(|n| n <= 8),
        "{last}"
    );
    let generate =
        json!({"model": SOLO, "prompt": "hello", "stream": false, "options": {"num_predict": 8}});
    let answer = ok(client::post(router.addr, "/api/generate", &generate)).json();
    finished(&answer["done_reason"]);
}

#[test]
fn says_in_each_dialect_that_a_model_is_unknown() {
    let (_fleet, router) = router!("says_in_each_dialect_that_a_model_is_unknown");
    let request = json!({"model": "nope", "max_tokens": 4, "messages": hello()});
    for (path, pointer) in [
        ("/api/chat", "/error"),
        ("/v1/chat/completions", "/error/message"),
        ("/v1/messages", "/error/message"),
    ] {
        let answer = client::post(router.addr, path, &request);
        let document = answer.json();
        let message = document.pointer(pointer).and_then(Value::as_str);
        assert_eq!(answer.status, 404, "{path}: {document}");
        assert!(
            message.is_some_and(|text| text.contains("nope")),
            "{path}: {document}"
        );
    }
}

/// What became of a streamed chat.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    /// It ended with its `done` line.
    Whole,
    /// It had begun, and ended with an error in band.
    BrokenInBand,
    /// Anything else, with what came.
    Lost(String),
}

/// A streamed chat: its fate, and the node that answered.
fn chat(addr: SocketAddr) -> (Fate, String) {
    let request = json!({"model": "tiny", "messages": hello()});
    let answer = client::post(addr, "/api/chat", &request);
    let node = answer.header("x-gpurouter-node").unwrap_or("").to_owned();
    let broken = |answer: &Response| {
        Fate::Lost(format!(
            "{:?} {} {}",
            answer.end,
            answer.status,
            answer.text()
        ))
    };
    if answer.status != 200 {
        return (broken(&answer), node);
    }
    let lines = answer.lines();
    let fate = match lines.last() {
        Some(last) if last["done"] == true => Fate::Whole,
        Some(last) if last["error"].is_string() && lines.len() > 1 => Fate::BrokenInBand,
        _ => broken(&answer),
    };
    (fate, node)
}

#[test]
fn a_dying_node_loses_no_request_that_had_not_begun_to_answer() {
    const CLIENTS: usize = 6;
    const EACH: usize = 12;
    let Some(mut fleet) = Fleet::own("a_dying_node_loses_no_request_that_had_not_begun_to_answer")
    else {
        return;
    };
    let router = Router::over(&fleet.urls());
    let done = AtomicUsize::new(0);
    // The node that answers now is the one to kill: the other may not have had a request yet.
    let (fate, victim) = chat(router.addr);
    assert_eq!(fate, Fate::Whole);
    let outcomes: Vec<(Fate, String)> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    let one = |_| {
                        let outcome = chat(router.addr);
                        done.fetch_add(1, Ordering::SeqCst);
                        outcome
                    };
                    (0..EACH).map(one).collect::<Vec<_>>()
                })
            })
            .collect();
        let third = CLIENTS * EACH / 3;
        assert!(eventually(LIMIT, || done.load(Ordering::SeqCst) >= third));
        let victim = fleet
            .ollama
            .iter_mut()
            .find(|server| server.addr.to_string() == victim);
        victim.expect("a node named after its address").kill();
        clients
            .into_iter()
            .flat_map(|client| client.join().expect("a client that does not panic"))
            .collect()
    });
    let failures: Vec<_> = outcomes
        .iter()
        .filter(|(fate, _)| matches!(fate, Fate::Lost(_)))
        .collect();
    assert!(failures.is_empty(), "{failures:#?}");
    // At most what was on its way when the node died.
    let broken = outcomes
        .iter()
        .filter(|(fate, _)| *fate == Fate::BrokenInBand);
    assert!(broken.count() <= CLIENTS);
    let (fate, survivor) = chat(router.addr);
    assert_eq!(fate, Fate::Whole);
    assert_ne!(survivor, victim);
}

#[test]
fn all_nodes_dead_is_a_quick_502() {
    let Some(mut fleet) = Fleet::own("all_nodes_dead_is_a_quick_502") else {
        return;
    };
    let router = Router::over(&fleet.urls());
    assert_eq!(chat(router.addr).0, Fate::Whole);
    for server in &mut fleet.ollama {
        server.kill();
    }
    for (path, pointer) in [
        ("/api/chat", "/error"),
        ("/v1/chat/completions", "/error/message"),
        ("/v1/messages", "/error/message"),
    ] {
        let request = json!({"model": "tiny", "max_tokens": 4, "messages": hello()});
        let asked = Instant::now();
        let answer = client::post(router.addr, path, &request);
        assert_eq!(answer.status, 502, "{path}: {}", answer.text());
        assert!(asked.elapsed() < QUICK, "{path}: {:?}", asked.elapsed());
        assert!(
            answer.json().pointer(pointer).is_some_and(Value::is_string),
            "{path}: {}",
            answer.text()
        );
    }
}

/// The share of each node's only loaded model that is on a GPU, as `status --json` tells a user of this router.
fn gpu_percents(router: &Router) -> BTreeMap<String, u64> {
    let scratch = Scratch::new();
    let file = scratch.write("gpurouter.toml", &format!("listen = \"{}\"\n", router.addr));
    let output = command(&scratch)
        .args(["status", "--json", "--config"])
        .arg(file)
        .output()
        .expect("the binary that cargo built");
    let status = json(&output.stdout);
    assert_eq!(status["source"], "router", "{status}");
    let percent = |node: &Value| {
        let share = node["loaded"][0]["gpu_percent"].as_u64()?;
        Some((node["name"].as_str()?.to_owned(), share))
    };
    let nodes = status["nodes"].as_array().expect("nodes");
    nodes.iter().filter_map(percent).collect()
}

#[test]
fn tells_a_node_whose_models_are_on_a_gpu_from_one_whose_are_not() {
    let Some([gpu, cpu]) =
        fleet::gpu_and_cpu("tells_a_node_whose_models_are_on_a_gpu_from_one_whose_are_not")
    else {
        return;
    };
    let nodes = [("gpu", &gpu), ("cpu", &cpu)];
    // A model of each node's own: a mere copy would have the digest, by which it is found on the other node too.
    for (name, server) in nodes {
        let own = json!({"model": format!("tiny-{name}"), "from": "tiny", "system": name, "stream": false});
        ok(client::post(server.addr, "/api/create", &own));
    }
    let router = Router::over(&nodes.map(|(name, server)| format!("{name}={}", server.url())));
    let chat = |name: &str| {
        let request = json!({"model": format!("tiny-{name}"), "messages": hello(), "stream": false, "options": {"num_predict": 4}});
        let mut connection = client::Connection::open(router.addr).expect("a listening address");
        connection.write(&client::post_bytes(
            router.addr,
            "/api/chat",
            &request.to_string(),
        ));
        let answer = ok(connection.read(false, SHADERS));
        assert_eq!(answer.header("x-gpurouter-node"), Some(name), "{answer:?}");
        let id = answer.header("x-gpurouter-id").expect("an id").to_owned();
        router.wait_record(|record| record["id"] == id.as_str())
    };
    let expected = [("gpu", true), ("cpu", false)];
    for (name, on_gpu) in expected {
        // What the router says before it has seen the model loaded is nothing, or the truth.
        let record = chat(name);
        assert_ne!(record["gpu_used"], !on_gpu, "{name}: {record}");
    }
    let mut percents = BTreeMap::new();
    let seen = eventually(LIMIT, || {
        percents = gpu_percents(&router);
        percents.len() == nodes.len()
    });
    assert!(seen, "{percents:?}");
    assert_eq!(percents["gpu"], 100, "{percents:?}");
    // Ollama counts some buffers of a model on a CPU as GPU memory.
    assert!(percents["cpu"] < 25, "{percents:?}");
    for (name, on_gpu) in expected {
        let record = chat(name);
        assert_eq!(record["gpu_used"], on_gpu, "{name}: {record}");
        let decisions = router.api("/gpurouter/api/decisions");
        let newest = &decisions["decisions"][0];
        assert_eq!(
            (&newest["id"], &newest["gpu_used"]),
            (&record["id"], &json!(on_gpu)),
            "{decisions}"
        );
    }
}
