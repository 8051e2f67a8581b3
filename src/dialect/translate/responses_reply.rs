//! Answers as the Responses API's object or its typed events.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::reply::{Facts, HELD_LIMIT, HeldCall, ReplyForm, hold_call, too_long};
use super::sse::write_event;
use super::upstream::{CallFragment, Delta, Upstream};
use super::{Stamp, TranslateError};

/// What the answer repeats of the request.
#[derive(Debug, Default)]
pub(super) struct Echo {
    pub(super) instructions: Option<String>,
    pub(super) max_output_tokens: Option<Box<RawValue>>,
    pub(super) metadata: Option<Box<RawValue>>,
    pub(super) parallel_tool_calls: Option<Box<RawValue>>,
    pub(super) temperature: Option<Box<RawValue>>,
    pub(super) tool_choice: Option<Box<RawValue>>,
    pub(super) tools: Option<Box<RawValue>>,
    pub(super) top_p: Option<Box<RawValue>>,
}

#[derive(Debug)]
pub(super) struct ResponsesReply {
    stamp: Stamp,
    model: String,
    stream: bool,
    echo: Echo,
    sequence: u64,
    started: bool,
    /// Finished items.
    output: Vec<Value>,
    open: Option<Open>,
    held: usize,
    calls: usize,
}

/// The item that is being written.
#[derive(Debug)]
enum Open {
    Reasoning(String),
    Message(String),
    Call(usize, HeldCall),
}

#[derive(Serialize)]
struct Response<'a> {
    id: String,
    object: &'static str,
    created_at: u64,
    status: &'a str,
    background: bool,
    error: Option<Value>,
    incomplete_details: Option<Value>,
    instructions: &'a Option<String>,
    max_output_tokens: &'a Option<Box<RawValue>>,
    metadata: Or<'a>,
    model: &'a str,
    output: &'a [Value],
    parallel_tool_calls: Or<'a>,
    previous_response_id: Option<&'a str>,
    store: bool,
    temperature: &'a Option<Box<RawValue>>,
    tool_choice: Or<'a>,
    tools: Or<'a>,
    top_p: &'a Option<Box<RawValue>>,
    truncation: &'static str,
    usage: Option<Value>,
}

/// What the request said, or the form's default.
#[derive(Serialize)]
#[serde(untagged)]
enum Or<'a> {
    Said(&'a RawValue),
    Default(Value),
}

impl<'a> Or<'a> {
    fn of(said: Option<&'a RawValue>, default: Value) -> Self {
        said.map_or(Self::Default(default), Self::Said)
    }
}

impl ResponsesReply {
    pub(super) fn new(model: &str, stamp: &Stamp, stream: bool, echo: Echo) -> Self {
        Self {
            stamp: stamp.clone(),
            model: model.to_owned(),
            stream,
            echo,
            sequence: 0,
            started: false,
            output: Vec::new(),
            open: None,
            held: 0,
            calls: 0,
        }
    }

    fn response<'a>(&'a self, status: &'a str, usage: Option<Value>) -> Response<'a> {
        let echo = &self.echo;
        Response {
            id: format!("resp_{}", self.stamp.id),
            object: "response",
            created_at: self.stamp.created_unix,
            status,
            background: false,
            error: None,
            incomplete_details: (status == "incomplete")
                .then(|| json!({"reason": "max_output_tokens"})),
            instructions: &echo.instructions,
            max_output_tokens: &echo.max_output_tokens,
            metadata: Or::of(echo.metadata.as_deref(), json!({})),
            model: &self.model,
            output: &self.output,
            parallel_tool_calls: Or::of(echo.parallel_tool_calls.as_deref(), json!(true)),
            previous_response_id: None,
            store: false,
            temperature: &echo.temperature,
            tool_choice: Or::of(echo.tool_choice.as_deref(), json!("auto")),
            tools: Or::of(echo.tools.as_deref(), json!([])),
            top_p: &echo.top_p,
            truncation: "disabled",
            usage,
        }
    }

