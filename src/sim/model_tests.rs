//! Tests of the simulated node as a model of its own.

use super::*;
use proptest::prelude::*;

const GIB: u64 = 1 << 30;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A machine with `gib` GiB of video memory on which every load takes one second.
fn machine(gib: u64) -> Machine {
    let gpu = Gpu {
        name: "test".to_owned(),
        vram_bytes: gib * GIB,
        bandwidth: 400e9,
    };
    Machine::new(Hardware {
        load_time: Some(seconds(1)),
        ..Hardware::with_gpu(gpu)
    })
}

fn model(name: &str, gib: u64) -> Arc<Model> {
    Arc::new(Model {
        kv_bytes_per_token: 1024,
        ..Model::named(name, Some(gib * GIB))
    })
}

/// Submits and finishes a request that the machine can take at once.
fn serve(machine: &mut Machine, now: Duration, need: Need) -> Grant {
    let ticket = machine.submit(now, need).unwrap();
    let grant = machine.grant(now, ticket).unwrap();
    machine.finish(now.max(grant.ready_at), ticket);
    grant
}

fn names(machine: &mut Machine, now: Duration) -> Vec<String> {
    let mut names: Vec<_> = machine
        .residents(now)
        .into_iter()
        .map(|resident| resident.model.name.clone())
        .collect();
    names.sort();
    names
}

#[test]
fn the_first_request_pays_for_the_load_and_the_second_does_not() {
    let mut machine = machine(8);
    let a = model("a", 2);
    assert_eq!(
        serve(&mut machine, seconds(10), Need::of(Arc::clone(&a))).ready_at,
        seconds(11)
    );
    assert_eq!(
        serve(&mut machine, seconds(20), Need::of(a)).ready_at,
        seconds(11)
    );
}

#[test]
fn another_context_reloads_and_none_means_the_default() {
    let mut machine = machine(8);
    let a = model("a", 2);
    let with_ctx = |num_ctx| Need {
        num_ctx,
        ..Need::of(Arc::clone(&a))
    };
    serve(&mut machine, seconds(0), with_ctx(None));
    assert_eq!(
        serve(&mut machine, seconds(10), with_ctx(Some(4096))).ready_at,
        seconds(1)
    );
    let reloaded = serve(&mut machine, seconds(20), with_ctx(Some(8192)));
    assert_eq!((reloaded.ready_at, reloaded.num_ctx), (seconds(21), 8192));
    assert_eq!(
        serve(&mut machine, seconds(30), with_ctx(None)).num_ctx,
        4096
    );
    assert_eq!(
        serve(&mut machine, seconds(40), with_ctx(Some(1_000_000))).num_ctx,
        a.context_length
    );
}

#[test]
fn evicts_the_least_recently_used_idle_model() {
    let mut machine = machine(8);
    let (a, b, c) = (model("a", 3), model("b", 3), model("c", 3));
    serve(&mut machine, seconds(0), Need::of(Arc::clone(&a)));
    serve(&mut machine, seconds(10), Need::of(b));
    serve(&mut machine, seconds(20), Need::of(a));
    serve(&mut machine, seconds(30), Need::of(c));
    assert_eq!(names(&mut machine, seconds(31)), ["a:latest", "c:latest"]);
}

#[test]
fn a_load_waits_for_a_model_at_work() {
    let mut machine = machine(8);
    let working = machine.submit(seconds(0), Need::of(model("a", 5))).unwrap();
    machine.grant(seconds(0), working).unwrap();
    let waiting = machine.submit(seconds(2), Need::of(model("b", 5))).unwrap();
    assert_eq!(machine.grant(seconds(3), waiting), None);
    machine.finish(seconds(5), working);
    assert_eq!(
        machine.grant(seconds(5), waiting).unwrap().ready_at,
        seconds(6)
    );
    assert_eq!(names(&mut machine, seconds(6)), ["b:latest"]);
}

#[test]
fn a_waiting_load_holds_back_what_came_after_it() {
    let mut machine = machine(8);
    let a = model("a", 5);
    machine.hardware.parallel = 2;
    let working = machine
        .submit(seconds(0), Need::of(Arc::clone(&a)))
        .unwrap();
    let load = machine.submit(seconds(2), Need::of(model("b", 5))).unwrap();
    let behind = machine.submit(seconds(2), Need::of(a)).unwrap();
    assert_eq!(machine.grant(seconds(3), behind), None);
    machine.finish(seconds(4), load);
    assert!(machine.grant(seconds(4), behind).is_some());
    machine.finish(seconds(5), working);
}

#[test]
fn what_does_not_fit_is_split_and_slower() {
    let mut machine = machine(4);
    let (small, large) = (model("small", 2), model("large", 12));
    let fast = serve(&mut machine, seconds(0), Need::of(small));
    let slow = serve(&mut machine, seconds(10), Need::of(large));
    let residents = machine.residents(seconds(11));
    assert_eq!(residents.len(), 1, "the other one was in the way");
    assert_eq!(residents[0].size_vram, 4 * GIB);
    assert!(residents[0].size > 12 * GIB);
    assert!(fast.speed.decode > 6.0 * slow.speed.decode);
}

