//! What can go wrong with an upstream, told apart by what the caller may still do.

use std::{fmt, io};

/// Why there is no answer to relay.
#[derive(Debug)]
pub enum SendError {
    /// The watched client left; the upstream connection was closed.
    ClientGone,
    /// The name has no address; the text says why.
    Resolve(String),
    /// No address accepted a connection; the error of the last one tried.
    Connect(io::Error),
    /// No address answered in time.
    ConnectTimeout,
    /// TLS failed; the text says why.
    Tls(String),
    /// The upstream did not take the request in time.
    SendTimeout,
    /// The upstream closed the connection before the first byte of an answer.
    ClosedWithoutAnswer,
    /// The upstream closed the connection inside the head of its answer.
    CutHead,
    /// No complete head came within [`Deadlines::first_byte`](super::Deadlines::first_byte).
    FirstByteTimeout,
    /// [`Deadlines::total`](super::Deadlines::total) is over.
    TotalTimeout,
    /// The answer is not HTTP/1.1, or its framing is ambiguous; the text says what.
    Malformed(String),
    /// The body to send could not be read.
    Body(io::Error),
    /// The connection failed before an answer.
    Io(io::Error),
}

impl SendError {
    /// Whether the upstream had begun to answer. If not, the request may be tried elsewhere.
    pub fn answered(&self) -> bool {
        matches!(self, Self::CutHead | Self::Malformed(_))
    }

    /// Whether a connection that was idle before may simply have been closed by the upstream meanwhile.
    pub(super) fn stale(&self) -> bool {
        matches!(self, Self::ClosedWithoutAnswer | Self::Io(_))
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientGone => f.write_str("the client left"),
            Self::Resolve(why) => write!(f, "the name could not be resolved: {why}"),
            Self::Connect(error) => write!(f, "no connection: {error}"),
            Self::ConnectTimeout => f.write_str("no connection within the time limit"),
            Self::Tls(why) => write!(f, "TLS failed: {why}"),
            Self::SendTimeout => f.write_str("the request was not taken within the time limit"),
            Self::ClosedWithoutAnswer => f.write_str("the connection was closed without an answer"),
            Self::CutHead => f.write_str("the connection was closed inside the answer's head"),
            Self::FirstByteTimeout => f.write_str("no answer began within the time limit"),
            Self::TotalTimeout => f.write_str("the time limit of the request is over"),
            Self::Malformed(what) => write!(f, "the answer is malformed: {what}"),
            Self::Body(error) => write!(f, "the body could not be read: {error}"),
            Self::Io(error) => write!(f, "the connection failed: {error}"),
        }
    }
}

impl std::error::Error for SendError {}

/// Why an answer stopped before its end.
#[derive(Debug)]
pub enum ReadError {
    /// The watched client left.
    ClientGone,
    /// Nothing came within [`Deadlines::between`](super::Deadlines::between).
    Idle,
    /// [`Deadlines::total`](super::Deadlines::total) is over.
    Total,
    /// The connection ended before the declared end, or a chunk is broken.
    Cut,
    /// The body is longer than the limit in bytes of [`Incoming::read_all`](super::Incoming::read_all).
    TooLarge(usize),
    /// The connection failed.
    Io(io::Error),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientGone => f.write_str("the client left"),
            Self::Idle => f.write_str("nothing came within the time limit"),
            Self::Total => f.write_str("the time limit of the request is over"),
            Self::Cut => f.write_str("the answer ended before its end"),
            Self::TooLarge(limit) => write!(f, "the answer is larger than {limit} bytes"),
            Self::Io(error) => write!(f, "the connection failed: {error}"),
        }
    }
}

impl std::error::Error for ReadError {}
