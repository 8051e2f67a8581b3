//! The documents of a simulated node, field by field as Ollama 0.32.15 writes them.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::ask::{Form, Refusal};
use super::catalog::Model;
use super::model::Resident;

/// The version that simulated nodes claim: the one whose exchanges they copy.
pub(super) const VERSION: &str = "0.32.15";

/// Ollama's `expires_at` for a model that stays for ever: 292 years, the longest that its durations hold.
const FOREVER: Duration = Duration::from_secs(292 * 365 * 86_400);

/// The last second of the year 9999, beyond which RFC 3339 has no form. A client may ask for a longer `keep_alive`.
const LAST: Duration = Duration::from_secs(253_402_300_799);

/// A time stamp with nanoseconds.
pub(super) fn timestamp(at: SystemTime) -> String {
    let at = at.min(SystemTime::UNIX_EPOCH + LAST);
    humantime::format_rfc3339_nanos(at).to_string()
}

/// Seconds since 1970.
pub(super) fn unix(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn details(model: &Model) -> Value {
    json!({
        "parent_model": "",
        "format": "gguf",
        "family": model.family,
        "families": [model.family],
        "parameter_size": model.parameter_size(),
        "quantization_level": model.quantization,
    })
}

/// `/api/tags`
pub(super) fn tags<'a>(models: impl Iterator<Item = &'a Model>) -> Value {
    let models: Vec<Value> = models
        .map(|model| {
            let mut details = details(model);
            details["context_length"] = json!(model.context_length);
            details["embedding_length"] = json!(model.embedding_length);
            json!({
                "name": model.name,
                "model": model.name,
                "modified_at": timestamp(model.modified_at()),
                "size": model.bytes,
                "digest": model.digest,
                "details": details,
                "capabilities": model.capabilities,
            })
        })
        .collect();
    json!({ "models": models })
}

/// `/api/ps`; `wall` turns the machine's time into a date.
pub(super) fn ps(residents: &[Resident], wall: impl Fn(Duration) -> SystemTime) -> Value {
    let models: Vec<Value> = residents
        .iter()
        .map(|resident| {
            json!({
                "name": resident.model.name,
                "model": resident.model.name,
                "size": resident.size,
                "digest": resident.model.digest,
                "details": details(&resident.model),
                "expires_at": timestamp(wall(resident.expires_at.unwrap_or(FOREVER))),
                "size_vram": resident.size_vram,
                "context_length": resident.num_ctx,
            })
        })
        .collect();
    json!({ "models": models })
}

/// `/api/show`
pub(super) fn show(model: &Model) -> Value {
    const TEMPLATE: &str = "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n";
    let arch = model.family;
    let mut info = serde_json::Map::new();
    let mut put = |key: String, value: Value| info.insert(key, value);
    put("general.architecture".into(), json!(arch));
    put("general.parameter_count".into(), json!(model.parameters));
    put("general.quantization_version".into(), json!(2));
    put("general.type".into(), json!("model"));
    put(format!("{arch}.block_count"), json!(model.layers));
    put(
        format!("{arch}.context_length"),
        json!(model.context_length),
    );
    put(
        format!("{arch}.embedding_length"),
        json!(model.embedding_length),
    );
    if model.can("embedding") {
        put(format!("{arch}.pooling_type"), json!(2));
    }
    json!({
        "modelfile": format!("# Modelfile of a simulated model\nFROM {}\n", model.name),
        "template": TEMPLATE,
        "details": details(model),
        "model_info": info,
        "capabilities": model.capabilities,
        "modified_at": timestamp(model.modified_at()),
    })
}

/// `/v1/models/ID`, and an element of the list.
pub(super) fn openai_model(model: &Model, id: &str) -> Value {
    json!({
        "id": id,
        "object": "model",
        "created": unix(model.modified_at()),
        "owned_by": "library",
    })
}

/// `/v1/models`
pub(super) fn openai_models<'a>(models: impl Iterator<Item = &'a Model>) -> Value {
    let data: Vec<Value> = models
        .map(|model| openai_model(model, &model.name))
        .collect();
    json!({ "object": "list", "data": data })
}

