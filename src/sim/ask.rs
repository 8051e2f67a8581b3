//! What a request asks for, read from the wire forms that Ollama understands, with the errors that Ollama gives.

use std::time::Duration;

use serde_json::{Map, Value};

use super::model::KeepAlive;
use super::text;

/// The wire form of a request that generates text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `/api/chat`
    Chat,
    /// `/api/generate`
    Generate,
    /// `/v1/chat/completions`
    OpenAiChat,
    /// `/v1/completions`
    OpenAiCompletion,
    /// `/v1/messages`
    Anthropic,
}

impl Form {
    /// The Go type that Ollama names in its errors.
    fn type_name(self) -> &'static str {
        match self {
            Self::Chat => "ChatRequest",
            Self::Generate => "GenerateRequest",
            Self::OpenAiChat => "ChatCompletionRequest",
            Self::OpenAiCompletion => "CompletionRequest",
            Self::Anthropic => "MessagesRequest",
        }
    }

    fn is_native(self) -> bool {
        matches!(self, Self::Chat | Self::Generate)
    }
}

/// An error to be told in the dialect of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// Ollama's text.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    pub(super) fn new(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    fn wrong_type(value: &Value, owner: &str, field: &str, wanted: &str) -> Self {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        Self::new(
            400,
            format!(
                "json: cannot unmarshal {kind} into Go struct field {owner}.{field} of type {wanted}"
            ),
        )
    }
}

/// A request that generates text.
#[derive(Debug, Clone, PartialEq)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a field of the wire form"
)]
pub(super) struct Ask {
    /// The name as it was written.
    pub model: String,
    /// Everything that the model would read.
    pub prompt: String,
    /// Its tokens, those of images and message frames included.
    pub prompt_tokens: u32,
    /// Nothing to generate: only load or unload.
    pub empty: bool,
    /// Whether the answer streams.
    pub stream: bool,
    /// Whether an `OpenAI` stream ends with its usage.
    pub usage: bool,
    /// `options.num_ctx`
    pub num_ctx: Option<u32>,
    /// `options.num_gpu`
    pub num_gpu: Option<i64>,
    /// Limit of the answer in tokens.
    pub num_predict: Option<u32>,
    /// `options.seed`
    pub seed: Option<i64>,
    /// `keep_alive`
    pub keep_alive: Option<KeepAlive>,
    /// Tools are offered.
    pub tools: bool,
    /// Thinking is wanted.
    pub think: bool,
    /// A suffix is given: fill in the middle.
    pub suffix: bool,
    /// `truncate: false` refuses long prompts instead of cutting them.
    pub truncate: bool,
    /// JSON is wanted.
    pub json: bool,
    /// No template, no `context` in the answer.
    pub raw: bool,
}

/// Tokens that the frame of a message costs.
const FRAME_TOKENS: u32 = 4;
/// Tokens of an image: 256 patches are usual for small vision models.
const IMAGE_TOKENS: u32 = 256;

/// Parses a body as Go's decoder would: the error texts are its own for the common cases.
pub(super) fn object(body: &[u8], empty: &str) -> Result<Map<String, Value>, Refusal> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(Refusal::new(400, empty));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(other) => Err(Refusal::wrong_type(&other, "Request", "body", "struct")),
        Err(error) if error.is_eof() => Err(Refusal::new(400, "unexpected EOF")),
        Err(error) => {
            let found = body
                .split(|byte| *byte == b'\n')
                .nth(error.line().saturating_sub(1))
                .and_then(|line| line.get(error.column().saturating_sub(1)))
                .map_or('?', |byte| char::from(*byte));
            Err(Refusal::new(
                400,
                format!("invalid character '{found}' looking for beginning of value"),
            ))
        }
    }
}

/// A text field; absent and null are the empty text.
pub(super) fn text_field(
    map: &Map<String, Value>,
    owner: &str,
    field: &str,
) -> Result<String, Refusal> {
    match map.get(field) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(Refusal::wrong_type(other, owner, field, "string")),
    }
}

