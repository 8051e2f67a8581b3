//! What is asked: a prompt with its limits and the check that its answer must pass.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::measure::{Check, Class};
use crate::routing::{Complexity, classify};

/// Most prompts of a file.
const MOST_PROMPTS: usize = 10_000;
/// Longest line of a file, in bytes.
const LONGEST_LINE: usize = 4 << 20;
/// Most tokens of an answer where nobody says.
pub(super) const USUAL_TOKENS: u32 = 256;

/// A message of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// What is said.
    pub content: String,
}

/// How much text comes with the ask of a built-in prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Size {
    /// None.
    Short,
    /// About 700 tokens.
    Medium,
    /// About 2,200 tokens.
    Long,
}

/// One request.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// What it is called in saved replies.
    pub name: String,
    /// Its class.
    pub class: Class,
    /// The model that the client names; `None`: whichever the policy has.
    pub model: Option<String>,
    /// `num_ctx`, when the client sends one.
    pub ctx: Option<u32>,
    /// The conversation.
    pub messages: Vec<Message>,
    /// Most tokens of the answer.
    pub max_tokens: u32,
    /// `format` of Ollama: `"json"` or a schema.
    pub format: Option<Value>,
    /// Tools that are offered, in the form that Ollama and OpenAI share.
    pub tools: Vec<Value>,
    /// What the answer must hold.
    pub check: Option<Check>,
    /// Whether its beginning may be another request's too, as in a recorded trace; else every request begins with a word of its own.
    pub shared: bool,
    /// Tokens of the prompt, as a record or a rule of thumb has them; for estimates of time only.
    pub tokens_in: u64,
}

impl Prompt {
    /// A question of the user.
    pub(super) fn ask(name: String, class: Class, text: String, max_tokens: u32) -> Self {
        let tokens_in = tokens(&text);
        Self {
            name,
            class,
            model: None,
            ctx: None,
            messages: vec![Message {
                role: "user".to_owned(),
                content: text,
            }],
            max_tokens,
            format: None,
            tools: Vec::new(),
            check: None,
            shared: false,
            tokens_in,
        }
    }
}

/// Four characters to a token: for estimates only.
pub(super) fn tokens(text: &str) -> u64 {
    text.chars().count().div_ceil(4) as u64
}

/// The class that the router itself would see in an ask.
pub(super) fn class_of(ask: &str) -> Class {
    match classify(ask).complexity {
        Complexity::Simple => Class::Simple,
        Complexity::Moderate => Class::Moderate,
        Complexity::Complex => Class::Complex,
    }
}

/// What is wrong with a file of prompts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptError {
    /// The line, from 1; 0: the whole.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for PromptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        f.write_str(&self.what)
    }
}

impl std::error::Error for PromptError {}

/// A line that is an object.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    prompt: String,
    #[serde(default)]
    system: Option<String>,
    #[serde(default)]
    class: Option<Class>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    ctx: Option<u32>,
    #[serde(default)]
    max_tokens: Option<u32>,
    #[serde(default)]
    format: Option<Value>,
    #[serde(default)]
    tools: Vec<Value>,
    #[serde(default)]
    check: Option<Check>,
}

/// Reads a file of prompts: a prompt per line, or per line an object `{"prompt", "system", "class", "model", "ctx", "max_tokens", "format",
/// "tools", "check"}` of which only `prompt` is needed. Empty lines are skipped.
///
/// # Errors
/// A line that is neither, a check that says less than it seems to, or no prompt at all.
pub fn read_prompts(text: &str) -> Result<Vec<Prompt>, PromptError> {
    let mut prompts = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let wrong = |what: String| PromptError { line, what };
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        if text.len() > LONGEST_LINE {
            return Err(wrong(format!("longer than {LONGEST_LINE} bytes")));
        }
        if prompts.len() >= MOST_PROMPTS {
            return Err(wrong(format!("more than {MOST_PROMPTS} prompts")));
        }
        let name = format!("line-{line}");
        prompts.push(if text.starts_with('{') {
            let read: Line = serde_json::from_str(text)
                .map_err(|error| wrong(format!("not a prompt: {error}")))?;
            of_line(name, read).map_err(wrong)?
        } else {
            Prompt::ask(name, class_of(text), text.to_owned(), USUAL_TOKENS)
        });
    }
    if prompts.is_empty() {
        return Err(PromptError {
            line: 0,
            what: "it holds no prompt".to_owned(),
        });
    }
    Ok(prompts)
}

fn of_line(name: String, line: Line) -> Result<Prompt, String> {
    if let Some(check) = &line.check {
        check.valid()?;
    }
    let max_tokens = line.max_tokens.unwrap_or(USUAL_TOKENS);
    if max_tokens == 0 || line.ctx == Some(0) || line.prompt.trim().is_empty() {
        return Err("`prompt` is a text, `max_tokens` and `ctx` are above 0".to_owned());
    }
    let class = line.class.unwrap_or_else(|| class_of(&line.prompt));
    let mut prompt = Prompt::ask(name, class, line.prompt, max_tokens);
    if let Some(system) = line.system {
        prompt.tokens_in += tokens(&system);
        prompt.messages.insert(
            0,
            Message {
                role: "system".to_owned(),
                content: system,
            },
        );
    }
    Ok(Prompt {
        model: line.model,
        ctx: line.ctx,
        format: line.format,
        tools: line.tools,
        check: line.check,
        ..prompt
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_prompt_or_an_object() {
        let prompts = read_prompts(
            "Write a docstring\n\n{\"prompt\":\"Design a queue\",\"class\":\"COMPLEX\",\"system\":\"s\",\"model\":\"m\",\"max_tokens\":9,\"check\":{\"needle\":[\"x\"]}}\n",
        )
        .unwrap();
        assert_eq!(prompts.len(), 2);
        assert_eq!(prompts[0].class, Class::Simple);
        assert_eq!(
            (prompts[0].max_tokens, prompts[0].messages.len()),
            (USUAL_TOKENS, 1)
        );
        assert_eq!(prompts[1].class, Class::Complex);
        assert_eq!(prompts[1].messages[0].role, "system");
        assert_eq!(prompts[1].model.as_deref(), Some("m"));
        assert_eq!(prompts[1].check, Some(Check::Needle(vec!["x".to_owned()])));
    }

    #[test]
    fn errors_name_the_line() {
        let of = |text: &str| read_prompts(text).unwrap_err().to_string();
        assert_eq!(of("\n"), "it holds no prompt");
        assert!(of("a\n{\"prompt\":1}").starts_with("line 2: not a prompt: "));
        assert!(of("{\"prompt\":\"a\",\"more\":1}").contains("unknown field `more`"));
        assert!(of("{\"prompt\":\"a\",\"max_tokens\":0}").contains("above 0"));
        assert!(
            of("{\"prompt\":\"a\",\"check\":{\"schema\":{\"pattern\":\"a\"}}}")
                .contains("`pattern` is not known")
        );
    }
}
