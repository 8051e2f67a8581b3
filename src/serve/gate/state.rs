//! What a gate's mutex guards: the scheduler, the names behind its numbers, and what was learned of the node's models.

mod capacity;
mod claims;
mod loads;
mod models;
mod needs;

pub(in crate::serve) use capacity::Measured;
pub(in crate::serve) use loads::written;

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::loader::Order;
use super::{Counts, LoadUnderWay, NotAdmitted, Pins, Rules};
use crate::cluster::{Model, Node};
use crate::routing::queue::{Action, ModelId, NodeQueue, Refused, RequestId, Residency, Settings};
use crate::routing::window::{self, Limits, RunnerEdit, RunnerOptions, TooLong, Window};
use crate::routing::{Affinity, Likely, NodeLoad, Speed};
use crate::serve::asked::Asked;
use crate::vram::Basis;
use capacity::Capacity;
use models::Known;

/// What Ollama takes for an absent `num_ctx` on a card below 24 GiB, until the node shows what it takes itself.
const AUTOMATIC: u32 = 4096;

/// Why a node gave a request back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::serve) enum Refusal {
    /// The load that it waited for failed; the text says why.
    LoadFailed(LoadError),
    /// What may never be evicted leaves no room.
    NoRoom,
}

/// A load that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::serve) struct LoadError {
    /// What happened, in words.
    pub(in crate::serve) text: String,
    /// The status that the node answered with; `None` when it did not.
    pub(in crate::serve) status: Option<u16>,
    /// Short code for the record.
    pub(in crate::serve) code: &'static str,
    /// Whether it took longer than the limit.
    pub(in crate::serve) timed_out: bool,
}

/// What became of a waiting request.
#[derive(Debug, Clone)]
pub(super) enum Verdict {
    Started { context: u32 },
    Refused(Refusal),
}

/// How a request is sent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Started {
    /// `None` on a node whose contexts are its own business.
    pub(super) window: Option<Window>,
    pub(super) runner: RunnerEdit,
    /// What is to be compared with the node's own count.
    pub(super) promised: Option<Promised>,
}

/// What the name of a conversation let expect of a node's cache.
#[derive(Debug, Clone, Copy)]
pub(super) struct Promised {
    model: ModelId,
    /// Tokens, at most.
    most: u64,
}

/// A request that waits.
#[derive(Debug)]
struct Waiter {
    options: RunnerOptions,
    keep_alive: Option<Value>,
    explicit: bool,
    /// Whether a load of its model was begun or under way meanwhile.
    loads: bool,
    model: ModelId,
    verdict: Option<Verdict>,
}

#[derive(Debug)]
pub(super) struct State {
    rules: Rules,
    node: Arc<Node>,
    queue: NodeQueue,
    settings: Settings,
    /// Models that are to stay in memory.
    pins: Arc<Pins>,
    /// Memory for the node's models as it was measured.
    capacity: Capacity,
    by_key: HashMap<String, ModelId>,
    /// By number. As many as the node ever listed.
    models: Vec<Known>,
    waiters: HashMap<RequestId, Waiter>,
    /// Waiters with a verdict.
    decided: usize,
    next: u64,
    affinity: Affinity<ModelId>,
    /// Number of the load under way; an answer to an earlier one comes too late.
    load: u64,
    last_error: Option<LoadError>,
    counts: Counts,
}

impl State {
    pub(super) fn new(rules: Rules, pins: Arc<Pins>, node: Arc<Node>) -> Self {
        let settings = settings(&rules, &node, &Capacity::default());
        let mut state = Self {
            queue: NodeQueue::new(settings.clone()),
            settings,
            pins,
            capacity: Capacity::default(),
            rules,
            node,
            by_key: HashMap::new(),
            models: Vec::new(),
            waiters: HashMap::new(),
            decided: 0,
            next: 0,
            affinity: Affinity::default(),
            load: 0,
            last_error: None,
            counts: Counts::default(),
        };
        state.pin_listed();
        state
    }

    /// What the node is may have become known, or have changed.
    pub(super) fn follow(&mut self, node: &Arc<Node>) {
        if Arc::ptr_eq(node, &self.node) {
            return;
        }
        self.node = Arc::clone(node);
        self.settle();
        self.pin_listed();
    }

    /// Tells the scheduler what the node is by now.
    fn settle(&mut self) {
        let settings = settings(&self.rules, &self.node, &self.capacity);
        if settings != self.settings {
            self.queue.tell(settings.clone());
            self.settings = settings;
        }
    }

