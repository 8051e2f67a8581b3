//! The way back: a node's answer, streamed or whole, in the client's form.

use std::fmt;

use super::TranslateError;
use super::embeddings::EmbeddingsReply;
use super::ndjson::LineReader;
use super::sse::{EVENT_LIMIT, EventReader, TooLong};
use super::upstream::{CallFragment, Delta, Upstream};

/// The most text of one answer that is held back (tool arguments, and for the Responses form everything, since its last event repeats the
/// whole answer), in bytes. About four million tokens.
pub(super) const HELD_LIMIT: usize = 16 << 20;

/// The node's stream ended (or failed) before the answer was complete. The caller tells it with [`ReplyTranslator::fail`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The node's own error, or what is wrong with its stream.
    pub reason: String,
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Unfinished {}

/// What is known when an answer ends.
pub(super) struct Facts<'a> {
    pub(super) upstream: &'a Upstream,
    /// Since the request was sent.
    pub(super) elapsed_ns: u64,
    /// When the first piece of a streamed answer arrived.
    pub(super) first_content_ns: Option<u64>,
}

/// One client form of an answer.
pub(super) trait ReplyForm: fmt::Debug + Send {
    fn content_type(&self) -> &'static str;
    /// Writes what one upstream event adds; called for every event, also for one that adds nothing.
    fn delta(&mut self, delta: Delta, out: &mut Vec<u8>) -> Result<(), TranslateError>;
    /// Writes the terminal event.
    fn end(&mut self, facts: &Facts<'_>, out: &mut Vec<u8>) -> Result<(), TranslateError>;
    /// Writes an error inside the stream.
    fn fail(&mut self, message: &str, out: &mut Vec<u8>);
    /// The answer as one object.
    fn whole(&mut self, delta: Delta, facts: &Facts<'_>) -> Result<Vec<u8>, TranslateError>;
}

/// A tool call of which all fragments are collected.
#[derive(Debug, Default)]
pub(super) struct HeldCall {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) arguments: String,
}

impl HeldCall {
    /// Some servers send nothing for a call without arguments; clients expect JSON. True when something was filled in.
    pub(super) fn fill_in(&mut self) -> bool {
        let empty = self.arguments.is_empty();
        if empty {
            self.arguments.push_str("{}");
        }
        empty
    }
}

/// Adds a fragment to its call.
pub(super) fn hold_call(
    calls: &mut Vec<HeldCall>,
    fragment: CallFragment,
) -> Result<(), TranslateError> {
    let held: usize = calls
        .iter()
        .map(|call| call.arguments.len() + call.name.len())
        .sum();
    if held + fragment.arguments.len() + fragment.name.len() > HELD_LIMIT {
        return Err(too_long());
    }
    if calls.len() <= fragment.ordinal {
        calls.resize_with(fragment.ordinal + 1, HeldCall::default);
    }
    if let Some(call) = calls.get_mut(fragment.ordinal) {
        call.id = fragment.id;
        call.name.push_str(&fragment.name);
        call.arguments.push_str(&fragment.arguments);
    }
    Ok(())
}

pub(super) fn too_long() -> TranslateError {
    TranslateError::new(format!(
        "the node's answer is longer than {} MiB",
        HELD_LIMIT >> 20
    ))
}

/// Turns the answer of one request into the client's form.
///
/// A streamed answer goes through [`push`](Self::push) piece by piece and ends with [`finish`](Self::finish); an answer that came whole
/// goes through [`whole`](Self::whole), also when the client asked for a stream (it then gets its stream in one piece). Only answers
/// with a success status belong here; errors are told by the caller in the client's dialect.
#[derive(Debug)]
pub struct ReplyTranslator {
    events: Events,
    flow: Flow,
}

/// How the node writes a stream.
#[derive(Debug)]
enum Events {
    /// As server-sent events, the way of `OpenAI`.
    Sse(EventReader),
    /// As lines, the way of Ollama.
    Lines(LineReader),
}

impl Events {
    fn push(&mut self, piece: &[u8], event: impl FnMut(&[u8])) -> Result<(), TooLong> {
        match self {
            Self::Sse(reader) => reader.push(piece, event),
            Self::Lines(reader) => reader.push(piece, event),
        }
    }

