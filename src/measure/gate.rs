//! The quality gate: without answers that are as good, a speed-up is no headline.

use serde::Serialize;

use super::statistics::{Interval, wilson};

/// Checks of answers: exact tool calls, JSON schemas, needles, unit checks. A request that failed did not pass its check; each repeat of a
/// request is checked by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Checks {
    /// Answers that passed.
    pub passed: u64,
    /// Answers that were checked.
    pub checked: u64,
}

impl Checks {
    /// Counts one check.
    pub fn add(&mut self, passed: bool) {
        self.passed += u64::from(passed);
        self.checked += 1;
    }

    /// The share that passed; `None` without checks.
    pub fn rate(self) -> Option<f64> {
        #[expect(
            clippy::cast_precision_loss,
            reason = "counts of checks are far below 2^53"
        )]
        let rate = self.passed as f64 / self.checked as f64;
        (self.checked > 0).then_some(rate)
    }

    /// Its 95 % interval.
    pub fn interval(self) -> Option<Interval> {
        wilson(self.passed, self.checked)
    }
}

/// Why no headline may be printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Obstacle {
    /// Nothing was checked under one of the policies.
    NoChecks,
    /// No answer passed under either of them: the checks tell nothing.
    NonePassed,
    /// The pass rate itself is lower than today's by more than the margin.
    WorseAnswers,
    /// The pass rate is good enough, but so few checks do not rule out that it is worse.
    TooFewChecks,
}

/// Whether two policies may be compared by their speed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Comparability {
    /// The answers are as good, within the margin.
    Comparable,
    /// No headline: print NOT COMPARABLE.
    NotComparable {
        /// Why.
        obstacle: Obstacle,
        /// How far the lower end of the routed policy's interval lies below today's pass rate, as a share; `None` without checks.
        below: Option<f64>,
        /// Checks at which the same pass rate would do; `None` when no number of them would.
        needed: Option<u64>,
    },
}

/// Whether the lower end of the routed policy's 95 % interval is at most `margin` (a share: 0.02 is 2 points) below today's pass rate.
pub fn gate(today: Checks, routed: Checks, margin: f64) -> Comparability {
    let (Some(today), Some(rate), Some(interval)) =
        (today.rate(), routed.rate(), routed.interval())
    else {
        return Comparability::NotComparable {
            obstacle: Obstacle::NoChecks,
            below: None,
            needed: None,
        };
    };
    if today == 0.0 && rate == 0.0 {
        return Comparability::NotComparable {
            obstacle: Obstacle::NonePassed,
            below: None,
            needed: None,
        };
    }
    let floor = today - margin;
    if interval.low >= floor {
        return Comparability::Comparable;
    }
    let needed = least_checks(rate, floor);
    Comparability::NotComparable {
        obstacle: if rate < floor {
            Obstacle::WorseAnswers
        } else {
            Obstacle::TooFewChecks
        },
        below: Some(today - interval.low),
        needed,
    }
}

/// The fewest checks at which this pass rate has a lower end of at least `floor`; `None` when a million would not do.
pub fn least_checks(rate: f64, floor: f64) -> Option<u64> {
    const MOST: u64 = 1_000_000;
    let enough = |checked: u64| {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "up to a million"
        )]
        let passed = (rate * checked as f64).floor() as u64;
        wilson(passed, checked).is_some_and(|interval| interval.low >= floor)
    };
    if !enough(MOST) {
        return None;
    }
    // The lower end rises with the number of checks; rounding down to whole passes makes it wobble by less than one check's worth.
    let (mut too_few, mut enough_at) = (0, MOST);
    while enough_at - too_few > 1 {
        let middle = u64::midpoint(too_few, enough_at);
        if enough(middle) {
            enough_at = middle;
        } else {
            too_few = middle;
        }
    }
    Some(enough_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks(passed: u64, checked: u64) -> Checks {
        Checks { passed, checked }
    }

    fn obstacle(today: Checks, routed: Checks) -> Option<Obstacle> {
        match gate(today, routed, 0.02) {
            Comparability::Comparable => None,
            Comparability::NotComparable { obstacle, .. } => Some(obstacle),
        }
    }

    #[test]
    fn a_headline_needs_checks_that_pass_and_enough_of_them() {
        let cases = [
            (checks(200, 200), checks(200, 200), None),
            (checks(0, 0), checks(10, 10), Some(Obstacle::NoChecks)),
            (checks(10, 10), checks(0, 0), Some(Obstacle::NoChecks)),
            (checks(60, 60), checks(60, 60), Some(Obstacle::TooFewChecks)),
            (checks(60, 60), checks(57, 60), Some(Obstacle::WorseAnswers)),
            (checks(10, 20), checks(500, 500), None),
            (
                checks(990, 1000),
                checks(960, 1000),
                Some(Obstacle::WorseAnswers),
            ),
        ];
        for (today, routed, expected) in cases {
            assert_eq!(obstacle(today, routed), expected, "{today:?} {routed:?}");
        }
    }

    #[test]
    fn it_says_how_many_checks_would_do() {
        // All pass: n / (n + z^2) >= 0.98, so n >= 49 z^2 = 188.2.
        assert_eq!(least_checks(1.0, 0.98), Some(189));
        assert!(wilson(188, 188).unwrap().low < 0.98);
        assert!(wilson(189, 189).unwrap().low >= 0.98);
        assert_eq!(least_checks(0.97, 0.98), None);
    }
}
