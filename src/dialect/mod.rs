//! The wire forms of Ollama, OpenAI and Anthropic: requests, stream events, errors, merging of lists.
//!
//! Pure: bytes in, bytes out. Knows nothing of sockets.

mod body;
mod canonical;
mod cursor;
mod edit;
mod endpoint;
mod error;
mod headers;
mod json;
mod lists;
mod loaded;
mod prompt;
mod request;
mod session;
mod show;
mod stream;
pub mod translate;
mod upstream_error;
mod usage;
#[cfg(test)]
mod wire_samples;

pub use body::{MAX_BODY_BYTES, decode_content, multipart_model};
pub use canonical::Canonicalised;
pub use edit::{Edit, splice};
pub use endpoint::{Dialect, Endpoint, StreamForm};
pub use error::{ApiError, ErrorKind};
pub use headers::{
    cors_answer, cors_preflight, is_hop_by_hop, keep_request_header, keep_response_header,
};
pub use lists::{ROOT_TEXT, WIRE_VERSION, count_tokens, model, models, tags, version};
pub use loaded::ps;
pub use request::{KeepAlive, Parsed, parse};
pub use session::{SESSION_HEADERS, SessionHeader};
pub use show::{show_of, show_virtual};
pub use stream::{End, Release, StreamWatch};
pub use usage::{Usage, usage_of_body, usage_of_json};
