//! What happens when one end goes away: the client leaves, or the upstream is cut.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use memchr::memmem;

use super::answer::Answer;
use super::single::CONNECT;
use super::upstream::Event;
use super::{Ask, Place, Script, Upstream};
use crate::measure::proxy::{End, Form};

/// How long a request may take to arrive at the upstream.
const ARRIVE: Duration = Duration::from_secs(5);
/// How long a departure is waited for.
const NOTICE: Duration = Duration::from_secs(3);
/// How long a client that is about to leave waits, so that nothing of its request is still under way.
const SETTLE: Duration = Duration::from_millis(20);
/// How long the end of a cut stream is waited for.
const END: Duration = Duration::from_secs(5);
/// Pieces before the cut, and the time between them.
const PIECES: u32 = 5;
const GAP: Duration = Duration::from_millis(2);

/// A client leaves in the silence before or after the first piece: how long until the upstream's connection is closed, too, nanoseconds.
/// `None`: not within 3 s.
pub(super) fn departure(
    place: &Place,
    upstream: &Upstream,
    after_first: bool,
) -> io::Result<Option<u64>> {
    let script = if after_first {
        Script::silent()
    } else {
        Script::whole(0, Duration::ZERO)
    };
    upstream.play(Script {
        watched: true,
        ..script
    });
    upstream.forget();
    let mut stream = TcpStream::connect_timeout(&place.addr, CONNECT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ARRIVE))?;
    stream.write_all(&Ask::streamed(Form::Lines).to(place))?;
    let arrived = upstream.wait(ARRIVE, |event| !event.left);
    let arrived =
        arrived.ok_or_else(|| io::Error::other("the request never came to the upstream"))?;
    if after_first {
        wait_for_piece(&mut stream)?;
    }
    thread::sleep(SETTLE);
    let left = upstream.clock().now();
    drop(stream);
    let gone = |event: &Event| event.left && event.stream == arrived.stream;
    Ok(upstream
        .wait(NOTICE, gone)
        .map(|event| event.at.saturating_sub(left)))
}

fn wait_for_piece(stream: &mut TcpStream) -> io::Result<()> {
    let mut answer = Answer::new(true);
    let mut buffer = [0; 4096];
    let mut began = false;
    while !began {
        match stream.read(&mut buffer)? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            n => answer.push(buffer.get(..n).unwrap_or_default()),
        }
        answer.stamps(|_| began = true);
    }
    Ok(())
}

/// The upstream closes its connection in the middle of a stream: what the client sees.
pub(super) fn cut(place: &Place, upstream: &Upstream, form: Form) -> io::Result<End> {
    upstream.play(Script {
        cut: true,
        ..Script::whole(PIECES, GAP)
    });
    let mut stream = TcpStream::connect_timeout(&place.addr, CONNECT)?;
    stream.set_nodelay(true)?;
    stream.write_all(&Ask::streamed(form).to(place))?;
    let deadline = Instant::now() + END;
    let mut answer = Answer::new(false);
    let mut all = Vec::new();
    let mut buffer = [0; 4096];
    let closed = loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(End::Hung);
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer) {
            Ok(0) => break true,
            Ok(n) => {
                let bytes = buffer.get(..n).unwrap_or_default();
                answer.push(bytes);
                all.extend_from_slice(bytes);
                if answer.whole() || answer.broken() {
                    break false;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(End::Hung);
            }
            Err(_) => break true,
        }
    };
    if answer.status() != 200 {
        return Err(io::Error::other(format!(
            "an answer with status {}",
            answer.status()
        )));
    }
    let complete = answer.whole() || (closed && answer.ends_with_connection());
    let told = memmem::find(&all, b"\"error\"").is_some();
    Ok(match (told, complete) {
        (true, _) => End::Told,
        (false, true) => End::Clean,
        (false, false) => End::Broken,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Clock;
    use super::*;
    use std::io::BufRead;
    use std::net::TcpListener;

    #[test]
    fn the_mock_itself_breaks_and_sees_clients_leave() {
        let upstream = Upstream::start(Clock::start(), 0, 1).unwrap();
        let place = Place::at(upstream.addr());
        for form in [Form::Lines, Form::Events] {
            assert_eq!(cut(&place, &upstream, form).unwrap(), End::Broken);
        }
        for after_first in [false, true] {
            assert!(departure(&place, &upstream, after_first).unwrap().is_some());
        }
    }

    /// A server that sends `answer` to the first request and closes.
    fn server(answer: &'static str) -> Place {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = Place::at(listener.local_addr().unwrap());
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = std::io::BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            stream.write_all(answer.as_bytes()).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let _ = stream.read(&mut [0; 4096]);
        });
        place
    }

    #[test]
    fn a_loss_that_is_hidden_is_told_from_one_that_shows() {
        let upstream = Upstream::start(Clock::start(), 0, 1).unwrap();
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (answer, end) in [
            (format!("{chunked}1\r\na\r\n0\r\n\r\n"), End::Clean),
            (format!("{chunked}1\r\na\r\n"), End::Broken),
            (
                format!("{chunked}d\r\n{{\"error\":\"x\"}}\r\n0\r\n\r\n"),
                End::Told,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\na".to_owned(),
                End::Broken,
            ),
            ("HTTP/1.1 200 OK\r\n\r\na".to_owned(), End::Clean),
        ] {
            let place = server(answer.clone().leak());
            assert_eq!(
                cut(&place, &upstream, Form::Lines).unwrap(),
                end,
                "{answer}"
            );
        }
        let place = server("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
        assert!(cut(&place, &upstream, Form::Lines).is_err());
    }
}
