//! Which models are loaded where: the plan of `optimize`, which `serve` carries out too.
//!
//! The wanted models are taken in their order. One that is on a GPU somewhere stays there; the others go where all of them fits, next to what is
//! loaded, by the same answer as `fit`. Idle models make room when nothing else does: the one that was not used for the longest time first, of
//! those the one with the least demand, of those the one that is loaded again the fastest. A wanted model makes room only for one that is wanted
//! before it. Models at work are never touched, and embeddings never displace a model that answers. Planning again after a plan was carried out
//! changes nothing.

mod choose;
mod ground;
mod report;
#[cfg(test)]
mod tests;

use serde::Serialize;

use super::{LoadedModel, MemoryPolicy, ModelName, NodeKind, Site, Strategy};
use crate::vram::{Basis, Extras, Settings, Subject};
use choose::Choice;
use ground::Ground;
pub use report::{CanFit, NodeReport, report};

/// What a model needs, as [`super::fit()`] asks it.
#[derive(Clone, Copy)]
pub struct ModelNeed<'a> {
    /// What it is.
    pub subject: &'a Subject,
    /// What that is based on.
    pub basis: Basis,
    /// What runs beside it.
    pub extras: Extras<'a>,
    /// How it is run.
    pub settings: &'a Settings,
}

/// A model that is wanted in memory.
#[derive(Clone)]
pub struct Wanted<'a> {
    /// Its name.
    pub name: ModelName,
    /// What it needs; `None`: nothing tells, or it did not have to be asked because it is where it should be.
    pub need: Option<ModelNeed<'a>>,
    /// The node that is taken before others.
    pub prefer: Option<&'a str>,
}

/// What is known of the use of a model on a node.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// Whether it may be at work.
    pub active: bool,
    /// Milliseconds since its last request; `None`: it had none.
    pub idle_ms: Option<u64>,
    /// Requests that it had lately.
    pub demand: u64,
    /// Milliseconds that loading it took; `None`: not measured.
    pub load_ms: Option<f64>,
}

/// What counts as "where it should be".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// All of it on GPUs.
    Gpu,
    /// All of it on GPUs, and where no GPU has room in any memory.
    Memory,
}

/// What is planned for.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// Where models may run; memory that is promised to others is taken off already.
    pub sites: &'a [Site],
    /// The wanted models, the most important first.
    pub wanted: &'a [Wanted<'a>],
    /// How much of a memory counts as usable, and what a need is multiplied by.
    pub policy: MemoryPolicy,
    /// How GPUs are chosen.
    pub strategy: Strategy,
    /// Whether the CPU is an answer where no GPU has room, for [`Goal::Memory`].
    pub cpu_fallback: bool,
    /// What is enough.
    pub goal: Goal,
    /// Use of a model on a node.
    pub usage: &'a dyn Fn(&str, &ModelName) -> Usage,
    /// Why a load there is not to be tried now, as a sentence: it failed, or it came out on the CPU though there was room.
    pub held_back: &'a dyn Fn(&str, &ModelName) -> Option<String>,
}

/// What is done with a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Loaded, to stay.
    Load,
    /// Taken out of memory.
    Unload,
    /// Kept from expiring.
    Pin,
}

impl Action {
    /// The word used in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Unload => "unload",
            Self::Pin => "pin",
        }
    }
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// What is done.
    pub action: Action,
    /// At which node.
    pub node: String,
    /// With which model.
    pub model: ModelName,
    /// Bytes of GPU memory that it takes, frees or keeps.
    pub bytes: u64,
    /// Milliseconds that the load takes, for an unload those of loading it again; `None`: not measured.
    pub cost_ms: Option<f64>,
    /// Why, as a sentence.
    pub reason: String,
    /// The context in tokens that a load asks for and a pin must not change; `None`: the node's own.
    #[serde(skip)]
    pub context: Option<u64>,
    /// The node where the same model must have been loaded first.
    #[serde(skip)]
    pub after: Option<String>,
    /// What a load takes of each GPU in bytes, by the GPU's index at that node.
    #[serde(skip)]
    pub needs: Vec<(u32, u64)>,
    /// Whether all of what is loaded is to be on GPUs.
    #[serde(skip)]
    pub whole: bool,
}

/// Where a wanted model is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Resident {
    /// The node.
    pub node: String,
    /// The model.
    pub model: ModelName,
    /// Share of it in GPU memory in percent: 100 all, 0 none; `None`: the node does not tell.
    pub gpu_percent: Option<u8>,
}

