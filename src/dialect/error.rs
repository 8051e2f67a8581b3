//! Errors in the client's own dialect: as an answer's body, and inside a stream that has already begun.

use std::fmt;

use serde_json::{Value, json};

use super::{Dialect, Endpoint};

/// What went wrong, independent of any dialect's word for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request is not one that can be answered.
    InvalidRequest,
    /// No key, or a wrong one.
    Authentication,
    /// Known, but not allowed.
    Permission,
    /// The model, or another thing that was named, does not exist.
    NotFound,
    /// The path names nothing.
    NoRoute,
    /// The path has no such method.
    WrongMethod,
    /// The body is larger than the limit.
    TooLarge,
    /// The body's encoding or type is not one that can be read.
    UnsupportedMedia,
    /// Too many requests of this client.
    RateLimit,
    /// No node has room now; the same request may succeed later.
    Overloaded,
    /// The prompt is longer than every window. Both figures in tokens; `None` when a node did not tell them.
    ContextTooLong {
        /// Tokens of the request.
        tokens: Option<u64>,
        /// Tokens that fit.
        limit: Option<u64>,
    },
    /// A node failed or could not be reached.
    Upstream,
    /// A node did not answer in time.
    Timeout,
    /// The node or this router cannot do that.
    NotSupported,
    /// A fault of this router.
    Internal,
}

impl ErrorKind {
    /// The status that goes with it.
    pub fn status(self) -> u16 {
        match self {
            Self::InvalidRequest | Self::ContextTooLong { .. } => 400,
            Self::Authentication => 401,
            Self::Permission => 403,
            Self::NotFound | Self::NoRoute => 404,
            Self::WrongMethod => 405,
            Self::TooLarge => 413,
            Self::UnsupportedMedia => 415,
            Self::RateLimit => 429,
            Self::Overloaded => 503,
            Self::Upstream => 502,
            Self::Timeout => 504,
            Self::NotSupported => 501,
            Self::Internal => 500,
        }
    }

    /// OpenAI's `type`, in the words that Ollama's OpenAI form uses.
    fn openai_type(self) -> &'static str {
        match self {
            Self::Authentication => "authentication_error",
            Self::Permission => "permission_error",
            Self::NotFound | Self::NoRoute => "not_found_error",
            Self::RateLimit => "rate_limit_error",
            _ if self.status() < 500 => "invalid_request_error",
            _ => "api_error",
        }
    }

    fn openai_code(self) -> Value {
        match self {
            Self::ContextTooLong { .. } => json!("context_length_exceeded"),
            _ => Value::Null,
        }
    }

    fn anthropic_type(self) -> &'static str {
        match self {
            Self::TooLarge => "request_too_large",
            Self::Overloaded => "overloaded_error",
            _ => self.openai_type(),
        }
    }
}

/// An error to be told to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status, where the head has not been sent yet.
    pub status: u16,
    /// What went wrong.
    pub kind: ErrorKind,
    /// The sentence for a person; without secrets, since it is also logged.
    pub message: String,
    /// Seconds after which a retry makes sense, for `Retry-After`.
    pub retry_after_s: Option<u32>,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.status)
    }
}

impl std::error::Error for ApiError {}

