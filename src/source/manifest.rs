//! Ollama's manifests: which blobs a model is made of.

use serde::Deserialize;
use serde_json::Value;

/// Largest manifest that is read, in bytes. One of a model in 10,000 pieces has 2 MB.
pub(super) const LIMIT: u64 = 4 * 1024 * 1024;

/// Largest configuration or parameter blob that is read, in bytes.
pub(super) const SMALL_BLOB: u64 = 1024 * 1024;

/// What a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A GGUF file of the model.
    Model,
    /// A projector (vision, audio), a GGUF file.
    Projector,
    /// An adapter (`LoRA`).
    Adapter,
    /// A draft model, a GGUF file.
    Draft,
    /// One tensor of a model that is not GGUF.
    Tensor,
    /// Default options.
    Params,
    /// Text that takes no memory: template, system prompt, licence, messages.
    Other,
}

/// One blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layer {
    /// What it is.
    pub kind: Kind,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// Bytes.
    pub size: u64,
}

/// A model's blobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    /// Digest of the configuration.
    pub config: Option<String>,
    /// The layers.
    pub layers: Vec<Layer>,
}

/// What a model's configuration says of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ModelConfig {
    /// Quantisation (`Q4_K_M`).
    pub quantization: Option<String>,
    /// Size in words (`8.0B`).
    pub size: Option<String>,
    /// Host that runs it instead of this machine.
    pub remote_host: Option<String>,
}

/// Default options of a model that decide how much memory it takes; `None` where it leaves them to the runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OllamaParams {
    /// Context in tokens.
    pub num_ctx: Option<u64>,
    /// Logical batch in tokens.
    pub num_batch: Option<u64>,
    /// Layers on GPUs; -1: as many as fit.
    pub num_gpu: Option<i64>,
}

#[derive(Deserialize)]
struct Blob {
    #[serde(rename = "mediaType", default)]
    media_type: String,
    #[serde(default)]
    digest: String,
    #[serde(default)]
    size: u64,
}

#[derive(Deserialize)]
struct Written {
    #[serde(default)]
    config: Option<Blob>,
    layers: Vec<Blob>,
}

impl Manifest {
    /// Reads a manifest; `None` when it is none.
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let written: Written = serde_json::from_slice(text).ok()?;
        let layers = written
            .layers
            .into_iter()
            .filter(|blob| is_digest(&blob.digest))
            .map(|blob| Layer {
                kind: kind(&blob.media_type),
                digest: blob.digest,
                size: blob.size,
            });
        Some(Self {
            config: written
                .config
                .map(|blob| blob.digest)
                .filter(|digest| is_digest(digest)),
            layers: layers.collect(),
        })
    }

    /// Layers of a kind.
    pub(super) fn of(&self, kind: Kind) -> impl Iterator<Item = &Layer> {
        self.layers.iter().filter(move |layer| layer.kind == kind)
    }

    /// Bytes of all layers of a kind.
    pub(super) fn bytes(&self, kind: Kind) -> u64 {
        self.of(kind)
            .fold(0, |sum, layer| sum.saturating_add(layer.size))
    }

    /// Bytes of everything that goes into memory.
    pub(super) fn weights_bytes(&self) -> u64 {
        [
            Kind::Model,
            Kind::Projector,
            Kind::Adapter,
            Kind::Draft,
            Kind::Tensor,
        ]
        .into_iter()
        .fold(0, |sum, kind| sum.saturating_add(self.bytes(kind)))
    }
}

impl ModelConfig {
    /// Reads a configuration blob; what it does not say stays unknown.
    pub(super) fn parse(text: &[u8]) -> Self {
        let value: Value = serde_json::from_slice(text).unwrap_or_default();
        let word = |key: &str| {
            let word = value.get(key).and_then(Value::as_str);
            word.filter(|word| !word.is_empty() && *word != "unknown")
                .map(str::to_owned)
        };
        Self {
            quantization: word("file_type"),
            size: word("model_type"),
            remote_host: word("remote_host"),
        }
    }
}

