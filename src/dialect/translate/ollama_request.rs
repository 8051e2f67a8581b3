//! `/api/chat` and `/api/generate` as chat completions or completions.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::body::{Body, ChatMessage, Content, Part, ToolCall, data_uri, one_line};
use super::ollama_reply::{OllamaReply, Told, load_only};
use super::{Action, ReplyTranslator, Stamp, TranslateError, Translated};

/// Options that mean the same under another server's names. `repetition_penalty` is vLLM's and `SGLang`'s word, `n_keep` llama-server's;
/// servers ignore the names they do not know. What is not listed (`num_ctx`, `num_gpu`, …) configures a runner and has no meaning here.
const OPTIONS: [(&str, &[&str]); 15] = [
    ("temperature", &["temperature"]),
    ("top_p", &["top_p"]),
    ("top_k", &["top_k"]),
    ("min_p", &["min_p"]),
    ("typical_p", &["typical_p"]),
    ("seed", &["seed"]),
    ("stop", &["stop"]),
    ("presence_penalty", &["presence_penalty"]),
    ("frequency_penalty", &["frequency_penalty"]),
    ("repeat_penalty", &["repeat_penalty", "repetition_penalty"]),
    ("repeat_last_n", &["repeat_last_n"]),
    ("mirostat", &["mirostat"]),
    ("mirostat_tau", &["mirostat_tau"]),
    ("mirostat_eta", &["mirostat_eta"]),
    ("num_keep", &["n_keep"]),
];

/// What chat and generate share.
#[derive(Deserialize)]
struct Common<'a> {
    stream: Option<bool>,
    #[serde(borrow)]
    format: Option<&'a RawValue>,
    think: Option<Think>,
    #[serde(borrow)]
    options: Option<BTreeMap<String, &'a RawValue>>,
    keep_alive: Option<Value>,
    #[serde(borrow)]
    logprobs: Option<&'a RawValue>,
    #[serde(borrow)]
    top_logprobs: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Think {
    Switch(bool),
    Level(String),
}

#[derive(Deserialize)]
struct ChatBody<'a> {
    #[serde(borrow)]
    messages: Option<Vec<Message<'a>>>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Message<'a> {
    role: String,
    content: Option<String>,
    thinking: Option<String>,
    images: Option<Vec<String>>,
    #[serde(borrow)]
    tool_calls: Option<Vec<Call<'a>>>,
    tool_name: Option<String>,
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
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct GenerateBody {
    prompt: Option<String>,
    system: Option<String>,
    suffix: Option<String>,
    images: Option<Vec<String>>,
    raw: Option<bool>,
}

pub(super) fn chat(
    body: &[u8],
    model_at_node: &str,
    shown_model: &str,
    stamp: Stamp,
) -> Result<Action, TranslateError> {
    let common: Common<'_> = serde_json::from_slice(body)?;
    let chat: ChatBody<'_> = serde_json::from_slice(body)?;
    let messages = chat.messages.unwrap_or_default();
    if messages.is_empty() {
        return Ok(only_load(&common, Told::Chat, shown_model, &stamp));
    }
    let mut out = Body::new(model_at_node)?;
    out.set("messages", &chat_messages(messages)?)?;
    if let Some(tools) = chat.tools.filter(|tools| tools.get() != "[]") {
        if !tools.get().starts_with('[') {
            return Err(TranslateError::new("`tools` must be a list"));
        }
        out.copy("tools", Some(tools));
    }
    out.copy("logprobs", common.logprobs);
    out.copy("top_logprobs", common.top_logprobs);
    send(
        out,
        "/v1/chat/completions",
        &common,
        Told::Chat,
        shown_model,
        stamp,
    )
}

pub(super) fn generate(
    body: &[u8],
    model_at_node: &str,
    shown_model: &str,
    stamp: Stamp,
) -> Result<Action, TranslateError> {
    let common: Common<'_> = serde_json::from_slice(body)?;
    let generate: GenerateBody = serde_json::from_slice(body)?;
    let prompt = generate.prompt.unwrap_or_default();
    if prompt.is_empty() {
        return Ok(only_load(&common, Told::Generate, shown_model, &stamp));
    }
    let system = generate.system.filter(|system| !system.is_empty());
    let suffix = generate.suffix.filter(|suffix| !suffix.is_empty());
    let images = generate.images.unwrap_or_default();
    let mut out = Body::new(model_at_node)?;
    if generate.raw == Some(true) || suffix.is_some() {
        if system.is_some() {
            return Err(TranslateError::new(
                "`system` cannot be combined with `raw` or `suffix`",
            ));
        }
        if !images.is_empty() {
            return Err(TranslateError::new(
                "`images` cannot be combined with `raw` or `suffix` on this node",
            ));
        }
        out.set("prompt", &prompt)?;
        if let Some(suffix) = suffix {
            out.set("suffix", &suffix)?;
        }
        return send(
            out,
            "/v1/completions",
            &common,
            Told::Generate,
            shown_model,
            stamp,
        );
    }
    let mut messages = Vec::new();
    if let Some(system) = system {
        messages.push(ChatMessage::text("system", system));
    }
    messages.push(ChatMessage {
        content: with_images(prompt, &images)?,
        ..ChatMessage::text("user", "")
    });
    out.set("messages", &messages)?;
    out.copy("logprobs", common.logprobs);
    out.copy("top_logprobs", common.top_logprobs);
    send(
        out,
        "/v1/chat/completions",
        &common,
        Told::Generate,
        shown_model,
        stamp,
    )
}

fn only_load(common: &Common<'_>, told: Told, shown_model: &str, stamp: &Stamp) -> Action {
    let unload = match &common.keep_alive {
        Some(Value::Number(seconds)) => seconds.as_f64() == Some(0.0),
        // A Go duration of nothing but zeros: "0", "0s", "0h0m".
        Some(Value::String(text)) => {
            text.contains('0') && !text.bytes().any(|byte| (b'1'..=b'9').contains(&byte))
        }
        _ => false,
    };
    Action::LoadOnly {
        unload,
        answer: load_only(told, shown_model, stamp, unload),
    }
}

fn send<'a>(
    mut out: Body<'a>,
    path: &'static str,
    common: &Common<'a>,
    told: Told,
    shown_model: &str,
    stamp: Stamp,
) -> Result<Action, TranslateError> {
    set_options(&mut out, common)?;
    set_format(&mut out, common, path)?;
    match &common.think {
        None => {}
        Some(Think::Switch(enable)) => out.enable_thinking(*enable)?,
        Some(Think::Level(level)) => {
            out.enable_thinking(true)?;
            out.set("reasoning_effort", level)?;
        }
    }
    let stream = common.stream.unwrap_or(true);
    out.stream(stream)?;
    let seed = stamp.id.clone();
    let reply = OllamaReply::new(told, shown_model, stamp, stream);
    Ok(Action::Send(Box::new(Translated {
        path,
        body: out.into_bytes()?,
        reply: ReplyTranslator::new(Box::new(reply), stream, seed),
    })))
}

