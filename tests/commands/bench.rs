//! `gpurouter bench`: the source documents' figures, receipts, and what is refused.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use clap::CommandFactory;
use gpurouter::cli::Cli;
use gpurouter::measure::{
    Bench, Class, Document, Figure, Header, LiveSettings, Machine, Observation, Observations,
    Outcome, PairedSettings, Policy, Recorder, SCHEMA, Temperature, Unit, report,
};
use serde_json::{Value, json};

use super::schemas::holds;
use super::{Done, User, fits};

/// The source documents' headline.
const SOURCES: [&str; 12] = [
    "bench",
    "roi",
    "--slow",
    "19",
    "--fast",
    "0.34",
    "--requests",
    "200",
    "--days",
    "250",
    "--rate",
    "50",
];

const PRICES: &str = "[prices]\nas_of = 2026-11-01\ncurrency = \"USD\"\nkwh = 0.30\n[prices.models.m]\ninput = 2.0\ncached_input = 0.5\noutput = 8.0\n[prices.models.plain]\ninput = 0.15\noutput = 0.6\n";

fn with<'a>(arguments: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [arguments, more].concat()
}

/// Fails unless it went well and every line is plain and short.
fn printed(done: &Done) -> &str {
    assert_eq!((done.code, done.err.as_str()), (0, ""), "{done:?}");
    fits(&done.out);
    assert!(
        !done
            .out
            .chars()
            .any(|letter| letter.is_control() && letter != '\n'),
        "{done:?}"
    );
    &done.out
}

/// The line that begins with this label.
fn line<'a>(text: &'a str, label: &str) -> &'a str {
    text.lines()
        .find(|line| line.starts_with(label))
        .unwrap_or_else(|| panic!("no line `{label}` in:\n{text}"))
}

fn value(document: &Value, pointer: &str) -> f64 {
    document
        .pointer(pointer)
        .and_then(|figure| figure["value"].as_f64())
        .unwrap_or_else(|| panic!("no figure {pointer} in {document}"))
}

#[track_caller]
fn is(document: &Value, pointer: &str, expected: f64) {
    let found = value(document, pointer);
    assert!(
        (found - expected).abs() <= 1e-9 * expected.abs(),
        "{pointer}: {found} instead of {expected}"
    );
}

#[test]
fn the_sources_headline_is_reproduced() {
    let user = User::alone("");
    let done = user.run(&SOURCES);
    let text = printed(&done);
    for (label, said) in [
        ("speed-up", "55.9x, 98.2 % less time"),
        ("a day", "63.33 min      1.13 min      62.20 min"),
        ("a year", "263.89 h        4.72 h       259.17 h"),
        ("value of the time", "$12,958.33 a year at $50.00/h"),
        ("net a year", "n/a"),
    ] {
        assert!(line(text, label).contains(said), "{text}");
    }
    assert!(text.contains("the sources' arithmetic: every waited second is a paid one"));
    assert!(text.contains("not like for like"));
    assert!(text.contains("nothing here was measured"));
    for label in [
        "a request",
        "a day",
        "a year",
        "speed-up",
        "value of the time",
    ] {
        assert!(line(text, label).ends_with("configured"), "{text}");
    }
    let json = user.run(&with(&SOURCES, &["--json"])).json();
    holds("bench-roi", &json);
    is(&json, "/figures/speedup", 19.0 / 0.34);
    is(&json, "/figures/day/slow", 63.0 + 1.0 / 3.0);
    is(&json, "/figures/day/saved", 62.2);
    is(&json, "/figures/year/slow", 263.0 + 8.0 / 9.0);
    is(&json, "/figures/year/saved", 259.0 + 1.0 / 6.0);
    is(&json, "/figures/time/money", 12_958.0 + 1.0 / 3.0);
    assert_eq!(json["figures"]["time"]["money"]["tag"], "configured");
    assert_eq!(json["figures"]["time"]["basis"], "sources");
}

