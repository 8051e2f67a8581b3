//! `gpurouter bench proxy` as a user runs it: the real binary, its own mock, its own router as a child process. No figure is judged, only
//! that each is there and can be true.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{LIMIT, Router, Scratch, command, eventually, json};
use serde_json::Value;

/// Figures of a report, whatever of it was measured.
const ROWS: usize = 39;

fn bench(scratch: &Scratch, args: &[&str]) -> Command {
    let mut command = command(scratch);
    command
        .args(["bench", "proxy"])
        .args(args)
        .stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    let output = bench(&Scratch::new(), args).output();
    output.expect("the binary that cargo built")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Fails unless the document is as its schema says.
fn holds(document: &Value) {
    let schema = json(include_bytes!("schemas/bench-proxy.json"));
    let validator = jsonschema::draft202012::new(&schema).expect("a schema");
    let errors: Vec<String> = validator
        .iter_errors(document)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

fn rows(document: &Value) -> &Vec<Value> {
    document["figures"]["rows"].as_array().expect("rows")
}

fn row<'a>(document: &'a Value, id: &str) -> &'a Value {
    let found = rows(document).iter().find(|row| row["id"] == id);
    found.unwrap_or_else(|| panic!("no row {id}"))
}

/// A `bench proxy --hold`: a mock and a router, which a test may use as another proxy.
struct Held {
    child: Child,
    out: BufReader<ChildStdout>,
    upstream: String,
    router: String,
}

impl Held {
    fn start(scratch: &Scratch, port: u16) -> Self {
        let mut child = bench(
            scratch,
            &["--hold", "--json", "--upstream-port", &port.to_string()],
        )
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("the binary that cargo built");
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        out.read_line(&mut line).expect("a line");
        let document = json(line.as_bytes());
        let url = |name: &str| document[name].as_str().expect("a URL").to_owned();
        Self {
            child,
            out,
            upstream: url("upstream"),
            router: url("router"),
        }
    }

    fn router_addr(&self) -> SocketAddr {
        self.router
            .strip_prefix("http://")
            .expect("http")
            .parse()
            .expect("an address")
    }

    /// Ends it as Ctrl-C would.
    fn stop(mut self) -> (Option<i32>, String) {
        interrupt(&self.child);
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).expect("text");
        (self.child.wait().expect("a child").code(), rest)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Asked, not killed, so that it ends its router.
        interrupt(&self.child);
        drop(self.child.wait());
    }
}

