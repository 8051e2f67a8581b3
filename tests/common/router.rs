//! The real binary, running `serve` as a child process.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use serde_json::Value;

use super::{LIMIT, Scratch, client, eventually, json};

/// A running `gpurouter serve`; killed on drop.
pub struct Router {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    /// The same, to connect to.
    pub addr: SocketAddr,
    child: Child,
    stderr: Arc<Mutex<Vec<String>>>,
    scratch: Scratch,
}

/// What a process holds, from `/proc`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resources {
    /// Threads.
    pub threads: usize,
    /// Open descriptors.
    pub descriptors: usize,
    /// Resident set, bytes.
    pub rss_bytes: u64,
}

impl Router {
    /// Starts `gpurouter serve --listen 127.0.0.1:0 --config FILE args…` with `config` (TOML) as the file, in an
    /// empty directory and an environment that holds nothing of the developer's, and waits for its address.
    pub fn start(args: &[&str], config: &str) -> Self {
        Self::start_in(&[], args, config)
    }

    /// The same, with these environment variables too.
    pub fn start_in(environment: &[(&str, &str)], args: &[&str], config: &str) -> Self {
        let scratch = Scratch::new();
        let file = scratch.write("gpurouter.toml", config);
        let mut child = command(&scratch)
            .envs(environment.iter().copied())
            .arg("serve")
            .args(["--listen", "127.0.0.1:0", "--config"])
            .arg(file)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary that cargo built");
        let stderr = collect(child.stderr.take().expect("piped"));
        let address = first_address(child.stdout.take().expect("piped"));
        let Ok(url) = address.recv_timeout(LIMIT) else {
            drop(child.kill());
            let status = child.wait();
            panic!(
                "serve printed no address ({status:?}); stderr: {:#?}",
                stderr.lock().unwrap()
            );
        };
        let addr = url
            .strip_prefix("http://")
            .and_then(|rest| rest.parse().ok())
            .unwrap_or_else(|| panic!("not an address: {url}"));
        Self {
            url,
            addr,
            child,
            stderr,
            scratch,
        }
    }

    /// In front of these nodes only (`NAME=URL` or a URL), with everything else at its default; waits until each was
    /// seen up.
    pub fn over(nodes: &[String]) -> Self {
        let mut args = vec!["--log-format", "json"];
        for node in nodes {
            args.extend(["--node", node]);
        }
        let router = Self::start(&args, "");
        router.wait_ready(nodes.len());
        router
    }

    /// Waits until `/health` counts at least `nodes` nodes as up; panics with the log after [`LIMIT`].
    pub fn wait_ready(&self, nodes: usize) {
        let ready = eventually(LIMIT, || self.nodes_up() >= Some(nodes));
        assert!(
            ready,
            "{nodes} nodes were not up after {LIMIT:?} but {:?}; stderr: {:#?}",
            self.nodes_up(),
            self.stderr()
        );
    }

    /// How many nodes `/health` counts as up; none while it does not answer.
    pub fn nodes_up(&self) -> Option<usize> {
        let answer = client::try_get(self.addr, "/health")?;
        if answer.status != 200 {
            return None;
        }
        let up = answer.json().pointer("/nodes/up")?.as_u64()?;
        usize::try_from(up).ok()
    }

    /// The lines on its stderr so far.
    pub fn stderr(&self) -> Vec<String> {
        self.stderr.lock().unwrap().clone()
    }

    /// The JSON lines on its stderr so far (request records, with `--log-format json`).
    pub fn records(&self) -> Vec<Value> {
        self.stderr()
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Waits for a JSON log line that `wanted` accepts; panics with the log after [`LIMIT`].
    pub fn wait_record(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut found = None;
        eventually(LIMIT, || {
            found = self.records().into_iter().find(&wanted);
            found.is_some()
        });
        found.unwrap_or_else(|| panic!("no such record in {:#?}", self.stderr()))
    }

    /// The document at `path` of its own API.
    pub fn api(&self, path: &str) -> Value {
        let answer = client::get(self.addr, path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        json(&answer.body)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it holds now.
    pub fn resources(&self) -> Resources {
        let proc = std::path::PathBuf::from(format!("/proc/{}", self.pid()));
        let count = |name: &str| {
            std::fs::read_dir(proc.join(name))
                .expect("a live process")
                .count()
        };
        let status = std::fs::read_to_string(proc.join("status")).expect("a live process");
        let rss_kib: u64 = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
            .expect("VmRSS in /proc/PID/status");
        Resources {
            threads: count("task"),
            descriptors: count("fd"),
            rss_bytes: rss_kib * 1024,
        }
    }

    /// Whether it is still running.
    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        signal(&self.child, rustix::process::Signal::TERM);
    }

    /// Waits for its end; `None` when it is still running after `limit`.
    pub fn wait_exit(&mut self, limit: Duration) -> Option<ExitStatus> {
        let mut status = None;
        eventually(limit, || {
            status = self.child.try_wait().expect("a child of ours");
            status.is_some()
        });
        status
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let lines = self.stderr();
            let tail = &lines[lines.len().saturating_sub(40)..];
            eprintln!("the router's last lines: {tail:#?}");
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The binary, with an environment and a working directory in which no configuration of the developer's is found.
pub fn command(scratch: &Scratch) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gpurouter"));
    command
        .current_dir(scratch.path())
        .env_clear()
        .env("HOME", scratch.path())
        .env("XDG_CONFIG_HOME", scratch.path())
        .env("XDG_STATE_HOME", scratch.path())
        // Nor a GPU of the developer's.
        .env(
            "GPUROUTER_NVML_LIB",
            scratch.path().join("libnvidia-ml.so.1"),
        )
        .env("GPUROUTER_SYSFS_ROOT", scratch.path().join("sys"))
        .env("RUST_BACKTRACE", "1");
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .expect("a process id");
    rustix::process::kill_process(pid, signal).expect("a child of ours");
}

/// Gathers the lines of `pipe` in a thread, so that a full pipe never blocks the router.
fn collect(pipe: impl Read + Send + 'static) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&lines);
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            sink.lock().unwrap().push(line);
        }
    });
    lines
}

/// The URL of the line `listening on URL`; the rest of stdout is read and dropped.
fn first_address(pipe: impl Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if let Some(url) = line.strip_prefix("listening on ") {
                drop(sender.send(url.trim_end_matches('/').to_owned()));
            }
        }
    });
    receiver
}
