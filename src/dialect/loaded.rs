//! The list of loaded models, merged over the nodes.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::lists::{NO_DIGEST, details_of, parse_time, raw_object, told_nodes};
use crate::cluster::{ClusterSnapshot, LoadedModel, Model, ModelName, Node, NodeKind};

/// Told for a model that its node never unloads: far enough that Ollama's own client says "Forever", near enough for every date type.
const NEVER: &str = "2318-01-01T00:00:00Z";

/// `GET /api/ps`: one row per model, the longest-lived first. A model on one Ollama node is told in that node's own bytes; of several the
/// sizes are summed, the latest expiry is told, and each node's share stands under `gpurouter`.
pub fn ps(snapshot: &ClusterSnapshot) -> Vec<u8> {
    let mut by_name: BTreeMap<&ModelName, Vec<(&Node, &LoadedModel)>> = BTreeMap::new();
    for node in told_nodes(snapshot) {
        for loaded in &node.loaded {
            by_name
                .entry(&loaded.name)
                .or_default()
                .push((node, loaded));
        }
    }
    let mut rows: Vec<(Expiry, String)> = by_name
        .into_values()
        .filter_map(|mut holders| {
            holders.sort_by_key(|(_, loaded)| Reverse(expiry(loaded)));
            let (_, first) = holders.first()?;
            Some((expiry(first), row(&holders)?))
        })
        .collect();
    rows.sort_by_key(|(expires, _)| Reverse(*expires));
    let rows: Vec<String> = rows.into_iter().map(|(_, row)| row).collect();
    format!("{{\"models\":[{}]}}", rows.join(",")).into_bytes()
}

/// When a model goes; what has no time never does, so it sorts last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Expiry {
    At(Duration),
    Never,
}

fn expiry(loaded: &LoadedModel) -> Expiry {
    match loaded.expires_at.as_deref().and_then(parse_time) {
        Some(time) => Expiry::At(time),
        None => Expiry::Never,
    }
}

fn row(holders: &[(&Node, &LoadedModel)]) -> Option<String> {
    let (node, loaded) = holders.first()?;
    let own = raw_object(loaded.listing.as_deref()).filter(|_| node.kind == Some(NodeKind::Ollama));
    if let ([_], Some(own)) = (holders, own) {
        return Some(own.to_owned());
    }
    let mut row = own
        .and_then(|own| serde_json::from_str(own).ok())
        .unwrap_or_else(|| synthesised(node, loaded));
    if let [_, _, ..] = holders {
        let sum = |share: fn(&LoadedModel) -> Option<u64>| -> u64 {
            holders
                .iter()
                .filter_map(|(_, loaded)| share(loaded))
                .fold(0, u64::saturating_add)
        };
        row["size"] = json!(sum(|loaded| loaded.size_bytes));
        row["size_vram"] = json!(sum(|loaded| loaded.vram_bytes));
        let nodes: Vec<Value> = holders
            .iter()
            .map(|(node, loaded)| {
                json!({
                    "node": node.name,
                    "size": loaded.size_bytes,
                    "size_vram": loaded.vram_bytes,
                    "context_length": loaded.context,
                    "digest": loaded.digest,
                    "expires_at": loaded.expires_at,
                })
            })
            .collect();
        row["gpurouter"] = json!({ "nodes": nodes });
    }
    Some(row.to_string())
}

fn synthesised(node: &Node, loaded: &LoadedModel) -> Value {
    let name = loaded.name.as_str();
    let unknown = Model::default();
    let model = node.model(&loaded.name).unwrap_or(&unknown);
    json!({
        "name": name,
        "model": name,
        "size": loaded.size_bytes.unwrap_or(0),
        "digest": loaded.digest.as_deref().filter(|digest| digest.len() >= 12).unwrap_or(NO_DIGEST),
        "details": details_of(node, model),
        "expires_at": loaded.expires_at.as_deref().unwrap_or(NEVER),
        "size_vram": loaded.vram_bytes.unwrap_or(0),
        "context_length": loaded.context.unwrap_or(0),
    })
}
