//! The way of a request that a model answers: parse, decide, try the candidates, relay.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::admission::NotAdmitted;
use super::exchange::Exchange;
use super::reading::Sent;
use super::record::{Outcome, millis};
use super::relay::{self, Upstream};
use super::trouble;
use crate::cluster::{ClusterSnapshot, Node, NodeKind};
use crate::dialect::translate::{self, Action, Form, ReplyTranslator, Stamp};
use crate::dialect::{
    self, ApiError, Edit, Endpoint, ErrorKind, Parsed, keep_request_header, parse,
};
use crate::http::client::{Deadlines, Incoming, Outgoing, OutgoingBody, SendError};
use crate::routing::{Candidate, Decision, Family, Refusal, decide};

/// Most bytes kept of a failed node's answer, to be told when no other node does better.
const KEPT_ERROR: usize = 64 * 1024;

/// What a candidate that failed leaves behind.
struct Failure {
    /// Short code for the record.
    reason: String,
    /// What to tell the client when nothing else works.
    error: ApiError,
}

/// A node's answer that is worth passing on.
struct Opened {
    incoming: Incoming,
    translator: Option<Box<ReplyTranslator>>,
    /// Whether the client asked for a stream.
    stream: bool,
}

/// What became of one try.
enum Tried {
    /// The client has its answer, or has left.
    Answered,
    /// The answer begins. What the request needed is given back before it is passed on, which may take long.
    Opened(Box<Opened>),
    /// Nothing was sent to the client; the next candidate may try.
    Failed(Failure),
}

/// Answers a request that a model answers.
pub(super) fn forward(x: &mut Exchange<'_, '_>) {
    let Some((opened, node, candidates, at)) = open(x) else {
        return;
    };
    if let Some(candidate) = candidates.get(at) {
        pass_on(x, *opened, &node, candidate);
    }
}

fn pass_on(x: &mut Exchange<'_, '_>, opened: Opened, node: &Node, candidate: &Candidate) {
    let upstream = Upstream {
        incoming: opened.incoming,
        node,
        candidate,
        translator: opened.translator,
        stream: opened.stream,
    };
    relay::relay(x, upstream);
}

type Won = (Box<Opened>, Arc<Node>, Arc<[Candidate]>, usize);

/// Finds the node that answers: the answer, the node and its place among the candidates; `None` when everything is told.
fn open(x: &mut Exchange<'_, '_>) -> Option<Won> {
    let raw = match x.request.read_body() {
        Ok(raw) => raw,
        Err(error) => {
            super::local::body_error(x, &error);
            return None;
        }
    };
    let encoding = x
        .request
        .headers()
        .get_str("content-encoding")
        .map(str::to_owned);
    let limit = usize::try_from(x.router.config.security.max_body).unwrap_or(usize::MAX);
    let body = match crate::dialect::decode_content(encoding.as_deref(), &raw, limit) {
        Ok(body) => body,
        Err(error) => {
            x.tell(&error, Outcome::Refused);
            return None;
        }
    };
    let endpoint = x.endpoint.clone();
    let parsed = match parse(&endpoint, &body) {
        Ok(parsed) => parsed,
        Err(error) => {
            x.tell(&error, Outcome::Refused);
            return None;
        }
    };
    x.draft.record.requested_model = parsed.model().map(str::to_owned);
    if parsed.unload() && super::spread::unload(x, &parsed, &body) {
        return None;
    }
    let snapshot = x.router.snapshot();
    let decision = match decide_for(x, &parsed, &snapshot) {
        Ok(decision) => decision,
        Err(refusal) => {
            refuse(x, &refusal);
            return None;
        }
    };
    let candidates = x.decided(decision);
    let mut failures: Vec<Failure> = Vec::new();
    let admitted = candidates.iter().enumerate();
    for (at, candidate) in admitted.filter(|(_, candidate)| candidate.admitted) {
        let Some(node) = snapshot.node(&candidate.node).map(Arc::clone) else {
            continue;
        };
        match attempt(x, &parsed, &body, candidate, &node) {
            Tried::Answered => return None,
            Tried::Opened(opened) => return Some((opened, node, Arc::clone(&candidates), at)),
            Tried::Failed(failure) => {
                x.node_done();
                x.failed(candidate, &failure.reason);
                failures.push(failure);
            }
        }
    }
    give_up(x, failures);
    None
}

