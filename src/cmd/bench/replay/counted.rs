//! The receipt of `bench replay`: what the simulation counted, as figures.

use std::path::Path;

use serde::Serialize;

use super::super::{header, receipt};
use crate::cli::Global;
use crate::measure::{
    Bench, Document, Figure, Observations, ReplayLane, ReplayNode, ReplayObservation,
    ReplayOptimum, ReplayPredictions, ReplayQuantiles, ReplayRun, ReplaySettings, Unit, report,
};
use crate::replay::{LaneReport, PolicyReport, Quantiles, Report, TraceReport};

/// Writes it. The first `recorded` traces are somebody's, the others came with the program.
pub(super) fn receipt(
    global: &Global,
    file: &Path,
    replayed: &Report,
    recorded: usize,
) -> anyhow::Result<()> {
    let settings = ReplaySettings {
        seed: replayed.seed,
        num_ctx: word(&replayed.rules.num_ctx),
        copies: word(&replayed.rules.copies),
        traces: replayed
            .traces
            .iter()
            .map(|trace| trace.trace.clone())
            .collect(),
    };
    let header = header(global, Bench::Replay(settings));
    let mut out = receipt::start(file, &header)?;
    let mut counted = Vec::with_capacity(replayed.traces.len());
    for (index, trace) in replayed.traces.iter().enumerate() {
        let origin = Origin {
            recorded: index < recorded,
        };
        let observation = origin.trace(trace);
        out.observe(&observation)?;
        counted.push(observation);
    }
    let figures = report(&header.bench, &Observations::Replay(counted))?;
    Ok(out.finish(&Document::new(&header, figures))?)
}

/// A word as documents write it.
fn word(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

/// Where the numbers of a trace come from.
#[derive(Clone, Copy)]
struct Origin {
    recorded: bool,
}

impl Origin {
    fn figure(self, value: f64, unit: Unit) -> Figure {
        if self.recorded {
            Figure::derived(value, unit)
        } else {
            Figure::configured(value, unit)
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "counts and milliseconds far below 2^53"
    )]
    fn count(self, count: u64) -> Figure {
        self.figure(count as f64, Unit::Count)
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "counts and milliseconds far below 2^53"
    )]
    fn ms(self, ms: u64) -> Figure {
        self.figure(ms as f64, Unit::Milliseconds)
    }

    fn maybe(self, count: Option<u64>) -> Figure {
        count.map_or(Figure::unknown(Unit::Count), |count| self.count(count))
    }

    fn trace(self, trace: &TraceReport) -> ReplayObservation {
        ReplayObservation {
            trace: trace.trace.clone(),
            about: trace.about.clone(),
            thrash: trace.thrash,
            nodes: trace
                .nodes
                .iter()
                .map(|node| ReplayNode {
                    name: node.name.clone(),
                    gpu: node.gpu.clone(),
                    vram_bytes: node.vram_bytes,
                    parallel: node.parallel as u64,
                })
                .collect(),
            optimum: ReplayOptimum {
                loads: self.count(trace.optimum.loads),
                exact: trace.optimum.exact,
            },
            policies: trace.policies.iter().map(|run| self.run(run)).collect(),
        }
    }

    fn run(self, run: &PolicyReport) -> ReplayRun {
        let predicted =
            |of: fn(crate::replay::Predictions) -> u64| self.maybe(run.predictions.map(of));
        ReplayRun {
            policy: run.policy.to_owned(),
            requests: self.count(run.requests),
            answered: self.count(run.answered),
            failed: self.count(run.failed),
            refused: self.count(run.refused),
            truncated: self.count(run.truncated),
            loads: self.count(run.loads),
            evictions: self.count(run.evictions),
            reloads_avoided: self.maybe(run.reloads_avoided),
            avoided_ms: run
                .avoided_ms
                .map_or(Figure::unknown(Unit::Milliseconds), |ms| self.ms(ms)),
            wait_ms: self.quantiles(run.wait_ms),
            lanes: run.lanes.iter().map(|lane| self.lane(lane)).collect(),
            duration_ms: self.ms(run.duration_ms),
            energy_wh: run
                .energy_wh
                .map_or(Figure::unknown(Unit::WattHours), |wh| {
                    self.figure(wh, Unit::WattHours)
                }),
            starved: self.maybe(run.starvation.map(|starvation| starvation.starved)),
            predictions: ReplayPredictions {
                made: predicted(|one| one.made),
                within_20_percent: predicted(|one| one.within_20_percent),
                in_range: predicted(|one| one.in_range),
            },
        }
    }

    fn lane(self, lane: &LaneReport) -> ReplayLane {
        ReplayLane {
            lane: word(&lane.lane),
            answered: self.count(lane.answered),
            ttft_ms: self.quantiles(lane.ttft_ms),
            total_ms: self.quantiles(lane.total_ms),
        }
    }

    fn quantiles(self, of: Quantiles) -> ReplayQuantiles {
        ReplayQuantiles {
            p50: self.ms(of.p50),
            p95: self.ms(of.p95),
            max: self.ms(of.max),
        }
    }
}
