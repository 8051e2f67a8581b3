//! `/v1/responses` as chat completions.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::body::{
    Body, ChatMessage, Content, Function, ImageUrl, JsonSchema, Part, ResponseFormat, TextOr, Tool,
    ToolCall, choose_function,
};
use super::responses_reply::{Echo, ResponsesReply};
use super::{Action, ReplyTranslator, Stamp, TranslateError, Translated};

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    instructions: Option<String>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_choice: Option<&'a RawValue>,
    #[serde(borrow)]
    parallel_tool_calls: Option<&'a RawValue>,
    #[serde(borrow)]
    max_output_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    temperature: Option<&'a RawValue>,
    #[serde(borrow)]
    top_p: Option<&'a RawValue>,
    /// Not of this form, but its meaning is the same everywhere.
    #[serde(borrow)]
    seed: Option<&'a RawValue>,
    #[serde(borrow)]
    user: Option<&'a RawValue>,
    #[serde(borrow)]
    metadata: Option<&'a RawValue>,
    reasoning: Option<Reasoning>,
    #[serde(borrow)]
    text: Option<TextConfig<'a>>,
    previous_response_id: Option<String>,
    conversation: Option<Value>,
    prompt: Option<Value>,
    background: Option<bool>,
    stream: Option<bool>,
}

#[derive(Deserialize)]
struct Reasoning {
    effort: Option<String>,
}

#[derive(Deserialize)]
struct TextConfig<'a> {
    #[serde(borrow)]
    format: Option<Format<'a>>,
}

#[derive(Deserialize)]
struct Format<'a> {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    #[serde(borrow)]
    schema: Option<&'a RawValue>,
    strict: Option<bool>,
}

/// An item of `input`; which fields are there depends on its type.
#[derive(Deserialize)]
struct Item<'a> {
    #[serde(rename = "type")]
    kind: Option<String>,
    role: Option<String>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    call_id: Option<String>,
    name: Option<String>,
    arguments: Option<String>,
    #[serde(borrow)]
    output: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ContentPart {
    #[serde(rename = "type")]
    kind: String,
    text: Option<String>,
    refusal: Option<String>,
    image_url: Option<String>,
    detail: Option<String>,
}

#[derive(Deserialize)]
struct OfferedTool<'a> {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
    description: Option<String>,
    #[serde(borrow)]
    parameters: Option<&'a RawValue>,
    strict: Option<bool>,
}

#[derive(Deserialize)]
struct ToolChoice {
    #[serde(rename = "type")]
    kind: String,
    name: Option<String>,
}

pub(super) fn responses(
    body: &[u8],
    model_at_node: &str,
    shown_model: &str,
    stamp: &Stamp,
) -> Result<Action, TranslateError> {
    let request: Request<'_> = serde_json::from_slice(body)?;
    refuse_state(&request)?;
    let mut out = Body::new(model_at_node)?;
    out.set("messages", &chat_messages(&request)?)?;
    out.copy("max_tokens", request.max_output_tokens);
    out.copy("temperature", request.temperature);
    out.copy("top_p", request.top_p);
    out.copy("seed", request.seed);
    out.copy("user", request.user);
    set_tools(&mut out, &request)?;
    if let Some(effort) = request
        .reasoning
        .as_ref()
        .and_then(|reasoning| reasoning.effort.as_deref())
    {
        match effort {
            "none" => out.enable_thinking(false)?,
            // The levels that every engine knows.
            "minimal" => out.set("reasoning_effort", "low")?,
            "xhigh" | "max" => out.set("reasoning_effort", "high")?,
            level => out.set("reasoning_effort", level)?,
        }
    }
    if let Some(format) = request.text.as_ref().and_then(|text| text.format.as_ref()) {
        set_format(&mut out, format)?;
    }
    let stream = request.stream.unwrap_or(false);
    out.stream(stream)?;
    let echo = Echo {
        instructions: request.instructions.clone(),
        max_output_tokens: own(request.max_output_tokens),
        metadata: own(request.metadata),
        parallel_tool_calls: own(request.parallel_tool_calls),
        temperature: own(request.temperature),
        tool_choice: own(request.tool_choice),
        tools: own(request.tools),
        top_p: own(request.top_p),
    };
    let reply = ResponsesReply::new(shown_model, stamp, stream, echo);
    Ok(Action::Send(Box::new(Translated {
        path: "/v1/chat/completions",
        body: out.into_bytes()?,
        reply: ReplyTranslator::new(Box::new(reply), stream, stamp.id.clone()),
    })))
}

