//! The promises of the scheduler under random events, against a node that keeps its own books.

use super::*;
use crate::routing::window::ContextNeed;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Longest answer and longest load of the random node.
const ANSWER_MS: u64 = 8_000;
const LOAD_MS: u64 = 4_000;
const GIB: u64 = 1 << 30;

/// A random request.
#[derive(Debug, Clone)]
struct Plan {
    after_ms: u64,
    lane: usize,
    client: u64,
    model: u32,
    wish: u32,
    floor_part: u32,
    answer_ms: u64,
    first_piece_part: u64,
    /// The client leaves so long after it asked, if it has not got its answer by then.
    patience_ms: Option<u64>,
}

/// A random node and what becomes of its loads.
#[derive(Debug, Clone)]
struct Setup {
    settings: Settings,
    /// What there really is.
    capacity: u64,
    pins: Vec<Pin>,
    load_ms: u64,
    /// Every so manieth load fails; 0: none.
    fails: usize,
    /// The node is looked at every so often; 0: never.
    look_ms: u64,
    restart_at: Option<u64>,
}

fn any_plan() -> impl Strategy<Value = Plan> {
    (
        (0_u64..4000, 0_usize..4, 0_u64..4, 0_u32..5),
        (
            prop::sample::select(vec![2048_u32, 3000, 4096, 9000, 16_384, 40_000]),
            1_u32..=4,
        ),
        (100_u64..ANSWER_MS, 1_u64..10),
        prop::option::weighted(0.2, 0_u64..20_000),
    )
        .prop_map(
            |((after_ms, lane, client, model), (wish, part), (answer_ms, first), patience_ms)| {
                Plan {
                    after_ms,
                    lane,
                    client,
                    model,
                    wish,
                    floor_part: part,
                    answer_ms,
                    first_piece_part: first,
                    patience_ms,
                }
            },
        )
}

fn any_setup() -> impl Strategy<Value = Setup> {
    let policy = prop::sample::select(vec![
        WindowPolicy::RaiseOnly,
        WindowPolicy::RaiseOnly,
        WindowPolicy::Bucket,
        WindowPolicy::Pass,
    ]);
    (
        (policy, 3_u64..20, any::<bool>(), 1_u32..4, any::<bool>()),
        (
            prop::option::weighted(0.3, 1_u32..4),
            any::<bool>(),
            prop::collection::vec(
                prop::sample::select(vec![Pin::No, Pin::No, Pin::No, Pin::Last, Pin::Never]),
                5,
            ),
        ),
        (
            500..LOAD_MS,
            0_usize..6,
            prop::sample::select(vec![0_u64, 2000]),
        ),
        prop::option::weighted(0.2, 0_u64..60_000),
    )
        .prop_map(
            |(
                (policy, gib, known, slots, slots_known),
                (most_models, cpu_loads, pins),
                (load_ms, fails, look_ms),
                restart_at,
            )| Setup {
                settings: Settings {
                    policy,
                    capacity: known.then_some(gib * GIB),
                    most_models,
                    slots: slots_known.then_some(slots),
                    queue: 1000,
                    cpu_loads,
                    ..Settings::default()
                },
                capacity: gib * GIB,
                pins,
                load_ms,
                fails: if fails < 3 { 0 } else { fails },
                look_ms,
                restart_at,
            },
        )
}

/// Model 4 is an embedding model; the others are larger the higher their number.
fn footprint(model: u32) -> Arc<Footprint> {
    let base = [1, 2, 4, 7, 1]
        .get(model as usize)
        .map_or(1, |gib| gib * GIB);
    let per_token = if model == 4 { 0 } else { 64 << 10 };
    Arc::new(Footprint::linear(base, per_token, Some(32_768)))
}

