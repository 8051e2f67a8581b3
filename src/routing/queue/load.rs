//! When a model is loaded, with which context, and what goes for it.

use std::collections::BTreeMap;

use super::models::{Known, Pin};
use super::{
    Action, LAST_RESORT_MS, Lane, Loading, ModelId, NodeQueue, Refused, Request, RequestId, Resident,
    Switch, hold, quantum,
};
use crate::routing::window::{self, ContextNeed, WindowPolicy};

/// A load that replaces a copy with too small a context takes at most this many times the context that was wished for.
const MOST_GROWTH: u32 = 4;
/// Loads that evicting a model in use is likely to cause: two models that throw out each other do so more than once.
const BACK_AND_FORTH: u64 = 4;
/// Beyond so many models that could go, sets are not compared any more: the least valuable go until there is room.
const COMPARED: usize = 8;

/// A model that is waited for and not in memory (or with too small a context).
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) model: ModelId,
    /// The request whose hold ends first.
    first: RequestId,
    /// When it ends.
    due: u64,
    need: ContextNeed,
    embeds: bool,
    /// That request's lane.
    lane: Lane,
    /// Since when it has been waited for.
    since: u64,
    /// Requests that wait for it.
    count: usize,
}

impl Candidate {
    /// A request by itself.
    fn of(now: u64, request: &Request) -> Self {
        Self {
            model: request.model,
            first: request.id,
            due: now,
            need: request.context,
            embeds: request.embeds,
            lane: request.lane,
            since: now,
            count: 1,
        }
    }
}

/// What it takes to have room for a load.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Room {
    /// These have to go; none: there is room.
    Evict(Vec<ModelId>),
    /// Main memory.
    OnCpu,
    /// Not before then, if nothing changes.
    Later(u64),
}

impl NodeQueue {
    /// Loads what is waited for, or closes what has to go for it.
    pub(super) fn plan_load(&mut self, now: u64, actions: &mut Vec<Action>) {
        if self.loading.is_some() {
            return;
        }
        self.refuse_impossible(actions);
        let mut candidates = self.candidates(now);
        if let Some(switch) = self.switch.clone() {
            if let Some(candidate) = candidates.iter().find(|c| c.model == switch.model) {
                let candidate = candidate.clone();
                let evict = self.still_enough(now, &candidate, switch.evict);
                if self.all_idle(&evict, candidate.model) {
                    self.emit(now, &candidate, &evict, false, actions);
                } else {
                    self.close(&candidate, evict);
                }
                return;
            }
            // Whoever waited for it has left: its victims take requests again.
            self.switch = None;
            self.start_all(now, actions);
            candidates = self.candidates(now);
        }
        for candidate in candidates {
            match self.room(now, &candidate) {
                Room::Evict(evict) => {
                    if self.try_switch(now, &candidate, &evict, actions) {
                        return;
                    }
                    // What is overdue must not be put off by the loads of others.
                    if now >= candidate.due {
                        return;
                    }
                }
                Room::OnCpu => {
                    if self.all_idle(&[], candidate.model) {
                        self.emit(now, &candidate, &[], true, actions);
                        return;
                    }
                }
                Room::Later(at) => self.wake_at(at.max(now + 1)),
            }
        }
    }

    /// Gives back the requests that do not fit beside the models that never go.
    fn refuse_impossible(&mut self, actions: &mut Vec<Action>) {
        let stays = |model: ModelId| self.models.pin(model) == Pin::Never;
        if !self
            .models
            .residents()
            .any(|resident| stays(resident.model))
        {
            return;
        }
        let mut refused = Vec::new();
        for waiting in &self.waiting {
            let request = &waiting.request;
            let (kept, count) = self
                .models
                .used(|model| model == request.model || !stays(model));
            if count == 0 || self.is_covered(request) {
                continue;
            }
            if !self.memory.holds(0, count + 1) {
                refused.push((request.id, Refused::NoPlace));
                continue;
            }
            let context = if request.context.exact {
                request.context.wish
            } else {
                request.context.floor
            };
            let known = self.models.known(request.model);
            let need = known.and_then(|known| known.bytes(context.min(known.end())));
            let (Some(need), Some(most)) = (need, self.memory.most_bytes()) else {
                continue;
            };
            let usable = most.saturating_sub(kept);
            if kept > 0 && need > usable {
                refused.push((request.id, Refused::NoRoom { need, usable }));
            }
        }
        for (id, why) in refused {
            self.cancelled(id);
            actions.push(Action::Refuse { id, why });
        }
    }

