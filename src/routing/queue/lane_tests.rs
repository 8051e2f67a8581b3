//! Tests of lanes: shares, yielding, gathering, and who evicts whom.

use super::*;

#[test]
fn nobody_starves_while_others_never_stop_asking() {
    let mut node = Node::new();
    node.hold(0, &asking(1, 6));
    let (mut one, _) = node.ask(0, &asking(1, 6));
    let (other, _) = node.ask(0, &in_lane(Lane::Batch, asking(2, 6)));
    let mut now = 0;
    let bound = longest_wait(&settings(), Lane::Batch, 1, 1000, 5000);
    let loaded = loop {
        assert!(now < bound, "still waiting after {now} ms");
        now += 500;
        let (id, mut actions) = node.ask(now, &asking(1, 6));
        actions.extend(node.finish(now, one));
        one = id;
        if actions
            .iter()
            .any(|action| matches!(action, Action::Load { .. }))
        {
            break now;
        }
    };
    // Its hold is ten times that of an interactive request: the share of batch work is a tenth.
    assert!((200_000..=202_000).contains(&loaded), "{loaded}");
    assert!(ids(&node.loaded(now + 2000, 2000)).contains(&other));
}

#[test]
fn embeddings_never_evict_a_chat_model() {
    let mut node = Node::new();
    node.hold(0, &asking(1, 9));
    let (id, actions) = node.ask(1000, &embedding(2, 1));
    assert_eq!(actions, []);
    assert_eq!(node.queue.wake(), Some(61_000));
    let (chat, _) = node.ask(50_000, &asking(1, 9));
    node.finish(50_500, chat);
    assert_eq!(node.queue.step(61_000), [], "it was used again");
    let resort = node.queue.wake().unwrap();
    assert!(resort <= 120_000, "{resort}");
    assert_eq!(load(&node.queue.step(resort)).2, [1], "but nobody starves");
    assert_eq!(ids(&node.loaded(resort + 500, 500)), [id]);
}

#[test]
fn an_embedding_model_without_room_goes_to_the_cpu() {
    let mut node = Node::with(Settings {
        cpu_loads: true,
        ..settings()
    });
    node.hold(0, &asking(1, 9));
    let (id, actions) = node.ask(1000, &embedding(2, 1));
    assert!(
        matches!(actions[..], [Action::Load { on_cpu: true, .. }]),
        "{actions:?}"
    );
    assert_eq!(ids(&node.loaded(1500, 500)), [id]);
    assert_eq!(node.holds(), [1, 2]);
    node.finish(1600, id);
    // There it is in nobody's way, even while a prompt is being read.
    node.ask(2000, &asking(1, 9));
    let (id, actions) = node.ask(2100, &embedding(2, 1));
    assert_eq!(ids(&actions), [id]);
}

#[test]
fn batch_work_yields_while_a_prompt_is_read_and_leaves_the_last_slot() {
    let mut node = Node::new();
    node.hold(0, &asking(1, 2));
    let batch = in_lane(Lane::Batch, asking(1, 2));
    let (chat, actions) = node.ask(1000, &asking(1, 2));
    assert_eq!(ids(&actions), [chat]);
    let (first, actions) = node.ask(1100, &batch);
    assert_eq!(
        actions,
        [],
        "a prompt is being read, and it is the last slot"
    );
    node.queue.answering(chat);
    assert_eq!(ids(&node.finish(2000, chat)), [first], "two slots are free");
    let (_, actions) = node.ask(2100, &batch);
    assert_eq!(actions, [], "the last one is kept");
    let (next, actions) = node.ask(2200, &asking(1, 2));
    assert_eq!(ids(&actions), [next]);
}

#[test]
fn who_yields_gets_a_turn_all_the_same() {
    let mut node = Node::with(Settings {
        slots: Some(1),
        ..settings()
    });
    node.hold(0, &asking(1, 2));
    node.hold(0, &embedding(2, 1));
    let mut now = 1000;
    let (embed, actions) = node.ask(now, &embedding(2, 1));
    assert_eq!(ids(&actions), [embed]);
    node.finish(now, embed);
    let (mut chat, _) = node.ask(now, &asking(1, 2));
    let (embed, _) = node.ask(now, &embedding(2, 1));
    let started = loop {
        now += 900;
        // One chat request after the other, each still reading its prompt.
        let (next, mut actions) = node.ask(now, &asking(1, 2));
        actions.extend(node.finish(now, chat));
        chat = next;
        if ids(&actions).contains(&embed) {
            break now - 1000;
        }
        assert!(now < 20_000);
    };
    assert!((YIELD_MS..YIELD_MS + 1000).contains(&started), "{started}");
}

