//! A server with a closure for a handler, raw clients, and scripted upstreams.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use gpurouter::http::{
    client::{Client, Deadlines, Incoming, Origin, Outgoing, OutgoingBody, SendError},
    server::{Drained, Handler, Limits, Refusal, Refused, Reply, Request, Server, Stopper},
};

/// Patience of a test for something that must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The shortest useful answer of an upstream.
pub const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

pub struct Answering<F>(pub F);

impl<F: Fn(&mut Request<'_>, &mut Reply<'_>) + Send + Sync + 'static> Handler for Answering<F> {
    fn handle(&self, request: &mut Request<'_>, reply: &mut Reply<'_>) {
        (self.0)(request, reply);
    }

    fn refuse(&self, refusal: &Refusal, target: Option<&str>) -> Refused {
        Refused {
            content_type: "text/plain",
            body: format!("{} {}", refusal.message(), target.unwrap_or("?")).into_bytes(),
        }
    }
}

/// A running server; stopped on drop.
pub struct Running {
    pub address: SocketAddr,
    pub stopper: Stopper,
    thread: Option<JoinHandle<Drained>>,
}

pub fn serve(
    limits: Limits,
    handle: impl Fn(&mut Request<'_>, &mut Reply<'_>) + Send + Sync + 'static,
) -> Running {
    let server = Server::bind("127.0.0.1:0", limits).unwrap();
    let (address, stopper) = (server.local_addr(), server.stopper());
    let thread = std::thread::spawn(move || server.run(Arc::new(Answering(handle))).unwrap());
    Running {
        address,
        stopper,
        thread: Some(thread),
    }
}

impl Running {
    pub fn connect(&self) -> TcpStream {
        connect(self.address)
    }

    /// Sends `bytes` on a new connection and returns all that comes until the server closes.
    pub fn talk(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes.as_ref()).unwrap();
        text(&mut stream)
    }

    pub fn finish(mut self) -> Drained {
        self.stopper.stop();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopper.stop();
        if let Some(thread) = self.thread.take()
            && !std::thread::panicking()
        {
            thread.join().unwrap();
        }
    }
}

pub fn limits() -> Limits {
    Limits {
        drain: Duration::from_secs(5),
        ..Limits::default()
    }
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Everything until the end of the stream, which must be a FIN.
pub fn text(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    String::from_utf8(all).unwrap()
}

/// Reads until `end` was seen.
pub fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut all = Vec::new();
    let mut byte = [0];
    while !all.ends_with(end.as_bytes()) {
        match stream.read(&mut byte) {
            Ok(1) => all.push(byte[0]),
            other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&all)),
        }
    }
    String::from_utf8(all).unwrap()
}

pub fn status(answer: &str) -> &str {
    answer.get(9..12).unwrap_or(answer)
}

/// Waits for a condition that another thread brings about.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// An upstream that treats each connection with `script`, given its number.
pub struct Upstream {
    pub origin: Origin,
    /// One message per connection when its script has ended.
    pub ended: mpsc::Receiver<usize>,
}

pub fn upstream(script: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> Upstream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let origin = Origin::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let (done, ended) = mpsc::channel();
    let script = Arc::new(script);
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let stream = stream.unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let (script, done) = (Arc::clone(&script), done.clone());
            std::thread::spawn(move || {
                script(number, stream);
                let _ = done.send(number);
            });
        }
    });
    Upstream { origin, ended }
}

/// An upstream that reads once and answers with `bytes`, then closes.
pub fn answering(bytes: impl Into<Vec<u8>>) -> Upstream {
    let bytes = bytes.into();
    upstream(move |_, mut stream| {
        // A TLS hello has no empty line.
        let mut start = [0; 4096];
        assert!(stream.read(&mut start).unwrap() > 0);
        stream.write_all(&bytes).unwrap();
        close(&stream);
    })
}

/// Closes so that what was written arrives.
pub fn close(stream: &TcpStream) {
    let _ = stream.shutdown(Shutdown::Write);
    let mut sink = [0; 4096];
    let mut stream = stream;
    while matches!(stream.read(&mut sink), Ok(1..)) {}
}

/// Waits until the other side closes; true if it did so by itself within the time-out of the socket.
pub fn closed_by_peer(stream: &mut TcpStream) -> bool {
    let mut sink = [0; 4096];
    loop {
        match stream.read(&mut sink) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

pub fn deadlines() -> Deadlines {
    Deadlines {
        connect: PATIENCE,
        first_byte: Some(PATIENCE),
        between: Some(PATIENCE),
        total: None,
    }
}

pub fn client() -> Client {
    Client::new().unwrap()
}

pub fn get<'a>() -> Outgoing<'a> {
    Outgoing {
        method: "GET",
        target: "/",
        headers: &[],
        body: OutgoingBody::Empty,
    }
}

pub fn post(body: &[u8]) -> Outgoing<'_> {
    Outgoing {
        method: "POST",
        target: "/api/chat",
        headers: &[("Content-Type", b"application/json")],
        body: OutgoingBody::Bytes(body),
    }
}

pub fn send(client: &Client, upstream: &Upstream) -> Result<Incoming, SendError> {
    client.send(&upstream.origin, get(), &deadlines(), None)
}

pub fn body(incoming: &mut Incoming) -> Result<String, gpurouter::http::client::ReadError> {
    let bytes = incoming.read_all(1 << 20, None)?;
    Ok(String::from_utf8(bytes).unwrap())
}
