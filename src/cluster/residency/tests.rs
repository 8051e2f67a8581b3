//! The plan on small clusters, its golden form, and what holds for every cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::{
    Just, ProptestConfig, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};
use proptest::strategy::Strategy as Generator;

use super::*;
use crate::cluster::{
    Capability, ClusterSnapshot, Measure, Model, Node, NodeState, Role, Surroundings,
};
use crate::vram::{Learned, Runtime};

const MIB: u64 = 1 << 20;
/// What Ollama writes for a model that stays.
const NEVER: &str = "2318-03-05T10:00:00Z";
const SOON: &str = "2026-11-26T10:00:00Z";

/// MiB of every model; the embedding models are those with `embed` in their capabilities below.
const SIZES: [(&str, u64, bool); 8] = [
    ("mxbai-embed-large", 705, true),
    ("nomic-embed-text", 274, true),
    ("llama3.2:3b", 1900, false),
    ("llama3.2:1b", 1300, false),
    ("qwen2.5-coder:1.5b", 900, false),
    ("llama3.1", 4700, false),
    ("codellama:13b", 6900, false),
    ("llama3.1:70b", 40_000, false),
];

fn size_of(name: &str) -> u64 {
    let name = ModelName::new(name);
    SIZES
        .iter()
        .find(|(known, _, _)| ModelName::new(known) == name)
        .map_or(0, |(_, mib, _)| mib * MIB)
}

/// A node with so many MiB of GPU memory that has every model.
fn node(name: &str, mib: u64) -> Node {
    let mut node = Node::unseen(name, format!("http://{name}:11434"));
    node.kind = Some(NodeKind::Ollama);
    node.state = NodeState::Up;
    node.vram_bytes = Some(mib * MIB);
    node.models = SIZES
        .iter()
        .map(|(name, mib, embeds)| Model {
            name: ModelName::new(name),
            id: (*name).to_owned(),
            digest: Some(format!("digest of {name}")),
            size_bytes: Some(mib * MIB),
            capabilities: vec![if *embeds {
                Capability::Embedding
            } else {
                Capability::Completion
            }],
            ..Model::default()
        })
        .collect();
    node
}

fn holding(mut node: Node, name: &str, gpu_percent: u64, expires: &str) -> Node {
    let size = size_of(name);
    node.loaded.push(LoadedModel {
        name: ModelName::new(name),
        digest: Some(format!("digest of {name}")),
        size_bytes: Some(size),
        vram_bytes: Some(size * gpu_percent / 100),
        context: Some(4096),
        expires_at: Some(expires.to_owned()),
        listing: None,
    });
    node
}

fn policy() -> MemoryPolicy {
    MemoryPolicy {
        safety_margin: Some(0.8),
        ..MemoryPolicy::default()
    }
}

fn sites(nodes: &[Node]) -> Vec<Site> {
    Surroundings {
        snapshot: &ClusterSnapshot {
            nodes: nodes.iter().cloned().map(Arc::new).collect(),
        },
        local: None,
        reported: &BTreeMap::new(),
        seen: &BTreeMap::new(),
        measure: Measure {
            policy: policy(),
            basis: Basis::Manifest,
            learned: &Learned::default(),
            cards: &BTreeMap::new(),
        },
        ram_free: None,
        ram_bandwidth: None,
        nodes_only: true,
    }
    .sites()
}

/// How a test asks.
struct Asked<'a> {
    wanted: &'a [&'a str],
    goal: Goal,
    usage: &'a dyn Fn(&str, &ModelName) -> Usage,
    held_back: &'a dyn Fn(&str, &ModelName) -> Option<String>,
}

impl<'a> Asked<'a> {
    fn gpu(wanted: &'a [&'a str]) -> Self {
        Self {
            wanted,
            goal: Goal::Gpu,
            usage: &|_, _| Usage {
                active: false,
                idle_ms: None,
                demand: 0,
                load_ms: None,
            },
            held_back: &|_, _| None,
        }
    }

    fn plan(&self, nodes: &[Node]) -> ResidencyPlan {
        let subjects: Vec<Subject> = self
            .wanted
            .iter()
            .map(|name| Subject::Sized {
                bytes: size_of(name),
            })
            .collect();
        let settings = Settings::of_runtime(Runtime::Ollama, None);
        let wanted: Vec<Wanted<'_>> = self
            .wanted
            .iter()
            .zip(&subjects)
            .map(|(name, subject)| Wanted {
                name: ModelName::new(name),
                need: Some(ModelNeed {
                    subject,
                    basis: Basis::Manifest,
                    extras: Extras::default(),
                    settings: &settings,
                }),
                prefer: None,
            })
            .collect();
        residency(&Scene {
            sites: &sites(nodes),
            wanted: &wanted,
            policy: policy(),
            strategy: Strategy::SingleGpuPreferred,
            cpu_fallback: true,
            goal: self.goal,
            usage: self.usage,
            held_back: self.held_back,
        })
    }
}

