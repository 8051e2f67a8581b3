//! Non-blocking socket calls without a mode switch: each call says itself that it must not wait.

use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use rustix::{
    buffer::spare_capacity,
    event::PollFlags,
    io::Errno,
    net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, send, sendmsg},
};

use super::poll::{Ready, after, wait};

/// Receives into the spare capacity of `into`, which must not be empty; 0 is the end of the stream.
pub(crate) fn receive(fd: BorrowedFd<'_>, into: &mut Vec<u8>) -> io::Result<usize> {
    debug_assert!(into.capacity() > into.len());
    retry(|| recv(fd, spare_capacity(into), RecvFlags::DONTWAIT).map(|(count, _)| count))
}

/// Like [`receive`], but waits as long as the receive time-out of the socket says.
pub(crate) fn receive_blocking(fd: BorrowedFd<'_>, into: &mut Vec<u8>) -> io::Result<usize> {
    debug_assert!(into.capacity() > into.len());
    retry(|| recv(fd, spare_capacity(into), RecvFlags::empty()).map(|(count, _)| count))
}

/// Receives into `into`, which must not be empty; 0 is the end of the stream.
pub(crate) fn receive_slice(fd: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<usize> {
    retry(|| recv(fd, &mut *into, RecvFlags::DONTWAIT).map(|(_, count)| count))
}

/// Sends what fits into the socket buffer now.
pub(crate) fn send_now(fd: BorrowedFd<'_>, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    if let [part] = parts {
        return retry(|| send(fd, part, SendFlags::DONTWAIT));
    }
    retry(|| {
        sendmsg(
            fd,
            parts,
            &mut SendAncillaryBuffer::default(),
            SendFlags::DONTWAIT,
        )
    })
}

/// Sends all parts in order. `limit` bounds the whole call, so a reader that takes a byte now and then does not prolong it; a peer that
/// closed its side while the buffer is full ends it at once.
pub(crate) fn send_all(
    fd: BorrowedFd<'_>,
    mut parts: &mut [IoSlice<'_>],
    limit: Duration,
) -> io::Result<()> {
    let mut deadline = None;
    // Skips leading empty parts, which would otherwise look like a write of nothing.
    IoSlice::advance_slices(&mut parts, 0);
    while !parts.is_empty() {
        match send_now(fd, parts) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(sent) => IoSlice::advance_slices(&mut parts, sent),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let until = *deadline.get_or_insert_with(|| after(limit));
                if wait(fd.as_fd(), PollFlags::OUT, None, Some(until))? == Ready::Late {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "the peer does not read",
                    ));
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn retry(mut call: impl FnMut() -> Result<usize, Errno>) -> io::Result<usize> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result.map_err(Into::into),
        }
    }
}
