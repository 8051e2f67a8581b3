//! The context that a load takes.

use super::ModelId;
use super::NodeQueue;
use super::candidates::Candidate;
use super::models::Known;
use crate::routing::window::{self, ContextNeed, MOST_GROWTH, WindowPolicy};

/// Contexts that are no step of the ladder are multiples of this.
const GRAIN: u32 = 1024;

impl NodeQueue {
    /// The context that a candidate wishes for, as far as it fits into so many bytes; at least what it needs.
    pub(super) fn wished(&self, candidate: &Candidate, rest: Option<u64>) -> u32 {
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

    /// The context of a load: what is needed, and more where there is room to spare.
    pub(super) fn load_context(
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
            // Where nothing says what more context costs, more may not fit.
            && known.footprint.tells_contexts()
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
        let left = spare - self.reserved(now, candidate.model, spare);
        let budget = if replaced || self.nobody_needs(candidate.model, spare) {
            left
        } else {
            left / 2
        };
        let times = if replaced {
            MOST_GROWTH
        } else {
            candidate.need.growth
        };
        let most = base.saturating_mul(times);
        let room = needed.saturating_add(budget);
        let step = grow(known, base, most, room);
        if times < MOST_GROWTH
            || !self.memory.is_told()
            || window::bucket(step.saturating_add(1)) > most
        {
            return step;
        }
        // The ladder ends where the memory does: what is sure to grow takes the rest (of memory that is sure to be there).
        let all = known.largest_context(room).unwrap_or(0).min(most);
        step.max(all / GRAIN * GRAIN)
    }

    /// Whether every model that is known here and not in memory is larger than what would be left over. What a learned capacity leaves over may
    /// not be there.
    fn nobody_needs(&self, model: ModelId, spare: u64) -> bool {
        let mut others = self.models.absent(model).peekable();
        self.memory.is_told()
            && others.peek().is_some()
            && others.all(|known| known.bytes(0).is_some_and(|bytes| bytes > spare))
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