#[test]
fn rounded_like_the_sources_it_is_their_sum() {
    let user = User::alone("");
    let rounded = with(&SOURCES, &["--rounding", "source"]);
    let done = user.run(&rounded);
    let text = printed(&done);
    assert!(
        line(text, "a day").contains("63.3 min       1.1 min       62.2 min"),
        "{text}"
    );
    assert!(
        line(text, "a year").contains("264 h         4.6 h        259.4 h"),
        "{text}"
    );
    assert!(
        line(text, "value of the time").contains("$12,970 a year"),
        "{text}"
    );
    let json = user.run(&with(&rounded, &["--json"])).json();
    holds("bench-roi", &json);
    for (pointer, expected) in [
        ("/figures/day/slow", 63.3),
        ("/figures/day/fast", 1.1),
        ("/figures/year/slow", 264.0),
        ("/figures/year/fast", 4.6),
        ("/figures/year/saved", 259.4),
        ("/figures/time/money", 12_970.0),
    ] {
        is(&json, pointer, expected);
    }
}

#[test]
fn a_team_is_as_many_requests() {
    let user = User::alone("");
    let team = [
        "bench",
        "roi",
        "--slow",
        "19",
        "--fast",
        "0.34",
        "--developers",
        "10",
        "--per-developer",
        "20",
        "--days",
        "250",
        "--rate",
        "50",
    ];
    let done = user.run(&team);
    assert!(line(printed(&done), "requests").contains("10 people x 20 = 200 a day"));
    let team = user.run(&with(&team, &["--json"])).json();
    holds("bench-roi", &team);
    let alone = user.run(&with(&SOURCES, &["--json"])).json();
    assert_eq!(team["figures"], alone["figures"]);
}

#[test]
fn waiting_is_paid_only_as_far_as_somebody_says_so() {
    let user = User::alone("");
    let done = user.run(&with(&SOURCES, &["--attention", "0.1"]));
    let text = printed(&done);
    assert!(
        line(text, "value of the time").contains("$1,295.83 a year"),
        "{text}"
    );
    assert!(
        text.contains("10.0 % of it paid attention: 25.92 h"),
        "{text}"
    );
    assert!(!text.contains("the sources' arithmetic"), "{text}");
    let without = user.run(&SOURCES[..10]);
    let text = printed(&without);
    assert!(!text.contains("value of the time"), "{text}");
    assert!(line(text, "a year").contains("259.17 h"));
    let none = user.run(&with(&SOURCES[..10], &["--attention", "0.1"]));
    none.refused(2, "--rate", "");
}

#[test]
fn a_year_with_everything_that_costs() {
    let user = User::alone(PRICES);
    let all = [
        "bench",
        "roi",
        "--slow",
        "6",
        "--fast",
        "2",
        "--requests",
        "200",
        "--days",
        "250",
        "--api-share",
        "0.4",
        "--retries",
        "0.05",
        "--tokens-in",
        "2000",
        "--tokens-cached",
        "1000",
        "--tokens-out",
        "300",
        "--energy",
        "0.4",
        "--idle-watts",
        "25",
        "--capex",
        "350",
        "--life",
        "4",
        "--model",
        "m",
    ];
    let done = user.run(&all);
    let text = printed(&done);
    // 50,000 requests: (1000 x 2 + 1000 x 0.5 + 300 x 8) / 1e6 = 0.0049 each.
    for (label, said) in [
        ("prices", "m as of 2026-11-01; $0.30/kWh"),
        ("API not paid", "$98.00"),
        ("less retries", "$12.25"),
        ("less energy", "$6.00  20.0 kWh above idle"),
        ("less idle power", "$65.70  219.0 kWh, 25 W for 24 h a day"),
        ("less hardware", "$87.50  $350.00 over 4 years"),
        ("net a year", "-$73.45"),
        ("payback", "298.9 months"),
    ] {
        assert!(line(text, label).contains(said), "{label} {said}\n{text}");
    }
    let json = user.run(&with(&all, &["--json"])).json();
    holds("bench-roi", &json);
    is(&json, "/figures/net", 98.0 - 12.25 - 6.0 - 65.7 - 87.5);
    assert_eq!(json["figures"]["missing"], json!([]));
    let never = user.run(&with(&all, &["--idle-watts", "200"]));
    never.refused(2, "cannot be used multiple times", "");
    let changed = |flag: &str, value: &'static str| -> Vec<&str> {
        let mut changed = all.to_vec();
        let at = all.iter().position(|word| *word == flag).unwrap();
        changed[at + 1] = value;
        changed
    };
    let dear = changed("--idle-watts", "200");
    let done = user.run(&dear);
    assert!(
        line(printed(&done), "payback").contains("never"),
        "{done:?}"
    );
    // A price that the sheet does not have is no price.
    let plain = changed("--model", "plain");
    let done = user.run(&plain);
    let text = printed(&done);
    assert!(line(text, "net a year").contains("n/a"), "{text}");
    assert!(
        line(text, "the net needs").contains("--model with a price"),
        "{text}"
    );
}

