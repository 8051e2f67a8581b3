//! How a model is to be run: everything beside the model that decides its memory.

use serde::{Deserialize, Serialize};

/// The program that runs the model; each has its own defaults and reserves other things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runtime {
    /// llama.cpp's llama-server: logits for its slots, unified KV cache.
    LlamaServer,
    /// llama-cli, llama-bench and older servers: logits for a whole micro-batch.
    LlamaCli,
    /// Ollama 0.32, which starts a llama-server of its own.
    Ollama,
    /// vLLM: takes a share of the card whatever the model.
    Vllm,
}

/// Element type of the K or V cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "ggml's own names")]
pub enum CacheType {
    F32,
    F16,
    Bf16,
    Q8_0,
    Q5_1,
    Q5_0,
    Q4_1,
    Q4_0,
    Iq4Nl,
}

/// How a model is to be run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent switches of the runtime"
)]
pub struct Settings {
    /// The program.
    pub runtime: Runtime,
    /// Context in tokens of all sequences together, as llama-server's `-c` means it.
    pub ctx: u64,
    /// Sequences at once (slots).
    pub parallel: u32,
    /// Type of the K cache.
    pub cache_k: CacheType,
    /// Type of the V cache.
    pub cache_v: CacheType,
    /// Logical batch in tokens.
    pub batch: u64,
    /// Micro-batch in tokens.
    pub ubatch: u64,
    /// Whether flash attention is on.
    pub flash_attention: bool,
    /// Layers on GPUs, the output layer counted; `None`: all.
    pub gpu_layers: Option<u32>,
    /// Whether the sequences share one KV cache.
    pub unified_kv: bool,
    /// Whether sliding-window layers keep the whole context (`--swa-full`).
    pub swa_full: bool,
    /// Whether logits are reserved for a whole micro-batch instead of one row per slot.
    pub batch_logits: bool,
    /// Whether the graph holds one more copy of the layer input (llama.cpp b11434; not b11669). On by default: never under.
    pub input_copy: bool,
}
