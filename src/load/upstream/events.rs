//! The mock's event loop: many connections in one thread, because it must be faster than anything it is measured with.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::{self, ErrorKind, Read};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use serde_json::json;

use super::connection::{Asked, Connection, End, Playing};
use super::{Event, Script};
use crate::load::Clock;
use crate::load::wire::{self, MODEL};
use crate::measure::proxy::Form;

const LISTENER: u64 = 0;
/// The longest wait: how late a stop may be noticed, nanoseconds.
const SLICE: u64 = 50_000_000;
/// How long accepting pauses when no descriptor is free; who waits in the queue sees the time.
const ACCEPT_AGAIN: Duration = Duration::from_millis(1);
/// Numbers of connections per thread, so that no two have the same.
const NUMBERS: u64 = 1 << 40;

/// One thread of the mock.
pub(super) struct Loop {
    epoll: OwnedFd,
    listener: TcpListener,
    clock: Clock,
    script: Arc<Mutex<Script>>,
    told: Sender<Event>,
    connections: HashMap<u64, Connection>,
    next: u64,
    /// When the next piece of which connection is due.
    due: BinaryHeap<Reverse<(u64, u64)>>,
    lines: Vec<u8>,
    events: Vec<u8>,
}

impl Loop {
    pub(super) fn new(
        number: u64,
        listener: TcpListener,
        clock: Clock,
        script: Arc<Mutex<Script>>,
        told: Sender<Event>,
    ) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(LISTENER);
        // One thread is woken for a connection, not all.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE;
        epoll::add(&epoll, &listener, data, flags)?;
        Ok(Self {
            epoll,
            listener,
            clock,
            script,
            told,
            connections: HashMap::new(),
            next: number * NUMBERS + LISTENER + 1,
            due: BinaryHeap::new(),
            lines: wire::json_answer(Form::Lines),
            events: wire::json_answer(Form::Events),
        })
    }

    /// Serves until it is stopped.
    pub(super) fn run(&mut self, stop: &AtomicBool) -> io::Result<()> {
        let mut events = Vec::with_capacity(1024);
        let mut buffer = vec![0; 256 * 1024];
        while !stop.load(Ordering::Relaxed) {
            let wait = self.send_due();
            events.clear();
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                Some(&wait),
            ) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                match event.data.u64() {
                    LISTENER => self.accept(),
                    id => {
                        if self.ready(id, event.flags, &mut buffer).is_err() {
                            self.close(id);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes one connection; with more waiting, another thread is woken or this one at its next turn.
    fn accept(&mut self) {
        let stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => {
                if error.kind() != ErrorKind::WouldBlock {
                    std::thread::sleep(ACCEPT_AGAIN);
                }
                return;
            }
        };
        let id = self.next;
        let data = epoll::EventData::new_u64(id);
        let prepared = stream
            .set_nonblocking(true)
            .and_then(|()| stream.set_nodelay(true))
            .and_then(|()| {
                Ok(epoll::add(
                    &self.epoll,
                    &stream,
                    data,
                    epoll::EventFlags::IN,
                )?)
            });
        if prepared.is_ok() {
            self.next += 1;
            self.connections.insert(id, Connection::new(stream));
        }
    }

    /// Closes a connection; a stream that was still under way was left by the other side.
    fn close(&mut self, id: u64) {
        let Some(connection) = self.connections.remove(&id) else {
            return;
        };
        if !connection.closing && connection.playing.is_some_and(|playing| playing.watched) {
            self.tell(id, true);
        }
    }

    fn tell(&self, stream: u64, left: bool) {
        let at = self.clock.now();
        // Nobody waits for events any more when the mock is about to stop.
        let _ = self.told.send(Event { stream, at, left });
    }

    /// Sends the pieces whose time has come; how long until the next one.
    fn send_due(&mut self) -> Timespec {
        let now = self.clock.now();
        while let Some(&Reverse((due, id))) = self.due.peek()
            && due <= now
        {
            self.due.pop();
            if self.piece(id, due, Vec::new()).is_err() {
                self.close(id);
            }
        }
        let wait = self.due.peek().map_or(SLICE, |Reverse((due, _))| {
            due.saturating_sub(self.clock.now()).min(SLICE)
        });
        Timespec {
            tv_sec: 0,
            tv_nsec: i64::try_from(wait).unwrap_or(0),
        }
    }

    /// Sends the next piece of a stream after `bytes`, and what follows the last one.
    fn piece(&mut self, id: u64, due: u64, mut bytes: Vec<u8>) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(&id) else {
            return Ok(());
        };
        let Some(playing) = &mut connection.playing else {
            return Ok(());
        };
        let now = self.clock.now();
        playing.left = playing.left.saturating_sub(1);
        let playing = *playing;
        bytes.extend(wire::piece(playing.form, playing.chunked, now));
        if playing.left > 0 {
            self.due
                .push(Reverse((due.saturating_add(playing.gap), id)));
        } else {
            connection.playing = None;
            connection.closing |= playing.end != End::Whole;
            if playing.end != End::Cut {
                bytes.extend(wire::stream_end(playing.form, playing.chunked));
            }
        }
        connection.send(&self.epoll, id, &bytes)
    }

    fn ready(&mut self, id: u64, flags: epoll::EventFlags, buffer: &mut [u8]) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(&id) else {
            return Ok(());
        };
        if flags.contains(epoll::EventFlags::OUT) {
            connection.flush(&self.epoll, id)?;
        }
        let readable = epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
        if !flags.intersects(readable) {
            return Ok(());
        }
        let n = match connection.stream.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        match connection.take(buffer.get(..n).unwrap_or_default())? {
            Some(asked) => self.answer(id, &asked),
            None => Ok(()),
        }
    }

    fn answer(&mut self, id: u64, asked: &Asked) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(&id) else {
            return Ok(());
        };
        connection.closing = asked.close && !asked.stream;
        match &asked.chat {
            Ok(form) if asked.stream => self.play(id, *form, asked),
            Ok(Form::Lines) => connection.send(&self.epoll, id, &self.lines),
            Ok(Form::Events) => connection.send(&self.epoll, id, &self.events),
            Err(path) => connection.send(&self.epoll, id, &probe(path)),
        }
    }

    fn play(&mut self, id: u64, form: Form, asked: &Asked) -> io::Result<()> {
        let script = *self.script.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(connection) = self.connections.get_mut(&id) else {
            return Ok(());
        };
        connection.playing = Some(Playing {
            form,
            chunked: asked.chunked,
            left: script.pieces,
            gap: u64::try_from(script.gap.as_nanos()).unwrap_or(u64::MAX),
            end: match (script.cut, asked.close) {
                (true, _) => End::Cut,
                (false, true) => End::Close,
                (false, false) => End::Whole,
            },
            watched: script.watched,
        });
        if script.watched {
            self.tell(id, false);
        }
        if script.pieces == 0 {
            return Ok(());
        }
        let head = wire::stream_head(form, asked.chunked);
        let now = self.clock.now();
        self.piece(id, now, head)
    }
}

/// What a monitor asks an Ollama.
fn probe(path: &str) -> Vec<u8> {
    let details = json!({
        "parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"],
        "parameter_size": "1B", "quantization_level": "F16", "context_length": 131_072,
    });
    let document = match path {
        "/api/version" => json!({ "version": "0.32.15" }),
        "/api/tags" => json!({ "models": [{
            "name": MODEL, "model": MODEL, "modified_at": "2026-11-01T00:00:00Z", "size": 1_000_000,
            "digest": "0".repeat(64), "capabilities": ["completion"], "details": details,
        }] }),
        "/api/ps" => json!({ "models": [{
            "name": MODEL, "model": MODEL, "size": 1_000_000, "size_vram": 1_000_000, "digest": "0".repeat(64),
            "expires_at": "2126-11-01T00:00:00Z", "context_length": 131_072, "details": details,
        }] }),
        "/" => json!("a mock of gpurouter bench"),
        _ => {
            return b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 18\r\n\r\n404 page not found".to_vec();
        }
    };
    wire::whole_answer(&document.to_string())
}
