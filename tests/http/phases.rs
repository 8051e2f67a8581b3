//! The phases of an upstream request: each has a limit, and in each the client may leave.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Duration, Instant},
};

use gpurouter::http::{
    Watch,
    client::{Deadlines, Origin, ReadError, SendError},
};

use crate::support::{
    OK, PATIENCE, body, client, closed_by_peer, deadlines, get, post, until, upstream,
};

#[test]
fn each_phase_has_its_own_limit() {
    let short = Some(Duration::from_millis(40));
    let silent = || {
        upstream(|_, mut stream| {
            until(&mut stream, "\r\n\r\n");
            assert!(closed_by_peer(&mut stream));
        })
    };
    let first = Deadlines {
        first_byte: short,
        ..deadlines()
    };
    let error = client().send(&silent().origin, get(), &first, None);
    assert!(matches!(error, Err(SendError::FirstByteTimeout)));
    let total = Deadlines {
        total: short,
        ..deadlines()
    };
    let error = client().send(&silent().origin, get(), &total, None);
    assert!(matches!(error, Err(SendError::TotalTimeout)));
    let stalls = || {
        upstream(|_, mut stream| {
            until(&mut stream, "\r\n\r\n");
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart")
                .unwrap();
            assert!(closed_by_peer(&mut stream));
        })
    };
    let between = Deadlines {
        between: short,
        ..deadlines()
    };
    for (limits, idle) in [(&between, true), (&total, false)] {
        let upstream = stalls();
        let mut incoming = client()
            .send(&upstream.origin, get(), limits, None)
            .unwrap();
        assert_eq!(incoming.next(None).unwrap(), Some(&b"part"[..]));
        match incoming.next(None) {
            Err(ReadError::Idle) if idle => {}
            Err(ReadError::Total) if !idle => {}
            other => panic!("{other:?}"),
        }
        assert_eq!(upstream.ended.recv_timeout(PATIENCE), Ok(0));
    }
    // An upstream that does not read.
    let deaf = upstream(|_, stream| {
        std::thread::sleep(Duration::from_millis(500));
        drop(stream);
    });
    let large = vec![b'x'; 64 << 20];
    let error = client().send(&deaf.origin, post(&large), &between, None);
    assert!(matches!(error, Err(SendError::SendTimeout)));
}

#[test]
fn connecting_has_a_limit_and_a_refusal_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let origin = Origin::parse(&format!("http://{address}")).unwrap();
    // With a full queue of connections nobody accepts, further ones are not answered.
    rustix::net::listen(&listener, 0).unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        queued.push(stream);
        assert!(queued.len() < 10);
    }
    let limits = Deadlines {
        connect: Duration::from_millis(50),
        ..deadlines()
    };
    let error = client().send(&origin, get(), &limits, None);
    assert!(matches!(error, Err(SendError::ConnectTimeout)), "{error:?}");
    let (near, far) = pair();
    let gone = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        drop(far);
    });
    let error = client().send(&origin, get(), &deadlines(), Some(Watch::new(&near)));
    assert!(matches!(error, Err(SendError::ClientGone)), "{error:?}");
    gone.join().unwrap();
    drop((listener, queued));
    let error = client().send(&origin, get(), &deadlines(), None);
    assert!(matches!(error, Err(SendError::Connect(_))), "{error:?}");
    let unknown = Origin::parse("http://no-such-host.invalid").unwrap();
    let error = client().send(&unknown, get(), &limits, None);
    assert!(
        matches!(
            error,
            Err(SendError::Resolve(_) | SendError::ConnectTimeout)
        ),
        "{error:?}"
    );
}

#[test]
fn both_families_of_localhost_are_tried() {
    let Ok(listener) = TcpListener::bind("[::1]:0") else {
        return;
    };
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        until(&mut stream, "\r\n\r\n");
        stream.write_all(OK.as_bytes()).unwrap();
    });
    let origin = Origin::parse(&format!("http://localhost:{port}")).unwrap();
    let mut incoming = client().send(&origin, get(), &deadlines(), None).unwrap();
    assert_eq!(body(&mut incoming).unwrap(), "ok");
}

/// Both ends of a loopback connection.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

/// Runs `phase` with a client that leaves once `ready` says so, and returns how long the upstream took to see it.
fn leave(
    ready: mpsc::Receiver<()>,
    closed: &mpsc::Receiver<Instant>,
    phase: impl FnOnce(Watch<'_>) -> bool,
) -> Duration {
    let (near, far) = pair();
    let leaving = std::thread::spawn(move || {
        ready.recv().unwrap();
        std::thread::sleep(Duration::from_millis(20));
        let at = Instant::now();
        drop(far);
        at
    });
    assert!(phase(Watch::new(&near)), "not told that the client left");
    let left = leaving.join().unwrap();
    closed.recv_timeout(PATIENCE).unwrap() - left
}

#[test]
fn a_client_that_leaves_closes_the_upstream_in_every_phase() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for phase in ["prefill", "silence", "stream", "sending"] {
        let (at, ready) = mpsc::channel();
        let (end, closed) = mpsc::channel();
        let upstream = upstream(move |_, mut stream| {
            if phase == "sending" {
                let mut some = [0; 1000];
                stream.read_exact(&mut some).unwrap();
                at.send(()).unwrap();
                std::thread::sleep(Duration::from_millis(60));
                assert!(closed_by_peer(&mut stream));
                end.send(Instant::now()).unwrap();
                return;
            }
            until(&mut stream, "\r\n\r\n");
            if phase != "prefill" {
                stream.write_all(chunked.as_bytes()).unwrap();
            }
            at.send(()).unwrap();
            while phase == "stream" && stream.write_all(b"3\r\nabc\r\n").is_ok() {
                std::thread::sleep(Duration::from_micros(200));
            }
            assert!(closed_by_peer(&mut stream));
            end.send(Instant::now()).unwrap();
        });
        let large = vec![b'x'; 32 << 20];
        let took = leave(ready, &closed, |watch| {
            let outgoing = if phase == "sending" {
                post(&large)
            } else {
                get()
            };
            let sent = client().send(&upstream.origin, outgoing, &deadlines(), Some(watch));
            let mut incoming = match sent {
                Ok(incoming) => incoming,
                Err(error) => return matches!(error, SendError::ClientGone),
            };
            loop {
                match incoming.next(Some(watch)) {
                    Ok(Some(_)) => {}
                    other => return matches!(other, Err(ReadError::ClientGone)),
                }
            }
        });
        // 5 ms on a quiet machine; a limit that only a missed departure exceeds.
        assert!(took < Duration::from_secs(2), "{phase}: {took:?}");
    }
}
