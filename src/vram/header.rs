//! A model's header: metadata and the table of tensors, without their data.

use std::collections::BTreeMap;

use super::{FileType, Quantization, TensorType};

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
    /// An array of at most [`MAX_NUMBERS`] numbers or truth values (layer by layer figures), as numbers.
    Numbers(Vec<f64>),
    /// Any other array (texts, arrays, many numbers) or a very long text: the number of its elements (bytes).
    Length(u64),
}

/// Longest array that keeps its numbers. Twice the layers of the deepest model known, times two.
pub const MAX_NUMBERS: u64 = 1024;

impl Value {
    /// A whole number that is not negative.
    pub fn as_unsigned(&self) -> Option<u64> {
        match self {
            Self::Unsigned(value) => Some(*value),
            Self::Signed(value) => u64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// Any number.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a float is asked for; counts of models are far below 2^53"
    )]
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Self::Unsigned(value) => Some(*value as f64),
            Self::Signed(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// A truth value.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// Text.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(value) => Some(value),
            _ => None,
        }
    }

    /// The number of elements of an array.
    pub fn array_len(&self) -> Option<u64> {
        match self {
            Self::Numbers(values) => u64::try_from(values.len()).ok(),
            Self::Length(length) => Some(*length),
            _ => None,
        }
    }

    /// The figure for a layer: the same for all of them when it is a single number or truth value (0 or 1), else the array's entry. `None`
    /// for text, for an array that kept only its length, and beyond an array's end.
    pub fn at_layer(&self, layer: usize) -> Option<f64> {
        match self {
            Self::Numbers(values) => values.get(layer).copied(),
            Self::Bool(value) => Some(f64::from(u8::from(*value))),
            _ => self.as_float(),
        }
    }
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

impl Tensor {
    /// Its elements; `None` beyond 64 bits.
    pub fn elements(&self) -> Option<u64> {
        (self.dims.iter()).try_fold(1_u64, |product, &dim| product.checked_mul(dim))
    }

    /// Its bytes, see [`TensorType::bytes`].
    pub fn bytes(&self) -> Option<u64> {
        self.kind.bytes(&self.dims)
    }
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

/// Tensors whose size cannot be known: their types, each once, in the order of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownTypes(pub Vec<TensorType>);

impl std::fmt::Display for UnknownTypes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        write!(
            f,
            "tensors of a type without a known size: {}",
            names.join(", ")
        )
    }
}

impl std::error::Error for UnknownTypes {}

/// Metadata by key.
impl Header {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.0.get(key)
    }

    /// The text of a key.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_text()
    }

    /// The whole number of a key.
    pub fn unsigned(&self, key: &str) -> Option<u64> {
        self.get(key)?.as_unsigned()
    }

    /// The number of a key.
    pub fn float(&self, key: &str) -> Option<f64> {
        self.get(key)?.as_float()
    }

    /// The truth value of a key.
    pub fn boolean(&self, key: &str) -> Option<bool> {
        self.get(key)?.as_bool()
    }

    /// The architecture (`llama`, `qwen3moe`), which is also the prefix of the keys of its shape.
    pub fn architecture(&self) -> Option<&str> {
        self.text("general.architecture")
    }

    /// The value of `<architecture>.<key>`.
    pub fn arch_get(&self, key: &str) -> Option<&Value> {
        self.get(&format!("{}.{key}", self.architecture()?))
    }

    /// The whole number of `<architecture>.<key>`.
    pub fn arch_unsigned(&self, key: &str) -> Option<u64> {
        self.arch_get(key)?.as_unsigned()
    }

    /// The number of `<architecture>.<key>`.
    pub fn arch_float(&self, key: &str) -> Option<f64> {
        self.arch_get(key)?.as_float()
    }

    /// The truth value of `<architecture>.<key>`.
    pub fn arch_bool(&self, key: &str) -> Option<bool> {
        self.arch_get(key)?.as_bool()
    }

    /// The text of `<architecture>.<key>`.
    pub fn arch_text(&self, key: &str) -> Option<&str> {
        self.arch_get(key)?.as_text()
    }

    /// The number of `<architecture>.<key>` for a layer, whether the key holds one number or one for each layer ([`Value::at_layer`]).
    pub fn layer_float(&self, key: &str, layer: usize) -> Option<f64> {
        self.arch_get(key)?.at_layer(layer)
    }

    /// The same as a whole number; `None` when it is none or negative.
    pub fn layer_unsigned(&self, key: &str, layer: usize) -> Option<u64> {
        let value = self.arch_get(key)?;
        value
            .as_unsigned()
            .or_else(|| whole(value.at_layer(layer)?))
    }

    /// The same as a truth value: anything but 0.
    pub fn layer_bool(&self, key: &str, layer: usize) -> Option<bool> {
        Some(self.layer_float(key, layer)? != 0.0)
    }
}

