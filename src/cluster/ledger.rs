//! Memory that is promised to models which are still being loaded, GPU by GPU.
//!
//! Between the decision to load a model and the moment when the driver shows its memory, a second decision would see the same free bytes.
//! So each load first reserves its share on every GPU, all or nothing. While it loads, what the driver's used memory has grown by is taken off
//! the reservation, so that nothing is counted twice; when it is loaded, the next sample of the driver replaces the reservation.
//!
//! A process that is not ours and takes memory during a load is mistaken for the load until that is done.

use std::collections::BTreeMap;

use super::{GpuKey, Placement, Room};

/// Loads at once; far more than any machine can do.
const MOST: usize = 1024;

/// A promise that was given, to be released or settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// What a load wants of one GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The GPU.
    pub gpu: GpuKey,
    /// Bytes that are wanted.
    pub bytes: u64,
    /// Bytes that are free there, reservations not taken off.
    pub free_bytes: u64,
}

/// Why nothing was reserved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// A GPU has less than is wanted of it.
    Short {
        /// The GPU.
        gpu: GpuKey,
        /// Bytes that are wanted.
        need_bytes: u64,
        /// Bytes that are free, reservations taken off.
        free_bytes: u64,
    },
    /// More loads at once than are kept account of.
    TooMany,
}

/// The account.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    next: u64,
    loads: BTreeMap<Ticket, Load>,
    gpus: BTreeMap<GpuKey, Used>,
}

