//! One complete look at a node: what it is, then what that kind of node says about itself.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::cluster::{ClusterSnapshot, Native, Node, NodeKind, NodeState};
use crate::config::NodeConfig;

use super::client::{Ask, Client, Failure, Reply};
use super::json::Listing;
use super::show::Contexts;
use super::{llama, ollama, openai};

/// The longest one look may take, all its requests together.
pub const PROBE_LIMIT: Duration = Duration::from_secs(5);

/// Looks at nodes. One serves all threads; its HTTP clients are made when first needed.
#[derive(Debug)]
pub struct Prober {
    pub(super) client: Client,
    pub(super) contexts: Contexts,
    limit: Duration,
}

impl Default for Prober {
    fn default() -> Self {
        Self::new()
    }
}

impl Prober {
    /// A prober whose looks take [`PROBE_LIMIT`] at most.
    pub fn new() -> Self {
        Self::with_limit(PROBE_LIMIT)
    }

    /// A prober with another limit for one look.
    pub fn with_limit(limit: Duration) -> Self {
        Self {
            client: Client::default(),
            contexts: Contexts::default(),
            limit,
        }
    }

    /// One complete look at the node. What it does not tell this time stays as `previous` had it; a node that fails keeps its models,
    /// so that lists do not flicker.
    pub fn probe(&self, config: &NodeConfig, previous: &Node) -> Node {
        self.look(config, previous, Detail::Full)
    }

    /// A look at whether the node lives and what it has in memory. What it has on disk stays as `previous` had it, unless nothing is known of that:
    /// the list of an Ollama is the largest of its answers.
    pub fn glance(&self, config: &NodeConfig, previous: &Node) -> Node {
        self.look(config, previous, Detail::Memory)
    }

    /// Looks at all nodes at once; takes as long as the slowest.
    pub fn gather(&self, nodes: &[NodeConfig]) -> ClusterSnapshot {
        let unseen = |config: &NodeConfig| Node::unseen(&config.name, &config.url);
        let look = |config: &NodeConfig| self.probe(config, &unseen(config));
        let seen = thread::scope(|scope| {
            let looks: Vec<_> = nodes
                .iter()
                .map(|config| scope.spawn(move || look(config)))
                .collect();
            let nodes = looks.into_iter().zip(nodes).map(|(handle, config)| {
                Arc::new(handle.join().unwrap_or_else(|_| Node {
                    cause: Some("looking at it failed".to_owned()),
                    ..unseen(config)
                }))
            });
            nodes.collect()
        });
        ClusterSnapshot { nodes: seen }
    }

    pub(super) fn look(&self, config: &NodeConfig, previous: &Node, detail: Detail) -> Node {
        let mut node = if previous.url == config.url {
            previous.clone()
        } else {
            Node::unseen(&config.name, &config.url)
        };
        node.name.clone_from(&config.name);
        node.role = config.role;
        node.gpu.clone_from(&config.gpu);
        node.vram_bytes = config.vram_bytes;
        let ask = self.ask(&config.url);
        if let Err(trouble) = self.update(&mut node, config, &ask, detail) {
            trouble.mark(&mut node);
        }
        node
    }

    pub(super) fn ask<'a>(&'a self, url: &'a str) -> Ask<'a> {
        self.client.ask(url, self.limit)
    }

    fn update(
        &self,
        node: &mut Node,
        config: &NodeConfig,
        ask: &Ask,
        detail: Detail,
    ) -> Result<(), Trouble> {
        // What comes back after a pause may be another server on the same port.
        let fresh = !node.state.usable();
        let known = config.kind.or(node
            .kind
            .filter(|_| !matches!(node.state, NodeState::Down | NodeState::Misconfigured)));
        if let Some(kind) = known {
            match self.of_kind(kind, node, ask, fresh, detail) {
                Err(Trouble::WrongApi(_)) if config.kind.is_none() => {}
                result => return result,
            }
        }
        let kind = identify(ask)?.kind();
        let stranger = node.kind.is_some_and(|before| before != kind);
        if stranger {
            *node = Node {
                role: node.role,
                gpu: node.gpu.take(),
                vram_bytes: node.vram_bytes,
                ..Node::unseen(&config.name, &config.url)
            };
        }
        self.of_kind(kind, node, ask, fresh || stranger, detail)
    }

    fn of_kind(
        &self,
        kind: NodeKind,
        node: &mut Node,
        ask: &Ask,
        fresh: bool,
        detail: Detail,
    ) -> Result<(), Trouble> {
        node.kind = Some(kind);
        let mut seen = match kind {
            NodeKind::Ollama => {
                let listed = detail == Detail::Memory && !fresh && !node.models.is_empty();
                ollama::look(node, ask, (!listed).then_some(&self.contexts))?
            }
            NodeKind::LlamaServer => llama::look(node, ask, fresh, detail)?,
            NodeKind::OpenAi => openai::look(node, ask, fresh)?,
        };
        if fresh {
            seen.native = native(kind, ask);
        }
        *node = seen;
        Ok(())
    }
}

/// How much one look asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// Everything.
    Full,
    /// Without llama-server's `/slots` and `/metrics`: both count as work and keep it from going to sleep.
    Quiet,
    /// Without what an Ollama has on disk.
    Memory,
}

/// Why a look could not be completed, and the state that follows.
#[derive(Debug)]
pub(super) enum Trouble {
    Down(String),
    Busy(String),
    Loading(String),
    Misconfigured(String),
    /// It answers, but not what this kind of node would.
    WrongApi(String),
}

