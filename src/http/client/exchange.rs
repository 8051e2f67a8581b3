//! Sending one request and reading the head of its answer.

use std::{
    io::{self, IoSlice, Read},
    time::{Duration, Instant},
};

use super::{
    Deadlines, Origin, OutgoingBody, SendError,
    head::{BodyFraming, MAX_HEAD},
    link::{Link, Received},
};
use crate::http::{
    Watch,
    field::{is_hop_by_hop, is_token, push_decimal, push_field, push_hex},
    poll::{Ready, after},
    scan::HeadScan,
};

/// Informational answers before the final one.
const MAX_INTERIM: usize = 64;
/// Bytes of a streamed body that are read before they are sent.
const PIECE: usize = 64 * 1024;

/// Up to so many bytes, copying a body behind its head costs less than a gathering write.
const COPIED: usize = 2048;

/// One request on its way.
pub(super) struct Exchange<'o, 'a, 'w, 't> {
    pub(super) origin: &'o Origin,
    pub(super) method: &'a str,
    pub(super) target: &'a str,
    pub(super) headers: &'a [(&'a str, &'a [u8])],
    pub(super) body: OutgoingBody<'a>,
    pub(super) deadlines: &'o Deadlines,
    pub(super) total: Option<Instant>,
    pub(super) watch: Option<Watch<'w>>,
    pub(super) tick: Option<Tick<'t>>,
}

/// What is done while the head of the answer is waited for.
pub struct Tick<'t> {
    /// When next.
    pub at: Instant,
    /// Does it, and says when next. It must be quick.
    pub act: &'t mut dyn FnMut() -> Instant,
}

/// How far the sending of a part came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    All,
    /// The upstream has answered; it does not want the rest.
    Answered,
}

/// The search for the final head in what the upstream sends.
#[derive(Default)]
struct Answer {
    scan: HeadScan,
    interim: usize,
    /// Any byte of an answer came.
    begun: bool,
    complete: bool,
}

impl Exchange<'_, '_, '_, '_> {
    pub(super) fn repeatable(&self) -> bool {
        !matches!(self.body, OutgoingBody::Stream { .. })
    }

    /// Sends the request and reads the head of the answer into `link.head`. After an error the link must be dropped.
    pub(super) fn run(&mut self, link: &mut Link) -> Result<BodyFraming, SendError> {
        let mut answer = Answer::default();
        let mut out = std::mem::take(&mut link.out);
        out.clear();
        self.write_head(&mut out)?;
        let sent = self.transmit(link, &out, &mut answer);
        link.out = out;
        if sent? == Sent::Answered {
            // The rest of the request was not sent, so nothing may follow on this connection.
            link.unusable = true;
        }
        let first_byte = self.deadlines.first_byte.map(after);
        let deadline = earlier(first_byte, self.total);
        while !answer.complete {
            let due = self.tick.as_ref().map(|tick| tick.at);
            match link.receive(self.watch, earlier(deadline, due)) {
                Ok(Received::Late) if deadline.is_none_or(|at| Instant::now() < at) => {
                    if let Some(tick) = &mut self.tick {
                        tick.at = (tick.act)();
                    }
                }
                Ok(Received::Bytes) => answer.look(link)?,
                Ok(Received::End) => return Err(answer.ended(None)),
                Ok(Received::Gone) => return Err(SendError::ClientGone),
                Ok(Received::Late) => return Err(self.late(SendError::FirstByteTimeout)),
                Err(error) => return Err(answer.ended(Some(error))),
            }
        }
        link.head
            .framing(self.method)
            .map_err(|what| SendError::Malformed(what.into()))
    }

