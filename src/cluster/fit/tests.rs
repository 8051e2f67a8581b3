//! The answer of `fit`: the sources' sentences, the choice between nodes, and thousands of clusters against a check written on its own.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "numbers of tests are far below every limit"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::cluster::{
    ClusterSnapshot, Gpu, GpuState, Knowledge, LoadedModel, Measure, Model, Node, NodeKind,
    NodeState, Surroundings, Vendor,
};
use crate::vram::{
    CacheType, Extras, GpuCard, Header, Learned, Offload, Runtime, Shape, estimate, read,
};
use proptest::prelude::{
    Just, ProptestConfig, Strategy as Generator, TestCaseError, prop_assert, prop_oneof,
};
use proptest::sample::select;
use proptest::test_runner::TestRunner;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

macro_rules! header {
    ($name:literal) => {
        read(
            &mut &include_bytes!(concat!(
                "../../../tests/data/vram/headers/",
                $name,
                ".header.gguf"
            ))[..],
        )
        .unwrap()
    };
}

fn shape(header: &Header) -> Subject {
    Subject::Shaped(Box::new(Shape::of(header).unwrap()))
}

fn llama_8b() -> Subject {
    shape(&header!("llama-3.1-8b.q4_k_m"))
}

fn settings(subject: &Subject, runtime: Runtime) -> Settings {
    match subject {
        Subject::Shaped(shape) => Settings::defaults(runtime, shape),
        Subject::Sized { .. } => settings(&llama_8b(), runtime),
    }
}

fn ollama(name: &str, vram: Option<u64>) -> Node {
    let mut node = Node::unseen(name, format!("http://{name}:11434"));
    node.kind = Some(NodeKind::Ollama);
    node.state = NodeState::Up;
    node.seen = true;
    node.cause = None;
    node.vram_bytes = vram;
    node
}

fn loaded(name: &str, vram: u64, expires: Option<&str>) -> LoadedModel {
    LoadedModel {
        name: ModelName::new(name),
        size_bytes: Some(vram),
        vram_bytes: Some(vram),
        expires_at: expires.map(str::to_owned),
        ..LoadedModel::default()
    }
}

fn gpu(index: u32, total: u64, used: Option<u64>) -> Gpu {
    Gpu {
        node: None,
        index,
        name: "NVIDIA GeForce RTX 3060".to_owned(),
        uuid: Some(format!("GPU-{index}")),
        pci_bus_id: None,
        vendor: Vendor::Nvidia,
        state: GpuState::Ok,
        cause: None,
        unified: false,
        total_bytes: Some(total),
        used_bytes: used,
        free_bytes: used.map(|used| total - used),
        utilization: None,
        temperature_c: None,
        power_w: None,
        energy_j: None,
        compute_capability: None,
        multiprocessors: None,
        bandwidth: None,
        processes: Vec::new(),
    }
}

/// What tests vary; everything else is as a fresh configuration has it.
struct World {
    nodes: Vec<Node>,
    local: Option<Vec<Gpu>>,
    seen: BTreeMap<String, u64>,
    policy: MemoryPolicy,
    cards: BTreeMap<String, GpuCard>,
}

impl World {
    fn new(nodes: Vec<Node>) -> Self {
        Self {
            nodes,
            local: None,
            seen: BTreeMap::new(),
            policy: MemoryPolicy::default(),
            cards: BTreeMap::new(),
        }
    }

    fn of_gpus(gpus: Vec<Gpu>) -> Self {
        Self {
            local: Some(gpus),
            ..Self::new(Vec::new())
        }
    }

    fn sites(&self) -> Vec<Site> {
        Surroundings {
            snapshot: &ClusterSnapshot {
                nodes: self.nodes.iter().cloned().map(Arc::new).collect(),
            },
            local: self.local.as_deref(),
            reported: &BTreeMap::new(),
            seen: &self.seen,
            measure: Measure {
                policy: self.policy,
                basis: Basis::Header,
                learned: &Learned::default(),
                cards: &self.cards,
            },
            ram_free: None,
            ram_bandwidth: None,
            nodes_only: false,
        }
        .sites()
    }

