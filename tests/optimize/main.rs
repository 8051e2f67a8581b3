//! `optimize` and the cycle inside `serve`: the real binary against simulated nodes and stubs that record every call.

#![allow(
    clippy::print_stderr,
    reason = "measured values go to the test runner's stderr"
)]

#[path = "../common/mod.rs"]
mod common;

mod daemon;
mod inside;
mod nodes;
mod once;

use std::fmt::Write as _;
use std::io::Read;
use std::process::{Child, Stdio};
use std::time::Duration;

use gpurouter::sim::{Clock, Fleet, Gpu, Model, Node, NodeSpec};
use serde_json::Value;

use common::{LIMIT, RefusedPort, Scratch, command, eventually, json};

const MIB: u64 = 1 << 20;
/// The embedding models that are wanted by default, and chat models, with their MiB in the table of known models.
const MODELS: [(&str, u64); 6] = [
    ("mxbai-embed-large", 705),
    ("nomic-embed-text", 274),
    ("qwen2.5-coder:1.5b", 900),
    ("llama3.2:1b", 1300),
    ("llama3.2:3b", 1900),
    ("llama3.1", 4700),
];
/// Calls that no residency plan may ever make.
const FORBIDDEN: [&str; 6] = [
    "/api/pull",
    "/api/push",
    "/api/create",
    "/api/delete",
    "/api/copy",
    "/api/blobs",
];

/// A simulated node with so much GPU memory, these models, and loads that take no time to speak of.
fn spec(name: &str, gib: u64, models: &[&str]) -> NodeSpec {
    let mut gpu = Gpu::find("rtx3060").expect("a known card");
    gpu.vram_bytes = gib << 30;
    let mut spec = NodeSpec::new(name, gpu);
    spec.hardware.load_time = Some(Duration::from_millis(50));
    spec.models = models.iter().map(|name| model(name)).collect();
    spec
}

fn model(name: &str) -> Model {
    let known = MODELS.iter().find(|(known, _)| *known == name);
    Model::named(name, known.map(|(_, mib)| mib * MIB))
}

fn start(specs: Vec<NodeSpec>) -> Fleet {
    Fleet::start(specs, Clock::real(), 7).expect("simulated nodes")
}

/// Everything a residency plan may do to a node, in order: `path model`.
fn calls(node: &Node) -> Vec<String> {
    let journal = node.journal();
    for record in &journal {
        assert!(
            record.method != "DELETE"
                && !FORBIDDEN.iter().any(|path| record.path.starts_with(path)),
            "{} {}",
            record.method,
            record.path
        );
    }
    journal
        .iter()
        .filter(|record| record.path != "/api/show")
        .filter_map(|record| Some(format!("{} {}", record.path, record.model.as_ref()?)))
        .collect()
}

/// What a node has in memory: `model percent`, `pinned` behind what stays.
fn holds(url: &str) -> Vec<String> {
    let ps: Value = json(&get(&format!("{url}/api/ps")));
    let mut list: Vec<String> = ps["models"]
        .as_array()
        .expect("models")
        .iter()
        .map(|model| {
            let (size, vram) = (model["size"].as_u64(), model["size_vram"].as_u64());
            let percent = vram.unwrap() * 100 / size.unwrap();
            let stays = model["expires_at"].as_str().unwrap() > "2200";
            let stays = if stays { " pinned" } else { "" };
            format!("{} {percent}%{stays}", model["name"].as_str().unwrap())
        })
        .collect();
    list.sort();
    list
}

fn get(url: &str) -> Vec<u8> {
    let (addr, path) = url
        .strip_prefix("http://")
        .unwrap()
        .split_once('/')
        .unwrap();
    common::client::get(addr.parse().unwrap(), &format!("/{path}")).body
}

fn post(url: &str, body: &Value) -> common::client::Response {
    let (addr, path) = url
        .strip_prefix("http://")
        .unwrap()
        .split_once('/')
        .unwrap();
    common::client::post(addr.parse().unwrap(), &format!("/{path}"), body)
}

/// What a finished command left behind.
#[derive(Debug)]
struct Done {
    code: i32,
    out: String,
    err: String,
}

impl Done {
    fn json(&self) -> Value {
        json(self.out.as_bytes())
    }

