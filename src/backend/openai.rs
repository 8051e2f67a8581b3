//! What servers say about themselves that are known by `/v1/models` only, and what vLLM, `SGLang` and LM Studio tell beyond it.

use serde::Deserialize;

use crate::cluster::{Capability, LoadedModel, Model, ModelName, Node, NodeState};

use super::client::Ask;
use super::json::{Listing, entries, lenient};
use super::probe::{Identity, Trouble, fetch, unreadable};

/// An entry of `/v1/models` (`max_model_len`: vLLM, `SGLang`) or of LM Studio's `/api/v0/models`.
#[derive(Deserialize)]
struct Entry {
    id: String,
    #[serde(default, deserialize_with = "lenient")]
    owned_by: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    max_model_len: Option<u64>,
    #[serde(rename = "type", default, deserialize_with = "lenient")]
    model_type: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    state: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    max_context_length: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    loaded_context_length: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    capabilities: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Version {
    #[serde(default, deserialize_with = "lenient")]
    version: Option<String>,
}

/// Who wrote a list, by the owner that each server puts into its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Engine {
    LlamaServer,
    Vllm,
    Sglang,
    LmStudio,
    Other,
}

fn engine(list: &Listing) -> Engine {
    let owner = entries::<Entry>(list.data.as_deref()).find_map(|(entry, _)| entry.owned_by);
    match owner.as_deref() {
        Some("llamacpp") => Engine::LlamaServer,
        Some("vllm") => Engine::Vllm,
        Some("sglang") => Engine::Sglang,
        Some("organization_owner") => Engine::LmStudio,
        _ => Engine::Other,
    }
}

/// What the author of this `/v1/models` list is.
pub(super) fn identity(list: &Listing) -> Identity {
    match engine(list) {
        Engine::LlamaServer => Identity::LlamaServer,
        Engine::Vllm => Identity::Vllm,
        Engine::LmStudio => Identity::LmStudio,
        Engine::Sglang | Engine::Other => Identity::OpenAi,
    }
}

/// One look.
pub(super) fn look(before: &Node, ask: &Ask, fresh: bool) -> Result<Node, Trouble> {
    let reply = fetch(ask, "/v1/models")?;
    let list = reply
        .json::<Listing>()
        .filter(|list| list.data.is_some())
        .ok_or_else(|| unreadable("/v1/models"))?;
    let mut node = before.clone();
    node.state = NodeState::Up;
    node.cause = None;
    node.models = models(&list);
    node.loaded = Vec::new();
    node.running = None;
    node.waiting = None;
    if fresh {
        node.version = None;
    }
    match engine(&list) {
        engine @ (Engine::Vllm | Engine::Sglang) => {
            // Both hold what they serve from start to end.
            node.loaded = node.models.iter().map(resident).collect();
            load_figures(&mut node, ask, engine)?;
        }
        Engine::LmStudio => lm_studio(&mut node, ask)?,
        Engine::LlamaServer | Engine::Other => {}
    }
    Ok(node)
}

fn models(list: &Listing) -> Vec<Model> {
    entries::<Entry>(list.data.as_deref())
        .map(|(entry, raw)| Model {
            name: ModelName::new(&entry.id),
            context: entry.max_model_len,
            id: entry.id,
            listing: Some(raw.to_owned()),
            ..Model::default()
        })
        .collect()
}

fn resident(model: &Model) -> LoadedModel {
    LoadedModel {
        name: model.name.clone(),
        context: model.context,
        ..LoadedModel::default()
    }
}

fn load_figures(node: &mut Node, ask: &Ask, engine: Engine) -> Result<(), Trouble> {
    if engine == Engine::Vllm && node.version.is_none() {
        let reply = ask.get("/version")?;
        node.version = reply.json::<Version>().and_then(|answer| answer.version);
    }
    let reply = ask.get("/metrics")?;
    if reply.ok() {
        node.running = metric(
            &reply.body,
            &["vllm:num_requests_running", "sglang:num_running_reqs"],
        );
        node.waiting = metric(
            &reply.body,
            &["vllm:num_requests_waiting", "sglang:num_queue_reqs"],
        );
    }
    if let Some(waiting) = node.waiting.filter(|waiting| *waiting > 0) {
        node.state = NodeState::Busy;
        node.cause = Some(format!("{waiting} requests are waiting inside it"));
    }
    Ok(())
}

