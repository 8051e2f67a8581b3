//! One layer of a model: what it weighs, what it remembers, and the operations that decide its share of a compute buffer.

/// A layer, as placement and the estimate see it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layer {
    /// Bytes of its tensors without the experts.
    pub dense_bytes: u64,
    /// Bytes of its experts (`ffn_*_exps`): what `--n-cpu-moe` keeps in RAM.
    pub expert_bytes: u64,
    /// Elements of K per cell of its KV cache; 0: it owns none.
    pub key_width: u64,
    /// Elements of V per cell; 0: none, or (MLA) K serves as V.
    pub value_width: u64,
    /// Whether it attends to a window only.
    pub windowed: bool,
    /// Bytes of its recurrent state for one sequence.
    pub state_bytes: u64,
}

/// What a layer computes; layers of the same kind need the same buffer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Kind {
    /// How tokens see each other.
    pub(super) mixer: Mixer,
    /// What happens to each token.
    pub(super) feed: Feed,
    /// Whether both start from the layer's normed input.
    pub(super) parallel: bool,
    /// Whether the layer attends to a window only.
    pub(super) windowed: bool,
}

/// How tokens see each other in a layer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Mixer {
    /// Not at all.
    #[default]
    None,
    /// Attention over K and V.
    Attention(Attention),
}

/// The widths of attention, in elements per token.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Attention {
    /// Query heads.
    pub(super) heads: u64,
    /// All query heads together.
    pub(super) query: u64,
    /// All key heads together.
    pub(super) key: u64,
    /// All value heads together.
    pub(super) value: u64,
    /// What comes out of all heads together.
    pub(super) out: u64,
    /// Whether Q and K are normed by head.
    pub(super) normed: bool,
    /// Whether Q, K and V come from one tensor.
    pub(super) fused: bool,
}

/// What happens to each token in a layer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Feed {
    /// Nothing.
    #[default]
    None,
    /// A feed-forward network.
    Dense(Network),
    /// Experts chosen by token, and perhaps one that every token sees.
    Experts {
        /// Experts there are.
        experts: u64,
        /// Experts a token sees.
        used: u64,
        /// Each of them.
        each: Network,
        /// The one for every token.
        shared: Option<Network>,
    },
}

/// A feed-forward network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Network {
    /// Elements per token inside.
    pub(super) width: u64,
    /// Whether a gate is computed beside it.
    pub(super) gate: Gate,
}

/// How a feed-forward network gates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Gate {
    /// Not.
    None,
    /// By a tensor of its own.
    #[default]
    Apart,
    /// By the other half of a tensor of twice the width.
    Fused,
}
