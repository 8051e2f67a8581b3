//! The models that a simulated node holds on its disk.

use std::time::{Duration, SystemTime};

use super::seed::{Rng, hash};

/// When every simulated model was last changed (2026-01-01T00:00:00Z): a fixed date, so that documents are the same every time.
const MODIFIED: Duration = Duration::from_secs(1_767_225_600);
/// Bytes of a model whose size nobody gave.
const DEFAULT_BYTES: u64 = 2_000_000_000;
/// Bits per weight of `Q4_K_M`, embeddings and norms included.
const Q4_K_M_BITS: u64 = 5;

/// What a node knows about a model from its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// Full name, tag included.
    pub name: String,
    /// Size on disk, which is also what the weights need in memory.
    pub bytes: u64,
    /// 64 hexadecimal digits; equal for equal models on different nodes.
    pub digest: String,
    /// Architecture, as in `general.architecture`.
    pub family: &'static str,
    /// Number of weights.
    pub parameters: u64,
    /// Name of the tensor type that most weights have.
    pub quantization: &'static str,
    /// Trained context in tokens.
    pub context_length: u32,
    /// Width of the model; the length of its embeddings.
    pub embedding_length: u32,
    /// Transformer blocks.
    pub layers: u32,
    /// KV cache per token of context, f16.
    pub kv_bytes_per_token: u64,
    /// As in `/api/show`.
    pub capabilities: &'static [&'static str],
}

const CHAT: &[&str] = &["completion"];
const CHAT_TOOLS: &[&str] = &["completion", "tools"];
const CODE: &[&str] = &["completion", "tools", "insert"];
const EMBEDDING: &[&str] = &["embedding"];

/// One line of the table of models whose shape is declared.
struct Known {
    name: &'static str,
    bytes: u64,
    family: &'static str,
    parameters: u64,
    quantization: &'static str,
    context_length: u32,
    embedding_length: u32,
    layers: u32,
    /// Key-value heads times head size; 0: no cache.
    kv_width: u64,
    capabilities: &'static [&'static str],
}

/// Shapes as in the models' published configurations; sizes as Ollama's library lists them, to the megabyte.
#[rustfmt::skip]
const KNOWN: &[Known] = &[
    Known { name: "qwen2.5-coder:1.5b", bytes: 986_000_000, family: "qwen2", parameters: 1_543_714_304, quantization: "Q4_K_M", context_length: 32_768, embedding_length: 1536, layers: 28, kv_width: 256, capabilities: CODE },
    Known { name: "qwen2.5-coder:7b", bytes: 4_683_000_000, family: "qwen2", parameters: 7_615_616_512, quantization: "Q4_K_M", context_length: 32_768, embedding_length: 3584, layers: 28, kv_width: 512, capabilities: CODE },
    Known { name: "qwen2.5-coder:14b", bytes: 8_988_000_000, family: "qwen2", parameters: 14_770_033_664, quantization: "Q4_K_M", context_length: 32_768, embedding_length: 5120, layers: 48, kv_width: 1024, capabilities: CODE },
    Known { name: "llama3.2:1b", bytes: 1_321_000_000, family: "llama", parameters: 1_235_814_432, quantization: "Q8_0", context_length: 131_072, embedding_length: 2048, layers: 16, kv_width: 512, capabilities: CHAT_TOOLS },
    Known { name: "llama3.2:3b", bytes: 2_019_000_000, family: "llama", parameters: 3_212_749_888, quantization: "Q4_K_M", context_length: 131_072, embedding_length: 3072, layers: 28, kv_width: 1024, capabilities: CHAT_TOOLS },
    Known { name: "llama3.1:8b", bytes: 4_921_000_000, family: "llama", parameters: 8_030_261_312, quantization: "Q4_K_M", context_length: 131_072, embedding_length: 4096, layers: 32, kv_width: 1024, capabilities: CHAT_TOOLS },
    Known { name: "mxbai-embed-large:latest", bytes: 670_000_000, family: "bert", parameters: 334_090_240, quantization: "F16", context_length: 512, embedding_length: 1024, layers: 24, kv_width: 0, capabilities: EMBEDDING },
    Known { name: "nomic-embed-text:latest", bytes: 274_000_000, family: "nomic-bert", parameters: 136_727_040, quantization: "F16", context_length: 2048, embedding_length: 768, layers: 12, kv_width: 0, capabilities: EMBEDDING },
];

impl Model {
    /// The models that a node has when nobody says otherwise.
    pub fn defaults() -> Vec<Self> {
        [
            "qwen2.5-coder:1.5b",
            "qwen2.5-coder:7b",
            "mxbai-embed-large",
        ]
        .into_iter()
        .map(|name| Self::named(name, None))
        .collect()
    }

