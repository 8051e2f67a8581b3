//! A replay of traces as observations: what the simulation counted of each trace, and what follows from it.
//!
//! Nothing in a simulation was measured on a machine. Its figures are `configured` where the trace came with the program, because then they
//! follow from nothing but typed numbers, and `derived` where somebody recorded it.

use serde::{Deserialize, Serialize};

use super::figure::{Figure, Unit};

/// What is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplaySettings {
    /// Decides everything that is random.
    pub seed: u64,
    /// What becomes of `num_ctx` under gpurouter.
    pub num_ctx: String,
    /// On how many nodes a model is loaded at once under gpurouter.
    pub copies: String,
    /// Names of the traces.
    pub traces: Vec<String>,
}

/// One trace under both policies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayObservation {
    /// Its name.
    pub trace: String,
    /// What it is.
    pub about: String,
    /// Whether plain Ollama loads models over and over in it.
    pub thrash: bool,
    /// The nodes.
    pub nodes: Vec<ReplayNode>,
    /// The fewest loads there could have been.
    pub optimum: ReplayOptimum,
    /// Without a router and with it.
    pub policies: Vec<ReplayRun>,
}

/// A simulated node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayNode {
    /// Name.
    pub name: String,
    /// GPU.
    pub gpu: String,
    /// Its memory.
    pub vram_bytes: u64,
    /// Requests that a model works on at once.
    pub parallel: u64,
}

/// The fewest loads.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayOptimum {
    /// So many.
    pub loads: Figure,
    /// Whether that is the optimum, or only a bound below it.
    pub exact: bool,
}

/// The middle, the 95th percentile and the most, milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayQuantiles {
    /// Half are below.
    pub p50: Figure,
    /// One in twenty is above.
    pub p95: Figure,
    /// None is above.
    pub max: Figure,
}

/// What one lane got.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayLane {
    /// Its name.
    pub lane: String,
    /// Requests that were answered.
    pub answered: Figure,
    /// From sending to the first token.
    pub ttft_ms: ReplayQuantiles,
    /// From sending to the end of the answer.
    pub total_ms: ReplayQuantiles,
}

/// How well times were predicted of which the node had seen 20 answers of the same model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayPredictions {
    /// Requests that had a prediction.
    pub made: Figure,
    /// Those whose time came within a fifth of it.
    pub within_20_percent: Figure,
    /// Those whose time lay in the range that should hold 80 %.
    pub in_range: Figure,
}

/// A trace under one policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayRun {
    /// `plain` or `gpurouter`.
    pub policy: String,
    /// Requests that were sent.
    pub requests: Figure,
    /// Requests that were answered to the end.
    pub answered: Figure,
    /// Requests whose node died or did not answer.
    pub failed: Figure,
    /// Requests that were refused with a reason.
    pub refused: Figure,
    /// Prompts that were cut without a word.
    pub truncated: Figure,
    /// Loads, reloads included.
    pub loads: Figure,
    /// Models thrown out to make room.
    pub evictions: Figure,
    /// Reloads that plain Ollama would have made.
    pub reloads_avoided: Figure,
    /// Milliseconds that they would have taken.
    pub avoided_ms: Figure,
    /// From sending to the begin of the work.
    pub wait_ms: ReplayQuantiles,
    /// By lane.
    pub lanes: Vec<ReplayLane>,
    /// Milliseconds of the whole trace.
    pub duration_ms: Figure,
    /// Of all nodes.
    pub energy_wh: Figure,
    /// Requests that waited longer than promised.
    pub starved: Figure,
    /// How well times were predicted.
    pub predictions: ReplayPredictions,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReplayReport {
    /// One for each trace.
    pub traces: Vec<ReplayedTrace>,
    /// All traces together.
    pub totals: ReplayTotals,
}

/// A trace with what follows from it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReplayedTrace {
    /// What was counted.
    #[serde(flatten)]
    pub observed: ReplayObservation,
    /// Loads under gpurouter over the fewest there could have been.
    pub loads_over_optimum: Figure,
    /// How many fewer loads than plain, in percent.
    pub fewer_loads_percent: Figure,
}

/// All traces together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReplayTotals {
    /// Requests.
    pub requests: Figure,
    /// Loads without a router.
    pub plain_loads: Figure,
    /// Loads with it.
    pub gpurouter_loads: Figure,
    /// The fewest loads, or bounds below them.
    pub optimum_loads: Figure,
    /// Loads under gpurouter over the fewest.
    pub loads_over_optimum: Figure,
    /// The geometric mean of the traces' own figures.
    pub loads_over_optimum_mean: Figure,
    /// The same over the traces whose optimum is exact.
    pub loads_over_exact_optimum: Figure,
    /// How many fewer loads than plain in the traces in which plain Ollama loads over and over, in percent.
    pub fewer_loads_percent: Figure,
    /// Requests that waited longer than promised.
    pub starved: Figure,
    /// Prompts cut without a word, without a router and with it.
    pub truncated: [Figure; 2],
    /// How well times were predicted.
    pub predictions: ReplayPredictions,
}

