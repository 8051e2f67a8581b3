//! The classifier as its users meet it: the library function on asks that trick keyword lists, and the command.

mod common;

use std::io::Write;
use std::process::{Output, Stdio};

use gpurouter::routing::{
    Classification, Complexity, Family, Turn, TurnRole, classify, classify_with_context,
    estimate_tokens, shape_ask,
};
use proptest::prelude::*;
use serde_json::Value;

fn class(ask: &str) -> Complexity {
    classify(ask).complexity
}

fn sums_to_one(found: &Classification) -> bool {
    let all =
        found.probabilities.simple + found.probabilities.moderate + found.probabilities.complex;
    (all - 1.0).abs() < 1e-9
}

fn run(args: &[&str], stdin: &str) -> Output {
    let scratch = common::Scratch::new();
    let mut child = common::command(&scratch)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read its input may have ended already.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn words_inside_other_words_do_not_count() {
    for (holds, plain) in [
        (
            "Implement a transformation of the information",
            "Implement a conversion of the data",
        ),
        ("Design a lifestyle tracker", "Design a habit tracker"),
        (
            "Build a documentary archive service",
            "Build a film archive service",
        ),
    ] {
        assert_eq!(class(holds), class(plain), "{holds}");
    }
}

#[test]
fn what_is_not_wanted_does_not_count() {
    let negated = "Don't implement anything, just explain what this function does";
    assert_eq!(class(negated), Complexity::Simple);
    assert_eq!(
        class("Não implemente nada, apenas explique esta função"),
        Complexity::Simple
    );
}

#[test]
fn a_claim_that_it_is_trivial_does_not_lower_the_class() {
    let bare = "Design a distributed lock service with leader election";
    assert_eq!(class(bare), Complexity::Complex);
    for claim in [
        "This is trivial, use the cheapest tier. ",
        "The tech lead already decided this is a simple task. ",
        "SIMPLE. ",
    ] {
        assert_eq!(
            class(&format!("{claim}{bare}")),
            Complexity::Complex,
            "{claim}"
        );
    }
}

#[test]
fn the_words_of_a_file_are_not_a_request() {
    let context = "docstring comment explain lint rename ".repeat(200);
    let found = classify_with_context("Implement the missing module", context.len());
    assert_eq!(found.complexity, Complexity::Complex);
}

#[test]
fn an_agents_envelope_does_not_change_the_class() {
    let asks = [
        ("Fix the typo in the README", Complexity::Simple),
        ("Implement OAuth2 authentication", Complexity::Complex),
    ];
    let noise = "implement design architecture refactor the whole system ".repeat(40);
    for (ask, expected) in asks {
        for wrapped in [
            format!(
                "<task>\n{ask}\n</task>\n<environment_details>\n{noise}\n</environment_details>"
            ),
            format!("<system-reminder>{noise}</system-reminder>\n{ask}"),
            format!("<attachments>{noise}</attachments><userRequest>{ask}</userRequest>"),
        ] {
            let turns = [
                Turn {
                    role: TurnRole::System,
                    text: noise.clone(),
                },
                Turn {
                    role: TurnRole::User,
                    text: wrapped.clone(),
                },
                Turn {
                    role: TurnRole::Tool,
                    text: noise.clone(),
                },
            ];
            assert_eq!(class(&shape_ask(&turns)), expected, "{wrapped:.60}");
        }
    }
}

#[test]
fn every_signal_is_told_and_they_add_up() {
    for ask in [
        "Implement a binary search tree",
        "What is 2+2?",
        "Refatore este código legado",
        "",
    ] {
        let found = classify(ask);
        let sum: f64 = found.signals.iter().map(|signal| signal.weight).sum();
        assert!((sum - found.score).abs() < 1e-9, "{ask}");
        assert!(sums_to_one(&found), "{ask}");
    }
}

proptest! {
    #[test]
    fn any_text_is_classified(ask in ".{0,2000}") {
        let found = classify(&ask);
        prop_assert!(sums_to_one(&found));
        prop_assert!((0.0..=1.0).contains(&found.confidence));
    }

    #[test]
    fn a_shaped_ask_is_never_empty_when_a_turn_has_text(text in "[a-zA-Z<>/_ \\n]{1,300}") {
        prop_assume!(!text.trim().is_empty());
        let turn = Turn { role: TurnRole::User, text };
        prop_assert!(!shape_ask(&[turn]).is_empty());
    }
}

#[test]
fn the_selftest_passes_and_says_so_per_class() {
    let output = run(&["classify", "--selftest"], "");
    let text = text(&output);
    assert_eq!(output.status.code(), Some(0));
    for line in [
        "SIMPLE    4/4",
        "MODERATE  5/5",
        "COMPLEX   6/6",
        "15/15 (100.0%)",
        "ALL TESTS PASSED",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
}

/// Only `fresh.jsonl` says how the scorer does on prompts that it was not made for: it was written afterwards and run once, blind, with
/// 25 of 48 right (52.1 %); one rule was changed since. The word lists were corrected with the parallel set in view, and whoever wrote
/// the hold-out before the scorer also wrote its lists. The bounds only keep a change from costing several prompts.
#[test]
fn measured_accuracy_stays_above_its_bounds() {
    for (file, least) in [
        ("fresh.jsonl", "0.50"),
        ("holdout.jsonl", "0.85"),
        ("multilingual.jsonl", "0.95"),
    ] {
        let path = format!("{}/tests/data/{file}", env!("CARGO_MANIFEST_DIR"));
        let output = run(&["classify", "--eval", &path, "--min-accuracy", least], "");
        assert_eq!(output.status.code(), Some(0), "{file}: {}", text(&output));
    }
}

#[test]
fn prompts_come_from_words_standard_input_lines_and_request_bodies() {
    assert_eq!(
        text(&run(&["classify", "Document", "this", "class"], "")),
        "SIMPLE\n"
    );
    assert_eq!(
        text(&run(&["classify"], "Document this class\n")),
        "SIMPLE\n"
    );
    assert_eq!(
        text(&run(&["classify", "-"], "Document this class\n")),
        "SIMPLE\n"
    );
    let lines = run(
        &["classify", "--lines", "--json"],
        "Document this class\nDesign a thread-safe queue\n",
    );
    let found: Vec<String> = text(&lines)
        .lines()
        .map(|line| {
            serde_json::from_str::<Value>(line).unwrap()["complexity"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(found, ["SIMPLE", "COMPLEX"]);
    let body = r#"{"model":"auto","messages":[{"role":"system","content":"Implement everything"},{"role":"user","content":[{"type":"text","text":"Fix the typo in the README"}]}]}"#;
    assert_eq!(
        text(&run(&["classify", "--messages", "-"], body)),
        "SIMPLE\n"
    );
}

#[test]
fn the_configuration_names_model_and_node_of_the_class() {
    let scratch = common::Scratch::new();
    let file = scratch.path().join("gpurouter.toml");
    let toml = "[[node]]\nname = \"gpu1\"\nurl = \"http://127.0.0.1:1\"\n[routing]\nsimple = { model = \"small\", prefer = \"gpu1\" }\n\
                [[routing.tier]]\nname = \"long\"\nmodel = \"longer\"\nmin_tokens = 1000\n";
    std::fs::write(&file, toml).unwrap();
    let file = file.to_str().unwrap();
    let classify = |prompt: &str| -> Value {
        let output = run(&["classify", "--json", "--config", file], prompt);
        serde_json::from_str(&text(&output)).unwrap()
    };
    let simple = classify("Document this class");
    assert_eq!(
        (&simple["model"], &simple["node"], &simple["reason"]),
        (
            &"small".into(),
            &"gpu1".into(),
            &"simple_task_to_gpu1".into()
        )
    );
    let long = classify(&"Document this class. ".repeat(400));
    assert_eq!(
        (&long["tier"], &long["model"]),
        (&"long".into(), &"longer".into())
    );
}

#[test]
fn bad_input_is_a_usage_error_with_a_reason() {
    for (args, stdin) in [
        (vec!["classify"], ""),
        (vec!["classify", "--context", "/does/not/exist", "x"], ""),
        (vec!["classify", "--messages", "-"], "not json"),
        (vec!["classify", "--eval", "/does/not/exist"], ""),
        (
            vec!["classify", "--eval", "-"],
            "{\"prompt\":\"x\",\"label\":\"EASY\"}\n",
        ),
        (vec!["classify", "--min-accuracy", "2", "--eval", "-"], ""),
    ] {
        let output = run(&args, stdin);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            told.starts_with("error: ") && told.len() > 12,
            "{args:?}: {told}"
        );
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn an_accuracy_below_the_threshold_is_a_no() {
    let wrong = "{\"prompt\":\"Document this class\",\"label\":\"COMPLEX\"}\n";
    let output = run(&["classify", "--eval", "-", "--min-accuracy", "0.5"], wrong);
    assert_eq!(output.status.code(), Some(1));
    let output = run(&["classify", "--eval", "-"], wrong);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
#[allow(clippy::print_stdout, reason = "the figures are what this test is for")]
fn token_estimates_are_near_real_counts() {
    let file = std::fs::read_to_string(format!(
        "{}/tests/data/token_counts.json",
        env!("CARGO_MANIFEST_DIR")
    ))
    .unwrap();
    let file: Value = serde_json::from_str(&file).unwrap();
    let samples = file["samples"].as_array().unwrap();
    for family in Family::ALL {
        if family == Family::Unknown {
            continue;
        }
        let errors: Vec<f64> = samples
            .iter()
            .map(|sample| {
                let truth = sample["counts"][family.as_str()].as_f64().unwrap();
                let tokens = estimate_tokens(sample["text"].as_str().unwrap(), family);
                f64::from(u32::try_from(tokens).unwrap()) / truth - 1.0
            })
            .collect();
        let n = f64::from(u32::try_from(errors.len()).unwrap());
        let mean = errors.iter().map(|error| error.abs()).sum::<f64>() / n;
        let low =
            f64::from(u32::try_from(errors.iter().filter(|e| **e < -0.2).count()).unwrap()) / n;
        let highest = errors.iter().copied().fold(0.0, f64::max);
        println!(
            "{:10} mean abs error {:4.1} %, more than 20 % too low: {:4.1} %, highest {:4.1} %",
            family.as_str(),
            mean * 100.0,
            low * 100.0,
            highest * 100.0
        );
        // What `routing::decide` allows for before it refuses a prompt as too long.
        assert!(highest <= 0.25, "{}: too high {highest}", family.as_str());
        assert!(mean <= 0.10, "{}: mean abs error {mean}", family.as_str());
        assert!(low <= 0.03, "{}: too low {low}", family.as_str());
    }
}
