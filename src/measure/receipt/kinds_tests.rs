//! Receipts of the benchmarks that load, soak and simulate: every field of every line is changed, and no change goes unseen.

use super::tests::{each_change, holds, resealed, written};
use super::*;
use crate::measure::figure::{Figure, Unit};
use crate::measure::proxy;
use crate::measure::{
    AllocObservation, AllocSettings, ConcurrentObservation, ConcurrentSettings, Failed, Failure,
    Held, Known, ReplayLane, ReplayNode, ReplayObservation, ReplayOptimum, ReplayPredictions,
    ReplayQuantiles, ReplayRun, ReplaySettings, SoakObservation, SoakSettings, Way,
};

fn alloc() -> String {
    let settings = AllocSettings {
        count: 16,
        iterations: 3,
        seed: 1,
        limit_ms: 10.0,
        optimised: true,
    };
    let batch = |known, times_ns: &[u64]| AllocObservation {
        known,
        placed: 2,
        times_ns: times_ns.to_vec(),
    };
    let seen = [
        batch(Known::Size, &[1_500, 1_700]),
        batch(Known::Size, &[1_600]),
        batch(Known::Layers, &[31_500, 31_700, 31_600]),
    ];
    written(Bench::Alloc(settings), &seen)
}

fn concurrent() -> String {
    let settings = ConcurrentSettings {
        names: ["gpu0", "gpu1"].map(str::to_owned),
        nodes: ["http://127.0.0.1:1", "http://127.0.0.1:2"].map(str::to_owned),
        models: ["a:latest", "b:latest"].map(str::to_owned),
        routed: "gpurouter".to_owned(),
        repeats: 2,
        prompts: ["one", "two"].map(str::to_owned),
        seed: 7,
        resamples: 20,
    };
    let repeat = |way, apart_ms, nodes: [Option<&str>; 2]| ConcurrentObservation {
        way,
        apart_ms,
        together_ms: 511.25,
        nodes: nodes.map(|node| node.map(str::to_owned)),
    };
    let both = [Some("gpu0"), Some("gpu1")];
    let seen = [
        repeat(Way::Direct, 1001.5, [None, None]),
        repeat(Way::Routed, 1002.5, both),
        repeat(Way::Direct, 1003.5, [None, None]),
        repeat(Way::Routed, 1004.5, both),
    ];
    written(Bench::Concurrent(settings), &seen)
}

fn soak() -> String {
    let settings = SoakSettings {
        url: "http://127.0.0.1:1/health".to_owned(),
        rps: 4.0,
        duration_ms: 2000,
        timeout_ms: 1000,
        connections: 2,
        pids: vec![7],
        program: Some("server".to_owned()),
    };
    let stretch = |length_ms, took_us: &[u64]| SoakObservation::Requests {
        length_ms,
        took_us: took_us.to_vec(),
        failed: vec![
            Failed {
                kind: Failure::Timeout,
                count: 1,
            },
            Failed {
                kind: Failure::Status(503),
                count: 2,
            },
        ],
        late: 1,
        opened: 1,
    };
    let mut seen = vec![stretch(1000, &[310, 305, 301]), stretch(1000, &[300, 299])];
    // A reading in each of the ten stretches of the second half.
    seen.extend((0..=20).map(|index: u64| {
        SoakObservation::Server(Held {
            at_ms: index * 100,
            rss_bytes: 9_000_000 + index * index % 13,
            descriptors: Some(10 + index * index % 5),
        })
    }));
    written(Bench::Soak(settings), &seen)
}

