//! What an Ollama says about itself: `/api/version`, `/api/ps`, `/api/tags`.

use serde::Deserialize;

use crate::cluster::{Capability, LoadedModel, Model, ModelName, Node, NodeState};

use super::client::{Ask, Failure, Reply};
use super::json::{Listing, entries, lenient};
use super::probe::{Trouble, fetch, unreadable};
use super::show::Contexts;

#[derive(Deserialize)]
struct Version {
    version: String,
}

#[derive(Default, Deserialize)]
struct Details {
    #[serde(default, deserialize_with = "lenient")]
    context_length: Option<u64>,
}

/// An entry of `/api/tags` or `/api/ps`; what only one of them has is absent in the other.
#[derive(Deserialize)]
struct Entry {
    /// Either may be missing in what imitates Ollama.
    #[serde(default, deserialize_with = "lenient")]
    name: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    model: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    digest: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    size: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    size_vram: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    modified_at: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    expires_at: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    context_length: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    capabilities: Option<Vec<Capability>>,
    #[serde(default, deserialize_with = "lenient")]
    details: Option<Details>,
}

/// Whether this is the answer of an Ollama to `/api/version`.
pub(super) fn is_version(reply: &Reply) -> bool {
    reply.json::<Version>().is_some()
}

/// One look. The version says whether it lives; a list that fails while it lives stays as it was, and the cause says so. Without `contexts` the
/// models on disk are not asked for.
pub(super) fn look(before: &Node, ask: &Ask, contexts: Option<&Contexts>) -> Result<Node, Trouble> {
    let mut node = before.clone();
    let reply = fetch(ask, "/api/version")?;
    let version = reply
        .json::<Version>()
        .ok_or_else(|| unreadable("/api/version"))?;
    node.version = Some(version.version);
    node.state = NodeState::Up;
    node.cause = None;
    // The catalogue comes last: it is the slow one (a manifest per model), and what it may use of the time the others cannot.
    match list(ask, "/api/ps", |list| loaded(&list)) {
        Ok(loaded) => node.loaded = loaded,
        Err(trouble) => keep(&mut node, "what is loaded", trouble)?,
    }
    if let Some(contexts) = contexts {
        match list(ask, "/api/tags", |list| models(&list, contexts)) {
            Ok(models) => node.models = models,
            Err(trouble) => keep(&mut node, "the models", trouble)?,
        }
    }
    Ok(node)
}

/// What is in its memory now.
pub(super) fn residents(ask: &Ask) -> Result<Vec<LoadedModel>, Failure> {
    let reply = ask.get("/api/ps")?;
    let list = reply.ok().then(|| reply.json::<Listing>()).flatten();
    let told = || Failure::Answered(format!("GET /api/ps answered {}", reply.status));
    list.map(|list| loaded(&list)).ok_or_else(told)
}

fn list<T>(ask: &Ask, path: &str, read: impl FnOnce(Listing) -> T) -> Result<T, Trouble> {
    let reply = fetch(ask, path)?;
    let list = reply.json::<Listing>().ok_or_else(|| unreadable(path))?;
    Ok(read(list))
}

fn keep(node: &mut Node, what: &str, trouble: Trouble) -> Result<(), Trouble> {
    let told = match trouble {
        Trouble::Misconfigured(_) => return Err(trouble),
        Trouble::Down(told)
        | Trouble::Busy(told)
        | Trouble::Loading(told)
        | Trouble::WrongApi(told) => told,
    };
    node.cause = Some(format!("{what} are as last known: {told}"));
    Ok(())
}

fn models(list: &Listing, contexts: &Contexts) -> Vec<Model> {
    entries::<Entry>(list.models.as_deref())
        .filter_map(|(entry, raw)| {
            let id = entry.name.or(entry.model)?;
            let context = entry.details.unwrap_or_default().context_length;
            Some(Model {
                name: ModelName::new(&id),
                context: context.or_else(|| contexts.get(entry.digest.as_deref()?)),
                id,
                digest: entry.digest,
                size_bytes: entry.size,
                modified_at: entry.modified_at,
                capabilities: entry.capabilities.unwrap_or_default(),
                listing: Some(raw.to_owned()),
            })
        })
        .collect()
}

fn loaded(list: &Listing) -> Vec<LoadedModel> {
    entries::<Entry>(list.models.as_deref())
        .filter_map(|(entry, raw)| {
            // A build that does not know says 0 for both; 0 of a known size is an answer: all of it is in the machine's own memory.
            let size = entry.size.filter(|size| *size > 0);
            Some(LoadedModel {
                name: ModelName::new(&entry.name.or(entry.model)?),
                digest: entry.digest,
                size_bytes: size,
                vram_bytes: size.and(entry.size_vram),
                context: entry.context_length.filter(|length| *length > 0),
                expires_at: entry.expires_at,
                listing: Some(raw.to_owned()),
            })
        })
        .collect()
}
