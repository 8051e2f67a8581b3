//! `gpurouter estimate`: what a model takes, part by part, before it is loaded.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Exit;
use super::model::verify::{self, Against, Verification};
use super::model::{self, EstimateDocument, Model, RunArgs};
use crate::backend::Prober;
use crate::cli::Global;
use crate::cluster::{Gpu, GpuProcess, Measure, PlacementKind, Rules};
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
    /// Count a text's tokens instead (`-`: stdin)
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// Compare with what a runtime allocated.
    #[expect(
        clippy::option_option,
        reason = "whether it was said, and then whether a log was named"
    )]
    #[arg(long, value_name = "LOG", num_args = 0..=1, require_equals = true, conflicts_with = "tokens", help = VERIFY_HELP)]
    verify: Option<Option<PathBuf>>,
    /// Remember what the runtime takes beside buffers
    #[arg(long, requires = "verify")]
    learn: bool,
}

/// Broken by hand to fit 80 columns.
const VERIFY_HELP: &str = "\
Compare with a runtime's log (`-`: stdin), or
without LOG with an installed llama-fit-params";

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
    let mut model = model::find(
        written,
        &args.run,
        config,
        &environment,
        nodes,
        global.quiet,
    )?;
    if let Some(log) = &args.verify {
        let against = log.clone().map_or(Against::FitParams, Against::Log);
        return verified(
            global,
            args,
            &loaded.config,
            &environment,
            &mut model,
            &against,
        );
    }
    let learned = model::learned::load(config)?;
    let document = if global.gpus.is_some() {
        let gpus = super::gpus(global, &environment, config)?;
        on_gpus(&model, config, &learned, &gpu::look(&gpus).gpus)
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

/// `estimate --verify --json`.
#[derive(Debug, Serialize)]
struct Verified<'a> {
    schema: u32,
    estimate: EstimateDocument,
    verification: &'a Verification,
    /// What the runtime takes beside its buffers, and on which GPU; `null` where nothing was to be learned.
    learned: Option<LearnedDocument>,
}

#[derive(Debug, Serialize)]
struct LearnedDocument {
    gpu: String,
    runtime_bytes: u64,
    kept_in: String,
}

fn verified(
    global: &Global,
    args: &Args,
    config: &Config,
    environment: &Environment,
    model: &mut Model,
    against: &Against,
) -> anyhow::Result<Exit> {
    let (estimate, gpus, verification) = verify::verify(model, &args.run, against)?;
    let learned = if args.learn {
        Some(learn(global, config, environment, &verification)?)
    } else {
        None
    };
    let document = Verified {
        schema: 1,
        estimate: EstimateDocument::of(model, &estimate, &gpus),
        verification: &verification,
        learned,
    };
    if global.json {
        render::json(&document)?;
    } else {
        render::verification(&mut io::stdout().lock(), &serde_json::to_value(&document)?)?;
    }
    Ok(if verification.holds {
        Exit::Yes
    } else {
        Exit::No
    })
}

/// Names of processes that run models.
const RUNTIMES: [&str; 4] = ["llama-server", "llama-cli", "ollama", "llama-bench"];

/// Takes what the driver counts to the one runtime on this machine's one GPU, less the buffers in the log, as what the runtime adds.
fn learn(
    global: &Global,
    config: &Config,
    environment: &Environment,
    verification: &Verification,
) -> anyhow::Result<LearnedDocument> {
    let gpus = gpu::look(&super::gpus(global, environment, config)?).gpus;
    let [gpu] = gpus.as_slice() else {
        return Err(super::usage(format!(
            "{} GPUs are on this machine: which one the log is about is not known",
            gpus.len()
        )));
    };
    let runs = |process: &&GpuProcess| {
        let name = process.name.as_deref().unwrap_or_default();
        RUNTIMES.iter().any(|runtime| name.starts_with(runtime))
    };
    let running: Vec<&GpuProcess> = gpu.processes.iter().filter(runs).collect();
    let used = match running.as_slice() {
        [process] => process.used_bytes,
        _ => None,
    };
    let (Some(uuid), Some(used)) = (&gpu.uuid, used) else {
        return Err(super::usage(format!(
            "the driver tells no memory of one single runtime on {}: it must be running with the model loaded",
            gpu.name
        )));
    };
    let on_gpu = verification
        .parts
        .iter()
        .filter(|part| part.device != "host");
    let buffers: u64 = on_gpu.map(|part| part.actual_bytes).sum();
    let runtime_bytes = used.saturating_sub(buffers);
    let mut learned = model::learned::load(config)?;
    if used < buffers || !learned.learn(uuid, runtime_bytes) {
        return Err(super::usage(format!(
            "the driver counts {used} bytes to the runtime and the log {buffers}: they are not of the same load"
        )));
    }
    let kept = model::learned::store(config, &learned)?;
    Ok(LearnedDocument {
        gpu: uuid.clone(),
        runtime_bytes,
        kept_in: kept.display().to_string(),
    })
}

/// The estimate for these GPUs, with nothing loaded by us, as it would be placed on them.
fn on_gpus(model: &Model, config: &Config, learned: &Learned, gpus: &[Gpu]) -> EstimateDocument {
    let measure = Measure {
        policy: config.memory,
        basis: model.basis(),
        learned,
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
    if !placed.kind.fits() {
        let (layers, all) = (placed.gpu_layers.unwrap_or(0), model.subject.gpu_layers());
        estimate.warnings.push(match placed.kind {
            PlacementKind::ExpertsOnCpu => format!(
                "the experts of {} layers do not fit on these GPUs and stay in RAM",
                placed.cpu_experts
            ),
            _ => format!("only {layers} of {all} layers fit on these GPUs"),
        });
    }
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
