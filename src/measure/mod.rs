//! Statistics, return on investment and receipts: what `bench` computes from what was observed.
//!
//! Every number is a [`Figure`] that says whether it was measured, derived, configured or is unknown; arithmetic with an unknown stays
//! unknown. Randomness comes in as a seeded [`Random`], dates and machines as data, so that [`check`] reproduces a report from its receipt
//! anywhere. Where the numbers come from (clocks, sockets, files) is the business of [`crate::cmd`].

mod cost;
mod energy;
mod figure;
mod gate;
mod paired;
pub mod proxy;
mod quality;
mod random;
mod receipt;
mod report;
mod roi;
mod statistics;

pub use cost::{CostInputs, CostReport, Price, PriceBasis, SOURCES_PRICE, cost};
pub use energy::{PowerSample, SLOWEST_SAMPLING_MS, above_idle, counted, integrated};
pub use figure::{Figure, Tag, Unit};
pub use gate::{Checks, Comparability, Obstacle, gate, least_checks};
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
pub use report::{Bench, Document, Report, report};
pub use roi::{
    Attention, Avoided, Basis, Electricity, Evidence, Hardware, Missing, Note, Payback, PayingApi,
    Power, RoiInputs, RoiReport, Rounding, Span, Time, Workload, roi,
};
pub use statistics::{
    Interval, MAX_RESAMPLES, RESAMPLES, bootstrap_mean, geometric_mean, mean, quantile, wilson,
};
