//! Reports of benchmarks as text of 80 columns.

mod few;
mod figure;
mod live;
mod proxy;
mod roi;
mod soak;

use std::io::{self, Write};

use crate::measure::{Bench, CostInputs, CostReport, Finding, Header, PriceBasis, Receipt, Report};

use figure::{Currency, trimmed};

/// Most findings that are told one by one.
const MOST_FINDINGS: usize = 12;

/// A report for a person.
pub fn bench(out: &mut dyn Write, header: &Header, report: &Report) -> io::Result<()> {
    match (&header.bench, report) {
        (Bench::Roi(inputs), Report::Roi(report)) => roi::roi(out, inputs, report),
        (Bench::Cost(inputs), Report::Cost(report)) => cost(out, inputs, report),
        (Bench::Live(settings), Report::Live(report)) => live::live(out, settings, report),
        (Bench::Proxy(settings), Report::Proxy(report)) => {
            proxy::proxy(out, header, settings, report)
        }
        (Bench::Alloc(settings), Report::Alloc(report)) => few::alloc(out, settings, report),
        (Bench::Concurrent(settings), Report::Concurrent(report)) => {
            few::concurrent(out, settings, report)
        }
        (Bench::Soak(settings), Report::Soak(report)) => soak::soak(out, header, settings, report),
        (Bench::Replay(settings), Report::Replay(report)) => few::replay(out, settings, report),
        // `measure::report` returns the kind that it was asked for.
        _ => Ok(()),
    }
}

/// A report's times as bars.
pub fn chart(out: &mut dyn Write, report: &Report) -> io::Result<()> {
    match report {
        Report::Live(report) => live::chart(out, report),
        _ => Ok(()),
    }
}

/// Whether a receipt holds, and what in it does not agree.
pub fn verdict(out: &mut dyn Write, receipt: &Receipt, findings: &[Finding]) -> io::Result<()> {
    writeln!(out)?;
    let observations = receipt.observations.len();
    if findings.is_empty() {
        let source = match observations {
            0 => "its settings".to_owned(),
            1 => "its one observation".to_owned(),
            count => format!("its {count} observations"),
        };
        let told = format!("the receipt holds: the same report follows from {source}");
        return sentence(out, "", &told);
    }
    for finding in findings.iter().take(MOST_FINDINGS) {
        let told = match finding {
            Finding::NoReport { unpaired: 0 } => format!(
                "there is no report at the end: the run did not end, or its end was cut off; what is above follows from {observations} observations"
            ),
            Finding::NoReport { unpaired } => format!(
                "there is no report at the end: the run did not end, or its end was cut off; what is above follows from {observations} observations, {unpaired} of them left out because their pairs are not whole"
            ),
            Finding::Digest { stored, computed } => format!(
                "its lines were changed after they were written: they have the digest {computed}, not {stored}"
            ),
            Finding::Count { stored, computed } => {
                format!("it counts {stored} observations and holds {computed}")
            }
            Finding::Differs {
                at,
                stored,
                computed,
            } => format!(
                "{at}: the report says {}, what it is computed from says {}",
                short(stored),
                short(computed)
            ),
        };
        sentence(out, "does not hold: ", &told)?;
    }
    match findings.len().saturating_sub(MOST_FINDINGS) {
        0 => Ok(()),
        more => writeln!(out, "               and {more} more; --json lists them all"),
    }
}

/// A value of a report, cut where it is long.
fn short(value: &serde_json::Value) -> String {
    const LONGEST: usize = 40;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

fn cost(out: &mut dyn Write, inputs: &CostInputs, report: &CostReport) -> io::Result<()> {
    let currency = Currency::new(&inputs.currency);
    let exact = report
        .cost
        .value()
        .map_or_else(figure::unknown, |money| currency.exact(money));
    let short = report
        .cost
        .value()
        .map(|money| format!("  ({})", currency.of(money, 4)));
    let tokens = report.tokens.value().unwrap_or_default();
    row(
        out,
        "cost",
        &format!("{exact}{}", short.unwrap_or_default()),
        report.cost,
    )?;
    let price = |figure: crate::measure::Figure| currency.text(figure);
    let (input, cached, output) = (
        price(inputs.price.input),
        price(inputs.price.cached_input),
        price(inputs.price.output),
    );
    let whose = price_of(&inputs.price.basis);
    let told = match &inputs.price.basis {
        PriceBasis::Sheet { .. } => {
            format!("{whose}, per million: prompt {input}, cached {cached}, answer {output}")
        }
        PriceBasis::Sources | PriceBasis::None => whose,
    };
    sentence(out, "", &format!("{} tokens at {told}", trimmed(tokens, 0)))
}

/// Whose prices they are.
fn price_of(basis: &PriceBasis) -> String {
    match basis {
        PriceBasis::Sources => "the source documents' $0.02 per thousand, prompt and answer alike: nobody's price list, and no price is configured".to_owned(),
        PriceBasis::Sheet {
            model,
            as_of: Some(date),
        } => format!("{model} as of {date}"),
        PriceBasis::Sheet { model, as_of: None } => format!("{model}, without a date"),
        PriceBasis::None => "no API price is configured".to_owned(),
    }
}

/// The machine that a benchmark ran on, in a few words.
fn machine_of(header: &Header) -> String {
    let machine = &header.machine;
    let cores = machine
        .cores
        .map_or_else(String::new, |cores| format!("{cores} x "));
    let cpu = machine.cpu.as_deref().unwrap_or("an unknown processor");
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let memory = machine.memory_bytes.map_or_else(String::new, |bytes| {
        format!(", {:.0} GiB", bytes as f64 / 1_073_741_824.0)
    });
    format!(
        "{}, gpurouter {} on {cores}{cpu}{memory}, {}/{}",
        header.date, header.version, machine.os, machine.arch
    )
}

/// A label, a value, and where the value comes from.
fn row(
    out: &mut dyn Write,
    label: &str,
    value: &str,
    figure: crate::measure::Figure,
) -> io::Result<()> {
    writeln!(out, "{label:<22}{value:<44}  {}", figure.tag().as_str())
}

/// A sentence behind its label, broken at 80 columns.
fn sentence(out: &mut dyn Write, label: &str, text: &str) -> io::Result<()> {
    super::tables::sentence(out, label, &text.into())
}
