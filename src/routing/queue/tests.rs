//! Tests of the scheduler, rule by rule.

use super::*;
use crate::routing::window::ContextNeed;
use std::sync::Arc;

const GIB: u64 = 1 << 30;

/// A node of 10 GiB with two slots for each model, and what it was told to do.
struct Node {
    queue: NodeQueue,
    next: u64,
}

impl Node {
    fn new() -> Self {
        Self::with(settings())
    }

    fn with(settings: Settings) -> Self {
        Self {
            queue: NodeQueue::new(settings),
            next: 0,
        }
    }

    /// A request arrives; what the node does then.
    fn ask(&mut self, now: u64, request: &Request) -> (RequestId, Vec<Action>) {
        self.next += 1;
        let id = RequestId(self.next);
        let request = Request {
            id,
            ..request.clone()
        };
        self.queue.arrive(now, request).unwrap();
        (id, self.queue.step(now))
    }

    fn finish(&mut self, now: u64, id: RequestId) -> Vec<Action> {
        self.queue.finished(now, id, Some(0));
        self.queue.step(now)
    }

    /// The load that was ordered is done.
    fn loaded(&mut self, now: u64, load_ms: u64) -> Vec<Action> {
        self.queue.loaded(now, 0, None, load_ms);
        self.queue.step(now)
    }

    /// Loads a model and finishes the request it was loaded for.
    fn hold(&mut self, now: u64, request: &Request) {
        let (id, actions) = self.ask(now, request);
        assert!(matches!(actions[..], [Action::Load { .. }]), "{actions:?}");
        let started = self.loaded(now, 2000);
        assert_eq!(ids(&started), [id]);
        self.finish(now, id);
    }

    fn holds(&self) -> Vec<u32> {
        self.queue
            .residents()
            .map(|resident| resident.model.0)
            .collect()
    }
}

fn settings() -> Settings {
    Settings {
        capacity: Some(10 * GIB),
        slots: Some(2),
        ..Settings::default()
    }
}

/// A request for a model of so many GiB with 64 KiB for each token, in a context of 4,096.
fn asking(model: u32, gib: u64) -> Request {
    Request {
        id: RequestId(0),
        lane: Lane::Interactive,
        client: ClientId(1),
        model: ModelId(model),
        context: wish(4096),
        footprint: Arc::new(Footprint::linear(gib * GIB, 64 << 10, Some(32_768))),
        embeds: false,
        work_ms: Some(1000),
    }
}

fn wish(context: u32) -> ContextNeed {
    ContextNeed {
        least: context,
        floor: context,
        wish: context,
        exact: false,
        growth: 2,
        short: false,
    }
}

/// A request for model 1 whose context was computed from its prompt.
fn growing(context: u32) -> Request {
    Request {
        context: ContextNeed {
            growth: 4,
            ..wish(context)
        },
        ..asking(1, 2)
    }
}

fn in_lane(lane: Lane, request: Request) -> Request {
    Request { lane, ..request }
}

fn embedding(model: u32, gib: u64) -> Request {
    Request {
        embeds: true,
        context: ContextNeed::ANY,
        lane: Lane::Embedding,
        footprint: Arc::new(Footprint::linear(gib * GIB, 0, Some(512))),
        ..asking(model, gib)
    }
}

/// Requests that were started.
fn ids(actions: &[Action]) -> Vec<RequestId> {
    let started = |action: &Action| match action {
        Action::Start { id, .. } => Some(*id),
        _ => None,
    };
    actions.iter().filter_map(started).collect()
}

/// Model, context and victims of the only load.
fn load(actions: &[Action]) -> (u32, u32, Vec<u32>) {
    let loads: Vec<_> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Load {
                model,
                context,
                evict,
                ..
            } => Some((
                model.0,
                *context,
                evict.iter().map(|model| model.0).collect(),
            )),
            _ => None,
        })
        .collect();
    assert_eq!(loads.len(), 1, "{actions:?}");
    loads[0].clone()
}

#[test]
fn the_first_request_loads_and_others_join_the_load() {
    let mut node = Node::new();
    let (first, actions) = node.ask(0, &asking(1, 2));
    assert_eq!(load(&actions).0, 1);
    let (second, actions) = node.ask(100, &asking(1, 2));
    assert_eq!(actions, []);
    assert_eq!(ids(&node.loaded(2000, 2000)), [first, second]);
    assert_eq!(node.queue.load_ms(ModelId(1)), Some(2000));
}

