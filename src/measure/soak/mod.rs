//! A soak: requests at a constant rate for a long time, and whether the server stays as it was.
//!
//! The load is open: a request is due at its time whether the earlier ones were answered or not, and its time counts from when it was due.
//! A server that stops for a second is seen by every request of that second, not by one.

mod steady;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::figure::{Figure, Unit};
use super::statistics::{mean, quantile};
pub use steady::{BLOCKS, Held, Steady, Verdict};

/// A request that was sent so much later than it was due was late: the generator, or the limit of its connections, held it up.
pub const LATE_US: u64 = 5_000;

/// What is set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SoakSettings {
    /// What is asked for.
    pub url: String,
    /// Requests that become due in a second.
    pub rps: f64,
    /// How long, milliseconds.
    pub duration_ms: u64,
    /// When a request counts as failed, milliseconds from when it was due.
    pub timeout_ms: u64,
    /// Connections.
    pub connections: u32,
    /// The server's processes; empty where none was found.
    pub pids: Vec<u32>,
    /// The server's program as the kernel knows it.
    pub program: Option<String>,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "what",
    rename_all = "kebab-case",
    rename_all_fields = "snake_case",
    deny_unknown_fields
)]
pub enum SoakObservation {
    /// The requests that were due in one stretch.
    Requests {
        /// How long the stretch was, milliseconds.
        length_ms: u64,
        /// How long those took that were answered with a status of 200 to 299, microseconds from when they were due to the last byte.
        took_us: Vec<u64>,
        /// The others.
        failed: Vec<Failed>,
        /// Requests that were sent more than [`LATE_US`] after they were due.
        late: u64,
        /// Connections that were opened.
        opened: u64,
    },
    /// What the server holds.
    Server(Held),
}

/// Failures of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failed {
    /// What went wrong.
    pub kind: Failure,
    /// How often.
    pub count: u64,
}

/// How a request fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// No connection was made.
    Connect,
    /// There was no whole answer in time.
    Timeout,
    /// The connection ended before the answer did.
    Broken,
    /// What came is no HTTP.
    Malformed,
    /// The answer has another status than 200 to 299.
    Status(u16),
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SoakReport {
    /// Milliseconds of the load.
    pub elapsed: Figure,
    /// Requests that were due.
    pub due: Figure,
    /// Requests that were answered well.
    pub answered: Figure,
    /// Requests that failed.
    pub failed: Figure,
    /// Those by kind, most frequent first.
    pub failures: Vec<FailureFigure>,
    /// Milliseconds from when a request was due to the end of its answer: the mean.
    pub mean: Figure,
    /// Half are below.
    pub p50: Figure,
    /// One in a hundred is above.
    pub p99: Figure,
    /// None is above.
    pub max: Figure,
    /// Requests that were sent late.
    pub late: Figure,
    /// Connections that were opened.
    pub opened: Figure,
    /// The server's memory and descriptors; `None` where no process was found.
    pub server: Option<ServerFigures>,
    /// Whether every request that was due was answered well, and none is missing.
    pub sound: bool,
}

/// Failures of one kind, as a figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FailureFigure {
    /// What went wrong.
    pub kind: Failure,
    /// How often.
    pub count: Figure,
}

/// What the server held.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ServerFigures {
    /// Resident memory, bytes.
    pub memory: Steady,
    /// Open descriptors.
    pub descriptors: Steady,
}

impl SoakReport {
    /// Whether something grew.
    pub fn grew(&self) -> bool {
        self.server.is_some_and(|server| {
            [server.memory, server.descriptors]
                .iter()
                .any(|steady| steady.verdict == Verdict::Grows)
        })
    }
}

