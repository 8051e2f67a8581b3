//! Simulated nodes with declared GPUs and speeds.
//!
//! A node speaks Ollama's wire form and behaves as a machine with its GPU would: loads take time, models evict each other, prompts are
//! cut silently, slots run out, and faults happen when they were asked for. It shares no code with what decides where a request goes,
//! nor with the HTTP client that asks it; what was declared about it is visible only as far as a real Ollama would show it. Every
//! answer says that it is simulated.

mod ask;
pub mod catalog;
pub mod clock;
mod edge;
pub mod fault;
mod generate;
pub mod gpu;
pub mod model;
mod node;
mod reply;
mod routes;
mod seed;
mod text;
mod trim;
mod wire;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub use catalog::Model;
pub use clock::Clock;
pub use fault::{Fault, FaultKind, Scope};
pub use gpu::{Gpu, Speed};
pub use model::{Hardware, KeepAlive};
pub use node::{Node, Outcome, Record};
pub use trim::{Shape, Trim};

/// How long the end of a fleet waits for requests that are being given up.
const WIND_DOWN: Duration = Duration::from_secs(2);

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeSpec {
    /// Name, as in its answers.
    pub name: String,
    /// Machine and settings.
    pub hardware: Hardware,
    /// Models on its disk.
    pub models: Vec<Model>,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// Length of every answer in tokens; none: a length that follows from the prompt.
    pub answer_tokens: Option<u32>,
    /// Where to listen; port 0: any.
    pub listen: SocketAddr,
}

impl NodeSpec {
    /// A node with this GPU, Ollama's defaults, the default models, and any port of the loopback interface.
    pub fn new(name: &str, gpu: Gpu) -> Self {
        Self {
            name: name.to_owned(),
            hardware: Hardware::with_gpu(gpu),
            models: Model::defaults(),
            faults: Vec::new(),
            answer_tokens: None,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        }
    }
}

/// Running nodes; dropping the fleet stops them.
pub struct Fleet {
    nodes: Vec<Arc<Node>>,
    threads: Vec<JoinHandle<()>>,
    clock: Clock,
}

impl Fleet {
    /// Starts all nodes, or none: an address that is taken is an error that names it.
    pub fn start(specs: Vec<NodeSpec>, clock: Clock, seed: u64) -> io::Result<Self> {
        let mut fleet = Self {
            nodes: Vec::new(),
            threads: Vec::new(),
            clock,
        };
        for spec in specs {
            let listen = spec.listen;
            let (node, thread) = Node::start(spec, listen, fleet.clock.clone(), seed)
                .map_err(|error| io::Error::new(error.kind(), format!("{listen}: {error}")))?;
            fleet.nodes.push(node);
            fleet.threads.push(thread);
        }
        Ok(fleet)
    }

    /// The nodes in the order of their specifications.
    pub fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    /// One node.
    ///
    /// # Panics
    /// When there is no such node: that is a mistake in the calling code.
    #[allow(
        clippy::indexing_slicing,
        reason = "the index is the caller's own constant"
    )]
    pub fn node(&self, index: usize) -> &Arc<Node> {
        &self.nodes[index]
    }

    /// Base URL of every node.
    pub fn urls(&self) -> Vec<String> {
        self.nodes
            .iter()
            .map(|node| format!("http://{}", node.address()))
            .collect()
    }

    /// The clock of all nodes.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Kills a node as a signal would: see [`Node::kill`].
    pub fn kill(&self, index: usize) {
        self.node(index).kill();
    }

    /// Starts a killed node again on its old port, with nothing in memory.
    pub fn revive(&self, index: usize) -> io::Result<()> {
        self.node(index).revive()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for node in &self.nodes {
            node.stop();
        }
        for thread in self.threads.drain(..) {
            // Its panic was printed when it happened.
            let _ended = thread.join();
        }
        let deadline = Instant::now() + WIND_DOWN;
        while self.nodes.iter().any(|node| node.active() > 0) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }
}