fn plan(wanted: &[&str], nodes: &[Node]) -> ResidencyPlan {
    Asked::gpu(wanted).plan(nodes)
}

/// The nodes after the plan was carried out as planned.
fn carry_out(plan: &ResidencyPlan, nodes: &[Node]) -> Vec<Node> {
    let mut nodes = nodes.to_vec();
    for change in &plan.changes {
        let node = nodes
            .iter_mut()
            .find(|node| node.name == change.node)
            .expect("a known node");
        let at = node
            .loaded
            .iter()
            .position(|loaded| loaded.name == change.model);
        match change.action {
            Action::Unload => drop(node.loaded.remove(at.expect("it is loaded"))),
            Action::Pin => {
                node.loaded[at.expect("it is loaded")].expires_at = Some(NEVER.to_owned());
            }
            Action::Load => {
                assert_eq!(at, None, "{change:?} is loaded already");
                node.loaded.push(LoadedModel {
                    name: change.model.clone(),
                    digest: Some(format!("digest of {}", change.model)),
                    size_bytes: Some(size_of(change.model.as_str()).max(1)),
                    vram_bytes: Some(change.bytes),
                    context: Some(4096),
                    expires_at: Some(NEVER.to_owned()),
                    listing: None,
                });
            }
        }
    }
    nodes
}

/// The changes as `action node model`.
fn steps(plan: &ResidencyPlan) -> Vec<String> {
    plan.changes
        .iter()
        .map(|change| {
            format!(
                "{} {} {}",
                change.action.as_str(),
                change.node,
                change.model
            )
        })
        .collect()
}

/// E15: 1900 + 1300 + 900 on 3276 usable.
#[test]
fn e15_the_wanted_models_themselves_are_never_more_than_fits() {
    let nodes = [node("gpu", 4096)];
    let wanted = ["llama3.2:3b", "llama3.2:1b", "qwen2.5-coder:1.5b"];
    let first = plan(&wanted, &nodes);
    assert_eq!(
        steps(&first),
        ["load gpu llama3.2:3b", "load gpu llama3.2:1b"]
    );
    assert_eq!(first.impossible.len(), 1);
    assert_eq!(
        first.impossible[0].model,
        ModelName::new("qwen2.5-coder:1.5b")
    );
    assert_eq!(first.impossible[0].need_bytes, Some(900 * MIB));
    assert_eq!(first.impossible[0].largest_usable_bytes, Some(3276 * MIB));
    let again = plan(&wanted, &carry_out(&first, &nodes));
    assert!(again.settled(), "{again:?}");
    assert_eq!(again.impossible.len(), 1);
}

/// E14
#[test]
fn e14_what_is_on_the_gpu_and_stays_is_left_alone() {
    let nodes = [
        holding(node("a", 8192), "mxbai-embed-large", 100, NEVER),
        node("b", 24_576),
    ];
    let plan = plan(&["mxbai-embed-large"], &nodes);
    assert_eq!(plan.changes, []);
    assert_eq!(plan.resident.len(), 1);
    assert_eq!(plan.resident[0].gpu_percent, Some(100));
}

#[test]
fn what_would_expire_is_pinned_where_it_is_and_with_its_context() {
    let nodes = [holding(node("a", 8192), "mxbai-embed-large", 100, SOON)];
    let plan = plan(&["mxbai-embed-large:latest"], &nodes);
    assert_eq!(steps(&plan), ["pin a mxbai-embed-large:latest"]);
    assert_eq!(plan.changes[0].context, Some(4096));
}

