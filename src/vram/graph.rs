//! The intermediate tensors of a layer, in the order in which llama.cpp's graph allocates and frees them.
//!
//! Element-wise operations (the weight of a norm, additions, softmax) overwrite their operand and appear nowhere. Operations on a reshaped
//! view cannot, so that the rotation of Q and K takes a tensor of its own.

use super::arena::{Arena, Block};
use super::geometry::Geometry;
use super::layer::{Attention, Feed, Gate, Kind, Latent, Mixer, Network};

/// What comes out of the part of a layer in which tokens see each other.
struct Mixed {
    /// To be added to the stream.
    out: Block,
    /// The normed input, where the feed-forward needs it too.
    kept: Option<Block>,
    /// Whether it is a view, in whose place nothing can be computed.
    view: bool,
}

impl Mixed {
    fn new(out: Block) -> Self {
        Self {
            out,
            kept: None,
            view: false,
        }
    }

    fn view(out: Block) -> Self {
        Self {
            view: true,
            ..Self::new(out)
        }
    }
}

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
    /// Positions of the tokens, as long as they are needed.
    pub(super) positions: Option<Block>,
    /// What the caches that hold everything and those that hold a window need from outside.
    pub(super) caches: [Option<CacheInputs>; 2],
    /// Which rows get logits.
    pub(super) logit_rows: Option<Block>,
}

/// What attention over one cache needs from outside.
#[derive(Debug)]
pub(super) struct CacheInputs {
    /// The matrices that turn K and V of quantised caches.
    pub(super) turns: (Block, Block),
    /// Where K and V go.
    pub(super) places: (Block, Block),
    /// Which token sees which cell.
    pub(super) mask: Block,
}

/// Where a layer stands among those of its device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Turn {
    /// No later layer of the model.
    pub(super) last: bool,
    /// No later layer here uses the same cache inputs.
    pub(super) last_of_cache: bool,
    /// No later layer here uses the positions.
    pub(super) last_of_positions: bool,
}

impl<'a> Graph<'a> {
    /// An empty graph.
    pub(super) fn new(geometry: &'a Geometry, embedding: u64) -> Self {
        Self {
            arena: Arena::new(),
            geometry,
            embedding,
            rows: geometry.tokens,
            positions: None,
            caches: [None, None],
            logit_rows: None,
        }
    }

    /// Something from outside. Copies for a pipeline stay as long as the graph: nothing is given back then.
    pub(super) fn outside(&mut self, bytes: u64, copies: u64) -> Block {
        if copies <= 1 {
            return self.arena.take(bytes);
        }
        for _ in 0..copies {
            let copy = self.arena.take(bytes);
            self.keep(copy);
        }
        self.arena.take(0)
    }