    /// A model by name: its declared shape if it is a known one, else a plausible one for `bytes` (2 GB if unknown). A name that
    /// says `embed` makes an embedding model.
    pub fn named(name: &str, bytes: Option<u64>) -> Self {
        let name = full_name(name);
        let mut model = match KNOWN.iter().find(|known| known.name == name) {
            Some(known) => Self {
                name: String::new(),
                bytes: known.bytes,
                digest: String::new(),
                family: known.family,
                parameters: known.parameters,
                quantization: known.quantization,
                context_length: known.context_length,
                embedding_length: known.embedding_length,
                layers: known.layers,
                kv_bytes_per_token: 2 * 2 * known.kv_width * u64::from(known.layers),
                capabilities: known.capabilities,
            },
            None => Self::unknown(&name, bytes.unwrap_or(DEFAULT_BYTES)),
        };
        if let Some(bytes) = bytes {
            model.bytes = bytes;
        }
        model.digest = digest(&name, model.bytes);
        model.name = name;
        model
    }

    /// Whether a node could fetch this name from a registry.
    pub fn is_known(name: &str) -> bool {
        let name = full_name(name);
        KNOWN.iter().any(|known| known.name == name)
    }

    /// A shape for a model of which only the size is known: that of a small llama with grouped-query attention.
    fn unknown(name: &str, bytes: u64) -> Self {
        let embedding = name.contains("embed");
        Self {
            name: String::new(),
            bytes,
            digest: String::new(),
            family: if embedding { "bert" } else { "llama" },
            parameters: bytes.saturating_mul(8) / Q4_K_M_BITS,
            quantization: "Q4_K_M",
            context_length: if embedding { 512 } else { 32_768 },
            embedding_length: if embedding { 768 } else { 2048 },
            layers: 28,
            kv_bytes_per_token: if embedding { 0 } else { 57_344 },
            capabilities: if embedding { EMBEDDING } else { CHAT },
        }
    }

    /// Whether `/api/show` lists this capability.
    pub fn can(&self, capability: &str) -> bool {
        self.capabilities.contains(&capability)
    }

    /// Bytes in memory with a context of `num_ctx` tokens for each of `parallel` slots: weights, KV cache and compute buffers.
    pub fn resident_bytes(&self, num_ctx: u32, parallel: usize) -> u64 {
        let kv = self
            .kv_bytes_per_token
            .saturating_mul(u64::from(num_ctx))
            .saturating_mul(parallel as u64);
        // llama.cpp's buffer for 512 logits over a vocabulary of 150,000 is about 300 MiB; small models have small vocabularies.
        let compute = (300 << 20).min(self.bytes / 4);
        self.bytes.saturating_add(kv).saturating_add(compute)
    }

    /// When the model was last changed.
    pub fn modified_at(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + MODIFIED
    }

    /// The number of weights as Ollama writes it: `7.6B`, `334.09M`.
    pub fn parameter_size(&self) -> String {
        #[allow(clippy::cast_precision_loss, reason = "three digits are printed")]
        let count = self.parameters as f64;
        match self.parameters {
            1_000_000_000.. => format!("{:.1}B", count / 1e9),
            1_000_000.. => format!("{:.2}M", count / 1e6),
            _ => format!("{:.0}K", count / 1e3),
        }
    }
}

/// `name` with its tag (`latest` if it has none) in lower case, as Ollama compares names.
pub fn full_name(name: &str) -> String {
    let name = name.trim().to_ascii_lowercase();
    let last = name.rsplit('/').next().unwrap_or_default();
    if last.contains(':') {
        name
    } else {
        format!("{name}:latest")
    }
}

fn digest(name: &str, bytes: u64) -> String {
    let mut rng = Rng::new(hash(&[name.as_bytes(), &bytes.to_le_bytes()]));
    let mut word = || rng.next_u64();
    format!(
        "{:016x}{:016x}{:016x}{:016x}",
        word(),
        word(),
        word(),
        word()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_tag_is_latest() {
        assert_eq!(full_name("Tiny"), "tiny:latest");
        assert_eq!(full_name("tiny:1b"), "tiny:1b");
        assert_eq!(full_name("host:5000/ns/tiny"), "host:5000/ns/tiny:latest");
    }

    #[test]
    fn equal_models_have_equal_digests() {
        let one = Model::named("mine", Some(100));
        assert_eq!(one.digest, Model::named("mine:latest", Some(100)).digest);
        assert_ne!(one.digest, Model::named("mine", Some(101)).digest);
        assert_eq!(one.digest.len(), 64);
    }

    #[test]
    fn known_models_have_their_own_cache() {
        // 28 layers x 4 heads x 128 x keys and values x 2 bytes, from the published configuration.
        assert_eq!(
            Model::named("qwen2.5-coder:7b", None).kv_bytes_per_token,
            57_344
        );
        assert!(Model::named("mxbai-embed-large", None).can("embedding"));
        assert_eq!(
            Model::named("mxbai-embed-large", None).parameter_size(),
            "334.09M"
        );
    }

    #[test]
    fn a_longer_context_needs_more_memory() {
        let model = Model::named("qwen2.5-coder:7b", None);
        assert_eq!(
            model.resident_bytes(8192, 1) - model.resident_bytes(4096, 1),
            4096 * 57_344
        );
    }
}
