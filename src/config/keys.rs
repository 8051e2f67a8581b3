//! The keys of the configuration file.

use super::value::Kind;
use crate::routing::Canonical;

/// A key of the configuration file.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Path: `timeouts.idle`; `[]` marks a list of tables (`node[].url`), `*` a name that the user chooses (`aliases.*`).
    pub path: &'static str,
    /// What its value may be.
    pub kind: Kind,
    /// Default as TOML; empty: not set.
    pub default: &'static str,
    /// Whether every entry of its table must have it.
    pub required: bool,
    /// What it means, in one or two sentences.
    pub doc: &'static str,
}

impl Key {
    /// The last part of the path.
    pub fn name(&self) -> &'static str {
        self.table_and_name().1
    }

    /// The table's path (empty for the top level) and the name in it.
    pub fn table_and_name(&self) -> (&'static str, &'static str) {
        self.path.rsplit_once('.').unwrap_or(("", self.path))
    }
}

const fn key(path: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key {
        path,
        kind,
        default,
        required: false,
        doc,
    }
}

const fn required(path: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key {
        path,
        kind,
        default: "",
        required: true,
        doc,
    }
}

/// Node kinds as they are written.
const NODE_KINDS: &[&str] = &["ollama", "llama-server", "openai"];

/// Node roles as they are written.
const ROLES: &[&str] = &["main", "helper", "embed", "any"];

/// Log levels as they are written; the second and the third are the same.
const LEVELS: &[&str] = &["error", "warning", "warn", "info", "debug"];

/// Strategies as they are written.
const STRATEGIES: &[&str] = &["single-gpu-preferred", "distribute"];

/// On how many nodes a model is loaded at once, as it is written.
const COPIES: &[&str] = &["as-needed", "one"];

/// What becomes of `num_ctx`, as it is written.
const WINDOWS: &[&str] = &["pass", "raise-only", "pin", "bucket"];

/// A number of threads, each with a stack of its own; beyond it no machine could keep the promise.
const MOST_CONNECTIONS: u64 = 1_000_000;

