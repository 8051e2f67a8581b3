//! The intermediate tensors of a layer, in the order in which llama.cpp's graph allocates and frees them.
//!
//! Element-wise operations (the weight of a norm, additions, softmax) overwrite their operand and appear nowhere. Operations on a reshaped
//! view cannot, so that the rotation of Q and K takes a tensor of its own.

use super::arena::{Arena, Block};
use super::geometry::Geometry;
use super::layer::{
    Attention, Feed, Gate, Heaviest, InRam, Kind, Latent, Mixer, Network, Norms, Role,
};
use super::settings::CacheType;
use super::shape::Shape;

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
    /// Which weights of the current layer lie in RAM.
    pub(super) in_ram: InRam,
    /// The heaviest matrix of each role.
    heaviest: Heaviest,
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
    pub(super) fn new(geometry: &'a Geometry, shape: &Shape) -> Self {
        Self {
            arena: Arena::new(),
            geometry,
            embedding: shape.embedding,
            in_ram: InRam::Nothing,
            heaviest: shape.heaviest,
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
    #[expect(clippy::unused_self, reason = "says what happens to the block")]
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

    /// The product with a matrix, a copy of which comes first when it lies in RAM.
    fn product(&mut self, width: u64, role: Role) -> Block {
        let copied = match self.in_ram {
            InRam::Nothing => false,
            InRam::Experts => role.is_expert(),
            InRam::Everything => true,
        };
        if !copied {
            return self.take(width);
        }
        let matrix = self.arena.take(self.heaviest.of(role));
        let product = self.take(width);
        self.give(matrix);
        product
    }

    /// The product of something that nothing else uses with a matrix.
    fn multiply(&mut self, block: Block, width: u64, role: Role) -> Block {
        let product = self.product(width, role);
        self.give(block);
        product
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
            None => self.norm(kind),
        };
        let mut stream = stream;
        if turn.last && kind.onto_stream {
            stream = self.select(stream);
        }
        let mut mixed = self.mix(kind, normed, turn);
        if turn.last {
            self.rows = self.geometry.outputs;
            mixed.out = self.turn(mixed.out, self.embedding);
            mixed.kept = mixed
                .kept
                .take()
                .map(|kept| self.turn(kept, self.embedding));
            if !kind.onto_stream {
                stream = self.select(stream);
            }
            self.rows = self.geometry.outputs;
            if let Some(rows) = self.logit_rows.take() {
                self.give(rows);
            }
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
        let stream = self.norm_after(kind, stream);
        if kind.feed == Feed::None {
            return stream;
        }
        let normed = self.norm(kind);
        let fed = self.feed(&kind.feed, normed);
        let stream = self.add(stream, fed, kind.onto_stream);
        self.norm_after(kind, stream)
    }

    /// The input of a part, where it is not the stream itself.
    fn norm(&mut self, kind: &Kind) -> Block {
        if kind.norms == Norms::Before {
            self.take(self.embedding)
        } else {
            Block::default()
        }
    }

    fn norm_after(&mut self, kind: &Kind, sum: Block) -> Block {
        if kind.norms == Norms::After {
            self.turn(sum, self.embedding)
        } else {
            sum
        }
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
    fn select(&mut self, stream: Block) -> Block {
        let bytes = self
            .embedding
            .saturating_mul(self.geometry.outputs)
            .saturating_mul(4);
        let selected = self.arena.take(bytes);
        self.give(stream);
        selected
    }

    /// How tokens see each other.
    fn mix(&mut self, kind: &Kind, normed: Block, turn: Turn) -> Mixed {
        if self.in_ram == InRam::Everything && !matches!(kind.mixer, Mixer::Attention(_)) {
            let matrix = self.arena.take(self.heaviest.of(Role::Other));
            self.give(matrix);
        }
        match &kind.mixer {
            Mixer::None => Mixed::new(normed),
            Mixer::Attention(widths) => self.attention(widths, normed, kind, turn),
            Mixer::Latent(widths) => Mixed::new(self.latent(widths, normed, kind, turn)),
            Mixer::Scan(widths) => Mixed::view(self.scan(widths, normed)),
            Mixer::Delta(widths) => Mixed::view(self.delta(widths, normed)),
            Mixer::Decay { blends, head } => Mixed::new(self.decay(*blends, *head, normed)),
            Mixer::Convolution { past } => Mixed::view(self.convolution(*past, normed)),
        }
    }

    /// Attention of all tokens of a text to each other: K and V are padded and cast where a cache would hold them.
    fn attention_without_cache(
        &mut self,
        widths: &Attention,
        normed: Block,
        kind: &Kind,
        turn: Turn,
    ) -> Mixed {
        let (query, key, value) = if widths.fused {
            let all = self.take(
                widths
                    .query
                    .saturating_add(widths.key)
                    .saturating_add(widths.value),
            );
            self.give(normed);
            (self.take(widths.query), self.take(widths.key), all)
        } else {
            let query = self.take(widths.query);
            let key = self.take(widths.key);
            let value = self.take(widths.value);
            self.give(normed);
            (query, key, value)
        };
        let query = if widths.fused {
            query
        } else {
            self.place(widths, query, widths.query)
        };
        let out = self.look(kind, turn, (query, None, None), |graph, query| {
            if graph.geometry.flash {
                let half = |width: u64| {
                    width
                        .saturating_mul(graph.geometry.tokens)
                        .saturating_mul(2)
                };
                let (key_half, value_half) = (half(widths.key), half(widths.value));
                let padded = graph.turn(key, widths.key);
                let key = graph.arena.take(key_half);
                graph.give(padded);
                let padded = graph.turn(value, widths.value);
                let value = graph.arena.take(value_half);
                graph.give(padded);
                let out = graph.turn(query, widths.out);
                graph.give(key);
                graph.give(value);
                return out;
            }
            let padded = graph.turn(value, widths.value);
            let value = graph.turn(padded, widths.value);
            let key = graph.turn(key, widths.key);
            let scores = graph.take(graph.geometry.tokens.saturating_mul(widths.heads));
            graph.give(key);
            graph.give(query);
            let out = graph.take(widths.out);
            graph.give(value);
            graph.give(scores);
            graph.turn(out, widths.out)
        });
        Mixed::new(self.turn(out, self.embedding))
    }

    fn attention(&mut self, widths: &Attention, normed: Block, kind: &Kind, turn: Turn) -> Mixed {
        if !widths.cached {
            return self.attention_without_cache(widths, normed, kind, turn);
        }
        let mut normed = Some(normed);
        let mut gate = None;
        let (query, key, value) = if widths.fused {
            let all = widths
                .query
                .saturating_add(widths.key)
                .saturating_add(widths.value);
            let all = self.product(all, Role::Fused);
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
                gate = Some(self.product(widths.query.saturating_mul(2), Role::Query));
                self.take(widths.query)
            } else {
                let query = self.product(widths.query, Role::Query);
                self.place(widths, query, widths.query)
            };
            let (value, key) = if widths.stored {
                (
                    self.product(widths.value, Role::Value),
                    self.product(widths.key, Role::Key),
                )
            } else {
                Default::default()
            };
            if !kind.parallel
                && let Some(normed) = normed.take()
            {
                self.give(normed);
            }
            let key = if widths.stored {
                self.place(widths, key, widths.key)
            } else {
                key
            };
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
        let out = self.multiply(out, self.embedding, Role::Out);
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
    pub(super) fn look(
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
        }
        if self.rotates_key(widths) && widths.stored {
            key = self.turn(key, widths.key);
        }
        if self.rotates_value(widths) && widths.stored {
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
    pub(super) fn attend(&mut self, widths: &Attention, query: Block, windowed: bool) -> Block {
        let cells = self.geometry.cells_of(windowed);
        let copies = (self.in_ram == InRam::Everything).then(|| {
            let all = cells.saturating_mul(self.geometry.streams);
            let key = self.geometry.key.bytes(widths.key).saturating_mul(all);
            let value = self.geometry.value.bytes(widths.value).saturating_mul(all);
            (self.arena.take(key), self.arena.take(value))
        });
        let out = if self.geometry.flash {
            let bytes = self
                .bytes(widths.out)
                .saturating_add(self.half_copy(widths, cells));
            let out = self.arena.take(bytes);
            self.give(query);
            out
        } else {
            let scores = self.turn(query, cells.saturating_mul(widths.heads));
            let out = self.turn(scores, widths.out);
            self.turn(out, widths.out)
        };
        if let Some((key, value)) = copies {
            self.give(key);
            self.give(value);
        }
        out
    }

    /// CUDA computes flash attention over K and V of other types than f16 with a copy of both, behind the outcome
    /// (`ggml_cuda_flash_attn_ext_get_alloc_size`).
    fn half_copy(&self, widths: &Attention, cells: u64) -> u64 {
        if !self.geometry.cuda_scratch {
            return 0;
        }
        let copied = |kind: CacheType, width: u64| if kind == CacheType::F16 { 0 } else { width };
        copied(self.geometry.key, widths.key)
            .saturating_add(copied(self.geometry.value, widths.value))
            .saturating_mul(cells)
            .saturating_mul(self.geometry.streams)
            .saturating_mul(2)
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
        let inner = self.inner(network, 1, Some(normed), [Role::Up, Role::Gate]);
        self.multiply(inner, self.embedding, Role::Down)
    }

    /// Up, gate and their product for so many copies of a token. The input is given back when it is handed over.
    fn inner(
        &mut self,
        network: &Network,
        copies: u64,
        input: Option<Block>,
        [up, gate]: [Role; 2],
    ) -> Block {
        let width = network.width.saturating_mul(copies);
        let up_width = match network.gate {
            Gate::Fused => width.saturating_mul(2),
            Gate::None | Gate::Apart => width,
        };
        let up = self.product(up_width, up);
        let gate = (network.gate == Gate::Apart).then(|| self.product(width, gate));
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
        let inner = self.inner(each, used, input, [Role::ExpertUp, Role::ExpertGate]);
        let down = self.multiply(inner, self.embedding.saturating_mul(used), Role::ExpertDown);
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
    pub(super) fn logits(&mut self, stream: Block, shape: &Shape) {
        self.only_logit_rows();
        let normed = if shape.keeps_last {
            let normed = self.take(shape.embedding);
            self.keep(stream);
            normed
        } else {
            stream
        };
        let matrix =
            (self.in_ram == InRam::Everything).then(|| self.arena.take(shape.output_bytes));
        let logits = self.take(shape.vocab);
        if let Some(matrix) = matrix {
            self.give(matrix);
        }
        self.give(logits);
        self.give(normed);
    }
}
