//! The chunked transfer coding (RFC 9112 §7.1), decoded in place and incrementally.

use super::headers::Headers;

/// Bytes that chunk extensions may cost beyond the payload they come with.
const MAX_OVERHEAD: u64 = 16 * 1024;
/// Bytes of a trailer section.
const MAX_TRAILERS: usize = 8 * 1024;
/// Fields of a trailer section.
const MAX_TRAILER_FIELDS: usize = 32;

/// Follows a chunked body over any split of its bytes.
#[derive(Debug, Default)]
pub struct ChunkDecoder {
    state: State,
    overhead: u64,
    trailers: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The size so far and whether a digit was seen.
    Size(u64, bool),
    Extension(u64),
    SizeEnd(u64),
    Data(u64),
    DataCr,
    DataLf,
    /// Inside the trailer section.
    Trailers,
    Done,
    Failed,
}

impl Default for State {
    fn default() -> Self {
        Self::Size(0, false)
    }
}

/// What one call of [`ChunkDecoder::decode`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded {
    /// Bytes of the input that belong to the body. Less than all of it only after the end.
    pub consumed: usize,
    /// Bytes of payload, moved to the front of the input.
    pub produced: usize,
}

/// Why a chunked body cannot be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkError(&'static str);

impl std::fmt::Display for ChunkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for ChunkError {}

impl ChunkDecoder {
    /// Takes the framing out of `data`: the payload ends up at its front.
    pub fn decode(&mut self, data: &mut [u8]) -> Result<Decoded, ChunkError> {
        let mut at = 0;
        let mut produced = 0;
        while self.state != State::Done {
            if let State::Data(left) = self.state {
                let available = data.len() - at;
                if available == 0 {
                    break;
                }
                let count = usize::try_from(left).unwrap_or(usize::MAX).min(available);
                data.copy_within(at..at + count, produced);
                at += count;
                produced += count;
                let left = left - count as u64;
                self.state = if left == 0 {
                    State::DataCr
                } else {
                    State::Data(left)
                };
                continue;
            }
            let Some(byte) = data.get(at) else { break };
            at += 1;
            if let Err(error) = self.framing(*byte) {
                self.state = State::Failed;
                return Err(error);
            }
        }
        Ok(Decoded {
            consumed: at,
            produced,
        })
    }

