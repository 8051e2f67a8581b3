//! The lists of models, merged over the nodes, in every dialect.
//!
//! They are told from the snapshot alone, so that a dead node delays nothing; its models are left out. A model that an Ollama node holds is
//! told in that node's own bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, UNIX_EPOCH};

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::ApiError;
use crate::cluster::{Capability, ClusterSnapshot, Model, ModelName, Node, NodeKind, NodeState};
use crate::routing::Policy;

/// What Ollama answers to `GET /`.
pub const ROOT_TEXT: &str = "Ollama is running";

/// The version told when no node is an Ollama: the one whose wire form this router speaks. Clients refuse versions below 0.6.4.
pub const WIRE_VERSION: &str = "0.32.15";

/// Stands for a digest that is not known. Ollama's own client cuts a digest to 12 characters without looking, so it cannot be empty.
pub(super) const NO_DIGEST: &str =
    "0000000000000000000000000000000000000000000000000000000000000000";

/// Go's zero time: a time that is not known, readable for clients that require one.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// Nodes whose models are told.
pub(super) fn told_nodes(snapshot: &ClusterSnapshot) -> impl Iterator<Item = &Node> {
    snapshot
        .nodes
        .iter()
        .map(AsRef::as_ref)
        .filter(|node| !matches!(node.state, NodeState::Down | NodeState::Misconfigured))
}

/// The names that stand for no single model; `*` is a rule, not a name.
fn virtual_names(policy: &Policy) -> impl Iterator<Item = &str> {
    policy
        .virtual_models
        .iter()
        .map(String::as_str)
        .filter(|name| *name != "*")
}

/// One model and the nodes that offer it, best entry first: an Ollama node's before others, then the newest.
type Offers<'a> = Vec<(&'a Node, &'a Model)>;

/// The models by name, the most recently modified first, as Ollama lists them.
fn merged(snapshot: &ClusterSnapshot) -> Vec<Offers<'_>> {
    let mut by_name: BTreeMap<&ModelName, Offers<'_>> = BTreeMap::new();
    for node in told_nodes(snapshot) {
        for model in &node.models {
            by_name.entry(&model.name).or_default().push((node, model));
        }
    }
    let newest_first = |model: &Model| std::cmp::Reverse(modified(model));
    let mut all: Vec<Offers<'_>> = by_name.into_values().collect();
    for offers in &mut all {
        offers.sort_by_key(|(node, model)| {
            (node.kind != Some(NodeKind::Ollama), newest_first(model))
        });
    }
    all.sort_by_key(|offers| offers.first().map(|(_, model)| newest_first(model)));
    all
}

fn modified(model: &Model) -> Option<Duration> {
    parse_time(model.modified_at.as_deref()?)
}

/// An RFC 3339 time with any offset (Ollama writes its local one), since the Unix epoch; `None` for one before it.
pub(super) fn parse_time(text: &str) -> Option<Duration> {
    let date_end = text.find(['T', 't', ' '])?;
    let zone = date_end + text.get(date_end..)?.find(['Z', 'z', '+', '-'])?;
    let (local, offset) = text.split_at_checked(zone)?;
    let local = humantime::parse_rfc3339_weak(local).ok()?;
    let local = local.duration_since(UNIX_EPOCH).ok()?;
    if offset.eq_ignore_ascii_case("z") {
        return Some(local);
    }
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let seconds = hours.parse::<u64>().ok()? * 3600 + minutes.parse::<u64>().ok()? * 60;
    let distance = Duration::from_secs(seconds.min(86_400));
    if offset.starts_with('-') {
        local.checked_add(distance)
    } else {
        local.checked_sub(distance)
    }
}

/// An entry of a node's list, when it really is a JSON object.
pub(super) fn raw_object(listing: Option<&str>) -> Option<&str> {
    let listing = listing?.trim();
    serde_json::from_str::<&RawValue>(listing)
        .is_ok_and(|raw| raw.get().starts_with('{'))
        .then_some(listing)
}

fn json_array(entries: &[String]) -> String {
    format!("[{}]", entries.join(","))
}

