//! How long a request would wait at this node, for the decision between nodes.

use std::sync::Arc;

use super::{NodeQueue, Request, Residency};

/// What sending a request to this node would mean.
#[expect(
    clippy::struct_excessive_bools,
    reason = "four independent answers to four questions"
)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Forecast {
    /// Milliseconds until a slot is free, loads of other models included; `None` when somebody's work before it is unknown.
    pub wait_ms: Option<u64>,
    /// Whether its model has to be loaded first, or loaded again with more context.
    pub needs_load: bool,
    /// Milliseconds of that load, where one was measured here.
    pub load_ms: Option<u64>,
    /// Expected milliseconds of later reloads of what is evicted for it: what it costs others.
    pub evicts_ms: u64,
    /// Whether the model does not fit, so that a part of it would lie in main memory.
    pub splits: bool,
    /// Whether it would be loaded with less context than its client asked for.
    pub short: bool,
    /// Whether the node can take it at all.
    pub possible: bool,
}

impl NodeQueue {
    /// What sending a request here now would mean. It remembers the model's footprint, nothing else.
    pub fn forecast(&mut self, now: u64, request: &Request) -> Forecast {
        self.models.know(request.model).footprint = Arc::clone(&request.footprint);
        let full = self.waiting.len() >= self.settings.queue as usize;
        if self.is_served(request) || self.content(now, request) {
            return Forecast {
                wait_ms: self.slot_wait(now, request),
                possible: !full,
                ..Forecast::default()
            };
        }
        let loading = self.loading.as_ref();
        if let Some(loading) = loading.filter(|loading| {
            loading.model == request.model
                && (loading.context == 0 || request.context.covered_by(loading.context))
        }) {
            let rest = self
                .load_ms(loading.model)
                .map(|load| load.saturating_sub(now.saturating_sub(loading.since)));
            return Forecast {
                wait_ms: rest.zip(self.slot_wait(now, request)).map(|(a, b)| a + b),
                possible: !full,
                ..Forecast::default()
            };
        }
        let mut cost = self.cost_of_load(now, request);
        let joins = self.waiting.iter().any(|waiting| {
            waiting.request.model == request.model && !self.is_covered(&waiting.request)
        });
        if joins {
            // What goes for it goes anyway.
            cost.reload_ms = 0;
        }
        Forecast {
            wait_ms: self
                .switch_wait(now, cost.busy)
                .map(|wait| wait.saturating_add(cost.later_ms)),
            needs_load: true,
            load_ms: self.load_ms(request.model),
            evicts_ms: cost.reload_ms,
            splits: cost.splits,
            short: request.context.short,
            possible: !full,
        }
    }

    /// Until a slot of the request's model is free for it.
    fn slot_wait(&self, now: u64, request: &Request) -> Option<u64> {
        let same = |model| self.settings.residency == Residency::Fixed || model == request.model;
        let before: Vec<_> = self
            .waiting
            .iter()
            .filter(|w| same(w.request.model) && w.request.lane <= request.lane)
            .collect();
        let working = self.active.values().filter(|active| same(active.model));
        let count = before.len() + working.clone().count();
        let unlimited =
            self.settings.residency == Residency::Fixed && self.settings.slots.is_none();
        let slots = self.slots.limit();
        if unlimited || count < slots as usize {
            return Some(0);
        }
        let mut work: u64 = 0;
        for waiting in before {
            work = work.saturating_add(waiting.request.work_ms?);
        }
        for active in working {
            let done = now.saturating_sub(active.started);
            work = work.saturating_add(active.work_ms?.saturating_sub(done));
        }
        Some(work / u64::from(slots.max(1)))
    }

    /// Until a load for it may begin: the load under way, the models that are waited for already, and what has to be finished first.
    fn switch_wait(&self, now: u64, busy: bool) -> Option<u64> {
        let mut wait: u64 = 0;
        if let Some(loading) = &self.loading {
            let load = self.load_ms(loading.model)?;
            wait += load.saturating_sub(now.saturating_sub(loading.since));
        }
        for candidate in self.candidates(now) {
            let loading = self
                .loading
                .as_ref()
                .is_some_and(|l| l.model == candidate.model);
            if !loading {
                wait += self.load_ms(candidate.model)?;
            }
        }
        if busy {
            let mut rest: u64 = 0;
            for active in self.active.values() {
                let done = now.saturating_sub(active.started);
                rest = rest.max(active.work_ms?.saturating_sub(done));
            }
            wait = wait.saturating_add(rest);
        }
        Some(wait)
    }
}
