//! One node's API: what it is, what it holds, how it feels, asked without ever making it work; discovery of local servers.
//!
//! A look at a node never generates, loads, unloads or keeps anything in memory; what is told to a node is in `control` alone. It is bounded in time and size, so that a node that
//! hangs or talks nonsense costs one thread a few seconds and nobody else anything.

mod client;
mod control;
mod discover;
mod json;
mod llama;
mod load;
mod monitor;
mod ollama;
mod openai;
mod probe;
mod remote;
mod show;

pub use client::{Failure, router_client};
pub(crate) use client::{cause, tls};
pub use control::LONGEST_LOAD;
pub use discover::{candidates, discover, discover_at};
pub use load::{LoadCall, LoadFailure};
pub use monitor::{Monitor, OnChange, Outcome, POLL_INTERVAL, Rediscovery};
pub use probe::{PROBE_LIMIT, Prober, gather};
pub use remote::RemoteGpus;
pub use show::{LlamaProps, Shown};
