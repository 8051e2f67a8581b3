//! A thread per node that looks at it again and again, and at once when asked to.
//!
//! A node is looked at every [`POLL_INTERVAL`], a loading one four times as often. What differs from the last look is handed on. One
//! node that hangs delays nobody: it only has its own thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::cluster::{Node, NodeState};
use crate::config::NodeConfig;

use super::discover::{discover_at, free_name};
use super::probe::{Detail, Prober};

/// Time between two looks at a node: three small requests on loopback or in the local network, and a change elsewhere (a model
/// loaded by another client) is known soon enough to route by.
pub const POLL_INTERVAL: Duration = Duration::from_secs(2);

/// Time between two discoveries while no node is known …
const DISCOVER_INTERVAL: Duration = Duration::from_secs(10);

/// … and afterwards: what else listens on those ports may not like to be asked.
const FURTHER_INTERVAL: Duration = Duration::from_secs(60);

/// Least time between two looks, however many failed requests ask for one.
const LEAST_GAP: Duration = Duration::from_millis(100);

/// A node that was idle for so long is looked at without what keeps a llama-server from going to sleep (see [`Detail::Quiet`]); how
/// many requests it runs is unknown then …
const IDLE_AFTER: Duration = Duration::from_secs(60);

/// … except once in a while, because others may use it too.
const IDLE_LOOK: Duration = Duration::from_secs(15 * 60);

/// How long [`Monitor::stop`] waits for threads that are in the middle of a look.
const STOP_LIMIT: Duration = Duration::from_millis(250);

/// Takes each changed node, the first look at each included. Called from several threads, in order for each node; it must be quick
/// and must not call the monitor. The time is that at which the look began: what happened since then it may not have seen.
pub type OnChange = Arc<dyn Fn(Node, Instant) + Send + Sync>;

/// What the way of a request learned about a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// No connection, or it ended without an answer; the text says why. The node is down until a look says otherwise.
    Unreachable(String),
    /// 429 or 503: busy until the next look.
    Busy(String),
    /// 503 while it reads its model.
    Loading,
}

/// Discovery while the router runs: new servers join; those that vanish stay, as down.
#[derive(Debug, Clone)]
pub struct Rediscovery {
    /// Base URLs to ask, see [`super::candidates`].
    pub candidates: Vec<String>,
    /// gpurouter's own address.
    pub own: std::net::SocketAddr,
}

/// The threads. Dropping it stops them.
pub struct Monitor {
    shared: Arc<Shared>,
}

struct Shared {
    prober: Arc<Prober>,
    interval: Duration,
    on_change: OnChange,
    watches: Mutex<Vec<Arc<Watch>>>,
    stopped: AtomicBool,
    /// Threads that have not ended.
    running: Mutex<usize>,
    /// Rung when a thread ends, and at the stop.
    bell: Condvar,
}

/// One node and what its thread and the way of a request share.
struct Watch {
    config: NodeConfig,
    seen: Mutex<Seen>,
    bell: Condvar,
}

struct Seen {
    node: Node,
    /// A look is wanted now.
    due: bool,
    /// Reports so far: a look that began before the last of them knows less than it.
    reports: u64,
    /// When the node was last known to work or was asked about.
    active: Instant,
    told: bool,
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Monitor").finish_non_exhaustive()
    }
}

impl Monitor {
    /// Starts a thread `node-NAME` for each node, and with `rediscovery` one that looks for further servers.
    ///
    /// # Errors
    /// When a thread cannot be started; those that were are stopped again.
    pub fn start(
        prober: Arc<Prober>,
        nodes: &[NodeConfig],
        interval: Duration,
        rediscovery: Option<Rediscovery>,
        on_change: OnChange,
    ) -> std::io::Result<Self> {
        let monitor = Self {
            shared: Arc::new(Shared {
                prober,
                interval,
                on_change,
                watches: Mutex::default(),
                stopped: AtomicBool::new(false),
                running: Mutex::new(0),
                bell: Condvar::new(),
            }),
        };
        for config in nodes {
            monitor.shared.watch(config.clone())?;
        }
        if let Some(rediscovery) = rediscovery {
            let shared = Arc::clone(&monitor.shared);
            monitor.shared.spawn("discover".to_owned(), move || {
                shared.rediscover(&rediscovery);
            })?;
        }
        Ok(monitor)
    }

    /// Wants a look at the node now; several wishes are one look. Unknown names are ignored: a node may have gone with a reload.
    pub fn poke(&self, name: &str) {
        if let Some(watch) = self.shared.find(name) {
            let mut seen = lock(&watch.seen);
            seen.due = true;
            seen.active = Instant::now();
            watch.bell.notify_all();
        }
    }

    /// Says that a request was sent to the node: how busy it is becomes worth asking again, which for a long idle node is not asked. Cheap enough to be
    /// called for each request.
    pub fn used(&self, name: &str) {
        if let Some(watch) = self.shared.find(name) {
            lock(&watch.seen).active = Instant::now();
        }
    }

    /// What a request met: the state changes at once, in the caller's thread, and a look that was under way no longer counts.
    pub fn report(&self, name: &str, outcome: Outcome) {
        let Some(watch) = self.shared.find(name) else {
            return;
        };
        let mut seen = lock(&watch.seen);
        let (state, cause) = match outcome {
            Outcome::Unreachable(text) => (NodeState::Down, text),
            Outcome::Busy(text) => (NodeState::Busy, text),
            Outcome::Loading => (
                NodeState::Loading,
                "the node is loading its model".to_owned(),
            ),
        };
        // A node that is out of order for a reason of its own does not become usable by saying 503.
        if state == NodeState::Busy && !seen.node.state.usable() {
            return;
        }
        let mut node = seen.node.clone();
        node.state = state;
        node.cause = Some(cause);
        if state == NodeState::Down {
            node.loaded.clear();
            node.running = None;
            node.waiting = None;
        }
        seen.reports += 1;
        seen.active = Instant::now();
        // Ollama's own routes answer while its queue is full: a look at once would only undo this.
        if state != NodeState::Busy {
            seen.due = true;
            watch.bell.notify_all();
        }
        self.shared.tell(&mut seen, node, Instant::now());
    }

