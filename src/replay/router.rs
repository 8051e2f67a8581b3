//! What gpurouter does: the decision, one scheduler per node, the reconciliation of contexts, and speeds learned on the way. It is the code
//! that `serve` runs; only the sockets and the clock are missing.

mod view;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::Rules;
use super::dice::{Dice, hash};
use super::node::Counters;
use super::trace::BLOCK;
use super::world::{Event, Told, World};
use crate::cluster::{ClusterSnapshot, ModelName, NodeState};
use crate::routing::queue::{
    Action, Footprint, Lane, ModelId, NodeQueue, Pin, Request, RequestId, Settings, longest_wait,
};
use crate::routing::speed::{Load, Range, Work};
use crate::routing::window::{self, Wanted};
use crate::routing::{
    Affinity, Learner, Observation, Policy, Remembered, RequestFacts, Speeds, Task, WindowPolicy,
    decide,
};
use crate::sim::Model;
use view::{as_seen, estimated, seen};

/// Answers of a model on a node after which its predictions are judged.
const OBSERVED: u64 = 20;
/// How often a node is looked at.
const LOOK: Duration = Duration::from_secs(2);

/// What the router counted.
#[derive(Debug, Clone, Default)]
pub(super) struct Counted {
    /// Loads that plain Ollama would have made of the same requests on the same loaded models.
    pub(super) avoided: u64,
    /// Milliseconds that they would have taken.
    pub(super) avoided_ms: u64,
    /// Models that it evicted.
    pub(super) evicted: u64,
    /// How well times were predicted.
    pub(super) predicted: Predicted,
    /// Requests that waited longer than promised.
    pub(super) starved: u64,
}

/// Requests whose time was predicted after [`OBSERVED`] answers.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Predicted {
    pub(super) made: u64,
    /// The prediction came within a fifth of the real time.
    pub(super) close: u64,
    /// The real time lay in the range that should hold 80 %.
    pub(super) in_range: u64,
}

/// A request on its way.
#[derive(Debug, Clone)]
struct Sent {
    request: Request,
    wanted: Wanted,
    /// Nodes that may still be tried, the best one last.
    rest: Vec<(usize, Request)>,
    /// Requests before it when it arrived.
    ahead: u64,
    arrived: Duration,
    /// What the answer was expected to take from its start, and when it started.
    expected: Option<(Range, Duration)>,
    begun: Option<Begun>,
}

/// A request that a node works on.
#[derive(Debug, Clone, Copy)]
struct Begun {
    node: usize,
    /// The node worked on others when it began.
    beside: bool,
    /// It did at any time since.
    crowded: bool,
}

/// How long a request waited in a node's queue.
#[derive(Debug, Clone)]
struct Waited {
    node: usize,
    lane: Lane,
    ahead: u64,
    queued_ms: u64,
}

