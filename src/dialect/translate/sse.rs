//! Server-sent events out of pieces that may be cut anywhere.

/// The longest event that is held back until it is whole, in bytes.
///
/// The longest real events are tool calls sent in one piece; Ollama's Go client gives up at 8 MB per line, llama-server stays far
/// below 1 MiB.
pub(super) const EVENT_LIMIT: usize = 1 << 20;

/// The event was longer than [`EVENT_LIMIT`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

/// Collects lines into events and hands out the `data` of each.
#[derive(Debug, Default)]
pub(super) struct EventReader {
    line: Vec<u8>,
    data: Vec<u8>,
    has_data: bool,
}

impl EventReader {
    /// Takes one piece and calls `event` with the data of every event that it completes.
    pub(super) fn push(
        &mut self,
        mut piece: &[u8],
        mut event: impl FnMut(&[u8]),
    ) -> Result<(), TooLong> {
        while let Some(end) = memchr::memchr(b'\n', piece) {
            let (head, tail) = piece.split_at(end);
            piece = tail.get(1..).unwrap_or_default();
            self.hold(head)?;
            self.end_line(&mut event);
        }
        self.hold(piece)
    }

    /// The stream is over. An event whose closing blank line is missing is still handed out: some servers forget it after `[DONE]`.
    pub(super) fn finish(&mut self, mut event: impl FnMut(&[u8])) {
        self.end_line(&mut event);
        self.end_line(&mut event);
    }

    fn hold(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        if self.line.len() + self.data.len() + bytes.len() > EVENT_LIMIT {
            return Err(TooLong);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self, event: &mut impl FnMut(&[u8])) {
        let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        if line.is_empty() {
            if self.has_data {
                event(&self.data);
            }
            self.data.clear();
            self.has_data = false;
        } else if let Some(value) = field(line, b"data").or_else(|| field(line, b"error")) {
            // `error:` is how older llama-servers reported a failure inside a stream; its value is the error object.
            if self.has_data {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(value);
            self.has_data = true;
        }
        self.line.clear();
    }
}

fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let value = line.strip_prefix(name)?.strip_prefix(b":")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

/// Appends one event: its name where the form has names, then its data.
pub(super) fn write_event(name: &str, data: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(pieces: &[&[u8]]) -> Vec<String> {
        let mut reader = EventReader::default();
        let mut seen = Vec::new();
        let mut note = |data: &[u8]| seen.push(String::from_utf8_lossy(data).into_owned());
        for piece in pieces {
            reader.push(piece, &mut note).unwrap();
        }
        reader.finish(&mut note);
        seen
    }

    #[test]
    fn joins_data_lines_and_skips_comments_and_other_fields() {
        let got = events(&[b": ping\r\n\r\nid: 1\r\nevent: x\r\ndata: a\r\ndata:b\r\n\r\n"]);
        assert_eq!(got, ["a\nb"]);
    }

    #[test]
    fn hands_out_the_last_event_without_its_blank_line() {
        assert_eq!(events(&[b"data: 1\n\nda", b"ta: [DONE]"]), ["1", "[DONE]"]);
    }

    #[test]
    fn refuses_an_event_beyond_the_limit() {
        let mut reader = EventReader::default();
        let piece = vec![b'x'; EVENT_LIMIT];
        assert_eq!(reader.push(&piece, |_| {}), Ok(()));
        assert_eq!(reader.push(b"x", |_| {}), Err(TooLong));
    }
}
