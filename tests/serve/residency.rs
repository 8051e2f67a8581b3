//! What is loaded, and when: single-flight loads, contexts that do not make a node load again, drains, lanes, prompts that do not fit.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::common::client::{self, Connection};
use super::common::{LIMIT, Stub, eventually, reply};
use super::{chat, record, start, told};

fn chat_with(model: &str, context: u64) -> Value {
    let mut request = chat(model, "hi", false);
    request["options"] = json!({ "num_ctx": context });
    request
}

fn metric(router: &super::Router, name: &str) -> f64 {
    let text = client::get(router.addr, "/metrics").text();
    text.lines()
        .filter(|line| line.starts_with(name))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

#[test]
fn twenty_clients_of_a_cold_model_cause_one_load() {
    let node = Stub::ollama(&["m"], reply::healthy);
    node.set_load(Duration::from_millis(600), 200);
    let router = start(&[("only", node.url())], "[admission]\nslots = 4\n");
    let address = router.addr;
    let clients: Vec<_> = (0..20)
        .map(|_| thread::spawn(move || client::post(address, "/api/chat", &chat("m", "hi", false))))
        .collect();
    for client in clients {
        assert_eq!(client.join().unwrap().status, 200);
    }
    assert_eq!((node.loads().len(), node.requests().len()), (1, 20));
}

#[test]
fn a_load_goes_on_when_its_client_leaves_and_the_next_one_finds_it() {
    let node = Stub::ollama(&["m"], reply::healthy);
    node.set_load(Duration::from_millis(900), 200);
    let router = start(&[("only", node.url())], "");
    let mut leaving = Connection::open(router.addr).unwrap();
    leaving.write(&client::post_bytes(
        router.addr,
        "/api/chat",
        &chat("m", "I will not wait", false).to_string(),
    ));
    let asked = eventually(LIMIT, || {
        router.api("/gpurouter/api/status")["nodes"][0]["queued"] == 1
    });
    assert!(asked);
    drop(leaving);
    router.wait_record(|record| record["outcome"] == "client_gone");
    let answer = client::post(router.addr, "/api/chat", &chat("m", "hi", false));
    assert_eq!((answer.status, node.loads().len()), (200, 1));
    assert_eq!(node.requests().len(), 1, "the first one was never sent");
}

#[test]
fn a_load_that_fails_is_told_in_the_client_s_dialect_or_another_node_answers() {
    let bad = Stub::ollama(&["m"], reply::healthy);
    bad.set_load(Duration::ZERO, 500);
    let router = start(&[("bad", bad.url())], "");
    for path in ["/api/chat", "/v1/chat/completions", "/v1/messages"] {
        let mut request = chat("m", "hi", false);
        request["max_tokens"] = json!(5);
        let answer = client::post(router.addr, path, &request);
        assert_eq!(answer.status, 500, "{path}: {answer:?}");
        let error = &answer.json()["error"];
        let text = if path == "/api/chat" {
            error
        } else {
            &error["message"]
        };
        assert!(
            text.as_str()
                .is_some_and(|text| text.contains("the test says so")),
            "{error}"
        );
    }
    assert!(bad.requests().is_empty());
    let good = Stub::ollama(&["m"], reply::healthy);
    let router = start(&[("bad", bad.url()), ("good", good.url())], "");
    let answer = client::post(router.addr, "/api/chat", &chat("m", "hi", false));
    assert_eq!(
        (
            answer.status,
            told(&answer, "node"),
            told(&answer, "fallback")
        ),
        (200, "good", "bad=load_failed")
    );
}

#[test]
fn clients_that_ask_for_different_contexts_cause_no_reload_storm() {
    let node = Stub::ollama(&["m"], reply::healthy);
    let router = start(&[("only", node.url())], "");
    for turn in 0..36 {
        let context = [2048, 4096, 3000][turn % 3];
        let answer = client::post(router.addr, "/api/chat", &chat_with("m", context));
        assert_eq!(answer.status, 200);
    }
    let loads = node.loads();
    assert!(loads.len() <= 3, "{} loads", loads.len());
    // Never smaller than what was asked for, and always the loaded one.
    let sent: Vec<u64> = node
        .requests()
        .iter()
        .map(|request| request.json()["options"]["num_ctx"].as_u64().unwrap())
        .collect();
    for (turn, sent) in sent.iter().enumerate() {
        assert!(*sent >= [2048, 4096, 3000][turn % 3], "{turn}: {sent}");
    }
    let changes = sent.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(changes < 3, "{sent:?}");
    assert!(metric(&router, "gpurouter_reloads_avoided_total") >= 20.0);
}

#[test]
fn options_that_would_reload_are_those_of_the_load() {
    let node = Stub::ollama(&["m"], reply::healthy);
    let router = start(&[("only", node.url())], "");
    let mut first = chat_with("m", 4096);
    first["options"]["num_thread"] = json!(3);
    assert_eq!(client::post(router.addr, "/api/chat", &first).status, 200);
    let mut second = chat_with("m", 4096);
    second["options"]["num_batch"] = json!(64);
    assert_eq!(client::post(router.addr, "/api/chat", &second).status, 200);
    assert_eq!(node.loads()[0].json()["options"]["num_thread"], 3);
    let options = node.requests()[1].json()["options"].clone();
    assert_eq!(
        (&options["num_thread"], &options["num_batch"]),
        (&json!(3), &Value::Null)
    );
}

#[test]
fn with_pass_requests_are_sent_as_they_came() {
    let node = Stub::ollama(&["m"], reply::healthy);
    let router = start(&[("only", node.url())], "[context]\nnum_ctx = \"pass\"\n");
    for context in [2048, 4096, 3000] {
        let answer = client::post(router.addr, "/api/chat", &chat_with("m", context));
        assert_eq!(answer.status, 200);
    }
    let sent: Vec<Value> = node
        .requests()
        .iter()
        .map(|request| request.json()["options"]["num_ctx"].clone())
        .collect();
    assert_eq!(sent, [2048, 4096, 3000]);
}

#[test]
fn a_prompt_too_long_for_the_model_is_refused_with_both_numbers_in_each_dialect() {
    let node = Stub::ollama(&["m"], reply::healthy);
    let router = start(&[("only", node.url())], "");
    // The stub's model was trained for 8192.
    let long = "word ".repeat(20_000);
    for (path, text) in [
        ("/api/chat", "/error"),
        ("/v1/chat/completions", "/error/message"),
        ("/v1/messages", "/error/message"),
    ] {
        let mut request = chat("m", &long, false);
        request["max_tokens"] = json!(5);
        let answer = client::post(router.addr, path, &request);
        assert_eq!(answer.status, 400, "{path}");
        let document = answer.json();
        let told = document
            .pointer(text)
            .and_then(Value::as_str)
            .unwrap_or_default();
        let digits: Vec<u64> = told
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|number| number.parse().ok())
            .collect();
        assert!(
            digits.contains(&8192) && digits.iter().any(|n| *n > 8192),
            "{path}: {told}"
        );
        if path == "/v1/chat/completions" {
            assert_eq!(document["error"]["code"], "context_length_exceeded");
        }
    }
    assert!(node.requests().is_empty() && node.loads().is_empty());
}

