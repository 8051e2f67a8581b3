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

/// What wrk says of an address: requests per second and the median latency, microseconds.
fn by_wrk(program: &Path, scratch: &Scratch, url: &str, connections: u32) -> (f64, f64) {
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
    let p50 = after("50%");
    let (number, unit) = p50.split_at(p50.find(char::is_alphabetic).expect("a unit"));
    let scale = match unit {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        other => panic!("{other}"),
    };
    (rate, number.parse::<f64>().expect("a time") * scale)
}

/// What `bench proxy` says in one round of the same length.
fn by_us(scratch: &Scratch) -> Value {
    let output = command(scratch)
        .args([
            "-q",
            "bench",
            "proxy",
            "--only",
            "rates,latency",
            "--rounds",
            "1",
            "--duration",
            "400ms",
            "--json",
        ])
        .stdin(Stdio::null())
        .output()
        .expect("the binary that cargo built");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    json(&output.stdout)
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
    let names = [
        "direct, 1 connection, requests/s",
        "direct, 16 connections, requests/s",
        "gpurouter, 1 connection, requests/s",
        "gpurouter, 16 connections, requests/s",
        "direct, 1 connection, median time",
    ];
    let mut ratios: [Vec<f64>; 5] = Default::default();
    for round in 0..ROUNDS {
        let ours = || {
            let document = by_us(&scratch);
            let rate = |id, target| median_of(&document, id, target);
            [
                rate("rate_1kb_1", "direct"),
                rate("rate_1kb_16", "direct"),
                rate("rate_1kb_1", "gpurouter"),
                rate("rate_1kb_16", "gpurouter"),
                1000.0 * rate("request_1kb_added_p50", "direct"),
            ]
        };
        let theirs = || {
            let held = Held::start(&scratch);
            let of = |url: &str, connections| by_wrk(&wrk, &scratch, url, connections);
            let one = of(&held.upstream, 1);
            [
                one.0,
                of(&held.upstream, 16).0,
                of(&held.router, 1).0,
                of(&held.router, 16).0,
                one.1,
            ]
        };
        // Who comes first changes with the round.
        let (ours, theirs) = if round % 2 == 0 {
            let ours = ours();
            (ours, theirs())
        } else {
            let theirs = theirs();
            (ours(), theirs)
        };
        for (all, (ours, theirs)) in ratios.iter_mut().zip(ours.into_iter().zip(theirs)) {
            all.push(ours / theirs);
        }
    }
    for (name, mut all) in names.into_iter().zip(ratios) {
        all.sort_by(f64::total_cmp);
        let middle = all[ROUNDS / 2];
        println!(
            "{name:<40} bench proxy / wrk = {middle:.2} ({:.2} to {:.2})",
            all[0],
            all[ROUNDS - 1]
        );
        assert!((1.0 / APART..=APART).contains(&middle), "{name}: {all:?}");
    }
}