    /// Writes the head, and a small body behind it.
    fn write_head(&self, out: &mut Vec<u8>) -> Result<(), SendError> {
        let graphic = |text: &str| text.bytes().all(|byte| byte > b' ' && byte != 127);
        if self.method.is_empty() || !self.method.bytes().all(is_token) || !graphic(self.target) {
            let invalid = "the method or the target cannot stand in a request line";
            return Err(SendError::Body(io::Error::new(
                io::ErrorKind::InvalidInput,
                invalid,
            )));
        }
        out.extend_from_slice(self.method.as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.origin.prefix().as_bytes());
        if !self.target.starts_with('/') && self.target != "*" {
            out.push(b'/');
        }
        out.extend_from_slice(self.target.as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\n");
        push_field(out, "Host", self.origin.host_header().as_bytes());
        for (name, value) in self.headers {
            if !self.left_out(name) {
                push_field(out, name, value);
            }
        }
        let length = match &self.body {
            OutgoingBody::Empty => matches!(self.method, "POST" | "PUT" | "PATCH").then_some(0),
            OutgoingBody::Bytes(bytes) => Some(bytes.len() as u64),
            OutgoingBody::Stream { length, .. } => {
                if length.is_none() {
                    out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
                }
                *length
            }
        };
        if let Some(length) = length {
            out.extend_from_slice(b"Content-Length: ");
            push_decimal(out, length);
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n");
        if let OutgoingBody::Bytes(body) = &self.body
            && body.len() <= COPIED
        {
            out.extend_from_slice(body);
        }
        Ok(())
    }

    /// Whether a field belongs to the hop before, by its name or because `Connection` says so.
    fn left_out(&self, name: &str) -> bool {
        const OURS: [&str; 3] = ["host", "expect", "proxy-authorization"];
        is_hop_by_hop(name)
            || OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours))
            || self
                .headers
                .iter()
                .filter(|(field, _)| field.eq_ignore_ascii_case("connection"))
                .flat_map(|(_, value)| value.split(|byte| *byte == b','))
                .any(|token| token.trim_ascii().eq_ignore_ascii_case(name.as_bytes()))
    }

    /// Sends head and body.
    fn transmit(
        &mut self,
        link: &mut Link,
        head: &[u8],
        answer: &mut Answer,
    ) -> Result<Sent, SendError> {
        let pace = Pace {
            between: self.deadlines.between,
            total: self.total,
            watch: self.watch,
        };
        match &mut self.body {
            OutgoingBody::Bytes(body) if body.len() > COPIED => {
                let mut parts = [IoSlice::new(head), IoSlice::new(body)];
                pace.send(link, &mut parts, answer)
            }
            // A small body stands behind the head already.
            OutgoingBody::Empty | OutgoingBody::Bytes(_) => {
                pace.send(link, &mut [IoSlice::new(head)], answer)
            }
            OutgoingBody::Stream { reader, length } => {
                if pace.send(link, &mut [IoSlice::new(head)], answer)? == Sent::Answered {
                    return Ok(Sent::Answered);
                }
                pace.stream(link, *reader, *length, answer)
            }
        }
    }

    fn late(&self, otherwise: SendError) -> SendError {
        if self.total.is_some_and(|total| total <= Instant::now()) {
            SendError::TotalTimeout
        } else {
            otherwise
        }
    }
}

/// What bounds the sending.
struct Pace<'w> {
    between: Option<Duration>,
    total: Option<Instant>,
    watch: Option<Watch<'w>>,
}

