//! The load generator: raw sockets, keep-alive, one thread.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};

use crate::wire::{Answer, Clock};

/// The longest that one answer may take.
const LIMIT: Duration = Duration::from_secs(20);

/// One keep-alive connection, used blocking: nothing but the round trip is measured.
pub struct Single {
    stream: TcpStream,
    answer: Answer,
    buffer: Vec<u8>,
}

impl Single {
    /// Connects.
    pub fn open(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(Self {
            stream,
            answer: Answer::default(),
            buffer: vec![0; 64 * 1024],
        })
    }

    /// Sends `request` and reads the whole answer; nanoseconds until it was whole.
    pub fn exchange(&mut self, request: &[u8]) -> io::Result<u64> {
        self.stream(request, |_| {}).map(|(whole, _)| whole)
    }

    /// The same for a stream: nanoseconds until it was whole and until its first token; `each` sees every token's
    /// time of sending.
    pub fn stream(&mut self, request: &[u8], mut each: impl FnMut(u64)) -> io::Result<(u64, u64)> {
        self.answer.clear();
        let start = Instant::now();
        let mut first = None;
        self.stream.write_all(request)?;
        while !self.answer.whole() {
            match self.stream.read(&mut self.buffer)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                n => self.answer.push(&self.buffer[..n]),
            }
            self.answer.stamps(|stamp| {
                first.get_or_insert_with(|| start.elapsed());
                each(stamp);
            });
        }
        if !self.answer.ok() {
            return Err(io::Error::other("an answer other than 200"));
        }
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let whole = nanos(start.elapsed());
        Ok((whole, first.map_or(whole, nanos)))
    }
}

/// What a load of many connections brought.
#[derive(Debug, Clone, Default)]
pub struct Load {
    /// Answers or tokens in the window.
    pub count: u64,
    /// Length of the window, seconds.
    pub seconds: f64,
    /// CPU that the proxy used in the window, nanoseconds.
    pub cpu: u64,
    /// Token delays in the window, nanoseconds.
    pub delays: Vec<u64>,
    /// Connections that failed or brought something else than 200.
    pub errors: u64,
}

struct Client {
    stream: TcpStream,
    answer: Answer,
}

/// Many connections in one event loop, all with the same request.
pub struct Many {
    epoll: OwnedFd,
    clients: Vec<Option<Client>>,
    request: Vec<u8>,
    clock: Clock,
    errors: u64,
}

impl Many {
    /// Opens `count` connections.
    pub fn open(addr: SocketAddr, count: usize, request: &[u8], clock: Clock) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut clients = Vec::with_capacity(count);
        for id in 0..count {
            let stream = TcpStream::connect(addr)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let data = epoll::EventData::new_u64(id as u64);
            epoll::add(&epoll, &stream, data, epoll::EventFlags::IN)?;
            let answer = Answer::default();
            clients.push(Some(Client { stream, answer }));
        }
        Ok(Self {
            epoll,
            clients,
            request: request.to_vec(),
            clock,
            errors: 0,
        })
    }

    /// Every connection asks again as soon as it has its answer: `warm` unmeasured, then `window`.
    pub fn requests(
        &mut self,
        (warm, window): (Duration, Duration),
        cpu: &dyn Fn() -> u64,
    ) -> io::Result<Load> {
        for id in 0..self.clients.len() {
            self.send(id);
        }
        let (mut load, start) = (Load::default(), Instant::now());
        let mut used = 0;
        for until in [start + warm, start + warm + window] {
            load = Load::default();
            let (since, before) = (Instant::now(), cpu());
            self.poll(until, &mut |_, answer, _| {
                let whole = answer.whole();
                load.count += u64::from(whole && answer.ok());
                load.errors += u64::from(whole && !answer.ok());
                whole
            })?;
            load.seconds = since.elapsed().as_secs_f64();
            used = cpu() - before;
        }
        load.cpu = used;
        load.errors += self.errors;
        Ok(load)
    }

    /// Every connection opens one stream, spread evenly over `spread`; tokens are counted in the `window` after
    /// `warm`.
    pub fn streams(
        &mut self,
        spread: Duration,
        (warm, window): (Duration, Duration),
        cpu: &dyn Fn() -> u64,
    ) -> io::Result<Load> {
        let count = self.clients.len();
        let step = spread / u32::try_from(count).unwrap_or(u32::MAX);
        let mut delays = Vec::new();
        for id in 0..count {
            self.send(id);
            self.tokens(Instant::now() + step, &mut delays)?;
        }
        self.tokens(Instant::now() + warm, &mut delays)?;
        delays.clear();
        let (used, start) = (cpu(), Instant::now());
        self.tokens(start + window, &mut delays)?;
        Ok(Load {
            count: delays.len() as u64,
            seconds: start.elapsed().as_secs_f64(),
            cpu: cpu() - used,
            delays,
            errors: self.errors,
        })
    }

    /// Opens one stream a connection and waits up to `limit` for the first token of each; how many began.
    pub fn hold(&mut self, limit: Duration) -> io::Result<usize> {
        for id in 0..self.clients.len() {
            self.send(id);
        }
        let deadline = Instant::now() + limit;
        let mut began = vec![false; self.clients.len()];
        while Instant::now() < deadline && began.contains(&false) {
            let slice = Instant::now() + Duration::from_millis(20);
            self.poll(slice, &mut |id, answer, _| {
                answer.stamps(|_| began[id] = true);
                false
            })?;
        }
        Ok(began.into_iter().filter(|&began| began).count())
    }

    fn tokens(&mut self, until: Instant, delays: &mut Vec<u64>) -> io::Result<()> {
        self.poll(until, &mut |_, answer, now| {
            answer.stamps(|stamp| delays.push(now.saturating_sub(stamp)));
            false
        })
    }

    /// Reads whatever comes until `until`; `seen` gets the connection, its answer so far and the time of the read,
    /// and says whether the request is to be sent again.
    fn poll(
        &mut self,
        until: Instant,
        seen: &mut dyn FnMut(usize, &mut Answer, u64) -> bool,
    ) -> io::Result<()> {
        let mut events = Vec::with_capacity(1024);
        let mut buffer = vec![0; 64 * 1024];
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            events.clear();
            let wait = Timespec::try_from(left).map_err(io::Error::other)?;
            let room = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, room, Some(&wait)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                let id = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
                let Some(client) = self.clients.get_mut(id).and_then(Option::as_mut) else {
                    continue;
                };
                match client.stream.read(&mut buffer) {
                    Ok(n) if n > 0 => {
                        let now = self.clock.now();
                        client.answer.push(&buffer[..n]);
                        if seen(id, &mut client.answer, now) {
                            self.send(id);
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    _ => self.fail(id),
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, id: usize) {
        let Some(client) = &mut self.clients[id] else {
            return;
        };
        client.answer.clear();
        let sent = client.stream.write(&self.request);
        if !sent.is_ok_and(|n| n == self.request.len()) {
            self.fail(id);
        }
    }

    fn fail(&mut self, id: usize) {
        self.clients[id] = None;
        self.errors += 1;
    }
}
