//! `bench soak`: what a constant rate of requests met, and whether the server stays as it was.

use std::io::{self, Write};

use super::figure::{grouped, text};
use super::{machine_of, row, sentence};
use crate::measure::{
    BLOCKS, Failure, Figure, Header, LATE_US, SoakReport, SoakSettings, Steady, Unit, Verdict,
};

pub(super) fn soak(
    out: &mut dyn Write,
    header: &Header,
    settings: &SoakSettings,
    report: &SoakReport,
) -> io::Result<()> {
    let heading = format!(
        "{}: {} for {}, {} requests/s",
        machine_of(header),
        settings.url,
        seconds(report.elapsed),
        super::trimmed(settings.rps, 3)
    );
    sentence(out, "", &heading)?;
    writeln!(out)?;
    let requests = format!(
        "{} due, {} answered, {} failed",
        text(report.due),
        text(report.answered),
        text(report.failed)
    );
    row(out, "requests", &requests, report.due)?;
    for failure in &report.failures {
        let told = format!("{} x {}", text(failure.count), of(failure.kind));
        row(out, "", &told, failure.count)?;
    }
    let times = format!(
        "p50 {}, p99 {}, max {}",
        text(report.p50),
        text(report.p99),
        text(report.max)
    );
    row(out, "from due to answered", &times, report.p50)?;
    let late = format!(
        "{} by more than {} ms; {} connections opened",
        text(report.late),
        LATE_US / 1000,
        text(report.opened)
    );
    row(out, "sent late", &late, report.late)?;
    writeln!(out)?;
    let Some(server) = &report.server else {
        return sentence(
            out,
            "",
            "No process of the server was found on this machine: its memory and descriptors are unknown. --pid N names it.",
        );
    };
    let whose = format!(
        "{} ({})",
        settings.program.as_deref().unwrap_or("server"),
        settings
            .pids
            .iter()
            .map(u32::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    );
    let whose: String = whose.chars().take(21).collect();
    writeln!(
        out,
        "{whose:<22}{:>11}{:>11}{:>11}  ADDED, 95 %",
        "START", "MIDDLE", "END"
    )?;
    steady(out, "memory", &server.memory)?;
    steady(out, "descriptors", &server.descriptors)?;
    let rule = format!(
        "Added: by a straight line through the second half, cut into {BLOCKS} stretches. Flat: that interval reaches 0, or it is less than 1 % (at least 256 KiB) of memory or one descriptor. A longer run sees smaller leaks."
    );
    sentence(out, "", &rule)
}

fn steady(out: &mut dyn Write, name: &str, steady: &Steady) -> io::Result<()> {
    let verdict = match steady.verdict {
        Verdict::Flat => "flat",
        Verdict::Grows => "GROWS",
        Verdict::Unknown => "n/a",
    };
    let interval = match (steady.low.value(), steady.high.value()) {
        (Some(low), Some(high)) => format!("{} to {}", change(steady, low), change(steady, high)),
        _ => String::new(),
    };
    let line = format!(
        "{name:<22}{:>11}{:>11}{:>11}  {interval}",
        text(steady.start),
        text(steady.middle),
        text(steady.end),
    );
    writeln!(out, "{}", line.trim_end())?;
    writeln!(
        out,
        "{:<22}{verdict}, between {} and {}",
        "",
        text(steady.least),
        text(steady.most)
    )
}

fn change(steady: &Steady, value: f64) -> String {
    let sign = if value > 0.0 { "+" } else { "" };
    format!(
        "{sign}{}",
        text(Figure::derived(value, steady.added.unit()))
    )
}

fn seconds(figure: Figure) -> String {
    figure.converted(1e-3, Unit::Seconds).value().map_or_else(
        || "n/a".to_owned(),
        |seconds| format!("{} s", grouped(seconds, 0)),
    )
}

fn of(failure: Failure) -> String {
    match failure {
        Failure::Connect => "no connection".to_owned(),
        Failure::Timeout => "no answer in time".to_owned(),
        Failure::Broken => "the connection ended before the answer".to_owned(),
        Failure::Malformed => "an answer that is no HTTP".to_owned(),
        Failure::Status(status) => format!("status {status}"),
    }
}
