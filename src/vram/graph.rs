//! The intermediate tensors of a layer, in the order in which llama.cpp's graph allocates and frees them.
//!
//! Element-wise operations (the weight of a norm, additions, softmax) overwrite their operand and appear nowhere. Operations on a reshaped
//! view cannot, so that the rotation of Q and K takes a tensor of its own.

use super::arena::{Arena, Block};
use super::geometry::Geometry;
use super::layer::{Attention, Feed, Gate, Kind, Mixer, Network};

/// A graph while it is laid out on one device.
pub(super) struct Graph<'a> {
    /// Its buffer.
    pub(super) arena: Arena,
    /// Its sizes.
    pub(super) geometry: &'a Geometry,
    /// Width of the stream between layers.
    pub(super) embedding: u64,
    /// Rows that the current operations run over: all tokens, or in the last layer those with logits.
    rows: u64,
}

impl<'a> Graph<'a> {
    /// An empty graph.
    pub(super) fn new(geometry: &'a Geometry, embedding: u64) -> Self {
        Self {
            arena: Arena::new(),
            geometry,
            embedding,
            rows: geometry.tokens,
        }
    }

    /// A tensor of 32-bit floats, this many for each row.
    fn take(&mut self, width: u64) -> Block {
        self.arena
            .take(width.saturating_mul(self.rows).saturating_mul(4))
    }

    fn give(&mut self, block: Block) {
        self.arena.give(block);
    }

    /// A new tensor from one that nothing else uses.
    fn turn(&mut self, block: Block, width: u64) -> Block {
        let new = self.take(width);
        self.give(block);
        new
    }

    /// One layer: takes the stream, returns it. `last`: only rows with logits go on behind the attention.
    pub(super) fn layer(&mut self, kind: &Kind, stream: Block, last: bool) -> Block {
        let normed = self.take(self.embedding);
        let (mixed, kept) = self.mix(kind, normed);
        let (stream, mixed, kept) = if last {
            self.select(stream, mixed, kept)
        } else {
            (stream, mixed, kept)
        };
        if let Some(normed) = kept {
            let fed = self.feed(&kind.feed, normed);
            self.give(mixed);
            self.give(stream);
            return fed;
        }
        self.give(stream);
        if kind.feed == Feed::None {
            return mixed;
        }
        let normed = self.take(self.embedding);
        let fed = self.feed(&kind.feed, normed);
        self.give(mixed);
        fed
    }

    /// Only the rows with logits.
    fn select(
        &mut self,
        stream: Block,
        mixed: Block,
        kept: Option<Block>,
    ) -> (Block, Block, Option<Block>) {
        self.rows = self.geometry.outputs;
        let mixed = self.turn(mixed, self.embedding);
        let kept = kept.map(|kept| self.turn(kept, self.embedding));
        let stream = self.turn(stream, self.embedding);
        (stream, mixed, kept)
    }

    /// How tokens see each other: the outcome, and the normed input where the feed-forward needs it too.
    fn mix(&mut self, kind: &Kind, normed: Block) -> (Block, Option<Block>) {
        match &kind.mixer {
            Mixer::None => (normed, None),
            Mixer::Attention(attention) => self.attention(attention, normed, kind),
        }
    }

    fn attention(
        &mut self,
        widths: &Attention,
        normed: Block,
        kind: &Kind,
    ) -> (Block, Option<Block>) {
        let mut normed = Some(normed);
        let (query, key, value) = if widths.fused {
            let all = widths
                .query
                .saturating_add(widths.key)
                .saturating_add(widths.value);
            let all = self.take(all);
            if !kind.parallel
                && let Some(normed) = normed.take()
            {
                self.give(normed);
            }
            let query = self.take(widths.query);
            let key = self.take(widths.key);
            (query, key, all)
        } else {
            let query = self.take(widths.query);
            let query = self.turn(query, widths.query);
            let value = self.take(widths.value);
            let key = self.take(widths.key);
            if !kind.parallel
                && let Some(normed) = normed.take()
            {
                self.give(normed);
            }
            let key = self.turn(key, widths.key);
            (query, key, value)
        };
        let (query, key, value) = self.rotate(widths, query, key, value);
        self.give(key);
        self.give(value);
        let out = self.attend(widths, query, kind.windowed);
        let out = self.rotate_back(widths, out);
        let out = self.turn(out, self.embedding);
        (out, normed)
    }

