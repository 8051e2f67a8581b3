//! Tests of the decision.

use std::collections::HashMap;
use std::sync::Arc;

use super::*;
use crate::cluster::LoadedModel;
use crate::routing::{ClassTarget, Speed, Turn, TurnRole};

fn node(name: &str, models: &[&str]) -> Node {
    let mut node = Node::unseen(name, format!("http://{name}"));
    node.state = NodeState::Up;
    node.cause = None;
    node.models = models
        .iter()
        .map(|id| Model {
            name: ModelName::new(id),
            id: (*id).to_owned(),
            ..Model::default()
        })
        .collect();
    node
}

fn load_model(node: &mut Node, id: &str) {
    node.loaded.push(LoadedModel {
        name: ModelName::new(id),
        ..LoadedModel::default()
    });
}

fn cluster(nodes: Vec<Node>) -> ClusterSnapshot {
    ClusterSnapshot {
        nodes: nodes.into_iter().map(Arc::new).collect(),
    }
}

fn asking(model: &str) -> RequestFacts {
    RequestFacts {
        model: Some(model.to_owned()),
        prompt_tokens: 1000,
        max_tokens: Some(100),
        ..RequestFacts::default()
    }
}

fn speed(prefill_tps: f64, decode_tps: f64) -> Speed {
    Speed {
        prefill_tps: Some(prefill_tps),
        decode_tps: Some(decode_tps),
        load_ms: Some(1000.0),
        samples: 5,
        ..Speed::default()
    }
}

fn speeds(rows: &[(&str, &str, Speed)]) -> Speeds {
    let mut speeds = Speeds::default();
    for (node, model, speed) in rows {
        speeds
            .by_node_and_model
            .entry((*node).to_owned())
            .or_insert_with(HashMap::new)
            .insert(ModelName::new(model), *speed);
    }
    speeds
}

fn simply(facts: &RequestFacts, snapshot: &ClusterSnapshot) -> Result<Decision, Refusal> {
    decide(facts, snapshot, &[], &Speeds::default(), &Policy::default())
}

fn by_class() -> Policy {
    let class = |model: &str, prefer: &str| {
        Some(ClassTarget {
            model: model.to_owned(),
            prefer: Some(prefer.to_owned()),
        })
    };
    Policy {
        simple: class("small", "gpu1"),
        moderate: class("big", "gpu0"),
        complex: class("big", "gpu0"),
        ..Policy::default()
    }
}

fn saying(text: &str) -> RequestFacts {
    let turns = vec![Turn {
        role: TurnRole::User,
        text: text.to_owned(),
    }];
    RequestFacts {
        turns,
        ..asking("auto")
    }
}

#[test]
fn only_a_changed_measured_speed_changes_the_winner() {
    let mut nodes = vec![node("a", &["m"]), node("b", &["m"])];
    for node in &mut nodes {
        load_model(node, "m");
    }
    let snapshot = cluster(nodes);
    let winner = |a: Speed, b: Speed| {
        let speeds = speeds(&[("a", "m", a), ("b", "m", b)]);
        let decision = decide(&asking("m"), &snapshot, &[], &speeds, &Policy::default()).unwrap();
        decision.winner().unwrap().node.clone()
    };
    assert_eq!(winner(speed(1000.0, 50.0), speed(1000.0, 20.0)), "a");
    assert_eq!(winner(speed(1000.0, 20.0), speed(1000.0, 50.0)), "b");
    assert_eq!(winner(speed(100.0, 50.0), speed(1000.0, 20.0)), "b");
}

#[test]
fn predicted_phases_are_the_arithmetic_of_measurements() {
    let mut only = node("a", &["m"]);
    let rows = speeds(&[("a", "m", speed(500.0, 20.0))]);
    let cold = decide(
        &asking("m"),
        &cluster(vec![only.clone()]),
        &[],
        &rows,
        &Policy::default(),
    )
    .unwrap();
    let expected = Predicted {
        wait_ms: Some(0),
        load_ms: Some(1000),
        prefill_ms: Some(2000),
        decode_ms: Some(5000),
    };
    assert_eq!(cold.winner().unwrap().predicted, expected);
    load_model(&mut only, "m");
    let full = NodeLoad {
        active: 1,
        queued: 1,
        slots: Some(1),
        ..NodeLoad::default()
    };
    let warm = decide(
        &asking("m"),
        &cluster(vec![only]),
        &[full],
        &rows,
        &Policy::default(),
    )
    .unwrap();
    assert_eq!(warm.winner().unwrap().predicted.load_ms, Some(0));
    assert_eq!(warm.winner().unwrap().predicted.wait_ms, Some(14_000));
}

