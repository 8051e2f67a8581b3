//! One node, as it was last seen.

use serde::{Deserialize, Serialize};

use super::ModelName;

/// Which API a node speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeKind {
    /// Ollama's own API beside OpenAI's and Anthropic's.
    Ollama,
    /// llama.cpp's llama-server: OpenAI and Anthropic forms, `/props`, `/slots`.
    LlamaServer,
    /// Anything with `/v1/models` and `/v1/chat/completions` (vLLM, LM Studio, SGLang, another gpurouter).
    #[serde(rename = "openai")]
    OpenAi,
}

impl NodeKind {
    /// The word used in configuration and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ollama => "ollama",
            Self::LlamaServer => "llama-server",
            Self::OpenAi => "openai",
        }
    }
}

/// What a node is meant for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The large card: moderate and complex work.
    Main,
    /// The small card: simple work, summaries.
    Helper,
    /// Embeddings.
    Embed,
    /// No preference.
    #[default]
    Any,
}

/// What a node can be relied on for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// Answers and has a free slot, as far as is known.
    Up,
    /// Answers, but every slot is taken or it said 429 or 503.
    Busy,
    /// Answers, but is still loading its model.
    Loading,
    /// Does not answer.
    Down,
    /// Answers in a way that only a person can mend: 401, 403, an unknown API.
    Misconfigured,
}

impl NodeState {
    /// Whether a request may be sent there.
    pub fn usable(self) -> bool {
        matches!(self, Self::Up | Self::Busy)
    }

    /// The word used in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Busy => "busy",
            Self::Loading => "loading",
            Self::Down => "down",
            Self::Misconfigured => "misconfigured",
        }
    }
}

/// What a model can do, in Ollama's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Capability {
    /// Chat and text completion.
    Completion,
    /// Embeddings.
    Embedding,
    /// Tool calls.
    Tools,
    /// Images in the prompt.
    Vision,
    /// Separate thinking text.
    Thinking,
    /// Fill in the middle.
    Insert,
    /// A word that this version does not know.
    #[serde(other)]
    Other,
}

/// Which request forms a node answers itself; the others are translated to chat completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four independent answers to four questions"
)]
pub struct Native {
    /// Ollama's `/api/*`.
    pub ollama: bool,
    /// `POST /v1/responses`.
    pub responses: bool,
    /// `POST /v1/messages`.
    pub messages: bool,
    /// `POST /v1/messages/count_tokens`.
    pub count_tokens: bool,
}

/// A model that a node offers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Model {
    /// Full name, tag included.
    pub name: ModelName,
    /// The name exactly as the node wrote it; what must be sent to it.
    pub id: String,
    /// Content digest, where the node tells one (Ollama).
    pub digest: Option<String>,
    /// Bytes on disk.
    pub size_bytes: Option<u64>,
    /// RFC 3339 time of the last change.
    pub modified_at: Option<String>,
    /// What it can do; empty when the node does not tell.
    pub capabilities: Vec<Capability>,
    /// Context length in tokens: the trained one (Ollama), or the one it is served with (llama-server, vLLM).
    pub context: Option<u64>,
    /// The model's own entry of the node's list (`/api/tags` or `/v1/models`), byte for byte, as JSON text.
    pub listing: Option<String>,
}

impl Model {
    /// Whether the model is known to be an embedding model only.
    pub fn embeds_only(&self) -> bool {
        self.capabilities.contains(&Capability::Embedding)
            && !self.capabilities.contains(&Capability::Completion)
    }
}

/// A model in a node's memory.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LoadedModel {
    /// Full name, tag included.
    pub name: ModelName,
    /// Content digest, where the node tells one.
    pub digest: Option<String>,
    /// Bytes in all memory; `None` when unknown (some builds say 0, which is not an answer).
    pub size_bytes: Option<u64>,
    /// Bytes in GPU memory; `None` when unknown.
    pub vram_bytes: Option<u64>,
    /// Context length it was loaded with, in tokens.
    pub context: Option<u64>,
    /// RFC 3339 time at which the node means to unload it.
    pub expires_at: Option<String>,
    /// The model's own entry of `/api/ps`, byte for byte, as JSON text.
    pub listing: Option<String>,
}

impl LoadedModel {
    /// Share of the model in GPU memory in percent, `None` when either figure is unknown: the nearest number, and 100 only for all of it. A half
    /// goes to the CPU, as in `ollama ps`.
    pub fn gpu_percent(&self) -> Option<u8> {
        let size = self.size_bytes.filter(|size| *size > 0)?;
        let vram = self.vram_bytes?;
        if vram >= size {
            return Some(100);
        }
        let (size, vram) = (u128::from(size), u128::from(vram));
        let nearest = (vram * 200 + size - 1) / (size * 2);
        u8::try_from(nearest.min(99)).ok()
    }
}

