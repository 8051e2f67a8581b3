//! An answer as its bytes come in: where it ends, and which times its pieces carry.

use memchr::{memchr, memmem};

use super::wire::{DIGITS, MARK, header};

/// Longest head or line of a chunk's size.
const LONGEST_LINE: usize = 64 * 1024;

/// What a reader has seen of one answer so far.
#[derive(Debug)]
pub(super) struct Answer {
    state: State,
    /// The head, or the line of a chunk's size, as far as it came.
    line: Vec<u8>,
    status: u16,
    /// Whether the sender closes the connection after it.
    closes: bool,
    body: u64,
    /// Whether pieces carry times.
    stamped: bool,
    /// Bytes of the body that were not searched for times yet.
    unread: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Head,
    /// So many bytes of a body of known length are still to come.
    Length(u64),
    ChunkSize,
    Chunk(u64),
    /// The end of line after a chunk: so many bytes of it.
    ChunkEnd(u8),
    /// A line after the last chunk, empty so far or not.
    Trailer(bool),
    /// The end of the connection is the end of the body.
    UntilClose,
    Whole,
    /// Not HTTP, or more than was announced.
    Broken,
}

impl Answer {
    /// Nothing of it yet; `stamped` says whether its pieces carry times.
    pub(super) fn new(stamped: bool) -> Self {
        Self {
            state: State::Head,
            line: Vec::new(),
            status: 0,
            closes: false,
            body: 0,
            stamped,
            unread: Vec::new(),
        }
    }

