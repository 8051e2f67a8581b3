//! Statistics against `NumPy` and `SciPy` (`tests/tools/measure_reference.py`), and receipts against a program that shares no code with ours
//! (`tests/tools/recompute_receipt.py`).
#![allow(
    clippy::print_stderr,
    reason = "what a test has to say goes to the test runner's stderr"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use gpurouter::measure::{
    Bench, Class, Document, Figure, Header, LiveSettings, Machine, Observation, Observations,
    Outcome, PairedSettings, Policy, Random, Recorder, SCHEMA, Temperature, Unit, bootstrap_mean,
    check, geometric_mean, mean, quantile, report, wilson,
};
use serde_json::Value;

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn reference() -> Value {
    let text = fs::read_to_string(tests().join("data/measure/reference.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    array(value)
        .iter()
        .map(|number| number.as_f64().unwrap())
        .collect()
}

/// Fails unless they are equal but for the order of a few additions.
#[track_caller]
fn close(found: f64, expected: &Value, told: &Value) {
    let expected = expected.as_f64().unwrap();
    assert!(
        (found - expected).abs() <= 1e-12 * expected.abs() + 1e-15,
        "{told}: {found} instead of {expected}"
    );
}

#[test]
fn percentiles_and_means_are_numpys() {
    let reference = reference();
    let mut compared = 0;
    for sample in array(&reference["quantiles"]) {
        let values = numbers(&sample["values"]);
        for pair in array(&sample["quantiles"]) {
            let share = pair[0].as_f64().unwrap();
            close(quantile(&values, share).unwrap(), &pair[1], pair);
            compared += 1;
        }
        close(mean(&values).unwrap(), &sample["mean"], &sample["name"]);
        let geometric = geometric_mean(&values).unwrap();
        close(geometric, &sample["geometric_mean"], &sample["name"]);
    }
    assert_eq!(compared, 70);
}

#[test]
fn bootstrap_intervals_are_numpys() {
    let reference = reference();
    for case in array(&reference["bootstraps"]) {
        let logs = numbers(&case["logs"]);
        let resamples = u32::try_from(case["resamples"].as_u64().unwrap()).unwrap();
        let mut random = Random::new(case["seed"].as_u64().unwrap());
        let interval = bootstrap_mean(&logs, resamples, &mut random).unwrap();
        close(interval.low, &case["interval"][0], &case["name"]);
        close(interval.high, &case["interval"][1], &case["name"]);
        // SciPy draws other resamples: the ends agree within the noise of drawing, which is far below the width.
        let scipy = numbers(&case["scipy"]);
        let width = scipy[1] - scipy[0];
        assert!((interval.low - scipy[0]).abs() < 0.05 * width, "{case}");
        assert!((interval.high - scipy[1]).abs() < 0.05 * width, "{case}");
    }
}

#[test]
fn pass_rate_intervals_are_scipys() {
    let reference = reference();
    for case in array(&reference["wilson"]) {
        let interval = wilson(case[0].as_u64().unwrap(), case[1].as_u64().unwrap()).unwrap();
        close(interval.low, &case[2], case);
        close(interval.high, &case[3], case);
    }
}

#[test]
fn there_is_no_statistic_of_nothing() {
    assert_eq!(quantile(&[], 0.5), None);
    assert_eq!(quantile(&[1.0, f64::NAN], 0.5), None);
    assert_eq!(quantile(&[1.0], 1.1), None);
    assert_eq!(mean(&[]), None);
    assert_eq!(geometric_mean(&[1.0, 0.0]), None);
    assert_eq!(geometric_mean(&[1.0, -1.0]), None);
    let mut random = Random::new(1);
    for (values, resamples) in [
        (&[][..], 10),
        (&[1.0][..], 10),
        (&[1.0, 2.0][..], 0),
        (&[1.0, 2.0][..], 100_001),
        (&[1.0, f64::INFINITY][..], 10),
    ] {
        assert_eq!(bootstrap_mean(values, resamples, &mut random), None);
    }
    assert_eq!((wilson(0, 0), wilson(2, 1)), (None, None));
}

/// An interval that is stated to hold the truth 95 times of 100 holds it about as often: 400 samples of 40 values whose mean is known.
#[test]
fn intervals_cover_what_they_claim() {
    let mut random = Random::new(20_261_125);
    let mut covered = 0;
    for _ in 0..400 {
        // The sum of twelve uniform numbers less six has mean 0 and deviation 1.
        let values: Vec<f64> = (0..40)
            .map(|_| {
                let sum: usize = (0..12).map(|_| random.below(1_000_000)).sum();
                f64::from(u32::try_from(sum).unwrap()) / 1e6 - 6.0
            })
            .collect();
        let interval = bootstrap_mean(&values, 400, &mut random).unwrap();
        covered += u32::from(interval.low <= 0.0 && interval.high >= 0.0);
    }
    assert!((360..=392).contains(&covered), "{covered} of 400");
}

/// A trace of 30 requests with 3 repeats: some cold, some failed, some cut, some unchecked, of differing lengths.
fn observations() -> Vec<Observation> {
    let mut random = Random::new(3);
    let mut observations = Vec::new();
    let mut upto = |most: usize| u32::try_from(random.below(most)).unwrap();
    for pair in 0..90_u64 {
        for policy in [Policy::Today, Policy::Routed] {
            let outcome = match upto(20) {
                0 => Outcome::Failed,
                1 => Outcome::Cut,
                2 => Outcome::TimedOut,
                _ => Outcome::Ok,
            };
            let answered = outcome == Outcome::Ok;
            let first = 20.0 + f64::from(upto(100_000)) / 100.0;
            observations.push(Observation {
                n: 0,
                pair,
                request: pair % 30,
                policy,
                temperature: if pair < 30 {
                    Temperature::Cold
                } else {
                    Temperature::Warm
                },
                outcome,
                ttft_ms: answered.then_some(first),
                total_ms: answered.then(|| first + f64::from(upto(900_000)) / 100.0 + 1.0),
                prefill_ms: answered.then_some(first / 2.0),
                tokens_in: Some(100 + u64::from(upto(4_000))),
                tokens_cached: Some(u64::from(upto(100))),
                tokens_out: answered.then_some(2 + u64::from(upto(500))),
                loads: Some(u64::from(upto(2))),
                load_ms: None,
                passed: Some(answered && upto(10) > 0),
                energy_j: None,
            });
        }
    }
    observations
}

fn receipt(observations: &[Observation]) -> Vec<u8> {
    let header = Header {
        schema: SCHEMA,
        version: "0.1.0".to_owned(),
        date: "2026-11-25T22:30:00Z".to_owned(),
        machine: Machine {
            os: "linux".to_owned(),
            arch: "x86_64".to_owned(),
            cpu: None,
            cores: Some(2),
            memory_bytes: None,
            gpus: None,
        },
        bench: Bench::Live(LiveSettings {
            today: "one ollama".to_owned(),
            routed: "gpurouter".to_owned(),
            trace: "invented".to_owned(),
            repeats: 3,
            max_tokens: None,
            paired: PairedSettings {
                resamples: 2_000,
                seed: 99,
                ..PairedSettings::default()
            },
            classes: vec![Class::Simple, Class::Complex],
            idle_power: Figure::unknown(Unit::Watts),
        }),
    };
    let mut out = Vec::new();
    let mut recorder = Recorder::start(&mut out, &header).unwrap();
    for observation in observations {
        recorder.observe(observation).unwrap();
    }
    let figures = report(&header.bench, &Observations::Live(observations.to_vec())).unwrap();
    recorder.finish(&Document::new(&header, figures)).unwrap();
    out
}

/// What the other program says of a receipt: its exit code and its words. `None` without Python.
fn other_program(receipt: &[u8], name: &str) -> Option<(i32, String)> {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("measure-{}-{name}.jsonl", std::process::id()));
    fs::write(&file, receipt).unwrap();
    let output = Command::new("python3")
        .arg(tests().join("tools/recompute_receipt.py"))
        .arg(&file)
        .output();
    fs::remove_file(&file).unwrap();
    let output = output.ok()?;
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    Some((output.status.code().unwrap_or(-1), told.into_owned()))
}

#[test]
fn another_program_recomputes_a_live_receipt() {
    let bytes = receipt(&observations());
    assert_eq!(check(&bytes).unwrap().findings, []);
    let Some((code, told)) = other_program(&bytes, "live") else {
        eprintln!("skipped: there is no python3");
        return;
    };
    assert_eq!(code, 0, "{told}");
    assert!(told.lines().count() > 40, "{told}");
    // It sees a change, too: the report of other observations.
    let text = String::from_utf8(bytes).unwrap();
    let changed = text.replacen("\"outcome\":\"failed\"", "\"outcome\":\"cut\"", 1);
    assert_ne!(text, changed);
    let (code, told) = other_program(changed.as_bytes(), "changed").unwrap();
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("differs: digest"), "{told}");
}