    fn sized(&self, model: &str, mb: u64) -> Fit {
        let subject = Subject::Sized { bytes: mb * MIB };
        let settings = settings(&subject, Runtime::Ollama);
        fit(
            &self.question(model, &subject, Basis::Catalog, &settings),
            &self.sites(),
        )
    }

    fn question<'a>(
        &self,
        model: &'a str,
        subject: &'a Subject,
        basis: Basis,
        settings: &'a Settings,
    ) -> Question<'a> {
        Question {
            model,
            subject,
            basis,
            extras: Extras::default(),
            settings,
            policy: self.policy,
            strategy: Strategy::default(),
            cpu_fallback: true,
            variants: &[],
            launch: Launch::Ollama(model),
            keep: &|_, _| false,
            measured: &|_| None,
            thorough: true,
        }
    }
}

fn reasons(fit: &Fit) -> Vec<&str> {
    fit.nodes.iter().map(|node| node.reason.as_str()).collect()
}

#[test]
fn the_sources_sentences() {
    let mut dead = ollama("node1", Some(0));
    dead.state = NodeState::Down;
    dead.cause = Some("connection refused".to_owned());
    let mut small = ollama("node2", Some(4096 * MIB));
    small.loaded = vec![loaded("mxbai-embed-large", 705 * MIB, None)];
    let world = World::new(vec![dead, small, ollama("node3", Some(0))]);

    let large = world.sized("llama3.1:latest", 4700);
    assert_eq!(
        reasons(&large),
        [
            "Node does not answer: connection refused",
            "Model too large (4700MB > 3276MB usable VRAM)",
            "Node has no GPU",
        ]
    );
    assert_eq!(large.verdict, Verdict::No);
    let best = large.best.unwrap();
    assert_eq!(
        (best.node.as_deref(), best.target),
        (Some("node3"), Target::Cpu)
    );
    assert_eq!(best.reason, "Model must run on CPU");

    let own = world.sized("mxbai-embed-large", 705);
    assert_eq!(own.nodes[1].reason, "Fits in 3276MB VRAM (2571MB free)");
    assert_eq!(own.nodes[1].usable_bytes, Some(3276 * MIB));
    assert_eq!(own.nodes[1].free_bytes, Some(2571 * MIB));
    assert_eq!(own.nodes[1].loaded_percent, Some(100));
    assert_eq!(own.verdict, Verdict::Fits);
    assert_eq!(own.best.unwrap().node.as_deref(), Some("node2"));

    assert!(world.sized("llama3.2:3b", 1900).nodes[1].fits);
    let crowded = world.sized("qwen2.5:4b", 2600);
    assert_eq!(
        crowded.nodes[1].reason,
        "Not enough free VRAM (2600MB needed, 2571MB free)"
    );
    assert_eq!(
        crowded.nodes[1].evicts[0].model,
        ModelName::new("mxbai-embed-large")
    );

    let mut half = world;
    half.policy.safety_margin = Some(0.5);
    assert_eq!(half.sized("x", 100).nodes[1].usable_bytes, Some(2048 * MIB));
}

#[test]
fn e09_the_node_with_the_most_free_memory_wins() {
    let mut busy = ollama("a", Some(8 * GIB));
    busy.loaded = vec![loaded("m", 3 * GIB, None)];
    let world = World::new(vec![
        busy,
        ollama("b", Some(8 * GIB)),
        ollama("c", Some(8 * GIB)),
    ]);
    assert_eq!(
        world.sized("llama3.1", 3000).best.unwrap().node.as_deref(),
        Some("b")
    );
    // One that has it needs no load.
    assert_eq!(
        world.sized("m", 3072).best.unwrap().node.as_deref(),
        Some("a")
    );
}

#[test]
fn e10_cpu_work_goes_to_a_live_node_and_to_one_with_a_gpu_last() {
    let mut dead = ollama("dead", Some(0));
    dead.state = NodeState::Down;
    let world = World::new(vec![
        dead,
        ollama("gpu", Some(4 * GIB)),
        ollama("unknown", None),
        ollama("cpu", Some(0)),
    ]);
    let best = |world: &World| {
        world
            .sized("llama3.1:70b", 40_000)
            .best
            .map(|best| best.node.unwrap())
    };
    assert_eq!(best(&world).as_deref(), Some("cpu"));
    let without = World::new(world.nodes[..3].to_vec());
    assert_eq!(best(&without).as_deref(), Some("unknown"));
    let only = World::new(world.nodes[..2].to_vec());
    assert_eq!(best(&only).as_deref(), Some("gpu"));
    let none = World::new(world.nodes[..1].to_vec());
    assert_eq!(best(&none), None);
}

