//! The figures as a Markdown table.

use std::time::SystemTime;

use crate::stats::{median, paired};
use crate::{Memories, Metric, Moment, Results, STREAMS, STREAMS_HELD, Target, process};

/// Everything there is to tell of a run.
pub struct Run<'a> {
    /// What the rounds brought.
    pub results: &'a Results,
    /// What the proxies held.
    pub memories: &'a Memories,
    /// The programs.
    pub versions: &'a str,
    /// Rounds.
    pub rounds: usize,
    /// Whether the windows were short.
    pub quick: bool,
    /// How long it took.
    pub seconds: u64,
    /// The load average when it began.
    pub load_before: &'a str,
    /// Answers that failed.
    pub errors: u64,
}

/// How a metric is told.
enum Form {
    /// What a proxy adds to the direct figure, µs.
    Added(Metric),
    /// The figure itself, µs.
    Micros(Metric),
    /// The figure itself.
    Count(Metric),
}

/// Prints it.
pub fn print(run: &Run<'_>) {
    println!(
        "Measured {} on {}; {}; {} interleaved rounds{} in {} s; load average {} before, {} after; {} failed answers.\n",
        humantime::format_rfc3339_seconds(SystemTime::now()),
        process::machine(),
        run.versions,
        run.rounds,
        if run.quick { " (quick)" } else { "" },
        run.seconds,
        run.load_before,
        process::load_average(),
        run.errors,
    );
    println!("| | direct | nginx | gpurouter | ratio to nginx | goal |");
    println!("|---|---:|---:|---:|---:|---:|");
    latencies(run);
    loads(run);
    memory(run);
    headroom(run);
}

fn latencies(run: &Run<'_>) {
    let (memory, file) = (Target::Nginx, Target::NginxFile);
    for (name, metric, nginx, goal) in [
        (
            "added to a 1 KB request, p50, µs",
            Metric::Small,
            memory,
            "≤ 1.5",
        ),
        (
            "the same, class routing (model `auto`)",
            Metric::SmallAuto,
            memory,
            "",
        ),
        (
            "added to a 200 KB request, nginx buffering in a file (its default), p50, µs",
            Metric::Large,
            file,
            "≤ 0.5",
        ),
        (
            "the same, nginx buffering in memory",
            Metric::Large,
            memory,
            "≤ 2.2",
        ),
        (
            "added to the first token, 1 stream, p50, µs",
            Metric::FirstToken,
            memory,
            "≤ 1.0",
        ),
        (
            "added to a token, 1 stream of JSON lines, p50, µs",
            Metric::Token,
            memory,
            "≤ 1.0",
        ),
        (
            "the same, server-sent events",
            Metric::TokenSse,
            memory,
            "≤ 1.0",
        ),
    ] {
        row(run, name, &Form::Added(metric), nginx, goal);
    }
}

fn loads(run: &Run<'_>) {
    let row = |name: &str, form, goal| row(run, name, &form, Target::Nginx, goal);
    let many = format!("{STREAMS} streams");
    row(
        &format!("token delay, {many}, p50, µs"),
        Form::Micros(Metric::TokenMany),
        "",
    );
    row(
        &format!("token delay, {many}, p99, µs"),
        Form::Micros(Metric::TokenManyTail),
        "≤ 1.5",
    );
    row(
        &format!("CPU of a token, {many}, µs"),
        Form::Micros(Metric::TokenCpu),
        "≤ 1.2",
    );
    for (connections, goal) in [(1, "≥ 0.9"), (16, "≥ 0.7"), (256, "≥ 0.65")] {
        let name = format!("requests/s, {}", plural(connections));
        row(&name, Form::Count(Metric::Rate(connections)), goal);
    }
    for connections in [1, 16, 256] {
        let name = format!("CPU of a request, {}, µs", plural(connections));
        row(&name, Form::Micros(Metric::RequestCpu(connections)), "≤ 2");
    }
}