    /// Quantised caches hold K and V turned by a Hadamard matrix where head sizes allow it.
    fn rotate(
        &mut self,
        widths: &Attention,
        query: Block,
        key: Block,
        value: Block,
    ) -> (Block, Block, Block) {
        let (mut query, mut key, mut value) = (query, key, value);
        if self.rotates_key(widths) {
            query = self.turn(query, widths.query);
            key = self.turn(key, widths.key);
        }
        if self.rotates_value(widths) {
            value = self.turn(value, widths.value);
        }
        (query, key, value)
    }

    fn rotate_back(&mut self, widths: &Attention, out: Block) -> Block {
        if self.rotates_value(widths) {
            self.turn(out, widths.out)
        } else {
            out
        }
    }

    fn rotates_key(&self, widths: &Attention) -> bool {
        self.geometry.key.is_quantized()
            && widths
                .query
                .checked_div(widths.heads)
                .is_some_and(|head| head % 64 == 0)
    }

    fn rotates_value(&self, widths: &Attention) -> bool {
        self.geometry.value.is_quantized()
            && widths
                .out
                .checked_div(widths.heads)
                .is_some_and(|head| head % 64 == 0)
    }

    /// Attention proper: one tensor with flash attention, the scores of all heads without.
    fn attend(&mut self, widths: &Attention, query: Block, windowed: bool) -> Block {
        if self.geometry.flash {
            return self.turn(query, widths.out);
        }
        let scores = self
            .geometry
            .cells_of(windowed)
            .saturating_mul(widths.heads);
        let scores = self.turn(query, scores);
        let out = self.turn(scores, widths.out);
        self.turn(out, widths.out)
    }

    fn feed(&mut self, feed: &Feed, normed: Block) -> Block {
        match feed {
            Feed::None => normed,
            Feed::Dense(network) => self.network(network, normed),
            Feed::Experts {
                experts,
                used,
                each,
                shared,
            } => self.experts(*experts, *used, each, shared.as_ref(), normed),
        }
    }

    fn network(&mut self, network: &Network, normed: Block) -> Block {
        let inner = self.inner(network, 1, Some(normed));
        self.turn(inner, self.embedding)
    }

    /// Up, gate and their product for so many copies of a token. The input is given back when it is handed over.
    fn inner(&mut self, network: &Network, copies: u64, input: Option<Block>) -> Block {
        let width = network.width.saturating_mul(copies);
        let up = self.take(match network.gate {
            Gate::Fused => width.saturating_mul(2),
            Gate::None | Gate::Apart => width,
        });
        let gate = (network.gate == Gate::Apart).then(|| self.take(width));
        if let Some(input) = input {
            self.give(input);
        }
        if network.gate == Gate::None {
            return up;
        }
        let product = self.take(width);
        self.give(up);
        if let Some(gate) = gate {
            self.give(gate);
        }
        product
    }

    fn experts(
        &mut self,
        experts: u64,
        used: u64,
        each: &Network,
        shared: Option<&Network>,
        normed: Block,
    ) -> Block {
        let scores = self.take(experts);
        let order = self.take(experts);
        let weights = self.turn(scores, used);
        let sum = self.take(1);
        let weights = self.turn(weights, used);
        self.give(sum);
        let (kept, input) = if shared.is_some() {
            (Some(normed), None)
        } else {
            (None, Some(normed))
        };
        let inner = self.inner(each, used, input);
        let down = self.turn(inner, self.embedding.saturating_mul(used));
        self.give(order);
        self.give(weights);
        let routed = self.turn(down, self.embedding);
        let (Some(shared), Some(normed)) = (shared, kept) else {
            return routed;
        };
        let beside = self.network(shared, normed);
        self.give(beside);
        routed
    }

    /// The logits.
    pub(super) fn logits(&mut self, stream: Block, vocab: u64) {
        self.rows = self.geometry.outputs;
        let logits = self.take(vocab);
        self.give(logits);
        self.give(stream);
    }
}