    /// The changes as `action node model`.
    fn changes(&self) -> Vec<String> {
        steps(&self.json())
    }
}

fn steps(document: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    document["changes"]
        .as_array()
        .expect("changes")
        .iter()
        .map(|change| {
            format!(
                "{} {} {}",
                text(&change["action"]),
                text(&change["node"]),
                text(&change["model"])
            )
        })
        .collect()
}

/// A user without a running router whose configuration names these nodes.
struct User {
    scratch: Scratch,
    port: RefusedPort,
}

impl User {
    fn new(fleet: &Fleet, rest: &str) -> Self {
        let user = Self {
            scratch: Scratch::new(),
            port: RefusedPort::new(),
        };
        user.configure("gpurouter.toml", &nodes_of(fleet), rest);
        user
    }

    /// Writes a configuration with these tables of nodes.
    fn configure(&self, file: &str, nodes: &str, rest: &str) {
        let text = format!("listen = \"{}\"\n{rest}\n{nodes}", self.port.addr);
        self.scratch.write(file, &text);
    }

    fn start(&self, arguments: &[&str]) -> Child {
        command(&self.scratch)
            .arg("optimize")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary that cargo built")
    }

    fn optimize(&self, arguments: &[&str]) -> Done {
        finish(self.start(arguments), LIMIT)
    }

    /// With stderr on a terminal: what it shows there, and the exit code.
    fn on_a_terminal(&self, arguments: &[&str]) -> (String, i32) {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&ours).expect("a terminal");
        unlockpt(&ours).expect("a terminal");
        let name = ptsname(&ours, Vec::new()).expect("a terminal");
        let theirs = std::fs::File::options()
            .read(true)
            .write(true)
            .open(name.to_str().expect("a path"))
            .expect("a terminal");
        let child = command(&self.scratch)
            .env("TERM", "xterm")
            .arg("optimize")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(theirs)
            .spawn();
        let mut child = child.expect("the binary that cargo built");
        let reader = std::thread::spawn(move || {
            let mut seen = Vec::new();
            // A terminal whose other end is closed is an error to its reader.
            drop(std::fs::File::from(ours).read_to_end(&mut seen));
            String::from_utf8_lossy(&seen).into_owned()
        });
        let mut status = None;
        let ended = eventually(LIMIT, || {
            status = child.try_wait().expect("a child of ours");
            status.is_some()
        });
        if !ended {
            drop(child.kill());
            drop(child.wait());
        }
        let seen = reader.join().expect("a reader");
        let status = status.unwrap_or_else(|| panic!("it goes on: {seen}"));
        (seen, status.code().unwrap_or(-1))
    }
}

/// `[[node]]` tables with the memory that the nodes were declared with.
fn nodes_of(fleet: &Fleet) -> String {
    let mut text = String::new();
    for (node, url) in fleet.nodes().iter().zip(fleet.urls()) {
        let bytes = node.spec().hardware.gpu.vram_bytes;
        let name = node.name();
        write!(text, "[[node]]\nname = \"{name}\"\nurl = \"{url}\"\n").unwrap();
        if bytes > 0 {
            writeln!(text, "vram = {bytes}").unwrap();
        }
    }
    text
}

/// Waits for the end; a command that hangs is killed and fails its test.
fn finish(mut child: Child, limit: Duration) -> Done {
    let reader = |mut pipe: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            drop(pipe.read_to_end(&mut bytes));
            String::from_utf8(bytes).expect("text")
        })
    };
    let out = reader(Box::new(child.stdout.take().expect("piped")));
    let err = reader(Box::new(child.stderr.take().expect("piped")));
    let mut status = None;
    eventually(limit, || {
        status = child.try_wait().expect("a child of ours");
        status.is_some()
    });
    if status.is_none() {
        drop(child.kill());
        drop(child.wait());
    }
    let (out, err) = (out.join().unwrap(), err.join().unwrap());
    let status = status.unwrap_or_else(|| panic!("it goes on after {limit:?}: {out}{err}"));
    Done {
        code: status.code().unwrap_or(-1),
        out,
        err,
    }
}

/// Fails when a line is wider than 80 columns or has a control sequence.
fn fits(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    assert!(!text.contains('\x1b'), "{text:?}");
}
