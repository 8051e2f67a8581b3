//! The wire forms of Ollama, OpenAI and Anthropic: requests, stream events, errors, merging of lists.
//!
//! Pure: bytes in, bytes out. Knows nothing of sockets.

mod endpoint;
pub mod translate;

pub use endpoint::{Dialect, Endpoint};