/// A whole number that a float holds exactly.
fn whole(value: f64) -> Option<u64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked: whole, not negative, at most 2^53"
    )]
    ((0.0..=EXACT).contains(&value) && value.fract() == 0.0).then_some(value as u64)
}

/// What follows from metadata and tensors together.
impl Header {
    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// The length of the token list, where the file has one.
    pub fn tokens(&self) -> Option<u64> {
        self.get("tokenizer.ggml.tokens")?.array_len()
    }

    /// Tokens of the vocabulary: as the header tells it, else the length of the token list, else the rows of the output or embedding tensor.
    pub fn vocab_size(&self) -> Option<u64> {
        self.arch_unsigned("vocab_size")
            .filter(|&size| size > 0)
            .or_else(|| self.tokens().filter(|&length| length > 0))
            .or_else(|| {
                let table =
                    (self.tensor("output.weight")).or_else(|| self.tensor("token_embd.weight"))?;
                table.dims.get(1).copied()
            })
    }

    /// Parameters: the elements of all tensors, so that an embedding which also serves as output layer counts once. Without a tensor table
    /// the header's own count; `None` when it has none either, or beyond 64 bits.
    pub fn parameters(&self) -> Option<u64> {
        if self.tensors.is_empty() {
            return self.unsigned("general.parameter_count");
        }
        (self.tensors.iter()).try_fold(0_u64, |sum, tensor| sum.checked_add(tensor.elements()?))
    }

    /// Bytes of all tensors, without the padding between them. An error names the types without a known size: use
    /// [`tensor_bytes_of_file`](Self::tensor_bytes_of_file) then.
    pub fn tensor_bytes(&self) -> Result<u64, UnknownTypes> {
        let mut sum = 0_u64;
        let mut unknown = Vec::new();
        for tensor in &self.tensors {
            match tensor.bytes().and_then(|bytes| sum.checked_add(bytes)) {
                Some(next) => sum = next,
                None if unknown.contains(&tensor.kind) => {}
                None => unknown.push(tensor.kind),
            }
        }
        if unknown.is_empty() {
            Ok(sum)
        } else {
            Err(UnknownTypes(unknown))
        }
    }

    /// Bytes of all tensors by the size of the file (of all shards together): what is left without the header. Off by the padding between
    /// tensors and by the headers of further shards, a few KiB and never under.
    pub fn tensor_bytes_of_file(&self, file_bytes: u64) -> u64 {
        file_bytes.saturating_sub(self.data_offset)
    }

    /// What a person calls its quantisation: the header's file type where it is a known one, else the type that holds most bytes (most
    /// elements where a size is unknown). `None` without tensors.
    pub fn quantization(&self) -> Option<Quantization> {
        let told = (self.unsigned("general.file_type"))
            .and_then(|number| u32::try_from(number).ok())
            .map(FileType)
            .filter(|file_type| file_type.name().is_some());
        if let Some(told) = told {
            return Some(Quantization::Told(told));
        }
        let sized = self.tensor_bytes().is_ok();
        let mut held: BTreeMap<TensorType, u64> = BTreeMap::new();
        for tensor in &self.tensors {
            let weight = if sized {
                tensor.bytes()
            } else {
                tensor.elements()
            };
            let sum = held.entry(tensor.kind).or_default();
            *sum = sum.saturating_add(weight.unwrap_or(u64::MAX));
        }
        (held.into_iter().max_by_key(|&(_, weight)| weight))
            .map(|(kind, _)| Quantization::Mostly(kind))
    }
}

#[cfg(test)]
#[path = "header_tests.rs"]
mod tests;
