//! HTTP/1.1 server and client over `std::net`: framing, limits, time-outs, cancellation.
//!
//! One thread per connection and `poll(2)` on two sockets: while a node is silent, the thread that relays its answer sees at once that the
//! client left. Framing follows RFC 9112 strictly, because a proxy that reads a length differently from its neighbour can be tricked into
//! taking a body for a request.

pub mod chunk;
pub mod client;
pub mod headers;
pub mod server;

mod buffer;
mod date;
mod field;
mod poll;
mod scan;
mod socket;

pub use poll::Watch;

/// Raises the soft limit of open files to the hard one and returns the limit in force (`None`: unlimited).
///
/// Two sockets per relayed request; the usual soft limit of 1024 would otherwise end at about 500 of them.
pub fn raise_file_limit() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current,
        Err(_) => limit.current,
    }
}
