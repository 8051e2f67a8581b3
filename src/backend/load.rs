//! The loads and unloads that waiting requests cause. On an Ollama: an empty request that names the model, with the context and the options
//! that the requests will be sent with. On a llama-server in router mode: its own calls, which take no context. Nothing here downloads
//! anything: a model that the node lacks is an error.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::client::Failure;
use super::probe::Prober;
use super::{control, ollama};
use crate::cluster::{LoadedModel, ModelName, Node, NodeKind};

/// Longest wait for a load where the configuration sets no limit: nobody reads a model for a day.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest part of a node's words that is passed on.
const MOST_WORDS: usize = 500;

/// A load for requests that wait for it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LoadCall {
    /// The model as the node calls it.
    pub model: String,
    /// Whether it is an embedding model, which has another route.
    pub embeds: bool,
    /// Context in tokens; `None`: the node's own.
    pub context: Option<u32>,
    /// Further options as Ollama names them, with their values as JSON.
    pub options: Vec<(&'static str, Value)>,
    /// `keep_alive` as the client would write it; `None`: the node's own.
    pub keep_alive: Option<Value>,
}

/// Why a load did not work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadFailure {
    /// No answer from the node.
    Failed(Failure),
    /// It answered with this status and said this.
    Refused(u16, String),
}

impl LoadFailure {
    /// Whether the node says that it lacks memory.
    pub fn out_of_memory(&self) -> bool {
        let Self::Refused(_, words) = self else {
            return false;
        };
        let words = words.to_ascii_lowercase();
        ["more system memory", "out of memory", "insufficient memory"]
            .iter()
            .any(|said| words.contains(said))
    }
}

impl std::fmt::Display for LoadFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Failed(failure) => failure.fmt(f),
            Self::Refused(status, words) => write!(f, "it answered {status}: {words}"),
        }
    }
}

impl std::error::Error for LoadFailure {}

impl Prober {
    /// Loads a model and waits until it is in memory. `limit` is for the whole of it.
    ///
    /// # Errors
    /// The node gives no answer in time, or refuses.
    pub fn load_for(
        &self,
        node: &Node,
        call: &LoadCall,
        limit: Option<Duration>,
    ) -> Result<(), LoadFailure> {
        if node.kind == Some(NodeKind::LlamaServer) {
            let ask = self.client.ask(&node.url, limit.unwrap_or(LONGEST));
            let loaded = control::load_at_llama(node, &ModelName::new(&call.model), &ask);
            return loaded.map(drop).map_err(refused);
        }
        let mut options = Map::new();
        if let Some(context) = call.context {
            options.insert("num_ctx".to_owned(), context.into());
        }
        for (name, value) in &call.options {
            options.insert((*name).to_owned(), value.clone());
        }
        let mut body = Map::new();
        body.insert("model".to_owned(), call.model.as_str().into());
        if call.embeds {
            body.insert("input".to_owned(), "".into());
        } else {
            body.insert("stream".to_owned(), false.into());
        }
        if !options.is_empty() {
            body.insert("options".to_owned(), options.into());
        }
        if let Some(keep_alive) = &call.keep_alive {
            body.insert("keep_alive".to_owned(), keep_alive.clone());
        }
        let path = if call.embeds {
            "/api/embed"
        } else {
            "/api/generate"
        };
        self.tell(node, path, &body.into(), limit.unwrap_or(LONGEST))
    }

    /// Takes an idle model out of a node's memory. The answer comes before the memory is free; Ollama waits for it with the next load.
    ///
    /// # Errors
    /// The node gives no answer or refuses.
    pub fn evict(&self, node: &Node, model: &str) -> Result<(), LoadFailure> {
        if node.kind == Some(NodeKind::LlamaServer) {
            return self.unload(node, &ModelName::new(model)).map_err(refused);
        }
        // For embedding models too: `/api/embed` would load what is not loaded.
        let body = json!({ "model": model, "keep_alive": 0, "stream": false });
        self.tell(node, "/api/generate", &body, super::PROBE_LIMIT)
    }

    /// What an Ollama or a llama-server in router mode holds in memory now.
    ///
    /// # Errors
    /// The node gives no answer, or not the list.
    pub fn in_memory(&self, node: &Node) -> Result<Vec<LoadedModel>, Failure> {
        let ask = self.ask(&node.url);
        if node.kind == Some(NodeKind::LlamaServer) {
            return control::held_by_llama(node, &ask);
        }
        ollama::residents(&ask)
    }

    fn tell(
        &self,
        node: &Node,
        path: &str,
        body: &Value,
        limit: Duration,
    ) -> Result<(), LoadFailure> {
        let ask = self.client.ask(&node.url, limit);
        let reply = ask
            .post(path, body.to_string().into_bytes())
            .map_err(LoadFailure::Failed)?;
        if reply.ok() {
            return Ok(());
        }
        let told: Option<Value> = reply.json();
        let words = told
            .as_ref()
            .and_then(|told| told.get("error")?.as_str())
            .map_or_else(
                || String::from_utf8_lossy(&reply.body).into_owned(),
                str::to_owned,
            );
        let words = words.chars().take(MOST_WORDS).collect();
        Err(LoadFailure::Refused(reply.status, words))
    }
}

/// What a llama-server said is a refusal like an Ollama's; its status is part of the words.
fn refused(failure: Failure) -> LoadFailure {
    match failure {
        Failure::Answered(words) => LoadFailure::Refused(500, words),
        other => LoadFailure::Failed(other),
    }
}
