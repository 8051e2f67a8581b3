//! Architecture families: what llama.cpp does with a model and does not say in the model's metadata.

/// Which layers attend only to a window, for files without a layer by layer list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Windows {
    /// None, whatever the metadata say.
    Never,
    /// Where the header has a window: one layer in `period` attends to everything, the last of each period or the first.
    Keyed {
        /// Layers from one that attends to everything to the next.
        period: u64,
        /// Whether that layer begins the period.
        full_first: bool,
    },
    /// The same with a window that needs no key: this many tokens where the header has none.
    Always {
        /// Layers from one that attends to everything to the next.
        period: u64,
        /// Tokens of the window.
        tokens: u64,
    },
    /// The same, and where the header has a window its size is not believed: it only switches windows on (0: off).
    Fixed {
        /// Layers from one that attends to everything to the next.
        period: u64,
        /// Tokens of the window.
        tokens: u64,
        /// Whether that layer begins the period.
        full_first: bool,
        /// Whether a header without the key has windows.
        without_key: bool,
    },
    /// Only models of this many layers have windows.
    Sized {
        /// Layers of the variant with windows.
        layers: u64,
        /// Layers from one that attends to everything to the next.
        period: u64,
        /// Tokens of the window.
        tokens: u64,
    },
    /// The header lists the layers.
    Listed,
}

/// Which layers carry a state that does not grow with the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recurrence {
    /// None.
    Never,
    /// All, and no layer attends.
    Always,
    /// All, and every layer attends as well.
    Beside,
    /// Those without KV heads.
    WithoutHeads,
    /// Those with neither KV heads nor a feed-forward width.
    WithoutHeadsAndFeed,
    /// All but one in `full_attention_interval` (4), unless the header lists them.
    Interval,
}

/// What a layer keeps of the tokens it has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Memory {
    /// K and V.
    Cache,
    /// Nothing: the whole text is encoded at once.
    Nothing,
    /// K and V and an index of them, or a compressed form (DSA, MSA): known only roughly here.
    Indexed,
}

/// How many of the first layers own their KV cache; the others use that of an earlier layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owners {
    /// All.
    All,
    /// This many.
    First(u64),
    /// All but `attention.shared_kv_layers`.
    Keyed,
}

/// What a family does. Everything else follows from metadata and tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts of a model"
)]
pub(super) struct Family {
    /// Sliding windows.
    pub(super) windows: Windows,
    /// States.
    pub(super) recurrence: Recurrence,
    /// Caches.
    pub(super) memory: Memory,
    /// Shared caches.
    pub(super) owners: Owners,
    /// Whether attention and feed-forward both start from the layer's input, so that its norm lives until the feed-forward.
    pub(super) parallel: bool,
    /// Whether sums take the place of the stream instead of what is added to it.
    pub(super) onto_stream: bool,
    /// Whether positions turn Q and K.
    pub(super) rotary: bool,
    /// Numbers that a token's position takes.
    pub(super) position_parts: u64,
    /// Whether a model without an output matrix uses the token embeddings for it.
    pub(super) ties: bool,
    /// Whether the stream behind the last layer is kept (for layers that predict further tokens), so that its norm takes a tensor of its own.
    pub(super) keeps_last: bool,
}

/// Plain attention in every layer.
pub(super) const PLAIN: Family = Family {
    windows: Windows::Never,
    recurrence: Recurrence::Never,
    memory: Memory::Cache,
    owners: Owners::All,
    parallel: false,
    onto_stream: false,
    rotary: true,
    position_parts: 1,
    ties: true,
    keeps_last: false,
};

/// Attention and feed-forward side by side.
const PARALLEL: Family = Family {
    parallel: true,
    ..PLAIN
};

/// Encodes a whole text, keeps nothing.
const ENCODER: Family = Family {
    memory: Memory::Nothing,
    ties: false,
    ..PLAIN
};

/// States only.
const RECURRENT: Family = Family {
    recurrence: Recurrence::Always,
    ..PLAIN
};

/// A KV cache with an index beside it.
const INDEXED: Family = Family {
    memory: Memory::Indexed,
    ..PLAIN
};

/// States in the layers without KV heads.
const HYBRID: Family = Family {
    recurrence: Recurrence::WithoutHeads,
    ..PLAIN
};

/// States in three layers of four.
const INTERVAL: Family = Family {
    recurrence: Recurrence::Interval,
    ..PLAIN
};

/// Windows where the header has the key, the last layer of each period attending to everything.
const fn keyed(period: u64) -> Family {
    Family {
        windows: Windows::Keyed {
            period,
            full_first: false,
        },
        ..PLAIN
    }
}

/// Windows where the header has the key, the first layer of each period attending to everything.
const fn keyed_first(period: u64) -> Family {
    Family {
        windows: Windows::Keyed {
            period,
            full_first: true,
        },
        ..PLAIN
    }
}

/// Windows in layers that the header lists.
const LISTED: Family = Family {
    windows: Windows::Listed,
    ..PLAIN
};

/// Windows of a size that the family knows.
const fn always(period: u64, tokens: u64) -> Family {
    Family {
        windows: Windows::Always { period, tokens },
        ..PLAIN
    }
}

