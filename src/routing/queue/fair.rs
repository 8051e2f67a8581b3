//! Whose turn it is: lanes by their shares, clients of a lane in equal parts.
//!
//! Start-time fair queueing (Goyal, Vin and Cheng, 1996): each lane has a virtual time that its work moves on, divided by its share; the
//! lane that is furthest behind goes first. A lane that was idle joins at the present virtual time, so it can neither save up turns nor
//! has to wait for those that were given away. Clients inside a lane follow the same rule with equal shares.

use super::{ClientId, Lane};

/// Clients that a lane remembers; those that are not ahead of the others need no memory.
const MOST_CLIENTS: usize = 64;
/// A lane or client is never held to be further ahead than this much virtual time: who had the node to itself for an hour pays for it
/// with minutes, not with hours.
const LONGEST_DEBT: u64 = 120_000;
/// Scale of shares: a share of 1.0.
const WHOLE: u64 = 1000;

/// Shares of the lanes when a node is saturated, as the configuration gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// In thousandths, by [`Lane::index`]; never 0.
    thousandths: [u64; Lane::COUNT],
}

impl Default for Shares {
    fn default() -> Self {
        Self {
            thousandths: [1000, 700, 300, 100],
        }
    }
}

impl Shares {
    /// Shares by lane, in the order of [`Lane::ALL`]; anything that is no positive number counts as a thousandth.
    pub fn new(shares: [f64; Lane::COUNT]) -> Self {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the number is between 1 and 1,000,000"
        )]
        let thousandths = shares.map(|share| {
            let scaled = (share * 1000.0).round();
            if scaled >= 1.0 {
                scaled.min(1e6) as u64
            } else {
                1
            }
        });
        Self { thousandths }
    }

    /// The share of a lane in thousandths.
    pub(super) fn of(&self, lane: Lane) -> u64 {
        self.thousandths
            .get(lane.index())
            .map_or(1, |s| (*s).max(1))
    }

    /// How much more there is of all lanes than of one, rounded up.
    pub(super) fn parts(&self, lane: Lane) -> u64 {
        let all: u64 = Lane::ALL.iter().map(|lane| self.of(*lane)).sum();
        all.div_ceil(self.of(lane))
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct LaneTurn {
    at: u64,
    clients_at: u64,
    /// Clients that are ahead of `clients_at`.
    clients: Vec<(ClientId, u64)>,
    /// Since when the lane has been made to wait by the rule that it yields, without a start.
    yielding_since: Option<u64>,
    /// Until when it leaves the node to more urgent work, because it has had its share.
    rests_until: u64,
}

impl LaneTurn {
    fn client(&self, client: ClientId) -> u64 {
        let ahead = self.clients.iter().find(|(id, _)| *id == client);
        ahead.map_or(self.clients_at, |(_, at)| (*at).max(self.clients_at))
    }
}

/// The turns of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fair {
    shares: Shares,
    now: u64,
    lanes: [LaneTurn; Lane::COUNT],
}

impl Fair {
    pub(super) fn new(shares: Shares) -> Self {
        Self {
            shares,
            now: 0,
            lanes: Default::default(),
        }
    }

    pub(super) fn shares(&self) -> &Shares {
        &self.shares
    }

    /// The smaller, the sooner.
    pub(super) fn key(&self, lane: Lane, client: ClientId) -> (u64, usize, u64) {
        let turn = self.lanes.get(lane.index());
        let at = turn.map_or(0, |turn| turn.at).max(self.now);
        (at, lane.index(), turn.map_or(0, |turn| turn.client(client)))
    }

    /// A request of that much work has started.
    pub(super) fn started(&mut self, lane: Lane, client: ClientId, work_ms: u64) {
        let share = self.shares.of(lane);
        let Some(turn) = self.lanes.get_mut(lane.index()) else {
            return;
        };
        let work = work_ms.max(1);
        self.now = self.now.max(turn.at);
        let cost = work.saturating_mul(WHOLE) / share;
        turn.at = self.now.saturating_add(cost.clamp(1, LONGEST_DEBT));
        let begun = turn.client(client);
        // The clock of the clients moves with whoever is served.
        turn.clients_at = turn.clients_at.max(begun);
        let most = turn.clients_at.saturating_add(LONGEST_DEBT);
        let at = begun.saturating_add(work).min(most);
        turn.clients.retain(|(id, _)| *id != client);
        let clients_at = turn.clients_at;
        turn.clients.retain(|(_, at)| *at > clients_at);
        if turn.clients.len() >= MOST_CLIENTS
            && let Some(least) = (0..turn.clients.len())
                .min_by_key(|index| turn.clients.get(*index).map(|(_, at)| *at))
        {
            turn.clients.swap_remove(least);
        }
        turn.clients.push((client, at));
        turn.yielding_since = None;
    }

