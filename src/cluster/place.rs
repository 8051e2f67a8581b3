//! Where a model goes: which GPUs, in which shares, and what stays on the CPU.
//!
//! In this order: one GPU (the one that is left with the least, so that large cards stay free for large models), the fewest GPUs in shares by
//! free memory, the experts of as few layers as possible on the CPU, as many layers as possible on GPUs, the CPU. Every device is checked against
//! its own need: what the model puts there, what the runtime adds there at most, and the headroom.

mod shares;
#[cfg(test)]
mod tests;
mod trial;

use serde::{Deserialize, Serialize};

use super::Room;
use super::memory::scaled;
use crate::vram::{Estimate, Offload};
pub(super) use trial::largest;
use trial::{Fit, Trial};

/// How GPUs are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// One GPU where one is enough (the one that is left with the least), else the fewest.
    #[default]
    SingleGpuPreferred,
    /// All GPUs that have room, in shares by their free memory.
    Distribute,
}

impl Strategy {
    /// The word used in configuration and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SingleGpuPreferred => "single-gpu-preferred",
            Self::Distribute => "distribute",
        }
    }
}

/// What is to be placed.
#[derive(Clone, Copy)]
pub struct Demand<'a> {
    /// What it takes.
    pub need: Need<'a>,
    /// What a need is multiplied by (1: nothing on top).
    pub headroom: f64,
}

/// What a model takes.
#[derive(Clone, Copy)]
pub enum Need<'a> {
    /// Bytes in all; how they divide is not known, so they may be shared out at will.
    Bytes(u64),
    /// Parts by device.
    Layers(Layers<'a>),
}

/// A model whose parts are known.
#[derive(Clone, Copy)]
pub struct Layers<'a> {
    /// What it takes on each device of an offload. More layers on a device never take less there.
    pub estimate: &'a dyn Fn(&Offload) -> Estimate,
    /// Layers in all, the output layer counted.
    pub gpu_layers: u32,
    /// Layers up to and with the last one that has experts; 0: no experts.
    pub expert_layers: u32,
}

/// What decides beside the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// How GPUs are chosen.
    pub strategy: Strategy,
    /// Whether the CPU is an answer where no GPU has room.
    pub cpu_fallback: bool,
    /// Bytes of RAM that may be used; `None`: not known, and not checked.
    pub ram_free: Option<u64>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            strategy: Strategy::SingleGpuPreferred,
            cpu_fallback: true,
            ram_free: None,
        }
    }
}

/// How a model is placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlacementKind {
    /// All of it on one GPU.
    Single,
    /// All of it on several GPUs.
    Split,
    /// All layers on GPUs, the experts of some on the CPU.
    ExpertsOnCpu,
    /// Some layers on GPUs.
    Partial,
    /// All of it on the CPU.
    Cpu,
    /// Nowhere.
    None,
}

impl PlacementKind {
    /// Whether all of the model is on GPUs.
    pub fn fits(self) -> bool {
        matches!(self, Self::Single | Self::Split)
    }

    /// Whether a part of the model is on GPUs and a part on the CPU.
    pub fn partial(self) -> bool {
        matches!(self, Self::ExpertsOnCpu | Self::Partial)
    }
}

/// Where a model goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Placement {
    /// In which way.
    pub kind: PlacementKind,
    /// Positions in the list of rooms, in the order in which the runtime must see them; the one with the most free memory first.
    pub gpus: Vec<usize>,
    /// Share of each GPU, in sum 1.
    pub tensor_split: Vec<f64>,
    /// Layers on GPUs (`-ngl`), the output layer counted; `None`: all.
    pub gpu_layers: Option<u32>,
    /// First layers whose experts stay on the CPU (`--n-cpu-moe`).
    pub cpu_experts: u32,
    /// Bytes to be reserved on each GPU, headroom and the most that the runtime may add counted in.
    pub needs: Vec<u64>,
    /// Bytes that the whole model needs on GPUs: the sum of `needs` where it is there, else what one device would need.
    pub need_bytes: u64,
    /// Bytes free on all GPUs together.
    pub available_bytes: u64,
    /// What it takes so placed; `None` where only its size is known or it is nowhere.
    pub estimate: Option<Estimate>,
}

