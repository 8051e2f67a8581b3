//! The speed that follows from a placement.

use super::Question;
use crate::cluster::{Placement, Room, Site};
use crate::vram::{
    DeviceRead, NamedSize, Parts, Shape, Subject, TokensPerSecond, UsualShape, bytes_read,
    decode_speed,
};

/// Tokens of the conversation that the speed holds for: a short one.
const DEPTH: u64 = 1024;

/// Tokens per second of one stream; `None` where a bandwidth is not known.
pub(super) fn predict(
    question: &Question<'_>,
    site: &Site,
    rooms: &[Room],
    placement: &Placement,
) -> Option<TokensPerSecond> {
    match question.subject {
        Subject::Shaped(shape) => {
            let depth = depth(question);
            decode_speed(&reads(shape, site, rooms, placement, depth)?)
        }
        Subject::Sized { bytes } => sized(question.model, *bytes, rooms, placement),
    }
}

/// Share of the cache that is read.
fn depth(question: &Question<'_>) -> f64 {
    let context = question.settings.ctx.max(1);
    #[expect(clippy::cast_precision_loss, reason = "a share of a context")]
    let share = DEPTH.min(context) as f64 / context as f64;
    share
}

fn reads(
    shape: &Shape,
    site: &Site,
    rooms: &[Room],
    placement: &Placement,
    depth: f64,
) -> Option<Vec<DeviceRead>> {
    let estimate = placement.estimate.as_ref()?;
    let experts = Experts::new(shape, placement);
    let mut reads = Vec::with_capacity(estimate.devices.len() + 1);
    let mut from = experts.first;
    for (parts, gpu) in estimate.devices.iter().zip(&placement.gpus) {
        let upto = from.saturating_add(parts.layers as usize);
        let bandwidth = rooms.get(*gpu)?.bandwidth;
        reads.push(DeviceRead {
            bytes: experts.read(parts.weights_bytes, from, upto, true) + cache(parts, depth),
            #[expect(clippy::cast_precision_loss, reason = "a bandwidth")]
            bandwidth: bandwidth.map(|bandwidth| bandwidth as f64),
            layers: parts.layers,
        });
        from = upto;
    }
    let host = &estimate.host;
    // Embedding rows are looked up, not read; a tied output layer on the CPU reads them after all.
    let output_here = estimate
        .devices
        .iter()
        .map(|parts| parts.layers)
        .sum::<u32>()
        == 0;
    let tied = if output_here { shape.tied_bytes } else { 0 };
    let weights = host
        .weights_bytes
        .saturating_sub(shape.input_bytes)
        .saturating_add(tied);
    reads.push(DeviceRead {
        bytes: experts.read(weights, 0, experts.first, false) + cache(host, depth),
        bandwidth: site.ram_bandwidth.or_else(|| shared(rooms)),
        layers: 0,
    });
    Some(reads)
}

/// The bandwidth of RAM where a GPU shares it.
fn shared(rooms: &[Room]) -> Option<f64> {
    let bandwidth = rooms.iter().find(|room| room.unified)?.bandwidth?;
    #[expect(clippy::cast_precision_loss, reason = "a bandwidth")]
    let bandwidth = bandwidth as f64;
    Some(bandwidth)
}

fn cache(parts: &Parts, depth: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a speed needs three digits")]
    let (cache, state) = (parts.kv_bytes as f64, parts.state_bytes as f64);
    cache * depth + state
}

/// The experts of a model and where they are.
struct Experts<'a> {
    shape: &'a Shape,
    /// Index of the first layer on a GPU.
    first: usize,
    /// First layers whose experts are in RAM.
    in_ram: usize,
}

impl<'a> Experts<'a> {
    fn new(shape: &'a Shape, placement: &Placement) -> Self {
        let all = shape.layers.len() + 1;
        let on_gpus = placement.estimate.as_ref().map_or(0, |estimate| {
            estimate
                .devices
                .iter()
                .map(|parts| parts.layers as usize)
                .sum()
        });
        Self {
            shape,
            first: all.saturating_sub(on_gpus),
            in_ram: placement.cpu_experts as usize,
        }
    }

    /// Bytes read of a device's weights, the layers `from` to before `upto` of which are there.
    fn read(&self, weights: u64, from: usize, upto: usize, on_gpu: bool) -> f64 {
        let here = |layer: usize| {
            if on_gpu { layer >= self.in_ram } else { true }
        };
        let in_span = (from..upto.min(self.shape.layers.len())).filter(|layer| here(*layer));
        let moved = if on_gpu {
            0..0
        } else {
            self.first..self.in_ram.max(self.first)
        };
        let bytes = in_span
            .chain(moved)
            .filter_map(|layer| self.shape.layers.get(layer))
            .fold(0_u64, |sum, layer| sum.saturating_add(layer.expert_bytes));
        let (used, count) = self.shape.experts;
        let short = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        bytes_read(weights, bytes, short(used), short(count))
    }
}

/// A model of which only the size is known: a usual one of the size that its name tells, all of it on GPUs.
fn sized(
    model: &str,
    bytes: u64,
    rooms: &[Room],
    placement: &Placement,
) -> Option<TokensPerSecond> {
    let size = NamedSize::of(model)?;
    let layers = UsualShape::of(size.parameters).layers + 1;
    if placement.gpus.is_empty() {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "a speed needs three digits")]
    let share = size.active.unwrap_or(size.parameters) as f64 / size.parameters.max(1) as f64;
    let reads: Vec<DeviceRead> = placement
        .gpus
        .iter()
        .zip(&placement.tensor_split)
        .map(|(gpu, part)| {
            #[expect(clippy::cast_precision_loss, reason = "a speed needs three digits")]
            let (bytes, bandwidth) = (
                bytes as f64,
                rooms[*gpu].bandwidth.map(|bytes| bytes as f64),
            );
            DeviceRead {
                bytes: bytes * share * part,
                bandwidth,
                layers: 0,
            }
        })
        .collect();
    let mut reads = reads;
    if let Some(first) = reads.first_mut() {
        first.layers = layers;
    }
    decode_speed(&reads)
}
