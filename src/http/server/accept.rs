//! The accept loop, its limits and its end.

use std::{
    io::{self, IoSlice, PipeReader, PipeWriter},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    net::sockopt,
};

use super::{
    Handler, Limits, Refusal, connection,
    linger::Refused,
    registry::{Entry, Registry},
};
use crate::http::{
    field::{push_decimal, push_field, reason},
    poll::after,
    socket,
};

/// Stack of a connection thread. Only touched pages cost memory.
const STACK: usize = 256 * 1024;
/// Connections that wait for the accept loop in the kernel; std asks for 128, and a burst beyond it costs its clients a second each.
const BACKLOG: i32 = 1024;
/// Pause after an `accept` that failed for want of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(20);
/// Time that a connection accepted just before the stop gets to send its request.
const GRACE: Duration = Duration::from_millis(500);
/// When a silent peer is first probed, how often, and how many times, before the kernel reports it dead: a laptop that was closed must not
/// hold a request for ever.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(15), 4);

/// A listening server.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    limits: Limits,
    registry: Arc<Registry>,
    stop: PipeReader,
    stopper: Stopper,
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were still busy when the drain time was over, and were cut.
    pub cut: usize,
}

/// Stops a server from any thread.
#[derive(Debug, Clone)]
pub struct Stopper {
    registry: Arc<Registry>,
    /// Closing it wakes the accept loop.
    pipe: Arc<Mutex<Option<PipeWriter>>>,
}

impl Stopper {
    /// Connections that are open now.
    pub fn connections(&self) -> usize {
        self.registry.len()
    }

    /// Stops accepting and closes idle connections at once; running requests may end. Calling it again does nothing.
    pub fn stop(&self) {
        self.registry.stopping.store(true, Ordering::SeqCst);
        drop(
            self.pipe
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        self.registry.close_idle();
    }
}

impl Server {
    /// Listens on `address` (`host:port`).
    pub fn bind(address: &str, limits: Limits) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        rustix::net::listen(&listener, BACKLOG)?;
        listener.set_nonblocking(true)?;
        if cfg!(any(target_os = "linux", target_os = "android")) {
            // Accepted sockets inherit these, which saves two calls per connection.
            configure(&listener)?;
        }
        let (stop, wake) = io::pipe()?;
        let registry = Arc::new(Registry::default());
        Ok(Self {
            address: listener.local_addr()?,
            listener,
            limits,
            stopper: Stopper {
                registry: Arc::clone(&registry),
                pipe: Arc::new(Mutex::new(Some(wake))),
            },
            registry,
            stop,
        })
    }

    /// The address in use, with the port that the system chose for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// A handle that stops this server.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Serves until stopped and drained, or until the drain time is over.
    pub fn run<H: Handler>(self, handler: Arc<H>) -> io::Result<Drained> {
        let refused = Refused::start()?;
        let limits = Arc::new(self.limits);
        let mut accept = Accept {
            limits: &limits,
            registry: &self.registry,
            handler,
            refused: &refused,
        };
        loop {
            let mut fds = [
                PollFd::new(&self.listener, PollFlags::IN),
                PollFd::new(&self.stop, PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => std::thread::sleep(PAUSE),
            }
            // Also after the stop: what the kernel has accepted for us has clients that wait.
            accept.all(&self.listener);
            if self.registry.stopping.load(Ordering::SeqCst) {
                break;
            }
        }
        drop(self.listener);
        self.registry.close_idle();
        let deadline = after(limits.drain);
        Ok(Drained {
            cut: self.registry.drain(GRACE, deadline),
        })
    }
}

fn configure(socket: impl AsFd) -> io::Result<()> {
    let (idle, interval, count) = KEEPALIVE;
    sockopt::set_tcp_nodelay(&socket, true)?;
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_keepidle(&socket, idle)?;
    sockopt::set_tcp_keepintvl(&socket, interval)?;
    sockopt::set_tcp_keepcnt(&socket, count)?;
    Ok(())
}

struct Accept<'s, H> {
    limits: &'s Arc<Limits>,
    registry: &'s Arc<Registry>,
    handler: Arc<H>,
    refused: &'s Refused,
}

impl<H: Handler> Accept<'_, H> {
    /// Accepts what is waiting. No error ends it for good.
    fn all(&mut self, listener: &TcpListener) {
        loop {
            match listener.accept() {
                Ok((stream, peer)) => self.one(stream, peer),
                Err(error) => match Errno::from_io_error(&error) {
                    Some(Errno::INTR | Errno::CONNABORTED) => {}
                    Some(Errno::AGAIN) => return,
                    // EMFILE, ENFILE, ENOBUFS, ENOMEM: connections that end make room.
                    _ => return std::thread::sleep(PAUSE),
                },
            }
        }
    }

    fn one(&mut self, stream: TcpStream, peer: SocketAddr) {
        if !cfg!(any(target_os = "linux", target_os = "android"))
            && (stream.set_nonblocking(false).is_err() || configure(&stream).is_err())
        {
            return;
        }
        match self
            .registry
            .enter(stream, peer, self.limits.max_connections)
        {
            Ok(entry) => self.spawn(entry),
            Err(stream) => self.refuse(stream),
        }
    }

    fn spawn(&mut self, entry: Entry) {
        let (limits, handler) = (Arc::clone(self.limits), Arc::clone(&self.handler));
        let registry = Arc::clone(self.registry);
        let connection = Arc::clone(&entry.connection);
        let spawned = std::thread::Builder::new()
            .name("connection".into())
            .stack_size(STACK)
            .spawn(move || {
                connection::serve(&entry.connection, &limits, &registry.stopping, &*handler);
            });
        if spawned.is_err() {
            // The closure is gone and with it the entry, so this is the only reference; without descriptors the client is just dropped.
            if let Some(connection) = Arc::into_inner(connection) {
                self.refuse(connection.stream);
            }
        }
    }

    /// Answers 503 without waiting for the client.
    fn refuse(&mut self, stream: TcpStream) {
        let refusal = Refusal::TooManyConnections;
        // A panic here would end the accept loop.
        let asked = catch_unwind(AssertUnwindSafe(|| self.handler.refuse(&refusal, None)));
        let Ok(refused) = asked else { return };
        let mut answer = format!("HTTP/1.1 503 {}\r\n", reason(503)).into_bytes();
        push_field(&mut answer, "Content-Type", refused.content_type.as_bytes());
        answer.extend_from_slice(b"Retry-After: 1\r\nConnection: close\r\nContent-Length: ");
        push_decimal(&mut answer, refused.body.len() as u64);
        answer.extend_from_slice(b"\r\n\r\n");
        answer.extend_from_slice(&refused.body);
        // A new connection has an empty send buffer; if even that fails, the client is gone.
        if socket::send_now(stream.as_fd(), &[IoSlice::new(&answer)]).is_ok() {
            self.refused.close(stream);
        }
    }
}
