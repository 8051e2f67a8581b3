//! What a model takes, part by part and device by device.

use serde::{Deserialize, Serialize};

use super::compute::{Entry, Span, alike, device_bytes, host_bytes};
use super::extras::{Extras, add_draft, add_projector, projector_bytes, share_of, vllm};
use super::family::Memory;
use super::geometry::Geometry;
use super::shape::{Shape, Sums};
use super::spans::spans;
use super::{Runtime, Settings};

/// Where a figure comes from, the surest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// The model's own header.
    Header,
    /// What a node says of it (`/api/show` verbose).
    Api,
    /// The sizes of a registry's manifest.
    Manifest,
    /// The table of known models.
    Catalog,
    /// The parameters in its name.
    Name,
}

/// A range of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Range {
    /// Lowest.
    pub low: u64,
    /// Highest.
    pub high: u64,
}

/// The parts on one device, in bytes. Everything but `runtime` is exact where the basis is a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Parts {
    /// Layers here, the output layer counted.
    pub layers: u32,
    /// Tensors.
    pub weights_bytes: u64,
    /// K and V cache.
    pub kv_bytes: u64,
    /// Recurrent state.
    pub state_bytes: u64,
    /// Compute buffer, scratch for quantised KV included.
    pub compute_bytes: u64,
    /// Output buffer (logits and embeddings); in host memory.
    pub output_bytes: u64,
    /// Projector (vision, audio).
    pub projector_bytes: u64,
    /// Draft model.
    pub draft_bytes: u64,
    /// What the runtime takes outside its buffers (CUDA context, pools).
    pub runtime: Range,
}

impl Parts {
    /// All parts but the runtime's, saturating.
    pub fn total_bytes(&self) -> u64 {
        [
            self.weights_bytes,
            self.kv_bytes,
            self.state_bytes,
            self.compute_bytes,
            self.output_bytes,
            self.projector_bytes,
            self.draft_bytes,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }
}

/// What a model takes.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Estimate {
    /// By device, in the order of [`Offload::split`]; empty without a GPU.
    pub devices: Vec<Parts>,
    /// What stays in RAM.
    pub host: Parts,
    /// What should be known about this estimate, one sentence each.
    pub warnings: Vec<String>,
}

/// Which part of a model goes where.
#[derive(Debug, Clone, PartialEq)]
pub struct Offload {
    /// Share of each device, in any unit (`--tensor-split`); one entry for one device, none for the CPU.
    pub split: Vec<f64>,
    /// Layers on GPUs, the output layer counted; `None`: what the settings say, else all.
    pub gpu_layers: Option<u32>,
    /// First layers whose experts stay on the CPU (`--n-cpu-moe`).
    pub cpu_experts: u32,
}

impl Offload {
    /// Everything on one device.
    pub fn single() -> Self {
        Self {
            split: vec![1.0],
            gpu_layers: None,
            cpu_experts: 0,
        }
    }

    /// Everything in RAM.
    pub fn cpu() -> Self {
        Self {
            split: Vec::new(),
            gpu_layers: Some(0),
            cpu_experts: 0,
        }
    }
}

/// What is to be estimated.
#[derive(Debug, Clone, PartialEq)]
pub enum Subject {
    /// A model whose shape is known.
    Shaped(Box<Shape>),
    /// A model of which only a size is known.
    Sized {
        /// Its bytes.
        bytes: u64,
    },
}

impl Subject {
    /// Layers that can be offloaded, the output layer counted; 1 where only a size is known.
    pub fn gpu_layers(&self) -> u32 {
        match self {
            Self::Shaped(shape) => shape.gpu_layers(),
            Self::Sized { .. } => 1,
        }
    }

    /// First layers to name so that no expert is on a GPU; 0 without experts.
    pub fn expert_layers(&self) -> u32 {
        match self {
            Self::Shaped(shape) => shape.expert_layers(),
            Self::Sized { .. } => 0,
        }
    }

    /// The context it was trained for; `None` when that is not known.
    pub fn max_context(&self) -> Option<u64> {
        match self {
            Self::Shaped(shape) => Some(shape.trained_ctx).filter(|&tokens| tokens > 0),
            Self::Sized { .. } => None,
        }
    }
}

