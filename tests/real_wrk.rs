//! `gpurouter bench proxy` beside wrk: two load generators that know nothing of each other, against the same kind of mock, in turns. What they
//! measure should be the same within their noise. Needs wrk, named by `GPUROUTER_TEST_WRK` (`tests/tools/get-wrk.sh DIR` brings one into
//! `DIR/bin`); without it the test is skipped by name.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{Scratch, command, json};
use serde_json::Value;

/// Rounds, each with both generators.
const ROUNDS: usize = 7;
/// How far the two may be from each other: the middle of the rounds' ratios, on a machine that others use as well. The processors are
/// shared out anew for each measurement, and a generator of this build is not optimised.
const APART: f64 = 1.5;

/// A time that the two take in different ways.
const MEDIAN: &str = "direct, 1 connection, median time";
/// What is compared. Of one connection no mean: wrk adds to it what it thinks that a pause has hidden.
const NAMES: [&str; 7] = [
    "direct, 1 connection, requests/s",
    "direct, 16 connections, requests/s",
    "gpurouter, 1 connection, requests/s",
    "gpurouter, 16 connections, requests/s",
    "direct, 16 connections, mean time",
    "gpurouter, 16 connections, mean time",
    MEDIAN,
];

/// The same request as the benchmark's, byte for byte.
const ASK: &str = r#"
local head = '{"model":"bench:latest","stream":false,"messages":[{"role":"user","content":"'
local tail = '"}]}'
local text = "What does this function return when the list is empty? "
local room = 1024 - #head - #tail
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Accept"] = "*/*"
wrk.headers["User-Agent"] = "gpurouter-bench"
wrk.body = head .. text:rep(math.ceil(room / #text)):sub(1, room) .. tail
"#;

/// Mock and router of a `bench proxy --hold`.
struct Held {
    child: Child,
    upstream: String,
    router: String,
}

impl Held {
    fn start(scratch: &Scratch) -> Self {
        let mut child = command(scratch)
            .args(["bench", "proxy", "--hold", "--json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary that cargo built");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped"))
            .read_line(&mut line)
            .expect("a line");
        let document = json(line.as_bytes());
        let url = |name: &str| document[name].as_str().expect("a URL").to_owned();
        Self {
            child,
            upstream: url("upstream"),
            router: url("router"),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Asked, not killed, so that it ends its router.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        drop(self.child.wait());
    }
}

/// What wrk says of an address.
struct Wrk {
    /// Requests per second.
    rate: f64,
    /// The mean time of a request, microseconds.
    mean: f64,
    /// The median.
    p50: f64,
}

fn by_wrk(program: &Path, scratch: &Scratch, url: &str, connections: u32) -> Wrk {
    let script = scratch.path().join("ask.lua");
    let connections = format!("-c{connections}");
    let mut child = Command::new(program)
        .args(["-t1", "-d1s", "--latency", &connections, "-s"])
        .arg(script)
        .arg(format!("{url}/api/chat"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("wrk");
    let mut told = String::new();
    let mut out = child.stdout.take().expect("piped");
    out.read_to_string(&mut told).expect("text");
    assert!(child.wait().expect("wrk").success(), "{told}");
    assert!(
        !told.contains("Non-2xx") && !told.contains("Socket errors"),
        "{told}"
    );
    let after = |label: &str| {
        let line = told
            .lines()
            .map(str::trim)
            .find_map(|line| line.strip_prefix(label));
        line.map_or_else(|| panic!("no {label} in {told}"), str::trim)
            .to_owned()
    };
    let rate = after("Requests/sec:").parse().expect("a rate");
    let micros = |text: String| {
        let text = text.split_whitespace().next().expect("a time");
        let (number, unit) = text.split_at(text.find(char::is_alphabetic).expect("a unit"));
        let scale = match unit {
            "us" => 1.0,
            "ms" => 1e3,
            "s" => 1e6,
            other => panic!("{other}"),
        };
        number.parse::<f64>().expect("a time") * scale
    };
    Wrk {
        rate,
        mean: micros(after("Latency")),
        p50: micros(after("50%")),
    }
}

/// What wrk says, in the order of [`NAMES`].
fn by_them(program: &Path, scratch: &Scratch) -> [f64; NAMES.len()] {
    let held = Held::start(scratch);
    let of = |url: &str, connections| by_wrk(program, scratch, url, connections);
    let [one, many] = [1, 16].map(|connections| of(&held.upstream, connections));
    let [routed, many_routed] = [1, 16].map(|connections| of(&held.router, connections));
    [
        one.rate,
        many.rate,
        routed.rate,
        many_routed.rate,
        many.mean,
        many_routed.mean,
        one.p50,
    ]
}

/// What `bench proxy` says in one short round, in the order of [`NAMES`].
fn by_us(scratch: &Scratch) -> [f64; NAMES.len()] {
    let args = "-q bench proxy --only rates,latency --rounds 1 --duration 400ms --json";
    let output = command(scratch)
        .args(args.split(' '))
        .stdin(Stdio::null())
        .output()
        .expect("the binary that cargo built");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let document = json(&output.stdout);
    let of = |id, target| median_of(&document, id, target);
    let [many, many_routed] = ["direct", "gpurouter"].map(|target| of("rate_1kb_16", target));
    [
        of("rate_1kb_1", "direct"),
        many,
        of("rate_1kb_1", "gpurouter"),
        many_routed,
        // Every connection has always one request under way, so the mean time follows from the rate (Little 1961).
        16e6 / many,
        16e6 / many_routed,
        1000.0 * of("request_1kb_added_p50", "direct"),
    ]
}

fn median_of(document: &Value, id: &str, target: &str) -> f64 {
    let rows = document["figures"]["rows"].as_array().expect("rows");
    let row = rows.iter().find(|row| row["id"] == id).expect("a row");
    row["targets"][target]["median"].as_f64().expect("a figure")
}

#[test]
#[expect(
    clippy::print_stdout,
    reason = "whoever runs the test with --nocapture sees the figures it was about"
)]
fn bench_proxy_agrees_with_wrk() {
    let Some(wrk) = common::fleet::wrk("bench_proxy_agrees_with_wrk") else {
        return;
    };
    let scratch = Scratch::new();
    scratch.write("ask.lua", ASK);
    let mut ratios: [Vec<f64>; NAMES.len()] = Default::default();
    for round in 0..2 * ROUNDS {
        // A machine with other work on it may need twice the rounds until the middle of the ratios says something.
        if round == ROUNDS && apart(&ratios).is_empty() {
            break;
        }
        // Who comes first changes with the round.
        let (ours, theirs) = if round % 2 == 0 {
            let ours = by_us(&scratch);
            (ours, by_them(&wrk, &scratch))
        } else {
            let theirs = by_them(&wrk, &scratch);
            (by_us(&scratch), theirs)
        };
        for (all, (ours, theirs)) in ratios.iter_mut().zip(ours.into_iter().zip(theirs)) {
            all.push(ours / theirs);
        }
    }
    for (name, all) in NAMES.iter().zip(&ratios) {
        let [least, middle, most] = [0.0, 0.5, 1.0].map(|share| at(all, share));
        println!("{name:<40} bench proxy / wrk = {middle:.2} ({least:.2} to {most:.2})");
    }
    let apart = apart(&ratios);
    assert!(apart.is_empty(), "{apart:#?}");
}

/// The value below which a share of them lies.
fn at(all: &[f64], share: f64) -> f64 {
    gpurouter::measure::quantile(all, share).expect("ratios")
}

/// What the two do not agree on.
fn apart(ratios: &[Vec<f64>]) -> Vec<String> {
    let outside = |(name, all): &(&&str, &Vec<f64>)| {
        // The median is of one connection that blocks, without wrk's event loop around it: it may be less, but not more.
        let least = if **name == MEDIAN { 0.0 } else { 1.0 / APART };
        !(least..=APART).contains(&at(all, 0.5))
    };
    let told = |(name, all): (&&str, &Vec<f64>)| format!("{name}: {all:?}");
    NAMES.iter().zip(ratios).filter(outside).map(told).collect()
}
