//! `gpurouter estimate`: what a model takes, part by part, before it is loaded.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Exit;
use super::model::{self, EstimateDocument, Model, RunArgs};
use crate::backend::Prober;
use crate::cli::Global;
use crate::cluster::{Gpu, Measure, Rules};
use crate::config::{self, Config, Environment, Overrides};
use crate::gpu;
use crate::render;
use crate::routing::{Family, chars4, estimate_tokens};
use crate::vram::{Learned, Offload};

/// Flags of `estimate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gpurouter estimate llama3.1:8b --ctx 32768
  gpurouter estimate ./model.gguf --kv q8_0 --json
  gpurouter estimate hf:bartowski/Qwen2.5-7B-Instruct-GGUF:Q4_K_M
  gpurouter estimate 7b --quant Q4_K_M
  gpurouter estimate --tokens prompt.txt

A bare name is looked for on the nodes, in the local Ollama store, in the Ollama
registry and in the table of known models. Only headers are read.
Exit codes: 0 estimated, 1 no such model, 2 usage, 3 a registry is out of reach.")]
pub struct Args {
    #[arg(value_name = "MODEL", help = model::MODEL_HELP, required_unless_present = "tokens")]
    model: Option<String>,
    #[command(flatten)]
    run: RunArgs,
    /// Count the tokens of a text instead, as MODEL's family would (`-`: stdin)
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
}

/// Runs the command.
pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    if let Some(file) = &args.tokens {
        return tokens(global, file, args.model.as_deref());
    }
    let environment = Environment::of_process();
    let loaded = config::load(global, &environment, &Overrides::default())?;
    let config = &loaded.config;
    let written = args.model.as_deref().unwrap_or_default();
    let prober = Prober::new();
    let snapshot = prober.gather(&super::nodes(config));
    let nodes = Some((&prober, &snapshot));
    let model = model::find(
        written,
        &args.run,
        config,
        &environment,
        nodes,
        global.quiet,
    )?;
    let document = if global.gpus.is_some() {
        let gpus = super::gpus(global, &environment, config)?;
        on_gpus(&model, config, &gpu::look(&gpus).gpus)
    } else {
        let mut estimate = model.estimate(&Offload::single());
        for parts in &mut estimate.devices {
            parts.runtime = model.runtime();
        }
        EstimateDocument::of(&model, &estimate, &[])
    };
    if global.json {
        render::json(&document)?;
    } else {
        render::estimate(&mut io::stdout().lock(), &serde_json::to_value(&document)?)?;
    }
    Ok(Exit::Yes)
}

/// The estimate for these GPUs, with nothing loaded by us, as it would be placed on them.
fn on_gpus(model: &Model, config: &Config, gpus: &[Gpu]) -> EstimateDocument {
    let learned = Learned::default();
    let measure = Measure {
        policy: config.memory,
        basis: model.basis(),
        learned: &learned,
        cards: &config.gpu.cards,
    };
    let (rooms, _) = measure.rooms(gpus, 0);
    let rules = Rules {
        strategy: config.gpu.strategy,
        ..Rules::default()
    };
    let placed = model.place(&rooms, config.memory.headroom_factor, rules);
    let offload = placed.offload();
    let mut estimate = model.estimate(&offload);
    let mut names = Vec::new();
    for (parts, gpu) in estimate.devices.iter_mut().zip(&placed.gpus) {
        if let Some(room) = rooms.get(*gpu) {
            parts.runtime = room.runtime;
            names.push(format!("{} {}", room.index, room.name));
        }
    }
    EstimateDocument::of(model, &estimate, &names)
}

/// What is counted in a text.
#[derive(Debug, Serialize)]
struct Counted {
    schema: u32,
    /// Estimated tokens.
    tokens: u64,
    /// Characters divided by four, rounded down: the sources' rule.
    chars4: u64,
    /// Tokenizer family that was assumed.
    family: &'static str,
    /// Unicode characters.
    characters: u64,
}

fn tokens(global: &Global, file: &Path, model: Option<&str>) -> anyhow::Result<Exit> {
    let bytes = super::read_file(file)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| super::usage(format!("`{}` is not UTF-8 text", file.display())))?;
    // The line end that `echo` and editors add belongs to the file, not to the text.
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    let family = Family::of_model(model.unwrap_or_default());
    let counted = Counted {
        schema: 1,
        tokens: estimate_tokens(text, family),
        chars4: chars4(text),
        family: family.as_str(),
        characters: text.chars().count() as u64,
    };
    if global.json {
        render::json(&counted)?;
    } else {
        render::counted(&mut io::stdout().lock(), &serde_json::to_value(&counted)?)?;
    }
    Ok(Exit::Yes)
}
