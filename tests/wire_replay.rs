//! Every recorded exchange of real servers (`tests/data/wire`), played through the real binary: whole it comes out byte for byte, cut at any
//! byte it comes out whole, as the dialect's error, or as its complete events followed by that error in band.

mod common;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use common::client::{Connection, End, Response};
use common::{Kind, Peer, Request, Router, Stub, reply};

/// Cuts per answer besides its head and its end.
const SPREAD: usize = 400;
/// Bytes at the end of an answer that are cut one by one.
const TAIL: usize = 64;
/// Clients at the same time.
const CLIENTS: usize = 8;

/// Recordings that are not one request with one whole answer, and why.
const SKIPPED: [(&str, &str); 6] = [
    (
        "loading/while_busy.txt",
        "several probes in one file; the monitor's tests use them",
    ),
    (
        "loading/while_loading.txt",
        "several probes in one file; the monitor's tests use them",
    ),
    (
        "ollama_busy_max_queue_1.txt",
        "shortened, and without requests",
    ),
    ("ollama_create_via_api.txt", "a transcript, not an exchange"),
    ("ollama_host_header_check.txt", "a table of statuses"),
    (
        "ollama_runner_killed_mid_stream.txt",
        "shortened; hostile.rs sends such an error line",
    ),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Ollama,
    OpenAi,
    Anthropic,
}

/// One recorded request with its answer.
struct Exchange {
    name: String,
    method: String,
    target: String,
    origin: Option<String>,
    body: Vec<u8>,
    /// The answer as it came, framing included.
    raw: Vec<u8>,
    /// Where its body begins.
    head: usize,
    status: u16,
    content_type: Option<String>,
    chunked: bool,
    /// The body without its framing.
    payload: Vec<u8>,
}

impl Exchange {
    fn parse(name: &str, bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(b">>> REQUEST")?;
        let rest = &rest[rest.iter().position(|byte| *byte == b'\n')? + 1..];
        let (request_head, rest) = split_head(rest, b"")?;
        let mut words = request_head.first()?.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let length = value(&request_head, "content-length").map_or(0, |text| text.parse().unwrap());
        let marker = b"\n<<< RESPONSE";
        let at = rest
            .windows(marker.len())
            .position(|window| window == marker)?;
        // Very long prompts were shortened when they were recorded; the document is whole.
        let body = rest[..at].trim_ascii_end();
        let body = rest
            .get(..length)
            .filter(|_| length <= at)
            .unwrap_or(body)
            .to_vec();
        let rest = &rest[at + 1..];
        let rest = &rest[rest.iter().position(|byte| *byte == b'\n')? + 1..];
        let (mut head, rest) = split_head(rest, b"\\r\\n")?;
        let chunked = value(&head, "transfer-encoding").is_some();
        let rest = if chunked { rest } else { rest.trim_ascii_end() };
        if method != "HEAD" && !chunked {
            // Paths and names were replaced by shorter ones when they were recorded.
            for line in head
                .iter_mut()
                .filter(|line| line.to_ascii_lowercase().starts_with("content-length:"))
            {
                *line = format!("Content-Length: {}", rest.len());
            }
        }
        let mut raw = head
            .iter()
            .flat_map(|line| [line.as_bytes(), b"\r\n"].concat())
            .collect::<Vec<u8>>();
        raw.extend_from_slice(b"\r\n");
        let head_length = raw.len();
        raw.extend_from_slice(rest);
        let payload = payload_of(rest, chunked);
        let json =
            value(&head, "content-type").is_some_and(|kind| kind.starts_with("application/json"));
        let whole = if chunked {
            rest.ends_with(b"\r\n0\r\n\r\n") || rest == b"0\r\n\r\n"
        } else {
            !json || serde_json::from_slice::<Value>(&payload).is_ok()
        };
        whole.then(|| Self {
            name: name.to_owned(),
            method,
            target,
            origin: value(&request_head, "origin").map(str::to_owned),
            body,
            status: head[0].split(' ').nth(1).unwrap().parse().unwrap(),
            content_type: value(&head, "content-type").map(str::to_owned),
            head: head_length,
            raw,
            chunked,
            payload,
        })
    }

    fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    fn dialect(&self) -> Dialect {
        match self.path() {
            path if path.starts_with("/v1/messages") => Dialect::Anthropic,
            path if path.starts_with("/v1/") => Dialect::OpenAi,
            _ => Dialect::Ollama,
        }
    }

    fn streamed(&self) -> bool {
        let kind = self.content_type.as_deref().unwrap_or("");
        kind.starts_with("text/event-stream") || kind.starts_with("application/x-ndjson")
    }

    /// How many bytes of `payload` are complete lines or events.
    fn complete(&self, payload: &[u8]) -> usize {
        let mut end = 0;
        let mut empty = true;
        for (at, byte) in payload.iter().enumerate() {
            match byte {
                b'\n' if empty || self.dialect() == Dialect::Ollama => end = at + 1,
                b'\n' => empty = true,
                b'\r' => {}
                _ => empty = false,
            }
        }
        end
    }

    /// The bytes of the request, told which answer to give and where to cut it.
    fn request(&self, index: usize, cut: usize) -> Vec<u8> {
        let origin = self
            .origin
            .as_ref()
            .map_or(String::new(), |origin| format!("Origin: {origin}\r\n"));
        let mut bytes = format!(
            "{} {} HTTP/1.1\r\nHost: localhost\r\n{origin}X-Replay: {index} {cut}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.method,
            self.target,
            self.body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// Where the answer is cut: everywhere in its head and its end, and at so many places between.
    fn cuts(&self) -> Vec<usize> {
        let body = self.raw.len() - self.head;
        let step = (body / SPREAD).max(1);
        let mut cuts: Vec<usize> = (0..self.head).collect();
        cuts.extend((self.head..self.raw.len()).step_by(step));
        cuts.extend(self.raw.len().saturating_sub(TAIL).max(self.head)..self.raw.len());
        cuts.sort_unstable();
        cuts.dedup();
        cuts
    }
}

/// The lines before the one that is `end`, without the written-out line ends, and what follows.
fn split_head<'b>(bytes: &'b [u8], end: &[u8]) -> Option<(Vec<String>, &'b [u8])> {
    let mut lines = Vec::new();
    let mut rest = bytes;
    loop {
        let at = rest.iter().position(|byte| *byte == b'\n')?;
        let line = &rest[..at];
        rest = &rest[at + 1..];
        if line == end {
            return Some((lines, rest));
        }
        let line = line.strip_suffix(b"\\r\\n")?;
        lines.push(String::from_utf8(line.to_vec()).ok()?);
    }
}

fn value<'h>(head: &'h [String], name: &str) -> Option<&'h str> {
    head.iter().find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// The payload in the first bytes of a body, as far as they go.
fn payload_of(mut body: &[u8], chunked: bool) -> Vec<u8> {
    if !chunked {
        return body.to_vec();
    }
    let mut payload = Vec::new();
    while let Some(at) = body.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&body[..at]).unwrap(), 16).unwrap();
        let data = &body[at + 2..];
        payload.extend_from_slice(&data[..size.min(data.len())]);
        if size == 0 || data.len() < size + 2 {
            break;
        }
        body = &data[size + 2..];
    }
    payload
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/wire")
}

