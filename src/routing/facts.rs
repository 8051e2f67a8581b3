//! What routing needs to know of a request.

use super::Turn;

/// What kind of work is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Task {
    /// Chat or text completion.
    #[default]
    Complete,
    /// Embeddings.
    Embed,
}

/// What routing needs to know of a request, taken from the body by [`crate::dialect`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RequestFacts {
    /// The model as the client wrote it; `None` when it named none.
    pub model: Option<String>,
    /// What kind of work is asked for.
    pub task: Task,
    /// Whether the prompt holds images.
    pub images: bool,
    /// Whether tools are offered.
    pub tools: bool,
    /// Whether it is housekeeping, which a helper node answers where there is one.
    pub housekeeping: bool,
    /// Estimated tokens of the whole prompt (all roles, tool definitions included).
    pub prompt_tokens: u64,
    /// Most tokens the client wants back; `None` when it set no limit.
    pub max_tokens: Option<u64>,
    /// The turns of the conversation, oldest first; empty unless they were asked for (class routing needs them, named models do not).
    pub turns: Vec<Turn>,
}
