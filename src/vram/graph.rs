//! The intermediate tensors of a layer, in the order in which llama.cpp's graph allocates and frees them.
//!
//! Element-wise operations (the weight of a norm, additions, softmax) overwrite their operand and appear nowhere. Operations on a reshaped
//! view cannot, so that the rotation of Q and K takes a tensor of its own.

use super::arena::{Arena, Block};
use super::geometry::Geometry;
use super::layer::{Attention, Feed, Heaviest, InRam, Kind, Mixer, Norms, Role};
use super::shape::Shape;

/// What comes out of the part of a layer in which tokens see each other.
pub(super) struct Mixed {
    /// To be added to the stream.
    pub(super) out: Block,
    /// The normed input, where the feed-forward needs it too.
    pub(super) kept: Option<Block>,
    /// Whether it is a view, in whose place nothing can be computed.
    pub(super) view: bool,
}

impl Mixed {
    /// Something computed in place can be added to.
    pub(super) fn new(out: Block) -> Self {
        Self {
            out,
            kept: None,
            view: false,
        }
    }

    /// A view.
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
    pub(super) fn product(&mut self, width: u64, role: Role) -> Block {
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
    pub(super) fn multiply(&mut self, block: Block, width: u64, role: Role) -> Block {
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
