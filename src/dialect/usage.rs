//! Tokens and times that servers tell about an answer.

use serde::de::IgnoredAny;
use serde_json::Value;

use super::json;

/// Tokens and milliseconds of an answer, as the node told them; `None` where it did not.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub prompt_tokens: Option<u64>,
    /// Tokens of the answer.
    pub completion_tokens: Option<u64>,
    /// Tokens of the prompt that were not read again.
    pub cached_tokens: Option<u64>,
    /// Milliseconds spent reading the prompt.
    pub prompt_ms: Option<f64>,
    /// Milliseconds spent writing the answer.
    pub decode_ms: Option<f64>,
    /// Milliseconds spent loading the model.
    pub load_ms: Option<f64>,
    /// Milliseconds of all, as the node counts them.
    pub total_ms: Option<f64>,
}

impl Usage {
    /// Takes over what `newer` knows; streams tell their usage in parts.
    pub fn update(&mut self, newer: Self) {
        self.prompt_tokens = newer.prompt_tokens.or(self.prompt_tokens);
        self.completion_tokens = newer.completion_tokens.or(self.completion_tokens);
        self.cached_tokens = newer.cached_tokens.or(self.cached_tokens);
        self.prompt_ms = newer.prompt_ms.or(self.prompt_ms);
        self.decode_ms = newer.decode_ms.or(self.decode_ms);
        self.load_ms = newer.load_ms.or(self.load_ms);
        self.total_ms = newer.total_ms.or(self.total_ms);
    }
}

/// The usage told in an answer that was not streamed, of any dialect; empty where there is none.
pub fn usage_of_body(body: &[u8]) -> Usage {
    Event::read(body).map_or_else(Usage::default, |event| event.usage())
}

/// The same; `None` when the body is not JSON at all.
pub fn usage_of_json(body: &[u8]) -> Option<Usage> {
    match Event::read(body) {
        Some(event) => Some(event.usage()),
        None => serde_json::from_slice::<IgnoredAny>(body)
            .ok()
            .map(|_| Usage::default()),
    }
}

/// The fields of any dialect's answer or stream event that tell its end, its error or its usage, as they are written, because the same
/// key has different types in different dialects (`response` is a text for Ollama and an object for OpenAI). `null` counts as absent.
#[derive(Debug, Default)]
pub(super) struct Event<'a> {
    pub(super) done: Option<&'a str>,
    pub(super) status: Option<&'a str>,
    pub(super) error: Option<&'a str>,
    pub(super) kind: Option<&'a str>,
    prompt_eval_count: Option<&'a str>,
    eval_count: Option<&'a str>,
    prompt_eval_duration: Option<&'a str>,
    eval_duration: Option<&'a str>,
    load_duration: Option<&'a str>,
    total_duration: Option<&'a str>,
    usage: Option<&'a str>,
    timings: Option<&'a str>,
    message: Option<&'a str>,
    response: Option<&'a str>,
}

impl<'a> Event<'a> {
    /// `None` for what is not one JSON object.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut event = Self::default();
        let read = json::read_object(text, |key, value| {
            if let Some(slot) = event.slot(key) {
                *slot = (value != "null").then_some(value);
            }
        });
        read.ok().map(|()| event)
    }

    /// The place of a field; `None` for a key of no interest.
    fn slot(&mut self, key: &str) -> Option<&mut Option<&'a str>> {
        Some(match key {
            "done" => &mut self.done,
            "status" => &mut self.status,
            "error" => &mut self.error,
            "type" => &mut self.kind,
            "prompt_eval_count" => &mut self.prompt_eval_count,
            "eval_count" => &mut self.eval_count,
            "prompt_eval_duration" => &mut self.prompt_eval_duration,
            "eval_duration" => &mut self.eval_duration,
            "load_duration" => &mut self.load_duration,
            "total_duration" => &mut self.total_duration,
            "usage" => &mut self.usage,
            "timings" => &mut self.timings,
            "message" => &mut self.message,
            "response" => &mut self.response,
            _ => return None,
        })
    }
}

