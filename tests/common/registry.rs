//! A loopback registry: it speaks Ollama's registry protocol, the parts of Hugging Face's API that matter, and plain downloads with
//! ranges; serves files of their real size of which only the start is stored; misbehaves on demand; and keeps what it was asked for.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::stub::{Kind, Peer, Request, Stub};

/// How a path misbehaves.
#[derive(Debug, Clone)]
pub enum Fault {
    /// This status, with these header lines.
    Status(u16, &'static str),
    /// This status for the first so many requests.
    Times(u32, u16, &'static str),
    /// A redirect to this address.
    Redirect(String),
    /// Ranges are ignored: 200 and the whole file.
    NoRange,
    /// The same without a length: the end of the connection is the end of the file.
    NoLength,
    /// The connection ends after so many bytes of each body.
    Cut(u64),
    /// The connection ends once after so many bytes.
    CutOnce(u64),
    /// Nothing more comes after so many bytes of the body.
    Stall(u64),
    /// No piece is longer than this.
    Short(u64),
    /// `Content-Range` says this.
    Range(&'static str),
    /// Redirected once to this host name, where the file is served as it is.
    Elsewhere(&'static str),
}

/// A file of which the start is stored and the rest is zeros.
#[derive(Clone)]
struct File {
    start: Arc<Vec<u8>>,
    size: u64,
    kind: &'static str,
    link: Option<String>,
}

#[derive(Default)]
struct Content {
    files: HashMap<String, File>,
    faults: HashMap<String, Fault>,
    blobs: u32,
}

/// A running registry; gone on drop.
pub struct Registry {
    stub: Stub,
    content: Arc<Mutex<Content>>,
}

/// One request for a file, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Path and query.
    pub target: String,
    /// First and last byte asked for.
    pub range: Option<(u64, u64)>,
    /// Whether a token came with it.
    pub token: bool,
    /// `Host`.
    pub host: String,
}

impl Registry {
    /// Starts an empty one.
    pub fn start() -> Self {
        let content: Arc<Mutex<Content>> = Arc::default();
        let served = Arc::clone(&content);
        let stub = Stub::start(Kind::Bare, &[], move |request, peer| {
            serve(&served, request, peer);
        });
        Self { stub, content }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        self.stub.url()
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.stub.addr.port()
    }

    /// Serves a file that starts with these bytes, at a path.
    pub fn file(&self, path: &str, start: Vec<u8>, size: u64) {
        let file = File {
            size: size.max(start.len() as u64),
            start: Arc::new(start),
            kind: "application/octet-stream",
            link: None,
        };
        self.content
            .lock()
            .unwrap()
            .files
            .insert(path.to_owned(), file);
    }

    /// Serves a document.
    pub fn document(&self, path: &str, document: &Value) {
        self.paged(path, document, None);
    }

    /// Serves a document that another one follows.
    pub fn paged(&self, path: &str, document: &Value, next: Option<String>) {
        let start = document.to_string().into_bytes();
        let file = File {
            size: start.len() as u64,
            start: Arc::new(start),
            kind: "application/json",
            link: next,
        };
        self.content
            .lock()
            .unwrap()
            .files
            .insert(path.to_owned(), file);
    }

    /// From now on a path misbehaves.
    pub fn fault(&self, path: &str, fault: Fault) {
        self.content
            .lock()
            .unwrap()
            .faults
            .insert(path.to_owned(), fault);
    }

    /// From now on no path does.
    pub fn heal(&self) {
        self.content.lock().unwrap().faults.clear();
    }

    /// A model of the Ollama registry (`library/tiny:latest`), its layers by the last word of their media type. Returns the path of each
    /// blob.
    pub fn ollama(&self, name: &str, layers: &[(&str, Vec<u8>, u64)]) -> Vec<String> {
        let (model, tag) = name.split_once(':').expect("a tag");
        let mut listed = Vec::new();
        let mut paths = Vec::new();
        for (kind, start, size) in layers {
            let digest = self.digest();
            let path = format!("/v2/{model}/blobs/{digest}");
            self.file(&path, start.clone(), *size);
            listed.push(json!({
                "mediaType": format!("application/vnd.ollama.image.{kind}"),
                "digest": digest,
                "size": (*size).max(start.len() as u64),
            }));
            paths.push(path);
        }
        let digest = self.digest();
        let config = json!({"model_format": "gguf", "model_type": "8.0B", "file_type": "Q4_K_M"});
        self.document(&format!("/v2/{model}/blobs/{digest}"), &config);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": digest, "size": 500},
            "layers": listed,
        });
        self.document(&format!("/v2/{model}/manifests/{tag}"), &manifest);
        paths
    }

    /// A repository of Hugging Face with these files: path, first bytes, size.
    pub fn hub(&self, repository: &str, files: &[(&str, Vec<u8>, u64)]) {
        let mut tree = vec![json!({"type": "directory", "oid": "0", "size": 0, "path": "sub"})];
        for (path, start, size) in files {
            let size = (*size).max(start.len() as u64);
            self.file(
                &format!("/{repository}/resolve/main/{path}"),
                start.clone(),
                size,
            );
            let digest = self.digest();
            let oid = digest.trim_start_matches("sha256:");
            tree.push(json!({
                "type": "file", "oid": "1", "size": size, "path": path,
                "lfs": {"oid": oid, "size": size, "pointerSize": 135},
            }));
        }
        self.document(&format!("/api/models/{repository}/tree/main"), &json!(tree));
    }

    /// What was asked for so far, in order.
    pub fn asked(&self) -> Vec<Asked> {
        let requests = self.stub.requests();
        requests.iter().map(Asked::of).collect()
    }

    /// Ranges that a path was asked for, in order.
    pub fn ranges(&self, path: &str) -> Vec<(u64, u64)> {
        let asked = self.asked().into_iter();
        asked
            .filter(|asked| asked.target.split('?').next() == Some(path))
            .filter_map(|asked| asked.range)
            .collect()
    }

    /// How often each path was asked for.
    pub fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for request in self.stub.requests() {
            *counts.entry(request.path().to_owned()).or_default() += 1;
        }
        counts
    }