/// Every recorded exchange, by the kind of the server that gave it.
fn exchanges() -> Vec<(Kind, Vec<Exchange>)> {
    let mut found: BTreeMap<u8, Vec<Exchange>> = BTreeMap::new();
    let mut skipped = HashSet::new();
    for entry in files(&root()) {
        let name = entry
            .strip_prefix(root())
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        // The 404 of a node that lacks Ollama's API: the router answers in its place or translates.
        let lacking = name.contains("server/ollama_api_");
        if lacking || SKIPPED.iter().any(|(skip, _)| *skip == name) {
            skipped.insert(name);
            continue;
        }
        let exchange = Exchange::parse(&name, &std::fs::read(&entry).unwrap())
            .unwrap_or_else(|| panic!("{name} is no whole exchange; say why in SKIPPED"));
        let kind = match name.split('/').next().unwrap() {
            ollama if ollama.starts_with("ollama-") => 0,
            "llama-cpp-python-server" => 2,
            _ => 1,
        };
        found.entry(kind).or_default().push(exchange);
    }
    for (name, _) in SKIPPED {
        assert!(skipped.contains(name), "{name} is gone");
    }
    let kinds = [Kind::Ollama, Kind::LlamaServer, Kind::OpenAi];
    found
        .into_iter()
        .map(|(kind, exchanges)| (kinds[usize::from(kind)], exchanges))
        .collect()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The router in front of a node that gives the recorded answers.
struct Replay {
    exchanges: Arc<Vec<Exchange>>,
    /// Requests that reached the node.
    reached: Arc<AtomicUsize>,
    /// Requests whose body was not the recorded one.
    altered: Arc<Mutex<Vec<String>>>,
    _node: Stub,
    router: Router,
}

impl Replay {
    fn start(kind: Kind, exchanges: Vec<Exchange>) -> Self {
        let native: &[&str] = match kind {
            Kind::Ollama => &["/v1/messages", "/v1/responses"],
            Kind::LlamaServer => &["/v1/messages", "/v1/messages/count_tokens", "/v1/responses"],
            _ => &[],
        };
        Self::speaking(kind, native, exchanges)
    }

    /// In front of a node that speaks no other of the forms that not every server has.
    fn speaking(kind: Kind, native: &[&str], exchanges: Vec<Exchange>) -> Self {
        let models: HashSet<String> = exchanges
            .iter()
            .filter_map(named_model)
            .filter(|name| name != "nope")
            .collect();
        let models: Vec<&str> = models.iter().map(String::as_str).collect();
        let exchanges = Arc::new(exchanges);
        let reached = Arc::new(AtomicUsize::new(0));
        let altered = Arc::new(Mutex::new(Vec::new()));
        let (shown, counted, noted) = (
            Arc::clone(&exchanges),
            Arc::clone(&reached),
            Arc::clone(&altered),
        );
        let node = Stub::start(kind, &models, move |request: &Request, peer: &mut Peer| {
            let Some(replayed) = request.header("x-replay") else {
                // The router asks which other APIs the node speaks.
                peer.send(&reply::json(
                    404,
                    &json!({"error": {"message": "not found"}}),
                ));
                return;
            };
            let mut words = replayed.split(' ');
            let exchange = &shown[words.next().unwrap().parse::<usize>().unwrap()];
            let cut = words.next().unwrap().parse::<usize>().unwrap();
            counted.fetch_add(1, Ordering::SeqCst);
            if request.body != exchange.body || request.target != exchange.target {
                noted.lock().unwrap().push(exchange.name.clone());
            }
            peer.send(&exchange.raw[..cut.min(exchange.raw.len())]);
            peer.close();
        });
        if kind == Kind::Ollama {
            node.set_loaded(&models);
        }
        node.set_forms(native);
        let router = Router::over(&[node.url()]);
        Self {
            exchanges,
            reached,
            altered,
            _node: node,
            router,
        }
    }

    fn send(&self, connection: &mut Option<Connection>, index: usize, cut: usize) -> Response {
        let request = self.exchanges[index].request(index, cut);
        self.exchange(connection, &request)
    }

    /// Sends on the connection, or on a new one where it was closed.
    fn exchange(&self, connection: &mut Option<Connection>, request: &[u8]) -> Response {
        let open = connection.get_or_insert_with(|| Connection::open(self.router.addr).unwrap());
        let response = open.exchange(request);
        let closed = response
            .header("connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if closed || response.end != End::Complete {
            *connection = None;
        }
        response
    }
}

fn named_model(exchange: &Exchange) -> Option<String> {
    let body: Value = serde_json::from_slice(&exchange.body).ok()?;
    body.get("model")
        .or_else(|| body.get("source"))?
        .as_str()
        .map(str::to_owned)
}

/// Whether the router answers it without the node: lists, its own documents, and what it refuses.
fn answered_here(kind: Kind, exchange: &Exchange) -> bool {
    let model = named_model(exchange);
    let parsed: Option<Value> = serde_json::from_slice(&exchange.body).ok();
    match (exchange.method.as_str(), exchange.path()) {
        ("POST", "/v1/messages/count_tokens") => kind == Kind::OpenAi,
        ("POST", path) if path.starts_with("/v1/") || path.starts_with("/api/") => {
            path == "/api/show"
                || parsed.is_none()
                || model.as_deref() == Some("nope")
                || (model.is_none() && path.starts_with("/api/"))
        }
        ("DELETE", _) => model.as_deref() == Some("nope"),
        ("GET", "/v1/health") => false,
        _ => true,
    }
}

#[test]
fn whole_answers_come_out_byte_for_byte() {
    for (kind, exchanges) in exchanges() {
        let replay = Replay::start(kind, exchanges);
        for (index, exchange) in replay.exchanges.iter().enumerate() {
            let before = replay.reached.load(Ordering::SeqCst);
            let response = replay.send(&mut None, index, usize::MAX);
            let reached = replay.reached.load(Ordering::SeqCst) > before;
            let name = &exchange.name;
            assert_eq!(
                response.end,
                End::Complete,
                "{name}: {} {}",
                response.status_line,
                response.text()
            );
            assert_eq!(
                reached,
                !answered_here(kind, exchange),
                "{name} reached the node: {}",
                response.text()
            );
            if reached {
                passed_on(exchange, &response);
            } else {
                said_here(exchange, &response);
            }
        }
        let altered = replay.altered.lock().unwrap();
        assert!(
            altered.is_empty(),
            "requests that did not arrive as they were sent: {altered:?}"
        );
    }
}

/// An answer of the node: its status, its type and its bytes; a refusal that another node might have taken back in the same words.
fn passed_on(exchange: &Exchange, response: &Response) {
    let name = &exchange.name;
    if exchange.status >= 400 && response.body != exchange.payload {
        assert_eq!(
            response.status,
            exchange.status,
            "{name}: {}",
            response.text()
        );
        let recorded = message(&exchange.payload);
        let told = error_of(exchange.dialect(), &response.body)
            .unwrap_or_else(|| panic!("{name}: {}", response.text()));
        assert!(
            recorded.is_none_or(|recorded| told == recorded),
            "{name}: {told}"
        );
        return;
    }
    if exchange.streamed() && !exchange.terminated() {
        assert!(
            response.status >= 400 && error_of(exchange.dialect(), &response.body).is_some(),
            "{name}: {} {}",
            response.status_line,
            response.text()
        );
        return;
    }
    assert_eq!(response.status, exchange.status, "{name}");
    assert_eq!(
        response.header("content-type"),
        exchange.content_type.as_deref(),
        "{name}"
    );
    assert_eq!(
        response.text(),
        String::from_utf8_lossy(&exchange.payload),
        "{name}"
    );
    assert!(response.body == exchange.payload, "{name}");
}

/// An answer of the router's own: the recorded one by its meaning.
fn said_here(exchange: &Exchange, response: &Response) {
    let name = &exchange.name;
    let own = matches!(exchange.path(), "/health" | "/metrics");
    let foreign = !own
        && !exchange.path().starts_with("/api/")
        && !exchange.path().starts_with("/v1/")
        && exchange.path() != "/";
    if own {
        assert_eq!(response.status, 200, "{name}");
    } else if foreign {
        assert_eq!(response.status, 404, "{name}: a path of no API");
    } else if exchange.method == "OPTIONS" && exchange.status == 403 {
        assert_eq!(
            response.status, 403,
            "{name}: a preflight of a foreign origin"
        );
    } else if exchange.status >= 400 && exchange.method == "POST" && exchange.path() != "/api/show"
    {
        assert!(
            (400..500).contains(&response.status),
            "{name}: {}",
            response.text()
        );
        assert!(
            error_of(exchange.dialect(), &response.body).is_some(),
            "{name}: {}",
            response.text()
        );
    } else if exchange.status == 405 || exchange.status == 404 {
        // llama-server says 404 where the others say that the method is wrong.
        assert!(
            matches!(response.status, 404 | 405),
            "{name}: {}",
            response.text()
        );
    } else if exchange.status < 400 && exchange.method != "OPTIONS" && !exchange.payload.is_empty()
    {
        assert_eq!(response.status, 200, "{name}: {}", response.text());
        if exchange.path() == "/api/show" {
            // The recordings are shortened; the stub's own answer is short.
            let document = response.json();
            assert!(
                document["details"].is_object() && document["capabilities"].is_array(),
                "{name}: {document}"
            );
            return;
        }
        let Ok(recorded) = serde_json::from_slice::<Value>(&exchange.payload) else {
            assert_eq!(response.body, exchange.payload, "{name}");
            return;
        };
        same_form(name, &recorded, &response.json());
    }
}

/// Whether each field of the recorded document that every version has is there, with a value of the same kind.
fn same_form(name: &str, recorded: &Value, ours: &Value) {
    match (recorded, ours) {
        (Value::Object(recorded), Value::Object(ours)) => {
            // What a node tells about a model beyond these is its own.
            const OPTIONAL: [&str; 9] = [
                "modelfile",
                "template",
                "model_info",
                "tensors",
                "modified_at",
                "meta",
                "models",
                "license",
                "parameters",
            ];
            for (key, value) in recorded {
                match ours.get(key) {
                    Some(ours) => same_form(&format!("{name}: {key}"), value, ours),
                    None => assert!(
                        OPTIONAL.contains(&key.as_str())
                            || name.contains(": details")
                            || name.contains(": data"),
                        "{name}: no {key} in {ours:?}"
                    ),
                }
            }
        }
        (Value::Array(recorded), Value::Array(ours)) => {
            if let (Some(recorded), Some(ours)) = (recorded.first(), ours.first()) {
                same_form(name, recorded, ours);
            }
        }
        _ => assert!(
            std::mem::discriminant(recorded) == std::mem::discriminant(ours)
                || recorded.is_null()
                || ours.is_null(),
            "{name}: {recorded} became {ours}"
        ),
    }
}

#[test]
fn answers_cut_at_any_byte_are_whole_or_errors_of_the_dialect() {
    for (kind, exchanges) in exchanges() {
        let replay = Replay::start(kind, exchanges);
        let mut work: Vec<(usize, usize)> = Vec::new();
        for (index, exchange) in replay.exchanges.iter().enumerate() {
            if !answered_here(kind, exchange) {
                work.extend(exchange.cuts().into_iter().map(|cut| (index, cut)));
            }
        }
        let next = AtomicUsize::new(0);
        let failures: Mutex<Vec<String>> = Mutex::default();
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let mut connection = None;
                    while let Some(&(index, cut)) = work.get(next.fetch_add(1, Ordering::SeqCst)) {
                        let exchange = &replay.exchanges[index];
                        let response = replay.send(&mut connection, index, cut);
                        if let Err(why) = judge(exchange, cut, &response) {
                            let failure = format!(
                                "{} cut at {cut} of {} (head {}): {why}: {} {} {:?}",
                                exchange.name,
                                exchange.raw.len(),
                                exchange.head,
                                response.status_line,
                                response.text(),
                                response.end
                            );
                            failures
                                .lock()
                                .unwrap()
                                .push(failure.chars().take(700).collect());
                        }
                    }
                });
            }
        });
        let failures = failures.into_inner().unwrap();
        let shown: Vec<&String> = failures
            .iter()
            .step_by((failures.len() / 10).max(1))
            .collect();
        assert!(
            failures.is_empty(),
            "{} of {} cuts: {shown:#?}",
            failures.len(),
            work.len()
        );
    }
}