impl Placement {
    /// The offload that it is.
    pub fn offload(&self) -> Offload {
        Offload {
            split: self.tensor_split.clone(),
            gpu_layers: if self.gpus.is_empty() {
                Some(0)
            } else {
                self.gpu_layers
            },
            cpu_experts: self.cpu_experts,
        }
    }
}

/// Finds the place of a model. Pure: the same rooms always give the same answer.
pub fn place(demand: &Demand<'_>, rooms: &[Room], rules: Rules) -> Placement {
    match demand.need {
        Need::Bytes(bytes) => {
            let need = scaled(bytes, demand.headroom);
            bytes_on_gpus(need, rooms, rules.strategy).unwrap_or_else(|| {
                let room = rules.ram_free.is_none_or(|free| need <= free);
                let kind = if rules.cpu_fallback && room {
                    PlacementKind::Cpu
                } else {
                    PlacementKind::None
                };
                nowhere(kind, need, rooms)
            })
        }
        Need::Layers(layers) => {
            let trial = Trial {
                layers,
                headroom: demand.headroom,
                rooms,
                ram_free: rules.ram_free,
            };
            let whole = trial.whole();
            layers_on_gpus(&trial, &whole, rules.strategy)
                .unwrap_or_else(|| layers_elsewhere(&trial, &whole, rules.cpu_fallback))
        }
    }
}

/// The place of all of a model on GPUs, as [`place`] finds it; `None` where that cannot be.
pub fn place_on_gpus(demand: &Demand<'_>, rooms: &[Room], strategy: Strategy) -> Option<Placement> {
    match demand.need {
        Need::Bytes(bytes) => bytes_on_gpus(scaled(bytes, demand.headroom), rooms, strategy),
        Need::Layers(layers) => {
            let trial = Trial {
                layers,
                headroom: demand.headroom,
                rooms,
                ram_free: None,
            };
            layers_on_gpus(&trial, &trial.whole(), strategy)
        }
    }
}

/// Positions of rooms that may work together (one kind of backend, shared memory or not), each list with the most free memory first, then in
/// order; the list with the most free memory in all first.
fn groups(rooms: &[Room]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let open = rooms
        .iter()
        .enumerate()
        .filter(|(_, room)| room.free_bytes > 0);
    for (at, room) in open {
        let kind = |room: &Room| (room.backend, room.unified, room.node.clone());
        let group = groups.iter_mut().find(|group| {
            group
                .first()
                .is_some_and(|first| kind(&rooms[*first]) == kind(room))
        });
        match group {
            Some(group) => group.push(at),
            None => groups.push(vec![at]),
        }
    }
    let free = |at: &usize| rooms[*at].free_bytes;
    for group in &mut groups {
        group.sort_by(|a, b| free(b).cmp(&free(a)).then(a.cmp(b)));
    }
    let sum = |group: &Vec<usize>| group.iter().map(free).fold(0, u64::saturating_add);
    groups.sort_by_key(|group| std::cmp::Reverse(sum(group)));
    groups
}

fn available(rooms: &[Room]) -> u64 {
    rooms
        .iter()
        .fold(0, |sum, room| sum.saturating_add(room.free_bytes))
}

/// The number of GPUs to try, in the order of the strategy.
fn counts(strategy: Strategy, groups: &[Vec<usize>]) -> Box<dyn Iterator<Item = usize>> {
    let most = groups.iter().map(Vec::len).max().unwrap_or(0);
    match strategy {
        Strategy::SingleGpuPreferred => Box::new(2..=most),
        Strategy::Distribute => Box::new((2..=most).rev()),
    }
}