impl ApiError {
    /// An error with the status of its kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            status: kind.status(),
            kind,
            message: message.into(),
            retry_after_s: None,
        }
    }

    /// 400: the request cannot be answered.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidRequest, message)
    }

    /// 400: no model was named.
    pub fn model_required() -> Self {
        Self::invalid("model is required")
    }

    /// 404: no node has the model, in Ollama's words; `nearest` is a name that would be found.
    pub fn model_not_found(model: &str, nearest: Option<&str>) -> Self {
        let hint = nearest.map_or_else(String::new, |near| format!(", did you mean '{near}'?"));
        Self::new(
            ErrorKind::NotFound,
            format!("model '{model}' not found{hint}"),
        )
    }

    /// 404: the path names nothing.
    pub fn no_route() -> Self {
        Self::new(ErrorKind::NoRoute, "404 page not found")
    }

    /// 405: the path has no such method.
    pub fn wrong_method() -> Self {
        Self::new(ErrorKind::WrongMethod, "405 method not allowed")
    }

    /// 400: the prompt is longer than every window, in tokens.
    pub fn context_too_long(tokens: u64, limit: u64) -> Self {
        Self::new(
            ErrorKind::ContextTooLong {
                tokens: Some(tokens),
                limit: Some(limit),
            },
            format!(
                "request ({tokens} tokens) exceeds the available context size ({limit} tokens)"
            ),
        )
    }

    /// Ollama's router tells these two as text, whatever the body; everything else everywhere is JSON, because clients parse it first
    /// and look at the status later.
    fn is_plain_text(&self, dialect: Dialect) -> bool {
        dialect == Dialect::Ollama
            && matches!(self.kind, ErrorKind::NoRoute | ErrorKind::WrongMethod)
    }

    /// The `Content-Type` of [`Self::body`].
    pub fn content_type(&self, dialect: Dialect) -> &'static str {
        if self.is_plain_text(dialect) {
            "text/plain"
        } else if dialect == Dialect::Ollama {
            "application/json; charset=utf-8"
        } else {
            "application/json"
        }
    }

    /// The body of an error answer. `request_id` is told in Anthropic's form only, which has a place for it.
    pub fn body(&self, dialect: Dialect, request_id: &str) -> Vec<u8> {
        if self.is_plain_text(dialect) {
            return self.message.clone().into_bytes();
        }
        self.document(dialect, request_id).to_string().into_bytes()
    }

    /// The error inside a stream of that operation that has already begun. It ends the stream; what closes a stream of that form
    /// (`[DONE]`, the last typed event) is part of it. It starts a line: where part of a line or event has been sent, that must be
    /// ended first ([`super::End::NoTerminal`]).
    pub fn in_band(&self, endpoint: &Endpoint, request_id: &str) -> Vec<u8> {
        let document = self.document(endpoint.dialect(), request_id);
        let text = match (endpoint, endpoint.dialect()) {
            (Endpoint::Responses, _) => self.responses_events(&document, request_id),
            (_, Dialect::Ollama) => format!("{document}\n"),
            (_, Dialect::OpenAi) => format!("data: {document}\n\ndata: [DONE]\n\n"),
            (_, Dialect::Anthropic) => format!("event: error\ndata: {document}\n\n"),
        };
        text.into_bytes()
    }

    fn document(&self, dialect: Dialect, request_id: &str) -> Value {
        let message = self.message_in(dialect);
        match dialect {
            Dialect::Ollama => json!({ "error": message }),
            Dialect::OpenAi => json!({ "error": {
                "message": message,
                "type": self.kind.openai_type(),
                "param": null,
                "code": self.kind.openai_code(),
            }}),
            Dialect::Anthropic => json!({
                "type": "error",
                "error": { "type": self.kind.anthropic_type(), "message": message },
                "request_id": prefixed("req_", request_id),
            }),
        }
    }

    /// The words that agents look for when a prompt is too long are fixed by each dialect; other messages are the same everywhere.
    fn message_in(&self, dialect: Dialect) -> String {
        let ErrorKind::ContextTooLong {
            tokens: Some(tokens),
            limit: Some(limit),
        } = self.kind
        else {
            return self.message.clone();
        };
        match dialect {
            Dialect::Ollama => self.message.clone(),
            Dialect::OpenAi => format!(
                "This model's maximum context length is {limit} tokens. However, your messages resulted in {tokens} tokens."
            ),
            Dialect::Anthropic => format!("prompt is too long: {tokens} tokens > {limit} maximum"),
        }
    }

    /// OpenAI's SDKs raise on an event that holds an `error` object, other clients (Codex) wait for `response.failed`.
    fn responses_events(&self, document: &Value, request_id: &str) -> String {
        let error = &document["error"];
        let code = match self.kind.openai_code() {
            Value::Null => error["type"].clone(),
            code => code,
        };
        let event = json!({
            "type": "error",
            "code": code,
            "message": error["message"],
            "param": null,
            "error": error,
        });
        let failed = json!({
            "type": "response.failed",
            "response": {
                "id": prefixed("resp_", request_id),
                "object": "response",
                "status": "failed",
                "error": { "code": code, "message": error["message"] },
                "output": [],
            },
        });
        format!("event: error\ndata: {event}\n\nevent: response.failed\ndata: {failed}\n\n")
    }
}