#[test]
fn a_cpu_fault_leaves_the_gpu_empty() {
    let mut machine = machine(8);
    let need = Need {
        force_cpu: true,
        ..Need::of(model("a", 2))
    };
    serve(&mut machine, seconds(0), need);
    assert_eq!(machine.residents(seconds(2))[0].size_vram, 0);
}

#[test]
fn beyond_slots_and_queue_it_is_busy() {
    let mut machine = machine(8);
    machine.hardware.max_queue = 2;
    let a = model("a", 2);
    let tickets: Vec<_> = (0..3)
        .map(|_| {
            machine
                .submit(seconds(0), Need::of(Arc::clone(&a)))
                .unwrap()
        })
        .collect();
    assert_eq!(
        machine.submit(seconds(0), Need::of(Arc::clone(&a))),
        Err(Busy)
    );
    assert_eq!((machine.active(), machine.queued()), (1, 2));
    machine.finish(seconds(2), tickets[0]);
    assert!(machine.grant(seconds(2), tickets[1]).is_some());
    assert!(machine.grant(seconds(2), tickets[2]).is_none());
    assert!(machine.submit(seconds(2), Need::of(a)).is_ok());
}

#[test]
fn an_idle_model_expires_and_a_working_one_does_not() {
    let mut machine = machine(8);
    let a = model("a", 2);
    let need = Need {
        keep_alive: Some(KeepAlive::For(seconds(60))),
        ..Need::of(a)
    };
    let working = machine.submit(seconds(0), need).unwrap();
    assert_eq!(names(&mut machine, seconds(500)), ["a:latest"]);
    machine.finish(seconds(500), working);
    assert_eq!(names(&mut machine, seconds(559)), ["a:latest"]);
    assert!(names(&mut machine, seconds(560)).is_empty());
}

#[test]
fn keep_alive_is_remembered_and_zero_unloads() {
    let mut machine = machine(8);
    let a = model("a", 2);
    let forever = Need {
        keep_alive: Some(KeepAlive::Forever),
        ..Need::of(Arc::clone(&a))
    };
    serve(&mut machine, seconds(0), forever);
    serve(&mut machine, seconds(10), Need::of(Arc::clone(&a)));
    assert_eq!(machine.residents(seconds(99_999))[0].expires_at, None);
    assert!(machine.unload(seconds(100_000), &a));
    assert!(names(&mut machine, seconds(100_000)).is_empty());
    assert!(!machine.unload(seconds(100_000), &a));
}

#[test]
fn a_load_that_nobody_waits_for_is_given_up() {
    let mut machine = machine(8);
    let ticket = machine
        .submit(Duration::ZERO, Need::of(model("a", 2)))
        .unwrap();
    machine.finish(Duration::from_millis(500), ticket);
    assert!(names(&mut machine, Duration::from_millis(500)).is_empty());
}

#[test]
fn the_same_prompt_again_is_in_the_cache() {
    let mut machine = machine(8);
    let a = model("a", 2);
    let with_prefix = |prefix: &[u64]| Need {
        prefix: prefix.to_vec(),
        ..Need::of(Arc::clone(&a))
    };
    let first = serve(&mut machine, seconds(0), with_prefix(&[1, 2, 3]));
    let second = serve(&mut machine, seconds(5), with_prefix(&[1, 2, 9, 9]));
    assert_eq!((first.cached_blocks, second.cached_blocks), (0, 2));
}

proptest! {
    #[test]
    fn video_memory_is_never_oversold(
        vram in 0_u64..24,
        steps in prop::collection::vec((0_u8..4, 0_usize..5, 0_u32..3, -1_i64..40, any::<bool>()), 1..80),
    ) {
        let mut machine = machine(vram);
        machine.hardware.max_queue = 4;
        machine.hardware.parallel = 2;
        let models: Vec<_> = (0..5).map(|i| model(&format!("m{i}"), 1 + 3 * i)).collect();
        let mut open = Vec::new();
        let mut now = Duration::ZERO;
        for (kind, which, ctx, num_gpu, flag) in steps {
            now += Duration::from_millis(400 * u64::from(kind));
            match kind {
                0 if !open.is_empty() => {
                    let ticket = open.remove(which % open.len());
                    machine.finish(now, ticket);
                }
                1 => { machine.unload(now, &models[which]); }
                _ => {
                    let need = Need {
                        num_ctx: Some(2048 << ctx),
                        num_gpu: flag.then_some(num_gpu),
                        load_only: flag,
                        ..Need::of(Arc::clone(&models[which]))
                    };
                    open.extend(machine.submit(now, need));
                }
            }
            let residents = machine.residents(now);
            let used: u64 = residents.iter().map(|r| r.size_vram).sum();
            prop_assert!(used <= vram * GIB);
            prop_assert!(residents.iter().all(|r| r.size_vram <= r.size));
            prop_assert!(residents.len() <= machine.hardware.max_loaded);
            prop_assert!(machine.queued() <= 4);
            for resident in &residents {
                prop_assert!(resident.slots.iter().filter(|s| s.busy).count() <= 2);
            }
        }
        for ticket in open {
            now += seconds(2);
            machine.finish(now, ticket);
        }
        prop_assert_eq!((machine.active(), machine.queued()), (0, 0));
    }
}