/// The decision for a parsed request; the same call answers `route`.
pub(super) fn decide_for(
    x: &mut Exchange<'_, '_>,
    parsed: &Parsed<'_>,
    snapshot: &ClusterSnapshot,
) -> Result<Decision, Refusal> {
    let policy = &x.router.config.routing;
    let family = Family::of_model(parsed.model().unwrap_or_default());
    let facts = parsed.facts(family, policy.routes_by_class(parsed.model()));
    x.draft.record.tokens.prompt_estimated = Some(facts.prompt_tokens);
    x.sent = Some(Sent::of(parsed, facts.prompt_tokens));
    let loads = x.router.loads(snapshot);
    decide(
        &facts,
        snapshot,
        &loads,
        &x.router.measurements.now(),
        policy,
    )
}

/// Tells why no node was even tried.
pub(super) fn refuse(x: &mut Exchange<'_, '_>, refusal: &Refusal) {
    let (error, outcome) = refusal_error(refusal);
    x.tell(&error, outcome);
}

/// A refusal in the words of the client's API.
fn refusal_error(refusal: &Refusal) -> (ApiError, Outcome) {
    match refusal {
        Refusal::NoModel => (ApiError::model_required(), Outcome::Refused),
        Refusal::UnknownModel { model, nearest } => (
            ApiError::model_not_found(model, nearest.as_deref()),
            Outcome::Refused,
        ),
        Refusal::TooLong { tokens, limit } => (
            ApiError::context_too_long(*tokens, *limit),
            Outcome::Refused,
        ),
        Refusal::Loading { detail } => (
            ApiError::new(ErrorKind::Overloaded, detail.clone()),
            Outcome::Refused,
        ),
        Refusal::NoNode { detail } => (
            ApiError::new(ErrorKind::Upstream, detail.clone()),
            Outcome::UpstreamError,
        ),
    }
}

/// Every candidate failed: an answer that a node gave beats the router's own words.
fn give_up(x: &mut Exchange<'_, '_>, failures: Vec<Failure>) {
    // The loop noted the last one as a fall-back, but nothing came after it.
    let summary: Vec<String> = x
        .draft
        .record
        .fallbacks
        .iter()
        .map(|tried| format!("{}: {}", tried.node, tried.reason))
        .collect();
    let spoken = failures.into_iter().reduce(|kept, new| {
        if kept.error.status == 502 || new.error.status != 502 {
            new
        } else {
            kept
        }
    });
    let mut error = match spoken {
        Some(failure) => failure.error,
        None => ApiError::new(ErrorKind::Upstream, "no node could be tried"),
    };
    if error.status == 502 && summary.len() > 1 {
        error.message = format!("no node could answer ({})", summary.join("; "));
    }
    "no_node_answered".clone_into(&mut x.draft.record.reason);
    x.tell(&error, Outcome::UpstreamError);
}

/// What becomes of a request at a node.
enum Prepared<'b> {
    /// It is sent; a translator reads its answer when the node speaks another form.
    Send {
        target: Cow<'b, str>,
        body: Cow<'b, [u8]>,
        translator: Option<Box<ReplyTranslator>>,
    },
    /// It is answered here: a load of what the node holds all the time.
    Here(Vec<u8>),
}

/// The request as this node understands it: untouched, with spans edited, or translated.
fn prepare<'b>(
    x: &Exchange<'_, '_>,
    parsed: &Parsed<'b>,
    body: &'b [u8],
    candidate: &Candidate,
    node: &Node,
) -> Result<Prepared<'b>, ApiError> {
    if let Some(form) = needs_translation(&x.endpoint, node) {
        let shown = x
            .draft
            .record
            .requested_model
            .as_deref()
            .unwrap_or(&candidate.model);
        let shown = if x.draft.record.complexity.is_some() {
            candidate.model.as_str()
        } else {
            shown
        };
        let action = translate::request(
            form,
            body,
            &candidate.model,
            shown,
            stamp(&x.draft.record.id),
        )
        .map_err(|error| ApiError::invalid(error.to_string()))?;
        return Ok(match action {
            Action::Send(translated) => Prepared::Send {
                target: Cow::Borrowed(translated.path),
                body: Cow::Owned(translated.body),
                translator: Some(Box::new(translated.reply)),
            },
            Action::LoadOnly { answer, .. } => Prepared::Here(answer),
        });
    }
    let mut edits = Vec::new();
    let same = parsed
        .model()
        .is_some_and(|asked| asked == candidate.model || same_model(asked, &candidate.model));
    if !same {
        edits.push(Edit::Model(&candidate.model));
    }
    // Ollama reads only `max_tokens`; without it the answer would run on.
    if node.kind == Some(NodeKind::Ollama) && x.endpoint == Endpoint::ChatCompletions {
        edits.extend(parsed.max_tokens().map(Edit::AddMaxTokens));
    }
    Ok(Prepared::Send {
        target: Cow::Owned(x.request.target().to_owned()),
        body: parsed.edited(&edits),
        translator: None,
    })
}

