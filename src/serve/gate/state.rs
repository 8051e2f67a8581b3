//! What a gate's mutex guards: the scheduler, the names behind its numbers, and what was learned of the node's models.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::loader::Order;
use super::{Counts, LoadUnderWay, NotAdmitted, Rules, lost};
use crate::backend::LoadCall;
use crate::cluster::{LoadedModel, Model, Node, NodeKind};
use crate::routing::queue::{
    Action, Footprint, ModelId, NodeQueue, Occupied, Refused, Request, RequestId, Residency, Seen,
    Settings,
};
use crate::routing::speed::{Load, Work};
use crate::routing::window::{
    self, ContextNeed, Limits, RunnerEdit, RunnerOptions, TooLong, Wanted, Window,
};
use crate::routing::{Affinity, NodeLoad, Speed};
use crate::serve::asked::{Asked, BLOCK_TOKENS};
use crate::vram::Basis;

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

/// A model of the node.
#[derive(Debug)]
struct Known {
    /// As the node calls it.
    name: String,
    embeds: bool,
    trained: Option<u32>,
    size: Option<u64>,
    footprint: Arc<Footprint>,
    /// The context that the node takes for an absent `num_ctx`, as it showed.
    automatic: Option<u32>,
    /// The options of a load of ours.
    options: Option<RunnerOptions>,
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
    pub(super) fn new(rules: Rules, node: Arc<Node>) -> Self {
        let settings = settings(&rules, &node);
        Self {
            queue: NodeQueue::new(settings.clone()),
            settings,
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
        }
    }

    /// What the node is may have become known, or have changed.
    pub(super) fn follow(&mut self, node: &Arc<Node>) {
        if Arc::ptr_eq(node, &self.node) {
            return;
        }
        let settings = settings(&self.rules, node);
        if settings != self.settings {
            self.queue.tell(settings.clone());
            self.settings = settings;
        }
        self.node = Arc::clone(node);
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
        let (model, _, since) = self.queue.loading()?;
        let since_ms = now.saturating_sub(since);
        Some(LoadUnderWay {
            model: self.known(model)?.name.clone(),
            since_ms,
            left_ms: self
                .queue
                .load_ms(model)
                .map(|usual| usual.saturating_sub(since_ms)),
        })
    }

    fn known(&self, model: ModelId) -> Option<&Known> {
        self.models.get(usize::try_from(model.0).ok()?)
    }

    fn known_mut(&mut self, model: ModelId) -> Option<&mut Known> {
        self.models.get_mut(usize::try_from(model.0).ok()?)
    }

    /// The number of a model; names of one content share it.
    fn number(&mut self, model: &Model) -> ModelId {
        let key = model.digest.as_deref().unwrap_or(model.name.as_str());
        let trained = model
            .context
            .map(|tokens| u32::try_from(tokens).unwrap_or(u32::MAX))
            .filter(|tokens| *tokens > 0);
        if let Some(id) = self.by_key.get(key).copied() {
            if let Some(known) = self.known_mut(id)
                && (known.trained != trained || known.size != model.size_bytes)
            {
                known.trained = trained;
                known.size = model.size_bytes;
                known.footprint = footprint(model.size_bytes, trained);
            }
            return id;
        }
        let id = ModelId(count(self.models.len()));
        self.models.push(Known {
            name: model.id.clone(),
            embeds: model.embeds_only(),
            trained,
            size: model.size_bytes,
            footprint: footprint(model.size_bytes, trained),
            automatic: None,
            options: None,
        });
        self.by_key.insert(key.to_owned(), id);
        id
    }

    /// The number of what is in memory: by what the node lists.
    fn number_of_loaded(&mut self, loaded: &LoadedModel) -> ModelId {
        let node = Arc::clone(&self.node);
        let listed = node.model(&loaded.name).or_else(|| {
            node.models
                .iter()
                .find(|model| model.digest.is_some() && model.digest == loaded.digest)
        });
        if let Some(model) = listed {
            return self.number(model);
        }
        self.number(&Model {
            name: loaded.name.clone(),
            id: loaded.name.as_str().to_owned(),
            digest: loaded.digest.clone(),
            ..Model::default()
        })
    }

    fn limits(&self, model: ModelId, automatic: Option<u32>) -> Limits {
        let known = self.known(model);
        let capacity = self.queue.capacity();
        Limits {
            trained: known.and_then(|known| known.trained),
            // What is larger than the node even with the smallest context is split anyway; then nothing limits it here.
            fits: capacity
                .zip(known)
                .and_then(|(bytes, known)| known.footprint.largest_context(bytes)),
            automatic,
            pinned: None,
        }
    }

