//! Speeds, learned from the answers that pass through.

use std::sync::{Arc, Mutex, PoisonError};

use crate::cluster::ModelName;
use crate::dialect::Usage;
use crate::routing::{Speed, Speeds};

/// Weight of the newest sample: about the last ten answers count.
const NEWEST: f64 = 0.2;
/// Shortest prompt, in tokens that were not cached, whose prefill says something of the speed and not of the overhead.
const FEWEST_PREFILL: u64 = 32;
/// Shortest answer, in tokens, whose decode says something.
const FEWEST_DECODE: u64 = 8;

/// What was measured so far; replaced whole, so that a decision reads one consistent state.
#[derive(Debug, Default)]
pub(super) struct Measurements {
    speeds: Mutex<Arc<Speeds>>,
}

impl Measurements {
    /// The speeds as they are now.
    pub(super) fn now(&self) -> Arc<Speeds> {
        Arc::clone(&self.speeds.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Learns from a complete answer's own counters.
    pub(super) fn learn(&self, node: &str, model: &ModelName, usage: &Usage) {
        let uncached = usage
            .prompt_tokens
            .map(|tokens| tokens.saturating_sub(usage.cached_tokens.unwrap_or(0)));
        let prefill = rate(uncached, usage.prompt_ms, FEWEST_PREFILL);
        let decode = rate(usage.completion_tokens, usage.decode_ms, FEWEST_DECODE);
        // A resident model "loads" in a few milliseconds; that is not what a load costs.
        let load = usage.load_ms.filter(|ms| *ms > 100.0);
        let answer = usage.completion_tokens.filter(|tokens| *tokens > 0);
        if prefill.is_none() && decode.is_none() && load.is_none() && answer.is_none() {
            return;
        }
        let mut guard = self.speeds.lock().unwrap_or_else(PoisonError::into_inner);
        let speeds = Arc::make_mut(&mut guard);
        if speeds
            .by_node_and_model
            .get(node)
            .is_none_or(|models| !models.contains_key(model))
        {
            let models = speeds.by_node_and_model.entry(node.to_owned()).or_default();
            models.insert(model.clone(), Speed::default());
        }
        let models = speeds.by_node_and_model.get_mut(node);
        let Some(speed) = models.and_then(|models| models.get_mut(model)) else {
            return;
        };
        blend(&mut speed.prefill_tps, prefill);
        blend(&mut speed.decode_tps, decode);
        blend(&mut speed.load_ms, load);
        #[expect(
            clippy::cast_precision_loss,
            reason = "token counts are far below 2^52"
        )]
        blend(
            &mut speed.completion_tokens,
            answer.map(|tokens| tokens as f64),
        );
        speed.samples += 1;
    }
}

/// Tokens per second, when the sample is large enough to mean something.
fn rate(tokens: Option<u64>, ms: Option<f64>, fewest: u64) -> Option<f64> {
    let (tokens, ms) = tokens.zip(ms)?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "token counts are far below 2^52"
    )]
    let rate = tokens as f64 * 1000.0 / ms;
    (tokens >= fewest && ms > 0.0 && rate.is_finite()).then_some(rate)
}

/// Moves an average towards a sample; the first sample is the average.
fn blend(average: &mut Option<f64>, sample: Option<f64>) {
    if let Some(sample) = sample {
        *average = Some(average.map_or(sample, |old| old + NEWEST * (sample - old)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_come_from_the_answers_own_counters_and_nothing_else() {
        let measurements = Measurements::default();
        let model = ModelName::new("m");
        let usage = Usage {
            prompt_tokens: Some(1100),
            cached_tokens: Some(100),
            prompt_ms: Some(500.0),
            completion_tokens: Some(50),
            decode_ms: Some(1000.0),
            ..Usage::default()
        };
        measurements.learn("a", &model, &usage);
        let speed = measurements.now().get("a", &model);
        assert_eq!(speed.prefill_tps, Some(2000.0));
        assert_eq!(speed.decode_tps, Some(50.0));
        assert_eq!(speed.load_ms, None);
        assert_eq!(measurements.now().get("b", &model).decode_tps, None);
    }

    #[test]
    fn a_sample_too_small_to_mean_anything_is_not_a_speed() {
        let measurements = Measurements::default();
        let model = ModelName::new("m");
        let usage = Usage {
            prompt_tokens: Some(5),
            prompt_ms: Some(10.0),
            completion_tokens: Some(1),
            decode_ms: Some(0.0),
            ..Usage::default()
        };
        measurements.learn("a", &model, &usage);
        let speed = measurements.now().get("a", &model);
        assert_eq!((speed.prefill_tps, speed.decode_tps), (None, None));
    }
}
