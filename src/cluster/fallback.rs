//! Models that run on the CPU although their node has a GPU: noticed, explained, told once.
//!
//! Ollama puts a model on the CPU, in part or whole, when the GPU's memory is full or its driver is gone, and says so only in `/api/ps`. Three
//! witnesses are heard: what the node says (size and the part of it in GPU memory), how fast the answers come, and what this machine's driver
//! says of the GPU. A node that never had a GPU does not fall back.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Gpu, GpuState, LoadedModel, ModelName, Node};

/// Share of a model in GPU memory, in percent, below which it counts as on the CPU. An Ollama 0.32.15 without a GPU reports a small share all
/// the same (11 % of a tiny model), one that offloads half of its layers about 47 % (`tests/data/wire/ollama-0.32.15-vulkan-llvmpipe`).
pub const ON_GPU_PERCENT: u8 = 25;
/// Share from which it counts as on the GPU as a whole: some runners keep the embedding rows in RAM.
const WHOLE_PERCENT: u8 = 95;
/// Share of the speed that answers had on the GPU, or should have there, below which they do not come from it. Processors read their memory five
/// to twenty times as slowly; answers at the same time and long contexts seldom cost more than three quarters of the speed.
const SLOW: f64 = 0.2;
/// Share of what a model claims of a GPU's memory that its driver must show in use.
const SHOWN: u64 = 2;

/// What a loaded model runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Processor {
    /// The GPU.
    Gpu,
    /// The GPU for so many percent of its bytes, the CPU for the rest.
    Partly(u8),
    /// The CPU.
    Cpu,
}

impl LoadedModel {
    /// What it runs on, as its node says; `None` where the node does not say.
    pub fn processor(&self) -> Option<Processor> {
        Some(match self.gpu_percent()? {
            percent if percent < ON_GPU_PERCENT => Processor::Cpu,
            percent if percent < WHOLE_PERCENT => Processor::Partly(percent),
            _ => Processor::Gpu,
        })
    }
}

/// Everything that is known of one loaded model and its node's GPU.
#[derive(Debug, Clone, Copy, Default)]
pub struct Evidence<'a> {
    /// Whether the node has a GPU, or had one: by configuration, by inventory, or because models were seen on it.
    pub has_gpu: bool,
    /// The GPU behind the node, where this machine's driver tells.
    pub gpu: Option<&'a Gpu>,
    /// Bytes of the GPU's memory that may be used, where they are known.
    pub usable_bytes: Option<u64>,
    /// Tokens per second of the newest answers.
    pub recent_tps: Option<f64>,
    /// Tokens per second while it was on the GPU, or the lowest that the GPU's bandwidth makes likely.
    pub expected_tps: Option<f64>,
}

/// Why a model is not on the GPU.
#[derive(Debug, Clone, PartialEq)]
pub enum Cause {
    /// The driver has lost the GPU, or does not answer.
    DriverLost(String),
    /// It is larger than the GPU's memory.
    TooLarge {
        /// Bytes of the model as it is loaded.
        need: u64,
        /// Bytes that may be used.
        usable: u64,
    },
    /// Others have the memory.
    Full {
        /// Bytes of the model as it is loaded.
        need: u64,
        /// Bytes that are in use, its own part included.
        used: u64,
        /// Bytes that may be used.
        usable: u64,
    },
    /// The node says that it is on the GPU, and the driver shows far less in use.
    NotShown {
        /// Bytes that the node says are on the GPU.
        claimed: u64,
        /// Bytes in use as the driver says.
        used: u64,
    },
    /// The answers are far slower than the GPU gives them.
    Slow {
        /// Tokens per second now.
        now: f64,
        /// Tokens per second on the GPU.
        expected: f64,
    },
    /// Nobody tells.
    Untold,
}

/// A model that fell back.
#[derive(Debug, Clone, PartialEq)]
pub struct Fallback {
    /// What it runs on.
    pub processor: Processor,
    /// Why.
    pub cause: Cause,
}

/// Judges one loaded model; `None` when it is where it belongs, or nobody can tell.
pub fn fallback(loaded: &LoadedModel, evidence: &Evidence<'_>) -> Option<Fallback> {
    if !evidence.has_gpu {
        return None;
    }
    match loaded.processor() {
        Some(Processor::Gpu) | None => {
            let cause = not_shown(loaded, evidence).or_else(|| slow(evidence))?;
            Some(Fallback {
                processor: Processor::Cpu,
                cause,
            })
        }
        Some(processor) => Some(Fallback {
            processor,
            cause: cause(loaded, evidence),
        }),
    }
}

fn not_shown(loaded: &LoadedModel, evidence: &Evidence<'_>) -> Option<Cause> {
    let claimed = loaded.vram_bytes.filter(|bytes| *bytes > 0)?;
    let gpu = evidence.gpu?;
    if gpu.state != GpuState::Ok {
        return Some(lost(gpu));
    }
    let used = gpu.used_bytes.filter(|_| !gpu.unified)?;
    (used < claimed / SHOWN).then_some(Cause::NotShown { claimed, used })
}

fn slow(evidence: &Evidence<'_>) -> Option<Cause> {
    let (now, expected) = evidence.recent_tps.zip(evidence.expected_tps)?;
    (now > 0.0 && now < expected * SLOW).then_some(Cause::Slow { now, expected })
}

fn lost(gpu: &Gpu) -> Cause {
    let why = gpu.cause.clone();
    Cause::DriverLost(why.unwrap_or_else(|| "the GPU does not answer".to_owned()))
}

