//! `/v1/messages` as chat completions.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::anthropic_reply::MessagesReply;
use super::body::{
    Body, ChatMessage, Content, Function, Part, TextOr, Tool, ToolCall, choose_function, one_line,
};
use super::{Action, ReplyTranslator, Stamp, TranslateError, Translated};

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    messages: Vec<Message<'a>>,
    #[serde(borrow)]
    system: Option<&'a RawValue>,
    #[serde(borrow)]
    max_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    stop_sequences: Option<&'a RawValue>,
    #[serde(borrow)]
    temperature: Option<&'a RawValue>,
    #[serde(borrow)]
    top_p: Option<&'a RawValue>,
    #[serde(borrow)]
    top_k: Option<&'a RawValue>,
    /// Not Anthropic's, but its meaning is the same everywhere.
    #[serde(borrow)]
    seed: Option<&'a RawValue>,
    #[serde(borrow)]
    tools: Option<Vec<OfferedTool<'a>>>,
    tool_choice: Option<ToolChoice>,
    thinking: Option<Thinking>,
    #[serde(borrow)]
    output_config: Option<OutputConfig<'a>>,
    #[serde(borrow)]
    output_format: Option<OutputFormat<'a>>,
    mcp_servers: Option<Vec<Value>>,
    metadata: Option<Metadata>,
    stream: Option<bool>,
}

#[derive(Deserialize)]
struct Message<'a> {
    role: String,
    #[serde(borrow)]
    content: &'a RawValue,
}

#[derive(Deserialize)]
struct OfferedTool<'a> {
    #[serde(rename = "type")]
    kind: Option<String>,
    name: String,
    description: Option<String>,
    #[serde(borrow)]
    input_schema: Option<&'a RawValue>,
    strict: Option<bool>,
}

#[derive(Deserialize)]
struct ToolChoice {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    disable_parallel_tool_use: Option<bool>,
}

#[derive(Deserialize)]
struct Thinking {
    #[serde(rename = "type")]
    kind: String,
    budget_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct OutputConfig<'a> {
    effort: Option<String>,
    #[serde(borrow)]
    format: Option<OutputFormat<'a>>,
}

#[derive(Deserialize)]
struct OutputFormat<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow)]
    schema: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Metadata {
    user_id: Option<String>,
}

/// A content block; which fields are there depends on its type.
#[derive(Deserialize)]
struct Block<'a> {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    thinking: Option<String>,
    title: Option<String>,
    #[serde(borrow)]
    source: Option<&'a RawValue>,
    id: Option<String>,
    name: Option<String>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    tool_use_id: Option<String>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    is_error: Option<bool>,
}

#[derive(Deserialize)]
struct Source<'a> {
    #[serde(rename = "type")]
    kind: String,
    media_type: Option<String>,
    data: Option<String>,
    url: Option<String>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

pub(super) fn messages(
    body: &[u8],
    model_at_node: &str,
    shown_model: &str,
    stamp: &Stamp,
) -> Result<Action, TranslateError> {
    let request: Request<'_> = serde_json::from_slice(body)?;
    if request.messages.is_empty() {
        return Err(TranslateError::new(
            "messages: at least one message is required",
        ));
    }
    if request
        .mcp_servers
        .is_some_and(|servers| !servers.is_empty())
    {
        return Err(TranslateError::new(
            "`mcp_servers` are not supported by this node",
        ));
    }
    let mut out = Body::new(model_at_node)?;
    let mut chat = Vec::new();
    if let Some(system) = request.system {
        let text = plain_text(system, "\n\n")?;
        if !text.is_empty() {
            chat.push(ChatMessage::text("system", text));
        }
    }
    for message in request.messages {
        add_message(message, &mut chat)?;
    }
    out.set("messages", &chat)?;
    out.copy("max_tokens", request.max_tokens);
    out.copy("stop", request.stop_sequences);
    out.copy("temperature", request.temperature);
    out.copy("top_p", request.top_p);
    out.copy("top_k", request.top_k);
    out.copy("seed", request.seed);
    set_tools(&mut out, request.tools, request.tool_choice)?;
    let (effort, format) = request
        .output_config
        .map_or((None, None), |config| (config.effort, config.format));
    set_thinking(&mut out, request.thinking.as_ref(), effort.as_deref())?;
    if let Some(format) = format.or(request.output_format) {
        let schema = format.schema.filter(|_| format.kind == "json_schema");
        out.json_schema(schema.ok_or_else(|| {
            TranslateError::new(format!("output format `{}` is not supported", format.kind))
        })?)?;
    }
    if let Some(user) = request.metadata.and_then(|metadata| metadata.user_id) {
        out.set("user", &user)?;
    }
    let stream = request.stream.unwrap_or(false);
    out.stream(stream)?;
    let reply = MessagesReply::new(shown_model, stamp, stream);
    Ok(Action::Send(Box::new(Translated {
        path: "/v1/chat/completions",
        body: out.into_bytes()?,
        reply: ReplyTranslator::new(Box::new(reply), stream, stamp.id.clone()),
    })))
}