    /// Lets a block live as long as the graph.
    #[expect(
        clippy::unused_self,
        clippy::needless_pass_by_value,
        reason = "says what happens to the block"
    )]
    pub(super) fn keep(&self, _block: Block) {}

    /// Bytes of the matrices that turn K and V of quantised caches; 0 without.
    pub(super) fn turns(&self, widths: &Attention) -> (u64, u64) {
        let key = if self.rotates_key(widths) {
            // The largest power of two, from 64 on, that divides a head.
            let head = widths.query.checked_div(widths.heads).unwrap_or(0);
            1 << head.trailing_zeros().clamp(6, 20)
        } else {
            0
        };
        let value = if self.rotates_value(widths) { 64 } else { 0 };
        (key * key * 4, value * value * 4)
    }

    /// A tensor of 32-bit floats, this many for each row.
    pub(super) fn take(&mut self, width: u64) -> Block {
        let bytes = self.bytes(width);
        self.arena.take(bytes)
    }

    /// Bytes of so many 32-bit floats for each row.
    pub(super) fn bytes(&self, width: u64) -> u64 {
        width.saturating_mul(self.rows).saturating_mul(4)
    }

    pub(super) fn give(&mut self, block: Block) {
        self.arena.give(block);
    }

    /// A new tensor from one that nothing else uses.
    pub(super) fn turn(&mut self, block: Block, width: u64) -> Block {
        let new = self.take(width);
        self.give(block);
        new
    }

    /// Goes on with the rows that get logits only.
    pub(super) fn only_logit_rows(&mut self) {
        self.rows = self.geometry.outputs;
    }

    /// One layer: takes the stream and what of it is already normed, returns the stream. In the last one only rows with logits go on behind
    /// the attention.
    pub(super) fn layer(
        &mut self,
        kind: &Kind,
        stream: Block,
        normed: Option<Block>,
        turn: Turn,
    ) -> Block {
        let normed = match normed {
            Some(normed) => normed,
            None => self.take(self.embedding),
        };
        let mut mixed = self.mix(kind, normed, turn);
        let mut stream = stream;
        if turn.last {
            stream = self.select(&mut mixed, stream);
        }
        if let Some(normed) = mixed.kept {
            let fed = self.feed(&kind.feed, normed);
            self.give(mixed.out);
            self.give(stream);
            return fed;
        }
        let stream = self.add(
            stream,
            mixed.out,
            kind.onto_stream || (mixed.view && !turn.last),
        );
        if kind.feed == Feed::None {
            return stream;
        }
        let normed = self.take(self.embedding);
        let fed = self.feed(&kind.feed, normed);
        self.add(stream, fed, kind.onto_stream)
    }

    /// The sum of the stream and something, in the place of one of them.
    fn add(&mut self, stream: Block, other: Block, onto_stream: bool) -> Block {
        let (sum, free) = if onto_stream {
            (stream, other)
        } else {
            (other, stream)
        };
        self.give(free);
        sum
    }

    /// Only the rows with logits.
    fn select(&mut self, mixed: &mut Mixed, stream: Block) -> Block {
        self.only_logit_rows();
        let out = std::mem::take(&mut mixed.out);
        mixed.out = self.turn(out, self.embedding);
        mixed.kept = mixed
            .kept
            .take()
            .map(|kept| self.turn(kept, self.embedding));
        let stream = self.turn(stream, self.embedding);
        if let Some(rows) = self.logit_rows.take() {
            self.give(rows);
        }
        stream
    }

    /// How tokens see each other.
    fn mix(&mut self, kind: &Kind, normed: Block, turn: Turn) -> Mixed {
        match &kind.mixer {
            Mixer::None => Mixed::new(normed),
            Mixer::Attention(widths) => self.attention(widths, normed, kind, turn),
            Mixer::Latent(widths) => Mixed::new(self.latent(widths, normed, kind, turn)),
            Mixer::Scan(widths) => Mixed::view(self.scan(widths, normed)),
            Mixer::Delta(widths) => Mixed::view(self.delta(widths, normed)),
            Mixer::Convolution { past } => Mixed::view(self.convolution(*past, normed)),
        }
    }

    fn attention(&mut self, widths: &Attention, normed: Block, kind: &Kind, turn: Turn) -> Mixed {
        let mut normed = Some(normed);
        let mut gate = None;
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
            if widths.rotary || widths.normed {
                let query = self.take(widths.query);
                let key = self.take(widths.key);
                (query, key, all)
            } else {
                (all, self.arena.take(0), self.arena.take(0))
            }
        } else {
            let query = if widths.gated {
                gate = Some(self.take(widths.query.saturating_mul(2)));
                self.take(widths.query)
            } else {
                let query = self.take(widths.query);
                self.place(widths, query, widths.query)
            };
            let value = self.take(widths.value);
            let key = self.take(widths.key);
            if !kind.parallel
                && let Some(normed) = normed.take()
            {
                self.give(normed);
            }
            let key = self.place(widths, key, widths.key);
            (query, key, value)
        };
        let (query, key, value) = self.rotate(widths, query, key, value);
        let out = self.look(
            kind,
            turn,
            (query, Some(key), Some(value)),
            |graph, query| graph.attend(widths, query, kind.windowed),
        );
        let out = self.rotate_back(widths, out);
        let out = match gate {
            Some(gate) => {
                let opened = self.turn(gate, widths.out);
                self.give(out);
                opened
            }
            None => out,
        };
        let out = self.turn(out, self.embedding);
        Mixed {
            kept: normed,
            ..Mixed::new(out)
        }
    }

    /// Q or K normed or turned by positions: both work on a view and take a new tensor, once.
    fn place(&mut self, widths: &Attention, block: Block, width: u64) -> Block {
        if widths.rotary || widths.normed {
            self.turn(block, width)
        } else {
            block
        }
    }

    /// Stores K and V, gives back what of the inputs is not needed any more, and attends.
    fn look(
        &mut self,
        kind: &Kind,
        turn: Turn,
        (query, key, value): (Block, Option<Block>, Option<Block>),
        attend: impl FnOnce(&mut Self, Block) -> Block,
    ) -> Block {
        if turn.last_of_positions
            && let Some(positions) = self.positions.take()
        {
            self.give(positions);
        }
        let inputs = self
            .caches
            .get_mut(usize::from(kind.windowed))
            .filter(|_| turn.last_of_cache)
            .and_then(Option::take);
        let (places, rest) = match inputs {
            Some(CacheInputs {
                turns,
                places,
                mask,
            }) => (Some(places), Some((turns, mask))),
            None => (None, None),
        };
        let (key_places, value_places) = places.unzip();
        for block in [key, key_places, value, value_places].into_iter().flatten() {
            self.give(block);
        }
        let out = attend(self, query);
        if let Some(((key, value), mask)) = rest {
            for block in [mask, key, value] {
                self.give(block);
            }
        }
        out
    }

    /// Attention over one compressed form of K and V, with the decompression moved behind it (`deepseek2.cpp`).
    fn latent(&mut self, widths: &Latent, normed: Block, kind: &Kind, turn: Turn) -> Block {
        let head = widths.rank.saturating_add(widths.rotary);
        let query = if widths.query_rank > 0 {
            let compressed = self.take(widths.query_rank);
            self.turn(compressed, widths.query)
        } else {
            self.take(widths.query)
        };
        let absorbed = self.take(widths.heads.saturating_mul(widths.rank));
        let turned = self.take(widths.heads.saturating_mul(widths.rotary));
        self.give(query);
        let query = self.take(widths.heads.saturating_mul(head));
        self.give(absorbed);
        self.give(turned);
        let both = self.take(head);
        self.give(normed);
        let compressed = self.take(widths.rank);
        let turned = self.take(widths.rotary);
        self.give(both);
        let key = self.take(head);
        self.give(compressed);
        self.give(turned);
        let latent = widths.heads.saturating_mul(widths.rank);
        let out = self.look(kind, turn, (query, Some(key), None), |graph, query| {
            if graph.geometry.flash {
                let out = graph.turn(query, latent);
                return graph.turn(out, widths.value);
            }
            let cells = graph.geometry.cells_of(kind.windowed);
            // The cells of V, transposed as they are stored.
            let values = graph.arena.take(
                graph
                    .geometry
                    .value
                    .bytes(widths.rank.saturating_mul(cells)),
            );
            let scores = graph.turn(query, cells.saturating_mul(widths.heads));
            let out = graph.take(latent);
            graph.give(values);
            graph.give(scores);
            graph.turn(out, widths.value)
        });
        let out = self.turn(out, widths.value);
        self.turn(out, self.embedding)
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
        self.only_logit_rows();
        let logits = self.take(vocab);
        self.give(logits);
        self.give(stream);
    }
}
