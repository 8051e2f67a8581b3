//! One node: `tiny_http` behind its edge, a thread per request, the journal of what was asked.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::NodeSpec;
use super::catalog::{Model, full_name};
use super::clock::{Cancel, Clock, lock};
use super::edge::{Edge, OnGone};
use super::fault::{Fault, Struck};
use super::model::{Busy, Grant, Machine, Need, Ticket};
use super::reply::{Reply, Stop};
use super::routes;
use super::seed::{Rng, hash};

/// Requests that the journal keeps.
const JOURNAL: usize = 10_000;
/// Stack of a thread that answers: enough for a JSON document nested as deeply as the parser allows.
const STACK: usize = 512 << 10;
/// How often somebody who waits for a slot looks again, besides being told.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Answered to the end.
    Done,
    /// The client left, or the node was killed.
    Aborted,
    /// A fault of the simulation ended it.
    Faulted,
}

/// One request as the node saw it.
#[derive(Debug, Clone)]
pub struct Record {
    /// Method.
    pub method: String,
    /// Path with its query.
    pub path: String,
    /// Header fields as received.
    pub headers: Vec<(String, String)>,
    /// The model in the body.
    pub model: Option<String>,
    /// Bytes of the body that arrived.
    pub request_bytes: u64,
    /// Status of the answer, when its head went out.
    pub status: Option<u16>,
    /// Bytes of the answer, head included.
    pub response_bytes: u64,
    /// When the request was complete.
    pub started: Instant,
    /// When the answer ended.
    pub ended: Option<Instant>,
    /// How it ended; none: it has not.
    pub outcome: Option<Outcome>,
}

/// A request on its way through the routes.
pub(super) struct Exchange {
    pub(super) method: String,
    /// Without the query.
    pub(super) path: String,
    pub(super) origin: Option<String>,
    pub(super) body: Vec<u8>,
    pub(super) struck: Struck,
    pub(super) cancel: Arc<Cancel>,
    pub(super) reply: Reply,
    pub(super) arrived: Duration,
    record: u64,
}

/// One node.
pub struct Node {
    pub(super) spec: NodeSpec,
    pub(super) clock: Clock,
    pub(super) seed: u64,
    pub(super) models: Mutex<Vec<Arc<Model>>>,
    pub(super) blobs: Mutex<HashMap<String, u64>>,
    machine: Mutex<Machine>,
    changed: Condvar,
    faults: Mutex<Vec<Fault>>,
    dice: Mutex<Rng>,
    journal: Mutex<Journal>,
    edge: Mutex<Option<Edge>>,
    address: SocketAddr,
    inner: SocketAddr,
    stopping: AtomicBool,
    active: AtomicU64,
}

#[derive(Default)]
struct Journal {
    /// Number of the oldest record kept.
    first: u64,
    records: VecDeque<Record>,
}

impl Node {
    /// Listens on `address` and serves until it is stopped. The handle ends after [`Node::stop`].
    pub(super) fn start(
        spec: NodeSpec,
        address: SocketAddr,
        clock: Clock,
        seed: u64,
    ) -> io::Result<(Arc<Self>, JoinHandle<()>)> {
        let listener = TcpListener::bind(address)?;
        let behind = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        // Inherited by what tiny_http accepts, so that its small writes leave at once.
        rustix::net::sockopt::set_tcp_nodelay(&behind, true)?;
        let node = Arc::new(Self {
            machine: Mutex::new(Machine::new(spec.hardware.clone())),
            changed: Condvar::new(),
            models: Mutex::new(spec.models.iter().cloned().map(Arc::new).collect()),
            blobs: Mutex::default(),
            faults: Mutex::new(spec.faults.clone()),
            dice: Mutex::new(Rng::new(hash(&[&seed.to_le_bytes(), spec.name.as_bytes()]))),
            journal: Mutex::default(),
            edge: Mutex::default(),
            address: listener.local_addr()?,
            inner: behind.local_addr()?,
            stopping: AtomicBool::new(false),
            active: AtomicU64::new(0),
            spec,
            clock,
            seed,
        });
        let server = serve(&behind)?;
        node.open(listener)?;
        let thread = thread::Builder::new().name(node.spec.name.clone()).spawn({
            let node = Arc::clone(&node);
            move || node.run(server, &behind)
        })?;
        Ok((node, thread))
    }

