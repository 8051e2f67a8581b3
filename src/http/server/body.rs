//! The body of a request: limits, deadlines, and truncation as an error.

use std::{
    cell::Cell,
    io::{self, IoSlice, Read},
    net::TcpStream,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use rustix::event::PollFlags;

use super::{Limits, head::BodyFraming};
use crate::http::{
    buffer::Buffer,
    chunk::ChunkDecoder,
    poll::{Ready, after, wait},
    socket,
};

/// First reservation for a body; more is reserved as bytes arrive, so that a declared length costs nothing by itself.
const FIRST_RESERVATION: usize = 256 * 1024;
/// Longest unread rest that is read and thrown away to keep the connection.
const MAX_DRAIN: u64 = 64 * 1024;
/// Time for that.
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// Why a request body could not be read.
#[derive(Debug)]
pub enum BodyError {
    /// Longer than the limit in bytes. Nothing beyond it was read.
    TooLarge(u64),
    /// The body did not arrive in time.
    Timeout,
    /// The client closed the connection in the middle of the body.
    Truncated,
    /// The chunked coding is broken.
    Malformed(String),
    /// The connection failed.
    Io(io::Error),
}

impl BodyError {
    /// The status code for the client.
    pub fn status(&self) -> u16 {
        match self {
            Self::TooLarge(_) => 413,
            Self::Timeout => 408,
            Self::Truncated | Self::Malformed(_) | Self::Io(_) => 400,
        }
    }
}

impl std::fmt::Display for BodyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLarge(limit) => write!(f, "the body is larger than {limit} bytes"),
            Self::Timeout => f.write_str("the body did not arrive in time"),
            Self::Truncated => f.write_str("the connection ended inside the body"),
            Self::Malformed(what) => write!(f, "the body is malformed: {what}"),
            Self::Io(error) => write!(f, "the body could not be read: {error}"),
        }
    }
}

impl std::error::Error for BodyError {}

impl From<BodyError> for io::Error {
    fn from(error: BodyError) -> Self {
        let kind = match &error {
            BodyError::Timeout => io::ErrorKind::TimedOut,
            BodyError::Truncated => io::ErrorKind::UnexpectedEof,
            BodyError::Io(inner) => inner.kind(),
            BodyError::TooLarge(_) | BodyError::Malformed(_) => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

/// What is left of the body, as far as both halves of an exchange must know: it decides whether the connection can be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    Bytes(u64),
    Unknown,
    /// The position in the stream is lost.
    Lost,
}

/// State shared by the request and the reply of one exchange.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) left: Cell<Left>,
    /// The client waits for `100 Continue` before it sends the body.
    pub(super) awaits_continue: Cell<bool>,
}

impl Progress {
    pub(super) fn new(framing: BodyFraming, expects_continue: bool) -> Self {
        let left = match framing {
            BodyFraming::Empty => Left::Nothing,
            BodyFraming::Length(length) => Left::Bytes(length),
            BodyFraming::Chunked => Left::Unknown,
        };
        Self {
            left: Cell::new(left),
            awaits_continue: Cell::new(expects_continue && left != Left::Nothing),
        }
    }

    /// Whether the rest of the body can be skipped so that the next request can follow.
    pub(super) fn skippable(&self) -> bool {
        match self.left.get() {
            Left::Nothing => true,
            Left::Bytes(left) => left <= MAX_DRAIN && !self.awaits_continue.get(),
            Left::Unknown | Left::Lost => false,
        }
    }
}

/// Reads the body of one request from the connection's buffer and socket.
#[derive(Debug)]
pub(super) struct Body<'c> {
    stream: &'c TcpStream,
    input: &'c mut Buffer,
    progress: &'c Progress,
    limits: &'c Limits,
    chunks: Option<ChunkDecoder>,
    /// Decoded payload at the front of the buffer, and framing bytes between it and what follows.
    ready: usize,
    gap: usize,
}

impl<'c> Body<'c> {
    pub(super) fn new(
        stream: &'c TcpStream,
        input: &'c mut Buffer,
        progress: &'c Progress,
        limits: &'c Limits,
    ) -> Self {
        let chunked = progress.left.get() == Left::Unknown;
        Self {
            stream,
            input,
            progress,
            limits,
            chunks: chunked.then(ChunkDecoder::default),
            ready: 0,
            gap: 0,
        }
    }