fn set_options<'a>(out: &mut Body<'a>, common: &Common<'a>) -> Result<(), TranslateError> {
    let Some(options) = &common.options else {
        return Ok(());
    };
    let option = |name: &str| {
        options
            .get(name)
            .copied()
            .filter(|value| value.get() != "null")
    };
    for (name, theirs) in OPTIONS {
        for their in theirs {
            out.copy(their, option(name));
        }
    }
    if let Some(limit) = option("num_predict") {
        let limit: f64 = serde_json::from_str(limit.get())
            .ok()
            .filter(|limit: &f64| limit.fract() == 0.0)
            .ok_or_else(|| TranslateError::new("option \"num_predict\" must be of type integer"))?;
        // Ollama's -1 (no limit) and -2 (until the context is full) are chat completions without a limit.
        if limit > 0.0 {
            let digits = RawValue::from_string(format!("{limit:.0}"))?;
            out.set("max_tokens", &digits)?;
        }
    }
    Ok(())
}

fn set_format(out: &mut Body<'_>, common: &Common<'_>, path: &str) -> Result<(), TranslateError> {
    let Some(format) = common.format else {
        return Ok(());
    };
    match format.get() {
        "\"\"" => Ok(()),
        "\"json\"" => out.set(
            "response_format",
            &serde_json::json!({"type": "json_object"}),
        ),
        schema if schema.starts_with('{') => {
            if path == "/v1/completions" {
                // llama-server reads a schema for plain completions only under this name.
                out.set("json_schema", format)?;
            }
            out.json_schema(format)
        }
        other => Err(TranslateError::new(format!(
            "`format` must be \"json\" or a JSON schema, not {other:.40}"
        ))),
    }
}

fn with_images(text: String, images: &[String]) -> Result<Content, TranslateError> {
    if images.is_empty() {
        return Ok(Content::Text(text));
    }
    let mut parts = Vec::with_capacity(images.len() + 1);
    if !text.is_empty() {
        parts.push(Part::text(text));
    }
    for image in images {
        parts.push(Part::image(data_uri(image)?));
    }
    Ok(Content::Parts(parts))
}

/// Ollama's calls may come without ids and its results name only the tool; OpenAI's are tied by id. Calls are numbered through the
/// conversation, so the same conversation always gives the same ids, and with them the same cached prompt.
fn chat_messages(messages: Vec<Message<'_>>) -> Result<Vec<ChatMessage>, TranslateError> {
    let mut unanswered: VecDeque<(String, String)> = VecDeque::new();
    let mut calls = 0_usize;
    let mut out = Vec::with_capacity(messages.len());
    for message in messages {
        let mut tool_calls = Vec::new();
        for call in message.tool_calls.into_iter().flatten() {
            let id = call
                .id
                .filter(|id| !id.is_empty())
                .unwrap_or_else(|| format!("call_{calls}"));
            calls += 1;
            unanswered.push_back((call.function.name.clone(), id.clone()));
            let arguments = call.function.arguments.map_or("{}", RawValue::get);
            // A string here is a client that already writes OpenAI's form.
            let arguments = if arguments.starts_with('"') {
                serde_json::from_str(arguments)?
            } else {
                one_line(arguments)
            };
            tool_calls.push(ToolCall::new(id, call.function.name, arguments));
        }
        let mut tool_call_id = None;
        if message.role == "tool" {
            let position = unanswered.iter().position(|(name, id)| {
                match (&message.tool_call_id, &message.tool_name) {
                    (Some(given), _) => given == id,
                    (None, Some(tool)) => tool == name,
                    (None, None) => true,
                }
            });
            let answered = position.and_then(|position| unanswered.remove(position));
            tool_call_id = message
                .tool_call_id
                .or(answered.map(|(_, id)| id))
                .or_else(|| {
                    // A result without a call is kept; the model may still use it.
                    Some(format!("call_{calls}"))
                });
        }
        out.push(ChatMessage {
            role: Cow::Owned(message.role),
            content: with_images(
                message.content.unwrap_or_default(),
                message.images.as_deref().unwrap_or_default(),
            )?,
            reasoning_content: message.thinking.filter(|thinking| !thinking.is_empty()),
            tool_calls,
            tool_call_id,
            name: message.tool_name,
        });
    }
    Ok(out)
}
