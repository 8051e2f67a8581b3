//! Which path does what: the routes of Ollama that a client or a router meets.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::ask::{self, Form, Refusal};
use super::catalog::{Model, full_name};
use super::clock::lock;
use super::generate;
use super::model::KeepAlive;
use super::node::{Exchange, Node};
use super::reply::Stop;
use super::seed::hash;
use super::wire;

/// Bytes per second of a simulated download.
const DOWNLOAD_RATE: u64 = 1_000_000_000;
/// Progress lines of a download.
const DOWNLOAD_STEPS: u64 = 10;
/// Models and blobs that a node keeps.
const MAX_KEPT: usize = 1024;

/// How a route ends: answered, refused with an error to tell, or stopped.
pub(super) enum Failure {
    /// To be told in the dialect of the path.
    Refused(Refusal),
    /// Nobody listens any more.
    Stopped(Stop),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        Self::Stopped(stop)
    }
}

/// The paths that run a model: those that faults strike.
pub(super) fn runs_a_model(path: &str) -> bool {
    matches!(
        path,
        "/api/chat"
            | "/api/generate"
            | "/api/embed"
            | "/api/embeddings"
            | "/v1/chat/completions"
            | "/v1/completions"
            | "/v1/embeddings"
            | "/v1/messages"
    )
}

/// The methods that a path knows; none: no such path.
fn methods(path: &str) -> Option<&'static [&'static str]> {
    Some(match path {
        "/" | "/api/version" | "/api/tags" => &["GET", "HEAD"],
        "/api/ps" | "/v1/models" => &["GET"],
        "/api/delete" => &["DELETE"],
        "/api/show" | "/api/pull" | "/api/push" | "/api/create" | "/api/copy" => &["POST"],
        path if runs_a_model(path) => &["POST"],
        path if path.starts_with("/v1/models/") => &["GET"],
        path if path.starts_with("/api/blobs/") => &["HEAD", "POST"],
        _ => return None,
    })
}

/// Answers one request.
pub(super) fn answer(node: &Node, exchange: &mut Exchange) -> Result<(), Stop> {
    if let Some(delay) = exchange.struck.delay
        && !node
            .clock
            .wait_until(exchange.arrived.saturating_add(delay), &exchange.cancel)
    {
        return Err(Stop::Gone);
    }
    let result = match exchange.struck.status {
        Some(status) => {
            Err(Refusal::new(status, format!("simulated fault: status {status}")).into())
        }
        None => route(node, exchange),
    };
    match result {
        Ok(()) => Ok(()),
        Err(Failure::Stopped(stop)) => Err(stop),
        Err(Failure::Refused(refusal)) => {
            let id = hash(&[&node.seed.to_le_bytes(), &exchange.body]);
            let document = wire::error(&exchange.path, &refusal, id);
            document_with(exchange, refusal.status, &document)
        }
    }
}