#[test]
fn a_speed_without_a_measurement_is_none_never_a_number() {
    let decision = simply(&asking("m"), &cluster(vec![node("a", &["m"])])).unwrap();
    let predicted = decision.winner().unwrap().predicted;
    assert_eq!(predicted.prefill_ms, None);
    assert_eq!(predicted.decode_ms, None);
    assert_eq!(predicted.load_ms, None);
    assert_eq!(predicted.total_ms(), None);
}

#[test]
fn without_speeds_resident_comes_first_then_free_slots_then_order() {
    let mut warm = node("b", &["m"]);
    load_model(&mut warm, "m");
    let snapshot = cluster(vec![node("a", &["m"]), warm.clone()]);
    assert_eq!(
        simply(&asking("m"), &snapshot)
            .unwrap()
            .winner()
            .unwrap()
            .node,
        "b"
    );

    let snapshot = cluster(vec![node("a", &["m"]), node("b", &["m"])]);
    let load = [
        NodeLoad {
            active: 2,
            ..NodeLoad::default()
        },
        NodeLoad::default(),
    ];
    let busy_first = decide(
        &asking("m"),
        &snapshot,
        &load,
        &Speeds::default(),
        &Policy::default(),
    )
    .unwrap();
    assert_eq!(busy_first.winner().unwrap().node, "b");
    assert_eq!(
        simply(&asking("m"), &snapshot)
            .unwrap()
            .winner()
            .unwrap()
            .node,
        "a"
    );
}

#[test]
fn every_loser_has_its_reason() {
    let mut down = node("down", &["m"]);
    down.state = NodeState::Down;
    let mut blind = node("blind", &["m"]);
    blind.models[0].capabilities = vec![Capability::Completion];
    let mut seeing = node("seeing", &["m"]);
    seeing.models[0].capabilities = vec![Capability::Completion, Capability::Vision];
    let facts = RequestFacts {
        images: true,
        ..asking("m")
    };
    let snapshot = cluster(vec![node("without", &["other"]), down, blind, seeing]);
    let decision = simply(&facts, &snapshot).unwrap();
    let reasons: Vec<_> = decision
        .candidates
        .iter()
        .map(|c| (c.node.as_str(), c.admitted, c.reason))
        .collect();
    assert_eq!(
        reasons,
        [
            ("seeing", true, "only_candidate"),
            ("without", false, "model_missing"),
            ("down", false, "down"),
            ("blind", false, "lacks_capability")
        ]
    );
}

#[test]
fn where_no_node_has_the_capability_the_node_is_asked_all_the_same() {
    let mut plain = node("a", &["m"]);
    plain.models[0].capabilities = vec![Capability::Completion];
    let facts = RequestFacts {
        tools: true,
        ..asking("m")
    };
    assert!(simply(&facts, &cluster(vec![plain])).is_ok());
}

#[test]
fn a_model_is_found_by_digest_under_another_name_and_sent_under_that_name() {
    let mut first = node("a", &["m:latest"]);
    first.models[0].digest = Some("sha256:1".to_owned());
    first.state = NodeState::Down;
    let mut second = node("b", &["copy-of-m"]);
    second.models[0].digest = Some("sha256:1".to_owned());
    let decision = simply(&asking("m"), &cluster(vec![first, second])).unwrap();
    let winner = decision.winner().unwrap();
    assert_eq!(
        (winner.node.as_str(), winner.model.as_str()),
        ("b", "copy-of-m")
    );
}

#[test]
fn an_unknown_model_names_the_nearest() {
    let refused = simply(
        &asking("qwen2.5-codr:7b"),
        &cluster(vec![node("a", &["qwen2.5-coder:7b"])]),
    )
    .unwrap_err();
    let expected = Refusal::UnknownModel {
        model: "qwen2.5-codr:7b".to_owned(),
        nearest: Some("qwen2.5-coder:7b".to_owned()),
    };
    assert_eq!(refused, expected);
    assert_eq!(
        simply(&RequestFacts::default(), &cluster(vec![node("a", &["m"])])),
        Err(Refusal::NoModel)
    );
}