fn own(raw: Option<&RawValue>) -> Option<Box<RawValue>> {
    // Events are one line of data, and these values are repeated in them.
    raw.and_then(|raw| RawValue::from_string(super::body::one_line(raw.get())).ok())
}

/// What would need a store of earlier answers, which neither the router nor the node has.
fn refuse_state(request: &Request<'_>) -> Result<(), TranslateError> {
    let asked = [
        (
            "previous_response_id",
            request.previous_response_id.is_some(),
        ),
        ("conversation", request.conversation.is_some()),
        ("prompt", request.prompt.is_some()),
        ("background", request.background == Some(true)),
    ];
    match asked.iter().find(|(_, asked)| *asked) {
        Some((name, _)) => Err(TranslateError::new(format!(
            "`{name}` is not supported by this node, which keeps no state; send the whole conversation in `input`"
        ))),
        None => Ok(()),
    }
}

fn set_format(out: &mut Body<'_>, format: &Format<'_>) -> Result<(), TranslateError> {
    match (format.kind.as_str(), format.schema) {
        ("text", _) => Ok(()),
        ("json_object", _) => out.set(
            "response_format",
            &serde_json::json!({"type": "json_object"}),
        ),
        ("json_schema", Some(schema)) => out.set(
            "response_format",
            &ResponseFormat {
                kind: "json_schema",
                json_schema: JsonSchema {
                    name: format.name.as_deref().unwrap_or("answer"),
                    schema,
                    strict: format.strict,
                },
            },
        ),
        (kind, _) => Err(TranslateError::new(format!(
            "text.format: `{kind}` is not supported, or has no schema"
        ))),
    }
}

fn set_tools<'a>(out: &mut Body<'a>, request: &Request<'a>) -> Result<(), TranslateError> {
    let tools: Vec<OfferedTool<'_>> = match request.tools {
        Some(tools) => serde_json::from_str(tools.get())?,
        None => Vec::new(),
    };
    if tools.is_empty() {
        return Ok(());
    }
    let mut functions = Vec::with_capacity(tools.len());
    for tool in tools {
        let Some(name) = tool.name.filter(|_| tool.kind == "function") else {
            return Err(TranslateError::new(format!(
                "a tool of type `{:.40}` is not supported by this node; it takes tools of type `function` with a name",
                tool.kind
            )));
        };
        functions.push(Tool::new(Function {
            name,
            description: tool.description,
            parameters: tool.parameters,
            strict: tool.strict,
        }));
    }
    out.set("tools", &functions)?;
    out.copy("parallel_tool_calls", request.parallel_tool_calls);
    let Some(choice) = request.tool_choice else {
        return Ok(());
    };
    if choice.get().starts_with('"') {
        out.copy("tool_choice", Some(choice));
        return Ok(());
    }
    let choice: ToolChoice = serde_json::from_str(choice.get())?;
    match (choice.kind.as_str(), choice.name) {
        ("function", Some(name)) => out.set("tool_choice", &choose_function(&name)),
        (kind, _) => Err(TranslateError::new(format!(
            "tool_choice: `{kind:.40}` is not supported by this node"
        ))),
    }
}

/// Instructions and the leading system and developer messages become one system message: many chat templates take only one, and only at
/// the start, and know no developer.
fn chat_messages(request: &Request<'_>) -> Result<Vec<ChatMessage>, TranslateError> {
    let input = request
        .input
        .ok_or_else(|| TranslateError::new("`input` is required"))?;
    let mut chat = Chat {
        system: request.instructions.iter().cloned().collect(),
        messages: Vec::new(),
    };
    match TextOr::<Item<'_>>::read(input)? {
        TextOr::Text(text) => chat.messages.push(ChatMessage::text("user", text)),
        TextOr::List(items) => items.into_iter().try_for_each(|item| chat.add(item))?,
    }
    if !chat.system.is_empty() {
        let system = ChatMessage::text("system", chat.system.join("\n\n"));
        chat.messages.insert(0, system);
    }
    if chat.messages.is_empty() {
        return Err(TranslateError::new("`input` holds no message"));
    }
    Ok(chat.messages)
}

