//! `gpurouter bench soak`: a constant rate of requests, and whether the server stays as it was.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};

use super::Run;
use crate::cli::Global;
use crate::cmd::{Exit, usage};
use crate::config::{self, Environment, Overrides};
use crate::load::{Place, Processes, Rate, Soak, get};
use crate::measure::{Bench, Report, SoakObservation, SoakSettings};
use crate::render::Told;

/// Most requests of a run: each leaves eight bytes.
const MOST_REQUESTS: f64 = 20_000_000.0;
/// The longest run.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// Broken by hand to fit 80 columns.
const URL_HELP: &str = "\
What to ask for [default: /health of the configured
router]";
const PID_HELP: &str = "\
The server's process [default: the one that listens
there]";
const CONNECTIONS_HELP: &str = "\
Connections, kept open; a request that finds none
free is sent late";

/// Flags of `bench soak`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gpurouter bench soak
  gpurouter bench soak --duration 24h --receipt soak.jsonl
  gpurouter bench soak --url http://127.0.0.1:8512/health --rps 200

Requests are due at a constant rate, whether earlier ones were answered or not,
and their times count from when they were due. Memory and descriptors are those
of the server's processes, when it runs on this machine. Ctrl-C ends it with
the report so far, a second one at once.
Exit codes: 0 every request was answered with a status of 200 to 299, and
nothing grew; 1 not so, or stopped; 2 usage; 3 nothing listens there.")]
pub struct Args {
    #[arg(long, value_name = "URL", help = URL_HELP)]
    url: Option<String>,
    /// How long
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    duration: Duration,
    /// Requests per second
    #[arg(long, value_name = "N", default_value_t = 50.0, value_parser = rate)]
    rps: f64,
    /// When a request counts as failed
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = timeout)]
    timeout: Duration,
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=4096), help = CONNECTIONS_HELP)]
    connections: u32,
    #[arg(long, value_name = "PID", help = PID_HELP)]
    pid: Option<u32>,
    /// Write observations and report as JSON lines
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
}

/// Runs the command.
pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    if args.rps * args.duration.as_secs_f64() > MOST_REQUESTS {
        return Err(usage(
            "more than 20,000,000 requests: choose a shorter --duration or a lower --rps",
        ));
    }
    let (url, query) = target(global, args)?;
    let place = Place::of_url(&url).map_err(usage)?;
    let server = match args.pid {
        Some(pid) => Some(
            Processes::of_pid(pid)
                .ok_or_else(|| usage(format!("--pid {pid}: there is no such process")))?,
        ),
        None => Processes::listening(place.addr),
    };
    let stop = super::stopped_by_signals()?;
    crate::http::raise_file_limit();
    listens(&place)?;
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let settings = SoakSettings {
        url: format!("{url}{query}"),
        rps: args.rps,
        duration_ms: ms(args.duration),
        timeout_ms: ms(args.timeout),
        connections: args.connections,
        pids: server
            .as_ref()
            .map(|server| server.roots().to_vec())
            .unwrap_or_default(),
        program: server.as_ref().and_then(Processes::name),
    };
    let rate = Rate {
        per_second: args.rps,
        duration: args.duration,
        timeout: args.timeout,
        connections: args.connections,
    };
    let soak = Soak {
        place: &place,
        request: &get(&place, &query),
        rate: &rate,
        server: server.as_ref(),
        stop: &stop,
    };
    let mut run = Run::start(global, Bench::Soak(settings), args.receipt.as_deref())?;
    observe(global, &soak, &stop, &mut run)?;
    match run.finish(global)? {
        Report::Soak(report) if report.sound && !report.grew() && !stop.load(Ordering::Relaxed) => {
            Ok(Exit::Yes)
        }
        _ => Ok(Exit::No),
    }
}

/// The address and the query of what is asked for.
fn target(global: &Global, args: &Args) -> anyhow::Result<(String, String)> {
    if let Some(url) = &args.url {
        let end = url.find('?').unwrap_or(url.len());
        let (url, query) = url.split_at(end);
        if query
            .contains(|letter: char| letter.is_whitespace() || letter.is_control() || letter == '#')
        {
            return Err(usage(format!(
                "--url {url}{query}: expected http://HOST:PORT/PATH"
            )));
        }
        return Ok((url.to_owned(), query.to_owned()));
    }
    let loaded = config::load(global, &Environment::of_process(), &Overrides::default())?;
    Ok((
        format!("http://{}/health", loaded.config.listen),
        String::new(),
    ))
}

/// Whether anything listens there at all.
fn listens(place: &Place) -> Result<(), Told> {
    let wait = Duration::from_secs(5);
    match std::net::TcpStream::connect_timeout(&place.addr, wait) {
        Ok(_) => Ok(()),
        Err(error) => Err(Told::unreachable(format!("{place}: {error}"))
            .hint("gpurouter serve starts a router; --url names another address")),
    }
}

/// Sends everything, with a bar on a terminal.
fn observe(
    global: &Global,
    soak: &Soak<'_>,
    stop: &Arc<AtomicBool>,
    run: &mut Run,
) -> anyhow::Result<()> {
    let length = u64::try_from(soak.rate.duration.as_millis()).unwrap_or(u64::MAX);
    if !global.quiet {
        // Nobody reads stderr: the figures are as good without the note.
        let _ = writeln!(
            io::stderr().lock(),
            "{} for {}: {} requests/s; Ctrl-C ends it",
            soak.place,
            humantime::format_duration(soak.rate.duration),
            soak.rate.per_second
        );
    }
    let bar = if global.quiet {
        ProgressBar::hidden()
    } else {
        ProgressBar::new(length)
    };
    bar.set_style(ProgressStyle::with_template(
        "{bar:24} {percent:>3} %  {msg}",
    )?);
    let (mut answered, mut failed) = (0, 0);
    let kept = soak.run(&mut |seen, elapsed| {
        if let SoakObservation::Requests {
            took_us,
            failed: more,
            ..
        } = &seen
        {
            answered += took_us.len();
            failed += more.iter().map(|failed| failed.count).sum::<u64>();
        }
        bar.set_message(format!("{answered} answered, {failed} failed"));
        bar.set_position(
            u64::try_from(elapsed.as_millis())
                .unwrap_or(length)
                .min(length),
        );
        run.observe(&seen)
    });
    bar.finish_and_clear();
    if stop.load(Ordering::Relaxed) && !global.quiet {
        let _ = writeln!(io::stderr().lock(), "stopped: this is the report so far");
    }
    kept.context("cannot write the receipt, or start a thread")
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration < Duration::from_millis(100) || duration > LONGEST {
        return Err("a run takes 100 ms to 7 days".to_owned());
    }
    Ok(duration)
}

fn timeout(text: &str) -> Result<Duration, String> {
    let timeout = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if timeout < Duration::from_millis(1) || timeout > Duration::from_secs(3600) {
        return Err("a time-out is 1 ms to 1 h".to_owned());
    }
    Ok(timeout)
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "a number".to_owned())?;
    if !(0.01..=100_000.0).contains(&rate) {
        return Err("0.01 to 100,000 requests per second".to_owned());
    }
    Ok(rate)
}
