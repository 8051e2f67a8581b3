//! What has to go for a load, and what that costs.

use super::candidates::Candidate;
use super::models::Pin;
use super::{LAST_RESORT_MS, ModelId, NodeQueue, Request, Resident};

/// Loads that evicting a model in use is likely to cause: two models that throw out each other do so more than once.
const BACK_AND_FORTH: u64 = 4;
/// Beyond so many models that could go, sets are not compared any more: the least valuable go until there is room.
const COMPARED: usize = 8;

/// What it takes to have room for a load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Room {
    /// These have to go; none: there is room.
    Evict(Vec<ModelId>),
    /// Main memory.
    OnCpu,
    /// Not before then, if nothing changes.
    Later(u64),
}

impl NodeQueue {
    /// What has to go so that the candidate fits with the least context that will do.
    pub(super) fn room(&self, now: u64, candidate: &Candidate) -> Room {
        let may_go: Vec<&Resident> = self
            .models
            .residents()
            .filter(|resident| resident.model != candidate.model)
            .filter(|resident| self.models.pin(resident.model) != Pin::Never)
            .collect();
        let kept = |model: ModelId| !may_go.iter().any(|resident| resident.model == model);
        let (kept_bytes, _) = self
            .models
            .used(|model| !kept(model) || model == candidate.model);
        let rest = self
            .memory
            .most_bytes()
            .map(|most| most.saturating_sub(kept_bytes));
        let context = self.wished(candidate, rest);
        let need = self.models.bytes(candidate.model, context).unwrap_or(0);
        let embeds_only = candidate.embeds;
        let (allowed, spared): (Vec<&Resident>, Vec<&Resident>) = may_go
            .iter()
            .partition(|resident| !embeds_only || resident.embeds);
        if let Some(evict) = self.cheapest(now, candidate.model, need, &allowed) {
            return Room::Evict(evict);
        }
        if !spared.is_empty() {
            return self.room_for_embeddings(now, candidate, need, &may_go, &spared);
        }
        // Larger than the node: it gets all that can be had, and the node puts the rest into main memory.
        Room::Evict(in_the_way(&may_go))
    }

    /// Embeddings evict no other kind: main memory, or what has long been idle, after a long wait.
    fn room_for_embeddings(
        &self,
        now: u64,
        candidate: &Candidate,
        need: u64,
        may_go: &[&Resident],
        spared: &[&Resident],
    ) -> Room {
        let count_left = self
            .memory
            .most_models()
            .is_none_or(|most| self.models.used(|model| model == candidate.model).1 < most);
        if self.settings.cpu_loads && count_left {
            return Room::OnCpu;
        }
        let busy = spared
            .iter()
            .map(|resident| {
                if self.is_wanted(resident.model) {
                    now
                } else {
                    resident.last_use
                }
            })
            .max()
            .unwrap_or(0);
        let at = busy.max(candidate.since) + LAST_RESORT_MS;
        // A chat that never rests for so long must not starve it either.
        let at = at.min(candidate.due.max(candidate.since + LAST_RESORT_MS));
        if now < at {
            return Room::Later(at);
        }
        match self.cheapest(now, candidate.model, need, may_go) {
            Some(evict) => Room::Evict(evict),
            None => Room::Evict(in_the_way(may_go)),
        }
    }

    /// A request that the loaded copy is enough for, although its client asked for more, takes what is there when more would cost another model
    /// its place.
    pub(super) fn content(&self, now: u64, request: &Request) -> bool {
        let need = request.context;
        let Some(resident) = self.models.resident(request.model) else {
            return false;
        };
        if need.exact || resident.context < need.least || self.is_covered(request) {
            return false;
        }
        let candidate = Candidate::of(now, request);
        !matches!(self.room(now, &candidate), Room::Evict(evict) if evict.is_empty())
    }