/// Whether what came out of an answer that was cut at `cut` is the truth.
fn judge(exchange: &Exchange, cut: usize, response: &Response) -> Result<(), &'static str> {
    if response.end != End::Complete {
        return Err("the answer did not end");
    }
    if response.status >= 400 {
        let json = response
            .header("content-type")
            .is_some_and(|kind| kind.starts_with("application/json"));
        let error = error_of(exchange.dialect(), &response.body);
        let arrived = payload_of(
            exchange.raw.get(exchange.head..cut).unwrap_or_default(),
            exchange.chunked,
        );
        let lost = exchange.status < 400 && exchange.streamed() && exchange.complete(&arrived) > 0;
        return if lost {
            Err("events that arrived were lost")
        } else if json && error.is_some() {
            Ok(())
        } else {
            Err("not an error of the dialect")
        };
    }
    if exchange.path() == "/v1/messages/count_tokens"
        && response.header("x-gpurouter-reason") == Some("estimated_here")
    {
        let counted = response.json()["input_tokens"].is_u64();
        return if counted { Ok(()) } else { Err("no estimate") };
    }
    if response.status != exchange.status
        || response.header("content-type") != exchange.content_type.as_deref()
    {
        return Err("another head");
    }
    if response.body.trim_ascii_end() == exchange.payload.trim_ascii_end()
        && (!exchange.streamed() || exchange.terminated())
    {
        return Ok(());
    }
    if !exchange.streamed() {
        return Err("a part of a document as a whole one");
    }
    let arrived = payload_of(
        exchange.raw.get(exchange.head..cut).unwrap_or_default(),
        exchange.chunked,
    );
    let events = &arrived[..exchange.complete(&arrived)];
    let Some(last) = response.body.strip_prefix(events) else {
        return Err("not the complete events that arrived");
    };
    if events.is_empty() || !in_band(exchange.dialect(), last) {
        return Err("no error in band after the events");
    }
    Ok(())
}

