//! The HTTP client of the control plane: every call has a deadline and a size limit, nothing goes through a proxy, nothing is followed.

use std::io::Read;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use reqwest::blocking::{Client as Http, Response};
use reqwest::redirect::Policy;
use serde::Deserialize;

/// Largest answer that is read, in bytes: a list of ten thousand models or a model's licence fits, a runaway stream does not.
const BODY_LIMIT: u64 = 8 * 1024 * 1024;

/// Time to connect, as `[timeouts] connect` has it by default.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// Time for a call that sets no shorter one of its own.
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// Connections are reused within one look at a node and closed soon after: a kept connection occupies one of the few HTTP threads of
/// llama-server for as long as it is open.
const IDLE_LIMIT: Duration = Duration::from_millis(300);

/// Why a call brought no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No connection; the text says why.
    Connect(String),
    /// Connected, but the answer was not complete in time.
    Timeout(Duration),
    /// The connection ended or carried something that is not HTTP.
    Broken(String),
    /// The answer is larger than any list or description of models; the limit in bytes.
    TooLarge(u64),
    /// It answered, but not with what was asked for; the text says with what.
    Answered(String),
    /// The client itself could not be set up.
    Client(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect(text) => write!(f, "could not connect: {text}"),
            Self::Timeout(limit) => {
                write!(f, "no complete answer within {:.1} s", limit.as_secs_f32())
            }
            Self::Broken(text) => write!(f, "the connection failed: {text}"),
            Self::TooLarge(limit) => write!(f, "the answer exceeds {} MiB", limit >> 20),
            Self::Answered(text) => f.write_str(text),
            Self::Client(text) => write!(f, "the HTTP client could not start: {text}"),
        }
    }
}

impl std::error::Error for Failure {}

/// A complete answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub status: u16,
    /// Whether the `Server` header says llama.cpp.
    pub llama_cpp: bool,
    /// Whether the answer carries gpurouter's own header.
    pub gpurouter: bool,
    pub body: Vec<u8>,
}

impl Reply {
    pub(super) fn ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body read as JSON of that shape.
    pub(super) fn json<'a, T: Deserialize<'a>>(&'a self) -> Option<T> {
        serde_json::from_slice(&self.body).ok()
    }

    /// Whether it is llama-server's answer to everything while it reads its model.
    pub(super) fn loading(&self) -> bool {
        self.status == 503 && memchr::memmem::find(&self.body, b"Loading model").is_some()
    }
}

/// Clients for `http://` and `https://`, each made when first needed: a router with local nodes only never pays for the other.
#[derive(Debug, Default)]
pub(super) struct Client {
    plain: OnceLock<Result<Http, String>>,
    tls: OnceLock<Result<Http, String>>,
}

impl Client {
    /// Calls to one node, all of them over by `limit` from now.
    pub(super) fn ask<'a>(&'a self, base: &'a str, limit: Duration) -> Ask<'a> {
        Ask {
            client: self,
            base: base.trim_end_matches('/'),
            limit,
            until: Instant::now() + limit,
            largest: BODY_LIMIT,
        }
    }

    fn http(&self, https: bool) -> Result<&Http, Failure> {
        let cell = if https { &self.tls } else { &self.plain };
        cell.get_or_init(|| build(https, Some(CALL_LIMIT)))
            .as_ref()
            .map_err(|error| Failure::Client(error.clone()))
    }
}

/// The TLS of every reqwest client here; without `https`, one that trusts nobody and costs nothing. A ready configuration keeps reqwest
/// from looking for a process-wide provider and for the platform's certificate store.
pub(crate) fn tls(https: bool) -> Result<rustls::ClientConfig, String> {
    let mut roots = rustls::RootCertStore::empty();
    if https {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn build(https: bool, limit: Option<Duration>) -> Result<Http, String> {
    Http::builder()
        .tls_backend_preconfigured(tls(https)?)
        .no_proxy()
        .redirect(Policy::none())
        .connect_timeout(CONNECT_LIMIT)
        .timeout(limit)
        .pool_idle_timeout(IDLE_LIMIT)
        .user_agent(concat!("gpurouter/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| cause(&error))
}

/// A client for a router on this machine; `limit` is for a whole call, `None` waits as long as the router does.
///
/// # Errors
/// When the HTTP client cannot be set up.
pub fn router_client(limit: Option<Duration>) -> Result<Http, Failure> {
    build(false, limit).map_err(Failure::Client)
}

/// Calls to one node under one deadline.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask<'a> {
    client: &'a Client,
    base: &'a str,
    limit: Duration,
    until: Instant,
    /// Largest answer in bytes.
    largest: u64,
}

impl Ask<'_> {
    /// The same calls with another limit for an answer's size, in bytes.
    pub(super) fn up_to(self, largest: u64) -> Self {
        Self { largest, ..self }
    }

    /// The node's base URL.
    pub(super) fn base(&self) -> &str {
        self.base
    }

    pub(super) fn get(&self, path: &str) -> Result<Reply, Failure> {
        self.call(path, None)
    }

    pub(super) fn post(&self, path: &str, body: Vec<u8>) -> Result<Reply, Failure> {
        self.call(path, Some(body))
    }

    fn call(&self, path: &str, body: Option<Vec<u8>>) -> Result<Reply, Failure> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failure::Timeout(self.limit));
        }
        let url = format!("{}{path}", self.base);
        let http = self.client.http(url.starts_with("https:"))?;
        let request = match body {
            None => http.get(url),
            Some(body) => http
                .post(url)
                .header("content-type", "application/json")
                .body(body),
        };
        let mut response = request
            .timeout(left)
            .send()
            .map_err(|error| self.failure(&error))?;
        let body = self.body(&mut response)?;
        let header = |name| response.headers().get(name);
        Ok(Reply {
            status: response.status().as_u16(),
            llama_cpp: header("server")
                .is_some_and(|server| server.as_bytes().starts_with(b"llama.cpp")),
            gpurouter: header("x-gpurouter-id").is_some(),
            body,
        })
    }

    /// The request's own time limit ends a body that drips; only its size is limited here.
    fn body(&self, response: &mut Response) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        let mut chunk = [0; 16 * 1024];
        loop {
            let count = match response.read(&mut chunk) {
                Ok(0) => return Ok(body),
                Ok(count) => count,
                Err(_) if Instant::now() >= self.until => return Err(Failure::Timeout(self.limit)),
                Err(error) => return Err(Failure::Broken(cause(&error))),
            };
            body.extend_from_slice(chunk.get(..count).unwrap_or_default());
            if body.len() as u64 > self.largest {
                return Err(Failure::TooLarge(self.largest));
            }
        }
    }

    fn failure(&self, error: &reqwest::Error) -> Failure {
        if error.is_connect() {
            Failure::Connect(if error.is_timeout() {
                format!("no answer within {} s", CONNECT_LIMIT.as_secs())
            } else {
                cause(error)
            })
        } else if error.is_timeout() {
            Failure::Timeout(self.limit)
        } else {
            Failure::Broken(cause(error))
        }
    }
}

/// The innermost cause: the layers above it only say "error sending request", with the URL and whatever password it carries.
pub(crate) fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
