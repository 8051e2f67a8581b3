//! Reading a receipt.

use std::fmt;

use serde_json::Value;

use super::{Closing, Frame, Header, Line, MAX_OBSERVATIONS, SCHEMA, Seal};
use crate::measure::observations::{Observations, Observed};
use crate::measure::paired::PairingError;

/// A receipt as it was read. That its lines are well formed does not mean that they are true.
#[derive(Debug, Clone, PartialEq)]
pub struct Receipt {
    /// What was measured, how, where and when.
    pub header: Header,
    /// What was observed, in the order of observation.
    pub observations: Observations,
    /// The report; `None` when the run did not end.
    pub closing: Option<Closing>,
    /// SHA-256 of what comes before the report.
    pub sha256: String,
}

/// Why a receipt cannot be read or recomputed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReceiptError {
    /// It holds nothing.
    Empty,
    /// It was written in a version of the format that is not known here.
    Schema {
        /// That version.
        found: String,
    },
    /// A line is not what it should be.
    Line {
        /// Its number, from 1.
        number: usize,
        /// What is wrong with it.
        problem: Problem,
    },
    /// Its lines are well formed but are no observations from which a report follows.
    Pairing(PairingError),
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// It is no JSON, or no line of a receipt; the parser's words.
    Malformed(String),
    /// The first line is not a header, or another one is.
    Header,
    /// It comes after the report.
    AfterReport,
    /// An observation is missing, twice there, or at another place.
    Order {
        /// The number that belongs here.
        expected: u64,
        /// The number that is here.
        found: u64,
    },
    /// There are more observations than [`MAX_OBSERVATIONS`].
    TooMany,
    /// Its kind of benchmark has no observations.
    NoObservations,
    /// It is an observation of another kind of benchmark.
    OtherKind,
}

impl ReceiptError {
    /// Whether what was read is a receipt of this format at all, though one that contradicts itself.
    pub fn is_contradiction(&self) -> bool {
        match self {
            Self::Pairing(_) => true,
            Self::Line { problem, .. } => matches!(
                problem,
                Problem::Order { .. } | Problem::Header | Problem::AfterReport | Problem::OtherKind
            ),
            Self::Empty | Self::Schema { .. } => false,
        }
    }
}

impl fmt::Display for ReceiptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "it is empty"),
            Self::Schema { found } => write!(
                f,
                "it is a receipt of version {found}; this gpurouter reads version {SCHEMA}"
            ),
            Self::Line { number, problem } => write!(f, "line {number}: {problem}"),
            Self::Pairing(error) => write!(f, "{error}"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(told) => f.write_str(told),
            Self::Header => write!(f, "the header must be the first line, and only that"),
            Self::AfterReport => write!(f, "nothing may come after the report"),
            Self::Order { expected, found } => {
                write!(f, "observation {found} where {expected} should be")
            }
            Self::TooMany => write!(f, "more than {MAX_OBSERVATIONS} observations"),
            Self::NoObservations => write!(f, "this kind of benchmark has no observations"),
            Self::OtherKind => write!(f, "an observation of another kind of benchmark"),
        }
    }
}

impl std::error::Error for ReceiptError {}

impl Receipt {
    /// Reads a receipt. A last line without its end is what a crash left of it; it is passed over.
    pub fn read(bytes: &[u8]) -> Result<Self, ReceiptError> {
        let whole = bytes.iter().rposition(|byte| *byte == b'\n');
        let whole = bytes.get(..whole.map_or(0, |end| end + 1)).unwrap_or(&[]);
        let mut lines = whole.split_inclusive(|byte| *byte == b'\n').enumerate();
        let Some((_, first)) = lines.next() else {
            return Err(ReceiptError::Empty);
        };
        let mut seal = Seal::new();
        seal.add(first);
        let header = header(first)?;
        let mut receipt = Self {
            observations: Observations::of(&header.bench),
            header,
            closing: None,
            sha256: String::new(),
        };
        for (index, text) in lines {
            let at = |problem| ReceiptError::Line {
                number: index + 1,
                problem,
            };
            if receipt.closing.is_some() {
                return Err(at(Problem::AfterReport));
            }
            match parse(text).map_err(at)? {
                Line::Frame(Frame::Header(_)) => return Err(at(Problem::Header)),
                Line::Frame(Frame::Report(closing)) => receipt.closing = Some(closing),
                Line::Observed(observed) => {
                    receipt.add(observed).map_err(at)?;
                    seal.add(text);
                }
            }
        }
        receipt.sha256 = seal.hex();
        Ok(receipt)
    }

    fn add(&mut self, observed: Observed) -> Result<(), Problem> {
        let (expected, found) = (self.observations.len() as u64, observed.n());
        if self.observations == Observations::None {
            return Err(Problem::NoObservations);
        }
        if found != expected {
            return Err(Problem::Order { expected, found });
        }
        if expected == MAX_OBSERVATIONS {
            return Err(Problem::TooMany);
        }
        if self.observations.add(observed) {
            Ok(())
        } else {
            Err(Problem::OtherKind)
        }
    }
}

/// A line by what it says it is: the first and the last one frame the observations.
fn parse(line: &[u8]) -> Result<Line, Problem> {
    #[derive(serde::Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        line: Option<std::borrow::Cow<'a, str>>,
    }
    let told = |error: serde_json::Error| Problem::Malformed(error.to_string());
    let named: Named<'_> = serde_json::from_slice(line).map_err(told)?;
    Ok(match named.line.as_deref() {
        Some("header" | "report") => Line::Frame(serde_json::from_slice(line).map_err(told)?),
        _ => Line::Observed(serde_json::from_slice(line).map_err(told)?),
    })
}

/// The header. Its version is looked at first, because a later format may have other fields.
fn header(line: &[u8]) -> Result<Header, ReceiptError> {
    let at = |problem| ReceiptError::Line { number: 1, problem };
    let value: Value =
        serde_json::from_slice(line).map_err(|error| at(Problem::Malformed(error.to_string())))?;
    match value.get("schema") {
        Some(schema) if *schema != SCHEMA => Err(ReceiptError::Schema {
            found: schema.to_string(),
        }),
        _ => match parse(line).map_err(at)? {
            Line::Frame(Frame::Header(header)) => Ok(*header),
            Line::Frame(Frame::Report(_)) | Line::Observed(_) => Err(at(Problem::Header)),
        },
    }
}