/// E13, and E12's 5 %.
#[test]
fn e13_a_model_on_the_cpu_or_partly_there_is_loaded_anew_where_the_gpu_has_room() {
    for (percent, told) in [
        (0, "It is on the CPU, and the GPU has room"),
        (5, "Only 5% of it is on the GPU, which has room for all"),
    ] {
        let nodes = [holding(node("a", 8192), "llama3.1", percent, SOON)];
        let plan = plan(&["llama3.1"], &nodes);
        assert_eq!(
            steps(&plan),
            ["unload a llama3.1:latest", "load a llama3.1:latest"]
        );
        assert_eq!(plan.changes[0].reason, told);
        let share = plan.resident[0].gpu_percent;
        assert!(share.is_some_and(|share| u64::from(share).abs_diff(percent) <= 1));
    }
}

/// E16
#[test]
fn e16_what_is_at_work_is_never_touched() {
    let mut asked = Asked::gpu(&["codellama:13b"]);
    asked.usage = &|_, name| Usage {
        active: *name == ModelName::new("llama3.1"),
        ..Usage::default()
    };
    let nodes = [holding(node("a", 10_240), "llama3.1", 100, SOON)];
    let busy = asked.plan(&nodes);
    assert!(busy.settled());
    assert!(busy.impossible[0].reason.contains("is at work"), "{busy:?}");
    let idle = plan(&["codellama:13b"], &nodes);
    assert_eq!(
        steps(&idle),
        ["unload a llama3.1:latest", "load a codellama:13b"]
    );
    // Nor is the model itself, when only a part of it is on the GPU.
    asked.wanted = &["llama3.1"];
    let partly = asked.plan(&[holding(node("a", 10_240), "llama3.1", 40, SOON)]);
    assert!(partly.settled());
    assert!(partly.impossible[0].reason.contains("at work"));
}

/// E38
#[test]
fn e38_a_model_that_fits_nowhere_is_named_once_and_the_others_are_placed() {
    let nodes = [node("a", 8192), node("b", 4096)];
    let plan = plan(&["llama3.1:70b", "mxbai-embed-large"], &nodes);
    assert_eq!(steps(&plan), ["load a mxbai-embed-large:latest"]);
    assert_eq!(
        plan.impossible,
        [Impossible {
            model: ModelName::new("llama3.1:70b"),
            need_bytes: Some(40_000 * MIB),
            largest_usable_bytes: Some(6553 * MIB),
            reason: "a: Model too large (40000MB > 6553MB usable VRAM)".to_owned(),
            absent: false,
        }]
    );
}

/// E37
#[test]
fn e37_a_model_that_no_node_has_is_never_loaded() {
    let plan = plan(&["gone:7b"], &[node("a", 24_576)]);
    assert!(plan.settled());
    assert!(plan.impossible[0].absent);
    assert_eq!(plan.impossible[0].largest_usable_bytes, Some(19_660 * MIB));
    assert_eq!(
        plan.impossible[0].reason,
        "No node has it, and gpurouter never pulls: ollama pull gone:7b"
    );
    let mut without = node("a", 8192);
    without.models.clear();
    let large = self::plan(&["llama3.1:70b"], &[without]);
    assert!(large.impossible[0].absent);
    assert_eq!(
        large.impossible[0].reason,
        "Model too large (40000MB > 6553MB usable VRAM), and no node has it"
    );
}

/// E28: embeddings always on a GPU, chat if there is room.
#[test]
fn e28_embeddings_and_chat_on_a_small_cluster() {
    let nodes = [
        node("node1", 8192),
        node("node2", 8192),
        node("node3", 4096),
    ];
    let wanted = ["mxbai-embed-large", "nomic-embed-text", "llama3.1"];
    let empty = plan(&wanted, &nodes);
    let golden = include_str!("../../../tests/golden/residency.json");
    let written = serde_json::to_string_pretty(&serde_json::json!({
        "empty": empty,
        "crowded": plan(&wanted, &crowded()),
    }))
    .unwrap();
    assert_eq!(written.trim(), golden.trim(), "{written}");
    assert!(plan(&wanted, &carry_out(&empty, &nodes)).settled());
    assert!(empty.impossible.is_empty());
}

/// The same cluster with chat models on every node.
fn crowded() -> [Node; 3] {
    [
        holding(node("node1", 8192), "llama3.1", 100, SOON),
        holding(node("node2", 8192), "llama3.2:3b", 100, SOON),
        holding(node("node3", 4096), "llama3.2:1b", 100, SOON),
    ]
}

