//! Connections over their lifetime: limits, deadlines, failures, stopping.

use std::{
    io::{ErrorKind, Read, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use gpurouter::http::server::{Framing, Limits};

use crate::support::{closed_by_peer, connect, eventually, limits, serve, status, text, until};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";

#[test]
fn bursts_of_connections_are_all_answered() {
    let server = serve(limits(), |_, reply| reply.full(200, &[], b"ok").unwrap());
    let idle: Vec<_> = (0..3)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(GET).unwrap();
            until(&mut stream, "ok");
            stream
        })
        .collect();
    for _ in 0..20 {
        let mut burst: Vec<_> = (0..40).map(|_| server.connect()).collect();
        for stream in &mut burst {
            stream.write_all(GET).unwrap();
        }
        for stream in &mut burst {
            until(stream, "ok");
        }
    }
    drop(idle);
}

#[test]
fn a_head_has_one_deadline_however_it_drips() {
    let limits = Limits {
        head: Duration::from_millis(150),
        ..limits()
    };
    let server = serve(limits, |_, _| unreachable!());
    let mut stream = server.connect();
    let mut reader = stream.try_clone().unwrap();
    let drip = std::thread::spawn(move || {
        for byte in b"GET / HTTP/1.1\r\nX: "
            .iter()
            .chain(std::iter::repeat(&b'x'))
        {
            if stream.write_all(&[*byte]).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let head = until(&mut reader, "\r\n\r\n");
    assert_eq!(status(&head), "408");
    drop(reader);
    drip.join().unwrap();
    // A connection that never says anything is closed without a word.
    assert_eq!(text(&mut server.connect()), "");
}

#[test]
fn an_idle_connection_is_closed_after_its_time() {
    let limits = Limits {
        idle: Duration::from_millis(50),
        ..limits()
    };
    let server = serve(limits, |_, reply| reply.full(200, &[], b"ok").unwrap());
    let mut stream = server.connect();
    stream.write_all(GET).unwrap();
    until(&mut stream, "ok");
    assert_eq!(text(&mut stream), "");
}

#[test]
fn one_connection_too_many_is_told_so_and_may_come_back() {
    let limits = Limits {
        max_connections: 2,
        ..limits()
    };
    let server = serve(limits, |_, reply| reply.full(200, &[], b"ok").unwrap());
    let mut held: Vec<_> = (0..2).map(|_| server.connect()).collect();
    for stream in &mut held {
        stream.write_all(GET).unwrap();
        until(stream, "ok");
    }
    for _ in 0..50 {
        let mut stream = server.connect();
        // Sent before the answer is read: it must not turn the answer into a reset.
        let _ = stream.write_all(GET);
        let answer = text(&mut stream);
        assert_eq!(status(&answer), "503", "{answer}");
        assert!(answer.contains("Retry-After: 1\r\n"), "{answer}");
        assert!(answer.contains("Connection: close\r\n"), "{answer}");
    }
    held.pop();
    eventually("a free place", || {
        server
            .talk(b"GET / HTTP/1.0\r\n\r\n")
            .starts_with("HTTP/1.1 200")
    });
}

#[test]
fn a_panic_costs_one_request() {
    let server = serve(limits(), |request, reply| match request.path() {
        "/before" => panic!("on purpose"),
        "/during" => {
            reply.start(200, &[], Framing::Chunked).unwrap();
            reply.push(&[b"token"]).unwrap();
            panic!("on purpose");
        }
        "/held" => reply
            .start(200, &[("X-Held", "1")], Framing::Chunked)
            .unwrap(),
        "/silent" => {}
        "/forgotten" => {
            reply.start(200, &[], Framing::Chunked).unwrap();
            reply.push(&[b"token"]).unwrap();
        }
        _ => reply.full(200, &[], b"ok").unwrap(),
    });
    let ask = |path: &str| server.talk(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
    for path in ["/before", "/silent", "/held"] {
        let answer = ask(path);
        assert_eq!(status(&answer), "500", "{path} {answer}");
        assert!(!answer.contains("X-Held"), "{answer}");
    }
    for path in ["/during", "/forgotten"] {
        let answer = ask(path);
        assert!(answer.ends_with("5\r\ntoken\r\n"), "{path} {answer}");
    }
    let mut stream = server.connect();
    stream.write_all(GET).unwrap();
    until(&mut stream, "ok");
}

#[test]
fn an_aborted_answer_ends_with_a_fin_and_without_its_end() {
    let server = serve(limits(), |_, reply| {
        reply.start(200, &[], Framing::Chunked).unwrap();
        reply.push(&[b"token"]).unwrap();
        reply.abort();
        assert!(reply.push(&[b"more"]).is_err());
        assert!(reply.committed());
    });
    // The unread second request would turn a plain close into a reset.
    let answer = server.talk([GET, GET].concat());
    assert!(answer.ends_with("\r\n\r\n5\r\ntoken\r\n"), "{answer}");
}

#[test]
fn head_and_first_piece_arrive_together_unless_the_head_is_forced() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let server = serve(limits(), move |request, reply| {
        reply.start(200, &[], Framing::Chunked).unwrap();
        assert!(!reply.committed());
        if request.path() == "/forced" {
            reply.flush_head().unwrap();
            wait.lock().unwrap().recv().unwrap();
        }
        reply.push_last(&[b"to", b"ken"]).unwrap();
    });
    let mut stream = server.connect();
    stream.write_all(GET).unwrap();
    let mut piece = [0; 4096];
    let count = stream.read(&mut piece).unwrap();
    assert!(piece[..count].ends_with(b"\r\n\r\n5\r\ntoken\r\n0\r\n\r\n"));
    stream
        .write_all(b"GET /forced HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    until(&mut stream, "\r\n\r\n");
    go.send(()).unwrap();
    until(&mut stream, "5\r\ntoken\r\n0\r\n\r\n");
}

#[test]
fn a_client_that_does_not_read_is_given_up() {
    let limits = Limits {
        write: Duration::from_millis(100),
        ..limits()
    };
    let (seen, saw) = mpsc::channel();
    let server = serve(limits, move |_, reply| {
        reply.start(200, &[], Framing::Chunked).unwrap();
        let piece = vec![b'x'; 1 << 16];
        let error = loop {
            if let Err(error) = reply.push(&[&piece]) {
                break error;
            }
        };
        seen.send(error.kind()).unwrap();
    });
    let mut stream = server.connect();
    stream.write_all(GET).unwrap();
    assert_eq!(saw.recv(), Ok(ErrorKind::TimedOut));
    drop(stream);
}

#[test]
fn a_handler_sees_that_its_client_left() {
    for reset in [false, true] {
        let (seen, saw) = mpsc::channel();
        let server = serve(limits(), move |_, reply| {
            assert!(!reply.client_gone());
            seen.send(()).unwrap();
            eventually("the client leaves", || reply.client_gone());
            assert!(reply.watch().gone());
            seen.send(()).unwrap();
        });
        let mut stream = server.connect();
        stream.write_all(GET).unwrap();
        saw.recv().unwrap();
        if reset {
            // Closing with unread bytes resets; here by way of no lingering.
            rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        }
        drop(stream);
        saw.recv().unwrap();
    }
}

#[test]
fn nothing_is_read_ahead_of_a_request_that_runs() {
    let (release, hold) = mpsc::channel::<()>();
    let hold = Mutex::new(hold);
    let handled = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&handled);
    let server = serve(limits(), move |_, reply| {
        if count.fetch_add(1, Ordering::SeqCst) == 0 {
            let _ = hold.lock().unwrap().recv();
        }
        // The flooding client does not read.
        let _ = reply.full(200, &[], b"ok");
    });
    let mut stream = server.connect();
    stream.set_nonblocking(true).unwrap();
    let flood = GET.repeat(1000);
    let mut written = 0;
    let mut blocked = 0;
    while blocked < 50 {
        match stream.write(&flood) {
            Ok(count) => {
                written += count;
                blocked = 0;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                blocked += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(error) => panic!("{error}"),
        }
        // Kernel buffers of both ends take a few megabytes; more means that someone reads ahead.
        assert!(written < 64 << 20, "no back-pressure");
    }
    assert_eq!(handled.load(Ordering::SeqCst), 1);
    drop(stream);
    release.send(()).unwrap();
}

#[test]
fn a_stop_closes_idle_connections_lets_running_requests_end_and_cuts_the_rest() {
    let (started, running) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let server = serve(limits(), move |request, reply| {
        if request.path() == "/slow" {
            started.send(()).unwrap();
            wait.lock().unwrap().recv().unwrap();
            assert!(reply.stopping());
        }
        reply.full(200, &[], b"ok").unwrap();
    });
    let mut idle = server.connect();
    idle.write_all(GET).unwrap();
    until(&mut idle, "ok");
    let mut busy = server.connect();
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    running.recv().unwrap();
    server.stopper.stop();
    assert_eq!(text(&mut idle), "");
    eventually("the listener closes", || {
        std::net::TcpStream::connect(server.address).is_err()
    });
    go.send(()).unwrap();
    let answer = text(&mut busy);
    assert!(
        answer.ends_with("ok") && answer.contains("Connection: close"),
        "{answer}"
    );
    assert_eq!(server.finish().cut, 0);

    let limits = Limits {
        drain: Duration::from_millis(50),
        ..limits()
    };
    let (started, running) = mpsc::channel();
    let server = serve(limits, move |_, reply| {
        started.send(()).unwrap();
        eventually("the cut", || reply.client_gone());
    });
    let mut stream = connect(server.address);
    stream.write_all(GET).unwrap();
    running.recv().unwrap();
    assert_eq!(server.finish().cut, 1);
    assert!(closed_by_peer(&mut stream));
}