    fn digest(&self) -> String {
        let mut content = self.content.lock().unwrap();
        content.blobs += 1;
        format!(
            "sha256:{:064x}",
            (u64::from(self.port()) << 32) + u64::from(content.blobs)
        )
    }
}

impl Asked {
    fn of(request: &Request) -> Self {
        Self {
            target: request.target.clone(),
            range: range_of(request),
            token: request.header("authorization").is_some(),
            host: request.header("host").unwrap_or_default().to_owned(),
        }
    }
}

fn range_of(request: &Request) -> Option<(u64, u64)> {
    let (first, last) = request
        .header("range")?
        .strip_prefix("bytes=")?
        .split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

fn serve(content: &Mutex<Content>, request: &Request, peer: &mut Peer) {
    // The same file under another path, as storage services have it.
    let elsewhere = request.path().strip_prefix("/elsewhere");
    let path = elsewhere.unwrap_or(request.path());
    let (file, fault) = {
        let mut content = content.lock().unwrap();
        let file = content.files.get(path).cloned();
        let fault = content.faults.get(path).cloned();
        if let Some(Fault::Times(times, ..)) = content.faults.get_mut(path) {
            *times = times.saturating_sub(1);
        }
        if let Some(Fault::CutOnce(_)) = fault {
            content.faults.remove(path);
        }
        (file, fault)
    };
    match &fault {
        Some(Fault::Status(status, headers)) => return refuse(peer, *status, headers),
        Some(Fault::Times(times, status, headers)) if *times > 0 => {
            return refuse(peer, *status, headers);
        }
        Some(Fault::Redirect(target)) => return redirect(peer, target),
        Some(Fault::Elsewhere(host)) if elsewhere.is_none() => {
            let port = request
                .header("host")
                .and_then(|host| host.rsplit(':').next());
            let port = port.unwrap_or_default();
            return redirect(peer, &format!("http://{host}:{port}/elsewhere{path}"));
        }
        _ => {}
    }
    match file {
        None => refuse(peer, 404, ""),
        Some(file) => send(peer, &file, range_of(request), fault.as_ref()),
    }
}

fn refuse(peer: &mut Peer, status: u16, headers: &str) {
    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n{headers}\r\n");
    peer.send(head.as_bytes());
}

fn redirect(peer: &mut Peer, target: &str) {
    let head = format!("HTTP/1.1 307 X\r\nlocation: {target}\r\ncontent-length: 0\r\n\r\n");
    peer.send(head.as_bytes());
}

fn send(peer: &mut Peer, file: &File, range: Option<(u64, u64)>, fault: Option<&Fault>) {
    let whole = matches!(fault, Some(Fault::NoRange | Fault::NoLength)) || range.is_none();
    let (first, mut last) = match range.filter(|_| !whole) {
        Some((first, last)) => (first, last.min(file.size.saturating_sub(1))),
        None => (0, file.size.saturating_sub(1)),
    };
    if !whole && first >= file.size {
        let size = file.size;
        return refuse(peer, 416, &format!("content-range: bytes */{size}\r\n"));
    }
    if let Some(Fault::Short(most)) = fault {
        last = last.min(first + most - 1);
    }
    let length = if file.size == 0 { 0 } else { last - first + 1 };
    let unbounded = matches!(fault, Some(Fault::NoLength));
    let mut head = vec![
        format!("HTTP/1.1 {} X", if whole { 200 } else { 206 }),
        format!("content-type: {}", file.kind),
        format!("etag: \"{}\"", file.size),
    ];
    head.extend((file.link.iter()).map(|link| format!("link: <{link}>; rel=\"next\"")));
    if !whole {
        head.push(match fault {
            Some(Fault::Range(text)) => format!("content-range: {text}"),
            _ => format!("content-range: bytes {first}-{last}/{}", file.size),
        });
    }
    head.push(if unbounded {
        "connection: close".to_owned()
    } else {
        format!("content-length: {length}")
    });
    peer.send(format!("{}\r\n\r\n", head.join("\r\n")).as_bytes());
    let most = match fault {
        Some(Fault::Cut(bytes) | Fault::CutOnce(bytes) | Fault::Stall(bytes)) => length.min(*bytes),
        _ => length,
    };
    let sent = body(peer, file, first, most);
    match fault {
        Some(Fault::Cut(_) | Fault::CutOnce(_)) if sent && most < length => peer.close(),
        Some(Fault::Stall(_)) if most < length => {
            peer.wait_gone(Duration::from_secs(30));
        }
        _ if unbounded => peer.close(),
        _ => {}
    }
}

/// Sends so many bytes from there on; false when the client left.
fn body(peer: &mut Peer, file: &File, first: u64, length: u64) -> bool {
    const PIECE: u64 = 64 * 1024;
    let mut at = first;
    let end = first + length;
    while at < end {
        let count = (end - at).min(PIECE);
        let mut piece = vec![0; usize::try_from(count).expect("a small piece")];
        if let Some(stored) = usize::try_from(at).ok().and_then(|at| file.start.get(at..)) {
            let stored = &stored[..stored.len().min(piece.len())];
            piece[..stored.len()].copy_from_slice(stored);
        }
        if !peer.send(&piece) {
            return false;
        }
        at += count;
    }
    true
}
