//! The node's models by number, and what was learned of each.

use std::sync::Arc;

use super::{State, count};
use crate::cluster::{LoadedModel, Model, ModelName, NodeKind};
use crate::routing::queue::{Footprint, ModelId, Pin};
use crate::routing::window::RunnerOptions;
use crate::serve::gate::Pins;

/// Models of one look that are handed out to be asked about.
const ASKED_AT_ONCE: usize = 8;

/// A model of the node.
#[derive(Debug)]
pub(super) struct Known {
    /// As the node calls it.
    pub(super) name: String,
    pub(super) embeds: bool,
    pub(super) trained: Option<u32>,
    size: Option<u64>,
    /// What was found out of its size.
    sizes: Sizes,
    pinned: bool,
    pub(super) footprint: Arc<Footprint>,
    /// The context that the node takes for an absent `num_ctx`, as it showed.
    pub(super) automatic: Option<u32>,
    /// The options of a load of ours.
    pub(super) options: Option<RunnerOptions>,
}

/// Where a model's bytes are known from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum Sizes {
    /// Its file's size stands for them; somebody may be asked.
    #[default]
    File,
    /// Its file's size stands for them: nobody knows more.
    NotToBeHad,
    /// The estimator's bytes by context.
    Estimated(Vec<(u32, u64)>),
}

impl Known {
    /// The node was away: what it is by now is another question.
    pub(super) fn lost(&mut self) {
        self.options = None;
        if self.sizes == Sizes::NotToBeHad {
            self.sizes = Sizes::File;
        }
    }

    /// The estimate, else the file's size, which is the least that a model takes; what a context adds is not known from it. In main memory
    /// sizes are the node's own business.
    fn footprint(&self, no_gpu: bool) -> Arc<Footprint> {
        Arc::new(match &self.sizes {
            _ if no_gpu => Footprint::unknown(),
            Sizes::Estimated(points) => Footprint::of_points(points, self.trained),
            Sizes::File | Sizes::NotToBeHad => {
                let points: Vec<(u32, u64)> = self.size.map(|size| (0, size)).into_iter().collect();
                Footprint::of_points(&points, self.trained)
            }
        })
    }
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
        let no_gpu = self.capacity.no_gpu();
        if let Some(id) = self.by_key.get(key).copied() {
            if let Some(known) = self.known_mut(id)
                && (known.trained != trained || known.size != model.size_bytes)
            {
                known.trained = trained;
                known.size = model.size_bytes;
                known.footprint = known.footprint(no_gpu);
                let footprint = Arc::clone(&known.footprint);
                self.queue.describe(id, footprint);
            }
            self.pin_if_wanted(id, &model.name);
            return id;
        }
        let id = ModelId(count(self.models.len()));
        let mut known = Known {
            name: model.id.clone(),
            embeds: model.embeds_only(),
            trained,
            size: model.size_bytes,
            sizes: Sizes::File,
            pinned: false,
            footprint: Arc::default(),
            automatic: None,
            options: None,
        };
        known.footprint = known.footprint(no_gpu);
        self.queue.describe(id, Arc::clone(&known.footprint));
        self.models.push(known);
        self.by_key.insert(key.to_owned(), id);
        self.pin_if_wanted(id, &model.name);
        id
    }

    /// A model that is to stay in memory is the last to be evicted for a request.
    fn pin_if_wanted(&mut self, id: ModelId, name: &ModelName) {
        if !self.pins.contains(name) {
            return;
        }
        if let Some(known) = self.known_mut(id).filter(|known| !known.pinned) {
            known.pinned = true;
            self.queue.pin(id, Pin::Last);
        }
    }

    /// These models are to stay in memory from now on, under whichever of their names the node lists them.
    pub(in crate::serve::gate) fn pin(&mut self, pins: &Arc<Pins>) {
        if self.pins == *pins {
            return;
        }
        self.pins = Arc::clone(pins);
        for (id, known) in (0..).zip(&mut self.models) {
            if std::mem::take(&mut known.pinned) {
                self.queue.pin(ModelId(id), Pin::No);
            }
        }
        self.pin_listed();
    }

    /// Pins what the node lists, asked for or not, so that what is found in memory counts from the first look.
    pub(super) fn pin_listed(&mut self) {
        if self.pins.is_empty() {
            return;
        }
        let node = Arc::clone(&self.node);
        for model in &node.models {
            if self.pins.contains(&model.name) {
                self.number(model);
            }
        }
    }

    /// Whether a model that has a number is yet to be asked about.
    pub(in crate::serve::gate) fn lacks_sizes(&self) -> bool {
        self.managed() && self.models.iter().any(|known| known.sizes == Sizes::File)
    }

    /// Some models of which only the file's size is known, as the node lists them: of those that have a number, and the likely ones, which get one.
    pub(in crate::serve::gate) fn without_sizes(
        &mut self,
        likely: impl Fn(&ModelName) -> bool,
    ) -> Vec<Model> {
        if !self.managed() {
            return Vec::new();
        }
        let node = Arc::clone(&self.node);
        for model in node.models.iter().filter(|model| likely(&model.name)) {
            self.number(model);
        }
        let mut asked = Vec::new();
        for known in &mut self.models {
            if known.sizes != Sizes::File || asked.len() == ASKED_AT_ONCE {
                continue;
            }
            match node.models.iter().find(|model| model.id == known.name) {
                Some(model) => asked.push(model.clone()),
                // What the node does not list cannot be asked about.
                None => known.sizes = Sizes::NotToBeHad,
            }
        }
        asked
    }

    /// What was found out of a model's size: bytes by context, none where nobody knows.
    pub(in crate::serve::gate) fn sized(&mut self, model: &Model, points: Vec<(u32, u64)>) {
        let id = self.number(model);
        let no_gpu = self.capacity.no_gpu();
        if let Some(known) = self.known_mut(id) {
            known.sizes = if points.is_empty() {
                Sizes::NotToBeHad
            } else {
                Sizes::Estimated(points)
            };
            known.footprint = known.footprint(no_gpu);
            let footprint = Arc::clone(&known.footprint);
            self.queue.describe(id, footprint);
        }
    }

    /// Whether the node has a GPU has become known: that decides what counts as a model's size.
    pub(super) fn size_anew(&mut self) {
        let no_gpu = self.capacity.no_gpu();
        for (id, known) in (0..).zip(&mut self.models) {
            known.footprint = known.footprint(no_gpu);
            self.queue
                .describe(ModelId(id), Arc::clone(&known.footprint));
        }
    }

    /// Requests that the node answers at once with one model, as far as it is told: what its contexts are multiplied by.
    pub(in crate::serve::gate) fn parallel(&self) -> u32 {
        let told = self
            .rules
            .slots
            .filter(|_| self.node.kind == Some(NodeKind::Ollama));
        told.or(self.node.slots).unwrap_or(1)
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
