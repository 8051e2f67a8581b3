//! Every command as a user calls it: what it prints, where, and with which exit code.

#[path = "../common/mod.rs"]
mod common;

mod ask;
mod bench;
mod configuration;
mod fit;
mod generated;
mod models;
mod questions;
mod schemas;
mod sources;

use std::io::{Read, Write};
use std::process::{Child, ExitStatus, Stdio};
use std::thread;

use serde_json::Value;

use common::{LIMIT, RefusedPort, Router, Scratch, Stub, command, eventually, json, reply};

/// What a finished command left behind.
#[derive(Debug)]
struct Done {
    code: i32,
    out: String,
    err: String,
}

impl Done {
    /// The one document on stdout.
    fn json(&self) -> Value {
        assert_eq!(self.out.lines().count(), 1, "one document: {self:?}");
        json(self.out.as_bytes())
    }

    /// Fails unless it ended with this code, `error: ` and, where it should, a hint with this text.
    fn refused(&self, code: i32, error: &str, hint: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(
            self.err.starts_with("error: ") && self.err.contains(error),
            "{self:?}"
        );
        assert_eq!(self.out, "", "results only on stdout");
        assert!(
            hint.is_empty()
                || self.err.lines().any(|line| (line.starts_with("hint: ")
                    || line.starts_with("  tip: "))
                    && line.contains(hint)),
            "{self:?}"
        );
    }
}

/// A user with one configuration file, whose `listen` is where their router would be.
struct User {
    scratch: Scratch,
    _port: Option<RefusedPort>,
}

impl User {
    /// No router runs at the configured address.
    fn alone(rest: &str) -> Self {
        let port = RefusedPort::new();
        let scratch = Scratch::new();
        scratch.write(
            "gpurouter.toml",
            &format!("listen = \"{}\"\n{rest}", port.addr),
        );
        Self {
            scratch,
            _port: Some(port),
        }
    }

    /// This router is the user's own.
    fn of(router: &Router) -> Self {
        let scratch = Scratch::new();
        scratch.write("gpurouter.toml", &format!("listen = \"{}\"\n", router.addr));
        Self {
            scratch,
            _port: None,
        }
    }

    fn start(&self, arguments: &[&str]) -> Child {
        command(&self.scratch)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary that cargo built")
    }

    fn run(&self, arguments: &[&str]) -> Done {
        self.run_with(arguments, "")
    }

    fn run_with(&self, arguments: &[&str], input: &str) -> Done {
        let mut child = self.start(arguments);
        // A command that does not read closes its end.
        drop(
            child
                .stdin
                .take()
                .expect("piped")
                .write_all(input.as_bytes()),
        );
        let out = reader(child.stdout.take().expect("piped"));
        let err = reader(child.stderr.take().expect("piped"));
        let status = wait(&mut child);
        let text = |thread: thread::JoinHandle<Vec<u8>>| {
            String::from_utf8(thread.join().unwrap()).expect("text")
        };
        Done {
            code: status.code().unwrap_or(-1),
            out: text(out),
            err: text(err),
        }
    }
}

fn reader(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        drop(pipe.read_to_end(&mut bytes));
        bytes
    })
}

/// Waits for the end; a command that hangs is killed and fails its test.
fn wait(child: &mut Child) -> ExitStatus {
    let mut status = None;
    let ended = eventually(LIMIT, || {
        status = child.try_wait().expect("a child of ours");
        status.is_some()
    });
    if !ended {
        drop(child.kill());
        drop(child.wait());
    }
    status.expect("the command ends")
}

/// A healthy Ollama with `m`.
fn node() -> Stub {
    Stub::ollama(&["m"], reply::healthy)
}

/// Fails when a line is wider than 80 columns or has a control sequence.
fn fits(text: &str) {
    for line in text.lines() {
        assert!(
            line.chars().count() <= 80,
            "{} columns: {line}",
            line.chars().count()
        );
    }
    assert!(!text.contains('\x1b'), "{text:?}");
}