fn row(run: &Run<'_>, name: &str, form: &Form, nginx: Target, goal: &str) {
    let of = |metric: Metric, target: Target| {
        let values = run.results.get(&(metric, target));
        values.map_or(&[] as &[f64], Vec::as_slice)
    };
    let (direct, nginx, router, ratio) = match *form {
        Form::Added(metric) => {
            let direct = of(metric, Target::Direct);
            let added = |target| paired(of(metric, target), direct, |with, without| with - without);
            let (nginx, router) = (added(nginx) / 1e3, added(Target::Router) / 1e3);
            (median(direct) / 1e3, nginx, router, router / nginx)
        }
        Form::Micros(metric) | Form::Count(metric) => {
            let unit = if matches!(form, Form::Micros(_)) {
                1e3
            } else {
                1.0
            };
            let (nginx, router) = (of(metric, nginx), of(metric, Target::Router));
            let ratio = paired(router, nginx, |router, nginx| router / nginx);
            (
                median(of(metric, Target::Direct)) / unit,
                median(nginx) / unit,
                median(router) / unit,
                ratio,
            )
        }
    };
    // Nothing stands between the two ends, so nothing costs CPU there.
    let direct = if direct == 0.0 { f64::NAN } else { direct };
    println!(
        "| {name} | {} | {} | {} | {} | {goal} |",
        figure(direct),
        figure(nginx),
        figure(router),
        if ratio.is_nan() {
            "–".to_owned()
        } else {
            format!("{ratio:.2}")
        },
    );
}

fn plural(connections: usize) -> String {
    let s = if connections == 1 { "" } else { "s" };
    format!("{connections} connection{s}")
}

fn figure(value: f64) -> String {
    if value.is_nan() {
        "–".to_owned()
    } else if value.abs() >= 1000.0 {
        let digits = format!("{value:.0}");
        let split = digits.len() - 3;
        format!("{} {}", &digits[..split], &digits[split..])
    } else if value.abs() >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

fn memory(run: &Run<'_>) {
    println!("\n| memory | nginx | gpurouter | goal |");
    println!("|---|---:|---:|---:|");
    let of = |target: Target, moment: &dyn Fn(&Moment) -> bool| {
        let found = run
            .memories
            .iter()
            .find(|(of, at, _)| *of == target && moment(at));
        found.map_or("–".to_owned(), |(_, at, memory)| {
            let missing = match at {
                Moment::Streams { count, began } if began < count => {
                    format!(", only {began} began")
                }
                _ => String::new(),
            };
            format!(
                "{:.1} MB RSS, {:.1} MB PSS, {} threads{missing}",
                memory.rss as f64 / 1e6,
                memory.pss as f64 / 1e6,
                memory.threads
            )
        })
    };
    let row = |name: &str, goal: &str, moment: &dyn Fn(&Moment) -> bool| {
        let (nginx, router) = (of(Target::Nginx, moment), of(Target::Router, moment));
        println!("| {name} | {nginx} | {router} | {goal} |");
    };
    row("idle", "≤ 10 MB", &|at| *at == Moment::Idle);
    for (wanted, goal) in STREAMS_HELD.into_iter().zip(["≤ 30 MB", "≤ 45 MB"]) {
        let name = format!("{wanted} open streams");
        row(
            &name,
            goal,
            &|at| matches!(at, Moment::Streams { count, .. } if *count == wanted),
        );
    }
    row("idle again after everything", "", &|at| {
        *at == Moment::After
    });
}

/// Whether the mock and the generator were fast enough for the request rates to mean anything.
fn headroom(run: &Run<'_>) {
    println!();
    // One connection waits for one answer at a time: there its rate is the round trip, not a limit.
    for connections in [16, 256] {
        let rate = |target| {
            let values = run.results.get(&(Metric::Rate(connections), target));
            values.map_or(0.0, |values| median(values))
        };
        let ratio = rate(Target::Direct) / rate(Target::Nginx).max(rate(Target::Router));
        let verdict = if ratio > 1.5 {
            "enough"
        } else {
            "NOT enough: the rates above are partly the generator's own limit"
        };
        println!(
            "The mock and the generator alone do {ratio:.1}x the faster proxy's requests/s over {connections} connections: {verdict}."
        );
    }
}
