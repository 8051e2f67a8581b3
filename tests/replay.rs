//! What `bench replay` promises over the traces that come with it, and the command itself.

use std::process::Command;

use gpurouter::replay::{
    PolicyReport, Report, Rules, TraceReport, builtin, builtins, replay, replay_router,
};
use gpurouter::routing::queue::Lane;
use gpurouter::routing::{Copies, WindowPolicy};
use serde_json::Value;

/// Seeds that everything is asserted for.
const SEEDS: [u64; 3] = [0, 1, 2];

/// What is configured by default.
const USUAL: Rules = Rules {
    num_ctx: WindowPolicy::RaiseOnly,
    copies: Copies::AsNeeded,
};

fn report(seed: u64) -> Report {
    report_under(USUAL, seed)
}

fn report_under(rules: Rules, seed: u64) -> Report {
    let traces: Vec<TraceReport> = builtins()
        .iter()
        .map(|builtin| replay(&builtin.scenario(seed), rules, seed))
        .collect();
    Report::new(seed, rules, traces)
}

/// The same without the trace in which gpurouter makes fewer loads than the optimum, which keeps the order of arrival.
fn without_twelve(report: &Report) -> Report {
    let traces = report.traces.iter().filter(|t| t.trace != "twelve");
    Report::new(report.seed, report.rules, traces.cloned().collect())
}

fn ours(trace: &TraceReport) -> &PolicyReport {
    trace.policy("gpurouter").unwrap()
}

fn plain(trace: &TraceReport) -> &PolicyReport {
    trace.policy("plain").unwrap()
}

#[test]
fn loads_stay_near_the_optimum_and_far_below_those_of_plain_ollama() {
    for seed in SEEDS {
        let report = report(seed);
        let totals = &report.totals;
        assert!(report.traces.iter().all(|trace| trace.optimum.exact));
        let ratio = totals.loads_over_optimum.unwrap();
        assert!(ratio <= 1.15, "seed {seed}: {ratio} times the optimum");
        let mean = without_twelve(&report).totals.loads_over_optimum_mean;
        assert!(
            mean.unwrap() <= 1.15,
            "seed {seed}: {mean:?} times in the mean"
        );
        for trace in report.traces.iter().filter(|trace| trace.thrash) {
            let fewer = trace.fewer_loads_percent.unwrap();
            assert!(
                fewer >= 90.0,
                "seed {seed}: {}: only {fewer} % fewer",
                trace.trace
            );
        }
        assert!(report.traces.iter().filter(|trace| trace.thrash).count() >= 6);
    }
}

#[test]
fn with_one_copy_of_each_model_every_trace_is_near_the_optimum() {
    let one = Rules {
        copies: Copies::One,
        ..USUAL
    };
    for seed in SEEDS {
        let [one, usual] = [report_under(one, seed), report(seed)];
        let rest = without_twelve(&one).totals;
        let ratio = rest.loads_over_optimum.unwrap();
        assert!(ratio <= 1.15, "seed {seed}: {ratio} times the optimum");
        for trace in &one.traces {
            let (loads, best) = (ours(trace).loads, trace.optimum.loads);
            assert!(loads <= best + 1, "seed {seed}: {}: {loads}", trace.trace);
        }
        assert_eq!(one.totals.starved, 0);
        // What further copies are for.
        let wait = |report: &Report| {
            let fleet = report.traces.iter().find(|t| t.trace == "fleet").unwrap();
            ours(fleet).lane(Lane::Interactive).unwrap().ttft_ms.p95
        };
        assert!(wait(&usual) < wait(&one), "seed {seed}");
    }
}

#[test]
fn nobody_starves_and_nobody_is_lost() {
    for seed in SEEDS {
        for trace in report(seed).traces {
            let ours = ours(&trace);
            let name = &trace.trace;
            assert_eq!(ours.starvation.unwrap().starved, 0, "{name}");
            assert_eq!(
                ours.answered + ours.failed + ours.refused,
                ours.requests,
                "{name}"
            );
            assert_eq!(ours.refused, 0, "{name}: every prompt fits somewhere");
            let expected = plain(&trace).failed;
            assert!(ours.failed <= expected, "{name}: {} failed", ours.failed);
            assert_eq!(
                trace.policies[0].answered + expected,
                ours.requests,
                "{name}"
            );
        }
    }
}