#[test]
fn what_is_not_given_is_not_available() {
    let user = User::alone("");
    let bare = ["bench", "roi", "--slow", "19", "--fast", "0.34"];
    let done = user.run(&bare);
    let text = printed(&done);
    assert!(line(text, "speed-up").contains("55.9x"), "{text}");
    for label in ["a day", "a year", "requests", "net a year"] {
        assert!(line(text, label).ends_with("unknown"), "{text}");
    }
    let json = user.run(&with(&bare, &["--json"])).json();
    holds("bench-roi", &json);
    assert_eq!(
        json["figures"]["year"]["saved"],
        json!({"value": null, "unit": "hours", "tag": "unknown"})
    );
}

#[test]
fn tokens_cost_what_the_sources_or_the_sheet_say() {
    let tokens = ["bench", "cost", "--tokens-in", "10", "--tokens-out", "261"];
    let user = User::alone("");
    let done = user.run(&tokens);
    let text = printed(&done);
    assert!(line(text, "cost").contains("$0.00542  ($0.0054)"), "{text}");
    assert!(line(text, "cost").ends_with("configured"), "{text}");
    assert!(
        text.contains("271 tokens at the source documents' $0.02 per thousand"),
        "{text}"
    );
    let json = user.run(&with(&tokens, &["--json"])).json();
    holds("bench-cost", &json);
    assert_eq!(json["figures"]["cost"]["value"], 0.005_42);
    assert_eq!(json["settings"]["price"]["basis"], "sources");
    let unpriced = user.run(&with(&tokens, &["--model", "m"]));
    unpriced.refused(2, "no price is configured for `m`", "[prices.models]");
    let user = User::alone(PRICES);
    let done = user.run(&with(&tokens, &["--model", "m"]));
    let text = printed(&done);
    assert!(
        line(text, "cost").contains("$0.002108  ($0.0021)"),
        "{text}"
    );
    assert!(
        text.contains("271 tokens at m as of 2026-11-01, per million: prompt $2.00"),
        "{text}"
    );
    holds(
        "bench-cost",
        &user.run(&with(&tokens, &["--model", "m", "--json"])).json(),
    );
    let other = user.run(&with(&tokens, &["--model", "n"]));
    other.refused(
        2,
        "no price is configured for `n`",
        "there are prices for m, plain",
    );
    let more = user.run(&with(&tokens, &["--tokens-cached", "11"]));
    more.refused(2, "--tokens-cached is more than --tokens-in", "");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let user = User::alone("");
    let roi = |more: &[&str]| user.run(&with(&["bench", "roi", "--slow", "19"], more));
    roi(&[]).refused(2, "--fast", "");
    roi(&["--fast", "0"]).refused(2, "a number above 0", "");
    roi(&["--fast", "NaN"]).refused(2, "a number above 0", "");
    roi(&["--fast", "1", "--days", "-1"]).refused(2, "", "");
    roi(&["--fast", "1", "--rate", "1", "--attention", "1.1"]).refused(2, "from 0 to 1", "");
    roi(&["--fast", "1", "--idle-hours", "25"]).refused(2, "0 to 24", "");
    roi(&["--fast", "1", "--capex", "1"]).refused(2, "--life", "");
    roi(&[
        "--fast",
        "1",
        "--requests",
        "1",
        "--developers",
        "1",
        "--per-developer",
        "1",
    ])
    .refused(2, "cannot be used with", "");
    roi(&["--fast", "1", "--tokens-in", "1", "--tokens-cached", "2"]).refused(
        2,
        "--tokens-cached is more than",
        "",
    );
    // Alone it says what it would measure (tests/bench_live.rs), which is nothing to write down.
    user.run(&["bench", "--receipt", "x"])
        .refused(2, "unexpected argument", "");
    user.run(&with(&SOURCES, &["--recompute", "x"]))
        .refused(2, "unexpected argument", "");
    let both = user.run(&with(&["bench", "--recompute", "x"], &SOURCES[1..]));
    both.refused(2, "reads from the file", "");
}