fn route(node: &Node, exchange: &mut Exchange) -> Result<(), Failure> {
    if exchange.method == "OPTIONS" {
        return Ok(preflight(exchange)?);
    }
    let path = exchange.path.clone();
    let Some(methods) = methods(&path) else {
        return Ok(exchange
            .reply
            .whole(404, "text/plain", b"404 page not found")?);
    };
    if !methods.contains(&exchange.method.as_str()) {
        return Ok(exchange
            .reply
            .whole(405, "text/plain", b"405 method not allowed")?);
    }
    let generated = match path.as_str() {
        "/api/chat" => Some(Form::Chat),
        "/api/generate" => Some(Form::Generate),
        "/v1/chat/completions" => Some(Form::OpenAiChat),
        "/v1/completions" => Some(Form::OpenAiCompletion),
        "/v1/messages" => Some(Form::Anthropic),
        _ => None,
    };
    if let Some(form) = generated {
        return generate::text(node, exchange, form);
    }
    match path.as_str() {
        "/" => Ok(exchange
            .reply
            .whole(200, "text/plain; charset=utf-8", b"Ollama is running")?),
        "/api/version" => ok(exchange, &json!({ "version": wire::VERSION })),
        "/api/tags" => {
            let models = lock(&node.models).clone();
            ok(exchange, &wire::tags(models.iter().map(Arc::as_ref)))
        }
        "/api/ps" => {
            let residents = node.with_machine(super::model::Machine::residents);
            ok(exchange, &wire::ps(&residents, |at| node.clock.wall(at)))
        }
        "/v1/models" => {
            let models = lock(&node.models).clone();
            ok(
                exchange,
                &wire::openai_models(models.iter().map(Arc::as_ref)),
            )
        }
        "/api/embed" | "/api/embeddings" | "/v1/embeddings" => generate::embeddings(node, exchange),
        "/api/show" => show(node, exchange),
        "/api/pull" => pull(node, exchange),
        "/api/push" => push(node, exchange),
        "/api/create" => create(node, exchange),
        "/api/copy" => copy(node, exchange),
        "/api/delete" => delete(node, exchange),
        path => match path.strip_prefix("/v1/models/") {
            Some(id) => openai_model(node, exchange, id),
            None => blob(
                node,
                exchange,
                path.strip_prefix("/api/blobs/").unwrap_or_default(),
            ),
        },
    }
}

/// Writes a document with the content type of its dialect.
pub(super) fn document_with(
    exchange: &mut Exchange,
    status: u16,
    document: &Value,
) -> Result<(), Stop> {
    let content_type = if exchange.path.starts_with("/v1/") {
        "application/json"
    } else {
        "application/json; charset=utf-8"
    };
    exchange
        .reply
        .whole(status, content_type, document.to_string().as_bytes())
}

pub(super) fn ok(exchange: &mut Exchange, document: &Value) -> Result<(), Failure> {
    Ok(document_with(exchange, 200, document)?)
}

/// What gin's CORS middleware says to origins that Ollama allows by default, and to others.
fn preflight(exchange: &mut Exchange) -> Result<(), Stop> {
    let local = exchange.origin.as_deref().is_none_or(|origin| {
        let host = origin.split("://").nth(1).unwrap_or_default();
        ["localhost", "127.0.0.1", "0.0.0.0"]
            .iter()
            .any(|own| host == *own || host.starts_with(&format!("{own}:")))
    });
    exchange.reply.whole(if local { 204 } else { 403 }, "", b"")
}

/// The object in the body, and the model that it names in `model` or the older `name`.
fn named(
    node: &Node,
    exchange: &Exchange,
    owner: &str,
) -> Result<(Map<String, Value>, String), Refusal> {
    let map = ask::object(&exchange.body, "missing request body")?;
    let mut name = ask::text_field(&map, owner, "model")?;
    if name.is_empty() {
        name = ask::text_field(&map, owner, "name")?;
    }
    if name.is_empty() {
        return Err(Refusal::new(400, "model is required"));
    }
    node.note_model(exchange, &name);
    Ok((map, name))
}

/// The error for a name that the node does not have, with the name as the client wrote it.
pub(super) fn not_found(name: &str) -> Refusal {
    Refusal::new(404, format!("model '{name}' not found"))
}

fn show(node: &Node, exchange: &mut Exchange) -> Result<(), Failure> {
    let (_, name) = named(node, exchange, "ShowRequest")?;
    // Unlike the others, this route names the tag that was not written.
    let model = node
        .find(&name)
        .ok_or_else(|| not_found(&full_name(&name)))?;
    ok(exchange, &wire::show(&model))
}