#[test]
fn e02_what_is_not_known_is_said() {
    let mut world = World::new(vec![ollama("idle", None), ollama("once", None)]);
    world.seen.insert("once".to_owned(), 10 * GIB);
    let fit = world.sized("llama3.1", 4700);
    assert_eq!(fit.nodes[0].knowledge, Knowledge::Nothing);
    assert_eq!(
        (fit.nodes[0].usable_bytes, fit.nodes[0].free_bytes),
        (None, None)
    );
    assert!(
        fit.nodes[0].reason.contains("not known"),
        "{}",
        fit.nodes[0].reason
    );
    assert_eq!(fit.nodes[1].knowledge, Knowledge::Seen);
    assert!(fit.nodes[1].fits, "it held 10 GiB once");
    let larger = world.sized("codellama:13b", 11_000);
    assert_eq!(
        larger.nodes[1].reason,
        "11000MB needed; all that is known of this node is that it has at least 10240MB VRAM"
    );
    let mut silent = ollama("silent", Some(8 * GIB));
    silent.loaded = vec![LoadedModel {
        name: ModelName::new("other"),
        ..LoadedModel::default()
    }];
    let world = World::new(vec![silent]);
    let fit = world.sized("llama3.1", 4700);
    assert!(
        fit.nodes[0]
            .reason
            .ends_with("; what other:latest holds there is not known")
    );
}

#[test]
fn a_card_by_name_and_nodes_that_load_nothing() {
    let mut named = ollama("named", None);
    named.gpu = Some("RTX 3060".to_owned());
    let mut server = ollama("server", Some(24 * GIB));
    server.kind = Some(NodeKind::LlamaServer);
    server.models = vec![Model {
        name: ModelName::new("mine"),
        ..Model::default()
    }];
    let world = World::new(vec![named, server]);
    let fit = world.sized("llama3.1:8b", 4700);
    assert_eq!(fit.nodes[0].knowledge, Knowledge::Card);
    assert!(fit.nodes[0].fits);
    let speed = fit.nodes[0].tokens_per_second.unwrap();
    assert!(speed.low < 50.0 && 50.0 < speed.high, "{speed:?}");
    assert_eq!(
        fit.nodes[1].reason,
        "Node serves only what it was started with"
    );
    assert!(world.sized("mine", 4700).nodes[1].fits);
}

#[test]
fn the_least_valuable_idle_models_would_go() {
    let mut node = ollama("a", Some(16 * GIB));
    node.loaded = vec![
        loaded("soon", 2 * GIB, Some("2026-11-25T10:00:00Z")),
        loaded("later", 5 * GIB, Some("2026-11-25T11:00:00Z")),
        loaded("pinned", 4 * GIB, None),
    ];
    let world = World::new(vec![node]);
    let evicts = |fit: &Fit| -> Vec<String> {
        fit.nodes[0]
            .evicts
            .iter()
            .map(|gone| gone.model.to_string())
            .collect()
    };
    // Usable 13107, loaded 11264.
    assert_eq!(evicts(&world.sized("x", 1000)), [""; 0]);
    assert_eq!(evicts(&world.sized("x", 3500)), ["soon:latest"]);
    // `soon` alone is not enough, and with `later` gone it may stay.
    assert_eq!(evicts(&world.sized("x", 6500)), ["later:latest"]);
    assert_eq!(
        evicts(&world.sized("x", 9000)),
        ["soon:latest", "later:latest"]
    );
    assert_eq!(evicts(&world.sized("x", 13_200)), [""; 0], "nothing helps");
    let subject = Subject::Sized { bytes: 6500 * MIB };
    let settings = settings(&subject, Runtime::Ollama);
    let mut question = world.question("x", &subject, Basis::Catalog, &settings);
    question.keep = &|node, model| node == "a" && *model == ModelName::new("later");
    assert_eq!(
        evicts(&fit(&question, &world.sites())),
        ["soon:latest", "pinned:latest"]
    );
}

