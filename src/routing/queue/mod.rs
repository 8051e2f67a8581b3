//! One node's scheduler: which waiting request starts, when a model is loaded, with which context, and what is evicted for it.
//!
//! Pure: events come in with the time in milliseconds, [`Action`]s go out; `serve` drives it in real time, `bench replay` in virtual time.
//!
//! # The policy
//!
//! *Requests for what is loaded flow.* A request starts when its model is in memory with a context that covers it and a slot is free. Among
//! those that could start, lanes take turns by their [`Shares`] and clients inside a lane in equal parts ([`fair`]). Embeddings and batch
//! work also *yield*: they do not start while an interactive or agent request is reading its prompt or waits for a slot, and they leave
//! the last slot of a model free for a while after such a request used it; after [`YIELD_MS`] of yielding, one of them starts all the same.
//!
//! *One load at a time, and it belongs to the node.* A load goes on when the client that caused it leaves, and later requests for the model
//! join it. A model that fits beside the others is loaded at once. Otherwise the least valuable models have to go: value is the time that
//! a reload costs over the time since the last use; models with requests are worth most; pinned ones come last or never; embeddings never
//! evict a model of another kind, they go to the CPU where the node can do that, and else wait until the other one has been idle for
//! [`LAST_RESORT_MS`].
//!
//! *Drain, then switch.* Idle victims go at once, unless their next request is expected sooner than the two loads that it would cost. Victims
//! at work keep taking requests for a bounded time, the *hold*: [`HOLD_LOADS`] times the time of a load (2 to 60 s), divided by the share of
//! the waiting lane, from the arrival of the oldest waiting request. Then they are closed: what runs is finished, nothing else starts on
//! them, and none of them is revived before the switch is over. A lane that had its way like that waits a hold again before the next time, so that
//! even hundreds of batch requests get no more than their share of the switches. A model that was just loaded keeps its place for a *quantum* of the same
//! length while it has requests, so that each load is paid back by a batch of answers. Embeddings and batch work *gather*: while the node has other
//! work they wait for as long as a quantum for others of their kind before they make a model go, and they treat a model that somebody uses
//! interactively like one with requests. Of several models that are waited for, the one whose oldest request runs out of its hold first is next, and
//! that request starts first on it; before any hold has run out, urgent lanes come first and then the largest batch.
//!
//! *The bound.* While loads end within `L` and answers within `D`, a request with `n` requests before it starts after at most
//! hold + (n + 1) x (quantum + L + D + [`YIELD_MS`]) x (sum of the shares / share of its lane): see [`longest_wait`]. Nothing starves.
//!
//! *Contexts.* A load takes the context that its waiting requests wish for, a step of the ladder of [`super::window`], and more out of memory
//! that would be left over anyway: out of half of it as many times the wish as the requests are likely to grow to, out of all of it when the
//! model is loaded again because it was too small, out of nothing of what models that were used lately and are not in memory would need. So a
//! client whose context grows with its conversation rarely causes a load.
//!
//! *Memory* is never over-committed knowingly. An unknown capacity is learned from what was seen in memory together and from what the
//! node threw out by itself.

mod candidates;
mod contexts;
mod events;
mod fair;
mod footprint;
mod forecast;
mod load;
mod memory;
mod models;
mod room;
mod slots;
mod start;

pub use fair::Shares;
pub use footprint::Footprint;
pub use forecast::Forecast;
pub use models::{Pin, Resident};

use std::collections::BTreeMap;
use std::sync::Arc;

use fair::Fair;
use memory::Memory;
use models::Models;
use slots::Slots;

use super::window::{ContextNeed, WindowPolicy};