/// Every key, in the order in which it is printed and documented.
pub const KEYS: &[Key] = &[
    key(
        "listen",
        Kind::Listen,
        "\"127.0.0.1:8512\"",
        "Address that `serve` listens on. Only loopback addresses are accepted: there are no keys yet. Port 0 takes a free one.",
    ),
    key(
        "log_level",
        Kind::Choice(LEVELS),
        "\"info\"",
        "Least severe level that is logged.",
    ),
    key(
        "vram_safety_margin",
        Kind::Fraction,
        "",
        "Share of a GPU's memory that may be used. Not set: 0.8 where only a size is known of a model, and all but 1 GiB (at most a fifth) where its header was read.",
    ),
    key(
        "vram_headroom_factor",
        Kind::Positive,
        "1.0",
        "What the memory that a model needs is multiplied by.",
    ),
    key(
        "check_interval",
        Kind::Time { endless: false },
        "\"300s\"",
        "Time between two optimisation cycles.",
    ),
    key(
        "auto_optimize",
        Kind::Switch,
        "true",
        "Whether `serve` keeps the priority models on GPUs; false: it leaves alone what is loaded. Models that no node has are never pulled.",
    ),
    key(
        "priority_models",
        Kind::Texts,
        "[\"mxbai-embed-large\", \"nomic-embed-text\"]",
        "Models that are kept on GPUs, the most important first.",
    ),
    required(
        "node[].name",
        Kind::NodeName,
        "Name of the node in answers, logs and `prefer`; unique.",
    ),
    required(
        "node[].url",
        Kind::Url,
        "Where the node is: http:// (added when no scheme is written) or https://, with an optional path prefix.",
    ),
    key(
        "node[].kind",
        Kind::Choice(NODE_KINDS),
        "",
        "API it speaks; found out by asking when left away.",
    ),
    key(
        "node[].role",
        Kind::Choice(ROLES),
        "\"any\"",
        "What it is meant for: main (the large GPU), helper (the small one), embed, or any.",
    ),
    key(
        "node[].gpu",
        Kind::Text,
        "",
        "Name of its GPU, where it cannot be probed.",
    ),
    key(
        "node[].vram",
        Kind::Memory,
        "",
        "Memory of its GPU, where it cannot be probed; 0: it has none.",
    ),
    key(
        "routing.virtual_models",
        Kind::Texts,
        "[\"auto\"]",
        "Model names that are routed by the class of the prompt; [\"*\"] for every request.",
    ),
    key(
        "routing.copies",
        Kind::Choice(COPIES),
        "\"as-needed\"",
        "On how many nodes a model is loaded at once. as-needed: on another one, too, when that saves twice the time that the load takes; one: requests wait for the copy that is in memory as long as its node is in order.",
    ),
    key(
        "routing.simple.model",
        Kind::Text,
        "",
        "Model for SIMPLE prompts. A class without a model takes the next larger one's.",
    ),
    key(
        "routing.simple.prefer",
        Kind::NodeName,
        "",
        "Node for SIMPLE prompts, when it has the model and answers.",
    ),
    key(
        "routing.moderate.model",
        Kind::Text,
        "",
        "Model for MODERATE prompts.",
    ),
    key(
        "routing.moderate.prefer",
        Kind::NodeName,
        "",
        "Node for MODERATE prompts.",
    ),
    key(
        "routing.complex.model",
        Kind::Text,
        "",
        "Model for COMPLEX prompts.",
    ),
    key(
        "routing.complex.prefer",
        Kind::NodeName,
        "",
        "Node for COMPLEX prompts.",
    ),
    required(
        "routing.tier[].name",
        Kind::TierName,
        "Name of a further tier, in lower case; unique.",
    ),
    required("routing.tier[].model", Kind::Text, "Model of the tier."),
    key(
        "routing.tier[].prefer",
        Kind::NodeName,
        "",
        "Node of the tier.",
    ),
    key(
        "routing.tier[].from",
        Kind::Fraction,
        "",
        "Lowest probability of COMPLEX from which the tier applies. A tier has this, `min_tokens`, or both.",
    ),
    key(
        "routing.tier[].min_tokens",
        Kind::Count(0, i64::MAX as u64),
        "",
        "Fewest prompt tokens from which the tier applies.",
    ),
    key(
        "timeouts.connect",
        Kind::Time { endless: false },
        "\"2s\"",
        "To connect to a node; then the next node is tried, or 502 is answered.",
    ),
    key(
        "timeouts.load",
        Kind::Time { endless: true },
        "\"600s\"",
        "For the first byte while the node is loading the model; 0: no limit.",
    ),
    key(
        "timeouts.idle",
        Kind::Time { endless: true },
        "\"180s\"",
        "Without a byte from a node that is not loading, the first byte included; 0: no limit.",
    ),
    key(
        "timeouts.total",
        Kind::Time { endless: true },
        "\"0s\"",
        "For a whole answer; 0: no limit.",
    ),
    key(
        "admission.max_connections",
        Kind::Count(1, MOST_CONNECTIONS),
        "2048",
        "Client connections at once; 503 beyond.",
    ),
    key(
        "admission.queue",
        Kind::Count(0, u32::MAX as u64),
        "256",
        "Requests that may wait for a node; 503 with Retry-After beyond.",
    ),
    key(
        "admission.slots",
        Kind::Slots,
        "\"auto\"",
        "Requests sent to one node at once; auto: as many as the node says it can run, without a limit where it says nothing.",
    ),
    key(
        "context.num_ctx",
        Kind::Choice(WINDOWS),
        "\"raise-only\"",
        "What becomes of num_ctx at an Ollama. raise-only: the loaded context while it is enough, else a larger one; bucket: the smallest step of 2048, 4096, 8192, … that is enough; pin: one context for each model; pass: requests are sent as they came.",
    ),
    key(
        "context.early_response",
        Kind::Pause,
        "\"off\"",
        "Time without an answer from the node after which a client that asked for a stream gets its 200 and pieces that keep it waiting.",
    ),
    key(
        "affinity.sessions",
        Kind::Switch,
        "true",
        "Whether a conversation that the client names (X-OpenWebUI-Chat-Id, X-Claude-Code-Session-Id, Session-Id, X-Session-Id, X-Session-Affinity; prompt_cache_key, conversation, metadata.user_id of Claude Code) goes to the node that it was at, while that is cheaper than waiting; false: only what the prompt begins with says so.",
    ),
    key(
        "affinity.canonical",
        Kind::Choices(Canonical::NAMES),
        "[]",
        "What known clients change in their system prompt from request to request and is made constant, so that a node's prompt cache serves them. claude-code-billing: digits of the line x-anthropic-billing-header; hermes-started, pi-clock: the time of day in `Conversation started:` and `Current date and time:`, which becomes midnight. Nothing else of a request is changed.",
    ),
    key(
        "lanes.interactive",
        Kind::Positive,
        "1.0",
        "Share of a saturated node for requests that somebody waits for.",
    ),
    key(
        "lanes.agent",
        Kind::Positive,
        "0.7",
        "Share for the requests of agents.",
    ),
    key(
        "lanes.embedding",
        Kind::Positive,
        "0.3",
        "Share for embeddings.",
    ),
    key(
        "lanes.batch",
        Kind::Positive,
        "0.1",
        "Share for what nobody waits for: titles, tags, and what says `X-Gpurouter-Lane: batch`.",
    ),
    key(
        "aliases.*",
        Kind::Text,
        "",
        "A name that clients ask for, and the model it stands for. A name that ends in * is a prefix.",
    ),
    key("prices.as_of", Kind::Date, "", "Date of the prices."),
    key(
        "prices.currency",
        Kind::Text,
        "",
        "Currency of the prices, such as USD.",
    ),
    key(
        "prices.kwh",
        Kind::Price,
        "",
        "Price of a kilowatt hour, for what `bench roi` says about energy.",
    ),
    key(
        "prices.reference",
        Kind::Text,
        "",
        "The model of `prices.models` whose price counts as saved by a local answer; without it no saving is claimed.",
    ),
    required(
        "prices.models.*.input",
        Kind::Price,
        "Price of a million prompt tokens.",
    ),
    key(
        "prices.models.*.cached_input",
        Kind::Price,
        "",
        "Price of a million prompt tokens that the provider had read before.",
    ),
    required(
        "prices.models.*.output",
        Kind::Price,
        "Price of a million answer tokens.",
    ),
    key(
        "security.hosts",
        Kind::Hosts,
        "[]",
        "Host names under which the router may be addressed, besides loopback, private addresses and the machine's own name.",
    ),
    key(
        "security.max_body",
        Kind::Size,
        "\"64MiB\"",
        "Largest request body; 413 beyond.",
    ),
    key(
        "gpu.enabled",
        Kind::Switch,
        "true",
        "Whether the GPUs of this machine are looked for. false: CPU only.",
    ),
    key(
        "gpu.enable_gpu_monitoring",
        Kind::Switch,
        "true",
        "Whether `serve` looks at the GPUs again and again; false: once, at the start.",
    ),
    key(
        "gpu.monitoring_interval",
        Kind::Time { endless: false },
        "\"5s\"",
        "Time between two looks at the GPUs.",
    ),
    key(
        "gpu.gpu_allocation_strategy",
        Kind::Choice(STRATEGIES),
        "\"single-gpu-preferred\"",
        "How a model is placed: on the one GPU that it fills best, else on the fewest; or distributed over all that have room.",
    ),
    key(
        "gpu.cpu_fallback",
        Kind::Switch,
        "true",
        "Whether a model that fits on no GPU may run on the CPU; false: that is an error.",
    ),
    required(
        "gpu.card.*.vram",
        Kind::Size,
        "Memory of a GPU that the built-in catalogue does not know.",
    ),
    required(
        "gpu.card.*.bandwidth",
        Kind::Positive,
        "Its peak memory bandwidth in GB/s.",
    ),
    key(
        "gpu.card.*.multiprocessors",
        Kind::Count(1, 100_000),
        "",
        "Its streaming multiprocessors (compute units, Xe cores).",
    ),
    key(
        "sources.ollama_registry",
        Kind::Url,
        "\"https://registry.ollama.ai\"",
        "Where `estimate` and `fit` look for models that are not here.",
    ),
    key(
        "sources.huggingface",
        Kind::Url,
        "\"https://huggingface.co\"",
        "Where `estimate` and `fit` look for hf: models.",
    ),
    key(
        "sources.offline",
        Kind::Switch,
        "false",
        "Whether no registry is asked, as with `--offline`. `serve` never asks one.",
    ),
    key(
        "sources.state_dir",
        Kind::Text,
        "",
        "Directory of what is kept across runs, such as what a GPU's runtime was seen to take; not set: $XDG_STATE_HOME/gpurouter (~/.local/state).",
    ),
    key(
        "models.*",
        Kind::Count(1, 100_000_000),
        "",
        "Size in MB of a model that nobody else tells the size of.",
    ),
];

