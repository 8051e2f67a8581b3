//! A raw HTTP/1.1 client: sends exactly the bytes it is given and keeps what came back, piece by piece, with times.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{LIMIT, json};

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Its framing says that it is whole.
    Complete,
    /// The connection was closed (FIN) before its framing was satisfied.
    Cut,
    /// The connection was reset.
    Reset,
    /// Nothing more came within the limit.
    TimedOut,
}

/// One answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status code; 0 when no whole head came.
    pub status: u16,
    /// The status line as it came.
    pub status_line: String,
    /// Header fields in order, names as they came, values trimmed.
    pub headers: Vec<(String, String)>,
    /// The body without its transfer coding.
    pub body: Vec<u8>,
    /// Trailer fields after a chunked body.
    pub trailers: Vec<(String, String)>,
    /// Each read that brought body bytes: time since the request was written, and where in `body` it ends.
    pub pieces: Vec<(Duration, usize)>,
    /// When the head was whole, since the request was written.
    pub head_at: Duration,
    /// When the answer ended, since the request was written.
    pub ended_at: Duration,
    /// How it ended.
    pub end: End,
    /// Status codes of interim answers (1xx) before it.
    pub interim: Vec<u16>,
    /// Every byte as it came, interim answers included.
    pub raw: Vec<u8>,
}

impl Response {
    /// The first field of that name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as one JSON document; panics when it is none.
    pub fn json(&self) -> Value {
        json(&self.body)
    }

    /// The body as JSON lines (Ollama's streams); panics on an empty or a broken line.
    pub fn lines(&self) -> Vec<Value> {
        let body = self.body.strip_suffix(b"\n").unwrap_or(&self.body);
        body.split(|byte| *byte == b'\n').map(json).collect()
    }

    /// The body as server-sent events: `(event, data)`, comments left out.
    pub fn events(&self) -> Vec<(Option<String>, String)> {
        let text = self.text().replace("\r\n", "\n");
        text.split("\n\n")
            .filter_map(|block| {
                let field = |name: &str| {
                    block
                        .lines()
                        .find_map(|line| line.strip_prefix(name))
                        .map(|value| value.trim_start().to_owned())
                };
                field("data:").map(|data| (field("event:"), data))
            })
            .collect()
    }

    /// Distinct arrival times of body bytes at least `gap` apart: how many separate pieces a person would see.
    pub fn arrivals(&self, gap: Duration) -> usize {
        let mut last: Option<Duration> = None;
        self.pieces
            .iter()
            .filter(|(at, _)| {
                let apart = last.is_none_or(|last| *at >= last + gap);
                if apart {
                    last = Some(*at);
                }
                apart
            })
            .count()
    }
}

/// A connection that can be used again.
pub struct Connection {
    /// The socket, for tests that want to do something unusual with it.
    pub stream: TcpStream,
    rest: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub fn open(addr: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, LIMIT)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(LIMIT))?;
        Ok(Self {
            stream,
            rest: Vec::new(),
        })
    }

    /// Writes `bytes`; an error when the peer has closed is left to [`Self::read`], which tells what it said first.
    pub fn write(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes));
    }

    /// Writes a request and reads its answer.
    pub fn exchange(&mut self, request: &[u8]) -> Response {
        self.write(request);
        self.read(request.starts_with(b"HEAD "), LIMIT)
    }

    /// Reads one answer; `head_only` for the answer to a HEAD, `silence` is the longest wait between two reads.
    pub fn read(&mut self, head_only: bool, silence: Duration) -> Response {
        let start = Instant::now();
        let mut decoder = Decoder::new(head_only);
        let mut buffer = vec![0; 64 * 1024];
        let mut pending = std::mem::take(&mut self.rest);
        self.stream
            .set_read_timeout(Some(silence))
            .expect("a limit above zero");
        loop {
            if let Some(left) = decoder.feed(&pending, start.elapsed()) {
                self.rest = pending.split_off(pending.len() - left);
                return decoder.finish(End::Complete, start.elapsed());
            }
            let end = match self.stream.read(&mut buffer) {
                Ok(0) => decoder.at_close(),
                Ok(n) => {
                    pending = buffer[..n].to_vec();
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    End::TimedOut
                }
                Err(_) => End::Reset,
            };
            return decoder.finish(end, start.elapsed());
        }
    }

    /// Closes with RST instead of FIN.
    pub fn reset(self) {
        rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO))
            .expect("a socket of ours");
    }
}

/// Sends `request` on a new connection and reads the answer.
pub fn send(addr: SocketAddr, request: &[u8]) -> Response {
    Connection::open(addr)
        .expect("a listening address")
        .exchange(request)
}

/// `GET path`.
pub fn get(addr: SocketAddr, path: &str) -> Response {
    send(addr, get_bytes(addr, path).as_bytes())
}

/// `GET path`; `None` when nobody listens.
pub fn try_get(addr: SocketAddr, path: &str) -> Option<Response> {
    let mut connection = Connection::open(addr).ok()?;
    Some(connection.exchange(get_bytes(addr, path).as_bytes()))
}

/// `POST path` with a JSON document.
pub fn post(addr: SocketAddr, path: &str, body: &Value) -> Response {
    send(addr, &post_bytes(addr, path, &body.to_string()))
}

