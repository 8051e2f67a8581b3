//! Changes of what is in memory that no request asked for.

use super::State;
use crate::cluster::{LoadedModel, Model, ModelName};
use crate::routing::queue::ModelId;

impl State {
    pub(in crate::serve::gate) fn claim(&mut self) -> bool {
        self.queue.claim()
    }

    pub(in crate::serve::gate) fn give_back(&mut self) {
        self.queue.give_back();
    }

    pub(in crate::serve::gate) fn awaits(&self, number: u64) -> bool {
        number == self.load && self.queue.loading().is_some()
    }

    /// The number of a model of that name, listed or in memory; `None` when it has none: it was never asked for.
    fn numbered(&self, name: &ModelName) -> Option<ModelId> {
        let listed = self.node.model(name);
        let digest = listed.and_then(|model| model.digest.as_deref());
        self.by_key.get(digest.unwrap_or(name.as_str())).copied()
    }

    pub(in crate::serve::gate) fn at_work(&self, name: &ModelName) -> bool {
        self.numbered(name)
            .is_some_and(|model| self.queue.at_work(model))
    }

    pub(in crate::serve::gate) fn take_out(
        &mut self,
        now: u64,
        name: &ModelName,
    ) -> Result<(), String> {
        let Some(model) = self.numbered(name) else {
            return Ok(());
        };
        if !self.queue.take_out(now, model) {
            return Err("it is at work again".to_owned());
        }
        self.affinity.forget(&model);
        if let Some(known) = self.known_mut(model) {
            known.options = None;
        }
        Ok(())
    }

    /// The context of a copy in memory, where it is known.
    pub(in crate::serve::gate) fn context(&self, name: &ModelName) -> Option<u64> {
        let model = self.numbered(name)?;
        let mut residents = self.queue.residents();
        let resident = residents.find(|resident| resident.model == model)?;
        Some(u64::from(resident.context)).filter(|context| *context > 0)
    }

    /// Begins a load; `None` when the model is in memory.
    pub(in crate::serve::gate) fn put_in(
        &mut self,
        now: u64,
        name: &ModelName,
        context: Option<u64>,
    ) -> Option<u64> {
        let listed = self.node.model(name).cloned().unwrap_or_else(|| Model {
            name: name.clone(),
            id: name.as_str().to_owned(),
            ..Model::default()
        });
        let model = self.number(&listed);
        if self
            .queue
            .residents()
            .any(|resident| resident.model == model)
        {
            return None;
        }
        self.load += 1;
        self.affinity.forget(&model);
        let known = self.known_mut(model);
        let embeds = known.as_ref().is_some_and(|known| known.embeds);
        if let Some(known) = known {
            known.options = Some(crate::routing::window::RunnerOptions::default());
        }
        let context = context.map_or(0, |tokens| u32::try_from(tokens).unwrap_or(u32::MAX));
        self.queue.put_in(now, model, context, embeds);
        for waiter in self.waiters.values_mut() {
            waiter.loads |= waiter.model == model;
        }
        Some(self.load)
    }

    /// The load is done; what the node then holds of the model, where it tells.
    pub(in crate::serve::gate) fn put_in_done(
        &mut self,
        now: u64,
        number: u64,
        landed: Option<&LoadedModel>,
        load_ms: u64,
    ) {
        if !self.awaits(number) {
            return;
        }
        let wished = self.queue.loading().map_or(0, |load| load.context);
        let seen = landed.map(|landed| self.seen(now, landed));
        let (context, occupied) = seen.map_or((0, None), |seen| (seen.context, seen.occupied));
        if let Some(seen) = seen.filter(|seen| wished == 0 && seen.context > 0)
            && let Some(known) = self.known_mut(seen.model)
        {
            known.automatic = Some(seen.context);
        }
        self.queue.loaded(now, context, occupied, load_ms);
    }
}
