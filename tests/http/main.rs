//! The HTTP layer over real sockets, with raw bytes on the other side.

mod client;
mod framing;
mod lifecycle;
mod relay;
mod support;
mod tls;
