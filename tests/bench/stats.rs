//! Medians and percentiles, of samples and of rounds.

/// The `share` quantile (0 to 1) of samples by nearest rank; 0 without samples.
pub fn quantile(samples: &mut [u64], share: f64) -> f64 {
    samples.sort_unstable();
    let last = samples.len().saturating_sub(1);
    let rank = (last as f64 * share).round() as usize;
    samples.get(rank).map_or(f64::NAN, |&sample| sample as f64)
}

/// The middle of a few values.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted: Vec<f64> = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// The middle of `f(a, b)` over pairs of the same round.
pub fn paired(a: &[f64], b: &[f64], f: impl Fn(f64, f64) -> f64) -> f64 {
    let each: Vec<f64> = a.iter().zip(b).map(|(&a, &b)| f(a, b)).collect();
    median(&each)
}
