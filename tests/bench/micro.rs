//! `cargo bench --bench micro`: what every request passes through, one part at a time: classifying, counting tokens, reading a body, deciding,
//! following a stream; and what `bench` itself computes. Reported, never a gate.
//!
//! `-- classify` runs only the benchmarks whose names hold that word; `-- --help` shows the rest of the harness.

use std::sync::Arc;

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use gpurouter::cluster::{ClusterSnapshot, Model, ModelName, Node, NodeState};
use gpurouter::dialect::{Endpoint, StreamForm, StreamWatch, parse};
use gpurouter::measure::{RESAMPLES, Random, bootstrap_mean};
use gpurouter::routing::{
    Family, Policy, RequestFacts, Speed, Speeds, classify, decide, estimate_tokens,
};

fn main() {
    divan::main();
}

/// Prose and code in the proportion of a coding agent's prompt.
fn text(bytes: usize) -> String {
    const SAMPLE: &str = "Refactor the retry loop of this function so that it stops after the deadline, and explain why.\n\
        fn retry(limit: Duration) -> Result<Reply, Error> {\n    let began = Instant::now();\n    loop {\n        match send() {\n            \
        Ok(reply) => return Ok(reply),\n            Err(error) if began.elapsed() > limit => return Err(error),\n            \
        Err(_) => sleep(PAUSE),\n        }\n    }\n}\n";
    SAMPLE.chars().cycle().take(bytes).collect()
}

#[divan::bench(args = [100, 1_000, 10_000, 200_000])]
fn classify_a_prompt_of_bytes(bencher: Bencher, bytes: usize) {
    let prompt = text(bytes);
    bencher
        .counter(BytesCount::of_str(&prompt))
        .bench(|| classify(black_box(&prompt)));
}

#[divan::bench(args = [1_000, 200_000])]
fn count_tokens_of_bytes(bencher: Bencher, bytes: usize) {
    let prompt = text(bytes);
    bencher
        .counter(BytesCount::of_str(&prompt))
        .bench(|| estimate_tokens(black_box(&prompt), Family::default()));
}

#[divan::bench(args = [1_000, 200_000])]
fn read_a_chat_body_of_bytes(bencher: Bencher, bytes: usize) {
    let body = serde_json::json!({
        "model": "auto",
        "messages": [{"role": "user", "content": text(bytes)}],
        "stream": true,
    })
    .to_string();
    bencher.counter(BytesCount::of_str(&body)).bench(|| {
        let parsed = parse(&Endpoint::ChatCompletions, black_box(body.as_bytes()));
        parsed.map(|parsed| parsed.facts(Family::default(), true))
    });
}

/// Nodes with twelve models each, all of them measured.
fn fleet(nodes: usize) -> (ClusterSnapshot, Speeds) {
    let mut snapshot = ClusterSnapshot::default();
    let mut speeds = Speeds::default();
    for index in 0..nodes {
        let mut node = Node::unseen(
            format!("node-{index}"),
            format!("http://10.0.0.{index}:11434"),
        );
        node.state = NodeState::Up;
        node.cause = None;
        for model in 0..12 {
            let id = format!("model-{model}:7b");
            node.models.push(Model {
                name: ModelName::new(&id),
                id: id.clone(),
                ..Model::default()
            });
            let speed = Speed {
                prefill_tps: Some(1_000.0),
                decode_tps: Some(50.0),
                load_ms: Some(4_000.0),
                completion_tokens: Some(200.0),
                samples: 20,
                ..Speed::default()
            };
            speeds
                .by_node_and_model
                .entry(node.name.clone())
                .or_default()
                .insert(ModelName::new(&id), speed);
        }
        snapshot.nodes.push(Arc::new(node));
    }
    (snapshot, speeds)
}

#[divan::bench(args = [2, 12, 200])]
fn decide_among_nodes(bencher: Bencher, nodes: usize) {
    let (snapshot, speeds) = fleet(nodes);
    let policy = Policy::default();
    let facts = RequestFacts {
        model: Some("model-7:7b".to_owned()),
        prompt_tokens: 2_000,
        max_tokens: Some(300),
        ..RequestFacts::default()
    };
    assert!(decide(&facts, &snapshot, &[], &speeds, &policy).is_ok());
    bencher.counter(ItemsCount::new(1_usize)).bench(|| {
        decide(
            black_box(&facts),
            black_box(&snapshot),
            &[],
            &speeds,
            &policy,
        )
    });
}

/// A streamed answer of 1,000 tokens, one piece per token.
fn pieces(form: StreamForm) -> Vec<String> {
    let mut pieces: Vec<String> = (0..1_000)
        .map(|token| match form {
            StreamForm::Ndjson => format!(
                "{{\"model\":\"m\",\"created_at\":\"2026-11-25T22:30:00.{token:06}Z\",\"message\":{{\"role\":\"assistant\",\"content\":\" word\"}},\"done\":false}}\n"
            ),
            _ => format!(
                "data: {{\"id\":\"chatcmpl-{token}\",\"object\":\"chat.completion.chunk\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" word\"}}}}]}}\n\n"
            ),
        })
        .collect();
    pieces.push(match form {
        StreamForm::Ndjson => {
            "{\"model\":\"m\",\"done\":true,\"prompt_eval_count\":10,\"eval_count\":1000}\n"
                .to_owned()
        }
        _ => "data: [DONE]\n\n".to_owned(),
    });
    pieces
}

#[divan::bench(args = [StreamForm::Ndjson, StreamForm::SseDone])]
fn follow_a_stream_of_1000_tokens(bencher: Bencher, form: StreamForm) {
    let pieces = pieces(form);
    let bytes: usize = pieces.iter().map(String::len).sum();
    bencher.counter(BytesCount::new(bytes)).bench(|| {
        let mut watch = StreamWatch::new(form);
        let mut released = 0;
        for piece in &pieces {
            let release = watch.push(black_box(piece.as_bytes()));
            released += release.held.len() + release.piece.len();
        }
        assert_eq!(released, bytes);
        watch
    });
}

#[divan::bench(args = [40, 400], sample_count = 20)]
fn bootstrap_of_requests(bencher: Bencher, requests: u32) {
    let logs: Vec<f64> = (0..requests).map(|at| f64::from(at % 17) / 10.0).collect();
    bencher.bench(|| bootstrap_mean(black_box(&logs), RESAMPLES, &mut Random::new(1)));
}
