//! Many connections: an event loop per thread, all with the same request.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};

use super::answer::Answer;
use super::process::Usage;
use super::single::CONNECT;
use super::{Clock, Place};

/// The longest that a loop waits before it looks at the phase again.
const SLICE: Duration = Duration::from_millis(20);
/// The longest that a load may take that waits for a number of answers.
const LIMIT: Duration = Duration::from_secs(120);
/// How often the number of answers is looked at.
const LOOK: Duration = Duration::from_millis(1);

const WARM: u8 = 0;
const MEASURED: u8 = 1;
const OVER: u8 = 2;

/// How long a load is measured.
#[derive(Debug, Clone, Copy)]
pub(super) enum Until {
    /// For this long.
    Time(Duration),
    /// Until this many answers or pieces came.
    Count(u64),
}

/// When to measure, and whether to go on.
#[derive(Clone, Copy)]
pub(super) struct Timing<'a> {
    /// Over which the requests are begun.
    pub(super) spread: Duration,
    /// Unmeasured after that.
    pub(super) warm: Duration,
    /// The measured part.
    pub(super) until: Until,
    /// Ends everything early.
    pub(super) stop: &'a AtomicBool,
    /// Processor time of what is measured so far.
    pub(super) cpu: &'a dyn Fn() -> Option<Usage>,
}

/// What a load of many connections brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// Answers or pieces in the window.
    pub(super) count: u64,
    /// Length of the window, nanoseconds.
    pub(super) elapsed: u64,
    /// Processor time in the window, nanoseconds.
    pub(super) cpu: Option<u64>,
    /// How long the pieces in the window took, nanoseconds.
    pub(super) delays: Vec<u64>,
    /// Connections that failed and answers with another status than 200.
    pub(super) failed: u64,
}

#[derive(Debug)]
struct Client {
    stream: TcpStream,
    answer: Answer,
    /// What the socket did not take yet of the request.
    unsent: usize,
}

/// Many connections with the same request.
#[derive(Debug)]
pub(super) struct Many {
    loops: Vec<Events>,
    streams: usize,
}

/// The connections of one thread.
#[derive(Debug)]
struct Events {
    epoll: OwnedFd,
    clients: Vec<Option<Client>>,
    request: Vec<u8>,
    clock: Clock,
    failed: u64,
}

/// Room for what epoll says and for what a read brings; of one thread, because events cannot be sent to another.
struct Room {
    ready: Vec<epoll::Event>,
    buffer: Vec<u8>,
}

impl Room {
    fn new() -> Self {
        Self {
            ready: Vec::with_capacity(1024),
            buffer: vec![0; 64 * 1024],
        }
    }
}

/// The phase that all threads are in, and what they counted together.
struct Shared {
    phase: AtomicU8,
    count: AtomicU64,
}

impl Many {
    /// Opens `count` connections, shared out to at most `threads` threads.
    pub(super) fn open(
        place: &Place,
        count: u32,
        threads: u32,
        request: &[u8],
        stamped: bool,
        clock: Clock,
    ) -> io::Result<Self> {
        let mut loops = Vec::new();
        for _ in 0..threads.clamp(1, count.max(1)) {
            loops.push(Events {
                epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
                clients: Vec::new(),
                request: request.to_vec(),
                clock,
                failed: 0,
            });
        }
        let threads = loops.len();
        for number in 0..count as usize {
            if let Some(events) = loops.get_mut(number % threads) {
                events.connect(place, stamped)?;
            }
        }
        Ok(Self {
            loops,
            streams: count as usize,
        })
    }

    /// Every connection asks again as soon as it has its answer.
    pub(super) fn requests(self, timing: Timing<'_>) -> io::Result<Load> {
        self.run(timing, Events::answers)
    }

    /// Every connection opens one stream whose pieces are measured.
    pub(super) fn streams(self, timing: Timing<'_>) -> io::Result<Load> {
        let step = timing.spread / u32::try_from(self.streams).unwrap_or(u32::MAX).max(1);
        let step = step * u32::try_from(self.loops.len()).unwrap_or(1);
        self.run(timing, move |events, shared| events.pieces(step, shared))
    }