#[test]
fn a_model_on_nodes_that_are_all_down_is_not_unknown() {
    let mut down = node("a", &["m"]);
    down.state = NodeState::Down;
    down.cause = Some("connection refused".to_owned());
    let refused = simply(&asking("m"), &cluster(vec![down, node("b", &["other"])])).unwrap_err();
    assert!(
        matches!(&refused, Refusal::NoNode { detail } if detail.contains("connection refused")),
        "{refused:?}"
    );
}

#[test]
fn a_class_goes_to_its_model_on_its_preferred_node() {
    let snapshot = cluster(vec![
        node("gpu0", &["big", "small"]),
        node("gpu1", &["small"]),
    ]);
    let go = |text: &str| {
        decide(
            &saying(text),
            &snapshot,
            &[],
            &Speeds::default(),
            &by_class(),
        )
        .unwrap()
    };
    let simple = go("Write a docstring for a sort function");
    let winner = simple.winner().unwrap();
    assert_eq!(
        (winner.node.as_str(), winner.model.as_str()),
        ("gpu1", "small")
    );
    assert_eq!(
        (simple.tier.as_str(), simple.reason.as_str()),
        ("simple", "simple_task_to_gpu1")
    );
    let complex = go("Implement a binary search tree with insert and delete");
    assert_eq!(complex.winner().unwrap().model, "big");
    assert_eq!(complex.reason, "complex_task_to_gpu0");
}

#[test]
fn the_larger_model_stands_in_when_the_small_card_is_dead() {
    let mut dead = node("gpu1", &["small"]);
    dead.state = NodeState::Down;
    let snapshot = cluster(vec![node("gpu0", &["big"]), dead]);
    let facts = saying("Write a docstring for a sort function");
    let decision = decide(&facts, &snapshot, &[], &Speeds::default(), &by_class()).unwrap();
    assert_eq!(decision.winner().unwrap().model, "big");
    assert_eq!(decision.tier, "simple");
    assert!(decision.detail.contains("stands in"), "{}", decision.detail);
}

#[test]
fn fall_backs_of_a_class_include_the_larger_model() {
    let snapshot = cluster(vec![node("gpu0", &["big"]), node("gpu1", &["small"])]);
    let facts = saying("Write a docstring for a sort function");
    let decision = decide(&facts, &snapshot, &[], &Speeds::default(), &by_class()).unwrap();
    let order: Vec<_> = decision
        .admitted()
        .map(|c| (c.node.as_str(), c.model.as_str()))
        .collect();
    assert_eq!(order, [("gpu1", "small"), ("gpu0", "big")]);
}

#[test]
fn a_full_preferred_node_yields_to_a_free_one() {
    let snapshot = cluster(vec![node("gpu0", &["small"]), node("gpu1", &["small"])]);
    let load = [
        NodeLoad {
            slots: Some(1),
            ..NodeLoad::default()
        },
        NodeLoad {
            active: 1,
            slots: Some(1),
            ..NodeLoad::default()
        },
    ];
    let facts = saying("Write a docstring for a sort function");
    let decision = decide(&facts, &snapshot, &load, &Speeds::default(), &by_class()).unwrap();
    assert_eq!(decision.winner().unwrap().node, "gpu0");
}

#[test]
fn an_explicit_name_is_honoured_and_an_alias_is_its_model() {
    let snapshot = cluster(vec![node("gpu0", &["big"]), node("gpu1", &["small"])]);
    let mut policy = by_class();
    policy
        .aliases
        .insert("claude-*".to_owned(), "small".to_owned());
    let go =
        |facts: &RequestFacts| decide(facts, &snapshot, &[], &Speeds::default(), &policy).unwrap();
    let named = go(&RequestFacts {
        model: Some("small".to_owned()),
        ..saying("Implement a compiler")
    });
    assert_eq!(
        (named.tier.as_str(), named.winner().unwrap().model.as_str()),
        ("explicit", "small")
    );
    let aliased = go(&asking("claude-haiku-4-5-20260101"));
    assert_eq!(aliased.winner().unwrap().model, "small");
}

