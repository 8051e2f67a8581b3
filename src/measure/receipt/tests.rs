//! Every field of every line is changed, and no change goes unseen.

use serde_json::json;

use super::*;
use crate::measure::cost::Price;
use crate::measure::figure::{Figure, Unit};
use crate::measure::observations::{Observable, Observations};
use crate::measure::paired::{
    Class, LiveSettings, Observation, Outcome, PairedSettings, Policy, Temperature,
};
use crate::measure::report::{Document, report};
use crate::measure::roi::{
    Attention, Evidence, Hardware, PayingApi, Power, RoiInputs, Rounding, Workload,
};

pub(super) fn header(bench: Bench) -> Header {
    Header {
        schema: SCHEMA,
        version: "0.1.0".to_owned(),
        date: "2026-11-25T22:30:00Z".to_owned(),
        machine: Machine {
            os: "linux".to_owned(),
            arch: "x86_64".to_owned(),
            cpu: Some("A processor".to_owned()),
            cores: Some(2),
            memory_bytes: Some(8 << 30),
            gpus: None,
        },
        bench,
    }
}

fn live() -> Bench {
    Bench::Live(LiveSettings {
        today: "ollama at http://127.0.0.1:11434".to_owned(),
        routed: "gpurouter".to_owned(),
        trace: "built-in".to_owned(),
        repeats: 2,
        max_tokens: Some(256),
        paired: PairedSettings {
            timeout_ms: 60_000.0,
            resamples: 20,
            ..PairedSettings::default()
        },
        classes: vec![Class::Simple, Class::Complex],
        idle_power: Figure::measured(12.5, Unit::Watts),
    })
}

fn roi() -> Bench {
    let known = Figure::configured;
    Bench::Roi(Box::new(RoiInputs {
        currency: "EUR".to_owned(),
        rounding: Rounding::Exact,
        evidence: Some(Evidence {
            sha256: "00".repeat(32),
            pairs: 7,
        }),
        slow: known(6.0, Unit::Seconds),
        fast: known(2.0, Unit::Seconds),
        workload: Workload::Team {
            developers: known(10.0, Unit::Count),
            per_developer: known(20.0, Unit::Count),
        },
        days: known(250.0, Unit::Days),
        rate: known(50.0, Unit::MoneyPerHour),
        attention: Attention::Share(known(0.1, Unit::Share)),
        api: PayingApi {
            share: known(0.5, Unit::Share),
            retries: known(0.1, Unit::Share),
            tokens_in: known(1_000.0, Unit::Tokens),
            tokens_cached: known(10.0, Unit::Tokens),
            tokens_out: known(100.0, Unit::Tokens),
            price: Price::of_the_sources(),
        },
        power: Power {
            energy: known(0.4, Unit::WattHours),
            idle: known(25.0, Unit::Watts),
            idle_hours: known(24.0, Unit::Hours),
            kwh: known(0.3, Unit::MoneyPerKilowattHour),
        },
        hardware: Some(Hardware {
            capex: known(350.0, Unit::Money),
            life: known(4.0, Unit::Years),
        }),
    }))
}

/// Eight observations: four requests, one of them cold and one of them failed when routed.
fn observed() -> Vec<Observation> {
    let mut observations = Vec::new();
    for pair in 0..4_u64 {
        for policy in [Policy::Today, Policy::Routed] {
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let number = (pair + 1) as f64;
            let factor = if policy == Policy::Today { 3.1 } else { 1.0 };
            let failed = (pair, policy) == (3, Policy::Routed);
            observations.push(Observation {
                n: 0,
                pair,
                request: pair,
                policy,
                temperature: if pair == 0 {
                    Temperature::Cold
                } else {
                    Temperature::Warm
                },
                outcome: if failed { Outcome::Failed } else { Outcome::Ok },
                ttft_ms: (!failed).then_some(100.7 * number * factor),
                total_ms: (!failed).then_some(901.3 * number * factor * number),
                prefill_ms: Some(80.1 * number),
                tokens_in: Some(500 + 10 * pair),
                tokens_cached: Some(3 + pair),
                tokens_out: Some(90 + pair),
                loads: Some(u64::from(pair == 0)),
                load_ms: Some(if pair == 0 { 8_000.5 } else { 0.0 }),
                passed: Some(!failed),
                energy_j: Some(41.7 * number),
            });
        }
    }
    observations
}

