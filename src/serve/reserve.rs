//! Reservations that are given back when they are forgotten.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::cluster::{Claim, GpuKey, Ledger, Placement, Refused, Room, Ticket, claims};

/// The ledger of a running router. Its lock is held for arithmetic only.
#[derive(Debug, Default)]
pub struct Reservations {
    ledger: Mutex<Ledger>,
}

impl Reservations {
    /// Plans in the rooms that are left and reserves what was planned, as one step: no other plan sees the same free memory. A placement
    /// without GPUs reserves nothing.
    pub fn plan(
        self: &Arc<Self>,
        rooms: &[Room],
        plan: impl FnOnce(&[Room]) -> Placement,
    ) -> Result<(Placement, Option<Reservation>), Refused> {
        let mut ledger = self.lock();
        let left = ledger.rooms(rooms);
        let placement = plan(&left);
        let claims = claims(&placement, &left);
        if claims.is_empty() {
            return Ok((placement, None));
        }
        let reservation = Reservation {
            ticket: Some(ledger.reserve(&claims)?),
            owner: Arc::clone(self),
        };
        Ok((placement, Some(reservation)))
    }

    /// Reserves what was planned elsewhere, all of it or nothing.
    pub fn claim(self: &Arc<Self>, claims: &[Claim]) -> Result<Reservation, Refused> {
        Ok(Reservation {
            ticket: Some(self.lock().reserve(claims)?),
            owner: Arc::clone(self),
        })
    }

    /// Takes a sample of used memory; see [`Ledger::observe`].
    pub fn observe(&self, sample: u64, used: impl IntoIterator<Item = (GpuKey, u64)>) {
        self.lock().observe(sample, used);
    }

    /// Bytes promised on a GPU that the driver does not show yet.
    pub fn reserved(&self, gpu: &GpuKey) -> u64 {
        self.lock().reserved(gpu)
    }

    /// The rooms with what is reserved taken off.
    pub fn rooms(&self, rooms: &[Room]) -> Vec<Room> {
        self.lock().rooms(rooms)
    }

    /// Every change of the ledger is complete before anything in it can panic, so a poisoned lock guards sound data.
    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Memory that is promised to one load. Dropped without [`Reservation::settle`], because the load failed or was stopped, it is given back.
#[derive(Debug)]
pub struct Reservation {
    ticket: Option<Ticket>,
    owner: Arc<Reservations>,
}

impl Reservation {
    /// The model is loaded: the first sample after number `sample`, the last one that was begun, replaces the reservation.
    pub fn settle(mut self, sample: u64) {
        if let Some(ticket) = self.ticket.take() {
            self.owner.lock().settle(ticket, sample);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.owner.lock().release(ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Demand, Need, Rules, place};
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;

    const GIB: u64 = 1 << 30;

    fn rooms() -> Vec<Room> {
        vec![
            Room::bare(0, "a", 24 * GIB, 24 * GIB),
            Room::bare(1, "b", 22 * GIB, 22 * GIB),
        ]
    }

    fn sized(rooms: &[Room], bytes: u64) -> Placement {
        let demand = Demand {
            need: Need::Bytes(bytes),
            headroom: 1.0,
        };
        place(&demand, rooms, Rules::default())
    }

    #[test]
    fn f17_a_hundred_threads_never_promise_more_than_is_free() {
        let shared = Arc::new(Reservations::default());
        let taken: Arc<[AtomicU64; 2]> = Arc::default();
        let placed = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..100_u64)
            .map(|thread| {
                let (shared, taken, placed) = (shared.clone(), taken.clone(), placed.clone());
                thread::spawn(move || {
                    for round in 0..50 {
                        let bytes = (1 + (thread * 7 + round * 3) % 30) * GIB;
                        let planned = shared.plan(&rooms(), |left| sized(left, bytes));
                        let Ok((placement, Some(reservation))) = planned else {
                            continue;
                        };
                        placed.fetch_add(1, Ordering::SeqCst);
                        for (gpu, need) in placement.gpus.iter().zip(&placement.needs) {
                            let held = taken[*gpu].fetch_add(*need, Ordering::SeqCst) + need;
                            assert!(held <= rooms()[*gpu].free_bytes, "GPU {gpu}: {held}");
                        }
                        thread::yield_now();
                        for (gpu, need) in placement.gpus.iter().zip(&placement.needs) {
                            taken[*gpu].fetch_sub(*need, Ordering::SeqCst);
                        }
                        drop(reservation);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(placed.load(Ordering::SeqCst) > 100);
        for room in rooms() {
            assert_eq!(shared.reserved(&room.key()), 0, "all of it was given back");
        }
    }

    #[test]
    fn a_forgotten_reservation_is_given_back_and_a_settled_one_is_not() {
        let shared = Arc::new(Reservations::default());
        let gpu = rooms()[1].key();
        let plan = || shared.plan(&rooms(), |left| sized(left, 20 * GIB));
        let (placement, reservation) = plan().unwrap();
        assert_eq!(placement.gpus, [1]);
        assert_eq!(shared.rooms(&rooms())[1].free_bytes, 2 * GIB);
        drop(reservation);
        assert_eq!(shared.reserved(&gpu), 0);
        shared.observe(1, [(gpu.clone(), 0)]);
        let (_, reservation) = plan().unwrap();
        reservation.unwrap().settle(1);
        assert_eq!(shared.reserved(&gpu), 20 * GIB, "until the driver shows it");
        shared.observe(2, [(gpu.clone(), 19 * GIB)]);
        assert_eq!(shared.reserved(&gpu), 0);
        let (nowhere, none) = shared.plan(&rooms(), |left| sized(left, 99 * GIB)).unwrap();
        assert!(nowhere.gpus.is_empty() && none.is_none());
    }
}