#[test]
fn a_prompt_goes_where_its_context_fits_and_nowhere_when_none_does() {
    let mut small = node("small", &["m"]);
    small.models[0].context = Some(500);
    let mut large = node("large", &["m"]);
    large.models[0].context = Some(32_768);
    let snapshot = cluster(vec![small.clone(), large]);
    let decision = simply(&asking("m"), &snapshot).unwrap();
    assert_eq!(decision.winner().unwrap().node, "large");
    assert_eq!(decision.candidates[1].reason, "context_too_small");
    let expected = Refusal::TooLong {
        tokens: 1000,
        limit: 500,
    };
    assert_eq!(
        simply(&asking("m"), &cluster(vec![small.clone()])),
        Err(expected)
    );
    let mut near = small.clone();
    near.models[0].context = Some(700);
    let left_to_the_node = simply(&asking("m"), &cluster(vec![near]));
    assert!(left_to_the_node.is_ok(), "an estimate may be too high");
    let embedding = RequestFacts {
        task: Task::Embed,
        ..asking("m")
    };
    assert!(simply(&embedding, &cluster(vec![small])).is_ok());
}

/// What a node's scheduler says of a request.
fn forecast(wait_ms: u64, needs_load: bool, evicts_ms: u64) -> NodeLoad {
    NodeLoad {
        forecast: Some(Forecast {
            wait_ms: Some(wait_ms),
            needs_load,
            load_ms: None,
            evicts_ms,
            possible: true,
            ..Forecast::default()
        }),
        ..NodeLoad::default()
    }
}

#[test]
fn the_schedulers_forecast_replaces_guesses_about_waits_and_loads() {
    let snapshot = cluster(vec![node("a", &["m"]), node("b", &["m"])]);
    let speeds = speeds(&[
        ("a", "m", speed(1000.0, 50.0)),
        ("b", "m", speed(1000.0, 50.0)),
    ]);
    let facts = RequestFacts {
        max_tokens: Some(100),
        ..asking("m")
    };
    let go = |load: &[NodeLoad]| {
        let decision = decide(&facts, &snapshot, load, &speeds, &Policy::default()).unwrap();
        decision.winner().unwrap().node.clone()
    };
    let idle = forecast(0, false, 0);
    assert_eq!(go(&[forecast(4000, false, 0), idle]), "b");
    assert_eq!(
        go(&[forecast(0, true, 0), forecast(900, false, 0)]),
        "b",
        "a load takes 1000 ms"
    );
    assert_eq!(
        go(&[forecast(0, true, 0), forecast(1900, false, 0)]),
        "b",
        "a further copy has to save two loads"
    );
    assert_eq!(
        go(&[forecast(0, true, 0), forecast(1900, true, 0)]),
        "a",
        "no further copy: both would load"
    );
    assert_eq!(
        go(&[forecast(0, true, 0), forecast(2100, false, 0)]),
        "a",
        "spilled"
    );
    assert_eq!(
        go(&[forecast(0, false, 5000), forecast(2000, false, 0)]),
        "b",
        "others would pay"
    );
    let cached = NodeLoad {
        cached_tokens: 900,
        ..forecast(500, false, 0)
    };
    assert_eq!(
        go(&[idle, cached]),
        "b",
        "900 of 1000 tokens need not be read again"
    );
    let full = NodeLoad {
        forecast: Some(Forecast::default()),
        ..idle
    };
    assert_eq!(go(&[full, forecast(60_000, true, 0)]), "b");
}

#[test]
fn without_measurements_the_node_that_has_read_the_beginning_goes_before_the_one_that_is_listed_first()
 {
    let facts = asking("m");
    let snapshot = cluster(vec![node("a", &["m"]), node("b", &["m"])]);
    let go = |load: &[NodeLoad]| {
        let nothing = Speeds::default();
        let decision = decide(&facts, &snapshot, load, &nothing, &Policy::default()).unwrap();
        decision.winner().unwrap().node.clone()
    };
    let slots = |slots, active, cached_tokens| NodeLoad {
        slots: Some(slots),
        active,
        cached_tokens,
        ..NodeLoad::default()
    };
    assert_eq!(go(&[slots(2, 0, 0), slots(2, 0, 0)]), "a");
    assert_eq!(go(&[slots(2, 0, 0), slots(2, 0, 300)]), "b");
    assert_eq!(go(&[slots(2, 0, 0), slots(2, 1, 300)]), "a", "it is busier");
}

