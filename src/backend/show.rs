//! Details of one model, asked when somebody wants them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::cluster::{Model, Node};

use super::client::Failure;
use super::llama::Props;
use super::probe::Prober;

/// Models whose trained context is remembered; more than one machine's store holds.
const CONTEXTS: usize = 1024;

/// Largest verbose description in bytes: all token texts, scores and merges of a vocabulary of 262,144 take less than half of it.
const VERBOSE_LIMIT: u64 = 64 * 1024 * 1024;

/// The longest that a node may take to describe a model verbosely; Ollama reads the file's header anew each time, from a slow disk perhaps.
const VERBOSE_TIME: Duration = Duration::from_secs(30);

/// Trained context lengths by digest: a digest never changes its content, so an entry is true for ever.
#[derive(Debug, Default)]
pub(super) struct Contexts(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    lengths: HashMap<String, u64>,
    order: VecDeque<String>,
}

impl Contexts {
    pub(super) fn get(&self, digest: &str) -> Option<u64> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.lengths.get(digest).copied()
    }

    fn put(&self, digest: &str, length: u64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.lengths.insert(digest.to_owned(), length).is_none() {
            known.order.push_back(digest.to_owned());
        }
        if known.order.len() > CONTEXTS
            && let Some(oldest) = known.order.pop_front()
        {
            known.lengths.remove(&oldest);
        }
    }
}

/// A node's answer to `/api/show`.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// Context length the model was trained with, in tokens.
    pub context: Option<u64>,
    /// The answer byte for byte, as JSON text.
    pub body: String,
}

/// What a llama-server says about the model it serves.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LlamaProps {
    /// Context of one slot in tokens.
    pub context: Option<u64>,
    /// Requests it runs at once.
    pub slots: Option<u32>,
    /// Path of the model on the node.
    pub model_path: Option<String>,
    /// Chat template (Jinja).
    pub chat_template: Option<String>,
    /// Whether it takes images.
    pub vision: bool,
    /// Build of the server.
    pub build: Option<String>,
    /// The answer byte for byte.
    pub body: Vec<u8>,
}

#[derive(Deserialize)]
struct Described<'a> {
    #[serde(borrow, default)]
    model_info: Option<HashMap<String, &'a RawValue>>,
}

impl Prober {
    /// Ollama's description of a model.
    ///
    /// # Errors
    /// When the node gives no answer, or one that is not a description.
    pub fn show(&self, node: &Node, model: &Model) -> Result<Shown, Failure> {
        let body = serde_json::json!({ "model": model.id }).to_string();
        let reply = self.ask(&node.url).post("/api/show", body.into_bytes())?;
        let refused = |what: &str| Failure::Answered(format!("POST /api/show answered {what}"));
        if !reply.ok() {
            return Err(refused(&reply.status.to_string()));
        }
        let body =
            String::from_utf8(reply.body).map_err(|_| refused("something that is not text"))?;
        let described: Described = serde_json::from_str(&body)
            .map_err(|_| refused("something else than the expected JSON"))?;
        let context = described.model_info.as_ref().and_then(trained_context);
        if let (Some(digest), Some(context)) = (&model.digest, context) {
            self.contexts.put(digest, context);
        }
        Ok(Shown { context, body })
    }

    /// A node's answer to `/api/show` with everything in the model's file: all metadata, the tensor table. JSON text of up to 64 MiB.
    ///
    /// # Errors
    /// When the node gives no answer within half a minute, or does not describe the model.
    pub fn show_verbose(&self, node: &Node, model: &Model) -> Result<Vec<u8>, Failure> {
        let body = serde_json::json!({ "model": model.id, "verbose": true }).to_string();
        let ask = (self.client.ask(&node.url, VERBOSE_TIME)).up_to(VERBOSE_LIMIT);
        let reply = ask.post("/api/show", body.into_bytes())?;
        if reply.ok() {
            Ok(reply.body)
        } else {
            let status = reply.status;
            Err(Failure::Answered(format!(
                "POST /api/show answered {status}"
            )))
        }
    }

    /// Context length the model was trained with, in tokens: from its list, from memory, else asked for with [`Self::show`] (Ollama
    /// only). `None` when nobody tells.
    ///
    /// # Errors
    /// When the node had to be asked and gave no usable answer.
    pub fn trained_context(&self, node: &Node, model: &Model) -> Result<Option<u64>, Failure> {
        let known = |digest: &String| self.contexts.get(digest);
        let remembered = model
            .context
            .or_else(|| model.digest.as_ref().and_then(known));
        if remembered.is_some() || !node.native.ollama {
            return Ok(remembered);
        }
        self.show(node, model).map(|shown| shown.context)
    }

    /// What a llama-server says about a model it has loaded. In router mode a model that is not loaded stays so.
    ///
    /// # Errors
    /// When the node gives no answer, or not that of a llama-server.
    pub fn llama_props(&self, node: &Node, model: &Model) -> Result<LlamaProps, Failure> {
        let ask = self.ask(&node.url);
        let reply = ask.get(&props_of(model))?;
        let props: Props =
            reply.ok().then(|| reply.json()).flatten().ok_or_else(|| {
                Failure::Answered(format!("GET /props answered {}", reply.status))
            })?;
        Ok(LlamaProps {
            context: props.context(),
            slots: props.total_slots,
            vision: props.modalities.is_some_and(|inputs| inputs.vision),
            model_path: props.model_path,
            chat_template: props.chat_template,
            build: props.build_info,
            body: reply.body,
        })
    }
}

/// Where a llama-server tells of one model; a server with one model ignores the query.
pub(super) fn props_of(model: &Model) -> String {
    let id: String = model.id.bytes().map(percent).collect();
    format!("/props?model={id}&autoload=false")
}

fn trained_context(info: &HashMap<String, &RawValue>) -> Option<u64> {
    let read = |key: &str| info.get(key).map(|raw| raw.get());
    let architecture: String = serde_json::from_str(read("general.architecture")?).ok()?;
    serde_json::from_str(read(&format!("{architecture}.context_length"))?).ok()
}

/// A byte of a query value.
fn percent(byte: u8) -> String {
    if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
        char::from(byte).to_string()
    } else {
        format!("%{byte:02X}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_the_oldest_context_beyond_the_limit() {
        let contexts = Contexts::default();
        for digest in 0..=CONTEXTS {
            contexts.put(&digest.to_string(), 1);
        }
        contexts.put(&CONTEXTS.to_string(), 2);
        assert_eq!(contexts.get("0"), None);
        assert_eq!(contexts.get("1"), Some(1));
        assert_eq!(contexts.get(&CONTEXTS.to_string()), Some(2));
    }

    #[test]
    fn finds_the_context_of_the_models_own_architecture() {
        let text = r#"{"general.architecture":"llama","clip.context_length":77,"llama.context_length":8192}"#;
        let info = serde_json::from_str(text).expect("valid JSON");
        assert_eq!(trained_context(&info), Some(8192));
    }
}
