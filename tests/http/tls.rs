//! TLS upstreams: the same code path, and truncation that the record layer hides.

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::Arc,
    time::Duration,
};

use gpurouter::http::{
    Watch,
    client::{Client, Origin, ReadError, SendError},
};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

use crate::support::{PATIENCE, body, client, deadlines, get, post};

type Stream = StreamOwned<ServerConnection, std::net::TcpStream>;

/// A TLS upstream with a certificate for `localhost`, and a client that trusts it.
fn tls(script: impl Fn(usize, Stream) + Send + Sync + 'static) -> (Origin, Client) {
    let issued = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(issued.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![issued.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let mut roots = RootCertStore::empty();
    roots.add(issued.cert.der().clone()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = Arc::new(script);
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let stream = stream.unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            let script = Arc::clone(&script);
            std::thread::spawn(move || script(number, StreamOwned::new(session, stream)));
        }
    });
    let origin = Origin::parse(&format!("https://localhost:{port}")).unwrap();
    (origin, Client::with_roots(roots).unwrap())
}

fn head(stream: &mut Stream) -> Option<String> {
    let mut all = Vec::new();
    let mut byte = [0];
    while !all.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => all.push(byte[0]),
            _ => return None,
        }
    }
    Some(String::from_utf8(all).unwrap())
}

#[test]
fn requests_go_over_one_kept_session() {
    let (origin, client) = tls(|number, mut stream| {
        while head(&mut stream).is_some() {
            let text = number.to_string();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}",
                text.len()
            );
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    for _ in 0..3 {
        let mut incoming = client.send(&origin, get(), &deadlines(), None).unwrap();
        assert_eq!(body(&mut incoming).unwrap(), "0");
    }
}

#[test]
fn large_bodies_pass_in_both_directions_and_pieces_are_not_held_back() {
    const SIZE: usize = 3_000_000;
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let (origin, client) = tls(move |_, mut stream| {
        head(&mut stream).unwrap();
        let mut sent = vec![0; SIZE];
        stream.read_exact(&mut sent).unwrap();
        let start = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n";
        stream.write_all(start.as_bytes()).unwrap();
        wait.lock().unwrap().recv().unwrap();
        // Two records in one segment: the second must not wait for the socket.
        stream.conn.writer().write_all(b"1\r\nc\r\n").unwrap();
        stream.conn.writer().write_all(b"1\r\nd\r\n").unwrap();
        stream.flush().unwrap();
        wait.lock().unwrap().recv().unwrap();
        write!(stream, "{SIZE:x}\r\n").unwrap();
        stream.write_all(&sent).unwrap();
        stream.write_all(b"\r\n0\r\n\r\n").unwrap();
    });
    let large = vec![b'x'; SIZE];
    let mut incoming = client
        .send(&origin, post(&large), &deadlines(), None)
        .unwrap();
    assert_eq!(incoming.next(None).unwrap(), Some(&b"ab"[..]));
    go.send(()).unwrap();
    assert_eq!(incoming.next(None).unwrap(), Some(&b"c"[..]));
    assert_eq!(incoming.next(None).unwrap(), Some(&b"d"[..]));
    go.send(()).unwrap();
    let rest = incoming.read_all(SIZE, None).unwrap();
    assert_eq!(rest, large);
}

#[test]
fn an_end_without_the_closing_message_is_a_cut() {
    for (notify, framing) in [
        (false, "Content-Length: 9\r\n"),
        (true, "Content-Length: 9\r\n"),
        (false, ""),
        (true, ""),
    ] {
        let (origin, client) = tls(move |_, mut stream| {
            head(&mut stream).unwrap();
            write!(stream, "HTTP/1.1 200 OK\r\n{framing}\r\nhello").unwrap();
            if notify {
                stream.conn.send_close_notify();
            }
            stream.flush().unwrap();
            stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
            std::thread::sleep(Duration::from_millis(100));
        });
        let mut incoming = client.send(&origin, get(), &deadlines(), None).unwrap();
        let read = body(&mut incoming);
        if notify && framing.is_empty() {
            assert_eq!(read.unwrap(), "hello");
        } else {
            assert!(
                matches!(read, Err(ReadError::Cut)),
                "{notify} {framing} {read:?}"
            );
        }
    }
}

#[test]
fn an_untrusted_certificate_and_a_plain_server_are_refused() {
    let (origin, _) = tls(|_, mut stream| {
        let _ = head(&mut stream);
    });
    let error = client().send(&origin, get(), &deadlines(), None);
    assert!(matches!(error, Err(SendError::Tls(_))), "{error:?}");
    let plain = crate::support::answering("HTTP/1.1 400 Bad Request\r\n\r\n");
    let address = plain.origin.to_string().replace("http:", "https:");
    let error = client().send(&Origin::parse(&address).unwrap(), get(), &deadlines(), None);
    assert!(matches!(error, Err(SendError::Tls(_))), "{error:?}");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    let origin = Origin::parse(&address).unwrap();
    let mut limits = deadlines();
    limits.connect = Duration::from_millis(50);
    let error = client().send(&origin, get(), &limits, None);
    assert!(matches!(error, Err(SendError::ConnectTimeout)), "{error:?}");
}

#[test]
fn a_client_that_leaves_during_a_silent_tls_answer_is_noticed() {
    let (end, ended) = std::sync::mpsc::channel();
    let (origin, client) = tls(move |_, mut stream| {
        head(&mut stream).unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .unwrap();
        end.send(head(&mut stream)).unwrap();
    });
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    let watch = Watch::new(&near);
    let mut incoming = client
        .send(&origin, get(), &deadlines(), Some(watch))
        .unwrap();
    drop(far);
    assert!(matches!(
        incoming.next(Some(watch)),
        Err(ReadError::ClientGone)
    ));
    assert_eq!(ended.recv_timeout(PATIENCE), Ok(None));
}
