//! The kinds of benchmark: their settings, their reports, and the document that a report is told in.

use serde::{Deserialize, Serialize};

use super::alloc::{AllocReport, AllocSettings, alloc};
use super::concurrent::{ConcurrentReport, ConcurrentSettings, concurrent};
use super::cost::{CostInputs, CostReport, cost};
use super::observations::Observations;
use super::paired::{LiveSettings, PairedReport, PairingError, live_report};
use super::proxy;
use super::receipt::{Header, Machine};
use super::replayed::{ReplayReport, ReplaySettings, replayed};
use super::roi::{RoiInputs, RoiReport, roi};
use super::soak::{SoakReport, SoakSettings, soak};

/// A kind of benchmark with everything that was set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    content = "settings",
    rename_all = "kebab-case",
    deny_unknown_fields
)]
pub enum Bench {
    /// Return on investment, from numbers that somebody gave.
    Roi(Box<RoiInputs>),
    /// What a number of tokens costs.
    Cost(CostInputs),
    /// Requests of a trace under two policies.
    Live(LiveSettings),
    /// The router beside other proxies.
    Proxy(proxy::Settings),
    /// Places for models on simulated GPUs.
    Alloc(AllocSettings),
    /// Two requests at once.
    Concurrent(ConcurrentSettings),
    /// A constant rate of requests for a long time.
    Soak(SoakSettings),
    /// Traces over simulated nodes.
    Replay(ReplaySettings),
}

/// What a benchmark found.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Report {
    /// Of [`Bench::Roi`].
    Roi(Box<RoiReport>),
    /// Of [`Bench::Cost`].
    Cost(CostReport),
    /// Of [`Bench::Live`].
    Live(Box<PairedReport>),
    /// Of [`Bench::Proxy`].
    Proxy(Box<proxy::Report>),
    /// Of [`Bench::Alloc`].
    Alloc(AllocReport),
    /// Of [`Bench::Concurrent`].
    Concurrent(Box<ConcurrentReport>),
    /// Of [`Bench::Soak`].
    Soak(Box<SoakReport>),
    /// Of [`Bench::Replay`].
    Replay(Box<ReplayReport>),
}

/// Computes the report of a benchmark from its settings and what was observed, and from nothing else; observations of another kind are none.
pub fn report(bench: &Bench, observations: &Observations) -> Result<Report, PairingError> {
    Ok(match (bench, observations) {
        (Bench::Roi(inputs), _) => Report::Roi(Box::new(roi(inputs))),
        (Bench::Cost(inputs), _) => Report::Cost(cost(inputs)),
        (Bench::Live(settings), Observations::Live(all)) => {
            Report::Live(Box::new(live_report(all, settings)?))
        }
        (Bench::Proxy(settings), Observations::Proxy(all)) => {
            Report::Proxy(Box::new(proxy::report(settings, all)))
        }
        (Bench::Alloc(settings), Observations::Alloc(all)) => Report::Alloc(alloc(settings, all)),
        (Bench::Concurrent(settings), Observations::Concurrent(all)) => {
            Report::Concurrent(Box::new(concurrent(settings, all)))
        }
        (Bench::Soak(settings), Observations::Soak(all)) => {
            Report::Soak(Box::new(soak(settings, all)))
        }
        (Bench::Replay(_), Observations::Replay(all)) => Report::Replay(Box::new(replayed(all))),
        (bench, _) => report(bench, &Observations::of(bench))?,
    })
}

/// A report with what it is a report of: what `--json` prints and what a receipt ends with.
#[derive(Debug, Clone, Serialize)]
pub struct Document<'a> {
    schema: u32,
    version: &'a str,
    date: &'a str,
    machine: &'a Machine,
    #[serde(flatten)]
    bench: &'a Bench,
    /// The figures.
    pub figures: Report,
}

impl<'a> Document<'a> {
    /// The document of a benchmark.
    pub fn new(header: &'a Header, figures: Report) -> Self {
        Self {
            schema: header.schema,
            version: &header.version,
            date: &header.date,
            machine: &header.machine,
            bench: &header.bench,
            figures,
        }
    }
}