/// Whether a node takes the name as it was written (`tiny` is `tiny:latest`).
fn same_model(asked: &str, at_node: &str) -> bool {
    crate::cluster::ModelName::new(asked) == crate::cluster::ModelName::new(at_node)
}

/// The form to translate from, when the node does not answer this endpoint itself.
fn needs_translation(endpoint: &Endpoint, node: &Node) -> Option<Form> {
    let native = node.native;
    match endpoint {
        Endpoint::Chat if !native.ollama => Some(Form::OllamaChat),
        Endpoint::Generate if !native.ollama => Some(Form::OllamaGenerate),
        Endpoint::Embed if !native.ollama => Some(Form::OllamaEmbed),
        Endpoint::LegacyEmbeddings if !native.ollama => Some(Form::OllamaLegacyEmbeddings),
        Endpoint::Messages if !native.messages => Some(Form::Messages),
        Endpoint::Responses if !native.responses => Some(Form::Responses),
        _ => None,
    }
}

fn stamp(id: &str) -> Stamp {
    let now = SystemTime::now();
    Stamp {
        created_unix: now
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
        created_at: humantime::format_rfc3339_micros(now).to_string(),
        id: id.to_owned(),
    }
}

/// One candidate: admission, sending, and the answer when there is one worth passing on.
fn attempt<'b>(
    x: &mut Exchange<'_, '_>,
    parsed: &Parsed<'b>,
    body: &'b [u8],
    candidate: &Candidate,
    node: &Node,
) -> Tried {
    let (target, body, translator) = match prepare(x, parsed, body, candidate, node) {
        Ok(Prepared::Send {
            target,
            body,
            translator,
        }) => (target, body, translator),
        Ok(Prepared::Here(answer)) => {
            x.trying(candidate);
            x.answer(200, "application/json; charset=utf-8", &answer);
            return Tried::Answered;
        }
        Err(error) => {
            x.tell(&error, Outcome::Refused);
            return Tried::Answered;
        }
    };
    let waiting = Instant::now();
    let config = &x.router.config;
    let gate = x.router.admission.gate(&node.name);
    let permit = {
        let reply = &*x.reply;
        gate.enter(
            x.router.slots(node),
            config.admission.queue,
            config.timeouts.load,
            || reply.client_gone(),
        )
    };
    x.permit = match permit {
        Ok(permit) => Some(permit),
        Err(NotAdmitted::ClientGone) => {
            x.client_left();
            return Tried::Answered;
        }
        Err(NotAdmitted::QueueFull) => return busy(node, "queue_full", "its queue is full"),
        Err(NotAdmitted::TimedOut) => {
            return busy(node, "queue_timeout", "no slot became free in time");
        }
    };
    x.draft.record.timings.queue_ms = Some(millis(waiting.elapsed()));
    x.trying(candidate);
    x.router.used(node);
    let incoming = match send(x, node, candidate, &target, &body, translator.is_some()) {
        Ok(incoming) => incoming,
        Err(SendError::ClientGone) => {
            x.client_left();
            return Tried::Answered;
        }
        Err(error) => return send_failed(x, node, &error),
    };
    let status = incoming.status();
    if retryable(status) {
        x.router.observe_status(node, status);
        return refused_by_node(x, node, incoming);
    }
    Tried::Opened(Box::new(Opened {
        incoming,
        translator,
        stream: parsed.stream(),
    }))
}

fn busy(node: &Node, reason: &str, why: &str) -> Tried {
    let error = ApiError::new(
        ErrorKind::Overloaded,
        format!("node `{}` is busy: {why}, please try again", node.name),
    );
    Tried::Failed(Failure {
        reason: reason.to_owned(),
        error,
    })
}

/// Statuses after which another node may do better: the node is missing the model, busy, or in the way of something dead.
fn retryable(status: u16) -> bool {
    matches!(status, 404 | 429 | 502 | 503 | 504)
}

