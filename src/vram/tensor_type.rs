//! The tensor types of GGUF with their exact block sizes.

/// A tensor type of ggml, by its number in a GGUF file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TensorType(pub u32);
