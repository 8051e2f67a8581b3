//! The head of a request: parsing and the framing rules of RFC 9112 §6.

use std::{mem::MaybeUninit, ops::Range};

use super::{Limits, refusal::Refusal};
use crate::http::headers::{Headers, LengthError, content_length, span};

/// Most header fields that can be configured.
const MAX_FIELDS: usize = 256;
/// Header fields that are tried first: room for the most takes two pages of every connection's stack.
const USUAL_FIELDS: usize = 40;

/// How the body of a request is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum BodyFraming {
    #[default]
    Empty,
    Length(u64),
    Chunked,
}

/// A parsed request head; its memory is used again for the next request of the connection.
#[derive(Debug, Default)]
pub(crate) struct RequestHead {
    pub(crate) headers: Headers,
    method: Range<usize>,
    target: Range<usize>,
    /// Minor version: 0 or 1.
    pub(crate) minor: u8,
    pub(crate) framing: BodyFraming,
    pub(crate) keep_alive: bool,
    pub(crate) expects_continue: bool,
    pub(crate) accepts_trailers: bool,
}

impl RequestHead {
    pub(crate) fn method(&self) -> &str {
        std::str::from_utf8(self.headers.slice(&self.method)).unwrap_or_default()
    }

    /// Path and query in origin form; `*` for a request about the server itself.
    pub(crate) fn target(&self) -> &str {
        match std::str::from_utf8(self.headers.slice(&self.target)) {
            Ok("") | Err(_) => "/",
            Ok(target) => target,
        }
    }

    /// Parses a head from the front of `bytes`. `Ok(None)`: more bytes are needed. Otherwise the length of the head.
    ///
    /// In the first case and after an error the target is known if it could be read.
    pub(crate) fn parse(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<Option<usize>, Refusal> {
        match self.parse_fields::<USUAL_FIELDS>(bytes, limits.max_headers) {
            Err(Refusal::TooManyHeaders) if limits.max_headers > USUAL_FIELDS => {
                self.parse_fields::<MAX_FIELDS>(bytes, limits.max_headers)
            }
            parsed => parsed,
        }
    }

    #[inline(never)]
    fn parse_fields<const ROOM: usize>(
        &mut self,
        bytes: &[u8],
        most: usize,
    ) -> Result<Option<usize>, Refusal> {
        self.target = 0..0;
        if bytes.starts_with(b"PRI * HTTP/2.0") {
            return Err(Refusal::UnsupportedVersion);
        }
        let mut storage = [const { MaybeUninit::uninit() }; ROOM];
        let fields = storage.get_mut(..most.min(ROOM)).unwrap_or(&mut []);
        let mut request = httparse::Request::new(&mut []);
        let length = match request.parse_with_uninit_headers(bytes, fields) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => {
                self.note_target(request.path);
                return Ok(None);
            }
            Err(error) => {
                self.note_target(request.path);
                return Err(match error {
                    httparse::Error::TooManyHeaders => Refusal::TooManyHeaders,
                    httparse::Error::Version => Refusal::UnsupportedVersion,
                    _ => Refusal::Malformed("the request head is malformed"),
                });
            }
        };
        let head = bytes.get(..length).unwrap_or(bytes);
        self.headers.fill(
            head,
            request
                .headers
                .iter()
                .map(|field| (field.name, field.value)),
        );
        self.method = span(head, request.method.unwrap_or_default().as_bytes());
        let target = origin_form(request.path.unwrap_or_default());
        self.target = span(head, target.unwrap_or_default().as_bytes());
        self.minor = request.version.unwrap_or(1);
        if target.is_none() {
            return Err(Refusal::Malformed("the request target is not a path"));
        }
        self.interpret()?;
        Ok(Some(length))
    }

    /// Keeps the target of a head that is not complete, for the answer in case it never will be.
    fn note_target(&mut self, target: Option<&str>) {
        if let Some(target) = target {
            self.headers.fill(target.as_bytes(), std::iter::empty());
            self.target = 0..target.len();
        }
    }

