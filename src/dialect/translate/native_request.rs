//! Chat completions as Ollama's `/api/chat`, for what only Ollama's own form can say: the context, and that a prompt is not to be cut.
//!
//! Ollama reads `/v1/chat/completions` by turning it into such a request itself. What it leaves out of account there (`n`, `logit_bias`
//! and others) is left out here too, and its defaults are written down, so that the model reads and answers the same.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::TranslateError;
use super::body::{Body, TextOr, one_line};

/// Prefixes of the images that Ollama takes in this form.
const IMAGES: [&str; 5] = [
    "data:;base64,",
    "data:image/jpeg;base64,",
    "data:image/jpg;base64,",
    "data:image/png;base64,",
    "data:image/webp;base64,",
];

/// What a request says besides its own words.
#[derive(Debug, Clone, Copy)]
pub struct NativeSettings<'s> {
    /// Options by name, as JSON text, such as `num_ctx`.
    pub options: &'s [(&'static str, String)],
    /// Whether a prompt that is longer than the context is to be refused instead of cut.
    pub refuses_long: bool,
}

/// What a request leaves to the server, by the form that it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Defaults {
    /// OpenAI's: `temperature` and `top_p` are 1.
    OpenAi,
    /// The model's own.
    Model,
}

/// A request in Ollama's own words.
pub(super) struct Native {
    pub(super) body: Vec<u8>,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    messages: Vec<Message<'a>>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    #[serde(borrow)]
    max_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    max_completion_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    seed: Option<&'a RawValue>,
    #[serde(borrow)]
    stop: Option<&'a RawValue>,
    #[serde(borrow)]
    temperature: Option<&'a RawValue>,
    #[serde(borrow)]
    top_p: Option<&'a RawValue>,
    /// Not OpenAI's; what comes from Anthropic's form may hold it.
    #[serde(borrow)]
    top_k: Option<&'a RawValue>,
    #[serde(borrow)]
    frequency_penalty: Option<&'a RawValue>,
    #[serde(borrow)]
    presence_penalty: Option<&'a RawValue>,
    #[serde(borrow)]
    response_format: Option<ResponseFormat<'a>>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_choice: Option<&'a RawValue>,
    reasoning: Option<Reasoning>,
    reasoning_effort: Option<String>,
    chat_template_kwargs: Option<TemplateSettings>,
    logprobs: Option<bool>,
    #[serde(borrow)]
    top_logprobs: Option<&'a RawValue>,
    #[serde(rename = "_debug_render_only")]
    render_only: Option<bool>,
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
struct Reasoning {
    effort: Option<String>,
}

#[derive(Deserialize)]
struct TemplateSettings {
    enable_thinking: Option<bool>,
}

#[derive(Deserialize)]
struct ResponseFormat<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow)]
    json_schema: Option<JsonSchema<'a>>,
}

#[derive(Deserialize)]
struct JsonSchema<'a> {
    #[serde(borrow)]
    schema: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Message<'a> {
    role: String,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    reasoning: Option<String>,
    reasoning_content: Option<String>,
    #[serde(borrow)]
    tool_calls: Option<Vec<Call<'a>>>,
    name: Option<String>,
    tool_call_id: Option<String>,
}

#[derive(Deserialize)]
struct Call<'a> {
    id: Option<String>,
    #[serde(borrow)]
    function: Called<'a>,
}

#[derive(Deserialize)]
struct Called<'a> {
    name: String,
    arguments: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    image_url: Option<ImageUrl>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ImageUrl {
    Named { url: String },
    Bare(String),
}

/// A message in Ollama's form.
#[derive(Default, Serialize)]
struct Said {
    role: String,
    content: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    images: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<SaidCall>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<String>,
}

#[derive(Clone, Serialize)]
struct SaidCall {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    function: SaidFunction,
}

#[derive(Clone, Serialize)]
struct SaidFunction {
    name: String,
    arguments: Box<RawValue>,
}

