//! What an answer will take, from measurements alone.

use serde::Serialize;

use super::NodeLoad;
use crate::routing::{RequestFacts, Speed, Task};

/// Predicted milliseconds by phase; `None` where a measurement is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Predicted {
    /// Until a slot is free.
    pub wait_ms: Option<u64>,
    /// Until the model is loaded; 0 when it is resident.
    pub load_ms: Option<u64>,
    /// Reading the prompt.
    pub prefill_ms: Option<u64>,
    /// Writing the answer.
    pub decode_ms: Option<u64>,
}

impl Predicted {
    /// The whole answer; `None` as soon as one phase is unknown.
    pub fn total_ms(&self) -> Option<u64> {
        [self.load_ms, self.prefill_ms, self.decode_ms]
            .into_iter()
            .try_fold(self.wait_ms?, |sum, phase| Some(sum.saturating_add(phase?)))
    }
}

/// Milliseconds by phase from measurements alone.
#[expect(
    clippy::cast_precision_loss,
    reason = "token counts are far below 2^52"
)]
pub(super) fn predict(
    facts: &RequestFacts,
    resident: bool,
    load: NodeLoad,
    speed: Speed,
) -> Predicted {
    let prefill_ms = speed
        .prefill_tps
        .and_then(|tps| milliseconds(facts.prompt_tokens as f64, tps));
    let decode_ms = match facts.task {
        Task::Embed => Some(0),
        Task::Complete => {
            let limit = facts.max_tokens.map(|tokens| tokens as f64);
            let usual = speed.completion_tokens;
            let expected = match (limit, usual) {
                (Some(limit), Some(usual)) => Some(limit.min(usual)),
                (one, other) => one.or(other),
            };
            expected
                .zip(speed.decode_tps)
                .and_then(|(tokens, tps)| milliseconds(tokens, tps))
        }
    };
    // Those before this request are assumed to take as long as this one does.
    let before = match load.slots {
        Some(slots) => Some(
            (load.active + load.queued + 1)
                .saturating_sub(slots)
                .div_ceil(slots.max(1)),
        ),
        None if load.active + load.queued == 0 => Some(0),
        None => None,
    };
    let wait_ms = match before {
        Some(0) => Some(0),
        Some(rounds) => prefill_ms
            .zip(decode_ms)
            .map(|(prefill, decode)| (prefill + decode) * u64::from(rounds)),
        None => None,
    };
    let load_ms = if resident {
        Some(0)
    } else {
        speed.load_ms.and_then(|ms| milliseconds(ms, 1000.0))
    };
    Predicted {
        wait_ms,
        load_ms,
        prefill_ms,
        decode_ms,
    }
}

/// Milliseconds that `amount` takes at `per_second`; `None` for a rate that is no rate.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float to integer cast saturates, and the sign was checked"
)]
fn milliseconds(amount: f64, per_second: f64) -> Option<u64> {
    (amount >= 0.0 && per_second.is_finite() && per_second > 0.0)
        .then(|| (amount * 1000.0 / per_second).round() as u64)
}