    /// The models that are waited for, the most urgent first.
    pub(super) fn candidates(&self, now: u64) -> Vec<Candidate> {
        let mut found: BTreeMap<ModelId, Candidate> = BTreeMap::new();
        for waiting in &self.waiting {
            let request = &waiting.request;
            if self.is_covered(request) {
                continue;
            }
            let load_ms = self.load_ms(request.model);
            let hold = hold(self.fair.shares(), request.lane, load_ms);
            // A lane that has just had its way against others waits as long again before the next time.
            let forced = self.forced_at.get(request.lane.index()).copied().flatten();
            let due = forced.map_or(waiting.arrived, |at| at.max(waiting.arrived)) + hold;
            let candidate = found.entry(request.model).or_insert_with(|| Candidate {
                model: request.model,
                first: request.id,
                due,
                need: request.context,
                embeds: request.embeds,
                lane: request.lane,
                since: waiting.arrived,
                count: 0,
            });
            candidate.count += 1;
            if due < candidate.due {
                candidate.due = due;
                candidate.first = request.id;
                candidate.lane = request.lane;
                if candidate.need.exact || request.context.exact {
                    candidate.need = request.context;
                }
            }
            if !candidate.need.exact && !request.context.exact {
                candidate.need.least = candidate.need.least.max(request.context.least);
                candidate.need.growth = candidate.need.growth.max(request.context.growth);
                candidate.need.floor = candidate.need.floor.max(request.context.floor);
                candidate.need.wish = candidate.need.wish.max(request.context.wish);
            }
        }
        let mut candidates: Vec<_> = found.into_values().collect();
        candidates.sort_by_key(|candidate| {
            let overdue = now >= candidate.due;
            // What nobody waits for goes in large batches first, as long as it is not overdue.
            let alone = if overdue || candidate.lane.urgent() {
                0
            } else {
                usize::MAX - candidate.count
            };
            (!overdue, alone, candidate.due, candidate.first)
        });
        candidates
    }

    /// Whether nothing works on these models nor on the one that is to be loaded.
    fn all_idle(&self, models: &[ModelId], loaded: ModelId) -> bool {
        models.iter().chain([&loaded]).all(|model| {
            self.models
                .resident(*model)
                .is_none_or(|resident| resident.active == 0)
        })
    }

    /// Switches now, or closes the victims, or waits. True when something was decided.
    fn try_switch(
        &mut self,
        now: u64,
        candidate: &Candidate,
        evict: &[ModelId],
        actions: &mut Vec<Action>,
    ) -> bool {
        let replaced = self.models.resident(candidate.model).is_some();
        // Requests for the copy that is there are served by the larger one as well: there is nothing to hold for.
        let only_grows = replaced && !candidate.need.exact;
        let mut going: Vec<ModelId> = evict.to_vec();
        if replaced && !only_grows {
            going.push(candidate.model);
        }
        let wanted: Vec<ModelId> = going
            .iter()
            .copied()
            .filter(|model| {
                self.is_wanted(*model) || (!candidate.lane.urgent() && self.is_in_use(now, *model))
            })
            .collect();
        let idle = wanted.is_empty() && self.all_idle(evict, candidate.model);
        let rests = going
            .iter()
            .filter_map(|model| self.returns_soon(now, *model, candidate.model))
            .chain(self.gathers(candidate).filter(|_| !going.is_empty()))
            .max()
            .filter(|until| now < *until && now < candidate.due);
        if idle && rests.is_none() {
            self.emit(now, candidate, evict, false, actions);
            return true;
        }
        let kept = wanted
            .iter()
            .filter_map(|model| self.models.resident(*model))
            .filter(|resident| resident.ours)
            .map(|resident| resident.since + quantum(self.load_ms(resident.model)))
            .max();
        let close = if going.is_empty() {
            now
        } else {
            candidate.due.max(kept.unwrap_or(0))
        };
        if now >= close {
            if self.all_idle(evict, candidate.model) {
                self.emit(now, candidate, evict, false, actions);
            } else {
                self.close(candidate, evict.to_vec());
            }
            return true;
        }
        self.wake_at(rests.map_or(close, |until| until.min(close)));
        false
    }

