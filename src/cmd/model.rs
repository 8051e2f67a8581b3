//! What `estimate` and `fit` share: the model that is meant, and how it is to be run.

use std::str::FromStr;

use indicatif::{ProgressBar, ProgressStyle};

use crate::backend::Prober;
use crate::cluster::ClusterSnapshot;
use crate::config::{Config, Environment};
use crate::keeper::RunWish;
pub use crate::keeper::Understood as Model;
use crate::render::{Exit, Told};
use crate::source::{self, Finder, Found, Limits, Places, Progress, SourceError, Spec};
use crate::vram::{CacheType, NamedQuant, Runtime, find_known};

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

impl RunArgs {
    /// What is asked of the runtime.
    fn wish(&self) -> RunWish {
        RunWish {
            quant: self.quant.clone(),
            ctx: self.ctx,
            parallel: self.parallel,
            cache: self.kv.map(|kv| (kv.key, kv.value)),
            ubatch: self.ubatch,
            batch: self.batch,
            flash_attention: self.flash_attn.map(Switch::on),
            gpu_layers: self.ngl,
            runtime: self.runtime.map(Runtime::from),
            unified_kv: self.unified_kv.map(Switch::on),
        }
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
    understood(args, found)
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

/// What was found, as an estimate takes it; an error names the flag that mends it.
fn understood(args: &RunArgs, found: Found) -> anyhow::Result<Model> {
    Model::of(found, &args.wish()).map_err(|error| {
        let told = Told::usage(error.to_string());
        match error.hint() {
            Some(hint) => told.hint(hint).into(),
            None => told.into(),
        }
    })
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