/// Two nodes that have the model in memory; `a` is the faster one and comes first.
fn two_with(change: impl Fn(&mut Speeds)) -> Decision {
    let mut nodes = vec![node("a", &["m"]), node("b", &["m"])];
    for node in &mut nodes {
        load_model(node, "m");
    }
    let mut speeds = speeds(&[
        ("a", "m", speed(2000.0, 90.0)),
        ("b", "m", speed(500.0, 30.0)),
    ]);
    change(&mut speeds);
    let policy = Policy::default();
    decide(&asking("m"), &cluster(nodes), &[], &speeds, &policy).unwrap()
}

fn fall(speeds: &mut Speeds, node: &str, on: crate::cluster::Processor) {
    let models = speeds.by_node_and_model.get_mut(node).unwrap();
    models.get_mut(&ModelName::new("m")).unwrap().fallen = Some(on);
}

#[test]
fn a_model_that_fell_back_to_the_cpu_is_the_last_choice_and_still_one() {
    let decision = two_with(|speeds| fall(speeds, "a", crate::cluster::Processor::Cpu));
    let order: Vec<_> = decision
        .admitted()
        .map(|c| (c.node.as_str(), c.reason))
        .collect();
    assert_eq!(order, [("b", "soonest"), ("a", "on_cpu")]);
    let partly = two_with(|speeds| fall(speeds, "a", crate::cluster::Processor::Partly(60)));
    assert_eq!(
        partly.winner().unwrap().node,
        "a",
        "its measured speed says enough"
    );
    let unmeasured = two_with(|speeds| {
        for node in ["a", "b"] {
            let models = speeds.by_node_and_model.get_mut(node).unwrap();
            models.insert(ModelName::new("m"), Speed::default());
        }
        fall(speeds, "a", crate::cluster::Processor::Partly(60));
    });
    let order: Vec<_> = unmeasured
        .admitted()
        .map(|c| (c.node.as_str(), c.reason))
        .collect();
    assert_eq!(order, [("b", "resident"), ("a", "partly_on_cpu")]);
}

#[test]
fn a_suspect_node_is_tried_last() {
    let decision = two_with(|speeds| {
        speeds.suspect.insert("a".to_owned());
        fall(speeds, "b", crate::cluster::Processor::Cpu);
    });
    let order: Vec<_> = decision.admitted().map(|c| c.node.as_str()).collect();
    assert_eq!(order, ["b", "a"]);
    let decision = two_with(|speeds| {
        speeds.suspect.insert("a".to_owned());
    });
    let reasons: Vec<_> = decision.admitted().map(|c| c.reason).collect();
    assert_eq!(reasons, ["soonest", "suspect"]);
}

#[test]
fn a_node_that_was_never_measured_is_tried_when_the_others_make_it_wait_longer_than_two_loads() {
    let snapshot = cluster(vec![node("a", &["m"]), node("b", &["m"])]);
    let speeds = speeds(&[("a", "m", speed(1000.0, 50.0))]);
    let go = |wait_ms, other: NodeLoad| {
        let load = [forecast(wait_ms, false, 0), other];
        let decision = decide(&asking("m"), &snapshot, &load, &speeds, &Policy::default());
        decision.unwrap().winner().unwrap().node.clone()
    };
    let idle = forecast(0, true, 0);
    assert_eq!(go(1900, idle), "a", "a load takes 1000 ms");
    assert_eq!(go(2100, idle), "b");
    assert_eq!(
        go(2100, forecast(0, true, 500)),
        "a",
        "others would pay for the try"
    );
    assert_eq!(go(2100, forecast(10, true, 0)), "a", "it has other work");
}

