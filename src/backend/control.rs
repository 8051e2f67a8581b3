//! Loading and unloading models: the only calls of the control plane that change what a node holds.
//!
//! Nothing here downloads, makes or deletes a model. A load is an empty request that names the model, as Ollama's own client sends it; what comes of
//! it is asked afterwards, because a server that has no room on its GPU loads into main memory without a word.

use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;

use super::client::{Ask, Failure, Reply};
use super::json::{Listing, entries, lenient};
use super::ollama;
use super::probe::Prober;
use crate::cluster::{LoadedModel, Model, ModelName, Node, NodeKind};

/// Longest wait for a load where the configuration sets no limit: nobody reads a model for a day.
pub const LONGEST_LOAD: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a model may stay in memory after it was told to go; one that works stays until it is done.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// Time between two looks at what is loaded.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Default, Deserialize)]
struct Described {
    #[serde(default, deserialize_with = "lenient")]
    capabilities: Option<Vec<crate::cluster::Capability>>,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    #[serde(default, deserialize_with = "lenient")]
    status: Option<Status>,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default, deserialize_with = "lenient")]
    value: Option<String>,
    #[serde(default)]
    failed: bool,
}

impl Prober {
    /// Loads a model, to stay until it is unloaded or the node needs its room, and tells what the node holds of it then. `context`: the context
    /// in tokens to load it with; `None`: the node's own. A model that is loaded with that context already is only kept from expiring. Takes at
    /// most `limit`, and a few seconds for the look afterwards.
    ///
    /// # Errors
    /// The node gives no answer, refuses, cannot load it, or is of a kind that loads nothing.
    pub fn load(
        &self,
        node: &Node,
        name: &ModelName,
        context: Option<u64>,
        limit: Duration,
    ) -> Result<LoadedModel, Failure> {
        let ask = self.client.ask(&node.url, limit);
        match node.kind {
            Some(NodeKind::Ollama) => {
                self.load_at_ollama(node, name, context, &ask)?;
                let loaded = ollama::residents(&self.ask(&node.url))?;
                find(node, loaded, name).ok_or_else(|| {
                    Failure::Answered(
                        "the node said that it loaded the model, and does not hold it".to_owned(),
                    )
                })
            }
            Some(NodeKind::LlamaServer) => load_at_llama(node, name, &ask),
            _ => Err(loads_nothing()),
        }
    }

    /// Takes a model out of a node's memory. One that works goes when its work is done, which is an error here if that is not soon.
    ///
    /// # Errors
    /// The node gives no answer or refuses, or holds the model still.
    pub fn unload(&self, node: &Node, name: &ModelName) -> Result<(), Failure> {
        let ask = self.ask(&node.url);
        let id = id(node, name);
        match node.kind {
            Some(NodeKind::Ollama) => {
                // For embedding models too: `/api/embed` would load what is not loaded.
                let body = json!({ "model": id, "keep_alive": 0, "stream": false });
                send(&ask, "/api/generate", &body)?;
                let held = || Ok(find(node, ollama::residents(&ask)?, name).is_some());
                wait_until_gone(held)
            }
            Some(NodeKind::LlamaServer) => {
                send(&ask, "/models/unload", &json!({ "model": id }))?;
                wait_until_gone(|| {
                    let (value, _) = status(&ask, id)?;
                    Ok(value.is_some_and(|value| value != "unloaded"))
                })
            }
            _ => Err(loads_nothing()),
        }
    }

    fn load_at_ollama(
        &self,
        node: &Node,
        name: &ModelName,
        context: Option<u64>,
        ask: &Ask<'_>,
    ) -> Result<(), Failure> {
        let embeds = node
            .model(name)
            .is_some_and(|model| self.embeds_only(node, model));
        let id = id(node, name);
        let mut body = if embeds {
            json!({ "model": id, "input": "", "keep_alive": -1 })
        } else {
            json!({ "model": id, "keep_alive": -1, "stream": false })
        };
        // Without it a model that is loaded with another context than the usual one would be loaded anew.
        if let (Some(context), Some(body)) = (context, body.as_object_mut()) {
            body.insert("options".to_owned(), json!({ "num_ctx": context }));
        }
        let path = if embeds {
            "/api/embed"
        } else {
            "/api/generate"
        };
        send(ask, path, &body)
    }