/// One node, as it was last seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Name from the configuration or discovery.
    pub name: String,
    /// Base URL without a trailing slash.
    pub url: String,
    /// API it speaks; `None` until it has been asked.
    pub kind: Option<NodeKind>,
    /// What it is meant for.
    pub role: Role,
    /// What it can be relied on for.
    pub state: NodeState,
    /// Whether anybody has looked at it; until then the state is a guess.
    pub seen: bool,
    /// Why it is not up, as a sentence.
    pub cause: Option<String>,
    /// Version string of the server.
    pub version: Option<String>,
    /// What it offers.
    pub models: Vec<Model>,
    /// What it holds in memory.
    pub loaded: Vec<LoadedModel>,
    /// Requests it runs at once, as it says itself (llama-server's slots); `None` when it does not tell.
    pub slots: Option<u32>,
    /// Whether it is a llama-server in router mode, which loads and unloads the models of its list on demand; its slots are each model's own.
    pub on_demand: bool,
    /// Models that it holds at once, as it says itself (llama-server in router mode); `None` when it does not tell.
    pub most_models: Option<u32>,
    /// Requests it is running now, as it says itself, ours included; `None` when it does not tell.
    pub running: Option<u32>,
    /// Requests waiting inside it, as it says itself; `None` when it does not tell.
    pub waiting: Option<u32>,
    /// What it answers without translation.
    pub native: Native,
    /// Name of the GPU, where the configuration names one.
    pub gpu: Option<String>,
    /// Bytes of its GPU's memory, where the configuration tells them.
    pub vram_bytes: Option<u64>,
}

impl Node {
    /// A node that has not been asked anything yet.
    pub fn unseen(name: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            url: url.into(),
            kind: None,
            role: Role::Any,
            state: NodeState::Down,
            seen: false,
            cause: Some("not asked yet".to_owned()),
            version: None,
            models: Vec::new(),
            loaded: Vec::new(),
            slots: None,
            on_demand: false,
            most_models: None,
            running: None,
            waiting: None,
            native: Native::default(),
            gpu: None,
            vram_bytes: None,
        }
    }

    /// Whether models are loaded and unloaded there when it is told to: on an Ollama, and on a llama-server in router mode.
    pub fn loads_models(&self) -> bool {
        match self.kind {
            Some(NodeKind::Ollama) => true,
            Some(NodeKind::LlamaServer) => self.on_demand,
            _ => false,
        }
    }

    /// The model of that name, by full name; never by prefix.
    pub fn model(&self, name: &ModelName) -> Option<&Model> {
        self.models.iter().find(|model| model.name == *name)
    }

    /// The entry in memory of a model that the node offers: by full name, or by digest, because one content may have several names.
    pub fn resident(&self, model: &Model) -> Option<&LoadedModel> {
        self.loaded.iter().find(|loaded| {
            loaded.name == model.name || (loaded.digest.is_some() && loaded.digest == model.digest)
        })
    }

    /// The entry in memory of the model of that name.
    pub fn loaded(&self, name: &ModelName) -> Option<&LoadedModel> {
        match self.model(name) {
            Some(model) => self.resident(model),
            None => self.loaded.iter().find(|loaded| loaded.name == *name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e12_a_share_of_the_gpu_is_the_nearest_percent_and_100_only_for_all() {
        let share = |vram: u64, size: u64| {
            LoadedModel {
                size_bytes: Some(size),
                vram_bytes: Some(vram),
                ..LoadedModel::default()
            }
            .gpu_percent()
        };
        let gib = 1_u64 << 30;
        assert_eq!(share(2 * gib, 42 * gib), Some(5));
        assert_eq!(share(5 * gib, 8 * gib), Some(62));
        assert_eq!(share(42 * gib, 42 * gib), Some(100));
        assert_eq!(share(42 * gib - 1, 42 * gib), Some(99));
        assert_eq!(share(0, 42 * gib), Some(0));
        assert_eq!(share(u64::MAX - 1, u64::MAX), Some(99));
        assert_eq!(share(1, 0), None);
    }

    #[test]
    fn a_model_in_memory_is_found_under_every_name_of_its_content() {
        let named = |name: &str, digest: &str| Model {
            name: ModelName::new(name),
            digest: Some(digest.to_owned()),
            ..Model::default()
        };
        let mut node = Node::unseen("a", "http://a");
        node.models = vec![named("m", "1"), named("copy-of-m", "1"), named("n", "2")];
        node.loaded = vec![LoadedModel {
            name: ModelName::new("m"),
            digest: Some("1".to_owned()),
            ..LoadedModel::default()
        }];
        assert!(node.loaded(&ModelName::new("m")).is_some());
        assert!(node.loaded(&ModelName::new("copy-of-m")).is_some());
        assert!(node.loaded(&ModelName::new("n")).is_none());
    }
}
