//! The body of a request in the form that its server speaks.

use serde_json::{Value, json};

use super::prompt::Prompt;

/// What a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `/api/chat`.
    Ollama,
    /// `/v1/chat/completions`.
    OpenAi,
}

impl Form {
    /// Where requests go.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Ollama => "/api/chat",
            Self::OpenAi => "/v1/chat/completions",
        }
    }
}

/// What all requests of a run have in common.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Fixed<'a> {
    pub(super) model: &'a str,
    pub(super) seed: u64,
    /// Layers on the GPU; 0: none.
    pub(super) num_gpu: Option<u32>,
    /// The word at the head of the prompt that tells this pass from the others.
    pub(super) pass: &'a str,
}

/// A streamed request: temperature 0, the seed, the limit of tokens.
pub(super) fn body(form: Form, prompt: &Prompt, fixed: Fixed<'_>) -> Vec<u8> {
    let messages = messages(prompt, fixed.pass);
    let mut body = match form {
        Form::Ollama => {
            let mut options = json!({
                "temperature": 0, "seed": fixed.seed, "num_predict": prompt.max_tokens,
            });
            if let Some(ctx) = prompt.ctx {
                options["num_ctx"] = ctx.into();
            }
            if let Some(layers) = fixed.num_gpu {
                options["num_gpu"] = layers.into();
            }
            json!({ "model": fixed.model, "messages": messages, "stream": true, "options": options })
        }
        Form::OpenAi => json!({
            "model": fixed.model, "messages": messages, "stream": true,
            "stream_options": { "include_usage": true },
            "temperature": 0, "seed": fixed.seed, "max_tokens": prompt.max_tokens,
        }),
    };
    if !prompt.tools.is_empty() {
        body["tools"] = Value::Array(prompt.tools.clone());
    }
    match (form, &prompt.format) {
        (Form::Ollama, Some(format)) => body["format"] = format.clone(),
        (Form::OpenAi, Some(Value::String(_))) => {
            body["response_format"] = json!({ "type": "json_object" });
        }
        (Form::OpenAi, Some(schema)) => {
            body["response_format"] = json!({
                "type": "json_schema", "json_schema": { "name": "answer", "schema": schema },
            });
        }
        (_, None) => {}
    }
    body.to_string().into_bytes()
}

/// The conversation with the pass's word at its very head, so that no node has read this beginning for anybody else.
fn messages(prompt: &Prompt, pass: &str) -> Vec<Value> {
    let mut messages = Vec::with_capacity(prompt.messages.len() + 1);
    let mut rest = prompt.messages.as_slice();
    let head = format!("Reference {pass}.");
    match rest.split_first() {
        Some((first, others)) if first.role == "system" => {
            messages
                .push(json!({ "role": "system", "content": format!("{head} {}", first.content) }));
            rest = others;
        }
        _ => messages.push(json!({ "role": "system", "content": head })),
    }
    messages.extend(
        rest.iter()
            .map(|message| json!({ "role": message.role, "content": message.content })),
    );
    messages
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Class;

    #[test]
    fn both_forms_ask_the_same() {
        let prompt = Prompt {
            ctx: Some(2048),
            format: Some(json!("json")),
            ..Prompt::ask("p".to_owned(), Class::Simple, "hello".to_owned(), 9)
        };
        let fixed = Fixed {
            model: "m",
            seed: 3,
            num_gpu: Some(0),
            pass: "babebibo",
        };
        let read = |form| -> Value { serde_json::from_slice(&body(form, &prompt, fixed)).unwrap() };
        let (ollama, openai) = (read(Form::Ollama), read(Form::OpenAi));
        assert_eq!(ollama["messages"], openai["messages"]);
        assert_eq!(ollama["messages"][0]["content"], "Reference babebibo.");
        assert_eq!(
            ollama["options"],
            json!({"temperature": 0, "seed": 3, "num_predict": 9, "num_ctx": 2048, "num_gpu": 0})
        );
        assert_eq!(
            (
                &openai["temperature"],
                &openai["seed"],
                &openai["max_tokens"]
            ),
            (&json!(0), &json!(3), &json!(9))
        );
        assert_eq!(ollama["format"], "json");
        assert_eq!(openai["response_format"]["type"], "json_object");
    }
}
