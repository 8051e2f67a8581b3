//! `gpurouter sim`: simulated nodes on loopback ports until a signal ends them.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use clap::ValueEnum;
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::Exit;
use crate::cli::Global;
use crate::render::Told;
use crate::sim::{Clock, Fault, Fleet, Gpu, Model, Node, NodeSpec, Speed};

/// Broken by hand to fit 80 columns.
const FAULT_HELP: &str = "\
delay=2s, status=503, cut=5 (pieces), hang, garbage, cpu or truncate,
with probability P (repeatable)";

/// Flags of `sim`.
#[derive(Debug, clap::Args)]
#[command(
    next_line_help = true,
    after_help = "\
Examples:
  gpurouter sim --gpu rtx4090 --gpu cpu --listen 127.0.0.1:11500
  gpurouter sim --fault cut=5@0.1 --fault delay=2s@0.5

They speak Ollama's API and run until Ctrl-C or SIGTERM."
)]
pub struct Args {
    /// GPU of a node, or cpu (repeatable)
    #[arg(long = "gpu", value_name = "NAME", value_parser = parse_gpu, default_values = ["rtx3060", "gtx1050ti"])]
    gpus: Vec<Gpu>,
    /// Of the first node; the others follow; 0 is any
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// A model that every node has, with its size (repeatable)
    #[arg(long = "model", value_name = "NAME[=BYTES]", value_parser = parse_model)]
    models: Vec<Model>,
    /// Tokens per second of every node, instead of what its GPU would do
    #[arg(long, value_name = "PREFILL,DECODE", value_parser = parse_speed)]
    speed: Option<Speed>,
    /// real, or virtual: waits take no time
    #[arg(long, value_enum, hide_possible_values = true, default_value_t = ClockKind::Real)]
    clock: ClockKind,
    /// Decides the words of the answers and when faults strike
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    #[arg(long = "fault", value_name = "KIND[=VALUE][@P]", help = FAULT_HELP)]
    faults: Vec<Fault>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ClockKind {
    Real,
    Virtual,
}

/// Runs the command.
pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    if !args.listen.ip().is_loopback() {
        let message = format!("--listen {}: not a loopback address", args.listen);
        return Err(Told::usage(message)
            .hint("simulated nodes are for this machine only: 127.0.0.1:PORT or [::1]:PORT")
            .into());
    }
    // Before the first line is printed: whoever reads it may already send a signal.
    let mut signals = Signals::new([SIGTERM, SIGINT]).context("cannot catch signals")?;
    let clock = match args.clock {
        ClockKind::Real => Clock::real(),
        ClockKind::Virtual => Clock::virtual_time(),
    };
    let fleet = Fleet::start(specs(args)?, clock, args.seed).map_err(|error| {
        Told::usage(format!("cannot listen on {error}"))
            .hint("choose other ports with --listen, or port 0 for any")
    })?;
    if !global.quiet {
        let mut stderr = io::stderr().lock();
        // Nobody reads stderr: the nodes are as useful without the note.
        let _unread = writeln!(
            stderr,
            "note: these nodes are simulated; no model runs, answers are words chosen by a seed"
        );
    }
    let text = if global.json {
        document(&fleet).to_string() + "\n"
    } else {
        lines(&fleet)
    };
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        // A reader that took what it wanted and left is no reason to stop serving.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        result => result.context("cannot print the nodes")?,
    }
    drop(stdout);
    let _signal = signals.forever().next();
    Ok(Exit::Yes)
}

fn specs(args: &Args) -> anyhow::Result<Vec<NodeSpec>> {
    let mut specs = Vec::with_capacity(args.gpus.len());
    for (index, gpu) in (0_u16..).zip(&args.gpus) {
        let mut spec = NodeSpec::new(&format!("sim-{}", u32::from(index) + 1), gpu.clone());
        spec.hardware.speed = args.speed;
        spec.faults.clone_from(&args.faults);
        if !args.models.is_empty() {
            spec.models.clone_from(&args.models);
        }
        let port = match args.listen.port() {
            0 => 0,
            first => first.checked_add(index).ok_or_else(|| {
                Told::usage(format!("--listen {}: no ports left after it", args.listen))
            })?,
        };
        spec.listen = SocketAddr::new(args.listen.ip(), port);
        specs.push(spec);
    }
    Ok(specs)
}