#[test]
#[expect(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "whoever runs the test with --nocapture sees the figures it was about; they are counts"
)]
fn times_of_held_out_requests_are_predicted_and_the_ranges_hold_what_they_say() {
    // `batch` makes four of five requests by itself: the others have to hold without it, too.
    for seed in SEEDS {
        let report = report(seed);
        let of = |some: &dyn Fn(&str) -> bool| {
            let mut all = [0, 0, 0];
            for trace in report.traces.iter().filter(|trace| some(&trace.trace)) {
                let one = ours(trace).predictions.unwrap();
                for (sum, part) in
                    all.iter_mut()
                        .zip([one.made, one.within_20_percent, one.in_range])
                {
                    *sum += part;
                }
            }
            let [made, close, held] = all.map(|count| count as f64);
            (close / made, held / made, made)
        };
        let totals = report.totals.predictions;
        assert!(totals.made > 4000, "{totals:?}");
        for (which, (close, held, made)) in [
            ("all", of(&|_| true)),
            ("all but batch", of(&|name| name != "batch")),
        ] {
            println!(
                "seed {seed}, {which}: {made} predictions, {:.1} % within 20 %, {:.1} % in range",
                100.0 * close,
                100.0 * held
            );
            assert!(close >= 0.9, "seed {seed}, {which}: {close}");
            assert!(
                (0.75..=0.85).contains(&held),
                "seed {seed}, {which}: {held}"
            );
        }
    }
}

#[test]
fn no_prompt_is_cut() {
    let report = report(0);
    assert!(
        report.totals.truncated[0] > 0,
        "plain Ollama cuts the agents' prompts"
    );
    assert_eq!(report.totals.truncated[1], 0);
}

#[test]
fn batch_work_that_saturates_the_card_does_not_slow_interactive_requests_down() {
    for seed in SEEDS {
        let scenario = builtin("batch").unwrap().scenario(seed);
        let first_token =
            |report: &PolicyReport| report.lane(Lane::Interactive).unwrap().ttft_ms.p95;
        let alone = first_token(&replay_router(
            &scenario.without(&[Lane::Batch]),
            USUAL,
            seed,
        ));
        let both = replay(&scenario, USUAL, seed);
        let beside = first_token(ours(&both));
        assert!(
            beside * 4 <= alone * 5,
            "seed {seed}: {beside} ms instead of {alone}"
        );
        let without_router = first_token(plain(&both));
        assert!(
            without_router > alone * 2,
            "the batch work is none: {without_router}"
        );
        // It is not starved either: it takes no longer than without a router, give or take a tenth.
        let all = |report: &PolicyReport| report.duration_ms;
        assert!(all(ours(&both)) * 10 <= all(plain(&both)) * 11);
    }
}

#[test]
fn the_36_requests_of_the_issue_load_at_most_three_times() {
    for seed in SEEDS {
        let scenario = builtin("contexts").unwrap().scenario(seed);
        let trace = replay(&scenario, USUAL, seed);
        assert!(ours(&trace).loads <= 3);
        assert!(plain(&trace).loads >= 35);
    }
}

#[test]
fn passing_contexts_through_loads_as_often_as_plain_ollama() {
    let scenario = builtin("contexts").unwrap().scenario(0);
    let under = |num_ctx| replay_router(&scenario, Rules { num_ctx, ..USUAL }, 0);
    let passed = under(WindowPolicy::Pass);
    assert_eq!(passed.loads, 36);
    let pinned = under(WindowPolicy::Pin);
    assert_eq!(pinned.loads, 1);
    let bucket = under(WindowPolicy::Bucket);
    assert!(bucket.loads <= 2, "{}", bucket.loads);
}

#[test]
fn a_node_whose_memory_nobody_tells_is_learned() {
    for name in ["rag", "priority", "twelve"] {
        let mut scenario = builtin(name).unwrap().scenario(0);
        for node in &mut scenario.fleet {
            node.memory_known = false;
        }
        let trace = replay(&scenario, USUAL, 0);
        let (ours, plain) = (ours(&trace), plain(&trace));
        assert_eq!(ours.answered, ours.requests, "{name}");
        assert!(
            ours.loads <= plain.loads + 2,
            "{name}: {} of {}",
            ours.loads,
            plain.loads
        );
        assert_eq!(ours.starvation.unwrap().starved, 0, "{name}");
    }
}

#[test]
fn the_same_seed_gives_the_same_report() {
    assert_eq!(report(5), report(5));
}

fn gpurouter(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_gpurouter"))
        .args(arguments)
        .env_clear()
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let code = output.status.code().unwrap();
    (code, text(output.stdout), text(output.stderr))
}

