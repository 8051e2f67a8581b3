//! Answers as Ollama's NDJSON lines or its one object.

use serde::Serialize;
use serde_json::value::RawValue;

use super::body::arguments_object;
use super::reply::{Facts, HeldCall, ReplyForm, hold_call};
use super::upstream::Delta;
use super::{Stamp, TranslateError};

/// Which of Ollama's two forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// `message`.
    Chat,
    /// `response`.
    Generate,
}

#[derive(Debug)]
pub(super) struct OllamaReply {
    told: Told,
    model: String,
    stamp: Stamp,
    stream: bool,
    calls: Vec<HeldCall>,
}

#[derive(Serialize)]
struct Line<'a> {
    model: &'a str,
    created_at: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Message<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<&'a str>,
    done: bool,
    #[serde(flatten)]
    end: Option<End<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    logprobs: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Message<'a> {
    role: &'static str,
    content: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    tool_calls: &'a [Call],
}

#[derive(Serialize)]
struct Call {
    id: String,
    function: Called,
}

#[derive(Serialize)]
struct Called {
    index: usize,
    name: String,
    arguments: Box<RawValue>,
}

/// Durations in nanoseconds. How long the model took to load is known to no server but Ollama, so `load_duration` is never told.
#[derive(Serialize, Default)]
struct End<'a> {
    done_reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    total_duration: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_eval_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_eval_duration: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    eval_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    eval_duration: Option<u64>,
}

impl OllamaReply {
    pub(super) fn new(told: Told, model: &str, stamp: Stamp, stream: bool) -> Self {
        Self {
            told,
            model: model.to_owned(),
            stamp,
            stream,
            calls: Vec::new(),
        }
    }

    fn line(
        &self,
        delta: &Delta,
        calls: &[Call],
        end: Option<End<'_>>,
    ) -> Result<Vec<u8>, TranslateError> {
        let thinking = Some(delta.reasoning.as_str()).filter(|thinking| !thinking.is_empty());
        let chat = self.told == Told::Chat;
        let line = Line {
            model: &self.model,
            created_at: &self.stamp.created_at,
            message: chat.then_some(Message {
                role: "assistant",
                content: &delta.content,
                thinking,
                tool_calls: calls,
            }),
            response: (!chat).then_some(&delta.content),
            thinking: thinking.filter(|_| !chat),
            done: end.is_some(),
            end,
            logprobs: delta.logprobs.as_deref(),
        };
        Ok(serde_json::to_vec(&line)?)
    }

    /// The calls made so far. One that the token limit cut short is left out, as Ollama does: `done_reason` tells it.
    fn finished_calls(&mut self, facts: &Facts<'_>) -> Result<Vec<Call>, TranslateError> {
        let cut = facts.upstream.finish_reason.as_deref() == Some("length");
        let mut calls = Vec::new();
        for (index, call) in std::mem::take(&mut self.calls).into_iter().enumerate() {
            match arguments_object(&call.name, &call.arguments) {
                Ok(arguments) => calls.push(Call {
                    id: call.id,
                    function: Called {
                        index,
                        name: call.name,
                        arguments,
                    },
                }),
                Err(_) if cut => {}
                Err(error) => return Err(error),
            }
        }
        Ok(calls)
    }
}

impl End<'_> {
    fn of<'a>(facts: &Facts<'a>) -> End<'a> {
        let upstream = facts.upstream;
        End {
            done_reason: match upstream.finish_reason.as_deref() {
                None | Some("tool_calls" | "function_call") => "stop",
                Some(reason) => reason,
            },
            total_duration: Some(facts.elapsed_ns),
            prompt_eval_count: upstream.usage.prompt,
            // Not measured from outside: the time to the first token also holds the wait in the node's queue.
            prompt_eval_duration: upstream.prompt_ns,
            eval_count: upstream.usage.completion,
            eval_duration: upstream.eval_ns.or_else(|| {
                let first = facts.first_content_ns?;
                facts
                    .elapsed_ns
                    .checked_sub(first)
                    .filter(|&spent| spent > 0)
            }),
        }
    }
}

impl ReplyForm for OllamaReply {
    fn content_type(&self) -> &'static str {
        if self.stream {
            "application/x-ndjson"
        } else {
            "application/json; charset=utf-8"
        }
    }

    fn delta(&mut self, mut delta: Delta, out: &mut Vec<u8>) -> Result<(), TranslateError> {
        for fragment in std::mem::take(&mut delta.calls) {
            hold_call(&mut self.calls, fragment)?;
        }
        if !delta.is_empty() {
            out.extend_from_slice(&self.line(&delta, &[], None)?);
            out.push(b'\n');
        }
        Ok(())
    }

    fn end(&mut self, facts: &Facts<'_>, out: &mut Vec<u8>) -> Result<(), TranslateError> {
        let calls = self.finished_calls(facts)?;
        let nothing = Delta::default();
        if !calls.is_empty() {
            out.extend_from_slice(&self.line(&nothing, &calls, None)?);
            out.push(b'\n');
        }
        out.extend_from_slice(&self.line(&nothing, &[], Some(End::of(facts)))?);
        out.push(b'\n');
        Ok(())
    }

    fn fail(&mut self, message: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(serde_json::json!({"error": message}).to_string().as_bytes());
        out.push(b'\n');
    }

    fn whole(&mut self, mut delta: Delta, facts: &Facts<'_>) -> Result<Vec<u8>, TranslateError> {
        for fragment in std::mem::take(&mut delta.calls) {
            hold_call(&mut self.calls, fragment)?;
        }
        let calls = self.finished_calls(facts)?;
        self.line(&delta, &calls, Some(End::of(facts)))
    }
}

/// Ollama's answer to a request that only loads or unloads a model.
pub(super) fn load_only(told: Told, model: &str, stamp: &Stamp, unload: bool) -> Vec<u8> {
    let reason = if unload { "unload" } else { "load" };
    let mut answer = serde_json::json!({"model": model, "created_at": stamp.created_at});
    match told {
        Told::Chat => answer["message"] = serde_json::json!({"role": "assistant", "content": ""}),
        Told::Generate => answer["response"] = "".into(),
    }
    answer["done"] = true.into();
    answer["done_reason"] = reason.into();
    answer.to_string().into_bytes()
}