fn openai_model(node: &Node, exchange: &mut Exchange, id: &str) -> Result<(), Failure> {
    let id = percent_decoded(id);
    let model = node.find(&id).ok_or_else(|| not_found(&id))?;
    ok(exchange, &wire::openai_model(&model, &id))
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = tail
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let (b'%', Some(code)) = (first, code) {
            bytes.push(code);
            rest = tail.get(2..).unwrap_or_default();
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reports what a long job did: as NDJSON lines while it works, or only its last line.
struct Progress {
    stream: bool,
    last: Value,
}

impl Progress {
    fn begin(exchange: &mut Exchange, map: &Map<String, Value>) -> Result<Self, Failure> {
        let stream = ask::bool_field(map, "Request", "stream")?.unwrap_or(true);
        if stream {
            exchange.reply.stream("application/x-ndjson")?;
        }
        Ok(Self {
            stream,
            last: Value::Null,
        })
    }

    fn tell(&mut self, exchange: &mut Exchange, document: Value) -> Result<(), Failure> {
        if self.stream {
            exchange.reply.piece(format!("{document}\n").as_bytes())?;
        }
        self.last = document;
        Ok(())
    }

    fn status(&mut self, exchange: &mut Exchange, status: &str) -> Result<(), Failure> {
        self.tell(exchange, json!({ "status": status }))
    }

    /// Errors come as a line when the stream has begun, else with a status.
    fn end(self, exchange: &mut Exchange) -> Result<(), Failure> {
        if self.stream {
            return Ok(exchange.reply.end()?);
        }
        let failed = self.last.get("error").is_some();
        Ok(document_with(
            exchange,
            if failed { 500 } else { 200 },
            &self.last,
        )?)
    }
}

fn pull(node: &Node, exchange: &mut Exchange) -> Result<(), Failure> {
    let (map, name) = named(node, exchange, "PullRequest")?;
    let mut progress = Progress::begin(exchange, &map)?;
    progress.status(exchange, "pulling manifest")?;
    let held = node.find(&name);
    if held.is_none() && !Model::is_known(&name) {
        let error = "pull model manifest: file does not exist";
        progress.tell(exchange, json!({ "error": error }))?;
        return progress.end(exchange);
    }
    let present = held.is_some();
    let model = held.unwrap_or_else(|| Arc::new(Model::named(&name, None)));
    let digest = format!("sha256:{}", model.digest);
    let short = model.digest.get(..12).unwrap_or_default();
    let steps = if present { 1 } else { DOWNLOAD_STEPS };
    for step in 1..=steps {
        if !present {
            let took = Duration::from_secs(model.bytes / DOWNLOAD_RATE / DOWNLOAD_STEPS);
            let until = node.clock.now() + took;
            if !node.clock.wait_until(until, &exchange.cancel) {
                return Err(Stop::Gone.into());
            }
        }
        progress.tell(
            exchange,
            json!({
                "status": format!("pulling {short}"),
                "digest": digest,
                "total": model.bytes,
                "completed": model.bytes / steps * step,
            }),
        )?;
    }
    progress.status(exchange, "verifying sha256 digest")?;
    progress.status(exchange, "writing manifest")?;
    keep(node, model)?;
    progress.status(exchange, "success")?;
    progress.end(exchange)
}

/// Nothing leaves a simulation, so a push fails as it does without a registry.
fn push(node: &Node, exchange: &mut Exchange) -> Result<(), Failure> {
    let (map, name) = named(node, exchange, "PushRequest")?;
    node.find(&name).ok_or_else(|| not_found(&name))?;
    let mut progress = Progress::begin(exchange, &map)?;
    progress.status(exchange, "retrieving manifest")?;
    progress.tell(
        exchange,
        json!({ "error": "simulated nodes have no registry to push to" }),
    )?;
    progress.end(exchange)
}

fn create(node: &Node, exchange: &mut Exchange) -> Result<(), Failure> {
    let (map, name) = named(node, exchange, "CreateRequest")?;
    let from = ask::text_field(&map, "CreateRequest", "from")?;
    let model = if from.is_empty() {
        let files = map.get("files").and_then(Value::as_object);
        let blobs = lock(&node.blobs).clone();
        let sizes: Option<Vec<u64>> = files
            .filter(|files| !files.is_empty())
            .ok_or_else(|| Refusal::new(400, "neither 'from' or 'files' was specified"))?
            .values()
            .map(|digest| {
                digest
                    .as_str()
                    .and_then(|digest| blobs.get(digest).copied())
            })
            .collect();
        let sizes = sizes.ok_or_else(|| Refusal::new(400, "invalid digest format"))?;
        Model::named(&name, Some(sizes.iter().sum()))
    } else {
        let base = node.find(&from).ok_or_else(|| not_found(&from))?;
        Model {
            name: full_name(&name),
            ..base.as_ref().clone()
        }
    };
    let mut progress = Progress::begin(exchange, &map)?;
    let layer = format!("using existing layer sha256:{}", model.digest);
    progress.status(exchange, &layer)?;
    progress.status(exchange, "writing manifest")?;
    keep(node, Arc::new(model))?;
    progress.status(exchange, "success")?;
    progress.end(exchange)
}

fn copy(node: &Node, exchange: &mut Exchange) -> Result<(), Failure> {
    let map = ask::object(&exchange.body, "missing request body")?;
    let source = ask::text_field(&map, "CopyRequest", "source")?;
    let destination = ask::text_field(&map, "CopyRequest", "destination")?;
    node.note_model(exchange, &source);
    for name in [&source, &destination] {
        if name.is_empty() {
            return Err(Refusal::new(400, format!("source {name:?} is invalid")).into());
        }
    }
    let model = node
        .find(&source)
        .ok_or_else(|| Refusal::new(404, format!("model {source:?} not found")))?;
    keep(
        node,
        Arc::new(Model {
            name: full_name(&destination),
            ..model.as_ref().clone()
        }),
    )?;
    Ok(exchange.reply.whole(200, "", b"")?)
}

fn delete(node: &Node, exchange: &mut Exchange) -> Result<(), Failure> {
    let (_, name) = named(node, exchange, "DeleteRequest")?;
    let model = node.find(&name).ok_or_else(|| not_found(&name))?;
    lock(&node.models).retain(|kept| kept.name != model.name);
    let still_held = lock(&node.models)
        .iter()
        .any(|kept| kept.digest == model.digest);
    if !still_held {
        node.with_machine(|machine, now| machine.unload(now, &model));
    }
    Ok(exchange.reply.whole(200, "", b"")?)
}

fn keep(node: &Node, model: Arc<Model>) -> Result<(), Refusal> {
    let mut models = lock(&node.models);
    models.retain(|kept| kept.name != model.name);
    if models.len() >= MAX_KEPT {
        return Err(Refusal::new(500, "no space left on device"));
    }
    models.push(model);
    Ok(())
}

/// The digest is taken at its word: a simulation keeps no content to check it against.
fn blob(node: &Node, exchange: &mut Exchange, digest: &str) -> Result<(), Failure> {
    let known = lock(&node.blobs).contains_key(digest);
    if exchange.method == "HEAD" {
        return if known {
            Ok(exchange.reply.whole(200, "", b"")?)
        } else {
            let refusal = Refusal::new(404, format!("blob {digest:?} not found"));
            Err(refusal.into())
        };
    }
    let size = exchange.body.len() as u64;
    let mut blobs: std::sync::MutexGuard<'_, HashMap<String, u64>> = lock(&node.blobs);
    if blobs.len() >= MAX_KEPT && !known {
        return Err(Refusal::new(500, "no space left on device").into());
    }
    blobs.insert(digest.to_owned(), size);
    drop(blobs);
    Ok(exchange
        .reply
        .whole(if known { 200 } else { 201 }, "", b"")?)
}

/// Whether a `keep_alive` says "go now".
pub(super) fn is_unload(keep_alive: Option<KeepAlive>) -> bool {
    keep_alive == Some(KeepAlive::For(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_percent_decoded() {
        assert_eq!(percent_decoded("qwen%3A7b"), "qwen:7b");
        assert_eq!(percent_decoded("a%2"), "a%2");
        assert_eq!(percent_decoded("ns%2Fm"), "ns/m");
    }
}