impl Pace<'_> {
    /// Sends all parts, unless the upstream answers before it has taken them.
    fn send(
        &self,
        link: &mut Link,
        mut parts: &mut [IoSlice<'_>],
        answer: &mut Answer,
    ) -> Result<Sent, SendError> {
        IoSlice::advance_slices(&mut parts, 0);
        let mut deadline = None;
        while !parts.is_empty() || link.unflushed() {
            match link.send_now(parts) {
                Ok(taken) => {
                    IoSlice::advance_slices(&mut parts, taken);
                    deadline = None;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // An upstream that refuses a large body answers and closes; the answer may be here already.
                Err(error) => return answer.salvage(link, error).map(|()| Sent::Answered),
            }
            let until =
                *deadline.get_or_insert_with(|| earlier(self.between.map(after), self.total));
            match link.wait_both(self.watch, until) {
                Ok(Ready::Socket) => {}
                Ok(Ready::Gone) => return Err(SendError::ClientGone),
                Ok(Ready::Late) if until == self.total => return Err(SendError::TotalTimeout),
                Ok(Ready::Late) => return Err(SendError::SendTimeout),
                Err(error) => return Err(SendError::Io(error)),
            }
            match link.receive_now() {
                Ok(0) => return Err(answer.ended(None)),
                Ok(_) => answer.look(link)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(answer.ended(Some(error))),
            }
            if answer.complete {
                return Ok(Sent::Answered);
            }
        }
        Ok(Sent::All)
    }

    /// Sends what `reader` yields.
    fn stream(
        &self,
        link: &mut Link,
        reader: &mut dyn Read,
        length: Option<u64>,
        answer: &mut Answer,
    ) -> Result<Sent, SendError> {
        let mut piece = vec![0_u8; PIECE];
        let mut left = length;
        let mut size = Vec::with_capacity(20);
        loop {
            let room = left.map_or(PIECE, |left| {
                usize::try_from(left).unwrap_or(PIECE).min(PIECE)
            });
            let count = match piece.get_mut(..room) {
                Some(room) if !room.is_empty() => read(reader, room).map_err(SendError::Body)?,
                _ => 0,
            };
            let bytes = piece.get(..count).unwrap_or_default();
            let sent = match &mut left {
                Some(0) => return Ok(Sent::All),
                Some(_) if count == 0 => {
                    return Err(SendError::Body(io::ErrorKind::UnexpectedEof.into()));
                }
                Some(left) => {
                    *left -= count as u64;
                    self.send(link, &mut [IoSlice::new(bytes)], answer)?
                }
                None if count == 0 => {
                    return self.send(link, &mut [IoSlice::new(b"0\r\n\r\n")], answer);
                }
                None => {
                    size.clear();
                    push_hex(&mut size, count as u64);
                    size.extend_from_slice(b"\r\n");
                    let mut parts = [
                        IoSlice::new(&size),
                        IoSlice::new(bytes),
                        IoSlice::new(b"\r\n"),
                    ];
                    self.send(link, &mut parts, answer)?
                }
            };
            if sent == Sent::Answered {
                return Ok(Sent::Answered);
            }
        }
    }
}

fn read(reader: &mut dyn Read, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match reader.read(into) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

impl Answer {
    /// Looks for the final head in the buffer, skipping informational ones.
    fn look(&mut self, link: &mut Link) -> Result<(), SendError> {
        let malformed = |what: &str| SendError::Malformed(what.to_owned());
        self.begun = true;
        while !self.complete && self.scan.worth_parsing(link.input.unread()) {
            let Some(length) = link.head.parse(link.input.unread()).map_err(malformed)? else {
                break;
            };
            if length > MAX_HEAD {
                return Err(malformed("the head is too large"));
            }
            link.input.consume(length);
            self.scan = HeadScan::default();
            if link.head.interim() {
                self.interim += 1;
                if self.interim > MAX_INTERIM {
                    return Err(malformed("too many informational answers"));
                }
                if link.input.is_empty() {
                    break;
                }
            } else {
                self.complete = true;
            }
        }
        if !self.complete && link.input.unread().len() > MAX_HEAD {
            return Err(malformed("the head is too large"));
        }
        Ok(())
    }

    /// The connection ended before the head was complete.
    fn ended(&self, error: Option<io::Error>) -> SendError {
        match error {
            _ if self.begun => SendError::CutHead,
            Some(error) => SendError::Io(error),
            None => SendError::ClosedWithoutAnswer,
        }
    }

    /// Sending failed: takes the answer that may have come before.
    fn salvage(&mut self, link: &mut Link, error: io::Error) -> Result<(), SendError> {
        while !self.complete {
            match link.receive_now() {
                Ok(1..) => self.look(link)?,
                _ => return Err(self.ended(Some(error))),
            }
        }
        Ok(())
    }
}

pub(super) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
