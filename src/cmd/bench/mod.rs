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
use crate::render::{self, Told};

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
    /// Write observations and report as JSON lines
    #[arg(long, global = true, value_name = "FILE")]
    pub receipt: Option<PathBuf>,
    /// Recompute a receipt's report (`-`: stdin) and compare
    #[arg(long, value_name = "FILE", conflicts_with = "receipt")]
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
        (None, None) if args.receipt.is_some() => Err(Told::usage("no benchmark is named")
            .hint("gpurouter bench --help lists them")
            .into()),
        (None, None) => overview::run(global),
        (Some(bench), None) => {
            let bench = match bench {
                Bench::Roi(args) => roi::inputs(global, args)?,
                Bench::Cost(args) => cost::inputs(global, args)?,
                #[cfg(any(target_os = "linux", target_os = "android"))]
                Bench::Proxy(_) if args.receipt.is_some() => {
                    return Err(super::usage("bench proxy writes no receipt yet"));
                }
                #[cfg(any(target_os = "linux", target_os = "android"))]
                Bench::Proxy(args) => return proxy::run(global, args),
                Bench::Live(live) => return live::run(global, live, args.receipt.as_ref()),
                Bench::Alloc(_) if args.receipt.is_some() => {
                    return Err(super::usage("bench alloc writes no receipt"));
                }
                Bench::Alloc(args) => return alloc::run(global, args),
                Bench::Replay(_) if args.receipt.is_some() => {
                    return Err(super::usage(
                        "bench replay needs no receipt: the same seed gives the same figures",
                    ));
                }
                Bench::Replay(args) => return replay::run(global, args),
            };
            tell(global, &header(global, bench), args)
        }
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
fn tell(global: &Global, header: &Header, args: &Args) -> anyhow::Result<Exit> {
    let figures = measure::report(&header.bench, &[])?;
    let document = Document::new(header, figures);
    if let Some(file) = &args.receipt {
        receipt::start(file, header)?.finish(&document)?;
    }
    if global.json {
        render::json(&document)?;
    } else {
        render::bench(&mut io::stdout().lock(), &header.bench, &document.figures)?;
    }
    Ok(Exit::Yes)
}
