//! Reports of a few lines: decisions on simulated GPUs, two requests at once, and a replay that was read from a receipt.

use std::io::{self, Write};

use serde_json::{Number, Value, json};

use crate::measure::{
    AllocReport, AllocSettings, ConcurrentReport, ConcurrentSettings, Decisions, Figure,
    ReplayReport, ReplaySettings, Ways,
};

pub(super) fn alloc(
    out: &mut dyn Write,
    settings: &AllocSettings,
    report: &AllocReport,
) -> io::Result<()> {
    writeln!(
        out,
        "{} simulated GPUs of 8 to 80 GiB, {} decisions of each kind{}",
        settings.count,
        settings.iterations,
        if settings.optimised {
            ""
        } else {
            ", an unoptimised build"
        }
    )?;
    writeln!(
        out,
        "{:<22}{:>12}{:>10}{:>10}{:>10}  TAG",
        "MODEL KNOWN BY", "PER SECOND", "P50", "P99", "MAX"
    )?;
    for kind in &report.kinds {
        writeln!(out, "{}", decisions(kind))?;
    }
    let verdict = if report.below_limit {
        "below"
    } else {
        "NOT below"
    };
    writeln!(out, "the p99 is {verdict} {} ms", settings.limit_ms)
}

fn decisions(kind: &Decisions) -> String {
    let time = |figure: Figure| match figure.value() {
        Some(ms) if ms < 1.0 => format!("{:.1} us", ms * 1000.0),
        Some(ms) => format!("{ms:.2} ms"),
        None => "n/a".to_owned(),
    };
    let rate = kind
        .per_second
        .value()
        .map_or_else(|| "n/a".to_owned(), |rate| format!("{rate:.0}"));
    format!(
        "{:<22}{rate:>12}{:>10}{:>10}{:>10}  {}",
        kind.known.as_str(),
        time(kind.p50),
        time(kind.p99),
        time(kind.max),
        kind.p99.tag().as_str()
    )
}

pub(super) fn concurrent(
    out: &mut dyn Write,
    settings: &ConcurrentSettings,
    report: &ConcurrentReport,
) -> io::Result<()> {
    let [one, two] = &settings.names;
    let [first, second] = &settings.models;
    writeln!(
        out,
        "two requests, {first} on {one} and {second} on {two}, {} runs",
        settings.repeats
    )?;
    writeln!(
        out,
        "{:<20}{:>14}{:>14}{:>22}  TAG",
        "MEDIANS", "ONE BY ONE", "AT ONCE", "RATIO"
    )?;
    writeln!(out, "{}", ways("directly", &report.direct))?;
    writeln!(out, "{}", ways("through gpurouter", &report.routed))?;
    let apart = report
        .on_two_nodes
        .value()
        .map_or_else(|| "n/a".to_owned(), |count| format!("{count:.0}"));
    writeln!(
        out,
        "the router sent the two to different nodes in {apart} of {} runs; 2.00x is what\ntwo equal nodes can do, 1.00x is what one does",
        settings.repeats
    )
}

fn ways(label: &str, ways: &Ways) -> String {
    let ms = |figure: Figure| {
        figure
            .value()
            .map_or_else(|| "n/a".to_owned(), |ms| format!("{ms:.0} ms"))
    };
    let ratio = ways
        .ratio
        .value()
        .map_or_else(|| "n/a".to_owned(), |ratio| format!("{ratio:.2}x"));
    let interval = ways.low.value().zip(ways.high.value());
    let interval =
        interval.map_or_else(String::new, |(low, high)| format!(" [{low:.2}, {high:.2}]"));
    format!(
        "{label:<20}{:>14}{:>14}{:>22}  {}",
        ms(ways.apart_p50),
        ms(ways.together_p50),
        format!("{ratio}{interval}"),
        ways.ratio.tag().as_str()
    )
}

/// As `bench replay` prints it.
pub(super) fn replay(
    out: &mut dyn Write,
    settings: &ReplaySettings,
    report: &ReplayReport,
) -> io::Result<()> {
    let figures = serde_json::to_value(report).map_err(io::Error::other)?;
    let mut document = plain(figures);
    document["seed"] = json!(settings.seed);
    crate::render::replay(out, &document)
}

/// The values of figures without units and origins; things that are counted as whole numbers.
fn plain(value: Value) -> Value {
    match value {
        Value::Object(fields) if fields.contains_key("tag") => {
            let counted = fields
                .get("unit")
                .is_some_and(|unit| unit == "count" || unit == "milliseconds");
            let number = fields.get("value").cloned().unwrap_or_default();
            match number.as_f64() {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "whole and far below 2^53"
                )]
                Some(whole) if counted && whole >= 0.0 => Number::from(whole as u64).into(),
                _ => number,
            }
        }
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (name, plain(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(plain).collect(),
        other => other,
    }
}
