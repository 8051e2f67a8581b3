//! One model whose parts are known, tried on sets of GPUs.

use super::Layers;
use super::shares::{by_size, layers_of, of_layers, passed_on};
use crate::cluster::Room;
use crate::cluster::memory::scaled;
use crate::vram::{Estimate, Offload, Parts};

/// A model and the rooms it is tried in.
pub(super) struct Trial<'a> {
    pub(super) layers: Layers<'a>,
    pub(super) headroom: f64,
    pub(super) rooms: &'a [Room],
    pub(super) ram_free: Option<u64>,
}

/// An offload that fits.
#[derive(Debug, Clone)]
pub(super) struct Fit {
    pub(super) gpus: Vec<usize>,
    pub(super) split: Vec<f64>,
    pub(super) gpu_layers: Option<u32>,
    pub(super) cpu_experts: u32,
    pub(super) needs: Vec<u64>,
    pub(super) estimate: Estimate,
}

impl Trial<'_> {
    /// All layers on one device that is large enough.
    pub(super) fn whole(&self) -> Estimate {
        self.estimate(&[1.0], None, 0)
    }

    fn estimate(&self, split: &[f64], gpu_layers: Option<u32>, cpu_experts: u32) -> Estimate {
        (self.layers.estimate)(&Offload {
            split: split.to_vec(),
            gpu_layers,
            cpu_experts,
        })
    }

    /// What device `at` needs in that room. What stays in the machine's memory counts against the first device that shares it.
    fn need(&self, estimate: &Estimate, at: usize, room: &Room, first_unified: bool) -> u64 {
        let parts = estimate.devices.get(at).map_or(0, Parts::total_bytes);
        let host = if first_unified {
            estimate.host.total_bytes()
        } else {
            0
        };
        let all = parts.saturating_add(room.runtime.high).saturating_add(host);
        scaled(all, self.headroom)
    }

    fn needs(&self, estimate: &Estimate, gpus: &[usize]) -> Vec<u64> {
        let first_unified = gpus.iter().position(|gpu| self.rooms[*gpu].unified);
        gpus.iter()
            .enumerate()
            .map(|(at, gpu)| self.need(estimate, at, &self.rooms[*gpu], first_unified == Some(at)))
            .collect()
    }

    /// What one device would need, whichever of the rooms it is.
    pub(super) fn most_on_one(&self, whole: &Estimate) -> u64 {
        let on = |room: &Room| self.need(whole, 0, room, room.unified);
        let bare = || {
            scaled(
                whole.devices.first().map_or(0, Parts::total_bytes),
                self.headroom,
            )
        };
        self.rooms.iter().map(on).max().unwrap_or_else(bare)
    }

    /// Whether the free memory of these rooms together is as much as what does not shrink by sharing.
    pub(super) fn may_hold(&self, whole: &Estimate, gpus: &[usize]) -> bool {
        let fixed = whole.devices.first().map_or(0, |parts| {
            parts.weights_bytes + parts.kv_bytes + parts.state_bytes
        });
        let free = gpus.iter().fold(0_u64, |sum, gpu| {
            sum.saturating_add(self.rooms[*gpu].free_bytes)
        });
        scaled(fixed, self.headroom) <= free
    }

    /// The one room that holds the estimate of one device and is left with the least.
    pub(super) fn tightest(
        &self,
        whole: &Estimate,
        gpu_layers: Option<u32>,
        cpu_experts: u32,
    ) -> Option<Fit> {
        let left = |(at, room): (usize, &Room)| {
            let need = self.need(whole, 0, room, room.unified);
            let left = room.free_bytes.checked_sub(need)?;
            Some((left, at, need))
        };
        let (_, at, need) = self.rooms.iter().enumerate().filter_map(left).min()?;
        Some(self.fit(
            vec![at],
            vec![1.0],
            gpu_layers,
            cpu_experts,
            vec![need],
            whole.clone(),
        ))
    }

    fn fit(
        &self,
        gpus: Vec<usize>,
        split: Vec<f64>,
        gpu_layers: Option<u32>,
        cpu_experts: u32,
        needs: Vec<u64>,
        mut estimate: Estimate,
    ) -> Fit {
        for (parts, gpu) in estimate.devices.iter_mut().zip(&gpus) {
            parts.runtime = self.rooms[*gpu].runtime;
        }
        Fit {
            gpus,
            split,
            gpu_layers,
            cpu_experts,
            needs,
            estimate,
        }
    }

    fn all_hold(&self, gpus: &[usize], needs: &[u64]) -> bool {
        gpus.iter()
            .zip(needs)
            .all(|(gpu, need)| *need <= self.rooms[*gpu].free_bytes)
    }

    /// All these GPUs: in shares by free memory, else by what is free beyond each device's fixed part, else each filled in turn, the largest
    /// first and the largest last (the last device holds the output layer).
    pub(super) fn split(
        &self,
        gpus: &[usize],
        gpu_layers: Option<u32>,
        cpu_experts: u32,
    ) -> Option<Fit> {
        let count = gpu_layers.unwrap_or(self.layers.gpu_layers);
        if u32::try_from(gpus.len()).map_or(true, |devices| devices > count) {
            return None;
        }
        let free: Vec<u64> = gpus.iter().map(|gpu| self.rooms[*gpu].free_bytes).collect();
        let attempt = |sizes: &[u64]| {
            let split = passed_on(&by_size(sizes), count);
            let each_has_some = layers_of(&split, count).iter().all(|layers| *layers > 0);
            let estimate = self.estimate(&split, gpu_layers, cpu_experts);
            let needs = self.needs(&estimate, gpus);
            let holds = each_has_some && self.all_hold(gpus, &needs);
            (holds, split, needs, estimate)
        };
        let (holds, split, needs, estimate) = attempt(&free);
        if holds {
            let gpus = gpus.to_vec();
            return Some(self.fit(gpus, split, gpu_layers, cpu_experts, needs, estimate));
        }
        let fixed = |(parts, need): (&Parts, &u64)| {
            let shared = parts.weights_bytes + parts.kv_bytes + parts.state_bytes;
            need.saturating_sub(scaled(shared, self.headroom))
        };
        let beyond: Vec<u64> = free
            .iter()
            .zip(estimate.devices.iter().zip(&needs).map(fixed))
            .map(|(free, fixed)| free.saturating_sub(fixed))
            .collect();
        if beyond.len() == free.len() {
            let (holds, split, needs, estimate) = attempt(&beyond);
            if holds {
                let gpus = gpus.to_vec();
                return Some(self.fit(gpus, split, gpu_layers, cpu_experts, needs, estimate));
            }
        }
        self.filled(gpus, gpu_layers, cpu_experts).or_else(|| {
            let backwards: Vec<usize> = gpus.iter().rev().copied().collect();
            self.filled(&backwards, gpu_layers, cpu_experts)
        })
    }

    /// Each GPU filled in turn with as many layers as it holds; the last gets the rest, the output layer included.
    fn filled(&self, gpus: &[usize], gpu_layers: Option<u32>, cpu_experts: u32) -> Option<Fit> {
        let mut left = gpu_layers.unwrap_or(self.layers.gpu_layers);
        let mut counts = vec![0_u32; gpus.len()];
        let run = |counts: &[u32]| {
            let split = of_layers(counts);
            let estimate = self.estimate(&split, gpu_layers, cpu_experts);
            (split, self.needs(&estimate, gpus), estimate)
        };
        let last = gpus.len().checked_sub(1)?;
        for at in 0..last {
            let behind = u32::try_from(last - at).ok()?;
            let holds = |layers: u32, counts: &mut Vec<u32>| {
                counts[at] = layers;
                counts[at + 1..last].fill(1);
                counts[last] = left - layers - (behind - 1);
                run(counts).1[at] <= self.rooms[gpus[at]].free_bytes
            };
            let most = left.checked_sub(behind)?;
            let layers = largest(1, most, |layers| holds(layers, &mut counts))?;
            counts[at] = layers;
            left -= layers;
        }
        counts[last] = left;
        let (split, needs, estimate) = run(&counts);
        self.all_hold(gpus, &needs).then(|| {
            self.fit(
                gpus.to_vec(),
                split,
                gpu_layers,
                cpu_experts,
                needs,
                estimate,
            )
        })
    }

    /// One GPU or the largest of a group. RAM is not looked at: what is left for it grows as GPUs hold less, so it decides last.
    fn on(
        &self,
        group: &[usize],
        count: usize,
        gpu_layers: Option<u32>,
        cpu_experts: u32,
    ) -> Option<Fit> {
        if count == 1 {
            let whole = self.estimate(&[1.0], gpu_layers, cpu_experts);
            self.tightest(&whole, gpu_layers, cpu_experts)
        } else {
            self.split(group.get(..count)?, gpu_layers, cpu_experts)
        }
    }

    /// All layers on GPUs and the experts of as few as possible on the CPU, then on the fewest GPUs.
    pub(super) fn fewest_experts(&self, groups: &[Vec<usize>]) -> Option<Fit> {
        let most = self.layers.expert_layers;
        let mut best: Option<Fit> = None;
        for group in groups {
            for count in 1..=group.len() {
                let try_with = |experts| self.on(group, count, None, experts);
                let bar = best
                    .as_ref()
                    .map_or(most, |best| best.cpu_experts.saturating_sub(1));
                if bar == 0 {
                    break;
                }
                if try_with(bar).is_some() {
                    let left = largest(0, bar - 1, |less| try_with(bar - less).is_some());
                    best = try_with(bar - left.unwrap_or(0));
                }
            }
        }
        best.filter(|fit| self.ram_holds(&fit.estimate))
    }

    /// As many layers on GPUs as possible, then on the fewest GPUs.
    pub(super) fn most_layers(&self, groups: &[Vec<usize>]) -> Option<Fit> {
        let most = self.layers.gpu_layers.saturating_sub(1);
        let mut best: Option<(u32, Fit)> = None;
        for group in groups {
            for count in 1..=group.len() {
                let least = best.as_ref().map_or(1, |(layers, _)| layers + 1);
                let try_with = |layers| self.on(group, count, Some(layers), 0);
                if least > most || try_with(least).is_none() {
                    continue;
                }
                if let Some(layers) = largest(least, most, |layers| try_with(layers).is_some()) {
                    best = try_with(layers).map(|fit| (layers, fit));
                }
            }
        }
        best.map(|(_, fit)| fit)
            .filter(|fit| self.ram_holds(&fit.estimate))
    }

    /// All of it on the CPU.
    pub(super) fn on_cpu(&self) -> Option<Fit> {
        let estimate = self.estimate(&[], Some(0), 0);
        self.ram_holds(&estimate)
            .then(|| self.fit(Vec::new(), Vec::new(), Some(0), 0, Vec::new(), estimate))
    }

    fn ram_holds(&self, estimate: &Estimate) -> bool {
        let host = scaled(estimate.host.total_bytes(), self.headroom);
        self.ram_free.is_none_or(|free| host <= free)
    }
}

/// The largest of `low..=high` that holds, where everything below one that holds does too; `None` where none does.
pub(in crate::cluster) fn largest(
    low: u32,
    high: u32,
    mut holds: impl FnMut(u32) -> bool,
) -> Option<u32> {
    if low > high || !holds(low) {
        return None;
    }
    let (mut yes, mut no) = (low, u64::from(high) + 1);
    while u64::from(yes) + 1 < no {
        let middle = u32::midpoint(yes, u32::try_from(no).unwrap_or(u32::MAX));
        if holds(middle) {
            yes = middle;
        } else {
            no = u64::from(middle);
        }
    }
    Some(yes)
}
