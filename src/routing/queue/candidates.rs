//! The models that are waited for, and in which order they are loaded.

use std::collections::BTreeMap;

use super::models::Pin;
use super::{Action, Lane, ModelId, NodeQueue, Refused, Request, RequestId, hold};
use crate::routing::window::ContextNeed;

/// A model that is waited for and not in memory (or with too small a context).
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) model: ModelId,
    /// The request that may make others go first.
    pub(super) first: RequestId,
    /// From when on it may.
    pub(super) due: u64,
    /// When its hold ends or ended, whatever its lane got lately: the order of those that are overdue.
    hold_ends: u64,
    pub(super) need: ContextNeed,
    pub(super) embeds: bool,
    /// That request's lane.
    pub(super) lane: Lane,
    /// Since when it has been waited for.
    pub(super) since: u64,
    /// Requests that wait for it.
    count: usize,
}

impl Candidate {
    /// A request by itself.
    pub(super) fn of(now: u64, request: &Request) -> Self {
        Self {
            model: request.model,
            first: request.id,
            due: now,
            hold_ends: now,
            need: request.context,
            embeds: request.embeds,
            lane: request.lane,
            since: now,
            count: 1,
        }
    }
}

impl NodeQueue {
    /// The models that are waited for, the most urgent first.
    pub(super) fn candidates(&self, now: u64) -> Vec<Candidate> {
        let mut found: BTreeMap<ModelId, Candidate> = BTreeMap::new();
        for waiting in &self.waiting {
            let request = &waiting.request;
            if self.is_covered(request) {
                continue;
            }
            let load_ms = self.load_ms(request.model);
            let hold_ends = waiting.arrived + hold(self.fair.shares(), request.lane, load_ms);
            let had_its_way = self.had_its_way.get(request.lane.index()).copied();
            let due = hold_ends.max(had_its_way.unwrap_or(0));
            let candidate = found.entry(request.model).or_insert_with(|| Candidate {
                due,
                hold_ends,
                since: waiting.arrived,
                count: 0,
                ..Candidate::of(now, request)
            });
            candidate.count += 1;
            if (due, hold_ends) < (candidate.due, candidate.hold_ends) {
                candidate.due = due;
                candidate.hold_ends = hold_ends;
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
            (!overdue, alone, candidate.hold_ends, candidate.first)
        });
        candidates
    }

    /// Gives back the requests that do not fit beside the models that never go.
    pub(super) fn refuse_impossible(&mut self, actions: &mut Vec<Action>) {
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
}