#[test]
fn a_load_goes_on_when_its_client_leaves_and_serves_whoever_comes() {
    let mut node = Node::new();
    let (first, _) = node.ask(0, &asking(1, 2));
    assert!(node.queue.cancelled(first));
    assert_eq!(node.queue.step(10), []);
    assert_eq!(node.loaded(2000, 2000), []);
    let (second, actions) = node.ask(3000, &asking(1, 2));
    assert_eq!(ids(&actions), [second]);
}

#[test]
fn what_fits_beside_the_others_is_loaded_at_once() {
    let mut node = Node::new();
    node.hold(0, &asking(1, 2));
    let (busy, _) = node.ask(10, &asking(1, 2));
    let (_, actions) = node.ask(20, &asking(2, 2));
    assert_eq!(load(&actions).2, [0; 0]);
    node.loaded(2000, 2000);
    assert_eq!(node.holds(), [1, 2]);
    node.finish(2100, busy);
}

#[test]
fn only_one_load_at_a_time() {
    let mut node = Node::new();
    node.ask(0, &asking(1, 2));
    let (_, actions) = node.ask(0, &asking(2, 2));
    assert_eq!(actions, []);
    assert_eq!(load(&node.loaded(2000, 2000)).0, 2);
}

#[test]
fn an_idle_victim_goes_at_once_and_the_least_valuable_one() {
    let mut node = Node::new();
    node.hold(0, &asking(2, 4));
    node.hold(100_000, &asking(1, 4));
    let (_, actions) = node.ask(200_000, &asking(3, 4));
    assert_eq!(load(&actions).2, [2], "the longer unused one");
}

#[test]
fn two_small_victims_go_only_when_one_is_not_enough() {
    let mut node = Node::new();
    node.hold(0, &asking(1, 2));
    node.hold(1000, &asking(2, 2));
    node.hold(2000, &asking(3, 2));
    let (_, actions) = node.ask(90_000, &asking(4, 6));
    assert_eq!(load(&actions).2, [1, 2]);
}

#[test]
fn a_victim_at_work_is_drained_before_it_goes_and_never_revived() {
    let mut node = Node::new();
    node.hold(0, &asking(1, 6));
    let (running, _) = node.ask(1000, &asking(1, 6));
    let (other, actions) = node.ask(1100, &asking(2, 6));
    assert_eq!(actions, []);
    // Within the hold (four loads of 5 s, because model 2 was never loaded) requests for what is there flow.
    let (flows, actions) = node.ask(2000, &asking(1, 6));
    assert_eq!(ids(&actions), [flows]);
    node.finish(3000, flows);
    let close = node.queue.wake().unwrap();
    assert_eq!(close, 1100 + 20_000);
    assert_eq!(node.queue.step(close), []);
    // Closed: nothing starts on it, although a slot is free.
    let (late, actions) = node.ask(close + 1, &asking(1, 6));
    assert_eq!(actions, []);
    assert_eq!(load(&node.finish(close + 500, running)), (2, 8192, vec![1]));
    assert_eq!(ids(&node.loaded(close + 2500, 2000)), [other]);
    // The one that was late waits for the next switch.
    assert_eq!(node.queue.queued(), 1);
    assert_eq!(load(&node.finish(close + 4000, other)), (1, 8192, vec![2]));
    assert_eq!(ids(&node.loaded(close + 6000, 2000)), [late]);
}

#[test]
fn when_whoever_waited_for_a_switch_leaves_its_victims_go_on() {
    let mut node = Node::new();
    node.hold(0, &asking(1, 6));
    let (running, _) = node.ask(1000, &asking(1, 6));
    let (other, _) = node.ask(1100, &asking(2, 6));
    node.queue.step(21_100);
    let (late, actions) = node.ask(21_200, &asking(1, 6));
    assert_eq!(actions, []);
    assert!(node.queue.cancelled(other));
    assert_eq!(ids(&node.queue.step(21_300)), [late]);
    node.finish(21_400, running);
    assert_eq!(node.holds(), [1]);
}

