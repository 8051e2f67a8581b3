//! The intermediate tensors of layers that carry a state instead of a cache.

use super::arena::Block;
use super::graph::Graph;
use super::layer::{Delta, Scan};

impl Graph<'_> {
    /// A tensor with so much for each token and so much for each sequence.
    fn take_both(&mut self, per_token: u64, per_sequence: u64) -> Block {
        let sequences = per_sequence
            .saturating_mul(self.geometry.sequences)
            .saturating_mul(4);
        let bytes = self.bytes(per_token).saturating_add(sequences);
        self.arena.take(bytes)
    }

    /// A selective state space (`mamba-base.cpp`).
    pub(super) fn scan(&mut self, widths: &Scan, normed: Block) -> Block {
        let selected = widths.groups.saturating_mul(widths.state).saturating_mul(2);
        let channels = widths.inner.saturating_add(selected);
        let state = widths.state.saturating_mul(widths.inner);
        let past = self.take_both(0, widths.past.saturating_mul(channels));
        let gate = if widths.groups > 0 {
            selected.saturating_add(widths.rank)
        } else {
            0
        };
        let projected = self.take(widths.inner.saturating_mul(2).saturating_add(gate));
        self.give(normed);
        let series = self.take_both(channels, widths.past.saturating_mul(channels));
        self.give(past);
        let convolved = self.take(channels);
        self.give(series);
        let scanned = if widths.groups > 0 {
            let step = self.take(widths.rank);
            let scanned = self.take_both(widths.inner, state);
            self.give(step);
            scanned
        } else {
            let parts = self.take(widths.rank.saturating_add(widths.state.saturating_mul(2)));
            let step = self.take(widths.rank);
            let step = self.turn(step, widths.inner);
            let scanned = self.take_both(widths.inner, state);
            self.give(step);
            self.give(parts);
            scanned
        };
        let gate = self.take(widths.inner);
        self.give(projected);
        let out = if widths.groups > 0 {
            // The skip connection works on views and takes a tensor of its own.
            let skipped = self.take(widths.inner);
            self.give(convolved);
            skipped
        } else {
            convolved
        };
        self.give(scanned);
        let gated = self.take(widths.inner);
        self.give(gate);
        self.give(out);
        let gated = if widths.groups > 0 {
            self.turn(gated, widths.inner)
        } else {
            gated
        };
        self.turn(gated, self.embedding)
    }

    /// A linear attention over decaying states (`rwkv7-base.cpp`; version 6 does with a little less).
    pub(super) fn decay(&mut self, blends: u64, head: u64, normed: Block) -> Block {
        let width = self.embedding;
        let shifted = self.take(width);
        let blended = self.turn(shifted, width.saturating_mul(blends));
        let receptance = self.take(width);
        let decays = self.take(width);
        let key = self.take(width);
        let rate = self.take(width);
        let scaled = self.take(width);
        let updated = self.take(width);
        self.give(scaled);
        let value = self.take(width);
        let first = self.take(width);
        let mixed = self.take(width);
        self.give(mixed);
        self.give(first);
        let removed = self.take(width);
        self.give(key);
        let negated = self.take(width);
        self.give(rate);
        let attended = self.take_both(width, head.saturating_mul(width));
        for block in [decays, negated, removed] {
            self.give(block);
        }
        let out = self.turn(attended, width);
        let out = self.turn(out, width);
        let bonus = self.take(width);
        self.give(updated);
        self.give(receptance);
        let bonus = self.turn(bonus, width);
        self.give(value);
        self.give(bonus);
        self.give(blended);
        let gate = self.take(width);
        self.give(gate);
        let out = self.turn(out, width);
        // The sum works on views and takes a tensor of its own; the input lives on as the state of the next token.
        let sum = self.turn(out, width);
        self.give(normed);
        sum
    }

    /// A gated delta rule with the fused operation (`qwen35.cpp`, `delta-net-base.cpp`).
    pub(super) fn delta(&mut self, widths: &Delta, normed: Block) -> Block {
        let channels = widths.inner.saturating_add(widths.key.saturating_mul(2));
        let past = widths.past.saturating_mul(channels);
        let kept = self.take_both(0, past);
        let projected = self.take(channels);
        let series = self.take_both(channels, past);
        self.give(kept);
        self.give(projected);
        let state = self.take_both(0, widths.state);
        let convolved = self.take(channels);
        self.give(series);
        let query = self.take(widths.key);
        let key = self.take(widths.key);
        let decay = self.take(widths.heads);
        let decay = self.turn(decay, widths.heads);
        let strength = self.take(widths.heads);
        let strength = self.turn(strength, widths.heads);
        let updated = self.take_both(widths.inner, widths.state);
        for block in [query, key, convolved, decay, strength, state] {
            self.give(block);
        }
        let out = self.turn(updated, widths.inner);
        let gate = self.take(widths.inner);
        self.give(normed);
        let gate = self.turn(gate, widths.inner);
        self.give(gate);
        self.turn(out, self.embedding)
    }

    /// A short convolution with two gates (`lfm2.cpp`).
    pub(super) fn convolution(&mut self, past: u64, normed: Block) -> Block {
        let width = self.embedding;
        let kept = self.take_both(0, past.saturating_mul(width));
        let projected = self.take(width.saturating_mul(3));
        self.give(normed);
        let gated = self.take(width);
        let series = self.take_both(width, past.saturating_mul(width));
        self.give(kept);
        self.give(gated);
        let convolved = self.take(width);
        self.give(series);
        self.give(projected);
        self.turn(convolved, width)
    }
}
