//! Where a model's header comes from: a file, the local Ollama store, a node, a registry, any URL with ranges.
//!
//! [`Spec`] is what the user wrote; [`find()`] looks for it in the order that the command line promises and says where the answer comes from
//! and how sure it is ([`Basis`](crate::vram::Basis)). Nothing here knows what a header means for memory, and nothing here changes a node.

mod cache;
mod error;
mod file;
mod files;
mod find;
mod finder;
mod found;
mod huggingface;
mod manifest;
mod nearest;
mod node;
mod ollama;
mod ranged;
mod repository;
mod spec;
mod store;
mod tag;
mod tree;
mod web;
mod web_error;

pub use error::{FileTrouble, Service, SourceError};
pub use files::quantization;
pub use find::find;
pub use finder::{Finder, Places, Progress};
pub use found::{Companion, Found, Variant};
pub use manifest::OllamaParams;
pub use repository::{Pick, Repository};
pub use spec::{Spec, SpecError};
pub use tag::OllamaName;
pub use web::{Limits, Proxies};
pub use web_error::{Trouble, WebError};