/// A flag; none when absent.
pub(super) fn bool_field(
    map: &Map<String, Value>,
    owner: &str,
    field: &str,
) -> Result<Option<bool>, Refusal> {
    match map.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(*value)),
        Some(other) => Err(Refusal::wrong_type(other, owner, field, "bool")),
    }
}

/// `keep_alive`: seconds as a number, or a Go duration; negative is for ever.
pub(super) fn keep_alive(map: &Map<String, Value>) -> Result<Option<KeepAlive>, Refusal> {
    match map.get("keep_alive") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => {
            let seconds = number.as_f64().unwrap_or(0.0);
            Ok(Some(if seconds < 0.0 {
                KeepAlive::Forever
            } else {
                Duration::try_from_secs_f64(seconds).map_or(KeepAlive::Forever, KeepAlive::For)
            }))
        }
        Some(Value::String(text)) => go_duration(text)
            .map(Some)
            .map_err(|message| Refusal::new(400, message)),
        Some(other) => Err(Refusal::new(
            400,
            format!("Unsupported type: '{}'", kind_of(other)),
        )),
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "bool",
        Value::Array(_) => "[]interface {}",
        _ => "map[string]interface {}",
    }
}

/// A duration as Go writes it: `5m`, `1h30m`, `-1m`, `0`.
fn go_duration(text: &str) -> Result<KeepAlive, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(KeepAlive::For(Duration::ZERO));
    }
    let mut rest = rest;
    let mut seconds = 0.0;
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(|| format!("time: missing unit in duration {text:?}"))?;
        let (number, tail) = rest.split_at(end);
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let end = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        seconds += number
            * match unit {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
            };
        rest = tail;
    }
    if negative {
        return Ok(KeepAlive::Forever);
    }
    Duration::try_from_secs_f64(seconds)
        .map(KeepAlive::For)
        .map_err(|_| invalid())
}

impl Ask {
    /// Reads a request.
    pub(super) fn read(form: Form, body: &[u8]) -> Result<Self, Refusal> {
        let empty = if form.is_native() {
            "missing request body"
        } else {
            "EOF"
        };
        let map = object(body, empty)?;
        let owner = form.type_name();
        let none = Map::new();
        let options = match map.get("options") {
            Some(Value::Object(options)) if form.is_native() => options,
            Some(Value::Null) | None => &none,
            Some(other) if form.is_native() => {
                return Err(Refusal::wrong_type(
                    other,
                    owner,
                    "options",
                    "map[string]interface {}",
                ));
            }
            Some(_) => &none,
        };
        let (prompt, prompt_tokens, empty) = prompt(form, &map)?;
        let stream = bool_field(&map, owner, "stream")?;
        let limit = if form.is_native() {
            integer(options, "num_predict")?
        } else {
            map.get("max_tokens").and_then(Value::as_i64)
        };
        let usage = map
            .get("stream_options")
            .and_then(|options| options.get("include_usage"))
            .and_then(Value::as_bool);
        let offered =
            |field| matches!(map.get(field), Some(Value::Array(list)) if !list.is_empty());
        let ask = Self {
            model: text_field(&map, owner, "model")?,
            prompt,
            prompt_tokens,
            empty,
            stream: stream.unwrap_or(form.is_native()),
            usage: usage.unwrap_or(false),
            num_ctx: integer(options, "num_ctx")?.and_then(|n| u32::try_from(n).ok()),
            num_gpu: integer(options, "num_gpu")?,
            // Negative means without limit; so does 0 in practice.
            num_predict: limit
                .filter(|n| *n > 0)
                .map(|n| u32::try_from(n).unwrap_or(u32::MAX)),
            seed: integer(options, "seed")?.or_else(|| map.get("seed").and_then(Value::as_i64)),
            keep_alive: if form.is_native() {
                keep_alive(&map)?
            } else {
                None
            },
            tools: offered("tools"),
            think: match map.get("think") {
                Some(Value::Bool(think)) => *think,
                Some(Value::String(_)) => true,
                _ => false,
            },
            suffix: !text_field(&map, owner, "suffix")?.is_empty(),
            truncate: bool_field(&map, owner, "truncate")?.unwrap_or(true),
            json: wants_json(form, &map),
            raw: bool_field(&map, owner, "raw")?.unwrap_or(false),
        };
        if form == Form::Anthropic && ask.num_predict.is_none() {
            return Err(Refusal::new(
                400,
                "max_tokens is required and must be positive",
            ));
        }
        Ok(ask)
    }
}

