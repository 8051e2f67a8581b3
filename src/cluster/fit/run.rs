//! The command that realises a placement, as data.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::{Question, SiteFit, Target};
use crate::cluster::{NodeKind, PlacementKind, Site};
use crate::vram::{Backend, CacheType, Runtime, Settings};

/// What a command names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Launch<'a> {
    /// A model of Ollama's, by name.
    Ollama(&'a str),
    /// A file.
    File(&'a str),
    /// A repository of Hugging Face, with a quantisation or not (`owner/repo:Q4_K_M`).
    HuggingFace(&'a str),
    /// An address.
    Url(&'a str),
    /// Nothing that could be started: only a size.
    Nothing,
}

/// A command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Run {
    /// Environment to be set.
    pub env: BTreeMap<String, String>,
    /// The program.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Options of a request or a Modelfile (`num_ctx`, `num_gpu`), for a program that does not take them as arguments.
    pub options: BTreeMap<String, u64>,
}

/// llama.cpp's and our defaults, which need not be written.
const BATCH: u64 = 2048;
const UBATCH: u64 = 512;
const SERVER_SLOTS: u32 = 4;

/// The command for the chosen site; `None` where nothing can be started or the runtime is started in a way of its own (vLLM).
pub(super) fn command(
    question: &Question<'_>,
    site: &Site,
    answer: &SiteFit,
    target: Target,
) -> Option<Run> {
    let ollama = site
        .node
        .as_ref()
        .is_some_and(|node| node.kind == Some(NodeKind::Ollama));
    match (question.launch, question.settings.runtime) {
        (Launch::Nothing, _) | (_, Runtime::Vllm) => None,
        (Launch::Ollama(name), _) => Some(with_ollama(question, site, answer, name, target)),
        (Launch::HuggingFace(repository), Runtime::Ollama) => {
            let name = format!("hf.co/{repository}");
            Some(with_ollama(question, site, answer, &name, target))
        }
        // A node of Ollama's cannot be told to load a file of ours.
        (_, Runtime::Ollama) if ollama => None,
        (launch, runtime) => with_llama(question, site, answer, launch, runtime, target),
    }
}

fn with_ollama(
    question: &Question<'_>,
    site: &Site,
    answer: &SiteFit,
    name: &str,
    target: Target,
) -> Run {
    let settings = question.settings;
    let mut env = BTreeMap::new();
    if let Some(node) = &site.node {
        env.insert("OLLAMA_HOST".to_owned(), node.url.clone());
    }
    let mut options = BTreeMap::from([(
        "num_ctx".to_owned(),
        settings.ctx / u64::from(settings.parallel.max(1)),
    )]);
    let placement = answer.placement.as_ref();
    let layers = match target {
        Target::Cpu => Some(0),
        Target::Gpu => placement.and_then(|placement| placement.ngl),
    };
    // Without the option Ollama puts as many layers on GPUs as it thinks fit.
    if let Some(layers) = layers.or(settings.gpu_layers) {
        options.insert("num_gpu".to_owned(), u64::from(layers));
    }
    Run {
        env,
        program: "ollama".to_owned(),
        args: vec!["run".to_owned(), name.to_owned()],
        options,
    }
}

fn with_llama(
    question: &Question<'_>,
    site: &Site,
    answer: &SiteFit,
    launch: Launch<'_>,
    runtime: Runtime,
    target: Target,
) -> Option<Run> {
    let settings = question.settings;
    let placement = answer.placement.as_ref()?;
    let mut args = Args::default();
    match launch {
        Launch::File(path) => args.add("-m", path),
        Launch::HuggingFace(repository) => args.add("-hf", repository),
        Launch::Url(url) => args.add("-mu", url),
        Launch::Ollama(_) | Launch::Nothing => return None,
    }
    let layers = match target {
        Target::Cpu => 0,
        Target::Gpu => placement
            .ngl
            .or(settings.gpu_layers)
            .unwrap_or_else(|| question.subject.gpu_layers()),
    };
    args.add("-ngl", layers);
    if placement.tensor_split.len() > 1 {
        let shares: Vec<String> = placement.tensor_split.iter().map(f64::to_string).collect();
        args.add("--tensor-split", shares.join(","));
    }
    if placement.cpu_experts > 0 {
        args.add("--n-cpu-moe", placement.cpu_experts);
    }
    settings_of(settings, runtime, &mut args);
    let program = match runtime {
        Runtime::LlamaCli => "llama-cli",
        _ => "llama-server",
    };
    Some(Run {
        env: visible(site, answer, target),
        program: program.to_owned(),
        args: args.0,
        options: BTreeMap::new(),
    })
}

fn settings_of(settings: &Settings, runtime: Runtime, args: &mut Args) {
    args.add("-c", settings.ctx);
    let slots = if runtime == Runtime::LlamaServer {
        SERVER_SLOTS
    } else {
        1
    };
    if settings.parallel != slots {
        args.add("-np", settings.parallel);
    }
    if settings.batch != BATCH {
        args.add("-b", settings.batch);
    }
    if settings.ubatch != UBATCH {
        args.add("-ub", settings.ubatch);
    }
    if settings.cache_k != CacheType::F16 {
        args.add("-ctk", settings.cache_k);
    }
    if settings.cache_v != CacheType::F16 {
        args.add("-ctv", settings.cache_v);
    }
    args.add(
        "-fa",
        if settings.flash_attention {
            "on"
        } else {
            "off"
        },
    );
    if settings.swa_full {
        args.flag("--swa-full");
    }
}

/// Which GPUs the program sees, in the order of the shares. By UUID where there are UUIDs: the number of a card is another one for CUDA (by
/// speed) than for the driver (by bus) unless it is told to count alike.
fn visible(site: &Site, answer: &SiteFit, target: Target) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    let Some(placement) = &answer.placement else {
        return env;
    };
    let backend = site.rooms.first().map(|room| room.backend);
    let on = |index: &u32| site.rooms.iter().find(|room| room.index == *index);
    let backend = placement
        .gpus
        .first()
        .and_then(on)
        .map(|room| room.backend)
        .or(backend);
    let hidden = target == Target::Cpu || placement.kind == PlacementKind::Cpu;
    let list = |named: bool| -> String {
        let names = placement
            .gpus
            .iter()
            .zip(&placement.uuids)
            .map(|(index, uuid)| match uuid {
                Some(uuid) if named => uuid.clone(),
                _ => index.to_string(),
            });
        if hidden {
            String::new()
        } else {
            names.collect::<Vec<_>>().join(",")
        }
    };
    let all_named = placement.uuids.iter().all(Option::is_some);
    match backend {
        Some(Backend::Cuda) => {
            env.insert("CUDA_DEVICE_ORDER".to_owned(), "PCI_BUS_ID".to_owned());
            env.insert("CUDA_VISIBLE_DEVICES".to_owned(), list(all_named));
        }
        Some(Backend::Rocm) => {
            env.insert("HIP_VISIBLE_DEVICES".to_owned(), list(false));
        }
        Some(Backend::Vulkan | Backend::Metal | Backend::Sycl | Backend::Cpu) | None => {}
    }
    env
}

#[derive(Default)]
struct Args(Vec<String>);

impl Args {
    fn add(&mut self, name: &str, value: impl fmt::Display) {
        self.0.push(name.to_owned());
        self.0.push(value.to_string());
    }

    fn flag(&mut self, name: &str) {
        self.0.push(name.to_owned());
    }
}

/// One line for a POSIX shell. Options that are not arguments are left out.
impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.env {
            write!(f, "{name}={} ", quoted(value))?;
        }
        f.write_str(&quoted(&self.program))?;
        for arg in &self.args {
            write!(f, " {}", quoted(arg))?;
        }
        Ok(())
    }
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
