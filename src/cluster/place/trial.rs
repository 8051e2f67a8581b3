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

/// One offload with what it takes.
struct Run {
    split: Vec<f64>,
    needs: Vec<u64>,
    estimate: Estimate,
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
        let shared = whole.devices.first().map_or(0, by_layers);
        let free = |gpu: &usize| {
            let runtime = scaled(self.rooms[*gpu].runtime.high, self.headroom);
            self.free(*gpu).saturating_sub(runtime)
        };
        let all = gpus.iter().map(free).fold(0, u64::saturating_add);
        scaled(shared, self.headroom) <= all
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
        let run = Run {
            split: vec![1.0],
            needs: vec![need],
            estimate: whole.clone(),
        };
        Some(self.fit(vec![at], gpu_layers, cpu_experts, run))
    }

    fn fit(
        &self,
        gpus: Vec<usize>,
        gpu_layers: Option<u32>,
        cpu_experts: u32,
        mut run: Run,
    ) -> Fit {
        for (parts, gpu) in run.estimate.devices.iter_mut().zip(&gpus) {
            parts.runtime = self.rooms[*gpu].runtime;
        }
        Fit {
            gpus,
            split: run.split,
            gpu_layers,
            cpu_experts,
            needs: run.needs,
            estimate: run.estimate,
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
        let sizes: Vec<u64> = gpus.iter().map(|gpu| self.free(*gpu)).collect();
        let attempt = |sizes: &[u64]| {
            let split = passed_on(&by_size(sizes), count);
            let each_has_some = layers_of(&split, count).iter().all(|layers| *layers > 0);
            (
                each_has_some,
                self.run(gpus, split, gpu_layers, cpu_experts),
            )
        };
        let (whole, by_free) = attempt(&sizes);
        if whole && self.all_hold(gpus, &by_free.needs) {
            return Some(self.fit(gpus.to_vec(), gpu_layers, cpu_experts, by_free));
        }
        // However the layers are dealt out, their sum stays the same.
        if whole && sum(&by_free.needs) > sum(&sizes) {
            return None;
        }
        let beyond: Vec<u64> = (0..gpus.len())
            .map(|at| sizes[at].saturating_sub(self.fixed(&by_free, at)))
            .collect();
        let (whole, by_beyond) = attempt(&beyond);
        if whole && self.all_hold(gpus, &by_beyond.needs) {
            return Some(self.fit(gpus.to_vec(), gpu_layers, cpu_experts, by_beyond));
        }
        self.filled(gpus, gpu_layers, cpu_experts).or_else(|| {
            let backwards: Vec<usize> = gpus.iter().rev().copied().collect();
            self.filled(&backwards, gpu_layers, cpu_experts)
        })
    }

    fn free(&self, gpu: usize) -> u64 {
        self.rooms[gpu].free_bytes
    }

    fn run(
        &self,
        gpus: &[usize],
        split: Vec<f64>,
        gpu_layers: Option<u32>,
        cpu_experts: u32,
    ) -> Run {
        let estimate = self.estimate(&split, gpu_layers, cpu_experts);
        Run {
            needs: self.needs(&estimate, gpus),
            split,
            estimate,
        }
    }

    /// What a device needs whatever the number of its layers.
    fn fixed(&self, run: &Run, at: usize) -> u64 {
        let by_layers = run.estimate.devices.get(at).map_or(0, by_layers);
        let need = run.needs.get(at).copied().unwrap_or(0);
        need.saturating_sub(scaled(by_layers, self.headroom))
    }

    /// About how many layers like those of a run device `at` of it holds.
    fn about(&self, run: &Run, at: usize, gpu: usize) -> u32 {
        let parts = run.estimate.devices.get(at).copied().unwrap_or_default();
        let each = scaled(by_layers(&parts), self.headroom) / u64::from(parts.layers.max(1));
        let room = self.free(gpu).saturating_sub(self.fixed(run, at));
        u32::try_from(room / each.max(1)).unwrap_or(u32::MAX)
    }

    /// The most layers of device `at` that it holds, `most` at most, where `with` gives the layers of every device for a number of its own.
    fn most_of_one(
        &self,
        gpus: &[usize],
        at: usize,
        most: u32,
        cpu_experts: u32,
        with: impl Fn(u32) -> (Vec<u32>, Option<u32>),
    ) -> Option<u32> {
        let run = |layers: u32| {
            let (counts, all) = with(layers);
            self.run(gpus, of_layers(&counts), all, cpu_experts)
        };
        let devices = u32::try_from(gpus.len()).unwrap_or(u32::MAX);
        let sample = (most / devices).max(1);
        if sample > most {
            return None;
        }
        let guess = self.about(&run(sample), at, gpus[at]);
        largest_near(1, most, guess, |layers| {
            run(layers).needs[at] <= self.free(gpus[at])
        })
    }

    /// Each GPU filled in turn with as many layers as it holds; the last gets the rest, the output layer included.
    fn filled(&self, gpus: &[usize], gpu_layers: Option<u32>, cpu_experts: u32) -> Option<Fit> {
        let mut left = gpu_layers.unwrap_or(self.layers.gpu_layers);
        let mut counts = vec![0_u32; gpus.len()];
        let last = gpus.len().checked_sub(1)?;
        for at in 0..last {
            let behind = u32::try_from(last - at).ok()?;
            let most = left.checked_sub(behind)?;
            let layers = self.most_of_one(gpus, at, most, cpu_experts, |layers| {
                let mut counts = counts.clone();
                counts[at] = layers;
                counts[at + 1..last].fill(1);
                counts[last] = left - layers - (behind - 1);
                (counts, gpu_layers)
            })?;
            counts[at] = layers;
            left -= layers;
        }
        counts[last] = left;
        let run = self.run(gpus, of_layers(&counts), gpu_layers, cpu_experts);
        self.all_hold(gpus, &run.needs)
            .then(|| self.fit(gpus.to_vec(), gpu_layers, cpu_experts, run))
    }

    /// As many of the last layers as these GPUs hold, each filled in turn from the last to the first. The layers of a device do not depend on
    /// those in front of it, so one pass finds the most.
    fn filled_from_behind(&self, gpus: &[usize]) -> Option<Fit> {
        let most = self.layers.gpu_layers.saturating_sub(1);
        let mut counts = vec![1_u32; gpus.len()];
        let all = |counts: &[u32]| Some(counts.iter().sum());
        for at in (0..gpus.len()).rev() {
            let others: u32 = counts.iter().sum::<u32>() - counts[at];
            counts[at] = self.most_of_one(gpus, at, most.checked_sub(others)?, 0, |layers| {
                let mut counts = counts.clone();
                counts[at] = layers;
                let all = all(&counts);
                (counts, all)
            })?;
        }
        let run = self.run(gpus, of_layers(&counts), all(&counts), 0);
        self.all_hold(gpus, &run.needs)
            .then(|| self.fit(gpus.to_vec(), all(&counts), 0, run))
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
        for group in groups.iter().filter(|_| most > 0) {
            let mut here: Option<Fit> = None;
            for count in (1..=group.len()).rev() {
                if let Some(found) = &here {
                    // Fewer GPUs hold no more; they may hold the same.
                    match self.on(group, count, None, found.cpu_experts) {
                        Some(fit) => here = Some(fit),
                        None => break,
                    }
                } else {
                    here = self.fewest_experts_on(group, count);
                }
            }
            let rank = |fit: &Fit| (fit.cpu_experts, fit.gpus.len());
            if let Some(here) = here
                && best.as_ref().is_none_or(|best| rank(&here) < rank(best))
            {
                best = Some(here);
            }
        }
        best.filter(|fit| self.ram_holds(&fit.estimate))
    }

    fn fewest_experts_on(&self, group: &[usize], count: usize) -> Option<Fit> {
        let most = self.layers.expert_layers;
        let on = |experts| self.on(group, count, None, experts);
        let last = on(most)?;
        // As many bytes as there are too many, in layers.
        let whole = self.whole();
        let none = self.estimate(&[1.0], None, most);
        let on_one = |estimate: &Estimate| estimate.devices.first().map_or(0, Parts::total_bytes);
        let each = on_one(&whole).saturating_sub(on_one(&none)) / u64::from(most);
        let gpus = &group[..count];
        let free = gpus
            .iter()
            .map(|gpu| self.free(*gpu))
            .fold(0, u64::saturating_add);
        let over = scaled(on_one(&whole), self.headroom).saturating_sub(free);
        let guess = u32::try_from(over / each.max(1))
            .unwrap_or(u32::MAX)
            .clamp(1, most);
        let mut best = last;
        largest_near(0, most - 1, most - guess, |fewer| {
            let fit = on(most - fewer);
            let holds = fit.is_some();
            if let Some(fit) = fit.filter(|fit| fit.cpu_experts < best.cpu_experts) {
                best = fit;
            }
            holds
        });
        Some(best)
    }

    /// As many layers on GPUs as possible, then on the fewest GPUs.
    pub(super) fn most_layers(&self, groups: &[Vec<usize>]) -> Option<Fit> {
        let mut best: Option<Fit> = None;
        for group in groups {
            let mut most_here = 0;
            for count in (1..=group.len()).rev() {
                let gpus = &group[..count];
                let backwards: Vec<usize> = gpus.iter().rev().copied().collect();
                let forwards = self.filled_from_behind(gpus);
                let turned = (count > 1).then(|| self.filled_from_behind(&backwards));
                for fit in [forwards, turned.flatten()].into_iter().flatten() {
                    let layers = fit.gpu_layers.unwrap_or(0);
                    most_here = most_here.max(layers);
                    let rank = |fit: &Fit| (fit.gpu_layers, std::cmp::Reverse(fit.gpus.len()));
                    if best.as_ref().is_none_or(|best| rank(best) < rank(&fit)) {
                        best = Some(fit);
                    }
                }
                let reached = best.as_ref().and_then(|best| best.gpu_layers).unwrap_or(0);
                let same = best.as_ref().is_some_and(|best| best.gpus.len() == count);
                // Fewer GPUs hold no more, and these already hold less.
                if most_here > 0 && (reached > most_here || !same) {
                    break;
                }
            }
        }
        let best = best.filter(|fit| self.ram_holds(&fit.estimate))?;
        if best.gpus.len() > 1 {
            return Some(best);
        }
        // Of single GPUs the tightest.
        let whole = self.estimate(&[1.0], best.gpu_layers, 0);
        self.tightest(&whole, best.gpu_layers, 0)
    }

    /// All of it on the CPU.
    pub(super) fn on_cpu(&self) -> Option<Fit> {
        let estimate = self.estimate(&[], Some(0), 0);
        self.ram_holds(&estimate).then(|| {
            self.fit(
                Vec::new(),
                Some(0),
                0,
                Run {
                    split: Vec::new(),
                    needs: Vec::new(),
                    estimate,
                },
            )
        })
    }

    fn ram_holds(&self, estimate: &Estimate) -> bool {
        let host = scaled(estimate.host.total_bytes(), self.headroom);
        self.ram_free.is_none_or(|free| host <= free)
    }
}