fn wants_json(form: Form, map: &Map<String, Value>) -> bool {
    if form.is_native() {
        return match map.get("format") {
            Some(Value::String(format)) => format == "json",
            Some(Value::Object(_)) => true,
            _ => false,
        };
    }
    map.get("response_format")
        .and_then(|format| format.get("type"))
        .and_then(Value::as_str)
        .is_some_and(|kind| kind.starts_with("json"))
}

fn integer(options: &Map<String, Value>, name: &str) -> Result<Option<i64>, Refusal> {
    match options.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => Ok(number.as_i64().or_else(|| {
            #[allow(
                clippy::cast_possible_truncation,
                reason = "Go cuts the fraction of an integer option too"
            )]
            number.as_f64().map(|float| float as i64)
        })),
        Some(_) => Err(Refusal::new(
            500,
            format!("option \"{name}\" must be of type integer"),
        )),
    }
}

/// The text that the model would read, its tokens, and whether there is nothing to answer.
fn prompt(form: Form, map: &Map<String, Value>) -> Result<(String, u32, bool), Refusal> {
    let owner = form.type_name();
    let mut all = String::new();
    let mut extra = 0_u32;
    if matches!(form, Form::Generate | Form::OpenAiCompletion) {
        let prompt = text_field(map, owner, "prompt")?;
        let empty = prompt.is_empty() && form == Form::Generate;
        all.push_str(&text_field(map, owner, "system")?);
        all.push_str(&prompt);
        extra += images(map);
        let tokens = text::tokens(&all).saturating_add(extra).max(1);
        return Ok((all, tokens, empty));
    }
    if let Some(system) = map.get("system") {
        all.push_str(&content(system, true, owner, "system")?);
        all.push('\n');
    }
    let messages = match map.get("messages") {
        None | Some(Value::Null) => &Vec::new(),
        Some(Value::Array(messages)) => messages,
        Some(other) => {
            return Err(Refusal::wrong_type(
                other,
                owner,
                "messages",
                "[]api.Message",
            ));
        }
    };
    if messages.is_empty() && form != Form::Chat {
        return Err(Refusal::new(
            400,
            match form {
                Form::Anthropic => "messages is required",
                _ => "[] is too short - 'messages'",
            },
        ));
    }
    for message in messages {
        let Value::Object(message) = message else {
            return Err(Refusal::wrong_type(
                message,
                owner,
                "messages",
                "api.Message",
            ));
        };
        all.push_str(&text_field(message, owner, "role")?);
        all.push_str(": ");
        let parts = !form.is_native();
        if let Some(value) = message.get("content") {
            all.push_str(&content(value, parts, owner, "messages.content")?);
        }
        all.push('\n');
        extra = extra
            .saturating_add(FRAME_TOKENS)
            .saturating_add(images(message));
    }
    let tokens = text::tokens(&all).saturating_add(extra).max(1);
    Ok((all, tokens, messages.is_empty()))
}

fn images(owner: &Map<String, Value>) -> u32 {
    let native = owner
        .get("images")
        .and_then(Value::as_array)
        .map_or(0, Vec::len);
    let parts = owner
        .get("content")
        .and_then(Value::as_array)
        .map_or(0, |parts| {
            parts
                .iter()
                .filter(|part| {
                    part.get("type")
                        .and_then(Value::as_str)
                        .is_some_and(|kind| kind.starts_with("image"))
                })
                .count()
        });
    u32::try_from(native + parts)
        .unwrap_or(u32::MAX)
        .saturating_mul(IMAGE_TOKENS)
}