/// What follows from the traces.
pub(super) fn replayed(observations: &[ReplayObservation]) -> ReplayReport {
    let traces = observations.iter().map(|observed| {
        let [plain, ours] = ["plain", "gpurouter"].map(|name| loads(observed, name));
        ReplayedTrace {
            loads_over_optimum: ratio(ours, observed.optimum.loads),
            fewer_loads_percent: fewer(plain, ours),
            observed: observed.clone(),
        }
    });
    ReplayReport {
        traces: traces.collect(),
        totals: ReplayTotals::of(observations),
    }
}

fn run<'a>(trace: &'a ReplayObservation, policy: &str) -> Option<&'a ReplayRun> {
    trace.policies.iter().find(|run| run.policy == policy)
}

fn loads(trace: &ReplayObservation, policy: &str) -> Figure {
    run(trace, policy).map_or(Figure::unknown(Unit::Count), |run| run.loads)
}

/// The sum of what is there; unknown when nothing is, or when one of them is.
fn sum(figures: impl Iterator<Item = Figure>) -> Figure {
    figures
        .reduce(Figure::plus)
        .unwrap_or(Figure::unknown(Unit::Count))
}

/// To three decimals.
fn ratio(one: Figure, other: Figure) -> Figure {
    one.over(other, Unit::Ratio)
        .adjusted(Unit::Ratio, |ratio| (ratio * 1000.0).round() / 1000.0)
}

/// To one decimal.
fn fewer(plain: Figure, ours: Figure) -> Figure {
    ours.over(plain, Unit::Ratio)
        .adjusted(Unit::Percent, |left| ((1.0 - left) * 1000.0).round() / 10.0)
}

/// The geometric mean of what is known of the traces' own ratios, to three decimals.
fn mean(traces: &[ReplayObservation]) -> Figure {
    let own = traces
        .iter()
        .map(|trace| ratio(loads(trace, "gpurouter"), trace.optimum.loads))
        .filter(|ratio| ratio.is_known());
    let (count, sum) = own.fold((0.0, None::<Figure>), |(count, sum), ratio| {
        let log = ratio.adjusted(Unit::Ratio, f64::ln);
        (count + 1.0, Some(sum.map_or(log, |sum| sum.plus(log))))
    });
    sum.map_or(Figure::unknown(Unit::Ratio), |sum| {
        sum.adjusted(Unit::Ratio, |sum| {
            (f64::exp(sum / count) * 1000.0).round() / 1000.0
        })
    })
}

impl ReplayTotals {
    fn of(traces: &[ReplayObservation]) -> Self {
        let of = |policy: &str, figure: fn(&ReplayRun) -> Figure| {
            sum(traces
                .iter()
                .filter_map(|trace| run(trace, policy))
                .map(figure))
        };
        let both = |of: fn(&ReplayObservation) -> bool| {
            let some = || traces.iter().filter(move |trace| of(trace));
            let [plain, ours] =
                ["plain", "gpurouter"].map(|policy| sum(some().map(|trace| loads(trace, policy))));
            (plain, ours, sum(some().map(|trace| trace.optimum.loads)))
        };
        let (plain_loads, gpurouter_loads, optimum_loads) = both(|_| true);
        let (_, exact_ours, exact_optimum) = both(|trace| trace.optimum.exact);
        let (thrash_plain, thrash_ours, _) = both(|trace| trace.thrash);
        Self {
            requests: of("plain", |run| run.requests),
            plain_loads,
            gpurouter_loads,
            optimum_loads,
            loads_over_optimum: ratio(gpurouter_loads, optimum_loads),
            loads_over_optimum_mean: mean(traces),
            loads_over_exact_optimum: ratio(exact_ours, exact_optimum),
            fewer_loads_percent: fewer(thrash_plain, thrash_ours),
            starved: of("gpurouter", |run| run.starved),
            truncated: [
                of("plain", |run| run.truncated),
                of("gpurouter", |run| run.truncated),
            ],
            predictions: ReplayPredictions {
                made: of("gpurouter", |run| run.predictions.made),
                within_20_percent: of("gpurouter", |run| run.predictions.within_20_percent),
                in_range: of("gpurouter", |run| run.predictions.in_range),
            },
        }
    }
}
