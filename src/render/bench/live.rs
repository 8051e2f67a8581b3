//! A paired comparison as text.

use std::io::{self, Write};

use super::figure::{grouped_trimmed, text};
use super::sentence;
use crate::measure::{
    Comparability, Group, LiveSettings, Obstacle, PairedReport, PolicySummary, Speedup,
};

pub(super) fn live(
    out: &mut dyn Write,
    settings: &LiveSettings,
    report: &PairedReport,
) -> io::Result<()> {
    sentence(out, "today   ", &settings.today)?;
    sentence(out, "routed  ", &settings.routed)?;
    sentence(
        out,
        "trace   ",
        &format!("{}, {} repeats", settings.trace, settings.repeats),
    )?;
    let groups = [
        ("all", Some(report.all)),
        ("cold: not in memory", report.cold),
        ("warm: in memory", report.warm),
    ];
    for (name, group) in groups {
        if let Some(group) = group {
            writeln!(out)?;
            table(out, name, &group)?;
        }
    }
    writeln!(out)?;
    headline(out, report)
}

fn table(out: &mut dyn Write, name: &str, group: &Group) -> io::Result<()> {
    let pairs = format!(
        "{name}, {} pairs of {} requests",
        group.pairs, group.requests
    );
    writeln!(out, "{pairs:<44}{:>10}{:>12}  TAG", "TODAY", "ROUTED")?;
    let (today, routed) = (group.today, group.routed);
    let mut line = |label: &str, of: fn(PolicySummary) -> crate::measure::Figure| {
        let (one, two) = (of(today), of(routed));
        let tag = if one.tag() == two.tag() {
            one.tag().as_str().to_owned()
        } else {
            format!("{}, {}", one.tag().as_str(), two.tag().as_str())
        };
        writeln!(
            out,
            "  {label:<42}{:>10}{:>12}  {tag}",
            text(one),
            text(two)
        )
    };
    line("first token, p50", |one| one.ttft_p50)?;
    line("first token, p95", |one| one.ttft_p95)?;
    line("end, p50", |one| one.total_p50)?;
    line("end, p95", |one| one.total_p95)?;
    line("prompt tokens read a second", |one| one.prefill_speed)?;
    line("answer tokens a second", |one| one.decode_speed)?;
    line("loads", |one| one.loads)?;
    line("checks passed", |one| one.pass_rate)?;
    line("energy of a request", |one| one.energy_per_request)?;
    writeln!(
        out,
        "  {:<42}{:>10}{:>12}  measured",
        "failed, counted at the time-out", today.failures, routed.failures
    )?;
    for (label, speedup) in [
        ("first token", group.ttft),
        ("end", group.end_to_end),
        ("equal length", group.equal_length),
    ] {
        writeln!(
            out,
            "  {:<40}{:>24}  {}",
            format!("today / routed, {label}, {} pairs", speedup.pairs),
            ratio(&speedup),
            speedup.ratio.tag().as_str()
        )?;
    }
    Ok(())
}

fn ratio(speedup: &Speedup) -> String {
    let whole = text(speedup.ratio);
    match (speedup.low.value(), speedup.high.value()) {
        (Some(low), Some(high)) => format!("{whole} [{low:.2}, {high:.2}]"),
        _ => whole,
    }
}

fn headline(out: &mut dyn Write, report: &PairedReport) -> io::Result<()> {
    let Some(speedup) = report.headline else {
        return sentence(out, "NOT COMPARABLE: ", &obstacle(report));
    };
    let all = &report.all;
    let told = format!(
        "routed is {} as fast as today, by the time to the end over {} requests, failures at the time-out; {} loads were avoided",
        ratio(&speedup),
        all.requests,
        all.loads_avoided
            .value()
            .map_or_else(super::figure::unknown, |loads| grouped_trimmed(loads, 0))
    );
    sentence(out, "", &told)
}

/// Why there is no headline.
fn obstacle(report: &PairedReport) -> String {
    let Comparability::NotComparable {
        obstacle,
        below,
        needed,
    } = report.quality
    else {
        return String::new();
    };
    let (today, routed) = (report.all.today, report.all.routed);
    let points = below.map_or_else(super::figure::unknown, |below| {
        format!("{:.1} points", below * 100.0)
    });
    let rates = format!(
        "{} of {} checks passed when routed, {} of {} today; the lower end of the 95 % interval is {points} below today's rate",
        text(routed.pass_rate),
        routed.checked,
        text(today.pass_rate),
        today.checked
    );
    match (obstacle, needed) {
        (Obstacle::NoChecks, _) => {
            "no answer was checked under both policies, so nobody knows whether they are as good"
                .to_owned()
        }
        (Obstacle::TooFewChecks, Some(needed)) => {
            format!("{rates}. {needed} checks at the same rate would do")
        }
        _ => rates,
    }
}