fn set_tools(
    out: &mut Body<'_>,
    tools: Option<Vec<OfferedTool<'_>>>,
    choice: Option<ToolChoice>,
) -> Result<(), TranslateError> {
    let tools = tools.unwrap_or_default();
    if tools.is_empty() {
        return Ok(());
    }
    let mut functions = Vec::with_capacity(tools.len());
    for tool in tools {
        if let Some(kind) = tool.kind.filter(|kind| kind != "custom") {
            return Err(TranslateError::new(format!(
                "tool `{}` has type `{kind}`, which only Anthropic's own service knows; this node takes tools with an `input_schema`",
                tool.name
            )));
        }
        functions.push(Tool::new(Function {
            name: tool.name,
            description: tool.description,
            parameters: tool.input_schema,
            strict: tool.strict,
        }));
    }
    out.set("tools", &functions)?;
    let Some(choice) = choice else {
        return Ok(());
    };
    match (choice.kind.as_str(), choice.name) {
        ("auto" | "none", _) => out.set("tool_choice", &choice.kind)?,
        ("any", _) => out.set("tool_choice", "required")?,
        ("tool", Some(name)) => out.set("tool_choice", &choose_function(&name))?,
        (kind, _) => {
            return Err(TranslateError::new(format!(
                "tool_choice: `{kind}` is not supported, or names no tool"
            )));
        }
    }
    if choice.disable_parallel_tool_use == Some(true) {
        out.set("parallel_tool_calls", &false)?;
    }
    Ok(())
}

/// The budget goes to llama-server under its own name. Engines that know no budget know three efforts at most, so a level asked for by
/// name is cut to those.
fn set_thinking(
    out: &mut Body<'_>,
    thinking: Option<&Thinking>,
    effort: Option<&str>,
) -> Result<(), TranslateError> {
    let disabled = thinking.is_some_and(|thinking| thinking.kind == "disabled");
    if let Some(thinking) = thinking {
        out.enable_thinking(!disabled)?;
        if let Some(budget) = thinking.budget_tokens.filter(|_| !disabled) {
            out.set("thinking_budget_tokens", &budget)?;
        }
    }
    match effort {
        Some(level @ ("low" | "medium" | "high")) if !disabled => {
            out.set("reasoning_effort", level)
        }
        Some("xhigh" | "max") if !disabled => out.set("reasoning_effort", "high"),
        _ => Ok(()),
    }
}

fn add_message(message: Message<'_>, chat: &mut Vec<ChatMessage>) -> Result<(), TranslateError> {
    match TextOr::<Block<'_>>::read(message.content)? {
        TextOr::Text(text) => {
            chat.push(ChatMessage {
                role: Cow::Owned(message.role),
                content: Content::Text(text),
                ..ChatMessage::default()
            });
            Ok(())
        }
        TextOr::List(blocks) if message.role == "assistant" => {
            chat.push(assistant(blocks)?);
            Ok(())
        }
        TextOr::List(blocks) => add_user_blocks(message.role, blocks, chat),
    }
}

fn assistant(blocks: Vec<Block<'_>>) -> Result<ChatMessage, TranslateError> {
    let mut text = String::new();
    let mut reasoning = String::new();
    let mut tool_calls = Vec::new();
    for block in blocks {
        match block.kind.as_str() {
            "text" => text.push_str(&block.text.unwrap_or_default()),
            "thinking" => reasoning.push_str(&block.thinking.unwrap_or_default()),
            // Encrypted for Anthropic's own service.
            "redacted_thinking" => {}
            "tool_use" => {
                let (Some(id), Some(name)) = (block.id, block.name) else {
                    return Err(TranslateError::new(
                        "a `tool_use` block needs `id` and `name`",
                    ));
                };
                let input = block.input.map_or("{}", RawValue::get);
                tool_calls.push(ToolCall::new(id, name, one_line(input)));
            }
            kind => return Err(unknown_block(kind)),
        }
    }
    Ok(ChatMessage {
        reasoning_content: Some(reasoning).filter(|reasoning| !reasoning.is_empty()),
        tool_calls,
        ..ChatMessage::text("assistant", text)
    })
}

