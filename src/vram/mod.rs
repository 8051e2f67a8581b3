//! What a model takes: GGUF headers, tensor types, architectures, estimates by part, known models, known GPUs, speeds.
//!
//! Pure: a header comes from any `Read`, an estimate from a header; files, sockets and clocks are the business of [`crate::source`] and
//! [`crate::gpu`].

mod card;
mod estimate;
mod gguf;
mod gguf_error;
mod header;
mod input;
mod log;
mod quantization;
mod settings;
mod shards;
mod show;
mod tensor_type;

pub use card::GpuCard;
pub use estimate::{Basis, Estimate, Offload, Parts, Range};
pub use gguf::read;
pub use gguf_error::{Fault, GgufError, Limited, Lookalike};
pub use header::{Header, MAX_NUMBERS, Metadata, Tensor, UnknownTypes, Value};
pub use log::{Buffer, BufferKind, Load, LoggedSettings, read_fit_print, read_log};
pub use quantization::{FileType, Quantization};
pub use settings::{CacheType, Runtime, Settings};
pub use shards::{ShardError, ShardName, Split, merge};
pub use show::ShowError;
pub use tensor_type::{Block, TensorType};
