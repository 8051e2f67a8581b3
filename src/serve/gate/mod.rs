//! One node's scheduler in real time: requests wait here until [`NodeQueue`](crate::routing::queue::NodeQueue) starts them, and its loads are handed to threads.
//!
//! One mutex for each node, held for arithmetic only. A waiting request's own thread watches its client and keeps the scheduler's time.

mod claim;
pub(super) mod figures;
mod loader;
mod state;

pub(super) use claim::{Claim, ClaimedLoad};
pub(super) use loader::Loader;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::asked::Asked;
use crate::cluster::{Model, ModelName, Node, NodeState};
use crate::config::Config;
use crate::routing::queue::{Lane, RequestId, Shares};
use crate::routing::window::{RunnerEdit, TooLong, Window};
use crate::routing::{NodeLoad, Speed, WindowPolicy};
use loader::Order;
use state::{LoadError, Promised, State, Verdict};
pub(super) use state::{Measured, Refusal, written};

/// How often a waiting request looks whether its client is still there.
const LOOK: Duration = Duration::from_millis(20);

/// Why a request was not admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotAdmitted {
    /// The node's queue is full.
    QueueFull,
    /// No slot became free in time.
    TimedOut,
    /// The client left while it waited.
    ClientGone,
    /// The prompt is longer than any context that the model can be given there.
    TooLong(TooLong),
    /// The node cannot take it.
    Refused(Refusal),
}

/// What of the configuration the schedulers follow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) policy: WindowPolicy,
    pub(super) shares: Shares,
    pub(super) slots: Option<u32>,
    pub(super) queue: u32,
    pub(super) memory: crate::cluster::MemoryPolicy,
    pub(super) cpu_loads: bool,
}

impl Rules {
    pub(super) fn of(config: &Config) -> Self {
        let lanes = &config.lanes;
        Self {
            policy: config.context.num_ctx,
            shares: Shares::new([lanes.interactive, lanes.agent, lanes.embedding, lanes.batch]),
            slots: config.admission.slots,
            queue: config.admission.queue,
            memory: config.memory,
            cpu_loads: config.gpu.cpu_fallback,
        }
    }
}

/// Models that are to stay in memory: a request evicts one of them only when nothing else is left to evict.
pub(super) type Pins = BTreeSet<ModelName>;

/// What was counted of a node.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Counts {
    /// Loads that were begun.
    pub(super) loads: u64,
    /// Of these, how many did not work.
    pub(super) failed: u64,
    /// Models that were evicted for others.
    pub(super) evicted: u64,
    /// Loads that plain Ollama would have made.
    pub(super) avoided: u64,
    /// Milliseconds that those of them would have taken whose models' loads were measured.
    pub(super) avoided_ms: u64,
    /// Requests that started, and the milliseconds that they waited, by lane.
    pub(super) waits: [(u64, u64); Lane::COUNT],
}

/// A load under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LoadUnderWay {
    /// The model as the node calls it.
    pub(super) model: String,
    /// Milliseconds since it began.
    pub(super) since_ms: u64,
    /// Milliseconds until it is done, if it takes as long as the last one.
    pub(super) left_ms: Option<u64>,
}

/// Every node's gate, made on first use and kept.
#[derive(Debug)]
pub(super) struct Gates {
    by_node: Mutex<HashMap<String, Arc<Gate>>>,
    pins: Mutex<Arc<Pins>>,
    rules: Rules,
    loader: Arc<Loader>,
    began: Instant,
}

impl Gates {
    pub(super) fn new(rules: Rules, pins: Pins, loader: Arc<Loader>) -> Self {
        Self {
            by_node: Mutex::default(),
            pins: Mutex::new(Arc::new(pins)),
            rules,
            loader,
            began: Instant::now(),
        }
    }

    /// The gate of a node.
    pub(super) fn gate(&self, node: &Arc<Node>) -> Arc<Gate> {
        let pins = Arc::clone(&lock(&self.pins));
        let mut gates = lock(&self.by_node);
        if let Some(gate) = gates.get(&node.name) {
            return Arc::clone(gate);
        }
        let gate = Arc::new(Gate {
            state: Mutex::new(State::new(self.rules, pins, Arc::clone(node))),
            changed: Condvar::new(),
            loader: Arc::clone(&self.loader),
            began: self.began,
        });
        gates.insert(node.name.clone(), Arc::clone(&gate));
        gate
    }