/// The bytes of a POST with a JSON body, as an ordinary client writes them.
pub fn post_bytes(addr: SocketAddr, path: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: {addr}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn get_bytes(addr: SocketAddr, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n\r\n")
}

enum State {
    Head,
    Length(usize),
    ChunkSize,
    ChunkData(usize),
    ChunkEnd,
    Trailers,
    UntilClose,
}

/// Follows the framing of one answer over however many reads.
struct Decoder {
    head_only: bool,
    state: State,
    /// Bytes of an element (head, size line, trailer line) that is not whole yet.
    partial: Vec<u8>,
    response: Response,
}

impl Decoder {
    fn new(head_only: bool) -> Self {
        Self {
            head_only,
            state: State::Head,
            partial: Vec::new(),
            response: Response {
                status: 0,
                status_line: String::new(),
                headers: Vec::new(),
                body: Vec::new(),
                trailers: Vec::new(),
                pieces: Vec::new(),
                head_at: Duration::ZERO,
                ended_at: Duration::ZERO,
                end: End::Cut,
                interim: Vec::new(),
                raw: Vec::new(),
            },
        }
    }

    /// Takes in what a read brought; when the answer is whole, how many of its bytes belong to the next one.
    fn feed(&mut self, bytes: &[u8], at: Duration) -> Option<usize> {
        let before = self.response.body.len();
        let left = self.advance(bytes, at);
        self.response
            .raw
            .extend_from_slice(&bytes[..bytes.len() - left.unwrap_or(0)]);
        if self.response.body.len() > before {
            self.response.pieces.push((at, self.response.body.len()));
        }
        left
    }

    fn advance(&mut self, mut bytes: &[u8], at: Duration) -> Option<usize> {
        loop {
            match self.state {
                State::Head => {
                    let head = self.element(&mut bytes, b"\r\n\r\n")?;
                    if self.head(&head, at) {
                        return Some(bytes.len());
                    }
                }
                State::Length(missing) => {
                    let n = missing.min(bytes.len());
                    self.response.body.extend_from_slice(&bytes[..n]);
                    bytes = &bytes[n..];
                    self.state = State::Length(missing - n);
                    return (n == missing).then_some(bytes.len());
                }
                State::ChunkSize => {
                    let line = self.element(&mut bytes, b"\r\n")?;
                    let line = String::from_utf8_lossy(&line).into_owned();
                    let digits = line.split(';').next().unwrap_or("").trim();
                    let size = usize::from_str_radix(digits, 16)
                        .unwrap_or_else(|_| panic!("not a chunk size: {line:?}"));
                    self.state = if size == 0 {
                        State::Trailers
                    } else {
                        State::ChunkData(size)
                    };
                }
                State::ChunkData(missing) => {
                    if bytes.is_empty() {
                        return None;
                    }
                    let n = missing.min(bytes.len());
                    self.response.body.extend_from_slice(&bytes[..n]);
                    bytes = &bytes[n..];
                    self.state = if n == missing {
                        State::ChunkEnd
                    } else {
                        State::ChunkData(missing - n)
                    };
                }
                State::ChunkEnd => {
                    let end = self.element(&mut bytes, b"\r\n")?;
                    assert_eq!(end, b"\r\n", "bytes between a chunk and its end");
                    self.state = State::ChunkSize;
                }
                State::Trailers => {
                    let line = self.element(&mut bytes, b"\r\n")?;
                    if line == b"\r\n" {
                        return Some(bytes.len());
                    }
                    self.response
                        .trailers
                        .push(field(&String::from_utf8_lossy(&line)));
                }
                State::UntilClose => {
                    self.response.body.extend_from_slice(bytes);
                    return None;
                }
            }
        }
    }

    /// The bytes up to and with `end`; `None` (and all of them kept) when it has not come yet.
    fn element(&mut self, bytes: &mut &[u8], end: &[u8]) -> Option<Vec<u8>> {
        let from = self.partial.len().saturating_sub(end.len() - 1);
        let before = self.partial.len();
        self.partial.extend_from_slice(bytes);
        let found = self.partial[from..]
            .windows(end.len())
            .position(|window| window == end);
        let Some(position) = found else {
            *bytes = &[];
            return None;
        };
        let whole = from + position + end.len();
        *bytes = &bytes[whole - before..];
        self.partial.truncate(whole);
        Some(std::mem::take(&mut self.partial))
    }

    /// Reads a head; true when the answer ends with it.
    fn head(&mut self, head: &[u8], at: Duration) -> bool {
        let text = String::from_utf8_lossy(head).into_owned();
        let mut lines = text.trim_end().split("\r\n");
        let status_line = lines.next().unwrap_or("").to_owned();
        let status = status_line
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or_else(|| panic!("not a status line: {status_line:?}"));
        if (100..200).contains(&status) && status != 101 {
            self.response.interim.push(status);
            return false;
        }
        self.response.status = status;
        self.response.status_line = status_line;
        self.response.headers = lines.map(field).collect();
        self.response.head_at = at;
        if self.head_only || status == 204 || status == 304 {
            return true;
        }
        let chunked = self
            .response
            .header("transfer-encoding")
            .is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
        let length = self
            .response
            .header("content-length")
            .map(|value| value.parse().expect("digits in Content-Length"));
        assert!(
            !(chunked && length.is_some()),
            "both Content-Length and chunked: {:?}",
            self.response.headers
        );
        self.state = match (chunked, length) {
            (true, _) => State::ChunkSize,
            (false, Some(length)) => State::Length(length),
            (false, None) => State::UntilClose,
        };
        length == Some(0)
    }

    fn at_close(&self) -> End {
        match self.state {
            State::UntilClose => End::Complete,
            _ => End::Cut,
        }
    }

    fn finish(mut self, end: End, at: Duration) -> Response {
        self.response.end = end;
        self.response.ended_at = at;
        self.response
    }
}

fn field(line: &str) -> (String, String) {
    let (name, value) = line
        .split_once(':')
        .unwrap_or_else(|| panic!("not a field: {line:?}"));
    (name.to_owned(), value.trim().to_owned())
}
