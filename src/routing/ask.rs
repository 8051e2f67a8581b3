//! The ask inside a conversation: the last human turn, without the envelope an agent wrapped it in.

/// Who wrote a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnRole {
    /// System or developer instructions.
    System,
    /// The human, or the agent on the human's behalf.
    User,
    /// The model.
    Assistant,
    /// A tool's result.
    Tool,
}

/// One turn of a conversation, text only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Who wrote it.
    pub role: TurnRole,
    /// Its text; parts of other kinds (images, files) are left out.
    pub text: String,
}

/// The ask of a conversation (see the module); never empty when any turn has text.
pub fn shape_ask(turns: &[Turn]) -> String {
    turns
        .iter()
        .rev()
        .find(|turn| turn.role == TurnRole::User)
        .map(|turn| turn.text.clone())
        .unwrap_or_default()
}
