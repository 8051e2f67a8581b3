//! Rows of placement and `fit`: one model on many GPUs, many models on many nodes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use gpurouter::cluster::{
    ClusterSnapshot, Demand, Launch, Layers, Measure, MemoryPolicy, Need, Node, NodeKind,
    NodeState, Question, Room, Rules, Site, Strategy, Surroundings, fit, place,
};
use gpurouter::vram::{
    Basis, Extras, Header, Learned, Offload, Range, Runtime, Settings, Shape, Subject, estimate,
};

use super::{Row, data, header};

const GIB: u64 = 1 << 30;

pub(crate) fn rows() -> Vec<Row> {
    let small = subject("llama-3.1-8b.q4_k_m");
    let large = subject("llama-3.3-70b.q4_k_m");
    let experts = subject("qwen3-30b-a3b.q8_0");
    let placed = Duration::from_micros(50);
    vec![
        Row::new(
            "estimate + placement, 16 GPUs, one is enough (8B)",
            placed,
            on(small, 24),
        ),
        Row::new(
            "estimate + placement, 16 GPUs, two are needed (70B)",
            placed,
            on(large.clone(), 32),
        ),
        Row::new(
            "estimate + placement, 16 GPUs, many are needed (70B)",
            placed,
            on(large, 8),
        ),
        Row::new(
            "estimate + placement, 16 GPUs, experts (30B)",
            placed,
            on(experts, 12),
        ),
        Row::new(
            "fit, 12 nodes x 40 models",
            Duration::from_millis(2),
            cluster(false),
        ),
        Row::new(
            "fit, 12 nodes x 40 models, contexts and advice too",
            Duration::from_millis(20),
            cluster(true),
        ),
    ]
}

fn subject(name: &str) -> Subject {
    let header: Header = header(&data(&format!("headers/{name}.header.gguf")));
    #[expect(
        clippy::expect_used,
        reason = "a benchmark without its file has nothing to say"
    )]
    Subject::Shaped(Box::new(Shape::of(&header).expect("a shape")))
}

fn settings(subject: &Subject) -> Settings {
    match subject {
        Subject::Shaped(shape) => Settings::defaults(Runtime::Ollama, shape),
        Subject::Sized { .. } => settings(&self::subject("llama-3.1-8b.q4_k_m")),
    }
}

/// One model on 16 cards of that many GiB, a little of each taken.
fn on(subject: Subject, gib: u64) -> impl FnMut() -> u64 {
    let settings = settings(&subject);
    let rooms: Vec<Room> = (0..16)
        .map(|index| Room {
            runtime: Range {
                low: 200 << 20,
                high: 500 << 20,
            },
            ..Room::bare(
                index,
                "card",
                gib * GIB,
                gib * GIB - u64::from(index) * GIB / 16,
            )
        })
        .collect();
    move || {
        let by_parts = |offload: &Offload| estimate(&subject, &settings, offload);
        let demand = Demand {
            need: Need::Layers(Layers {
                estimate: &by_parts,
                gpu_layers: subject.gpu_layers(),
                expert_layers: subject.expert_layers(),
            }),
            headroom: 1.0,
        };
        place(&demand, &rooms, Rules::default()).need_bytes
    }
}

/// Forty models against twelve nodes: cards from 4 to 80 GiB, and two nodes without one.
fn cluster(thorough: bool) -> impl FnMut() -> usize {
    let names = [
        "llama-3.1-8b.q4_k_m",
        "qwen2.5-7b.q4_k_m",
        "qwen2.5-14b.q4_k_m",
        "qwen3-4b.q4_k_m",
        "llama-3.2-1b.f16",
        "gemma-2-9b.q4_k_m",
        "llama-3.3-70b.q4_k_m",
        "qwen3-30b-a3b.q4_k_m",
    ];
    let subjects: Vec<Subject> = names.iter().map(|name| subject(name)).collect();
    let asked: Vec<(usize, Settings)> = (0..40)
        .map(|at| {
            let which = at % subjects.len();
            let settings = Settings {
                ctx: 4096 << (at / subjects.len()),
                ..settings(&subjects[which])
            };
            (which, settings)
        })
        .collect();
    let sites = sites();
    move || {
        let fits = |(which, settings): &(usize, Settings)| {
            let question = Question {
                model: "model",
                subject: &subjects[*which],
                extras: Extras::default(),
                basis: Basis::Header,
                settings,
                policy: MemoryPolicy::default(),
                strategy: Strategy::default(),
                cpu_fallback: true,
                variants: &[],
                launch: Launch::Ollama("model"),
                keep: &|_, _| false,
                measured: &|_| None,
                thorough,
            };
            fit(&question, &sites)
                .nodes
                .iter()
                .filter(|node| node.fits)
                .count()
        };
        asked.iter().map(fits).sum()
    }
}

fn sites() -> Vec<Site> {
    let gib = [0_u64, 4, 6, 8, 8, 12, 16, 16, 24, 48, 80, 0];
    let nodes = gib.iter().zip(0..).map(|(gib, number)| {
        let mut node = Node::unseen(
            format!("node{number}"),
            format!("http://node{number}:11434"),
        );
        node.kind = Some(NodeKind::Ollama);
        node.state = NodeState::Up;
        node.vram_bytes = Some(gib * GIB);
        node.gpu = Some("RTX 3060".to_owned());
        Arc::new(node)
    });
    Surroundings {
        snapshot: &ClusterSnapshot {
            nodes: nodes.collect(),
        },
        local: None,
        reported: &BTreeMap::new(),
        seen: &BTreeMap::new(),
        measure: Measure {
            policy: MemoryPolicy::default(),
            basis: Basis::Header,
            learned: &Learned::default(),
            cards: &BTreeMap::new(),
        },
        ram_free: None,
        ram_bandwidth: None,
        nodes_only: true,
    }
    .sites()
}