    /// The memory for the node's models was measured.
    pub(super) fn measured(&mut self, measured: Measured) {
        // What is being loaded shows in the driver's figures before the node tells of it.
        if self.queue.loading().is_some() {
            return;
        }
        let had_gpu = !self.capacity.no_gpu();
        if self.capacity.measured(measured) {
            self.settle();
        }
        if had_gpu == self.capacity.no_gpu() {
            self.size_anew();
        }
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    pub(super) fn wake(&self) -> Option<u64> {
        self.queue.wake()
    }

    pub(super) fn has_verdicts(&self) -> bool {
        self.decided > 0
    }

    pub(super) fn decided(&self, id: RequestId) -> bool {
        self.waiters
            .get(&id)
            .is_some_and(|waiter| waiter.verdict.is_some())
    }

    /// What is in flight and waiting.
    pub(super) fn load(&self, node: &Node) -> NodeLoad {
        let told = self.rules.slots.or(node.slots);
        let learned = || {
            self.queue
                .slots()
                .filter(|_| self.settings.residency == Residency::Managed)
        };
        NodeLoad {
            active: count(self.queue.active()),
            queued: count(self.queue.queued()),
            slots: told.or_else(learned),
            ..NodeLoad::default()
        }
    }

    pub(super) fn under_way(&self, now: u64) -> Option<LoadUnderWay> {
        let load = self.queue.loading()?;
        let since_ms = now.saturating_sub(load.since);
        Some(LoadUnderWay {
            model: self.known(load.model)?.name.clone(),
            since_ms,
            left_ms: load.usual_ms.map(|usual| usual.saturating_sub(since_ms)),
        })
    }

    /// Puts a request into the queue.
    pub(super) fn arrive(
        &mut self,
        now: u64,
        model: &Model,
        asked: &Asked,
        speed: &Speed,
    ) -> Result<RequestId, NotAdmitted> {
        let id = RequestId(self.next);
        self.next += 1;
        let request = self
            .request(id, model, asked, speed)
            .map_err(NotAdmitted::TooLong)?;
        let model = request.model;
        let arrived = self.queue.arrive(now, request);
        arrived.map_err(|_| NotAdmitted::QueueFull)?;
        self.waiters.insert(
            id,
            Waiter {
                options: asked.runner,
                keep_alive: asked.keep_alive.clone(),
                explicit: asked.num_ctx.is_some(),
                loads: self.queue.loading().is_some_and(|load| load.model == model),
                model,
                verdict: None,
            },
        );
        Ok(id)
    }

    /// Does what the scheduler says until it says no more; loads are for the caller to carry out once the lock is given back.
    pub(super) fn pump(&mut self, now: u64) -> Vec<Order> {
        let mut orders = Vec::new();
        loop {
            let actions = self.queue.step(now);
            if actions.is_empty() {
                return orders;
            }
            for action in actions {
                match action {
                    Action::Start { id, context } => {
                        self.decide(id, Verdict::Started { context });
                    }
                    Action::Refuse { id, why } => {
                        let refusal = self.refusal(why);
                        self.decide(id, Verdict::Refused(refusal));
                    }
                    Action::Load {
                        model,
                        context,
                        evict,
                        on_cpu,
                        first,
                    } => orders.extend(self.order(model, context, &evict, on_cpu, first)),
                }
            }
        }
    }

    fn refusal(&self, why: Refused) -> Refusal {
        match (why, &self.last_error) {
            (Refused::LoadFailed, Some(error)) => Refusal::LoadFailed(error.clone()),
            _ => Refusal::NoRoom,
        }
    }

    fn decide(&mut self, id: RequestId, verdict: Verdict) {
        if let Some(waiter) = self.waiters.get_mut(&id) {
            self.decided += usize::from(waiter.verdict.is_none());
            waiter.verdict = Some(verdict);
        } else if matches!(verdict, Verdict::Started { .. }) {
            // Nobody waits for it any more.
            self.queue.finished(0, id, None);
        }
    }

    /// Whether more wait than may.
    pub(super) fn over_full(&self) -> bool {
        count(self.queue.queued()) > self.rules.queue
    }

    /// The verdict on a request.
    pub(super) fn verdict(&self, id: RequestId) -> Option<Verdict> {
        self.waiters.get(&id)?.verdict.clone()
    }

    pub(super) fn waited_for_load(&self, id: RequestId) -> bool {
        self.waiters.get(&id).is_some_and(|waiter| waiter.loads)
    }

    pub(super) fn forget(&mut self, id: RequestId) -> Option<ModelId> {
        let waiter = self.waiters.remove(&id)?;
        self.decided -= usize::from(waiter.verdict.is_some());
        Some(waiter.model)
    }

    /// The request's thread has its verdict: how it is to be sent.
    pub(super) fn started(
        &mut self,
        id: RequestId,
        asked: &Asked,
        context: u32,
        waited_ms: u64,
    ) -> Result<Started, TooLong> {
        if let Some((starts, waited)) = self.counts.waits.get_mut(asked.lane.index()) {
            *starts += 1;
            *waited = waited.saturating_add(waited_ms);
        }
        let mut started = Started::default();
        let Some(model) = self.forget(id) else {
            return Ok(started);
        };
        let slots = self.queue.slots().unwrap_or(1);
        let slots = usize::try_from(slots).unwrap_or(usize::MAX);
        let prompt = asked.remembered();
        if let Likely::Session { most, .. } = self.affinity.likely(&model, &prompt) {
            started.promised = Some(Promised { model, most });
        }
        self.affinity.sent(&model, &prompt, slots);
        if !self.managed() || self.node.on_demand {
            return Ok(started);
        }
        let (automatic, ours) = self
            .known(model)
            .map_or((None, None), |known| (known.automatic, known.options));
        let wanted = asked.wanted(None, asked.settable);
        if !asked.settable && !asked.embeds {
            // What the node takes by itself may have become known by the load that it waited for.
            needs::too_long_for(&wanted, automatic)?;
        }
        let limits = Limits {
            automatic: automatic.or(Some(AUTOMATIC)),
            ..self.limits(model, None)
        };
        let loaded = Some(context).filter(|context| *context > 0);
        let load_ms = self.queue.load_ms(model);
        let window = window::reconcile(self.rules.policy, &wanted, &limits, loaded, load_ms).ok();
        let window = window.map(|window| {
            // The scheduler started it with this context; what covers it is its judgement.
            let sent = window.sent.and(loaded).filter(|context| {
                // An absent one means the same, so that the request stays as it came.
                asked.num_ctx != Some(*context)
                    && (asked.num_ctx.is_some() || *context != automatic.unwrap_or(AUTOMATIC))
            });
            Window {
                sent,
                context: loaded.or(window.context),
                ..window
            }
        });
        if let Some(avoided) = window.and_then(|window| window.avoided)
            && !asked.embeds
        {
            self.counts.avoided += 1;
            self.counts.avoided_ms += avoided.ms.unwrap_or(0);
        }
        if asked.settable {
            started.runner =
                window::runner_options(self.rules.policy, &asked.runner, ours.as_ref());
        }
        started.window = window;
        Ok(started)
    }

    /// The first piece of an answer came; true when somebody may start because of it.
    pub(super) fn answering(&mut self, id: RequestId) -> bool {
        self.queue.answering(id);
        self.queue.queued() > 0
    }

    pub(super) fn finished(&mut self, now: u64, id: RequestId, waited_ms: Option<u64>) {
        self.queue.finished(now, id, waited_ms);
    }

    /// So many tokens of a prompt were in the node's cache.
    pub(super) fn found(&mut self, promised: Promised, cached: u64) {
        self.affinity.found(&promised.model, cached, promised.most);
    }

    /// The thread of a waiting request ends: its client has left, or it waited too long.
    pub(super) fn cancel(&mut self, now: u64, id: RequestId) {
        let started = self.decided(id);
        self.forget(id);
        if !self.queue.cancelled(id) && started {
            self.queue.finished(now, id, None);
        }
    }
}

/// What is known of a node.
fn settings(rules: &Rules, node: &Node, capacity: &Capacity) -> Settings {
    let managed = node.loads_models();
    let capacity = match capacity.now() {
        Measured::Bytes(bytes) => Some(bytes),
        Measured::NoGpu => None,
        // Until somebody has looked.
        Measured::Unknown => node
            .vram_bytes
            .filter(|bytes| *bytes > 0)
            .map(|bytes| rules.memory.usable(bytes, Basis::Api)),
    };
    Settings {
        residency: if managed {
            Residency::Managed
        } else {
            Residency::Fixed
        },
        policy: rules.policy,
        capacity: capacity.filter(|_| managed),
        most_models: node.most_models.filter(|_| managed),
        slots: rules.slots.or(node.slots),
        // Whoever arrives is in it until the scheduler has said whether it starts at once: [`State::over_full`].
        queue: rules.queue.saturating_add(1),
        shares: rules.shares,
        // A llama-server puts its models where it was told to when it was started.
        cpu_loads: rules.cpu_loads && !node.on_demand,
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float to integer cast saturates"
)]
fn rounded(number: f64) -> u64 {
    number.round() as u64
}