#[test]
fn an_8b_on_8_gib_at_32768_tokens() {
    let subject = llama_8b();
    let world = World::of_gpus(vec![gpu(0, 8 * GIB, None)]);
    let at = |ctx: u64, cache: CacheType| {
        let settings = Settings {
            ctx,
            cache_k: cache,
            cache_v: cache,
            ..settings(&subject, Runtime::LlamaServer)
        };
        let mut question = world.question("llama", &subject, Basis::Header, &settings);
        question.launch = Launch::File("/models/llama 8b.gguf");
        fit(&question, &world.sites())
    };
    let long = at(32_768, CacheType::F16);
    assert_eq!(long.verdict, Verdict::Partial);
    assert_eq!(long.nodes[0].kind(), PlacementKind::Partial);
    let best = long.nodes[0].max_context.unwrap();
    assert_eq!(best % 256, 0);
    assert!((8192..32_768).contains(&best), "{best}");
    assert_eq!(long.advice.context, Some(best));
    assert_eq!(at(best, CacheType::F16).verdict, Verdict::Fits);
    assert_eq!(at(best + 256, CacheType::F16).verdict, Verdict::Partial);
    let cache = long.advice.cache.expect("a coarser cache fits");
    assert_eq!(at(32_768, cache).verdict, Verdict::Fits);

    let short = at(8192, CacheType::F16);
    assert_eq!(short.verdict, Verdict::Fits);
    let run = short.run.unwrap();
    assert_eq!(
        run.to_string(),
        "CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=GPU-0 llama-server -m '/models/llama 8b.gguf' -ngl 33 -c 8192 -fa on"
    );
    let speed = short.nodes[0].tokens_per_second.unwrap();
    assert!(speed.low < 50.0 && 50.0 < speed.high, "{speed:?}");
    assert_eq!(
        long.nodes[0].tokens_per_second, None,
        "RAM's bandwidth is not known"
    );
}

#[test]
fn layers_that_were_wished_for() {
    let subject = llama_8b();
    let world = World::of_gpus(vec![gpu(0, 24 * GIB, None)]);
    let with = |layers| {
        let settings = Settings {
            gpu_layers: Some(layers),
            ..settings(&subject, Runtime::LlamaServer)
        };
        let mut question = world.question("llama", &subject, Basis::Header, &settings);
        question.launch = Launch::File("m.gguf");
        fit(&question, &world.sites())
    };
    assert_eq!(with(33).verdict, Verdict::Fits);
    assert_eq!(with(99).verdict, Verdict::Fits);
    let some = with(20);
    assert_eq!(some.verdict, Verdict::Partial);
    assert!(
        some.nodes[0]
            .reason
            .starts_with("Fits partly: 20 of 33 layers"),
        "{}",
        some.nodes[0].reason
    );
    assert!(some.run.unwrap().to_string().contains(" -ngl 20 "));
    let none = with(0);
    assert_eq!(
        (none.verdict, none.nodes[0].kind()),
        (Verdict::No, PlacementKind::Cpu)
    );
    assert!(none.run.unwrap().to_string().starts_with(
        "CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES='' llama-server -m m.gguf -ngl 0 "
    ));
}

#[test]
fn a_70b_over_two_cards() {
    let subject = shape(&header!("llama-3.3-70b.q4_k_m"));
    let world = World::of_gpus(vec![
        gpu(0, 24 * GIB, None),
        gpu(1, 24 * GIB, Some(GIB / 4)),
        gpu(2, 4 * GIB, None),
    ]);
    let settings = Settings {
        ctx: 4096,
        cache_k: CacheType::Q8_0,
        cache_v: CacheType::Q8_0,
        ..settings(&subject, Runtime::LlamaServer)
    };
    let mut question = world.question("llama", &subject, Basis::Header, &settings);
    question.launch = Launch::HuggingFace("o/r:Q4_K_M");
    let answer = fit(&question, &world.sites());
    let placement = answer.nodes[0].placement.as_ref().unwrap();
    assert_eq!(
        (placement.kind, &placement.gpus[..]),
        (PlacementKind::Split, &[0, 1][..]),
        "{answer:#?}"
    );
    let run = answer.run.unwrap();
    assert_eq!(run.env["CUDA_VISIBLE_DEVICES"], "GPU-0,GPU-1");
    let text = run.to_string();
    assert!(
        text.contains("llama-server -hf o/r:Q4_K_M -ngl 81 --tensor-split 0."),
        "{text}"
    );
    assert!(text.contains(" -ctk q8_0 -ctv q8_0 "), "{text}");
    let json = serde_json::to_value(placement).unwrap();
    for key in ["gpus", "tensor_split", "ngl"] {
        assert!(json.get(key).is_some(), "{key}");
    }
}