#[test]
fn a_longer_prompt_gets_a_larger_window() {
    let node = Stub::ollama(&["m"], reply::healthy);
    let router = start(&[("only", node.url())], "");
    assert_eq!(
        client::post(router.addr, "/api/chat", &chat_with("m", 2048)).status,
        200
    );
    let mut long = chat("m", &"word ".repeat(3000), false);
    long["options"] = json!({"num_ctx": 2048});
    assert_eq!(client::post(router.addr, "/api/chat", &long).status, 200);
    let sent = node.requests()[1].json();
    assert!(
        sent["options"]["num_ctx"].as_u64() >= Some(4096),
        "{}",
        sent["options"]
    );
}

#[test]
fn what_the_node_counts_beats_the_estimate() {
    // A node that refuses what does not fit, as Ollama does with `truncate: false`.
    let node = Stub::ollama(&["m"], |request, peer| {
        let body = request.json();
        let context = body["options"]["num_ctx"].as_u64().unwrap_or(4096);
        if body["truncate"] == json!(false) && context < 5000 {
            let error = json!({"error": {"code": 400, "n_prompt_tokens": 5000, "n_ctx": context}});
            peer.send(&reply::json(400, &json!({"error": error.to_string()})));
        } else {
            reply::healthy(request, peer);
        }
    });
    let router = start(&[("only", node.url())], "");
    // Estimated at about 3,900 tokens: it may or may not fit into 4,096.
    let mut request = chat("m", &"word ".repeat(3100), false);
    request["options"] = json!({"num_ctx": 4096, "num_predict": 1});
    let answer = client::post(router.addr, "/api/chat", &request);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let last = node.requests().pop().unwrap().json();
    assert!(
        last["options"]["num_ctx"].as_u64() >= Some(5000),
        "{}",
        last["options"]
    );
}

