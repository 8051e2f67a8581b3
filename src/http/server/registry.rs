//! The open connections: counted, found when the server stops.

use std::{
    collections::HashMap,
    net::{Shutdown, TcpStream},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

/// No byte of a request has come yet.
const FRESH: u8 = 0;
/// Between two requests.
const IDLE: u8 = 1;
/// A request is being read or answered.
const BUSY: u8 = 2;
/// The stop closed it.
const CLOSED: u8 = 3;

/// One accepted connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) peer: std::net::SocketAddr,
    state: AtomicU8,
}

impl Connection {
    /// Between two requests from now on. A stop that comes later closes the connection.
    pub(super) fn rest(&self) {
        self.state.store(IDLE, Ordering::SeqCst);
    }

    /// A request begins. False: the stop was faster.
    pub(super) fn begin(&self) -> bool {
        self.state.swap(BUSY, Ordering::SeqCst) != CLOSED
    }

    fn close_if(&self, state: u8) {
        let closed = self
            .state
            .compare_exchange(state, CLOSED, Ordering::SeqCst, Ordering::SeqCst);
        if closed.is_ok() {
            // Fails only if the peer has closed already.
            let _ = self.stream.shutdown(Shutdown::Both);
        }
    }
}

/// All open connections of a server, and whether it is stopping.
#[derive(Debug, Default)]
pub(super) struct Registry {
    pub(super) stopping: AtomicBool,
    open: Mutex<Open>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    connections: HashMap<u64, Arc<Connection>>,
}

impl Registry {
    /// Registers a connection; `None` if there are `limit` already.
    pub(super) fn enter(
        self: &Arc<Self>,
        stream: TcpStream,
        peer: std::net::SocketAddr,
        limit: usize,
    ) -> Result<Entry, TcpStream> {
        let mut open = self.lock();
        if open.connections.len() >= limit {
            return Err(stream);
        }
        let connection = Arc::new(Connection {
            stream,
            peer,
            state: AtomicU8::new(FRESH),
        });
        let id = open.next;
        open.next += 1;
        open.connections.insert(id, Arc::clone(&connection));
        Ok(Entry {
            registry: Arc::clone(self),
            connection,
            id,
        })
    }

    /// Open connections.
    pub(super) fn len(&self) -> usize {
        self.lock().connections.len()
    }

    /// Closes the connections that are between two requests.
    pub(super) fn close_idle(&self) {
        for connection in self.lock().connections.values() {
            connection.close_if(IDLE);
        }
    }

    /// Waits until every connection has ended. Those that never sent a byte get `grace`, the others until `deadline`; those are then cut.
    /// Returns how many were cut.
    pub(super) fn drain(&self, grace: Duration, deadline: Instant) -> usize {
        let fresh_until = (Instant::now() + grace).min(deadline);
        if self.wait_empty(fresh_until) {
            return 0;
        }
        for connection in self.lock().connections.values() {
            connection.close_if(FRESH);
        }
        if self.wait_empty(deadline) {
            return 0;
        }
        let open = self.lock();
        for connection in open.connections.values() {
            connection.state.store(CLOSED, Ordering::SeqCst);
            let _ = connection.stream.shutdown(Shutdown::Both);
        }
        open.connections.len()
    }

    fn wait_empty(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), left, |open| !open.connections.is_empty());
        let (open, _) = waited.unwrap_or_else(PoisonError::into_inner);
        open.connections.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // Nothing that holds this lock can leave the map half changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A registered connection; leaving is dropping it.
#[derive(Debug)]
pub(super) struct Entry {
    registry: Arc<Registry>,
    pub(super) connection: Arc<Connection>,
    id: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut open = self.registry.lock();
        open.connections.remove(&self.id);
        if open.connections.is_empty() {
            self.registry.changed.notify_all();
        }
    }
}
