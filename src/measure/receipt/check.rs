//! Holding a receipt against itself.

use std::collections::HashMap;

use serde::Serialize;
use serde_json::Value;

use super::read::{Receipt, ReceiptError};
use crate::measure::observations::Observations;
use crate::measure::report::{Document, Report, report};

/// How far two numbers may differ as a share of the larger one and still be the same: logarithms of different C libraries differ in the last bits.
const SAME_NUMBER: f64 = 1e-12;

/// A receipt with the report that follows from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// The receipt.
    pub receipt: Receipt,
    /// What was recomputed from its observations.
    pub figures: Report,
    /// What does not agree; empty when the receipt holds.
    pub findings: Vec<Finding>,
}

/// Something in a receipt that does not agree with the rest.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "code", rename_all = "kebab-case")]
pub enum Finding {
    /// There is no report at its end: the run did not end, or the end was cut off.
    NoReport {
        /// Observations of pairs that are not whole; they are left out.
        unpaired: u64,
    },
    /// The lines before the report are not those that were sealed.
    Digest {
        /// What the last line says.
        stored: String,
        /// What the lines give.
        computed: String,
    },
    /// The last line counts other observations.
    Count {
        /// What the last line says.
        stored: u64,
        /// What is there.
        computed: u64,
    },
    /// The report says something else than what follows from the observations.
    Differs {
        /// Where in the report, such as `figures.time.money.value`.
        at: String,
        /// What the report says.
        stored: Value,
        /// What follows.
        computed: Value,
    },
}

/// Reads a receipt, recomputes its report from its header and observations alone, and compares it with the one that it ends with.
pub fn check(bytes: &[u8]) -> Result<Checked, ReceiptError> {
    let receipt = Receipt::read(bytes)?;
    let whole = match receipt.closing {
        Some(_) => receipt.observations.clone(),
        None => whole_pairs(&receipt),
    };
    let figures = report(&receipt.header.bench, &whole).map_err(ReceiptError::Pairing)?;
    let found = receipt.observations.len() as u64;
    let mut findings = Vec::new();
    if let Some(closing) = &receipt.closing {
        if closing.sha256 != receipt.sha256 {
            findings.push(Finding::Digest {
                stored: closing.sha256.clone(),
                computed: receipt.sha256.clone(),
            });
        }
        if closing.observations != found {
            findings.push(Finding::Count {
                stored: closing.observations,
                computed: found,
            });
        }
        let document = Document::new(&receipt.header, figures.clone());
        // A document of plain numbers and texts always is JSON; were it not, nothing would agree with it.
        let computed = serde_json::to_value(&document).unwrap_or(Value::Null);
        differences("", &closing.report, &computed, &mut findings);
    } else {
        findings.push(Finding::NoReport {
            unpaired: found - whole.len() as u64,
        });
    }
    Ok(Checked {
        receipt,
        figures,
        findings,
    })
}

/// The observations from which a report follows although the run did not end: of pairs those that were observed under both policies.
fn whole_pairs(receipt: &Receipt) -> Observations {
    let Observations::Live(all) = &receipt.observations else {
        return receipt.observations.clone();
    };
    let mut counts: HashMap<u64, u32> = HashMap::new();
    for observation in all {
        *counts.entry(observation.pair).or_default() += 1;
    }
    let whole = all
        .iter()
        .filter(|observation| counts.get(&observation.pair) != Some(&1));
    Observations::Live(whole.cloned().collect())
}

/// Every place where two documents differ.
fn differences(at: &str, stored: &Value, computed: &Value, findings: &mut Vec<Finding>) {
    let below = |name: &str| {
        if at.is_empty() {
            name.to_owned()
        } else {
            format!("{at}.{name}")
        }
    };
    match (stored, computed) {
        (Value::Object(one), Value::Object(two)) => {
            for (name, value) in one {
                differences(
                    &below(name),
                    value,
                    two.get(name).unwrap_or(&Value::Null),
                    findings,
                );
            }
            // `null` is said, not left out.
            for (name, value) in two.iter().filter(|(name, _)| !one.contains_key(*name)) {
                push(below(name), &Value::Null, value, findings);
            }
            for (name, value) in one.iter().filter(|(name, _)| !two.contains_key(*name)) {
                if value.is_null() {
                    push(below(name), value, &Value::Null, findings);
                }
            }
        }
        (Value::Array(one), Value::Array(two)) => {
            for index in 0..one.len().max(two.len()) {
                let of = |list: &[Value]| list.get(index).cloned().unwrap_or(Value::Null);
                differences(&below(&index.to_string()), &of(one), &of(two), findings);
            }
            if one.len() != two.len() {
                push(
                    below("length"),
                    &one.len().into(),
                    &two.len().into(),
                    findings,
                );
            }
        }
        _ if same(stored, computed) => {}
        _ => push(at.to_owned(), stored, computed, findings),
    }
}

fn push(at: String, stored: &Value, computed: &Value, findings: &mut Vec<Finding>) {
    findings.push(Finding::Differs {
        at,
        stored: stored.clone(),
        computed: computed.clone(),
    });
}

fn same(stored: &Value, computed: &Value) -> bool {
    match (stored, computed) {
        (Value::Number(one), Value::Number(two)) if one.is_f64() && two.is_f64() => {
            let (one, two) = (one.as_f64(), two.as_f64());
            one.zip(two).is_some_and(|(one, two)| {
                (one - two).abs() <= SAME_NUMBER * one.abs().max(two.abs())
            })
        }
        _ => stored == computed,
    }
}
