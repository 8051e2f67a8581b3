//! The observations of a run, by target and round.

use std::collections::HashMap;

use super::figures::{Definition, float};
use super::observed::{Form, Moment, Observation, Seen, Settings};
use super::{DIRECT, MAX_ROUNDS, Spread};

/// The share of pieces due that must come on the direct way, so that what was measured is the proxy and not the generator.
const PIECES_DUE: f64 = 0.95;

/// The observations by target and round.
pub(super) struct Index<'a> {
    pub(super) settings: &'a Settings,
    seen: HashMap<(&'a str, u32), Vec<&'a Seen>>,
    pub(super) completed: u32,
    /// Load averages and the time at the start, and at the end of the last round.
    pub(super) first: Option<(Option<[f64; 3]>, u64)>,
    pub(super) last: Option<(Option<[f64; 3]>, u64)>,
    /// What other programs did; `None` where nobody knows.
    pub(super) others: Option<Others>,
}

/// What programs that have no part in the measurement did meanwhile.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Others {
    /// Their processor time, nanoseconds.
    cpu: f64,
    /// Time in which it was looked at, nanoseconds.
    elapsed: f64,
    /// Measurements that were repeated because of them.
    pub(super) repeated: u32,
}

impl<'a> Index<'a> {
    pub(super) fn new(settings: &'a Settings, observations: &'a [Observation]) -> Self {
        let mut index = Self {
            settings,
            seen: HashMap::new(),
            completed: 0,
            first: None,
            last: None,
            others: None,
        };
        for Observation {
            round,
            target,
            seen,
        } in observations
        {
            index
                .seen
                .entry((target.as_str(), *round))
                .or_default()
                .push(seen);
            if let Seen::Others {
                cpu_ns,
                elapsed_ns,
                repeated,
                ..
            } = seen
            {
                let others = index.others.get_or_insert_default();
                others.cpu += float(*cpu_ns);
                others.elapsed += float(*elapsed_ns);
                others.repeated = others.repeated.saturating_add(*repeated);
            }
            if let Seen::Machine {
                moment,
                load_percent,
                elapsed_ns,
            } = seen
            {
                let load = load_percent.map(|load| load.map(|percent| f64::from(percent) / 100.0));
                if *moment == Moment::Start {
                    index.first = Some((load, *elapsed_ns));
                } else {
                    index.last = Some((load, *elapsed_ns));
                    index.completed = index.completed.max(round + 1);
                }
            }
        }
        index
    }

    /// The share of the machine's processors that other programs used.
    pub(super) fn others_share(&self) -> Option<f64> {
        let (others, cores) = (self.others?, self.settings.cores?);
        let share = others.cpu / (others.elapsed * float(cores));
        share.is_finite().then_some(share)
    }

    /// What is looked at once in a run counts even when no round was completed.
    fn rounds(&self) -> std::ops::Range<u32> {
        0..self.completed.clamp(1, MAX_ROUNDS)
    }

    pub(super) fn all(&self, target: &str) -> Vec<&'a Seen> {
        let rounds = self
            .rounds()
            .filter_map(|round| self.seen.get(&(target, round)));
        rounds.flatten().copied().collect()
    }

    /// A figure's value by round; `None` for a round without one.
    pub(super) fn values(&self, definition: &Definition, target: &str) -> Vec<Option<f64>> {
        let value = |round| {
            let seen = self.seen.get(&(target, round))?;
            (definition.of)(seen).filter(|value| value.is_finite())
        };
        self.rounds().map(value).collect()
    }

    /// Whether the direct way brought fewer pieces than were due.
    pub(super) fn pieces_late(&self, wanted: Form, number: u32) -> bool {
        let mut shares = Vec::new();
        for seen in self.all(DIRECT) {
            if let Seen::Pieces {
                form,
                streams,
                gap_ns,
                delays,
                elapsed_ns,
                ..
            } = seen
                && (*form, *streams) == (wanted, number)
            {
                let due = float(*elapsed_ns) / float(*gap_ns).max(1.0) * f64::from(*streams);
                shares.push(float(delays.count) / due.max(1.0));
            }
        }
        Spread::of(&shares).is_some_and(|share| share.median < PIECES_DUE)
    }
}