    /// The gates of these nodes. The map's lock is given back before a gate's is taken.
    fn all<'n>(&self, nodes: &'n [Arc<Node>]) -> Vec<(Option<Arc<Gate>>, &'n Arc<Node>)> {
        let gates = lock(&self.by_node);
        nodes
            .iter()
            .map(|node| (gates.get(&node.name).map(Arc::clone), node))
            .collect()
    }

    /// What is in flight at each of the nodes, in their order.
    pub(super) fn loads(&self, nodes: &[Arc<Node>]) -> Vec<NodeLoad> {
        let idle = |node: &Node| NodeLoad {
            slots: self.rules.slots.or(node.slots),
            ..NodeLoad::default()
        };
        let load = |(gate, node): (Option<Arc<Gate>>, &Arc<Node>)| {
            gate.map_or_else(|| idle(node), |gate| gate.state().load(node))
        };
        self.all(nodes).into_iter().map(load).collect()
    }

    /// What was counted of each node, and the load that is under way there.
    pub(super) fn counts(&self, nodes: &[Arc<Node>]) -> Vec<(Counts, Option<LoadUnderWay>)> {
        let now = self.now();
        let told = |(gate, _): (Option<Arc<Gate>>, _)| {
            gate.map(|gate| {
                let state = gate.state();
                (state.counts(), state.under_way(now))
            })
            .unwrap_or_default()
        };
        self.all(nodes).into_iter().map(told).collect()
    }

    fn now(&self) -> u64 {
        millis(self.began.elapsed())
    }

    /// These models are to stay in memory from now on.
    pub(super) fn pin(&self, pins: Pins) {
        let pins = Arc::new(pins);
        *lock(&self.pins) = Arc::clone(&pins);
        let gates: Vec<Arc<Gate>> = lock(&self.by_node).values().map(Arc::clone).collect();
        for gate in gates {
            gate.change(|state, _| state.pin(&pins));
        }
    }

    /// The memory for a node's models was measured.
    pub(super) fn measured(&self, node: &Arc<Node>, measured: Measured) {
        let gate = self.gate(node);
        gate.change(|state, _| state.measured(measured));
    }

    /// Takes in a look at a node that began at `began`.
    pub(super) fn observed(&self, node: &Arc<Node>, began: Instant) {
        let gate = self.gate(node);
        let as_of = millis(began.saturating_duration_since(self.began));
        let lacks_sizes = gate.change(|state, now| {
            state.observed(now, as_of, node);
            state.lacks_sizes()
        });
        if lacks_sizes {
            self.loader.wants_sizes();
        }
    }
}

/// One node's scheduler.
#[derive(Debug)]
pub(super) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
    loader: Arc<Loader>,
    began: Instant,
}