fn lines(fleet: &Fleet) -> String {
    let line = |node: &Arc<Node>, url: String| {
        let spec = node.spec();
        let models: Vec<&str> = spec.models.iter().map(|m| m.name.as_str()).collect();
        let gpu = spec.hardware.gpu.label();
        format!(
            "{}  {url}  {gpu}  models: {}\n",
            node.name(),
            models.join(", ")
        )
    };
    let lines: Vec<String> = fleet
        .nodes()
        .iter()
        .zip(fleet.urls())
        .map(|(node, url)| line(node, url))
        .collect();
    lines.concat()
}

fn document(fleet: &Fleet) -> Value {
    let nodes: Vec<Value> = fleet
        .nodes()
        .iter()
        .zip(fleet.urls())
        .map(|(node, url)| {
            let spec = node.spec();
            let models: Vec<&str> = spec.models.iter().map(|m| m.name.as_str()).collect();
            json!({
                "name": node.name(),
                "url": url,
                "gpu": spec.hardware.gpu.name,
                "vram_bytes": spec.hardware.gpu.vram_bytes,
                "models": models,
            })
        })
        .collect();
    json!({ "schema": 1, "nodes": nodes })
}

fn parse_gpu(name: &str) -> Result<Gpu, String> {
    Gpu::find(name).ok_or_else(|| format!("no such GPU in the table ({})", Gpu::names().join(", ")))
}

fn parse_speed(text: &str) -> Result<Speed, String> {
    let number = |text: &str| -> Option<f64> {
        text.trim()
            .parse()
            .ok()
            .filter(|speed: &f64| speed.is_finite() && *speed > 0.0)
    };
    text.split_once(',')
        .and_then(|(prefill, decode)| {
            Some(Speed {
                prefill: number(prefill)?,
                decode: number(decode)?,
            })
        })
        .ok_or_else(|| "expected two positive numbers, such as 2000,50".to_owned())
}

fn parse_model(text: &str) -> Result<Model, String> {
    let (name, bytes) = match text.split_once('=') {
        Some((name, bytes)) => (name, Some(parse_bytes(bytes)?)),
        None => (text, None),
    };
    if name.trim().is_empty() {
        return Err("a model needs a name".to_owned());
    }
    Ok(Model::named(name, bytes))
}

/// A number of bytes, with or without a unit (`4.7GB`, `500MiB`).
fn parse_bytes(text: &str) -> Result<u64, String> {
    const UNITS: &[(&str, f64)] = &[
        ("KiB", 1024.0),
        ("MiB", 1_048_576.0),
        ("GiB", 1_073_741_824.0),
        ("KB", 1e3),
        ("MB", 1e6),
        ("GB", 1e9),
    ];
    if let Ok(bytes) = text.parse::<u64>() {
        return Ok(bytes);
    }
    UNITS
        .iter()
        .find_map(|(unit, factor)| {
            let number: f64 = text.strip_suffix(unit)?.trim().parse().ok()?;
            let bytes = number * factor;
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "the range was just checked, and bytes have no fractions"
            )]
            (0.0..=1e15).contains(&bytes).then_some(bytes as u64)
        })
        .ok_or_else(|| {
            format!("{text}: expected bytes, or a number with KiB, MiB, GiB, KB, MB or GB")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_or_none() {
        assert_eq!(parse_bytes("1000"), Ok(1000));
        assert_eq!(parse_bytes("1.5GiB"), Ok(1_610_612_736));
        assert_eq!(parse_bytes("4.7GB"), Ok(4_700_000_000));
        for wrong in ["", "GB", "-1GB", "1TB", "NaNGB"] {
            assert!(parse_bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn speeds_are_two_positive_numbers() {
        assert!(parse_speed("2000,50").is_ok());
        for wrong in ["2000", "0,1", "-1,1", "a,b", "inf,1"] {
            assert!(parse_speed(wrong).is_err(), "{wrong}");
        }
    }
}
