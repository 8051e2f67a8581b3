//! The socket side of a node: accepts connections and carries their bytes to and from `tiny_http`.
//!
//! `tiny_http` hides its sockets: it cannot say that a client left, cannot close a connection that an answer was cut on while the client
//! keeps its end open, and keeps old connections when its listener goes. A node must do all three, so the public socket is ours and
//! `tiny_http` listens behind it. Every request is passed on with `Connection: close` in front of its other fields, which makes
//! `tiny_http` close its end as soon as the answer was written or dropped.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::clock::{Cancel, lock};

/// Connections of one node at once; further ones are closed unanswered.
const MAX_CONNECTIONS: usize = 1024;
/// Longest head that is carried.
const MAX_HEAD: usize = 64 << 10;
/// Largest body that is carried: `tiny_http` allocates what a `Content-Length` says, and a simulation has no use for more.
const MAX_BODY: u64 = 256 << 20;
/// Time for a client to send its head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Stack of a thread that copies bytes.
const STACK: usize = 128 << 10;

/// One client's connection.
pub(super) struct Connection {
    public: TcpStream,
    /// Under which address `tiny_http` knows it.
    inner: OnceLock<SocketAddr>,
    /// Told when the client leaves or the node dies.
    pub(super) cancel: Arc<Cancel>,
    answered: AtomicBool,
}

impl Connection {
    fn shut(&self) {
        // An error here means that the socket is closed already, which is what is wanted.
        let _closed = self.public.shutdown(Shutdown::Both);
    }
}

/// Called when any connection was given up, so that whoever waits for a slot can look.
pub(super) type OnGone = Arc<dyn Fn() + Send + Sync>;

struct Shared {
    inner: SocketAddr,
    stop: AtomicBool,
    next: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Connection>>>,
    on_gone: OnGone,
}

/// A listening node.
pub(super) struct Edge {
    address: SocketAddr,
    shared: Arc<Shared>,
    accept: Option<JoinHandle<()>>,
}

impl Edge {
    /// Starts to accept on `listener` for the `tiny_http` server at `inner`.
    pub(super) fn open(
        name: &str,
        listener: TcpListener,
        inner: SocketAddr,
        on_gone: OnGone,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            inner,
            stop: AtomicBool::new(false),
            next: AtomicU64::new(0),
            open: Mutex::default(),
            on_gone,
        });
        let accept = thread::Builder::new()
            .name(format!("{name}-accept"))
            .spawn({
                let shared = Arc::clone(&shared);
                move || accept_all(&listener, &shared)
            })?;
        Ok(Self {
            address,
            shared,
            accept: Some(accept),
        })
    }

    /// The connection that `tiny_http` knows under `inner`.
    pub(super) fn connection(&self, inner: SocketAddr) -> Option<Arc<Connection>> {
        lock(&self.shared.open)
            .values()
            .find(|connection| connection.inner.get() == Some(&inner))
            .cloned()
    }

    /// Open connections.
    pub(super) fn connections(&self) -> usize {
        lock(&self.shared.open).len()
    }
}

impl Drop for Edge {
    /// As when a process dies: the port is free, every connection is closed where it stands.
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // accept() has no time-out; a connection wakes it. If even that fails, the thread cannot be waited for.
        let woken = TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).is_ok();
        for connection in lock(&self.shared.open).values() {
            connection.cancel.cancel();
            connection.shut();
        }
        (self.shared.on_gone)();
        if let Some(accept) = self.accept.take()
            && woken
        {
            // Its panic would have been printed; there is nothing to pass on.
            let _ended = accept.join();
        }
    }
}

