//! The configuration in force, as TOML and as JSON, every value with its origin.

use std::fmt::Write;

use serde_json::json;
use toml::Value;

use super::settings::{Config, LogLevel, NodeConfig};
use super::value::{size_text, time_text};
use super::{Loaded, Origin};
use crate::cluster::Role;
use crate::routing::Tier;

/// A table of the output and its values in order; a value that is not set is `None`.
struct Table {
    path: String,
    values: Vec<(String, Option<Value>)>,
}

impl Table {
    fn new(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            values: Vec::new(),
        }
    }

    fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.values.push((name.into(), Some(value.into())));
        self
    }

    fn with_option(mut self, name: &str, value: Option<impl Into<Value>>) -> Self {
        self.values.push((name.to_owned(), value.map(Into::into)));
        self
    }

    fn header(&self) -> Option<String> {
        if self.path.is_empty() {
            return None;
        }
        let list = self
            .path
            .strip_suffix(']')
            .and_then(|path| path.rsplit_once('['));
        Some(match list {
            Some((list, _)) => format!("[[{list}]]"),
            None => format!("[{}]", self.path),
        })
    }
}

pub(super) fn node_table(index: usize) -> String {
    format!("node[{index}]")
}

pub(super) fn tier_table(index: usize) -> String {
    format!("routing.tier[{index}]")
}

pub(super) fn price_table(model: &str) -> String {
    format!("prices.models.{}", toml_key(model))
}

pub(super) fn card_table(name: &str) -> String {
    format!("gpu.card.{}", toml_key(name))
}

/// A key as TOML writes it: bare where it may be, else quoted. Control characters do not occur, see [`super::value::is_text`].
pub(super) fn toml_key(name: &str) -> String {
    let bare = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if bare {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
    }
}

pub(super) fn role_word(role: Role) -> &'static str {
    match role {
        Role::Main => "main",
        Role::Helper => "helper",
        Role::Embed => "embed",
        Role::Any => "any",
    }
}

fn level_word(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warning => "warning",
        LogLevel::Error => "error",
    }
}

fn limit(time: Option<std::time::Duration>) -> String {
    time_text(time.unwrap_or_default())
}

/// Counts that are larger than TOML's integers do not pass [`super::Kind::Count`].
fn integer(count: impl TryInto<i64>) -> Value {
    Value::Integer(count.try_into().unwrap_or(i64::MAX))
}

fn tables(config: &Config) -> Vec<Table> {
    let routing = &config.routing;
    let mut tables = vec![
        Table::new("")
            .with("listen", config.listen.as_str())
            .with("log_level", level_word(config.log_level))
            .with_option("vram_safety_margin", config.memory.safety_margin)
            .with("vram_headroom_factor", config.memory.headroom_factor)
            .with("check_interval", time_text(config.residency.check_interval))
            .with("auto_optimize", config.residency.auto)
            .with("priority_models", config.residency.models.clone()),
    ];
    tables.extend(config.nodes.iter().enumerate().map(node));
    tables.push(
        Table::new("routing")
            .with("virtual_models", routing.virtual_models.clone())
            .with("copies", routing.copies.as_str()),
    );
    for (class, target) in [
        ("simple", &routing.simple),
        ("moderate", &routing.moderate),
        ("complex", &routing.complex),
    ] {
        let table = Table::new(format!("routing.{class}"));
        tables.push(match target {
            Some(target) => table
                .with("model", target.model.as_str())
                .with_option("prefer", target.prefer.as_deref()),
            None => table.with_option("model", None::<Value>),
        });
    }
    tables.extend(routing.tiers.iter().enumerate().map(tier));
    tables.extend(limits(config));
    let mut aliases = Table::new("aliases");
    for (name, model) in &routing.aliases {
        aliases = aliases.with(toml_key(name), model.as_str());
    }
    tables.push(aliases);
    let prices = &config.prices;
    tables.push(
        Table::new("prices")
            .with_option("as_of", prices.as_of.as_deref())
            .with_option("currency", prices.currency.as_deref())
            .with_option("kwh", prices.kwh)
            .with_option("reference", prices.reference.as_deref()),
    );
    for (model, price) in &prices.models {
        tables.push(
            Table::new(price_table(model))
                .with("input", price.input)
                .with_option("cached_input", price.cached_input)
                .with("output", price.output),
        );
    }
    tables.push(
        Table::new("security")
            .with("hosts", config.security.hosts.clone())
            .with("max_body", size_text(config.security.max_body)),
    );
    tables.extend(gpus(config));
    let sources = &config.sources;
    tables.push(
        Table::new("sources")
            .with("ollama_registry", sources.ollama_registry.as_str())
            .with("huggingface", sources.huggingface.as_str())
            .with("offline", sources.offline)
            .with_option(
                "state_dir",
                sources
                    .state_dir
                    .as_ref()
                    .map(|path| path.display().to_string()),
            ),
    );
    let mut models = Table::new("models");
    for (name, megabytes) in &config.models {
        models = models.with(toml_key(name), integer(*megabytes));
    }
    tables.push(models);
    tables
}