fn prefixed(prefix: &str, id: &str) -> String {
    if id.starts_with(prefix) {
        id.to_owned()
    } else {
        format!("{prefix}{id}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(error: &ApiError, dialect: Dialect) -> String {
        String::from_utf8(error.body(dialect, "7f")).unwrap()
    }

    #[test]
    fn each_dialect_has_its_own_shape() {
        let error = ApiError::model_not_found("nope", None);
        assert_eq!(
            told(&error, Dialect::Ollama),
            r#"{"error":"model 'nope' not found"}"#
        );
        assert_eq!(
            told(&error, Dialect::OpenAi),
            r#"{"error":{"message":"model 'nope' not found","type":"not_found_error","param":null,"code":null}}"#
        );
        assert_eq!(
            told(&error, Dialect::Anthropic),
            r#"{"type":"error","error":{"type":"not_found_error","message":"model 'nope' not found"},"request_id":"req_7f"}"#
        );
        assert_eq!(error.status, 404);
    }

    #[test]
    fn anthropic_types_follow_the_status() {
        for (kind, word) in [
            (ErrorKind::InvalidRequest, "invalid_request_error"),
            (ErrorKind::Authentication, "authentication_error"),
            (ErrorKind::Permission, "permission_error"),
            (ErrorKind::NotFound, "not_found_error"),
            (ErrorKind::RateLimit, "rate_limit_error"),
            (ErrorKind::Overloaded, "overloaded_error"),
            (ErrorKind::Upstream, "api_error"),
            (ErrorKind::TooLarge, "request_too_large"),
        ] {
            assert_eq!(kind.anthropic_type(), word);
        }
    }

    #[test]
    fn a_prompt_that_is_too_long_is_recognisable_in_every_dialect() {
        let error = ApiError::context_too_long(18015, 2048);
        assert!(told(&error, Dialect::OpenAi).contains(r#""code":"context_length_exceeded""#));
        assert!(
            told(&error, Dialect::Anthropic)
                .contains("prompt is too long: 18015 tokens > 2048 maximum")
        );
        let ollama = told(&error, Dialect::Ollama);
        assert!(
            ollama.contains("18015") && ollama.contains("2048"),
            "{ollama}"
        );
    }

    #[test]
    fn unknown_paths_are_text_for_ollama_and_json_for_the_others() {
        let error = ApiError::no_route();
        assert_eq!(told(&error, Dialect::Ollama), "404 page not found");
        assert_eq!(error.content_type(Dialect::Ollama), "text/plain");
        assert!(told(&error, Dialect::OpenAi).starts_with("{\"error\":{"));
        assert_eq!(error.content_type(Dialect::OpenAi), "application/json");
    }

    #[test]
    fn an_error_in_a_stream_ends_it_in_the_streams_own_form() {
        let error = ApiError::new(ErrorKind::Upstream, "the node died");
        let told = |endpoint| String::from_utf8(error.in_band(&endpoint, "7f")).unwrap();
        assert_eq!(told(Endpoint::Chat), "{\"error\":\"the node died\"}\n");
        let openai = told(Endpoint::ChatCompletions);
        assert!(openai.starts_with("data: {\"error\":{\"message\":\"the node died\""));
        assert!(openai.ends_with("\n\ndata: [DONE]\n\n"));
        let anthropic = told(Endpoint::Messages);
        assert!(anthropic.starts_with("event: error\ndata: {\"type\":\"error\","));
        assert!(!anthropic.contains("[DONE]"));
        let responses = told(Endpoint::Responses);
        assert!(responses.starts_with("event: error\ndata: {\"type\":\"error\","));
        assert!(responses.contains("event: response.failed\ndata: {\"type\":\"response.failed\","));
    }
}