/// Tool results must follow the calls at once, so they come before the rest. Chat completions take no images inside a tool's result: these go
/// into the user's message.
fn add_user_blocks(
    role: String,
    blocks: Vec<Block<'_>>,
    chat: &mut Vec<ChatMessage>,
) -> Result<(), TranslateError> {
    let mut parts = Vec::new();
    for block in blocks {
        if block.kind != "tool_result" {
            parts.push(part(block)?);
            continue;
        }
        let id = block
            .tool_use_id
            .ok_or_else(|| TranslateError::new("a `tool_result` block needs `tool_use_id`"))?;
        let mut text = if block.is_error == Some(true) {
            "Error: ".to_owned()
        } else {
            String::new()
        };
        match block.content.map(TextOr::<Block<'_>>::read).transpose()? {
            None => {}
            Some(TextOr::Text(result)) => text.push_str(&result),
            Some(TextOr::List(results)) => {
                let mut lines = Vec::new();
                for result in results {
                    match part(result)? {
                        Part::Text { text } => lines.push(text),
                        image @ Part::ImageUrl { .. } => parts.push(image),
                    }
                }
                text.push_str(&lines.join("\n"));
            }
        }
        chat.push(ChatMessage::tool(id, text));
    }
    if !parts.is_empty() {
        chat.push(ChatMessage {
            role: Cow::Owned(role),
            content: Content::from_parts(parts, "\n"),
            ..ChatMessage::default()
        });
    }
    Ok(())
}

/// A block that says something: text, an image or a document of text.
fn part(block: Block<'_>) -> Result<Part, TranslateError> {
    match block.kind.as_str() {
        "text" => Ok(Part::text(block.text.unwrap_or_default())),
        "image" => {
            let source = source(block.source, "image")?;
            match (
                source.kind.as_str(),
                source.media_type,
                source.data,
                source.url,
            ) {
                ("base64", Some(mime), Some(data), _) => {
                    Ok(Part::image(format!("data:{mime};base64,{data}")))
                }
                ("url", _, _, Some(url)) => Ok(Part::image(url)),
                (kind, ..) => Err(TranslateError::new(format!(
                    "an image with a source of type `{kind}` is not supported by this node, or is incomplete"
                ))),
            }
        }
        "document" => {
            let source = source(block.source, "document")?;
            let text = match (source.kind.as_str(), source.data, source.content) {
                ("text", Some(data), _) => data,
                ("content", _, Some(content)) => plain_text(content, "\n")?,
                (kind, ..) => {
                    return Err(TranslateError::new(format!(
                        "a document with a source of type `{kind}` is not supported by this node; send its text"
                    )));
                }
            };
            Ok(Part::text(titled(block.title, text)))
        }
        "search_result" => {
            let text = block
                .content
                .map(|content| plain_text(content, "\n"))
                .transpose()?;
            Ok(Part::text(titled(block.title, text.unwrap_or_default())))
        }
        kind => Err(unknown_block(kind)),
    }
}

fn source<'a>(source: Option<&'a RawValue>, block: &str) -> Result<Source<'a>, TranslateError> {
    let source = source.ok_or_else(|| {
        TranslateError::new(format!("a block of type `{block}` needs a `source`"))
    })?;
    Ok(serde_json::from_str(source.get())?)
}

fn titled(title: Option<String>, text: String) -> String {
    match title {
        Some(title) => format!("{title}\n{text}"),
        None => text,
    }
}

/// The text of a string or of a list of text blocks.
fn plain_text(raw: &RawValue, separator: &str) -> Result<String, TranslateError> {
    match TextOr::<Block<'_>>::read(raw)? {
        TextOr::Text(text) => Ok(text),
        TextOr::List(blocks) => {
            let mut texts = Vec::with_capacity(blocks.len());
            for block in blocks {
                if block.kind != "text" {
                    return Err(unknown_block(&block.kind));
                }
                texts.push(block.text.unwrap_or_default());
            }
            Ok(texts.join(separator))
        }
    }
}

fn unknown_block(kind: &str) -> TranslateError {
    TranslateError::new(format!(
        "a content block of type `{kind:.40}` is not supported here by this node"
    ))
}
