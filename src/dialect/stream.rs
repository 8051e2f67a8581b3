//! Watches a streamed answer on its way through: what may be sent on, whether its end was seen, what it told.
//!
//! Only whole lines (NDJSON) and whole events (server-sent events) are released, so that an error can always be told in band after
//! them. What is complete within a piece is released as a slice of the piece, uncopied. JSON is parsed only where a byte search found a
//! word that can end the stream or carry its usage.

use memchr::{memchr_iter, memmem};
use serde_json::Value;

use super::StreamForm;
use super::cursor::{Cursor, Kind};
use super::usage::{Event, Usage, of_usage};

/// Most bytes of an incomplete line or event that are held back; beyond it they pass as they come. Far above any token's event, and
/// small enough to hold for a thousand streams.
const HELD_BYTES: usize = 64 * 1024;
/// Bytes kept of the end of a line that was too long to hold: final lines put their usage there.
const TAIL_BYTES: usize = 4 * 1024;
/// Bytes of an event's name that are compared.
const NAME_BYTES: usize = 64;

/// What may be sent on now: `held`, then `piece`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Release<'a> {
    /// What earlier pieces left.
    pub held: &'a [u8],
    /// Part of the piece just given.
    pub piece: &'a [u8],
}

impl Release<'_> {
    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty() && self.piece.is_empty()
    }
}

/// How a stream ended, once the node has closed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End<'a> {
    /// Its end was told (a terminal event, or an error in band): send `rest`, then `missing`, and end cleanly.
    Complete {
        /// Bytes still held.
        rest: &'a [u8],
        /// The line ends that the last event lacks.
        missing: &'static str,
    },
    /// It stopped without its end: the client must be told an error.
    NoTerminal {
        /// The incomplete line or event that was held back and is of no use to a client.
        held: &'a [u8],
        /// Whether part of an incomplete line or event was sent on because it was too long to hold; a line end (NDJSON) or an empty
        /// line (server-sent events) must come before the error.
        mid_event: bool,
    },
}

/// A line that is too long to hold, on its way through.
#[derive(Debug, Default)]
struct LongLine {
    head: Vec<u8>,
    tail: Vec<u8>,
    cut: bool,
}

impl LongLine {
    fn push(&mut self, bytes: &[u8]) {
        let room = HELD_BYTES.saturating_sub(self.head.len()).min(bytes.len());
        let (head, tail) = bytes.split_at(room);
        self.head.extend_from_slice(head);
        if !tail.is_empty() {
            self.cut = true;
            let keep = tail.len().saturating_sub(TAIL_BYTES);
            self.tail
                .extend_from_slice(tail.get(keep..).unwrap_or(tail));
            let excess = self.tail.len().saturating_sub(TAIL_BYTES);
            self.tail.drain(..excess);
        }
    }
}

/// Searches for the keys whose values can end a stream or tell its usage. Made once for a stream: making one costs as much as searching
/// a usual line with it.
#[derive(Debug)]
struct Finders {
    done: memmem::Finder<'static>,
    status: memmem::Finder<'static>,
    error: memmem::Finder<'static>,
    usage: memmem::Finder<'static>,
    timings: memmem::Finder<'static>,
    finish_reason: memmem::Finder<'static>,
}

impl Finders {
    fn new() -> Self {
        Self {
            done: memmem::Finder::new("\"done\""),
            status: memmem::Finder::new("\"status\""),
            error: memmem::Finder::new("\"error\""),
            usage: memmem::Finder::new("\"usage\""),
            timings: memmem::Finder::new("\"timings\""),
            finish_reason: memmem::Finder::new("\"finish_reason\""),
        }
    }
}

/// Watches one streamed answer.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent observations of one stream, not states of a machine"
)]
pub struct StreamWatch {
    form: StreamForm,
    /// The incomplete line or event at the end of what was pushed.
    held: Vec<u8>,
    /// What the last push released of it.
    released: Vec<u8>,
    /// Where the current line starts in `held`.
    line_start: usize,
    long: Option<LongLine>,
    event_name: Vec<u8>,
    terminal: bool,
    error: bool,
    /// Whether the line that told the end has not been released yet.
    end_is_held: bool,
    content: bool,
    finish_reason: bool,
    usage: Usage,
    find: Finders,
}