    fn managed(&self) -> bool {
        self.settings.residency == Residency::Managed
    }

    /// The contexts that will do for a request here, or why none does.
    fn need(
        &self,
        model: ModelId,
        asked: &Asked,
        usual: Option<u64>,
    ) -> Result<ContextNeed, TooLong> {
        if !self.managed() || (asked.embeds && !(asked.settable && asked.num_ctx.is_some())) {
            return Ok(ContextNeed::ANY);
        }
        let wanted = asked.wanted(usual, asked.settable);
        let loaded = self.queue.context_of(model);
        let learned = self.known(model).and_then(|known| known.automatic);
        let automatic = if asked.settable {
            // A request that carries none is content with whatever is loaded and large enough.
            if asked.num_ctx.is_none() && loaded.is_some() {
                None
            } else {
                learned.or(Some(AUTOMATIC))
            }
        } else {
            learned
        };
        let limits = self.limits(model, automatic);
        if !asked.settable {
            // No larger window can be had for it: the form cannot ask for one.
            too_long_for(&wanted, learned)?;
        }
        window::need(self.rules.policy, &wanted, &limits, loaded)
    }

    fn request(
        &mut self,
        id: RequestId,
        model: &Model,
        asked: &Asked,
        speed: &Speed,
    ) -> Result<Request, TooLong> {
        let number = self.number(model);
        let usual = speed.completion_tokens.map(rounded);
        let context = self.need(number, asked, usual)?;
        let known = self.known(number);
        Ok(Request {
            id,
            lane: asked.lane,
            client: asked.client,
            model: number,
            context,
            footprint: known
                .map(|known| Arc::clone(&known.footprint))
                .unwrap_or_default(),
            embeds: asked.embeds,
            work_ms: self.work_ms(number, asked, speed, usual),
        })
    }

    fn cached_tokens(&self, model: ModelId, asked: &Asked) -> u64 {
        if asked.prefix.is_empty() {
            return 0;
        }
        let blocks = self.affinity.cached_blocks(&model, &asked.prefix) as u64;
        (blocks * BLOCK_TOKENS).min(asked.prompt_tokens)
    }

    fn work_ms(
        &self,
        model: ModelId,
        asked: &Asked,
        speed: &Speed,
        usual: Option<u64>,
    ) -> Option<u64> {
        let answer_tokens = match (asked.embeds, asked.max_tokens, usual) {
            (true, ..) => 0,
            (_, Some(most), Some(usual)) => most.min(usual),
            (_, one, other) => one.or(other)?,
        };
        let work = Work {
            uncached_tokens: asked.prompt_tokens - self.cached_tokens(model, asked),
            prompt_tokens: asked.prompt_tokens,
            answer_tokens,
            load: Load::No,
        };
        speed.estimate(&work).map(|range| rounded(range.centre))
    }

    pub(super) fn forecast(
        &mut self,
        now: u64,
        model: &Model,
        asked: &Asked,
        speed: &Speed,
    ) -> NodeLoad {
        let node = Arc::clone(&self.node);
        let load = self.load(&node);
        let Ok(request) = self.request(RequestId(u64::MAX), model, asked, speed) else {
            return load;
        };
        NodeLoad {
            forecast: Some(self.queue.forecast(now, &request)),
            cached_tokens: self.cached_tokens(request.model, asked),
            ..load
        }
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
                loads: self
                    .queue
                    .loading()
                    .is_some_and(|(loading, ..)| loading == model),
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
    ) -> (Option<Window>, RunnerEdit) {
        if let Some((starts, waited)) = self.counts.waits.get_mut(asked.lane.index()) {
            *starts += 1;
            *waited = waited.saturating_add(waited_ms);
        }
        let Some(model) = self.forget(id) else {
            return (None, RunnerEdit::Untouched);
        };
        let slots = self.queue.slots().unwrap_or(1);
        let slots = usize::try_from(slots).unwrap_or(usize::MAX);
        self.affinity.sent(&model, &asked.prefix, slots);
        if !self.managed() {
            return (None, RunnerEdit::Untouched);
        }
        let (automatic, ours) = self
            .known(model)
            .map_or((None, None), |known| (known.automatic, known.options));
        let wanted = asked.wanted(None, asked.settable);
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
        let runner = if asked.settable {
            window::runner_options(self.rules.policy, &asked.runner, ours.as_ref())
        } else {
            RunnerEdit::Untouched
        };
        (window, runner)
    }