/// A receipt as a run writes it.
pub(super) fn written<T: Observable>(bench: Bench, seen: &[T]) -> String {
    let header = header(bench);
    let mut out = Vec::new();
    let mut recorder = Recorder::start(&mut out, &header).unwrap();
    let mut observations = Observations::of(&header.bench);
    for (n, one) in (0..).zip(seen) {
        recorder.observe(one).unwrap();
        assert!(observations.add(one.line(n)));
    }
    let figures = report(&header.bench, &observations).unwrap();
    recorder.finish(&Document::new(&header, figures)).unwrap();
    String::from_utf8(out).unwrap()
}

pub(super) fn holds(text: &str) -> bool {
    check(text.as_bytes()).is_ok_and(|checked| checked.findings.is_empty())
}

/// The text with the digest of its changed lines, as somebody would write it who wants the change to go unseen.
pub(super) fn resealed(text: &str) -> String {
    let (lines, last) = text.trim_end().rsplit_once('\n').unwrap();
    let lines = format!("{lines}\n");
    let mut seal = Seal::new();
    seal.add(lines.as_bytes());
    let mut closing: Value = serde_json::from_str(last).unwrap();
    closing["sha256"] = seal.hex().into();
    format!("{lines}{closing}\n")
}

/// Where every value inside is, as JSON pointers.
fn places(at: &str, value: &Value, all: &mut Vec<String>) {
    all.push(at.to_owned());
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields {
                places(&format!("{at}/{name}"), inner, all);
            }
        }
        Value::Array(items) => {
            for (index, inner) in items.iter().enumerate() {
                places(&format!("{at}/{index}"), inner, all);
            }
        }
        _ => {}
    }
}

/// A value changed in every way that keeps JSON, with what was done.
fn mutations(value: &Value) -> Vec<(&'static str, Value)> {
    match value {
        Value::Object(fields) => {
            let mut more = fields.clone();
            more.insert("one_more".to_owned(), json!(1));
            vec![(" with one more", more.into())]
        }
        Value::Array(items) => {
            let mut more = items.clone();
            more.push(json!(1));
            vec![(" with one more", more.into())]
        }
        Value::Number(number) => match (number.as_u64(), number.as_f64()) {
            (Some(integer), _) => vec![(" + 1", json!(integer + 1)), (" null", Value::Null)],
            (None, Some(number)) => vec![
                (" + 1", json!(number + 1.0)),
                (" a little more", json!(number * 1.000_001 + 1e-9)),
                (" null", Value::Null),
            ],
            (None, None) => Vec::new(),
        },
        Value::String(text) => vec![(" other text", json!(format!("{text}x")))],
        Value::Bool(bool) => vec![(" negated", json!(!bool))],
        Value::Null => vec![(" 1", json!(1))],
    }
}

/// Calls `seen` with the receipt changed at one place, for every place of every line and every change, and what was done.
pub(super) fn each_change(text: &str, mut seen: impl FnMut(&str, &str)) {
    let lines: Vec<&str> = text.lines().collect();
    for (index, line) in lines.iter().enumerate() {
        let mut tell = |done: &str, changed: &Value| {
            let mut whole = String::with_capacity(text.len() + 64);
            for (other, line) in lines.iter().enumerate() {
                if other == index {
                    whole += &changed.to_string();
                } else {
                    whole += line;
                }
                whole.push('\n');
            }
            seen(&format!("line {}{done}", index + 1), &whole);
        };
        let mut document: Value = serde_json::from_str(line).unwrap();
        let mut all = Vec::new();
        places("", &document, &mut all);
        for place in all {
            let value = document.pointer(&place).unwrap().clone();
            for (done, changed) in mutations(&value) {
                *document.pointer_mut(&place).unwrap() = changed;
                tell(&format!("{place}{done}"), &document);
            }
            for name in value.as_object().iter().flat_map(|fields| fields.keys()) {
                let mut fewer = value.clone();
                fewer.as_object_mut().unwrap().shift_remove(name);
                *document.pointer_mut(&place).unwrap() = fewer;
                tell(&format!("{place} without {name}"), &document);
            }
            *document.pointer_mut(&place).unwrap() = value;
        }
    }
}