    fn open(self: &Arc<Self>, listener: TcpListener) -> io::Result<()> {
        let weak = Arc::downgrade(self);
        let on_gone: OnGone = Arc::new(move || {
            if let Some(node) = weak.upgrade() {
                node.changed.notify_all();
            }
        });
        let edge = Edge::open(&self.spec.name, listener, self.inner, on_gone)?;
        *lock(&self.edge) = Some(edge);
        Ok(())
    }

    /// Name of the node, as in its answers.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Where it listens, or would.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was declared about it.
    pub fn spec(&self) -> &NodeSpec {
        &self.spec
    }

    /// The requests seen, oldest first; at most the last 10,000.
    pub fn journal(&self) -> Vec<Record> {
        lock(&self.journal).records.iter().cloned().collect()
    }

    /// Requests being worked on now.
    pub fn active(&self) -> u64 {
        self.active.load(Ordering::SeqCst)
    }

    /// Requests that wait for memory or a slot.
    pub fn queued(&self) -> usize {
        lock(&self.machine).queued()
    }

    /// Loads that were begun so far, reloads included.
    pub fn loads(&self) -> u64 {
        lock(&self.machine).loads()
    }

    /// Open connections.
    pub fn connections(&self) -> usize {
        lock(&self.edge).as_ref().map_or(0, Edge::connections)
    }

    /// Replaces the faults, from the next request on.
    pub fn set_faults(&self, faults: Vec<Fault>) {
        *lock(&self.faults) = faults;
    }

    /// Dies: the port closes, connections break where they are, memory is lost. Nothing happens to a dead node.
    pub fn kill(&self) {
        let edge = lock(&self.edge).take();
        drop(edge);
        lock(&self.machine).clear();
        self.changed.notify_all();
    }

    /// Listens again on the same port, with nothing loaded. Nothing happens to a living node.
    pub fn revive(self: &Arc<Self>) -> io::Result<()> {
        if lock(&self.edge).is_some() {
            return Ok(());
        }
        self.open(TcpListener::bind(self.address)?)
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.kill();
        // The thread that takes tiny_http's requests waits for one; any connection brings it to look.
        let _refused = std::net::TcpStream::connect_timeout(&self.inner, Duration::from_secs(1))
            .and_then(|mut wake| {
                io::Write::write_all(&mut wake, b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n")
            });
    }

    fn run(self: Arc<Self>, mut server: tiny_http::Server, behind: &TcpListener) {
        while !self.stopping.load(Ordering::SeqCst) {
            match server.recv_timeout(Duration::from_secs(1)) {
                Ok(Some(request)) => self.take(request),
                Ok(None) => {}
                // Its accept loop ends for good on the first error, such as a lack of descriptors.
                Err(_) => {
                    thread::sleep(Duration::from_millis(20));
                    if let Ok(again) = serve(behind) {
                        server = again;
                    }
                }
            }
        }
    }

    fn take(self: &Arc<Self>, request: tiny_http::Request) {
        if self.stopping.load(Ordering::SeqCst) {
            return;
        }
        let node = Arc::clone(self);
        let spawned = thread::Builder::new()
            .name(format!("{}-request", self.spec.name))
            .stack_size(STACK)
            .spawn(move || {
                let _active = Active::new(&node.active);
                node.answer(request);
            });
        // Without a thread the request is dropped, and tiny_http answers 500 for it.
        drop(spawned);
    }

    fn answer(&self, mut request: tiny_http::Request) {
        let declared = request.body_length();
        let mut body = Vec::new();
        let read = request.as_reader().read_to_end(&mut body);
        let complete = read.is_ok() && declared.is_none_or(|length| length == body.len());
        let mut exchange = self.exchange(request, body);
        let result = if complete {
            routes::answer(self, &mut exchange)
        } else {
            Err(Stop::Gone)
        };
        let outcome = match result {
            Ok(()) if exchange.cancel.is_cancelled() => Outcome::Aborted,
            Ok(()) => Outcome::Done,
            Err(Stop::Gone) => Outcome::Aborted,
            Err(Stop::Fault) => Outcome::Faulted,
        };
        self.end(&exchange, outcome);
    }

    /// Opens the books for a request whose body has been read.
    fn exchange(&self, request: tiny_http::Request, body: Vec<u8>) -> Exchange {
        let method = request.method().to_string();
        let url = request.url().to_owned();
        let path = url.split('?').next().unwrap_or_default().to_owned();
        let headers: Vec<(String, String)> = request
            .headers()
            .iter()
            // The first one is the edge's.
            .skip(1)
            .map(|header| (header.field.to_string(), header.value.to_string()))
            .collect();
        let origin = headers
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case("origin"))
            .map(|(_, value)| value.clone());
        let cancel = request
            .remote_addr()
            .and_then(|inner| {
                let edge = lock(&self.edge);
                edge.as_ref().and_then(|edge| edge.connection(*inner))
            })
            .map_or_else(gone, |connection| Arc::clone(&connection.cancel));
        let struck = Struck::roll(
            &lock(&self.faults),
            routes::runs_a_model(&path),
            &mut lock(&self.dice),
        );
        let record = self.begin(Record {
            method: method.clone(),
            path: url,
            headers,
            model: None,
            request_bytes: body.len() as u64,
            status: None,
            response_bytes: 0,
            started: Instant::now(),
            ended: None,
            outcome: None,
        });
        let arrived = self.clock.now();
        Exchange {
            reply: Reply::new(
                request.into_writer(),
                Arc::clone(&cancel),
                struck.clone(),
                hash(&[&self.seed.to_le_bytes(), &body]),
                method == "HEAD",
                self.clock.wall(arrived),
            ),
            method,
            path,
            origin,
            body,
            struck,
            cancel,
            arrived,
            record,
        }
    }

