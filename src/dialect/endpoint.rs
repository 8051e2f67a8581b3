//! Which operation a method and a path name.

/// In whose words a request is written and its answer, errors included, must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// Ollama's own API.
    Ollama,
    /// OpenAI's API.
    OpenAi,
    /// Anthropic's API.
    Anthropic,
}

impl Dialect {
    /// The word used in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ollama => "ollama",
            Self::OpenAi => "openai",
            Self::Anthropic => "anthropic",
        }
    }

    /// The dialect in which a path is answered when it names no operation: by the prefix that clients of each API use.
    pub fn of_path(path: &str) -> Self {
        if path == "/v1/messages" || path.starts_with("/v1/messages/") {
            Self::Anthropic
        } else if path == "/v1" || path.starts_with("/v1/") {
            Self::OpenAi
        } else {
            Self::Ollama
        }
    }
}

/// How a streamed answer is framed, and how its end is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StreamForm {
    /// One JSON object per line; the last holds `"done":true` (chat, generate) or `"status":"success"` (pull, push, create).
    Ndjson,
    /// Server-sent events without names, ended by `data: [DONE]` (OpenAI's completions).
    SseDone,
    /// Server-sent events with types, ended by one of them (Anthropic's messages, OpenAI's responses).
    SseTyped,
}

impl StreamForm {
    /// The `Content-Type` of an answer in this form.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Ndjson => "application/x-ndjson",
            Self::SseDone | Self::SseTyped => "text/event-stream",
        }
    }
}

/// The operation that a method and a path name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `HEAD`/`GET /`.
    Root,
    /// `HEAD`/`GET /api/version`.
    Version,
    /// `HEAD`/`GET /api/tags`.
    Tags,
    /// `GET /api/ps`.
    Ps,
    /// `POST /api/show`.
    Show,
    /// `POST /api/chat`.
    Chat,
    /// `POST /api/generate`.
    Generate,
    /// `POST /api/embed`.
    Embed,
    /// `POST /api/embeddings` (Ollama's older form).
    LegacyEmbeddings,
    /// `POST /api/pull`.
    Pull,
    /// `POST /api/push`.
    Push,
    /// `POST /api/create`.
    Create,
    /// `POST /api/copy`.
    Copy,
    /// `DELETE /api/delete`.
    Delete,
    /// `HEAD`/`POST /api/blobs/:digest`; holds the digest.
    Blob(String),
    /// `GET /v1/models`.
    Models,
    /// `GET /v1/models/:id`; holds the decoded id.
    Model(String),
    /// `POST /v1/chat/completions`.
    ChatCompletions,
    /// `POST /v1/completions`.
    Completions,
    /// `POST /v1/embeddings`.
    Embeddings,
    /// `POST /v1/responses`.
    Responses,
    /// `POST /v1/audio/transcriptions`, whose body is a form ([`super::multipart_model`]).
    Transcriptions,
    /// `POST /v1/messages`.
    Messages,
    /// `POST /v1/messages/count_tokens`.
    CountTokens,
    /// A path of one of the APIs that this router has no opinion on (`/api/…`, `/v1/…`).
    Other(Dialect),
    /// A known path with a method it does not have.
    WrongMethod(Dialect),
    /// Nothing of any API.
    Unknown,
}

impl Endpoint {
    /// What a method and a path (without its query) name. Methods are compared as they are: HTTP's are upper case.
    pub fn of(method: &str, path: &str) -> Self {
        let (endpoint, methods): (Self, &[&str]) = match path {
            "/" | "" => (Self::Root, &["GET", "HEAD"]),
            "/api/version" => (Self::Version, &["GET", "HEAD"]),
            "/api/tags" => (Self::Tags, &["GET", "HEAD"]),
            "/api/ps" => (Self::Ps, &["GET", "HEAD"]),
            "/api/show" => (Self::Show, &["POST"]),
            "/api/chat" => (Self::Chat, &["POST"]),
            "/api/generate" => (Self::Generate, &["POST"]),
            "/api/embed" => (Self::Embed, &["POST"]),
            "/api/embeddings" => (Self::LegacyEmbeddings, &["POST"]),
            "/api/pull" => (Self::Pull, &["POST"]),
            "/api/push" => (Self::Push, &["POST"]),
            "/api/create" => (Self::Create, &["POST"]),
            "/api/copy" => (Self::Copy, &["POST"]),
            "/api/delete" => (Self::Delete, &["DELETE"]),
            "/v1/models" => (Self::Models, &["GET", "HEAD"]),
            "/v1/chat/completions" => (Self::ChatCompletions, &["POST"]),
            "/v1/completions" => (Self::Completions, &["POST"]),
            "/v1/embeddings" => (Self::Embeddings, &["POST"]),
            "/v1/responses" => (Self::Responses, &["POST"]),
            "/v1/audio/transcriptions" => (Self::Transcriptions, &["POST"]),
            "/v1/messages" => (Self::Messages, &["POST"]),
            "/v1/messages/count_tokens" => (Self::CountTokens, &["POST"]),
            _ => match Self::with_id(path) {
                Some(found) => found,
                None => return Self::unnamed(path),
            },
        };
        if methods.contains(&method) {
            endpoint
        } else {
            Self::WrongMethod(endpoint.dialect())
        }
    }