impl Event<'_> {
    pub(super) fn usage(&self) -> Usage {
        let mut usage = Usage {
            prompt_tokens: count(self.prompt_eval_count),
            completion_tokens: count(self.eval_count),
            cached_tokens: None,
            prompt_ms: nanoseconds(self.prompt_eval_duration),
            decode_ms: nanoseconds(self.eval_duration),
            load_ms: nanoseconds(self.load_duration),
            total_ms: nanoseconds(self.total_duration),
        };
        if let Some(timings) = self.timings.and_then(parse_object) {
            usage.update(of_timings(&timings));
        }
        for envelope in [self.message, self.response].into_iter().flatten() {
            if envelope.starts_with('{')
                && let Some(Event {
                    usage: Some(told), ..
                }) = Event::read(envelope.as_bytes())
                && let Some(told) = parse_object(told)
            {
                usage.update(of_usage(&told));
            }
        }
        if let Some(told) = self.usage.and_then(parse_object) {
            usage.update(of_usage(&told));
        }
        usage
    }
}

fn parse_object(written: &str) -> Option<Value> {
    serde_json::from_str(written).ok().filter(Value::is_object)
}

fn count(field: Option<&str>) -> Option<u64> {
    field?.parse().ok()
}

fn nanoseconds(field: Option<&str>) -> Option<f64> {
    field?.parse::<f64>().ok().map(|told| told / 1e6)
}

/// The `usage` object of OpenAI, Responses or Anthropic.
pub(super) fn of_usage(told: &Value) -> Usage {
    let count = |pointer: &str| told.pointer(pointer).and_then(Value::as_u64);
    let anthropic_read = count("/cache_read_input_tokens");
    let anthropic_written = count("/cache_creation_input_tokens");
    // Anthropic counts cached tokens beside `input_tokens`, OpenAI within.
    let beside = anthropic_read.unwrap_or(0) + anthropic_written.unwrap_or(0);
    Usage {
        prompt_tokens: count("/prompt_tokens")
            .or_else(|| count("/input_tokens").map(|fresh| fresh.saturating_add(beside))),
        completion_tokens: count("/completion_tokens").or_else(|| count("/output_tokens")),
        cached_tokens: count("/prompt_tokens_details/cached_tokens")
            .or_else(|| count("/input_tokens_details/cached_tokens"))
            .or(anthropic_read),
        ..Usage::default()
    }
}

/// llama-server's `timings`, which come without being asked for; `prompt_n` leaves the cached tokens out.
fn of_timings(told: &Value) -> Usage {
    let count = |key: &str| told.get(key).and_then(Value::as_u64);
    let cached = count("cache_n");
    Usage {
        prompt_tokens: count("prompt_n").map(|fresh| fresh.saturating_add(cached.unwrap_or(0))),
        completion_tokens: count("predicted_n"),
        cached_tokens: cached,
        prompt_ms: told.get("prompt_ms").and_then(Value::as_f64),
        decode_ms: told.get("predicted_ms").and_then(Value::as_f64),
        ..Usage::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire_samples::body_of;
    use super::*;

    fn tokens(exchange: &str) -> (Option<u64>, Option<u64>, Option<u64>) {
        let usage = usage_of_body(&body_of(exchange));
        (
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.cached_tokens,
        )
    }

    #[test]
    fn reads_the_usage_of_every_dialect() {
        assert_eq!(
            tokens("ollama-0.32.15-cpu/chat.txt"),
            (Some(38), Some(2), None)
        );
        assert_eq!(
            tokens("ollama-0.32.15-cpu/v1_chat.txt"),
            (Some(38), Some(2), None)
        );
        assert_eq!(
            tokens("server/v1_completions.txt"),
            (Some(4), Some(6), Some(3))
        );
        assert_eq!(
            tokens("server/anthropic_messages.txt"),
            (Some(22), Some(8), Some(5))
        );
        assert_eq!(
            tokens("server/v1_responses.txt"),
            (Some(16), Some(6), Some(1))
        );
        assert_eq!(
            tokens("server/anthropic_count_tokens.txt"),
            (None, None, None)
        );
    }

    #[test]
    fn times_are_milliseconds_whatever_the_server_counts_in() {
        let ollama = usage_of_body(&body_of("ollama-0.32.15-cpu/chat.txt"));
        assert_eq!(ollama.prompt_ms, Some(2.068));
        assert_eq!(ollama.decode_ms, Some(0.391));
        assert_eq!(ollama.load_ms, Some(0.804_899));
        assert_eq!(ollama.total_ms, Some(5.400_033));
        let llama = usage_of_body(&body_of("server/v1_completions.txt"));
        assert_eq!(
            (llama.prompt_ms, llama.decode_ms),
            (Some(0.275), Some(0.55))
        );
    }
}
