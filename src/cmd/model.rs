//! What `estimate` and `fit` share: the model that is meant, and how it is to be run.

use std::str::FromStr;

use indicatif::{ProgressBar, ProgressStyle};

use crate::backend::Prober;
use crate::cluster::{
    ClusterSnapshot, Demand, Layers, Need, Placement, Room, Rules, place, size_only,
};
use crate::config::{Config, Environment};
use crate::render::{Exit, Told};
use crate::source::{self, Finder, Found, Limits, Places, Progress, SourceError, Spec};
use crate::vram::{
    Backend, Basis, CacheType, Estimate, Extras, NameError, NamedModel, NamedQuant, Offload, Range,
    Runtime, Settings, Shape, Subject, estimate_with, find_known, runtime_bytes,
};

mod document;
pub(super) mod learned;
pub(super) mod verify;

pub use document::EstimateDocument;

/// What MODEL may be, for help texts.
pub(super) const MODEL_HELP: &str =
    "GGUF file, NAME[:TAG], ollama:NAME, hf:OWNER/REPO[:QUANT], URL, 7b";

/// How the model is to be run. What is left away is the runtime's own default.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    /// Quantisation, where MODEL does not say one
    #[arg(long, value_name = "Q")]
    pub quant: Option<String>,
    /// Context in tokens
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 40))]
    pub ctx: Option<u64>,
    /// Sequences at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub parallel: Option<u32>,
    /// Type of the KV cache, or of K and of V
    #[arg(long, value_name = "K[,V]")]
    pub kv: Option<CacheTypes>,
    /// Micro-batch in tokens
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub ubatch: Option<u64>,
    /// Batch in tokens
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub batch: Option<u64>,
    /// Flash attention
    #[arg(long, value_name = "on|off", hide_possible_values = true)]
    pub flash_attn: Option<Switch>,
    /// Layers on GPUs, the output layer counted
    #[arg(long, value_name = "N")]
    pub ngl: Option<u32>,
    /// llama-server, llama-cli, ollama or vllm
    #[arg(long, value_name = "NAME", hide_possible_values = true)]
    pub runtime: Option<RuntimeName>,
    /// Whether the sequences share one KV cache
    #[arg(long, value_name = "on|off", hide_possible_values = true)]
    pub unified_kv: Option<Switch>,
    /// Ask no registry
    #[arg(long)]
    pub offline: bool,
}

/// `on` or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Switch {
    /// Yes.
    On,
    /// No.
    Off,
}

impl Switch {
    fn on(self) -> bool {
        self == Self::On
    }
}

/// A runtime as it is named on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum RuntimeName {
    /// llama.cpp's server.
    LlamaServer,
    /// llama-cli, llama-bench, older servers.
    LlamaCli,
    /// Ollama.
    Ollama,
    /// vLLM.
    Vllm,
}

impl From<RuntimeName> for Runtime {
    fn from(name: RuntimeName) -> Self {
        match name {
            RuntimeName::LlamaServer => Self::LlamaServer,
            RuntimeName::LlamaCli => Self::LlamaCli,
            RuntimeName::Ollama => Self::Ollama,
            RuntimeName::Vllm => Self::Vllm,
        }
    }
}

/// Types of the K and the V cache: `q8_0`, or `q8_0,q4_0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheTypes {
    /// Of K.
    pub key: CacheType,
    /// Of V.
    pub value: CacheType,
}

impl FromStr for CacheTypes {
    type Err = crate::vram::UnknownCacheType;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (key, value) = text.split_once(',').unwrap_or((text, text));
        Ok(Self {
            key: key.trim().parse()?,
            value: value.trim().parse()?,
        })
    }
}

/// A model that was found, and how it is to be run.
#[derive(Debug, Clone)]
pub struct Model {
    /// What was found.
    pub found: Found,
    /// What is estimated.
    pub subject: Subject,
    /// The draft model that runs beside it.
    pub draft: Option<Box<Shape>>,
    /// How it is to be run.
    pub settings: Settings,
    /// Bytes of the KV cache of models of that size, where only the size is known.
    pub usual_kv: Option<Range>,
    /// What should be known, one sentence each.
    pub warnings: Vec<String>,
}