#[test]
fn experts_on_the_cpu_and_other_files() {
    let subject = shape(&header!("qwen3-30b-a3b.q8_0"));
    let smaller = shape(&header!("qwen3-30b-a3b.q4_k_m"));
    let world = World::of_gpus(vec![gpu(0, 24 * GIB, None)]);
    let settings = settings(&subject, Runtime::LlamaServer);
    let variants = [
        Variant {
            name: "hf:o/r:Q4_K_M",
            subject: &smaller,
            basis: Basis::Header,
        },
        Variant {
            name: "hf:o/r:Q8_0",
            subject: &subject,
            basis: Basis::Header,
        },
    ];
    let mut question = world.question("qwen", &subject, Basis::Header, &settings);
    question.launch = Launch::File("m.gguf");
    question.variants = &variants;
    let answer = fit(&question, &world.sites());
    assert_eq!(answer.nodes[0].kind(), PlacementKind::ExpertsOnCpu);
    assert_eq!(answer.advice.variant.as_deref(), Some("hf:o/r:Q4_K_M"));
    let experts = answer.nodes[0].placement.as_ref().unwrap().cpu_experts;
    assert!((1..48).contains(&experts));
    assert!(
        answer
            .run
            .unwrap()
            .to_string()
            .contains(&format!(" -ngl 49 --n-cpu-moe {experts} "))
    );

    let mut sites = world.sites();
    sites[0].ram_bandwidth = Some(50e9);
    let slow = fit(&question, &sites).nodes[0].tokens_per_second.unwrap();
    let other = World::of_gpus(vec![gpu(0, 48 * GIB, None)]);
    let fast = fit(&question, &other.sites()).nodes[0]
        .tokens_per_second
        .unwrap();
    assert!(
        slow.high < fast.low * 2.0 && slow.low < fast.low,
        "{slow:?} {fast:?}"
    );
    // 3 of 30 billion parameters are read: far faster than all of it.
    assert!(fast.high > 360e9 / 32e9 * 2.0, "{fast:?}");
}

#[test]
fn ollama_is_told_by_options() {
    let mut node = ollama("far", Some(24 * GIB));
    node.url = "http://10.0.0.7:11434".to_owned();
    let world = World::new(vec![node]);
    let run = world.sized("llama3.1:8b", 4700).run.unwrap();
    assert_eq!(
        run.to_string(),
        "OLLAMA_HOST=http://10.0.0.7:11434 ollama run llama3.1:8b"
    );
    assert_eq!(run.options["num_ctx"], 4096);
    assert_eq!(run.options.get("num_gpu"), None);
    let cpu = world.sized("llama3.1:70b", 40_000).run.unwrap();
    assert_eq!(cpu.options["num_gpu"], 0);
}

#[test]
fn nodes_of_this_machine_share_its_gpus() {
    let mut first = ollama("gpu0", None);
    first.url = "http://127.0.0.1:11434".to_owned();
    first.loaded = vec![loaded("m", 6 * GIB, None)];
    let mut second = ollama("gpu1", None);
    second.url = "http://localhost:11435".to_owned();
    let mut world = World::new(vec![first, second]);
    world.local = Some(vec![gpu(0, 12 * GIB, None)]);
    let answer = world.sized("llama3.1", 4700);
    assert_eq!(
        answer.nodes.len(),
        2,
        "this machine has a server of its own"
    );
    for node in &answer.nodes {
        // 12288 × 0.8 = 9830.
        assert_eq!(node.free_bytes, Some((9830 - 6144) * MIB), "{node:?}");
    }
    world.nodes.clear();
    assert_eq!(world.sized("llama3.1", 4700).nodes[0].node, None);
    world.local = Some(Vec::new());
    assert_eq!(reasons(&world.sized("llama3.1", 4700)), ["Node has no GPU"]);
}

