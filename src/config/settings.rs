//! The configuration as the rest of the program sees it: plain data with built-in defaults.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cluster::{MemoryPolicy, NodeKind, Role, Strategy};
use crate::routing::{Canonical, Policy, WindowPolicy};
use crate::vram::GpuCard;

/// The whole configuration, resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Address that `serve` listens on.
    pub listen: String,
    /// Least severe log level that is written.
    pub log_level: LogLevel,
    /// Which models are kept on GPUs.
    pub residency: Residency,
    /// Nodes; empty means: discover the local ones.
    pub nodes: Vec<NodeConfig>,
    /// Base URL that `OLLAMA_HOST` stands for, for discovery only.
    pub ollama_host: Option<String>,
    /// Routing by class and by name.
    pub routing: Policy,
    /// Time limits.
    pub timeouts: Timeouts,
    /// Limits of what is accepted at once.
    pub admission: Admission,
    /// What becomes of a request's context.
    pub context: ContextSettings,
    /// What keeps conversations at the nodes that have read them.
    pub affinity: AffinitySettings,
    /// Shares of the lanes at a saturated node.
    pub lanes: LaneShares,
    /// Prices for `cost_saved_usd`.
    pub prices: Prices,
    /// Who may talk to the router.
    pub security: Security,
    /// How much of a GPU's memory counts as usable.
    pub memory: MemoryPolicy,
    /// The GPUs of this machine.
    pub gpu: GpuSettings,
    /// Where headers of models that are not here come from.
    pub sources: Sources,
    /// Sizes of models that the user knows, in MB, by name.
    pub models: BTreeMap<String, u64>,
    /// The directory of what is kept across runs, as it follows from [`Sources::state_dir`] and the environment; `None`: nothing is kept.
    pub state: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8512".to_owned(),
            log_level: LogLevel::Info,
            residency: Residency::default(),
            nodes: Vec::new(),
            ollama_host: None,
            routing: Policy::default(),
            timeouts: Timeouts::default(),
            admission: Admission::default(),
            context: ContextSettings::default(),
            affinity: AffinitySettings::default(),
            lanes: LaneShares::default(),
            prices: Prices::default(),
            security: Security::default(),
            memory: MemoryPolicy::default(),
            gpu: GpuSettings::default(),
            sources: Sources::default(),
            models: BTreeMap::new(),
            state: None,
        }
    }
}

/// Which models are kept on GPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Residency {
    /// Time between two optimisation cycles.
    pub check_interval: Duration,
    /// Whether `serve` acts by itself.
    pub auto: bool,
    /// The models, the most important first.
    pub models: Vec<String>,
}

impl Default for Residency {
    fn default() -> Self {
        Self {
            check_interval: Duration::from_secs(300),
            auto: true,
            models: vec![
                "mxbai-embed-large".to_owned(),
                "nomic-embed-text".to_owned(),
            ],
        }
    }
}

/// The GPUs of this machine and how models are placed on them.
#[derive(Debug, Clone, PartialEq)]
pub struct GpuSettings {
    /// Whether they are looked for at all.
    pub enabled: bool,
    /// Whether a running router samples them again and again; otherwise once.
    pub monitoring: bool,
    /// Time between samples.
    pub monitoring_interval: Duration,
    /// Fewest GPUs first, or all of them.
    pub strategy: Strategy,
    /// Whether the CPU is an answer where no GPU has room.
    pub cpu_fallback: bool,
    /// GPUs that the built-in catalogue does not know, by name.
    pub cards: BTreeMap<String, GpuCard>,
}

impl Default for GpuSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            monitoring: true,
            monitoring_interval: Duration::from_secs(5),
            strategy: Strategy::SingleGpuPreferred,
            cpu_fallback: true,
            cards: BTreeMap::new(),
        }
    }
}