/// Two models on a node with room for one.
fn narrow(order: &Arc<Mutex<Vec<String>>>) -> Stub {
    let seen = Arc::clone(order);
    Stub::ollama(&["a", "b"], move |request, peer| {
        let model = request.json()["model"].as_str().unwrap_or("").to_owned();
        seen.lock().unwrap().push(format!("{model} begins"));
        thread::sleep(Duration::from_millis(300));
        seen.lock().unwrap().push(format!("{model} ends"));
        reply::healthy(request, peer);
    })
}

#[test]
fn a_switch_waits_until_its_victim_is_done() {
    let order = Arc::default();
    let node = narrow(&order);
    let url = node.url();
    let config = format!(
        "[[node]]\nname = \"only\"\nurl = \"{url}\"\nvram = \"1500000B\"\n[admission]\nslots = 2\n"
    );
    let router = super::Router::start(&["--log-format", "json"], &config);
    router.wait_ready(1);
    let address = router.addr;
    let ask = |model: &'static str| {
        thread::spawn(move || client::post(address, "/api/chat", &chat(model, "hi", false)))
    };
    let mut clients = vec![ask("a")];
    node.wait_request(1);
    clients.push(ask("b"));
    for client in clients {
        assert_eq!(client.join().unwrap().status, 200);
    }
    assert_eq!(
        *order.lock().unwrap(),
        ["a begins", "a ends", "b begins", "b ends"]
    );
    let unloaded = node
        .probes()
        .iter()
        .filter(|probe| probe.path() == "/api/generate" && probe.json()["keep_alive"] == json!(0))
        .count();
    assert_eq!((node.loads().len(), unloaded), (2, 1));
}

#[test]
fn while_batch_saturates_interactive_goes_first_and_nobody_starves() {
    let order: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&order);
    let node = Stub::ollama(&["m"], move |request, peer| {
        let text = request.json()["messages"][0]["content"]
            .as_str()
            .unwrap()
            .to_owned();
        seen.lock().unwrap().push(text);
        thread::sleep(Duration::from_millis(60));
        reply::healthy(request, peer);
    });
    node.set_loaded(&["m"]);
    let router = start(&[("only", node.url())], "[admission]\nslots = 1\n");
    let address = router.addr;
    let ask = move |text: &'static str, lane: &'static str| {
        thread::spawn(move || {
            let body = chat("m", text, false).to_string();
            let request = format!(
                "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nX-Gpurouter-Lane: {lane}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            client::send(address, request.as_bytes()).status
        })
    };
    let mut clients: Vec<_> = (0..12).map(|_| ask("batch", "batch")).collect();
    node.wait_request(2);
    clients.extend((0..3).map(|_| ask("person", "interactive")));
    for client in clients {
        assert_eq!(client.join().unwrap(), 200);
    }
    let order = order.lock().unwrap();
    let last = order.iter().rposition(|text| text == "person").unwrap();
    assert!(last < 9, "{order:?}");
    assert_eq!(order.len(), 15);
}

#[test]
fn housekeeping_goes_to_the_helper() {
    let [main, helper] = [(); 2].map(|()| Stub::ollama(&["m"], reply::healthy));
    let config = format!(
        "[[node]]\nname = \"main\"\nurl = \"{}\"\nrole = \"main\"\n[[node]]\nname = \"helper\"\nurl = \"{}\"\nrole = \"helper\"\n",
        main.url(),
        helper.url()
    );
    let router = super::Router::start(&["--log-format", "json"], &config);
    router.wait_ready(2);
    let title =
        "### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat history.";
    let answer = client::post(router.addr, "/api/chat", &chat("m", title, false));
    assert_eq!((answer.status, told(&answer, "node")), (200, "helper"));
    let answer = client::post(
        router.addr,
        "/api/chat",
        &chat("m", "What is a title?", false),
    );
    assert_eq!(answer.status, 200);
    record(&router, &answer);
}

