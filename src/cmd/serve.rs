//! `gpurouter serve`: the router.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::Exit;
use crate::cli::Global;
use crate::cluster::NodeState;
use crate::config::{self, Environment, Loaded, LogLevel, NodeConfig, Overrides};
use crate::gpu;
use crate::render::{self, Told};
use crate::routing::Speeds;
use crate::serve::{Bound, Log, LogFormat, Status, TraceWriter};

/// Flags of `serve`.
#[derive(Debug, clap::Args)]
#[command(
    next_line_help = true,
    after_help = "\
Examples:
  gpurouter serve
  gpurouter serve --node http://127.0.0.1:11434 --node big=http://10.0.0.5:8080
  gpurouter serve --print-config
  gpurouter serve --record trace.jsonl

Prints its address when it is ready; logs go to stderr. SIGTERM and Ctrl-C let
running requests end, for at most 30 s, then exit 0."
)]
pub struct Args {
    /// Address to listen on; port 0 takes any free one, which is printed
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Print the configuration with the origin of every value, and exit
    #[arg(long)]
    pub print_config: bool,
    /// Check configuration and nodes, and exit: 0 all up, 1 some, 3 none
    #[arg(long)]
    pub check: bool,
    /// Form of the log lines
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// Record sizes and times of requests in a new file, for bench
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Record what the requests say, too
    #[arg(long, requires = "record")]
    pub record_prompts: bool,
}

/// Runs the command.
pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    let overrides = Overrides {
        listen: args.listen.clone(),
    };
    let environment = Environment::of_process();
    let loaded = config::load(global, &environment, &overrides)?;
    let gpus = super::gpus(global, &environment, &loaded.config)?;
    if args.print_config {
        return print_config(global, &loaded);
    }
    let log = Log {
        level: Some(loaded.config.log_level),
        format: args.log_format,
    };
    for notice in &loaded.notices {
        log.event(LogLevel::Warning, notice);
    }
    if args.check {
        return check(global, &loaded, &gpus);
    }
    let nodes = known_nodes(&loaded, log);
    let listen = loaded.config.listen.clone();
    let bound = Bound::new(loaded.config, &nodes, &gpus, log)
        .map_err(|error| cannot_listen(&listen, &error))?;
    if let Some(file) = &args.record {
        bound.record(trace(file, args.record_prompts)?);
    }
    let stopper = bound.stopper();
    let mut signals = Signals::new([SIGTERM, SIGINT]).context("cannot watch for signals")?;
    let handle = signals.handle();
    let waiter = thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            if signals.forever().next().is_some() {
                log.event(LogLevel::Info, "stopping: running requests may end");
                stopper.stop();
            }
        })?;
    announce(&bound)?;
    let left = bound.serve()?;
    handle.close();
    // The thread only waits for signals; it ends with the handle.
    let _ = waiter.join();
    if left > 0 {
        log.event(
            LogLevel::Warning,
            &format!("stopped with {left} connections still open"),
        );
    }
    Ok(Exit::Yes)
}

/// Begins a trace.
fn trace(file: &Path, prompts: bool) -> Result<TraceWriter, Told> {
    TraceWriter::create(file, prompts).map_err(|error| {
        let told = Told::usage(format!("cannot record in `{}`: {error}", file.display()));
        if error.kind() == io::ErrorKind::AlreadyExists {
            told.hint("a trace is never written over: name another file")
        } else {
            told
        }
    })
}

/// The line that scripts wait for, on stdout.
fn announce(bound: &Bound) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "listening on http://{}", bound.address())?;
    out.flush()
}

fn print_config(global: &Global, loaded: &Loaded) -> anyhow::Result<Exit> {
    if global.json {
        render::json(&loaded.print_json())?;
    } else {
        io::stdout().lock().write_all(loaded.print().as_bytes())?;
    }
    Ok(Exit::Yes)
}

/// The configured nodes, or those found on this machine.
fn known_nodes(loaded: &Loaded, log: Log) -> Vec<NodeConfig> {
    if !loaded.config.nodes.is_empty() {
        return loaded.config.nodes.clone();
    }
    let found = super::discover(&loaded.config);
    if found.is_empty() {
        log.event(LogLevel::Warning, "no node is configured and none was found on this machine yet; name one with --node http://HOST:PORT");
    }
    found
}

fn cannot_listen(listen: &str, error: &io::Error) -> Told {
    let told = Told::usage(format!("cannot listen on {listen}: {error}"));
    if error.kind() == io::ErrorKind::AddrInUse {
        return told.hint("another program, perhaps another gpurouter, has the port; choose one with --listen ADDR:PORT");
    }
    told
}

fn check(global: &Global, loaded: &Loaded, gpus: &gpu::Settings) -> anyhow::Result<Exit> {
    let nodes = if loaded.config.nodes.is_empty() {
        super::discover(&loaded.config)
    } else {
        loaded.config.nodes.clone()
    };
    let (snapshot, inventory) = super::gather(&nodes, || gpu::look(gpus));
    let status = Status::of(&snapshot, None, &Speeds::default(), &inventory);
    if global.json {
        render::json(&status)?;
    } else {
        render::status(&mut io::stdout().lock(), &serde_json::to_value(&status)?)?;
    }
    let usable = snapshot.usable().count();
    let ailing = snapshot
        .nodes
        .iter()
        .any(|node| matches!(node.state, NodeState::Down | NodeState::Misconfigured));
    Ok(match (usable, ailing) {
        (0, _) => Exit::Unreachable,
        (_, true) => Exit::No,
        (_, false) => Exit::Yes,
    })
}
