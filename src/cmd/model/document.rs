//! An estimate as a document: the `estimate` command's own, and a part of `fit`'s.

use serde::Serialize;

use super::Model;
use crate::vram::{Basis, Estimate, Parts, Range, Subject};

/// `estimate --json`. The parts at the top are those of all devices together; what is not known is `null`.
#[derive(Debug, Clone, Serialize)]
pub struct EstimateDocument {
    /// Version of this document's form.
    pub schema: u32,
    /// The model's name.
    pub model: String,
    /// Where its description comes from.
    pub source: String,
    /// How sure it is.
    pub basis: Basis,
    /// Architecture as its header spells it.
    pub architecture: Option<String>,
    /// Parameters.
    pub parameters: Option<u64>,
    /// Parameters that one token uses.
    pub active_parameters: Option<u64>,
    /// Quantisation.
    pub quantization: Option<String>,
    /// Context of this estimate in tokens.
    pub context: u64,
    /// Context that it was trained for.
    pub trained_context: Option<u64>,
    /// Weights on GPUs.
    pub weights_bytes: u64,
    /// KV cache on GPUs; `null` where nothing tells its shape.
    pub kv_bytes: Option<u64>,
    /// Range of the KV cache of models of this size, where only the size is known.
    pub kv_range_bytes: Option<Range>,
    /// Recurrent state on GPUs.
    pub state_bytes: Option<u64>,
    /// Compute buffers on GPUs.
    pub compute_bytes: Option<u64>,
    /// Projector on GPUs.
    pub projector_bytes: u64,
    /// Draft model on GPUs.
    pub draft_bytes: u64,
    /// What the runtime adds outside of its buffers.
    pub runtime_bytes: Range,
    /// All of it but the runtime's.
    pub total_bytes: u64,
    /// All of it.
    pub total_range_bytes: Range,
    /// What stays in RAM.
    pub host: HostDocument,
    /// The parts on each device.
    pub devices: Vec<DeviceDocument>,
    /// What was assumed.
    pub settings: SettingsDocument,
    /// What should be known about it.
    pub warnings: Vec<String>,
}

/// What stays in RAM.
#[derive(Debug, Clone, Serialize)]
#[expect(
    clippy::struct_field_names,
    reason = "the contract's names, with their unit"
)]
pub struct HostDocument {
    /// Weights.
    pub weights_bytes: u64,
    /// KV cache.
    pub kv_bytes: Option<u64>,
    /// Recurrent state.
    pub state_bytes: Option<u64>,
    /// Compute and output buffers.
    pub compute_bytes: Option<u64>,
    /// All of it.
    pub total_bytes: u64,
}

/// The parts on one device.
#[derive(Debug, Clone, Serialize)]
pub struct DeviceDocument {
    /// What it is: a GPU's name, or `GPU` where none is meant in particular.
    pub device: String,
    /// Layers on it, the output layer counted.
    pub layers: Option<u32>,
    /// Weights.
    pub weights_bytes: u64,
    /// KV cache.
    pub kv_bytes: Option<u64>,
    /// Recurrent state.
    pub state_bytes: Option<u64>,
    /// Compute buffer.
    pub compute_bytes: Option<u64>,
    /// Projector.
    pub projector_bytes: u64,
    /// Draft model.
    pub draft_bytes: u64,
    /// What the runtime adds outside of its buffers.
    pub runtime_bytes: Range,
    /// All of it but the runtime's.
    pub total_bytes: u64,
}

/// What was assumed of the runtime.
#[derive(Debug, Clone, Serialize)]
pub struct SettingsDocument {
    /// Context in tokens.
    pub ctx: u64,
    /// Sequences at once.
    pub parallel: u32,
    /// Types of K and V, as `--kv` takes them.
    pub kv: String,
    /// Micro-batch in tokens.
    pub ubatch: u64,
    /// Batch in tokens.
    pub batch: u64,
    /// Flash attention: `on` or `off`.
    pub flash_attn: &'static str,
    /// Layers on GPUs; `null`: all.
    pub ngl: Option<u32>,
    /// The program.
    pub runtime: &'static str,
    /// Shared KV cache: `on` or `off`.
    pub unified_kv: &'static str,
}

fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

impl EstimateDocument {
    /// Puts an estimate of a model together; `devices` names what its devices stand for, in order.
    pub fn of(model: &Model, estimate: &Estimate, devices: &[String]) -> Self {
        let found = &model.found;
        let shape = match &model.subject {
            Subject::Shaped(shape) => Some(shape.as_ref()),
            Subject::Sized { .. } => None,
        };
        let known = |bytes: u64| shape.map(|_| bytes);
        let sum = |part: fn(&Parts) -> u64| {
            estimate
                .devices
                .iter()
                .map(part)
                .fold(0, u64::saturating_add)
        };
        let runtime = Range {
            low: sum(|parts| parts.runtime.low),
            high: sum(|parts| parts.runtime.high),
        };
        let usual = model.usual_kv.unwrap_or_default();
        let total = sum(Parts::total_bytes);
        let on_gpu = u64::from(!estimate.devices.is_empty());
        let host = &estimate.host;
        let mut warnings = model.warnings.clone();
        // What a name tells is more than the general remark on sizes.
        if model.usual_kv.is_none() {
            warnings.extend(estimate.warnings.iter().cloned());
        }
        Self {
            schema: 1,
            model: found.name.clone(),
            source: found.source.clone(),
            basis: found.basis,
            architecture: shape.map(|shape| shape.architecture.clone()),
            parameters: found.parameters.or(shape.map(|shape| shape.parameters)),
            active_parameters: shape.map(|shape| shape.active_parameters),
            quantization: found.quantization.clone(),
            context: model.settings.ctx,
            trained_context: model.trained_context(),
            weights_bytes: sum(|parts| parts.weights_bytes),
            kv_bytes: known(sum(|parts| parts.kv_bytes)),
            kv_range_bytes: model.usual_kv,
            state_bytes: known(sum(|parts| parts.state_bytes)),
            compute_bytes: known(sum(|parts| parts.compute_bytes)),
            projector_bytes: sum(|parts| parts.projector_bytes),
            draft_bytes: sum(|parts| parts.draft_bytes),
            runtime_bytes: runtime,
            total_bytes: total,
            total_range_bytes: Range {
                low: total
                    .saturating_add(runtime.low)
                    .saturating_add(usual.low * on_gpu),
                high: total
                    .saturating_add(runtime.high)
                    .saturating_add(usual.high * on_gpu),
            },
            host: HostDocument {
                weights_bytes: host.weights_bytes,
                kv_bytes: known(host.kv_bytes),
                state_bytes: known(host.state_bytes),
                compute_bytes: known(host.compute_bytes.saturating_add(host.output_bytes)),
                total_bytes: host.total_bytes(),
            },
            devices: estimate
                .devices
                .iter()
                .enumerate()
                .map(|(at, parts)| DeviceDocument {
                    device: devices.get(at).cloned().unwrap_or_else(|| "GPU".to_owned()),
                    layers: shape.map(|_| parts.layers),
                    weights_bytes: parts.weights_bytes,
                    kv_bytes: known(parts.kv_bytes),
                    state_bytes: known(parts.state_bytes),
                    compute_bytes: known(parts.compute_bytes),
                    projector_bytes: parts.projector_bytes,
                    draft_bytes: parts.draft_bytes,
                    runtime_bytes: parts.runtime,
                    total_bytes: parts.total_bytes(),
                })
                .collect(),
            settings: SettingsDocument::of(model),
            warnings,
        }
    }
}

impl SettingsDocument {
    fn of(model: &Model) -> Self {
        let settings = &model.settings;
        let (key, value) = (settings.cache_k, settings.cache_v);
        Self {
            ctx: settings.ctx,
            parallel: settings.parallel,
            kv: if key == value {
                key.to_string()
            } else {
                format!("{key},{value}")
            },
            ubatch: settings.ubatch,
            batch: settings.batch,
            flash_attn: on_off(settings.flash_attention),
            ngl: settings.gpu_layers,
            runtime: settings.runtime.as_str(),
            unified_kv: on_off(settings.unified_kv),
        }
    }
}