/// Where headers of models that are not here come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    /// Base URL of the Ollama registry.
    pub ollama_registry: String,
    /// Base URL of Hugging Face.
    pub huggingface: String,
    /// Whether no registry is asked.
    pub offline: bool,
    /// Directory of what is kept across runs; `None`: the user's own.
    pub state_dir: Option<PathBuf>,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            ollama_registry: "https://registry.ollama.ai".to_owned(),
            huggingface: "https://huggingface.co".to_owned(),
            offline: false,
            state_dir: None,
        }
    }
}

/// Severity of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Everything, one line per step.
    Debug,
    /// One line per request, and what changed.
    Info,
    /// What needs attention.
    #[serde(alias = "warn")]
    Warning,
    /// What failed.
    Error,
}

/// A configured node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// Name; unique.
    pub name: String,
    /// Base URL, `http://` or `https://`, an optional path prefix, no trailing slash.
    pub url: String,
    /// API; found out when left away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<NodeKind>,
    /// What it is meant for.
    #[serde(default)]
    pub role: Role,
    /// Name of its GPU, where it cannot be probed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<String>,
    /// Bytes of its GPU's memory, where they cannot be probed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vram_bytes: Option<u64>,
}

/// Time limits; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// To connect; then the next node or a 502.
    pub connect: Duration,
    /// For the first byte while the node is loading the model.
    pub load: Option<Duration>,
    /// Without a byte from a node that is not loading, the first one included.
    pub idle: Option<Duration>,
    /// For the whole answer.
    pub total: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            load: Some(Duration::from_secs(600)),
            idle: Some(Duration::from_secs(180)),
            total: None,
        }
    }
}

/// Limits of what is accepted at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    /// Client connections; 503 beyond.
    pub max_connections: usize,
    /// Requests that may wait per node; 503 with Retry-After beyond.
    pub queue: u32,
    /// Requests sent to one node at once; `None` (`"auto"`): what the node says, without a limit of ours where it says nothing.
    pub slots: Option<u32>,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            max_connections: 2048,
            queue: 256,
            slots: None,
        }
    }
}

/// What becomes of a request's context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ContextSettings {
    /// What becomes of `num_ctx` at an Ollama.
    pub num_ctx: WindowPolicy,
    /// Time without an answer after which a stream begins with pieces that say nothing; `None`: never.
    pub early_response: Option<Duration>,
}

/// What keeps conversations at the nodes that have read them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AffinitySettings {
    /// Whether the name that a client gives a conversation counts.
    pub sessions: bool,
    /// What is made constant in the beginning of prompts.
    pub canonical: Vec<Canonical>,
}

impl Default for AffinitySettings {
    fn default() -> Self {
        Self {
            sessions: true,
            canonical: Vec::new(),
        }
    }
}

/// Shares of the lanes at a saturated node; all positive.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LaneShares {
    /// Somebody waits for the answer.
    pub interactive: f64,
    /// An agent waits for it.
    pub agent: f64,
    /// Embeddings.
    pub embedding: f64,
    /// Nobody waits.
    pub batch: f64,
}

impl Default for LaneShares {
    fn default() -> Self {
        Self {
            interactive: 1.0,
            agent: 0.7,
            embedding: 0.3,
            batch: 0.1,
        }
    }
}

/// Price of a model per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Per million prompt tokens.
    pub input: f64,
    /// Per million prompt tokens that the provider had read before; `None`: the sheet does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input: Option<f64>,
    /// Per million answer tokens.
    pub output: f64,
}

/// A dated price sheet.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Prices {
    /// Date of the sheet.
    pub as_of: Option<String>,
    /// Currency of every price.
    pub currency: Option<String>,
    /// Price of a kilowatt hour.
    pub kwh: Option<f64>,
    /// Price by model.
    pub models: BTreeMap<String, Price>,
    /// The model whose price is what a local answer saved; without it nothing is claimed.
    pub reference: Option<String>,
}

/// Who may talk to the router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Security {
    /// Host names that are allowed besides loopback, private addresses and the machine's own name.
    pub hosts: Vec<String>,
    /// Largest request body in bytes.
    pub max_body: u64,
}

impl Default for Security {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            max_body: 64 * 1024 * 1024,
        }
    }
}