/// LM Studio's own list says for each model what it is and whether it is loaded; a version without it leaves that unknown.
fn lm_studio(node: &mut Node, ask: &Ask) -> Result<(), Trouble> {
    let reply = ask.get("/api/v0/models")?;
    let Some(list) = reply.ok().then(|| reply.json::<Listing>()).flatten() else {
        return Ok(());
    };
    for (entry, _) in entries::<Entry>(list.data.as_deref()) {
        let name = ModelName::new(&entry.id);
        let Some(model) = node.models.iter_mut().find(|model| model.name == name) else {
            continue;
        };
        model.context = entry.loaded_context_length.or(entry.max_context_length);
        model.capabilities = match entry.model_type.as_deref() {
            Some("llm") => vec![Capability::Completion],
            Some("vlm") => vec![Capability::Completion, Capability::Vision],
            Some("embeddings") => vec![Capability::Embedding],
            _ => Vec::new(),
        };
        if entry
            .capabilities
            .is_some_and(|can| can.iter().any(|word| word == "tool_use"))
        {
            model.capabilities.push(Capability::Tools);
        }
        if entry.state.as_deref() == Some("loaded") {
            let loaded = resident(model);
            node.loaded.push(loaded);
        }
    }
    Ok(())
}

/// The sum of a gauge over its labels in Prometheus text, under the first of the names that occurs.
pub(super) fn metric(text: &[u8], names: &[&str]) -> Option<u32> {
    let text = String::from_utf8_lossy(text);
    let mut sum = None;
    for line in text.lines() {
        let Some(rest) = names.iter().find_map(|name| line.strip_prefix(name)) else {
            continue;
        };
        // Labels are quoted text and may hold spaces and braces; the value is the last word, after the last brace.
        let value = match rest.chars().next() {
            Some('{') => rest.rsplit('}').next(),
            Some(' ') => Some(rest),
            _ => None,
        };
        let value: f64 = value
            .and_then(|value| value.split_whitespace().next())
            .and_then(|value| value.parse().ok())
            .unwrap_or(f64::NAN);
        if value.is_finite() && value >= 0.0 {
            sum = Some(sum.unwrap_or(0.0) + value);
        }
    }
    let sum = sum?;
    if sum > f64::from(u32::MAX) {
        return None;
    }
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked above; counts are whole"
    )]
    let count = sum as u32;
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_a_gauge_over_its_labels() {
        let text = b"# HELP vllm:num_requests_running requests\n\
            # TYPE vllm:num_requests_running gauge\n\
            vllm:num_requests_running{engine=\"0\",model_name=\"a } b\"} 3.0\n\
            vllm:num_requests_running{engine=\"1\",model_name=\"a\"} 2\n\
            vllm:num_requests_running_total 40\n";
        assert_eq!(metric(text, &["vllm:num_requests_running"]), Some(5));
        assert_eq!(metric(text, &["vllm:num_requests_waiting"]), None);
    }

    #[test]
    fn figures_that_are_no_count_are_unknown() {
        for text in ["a NaN\n", "a -1\n", "a 1e99\n", "a\n", "a x\n", "a{b=\"\n"] {
            assert_eq!(metric(text.as_bytes(), &["a"]), None, "{text}");
        }
        assert_eq!(metric(b"a 7 1700000000000\n", &["a"]), Some(7));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_survived(text in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80)) {
            let mut line = b"a{b=\"".to_vec();
            line.extend(&text);
            metric(&line, &["a"]);
            metric(&text, &[""]);
        }
    }
}
