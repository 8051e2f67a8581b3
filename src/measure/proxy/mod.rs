//! `bench proxy`: what was observed, and the report that follows from it.
//!
//! [`report`] is a pure function of the [`Run`] and its [`Observation`]s, which are plain data: whoever stores them can
//! make the report again.

mod document;
mod figures;
mod observed;
mod report;
mod spread;

pub use figures::{CONNECTIONS, SIZES, STREAMS, Section, Unit};
pub use observed::{Case, End, Form, Machine, Moment, Observation, Run, Seen, Target, Times, Window};
pub use report::{Cut, Figure, Headroom, Ratio, Report, Warning, report};
pub use spread::{Spread, quantile};

/// The name of the way without a proxy.
pub const DIRECT: &str = "direct";
/// The name of this program's own router.
pub const ROUTER: &str = "gpurouter";
