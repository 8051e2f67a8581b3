//! `bench proxy`: figures of several proxies with their ratios beside them, in 80 columns.

use std::io::{self, Write};

use super::figure::grouped;
use super::{machine_of, sentence};
use crate::measure::Header;
use crate::measure::proxy::{
    DIRECT, End, Figure, ROUTER, Ratio, Report, STREAMS, Section, Settings, Spread, Unit, Window,
};

/// Width of the first column and of every other.
const NAME: usize = 19;
const CELL: usize = 10;
/// Other proxies in a table: what 80 columns hold beside the direct way and the router.
const OTHERS: usize = 2;
const UNKNOWN: &str = "n/a";

/// The report for a person.
pub(super) fn proxy(
    out: &mut dyn Write,
    header: &Header,
    settings: &Settings,
    report: &Report,
) -> io::Result<()> {
    sentence(out, "", &heading(header, settings, report))?;
    let others: Vec<&str> = report
        .targets
        .iter()
        .map(String::as_str)
        .filter(|name| ![DIRECT, ROUTER].contains(name))
        .collect();
    let mut tables: Vec<&[&str]> = others.chunks(OTHERS).collect();
    if tables.is_empty() {
        tables.push(&[]);
    }
    for others in tables {
        writeln!(out)?;
        table(out, settings, report, others)?;
    }
    writeln!(out)?;
    notes(out, settings, report)
}

fn heading(header: &Header, settings: &Settings, report: &Report) -> String {
    let window = match settings.window {
        Window::Ms(ms) => format!("windows of {ms} ms"),
        Window::Requests(count) => format!("windows of {count} requests"),
    };
    #[expect(clippy::cast_precision_loss, reason = "seconds are shown")]
    let took = report
        .elapsed_ns
        .map_or_else(String::new, |ns| format!(" in {:.0} s", ns as f64 / 1e9));
    let load = |load: Option<[f64; 3]>| {
        load.map_or_else(|| UNKNOWN.to_owned(), |[one, ..]| format!("{one:.2}"))
    };
    let rounds = if report.completed == 1 {
        "round"
    } else {
        "interleaved rounds"
    };
    let others = report.others_share.map_or_else(
        || {
            format!(
                "load average {} before, {} after",
                load(report.load_before),
                load(report.load_after)
            )
        },
        |share| {
            format!(
                "other programs used {:.0} % of the processors",
                100.0 * share
            )
        },
    );
    let again = match report.repeated {
        0 => String::new(),
        1 => ", 1 measurement was repeated for them".to_owned(),
        many => format!(", {many} measurements were repeated for them"),
    };
    format!(
        "{}: {} {rounds}, {window}{took}; {others}{again}.",
        machine_of(header),
        report.completed,
    )
}

/// A row of cells; the first is the name, the others are right-aligned.
fn line(out: &mut dyn Write, name: &str, cells: &[String]) -> io::Result<()> {
    let cells: Vec<String> = cells.iter().map(|cell| format!("{cell:>CELL$}")).collect();
    let text = format!("{name:<NAME$}{}", cells.concat());
    writeln!(out, "{}", text.trim_end())
}

fn table(
    out: &mut dyn Write,
    settings: &Settings,
    report: &Report,
    others: &[&str],
) -> io::Result<()> {
    let mut header = vec![DIRECT.to_owned(), ROUTER.to_owned()];
    for other in others {
        header.push(other.chars().take(CELL - 1).collect());
        header.push("ratio".to_owned());
    }
    line(out, "", &header)?;
    let mut section = None;
    for figure in &report.figures {
        // What was not measured at all is no row.
        if figure.values.iter().all(Option::is_none) {
            continue;
        }
        if section != Some(figure.section) {
            section = Some(figure.section);
            writeln!(out, "{}", title(settings, figure.section))?;
        }
        row(out, report, figure, others)?;
    }
    cuts(out, report, others)
}

fn title(settings: &Settings, section: Section) -> String {
    let idle = settings.idle_streams;
    match section {
        Section::Request => {
            "added to a request over 1 connection, µs (direct: all of it)".to_owned()
        }
        Section::Stream => "added to a piece of 1 stream, µs (direct: all of it)".to_owned(),
        Section::Streams => format!("{STREAMS} streams, µs from sending a piece to its arrival"),
        Section::Rate => "requests per second".to_owned(),
        Section::Cpu => "processor time of a request, µs".to_owned(),
        Section::Memory => format!("resident memory, KiB; threads; {idle} silent streams"),
        Section::Departure => "a client leaves: until the upstream sees it, ms".to_owned(),
    }
}

