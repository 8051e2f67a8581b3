//! The answer of an upstream, piece by piece as it arrives.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Origin, ReadError, Shared,
    exchange::{Exchange, earlier},
    head::{BodyFraming, ResponseHead},
    link::{Link, Received},
};
use crate::http::{Watch, chunk::ChunkDecoder, headers::Headers, poll::after};

/// An answer whose head has been read. Dropping it before its end closes the connection; after its end, the connection is kept.
pub struct Incoming {
    shared: Arc<Shared>,
    origin: Origin,
    head: ResponseHead,
    /// None after a failure: the connection is closed at once.
    link: Option<Link>,
    body: Body,
    length: Option<u64>,
    close_delimited: bool,
    between: Option<Duration>,
    total: Option<Instant>,
    /// Payload handed out last, at the front of the buffer, and framing bytes behind it.
    piece: usize,
    gap: usize,
}

#[derive(Debug)]
enum Body {
    Length(u64),
    Chunked(Box<ChunkDecoder>),
    Close,
    Ended(Headers),
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("origin", &self.origin)
            .field("head", &self.head)
            .field("ended", &self.ended())
            .finish_non_exhaustive()
    }
}

impl Incoming {
    pub(super) fn new(
        shared: &Arc<Shared>,
        exchange: &Exchange<'_, '_, '_, '_>,
        mut link: Link,
        framing: BodyFraming,
    ) -> Self {
        let body = match framing {
            BodyFraming::Empty => Body::Ended(Headers::default()),
            BodyFraming::Length(length) => Body::Length(length),
            BodyFraming::Chunked => Body::Chunked(Box::default()),
            BodyFraming::Close => Body::Close,
        };
        let length = match framing {
            BodyFraming::Empty => Some(0),
            BodyFraming::Length(length) => Some(length),
            BodyFraming::Chunked | BodyFraming::Close => None,
        };
        Self {
            shared: Arc::clone(shared),
            origin: exchange.origin.clone(),
            head: std::mem::take(&mut link.head),
            link: Some(link),
            body,
            length,
            close_delimited: framing == BodyFraming::Close,
            between: exchange.deadlines.between,
            total: exchange.total,
            piece: 0,
            gap: 0,
        }
    }

    /// The status code, 200 to 599.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// The header fields.
    pub fn headers(&self) -> &Headers {
        &self.head.headers
    }

    /// Length of the body if it was declared or there is none. The length of an answer to `HEAD` is only in its headers.
    pub fn length(&self) -> Option<u64> {
        self.length
    }

    /// Whether the body ends with the connection, so that its end cannot be told from a cut.
    pub fn close_delimited(&self) -> bool {
        self.close_delimited
    }

    /// Whether everything up to the end of the body has been handed out. Then [`Self::next`] returns `None` without waiting.
    pub fn ended(&self) -> bool {
        match &self.body {
            Body::Length(left) => *left == 0,
            Body::Chunked(chunks) => chunks.done(),
            Body::Close => false,
            Body::Ended(_) => true,
        }
    }

    /// The trailer fields; empty before the end of the body.
    pub fn trailers(&self) -> Headers {
        match &self.body {
            Body::Chunked(chunks) => chunks.trailers(),
            Body::Ended(trailers) => trailers.clone(),
            Body::Length(_) | Body::Close => Headers::default(),
        }
    }

    /// The payload of one read from the upstream, freed from chunk framing; `None` at the proper end. See [`Self::advance`].
    pub fn next(&mut self, watch: Option<Watch<'_>>) -> Result<Option<&[u8]>, ReadError> {
        Ok(if self.advance(watch)? {
            Some(self.piece())
        } else {
            None
        })
    }

    /// Waits for the next [`Self::piece`]; false at the proper end. After an error the connection is closed, and every further call reports
    /// [`ReadError::Cut`].
    pub fn advance(&mut self, watch: Option<Watch<'_>>) -> Result<bool, ReadError> {
        let advanced = self.try_advance(watch);
        if advanced.is_err() {
            self.piece = 0;
            self.link = None;
        }
        advanced
    }