/// The text of a content: a text, or (outside of the native form) parts.
fn content(value: &Value, parts: bool, owner: &str, field: &str) -> Result<String, Refusal> {
    match value {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        Value::Array(list) if parts => Ok(list
            .iter()
            .filter_map(|part| part.get("text").and_then(Value::as_str))
            .collect::<Vec<_>>()
            .join("\n")),
        other => Err(Refusal::wrong_type(other, owner, field, "string")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{arbitrary::any, collection::vec, prop_assert, proptest};

    fn read(form: Form, body: &str) -> Ask {
        Ask::read(form, body.as_bytes()).unwrap()
    }

    fn refusal(form: Form, body: &str) -> (u16, String) {
        let refusal = Ask::read(form, body.as_bytes()).unwrap_err();
        (refusal.status, refusal.message)
    }

    #[test]
    fn errors_are_those_of_the_recorded_ollama() {
        for (body, status, message) in [
            ("", 400, "missing request body"),
            (r#"{"model": "tiny", "messages": ["#, 400, "unexpected EOF"),
            (
                r#"{"model":"tiny","messages":[],"options":{"num_predict":"many"}}"#,
                500,
                r#"option "num_predict" must be of type integer"#,
            ),
        ] {
            assert_eq!(
                refusal(Form::Chat, body),
                (status, message.to_owned()),
                "{body}"
            );
        }
    }

    #[test]
    fn streams_by_default_only_in_the_native_form() {
        assert!(read(Form::Generate, r#"{"model":"m","prompt":"x"}"#).stream);
        let body = r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#;
        assert!(read(Form::Chat, body).stream);
        assert!(!read(Form::OpenAiChat, body).stream);
    }

    #[test]
    fn empty_means_load_only_in_the_native_form() {
        assert!(read(Form::Chat, r#"{"model":"m","messages":[]}"#).empty);
        assert!(read(Form::Generate, r#"{"model":"m"}"#).empty);
        assert_eq!(
            refusal(Form::OpenAiChat, r#"{"model":"m","messages":[]}"#),
            (400, "[] is too short - 'messages'".to_owned())
        );
    }

    #[test]
    fn keep_alive_is_seconds_or_a_go_duration() {
        let read = |value: &str| {
            let body = format!(r#"{{"keep_alive":{value}}}"#);
            keep_alive(&object(body.as_bytes(), "").unwrap())
        };
        let seconds = |s| Ok(Some(KeepAlive::For(Duration::from_secs(s))));
        assert_eq!(read("1800"), seconds(1800));
        assert_eq!(read("0"), seconds(0));
        assert_eq!(read(r#""1h30m""#), seconds(5400));
        assert_eq!(read("-1"), Ok(Some(KeepAlive::Forever)));
        assert_eq!(read(r#""-1m""#), Ok(Some(KeepAlive::Forever)));
        assert!(read(r#""5""#).unwrap_err().message.contains("missing unit"));
        assert!(read(r#""soon""#).is_err());
    }

    #[test]
    fn parts_are_read_outside_of_the_native_form_only() {
        let body = r#"{"model":"m","max_tokens":1,"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}]}"#;
        assert!(read(Form::OpenAiChat, body).prompt.contains("hi"));
        assert!(read(Form::Anthropic, body).prompt.contains("hi"));
        assert_eq!(refusal(Form::Chat, body).0, 400);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_refused_or_read(body in vec(any::<u8>(), 0..200)) {
            if let Err(refusal) = Ask::read(Form::Chat, &body) {
                prop_assert!((400..=500).contains(&refusal.status));
            }
        }

        #[test]
        fn go_durations_never_panic(text in ".*") {
            let _ = go_duration(&text);
        }
    }
}
