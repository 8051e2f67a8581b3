//! The HTTP layer over real sockets, with raw bytes on the other side.

#![allow(
    unreachable_pub,
    reason = "shared between the modules of one test program"
)]

mod client;
mod framing;
mod lifecycle;
mod phases;
mod relay;
mod sending;
mod support;
mod tls;
