//! What happens to a node, as the queue is told.

use std::sync::Arc;

use super::models::Pin;
use super::{
    Action, Active, Footprint, ModelId, NodeQueue, Occupied, QueueFull, Refused, Request,
    RequestId, Resident, Seen, Settings, Waiting,
};

impl NodeQueue {
    /// A request wants to start.
    pub fn arrive(&mut self, now: u64, mut request: Request) -> Result<(), QueueFull> {
        if self.waiting.len() >= self.settings.queue as usize {
            return Err(QueueFull);
        }
        self.models.arrived(now, &request);
        // What the node does not give cannot be waited for.
        if let Some(ceiling) = self.models.know(request.model).ceiling {
            request.context.floor = request.context.floor.min(ceiling);
            request.context.wish = request.context.wish.min(ceiling);
            request.context.least = request.context.least.min(ceiling);
        }
        if self.content(now, &request) {
            request.context.floor = request.context.least;
            request.context.short = true;
        }
        self.waiting.push(Waiting {
            request,
            arrived: now,
        });
        Ok(())
    }

    /// The client of a waiting request has left. True when the request was waiting; one that was started ends with
    /// [`NodeQueue::finished`].
    pub fn cancelled(&mut self, id: RequestId) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| waiting.request.id != id);
        if self.first == Some(id) {
            self.first = None;
        }
        self.waiting.len() < before
    }

    /// The first piece of a request's answer came: its prompt has been read, and others no longer yield to it.
    pub fn answering(&mut self, id: RequestId) {
        if let Some(active) = self.active.get_mut(&id) {
            active.answering = true;
        }
    }

    /// A request that was started is over, whatever came of it. `waited_ms` is how long it waited inside the node before it was worked on
    /// (Ollama: total less load, prompt and answer), where the answer told: that is how unknown slots are learned.
    pub fn finished(&mut self, now: u64, id: RequestId, waited_ms: Option<u64>) {
        let Some(active) = self.active.remove(&id) else {
            return;
        };
        self.slots.learn(
            active.together,
            waited_ms,
            now.saturating_sub(active.started),
        );
        self.fair.worked(active.lane, active.started, now);
        let mut idle = false;
        if let Some(resident) = self.models.resident_mut(active.model) {
            resident.active = resident.active.saturating_sub(1);
            resident.last_use = resident.last_use.max(now);
            // The node counts its own time anew from here; the next look tells.
            resident.expires_at = None;
            if active.lane.urgent() {
                resident.urgent_use = Some(now);
            }
            idle = resident.active == 0;
        }
        let asked_for = self
            .waiting
            .iter()
            .any(|waiting| waiting.request.model == active.model);
        if idle && !asked_for {
            self.models.know(active.model).idle_since = Some(now);
        }
    }

    /// The load is done: with this context (as the node shows it; 0 when it does not), so much memory (`None`: as estimated) and after so
    /// many milliseconds.
    pub fn loaded(&mut self, now: u64, context: u32, occupied: Option<Occupied>, load_ms: u64) {
        let Some(loading) = self.loading.take() else {
            return;
        };
        let context = if context == 0 {
            loading.context
        } else {
            context
        };
        let known = self.models.know(loading.model);
        known.load_ms = Some(load_ms);
        known.changed_at = Some(now);
        if context > 0 && context < loading.context {
            known.ceiling = Some(context);
            let ceiling = context;
            for waiting in &mut self.waiting {
                if waiting.request.model == loading.model {
                    let need = &mut waiting.request.context;
                    need.floor = need.floor.min(ceiling);
                    need.wish = need.wish.min(ceiling);
                    need.least = need.least.min(ceiling);
                }
            }
        }
        if let Some(whole) = occupied.filter(|occupied| occupied.whole && !loading.on_cpu) {
            known.seen = Some((context, whole.bytes));
        }
        let bytes = if loading.on_cpu {
            0
        } else {
            occupied.map_or(loading.bytes, |occupied| occupied.bytes)
        };
        self.models.insert(Resident {
            model: loading.model,
            context,
            bytes,
            on_cpu: loading.on_cpu,
            active: 0,
            ours: true,
            embeds: loading.embeds,
            since: now,
            last_use: now,
            expires_at: None,
            urgent_use: None,
        });
        let (used, count) = self.models.used(|_| false);
        self.memory.seen(used, count);
        self.first = Some(loading.first);
    }

    /// The load did not work; `out_of_memory` when the node said that it lacks memory. Whoever waited for it is given back: another node
    /// may do better.
    pub fn load_failed(&mut self, out_of_memory: bool) -> Vec<Action> {
        let Some(loading) = self.loading.take() else {
            return Vec::new();
        };
        if out_of_memory {
            let (used, count) = self.models.used(|_| false);
            self.memory
                .overflowed(used.saturating_add(loading.bytes), count.max(1));
        }
        self.refuse_all(loading.model, Refused::LoadFailed)
    }

    /// Gives back every waiting request for a model.
    pub(super) fn refuse_all(&mut self, model: ModelId, why: Refused) -> Vec<Action> {
        let refused: Vec<Action> = self
            .waiting
            .iter()
            .filter(|waiting| waiting.request.model == model)
            .map(|waiting| Action::Refuse {
                id: waiting.request.id,
                why,
            })
            .collect();
        self.waiting
            .retain(|waiting| waiting.request.model != model);
        refused
    }

    /// What a look at the node found, begun at `as_of`: what was changed here since then is known better here. A look after a load, told
    /// before [`NodeQueue::loaded`], shows what the node threw out for it by itself.
    pub fn observed(&mut self, now: u64, as_of: u64, seen: &[Seen]) {
        let stale = |queue: &Self, model: ModelId| {
            queue
                .models
                .known(model)
                .and_then(|known| known.changed_at)
                .is_some_and(|changed| changed >= as_of)
        };
        let gone: Vec<ModelId> = self
            .models
            .residents()
            .filter(|resident| {
                resident.active == 0
                    && !stale(self, resident.model)
                    && !seen.iter().any(|seen| seen.model == resident.model)
            })
            .map(|resident| resident.model)
            .collect();
        for model in gone {
            self.lost(now, model);
        }
        for found in seen {
            if stale(self, found.model) || self.is_loading(found.model) {
                continue;
            }
            self.found(now, as_of, found);
        }
        let (used, count) = self.models.used(|_| false);
        self.memory.seen(used, count);
    }

    /// A model is no longer in memory, by somebody else's doing. While a load is under way that was the node itself making room.
    fn lost(&mut self, now: u64, model: ModelId) {
        let lost = self.models.resident(model).map_or(0, |lost| lost.bytes);
        let expired = self
            .models
            .resident(model)
            .and_then(|lost| lost.expires_at)
            .is_some_and(|at| at <= now);
        self.models.lose(model);
        if let Some(loading) = &self.loading
            && !expired
            && loading.beside.contains(&model)
        {
            let (used, count) = self.models.used(|_| false);
            let all = used.saturating_add(lost).saturating_add(loading.bytes);
            self.memory.overflowed(all, count + 1);
        }
    }

    fn is_loading(&self, model: ModelId) -> bool {
        self.loading
            .as_ref()
            .is_some_and(|loading| loading.model == model)
    }

    fn found(&mut self, now: u64, as_of: u64, found: &Seen) {
        let known = self.models.know(found.model);
        if let Some(whole) = found.occupied.filter(|o| o.whole && o.bytes > 0) {
            known.seen = Some((found.context, whole.bytes));
        }
        let bytes = found
            .occupied
            .map(|occupied| occupied.bytes)
            .or_else(|| known.bytes(found.context));
        if let Some(resident) = self.models.resident_mut(found.model) {
            let unused = resident.active == 0 && resident.last_use < as_of;
            resident.expires_at = found.expires_at.filter(|_| unused);
            if found.context > 0 {
                resident.context = found.context;
            }
            if let Some(bytes) = bytes {
                resident.bytes = bytes;
            }
            return;
        }
        self.models.insert(Resident {
            model: found.model,
            context: found.context,
            bytes: bytes.unwrap_or(0),
            on_cpu: false,
            active: 0,
            ours: false,
            embeds: found.embeds,
            since: now,
            last_use: now,
            expires_at: found.expires_at,
            urgent_use: None,
        });
    }

    /// The node was started anew or cannot be reached: nothing is in memory, and a load that was under way is no longer waited for.
    /// Requests that wait go on waiting; those that were started end with [`NodeQueue::finished`].
    pub fn restarted(&mut self) {
        self.models.clear();
        self.loading = None;
        self.switch = None;
        self.first = None;
    }

    /// How a model is pinned from now on.
    pub fn pin(&mut self, model: ModelId, pin: Pin) {
        self.models.know(model).pin = pin;
    }

    /// More is known of a model's size.
    pub fn describe(&mut self, model: ModelId, footprint: Arc<Footprint>) {
        for waiting in &mut self.waiting {
            if waiting.request.model == model {
                waiting.request.footprint = Arc::clone(&footprint);
            }
        }
        self.models.know(model).footprint = footprint;
    }

    /// The settings have changed, or more is known of the node. What waits and what runs stays.
    pub fn tell(&mut self, settings: Settings) {
        self.memory.tell(settings.capacity, settings.most_models);
        self.slots.tell(settings.slots);
        if settings.shares != self.settings.shares {
            self.fair = super::fair::Fair::new(settings.shares);
        }
        self.settings = settings;
    }

    /// Takes a waiting request out of the queue to start it.
    pub(super) fn begin(&mut self, now: u64, index: usize) -> Action {
        let Waiting { request, .. } = self.waiting.remove(index);
        let mut context = 0;
        let mut together = u32::try_from(self.active.len())
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        if let Some(resident) = self.models.resident_mut(request.model) {
            resident.active += 1;
            resident.last_use = resident.last_use.max(now);
            if request.lane.urgent() {
                resident.urgent_use = Some(now);
            }
            context = resident.context;
            if self.settings.residency == super::Residency::Managed {
                together = resident.active;
            }
        }
        self.fair.started(
            request.lane,
            request.client,
            request.work_ms.unwrap_or(UNKNOWN_WORK_MS),
        );
        self.active.insert(
            request.id,
            Active {
                model: request.model,
                lane: request.lane,
                started: now,
                together,
                answering: false,
                work_ms: request.work_ms,
            },
        );
        Action::Start {
            id: request.id,
            context,
        }
    }
}

/// Work of a request of which nothing was measured, for fairness: all such requests count the same.
const UNKNOWN_WORK_MS: u64 = 1000;
