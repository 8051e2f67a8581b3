//! One candidate's turn: the request in the form that the node understands, its place in the queue, and the head of the answer.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use super::asked::{Asked, foreign_form};
use super::exchange::Exchange;
use super::gate::{Admitted, NotAdmitted, Refusal};
use super::record::{Outcome, millis};
use super::wording::{self, InOtherWords, Prepared, Settings, prepare};
use super::{relay, trouble};
use crate::cluster::{Model, Node};
use crate::dialect::translate::{ReplyTranslator, TranslateError};
use crate::dialect::{ApiError, Edit, ErrorKind, Parsed, keep_request_header};
use crate::http::client::{Deadlines, Incoming, Outgoing, OutgoingBody, SendError};
use crate::routing::Candidate;

/// Most bytes kept of a failed node's answer, to be told when no other node does better.
const KEPT_ERROR: usize = 64 * 1024;

/// What a candidate that failed leaves behind.
pub(super) struct Failure {
    /// Short code for the record.
    pub(super) reason: String,
    /// What to tell the client when nothing else works.
    pub(super) error: ApiError,
}

/// A node's answer that is worth passing on.
pub(super) struct Opened {
    pub(super) incoming: Incoming,
    pub(super) translator: Option<Box<ReplyTranslator>>,
    /// Whether the client asked for a stream.
    pub(super) stream: bool,
}

/// What became of one try.
pub(super) enum Tried {
    /// The client has its answer, or has left.
    Answered,
    /// The answer begins. What the request needed is given back before it is passed on, which may take long.
    Opened(Box<Opened>),
    /// Nothing was sent to the client; the next candidate may try.
    Failed(Failure),
}

/// One candidate: admission, sending, and the answer when there is one worth passing on.
pub(super) fn attempt<'b>(
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
            if node.on_demand {
                // It is there when its turn comes; it does not stay for this request.
                if let Err(tried) = admit(x, parsed, candidate, node, asked) {
                    return tried;
                }
            }
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
        Prepared::Translated(done) => (Vec::new(), Some(done)),
        Prepared::Here(_) => return Tried::Answered,
    };
    if native {
        wording::judge_form(x, body, candidate, asked);
    }
    let mut turn = Turn {
        parsed,
        body,
        candidate,
        node,
        native,
        edits: &edits,
        translated,
        counted: false,
    };
    loop {
        if let Some(tried) = turn.take(x, asked) {
            return tried;
        }
    }
}

/// A candidate's turn, which may be taken again: with a prompt that the node has counted, or as it came.
struct Turn<'t, 'b> {
    parsed: &'t Parsed<'b>,
    body: &'b [u8],
    candidate: &'t Candidate,
    node: &'t Arc<Node>,
    /// Whether the node is an Ollama that gets the client's own form.
    native: bool,
    edits: &'t [Edit<'t>],
    translated: Option<InOtherWords>,
    counted: bool,
}

impl Turn<'_, '_> {
    /// Admission, sending and the answer's head; `None`: once more.
    fn take(&mut self, x: &mut Exchange<'_, '_>, asked: &mut Asked) -> Option<Tried> {
        let (parsed, node, candidate) = (self.parsed, self.node, self.candidate);
        let waiting = Instant::now();
        let admitted = match admit(x, parsed, candidate, node, asked) {
            Ok(admitted) => admitted,
            Err(tried) => return Some(tried),
        };
        x.draft.record.timings.queue_ms = Some(millis(waiting.elapsed()));
        if let Some(sent) = &mut x.sent {
            // Its own slot is taken already.
            let beside = x.router.active(node) > 1;
            let window = admitted.as_ref().and_then(|admitted| admitted.window);
            sent.decided(window, beside);
        }
        let settings = admitted
            .as_ref()
            .map(|admitted| Settings::of(parsed, asked, admitted, self.native))
            .unwrap_or_default();
        x.permit = admitted.map(|admitted| admitted.permit);
        let in_own_words = match self.in_own_words(x, &settings) {
            Ok(done) => done,
            Err(error) => {
                // It gets what the node gives to such requests by itself.
                x.node_done();
                asked.settable = false;
                x.draft.step(format!("to be sent as it came: {error}"));
                return None;
            }
        };
        x.trying(candidate);
        settings.note(x, candidate);
        x.router.used(node);
        let worded = in_own_words.as_ref().or(self.translated.as_ref());
        let own = settings.edits();
        let (target, sent): (Cow<'_, str>, Cow<'_, [u8]>) = if let Some(worded) = worded {
            (Cow::Borrowed(worded.path), Cow::Borrowed(&worded.body))
        } else {
            let all: Vec<Edit<'_>> = self.edits.iter().chain(&own).copied().collect();
            let target = x.request.target().to_owned();
            (Cow::Owned(target), parsed.edited(&all))
        };
        let incoming = match send(x, node, candidate, &target, &sent, worded.is_some()) {
            Ok(incoming) => incoming,
            Err(SendError::ClientGone) => {
                x.client_left();
                return Some(Tried::Answered);
            }
            Err(error) => return Some(send_failed(x, node, &error)),
        };
        let status = incoming.status();
        if status == 400 && settings.refuses_long {
            return self.refused_as_long(x, asked, incoming);
        }
        if retryable(status) {
            x.router.observe_status(node, status);
            return Some(refused_by_node(x, node, incoming));
        }
        let worded = in_own_words.or_else(|| self.translated.take());
        Some(Tried::Opened(Box::new(Opened {
            incoming,
            translator: worded.map(|worded| worded.translator),
            stream: parsed.stream(),
        })))
    }