    fn finish(&mut self, event: impl FnMut(&[u8])) {
        match self {
            Self::Sse(reader) => reader.finish(event),
            Self::Lines(reader) => reader.finish(event),
        }
    }
}

#[derive(Debug)]
struct Flow {
    kind: Kind,
    stream: bool,
    upstream: Upstream,
    first_content_ns: Option<u64>,
    content_seen: bool,
    /// The client's terminal event, or an error in its place, was written: nothing may follow.
    closed: bool,
    failed: Option<String>,
}

#[derive(Debug)]
enum Kind {
    Generation(Box<dyn ReplyForm>),
    Embeddings(EmbeddingsReply),
}

impl ReplyTranslator {
    pub(super) fn new(form: Box<dyn ReplyForm>, stream: bool, id_seed: String) -> Self {
        Self::of(Kind::Generation(form), stream, id_seed)
    }

    pub(super) fn embeddings(reply: EmbeddingsReply) -> Self {
        Self::of(Kind::Embeddings(reply), false, String::new())
    }

    fn of(kind: Kind, stream: bool, id_seed: String) -> Self {
        Self {
            events: Events::Sse(EventReader::default()),
            flow: Flow {
                kind,
                stream,
                upstream: Upstream {
                    id_seed,
                    ..Upstream::default()
                },
                first_content_ns: None,
                content_seen: false,
                closed: false,
                failed: None,
            },
        }
    }

    /// The same for an answer of Ollama's `/api/chat`.
    pub(super) fn of_ollama(mut self) -> Self {
        self.events = Events::Lines(LineReader::default());
        self.flow.upstream.ollama = true;
        self
    }

    /// The client asked for a stream, and the node was asked for one.
    pub fn streams(&self) -> bool {
        self.flow.stream
    }

    /// The `Content-Type` of the client's answer.
    pub fn content_type(&self) -> &'static str {
        match &self.flow.kind {
            Kind::Generation(form) => form.content_type(),
            Kind::Embeddings(_) => "application/json; charset=utf-8",
        }
    }

    /// Takes a piece of the node's event stream and appends what it means to `out`, as soon as it is known.
    ///
    /// `elapsed_ns` counts from the sending of the request. An error of the node, or a stream that cannot be understood, writes nothing:
    /// it shows in [`upstream_error`](Self::upstream_error), and whatever follows it is ignored.
    pub fn push(&mut self, piece: &[u8], elapsed_ns: u64, out: &mut Vec<u8>) {
        let Self { events, flow } = self;
        if flow.failed.is_some() || flow.closed {
            return;
        }
        if events
            .push(piece, |data| flow.event(data, elapsed_ns, out))
            .is_err()
            && !flow.closed
        {
            flow.failed.get_or_insert_with(|| {
                format!(
                    "the node sent an event longer than {} MiB",
                    EVENT_LIMIT >> 20
                )
            });
        }
    }