fn replay() -> String {
    let settings = ReplaySettings {
        seed: 3,
        num_ctx: "raise-only".to_owned(),
        copies: "auto".to_owned(),
        traces: vec!["a".to_owned(), "b".to_owned()],
    };
    let count = |value| Figure::configured(value, Unit::Count);
    let ms = |value| Figure::configured(value, Unit::Milliseconds);
    let quantiles = ReplayQuantiles {
        p50: ms(10.0),
        p95: ms(20.0),
        max: ms(30.0),
    };
    let run = |policy: &str, loads| ReplayRun {
        policy: policy.to_owned(),
        requests: count(40.0),
        answered: count(39.0),
        failed: count(1.0),
        refused: count(0.0),
        truncated: count(3.0),
        loads: count(loads),
        evictions: count(2.0),
        reloads_avoided: Figure::unknown(Unit::Count),
        avoided_ms: Figure::unknown(Unit::Milliseconds),
        wait_ms: quantiles,
        lanes: vec![ReplayLane {
            lane: "interactive".to_owned(),
            answered: count(39.0),
            ttft_ms: quantiles,
            total_ms: quantiles,
        }],
        duration_ms: ms(9_000.0),
        energy_wh: Figure::configured(12.5, Unit::WattHours),
        starved: count(0.0),
        predictions: ReplayPredictions {
            made: count(20.0),
            within_20_percent: count(19.0),
            in_range: count(16.0),
        },
    };
    let trace = |name: &str, thrash| ReplayObservation {
        trace: name.to_owned(),
        about: "a trace".to_owned(),
        thrash,
        nodes: vec![ReplayNode {
            name: "gpu0".to_owned(),
            gpu: "RTX 3060".to_owned(),
            vram_bytes: 12 << 30,
            parallel: 1,
        }],
        optimum: ReplayOptimum {
            loads: count(4.0),
            exact: true,
        },
        policies: vec![run("plain", 35.0), run("gpurouter", 5.0)],
    };
    let seen = [trace("a", true), trace("b", false)];
    written(Bench::Replay(settings), &seen)
}

fn proxy_settings() -> proxy::Settings {
    use proxy::{DIRECT, ROUTER, Target, Window};
    let target = |name: &str| Target {
        name: name.to_owned(),
        url: "http://127.0.0.1:1".to_owned(),
        program: (name != DIRECT).then(|| "x".to_owned()),
        pids: if name == DIRECT { vec![] } else { vec![9] },
    };
    proxy::Settings {
        rounds: 1,
        window: Window::Ms(1000),
        quick: false,
        idle_streams: 10,
        threads: 1,
        patience_ms: 0,
        cores: Some(2),
        targets: [DIRECT, ROUTER].map(target).to_vec(),
    }
}

/// Something of every kind that a run of `bench proxy` sees.
fn proxied() -> String {
    use proxy::{Case, DIRECT, End, Form, MACHINE, Moment, ROUTER, Seen, Times};
    let mut all = Vec::new();
    let mut add = |target: &str, seen| {
        all.push(proxy::Observation {
            round: 0,
            target: target.to_owned(),
            seen,
        });
    };
    let busy = |moment, elapsed_ns| Seen::Machine {
        moment,
        load_percent: Some([10, 20, 30]),
        elapsed_ns,
    };
    add(MACHINE, busy(Moment::Start, 0));
    let memory = |moment, rss_bytes| Seen::Memory {
        moment,
        rss_bytes,
        pss_bytes: Some(rss_bytes - 1000),
        threads: 5,
    };
    add(ROUTER, memory(Moment::Start, 8_000_000));
    add(ROUTER, memory(Moment::Streams, 9_000_000));
    add(
        ROUTER,
        Seen::Idle {
            asked: 10,
            began: 10,
            cpu_ns: Some(1_000),
            elapsed_ns: 1_000_000_000,
        },
    );
    for (name, times) in [(DIRECT, 1), (ROUTER, 2)] {
        let times = Times {
            count: 100,
            p50_ns: 100_000 * times,
            p99_ns: 300_000 * times,
        };
        let seen = Seen::Latency {
            case: Case::Small,
            times,
        };
        add(name, seen);
    }
    for (name, answers) in [(DIRECT, 50_000), (ROUTER, 10_000)] {
        let seen = Seen::Load {
            bytes: 1024,
            connections: 16,
            answers,
            failed: 0,
            elapsed_ns: 1_000_000_000,
            cpu_ns: (name != DIRECT).then_some(500_000_000),
        };
        add(name, seen);
        let seen = Seen::Pieces {
            form: Form::Lines,
            streams: proxy::STREAMS,
            gap_ns: 1_000_000,
            delays: Times {
                count: 1000,
                p50_ns: 60_000 + answers,
                p99_ns: 90_000 + answers,
            },
            failed: 0,
            elapsed_ns: 1_000_000_000,
            cpu_ns: (name != DIRECT).then_some(500_000_000),
        };
        add(name, seen);
    }
    let departure = Seen::Departure {
        after_first: true,
        waited_ns: Some(200_000),
    };
    add(ROUTER, departure);
    let cut = Seen::Cut {
        form: Form::Events,
        end: End::Told,
    };
    add(ROUTER, cut);
    let others = Seen::Others {
        step: "rates".to_owned(),
        cpu_ns: 1_000_000_000,
        elapsed_ns: 4_000_000_000,
        repeated: 1,
    };
    add(MACHINE, others);
    add(MACHINE, busy(Moment::End, 9_000_000_000));
    written(Bench::Proxy(proxy_settings()), &all)
}

