//! One connection of the mock: a request as it comes in, and what is still to be sent.

use std::io::{self, ErrorKind, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;

use memchr::memmem;
use rustix::event::epoll;

use crate::load::wire::header;
use crate::measure::proxy::Form;

/// Longest head, and how much of a body is looked at.
const LONGEST_HEAD: usize = 64 * 1024;
const BODY_KEPT: usize = 1024;
/// The end of a chunked body. Inside of one it cannot stand: JSON has no bare line ends, and no other chunk has no bytes.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// A connection of the mock.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    /// The head until it is whole, then the first bytes of the body.
    inbox: Vec<u8>,
    head: usize,
    body: Body,
    outbox: Vec<u8>,
    /// The stream under way.
    pub(super) playing: Option<Playing>,
    /// Whether it is closed as soon as everything is sent.
    pub(super) closing: bool,
}

/// How much of a request's body is still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    /// The head is not whole yet.
    Unknown,
    Length(u64),
    /// The last bytes that came.
    Chunked([u8; LAST_CHUNK.len()]),
}

/// A stream under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Playing {
    pub(super) form: Form,
    pub(super) chunked: bool,
    pub(super) left: u32,
    pub(super) gap: u64,
    pub(super) end: End,
    pub(super) watched: bool,
}

/// How a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// With its terminal event.
    Whole,
    /// The same, and the connection with it.
    Close,
    /// The connection ends in place of the terminal event.
    Cut,
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    /// Chat, in one piece or as a stream; else the path of a `GET`.
    pub(super) chat: Result<Form, String>,
    pub(super) stream: bool,
    /// Whether the answer may be chunked.
    pub(super) chunked: bool,
    /// Whether the connection is closed after the answer.
    pub(super) close: bool,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            inbox: Vec::new(),
            head: 0,
            body: Body::Unknown,
            outbox: Vec::new(),
            playing: None,
            closing: false,
        }
    }

    /// Takes in request bytes; what is asked for when the request is whole.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> io::Result<Option<Asked>> {
        if self.body == Body::Unknown {
            let before = self.inbox.len();
            self.inbox
                .extend_from_slice(bytes.get(..LONGEST_HEAD).unwrap_or(bytes));
            let searched = before.saturating_sub(3);
            let Some(end) =
                memmem::find(self.inbox.get(searched..).unwrap_or_default(), b"\r\n\r\n")
            else {
                if self.inbox.len() > LONGEST_HEAD {
                    return Err(ErrorKind::InvalidData.into());
                }
                return Ok(None);
            };
            self.head = searched + end + 4;
            self.inbox.truncate(self.head);
            bytes = bytes.get(self.head - before..).unwrap_or_default();
            self.body = if header(&self.inbox, "transfer-encoding").is_some() {
                Body::Chunked([0; LAST_CHUNK.len()])
            } else {
                let length = header(&self.inbox, "content-length").map_or(Ok(0), str::parse);
                Body::Length(length.map_err(io::Error::other)?)
            };
        }
        let room = BODY_KEPT.saturating_sub(self.inbox.len() - self.head);
        self.inbox
            .extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        let whole = match &mut self.body {
            Body::Unknown => false,
            Body::Length(left) => {
                *left = left.saturating_sub(bytes.len() as u64);
                *left == 0
            }
            Body::Chunked(last) => {
                let recent = bytes
                    .get(bytes.len().saturating_sub(last.len())..)
                    .unwrap_or_default();
                last.rotate_left(recent.len());
                let at = last.len() - recent.len();
                if let Some(room) = last.get_mut(at..) {
                    room.copy_from_slice(recent);
                }
                last == LAST_CHUNK
            }
        };
        Ok(whole.then(|| self.asked()))
    }

    /// What the request that is in the inbox asks for; makes room for the next one.
    fn asked(&mut self) -> Asked {
        let (head, body) = self.inbox.split_at(self.head.min(self.inbox.len()));
        let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let mut words = line.split(' ');
        let (method, path) = (words.next(), words.next().unwrap_or_default());
        let old = words.next() == Some("HTTP/1.0");
        let form = if path.ends_with("/chat/completions") {
            Form::Events
        } else {
            Form::Lines
        };
        let asked = Asked {
            chat: if method == Some("POST") {
                Ok(form)
            } else {
                Err(path.to_owned())
            },
            stream: wants_stream(body),
            chunked: !old,
            close: old
                || header(head, "connection")
                    .is_some_and(|value| value.eq_ignore_ascii_case("close")),
        };
        self.inbox.clear();
        self.head = 0;
        self.body = Body::Unknown;
        asked
    }

    /// Sends what the socket takes now, in order; the rest when epoll says so. The end of a closing connection is an error.
    pub(super) fn send(&mut self, epoll: &OwnedFd, id: u64, mut bytes: &[u8]) -> io::Result<()> {
        while self.outbox.is_empty() && !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let both = epoll::EventFlags::IN | epoll::EventFlags::OUT;
                    epoll::modify(epoll, &self.stream, epoll::EventData::new_u64(id), both)?;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        self.outbox.extend_from_slice(bytes);
        if self.closing && self.outbox.is_empty() {
            return Err(ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    /// Sends what was left when the socket was full.
    pub(super) fn flush(&mut self, epoll: &OwnedFd, id: u64) -> io::Result<()> {
        let pending = std::mem::take(&mut self.outbox);
        epoll::modify(
            epoll,
            &self.stream,
            epoll::EventData::new_u64(id),
            epoll::EventFlags::IN,
        )?;
        self.send(epoll, id, &pending)
    }
}

/// Whether a body's beginning says `"stream": true`, however a proxy may have written it again.
fn wants_stream(body: &[u8]) -> bool {
    let key = b"\"stream\"";
    memmem::find(body, key).is_some_and(|at| {
        let rest = body
            .get(at + key.len()..)
            .unwrap_or_default()
            .trim_ascii_start();
        rest.strip_prefix(b":")
            .is_some_and(|value| value.trim_ascii_start().starts_with(b"true"))
    })
}