#[test]
fn a_load_is_paid_back_by_a_batch_of_answers() {
    let mut node = Node::new();
    node.hold(0, &asking(1, 6));
    let (running, _) = node.ask(100, &asking(1, 6));
    for _ in 0..6 {
        node.ask(200, &in_lane(Lane::Agent, asking(2, 6)));
    }
    node.finish(400, running);
    let wake = node.queue.wake().unwrap();
    assert_eq!(
        load(&node.queue.step(wake)).0,
        2,
        "the agent did not come back at once"
    );
    let mut started = node.loaded(3000, 2000);
    let (waiting, actions) = node.ask(3100, &asking(1, 6));
    assert_eq!(actions, []);
    let mut served = 0;
    let mut now = 3100;
    while let Some(id) = ids(&started).first().copied() {
        served += 1;
        now += 500;
        let mut rest: Vec<Action> = started.drain(..).skip(1).collect();
        rest.extend(node.finish(now, id));
        started = rest;
    }
    assert_eq!(
        served, 6,
        "all six in one stay, although it lasts longer than the other wants to wait"
    );
    assert_eq!(load(&started).0, 1);
    assert_eq!(ids(&node.loaded(now + 2000, 2000)), [waiting]);
}

#[test]
fn a_model_whose_next_request_is_expected_soon_is_not_thrown_out_for_one() {
    let mut node = Node::new();
    node.hold(0, &asking(1, 6));
    // An agent that asks again 300 ms after each answer.
    let mut now = 1000;
    for _ in 0..5 {
        let (id, _) = node.ask(now, &asking(1, 6));
        node.finish(now + 700, id);
        now += 1000;
    }
    let (_, actions) = node.ask(now - 200, &asking(2, 6));
    assert_eq!(actions, [], "it will be back in 200 ms");
    let wake = node.queue.wake().unwrap();
    assert!(wake <= now + 1000, "{wake}");
    let (id, actions) = node.ask(now, &asking(1, 6));
    assert_eq!(ids(&actions), [id]);
    node.finish(now + 700, id);
    // This time it does not come back.
    let wake = node.queue.wake().unwrap();
    assert_eq!(load(&node.queue.step(wake)), (2, 8192, vec![1]));
}

#[test]
fn a_larger_context_reloads_once_what_runs_is_done() {
    let mut node = Node::with(Settings {
        policy: WindowPolicy::Bucket,
        ..settings()
    });
    node.hold(0, &asking(1, 2));
    let (running, _) = node.ask(100, &asking(1, 2));
    let more = Request {
        context: wish(9000),
        ..asking(1, 2)
    };
    let (large, actions) = node.ask(200, &more);
    assert_eq!(actions, []);
    // Those that the present context would do for wait as well: the larger one does for them too.
    let (small, actions) = node.ask(300, &asking(1, 2));
    assert_eq!(actions, []);
    assert_eq!(load(&node.finish(400, running)), (1, 16_384, vec![]));
    assert_eq!(ids(&node.loaded(2400, 2000)), [large, small]);
}

#[test]
fn a_load_takes_more_context_out_of_what_is_left_over() {
    let mut node = Node::new();
    let (_, actions) = node.ask(0, &asking(1, 2));
    assert_eq!(
        load(&actions).1,
        8192,
        "twice the wish, as the node is empty"
    );
    let mut node = Node::new();
    let (_, actions) = node.ask(0, &growing(4096));
    assert_eq!(load(&actions).1, 16_384, "four times, because it will grow");
    let mut full = Node::with(Settings {
        capacity: Some(5 * GIB / 2),
        ..settings()
    });
    let (_, actions) = full.ask(0, &asking(1, 2));
    assert_eq!(
        load(&actions).1,
        4096,
        "half of 256 MiB is less than the next step takes"
    );
}

#[test]
fn a_second_load_for_more_context_takes_all_that_is_left() {
    let mut node = Node::with(Settings {
        capacity: Some(9 * GIB / 2),
        ..settings()
    });
    // 2 GiB and 64 KiB a token: 3 GiB with 16,384, 4 GiB with 32,768.
    let (first, actions) = node.ask(0, &growing(2000));
    assert_eq!(load(&actions).1, 8192, "four times the wish");
    node.loaded(2000, 2000);
    node.finish(2000, first);
    let more = Request {
        context: wish(9000),
        ..asking(1, 2)
    };
    let (_, actions) = node.ask(3000, &more);
    assert_eq!(
        load(&actions).1,
        32_768,
        "1 of the 1.5 GiB besides what is needed"
    );
}

