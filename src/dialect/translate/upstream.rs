//! What a node's answer says, event by event or whole, independent of the form it will be told in.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::body::one_line;

/// More calls than any model makes in one answer; beyond it the answer is refused instead of growing without end.
const MAX_CALLS: usize = 256;

/// What one event adds to the answer. A whole answer is one big addition.
#[derive(Debug, Default)]
pub(super) struct Delta {
    pub(super) content: String,
    pub(super) reasoning: String,
    pub(super) calls: Vec<CallFragment>,
    /// OpenAI's list of token log probabilities, which is also Ollama's.
    pub(super) logprobs: Option<Box<RawValue>>,
}

impl Delta {
    pub(super) fn is_empty(&self) -> bool {
        self.content.is_empty()
            && self.reasoning.is_empty()
            && self.calls.is_empty()
            && self.logprobs.is_none()
    }
}

/// A part of a tool call; the first of each call carries the name.
#[derive(Debug)]
pub(super) struct CallFragment {
    /// Counts the calls of the answer from 0.
    pub(super) ordinal: usize,
    pub(super) id: String,
    pub(super) name: String,
    pub(super) arguments: String,
}

/// Token counts as the node reports them; what it does not report stays unknown.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Usage {
    pub(super) prompt: Option<u64>,
    pub(super) completion: Option<u64>,
    pub(super) cached: Option<u64>,
    pub(super) reasoning: Option<u64>,
}

/// What has been learned from the answer so far, apart from its text.
#[derive(Debug, Default)]
pub(super) struct Upstream {
    pub(super) usage: Usage,
    pub(super) finish_reason: Option<String>,
    /// The stop sequence that ended the answer, from servers that tell it (vLLM).
    pub(super) stop_sequence: Option<String>,
    /// Time spent on the prompt by llama-server's own clock, in nanoseconds.
    pub(super) prompt_ns: Option<u64>,
    /// Time spent on generating by llama-server's own clock, in nanoseconds.
    pub(super) eval_ns: Option<u64>,
    /// `[DONE]` was seen, or the answer came whole.
    pub(super) done: bool,
    /// Seed for the ids of calls that came without one.
    pub(super) id_seed: String,
    pub(super) calls: Vec<KnownCall>,
    /// The node answers in Ollama's own form.
    pub(super) ollama: bool,
}

/// A line of `/api/chat`, or its whole answer.
#[derive(Deserialize)]
struct OllamaLine<'a> {
    #[serde(borrow)]
    message: Option<OllamaMessage<'a>>,
    done: Option<bool>,
    done_reason: Option<String>,
    prompt_eval_count: Option<u64>,
    prompt_eval_duration: Option<u64>,
    eval_count: Option<u64>,
    eval_duration: Option<u64>,
    #[serde(borrow)]
    logprobs: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct OllamaMessage<'a> {
    content: Option<String>,
    thinking: Option<String>,
    #[serde(borrow)]
    tool_calls: Option<Vec<OllamaCall<'a>>>,
}

#[derive(Deserialize)]
struct OllamaCall<'a> {
    id: Option<String>,
    #[serde(borrow)]
    function: OllamaFunction<'a>,
}

#[derive(Deserialize)]
struct OllamaFunction<'a> {
    name: String,
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
}

#[derive(Debug)]
pub(super) struct KnownCall {
    index: Option<u64>,
    id: String,
    /// The id is the node's own, so another id at the same index is another call.
    id_given: bool,
}

