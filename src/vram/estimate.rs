//! What a model takes, part by part and device by device.

use serde::{Deserialize, Serialize};

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
    /// Layers on GPUs, the output layer counted; `None`: all.
    pub gpu_layers: Option<u32>,
    /// First layers whose experts stay on the CPU (`--n-cpu-moe`).
    pub cpu_experts: u32,
}
