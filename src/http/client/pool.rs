//! Idle connections, the most recently used first.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::link::Link;

/// Idle connections per origin. nginx's `keepalive` counts alike; more than the usual number of requests at the same time is useless.
const MAX_IDLE: usize = 256;
/// Longest idle time. Ollama keeps idle connections for ever, llama-server for 5 s (and says so), hosted services for a minute or more.
const MAX_AGE: Duration = Duration::from_secs(60);
/// How often connections that the upstream closed meanwhile are looked for.
const SWEEP: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Parked {
    link: Link,
    since: Instant,
    until: Instant,
}

/// The idle connections of a client.
#[derive(Debug, Default)]
pub(super) struct Pool {
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    by_origin: HashMap<String, Vec<Parked>>,
    swept: Option<Instant>,
}

impl Pool {
    /// Takes the most recently used connection that still lives.
    pub(super) fn take(&self, origin: &str) -> Option<Link> {
        loop {
            let mut parked = self.lock().by_origin.get_mut(origin)?.pop()?;
            if parked.until > Instant::now() && parked.link.alive() {
                return Some(parked.link);
            }
        }
    }

    /// Keeps a connection for the next request. `upstream`: how long the other side keeps it, if known.
    pub(super) fn park(&self, origin: &str, mut link: Link, upstream: Option<Duration>) {
        link.shrink();
        link.reused = true;
        let now = Instant::now();
        let age = upstream.map_or(MAX_AGE, |limit| limit.min(MAX_AGE));
        let parked = Parked {
            link,
            since: now,
            until: now + age,
        };
        let mut idle = self.lock();
        // Closed after the lock is released.
        let mut dead = Vec::new();
        if let Some(list) = idle.by_origin.get_mut(origin) {
            if list.len() >= MAX_IDLE {
                dead.push(list.remove(0));
            }
            list.push(parked);
        } else {
            idle.by_origin.insert(origin.to_owned(), vec![parked]);
        }
        if idle.swept.is_none_or(|last| now - last > SWEEP) {
            idle.sweep(now, &mut dead);
        }
        drop(idle);
    }

    /// Closes the connections that are too old or that the upstream closed.
    pub(super) fn sweep(&self) {
        let mut dead = Vec::new();
        self.lock().sweep(Instant::now(), &mut dead);
    }

    /// Number of idle connections.
    pub(super) fn len(&self) -> usize {
        self.lock().by_origin.values().map(Vec::len).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        // A list of idle connections is valid at every moment.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Idle {
    fn sweep(&mut self, now: Instant, dead: &mut Vec<Parked>) {
        self.swept = Some(now);
        self.by_origin.retain(|_, list| {
            dead.extend(list.extract_if(.., |parked| {
                parked.until <= now || (parked.since < now && !parked.link.alive())
            }));
            !list.is_empty()
        });
    }
}