/// What stands at a path.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    Leaf(&'static Key),
    Table,
    ListOfTables,
    Map,
}

/// What stands at a path of the table; `None` when nothing does.
pub(super) fn shape(path: &str) -> Option<Shape> {
    KEYS.iter().find_map(|key| {
        let rest = key.path.strip_prefix(path)?;
        if rest.is_empty() {
            Some(Shape::Leaf(key))
        } else if rest.starts_with("[].") {
            Some(Shape::ListOfTables)
        } else if rest.starts_with(".*") {
            Some(Shape::Map)
        } else if rest.starts_with('.') {
            Some(Shape::Table)
        } else {
            None
        }
    })
}

/// The path of a name in a table.
pub(super) fn join(table: &str, name: &str) -> String {
    if table.is_empty() {
        name.to_owned()
    } else {
        format!("{table}.{name}")
    }
}

/// How a table is written: `[routing]`, `[[node]]`; `None` for the top level.
pub(super) fn header(table: &str) -> Option<String> {
    if table.is_empty() {
        None
    } else if let Some(list) = table.strip_suffix("[]") {
        Some(format!("[[{list}]]"))
    } else {
        Some(format!("[{table}]"))
    }
}

/// Names that a table may hold.
fn names(table: &str) -> Vec<&'static str> {
    let mut names: Vec<&str> = KEYS
        .iter()
        .filter_map(|key| {
            let rest = if table.is_empty() {
                key.path
            } else {
                key.path.strip_prefix(table)?.strip_prefix('.')?
            };
            rest.split(['.', '[']).next()
        })
        .collect();
    names.dedup();
    names
}

