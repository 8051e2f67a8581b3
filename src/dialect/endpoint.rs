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
    /// `POST /v1/messages`.
    Messages,
    /// `POST /v1/messages/count_tokens`.
    CountTokens,
    /// A path of one of the APIs that is passed through (`/api/…`, `/v1/…`).
    Other(Dialect),
    /// A known path with a method it does not have.
    WrongMethod(Dialect),
    /// Nothing of any API.
    Unknown,
}
