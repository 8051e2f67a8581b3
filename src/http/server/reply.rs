//! The answer to one request: framing, and as few writes as possible.

use std::{
    io::{self, IoSlice},
    net::TcpStream,
    os::fd::AsFd,
    sync::atomic::{AtomicBool, Ordering},
};

use memchr::memchr_iter;

use super::{Limits, body::Progress, head::RequestHead};
use crate::http::{
    date::DateCache,
    field::{is_hop_by_hop, push_decimal, push_field, push_hex, reason},
    poll::Watch,
    socket,
};

/// Up to so many bytes, copying a piece behind its framing costs less than a gathering write.
const COPIED: usize = 2048;
/// Capacity of the outgoing buffer that a connection keeps.
const LARGEST_KEPT: usize = 8192;

/// How the body of an answer is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Exactly so many bytes follow.
    Length(u64),
    /// Chunks; for an HTTP/1.0 client the end of the connection.
    Chunked,
}

/// Buffers of a connection that each of its answers uses again.
#[derive(Debug, Default)]
pub(super) struct ReplyMemory {
    /// Fields added by the handler before the head is started.
    fields: Vec<u8>,
    /// What goes out before the next piece: a held head, the size line of a chunk.
    out: Vec<u8>,
    date: DateCache,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is started.
    Fresh,
    /// The head is written down but not sent.
    Held,
    /// The head, and perhaps a part of the body, is sent.
    Sent,
    /// The answer is complete.
    Complete,
    /// The connection must be closed without pretending that the answer is complete.
    Broken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delimiter {
    /// No body follows, whatever the head says.
    Nothing,
    Bytes(u64),
    Chunks,
    /// The end of the connection.
    Close,
}

/// Writes the answer to one request. The head is held back until the first bytes of the body, so that both go out in one write.
#[derive(Debug)]
pub struct Reply<'c> {
    stream: &'c TcpStream,
    head: &'c RequestHead,
    progress: &'c Progress,
    limits: &'c Limits,
    stopping: &'c AtomicBool,
    memory: &'c mut ReplyMemory,
    state: State,
    delimiter: Delimiter,
    /// The connection is to be used again after this answer.
    keep_alive: bool,
}

impl<'c> Reply<'c> {
    pub(super) fn new(
        stream: &'c TcpStream,
        head: &'c RequestHead,
        progress: &'c Progress,
        limits: &'c Limits,
        stopping: &'c AtomicBool,
        memory: &'c mut ReplyMemory,
    ) -> Self {
        memory.fields.clear();
        memory.out.clear();
        Self {
            stream,
            head,
            progress,
            limits,
            stopping,
            memory,
            state: State::Fresh,
            delimiter: Delimiter::Nothing,
            keep_alive: head.keep_alive,
        }
    }

    /// Adds a field to the head that is started next, for values that are not text (those of an upstream, for example). Fields that belong
    /// to one hop or frame the message are left out: this layer writes them.
    pub fn add_header(&mut self, name: &str, value: &[u8]) {
        if !is_hop_by_hop(name) {
            push_field(&mut self.memory.fields, name, value);
        }
    }

    /// Closes the connection after this answer.
    pub fn close_after(&mut self) {
        self.keep_alive = false;
    }

    /// A whole answer in one write. It may replace a head that was started but not sent.
    pub fn full(&mut self, status: u16, headers: &[(&str, &str)], body: &[u8]) -> io::Result<()> {
        self.start(status, headers, Framing::Length(body.len() as u64))?;
        self.push_last(&[body])
    }