impl Upstream {
    /// Takes the data of one stream event, or a whole answer.
    ///
    /// # Errors
    /// The node's own error message when the event is one, or why it cannot be understood.
    pub(super) fn absorb(&mut self, data: &[u8]) -> Result<Delta, String> {
        if self.ollama {
            return self.absorb_line(data);
        }
        if data.trim_ascii() == b"[DONE]" {
            self.done = true;
            return Ok(Delta::default());
        }
        let value: Value = serde_json::from_slice(data)
            .map_err(|error| format!("the node sent something that is not JSON: {error}"))?;
        self.absorb_rest(&value)?;
        let choice = value
            .get("choices")
            .and_then(Value::as_array)
            .and_then(|choices| {
                choices
                    .iter()
                    .find(|choice| number(choice, "index").unwrap_or(0) == 0)
            });
        let Some(choice) = choice else {
            return Ok(Delta::default());
        };
        if let Some(reason) = text(choice, "finish_reason") {
            self.finish_reason = Some(reason.to_owned());
        }
        if let Some(sequence) = text(choice, "stop_reason") {
            self.stop_sequence = Some(sequence.to_owned());
        }
        let mut delta = Delta::default();
        if let Some(said) = choice.get("delta").or_else(|| choice.get("message")) {
            delta.content = spoken(said.get("content"))
                .or_else(|| text(said, "refusal").map(str::to_owned))
                .unwrap_or_default();
            let thought = text(said, "reasoning_content").or_else(|| text(said, "reasoning"));
            delta.reasoning.push_str(thought.unwrap_or_default());
            for call in said
                .get("tool_calls")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                delta.calls.push(self.fragment(call)?);
            }
        } else {
            delta.content = spoken(choice.get("text")).unwrap_or_default();
        }
        if choice.get("logprobs").is_some_and(Value::is_object) {
            delta.logprobs = logprobs(data);
        }
        Ok(delta)
    }

    /// The same for a line of Ollama's.
    fn absorb_line(&mut self, data: &[u8]) -> Result<Delta, String> {
        let not_json = |error| format!("the node sent something that is not JSON: {error}");
        let line: OllamaLine<'_> = match serde_json::from_slice(data) {
            Ok(line) => line,
            Err(error) => {
                let value: Value = serde_json::from_slice(data).map_err(not_json)?;
                return Err(error_message(&value).unwrap_or_else(|| not_json(error)));
            }
        };
        if line.message.is_none() && line.done.is_none() {
            let value: Value = serde_json::from_slice(data).map_err(not_json)?;
            let told = error_message(&value);
            return Err(told.unwrap_or_else(|| "the node sent a line without a message".to_owned()));
        }
        self.usage.prompt = line.prompt_eval_count.or(self.usage.prompt);
        self.usage.completion = line.eval_count.or(self.usage.completion);
        self.prompt_ns = line.prompt_eval_duration.or(self.prompt_ns);
        self.eval_ns = line.eval_duration.or(self.eval_ns);
        let mut delta = Delta::default();
        if let Some(message) = line.message {
            delta.content = message.content.unwrap_or_default();
            delta.reasoning = message.thinking.unwrap_or_default();
            for call in message.tool_calls.into_iter().flatten() {
                delta.calls.push(self.whole_call(call)?);
            }
        }
        delta.logprobs = line
            .logprobs
            .filter(|list| list.get() != "null" && list.get() != "[]")
            .and_then(|list| RawValue::from_string(one_line(list.get())).ok());
        if line.done == Some(true) {
            self.done = true;
            let reason = line.done_reason.unwrap_or_else(|| "stop".to_owned());
            self.finish_reason = Some(if self.calls.is_empty() {
                reason
            } else {
                "tool_calls".to_owned()
            });
        }
        Ok(delta)
    }

    /// A call as Ollama tells it, in one piece.
    fn whole_call(&mut self, call: OllamaCall<'_>) -> Result<CallFragment, String> {
        let ordinal = self.calls.len();
        if ordinal == MAX_CALLS {
            return Err(format!("the model made more than {MAX_CALLS} tool calls"));
        }
        let given = call.id.filter(|id| !id.is_empty());
        let id_given = given.is_some();
        let id = given.unwrap_or_else(|| format!("call_{}_{ordinal}", self.id_seed));
        self.calls.push(KnownCall {
            index: None,
            id: id.clone(),
            id_given,
        });
        let arguments = call.function.arguments.map_or("{}", RawValue::get);
        Ok(CallFragment {
            ordinal,
            id,
            name: call.function.name,
            arguments: one_line(arguments),
        })
    }

    /// Takes what is beside the answer's text: counts and times, or an error in place of it all.
    pub(super) fn absorb_rest(&mut self, value: &Value) -> Result<(), String> {
        if let Some(message) = error_message(value) {
            return Err(message);
        }
        self.note_counts(value);
        Ok(())
    }

    fn note_counts(&mut self, value: &Value) {
        if let Some(usage) = value.get("usage").filter(|usage| usage.is_object()) {
            self.usage.prompt = number(usage, "prompt_tokens").or(self.usage.prompt);
            self.usage.completion = number(usage, "completion_tokens").or(self.usage.completion);
            let detail =
                |list: &str, name: &str| usage.get(list).and_then(|list| number(list, name));
            self.usage.cached =
                detail("prompt_tokens_details", "cached_tokens").or(self.usage.cached);
            self.usage.reasoning =
                detail("completion_tokens_details", "reasoning_tokens").or(self.usage.reasoning);
        }
        if let Some(timings) = value.get("timings").filter(|timings| timings.is_object()) {
            let nanoseconds =
                |name: &str| timings.get(name).and_then(Value::as_f64).and_then(ms_to_ns);
            self.prompt_ns = nanoseconds("prompt_ms").or(self.prompt_ns);
            self.eval_ns = nanoseconds("predicted_ms").or(self.eval_ns);
            let (cached, fresh) = (number(timings, "cache_n"), number(timings, "prompt_n"));
            self.usage.cached = self.usage.cached.or(cached);
            if self.usage.prompt.is_none() {
                self.usage.prompt = cached.zip(fresh).map(|(a, b)| a.saturating_add(b));
            }
            // Per-token timings repeat with growing counts, so a later one wins over an earlier one, but not over `usage`.
            if value.get("usage").is_none_or(Value::is_null) {
                self.usage.completion = number(timings, "predicted_n").or(self.usage.completion);
            }
        }
    }

    fn fragment(&mut self, call: &Value) -> Result<CallFragment, String> {
        let index = number(call, "index");
        let id = text(call, "id").filter(|id| !id.is_empty());
        let function = call.get("function").unwrap_or(&Value::Null);
        let known = match (index, id) {
            (_, Some(id)) => self
                .calls
                .iter()
                .position(|known| known.index == index && (!known.id_given || known.id == id)),
            (Some(_), None) => self.calls.iter().rposition(|known| known.index == index),
            (None, None) if text(function, "name").is_none_or(str::is_empty) => {
                self.calls.len().checked_sub(1)
            }
            (None, None) => None,
        };
        let ordinal = known.unwrap_or(self.calls.len());
        if known.is_none() {
            if ordinal == MAX_CALLS {
                return Err(format!("the model made more than {MAX_CALLS} tool calls"));
            }
            self.calls.push(KnownCall {
                index,
                id: id.map_or_else(|| format!("call_{}_{ordinal}", self.id_seed), str::to_owned),
                id_given: id.is_some(),
            });
        }
        Ok(CallFragment {
            ordinal,
            id: self
                .calls
                .get(ordinal)
                .map(|known| known.id.clone())
                .unwrap_or_default(),
            name: text(function, "name").unwrap_or_default().to_owned(),
            arguments: match function.get("arguments") {
                None | Some(Value::Null) => String::new(),
                Some(Value::String(text)) => text.clone(),
                // Some servers send the object itself.
                Some(other) => other.to_string(),
            },
        })
    }
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name).and_then(Value::as_str)
}

