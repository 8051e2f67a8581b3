//! Observations of requests under two policies, pair by pair.
//!
//! A pair is one request of a trace in one repeat, sent once under each policy with the same limits and seed.

mod report;
mod tier;
mod times;

pub use report::{Group, PairedReport, PolicySummary, Speedup, live_report, paired_report};
pub use tier::{Class, Spread, Tier};

use std::fmt;

use serde::{Deserialize, Serialize};

use super::figure::Figure;
use super::statistics::{MAX_RESAMPLES, RESAMPLES};

/// Under what a request was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Policy 0: what the user has today, named in [`LiveSettings`].
    Today,
    /// Policy 1: through gpurouter.
    Routed,
}

/// Whether the model had to be loaded first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Temperature {
    /// It was not in memory when the pair began.
    Cold,
    /// It was.
    Warm,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// With a complete answer.
    Ok,
    /// With an error or a refusal.
    Failed,
    /// With the beginning of an answer.
    Cut,
    /// Not within the time-out.
    TimedOut,
}

/// One request under one policy. What nobody measured is `None`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observation {
    /// Place in the order in which the observations were made, from 0.
    pub n: u64,
    /// The pair that it belongs to.
    pub pair: u64,
    /// Index of the request in the trace; the same for every repeat of it.
    pub request: u64,
    /// Under what it was sent.
    pub policy: Policy,
    /// Whether the pair began without the model in memory.
    pub temperature: Temperature,
    /// How it ended.
    pub outcome: Outcome,
    /// Milliseconds to the first token.
    pub ttft_ms: Option<f64>,
    /// Milliseconds to the end of the answer.
    pub total_ms: Option<f64>,
    /// Milliseconds of reading the prompt, as the node counts them.
    pub prefill_ms: Option<f64>,
    /// Prompt tokens, cached ones included.
    pub tokens_in: Option<u64>,
    /// Prompt tokens that the node did not have to read again.
    pub tokens_cached: Option<u64>,
    /// Answer tokens.
    pub tokens_out: Option<u64>,
    /// Models that were loaded for it.
    pub loads: Option<u64>,
    /// Milliseconds of those loads.
    pub load_ms: Option<f64>,
    /// Whether the answer passed its check; `None`: it had none.
    pub passed: Option<bool>,
    /// Its joules above idle.
    pub energy_j: Option<f64>,
}

/// How a report is computed from pairs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairedSettings {
    /// Milliseconds at which a request that did not end well counts.
    pub timeout_ms: f64,
    /// Seed of the resampling.
    pub seed: u64,
    /// Resamples of an interval.
    pub resamples: u32,
    /// How far the lower end of the pass rate may lie below today's rate, as a share.
    pub quality_margin: f64,
}

impl Default for PairedSettings {
    /// Ten minutes, 10,000 resamples, 2 points.
    fn default() -> Self {
        Self {
            timeout_ms: 600_000.0,
            seed: 1,
            resamples: RESAMPLES,
            quality_margin: 0.02,
        }
    }
}

/// What a live benchmark compared, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiveSettings {
    /// What policy 0 is, such as `ollama at http://127.0.0.1:11434`.
    pub today: String,
    /// What policy 1 is.
    pub routed: String,
    /// The trace that was replayed.
    pub trace: String,
    /// Repeats of each request.
    pub repeats: u32,
    /// Most tokens of an answer; `None` is no limit.
    pub max_tokens: Option<u32>,
    /// How the report is computed.
    pub paired: PairedSettings,
    /// The class of each request of the trace; shorter than the trace, or empty, where it is not known.
    pub classes: Vec<Class>,
    /// What the GPUs took before the first request, all together.
    pub idle_power: Figure,
}

/// Why observations are not pairs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PairingError {
    /// The settings make no sense.
    Settings {
        /// The field.
        field: &'static str,
        /// What it must be.
        must: String,
    },
    /// An observation makes no sense by itself.
    Field {
        /// Its place.
        n: u64,
        /// The field.
        field: &'static str,
        /// What it must be.
        must: &'static str,
    },
    /// A pair has two observations under one policy, or none under the other.
    Pair {
        /// The pair.
        pair: u64,
        /// How many it has under today's policy.
        today: usize,
        /// How many it has under the routed one.
        routed: usize,
    },
    /// The two observations of a pair are of different requests, or one of them is cold and the other warm.
    Unlike {
        /// The pair.
        pair: u64,
    },
}

