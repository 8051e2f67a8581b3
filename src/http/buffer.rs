//! The receive buffer of one connection: small until a message needs more, small again afterwards.

use std::{io, os::fd::BorrowedFd};

use super::socket;

/// Capacity of a quiet connection. A typical request with its head fits, and a thousand waiting connections stay cheap.
const SMALL: usize = 4 * 1024;
/// Largest capacity that a single read asks for.
const LARGE: usize = 64 * 1024;

/// Received bytes of which a front part is already used.
#[derive(Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    filled: bool,
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Buffer({} unread)", self.unread().len())
    }
}

impl Buffer {
    pub(crate) fn unread(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    pub(crate) fn unread_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..).unwrap_or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// Whether the last read used all the room it was given, so that more is likely waiting.
    pub(crate) fn was_filled(&self) -> bool {
        self.filled
    }

    pub(crate) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.bytes.len());
        if self.is_empty() {
            self.bytes.clear();
            self.start = 0;
        }
    }

    /// Puts bytes that were received too far back in order behind the unread ones.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Makes room for one read and hands out the vector, which must only grow by what was received.
    pub(crate) fn room(&mut self) -> &mut Vec<u8> {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        let wanted = if self.filled {
            (self.bytes.capacity() * 2).clamp(SMALL, LARGE)
        } else {
            SMALL / 4
        };
        if self.bytes.capacity() - self.bytes.len() < wanted {
            self.bytes.reserve_exact(wanted.max(SMALL));
        }
        &mut self.bytes
    }

    /// Receives what is there without waiting; 0 is the end of the stream.
    pub(crate) fn receive(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        let received = socket::receive(fd, self.room())?;
        self.note();
        Ok(received)
    }

    /// Receives and waits as long as the socket's receive time-out says; 0 is the end of the stream.
    pub(crate) fn receive_blocking(&mut self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        let received = socket::receive_blocking(fd, self.room())?;
        self.note();
        Ok(received)
    }

    fn note(&mut self) {
        self.filled = self.bytes.len() == self.bytes.capacity();
    }

    /// Gives all memory back when nothing unread is in it.
    pub(crate) fn release(&mut self) {
        if self.is_empty() {
            self.bytes = Vec::new();
        }
    }

    /// Gives memory back before the connection goes idle.
    pub(crate) fn shrink(&mut self) {
        self.filled = false;
        if self.bytes.capacity() > SMALL && self.bytes.len() <= SMALL {
            self.consume(0);
            self.bytes.shrink_to(SMALL);
        }
    }
}