    fn response_event(
        &mut self,
        kind: &str,
        status: &str,
        usage: Option<Value>,
        out: &mut Vec<u8>,
    ) -> Result<(), TranslateError> {
        #[derive(Serialize)]
        struct Event<'a> {
            #[serde(rename = "type")]
            kind: &'a str,
            sequence_number: u64,
            response: Response<'a>,
        }
        let data = serde_json::to_vec(&Event {
            kind,
            sequence_number: self.sequence,
            response: self.response(status, usage),
        })?;
        self.sequence += 1;
        write_event(kind, &data, out);
        Ok(())
    }

    fn start(&mut self, out: &mut Vec<u8>) -> Result<(), TranslateError> {
        if self.started {
            return Ok(());
        }
        self.started = true;
        self.response_event("response.created", "in_progress", None, out)?;
        self.response_event("response.in_progress", "in_progress", None, out)
    }

    /// Writes an event about the item being written.
    fn event(&mut self, kind: &str, fields: Value, out: &mut Vec<u8>) {
        let mut event = json!({"type": kind, "sequence_number": self.sequence});
        self.sequence += 1;
        if let (Value::Object(event), Value::Object(fields)) = (&mut event, fields) {
            event.extend(fields);
        }
        write_event(kind, event.to_string().as_bytes(), out);
    }

    fn item_id(&self, prefix: &str) -> String {
        format!("{prefix}_{}_{}", self.stamp.id, self.output.len())
    }

    fn hold(&mut self, bytes: usize) -> Result<(), TranslateError> {
        self.held = self.held.saturating_add(bytes);
        if self.held > HELD_LIMIT {
            return Err(too_long());
        }
        Ok(())
    }

    fn begin(&mut self, open: Open, out: &mut Vec<u8>) {
        self.close("completed", out);
        let index = self.output.len();
        let (id, item, part) = match &open {
            Open::Reasoning(_) => {
                let id = self.item_id("rs");
                let item = json!({"id": id, "type": "reasoning", "summary": [], "content": [], "status": "in_progress"});
                (id, item, Some(reasoning_part("")))
            }
            Open::Message(_) => {
                let id = self.item_id("msg");
                let item = json!({"id": id, "type": "message", "status": "in_progress", "role": "assistant", "content": []});
                (id, item, Some(text_part("")))
            }
            Open::Call(_, call) => {
                let id = self.item_id("fc");
                let item = call_item(&id, call, "in_progress");
                (id, item, None)
            }
        };
        self.event(
            "response.output_item.added",
            json!({"output_index": index, "item": item}),
            out,
        );
        if let Some(part) = part {
            let place =
                json!({"item_id": id, "output_index": index, "content_index": 0, "part": part});
            self.event("response.content_part.added", place, out);
        }
        self.open = Some(open);
    }

    fn close(&mut self, status: &str, out: &mut Vec<u8>) {
        let Some(open) = self.open.take() else {
            return;
        };
        let index = self.output.len();
        let item = match open {
            Open::Reasoning(text) => {
                let id = self.item_id("rs");
                let done =
                    json!({"item_id": id, "output_index": index, "content_index": 0, "text": text});
                self.event("response.reasoning_text.done", done, out);
                let place = json!({"item_id": id, "output_index": index, "content_index": 0, "part": reasoning_part(&text)});
                self.event("response.content_part.done", place, out);
                reasoning_item(&id, &text, status)
            }
            Open::Message(text) => {
                let id = self.item_id("msg");
                let done = json!({"item_id": id, "output_index": index, "content_index": 0, "text": text, "logprobs": []});
                self.event("response.output_text.done", done, out);
                let place = json!({"item_id": id, "output_index": index, "content_index": 0, "part": text_part(&text)});
                self.event("response.content_part.done", place, out);
                message_item(&id, &text, status)
            }
            Open::Call(_, mut call) => {
                let id = self.item_id("fc");
                if call.fill_in() {
                    let delta =
                        json!({"item_id": id, "output_index": index, "delta": call.arguments});
                    self.event("response.function_call_arguments.delta", delta, out);
                }
                let done = json!({"item_id": id, "output_index": index, "name": call.name, "arguments": call.arguments});
                self.event("response.function_call_arguments.done", done, out);
                call_item(&id, &call, status)
            }
        };
        self.event(
            "response.output_item.done",
            json!({"output_index": index, "item": item}),
            out,
        );
        self.output.push(item);
    }

    fn say(&mut self, text: &str, out: &mut Vec<u8>) -> Result<(), TranslateError> {
        self.hold(text.len())?;
        if !matches!(self.open, Some(Open::Message(_))) {
            self.begin(Open::Message(String::new()), out);
        }
        let delta = json!({"item_id": self.item_id("msg"), "output_index": self.output.len(), "content_index": 0, "delta": text, "logprobs": []});
        self.event("response.output_text.delta", delta, out);
        if let Some(Open::Message(held)) = &mut self.open {
            held.push_str(text);
        }
        Ok(())
    }

    fn think(&mut self, text: &str, out: &mut Vec<u8>) -> Result<(), TranslateError> {
        self.hold(text.len())?;
        if !matches!(self.open, Some(Open::Reasoning(_))) {
            self.begin(Open::Reasoning(String::new()), out);
        }
        let delta = json!({"item_id": self.item_id("rs"), "output_index": self.output.len(), "content_index": 0, "delta": text});
        self.event("response.reasoning_text.delta", delta, out);
        if let Some(Open::Reasoning(held)) = &mut self.open {
            held.push_str(text);
        }
        Ok(())
    }

    fn call(&mut self, fragment: CallFragment, out: &mut Vec<u8>) -> Result<(), TranslateError> {
        self.hold(fragment.arguments.len() + fragment.name.len() + fragment.id.len())?;
        if !matches!(self.open, Some(Open::Call(ordinal, _)) if ordinal == fragment.ordinal) {
            if fragment.ordinal < self.calls {
                return Err(TranslateError::new(
                    "the node mixed the parts of several tool calls",
                ));
            }
            if fragment.name.is_empty() {
                return Err(TranslateError::new(
                    "the node sent a tool call without a name",
                ));
            }
            self.calls = fragment.ordinal + 1;
            let call = HeldCall {
                id: fragment.id,
                name: fragment.name,
                arguments: String::new(),
            };
            self.begin(Open::Call(fragment.ordinal, call), out);
        }
        if fragment.arguments.is_empty() {
            return Ok(());
        }
        let delta = json!({"item_id": self.item_id("fc"), "output_index": self.output.len(), "delta": fragment.arguments});
        self.event("response.function_call_arguments.delta", delta, out);
        if let Some(Open::Call(_, call)) = &mut self.open {
            call.arguments.push_str(&fragment.arguments);
        }
        Ok(())
    }
}

