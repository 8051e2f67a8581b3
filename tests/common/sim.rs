//! The real binary, running `sim`: simulated nodes as child processes.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use super::{Scratch, command, json};

/// Running simulated nodes; killed on drop.
pub struct Sim {
    /// Base URLs, in the order of their `--gpu` flags.
    pub urls: Vec<String>,
    child: Child,
    _scratch: Scratch,
}

impl Sim {
    /// Starts `gpurouter sim --json args…` and waits for the nodes' addresses.
    pub fn start(args: &[&str]) -> Self {
        let scratch = Scratch::new();
        let mut child = command(&scratch)
            .args(["sim", "--json", "--quiet"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary that cargo built");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped"))
            .read_line(&mut line)
            .expect("the nodes' addresses");
        let document = json(line.as_bytes());
        let nodes = document["nodes"].as_array().expect("nodes");
        let urls = nodes
            .iter()
            .map(|node| node["url"].as_str().expect("a url").to_owned())
            .collect();
        Self {
            urls,
            child,
            _scratch: scratch,
        }
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
