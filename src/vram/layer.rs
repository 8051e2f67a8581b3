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
    /// Whether sums take the place of the stream instead of what is added to it.
    pub(super) onto_stream: bool,
    /// Where the stream is normed.
    pub(super) norms: Norms,
    /// Whether the layer attends to a window only.
    pub(super) windowed: bool,
}

/// Where the stream is normed around the two parts of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Norms {
    /// Before each part.
    #[default]
    Before,
    /// What comes out of each part, before it is added.
    Inside,
    /// The sum behind each part.
    After,
}

/// How tokens see each other in a layer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Mixer {
    /// Not at all.
    #[default]
    None,
    /// Attention over K and V.
    Attention(Attention),
    /// Attention over one compressed form of K and V (MLA).
    Latent(Latent),
    /// A selective state space (Mamba).
    Scan(Scan),
    /// A gated delta rule.
    Delta(Delta),
    /// A linear attention over decaying states (RWKV).
    Decay {
        /// Blends of a token with the one before it.
        blends: u64,
        /// Width of a head, which is also the state for each element.
        head: u64,
    },
    /// A short convolution.
    Convolution {
        /// Tokens before the current one that it sees.
        past: u64,
    },
}

impl Mixer {
    /// Whether it looks into a KV cache.
    pub(super) fn attends(&self) -> bool {
        matches!(self, Self::Attention(_) | Self::Latent(_))
    }
}

/// The widths of attention, in elements per token.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts of a model"
)]
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
    /// Whether Q comes with a gate for what comes out.
    pub(super) gated: bool,
    /// Whether positions turn Q and K.
    pub(super) rotary: bool,
    /// Whether K and V are computed and stored here; else those of an earlier layer are used.
    pub(super) stored: bool,
    /// Whether there is a cache; else all tokens of a text are looked at at once.
    pub(super) cached: bool,
}

/// The widths of attention over a compressed form, in elements per token.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Latent {
    /// Query heads.
    pub(super) heads: u64,
    /// What Q is compressed to on the way; 0: it is not.
    pub(super) query_rank: u64,
    /// All query heads together.
    pub(super) query: u64,
    /// What K and V are compressed to.
    pub(super) rank: u64,
    /// The part of a head that positions turn.
    pub(super) rotary: u64,
    /// All value heads together, decompressed.
    pub(super) value: u64,
}

/// A selective state space.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Scan {
    /// Width inside.
    pub(super) inner: u64,
    /// State for each element of the width.
    pub(super) state: u64,
    /// Width of the time step before it is spread (Mamba 1), or heads (Mamba 2).
    pub(super) rank: u64,
    /// Groups that share B and C (Mamba 2); 0: Mamba 1.
    pub(super) groups: u64,
    /// Tokens before the current one that the convolution sees.
    pub(super) past: u64,
}

/// A gated delta rule (Qwen3-Next, Qwen3.5).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Delta {
    /// Width of the values.
    pub(super) inner: u64,
    /// All keys together; as many for the queries.
    pub(super) key: u64,
    /// State of all heads.
    pub(super) state: u64,
    /// Value heads.
    pub(super) heads: u64,
    /// Tokens before the current one that the convolution sees.
    pub(super) past: u64,
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

/// The matrices of a layer that can be large, by what they compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Q.
    Query,
    /// K.
    Key,
    /// V.
    Value,
    /// Q, K and V at once.
    Fused,
    /// What comes out of attention.
    Out,
    /// The gate of a feed-forward network.
    Gate,
    /// Into a feed-forward network.
    Up,
    /// Out of it.
    Down,
    /// The gates of experts.
    ExpertGate,
    /// Into experts.
    ExpertUp,
    /// Out of them.
    ExpertDown,
    /// Anything else.
    Other,
}

impl Role {
    /// The role of a tensor by the name behind its layer's number.
    pub(super) fn of(name: &str) -> Self {
        let stem = name.split_once('.').map_or(name, |(stem, _)| stem);
        match stem {
            "attn_q" | "attn_q_b" => Self::Query,
            "attn_k" => Self::Key,
            "attn_v" => Self::Value,
            "attn_qkv" => Self::Fused,
            "attn_output" => Self::Out,
            "ffn_gate" | "ffn_gate_shexp" => Self::Gate,
            "ffn_up" | "ffn_up_shexp" => Self::Up,
            "ffn_down" | "ffn_down_shexp" => Self::Down,
            "ffn_gate_exps" => Self::ExpertGate,
            "ffn_up_exps" | "ffn_gate_up_exps" => Self::ExpertUp,
            "ffn_down_exps" => Self::ExpertDown,
            _ => Self::Other,
        }
    }

    /// Whether it belongs to experts.
    pub(super) fn is_expert(self) -> bool {
        matches!(self, Self::ExpertGate | Self::ExpertUp | Self::ExpertDown)
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// Bytes of the heaviest matrix of each role in a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Heaviest([u64; Role::Other as usize + 1]);

impl Heaviest {
    /// Counts a matrix in.
    pub(super) fn add(&mut self, role: Role, bytes: u64) {
        if let Some(heaviest) = self.0.get_mut(role.index()) {
            *heaviest = bytes.max(*heaviest);
        }
    }

    /// Bytes of the heaviest matrix of a role.
    pub(super) fn of(&self, role: Role) -> u64 {
        self.0.get(role.index()).copied().unwrap_or(0)
    }
}

/// Which weights of a layer lie in RAM while a GPU computes with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum InRam {
    /// None.
    #[default]
    Nothing,
    /// Its experts.
    Experts,
    /// All, and its cache.
    Everything,
}