#[test]
fn a_loaded_model_makes_room_for_itself() {
    let subject = llama_8b();
    let mut node = ollama("a", Some(12 * GIB));
    let mut own = loaded("llama3.1:8b", 6 * GIB, None);
    own.context = Some(4096);
    node.loaded = vec![own];
    let world = World::new(vec![node]);
    let at = |ctx| {
        let settings = Settings {
            ctx,
            ..settings(&subject, Runtime::Ollama)
        };
        let question = world.question("llama3.1:8b", &subject, Basis::Header, &settings);
        fit(&question, &world.sites()).nodes.remove(0)
    };
    let present = at(4096);
    assert!(present.fits);
    assert_eq!(present.free_bytes, Some(5 * GIB), "what is free now");
    // 8.5 GiB with the longer context: more than is free, and less than with the old one gone.
    let longer = at(32_768);
    assert!(longer.fits, "{longer:?}");
    assert!(longer.placement.unwrap().needs_bytes[0] > 5 * GIB);
    assert_eq!(longer.evicts, []);
    assert!(!at(131_072).fits);
}

#[test]
fn a_measured_speed_comes_first() {
    let world = World::of_gpus(vec![gpu(0, 24 * GIB, None)]);
    let subject = llama_8b();
    let settings = settings(&subject, Runtime::LlamaServer);
    let mut question = world.question("llama", &subject, Basis::Header, &settings);
    question.measured = &|_| Some(61.5);
    let node = &fit(&question, &world.sites()).nodes[0];
    let speed = node.tokens_per_second.unwrap();
    assert!(node.speed_measured);
    assert!((speed.low - 61.5).abs() < 1e-9 && (speed.high - 61.5).abs() < 1e-9);
}

/// What each device of a printed placement holds of a model, summed layer by layer here and not there: weights and, for one sequence without
/// windows, K and V; only the buffers are taken from the estimate.
fn held(shape: &Shape, settings: &Settings, placement: &SitePlacement) -> Vec<u64> {
    let offload = Offload {
        split: placement.tensor_split.clone(),
        gpu_layers: placement.ngl,
        cpu_experts: placement.cpu_experts,
    };
    let subject = Subject::Shaped(Box::new(shape.clone()));
    let estimated = estimate(&subject, settings, &offload);
    let all = shape.layers.len() + 1;
    let count = placement.ngl.map_or(all, |ngl| ngl as usize);
    let mut bytes = vec![0_u64; placement.gpus.len()];
    let sum: f32 = placement
        .tensor_split
        .iter()
        .map(|share| *share as f32)
        .sum();
    for layer in all - count..all {
        let position = (layer - (all - count)) as f32 / count as f32;
        let mut running = 0.0_f32;
        let device = placement
            .tensor_split
            .iter()
            .position(|share| {
                running += *share as f32;
                running / sum > position
            })
            .unwrap_or(bytes.len() - 1);
        bytes[device] += match shape.layers.get(layer) {
            None => shape.output_bytes,
            Some(layer_parts) => {
                let experts = if layer < placement.cpu_experts as usize {
                    0
                } else {
                    layer_parts.expert_bytes
                };
                let cells = settings.ctx;
                let kv = cells
                    * (settings.cache_k.bytes(layer_parts.key_width)
                        + settings.cache_v.bytes(layer_parts.value_width));
                layer_parts.dense_bytes + experts + kv
            }
        };
    }
    for (bytes, parts) in bytes.iter_mut().zip(&estimated.devices) {
        *bytes += parts.compute_bytes;
    }
    bytes
}

/// A cluster of one machine and what is asked of it.
#[derive(Debug, Clone)]
struct Random {
    model: usize,
    /// GiB, share that is taken, whether the driver tells.
    gpus: Vec<(u64, f64, bool)>,
    steps: u64,
    cache: CacheType,
    distribute: bool,
    headroom: f64,
    margin: Option<f64>,
}

