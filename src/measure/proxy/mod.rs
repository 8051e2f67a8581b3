//! `bench proxy`: what was observed, and the report that follows from it.
//!
//! [`report()`] is a pure function of the [`Settings`] and the [`Observation`]s, which are plain data: whoever stores them can
//! make the report again.

mod compare;
mod document;
mod figures;
mod index;
mod observed;
mod report;
mod spread;
#[cfg(test)]
mod tests;
mod warnings;

pub use figures::{CONNECTIONS, SIZES, STREAMS, Section, Unit};
pub use observed::{Case, End, Form, Moment, Observation, Seen, Settings, Target, Times, Window};
pub use report::{Cut, Figure, Headroom, Ratio, Report, Warning, report};
pub use spread::{Spread, quantile};

/// The name of the way without a proxy.
pub const DIRECT: &str = "direct";
/// Stands for the machine where an observation concerns no target.
pub const MACHINE: &str = "machine";
/// The name of this program's own router.
pub const ROUTER: &str = "gpurouter";
/// The share of the machine's processors that other programs may use without disturbing.
pub const CALM: f64 = 0.05;
/// The most rounds that a run may have; enough for a night.
pub const MAX_ROUNDS: u32 = 10_000;
