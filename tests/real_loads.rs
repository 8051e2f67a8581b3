//! The same short traces before simulated nodes and before real Ollamas, without and with the router: how often models are loaded.
//!
//! `GPUROUTER_TEST_OLLAMA` and `GPUROUTER_TEST_OLLAMA_GPU` name the programs (`tests/tools/real-servers.sh get DIR` brings them); without
//! them the tests are skipped by name.

#![allow(
    clippy::print_stderr,
    reason = "measured values go to the test runner's stderr"
)]

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use gpurouter::sim::{Clock, Fleet, Gpu, Model, NodeSpec};
use serde_json::{Value, json};

use common::client::{self, Response};
use common::fleet;
use common::{LIMIT, Router, eventually};

/// The longest wait for an answer on a software GPU of a busy machine, which compiles its shaders first.
const ANSWERED: Duration = Duration::from_secs(120);

/// A request: its path and its body.
type Asked = (&'static str, Value);

fn chat(model: &str, context: Option<u64>, text: &str) -> Asked {
    // No limit, which would make a smaller window enough; but an answer ends with the first of these.
    let mut options = json!({"stop": [" ", "a", "e", "i", "o", "s", "t"]});
    if let Some(context) = context {
        options["num_ctx"] = context.into();
    }
    let messages = json!([{"role": "user", "content": text}]);
    let body = json!({"model": model, "stream": false, "messages": messages, "options": options});
    ("/api/chat", body)
}

fn embed(text: &str) -> Asked {
    ("/api/embed", json!({"model": "tiny-embed", "input": text}))
}

/// An editor, a page and a script use one model, each with a context of its own, in turns.
fn three_clients() -> Vec<Asked> {
    let contexts = [2048, 4096, 6000];
    (0..9)
        .map(|turn| chat("tiny", Some(contexts[turn % 3]), "hello"))
        .collect()
}

/// Chats in a context of 8,192; after each the program asks for follow-ups and tags, after the first for a title, and says no context.
fn open_webui() -> Vec<Asked> {
    let mut asked = Vec::new();
    for message in 0..2 {
        asked.push(chat("tiny", Some(8192), "What is the capital of France?"));
        let tasks = [
            "Generate a concise, 3-5 word title with an emoji summarizing the chat history.",
            "Suggest 3-5 relevant follow-up questions.",
            "Generate 1-3 broad tags categorizing the main themes of the chat history.",
        ];
        for task in &tasks[usize::from(message > 0)..] {
            asked.push(chat("tiny", None, &format!("### Task:\n{task}")));
        }
    }
    asked
}

/// Documents are embedded, then each question is embedded and answered: the two models take turns where there is room for one.
fn rag() -> Vec<Asked> {
    let mut asked: Vec<Asked> = (0..2).map(|_| embed("a part of a document")).collect();
    for _ in 0..2 {
        asked.push(embed("a question"));
        asked.push(chat("tiny", Some(4096), "a question and what was found"));
    }
    asked
}

/// One person goes over to another model, and back.
fn switch() -> Vec<Asked> {
    let models = ["tiny", "other", "tiny"];
    let two = |model| (0..2).map(move |_| chat(model, None, "hello"));
    models.into_iter().flat_map(two).collect()
}

fn send(addr: SocketAddr, (path, body): &Asked) -> Response {
    let mut connection = client::Connection::open(addr).expect("a listening address");
    connection.write(&client::post_bytes(addr, path, &body.to_string()));
    let answer = connection.read(false, ANSWERED);
    assert_eq!(answer.status, 200, "{path} {body}: {}", answer.text());
    answer
}

/// Nothing is in memory any more.
fn empty(addr: SocketAddr) {
    let held = || {
        let ps = client::try_get(addr, "/api/ps").map(|answer| answer.json());
        let models = ps.and_then(|ps| ps["models"].as_array().cloned());
        models.unwrap_or_default()
    };
    for model in held() {
        let gone = json!({"model": model["name"], "keep_alive": 0, "stream": false});
        client::post(addr, "/api/generate", &gone);
    }
    assert!(eventually(LIMIT, || held().is_empty()), "{:?}", held());
}

/// The loads that a trace causes at a node, without and with a router before it.
fn loads(node: SocketAddr, count: &dyn Fn() -> u64, trace: &[Asked]) -> [u64; 2] {
    empty(node);
    let before = count();
    for asked in trace {
        send(node, asked);
    }
    let plain = count() - before;
    empty(node);
    let before = count();
    let router = Router::over(&[format!("http://{node}")]);
    for asked in trace {
        send(router.addr, asked);
    }
    [plain, count() - before]
}

/// A node that has what [`fleet::narrow_ollama`] has.
fn simulated() -> Fleet {
    let mut spec = NodeSpec::new("sim", Gpu::find("rtx3060").expect("a known card"));
    spec.hardware.load_time = Some(Duration::from_millis(20));
    spec.hardware.max_loaded = 1;
    spec.answer_tokens = Some(2);
    let chats = [("tiny", 8192), ("other", 16_384)];
    spec.models = vec![Model::named("tiny-embed", Some(2 << 20))];
    spec.models.extend(chats.map(|(name, context)| Model {
        context_length: context,
        ..Model::named(name, Some(2 << 20))
    }));
    Fleet::start(vec![spec], Clock::real(), 7).expect("a simulated node")
}

#[test]
fn short_traces_cause_the_same_loads_on_simulated_and_on_real_nodes() {
    let test = "short_traces_cause_the_same_loads_on_simulated_and_on_real_nodes";
    let Some(server) = fleet::narrow_ollama(test, false) else {
        return;
    };
    let fleet = simulated();
    let node = fleet.node(0);
    for (name, trace, plain, ours) in [
        ("three clients", three_clients(), 9, 3),
        ("Open WebUI", open_webui(), 4, 1),
        ("RAG", rag(), 4, 4),
        ("a switch", switch(), 3, 3),
    ] {
        let real = loads(server.addr, &|| server.loads() as u64, &trace);
        let simulated = loads(node.address(), &|| node.loads(), &trace);
        eprintln!(
            "{name}: {} requests, loads plain and ours: real {real:?}, simulated {simulated:?}",
            trace.len()
        );
        assert_eq!(real, simulated, "{name}");
        assert_eq!(real[0], plain, "{name}");
        assert!((1..=ours).contains(&real[1]), "{name}: {real:?}");
    }
}

/// Two people with two models at the same time, one of which fits. Who is first is a matter of moments. Until the router has seen that the node
/// keeps one model only, a load of its own may be lost to the other's, which then happens again: so many more are allowed than the node does alone.
#[test]
fn two_people_with_two_models_cause_about_the_same_loads() {
    const EACH: usize = 6;
    const LOST: u64 = 6;
    let test = "two_people_with_two_models_cause_about_the_same_loads";
    let Some(server) = fleet::narrow_ollama(test, false) else {
        return;
    };
    let fleet = simulated();
    let node = fleet.node(0);
    let both = |addr: SocketAddr| {
        std::thread::scope(|scope| {
            for model in ["tiny", "other"] {
                scope.spawn(move || {
                    for _ in 0..EACH {
                        send(addr, &chat(model, None, "hello"));
                    }
                });
            }
        });
    };
    let run = |addr: SocketAddr, count: &dyn Fn() -> u64| {
        empty(addr);
        let before = count();
        both(addr);
        let plain = count() - before;
        empty(addr);
        let before = count();
        let router = Router::over(&[format!("http://{addr}")]);
        both(router.addr);
        [plain, count() - before]
    };
    let real = run(server.addr, &|| server.loads() as u64);
    let simulated = run(node.address(), &|| node.loads());
    eprintln!("two people: loads plain and ours: real {real:?}, simulated {simulated:?}");
    for [plain, ours] in [real, simulated] {
        assert!(ours >= 2 && ours <= plain + LOST, "{real:?} {simulated:?}");
    }
    assert!(
        real[1].abs_diff(simulated[1]) <= LOST,
        "{real:?} {simulated:?}"
    );
}

/// What each policy makes of contexts, on a real Ollama with its models on a GPU: `pass` loads as often as Ollama does, the others not.
#[test]
fn every_policy_keeps_its_word_on_a_gpu() {
    let Some(server) = fleet::narrow_ollama("every_policy_keeps_its_word_on_a_gpu", true) else {
        return;
    };
    for (policy, least, most) in [
        ("pass", 6, 6),
        ("raise-only", 1, 2),
        ("bucket", 1, 2),
        ("pin", 1, 1),
    ] {
        empty(server.addr);
        let before = server.loads();
        let config = format!(
            "auto_optimize = false\n[context]\nnum_ctx = \"{policy}\"\n[[node]]\nname = \"gpu\"\nurl = \"{}\"\nvram = \"8GiB\"\n",
            server.url()
        );
        let router = Router::start(&["--log-format", "json"], &config);
        router.wait_ready(1);
        for context in [2048, 4096, 3000, 2048, 4096, 3000] {
            send(router.addr, &chat("tiny", Some(context), "hello"));
        }
        let loads = server.loads() - before;
        let ps: Value = client::get(server.addr, "/api/ps").json();
        let held = &ps["models"][0];
        eprintln!(
            "{policy}: {loads} loads, {} tokens at last",
            held["context_length"]
        );
        assert!((least..=most).contains(&loads), "{policy}: {loads}");
        assert_eq!(held["size"], held["size_vram"], "{policy}: {ps}");
        if policy != "pin" {
            assert!(
                held["context_length"].as_u64() >= Some(3000),
                "{policy}: {ps}"
            );
        }
    }
}
