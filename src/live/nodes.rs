//! What the nodes have in memory: looked at between requests, and emptied before cold ones.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;

use crate::http::client::{Client, Deadlines, Origin, Outgoing, OutgoingBody};

/// How long a look may take.
const LOOK: Duration = Duration::from_secs(5);
/// How long an unload may take, and until the node says that it is done.
const UNLOAD: Duration = Duration::from_secs(60);
/// Between two looks whether it is.
const PAUSE: Duration = Duration::from_millis(100);
/// Most of an answer that is read.
const LONGEST: usize = 4 << 20;

/// The Ollamas whose memory a benchmark watches. A llama-server always holds its model: it loads nothing.
#[derive(Debug)]
pub struct Memory<'a> {
    client: &'a Client,
    nodes: Vec<Origin>,
    all: bool,
}

/// The models in memory: node, model, context.
pub(super) type Resident = BTreeSet<(usize, String, Option<u64>)>;

#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    models: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    context_length: Option<u64>,
}

impl<'a> Memory<'a> {
    /// Watches these Ollamas; `all` is whether every other node holds its model for good.
    pub fn new(client: &'a Client, nodes: Vec<Origin>, all: bool) -> Self {
        Self { client, nodes, all }
    }

    /// What is in memory now; `None` when a node does not say.
    pub(super) fn resident(&self) -> Option<Resident> {
        let mut resident = Resident::new();
        for (index, node) in self.nodes.iter().enumerate() {
            let body = self.ask(node, "GET", "/api/ps", b"", LOOK)?;
            let listed: Listed = serde_json::from_slice(&body).ok()?;
            for entry in listed.models {
                let name = entry.model.or(entry.name)?;
                resident.insert((index, name, entry.context_length));
            }
        }
        self.all.then_some(resident)
    }

    /// Empties the memory of every node.
    ///
    /// # Errors
    /// A node does not say what it holds, or still holds something after a minute.
    pub fn unload_all(&self) -> Result<(), String> {
        let deadline = Instant::now() + UNLOAD;
        loop {
            let Some(resident) = self.resident() else {
                return Err("a node does not say what it has in memory".to_owned());
            };
            if resident.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let names: Vec<&str> = resident.iter().map(|(_, name, _)| name.as_str()).collect();
                return Err(format!(
                    "still in memory after {} s: {}",
                    UNLOAD.as_secs(),
                    names.join(", ")
                ));
            }
            for (node, model, _) in &resident {
                if let Some(node) = self.nodes.get(*node) {
                    let body = json!({ "model": model, "keep_alive": 0 }).to_string();
                    // A model for embeddings refuses this form; its own one is tried then.
                    if self
                        .ask(node, "POST", "/api/generate", body.as_bytes(), UNLOAD)
                        .is_none()
                    {
                        let body =
                            json!({ "model": model, "input": "", "keep_alive": 0 }).to_string();
                        self.ask(node, "POST", "/api/embed", body.as_bytes(), UNLOAD);
                    }
                }
            }
            thread::sleep(PAUSE);
        }
    }

    fn ask(
        &self,
        node: &Origin,
        method: &str,
        target: &str,
        body: &[u8],
        limit: Duration,
    ) -> Option<Vec<u8>> {
        let outgoing = Outgoing {
            method,
            target,
            headers: &[("Content-Type", b"application/json")],
            body: if body.is_empty() {
                OutgoingBody::Empty
            } else {
                OutgoingBody::Bytes(body)
            },
        };
        let deadlines = Deadlines {
            connect: LOOK,
            first_byte: None,
            between: None,
            total: Some(limit),
        };
        let mut incoming = self.client.send(node, outgoing, &deadlines, None).ok()?;
        let body = incoming.read_all(LONGEST, None).ok()?;
        (incoming.status() == 200).then_some(body)
    }
}
