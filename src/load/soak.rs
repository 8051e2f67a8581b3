//! A constant rate of requests, open: each is due at its time, whether the earlier ones were answered or not.
//!
//! There is a worker for each connection. One after another waits for the next request's time while it holds the turn, then gives the turn on
//! and sends. A request that finds no worker free is sent late but counts from when it was due. All connections are opened before the first
//! request: what the server holds for them must not look like growth.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::Place;
use super::answer::Answer;
use super::many::sleep_until;
use super::process::Processes;
use super::single::CONNECT;
use crate::measure::{Failed, Failure, Held, LATE_US, SoakObservation};

/// How long a worker's stack may become: it holds one buffer.
const STACK: usize = 256 * 1024;
/// How long a stretch of requests is that is told at once.
const STRETCH: Duration = Duration::from_secs(1);

/// What is sent, and how often.
#[derive(Debug, Clone)]
pub struct Rate {
    /// Requests that become due in a second.
    pub per_second: f64,
    /// How long.
    pub duration: Duration,
    /// When a request counts as failed, from when it was due.
    pub timeout: Duration,
    /// Connections.
    pub connections: u32,
}

impl Rate {
    /// When a request is due, from the start.
    fn due(&self, number: u64) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^53 requests")]
        Duration::from_secs_f64(number as f64 / self.per_second)
    }
}

/// A soak of one address.
#[derive(Debug)]
pub struct Soak<'a> {
    /// Where to connect.
    pub place: &'a Place,
    /// The whole request.
    pub request: &'a [u8],
    /// How often.
    pub rate: &'a Rate,
    /// The server's processes.
    pub server: Option<&'a Processes>,
    /// Ends the load early.
    pub stop: &'a AtomicBool,
}

/// A `GET` of a path, as its bytes.
pub fn get(place: &Place, query: &str) -> Vec<u8> {
    let path = match place.prefix() {
        "" => "/",
        prefix => prefix,
    };
    format!(
        "GET {path}{query} HTTP/1.1\r\nHost: {}\r\nUser-Agent: gpurouter-bench\r\nAccept: */*\r\n\r\n",
        place.host()
    )
    .into_bytes()
}

/// What one stretch brought.
#[derive(Debug, Default)]
struct Stretch {
    took_us: Vec<u64>,
    failed: BTreeMap<Failure, u64>,
    late: u64,
    opened: u64,
}

/// What the workers share.
struct Shared<'a, 'b> {
    soak: &'a Soak<'b>,
    start: Instant,
    /// The number of the next request; whoever holds it waits for its time.
    next: Mutex<u64>,
    seen: Mutex<Stretch>,
}

/// A panic elsewhere was told where it happened; what it left behind is numbers.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Soak<'_> {
    /// Runs it. `tell` gets every observation when it is made, and ends the run with its error.
    ///
    /// # Errors
    /// Of `tell`, and when a worker cannot be started.
    pub fn run(
        &self,
        tell: &mut dyn FnMut(SoakObservation, Duration) -> io::Result<()>,
    ) -> io::Result<()> {
        let connections: Vec<Connection> = (0..self.rate.connections)
            .map(|_| Connection::open(self.place))
            .collect();
        let shared = Shared {
            soak: self,
            start: Instant::now(),
            next: Mutex::new(0),
            seen: Mutex::default(),
        };
        let elapsed = thread::scope(|scope| {
            for connection in connections {
                let builder = thread::Builder::new()
                    .name("soak".to_owned())
                    .stack_size(STACK);
                if let Err(error) = builder.spawn_scoped(scope, || shared.work(connection)) {
                    self.stop.store(true, Ordering::Relaxed);
                    return Err(error);
                }
            }
            let told = self.watch(&shared, tell);
            if told.is_err() {
                self.stop.store(true, Ordering::Relaxed);
            }
            told
        })?;
        // The last requests were answered after the last stretch was told.
        let rest = std::mem::take(&mut *lock(&shared.seen));
        if !rest.is_empty() {
            tell(rest.observation(Duration::ZERO), elapsed)?;
        }
        Ok(())
    }

    /// Tells what was seen, stretch by stretch, and what the server holds meanwhile; how long requests became due.
    fn watch(
        &self,
        shared: &Shared<'_, '_>,
        tell: &mut dyn FnMut(SoakObservation, Duration) -> io::Result<()>,
    ) -> io::Result<Duration> {
        let reading = reading(self.rate.duration);
        // Not before the server has taken the connections, and not after they are closed.
        let (mut next_reading, mut next_stretch) = (reading, STRETCH);
        let mut told = Duration::ZERO;
        loop {
            let mut elapsed = shared.start.elapsed();
            let stopped = self.stop.load(Ordering::Relaxed);
            let done = elapsed >= self.rate.duration || stopped;
            if stopped {
                // What would have been due since then was not sent.
                elapsed = elapsed.min(self.rate.due(*lock(&shared.next)));
            }
            if let Some(server) = self.server
                && elapsed >= next_reading
                && !done
                && let Some(held) = held(server, elapsed)
            {
                tell(SoakObservation::Server(held), elapsed)?;
                next_reading = elapsed + reading;
            }
            if elapsed >= next_stretch || done {
                let seen = std::mem::take(&mut *lock(&shared.seen));
                let until = elapsed.min(self.rate.duration);
                tell(seen.observation(until.saturating_sub(told)), elapsed)?;
                // Of whole milliseconds, so that none gets lost between two stretches.
                told += Duration::from_millis(millis(until.saturating_sub(told)));
                next_stretch = elapsed + STRETCH;
            }
            if done {
                return Ok(elapsed.min(self.rate.duration));
            }
            let next = if self.server.is_some() {
                next_reading.min(next_stretch)
            } else {
                next_stretch
            };
            let until = shared.start + next.min(self.rate.duration);
            sleep_until(until, &|| self.stop.load(Ordering::Relaxed));
        }
    }
}

