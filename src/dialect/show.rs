//! Ollama's description of one model, for models of other servers and for names that stand for several.

use serde_json::{Value, json};

use super::lists::{capabilities, details_of};
use crate::cluster::{Capability, ClusterSnapshot, Model, ModelName, Node};
use crate::routing::Policy;

/// The architecture told when the server does not tell one: clients look for `<architecture>.context_length`.
const NO_ARCHITECTURE: &str = "unknown";

/// `POST /api/show` for a model of a llama-server or another OpenAI-compatible node. `props` is the body of the node's `/props`, where it
/// has one: the template, and the context that a slot really has.
pub fn show_of(node: &Node, model: &Model, props: Option<&[u8]>) -> Vec<u8> {
    let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
    let props = props.and_then(read).unwrap_or_default();
    let listing = (model.listing.as_deref())
        .and_then(|text| read(text.as_bytes()))
        .unwrap_or_default();
    let meta = listing.get("meta").unwrap_or(&Value::Null);
    let number = |key: &str| meta.get(key).and_then(Value::as_u64);
    let context = props
        .pointer("/default_generation_settings/n_ctx")
        .and_then(Value::as_u64)
        .or(model.context)
        .or_else(|| number("n_ctx"))
        .or_else(|| number("n_ctx_train"));
    let template = props
        .get("chat_template")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let mut details = details_of(node, model);
    if details["quantization_level"] == ""
        && let Some(ftype) = props.get("model_ftype").and_then(Value::as_str)
    {
        details["quantization_level"] = json!(ftype);
    }
    document(
        &details,
        template,
        context,
        [
            ("general.parameter_count".to_owned(), number("n_params")),
            (
                format!("{NO_ARCHITECTURE}.embedding_length"),
                number("n_embd"),
            ),
        ],
        &capabilities(model),
        model.modified_at.as_deref(),
    )
}

/// `POST /api/show` for a virtual name: what every model that it may stand for can do. `None` when it is no virtual name.
pub fn show_virtual(snapshot: &ClusterSnapshot, policy: &Policy, name: &str) -> Option<Vec<u8>> {
    let asked = ModelName::new(name);
    let mut names = policy.virtual_models.iter();
    if !names.any(|known| known != "*" && ModelName::new(known) == asked) {
        return None;
    }
    let classes = [&policy.simple, &policy.moderate, &policy.complex];
    let targets = classes
        .into_iter()
        .flatten()
        .map(|target| target.model.as_str())
        .chain(policy.tiers.iter().map(|tier| tier.model.as_str()));
    let models: Vec<&Model> = targets
        .filter_map(|target| {
            let target = ModelName::new(target);
            snapshot.usable().find_map(|node| node.model(&target))
        })
        .collect();
    let context = models.iter().filter_map(|model| model.context).min();
    let shared: Vec<Capability> = models.first().map_or_else(Vec::new, |first| {
        (first.capabilities.iter().copied())
            .filter(|one| models.iter().all(|model| model.capabilities.contains(one)))
            .collect()
    });
    let union = Model {
        capabilities: shared,
        ..Model::default()
    };
    let details = json!({
        "parent_model": "", "format": "", "family": "", "families": [], "parameter_size": "", "quantization_level": "",
    });
    Some(document(
        &details,
        "",
        context,
        [],
        &capabilities(&union),
        None,
    ))
}

fn document<const N: usize>(
    details: &Value,
    template: &str,
    context: Option<u64>,
    numbers: [(String, Option<u64>); N],
    capabilities: &Value,
    modified_at: Option<&str>,
) -> Vec<u8> {
    let mut info = serde_json::Map::new();
    info.insert("general.architecture".to_owned(), json!(NO_ARCHITECTURE));
    let context = (format!("{NO_ARCHITECTURE}.context_length"), context);
    for (key, number) in std::iter::once(context).chain(numbers) {
        if let Some(number) = number {
            info.insert(key, json!(number));
        }
    }
    let mut document = json!({
        "modelfile": "",
        "parameters": "",
        "template": template,
        "details": details,
        "model_info": info,
        "capabilities": capabilities,
    });
    if let Some(modified_at) = modified_at {
        document["modified_at"] = json!(modified_at);
    }
    document.to_string().into_bytes()
}