/// Loads that a hold and a quantum last: with four, at least four fifths of the time go to answers while two models take turns.
pub const HOLD_LOADS: u64 = 4;
/// Shortest hold and quantum of a lane with the share 1.0.
pub const HOLD_LEAST_MS: u64 = 2_000;
/// Longest hold and quantum of a lane with the share 1.0.
pub const HOLD_MOST_MS: u64 = 60_000;
/// Longest hold of any lane.
pub const HOLD_LONGEST_MS: u64 = 600_000;
/// Time of a load, for the length of holds, until one was seen. No prediction: it is never shown.
pub const LOAD_GUESS_MS: u64 = 5_000;
/// How long embeddings and batch work yield at most before one of them starts.
pub const YIELD_MS: u64 = 5_000;
/// How long the last slot of a model with several is kept for interactive and agent requests after one used it.
pub const KEEP_SLOT_MS: u64 = 600_000;
/// How long the only slot of a model is kept for the next interactive or agent request.
pub const KEEP_ONLY_SLOT_MS: u64 = 5_000;
/// How long a model of another kind must have been idle before a waiting embedding may evict it after all.
pub const LAST_RESORT_MS: u64 = 60_000;

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

/// What a node lets its users do about its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Residency {
    /// Models are loaded and evicted (Ollama, llama-server in router mode); slots are counted for each model.
    #[default]
    Managed,
    /// What it serves is in memory, or its own business (llama-server with one model, vLLM): nothing is ever loaded, slots are the node's.
    Fixed,
}

/// What is configured or known of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whether models come and go.
    pub residency: Residency,
    /// What becomes of `num_ctx`; only `raise-only` loads more context than was asked for.
    pub policy: WindowPolicy,
    /// Usable bytes of memory; `None`: learned.
    pub capacity: Option<u64>,
    /// Models in memory at once (`OLLAMA_MAX_LOADED_MODELS`); `None`: learned.
    pub most_models: Option<u32>,
    /// Requests worked on at once, for each model (managed) or all together (fixed); `None`: learned.
    pub slots: Option<u32>,
    /// Most requests that wait.
    pub queue: u32,
    /// Shares of the lanes.
    pub shares: Shares,
    /// Whether an embedding model may be loaded into main memory when it does not fit beside the others (Ollama's `num_gpu: 0`).
    pub cpu_loads: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            residency: Residency::Managed,
            policy: WindowPolicy::default(),
            capacity: None,
            most_models: None,
            slots: None,
            queue: 256,
            shares: Shares::default(),
            cpu_loads: false,
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
    /// The contexts it can be served with, from [`super::window::need`].
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
    /// Send the request. The driver answers with [`NodeQueue::finished`] whatever comes of it.
    Start {
        /// Which.
        id: RequestId,
        /// The context that its model is loaded with; 0 on a node whose contexts are its own business.
        context: u32,
    },
    /// Evict, then load. The driver answers with [`NodeQueue::loaded`] or [`NodeQueue::load_failed`].
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

/// A request that waits.
#[derive(Debug, Clone, PartialEq)]
struct Waiting {
    request: Request,
    arrived: u64,
}

/// A request that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Active {
    model: ModelId,
    lane: Lane,
    /// When.
    started: u64,
    /// Requests at work with it when it started, itself included: of the model, or of a fixed node.
    together: u32,
    /// Whether its answer has begun.
    answering: bool,
    work_ms: Option<u64>,
}

/// A load under way.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Loading {
    model: ModelId,
    context: u32,
    bytes: u64,
    on_cpu: bool,
    embeds: bool,
    /// When the driver was told.
    since: u64,
    /// Models that were in memory besides, so that a loss is noticed.
    beside: Vec<ModelId>,
    first: RequestId,
}

/// A switch that is decided: its victims take no further requests.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Switch {
    model: ModelId,
    evict: Vec<ModelId>,
}

/// One node's scheduler. See the module's text for what it promises.
#[derive(Debug, Clone)]
pub struct NodeQueue {
    settings: Settings,
    /// In order of arrival.
    waiting: Vec<Waiting>,
    active: BTreeMap<RequestId, Active>,
    models: Models,
    memory: Memory,
    slots: Slots,
    fair: Fair,
    loading: Option<Loading>,
    switch: Option<Switch>,
    /// The request that a finished load was made for: it starts first.
    first: Option<RequestId>,
    /// By lane: until when it has had its way against others, and has to be content with what they leave.
    had_its_way: [u64; Lane::COUNT],
    /// When [`NodeQueue::step`] has something to do although nothing happens before.
    wake: Option<u64>,
}