fn accept_all(listener: &TcpListener, shared: &Arc<Shared>) {
    loop {
        let accepted = listener.accept();
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        match accepted {
            Ok((public, _)) => start(public, shared),
            // Out of descriptors, or a client that left at once: neither is a reason to stop.
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn start(public: TcpStream, shared: &Arc<Shared>) {
    let connection = Arc::new(Connection {
        public,
        inner: OnceLock::new(),
        cancel: Arc::default(),
        answered: AtomicBool::new(false),
    });
    let id = shared.next.fetch_add(1, Ordering::Relaxed);
    {
        let mut open = lock(&shared.open);
        if open.len() >= MAX_CONNECTIONS {
            return;
        }
        open.insert(id, Arc::clone(&connection));
    }
    // A node that is killed right now has already closed what it knew.
    if shared.stop.load(Ordering::SeqCst) {
        connection.shut();
    }
    let carrier = thread::Builder::new()
        .name("sim-carry".to_owned())
        .stack_size(STACK)
        .spawn({
            let shared = Arc::clone(shared);
            move || {
                // A failure on a socket ends the connection, which is all that can be done about it.
                let _carried = carry(&connection, &shared);
                connection.cancel.cancel();
                connection.shut();
                lock(&shared.open).remove(&id);
            }
        });
    if carrier.is_err() {
        lock(&shared.open).remove(&id);
    }
}

/// Carries one request and its answer.
fn carry(connection: &Arc<Connection>, shared: &Shared) -> io::Result<()> {
    let mut public = &connection.public;
    public.set_nodelay(true)?;
    let received = read_head(public)?;
    if content_length(&received).is_some_and(|length| length > MAX_BODY) {
        return public.write_all(
            b"HTTP/1.1 413 Request Entity Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        );
    }
    let inner = Arc::new(TcpStream::connect(shared.inner)?);
    inner.set_nodelay(true)?;
    // Set before the first byte, so that tiny_http's address is known when its request appears.
    let address = inner.local_addr()?;
    connection.inner.get_or_init(|| address);
    let line = memchr::memchr(b'\n', &received).map_or(received.len(), |end| end + 1);
    let (line, rest) = received.split_at(line);
    let down = thread::Builder::new()
        .name("sim-carry-down".to_owned())
        .stack_size(STACK)
        .spawn({
            let (connection, inner) = (Arc::clone(connection), Arc::clone(&inner));
            move || carry_down(&connection, &inner)
        })?;
    let up = (|| {
        let mut inner = &*inner;
        inner.write_all(line)?;
        inner.write_all(b"Connection: close\r\n")?;
        inner.write_all(rest)?;
        io::copy(&mut public, &mut inner)
    })();
    if !connection.answered.load(Ordering::SeqCst) {
        connection.cancel.cancel();
        (shared.on_gone)();
    }
    // Already closed is as good.
    let _closed = inner.shutdown(Shutdown::Write);
    // A panic there was printed; the connection ends here anyway.
    let _ended = down.join();
    up.map(|_| ())
}

/// Carries the answer until `tiny_http` closes, then closes towards the client, whatever the client does.
fn carry_down(connection: &Connection, mut inner: &TcpStream) {
    let mut public = &connection.public;
    let copied = io::copy(&mut inner, &mut public);
    if copied.is_ok() {
        connection.answered.store(true, Ordering::SeqCst);
    }
    connection.shut();
    // Wakes a handler that still writes to a client that is gone.
    let _closed = inner.shutdown(Shutdown::Both);
}

/// Reads until the end of a head. What follows it is in the result too.
fn read_head(mut public: &TcpStream) -> io::Result<Vec<u8>> {
    let deadline = Instant::now() + HEAD_TIMEOUT;
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    while memchr::memmem::find(&received, b"\r\n\r\n").is_none() {
        let remaining = deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() || received.len() > MAX_HEAD {
            return Err(io::ErrorKind::TimedOut.into());
        }
        public.set_read_timeout(Some(remaining))?;
        let count = public.read(&mut buffer)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        received.extend(buffer.iter().take(count));
    }
    public.set_read_timeout(None)?;
    Ok(received)
}

fn content_length(head: &[u8]) -> Option<u64> {
    let end = memchr::memmem::find(head, b"\r\n\r\n")?;
    let text = String::from_utf8_lossy(head.get(..end)?);
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        // What is not a number is at least as bad as one that is too large.
        .map(|(_, value)| value.trim().parse().unwrap_or(u64::MAX))
}