/// `GET /api/tags`.
pub fn tags(snapshot: &ClusterSnapshot, policy: &Policy) -> Vec<u8> {
    let mut entries: Vec<String> = virtual_names(policy).map(virtual_tag).collect();
    entries.extend(merged(snapshot).iter().filter_map(|offers| tag(offers)));
    format!("{{\"models\":{}}}", json_array(&entries)).into_bytes()
}

fn virtual_tag(name: &str) -> String {
    json!({
        "name": name,
        "model": name,
        "modified_at": NO_TIME,
        "size": 0,
        "digest": NO_DIGEST,
        "details": details(&json!({}), ""),
        "capabilities": ["completion"],
        "gpurouter": { "virtual": true },
    })
    .to_string()
}

fn tag(offers: &Offers<'_>) -> Option<String> {
    let (node, model) = offers.first()?;
    let own = raw_object(model.listing.as_deref())
        .filter(|_| node.kind == Some(NodeKind::Ollama))
        .map(str::to_owned);
    let entry = own.unwrap_or_else(|| synthesised_tag(node, model).to_string());
    let digests: BTreeSet<&str> = offers
        .iter()
        .filter_map(|(_, model)| model.digest.as_deref())
        .collect();
    if digests.len() < 2 {
        return Some(entry);
    }
    let by_node: serde_json::Map<String, Value> = offers
        .iter()
        .map(|(node, model)| (node.name.clone(), json!(model.digest)))
        .collect();
    let mark = json!({ "digests_differ": true, "digests": by_node });
    Some(with_member(&entry, "gpurouter", &mark))
}

/// The object's text with one more member at its end.
fn with_member(object: &str, key: &str, value: &Value) -> String {
    let inside = object
        .trim_end()
        .strip_suffix('}')
        .unwrap_or(object)
        .trim_end();
    let comma = if inside.ends_with('{') { "" } else { "," };
    format!("{inside}{comma}\"{key}\":{value}}}")
}

fn synthesised_tag(node: &Node, model: &Model) -> Value {
    let name = model.name.as_str();
    json!({
        "name": name,
        "model": name,
        "modified_at": model.modified_at.as_deref().filter(|text| parse_time(text).is_some()).unwrap_or(NO_TIME),
        "size": model.size_bytes.unwrap_or(0),
        "digest": model.digest.as_deref().filter(|digest| digest.len() >= 12).unwrap_or(NO_DIGEST),
        "details": details_of(node, model),
        "capabilities": capabilities(model),
    })
}

/// A model's `details`: what a llama-server tells of its file in `meta`, and nothing invented.
pub(super) fn details_of(node: &Node, model: &Model) -> Value {
    let listing = model
        .listing
        .as_deref()
        .and_then(|text| serde_json::from_str::<Value>(text).ok())
        .unwrap_or_default();
    if let Some(details) = listing.get("details").filter(|told| told.is_object()) {
        return details.clone();
    }
    let format = if node.kind == Some(NodeKind::OpenAi) {
        ""
    } else {
        "gguf"
    };
    let mut details = details(listing.get("meta").unwrap_or(&Value::Null), format);
    if let Some(context) = model.context {
        details["context_length"] = json!(context);
    }
    details
}

fn details(meta: &Value, format: &str) -> Value {
    let parameters = meta.get("n_params").and_then(Value::as_u64);
    json!({
        "parent_model": "",
        "format": format,
        "family": "",
        "families": [],
        "parameter_size": parameters.map(parameter_size).unwrap_or_default(),
        "quantization_level": meta.get("ftype").and_then(Value::as_str).unwrap_or_default(),
    })
}

/// A number of parameters as Ollama writes it: `7.6B`, `25.86M`, `959K`.
fn parameter_size(parameters: u64) -> String {
    if parameters >= 1_000_000_000 {
        let tenths = (parameters / 10_000_000 + 5) / 10;
        format!("{}.{}B", tenths / 10, tenths % 10)
    } else if parameters >= 1_000_000 {
        let hundredths = (parameters / 1000 + 5) / 10;
        format!("{}.{:02}M", hundredths / 100, hundredths % 100)
    } else {
        format!("{}K", (parameters + 500) / 1000)
    }
}