/// A chat completions request as `/api/chat` takes it.
///
/// # Errors
/// When it is no such request, or says something that only the node can judge; then it is to be sent as it came.
pub(super) fn chat(
    body: &[u8],
    model: &str,
    settings: NativeSettings<'_>,
    defaults: Defaults,
) -> Result<Native, TranslateError> {
    let request: Request<'_> = serde_json::from_slice(body)?;
    if request.render_only == Some(true) || request.messages.is_empty() {
        return Err(TranslateError::new("nothing would be generated for it"));
    }
    if request
        .tool_choice
        .is_some_and(|choice| choice.get() != "\"auto\"")
    {
        return Err(TranslateError::new(
            "what `tool_choice` means is the node's to judge",
        ));
    }
    let stream = request.stream.unwrap_or(false);
    let mut out = Body::new(model)?;
    out.set("messages", &said(&request.messages)?)?;
    out.set("stream", &stream)?;
    if let Some(tools) = request.tools.filter(|tools| tools.get() != "[]") {
        out.copy("tools", Some(tools));
    }
    set_format(&mut out, request.response_format.as_ref())?;
    set_think(&mut out, &request)?;
    if request.logprobs == Some(true) {
        out.set("logprobs", &true)?;
        out.copy("top_logprobs", request.top_logprobs);
    }
    out.set("options", &options(&request, settings, defaults)?)?;
    if settings.refuses_long {
        out.set("truncate", &false)?;
    }
    Ok(Native {
        body: out.into_bytes()?,
        stream,
        include_usage: request
            .stream_options
            .and_then(|options| options.include_usage)
            .unwrap_or(false),
    })
}

fn options<'a>(
    request: &Request<'a>,
    settings: NativeSettings<'_>,
    defaults: Defaults,
) -> Result<Body<'a>, TranslateError> {
    let mut options = Body::default();
    match request.stop.map(TextOr::<String>::read).transpose()? {
        Some(TextOr::Text(one)) => options.set("stop", &[one])?,
        Some(TextOr::List(all)) => options.set("stop", &all)?,
        None => {}
    }
    let limit = request.max_tokens.or(request.max_completion_tokens);
    options.copy("num_predict", limit);
    for (name, value) in [
        ("temperature", request.temperature),
        ("top_p", request.top_p),
    ] {
        match value {
            None if defaults == Defaults::OpenAi => options.set(name, &1.0)?,
            value => options.copy(name, value),
        }
    }
    options.copy("top_k", request.top_k);
    options.copy("seed", request.seed);
    options.copy("frequency_penalty", request.frequency_penalty);
    options.copy("presence_penalty", request.presence_penalty);
    for (name, value) in settings.options {
        options.set(name, &RawValue::from_string(value.clone())?)?;
    }
    Ok(options)
}

