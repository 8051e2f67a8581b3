//! What a model takes: GGUF headers, tensor types, architectures, estimates by part, known models, known GPUs, speeds.
//!
//! Pure: a header comes from any `Read`, an estimate from a header; files, sockets and clocks are the business of [`crate::source`] and
//! [`crate::gpu`].

mod card;
mod estimate;
mod header;
mod settings;
mod tensor_type;

pub use card::GpuCard;
pub use estimate::{Basis, Estimate, Offload, Parts, Range};
pub use header::{Header, Metadata, Tensor, Value};
pub use settings::{CacheType, Runtime, Settings};
pub use tensor_type::TensorType;