fn cause(loaded: &LoadedModel, evidence: &Evidence<'_>) -> Cause {
    if let Some(gpu) = evidence.gpu.filter(|gpu| gpu.state != GpuState::Ok) {
        return lost(gpu);
    }
    let Some((need, usable)) = loaded.size_bytes.zip(evidence.usable_bytes) else {
        return Cause::Untold;
    };
    if need > usable {
        return Cause::TooLarge { need, usable };
    }
    let others = |used: u64| used.saturating_sub(loaded.vram_bytes.unwrap_or(0));
    match evidence.gpu.and_then(|gpu| gpu.used_bytes) {
        Some(used) if others(used).saturating_add(need) > usable => {
            Cause::Full { need, used, usable }
        }
        _ => Cause::Untold,
    }
}

impl Fallback {
    /// What is wrong, as a sentence.
    pub fn text(&self, node: &str, model: &ModelName) -> String {
        let place = match self.processor {
            Processor::Gpu => "on the GPU".to_owned(),
            Processor::Partly(percent) => format!("only {percent} % on the GPU"),
            Processor::Cpu => "on the CPU".to_owned(),
        };
        let why = match &self.cause {
            Cause::DriverLost(why) => format!("the GPU is gone ({why})"),
            Cause::TooLarge { need, usable } => {
                format!("it takes {} and the GPU has {}", gib(*need), gib(*usable))
            }
            Cause::Full { need, used, usable } => format!(
                "it takes {}, and {} of {} are in use",
                gib(*need),
                gib(*used),
                gib(*usable)
            ),
            Cause::NotShown { claimed, used } => format!(
                "the node says that {} of it are in GPU memory, the driver shows {} in use by all",
                gib(*claimed),
                gib(*used)
            ),
            Cause::Slow { now, expected } => {
                format!("{now:.1} tokens/s instead of about {expected:.1}")
            }
            Cause::Untold => "the node does not say why".to_owned(),
        };
        format!("`{model}` on {node} runs {place}: {why}")
    }

    /// What to do.
    pub fn cure(&self) -> String {
        match &self.cause {
            Cause::DriverLost(_) => {
                "see `nvidia-smi` and the kernel log, then restart the model server; a container may have lost its GPU (restart it)"
            }
            Cause::TooLarge { .. } => {
                "choose a smaller model, quantisation or context (`gpurouter fit MODEL` names what fits), or a node with more memory"
            }
            Cause::Full { .. } => {
                "unload what is not needed (`gpurouter optimize` plans it), or end the other programs on the GPU; then let the model be loaded again"
            }
            Cause::NotShown { .. } | Cause::Slow { .. } => {
                "restart the model server and look into its log for the GPU that it finds"
            }
            Cause::Untold => {
                "see whether `num_gpu` is set in the request or the Modelfile, and what the server's log says of its GPU; `gpurouter fit MODEL` tells whether the model fits"
            }
        }
        .to_owned()
    }
}

fn gib(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let gib = bytes as f64 / f64::from(1 << 30);
    format!("{gib:.1} GiB")
}

/// Models that are remembered.
const MOST: usize = 4096;

/// Which models fell back, and which nodes ever had a GPU.
#[derive(Debug, Clone, Default)]
pub struct FallbackWatch {
    fallen: BTreeMap<(String, ModelName), Fallback>,
    /// Told, and not seen on the GPU since.
    told: BTreeSet<(String, ModelName)>,
    had_gpu: BTreeSet<String>,
    /// Decode speeds while on the GPU.
    on_gpu: BTreeMap<(String, ModelName), f64>,
}

impl FallbackWatch {
    /// Notes that a node had a GPU before this router started.
    pub fn had_gpu(&mut self, node: &str) {
        if self.had_gpu.len() < MOST {
            self.had_gpu.insert(node.to_owned());
        }
    }

    /// Looks at a node's loaded models. `evidence` is what is known of each, apart from what the watch remembers itself. Returns those that
    /// have just fallen back and were not told yet.
    pub fn look<'e>(
        &mut self,
        node: &Node,
        evidence: impl Fn(&LoadedModel) -> Evidence<'e>,
    ) -> Vec<(ModelName, Fallback)> {
        let on_it = |loaded: &LoadedModel| loaded.processor() == Some(Processor::Gpu);
        if node.loaded.iter().any(on_it) {
            self.had_gpu(&node.name);
        }
        let mut new = Vec::new();
        for loaded in &node.loaded {
            let key = (node.name.clone(), loaded.name.clone());
            let given = evidence(loaded);
            let before = self.on_gpu.get(&key).copied();
            let known = Evidence {
                has_gpu: given.has_gpu || self.had_gpu.contains(&node.name),
                expected_tps: before.or(given.expected_tps),
                ..given
            };
            match fallback(loaded, &known) {
                None => {
                    self.fallen.remove(&key);
                    self.told.remove(&key);
                    if let Some(tps) = given.recent_tps.filter(|_| on_it(loaded))
                        && self.on_gpu.len() < MOST
                    {
                        // The best of it: a busy hour is not what the GPU gives.
                        let best = self.on_gpu.entry(key).or_insert(tps);
                        *best = best.max(tps);
                    }
                }
                Some(found) => {
                    if self.told.len() < MOST && self.told.insert(key.clone()) {
                        new.push((loaded.name.clone(), found.clone()));
                    }
                    self.fallen.insert(key, found);
                }
            }
        }
        // What is no longer in memory is nowhere; it is told again only after it was seen on the GPU.
        self.fallen.retain(|(name, model), _| {
            *name != node.name || node.loaded.iter().any(|loaded| loaded.name == *model)
        });
        new
    }

    /// Those that have fallen back now.
    pub fn fallen(&self) -> impl Iterator<Item = (&str, &ModelName, &Fallback)> {
        self.fallen
            .iter()
            .map(|((node, model), fallback)| (node.as_str(), model, fallback))
    }
}

#[cfg(test)]
#[path = "fallback_tests.rs"]
mod tests;