#[test]
fn embeddings_displace_embeddings_only() {
    let small = |name: &str| holding(node("a", 1100), name, 100, SOON);
    let chat = plan(&["mxbai-embed-large"], &[small("qwen2.5-coder:1.5b")]);
    assert!(chat.settled());
    assert!(
        chat.impossible[0].reason.contains("displace no model"),
        "{chat:?}"
    );
    let embedding = plan(&["mxbai-embed-large"], &[small("nomic-embed-text")]);
    assert_eq!(
        steps(&embedding),
        [
            "unload a nomic-embed-text:latest",
            "load a mxbai-embed-large:latest"
        ]
    );
}

#[test]
fn the_one_that_is_missed_least_makes_room() {
    let nodes = [holding(
        holding(
            holding(node("a", 8700), "llama3.2:3b", 100, SOON),
            "llama3.2:1b",
            100,
            SOON,
        ),
        "qwen2.5-coder:1.5b",
        100,
        SOON,
    )];
    // 4100 of 6960 MiB are taken; 4700 are wanted.
    let gone = |usage: &dyn Fn(&str, &ModelName) -> Usage| {
        let mut asked = Asked::gpu(&["llama3.1"]);
        asked.usage = usage;
        steps(&asked.plan(&nodes))
    };
    let is = |name: &ModelName, other: &str| *name == ModelName::new(other);
    let by_idle = gone(&|_, name| Usage {
        idle_ms: Some(if is(name, "llama3.2:3b") {
            3_600_000
        } else {
            60_000
        }),
        ..Usage::default()
    });
    assert_eq!(by_idle[0], "unload a llama3.2:3b");
    let by_demand = gone(&|_, name| Usage {
        idle_ms: Some(1000),
        demand: if is(name, "llama3.2:3b") { 90 } else { 1 },
        ..Usage::default()
    });
    assert_eq!(
        by_demand[..2],
        ["unload a llama3.2:1b", "unload a qwen2.5-coder:1.5b"]
    );
    let by_reload = gone(&|_, name| Usage {
        idle_ms: Some(1000),
        load_ms: Some(if is(name, "llama3.2:3b") {
            100.0
        } else {
            900.0
        }),
        ..Usage::default()
    });
    assert_eq!(by_reload[0], "unload a llama3.2:3b");
    assert_eq!(by_reload.len(), 2);
}

#[test]
fn an_earlier_model_displaces_a_later_one_and_never_the_other_way_round() {
    let nodes = [holding(node("a", 4096), "llama3.2:3b", 100, NEVER)];
    let first = plan(
        &["llama3.2:1b", "llama3.2:3b", "qwen2.5-coder:1.5b"],
        &nodes,
    );
    // 1300 fits beside 1900: nothing is displaced.
    assert_eq!(steps(&first), ["load a llama3.2:1b"]);
    let nodes = [holding(node("a", 2600), "llama3.2:3b", 100, NEVER)];
    let wanted = ["llama3.2:1b", "llama3.2:3b"];
    let first = plan(&wanted, &nodes);
    assert_eq!(
        steps(&first),
        ["unload a llama3.2:3b", "load a llama3.2:1b"]
    );
    assert!(plan(&wanted, &carry_out(&first, &nodes)).settled());
    assert!(plan(&["llama3.2:3b", "llama3.2:1b"], &nodes).settled());
}

#[test]
fn a_copy_that_holds_memory_for_nothing_goes_after_the_load_elsewhere() {
    let nodes = [
        holding(node("a", 4096), "llama3.1", 60, SOON),
        node("b", 8192),
    ];
    let first = plan(&["llama3.1"], &nodes);
    assert_eq!(
        steps(&first),
        ["load b llama3.1:latest", "unload a llama3.1:latest"]
    );
    assert_eq!(first.changes[1].after.as_deref(), Some("b"));
    assert!(plan(&["llama3.1"], &carry_out(&first, &nodes)).settled());
}

#[test]
fn a_load_that_went_wrong_is_not_tried_again_at_once() {
    let mut asked = Asked::gpu(&["llama3.1"]);
    asked.held_back = &|node, _| (node == "a").then(|| "the last load failed".to_owned());
    let elsewhere = asked.plan(&[node("a", 8192), node("b", 8192)]);
    assert_eq!(steps(&elsewhere), ["load b llama3.1:latest"]);
    let nowhere = asked.plan(&[node("a", 8192)]);
    assert!(nowhere.settled());
    assert_eq!(nowhere.impossible[0].reason, "a: the last load failed");
}