    /// Takes in what a read brought.
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        while let Some(&first) = bytes.first() {
            let used = match self.state {
                State::Head => self.head(bytes),
                State::Length(left) => {
                    let used = self.data(bytes, left);
                    let left = left - used as u64;
                    self.state = if left == 0 {
                        State::Whole
                    } else {
                        State::Length(left)
                    };
                    used
                }
                State::UntilClose => self.data(bytes, u64::MAX),
                State::ChunkSize => self.chunk_size(bytes),
                State::Chunk(left) => {
                    let used = self.data(bytes, left);
                    let left = left - used as u64;
                    self.state = if left == 0 {
                        State::ChunkEnd(2)
                    } else {
                        State::Chunk(left)
                    };
                    used
                }
                State::ChunkEnd(left) => {
                    let right = first == if left == 2 { b'\r' } else { b'\n' };
                    self.state = match left {
                        _ if !right => State::Broken,
                        2 => State::ChunkEnd(1),
                        _ => State::ChunkSize,
                    };
                    1
                }
                State::Trailer(empty) => {
                    self.state = match first {
                        b'\n' if empty => State::Whole,
                        b'\n' => State::Trailer(true),
                        b'\r' => State::Trailer(empty),
                        _ => State::Trailer(false),
                    };
                    1
                }
                State::Whole | State::Broken => {
                    self.state = State::Broken;
                    return;
                }
            };
            bytes = bytes.get(used..).unwrap_or_default();
        }
    }

    fn head(&mut self, bytes: &[u8]) -> usize {
        let before = self.line.len();
        self.line
            .extend_from_slice(bytes.get(..LONGEST_LINE).unwrap_or(bytes));
        let searched = before.saturating_sub(3);
        let Some(end) = memmem::find(self.line.get(searched..).unwrap_or_default(), b"\r\n\r\n")
        else {
            if self.line.len() > LONGEST_LINE {
                self.state = State::Broken;
            }
            return self.line.len() - before;
        };
        self.line.truncate(searched + end + 4);
        let used = self.line.len() - before;
        let status = self
            .line
            .get(9..12)
            .and_then(|code| std::str::from_utf8(code).ok());
        self.status = status.and_then(|code| code.parse().ok()).unwrap_or(0);
        self.closes = header(&self.line, "connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let chunked = header(&self.line, "transfer-encoding")
            .is_some_and(|value| value.to_ascii_lowercase().ends_with("chunked"));
        let length = header(&self.line, "content-length").map(str::parse);
        self.state = match (self.status, chunked, length) {
            (0, ..) | (_, false, Some(Err(_))) => State::Broken,
            // A provisional answer: the real one follows.
            (100..=199, ..) => State::Head,
            (204 | 304, ..) | (_, false, Some(Ok(0))) => State::Whole,
            (_, true, _) => State::ChunkSize,
            (_, false, Some(Ok(length))) => State::Length(length),
            (_, false, None) => State::UntilClose,
        };
        self.line.clear();
        used
    }

    fn data(&mut self, bytes: &[u8], left: u64) -> usize {
        let used = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.body += used as u64;
        if self.stamped {
            self.unread
                .extend_from_slice(bytes.get(..used).unwrap_or_default());
        }
        used
    }

    fn chunk_size(&mut self, bytes: &[u8]) -> usize {
        let Some(end) = memchr(b'\n', bytes) else {
            self.line.extend_from_slice(bytes);
            if self.line.len() > LONGEST_LINE {
                self.state = State::Broken;
            }
            return bytes.len();
        };
        self.line
            .extend_from_slice(bytes.get(..end).unwrap_or_default());
        let line = std::str::from_utf8(&self.line).unwrap_or_default();
        let size = line.split(';').next().unwrap_or_default().trim();
        self.state = match u64::from_str_radix(size, 16) {
            Ok(0) => State::Trailer(true),
            Ok(size) => State::Chunk(size),
            Err(_) => State::Broken,
        };
        self.line.clear();
        end + 1
    }

    /// Whether it is whole. One that ends with its connection never is before that, see [`Answer::ends_with_connection`].
    pub(super) fn whole(&self) -> bool {
        self.state == State::Whole
    }

    /// Whether it is no answer.
    pub(super) fn broken(&self) -> bool {
        self.state == State::Broken
    }

    /// Whether the end of the connection would be its end.
    pub(super) fn ends_with_connection(&self) -> bool {
        self.state == State::UntilClose
    }

    /// Whether the sender closes the connection after it.
    pub(super) fn closes(&self) -> bool {
        self.closes
    }

    /// Whether its status is 200.
    pub(super) fn ok(&self) -> bool {
        self.status == 200
    }

    /// The status; 0 before the head is whole.
    pub(super) fn status(&self) -> u16 {
        self.status
    }

    /// Bytes of the body so far, without framing.
    #[cfg(test)]
    fn body(&self) -> u64 {
        self.body
    }

    /// Calls `each` with the time inside every piece that has come since the last call.
    pub(super) fn stamps(&mut self, mut each: impl FnMut(u64)) {
        let mut from = 0;
        while let Some(at) = memmem::find(self.unread.get(from..).unwrap_or_default(), MARK) {
            let digits = from + at + MARK.len();
            let Some(text) = self.unread.get(digits..digits + DIGITS) else {
                // The rest of this piece is still to come.
                self.unread.drain(..from + at);
                return;
            };
            if let Some(stamp) = std::str::from_utf8(text)
                .ok()
                .and_then(|text| text.parse().ok())
            {
                each(stamp);
            }
            from = digits + DIGITS;
        }
        // The last byte may be the first half of a mark.
        let keep = self.unread.len().saturating_sub(1).max(from);
        self.unread.drain(..keep.min(self.unread.len()));
    }

    /// Forgets everything, for the next answer on the connection.
    pub(super) fn clear(&mut self) {
        self.state = State::Head;
        self.line.clear();
        self.unread.clear();
        self.status = 0;
        self.closes = false;
        self.body = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire;
    use super::*;
    use crate::measure::proxy::Form;
    use proptest::prelude::*;

    fn stream(form: Form, times: &[u64]) -> Vec<u8> {
        let mut bytes = wire::stream_head(form, true);
        for &time in times {
            bytes.extend(wire::piece(form, true, time));
        }
        bytes.extend(wire::stream_end(form, true));
        bytes
    }

    #[test]
    fn exactly_the_bytes_of_the_body_are_counted() {
        let bytes = wire::json_answer(Form::Lines);
        let head = memmem::find(&bytes, b"\r\n\r\n").unwrap() + 4;
        let mut answer = Answer::new(false);
        answer.push(&bytes[..bytes.len() - 1]);
        assert!(!answer.whole());
        answer.push(&bytes[bytes.len() - 1..]);
        assert!(answer.whole() && answer.ok());
        assert_eq!(answer.body(), (bytes.len() - head) as u64);
        let mut answer = Answer::new(true);
        answer.push(&stream(Form::Events, &[1]));
        let data =
            wire::piece(Form::Events, false, 1).len() + wire::stream_end(Form::Events, false).len();
        assert_eq!((answer.whole(), answer.body()), (true, data as u64));
    }

    #[test]
    fn a_body_that_ends_with_its_connection_is_never_whole_before() {
        let mut answer = Answer::new(true);
        answer.push(&wire::stream_head(Form::Lines, false));
        answer.push(&wire::piece(Form::Lines, false, 5));
        let mut seen = Vec::new();
        answer.stamps(|stamp| seen.push(stamp));
        assert!(answer.ends_with_connection() && !answer.whole());
        assert_eq!(seen, [5]);
    }

    #[test]
    fn what_is_no_answer_is_broken() {
        for wrong in [
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
        ] {
            let mut answer = Answer::new(false);
            answer.push(wrong.as_bytes());
            assert!(answer.broken(), "{wrong:?}: {answer:?}");
        }
        let mut answer = Answer::new(false);
        answer.push(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\na\r\n0\r\nTrailer: 1\r\n\r\n");
        assert!(answer.whole() && answer.ok() && answer.body() == 1);
        assert!(!answer.closes());
        answer.clear();
        assert!(!answer.whole() && !answer.ok() && answer.body() == 0);
        answer.push(b"HTTP/1.1 204 No Content\r\nconnection: Close\r\n\r\n");
        assert!(answer.whole() && answer.closes() && answer.status() == 204);
    }

    proptest! {
        #[test]
        fn times_are_found_however_the_bytes_are_cut(
            times in proptest::collection::vec(0_u64..1_000_000_000_000, 0..20),
            cuts in proptest::collection::vec(1_usize..300, 1..200),
            events in any::<bool>(),
        ) {
            let form = if events { Form::Events } else { Form::Lines };
            let bytes = stream(form, &times);
            let mut answer = Answer::new(true);
            let mut seen = Vec::new();
            let mut rest = bytes.as_slice();
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                answer.push(now);
                answer.stamps(|stamp| seen.push(stamp));
                rest = later;
                if rest.is_empty() {
                    break;
                }
                prop_assert!(!answer.whole());
            }
            prop_assert!(answer.whole());
            prop_assert_eq!(seen, times);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let mut answer = Answer::new(true);
            answer.push(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            answer.push(&bytes);
            answer.stamps(|_| {});
        }
    }
}
