//! `gpurouter bench soak` as a user runs it: the real binary against the real router, and against servers that fail in every way. Times are
//! not judged, except where a server is slow on purpose.

#![allow(clippy::float_cmp, reason = "counts are exact")]

mod common;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use common::{RefusedPort, Router, Scratch, command, json};
use serde_json::Value;

fn soak(scratch: &Scratch, args: &[&str]) -> Command {
    let mut command = command(scratch);
    command
        .args(["bench", "soak"])
        .args(args)
        .stdin(Stdio::null());
    command
}

fn run(scratch: &Scratch, args: &[&str]) -> Output {
    soak(scratch, args)
        .output()
        .expect("the binary that cargo built")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// Fails unless the document is as its schema says.
fn holds(document: &Value) {
    let read = |name: &str| {
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/schemas")
            .join(name);
        fs::read_to_string(file).expect("a schema")
    };
    let figure = format!("\"allOf\": [{}]", read("bench-figure.json"));
    let schema = read("bench-soak.json").replace("\"$ref\": \"bench-figure.json\"", &figure);
    let validator = jsonschema::draft202012::new(&json(schema.as_bytes())).expect("a schema");
    let errors: Vec<String> = validator
        .iter_errors(document)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
}

#[track_caller]
fn value(document: &Value, pointer: &str) -> f64 {
    let figure = document.pointer(pointer).unwrap_or(&Value::Null);
    figure["value"]
        .as_f64()
        .unwrap_or_else(|| panic!("no {pointer} in {document}"))
}

type Answer = Box<dyn Fn(u64, &mut TcpStream) -> bool + Send + Sync>;

/// A server whose every answer is decided by its number, from 0; a connection ends when that says so.
struct Server {
    addr: SocketAddr,
    stop: Arc<AtomicBool>,
    accept: Option<JoinHandle<()>>,
}

impl Server {
    fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("an address");
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, next, answer) = (
            Arc::clone(&stop),
            Arc::new(AtomicU64::new(0)),
            Arc::new(answer),
        );
        let accept = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let (next, answer) = (Arc::clone(&next), Arc::clone(&answer));
                let mut stream = stream.expect("a connection");
                std::thread::spawn(move || {
                    while asked(&mut stream) {
                        if !answer(next.fetch_add(1, Ordering::Relaxed), &mut stream) {
                            return;
                        }
                    }
                });
            }
        });
        Self {
            addr,
            stop,
            accept: Some(accept),
        }
    }

    fn url(&self) -> String {
        format!("http://{}/health", self.addr)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.addr));
        drop(self.accept.take().map(JoinHandle::join));
    }
}

/// Reads a request's head; `false` when the client has left.
fn asked(stream: &mut TcpStream) -> bool {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    loop {
        line.clear();
        match reader.read_line(&mut line) {
            Ok(0) | Err(_) => return false,
            Ok(_) if line == "\r\n" => return true,
            Ok(_) => {}
        }
    }
}

fn say(stream: &mut TcpStream, status: &str) -> bool {
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok");
    stream.write_all(answer.as_bytes()).is_ok()
}

