//! From the layers to the configuration: defaults for what nobody said, and the checks that need more than one value.

use std::collections::BTreeMap;
use std::time::Duration;

use super::address;
use super::draft::{Draft, Section};
use super::keys::KEYS;
use super::origin::{Origin, Problems};
use super::print::{self, toml_key};
use super::settings::{Config, LogLevel, NodeConfig, Price};
use super::value::Value;
use crate::cluster::{NodeKind, Role, Strategy};
use crate::routing::{Canonical, ClassTarget, Copies, Tier, WindowPolicy};
use crate::vram::GpuCard;

/// Origins by printed path.
type Origins = BTreeMap<String, Origin>;

/// Resolves a draft. `written`: the names of the file's own nodes, also of those that a flag or variable replaced.
pub(super) fn resolve(
    draft: &Draft,
    written: &[String],
    notices: &mut Vec<String>,
    problems: &mut Problems,
) -> (Config, Origins) {
    let mut config = Config::default();
    let mut origins = Origins::new();
    for (path, located) in &draft.scalars {
        origins.insert((*path).to_owned(), located.origin.clone());
    }
    scalars(draft, &mut config);
    classes(draft, &mut config, problems);
    for node in &draft.nodes {
        check_complete("node[]", node, problems);
    }
    config.nodes = nodes(draft, &mut origins, problems);
    config.routing.tiers = tiers(draft, &mut origins, problems);
    aliases(draft, &mut config, &mut origins, problems);
    prices(draft, &mut config, &mut origins, problems);
    memory(draft, &mut config);
    known_models(draft, &mut config, &mut origins);
    cards(draft, &mut config, &mut origins, problems);
    preferred_nodes(draft, &config, written, notices, problems);
    same_servers(&config, notices);
    (config, origins)
}

fn scalars(draft: &Draft, config: &mut Config) {
    put(draft, "listen", text, &mut config.listen);
    put(draft, "log_level", level, &mut config.log_level);
    let residency = &mut config.residency;
    put(
        draft,
        "check_interval",
        Value::time,
        &mut residency.check_interval,
    );
    put(draft, "auto_optimize", Value::switch, &mut residency.auto);
    put(
        draft,
        "priority_models",
        Value::texts,
        &mut residency.models,
    );
    let virtual_models = &mut config.routing.virtual_models;
    put(
        draft,
        "routing.virtual_models",
        Value::texts,
        virtual_models,
    );
    let copies = |value: &Value| value.text().and_then(Copies::of);
    put(draft, "routing.copies", copies, &mut config.routing.copies);
    put(
        draft,
        "timeouts.connect",
        Value::time,
        &mut config.timeouts.connect,
    );
    put(draft, "timeouts.load", limit, &mut config.timeouts.load);
    put(draft, "timeouts.idle", limit, &mut config.timeouts.idle);
    put(draft, "timeouts.total", limit, &mut config.timeouts.total);
    let admission = &mut config.admission;
    put(
        draft,
        "admission.max_connections",
        size,
        &mut admission.max_connections,
    );
    let queue = |value: &Value| value.count().and_then(|count| u32::try_from(count).ok());
    put(draft, "admission.queue", queue, &mut admission.queue);
    put(draft, "admission.slots", slots, &mut admission.slots);
    put(
        draft,
        "context.num_ctx",
        window,
        &mut config.context.num_ctx,
    );
    put(
        draft,
        "context.early_response",
        limit,
        &mut config.context.early_response,
    );
    let affinity = &mut config.affinity;
    put(
        draft,
        "affinity.sessions",
        Value::switch,
        &mut affinity.sessions,
    );
    put(draft, "affinity.canonical", rules, &mut affinity.canonical);
    for (path, share) in [
        ("lanes.interactive", &mut config.lanes.interactive),
        ("lanes.agent", &mut config.lanes.agent),
        ("lanes.embedding", &mut config.lanes.embedding),
        ("lanes.batch", &mut config.lanes.batch),
    ] {
        put(draft, path, Value::number, share);
    }
    let some_text = |value: &Value| text(value).map(Some);
    put(draft, "prices.as_of", some_text, &mut config.prices.as_of);
    put(
        draft,
        "prices.currency",
        some_text,
        &mut config.prices.currency,
    );
    let some_number = |value: &Value| value.number().map(Some);
    put(draft, "prices.kwh", some_number, &mut config.prices.kwh);
    put(
        draft,
        "prices.reference",
        some_text,
        &mut config.prices.reference,
    );
    put(
        draft,
        "security.hosts",
        Value::texts,
        &mut config.security.hosts,
    );
    put(
        draft,
        "security.max_body",
        Value::count,
        &mut config.security.max_body,
    );
}