fn set_format(
    out: &mut Body<'_>,
    format: Option<&ResponseFormat<'_>>,
) -> Result<(), TranslateError> {
    let Some(format) = format else {
        return Ok(());
    };
    match format.kind.trim().to_ascii_lowercase().as_str() {
        "json_object" => out.set("format", "json"),
        "json_schema" => match format.json_schema.as_ref().and_then(|json| json.schema) {
            Some(schema) => out.set("format", schema),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

fn set_think(out: &mut Body<'_>, request: &Request<'_>) -> Result<(), TranslateError> {
    let effort = match &request.reasoning {
        Some(reasoning) => reasoning.effort.as_deref(),
        None => request.reasoning_effort.as_deref(),
    };
    match effort.filter(|effort| !effort.is_empty()) {
        Some("none") => out.set("think", &false),
        Some(effort @ ("low" | "medium" | "high")) => out.set("think", effort),
        Some(other) => Err(TranslateError::new(format!(
            "the reasoning effort `{other:.40}` is the node's to judge"
        ))),
        None => {
            let switch = request.chat_template_kwargs.as_ref();
            match switch.and_then(|settings| settings.enable_thinking) {
                Some(enable) => out.set("think", &enable),
                None => Ok(()),
            }
        }
    }
}

/// Every part of a message becomes a message of its own, as Ollama has it.
fn said(messages: &[Message<'_>]) -> Result<Vec<Said>, TranslateError> {
    let mut out = Vec::with_capacity(messages.len());
    for message in messages {
        let by_tool = message.role.eq_ignore_ascii_case("tool");
        let tool_name = by_tool.then(|| tool_name(message, messages)).flatten();
        let calls = message.tool_calls.as_deref().map(said_calls).transpose()?;
        let thinking = || {
            let thought = message
                .reasoning
                .as_ref()
                .or(message.reasoning_content.as_ref());
            thought.filter(|text| !text.is_empty()).cloned()
        };
        let whole = |content: String, tool_name: Option<String>| Said {
            role: message.role.clone(),
            content,
            thinking: thinking(),
            tool_calls: calls.clone().unwrap_or_default(),
            tool_name,
            tool_call_id: message.tool_call_id.clone(),
            ..Said::default()
        };
        match message.content.map(TextOr::<Part>::read).transpose()? {
            Some(TextOr::Text(text)) => out.push(whole(text, tool_name)),
            None if calls.is_some() => out.push(whole(String::new(), None)),
            None => return Err(TranslateError::new("a message has no content")),
            Some(TextOr::List(parts)) => {
                for part in parts {
                    out.push(of_part(&message.role, part)?);
                }
                if let Some(calls) = calls.filter(|calls| !calls.is_empty())
                    && let Some(last) = out.last_mut()
                {
                    last.tool_calls = calls;
                    last.tool_name = tool_name;
                    last.tool_call_id.clone_from(&message.tool_call_id);
                    last.thinking = thinking();
                }
            }
        }
    }
    Ok(out)
}

fn of_part(role: &str, part: Part) -> Result<Said, TranslateError> {
    let mut said = Said {
        role: role.to_owned(),
        ..Said::default()
    };
    match (part.kind.as_str(), part.text, part.image_url) {
        ("text", Some(text), _) => said.content = text,
        ("image_url", _, Some(ImageUrl::Named { url } | ImageUrl::Bare(url))) => {
            let image = IMAGES.iter().find_map(|prefix| url.strip_prefix(prefix));
            let image = image.ok_or_else(|| TranslateError::new("an image is not in the body"))?;
            said.images.push(image.to_owned());
        }
        (other, ..) => {
            return Err(TranslateError::new(format!(
                "a part of type `{other:.40}` is the node's to judge"
            )));
        }
    }
    Ok(said)
}

/// The tool that a result is from: by its name, else by the newest call of that id.
fn tool_name(message: &Message<'_>, messages: &[Message<'_>]) -> Option<String> {
    let named = message.name.clone().filter(|name| !name.is_empty());
    named.or_else(|| {
        let id = message
            .tool_call_id
            .as_deref()
            .filter(|id| !id.is_empty())?;
        let calls = messages
            .iter()
            .rev()
            .flat_map(|other| other.tool_calls.iter().flatten());
        calls
            .into_iter()
            .find(|call| call.id.as_deref() == Some(id))
            .map(|call| call.function.name.clone())
    })
}

fn said_calls(calls: &[Call<'_>]) -> Result<Vec<SaidCall>, TranslateError> {
    let said = |call: &Call<'_>| {
        let arguments = one_line(call.function.arguments.trim());
        let arguments = RawValue::from_string(arguments)
            .ok()
            .filter(|raw| raw.get().starts_with('{'))
            .ok_or_else(|| TranslateError::new("the arguments of a call are not a JSON object"))?;
        Ok(SaidCall {
            id: call.id.clone(),
            function: SaidFunction {
                name: call.function.name.clone(),
                arguments,
            },
        })
    };
    calls.iter().map(said).collect()
}
