//! The kinds of benchmark: their settings, their reports, and the document that a report is told in.

use serde::{Deserialize, Serialize};

use super::cost::{CostInputs, CostReport, cost};
use super::paired::{LiveSettings, Observation, PairedReport, PairingError, live_report};
use super::receipt::{Header, Machine};
use super::roi::{RoiInputs, RoiReport, roi};

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
}

impl Bench {
    /// Whether it observes anything; otherwise its report follows from its settings.
    pub fn observes(&self) -> bool {
        match self {
            Self::Live(_) => true,
            Self::Roi(_) | Self::Cost(_) => false,
        }
    }
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
}

/// Computes the report of a benchmark from its settings and what was observed, and from nothing else.
pub fn report(bench: &Bench, observations: &[Observation]) -> Result<Report, PairingError> {
    Ok(match bench {
        Bench::Roi(inputs) => Report::Roi(Box::new(roi(inputs))),
        Bench::Cost(inputs) => Report::Cost(cost(inputs)),
        Bench::Live(settings) => {
            Report::Live(Box::new(live_report(observations, settings)?))
        }
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
