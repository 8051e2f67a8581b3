//! What a replay found, as plain data.

use serde::Serialize;

use super::optimum::Optimum;
use super::router::Router;
use super::world::World;
use super::{Rules, Scenario};
use crate::routing::queue::Lane;

/// The document of `bench replay --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// 1.
    pub schema: u32,
    /// Decides everything that is random.
    pub seed: u64,
    /// What of the configuration it depends on.
    #[serde(flatten)]
    pub rules: Rules,
    /// One for each trace.
    pub traces: Vec<TraceReport>,
    /// All traces together.
    pub totals: Totals,
}

/// One trace under both policies.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TraceReport {
    /// Its name.
    pub trace: String,
    /// What it is.
    pub about: String,
    /// Whether plain Ollama loads models over and over in it.
    pub thrash: bool,
    /// The nodes.
    pub nodes: Vec<NodeReport>,
    /// The fewest loads there could have been.
    pub optimum: OptimumReport,
    /// `plain`, then `gpurouter`.
    pub policies: Vec<PolicyReport>,
    /// Loads under gpurouter over the fewest there could have been; `null` without loads.
    pub loads_over_optimum: Option<f64>,
    /// How many fewer loads than plain, in percent; `null` when plain makes none.
    pub fewer_loads_percent: Option<f64>,
}

/// A node of the fleet.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeReport {
    /// Name.
    pub name: String,
    /// GPU.
    pub gpu: String,
    /// Its memory.
    pub vram_bytes: u64,
    /// Requests that a model works on at once.
    pub parallel: usize,
}

/// The fewest loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct OptimumReport {
    /// So many.
    pub loads: u64,
    /// Whether that is the optimum of an order of service as in the trace, or only a bound below it.
    pub exact: bool,
}

/// The middle, the 95th percentile and the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Quantiles {
    /// Half are below.
    pub p50: u64,
    /// One in twenty is above.
    pub p95: u64,
    /// None is above.
    pub max: u64,
}

/// What one lane got.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LaneReport {
    /// Its name.
    pub lane: Lane,
    /// Requests that were answered.
    pub answered: u64,
    /// Milliseconds from sending to the first token.
    pub ttft_ms: Quantiles,
    /// Milliseconds from sending to the end of the answer.
    pub total_ms: Quantiles,
}

/// Predictions of the time from the start of the work to the end of the answer, for its real length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Predictions {
    /// So many requests had one.
    pub made: u64,
    /// So many came within a fifth.
    pub within_20_percent: u64,
    /// So many lay in the range that should hold 80 %.
    pub in_range: u64,
}

/// Waits against what the scheduler promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Starvation {
    /// Requests that waited longer than promised.
    pub starved: u64,
    /// The longest wait.
    pub longest_wait_ms: u64,
}

/// A trace under one policy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PolicyReport {
    /// `plain` or `gpurouter`.
    pub policy: &'static str,
    /// Requests that were sent.
    pub requests: u64,
    /// Requests that were answered to the end.
    pub answered: u64,
    /// Requests whose node died or did not answer.
    pub failed: u64,
    /// Requests that were refused with a reason: too long for every window.
    pub refused: u64,
    /// Prompts that were cut without a word.
    pub truncated: u64,
    /// Loads, reloads included.
    pub loads: u64,
    /// Models thrown out to make room.
    pub evictions: u64,
    /// Reloads that plain Ollama would have made for the same request on the same loaded model; `null` under `plain`.
    pub reloads_avoided: Option<u64>,
    /// Milliseconds that they would have taken.
    pub avoided_ms: Option<u64>,
    /// Milliseconds from sending to the begin of the work: for a slot and for loads.
    pub wait_ms: Quantiles,
    /// By lane, most urgent first; lanes without requests are left out.
    pub lanes: Vec<LaneReport>,
    /// Milliseconds of the whole trace.
    pub duration_ms: u64,
    /// Watt-hours of all nodes; `null` when what a node draws is unknown.
    pub energy_wh: Option<f64>,
    /// Waits against their bound; `null` under `plain`, which promises nothing.
    pub starvation: Option<Starvation>,
    /// How well times were predicted; `null` under `plain`.
    pub predictions: Option<Predictions>,
}

