//! From a name to a connected socket, without losing sight of the waiting client.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs},
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::{
    event::PollFlags,
    io::Errno,
    net::{AddressFamily, SocketType, connect, sockopt},
};

use super::{Origin, SendError};
use crate::http::poll::{Ready, Watch, after, wait};

/// Names that are being looked up at the same time. A look-up cannot be cancelled, so a broken resolver must not collect threads.
const MAX_LOOKUPS: usize = 64;
/// When a silent upstream is first probed, how often, and how many times: a node that lost power during a long prefill is noticed after a
/// minute.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(10), 3);

/// What limits one attempt to connect.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt<'w> {
    /// Per address, and for the look-up of the name.
    pub(super) limit: Duration,
    /// End of the whole request.
    pub(super) total: Option<Instant>,
    pub(super) watch: Option<Watch<'w>>,
}

impl Attempt<'_> {
    pub(super) fn deadline(&self) -> Instant {
        let own = after(self.limit);
        self.total.map_or(own, |total| own.min(total))
    }

    pub(super) fn late(&self) -> SendError {
        if self.total.is_some_and(|total| total <= Instant::now()) {
            SendError::TotalTimeout
        } else {
            SendError::ConnectTimeout
        }
    }
}

/// Connects to the first address of `origin` that accepts.
pub(super) fn open(
    origin: &Origin,
    lookups: &Arc<AtomicUsize>,
    attempt: Attempt<'_>,
) -> Result<TcpStream, SendError> {
    let mut last = SendError::Resolve("the name has no address".into());
    for address in resolve(origin, lookups, attempt)? {
        match open_one(address, attempt) {
            Ok(stream) => return Ok(stream),
            Err(error @ (SendError::Connect(_) | SendError::ConnectTimeout)) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

fn open_one(address: SocketAddr, attempt: Attempt<'_>) -> Result<TcpStream, SendError> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let failed = |error: Errno| SendError::Connect(error.into());
    let socket = open_socket(family).map_err(failed)?;
    configure(&socket).map_err(failed)?;
    match connect(&socket, &address) {
        Ok(()) => {}
        Err(Errno::INPROGRESS | Errno::INTR) => {
            let deadline = Some(attempt.deadline());
            match wait(socket.as_fd(), PollFlags::OUT, attempt.watch, deadline) {
                Ok(Ready::Socket) => {}
                Ok(Ready::Gone) => return Err(SendError::ClientGone),
                Ok(Ready::Late) => return Err(attempt.late()),
                Err(error) => return Err(SendError::Connect(error)),
            }
            sockopt::socket_error(&socket)
                .map_err(failed)?
                .map_err(failed)?;
        }
        Err(error) => return Err(failed(error)),
    }
    Ok(TcpStream::from(socket))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn open_socket(family: AddressFamily) -> rustix::io::Result<OwnedFd> {
    use rustix::net::{SocketFlags, socket_with};
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(family, SocketType::STREAM, flags, None)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn open_socket(family: AddressFamily) -> rustix::io::Result<OwnedFd> {
    use rustix::io::{FdFlags, fcntl_setfd, ioctl_fionbio};
    let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
    fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    ioctl_fionbio(&socket, true)?;
    Ok(socket)
}

fn configure(socket: impl AsFd) -> rustix::io::Result<()> {
    let (idle, interval, count) = KEEPALIVE;
    sockopt::set_tcp_nodelay(&socket, true)?;
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_keepidle(&socket, idle)?;
    sockopt::set_tcp_keepintvl(&socket, interval)?;
    sockopt::set_tcp_keepcnt(&socket, count)
}

fn resolve(
    origin: &Origin,
    lookups: &Arc<AtomicUsize>,
    attempt: Attempt<'_>,
) -> Result<Vec<SocketAddr>, SendError> {
    let (host, port) = (origin.host(), origin.port());
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    if host == "localhost" {
        // Ollama and llama-server listen on 127.0.0.1 unless told otherwise.
        return Ok(vec![
            (Ipv4Addr::LOCALHOST, port).into(),
            (Ipv6Addr::LOCALHOST, port).into(),
        ]);
    }
    look_up(host, port, lookups, attempt)
}

/// Asks the system's resolver on a thread of its own, because `getaddrinfo` knows neither deadline nor cancellation.
fn look_up(
    host: &str,
    port: u16,
    lookups: &Arc<AtomicUsize>,
    attempt: Attempt<'_>,
) -> Result<Vec<SocketAddr>, SendError> {
    let failed = |error: io::Error| SendError::Resolve(error.to_string());
    let running = Running::enter(lookups)
        .ok_or_else(|| SendError::Resolve("too many names are being looked up".into()))?;
    let found = Arc::new(Mutex::new(None));
    let (done, signal) = io::pipe().map_err(failed)?;
    let (host, result) = (host.to_owned(), Arc::clone(&found));
    std::thread::Builder::new()
        .name("lookup".into())
        .spawn(move || {
            let addresses = (host.as_str(), port)
                .to_socket_addrs()
                .map(Iterator::collect);
            *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(addresses);
            drop(running);
            // Closing its end wakes whoever waits.
            drop(signal);
        })
        .map_err(failed)?;
    let deadline = Some(attempt.deadline());
    match wait(done.as_fd(), PollFlags::IN, attempt.watch, deadline) {
        Ok(Ready::Socket) => {}
        Ok(Ready::Gone) => return Err(SendError::ClientGone),
        Ok(Ready::Late) => return Err(attempt.late()),
        Err(error) => return Err(failed(error)),
    }
    let addresses = found.lock().unwrap_or_else(PoisonError::into_inner).take();
    addresses
        .unwrap_or_else(|| Err(io::Error::other("the resolver gave up")))
        .map_err(failed)
}

/// Counts a running look-up.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn enter(lookups: &Arc<AtomicUsize>) -> Option<Self> {
        let running = Self(Arc::clone(lookups));
        (lookups.fetch_add(1, Ordering::Relaxed) < MAX_LOOKUPS).then_some(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
