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

use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use super::Exit;
use crate::cli::Global;
use crate::measure::{self, Document, Header};
use crate::render;

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
            let header = header(global, roi::inputs(global, args)?);
            tell(global, &header, args.receipt.as_ref())
        }
        (Some(Bench::Cost(args)), None) => {
            let header = header(global, cost::inputs(global, args)?);
            tell(global, &header, args.receipt.as_ref())
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        (Some(Bench::Proxy(args)), None) => proxy::run(global, args),
        (Some(Bench::Live(args)), None) => live::run(global, args),
        (Some(Bench::Alloc(args)), None) => alloc::run(global, args),
        (Some(Bench::Replay(args)), None) => replay::run(global, args),
    }
}

/// The header of a benchmark that begins now on this machine.
fn header(global: &Global, bench: measure::Bench) -> Header {
    Header {
        schema: measure::SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        date: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        machine: machine::with_gpus(global),
        bench,
    }
}

/// Reports a benchmark that observes nothing, and writes its receipt.
fn tell(global: &Global, header: &Header, file: Option<&PathBuf>) -> anyhow::Result<Exit> {
    let figures = measure::report(&header.bench, &[])?;
    let document = Document::new(header, figures);
    if let Some(file) = file {
        receipt::start(file, header)?.finish(&document)?;
    }
    if global.json {
        render::json(&document)?;
    } else {
        render::bench(&mut io::stdout().lock(), &header.bench, &document.figures)?;
    }
    Ok(Exit::Yes)
}