/// Two hundred readings in a run, at most 50 a second and at least one a minute.
fn reading(duration: Duration) -> Duration {
    (duration / 200).clamp(Duration::from_millis(20), Duration::from_secs(60))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn held(server: &Processes, elapsed: Duration) -> Option<Held> {
    Some(Held {
        at_ms: millis(elapsed),
        rss_bytes: server.held()?.rss,
        descriptors: server.descriptors(),
    })
}

impl Stretch {
    fn is_empty(&self) -> bool {
        self.took_us.is_empty() && self.failed.is_empty() && self.late == 0 && self.opened == 0
    }

    fn observation(self, length: Duration) -> SoakObservation {
        SoakObservation::Requests {
            length_ms: millis(length),
            took_us: self.took_us,
            failed: self
                .failed
                .into_iter()
                .map(|(kind, count)| Failed { kind, count })
                .collect(),
            late: self.late,
            opened: self.opened,
        }
    }
}

impl Shared<'_, '_> {
    /// Takes requests in turn until there are no more.
    fn work(&self, mut connection: Connection) {
        while let Some(due) = self.turn() {
            let late = self.start.elapsed().saturating_sub(due);
            let sent = connection.exchange(self.soak, self.start + due + self.soak.rate.timeout);
            let took = self.start.elapsed().saturating_sub(due);
            let mut seen = lock(&self.seen);
            seen.late += u64::from(late > Duration::from_micros(LATE_US));
            seen.opened += connection.opened();
            match sent {
                Ok(()) => {
                    let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                    seen.took_us.push(us);
                }
                Err(failure) => *seen.failed.entry(failure).or_default() += 1,
            }
        }
        lock(&self.seen).opened += connection.opened();
    }

    /// Waits for the next request and its time, from the start; `None` at the end.
    fn turn(&self) -> Option<Duration> {
        let mut next = lock(&self.next);
        let due = self.soak.rate.due(*next);
        let stopped = || self.soak.stop.load(Ordering::Relaxed);
        if due >= self.soak.rate.duration || stopped() {
            return None;
        }
        sleep_until(self.start + due, &stopped);
        if stopped() {
            return None;
        }
        *next += 1;
        Some(due)
    }
}

/// A connection that is kept from one request to the next.
#[derive(Debug, Default)]
struct Connection {
    open: Option<TcpStream>,
    opened: u64,
}

impl Connection {
    /// Opened, as far as that is possible; otherwise the first request tries it again, and says what is wrong.
    fn open(place: &Place) -> Self {
        let open = TcpStream::connect_timeout(&place.addr, CONNECT)
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .ok();
        Self {
            opened: u64::from(open.is_some()),
            open,
        }
    }

    /// Connections opened since this was asked last.
    fn opened(&mut self) -> u64 {
        std::mem::take(&mut self.opened)
    }

    /// Sends the request and reads the whole answer. A kept connection that the server has closed meanwhile is no failure of the request: it
    /// is sent again, once, over a new one.
    fn exchange(&mut self, soak: &Soak<'_>, deadline: Instant) -> Result<(), Failure> {
        if let Some(kept) = self.open.take() {
            match self.over(kept, soak.request, deadline) {
                Err((Failure::Broken, false)) => {}
                other => return other.map_err(|(failure, _)| failure),
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::Timeout);
        }
        let stream =
            TcpStream::connect_timeout(&soak.place.addr, left).map_err(|error| {
                match error.kind() {
                    ErrorKind::TimedOut | ErrorKind::WouldBlock => Failure::Timeout,
                    _ => Failure::Connect,
                }
            })?;
        self.opened += 1;
        stream.set_nodelay(true).map_err(|_| Failure::Connect)?;
        self.over(stream, soak.request, deadline)
            .map_err(|(failure, _)| failure)
    }

    /// Once over a connection, which is kept when it can be. An error says whether anything of an answer had come.
    fn over(
        &mut self,
        mut stream: TcpStream,
        request: &[u8],
        deadline: Instant,
    ) -> Result<(), (Failure, bool)> {
        let mut answer = Answer::new(false);
        let mut buffer = [0; 16 * 1024];
        let mut came = false;
        limited(&stream, deadline)
            .and_then(|()| stream.write_all(request))
            .map_err(|error| (failure_of(&error), false))?;
        while !answer.whole() {
            let read = limited(&stream, deadline).and_then(|()| stream.read(&mut buffer));
            match read.map_err(|error| (failure_of(&error), came))? {
                0 if answer.ends_with_connection() => break,
                0 => return Err((Failure::Broken, came)),
                n => answer.push(buffer.get(..n).unwrap_or_default()),
            }
            came = true;
            if answer.broken() {
                return Err((Failure::Malformed, true));
            }
        }
        if answer.whole() && !answer.closes() {
            self.open = Some(stream);
        }
        match answer.status() {
            200..=299 => Ok(()),
            status => Err((Failure::Status(status), true)),
        }
    }
}

/// Lets the next call on the socket take no longer than until the deadline.
fn limited(stream: &TcpStream, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(ErrorKind::TimedOut.into());
    }
    stream.set_read_timeout(Some(left))?;
    stream.set_write_timeout(Some(left))
}

fn failure_of(error: &io::Error) -> Failure {
    match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => Failure::Timeout,
        _ => Failure::Broken,
    }
}