fn number(value: &Value, name: &str) -> Option<u64> {
    value.get(name).and_then(Value::as_u64)
}

/// Milliseconds as llama-server reports them, in nanoseconds; nothing for a negative or absurd figure.
fn ms_to_ns(milliseconds: f64) -> Option<u64> {
    let duration = std::time::Duration::try_from_secs_f64(milliseconds / 1000.0).ok()?;
    u64::try_from(duration.as_nanos()).ok()
}

/// Content is a string; some servers send a list of text parts.
fn spoken(content: Option<&Value>) -> Option<String> {
    match content? {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => Some(parts.iter().filter_map(|part| text(part, "text")).collect()),
        _ => None,
    }
}

/// The message of an in-band error, however it is wrapped.
fn error_message(value: &Value) -> Option<String> {
    let error = match value.get("error") {
        Some(Value::Null) | None => {
            // The value of llama-server's older `error:` field, and of `{"object":"error",…}`.
            let bare = value.get("choices").is_none() && value.get("data").is_none();
            return text(value, "message").filter(|_| bare).map(str::to_owned);
        }
        Some(error) => error,
    };
    let message = error.as_str().or_else(|| text(error, "message"));
    Some(message.map_or_else(|| error.to_string(), str::to_owned))
}

/// The log probabilities as they were written, on one line.
fn logprobs(data: &[u8]) -> Option<Box<RawValue>> {
    #[derive(Deserialize)]
    struct Event<'a> {
        #[serde(borrow)]
        choices: Vec<Choice<'a>>,
    }
    #[derive(Deserialize)]
    struct Choice<'a> {
        #[serde(borrow)]
        logprobs: Option<Logprobs<'a>>,
    }
    #[derive(Deserialize)]
    struct Logprobs<'a> {
        #[serde(borrow)]
        content: Option<&'a RawValue>,
    }
    let event: Event<'_> = serde_json::from_slice(data).ok()?;
    let raw = event.choices.first()?.logprobs.as_ref()?.content?;
    RawValue::from_string(one_line(raw.get())).ok()
}
