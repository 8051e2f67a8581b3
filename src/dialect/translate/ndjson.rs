//! Lines out of pieces that may be cut anywhere.

use super::sse::{EVENT_LIMIT, TooLong};

/// Collects Ollama's lines and hands out each when it is whole.
#[derive(Debug, Default)]
pub(super) struct LineReader {
    line: Vec<u8>,
}

impl LineReader {
    /// Takes one piece and calls `event` with every line that it completes.
    pub(super) fn push(
        &mut self,
        mut piece: &[u8],
        mut event: impl FnMut(&[u8]),
    ) -> Result<(), TooLong> {
        while let Some(end) = memchr::memchr(b'\n', piece) {
            let (head, tail) = piece.split_at(end);
            piece = tail.get(1..).unwrap_or_default();
            self.hold(head)?;
            self.finish(&mut event);
        }
        self.hold(piece)
    }

    /// The stream is over; a last line without its end is handed out too.
    pub(super) fn finish(&mut self, mut event: impl FnMut(&[u8])) {
        if !self.line.trim_ascii().is_empty() {
            event(&self.line);
        }
        self.line.clear();
    }

    fn hold(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        if self.line.len() + bytes.len() > EVENT_LIMIT {
            return Err(TooLong);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_wherever_the_pieces_are_cut() {
        let text = "{\"a\":1}\r\n\n{\"b\":2}\n{\"c\":3}";
        for size in 1..text.len() {
            let mut reader = LineReader::default();
            let mut seen = Vec::new();
            let mut note = |line: &[u8]| seen.push(String::from_utf8_lossy(line).trim().to_owned());
            for piece in text.as_bytes().chunks(size) {
                reader.push(piece, &mut note).unwrap();
            }
            reader.finish(&mut note);
            assert_eq!(seen, ["{\"a\":1}", "{\"b\":2}", "{\"c\":3}"]);
        }
    }

    #[test]
    fn a_line_beyond_the_limit_is_refused() {
        let mut reader = LineReader::default();
        assert_eq!(reader.push(&vec![b'x'; EVENT_LIMIT], |_| {}), Ok(()));
        assert_eq!(reader.push(b"x", |_| {}), Err(TooLong));
    }
}