    /// Ends the threads. One that is in the middle of a look is not waited for: it ends with that look, unheard.
    pub fn stop(&self) {
        let shared = &self.shared;
        shared.stopped.store(true, Ordering::SeqCst);
        let watches: Vec<_> = lock(&shared.watches).clone();
        for watch in watches {
            // Taken so that a thread between its last check and its sleep hears the bell.
            drop(lock(&watch.seen));
            watch.bell.notify_all();
        }
        let running = lock(&shared.running);
        shared.bell.notify_all();
        drop(
            shared
                .bell
                .wait_timeout_while(running, STOP_LIMIT, |running| *running > 0),
        );
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn find(&self, name: &str) -> Option<Arc<Watch>> {
        let watches = lock(&self.watches);
        watches
            .iter()
            .find(|watch| watch.config.name == name)
            .cloned()
    }

    fn stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    fn spawn(
        self: &Arc<Self>,
        name: String,
        body: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<()> {
        let guard = Running::enter(self);
        thread::Builder::new()
            .name(name)
            .stack_size(256 * 1024)
            .spawn(move || {
                body();
                drop(guard);
            })
            .map(drop)
    }

    fn watch(self: &Arc<Self>, config: NodeConfig) -> std::io::Result<()> {
        let name = format!("node-{}", config.name);
        let watch = Arc::new(Watch {
            seen: Mutex::new(Seen {
                node: Node::unseen(&config.name, &config.url),
                due: true,
                reports: 0,
                active: Instant::now(),
                told: false,
            }),
            config,
            bell: Condvar::new(),
        });
        let shared = Arc::clone(self);
        let own = Arc::clone(&watch);
        self.spawn(name, move || shared.follow(&own))?;
        lock(&self.watches).push(watch);
        Ok(())
    }

    /// The life of a node's thread.
    fn follow(&self, watch: &Watch) {
        let mut full_look = Instant::now();
        while !self.stopped() {
            let mut seen = lock(&watch.seen);
            seen.due = false;
            let before = seen.node.clone();
            let reports = seen.reports;
            let began = Instant::now();
            let detail = if began.duration_since(seen.active) < IDLE_AFTER
                || began.duration_since(full_look) > IDLE_LOOK
            {
                full_look = began;
                Detail::Full
            } else {
                Detail::Quiet
            };
            drop(seen);
            let node = self.prober.look(&watch.config, &before, detail);
            let mut seen = lock(&watch.seen);
            if node.running.is_some_and(|running| running > 0) {
                seen.active = Instant::now();
            }
            if seen.reports == reports {
                self.tell(&mut seen, node, began);
            }
            self.rest(watch, seen, began);
        }
    }

    /// Sleeps until the next look is due.
    fn rest(&self, watch: &Watch, seen: MutexGuard<Seen>, began: Instant) {
        let interval = match seen.node.state {
            NodeState::Loading => self.interval / 4,
            _ => self.interval,
        };
        let due = began + interval;
        let earliest = began + LEAST_GAP.min(interval);
        let mut seen = seen;
        loop {
            let until = if seen.due { earliest } else { due };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.stopped() {
                return;
            }
            seen = watch
                .bell
                .wait_timeout(seen, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Hands a changed node on. The caller holds the node's lock, so that a look and a report cannot overtake each other.
    fn tell(&self, seen: &mut Seen, node: Node, began: Instant) {
        let changed = !seen.told || seen.node != node;
        if changed && !self.stopped() {
            seen.told = true;
            seen.node = node.clone();
            (self.on_change)(node, began);
        }
    }

    fn rediscover(self: &Arc<Self>, rediscovery: &Rediscovery) {
        while !self.stopped() {
            let known: Vec<NodeConfig> = lock(&self.watches)
                .iter()
                .map(|watch| watch.config.clone())
                .collect();
            let unknown: Vec<String> = rediscovery
                .candidates
                .iter()
                .filter(|url| known.iter().all(|config| config.url != **url))
                .cloned()
                .collect();
            for found in discover_at(&unknown, rediscovery.own) {
                let word = found
                    .name
                    .trim_end_matches(|c: char| c == '-' || c.is_ascii_digit());
                let name = free_name(word, |name| self.find(name).is_some());
                // Where no thread can be had now, the next round tries again.
                if self.watch(NodeConfig { name, ..found }).is_err() {
                    break;
                }
            }
            let pause = if lock(&self.watches).is_empty() {
                DISCOVER_INTERVAL
            } else {
                FURTHER_INTERVAL
            };
            let running = lock(&self.running);
            drop(
                self.bell
                    .wait_timeout_while(running, pause, |_| !self.stopped()),
            );
        }
    }
}

/// Counts a thread for as long as it lives, also when it panics.
struct Running(Arc<Shared>);

impl Running {
    fn enter(shared: &Arc<Shared>) -> Self {
        *lock(&shared.running) += 1;
        Self(Arc::clone(shared))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut running = lock(&self.0.running);
        *running = running.saturating_sub(1);
        self.0.bell.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