    /// From now on nothing starts on these models, nor on the one that they go for.
    fn close(&mut self, candidate: &Candidate, evict: Vec<ModelId>) {
        self.switch = Some(Switch {
            model: candidate.model,
            evict,
        });
    }

    /// The victims of a decided switch, and more where requests that joined it meanwhile need more room.
    fn still_enough(
        &self,
        now: u64,
        candidate: &Candidate,
        mut evict: Vec<ModelId>,
    ) -> Vec<ModelId> {
        evict.retain(|model| self.models.resident(*model).is_some());
        let goes = |model: ModelId| model == candidate.model || evict.contains(&model);
        let (used, count) = self.models.used(goes);
        let rest = self
            .memory
            .most_bytes()
            .map(|most| most.saturating_sub(used));
        let context = self.wished(candidate, rest);
        let need = self.models.bytes(candidate.model, context).unwrap_or(0);
        if !self.memory.holds(used.saturating_add(need), count + 1)
            && let Room::Evict(more) = self.room(now, candidate)
        {
            evict.extend(
                more.into_iter()
                    .filter(|model| !goes(*model))
                    .collect::<Vec<_>>(),
            );
        }
        evict
    }

    /// Whether a model has requests that it works on or could work on.
    fn is_wanted(&self, model: ModelId) -> bool {
        self.models
            .resident(model)
            .is_some_and(|resident| resident.active > 0)
            || self
                .waiting
                .iter()
                .any(|waiting| waiting.request.model == model && self.is_served(&waiting.request))
    }

    /// Until when embeddings and batch work wait for others of their kind before they make a model go, while the node has other work.
    fn gathers(&self, candidate: &Candidate) -> Option<u64> {
        let window = quantum(self.load_ms(candidate.model));
        (!candidate.lane.urgent() && !self.active.is_empty()).then_some(candidate.since + window)
    }

    /// Whether somebody who uses a model interactively is likely to ask it again: for embeddings and batch work that is as good as a request.
    fn is_in_use(&self, now: u64, model: ModelId) -> bool {
        let used = self
            .models
            .resident(model)
            .and_then(|resident| resident.urgent_use);
        used.zip(self.models.known(model))
            .is_some_and(|(used, known)| known.likely(now.saturating_sub(used)) >= 1000)
    }

    /// Until when an idle model's next request is expected, if waiting for it costs less than the loads of a switch there and back.
    fn returns_soon(&self, now: u64, model: ModelId, instead: ModelId) -> Option<u64> {
        let known = self.models.known(model)?;
        let (gap, since) = (known.gap_ms?, known.idle_since?);
        let loads = self.models.load_ms(model) + self.models.load_ms(instead);
        // Twice the usual gap: half of all requests come later than usual.
        let until = since.saturating_add(gap.saturating_mul(2));
        (gap.saturating_mul(2) < loads && now < until).then_some(until)
    }

