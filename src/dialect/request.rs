//! What a request asks for, read from its body without changing a byte of it.
//!
//! One pass checks the whole body and notes where the fields of interest lie; nothing is unescaped until it is needed, and unknown
//! fields are stepped over. What the node judges itself (messages of a wrong type, odd options) is not judged here.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::hash::Hasher;
use std::ops::Range;
use std::time::Duration;

use super::cursor::{Cursor, Kind, unescaped};
use super::json;
use super::prompt::{Prompt, holds_items};
use super::session::SessionFields;
use super::{ApiError, Dialect, Endpoint};
use crate::routing::{Family, RequestFacts, Task, TurnRole};

/// How long a node is asked to keep a model (Ollama's `keep_alive`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAlive {
    /// Unload it at once.
    Unload,
    /// Keep it this long after its last request.
    For(Duration),
    /// Keep it until told otherwise.
    Forever,
}

/// The fields of interest as they are written; `null` too.
#[derive(Debug, Default)]
pub(super) struct Fields<'a> {
    model: Option<&'a str>,
    name: Option<&'a str>,
    source: Option<&'a str>,
    stream: Option<&'a str>,
    messages: Option<&'a str>,
    prompt: Option<&'a str>,
    suffix: Option<&'a str>,
    input: Option<&'a str>,
    system: Option<&'a str>,
    instructions: Option<&'a str>,
    context: Option<&'a str>,
    images: Option<&'a str>,
    tools: Option<&'a str>,
    pub(super) options: Option<&'a str>,
    keep_alive: Option<&'a str>,
    truncate: Option<&'a str>,
    pub(super) max_tokens: Option<&'a str>,
    max_completion_tokens: Option<&'a str>,
    max_output_tokens: Option<&'a str>,
}

impl<'a> Fields<'a> {
    /// The place of a field; `None` for a key of no interest.
    fn slot(&mut self, key: &str) -> Option<&mut Option<&'a str>> {
        Some(match key {
            "model" => &mut self.model,
            "name" => &mut self.name,
            "source" => &mut self.source,
            "stream" => &mut self.stream,
            "messages" => &mut self.messages,
            "prompt" => &mut self.prompt,
            "suffix" => &mut self.suffix,
            "input" => &mut self.input,
            "system" => &mut self.system,
            "instructions" => &mut self.instructions,
            "context" => &mut self.context,
            "images" => &mut self.images,
            "tools" => &mut self.tools,
            "options" => &mut self.options,
            "keep_alive" => &mut self.keep_alive,
            "truncate" => &mut self.truncate,
            "max_tokens" => &mut self.max_tokens,
            "max_completion_tokens" => &mut self.max_completion_tokens,
            "max_output_tokens" => &mut self.max_output_tokens,
            _ => return None,
        })
    }

    fn read(body: &'a str, sessions: &mut SessionFields<'a>) -> Result<Self, ApiError> {
        let mut fields = Self::default();
        let mut twice = None;
        json::read_object(body, |key, value| {
            let key = unescaped(key);
            match fields.slot(&key) {
                Some(slot) => {
                    if slot.replace(value).is_some() {
                        twice = Some(key);
                    }
                }
                None => sessions.note(&key, value),
            }
        })
        .map_err(|malformed| {
            ApiError::invalid(if malformed.problem == json::UNEXPECTED_END {
                malformed.problem.to_owned()
            } else {
                format!(
                    "invalid JSON at byte {}: {}",
                    malformed.at, malformed.problem
                )
            })
        })?;
        // Servers disagree on which of two counts, so the one that was routed by might not be the one that is answered.
        match twice {
            Some(key) => Err(ApiError::invalid(format!("`{key}` is given twice"))),
            None => Ok(fields),
        }
    }
}

/// A request's body, checked, with its fields in place.
#[derive(Debug)]
pub struct Parsed<'a> {
    endpoint: &'a Endpoint,
    pub(super) body: &'a str,
    pub(super) fields: Fields<'a>,
    pub(super) sessions: SessionFields<'a>,
    model: Option<(Cow<'a, str>, Range<usize>)>,
    stream: bool,
    prompt: OnceCell<Prompt<'a>>,
}