impl fmt::Display for PairingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings { field, must } => write!(f, "`{field}` of the settings must be {must}"),
            Self::Field { n, field, must } => {
                write!(f, "`{field}` of observation {n} must be {must}")
            }
            Self::Pair {
                pair,
                today,
                routed,
            } => write!(
                f,
                "pair {pair} needs one observation under each policy; it has {today} and {routed}"
            ),
            Self::Unlike { pair } => write!(
                f,
                "the two observations of pair {pair} are of different requests"
            ),
        }
    }
}

impl std::error::Error for PairingError {}

/// One request under both policies.
#[derive(Debug, Clone, Copy)]
struct Pair<'a> {
    today: &'a Observation,
    routed: &'a Observation,
}

impl PairedSettings {
    fn check(&self) -> Result<(), PairingError> {
        let wrong = |field, must: &str| {
            Err(PairingError::Settings {
                field,
                must: must.to_owned(),
            })
        };
        if !(self.timeout_ms > 0.0 && self.timeout_ms.is_finite()) {
            return wrong("timeout_ms", "above 0");
        }
        if self.resamples == 0 || self.resamples > MAX_RESAMPLES {
            return wrong("resamples", &format!("1 to {MAX_RESAMPLES}"));
        }
        if !(0.0..=1.0).contains(&self.quality_margin) {
            return wrong("quality_margin", "0 to 1");
        }
        Ok(())
    }
}

impl Observation {
    fn check(&self) -> Result<(), PairingError> {
        let wrong = |field, must| {
            Err(PairingError::Field {
                n: self.n,
                field,
                must,
            })
        };
        for (field, value) in [("ttft_ms", self.ttft_ms), ("total_ms", self.total_ms)] {
            if value.is_some_and(|ms| !(ms > 0.0 && ms.is_finite())) {
                return wrong(field, "above 0");
            }
        }
        for (field, value) in [("prefill_ms", self.prefill_ms), ("load_ms", self.load_ms)] {
            if value.is_some_and(|ms| !(ms >= 0.0 && ms.is_finite())) {
                return wrong(field, "0 or more");
            }
        }
        if self.energy_j.is_some_and(|joules| !joules.is_finite()) {
            return wrong("energy_j", "a number");
        }
        if self.outcome == Outcome::Ok && self.total_ms.is_none() {
            return wrong("total_ms", "known for a request that was answered");
        }
        if matches!((self.ttft_ms, self.total_ms), (Some(first), Some(end)) if first > end) {
            return wrong("ttft_ms", "no later than the end");
        }
        if self.tokens_cached.unwrap_or(0) > self.tokens_in.unwrap_or(u64::MAX) {
            return wrong("tokens_cached", "no more than tokens_in");
        }
        if self.outcome != Outcome::Ok && self.passed == Some(true) {
            return wrong("passed", "false for a request that was not answered");
        }
        Ok(())
    }
}

/// The pairs in the order of their numbers.
fn pairs(observations: &[Observation]) -> Result<Vec<Pair<'_>>, PairingError> {
    let mut sorted: Vec<&Observation> = observations.iter().collect();
    sorted.sort_by_key(|observation| (observation.pair, observation.policy));
    let mut pairs = Vec::new();
    for group in sorted.chunk_by(|one, two| one.pair == two.pair) {
        match group {
            [today, routed] if (today.policy, routed.policy) == (Policy::Today, Policy::Routed) => {
                if (today.request, today.temperature) != (routed.request, routed.temperature) {
                    return Err(PairingError::Unlike { pair: today.pair });
                }
                pairs.push(Pair { today, routed });
            }
            _ => {
                let of = |policy| group.iter().filter(|one| one.policy == policy).count();
                return Err(PairingError::Pair {
                    pair: group.first().map_or(0, |one| one.pair),
                    today: of(Policy::Today),
                    routed: of(Policy::Routed),
                });
            }
        }
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests;