    pub(super) fn left(&self) -> Left {
        self.progress.left.get()
    }

    /// The whole rest of the body.
    pub(super) fn read_all(&mut self) -> Result<Vec<u8>, BodyError> {
        let limit = self.limits.max_body;
        let mut body = Vec::new();
        match self.progress.left.get() {
            Left::Nothing => return Ok(body),
            Left::Bytes(length) if length > limit => return Err(BodyError::TooLarge(limit)),
            Left::Lost => return Err(BodyError::Truncated),
            _ => {}
        }
        self.ask_for_it()?;
        let deadline = after(self.limits.body);
        if let Left::Bytes(length) = self.progress.left.get() {
            self.read_length(&mut body, length, deadline)?;
            return Ok(body);
        }
        while let Some(piece) = self.piece(deadline)? {
            if body.len() as u64 + piece.len() as u64 > limit {
                return Err(BodyError::TooLarge(limit));
            }
            body.extend_from_slice(piece);
            let taken = piece.len();
            self.take(taken);
        }
        Ok(body)
    }

    /// Gives the receive buffer's memory back when nothing is left in it.
    pub(super) fn release(&mut self) {
        self.input.release();
    }

    fn read_length(
        &mut self,
        body: &mut Vec<u8>,
        length: u64,
        deadline: Instant,
    ) -> Result<(), BodyError> {
        let wanted = usize::try_from(length).map_err(|_| BodyError::TooLarge(length))?;
        let buffered = self.input.unread();
        let front = buffered.get(..wanted).unwrap_or(buffered);
        body.reserve_exact(wanted.min(FIRST_RESERVATION.max(front.len())));
        body.extend_from_slice(front);
        let taken = front.len();
        self.input.consume(taken);
        while body.len() < wanted {
            self.note_left(wanted - body.len());
            if body.capacity() == body.len() {
                body.reserve_exact(body.len().min(wanted - body.len()));
            }
            match socket::receive(self.stream.as_fd(), body) {
                Ok(0) => return Err(self.lost(BodyError::Truncated)),
                Ok(_) => {}
                Err(error) => self.wait_after(error, deadline)?,
            }
        }
        // The vector never reserves beyond the body; if the allocator gave more, what follows goes back in order.
        if let Some(beyond) = body.get(wanted..) {
            self.input.append(beyond);
        }
        body.truncate(wanted);
        self.progress.left.set(Left::Nothing);
        Ok(())
    }

    fn note_left(&self, left: usize) {
        self.progress.left.set(Left::Bytes(left as u64));
    }

    /// The next decoded payload of a chunked body at the front of the buffer; `None` at its end.
    fn piece(&mut self, deadline: Instant) -> Result<Option<&[u8]>, BodyError> {
        while self.ready == 0 {
            self.input.consume(self.gap);
            self.gap = 0;
            let Some(chunks) = &mut self.chunks else {
                return Ok(None);
            };
            if chunks.done() {
                self.progress.left.set(Left::Nothing);
                return Ok(None);
            }
            if self.input.is_empty() {
                self.fill(deadline)?;
                continue;
            }
            match chunks.decode(self.input.unread_mut()) {
                Ok(decoded) => {
                    self.ready = decoded.produced;
                    self.gap = decoded.consumed - decoded.produced;
                }
                Err(error) => return Err(self.lost(BodyError::Malformed(error.to_string()))),
            }
        }
        Ok(self.input.unread().get(..self.ready))
    }

    fn take(&mut self, count: usize) {
        self.input.consume(count);
        self.ready -= count.min(self.ready);
    }

    fn fill(&mut self, deadline: Instant) -> Result<(), BodyError> {
        loop {
            match self.input.receive(self.stream.as_fd()) {
                Ok(0) => return Err(self.lost(BodyError::Truncated)),
                Ok(_) => return Ok(()),
                Err(error) => self.wait_after(error, deadline)?,
            }
        }
    }