/// An error in the dialect of the path.
pub(super) fn error(path: &str, refusal: &Refusal, id: u64) -> Value {
    let Refusal { status, message } = refusal;
    if path.starts_with("/v1/messages") {
        let kind = match status {
            400 => "invalid_request_error",
            401 => "authentication_error",
            403 => "permission_error",
            404 => "not_found_error",
            429 => "rate_limit_error",
            503 | 529 => "overloaded_error",
            _ => "api_error",
        };
        return json!({
            "type": "error",
            "error": { "type": kind, "message": message },
            "request_id": format!("req_{id:024x}"),
        });
    }
    if path.starts_with("/v1/") {
        let kind = match status {
            400 => "invalid_request_error",
            404 => "not_found_error",
            _ => "api_error",
        };
        return json!({
            "error": { "message": message, "type": kind, "param": null, "code": null },
        });
    }
    json!({ "error": message })
}

/// What all documents of one answer share.
#[derive(Debug, Clone)]
pub(super) struct Voice {
    /// Form of the request.
    pub form: Form,
    /// The model as the client wrote it.
    pub model: String,
    /// A number that names the answer.
    pub id: u64,
    /// When the answer was begun: one `created` for all pieces.
    pub created: SystemTime,
    /// Tokens of the prompt as the client sent it.
    pub prompt_tokens: u32,
}

/// The counters at the end of an answer.
#[derive(Debug, Clone)]
pub(super) struct Counters {
    /// The limit ended it.
    pub by_limit: bool,
    /// Since the request came.
    pub total: Duration,
    /// Until the model was in memory.
    pub load: Duration,
    /// Prompt tokens after any cut, cached ones included.
    pub prompt_tokens: u32,
    /// Prefill.
    pub prompt: Duration,
    /// Generated tokens.
    pub tokens: u32,
    /// Decoding.
    pub eval: Duration,
    /// `/api/generate` without `raw`: the tokens, to go on from.
    pub context: Option<Vec<u32>>,
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn line(document: &Value) -> Vec<u8> {
    let mut bytes = document.to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

fn data(document: &Value) -> Vec<u8> {
    format!("data: {document}\n\n").into_bytes()
}

fn event(document: &Value) -> Vec<u8> {
    let kind = document
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    format!("event: {kind}\ndata: {document}\n\n").into_bytes()
}

impl Voice {
    /// Content type of a stream.
    pub(super) fn stream_type(&self) -> &'static str {
        match self.form {
            Form::Chat | Form::Generate => "application/x-ndjson",
            _ => "text/event-stream",
        }
    }

    fn native(&self, at: SystemTime, text: &str) -> Value {
        let mut document = json!({ "model": self.model, "created_at": timestamp(at) });
        if self.form == Form::Chat {
            document["message"] = json!({ "role": "assistant", "content": text });
        } else {
            document["response"] = json!(text);
        }
        document
    }

    fn native_end(&self, at: SystemTime, text: &str, counters: &Counters) -> Value {
        let mut document = self.native(at, text);
        document["done"] = json!(true);
        document["done_reason"] = json!(if counters.by_limit { "length" } else { "stop" });
        if let Some(context) = &counters.context {
            document["context"] = json!(context);
        }
        document["total_duration"] = json!(nanos(counters.total));
        document["load_duration"] = json!(nanos(counters.load));
        document["prompt_eval_count"] = json!(counters.prompt_tokens);
        document["prompt_eval_duration"] = json!(nanos(counters.prompt));
        document["eval_count"] = json!(counters.tokens);
        document["eval_duration"] = json!(nanos(counters.eval));
        document
    }

    /// The answer to a request without a prompt: `load` or `unload`.
    pub(super) fn without_prompt(&self, at: SystemTime, reason: &str) -> Value {
        let mut document = self.native(at, "");
        document["done"] = json!(true);
        document["done_reason"] = json!(reason);
        document
    }

    fn openai(&self, object: &str, choices: &Value) -> Value {
        let prefix = if self.form == Form::OpenAiChat {
            "chatcmpl"
        } else {
            "cmpl"
        };
        json!({
            "id": format!("{prefix}-{}", self.id % 1000),
            "object": object,
            "created": unix(self.created),
            "model": self.model,
            "system_fingerprint": "fp_ollama",
            "choices": choices,
        })
    }

    fn chunk_object(&self) -> &'static str {
        if self.form == Form::OpenAiChat {
            "chat.completion.chunk"
        } else {
            "text_completion"
        }
    }