impl NodeQueue {
    /// A node of which nothing is known besides its settings.
    pub fn new(settings: Settings) -> Self {
        Self {
            waiting: Vec::new(),
            active: BTreeMap::new(),
            models: Models::default(),
            memory: Memory::new(settings.capacity, settings.most_models),
            slots: Slots::new(settings.slots),
            fair: Fair::new(settings.shares),
            loading: None,
            switch: None,
            first: None,
            had_its_way: [0; Lane::COUNT],
            wake: None,
            settings,
        }
    }

    /// What to do now. Call it after every event and when [`NodeQueue::wake`] is due, until it returns nothing.
    pub fn step(&mut self, now: u64) -> Vec<Action> {
        self.wake = None;
        self.models.expire(now);
        let mut actions = Vec::new();
        self.start_all(now, &mut actions);
        if self.settings.residency == Residency::Managed {
            self.plan_load(now, &mut actions);
        }
        actions
    }

    /// When [`NodeQueue::step`] should be called again even if nothing happens, on the clock of the last call.
    pub fn wake(&self) -> Option<u64> {
        self.wake
    }

    fn wake_at(&mut self, at: u64) {
        self.wake = Some(self.wake.map_or(at, |earlier| earlier.min(at)));
    }

    /// Requests that wait.
    pub fn queued(&self) -> usize {
        self.waiting.len()
    }

    /// Requests that were started and have not finished.
    pub fn active(&self) -> usize {
        self.active.len()
    }

    /// What is in memory, as far as is known, in the order of the numbers.
    pub fn residents(&self) -> impl Iterator<Item = &Resident> {
        self.models.residents()
    }

    /// The model that is being loaded, its context, and since when.
    pub fn loading(&self) -> Option<(ModelId, u32, u64)> {
        self.loading
            .as_ref()
            .map(|loading| (loading.model, loading.context, loading.since))
    }

    /// The context that a model is or is about to be loaded with: what [`super::window::need`] has to know as `loaded`.
    pub fn context_of(&self, model: ModelId) -> Option<u32> {
        let loading = self
            .loading
            .as_ref()
            .filter(|loading| loading.model == model);
        loading
            .map(|loading| loading.context)
            .or_else(|| self.models.resident(model).map(|resident| resident.context))
            .or_else(|| {
                // A first request whose context is to be the only one speaks for those after it.
                let first = self.waiting.iter().find(|waiting| {
                    waiting.request.model == model && waiting.request.context.exact
                });
                first
                    .filter(|_| self.settings.policy == WindowPolicy::Pin)
                    .map(|waiting| waiting.request.context.wish)
            })
            .filter(|context| *context > 0)
    }

    /// Requests the node takes at once (for each model, where it is managed), when that is told or learned.
    pub fn slots(&self) -> Option<u32> {
        self.slots.known()
    }

    /// Usable bytes, when they are told or an upper bound was learned.
    pub fn capacity(&self) -> Option<u64> {
        self.memory.most_bytes()
    }

    /// Milliseconds that the last load of a model took here.
    pub fn load_ms(&self, model: ModelId) -> Option<u64> {
        self.models.known(model).and_then(|known| known.load_ms)
    }
}

/// The longest that a request waits with `ahead` requests before it (waiting or at work when it arrived), if answers take at most
/// `answer_ms` and loads at most `load_ms`.
pub fn longest_wait(
    settings: &Settings,
    lane: Lane,
    ahead: u64,
    answer_ms: u64,
    load_ms: u64,
) -> u64 {
    let round = quantum(Some(load_ms)) + load_ms + answer_ms + YIELD_MS;
    let rounds = (ahead + 1).saturating_mul(settings.shares.parts(lane));
    hold(&settings.shares, lane, Some(load_ms)).saturating_add(round.saturating_mul(rounds))
}

/// How long a model that was just loaded keeps its place.
fn quantum(load_ms: Option<u64>) -> u64 {
    let load = load_ms.unwrap_or(LOAD_GUESS_MS);
    load.saturating_mul(HOLD_LOADS)
        .clamp(HOLD_LEAST_MS, HOLD_MOST_MS)
}

/// How long victims at work go on taking requests while one of that lane waits for another model.
fn hold(shares: &Shares, lane: Lane, load_ms: Option<u64>) -> u64 {
    let share = shares.of(lane);
    (quantum(load_ms).saturating_mul(1000) / share).min(HOLD_LONGEST_MS)
}

#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;