pub(super) struct Router {
    policy: WindowPolicy,
    routing: Policy,
    queues: Vec<NodeQueue>,
    settings: Vec<Settings>,
    footprints: Vec<Vec<Arc<Footprint>>>,
    names: Vec<ModelName>,
    snapshot: ClusterSnapshot,
    learner: Learner,
    speeds: Speeds,
    affinity: Affinity<(usize, usize)>,
    sent: HashMap<usize, Sent>,
    looked: Vec<Option<Duration>>,
    wakes: Vec<Option<u64>>,
    seed: u64,
    longest_answer_ms: u64,
    longest_load_ms: u64,
    waits: Vec<Waited>,
    pub(super) counted: Counted,
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Router {
    pub(super) fn new(world: &World<'_>, rules: Rules, pinned: &[String], seed: u64) -> Self {
        let policy = rules.num_ctx;
        let mut settings = Vec::new();
        let mut footprints = Vec::new();
        let mut nodes = Vec::new();
        for (index, node) in world.nodes.iter().enumerate() {
            let spec = &node.spec;
            let known = spec.memory_known && spec.gpu.vram_bytes > 0;
            settings.push(Settings {
                policy,
                capacity: known.then(|| spec.usable_bytes()),
                slots: (spec.parallel > 1).then(|| u32::try_from(spec.parallel).unwrap_or(1)),
                queue: u32::try_from(world.requests.len()).unwrap_or(u32::MAX),
                cpu_loads: true,
                ..Settings::default()
            });
            let mut dice = Dice::new(hash(&[seed, 77, index as u64]));
            let estimate = |model: &Arc<Model>| {
                Arc::new(if spec.gpu.vram_bytes == 0 {
                    Footprint::unknown()
                } else {
                    estimated(model, spec.parallel, &mut dice)
                })
            };
            footprints.push(world.models.iter().map(estimate).collect());
            nodes.push(Arc::new(as_seen(&spec.name, world.models, |model| {
                spec.has(model)
            })));
        }
        let mut queues: Vec<_> = settings.iter().cloned().map(NodeQueue::new).collect();
        for (index, model) in (0..).zip(world.models) {
            if pinned.contains(&model.name) {
                for queue in &mut queues {
                    queue.pin(ModelId(index), Pin::Last);
                }
            }
        }
        Self {
            policy,
            routing: Policy {
                copies: rules.copies,
                ..Policy::default()
            },
            looked: vec![None; queues.len()],
            wakes: vec![None; queues.len()],
            queues,
            settings,
            footprints,
            names: world
                .models
                .iter()
                .map(|model| ModelName::new(&model.name))
                .collect(),
            snapshot: ClusterSnapshot { nodes },
            learner: Learner::default(),
            speeds: Speeds::default(),
            affinity: Affinity::default(),
            sent: HashMap::new(),
            seed,
            longest_answer_ms: 0,
            longest_load_ms: 0,
            waits: Vec::new(),
            counted: Counted::default(),
        }
    }

    /// Runs the trace.
    pub(super) fn run(&mut self, world: &mut World<'_>) {
        while let Some(told) = world.next() {
            match told {
                Told::Sent(request) => self.arrives(world, request),
                Told::FirstToken { node, request } => {
                    self.with(node, |queue| queue.answering(id_of(request)));
                    self.pump(world, node);
                }
                Told::Finished {
                    node,
                    request,
                    counters,
                } => self.finished(world, node, request, &counters),
                Told::Died { node, request } => self.died(world, node, request),
                Told::Loaded { node, took } => self.loaded(world, node, took),
                Told::Wake { node } => {
                    if let Some(set) = self.wakes.get_mut(node) {
                        *set = None;
                    }
                    self.pump(world, node);
                }
                Told::Restarted { node } => {
                    self.with(node, NodeQueue::restarted);
                    self.state(node, NodeState::Down);
                }
                Told::Up { node } => {
                    self.state(node, NodeState::Up);
                    self.pump(world, node);
                }
            }
        }
        self.judge();
    }

    fn with(&mut self, node: usize, act: impl FnOnce(&mut NodeQueue)) {
        if let Some(queue) = self.queues.get_mut(node) {
            act(queue);
        }
    }

    fn state(&mut self, node: usize, state: NodeState) {
        if let Some(node) = self.snapshot.nodes.get_mut(node) {
            Arc::make_mut(node).state = state;
        }
    }

    /// A client sends a request: each node is asked what it would mean there, and the decision is made.
    fn arrives(&mut self, world: &mut World<'_>, request: usize) {
        let (Some(asked), Some(model)) = (
            world.requests.get(request),
            world.model_of.get(request).copied(),
        ) else {
            return;
        };
        for node in 0..self.queues.len() {
            self.look(world, node);
        }
        let Some(kind) = world.models.get(model) else {
            return;
        };
        let embeds = kind.can("embedding");
        let wanted = self.wanted(asked, request, embeds);
        let now = ms(world.now);
        let mut loads = Vec::with_capacity(self.queues.len());
        let mut requests = Vec::with_capacity(self.queues.len());
        for node in 0..self.queues.len() {
            let request = self.request_at(
                node,
                model,
                request,
                asked,
                &wanted,
                embeds,
                kind.context_length,
            );
            let (load, request) = self.load_of(now, node, model, asked, request);
            loads.push(load);
            requests.push(request);
        }
        let facts = RequestFacts {
            model: Some(asked.model.clone()),
            task: if embeds { Task::Embed } else { Task::Complete },
            images: asked.images > 0,
            prompt_tokens: wanted.prompt_high * 4 / 5,
            ..RequestFacts::default()
        };
        let decided = decide(&facts, &self.snapshot, &loads, &self.speeds, &self.routing);
        let Ok(decision) = decided else {
            world.fail(request, false);
            return;
        };
        let mut order: Vec<(usize, Request)> = decision
            .admitted()
            .filter_map(|c| {
                self.snapshot
                    .nodes
                    .iter()
                    .position(|node| node.name == c.node)
            })
            .filter_map(|node| Some((node, requests.get_mut(node)?.take()?)))
            .collect();
        if order.is_empty() {
            // Too long for every window: the 400 of the client's dialect, before anything was read.
            world.fail(request, true);
            return;
        }
        order.reverse();
        self.place(world, request, order, &wanted);
    }

    /// Queues a request at the last node of `rest`.
    fn place(
        &mut self,
        world: &mut World<'_>,
        request: usize,
        mut rest: Vec<(usize, Request)>,
        wanted: &Wanted,
    ) {
        while let Some((node, queued)) = rest.pop() {
            let now = ms(world.now);
            let Some(queue) = self.queues.get_mut(node) else {
                continue;
            };
            let ahead = (queue.queued() + queue.active()) as u64;
            if queue.arrive(now, queued.clone()).is_err() {
                continue;
            }
            self.sent.insert(
                request,
                Sent {
                    request: queued,
                    wanted: *wanted,
                    rest,
                    ahead,
                    arrived: world.now,
                    expected: None,
                    begun: None,
                },
            );
            self.pump(world, node);
            return;
        }
        world.fail(request, false);
    }

    /// Does what a node's scheduler says until it says no more.
    fn pump(&mut self, world: &mut World<'_>, node: usize) {
        if !world.up(node) {
            return;
        }
        loop {
            let now = ms(world.now);
            let Some(queue) = self.queues.get_mut(node) else {
                return;
            };
            let actions = queue.step(now);
            if actions.is_empty() {
                let wake = queue.wake();
                self.wake(world, node, wake);
                return;
            }
            for action in actions {
                self.act(world, node, action);
            }
        }
    }

    /// One call at the time that is due first; later ones are found out then.
    fn wake(&mut self, world: &mut World<'_>, node: usize, wake: Option<u64>) {
        let (Some(wake), Some(set)) = (wake, self.wakes.get_mut(node)) else {
            return;
        };
        if set.is_none_or(|set| wake < set) {
            *set = Some(wake);
            world.at(Duration::from_millis(wake), Event::Wake { node });
        }
    }

    fn act(&mut self, world: &mut World<'_>, node: usize, action: Action) {
        match action {
            Action::Start { id, context } => self.start(world, node, index_of(id), context),
            Action::Load {
                model,
                context,
                evict,
                on_cpu,
                ..
            } => {
                for gone in evict {
                    self.counted.evicted += 1;
                    self.affinity.forget(&(node, gone.0 as usize));
                    world.unload(node, gone.0 as usize);
                }
                self.affinity.forget(&(node, model.0 as usize));
                let num_ctx = Some(context).filter(|context| *context > 0);
                world.load(node, model.0 as usize, num_ctx, on_cpu);
            }
            Action::Refuse { id, .. } => {
                let request = index_of(id);
                if let Some(sent) = self.sent.remove(&request) {
                    self.place(world, request, sent.rest, &sent.wanted);
                }
            }
        }
    }

    fn start(&mut self, world: &mut World<'_>, node: usize, request: usize, context: u32) {
        let (Some(asked), Some(sent)) = (world.requests.get(request), self.sent.get(&request))
        else {
            return;
        };
        let model = sent.request.model.0 as usize;
        let trained = world
            .models
            .get(model)
            .map_or(0, |model| model.context_length);
        let limits = self.limits(node, &sent.request.footprint, trained);
        let Some(sent) = self.sent.get_mut(&request) else {
            return;
        };
        let load_ms = self
            .queues
            .get(node)
            .and_then(|queue| queue.load_ms(sent.request.model));
        let window = window::reconcile(self.policy, &sent.wanted, &limits, Some(context), load_ms);
        if let Ok(Some(avoided)) = window.map(|window| window.avoided)
            && !sent.request.embeds
        {
            self.counted.avoided += 1;
            self.counted.avoided_ms += avoided.ms.unwrap_or(0);
        }
        let waited = ms(world.now.saturating_sub(sent.arrived));
        self.waits.push(Waited {
            node,
            lane: asked.lane,
            ahead: sent.ahead,
            queued_ms: waited,
        });
        let place = (node, model);
        let cached = self.affinity.cached_blocks(&place, &asked.prefix) as u64 * u64::from(BLOCK);
        let prompt = u64::from(asked.tokens_in);
        // Its own slot is taken already.
        let crowded = self
            .queues
            .get(node)
            .is_some_and(|queue| queue.active() > 1);
        let name = self
            .snapshot
            .nodes
            .get(node)
            .map_or("", |node| node.name.as_str());
        sent.expected = self
            .names
            .get(model)
            .map(|model| self.learner.speed(name, model, context))
            .filter(|speed| speed.samples >= OBSERVED)
            .and_then(|speed| {
                speed.estimate(&Work {
                    uncached_tokens: prompt.saturating_sub(cached),
                    prompt_tokens: prompt,
                    answer_tokens: u64::from(asked.tokens_out),
                    load: Load::No,
                    crowded,
                })
            })
            .map(|range| (range, world.now));
        sent.begun = Some(Begun {
            node,
            beside: crowded,
            crowded,
        });
        let slots = self
            .queues
            .get(node)
            .and_then(NodeQueue::slots)
            .unwrap_or(1);
        let prompt = Remembered {
            blocks: &asked.prefix,
            session: None,
            tokens: prompt,
        };
        self.affinity.sent(&place, &prompt, slots as usize);
        let num_ctx = if sent.request.embeds || self.policy == WindowPolicy::Pass {
            asked.ctx
        } else {
            Some(context).filter(|context| *context > 0)
        };
        if crowded {
            for other in self.sent.values_mut() {
                if let Some(begun) = other.begun.as_mut().filter(|begun| begun.node == node) {
                    begun.crowded = true;
                }
            }
        }
        if !world.submit(node, request, num_ctx) {
            let now = ms(world.now);
            self.with(node, |queue| queue.finished(now, id_of(request), None));
            world.fail(request, false);
        }
    }

    fn finished(&mut self, world: &mut World<'_>, node: usize, request: usize, told: &Counters) {
        let inside = told
            .total
            .saturating_sub(told.load)
            .saturating_sub(told.prompt)
            .saturating_sub(told.answer);
        let now = ms(world.now);
        self.with(node, |queue| {
            queue.finished(now, id_of(request), Some(ms(inside)));
        });
        self.longest_answer_ms = self.longest_answer_ms.max(ms(told.total));
        if let Some(sent) = self.sent.remove(&request) {
            if let Some((expected, from)) = sent.expected {
                let real = world.now.saturating_sub(from).as_secs_f64() * 1000.0;
                let predicted = &mut self.counted.predicted;
                predicted.made += 1;
                predicted.close += u64::from((expected.centre / real - 1.0).abs() <= 0.2);
                predicted.in_range += u64::from((expected.low..=expected.high).contains(&real));
            }
            let model = sent.request.model.0 as usize;
            self.learn(node, model, told, sent.begun);
        }
        self.pump(world, node);
    }

    fn learn(&mut self, node: usize, model: usize, told: &Counters, begun: Option<Begun>) {
        let (Some(name), Some(model)) = (self.snapshot.nodes.get(node), self.names.get(model))
        else {
            return;
        };
        let name = &name.name;
        let milliseconds = |time: Duration| Some(time.as_secs_f64() * 1000.0);
        self.learner.observe(
            name,
            model,
            &Observation {
                context: told.context,
                prompt_tokens: told.prompt_tokens.into(),
                cached_tokens: told.cached_tokens.into(),
                characters: None,
                prompt_ms: milliseconds(told.prompt),
                answer_tokens: told.answer_tokens.into(),
                decode_ms: milliseconds(told.answer),
                load: None,
                crowded: begun.is_some_and(|begun| begun.crowded),
                began_crowded: begun.is_some_and(|begun| begun.beside),
            },
        );
        self.renew(node, model.clone());
    }

    /// The speeds that decisions read follow what was learned.
    fn renew(&mut self, node: usize, model: ModelName) {
        if let Some(node) = self.snapshot.nodes.get(node) {
            let speed = self.learner.speed(&node.name, &model, 0);
            let models = self
                .speeds
                .by_node_and_model
                .entry(node.name.clone())
                .or_default();
            models.insert(model, speed);
        }
    }

    fn loaded(&mut self, world: &mut World<'_>, node: usize, took: Duration) {
        let now = ms(world.now);
        self.longest_load_ms = self.longest_load_ms.max(ms(took));
        let shown = world.shown(node);
        let Some(ordered) = self.queues.get(node).and_then(NodeQueue::loading) else {
            return;
        };
        let (model, context) = (ordered.model, ordered.context);
        let found = seen(world, &shown);
        let held = found.iter().find(|seen| seen.model == model).copied();
        let Some(queue) = self.queues.get_mut(node) else {
            return;
        };
        queue.observed(now, now, &found);
        let (context, occupied) =
            held.map_or((context, None), |seen| (seen.context, seen.occupied));
        queue.loaded(now, context, occupied, ms(took));
        if let (Some(name), Some(model)) = (
            self.snapshot.nodes.get(node),
            self.names.get(model.0 as usize).cloned(),
        ) {
            let load = Observation {
                load: Some((Load::Warm, took.as_secs_f64() * 1000.0)),
                ..Observation::default()
            };
            self.learner.observe(&name.name, &model, &load);
            self.renew(node, model);
        }
        self.pump(world, node);
    }

    /// The regular look at a node.
    fn look(&mut self, world: &mut World<'_>, node: usize) {
        let due = self
            .looked
            .get(node)
            .is_some_and(|last| last.is_none_or(|last| world.now >= last + LOOK));
        if !due || !world.up(node) {
            return;
        }
        if let Some(last) = self.looked.get_mut(node) {
            *last = Some(world.now);
        }
        let shown = world.shown(node);
        let found = seen(world, &shown);
        let now = ms(world.now);
        self.with(node, |queue| queue.observed(now, now, &found));
    }

    /// The node died under a request: another node may answer it if nothing of the answer was sent yet.
    fn died(&mut self, world: &mut World<'_>, node: usize, request: usize) {
        let now = ms(world.now);
        self.with(node, |queue| queue.finished(now, id_of(request), None));
        let silent = world
            .records
            .get(request)
            .is_some_and(|record| record.first_token.is_none());
        match self.sent.remove(&request) {
            Some(sent) if silent && !sent.rest.is_empty() => {
                self.place(world, request, sent.rest, &sent.wanted);
            }
            _ => world.fail(request, false),
        }
    }

    /// Counts the waits that were longer than promised.
    fn judge(&mut self) {
        for wait in &self.waits {
            let Some(settings) = self.settings.get(wait.node) else {
                continue;
            };
            let bound = longest_wait(
                settings,
                wait.lane,
                wait.ahead,
                self.longest_answer_ms,
                self.longest_load_ms,
            );
            self.counted.starved += u64::from(wait.queued_ms > bound);
        }
    }
}

fn id_of(request: usize) -> RequestId {
    RequestId(request as u64)
}

fn index_of(id: RequestId) -> usize {
    usize::try_from(id.0).unwrap_or(usize::MAX)
}

fn model_id(model: usize) -> ModelId {
    ModelId(u32::try_from(model).unwrap_or(u32::MAX))
}
