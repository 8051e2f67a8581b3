//! `gpurouter classify` as a user meets it, and the figures of the scorer and of the token estimator on texts of this project.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use gpurouter::routing::{Family, classify, estimate_tokens};
use serde_json::Value;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

/// Runs `gpurouter classify` with these arguments and this stdin, in an empty directory.
fn run(args: &[&str], stdin: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_gpurouter"))
        .arg("classify")
        .args(args)
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .env_remove("GPUROUTER_CONFIG")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let stdin = stdin.to_owned();
    // The command may end without reading: a broken pipe here is its business.
    let writer = std::thread::spawn(move || pipe.write_all(&stdin));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join().unwrap();
    output
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn temporary(name: &str, content: &[u8]) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_bare_call_prints_the_class_and_nothing_else() {
    let output = run(&["Document", "this", "class"], b"");
    assert_eq!(
        (stdout(&output).as_str(), stderr(&output).as_str()),
        ("SIMPLE\n", "")
    );
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn stdin_is_one_prompt_without_arguments_and_with_a_dash() {
    for args in [&[][..], &["-"]] {
        let output = run(args, b"Implement a binary\nsearch tree\n");
        assert_eq!(stdout(&output), "COMPLEX\n", "{}", stderr(&output));
    }
}

#[test]
fn every_line_is_a_prompt_with_lines() {
    let output = run(&["--lines"], b"Document this class\n\nImplement OAuth2\r\n");
    assert_eq!(stdout(&output), "SIMPLE\nCOMPLEX\n");
    let output = run(&["--lines", "--json"], b"a\nb\n");
    let classes: Vec<Value> = stdout(&output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(classes.len(), 2);
    assert_eq!(classes[1]["ask"], "b");
}

#[test]
fn the_document_has_the_shape_of_its_schema() {
    let schema = std::fs::read_to_string(data("../schemas/classify.json")).unwrap();
    let schema = jsonschema::validator_for(&serde_json::from_str(&schema).unwrap()).unwrap();
    for prompt in [
        "Document this class",
        "Implement OAuth2 authentication",
        "🎉",
    ] {
        let output = run(&["--json", "--task", "docstring", prompt], b"");
        let document: Value = serde_json::from_str(&stdout(&output)).unwrap();
        let errors: Vec<_> = schema
            .iter_errors(&document)
            .map(|e| e.to_string())
            .collect();
        assert_eq!(errors, Vec::<String>::new(), "{document}");
        let p = &document["probabilities"];
        let sum: f64 = ["simple", "moderate", "complex"]
            .iter()
            .map(|class| p[class].as_f64().unwrap())
            .sum();
        assert!((sum - 1.0).abs() < 1e-9);
        assert_eq!(document["task"], "docstring");
    }
}

#[test]
fn the_explanation_names_the_words_and_fits_80_columns() {
    let long = format!("Implement a distributed\n\x1b[31m{}", "naïve ".repeat(300));
    let output = run(&["--explain", &long], b"");
    let text = stdout(&output);
    assert!(
        text.contains("implement") && text.contains("distributed"),
        "{text}"
    );
    assert!(!text.contains('\x1b'), "{text:?}");
    let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(widest <= 80, "{widest} columns:\n{text}");
}

#[test]
fn a_context_adds_tokens_but_no_requests() {
    let file = temporary(
        "context.rs",
        "// implement, design, build\n".repeat(500).as_bytes(),
    );
    let call = |args: &[&str]| -> Value {
        let output = run(args, b"");
        serde_json::from_str(&stdout(&output)).unwrap()
    };
    let alone = call(&["--json", "Explain what this function does"]);
    let with = call(&[
        "--json",
        "--context",
        &file,
        "Explain what this function does",
    ]);
    assert_eq!(with["complexity"], "SIMPLE");
    assert!(with["tokens"].as_u64().unwrap() > alone["tokens"].as_u64().unwrap() + 2000);
    let missing = call(&["--json", "--context", &file, "Implement the missing module"]);
    assert_eq!(missing["complexity"], "COMPLEX");
}

#[test]
fn the_ask_of_a_request_body_is_found() {
    let body = temporary(
        "body.json",
        br#"{"model": "auto", "messages": [
            {"role": "system", "content": "Design and implement everything."},
            {"role": "user", "content": [{"type": "text", "text": "<task>\nDocument this class\n</task>\n<environment_details>\nbuild.rs\n</environment_details>"}]}]}"#,
    );
    let output = run(&["--json", "--messages", &body], b"");
    let document: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(document["ask"], "Document this class");
    assert_eq!(document["complexity"], "SIMPLE");
    assert!(document["tokens"].as_u64().unwrap() > 20);
}

#[test]
fn the_selftest_prints_a_line_per_class() {
    let output = run(&["--selftest"], b"");
    assert_eq!(
        stdout(&output),
        "SIMPLE 4/4\nMODERATE 5/5\nCOMPLEX 6/6\n15/15 (100.0%)\nALL TESTS PASSED\n"
    );
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn eval_reports_and_its_threshold_decides_the_exit_code() {
    let file = temporary(
        "labelled.jsonl",
        b"{\"prompt\": \"Document this class\", \"label\": \"simple\"}\n\n{\"prompt\": \"Implement OAuth2\", \"label\": \"SIMPLE\"}\n",
    );
    let output = run(&["--eval", &file, "--json", "--min-accuracy", "0.5"], b"");
    let document: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(document["accuracy"], 0.5);
    assert_eq!(document["confusion"]["SIMPLE"]["COMPLEX"], 1);
    assert_eq!(output.status.code(), Some(0));
    let output = run(&["--eval", &file, "--min-accuracy", "0.51"], b"");
    assert!(
        stdout(&output).starts_with("accuracy  50.0% (1/2)\n"),
        "{}",
        stdout(&output)
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn what_cannot_be_classified_is_told_with_exit_2() {
    let bad_label = temporary(
        "bad_label.jsonl",
        b"{\"prompt\": \"x\", \"label\": \"HARD\"}\n",
    );
    let no_json = temporary("no_json.jsonl", b"{\"prompt\": \"x\"\n");
    let no_messages = temporary("no_messages.json", b"{\"model\": \"m\"}");
    for (args, stdin, expected) in [
        (&[][..], &b""[..], "the prompt is empty"),
        (&["  "], b"", "the prompt is empty"),
        (&[], b"\xff\xfe\x00", "not UTF-8 text (byte 0)"),
        (&["--lines"], b"ok\n\xff\n", "line 2: not UTF-8"),
        (
            &["--context", "/nonexistent", "x"],
            b"",
            "/nonexistent: cannot be read",
        ),
        (
            &["--messages", "/nonexistent"],
            b"",
            "/nonexistent: cannot be read",
        ),
        (&["--messages", &no_messages], b"", "no messages with text"),
        (
            &["--eval", &bad_label],
            b"",
            "bad_label.jsonl:1: unknown label \"HARD\"",
        ),
        (&["--eval", &no_json], b"", "no_json.jsonl:1: "),
        (&["--min-accuracy", "0.5", "x"], b"", "cannot be used with"),
        (
            &["--eval", &bad_label, "--min-accuracy", "7"],
            b"",
            "from 0 to 1",
        ),
        (&["--eval", "/"], b"", "/: cannot be read"),
    ] {
        let output = run(args, stdin);
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {told}");
        assert!(
            told.starts_with("error: ") && told.contains(expected),
            "{args:?}: {told}"
        );
    }
}

#[test]
fn a_closed_pipe_is_a_quiet_end() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_gpurouter"))
        .args(["classify", "--lines"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().unwrap();
    let _ = stdin.write_all(&b"Document this class\n".repeat(1000));
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), stderr(&output).as_str()),
        (Some(0), "")
    );
}

/// Accuracy by language over a labelled file, printed.
fn accuracy(name: &str) -> f64 {
    let text = std::fs::read_to_string(data(name)).unwrap();
    let mut by_language: BTreeMap<String, (u32, u32)> = BTreeMap::new();
    for line in text.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let got = classify(case["prompt"].as_str().unwrap()).complexity;
        let entry = by_language.entry(case["lang"].to_string()).or_default();
        entry.0 += u32::from(case["label"] == got.as_str());
        entry.1 += 1;
    }
    let (right, total) = by_language
        .values()
        .fold((0, 0), |(r, t), (right, n)| (r + right, t + n));
    println!("{name}: {right}/{total}, by language {by_language:?}");
    f64::from(right) / f64::from(total)
}

#[test]
fn labelled_prompts_keep_their_labels() {
    // Only the last file says how the scorer does on prompts it was not made for. The lists were corrected with the first in view. The
    // second was written before the scorer, but by the author of its lists, who knew it: it holds some of the same rare words. The third
    // was written afterwards and run once: 25 of 48 (52.1 %). One rule was changed after that, so it is not blind any more.
    assert!(accuracy("fresh.jsonl") >= 0.5);
    assert!(accuracy("multilingual.jsonl") >= 0.95);
    assert!(accuracy("holdout.jsonl") >= 0.85);
}

#[test]
fn token_estimates_are_near_real_counts() {
    let file = std::fs::read_to_string(data("token_counts.json")).unwrap();
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
        println!(
            "{:10} mean abs error {:4.1} %, more than 20 % too low: {:4.1} %",
            family.as_str(),
            mean * 100.0,
            low * 100.0
        );
        assert!(mean <= 0.10, "{}: mean abs error {mean}", family.as_str());
        assert!(low <= 0.03, "{}: too low {low}", family.as_str());
    }
}