/// All traces together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Totals {
    /// Requests.
    pub requests: u64,
    /// Loads without a router.
    pub plain_loads: u64,
    /// Loads with it.
    pub gpurouter_loads: u64,
    /// The fewest loads (or bounds below them).
    pub optimum_loads: u64,
    /// Loads under gpurouter over the fewest.
    pub loads_over_optimum: Option<f64>,
    /// The geometric mean of the traces' own figures: none counts more because it has more loads.
    pub loads_over_optimum_mean: Option<f64>,
    /// The same over the traces whose optimum is exact.
    pub loads_over_exact_optimum: Option<f64>,
    /// How many fewer loads than plain in the traces in which plain Ollama loads over and over, in percent.
    pub fewer_loads_percent: Option<f64>,
    /// Requests that waited longer than promised.
    pub starved: u64,
    /// Prompts cut without a word, without a router and with it.
    pub truncated: [u64; 2],
    /// How well times were predicted.
    pub predictions: Predictions,
}

impl Report {
    /// The document of some traces.
    pub fn new(seed: u64, rules: Rules, traces: Vec<TraceReport>) -> Self {
        let totals = Totals::of(&traces);
        Self {
            schema: 1,
            seed,
            rules,
            traces,
            totals,
        }
    }
}

impl TraceReport {
    pub(super) fn new(scenario: &Scenario, policies: Vec<PolicyReport>, optimum: Optimum) -> Self {
        let loads = |name| {
            policies
                .iter()
                .find(|report| report.policy == name)
                .map_or(0, |report| report.loads)
        };
        let (plain, routed) = (loads("plain"), loads("gpurouter"));
        Self {
            trace: scenario.name.clone(),
            about: scenario.about.clone(),
            thrash: scenario.thrash,
            nodes: scenario
                .fleet
                .iter()
                .map(|node| NodeReport {
                    name: node.name.clone(),
                    gpu: node.gpu.name.clone(),
                    vram_bytes: node.gpu.vram_bytes,
                    parallel: node.parallel,
                })
                .collect(),
            optimum: OptimumReport {
                loads: optimum.loads,
                exact: optimum.exact,
            },
            loads_over_optimum: ratio(routed, optimum.loads),
            fewer_loads_percent: fewer(plain, routed),
            policies,
        }
    }

    /// What one policy got.
    pub fn policy(&self, name: &str) -> Option<&PolicyReport> {
        self.policies.iter().find(|report| report.policy == name)
    }
}

impl PolicyReport {
    pub(super) fn of_plain(world: &World<'_>) -> Self {
        Self::of("plain", world)
    }

    pub(super) fn of_router(world: &World<'_>, router: &Router) -> Self {
        let counted = &router.counted;
        let report = Self::of("gpurouter", world);
        Self {
            evictions: report.evictions + counted.evicted,
            reloads_avoided: Some(counted.avoided),
            avoided_ms: Some(counted.avoided_ms),
            starvation: Some(Starvation {
                starved: counted.starved,
                longest_wait_ms: report.wait_ms.max,
            }),
            predictions: Some(Predictions {
                made: counted.predicted.made,
                within_20_percent: counted.predicted.close,
                in_range: counted.predicted.in_range,
            }),
            ..report
        }
    }

    fn of(policy: &'static str, world: &World<'_>) -> Self {
        let records = &world.records;
        let count = |of: &dyn Fn(&super::node::Record) -> bool| {
            records.iter().filter(|record| of(record)).count() as u64
        };
        let waits: Vec<u64> = records
            .iter()
            .filter_map(|record| Some(millis(record.started?.saturating_sub(record.sent))))
            .collect();
        let lanes = Lane::ALL
            .into_iter()
            .filter_map(|lane| LaneReport::of(lane, world))
            .collect();
        Self {
            policy,
            requests: records.len() as u64,
            answered: count(&|record| record.ended.is_some() && !record.failed && !record.refused),
            failed: count(&|record| record.failed),
            refused: count(&|record| record.refused),
            truncated: count(&|record| record.truncated),
            loads: world.loads(),
            evictions: world.evictions(),
            reloads_avoided: None,
            avoided_ms: None,
            wait_ms: Quantiles::of(waits),
            lanes,
            duration_ms: millis(world.now),
            energy_wh: world.energy_wh().map(|wh| (wh * 100.0).round() / 100.0),
            starvation: None,
            predictions: None,
        }
    }

    /// What a lane got.
    pub fn lane(&self, lane: Lane) -> Option<&LaneReport> {
        self.lanes.iter().find(|report| report.lane == lane)
    }
}

