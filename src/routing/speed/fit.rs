//! Lines and ranges that a few outliers do not move.

use super::Range;

/// Points within this ratio of each other say nothing of a slope.
const NARROW: f64 = 1.5;
/// Fewest points for a slope.
const LEAST: usize = 4;

/// `at_zero + slope * x`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Line {
    pub(super) at_zero: f64,
    pub(super) slope: f64,
}

#[cfg(test)]
impl Line {
    pub(super) fn at(&self, x: f64) -> f64 {
        self.at_zero + self.slope * x
    }
}

/// The middle of some numbers; `None` of none.
pub(super) fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// The number below which the share `q` of such values lies: order statistics at `q (n + 1)`, with straight lines between them, which is
/// right on average for values to come. Beyond the outermost ones it is the outermost.
pub(super) fn quantile(values: &[f64], q: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    #[expect(clippy::cast_precision_loss, reason = "a few dozen values")]
    let place = (q * (sorted.len() as f64 + 1.0) - 1.0).clamp(0.0, last as f64);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and the last index"
    )]
    let below = place.floor() as usize;
    let low = *sorted.get(below)?;
    let high = *sorted.get((below + 1).min(last))?;
    Some(low + (high - low) * place.fract())
}

/// The middle 80 % of some numbers.
pub(super) fn range(values: &[f64]) -> Option<Range> {
    Some(Range {
        centre: median(values)?,
        low: quantile(values, 0.1)?,
        high: quantile(values, 0.9)?,
    })
}

/// The line through points that neither rises against time nor starts below nothing: the median of the slopes between all pairs (Theil 1950,
/// Sen 1968), which up to 29 % of outliers do not move.
pub(super) fn line(points: &[(f64, f64)]) -> Option<Line> {
    let ys: Vec<f64> = points.iter().map(|(_, y)| *y).collect();
    let flat = Line {
        at_zero: median(&ys)?,
        slope: 0.0,
    };
    let least = points.iter().map(|(x, _)| *x).fold(f64::INFINITY, f64::min);
    let most = points.iter().map(|(x, _)| *x).fold(0.0, f64::max);
    if points.len() < LEAST || most < least * NARROW {
        return Some(flat);
    }
    let mut slopes = Vec::with_capacity(points.len() * points.len() / 2);
    for (index, (x, y)) in points.iter().enumerate() {
        for (other_x, other_y) in points.iter().skip(index + 1) {
            if (x - other_x).abs() > f64::EPSILON * most {
                slopes.push((y - other_y) / (x - other_x));
            }
        }
    }
    let slope = median(&slopes)?;
    if slope <= 0.0 {
        return Some(flat);
    }
    let rest: Vec<f64> = points.iter().map(|(x, y)| y - slope * x).collect();
    let at_zero = median(&rest)?;
    if at_zero <= 0.0 {
        return Some(flat);
    }
    Some(Line { at_zero, slope })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantiles_lie_between_their_neighbours() {
        let nine: Vec<f64> = (1..=9).map(f64::from).collect();
        let all = range(&nine).unwrap();
        assert_eq!((all.low, all.centre, all.high), (1.0, 5.0, 9.0));
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&[3.0, f64::NAN], 0.9), Some(3.0));
    }

    #[test]
    fn a_line_is_found_among_outliers() {
        let mut points: Vec<(f64, f64)> = (1..=20)
            .map(f64::from)
            .map(|x| (x, 5.0 + 2.0 * x))
            .collect();
        for index in [2, 9, 15, 19] {
            points[index].1 *= 7.0;
        }
        let found = line(&points).unwrap();
        assert!(
            (found.slope - 2.0).abs() < 0.1 && (found.at_zero - 5.0).abs() < 1.0,
            "{found:?}"
        );
    }

    #[test]
    fn points_in_one_place_make_no_slope() {
        let found = line(&[(100.0, 7.0), (101.0, 9.0), (102.0, 8.0), (103.0, 7.5)]).unwrap();
        assert!(found.slope.abs() < f64::EPSILON);
    }

    proptest! {
        #[test]
        fn lines_stay_above_nothing(points in prop::collection::vec((1.0_f64..1e5, 1e-3_f64..1e6), 1..64)) {
            let found = line(&points).unwrap();
            prop_assert!(found.at_zero >= 0.0 && found.slope >= 0.0 && found.at(1e4).is_finite());
        }
    }
}