fn bytes_on_gpus(need: u64, rooms: &[Room], strategy: Strategy) -> Option<Placement> {
    let placed = |kind, gpus: Vec<usize>, tensor_split, needs| Placement {
        kind,
        gpus,
        tensor_split,
        gpu_layers: None,
        cpu_experts: 0,
        needs,
        need_bytes: need,
        available_bytes: available(rooms),
        estimate: None,
    };
    let single = || {
        let with_room = rooms
            .iter()
            .enumerate()
            .filter(|(_, room)| room.free_bytes >= need);
        let (best, _) = with_room.min_by_key(|(at, room)| (room.free_bytes - need, *at))?;
        Some(placed(
            PlacementKind::Single,
            vec![best],
            vec![1.0],
            vec![need],
        ))
    };
    let split = || {
        let groups = groups(rooms);
        let sum = |gpus: &[usize]| {
            gpus.iter()
                .fold(0_u64, |sum, at| sum.saturating_add(rooms[*at].free_bytes))
        };
        counts(strategy, &groups).find_map(|count| {
            let group = groups
                .iter()
                .find(|group| group.len() >= count && sum(&group[..count]) >= need)?;
            let gpus = group[..count].to_vec();
            let free: Vec<u64> = gpus.iter().map(|at| rooms[*at].free_bytes).collect();
            let needs = shares::divide(need, &free);
            Some(placed(
                PlacementKind::Split,
                gpus,
                shares::by_size(&free),
                needs,
            ))
        })
    };
    match strategy {
        Strategy::SingleGpuPreferred => single().or_else(split),
        Strategy::Distribute => split().or_else(single),
    }
}

fn layers_on_gpus(trial: &Trial<'_>, whole: &Estimate, strategy: Strategy) -> Option<Placement> {
    let single = || {
        let fit = trial.tightest(whole, None, 0)?;
        Some(placed(PlacementKind::Single, fit, None, trial.rooms))
    };
    let split = || {
        let groups = groups(trial.rooms);
        let fit = counts(strategy, &groups).find_map(|count| {
            groups
                .iter()
                .filter(|group| group.len() >= count && trial.may_hold(whole, &group[..count]))
                .find_map(|group| trial.split(&group[..count], None, 0))
        })?;
        Some(placed(PlacementKind::Split, fit, None, trial.rooms))
    };
    match strategy {
        Strategy::SingleGpuPreferred => single().or_else(split),
        Strategy::Distribute => split().or_else(single),
    }
}

/// A fit as a placement; `need` where it is not what the GPUs of the fit need.
fn placed(kind: PlacementKind, fit: Fit, need: Option<u64>, rooms: &[Room]) -> Placement {
    let on_gpus = |needs: &[u64]| {
        needs
            .iter()
            .fold(0, |sum: u64, need| sum.saturating_add(*need))
    };
    Placement {
        kind,
        need_bytes: need.unwrap_or_else(|| on_gpus(&fit.needs)),
        gpus: fit.gpus,
        tensor_split: fit.split,
        gpu_layers: fit.gpu_layers,
        cpu_experts: fit.cpu_experts,
        needs: fit.needs,
        available_bytes: available(rooms),
        estimate: Some(fit.estimate),
    }
}

/// With a part on the CPU, or all of it, or nowhere.
fn layers_elsewhere(trial: &Trial<'_>, whole: &Estimate, cpu_fallback: bool) -> Placement {
    let groups = groups(trial.rooms);
    let need = trial.most_on_one(whole);
    let with = |kind, fit| placed(kind, fit, Some(need), trial.rooms);
    trial
        .fewest_experts(&groups)
        .map(|fit| with(PlacementKind::ExpertsOnCpu, fit))
        .or_else(|| Some(with(PlacementKind::Partial, trial.most_layers(&groups)?)))
        .or_else(|| {
            let fit = cpu_fallback.then(|| trial.on_cpu()).flatten()?;
            Some(with(PlacementKind::Cpu, fit))
        })
        .unwrap_or_else(|| nowhere(PlacementKind::None, need, trial.rooms))
}

fn nowhere(kind: PlacementKind, need: u64, rooms: &[Room]) -> Placement {
    Placement {
        kind,
        gpus: Vec::new(),
        tensor_split: Vec::new(),
        gpu_layers: Some(0),
        cpu_experts: 0,
        needs: Vec::new(),
        need_bytes: need,
        available_bytes: available(rooms),
        estimate: None,
    }
}
