//! What a llama-server says about itself: `/health`, `/v1/models`, `/props`, `/slots`, `/metrics`.

use serde::Deserialize;
use serde_json::Value;

use crate::cluster::{Capability, LoadedModel, Model, ModelName, Node, NodeState};

use super::client::{Ask, Reply};
use super::json::{Listing, entries, lenient};
use super::openai::metric;
use super::probe::{Detail, Trouble, fetch, success, unreadable};

#[derive(Default, Deserialize)]
pub(super) struct Generation {
    #[serde(default, deserialize_with = "lenient")]
    pub n_ctx: Option<u64>,
}

#[derive(Default, Deserialize)]
pub(super) struct Modalities {
    #[serde(default)]
    pub vision: bool,
}

/// `/props`, as far as it is of use here.
#[derive(Default, Deserialize)]
pub(super) struct Props {
    /// Only a llama-server has these.
    #[serde(default, deserialize_with = "lenient")]
    pub default_generation_settings: Option<Generation>,
    #[serde(default, deserialize_with = "lenient")]
    pub total_slots: Option<u32>,
    #[serde(default, deserialize_with = "lenient")]
    pub modalities: Option<Modalities>,
    #[serde(default, deserialize_with = "lenient")]
    pub build_info: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub model_path: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    pub chat_template: Option<String>,
    /// Present in builds that render every template themselves and therefore accept tools with any of them.
    #[serde(default)]
    chat_template_caps: Option<serde::de::IgnoredAny>,
    #[serde(default, deserialize_with = "lenient")]
    role: Option<String>,
    /// Models at once in router mode; 0: as many as there are.
    #[serde(default, deserialize_with = "lenient")]
    max_instances: Option<u32>,
    #[serde(default, deserialize_with = "lenient")]
    is_sleeping: Option<bool>,
    /// Absent in older builds, which then are asked.
    #[serde(default, deserialize_with = "lenient")]
    endpoint_slots: Option<bool>,
    #[serde(default, deserialize_with = "lenient")]
    endpoint_metrics: Option<bool>,
}

impl Props {
    /// The context one request gets; the router mode's 0 is not an answer.
    pub(super) fn context(&self) -> Option<u64> {
        self.default_generation_settings
            .as_ref()?
            .n_ctx
            .filter(|length| *length > 0)
    }

    fn router(&self) -> bool {
        self.role.as_deref() == Some("router")
    }
}

#[derive(Default, Deserialize)]
struct Meta {
    #[serde(default, deserialize_with = "lenient")]
    n_ctx: Option<u64>,
    #[serde(default, deserialize_with = "lenient")]
    size: Option<u64>,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default, deserialize_with = "lenient")]
    value: Option<String>,
    /// Command line of the model's own server.
    #[serde(default, deserialize_with = "lenient")]
    args: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
struct Architecture {
    #[serde(default, deserialize_with = "lenient")]
    input_modalities: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    #[serde(default, deserialize_with = "lenient")]
    meta: Option<Meta>,
    #[serde(default, deserialize_with = "lenient")]
    status: Option<Status>,
    #[serde(default, deserialize_with = "lenient")]
    architecture: Option<Architecture>,
    /// The trained context; router mode only.
    #[serde(default, deserialize_with = "lenient")]
    context_length: Option<u64>,
}

#[derive(Deserialize)]
struct Slot {
    #[serde(default)]
    is_processing: bool,
}

/// Whether this is a llama-server's answer to `/props`.
pub(super) fn is_props(reply: &Reply) -> bool {
    reply
        .json::<Props>()
        .is_some_and(|props| props.default_generation_settings.is_some())
}

/// One look.
pub(super) fn look(before: &Node, ask: &Ask, fresh: bool, detail: Detail) -> Result<Node, Trouble> {
    fetch(ask, "/health")?;
    let list = fetch(ask, "/v1/models")?;
    let list = list
        .json::<Listing>()
        .ok_or_else(|| unreadable("/v1/models"))?;
    let props = props(ask)?;

    let mut node = before.clone();
    node.state = NodeState::Up;
    node.cause = None;
    node.version.clone_from(&props.build_info);
    node.models = models(&list, &props);
    if !props.router() {
        let embeds = if fresh || ids(&node) != ids(before) {
            embeds(ask)
        } else {
            before.models.iter().any(Model::embeds_only)
        };
        if embeds {
            for model in &mut node.models {
                model.capabilities = vec![Capability::Embedding];
            }
        }
    }
    steady(&mut node.models, &before.models);
    node.loaded = loaded(&list, &props, &node.models);
    node.on_demand = props.router();
    node.most_models = props.max_instances.filter(|most| *most > 0);
    occupancy(&mut node, before, ask, &props, detail)?;
    Ok(node)
}

/// Keeps the text of an entry in which only `created` moved: the server writes the time of asking there, and a list that changes with
/// every look would look like news.
fn steady(models: &mut [Model], before: &[Model]) {
    let without_time = |listing: Option<&String>| {
        let mut entry: serde_json::Map<String, Value> = serde_json::from_str(listing?).ok()?;
        entry.remove("created");
        Some(entry)
    };
    for (model, before) in models.iter_mut().zip(before) {
        if without_time(model.listing.as_ref()) == without_time(before.listing.as_ref()) {
            model.listing.clone_from(&before.listing);
        }
    }
}

fn ids(node: &Node) -> Vec<&str> {
    node.models.iter().map(|model| model.id.as_str()).collect()
}

