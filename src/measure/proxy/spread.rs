//! The middle of a few rounds and how far they lie apart.

use serde::{Deserialize, Serialize};

/// The middle of some values, the least and the greatest of them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The median; of an even number of values the mean of the middle two.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    /// Of some values; `None` without any, or where one is no number.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let upper = *sorted.get(sorted.len() / 2)?;
        let lower = *sorted.get((sorted.len() - 1) / 2)?;
        let finite = min.is_finite() && max.is_finite();
        finite.then_some(Self {
            median: f64::midpoint(lower, upper),
            min,
            max,
        })
    }

    /// With every value multiplied.
    #[must_use]
    pub fn scaled(self, factor: f64) -> Self {
        Self {
            median: self.median * factor,
            min: self.min * factor,
            max: self.max * factor,
        }
    }
}

/// The `share` quantile (0 to 1) of sorted samples by nearest rank, the smallest sample that has at least that share of
/// all at or below it; `None` without samples.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count far below 2^52, and a share of it"
)]
pub fn quantile(sorted: &[u64], share: f64) -> Option<u64> {
    let rank = (sorted.len() as f64 * share.clamp(0.0, 1.0)).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_middle_of_even_and_odd_numbers_of_values() {
        let spread = Spread::of(&[3.0, 1.0, 2.0]).unwrap();
        assert_eq!((spread.min, spread.median, spread.max), (1.0, 2.0, 3.0));
        assert!((Spread::of(&[4.0, 1.0]).unwrap().median - 2.5).abs() < 1e-12);
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[1.0, f64::NAN]), None);
        assert_eq!(Spread::of(&[1.0, f64::INFINITY]), None);
    }

    #[test]
    fn quantiles_are_samples() {
        let samples: Vec<u64> = (1..=100).collect();
        assert_eq!(quantile(&samples, 0.5), Some(50));
        assert_eq!(quantile(&samples, 0.99), Some(99));
        assert_eq!(quantile(&samples, 1.0), Some(100));
        assert_eq!(quantile(&samples, 0.0), Some(1));
        assert_eq!(quantile(&[7], 0.99), Some(7));
        assert_eq!(quantile(&[], 0.5), None);
    }

    proptest! {
        #[test]
        fn at_least_the_share_lies_at_or_below(mut samples in proptest::collection::vec(0_u64..1000, 1..200), share in 0.01..1.0_f64) {
            samples.sort_unstable();
            let found = quantile(&samples, share).unwrap();
            let below = samples.iter().filter(|&&sample| sample <= found).count();
            let strictly = samples.iter().filter(|&&sample| sample < found).count();
            #[allow(clippy::cast_precision_loss)]
            let wanted = samples.len() as f64 * share;
            #[allow(clippy::cast_precision_loss)]
            {
                prop_assert!(below as f64 >= wanted);
                prop_assert!((strictly as f64) < wanted);
            }
        }
    }
}
