//! One request as its handler sees it.

use std::net::SocketAddr;

use super::{
    body::{Body, BodyError, BodyReader, Left},
    head::{BodyFraming, RequestHead},
};
use crate::http::headers::Headers;

/// A request whose head has been read; the body is read only when the handler asks.
#[derive(Debug)]
pub struct Request<'c> {
    pub(super) head: &'c RequestHead,
    pub(super) body: Body<'c>,
    pub(super) peer: SocketAddr,
}

impl<'c> Request<'c> {
    /// The method, spelled as received.
    pub fn method(&self) -> &'c str {
        self.head.method()
    }

    /// Path and query; an absolute URI is reduced to them. `*` for `OPTIONS *`.
    pub fn target(&self) -> &'c str {
        self.head.target()
    }

    /// The path without the query, not percent-decoded.
    pub fn path(&self) -> &'c str {
        let target = self.target();
        target.split_once('?').map_or(target, |(path, _)| path)
    }

    /// The query without `?`, not percent-decoded.
    pub fn query(&self) -> Option<&'c str> {
        self.target().split_once('?').map(|(_, query)| query)
    }

    /// The header fields.
    pub fn headers(&self) -> &'c Headers {
        &self.head.headers
    }

    /// Address of the client.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Declared length of the body: 0 without a body, `None` for a chunked one.
    pub fn content_length(&self) -> Option<u64> {
        match self.head.framing {
            BodyFraming::Empty => Some(0),
            BodyFraming::Length(length) => Some(length),
            BodyFraming::Chunked => None,
        }
    }

    /// Reads the rest of the body. A declared length above [`Limits::max_body`](super::Limits::max_body) is refused before anything is read,
    /// a chunked body as soon as it grows beyond. A body that ends early is an error, never a short body.
    pub fn read_body(&mut self) -> Result<Vec<u8>, BodyError> {
        self.body.read_all()
    }

    /// Gives the memory of the receive buffer back, for an answer that takes long. Pipelined bytes stay.
    pub fn release_memory(&mut self) {
        self.body.release();
    }

    /// Streams the body without a limit of size; each wait is limited by [`Limits::idle`](super::Limits::idle).
    pub fn body_reader(&mut self) -> BodyReader<'_, 'c> {
        BodyReader::new(&mut self.body)
    }

    /// Whether the whole body has been read.
    pub fn body_is_read(&self) -> bool {
        self.body.left() == Left::Nothing
    }
}
