//! The times of an observation that policies are compared by.

use super::{Observation, Outcome, Pair};

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Time {
    /// To the first token.
    FirstToken,
    /// To the end of the answer.
    End,
    /// To the end of the answer, had both answers been as long as the shorter one.
    EndAtEqualLength,
}

/// Milliseconds under today's policy and under the routed one. A request that did not end well counts at the time-out. `None` where a time that is
/// needed was not measured.
pub(super) fn of_pair(pair: Pair<'_>, time: Time, timeout_ms: f64) -> Option<(f64, f64)> {
    let shorter = pair.today.tokens_out.zip(pair.routed.tokens_out);
    let shorter = shorter.map(|(today, routed)| today.min(routed));
    let both_answered = pair.today.outcome == Outcome::Ok && pair.routed.outcome == Outcome::Ok;
    let of = |observation: &Observation| match time {
        _ if observation.outcome != Outcome::Ok => Some(timeout_ms),
        Time::FirstToken => observation.ttft_ms,
        Time::EndAtEqualLength if both_answered => at_length(observation, shorter?),
        // Against an answer that never came there is no shorter one.
        Time::End | Time::EndAtEqualLength => observation.total_ms,
    };
    Some((of(pair.today)?, of(pair.routed)?))
}

/// Milliseconds to the end of the first `tokens` tokens: the first one comes at its measured time, the others evenly until the end.
fn at_length(observation: &Observation, tokens: u64) -> Option<f64> {
    let (first, end) = observation.ttft_ms.zip(observation.total_ms)?;
    let all = observation.tokens_out?;
    if tokens == all {
        return Some(end);
    }
    let steps = tokens.checked_sub(1)?;
    #[expect(clippy::cast_precision_loss, reason = "tokens are far below 2^53")]
    let share = steps as f64 / all.checked_sub(1)?.max(1) as f64;
    Some(first + (end - first) * share)
}