    /// Starts an answer whose body follows with [`Self::push`]. Nothing is sent yet.
    pub fn start(
        &mut self,
        status: u16,
        headers: &[(&str, &str)],
        framing: Framing,
    ) -> io::Result<()> {
        if !matches!(self.state, State::Fresh | State::Held) {
            return Err(misuse("the answer has been started"));
        }
        let bodiless = self.head.method() == "HEAD" || matches!(status, 204 | 304);
        let one_zero = self.head.minor == 0;
        self.delimiter = match framing {
            _ if bodiless => Delimiter::Nothing,
            Framing::Length(length) => Delimiter::Bytes(length),
            Framing::Chunked if one_zero => Delimiter::Close,
            Framing::Chunked => Delimiter::Chunks,
        };
        self.keep_alive = self.keep_alive
            && self.delimiter != Delimiter::Close
            && self.progress.skippable()
            && !self.stopping.load(Ordering::Relaxed);
        self.write_head(status, headers, framing);
        self.state = State::Held;
        Ok(())
    }

    fn write_head(&mut self, status: u16, headers: &[(&str, &str)], framing: Framing) {
        let ReplyMemory { fields, out, date } = &mut *self.memory;
        for (name, value) in headers {
            if !is_hop_by_hop(name) {
                push_field(fields, name, value.as_bytes());
            }
        }
        out.clear();
        out.extend_from_slice(b"HTTP/1.1 ");
        push_decimal(out, u64::from(status));
        out.push(b' ');
        out.extend_from_slice(reason(status).as_bytes());
        out.extend_from_slice(b"\r\n");
        if !has_date(fields) {
            push_field(out, "Date", date.now());
        }
        out.append(fields);
        match (framing, self.delimiter) {
            // Neither may carry a length of a body that it never has (RFC 9110 §8.6), except 304 that of the 200 it stands for.
            _ if status == 204 => {}
            (Framing::Length(length), _) => {
                out.extend_from_slice(b"Content-Length: ");
                push_decimal(out, length);
                out.extend_from_slice(b"\r\n");
            }
            (Framing::Chunked, Delimiter::Chunks) => {
                out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
            }
            (Framing::Chunked, _) => {}
        }
        if !self.keep_alive {
            out.extend_from_slice(b"Connection: close\r\n");
        } else if self.head.minor == 0 {
            out.extend_from_slice(b"Connection: keep-alive\r\n");
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Sends a held head without waiting for the first bytes of the body.
    pub fn flush_head(&mut self) -> io::Result<()> {
        match self.state {
            State::Held => self.send(&[], b""),
            State::Fresh => Err(misuse("the answer has not been started")),
            _ => Ok(()),
        }
    }

    /// Sends one piece of the body, made of `parts`, in one write: one chunk, or plain bytes where the framing is another.
    pub fn push(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let length: u64 = parts.iter().map(|part| part.len() as u64).sum();
        let end = self.open_piece(length)?;
        match self.delimiter {
            _ if length == 0 => Ok(()),
            Delimiter::Nothing => self.send(&[], b""),
            _ => self.send(parts, end),
        }
    }

    /// Sends the last piece together with the end of the body.
    pub fn push_last(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        self.finish(parts, &[])
    }

    /// Ends the body.
    pub fn end(&mut self) -> io::Result<()> {
        self.finish(&[], &[])
    }

    /// Ends the body with trailer fields, which are sent only to a client that asked for them.
    pub fn end_with_trailers(
        &mut self,
        parts: &[&[u8]],
        trailers: &[(&str, &str)],
    ) -> io::Result<()> {
        self.finish(parts, trailers)
    }

    /// Whether trailer fields would reach the client.
    pub fn accepts_trailers(&self) -> bool {
        self.head.accepts_trailers && self.head.minor == 1
    }

    fn finish(&mut self, parts: &[&[u8]], trailers: &[(&str, &str)]) -> io::Result<()> {
        let length: u64 = parts.iter().map(|part| part.len() as u64).sum();
        let end = self.open_piece(length)?;
        match self.delimiter {
            Delimiter::Bytes(left) if left > 0 => {
                self.state = State::Broken;
                return Err(misuse("the body is shorter than declared"));
            }
            Delimiter::Nothing => self.send(&[], b"")?,
            Delimiter::Chunks => {
                let mut last = Vec::new();
                let last: &[u8] = if trailers.is_empty() || !self.accepts_trailers() {
                    if length == 0 {
                        b"0\r\n\r\n"
                    } else {
                        b"\r\n0\r\n\r\n"
                    }
                } else {
                    last.extend_from_slice(end);
                    last.extend_from_slice(b"0\r\n");
                    for (name, value) in trailers {
                        push_field(&mut last, name, value.as_bytes());
                    }
                    last.extend_from_slice(b"\r\n");
                    &last
                };
                self.send(parts, last)?;
            }
            Delimiter::Bytes(_) | Delimiter::Close => self.send(parts, b"")?,
        }
        self.state = State::Complete;
        Ok(())
    }

    /// Writes down what precedes a piece of `length` bytes and returns what follows it.
    fn open_piece(&mut self, length: u64) -> io::Result<&'static [u8]> {
        match self.state {
            State::Held | State::Sent => {}
            State::Fresh => return Err(misuse("the answer has not been started")),
            State::Complete => return Err(misuse("the answer is complete")),
            State::Broken => return Err(io::ErrorKind::BrokenPipe.into()),
        }
        match &mut self.delimiter {
            Delimiter::Bytes(left) => {
                let Some(rest) = left.checked_sub(length) else {
                    self.state = State::Broken;
                    return Err(misuse("the body is longer than declared"));
                };
                *left = rest;
            }
            Delimiter::Chunks if length > 0 => {
                push_hex(&mut self.memory.out, length);
                self.memory.out.extend_from_slice(b"\r\n");
                return Ok(b"\r\n");
            }
            Delimiter::Chunks | Delimiter::Nothing | Delimiter::Close => {}
        }
        Ok(b"")
    }

    /// Sends what was written down, then the parts, then `end`.
    fn send(&mut self, parts: &[&[u8]], end: &[u8]) -> io::Result<()> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let sent = if length <= COPIED || parts.len() > 1 {
            for part in parts {
                self.memory.out.extend_from_slice(part);
            }
            self.memory.out.extend_from_slice(end);
            self.write(&mut [IoSlice::new(&self.memory.out)])
        } else {
            let piece = parts.first().copied().unwrap_or_default();
            self.write(&mut [
                IoSlice::new(&self.memory.out),
                IoSlice::new(piece),
                IoSlice::new(end),
            ])
        };
        self.memory.out.clear();
        self.memory.out.shrink_to(LARGEST_KEPT);
        self.state = if sent.is_ok() {
            State::Sent
        } else {
            State::Broken
        };
        sent
    }

