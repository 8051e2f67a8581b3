//! Answers as Anthropic's message or its events.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::body::arguments_object;
use super::reply::{Facts, HeldCall, ReplyForm, hold_call};
use super::sse::write_event;
use super::upstream::{CallFragment, Delta, Usage};
use super::{Stamp, TranslateError};

#[derive(Debug)]
pub(super) struct MessagesReply {
    id: String,
    model: String,
    stream: bool,
    started: bool,
    open: Option<Open>,
    /// Blocks begun so far; the open one has the index before it.
    blocks: usize,
    calls: usize,
}

#[derive(Serialize)]
struct Message<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    role: &'static str,
    model: &'a str,
    content: &'a [Block<'a>],
    stop_reason: Option<&'a str>,
    stop_sequence: Option<&'a str>,
    usage: Value,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Block<'a> {
    Thinking {
        thinking: &'a str,
        /// Anthropic's proof that the thinking is its own; nobody else has one.
        signature: &'static str,
    },
    Text {
        text: &'a str,
    },
    ToolUse {
        id: &'a str,
        name: &'a str,
        input: Box<RawValue>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Thinking,
    Text,
    /// Holds the ordinal of the call.
    ToolUse(usize),
}

impl MessagesReply {
    pub(super) fn new(model: &str, stamp: &Stamp, stream: bool) -> Self {
        Self {
            id: format!("msg_{}", stamp.id),
            model: model.to_owned(),
            stream,
            started: false,
            open: None,
            blocks: 0,
            calls: 0,
        }
    }

    fn message<'a>(
        &'a self,
        content: &'a [Block<'a>],
        stop: Option<(&'static str, Option<&'a str>)>,
        usage: Value,
    ) -> Message<'a> {
        Message {
            id: &self.id,
            kind: "message",
            role: "assistant",
            model: &self.model,
            content,
            stop_reason: stop.map(|(reason, _)| reason),
            stop_sequence: stop.and_then(|(_, sequence)| sequence),
            usage,
        }
    }

    fn start(&mut self, out: &mut Vec<u8>) {
        if self.started {
            return;
        }
        self.started = true;
        // The node tells its counts at the end; `message_delta` brings them.
        let usage = json!({"input_tokens": 0, "output_tokens": 0});
        let message = self.message(&[], None, usage);
        event(&json!({"type": "message_start", "message": message}), out);
    }

    /// Makes `wanted` the open block.
    fn open(&mut self, wanted: Open, block: &Value, out: &mut Vec<u8>) {
        if self.open == Some(wanted) {
            return;
        }
        self.close(out);
        let start =
            json!({"type": "content_block_start", "index": self.blocks, "content_block": block});
        event(&start, out);
        self.open = Some(wanted);
        self.blocks += 1;
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        if self.open.take().is_some() {
            event(
                &json!({"type": "content_block_stop", "index": self.index()}),
                out,
            );
        }
    }

    fn index(&self) -> usize {
        self.blocks.saturating_sub(1)
    }

    fn add(&self, delta: &Value, out: &mut Vec<u8>) {
        event(
            &json!({"type": "content_block_delta", "index": self.index(), "delta": delta}),
            out,
        );
    }

    fn call(&mut self, fragment: &CallFragment, out: &mut Vec<u8>) -> Result<(), TranslateError> {
        let wanted = Open::ToolUse(fragment.ordinal);
        if self.open != Some(wanted) {
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
            let block =
                json!({"type": "tool_use", "id": fragment.id, "name": fragment.name, "input": {}});
            self.open(wanted, &block, out);
        }
        if !fragment.arguments.is_empty() {
            self.add(
                &json!({"type": "input_json_delta", "partial_json": fragment.arguments}),
                out,
            );
        }
        Ok(())
    }

    /// The reason, and the stop sequence where that is the reason.
    fn stop<'a>(&self, facts: &Facts<'a>) -> (&'static str, Option<&'a str>) {
        let upstream = facts.upstream;
        match upstream.finish_reason.as_deref() {
            Some("length") => ("max_tokens", None),
            Some("content_filter") => ("refusal", None),
            _ if self.calls > 0 => ("tool_use", None),
            _ => match upstream.stop_sequence.as_deref() {
                Some(sequence) => ("stop_sequence", Some(sequence)),
                None => ("end_turn", None),
            },
        }
    }
}

