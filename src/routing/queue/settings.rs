//! What is configured or known of a node.

use super::Shares;
use crate::routing::window::WindowPolicy;

/// What a node lets its users do about its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Residency {
    /// Models are loaded and evicted (Ollama, llama-server in router mode); slots are counted for each model.
    #[default]
    Managed,
    /// What it serves is in memory, or its own business (llama-server with one model, vLLM): nothing is ever loaded, slots are the node's.
    Fixed,
}

/// What is configured or known of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whether models come and go.
    pub residency: Residency,
    /// What becomes of `num_ctx`; only `raise-only` loads more context than was asked for.
    pub policy: WindowPolicy,
    /// Usable bytes of memory; `None`: learned.
    pub capacity: Option<u64>,
    /// Models in memory at once (`OLLAMA_MAX_LOADED_MODELS`); `None`: learned.
    pub most_models: Option<u32>,
    /// Requests worked on at once, for each model (managed) or all together (fixed); `None`: learned.
    pub slots: Option<u32>,
    /// Most requests that wait.
    pub queue: u32,
    /// Shares of the lanes.
    pub shares: Shares,
    /// Whether an embedding model may be loaded into main memory when it does not fit beside the others (Ollama's `num_gpu: 0`).
    pub cpu_loads: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            residency: Residency::Managed,
            policy: WindowPolicy::default(),
            capacity: None,
            most_models: None,
            slots: None,
            queue: 256,
            shares: Shares::default(),
            cpu_loads: false,
        }
    }
}
