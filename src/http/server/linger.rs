//! Closing a connection on which the client may still be sending.
//!
//! Closing a socket with unread bytes sends a RST, which can destroy the answer before the client has read it. So the write side is closed
//! first and what still comes is thrown away for a bounded time.

use std::{
    net::{Shutdown, TcpStream},
    os::fd::AsFd,
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    time::{Duration, Instant},
};

use rustix::event::PollFlags;

use crate::http::{
    poll::{Ready, wait},
    socket,
};

/// Longest wait for the client to notice. nginx: `lingering_timeout` 5 s; a client on a network of GPU servers needs far less.
const LINGER: Duration = Duration::from_secs(2);
/// Refused connections that linger at the same time; more are closed at once.
const MAX_REFUSED: usize = 256;
/// How often the refused connections are looked at.
const TICK: Duration = Duration::from_millis(20);

/// Closes `stream` so that the client can read what it was sent.
pub(super) fn close(stream: &TcpStream) {
    if stream.shutdown(Shutdown::Write).is_err() {
        return;
    }
    let deadline = Instant::now() + LINGER;
    while !discard(stream) {
        match wait(stream.as_fd(), PollFlags::IN, None, Some(deadline)) {
            Ok(Ready::Socket) if Instant::now() < deadline => {}
            _ => return,
        }
    }
}

/// Like [`close`] if the client has sent something that nobody read; otherwise the caller's drop is enough.
pub(super) fn close_if_unread(stream: &TcpStream) {
    let mut byte = [0_u8; 1];
    if matches!(socket::receive_slice(stream.as_fd(), &mut byte), Ok(1..)) {
        close(stream);
    }
}

/// Throws away what has arrived; true at the end of the stream.
fn discard(stream: &TcpStream) -> bool {
    /// Reads per call, so that a fast sender cannot hold the caller.
    const READS: usize = 64;
    let mut sink = [0_u8; 8192];
    for _ in 0..READS {
        match socket::receive_slice(stream.as_fd(), &mut sink) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
    false
}

/// The connections that the accept loop refused, lingering on a thread of their own.
#[derive(Debug)]
pub(super) struct Refused {
    queue: SyncSender<TcpStream>,
}

impl Refused {
    /// Starts the thread; it ends when this is dropped and the last connection is closed.
    pub(super) fn start() -> std::io::Result<Self> {
        let (queue, refused) = sync_channel(MAX_REFUSED);
        std::thread::Builder::new()
            .name("refused".into())
            .stack_size(64 * 1024)
            .spawn(move || run(&refused))?;
        Ok(Self { queue })
    }

    /// Closes `stream`, whose answer has been sent, without waiting.
    pub(super) fn close(&self, stream: TcpStream) {
        if stream.shutdown(Shutdown::Write).is_ok() {
            // A full queue means a flood: these are closed at once, whatever that does to the answer.
            let _ = self.queue.try_send(stream);
        }
    }
}

fn run(refused: &Receiver<TcpStream>) {
    let mut lingering: Vec<(TcpStream, Instant)> = Vec::new();
    loop {
        let next = if lingering.is_empty() {
            refused.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            refused.recv_timeout(TICK)
        };
        match next {
            Ok(stream) => lingering.push((stream, Instant::now() + LINGER)),
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
        }
        let now = Instant::now();
        lingering.retain(|(stream, until)| now < *until && !discard(stream));
        if lingering.len() > MAX_REFUSED {
            lingering.remove(0);
        }
    }
}
