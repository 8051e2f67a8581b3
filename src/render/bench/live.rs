//! A paired comparison as text.

use std::io::{self, Write};

use super::figure::{grouped_trimmed, text};
use super::sentence;
use crate::measure::{
    Comparability, Figure, Group, LiveSettings, Obstacle, PairedReport, PolicySummary, Speedup,
    Spread, Temperature, Tier, Unit,
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
        &match settings.repeats {
            1 => format!("{}, once", settings.trace),
            repeats => format!("{}, {repeats} repeats", settings.trace),
        },
    )?;
    let both = report.cold.is_some() && report.warm.is_some();
    let groups = [
        // Of one temperature alone, all of them are that one.
        ("all", Some(report.all).filter(|_| both)),
        ("cold: not in memory", report.cold),
        ("warm: in memory", report.warm),
    ];
    for (name, group) in groups {
        if let Some(group) = group {
            writeln!(out)?;
            table(out, name, &group)?;
        }
    }
    tiers(out, &report.tiers)?;
    if settings.idle_power.is_known() {
        writeln!(out)?;
        writeln!(
            out,
            "idle power of the GPUs: {}  measured",
            text(settings.idle_power)
        )?;
    }
    writeln!(out)?;
    headline(out, report)
}

/// Times by class: the middle, the slow end, and both ends.
fn tiers(out: &mut dyn Write, tiers: &[Tier]) -> io::Result<()> {
    if tiers.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    writeln!(
        out,
        "{:<21}{:>4}{:>10}{:>10}{:>10}{:>10} {:>9}  TAG",
        "to the end, by class", "N", "P50", "P95", "MIN", "MAX", "TOKENS/S"
    )?;
    for tier in tiers {
        for (policy, spread) in [("today", &tier.today), ("routed", &tier.routed)] {
            let label = format!(
                "{} {} {policy}",
                tier.class.as_str(),
                temperature(tier.temperature)
            );
            writeln!(
                out,
                "{label:<21}{:>4}{:>10}{:>10}{:>10}{:>10} {:>9}  {}",
                tier.pairs,
                text(spread.p50),
                text(spread.p95),
                text(spread.min),
                text(spread.max),
                speed(spread.decode_speed),
                brief(spread)
            )?;
        }
    }
    writeln!(out, "m: times are measured; d: speeds are derived")
}

/// A speed in nine columns.
fn speed(figure: Figure) -> String {
    match figure.value() {
        Some(fast) if fast >= 10_000.0 => grouped_trimmed(fast, 0),
        _ => text(figure),
    }
}

/// The tags of a line of [`tiers`], by their first letters: of the times, and of the speed.
fn brief(spread: &Spread) -> String {
    let letter = |figure: Figure| figure.tag().as_str().chars().take(1).collect::<String>();
    format!("{}{}", letter(spread.p50), letter(spread.decode_speed))
}

fn temperature(temperature: Temperature) -> &'static str {
    match temperature {
        Temperature::Cold => "cold",
        Temperature::Warm => "warm",
    }
}

/// The middle times by class as bars, the longest as wide as the terminal allows.
pub(super) fn chart(out: &mut dyn Write, report: &PairedReport) -> io::Result<()> {
    const WIDEST: f64 = 44.0;
    let longest = report
        .tiers
        .iter()
        .flat_map(|tier| [tier.today.p50, tier.routed.p50])
        .filter_map(Figure::value)
        .fold(0.0_f64, f64::max);
    writeln!(out)?;
    if longest <= 0.0 {
        return writeln!(out, "no class has a time to draw");
    }
    writeln!(
        out,
        "p50 to the end, measured; the longest bar is {}",
        text(Figure::measured(longest, Unit::Milliseconds))
    )?;
    for tier in &report.tiers {
        for (policy, spread) in [("today", &tier.today), ("routed", &tier.routed)] {
            let label = format!(
                "{} {} {policy}",
                tier.class.as_str(),
                temperature(tier.temperature)
            );
            let share = spread.p50.value().map_or(0.0, |ms| ms / longest);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "0 to 44"
            )]
            let width = (share * WIDEST).ceil() as usize;
            writeln!(out, "{label:<22}{} {}", "#".repeat(width), text(spread.p50))?;
        }
    }
    Ok(())
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
        (Obstacle::NonePassed, _) => {
            "no checked answer passed under either policy, so the checks do not tell whether they are as good"
                .to_owned()
        }
        (Obstacle::TooFewChecks, Some(needed)) => {
            format!("{rates}. {needed} checks at the same rate would do")
        }
        _ => rates,
    }
}