struct Chat {
    system: Vec<String>,
    messages: Vec<ChatMessage>,
}

impl Chat {
    fn add(&mut self, item: Item<'_>) -> Result<(), TranslateError> {
        match item.kind.as_deref() {
            None | Some("message") => self.add_message(item),
            Some("function_call") => {
                let (Some(id), Some(name)) = (item.call_id, item.name) else {
                    return Err(TranslateError::new(
                        "a `function_call` needs `call_id` and `name`",
                    ));
                };
                let call =
                    ToolCall::new(id, name, item.arguments.unwrap_or_else(|| "{}".to_owned()));
                self.assistant().tool_calls.push(call);
                Ok(())
            }
            Some("function_call_output") => self.add_result(item),
            // How an earlier answer was thought out is not part of the conversation.
            Some("reasoning") => Ok(()),
            Some(kind) => Err(TranslateError::new(format!(
                "an input item of type `{kind:.40}` is not supported by this node"
            ))),
        }
    }

    fn add_message(&mut self, item: Item<'_>) -> Result<(), TranslateError> {
        let role = item
            .role
            .ok_or_else(|| TranslateError::new("a message in `input` needs a `role`"))?;
        let content = match item.content {
            Some(content) => content_of(content)?,
            None => Content::default(),
        };
        match (role.as_str(), content) {
            ("system" | "developer", Content::Text(text)) if self.messages.is_empty() => {
                self.system.push(text);
            }
            ("system" | "developer", content) => self.push("system".into(), content),
            (_, content) => self.push(role.into(), content),
        }
        Ok(())
    }

    fn push(&mut self, role: Cow<'static, str>, content: Content) {
        self.messages.push(ChatMessage {
            role,
            content,
            ..ChatMessage::default()
        });
    }

    /// The assistant's message that calls belong to: what it said last, or a new one.
    fn assistant(&mut self) -> &mut ChatMessage {
        if self
            .messages
            .last()
            .is_none_or(|last| last.role != "assistant")
        {
            self.messages.push(ChatMessage::text("assistant", ""));
        }
        let last = self.messages.len() - 1;
        &mut self.messages[last]
    }

    fn add_result(&mut self, item: Item<'_>) -> Result<(), TranslateError> {
        let id = item
            .call_id
            .ok_or_else(|| TranslateError::new("a `function_call_output` needs `call_id`"))?;
        let content = match item.output {
            Some(output) => content_of(output)?,
            None => Content::default(),
        };
        let Content::Parts(parts) = content else {
            let message = ChatMessage::tool(id, String::new());
            self.messages.push(ChatMessage { content, ..message });
            return Ok(());
        };
        // Chat completions take no images inside a tool's result.
        let (images, texts): (Vec<Part>, Vec<Part>) = parts
            .into_iter()
            .partition(|part| matches!(part, Part::ImageUrl { .. }));
        let message = ChatMessage::tool(id, String::new());
        self.messages.push(ChatMessage {
            content: Content::from_parts(texts, "\n"),
            ..message
        });
        self.push("user".into(), Content::Parts(images));
        Ok(())
    }
}

fn content_of(raw: &RawValue) -> Result<Content, TranslateError> {
    let parts = match TextOr::<ContentPart>::read(raw)? {
        TextOr::Text(text) => return Ok(Content::Text(text)),
        TextOr::List(parts) => parts,
    };
    let mut out = Vec::with_capacity(parts.len());
    for part in parts {
        out.push(match (part.kind.as_str(), part.image_url) {
            ("input_text" | "output_text" | "text" | "summary_text", _) => {
                Part::text(part.text.unwrap_or_default())
            }
            ("refusal", _) => Part::text(part.refusal.unwrap_or_default()),
            ("input_image", Some(url)) => Part::ImageUrl {
                image_url: ImageUrl {
                    url,
                    detail: part.detail,
                },
            },
            (kind, _) => {
                return Err(TranslateError::new(format!(
                    "content of type `{kind:.40}` is not supported by this node, or refers to a stored file"
                )));
            }
        });
    }
    Ok(Content::from_parts(out, "\n"))
}
