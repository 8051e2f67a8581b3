//! Gates under many threads: slots, queues, limits, panics.

use super::*;
use crate::backend::Prober;
use crate::cluster::{ModelName, NodeKind};
use crate::routing::queue::ClientId;
use crate::routing::window::RunnerOptions;
use crate::serve::{Log, LogFormat};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

const NEVER: fn() -> bool = || false;

/// A gate whose node serves one model with so many slots.
fn gate(slots: u32, queue: u32) -> (Arc<Gate>, Arc<Node>, Model) {
    let config = Config::default();
    let rules = Rules {
        slots: Some(slots),
        queue,
        ..Rules::of(&config)
    };
    let log = Log {
        level: None,
        format: LogFormat::Text,
    };
    let loader = Arc::new(Loader::new(Arc::new(Prober::new()), None, log));
    let mut node = Node::unseen("a", "http://127.0.0.1:1");
    node.kind = Some(NodeKind::LlamaServer);
    node.state = NodeState::Up;
    let model = Model {
        name: ModelName::new("m"),
        id: "m".to_owned(),
        ..Model::default()
    };
    let node = Arc::new(node);
    let gates = Gates::new(rules, Pins::new(), loader);
    (gates.gate(&node), node, model)
}

fn asked() -> Asked {
    Asked {
        lane: Lane::Interactive,
        client: ClientId(1),
        embeds: false,
        settable: false,
        num_ctx: None,
        prompt_tokens: 10,
        prompt_bytes: 40,
        images: false,
        counted: None,
        max_tokens: None,
        runner: RunnerOptions::default(),
        keep_alive: None,
        prefix: Vec::new(),
        session: None,
    }
}

fn enter(
    (gate, node, model): &(Arc<Gate>, Arc<Node>, Model),
    limit: Option<Duration>,
    client_gone: impl Fn() -> bool,
) -> Result<Admitted, NotAdmitted> {
    gate.enter(node, model, &asked(), &Speed::default(), limit, client_gone)
}

#[test]
fn never_more_than_the_slots_and_everyone_gets_in() {
    let own = Arc::new(gate(3, 100));
    let inside = Arc::new(AtomicU32::new(0));
    let most = Arc::new(AtomicU32::new(0));
    let threads: Vec<_> = (0..20)
        .map(|_| {
            let (own, inside, most) = (Arc::clone(&own), Arc::clone(&inside), Arc::clone(&most));
            thread::spawn(move || {
                let admitted = enter(&own, None, NEVER).unwrap();
                most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(2));
                inside.fetch_sub(1, Ordering::SeqCst);
                drop(admitted);
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(most.load(Ordering::SeqCst) <= 3);
    let idle = NodeLoad {
        slots: Some(3),
        ..NodeLoad::default()
    };
    assert_eq!(own.0.state().load(&own.1), idle);
}

#[test]
fn a_full_queue_a_limit_and_a_vanished_client_each_say_so_and_leave_nothing_behind() {
    let none = gate(1, 0);
    let held = enter(&none, None, NEVER).unwrap();
    assert_eq!(
        enter(&none, None, NEVER).err(),
        Some(NotAdmitted::QueueFull)
    );
    drop(held);
    assert!(enter(&none, None, NEVER).is_ok());
    let one = gate(1, 1);
    let held = enter(&one, None, NEVER).unwrap();
    let limit = Some(Duration::from_millis(30));
    assert_eq!(enter(&one, limit, NEVER).err(), Some(NotAdmitted::TimedOut));
    assert_eq!(
        enter(&one, None, || true).err(),
        Some(NotAdmitted::ClientGone)
    );
    assert_eq!(one.0.state().load(&one.1).queued, 0);
    drop(held);
    assert!(enter(&one, None, NEVER).is_ok());
}

#[test]
fn a_panic_gives_the_slot_back_and_so_does_one_that_waits() {
    let own = Arc::new(gate(1, 10));
    let inner = Arc::clone(&own);
    let result = thread::spawn(move || {
        let _admitted = enter(&inner, None, NEVER).unwrap();
        panic!("a handler's panic");
    })
    .join();
    assert!(result.is_err());
    assert_eq!(own.0.state().load(&own.1).active, 0);
    let held = enter(&own, None, NEVER).unwrap();
    let inner = Arc::clone(&own);
    let result =
        thread::spawn(move || enter(&inner, None, || panic!("while it waits")).is_ok()).join();
    assert!(result.is_err());
    assert_eq!(own.0.state().load(&own.1).queued, 0);
    drop(held);
}