    /// Runs `work` in a thread per loop through the phases and adds up what it brought.
    fn run(
        mut self,
        timing: Timing<'_>,
        work: impl Fn(&mut Events, &Shared) -> io::Result<Load> + Sync,
    ) -> io::Result<Load> {
        let shared = Shared {
            phase: AtomicU8::new(WARM),
            count: AtomicU64::new(0),
        };
        thread::scope(|scope| {
            let mut workers = Vec::new();
            for events in &mut self.loops {
                let (work, shared) = (&work, &shared);
                let builder = thread::Builder::new().name("load".to_owned());
                match builder.spawn_scoped(scope, move || work(events, shared)) {
                    Ok(worker) => workers.push(worker),
                    Err(error) => {
                        shared.phase.store(OVER, Ordering::Relaxed);
                        return Err(error);
                    }
                }
            }
            let mut sum = conduct(timing, &shared);
            for worker in workers {
                let load = worker
                    .join()
                    .map_err(|_| io::Error::other("a load thread panicked"))??;
                sum.count += load.count;
                sum.failed += load.failed;
                sum.delays.extend(load.delays);
            }
            Ok(sum)
        })
    }

    /// Opens one stream a connection and waits up to `limit` for the first piece of each; how many began.
    pub(super) fn hold(&mut self, limit: Duration, stop: &AtomicBool) -> io::Result<u32> {
        let deadline = Instant::now() + limit;
        let mut began = 0;
        for events in &mut self.loops {
            began += events.hold(deadline, stop)?;
        }
        Ok(began)
    }
}

/// Leads the threads through the phases; the length of the measured one and the processor time in it.
fn conduct(timing: Timing<'_>, shared: &Shared) -> Load {
    let stopped = || timing.stop.load(Ordering::Relaxed);
    sleep_until(Instant::now() + timing.spread + timing.warm, &stopped);
    let before = (timing.cpu)();
    let start = Instant::now();
    shared.phase.store(MEASURED, Ordering::Relaxed);
    match timing.until {
        Until::Time(window) => sleep_until(start + window, &stopped),
        Until::Count(wanted) => {
            while shared.count.load(Ordering::Relaxed) < wanted
                && start.elapsed() < LIMIT
                && !stopped()
            {
                thread::sleep(LOOK);
            }
        }
    }
    shared.phase.store(OVER, Ordering::Relaxed);
    let elapsed = start.elapsed();
    let after = (timing.cpu)();
    Load {
        elapsed: u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX),
        cpu: before.zip(after).map(|(before, after)| after.since(before)),
        ..Load::default()
    }
}

/// Sleeps, in slices short enough to notice a stop.
pub(super) fn sleep_until(deadline: Instant, stopped: &dyn Fn() -> bool) {
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        if left.is_zero() || stopped() {
            return;
        }
        thread::sleep(left.min(Duration::from_millis(100)));
    }
}

impl Events {
    fn connect(&mut self, place: &Place, stamped: bool) -> io::Result<()> {
        let stream = TcpStream::connect_timeout(&place.addr, CONNECT)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let data = epoll::EventData::new_u64(self.clients.len() as u64);
        epoll::add(&self.epoll, &stream, data, epoll::EventFlags::IN)?;
        self.clients.push(Some(Client {
            stream,
            answer: Answer::new(stamped),
            unsent: 0,
        }));
        Ok(())
    }

    fn answers(&mut self, shared: &Shared) -> io::Result<Load> {
        for id in 0..self.clients.len() {
            self.send(id);
        }
        let (mut load, mut room) = (Load::default(), Room::new());
        loop {
            let phase = shared.phase.load(Ordering::Relaxed);
            if phase == OVER {
                break;
            }
            let measured = phase == MEASURED;
            let mut whole = 0;
            let mut failed = 0;
            self.poll(&mut room, SLICE, &mut |answer, _| {
                if !answer.whole() {
                    return false;
                }
                whole += u64::from(answer.ok());
                failed += u64::from(!answer.ok());
                true
            })?;
            if measured {
                load.count += whole;
                load.failed += failed;
                shared.count.fetch_add(whole, Ordering::Relaxed);
            }
        }
        // A connection that broke while nothing was measured is missing in the load as well.
        load.failed += self.failed;
        Ok(load)
    }