/// Finds the model. `nodes`: the nodes as they were just seen, and who asks them.
///
/// # Errors
/// Nothing is known of it, or it cannot be run like that.
pub(super) fn find(
    model: &str,
    args: &RunArgs,
    config: &Config,
    environment: &Environment,
    nodes: Option<(&Prober, &ClusterSnapshot)>,
    quiet: bool,
) -> anyhow::Result<Model> {
    if let Some(quant) = &args.quant {
        NamedQuant::parse(quant).map_err(|error| super::usage(error.to_string()))?;
    }
    let spec =
        Spec::parse(model).map_err(|error| Told::usage(error.to_string()).hint(error.hint()))?;
    let places = Places::of_environment(&|name| environment.get(name));
    let bar = Bar::new(quiet);
    let known = |name: &crate::cluster::ModelName| {
        find_known(name.as_str(), &config.models).map(|model| model.mb)
    };
    let progress = |progress: Progress<'_>| bar.tell(progress);
    let finder = Finder {
        places: &places,
        nodes,
        ollama_registry: &config.sources.ollama_registry,
        huggingface: &config.sources.huggingface,
        offline: args.offline || config.sources.offline,
        quant: args.quant.as_deref(),
        known: &known,
        progress: &progress,
        limits: Limits::default(),
    };
    let found = source::find(&spec, &finder).map_err(|error| told(&error))?;
    drop(bar);
    understand(args, found)
}

/// An error of a source with its way out. What does not exist anywhere is a "no"; a server that does not answer is out of reach.
fn told(error: &SourceError) -> anyhow::Error {
    let exit = match error {
        SourceError::Spec(_) => Exit::Usage,
        SourceError::Web { .. } => Exit::Unreachable,
        _ => Exit::No,
    };
    Told {
        message: error.to_string(),
        hint: error.hint(),
        exit,
    }
    .into()
}

/// Shape, settings and warnings of what was found.
fn understand(args: &RunArgs, found: Found) -> anyhow::Result<Model> {
    let mut warnings = found.warnings.clone();
    let named = named(&found, args.quant.as_deref())?;
    let subject = subject(&found, named, &mut warnings)?;
    let runtime = args.runtime.map_or_else(
        || {
            if found.of_ollama {
                Runtime::Ollama
            } else {
                Runtime::LlamaServer
            }
        },
        Runtime::from,
    );
    let settings = settings(args, &found, &subject, runtime)?;
    let usual_kv = named.map(|named| {
        warnings.extend(named.warnings(&settings));
        named.kv_bytes(&settings)
    });
    let draft = beside(&found, &mut warnings);
    Ok(Model {
        found,
        subject,
        draft,
        settings,
        usual_kv,
        warnings,
    })
}

/// What the name tells, where nothing else does.
fn named(found: &Found, quant: Option<&str>) -> anyhow::Result<Option<NamedModel>> {
    if found.header.is_some() || found.size_bytes.is_some() {
        return Ok(None);
    }
    let told = |error: NameError| match &error {
        NameError::NoQuantization(_) => {
            Told::usage(format!("`{}` does not say its quantisation", found.name))
                .hint("name one: --quant Q4_K_M")
        }
        _ => Told::usage(error.to_string()),
    };
    Ok(Some(NamedModel::read(&found.name, quant).map_err(told)?))
}

fn subject(
    found: &Found,
    named: Option<NamedModel>,
    warnings: &mut Vec<String>,
) -> anyhow::Result<Subject> {
    if let Some(header) = &found.header {
        match Shape::of(header) {
            Ok(shape) => return Ok(Subject::Shaped(Box::new(shape))),
            // A type that this version does not know still has a size on disk; anything else is not a model.
            Err(error) => match (found.size_bytes, &error) {
                (Some(bytes), crate::vram::ShapeError::Types(_)) => {
                    warnings.push(format!(
                        "{error}: the size of the file stands for the weights"
                    ));
                    return Ok(Subject::Sized { bytes });
                }
                _ => return Err(super::usage(format!("{}: {error}", found.source))),
            },
        }
    }
    match (found.size_bytes, named) {
        (Some(bytes), _) => Ok(Subject::Sized { bytes }),
        (None, Some(named)) => Ok(Subject::Sized {
            bytes: named.weights_bytes(),
        }),
        (None, None) => Err(super::usage(format!(
            "nothing tells how large `{}` is",
            found.name
        ))),
    }
}

