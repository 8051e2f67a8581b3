//! The decision.

use serde::Serialize;

use super::{Complexity, Policy, RequestFacts, Speeds};
use crate::cluster::ClusterSnapshot;

/// What becomes of the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Plan {
    /// Sent as it is.
    #[default]
    Direct,
}

/// Predicted milliseconds by phase; `None` where a measurement is missing.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Predicted {
    /// Until a slot is free.
    pub wait_ms: Option<u64>,
    /// Until the model is loaded.
    pub load_ms: Option<u64>,
    /// Reading the prompt.
    pub prefill_ms: Option<u64>,
    /// Writing the answer.
    pub decode_ms: Option<u64>,
}

/// One node considered for a request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidate {
    /// Node name.
    pub node: String,
    /// The model as that node calls it; what is sent to it.
    pub model: String,
    /// Whether the request may go there.
    pub admitted: bool,
    /// Predicted milliseconds by phase.
    pub predicted: Predicted,
    /// Why it won, or why it lost, as a short code.
    pub reason: String,
}

/// Where a request goes, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Class of the request, when it was classified.
    pub complexity: Option<Complexity>,
    /// Tier in lower case; `explicit` for a model that the client named.
    pub tier: String,
    /// What becomes of the context.
    pub plan: Plan,
    /// The candidates: admitted ones first, best first; the first is the winner and the rest of the admitted ones are its fall-backs.
    pub candidates: Vec<Candidate>,
    /// Short code.
    pub reason: String,
    /// The reason as a sentence.
    pub detail: String,
}

/// What this router has sent to a node and not got back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NodeLoad {
    /// Requests being answered.
    pub active: u32,
    /// Requests waiting for a slot here.
    pub queued: u32,
    /// Slots of the node in use by this router's admission; `None` while unknown.
    pub slots: Option<u32>,
}

/// Why no node can take a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The client named no model.
    NoModel,
    /// No node has the model.
    UnknownModel {
        /// As the client wrote it.
        model: String,
        /// The nearest name that some node has.
        nearest: Option<String>,
    },
    /// Every node that has the model, or every node, is down.
    NoNode {
        /// What was tried and why not, as a sentence.
        detail: String,
    },
}

/// Decides where a request goes. `load` is parallel to the snapshot's nodes.
pub fn decide(
    _facts: &RequestFacts,
    _snapshot: &ClusterSnapshot,
    _load: &[NodeLoad],
    _speeds: &Speeds,
    _policy: &Policy,
) -> Result<Decision, Refusal> {
    Err(Refusal::NoModel)
}