    fn begin(&self, record: Record) -> u64 {
        let mut journal = lock(&self.journal);
        if journal.records.len() >= JOURNAL {
            journal.records.pop_front();
            journal.first += 1;
        }
        journal.records.push_back(record);
        journal.first + journal.records.len() as u64 - 1
    }

    fn record(&self, number: u64, change: impl FnOnce(&mut Record)) {
        let mut journal = lock(&self.journal);
        let index = number
            .checked_sub(journal.first)
            .and_then(|index| usize::try_from(index).ok());
        if let Some(record) = index.and_then(|index| journal.records.get_mut(index)) {
            change(record);
        }
    }

    fn end(&self, exchange: &Exchange, outcome: Outcome) {
        self.record(exchange.record, |record| {
            record.status = exchange.reply.status();
            record.response_bytes = exchange.reply.bytes();
            record.ended = Some(Instant::now());
            record.outcome = Some(outcome);
        });
    }

    /// Notes which model a request is about.
    pub(super) fn note_model(&self, exchange: &Exchange, model: &str) {
        self.record(exchange.record, |record| {
            record.model = Some(model.to_owned());
        });
    }

    /// The model of this name on the node's disk.
    pub(super) fn find(&self, name: &str) -> Option<Arc<Model>> {
        let name = full_name(name);
        lock(&self.models)
            .iter()
            .find(|model| model.name == name)
            .cloned()
    }

    /// Uses the machine, and lets those who wait for it look.
    pub(super) fn with_machine<T>(&self, act: impl FnOnce(&mut Machine, Duration) -> T) -> T {
        let result = act(&mut lock(&self.machine), self.clock.now());
        self.changed.notify_all();
        result
    }

    /// Waits until the machine lets the request in.
    pub(super) fn admit(&self, need: Need, cancel: &Cancel) -> Result<Admitted<'_>, Refused> {
        let mut machine = lock(&self.machine);
        let ticket = machine
            .submit(self.clock.now(), need)
            .map_err(|Busy| Refused::Busy)?;
        loop {
            if cancel.is_cancelled() {
                machine.finish(self.clock.now(), ticket);
                return Err(Refused::Gone);
            }
            if let Some(grant) = machine.grant(self.clock.now(), ticket) {
                return Ok(Admitted {
                    node: self,
                    ticket,
                    grant,
                });
            }
            machine = self
                .changed
                .wait_timeout(machine, LOOK_AGAIN)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// For a request whose connection was killed before it got here.
fn gone() -> Arc<Cancel> {
    let cancel = Cancel::default();
    cancel.cancel();
    Arc::new(cancel)
}

fn serve(behind: &TcpListener) -> io::Result<tiny_http::Server> {
    tiny_http::Server::from_listener(behind.try_clone()?, None).map_err(io::Error::other)
}

/// Why the machine did not let a request in.
pub(super) enum Refused {
    /// Too many wait.
    Busy,
    /// The client left while it waited.
    Gone,
}

/// A request that holds a model; released on drop.
pub(super) struct Admitted<'a> {
    node: &'a Node,
    ticket: Ticket,
    pub(super) grant: Grant,
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        let ticket = self.ticket;
        self.node
            .with_machine(|machine, now| machine.finish(now, ticket));
    }
}

/// Counts a request while it lives.
struct Active<'a>(&'a AtomicU64);

impl<'a> Active<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