impl Trouble {
    fn mark(self, node: &mut Node) {
        let (state, cause) = match self {
            Self::Down(cause) => (NodeState::Down, cause),
            Self::Busy(cause) => (NodeState::Busy, cause),
            Self::Loading(cause) => (NodeState::Loading, cause),
            Self::Misconfigured(cause) => (NodeState::Misconfigured, cause),
            Self::WrongApi(cause) => (
                NodeState::Misconfigured,
                match node.kind {
                    Some(kind) => format!("{cause}; no {} does that", kind.as_str()),
                    None => cause,
                },
            ),
        };
        node.state = state;
        node.cause = Some(cause);
        node.running = None;
        node.waiting = None;
        if state != NodeState::Busy {
            node.loaded.clear();
        }
    }
}

impl Trouble {}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Down(failure.to_string())
    }
}

/// The reply if it is a success, else what its status says about the node.
pub(super) fn success(path: &str, reply: Reply) -> Result<Reply, Trouble> {
    let status = reply.status;
    let told = format!("GET {path} answered {status}");
    match status {
        200..=299 => Ok(reply),
        401 => Err(Trouble::Misconfigured(format!(
            "{told}: the node needs an API key"
        ))),
        403 => Err(Trouble::Misconfigured(format!(
            "{told}: the node refuses this address, host name or key"
        ))),
        503 if reply.loading() => Err(Trouble::Loading("the node is loading its model".to_owned())),
        429 | 503 => Err(Trouble::Busy(told)),
        500..=599 => Err(Trouble::Down(told)),
        _ => Err(Trouble::WrongApi(told)),
    }
}

/// A successful answer to a GET.
pub(super) fn fetch(ask: &Ask, path: &str) -> Result<Reply, Trouble> {
    success(path, ask.get(path)?)
}

/// The trouble of an answer that cannot be read.
pub(super) fn unreadable(path: &str) -> Trouble {
    Trouble::WrongApi(format!(
        "GET {path} answered something else than the expected JSON"
    ))
}

/// What a server turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Identity {
    Ollama,
    LlamaServer,
    Vllm,
    LmStudio,
    /// Another gpurouter.
    Gpurouter,
    /// Some other server with `/v1/models`.
    OpenAi,
}

impl Identity {
    pub(super) fn kind(self) -> NodeKind {
        match self {
            Self::Ollama => NodeKind::Ollama,
            Self::LlamaServer => NodeKind::LlamaServer,
            Self::Vllm | Self::LmStudio | Self::Gpurouter | Self::OpenAi => NodeKind::OpenAi,
        }
    }
}

/// Asks a server of unknown kind what it is, with the calls that only one kind answers first.
pub(super) fn identify(ask: &Ask) -> Result<Identity, Trouble> {
    let mut replies = Vec::new();
    for path in ["/api/version", "/props", "/v1/models"] {
        match ask.get(path) {
            Ok(reply) => {
                if let Some(identity) = recognise(path, &reply) {
                    return Ok(identity);
                }
                replies.push((path, reply));
            }
            // Nothing that does not even answer the first call will answer the next.
            Err(failure) => return Err(failure.into()),
        }
    }
    Err(unknown(ask.base(), replies))
}

fn recognise(path: &str, reply: &Reply) -> Option<Identity> {
    if reply.gpurouter {
        return Some(Identity::Gpurouter);
    }
    if reply.llama_cpp {
        return Some(Identity::LlamaServer);
    }
    if path == "/props" && reply.loading() {
        return Some(Identity::LlamaServer);
    }
    if !reply.ok() {
        return None;
    }
    match path {
        "/api/version" => ollama::is_version(reply).then_some(Identity::Ollama),
        "/props" => llama::is_props(reply).then_some(Identity::LlamaServer),
        _ => reply
            .json::<Listing>()
            .filter(|list| list.data.is_some())
            .map(|list| openai::identity(&list)),
    }
}

fn unknown(base: &str, replies: Vec<(&str, Reply)>) -> Trouble {
    let told: Vec<String> = replies
        .iter()
        .map(|(path, reply)| format!("GET {path} answered {}", reply.status))
        .collect();
    let told = told.join(", ");
    let key = replies.iter().any(|(_, reply)| reply.status == 401);
    if !key && replies.iter().all(|(_, reply)| reply.status >= 500) {
        return Trouble::Down(told);
    }
    for (path, reply) in replies {
        if matches!(reply.status, 401 | 403 | 429 | 503)
            && let Err(trouble) = success(path, reply)
        {
            return trouble;
        }
    }
    let hint = if base.ends_with("/v1") {
        "; leave /v1 off the URL"
    } else {
        ""
    };
    Trouble::Misconfigured(format!(
        "the server speaks none of the known APIs: {told}{hint}"
    ))
}

/// Which forms a node answers itself. A POST without a body never reaches a model, and every server tells a route it has (400, 422,
/// 500) from one it does not have (404, 405; LM Studio: 200), which a GET does not: llama-server answers 404 to both.
fn native(kind: NodeKind, ask: &Ask) -> Native {
    let has = |path| {
        ask.post(path, Vec::new())
            .is_ok_and(|reply| matches!(reply.status, 400 | 401 | 415 | 422 | 500))
    };
    Native {
        ollama: kind == NodeKind::Ollama,
        responses: has("/v1/responses"),
        messages: has("/v1/messages"),
        count_tokens: has("/v1/messages/count_tokens"),
    }
}

/// Looks at all nodes at once, for commands that run once. Takes as long as the slowest node, [`PROBE_LIMIT`] at most.
pub fn gather(nodes: &[NodeConfig]) -> ClusterSnapshot {
    Prober::new().gather(nodes)
}