#[test]
fn growth_leaves_room_for_what_was_used_lately() {
    let mut node = Node::new();
    let large = Request {
        footprint: asking(1, 5).footprint,
        ..growing(4096)
    };
    let (_, actions) = node.ask(0, &large);
    assert_eq!(load(&actions).1, 16_384);
    let mut node = Node::new();
    node.hold(0, &asking(2, 4));
    // Somebody unloads it.
    node.queue.observed(5000, 4000, &[]);
    let (_, actions) = node.ask(6000, &large);
    let context = load(&actions).1;
    assert_eq!(context, 8192, "10 GiB less 5.25 and the 4.25 of the other");
}

#[test]
fn memory_that_no_other_model_fits_into_is_all_for_growth() {
    // 3 GiB: 2 and 0.25 for 4,096 tokens leave 0.75; the step to 8,192 takes 0.25, the one to 16,384 another 0.5.
    let three = |capacity| {
        Node::with(Settings {
            capacity,
            ..settings()
        })
    };
    let mut alone = three(Some(3 * GIB));
    let (_, actions) = alone.ask(0, &growing(4096));
    assert_eq!(load(&actions).1, 10 * 1024, "half of it: others may come");
    let mut node = three(Some(3 * GIB));
    node.hold(0, &asking(2, 2));
    let (_, actions) = node.ask(400_000, &growing(4096));
    assert_eq!(load(&actions).1, 16_384, "the other one does not fit in");
    let mut node = three(Some(3 * GIB + GIB / 8));
    node.hold(0, &asking(2, 2));
    let (_, actions) = node.ask(400_000, &growing(6000));
    assert_eq!(
        load(&actions).1,
        18 * 1024,
        "the next step is too much: what is left, for what is sure to grow"
    );
    let mut node = three(Some(4 * GIB));
    node.hold(0, &asking(2, 1));
    let (_, actions) = node.ask(400_000, &asking(1, 2));
    assert_eq!(
        load(&actions).1,
        4096,
        "all are in memory: half of the 256 MiB is kept for models to come"
    );
    assert_eq!(node.holds(), [2]);
}

#[test]
fn what_a_node_showed_of_a_model_corrects_the_estimate() {
    let mut node = Node::with(Settings {
        policy: WindowPolicy::Bucket,
        ..settings()
    });
    let (id, _) = node.ask(0, &asking(1, 2));
    let shown = Occupied {
        bytes: 17 * GIB / 4,
        whole: true,
    };
    node.queue.loaded(2000, 4096, Some(shown), 2000);
    node.queue.step(2000);
    node.finish(3000, id);
    node.queue.observed(5000, 4000, &[]);
    node.hold(6000, &asking(2, 6));
    let more = Request {
        context: wish(8192),
        ..asking(1, 2)
    };
    let (_, actions) = node.ask(90_000, &more);
    assert_eq!(
        load(&actions).2,
        [2],
        "4.5 GiB, not the 2.5 of the estimate"
    );
}

#[test]
fn with_an_unknown_capacity_nothing_grows_and_the_node_shows_what_it_holds() {
    let mut node = Node::with(Settings {
        capacity: None,
        ..settings()
    });
    node.hold(0, &asking(1, 4));
    let (_, actions) = node.ask(1000, &asking(2, 4));
    assert_eq!(
        load(&actions),
        (2, 4096, vec![]),
        "nobody knows that it does not fit"
    );
    // The node throws the first one out for it.
    node.queue.observed(3000, 3000, &[]);
    for id in ids(&node.loaded(3000, 2000)) {
        node.finish(4000, id);
    }
    assert_eq!(node.holds(), [2]);
    let (_, actions) = node.ask(90_000, &asking(1, 4));
    assert_eq!(load(&actions).2, [2], "now it is known");
    assert!(node.queue.capacity().unwrap() < 9 * GIB);
}

#[test]
fn pinned_models_go_last_or_never() {
    let mut node = Node::new();
    node.hold(0, &asking(1, 4));
    node.hold(100_000, &asking(2, 4));
    node.queue.pin(ModelId(1), Pin::Last);
    let (_, actions) = node.ask(200_000, &asking(3, 4));
    assert_eq!(load(&actions).2, [2]);
    let mut node = Node::new();
    node.hold(0, &asking(1, 4));
    node.queue.pin(ModelId(1), Pin::Never);
    let (id, actions) = node.ask(200_000, &asking(3, 8));
    let [Action::Refuse { id: refused, why }] = actions[..] else {
        panic!("{actions:?}");
    };
    assert_eq!(refused, id);
    assert!(
        matches!(why, Refused::NoRoom { need, usable } if need > usable),
        "{why:?}"
    );
    assert_eq!(node.queue.queued(), 0);
}