/// Whether `bytes` are the error with which a stream of the dialect ends, and nothing else.
fn in_band(dialect: Dialect, bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let document = match dialect {
        Dialect::Ollama => text.strip_suffix('\n'),
        Dialect::OpenAi => text
            .strip_prefix("data: ")
            .and_then(|rest| rest.strip_suffix("\n\ndata: [DONE]\n\n")),
        Dialect::Anthropic => text
            .strip_prefix("event: error\ndata: ")
            .and_then(|rest| rest.strip_suffix("\n\n")),
    };
    document.is_some_and(|document| {
        !document.contains('\n') && error_of(dialect, document.as_bytes()).is_some()
    })
}

/// The message of an error document in the dialect's form.
fn error_of(dialect: Dialect, body: &[u8]) -> Option<String> {
    let document: Value = serde_json::from_slice(body).ok()?;
    let error = document.get("error")?;
    let message = match dialect {
        Dialect::Ollama => error,
        Dialect::OpenAi => error.get("message")?,
        Dialect::Anthropic if document.get("type")? == "error" => error.get("message")?,
        Dialect::Anthropic => return None,
    };
    message
        .as_str()
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}

/// The message of an error in any form.
fn message(body: &[u8]) -> Option<String> {
    let document: Value = serde_json::from_slice(body).ok()?;
    let error = document.get("error")?;
    error
        .as_str()
        .or_else(|| error.get("message")?.as_str())
        .map(str::to_owned)
}

