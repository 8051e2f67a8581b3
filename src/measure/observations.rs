//! What was observed, of the shape that its kind of benchmark has.

use serde::{Deserialize, Serialize};

use super::alloc::AllocObservation;
use super::concurrent::ConcurrentObservation;
use super::paired;
use super::proxy;
use super::replayed::ReplayObservation;
use super::report::Bench;
use super::soak::SoakObservation;

/// The observations of a run, in the order in which they were made.
#[derive(Debug, Clone, PartialEq)]
pub enum Observations {
    /// Of a benchmark whose report follows from its settings.
    None,
    /// Of [`Bench::Live`].
    Live(Vec<paired::Observation>),
    /// Of [`Bench::Proxy`].
    Proxy(Vec<proxy::Observation>),
    /// Of [`Bench::Alloc`].
    Alloc(Vec<AllocObservation>),
    /// Of [`Bench::Concurrent`].
    Concurrent(Vec<ConcurrentObservation>),
    /// Of [`Bench::Soak`].
    Soak(Vec<SoakObservation>),
    /// Of [`Bench::Replay`].
    Replay(Vec<ReplayObservation>),
}

/// One observation, as a line of a receipt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "kebab-case")]
pub enum Observed {
    /// A request under a policy.
    Request(paired::Observation),
    /// A measurement of a proxy.
    Proxy(Numbered<proxy::Observation>),
    /// A batch of decisions.
    Decisions(Numbered<AllocObservation>),
    /// A repeat of two requests.
    Repeat(Numbered<ConcurrentObservation>),
    /// A stretch of a soak.
    Soak(Numbered<SoakObservation>),
    /// A trace under both policies.
    Trace(Numbered<Box<ReplayObservation>>),
}

/// An observation with its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Numbered<T> {
    /// Place in the order in which the observations were made, from 0.
    pub n: u64,
    /// What was observed.
    pub seen: T,
}

impl<T> Numbered<T> {
    fn at(n: u64, seen: T) -> Self {
        Self { n, seen }
    }
}

impl Observed {
    /// Its place in the order in which the observations were made, from 0.
    pub fn n(&self) -> u64 {
        match self {
            Self::Request(seen) => seen.n,
            Self::Proxy(seen) => seen.n,
            Self::Decisions(seen) => seen.n,
            Self::Repeat(seen) => seen.n,
            Self::Soak(seen) => seen.n,
            Self::Trace(seen) => seen.n,
        }
    }
}

/// What a receipt can hold: an observation that gets its place when it is written.
pub trait Observable: Clone {
    /// Its line, at a place.
    fn line(&self, n: u64) -> Observed;
}

impl Observable for paired::Observation {
    fn line(&self, n: u64) -> Observed {
        Observed::Request(Self { n, ..self.clone() })
    }
}

impl Observable for proxy::Observation {
    fn line(&self, n: u64) -> Observed {
        Observed::Proxy(Numbered::at(n, self.clone()))
    }
}

impl Observable for AllocObservation {
    fn line(&self, n: u64) -> Observed {
        Observed::Decisions(Numbered::at(n, self.clone()))
    }
}

impl Observable for ConcurrentObservation {
    fn line(&self, n: u64) -> Observed {
        Observed::Repeat(Numbered::at(n, self.clone()))
    }
}

impl Observable for SoakObservation {
    fn line(&self, n: u64) -> Observed {
        Observed::Soak(Numbered::at(n, self.clone()))
    }
}

impl Observable for ReplayObservation {
    fn line(&self, n: u64) -> Observed {
        Observed::Trace(Numbered::at(n, Box::new(self.clone())))
    }
}

impl Observations {
    /// None yet, of the shape that a benchmark has.
    pub fn of(bench: &Bench) -> Self {
        match bench {
            Bench::Roi(_) | Bench::Cost(_) => Self::None,
            Bench::Live(_) => Self::Live(Vec::new()),
            Bench::Proxy(_) => Self::Proxy(Vec::new()),
            Bench::Alloc(_) => Self::Alloc(Vec::new()),
            Bench::Concurrent(_) => Self::Concurrent(Vec::new()),
            Bench::Soak(_) => Self::Soak(Vec::new()),
            Bench::Replay(_) => Self::Replay(Vec::new()),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::Live(all) => all.len(),
            Self::Proxy(all) => all.len(),
            Self::Alloc(all) => all.len(),
            Self::Concurrent(all) => all.len(),
            Self::Soak(all) => all.len(),
            Self::Replay(all) => all.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes one more; `false` when it is of another kind of benchmark.
    pub fn add(&mut self, one: Observed) -> bool {
        match (self, one) {
            (Self::Live(all), Observed::Request(one)) => all.push(one),
            (Self::Proxy(all), Observed::Proxy(one)) => all.push(one.seen),
            (Self::Alloc(all), Observed::Decisions(one)) => all.push(one.seen),
            (Self::Concurrent(all), Observed::Repeat(one)) => all.push(one.seen),
            (Self::Soak(all), Observed::Soak(one)) => all.push(one.seen),
            (Self::Replay(all), Observed::Trace(one)) => all.push(*one.seen),
            _ => return false,
        }
        true
    }
}