    fn pieces(&mut self, step: Duration, shared: &Shared) -> io::Result<Load> {
        let (mut load, mut room) = (Load::default(), Room::new());
        for id in 0..self.clients.len() {
            self.send(id);
            let until = Instant::now() + step;
            while Instant::now() < until && shared.phase.load(Ordering::Relaxed) != OVER {
                let left = until.saturating_duration_since(Instant::now());
                self.poll(&mut room, left, &mut |answer, _| {
                    answer.stamps(|_| {});
                    false
                })?;
            }
        }
        loop {
            let phase = shared.phase.load(Ordering::Relaxed);
            if phase == OVER {
                break;
            }
            let mut delays = Vec::new();
            self.poll(&mut room, SLICE, &mut |answer, now| {
                answer.stamps(|stamp| delays.push(now.saturating_sub(stamp)));
                false
            })?;
            if phase == MEASURED {
                shared
                    .count
                    .fetch_add(delays.len() as u64, Ordering::Relaxed);
                load.delays.extend(delays);
            }
        }
        load.count = load.delays.len() as u64;
        load.failed = self.failed;
        Ok(load)
    }

    fn hold(&mut self, deadline: Instant, stop: &AtomicBool) -> io::Result<u32> {
        for id in 0..self.clients.len() {
            self.send(id);
        }
        let mut room = Room::new();
        // Every stream sends one piece and then nothing: as many as pieces came have begun.
        let (mut began, all) = (0, u32::try_from(self.clients.len()).unwrap_or(u32::MAX));
        while began < all && Instant::now() < deadline && !stop.load(Ordering::Relaxed) {
            self.poll(&mut room, SLICE, &mut |answer, _| {
                answer.stamps(|_| began += 1);
                false
            })?;
        }
        Ok(began)
    }