fn put<T>(draft: &Draft, path: &str, read: impl Fn(&Value) -> Option<T>, slot: &mut T) {
    if let Some(value) = draft
        .scalars
        .get(path)
        .and_then(|located| read(&located.value))
    {
        *slot = value;
    }
}

fn text(value: &Value) -> Option<String> {
    value.text().map(str::to_owned)
}

fn size(value: &Value) -> Option<usize> {
    value.count().and_then(|count| usize::try_from(count).ok())
}

#[expect(
    clippy::option_option,
    reason = "whether it was said, and then whether there is a limit"
)]
fn limit(value: &Value) -> Option<Option<Duration>> {
    value
        .time()
        .map(|time| Some(time).filter(|time| !time.is_zero()))
}

#[expect(
    clippy::option_option,
    reason = "whether it was said, and then whether there is a limit"
)]
fn slots(value: &Value) -> Option<Option<u32>> {
    value
        .slots()
        .map(|slots| Some(slots).filter(|slots| *slots > 0))
}

fn rules(value: &Value) -> Option<Vec<Canonical>> {
    let names = value.texts()?;
    names.iter().map(|name| Canonical::named(name)).collect()
}

fn window(value: &Value) -> Option<WindowPolicy> {
    WindowPolicy::of(value.text()?)
}

fn level(value: &Value) -> Option<LogLevel> {
    match value.text()? {
        "error" => Some(LogLevel::Error),
        "warning" | "warn" => Some(LogLevel::Warning),
        "info" => Some(LogLevel::Info),
        "debug" => Some(LogLevel::Debug),
        _ => None,
    }
}

fn classes(draft: &Draft, config: &mut Config, problems: &mut Problems) {
    let routing = &mut config.routing;
    for (class, target) in [
        ("simple", &mut routing.simple),
        ("moderate", &mut routing.moderate),
        ("complex", &mut routing.complex),
    ] {
        let get = |name: &str| {
            draft
                .scalars
                .get(format!("routing.{class}.{name}").as_str())
        };
        let model = get("model").and_then(|located| text(&located.value));
        let prefer = get("prefer");
        match (model, prefer) {
            (Some(model), prefer) => {
                let prefer = prefer.and_then(|located| text(&located.value));
                *target = Some(ClassTarget { model, prefer });
            }
            (None, Some(prefer)) => {
                problems.add(&prefer.origin, format!("[routing.{class}] has no `model`"));
            }
            (None, None) => {}
        }
    }
}

/// Adds a problem for every key that the table's entries must have and this one has not.
fn check_complete(table: &str, section: &Section, problems: &mut Problems) {
    if section.flawed {
        return;
    }
    let missing = KEYS
        .iter()
        .filter(|key| key.required && key.table_and_name().0 == table)
        .filter(|key| !section.values.contains_key(key.name()));
    for key in missing {
        let header = super::keys::header(table).unwrap_or_default();
        problems.add(&section.origin, format!("{header} has no `{}`", key.name()));
    }
}

fn note_origins(origins: &mut Origins, table: &str, section: &Section) {
    for (name, located) in &section.values {
        origins.insert(format!("{table}.{name}"), located.origin.clone());
    }
}

/// Adds a problem for every name that an earlier entry has too.
fn check_unique(what: &str, sections: &[Section], problems: &mut Problems) {
    let mut seen: BTreeMap<&str, &Origin> = BTreeMap::new();
    for section in sections {
        let Some(name) = section.text("name") else {
            continue;
        };
        let origin = section.origin_of("name");
        if let Some(first) = seen.insert(name, origin) {
            problems.add(origin, format!("{what} `{name}` exists already ({first})"));
        }
    }
}