#[test]
fn a_node_that_wrote_the_long_answers_does_not_seem_slow() {
    let snapshot = cluster(vec![node("a", &["m"]), node("b", &["m"])]);
    let wrote = |decode: f64, tokens: f64, samples| Speed {
        completion_tokens: Some(tokens),
        samples,
        ..speed(1000.0, decode)
    };
    let speeds = speeds(&[
        ("a", "m", wrote(100.0, 900.0, 1)),
        ("b", "m", wrote(50.0, 90.0, 8)),
    ]);
    let load = [forecast(0, false, 0), forecast(0, false, 0)];
    let facts = RequestFacts {
        max_tokens: None,
        ..asking("m")
    };
    let decision = decide(&facts, &snapshot, &load, &speeds, &Policy::default()).unwrap();
    let times: Vec<_> = decision
        .admitted()
        .map(|c| (c.node.as_str(), c.predicted.decode_ms))
        .collect();
    // (900 + 8 x 90) / 9 tokens.
    assert_eq!(times, [("a", Some(1800)), ("b", Some(3600))]);
}

#[test]
fn a_model_that_does_not_fit_or_gets_less_context_comes_last() {
    let snapshot = cluster(vec![
        node("a", &["m"]),
        node("b", &["m"]),
        node("c", &["m"]),
    ]);
    let with = |splits, short| NodeLoad {
        forecast: Some(Forecast {
            wait_ms: Some(0),
            needs_load: true,
            possible: true,
            splits,
            short,
            ..Forecast::default()
        }),
        ..NodeLoad::default()
    };
    let load = [with(true, false), with(false, true), with(false, false)];
    let speeds = Speeds::default();
    let decision = decide(&asking("m"), &snapshot, &load, &speeds, &Policy::default()).unwrap();
    let order: Vec<_> = decision.admitted().map(|c| c.node.as_str()).collect();
    assert_eq!(order, ["c", "b", "a"]);
}

#[test]
fn without_speeds_a_request_goes_where_it_waits_least_and_least_has_to_go() {
    let snapshot = cluster(vec![node("a", &["m"]), node("b", &["m"])]);
    let go = |load: [NodeLoad; 2]| {
        let speeds = Speeds::default();
        let decision = decide(&asking("m"), &snapshot, &load, &speeds, &Policy::default());
        decision.unwrap().winner().unwrap().node.clone()
    };
    let unknown = NodeLoad {
        forecast: Some(Forecast {
            needs_load: true,
            possible: true,
            ..Forecast::default()
        }),
        ..NodeLoad::default()
    };
    assert_eq!(
        go([unknown, forecast(5000, true, 0)]),
        "b",
        "a wait of unknown length"
    );
    assert_eq!(go([forecast(0, true, 4000), forecast(0, true, 3000)]), "b");
    assert_eq!(go([forecast(0, true, 0), forecast(0, true, 0)]), "a");
}

#[test]
fn with_one_copy_requests_wait_for_it_as_long_as_its_node_is_in_order() {
    let snapshot = cluster(vec![node("a", &["m"]), node("b", &["m"])]);
    let fast = speed(1000.0, 50.0);
    let speeds = speeds(&[("a", "m", fast), ("b", "m", fast)]);
    let one = Policy {
        copies: Copies::One,
        ..Policy::default()
    };
    let go = |policy: &Policy, speeds: &Speeds, load: &[NodeLoad]| {
        let decision = decide(&asking("m"), &snapshot, load, speeds, policy).unwrap();
        let candidates = decision.admitted().map(|c| (c.node.clone(), c.reason));
        candidates.collect::<Vec<_>>()
    };
    let of = |a: (&str, &'static str), b: (&str, &'static str)| {
        vec![(a.0.to_owned(), a.1), (b.0.to_owned(), b.1)]
    };
    let long = [forecast(60_000, false, 0), forecast(0, true, 0)];
    assert_eq!(
        go(&Policy::default(), &speeds, &long),
        of(("b", "soonest"), ("a", "slower"))
    );
    assert_eq!(
        go(&one, &speeds, &long),
        of(("a", "resident"), ("b", "further_copy"))
    );
    let cold = [forecast(60_000, true, 0), forecast(0, true, 0)];
    assert_eq!(
        go(&one, &speeds, &cold),
        of(("b", "soonest"), ("a", "slower")),
        "there is none yet"
    );
    let mut stuck = speeds.clone();
    stuck.suspect.insert("a".to_owned());
    assert_eq!(
        go(&one, &stuck, &long),
        of(("b", "soonest"), ("a", "suspect"))
    );
}

