//! How many requests a node works on at once, learned where it does not tell.

/// A request that waited inside the node for less than this, in milliseconds, did not wait: the time goes to the network and to rounding.
const NOISE_MS: u64 = 100;
/// Part of a request's own time below which a wait inside the node is noise as well.
const NOISE_PART: u64 = 10;
/// Full houses of which nothing was told, after which one more is tried: a queue inside the node costs less than a slot left empty.
const UNTOLD: u32 = 8;
/// After so many requests a limit that was inferred is tried again: what looked like a full node may have been somebody else's request.
const TRY_AGAIN: u32 = 500;

/// Requests that a node takes at once: as configured or told, else between what was proven and what was refuted. An unknown number starts
/// at two, because a second request costs little where it waits inside the node and shows what the node does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slots {
    told: Option<u32>,
    /// So many were worked on at once.
    proven: u32,
    /// The last of so many had to wait inside the node.
    refuted: Option<u32>,
    /// Requests since the last refutation.
    since: u32,
    /// Requests that filled the limit and of which nothing was told.
    untold: u32,
}

impl Slots {
    pub(super) fn new(told: Option<u32>) -> Self {
        Self {
            told: told.map(|slots| slots.max(1)),
            proven: 1,
            refuted: None,
            since: 0,
            untold: 0,
        }
    }

    /// The number is told or no longer told.
    pub(super) fn tell(&mut self, told: Option<u32>) {
        self.told = told.map(|slots| slots.max(1));
    }

    /// Requests that may be sent at once.
    pub(super) fn limit(&self) -> u32 {
        self.told.unwrap_or_else(|| {
            let next = self.proven.saturating_add(1);
            self.refuted
                .map_or(next, |refuted| next.min(refuted - 1))
                .max(1)
        })
    }

    /// The number, where it is told or both sides of it were seen.
    pub(super) fn known(&self) -> Option<u32> {
        self.told
            .or_else(|| self.refuted.map(|refuted| (refuted - 1).max(1)))
            .filter(|slots| self.told.is_some() || self.proven >= *slots)
    }

    /// A request that was sent as number `together` of those at work waited so long inside the node before it was worked on; `None` where
    /// the answer does not tell.
    pub(super) fn learn(&mut self, together: u32, waited_ms: Option<u64>, request_ms: u64) {
        if self.told.is_some() {
            return;
        }
        let Some(waited_ms) = waited_ms else {
            if self.refuted.is_none() && together >= self.limit() {
                self.untold += 1;
                if self.untold >= UNTOLD {
                    self.untold = 0;
                    self.proven = self.proven.max(together);
                }
            }
            return;
        };
        self.since = self.since.saturating_add(1);
        let waited = waited_ms > NOISE_MS.max(request_ms / NOISE_PART);
        if waited && together > 1 {
            self.refuted = Some(self.refuted.map_or(together, |old| old.min(together)));
            self.proven = self.proven.min(together - 1);
            self.since = 0;
        } else if !waited {
            if self.refuted.is_some_and(|refuted| refuted <= together) {
                self.refuted = None;
            }
            self.proven = self.proven.max(together);
        }
        if self.since >= TRY_AGAIN {
            self.refuted = None;
            self.since = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_climbs_while_nobody_waits_inside_and_stops_where_somebody_does() {
        let mut slots = Slots::new(None);
        assert_eq!((slots.limit(), slots.known()), (2, None));
        for together in 1..=4 {
            slots.learn(together, Some(3), 2000);
        }
        assert_eq!(slots.limit(), 5);
        slots.learn(5, Some(1900), 2000);
        assert_eq!((slots.limit(), slots.known()), (4, Some(4)));
    }

    #[test]
    fn a_node_with_one_slot_is_found_out_by_one_request() {
        let mut slots = Slots::new(None);
        slots.learn(2, Some(1500), 2000);
        assert_eq!((slots.limit(), slots.known()), (1, Some(1)));
    }

    #[test]
    fn a_limit_that_was_somebody_elses_doing_is_tried_again() {
        let mut slots = Slots::new(None);
        slots.learn(2, Some(1500), 2000);
        for _ in 0..TRY_AGAIN {
            slots.learn(1, Some(0), 2000);
        }
        assert_eq!(slots.limit(), 2);
    }

    #[test]
    fn a_node_that_never_tells_is_filled_slowly() {
        let mut slots = Slots::new(None);
        for _ in 0..UNTOLD {
            slots.learn(2, None, 2000);
        }
        assert_eq!((slots.limit(), slots.known()), (3, None));
    }

    #[test]
    fn what_is_told_is_believed() {
        let mut slots = Slots::new(Some(3));
        slots.learn(2, Some(1500), 2000);
        assert_eq!((slots.limit(), slots.known()), (3, Some(3)));
        slots.tell(None);
        assert_eq!(slots.limit(), 2);
    }
}