#[test]
fn the_router_answers_every_request_and_the_receipt_says_so() {
    let router = Router::start(&[], "");
    let scratch = Scratch::new();
    let url = format!("{}/health", router.url);
    let args = [
        "--url",
        &url,
        "--duration",
        "3s",
        "--rps",
        "40",
        "--receipt",
        "soak.jsonl",
        "--json",
    ];
    let output = run(&scratch, &args);
    let told = text(&output.stderr);
    assert!(
        told.contains("Ctrl-C ends it") && !told.contains(['\r', '\u{1b}']),
        "{told:?}"
    );
    let document = json(&output.stdout);
    holds(&document);
    assert_eq!(document["settings"]["program"], "gpurouter");
    let figures = &document["figures"];
    assert_eq!(
        [
            value(figures, "/due"),
            value(figures, "/answered"),
            value(figures, "/failed")
        ],
        [120.0, 120.0, 0.0]
    );
    assert_eq!(
        (
            &figures["sound"],
            figures["failures"].as_array().map(Vec::len)
        ),
        (&true.into(), Some(0))
    );
    // A debug build of a router that has just begun may still grow; a server that leaks is judged below.
    let grows = |name: &str| figures["server"][name]["verdict"] == "grows";
    let expected = i32::from(grows("memory") || grows("descriptors"));
    assert_eq!(output.status.code(), Some(expected), "{document}");
    assert!(value(figures, "/server/memory/start") > 1e6);
    assert!(value(figures, "/server/descriptors/end") >= 5.0);
    for figure in ["p50", "p99", "max"] {
        assert_eq!(figures[figure]["tag"], "measured");
    }
    let again = command(&scratch)
        .args(["bench", "--recompute", "soak.jsonl", "--json"])
        .output()
        .unwrap();
    let again = json(&again.stdout);
    assert_eq!(
        (&again["holds"], &again["report"]),
        (&true.into(), &document)
    );
    let table = command(&scratch)
        .args(["bench", "--recompute", "soak.jsonl"])
        .output()
        .unwrap();
    let table = text(&table.stdout);
    assert!(
        table.contains("120 due, 120 answered, 0 failed") && table.contains("the receipt holds"),
        "{table}"
    );
    assert!(
        table.lines().all(|line| line.chars().count() <= 80),
        "{table}"
    );
}

