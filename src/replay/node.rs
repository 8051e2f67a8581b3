//! A simulated node: its memory and slots ([`Machine`]), its GPU ([`Work`]), and the requests inside.

use std::time::Duration;

use super::fleet::FleetNode;
use super::physics::Work;
use crate::sim::model::{Grant, Machine, Ticket};

/// What became of a request.
#[derive(Debug, Clone, Default)]
pub(super) struct Record {
    /// When the client sent it.
    pub(super) sent: Duration,
    pub(super) node: Option<usize>,
    /// When its prompt was begun.
    pub(super) started: Option<Duration>,
    /// When its first token came.
    pub(super) first_token: Option<Duration>,
    pub(super) ended: Option<Duration>,
    /// Whether the prompt was cut.
    pub(super) truncated: bool,
    /// The node died, or refused it.
    pub(super) failed: bool,
    /// Refused with a reason before anything was done.
    pub(super) refused: bool,
}

/// What an answer tells of itself, as Ollama's last line does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counters {
    pub(super) total: Duration,
    pub(super) load: Duration,
    pub(super) prompt_tokens: u32,
    pub(super) cached_tokens: u32,
    pub(super) prompt: Duration,
    pub(super) answer_tokens: u32,
    pub(super) answer: Duration,
    pub(super) context: u32,
}

/// A model in memory, as `/api/ps` tells.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub(super) model: String,
    pub(super) context: u32,
    pub(super) size: u64,
    pub(super) size_vram: u64,
    pub(super) expires_at: Option<Duration>,
}

/// A request inside a node.
#[derive(Debug, Clone)]
pub(super) struct Inside {
    pub(super) request: usize,
    pub(super) ticket: Ticket,
    pub(super) submitted: Duration,
    pub(super) granted: Option<(Duration, Grant)>,
    /// Its prompt is being read or has been.
    pub(super) begun: bool,
    pub(super) cached: u32,
    pub(super) left: u32,
}

/// A load that a policy asked for.
#[derive(Debug, Clone)]
pub(super) struct Ordered {
    pub(super) serial: u64,
    pub(super) ticket: Ticket,
    pub(super) since: Duration,
    pub(super) ready: bool,
}

pub(super) struct SimNode {
    pub(super) spec: FleetNode,
    pub(super) machine: Machine,
    pub(super) work: Work,
    pub(super) inside: Vec<Inside>,
    pub(super) ordered: Option<Ordered>,
    pub(super) up: bool,
    pub(super) loading_for: Duration,
}