#[test]
#[expect(
    clippy::print_stdout,
    reason = "whoever runs the test with --nocapture sees the figures it was about"
)]
fn the_command_prints_the_table() {
    let (code, table, errors) = gpurouter(&["bench", "replay"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    println!("{table}");
    for builtin in builtins() {
        assert!(table.contains(builtin.name), "{table}");
    }
    assert!(
        table.lines().all(|line| line.chars().count() <= 80),
        "{table}"
    );
    let (_, one, _) = gpurouter(&["bench", "replay", "--trace", "team"]);
    assert!(one.lines().all(|line| line.chars().count() <= 80), "{one}");
    assert!(
        one.contains("RTX 3090") && one.contains("embedding"),
        "{one}"
    );
}

#[test]
fn the_document_has_the_same_figures_as_the_library() {
    let (code, text, _) = gpurouter(&["bench", "replay", "--json", "--seed", "1"]);
    assert_eq!(code, 0);
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document, serde_json::to_value(report(1)).unwrap());
    assert_eq!(document["schema"], 1);
}

#[test]
fn a_trace_that_was_exported_is_replayed() {
    let (_, trace, _) = gpurouter(&["bench", "replay", "--trace", "aider", "--export"]);
    let file = std::env::temp_dir().join(format!("gpurouter-aider-{}.jsonl", std::process::id()));
    std::fs::write(&file, &trace).unwrap();
    let path = file.to_str().unwrap();
    let run = |arguments: &[&str]| {
        let arguments = [&["bench", "replay", "--json"], arguments].concat();
        let (code, text, errors) = gpurouter(&arguments);
        assert_eq!(code, 0, "{errors}");
        serde_json::from_str::<Value>(&text).unwrap()["traces"][0].clone()
    };
    let (recorded, original) = (run(&[path]), run(&["--trace", "aider"]));
    assert_eq!(recorded["policies"], original["policies"]);
    // What if the card were another one?
    let faster = run(&[path, "--with", "gpu0=rtx4090"]);
    let total = |report: &Value| report["policies"][1]["lanes"][0]["total_ms"]["p95"].as_u64();
    assert!(total(&faster) < total(&recorded));
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn a_receipt_gives_the_same_table_and_says_what_nobody_measured() {
    let directory = std::env::temp_dir().join(format!("gpurouter-receipts-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let (_, trace, _) = gpurouter(&["bench", "replay", "--trace", "team", "--export"]);
    std::fs::write(file("team.jsonl"), trace).unwrap();
    for (name, arguments, tag) in [
        ("all", vec![], "configured"),
        ("one", vec!["--trace", "team"], "configured"),
        ("own", vec![file("team.jsonl").leak() as &str], "derived"),
    ] {
        let receipt = file(&format!("{name}.receipt"));
        let arguments = [&["bench", "replay", "--receipt", &receipt][..], &arguments].concat();
        let (code, table, errors) = gpurouter(&arguments);
        assert_eq!((code, errors.as_str()), (0, ""), "{name}");
        let (code, again, _) = gpurouter(&["bench", "--recompute", &receipt]);
        assert_eq!(code, 0, "{again}");
        assert!(again.starts_with(&table), "{again}\n{table}");
        assert!(again.contains("the receipt holds"), "{again}");
        let (_, document, _) = gpurouter(&["bench", "--recompute", &receipt, "--json"]);
        let document: Value = serde_json::from_str(&document).unwrap();
        let report = &document["report"];
        let schema = |name: &str| {
            let path = format!("{}/tests/schemas/{name}.json", env!("CARGO_MANIFEST_DIR"));
            std::fs::read_to_string(path).unwrap()
        };
        let figure = format!("\"allOf\": [{}]", schema("bench-figure"));
        let schema = schema("bench-replay").replace("\"$ref\": \"bench-figure.json\"", &figure);
        let schema: Value = serde_json::from_str(&schema).unwrap();
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        assert!(validator.is_valid(report), "{report}");
        let loads = &report["figures"]["traces"][0]["policies"][1]["loads"];
        assert_eq!(loads["tag"], tag, "{name}");
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn mistakes_are_told_with_a_way_out() {
    let (code, _, errors) = gpurouter(&["bench", "replay", "--trace", "aidr"]);
    assert_eq!(code, 2);
    assert!(errors.contains("did you mean `aider`?"), "{errors}");
    let (code, _, errors) = gpurouter(&["bench", "replay", "--with", "gpu0=voodoo2"]);
    assert_eq!(code, 2);
    assert!(errors.contains("no such GPU"), "{errors}");
    let file = std::env::temp_dir().join(format!("gpurouter-bad-{}.jsonl", std::process::id()));
    std::fs::write(&file, "{\"at_ms\":0,\"model\":\"m\"}\n{\"at_ms\":\"x\"}\n").unwrap();
    let (code, _, errors) = gpurouter(&["bench", "replay", file.to_str().unwrap()]);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(code, 2);
    assert!(
        errors.contains("line 2: not a request of a trace"),
        "{errors}"
    );
    let (code, list, _) = gpurouter(&["bench", "replay", "--list"]);
    assert_eq!((code, list.lines().count()), (0, builtins().len()));
}