/// Every architecture that is known, as `general.architecture` spells it, with its family. Source: the `load_arch_hparams` and `create_memory`
/// functions of llama.cpp (b11434 to b11669), checked by the rows of `tests/data/vram` where a family is there.
const FAMILIES: &[(&[&str], Family)] = &[
    // Kimi K2 and Moonlight are deepseek2 files.
    (
        &[
            "llama",
            "deci",
            "grok",
            "gpt2",
            "mpt",
            "baichuan",
            "starcoder",
            "refact",
            "bloom",
            "qwen",
            "qwen2",
            "qwen2moe",
            "qwen2vl",
            "qwen3",
            "qwen3moe",
            "qwen3vl",
            "qwen3vlmoe",
            "phi3",
            "phimoe",
            "plamo",
            "orion",
            "internlm2",
            "minicpm",
            "minicpm3",
            "gemma",
            "starcoder2",
            "xverse",
            "dbrx",
            "olmo",
            "olmoe",
            "openelm",
            "arctic",
            "deepseek",
            "deepseek2",
            "deepseek2-ocr",
            "chatglm",
            "glm4",
            "glm4moe",
            "bitnet",
            "jais",
            "nemotron",
            "exaone",
            "granite",
            "granitemoe",
            "chameleon",
            "plm",
            "bailingmoe",
            "bailingmoe2",
            "dots1",
            "arcee",
            "ernie4_5",
            "ernie4_5-moe",
            "hunyuan-moe",
            "hunyuan-dense",
            "smollm3",
            "seed_oss",
            "grovemoe",
            "apertus",
            "minimax-m2",
            "cogvlm",
            "pangu-embedded",
            "mistral3",
            "mistral4",
            "codeshell",
            "paddleocr",
            "maincoder",
            "llama-embed",
            "stablelm",
            "talkie",
        ],
        PLAIN,
    ),
    (&["falcon", "phi2", "command-r", "gptneox"], PARALLEL),
    (&["gemma2"], always(2, 4096)),
    (&["gemma3"], keyed(6)),
    (
        &["gemma3n"],
        Family {
            owners: Owners::First(20),
            ..keyed(5)
        },
    ),
    (
        &["gemma4"],
        Family {
            owners: Owners::Keyed,
            ..LISTED
        },
    ),
    (
        &["gpt-oss"],
        Family {
            keeps_last: true,
            ..keyed(2)
        },
    ),
    (
        &["llama4"],
        Family {
            windows: Windows::Fixed {
                period: 4,
                tokens: 8192,
                full_first: false,
                without_key: true,
            },
            ..PLAIN
        },
    ),
    (
        &["cohere2"],
        Family {
            parallel: true,
            ..keyed(4)
        },
    ),
    (
        &["cohere2moe"],
        Family {
            parallel: true,
            ..keyed_first(4)
        },
    ),
    (&["olmo2", "afmoe", "mellum"], keyed(4)),
    (
        &["exaone4"],
        Family {
            windows: Windows::Sized {
                layers: 64,
                period: 4,
                tokens: 4096,
            },
            ..PLAIN
        },
    ),
    (&["exaone-moe"], always(4, 128)),
    (
        &["smallthinker"],
        Family {
            windows: Windows::Fixed {
                period: 4,
                tokens: 4096,
                full_first: true,
                without_key: false,
            },
            ..PLAIN
        },
    ),
    (&["plamo3"], keyed(8)),
    (&["laguna"], keyed_first(4)),
    (&["mimo2", "step35", "granite_swa"], LISTED),
    (
        &[
            "bert",
            "nomic-bert",
            "nomic-bert-moe",
            "neo-bert",
            "jina-bert-v2",
            "jina-bert-v3",
            "eurobert",
            "t5encoder",
        ],
        ENCODER,
    ),
    (
        &["modern-bert"],
        Family {
            windows: keyed_first(3).windows,
            ..ENCODER
        },
    ),
    (
        &["gemma-embedding"],
        Family {
            windows: keyed(6).windows,
            ties: true,
            ..ENCODER
        },
    ),
    (
        &["dream", "llada", "llada-moe", "rnd1"],
        Family {
            ties: true,
            ..ENCODER
        },
    ),
    (
        &["mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7", "arwkv7"],
        RECURRENT,
    ),
    (
        &["lfm2", "lfm2moe"],
        Family {
            onto_stream: true,
            ..HYBRID
        },
    ),
    (
        &[
            "jamba",
            "plamo2",
            "granitehybrid",
            "kimi-linear",
            "bailingmoe3",
            "kimi-k3",
        ],
        HYBRID,
    ),
    (
        &["nemotron_h", "nemotron_h_moe"],
        Family {
            recurrence: Recurrence::WithoutHeadsAndFeed,
            ..PLAIN
        },
    ),
    (
        &["falcon-h1"],
        Family {
            recurrence: Recurrence::Beside,
            ..PLAIN
        },
    ),
    (
        &["qwen35", "qwen35moe"],
        Family {
            position_parts: 4,
            keeps_last: true,
            ..INTERVAL
        },
    ),
    (&["qwen3next", "minimax-01"], INTERVAL),
    (
        &["deepseek32", "glm-dsa", "minimax-m3", "deepseek4"],
        INDEXED,
    ),
];

/// The family of an architecture; `None` when this version does not know it.
pub(super) fn family(architecture: &str) -> Option<Family> {
    let row = FAMILIES
        .iter()
        .find(|(names, _)| names.contains(&architecture))?;
    Some(row.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_architecture_is_listed_once() {
        let mut names: Vec<&str> = FAMILIES
            .iter()
            .flat_map(|(names, _)| names.iter().copied())
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(count > 110, "{count}");
        assert_eq!(family("deepseek2"), Some(PLAIN));
        assert_eq!(family("nobodys"), None);
    }
}