fn samples() -> [(&'static str, String); 5] {
    [
        ("alloc", alloc()),
        ("concurrent", concurrent()),
        ("soak", soak()),
        ("replay", replay()),
        ("proxy", proxied()),
    ]
}

#[test]
fn what_was_written_holds_and_its_lines_fit_its_kind() {
    for (kind, text) in samples() {
        let checked = check(text.as_bytes()).unwrap();
        assert_eq!(checked.findings, [], "{kind}");
        assert!(!checked.receipt.observations.is_empty());
        // An observation of another kind at its place.
        for (other, foreign) in samples() {
            let line = foreign.lines().nth(1).unwrap();
            let mixed: Vec<&str> = text
                .lines()
                .enumerate()
                .map(|(index, own)| if index == 1 { line } else { own })
                .collect();
            let mixed = mixed.join("\n") + "\n";
            if other == kind {
                assert_eq!(mixed, text);
            } else {
                let told = check(mixed.as_bytes()).unwrap_err();
                assert!(told.is_contradiction());
                assert_eq!(
                    told.to_string(),
                    "line 2: an observation of another kind of benchmark"
                );
            }
        }
    }
}

#[test]
fn a_changed_field_of_any_line_is_seen() {
    for (kind, text) in samples() {
        each_change(&text, |done, changed| {
            assert!(!holds(changed), "{kind}: unseen: {done}");
        });
    }
}

#[test]
fn a_changed_field_is_seen_even_with_a_new_digest() {
    let mut unseen = Vec::new();
    for (kind, text) in samples() {
        let last = text.lines().count();
        each_change(&text, |done, changed| {
            let digest = done.starts_with(&format!("line {last}")) && done.contains("sha256");
            if !digest && !harmless(kind, done) && holds(&resealed(changed)) {
                unseen.push(format!("{kind}: {done}"));
            }
        });
    }
    assert_eq!(unseen, Vec::<String>::new());
}

/// What no figure depends on: whether "not known" is said or left out, and of `bench proxy` what only says how something was looked at. The
/// old digest sees all of it.
fn harmless(kind: &str, done: &str) -> bool {
    let said = ["gpus", "value", "program", "cpu_ns"].map(|field| format!(" without {field}"));
    let looks = [
        // Of what concerns the machine as a whole.
        "line 2/seen/",
        "line 14/seen/",
        "line 15/seen/target",
        // How many times a percentile is of, how far pieces were apart, and for how long they came.
        "/times/count + 1",
        "line 9/seen/seen/delays/count + 1",
        "/seen/gap_ns + 1",
        "line 9/seen/seen/elapsed_ns + 1",
        "line 11/seen/seen/elapsed_ns + 1",
    ];
    let only_said = said.iter().any(|said| done.ends_with(said.as_str()));
    only_said || kind == "proxy" && looks.iter().any(|look| done.contains(look))
}