fn nodes(draft: &Draft, origins: &mut Origins, problems: &mut Problems) -> Vec<NodeConfig> {
    check_unique("node", &draft.nodes, problems);
    let mut nodes = Vec::new();
    for section in &draft.nodes {
        let (Some(name), Some(url)) = (section.text("name"), section.text("url")) else {
            continue;
        };
        note_origins(origins, &print::node_table(nodes.len()), section);
        nodes.push(NodeConfig {
            name: name.to_owned(),
            url: url.to_owned(),
            kind: section.text("kind").and_then(node_kind),
            role: section.text("role").map(role).unwrap_or_default(),
            gpu: section.text("gpu").map(str::to_owned),
            vram_bytes: section
                .values
                .get("vram")
                .and_then(|located| located.value.count()),
        });
    }
    nodes
}

fn node_kind(word: &str) -> Option<NodeKind> {
    [NodeKind::Ollama, NodeKind::LlamaServer, NodeKind::OpenAi]
        .into_iter()
        .find(|kind| kind.as_str() == word)
}

fn role(word: &str) -> Role {
    [Role::Main, Role::Helper, Role::Embed]
        .into_iter()
        .find(|role| print::role_word(*role) == word)
        .unwrap_or_default()
}

fn tiers(draft: &Draft, origins: &mut Origins, problems: &mut Problems) -> Vec<Tier> {
    check_unique("tier", &draft.tiers, problems);
    let mut tiers = Vec::new();
    for section in &draft.tiers {
        check_complete("routing.tier[]", section, problems);
        let number = |name: &str| section.values.get(name).map(|located| &located.value);
        let from = number("from").and_then(Value::number);
        let min_tokens = number("min_tokens").and_then(Value::count);
        if from.is_none() && min_tokens.is_none() && !section.flawed {
            let text =
                "[[routing.tier]] has neither `from` nor `min_tokens`, so it could never apply";
            problems.add(&section.origin, text);
        }
        let (Some(name), Some(model)) = (section.text("name"), section.text("model")) else {
            continue;
        };
        note_origins(origins, &print::tier_table(tiers.len()), section);
        tiers.push(Tier {
            name: name.to_owned(),
            model: model.to_owned(),
            prefer: section.text("prefer").map(str::to_owned),
            from,
            min_tokens,
        });
    }
    tiers
}

fn aliases(draft: &Draft, config: &mut Config, origins: &mut Origins, problems: &mut Problems) {
    for (name, located) in draft.named("aliases.*") {
        let prefix = name.strip_suffix('*').unwrap_or(name);
        if prefix.contains('*') {
            let text = format!("alias `{name}`: only a `*` at the end stands for a prefix");
            problems.add(&located.origin, text);
        }
        if let Some(model) = text(&located.value) {
            let path = format!("aliases.{}", toml_key(name));
            origins.insert(path, located.origin.clone());
            config.routing.aliases.insert(name.clone(), model);
        }
    }
}

fn prices(draft: &Draft, config: &mut Config, origins: &mut Origins, problems: &mut Problems) {
    for (model, section) in draft.sections("prices.models.*") {
        check_complete("prices.models.*", section, problems);
        let number = |name: &str| section.values.get(name)?.value.number();
        if let (Some(input), Some(output)) = (number("input"), number("output")) {
            note_origins(origins, &print::price_table(model), section);
            let price = Price {
                input,
                cached_input: number("cached_input"),
                output,
            };
            config.prices.models.insert(model.clone(), price);
        }
    }
    if let Some(reference) = draft.scalars.get("prices.reference") {
        let name = reference.value.text().unwrap_or_default();
        if !draft
            .sections("prices.models.*")
            .any(|(model, _)| model == name)
        {
            let text = format!("`reference` must be a model of [prices.models], not `{name}`");
            problems.add(&reference.origin, text);
        }
    }
}