#[test]
fn a_receipt_reproduces_its_report() {
    let user = User::alone(PRICES);
    let cost = ["bench", "cost", "--tokens-in", "10", "--tokens-out", "261"];
    for (name, arguments) in [("roi", &SOURCES[..]), ("cost", &cost[..])] {
        let file = format!("{name}.jsonl");
        let told = user.run(&with(arguments, &["--receipt", &file]));
        let text = printed(&told).to_owned();
        let again = user.run(&["bench", "--recompute", &file]);
        let recomputed = printed(&again);
        assert!(recomputed.starts_with(&text), "{recomputed}\n{text}");
        assert!(recomputed.contains("the receipt holds"), "{recomputed}");
        let json = user.run(&["bench", "--recompute", &file, "--json"]).json();
        holds("bench-recompute", &json);
        assert_eq!(json["holds"], true);
        holds(&format!("bench-{name}"), &json["report"]);
        // What a receipt holds does not depend on the configuration of the day.
        let other = User::alone("");
        let bytes = fs::read_to_string(user.scratch.path().join(&file)).unwrap();
        other.scratch.write(&file, &bytes);
        assert_eq!(other.run(&["bench", "--recompute", &file]).out, again.out);
        let piped = other.run_with(&["bench", "--recompute", "-"], &bytes);
        assert_eq!(piped.out, again.out);
        // It is never written over.
        let twice = user.run(&with(arguments, &["--receipt", &file]));
        twice.refused(2, "cannot write", "never written over");
        assert_eq!(
            bytes,
            fs::read_to_string(user.scratch.path().join(&file)).unwrap()
        );
        let nowhere = user.run(&with(arguments, &["--receipt", "no/such/place"]));
        nowhere.refused(2, "cannot write", "");
    }
}

#[test]
fn a_changed_receipt_says_where() {
    let user = User::alone("");
    user.run(&with(&SOURCES, &["--receipt", "good.jsonl"]));
    let good = fs::read_to_string(user.scratch.path().join("good.jsonl")).unwrap();
    let changed = |text: &str| {
        assert_ne!(text, good);
        user.scratch.write("bad.jsonl", text);
        user.run(&["bench", "--recompute", "bad.jsonl"])
    };
    let input = changed(&good.replacen("\"value\":19.0", "\"value\":20.0", 1));
    assert_eq!(input.code, 1, "{input:?}");
    assert!(
        input.out.contains("does not hold: its lines were changed"),
        "{input:?}"
    );
    let pointer = "figures.time.money.value: the report says";
    assert!(input.out.contains(pointer), "{input:?}");
    let report = changed(&good.replacen("12958.333333333334", "12970.0", 1));
    assert_eq!(report.code, 1, "{report:?}");
    assert!(
        report.out.contains("figures.time.money.value"),
        "{report:?}"
    );
    assert!(!report.out.contains("its lines were changed"), "{report:?}");
    let json = user.run(&["bench", "--recompute", "bad.jsonl", "--json"]);
    assert_eq!(json.code, 1);
    holds("bench-recompute", &json.json());
    assert_eq!(
        json.json()["findings"][0]["computed"],
        12_958.333_333_333_334
    );
    let cut = changed(good.lines().next().unwrap());
    cut.refused(2, "it is empty", "");
    let unended = changed(&format!("{}\n", good.lines().next().unwrap()));
    assert_eq!(unended.code, 1, "{unended:?}");
    assert!(
        unended.out.contains("there is no report at the end"),
        "{unended:?}"
    );
    changed(&good.replacen("\"schema\":1", "\"schema\":9", 1)).refused(2, "version 9", "");
    changed(&good.replacen("\"rounding\"", "\"sounding\"", 1)).refused(
        2,
        "line 1: unknown field `sounding`",
        "",
    );
    changed(&format!("{good}{good}")).refused(1, "nothing may come after the report", "");
    changed("{}\n").refused(2, "line 1: missing field `line`", "");
    changed("not a receipt\n").refused(2, "line 1:", "");
    user.run(&["bench", "--recompute", "none.jsonl"])
        .refused(2, "cannot read", "");
}