    fn framing(&mut self, byte: u8) -> Result<(), ChunkError> {
        self.state = match (self.state, byte) {
            (State::Size(size, _), digit) if digit.is_ascii_hexdigit() => {
                if size >> 60 != 0 {
                    return Err(ChunkError("chunk size is too large"));
                }
                let digit = (digit as char).to_digit(16).unwrap_or(0);
                State::Size(size << 4 | u64::from(digit), true)
            }
            (State::Size(size, true) | State::Extension(size), b'\r') => State::SizeEnd(size),
            (State::Size(size, true), b';' | b' ' | b'\t') => self.extension(size)?,
            (State::Extension(size), text) if text >= b' ' || text == b'\t' => {
                self.extension(size)?
            }
            (State::SizeEnd(0), b'\n') => State::Trailers,
            (State::SizeEnd(size), b'\n') => {
                self.overhead = self.overhead.saturating_sub(size);
                State::Data(size)
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size(0, false),
            (State::Trailers, byte) => self.trailer(byte)?,
            (State::Size(..), _) => return Err(ChunkError("chunk size is not a number")),
            (State::Failed, _) => return Err(ChunkError("chunked body failed before")),
            _ => return Err(ChunkError("chunk is not ended properly")),
        };
        Ok(())
    }

    fn extension(&mut self, size: u64) -> Result<State, ChunkError> {
        self.overhead += 1;
        if self.overhead > MAX_OVERHEAD {
            return Err(ChunkError("chunk extensions are too long"));
        }
        Ok(State::Extension(size))
    }

    fn trailer(&mut self, byte: u8) -> Result<State, ChunkError> {
        if self.trailers.len() >= MAX_TRAILERS {
            return Err(ChunkError("trailer section is too long"));
        }
        if byte != b'\n' && self.trailers.last() == Some(&b'\r') {
            return Err(ChunkError("trailer line is not ended properly"));
        }
        if byte == b'\n' && self.trailers.last() != Some(&b'\r') {
            return Err(ChunkError("trailer line is not ended properly"));
        }
        self.trailers.push(byte);
        if self.trailers == b"\r\n" || self.trailers.ends_with(b"\r\n\r\n") {
            self.parse_trailers()?;
            return Ok(State::Done);
        }
        Ok(State::Trailers)
    }

    fn parse_trailers(&self) -> Result<Headers, ChunkError> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_TRAILER_FIELDS];
        let mut headers = Headers::default();
        match httparse::parse_headers(&self.trailers, &mut fields) {
            Ok(httparse::Status::Complete((_, fields))) => {
                headers.fill(
                    &self.trailers,
                    fields.iter().map(|field| (field.name, field.value)),
                );
                Ok(headers)
            }
            _ => Err(ChunkError("trailer section is malformed")),
        }
    }

    /// Whether the terminating chunk and the trailer section have been seen.
    pub fn done(&self) -> bool {
        self.state == State::Done
    }

    /// The trailer fields; empty before the end.
    pub fn trailers(&self) -> Headers {
        if self.done() {
            self.parse_trailers().unwrap_or_default()
        } else {
            Headers::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds `wire` in pieces that end at `cuts` and returns payload, unused rest and trailers, or the error.
    fn run(wire: &[u8], cuts: &[usize]) -> Result<(Vec<u8>, usize, bool), ChunkError> {
        let mut follower = ChunkDecoder::default();
        let mut payload = Vec::new();
        let mut used = 0;
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (wire.len() + 1)).collect();
        ends.push(wire.len());
        ends.sort_unstable();
        for end in ends {
            let mut piece = wire[used.min(end)..end].to_vec();
            let decoded = follower.decode(&mut piece)?;
            payload.extend_from_slice(&piece[..decoded.produced]);
            used += decoded.consumed;
            if follower.done() {
                break;
            }
        }
        Ok((payload, wire.len() - used, follower.done()))
    }

    #[test]
    fn takes_the_framing_out_and_leaves_what_follows() {
        let wire = b"4\r\nWiki\r\nA;x=\"y\"\r\n0123456789\r\n0\r\nX-T: v\r\n\r\nGET /";
        assert_eq!(run(wire, &[]), Ok((b"Wiki0123456789".to_vec(), 5, true)));
        let mut decoder = ChunkDecoder::default();
        decoder.decode(&mut wire.to_vec()).unwrap();
        assert_eq!(decoder.trailers().get_str("x-t"), Some("v"));
    }

    #[test]
    fn refuses_sizes_and_ends_that_another_reader_might_take_differently() {
        for wire in [
            &b"\r\n"[..],
            b"+5\r\nhello\r\n",
            b"0x5\r\nhello\r\n",
            b" 5\r\nhello\r\n",
            b"5\nhello\r\n",
            b"5\r\nhelloX",
            b"5\r\nhello\n0\r\n",
            b"5;a\nb\r\nhello",
            b"11111111111111111\r\n",
            b"0\r\nX-T: v\n\r\n",
            b"0\r\n\rX",
            b"0\r\nbad name: v\r\n\r\n",
        ] {
            assert!(run(wire, &[]).is_err(), "{}", wire.escape_ascii());
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let long = format!("5;{}\r\nhello\r\n", "x".repeat(20_000));
        assert!(run(long.as_bytes(), &[]).is_err());
        let many = "1;xxxxxxxxx\r\na\r\n".repeat(3000);
        assert!(run(many.as_bytes(), &[]).is_err());
        let signed = format!("{:x};{}\r\n{}\r\n", 200, "s".repeat(90), "d".repeat(200)).repeat(500);
        assert!(run(signed.as_bytes(), &[]).is_ok());
        let trailer = format!("0\r\nX: {}\r\n\r\n", "x".repeat(9000));
        assert!(run(trailer.as_bytes(), &[]).is_err());
    }

    #[test]
    fn a_body_without_its_terminator_is_not_done() {
        let (payload, _, done) = run(b"5\r\nhello\r\n", &[]).unwrap();
        assert_eq!((payload.as_slice(), done), (&b"hello"[..], false));
        assert!(!run(b"0\r\n", &[]).unwrap().2);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_result(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            tail in "[a-z]{0,6}",
            cuts in prop::collection::vec(any::<usize>(), 0..12),
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend(format!("{:X};e\r\n", chunk.len()).bytes());
                wire.extend(chunk);
                wire.extend(b"\r\n");
            }
            wire.extend(b"0\r\nT: 1\r\n\r\n");
            wire.extend(tail.bytes());
            let (payload, rest, done) = run(&wire, &cuts).unwrap();
            prop_assert!(done);
            prop_assert_eq!(payload, chunks.concat());
            prop_assert!(rest <= wire.len() && rest >= tail.len());
        }

        #[test]
        fn any_bytes_are_an_error_or_a_body_wherever_they_are_split(
            wire in prop::collection::vec(prop_oneof![Just(b'0'), Just(b'3'), Just(b'\r'), Just(b'\n'), Just(b';'), any::<u8>()], 0..200),
            cuts in prop::collection::vec(any::<usize>(), 0..6),
        ) {
            let whole = run(&wire, &[]);
            let split = run(&wire, &cuts);
            prop_assert_eq!(whole, split);
        }
    }
}
