//! Writes one answer over `tiny_http`'s raw writer: heads, chunks, and the places where a fault stops it.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::SystemTime;

use super::clock::Cancel;
use super::fault::Struck;
use super::seed::Rng;
use super::wire::{timestamp, unix};

/// Go's server sends a `Content-Length` for what fits in its buffer of 2,048 bytes and chunks what does not.
const UNCHUNKED: usize = 2048;

/// Why an answer ended before its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// The client left, or the node was killed.
    Gone,
    /// A fault of the simulation.
    Fault,
}

impl From<io::Error> for Stop {
    /// Writing fails only when the other end is gone.
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// One answer.
pub(super) struct Reply {
    writer: Box<dyn Write + Send>,
    cancel: Arc<Cancel>,
    struck: Struck,
    garbage: Rng,
    /// HEAD: everything but the body.
    head_only: bool,
    status: Option<u16>,
    pieces: u32,
    bytes: u64,
    now: SystemTime,
}

impl Reply {
    /// An answer that has not begun. `now` dates it.
    pub(super) fn new(
        writer: Box<dyn Write + Send>,
        cancel: Arc<Cancel>,
        struck: Struck,
        seed: u64,
        head_only: bool,
        now: SystemTime,
    ) -> Self {
        Self {
            writer,
            cancel,
            struck,
            garbage: Rng::new(seed),
            head_only,
            status: None,
            pieces: 0,
            bytes: 0,
            now,
        }
    }

    /// The status, once the head is out.
    pub(super) fn status(&self) -> Option<u16> {
        self.status
    }

    /// Bytes written, head included.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Writes a whole answer. An empty `content_type` means none.
    pub(super) fn whole(
        &mut self,
        status: u16,
        content_type: &str,
        body: &[u8],
    ) -> Result<(), Stop> {
        self.strike()?;
        let body = if self.struck.garbage {
            self.noise(body.len().max(1))
        } else {
            body.to_vec()
        };
        if body.len() > UNCHUNKED && !self.head_only {
            self.head(status, content_type, "Transfer-Encoding: chunked\r\n")?;
            self.chunk(&body)?;
            return self.end();
        }
        let framing = format!("Content-Length: {}\r\n", body.len());
        self.head(status, content_type, &framing)?;
        if self.head_only {
            return Ok(());
        }
        if self.struck.cut.is_some() || self.struck.hang.is_some() {
            // The body is one piece: a fault in the middle of it strikes after its first half.
            let half = body.get(..body.len() / 2).unwrap_or_default();
            self.write(half)?;
            if self.struck.hang.is_some() {
                self.cancel.wait();
            }
            return Err(Stop::Fault);
        }
        self.write(&body)
    }

    /// Begins a stream.
    pub(super) fn stream(&mut self, content_type: &str) -> Result<(), Stop> {
        self.strike()?;
        self.head(200, content_type, "Transfer-Encoding: chunked\r\n")
    }

    /// Writes one piece of a stream.
    pub(super) fn piece(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        if self.struck.garbage {
            let noise = self.noise(bytes.len());
            return self.chunk(&noise);
        }
        self.chunk(bytes)
    }

    /// Ends a stream as complete.
    pub(super) fn end(&mut self) -> Result<(), Stop> {
        self.strike()?;
        self.write(b"0\r\n\r\n")
    }

    fn chunk(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        self.strike()?;
        if self.cancel.is_cancelled() {
            return Err(Stop::Gone);
        }
        let mut framed = format!("{:x}\r\n", bytes.len()).into_bytes();
        framed.extend(bytes);
        framed.extend(b"\r\n");
        self.pieces += 1;
        self.write(&framed)
    }

    /// A cut or a hang, if its moment has come. Before the head its moment is 0 pieces.
    fn strike(&mut self) -> Result<(), Stop> {
        if self.struck.cut == Some(self.pieces) && self.before_or_in_stream() {
            return Err(Stop::Fault);
        }
        if self.struck.hang == Some(self.pieces) && self.before_or_in_stream() {
            self.cancel.wait();
            return Err(Stop::Fault);
        }
        Ok(())
    }

    /// Zero pieces mean no answer at all, so they count before the head only.
    fn before_or_in_stream(&self) -> bool {
        self.status.is_none() || self.pieces > 0
    }

    fn noise(&mut self, length: usize) -> Vec<u8> {
        std::iter::repeat_with(|| self.garbage.next_u64().to_le_bytes())
            .flatten()
            .take(length)
            .collect()
    }

    fn head(&mut self, status: u16, content_type: &str, framing: &str) -> Result<(), Stop> {
        let content_type = match content_type {
            "" => String::new(),
            kind => format!("Content-Type: {kind}\r\n"),
        };
        let head = format!(
            "HTTP/1.1 {status} {}\r\n{content_type}Date: {}\r\n{framing}Connection: close\r\n\r\n",
            reason(status),
            http_date(self.now)
        );
        self.status = Some(status);
        self.write(head.as_bytes())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        self.writer.write_all(bytes)?;
        self.writer.flush()?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Request Entity Too Large",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Simulated",
    }
}

/// `Fri, 20 Nov 2026 21:46:10 GMT`, the form that HTTP asks for.
fn http_date(at: SystemTime) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let text = timestamp(at);
    let field = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    let month = field(5, 7)
        .parse::<usize>()
        .ok()
        .and_then(|month| MONTHS.get(month.wrapping_sub(1)))
        .unwrap_or(&"Jan");
    let weekday = usize::try_from(unix(at) / 86_400 % 7)
        .ok()
        .and_then(|day| DAYS.get(day))
        .unwrap_or(&"Thu");
    format!(
        "{weekday}, {} {month} {} {} GMT",
        field(8, 10),
        field(0, 4),
        field(11, 19)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates_are_written_as_http_wants_them() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_211_170);
        assert_eq!(http_date(at), "Fri, 20 Nov 2026 21:46:10 GMT");
        assert_eq!(
            http_date(SystemTime::UNIX_EPOCH),
            "Thu, 01 Jan 1970 00:00:00 GMT"
        );
    }
}