/// Opens the upstream and waits for its head.
fn send(
    x: &mut Exchange<'_, '_>,
    node: &Node,
    candidate: &Candidate,
    target: &str,
    body: &[u8],
    translated: bool,
) -> Result<Incoming, SendError> {
    let origin = x.router.origin(&node.url)?;
    let timeouts = &x.router.config.timeouts;
    let deadlines = Deadlines {
        connect: timeouts.connect,
        first_byte: if candidate.resident {
            timeouts.idle
        } else {
            timeouts.load
        },
        between: timeouts.idle,
        total: timeouts.total,
    };
    let mut forwarded: Vec<(&str, &[u8])> = Vec::with_capacity(16);
    let connection = x.request.headers().get_str("connection");
    for (name, value) in x.request.headers().iter() {
        if keep_request_header(name, connection) && !replaced(name, translated) {
            forwarded.push((name, value));
        }
    }
    let outgoing = Outgoing {
        method: x.request.method(),
        target,
        headers: &forwarded,
        body: OutgoingBody::Bytes(body),
    };
    x.router
        .client
        .send(&origin, outgoing, &deadlines, Some(x.reply.watch()))
}

/// Fields that no longer describe the body that is sent: its coding was taken off, and a translated one is another dialect's.
fn replaced(name: &str, translated: bool) -> bool {
    let own = ["anthropic-version", "anthropic-beta", "openai-beta"];
    name.eq_ignore_ascii_case("content-encoding")
        || (translated && own.iter().any(|own| name.eq_ignore_ascii_case(own)))
}

/// A node that could not be reached or did not answer.
fn send_failed(x: &mut Exchange<'_, '_>, node: &Node, error: &SendError) -> Tried {
    x.router.observe_failure(node, error);
    let told = trouble::of_send(node, error);
    if trouble::timed_out(error) {
        if let Some(owing) = x.owing.take() {
            owing.given_up();
        }
        x.draft
            .step(format!("{} gave no answer in time", node.name));
        x.tell(&told, Outcome::UpstreamError);
        return Tried::Answered;
    }
    Tried::Failed(Failure {
        reason: trouble::code(error).to_owned(),
        error: told,
    })
}

/// A node that answered with a status after which another one may do better.
fn refused_by_node(x: &mut Exchange<'_, '_>, node: &Node, mut incoming: Incoming) -> Tried {
    let status = incoming.status();
    let seconds = incoming.headers().get_str("retry-after");
    let seconds = seconds.and_then(|seconds| seconds.trim().parse().ok());
    let Some(body) = relay::short_body(x, &mut incoming, KEPT_ERROR) else {
        return Tried::Answered;
    };
    let mut error = ApiError::from_upstream(status, &body);
    error.retry_after_s = seconds;
    let reason = match status {
        404 => "model_missing".to_owned(),
        other => format!("status {other}"),
    };
    x.draft.step(format!("{} answered {status}", node.name));
    Tried::Failed(Failure { reason, error })
}

/// `/v1/messages/count_tokens`: the node's own count where it has one, else the estimate that routing uses.
pub(super) fn count_tokens(x: &mut Exchange<'_, '_>) {
    let body = match x.request.read_body() {
        Ok(body) => body,
        Err(error) => return super::local::body_error(x, &error),
    };
    let endpoint = x.endpoint.clone();
    let parsed = match parse(&endpoint, &body) {
        Ok(parsed) => parsed,
        Err(error) => return x.tell(&error, Outcome::Refused),
    };
    x.draft.record.requested_model = parsed.model().map(str::to_owned);
    let snapshot = x.router.snapshot();
    let decision = match decide_for(x, &parsed, &snapshot) {
        Ok(decision) => decision,
        Err(refusal) => return refuse(x, &refusal),
    };
    let candidates = x.decided(decision);
    let mut admitted = candidates.iter().filter(|candidate| candidate.admitted);
    let counting = admitted.find_map(|candidate| {
        Some((
            candidate,
            snapshot
                .node(&candidate.node)
                .filter(|node| node.native.count_tokens)?,
        ))
    });
    if let Some((candidate, node)) = counting {
        match attempt(x, &parsed, &body, candidate, node) {
            Tried::Answered => return,
            Tried::Opened(opened) => return pass_on(x, *opened, node, candidate),
            Tried::Failed(failure) => {
                x.node_done();
                x.failed(candidate, &failure.reason);
            }
        }
    }
    x.draft.record.node = None;
    "estimated_here".clone_into(&mut x.draft.record.reason);
    let tokens = x.draft.record.tokens.prompt_estimated.unwrap_or_default();
    x.answer(200, "application/json", &dialect::count_tokens(tokens));
}