/// Anthropic counts cached prompt tokens apart from `input_tokens`. Both totals are required by the form, so an unknown one is 0.
fn usage(usage: &Usage) -> Value {
    let cached = usage.cached.unwrap_or(0);
    let mut told = json!({"input_tokens": usage.prompt.unwrap_or(0).saturating_sub(cached)});
    if let Some(cached) = usage.cached {
        told["cache_read_input_tokens"] = json!(cached);
    }
    told["output_tokens"] = json!(usage.completion.unwrap_or(0));
    told
}

fn event(data: &Value, out: &mut Vec<u8>) {
    let name = data.get("type").and_then(Value::as_str).unwrap_or_default();
    write_event(name, data.to_string().as_bytes(), out);
}

impl ReplyForm for MessagesReply {
    fn content_type(&self) -> &'static str {
        if self.stream {
            "text/event-stream"
        } else {
            "application/json"
        }
    }

    fn delta(&mut self, delta: Delta, out: &mut Vec<u8>) -> Result<(), TranslateError> {
        self.start(out);
        if !delta.reasoning.is_empty() {
            let block = json!({"type": "thinking", "thinking": "", "signature": ""});
            self.open(Open::Thinking, &block, out);
            self.add(
                &json!({"type": "thinking_delta", "thinking": delta.reasoning}),
                out,
            );
        }
        if !delta.content.is_empty() {
            self.open(Open::Text, &json!({"type": "text", "text": ""}), out);
            self.add(&json!({"type": "text_delta", "text": delta.content}), out);
        }
        delta
            .calls
            .iter()
            .try_for_each(|fragment| self.call(fragment, out))
    }

    fn end(&mut self, facts: &Facts<'_>, out: &mut Vec<u8>) -> Result<(), TranslateError> {
        self.start(out);
        self.close(out);
        let (stop_reason, stop_sequence) = self.stop(facts);
        let delta = json!({"stop_reason": stop_reason, "stop_sequence": stop_sequence});
        let usage = usage(&facts.upstream.usage);
        event(
            &json!({"type": "message_delta", "delta": delta, "usage": usage}),
            out,
        );
        event(&json!({"type": "message_stop"}), out);
        Ok(())
    }

    fn fail(&mut self, message: &str, out: &mut Vec<u8>) {
        let error = json!({"type": "api_error", "message": message});
        event(&json!({"type": "error", "error": error}), out);
    }

    fn whole(&mut self, delta: Delta, facts: &Facts<'_>) -> Result<Vec<u8>, TranslateError> {
        let mut calls: Vec<HeldCall> = Vec::new();
        for fragment in delta.calls {
            hold_call(&mut calls, fragment)?;
        }
        let mut content = Vec::new();
        if !delta.reasoning.is_empty() {
            content.push(Block::Thinking {
                thinking: &delta.reasoning,
                signature: "",
            });
        }
        if !delta.content.is_empty() {
            content.push(Block::Text {
                text: &delta.content,
            });
        }
        let cut = facts.upstream.finish_reason.as_deref() == Some("length");
        for call in &calls {
            match arguments_object(&call.name, &call.arguments) {
                Ok(input) => content.push(Block::ToolUse {
                    id: &call.id,
                    name: &call.name,
                    input,
                }),
                // Cut short by the token limit, as `stop_reason` tells.
                Err(_) if cut => {}
                Err(error) => return Err(error),
            }
        }
        self.calls = calls.len();
        let usage = usage(&facts.upstream.usage);
        let message = self.message(&content, Some(self.stop(facts)), usage);
        Ok(serde_json::to_vec(&message)?)
    }
}