impl StreamWatch {
    /// Watches a stream of that form.
    pub fn new(form: StreamForm) -> Self {
        Self {
            form,
            held: Vec::new(),
            released: Vec::new(),
            line_start: 0,
            long: None,
            event_name: Vec::new(),
            terminal: false,
            error: false,
            end_is_held: false,
            content: false,
            finish_reason: false,
            usage: Usage::default(),
            find: Finders::new(),
        }
    }

    /// Whether the dialect's last event was seen: `"done":true`, `"status":"success"`, `[DONE]`, `message_stop`, `response.completed`,
    /// `.failed` or `.incomplete`.
    pub fn terminal_seen(&self) -> bool {
        self.terminal
    }

    /// Whether the node told an error in the stream, which is an end of its own.
    pub fn error_seen(&self) -> bool {
        self.error
    }

    /// Whether anything of the answer itself was seen: text, thoughts, tool calls; not the opening events. Until then another node can
    /// still answer.
    pub fn content_seen(&self) -> bool {
        self.content
    }

    /// Whether a chunk of OpenAI's form said why the answer ended. Some servers close after it without `[DONE]`.
    pub fn finish_reason_seen(&self) -> bool {
        self.finish_reason
    }

    /// What the stream has told about its tokens and times so far.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Takes the next piece of the stream, cut anywhere, and returns what may be sent on now.
    pub fn push<'a>(&'a mut self, piece: &'a [u8]) -> Release<'a> {
        self.released.clear();
        // Bytes of the piece that were copied to complete the held line, that end a line, and that end a line or event that may go.
        let (mut copied, mut lines_end, mut boundary) = (0, 0, None);
        for newline in memchr_iter(b'\n', piece) {
            let line = piece.get(lines_end..=newline).unwrap_or_default();
            let ends_event = if let Some(mut long) = self.long.take() {
                long.push(line);
                let ends_event = self.inspect_long(&long);
                self.long = (!ends_event).then(LongLine::default);
                ends_event
            } else if lines_end == 0 && !self.held.is_empty() {
                copied = newline + 1;
                self.held.extend_from_slice(line);
                self.inspect_held()
            } else {
                self.inspect(line)
            };
            lines_end = newline + 1;
            if ends_event {
                boundary = Some(lines_end);
                self.end_is_held = false;
            }
        }
        self.settle(piece, copied, lines_end, boundary)
    }

