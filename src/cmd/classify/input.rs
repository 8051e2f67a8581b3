//! What is to be classified, from arguments, stdin or files.

use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::path::Path;

use serde_json::Value;

use crate::render::Told;
use crate::routing::{Turn, TurnRole, shape_ask};

/// Most bytes of one prompt, one file or one line: the default limit of a request body.
const LIMIT: u64 = 64 * 1024 * 1024;

/// A request to classify.
pub(super) struct Input {
    /// The ask in it.
    pub ask: String,
    /// Every text that the model would read.
    pub texts: Vec<String>,
}

impl Input {
    /// A bare prompt.
    pub(super) fn prompt(prompt: &str) -> Self {
        let turn = Turn {
            role: TurnRole::User,
            text: prompt.to_owned(),
        };
        Self {
            ask: shape_ask(&[turn]),
            texts: vec![prompt.to_owned()],
        }
    }
}

/// Text from bytes, or which byte is none.
fn text(bytes: Vec<u8>, whence: &str) -> anyhow::Result<String> {
    if u64::try_from(bytes.len()).is_ok_and(|length| length > LIMIT) {
        return Err(Told::usage(format!("{whence}: larger than 64 MiB")).into());
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Told::usage(format!("{whence}: not UTF-8 text (byte {at})"))
            .hint("convert it first, for example with iconv -t UTF-8")
            .into()
    })
}

/// All of stdin.
pub(super) fn stdin(quiet: bool) -> anyhow::Result<String> {
    let stdin = io::stdin();
    if stdin.is_terminal() && !quiet {
        writeln!(
            io::stderr(),
            "note: reading the prompt from stdin until end of file (Ctrl-D)"
        )?;
    }
    let mut bytes = Vec::new();
    stdin.lock().take(LIMIT + 1).read_to_end(&mut bytes)?;
    text(bytes, "stdin")
}

/// A whole text file.
pub(super) fn file(path: &Path) -> anyhow::Result<String> {
    let whence = path.display().to_string();
    let unreadable = |error: io::Error| Told::usage(format!("{whence}: cannot be read: {error}"));
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LIMIT + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(error).hint("check the path and its permissions"))?;
    text(bytes, &whence)
}

/// The lines of a stream that are not blank.
pub(super) struct Lines<R> {
    reader: R,
    number: usize,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(reader: R) -> Self {
        Self { reader, number: 0 }
    }

    /// The next line that is not blank; `None` at the end.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<String>> {
        loop {
            let mut bytes = Vec::new();
            let read = (&mut self.reader)
                .take(LIMIT + 1)
                .read_until(b'\n', &mut bytes)?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            let line = text(bytes, &format!("stdin, line {}", self.number))?;
            if !line.trim().is_empty() {
                return Ok(Some(line.trim_end_matches(['\n', '\r']).to_owned()));
            }
        }
    }
}

/// The ask and the texts of a chat request body of any dialect.
pub(super) fn messages(path: &Path) -> anyhow::Result<Input> {
    let body = file(path)?;
    let whence = path.display();
    let body: Value = serde_json::from_str(&body)
        .map_err(|error| Told::usage(format!("{whence}: not JSON: {error}")))?;
    let turns = turns(&body);
    if turns.iter().all(|turn| turn.text.trim().is_empty()) {
        return Err(Told::usage(format!("{whence}: no messages with text"))
            .hint("expected the body of a chat request: {\"messages\": [{\"role\": \"user\", \"content\": \"…\"}]}")
            .into());
    }
    let tools = body.get("tools").map(Value::to_string);
    Ok(Input {
        ask: shape_ask(&turns),
        texts: turns
            .into_iter()
            .map(|turn| turn.text)
            .chain(tools)
            .collect(),
    })
}

/// The turns of a body: `messages`, `input` or `prompt`, after `system` or `instructions`.
fn turns(body: &Value) -> Vec<Turn> {
    let mut turns = Vec::new();
    for key in ["system", "instructions"] {
        if let Some(content) = body.get(key) {
            turns.push(turn(TurnRole::System, content));
        }
    }
    for key in ["messages", "input", "prompt"] {
        match body.get(key) {
            Some(Value::Array(items)) => turns.extend(items.iter().map(|item| match item {
                Value::Object(message) => {
                    let role = match message.get("role").and_then(Value::as_str) {
                        Some("system" | "developer") => TurnRole::System,
                        Some("assistant") => TurnRole::Assistant,
                        Some("tool" | "function") | None => TurnRole::Tool,
                        Some(_) => TurnRole::User,
                    };
                    let content = message.get("content").or_else(|| message.get("output"));
                    turn(role, content.unwrap_or(&Value::Null))
                }
                other => turn(TurnRole::User, other),
            })),
            Some(content) => turns.push(turn(TurnRole::User, content)),
            None => {}
        }
    }
    turns
}

/// A turn from a string or from parts; parts without a text of their own (images, tool results) are left out.
fn turn(role: TurnRole, content: &Value) -> Turn {
    let text = match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts
            .iter()
            .filter_map(|part| part.get("text").and_then(Value::as_str))
            .collect::<Vec<_>>()
            .join("\n"),
        _ => String::new(),
    };
    Turn { role, text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ask(body: &Value) -> String {
        shape_ask(&turns(body))
    }

    #[test]
    fn every_dialect_has_its_last_human_turn_found() {
        for body in [
            json!({"messages": [{"role": "system", "content": "Design"}, {"role": "user", "content": "Rename x"}]}),
            json!({"messages": [{"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "Rename x"}]}]}),
            json!({"system": [{"type": "text", "text": "Design"}], "messages": [
                {"role": "user", "content": "Rename x"},
                {"role": "assistant", "content": [{"type": "tool_use", "name": "ls", "input": {}}]},
                {"role": "user", "content": [{"type": "tool_result", "content": "build"}]},
            ]}),
            json!({"instructions": "Design", "input": "Rename x"}),
            json!({"input": [{"role": "user", "content": [{"type": "input_text", "text": "Rename x"}]}, {"type": "function_call_output", "output": "build"}]}),
            json!({"model": "m", "prompt": "Rename x", "system": "Design"}),
        ] {
            assert_eq!(ask(&body), "Rename x", "{body}");
        }
    }

    #[test]
    fn a_body_of_another_shape_has_no_turns_with_text() {
        for body in [
            json!(null),
            json!([1]),
            json!({"messages": 5}),
            json!({"messages": [null, {}]}),
        ] {
            assert_eq!(ask(&body), "", "{body}");
        }
    }

    #[test]
    fn lines_are_counted_and_blank_ones_skipped() {
        let mut lines = Lines::new(&b"one\r\n\n  \ntwo\n\xff\n"[..]);
        assert_eq!(lines.next().unwrap().as_deref(), Some("one"));
        assert_eq!(lines.next().unwrap().as_deref(), Some("two"));
        let error = lines.next().unwrap_err().to_string();
        assert!(
            error.contains("line 5") && error.contains("UTF-8"),
            "{error}"
        );
        assert_eq!(lines.next().unwrap(), None);
    }
}