    /// By what the node says of the model: in its list, else in its description, which versions before the lists had it.
    fn embeds_only(&self, node: &Node, model: &Model) -> bool {
        if !model.capabilities.is_empty() {
            return model.embeds_only();
        }
        let described = self.show(node, model).ok();
        let described: Described = described
            .and_then(|shown| serde_json::from_str(&shown.body).ok())
            .unwrap_or_default();
        Model {
            capabilities: described.capabilities.unwrap_or_default(),
            ..Model::default()
        }
        .embeds_only()
    }
}

/// In router mode the answer comes before the model is loaded.
pub(super) fn load_at_llama(
    node: &Node,
    name: &ModelName,
    ask: &Ask<'_>,
) -> Result<LoadedModel, Failure> {
    let id = id(node, name);
    let sent = send(ask, "/models/load", &json!({ "model": id }));
    let (mut value, mut failed) = status(ask, id)?;
    // It says 400 to a model that is loaded already.
    if value.as_deref() == Some("unloaded") && !failed {
        sent?;
    }
    while value.as_deref() != Some("loaded") {
        if failed {
            let text = "the node could not load the model; its own log tells why";
            return Err(Failure::Answered(text.to_owned()));
        }
        if value.is_none() {
            return Err(loads_nothing());
        }
        thread::sleep(LOOK);
        (value, failed) = status(ask, id)?;
    }
    Ok(LoadedModel {
        name: name.clone(),
        ..LoadedModel::default()
    })
}

/// The models that a llama-server in router mode has loaded now. How much memory they take it does not tell.
pub(super) fn held_by_llama(node: &Node, ask: &Ask<'_>) -> Result<Vec<LoadedModel>, Failure> {
    let reply = ask.get("/v1/models")?;
    if !reply.ok() {
        return Err(refused("GET /v1/models", &reply));
    }
    let list = reply.json::<Listing>().unwrap_or_default();
    let loaded = entries::<Entry>(list.data.as_deref()).filter(|(entry, _)| {
        let value = entry
            .status
            .as_ref()
            .and_then(|status| status.value.as_deref());
        value == Some("loaded")
    });
    let named = loaded.map(|(entry, _)| {
        let name = ModelName::new(&entry.id);
        let context = node.model(&name).and_then(|model| model.context);
        LoadedModel {
            name,
            context,
            ..LoadedModel::default()
        }
    });
    Ok(named.collect())
}

/// What a llama-server in router mode says of a model: its state, and whether the last load failed.
fn status(ask: &Ask<'_>, id: &str) -> Result<(Option<String>, bool), Failure> {
    let reply = ask.get("/v1/models")?;
    if !reply.ok() {
        return Err(refused("GET /v1/models", &reply));
    }
    let list = reply.json::<Listing>().unwrap_or_default();
    let entry = entries::<Entry>(list.data.as_deref()).find(|(entry, _)| entry.id == id);
    let status = entry
        .and_then(|(entry, _)| entry.status)
        .unwrap_or_default();
    Ok((status.value, status.failed))
}

fn wait_until_gone(held: impl Fn() -> Result<bool, Failure>) -> Result<(), Failure> {
    let until = Instant::now() + GONE_WITHIN;
    while held()? {
        if Instant::now() >= until {
            return Err(Failure::Answered(format!(
                "the model is still in memory after {} s: it is at work",
                GONE_WITHIN.as_secs()
            )));
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

fn send(ask: &Ask<'_>, path: &str, body: &serde_json::Value) -> Result<(), Failure> {
    let reply = ask.post(path, body.to_string().into_bytes())?;
    if reply.ok() {
        return Ok(());
    }
    Err(refused(&format!("POST {path}"), &reply))
}

/// The status with the node's own words.
fn refused(call: &str, reply: &Reply) -> Failure {
    let document: serde_json::Value = reply.json().unwrap_or_default();
    let error = &document["error"];
    let text = error.as_str().or_else(|| error["message"].as_str());
    let status = reply.status;
    Failure::Answered(match text {
        Some(text) => format!("{call} answered {status}: {text}"),
        None => format!("{call} answered {status}"),
    })
}

fn loads_nothing() -> Failure {
    Failure::Answered("the node serves what it was started with and loads nothing else".to_owned())
}

/// The model's entry, under whichever of its names.
fn find(node: &Node, loaded: Vec<LoadedModel>, name: &ModelName) -> Option<LoadedModel> {
    let digest = node.model(name).and_then(|model| model.digest.clone());
    loaded
        .into_iter()
        .find(|loaded| loaded.name == *name || (digest.is_some() && loaded.digest == digest))
}

/// The name as the node writes it.
fn id<'a>(node: &'a Node, name: &'a ModelName) -> &'a str {
    node.model(name).map_or(name.as_str(), |model| &model.id)
}