    /// What has to go so that the candidate fits with the least context that will do.
    fn room(&self, now: u64, candidate: &Candidate) -> Room {
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

    /// The context that a candidate wishes for, as far as it fits into so many bytes; at least what it needs.
    fn wished(&self, candidate: &Candidate, rest: Option<u64>) -> u32 {
        let Some(known) = self.models.known(candidate.model) else {
            return candidate.need.wish;
        };
        let fits = rest.and_then(|rest| known.largest_context(rest));
        let largest = fits.unwrap_or(u32::MAX).min(known.end());
        let floor = candidate.need.floor.min(known.end());
        candidate.need.wish.min(largest).max(floor)
    }

    /// The same as a load takes it: rounded up to the ladder where that fits as well.
    fn least_context(&self, candidate: &Candidate, rest: Option<u64>) -> u32 {
        let need = ContextNeed {
            wish: self.wished(candidate, rest),
            ..candidate.need
        };
        let largest = self.models.known(candidate.model).map(|known| {
            let fits = rest.and_then(|rest| known.largest_context(rest));
            fits.unwrap_or(u32::MAX).min(known.end())
        });
        window::load_context(self.settings.policy, need, largest)
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
        load.saturating_mul(known.likely(idle)) / (1000 + known.usual_gap() + idle)
    }

    /// Tells the driver to load.
    fn emit(
        &mut self,
        now: u64,
        candidate: &Candidate,
        evict: &[ModelId],
        on_cpu: bool,
        actions: &mut Vec<Action>,
    ) {
        let model = candidate.model;
        if now >= candidate.due
            && let Some(forced) = self.forced_at.get_mut(candidate.lane.index())
        {
            *forced = Some(now);
        }
        let replaced = self.models.resident(model).is_some();
        for gone in evict.iter().copied().chain(replaced.then_some(model)) {
            self.models.evict(now, gone);
        }
        let (used, _) = self.models.used(|_| false);
        let room = self
            .memory
            .most_bytes()
            .map(|most| most.saturating_sub(used));
        let context = self.load_context(now, candidate, room, replaced, on_cpu);
        let need = self.models.bytes(model, context).unwrap_or(0);
        let bytes = if on_cpu {
            0
        } else {
            room.map_or(need, |room| need.min(room))
        };
        self.loading = Some(Loading {
            model,
            context,
            bytes,
            on_cpu,
            embeds: candidate.embeds,
            since: now,
            beside: self.models.residents().map(|r| r.model).collect(),
            first: candidate.first,
        });
        self.switch = None;
        actions.push(Action::Load {
            model,
            context,
            evict: evict.to_vec(),
            on_cpu,
            first: candidate.first,
        });
    }

    /// The context of a load: what is needed, and more where there is room to spare.
    fn load_context(
        &self,
        now: u64,
        candidate: &Candidate,
        room: Option<u64>,
        replaced: bool,
        on_cpu: bool,
    ) -> u32 {
        let base = self.least_context(candidate, room);
        let Some(known) = self.models.known(candidate.model) else {
            return base;
        };
        let grows = self.settings.policy == WindowPolicy::RaiseOnly
            && !candidate.need.exact
            && !candidate.embeds
            && !on_cpu
            && base > 0;
        let (Some(room), Some(needed), true) = (room, known.bytes(base), grows) else {
            return base;
        };
        let Some(spare) = room.checked_sub(needed) else {
            return base;
        };
        let peak = known.peak(now);
        let wished = peak.min(known.end());
        if wished > base && known.bytes(wished).is_some_and(|bytes| bytes <= room) {
            // It was wished for before.
            return grow(known, base, window::bucket(wished).max(wished), room).max(wished);
        }
        let spare = spare - self.reserved(now, candidate.model, spare);
        let budget = if replaced { spare } else { spare / 2 };
        let times = if replaced {
            MOST_GROWTH
        } else {
            candidate.need.growth
        };
        grow(
            known,
            base,
            base.saturating_mul(times),
            needed.saturating_add(budget),
        )
    }

    /// Bytes to leave for models that were used lately and would fit beside the one that is loaded.
    fn reserved(&self, now: u64, model: ModelId, spare: u64) -> u64 {
        let mut left = spare;
        for (id, known) in self.models.missed(now) {
            let need = known.bytes(known.peak(now)).unwrap_or(0);
            if id != model && need <= left {
                left -= need;
            }
        }
        spare - left
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

/// The largest step of the ladder (or its end) up to `most` with which a model takes at most `room` bytes; at least `base`.
fn grow(known: &Known, base: u32, most: u32, room: u64) -> u32 {
    let end = known.end();
    let mut context = base;
    loop {
        let next = window::bucket(context.saturating_add(1)).min(end);
        let fits = known.bytes(next).is_some_and(|bytes| bytes <= room);
        if next <= context || next > most || !fits {
            return context;
        }
        context = next;
    }
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
        let (rest, _) = self.models.used(|model| {
            model == request.model || self.models.pin(model) != Pin::Never
        });
        let most = self.memory.most_bytes().map(|most| most.saturating_sub(rest));
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
                let times = if likely >= 1000 { BACK_AND_FORTH } else { 1 };
                self.models
                    .load_ms(resident.model)
                    .saturating_mul(likely * times)
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