fn settings(
    args: &RunArgs,
    found: &Found,
    subject: &Subject,
    runtime: Runtime,
) -> anyhow::Result<Settings> {
    let mut settings = match subject {
        Subject::Shaped(shape) => Settings::defaults(runtime, shape),
        Subject::Sized { .. } => Settings::of_runtime(runtime, None),
    };
    let of_ollama = |option: Option<u64>| option.filter(|_| runtime == Runtime::Ollama);
    let put = |slot: &mut u64, value: Option<u64>| {
        if let Some(value) = value {
            *slot = value;
        }
    };
    let params = &found.ollama_params;
    put(
        &mut settings.ctx,
        args.ctx.or_else(|| of_ollama(params.num_ctx)),
    );
    put(
        &mut settings.batch,
        args.batch.or_else(|| of_ollama(params.num_batch)),
    );
    put(&mut settings.ubatch, args.ubatch);
    settings.parallel = args.parallel.unwrap_or(settings.parallel);
    if let Some(kv) = args.kv {
        settings.cache_k = kv.key;
        settings.cache_v = kv.value;
    }
    settings.flash_attention = args.flash_attn.map_or(settings.flash_attention, Switch::on);
    settings.unified_kv = args.unified_kv.map_or(settings.unified_kv, Switch::on);
    let of_params = params.num_gpu.filter(|_| runtime == Runtime::Ollama);
    settings.gpu_layers = args
        .ngl
        .or_else(|| of_params.and_then(|layers| u32::try_from(layers).ok()));
    if settings.cache_v.is_quantized() && !settings.flash_attention {
        let told = Told::usage("a quantised V cache needs flash attention");
        return Err(told
            .hint("leave --flash-attn off away, or use --kv f16")
            .into());
    }
    Ok(settings)
}

/// The draft model, and what should be known of parts that could not be read.
fn beside(found: &Found, warnings: &mut Vec<String>) -> Option<Box<Shape>> {
    // Without a header of the model the size is everything that goes into memory already.
    found.header.as_ref()?;
    let mut unread = |part: &str, bytes: u64| {
        if bytes > 0 {
            warnings.push(format!("{bytes} bytes of {part} are not in this estimate"));
        }
    };
    unread("adapters", found.adapter_bytes);
    if let Some(projector) = found
        .projector
        .as_ref()
        .filter(|projector| projector.header.is_none())
    {
        unread(
            "a projector whose header could not be read",
            projector.bytes,
        );
    }
    let draft = found.draft.as_ref()?;
    let shape = draft.header.as_ref().map(Shape::of);
    if let Some(Ok(shape)) = shape {
        return Some(Box::new(shape));
    }
    unread("a draft model whose header could not be read", draft.bytes);
    None
}

impl Model {
    /// What the model takes when it is placed like this, with what runs beside it.
    pub fn estimate(&self, offload: &Offload) -> Estimate {
        estimate_with(&self.subject, &self.settings, offload, self.extras())
    }

    /// What runs beside it, as far as its headers were read.
    pub fn extras(&self) -> Extras<'_> {
        Extras {
            projector: self
                .found
                .projector
                .as_ref()
                .and_then(|projector| projector.header.as_ref()),
            draft: self.draft.as_deref(),
        }
    }

    /// Where it goes on these GPUs.
    pub fn place(&self, rooms: &[Room], headroom: f64, rules: Rules) -> Placement {
        let by_parts = |offload: &Offload| self.estimate(offload);
        let all = self.subject.gpu_layers();
        let need = match &self.subject {
            Subject::Sized { bytes } => Need::Bytes(*bytes),
            Subject::Shaped(_) => Need::Layers(Layers {
                estimate: &by_parts,
                gpu_layers: self
                    .settings
                    .gpu_layers
                    .map_or(all, |wanted| wanted.min(all)),
                expert_layers: self.subject.expert_layers(),
            }),
        };
        place(&Demand { need, headroom }, rooms, rules)
    }

    /// What the estimate is based on: where a header could not be understood the size is all that counts.
    pub fn basis(&self) -> Basis {
        match (&self.subject, self.found.basis) {
            (Subject::Sized { .. }, Basis::Header | Basis::Api) => Basis::Manifest,
            (_, basis) => basis,
        }
    }

    /// What a runtime adds on a GPU of which nothing is known. A size without parts stands for the whole need.
    pub fn runtime(&self) -> Range {
        if size_only(self.basis()) {
            Range::default()
        } else {
            runtime_bytes(Backend::Cuda, None)
        }
    }

    /// The context that it was trained for.
    pub fn trained_context(&self) -> Option<u64> {
        self.subject.max_context()
    }
}

/// A progress bar on a terminal, nothing elsewhere. Short readings never show it.
struct Bar(Option<ProgressBar>);

impl Bar {
    fn new(quiet: bool) -> Self {
        let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        Self((terminal && !quiet).then(ProgressBar::hidden))
    }

    fn tell(&self, progress: Progress<'_>) {
        let Some(bar) = &self.0 else { return };
        if bar.is_hidden() {
            bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{msg} {bytes} ({bytes_per_sec})") {
                bar.set_style(style);
            }
        }
        if let Some(total) = progress.total_bytes {
            bar.set_length(total);
        }
        bar.set_message(progress.what.to_owned());
        bar.set_position(progress.done_bytes);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