#[derive(Debug, Clone, Default)]
struct Load {
    shares: BTreeMap<GpuKey, u64>,
    /// Number of the last sample that may have been taken before it was done.
    settled: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
struct Used {
    /// Used memory as last sampled.
    now: u64,
    /// Used memory without the loads that are reserved.
    before: u64,
}

impl Ledger {
    /// Reserves every claim, or nothing.
    pub fn reserve(&mut self, claims: &[Claim]) -> Result<Ticket, Refused> {
        if self.loads.len() >= MOST {
            return Err(Refused::TooMany);
        }
        let mut shares: BTreeMap<GpuKey, u64> = BTreeMap::new();
        for claim in claims {
            let share = shares.entry(claim.gpu.clone()).or_default();
            *share = share.saturating_add(claim.bytes);
            let free = claim.free_bytes.saturating_sub(self.reserved(&claim.gpu));
            if *share > free {
                return Err(Refused::Short {
                    gpu: claim.gpu.clone(),
                    need_bytes: *share,
                    free_bytes: free,
                });
            }
        }
        for gpu in shares.keys() {
            if self.promised(gpu) == 0
                && let Some(used) = self.gpus.get_mut(gpu)
            {
                used.before = used.now;
            }
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        let load = Load {
            shares,
            settled: None,
        };
        self.loads.insert(ticket, load);
        Ok(ticket)
    }

    /// Gives a reservation back: the load failed or was stopped. Says whether there was one; a second time there is none.
    pub fn release(&mut self, ticket: Ticket) -> bool {
        let Some(load) = self.loads.remove(&ticket) else {
            return false;
        };
        for (gpu, bytes) in load.shares {
            self.forget(&gpu, bytes);
        }
        true
    }

    /// Notes that the model is loaded. Its reservation ends with the first sample after number `sample`, the last one that was begun; a GPU that no
    /// sample covers keeps it until it is released.
    pub fn settle(&mut self, ticket: Ticket, sample: u64) {
        if let Some(load) = self.loads.get_mut(&ticket) {
            load.settled = Some(sample);
        }
    }

    /// Takes a sample of used memory, by number in the order in which samples were begun: the driver's, or what a node says that it holds.
    pub fn observe(&mut self, sample: u64, used: impl IntoIterator<Item = (GpuKey, u64)>) {
        for (gpu, now) in used {
            let entry = self
                .gpus
                .entry(gpu.clone())
                .or_insert(Used { now, before: now });
            entry.now = now;
            // What was given back is no longer part of what was there before.
            entry.before = entry.before.min(now);
            let done: Vec<Ticket> = self
                .loads
                .iter()
                .filter(|(_, load)| {
                    load.shares.contains_key(&gpu) && load.settled.is_some_and(|last| sample > last)
                })
                .map(|(ticket, _)| *ticket)
                .collect();
            for ticket in done {
                let bytes = self
                    .loads
                    .get_mut(&ticket)
                    .and_then(|load| load.shares.remove(&gpu));
                self.forget(&gpu, bytes.unwrap_or(0));
            }
        }
        self.loads.retain(|_, load| !load.shares.is_empty());
    }

    /// Ends the account of `bytes` on a GPU; the memory that they have taken by now counts as used before.
    fn forget(&mut self, gpu: &GpuKey, bytes: u64) {
        if let Some(used) = self.gpus.get_mut(gpu) {
            let grown = used.now - used.before;
            used.before += grown.min(bytes);
        }
    }

    /// Bytes that are promised on a GPU, whether the driver shows them yet or not.
    fn promised(&self, gpu: &GpuKey) -> u64 {
        self.loads
            .values()
            .filter_map(|load| load.shares.get(gpu))
            .fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    /// Bytes that are promised on a GPU and that the driver does not show yet.
    pub fn reserved(&self, gpu: &GpuKey) -> u64 {
        let grown = self.gpus.get(gpu).map_or(0, |used| used.now - used.before);
        self.promised(gpu).saturating_sub(grown)
    }

    /// The rooms as they are with what is reserved taken off.
    pub fn rooms(&self, rooms: &[Room]) -> Vec<Room> {
        rooms
            .iter()
            .map(|room| room.clone().less(self.reserved(&room.key())))
            .collect()
    }

    /// Loads that are reserved.
    pub fn len(&self) -> usize {
        self.loads.len()
    }

    /// Whether nothing is reserved.
    pub fn is_empty(&self) -> bool {
        self.loads.is_empty()
    }
}

/// The claims of a placement in the rooms that it was found for. `reserved_bytes` of a room are part of what is free before reservations.
pub fn claims(placement: &Placement, rooms: &[Room]) -> Vec<Claim> {
    placement
        .gpus
        .iter()
        .zip(&placement.needs)
        .filter_map(|(gpu, bytes)| {
            let room = rooms.get(*gpu)?;
            Some(Claim {
                gpu: room.key(),
                bytes: *bytes,
                free_bytes: room.free_bytes.saturating_add(room.reserved_bytes),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Demand, Need, Rules, place};
    use super::*;
    use proptest::prelude::*;

    const GIB: u64 = 1 << 30;
    /// 8.2 GiB, in bytes.
    const A_13B: u64 = 82 * GIB / 10;

    fn key(gpu: u32) -> GpuKey {
        GpuKey::of(None, gpu, None)
    }

    fn claim(gpu: u32, bytes: u64, free_bytes: u64) -> Claim {
        Claim {
            gpu: key(gpu),
            bytes,
            free_bytes,
        }
    }

    #[test]
    fn f17_a_loaded_model_is_not_counted_twice() {
        let mut ledger = Ledger::default();
        ledger.observe(1, [(key(0), 0)]);
        let first = ledger.reserve(&[claim(0, A_13B, 24 * GIB)]).unwrap();
        assert_eq!(ledger.reserved(&key(0)), A_13B);
        // Half of it is there.
        ledger.observe(2, [(key(0), A_13B / 2)]);
        assert_eq!(ledger.reserved(&key(0)), A_13B - A_13B / 2);
        ledger.settle(first, 2);
        ledger.observe(2, [(key(0), A_13B / 2)]);
        assert_eq!(ledger.len(), 1, "that sample may be from before");
        ledger.observe(3, [(key(0), A_13B)]);
        assert!(ledger.is_empty());
        assert_eq!(ledger.reserved(&key(0)), 0);
        // 24 GB card, a 13B loaded, 15.8 free: a second one has room.
        let second = ledger
            .reserve(&[claim(0, A_13B, 24 * GIB - A_13B)])
            .unwrap();
        assert_eq!(ledger.reserved(&key(0)), A_13B);
        assert!(!ledger.release(first), "it was settled");
        assert!(ledger.release(second));
        assert!(!ledger.release(second), "exactly once");
    }

    #[test]
    fn f17_a_refusal_does_not_erase_what_is_reserved() {
        let mut ledger = Ledger::default();
        let kept = ledger.reserve(&[claim(0, 20 * GIB, 24 * GIB)]).unwrap();
        let refused = ledger.reserve(&[claim(1, GIB, 8 * GIB), claim(0, 5 * GIB, 24 * GIB)]);
        assert_eq!(
            refused,
            Err(Refused::Short {
                gpu: key(0),
                need_bytes: 5 * GIB,
                free_bytes: 4 * GIB
            })
        );
        assert_eq!(ledger.reserved(&key(0)), 20 * GIB);
        assert_eq!(ledger.reserved(&key(1)), 0, "all or nothing");
        assert!(ledger.release(kept));
    }

    #[test]
    fn f17_two_at_once_get_different_gpus() {
        let mut ledger = Ledger::default();
        let rooms = [
            Room::bare(0, "a", 24 * GIB, 24 * GIB),
            Room::bare(1, "b", 22 * GIB, 22 * GIB),
        ];
        let demand = Demand {
            need: Need::Bytes(19 * GIB),
            headroom: 1.1,
        };
        let mut gpus = Vec::new();
        for _ in 0..2 {
            let left = ledger.rooms(&rooms);
            let placement = place(&demand, &left, Rules::default());
            ledger.reserve(&claims(&placement, &left)).unwrap();
            gpus.push(placement.gpus);
        }
        assert_eq!(gpus, [[1], [0]]);
        let left = ledger.rooms(&rooms);
        assert!(place(&demand, &left, Rules::default()).gpus.is_empty());
    }

    #[test]
    fn f17_several_gpus_each_reserve_their_own_share() {
        let mut ledger = Ledger::default();
        let claims = [claim(0, 12 * GIB, 23 * GIB), claim(1, 8 * GIB, 15 * GIB)];
        ledger.reserve(&claims).unwrap();
        assert_eq!(ledger.reserved(&key(0)), 12 * GIB);
        assert_eq!(ledger.reserved(&key(1)), 8 * GIB);
        // One GPU twice in a claim is one sum.
        let twice = [claim(0, 6 * GIB, 23 * GIB), claim(0, 6 * GIB, 23 * GIB)];
        assert!(ledger.reserve(&twice).is_err());
    }

    #[test]
    fn a_failed_load_gives_back_what_it_had_taken() {
        let mut ledger = Ledger::default();
        ledger.observe(1, [(key(0), GIB)]);
        let failed = ledger.reserve(&[claim(0, 10 * GIB, 23 * GIB)]).unwrap();
        let other = ledger.reserve(&[claim(0, 8 * GIB, 23 * GIB)]).unwrap();
        ledger.observe(2, [(key(0), 7 * GIB)]);
        assert!(ledger.release(failed));
        // Until the driver shows otherwise the 6 GiB are somebody's, and the other load still needs its 8.
        assert_eq!(ledger.reserved(&key(0)), 8 * GIB);
        ledger.observe(3, [(key(0), GIB)]);
        assert_eq!(ledger.reserved(&key(0)), 8 * GIB);
        ledger.observe(4, [(key(0), 9 * GIB)]);
        assert_eq!(ledger.reserved(&key(0)), 0);
        ledger.settle(other, 4);
        ledger.observe(5, [(key(0), 9 * GIB)]);
        assert!(ledger.is_empty());
    }

    #[test]
    fn a_gpu_that_nobody_samples_keeps_its_reservation() {
        let mut ledger = Ledger::default();
        let ticket = ledger.reserve(&[claim(0, GIB, 8 * GIB)]).unwrap();
        ledger.settle(ticket, 0);
        ledger.observe(9, [(key(1), 0)]);
        assert_eq!(ledger.reserved(&key(0)), GIB);
        assert!(ledger.release(ticket));
    }

    #[test]
    fn what_was_used_before_the_first_sample_is_not_the_load() {
        let mut ledger = Ledger::default();
        ledger.reserve(&[claim(0, 8 * GIB, 14 * GIB)]).unwrap();
        ledger.observe(1, [(key(0), 10 * GIB)]);
        assert_eq!(ledger.reserved(&key(0)), 8 * GIB);
        ledger.observe(2, [(key(0), 13 * GIB)]);
        assert_eq!(ledger.reserved(&key(0)), 5 * GIB);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Load(Vec<(u32, u64)>),
        Grow,
        Done,
        Fail,
        Sample,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let share = (0_u32..3, 1_u64..12);
        let step = prop_oneof![
            3 => proptest::collection::vec(share, 1..3).prop_map(Step::Load),
            2 => Just(Step::Grow),
            2 => Just(Step::Done),
            1 => Just(Step::Fail),
            3 => Just(Step::Sample),
        ];
        proptest::collection::vec(step, 1..60)
    }

    proptest! {
        /// A machine of three 24 GiB cards beside the ledger: what is held and what is still to come never exceeds a card.
        #[test]
        fn never_more_than_there_is(steps in steps()) {
            let total = 24_u64;
            let mut ledger = Ledger::default();
            let mut held = [0_u64; 3];
            // Ticket, wanted and taken by GPU.
            let mut loading: Vec<(Ticket, [u64; 3], [u64; 3])> = Vec::new();
            let mut sampled = held;
            let mut number = 0;
            for step in steps {
                match step {
                    Step::Load(shares) => {
                        let claims: Vec<Claim> = shares.iter().map(|(gpu, bytes)| claim(*gpu, *bytes, total - sampled[*gpu as usize])).collect();
                        if let Ok(ticket) = ledger.reserve(&claims) {
                            let mut wanted = [0; 3];
                            for (gpu, bytes) in shares {
                                wanted[gpu as usize] += bytes;
                            }
                            loading.push((ticket, wanted, [0; 3]));
                        }
                    }
                    Step::Grow => {
                        if let Some((_, wanted, taken)) = loading.iter_mut().find(|(_, wanted, taken)| taken != wanted) {
                            for gpu in 0..3 {
                                let more = (wanted[gpu] - taken[gpu]).min(4);
                                taken[gpu] += more;
                                held[gpu] += more;
                            }
                        }
                    }
                    Step::Done => {
                        if let Some(at) = loading.iter().position(|(_, wanted, taken)| taken == wanted) {
                            ledger.settle(loading.remove(at).0, number);
                        }
                    }
                    Step::Fail => {
                        if let Some((ticket, _, taken)) = loading.pop() {
                            for gpu in 0..3 {
                                held[gpu] -= taken[gpu];
                            }
                            prop_assert!(ledger.release(ticket));
                        }
                    }
                    Step::Sample => {
                        number += 1;
                        sampled = held;
                        ledger.observe(number, (0..3).map(|gpu| (key(gpu), sampled[gpu as usize])));
                    }
                }
                for gpu in 0..3 {
                    let to_come: u64 = loading.iter().map(|(_, wanted, taken)| wanted[gpu] - taken[gpu]).sum();
                    prop_assert!(held[gpu] + to_come <= total, "GPU {} holds {} and awaits {}", gpu, held[gpu], to_come);
                }
            }
        }
    }
}
