//! `gpurouter fit`: where a model fits, next to what is loaded.

use std::collections::BTreeMap;
use std::io;

use serde::Serialize;

use super::Exit;
use super::model::{self, EstimateDocument, Model, RunArgs};
use super::running::Running;
use crate::backend::Prober;
use crate::cli::Global;
use crate::cluster::{
    self, Advice, Best, ClusterSnapshot, Fit, Launch, Measure, MemoryPolicy, ModelName, Question,
    SiteFit, Surroundings, Variant, Verdict, size_only,
};
use crate::config::{self, Config, Environment, Overrides};
use crate::gpu;
use crate::render;
use crate::serve::Kept;
use crate::source::Spec;
use crate::vram::{Learned, Range, Subject};

/// Flags of `fit`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gpurouter fit llama3.1:8b --ctx 32768
  gpurouter fit ./model.gguf --gpus 24GiB,8GiB
  gpurouter fit hf:bartowski/Qwen2.5-7B-Instruct-GGUF --kv q8_0 --json

Answers for the GPUs and nodes as they are now: what is loaded stays. Nothing is
loaded or downloaded; of a model that is not here only the header is read.
Exit codes: 0 fits on a GPU, 1 only partly or nowhere, 2 usage, 3 a registry is
out of reach.")]
pub struct Args {
    #[arg(value_name = "MODEL", help = model::MODEL_HELP)]
    model: String,
    #[command(flatten)]
    run: RunArgs,
    /// Share of the memory that may be used, 0 to 1
    #[arg(long, value_name = "X", value_parser = margin)]
    margin: Option<f64>,
    /// Answer for the largest context that fits
    #[arg(long, conflicts_with = "ctx")]
    max_ctx: bool,
    /// Leave this machine's GPUs out that no node uses
    #[arg(long)]
    nodes_only: bool,
}

fn margin(text: &str) -> Result<f64, String> {
    let margin = text
        .parse::<f64>()
        .ok()
        .filter(|margin| (0.0..=1.0).contains(margin));
    margin.ok_or_else(|| "must be a number from 0 to 1".to_owned())
}

/// `fit --json`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    schema: u32,
    verdict: Verdict,
    /// Share of the memory that may be used in percent, where it is a share.
    margin_percent: Option<u32>,
    /// Bytes that one device needs to hold all of it, without what the runtime adds.
    need_bytes: u64,
    estimate: EstimateDocument,
    nodes: &'a [SiteFit],
    best: &'a Option<Best>,
    advice: &'a Advice,
    run: Option<RunDocument<'a>>,
}

/// How to start it there.
#[derive(Debug, Serialize)]
struct RunDocument<'a> {
    /// One line for a shell.
    command: String,
    #[serde(flatten)]
    run: &'a cluster::Run,
}

/// What `fit` looks at, gathered once.
struct Scene {
    snapshot: ClusterSnapshot,
    inventory: gpu::Inventory,
    learned: Learned,
    speeds: BTreeMap<(String, ModelName), f64>,
    /// What other gpurouters report of their GPUs, by node.
    reported: BTreeMap<String, Vec<cluster::Gpu>>,
    /// The most GPU memory that each node was ever seen to hold, in bytes.
    seen: BTreeMap<String, u64>,
    ram_free: Option<u64>,
}