#[test]
fn a_model_larger_than_the_node_has_it_alone() {
    let mut node = Node::new();
    node.hold(0, &asking(1, 4));
    node.hold(1000, &asking(2, 1));
    let (id, actions) = node.ask(90_000, &asking(3, 40));
    assert_eq!(load(&actions), (3, 4096, vec![1, 2]));
    assert_eq!(ids(&node.loaded(99_000, 9000)), [id]);
    node.finish(99_500, id);
    let (_, actions) = node.ask(300_000, &asking(2, 1));
    assert_eq!(load(&actions).2, [3]);
}

#[test]
fn a_failed_load_gives_its_requests_back() {
    let mut node = Node::new();
    let (one, _) = node.ask(0, &asking(1, 2));
    let (two, _) = node.ask(0, &asking(1, 2));
    let (other, _) = node.ask(0, &asking(2, 2));
    let refused = node.queue.load_failed(true);
    let expected = [one, two].map(|id| Action::Refuse {
        id,
        why: Refused::LoadFailed,
    });
    assert_eq!(refused, expected);
    assert_eq!(load(&node.queue.step(500)).0, 2);
    assert_eq!(ids(&node.loaded(2500, 2000)), [other]);
}

#[test]
fn a_node_that_gives_less_context_than_asked_for_is_not_asked_again() {
    let mut node = Node::new();
    let large = Request {
        context: wish(20_000),
        ..asking(1, 2)
    };
    let (id, actions) = node.ask(0, &large);
    assert_eq!(load(&actions).1, 32_768);
    node.queue.loaded(2000, 8192, None, 2000);
    assert_eq!(ids(&node.queue.step(2000)), [id]);
    let (next, actions) = node.ask(3000, &large);
    assert_eq!(ids(&actions), [next]);
}

#[test]
fn a_restart_forgets_what_was_in_memory_and_keeps_who_waits() {
    let mut node = Node::new();
    node.hold(0, &asking(1, 2));
    let (running, _) = node.ask(100, &asking(1, 2));
    node.ask(100, &asking(1, 2));
    let (waits, _) = node.ask(100, &asking(1, 2));
    node.queue.restarted();
    node.queue.finished(200, running, None);
    assert_eq!(load(&node.queue.step(200)).0, 1);
    assert!(ids(&node.loaded(2200, 2000)).contains(&waits));
}

#[test]
fn what_others_do_to_the_node_is_seen() {
    let mut node = Node::new();
    node.hold(0, &asking(1, 2));
    let theirs = Seen {
        model: ModelId(7),
        context: 4096,
        occupied: Some(Occupied {
            bytes: 7 * GIB,
            whole: true,
        }),
        expires_at: Some(9000),
        embeds: false,
    };
    // A look that began before our load says nothing about it.
    node.queue.observed(10, 0, &[theirs]);
    assert_eq!(node.holds(), [1, 7]);
    node.queue.observed(5000, 4000, &[theirs]);
    assert_eq!(node.holds(), [7]);
    let (id, actions) = node.ask(6000, &asking(7, 7));
    assert_eq!(ids(&actions), [id]);
    node.finish(6500, id);
    node.queue.observed(7000, 6900, &[theirs]);
    node.queue.step(9000);
    assert_eq!(node.holds(), [0; 0], "it went when the node said it would");
}

#[test]
fn a_fixed_node_loads_nothing_and_counts_its_own_slots() {
    let mut node = Node::with(Settings {
        residency: Residency::Fixed,
        ..settings()
    });
    let (one, actions) = node.ask(0, &asking(1, 2));
    assert_eq!(ids(&actions), [one]);
    let (two, actions) = node.ask(0, &asking(2, 90));
    assert_eq!(ids(&actions), [two]);
    let (three, actions) = node.ask(0, &asking(3, 2));
    assert_eq!(actions, []);
    assert_eq!(ids(&node.finish(100, one)), [three]);
}

#[test]
fn slots_that_nobody_tells_are_found_out() {
    let mut node = Node::with(Settings {
        slots: None,
        ..settings()
    });
    node.hold(0, &asking(1, 2));
    let (one, _) = node.ask(100, &asking(1, 2));
    let (two, actions) = node.ask(100, &asking(1, 2));
    assert_eq!(ids(&actions), [two]);
    node.queue.finished(1100, one, Some(0));
    // The second one waited inside the node for the first.
    node.queue.finished(2100, two, Some(1000));
    assert_eq!(node.queue.slots(), Some(1));
    node.ask(3000, &asking(1, 2));
    let (_, actions) = node.ask(3000, &asking(1, 2));
    assert_eq!(actions, []);
}

