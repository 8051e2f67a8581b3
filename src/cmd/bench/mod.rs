//! `gpurouter bench`: figures that anyone can recompute. One file per kind of benchmark.

pub mod alloc;
pub mod cost;
pub mod live;
mod machine;
mod measured;
mod overview;
mod price;
#[cfg(any(target_os = "linux", target_os = "android"))]
pub mod proxy;
mod receipt;
mod recompute;
pub mod replay;
pub mod roi;
mod run;
#[cfg(any(target_os = "linux", target_os = "android"))]
pub mod soak;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::Exit;
use crate::cli::Global;
use crate::measure::{self, Bench as Kind, Header};
use run::Run;

/// Flags of `bench`.
#[derive(Debug, clap::Args)]
#[command(
    disable_help_subcommand = true,
    after_help = "\
Examples:
  gpurouter bench
  gpurouter bench live --quick
  gpurouter bench roi --slow 19 --fast 0.34 --requests 200 --days 250
  gpurouter bench cost --tokens-in 10 --tokens-out 261
  gpurouter bench roi --slow 6 --fast 2 --receipt roi.jsonl
  gpurouter bench --recompute roi.jsonl

Alone it says what it would measure on your nodes, and measures nothing.
Every figure says where it comes from: measured, derived (computed, from
measured ones at least in part), configured (typed by somebody, or computed
from such numbers alone) or unknown, which prints n/a and never a guess.
Exit codes: 0 done, or the receipt holds; 1 it does not; 2 usage;
3 no node answers."
)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub bench: Option<Bench>,
    /// Recompute a receipt's report (`-`: stdin) and compare
    #[arg(long, value_name = "FILE")]
    pub recompute: Option<PathBuf>,
}

/// A kind of benchmark.
#[derive(Debug, clap::Subcommand)]
pub enum Bench {
    /// Your requests: what you have today against the router
    Live(Box<live::Args>),
    /// What faster answers are worth: time, API, energy, hardware
    Roi(Box<roi::Args>),
    /// What a number of tokens costs at an API
    Cost(cost::Args),
    /// What the router itself costs, beside other proxies
    #[cfg(any(target_os = "linux", target_os = "android"))]
    Proxy(Box<proxy::Args>),
    /// How fast models are placed on simulated GPUs
    Alloc(alloc::Args),
    /// Traces over simulated nodes, without and with gpurouter
    Replay(replay::Args),
    /// A constant rate of requests, for as long as you like
    #[cfg(any(target_os = "linux", target_os = "android"))]
    Soak(soak::Args),
}

/// Runs the command.
pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    match (&args.bench, &args.recompute) {
        (None, Some(file)) => recompute::run(global, file),
        (Some(_), Some(_)) => Err(super::usage(
            "--recompute reads from the file what it is a receipt of",
        )),
        (None, None) => overview::run(global),
        (Some(Bench::Roi(args)), None) => {
            let inputs = roi::inputs(global, args)?;
            tell(global, inputs, args.receipt.as_deref())
        }
        (Some(Bench::Cost(args)), None) => {
            let inputs = cost::inputs(global, args)?;
            tell(global, inputs, args.receipt.as_deref())
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        (Some(Bench::Proxy(args)), None) => proxy::run(global, args),
        (Some(Bench::Live(args)), None) => live::run(global, args),
        (Some(Bench::Alloc(args)), None) => alloc::run(global, args),
        (Some(Bench::Replay(args)), None) => replay::run(global, args),
        #[cfg(any(target_os = "linux", target_os = "android"))]
        (Some(Bench::Soak(args)), None) => soak::run(global, args),
    }
}

/// The header of a benchmark that begins now on this machine.
fn header(global: &Global, bench: Kind) -> Header {
    Header {
        schema: measure::SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        machine: machine::with_gpus(global),
        bench,
    }
}

/// Reports a benchmark that observes nothing, and writes its receipt.
fn tell(global: &Global, bench: Kind, file: Option<&Path>) -> anyhow::Result<Exit> {
    Run::start(global, bench, file)?.finish(global)?;
    Ok(Exit::Yes)
}

/// A flag that the first signal sets; the second one ends the program at once.
fn stopped_by_signals() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .context("cannot watch for signals")?;
    }
    debug_assert!(!stop.load(Ordering::Relaxed));
    Ok(stop)
}