    fn write(&self, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        socket::send_all(self.stream.as_fd(), slices, self.limits.write)
    }

    /// Gives the answer up: what was sent arrives, but the connection ends without the end of the body, so that the client cannot take the
    /// answer for complete. Nothing more can be written.
    pub fn abort(&mut self) {
        self.state = State::Broken;
        self.memory.out.clear();
    }

    /// Whether the client has been sent a part of the answer. Before that, another answer may still be given.
    pub fn committed(&self) -> bool {
        !matches!(self.state, State::Fresh | State::Held)
    }

    /// Whether the client has closed or reset its connection by now; does not wait.
    pub fn client_gone(&self) -> bool {
        self.watch().gone()
    }

    /// The client's connection, for whoever waits on its behalf.
    pub fn watch(&self) -> Watch<'c> {
        Watch::new(self.stream)
    }

    /// Whether the server is stopping; long work that can be cut short should be.
    pub fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Forgets a head and fields that were not sent.
    pub(super) fn reset(&mut self) {
        self.memory.fields.clear();
        self.memory.out.clear();
    }

    pub(super) fn complete(&self) -> bool {
        self.state == State::Complete
    }

    /// Whether the connection can be used again: the answer is complete and did not announce a close.
    pub(super) fn keeps_alive(&self) -> bool {
        self.complete() && self.keep_alive
    }
}

fn has_date(fields: &[u8]) -> bool {
    let starts = std::iter::once(0).chain(memchr_iter(b'\n', fields).map(|end| end + 1));
    starts.into_iter().any(|start| {
        fields
            .get(start..start + 5)
            .is_some_and(|name| name.eq_ignore_ascii_case(b"date:"))
    })
}

fn misuse(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}