#[test]
fn a_full_queue_says_so() {
    let mut queue = NodeQueue::new(Settings {
        queue: 1,
        ..settings()
    });
    assert_eq!(queue.arrive(0, asking(1, 2)), Ok(()));
    assert_eq!(queue.arrive(0, asking(1, 2)), Err(QueueFull));
}

#[test]
fn the_forecast_tells_waits_loads_and_what_they_cost_others() {
    let mut node = Node::new();
    node.hold(0, &asking(1, 6));
    let here = node.queue.forecast(1000, &asking(1, 6));
    assert_eq!((here.wait_ms, here.needs_load), (Some(0), false));
    for _ in 0..2 {
        node.ask(1000, &asking(1, 6));
    }
    let full = node.queue.forecast(1500, &asking(1, 6));
    assert_eq!(
        full.wait_ms,
        Some(500),
        "half of what two requests have left"
    );
    let other = node.queue.forecast(1500, &asking(2, 6));
    assert_eq!((other.wait_ms, other.needs_load), (Some(500), true));
    assert_eq!(other.load_ms, None, "it was never loaded here");
    assert!(other.evicts_ms > 1900, "{other:?}");
    assert!(other.possible);
    let beside = node.queue.forecast(1500, &asking(3, 1));
    assert_eq!((beside.evicts_ms, beside.wait_ms), (0, Some(0)));
    let larger = Request {
        context: wish(32_768),
        ..asking(1, 6)
    };
    assert!(node.queue.forecast(1500, &larger).needs_load);
}

#[test]
fn the_context_of_a_model_is_known_from_the_moment_it_is_ordered() {
    let mut node = Node::new();
    assert_eq!(node.queue.context_of(ModelId(1)), None);
    node.ask(0, &asking(1, 2));
    assert_eq!(node.queue.context_of(ModelId(1)), Some(8192));
    node.loaded(100, 100);
    assert_eq!(node.queue.context_of(ModelId(1)), Some(8192));
}

#[test]
fn what_is_overdue_is_not_put_off_by_loads_that_would_fit() {
    let mut node = Node::new();
    let (first, _) = node.ask(0, &asking(1, 6));
    node.ask(1000, &asking(2, 6));
    // The first load was slow: the model keeps its place until 20 s after it, four loads at the most.
    node.queue.loaded(15_000, 0, None, 15_000);
    assert_eq!(ids(&node.queue.step(15_000)), [first]);
    let overdue = 1000 + 20_000;
    node.queue.step(overdue);
    let (_, actions) = node.ask(overdue + 1000, &asking(3, 1));
    assert_eq!(
        actions,
        [],
        "there is room beside, but the second one has waited long enough"
    );
    let (early, actions) = {
        let mut node = Node::new();
        let (first, _) = node.ask(0, &asking(1, 6));
        node.ask(1000, &asking(2, 6));
        node.queue.loaded(15_000, 0, None, 15_000);
        node.queue.step(15_000);
        (first, node.ask(16_000, &asking(3, 1)).1)
    };
    assert_eq!(
        (early, load(&actions).0),
        (first, 3),
        "before that it may go first"
    );
}

#[test]
fn who_asks_for_more_than_there_is_gets_it_unless_it_costs_another_model_its_place() {
    let more = Request {
        context: ContextNeed {
            least: 3000,
            ..wish(16_384)
        },
        ..asking(1, 2)
    };
    let bucket = || {
        Node::with(Settings {
            policy: WindowPolicy::Bucket,
            ..settings()
        })
    };
    let mut alone = bucket();
    alone.hold(0, &asking(1, 2));
    assert!(alone.queue.forecast(1000, &more).needs_load);
    let (_, actions) = alone.ask(1000, &more);
    assert_eq!(load(&actions), (1, 16_384, vec![]));
    let mut full = bucket();
    full.hold(0, &asking(1, 2));
    full.hold(3000, &asking(2, 7));
    assert!(!full.queue.forecast(6000, &more).needs_load);
    let (id, actions) = full.ask(6000, &more);
    let expected = Action::Start { id, context: 4096 };
    assert_eq!(actions, [expected], "4,096 are enough for its prompt");
    let much_more = Request {
        context: wish(16_384),
        ..asking(1, 2)
    };
    full.finish(7000, id);
    let (_, actions) = full.ask(90_000, &much_more);
    assert_eq!(load(&actions), (1, 16_384, vec![2]), "these are not");
}

