//! The server: one accept loop, one thread per connection.
//!
//! The accept loop survives everything that `accept(2)` and thread creation can fail with; each connection has deadlines for its head, its
//! body, its idle time and its reader; a panic costs one request.

mod accept;
mod body;
mod connection;
mod head;
mod linger;
mod refusal;
mod registry;
mod reply;
mod request;

use std::time::Duration;

pub use accept::{Drained, Server, Stopper};
pub use body::{BodyError, BodyReader};
pub use refusal::{Refusal, Refused};
pub use reply::{Framing, Reply};
pub use request::Request;

/// What a server grants its clients.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at the same time; one more is answered 503.
    pub max_connections: usize,
    /// Time for a whole request head, however many reads it takes. Also for the first byte on a new connection.
    pub head: Duration,
    /// Time between two requests of a connection, and between two pieces of a streamed request body.
    pub idle: Duration,
    /// Time for a whole request body that is read at once.
    pub body: Duration,
    /// Time for one write to a client that reads slowly.
    pub write: Duration,
    /// Bytes of a request body that is read at once.
    pub max_body: u64,
    /// Bytes of a request head.
    pub max_head: usize,
    /// Fields of a request head; at most 256.
    pub max_headers: usize,
    /// Time that running requests get to finish after a stop.
    pub drain: Duration,
}

impl Default for Limits {
    /// Values of common servers: nginx waits 60 s for heads and 75 s between requests; hyper takes 100 fields.
    fn default() -> Self {
        Self {
            max_connections: 2048,
            head: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            body: Duration::from_secs(120),
            write: Duration::from_secs(60),
            max_body: 64 * 1024 * 1024,
            max_head: 64 * 1024,
            max_headers: 100,
            drain: Duration::from_secs(30),
        }
    }
}

/// What a server does with requests. Called on the thread of the connection, for one request at a time per connection.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request through `reply`. An answer that is started but not ended when this returns is cut, never completed.
    fn handle<'c>(&self, request: &mut Request<'c>, reply: &mut Reply<'c>);

    /// The answer to a request that the HTTP layer refuses, in the dialect of `target` where it is known. Must not block: the accept loop
    /// calls it too.
    fn refuse(&self, refusal: &Refusal, target: Option<&str>) -> Refused;
}