    /// Decides what of the held bytes and of the piece goes, and holds the rest.
    fn settle<'a>(
        &'a mut self,
        piece: &'a [u8],
        copied: usize,
        lines_end: usize,
        boundary: Option<usize>,
    ) -> Release<'a> {
        let part = |range: std::ops::Range<usize>| piece.get(range).unwrap_or_default();
        let current_line = part(lines_end..piece.len());
        if let Some(long) = &mut self.long {
            long.push(current_line);
            return Release { held: &[], piece };
        }
        let go = if let Some(end) = boundary {
            std::mem::swap(&mut self.released, &mut self.held);
            self.held.clear();
            let rest = part(end..piece.len());
            if rest.len() > HELD_BYTES {
                self.long = Some(LongLine::of(current_line));
                copied..piece.len()
            } else {
                self.held.extend_from_slice(rest);
                self.line_start = lines_end - end;
                copied..end
            }
        } else {
            self.held.extend_from_slice(part(copied..piece.len()));
            if lines_end > 0 {
                self.line_start = self.held.len() - current_line.len();
            }
            if self.held.len() > HELD_BYTES {
                let line = self.held.get(self.line_start..).unwrap_or_default();
                self.long = Some(LongLine::of(line));
                std::mem::swap(&mut self.released, &mut self.held);
            }
            0..0
        };
        Release {
            held: &self.released,
            piece: part(go),
        }
    }

    /// Tells how the stream ended, now that the node has closed it.
    pub fn finish(&mut self) -> End<'_> {
        let at_line_start = match &self.long {
            Some(long) => long.head.is_empty(),
            None => self.line_start >= self.held.len(),
        };
        // A server may close without ending its last line.
        if !at_line_start && self.long.is_none() {
            self.inspect_held();
        }
        let held: &[u8] = if self.long.is_some() { &[] } else { &self.held };
        if self.terminal || self.error {
            let missing = match (self.end_is_held, self.form, at_line_start) {
                (false, _, _) => "",
                (true, StreamForm::Ndjson, _) | (true, _, true) => "\n",
                (true, _, false) => "\n\n",
            };
            End::Complete {
                rest: held,
                missing,
            }
        } else {
            End::NoTerminal {
                held,
                mid_event: self.long.is_some(),
            }
        }
    }

    fn inspect_held(&mut self) -> bool {
        let held = std::mem::take(&mut self.held);
        let ends_event = self.inspect(held.get(self.line_start..).unwrap_or_default());
        self.line_start = held.len();
        self.held = held;
        ends_event
    }

    /// Takes a whole line; whether what came so far may be sent on after it.
    fn inspect(&mut self, line: &[u8]) -> bool {
        let line = line.trim_ascii_end();
        if self.form == StreamForm::Ndjson {
            if !line.is_empty() {
                self.ndjson_object(line);
            }
            return true;
        }
        if line.is_empty() {
            self.event_name.clear();
            return true;
        }
        if let Some(name) = line.strip_prefix(b"event:") {
            let name = name.trim_ascii();
            self.event_name.clear();
            self.event_name
                .extend_from_slice(name.get(..NAME_BYTES).unwrap_or(name));
        } else if let Some(data) = line.strip_prefix(b"data:") {
            if self.form == StreamForm::SseDone {
                self.openai_chunk(data.trim_ascii());
            } else {
                self.typed_event(data.trim_ascii());
            }
        }
        false
    }

    fn ends(&mut self, by_error: bool) {
        self.end_is_held = true;
        if by_error {
            self.error = true;
        } else {
            self.terminal = true;
        }
    }

    fn ndjson_object(&mut self, line: &[u8]) {
        self.content = self.content || ndjson_has_content(line);
        let can_end = value_starts(line, &self.find.done, b"t")
            || value_starts(line, &self.find.status, b"\"")
            || value_starts(line, &self.find.error, b"\"{[");
        if !can_end {
            return;
        }
        let Some(event) = Event::read(line) else {
            return;
        };
        if event.error.is_some() {
            self.ends(true);
        } else if is(event.done, "true") || is(event.status, "\"success\"") {
            self.usage.update(event.usage());
            self.ends(false);
        }
    }

    fn openai_chunk(&mut self, data: &[u8]) {
        if data == b"[DONE]" {
            self.ends(false);
            return;
        }
        self.content = self.content || openai_has_content(data);
        self.finish_reason =
            self.finish_reason || value_starts(data, &self.find.finish_reason, b"\"");
        let can_tell = value_starts(data, &self.find.usage, b"{")
            || value_starts(data, &self.find.timings, b"{")
            || value_starts(data, &self.find.error, b"\"{[");
        if can_tell && let Some(event) = Event::read(data) {
            if event.error.is_some() {
                self.ends(true);
            }
            self.usage.update(event.usage());
        }
    }

    fn typed_event(&mut self, data: &[u8]) {
        if !self.event_name.is_empty() && !may_tell(&self.event_name) {
            self.content = self.content || self.event_name != b"ping";
            return;
        }
        let Some(event) = Event::read(data) else {
            return;
        };
        let name = event.kind.unwrap_or_default().trim_matches('"');
        self.usage.update(event.usage());
        match name {
            "message_stop" | "response.completed" | "response.incomplete" => self.ends(false),
            "response.failed" => {
                self.ends(false);
                self.ends(true);
            }
            "error" => self.ends(true),
            _ if event.error.is_some() => self.ends(true),
            "message_start"
            | "message_delta"
            | "ping"
            | "response.created"
            | "response.in_progress"
            | "response.queued" => {}
            _ => self.content = true,
        }
    }

    /// Takes a line that passed in parts. What was cut out of its middle is content: the words that end a stream stand at a line's
    /// start, its usage at the end.
    fn inspect_long(&mut self, line: &LongLine) -> bool {
        if !line.cut {
            return self.inspect(&line.head);
        }
        self.content = true;
        let tail = String::from_utf8_lossy(&line.tail);
        match self.form {
            StreamForm::Ndjson => {
                let done = &self.find.done;
                if value_starts(&line.head, done, b"t") || value_starts(&line.tail, done, b"t") {
                    if let Some(start) = tail.find("\"total_duration\"") {
                        let counters = format!("{{{}", tail.get(start..).unwrap_or_default());
                        self.usage.update(super::usage_of_body(counters.as_bytes()));
                    }
                    self.ends(false);
                }
                true
            }
            StreamForm::SseDone | StreamForm::SseTyped => {
                if let Some(start) = tail.rfind("\"usage\":") {
                    let start = start + "\"usage\":".len();
                    let told = Cursor::new(tail.get(start..).unwrap_or_default()).skip();
                    if let Ok(told) = serde_json::from_str::<Value>(told) {
                        self.usage.update(of_usage(&told));
                    }
                }
                match self.event_name.as_slice() {
                    b"response.completed" | b"response.incomplete" => self.ends(false),
                    b"response.failed" => {
                        self.ends(false);
                        self.ends(true);
                    }
                    _ => {}
                }
                false
            }
        }
    }
}