    /// The request in Ollama's own form, where it came in another one that cannot say what the node has to be told.
    fn in_own_words(
        &self,
        x: &mut Exchange<'_, '_>,
        settings: &Settings,
    ) -> Result<Option<InOtherWords>, TranslateError> {
        let form = foreign_form(&x.endpoint).filter(|_| self.native && settings.says_more());
        let Some(form) = form else {
            return Ok(None);
        };
        let done = wording::in_own_words(x, form, self.body, self.candidate, settings)?;
        let came = &x.draft.record.path;
        let step = format!("{came} cannot say its context: sent as {}", done.path);
        x.draft.step(step);
        Ok(Some(done))
    }

    /// A 400 of a node that was told not to cut the prompt.
    fn refused_as_long(
        &mut self,
        x: &mut Exchange<'_, '_>,
        asked: &mut Asked,
        incoming: Incoming,
    ) -> Option<Tried> {
        match too_long(x, incoming) {
            None => Some(Tried::Answered),
            Some(Long::Counted { tokens, limit }) => {
                x.node_done();
                if std::mem::replace(&mut self.counted, true) {
                    return Some(context_too_small(tokens, limit));
                }
                x.draft
                    .step(format!("{} counted {tokens} tokens", self.node.name));
                asked.counted = Some(tokens);
                None
            }
            Some(Long::Other(error)) => {
                x.tell(&error, Outcome::UpstreamError);
                Some(Tried::Answered)
            }
        }
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
    let limit = x.router.config.timeouts.load;
    let entered = gate.enter(node, &model, asked, &speed, limit, || x.waits());
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
        Err(NotAdmitted::Refused(Refusal::NoRoom)) => Err(busy(
            node,
            "no_room",
            "models that always stay leave no room for this one",
        )),
        Err(NotAdmitted::Refused(Refusal::LoadFailed(error))) => {
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
    Other(ApiError),
}

/// Reads a 400; `None` when the client left.
fn too_long(x: &mut Exchange<'_, '_>, mut incoming: Incoming) -> Option<Long> {
    let body = relay::short_body(x, &mut incoming, KEPT_ERROR)?;
    let error = ApiError::from_upstream(400, &body);
    Some(match error.kind {
        ErrorKind::ContextTooLong {
            tokens: Some(tokens),
            limit: Some(limit),
        } => Long::Counted { tokens, limit },
        _ => Long::Other(error),
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
    let (router, watch) = (x.router, x.reply.watch());
    x.while_waiting(|request, tick| {
        let mut forwarded: Vec<(&str, &[u8])> = Vec::with_capacity(16);
        let connection = request.headers().get_str("connection");
        for (name, value) in request.headers().iter() {
            if keep_request_header(name, connection) && !replaced(name, translated) {
                forwarded.push((name, value));
            }
        }
        let outgoing = Outgoing {
            method: request.method(),
            target,
            headers: &forwarded,
            body: OutgoingBody::Bytes(body),
        };
        router
            .client
            .send_ticking(&origin, outgoing, &deadlines, Some(watch), tick)
    })
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
