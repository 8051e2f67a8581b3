//! The way of a request that a model answers: parse, decide, try the candidates, relay.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::asked::{self, Asked};
use super::exchange::Exchange;
use super::gate::{Admitted, NotAdmitted, Refusal as NodeRefusal, written};
use super::reading::Sent;
use super::record::{Outcome, millis};
use super::relay::{self, Upstream};
use super::trouble;
use crate::cluster::{ClusterSnapshot, Model, Node, NodeKind};
use crate::dialect::translate::{self, Action, Form, ReplyTranslator, Stamp};
use crate::dialect::{
    self, ApiError, Edit, Endpoint, ErrorKind, Parsed, keep_request_header, parse,
};
use crate::http::client::{Deadlines, Incoming, Outgoing, OutgoingBody, SendError};
use crate::routing::window::RunnerEdit;
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
    x.draft.trace = x.router.trace.get().and_then(|trace| trace.begin(&parsed));
    let snapshot = x.router.snapshot();
    let (decision, mut asked) = match decide_for(x, &parsed, &snapshot) {
        Ok(decided) => decided,
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
        match attempt(x, &parsed, &body, candidate, &node, &mut asked) {
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
) -> Result<(Decision, Asked), Refusal> {
    let policy = &x.router.config.routing;
    let family = Family::of_model(parsed.model().unwrap_or_default());
    let mut facts = parsed.facts(family, policy.routes_by_class(parsed.model()));
    x.draft.record.tokens.prompt_estimated = Some(facts.prompt_tokens);
    x.sent = Some(Sent::of(parsed, facts.prompt_tokens));
    let lane = asked::recognised(x, parsed, &mut facts);
    let asked = Asked::of(x, parsed, &facts, lane);
    let speeds = x.router.measurements.now();
    let loads = x.router.forecasts(snapshot, &facts, &asked, &speeds);
    let decision = decide(&facts, snapshot, &loads, &speeds, policy)?;
    Ok((decision, asked))
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
    /// It is sent in its own form, with spans edited.
    Native(Vec<Edit<'b>>),
    /// It is sent in the node's form, and a translator reads the answer.
    Translated {
        path: &'static str,
        body: Vec<u8>,
        translator: Box<ReplyTranslator>,
    },
    /// It is answered here: a load of what the node holds all the time.
    Here(Vec<u8>),
}

/// The request as this node understands it: untouched, with spans edited, or translated.
fn prepare<'b>(
    x: &Exchange<'_, '_>,
    parsed: &Parsed<'_>,
    body: &[u8],
    candidate: &'b Candidate,
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
            Action::Send(translated) => Prepared::Translated {
                path: translated.path,
                body: translated.body,
                translator: Box::new(translated.reply),
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
    Ok(Prepared::Native(edits))
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
    node: &Arc<Node>,
    asked: &mut Asked,
) -> Tried {
    // Only an Ollama gets the form that can carry `num_ctx`; the next candidate may be one.
    let settable = asked.settable;
    asked.settable &= node.native.ollama;
    let tried = attempt_here(x, parsed, body, candidate, node, asked);
    asked.settable = settable;
    tried
}

fn attempt_here<'b>(
    x: &mut Exchange<'_, '_>,
    parsed: &Parsed<'b>,
    body: &'b [u8],
    candidate: &Candidate,
    node: &Arc<Node>,
    asked: &mut Asked,
) -> Tried {
    let prepared = match prepare(x, parsed, body, candidate, node) {
        Ok(Prepared::Here(answer)) => {
            x.trying(candidate);
            x.answer(200, "application/json; charset=utf-8", &answer);
            return Tried::Answered;
        }
        Ok(prepared) => prepared,
        Err(error) => {
            x.tell(&error, Outcome::Refused);
            return Tried::Answered;
        }
    };
    let native = matches!(prepared, Prepared::Native(_)) && node.native.ollama;
    let (edits, translated) = match prepared {
        Prepared::Native(edits) => (edits, None),
        Prepared::Translated {
            path,
            body,
            translator,
        } => (Vec::new(), Some((path, body, translator))),
        Prepared::Here(_) => return Tried::Answered,
    };
    // Twice at most: the second time with a prompt that the node has counted.
    let mut again = true;
    loop {
        let waiting = Instant::now();
        let admitted = match admit(x, parsed, candidate, node, asked) {
            Ok(admitted) => admitted,
            Err(tried) => return tried,
        };
        x.draft.record.timings.queue_ms = Some(millis(waiting.elapsed()));
        if let Some(sent) = &mut x.sent {
            sent.decided(admitted.as_ref().and_then(|admitted| admitted.window));
        }
        let settings = admitted
            .as_ref()
            .map(|admitted| Settings::of(parsed, asked, admitted, native))
            .unwrap_or_default();
        x.permit = admitted.map(|admitted| admitted.permit);
        x.trying(candidate);
        if settings.loaded {
            x.draft.step(format!(
                "`{}` was loaded for it on {}",
                candidate.model, node.name
            ));
        }
        if let Some(ms) = settings.avoided {
            x.draft.step(match ms {
                Some(ms) => format!("reload avoided: about {ms} ms"),
                None => "reload avoided".to_owned(),
            });
        }
        x.router.used(node);
        let own;
        let (target, sent): (Cow<'_, str>, Cow<'_, [u8]>) = match &translated {
            Some((path, body, _)) => (Cow::Borrowed(*path), Cow::Borrowed(body)),
            None => {
                own = settings.edits();
                let all: Vec<Edit<'_>> = edits.iter().chain(&own).copied().collect();
                (
                    Cow::Owned(x.request.target().to_owned()),
                    parsed.edited(&all),
                )
            }
        };
        let incoming = match send(x, node, candidate, &target, &sent, translated.is_some()) {
            Ok(incoming) => incoming,
            Err(SendError::ClientGone) => {
                x.client_left();
                return Tried::Answered;
            }
            Err(error) => return send_failed(x, node, &error),
        };
        let status = incoming.status();
        if status == 400 && settings.refuses_long {
            match too_long(x, incoming) {
                None => return Tried::Answered,
                Some(Long::Counted { tokens, limit }) => {
                    x.node_done();
                    if again {
                        again = false;
                        x.draft
                            .step(format!("{} counted {tokens} tokens", node.name));
                        asked.counted = Some(tokens);
                        continue;
                    }
                    return context_too_small(tokens, limit);
                }
                Some(Long::Other(body)) => {
                    let error = ApiError::from_upstream(status, &body);
                    x.tell(&error, Outcome::UpstreamError);
                    return Tried::Answered;
                }
            }
        }
        if retryable(status) {
            x.router.observe_status(node, status);
            return refused_by_node(x, node, incoming);
        }
        return Tried::Opened(Box::new(Opened {
            incoming,
            translator: translated.map(|(_, _, translator)| translator),
            stream: parsed.stream(),
        }));
    }
}

/// How a request is changed for the model that is loaded.
#[derive(Default)]
struct Settings {
    /// `num_ctx` and further options, as JSON text.
    options: Vec<(&'static str, String)>,
    /// Whether the node is to refuse a prompt that is longer than the context instead of cutting it.
    refuses_long: bool,
    loaded: bool,
    /// A load that is avoided, and its milliseconds.
    avoided: Option<Option<u64>>,
}

impl Settings {
    fn of(parsed: &Parsed<'_>, asked: &Asked, admitted: &Admitted, native: bool) -> Self {
        let mut settings = Self {
            loaded: admitted.loaded,
            ..Self::default()
        };
        let Some(window) = admitted.window else {
            return settings;
        };
        settings.avoided = window.avoided.map(|avoided| avoided.ms);
        if !native {
            return settings;
        }
        let generates = matches!(parsed.endpoint(), Endpoint::Chat | Endpoint::Generate);
        settings.refuses_long = generates && window.tight && !parsed.says_truncate();
        let mut set = |name, value: String| settings.options.push((name, value));
        if let Some(context) = window.sent {
            set("num_ctx", context.to_string());
        }
        if let RunnerEdit::Replaced(options) = &admitted.runner {
            let loaded = written(options);
            for (name, value) in &loaded {
                set(name, value.to_string());
            }
            // Ollama takes `null` for an absent option.
            for (name, _) in written(&asked.runner) {
                if !loaded.iter().any(|(kept, _)| *kept == name) {
                    set(name, "null".to_owned());
                }
            }
        }
        settings
    }

    fn edits(&self) -> Vec<Edit<'_>> {
        let options = self
            .options
            .iter()
            .map(|(name, value)| Edit::SetOption(name, value));
        let refuses = self
            .refuses_long
            .then_some(Edit::SetTop("truncate", "false"));
        options.chain(refuses).collect()
    }
}

/// Waits for the node to take the request; `None` is a request that takes nothing.
fn admit(
    x: &mut Exchange<'_, '_>,
    parsed: &Parsed<'_>,
    candidate: &Candidate,
    node: &Arc<Node>,
    asked: &Asked,
) -> Result<Option<Admitted>, Tried> {
    if parsed.unload() {
        // Nothing is loaded to be unloaded.
        return Ok(None);
    }
    let name = crate::cluster::ModelName::new(&candidate.model);
    let listed = node.model(&name).cloned();
    let model = listed.unwrap_or_else(|| Model {
        id: candidate.model.clone(),
        name: name.clone(),
        ..Model::default()
    });
    let speed = x.router.measurements.now().get(&node.name, &name);
    let gate = x.router.gates.gate(node);
    let reply = &*x.reply;
    let limit = x.router.config.timeouts.load;
    let entered = gate.enter(node, &model, asked, &speed, limit, || reply.client_gone());
    match entered {
        Ok(admitted) => Ok(Some(admitted)),
        Err(NotAdmitted::ClientGone) => {
            x.client_left();
            Err(Tried::Answered)
        }
        Err(NotAdmitted::QueueFull) => Err(busy(node, "queue_full", "its queue is full")),
        Err(NotAdmitted::TimedOut) => {
            Err(busy(node, "queue_timeout", "no slot became free in time"))
        }
        Err(NotAdmitted::TooLong(long)) => Err(context_too_small(
            asked.counted.unwrap_or(asked.prompt_tokens),
            long.limit,
        )),
        Err(NotAdmitted::Refused(NodeRefusal::NoRoom)) => Err(busy(
            node,
            "no_room",
            "models that always stay leave no room for this one",
        )),
        Err(NotAdmitted::Refused(NodeRefusal::LoadFailed(error))) => {
            let kind = if error.timed_out {
                ErrorKind::Timeout
            } else {
                ErrorKind::Upstream
            };
            let mut told = ApiError::new(kind, error.text);
            let reason = match error.status {
                Some(404) => "model_missing",
                Some(_) => "load_failed",
                None => error.code,
            };
            if let Some(status) = error.status.filter(|status| *status >= 400) {
                told.status = status;
            }
            Err(Tried::Failed(Failure {
                reason: reason.to_owned(),
                error: told,
            }))
        }
    }
}

/// What a node's 400 to a prompt that it was told not to cut says.
enum Long {
    Counted { tokens: u64, limit: u64 },
    Other(Vec<u8>),
}

/// Reads a 400; `None` when the client left.
fn too_long(x: &mut Exchange<'_, '_>, mut incoming: Incoming) -> Option<Long> {
    let body = relay::short_body(x, &mut incoming, KEPT_ERROR)?;
    Some(match dialect::too_long(&body) {
        Some((tokens, limit)) => Long::Counted { tokens, limit },
        None => Long::Other(body),
    })
}

fn context_too_small(tokens: u64, limit: u64) -> Tried {
    Tried::Failed(Failure {
        reason: "context_too_small".to_owned(),
        error: ApiError::context_too_long(tokens, limit),
    })
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
    let (decision, mut asked) = match decide_for(x, &parsed, &snapshot) {
        Ok(decided) => decided,
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
        match attempt(x, &parsed, &body, candidate, node, &mut asked) {
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