fn text_part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

fn reasoning_part(text: &str) -> Value {
    json!({"type": "reasoning_text", "text": text})
}

fn message_item(id: &str, text: &str, status: &str) -> Value {
    json!({"id": id, "type": "message", "status": status, "role": "assistant", "content": [text_part(text)]})
}

fn reasoning_item(id: &str, text: &str, status: &str) -> Value {
    json!({"id": id, "type": "reasoning", "summary": [], "content": [reasoning_part(text)], "status": status})
}

fn call_item(id: &str, call: &HeldCall, status: &str) -> Value {
    json!({"id": id, "type": "function_call", "status": status, "call_id": call.id, "name": call.name, "arguments": call.arguments})
}

fn status(upstream: &Upstream) -> &'static str {
    match upstream.finish_reason.as_deref() {
        Some("length") => "incomplete",
        _ => "completed",
    }
}

/// Absent when the node reported none; details the form requires are 0 when unknown.
fn usage(upstream: &Upstream) -> Option<Value> {
    let usage = &upstream.usage;
    let (input, output) = usage.prompt.zip(usage.completion)?;
    Some(json!({
        "input_tokens": input,
        "input_tokens_details": {"cached_tokens": usage.cached.unwrap_or(0), "cache_write_tokens": 0},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning.unwrap_or(0)},
        "total_tokens": input.saturating_add(output),
    }))
}

impl ReplyForm for ResponsesReply {
    fn content_type(&self) -> &'static str {
        if self.stream {
            "text/event-stream"
        } else {
            "application/json"
        }
    }

    fn delta(&mut self, delta: Delta, out: &mut Vec<u8>) -> Result<(), TranslateError> {
        self.start(out)?;
        if !delta.reasoning.is_empty() {
            self.think(&delta.reasoning, out)?;
        }
        if !delta.content.is_empty() {
            self.say(&delta.content, out)?;
        }
        delta
            .calls
            .into_iter()
            .try_for_each(|fragment| self.call(fragment, out))
    }

    fn end(&mut self, facts: &Facts<'_>, out: &mut Vec<u8>) -> Result<(), TranslateError> {
        self.start(out)?;
        let status = status(facts.upstream);
        self.close(status, out);
        let kind = format!("response.{status}");
        self.response_event(&kind, status, usage(facts.upstream), out)
    }

    fn fail(&mut self, message: &str, out: &mut Vec<u8>) {
        // The typed event, and beside it the `error` object at which OpenAI's own clients raise.
        let error =
            json!({"message": message, "type": "server_error", "param": null, "code": null});
        let fields =
            json!({"code": "server_error", "message": message, "param": null, "error": error});
        self.event("error", fields, out);
        // Other clients (Codex) wait for the response's own last event.
        let mut response = serde_json::to_value(self.response("failed", None))
            .unwrap_or_else(|_| json!({"object": "response", "status": "failed"}));
        response["error"] = json!({"code": "server_error", "message": message});
        self.event("response.failed", json!({ "response": response }), out);
    }

    fn whole(&mut self, delta: Delta, facts: &Facts<'_>) -> Result<Vec<u8>, TranslateError> {
        let status = status(facts.upstream);
        let mut calls = Vec::new();
        for fragment in delta.calls {
            hold_call(&mut calls, fragment)?;
        }
        if !delta.reasoning.is_empty() {
            let id = self.item_id("rs");
            self.output
                .push(reasoning_item(&id, &delta.reasoning, status));
        }
        if !delta.content.is_empty() {
            let id = self.item_id("msg");
            self.output.push(message_item(&id, &delta.content, status));
        }
        for mut call in calls {
            call.fill_in();
            let id = self.item_id("fc");
            self.output.push(call_item(&id, &call, status));
        }
        Ok(serde_json::to_vec(
            &self.response(status, usage(facts.upstream)),
        )?)
    }
}