#[test]
fn a_request_joins_the_load_that_others_wait_for() {
    let mut node = Node::new();
    node.hold(0, &asking(1, 6));
    node.ask(1000, &asking(1, 6));
    let other = asking(2, 6);
    assert!(node.queue.forecast(1000, &other).evicts_ms > 0);
    node.ask(1000, &other);
    assert_eq!(
        node.queue.forecast(1000, &other).evicts_ms,
        0,
        "it goes anyway"
    );
}

#[path = "lane_tests.rs"]
mod lanes;

#[test]
fn whoever_changes_what_is_in_memory_has_the_one_load_to_himself() {
    let mut node = Node::new();
    node.hold(0, &asking(1, 2));
    node.hold(10_000, &asking(2, 2));
    assert!(node.queue.claim());
    // Requests for what is in memory flow, and none causes a load.
    let (busy, started) = node.ask(20_000, &asking(1, 2));
    assert_eq!(ids(&started), [busy]);
    let (waits, nothing) = node.ask(20_000, &asking(3, 2));
    assert_eq!(nothing, []);
    assert!(!node.queue.take_out(20_000, ModelId(1)), "it is at work");
    assert!(node.queue.take_out(20_000, ModelId(2)));
    assert_eq!(node.holds(), [1]);
    // What goes is not revived meanwhile, and who asks for what comes joins its load.
    let (gone, nothing) = node.ask(20_000, &asking(2, 2));
    assert_eq!(nothing, []);
    node.queue.put_in(20_000, ModelId(4), 8192, false);
    let (joined, nothing) = node.ask(20_500, &asking(4, 2));
    assert_eq!(
        (nothing, node.queue.at_work(ModelId(4))),
        (Vec::new(), true)
    );
    assert_eq!(ids(&node.loaded(23_000, 3000)), [joined]);
    assert_eq!(node.holds(), [1, 4]);
    node.queue.give_back();
    let actions = node.queue.step(23_000);
    assert_eq!(load(&actions).0, 2, "its hold ends first");
    let started = node.loaded(25_000, 2000);
    assert_eq!(ids(&started), [gone]);
    assert!(started.iter().any(|action| matches!(
        action,
        Action::Load {
            model: ModelId(3),
            ..
        }
    )));
    assert_eq!(ids(&node.loaded(27_000, 2000)), [waits]);
}

#[test]
fn a_claim_waits_for_the_load_that_is_under_way() {
    let mut node = Node::new();
    let (id, actions) = node.ask(0, &asking(1, 2));
    assert_eq!(load(&actions).0, 1);
    assert!(!node.queue.claim());
    let (other, nothing) = node.ask(100, &asking(2, 2));
    assert_eq!(nothing, []);
    assert_eq!(ids(&node.loaded(2000, 2000)), [id]);
    assert!(node.queue.claim(), "no further load begins before it");
    node.queue.put_in(2000, ModelId(3), 0, false);
    assert_eq!(node.queue.load_failed(false), [], "nobody waited for it");
    node.queue.give_back();
    assert_eq!(load(&node.queue.step(2100)).0, 2);
    assert_eq!(ids(&node.loaded(4000, 1900)), [other]);
}

#[test]
fn a_look_at_the_very_start_counts_for_a_model_of_which_something_is_known() {
    let mut node = Node::new();
    let size = Footprint::linear(GIB, 0, None);
    node.queue.describe(ModelId(1), Arc::new(size));
    let seen = Seen {
        model: ModelId(1),
        context: 4096,
        occupied: None,
        expires_at: None,
        embeds: false,
    };
    node.queue.observed(0, 0, &[seen]);
    assert_eq!(node.holds(), [1]);
}

#[test]
fn a_load_that_took_no_time_costs_something_all_the_same() {
    let mut node = Node::new();
    let (id, _) = node.ask(0, &asking(1, 6));
    node.loaded(0, 0);
    node.finish(1, id);
    let forecast = node.queue.forecast(2, &asking(2, 6));
    assert!(forecast.needs_load && forecast.evicts_ms > 0);
}
