//! The mock node that every proxy stands in front of. It answers from memory, and streams as its script says.

mod connection;
mod events;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Clock;
use events::Loop;

/// Connections that may wait to be accepted: a burst of a thousand must not meet a full queue.
const BACKLOG: i32 = 4096;

/// What streams do that start from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Script {
    /// Pieces; 0: the stream never begins, not even with a head.
    pub pieces: u32,
    /// Time between two pieces.
    pub gap: Duration,
    /// Whether the connection is closed in place of the terminal event.
    pub cut: bool,
    /// Whether arrivals and departures are told.
    pub watched: bool,
}

impl Script {
    /// Pieces of an endless stream.
    pub(super) const ENDLESS: u32 = u32::MAX;

    /// A whole stream.
    pub(super) fn whole(pieces: u32, gap: Duration) -> Self {
        Self {
            pieces,
            gap,
            cut: false,
            watched: false,
        }
    }

    /// A stream that is silent after its first piece.
    pub(super) fn silent() -> Self {
        Self::whole(Self::ENDLESS, Duration::from_secs(3600))
    }
}

/// What happened to a watched stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Event {
    /// Which stream.
    pub(super) stream: u64,
    /// When, by the mock's clock.
    pub(super) at: u64,
    /// Whether the other side closed the connection; else the request came.
    pub(super) left: bool,
}

/// The running mock; stops on drop.
#[derive(Debug)]
pub struct Upstream {
    addr: SocketAddr,
    clock: Clock,
    script: Arc<Mutex<Script>>,
    events: Receiver<Event>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Upstream {
    /// Starts it on a loopback port, 0 for any, with so many threads.
    ///
    /// # Errors
    /// The port cannot be bound, or a thread cannot be started.
    pub fn start(clock: Clock, port: u16, threads: u32) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        rustix::net::listen(&listener, BACKLOG)?;
        listener.set_nonblocking(true)?;
        let (sender, events) = mpsc::channel();
        let mut upstream = Self {
            addr: listener.local_addr()?,
            clock,
            script: Arc::new(Mutex::new(Script::whole(1, Duration::ZERO))),
            events,
            stop: Arc::default(),
            threads: Vec::new(),
        };
        for number in 0..threads.max(1) {
            let mut events = Loop::new(
                u64::from(number),
                listener.try_clone()?,
                clock,
                Arc::clone(&upstream.script),
                sender.clone(),
            )?;
            let stop = Arc::clone(&upstream.stop);
            let thread = thread::Builder::new()
                .name(format!("mock-{number}"))
                // A mock whose loop failed answers nobody; whoever measures it sees the failed answers.
                .spawn(move || drop(events.run(&stop)))?;
            upstream.threads.push(thread);
        }
        Ok(upstream)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The clock of the times in its pieces.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Says what streams do that start from now on.
    pub fn play(&self, script: Script) {
        *self.script.lock().unwrap_or_else(PoisonError::into_inner) = script;
    }

    /// Forgets what was told so far.
    pub(super) fn forget(&self) {
        while self.events.try_recv().is_ok() {}
    }

    /// The next event that fits; `None` when it does not come within the limit.
    pub(super) fn wait(&self, limit: Duration, fits: impl Fn(&Event) -> bool) -> Option<Event> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) if fits(&event) => return Some(event),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // The loop reports nothing; a panic was told on stderr when it happened.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::{self, Ask};
    use super::super::{Place, Single};
    use super::*;
    use crate::measure::proxy::Form;
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpStream};

    const LIMIT: Duration = Duration::from_secs(10);

    fn upstream(threads: u32) -> (Upstream, Place) {
        let upstream = Upstream::start(Clock::start(), 0, threads).unwrap();
        let place = Place::at(upstream.addr());
        (upstream, place)
    }

    fn read_all(bytes: &[u8], addr: SocketAddr) -> Vec<u8> {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(bytes).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all
    }

    #[test]
    fn answers_have_exactly_the_fixed_bytes_whatever_the_request_is_cut_into() {
        let (_upstream, place) = upstream(2);
        for (form, bytes) in [(Form::Lines, 1024), (Form::Events, 200 * 1024)] {
            let request = Ask {
                form,
                bytes,
                ..Ask::SMALL
            }
            .to(&place);
            let expected = wire::json_answer(form);
            let mut stream = TcpStream::connect(place.addr).unwrap();
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            for cut in [1, 7, request.len()] {
                for part in request.chunks(cut).take(3) {
                    stream.write_all(part).unwrap();
                }
                stream
                    .write_all(&request[(3 * cut).min(request.len())..])
                    .unwrap();
                let mut answer = vec![0; expected.len()];
                stream.read_exact(&mut answer).unwrap();
                assert_eq!(answer, expected);
            }
        }
    }

    #[test]
    fn a_chunked_request_and_one_of_http_1_0_are_answered() {
        let (upstream, _) = upstream(1);
        let body = r#"{"model":"m","messages":[], "stream" : true}"#;
        let chunked = format!(
            "POST /api/chat HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        );
        let answer = read_all(chunked.as_bytes(), upstream.addr());
        assert!(
            answer.ends_with(b"\r\n0\r\n\r\n"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
        let old = format!(
            "POST /api/chat HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = read_all(old.as_bytes(), upstream.addr());
        assert!(
            answer.ends_with(b"}\n"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
        let answer = read_all(b"GET /api/version HTTP/1.0\r\n\r\n", upstream.addr());
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
        let answer = read_all(b"GET /nothing HTTP/1.0\r\n\r\n", upstream.addr());
        assert!(answer.starts_with(b"HTTP/1.1 404 "));
    }

    #[test]
    fn times_in_the_pieces_grow_and_are_not_in_the_future() {
        let (upstream, place) = upstream(1);
        for form in [Form::Lines, Form::Events] {
            upstream.play(Script::whole(50, Duration::from_millis(1)));
            let mut single = Single::open(&place).unwrap();
            let mut seen = Vec::new();
            single
                .stream(&Ask::streamed(form).to(&place), |stamp| {
                    seen.push((stamp, upstream.clock().now()));
                })
                .unwrap();
            assert_eq!(seen.len(), 50);
            assert!(
                seen.windows(2).all(|pair| pair[0].0 < pair[1].0),
                "{seen:?}"
            );
            assert!(seen.iter().all(|(sent, came)| sent <= came), "{seen:?}");
            let paced = seen[49].0 - seen[0].0;
            assert!(paced >= 48_000_000, "49 gaps of 1 ms took {paced} ns");
        }
    }

    #[test]
    fn a_cut_stream_has_no_end_and_a_silent_one_no_beginning() {
        let (upstream, place) = upstream(1);
        let request = Ask::streamed(Form::Lines).to(&place);
        upstream.play(Script {
            cut: true,
            ..Script::whole(3, Duration::from_millis(1))
        });
        let answer = read_all(&request, place.addr);
        let text = String::from_utf8(answer).unwrap();
        assert_eq!(text.matches("\"done\":false").count(), 3);
        assert!(!text.contains("\"done\":true") && !text.ends_with("0\r\n\r\n"));
        upstream.play(Script {
            watched: true,
            ..Script::whole(0, Duration::ZERO)
        });
        let mut stream = TcpStream::connect(place.addr).unwrap();
        stream.write_all(&request).unwrap();
        let came = upstream.wait(LIMIT, |event| !event.left).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        assert!(stream.read(&mut [0]).is_err());
        stream.shutdown(Shutdown::Both).unwrap();
        let left = upstream.wait(LIMIT, |event| event.left).unwrap();
        assert_eq!(left.stream, came.stream);
        assert!(left.at > came.at);
    }
}