/// A hint for a name that a table does not have: the nearest one there, or where a key of (nearly) that name belongs.
pub(super) fn nearest(table: &str, unknown: &str) -> Option<String> {
    let here = names(table);
    if let Some(name) = closest(unknown, here.iter().copied()) {
        return Some(format!("did you mean `{name}`?"));
    }
    let top = names("");
    let everywhere = top.iter().copied().chain(KEYS.iter().map(Key::name));
    let name = closest(unknown, everywhere)?;
    if top.contains(&name) {
        return Some(match shape(name) {
            Some(Shape::Leaf(_)) => format!("did you mean `{name}`, at the top of the file?"),
            Some(Shape::ListOfTables) => format!("did you mean [[{name}]]?"),
            _ => format!("did you mean [{name}]?"),
        });
    }
    let owner = KEYS.iter().find(|key| key.name() == name)?;
    let header = header(owner.table_and_name().0)?;
    Some(format!("did you mean `{name}` in {header}?"))
}

/// The name with the fewest edits, if those are few enough to be a typo: one, or a third of the letters.
fn closest<'a>(unknown: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let unknown = unknown.to_lowercase();
    let most = (unknown.chars().count() / 3).max(1);
    names
        .filter(|name| *name != "*")
        .map(|name| (strsim::osa_distance(&unknown, name), name))
        .filter(|(edits, _)| *edits <= most)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_is_told_the_nearest_key_of_its_table_first() {
        assert_eq!(
            nearest("timeouts", "idel").as_deref(),
            Some("did you mean `idle`?")
        );
        assert_eq!(
            nearest("", "listn").as_deref(),
            Some("did you mean `listen`?")
        );
        assert_eq!(
            nearest("routing", "complx").as_deref(),
            Some("did you mean `complex`?")
        );
    }

    #[test]
    fn a_key_of_another_table_is_told_where_it_belongs() {
        assert_eq!(
            nearest("", "queue").as_deref(),
            Some("did you mean `queue` in [admission]?")
        );
        assert_eq!(
            nearest("routing", "timeout").as_deref(),
            Some("did you mean [timeouts]?")
        );
        assert_eq!(
            nearest("timeouts", "log_level").as_deref(),
            Some("did you mean `log_level`, at the top of the file?")
        );
    }

    #[test]
    fn a_word_that_resembles_nothing_gets_no_hint() {
        assert_eq!(nearest("", "wibbledywobble"), None);
    }

    #[test]
    fn every_path_is_listed_once() {
        for (index, key) in KEYS.iter().enumerate() {
            assert!(
                KEYS.iter()
                    .skip(index + 1)
                    .all(|other| other.path != key.path),
                "{} is listed twice",
                key.path
            );
        }
    }
}
