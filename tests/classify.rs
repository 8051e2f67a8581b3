//! The classifier as its users meet it: the library function on asks that trick keyword lists, and the command.

mod common;

use std::io::Write;
use std::process::{Output, Stdio};

use gpurouter::routing::{
    Classification, Complexity, Turn, TurnRole, classify, classify_with_context, shape_ask,
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

/// The bounds lie below what was measured when the set was written (98 % of the hold-out, 97 % of the parallel set): a change that
/// costs several prompts fails, one prompt does not.
#[test]
fn measured_accuracy_stays_above_its_bounds() {
    for (file, least) in [("holdout.jsonl", "0.90"), ("multilingual.jsonl", "0.90")] {
        let path = format!("{}/tests/data/{file}", env!("CARGO_MANIFEST_DIR"));
        let output = run(&["classify", "--eval", &path, "--min-accuracy", least], "");
        assert_eq!(output.status.code(), Some(0), "{file}: {}", text(&output));
        let output = run(&["classify", "--eval", &path, "--min-accuracy", "1"], "");
        assert_eq!(
            output.status.code(),
            Some(1),
            "{file}: no classifier is perfect"
        );
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