/// What a model takes under these settings when it is placed like this. Never fails: figures beyond 64 bits stop at the largest.
pub fn estimate(subject: &Subject, settings: &Settings, offload: &Offload) -> Estimate {
    estimate_with(subject, settings, offload, Extras::default())
}

/// [`estimate`] of a model with what runs beside it.
pub fn estimate_with(
    subject: &Subject,
    settings: &Settings,
    offload: &Offload,
    extras: Extras<'_>,
) -> Estimate {
    let mut estimate = match subject {
        Subject::Sized { bytes } => sized(*bytes, offload),
        Subject::Shaped(shape) if settings.runtime == Runtime::Vllm => {
            let mut estimate = vllm(shape, settings, offload);
            warn(shape, settings, &mut estimate.warnings);
            estimate
        }
        Subject::Shaped(shape) => {
            let mut estimate = shaped(shape, settings, offload);
            if shape.projector_bytes > 0 {
                add_projector(&mut estimate, shape.projector_bytes);
            }
            warn(shape, settings, &mut estimate.warnings);
            estimate
        }
    };
    if let Some(projector) = extras.projector {
        add_projector(
            &mut estimate,
            projector_bytes(projector, settings.flash_attention),
        );
        estimate.warnings.push(
            "the projector's buffer depends on the image: the largest that is not cut was assumed"
                .to_owned(),
        );
        if let Err(unknown) = projector.tensor_bytes() {
            estimate.warnings.push(format!(
                "the projector has {unknown}: they are not in this estimate"
            ));
        }
    }
    if let Some(draft) = extras.draft {
        add_draft(&mut estimate, draft, settings, offload);
    }
    estimate
}

/// Only a size: all of it weights, by share.
fn sized(bytes: u64, offload: &Offload) -> Estimate {
    let on_gpu = !offload.split.is_empty() && offload.gpu_layers != Some(0);
    let mut estimate = Estimate {
        warnings: vec![
            "only the model's size is known: KV cache and compute buffers are not in this estimate"
                .to_owned(),
        ],
        ..Estimate::default()
    };
    if !on_gpu {
        estimate.devices = vec![Parts::default(); offload.split.len()];
        estimate.host.weights_bytes = bytes;
        return estimate;
    }
    let sum: f64 = offload.split.iter().map(|share| share.max(0.0)).sum();
    let mut left = bytes;
    for (place, share) in offload.split.iter().enumerate() {
        let last = place.saturating_add(1) == offload.split.len();
        let part = if last {
            left
        } else {
            share_of(bytes, share.max(0.0) / sum).min(left)
        };
        left = left.saturating_sub(part);
        estimate.devices.push(Parts {
            layers: 1,
            weights_bytes: part,
            ..Parts::default()
        });
    }
    estimate
}

pub(super) fn shaped(shape: &Shape, settings: &Settings, offload: &Offload) -> Estimate {
    let geometry = Geometry::new(shape, settings);
    let layers = shape.layers.len();
    let spans = spans(shape, settings, offload);
    let on_cpu = spans
        .iter()
        .map(|span| span.first)
        .min()
        .unwrap_or(layers)
        .min(layers);
    let cpu_experts = usize::try_from(offload.cpu_experts).unwrap_or(usize::MAX);
    let output_on_gpu = spans.iter().any(|span| span.output);
    let mut estimate = Estimate::default();
    for (place, &span) in spans.iter().enumerate() {
        let computed = if settings.op_offload && place == 0 {
            with_ram(span, on_cpu, layers, output_on_gpu)
        } else {
            span
        };
        let compute_bytes = match (place.checked_sub(1))
            .and_then(|before| Some((spans.get(before)?, estimate.devices.get(before)?)))
        {
            Some((before, parts)) if alike(shape, *before, computed) => parts.compute_bytes,
            _ => device_bytes(shape, &geometry, computed),
        };
        let held = span_sums(shape, span.first, span.end);
        let kept = span_sums(shape, span.first, cpu_experts.clamp(span.first, span.end));
        let output = if span.output { shape.output_bytes } else { 0 };
        let count = span
            .end
            .saturating_sub(span.first)
            .saturating_add(usize::from(span.output));
        estimate.host.weights_bytes = estimate.host.weights_bytes.saturating_add(kept.expert);
        estimate.devices.push(Parts {
            layers: u32::try_from(count).unwrap_or(u32::MAX),
            weights_bytes: held
                .dense
                .saturating_add(held.expert.saturating_sub(kept.expert))
                .saturating_add(output),
            kv_bytes: kv_bytes(shape, &geometry, &held),
            state_bytes: held.state.saturating_mul(geometry.sequences),
            compute_bytes,
            ..Parts::default()
        });
    }
    let held = span_sums(shape, 0, on_cpu);
    let host = &mut estimate.host;
    let output = if output_on_gpu {
        0
    } else {
        shape.output_bytes.saturating_sub(shape.tied_bytes)
    };
    host.layers =
        u32::try_from(on_cpu.saturating_add(usize::from(!output_on_gpu))).unwrap_or(u32::MAX);
    host.weights_bytes = [held.dense, held.expert, output, shape.input_bytes]
        .into_iter()
        .fold(host.weights_bytes, u64::saturating_add);
    host.kv_bytes = kv_bytes(shape, &geometry, &held);
    host.state_bytes = held.state.saturating_mul(geometry.sequences);
    let copies = spans.iter().map(|span| span.copies).max().unwrap_or(1);
    let elsewhere = settings.op_offload && !spans.is_empty();
    host.compute_bytes = if elsewhere {
        host_bytes(shape, &geometry, 0, false, copies)
    } else {
        host_bytes(shape, &geometry, on_cpu, !output_on_gpu, copies)
    };
    host.output_bytes = geometry
        .sequences
        .saturating_mul(shape.vocab)
        .saturating_mul(4);
    estimate
}

