//! Waiting for one socket until a deadline while watching another for its peer's departure.

use std::{
    io,
    net::TcpStream,
    os::fd::{AsFd, BorrowedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{RecvFlags, recv},
};

/// What a departure looks like to `poll(2)`: Linux reports a half-closed peer, elsewhere readability has to be looked at.
#[cfg(any(target_os = "linux", target_os = "android"))]
const DEPARTURE: PollFlags = PollFlags::RDHUP;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const DEPARTURE: PollFlags = PollFlags::IN;

/// The connection of a waiting client: whoever works for that client polls this too and stops when it departs.
///
/// A FIN counts as departure like a RST does: no HTTP client half-closes while it waits for an answer.
#[derive(Debug, Clone, Copy)]
pub struct Watch<'c> {
    fd: BorrowedFd<'c>,
}

impl<'c> Watch<'c> {
    /// Watches the peer of `stream`.
    pub fn new(stream: &'c TcpStream) -> Self {
        Self { fd: stream.as_fd() }
    }

    /// Whether the peer has closed or reset the connection by now; does not wait.
    pub fn gone(&self) -> bool {
        let mut fds = [PollFd::from_borrowed_fd(self.fd, DEPARTURE)];
        match poll(&mut fds, Some(&Timespec::default())) {
            Ok(0) | Err(Errno::INTR) => false,
            Ok(_) => departed(self.fd, fds[0].revents()),
            Err(_) => true,
        }
    }
}

/// Why [`wait`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ready {
    /// The socket has something of what was asked for, or an error to report.
    Socket,
    /// The watched client left.
    Gone,
    /// The deadline passed.
    Late,
}

/// Waits until `fd` is ready for `interest`, the watched client leaves, or the deadline passes. A departure goes before readiness.
pub(crate) fn wait(
    fd: BorrowedFd<'_>,
    interest: PollFlags,
    mut watch: Option<Watch<'_>>,
    deadline: Option<Instant>,
) -> io::Result<Ready> {
    loop {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = left.map(timespec);
        let mut fds = [
            PollFd::from_borrowed_fd(fd, interest),
            PollFd::from_borrowed_fd(watch.map_or(fd, |watch| watch.fd), DEPARTURE),
        ];
        let polled = if watch.is_some() {
            &mut fds[..]
        } else {
            &mut fds[..1]
        };
        match poll(polled, timeout.as_ref()) {
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
            Ok(0) if left.is_some_and(|left| left < MAX_WAIT) => return Ok(Ready::Late),
            Ok(_) => {}
        }
        if let Some(client) = watch
            && !fds[1].revents().is_empty()
        {
            if departed(client.fd, fds[1].revents()) {
                return Ok(Ready::Gone);
            }
            // Only without RDHUP: pipelined bytes hide a later FIN, and polling for them again would spin.
            watch = None;
        }
        if !fds[0].revents().is_empty() {
            return Ok(Ready::Socket);
        }
    }
}

/// The moment when `limit` is over; a limit beyond any clock counts as a century.
pub(crate) fn after(limit: Duration) -> Instant {
    const CENTURY: Duration = Duration::from_secs(100 * 365 * 86_400);
    let now = Instant::now();
    now + limit.min(CENTURY)
}

/// Longest single `poll(2)`; longer deadlines are waited for in several rounds.
const MAX_WAIT: Duration = Duration::from_secs(86_400);

fn timespec(left: Duration) -> Timespec {
    let left = left.min(MAX_WAIT);
    Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    }
}

fn departed(fd: BorrowedFd<'_>, seen: PollFlags) -> bool {
    if seen.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL) {
        return true;
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if seen.contains(PollFlags::RDHUP) {
        return true;
    }
    seen.contains(PollFlags::IN) && at_end(fd)
}

/// Whether nothing but the end of the stream is left to read, found by looking at the next byte without taking it.
fn at_end(fd: BorrowedFd<'_>) -> bool {
    let mut byte = [0_u8; 1];
    match recv(fd, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((_, seen)) => seen == 0,
        Err(Errno::AGAIN | Errno::INTR) => false,
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        net::{Shutdown, TcpListener},
    };

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        (near, far)
    }

    fn until(mut condition: impl FnMut() -> bool) -> bool {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) {
            if condition() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }

    #[test]
    fn a_half_closed_client_counts_as_gone_even_behind_unread_bytes() {
        let (near, mut far) = pair();
        let watch = Watch::new(&near);
        assert!(!watch.gone());
        far.write_all(b"pipelined").unwrap();
        assert!(!watch.gone());
        far.shutdown(Shutdown::Write).unwrap();
        assert!(until(|| watch.gone()));
    }

    #[test]
    fn looking_ahead_tells_the_end_from_silence_and_from_bytes() {
        let (near, mut far) = pair();
        assert!(!at_end(near.as_fd()));
        far.write_all(b"x").unwrap();
        wait(near.as_fd(), PollFlags::IN, None, None).unwrap();
        assert!(!at_end(near.as_fd()));
        let (near, far) = pair();
        drop(far);
        assert!(until(|| at_end(near.as_fd())));
    }

    #[test]
    fn a_departure_goes_before_readiness_and_a_deadline_ends_the_wait() {
        let (near, far) = pair();
        let (client, browser) = pair();
        let soon = Some(Instant::now() + Duration::from_millis(5));
        let quiet = wait(near.as_fd(), PollFlags::IN, Some(Watch::new(&client)), soon);
        assert_eq!(quiet.unwrap(), Ready::Late);
        drop((far, browser));
        assert!(until(|| Watch::new(&client).gone()));
        let both = wait(near.as_fd(), PollFlags::IN, Some(Watch::new(&client)), None);
        assert_eq!(both.unwrap(), Ready::Gone);
    }
}
