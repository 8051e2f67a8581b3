//! Requests that the HTTP layer answers itself.

/// Why a request is answered without its handler, or in place of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The head or its framing is not what RFC 9112 allows; the text says what.
    Malformed(&'static str),
    /// The head did not arrive within its deadline.
    HeadTimeout,
    /// The head is longer than allowed.
    HeadTooLarge,
    /// More header fields than allowed.
    TooManyHeaders,
    /// An `Expect` other than `100-continue`.
    UnsupportedExpectation,
    /// A `Transfer-Encoding` other than `chunked`.
    UnsupportedTransferCoding,
    /// Not HTTP/1.0 or HTTP/1.1.
    UnsupportedVersion,
    /// Every connection slot is taken, or no thread could be started.
    TooManyConnections,
    /// The handler panicked or ended without an answer.
    HandlerFailed,
}

impl Refusal {
    /// The status code that goes with it.
    pub fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) => 400,
            Self::HeadTimeout => 408,
            Self::UnsupportedExpectation => 417,
            Self::HeadTooLarge | Self::TooManyHeaders => 431,
            Self::HandlerFailed => 500,
            Self::UnsupportedTransferCoding => 501,
            Self::TooManyConnections => 503,
            Self::UnsupportedVersion => 505,
        }
    }

    /// One sentence for the client, without a full stop.
    pub fn message(&self) -> &'static str {
        match self {
            Self::Malformed(what) => what,
            Self::HeadTimeout => "the request head did not arrive in time",
            Self::HeadTooLarge => "the request head is too large",
            Self::TooManyHeaders => "the request has too many header fields",
            Self::UnsupportedExpectation => "only the expectation 100-continue is supported",
            Self::UnsupportedTransferCoding => "only the transfer coding chunked is supported",
            Self::UnsupportedVersion => "only HTTP/1.1 and HTTP/1.0 are supported",
            Self::TooManyConnections => "too many connections",
            Self::HandlerFailed => "the request failed inside the server",
        }
    }
}

/// Body of an answer to a refused request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Value of `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}
