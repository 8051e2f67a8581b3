//! A model's header: metadata and the table of tensors, without their data.

use std::collections::BTreeMap;

use super::TensorType;

/// A metadata value. Token lists and other long arrays keep only their length.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// An unsigned integer of any width.
    Unsigned(u64),
    /// A signed integer of any width.
    Signed(i64),
    /// A floating-point number of any width.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// Text.
    Text(String),
    /// A short array of numbers or truth values (layer by layer figures), as numbers.
    Numbers(Vec<f64>),
    /// Any other array, of which only the number of elements is kept.
    Length(u64),
}

/// Metadata by key (`general.architecture`, `llama.block_count`, …).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metadata(pub BTreeMap<String, Value>);

/// One tensor of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    /// Name (`blk.0.attn_q.weight`).
    pub name: String,
    /// Type of its elements.
    pub kind: TensorType,
    /// Elements by dimension, the fastest first (ggml's `ne`); 1 to 4 of them.
    pub dims: Vec<u64>,
}

/// A model's metadata and tensor table, all its shards together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Header {
    /// GGUF version; 0 when the header did not come from a file (a node's `/api/show`).
    pub version: u32,
    /// Whether the file is big endian.
    pub big_endian: bool,
    /// The metadata.
    pub metadata: Metadata,
    /// The tensors of every shard.
    pub tensors: Vec<Tensor>,
    /// Bytes from the start of the (first) file to its tensor data; 0 when it did not come from a file.
    pub data_offset: u64,
    /// Files that it was read from; 1 when not split.
    pub shards: u32,
}