impl LongLine {
    fn of(line: &[u8]) -> Self {
        let mut long = Self::default();
        long.push(line);
        long
    }
}

/// Events of Anthropic's and OpenAI's typed streams that can end them or carry usage, or that open them.
fn may_tell(name: &[u8]) -> bool {
    matches!(
        name,
        b"error"
            | b"message_start"
            | b"message_delta"
            | b"message_stop"
            | b"response.created"
            | b"response.in_progress"
            | b"response.queued"
            | b"response.completed"
            | b"response.failed"
            | b"response.incomplete"
    )
}

/// Whether the key stands somewhere in the line with a value that starts with one of those bytes. In a text within the line the key's
/// quotes would be escaped, so only deeper objects can pretend to be it; parsing the line settles that.
fn value_starts(line: &[u8], key: &memmem::Finder<'_>, first: &[u8]) -> bool {
    let width = key.needle().len();
    let mut rest = line;
    while let Some(at) = key.find(rest) {
        rest = rest.get(at + width..).unwrap_or_default();
        let value = rest.trim_ascii_start().strip_prefix(b":");
        let starts = value.and_then(|value| value.trim_ascii_start().first());
        if starts.is_some_and(|byte| first.contains(byte)) {
            return true;
        }
    }
    false
}

fn is(field: Option<&str>, written: &str) -> bool {
    field == Some(written)
}

/// Whether a value as it is written is a text, a list or an object that holds anything.
fn says_something(written: &str) -> bool {
    match written.as_bytes() {
        [b'"', inside @ ..] => inside != b"\"",
        [b'[' | b'{', inside @ ..] => {
            !matches!(inside.trim_ascii_start().first(), None | Some(b']' | b'}'))
        }
        _ => false,
    }
}

/// Walks the members of the object that comes next; `seen` steps over the value and says whether it was the one looked for.
fn any_member<'a>(
    cursor: &mut Cursor<'a>,
    mut seen: impl FnMut(&'a str, &mut Cursor<'a>) -> bool,
) -> bool {
    if cursor.kind() != Kind::Object {
        cursor.skip();
        return false;
    }
    cursor.enter();
    let mut any = false;
    while let Some(key) = cursor.key() {
        any |= seen(key, cursor);
    }
    any
}

fn ndjson_has_content(line: &[u8]) -> bool {
    let Some(mut cursor) = object(line) else {
        // What cannot be read may be content all the same.
        return true;
    };
    any_member(&mut cursor, |key, value| match key {
        "response" | "thinking" => says_something(value.skip()),
        "message" => any_member(value, |key, value| {
            matches!(key, "content" | "thinking" | "tool_calls" | "images")
                & says_something(value.skip())
        }),
        _ => {
            value.skip();
            false
        }
    })
}

fn openai_has_content(data: &[u8]) -> bool {
    let Some(mut cursor) = object(data) else {
        return true;
    };
    any_member(&mut cursor, |key, value| {
        if key != "choices" || value.kind() != Kind::Array {
            value.skip();
            return false;
        }
        value.enter();
        let mut any = false;
        while value.item() {
            any |= any_member(value, |key, value| match key {
                "text" => says_something(value.skip()),
                "delta" => any_member(value, |key, value| {
                    (key != "role") & says_something(value.skip())
                }),
                _ => {
                    value.skip();
                    false
                }
            });
        }
        any
    })
}

fn object(written: &[u8]) -> Option<Cursor<'_>> {
    let mut cursor = Cursor::new(std::str::from_utf8(written).ok()?);
    (cursor.kind() == Kind::Object).then_some(cursor)
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
