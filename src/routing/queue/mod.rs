//! One node's scheduler: which waiting request starts, when a model is loaded, with which context, and what is evicted for it.
//!
//! Pure: events come in with the time in milliseconds, [`Action`]s go out; `serve` drives it in real time, `bench replay` in virtual time.
//!
//! # The policy
//!
//! *Requests for what is loaded flow.* A request starts when its model is in memory with a context that covers it and a slot is free. Among
//! those that could start, lanes take turns by their [`Shares`] and clients inside a lane in equal parts. Embeddings and batch
//! work also *yield*: they do not start while an interactive or agent request is reading its prompt or waits for a slot, and they leave
//! the last slot of a model free for a while after such a request used it; after [`YIELD_MS`] of yielding, one of them starts all the same. While
//! such a request is being answered they run one at a time, and rest after each for as long as makes their time their share.
//!
//! *One load at a time, and it belongs to the node.* A load goes on when the client that caused it leaves, and later requests for the model
//! join it. A model that fits beside the others is loaded at once. Otherwise the least valuable models have to go: value is the time that
//! a reload costs over the time since the last use; models with requests are worth most; pinned ones come last or never; embeddings never
//! evict a model of another kind, they go to the CPU where the node can do that, and else wait until the other one has been idle for
//! [`LAST_RESORT_MS`].
//!
//! *Drain, then switch.* Idle victims go at once, unless their next request is expected sooner than the two loads that it would cost. Victims
//! at work keep taking requests for a bounded time, the *hold*: [`HOLD_LOADS`] times the time of a load (2 to 60 s), as many times longer as
//! the share of the waiting lane is smaller than that of interactive work, from the arrival of the oldest waiting request. Then they are closed: what runs is finished, nothing else starts on
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
//! model is loaded again because it was too small or when no other model that is known here would fit into it, out of nothing of what models that were used lately and are not in memory would need. So a
//! client whose context grows with its conversation rarely causes a load.
//!
//! *Memory* is never over-committed knowingly. An unknown capacity is learned from what was seen in memory together and from what the
//! node threw out by itself.

mod candidates;
mod claim;
mod contexts;
mod events;
mod fair;
mod footprint;
mod forecast;
mod load;
mod memory;
mod models;
mod request;
mod room;
mod settings;
mod slots;
mod start;

pub use fair::Shares;
pub use footprint::Footprint;
pub use forecast::Forecast;
pub use models::{Pin, Resident};
pub use request::{
    Action, ClientId, Lane, ModelId, Occupied, QueueFull, Refused, Request, RequestId, Seen,
};
pub use settings::{Residency, Settings};

use std::collections::BTreeMap;

use fair::Fair;
use memory::Memory;
use models::Models;
use slots::Slots;

use super::window::WindowPolicy;

/// Loads that a hold and a quantum last: with four, at least four fifths of the time go to answers while two models take turns.
pub const HOLD_LOADS: u64 = 4;
/// Shortest quantum, and shortest hold of interactive work.
pub const HOLD_LEAST_MS: u64 = 2_000;
/// Longest quantum, and longest hold of interactive work.
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

/// A load under way, for whoever wants to tell how long it will take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadUnderWay {
    /// The model.
    pub model: ModelId,
    /// The context it is loaded with; 0: the node's own choice.
    pub context: u32,
    /// When it was ordered.
    pub since: u64,
    /// Milliseconds that the last load of the model took here; `None` when it is the first.
    pub usual_ms: Option<u64>,
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
    /// Somebody changes what is in memory himself: see [`NodeQueue::claim`].
    claimed: bool,
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
            claimed: false,
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

    /// The requests that wait, in the order of their arrival, each with the time of it.
    pub fn waiting(&self) -> impl Iterator<Item = (&Request, u64)> {
        self.waiting
            .iter()
            .map(|waiting| (&waiting.request, waiting.arrived))
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

    /// The load that is under way.
    pub fn loading(&self) -> Option<LoadUnderWay> {
        let loading = self.loading.as_ref()?;
        Some(LoadUnderWay {
            model: loading.model,
            context: loading.context,
            since: loading.since,
            usual_ms: self.load_ms(loading.model),
        })
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

    /// The largest context with which a model fits into the node's memory by itself, as far as both are known; `None` also when not even the
    /// smallest does.
    pub fn largest_context(&self, model: ModelId) -> Option<u32> {
        let bytes = self.capacity()?;
        self.models.known(model)?.largest_context(bytes)
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
    let times = shares.of(Lane::Interactive);
    (quantum(load_ms).saturating_mul(times) / shares.of(lane)).min(HOLD_LONGEST_MS)
}

#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;