    fn interpret(&mut self) -> Result<(), Refusal> {
        let hosts = self.headers.get_all("host").count();
        if hosts > 1 || (hosts == 0 && self.minor == 1) {
            return Err(Refusal::Malformed("exactly one Host is required"));
        }
        self.framing = framing(&self.headers, self.minor)?;
        self.keep_alive = if self.minor == 1 {
            !self.headers.has_token("connection", "close")
        } else {
            self.headers.has_token("connection", "keep-alive")
        };
        self.expects_continue = false;
        if self.minor == 1 {
            for expectation in self.headers.get_all("expect") {
                if !expectation.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Refusal::UnsupportedExpectation);
                }
                self.expects_continue = true;
            }
        }
        self.accepts_trailers = self.headers.has_token("te", "trailers");
        Ok(())
    }

    /// Gives back the memory of an unusually large head.
    pub(crate) fn shrink(&mut self) {
        self.headers.shrink();
    }
}

/// The target without scheme and authority, as proxies send them; `None` if it is neither path, absolute URI nor `*`.
fn origin_form(target: &str) -> Option<&str> {
    if target.starts_with('/') || target == "*" {
        return Some(target);
    }
    let (scheme, rest) = target.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    match rest.find(['/', '?']) {
        Some(at) if rest[at..].starts_with('/') => Some(&rest[at..]),
        Some(_) => None,
        None => Some(""),
    }
}

