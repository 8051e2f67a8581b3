//! What goes in and out of a scheduler: requests, what is seen of the node, and what is to be done.

use std::sync::Arc;

use super::Footprint;
use crate::routing::window::ContextNeed;

/// A model on this node, as a number: the caller keeps the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelId(pub u32);

/// A request, as a number that the caller never uses twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Whoever is to be treated as one party: a key, a user, an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

/// What kind of work a request is, most urgent first.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// Somebody waits for the answer.
    #[default]
    Interactive,
    /// An agent waits for it, and somebody for the agent.
    Agent,
    /// Embeddings.
    Embedding,
    /// Nobody waits.
    Batch,
}

impl Lane {
    /// How many there are.
    pub const COUNT: usize = 4;
    /// All of them, most urgent first.
    pub const ALL: [Self; Self::COUNT] =
        [Self::Interactive, Self::Agent, Self::Embedding, Self::Batch];

    /// Its place in [`Lane::ALL`].
    pub fn index(self) -> usize {
        match self {
            Self::Interactive => 0,
            Self::Agent => 1,
            Self::Embedding => 2,
            Self::Batch => 3,
        }
    }

    /// Whether somebody waits for its answers, so that the others yield to it.
    pub fn urgent(self) -> bool {
        matches!(self, Self::Interactive | Self::Agent)
    }

    /// The word used in configuration and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Agent => "agent",
            Self::Embedding => "embedding",
            Self::Batch => "batch",
        }
    }
}

/// A request that wants to start.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Its number.
    pub id: RequestId,
    /// What kind of work it is.
    pub lane: Lane,
    /// Whose it is.
    pub client: ClientId,
    /// The model.
    pub model: ModelId,
    /// The contexts it can be served with, from [`crate::routing::window::need`].
    pub context: ContextNeed,
    /// What the model needs on this node.
    pub footprint: Arc<Footprint>,
    /// Whether it asks an embedding model, which never evicts another kind.
    pub embeds: bool,
    /// Expected milliseconds of work (prefill and decode), for fairness and forecasts; `None` where nothing was measured.
    pub work_ms: Option<u64>,
}

/// What the node's driver has to do. Each action is told once.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Send the request. The driver answers with [`super::NodeQueue::finished`] whatever comes of it.
    Start {
        /// Which.
        id: RequestId,
        /// The context that its model is loaded with; 0 on a node whose contexts are its own business.
        context: u32,
    },
    /// Evict, then load. The driver answers with [`super::NodeQueue::loaded`] or [`super::NodeQueue::load_failed`].
    Load {
        /// What to load; a copy with another context, if there is one, is idle and replaced by it.
        model: ModelId,
        /// With which context; 0: the node's own choice.
        context: u32,
        /// Idle models that have to go first.
        evict: Vec<ModelId>,
        /// Into main memory (`num_gpu: 0`).
        on_cpu: bool,
        /// The request that is longest overdue; it starts first when the load is done.
        first: RequestId,
    },
    /// Give the request back: this node cannot take it. It is forgotten here.
    Refuse {
        /// Which.
        id: RequestId,
        /// Why.
        why: Refused,
    },
}

/// Why a node cannot take a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The load that it waited for failed.
    LoadFailed,
    /// The model is larger than what may be evicted for it.
    NoRoom {
        /// Bytes it needs.
        need: u64,
        /// Bytes there are besides what must stay.
        usable: u64,
    },
    /// Models that are never evicted take every place that the node has.
    NoPlace,
}

/// The queue is as long as it may get; the request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueFull;

/// What a loaded model takes of a node's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occupied {
    /// Bytes that count against the node's capacity: those in GPU memory, on a node with a GPU.
    pub bytes: u64,
    /// Whether that is all of the model; the rest of a split one lies in main memory, and its bytes say nothing of its size.
    pub whole: bool,
}

/// A model that a look at the node found in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Which.
    pub model: ModelId,
    /// The context it is loaded with; 0 when the node does not tell.
    pub context: u32,
    /// What it takes of the memory; `None` when the node does not tell.
    pub occupied: Option<Occupied>,
    /// When the node means to unload it, on the caller's clock.
    pub expires_at: Option<u64>,
    /// Whether it is an embedding model.
    pub embeds: bool,
}
