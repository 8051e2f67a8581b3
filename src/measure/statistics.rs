//! Percentiles, means, and intervals that say how sure they are.

use super::random::Random;

/// Resamples of a bootstrap interval, unless somebody asks for others.
pub const RESAMPLES: u32 = 10_000;
/// Most resamples that are done: beyond, a run takes minutes and tells nothing more.
pub const MAX_RESAMPLES: u32 = 100_000;
/// Standard normal quantile of 0.975: both sides of a 95 % interval.
const Z_95: f64 = 1.959_963_984_540_054;

/// A 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// The value below which a share of the values lies: Hyndman and Fan's definition 7 (the default of R and of `NumPy`), linear between the two
/// nearest ranks. `None` without values, with one that is not finite, or for a share outside 0 to 1.
pub fn quantile(values: &[f64], share: f64) -> Option<f64> {
    if values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile_of_sorted(&sorted, share)
}

fn quantile_of_sorted(sorted: &[f64], share: f64) -> Option<f64> {
    if !(0.0..=1.0).contains(&share) {
        return None;
    }
    let place = share * count(sorted.len().checked_sub(1)?);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank from 0 to the last"
    )]
    let below = place.floor() as usize;
    let low = *sorted.get(below)?;
    let high = sorted.get(below + 1).copied().unwrap_or(low);
    Some(low + (high - low) * (place - place.floor()))
}

/// The arithmetic mean; `None` without values.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / count(values.len()))
}

/// The geometric mean of ratios, exp(mean ln r): the only mean under which twice as fast and half as fast cancel. `None` without ratios or
/// with one that is not above 0.
pub fn geometric_mean(ratios: &[f64]) -> Option<f64> {
    let positive = ratios.iter().all(|ratio| *ratio > 0.0 && ratio.is_finite());
    let logs: Vec<f64> = ratios.iter().map(|ratio| ratio.ln()).collect();
    mean(&logs).filter(|_| positive).map(f64::exp)
}

/// The percentile bootstrap interval of a mean (Efron 1979): the values are drawn anew with replacement, as many as there are, `resamples`
/// times; the interval holds the middle 95 % of the means. The k-th drawn value of a resample is `values[random.below(n)]`. `None` for
/// fewer than two values, whose spread nobody knows, and for 0 or more than [`MAX_RESAMPLES`] resamples.
pub fn bootstrap_mean(values: &[f64], resamples: u32, random: &mut Random) -> Option<Interval> {
    let all_finite = values.iter().all(|value| value.is_finite());
    if values.len() < 2 || resamples == 0 || resamples > MAX_RESAMPLES || !all_finite {
        return None;
    }
    let mut means: Vec<f64> = (0..resamples)
        .map(|_| {
            let drawn = (0..values.len())
                .filter_map(|_| values.get(random.below(values.len())))
                .sum::<f64>();
            drawn / count(values.len())
        })
        .collect();
    means.sort_by(f64::total_cmp);
    Some(Interval {
        low: quantile_of_sorted(&means, 0.025)?,
        high: quantile_of_sorted(&means, 0.975)?,
    })
}

/// Wilson's 95 % score interval of a pass rate (Wilson 1927): unlike the textbook one it does not claim certainty when everything passed.
/// `None` without checks, or when more passed than were checked.
pub fn wilson(passed: u64, checked: u64) -> Option<Interval> {
    if checked == 0 || passed > checked {
        return None;
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of checks are far below 2^53"
    )]
    let (passed, checked) = (passed as f64, checked as f64);
    let rate = passed / checked;
    let z2 = Z_95 * Z_95;
    let centre = rate + z2 / (2.0 * checked);
    let spread = Z_95 * (rate * (1.0 - rate) / checked + z2 / (4.0 * checked * checked)).sqrt();
    let scale = 1.0 + z2 / checked;
    Some(Interval {
        low: ((centre - spread) / scale).max(0.0),
        high: ((centre + spread) / scale).min(1.0),
    })
}

/// A count as a number.
pub(super) fn count(count: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    let count = count as f64;
    count
}