fn framing(headers: &Headers, minor: u8) -> Result<BodyFraming, Refusal> {
    let mut codings = headers.get_all("transfer-encoding");
    let coding = codings.next();
    if headers.get_all("content-length").count() > 1 {
        return Err(Refusal::Malformed("more than one Content-Length"));
    }
    let length = content_length(headers).map_err(|error| {
        Refusal::Malformed(match error {
            LengthError::NotDigits => "Content-Length is not a number",
            LengthError::Differing => "more than one Content-Length",
        })
    })?;
    match (coding, length) {
        (None, None | Some(0)) => Ok(BodyFraming::Empty),
        (None, Some(length)) => Ok(BodyFraming::Length(length)),
        (Some(_), Some(_)) => Err(Refusal::Malformed(
            "both Transfer-Encoding and Content-Length",
        )),
        (Some(_), None) if minor == 0 => Err(Refusal::Malformed(
            "Transfer-Encoding in an HTTP/1.0 request",
        )),
        (Some(coding), None) => {
            if codings.next().is_some() {
                Err(Refusal::Malformed("more than one Transfer-Encoding"))
            } else if coding.eq_ignore_ascii_case(b"chunked") {
                Ok(BodyFraming::Chunked)
            } else {
                Err(Refusal::UnsupportedTransferCoding)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http::scan::HeadScan;

    fn parse(head: &str) -> Result<RequestHead, Refusal> {
        let mut parsed = RequestHead::default();
        match parsed.parse(head.as_bytes(), &Limits::default()) {
            Ok(Some(_)) => Ok(parsed),
            Ok(None) => panic!("incomplete: {head:?}"),
            Err(refusal) => Err(refusal),
        }
    }

    #[test]
    fn a_target_is_reduced_to_path_and_query() {
        for (target, origin) in [
            ("/a?b=c", "/a?b=c"),
            ("http://host/a?b", "/a?b"),
            ("HTTPS://host", "/"),
            ("*", "*"),
        ] {
            let head = parse(&format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n")).unwrap();
            assert_eq!(head.target(), origin);
        }
        for target in ["host:443", "ftp://host/", "a/b", "http://host?x"] {
            let head = parse(&format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"));
            assert_eq!(head.unwrap_err().status(), 400, "{target}");
        }
    }

    #[test]
    fn a_body_is_delimited_in_exactly_one_way() {
        let of = |fields: &str| {
            parse(&format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n"))
                .map(|head| head.framing)
                .map_err(|refusal| refusal.status())
        };
        assert_eq!(of(""), Ok(BodyFraming::Empty));
        assert_eq!(of("Content-Length: 007\r\n"), Ok(BodyFraming::Length(7)));
        assert_eq!(
            of("Transfer-Encoding: CHUNKED\r\n"),
            Ok(BodyFraming::Chunked)
        );
        for (fields, status) in [
            ("Content-Length: 5\r\nContent-Length: 5\r\n", 400),
            ("Content-Length: +5\r\n", 400),
            ("Content-Length: 5, 5\r\n", 400),
            ("Content-Length:\r\n", 400),
            ("Content-Length: 99999999999999999999\r\n", 400),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                400,
            ),
            ("Transfer-Encoding: gzip, chunked\r\n", 501),
            ("Transfer-Encoding: identity\r\n", 501),
            ("Transfer-Encoding: xchunked\r\n", 501),
            ("Expect: 200-ok\r\n", 417),
            ("Content-Length : 5\r\n", 400),
            (" folded\r\n", 400),
        ] {
            assert_eq!(of(fields), Err(status), "{fields}");
        }
    }

    #[test]
    fn a_host_is_required_once() {
        assert!(parse("GET / HTTP/1.1\r\n\r\n").is_err());
        assert!(parse("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n").is_err());
        assert!(parse("GET / HTTP/1.0\r\n\r\n").is_ok());
    }

    #[test]
    fn other_versions_are_told_so() {
        for head in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTTP/2.0\r\n\r\n"] {
            assert_eq!(parse(head).unwrap_err(), Refusal::UnsupportedVersion);
        }
    }

    #[test]
    fn persistence_follows_the_version() {
        let keeps = |head: &str| parse(head).unwrap().keep_alive;
        assert!(keeps("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert!(!keeps(
            "GET / HTTP/1.1\r\nHost: h\r\nConnection: te, close\r\n\r\n"
        ));
        assert!(!keeps("GET / HTTP/1.0\r\n\r\n"));
        assert!(keeps("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
    }

    /// What a connection makes of bytes that arrive in pieces ending at `cuts`.
    fn arrive(bytes: &[u8], cuts: &[usize]) -> Option<Result<(usize, String, u8), Refusal>> {
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        ends.push(bytes.len());
        ends.sort_unstable();
        let mut head = RequestHead::default();
        let mut scan = HeadScan::default();
        for end in ends {
            if !scan.worth_parsing(&bytes[..end]) {
                continue;
            }
            match head.parse(&bytes[..end], &Limits::default()) {
                Ok(None) => {}
                Ok(Some(length)) => {
                    return Some(Ok((length, head.target().to_owned(), head.minor)));
                }
                Err(refusal) => return Some(Err(refusal)),
            }
        }
        None
    }

    proptest! {
        #[test]
        fn a_head_means_the_same_however_it_is_split(
            lead in "(\r\n){0,2}",
            target in "/[a-z?=&%]{0,20}",
            fields in prop::collection::vec("[A-Za-z-]{1,12}: [ -~é]{0,30}(\r\n|\n)", 0..8),
            tail in "[ -~\r\n]{0,40}",
            cuts in prop::collection::vec(any::<usize>(), 0..10),
        ) {
            let text = format!("{lead}POST {target} HTTP/1.1\r\nHost: h\r\n{}\r\n{tail}", fields.concat());
            let whole = arrive(text.as_bytes(), &[]);
            prop_assert!(whole.is_some());
            prop_assert_eq!(arrive(text.as_bytes(), &cuts), whole);
        }

        #[test]
        fn any_bytes_are_refused_or_parsed(
            bytes in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b' '), Just(b':'), any::<u8>()], 0..300),
        ) {
            let mut head = RequestHead::default();
            let _ = head.parse(&bytes, &Limits::default());
            let mut line = b"GET / HTTP/1.1\r\n".to_vec();
            line.extend(&bytes);
            let _ = head.parse(&line, &Limits::default());
        }
    }
}
