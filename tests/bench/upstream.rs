//! The mock node that every proxy stands in front of: one epoll loop in one thread, because it must be faster than
//! anything it measures.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use rustix::event::{Timespec, epoll};
use serde_json::json;

use crate::wire::{self, Clock, Form};

const LISTENER: u64 = 0;
const NANOS: u64 = 1_000_000_000;

/// How streams that start from now on are paced.
#[derive(Debug, Default)]
pub struct Pace {
    /// Tokens in a stream.
    pub tokens: AtomicU32,
    /// Nanoseconds between two of them.
    pub gap: AtomicU64,
}

/// The running mock; stops on drop.
pub struct Upstream {
    /// Where it listens.
    pub addr: SocketAddr,
    pace: Arc<Pace>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Upstream {
    /// Starts it on a free loopback port.
    pub fn start(clock: Clock) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        // A burst of a thousand connections must not meet a full queue.
        rustix::net::listen(&listener, 4096)?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let pace = Arc::new(Pace::default());
        let stop = Arc::new(AtomicBool::new(false));
        let mut events = Loop {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            listener,
            clock,
            pace: Arc::clone(&pace),
            connections: HashMap::new(),
            next: LISTENER + 1,
            due: BinaryHeap::new(),
            answers: [
                wire::json_answer(Form::Ollama),
                wire::json_answer(Form::OpenAi),
            ],
        };
        let stopping = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("upstream".to_owned())
            .spawn(move || events.run(&stopping).expect("the mock's event loop"))?;
        Ok(Self {
            addr,
            pace,
            stop,
            thread: Some(thread),
        })
    }

    /// Paces the streams that start from now on.
    pub fn pace(&self, tokens: u32, gap_ns: u64) {
        self.pace.tokens.store(tokens, Ordering::SeqCst);
        self.pace.gap.store(gap_ns, Ordering::SeqCst);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

struct Connection {
    stream: TcpStream,
    /// The head until it is whole, then the first bytes of the body.
    inbox: Vec<u8>,
    /// Body bytes still to come; `None` while the head is not whole.
    body_left: Option<usize>,
    head: usize,
    outbox: Vec<u8>,
    form: Form,
    tokens_left: u32,
    gap: u64,
}

struct Loop {
    epoll: OwnedFd,
    listener: TcpListener,
    clock: Clock,
    pace: Arc<Pace>,
    connections: HashMap<u64, Connection>,
    next: u64,
    /// When the next token of which connection is due.
    due: BinaryHeap<Reverse<(u64, u64)>>,
    answers: [Vec<u8>; 2],
}

impl Loop {
    fn run(&mut self, stop: &AtomicBool) -> io::Result<()> {
        let data = epoll::EventData::new_u64(LISTENER);
        epoll::add(&self.epoll, &self.listener, data, epoll::EventFlags::IN)?;
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
                    LISTENER => self.accept()?,
                    id => {
                        if self.ready(id, event.flags, &mut buffer).is_err() {
                            self.connections.remove(&id);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let id = self.next;
            self.next += 1;
            let data = epoll::EventData::new_u64(id);
            epoll::add(&self.epoll, &stream, data, epoll::EventFlags::IN)?;
            self.connections.insert(
                id,
                Connection {
                    stream,
                    inbox: Vec::new(),
                    body_left: None,
                    head: 0,
                    outbox: Vec::new(),
                    form: Form::Ollama,
                    tokens_left: 0,
                    gap: 0,
                },
            );
        }
    }

    /// Sends the tokens whose time has come; how long until the next one, at most 50 ms.
    fn send_due(&mut self) -> Timespec {
        let now = self.clock.now();
        while let Some(&Reverse((due, id))) = self.due.peek()
            && due <= now
        {
            self.due.pop();
            if self.token(id, due).is_err() {
                self.connections.remove(&id);
            }
        }
        let wait = self.due.peek().map_or(NANOS / 20, |Reverse((due, _))| {
            due.saturating_sub(self.clock.now()).min(NANOS / 20)
        });
        Timespec {
            tv_sec: 0,
            tv_nsec: i64::try_from(wait).unwrap_or(0),
        }
    }

    fn token(&mut self, id: u64, due: u64) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(&id) else {
            return Ok(());
        };
        connection.tokens_left = connection.tokens_left.saturating_sub(1);
        let last = connection.tokens_left == 0;
        let mut bytes = wire::token(connection.form, self.clock.now());
        if last {
            bytes.extend(wire::stream_end(connection.form));
        } else {
            self.due.push(Reverse((due + connection.gap, id)));
        }
        connection.write(&self.epoll, id, &bytes)
    }

    fn ready(&mut self, id: u64, flags: epoll::EventFlags, buffer: &mut [u8]) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(&id) else {
            return Ok(());
        };
        if flags.contains(epoll::EventFlags::OUT) {
            let pending = std::mem::take(&mut connection.outbox);
            let data = epoll::EventData::new_u64(id);
            epoll::modify(&self.epoll, &connection.stream, data, epoll::EventFlags::IN)?;
            connection.write(&self.epoll, id, &pending)?;
        }
        if !flags
            .intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR)
        {
            return Ok(());
        }
        let n = match connection.stream.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        if connection.take(&buffer[..n]) {
            self.answer(id)?;
        }
        Ok(())
    }

