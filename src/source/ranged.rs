//! A remote file read from its start, piece by piece and never twice.

use std::io::{self, Read};
use std::time::Instant;

use reqwest::Url;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG};

use super::Progress;
use super::web::{Answer, Web};
use super::web_error::{Trouble, WebError};

/// End of the first piece in bytes: the headers of most models end before it.
pub(super) const FIRST: u64 = 4 * 1024 * 1024;

/// End of the first piece where little is expected: further shards hold no vocabulary, projectors neither.
pub(super) const FIRST_SMALL: u64 = 256 * 1024;

/// Most that is read of a file; no header is longer.
const MOST: u64 = 64 * 1024 * 1024;

/// How often a connection that was cut is replaced by one that goes on from the last byte.
const RESUMES: u32 = 2;

/// Bytes between two reports of progress.
const STEP: u64 = 256 * 1024;

/// A remote file. The first piece ends at a few megabytes; each further one doubles what has been read and starts behind the last byte.
/// A server that ignores ranges sends the whole file, which is then read as far as needed.
pub(super) struct Ranged<'a> {
    web: &'a Web,
    /// Where the pieces come from after redirects.
    url: Url,
    until: Instant,
    answer: Option<Answer>,
    /// Bytes read.
    position: u64,
    /// Where the piece that is being read ends.
    piece_end: u64,
    /// Where the next one would end.
    next_end: u64,
    /// Bytes of the file.
    size: Option<u64>,
    etag: Option<String>,
    /// Whether the server sends everything at once.
    whole: bool,
    resumes: u32,
    what: String,
    progress: &'a dyn Fn(Progress<'_>),
    reported: u64,
}

