//! A streamed answer, read line by line: when its first token came, what it said, how it ended.

use serde_json::Value;

use super::body::Form;
use crate::dialect::{Usage, usage_of_json};
use crate::measure::{Reply, ToolCall};

/// Longest line that is waited for.
const LONGEST_LINE: usize = 8 << 20;
/// Most text that is kept of an answer.
const LONGEST_TEXT: usize = 8 << 20;
/// Most calls that are kept of an answer.
const MOST_CALLS: usize = 256;

/// What has come of an answer.
#[derive(Debug, Default)]
pub struct Answer {
    /// What it said, thoughts left out.
    pub reply: Reply,
    /// What it thought.
    pub thoughts: String,
    /// Tokens and times as the server counts them.
    pub usage: Usage,
    /// Its end was told.
    pub ended: bool,
    /// What went wrong, in the server's words.
    pub error: Option<String>,
    /// The beginning of a line whose end has not come.
    held: Vec<u8>,
    /// Arguments of calls that come in parts, by their index.
    parts: Vec<(String, String)>,
}

impl Answer {
    /// Reads a piece; returns whether it brought the first or a further token.
    pub fn push(&mut self, form: Form, piece: &[u8]) -> bool {
        let mut brought = false;
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.held.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.held);
                brought |= self.line(form, line.trim_ascii());
            } else if self.held.len() > LONGEST_LINE {
                self.error = Some("a line of the answer is too long".to_owned());
                self.held.clear();
            }
        }
        brought
    }

    /// Reads what came after the last line end, and puts together the calls that came in parts.
    pub fn close(&mut self, form: Form) {
        let line = std::mem::take(&mut self.held);
        self.line(form, line.trim_ascii());
        for (name, arguments) in std::mem::take(&mut self.parts) {
            let arguments = serde_json::from_str(&arguments).unwrap_or(Value::String(arguments));
            self.reply.calls.push(ToolCall { name, arguments });
        }
    }

    fn line(&mut self, form: Form, line: &[u8]) -> bool {
        let line = match form {
            Form::Ollama => line,
            Form::OpenAi => {
                let Some(data) = line.strip_prefix(b"data:") else {
                    return false;
                };
                data.trim_ascii()
            }
        };
        if line == b"[DONE]" {
            self.ended = true;
            return false;
        }
        if line.is_empty() {
            return false;
        }
        let Ok(event) = serde_json::from_slice::<Value>(line) else {
            self.error = Some("the answer holds a line that is not JSON".to_owned());
            return false;
        };
        if let Some(usage) = usage_of_json(line) {
            self.usage.update(usage);
        }
        if let Some(error) = event.get("error").filter(|error| !error.is_null()) {
            let text = error
                .as_str()
                .or_else(|| error.get("message").and_then(Value::as_str));
            self.error = Some(text.map_or_else(|| error.to_string(), str::to_owned));
            return false;
        }
        match form {
            Form::Ollama => {
                self.ended |= event.get("done") == Some(&Value::Bool(true));
                self.message(event.get("message").unwrap_or(&Value::Null))
            }
            Form::OpenAi => {
                let choice = event.pointer("/choices/0").unwrap_or(&Value::Null);
                // A server that never says `[DONE]` has told its end all the same.
                self.ended |= choice.get("finish_reason").is_some_and(Value::is_string);
                self.message(choice.get("delta").unwrap_or(&Value::Null))
            }
        }
    }

    fn message(&mut self, message: &Value) -> bool {
        let text = |key: &str| message.get(key).and_then(Value::as_str).unwrap_or_default();
        let said = text("content");
        let thought = [
            text("thinking"),
            text("reasoning_content"),
            text("reasoning"),
        ];
        if self.reply.text.len() < LONGEST_TEXT {
            self.reply.text.push_str(said);
        }
        let mut brought = !said.is_empty();
        for thought in thought {
            brought |= !thought.is_empty();
            if self.thoughts.len() < LONGEST_TEXT {
                self.thoughts.push_str(thought);
            }
        }
        let calls = message.get("tool_calls").and_then(Value::as_array);
        for call in calls.into_iter().flatten() {
            brought = true;
            self.call(call);
        }
        brought
    }

    /// A call: whole with an object as arguments (Ollama), or in parts with a text (OpenAI).
    fn call(&mut self, call: &Value) {
        let function = call.get("function").unwrap_or(&Value::Null);
        let name = function
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        match function.get("arguments") {
            Some(Value::String(part)) => self.part(call, name, part),
            Some(arguments) if self.reply.calls.len() < MOST_CALLS => {
                self.reply.calls.push(ToolCall {
                    name: name.to_owned(),
                    arguments: arguments.clone(),
                });
            }
            Some(_) => {}
            None => self.part(call, name, ""),
        }
    }

    fn part(&mut self, call: &Value, name: &str, arguments: &str) {
        let index = call
            .get("index")
            .and_then(Value::as_u64)
            .and_then(|index| usize::try_from(index).ok());
        let index = index.unwrap_or(self.parts.len()).min(MOST_CALLS);
        while self.parts.len() <= index {
            self.parts.push(Default::default());
        }
        if let Some((whose, so_far)) = self.parts.get_mut(index) {
            whose.push_str(name);
            so_far.push_str(arguments);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ollamas_lines_are_read_however_they_are_cut() {
        let stream = b"{\"message\":{\"content\":\"\"},\"done\":false}\n{\"message\":{\"content\":\"Hel\"},\"done\":false}\n{\"message\":{\"content\":\"lo\",\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1}}}]},\"done\":false}\n{\"message\":{\"content\":\"\"},\"done\":true,\"prompt_eval_count\":7,\"eval_count\":2,\"load_duration\":5000000}\n";
        for size in [1, 7, 4096] {
            let mut answer = Answer::default();
            let brought: Vec<bool> = stream
                .chunks(size)
                .map(|piece| answer.push(Form::Ollama, piece))
                .collect();
            answer.close(Form::Ollama);
            assert!(brought.contains(&true));
            assert_eq!(answer.reply.text, "Hello");
            assert_eq!(
                answer.reply.calls,
                [ToolCall {
                    name: "f".to_owned(),
                    arguments: json!({"a": 1})
                }]
            );
            assert!(answer.ended && answer.error.is_none());
            assert_eq!(
                (answer.usage.prompt_tokens, answer.usage.completion_tokens),
                (Some(7), Some(2))
            );
        }
    }

    #[test]
    fn openais_events_are_read_with_calls_in_parts() {
        let mut answer = Answer::default();
        let first = answer.push(
            Form::OpenAi,
            b"data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
        );
        assert!(!first);
        assert!(answer.push(
            Form::OpenAi,
            b": comment\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n"
        ));
        answer.push(Form::OpenAi, b"data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\"\"}}]}}]}\n\n");
        answer.push(Form::OpenAi, b"data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\":1}\"}}]},\"finish_reason\":\"tool_calls\"}]}\n\n");
        answer.push(Form::OpenAi, b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\ndata: [DONE]\n\n");
        answer.close(Form::OpenAi);
        assert_eq!(answer.reply.text, "Hi");
        assert_eq!(
            answer.reply.calls,
            [ToolCall {
                name: "f".to_owned(),
                arguments: json!({"a": 1})
            }]
        );
        assert!(answer.ended);
        assert_eq!(answer.usage.completion_tokens, Some(4));
    }

    #[test]
    fn errors_in_band_and_nonsense_are_told() {
        let of = |form, text: &[u8]| {
            let mut answer = Answer::default();
            answer.push(form, text);
            answer.close(form);
            (answer.error, answer.ended)
        };
        assert_eq!(
            of(Form::Ollama, b"{\"error\":\"no memory\"}\n"),
            (Some("no memory".to_owned()), false)
        );
        assert_eq!(
            of(Form::OpenAi, b"data: {\"error\":{\"message\":\"no\"}}\n\n")
                .0
                .as_deref(),
            Some("no")
        );
        assert!(of(Form::Ollama, b"garbage").0.is_some());
        assert_eq!(of(Form::Ollama, b""), (None, false));
    }
}