    fn wait_after(&self, error: io::Error, deadline: Instant) -> Result<(), BodyError> {
        if error.kind() != io::ErrorKind::WouldBlock {
            return Err(self.lost(BodyError::Io(error)));
        }
        match wait(self.stream.as_fd(), PollFlags::IN, None, Some(deadline)) {
            Ok(Ready::Late) => Err(self.lost(BodyError::Timeout)),
            Ok(_) => Ok(()),
            Err(error) => Err(self.lost(BodyError::Io(error))),
        }
    }

    fn lost(&self, error: BodyError) -> BodyError {
        self.progress.left.set(Left::Lost);
        error
    }

    fn ask_for_it(&mut self) -> Result<(), BodyError> {
        if !self.progress.awaits_continue.replace(false) || !self.input.is_empty() {
            return Ok(());
        }
        let mut line = [IoSlice::new(b"HTTP/1.1 100 Continue\r\n\r\n")];
        socket::send_all(self.stream.as_fd(), &mut line, self.limits.write)
            .map_err(|error| self.lost(BodyError::Io(error)))
    }

    fn read_some(&mut self, into: &mut [u8]) -> Result<usize, BodyError> {
        if into.is_empty() {
            return Ok(0);
        }
        let deadline = after(self.limits.idle);
        match self.progress.left.get() {
            Left::Nothing => Ok(0),
            Left::Lost => Err(BodyError::Truncated),
            Left::Unknown => {
                self.ask_for_it()?;
                let count = match self.piece(deadline)? {
                    None => 0,
                    Some(piece) => copy(piece, into),
                };
                self.take(count);
                Ok(count)
            }
            Left::Bytes(left) => {
                self.ask_for_it()?;
                let room = usize::try_from(left).unwrap_or(usize::MAX).min(into.len());
                let into = into.get_mut(..room).unwrap_or_default();
                let count = if self.input.is_empty() {
                    self.receive_slice(into, deadline)?
                } else {
                    let count = copy(self.input.unread(), into);
                    self.input.consume(count);
                    count
                };
                let left = left - count as u64;
                self.progress.left.set(if left == 0 {
                    Left::Nothing
                } else {
                    Left::Bytes(left)
                });
                Ok(count)
            }
        }
    }

    fn receive_slice(&self, into: &mut [u8], deadline: Instant) -> Result<usize, BodyError> {
        loop {
            match socket::receive_slice(self.stream.as_fd(), into) {
                Ok(0) => return Err(self.lost(BodyError::Truncated)),
                Ok(count) => return Ok(count),
                Err(error) => self.wait_after(error, deadline)?,
            }
        }
    }

    /// Skips what the handler left unread. False: the connection cannot be used again.
    pub(super) fn skip_rest(&mut self) -> bool {
        if self.progress.left.get() == Left::Nothing {
            self.input.consume(self.gap);
            self.gap = 0;
            return true;
        }
        if !self.progress.skippable() {
            return false;
        }
        let deadline = after(DRAIN_TIME);
        let mut sink = [0_u8; 4096];
        while self.progress.left.get() != Left::Nothing {
            if Instant::now() >= deadline || self.skip_some(&mut sink, deadline).is_err() {
                return false;
            }
        }
        true
    }

    fn skip_some(&mut self, sink: &mut [u8], deadline: Instant) -> Result<(), BodyError> {
        if self.input.is_empty()
            && wait(self.stream.as_fd(), PollFlags::IN, None, Some(deadline))
                .map_err(BodyError::Io)?
                == Ready::Late
        {
            return Err(BodyError::Timeout);
        }
        self.read_some(sink).map(|_| ())
    }
}

fn copy(from: &[u8], into: &mut [u8]) -> usize {
    let count = from.len().min(into.len());
    if let (Some(into), Some(from)) = (into.get_mut(..count), from.get(..count)) {
        into.copy_from_slice(from);
    }
    count
}

/// Streams a request body of any size; a wait longer than the idle limit, a truncation and a broken chunk are errors.
#[derive(Debug)]
pub struct BodyReader<'r, 'c> {
    body: &'r mut Body<'c>,
}

impl<'r, 'c> BodyReader<'r, 'c> {
    pub(super) fn new(body: &'r mut Body<'c>) -> Self {
        Self { body }
    }
}

impl Read for BodyReader<'_, '_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.body.read_some(into).map_err(Into::into)
    }
}
