//! What a model takes: GGUF headers, tensor types, architectures, estimates by part, known models, known GPUs, speeds.
//!
//! Pure: a header comes from any `Read`, an estimate from a header; files, sockets and clocks are the business of [`crate::source`] and
//! [`crate::gpu`].

mod card;
mod estimate;
mod header;
mod known;
mod named;
mod runtime;
mod settings;
mod speed;
mod tensor_type;

pub use card::{GpuCard, Maker, NamedCard, cards, find_card};
pub use estimate::{Basis, Estimate, Offload, Parts, Range};
pub use header::{Header, Metadata, Tensor, Value};
pub use known::{KnownModel, find_known, known_models};
pub use named::{NamedSize, NamedQuant, UnknownQuant, UsualShape};
pub use runtime::{Backend, Learned, runtime_bytes};
pub use settings::{CacheType, Runtime, Settings};
pub use speed::{Share, TokensPerSecond, bytes_read, decode_speed, plausible};
pub use tensor_type::TensorType;
