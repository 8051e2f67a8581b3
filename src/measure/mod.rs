//! Statistics, return on investment and receipts: what `bench` computes from what was observed.
//!
//! Every number is a [`Figure`] that says whether it was measured, derived, configured or is unknown; arithmetic with an unknown stays
//! unknown. Randomness comes in as a seeded [`Random`], dates and machines as data, so that [`check`] reproduces a report from its receipt
//! anywhere. Where the numbers come from (clocks, sockets, files) is the business of [`crate::cmd`].

mod alloc;
mod concurrent;
mod cost;
mod energy;
mod figure;
mod gate;
mod observations;
mod paired;
pub mod proxy;
mod quality;
mod random;
mod receipt;
mod replayed;
mod report;
mod roi;
mod soak;
mod statistics;

pub use alloc::{AllocObservation, AllocReport, AllocSettings, Decisions, Known};
pub use concurrent::{ConcurrentObservation, ConcurrentReport, ConcurrentSettings, Way, Ways};
pub use cost::{CostInputs, CostReport, Price, PriceBasis, SOURCES_PRICE, cost};
pub use energy::{PowerSample, SLOWEST_SAMPLING_MS, above_idle, counted, integrated};
pub use figure::{Figure, Tag, Unit};
pub use gate::{Checks, Comparability, Obstacle, gate, least_checks};
pub use observations::{Numbered, Observable, Observations, Observed};
pub use paired::{
    Class, Group, LiveSettings, Observation, Outcome, PairedReport, PairedSettings, PairingError,
    Policy, PolicySummary, Speedup, Spread, Temperature, Tier, live_report, paired_report,
};
pub use quality::{Check, Reply, ToolCall};
pub use random::Random;
pub use receipt::{
    Checked, Closing, Finding, Header, MAX_OBSERVATIONS, Machine, Receipt, ReceiptError, Recorder,
    SCHEMA, check,
};
pub use replayed::{
    ReplayLane, ReplayNode, ReplayObservation, ReplayOptimum, ReplayPredictions, ReplayQuantiles,
    ReplayReport, ReplayRun, ReplaySettings, ReplayTotals, ReplayedTrace,
};
pub use report::{Bench, Document, Report, report};
pub use roi::{
    Attention, Avoided, Basis, Electricity, Evidence, Hardware, Missing, Note, Payback, PayingApi,
    Power, RoiInputs, RoiReport, Rounding, Span, Time, Workload, roi,
};
pub use soak::{
    BLOCKS, Failed, Failure, FailureFigure, Held, LATE_US, ServerFigures, SoakObservation,
    SoakReport, SoakSettings, Steady, Verdict,
};
pub use statistics::{
    Interval, MAX_RESAMPLES, RESAMPLES, bootstrap_mean, geometric_mean, mean, quantile, wilson,
};