fn any() -> impl Generator<Value = Random> {
    let size = select(vec![4_u64, 6, 8, 12, 16, 24, 48, 80]);
    let gpus = proptest::collection::vec((size, 0.0..0.95_f64, proptest::bool::ANY), 1..5);
    let cache = prop_oneof![Just(CacheType::F16), Just(CacheType::Q8_0)];
    let headroom = prop_oneof![Just(1.0), Just(1.1)];
    let margin = prop_oneof![Just(None), Just(Some(0.8))];
    let all = (
        0_usize..6,
        gpus,
        1_u64..130,
        cache,
        proptest::bool::ANY,
        headroom,
        margin,
    );
    all.prop_map(
        |(model, gpus, steps, cache, distribute, headroom, margin)| Random {
            model,
            gpus,
            steps,
            cache,
            distribute,
            headroom,
            margin,
        },
    )
}

#[test]
fn no_false_fit_beside_loaded_models() {
    let subjects = [
        llama_8b(),
        shape(&header!("llama-3.3-70b.q4_k_m")),
        shape(&header!("qwen3-30b-a3b.q4_k_m")),
        shape(&header!("llama-2-7b.q4_0")),
        shape(&header!("qwen2.5-14b.q4_k_m")),
        shape(&header!("llama-3.2-1b.f16")),
    ];
    let mut runner = TestRunner::new(ProptestConfig::with_cases(5000));
    let checked = runner.run(&any(), |random| check(&subjects[random.model], &random));
    assert!(checked.is_ok(), "{}", checked.unwrap_err());
}

fn check(subject: &Subject, random: &Random) -> Result<(), TestCaseError> {
    let Subject::Shaped(inner) = subject else {
        return Ok(());
    };
    let share = |gib: u64, taken: f64| ((gib * GIB) as f64 * taken) as u64;
    // Some cards tell what is used, on the others a server tells what it loaded.
    let gpus = random.gpus.iter().zip(0..);
    let inventory: Vec<Gpu> = gpus
        .map(|((gib, taken, told), index)| gpu(index, gib * GIB, told.then(|| share(*gib, *taken))))
        .collect();
    let taken = random
        .gpus
        .iter()
        .map(|(gib, taken, _)| share(*gib, *taken));
    let loaded_bytes = taken.min().unwrap_or(0);
    let mut node = ollama("here", None);
    node.url = "http://127.0.0.1:11434".to_owned();
    node.loaded = vec![loaded("other", loaded_bytes, None)];
    let mut world = World::new(vec![node]);
    world.local = Some(inventory.clone());
    world.policy = MemoryPolicy {
        safety_margin: random.margin,
        headroom_factor: random.headroom,
    };
    let settings = Settings {
        ctx: random.steps * 256,
        parallel: 1,
        cache_k: random.cache,
        cache_v: random.cache,
        ..settings(subject, Runtime::LlamaServer)
    };
    let mut question = world.question("model", subject, Basis::Header, &settings);
    question.thorough = false;
    if random.distribute {
        question.strategy = Strategy::Distribute;
    }
    let answer = fit(&question, &world.sites());
    let site = &answer.nodes[0];
    let Some(placement) = site
        .placement
        .as_ref()
        .filter(|placed| !placed.gpus.is_empty())
    else {
        return Ok(());
    };
    for (bytes, index) in held(inner, &settings, placement)
        .into_iter()
        .zip(&placement.gpus)
    {
        let card = &inventory[*index as usize];
        let total = card.total_bytes.unwrap();
        let usable = match random.margin {
            Some(margin) => (((total / MIB) as f64) * margin) as u64 * MIB,
            None => total - GIB.min(total / 5),
        };
        // A card that does not tell may hold all that is loaded; one that does holds what it says.
        let free = match card.used_bytes {
            Some(used) => (total - used).min(usable),
            None => usable.saturating_sub(loaded_bytes),
        };
        // An RTX 3060 has 28 multiprocessors.
        let runtime = (3 * 28 + 300) * MIB;
        let need = ((bytes + runtime) as f64 * random.headroom) as u64;
        prop_assert!(
            need <= free,
            "card {} has {} MiB free and would hold {}: {:?}",
            index,
            free / MIB,
            need / MIB,
            site
        );
    }
    Ok(())
}
