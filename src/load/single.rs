//! One keep-alive connection, used blocking: nothing but the round trip is measured.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::Place;
use super::answer::Answer;

/// The longest that connecting may take.
pub(super) const CONNECT: Duration = Duration::from_secs(5);
/// The longest that one read of an answer may take.
const LIMIT: Duration = Duration::from_secs(20);

/// A connection for one request at a time.
#[derive(Debug)]
pub struct Single {
    stream: TcpStream,
    answer: Answer,
    buffer: Vec<u8>,
}

/// How long an answer took, nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Took {
    /// Until its first piece; of an answer without pieces until it was whole.
    pub first: u64,
    /// Until it was whole.
    pub whole: u64,
}

impl Single {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens, or not in time.
    pub fn open(place: &Place) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&place.addr, CONNECT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        Ok(Self {
            stream,
            answer: Answer::new(true),
            buffer: vec![0; 64 * 1024],
        })
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// Another status than 200, no HTTP, or the connection broke.
    pub fn exchange(&mut self, request: &[u8]) -> io::Result<Took> {
        self.stream(request, |_| {})
    }

    /// The same; `each` gets the time inside of every piece when it comes.
    ///
    /// # Errors
    /// As of [`Single::exchange`].
    pub fn stream(&mut self, request: &[u8], mut each: impl FnMut(u64)) -> io::Result<Took> {
        self.answer.clear();
        let start = Instant::now();
        let mut first = None;
        self.stream.write_all(request)?;
        while !self.answer.whole() {
            match self.stream.read(&mut self.buffer)? {
                0 if self.answer.ends_with_connection() => break,
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                n => self.answer.push(self.buffer.get(..n).unwrap_or_default()),
            }
            if self.answer.broken() {
                return Err(io::Error::other("the answer is no HTTP"));
            }
            self.answer.stamps(|stamp| {
                first.get_or_insert_with(|| start.elapsed());
                each(stamp);
            });
        }
        if !self.answer.ok() {
            let status = self.answer.status();
            return Err(io::Error::other(format!("an answer with status {status}")));
        }
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let whole = nanos(start.elapsed());
        Ok(Took {
            first: first.map_or(whole, nanos),
            whole,
        })
    }
}