fn interrupt(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    // One that has ended already cannot be asked.
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// The receipt `r.jsonl` holds, and gives the same report.
fn recomputed(scratch: &Scratch, document: &Value) {
    let again = |more: &[&str]| {
        command(scratch)
            .args(["bench", "--recompute", "r.jsonl"])
            .args(more)
            .output()
            .expect("the binary that cargo built")
    };
    let verdict = json(&again(&["--json"]).stdout);
    assert_eq!(
        (&verdict["holds"], &verdict["report"]),
        (&true.into(), document)
    );
    let table = text(&again(&[]).stdout);
    let begins = document["date"].as_str().expect("a date");
    assert!(
        table.starts_with(begins) && table.contains("the receipt holds"),
        "{table}"
    );
}

#[test]
fn a_quick_run_measures_everything_there_is() {
    let scratch = Scratch::new();
    let output = bench(&scratch, &["--quick", "--json", "--receipt", "r.jsonl"])
        .output()
        .expect("the binary that cargo built");
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(
        told.starts_with("about ") && !told.contains(['\r', '\u{1b}']),
        "{told:?}"
    );
    let document = json(&output.stdout);
    holds(&document);
    recomputed(&scratch, &document);
    assert_eq!(
        (document["schema"].as_u64(), &document["kind"]),
        (Some(1), &"proxy".into())
    );
    assert_eq!(document["settings"]["targets"][1]["program"], "gpurouter");
    let figures = &document["figures"];
    assert_eq!(figures["completed"], 1);
    assert_eq!(rows(&document).len(), ROWS);
    for row in rows(&document) {
        let unit = row["unit"].as_str().expect("a unit");
        assert!(
            ["milliseconds", "per_second", "bytes", "count", "share"].contains(&unit),
            "{row}"
        );
        let targets = row["targets"].as_object().expect("targets");
        assert_eq!(
            targets.keys().collect::<Vec<_>>(),
            ["direct", "gpurouter"],
            "{row}"
        );
        for value in targets.values() {
            let known = value["median"].as_f64();
            assert_eq!(known.is_none(), value["tag"] == "unknown", "{row}");
            assert!(known.is_none_or(|median| median >= 0.0), "{row}");
            let within = |median: f64| {
                value["min"].as_f64() <= Some(median) && Some(median) <= value["max"].as_f64()
            };
            assert!(known.is_none_or(within), "{row}");
        }
        assert_eq!(
            row["ratios"],
            serde_json::json!({}),
            "nothing to compare with"
        );
        // What holds memory or takes processor time is a process; the direct way is none.
        let id = row["id"].as_str().expect("an id");
        let of_a_process = ["memory", "threads", "idle", "cpu"]
            .iter()
            .any(|part| id.starts_with(part))
            || id.ends_with("_cpu");
        assert_eq!(targets["direct"]["median"].is_null(), of_a_process, "{row}");
    }
    assert!(row(&document, "rate_1kb_16")["targets"]["gpurouter"]["median"].as_f64() > Some(1.0));
    assert!(
        row(&document, "threads_streams")["targets"]["gpurouter"]["median"].as_f64() >= Some(100.0)
    );
    for moment in ["before", "after"] {
        let seen = row(&document, &format!("departure_{moment}_first_byte"));
        assert!(
            seen["targets"]["gpurouter"]["median"].is_f64(),
            "the departure was not seen: {seen}"
        );
    }
    let cuts = figures["cuts"].as_array().expect("cuts");
    assert_eq!(cuts.len(), 4);
    for cut in cuts {
        let expected = if cut["target"] == "direct" {
            "broken"
        } else {
            "error"
        };
        assert_eq!(
            (cut["client_sees"].as_str(), cut["tries"].as_u64()),
            (Some(expected), Some(3)),
            "{cut}"
        );
    }
    let codes: Vec<&str> = figures["warnings"]
        .as_array()
        .expect("warnings")
        .iter()
        .map(|warning| warning["code"].as_str().expect("a code"))
        .collect();
    assert!(codes.contains(&"quick"), "{codes:?}");
    for wrong in [
        "failed_answers",
        "failed_step",
        "idle_streams",
        "departure_unseen",
        "no_process",
        "stopped",
    ] {
        assert!(!codes.contains(&wrong), "{}", figures["warnings"]);
    }
}

#[test]
fn another_proxy_stands_beside_the_router_with_its_processes_and_ratios() {
    // A second router is a proxy like any other; its node is the port where the mock will be.
    let port = free_port();
    let twin = Router::start(&["--node", &format!("mock=http://127.0.0.1:{port}")], "");
    let output = run(&[
        "--quick",
        "--json",
        "--only",
        "rates,idle,cuts",
        "--upstream-port",
        &port.to_string(),
        "--against",
        &format!("twin={}", twin.url),
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let document = json(&output.stdout);
    let target = &document["settings"]["targets"][2];
    assert_eq!(
        (&target["name"], &target["program"], &target["pids"][0]),
        (&"twin".into(), &"gpurouter".into(), &twin.pid().into())
    );
    let memory = row(&document, "memory_per_stream");
    assert!(memory["targets"]["twin"]["median"].is_f64(), "{memory}");
    let cost = row(&document, "cpu_1kb_1");
    assert!(
        cost["ratios"]["twin"]["median"].as_f64() > Some(0.0),
        "{cost}"
    );
    let headroom = document["figures"]["headroom"]
        .as_array()
        .expect("headroom");
    assert!(!headroom.is_empty());
    for one in headroom {
        let rate = row(&document, one["row"].as_str().expect("a row"));
        if one["enough"] == false {
            assert!(
                rate["ratios"]["twin"]["median"].is_null(),
                "the generator was measured: {rate}"
            );
        }
    }
    // What was not asked for is unknown, not left out.
    assert_eq!(rows(&document).len(), ROWS);
    assert_eq!(
        row(&document, "first_piece_added_p50")["targets"]["twin"]["tag"],
        "unknown"
    );
}

#[test]
fn mock_and_router_can_be_held_and_another_mock_is_told_from_this_one() {
    let scratch = Scratch::new();
    let port = free_port();
    let held = Held::start(&scratch, port);
    assert_eq!(held.upstream, format!("http://127.0.0.1:{port}"));
    let (addr, against) = (held.router_addr(), format!("twin={}", held.router));
    let output = run(&[
        "--quick",
        "--only",
        "cuts",
        "--upstream-port",
        &port.to_string(),
    ]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).starts_with("error: cannot start the mock on port"),
        "{}",
        text(&output.stderr)
    );
    let output = run(&["--quick", "--only", "latency", "--against", &against]);
    assert_eq!(output.status.code(), Some(3));
    let told = text(&output.stderr);
    assert!(
        told.contains("not from the mock")
            && told.contains("\nhint: it must run in front of the mock"),
        "{told}"
    );
    assert_eq!(held.stop(), (Some(0), String::new()));
    assert!(
        TcpStream::connect(addr).is_err(),
        "the router outlived its parent"
    );
}

#[test]
fn a_proxy_that_is_not_there_is_unreachable_and_wrong_words_are_usage() {
    for (args, code, told) in [
        (
            &["--against", "x=http://127.0.0.1:9"][..],
            3,
            "error: x at http://127.0.0.1:9: ",
        ),
        (
            &["--against", "x=https://127.0.0.1:9"],
            2,
            "only http://HOST:PORT",
        ),
        (
            &["--against", "direct=http://127.0.0.1:9"],
            2,
            "the name is taken",
        ),
        (&["--pid", "x=1"], 2, "no --against has that name"),
        (&["--print-nginx"], 2, "--upstream-port"),
        (&["--rounds", "0"], 2, "--rounds"),
        (
            &["--duration", "1s", "--requests", "5"],
            2,
            "cannot be used with",
        ),
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        assert!(
            text(&output.stderr).contains(told),
            "{args:?}: {}",
            text(&output.stderr)
        );
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn configurations_name_the_ports_and_help_fits_a_terminal() {
    let nginx = run(&["--upstream-port", "8900", "--print-nginx"]);
    assert!(text(&nginx.stdout).contains("server 127.0.0.1:8900;"));
    let haproxy = run(&["--upstream-port", "8900", "--print-haproxy"]);
    assert!(text(&haproxy.stdout).contains("server mock 127.0.0.1:8900"));
    for flag in ["-h", "--help"] {
        let help = text(&run(&[flag]).stdout);
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        assert!(help.contains("--against"));
    }
}

#[test]
fn a_stop_reports_the_rounds_that_are_complete() {
    let scratch = Scratch::new();
    let args = [
        "--only",
        "cuts",
        "--rounds",
        "10000",
        "--json",
        "--receipt",
        "r.jsonl",
    ];
    let mut child = bench(&scratch, &args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary");
    let mut told = BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    told.read_line(&mut line).expect("a line");
    assert!(line.starts_with("about "), "{line}");
    // A round of two targets takes some tens of milliseconds.
    let start = Instant::now();
    std::thread::sleep(Duration::from_secs(2));
    interrupt(&child);
    let mut out = Vec::new();
    child
        .stdout
        .take()
        .expect("piped")
        .read_to_end(&mut out)
        .expect("a document");
    assert!(start.elapsed() < LIMIT);
    assert!(eventually(LIMIT, || child
        .try_wait()
        .expect("a child")
        .is_some()));
    assert_eq!(child.wait().expect("a child").code(), Some(1));
    let document = json(&out);
    let completed = document["figures"]["completed"].as_u64().expect("a number");
    assert!((1..10_000).contains(&completed), "{completed}");
    assert_eq!(document["figures"]["warnings"][0]["code"], "stopped");
    recomputed(&scratch, &document);
}
