//! `gpurouter bench proxy`: what the router itself costs, beside the direct way and other proxies.

mod targets;

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::Run;
use crate::cli::Global;
use crate::cmd::Exit;
use crate::load::{self, Campaign, Clock, Lane, Part, Place, Plan, Router, Upstream};
use crate::measure::proxy::{MAX_ROUNDS, Window};
use crate::measure::{self, Bench, Report};
use crate::render::{self, Told};
use targets::{lanes, settings, wait_ready};

/// The longest window, and the most requests in one.
const LONGEST: Duration = Duration::from_secs(600);
const MOST_REQUESTS: u64 = 1_000_000_000;

/// Broken by hand to fit 80 columns.
const AGAINST_HELP: &str = "\
Another proxy in front of the mock, by its address
(repeatable)";
const PID_HELP: &str = "\
The main process of such a proxy; by default the one
that listens at its address (repeatable)";
const ONLY_HELP: &str = "\
Only these parts: latency, streams, rates, idle,
departures, cuts";

/// Flags of `bench proxy`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gpurouter bench proxy
  gpurouter bench proxy --upstream-port 8900 --print-nginx > nginx.conf
  nginx -p /tmp -e stderr -c $PWD/nginx.conf &
  gpurouter bench proxy --upstream-port 8900 \\
    --against nginx=http://127.0.0.1:8901

It starts a mock node and, as a child process, the router in front of it, and
measures them in turns: directly, through the router, through the others. The
other proxies must have the mock as their upstream. No node and no GPU is used.
Ctrl-C ends it and reports the rounds that are complete.

On a machine that is shared with other work, --patience 30m waits for moments
in which the others use less than 5 % of the processors.

A time that is below the noise, and a rate that is near the generator's own
limit, have no ratio. Processor time and memory are the kernel's accounts.
Exit codes: 0 done; 1 stopped; 2 usage; 3 a proxy does not answer.")]
#[allow(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub struct Args {
    #[arg(long, value_name = "NAME=URL", value_parser = named, help = AGAINST_HELP)]
    against: Vec<(String, String)>,
    #[arg(long = "pid", value_name = "NAME=PID", value_parser = named_pid, help = PID_HELP)]
    pids: Vec<(String, u32)>,
    /// The mock's port; any free one by default
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=65533))]
    upstream_port: Option<u16>,
    /// Rounds, over which medians are taken [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_ROUNDS)))]
    rounds: Option<u32>,
    /// How long each load is measured [default: 2s]
    #[arg(long, value_name = "TIME", value_parser = duration, conflicts_with = "requests")]
    duration: Option<Duration>,
    /// Measure this many requests instead
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MOST_REQUESTS))]
    requests: Option<u64>,
    /// Repeat what other programs disturb, this long
    #[arg(long, value_name = "TIME", value_parser = patience)]
    patience: Option<Duration>,
    /// Silent streams at once [default: 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=8000))]
    streams: Option<u32>,
    /// Threads of generator and mock [default: cores / 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    threads: Option<u32>,
    #[arg(long, value_name = "PARTS", value_enum, value_delimiter = ',', hide_possible_values = true, help = ONLY_HELP)]
    only: Vec<Part>,
    /// See that it works: one short round, rough figures
    #[arg(long)]
    quick: bool,
    /// Print a fair configuration for nginx, and exit
    #[arg(long, requires = "upstream_port", conflicts_with = "print_haproxy")]
    print_nginx: bool,
    /// The same for `HAProxy`
    #[arg(long, requires = "upstream_port", help = "The same for HAProxy")]
    print_haproxy: bool,
    /// Only run mock and router, for another generator
    #[arg(long, conflicts_with_all = ["against", "only", "quick"])]
    hold: bool,
    /// Write observations and report as JSON lines
    #[arg(long, value_name = "FILE", conflicts_with = "hold")]
    receipt: Option<PathBuf>,
}

/// Runs the command.
pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    let port = args.upstream_port.unwrap_or(0);
    if args.print_nginx || args.print_haproxy {
        let text = if args.print_nginx {
            load::nginx(port)
        } else {
            load::haproxy(port)
        };
        io::stdout().lock().write_all(text.as_bytes())?;
        return Ok(Exit::Yes);
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .context("cannot watch for signals")?;
    }
    // Two sockets a stream here, and the router inherits the limit.
    crate::http::raise_file_limit();
    let plan = plan(args);
    let upstream = Upstream::start(Clock::start(), port, plan.threads)
        .map_err(|error| cannot_listen(port, &error))?;
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let router = Router::start(&program, upstream.addr()).context("cannot start the router")?;
    wait_ready(&Place::at(router.addr()), &upstream, &stop)
        .context("the router does not answer")?;
    if args.hold {
        return hold(global, &upstream, &router, &stop);
    }
    let lanes = lanes(args, &upstream, &router, &stop)?;
    let settings = settings(&plan, &lanes);
    let rounds = settings.rounds;
    let mut run = Run::start(global, Bench::Proxy(settings), args.receipt.as_deref())?;
    observe(global, &plan, &lanes, &upstream, &stop, &mut run)?;
    match run.finish(global)? {
        Report::Proxy(report) if report.completed < rounds => Ok(Exit::No),
        _ => Ok(Exit::Yes),
    }
}