#[test]
fn beside_a_chat_batch_work_gets_its_share_of_the_time_and_no_more() {
    let mut node = Node::with(Settings {
        slots: Some(4),
        ..settings()
    });
    node.hold(0, &asking(1, 2));
    let batch = in_lane(Lane::Batch, asking(2, 2));
    node.hold(20_000, &batch);
    let (chat, _) = node.ask(30_000, &asking(1, 2));
    node.queue.answering(chat);
    for _ in 0..200 {
        node.queue
            .arrive(
                30_000,
                Request {
                    id: RequestId(node.next + 1),
                    ..batch.clone()
                },
            )
            .unwrap();
        node.next += 1;
    }
    let mut now = 30_000;
    let mut worked = 0;
    while now < 90_000 {
        match ids(&node.queue.step(now))[..] {
            [] => now = node.queue.wake().unwrap(),
            [one] => {
                now += 100;
                worked += 100;
                node.queue.finished(now, one, Some(0));
            }
            ref more => panic!("{} at once", more.len()),
        }
    }
    let share = worked * 100 / 60_000;
    assert!((8..=10).contains(&share), "{share} %");
    // Alone it may have all slots.
    let started = node.finish(now, chat);
    assert_eq!(ids(&started).len(), 4);
}

#[test]
fn lanes_and_clients_share_a_saturated_node() {
    let mut node = Node::with(Settings {
        slots: Some(1),
        queue: 1000,
        ..settings()
    });
    node.hold(0, &asking(1, 2));
    let parties = [
        (Lane::Interactive, 1),
        (Lane::Agent, 2),
        (Lane::Agent, 3),
        (Lane::Agent, 3),
    ];
    let mut owner = BTreeMap::new();
    let mut running = Vec::new();
    for _ in 0..100 {
        for (party, (lane, client)) in parties.iter().enumerate() {
            let request = Request {
                client: ClientId(*client),
                ..in_lane(*lane, asking(1, 2))
            };
            let (id, actions) = node.ask(1000, &request);
            owner.insert(id, party);
            running.extend(ids(&actions));
        }
    }
    let mut served = [0; 4];
    let mut now = 1000;
    for _ in 0..85 {
        now += 1000;
        let id = running.remove(0);
        served[owner[&id]] += 1;
        running.extend(ids(&node.finish(now, id)));
    }
    // 1.0 against 0.7, and the two agents alike although one asks twice as often.
    assert!((48..=52).contains(&served[0]), "{served:?}");
    assert!((16..=19).contains(&served[1]), "{served:?}");
}

#[test]
fn batch_work_leaves_alone_what_somebody_is_using() {
    let mut node = Node::new();
    node.hold(0, &asking(1, 6));
    let (chat, _) = node.ask(20_000, &asking(1, 6));
    node.finish(21_000, chat);
    let (_, actions) = node.ask(22_000, &in_lane(Lane::Batch, asking(2, 6)));
    assert_eq!(actions, [], "the next message may come any moment");
    // It usually comes within 20 s.
    let wake = node.queue.wake().unwrap();
    assert_eq!(wake, 41_000);
    assert_eq!(load(&node.queue.step(wake)).2, [1]);
    let mut node = Node::new();
    node.hold(0, &asking(1, 6));
    let (chat, _) = node.ask(20_000, &asking(1, 6));
    node.finish(21_000, chat);
    let (_, actions) = node.ask(22_000, &asking(2, 6));
    assert_eq!(load(&actions).2, [1], "another person need not wait for it");
}

#[test]
fn batch_work_gathers_before_it_makes_a_model_go_while_there_is_other_work() {
    let batch = |model| in_lane(Lane::Batch, asking(model, 4));
    let mut node = Node::new();
    node.hold(0, &batch(1));
    node.hold(3000, &batch(2));
    let (running, _) = node.ask(40_000, &batch(2));
    let (_, actions) = node.ask(41_000, &batch(3));
    assert_eq!(actions, [], "more of the kind may come");
    let (_, actions) = node.ask(44_000, &batch(3));
    assert_eq!(actions, []);
    // With nothing else to do there is nothing to wait for.
    let actions = node.finish(45_000, running);
    assert_eq!(load(&actions).0, 3);
    assert_eq!(ids(&node.loaded(47_000, 2000)).len(), 2, "both in one stay");
}

#[test]
fn a_lane_that_had_its_way_leaves_the_next_turn_to_others() {
    let mut node = Node::new();
    node.hold(0, &asking(1, 6));
    for model in [2, 3] {
        node.ask(0, &in_lane(Lane::Batch, asking(model, 6)));
    }
    let (mut chat, _) = node.ask(0, &asking(1, 6));
    let mut switches = Vec::new();
    let mut now = 0;
    // A chat that never stops: batch work gets through by its hold alone, and only once in each.
    while now < 700_000 {
        now += 500;
        let (next, mut actions) = node.ask(now, &asking(1, 6));
        actions.extend(node.finish(now, chat));
        chat = next;
        while let Some(Action::Load { model, .. }) = actions
            .iter()
            .find(|action| matches!(action, Action::Load { .. }))
        {
            switches.push((now, model.0));
            now += 2000;
            let started = node.loaded(now, 2000);
            actions = Vec::new();
            for id in ids(&started) {
                now += 500;
                actions.extend(node.finish(now, id));
            }
        }
        if !node.queue.active.contains_key(&chat) {
            chat = node.queue.active.keys().next().copied().unwrap_or(chat);
        }
    }
    let batch: Vec<u64> = switches
        .iter()
        .filter(|(_, model)| *model > 1)
        .map(|(at, _)| *at)
        .collect();
    assert_eq!(batch.len(), 2, "{switches:?}");
    assert!(batch[1] - batch[0] >= 60_000, "{switches:?}");
}
