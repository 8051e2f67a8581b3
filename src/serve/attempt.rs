//! One candidate's turn: the request in the form that the node understands, its place in the queue, and the head of the answer.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::asked::Asked;
use super::exchange::Exchange;
use super::gate::{Admitted, NotAdmitted, Refusal, written};
use super::record::{Outcome, millis};
use super::{relay, trouble};
use crate::cluster::{Model, Node, NodeKind};
use crate::dialect::translate::{self, Action, Form, ReplyTranslator, Stamp};
use crate::dialect::{ApiError, Edit, Endpoint, ErrorKind, Parsed, keep_request_header};
use crate::http::client::{Deadlines, Incoming, Outgoing, OutgoingBody, SendError};
use crate::routing::Candidate;
use crate::routing::window::{Avoided, RunnerEdit};

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
        settings.note(x, candidate);
        x.router.used(node);
        let own;
        let (target, sent): (Cow<'_, str>, Cow<'_, [u8]>) =
            if let Some((path, body, _)) = &translated {
                (Cow::Borrowed(*path), Cow::Borrowed(body))
            } else {
                own = settings.edits();
                let all: Vec<Edit<'_>> = edits.iter().chain(&own).copied().collect();
                let target = x.request.target().to_owned();
                (Cow::Owned(target), parsed.edited(&all))
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
                Some(Long::Other(error)) => {
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
    /// A load that is avoided.
    avoided: Option<Avoided>,
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
        settings.avoided = window.avoided;
        if !native {
            return settings;
        }
        let generates = matches!(parsed.endpoint(), Endpoint::Chat | Endpoint::Generate);
        settings.refuses_long = generates
            && !parsed.says_truncate()
            && !parsed.load_only()
            && window
                .context
                .is_some_and(|context| asked.may_exceed(context));
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

    /// Writes down what was done for the request before it is sent.
    fn note(&self, x: &mut Exchange<'_, '_>, candidate: &Candidate) {
        if self.loaded {
            let (model, node) = (&candidate.model, &candidate.node);
            x.draft
                .step(format!("`{model}` was loaded for it on {node}"));
        }
        if let Some(avoided) = self.avoided {
            x.draft.step(match avoided.ms {
                Some(ms) => Cow::Owned(format!("reload avoided: about {ms} ms")),
                None => Cow::Borrowed("reload avoided"),
            });
        }
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
