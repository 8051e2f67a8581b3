//! A scripted upstream: it answers the router's probes like a healthy node and leaves every other request to the
//! test, which writes exactly the bytes, delays, cuts and resets it wants.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{LIMIT, eventually};

/// What a stub pretends to be when it is probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `/api/version`, `/api/tags`, `/api/ps`, `/api/show` and `/v1/models` answer for it.
    Ollama,
    /// `/health`, `/props`, `/slots` and `/v1/models` answer for it.
    LlamaServer,
    /// `/v1/models` answers for it.
    OpenAi,
    /// Nothing answers for it: the test's handler sees every request.
    Bare,
}

/// A request as the stub received it.
#[derive(Debug, Clone)]
pub struct Request {
    /// Method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Header fields in order, values trimmed.
    pub headers: Vec<(String, String)>,
    /// The head as it came, with its empty line.
    pub head: Vec<u8>,
    /// The body without its transfer coding.
    pub body: Vec<u8>,
    /// When it was whole.
    pub at: Instant,
    /// Which of the stub's connections brought it, counted from 0.
    pub connection: u64,
}

impl Request {
    /// The path without the query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or("")
    }

    /// The first field of that name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The body as JSON; panics when it is none.
    pub fn json(&self) -> Value {
        super::json(&self.body)
    }
}

/// The router's end of a connection, in the hands of the test's handler.
pub struct Peer {
    stream: TcpStream,
    open: bool,
}

impl Peer {
    /// Writes `bytes` at once; false when the router has gone.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.open = self.open && self.stream.write_all(bytes).is_ok();
        self.open
    }

    /// Writes each of `pieces` with a pause after it; false when the router has gone.
    pub fn send_slowly(&mut self, pieces: &[Vec<u8>], pause: Duration) -> bool {
        pieces.iter().all(|piece| {
            let sent = self.send(piece);
            std::thread::sleep(pause);
            sent
        })
    }

    /// Ends the connection with FIN.
    pub fn close(&mut self) {
        self.open = false;
        drop(self.stream.shutdown(Shutdown::Both));
    }

    /// Ends the connection with RST, as soon as the handler returns.
    pub fn reset(&mut self) {
        self.open = false;
        rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO))
            .expect("a socket of ours");
    }

    /// Says nothing and waits until the router closes; when it did, or `None` after `limit`.
    pub fn wait_gone(&mut self, limit: Duration) -> Option<Instant> {
        let deadline = Instant::now() + limit;
        let mut byte = [0; 512];
        loop {
            let left = deadline.checked_duration_since(Instant::now())?;
            let slice = left.clamp(Duration::from_millis(1), LIMIT);
            self.stream.set_read_timeout(Some(slice)).ok()?;
            match self.stream.read(&mut byte) {
                Ok(n) if n > 0 => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                _ => {
                    self.open = false;
                    return Some(Instant::now());
                }
            }
        }
    }
}

type Handler = dyn Fn(&Request, &mut Peer) + Send + Sync;

struct Shared {
    kind: Kind,
    models: Mutex<Vec<String>>,
    /// What is in memory, with its context.
    loaded: Mutex<Vec<(String, u64)>>,
    /// Bytes of a loaded model, without context and for each token of it.
    sizes: Mutex<(u64, u64)>,
    /// How a load of the router's own goes: its time, and the status it ends with.
    load: Mutex<(Duration, u16)>,
    probe_status: Mutex<Option<u16>>,
    requests: Mutex<Vec<Request>>,
    probes: Mutex<Vec<Request>>,
    connections: Mutex<HashMap<u64, TcpStream>>,
    accepted: AtomicU64,
    stop: AtomicBool,
    handler: Box<Handler>,
    /// A path of which it says nothing, ever.
    silent: Mutex<Option<String>>,
    /// Documents that take the place of a probe's usual answer, by path.
    documents: Mutex<HashMap<String, Value>>,
    /// Paths of request forms beside the kind's own that it says to have when it is asked with an empty body.
    forms: Mutex<Vec<String>>,
}

/// A running stub; gone, with all its connections, on drop.
pub struct Stub {
    /// Where it listens.
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<std::thread::JoinHandle<()>>,
}