/// What the first GPU computes when it takes over the layers in RAM before its own.
fn with_ram(span: Span, on_cpu: usize, layers: usize, output_on_gpu: bool) -> Span {
    if on_cpu == 0 {
        return span;
    }
    Span {
        first: 0,
        end: span.end.max(on_cpu).min(layers),
        output: span.output || !output_on_gpu,
        entry: Entry::Embeddings,
        in_ram: on_cpu,
        output_in_ram: !output_on_gpu,
        ..span
    }
}

/// The sums over the layers from `first` to before `end`.
fn span_sums(shape: &Shape, first: usize, end: usize) -> Sums {
    let at = |index: usize| shape.sums.get(index).copied().unwrap_or_default();
    let (low, high) = (at(first), at(end.max(first)));
    let pair = |high: (u64, u64), low: (u64, u64)| {
        (high.0.saturating_sub(low.0), high.1.saturating_sub(low.1))
    };
    Sums {
        dense: high.dense.saturating_sub(low.dense),
        expert: high.expert.saturating_sub(low.expert),
        full: pair(high.full, low.full),
        windowed: pair(high.windowed, low.windowed),
        owners: pair(high.owners, low.owners),
        state: high.state.saturating_sub(low.state),
    }
}

/// Bytes of the KV caches of these layers. Without flash attention V is stored transposed, as wide in every layer as in the widest.
fn kv_bytes(shape: &Shape, geometry: &Geometry, sums: &Sums) -> u64 {
    let cells = |(key, value): (u64, u64), owners: u64, cells: u64| {
        let value = if geometry.flash {
            value
        } else {
            owners.saturating_mul(shape.widest_value)
        };
        let cell = geometry
            .key
            .bytes(key)
            .saturating_add(geometry.value.bytes(value));
        cell.saturating_mul(cells).saturating_mul(geometry.streams)
    };
    cells(sums.full, sums.owners.0, geometry.cells).saturating_add(cells(
        sums.windowed,
        sums.owners.1,
        geometry.window_cells,
    ))
}

/// What should be known about an estimate.
fn warn(shape: &Shape, settings: &Settings, warnings: &mut Vec<String>) {
    if !shape.known {
        warnings.push(format!(
            "architecture `{}` is not known here: generic rules were used",
            shape.architecture
        ));
    }
    if shape.memory == Memory::Indexed {
        warnings.push(format!(
            "the KV cache of `{}` has an index or is compressed: its size is approximate",
            shape.architecture
        ));
    }
    if settings.runtime == Runtime::Vllm {
        warnings.push(
            "vLLM takes gpu_memory_utilization (0.9) of each GPU, whatever the model needs"
                .to_owned(),
        );
    }
}

#[cfg(test)]
#[path = "estimate_tests.rs"]
mod tests;