/// Bytes of a device that grow with its layers.
fn by_layers(parts: &Parts) -> u64 {
    [parts.weights_bytes, parts.kv_bytes, parts.state_bytes]
        .into_iter()
        .fold(0, u64::saturating_add)
}

fn sum(bytes: &[u64]) -> u64 {
    bytes.iter().copied().fold(0, u64::saturating_add)
}

/// The largest of `low..=high` that holds, where everything below one that holds does too; `None` where none does.
pub(in crate::cluster) fn largest(
    low: u32,
    high: u32,
    holds: impl FnMut(u32) -> bool,
) -> Option<u32> {
    largest_near(low, high, u32::midpoint(low, high), holds)
}

/// The same, looked for from a guess in steps that double.
fn largest_near(
    low: u32,
    high: u32,
    guess: u32,
    mut holds: impl FnMut(u32) -> bool,
) -> Option<u32> {
    if low > high {
        return None;
    }
    let start = guess.clamp(low, high);
    let mut step = 1_u32;
    let (mut yes, mut no);
    if holds(start) {
        yes = start;
        loop {
            if yes == high {
                return Some(high);
            }
            let next = yes.saturating_add(step).min(high);
            if !holds(next) {
                no = next;
                break;
            }
            yes = next;
            step = step.saturating_mul(2);
        }
    } else {
        no = start;
        loop {
            if no == low {
                return None;
            }
            let next = no.saturating_sub(step).max(low);
            if holds(next) {
                yes = next;
                break;
            }
            no = next;
            step = step.saturating_mul(2);
        }
    }
    while yes + 1 < no {
        let middle = u32::midpoint(yes, no);
        if holds(middle) {
            yes = middle;
        } else {
            no = middle;
        }
    }
    Some(yes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_that_holds() {
        for high in 0..40_u32 {
            for limit in 0..42_u32 {
                for guess in 0..42 {
                    let found = largest_near(1, high, guess, |n| {
                        assert!((1..=high).contains(&n));
                        n <= limit
                    });
                    let expected = (1..=high).rev().find(|n| *n <= limit);
                    assert_eq!(found, expected, "1..={high} up to {limit} from {guess}");
                }
            }
        }
        assert_eq!(largest(0, u32::MAX, |n| n <= 7), Some(7));
        assert_eq!(largest(0, u32::MAX, |_| true), Some(u32::MAX));
    }
}
