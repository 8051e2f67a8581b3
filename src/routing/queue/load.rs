//! When a model is loaded: at once, after a drain, or not yet.

use super::candidates::Candidate;
use super::room::Room;
use super::{Action, Loading, ModelId, NodeQueue, Switch, hold, quantum};

impl NodeQueue {
    /// Loads what is waited for, or closes what has to go for it.
    pub(super) fn plan_load(&mut self, now: u64, actions: &mut Vec<Action>) {
        if self.loading.is_some() || self.claimed {
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
        let in_use: Vec<(ModelId, u64)> = going
            .iter()
            .filter(|_| !candidate.lane.urgent())
            .filter_map(|model| Some((*model, self.in_use_until(now, *model)?)))
            .collect();
        let wanted: Vec<ModelId> = going
            .iter()
            .copied()
            .filter(|model| self.is_wanted(*model) || in_use.iter().any(|(used, _)| used == model))
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
            let pace = hold(
                self.fair.shares(),
                candidate.lane,
                self.load_ms(candidate.model),
            );
            if let Some(until) = self.had_its_way.get_mut(candidate.lane.index())
                && !wanted.is_empty()
            {
                *until = now + pace;
            }
            if self.all_idle(evict, candidate.model) {
                self.emit(now, candidate, evict, false, actions);
            } else {
                self.close(candidate, evict.to_vec());
            }
            return true;
        }
        let ends = in_use.iter().map(|(_, until)| *until).chain(rests);
        let next = ends.fold(close, u64::min);
        self.wake_at(next.max(now + 1));
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
    pub(super) fn is_wanted(&self, model: ModelId) -> bool {
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

    /// Until when somebody who uses a model interactively is likely to ask it again: for embeddings and batch work that is as good as a request.
    fn in_use_until(&self, now: u64, model: ModelId) -> Option<u64> {
        let used = self.models.resident(model)?.urgent_use?;
        let until = used.saturating_add(self.models.known(model)?.usual_rest());
        (now < until).then_some(until)
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
}