    /// Waits up to `wait` and takes in what came; `seen` gets each answer so far and the time of the read, and says whether the request is
    /// to be sent again.
    fn poll(
        &mut self,
        room: &mut Room,
        wait: Duration,
        seen: &mut dyn FnMut(&mut Answer, u64) -> bool,
    ) -> io::Result<()> {
        let wait = Timespec::try_from(wait).map_err(io::Error::other)?;
        room.ready.clear();
        let waited = epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut room.ready),
            Some(&wait),
        );
        for event in &room.ready {
            let (flags, id) = (event.flags, event.data.u64());
            let id = usize::try_from(id).unwrap_or(usize::MAX);
            if flags.contains(epoll::EventFlags::OUT) {
                self.send_rest(id);
            }
            let readable = epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
            if flags.intersects(readable) {
                self.read(id, &mut room.buffer, seen);
            }
        }
        match waited {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn read(
        &mut self,
        id: usize,
        buffer: &mut [u8],
        seen: &mut dyn FnMut(&mut Answer, u64) -> bool,
    ) {
        let Some(client) = self.clients.get_mut(id).and_then(Option::as_mut) else {
            return;
        };
        match client.stream.read(buffer) {
            Ok(n) if n > 0 => {
                let now = self.clock.now();
                client.answer.push(buffer.get(..n).unwrap_or_default());
                if client.answer.broken() {
                    self.fail(id);
                } else if seen(&mut client.answer, now) {
                    self.send(id);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            _ => self.fail(id),
        }
    }

    fn send(&mut self, id: usize) {
        if let Some(client) = self.clients.get_mut(id).and_then(Option::as_mut) {
            client.answer.clear();
            client.unsent = self.request.len();
            self.send_rest(id);
        }
    }

    fn send_rest(&mut self, id: usize) {
        let Some(client) = self.clients.get_mut(id).and_then(Option::as_mut) else {
            return;
        };
        let waited = client.unsent < self.request.len();
        while client.unsent > 0 {
            let from = self.request.len() - client.unsent;
            match client
                .stream
                .write(self.request.get(from..).unwrap_or_default())
            {
                Ok(n) => client.unsent -= n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return self.fail(id),
            }
        }
        // Only a request larger than the socket's buffer is ever waited for, so that small ones need no further call.
        if waited || client.unsent > 0 {
            let flags = if client.unsent > 0 {
                epoll::EventFlags::IN | epoll::EventFlags::OUT
            } else {
                epoll::EventFlags::IN
            };
            let data = epoll::EventData::new_u64(id as u64);
            if epoll::modify(&self.epoll, &client.stream, data, flags).is_err() {
                self.fail(id);
            }
        }
    }

    fn fail(&mut self, id: usize) {
        if let Some(client) = self.clients.get_mut(id) {
            *client = None;
            self.failed += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::Ask;
    use super::super::{Script, Upstream};
    use super::*;
    use crate::measure::proxy::Form;

    fn timing(until: Until, stop: &AtomicBool) -> Timing<'_> {
        Timing {
            spread: Duration::from_millis(20),
            warm: Duration::from_millis(20),
            until,
            stop,
            cpu: &|| None,
        }
    }

    #[test]
    fn answers_are_counted_over_several_threads_and_sizes() {
        let upstream = Upstream::start(Clock::start(), 0, 2).unwrap();
        let place = Place::at(upstream.addr());
        let stop = AtomicBool::new(false);
        for bytes in [1024, 2 * 1024 * 1024] {
            let request = Ask {
                bytes,
                ..Ask::SMALL
            }
            .to(&place);
            let many = Many::open(&place, 9, 2, &request, false, upstream.clock()).unwrap();
            assert_eq!(many.loops.len(), 2);
            let load = many.requests(timing(Until::Count(200), &stop)).unwrap();
            assert!(load.count >= 200, "{load:?}");
            assert_eq!((load.failed, load.cpu), (0, None));
            assert!(load.elapsed > 0);
        }
    }

    #[test]
    fn pieces_take_time_and_each_is_counted_once() {
        let upstream = Upstream::start(Clock::start(), 0, 1).unwrap();
        let place = Place::at(upstream.addr());
        let stop = AtomicBool::new(false);
        upstream.play(Script::whole(Script::ENDLESS, Duration::from_millis(5)));
        for form in [Form::Lines, Form::Events] {
            let request = Ask::streamed(form).to(&place);
            let many = Many::open(&place, 10, 1, &request, true, upstream.clock()).unwrap();
            let load = many
                .streams(timing(Until::Time(Duration::from_millis(500)), &stop))
                .unwrap();
            // 10 streams, a piece every 5 ms. A busy machine may bring them late, but never more than were due.
            let due = load.elapsed / 5_000_000 * 10;
            assert!(load.count <= due + 50, "{} of {due}", load.count);
            assert!(load.count > 0 && load.failed == 0);
            assert!(
                load.delays
                    .iter()
                    .all(|&delay| delay < load.elapsed + 10_000_000_000)
            );
        }
    }

    #[test]
    fn held_streams_begin_and_a_stop_ends_a_load_at_once() {
        let upstream = Upstream::start(Clock::start(), 0, 1).unwrap();
        let place = Place::at(upstream.addr());
        upstream.play(Script::silent());
        let request = Ask::streamed(Form::Lines).to(&place);
        let mut many = Many::open(&place, 50, 3, &request, true, upstream.clock()).unwrap();
        let stop = AtomicBool::new(false);
        assert_eq!(many.hold(Duration::from_secs(10), &stop).unwrap(), 50);
        let stop = AtomicBool::new(true);
        let start = Instant::now();
        let many = Many::open(&place, 1, 1, &request, true, upstream.clock()).unwrap();
        many.streams(timing(Until::Time(Duration::from_secs(60)), &stop))
            .unwrap();
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn connections_that_break_are_counted() {
        let upstream = Upstream::start(Clock::start(), 0, 1).unwrap();
        let place = Place::at(upstream.addr());
        let stop = AtomicBool::new(false);
        upstream.play(Script {
            cut: true,
            ..Script::whole(2, Duration::from_millis(1))
        });
        let request = Ask::streamed(Form::Lines).to(&place);
        let many = Many::open(&place, 4, 1, &request, true, upstream.clock()).unwrap();
        let load = many
            .streams(timing(Until::Time(Duration::from_millis(200)), &stop))
            .unwrap();
        assert_eq!(load.failed, 4);
    }
}