/// A wanted model that this plan does not bring where it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Impossible {
    /// The model.
    pub model: ModelName,
    /// Bytes that one GPU needs to hold all of it; `None`: not known.
    pub need_bytes: Option<u64>,
    /// Bytes usable on the node with the most of them, of those that have the model; `None`: no such node is known.
    pub largest_usable_bytes: Option<u64>,
    /// Why, as a sentence.
    pub reason: String,
    /// Whether no node has it at all.
    #[serde(skip)]
    pub absent: bool,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct ResidencyPlan {
    /// The steps. Those of one node must be done in this order, and no further than to the first that fails; nodes do not wait for each other,
    /// [`Change::after`] aside, which names a step earlier in the list.
    pub changes: Vec<Change>,
    /// Where the wanted models are before them.
    pub resident: Vec<Resident>,
    /// Wanted models that stay where they are, or out of memory.
    pub impossible: Vec<Impossible>,
}

impl ResidencyPlan {
    /// Whether there is nothing to do.
    pub fn settled(&self) -> bool {
        self.changes.is_empty()
    }
}

/// Plans. Pure: the same scene always gives the same plan.
pub fn residency(scene: &Scene<'_>) -> ResidencyPlan {
    let mut wanted: Vec<&Wanted<'_>> = Vec::new();
    for model in scene.wanted {
        let new = wanted.iter().all(|known| known.name != model.name);
        if new && !model.name.as_str().is_empty() {
            wanted.push(model);
        }
    }
    let mut planner = Planner {
        scene,
        ground: Ground::new(scene.sites),
        plan: ResidencyPlan {
            resident: residents(scene.sites, &wanted),
            ..ResidencyPlan::default()
        },
    };
    // What makes room for one model may make enough for one before it too. A load displaces only what is wanted later, so this comes to an end.
    let mut rounds = MOST_ROUNDS;
    while planner.round(&wanted) && rounds > 0 {
        rounds -= 1;
    }
    planner.finish()
}

/// Loads after which a plan ends; far more than wanted models.
const MOST_ROUNDS: usize = 1024;

/// Every copy of the wanted models in a memory that answers.
fn residents(sites: &[Site], wanted: &[&Wanted<'_>]) -> Vec<Resident> {
    let mut residents = Vec::new();
    for model in wanted {
        for site in sites {
            if let Some((node, loaded)) = copy_at(site, &model.name) {
                residents.push(Resident {
                    node: node.to_owned(),
                    model: model.name.clone(),
                    gpu_percent: loaded.gpu_percent(),
                });
            }
        }
    }
    residents
}

/// The copy of a model at a site that answers, with the node's name.
fn copy_at<'a>(site: &'a Site, name: &ModelName) -> Option<(&'a str, &'a LoadedModel)> {
    let node = site.node.as_ref().filter(|node| node.state.usable())?;
    Some((node.name.as_str(), node.loaded(name)?))
}

/// The wanted models before and after one.
struct Rank<'a> {
    earlier: &'a [&'a Wanted<'a>],
    later: &'a [&'a Wanted<'a>],
}

/// First year of an expiry date that means "never": Ollama writes a time 292 years ahead for a model that stays.
const NEVER: u32 = 2200;

/// Whether the node keeps the model until somebody takes it out. One that tells no date does.
fn stays(loaded: &LoadedModel) -> bool {
    loaded.expires_at.as_deref().is_none_or(|date| {
        let year = date.split('-').next().and_then(|year| year.parse().ok());
        year.is_some_and(|year: u32| year >= NEVER)
    })
}

/// Whether a copy is where it should be: all of it on GPUs, or served by a node that does not tell.
fn in_place(site: &Site, loaded: &LoadedModel) -> bool {
    let ollama = site
        .node
        .as_ref()
        .is_some_and(|node| node.kind == Some(NodeKind::Ollama));
    match loaded.gpu_percent() {
        Some(percent) => percent == 100,
        None => !ollama,
    }
}

struct Planner<'a> {
    scene: &'a Scene<'a>,
    ground: Ground,
    plan: ResidencyPlan,
}