impl<'a> Ranged<'a> {
    /// Asks for the first piece, which ends at `first` bytes; its head is there when this returns. `what` names the file in reports of
    /// progress.
    pub(super) fn open(
        web: &'a Web,
        url: &Url,
        first: u64,
        what: &str,
        progress: &'a dyn Fn(Progress<'_>),
    ) -> Result<Self, WebError> {
        let mut ranged = Self {
            web,
            url: url.clone(),
            until: web.deadline(),
            answer: None,
            position: 0,
            piece_end: 0,
            next_end: first,
            size: None,
            etag: None,
            whole: false,
            resumes: 0,
            what: what.to_owned(),
            progress,
            reported: 0,
        };
        ranged.tell();
        ranged.next_piece()?;
        Ok(ranged)
    }

    /// Bytes of the whole file, where the server tells.
    pub(super) fn size(&self) -> Option<u64> {
        self.size
    }

    /// What changes when the file does.
    pub(super) fn etag(&self) -> Option<&str> {
        self.etag.as_deref()
    }

    fn failed(&self, trouble: Trouble) -> WebError {
        WebError::new(&self.url, trouble)
    }

    fn next_piece(&mut self) -> Result<(), WebError> {
        if self.position >= MOST {
            return Err(self.failed(Trouble::TooLarge(MOST)));
        }
        let end = self.size.unwrap_or(MOST).min(self.next_end).min(MOST);
        let range = (self.position, end.saturating_sub(1));
        let answer = self.web.get(
            &self.url,
            "application/octet-stream, */*",
            Some(range),
            self.until,
        )?;
        self.url.clone_from(&answer.url);
        if answer.response.status().as_u16() == 206 {
            let sent = answer.header(&CONTENT_RANGE).unwrap_or_default();
            let piece = Piece::parse(sent).filter(|piece| piece.first == self.position);
            let Some(piece) = piece else {
                let sent = sent.chars().take(100).collect();
                return Err(self.failed(Trouble::WrongRange {
                    asked: self.position,
                    sent,
                }));
            };
            if self.size.is_some() && piece.size != self.size {
                return Err(self.failed(Trouble::Changed));
            }
            self.size = piece.size;
            self.piece_end = piece.last.saturating_add(1).min(MOST);
        } else if self.position == 0 {
            self.whole = true;
            self.size = answer
                .header(&CONTENT_LENGTH)
                .and_then(|length| length.parse().ok());
            self.piece_end = MOST;
        } else {
            // From the start again: what came before would be read twice.
            return Err(self.failed(Trouble::WrongRange {
                asked: self.position,
                sent: "the whole file".to_owned(),
            }));
        }
        let etag = answer.header(&ETAG).map(str::to_owned);
        if self.position == 0 {
            self.etag = etag;
        } else if etag != self.etag {
            return Err(self.failed(Trouble::Changed));
        }
        self.answer = Some(answer);
        Ok(())
    }

    /// Whether everything has been read.
    fn ended(&self) -> bool {
        self.size.is_some_and(|size| self.position >= size)
    }

    fn advance(&mut self, buffer: &mut [u8]) -> Result<usize, WebError> {
        loop {
            if self.ended() || buffer.is_empty() {
                return Ok(0);
            }
            let Some(answer) = &mut self.answer else {
                self.next_piece()?;
                continue;
            };
            let left = self.piece_end.saturating_sub(self.position);
            let most = usize::try_from(left)
                .unwrap_or(usize::MAX)
                .min(buffer.len());
            if most == 0 {
                self.answer = None;
                if self.whole {
                    return Err(self.failed(Trouble::TooLarge(MOST)));
                }
                self.next_end = self.piece_end.saturating_mul(2);
                continue;
            }
            let piece = buffer.get_mut(..most).unwrap_or_default();
            match self.web.read(answer, piece) {
                Ok(count) if count > 0 => {
                    self.position += count as u64;
                    self.report();
                    return Ok(count);
                }
                // A whole file without a length ends with its connection.
                Ok(_) if self.whole && self.size.is_none() => {
                    self.size = Some(self.position);
                }
                Ok(_) => self.resume(None)?,
                Err(error) => self.resume(Some(error))?,
            }
        }
    }

    /// After a piece that ended early: the next one starts behind the last byte.
    fn resume(&mut self, error: Option<WebError>) -> Result<(), WebError> {
        self.answer = None;
        let cut = match &error {
            None => true,
            Some(error) => matches!(error.trouble, Trouble::Broken(_)),
        };
        if let Some(error) = error
            && !cut
        {
            return Err(error);
        }
        self.resumes += 1;
        if self.whole || self.resumes > RESUMES {
            return Err(self.failed(Trouble::Cut {
                at: self.position,
                size: self.size,
            }));
        }
        self.next_end = self.piece_end;
        Ok(())
    }

    fn report(&mut self) {
        if self.position - self.reported >= STEP {
            self.reported = self.position;
            self.tell();
        }
    }

    fn tell(&self) {
        (self.progress)(Progress {
            what: &self.what,
            done_bytes: self.position,
            total_bytes: None,
        });
    }
}

impl Read for Ranged<'_> {
    /// An error is a [`WebError`] inside of an [`io::Error`].
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.advance(buffer).map_err(io::Error::other)
    }
}

/// `Content-Range: bytes FIRST-LAST/SIZE`.
#[derive(Debug, PartialEq, Eq)]
struct Piece {
    first: u64,
    last: u64,
    size: Option<u64>,
}

impl Piece {
    fn parse(text: &str) -> Option<Self> {
        let (range, size) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let piece = Self {
            first: first.trim().parse().ok()?,
            last: last.trim().parse().ok()?,
            size: match size.trim() {
                "*" => None,
                size => Some(size.parse().ok()?),
            },
        };
        let inside = piece.size.is_none_or(|size| piece.last < size);
        (piece.first <= piece.last && inside).then_some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_server_says_it_sends() {
        assert_eq!(
            Piece::parse("bytes 0-3/10"),
            Some(Piece {
                first: 0,
                last: 3,
                size: Some(10)
            })
        );
        assert_eq!(
            Piece::parse("bytes 4-7/*").and_then(|piece| piece.size),
            None
        );
        for text in [
            "",
            "bytes */10",
            "bytes 3-0/10",
            "bytes 0-10/10",
            "items 0-1/2",
            "bytes 0-1",
            "bytes a-b/c",
        ] {
            assert_eq!(Piece::parse(text), None, "{text}");
        }
    }
}