fn request(id: u64, plan: &Plan, policy: WindowPolicy) -> Request {
    let wish = plan.wish.min(32_768);
    let exact = policy == WindowPolicy::Pass;
    Request {
        id: RequestId(id),
        lane: Lane::ALL[plan.lane],
        client: ClientId(plan.client),
        model: ModelId(plan.model),
        context: if plan.model == 4 {
            ContextNeed::ANY
        } else {
            ContextNeed {
                least: if exact {
                    wish
                } else {
                    wish / plan.floor_part / 2
                },
                floor: if exact { wish } else { wish / plan.floor_part },
                wish,
                exact,
                growth: 1 << (plan.client % 3),
                short: false,
            }
        },
        footprint: footprint(plan.model),
        embeds: plan.model == 4,
        work_ms: Some(plan.answer_ms),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive(usize),
    Leave(usize),
    FirstPiece(usize),
    Finish(usize),
    LoadDone,
    Look,
    Restart,
    Wake,
}

#[derive(Debug, Clone, Default)]
struct Held {
    context: u32,
    bytes: u64,
    active: u32,
    embeds: bool,
    whole: bool,
}

/// A node that does what it is told and checks that it may be told so.
struct World<'a> {
    setup: &'a Setup,
    plans: &'a [Plan],
    queue: NodeQueue,
    events: BTreeSet<(u64, u64, Event)>,
    serial: u64,
    now: u64,
    held: BTreeMap<u32, Held>,
    waiting: BTreeSet<usize>,
    started: BTreeMap<usize, u64>,
    refused: BTreeSet<usize>,
    left: BTreeSet<usize>,
    running: BTreeSet<usize>,
    arrived: BTreeMap<usize, (u64, u64)>,
    loading: Option<(u32, u32, bool)>,
    loads: usize,
    /// What was closed before the step.
    closed: Option<Switch>,
    log: Vec<(u64, Action)>,
}

impl<'a> World<'a> {
    fn new(setup: &'a Setup, plans: &'a [Plan]) -> Self {
        let mut queue = NodeQueue::new(setup.settings.clone());
        for (model, pin) in (0..).zip(&setup.pins) {
            queue.pin(ModelId(model), *pin);
        }
        let mut world = Self {
            setup,
            plans,
            queue,
            events: BTreeSet::new(),
            serial: 0,
            now: 0,
            held: BTreeMap::new(),
            waiting: BTreeSet::new(),
            started: BTreeMap::new(),
            refused: BTreeSet::new(),
            left: BTreeSet::new(),
            running: BTreeSet::new(),
            arrived: BTreeMap::new(),
            loading: None,
            loads: 0,
            closed: None,
            log: Vec::new(),
        };
        let mut at = 0;
        for (index, plan) in plans.iter().enumerate() {
            at += plan.after_ms;
            world.at(at, Event::Arrive(index));
            if let Some(patience) = plan.patience_ms {
                world.at(at + patience, Event::Leave(index));
            }
        }
        if setup.look_ms > 0 {
            for look in 1..100 {
                world.at(look * setup.look_ms, Event::Look);
            }
        }
        if let Some(restart) = setup.restart_at {
            world.at(restart, Event::Restart);
        }
        world
    }

    fn at(&mut self, at: u64, event: Event) {
        self.serial += 1;
        self.events.insert((at, self.serial, event));
    }

    fn run(&mut self) -> Result<(), TestCaseError> {
        let mut steps = 0;
        while let Some((at, _, event)) = self.events.pop_first() {
            steps += 1;
            prop_assert!(steps < 200_000, "it never ends");
            self.now = at;
            self.happens(event);
            self.obey()?;
        }
        Ok(())
    }