impl LaneReport {
    fn of(lane: Lane, world: &World<'_>) -> Option<Self> {
        let mut first = Vec::new();
        let mut total = Vec::new();
        for (record, asked) in world.records.iter().zip(world.requests) {
            if asked.lane != lane || record.failed || record.refused {
                continue;
            }
            if let (Some(token), Some(ended)) = (record.first_token, record.ended) {
                first.push(millis(token.saturating_sub(record.sent)));
                total.push(millis(ended.saturating_sub(record.sent)));
            }
        }
        (!first.is_empty()).then(|| Self {
            lane,
            answered: first.len() as u64,
            ttft_ms: Quantiles::of(first),
            total_ms: Quantiles::of(total),
        })
    }
}

impl Quantiles {
    /// The smallest values that so many are not above (nearest rank); 0 of none.
    fn of(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        let rank = |percent: usize| {
            let rank = (values.len() * percent).div_ceil(100).max(1);
            values.get(rank - 1).copied().unwrap_or(0)
        };
        Self {
            p50: rank(50),
            p95: rank(95),
            max: values.last().copied().unwrap_or(0),
        }
    }
}

impl Totals {
    fn of(traces: &[TraceReport]) -> Self {
        let loads = |name: &str, of: &dyn Fn(&TraceReport) -> bool| -> u64 {
            traces
                .iter()
                .filter(|trace| of(trace))
                .filter_map(|trace| trace.policy(name))
                .map(|report| report.loads)
                .sum()
        };
        let optimum = |of: &dyn Fn(&TraceReport) -> bool| -> u64 {
            traces
                .iter()
                .filter(|trace| of(trace))
                .map(|trace| trace.optimum.loads)
                .sum()
        };
        let all = |_: &TraceReport| true;
        let exact = |trace: &TraceReport| trace.optimum.exact;
        let thrash = |trace: &TraceReport| trace.thrash;
        let sum = |name: &str, of: &dyn Fn(&PolicyReport) -> u64| -> u64 {
            traces
                .iter()
                .filter_map(|trace| trace.policy(name))
                .map(of)
                .sum()
        };
        let predicted = |of: &dyn Fn(Predictions) -> u64| {
            sum("gpurouter", &|report| report.predictions.map_or(0, of))
        };
        Self {
            requests: sum("plain", &|report| report.requests),
            plain_loads: loads("plain", &all),
            gpurouter_loads: loads("gpurouter", &all),
            optimum_loads: optimum(&all),
            loads_over_optimum: ratio(loads("gpurouter", &all), optimum(&all)),
            loads_over_optimum_mean: mean(traces.iter().filter_map(|t| t.loads_over_optimum)),
            loads_over_exact_optimum: ratio(loads("gpurouter", &exact), optimum(&exact)),
            fewer_loads_percent: fewer(loads("plain", &thrash), loads("gpurouter", &thrash)),
            starved: sum("gpurouter", &|report| {
                report.starvation.map_or(0, |s| s.starved)
            }),
            truncated: [
                sum("plain", &|report| report.truncated),
                sum("gpurouter", &|report| report.truncated),
            ],
            predictions: Predictions {
                made: predicted(&|predictions| predictions.made),
                within_20_percent: predicted(&|predictions| predictions.within_20_percent),
                in_range: predicted(&|predictions| predictions.in_range),
            },
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of loads")]
fn ratio(one: u64, other: u64) -> Option<f64> {
    (other > 0).then(|| (one as f64 / other as f64 * 1000.0).round() / 1000.0)
}

/// The geometric mean.
fn mean(ratios: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = ratios.fold((0.0, 0.0), |(sum, count), ratio| {
        (sum + ratio.ln(), count + 1.0)
    });
    (count > 0.0).then(|| (f64::exp(sum / count) * 1000.0).round() / 1000.0)
}

#[expect(clippy::cast_precision_loss, reason = "counts of loads")]
fn fewer(plain: u64, routed: u64) -> Option<f64> {
    (plain > 0).then(|| ((1.0 - routed as f64 / plain as f64) * 1000.0).round() / 10.0)
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occur() {
        let of = |values: &[u64]| Quantiles::of(values.to_vec());
        let hundred: Vec<u64> = (1..=100).rev().collect();
        assert_eq!(
            of(&hundred),
            Quantiles {
                p50: 50,
                p95: 95,
                max: 100
            }
        );
        assert_eq!(
            of(&[7]),
            Quantiles {
                p50: 7,
                p95: 7,
                max: 7
            }
        );
        assert_eq!(
            of(&[]),
            Quantiles {
                p50: 0,
                p95: 0,
                max: 0
            }
        );
    }

    #[test]
    fn ratios_of_nothing_are_unknown() {
        assert_eq!((ratio(3, 0), fewer(0, 3)), (None, None));
        assert_eq!((ratio(23, 20), fewer(35, 1)), (Some(1.15), Some(97.1)));
    }
}