/// Reads a request's JSON body (already decoded: [`super::decode_content`]).
///
/// Errors (all 400): an empty body, a body that is not one JSON object, a field of interest twice, `model` that is no string, `stream`
/// that is no boolean. A missing model is no error here: [`ApiError::model_required`] is for a router that needs one.
pub fn parse<'a>(endpoint: &'a Endpoint, body: &'a [u8]) -> Result<Parsed<'a>, ApiError> {
    if body.trim_ascii().is_empty() {
        return Err(ApiError::invalid("missing request body"));
    }
    let body = std::str::from_utf8(body)
        .map_err(|error| ApiError::invalid(format!("invalid JSON: not UTF-8: {error}")))?;
    let mut sessions = SessionFields::default();
    let fields = Fields::read(body, &mut sessions)?;
    let model = match endpoint {
        Endpoint::Copy => named(body, "source", fields.source)?,
        Endpoint::Show | Endpoint::Pull | Endpoint::Push | Endpoint::Create | Endpoint::Delete => {
            match named(body, "model", fields.model)? {
                Some(model) => Some(model),
                None => named(body, "name", fields.name)?,
            }
        }
        _ => named(body, "model", fields.model)?,
    };
    let stream = match fields.stream {
        None | Some("null") => endpoint.streams_by_default(),
        Some("true") => true,
        Some("false") => false,
        Some(_) => return Err(ApiError::invalid("`stream` must be true or false")),
    };
    Ok(Parsed {
        endpoint,
        body,
        fields,
        sessions,
        model,
        stream,
        prompt: OnceCell::new(),
    })
}

type Named<'a> = Option<(Cow<'a, str>, Range<usize>)>;

fn named<'a>(body: &str, key: &str, field: Option<&'a str>) -> Result<Named<'a>, ApiError> {
    let Some(field) = field.filter(|field| *field != "null") else {
        return Ok(None);
    };
    let name =
        read_string(field).ok_or_else(|| ApiError::invalid(format!("`{key}` must be a string")))?;
    Ok((!name.is_empty()).then(|| (name, span_of(body, field))))
}

/// Where a field lies in the body it was read from.
pub(super) fn span_of(body: &str, field: &str) -> Range<usize> {
    let start = field.as_ptr().addr().saturating_sub(body.as_ptr().addr());
    start..start + field.len()
}

fn read_string(field: &str) -> Option<Cow<'_, str>> {
    let inside = field.strip_prefix('"')?.strip_suffix('"')?;
    Some(unescaped(inside))
}

/// A count that is not negative; Ollama's -1 and -2 mean no limit. `4096.0` is 4096, as JavaScript means it.
fn read_count(field: Option<&str>) -> Option<u64> {
    let written = field?;
    let whole = written.strip_suffix(".0").unwrap_or(written);
    whole.parse().ok()
}