fn plan(args: &Args) -> Plan {
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (rounds, window, idle) = if args.quick {
        (1, 250, 100)
    } else {
        (5, 2000, 1000)
    };
    Plan {
        rounds: args.rounds.unwrap_or(rounds),
        window: match (args.requests, args.duration) {
            (Some(requests), _) => Window::Requests(requests),
            (None, Some(duration)) => Window::Ms(ms(duration)),
            (None, None) => Window::Ms(window),
        },
        quick: args.quick,
        parts: if args.only.is_empty() {
            Part::ALL.to_vec()
        } else {
            args.only.clone()
        },
        idle: args.streams.unwrap_or(idle),
        threads: args
            .threads
            .unwrap_or_else(|| u32::try_from(cores / 4).unwrap_or(1).clamp(1, 8)),
        patience: args.patience.unwrap_or_default(),
    }
}

fn cannot_listen(port: u16, error: &io::Error) -> Told {
    Told::usage(format!("cannot start the mock on port {port}: {error}"))
        .hint("another program, perhaps another benchmark, has the port; choose one with --upstream-port N")
}

/// Measures, with a bar on a terminal.
fn observe(
    global: &Global,
    plan: &Plan,
    lanes: &[Lane],
    upstream: &Upstream,
    stop: &AtomicBool,
    run: &mut Run,
) -> anyhow::Result<()> {
    let names: Vec<&str> = lanes.iter().map(|lane| lane.name.as_str()).collect();
    let estimate = plan.time(u32::try_from(lanes.len()).unwrap_or(u32::MAX));
    if !global.quiet {
        let rounds = if plan.rounds == 1 { "round" } else { "rounds" };
        // Nobody reads stderr: the figures are as good without the note.
        let _ = writeln!(
            io::stderr().lock(),
            "about {}: {} {rounds} of {}; Ctrl-C ends it",
            humantime::format_duration(Duration::from_secs(estimate.as_secs().max(1))),
            plan.rounds,
            names.join(", ")
        );
    }
    let length = u64::try_from(estimate.as_millis()).unwrap_or(u64::MAX);
    let bar = if global.quiet {
        ProgressBar::hidden()
    } else {
        ProgressBar::new(length)
    };
    bar.set_style(ProgressStyle::with_template(
        "{bar:24} {percent:>3} %  {msg}",
    )?);
    let campaign = Campaign {
        plan,
        lanes,
        upstream,
        stop,
    };
    let mut tell = |progress: &load::Progress| {
        bar.set_message(progress.text.clone());
        bar.set_position(
            u64::try_from(progress.done.as_millis())
                .unwrap_or(length)
                .min(length),
        );
    };
    let kept = campaign.run(&mut tell, &mut |seen| {
        seen.iter().try_for_each(|seen| run.observe(seen))
    });
    bar.finish_and_clear();
    kept.context("cannot write the receipt")
}

/// Tells where mock and router are, and waits for a signal.
fn hold(
    global: &Global,
    upstream: &Upstream,
    router: &Router,
    stop: &AtomicBool,
) -> anyhow::Result<Exit> {
    let (mock, router) = (
        format!("http://{}", upstream.addr()),
        format!("http://{}", router.addr()),
    );
    if global.json {
        render::json(&json!({ "schema": measure::SCHEMA, "upstream": mock, "router": router }))?;
    } else {
        render::line(&format!(
            "mock on {mock}, router on {router}; Ctrl-C ends both"
        ))?;
    }
    while !stop.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(50));
    }
    Ok(Exit::Yes)
}

fn named(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=URL")?;
    if name.is_empty() || name.chars().any(char::is_whitespace) {
        return Err("a name is one word".to_owned());
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn named_pid(text: &str) -> Result<(String, u32), String> {
    let (name, pid) = text.split_once('=').ok_or("expected NAME=PID")?;
    let pid = pid
        .parse()
        .map_err(|_| format!("`{pid}` is no process id"))?;
    Ok((name.to_owned(), pid))
}

fn patience(text: &str) -> Result<Duration, String> {
    let patience = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let most = Duration::from_secs(7 * 24 * 3600);
    if patience > most {
        return Err("nobody waits longer than a week".to_owned());
    }
    Ok(patience)
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration < Duration::from_millis(10) || duration > LONGEST {
        return Err("a window takes 10 ms to 10 min".to_owned());
    }
    Ok(duration)
}