impl OllamaParams {
    /// Reads a parameter blob (JSON).
    pub(super) fn parse(text: &[u8]) -> Self {
        let value: Value = serde_json::from_slice(text).unwrap_or_default();
        Self {
            num_ctx: value.get("num_ctx").and_then(Value::as_u64),
            num_batch: value.get("num_batch").and_then(Value::as_u64),
            num_gpu: value.get("num_gpu").and_then(Value::as_i64),
        }
    }

    /// Reads the `parameters` of `/api/show`: one option a line, name and value apart by white space.
    pub(super) fn of_show(text: &str) -> Self {
        let mut params = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some(name), Some(value), None) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            match name {
                "num_ctx" => params.num_ctx = value.parse().ok(),
                "num_batch" => params.num_batch = value.parse().ok(),
                "num_gpu" => params.num_gpu = value.parse().ok(),
                _ => {}
            }
        }
        params
    }
}

fn kind(media_type: &str) -> Kind {
    match media_type
        .strip_prefix("application/vnd.ollama.image.")
        .unwrap_or_default()
    {
        "model" => Kind::Model,
        "projector" => Kind::Projector,
        "adapter" => Kind::Adapter,
        "draft" => Kind::Draft,
        "tensor" => Kind::Tensor,
        "params" => Kind::Params,
        _ => Kind::Other,
    }
}

/// Whether it is a digest as Ollama writes it: safe in a URL and as a file's name.
pub(super) fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|digits| {
        digits.len() == 64
            && digits
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(digit: char) -> String {
        format!("sha256:{}", digit.to_string().repeat(64))
    }

    #[test]
    fn adds_up_what_goes_into_memory() {
        let text = serde_json::json!({
            "schemaVersion": 2,
            "config": {"digest": digest('c'), "size": 500},
            "layers": [
                {"mediaType": "application/vnd.ollama.image.model", "digest": digest('1'), "size": 1000},
                {"mediaType": "application/vnd.ollama.image.projector", "digest": digest('2'), "size": 200},
                {"mediaType": "application/vnd.ollama.image.adapter", "digest": digest('3'), "size": 30},
                {"mediaType": "application/vnd.ollama.image.license", "digest": digest('4'), "size": 4},
                {"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:../../x", "size": 9},
                {"mediaType": "text/plain", "digest": digest('5')},
            ],
        });
        let manifest = Manifest::parse(text.to_string().as_bytes()).expect("a manifest");
        assert_eq!(manifest.config, Some(digest('c')));
        assert_eq!(manifest.weights_bytes(), 1230);
        assert_eq!(manifest.of(Kind::Model).count(), 1);
        assert_eq!(manifest.bytes(Kind::Other), 4);
    }

    #[test]
    fn what_is_no_manifest_is_told_apart() {
        for text in ["", "<html>", "[]", "{}", r#"{"layers":7}"#] {
            assert_eq!(Manifest::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn reads_the_options_that_decide_memory() {
        let params = OllamaParams {
            num_ctx: Some(16384),
            num_batch: None,
            num_gpu: Some(-1),
        };
        assert_eq!(
            OllamaParams::parse(br#"{"num_ctx":16384,"num_gpu":-1,"stop":["<a>"]}"#),
            params
        );
        assert_eq!(
            OllamaParams::of_show(
                "num_ctx                        16384\nstop \"num_ctx 1\"\nnum_gpu -1\n"
            ),
            params
        );
        assert_eq!(OllamaParams::parse(b"no JSON"), OllamaParams::default());
    }

    #[test]
    fn a_configuration_tells_what_it_tells() {
        let config =
            ModelConfig::parse(br#"{"model_type":"8.0B","file_type":"unknown","remote_host":""}"#);
        assert_eq!(config.size.as_deref(), Some("8.0B"));
        assert_eq!((config.quantization, config.remote_host), (None, None));
    }
}