/// What follows from what was seen.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
pub(super) fn soak(settings: &SoakSettings, observations: &[SoakObservation]) -> SoakReport {
    let mut took = Vec::new();
    let mut failures: BTreeMap<Failure, u64> = BTreeMap::new();
    let mut held = Vec::new();
    let (mut end, mut late_requests, mut connections) = (0, 0, 0);
    for seen in observations {
        match seen {
            SoakObservation::Requests {
                length_ms,
                took_us,
                failed,
                late,
                opened,
            } => {
                end += length_ms;
                took.extend(took_us.iter().map(|us| *us as f64 / 1000.0));
                for failed in failed {
                    *failures.entry(failed.kind).or_default() += failed.count;
                }
                late_requests += late;
                connections += opened;
            }
            SoakObservation::Server(one) => held.push(*one),
        }
    }
    let failed: u64 = failures.values().sum();
    let answered = took.len() as u64;
    let at = |share| {
        quantile(&took, share).map_or(Figure::unknown(Unit::Milliseconds), |ms| {
            Figure::measured(ms, Unit::Milliseconds)
        })
    };
    let count = |count: u64| Figure::measured(count as f64, Unit::Count);
    let mut by_kind: Vec<(Failure, u64)> = failures.into_iter().collect();
    by_kind.sort_by_key(|(kind, count)| (std::cmp::Reverse(*count), *kind));
    // What should have been due in that time; the last request of it may be due at its very end.
    let expected = (end as f64 * settings.rps / 1000.0 - 1.0).max(1.0);
    SoakReport {
        elapsed: Figure::measured(end as f64, Unit::Milliseconds),
        due: count(answered + failed),
        answered: count(answered),
        failed: count(failed),
        failures: by_kind
            .into_iter()
            .map(|(kind, number)| FailureFigure {
                kind,
                count: count(number),
            })
            .collect(),
        mean: mean(&took).map_or(Figure::unknown(Unit::Milliseconds), |ms| {
            Figure::measured(ms, Unit::Milliseconds)
        }),
        p50: at(0.5),
        p99: at(0.99),
        max: at(1.0),
        late: count(late_requests),
        opened: count(connections),
        server: (!settings.pids.is_empty() && !held.is_empty()).then(|| ServerFigures {
            memory: Steady::memory(&held),
            descriptors: Steady::descriptors(&held),
        }),
        sound: failed == 0 && answered as f64 >= expected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> SoakSettings {
        SoakSettings {
            url: "http://127.0.0.1:1/health".to_owned(),
            rps: 2.0,
            duration_ms: 2000,
            timeout_ms: 1000,
            connections: 4,
            pids: Vec::new(),
            program: None,
        }
    }

    fn stretch(length_ms: u64, took_us: &[u64], failed: &[(Failure, u64)]) -> SoakObservation {
        SoakObservation::Requests {
            length_ms,
            took_us: took_us.to_vec(),
            failed: failed
                .iter()
                .map(|(kind, count)| Failed {
                    kind: *kind,
                    count: *count,
                })
                .collect(),
            late: 0,
            opened: 1,
        }
    }

    #[test]
    fn stretches_add_up_and_failures_are_told_apart() {
        let all = [
            stretch(1000, &[1_000, 3_000], &[(Failure::Timeout, 1)]),
            stretch(
                1000,
                &[5_000],
                &[(Failure::Status(503), 2), (Failure::Timeout, 3)],
            ),
        ];
        let report = soak(&settings(), &all);
        let values = [
            report.due,
            report.answered,
            report.failed,
            report.p50,
            report.max,
        ]
        .map(Figure::value);
        assert_eq!(values, [9.0, 3.0, 6.0, 3.0, 5.0].map(Some));
        let kinds: Vec<_> = report.failures.iter().map(|one| one.kind).collect();
        assert_eq!(kinds, [Failure::Timeout, Failure::Status(503)]);
        assert!(!report.sound && report.server.is_none());
    }

    #[test]
    fn requests_that_nobody_sent_are_no_sound_run() {
        let all = |took: &[u64]| soak(&settings(), &[stretch(4000, took, &[])]).sound;
        assert!(all(&[1; 8]) && all(&[1; 7]));
        assert!(!all(&[1; 6]));
        assert!(!soak(&settings(), &[]).sound, "nothing is not sound");
    }
}