/// A proxy in front may hide `/props`; the node is then known less well, not sick.
fn props(ask: &Ask) -> Result<Props, Trouble> {
    match success("/props", ask.get("/props")?) {
        Ok(reply) => Ok(reply.json().unwrap_or_default()),
        Err(Trouble::WrongApi(_)) => Ok(Props::default()),
        Err(trouble) => Err(trouble),
    }
}

/// Whether it was started for embeddings, which its own documentation restricts to that use: 501 otherwise, whatever the body. Its
/// list says "completion" in both cases.
fn embeds(ask: &Ask) -> bool {
    ask.post("/v1/embeddings", Vec::new())
        .is_ok_and(|reply| matches!(reply.status, 400 | 500))
}

fn models(list: &Listing, props: &Props) -> Vec<Model> {
    entries::<Entry>(list.data.as_deref())
        .map(|(entry, raw)| {
            let meta = entry.meta.as_ref();
            Model {
                name: ModelName::new(&entry.id),
                size_bytes: meta.and_then(|meta| meta.size),
                capabilities: capabilities(&entry, props),
                context: meta
                    .and_then(|meta| meta.n_ctx)
                    .or(props.context())
                    .or(entry.context_length),
                id: entry.id,
                listing: Some(raw.to_owned()),
                ..Model::default()
            }
        })
        .collect()
}

fn capabilities(entry: &Entry, props: &Props) -> Vec<Capability> {
    let args = entry
        .status
        .as_ref()
        .and_then(|status| status.args.as_deref());
    let embedding = |arg: &String| matches!(arg.as_str(), "--embedding" | "--embeddings");
    if args.unwrap_or_default().iter().any(embedding) {
        return vec![Capability::Embedding];
    }
    let images = entry
        .architecture
        .as_ref()
        .and_then(|architecture| architecture.input_modalities.as_ref())
        .is_some_and(|inputs| inputs.iter().any(|input| input == "image"));
    let mut can = vec![Capability::Completion];
    if props.chat_template_caps.is_some() || props.router() {
        can.push(Capability::Tools);
    }
    if images
        || props
            .modalities
            .as_ref()
            .is_some_and(|inputs| inputs.vision)
    {
        can.push(Capability::Vision);
    }
    can
}

/// The served model is in memory unless the server sleeps; in router mode those that it says are. How much of it is on a GPU it never
/// tells.
fn loaded(list: &Listing, props: &Props, models: &[Model]) -> Vec<LoadedModel> {
    let awake = props.is_sleeping != Some(true);
    entries::<Entry>(list.data.as_deref())
        .zip(models)
        .filter(|((entry, _), _)| match &entry.status {
            Some(status) => status.value.as_deref() == Some("loaded"),
            None => awake,
        })
        .map(|(_, model)| LoadedModel {
            name: model.name.clone(),
            context: model.context,
            ..LoadedModel::default()
        })
        .collect()
}

/// Slots and how many are taken. Both routes count as work for the server's idle clock (`--sleep-idle-seconds`), and would even wake
/// a sleeping one; in router mode each model has its own.
fn occupancy(
    node: &mut Node,
    before: &Node,
    ask: &Ask,
    props: &Props,
    detail: Detail,
) -> Result<(), Trouble> {
    node.slots = props.total_slots.or(node.slots);
    node.running = None;
    node.waiting = None;
    if props.router() {
        return slots_of_models(node, before, ask);
    }
    if props.is_sleeping == Some(true) || detail == Detail::Quiet {
        return Ok(());
    }
    if props.endpoint_slots != Some(false) {
        let reply = ask.get("/slots")?;
        if let Some(slots) = reply.ok().then(|| reply.json::<Vec<Slot>>()).flatten() {
            let taken = slots.iter().filter(|slot| slot.is_processing).count();
            node.slots = u32::try_from(slots.len()).ok();
            node.running = u32::try_from(taken).ok();
        }
    }
    if props.endpoint_metrics != Some(false) {
        let reply = ask.get("/metrics")?;
        if reply.ok() {
            node.running = node
                .running
                .or_else(|| metric(&reply.body, &["llamacpp:requests_processing"]));
            node.waiting = metric(&reply.body, &["llamacpp:requests_deferred"]);
        }
    }
    if let (Some(slots), Some(running)) = (node.slots, node.running)
        && slots > 0
        && running >= slots
    {
        node.state = NodeState::Busy;
        node.cause = Some(format!("all {slots} slots are taken"));
    }
    Ok(())
}

/// The slots of the models in memory, the fewest of any, asked when others are in memory than before. A model that is not there any more tells
/// nothing, and is not loaded for it.
fn slots_of_models(node: &mut Node, before: &Node, ask: &Ask) -> Result<(), Trouble> {
    let names = |node: &Node| -> Vec<ModelName> {
        let loaded = node.loaded.iter();
        loaded.map(|loaded| loaded.name.clone()).collect()
    };
    if before.on_demand && names(node) == names(before) {
        node.slots = before.slots;
        return Ok(());
    }
    node.slots = None;
    let loaded: Vec<&Model> = (node.models.iter())
        .filter(|model| node.resident(model).is_some())
        .collect();
    let mut fewest: Option<u32> = None;
    for model in loaded {
        let reply = ask.get(&super::show::props_of(model))?;
        let told = reply.ok().then(|| reply.json::<Props>()).flatten();
        if let Some(slots) = told.and_then(|props| props.total_slots) {
            fewest = Some(fewest.map_or(slots, |fewest| fewest.min(slots)));
        }
    }
    node.slots = fewest;
    Ok(())
}
