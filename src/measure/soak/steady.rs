//! Whether what a server holds stays as it is.
//!
//! The rule: the first half of the run is for warming up. The second half is cut into [`BLOCKS`] stretches of equal length, whose means are
//! nearly independent of each other where single readings are not. A straight line through them (least squares) has a slope with a 95 %
//! interval (Student's t, two degrees of freedom less than stretches). It *grows* when the whole interval is above nothing and the line adds
//! more than noise in that half: 1 % of what is held or 256 KiB of memory, whichever is more; one descriptor.

use serde::{Deserialize, Serialize};

use crate::measure::figure::{Figure, Unit};
use crate::measure::statistics::{mean, quantile};

/// Stretches of the second half.
pub const BLOCKS: u32 = 10;
/// Student's t at 97.5 % for eight degrees of freedom.
const T_8: f64 = 2.306_004_135_204_166;
/// Memory that comes and goes: a thread's stack, a buffer.
const MEMORY_NOISE: f64 = 256.0 * 1024.0;
/// … or this share of what is held, where that is more.
const MEMORY_SHARE: f64 = 0.01;
/// A connection that happens to be open.
const DESCRIPTOR_NOISE: f64 = 1.0;

/// What a server holds at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// When, milliseconds from the start.
    pub at_ms: u64,
    /// Resident memory of its processes added up, bytes.
    pub rss_bytes: u64,
    /// Open descriptors of its processes added up; `None` where this user may not look.
    pub descriptors: Option<u64>,
}

/// Whether something stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It does not grow, as far as this run can tell.
    Flat,
    /// It grows.
    Grows,
    /// There were too few readings.
    Unknown,
}

/// Something that should stay as it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Steady {
    /// At the first reading.
    pub start: Figure,
    /// At the reading in the middle of the time.
    pub middle: Figure,
    /// At the last one.
    pub end: Figure,
    /// The mean over the time, between readings along straight lines.
    pub mean: Figure,
    /// The least of all readings.
    pub least: Figure,
    /// The most.
    pub most: Figure,
    /// What the line adds over the second half.
    pub added: Figure,
    /// The lower end of its 95 % interval.
    pub low: Figure,
    /// The upper end.
    pub high: Figure,
    /// What follows.
    pub verdict: Verdict,
}

impl Steady {
    #[expect(clippy::cast_precision_loss, reason = "memory far below 2^53 bytes")]
    pub(super) fn memory(held: &[Held]) -> Self {
        let points: Vec<(f64, f64)> = held
            .iter()
            .map(|one| (one.at_ms as f64, one.rss_bytes as f64))
            .collect();
        let held = mean(&points.iter().map(|(_, bytes)| *bytes).collect::<Vec<f64>>());
        let noise = MEMORY_NOISE.max(MEMORY_SHARE * held.unwrap_or(0.0));
        Self::of(&points, Unit::Bytes, noise)
    }

    #[expect(clippy::cast_precision_loss, reason = "a few descriptors")]
    pub(super) fn descriptors(held: &[Held]) -> Self {
        let points: Vec<(f64, f64)> = held
            .iter()
            .filter_map(|one| Some((one.at_ms as f64, one.descriptors? as f64)))
            .collect();
        Self::of(&points, Unit::Count, DESCRIPTOR_NOISE)
    }

    fn of(points: &[(f64, f64)], unit: Unit, noise: f64) -> Self {
        let values: Vec<f64> = points.iter().map(|(_, value)| *value).collect();
        let figure = |value: Option<f64>| {
            value.map_or(Figure::unknown(unit), |value| Figure::measured(value, unit))
        };
        let derived = |value: Option<f64>| {
            value.map_or(Figure::unknown(unit), |value| Figure::derived(value, unit))
        };
        let (first, last) = (points.first(), points.last());
        let half = first
            .zip(last)
            .map(|(first, last)| f64::midpoint(first.0, last.0));
        let middle = half.and_then(|half| {
            points
                .iter()
                .min_by(|a, b| (a.0 - half).abs().total_cmp(&(b.0 - half).abs()))
        });
        let slope = Slope::of_second_half(points);
        Self {
            start: figure(first.map(|point| point.1)),
            middle: figure(middle.map(|point| point.1)),
            end: figure(last.map(|point| point.1)),
            mean: derived(over_time(points)),
            least: figure(quantile(&values, 0.0)),
            most: figure(quantile(&values, 1.0)),
            added: derived(slope.map(|slope| slope.per_ms * slope.span)),
            low: derived(slope.map(|slope| (slope.per_ms - slope.error) * slope.span)),
            high: derived(slope.map(|slope| (slope.per_ms + slope.error) * slope.span)),
            verdict: match slope {
                None => Verdict::Unknown,
                Some(slope) if slope.per_ms > slope.error && slope.per_ms * slope.span > noise => {
                    Verdict::Grows
                }
                Some(_) => Verdict::Flat,
            },
        }
    }
}

/// The mean of what straight lines between the points say.
fn over_time(points: &[(f64, f64)]) -> Option<f64> {
    let span = points.last()?.0 - points.first()?.0;
    let area: f64 = points
        .iter()
        .zip(points.iter().skip(1))
        .map(|(a, b)| (b.0 - a.0) * f64::midpoint(a.1, b.1))
        .sum();
    (span > 0.0).then_some(area / span)
}

