//! The node's models by number, and what was learned of each.

use std::sync::Arc;

use super::{State, count};
use crate::cluster::{LoadedModel, Model};
use crate::routing::queue::{Footprint, ModelId};
use crate::routing::window::RunnerOptions;

/// A model of the node.
#[derive(Debug)]
pub(super) struct Known {
    /// As the node calls it.
    pub(super) name: String,
    pub(super) embeds: bool,
    pub(super) trained: Option<u32>,
    size: Option<u64>,
    pub(super) footprint: Arc<Footprint>,
    /// The context that the node takes for an absent `num_ctx`, as it showed.
    pub(super) automatic: Option<u32>,
    /// The options of a load of ours.
    pub(super) options: Option<RunnerOptions>,
}

impl State {
    pub(super) fn known(&self, model: ModelId) -> Option<&Known> {
        self.models.get(usize::try_from(model.0).ok()?)
    }

    pub(super) fn known_mut(&mut self, model: ModelId) -> Option<&mut Known> {
        self.models.get_mut(usize::try_from(model.0).ok()?)
    }

    /// The number of a model; names of one content share it.
    pub(super) fn number(&mut self, model: &Model) -> ModelId {
        let key = model.digest.as_deref().unwrap_or(model.name.as_str());
        let trained = model
            .context
            .map(|tokens| u32::try_from(tokens).unwrap_or(u32::MAX))
            .filter(|tokens| *tokens > 0);
        if let Some(id) = self.by_key.get(key).copied() {
            if let Some(known) = self.known_mut(id)
                && (known.trained != trained || known.size != model.size_bytes)
            {
                known.trained = trained;
                known.size = model.size_bytes;
                known.footprint = footprint(model.size_bytes, trained);
            }
            return id;
        }
        let id = ModelId(count(self.models.len()));
        self.models.push(Known {
            name: model.id.clone(),
            embeds: model.embeds_only(),
            trained,
            size: model.size_bytes,
            footprint: footprint(model.size_bytes, trained),
            automatic: None,
            options: None,
        });
        self.by_key.insert(key.to_owned(), id);
        id
    }

    /// The number of what is in memory: by what the node lists.
    pub(super) fn number_of_loaded(&mut self, loaded: &LoadedModel) -> ModelId {
        let node = Arc::clone(&self.node);
        let listed = node.model(&loaded.name).or_else(|| {
            node.models
                .iter()
                .find(|model| model.digest.is_some() && model.digest == loaded.digest)
        });
        if let Some(model) = listed {
            return self.number(model);
        }
        self.number(&Model {
            name: loaded.name.clone(),
            id: loaded.name.as_str().to_owned(),
            digest: loaded.digest.clone(),
            ..Model::default()
        })
    }
}

/// The file's size is the least that a model takes; what a context adds is not known from it.
fn footprint(size: Option<u64>, trained: Option<u32>) -> Arc<Footprint> {
    let points: Vec<(u32, u64)> = size.map(|size| (0, size)).into_iter().collect();
    Arc::new(Footprint::of_points(&points, trained))
}