impl Exchange {
    /// Whether the stream has its last event.
    fn terminated(&self) -> bool {
        let text = String::from_utf8_lossy(&self.payload);
        [
            "\"done\":true",
            "\"status\":\"success\"",
            "data: [DONE]",
            "message_stop",
            "{\"error\"",
        ]
        .iter()
        .any(|end| text.contains(end))
    }
}

/// The requests of other forms that a node's chat completions must serve.
const TRANSLATED: [&str; 4] = [
    "/api/chat",
    "/api/generate",
    "/v1/messages",
    "/v1/responses",
];
/// Recorded chat completions, whole and streamed.
const COMPLETIONS: [&str; 5] = [
    "server/chat.txt",
    "server/chat_tools_required.txt",
    "server/chat_stream.txt",
    "server/chat_stream_usage.txt",
    "llama-cpp-python-server/chat_stream.txt",
];

#[test]
fn translated_answers_cut_at_any_byte_are_whole_or_errors_of_the_dialect() {
    let recorded: Vec<Exchange> = exchanges()
        .into_iter()
        .flat_map(|(_, found)| found)
        .collect();
    let recorded = recorded
        .into_iter()
        .filter(|exchange| COMPLETIONS.contains(&exchange.name.as_str()));
    let replay = Replay::speaking(Kind::LlamaServer, &[], recorded.collect());
    assert_eq!(replay.exchanges.len(), COMPLETIONS.len());
    let mut work: Vec<(&str, usize, usize, String)> = Vec::new();
    for path in TRANSLATED {
        for (index, exchange) in replay.exchanges.iter().enumerate() {
            let whole = replay.translated(&mut None, path, index, usize::MAX);
            let context = format!(
                "{path} of {}: {} {}",
                exchange.name,
                whole.status_line,
                whole.text()
            );
            assert_eq!((whole.status, whole.end), (200, End::Complete), "{context}");
            assert!(
                claims_to_be_whole(path, exchange.streamed(), &whole),
                "{context}"
            );
            work.extend(
                exchange
                    .cuts()
                    .into_iter()
                    .map(|cut| (path, index, cut, said(&whole))),
            );
        }
    }
    let next = AtomicUsize::new(0);
    let failures: Mutex<Vec<String>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut connection = None;
                while let Some((path, index, cut, all)) =
                    work.get(next.fetch_add(1, Ordering::SeqCst))
                {
                    let exchange = &replay.exchanges[*index];
                    let answer = replay.translated(&mut connection, path, *index, *cut);
                    let whole = claims_to_be_whole(path, exchange.streamed(), &answer);
                    let failed = owns_up(path, &answer);
                    let why = match (whole, failed) {
                        _ if answer.end != End::Complete => "the answer did not end",
                        (true, true) => "both whole and an error",
                        (false, false) => "neither whole nor an error",
                        (true, false) if said(&answer) != *all => "a part as the whole",
                        _ => continue,
                    };
                    let failure = format!(
                        "{path} of {} cut at {cut} of {}: {why}: {} {}",
                        exchange.name,
                        exchange.raw.len(),
                        answer.status_line,
                        String::from_utf8_lossy(
                            &answer.body[answer.body.len().saturating_sub(400)..]
                        )
                    );
                    failures.lock().unwrap().push(failure);
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    let shown: Vec<&String> = failures
        .iter()
        .step_by((failures.len() / 10).max(1))
        .collect();
    assert!(
        failures.is_empty(),
        "{} of {} cuts: {shown:#?}",
        failures.len(),
        work.len()
    );
}

impl Replay {
    /// Asks in another form for the recorded completion.
    fn translated(
        &self,
        connection: &mut Option<Connection>,
        path: &str,
        index: usize,
        cut: usize,
    ) -> Response {
        let exchange = &self.exchanges[index];
        let message = json!([{"role": "user", "content": "Hello"}]);
        let mut body = match path {
            "/api/generate" => json!({"prompt": "Hello"}),
            "/v1/responses" => json!({"input": "Hello"}),
            _ => json!({"messages": message, "max_tokens": 5}),
        };
        body["model"] = json!("tiny");
        body["stream"] = json!(exchange.streamed());
        let body = body.to_string();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nX-Replay: {index} {cut}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.exchange(connection, request.as_bytes())
    }
}

/// The JSON documents of an answer, whatever their framing.
fn documents(answer: &Response) -> Vec<Value> {
    let text = answer.text();
    let lines = text
        .lines()
        .map(|line| line.strip_prefix("data: ").unwrap_or(line));
    lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// Whether an answer looks complete to a client.
fn claims_to_be_whole(path: &str, streamed: bool, answer: &Response) -> bool {
    let documents = documents(answer);
    let typed = |name: &str| documents.iter().any(|document| document["type"] == name);
    answer.status == 200
        && match path {
            _ if !streamed => documents.len() == 1,
            "/v1/messages" => typed("message_stop"),
            "/v1/responses" => typed("response.completed") || typed("response.incomplete"),
            _ => documents
                .last()
                .is_some_and(|document| document["done"] == true),
        }
}

/// Whether an answer tells an error in its dialect, as its status or as its last event.
fn owns_up(path: &str, answer: &Response) -> bool {
    let dialect = match path {
        "/v1/messages" => Dialect::Anthropic,
        "/v1/responses" => Dialect::OpenAi,
        _ => Dialect::Ollama,
    };
    let documents = documents(answer);
    if answer.status < 400 && path == "/v1/responses" {
        return documents
            .last()
            .is_some_and(|document| document["type"] == "response.failed");
    }
    documents
        .last()
        .is_some_and(|last| error_of(dialect, last.to_string().as_bytes()).is_some())
}

/// Every piece of text in an answer, in order.
fn said(answer: &Response) -> String {
    fn gather(value: &Value, under: &str, out: &mut String) {
        match value {
            Value::String(text)
                if matches!(
                    under,
                    "content"
                        | "response"
                        | "text"
                        | "thinking"
                        | "delta"
                        | "arguments"
                        | "partial_json"
                ) =>
            {
                out.push_str(text);
            }
            Value::Array(items) => items.iter().for_each(|item| gather(item, under, out)),
            Value::Object(fields) => fields
                .iter()
                .for_each(|(key, value)| gather(value, key, out)),
            _ => {}
        }
    }
    let mut out = String::new();
    for document in &documents(answer) {
        gather(document, "", &mut out);
    }
    out
}