/// Runs the command.
pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    let environment = Environment::of_process();
    let loaded = config::load(global, &environment, &Overrides::default())?;
    let config = &loaded.config;
    let gpus = super::gpus(global, &environment, config)?;
    let (snapshot, inventory) = super::gather(&super::nodes(config), || gpu::look(&gpus));
    let scene = Scene {
        speeds: speeds(global, config),
        reported: Prober::new().reported(&snapshot),
        seen: Kept::seen(config.state.as_deref(), &snapshot),
        learned: model::learned::load(config)?,
        // The RAM of the machine that a fixed inventory stands for is not known.
        ram_free: if gpus.fixed.is_some() {
            None
        } else {
            gpu::available_ram(&gpus.procfs)
        },
        snapshot,
        inventory,
    };
    let nodes = (&Prober::new(), &scene.snapshot);
    let mut model = model::find(
        &args.model,
        &args.run,
        config,
        &environment,
        Some(nodes),
        global.quiet,
    )?;
    let policy = MemoryPolicy {
        safety_margin: args.margin.or(config.memory.safety_margin),
        ..config.memory
    };
    let ask = |model: &Model| answer(args, config, policy, &scene, model);
    let mut answered = ask(&model);
    if args.max_ctx {
        let largest = answered
            .fit
            .nodes
            .iter()
            .filter_map(|node| node.max_context)
            .max();
        match largest {
            Some(context) => model.settings.ctx = context,
            None => model.warnings.push(
                "no context fits on a GPU, or the model's size is all that is known".to_owned(),
            ),
        }
        answered = ask(&model);
    }
    model
        .warnings
        .extend(no_gpu(&scene.inventory, &answered.fit));
    tell(global, policy, &model, &answered)?;
    Ok(match answered.fit.verdict {
        Verdict::Fits => Exit::Yes,
        Verdict::Partial | Verdict::No => Exit::No,
    })
}

fn answer(
    args: &Args,
    config: &Config,
    policy: MemoryPolicy,
    scene: &Scene,
    model: &Model,
) -> Answered {
    let basis = model.basis();
    let surroundings = Surroundings {
        snapshot: &scene.snapshot,
        local: scene
            .inventory
            .known()
            .then_some(scene.inventory.gpus.as_slice()),
        reported: &scene.reported,
        seen: &scene.seen,
        measure: Measure {
            policy,
            basis,
            learned: &scene.learned,
            cards: &config.gpu.cards,
        },
        ram_free: scene.ram_free,
        ram_bandwidth: None,
        nodes_only: args.nodes_only,
    };
    let subjects = variants(model);
    let variants: Vec<Variant<'_>> = subjects
        .iter()
        .map(|(name, subject)| Variant {
            name,
            subject,
            basis,
        })
        .collect();
    let name = ModelName::new(&model.found.name);
    let measured = |node: Option<&str>| {
        let key = (node.unwrap_or_default().to_owned(), name.clone());
        scene.speeds.get(&key).copied()
    };
    // Which model a node is working on is not known: all that it has loaded may be in use.
    let keep = |node: &str, _: &ModelName| {
        scene
            .snapshot
            .node(node)
            .is_some_and(|node| node.running.is_some_and(|running| running > 0))
    };
    let written = launch(args, model);
    let question = Question {
        model: &model.found.name,
        subject: &model.subject,
        extras: model.extras(),
        basis,
        settings: &model.settings,
        policy,
        strategy: config.gpu.strategy,
        cpu_fallback: config.gpu.cpu_fallback,
        variants: &variants,
        launch: written.as_launch(),
        keep: &keep,
        measured: &measured,
        thorough: true,
    };
    let sites = surroundings.sites();
    let runtimes = sites
        .iter()
        .flat_map(|site| &site.rooms)
        .map(|room| room.runtime);
    let runtime = runtimes.reduce(|a, b| Range {
        low: a.low.min(b.low),
        high: a.high.max(b.high),
    });
    Answered {
        fit: cluster::fit(&question, &sites),
        // A size without parts stands for the whole need.
        runtime: runtime
            .filter(|_| !size_only(basis))
            .unwrap_or_else(|| model.runtime()),
    }
}

/// The answer, and what runtimes add on the GPUs that were looked at.
struct Answered {
    fit: Fit,
    runtime: Range,
}

/// What a command names, owned.
enum Start {
    Ollama(String),
    File(String),
    HuggingFace(String),
    Url(String),
    Nothing,
}

impl Start {
    fn as_launch(&self) -> Launch<'_> {
        match self {
            Self::Ollama(name) => Launch::Ollama(name),
            Self::File(path) => Launch::File(path),
            Self::HuggingFace(repository) => Launch::HuggingFace(repository),
            Self::Url(url) => Launch::Url(url),
            Self::Nothing => Launch::Nothing,
        }
    }
}