    /// The pieces before the first token.
    pub(super) fn opening(&self) -> Vec<Vec<u8>> {
        if self.form != Form::Anthropic {
            return Vec::new();
        }
        vec![
            event(&json!({
                "type": "message_start",
                "message": {
                    "id": format!("msg_{:024x}", self.id),
                    "type": "message",
                    "role": "assistant",
                    "model": self.model,
                    "content": [],
                    "usage": { "input_tokens": self.prompt_tokens, "output_tokens": 0 },
                },
            })),
            event(&json!({
                "type": "content_block_start",
                "index": 0,
                "content_block": { "type": "text", "text": "" },
            })),
        ]
    }

    /// The piece of one token.
    pub(super) fn token(&self, at: SystemTime, text: &str) -> Vec<u8> {
        match self.form {
            Form::Chat | Form::Generate => {
                let mut document = self.native(at, text);
                document["done"] = json!(false);
                line(&document)
            }
            Form::OpenAiChat => data(&self.openai(
                self.chunk_object(),
                &json!([{
                    "index": 0,
                    "delta": { "role": "assistant", "content": text },
                    "finish_reason": null,
                }]),
            )),
            Form::OpenAiCompletion => data(&self.openai(
                self.chunk_object(),
                &json!([{ "text": text, "index": 0, "finish_reason": null }]),
            )),
            Form::Anthropic => event(&json!({
                "type": "content_block_delta",
                "index": 0,
                "delta": { "type": "text_delta", "text": text },
            })),
        }
    }

    /// The pieces after the last token.
    pub(super) fn closing(&self, at: SystemTime, counters: &Counters, usage: bool) -> Vec<Vec<u8>> {
        match self.form {
            Form::Chat | Form::Generate => vec![line(&self.native_end(at, "", counters))],
            Form::OpenAiChat | Form::OpenAiCompletion => {
                let choice = if self.form == Form::OpenAiChat {
                    json!([{ "index": 0, "delta": {}, "finish_reason": counters.finish() }])
                } else {
                    json!([{ "text": "", "index": 0, "finish_reason": counters.finish() }])
                };
                let mut last = data(&self.openai(self.chunk_object(), &choice));
                if usage {
                    let mut document = self.openai(self.chunk_object(), &json!([]));
                    document["usage"] = counters.openai_usage();
                    last.extend(data(&document));
                }
                last.extend(b"data: [DONE]\n\n");
                vec![last]
            }
            Form::Anthropic => vec![
                event(&json!({ "type": "content_block_stop", "index": 0 })),
                event(&json!({
                    "type": "message_delta",
                    "delta": { "stop_reason": counters.stop_reason() },
                    "usage": counters.anthropic_usage(),
                })),
                event(&json!({ "type": "message_stop" })),
            ],
        }
    }

    /// The answer in one document.
    pub(super) fn whole(&self, at: SystemTime, text: &str, counters: &Counters) -> Value {
        match self.form {
            Form::Chat | Form::Generate => self.native_end(at, text, counters),
            Form::OpenAiChat | Form::OpenAiCompletion => {
                let (object, choice) = if self.form == Form::OpenAiChat {
                    (
                        "chat.completion",
                        json!([{
                            "index": 0,
                            "message": { "role": "assistant", "content": text },
                            "finish_reason": counters.finish(),
                        }]),
                    )
                } else {
                    (
                        "text_completion",
                        json!([{ "text": text, "index": 0, "finish_reason": counters.finish() }]),
                    )
                };
                let mut document = self.openai(object, &choice);
                document["usage"] = counters.openai_usage();
                document
            }
            Form::Anthropic => json!({
                "id": format!("msg_{:024x}", self.id),
                "type": "message",
                "role": "assistant",
                "model": self.model,
                "content": [{ "type": "text", "text": text }],
                "stop_reason": counters.stop_reason(),
                "usage": counters.anthropic_usage(),
            }),
        }
    }
}

impl Counters {
    fn finish(&self) -> &'static str {
        if self.by_limit { "length" } else { "stop" }
    }

    fn stop_reason(&self) -> &'static str {
        if self.by_limit {
            "max_tokens"
        } else {
            "end_turn"
        }
    }

    fn openai_usage(&self) -> Value {
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.tokens,
            "total_tokens": self.prompt_tokens.saturating_add(self.tokens),
        })
    }

    fn anthropic_usage(&self) -> Value {
        json!({ "input_tokens": self.prompt_tokens, "output_tokens": self.tokens })
    }
}