    /// The first piece of an answer came; true when somebody may start because of it.
    pub(super) fn answering(&mut self, id: RequestId) -> bool {
        self.queue.answering(id);
        self.queue.queued() > 0
    }

    pub(super) fn finished(&mut self, now: u64, id: RequestId, waited_ms: Option<u64>) {
        self.queue.finished(now, id, waited_ms);
    }

    /// The thread of a waiting request ends: its client has left, or it waited too long.
    pub(super) fn cancel(&mut self, now: u64, id: RequestId) {
        let started = self.decided(id);
        self.forget(id);
        if !self.queue.cancelled(id) && started {
            self.queue.finished(now, id, None);
        }
    }

    fn order(
        &mut self,
        model: ModelId,
        context: u32,
        evict: &[ModelId],
        on_cpu: bool,
        first: RequestId,
    ) -> Option<Order> {
        self.counts.loads += 1;
        self.counts.evicted += evict.len() as u64;
        self.load += 1;
        for waiter in self.waiters.values_mut() {
            waiter.loads |= waiter.model == model;
        }
        for gone in evict.iter().chain([&model]) {
            self.affinity.forget(gone);
        }
        let evict = evict
            .iter()
            .filter_map(|gone| Some(self.known(*gone)?.name.clone()))
            .collect();
        let waiter = self.waiters.get(&first);
        let options = waiter.map(|waiter| waiter.options).unwrap_or_default();
        let explicit = waiter.is_some_and(|waiter| waiter.explicit);
        let keep_alive = waiter
            .and_then(|waiter| waiter.keep_alive.clone())
            .filter(|keep_alive| *keep_alive != Value::from(0));
        let known = self.known(model)?;
        let usual = known
            .trained
            .map_or(AUTOMATIC, |trained| AUTOMATIC.min(trained));
        // Where nobody asked for a context, the node's own may come from its settings or the model's file: it is taken, and learned.
        let own = context == 0 || (!explicit && known.automatic.is_none() && context == usual);
        let mut call = LoadCall {
            model: known.name.clone(),
            embeds: known.embeds,
            context: (!own).then_some(context),
            options: written(&options),
            keep_alive,
        };
        if on_cpu {
            call.options.retain(|(name, _)| *name != "num_gpu");
            call.options.push(("num_gpu", 0.into()));
        }
        if let Some(known) = self.known_mut(model) {
            known.options = Some(options);
        }
        Some(Order {
            number: self.load,
            node: Arc::clone(&self.node),
            call,
            at_least: context,
            evict,
        })
    }

    /// A load is done, after so many milliseconds; `held` is what the node holds now, where it tells.
    pub(super) fn loaded(
        &mut self,
        now: u64,
        order: &Order,
        held: Option<&[LoadedModel]>,
        load_ms: u64,
    ) {
        let Some((model, ..)) = self.queue.loading().filter(|_| order.number == self.load) else {
            return;
        };
        let mut found = None;
        if let Some(held) = held {
            let seen: Vec<Seen> = held.iter().map(|loaded| self.seen(now, loaded)).collect();
            found = seen.iter().find(|seen| seen.model == model).copied();
            self.queue.observed(now, now, &seen);
        }
        let (context, occupied) = found.map_or((0, None), |seen| (seen.context, seen.occupied));
        if order.call.context.is_none()
            && context > 0
            && let Some(known) = self.known_mut(model)
        {
            known.automatic = Some(context);
        }
        self.queue.loaded(now, context, occupied, load_ms);
    }

    /// A load did not work.
    pub(super) fn load_failed(&mut self, order: &Order, error: LoadError, out_of_memory: bool) {
        if order.number != self.load || self.queue.loading().is_none() {
            return;
        }
        self.counts.failed += 1;
        self.last_error = Some(error);
        for action in self.queue.load_failed(out_of_memory) {
            if let Action::Refuse { id, why } = action {
                let refusal = self.refusal(why);
                self.decide(id, Verdict::Refused(refusal));
            }
        }
    }