impl<'a> Parsed<'a> {
    /// The operation it was read for.
    pub fn endpoint(&self) -> &'a Endpoint {
        self.endpoint
    }

    /// The model as the client wrote it; `None` when it named none or an empty one. For `show`, `pull`, `push`, `create` and `delete`
    /// also from `name`, for `copy` from `source`.
    pub fn model(&self) -> Option<&str> {
        self.model.as_ref().map(|(name, _)| name.as_ref())
    }

    /// Where in the body that name stands, quotes included.
    pub fn model_span(&self) -> Option<Range<usize>> {
        self.model.as_ref().map(|(_, span)| span.clone())
    }

    /// Whether the answer is to be streamed; what the dialect does when the client does not say.
    pub fn stream(&self) -> bool {
        self.stream
    }

    /// Whether Ollama only loads (or unloads) the model and generates nothing: no messages, or an empty prompt.
    pub fn load_only(&self) -> bool {
        let (field, is_empty): (_, fn(&str) -> bool) = match self.endpoint {
            Endpoint::Chat => (self.fields.messages, is_empty_array),
            Endpoint::Generate => (self.fields.prompt, |prompt| prompt == "\"\""),
            _ => return false,
        };
        field.is_none_or(|field| field == "null" || is_empty(field))
    }

    /// Whether Ollama is asked to unload the model now; goes to every node that holds it.
    pub fn unload(&self) -> bool {
        self.load_only() && self.keep_alive() == Some(KeepAlive::Unload)
    }

    /// Ollama's `keep_alive`: a number of seconds or a Go duration, negative for ever; `None` when absent or not readable (the node
    /// judges it).
    pub fn keep_alive(&self) -> Option<KeepAlive> {
        let field = self.fields.keep_alive?;
        match read_string(field) {
            Some(text) => parse_go_duration(&text),
            None => keep_for_seconds(field.parse().ok()?),
        }
    }

    /// Ollama's `options.num_ctx`, in tokens.
    pub fn num_ctx(&self) -> Option<u64> {
        read_count(self.option("num_ctx"))
    }

    /// Most tokens the client wants back, in any spelling of its dialect; `None` when it set no limit.
    pub fn max_tokens(&self) -> Option<u64> {
        match self.endpoint.dialect() {
            Dialect::Ollama => read_count(self.option("num_predict")),
            Dialect::OpenAi | Dialect::Anthropic => read_count(self.fields.max_completion_tokens)
                .or_else(|| read_count(self.fields.max_tokens))
                .or_else(|| read_count(self.fields.max_output_tokens)),
        }
    }

    /// A member of Ollama's `options`, as it is written.
    pub fn option(&self, wanted: &str) -> Option<&'a str> {
        let mut cursor = Cursor::new(self.fields.options?);
        if cursor.kind() != Kind::Object {
            return None;
        }
        cursor.enter();
        while let Some(key) = cursor.key() {
            let value = cursor.skip();
            if unescaped(key) == wanted {
                return Some(value);
            }
        }
        None
    }

    /// `keep_alive` as it is written, as JSON text.
    pub fn keep_alive_text(&self) -> Option<&'a str> {
        self.fields.keep_alive.filter(|text| *text != "null")
    }

    /// Whether the client says itself what becomes of a prompt that is too long (Ollama's `truncate`).
    pub fn says_truncate(&self) -> bool {
        self.fields.truncate.is_some_and(|text| text != "null")
    }

    /// Whether a text is to be filled in before a given end.
    pub fn fills_in(&self) -> bool {
        let suffix = self.fields.suffix;
        suffix.is_some_and(|text| text != "null" && text != "\"\"")
    }

    /// What the prompt consists of, as it is written, in the order in which a model reads it.
    pub fn prompt_parts(&self) -> impl Iterator<Item = &'a str> {
        let fields = &self.fields;
        [
            fields.tools,
            fields.system,
            fields.instructions,
            fields.messages,
            fields.input,
            fields.prompt,
        ]
        .into_iter()
        .flatten()
    }

    /// The last turn of the human, as far as its beginning says what kind of work it is.
    pub fn last_turn(&self) -> Option<String> {
        let mut turns = self.prompt().turns();
        let last = turns.iter().rposition(|turn| turn.role == TurnRole::User)?;
        Some(turns.swap_remove(last).text)
    }

    /// Whether tools are offered.
    pub fn tools(&self) -> bool {
        self.fields.tools.is_some_and(holds_items)
    }

    /// Whether the prompt holds images.
    pub fn images(&self) -> bool {
        self.prompt().images()
    }

    /// Characters of the prompt's texts as they are written, and of those among them that are said in the conversation (the rest are
    /// definitions and calls of tools, and thoughts).
    pub fn prompt_characters(&self) -> (u64, u64) {
        self.prompt().characters()
    }

    /// A hash of the prompt's beginning: equal for prompts that begin alike.
    pub fn prompt_beginning(&self) -> u64 {
        self.prompt().beginning()
    }

    /// Whether the prompt is one text for the model; several embeddings are counted together.
    pub fn one_prompt(&self) -> bool {
        match self.endpoint {
            Endpoint::Embed | Endpoint::Embeddings => self
                .fields
                .input
                .is_some_and(|input| input.starts_with('"')),
            _ => true,
        }
    }

    /// The `input` of embeddings and responses as it is written: a string, or an array.
    pub fn input(&self) -> Option<&'a str> {
        self.fields.input
    }

    /// What the system says before anybody else does, as it is written.
    pub(super) fn opening(&self) -> Vec<&'a str> {
        self.prompt().opening()
    }

    fn prompt(&self) -> &Prompt<'a> {
        self.prompt.get_or_init(|| {
            let mut prompt = Prompt::default();
            let fields = &self.fields;
            let in_order = [
                (fields.system, TurnRole::System),
                (fields.instructions, TurnRole::System),
                (fields.messages, TurnRole::User),
                (fields.context, TurnRole::User),
                (fields.input, TurnRole::User),
                (fields.prompt, TurnRole::User),
                (fields.suffix, TurnRole::User),
            ];
            for (field, role) in in_order {
                if let Some(field) = field.filter(|field| *field != "null") {
                    prompt.add_field(field, role);
                }
            }
            if let Some(tools) = fields.tools.filter(|_| self.tools()) {
                prompt.add_json(tools);
            }
            if fields.images.is_some_and(holds_items) {
                prompt.note_images();
            }
            prompt
        })
    }

    /// Hashes of the prompt's beginnings: of everything up to the end of each block of `block_bytes` bytes of text, at most `most` of them;
    /// the unfinished last block counts for nothing. Equal beginnings have equal hashes. `hasher` decides who can guess texts from them.
    pub fn prefix(&self, block_bytes: usize, most: usize, hasher: impl Hasher) -> Vec<u64> {
        self.prompt().prefix(block_bytes, most, hasher)
    }

    /// What is said in the prompt, message by message, oldest first; tools, pictures and token ids left out.
    pub fn conversation(&self) -> Vec<(TurnRole, String)> {
        self.prompt().conversation()
    }

    /// What routing needs to know. Token counts are estimates for the tokenizer family; `want_turns` fills the turns (class routing
    /// needs them). The tier is left to the headers.
    pub fn facts(&self, family: Family, want_turns: bool) -> RequestFacts {
        let prompt = self.prompt();
        let task = match self.endpoint {
            Endpoint::Embed | Endpoint::LegacyEmbeddings | Endpoint::Embeddings => Task::Embed,
            _ => Task::Complete,
        };
        RequestFacts {
            model: self.model().map(str::to_owned),
            task,
            images: prompt.images(),
            tools: self.tools(),
            housekeeping: false,
            prompt_tokens: prompt.tokens(family),
            max_tokens: self.max_tokens(),
            turns: if want_turns {
                prompt.turns()
            } else {
                Vec::new()
            },
        }
    }
}

fn is_empty_array(written: &str) -> bool {
    written.starts_with('[') && !holds_items(written)
}

fn keep_for_seconds(seconds: f64) -> Option<KeepAlive> {
    if seconds < 0.0 {
        Some(KeepAlive::Forever)
    } else if seconds == 0.0 {
        Some(KeepAlive::Unload)
    } else {
        Duration::try_from_secs_f64(seconds)
            .ok()
            .map(KeepAlive::For)
    }
}

/// Go's `time.ParseDuration`: signed decimal numbers, each with a unit, such as `1h30m` or `-1m`; a bare `0`.
fn parse_go_duration(text: &str) -> Option<KeepAlive> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(KeepAlive::Unload);
    }
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| c != '.' && !c.is_ascii_digit())?;
        let (number, after) = rest.split_at(number_end);
        let unit_end = after
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let unit_seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * unit_seconds;
        rest = after;
    }
    keep_for_seconds(if negative { -seconds } else { seconds })
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