/// A straight line's slope.
#[derive(Debug, Clone, Copy)]
struct Slope {
    per_ms: f64,
    /// Half the width of its 95 % interval.
    error: f64,
    /// The time that it was found over, milliseconds.
    span: f64,
}

impl Slope {
    /// Through the means of the second half's stretches; `None` when one of them has no reading.
    fn of_second_half(points: &[(f64, f64)]) -> Option<Self> {
        let (first, last) = (points.first()?.0, points.last()?.0);
        let half = f64::midpoint(first, last);
        let span = last - half;
        let width = span / f64::from(BLOCKS);
        if width <= 0.0 {
            return None;
        }
        let mut means = Vec::new();
        for block in 0..BLOCKS {
            let (from, to) = (
                half + width * f64::from(block),
                half + width * f64::from(block + 1),
            );
            let inside = |at: f64| at >= from && (at < to || block + 1 == BLOCKS);
            let (times, values): (Vec<f64>, Vec<f64>) = points
                .iter()
                .filter(|point| inside(point.0))
                .copied()
                .unzip();
            means.push((mean(&times)?, mean(&values)?));
        }
        let n = f64::from(BLOCKS);
        let x = means.iter().map(|(x, _)| x).sum::<f64>() / n;
        let y = means.iter().map(|(_, y)| y).sum::<f64>() / n;
        let across: f64 = means.iter().map(|(at, _)| (at - x).powi(2)).sum();
        let together: f64 = means.iter().map(|(at, value)| (at - x) * (value - y)).sum();
        let per_ms = together / across;
        let left: f64 = means
            .iter()
            .map(|(at, value)| (value - y - per_ms * (at - x)).powi(2))
            .sum();
        let error = T_8 * (left / (n - 2.0) / across).sqrt();
        (per_ms.is_finite() && error.is_finite()).then_some(Self {
            per_ms,
            error,
            span,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Random;

    const MIB: f64 = 1_048_576.0;

    /// Evenly from 0 to 1.
    fn unit(random: &mut Random) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "up to a million")]
        let part = random.below(1_000_001) as f64;
        part / 1e6
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive sizes"
    )]
    fn readings(seconds: u64, mut bytes: impl FnMut(f64) -> f64) -> Vec<Held> {
        (0..=seconds * 4)
            .map(|quarter| {
                #[expect(clippy::cast_precision_loss, reason = "a few minutes")]
                let at = quarter as f64 / 4.0;
                Held {
                    at_ms: quarter * 250,
                    rss_bytes: bytes(at) as u64,
                    descriptors: Some(12),
                }
            })
            .collect()
    }

    #[test]
    fn a_server_that_warms_up_and_stays_is_flat() {
        let mut random = Random::new(7);
        let held = readings(60, |at| {
            10.0 * MIB + (at * 0.2).min(4.0) * MIB + unit(&mut random) * 0.1 * MIB
        });
        let memory = Steady::memory(&held);
        assert_eq!(memory.verdict, Verdict::Flat, "{memory:?}");
        assert!(memory.middle.value() > memory.start.value());
        let descriptors = Steady::descriptors(&held);
        assert_eq!(descriptors.verdict, Verdict::Flat);
        assert_eq!(descriptors.added.value(), Some(0.0));
    }

    #[test]
    fn a_leak_of_a_kilobyte_a_request_is_seen_in_a_minute() {
        let mut random = Random::new(7);
        // 50 requests a second.
        let held = readings(60, |at| {
            10.0 * MIB + at * 50.0 * 1024.0 + unit(&mut random) * 0.1 * MIB
        });
        let memory = Steady::memory(&held);
        assert_eq!(memory.verdict, Verdict::Grows, "{memory:?}");
        let added = 30.0 * 50.0 * 1024.0;
        let interval = memory.low.value().unwrap()..=memory.high.value().unwrap();
        assert!(interval.contains(&added), "{memory:?}");
    }

    #[test]
    fn a_descriptor_a_second_is_seen() {
        let mut held = readings(60, |_| 10.0 * MIB);
        for one in &mut held {
            one.descriptors = Some(12 + one.at_ms / 1000);
        }
        assert_eq!(Steady::descriptors(&held).verdict, Verdict::Grows);
    }

    #[test]
    fn intervals_hold_the_true_slope_as_often_as_they_say() {
        let (mut held, tries) = (0, 400);
        for seed in 0..tries {
            let mut random = Random::new(seed);
            let readings = readings(60, |at| {
                100.0 * MIB + at * 20_000.0 + unit(&mut random) * MIB
            });
            let memory = Steady::memory(&readings);
            let interval = memory.low.value().unwrap()..=memory.high.value().unwrap();
            held += u64::from(interval.contains(&(20_000.0 * 30.0)));
        }
        // 95 % of 400 are 380, give or take 3 standard deviations of 4.4.
        assert!((367..=393).contains(&held), "{held} of {tries}");
    }

    #[test]
    fn too_few_readings_say_nothing() {
        for held in [Vec::new(), readings(1, |_| MIB)[..3].to_vec()] {
            assert_eq!(Steady::memory(&held).verdict, Verdict::Unknown);
        }
        let mut hidden = readings(60, |_| MIB);
        for one in &mut hidden {
            one.descriptors = None;
        }
        let descriptors = Steady::descriptors(&hidden);
        assert_eq!(descriptors.verdict, Verdict::Unknown);
        assert!(!descriptors.start.is_known());
    }
}