fn launch(args: &Args, model: &Model) -> Start {
    match Spec::parse(&args.model) {
        Ok(Spec::File(path)) => Start::File(path.display().to_string()),
        Ok(Spec::FileOrName(path)) if std::path::Path::new(&path).is_file() => Start::File(path),
        Ok(Spec::HuggingFace(repository)) => {
            let written = repository.to_string();
            let bare = written
                .strip_prefix("hf:")
                .or_else(|| written.strip_prefix("hf.co/"));
            Start::HuggingFace(bare.unwrap_or(&written).to_owned())
        }
        Ok(Spec::Url(url)) => Start::Url(url),
        Ok(Spec::Size(_)) | Err(_) => Start::Nothing,
        Ok(Spec::Name(_) | Spec::FileOrName(_) | Spec::Ollama(_)) => {
            let served_only = !model.found.of_ollama && model.found.header.is_some();
            if served_only {
                Start::Nothing
            } else {
                Start::Ollama(model.found.name.clone())
            }
        }
    }
}

/// The other quantisations of the repository: the same shape with weights of their size.
fn variants(model: &Model) -> Vec<(String, Subject)> {
    let Subject::Shaped(shape) = &model.subject else {
        return Vec::new();
    };
    let present = model.found.size_bytes.unwrap_or(0).max(1);
    let others = model
        .found
        .variants
        .iter()
        .filter(|variant| variant.bytes < present);
    others
        .map(|variant| {
            let name = variant
                .quantization
                .clone()
                .unwrap_or_else(|| variant.file.clone());
            (
                name,
                Subject::Shaped(Box::new(shape.scaled(variant.bytes, present))),
            )
        })
        .collect()
}

/// Why no GPU is known, with the way out, where that is the driver of this machine. Other machines' nodes have nothing to do with it.
fn no_gpu(inventory: &gpu::Inventory, fit: &Fit) -> Option<String> {
    let has = fit.nodes.iter().any(|node| node.usable_bytes > Some(0));
    let here = fit.nodes.is_empty()
        || (fit.nodes.iter()).any(|node| node.knowledge == cluster::Knowledge::NoGpu);
    let advice = inventory.missing().filter(|_| here && !has)?;
    Some(format!("{}: {}", advice.text, advice.cure))
}

/// Decode speeds that a running router has measured, by node and model.
fn speeds(global: &Global, config: &Config) -> BTreeMap<(String, ModelName), f64> {
    let document = Running::find(global, config)
        .and_then(|router| router.get("/gpurouter/api/status").ok())
        .and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok())
        .unwrap_or_default();
    let list = |value: &serde_json::Value| value.as_array().cloned().unwrap_or_default();
    let mut speeds = BTreeMap::new();
    for node in list(&document["nodes"]) {
        for speed in list(&node["speeds"]) {
            if let (Some(name), Some(model), Some(tps)) = (
                node["name"].as_str(),
                speed["model"].as_str(),
                speed["decode_tps"].as_f64(),
            ) {
                speeds.insert((name.to_owned(), ModelName::new(model)), tps);
            }
        }
    }
    speeds
}

fn tell(
    global: &Global,
    policy: MemoryPolicy,
    model: &Model,
    answered: &Answered,
) -> anyhow::Result<()> {
    let fit = &answered.fit;
    let mut estimate = fit.estimate.clone();
    for parts in &mut estimate.devices {
        parts.runtime = answered.runtime;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share from 0 to 1"
    )]
    let percent = |margin: f64| (margin * 100.0).round() as u32;
    let document = Document {
        schema: 1,
        verdict: fit.verdict,
        margin_percent: policy.margin(model.basis()).map(percent),
        need_bytes: fit.need_bytes,
        estimate: EstimateDocument::of(model, &estimate, &[]),
        nodes: &fit.nodes,
        best: &fit.best,
        advice: &fit.advice,
        run: fit.run.as_ref().map(|run| RunDocument {
            command: run.to_string(),
            run,
        }),
    };
    if global.json {
        render::json(&document)
    } else {
        Ok(render::fit(
            &mut io::stdout().lock(),
            &serde_json::to_value(&document)?,
        )?)
    }
}
