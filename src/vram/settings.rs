//! How a model is to be run: everything beside the model that decides its memory.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Block, Shape};

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

impl CacheType {
    /// Every type that llama.cpp takes for `--cache-type-k` and `-v`, the largest first.
    pub const ALL: [Self; 9] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q8_0,
        Self::Q5_1,
        Self::Q5_0,
        Self::Q4_1,
        Self::Q4_0,
        Self::Iq4Nl,
    ];

    /// llama.cpp's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q5_1 => "q5_1",
            Self::Q5_0 => "q5_0",
            Self::Q4_1 => "q4_1",
            Self::Q4_0 => "q4_0",
            Self::Iq4Nl => "iq4_nl",
        }
    }

    /// How it stores elements (`ggml-common.h`).
    pub const fn block(self) -> Block {
        let (elements, bytes) = match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q8_0 => (32, 34),
            Self::Q5_1 => (32, 24),
            Self::Q5_0 => (32, 22),
            Self::Q4_1 => (32, 20),
            Self::Q4_0 | Self::Iq4Nl => (32, 18),
        };
        Block { elements, bytes }
    }

    /// Whether it stores blocks of numbers with a common scale.
    pub const fn is_quantized(self) -> bool {
        !matches!(self, Self::F32 | Self::F16 | Self::Bf16)
    }

    /// Bytes of that many elements, saturating. Rows are whole blocks: llama.cpp refuses others.
    pub const fn bytes(self, elements: u64) -> u64 {
        let block = self.block();
        elements
            .div_ceil(block.elements)
            .saturating_mul(block.bytes)
    }
}

impl Runtime {
    /// Every runtime.
    pub const ALL: [Self; 4] = [Self::LlamaServer, Self::LlamaCli, Self::Ollama, Self::Vllm];

    /// The word used on the command line and in output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LlamaServer => "llama-server",
            Self::LlamaCli => "llama-cli",
            Self::Ollama => "ollama",
            Self::Vllm => "vllm",
        }
    }
}

impl fmt::Display for CacheType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names no cache type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownCacheType(pub String);

impl fmt::Display for UnknownCacheType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = CacheType::ALL.map(CacheType::name).join(", ");
        write!(f, "unknown KV cache type `{}`; known: {names}", self.0)
    }
}

impl std::error::Error for UnknownCacheType {}

impl FromStr for CacheType {
    type Err = UnknownCacheType;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| UnknownCacheType(text.to_owned()))
    }
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
    /// Context in tokens of all sequences together, as llama-server's `-c` means it; 0: as far as the model was trained.
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
    /// Whether CUDA's f16 copy of a layer's quantised K and V counts as part of the compute buffer. On by default; off for the graphs of
    /// devices without that copy (RPC, Vulkan, a no-allocation load), which cannot show it.
    pub cuda_kv_scratch: bool,
    /// Whether the first GPU computes prompts with the weights that stay in RAM, a copy of each at a time (llama.cpp's op offload, on for
    /// CUDA, `ROCm`, Vulkan, `SYCL` and Metal). On by default; off for RPC devices, which cannot.
    pub op_offload: bool,
}

/// llama.cpp's own logical batch.
const BATCH: u64 = 2048;
/// llama.cpp's own micro-batch.
const UBATCH: u64 = 512;
/// Context where nothing was asked for, for runtimes that would take the whole trained one.
const CONTEXT: u64 = 8192;
/// Ollama's context on a card of ordinary size.
const OLLAMA_CONTEXT: u64 = 4096;
/// Slots of a llama-server that was not told how many.
const SERVER_SLOTS: u32 = 4;

impl Settings {
    /// What a runtime does with a model when nothing was asked for.
    pub fn defaults(runtime: Runtime, shape: &Shape) -> Self {
        Self::of_runtime(
            runtime,
            Some(shape.trained_ctx).filter(|&trained| trained > 0),
        )
    }

    /// The same for a model of which only the context is known that it was trained for, or not even that.
    pub fn of_runtime(runtime: Runtime, trained_ctx: Option<u64>) -> Self {
        let trained = trained_ctx.unwrap_or(u64::MAX);
        let wanted = match runtime {
            Runtime::Ollama => OLLAMA_CONTEXT,
            _ => CONTEXT,
        };
        let server = runtime == Runtime::LlamaServer;
        Self {
            runtime,
            ctx: wanted.min(trained),
            parallel: if server { SERVER_SLOTS } else { 1 },
            cache_k: CacheType::F16,
            cache_v: CacheType::F16,
            batch: if runtime == Runtime::Ollama {
                UBATCH
            } else {
                BATCH
            },
            ubatch: UBATCH,
            flash_attention: true,
            gpu_layers: None,
            unified_kv: server,
            swa_full: false,
            batch_logits: runtime == Runtime::LlamaCli,
            input_copy: true,
            cuda_kv_scratch: true,
            op_offload: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_types_have_llama_cpps_names() {
        for kind in CacheType::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        assert_eq!("IQ4_NL".parse(), Ok(CacheType::Iq4Nl));
        let error = "q2_k".parse::<CacheType>().expect_err("no such type");
        assert!(error.to_string().contains("`q2_k`; known: f32, f16"));
    }

    #[test]
    fn a_quantised_cache_takes_its_blocks() {
        assert_eq!(CacheType::Q8_0.bytes(1024), 1024 / 32 * 34);
        assert_eq!(CacheType::Q4_0.bytes(64), 36);
        assert_eq!(CacheType::F16.bytes(u64::MAX), u64::MAX);
    }
}