#[test]
fn slots_of_an_ollama_that_does_not_tell_them_are_learned() {
    let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, peak) = (Arc::clone(&inside), Arc::clone(&most));
    // One at a time, as its counters say.
    let single = Mutex::new(());
    let node = Stub::ollama(&["m"], move |_, peer| {
        peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let began = std::time::Instant::now();
        let guard = single.lock().unwrap();
        let waited = began.elapsed();
        thread::sleep(Duration::from_millis(150));
        drop(guard);
        let mut answer = reply::ollama_whole("m", "text");
        answer["total_duration"] = json!(150_000_000 + u64::try_from(waited.as_nanos()).unwrap());
        for (key, value) in [
            ("load_duration", 1),
            ("prompt_eval_duration", 50_000_000),
            ("eval_duration", 99_000_000),
        ] {
            answer[key] = json!(value);
        }
        now.fetch_sub(1, Ordering::SeqCst);
        peer.send(&reply::json(200, &answer));
    });
    node.set_loaded(&["m"]);
    let router = start(&[("only", node.url())], "");
    let address = router.addr;
    let learned = (0..10).any(|_| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                thread::spawn(move || {
                    client::post(address, "/api/chat", &chat("m", "hi", false)).status
                })
            })
            .collect();
        for client in clients {
            assert_eq!(client.join().unwrap(), 200);
        }
        router.api("/gpurouter/api/status")["nodes"][0]["slots"] == 1
    });
    // Nobody was told, and a client that comes late looks like one that did not have to wait.
    assert!(learned, "{}", most.load(Ordering::SeqCst));
}

#[test]
fn embeddings_never_evict_a_chat_model() {
    let node = Stub::ollama(&["chat", "embed"], |request, peer| {
        if request.path() == "/api/embed" {
            let answer = json!({"model": "embed", "embeddings": [[0.1]], "prompt_eval_count": 1});
            peer.send(&reply::json(200, &answer));
        } else {
            reply::healthy(request, peer);
        }
    });
    let model = |name: &str, capability: &str| {
        json!({"name": name, "model": name, "size": 1_000_000, "digest": name, "modified_at": "2026-11-01T00:00:00Z",
               "details": {"context_length": 8192}, "capabilities": [capability]})
    };
    let models = json!({"models": [model("chat", "completion"), model("embed", "embedding")]});
    node.set_document("/api/tags", models);
    let config = format!(
        "[[node]]\nname = \"only\"\nurl = \"{}\"\nvram = \"1500000B\"\n",
        node.url()
    );
    let router = super::Router::start(&["--log-format", "json"], &config);
    router.wait_ready(1);
    let answer = client::post(router.addr, "/api/chat", &chat("chat", "hi", false));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let request = json!({"model": "embed", "input": "some text"});
    let answer = client::post(router.addr, "/api/embed", &request);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let loads = node.loads();
    assert_eq!(loads.len(), 2);
    // There is no room for it on the GPU, so it goes into main memory.
    assert_eq!(
        (loads[1].path(), &loads[1].json()["options"]["num_gpu"]),
        ("/api/embed", &json!(0))
    );
    let unloaded = node
        .probes()
        .iter()
        .any(|probe| probe.path() == "/api/generate" && probe.json()["keep_alive"] == json!(0));
    assert!(!unloaded);
}

#[test]
fn a_form_that_cannot_ask_for_a_window_is_put_into_one_that_can() {
    let node = Stub::ollama(&["m"], reply::healthy);
    let router = start(&[("only", node.url())], "");
    // The model was trained for 8192; in this form the node would take 4096.
    let long = chat("m", &"word ".repeat(5000), false);
    let answer = client::post(router.addr, "/v1/chat/completions", &long);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["object"], "chat.completion");
    let sent = node.wait_request(1);
    assert_eq!(sent.path(), "/api/chat");
    assert_eq!(sent.json()["options"]["num_ctx"], 8192);
    assert_eq!(sent.json()["truncate"], false);
    record(&router, &answer);
    let why = router.api(&format!("/gpurouter/api/why/{}", told(&answer, "id")));
    assert!(why["timeline"].to_string().contains("/api/chat"), "{why}");
    // A short one too, because its own form would have the model loaded again with 4096.
    let short = chat("m", "hi", false);
    let answer = client::post(router.addr, "/v1/chat/completions", &short);
    assert_eq!((answer.status, node.loads().len()), (200, 1));
    assert_eq!(node.wait_request(2).path(), "/api/chat");
}