    fn with_id(path: &str) -> Option<(Self, &'static [&'static str])> {
        let rest = |prefix| path.strip_prefix(prefix).filter(|id: &&str| !id.is_empty());
        if let Some(digest) = rest("/api/blobs/") {
            Some((Self::Blob(percent_decoded(digest)), &["HEAD", "POST"]))
        } else {
            rest("/v1/models/").map(|id| {
                let methods: &'static [&'static str] = &["GET", "HEAD"];
                (Self::Model(percent_decoded(id)), methods)
            })
        }
    }

    fn unnamed(path: &str) -> Self {
        if path.starts_with("/api/") || path.starts_with("/v1/") {
            Self::Other(Dialect::of_path(path))
        } else {
            Self::Unknown
        }
    }

    /// In whose words its answers and errors are.
    pub fn dialect(&self) -> Dialect {
        match self {
            Self::Root
            | Self::Version
            | Self::Tags
            | Self::Ps
            | Self::Show
            | Self::Chat
            | Self::Generate
            | Self::Embed
            | Self::LegacyEmbeddings
            | Self::Pull
            | Self::Push
            | Self::Create
            | Self::Copy
            | Self::Delete
            | Self::Blob(_)
            | Self::Unknown => Dialect::Ollama,
            Self::Models
            | Self::Model(_)
            | Self::ChatCompletions
            | Self::Completions
            | Self::Embeddings
            | Self::Responses
            | Self::Transcriptions => Dialect::OpenAi,
            Self::Messages | Self::CountTokens => Dialect::Anthropic,
            Self::Other(dialect) | Self::WrongMethod(dialect) => *dialect,
        }
    }

    /// Whether a model answers it, so that the decision chooses the node. [`Self::CountTokens`] is not among them: most nodes
    /// cannot count, and an estimate answers it.
    pub fn routed(&self) -> bool {
        self.stream_form().is_some() && !self.changes_node()
            || matches!(
                self,
                Self::Embed | Self::LegacyEmbeddings | Self::Embeddings | Self::Transcriptions
            )
    }

    /// Whether it changes what a node stores; such requests are logged with who asked.
    pub fn changes_node(&self) -> bool {
        matches!(
            self,
            Self::Pull | Self::Push | Self::Create | Self::Copy | Self::Delete | Self::Blob(_)
        )
    }

    /// How its answer is framed when it is streamed; `None` where there is no streamed answer.
    pub fn stream_form(&self) -> Option<StreamForm> {
        match self {
            Self::Chat | Self::Generate | Self::Pull | Self::Push | Self::Create => {
                Some(StreamForm::Ndjson)
            }
            Self::ChatCompletions | Self::Completions => Some(StreamForm::SseDone),
            Self::Messages | Self::Responses => Some(StreamForm::SseTyped),
            _ => None,
        }
    }

    /// Whether it streams when the request does not say: Ollama does, the others do not.
    pub fn streams_by_default(&self) -> bool {
        self.stream_form() == Some(StreamForm::Ndjson)
    }
}

/// Percent-decoding; a sequence that is not one stays as it is.
fn percent_decoded(text: &str) -> String {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let value = match (byte, digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
            (b'%', Some(high), Some(low)) => u8::try_from(high * 16 + low).ok(),
            _ => None,
        };
        decoded.push(value.unwrap_or(byte));
        at += if value.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_operation_of_a_method_and_a_path() {
        assert_eq!(Endpoint::of("POST", "/api/chat"), Endpoint::Chat);
        assert_eq!(Endpoint::of("HEAD", "/"), Endpoint::Root);
        assert_eq!(Endpoint::of("HEAD", "/api/tags"), Endpoint::Tags);
        assert_eq!(
            Endpoint::of("POST", "/v1/messages/count_tokens"),
            Endpoint::CountTokens
        );
        assert_eq!(
            Endpoint::of("HEAD", "/api/blobs/sha256:ab"),
            Endpoint::Blob("sha256:ab".to_owned())
        );
    }

    #[test]
    fn ids_are_decoded_and_may_hold_slashes_and_colons() {
        let model = |id: &str| Endpoint::Model(id.to_owned());
        assert_eq!(
            Endpoint::of("GET", "/v1/models/me%2Ftiny%3A1b"),
            model("me/tiny:1b")
        );
        assert_eq!(
            Endpoint::of("GET", "/v1/models/me/tiny:1b"),
            model("me/tiny:1b")
        );
        assert_eq!(
            Endpoint::of("GET", "/v1/models/100%"),
            model("100%"),
            "not an escape"
        );
    }

    #[test]
    fn a_known_path_with_another_method_is_a_wrong_method_and_the_rest_is_passed_or_unknown() {
        assert_eq!(
            Endpoint::of("GET", "/api/chat"),
            Endpoint::WrongMethod(Dialect::Ollama)
        );
        assert_eq!(
            Endpoint::of("PUT", "/v1/messages"),
            Endpoint::WrongMethod(Dialect::Anthropic)
        );
        assert_eq!(
            Endpoint::of("POST", "/api/me"),
            Endpoint::Other(Dialect::Ollama)
        );
        assert_eq!(
            Endpoint::of("GET", "/v1/files"),
            Endpoint::Other(Dialect::OpenAi)
        );
        assert_eq!(Endpoint::of("GET", "/nope"), Endpoint::Unknown);
        assert_eq!(Endpoint::of("GET", "/apifoo"), Endpoint::Unknown);
    }

    #[test]
    fn only_ollama_streams_unasked_and_only_models_are_routed() {
        assert!(Endpoint::Chat.streams_by_default());
        assert!(Endpoint::Pull.streams_by_default());
        assert!(!Endpoint::ChatCompletions.streams_by_default());
        assert!(Endpoint::Chat.routed() && Endpoint::Embed.routed());
        assert!(!Endpoint::Pull.routed() && !Endpoint::Tags.routed());
        assert!(Endpoint::Pull.changes_node() && !Endpoint::Chat.changes_node());
    }
}