impl Stub {
    /// A node of `kind` that offers `models`; `handler` answers whatever is no probe.
    pub fn start(
        kind: Kind,
        models: &[&str],
        handler: impl Fn(&Request, &mut Peer) + Send + Sync + 'static,
    ) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), kind, models, handler)
    }

    /// The same at a given address, where a stub may have been killed before.
    pub fn start_at(
        addr: SocketAddr,
        kind: Kind,
        models: &[&str],
        handler: impl Fn(&Request, &mut Peer) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(addr).expect("a loopback port");
        let addr = listener.local_addr().expect("a bound socket");
        let shared = Arc::new(Shared {
            kind,
            models: Mutex::new(models.iter().map(|&name| name.to_owned()).collect()),
            loaded: Mutex::default(),
            sizes: Mutex::new((1_000_000, 0)),
            load: Mutex::new((Duration::ZERO, 200)),
            probe_status: Mutex::new(None),
            requests: Mutex::default(),
            probes: Mutex::default(),
            connections: Mutex::default(),
            accepted: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            handler: Box::new(handler),
            silent: Mutex::default(),
            documents: Mutex::default(),
            forms: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        let listener = std::thread::spawn(move || accept(&listener, &accepting));
        Self {
            addr,
            shared,
            listener: Some(listener),
        }
    }

    /// An Ollama with `models`.
    pub fn ollama(
        models: &[&str],
        handler: impl Fn(&Request, &mut Peer) + Send + Sync + 'static,
    ) -> Self {
        Self::start(Kind::Ollama, models, handler)
    }

    /// An Ollama whose `m` is described as the published Llama 3.1 8B in `Q4_K_M`, and takes what that takes.
    pub fn llama_8b() -> Self {
        let bytes = super::gguf::published("llama-3.1-8b.q4_k_m");
        let stub = Self::ollama(&["m"], reply::healthy);
        let header = super::gguf::parsed(&bytes);
        stub.set_document("/api/show", super::gguf::shown(&header));
        let tag = json!({"name": "m:latest", "model": "m:latest", "digest": "d", "size": super::gguf::file_size(&bytes),
            "details": {"context_length": 131_072}, "capabilities": ["completion"]});
        stub.set_document("/api/tags", json!({"models": [tag]}));
        // Its weights and buffers, and 128 KiB of KV cache for each token.
        stub.set_sizes(4600 << 20, 128 << 10);
        stub
    }

    /// A llama-server with one model.
    pub fn llama_server(
        model: &str,
        handler: impl Fn(&Request, &mut Peer) + Send + Sync + 'static,
    ) -> Self {
        Self::start(Kind::LlamaServer, &[model], handler)
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The requests so far that were no probes.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The probes so far.
    pub fn probes(&self) -> Vec<Request> {
        self.shared.probes.lock().unwrap().clone()
    }

    /// Waits for the `n`th request (from 1) and returns it; panics after [`LIMIT`].
    pub fn wait_request(&self, n: usize) -> Request {
        let arrived = eventually(LIMIT, || self.shared.requests.lock().unwrap().len() >= n);
        assert!(arrived, "only {} requests came", self.requests().len());
        self.requests().swap_remove(n - 1)
    }

    /// How many connections are open now.
    pub fn open_connections(&self) -> usize {
        self.shared.connections.lock().unwrap().len()
    }

    /// From now on every probe is answered with this status and an error (`None`: healthy again).
    pub fn set_probe_status(&self, status: Option<u16>) {
        *self.shared.probe_status.lock().unwrap() = status;
    }

    /// From now on it offers these models.
    pub fn set_models(&self, models: &[&str]) {
        *self.shared.models.lock().unwrap() = models.iter().map(|&name| name.to_owned()).collect();
    }

    /// From now on `/api/ps` says that these models are in memory, all of them on a GPU.
    pub fn set_loaded(&self, models: &[&str]) {
        *self.shared.loaded.lock().unwrap() = models
            .iter()
            .map(|&name| (name.to_owned(), CONTEXT))
            .collect();
    }

    /// From now on a loaded model takes so many bytes, and so many more for each token of its context.
    pub fn set_sizes(&self, bytes: u64, per_token: u64) {
        *self.shared.sizes.lock().unwrap() = (bytes, per_token);
    }

    /// From now on a load takes so long and ends with this status. An Ollama stub answers the router's own loads itself.
    pub fn set_load(&self, time: Duration, status: u16) {
        *self.shared.load.lock().unwrap() = (time, status);
    }

    /// The loads that the router asked for so far, unloads left out.
    pub fn loads(&self) -> Vec<Request> {
        let of_load =
            |request: &Request| is_own_load(request) && request.json()["keep_alive"] != json!(0);
        self.probes().into_iter().filter(of_load).collect()
    }

    /// From now on a probe of `path` is answered with this document.
    pub fn set_document(&self, path: &str, document: Value) {
        let mut documents = self.shared.documents.lock().unwrap();
        documents.insert(path.to_owned(), document);
    }

    /// From now on whoever asks for that path waits in vain.
    pub fn set_silent(&self, path: &str) {
        *self.shared.silent.lock().unwrap() = Some(path.to_owned());
    }

    /// It has these request forms too (`/v1/messages`, …); the handler answers the requests. To be said before the router asks.
    pub fn set_forms(&self, paths: &[&str]) {
        *self.shared.forms.lock().unwrap() = paths.iter().map(|&path| path.to_owned()).collect();
    }

    /// Dies: the port refuses and every connection is closed when this returns.
    pub fn kill(&mut self) {
        let Some(listener) = self.listener.take() else {
            return;
        };
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the accept loop, which then sees the flag.
        drop(TcpStream::connect(self.addr));
        drop(listener.join());
        for (_, stream) in self.shared.connections.lock().unwrap().drain() {
            drop(stream.shutdown(Shutdown::Both));
        }
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port on which connections are refused for as long as this lives: bound, so that nobody else gets it, but not
/// listening.
pub struct RefusedPort {
    /// The address that refuses.
    pub addr: SocketAddr,
    _bound: OwnedFd,
}

impl RefusedPort {
    /// Takes a free port.
    pub fn new() -> Self {
        use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
        let fd = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a socket");
        bind(&fd, &SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("a loopback port");
        let addr = getsockname(&fd)
            .ok()
            .and_then(|name| SocketAddr::try_from(name).ok())
            .expect("a bound socket");
        Self { addr, _bound: fd }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stop.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let id = shared.accepted.fetch_add(1, Ordering::SeqCst);
        let Ok(copy) = stream.try_clone() else {
            continue;
        };
        shared.connections.lock().unwrap().insert(id, copy);
        let shared = Arc::clone(shared);
        std::thread::spawn(move || {
            let mut peer = Peer { stream, open: true };
            serve(id, &mut peer, &shared);
            // Both descriptors must go for the router to see the end.
            shared.connections.lock().unwrap().remove(&id);
        });
    }
}

fn serve(id: u64, peer: &mut Peer, shared: &Shared) {
    let mut buffer = Vec::new();
    if peer.stream.set_nodelay(true).is_err() {
        return;
    }
    while peer.open {
        // A handler may have left a limit behind.
        if peer.stream.set_read_timeout(None).is_err() {
            return;
        }
        let Some(request) = read_request(id, &mut peer.stream, &mut buffer) else {
            return;
        };
        if shared.silent.lock().unwrap().as_deref() == Some(request.path()) {
            shared.probes.lock().unwrap().push(request);
            peer.wait_gone(4 * LIMIT);
        } else if let Some(answer) = answer_to_probe(shared, &request) {
            shared.probes.lock().unwrap().push(request);
            peer.send(&answer);
        } else {
            shared.requests.lock().unwrap().push(request.clone());
            (shared.handler)(&request, peer);
        }
    }
}

fn read_request(id: u64, stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Request> {
    let end = loop {
        if let Some(at) = find(buffer, b"\r\n\r\n") {
            break at + 4;
        }
        more(stream, buffer)?;
    };
    let head: Vec<u8> = buffer.drain(..end).collect();
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut lines = text.trim_end().split("\r\n");
    let mut words = lines.next()?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut request = Request {
        method,
        target,
        headers,
        head,
        body: Vec::new(),
        at: Instant::now(),
        connection: id,
    };
    let chunked = request.header("transfer-encoding").is_some();
    let length = request
        .header("content-length")
        .map(|value| value.parse::<usize>().expect("digits in Content-Length"));
    if let Some(length) = length {
        while buffer.len() < length {
            more(stream, buffer)?;
        }
        request.body = buffer.drain(..length).collect();
    } else if chunked {
        request.body = read_chunked(stream, buffer)?;
    }
    request.at = Instant::now();
    Some(request)
}

fn read_chunked(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = loop {
            if let Some(at) = find(buffer, b"\r\n") {
                break buffer.drain(..at + 2).collect::<Vec<u8>>();
            }
            more(stream, buffer)?;
        };
        let size = usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16).ok()?;
        while buffer.len() < size + 2 {
            more(stream, buffer)?;
        }
        body.extend(buffer.drain(..size));
        buffer.drain(..2);
        if size == 0 {
            return Some(body);
        }
    }
}

fn more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let mut piece = [0; 16 * 1024];
    match stream.read(&mut piece) {
        Ok(n) if n > 0 => {
            buffer.extend_from_slice(&piece[..n]);
            Some(())
        }
        _ => None,
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// Context of what is loaded without a wish for one.
const CONTEXT: u64 = 4096;

/// Whether the router asks on its own account for a load or an unload.
fn is_own_load(request: &Request) -> bool {
    let own = request
        .header("user-agent")
        .is_some_and(|agent| agent.starts_with("gpurouter/"));
    own && request.method == "POST" && ["/api/generate", "/api/embed"].contains(&request.path())
}

/// The answer to the router's own load or unload.
fn load(shared: &Shared, request: &Request) -> Vec<u8> {
    let body = request.json();
    let name = body["model"].as_str().unwrap_or_default().to_owned();
    let (time, status) = *shared.load.lock().unwrap();
    let unload = body["keep_alive"] == json!(0);
    if !unload {
        std::thread::sleep(time);
        if status != 200 {
            return reply::json(status, &json!({"error": "the test says so"}));
        }
    }
    let mut loaded = shared.loaded.lock().unwrap();
    loaded.retain(|(other, _)| *other != name);
    if !unload {
        let context = body["options"]["num_ctx"].as_u64().unwrap_or(CONTEXT);
        loaded.push((name.clone(), context));
    }
    reply::json(
        200,
        &json!({"model": name, "created_at": "2026-11-01T00:00:00Z", "response": "", "done": true,
                "done_reason": if unload { "unload" } else { "load" }}),
    )
}

/// The answer to whatever a monitor asks; a route that the kind does not have is 404.
fn answer_to_probe(shared: &Shared, request: &Request) -> Option<Vec<u8>> {
    const LOOKED_AT: [&str; 9] = [
        "/api/version",
        "/api/tags",
        "/api/ps",
        "/health",
        "/props",
        "/slots",
        "/metrics",
        "/version",
        "/v1/models",
    ];
    if shared.kind == Kind::Ollama && is_own_load(request) {
        return Some(load(shared, request));
    }
    let answer = special(shared, request).or_else(|| probe(shared, request));
    let asked_in_vain =
        shared.kind != Kind::Bare && request.method == "GET" && LOOKED_AT.contains(&request.path());
    answer.or_else(|| asked_in_vain.then(|| reply::text(404, "404 page not found")))
}

/// The answer to a probe of which the test has said something, or of a request form (asked with an empty body).
fn special(shared: &Shared, request: &Request) -> Option<Vec<u8>> {
    if shared.kind == Kind::Bare {
        return None;
    }
    let path = request.path();
    if request.method == "POST" && request.body.is_empty() && path.starts_with("/v1/") {
        let has = shared.forms.lock().unwrap().iter().any(|form| form == path);
        let error = json!({"error": {"message": "missing request body"}});
        return Some(reply::json(if has { 400 } else { 404 }, &error));
    }
    if request.method != "GET" && path != "/api/show" {
        return None;
    }
    let documents = shared.documents.lock().unwrap();
    documents
        .get(path)
        .map(|document| reply::json(200, document))
}

/// The answer of a healthy node of the stub's kind, when the request is one that a monitor makes.
fn probe(shared: &Shared, request: &Request) -> Option<Vec<u8>> {
    let models = shared.models.lock().unwrap().clone();
    let route = (request.method.as_str(), request.path());
    let answer = match (shared.kind, route) {
        (Kind::Bare, _) => return None,
        (Kind::Ollama, ("GET" | "HEAD", "/")) => {
            return Some(reply::text(200, "Ollama is running"));
        }
        (Kind::Ollama, ("GET", "/api/version")) => json!({"version": "0.32.15"}),
        (Kind::Ollama, ("GET", "/api/tags")) => {
            json!({"models": models.iter().map(|name| tag(name)).collect::<Vec<_>>()})
        }
        (Kind::Ollama, ("GET", "/api/ps")) => {
            let (loaded, (bytes, per_token)) =
                (shared.loaded.lock().unwrap(), *shared.sizes.lock().unwrap());
            let entry = |(name, context): &(String, u64)| {
                in_memory(name, *context, bytes + per_token * context)
            };
            json!({"models": loaded.iter().map(entry).collect::<Vec<_>>()})
        }
        (Kind::Ollama, ("POST", "/api/show")) => {
            let wanted = request.json();
            let wanted = wanted
                .get("model")
                .or_else(|| wanted.get("name"))?
                .as_str()?;
            let known = models
                .iter()
                .any(|name| name.trim_end_matches(":latest") == wanted.trim_end_matches(":latest"));
            if !known {
                let error = format!("model '{wanted}' not found");
                return Some(reply::json(404, &json!({ "error": error })));
            }
            json!({"details": details(), "capabilities": ["completion"],
                   "model_info": {"general.architecture": "llama", "llama.context_length": 8192}})
        }
        (Kind::LlamaServer, ("GET", "/health")) => json!({"status": "ok"}),
        (Kind::LlamaServer, ("GET", "/props")) => {
            json!({"default_generation_settings": {"n_ctx": 8192}, "total_slots": 4,
                   "model_alias": models.first(), "build_info": "b11669-stub"})
        }
        (Kind::LlamaServer, ("GET", "/slots")) => {
            let slot = |id| json!({"id": id, "n_ctx": 8192, "is_processing": false});
            json!([slot(0), slot(1), slot(2), slot(3)])
        }
        (_, ("GET", "/v1/models")) => {
            let owner = match shared.kind {
                Kind::LlamaServer => "llamacpp",
                Kind::Ollama => "library",
                _ => "stub",
            };
            let model = |name| json!({"id": name, "object": "model", "created": 1_700_000_000, "owned_by": owner});
            json!({"object": "list", "data": models.iter().map(model).collect::<Vec<_>>()})
        }
        _ => return None,
    };
    Some(match *shared.probe_status.lock().unwrap() {
        Some(status) => reply::json(status, &json!({"error": "the test says so"})),
        None => reply::json(200, &answer),
    })
}

fn details() -> Value {
    json!({"parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"],
           "parameter_size": "1B", "quantization_level": "F16", "context_length": 8192})
}

fn tag(name: &str) -> Value {
    let digest: u64 = name
        .bytes()
        .fold(7, |sum, byte| sum * 31 % 0xffff_ffff + u64::from(byte));
    json!({"name": name, "model": name, "modified_at": "2026-11-01T00:00:00Z", "size": 1_000_000,
           "digest": format!("{digest:064x}"), "details": details(), "capabilities": ["completion"]})
}

fn in_memory(name: &str, context: u64, bytes: u64) -> Value {
    let mut entry = tag(name);
    (entry["size"], entry["size_vram"]) = (json!(bytes), json!(bytes));
    entry["context_length"] = json!(context);
    entry["expires_at"] = json!("2099-01-01T00:00:00Z");
    entry
}

/// Bytes of answers.
pub mod reply {
    use serde_json::{Value, json};

    /// An answer with a JSON document and its length.
    pub fn json(status: u16, document: &Value) -> Vec<u8> {
        whole(
            status,
            "application/json; charset=utf-8",
            &document.to_string(),
        )
    }

    /// An answer with plain text and its length.
    pub fn text(status: u16, text: &str) -> Vec<u8> {
        whole(status, "text/plain; charset=utf-8", text)
    }

    fn whole(status: u16, content_type: &str, body: &str) -> Vec<u8> {
        format!(
            "HTTP/1.1 {status} Status\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }

    /// The head of a chunked answer.
    pub fn chunked_head(content_type: &str) -> Vec<u8> {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        .into_bytes()
    }

    /// One chunk.
    pub fn chunk(bytes: &[u8]) -> Vec<u8> {
        let mut out = format!("{:x}\r\n", bytes.len()).into_bytes();
        out.extend_from_slice(bytes);
        out.extend_from_slice(b"\r\n");
        out
    }

    /// The end of a chunked answer.
    pub fn last_chunk() -> Vec<u8> {
        b"0\r\n\r\n".to_vec()
    }

    /// A whole `/api/chat` stream: its head, one piece per token, the line with `done`, the end.
    pub fn ollama_chat(model: &str, tokens: &[&str]) -> Vec<Vec<u8>> {
        let line = |content: &str, done: bool| {
            let mut document = json!({"model": model, "created_at": "2026-11-01T00:00:00Z",
                "message": {"role": "assistant", "content": content}, "done": done});
            if done {
                document["done_reason"] = json!("stop");
                for (key, value) in [
                    ("total_duration", 5_000_000_u64),
                    ("load_duration", 1_000_000),
                    ("prompt_eval_count", 10),
                    ("prompt_eval_duration", 1_000_000),
                    ("eval_count", tokens.len() as u64),
                    ("eval_duration", 3_000_000),
                ] {
                    document[key] = json!(value);
                }
            }
            chunk(format!("{document}\n").as_bytes())
        };
        let mut pieces = vec![chunked_head("application/x-ndjson")];
        pieces.extend(tokens.iter().map(|token| line(token, false)));
        pieces.push(line("", true));
        pieces.push(last_chunk());
        pieces
    }

    /// A whole answer of `/api/chat`.
    pub fn ollama_whole(model: &str, content: &str) -> Value {
        json!({"model": model, "created_at": "2026-11-01T00:00:00Z",
               "message": {"role": "assistant", "content": content}, "done": true, "done_reason": "stop",
               "total_duration": 5_000_000, "load_duration": 1_000_000, "prompt_eval_count": 10,
               "prompt_eval_duration": 1_000_000, "eval_count": 3, "eval_duration": 3_000_000})
    }

    /// A whole answer of `/v1/chat/completions`.
    pub fn openai_whole(model: &str, content: &str) -> Value {
        json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1_700_000_000, "model": model,
               "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
               "usage": {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13}})
    }

    /// What a healthy node answers to a request for an answer in Ollama's or OpenAI's form; 404 to anything else.
    pub fn healthy(request: &super::Request, peer: &mut super::Peer) {
        const TOKENS: [&str; 3] = ["one ", "two ", "three"];
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let model = body["model"].as_str().unwrap_or("");
        let stream = body["stream"].as_bool();
        let whole = |document: Value| vec![json(200, &document)];
        let pieces = match request.path() {
            "/api/chat" if stream != Some(false) => ollama_chat(model, &TOKENS),
            "/api/chat" => whole(ollama_whole(model, "one two three")),
            "/api/generate" => {
                let mut document = ollama_whole(model, "");
                document["response"] = json!("one two three");
                whole(document)
            }
            "/v1/chat/completions" if stream == Some(true) => openai_chat(model, &TOKENS),
            "/v1/chat/completions" => whole(openai_whole(model, "one two three")),
            _ => vec![text(404, "404 page not found")],
        };
        peer.send(&pieces.concat());
    }

    /// A whole `/v1/chat/completions` stream: its head, one piece per event, `[DONE]`, the end.
    pub fn openai_chat(model: &str, tokens: &[&str]) -> Vec<Vec<u8>> {
        let event = |delta: Value, finish: Value| {
            let document = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000,
                "model": model, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
            chunk(format!("data: {document}\n\n").as_bytes())
        };
        let mut pieces = vec![
            chunked_head("text/event-stream"),
            event(json!({"role": "assistant", "content": null}), Value::Null),
        ];
        pieces.extend(
            tokens
                .iter()
                .map(|token| event(json!({ "content": token }), Value::Null)),
        );
        pieces.push(event(json!({}), json!("stop")));
        pieces.push(chunk(b"data: [DONE]\n\n"));
        pieces.push(last_chunk());
        pieces
    }
}
