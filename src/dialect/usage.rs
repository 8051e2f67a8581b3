//! Tokens and times that servers tell about an answer.

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

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
    serde_json::from_slice::<Event>(body).map_or_else(|_| Usage::default(), |event| event.usage())
}

/// The fields of any dialect's answer or stream event that tell its end, its error or its usage. Raw, because the same key has
/// different types in different dialects (`response` is a text for Ollama and an object for OpenAI).
#[derive(Debug, Default, Deserialize)]
pub(super) struct Event<'a> {
    #[serde(borrow, default, deserialize_with = "raw")]
    pub(super) done: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "raw")]
    pub(super) status: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "raw")]
    pub(super) error: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "type", deserialize_with = "raw")]
    pub(super) kind: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "raw")]
    prompt_eval_count: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "raw")]
    eval_count: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "raw")]
    prompt_eval_duration: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "raw")]
    eval_duration: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "raw")]
    load_duration: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "raw")]
    total_duration: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "raw")]
    usage: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "raw")]
    timings: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "raw")]
    message: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "raw")]
    response: Option<&'a RawValue>,
}

/// The part of Anthropic's `message_start` and of OpenAI's `response.…` events that holds the usage.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default, deserialize_with = "raw")]
    usage: Option<&'a RawValue>,
}

fn raw<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    let value = <&RawValue>::deserialize(deserializer)?;
    Ok((value.get() != "null").then_some(value))
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
            if envelope.get().starts_with('{')
                && let Ok(Envelope { usage: Some(told) }) = serde_json::from_str(envelope.get())
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

fn parse_object(raw: &RawValue) -> Option<Value> {
    serde_json::from_str(raw.get())
        .ok()
        .filter(Value::is_object)
}

fn count(field: Option<&RawValue>) -> Option<u64> {
    field?.get().parse().ok()
}

fn nanoseconds(field: Option<&RawValue>) -> Option<f64> {
    field?.get().parse::<f64>().ok().map(|told| told / 1e6)
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
