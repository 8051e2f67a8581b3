//! Changes of what is in memory that no request asked for: whoever keeps models where they should be takes the node's one load for himself.

use super::{Loading, ModelId, NodeQueue, RequestId};

/// What stands for the request of a load that none asked for.
const NOBODY: RequestId = RequestId(u64::MAX);

impl NodeQueue {
    /// Somebody wants to load or unload models himself. From now on no load begins for requests; those for what is in memory flow. True when
    /// he may begin; while a load is under way he has to wait for its end. Ends with [`NodeQueue::give_back`].
    pub fn claim(&mut self) -> bool {
        self.claimed = true;
        self.loading.is_none()
    }

    /// He is done: loads for requests begin again.
    pub fn give_back(&mut self) {
        self.claimed = false;
    }

    /// Whether a model has requests that it works on or that wait for it, or is being loaded.
    pub fn at_work(&self, model: ModelId) -> bool {
        let loading = self
            .loading
            .as_ref()
            .is_some_and(|loading| loading.model == model);
        loading
            || self.active.values().any(|active| active.model == model)
            || self
                .waiting
                .iter()
                .any(|waiting| waiting.request.model == model)
    }

    /// The claimant takes a model out of memory: from now on nothing starts on it. False, and nothing has changed, when it is at work.
    pub fn take_out(&mut self, now: u64, model: ModelId) -> bool {
        if self.at_work(model) {
            return false;
        }
        self.models.evict(now, model);
        true
    }

    /// The claimant begins to load a model; requests for it wait for the end, which is told by [`NodeQueue::loaded`] or
    /// [`NodeQueue::load_failed`]. A copy that is there is to be taken out before.
    pub fn put_in(&mut self, now: u64, model: ModelId, context: u32, embeds: bool) {
        let bytes = self.models.bytes(model, context).unwrap_or(0);
        self.loading = Some(Loading {
            model,
            context,
            bytes,
            on_cpu: false,
            embeds,
            since: now,
            beside: self.models.residents().map(|r| r.model).collect(),
            first: NOBODY,
        });
    }

    /// Bytes that the load under way takes of the node's memory, as far as is known.
    pub fn loading_bytes(&self) -> Option<u64> {
        self.loading
            .as_ref()
            .map(|loading| loading.bytes)
            .filter(|bytes| *bytes > 0)
    }
}