fn memory(draft: &Draft, config: &mut Config) {
    let some_number = |value: &Value| value.number().map(Some);
    let memory = &mut config.memory;
    put(
        draft,
        "vram_safety_margin",
        some_number,
        &mut memory.safety_margin,
    );
    put(
        draft,
        "vram_headroom_factor",
        Value::number,
        &mut memory.headroom_factor,
    );
    let gpu = &mut config.gpu;
    put(draft, "gpu.enabled", Value::switch, &mut gpu.enabled);
    put(
        draft,
        "gpu.enable_gpu_monitoring",
        Value::switch,
        &mut gpu.monitoring,
    );
    put(
        draft,
        "gpu.monitoring_interval",
        Value::time,
        &mut gpu.monitoring_interval,
    );
    put(
        draft,
        "gpu.gpu_allocation_strategy",
        strategy,
        &mut gpu.strategy,
    );
    put(
        draft,
        "gpu.cpu_fallback",
        Value::switch,
        &mut gpu.cpu_fallback,
    );
    let sources = &mut config.sources;
    put(
        draft,
        "sources.ollama_registry",
        text,
        &mut sources.ollama_registry,
    );
    put(draft, "sources.huggingface", text, &mut sources.huggingface);
    put(
        draft,
        "sources.offline",
        Value::switch,
        &mut sources.offline,
    );
    let path = |value: &Value| text(value).map(|text| Some(text.into()));
    put(draft, "sources.state_dir", path, &mut sources.state_dir);
}

fn strategy(value: &Value) -> Option<Strategy> {
    [Strategy::SingleGpuPreferred, Strategy::Distribute]
        .into_iter()
        .find(|strategy| Some(strategy.as_str()) == value.text())
}

fn known_models(draft: &Draft, config: &mut Config, origins: &mut Origins) {
    for (name, located) in draft.named("models.*") {
        if let Some(megabytes) = located.value.count() {
            let path = format!("models.{}", toml_key(name));
            origins.insert(path, located.origin.clone());
            config.models.insert(name.clone(), megabytes);
        }
    }
}

fn cards(draft: &Draft, config: &mut Config, origins: &mut Origins, problems: &mut Problems) {
    for (name, section) in draft.sections("gpu.card.*") {
        check_complete("gpu.card.*", section, problems);
        let get = |name: &str| section.values.get(name).map(|located| &located.value);
        let vram = get("vram").and_then(Value::count);
        let bandwidth = get("bandwidth").and_then(Value::number);
        let multiprocessors = get("multiprocessors").and_then(Value::count);
        if let (Some(vram_bytes), Some(gigabytes)) = (vram, bandwidth) {
            note_origins(origins, &print::card_table(name), section);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "positive, and a float cast saturates"
            )]
            let bandwidth = (gigabytes * 1e9) as u64;
            let multiprocessors = multiprocessors.and_then(|count| u32::try_from(count).ok());
            let card = GpuCard {
                vram_bytes,
                bandwidth,
                multiprocessors: multiprocessors.unwrap_or_default(),
            };
            config.gpu.cards.insert(name.clone(), card);
        }
    }
}

/// A preferred node must be configured. One that a flag or a variable replaced is only told, so that `--node` works with every file; without any
/// configured node the names are those of discovery, which nobody knows yet.
fn preferred_nodes(
    draft: &Draft,
    config: &Config,
    written: &[String],
    notices: &mut Vec<String>,
    problems: &mut Problems,
) {
    let classes = ["simple", "moderate", "complex"]
        .into_iter()
        .filter_map(|class| {
            let located = draft
                .scalars
                .get(format!("routing.{class}.prefer").as_str())?;
            Some((class, located))
        });
    let tiers = draft
        .tiers
        .iter()
        .filter_map(|tier| Some((tier.text("name")?, tier.values.get("prefer")?)));
    for (tier, located) in classes.chain(tiers) {
        let name = located.value.text().unwrap_or_default();
        let in_force = draft.node_names().any(|node| node == name);
        if in_force || draft.nodes.is_empty() {
            continue;
        }
        if written.is_empty() || written.iter().any(|node| node == name) {
            notices.push(format!(
                "tier {tier} prefers node {name}, which is not among the nodes in use"
            ));
        } else {
            let known: Vec<&str> = config.nodes.iter().map(|node| node.name.as_str()).collect();
            let text = format!(
                "`prefer` must be a configured node ({}), not `{name}`",
                known.join(", ")
            );
            problems.add(&located.origin, text);
        }
    }
}

fn same_servers(config: &Config, notices: &mut Vec<String>) {
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for node in &config.nodes {
        let Some(server) = address::server(&node.url) else {
            continue;
        };
        if let Some(first) = seen.get(&server) {
            notices.push(format!(
                "nodes {first} and {} are the same server ({}): their models share its memory, and moving work between them gains nothing",
                node.name, node.url
            ));
        } else {
            seen.insert(server, &node.name);
        }
    }
}
