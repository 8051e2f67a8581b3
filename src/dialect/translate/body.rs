//! The body of a chat completions request, built from parts that keep their spelling.

use std::borrow::Cow;

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use super::TranslateError;

/// Fields in the order they were set; each value is JSON text.
#[derive(Debug, Default)]
pub(super) struct Body<'a> {
    fields: Vec<(&'static str, Cow<'a, RawValue>)>,
}

impl<'a> Body<'a> {
    pub(super) fn new(model: &str) -> Result<Self, TranslateError> {
        let mut body = Self::default();
        body.set("model", model)?;
        Ok(body)
    }

    pub(super) fn set<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), TranslateError> {
        self.fields.push((name, Cow::Owned(to_raw_value(value)?)));
        Ok(())
    }

    /// Takes a value over as it was written; an absent one sets nothing.
    pub(super) fn copy(&mut self, name: &'static str, value: Option<&'a RawValue>) {
        if let Some(value) = value {
            self.fields.push((name, Cow::Borrowed(value)));
        }
    }

    /// `stream`, and the wish for a usage report, without which a streamed answer tells no token counts.
    pub(super) fn stream(&mut self, stream: bool) -> Result<(), TranslateError> {
        self.set("stream", &stream)?;
        if stream {
            self.set(
                "stream_options",
                &serde_json::json!({"include_usage": true}),
            )?;
        }
        Ok(())
    }

    /// Switches the thinking of templates that know the switch (Qwen, `DeepSeek` and others; read by llama-server, vLLM, `SGLang`).
    pub(super) fn enable_thinking(&mut self, enable: bool) -> Result<(), TranslateError> {
        self.set(
            "chat_template_kwargs",
            &serde_json::json!({"enable_thinking": enable}),
        )
    }

    /// A JSON schema the answer must follow. `name` is required by OpenAI and has no meaning elsewhere.
    pub(super) fn json_schema(&mut self, schema: &RawValue) -> Result<(), TranslateError> {
        self.set(
            "response_format",
            &ResponseFormat {
                kind: "json_schema",
                json_schema: JsonSchema {
                    name: "answer",
                    schema,
                    strict: None,
                },
            },
        )
    }

    pub(super) fn into_bytes(self) -> Result<Vec<u8>, TranslateError> {
        Ok(serde_json::to_vec(&self)?)
    }
}

impl Serialize for Body<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.fields.len()))?;
        for (name, value) in &self.fields {
            map.serialize_entry(name, value.as_ref())?;
        }
        map.end()
    }
}

#[derive(Serialize)]
pub(super) struct ResponseFormat<'a> {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) json_schema: JsonSchema<'a>,
}

#[derive(Serialize)]
pub(super) struct JsonSchema<'a> {
    pub(super) name: &'a str,
    pub(super) schema: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) strict: Option<bool>,
}

/// One message of a chat completions request.
#[derive(Debug, Default, Serialize)]
pub(super) struct ChatMessage {
    pub(super) role: Cow<'static, str>,
    pub(super) content: Content,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) tool_calls: Vec<ToolCall>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tool_call_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<String>,
}

impl ChatMessage {
    pub(super) fn text(role: &'static str, text: impl Into<String>) -> Self {
        Self {
            role: Cow::Borrowed(role),
            content: Content::Text(text.into()),
            ..Self::default()
        }
    }

    /// A tool's result.
    pub(super) fn tool(call_id: String, text: String) -> Self {
        Self {
            tool_call_id: Some(call_id),
            ..Self::text("tool", text)
        }
    }
}

/// Plain text wherever there is nothing but text: many chat templates take only that.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Content {
    Text(String),
    Parts(Vec<Part>),
}

impl Default for Content {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

impl Content {
    /// Text joined by `separator`, or parts when an image is among them.
    pub(super) fn from_parts(parts: Vec<Part>, separator: &str) -> Self {
        if parts
            .iter()
            .any(|part| matches!(part, Part::ImageUrl { .. }))
        {
            return Self::Parts(parts);
        }
        let texts: Vec<String> = parts
            .into_iter()
            .filter_map(|part| match part {
                Part::Text { text } => Some(text),
                Part::ImageUrl { .. } => None,
            })
            .collect();
        Self::Text(texts.join(separator))
    }
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Part {
    Text { text: String },
    ImageUrl { image_url: ImageUrl },
}

impl Part {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into() }
    }

