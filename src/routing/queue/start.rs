//! Which waiting request starts next.

use super::{Action, Lane, NodeQueue, Request, RequestId, Residency, YIELD_MS};
use super::{KEEP_ONLY_SLOT_MS, KEEP_SLOT_MS};

/// A prompt that has not been answered for this long counts as read: the driver may not be able to tell.
const LONGEST_READING_MS: u64 = 30_000;

impl NodeQueue {
    /// Starts whatever may start.
    pub(super) fn start_all(&mut self, now: u64, actions: &mut Vec<Action>) {
        for lane in Lane::ALL {
            if !self.waiting.iter().any(|w| w.request.lane == lane) {
                self.fair.rests(lane);
            }
        }
        while let Some(index) = self.next_start(now) {
            let action = self.begin(now, index);
            actions.push(action);
        }
    }

    fn next_start(&mut self, now: u64) -> Option<usize> {
        if let Some(first) = self.first {
            let index = self.position(first);
            self.first = None;
            // It is there for it: nobody else has used the model yet.
            if let Some(index) = index.filter(|index| self.could_start(*index)) {
                return Some(index);
            }
        }
        let mut best: Option<((u64, usize, u64), usize)> = None;
        for index in 0..self.waiting.len() {
            if !self.could_start(index) {
                continue;
            }
            let Some(request) = self.waiting.get(index).map(|waiting| &waiting.request) else {
                continue;
            };
            let key = self.fair.key(request.lane, request.client);
            if best.is_some_and(|(least, _)| least <= key) {
                continue;
            }
            if !request.lane.urgent() && self.yields(now, index) {
                continue;
            }
            best = Some((key, index));
        }
        best.map(|(_, index)| index)
    }

    pub(super) fn position(&self, id: RequestId) -> Option<usize> {
        self.waiting.iter().position(|w| w.request.id == id)
    }

    /// Whether a request's model is in memory, covers it and is not about to go.
    pub(super) fn is_served(&self, request: &Request) -> bool {
        if self.settings.residency == Residency::Fixed {
            return true;
        }
        let closed = self.switch.as_ref().is_some_and(|switch| {
            switch.model == request.model || switch.evict.contains(&request.model)
        });
        !closed && self.is_covered(request)
    }

    /// Whether a request's model is in memory with a context that covers it.
    pub(super) fn is_covered(&self, request: &Request) -> bool {
        self.models.resident(request.model).is_some_and(|resident| {
            resident.context == 0 || request.context.covered_by(resident.context)
        })
    }

    /// Slots that a request of the model could take.
    fn slots_left(&self, request: &Request) -> u32 {
        let used = match self.settings.residency {
            // A fixed node that does not tell its slots batches as it likes (vLLM): nothing is held back here.
            Residency::Fixed if self.settings.slots.is_none() => return u32::MAX,
            Residency::Fixed => u32::try_from(self.active.len()).unwrap_or(u32::MAX),
            Residency::Managed => self
                .models
                .resident(request.model)
                .map_or(0, |resident| resident.active),
        };
        self.slots.limit().saturating_sub(used)
    }

    fn could_start(&self, index: usize) -> bool {
        self.waiting.get(index).is_some_and(|waiting| {
            self.is_served(&waiting.request) && self.slots_left(&waiting.request) > 0
        })
    }

    /// Whether an embedding or batch request that could start has to let others go first.
    fn yields(&mut self, now: u64, index: usize) -> bool {
        let Some(request) = self.waiting.get(index).map(|waiting| &waiting.request) else {
            return false;
        };
        let on_cpu = self
            .models
            .resident(request.model)
            .is_some_and(|resident| resident.on_cpu);
        if on_cpu {
            // It shares neither the GPU nor its slots with urgent work.
            return false;
        }
        let lane = request.lane;
        let keeps = self.kept_slot(now, request);
        if self.active.values().any(|active| active.lane.urgent()) {
            // Beside urgent work one after the other, with rests between them that make it the lane's share.
            let until = self.fair.rests_until(lane);
            if self.active.values().any(|active| active.lane == lane) || now < until {
                if now < until {
                    self.wake_at(until);
                }
                return true;
            }
        }
        if keeps == Kept::WhileOthersProgress {
            return true;
        }
        if keeps == Kept::No && !self.urgent_work(now) {
            return false;
        }
        let until = self.fair.yields(lane, now) + YIELD_MS;
        if now >= until {
            return false;
        }
        self.wake_at(until);
        if let Kept::Until(at) = keeps {
            self.wake_at(at);
        }
        true
    }

    /// Whether an interactive or agent request is reading its prompt or waits for a slot.
    fn urgent_work(&mut self, now: u64) -> bool {
        let reading = self
            .active
            .values()
            .filter(|active| active.lane.urgent() && !active.answering)
            .map(|active| active.started + LONGEST_READING_MS)
            .filter(|until| now < *until)
            .max();
        if let Some(until) = reading {
            self.wake_at(until);
            return true;
        }
        self.waiting
            .iter()
            .any(|waiting| waiting.request.lane.urgent() && self.is_served(&waiting.request))
    }

    /// Whether the slot that a request would take is the last one and kept for more urgent ones.
    fn kept_slot(&self, now: u64, request: &Request) -> Kept {
        if self.slots_left(request) != 1 {
            return Kept::No;
        }
        let Some(used) = self
            .models
            .resident(request.model)
            .and_then(|resident| resident.urgent_use)
        else {
            return Kept::No;
        };
        let only = self.slots.limit() == 1;
        let until = used
            + if only {
                KEEP_ONLY_SLOT_MS
            } else {
                KEEP_SLOT_MS
            };
        if now >= until {
            return Kept::No;
        }
        let progress = self
            .active
            .values()
            .any(|active| active.model == request.model && !active.lane.urgent());
        if progress && !only {
            Kept::WhileOthersProgress
        } else {
            Kept::Until(until)
        }
    }
}

/// Whether the last slot is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    No,
    /// Until then, or until the lane has yielded long enough.
    Until(u64),
    /// Other embeddings or batch requests are being answered in the other slots: nobody starves.
    WhileOthersProgress,
}
