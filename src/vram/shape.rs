//! The facts of a model that decide its memory, layer by layer, taken once from its header so that an estimate costs microseconds.

use std::fmt;

use super::altup::Streams;
use super::anatomy::Anatomy;
use super::family::{self, Family, Memory, Recurrence, Windows};
use super::layer::{Heaviest, Kind, Layer};
use super::{Header, UnknownTypes};

/// What a model is, as far as its memory goes.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts of a model"
)]
pub struct Shape {
    /// Architecture as the header spells it.
    pub architecture: String,
    /// Whether this version knows what llama.cpp does with it; else the generic rules apply.
    pub known: bool,
    /// Tokens of context it was trained for; 0 when the header does not say.
    pub trained_ctx: u64,
    /// Width of the stream between layers.
    pub embedding: u64,
    /// Tokens of the vocabulary.
    pub vocab: u64,
    /// Parameters.
    pub parameters: u64,
    /// Parameters that one token passes: all, but of the experts only those it uses.
    pub active_parameters: u64,
    /// The layers that run, in order. Layers that only predict further tokens (MTP) are left out.
    pub layers: Vec<Layer>,
    /// Bytes that stay in RAM wherever the layers are: token embeddings and the like.
    pub input_bytes: u64,
    /// Bytes of the output layer. With tied embeddings the copy of the token embeddings that llama.cpp makes for it.
    pub output_bytes: u64,
    /// Bytes of that copy; 0 when the output layer has a matrix of its own. In RAM nothing is copied.
    pub tied_bytes: u64,
    /// Tokens that windowed layers attend to; 0 without such layers.
    pub window: u64,
    /// Bytes of tensors that the language model does not use (vision tensors in old Ollama blobs).
    pub projector_bytes: u64,
    /// Experts a token uses and experts there are; 0 without experts.
    pub experts: (u64, u64),
    /// Layers behind the last that only predict further tokens. They are not loaded, but count where layers are dealt out.
    pub(super) ahead: usize,
    /// Width of the embeddings of all layers for one token; 0: there are none, or several streams use them.
    pub(super) per_layer: u64,
    /// Elements of V per cell in the layer that has most.
    pub(super) widest_value: u64,
    /// The heaviest matrix of each role.
    pub(super) heaviest: Heaviest,
    /// What is kept of the tokens seen.
    pub(super) memory: Memory,
    /// Whether positions have embeddings of their own, looked up in RAM.
    pub(super) position_rows: bool,
    /// Whether it predicts tokens.
    pub(super) logits: bool,
    /// Numbers that a token's position takes (sections of height, width and time in models that see).
    pub(super) position_parts: u64,
    /// Several streams beside each other; `None`: one.
    pub(super) streams: Option<Streams>,
    /// Whether the stream behind the last layer is kept.
    pub(super) keeps_last: bool,
    /// The different layers, in order of appearance.
    pub(super) kinds: Vec<Kind>,
    /// The kind of each layer.
    pub(super) kind_of: Vec<usize>,
    /// Sums over the first layers: entry `n` of the first `n`.
    pub(super) sums: Vec<Sums>,
}

/// Sums over the layers before one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sums {
    /// [`Layer::dense_bytes`].
    pub(super) dense: u64,
    /// [`Layer::expert_bytes`].
    pub(super) expert: u64,
    /// Key and value elements per cell of the layers that attend to everything.
    pub(super) full: (u64, u64),
    /// Key and value elements per cell of the layers that attend to a window.
    pub(super) windowed: (u64, u64),
    /// Layers that own a cache: those that attend to everything and those that attend to a window.
    pub(super) owners: (u64, u64),
    /// [`Layer::state_bytes`].
    pub(super) state: u64,
}

/// A header that tells no shape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShapeError {
    /// It does not name its architecture.
    NoArchitecture,
    /// A projector, an adapter, a vocabulary: not a model that runs by itself.
    NotAModel(String),
    /// It has no table of tensors.
    NoTensors,
    /// A key that every model has is missing or out of range.
    Key(String),
    /// Tensors of a type without a known size.
    Types(UnknownTypes),
}

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoArchitecture => f.write_str("the header does not name an architecture"),
            Self::NotAModel(kind) => {
                write!(f, "the file is a {kind}, not a model that runs by itself")
            }
            Self::NoTensors => f.write_str("the header has no table of tensors"),
            Self::Key(key) => write!(f, "`{key}` is missing from the header or out of range"),
            Self::Types(types) => types.fmt(f),
        }
    }
}

impl std::error::Error for ShapeError {}

impl Shape {
    /// The shape that a header describes.
    pub fn of(header: &Header) -> Result<Self, ShapeError> {
        let architecture = header.architecture().ok_or(ShapeError::NoArchitecture)?;
        if matches!(architecture, "clip" | "controlvector" | "imatrix") {
            return Err(ShapeError::NotAModel(architecture.to_owned()));
        }
        if header.tensors.is_empty() {
            return Err(ShapeError::NoTensors);
        }
        header.tensor_bytes().map_err(ShapeError::Types)?;
        let family = family::family(architecture);
        let anatomy = Anatomy::new(header, family.unwrap_or_else(|| generic(header)))?;
        let mut shape = anatomy.shape(architecture.to_owned(), family.is_some());
        shape.sum();
        Ok(shape)
    }

    /// Layers that can be offloaded (`-ngl`): all of them and the output layer. llama.cpp counts layers that only predict further tokens too.
    pub fn gpu_layers(&self) -> u32 {
        let layers = self.layers.len().saturating_add(self.ahead);
        u32::try_from(layers.saturating_add(1)).unwrap_or(u32::MAX)
    }

    /// First layers to name (`--n-cpu-moe`) so that no expert is on a GPU; 0 without experts.
    pub fn expert_layers(&self) -> u32 {
        let last = self.layers.iter().rposition(|layer| layer.expert_bytes > 0);
        last.map_or(0, |last| {
            u32::try_from(last.saturating_add(1)).unwrap_or(u32::MAX)
        })
    }

    fn sum(&mut self) {
        let mut sums = Sums::default();
        self.sums = Vec::with_capacity(self.layers.len().saturating_add(1));
        self.sums.push(sums);
        for layer in &self.layers {
            sums.dense = sums.dense.saturating_add(layer.dense_bytes);
            sums.expert = sums.expert.saturating_add(layer.expert_bytes);
            sums.state = sums.state.saturating_add(layer.state_bytes);
            let (cells, owners) = if layer.windowed {
                (&mut sums.windowed, &mut sums.owners.1)
            } else {
                (&mut sums.full, &mut sums.owners.0)
            };
            *owners = owners.saturating_add(u64::from(layer.key_width > 0));
            cells.0 = cells.0.saturating_add(layer.key_width);
            cells.1 = cells.1.saturating_add(layer.value_width);
            self.sums.push(sums);
        }
    }
}

/// What is assumed of an architecture that this version does not know: windows and states as far as the metadata tell of them.
fn generic(header: &Header) -> Family {
    let listed = header
        .arch_get("attention.sliding_window_pattern")
        .and_then(super::Value::array_len)
        .is_some();
    let states = header.arch_get("ssm.inner_size").is_some();
    Family {
        windows: if listed {
            Windows::Listed
        } else {
            Windows::Never
        },
        recurrence: if states {
            Recurrence::WithoutHeads
        } else {
            Recurrence::Never
        },
        ..family::PLAIN
    }
}