    /// The set of models whose going costs least and makes room for `need` bytes; `None` when all together do not.
    fn cheapest(
        &self,
        now: u64,
        model: ModelId,
        need: u64,
        allowed: &[&Resident],
    ) -> Option<Vec<ModelId>> {
        let holds = |going: &[ModelId]| {
            let (used, count) = self
                .models
                .used(|other| other == model || going.contains(&other));
            self.memory.holds(used.saturating_add(need), count + 1)
        };
        if holds(&[]) {
            return Some(Vec::new());
        }
        let mut priced: Vec<(ModelId, u64, bool)> = allowed
            .iter()
            .map(|resident| {
                let last = self.models.pin(resident.model) == Pin::Last;
                (resident.model, self.value(now, resident), last)
            })
            .collect();
        priced.sort_by_key(|(id, value, last)| (*last, *value, *id));
        if priced.len() > COMPARED {
            let mut going = Vec::new();
            for (id, ..) in priced {
                going.push(id);
                if holds(&going) {
                    return Some(going);
                }
            }
            return None;
        }
        let mut best: Option<((usize, u64, usize), Vec<ModelId>)> = None;
        for set in 1_u32..1 << priced.len() {
            let chosen = priced
                .iter()
                .enumerate()
                .filter(|(index, _)| set & (1 << index) != 0)
                .map(|(_, priced)| priced);
            let going: Vec<ModelId> = chosen.clone().map(|(id, ..)| *id).collect();
            let lasts = chosen.clone().filter(|(.., last)| *last).count();
            let value = chosen.fold(0_u64, |sum, (_, value, _)| sum.saturating_add(*value));
            let key = (lasts, value, going.len());
            if best.as_ref().is_none_or(|(least, _)| key < *least) && holds(&going) {
                best = Some((key, going));
            }
        }
        best.map(|(_, going)| going)
    }

    /// What it would cost to lose a model: milliseconds of a reload for each second until it is likely to be wanted again.
    fn value(&self, now: u64, resident: &Resident) -> u64 {
        let load = self.models.load_ms(resident.model).saturating_mul(1000);
        if self.is_wanted(resident.model) {
            return load;
        }
        let idle = now.saturating_sub(resident.last_use);
        let Some(known) = self.models.known(resident.model) else {
            return load / (1000 + idle);
        };
        load.saturating_mul(known.likely(idle)) / (1000 + known.usual_rest() + idle)
    }
}

/// Those that take GPU memory.
fn in_the_way(models: &[&Resident]) -> Vec<ModelId> {
    models
        .iter()
        .filter(|resident| resident.bytes > 0)
        .map(|resident| resident.model)
        .collect()
}

/// What `super::forecast` needs to know of the victims of a load.
pub(super) struct Cost {
    /// Expected milliseconds of reloads later on.
    pub(super) reload_ms: u64,
    /// Whether a victim is at work or wanted.
    pub(super) busy: bool,
    /// Milliseconds until there may be room at all.
    pub(super) later_ms: u64,
    /// Whether a part of the model would lie in main memory.
    pub(super) splits: bool,
}

impl NodeQueue {
    /// What a load of a model for a request would cost the others.
    pub(super) fn cost_of_load(&self, now: u64, request: &Request) -> Cost {
        let candidate = Candidate::of(now, request);
        let (evict, later_ms) = match self.room(now, &candidate) {
            Room::Evict(evict) => (evict, 0),
            Room::OnCpu => (Vec::new(), 0),
            Room::Later(at) => (Vec::new(), at.saturating_sub(now)),
        };
        let (rest, _) = self
            .models
            .used(|model| model == request.model || self.models.pin(model) != Pin::Never);
        let most = self
            .memory
            .most_bytes()
            .map(|most| most.saturating_sub(rest));
        let context = self.wished(&candidate, most);
        let need = self.models.bytes(request.model, context);
        let splits = need.zip(most).is_some_and(|(need, most)| need > most);
        let replaced = self
            .models
            .resident(request.model)
            .is_some_and(|resident| resident.active > 0);
        let busy = replaced || evict.iter().any(|model| self.is_wanted(*model));
        let reload_ms = evict
            .iter()
            .filter_map(|model| self.models.resident(*model))
            .map(|resident| {
                let idle = now.saturating_sub(resident.last_use);
                let likely = if self.is_wanted(resident.model) {
                    1000
                } else {
                    let known = self.models.known(resident.model);
                    known.map_or(1000, |known| known.likely(idle))
                };
                // One in use comes back and throws out in turn what came for it.
                let thousandths = likely + (BACK_AND_FORTH - 1) * likely * likely / 1000;
                // A load of less than a millisecond is a load all the same.
                self.models
                    .load_ms(resident.model)
                    .max(1)
                    .saturating_mul(thousandths)
                    / 1000
            })
            .fold(0, u64::saturating_add);
        Cost {
            reload_ms,
            busy,
            later_ms,
            splits,
        }
    }
}