    /// The node's stream is over. Writes the client's terminal event unless [`push`](Self::push) has done so at `[DONE]`.
    ///
    /// # Errors
    /// When the stream held an error, or ended without `[DONE]` and without a finish reason. Nothing terminal was written then.
    pub fn finish(&mut self, elapsed_ns: u64, out: &mut Vec<u8>) -> Result<(), Unfinished> {
        let Self { events, flow } = self;
        events.finish(|data| flow.event(data, elapsed_ns, out));
        if flow.failed.is_none() && !flow.closed {
            if flow.terminal_seen() {
                flow.end(elapsed_ns, out);
            } else {
                flow.failed =
                    Some("the node's stream ended before the answer was complete".to_owned());
            }
        }
        match &flow.failed {
            Some(reason) => Err(Unfinished {
                reason: reason.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Writes an error inside the stream, in the client's form, in place of the terminal event; nothing after a terminal event.
    pub fn fail(&mut self, message: &str, out: &mut Vec<u8>) {
        if self.flow.closed {
            return;
        }
        self.flow.closed = true;
        if let Kind::Generation(form) = &mut self.flow.kind {
            form.fail(message, out);
        }
        self.flow.failed.get_or_insert_with(|| message.to_owned());
    }

    /// Turns an answer that came as one JSON object.
    ///
    /// # Errors
    /// When it is not such an answer, or an error in spite of its status.
    pub fn whole(&mut self, body: &[u8], elapsed_ns: u64) -> Result<Vec<u8>, TranslateError> {
        self.flow.whole(body, elapsed_ns)
    }

    /// The node said that the answer is complete.
    pub fn terminal_seen(&self) -> bool {
        self.flow.terminal_seen()
    }

    /// Something of the answer itself (text, thinking, a call, a vector) has been translated.
    pub fn content_seen(&self) -> bool {
        self.flow.content_seen
    }

    /// Why the answer cannot be completed: the node's own in-band error, or what is wrong with what it sent.
    pub fn upstream_error(&self) -> Option<&str> {
        self.flow.failed.as_deref()
    }

    /// Tokens of the prompt, of the answer, and of the prompt's cached part, as far as the node reports them.
    pub fn usage(&self) -> (Option<u64>, Option<u64>, Option<u64>) {
        let usage = &self.flow.upstream.usage;
        (usage.prompt, usage.completion, usage.cached)
    }

    /// Nanoseconds that the node spent on the prompt and on the answer, by its own clock, as far as it reports them.
    pub fn times(&self) -> (Option<u64>, Option<u64>) {
        let upstream = &self.flow.upstream;
        (upstream.prompt_ns, upstream.eval_ns)
    }
}

impl Flow {
    fn terminal_seen(&self) -> bool {
        self.upstream.done || self.upstream.finish_reason.is_some()
    }

    fn event(&mut self, data: &[u8], elapsed_ns: u64, out: &mut Vec<u8>) {
        if self.failed.is_some() || self.closed {
            return;
        }
        let Kind::Generation(form) = &mut self.kind else {
            self.failed = Some("the node sent a stream where embeddings were asked for".to_owned());
            return;
        };
        match self.upstream.absorb(data) {
            Err(message) => self.failed = Some(message),
            // Ollama's last line may still say something.
            Ok(delta) if self.upstream.done && delta.is_empty() => self.end(elapsed_ns, out),
            Ok(delta) => {
                if !delta.is_empty() {
                    self.content_seen = true;
                    self.first_content_ns.get_or_insert(elapsed_ns);
                }
                match form.delta(delta, out) {
                    Err(error) => self.failed = Some(error.message),
                    Ok(()) if self.upstream.done => self.end(elapsed_ns, out),
                    Ok(()) => {}
                }
            }
        }
    }

    fn end(&mut self, elapsed_ns: u64, out: &mut Vec<u8>) {
        let Kind::Generation(form) = &mut self.kind else {
            return;
        };
        let facts = Facts {
            upstream: &self.upstream,
            elapsed_ns,
            first_content_ns: self.first_content_ns,
        };
        let before = out.len();
        match form.end(&facts, out) {
            Ok(()) => self.closed = true,
            Err(error) => {
                out.truncate(before);
                self.failed = Some(error.message);
            }
        }
    }

    fn whole(&mut self, body: &[u8], elapsed_ns: u64) -> Result<Vec<u8>, TranslateError> {
        let form = match &mut self.kind {
            Kind::Generation(form) => form,
            Kind::Embeddings(reply) => {
                let answer = reply.whole(body, elapsed_ns, &mut self.upstream)?;
                self.content_seen = true;
                self.closed = true;
                return Ok(answer);
            }
        };
        let delta = self.upstream.absorb(body).map_err(TranslateError::new)?;
        if self.upstream.finish_reason.is_none() && delta.is_empty() {
            return Err(TranslateError::new("the node's answer holds no choice"));
        }
        self.upstream.done = true;
        self.content_seen = !delta.is_empty();
        let facts = Facts {
            upstream: &self.upstream,
            elapsed_ns,
            first_content_ns: None,
        };
        let answer = if self.stream {
            let mut out = Vec::new();
            form.delta(delta, &mut out)?;
            form.end(&facts, &mut out)?;
            out
        } else {
            form.whole(delta, &facts)?
        };
        self.closed = true;
        Ok(answer)
    }
}