    pub(super) fn image(url: String) -> Self {
        Self::ImageUrl {
            image_url: ImageUrl { url, detail: None },
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct ImageUrl {
    pub(super) url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
}

/// A call the model made earlier in the conversation.
#[derive(Debug, Serialize)]
pub(super) struct ToolCall {
    pub(super) id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    pub(super) function: CalledFunction,
}

#[derive(Debug, Serialize)]
pub(super) struct CalledFunction {
    pub(super) name: String,
    /// JSON text, as OpenAI has it.
    arguments: String,
}

impl ToolCall {
    pub(super) fn new(id: String, name: String, arguments: String) -> Self {
        Self {
            id,
            kind: "function",
            function: CalledFunction { name, arguments },
        }
    }
}

/// A function offered to the model.
#[derive(Debug, Serialize)]
pub(super) struct Tool<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function<'a>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Function<'a> {
    pub(super) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<String>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pub(super) parameters: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) strict: Option<bool>,
}

impl<'a> Tool<'a> {
    pub(super) fn new(function: Function<'a>) -> Self {
        Self {
            kind: "function",
            function,
        }
    }
}

/// `tool_choice` naming one function.
pub(super) fn choose_function(name: &str) -> serde_json::Value {
    serde_json::json!({"type": "function", "function": {"name": name}})
}

/// A list that may also be written as one string, as `content`, `system` and `input` may be.
pub(super) enum TextOr<T> {
    Text(String),
    List(Vec<T>),
}

impl<'a, T: Deserialize<'a>> TextOr<T> {
    pub(super) fn read(raw: &'a RawValue) -> Result<Self, TranslateError> {
        if raw.get().starts_with('"') {
            Ok(Self::Text(serde_json::from_str(raw.get())?))
        } else {
            Ok(Self::List(serde_json::from_str(raw.get())?))
        }
    }
}

/// `text` without line breaks between its tokens.
///
/// Valid JSON has bare line breaks only between tokens, so the meaning is the same, and it fits in one line of NDJSON or SSE.
pub(super) fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// The arguments of a call as a JSON object on one line; no arguments at all are `{}`.
pub(super) fn arguments_object(name: &str, text: &str) -> Result<Box<RawValue>, TranslateError> {
    let trimmed = text.trim();
    let text = if trimmed.is_empty() { "{}" } else { trimmed };
    serde_json::from_str::<&RawValue>(text)
        .ok()
        .filter(|raw| raw.get().starts_with('{'))
        .and_then(|raw| RawValue::from_string(one_line(raw.get())).ok())
        .ok_or_else(|| {
            TranslateError::new(format!(
                "the model called `{name}` with arguments that are not a JSON object"
            ))
        })
}

/// The signatures of the formats as base64 spells them.
const SIGNATURES: [(&str, &str); 6] = [
    ("iVBORw0KGgo", "image/png"),
    ("/9j/", "image/jpeg"),
    ("R0lGOD", "image/gif"),
    ("UklGR", "image/webp"),
    ("Qk", "image/bmp"),
    ("SUkqA", "image/tiff"),
];

/// A `data:` URI for a base64 image, its type told from the first bytes.
///
/// An image of a type not known here is called JPEG: every engine looks at the bytes, not at the name.
pub(super) fn data_uri(image: &str) -> Result<String, TranslateError> {
    if image.starts_with("data:") {
        return Ok(image.to_owned());
    }
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=-_\r\n".contains(&byte);
    if image.is_empty() || !image.bytes().all(base64) {
        return Err(TranslateError::new("an image is not base64"));
    }
    let mime = SIGNATURES
        .iter()
        .find(|(signature, _)| image.starts_with(signature))
        .map_or("image/jpeg", |(_, mime)| mime);
    Ok(format!("data:{mime};base64,{image}"))
}