/// A request that was started.
#[derive(Debug)]
pub(super) struct Admitted {
    pub(super) permit: Permit,
    /// How its context is reconciled; `None` on a node whose contexts are its own business.
    pub(super) window: Option<Window>,
    pub(super) runner: RunnerEdit,
    /// Whether it waited for a load.
    pub(super) loaded: bool,
}

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn now(&self) -> u64 {
        millis(self.began.elapsed())
    }

    /// Changes the state, does what the scheduler then says, and wakes whoever was started by it.
    fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut State, u64) -> T) -> T {
        let mut state = self.state();
        let now = self.now();
        let result = change(&mut state, now);
        let orders = state.pump(now);
        let awaited = state.has_verdicts();
        drop(state);
        // Waking nobody costs a system call all the same.
        if awaited {
            self.changed.notify_all();
        }
        self.carry_out(orders);
        result
    }

    fn carry_out(self: &Arc<Self>, orders: Vec<Order>) {
        for order in orders {
            Loader::carry_out(self, &Arc::new(order));
        }
    }

    /// Some models of which only the file's size is known, of those that were asked for or seen here or are likely to be asked for.
    pub(super) fn without_sizes(&self, likely: impl Fn(&ModelName) -> bool) -> Vec<Model> {
        self.state().without_sizes(likely)
    }

    /// What was found out of a model's size: bytes by context, as it is asked for with so many requests at once; none where nobody knows.
    pub(super) fn sized(
        self: &Arc<Self>,
        model: &Model,
        sizes: impl FnOnce(u32) -> Vec<(u32, u64)>,
    ) {
        let parallel = self.state().parallel();
        // An estimate takes a moment; the lock is not held over it.
        let points = sizes(parallel);
        self.change(|state, _| state.sized(model, points));
    }

    /// What sending the request here would mean.
    pub(super) fn forecast(
        &self,
        node: &Arc<Node>,
        model: &Model,
        asked: &Asked,
        speed: &Speed,
    ) -> NodeLoad {
        let now = self.now();
        let mut state = self.state();
        state.follow(node);
        state.forecast(now, model, asked, speed)
    }

    /// What is in flight and waiting.
    pub(super) fn load(&self, node: &Arc<Node>) -> NodeLoad {
        self.state().load(node)
    }

    /// Has the model of a request loaded that is answered by another, if it can be loaded at once and nothing has to go for it.
    pub(super) fn load_ahead(
        self: &Arc<Self>,
        node: &Arc<Node>,
        model: &Model,
        asked: &Asked,
        speed: &Speed,
    ) {
        let now = self.now();
        let mut state = self.state();
        state.follow(node);
        let orders = state.load_ahead(now, model, asked, speed);
        drop(state);
        self.carry_out(orders);
    }

    /// Waits until the node takes the request.
    pub(super) fn enter(
        self: &Arc<Self>,
        node: &Arc<Node>,
        model: &Model,
        asked: &Asked,
        speed: &Speed,
        limit: Option<Duration>,
        mut client_gone: impl FnMut() -> bool,
    ) -> Result<Admitted, NotAdmitted> {
        let started = Instant::now();
        let mut state = self.state();
        let now = self.now();
        state.follow(node);
        let id = state.arrive(now, model, asked, speed)?;
        if state.lacks_sizes() {
            self.loader.wants_sizes();
        }
        let orders = state.pump(now);
        if orders.is_empty()
            && let Some(verdict) = state.verdict(id)
        {
            return self.settle(state, now, now, id, asked, verdict, false);
        }
        let over_full = state.over_full();
        drop(state);
        // From here on whatever happens takes it out of the queue again.
        let waiting = Waiting { gate: self, id };
        self.carry_out(orders);
        if over_full {
            return Err(NotAdmitted::QueueFull);
        }
        let mut state = self.state();
        loop {
            let due = self.now();
            if state.wake().is_some_and(|wake| due >= wake) {
                let orders = state.pump(due);
                if state.has_verdicts() {
                    self.changed.notify_all();
                }
                if !orders.is_empty() {
                    drop(state);
                    self.carry_out(orders);
                    state = self.state();
                }
            }
            if let Some(verdict) = state.verdict(id) {
                std::mem::forget(waiting);
                let loaded = state.waited_for_load(id);
                return self.settle(state, due, now, id, asked, verdict, loaded);
            }
            if limit.is_some_and(|limit| started.elapsed() >= limit) {
                return Err(NotAdmitted::TimedOut);
            }
            let pause = state
                .wake()
                .map_or(LOOK, |wake| Duration::from_millis(wake.saturating_sub(due)));
            (state, _) = self
                .changed
                .wait_timeout(state, pause.clamp(Duration::from_millis(1), LOOK))
                .unwrap_or_else(PoisonError::into_inner);
            if !state.decided(id) {
                // The lock is not held over the look at the client's socket.
                drop(state);
                if client_gone() {
                    return Err(NotAdmitted::ClientGone);
                }
                state = self.state();
            }
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "what is known of a request that waited"
    )]
    fn settle(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        now: u64,
        arrived: u64,
        id: RequestId,
        asked: &Asked,
        verdict: Verdict,
        loaded: bool,
    ) -> Result<Admitted, NotAdmitted> {
        match verdict {
            Verdict::Refused(why) => {
                state.forget(id);
                Err(NotAdmitted::Refused(why))
            }
            Verdict::Started { context } => {
                let started = state.started(id, asked, context, now.saturating_sub(arrived));
                drop(state);
                // Gives the slot back where it turns out to be of no use.
                let mut permit = Permit {
                    gate: Arc::clone(self),
                    id,
                    answering: false,
                    waited_ms: None,
                    promised: None,
                    cached: None,
                };
                let started = started.map_err(NotAdmitted::TooLong)?;
                permit.promised = started.promised;
                Ok(Admitted {
                    permit,
                    window: started.window,
                    runner: started.runner,
                    loaded,
                })
            }
        }
    }
}

/// A request in the queue; taken out again on drop.
struct Waiting<'g> {
    gate: &'g Arc<Gate>,
    id: RequestId,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.gate.change(|state, now| state.cancel(now, self.id));
    }
}

/// A taken slot, given back on drop.
#[derive(Debug)]
pub(super) struct Permit {
    gate: Arc<Gate>,
    id: RequestId,
    answering: bool,
    waited_ms: Option<u64>,
    promised: Option<Promised>,
    cached: Option<u64>,
}

impl Permit {
    /// The first piece of the answer came.
    pub(super) fn answering(&mut self) {
        if !self.answering {
            self.answering = true;
            let mut state = self.gate.state();
            if state.answering(self.id) {
                drop(state);
                self.gate.change(|_, _| ());
            }
        }
    }

    /// So long the request waited inside the node, as its answer tells.
    pub(super) fn waited(&mut self, ms: Option<u64>) {
        self.waited_ms = ms;
    }

    /// Whether the name of a conversation let expect something of the node's cache.
    pub(super) fn was_promised(&self) -> bool {
        self.promised.is_some()
    }

    /// So many tokens of the prompt the node had in its cache, where that is known.
    pub(super) fn cached(&mut self, tokens: Option<u64>) {
        self.cached = tokens;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let waited = self.waited_ms;
        let found = self.promised.zip(self.cached);
        self.gate.change(|state, now| {
            if let Some((promised, cached)) = found {
                state.found(promised, cached);
            }
            state.finished(now, self.id, waited);
        });
    }
}

/// Whether a node's scheduler has to start anew.
fn lost(state: NodeState) -> bool {
    state == NodeState::Down
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A lock whose data is plain arithmetic, so that a panic elsewhere cannot have left it half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