    /// The payload that the last [`Self::advance`] found. Together with [`Self::ended`] it tells the last piece from the others.
    pub fn piece(&self) -> &[u8] {
        let unread = self.link.as_ref().map(|link| link.input.unread());
        unread
            .and_then(|unread| unread.get(..self.piece))
            .unwrap_or_default()
    }

    /// Puts the next payload at the front of the buffer; false at the end of the body.
    fn try_advance(&mut self, watch: Option<Watch<'_>>) -> Result<bool, ReadError> {
        let link = match &mut self.link {
            Some(link) => link,
            None if matches!(self.body, Body::Ended(_)) => return Ok(false),
            None => return Err(ReadError::Cut),
        };
        link.input.consume(self.piece + self.gap);
        (self.piece, self.gap) = (0, 0);
        loop {
            if let Some(trailers) = self.body.end() {
                self.body = Body::Ended(trailers);
            }
            if matches!(self.body, Body::Ended(_)) {
                return Ok(false);
            }
            if !link.input.is_empty() {
                let (produced, consumed) = self.body.take(link.input.unread_mut())?;
                if produced > 0 {
                    self.piece = produced;
                    self.gap = consumed - produced;
                    return Ok(true);
                }
                link.input.consume(consumed);
                continue;
            }
            let idle = self.between.map(after);
            let deadline = earlier(idle, self.total);
            match link.receive(watch, deadline) {
                Ok(Received::Bytes) => {}
                Ok(Received::End) if matches!(self.body, Body::Close) && !link.torn => {
                    self.body = Body::Ended(Headers::default());
                }
                Ok(Received::End) => return Err(ReadError::Cut),
                Ok(Received::Gone) => return Err(ReadError::ClientGone),
                Ok(Received::Late) if deadline == self.total => return Err(ReadError::Total),
                Ok(Received::Late) => return Err(ReadError::Idle),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                    return Err(ReadError::Cut);
                }
                Err(error) => return Err(ReadError::Io(error)),
            }
        }
    }

    /// The whole rest of the body, if it has at most `limit` bytes; for answers that must be read before they can be used.
    pub fn read_all(
        &mut self,
        limit: usize,
        watch: Option<Watch<'_>>,
    ) -> Result<Vec<u8>, ReadError> {
        let mut body = Vec::new();
        while let Some(piece) = self.next(watch)? {
            if piece.len() > limit - body.len() {
                self.link = None;
                return Err(ReadError::TooLarge(limit));
            }
            body.extend_from_slice(piece);
        }
        Ok(body)
    }
}

impl Body {
    /// The trailers, once the end has been received.
    fn end(&self) -> Option<Headers> {
        match self {
            Self::Length(0) => Some(Headers::default()),
            Self::Chunked(chunks) if chunks.done() => Some(chunks.trailers()),
            _ => None,
        }
    }

    /// Moves payload to the front of `unread`: its length, and the bytes used including framing.
    fn take(&mut self, unread: &mut [u8]) -> Result<(usize, usize), ReadError> {
        match self {
            Self::Length(left) => {
                let count = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(unread.len());
                *left -= count as u64;
                Ok((count, count))
            }
            Self::Chunked(chunks) => {
                let decoded = chunks.decode(unread).map_err(|_| ReadError::Cut)?;
                Ok((decoded.produced, decoded.consumed))
            }
            Self::Close => Ok((unread.len(), unread.len())),
            Self::Ended(_) => Ok((0, unread.len())),
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let Some(mut link) = self.link.take() else {
            return;
        };
        link.input.consume(self.piece + self.gap);
        let clean = self.ended() && link.input.is_empty() && !link.unusable && !link.torn;
        if clean && !self.close_delimited && self.head.keeps_alive() {
            let idle = self.head.idle_seconds().map(Duration::from_secs);
            link.head = std::mem::take(&mut self.head);
            self.shared.pool.park(self.origin.key(), link, idle);
        }
    }
}