/// A node that does not tell what a model can do is taken to complete: most models do.
pub(super) fn capabilities(model: &Model) -> Value {
    let known: Vec<&Capability> = model
        .capabilities
        .iter()
        .filter(|capability| **capability != Capability::Other)
        .collect();
    if known.is_empty() {
        json!(["completion"])
    } else {
        json!(known)
    }
}

/// `GET /v1/models`.
pub fn models(snapshot: &ClusterSnapshot, policy: &Policy) -> Vec<u8> {
    let mut entries: Vec<String> = virtual_names(policy).map(virtual_model).collect();
    for offers in merged(snapshot) {
        if let Some((node, model)) = offers.first() {
            entries.push(openai_entry(node, model, model.name.as_str()));
        }
    }
    format!("{{\"object\":\"list\",\"data\":{}}}", json_array(&entries)).into_bytes()
}

fn virtual_model(name: &str) -> String {
    json!({ "id": name, "object": "model", "created": 0, "owned_by": "gpurouter" }).to_string()
}

fn openai_entry(node: &Node, model: &Model, id: &str) -> String {
    if node.kind != Some(NodeKind::Ollama)
        && let Some(own) = raw_object(model.listing.as_deref())
    {
        return own.to_owned();
    }
    let created = modified(model).map_or(0, |since| since.as_secs());
    let owner = model
        .name
        .as_str()
        .rsplit_once('/')
        .map_or("library", |(owner, _)| owner);
    json!({ "id": id, "object": "model", "created": created, "owned_by": owner }).to_string()
}

/// `GET /v1/models/:id`, by full name. An alias is told under its own name when the model it stands for is there.
///
/// Errors: 404 when no node that is up has it.
pub fn model(snapshot: &ClusterSnapshot, policy: &Policy, id: &str) -> Result<Vec<u8>, ApiError> {
    let name = ModelName::new(id);
    let is_virtual = virtual_names(policy).any(|known| ModelName::new(known) == name);
    if is_virtual {
        return Ok(virtual_model(id).into_bytes());
    }
    let all = merged(snapshot);
    let find = |name: &ModelName| {
        let same = |offers: &&Offers<'_>| offers.iter().any(|(_, model)| model.name == *name);
        all.iter().find(same).and_then(|offers| offers.first())
    };
    if let Some((node, model)) = find(&name) {
        return Ok(openai_entry(node, model, id).into_bytes());
    }
    match policy.alias(id).map(|target| find(&ModelName::new(target))) {
        Some(Some(_)) => Ok(virtual_model(id).into_bytes()),
        _ => Err(ApiError::model_not_found(id, None)),
    }
}

/// `GET /api/version`: the lowest version among the Ollama nodes, so that no client expects more than every node can do.
pub fn version(snapshot: &ClusterSnapshot) -> Vec<u8> {
    let lowest = told_nodes(snapshot)
        .filter(|node| node.kind == Some(NodeKind::Ollama))
        .filter_map(|node| node.version.as_deref())
        .filter_map(|version| Some((dotted(version)?, version)))
        .min()
        .map_or(WIRE_VERSION, |(_, version)| version);
    json!({ "version": lowest }).to_string().into_bytes()
}

/// A version's numbers; what follows them in a part (`4-rc1`) is left out. `None` for what is no version.
fn dotted(version: &str) -> Option<Vec<u64>> {
    version
        .split('.')
        .map(|part| {
            let end = part
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(part.len());
            part.get(..end)?.parse().ok()
        })
        .collect()
}

/// The answer to `POST /v1/messages/count_tokens`.
pub fn count_tokens(input_tokens: u64) -> Vec<u8> {
    json!({ "input_tokens": input_tokens })
        .to_string()
        .into_bytes()
}

#[cfg(test)]
#[path = "lists_tests.rs"]
mod tests;
