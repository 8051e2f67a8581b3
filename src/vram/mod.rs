//! What a model takes: GGUF headers, tensor types, architectures, estimates by part, known models, known GPUs, speeds.
//!
//! Pure: a header comes from any `Read`, an estimate from a header; files, sockets and clocks are the business of [`crate::source`] and
//! [`crate::gpu`].

mod altup;
mod anatomy;
mod arena;
mod arrival;
mod attention;
mod card;
mod compute;
mod estimate;
mod extras;
mod family;
mod feed;
mod geometry;
mod gguf;
mod gguf_error;
mod graph;
mod header;
mod input;
mod kinds;
mod known;
mod layer;
mod log;
mod named;
mod quantization;
mod recurrent;
mod runtime;
mod scaled;
mod settings;
mod shape;
mod shards;
mod show;
mod spans;
mod speed;
mod tensor_type;

pub use card::{GpuCard, Maker, NamedCard, cards, find_card};
pub use estimate::{Basis, Estimate, Offload, Parts, Range, Subject, estimate, estimate_with};
pub use extras::Extras;
pub use gguf::read;
pub use gguf_error::{Fault, GgufError, Limited, Lookalike};
pub use header::{Header, MAX_NUMBERS, Metadata, Tensor, UnknownTypes, Value};
pub use known::{KnownModel, find_known, known_models};
pub use layer::Layer;
pub use log::{Buffer, BufferKind, Load, LoggedSettings, read_fit_print, read_log};
pub use named::{NameError, NamedModel, NamedQuant, NamedSize, UnknownQuant, UsualShape};
pub use quantization::{FileType, Quantization};
pub use runtime::{Backend, Learned, runtime_bytes};
pub use settings::{CacheType, Runtime, Settings, UnknownCacheType};
pub use shape::{Shape, ShapeError};
pub use shards::{ShardError, ShardName, Split, merge};
pub use show::ShowError;
pub use speed::{DeviceRead, TokensPerSecond, bytes_read, decode_speed, plausible_speed};
pub use tensor_type::{Block, TensorType};
