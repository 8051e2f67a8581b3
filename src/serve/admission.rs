//! Per-node admission: slots, and a bounded queue in order of arrival.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::routing::NodeLoad;

/// How often a waiting request looks whether its client is still there.
const LOOK: Duration = Duration::from_millis(20);

/// Every node's gate, made on first use and kept.
#[derive(Debug, Default)]
pub(super) struct Admission {
    gates: Mutex<HashMap<String, Arc<Gate>>>,
}

/// Why a request was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotAdmitted {
    /// The node's queue is full.
    QueueFull,
    /// No slot became free in time.
    TimedOut,
    /// The client left while it waited.
    ClientGone,
}

impl Admission {
    /// The gate of a node.
    pub(super) fn gate(&self, node: &str) -> Arc<Gate> {
        let mut gates = lock(&self.gates);
        if let Some(gate) = gates.get(node) {
            return Arc::clone(gate);
        }
        let gate = Arc::new(Gate::default());
        gates.insert(node.to_owned(), Arc::clone(&gate));
        gate
    }

    /// What is in flight at each of the nodes, in their order, with the slots that were given for each.
    pub(super) fn loads<'a>(
        &self,
        nodes: impl Iterator<Item = (&'a str, Option<u32>)>,
    ) -> Vec<NodeLoad> {
        // The map's lock is given back before a gate's is taken.
        let found: Vec<_> = {
            let gates = lock(&self.gates);
            nodes
                .map(|(name, slots)| (gates.get(name).map(Arc::clone), slots))
                .collect()
        };
        let idle = |slots| NodeLoad {
            slots,
            ..NodeLoad::default()
        };
        found
            .into_iter()
            .map(|(gate, slots)| gate.map_or_else(|| idle(slots), |gate| gate.load(slots)))
            .collect()
    }
}

/// One node's slots and queue.
#[derive(Debug, Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    active: u32,
    next_ticket: u64,
    waiting: VecDeque<u64>,
}

impl Gate {
    /// Takes a slot, waiting in the queue when all are taken. `slots` of `None` never waits.
    pub(super) fn enter(
        self: &Arc<Self>,
        slots: Option<u32>,
        queue: u32,
        limit: Option<Duration>,
        client_gone: impl Fn() -> bool,
    ) -> Result<Permit, NotAdmitted> {
        let mut state = lock(&self.state);
        let free = |state: &State| slots.is_none_or(|slots| state.active < slots.max(1));
        if state.waiting.is_empty() && free(&state) {
            state.active += 1;
            return Ok(Permit {
                gate: Arc::clone(self),
            });
        }
        if state.waiting.len() >= queue as usize {
            return Err(NotAdmitted::QueueFull);
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.waiting.push_back(ticket);
        let started = Instant::now();
        loop {
            if state.waiting.front() == Some(&ticket) && free(&state) {
                state.waiting.pop_front();
                state.active += 1;
                // The next in line may have a free slot too.
                self.changed.notify_all();
                return Ok(Permit {
                    gate: Arc::clone(self),
                });
            }
            (state, _) = self
                .changed
                .wait_timeout(state, LOOK)
                .unwrap_or_else(PoisonError::into_inner);
            let failure = if limit.is_some_and(|limit| started.elapsed() >= limit) {
                Some(NotAdmitted::TimedOut)
            } else {
                // The lock is not held over the look at the client's socket.
                drop(state);
                let gone = client_gone();
                state = lock(&self.state);
                gone.then_some(NotAdmitted::ClientGone)
            };
            if let Some(failure) = failure {
                state.waiting.retain(|waiting| *waiting != ticket);
                self.changed.notify_all();
                return Err(failure);
            }
        }
    }

    /// What is in flight and waiting.
    pub(super) fn load(&self, slots: Option<u32>) -> NodeLoad {
        let state = lock(&self.state);
        NodeLoad {
            active: state.active,
            queued: u32::try_from(state.waiting.len()).unwrap_or(u32::MAX),
            slots,
            ..NodeLoad::default()
        }
    }
}

/// A taken slot, given back on drop.
#[derive(Debug)]
pub(super) struct Permit {
    gate: Arc<Gate>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = lock(&self.gate.state);
        state.active -= 1;
        let awaited = !state.waiting.is_empty();
        drop(state);
        // Waking nobody costs a system call all the same.
        if awaited {
            self.gate.changed.notify_all();
        }
    }
}

/// A lock whose data is plain arithmetic, so that a panic elsewhere cannot have left it half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::thread;

    const NEVER: fn() -> bool = || false;

    #[test]
    fn never_more_than_the_slots_and_everyone_gets_in() {
        let gate = Arc::new(Gate::default());
        let inside = Arc::new(AtomicU32::new(0));
        let most = Arc::new(AtomicU32::new(0));
        let threads: Vec<_> = (0..20)
            .map(|_| {
                let (gate, inside, most) =
                    (Arc::clone(&gate), Arc::clone(&inside), Arc::clone(&most));
                thread::spawn(move || {
                    let permit = gate.enter(Some(3), 100, None, NEVER).unwrap();
                    most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    thread::sleep(Duration::from_millis(2));
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(permit);
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(most.load(Ordering::SeqCst) <= 3);
        assert_eq!(
            gate.load(Some(3)),
            NodeLoad {
                slots: Some(3),
                ..NodeLoad::default()
            }
        );
    }

    #[test]
    fn a_full_queue_a_limit_and_a_vanished_client_each_say_so_and_leave_nothing_behind() {
        let gate = Arc::new(Gate::default());
        let held = gate.enter(Some(1), 0, None, NEVER).unwrap();
        assert_eq!(
            gate.enter(Some(1), 0, None, NEVER).err(),
            Some(NotAdmitted::QueueFull)
        );
        let limit = Some(Duration::from_millis(30));
        assert_eq!(
            gate.enter(Some(1), 1, limit, NEVER).err(),
            Some(NotAdmitted::TimedOut)
        );
        assert_eq!(
            gate.enter(Some(1), 1, None, || true).err(),
            Some(NotAdmitted::ClientGone)
        );
        assert_eq!(gate.load(Some(1)).queued, 0);
        drop(held);
        assert!(gate.enter(Some(1), 0, None, NEVER).is_ok());
    }

    #[test]
    fn a_panic_gives_the_slot_back() {
        let gate = Arc::new(Gate::default());
        let inner = Arc::clone(&gate);
        let result = thread::spawn(move || {
            let _permit = inner.enter(Some(1), 0, None, NEVER).unwrap();
            panic!("a handler's panic");
        })
        .join();
        assert!(result.is_err());
        assert_eq!(gate.load(None).active, 0);
    }
}