#[test]
fn failures_are_told_apart_and_are_the_exit_code() {
    let server = Server::start(Box::new(|number, stream| match number % 6 {
        0 => say(stream, "503 Service Unavailable"),
        1 => {
            std::thread::sleep(Duration::from_secs(2));
            false
        }
        2 => stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
            .is_err(),
        3 => stream.write_all(b"SSH-2.0-x\r\n\r\n").is_err(),
        4 => say(stream, "204 No Content"),
        _ => say(stream, "200 OK"),
    }));
    let scratch = Scratch::new();
    let url = server.url();
    let output = run(
        &scratch,
        &[
            "--url",
            &url,
            "--duration",
            "1200ms",
            "--rps",
            "20",
            "--timeout",
            "500ms",
            "--json",
        ],
    );
    assert_eq!(output.status.code(), Some(1));
    let document = json(&output.stdout);
    holds(&document);
    let figures = &document["figures"];
    assert_eq!(value(figures, "/due"), 24.0);
    assert_eq!(
        value(figures, "/answered") + value(figures, "/failed"),
        24.0
    );
    let kinds: Vec<String> = figures["failures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["kind"].to_string())
        .collect();
    for kind in [
        "\"timeout\"",
        "\"broken\"",
        "\"malformed\"",
        "{\"status\":503}",
    ] {
        assert!(
            kinds.iter().any(|found| found == kind),
            "{kind} of {kinds:?}"
        );
    }
    assert_eq!(figures["sound"], false);
}

#[test]
fn a_server_that_stands_still_is_seen_by_every_request_of_that_time() {
    // From the 20th request on for a second and a half; a client that waits for its answer before it asks again would see one slow answer.
    let still = Mutex::new(false);
    let server = Server::start(Box::new(move |number, stream| {
        let mut held = still.lock().unwrap();
        if number == 20 && !*held {
            *held = true;
            std::thread::sleep(Duration::from_millis(1500));
        }
        drop(held);
        say(stream, "200 OK")
    }));
    let scratch = Scratch::new();
    let url = server.url();
    let output = run(
        &scratch,
        &[
            "--url",
            &url,
            "--duration",
            "3s",
            "--rps",
            "40",
            "--receipt",
            "r.jsonl",
            "--json",
        ],
    );
    let document = json(&output.stdout);
    assert_eq!(value(&document, "/figures/answered"), 120.0, "{document}");
    assert!(value(&document, "/figures/max") >= 1490.0);
    let receipt = fs::read_to_string(scratch.path().join("r.jsonl")).unwrap();
    let slow = receipt
        .lines()
        .map(|line| json(line.as_bytes()))
        .flat_map(|line| {
            line["seen"]["took_us"]
                .as_array()
                .cloned()
                .unwrap_or_default()
        })
        .filter(|us| us.as_u64() >= Some(500_000))
        .count();
    // Those of the first second of it: 40, less the rounding at its ends.
    assert!(slow >= 38, "{slow} slow answers");
}

#[test]
fn descriptors_that_are_never_closed_are_found() {
    // The server is this test's own process, and keeps a file open for every request.
    let kept: Mutex<Vec<File>> = Mutex::default();
    let server = Server::start(Box::new(move |_, stream| {
        kept.lock().unwrap().push(File::open("/dev/null").unwrap());
        say(stream, "200 OK")
    }));
    let scratch = Scratch::new();
    let (url, pid) = (server.url(), std::process::id().to_string());
    let args = [
        "--url",
        &url,
        "--duration",
        "3s",
        "--rps",
        "50",
        "--pid",
        &pid,
    ];
    let output = run(&scratch, &args);
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{told}");
    let at = told.find("descriptors").expect("descriptors");
    assert!(told[at..].contains("GROWS, between"), "{told}");
    assert!(told.contains("150 due, 150 answered, 0 failed"), "{told}");
}

#[test]
fn a_connection_that_was_closed_between_two_requests_is_no_failure() {
    let server = Server::start(Box::new(|_, stream| {
        say(stream, "200 OK");
        false
    }));
    let scratch = Scratch::new();
    let url = server.url();
    let output = run(
        &scratch,
        &[
            "--url",
            &url,
            "--duration",
            "500ms",
            "--rps",
            "20",
            "--connections",
            "2",
            "--json",
        ],
    );
    let document = json(&output.stdout);
    assert_eq!(value(&document, "/figures/answered"), 10.0, "{document}");
    assert_eq!(value(&document, "/figures/opened"), 10.0, "{document}");
}

#[test]
fn ctrl_c_ends_it_with_the_report_so_far() {
    let server = Server::start(Box::new(|_, stream| say(stream, "200 OK")));
    let scratch = Scratch::new();
    let url = server.url();
    let child = soak(
        &scratch,
        &[
            "--url",
            &url,
            "--duration",
            "1h",
            "--json",
            "--receipt",
            "r.jsonl",
        ],
    )
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .expect("the binary that cargo built");
    let receipt = scratch.path().join("r.jsonl");
    let seen = common::eventually(common::LIMIT, || {
        fs::read_to_string(&receipt).is_ok_and(|text| text.contains("took_us"))
    });
    assert!(seen, "nothing was written while it ran");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("a child");
    let output = child.wait_with_output().expect("its output");
    assert_eq!(output.status.code(), Some(1), "stopped");
    let document = json(&output.stdout);
    holds(&document);
    assert!(value(&document, "/figures/answered") >= 1.0);
    assert_eq!(
        (
            value(&document, "/figures/failed"),
            &document["figures"]["sound"]
        ),
        (0.0, &true.into())
    );
    let again = command(&scratch)
        .args(["bench", "--recompute", "r.jsonl", "--json"])
        .output()
        .unwrap();
    assert_eq!(json(&again.stdout)["report"], document);
}

#[test]
fn what_cannot_be_soaked_is_told() {
    let scratch = Scratch::new();
    let refused = RefusedPort::new();
    let closed = format!("http://{}/health", refused.addr);
    let cases = [
        (
            vec!["--url", closed.as_str()],
            3,
            "gpurouter serve starts a router",
        ),
        (vec!["--url", "https://127.0.0.1/health"], 2, "only http://"),
        (
            vec!["--url", "http://127.0.0.1:1/a?b c"],
            2,
            "expected http://HOST:PORT/PATH",
        ),
        (vec!["--duration", "1ms"], 2, "100 ms to 7 days"),
        (vec!["--rps", "0"], 2, "0.01 to 100,000"),
        (vec!["--rps", "NaN"], 2, "0.01 to 100,000"),
        (vec!["--timeout", "0s"], 2, "1 ms to 1 h"),
        (vec!["--connections", "0"], 2, "1..=4096"),
        (
            vec!["--duration", "7d", "--rps", "1000"],
            2,
            "20,000,000 requests",
        ),
        (
            vec!["--url", closed.as_str(), "--pid", "4294967295"],
            2,
            "no such process",
        ),
    ];
    for (args, code, part) in cases {
        let output = run(&scratch, &args);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {told}");
        assert!(told.contains(part), "{args:?}: {told}");
    }
}