#[test]
fn without_a_gpu_memory_is_enough_only_if_that_is_the_goal() {
    let mut bare = node("a", 0);
    bare.vram_bytes = Some(0);
    assert!(plan(&["mxbai-embed-large"], &[bare.clone()]).settled());
    let mut asked = Asked::gpu(&["mxbai-embed-large", "llama3.1"]);
    asked.goal = Goal::Memory;
    let warm = asked.plan(&[bare.clone()]);
    assert_eq!(
        steps(&warm),
        ["load a mxbai-embed-large:latest", "load a llama3.1:latest"]
    );
    assert!(warm.impossible.is_empty());
    let again = asked.plan(&carry_out(&warm, &[bare]));
    assert!(again.settled() && again.impossible.is_empty(), "{again:?}");
}

#[test]
fn nodes_that_do_not_answer_or_load_nothing_are_told() {
    let mut down = node("a", 8192);
    down.state = NodeState::Down;
    let told = |node: Node| plan(&["llama3.1"], &[node]).impossible.remove(0).reason;
    assert_eq!(told(down), "a, which has it, does not answer");
    let mut vllm = node("a", 8192);
    vllm.kind = Some(NodeKind::OpenAi);
    assert!(told(vllm).contains("serves only what it was started with"));
    let mut unknown = node("a", 8192);
    unknown.vram_bytes = None;
    assert!(told(unknown).contains("not known: set its `vram`"));
}

#[test]
fn a_llama_server_that_loads_on_demand_is_told_to() {
    let mut router = node("a", 8192);
    router.kind = Some(NodeKind::LlamaServer);
    let single = plan(&["llama3.1"], &[router.clone()]);
    assert!(single.settled() && single.impossible.len() == 1);
    router.on_demand = true;
    assert_eq!(
        steps(&plan(&["llama3.1"], &[router.clone()])),
        ["load a llama3.1:latest"]
    );
    router.loaded = vec![LoadedModel {
        name: ModelName::new("llama3.1"),
        ..LoadedModel::default()
    }];
    let served = plan(&["llama3.1"], &[router]);
    assert!(served.settled() && served.impossible.is_empty());
    assert_eq!(served.resident[0].gpu_percent, None);
}

#[test]
fn embeddings_go_to_the_node_for_them() {
    let mut small = node("small", 4096);
    small.role = Role::Embed;
    let plan = plan(
        &["nomic-embed-text", "llama3.2:1b"],
        &[node("large", 8192), small],
    );
    assert_eq!(
        steps(&plan),
        [
            "load small nomic-embed-text:latest",
            "load large llama3.2:1b"
        ]
    );
}

#[test]
fn what_is_at_a_glance_about_a_node() {
    let nodes = [
        holding(node("a", 4096), "mxbai-embed-large", 100, NEVER),
        holding(node("full", 6000), "llama3.1", 100, NEVER),
    ];
    let known = crate::vram::known_models(&BTreeMap::new());
    let reports = report(&sites(&nodes), &known, policy());
    let a = &reports[0];
    assert_eq!(a.usable_bytes, Some(3276 * MIB));
    assert_eq!(a.free_bytes, Some(2571 * MIB));
    let fits = |name: &str| {
        let entry = a.can_fit.iter().find(|can| can.model == name).unwrap();
        entry.fits
    };
    assert!(fits("mxbai-embed-large") && fits("llama3.2:3b"));
    assert!(!fits("llama3.1:latest"));
    assert_eq!(reports[1].used_percent, Some(97));
    assert!(reports[1].advice.is_some_and(|text| text.contains("full")));
    assert!(a.advice.is_some_and(|text| text.contains("to spare")));
}

/// A cluster at random: per node its MiB and what it holds (which model, percent on the GPU, whether it stays, whether it is at work).
type Machines = Vec<(u64, Vec<(usize, u64, bool, bool)>)>;

fn machines() -> impl Generator<Value = Machines> {
    let held = (
        0..SIZES.len() - 1,
        prop_oneof![Just(0), Just(40), Just(100)],
        any::<bool>(),
        prop::bool::weighted(0.2),
    );
    let machine = (0_u64..26_000, prop::collection::vec(held, 0..4));
    prop::collection::vec(machine, 1..5)
}

