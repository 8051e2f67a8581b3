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
    speed: &Speed,
) -> Predicted {
    let uncached = facts.prompt_tokens.saturating_sub(load.cached_tokens);
    // Requests beside each other slow each other down, by as much as they were seen to.
    let slower = speed
        .spread_crowded
        .filter(|_| load.active > 0)
        .map_or(1.0, |spread| spread.centre.max(1.0));
    let prefill_ms = speed.prefill_ms(uncached).and_then(|ms| whole(ms * slower));
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
                .and_then(whole)
                .and_then(|tokens| speed.decode_ms(tokens, facts.prompt_tokens))
                .and_then(|ms| whole(ms * slower))
        }
    };
    let wait_ms = match load.forecast {
        Some(forecast) => forecast.wait_ms,
        None => wait(load, prefill_ms, decode_ms),
    };
    let load_ms = if resident {
        Some(0)
    } else {
        let here = load.forecast.and_then(|forecast| forecast.load_ms);
        here.or_else(|| speed.load_ms.and_then(whole))
    };
    Predicted {
        wait_ms,
        load_ms,
        prefill_ms,
        decode_ms,
    }
}

/// Until a slot is free: those before this request are assumed to take as long as this one does.
fn wait(load: NodeLoad, prefill_ms: Option<u64>, decode_ms: Option<u64>) -> Option<u64> {
    let before = match load.slots {
        Some(slots) => (load.active + load.queued + 1)
            .saturating_sub(slots)
            .div_ceil(slots.max(1)),
        None if load.active + load.queued == 0 => 0,
        None => return None,
    };
    if before == 0 {
        return Some(0);
    }
    let (prefill, decode) = prefill_ms.zip(decode_ms)?;
    Some((prefill + decode) * u64::from(before))
}

/// A positive number without its fraction; `None` for what is no number.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float to integer cast saturates, and the sign was checked"
)]
pub(super) fn whole(number: f64) -> Option<u64> {
    (number >= 0.0 && number.is_finite()).then(|| number.round() as u64)
}
