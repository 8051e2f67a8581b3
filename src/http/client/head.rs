//! The head of an answer: parsing and the framing rules of RFC 9112 §6.3.

use std::mem::MaybeUninit;

use crate::http::headers::{Headers, LengthError, content_length};

/// Bytes of an answer's head.
pub(super) const MAX_HEAD: usize = 64 * 1024;
/// Fields of an answer's head.
const MAX_FIELDS: usize = 200;
/// Fields that are tried first: room for the most takes two pages of every connection's stack.
const USUAL_FIELDS: usize = 40;
const TOO_MANY: &str = "too many header fields";

/// How the body of an answer is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyFraming {
    Empty,
    Length(u64),
    Chunked,
    /// By the end of the connection.
    Close,
}

/// A parsed answer head; its memory stays with the connection.
#[derive(Debug, Default)]
pub(super) struct ResponseHead {
    pub(super) headers: Headers,
    pub(super) status: u16,
    pub(super) minor: u8,
}

impl ResponseHead {
    /// Parses a head from the front of `bytes`; `Ok(None)`: more bytes are needed. Otherwise its length. The error says what is wrong.
    pub(super) fn parse(&mut self, bytes: &[u8]) -> Result<Option<usize>, &'static str> {
        match self.parse_fields::<USUAL_FIELDS>(bytes) {
            Err(TOO_MANY) => self.parse_fields::<MAX_FIELDS>(bytes),
            parsed => parsed,
        }
    }

    #[inline(never)]
    fn parse_fields<const ROOM: usize>(
        &mut self,
        bytes: &[u8],
    ) -> Result<Option<usize>, &'static str> {
        let mut storage = [const { MaybeUninit::uninit() }; ROOM];
        let mut response = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut response,
            bytes,
            &mut storage,
        );
        let length = match parsed {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(TOO_MANY),
            Err(httparse::Error::Version) => return Err("not an HTTP/1 answer"),
            Err(httparse::Error::Status) => return Err("no valid status"),
            Err(_) => return Err("no valid head"),
        };
        self.headers.fill(
            bytes.get(..length).unwrap_or(bytes),
            response
                .headers
                .iter()
                .map(|field| (field.name, field.value)),
        );
        self.status = response.code.unwrap_or_default();
        self.minor = response.version.unwrap_or_default();
        match self.status {
            101 => Err("an upgrade that was not asked for"),
            100..=599 => Ok(Some(length)),
            _ => Err("no valid status"),
        }
    }

    pub(super) fn interim(&self) -> bool {
        self.status < 200
    }

    /// How the body of this answer to a request with `method` is delimited, or what is ambiguous about it.
    pub(super) fn framing(&self, method: &str) -> Result<BodyFraming, &'static str> {
        let mut codings = self.headers.get_all("transfer-encoding");
        let coding = codings.next();
        let length = content_length(&self.headers).map_err(|error| match error {
            LengthError::NotDigits => "Content-Length is not a number",
            LengthError::Differing => "Content-Length is given twice and differs",
        })?;
        if method.eq_ignore_ascii_case("HEAD") || matches!(self.status, 204 | 304) {
            return Ok(BodyFraming::Empty);
        }
        match (coding, length) {
            (Some(coding), _) => {
                if codings.next().is_none() && coding.eq_ignore_ascii_case(b"chunked") {
                    Ok(BodyFraming::Chunked)
                } else {
                    Err("a transfer coding other than chunked")
                }
            }
            (None, Some(0)) => Ok(BodyFraming::Empty),
            (None, Some(length)) => Ok(BodyFraming::Length(length)),
            (None, None) => Ok(BodyFraming::Close),
        }
    }

    /// Whether the connection may carry another request after this answer.
    pub(super) fn keeps_alive(&self) -> bool {
        let ambiguous = self.headers.get("transfer-encoding").is_some()
            && self.headers.get("content-length").is_some();
        let asked = if self.minor == 0 {
            self.headers.has_token("connection", "keep-alive")
        } else {
            !self.headers.has_token("connection", "close")
        };
        asked && !ambiguous
    }

    /// Seconds after which the upstream closes an idle connection, if it says so (`Keep-Alive: timeout=5`, as llama-server does).
    pub(super) fn idle_seconds(&self) -> Option<u64> {
        let value = self.headers.get_str("keep-alive")?;
        let timeout = value
            .split(',')
            .find_map(|part| part.trim().strip_prefix("timeout="))?;
        timeout.trim().parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framing(head: &str, method: &str) -> Result<BodyFraming, &'static str> {
        let mut parsed = ResponseHead::default();
        assert_eq!(parsed.parse(head.as_bytes()), Ok(Some(head.len())));
        parsed.framing(method)
    }

    #[test]
    fn a_body_is_delimited_in_exactly_one_way() {
        let of = |fields: &str| framing(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"), "GET");
        assert_eq!(of("Content-Length: 7\r\n"), Ok(BodyFraming::Length(7)));
        assert_eq!(
            of("Transfer-Encoding: Chunked\r\n"),
            Ok(BodyFraming::Chunked)
        );
        assert_eq!(of(""), Ok(BodyFraming::Close));
        assert_eq!(of("Content-Length: 0\r\n"), Ok(BodyFraming::Empty));
        let same = "Content-Length: 7\r\nContent-Length: 7\r\n";
        assert_eq!(of(same), Ok(BodyFraming::Length(7)));
        assert!(of("Content-Length: 7\r\nContent-Length: 8\r\n").is_err());
        assert!(of("Content-Length: +7\r\n").is_err());
        assert!(of("Transfer-Encoding: gzip, chunked\r\n").is_err());
        assert!(of("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n").is_err());
    }

    #[test]
    fn some_answers_never_have_a_body() {
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n";
        assert_eq!(framing(head, "HEAD"), Ok(BodyFraming::Empty));
        for status in ["204 No Content", "304 Not Modified"] {
            let head = format!("HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n");
            assert_eq!(framing(&head, "GET"), Ok(BodyFraming::Empty));
        }
    }

    #[test]
    fn a_connection_is_kept_only_when_both_ends_agree_where_the_answer_ends() {
        let keeps = |head: &str| {
            let mut parsed = ResponseHead::default();
            parsed.parse(head.as_bytes()).unwrap();
            parsed.keeps_alive()
        };
        assert!(keeps("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"));
        assert!(!keeps("HTTP/1.1 200 OK\r\nConnection: Close\r\n\r\n"));
        assert!(!keeps("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n"));
        assert!(keeps("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n"));
        assert!(!keeps(
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
        ));
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_parsed(
            bytes in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b' '), Just(b':'), any::<u8>()], 0..300),
        ) {
            let mut line = b"HTTP/1.1 200 OK\r\n".to_vec();
            line.extend(&bytes);
            for bytes in [&bytes, &line] {
                let mut head = ResponseHead::default();
                if let Ok(Some(length)) = head.parse(bytes) {
                    prop_assert!(length <= bytes.len());
                    let _ = head.framing("GET");
                }
            }
        }
    }
}
