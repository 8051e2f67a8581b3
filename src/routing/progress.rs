//! Health by progress: a node that owes an answer for far longer than it takes is not trusted with the next one.
//!
//! Nothing is generated to find out: the requests under way tell. A request that waits for its first byte much longer than was predicted,
//! or that was given up after its time limit, makes its node suspect: it is tried last. Any byte from the node ends that.

use std::collections::{BTreeMap, HashMap};

/// How many times the predicted milliseconds a request may take …
const TIMES: u64 = 5;
/// … and how many at least, because short predictions are the least sure.
const LEAST_MS: u64 = 15_000;
/// Milliseconds of a request whose time nobody can predict: a cold load of a large model from a slow disk is no trouble.
const UNPREDICTED_MS: u64 = 90_000;
/// Milliseconds that a node stays suspect after a request was given up; twice as long after each further one.
const AFTER_LIMIT_MS: u64 = 30_000;
/// At most so long.
const LONGEST_MS: u64 = 300_000;
/// Nodes that are remembered.
const MOST_NODES: usize = 4096;

/// A request under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Waiting(u64);

/// What every node owes.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    nodes: HashMap<String, Owed>,
    next: u64,
}

#[derive(Debug, Clone, Default)]
struct Owed {
    /// By request: when it becomes overdue.
    due: BTreeMap<Waiting, u64>,
    /// Requests given up since the last byte.
    given_up: u32,
    suspect_until: u64,
}

impl Progress {
    /// A request was sent; `predicted_ms` is until its answer is complete, where that is known. Times are milliseconds since some start.
    pub fn sent(&mut self, node: &str, now: u64, predicted_ms: Option<u64>) -> Waiting {
        let id = Waiting(self.next);
        self.next += 1;
        if !self.nodes.contains_key(node) {
            if self.nodes.len() >= MOST_NODES {
                return id;
            }
            self.nodes.insert(node.to_owned(), Owed::default());
        }
        if let Some(owed) = self.nodes.get_mut(node) {
            let allowed =
                predicted_ms.map_or(UNPREDICTED_MS, |ms| ms.saturating_mul(TIMES).max(LEAST_MS));
            owed.due.insert(id, now.saturating_add(allowed));
        }
        id
    }

    /// Its first byte is there: the node works.
    pub fn answered(&mut self, node: &str, id: Waiting) {
        if let Some(owed) = self.nodes.get_mut(node) {
            owed.due.remove(&id);
            owed.given_up = 0;
            owed.suspect_until = 0;
        }
    }

    /// It ended without a byte for a reason that is not the node's, or that others judge.
    pub fn ended(&mut self, node: &str, id: Waiting) {
        if let Some(owed) = self.nodes.get_mut(node) {
            owed.due.remove(&id);
        }
    }

    /// It was given up after its time limit.
    pub fn given_up(&mut self, node: &str, id: Waiting, now: u64) {
        if let Some(owed) = self.nodes.get_mut(node) {
            owed.due.remove(&id);
            let longer = AFTER_LIMIT_MS.saturating_mul(1 << owed.given_up.min(8));
            owed.given_up = owed.given_up.saturating_add(1);
            owed.suspect_until = now.saturating_add(longer.min(LONGEST_MS));
        }
    }

    /// Nodes that are suspect now.
    pub fn suspects(&self, now: u64) -> impl Iterator<Item = &str> {
        self.nodes
            .iter()
            .filter(move |(_, owed)| {
                now < owed.suspect_until || owed.due.values().any(|due| *due < now)
            })
            .map(|(node, _)| node.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suspects(progress: &Progress, now: u64) -> Vec<&str> {
        progress.suspects(now).collect()
    }

    #[test]
    fn a_request_that_takes_five_times_as_long_as_predicted_makes_its_node_suspect_until_a_byte_comes()
     {
        let mut progress = Progress::default();
        let slow = progress.sent("a", 0, Some(10_000));
        progress.sent("b", 0, Some(10));
        assert_eq!(suspects(&progress, 14_000), Vec::<&str>::new());
        assert_eq!(suspects(&progress, 16_000), ["b"]);
        let mut both = suspects(&progress, 51_000);
        both.sort_unstable();
        assert_eq!(both, ["a", "b"]);
        progress.answered("a", slow);
        assert_eq!(suspects(&progress, 51_000), ["b"]);
    }

    #[test]
    fn giving_up_costs_trust_for_a_while_and_longer_each_time() {
        let mut progress = Progress::default();
        for (round, until) in [30_000, 60_000, 120_000, 240_000, 300_000, 300_000]
            .iter()
            .enumerate()
        {
            let now = round as u64 * 1_000_000;
            let id = progress.sent("a", now, None);
            progress.given_up("a", id, now);
            assert_eq!(suspects(&progress, now + until - 1), ["a"], "{round}");
            assert_eq!(
                suspects(&progress, now + until + 1),
                Vec::<&str>::new(),
                "{round}"
            );
        }
        let id = progress.sent("a", 0, None);
        progress.answered("a", id);
        let id = progress.sent("a", 0, None);
        progress.given_up("a", id, 0);
        assert_eq!(suspects(&progress, 30_001), Vec::<&str>::new(), "forgiven");
    }

    #[test]
    fn a_client_that_leaves_says_nothing_of_the_node() {
        let mut progress = Progress::default();
        let id = progress.sent("a", 0, Some(1));
        progress.ended("a", id);
        assert_eq!(suspects(&progress, 1_000_000), Vec::<&str>::new());
    }
}