fn build(machines: &Machines) -> (Vec<Node>, BTreeSet<(String, ModelName)>) {
    let mut busy = BTreeSet::new();
    let nodes = machines
        .iter()
        .enumerate()
        .map(|(at, (mib, held))| {
            let mut one = node(&format!("n{at}"), *mib);
            for (model, percent, stays, at_work) in held {
                let (name, size, _) = SIZES[*model];
                let used: u64 = one
                    .loaded
                    .iter()
                    .filter_map(|loaded| loaded.vram_bytes)
                    .sum();
                let room = used + size * percent / 100 * MIB
                    <= policy().usable(mib * MIB, Basis::Manifest);
                let known = one
                    .loaded
                    .iter()
                    .any(|loaded| loaded.name == ModelName::new(name));
                if known || !room {
                    continue;
                }
                one = holding(one, name, *percent, if *stays { NEVER } else { SOON });
                if *at_work {
                    busy.insert((one.name.clone(), ModelName::new(name)));
                }
            }
            one
        })
        .collect();
    (nodes, busy)
}

fn used(node: &Node) -> u64 {
    node.loaded
        .iter()
        .filter_map(|loaded| loaded.vram_bytes)
        .sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_plan_is_safe_and_once_is_enough(
        machines in machines(),
        order in prop::sample::subsequence((0..SIZES.len()).collect::<Vec<_>>(), 0..SIZES.len()).prop_shuffle(),
        memory in any::<bool>(),
    ) {
        let (nodes, busy) = build(&machines);
        let wanted: Vec<&str> = order.iter().map(|at| SIZES[*at].0).collect();
        let usage = |node: &str, name: &ModelName| Usage {
            active: busy.contains(&(node.to_owned(), name.clone())),
            ..Usage::default()
        };
        let mut asked = Asked::gpu(&wanted);
        asked.goal = if memory { Goal::Memory } else { Goal::Gpu };
        asked.usage = &usage;
        let first = asked.plan(&nodes);
        prop_assert_eq!(&first, &asked.plan(&nodes), "deterministic");

        // Nothing at work is touched, and nothing that is where it should be and wanted is displaced by a later one.
        for change in first.changes.iter().filter(|change| change.action == Action::Unload) {
            prop_assert!(!busy.contains(&(change.node.clone(), change.model.clone())), "{:?}", change);
        }
        // No GPU holds more than is usable at any moment, unless it did before.
        for until in 0..=first.changes.len() {
            let part = ResidencyPlan { changes: first.changes[..until].to_vec(), ..ResidencyPlan::default() };
            for (before, after) in nodes.iter().zip(carry_out(&part, &nodes)) {
                let usable = policy().usable(after.vram_bytes.unwrap(), Basis::Manifest);
                prop_assert!(used(&after) <= usable.max(used(before)), "{} holds {} of {}", after.name, used(&after), usable);
            }
        }
        // Each wanted model is resident, changed or named as impossible, and the last at most once.
        let after = carry_out(&first, &nodes);
        let second = asked.plan(&after);
        prop_assert!(second.settled(), "{:?} then {:?}", first, second);
        for name in &wanted {
            let name = ModelName::new(name);
            let named = first.impossible.iter().filter(|one| one.model == name).count();
            prop_assert!(named <= 1);
            let placed = after.iter().any(|node| node.loaded(&name).is_some_and(|loaded| memory || loaded.gpu_percent() == Some(100)));
            prop_assert_eq!(named == 0, placed, "{} in {:?}", name, first);
        }
        // Embeddings displace nothing that answers: what went made room for somebody.
        let chat_loaded = first.changes.iter().any(|change| change.action == Action::Load && !embeds(&change.model));
        for change in first.changes.iter().filter(|change| change.action == Action::Unload && change.after.is_none()) {
            let anew = first.changes.iter().any(|load| load.action == Action::Load && load.node == change.node && load.model == change.model);
            prop_assert!(anew || chat_loaded || embeds(&change.model), "{:?}", first);
        }
    }
}

fn embeds(name: &ModelName) -> bool {
    SIZES
        .iter()
        .any(|(known, _, embeds)| *embeds && ModelName::new(known) == *name)
}