impl Planner<'_> {
    /// Takes the models in their order up to the first that is to be loaded; says whether there was one.
    fn round(&mut self, wanted: &[&Wanted<'_>]) -> bool {
        self.plan.impossible.clear();
        for (at, model) in wanted.iter().enumerate() {
            let later = wanted.get(at + 1..).unwrap_or_default();
            let earlier = wanted.get(..at).unwrap_or_default();
            if self.take(model, &Rank { earlier, later }) {
                return true;
            }
        }
        false
    }

    /// Says whether it is to be loaded now.
    fn take(&mut self, model: &Wanted<'_>, rank: &Rank<'_>) -> bool {
        if self.placed(model) {
            return false;
        }
        match choose::choose(self.scene, &self.ground, model, rank) {
            Ok(choice) => {
                self.load(model, &choice);
                return true;
            }
            // A copy in another memory is enough where no GPU has room, if that is the goal.
            Err(_) if self.scene.goal == Goal::Memory && self.kept_anywhere(model) => {}
            Err(impossible) => self.plan.impossible.push(*impossible),
        }
        false
    }

    /// The plan without steps that a later one undoes.
    fn finish(mut self) -> ResidencyPlan {
        let mut at = 0;
        while let Some(change) = self.plan.changes.get(at) {
            let rest = self.plan.changes.get(at + 1..).unwrap_or_default();
            let same = |other: &Change| other.node == change.node && other.model == change.model;
            let undone = rest
                .iter()
                .position(|other| same(other) && other.action == Action::Unload);
            match (change.action, undone) {
                (Action::Load, Some(later)) => {
                    self.plan.changes.remove(at + 1 + later);
                    self.plan.changes.remove(at);
                }
                (Action::Pin, Some(_)) => {
                    self.plan.changes.remove(at);
                }
                _ => at += 1,
            }
        }
        self.plan
    }

    /// Whether some copy is where it should be; it is kept from expiring.
    fn placed(&mut self, model: &Wanted<'_>) -> bool {
        self.keep(model, in_place)
    }

    fn kept_anywhere(&mut self, model: &Wanted<'_>) -> bool {
        self.keep(model, |_, _| true)
    }

    fn keep(&mut self, model: &Wanted<'_>, counts: impl Fn(&Site, &LoadedModel) -> bool) -> bool {
        let copies: Vec<(usize, &str, &LoadedModel)> = self
            .ground
            .sites()
            .iter()
            .enumerate()
            .filter_map(|(at, site)| {
                let (node, loaded) = copy_at(site, &model.name)?;
                counts(site, loaded).then_some((at, node, loaded))
            })
            .collect();
        if copies.iter().any(|(_, _, loaded)| stays(loaded)) {
            return true;
        }
        let preferred = copies
            .iter()
            .find(|(_, node, _)| model.prefer == Some(*node))
            .or(copies.first());
        let Some((at, node, loaded)) = preferred.copied() else {
            return false;
        };
        let change = Change {
            action: Action::Pin,
            node: node.to_owned(),
            model: model.name.clone(),
            bytes: loaded.vram_bytes.unwrap_or(0),
            cost_ms: None,
            reason: "It is loaded, and would be unloaded when idle".to_owned(),
            context: loaded.context,
            after: None,
            needs: Vec::new(),
            whole: false,
        };
        self.ground.pin(at, &model.name);
        self.plan.changes.push(change);
        true
    }

    fn load(&mut self, model: &Wanted<'_>, choice: &Choice) {
        let node = choice.node.clone();
        for gone in &choice.evicts {
            let reason = format!("Idle; {} needs its room", model.name);
            self.unload(choice.at, gone, reason, None);
        }
        if let Some((_, loaded)) = self
            .ground
            .site(choice.at)
            .and_then(|site| copy_at(site, &model.name))
        {
            let reason = match loaded.gpu_percent() {
                Some(0) => "It is on the CPU, and the GPU has room".to_owned(),
                Some(percent) => {
                    format!("Only {percent}% of it is on the GPU, which has room for all")
                }
                None => "How much of it is on the GPU is not told".to_owned(),
            };
            self.unload(choice.at, &model.name, reason, None);
        }
        self.plan.changes.push(Change {
            action: Action::Load,
            node: node.clone(),
            model: model.name.clone(),
            bytes: choice.bytes(),
            cost_ms: self.cost(&node, &model.name),
            reason: choice.reason.clone(),
            context: choice.context,
            after: None,
            needs: choice.needs.clone(),
            whole: choice.whole,
        });
        self.ground.load(choice.at, &model.name, &choice.needs);
        self.leave_others(model, choice);
    }

    /// Copies elsewhere that hold GPU memory for nothing go when the model is loaded.
    fn leave_others(&mut self, model: &Wanted<'_>, choice: &Choice) {
        let elsewhere: Vec<usize> = self
            .ground
            .sites()
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != choice.at)
            .filter_map(|(at, site)| {
                let (node, loaded) = copy_at(site, &model.name)?;
                let idle = !(self.scene.usage)(node, &model.name).active;
                let ollama = site.node.as_ref()?.kind == Some(NodeKind::Ollama);
                let pinned_for_nothing = stays(loaded) || loaded.vram_bytes > Some(0);
                (idle && ollama && pinned_for_nothing && !in_place(site, loaded)).then_some(at)
            })
            .collect();
        for at in elsewhere {
            let reason = format!("It moves to {}", choice.node);
            self.unload(at, &model.name, reason, Some(choice.node.clone()));
        }
    }

    fn unload(&mut self, at: usize, name: &ModelName, reason: String, after: Option<String>) {
        let Some((node, loaded)) = self.ground.site(at).and_then(|site| copy_at(site, name)) else {
            return;
        };
        let change = Change {
            action: Action::Unload,
            node: node.to_owned(),
            model: name.clone(),
            bytes: loaded.vram_bytes.unwrap_or(0),
            cost_ms: self.cost(node, name),
            reason,
            context: None,
            after,
            needs: Vec::new(),
            whole: false,
        };
        self.plan.changes.push(change);
        self.ground.unload(at, name);
    }

    fn cost(&self, node: &str, model: &ModelName) -> Option<f64> {
        (self.scene.usage)(node, model).load_ms
    }
}
