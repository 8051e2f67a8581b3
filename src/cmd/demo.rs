//! `gpurouter demo`: the whole main job with nothing installed, on simulated nodes.

use std::io::{self, Write};
use std::thread;

use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::Exit;
use super::running::Running;
use crate::cli::Global;
use crate::cluster::{NodeKind, Role};
use crate::config::{Config, LogLevel, NodeConfig};
use crate::gpu;
use crate::render;
use crate::routing::ClassTarget;
use crate::serve::{Bound, Log, LogFormat};
use crate::sim::{Clock, Fleet, Gpu, NodeSpec};

/// The demo prompts of the source documents: one of each class.
const PROMPTS: [(&str, &str); 3] = [
    (
        "docstring",
        "Write a docstring for a function that sorts a list",
    ),
    ("refactor", "Refactor this code to improve performance"),
    ("implement", "Implement a binary search algorithm"),
];
/// A machine with a large and a small card.
const CARDS: [(&str, Role, &str); 2] = [
    ("gpu0", Role::Main, "rtx4080super"),
    ("gpu1", Role::Helper, "rtx3060"),
];
const SMALL: &str = "qwen2.5-coder:1.5b";
const LARGE: &str = "qwen2.5-coder:7b";
/// Length of every simulated answer in tokens: long enough to be seen streaming, short enough for a line.
const ANSWER_TOKENS: u32 = 11;

/// Flags of `demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gpurouter demo --once
  gpurouter demo --listen 127.0.0.1:8512

The nodes are simulated: no GPU and no model is used, the answers are made up.
What decides and relays is the real router.
Exit codes: 0 done; a demo that goes on serving ends with Ctrl-C or SIGTERM.")]
pub struct Args {
    /// Exit after the three prompts, do not go on serving
    #[arg(long)]
    pub once: bool,
    /// Address of the router
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub listen: String,
}

/// Runs the command.
pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    let specs = CARDS
        .iter()
        .map(|(name, _, card)| spec(name, card))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let fleet =
        Fleet::start(specs, Clock::real(), 1).context("cannot start the simulated nodes")?;
    let config = config(args, &fleet);
    let nodes = config.nodes.clone();
    // The demo tells its three decisions itself; the log would tell them twice.
    let level = if global.verbose > 0 {
        LogLevel::Info
    } else {
        LogLevel::Warning
    };
    let bound = Bound::new(
        config,
        &nodes,
        // Those of this machine have nothing to do with the simulated ones.
        &gpu::Settings::disabled(),
        Log {
            level: Some(level),
            format: LogFormat::Text,
        },
    )
    .with_context(|| format!("cannot listen on {}", args.listen))?;
    let base = format!("http://{}", bound.address());
    if !global.json {
        introduce(&fleet, &base)?;
    }
    let stopper = bound.stopper();
    let mut signals = Signals::new([SIGTERM, SIGINT]).context("cannot watch for signals")?;
    let serving = thread::Builder::new()
        .name("router".to_owned())
        .spawn(move || bound.serve())?;
    let told = tell_prompts(global, &Running::at(&base)?);
    if told.is_ok() && !args.once {
        eprint_line("serving on until Ctrl-C; the nodes stay simulated");
        signals.forever().next();
    }
    stopper.stop();
    // A panic of the router was told when it happened.
    let _ = serving.join();
    told.map(|()| Exit::Yes)
}

fn eprint_line(text: &str) {
    // Nobody is left to tell when stderr is closed.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

fn spec(name: &str, card: &str) -> anyhow::Result<NodeSpec> {
    let gpu = Gpu::find(card).with_context(|| format!("no simulated GPU is called {card}"))?;
    Ok(NodeSpec {
        answer_tokens: Some(ANSWER_TOKENS),
        ..NodeSpec::new(name, gpu)
    })
}

/// The configuration that a user with these two cards would write.
fn config(args: &Args, fleet: &Fleet) -> Config {
    let nodes = CARDS
        .iter()
        .zip(fleet.urls())
        .map(|((name, role, _), url)| NodeConfig {
            name: (*name).to_owned(),
            url,
            kind: Some(NodeKind::Ollama),
            role: *role,
            gpu: None,
            vram_bytes: None,
        });
    let class = |model: &str, prefer: &str| {
        Some(ClassTarget {
            model: model.to_owned(),
            prefer: Some(prefer.to_owned()),
        })
    };
    let mut config = Config {
        listen: args.listen.clone(),
        nodes: nodes.collect(),
        ..Config::default()
    };
    config.routing.simple = class(SMALL, "gpu1");
    config.routing.moderate = class(LARGE, "gpu0");
    config.routing.complex = class(LARGE, "gpu0");
    config
}

fn introduce(fleet: &Fleet, base: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "Two simulated nodes (no GPU and no model is used, the answers are made up):"
    )?;
    for (node, url) in fleet.nodes().iter().zip(fleet.urls()) {
        writeln!(
            out,
            "  {}  {:<24} {url}",
            node.name(),
            node.spec().hardware.gpu.label()
        )?;
    }
    writeln!(out, "The router in front of them: {base}")?;
    out.flush()
}

/// Sends the prompts as any client would, and tells what the router decided.
fn tell_prompts(global: &Global, router: &Running) -> anyhow::Result<()> {
    for (task, prompt) in PROMPTS {
        if global.json {
            let mut nowhere = io::sink();
            let id = super::ask::stream_answer(&mut nowhere, router, "auto", task, prompt)?;
            render::line(&super::ask::record(router, &id)?)?;
            continue;
        }
        let mut out = io::stdout().lock();
        writeln!(out, "\n> {prompt}")?;
        let id = super::ask::stream_answer(&mut out, router, "auto", task, prompt)?;
        let record: serde_json::Value = serde_json::from_str(&super::ask::record(router, &id)?)?;
        let word = |name: &str| record[name].as_str().unwrap_or("-").to_owned();
        writeln!(
            out,
            "  {} -> {} on {} ({})",
            word("complexity"),
            word("model"),
            word("node"),
            word("reason")
        )?;
        let ms = |name: &str| record["timings"][name].as_f64().unwrap_or_default();
        writeln!(
            out,
            "  first token after {:.0} ms, complete after {:.0} ms",
            ms("ttft_ms"),
            ms("total_ms")
        )?;
    }
    Ok(())
}