    /// Takes in a look at the node.
    pub(super) fn observed(&mut self, now: u64, as_of: u64, node: &Arc<Node>) {
        self.follow(node);
        if lost(node.state) {
            self.queue.restarted();
            // What a load that was under way says now is of no interest.
            self.load += 1;
            self.affinity = Affinity::default();
            for known in &mut self.models {
                known.options = None;
            }
            return;
        }
        if !self.managed() || !node.state.usable() {
            return;
        }
        let seen: Vec<Seen> = node
            .loaded
            .iter()
            .map(|loaded| self.seen(now, loaded))
            .collect();
        self.learn_automatic(&seen);
        self.queue.observed(now, as_of, &seen);
    }

    /// A model that has another context than it was loaded with was loaded again by the node itself, for a request that carried none.
    fn learn_automatic(&mut self, seen: &[Seen]) {
        for seen in seen {
            let had = self
                .queue
                .residents()
                .find(|resident| resident.model == seen.model)
                .map_or(0, |resident| resident.context);
            if had > 0
                && seen.context > 0
                && had != seen.context
                && let Some(known) = self.known_mut(seen.model)
            {
                known.automatic = Some(seen.context);
                known.options = None;
            }
        }
    }

    fn seen(&mut self, now: u64, loaded: &LoadedModel) -> Seen {
        let model = self.number_of_loaded(loaded);
        let occupied = loaded
            .vram_bytes
            .zip(loaded.size_bytes)
            .map(|(bytes, size)| Occupied {
                bytes,
                whole: bytes == size,
            });
        Seen {
            model,
            context: loaded
                .context
                .map_or(0, |tokens| u32::try_from(tokens).unwrap_or(u32::MAX)),
            occupied,
            expires_at: loaded.expires_at.as_deref().and_then(until).map(|left| {
                now.saturating_add(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
            }),
            embeds: self.known(model).is_some_and(|known| known.embeds),
        }
    }
}

/// What is known of a node before anything was seen of it.
fn settings(rules: &Rules, node: &Node) -> Settings {
    let managed = node.kind == Some(NodeKind::Ollama);
    Settings {
        residency: if managed {
            Residency::Managed
        } else {
            Residency::Fixed
        },
        policy: rules.policy,
        capacity: node
            .vram_bytes
            .filter(|_| managed)
            .map(|bytes| rules.memory.usable(bytes, Basis::Api)),
        most_models: None,
        slots: rules.slots.or(node.slots),
        // Whoever arrives is in it until the scheduler has said whether it starts at once: [`State::over_full`].
        queue: rules.queue.saturating_add(1),
        shares: rules.shares,
        cpu_loads: rules.cpu_loads,
    }
}

/// The file's size is the least that a model takes; what a context adds is not known from it.
fn footprint(size: Option<u64>, trained: Option<u32>) -> Arc<Footprint> {
    let points: Vec<(u32, u64)> = size.map(|size| (0, size)).into_iter().collect();
    Arc::new(Footprint::of_points(&points, trained))
}

fn too_long_for(wanted: &Wanted, context: Option<u32>) -> Result<(), TooLong> {
    match context.map(u64::from) {
        Some(limit) if wanted.prompt_low.saturating_add(1) > limit => Err(TooLong {
            tokens: wanted.prompt_low,
            limit,
        }),
        _ => Ok(()),
    }
}

/// The options that are set, as Ollama names them.
pub(in crate::serve) fn written(options: &RunnerOptions) -> Vec<(&'static str, Value)> {
    let numbers = [
        ("num_batch", options.num_batch),
        ("num_gpu", options.num_gpu),
        ("main_gpu", options.main_gpu),
        ("num_thread", options.num_thread),
        ("draft_num_predict", options.draft_num_predict),
    ];
    numbers
        .into_iter()
        .filter_map(|(name, number)| Some((name, Value::from(number?))))
        .chain(options.use_mmap.map(|mmap| ("use_mmap", Value::from(mmap))))
        .collect()
}

/// Time left until an RFC 3339 time; `None` for what is none or past.
fn until(time: &str) -> Option<Duration> {
    let (local, offset) = match time.strip_suffix('Z') {
        Some(local) => (local, 0),
        None => {
            let (local, offset) = time.split_at_checked(time.len().checked_sub(6)?)?;
            let (hours, minutes) = offset.get(1..)?.split_once(':')?;
            let seconds = hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60;
            (
                local,
                if offset.starts_with('-') {
                    -seconds
                } else {
                    seconds
                },
            )
        }
    };
    let at = humantime::parse_rfc3339(&format!("{local}Z")).ok()?;
    let at = i64::try_from(at.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()? - offset;
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(at).ok()?))?;
    at.duration_since(SystemTime::now()).ok()
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
