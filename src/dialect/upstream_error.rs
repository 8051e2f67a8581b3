//! Errors as servers tell them, read so that they can be told in another dialect.

use serde_json::Value;

use super::{ApiError, Dialect, ErrorKind};

/// Bytes of an error body that are read; a body beyond that is a page, not an error.
const READ_BYTES: usize = 64 * 1024;
/// Characters of a message that are told on.
const TOLD_CHARS: usize = 2000;
/// Errors are told within errors (Ollama wraps its runner's); deeper than this is no real server.
const NESTING: usize = 4;

impl ApiError {
    /// Whether a body is an error in that dialect's own form, so that it can be passed on as it is.
    pub fn speaks(dialect: Dialect, body: &[u8]) -> bool {
        let Ok(document) = serde_json::from_slice::<Value>(body) else {
            return false;
        };
        let error = &document["error"];
        match dialect {
            Dialect::Ollama => error.is_string(),
            Dialect::OpenAi => error["message"].is_string(),
            Dialect::Anthropic => document["type"] == "error" && error["message"].is_string(),
        }
    }

    /// Reads a server's error answer: Ollama's string, OpenAI's and Anthropic's objects, llama-server's
    /// `exceed_context_size_error`, FastAPI's `detail`, plain text, a page, or nothing. The status stays the server's own, except that
    /// a success status (an error inside a stream) becomes 502.
    pub fn from_upstream(status: u16, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body.get(..READ_BYTES).unwrap_or(body));
        let told = read(text.trim(), 0);
        let status = if status < 400 { 502 } else { status };
        let kind = told.kind.unwrap_or_else(|| kind_of(status));
        let message = if told.message.is_empty() {
            format!("the node answered {status} without a message")
        } else {
            told.message.chars().take(TOLD_CHARS).collect()
        };
        Self {
            status,
            kind,
            message,
            retry_after_s: None,
        }
    }
}

#[derive(Default)]
struct Told {
    message: String,
    /// When the words tell more than the status.
    kind: Option<ErrorKind>,
}

fn read(text: &str, depth: usize) -> Told {
    if text.starts_with('<') {
        return Told {
            message: "the node answered with a page, not with an API's error".to_owned(),
            kind: None,
        };
    }
    match serde_json::from_str::<Value>(text) {
        Ok(value) => read_value(&value, depth),
        Err(_) => plain(text),
    }
}

fn plain(message: &str) -> Told {
    Told {
        message: message.to_owned(),
        kind: context_too_long(message),
    }
}