fn row(out: &mut dyn Write, report: &Report, figure: &Figure, others: &[&str]) -> io::Result<()> {
    let value = |name: &str| {
        let at = report.targets.iter().position(|target| target == name)?;
        figure.values.get(at).copied().flatten()
    };
    let ratio = |name: &str| figure.ratios.iter().find(|ratio| ratio.to == name);
    let mut middles = Vec::new();
    let mut ranges = Vec::new();
    for name in [DIRECT, ROUTER].iter().chain(others) {
        let value = value(name).map(|value| value.scaled(factor(figure.unit)));
        // Nothing stands in the direct way that could hold memory or take time.
        let missing = if *name == DIRECT && value.is_none() {
            ""
        } else {
            UNKNOWN
        };
        middles.push(value.map_or_else(
            || missing.to_owned(),
            |value| shown(value.median, figure.unit),
        ));
        ranges.push(value.map_or_else(String::new, range));
        if others.contains(name) {
            let ratio = ratio(name);
            middles.push(
                ratio
                    .and_then(|ratio| ratio.median)
                    .map_or_else(|| UNKNOWN.to_owned(), |ratio| format!("{ratio:.2}")),
            );
            ranges.push(ratio.map_or_else(String::new, range_of_ratio));
        }
    }
    line(out, &format!("  {}", figure.title), &middles)?;
    if report.completed > 1 && ranges.iter().any(|range| !range.is_empty()) {
        line(out, "", &ranges)?;
    }
    Ok(())
}

fn cuts(out: &mut dyn Write, report: &Report, others: &[&str]) -> io::Result<()> {
    if report.cuts.iter().all(|cut| cut.end.is_none()) {
        return Ok(());
    }
    writeln!(out, "the upstream is cut in a stream: what the client sees")?;
    let mut forms: Vec<_> = report.cuts.iter().map(|cut| cut.form).collect();
    forms.dedup();
    for form in forms {
        let mut cells = Vec::new();
        for name in [DIRECT, ROUTER].iter().chain(others) {
            let cut = report
                .cuts
                .iter()
                .find(|cut| cut.form == form && cut.target == **name);
            let end = cut.and_then(|cut| cut.end);
            cells.push(end.map_or(UNKNOWN, word).to_owned());
            if others.contains(name) {
                cells.push(String::new());
            }
        }
        line(out, &format!("  {}", form.name()), &cells)?;
    }
    Ok(())
}

fn word(end: End) -> &'static str {
    match end {
        End::Told => "error",
        End::Broken => "broken",
        End::Clean => "CLEAN END",
        End::Hung => "HUNG",
    }
}

fn notes(out: &mut dyn Write, settings: &Settings, report: &Report) -> io::Result<()> {
    let spread = if report.completed > 1 {
        "the median of the rounds, and below it the least and the greatest; "
    } else {
        ""
    };
    let others = if settings.targets.len() > 2 {
        "; ratio: gpurouter / the other"
    } else {
        ""
    };
    sentence(
        out,
        "",
        &format!("Each figure: {spread}added: less the direct way's of the same round{others}."),
    )?;
    let least = report
        .headroom
        .iter()
        .filter_map(|headroom| headroom.ratio)
        .fold(f64::INFINITY, f64::min);
    if least.is_finite() {
        sentence(
            out,
            "",
            &format!(
                "Mock and generator alone do at least {least:.1} x the rate of the fastest proxy (1.5 is enough)."
            ),
        )?;
    }
    for warning in &report.warnings {
        sentence(out, "warning: ", &warning.text)?;
        if let Some(cure) = &warning.cure {
            sentence(out, "   cure: ", cure)?;
        }
    }
    Ok(())
}

fn factor(unit: Unit) -> f64 {
    match unit {
        Unit::Micros => 1e-3,
        Unit::Millis => 1e-6,
        Unit::Bytes => 1.0 / 1024.0,
        Unit::PerSecond | Unit::Count => 1.0,
        Unit::Share => 100.0,
    }
}

/// Three digits or more, of things without a fraction none of it.
fn shown(value: f64, unit: Unit) -> String {
    match value.abs() {
        _ if unit == Unit::Count => grouped(value, 0),
        size if size >= 100.0 => grouped(value, 0),
        size if size >= 10.0 => grouped(value, 1),
        _ => grouped(value, 2),
    }
}

/// The least and the greatest, as short as a cell needs; nothing where there is one value.
fn range(spread: Spread) -> String {
    let one_value = spread.max <= spread.min;
    if one_value {
        String::new()
    } else {
        format!("{}–{}", brief(spread.min), brief(spread.max))
    }
}

fn range_of_ratio(ratio: &Ratio) -> String {
    ratio
        .range
        .filter(|(min, max)| max > min)
        .map_or_else(String::new, |(min, max)| {
            if max >= 10.0 {
                format!("{}–{}", brief(min), brief(max))
            } else {
                format!("{min:.2}–{max:.2}")
            }
        })
}