/// A live receipt: 200 requests, twice as fast, every answer checked; the given one failed its check.
fn live(failed: &[u64]) -> String {
    let header = Header {
        schema: SCHEMA,
        version: "0.1.0".to_owned(),
        date: "2026-11-25T22:30:00Z".to_owned(),
        machine: Machine {
            os: "linux".to_owned(),
            arch: "x86_64".to_owned(),
            cpu: None,
            cores: None,
            memory_bytes: None,
            gpus: Some(vec!["RTX 3060".to_owned()]),
        },
        bench: Bench::Live(LiveSettings {
            today: "ollama at http://127.0.0.1:11434".to_owned(),
            routed: "gpurouter at http://127.0.0.1:8512".to_owned(),
            trace: "built-in".to_owned(),
            repeats: 1,
            max_tokens: Some(64),
            paired: PairedSettings::default(),
            classes: vec![Class::Simple, Class::Complex],
            idle_power: Figure::unknown(Unit::Watts),
        }),
    };
    let mut out = Vec::new();
    let mut recorder = Recorder::start(&mut out, &header).unwrap();
    let mut observations = Vec::new();
    for pair in 0..200_u64 {
        for (policy, factor) in [(Policy::Today, 2.0), (Policy::Routed, 1.0)] {
            let total = factor * f64::from(u32::try_from(100 + pair).unwrap());
            let observation = Observation {
                n: 0,
                pair,
                request: pair,
                policy,
                temperature: if pair < 10 {
                    Temperature::Cold
                } else {
                    Temperature::Warm
                },
                outcome: Outcome::Ok,
                ttft_ms: Some(total / 5.0),
                total_ms: Some(total),
                prefill_ms: None,
                tokens_in: Some(100),
                tokens_cached: None,
                tokens_out: Some(64),
                loads: Some(u64::from(pair < 10 && policy == Policy::Today)),
                load_ms: None,
                passed: Some(policy == Policy::Today || !failed.contains(&pair)),
                energy_j: None,
            };
            recorder.observe(&observation).unwrap();
            observations.push(observation);
        }
    }
    let figures = report(&header.bench, &Observations::Live(observations)).unwrap();
    recorder.finish(&Document::new(&header, figures)).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_live_receipt_is_told() {
    let user = User::alone("");
    user.scratch.write("live.jsonl", &live(&[]));
    let done = user.run(&["bench", "--recompute", "live.jsonl"]);
    let text = printed(&done);
    assert!(
        text.contains("routed is 2.00x [2.00, 2.00] as fast as today"),
        "{text}"
    );
    assert!(text.contains("10 loads were avoided"), "{text}");
    assert!(
        text.contains("cold: not in memory, 10 pairs of 10 requests"),
        "{text}"
    );
    let json = user
        .run(&["bench", "--recompute", "live.jsonl", "--json"])
        .json();
    holds("bench-recompute", &json);
    holds("bench-live", &json["report"]);
    // Worse answers: the same times, and no headline.
    user.scratch
        .write("worse.jsonl", &live(&[3, 77, 78, 79, 80, 81]));
    let done = user.run(&["bench", "--recompute", "worse.jsonl"]);
    let text = printed(&done);
    assert!(text.contains("NOT COMPARABLE"), "{text}");
    assert!(!text.contains("as fast as today"), "{text}");
    let json = user
        .run(&["bench", "--recompute", "worse.jsonl", "--json"])
        .json();
    holds("bench-live", &json["report"]);
    assert_eq!(json["report"]["figures"]["headline"], Value::Null);
}

#[test]
#[expect(
    clippy::print_stderr,
    reason = "what a test has to say goes to the test runner's stderr"
)]
fn the_other_program_agrees() {
    let user = User::alone(PRICES);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tools/recompute_receipt.py");
    let with_all = with(
        &SOURCES,
        &[
            "--attention",
            "0.25",
            "--api-share",
            "0.4",
            "--retries",
            "0.05",
            "--tokens-in",
            "2000",
            "--tokens-cached",
            "1500",
            "--tokens-out",
            "300",
            "--energy",
            "0.4",
            "--idle-watts",
            "25",
            "--capex",
            "350",
            "--life",
            "4",
            "--model",
            "m",
        ],
    );
    let rounded = with(&SOURCES, &["--rounding", "source"]);
    let cost = [
        "bench",
        "cost",
        "--tokens-in",
        "9000",
        "--tokens-cached",
        "8000",
        "--tokens-out",
        "40",
        "--model",
        "m",
    ];
    for (name, arguments) in [
        ("all", &with_all[..]),
        ("sources", &SOURCES[..]),
        ("rounded", &rounded),
        ("bare", &SOURCES[..6]),
        ("cost", &cost),
    ] {
        let file = format!("{name}.jsonl");
        user.run(&with(arguments, &["--receipt", &file]));
        let output = Command::new("python3")
            .arg(&script)
            .arg(user.scratch.path().join(&file))
            .stdin(Stdio::null())
            .output();
        let Ok(output) = output else {
            eprintln!("skipped: there is no python3");
            return;
        };
        let told = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{name}: {output:?}");
        assert!(told.ends_with("the receipt holds\n"), "{told}");
    }
}

