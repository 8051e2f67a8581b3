//! The life of one connection: heads, exchanges, keep-alive, the way it ends.

use std::{
    io,
    os::fd::AsFd,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use rustix::event::PollFlags;

use super::{
    Handler, Limits,
    body::{Body, Progress},
    head::{BodyFraming, RequestHead},
    linger,
    refusal::Refusal,
    registry::Connection,
    reply::{Reply, ReplyMemory},
    request::Request,
};
use crate::http::{
    buffer::Buffer,
    poll::{Ready, after, wait},
    scan::HeadScan,
};

const SHORTEST_IDLE: Duration = Duration::from_millis(1);
const LONGEST_IDLE: Duration = Duration::from_secs(86_400);

/// What follows after a head was looked for or a request was answered.
enum Next {
    /// Go on with this connection.
    Go,
    /// Close it.
    Close,
    /// Close it, but the client may still be sending.
    Linger,
}

/// Serves one connection until it ends.
pub(super) fn serve(
    connection: &Connection,
    limits: &Limits,
    stopping: &AtomicBool,
    handler: &impl Handler,
) {
    let mut session = Session {
        connection,
        limits,
        stopping,
        input: Buffer::default(),
        head: RequestHead::default(),
        memory: ReplyMemory::default(),
        waits: false,
    };
    let mut first = true;
    loop {
        let next = match session.next_head(first) {
            Ok(Next::Go) => session.exchange(handler),
            Ok(end) => end,
            Err(refusal) => session.refuse(handler, refusal),
        };
        match next {
            Next::Go => {}
            Next::Close => return linger::close_if_unread(&connection.stream),
            Next::Linger => return linger::close(&connection.stream),
        }
        first = false;
        session.input.shrink();
        session.head.shrink();
    }
}

struct Session<'c> {
    connection: &'c Connection,
    limits: &'c Limits,
    stopping: &'c AtomicBool,
    input: Buffer,
    head: RequestHead,
    memory: ReplyMemory,
    /// The socket has its receive time-out.
    waits: bool,
}

impl Session<'_> {
    /// Reads until the buffer begins after a parsed head.
    fn next_head(&mut self, first: bool) -> Result<Next, Refusal> {
        if !first && self.input.is_empty() && !self.rest() {
            return Ok(Next::Close);
        }
        if !first && !self.connection.begin() {
            return Ok(Next::Close);
        }
        let deadline = after(self.limits.head);
        let mut scan = HeadScan::default();
        let mut silent = first && self.input.is_empty();
        loop {
            if !self.input.is_empty() {
                if silent {
                    silent = false;
                    if !self.connection.begin() {
                        return Ok(Next::Close);
                    }
                }
                if scan.worth_parsing(self.input.unread())
                    && let Some(length) = self.head.parse(self.input.unread(), self.limits)?
                {
                    if length > self.limits.max_head {
                        return Err(Refusal::HeadTooLarge);
                    }
                    self.input.consume(length);
                    return Ok(Next::Go);
                }
                if self.input.unread().len() >= self.limits.max_head {
                    return Err(Refusal::HeadTooLarge);
                }
            }
            match self.more(deadline) {
                Ok(true) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut && !silent => {
                    return Err(Refusal::HeadTimeout);
                }
                Ok(false) | Err(_) => return Ok(Next::Close),
            }
        }
    }

    /// Waits between two requests; false: the client closed, the time is over, or the server stops.
    fn rest(&mut self) -> bool {
        self.connection.rest();
        if self.stopping.load(Ordering::SeqCst) {
            return false;
        }
        let stream = &self.connection.stream;
        // The receive time-out of the socket is the idle limit: set once, it saves a poll per request.
        if !self.waits {
            // The kernel knows neither zero nor more than its clock can count.
            let idle = self.limits.idle.clamp(SHORTEST_IDLE, LONGEST_IDLE);
            if stream.set_read_timeout(Some(idle)).is_err() {
                return false;
            }
            self.waits = true;
        }
        matches!(self.input.receive_blocking(stream.as_fd()), Ok(1..))
    }

    /// Receives some bytes before the deadline; false at the end of the stream.
    fn more(&mut self, deadline: Instant) -> io::Result<bool> {
        let fd = self.connection.stream.as_fd();
        loop {
            match self.input.receive(fd) {
                Ok(count) => return Ok(count > 0),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if wait(fd, PollFlags::IN, None, Some(deadline))? == Ready::Late {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Lets the handler answer one request.
    fn exchange(&mut self, handler: &impl Handler) -> Next {
        let stream = &self.connection.stream;
        let progress = Progress::new(self.head.framing, self.head.expects_continue);
        let mut reply = Reply::new(
            stream,
            &self.head,
            &progress,
            self.limits,
            self.stopping,
            &mut self.memory,
        );
        let mut request = Request {
            head: &self.head,
            body: Body::new(stream, &mut self.input, &progress, self.limits),
            peer: self.connection.peer,
        };
        // Both are finished with after a panic: the reply decides by its state, which is set before each write.
        let caught = catch_unwind(AssertUnwindSafe(|| {
            handler.handle(&mut request, &mut reply);
        }));
        if caught.is_err() || !reply.complete() {
            reply.close_after();
        }
        if !reply.committed() {
            let refused = handler.refuse(&Refusal::HandlerFailed, Some(self.head.target()));
            reply.reset();
            // The client may be gone; the connection is closed in any case.
            let _ = reply.full(
                Refusal::HandlerFailed.status(),
                &[("Content-Type", refused.content_type)],
                &refused.body,
            );
        }
        let again = reply.keeps_alive() && request.body.skip_rest();
        let unread = !request.body_is_read() || !self.input.is_empty();
        match (again, unread) {
            (true, _) => Next::Go,
            (false, true) => Next::Linger,
            (false, false) => Next::Close,
        }
    }

    /// Answers a request that has no valid head.
    fn refuse(&mut self, handler: &impl Handler, refusal: Refusal) -> Next {
        let target = (self.head.target() != "/").then(|| self.head.target());
        let refused = handler.refuse(&refusal, target);
        let progress = Progress::new(BodyFraming::Empty, false);
        let head = RequestHead::default();
        let mut reply = Reply::new(
            &self.connection.stream,
            &head,
            &progress,
            self.limits,
            self.stopping,
            &mut self.memory,
        );
        reply.close_after();
        let sent = reply.full(
            refusal.status(),
            &[("Content-Type", refused.content_type)],
            &refused.body,
        );
        if sent.is_ok() {
            Next::Linger
        } else {
            Next::Close
        }
    }
}
