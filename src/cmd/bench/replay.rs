//! `gpurouter bench replay`: traces in virtual time over simulated nodes, without a router and with gpurouter.

mod counted;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::super::{Exit, read_file, usage};
use crate::cli::Global;
use crate::config::{self, Environment, NodeConfig, Overrides};
use crate::render::{self, Told};
use crate::replay::{self, Builtin, FleetNode, Report, Rules, Scenario, builtins};
use crate::routing::{Copies, WindowPolicy};
use crate::sim::Gpu;

/// The GPU that a trace from a file runs on when nobody says otherwise.
const USUAL_GPU: &str = "rtx3060";

/// Flags of `bench replay`.
#[derive(Debug, clap::Args)]
#[command(
    next_line_help = true,
    after_help = "\
Examples:
  gpurouter bench replay
  gpurouter bench replay --trace team --with gpu1=rtx4090
  gpurouter bench replay recorded.jsonl --with gpu0=rtx3060
  gpurouter bench replay --trace aider --export > aider.jsonl

Nothing is measured on this machine: the nodes are simulated, time is virtual,
and the same seed gives the same report everywhere. `plain` is what Ollama
does by itself; BEST are the fewest loads of somebody who knew the trace in
advance and served it in order.
Exit codes: 0 replayed, 2 usage."
)]
pub struct Args {
    /// A trace: JSON lines, as `serve --record` writes (`-`: stdin)
    #[arg(value_name = "TRACE")]
    traces: Vec<PathBuf>,
    /// A trace that comes with gpurouter (repeatable)
    #[arg(long = "trace", value_name = "NAME", value_parser = builtin)]
    names: Vec<Builtin>,
    /// List the traces that come with gpurouter
    #[arg(long, conflicts_with_all = ["traces", "names", "export", "with"])]
    list: bool,
    /// Another GPU for a node, or another node (repeatable)
    #[arg(long, value_name = "NODE=GPU")]
    with: Vec<String>,
    /// Its `num_ctx`: raise-only, bucket, pin or pass
    #[arg(long, value_name = "POLICY", default_value = "raise-only", value_parser = window)]
    num_ctx: WindowPolicy,
    /// Nodes that hold a model: as-needed or one
    #[arg(long, value_name = "COPIES", default_value = "as-needed", value_parser = copies)]
    copies: Copies,
    /// Decides everything that is random
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Print the trace itself, as JSON lines
    #[arg(long)]
    export: bool,
    /// Write what was counted and the report as JSON lines
    #[arg(long, value_name = "FILE", conflicts_with_all = ["list", "export"])]
    receipt: Option<PathBuf>,
}

fn builtin(name: &str) -> Result<Builtin, String> {
    let known = || builtins().iter().map(|builtin| builtin.name);
    replay::builtin(name).copied().ok_or_else(|| {
        let nearest = known()
            .map(|known| (strsim::jaro_winkler(known, name), known))
            .filter(|(likeness, _)| *likeness > 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        match nearest {
            Some((_, nearest)) => format!("no such trace; did you mean `{nearest}`?"),
            None => format!("no such trace ({})", known().collect::<Vec<_>>().join(", ")),
        }
    })
}

fn window(word: &str) -> Result<WindowPolicy, String> {
    WindowPolicy::of(word).ok_or_else(|| words(WindowPolicy::ALL.map(WindowPolicy::as_str)))
}

fn copies(word: &str) -> Result<Copies, String> {
    Copies::of(word).ok_or_else(|| words(Copies::ALL.map(Copies::as_str)))
}

fn words<const N: usize>(words: [&str; N]) -> String {
    format!("one of {}", words.join(", "))
}

/// Runs the command.
pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    if args.list {
        list(global)?;
        return Ok(Exit::Yes);
    }
    let mut scenarios = Vec::new();
    for file in &args.traces {
        scenarios.push(recorded(global, args, file)?);
    }
    let named = if args.traces.is_empty() && args.names.is_empty() {
        builtins()
    } else {
        &args.names
    };
    for builtin in named {
        let mut scenario = builtin.scenario(args.seed);
        for with in &args.with {
            replay::with(&mut scenario.fleet, with).map_err(usage)?;
        }
        scenarios.push(scenario);
    }
    if args.export {
        return export(&scenarios);
    }
    let rules = Rules {
        num_ctx: args.num_ctx,
        copies: args.copies,
    };
    let traces = scenarios
        .iter()
        .map(|scenario| replay::replay(scenario, rules, args.seed))
        .collect();
    let report = Report::new(args.seed, rules, traces);
    if let Some(file) = &args.receipt {
        counted::receipt(global, file, &report, args.traces.len())?;
    }
    if global.json {
        render::json(&report)?;
    } else {
        let document = serde_json::to_value(&report)?;
        render::replay(&mut io::stdout().lock(), &document)?;
    }
    Ok(Exit::Yes)
}

fn list(global: &Global) -> anyhow::Result<()> {
    if global.json {
        let traces: Vec<Value> = builtins()
            .iter()
            .map(|builtin| json!({ "trace": builtin.name, "about": builtin.about }))
            .collect();
        return render::json(&json!({ "schema": 1, "traces": traces }));
    }
    let mut out = io::stdout().lock();
    for builtin in builtins() {
        writeln!(out, "{:<14}{}", builtin.name, builtin.about)?;
    }
    Ok(out.flush()?)
}

fn export(scenarios: &[Scenario]) -> anyhow::Result<Exit> {
    let [scenario] = scenarios else {
        return Err(Told::usage("--export prints one trace")
            .hint("gpurouter bench replay --trace aider --export")
            .into());
    };
    let mut out = io::stdout().lock();
    out.write_all(replay::write(&scenario.requests).as_bytes())?;
    out.flush()?;
    Ok(Exit::Yes)
}

/// A trace from a file, on the nodes of `--with`, else on the configured ones whose GPU is known, else on one usual card.
fn recorded(global: &Global, args: &Args, file: &Path) -> anyhow::Result<Scenario> {
    let bytes = read_file(file)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| usage(format!("`{}` is not UTF-8 text", file.display())))?;
    let requests =
        replay::parse(&text).map_err(|error| usage(format!("`{}`: {error}", file.display())))?;
    let loaded = config::load(global, &Environment::of_process(), &Overrides::default())?;
    let mut fleet: Vec<FleetNode> = loaded.config.nodes.iter().filter_map(configured).collect();
    for with in &args.with {
        replay::with(&mut fleet, with).map_err(usage)?;
    }
    if fleet.is_empty() {
        replay::with(&mut fleet, &format!("gpu0={USUAL_GPU}")).map_err(usage)?;
    }
    Ok(Scenario::recorded(
        &file.display().to_string(),
        requests,
        fleet,
    ))
}

/// A configured node whose GPU the simulation knows.
fn configured(node: &NodeConfig) -> Option<FleetNode> {
    let gpu = Gpu::find(node.gpu.as_deref()?)?;
    Some(FleetNode::new(&node.name, gpu))
}