    fn happens(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Arrive(index) => {
                let ahead = (self.queue.queued() + self.queue.active()) as u64;
                let request = request(index as u64, &self.plans[index], self.setup.settings.policy);
                self.queue.arrive(now, request).unwrap();
                self.waiting.insert(index);
                self.arrived.insert(index, (now, ahead));
            }
            Event::Leave(index) => {
                if self.waiting.remove(&index) {
                    assert!(self.queue.cancelled(RequestId(index as u64)));
                    self.left.insert(index);
                } else if self.running.contains(&index) {
                    self.finish(index);
                }
            }
            Event::FirstPiece(index) => {
                if self.running.contains(&index) {
                    self.queue.answering(RequestId(index as u64));
                }
            }
            Event::Finish(index) => {
                if self.running.contains(&index) {
                    self.finish(index);
                }
            }
            Event::LoadDone => self.load_done(),
            Event::Look => {
                let seen = self.seen();
                self.queue.observed(now, now, &seen);
            }
            Event::Restart => {
                self.held.clear();
                self.loading = None;
                for index in self.running.clone() {
                    self.running.remove(&index);
                    self.queue.finished(now, RequestId(index as u64), None);
                }
                self.queue.restarted();
            }
            Event::Wake => {}
        }
    }

    fn finish(&mut self, index: usize) {
        self.running.remove(&index);
        if let Some(held) = self.held.get_mut(&self.plans[index].model) {
            held.active -= 1;
        }
        self.queue
            .finished(self.now, RequestId(index as u64), Some(0));
    }

    fn load_done(&mut self) {
        let Some((model, context, on_cpu)) = self.loading.take() else {
            return;
        };
        self.loads += 1;
        if self.setup.fails > 0 && self.loads.is_multiple_of(self.setup.fails) {
            let refused = self.queue.load_failed(false);
            self.refuse(refused);
            return;
        }
        let whole = footprint(model).bytes(context).unwrap();
        let used: u64 = self.held.values().map(|held| held.bytes).sum();
        let bytes = if on_cpu {
            0
        } else {
            whole.min(self.setup.capacity.saturating_sub(used))
        };
        let held = Held {
            context,
            bytes,
            active: 0,
            embeds: model == 4,
            whole: bytes == whole,
        };
        let occupied = Occupied {
            bytes,
            whole: held.whole,
        };
        self.held.insert(model, held);
        self.queue
            .loaded(self.now, context, Some(occupied), self.setup.load_ms);
    }

    fn seen(&self) -> Vec<Seen> {
        self.held
            .iter()
            .map(|(model, held)| Seen {
                model: ModelId(*model),
                context: held.context,
                occupied: Some(Occupied {
                    bytes: held.bytes,
                    whole: held.whole,
                }),
                expires_at: None,
                embeds: held.embeds,
            })
            .collect()
    }

    fn refuse(&mut self, actions: Vec<Action>) {
        for action in actions {
            self.log.push((self.now, action.clone()));
            let Action::Refuse { id, .. } = action else {
                panic!("{action:?}");
            };
            let index = usize::try_from(id.0).unwrap();
            assert!(self.waiting.remove(&index), "refused {id:?} does not wait");
            self.refused.insert(index);
        }
    }

    /// Does what the queue says until it says no more.
    fn obey(&mut self) -> Result<(), TestCaseError> {
        for round in 0.. {
            prop_assert!(round < 100, "it never stops");
            self.closed = self.queue.switch.clone();
            let actions = self.queue.step(self.now);
            if actions.is_empty() {
                break;
            }
            for action in actions {
                self.log.push((self.now, action.clone()));
                match action {
                    Action::Start { id, context } => self.start(id, context)?,
                    Action::Load {
                        model,
                        context,
                        evict,
                        on_cpu,
                        ..
                    } => self.load(model, context, &evict, on_cpu)?,
                    Action::Refuse { .. } => self.refuse(vec![action]),
                }
            }
        }
        if let Some(wake) = self.queue.wake() {
            prop_assert!(wake > self.now, "woken for nothing at {wake}");
            self.at(wake, Event::Wake);
        }
        Ok(())
    }

    fn start(&mut self, id: RequestId, context: u32) -> Result<(), TestCaseError> {
        let index = usize::try_from(id.0).unwrap();
        prop_assert!(self.waiting.remove(&index), "{index} does not wait");
        let plan = &self.plans[index];
        let request = request(id.0, plan, self.setup.settings.policy);
        let held = self.held.get_mut(&plan.model);
        prop_assert!(
            held.is_some(),
            "{index} starts on a model that is not there"
        );
        let held = held.unwrap();
        prop_assert_eq!(held.context, context);
        let need = request.context;
        let enough = need.covered_by(context) || (!need.exact && context >= need.least);
        prop_assert!(enough, "{context} for {need:?}");
        held.active += 1;
        if let Some(slots) = self.setup.settings.slots {
            prop_assert!(held.active <= slots);
        }
        // A switch that nobody waits for any more is given up within the step, and the next one may want the same victims.
        let revived = match (&self.closed, &self.queue.switch) {
            (Some(before), Some(after)) => {
                before.model == after.model && before.evict.contains(&request.model)
            }
            _ => false,
        };
        prop_assert!(!revived, "a victim is revived");
        prop_assert!(
            self.started.insert(index, self.now).is_none(),
            "started twice"
        );
        self.running.insert(index);
        let first = plan.answer_ms * plan.first_piece_part / 10;
        self.at(self.now + first, Event::FirstPiece(index));
        self.at(self.now + plan.answer_ms, Event::Finish(index));
        Ok(())
    }

    fn load(
        &mut self,
        model: ModelId,
        context: u32,
        evict: &[ModelId],
        on_cpu: bool,
    ) -> Result<(), TestCaseError> {
        prop_assert!(self.loading.is_none(), "two loads at once");
        let waiting = self.waiting.iter().any(|i| self.plans[*i].model == model.0);
        prop_assert!(waiting, "nobody waits for {:?}", model);
        let others = self.held.keys().filter(|held| **held != model.0).count();
        let most = self.setup.settings.most_models;
        let cpu_would_do =
            self.setup.settings.cpu_loads && most.is_none_or(|most| others < most as usize);
        for gone in evict {
            let held = self.held.remove(&gone.0);
            prop_assert!(held.is_some(), "{:?} is not there", gone);
            prop_assert_eq!(held.unwrap().active, 0, "{:?} is at work", gone);
            prop_assert!(self.setup.pins[gone.0 as usize] != Pin::Never);
            if model.0 == 4 && gone.0 != 4 {
                let oldest = self
                    .waiting
                    .iter()
                    .filter(|i| self.plans[**i].model == 4)
                    .map(|i| self.arrived[i].0)
                    .min()
                    .unwrap();
                prop_assert!(self.now - oldest >= LAST_RESORT_MS && !cpu_would_do);
            }
        }
        if let Some(replaced) = self.held.remove(&model.0) {
            prop_assert_eq!(replaced.active, 0, "replaced at work");
            if self.setup.settings.policy == WindowPolicy::RaiseOnly {
                prop_assert!(
                    context > replaced.context,
                    "{} is not raised",
                    replaced.context
                );
            }
        }
        let used: u64 = self.held.values().map(|held| held.bytes).sum();
        let needs = if on_cpu {
            0
        } else {
            footprint(model.0).bytes(context).unwrap()
        };
        if self.setup.settings.capacity.is_some() {
            let alone = self.held.values().all(|held| held.bytes == 0);
            prop_assert!(
                used + needs <= self.setup.capacity || alone,
                "{used} + {needs} of {}",
                self.setup.capacity
            );
        }
        if let Some(most) = most {
            prop_assert!(self.held.len() < most as usize);
        }
        self.loading = Some((model.0, context, on_cpu));
        self.at(self.now + self.setup.load_ms, Event::LoadDone);
        Ok(())
    }

    /// Everybody got an answer, left or was given back, once; and nobody waited longer than promised.
    fn settled(&self) -> Result<(), TestCaseError> {
        prop_assert!(self.waiting.is_empty(), "{:?} wait for ever", self.waiting);
        prop_assert_eq!((self.queue.queued(), self.queue.active()), (0, 0));
        prop_assert!(self.queue.switch.is_none(), "a switch for nobody");
        let ends = self.started.len() + self.left.len() + self.refused.len();
        prop_assert_eq!(ends, self.plans.len());
        for (index, started) in &self.started {
            let (arrived, ahead) = self.arrived[index];
            let lane = Lane::ALL[self.plans[*index].lane];
            let bound = longest_wait(&self.setup.settings, lane, ahead, ANSWER_MS, LOAD_MS);
            let bound = bound
                + if self.plans[*index].model == 4 {
                    LAST_RESORT_MS
                } else {
                    0
                };
            let waited = started - arrived;
            prop_assert!(
                waited <= bound,
                "{index} waited {waited} of {bound} behind {ahead}"
            );
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_promise_holds_whatever_happens(
        setup in any_setup(),
        plans in prop::collection::vec(any_plan(), 1..60),
    ) {
        let mut world = World::new(&setup, &plans);
        world.run()?;
        world.settled()?;
        let mut again = World::new(&setup, &plans);
        again.run()?;
        prop_assert_eq!(world.log, again.log, "the same events, other actions");
    }
}