    /// Nothing of the lane waits.
    pub(super) fn rests(&mut self, lane: Lane) {
        if let Some(turn) = self.lanes.get_mut(lane.index()) {
            turn.yielding_since = None;
        }
    }

    /// A request of the lane has been answered within this time. Beside urgent work the lane now rests for as long as makes that its share.
    pub(super) fn worked(&mut self, lane: Lane, started: u64, now: u64) {
        let worked = now.saturating_sub(started);
        let rest = worked.saturating_mul(self.shares.of(Lane::Interactive)) / self.shares.of(lane);
        if let Some(turn) = self.lanes.get_mut(lane.index()) {
            turn.rests_until = now.saturating_add(rest);
        }
    }

    /// Until when the lane rests beside urgent work.
    pub(super) fn rests_until(&self, lane: Lane) -> u64 {
        self.lanes
            .get(lane.index())
            .map_or(0, |turn| turn.rests_until)
    }

    /// The lane has a request that could start if it did not have to yield; since when that is so.
    pub(super) fn yields(&mut self, lane: Lane, now: u64) -> u64 {
        match self.lanes.get_mut(lane.index()) {
            Some(turn) => *turn.yielding_since.get_or_insert(now),
            None => now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Serves `count` requests of lanes and clients that always have more, and counts what each got.
    fn serve(fair: &mut Fair, waiting: &[(Lane, u64, u64)], count: usize) -> Vec<u64> {
        let mut got = vec![0; waiting.len()];
        for _ in 0..count {
            let next = (0..waiting.len())
                .min_by_key(|i| fair.key(waiting[*i].0, ClientId(waiting[*i].1)))
                .unwrap();
            let (lane, client, work) = waiting[next];
            fair.started(lane, ClientId(client), work);
            got[next] += work;
        }
        got
    }

    #[test]
    fn lanes_get_their_shares_whatever_the_size_of_their_requests() {
        let mut fair = Fair::new(Shares::default());
        let waiting = [(Lane::Interactive, 1, 100), (Lane::Batch, 2, 700)];
        let got = serve(&mut fair, &waiting, 2000);
        let ratio = got[0] * 100 / got[1];
        assert!((900..=1100).contains(&ratio), "{got:?}");
    }

    #[test]
    fn clients_of_a_lane_get_equal_parts() {
        let mut fair = Fair::new(Shares::default());
        let waiting = [
            (Lane::Agent, 1, 100),
            (Lane::Agent, 2, 100),
            (Lane::Agent, 3, 400),
        ];
        let got = serve(&mut fair, &waiting, 3000);
        let (least, most) = (got.iter().min().unwrap(), got.iter().max().unwrap());
        assert!(most - least <= 800, "{got:?}");
    }

    #[test]
    fn who_was_idle_goes_next_and_saves_nothing_up() {
        let mut fair = Fair::new(Shares::default());
        serve(&mut fair, &[(Lane::Batch, 1, 1000)], 50);
        assert!(fair.key(Lane::Interactive, ClientId(9)) < fair.key(Lane::Batch, ClientId(1)));
        let both = [(Lane::Interactive, 9, 1000), (Lane::Batch, 1, 1000)];
        let got = serve(&mut fair, &both, 110);
        assert!(got[1] >= 8000, "the idle time is not owed: {got:?}");
    }

    #[test]
    fn memory_is_bounded_and_debts_end() {
        let mut fair = Fair::new(Shares::default());
        for client in 0..10_000 {
            fair.started(Lane::Agent, ClientId(client), 10_000_000);
        }
        let turn = &fair.lanes[Lane::Agent.index()];
        assert!(turn.clients.len() <= MOST_CLIENTS);
        assert!(
            turn.clients
                .iter()
                .all(|(_, at)| *at <= turn.clients_at + LONGEST_DEBT)
        );
    }

    #[test]
    fn shares_are_positive_numbers() {
        let odd = Shares::new([1.0, f64::NAN, -3.0, 0.1]);
        assert_eq!(Lane::ALL.map(|lane| odd.of(lane)), [1000, 1, 1, 100]);
        assert_eq!(Shares::default().parts(Lane::Batch), 21);
    }
}
