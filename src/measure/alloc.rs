//! How fast models are placed on simulated GPUs: batches of decisions, and what follows from their times.

use serde::{Deserialize, Serialize};

use super::figure::{Figure, Unit};
use super::statistics::quantile;

/// What is set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllocSettings {
    /// Simulated GPUs.
    pub count: u32,
    /// Decisions of each kind.
    pub iterations: u32,
    /// Of the GPUs and models.
    pub seed: u64,
    /// What a decision may take, milliseconds, at the 99th percentile.
    pub limit_ms: f64,
    /// Whether the program was built with optimisation.
    pub optimised: bool,
}

/// What is known of the models of one kind of decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Known {
    /// Their size alone.
    Size,
    /// Their layers, whose parts are estimated anew for every device that is tried.
    Layers,
}

impl Known {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Size, Self::Layers];

    /// The word for people and scripts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Layers => "layers",
        }
    }
}

/// Decisions one after another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AllocObservation {
    /// Their kind.
    pub known: Known,
    /// How many of them found GPUs.
    pub placed: u32,
    /// How long each took, nanoseconds.
    pub times_ns: Vec<u64>,
}

/// How long decisions took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AllocReport {
    /// By kind, in the order of [`Known::ALL`].
    pub kinds: Vec<Decisions>,
    /// Whether the 99th percentile of every kind is below the limit.
    pub below_limit: bool,
}

/// The decisions of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Decisions {
    /// The kind.
    pub known: Known,
    /// Decisions per second of deciding.
    pub per_second: Figure,
    /// Milliseconds that half of them are below.
    pub p50: Figure,
    /// Milliseconds that one in a hundred is above.
    pub p99: Figure,
    /// Milliseconds of the slowest.
    pub max: Figure,
    /// Decisions that found GPUs.
    pub placed: Figure,
}

/// What follows from the batches.
pub(super) fn alloc(settings: &AllocSettings, observations: &[AllocObservation]) -> AllocReport {
    let kinds: Vec<Decisions> = Known::ALL
        .into_iter()
        .map(|known| Decisions::of(known, observations))
        .collect();
    let below = |kind: &Decisions| kind.p99.value().is_some_and(|ms| ms < settings.limit_ms);
    AllocReport {
        below_limit: kinds.iter().all(below),
        kinds,
    }
}

impl Decisions {
    #[expect(
        clippy::cast_precision_loss,
        reason = "nanoseconds and counts far below 2^53"
    )]
    fn of(known: Known, observations: &[AllocObservation]) -> Self {
        let ours = || observations.iter().filter(|batch| batch.known == known);
        let times: Vec<f64> = ours()
            .flat_map(|batch| &batch.times_ns)
            .map(|ns| *ns as f64 / 1e6)
            .collect();
        let at = |share| {
            quantile(&times, share).map_or(Figure::unknown(Unit::Milliseconds), |ms| {
                Figure::measured(ms, Unit::Milliseconds)
            })
        };
        let placed: u64 = ours().map(|batch| u64::from(batch.placed)).sum();
        let taken: f64 = times.iter().sum();
        Self {
            known,
            per_second: Figure::measured(times.len() as f64 * 1000.0 / taken, Unit::PerSecond),
            p50: at(0.5),
            p99: at(0.99),
            max: at(1.0),
            placed: if times.is_empty() {
                Figure::unknown(Unit::Count)
            } else {
                Figure::measured(placed as f64, Unit::Count)
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: AllocSettings = AllocSettings {
        count: 16,
        iterations: 4,
        seed: 1,
        limit_ms: 10.0,
        optimised: true,
    };

    fn batch(known: Known, placed: u32, times_ns: &[u64]) -> AllocObservation {
        AllocObservation {
            known,
            placed,
            times_ns: times_ns.to_vec(),
        }
    }

    #[test]
    fn batches_are_one_sequence() {
        let seen = [
            batch(Known::Size, 1, &[1_000_000, 2_000_000]),
            batch(Known::Layers, 2, &[4_000_000]),
            batch(Known::Size, 2, &[3_000_000, 4_000_000]),
        ];
        let report = alloc(&SETTINGS, &seen);
        let [size, layers] = report.kinds[..] else {
            panic!("{report:?}");
        };
        let values = [size.per_second, size.p50, size.max, size.placed].map(Figure::value);
        assert_eq!(values, [Some(400.0), Some(2.5), Some(4.0), Some(3.0)]);
        assert_eq!(layers.p99.value(), Some(4.0));
        assert!(report.below_limit);
        let slow = [
            batch(Known::Size, 1, &[1_000]),
            batch(Known::Layers, 1, &[10_000_000]),
        ];
        assert!(!alloc(&SETTINGS, &slow).below_limit);
    }

    #[test]
    fn nothing_decided_is_nothing_known() {
        let report = alloc(&SETTINGS, &[]);
        assert!(!report.below_limit);
        for kind in report.kinds {
            let all = [kind.per_second, kind.p50, kind.p99, kind.max, kind.placed];
            assert!(all.iter().all(|figure| !figure.is_known()), "{kind:?}");
        }
    }
}