fn node((index, node): (usize, &NodeConfig)) -> Table {
    Table::new(node_table(index))
        .with("name", node.name.as_str())
        .with("url", node.url.as_str())
        .with_option("kind", node.kind.map(crate::cluster::NodeKind::as_str))
        .with("role", role_word(node.role))
        .with_option("gpu", node.gpu.as_deref())
        .with_option("vram", node.vram_bytes.map(size_text))
}

fn gpus(config: &Config) -> Vec<Table> {
    let gpu = &config.gpu;
    let mut tables = vec![
        Table::new("gpu")
            .with("enabled", gpu.enabled)
            .with("enable_gpu_monitoring", gpu.monitoring)
            .with("monitoring_interval", time_text(gpu.monitoring_interval))
            .with("gpu_allocation_strategy", gpu.strategy.as_str())
            .with("cpu_fallback", gpu.cpu_fallback),
    ];
    for (name, card) in &gpu.cards {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a bandwidth in bytes per second is far below 2^53"
        )]
        let gigabytes = card.bandwidth as f64 / 1e9;
        let multiprocessors = Some(card.multiprocessors).filter(|count| *count > 0);
        tables.push(
            Table::new(card_table(name))
                .with("vram", size_text(card.vram_bytes))
                .with("bandwidth", gigabytes)
                .with_option("multiprocessors", multiprocessors.map(integer)),
        );
    }
    tables
}

fn tier((index, tier): (usize, &Tier)) -> Table {
    Table::new(tier_table(index))
        .with("name", tier.name.as_str())
        .with("model", tier.model.as_str())
        .with_option("prefer", tier.prefer.as_deref())
        .with_option("from", tier.from)
        .with_option("min_tokens", tier.min_tokens.map(integer))
}

fn limits(config: &Config) -> [Table; 5] {
    let timeouts = &config.timeouts;
    let admission = &config.admission;
    let slots = match admission.slots {
        Some(slots) => integer(slots),
        None => Value::from("auto"),
    };
    let early = match config.context.early_response {
        Some(time) => Value::from(time_text(time)),
        None => Value::from("off"),
    };
    let canonical = config.affinity.canonical.iter();
    let canonical: Vec<String> = canonical.map(|rule| rule.as_str().to_owned()).collect();
    [
        Table::new("timeouts")
            .with("connect", time_text(timeouts.connect))
            .with("load", limit(timeouts.load))
            .with("idle", limit(timeouts.idle))
            .with("total", limit(timeouts.total)),
        Table::new("admission")
            .with("max_connections", integer(admission.max_connections))
            .with("queue", integer(admission.queue))
            .with("slots", slots),
        Table::new("context")
            .with("num_ctx", config.context.num_ctx.as_str())
            .with("early_response", early),
        Table::new("affinity")
            .with("sessions", config.affinity.sessions)
            .with("canonical", canonical),
        Table::new("lanes")
            .with("interactive", config.lanes.interactive)
            .with("agent", config.lanes.agent)
            .with("embedding", config.lanes.embedding)
            .with("batch", config.lanes.batch),
    ]
}

impl Loaded {
    /// The configuration in force as TOML that loads back to the same values; every value is followed by its origin.
    pub fn print(&self) -> String {
        let mut out = String::new();
        for table in tables(&self.config) {
            if let Some(header) = table.header() {
                let _ = writeln!(out, "\n{header}");
            }
            for (name, value) in &table.values {
                let _ = match value {
                    Some(value) => {
                        let origin = self.origin(&table.path, name);
                        writeln!(out, "{name} = {value}  # {origin}")
                    }
                    None => writeln!(out, "# {name} is not set"),
                };
            }
            if table.path.is_empty() && self.config.nodes.is_empty() {
                out.push_str(&self.discovery());
            }
        }
        out
    }

    /// What stands in place of the nodes when none is configured.
    fn discovery(&self) -> String {
        let also = match &self.config.ollama_host {
            Some(url) => format!(", and {url} (env OLLAMA_HOST)"),
            None => String::new(),
        };
        format!("\n# No [[node]]: the servers on this machine are looked for{also}\n")
    }

    /// The same as one JSON document: `schema` and `values[{key, value, origin}]`; a value that is not set is `null`.
    pub fn print_json(&self) -> serde_json::Value {
        let mut values = Vec::new();
        for table in tables(&self.config) {
            for (name, value) in &table.values {
                let origin = self.origin(&table.path, name).to_string();
                let key = super::keys::join(&table.path, name);
                values.push(json!({ "key": key, "value": value, "origin": origin }));
            }
        }
        if let Some(url) = &self.config.ollama_host {
            let origin = Origin::Env("OLLAMA_HOST").to_string();
            values.push(json!({ "key": "ollama_host", "value": url, "origin": origin }));
        }
        json!({ "schema": 1, "values": values })
    }

    fn origin(&self, table: &str, name: &str) -> &Origin {
        self.origins
            .get(&super::keys::join(table, name))
            .unwrap_or(&Origin::Default)
    }
}
