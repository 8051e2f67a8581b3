//! The document `status`, from the snapshot, the GPUs and what the router itself knows.

use serde::Serialize;

use super::gpus::{self, GpuStatus};
use crate::cluster::{ClusterSnapshot, Node, NodeState};
use crate::gpu::{Inventory, SourceStatus};
use crate::routing::{NodeLoad, Speeds};

/// `status --json` and `/gpurouter/api/status`.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Version of this document's form.
    pub schema: u32,
    /// Where it comes from: `router` (the running one) or `probe` (asked just now).
    pub source: &'static str,
    /// gpurouter's version.
    pub version: &'static str,
    /// One entry per node, in configuration order.
    pub nodes: Vec<NodeStatus>,
    /// This machine's GPUs, in PCI bus order.
    pub gpus: Vec<GpuStatus>,
    /// Where they were looked for, and what came of it.
    pub gpu_sources: Vec<SourceStatus>,
    /// What needs attention.
    pub warnings: Vec<Warning>,
}

/// One node of [`Status`].
#[derive(Debug, Clone, Serialize)]
pub struct NodeStatus {
    /// Name.
    pub name: String,
    /// Base URL.
    pub url: String,
    /// `ollama`, `llama-server` or `openai`; `None` until it has answered once.
    pub kind: Option<&'static str>,
    /// What it is meant for.
    pub role: crate::cluster::Role,
    /// What it can be relied on for.
    pub state: NodeState,
    /// Why it is not up.
    pub cause: Option<String>,
    /// Version of its server.
    pub version: Option<String>,
    /// Requests of this router that it is answering; `None` when no router runs.
    pub active: Option<u32>,
    /// Requests of this router that wait for it; `None` when no router runs.
    pub queued: Option<u32>,
    /// Requests it runs at once; `None` when it does not tell.
    pub slots: Option<u32>,
    /// The load that this router makes it do now.
    pub loading: Option<LoadingStatus>,
    /// Models in its memory.
    pub loaded: Vec<LoadedStatus>,
    /// Names of the models it offers.
    pub models: Vec<String>,
    /// Measured speeds.
    pub speeds: Vec<SpeedStatus>,
}

/// A load under way.
#[derive(Debug, Clone, Serialize)]
pub struct LoadingStatus {
    /// The model as the node calls it.
    pub model: String,
    /// Milliseconds since it began.
    pub since_ms: u64,
    /// Milliseconds until it is done, if it takes as long as the last one of that model; `None` before there was one.
    pub left_ms: Option<u64>,
}

impl LoadingStatus {
    pub(super) fn of(load: super::gate::LoadUnderWay) -> Self {
        Self {
            model: load.model,
            since_ms: load.since_ms,
            left_ms: load.left_ms,
        }
    }
}

/// A model in memory.
#[derive(Debug, Clone, Serialize)]
pub struct LoadedStatus {
    /// Full name.
    pub model: String,
    /// Bytes in all memory.
    pub size_bytes: Option<u64>,
    /// Bytes in GPU memory.
    pub vram_bytes: Option<u64>,
    /// Share in GPU memory in percent.
    pub gpu_percent: Option<u8>,
    /// Context length in tokens.
    pub context: Option<u64>,
    /// RFC 3339 time at which it will be unloaded.
    pub expires_at: Option<String>,
}

/// A measured speed.
#[derive(Debug, Clone, Serialize)]
pub struct SpeedStatus {
    /// Full model name.
    pub model: String,
    /// Prompt tokens per second.
    pub prefill_tps: Option<f64>,
    /// Answer tokens per second.
    pub decode_tps: Option<f64>,
    /// Milliseconds of a load.
    pub load_ms: Option<f64>,
    /// Requests measured.
    pub samples: u64,
}

/// Something that needs attention, with its cure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Short code.
    pub code: &'static str,
    /// What is wrong.
    pub text: String,
    /// What to do.
    pub cure: String,
}

impl Status {
    /// Puts the document together. `loads` is parallel to the snapshot's nodes; `None` when no router runs.
    pub fn of(
        snapshot: &ClusterSnapshot,
        loads: Option<&[NodeLoad]>,
        speeds: &Speeds,
        inventory: &Inventory,
    ) -> Self {
        let nodes: Vec<NodeStatus> = snapshot
            .nodes
            .iter()
            .enumerate()
            .map(|(index, node)| {
                node_status(node, loads.and_then(|loads| loads.get(index)), speeds)
            })
            .collect();
        Self {
            schema: 1,
            source: if loads.is_some() { "router" } else { "probe" },
            version: env!("CARGO_PKG_VERSION"),
            nodes,
            gpus: gpus::told(inventory),
            gpu_sources: inventory.sources.clone(),
            warnings: warnings(snapshot)
                .into_iter()
                .chain(gpus::warnings(snapshot, inventory))
                .collect(),
        }
    }
}

fn node_status(node: &Node, load: Option<&NodeLoad>, speeds: &Speeds) -> NodeStatus {
    let mut measured: Vec<SpeedStatus> = speeds
        .by_node_and_model
        .get(&node.name)
        .into_iter()
        .flatten()
        .filter(|(_, speed)| speed.samples > 0 || speed.load_ms.is_some())
        .map(|(model, speed)| SpeedStatus {
            model: model.to_string(),
            prefill_tps: speed.prefill_tps,
            decode_tps: speed.decode_tps,
            load_ms: speed.load_ms,
            samples: speed.samples,
        })
        .collect();
    measured.sort_by(|a, b| a.model.cmp(&b.model));
    NodeStatus {
        name: node.name.clone(),
        url: node.url.clone(),
        kind: node.kind.map(crate::cluster::NodeKind::as_str),
        role: node.role,
        state: node.state,
        cause: node.cause.clone(),
        version: node.version.clone(),
        active: load.map(|load| load.active),
        queued: load.map(|load| load.queued),
        slots: load.and_then(|load| load.slots).or(node.slots),
        loading: None,
        loaded: node
            .loaded
            .iter()
            .map(|loaded| LoadedStatus {
                model: loaded.name.to_string(),
                size_bytes: loaded.size_bytes,
                vram_bytes: loaded.vram_bytes,
                gpu_percent: loaded.gpu_percent(),
                context: loaded.context,
                expires_at: loaded.expires_at.clone(),
            })
            .collect(),
        models: node.models.iter().map(|model| model.id.clone()).collect(),
        speeds: measured,
    }
}

fn warnings(snapshot: &ClusterSnapshot) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if snapshot.nodes.is_empty() {
        warnings.push(Warning {
            code: "no_nodes",
            text: "no node is configured and none was found on this machine".to_owned(),
            cure: "start a model server, or name one with --node http://HOST:PORT".to_owned(),
        });
    }
    for node in &snapshot.nodes {
        let (code, cure) = match node.state {
            NodeState::Down => (
                "node_down",
                format!("start the server at {}, or correct its address", node.url),
            ),
            NodeState::Misconfigured => (
                "node_misconfigured",
                format!("see what answers at {}", node.url),
            ),
            _ => continue,
        };
        let cause = node.cause.as_deref().unwrap_or("no cause known");
        warnings.push(Warning {
            code,
            text: format!("node `{}` is {}: {cause}", node.name, node.state.as_str()),
            cure,
        });
    }
    warnings
}
