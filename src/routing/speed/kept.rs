//! What was measured, in the form in which it is kept across runs.

use serde::{Deserialize, Serialize};

use super::Observation;

/// One model on one node.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KeptModel {
    /// By step of the ladder of contexts, the one used last at the end.
    pub contexts: Vec<(u32, Vec<KeptAnswer>)>,
    /// Milliseconds of loads from disk.
    pub cold: Vec<f64>,
    /// Milliseconds of loads from the file cache.
    pub warm: Vec<f64>,
    /// Characters per token.
    pub characters: Vec<f64>,
    /// Tokens of a usual answer.
    pub answer: Option<f64>,
    /// Answers that were measured.
    pub samples: u64,
}

/// One answer: tokens of the prompt, those of its cache, milliseconds of prefill; tokens of the answer, milliseconds of decode.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct KeptAnswer(u64, u64, Option<f64>, u64, Option<f64>);

impl From<&Observation> for KeptAnswer {
    fn from(seen: &Observation) -> Self {
        Self(
            seen.prompt_tokens,
            seen.cached_tokens,
            seen.prompt_ms,
            seen.answer_tokens,
            seen.decode_ms,
        )
    }
}

impl KeptAnswer {
    pub(super) fn observation(self, context: u32) -> Observation {
        Observation {
            context,
            prompt_tokens: self.0,
            cached_tokens: self.1,
            prompt_ms: self.2,
            answer_tokens: self.3,
            decode_ms: self.4,
            ..Observation::default()
        }
    }
}