fn read_value(value: &Value, depth: usize) -> Told {
    if depth >= NESTING {
        return Told::default();
    }
    match value {
        // Ollama passes its runner's error on as JSON inside a string.
        Value::String(text) if text.trim_start().starts_with('{') => read(text, depth + 1),
        Value::String(text) => plain(text),
        Value::Array(items) => items
            .first()
            .map_or_else(Told::default, |first| read_value(first, depth + 1)),
        Value::Object(fields) => {
            for key in ["error", "detail", "message", "msg"] {
                match fields.get(key) {
                    None | Some(Value::Null) => {}
                    Some(Value::String(message)) if key == "message" => {
                        return read_object(value, message);
                    }
                    Some(inner) => return read_value(inner, depth + 1),
                }
            }
            Told::default()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => plain(&value.to_string()),
    }
}

fn read_object(error: &Value, message: &str) -> Told {
    let said = |key: &str, word: &str| error.get(key).and_then(Value::as_str) == Some(word);
    let count = |key: &str| error.get(key).and_then(Value::as_u64);
    let mut told = plain(message);
    if said("type", "exceed_context_size_error") || said("code", "context_length_exceeded") {
        let (tokens, limit) = match told.kind {
            Some(ErrorKind::ContextTooLong { tokens, limit }) => (tokens, limit),
            _ => (None, None),
        };
        told.kind = Some(ErrorKind::ContextTooLong {
            tokens: count("n_prompt_tokens").or(tokens),
            limit: count("n_ctx").or(limit),
        });
    } else if said("type", "overloaded_error") || said("type", "unavailable_error") {
        told.kind = Some(ErrorKind::Overloaded);
    }
    told
}

/// The sentences by which servers say that a prompt is too long, with their figures where they give them.
fn context_too_long(message: &str) -> Option<ErrorKind> {
    let (tokens, limit) = if message.contains("exceeds the available context size") {
        // llama-server: request (18015 tokens) exceeds the available context size (2048 tokens)
        (
            number_after(message, "request ("),
            number_after(message, "context size ("),
        )
    } else if message.contains("maximum context length is") {
        // OpenAI, vLLM, llama-cpp-python: … maximum context length is 2048 tokens. However, you requested 18027 tokens
        (
            number_after(message, "you requested ")
                .or_else(|| number_after(message, "resulted in ")),
            number_after(message, "maximum context length is "),
        )
    } else if message.contains("prompt is too long") {
        // Anthropic: prompt is too long: 18015 tokens > 2048 maximum
        (
            number_after(message, "too long: "),
            number_after(message, "tokens > "),
        )
    } else if message.contains("exceeds the context length") {
        // Ollama's embed
        (None, None)
    } else {
        return None;
    };
    Some(ErrorKind::ContextTooLong { tokens, limit })
}

fn number_after(text: &str, words: &str) -> Option<u64> {
    let (_, rest) = text.split_once(words)?;
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

fn kind_of(status: u16) -> ErrorKind {
    match status {
        401 => ErrorKind::Authentication,
        403 => ErrorKind::Permission,
        404 => ErrorKind::NotFound,
        405 => ErrorKind::WrongMethod,
        408 | 504 => ErrorKind::Timeout,
        413 => ErrorKind::TooLarge,
        415 => ErrorKind::UnsupportedMedia,
        429 => ErrorKind::RateLimit,
        400..=499 => ErrorKind::InvalidRequest,
        501 => ErrorKind::NotSupported,
        503 | 529 => ErrorKind::Overloaded,
        _ => ErrorKind::Upstream,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Dialect;
    use super::super::wire_samples::body_of;
    use super::*;

    #[test]
    fn reads_the_errors_of_real_servers() {
        for (status, exchange, kind, message) in [
            (
                404,
                "ollama-0.32.15-cpu/err_unknown_model.txt",
                ErrorKind::NotFound,
                "model 'nope' not found",
            ),
            (
                404,
                "ollama-0.32.15-cpu/v1_err_unknown_model.txt",
                ErrorKind::NotFound,
                "model 'nope' not found",
            ),
            (
                503,
                "loading/while_loading.txt",
                ErrorKind::Overloaded,
                "Loading model",
            ),
            (
                401,
                "api-key-server/chat.txt",
                ErrorKind::Authentication,
                "Invalid API Key",
            ),
            (
                404,
                "llama-cpp-python-server/err_404.txt",
                ErrorKind::NotFound,
                "Not Found",
            ),
            (
                500,
                "llama-cpp-python-server/err_bad_json.txt",
                ErrorKind::Upstream,
                "Internal Server Error",
            ),
        ] {
            let error = ApiError::from_upstream(status, &body_of(exchange));
            assert_eq!(
                (error.status, error.kind, error.message.as_str()),
                (status, kind, message),
                "{exchange}"
            );
        }
    }

    #[test]
    fn a_context_that_is_too_long_keeps_its_figures_from_every_server() {
        for (exchange, tokens) in [
            ("server/err_too_long.txt", 18015),
            ("llama-cpp-python-server/err_too_long.txt", 18027),
            ("ollama-0.32.15-cpu/generate_long_no_truncate.txt", 9015),
        ] {
            let error = ApiError::from_upstream(400, &body_of(exchange));
            let expected = ErrorKind::ContextTooLong {
                tokens: Some(tokens),
                limit: Some(2048),
            };
            assert_eq!(error.kind, expected, "{exchange}");
            assert!(!error.message.contains('{'), "{}", error.message);
        }
    }

    #[test]
    fn reads_back_what_another_gpurouter_tells() {
        let error = ApiError::context_too_long(9000, 4096);
        for dialect in [Dialect::Ollama, Dialect::OpenAi, Dialect::Anthropic] {
            let read = ApiError::from_upstream(400, &error.body(dialect, "1"));
            assert_eq!(read.kind, error.kind, "{dialect:?}");
        }
    }

    #[test]
    fn nothing_a_page_and_lists_of_details_still_make_a_sentence() {
        assert_eq!(
            ApiError::from_upstream(500, b"").message,
            "the node answered 500 without a message"
        );
        assert!(
            ApiError::from_upstream(502, b"<html><body>Bad gateway")
                .message
                .contains("a page")
        );
        let detail = br#"{"detail":[{"loc":["body","model"],"msg":"field required","type":"x"}]}"#;
        assert_eq!(
            ApiError::from_upstream(422, detail).message,
            "field required"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_make_an_error(status in 0_u16..700, body in prop::collection::vec(any::<u8>(), 0..200)) {
            let error = ApiError::from_upstream(status, &body);
            prop_assert!(error.status >= 400 && !error.message.is_empty());
        }
    }
}