#[test]
fn every_help_text_fits_a_terminal() {
    let mut program = Cli::command();
    program.build();
    let bench = program.find_subcommand_mut("bench").unwrap();
    for command in bench.get_subcommands_mut() {
        for help in [command.render_long_help(), command.render_help()] {
            fits(&help.to_string());
        }
    }
}

#[test]
fn what_a_live_receipt_measured_is_worth() {
    let user = User::alone(PRICES);
    user.scratch.write("live.jsonl", &live(&[]));
    let from = |file| {
        vec![
            "bench",
            "roi",
            "--from",
            file,
            "--requests",
            "200",
            "--days",
            "250",
            "--api-share",
            "0.5",
            "--retries",
            "0",
            "--model",
            "m",
        ]
    };
    let done = user.run(&from("live.jsonl"));
    let text = printed(&done);
    // The means of 2 (100 + i) and of 100 + i ms for i from 0 to 199.
    assert!(
        line(text, "a request").contains("0.399 s      0.1995 s       0.1995 s"),
        "{text}"
    );
    assert!(line(text, "a request").ends_with("derived"), "{text}");
    assert!(
        line(text, "speed-up").contains("2.00x by mean times"),
        "{text}"
    );
    assert!(
        text.contains("measured: 200 pairs, whose digest is"),
        "{text}"
    );
    assert!(!text.contains("nothing here was measured"), "{text}");
    let json = user.run(&with(&from("live.jsonl"), &["--json"])).json();
    holds("bench-roi", &json);
    is(&json, "/settings/slow", 0.399);
    is(&json, "/settings/api/tokens_in", 100.0);
    assert_eq!(json["settings"]["slow"]["tag"], "measured");
    assert_eq!(json["figures"]["speedup"]["tag"], "derived");
    // How many tokens were cached was not measured, so their price is not known either.
    assert_eq!(json["figures"]["api"]["avoided"]["tag"], "unknown");
    // What says nothing about as good answers, does not hold, or is something else, is worth nothing.
    user.scratch
        .write("worse.jsonl", &live(&[3, 77, 78, 79, 80, 81]));
    let worse = user.run(&from("worse.jsonl"));
    worse.refused(
        1,
        "the answers are not comparable",
        "--recompute worse.jsonl",
    );
    let changed = live(&[]).replacen("\"tokens_out\":64", "\"tokens_out\":65", 1);
    user.scratch.write("changed.jsonl", &changed);
    user.run(&from("changed.jsonl"))
        .refused(1, "the receipt does not hold", "");
    user.run(&with(&SOURCES, &["--receipt", "roi.jsonl"]));
    user.run(&from("roi.jsonl"))
        .refused(2, "is no receipt of `bench live`", "");
    user.run(&from("none.jsonl")).refused(2, "cannot read", "");
    user.run(&with(&from("live.jsonl"), &["--slow", "1"]))
        .refused(2, "cannot be used with", "");
}
