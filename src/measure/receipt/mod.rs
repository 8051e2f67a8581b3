//! Receipts: JSON lines from which anyone can recompute a report.
//!
//! The first line, the header, names the kind of benchmark with all its settings, the program, the machine and the date. Then comes a line per
//! observation, numbered from 0. The last line holds the report and the SHA-256 digest of all bytes before it, which
//! `head -n -1 FILE | sha256sum` prints as well. Every line is written when it is known, so that what a crash leaves behind is still of use.
//!
//! A further kind of benchmark is a variant of [`Bench`], of [`Report`](super::Report) and, where it observes anything, of
//! [`Observations`](super::Observations) and of [`Observed`].

mod check;
mod read;
mod write;

pub use check::{Checked, Finding, check};
pub use read::{Receipt, ReceiptError};
pub use write::Recorder;

use std::fmt::Write;

use ring::digest::{Context, Digest};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::observations::Observed;
use super::report::Bench;

/// The version of the format that is written and read.
pub const SCHEMA: u32 = 1;
/// Most observations that a receipt may hold.
pub const MAX_OBSERVATIONS: u64 = 1_000_000;

/// The machine that a benchmark ran on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Operating system.
    pub os: String,
    /// Processor architecture.
    pub arch: String,
    /// Name of the processor.
    pub cpu: Option<String>,
    /// Processors that the program may use.
    pub cores: Option<u64>,
    /// Main memory.
    pub memory_bytes: Option<u64>,
    /// Names of the GPUs; `None` when nobody looked.
    pub gpus: Option<Vec<String>>,
}

/// The first line: what was measured, how, by which program, where and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Version of the format.
    pub schema: u32,
    /// Version of the program that wrote it.
    pub version: String,
    /// When it began, RFC 3339 in UTC.
    pub date: String,
    /// Where.
    pub machine: Machine,
    /// The kind of benchmark with everything that was set.
    pub bench: Bench,
}

/// The last line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Closing {
    /// How many observations there are.
    pub observations: u64,
    /// SHA-256 of all bytes before this line, in hexadecimal digits.
    pub sha256: String,
    /// The report as it was told.
    pub report: Value,
}

/// A line of a receipt.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
enum Line {
    Frame(Frame),
    Observed(Observed),
}

/// The first line and the last one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "kebab-case")]
enum Frame {
    Header(Box<Header>),
    Report(Closing),
}

/// A digest of everything so far.
struct Seal(Context);

impl Seal {
    fn new() -> Self {
        Self(Context::new(&ring::digest::SHA256))
    }

    fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn hex(&self) -> String {
        let digest: Digest = self.0.clone().finish();
        digest.as_ref().iter().fold(String::new(), |mut hex, byte| {
            // A string takes whatever is written to it.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

#[cfg(test)]
mod kinds_tests;
#[cfg(test)]
mod tests;
