//! Which device holds which layers.

use super::compute::{Entry, Span};
use super::estimate::Offload;
use super::settings::Settings;
use super::shape::Shape;

/// Micro-batches that llama.cpp keeps under way (`GGML_SCHED_MAX_COPIES`).
const PIPELINE_COPIES: u64 = 4;

/// Which layers each device holds, exactly as llama.cpp deals them out (`get_layer_buft_list` in `llama-model.cpp`).
pub(super) fn spans(shape: &Shape, settings: &Settings, offload: &Offload) -> Vec<Span> {
    let layers = shape.layers.len();
    let all = layers.saturating_add(shape.ahead).saturating_add(1);
    let wanted = offload.gpu_layers.or(settings.gpu_layers);
    let on_gpus = wanted.map_or(all, |count| {
        usize::try_from(count).unwrap_or(usize::MAX).min(all)
    });
    let start = all.saturating_sub(on_gpus);
    let mut ends = Vec::with_capacity(offload.split.len());
    let points = split_points(&offload.split);
    // Layer `start + i` goes to the first device whose point lies beyond `i / on_gpus`.
    let mut index = 0;
    for point in points {
        while index < on_gpus && !beyond(point, index, on_gpus) {
            index = index.saturating_add(1);
        }
        ends.push(start.saturating_add(index));
    }
    if let Some(last) = ends.last_mut() {
        *last = all;
    }
    let experts_in_ram = usize::try_from(offload.cpu_experts).unwrap_or(usize::MAX);
    // llama.cpp keeps several micro-batches under way when several GPUs hold the whole model and nothing was placed by name.
    let pipeline = ends.len() > 1 && on_gpus == all && offload.cpu_experts == 0;
    let mut first = start;
    ends.into_iter()
        .map(|end| {
            let entry = if first == 0 {
                Entry::Embeddings
            } else if first == start {
                Entry::Host
            } else {
                Entry::Device
            };
            let span = Span {
                first: first.min(layers),
                end: end.min(layers),
                output: first < all && end == all && on_gpus > 0,
                entry,
                copies: if pipeline { PIPELINE_COPIES } else { 1 },
                in_ram: 0,
                experts_in_ram: if settings.op_offload {
                    experts_in_ram
                } else {
                    0
                },
                output_in_ram: false,
            };
            first = end;
            span
        })
        .collect()
}

/// Cumulative shares from 0 to 1, in the precision llama.cpp uses.
#[expect(
    clippy::cast_possible_truncation,
    reason = "llama.cpp splits in 32-bit floats"
)]
fn split_points(split: &[f64]) -> Vec<f32> {
    let mut sum = 0.0_f32;
    let sums: Vec<f32> = split
        .iter()
        .map(|&share| {
            sum += share.max(0.0) as f32;
            sum
        })
        .collect();
    sums.into_iter().map(|point| point / sum).collect()
}

/// Whether a layer lies at or behind a split point.
#[expect(
    clippy::cast_precision_loss,
    reason = "llama.cpp splits in 32-bit floats"
)]
fn beyond(point: f32, index: usize, count: usize) -> bool {
    index as f32 / count as f32 >= point
}