/// At most four characters; how far below nothing a difference was is noise.
fn brief(value: f64) -> String {
    match value {
        size if size < 0.0 => "<0".to_owned(),
        size if size >= 999_500.0 => format!("{:.1}M", value / 1e6),
        size if size >= 9_950.0 => format!("{:.0}k", value / 1e3),
        size if size >= 999.5 => format!("{:.1}k", value / 1e3),
        size if size >= 9.95 => format!("{value:.0}"),
        _ => format!("{value:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::proxy::{Case, Observation, Seen, Target, Times, report};
    use crate::measure::{Bench, Machine};

    fn settings(names: &[&str]) -> Settings {
        let target = |name: &&str| Target {
            name: (*name).to_owned(),
            url: "http://127.0.0.1:1".to_owned(),
            program: None,
            pids: vec![1],
        };
        Settings {
            rounds: 2,
            window: Window::Ms(2000),
            quick: false,
            idle_streams: 1000,
            threads: 1,
            patience_ms: 0,
            cores: Some(2),
            targets: names.iter().map(target).collect(),
        }
    }

    fn printed(names: &[&str]) -> String {
        let settings = settings(names);
        let mut observations = Vec::new();
        for round in 0..2 {
            for (place, name) in (1_u64..).zip(names) {
                let times = Times {
                    count: 9,
                    p50_ns: place * 12_345 + u64::from(round),
                    p99_ns: place * 1_234_567,
                };
                observations.push(Observation {
                    round,
                    target: (*name).to_owned(),
                    seen: Seen::Latency {
                        case: Case::Small,
                        times,
                    },
                });
                let load = Seen::Load {
                    bytes: 1024,
                    connections: 16,
                    answers: 1_000_000 / place,
                    failed: 0,
                    elapsed_ns: 2_000_000_000 + u64::from(round),
                    cpu_ns: Some(1_000_000_000),
                };
                observations.push(Observation {
                    round,
                    target: (*name).to_owned(),
                    seen: load,
                });
            }
            let busy = Seen::Machine {
                moment: crate::measure::proxy::Moment::End,
                load_percent: Some([150, 0, 0]),
                elapsed_ns: 5_000_000_000,
            };
            observations.push(Observation {
                round,
                target: "machine".to_owned(),
                seen: busy,
            });
        }
        let machine = Machine {
            os: "linux".to_owned(),
            arch: "x86_64".to_owned(),
            cpu: Some("A processor with a rather long name of its own".to_owned()),
            cores: Some(2),
            memory_bytes: Some(25_000_000_000),
            gpus: None,
        };
        let header = Header {
            schema: 1,
            version: "0.1.0".to_owned(),
            date: "2026-11-21T04:58:50Z".to_owned(),
            machine,
            bench: Bench::Proxy(settings.clone()),
        };
        let mut out = Vec::new();
        let report = report(&settings, &observations);
        proxy(&mut out, &header, &settings, &report).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn any_number_of_proxies_fits_eighty_columns() {
        for names in [
            &[DIRECT, ROUTER][..],
            &[DIRECT, ROUTER, "nginx"],
            &[
                DIRECT,
                ROUTER,
                "nginx",
                "haproxy",
                "a-proxy-with-a-long-name",
            ],
        ] {
            let text = printed(names);
            for line in text.lines() {
                assert!(line.chars().count() <= 80, "{line}");
            }
            for name in names {
                assert!(
                    text.contains(name.get(..9).unwrap_or(name)),
                    "{name}:\n{text}"
                );
            }
        }
    }

    #[test]
    fn ratios_stand_beside_the_figures_they_are_of() {
        let text = printed(&[DIRECT, ROUTER, "nginx"]);
        let row = text
            .lines()
            .find(|line| line.starts_with("  1 KB, p50"))
            .unwrap();
        let cells: Vec<&str> = row.split_whitespace().skip(3).collect();
        assert_eq!(cells, ["12.3", "12.3", "24.7", "0.50"]);
        let row = text
            .lines()
            .find(|line| line.starts_with("  1 KB, 16 conns"))
            .unwrap();
        let cells: Vec<&str> = row.split_whitespace().skip(4).collect();
        assert_eq!(cells, ["500,000", "250,000", "166,666", "1.50"]);
    }

    #[test]
    fn numbers_are_brief() {
        for (value, text) in [
            (0.04, "0.0"),
            (9.96, "10"),
            (35.4, "35"),
            (999.7, "1.0k"),
            (9_960.0, "10k"),
            (163_435.0, "163k"),
            (2e6, "2.0M"),
            (-1_300.0, "<0"),
        ] {
            assert_eq!(brief(value), text);
        }
        assert_eq!(shown(163_435.2, Unit::Micros), "163,435");
        assert_eq!(shown(35.44, Unit::Micros), "35.4");
        assert_eq!(shown(6.0, Unit::Count), "6");
        assert_eq!(shown(0.5, Unit::Micros), "0.50");
    }
}
