//! Answers as OpenAI's chat completion or its chunks, the way Ollama writes them.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::reply::{Facts, ReplyForm};
use super::upstream::Delta;
use super::{Stamp, TranslateError};

#[derive(Debug)]
pub(super) struct OpenAiReply {
    id: String,
    created: u64,
    model: String,
    stream: bool,
    /// Whether a stream is to end with its usage.
    include_usage: bool,
    /// Whether something has been said.
    begun: bool,
}

#[derive(Serialize)]
struct Answer<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    system_fingerprint: &'static str,
    choices: &'a [Choice<'a>],
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Value>,
}

#[derive(Default, Serialize)]
struct Choice<'a> {
    index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Said<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delta: Option<Said<'a>>,
    finish_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<Logprobs<'a>>,
}

#[derive(Default, Serialize)]
struct Said<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    reasoning: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Call<'a>>,
}

#[derive(Serialize)]
struct Call<'a> {
    id: &'a str,
    index: usize,
    #[serde(rename = "type")]
    kind: &'static str,
    function: Called<'a>,
}

#[derive(Serialize)]
struct Called<'a> {
    name: &'a str,
    arguments: &'a str,
}

#[derive(Serialize)]
struct Logprobs<'a> {
    content: &'a RawValue,
}

impl OpenAiReply {
    pub(super) fn new(model: &str, stamp: &Stamp, stream: bool, include_usage: bool) -> Self {
        Self {
            id: format!("chatcmpl-{}", stamp.id),
            created: stamp.created_unix,
            model: model.to_owned(),
            stream,
            include_usage,
            begun: false,
        }
    }

    fn answer(
        &self,
        choices: &[Choice<'_>],
        usage: Option<Value>,
    ) -> Result<Vec<u8>, TranslateError> {
        let object = if self.stream {
            "chat.completion.chunk"
        } else {
            "chat.completion"
        };
        Ok(serde_json::to_vec(&Answer {
            id: &self.id,
            object,
            created: self.created,
            model: &self.model,
            system_fingerprint: "fp_ollama",
            choices,
            usage,
        })?)
    }

    fn chunk(
        &self,
        choices: &[Choice<'_>],
        usage: Option<Value>,
        out: &mut Vec<u8>,
    ) -> Result<(), TranslateError> {
        let data = self.answer(choices, usage)?;
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(&data);
        out.extend_from_slice(b"\n\n");
        Ok(())
    }
}

fn said(delta: &Delta) -> Said<'_> {
    Said {
        role: Some("assistant"),
        content: Some(&delta.content),
        reasoning: &delta.reasoning,
        tool_calls: delta
            .calls
            .iter()
            .map(|call| Call {
                id: &call.id,
                index: call.ordinal,
                kind: "function",
                function: Called {
                    name: &call.name,
                    arguments: &call.arguments,
                },
            })
            .collect(),
    }
}

fn logprobs(delta: &Delta) -> Option<Logprobs<'_>> {
    let content = delta.logprobs.as_deref()?;
    Some(Logprobs { content })
}

/// Counts that nobody told are 0, as OpenAI has no word for unknown.
fn usage(facts: &Facts<'_>) -> Value {
    let counted = &facts.upstream.usage;
    let (prompt, completion) = (counted.prompt.unwrap_or(0), counted.completion.unwrap_or(0));
    let mut usage = json!({
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt.saturating_add(completion),
    });
    if let Some(cached) = counted.cached {
        usage["prompt_tokens_details"] = json!({ "cached_tokens": cached });
    }
    usage
}

impl ReplyForm for OpenAiReply {
    fn content_type(&self) -> &'static str {
        if self.stream {
            "text/event-stream"
        } else {
            "application/json"
        }
    }

    fn delta(&mut self, delta: Delta, out: &mut Vec<u8>) -> Result<(), TranslateError> {
        if delta.is_empty() {
            return Ok(());
        }
        let mut said = said(&delta);
        if std::mem::replace(&mut self.begun, true) {
            // Only the first piece tells it.
            said.role = None;
        }
        let choice = Choice {
            delta: Some(said),
            logprobs: logprobs(&delta),
            ..Choice::default()
        };
        self.chunk(&[choice], None, out)
    }

    fn end(&mut self, facts: &Facts<'_>, out: &mut Vec<u8>) -> Result<(), TranslateError> {
        let choice = Choice {
            delta: Some(Said::default()),
            finish_reason: facts.upstream.finish_reason.as_deref().or(Some("stop")),
            ..Choice::default()
        };
        self.chunk(&[choice], None, out)?;
        if self.include_usage {
            self.chunk(&[], Some(usage(facts)), out)?;
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
        Ok(())
    }

    fn fail(&mut self, message: &str, out: &mut Vec<u8>) {
        let error = json!({"error": {
            "message": message, "type": "api_error", "param": null, "code": null,
        }});
        out.extend_from_slice(format!("data: {error}\n\ndata: [DONE]\n\n").as_bytes());
    }

    fn whole(&mut self, delta: Delta, facts: &Facts<'_>) -> Result<Vec<u8>, TranslateError> {
        let choice = Choice {
            message: Some(said(&delta)),
            finish_reason: facts.upstream.finish_reason.as_deref(),
            logprobs: logprobs(&delta),
            ..Choice::default()
        };
        self.answer(&[choice], Some(usage(facts)))
    }
}
