//! Bytes of a header in order: buffered, counted, never more than the header may have.

use std::io::{ErrorKind, Read};

use super::gguf_error::{GgufError, Limited};

/// Bytes that are buffered; no single value that is kept is longer.
const BUFFER: usize = 64 << 10;

/// A reader with its position in the file.
pub(super) struct Input<'a, R> {
    reader: &'a mut R,
    buffer: Vec<u8>,
    /// The part of `buffer` that was read and not yet taken.
    start: usize,
    end: usize,
    /// Position in the file of `buffer[start]`.
    at: u64,
    /// The header goes on at least to here, as far as is known.
    least_end: u64,
    big_endian: bool,
}

impl<'a, R: Read> Input<'a, R> {
    pub(super) fn new(reader: &'a mut R) -> Self {
        Self {
            reader,
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
            at: 0,
            least_end: 0,
            big_endian: false,
        }
    }

    /// Bytes taken so far: the position in the file.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Numbers have their first byte highest from here on.
    pub(super) fn set_big_endian(&mut self, big_endian: bool) {
        self.big_endian = big_endian;
    }

    /// At least `count` more bytes belong to the header, as a count in it says.
    pub(super) fn expect(&mut self, count: u64) -> Result<(), GgufError> {
        self.within_limit(count)?;
        self.least_end = self.least_end.max(self.at.saturating_add(count));
        Ok(())
    }

    /// The bytes that come next, fewer than `count` only where the input ends.
    pub(super) fn peek(&mut self, count: usize) -> Result<&[u8], GgufError> {
        while self.end - self.start < count && self.more()? {}
        Ok(&self.buffer[self.start..self.end.min(self.start + count)])
    }

    /// The next `count` bytes, which must be no more than the buffer holds: the limits of keys, names and kept texts see to that.
    pub(super) fn take(&mut self, count: u64) -> Result<&[u8], GgufError> {
        self.within_limit(count)?;
        let wanted = usize::try_from(count).map_or(BUFFER, |count| count.min(BUFFER));
        debug_assert_eq!(wanted as u64, count, "nothing longer is kept");
        while self.end - self.start < wanted {
            if !self.more()? {
                return Err(self.truncated(count));
            }
        }
        let from = self.start;
        self.start += wanted;
        self.at += count;
        Ok(&self.buffer[from..self.start])
    }

    /// The next `N` bytes.
    pub(super) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N as u64)?);
        Ok(bytes)
    }

    /// The next `N` bytes as a little-endian number.
    pub(super) fn ordered<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        let mut bytes = self.bytes()?;
        if self.big_endian {
            bytes.reverse();
        }
        Ok(bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.ordered()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.ordered()?))
    }

    /// A count of 64 bits within its limit.
    pub(super) fn count(&mut self, what: Limited) -> Result<u64, GgufError> {
        let offset = self.at;
        let found = self.u64()?;
        if found > what.limit() {
            return Err(GgufError::TooLarge {
                offset,
                what,
                found,
            });
        }
        Ok(found)
    }

    /// Passes over bytes.
    pub(super) fn skip(&mut self, count: u64) -> Result<(), GgufError> {
        self.within_limit(count)?;
        let mut left = count;
        loop {
            let held = (self.end - self.start) as u64;
            if left <= held {
                // At most what the buffer holds, which is a usize.
                self.start += usize::try_from(left).unwrap_or(0);
                self.at += left;
                return Ok(());
            }
            left -= held;
            self.at += held;
            self.start = self.end;
            if !self.more()? {
                return Err(self.truncated(left));
            }
        }
    }

    fn within_limit(&self, count: u64) -> Result<(), GgufError> {
        let found = self.at.saturating_add(count);
        if found > Limited::Header.limit() {
            return Err(GgufError::TooLarge {
                offset: self.at,
                what: Limited::Header,
                found,
            });
        }
        Ok(())
    }

    /// One read into the free part of the buffer; false where the input has ended.
    fn more(&mut self) -> Result<bool, GgufError> {
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        loop {
            let free = &mut self.buffer[self.end..];
            let room = free.len();
            match self.reader.read(free) {
                Ok(0) => return Ok(false),
                Ok(read) => {
                    self.end += read.min(room);
                    return Ok(true);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(GgufError::Io(error)),
            }
        }
    }

    /// The input ended; `count` more bytes are needed from here.
    fn truncated(&self, count: u64) -> GgufError {
        GgufError::Truncated {
            at: self.at + (self.end - self.start) as u64,
            need: self.least_end.max(self.at.saturating_add(count)),
        }
    }
}