fn samples() -> [String; 3] {
    let cost = Bench::Cost(crate::measure::cost::CostInputs {
        currency: "USD".to_owned(),
        tokens_in: Figure::configured(10.0, Unit::Tokens),
        tokens_cached: Figure::configured(0.0, Unit::Tokens),
        tokens_out: Figure::configured(261.0, Unit::Tokens),
        price: Price::of_the_sources(),
    });
    [
        written(live(), &observed()),
        written::<Observation>(roi(), &[]),
        written::<Observation>(cost, &[]),
    ]
}

#[test]
fn what_was_written_holds() {
    for text in samples() {
        let checked = check(text.as_bytes()).unwrap();
        assert_eq!(checked.findings, []);
        let stored = checked.receipt.closing.unwrap();
        let document = Document::new(&checked.receipt.header, checked.figures);
        assert_eq!(stored.report, serde_json::to_value(&document).unwrap());
    }
    let receipt = Receipt::read(samples()[0].as_bytes()).unwrap();
    let Observations::Live(all) = &receipt.observations else {
        panic!("{receipt:?}");
    };
    let ns: Vec<u64> = all.iter().map(|one| one.n).collect();
    assert_eq!(ns, [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn a_changed_field_of_any_line_is_seen() {
    let mut count = 0;
    for text in samples() {
        each_change(&text, |done, changed| {
            assert!(!holds(changed), "unseen: {done}");
            count += 1;
        });
    }
    assert!(count > 1_000, "{count} changes");
}

#[test]
fn a_changed_field_is_seen_even_with_a_new_digest() {
    // What no figure depends on: the times and the check of a request that was not answered (it counts at the time-out, as failed), and whether
    // "not known" is said or left out.
    let harmless = |done: &str| {
        let failed = ["ttft_ms", "total_ms", "prefill_ms", "passed"];
        done.starts_with("line 9") && failed.iter().any(|field| done.contains(field))
            || done == "line 1/machine without gpus"
    };
    let mut unseen = Vec::new();
    for text in samples() {
        let last = text.lines().count();
        each_change(&text, |done, changed| {
            // The new digest is the one change that this undoes.
            let digest = done.starts_with(&format!("line {last}")) && done.contains("sha256");
            if !digest && !harmless(done) && holds(&resealed(changed)) {
                unseen.push(done.to_owned());
            }
        });
    }
    assert_eq!(unseen, Vec::<String>::new());
}

#[test]
fn lines_that_are_missing_or_moved_are_seen() {
    for text in samples() {
        let lines: Vec<&str> = text.lines().collect();
        let joined = |lines: &[&str]| lines.join("\n") + "\n";
        for index in 0..lines.len() {
            let (mut without, mut twice) = (lines.clone(), lines.clone());
            without.remove(index);
            twice.insert(index, lines[index]);
            let mut changed = vec![joined(&without), joined(&twice)];
            for other in index + 1..lines.len() {
                let mut swapped = lines.clone();
                swapped.swap(index, other);
                changed.push(joined(&swapped));
            }
            for changed in changed {
                assert!(!holds(&changed), "line {}", index + 1);
                let lines = changed.lines().count();
                let last = changed.lines().last();
                if lines > 1 && last.is_some_and(|last| last.contains("sha256")) {
                    assert!(!holds(&resealed(&changed)), "line {}", index + 1);
                }
            }
        }
    }
}

#[test]
fn a_receipt_that_was_cut_off_says_so_and_still_reports() {
    let text = &samples()[0];
    let complete = check(text.as_bytes()).unwrap();
    let mut reports = 0;
    for end in (0..text.len()).step_by(7) {
        let Ok(checked) = check(&text.as_bytes()[..end]) else {
            continue;
        };
        assert!(
            matches!(checked.findings[..], [Finding::NoReport { .. }]),
            "cut at {end}: {:?}",
            checked.findings
        );
        // Everything but the report is there.
        if checked.receipt.observations.len() == 8 {
            assert_eq!(checked.figures, complete.figures);
            reports += 1;
        }
    }
    assert!(reports > 0);
    // A pair of which one half was observed is left out, and that is told.
    let three: String = text.split_inclusive('\n').take(4).collect();
    let checked = check(three.as_bytes()).unwrap();
    assert_eq!(checked.findings, [Finding::NoReport { unpaired: 1 }]);
}

#[test]
fn what_is_no_receipt_is_told_with_its_line() {
    let text = &samples()[0];
    let told = |text: &str| check(text.as_bytes()).unwrap_err().to_string();
    assert_eq!(told(""), "it is empty");
    assert_eq!(told("{"), "it is empty", "a line has an end");
    let newer = text.replacen("\"schema\":1", "\"schema\":2", 1);
    assert_eq!(
        told(&newer),
        "it is a receipt of version 2; this gpurouter reads version 1"
    );
    let cases = [
        (
            text.replacen("\"kind\":\"live\"", "\"kind\":\"dream\"", 1),
            "line 1: unknown variant `dream`",
        ),
        (
            text.replacen("\"loads\"", "\"boats\"", 1),
            "line 2: unknown field `boats`",
        ),
        (
            text.replacen("\"line\":\"request\"", "\"line\":\"wish\"", 1),
            "line 2: unknown variant `wish`",
        ),
        (
            text.replacen("\"n\":3", "\"n\":4", 1),
            "line 5: observation 4 where 3 should be",
        ),
        (
            format!("{text}{text}"),
            "line 11: nothing may come after the report",
        ),
        (
            text.lines().skip(1).collect::<Vec<_>>().join("\n") + "\n",
            "line 1: the header must be the first line",
        ),
        ("\u{0}\n".to_owned(), "line 1: expected value"),
        (
            samples()[2].replacen(
                "{\"line\":\"report\"",
                &format!("{}\n{{\"line\":\"report\"", text.lines().nth(1).unwrap()),
                1,
            ),
            "line 2: this kind of benchmark has no observations",
        ),
    ];
    for (text, expected) in cases {
        let told = told(&text);
        assert!(told.starts_with(expected), "{told} instead of {expected}");
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
        drop(check(&bytes));
    }

    #[test]
    fn no_changed_byte_is_unseen(place in 0_usize..10_000, byte in proptest::prelude::any::<u8>()) {
        let text = written(live(), &observed());
        let mut bytes = text.clone().into_bytes();
        let place = place % bytes.len();
        proptest::prop_assume!(bytes[place] != byte);
        bytes[place] = byte;
        let seen = !check(&bytes).is_ok_and(|checked| checked.findings.is_empty());
        // White space and the last digits of a number in the last line, the report itself, change nothing.
        let last = text.trim_end().rfind('\n').unwrap();
        proptest::prop_assert!(seen || place > last, "byte {} of {}", place, bytes.len());
    }

    #[test]
    fn numbers_survive(value in proptest::prelude::any::<f64>()) {
        proptest::prop_assume!(value.is_finite());
        let figure = Figure::measured(value, Unit::Joules);
        let text = serde_json::to_string(&figure).unwrap();
        proptest::prop_assert_eq!(serde_json::from_str::<Figure>(&text).unwrap(), figure);
    }
}