    fn answer(&mut self, id: u64) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(&id) else {
            return Ok(());
        };
        let head = &connection.inbox[..connection.head];
        let stream = wire::find(&connection.inbox[connection.head..], b"\"stream\":true").is_some();
        let form = if head.starts_with(b"POST /v1/") {
            Form::OpenAi
        } else {
            Form::Ollama
        };
        let bytes = if !head.starts_with(b"POST ") {
            probe(head)
        } else if stream {
            connection.form = form;
            connection.tokens_left = self.pace.tokens.load(Ordering::SeqCst).max(1) - 1;
            connection.gap = self.pace.gap.load(Ordering::SeqCst);
            let now = self.clock.now();
            let mut bytes = wire::stream_head(form);
            bytes.extend(wire::token(form, now));
            if connection.tokens_left == 0 {
                bytes.extend(wire::stream_end(form));
            } else {
                self.due.push(Reverse((now + connection.gap, id)));
            }
            bytes
        } else {
            self.answers[usize::from(form == Form::OpenAi)].clone()
        };
        connection.inbox.clear();
        connection.body_left = None;
        connection.head = 0;
        connection.write(&self.epoll, id, &bytes)
    }
}

impl Connection {
    /// Takes in request bytes; true when the request is whole. Of the body only the beginning is kept.
    fn take(&mut self, mut bytes: &[u8]) -> bool {
        if self.body_left.is_none() {
            let before = self.inbox.len();
            self.inbox
                .extend_from_slice(&bytes[..bytes.len().min(8192)]);
            let Some(end) = wire::find(&self.inbox, b"\r\n\r\n") else {
                return false;
            };
            self.head = end + 4;
            self.inbox.truncate(self.head);
            bytes = &bytes[self.head - before..];
            self.body_left = Some(wire::content_length(&self.inbox[..end]).unwrap_or(0));
        }
        let room = 512_usize.saturating_sub(self.inbox.len() - self.head);
        self.inbox
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
        let left = self.body_left.unwrap_or(0).saturating_sub(bytes.len());
        self.body_left = Some(left);
        left == 0
    }

    fn write(&mut self, epoll: &OwnedFd, id: u64, mut bytes: &[u8]) -> io::Result<()> {
        while self.outbox.is_empty() && !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let both = epoll::EventFlags::IN | epoll::EventFlags::OUT;
                    epoll::modify(epoll, &self.stream, epoll::EventData::new_u64(id), both)?;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        self.outbox.extend_from_slice(bytes);
        Ok(())
    }
}

/// What a monitor asks an Ollama.
fn probe(head: &[u8]) -> Vec<u8> {
    let target = String::from_utf8_lossy(head);
    let document = match target.split(' ').nth(1).unwrap_or("") {
        "/api/version" => json!({"version": "0.32.15"}),
        "/api/tags" => json!({"models": [{
            "name": wire::MODEL, "model": wire::MODEL, "modified_at": "2026-11-01T00:00:00Z", "size": 1_000_000,
            "digest": "0".repeat(64), "capabilities": ["completion"],
            "details": {"parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"],
                        "parameter_size": "1B", "quantization_level": "F16", "context_length": 131_072}}]}),
        "/api/ps" => json!({"models": [{
            "name": wire::MODEL, "model": wire::MODEL, "size": 1_000_000, "size_vram": 1_000_000,
            "digest": "0".repeat(64), "expires_at": "2126-11-01T00:00:00Z", "context_length": 131_072,
            "details": {"family": "llama"}}]}),
        _ => {
            return b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 18\r\n\r\n404 page not found"
                .to_vec();
        }
    };
    let body = document.to_string();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