/// What a model on a node would mean.
#[derive(Clone, Copy)]
enum State {
    Loaded,
    /// So many milliseconds before its turn comes.
    Busy(u64),
    /// There is room for it.
    ToLoad,
    /// Something has to go for it.
    ToSwitch,
}

type Row = (&'static str, &'static str, State);

fn forecast_of(rows: &[Row]) -> impl Fn(usize, &Arc<Node>, &Model) -> NodeLoad {
    |_, node, model| {
        let row = rows
            .iter()
            .find(|(name, id, _)| *name == node.name && *id == model.id);
        let forecast = row.map(|(_, _, state)| Forecast {
            needs_load: matches!(state, State::ToLoad | State::ToSwitch),
            wait_ms: Some(if let State::Busy(ms) = state { *ms } else { 0 }),
            evicts_ms: if matches!(state, State::ToSwitch) {
                3000
            } else {
                0
            },
            possible: true,
            ..Forecast::default()
        });
        NodeLoad {
            forecast,
            ..NodeLoad::default()
        }
    }
}

#[test]
fn a_loaded_model_of_a_larger_class_answers_before_the_classs_own_is_loaded() {
    use State::{Busy, Loaded, ToLoad, ToSwitch};
    let snapshot = cluster(vec![
        node("gpu0", &["small", "big"]),
        node("gpu1", &["small"]),
    ]);
    let simple = saying("hello");
    let told = |rows: &[Row], speeds: &Speeds, facts: &RequestFacts| {
        let decided = decide_by(facts, &snapshot, &forecast_of(rows), speeds, &by_class()).unwrap();
        let winner = decided.winner().unwrap().clone();
        let spared = decided
            .spared
            .map(|own| format!("{} on {}", own.model, own.node));
        (
            format!("{} on {}", winner.model, winner.node),
            spared,
            decided.detail,
        )
    };
    let unknown = Speeds::default();
    let rows = [
        ("gpu0", "small", ToSwitch),
        ("gpu0", "big", Loaded),
        ("gpu1", "small", ToSwitch),
    ];
    let (winner, spared, detail) = told(&rows, &unknown, &simple);
    assert_eq!(
        (winner.as_str(), spared.as_deref()),
        ("big on gpu0", Some("small on gpu1"))
    );
    assert!(
        detail.contains("`small` on gpu1 would have to be loaded first"),
        "{detail}"
    );
    // The same model loaded elsewhere comes before another one.
    let rows = [
        ("gpu0", "small", Loaded),
        ("gpu0", "big", Loaded),
        ("gpu1", "small", ToSwitch),
    ];
    assert_eq!(told(&rows, &unknown, &simple).0, "small on gpu0");
    // Its own model answers where it is loaded, is being loaded, or can be loaded at nobody's cost; and where the other one is at work or is
    // not loaded either.
    for (own, other) in [
        (Loaded, Loaded),
        (Busy(900), Loaded),
        (ToLoad, Loaded),
        (ToSwitch, Busy(5000)),
        (ToSwitch, ToLoad),
    ] {
        let rows = [("gpu0", "big", other), ("gpu1", "small", own)];
        let (winner, spared, _) = told(&rows, &unknown, &simple);
        assert_eq!((winner.as_str(), spared), ("small on gpu1", None));
    }
    // A smaller one is not good enough.
    let hard =
        saying("Design a distributed, fault-tolerant architecture and prove that it is correct");
    let rows = [("gpu0", "big", ToSwitch), ("gpu1", "small", Loaded)];
    assert_eq!(told(&rows, &unknown, &hard).0, "big on gpu0");
    // Where times are measured they decide: 1 s of loading and 2 s of a fast answer beat 12 s of a slow one.
    let rows = [("gpu0", "big", Loaded), ("gpu1", "small", ToLoad)];
    let measured = |big| {
        speeds(&[
            ("gpu0", "big", big),
            ("gpu1", "small", speed(1000.0, 100.0)),
        ])
    };
    assert_eq!(
        told(&rows, &measured(speed(500.0, 10.0)), &simple).0,
        "small on gpu1"
    );
    assert_eq!(
        told(&rows, &measured(speed(2000.0, 90.0)), &simple).0,
        "big on gpu0"
    );
}