#[test]
fn a_form_that_needs_no_word_of_ollama_s_is_sent_as_it_came() {
    let node = Stub::ollama(&["m"], reply::healthy);
    let router = start(&[("only", node.url())], "");
    // Short, and with the context that the node takes by itself.
    let body = chat("m", "hi", false);
    for _ in 0..2 {
        let answer = client::post(router.addr, "/v1/chat/completions", &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    for sent in node.requests() {
        assert_eq!(sent.path(), "/v1/chat/completions");
        assert_eq!(sent.body, body.to_string().into_bytes());
    }
}

#[test]
fn what_can_not_be_put_into_another_form_is_refused_before_the_node_cuts_it() {
    let words = "word ".repeat(8000);
    let completion = json!({"model": "m", "prompt": words, "stream": false});
    let mut chosen = chat("m", &words, false);
    chosen["tool_choice"] = json!("required");
    let plain = chat("m", &words, false);
    let pass = "[context]\nnum_ctx = \"pass\"\n";
    for (path, long, rest) in [
        ("/v1/completions", &completion, ""),
        ("/v1/chat/completions", &chosen, ""),
        ("/v1/chat/completions", &plain, pass),
    ] {
        let node = Stub::ollama(&["m"], reply::healthy);
        let router = start(&[("only", node.url())], rest);
        // The model was trained for 8192, but this gets what the node takes by itself: 4096.
        let answer = client::post(router.addr, path, long);
        assert_eq!(answer.status, 400, "{path} {rest}: {}", answer.text());
        assert_eq!(answer.json()["error"]["code"], "context_length_exceeded");
        assert!(answer.text().contains("4096"), "{}", answer.text());
        assert!(node.requests().is_empty());
        let mut short = chat("m", "hi", false);
        short["tool_choice"] = json!("required");
        let answer = client::post(router.addr, "/v1/chat/completions", &short);
        assert_eq!(answer.status, 200);
        let sent = node.wait_request(1);
        assert_eq!(sent.path(), "/v1/chat/completions");
        assert_eq!(sent.body, short.to_string().into_bytes());
    }
}

#[test]
fn the_policies_mean_the_same_for_every_form() {
    let words = |tokens: usize| "word ".repeat(tokens);
    // What a prompt of 2,900 words gets where nothing is loaded, and then one of 4,400.
    for (policy, context) in [
        ("raise-only", Some(8192)),
        ("bucket", Some(8192)),
        ("pin", Some(8192)),
        // Sent as they came: what becomes of them is the client's and the node's business.
        ("pass", None),
    ] {
        let node = Stub::ollama(&["m"], reply::healthy);
        let rest = format!("[context]\nnum_ctx = \"{policy}\"\n");
        let router = start(&[("only", node.url())], &rest);
        let ask = |tokens| {
            client::post(
                router.addr,
                "/v1/chat/completions",
                &chat("m", &words(tokens), false),
            )
        };
        let sent = |number| {
            let request = node.wait_request(number);
            let own = request.path() == "/api/chat";
            let context = request.json()["options"]["num_ctx"].as_u64();
            assert_eq!(own, context.is_some(), "{policy}");
            context
        };
        for (number, tokens) in [(1, 2900), (2, 4400)] {
            assert_eq!(ask(tokens).status, 200, "{policy}");
            assert_eq!(sent(number), context, "{policy}");
        }
        assert_eq!(node.loads().len(), 1, "{policy}");
        // The model was trained for 8192: more there is not, whatever the policy.
        assert_eq!(ask(20_000).status, 400, "{policy}");
    }
}

/// A node with room for so many bytes.
fn with_room(node: &Stub, bytes: u64, rest: &str) -> super::Router {
    let url = node.url();
    let config = format!("{rest}\n[[node]]\nname = \"only\"\nurl = \"{url}\"\nvram = {bytes}\n");
    let router = super::Router::start(&["--log-format", "json"], &config);
    router.wait_ready(1);
    router
}

/// The models that the router told the node to unload.
fn unloaded(node: &Stub) -> Vec<String> {
    let probes = node.probes();
    let unloads = probes
        .iter()
        .filter(|probe| probe.path() == "/api/generate" && probe.json()["keep_alive"] == json!(0));
    unloads
        .map(|probe| {
            probe.json()["model"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        })
        .collect()
}

#[test]
fn a_request_evicts_no_priority_model_while_anything_else_can_go() {
    let gone = |priority: &str, asked: &str| {
        let node = Stub::ollama(&["kept", "other", "third"], reply::healthy);
        let settings = format!("auto_optimize = false\npriority_models = [\"{priority}\"]");
        // Two of them fit.
        let router = with_room(&node, 2_600_000, &settings);
        if !asked.is_empty() {
            let path = format!("/gpurouter/api/optimize?models={asked}");
            let done = client::post(router.addr, &path, &json!({})).json();
            assert_eq!(
                (&done["applied"], &done["failed"]),
                (&json!(true), &json!([])),
                "{done}"
            );
        }
        for (model, load_ms) in [("kept", 20), ("other", 300), ("third", 20)] {
            node.set_load(Duration::from_millis(load_ms), 200);
            let answer = client::post(router.addr, "/api/chat", &chat(model, "hi", false));
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        unloaded(&node)
    };
    assert_eq!(gone("kept", ""), ["other"]);
    // Nor one that somebody has asked to be kept.
    assert_eq!(gone("none", "kept"), ["other"]);
    // Without that the one goes which is back soonest.
    assert_eq!(gone("none", ""), ["kept"]);
}

/// A verbose `/api/show` of a model of one layer: 256 bytes of KV cache for each token of context, and a few megabytes of buffers.
fn described() -> Value {
    let tensor = |name: &str, shape: &[u64]| json!({"name": name, "type": "F16", "shape": shape});
    json!({"capabilities": ["completion"], "details": {"format": "gguf", "family": "llama"},
        "model_info": {"general.architecture": "llama", "llama.block_count": 1, "llama.context_length": 8192,
            "llama.embedding_length": 64, "llama.feed_forward_length": 128, "llama.attention.head_count": 1,
            "llama.attention.head_count_kv": 1, "llama.vocab_size": 1000},
        "tensors": [tensor("token_embd.weight", &[64, 1000]), tensor("output.weight", &[64, 1000]),
            tensor("output_norm.weight", &[64]), tensor("blk.0.attn_norm.weight", &[64]), tensor("blk.0.ffn_norm.weight", &[64]),
            tensor("blk.0.attn_q.weight", &[64, 64]), tensor("blk.0.attn_k.weight", &[64, 64]), tensor("blk.0.attn_v.weight", &[64, 64]),
            tensor("blk.0.attn_output.weight", &[64, 64]), tensor("blk.0.ffn_gate.weight", &[64, 128]),
            tensor("blk.0.ffn_up.weight", &[64, 128]), tensor("blk.0.ffn_down.weight", &[128, 64])]})
}

#[test]
fn what_a_model_takes_is_estimated_from_its_header_not_from_its_file() {
    let gone = |header: bool| {
        let node = Stub::ollama(&["a", "b"], reply::healthy);
        if header {
            node.set_document("/api/show", described());
        }
        // Their files of 1 MB each fit together; with its buffers and caches one fills the node. Both are priority models, so that the router
        // looks at them before anybody asks.
        let settings = "auto_optimize = false\npriority_models = [\"a\", \"b\"]";
        let router = with_room(&node, 2_600_000, settings);
        let asked = || {
            let shows = node.probes();
            shows
                .iter()
                .filter(|probe| probe.path() == "/api/show" && probe.json()["verbose"] == true)
                .count()
        };
        assert!(eventually(LIMIT, || asked() == 2), "{}", asked());
        thread::sleep(Duration::from_millis(300));
        for model in ["a", "b", "a"] {
            let answer = client::post(router.addr, "/api/chat", &chat(model, "hi", false));
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        assert_eq!(asked(), 2, "each is asked about once");
        unloaded(&node)
    };
    assert_eq!(gone(false), [""; 0]);
    assert_eq!(gone(true)[0], "a");
}

/// A llama-server in router mode with room for so many models: it loads on demand and throws out nothing by itself.
fn router_mode(models: &'static [&'static str], most: usize) -> Arc<Stub> {
    let own: Arc<std::sync::OnceLock<std::sync::Weak<Stub>>> = Arc::default();
    let loaded: Arc<Mutex<Vec<String>>> = Arc::default();
    let listed = move |loaded: &[String]| {
        let data: Vec<Value> = models
            .iter()
            .map(|id| {
                let here = loaded.iter().any(|name| name == id);
                json!({"id": id, "object": "model", "owned_by": "llamacpp", "context_length": 8192,
                    "status": {"value": if here { "loaded" } else { "unloaded" }}})
            })
            .collect();
        json!({"object": "list", "data": data})
    };
    let stub = Arc::clone(&own);
    let node = Stub::llama_server(models[0], move |request, peer| {
        let model = request.json()["model"].as_str().unwrap_or("").to_owned();
        let change = |change: &dyn Fn(&mut Vec<String>)| {
            let mut loaded = loaded.lock().unwrap();
            change(&mut loaded);
            let stub = stub.get().and_then(std::sync::Weak::upgrade).unwrap();
            stub.set_document("/v1/models", listed(&loaded));
        };
        match request.path() {
            "/models/load" => {
                thread::sleep(Duration::from_millis(200));
                change(&|loaded| loaded.push(model.clone()));
                assert!(loaded.lock().unwrap().len() <= most, "more than it holds");
                peer.send(&reply::json(200, &json!({"success": true})));
            }
            "/models/unload" => {
                change(&|loaded| loaded.retain(|name| *name != model));
                peer.send(&reply::json(200, &json!({"success": true})));
            }
            _ => {
                if !loaded.lock().unwrap().contains(&model) {
                    let error = json!({"error": {"message": "model is not loaded"}});
                    peer.send(&reply::json(500, &error));
                    return;
                }
                thread::sleep(Duration::from_millis(50));
                reply::healthy(request, peer);
            }
        }
    });
    let node = Arc::new(node);
    own.set(Arc::downgrade(&node)).unwrap();
    node.set_document(
        "/props",
        json!({"role": "router", "max_instances": most, "models_autoload": true,
            "default_generation_settings": {"params": null, "n_ctx": 0}, "build_info": "b11669"}),
    );
    node.set_document("/v1/models", listed(&[]));
    node
}

#[test]
fn a_llama_server_in_router_mode_is_told_what_to_load_and_never_finds_a_model_missing() {
    let node = router_mode(&["a", "b"], 1);
    let router = start(&[("only", node.url())], "");
    let address = router.addr;
    let clients: Vec<_> = (0..12)
        .map(|turn| {
            let model = ["a", "b"][turn % 2];
            thread::spawn(move || {
                client::post(address, "/v1/chat/completions", &chat(model, "hi", false))
            })
        })
        .collect();
    for client in clients {
        let answer = client.join().unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let calls = |path: &str| {
        node.requests()
            .iter()
            .filter(|request| request.path() == path)
            .count()
    };
    let loads = calls("/models/load");
    assert!((2..=4).contains(&loads), "{loads} loads for two models");
    assert_eq!(
        calls("/models/unload"),
        loads - 1,
        "each makes room before the next"
    );
    assert_eq!(
        metric(&router, "gpurouter_loads_total").to_string(),
        loads.to_string()
    );
    // An empty request in Ollama's form is a load.
    let waiting = json!({"model": "a", "stream": false});
    client::post(address, "/api/chat", &chat("b", "hi", false));
    assert_eq!(client::post(address, "/api/generate", &waiting).status, 200);
    let last = node.requests().pop().unwrap();
    assert_eq!(
        (last.path(), last.json()["model"].as_str()),
        ("/models/load", Some("a"))
    );
}

#[test]
fn a_llama_server_in_router_mode_has_its_priority_model_loaded_by_the_cycle_and_keeps_it() {
    let node = router_mode(&["llama3.2:1b", "a", "b"], 2);
    let settings = "priority_models = [\"llama3.2:1b\"]";
    let router = with_room(&node, 8 << 30, settings);
    let calls = |path: &str| -> Vec<String> {
        let requests = node.requests();
        let calls = requests.iter().filter(|request| request.path() == path);
        calls
            .map(|request| request.json()["model"].as_str().unwrap_or("").to_owned())
            .collect()
    };
    assert!(eventually(LIMIT, || calls("/models/load") == ["llama3.2:1b"]));
    for model in ["a", "b", "llama3.2:1b"] {
        let path = "/v1/chat/completions";
        let answer = client::post(router.addr, path, &chat(model, "hi", false));
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(calls("/models/load"), ["llama3.2:1b", "a", "b"]);
    assert_eq!(calls("/models/unload"), ["a"]);
}

/// C15: the third of the sources' runs, 10,981 tokens by their rule (43,924 characters): the window it gets holds all of it.
#[test]
fn c15_a_prompt_of_10981_tokens_gets_a_window_that_holds_it() {
    let node = Stub::llama_8b();
    let router = start(&[("only", node.url())], "");
    let prompt: String = "word ".chars().cycle().take(43_924).collect();
    for asked in [None, Some(4096), Some(8192)] {
        let mut request = chat("m", &prompt, false);
        if let Some(context) = asked {
            request["options"] = json!({ "num_ctx": context });
        }
        let answer = client::post(router.addr, "/api/chat", &request);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let estimated = record(&router, &answer)["tokens"]["prompt_estimated"]
            .as_u64()
            .expect("an estimate");
        let sent = node.requests().pop().expect("a request").json();
        let window = sent["options"]["num_ctx"].as_u64().expect("a window");
        assert!(
            window >= estimated && window >= 10_981,
            "{window} for {estimated} tokens"
        );
    }
}

/// C39: the window of a model grows in steps with what is asked for, as far as the GPU's memory goes, and not beyond.
#[test]
fn c39_windows_grow_as_far_as_the_memory_goes() {
    let reached = |gib: u64, policy: &str| {
        let node = Stub::llama_8b();
        let config = format!(
            "[context]\nnum_ctx = \"{policy}\"\n[[node]]\nname = \"only\"\nurl = \"{}\"\nvram = \"{gib}GiB\"\n",
            node.url()
        );
        let router = super::Router::start(&["--log-format", "json"], &config);
        router.wait_ready(1);
        for context in [2048, 6000, 16_384, 65_536, 131_072] {
            let answer = client::post(router.addr, "/api/chat", &chat_with("m", context));
            assert_eq!(answer.status, 200, "{}", answer.text());
            // The first request does not wait until the node has described its model.
            let described = || {
                node.probes()
                    .iter()
                    .any(|probe| probe.path() == "/api/show")
            };
            assert!(eventually(LIMIT, described));
            thread::sleep(Duration::from_millis(300));
        }
        let steps: Vec<u64> = node
            .loads()
            .iter()
            .map(|load| load.json()["options"]["num_ctx"].as_u64().unwrap())
            .collect();
        assert!(steps.is_sorted() && steps.len() >= 2, "{steps:?}");
        let described = node.probes();
        let shows = described.iter().filter(|probe| probe.path() == "/api/show");
        assert_eq!(shows.count(), 1, "once for each content");
        *steps.last().unwrap()
    };
    // The weights and buffers that the node shows, and 128 KiB for each token, in all but 1 GiB of the card.
    let fits = |gib: u64| ((gib - 1) * 1024 - 4600) * 8;
    for policy in ["raise-only", "bucket"] {
        let mut last = 0;
        for gib in [8, 12, 16] {
            let (reached, fits) = (reached(gib, policy), fits(gib));
            assert!(
                reached > last && reached <= fits,
                "{gib} GiB, {policy}: {reached} of {fits}"
            );
            assert!(
                reached * 2 >= fits,
                "{gib} GiB, {policy}: {reached} of {fits}"
            );
            last = reached;
        }
    }
}

/// A node that loads and answers, and never describes its models.
#[test]
fn a_node_that_never_describes_its_models_answers_all_the_same() {
    let node = Stub::llama_8b();
    node.set_silent("/api/show");
    let config = format!(
        "[[node]]\nname = \"only\"\nurl = \"{}\"\nvram = \"8GiB\"\n",
        node.url()
    );
    let router = super::Router::start(&["--log-format", "json"], &config);
    router.wait_ready(1);
    let address = router.addr;
    let clients: Vec<_> = (0..5)
        .map(|_| thread::spawn(move || client::post(address, "/api/chat", &chat_with("m", 4096))))
        .collect();
    for client in clients {
        assert_eq!(client.join().unwrap().status, 200);
    }
    assert_eq!(node.loads().len(), 1);
}
