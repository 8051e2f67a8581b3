//! What the router makes of contexts on real Ollamas: no reload storm, no prompt that is cut without a word.

mod common;

use serde_json::json;

use common::client::{self, Response};
use common::fleet::{self, Server};
use common::{LIMIT, Router, eventually, json as parsed};

fn generate(router: &Router, model: &str, prompt: &str, context: u64) -> Response {
    let request = json!({"model": model, "prompt": prompt, "stream": false, "raw": true,
                         "options": {"num_ctx": context, "num_predict": 2}});
    client::post(router.addr, "/api/generate", &request)
}

/// A prompt of about so many tokens as the model itself counts them.
fn prompt_of(server: &Server, model: &str, tokens: u64) -> String {
    let some = "The weather in the north is cold. ".repeat(20);
    let request = json!({"model": model, "prompt": some, "stream": false, "raw": true, "options": {"num_predict": 1}});
    let answer = client::post(server.addr, "/api/generate", &request);
    let counted = parsed(&answer.body)["prompt_eval_count"]
        .as_u64()
        .expect("a count");
    some.repeat(usize::try_from(tokens.div_ceil(counted) + 1).expect("few"))
}

#[test]
fn thirty_six_requests_with_three_contexts_cause_at_most_three_loads() {
    let test = "thirty_six_requests_with_three_contexts_cause_at_most_three_loads";
    let start = || fleet::ollama_trained_for(test, &[("tiny", 8192)]);
    let (Some(one), Some(two)) = (start(), start()) else {
        return;
    };
    let router = Router::over(&[one.url(), two.url()]);
    for turn in 0..36 {
        let context = [2048, 4096, 3000][turn % 3];
        let answer = generate(&router, "tiny", "hello", context);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let loads = one.loads() + two.loads();
    assert!((1..=3).contains(&loads), "{loads} loads");
    let figures = client::get(router.addr, "/metrics").text();
    let avoided: u64 = figures
        .lines()
        .filter_map(|line| line.strip_prefix("gpurouter_reloads_avoided_total{"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum();
    assert!(avoided >= 20, "{avoided} of 36");
    drop(router);
    // Left as they came they cause a load each, as without a router.
    let pass = "[context]\nnum_ctx = \"pass\"\n";
    let router = Router::start(&["--log-format", "json", "--node", &one.url()], pass);
    router.wait_ready(1);
    let before = one.loads();
    for turn in 0..36 {
        // What is loaded at first is not 3000.
        let context = [3000, 4096, 2048][turn % 3];
        assert_eq!(generate(&router, "tiny", "hello", context).status, 200);
    }
    assert_eq!(one.loads() - before, 36);
}

#[test]
fn a_prompt_of_9000_tokens_is_never_cut_without_a_word() {
    let name = "a_prompt_of_9000_tokens_is_never_cut_without_a_word";
    let models = [("small", 8192), ("large", 16_384)];
    let Some(server) = fleet::ollama_trained_for(name, &models) else {
        return;
    };
    let prompt = prompt_of(&server, "large", 9000);
    let router = Router::over(&[server.url()]);
    // Not even the model's whole window is enough: both numbers are told.
    let refused = generate(&router, "small", &prompt, 2048);
    assert_eq!(refused.status, 400, "{}", refused.text());
    let told = parsed(&refused.body);
    let text = told["error"].as_str().unwrap_or_default();
    let numbers: Vec<u64> = text
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect();
    assert!(
        numbers.contains(&8192) && numbers.iter().any(|n| *n >= 9000),
        "{text}"
    );
    // Here a larger window is: all of it is read.
    let answer = generate(&router, "large", &prompt, 2048);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let counted = parsed(&answer.body)["prompt_eval_count"].clone();
    assert!(counted.as_u64() >= Some(9000), "{counted}");
    let chat = json!({"model": "large", "stream": false, "options": {"num_ctx": 2048, "num_predict": 2},
                      "messages": [{"role": "user", "content": prompt}]});
    let answer = client::post(router.addr, "/api/chat", &chat);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let counted = parsed(&answer.body)["prompt_eval_count"].clone();
    assert!(counted.as_u64() >= Some(9000), "{counted}");
}

/// The same prompt in the other APIs' forms, which cannot ask for a context.
fn foreign(model: &str, prompt: &str, stream: bool) -> [(&'static str, serde_json::Value); 3] {
    let said = json!([{"role": "user", "content": prompt}]);
    [
        (
            "/v1/chat/completions",
            json!({"model": model, "messages": said, "max_tokens": 2, "stream": stream,
                   "stream_options": {"include_usage": true}}),
        ),
        (
            "/v1/messages",
            json!({"model": model, "messages": said, "max_tokens": 2, "stream": stream}),
        ),
        (
            "/v1/responses",
            json!({"model": model, "input": prompt, "max_output_tokens": 2, "stream": stream}),
        ),
    ]
}

/// The largest number of prompt tokens that an answer tells, whole or as a stream.
fn told_tokens(answer: &Response) -> u64 {
    let text = answer.text();
    let numbers = ["\"prompt_tokens\":", "\"input_tokens\":"].into_iter();
    let found = numbers.flat_map(|name| text.split(name).skip(1).map(str::to_owned));
    found
        .filter_map(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_digit())?;
            rest[..end].parse().ok()
        })
        .max()
        .unwrap_or(0)
}

#[test]
fn forms_that_cannot_ask_for_a_context_get_the_one_that_their_prompt_needs() {
    let name = "forms_that_cannot_ask_for_a_context_get_the_one_that_their_prompt_needs";
    let models = [("small", 8192), ("large", 16_384)];
    let Some(server) = fleet::ollama_trained_for(name, &models) else {
        return;
    };
    let prompt = prompt_of(&server, "large", 9000);
    // What Ollama itself makes of it: it is cut without a word.
    let (path, bare) = &foreign("large", &prompt, false)[0];
    let answer = client::post(server.addr, path, bare);
    assert_eq!(answer.status, 200);
    assert!(told_tokens(&answer) < 9000, "{}", answer.text());
    let router = Router::over(&[server.url()]);
    for stream in [false, true] {
        for (path, request) in foreign("large", &prompt, stream) {
            let answer = client::post(router.addr, path, &request);
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            assert!(told_tokens(&answer) >= 9000, "{path}: {}", answer.text());
        }
    }
    // All of them were answered by one load.
    let loads = server.loads();
    let native = json!({"model": "large", "stream": false, "options": {"num_predict": 2},
                        "messages": [{"role": "user", "content": prompt}]});
    assert_eq!(client::post(router.addr, "/api/chat", &native).status, 200);
    assert_eq!(server.loads(), loads);
    for (path, request) in foreign("small", &prompt, false) {
        let refused = client::post(router.addr, path, &request);
        assert_eq!(refused.status, 400, "{path}: {}", refused.text());
        let numbers: Vec<u64> = refused
            .text()
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|number| number.parse().ok())
            .collect();
        assert!(
            numbers.contains(&8192) && numbers.iter().any(|n| *n >= 9000),
            "{path}: {}",
            refused.text()
        );
    }
}

#[test]
fn a_request_in_another_form_does_not_take_the_context_of_the_others_away() {
    let name = "a_request_in_another_form_does_not_take_the_context_of_the_others_away";
    let Some(server) = fleet::ollama_trained_for(name, &[("tiny", 16_384)]) else {
        return;
    };
    let router = Router::over(&[server.url()]);
    assert_eq!(generate(&router, "tiny", "hello", 16_384).status, 200);
    let loads = server.loads();
    for _ in 0..3 {
        for (path, request) in foreign("tiny", "hello", false) {
            let answer = client::post(router.addr, path, &request);
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        }
        assert_eq!(generate(&router, "tiny", "hello", 16_384).status, 200);
    }
    assert_eq!(server.loads(), loads, "Ollama alone loads for each of them");
}

#[test]
fn what_is_said_in_ollama_s_own_form_is_read_and_answered_the_same() {
    let name = "what_is_said_in_ollama_s_own_form_is_read_and_answered_the_same";
    let Some(server) = fleet::ollama_trained_for(name, &[("tiny", 16_384)]) else {
        return;
    };
    let router = Router::over(&[server.url()]);
    // A context that is not Ollama's own, so that the router has to say it.
    let requests = [
        json!({"messages": [{"role": "user", "content": "The river"}], "seed": 7}),
        json!({"messages": [{"role": "system", "content": "Be kind."},
                            {"role": "user", "content": [{"type": "text", "text": "The"}, {"type": "text", "text": "river"}]},
                            {"role": "assistant", "content": "rose"}, {"role": "user", "content": "And?"}],
               "seed": 3, "temperature": 0.4, "top_p": 0.8, "frequency_penalty": 0.5, "presence_penalty": 0.5, "stop": "q"}),
        json!({"messages": [{"role": "user", "content": "A number"}], "seed": 5,
               "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "integer"}}}}),
        json!({"messages": [{"role": "user", "content": "Words"}], "seed": 9, "logprobs": true, "top_logprobs": 2}),
    ];
    let mut bare = Vec::new();
    for request in &requests {
        for stream in [false, true] {
            let mut request = request.clone();
            request["model"] = json!("tiny");
            request["max_completion_tokens"] = json!(12);
            request["max_tokens"] = json!(12);
            request["stream"] = json!(stream);
            let answer = client::post(server.addr, "/v1/chat/completions", &request);
            assert_eq!(answer.status, 200, "{}", answer.text());
            bare.push((request, answer));
        }
    }
    assert_eq!(generate(&router, "tiny", "hello", 8192).status, 200);
    let loads = server.loads();
    for (request, expected) in bare {
        let answer = client::post(router.addr, "/v1/chat/completions", &request);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(
            answer.header("content-type"),
            expected.header("content-type")
        );
        assert_eq!(said(&answer), said(&expected), "{request}");
    }
    assert_eq!(server.loads(), loads);
}

/// An answer's documents, without what differs from one to the next.
fn said(answer: &Response) -> Vec<serde_json::Value> {
    let text = answer.text();
    let documents = text.split("\n\n").filter(|part| !part.trim().is_empty());
    documents
        .map(|part| part.strip_prefix("data: ").unwrap_or(part))
        .filter(|part| *part != "[DONE]")
        .map(|part| {
            let mut document = parsed(part.as_bytes());
            for varies in ["id", "created"] {
                document[varies] = json!(null);
            }
            document
        })
        .collect()
}

/// A llama-server in router mode would throw out a model for each request that names another one.
#[test]
fn a_real_llama_server_in_router_mode_switches_models_only_between_batches() {
    let test = "a_real_llama_server_in_router_mode_switches_models_only_between_batches";
    let Some(server) = fleet::llama_on_demand(test, &["one", "two", "three"], 2) else {
        return;
    };
    let router = Router::over(&[server.url()]);
    let address = router.addr;
    let ask = move |model: &'static str| {
        let request = json!({"model": model, "max_tokens": 4, "messages": [{"role": "user", "content": "hello"}]});
        std::thread::spawn(move || client::post(address, "/v1/chat/completions", &request))
    };
    let clients: Vec<_> = (0..18)
        .map(|turn| ask(["one", "two", "three"][turn % 3]))
        .collect();
    for client in clients {
        let answer = client.join().unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let figures = client::get(router.addr, "/metrics").text();
    let of = |name: &str| -> u64 {
        let lines = figures.lines().filter(|line| line.starts_with(name));
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    };
    let loads = of("gpurouter_loads_total{");
    assert!((3..=6).contains(&loads), "{loads} loads of three models");
    assert_eq!(of("gpurouter_loads_failed_total{"), 0);
    // It was told each time which one goes, and never had to choose by itself.
    assert_eq!(of("gpurouter_evictions_total{"), loads - 2);
    let status = parsed(&client::get(router.addr, "/gpurouter/api/status").body);
    let node = &status["nodes"][0];
    assert_eq!(node["loaded"].as_array().map(Vec::len), Some(2), "{node}");
    assert!(node["slots"].as_u64() >= Some(1), "{node}");
}

/// Its header is read from the file that the server would start it with, so that the cycle knows whether it fits.
#[test]
fn a_real_llama_server_in_router_mode_keeps_its_priority_model() {
    let test = "a_real_llama_server_in_router_mode_keeps_its_priority_model";
    let Some(server) = fleet::llama_on_demand(test, &["one", "two", "three"], 2) else {
        return;
    };
    let config = format!(
        "priority_models = [\"two\"]\n[[node]]\nname = \"only\"\nurl = \"{}\"\nvram = \"8GiB\"\n",
        server.url()
    );
    let router = Router::start(&[], &config);
    let loaded = || {
        let status = parsed(&client::get(router.addr, "/gpurouter/api/status").body);
        let loaded = status["nodes"][0]["loaded"].as_array().cloned();
        let names = loaded.unwrap_or_default().into_iter();
        let mut names: Vec<String> = names
            .filter_map(|model| Some(model["model"].as_str()?.to_owned()))
            .collect();
        names.sort();
        names
    };
    assert!(
        eventually(LIMIT, || loaded() == ["two:latest"]),
        "{:?}",
        loaded()
    );
    for model in ["one", "three", "one"] {
        let request = json!({"model": model, "max_tokens": 4, "messages": [{"role": "user", "content": "hello"}]});
        let answer = client::post(router.addr, "/v1/chat/completions", &request);
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let kept = || loaded() == ["one:latest", "two:latest"];
    assert!(eventually(LIMIT, kept), "{:?}", loaded());
}
