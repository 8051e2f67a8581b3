//! Where a model fits, next to what is loaded: one function, whose answer `fit`, the pool, `serve` and `optimize` share.

mod advice;
mod case;
mod evict;
mod run;
mod site;
mod speed;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::Serialize;

pub use advice::Advice;
pub use evict::Eviction;
pub(super) use evict::without;
pub use run::{Launch, Run};
pub use site::{SiteFit, SitePlacement};

use super::memory::scaled;
use super::{Knowledge, MemoryPolicy, ModelName, PlacementKind, Site, Strategy};
use crate::vram::{Basis, Estimate, Extras, Parts, Settings, Subject};
use case::Case;

/// Another file of the same repository, or another tag of the same model.
#[derive(Debug, Clone, Copy)]
pub struct Variant<'a> {
    /// How it is named in a command (`hf:owner/repo:Q4_K_M`).
    pub name: &'a str,
    /// What it is.
    pub subject: &'a Subject,
    /// What that is based on.
    pub basis: Basis,
}

/// What is asked.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// The model as the user wrote it.
    pub model: &'a str,
    /// What it is.
    pub subject: &'a Subject,
    /// What that is based on.
    pub basis: Basis,
    /// What runs beside it.
    pub extras: Extras<'a>,
    /// How it is to be run. Layers asked for with `gpu_layers` are a wish: fewer are tried when they do not fit.
    pub settings: &'a Settings,
    /// How much of a memory counts as usable, and what a need is multiplied by.
    pub policy: MemoryPolicy,
    /// How GPUs are chosen.
    pub strategy: Strategy,
    /// Whether the CPU is an answer where no GPU has room.
    pub cpu_fallback: bool,
    /// Other files that might fit when this one does not, in any order.
    pub variants: &'a [Variant<'a>],
    /// What a command would name.
    pub launch: Launch<'a>,
    /// Whether a loaded model of a node must stay: it has active requests, or it is pinned.
    pub keep: &'a dyn Fn(&str, &ModelName) -> bool,
    /// Measured tokens per second of this model on a node (`None`: this machine), where there are some.
    pub measured: &'a dyn Fn(Option<&str>) -> Option<f64>,
    /// Whether the largest context and what else would fit are looked for; costs some ten placements per site.
    pub thorough: bool,
}

/// Whether it fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All of it on GPUs somewhere.
    Fits,
    /// A part of it on GPUs.
    Partial,
    /// On no GPU.
    No,
}

/// What a model runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Target {
    /// GPUs, all of it or a part.
    Gpu,
    /// The CPU.
    Cpu,
}

/// The site to choose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Best {
    /// The node; `None`: this machine.
    pub node: Option<String>,
    /// What the model runs on there.
    pub target: Target,
    /// Why, as a sentence.
    pub reason: String,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fit {
    /// In a word.
    pub verdict: Verdict,
    /// Bytes of one device that would hold all of it, headroom counted in, what a runtime adds not.
    pub need_bytes: u64,
    /// What it takes on one device that is large enough.
    pub estimate: Estimate,
    /// Every site, in configuration order.
    pub nodes: Vec<SiteFit>,
    /// The one to choose; `None`: nowhere.
    pub best: Option<Best>,
    /// What would fit instead.
    pub advice: Advice,
    /// How to start it there.
    pub run: Option<Run>,
}

/// Answers for every site and chooses one.
///
/// All of it on GPUs beats a part, a part beats the CPU. Among sites that hold all of it one that has it loaded wins, then the most free
/// memory; among those that hold a part the most layers; the CPU of a node without a GPU is taken before that of a node with one.
pub fn fit(question: &Question<'_>, sites: &[Site]) -> Fit {
    let case = Case::new(question);
    let whole = case.whole();
    let bytes = whole.devices.first().map_or(0, Parts::total_bytes);
    let nodes: Vec<SiteFit> = sites.iter().map(|site| site::answer(&case, site)).collect();
    let verdict = if nodes.iter().any(|node| node.fits) {
        Verdict::Fits
    } else if nodes.iter().any(|node| node.kind().partial()) {
        Verdict::Partial
    } else {
        Verdict::No
    };
    let chosen = choose(question, sites, &nodes);
    let best = chosen.map(|(at, target)| Best {
        node: nodes[at].node.clone(),
        target,
        reason: match target {
            Target::Gpu => nodes[at].reason.clone(),
            Target::Cpu => "Model must run on CPU".to_owned(),
        },
    });
    let advice = if question.thorough && verdict != Verdict::Fits {
        advice::find(&case, sites, &nodes)
    } else {
        Advice::default()
    };
    Fit {
        verdict,
        need_bytes: scaled(bytes, question.policy.headroom_factor),
        estimate: whole,
        run: chosen.and_then(|(at, target)| run::command(question, &sites[at], &nodes[at], target)),
        nodes,
        best,
        advice,
    }
}

fn choose(question: &Question<'_>, sites: &[Site], nodes: &[SiteFit]) -> Option<(usize, Target)> {
    // The earliest of equals: configuration order.
    let full = (0..nodes.len())
        .filter(|at| nodes[*at].fits)
        .max_by_key(|at| {
            let resident = nodes[*at].loaded_percent == Some(100);
            (resident, nodes[*at].free_bytes, std::cmp::Reverse(*at))
        });
    if let Some(at) = full {
        return Some((at, Target::Gpu));
    }
    let part = (0..nodes.len())
        .filter(|at| nodes[*at].kind().partial())
        .max_by_key(|at| {
            let layers = nodes[*at].placement.as_ref().and_then(|placed| placed.ngl);
            (
                layers.unwrap_or(u32::MAX),
                nodes[*at].free_bytes,
                std::cmp::Reverse(*at),
            )
        });
    if let Some(at) = part {
        return Some((at, Target::Gpu));
    }
    let cpu = (0..nodes.len())
        .filter(|at| question.cpu_fallback && sites[*at].live() && nodes[*at].cpu)
        .min_by_key(|at| {
            let knowledge = sites[*at].knowledge;
            (
                knowledge != Knowledge::NoGpu,
                knowledge != Knowledge::Nothing,
                *at,
            )
        });
    cpu.map(|at| (at, Target::Cpu))
}

/// MiB of a memory, rounded down.
fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

/// MiB of a need, rounded up.
fn mib_needed(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fits => "fits",
            Self::Partial => "partial",
            Self::No => "no",
        })
    }
}

impl SiteFit {
    /// How the model is placed here.
    pub fn kind(&self) -> PlacementKind {
        self.placement
            .as_ref()
            .map_or(PlacementKind::None, |placement| placement.kind)
    }
}
