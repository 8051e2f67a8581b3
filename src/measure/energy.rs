//! Energy of requests: from a counter, or integrated from sampled power.

use super::figure::{Figure, Unit};

/// The longest gap between two power samples that may be integrated across: 5 samples per second. Cards before Volta have no energy counter,
/// and a burst of tokens on them is over within a second.
pub const SLOWEST_SAMPLING_MS: f64 = 200.0;

/// The power of a GPU at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PowerSample {
    /// Milliseconds since any fixed moment.
    pub at_ms: f64,
    /// Watts.
    pub watts: f64,
}

/// Joules between two readings of a counter in millijoules (NVML's total energy, Volta and newer). Unknown without both readings, or when the
/// counter went backwards because the driver was loaded anew.
pub fn counted(start_mj: Option<u64>, end_mj: Option<u64>) -> Figure {
    let difference = match (start_mj, end_mj) {
        (Some(start), Some(end)) => end.checked_sub(start),
        _ => None,
    };
    #[expect(
        clippy::cast_precision_loss,
        reason = "2^53 mJ is what a 700 W card takes in 400 years"
    )]
    let joules = difference.map(|millijoules| millijoules as f64 / 1000.0);
    joules.map_or(Figure::unknown(Unit::Joules), |joules| {
        Figure::measured(joules, Unit::Joules)
    })
}

/// Joules from `from_ms` to `to_ms` by the trapezoid rule over samples in order of time. Unknown when the samples do not reach both ends, when
/// two neighbours are further apart than [`SLOWEST_SAMPLING_MS`], or when they are out of order.
pub fn integrated(samples: &[PowerSample], from_ms: f64, to_ms: f64) -> Figure {
    let unknown = Figure::unknown(Unit::Joules);
    let covers = samples.first().is_some_and(|first| first.at_ms <= from_ms)
        && samples.last().is_some_and(|last| last.at_ms >= to_ms);
    if !covers || from_ms >= to_ms {
        return unknown;
    }
    let mut joules = 0.0;
    for pair in samples.windows(2) {
        let [one, two] = pair else { continue };
        let gap = two.at_ms - one.at_ms;
        // Only what is integrated over has to be sampled densely.
        let (start, end) = (one.at_ms.max(from_ms), two.at_ms.min(to_ms));
        if gap < 0.0 {
            return unknown;
        }
        if end <= start {
            continue;
        }
        if gap > SLOWEST_SAMPLING_MS {
            return unknown;
        }
        let power = |at: f64| one.watts + (two.watts - one.watts) * (at - one.at_ms) / gap;
        joules += f64::midpoint(power(start), power(end)) * (end - start) / 1000.0;
    }
    Figure::derived(joules, unknown.unit())
}

/// A request's own joules: what the GPU took meanwhile, less what it takes when idle, shared evenly with the requests that ran beside it.
pub fn above_idle(
    total: Figure,
    idle_watts: Figure,
    seconds: Figure,
    concurrent: Figure,
) -> Figure {
    let idle = idle_watts.times(seconds, Unit::Joules);
    total.minus(idle).over(concurrent, Unit::Joules)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(step_ms: f64, watts: impl Fn(f64) -> f64, until_ms: f64) -> Vec<PowerSample> {
        let mut samples = Vec::new();
        let mut at_ms = 0.0;
        while at_ms <= until_ms {
            samples.push(PowerSample {
                at_ms,
                watts: watts(at_ms),
            });
            at_ms += step_ms;
        }
        samples
    }

    fn joules(figure: Figure) -> f64 {
        figure.value().unwrap()
    }

    #[test]
    fn a_counter_is_read_twice() {
        assert_eq!(
            counted(Some(1_000), Some(3_500)),
            Figure::measured(2.5, Unit::Joules)
        );
        for (start, end) in [(None, Some(1)), (Some(1), None), (Some(2), Some(1))] {
            assert!(!counted(start, end).is_known());
        }
    }

    #[test]
    fn power_is_integrated_exactly_where_it_is_linear() {
        let flat = samples(100.0, |_| 140.0, 10_000.0);
        assert!((joules(integrated(&flat, 0.0, 10_000.0)) - 1_400.0).abs() < 1e-9);
        assert!((joules(integrated(&flat, 1_050.0, 2_030.0)) - 140.0 * 0.98).abs() < 1e-9);
        let rising = samples(200.0, |at| at / 10.0, 4_000.0);
        // The integral of t/10 W from 1 s to 3 s: (3000^2 - 1000^2) / 20 mJ.
        assert!((joules(integrated(&rising, 1_000.0, 3_000.0)) - 400.0).abs() < 1e-9);
    }

    #[test]
    fn thin_or_missing_samples_are_no_measurement() {
        let thin = samples(250.0, |_| 100.0, 5_000.0);
        let dense = samples(100.0, |_| 100.0, 5_000.0);
        let mut backwards = dense.clone();
        backwards.swap(10, 11);
        for (samples, from, to) in [
            (&thin, 0.0, 5_000.0),
            (&dense, 0.0, 5_001.0),
            (&dense, -1.0, 100.0),
            (&dense, 100.0, 100.0),
            (&backwards, 0.0, 5_000.0),
            (&Vec::new(), 0.0, 1.0),
        ] {
            assert!(!integrated(samples, from, to).is_known());
        }
    }

    #[test]
    fn idle_power_and_neighbours_are_taken_off() {
        let (total, idle) = (
            Figure::measured(1_400.0, Unit::Joules),
            Figure::configured(20.0, Unit::Watts),
        );
        let (seconds, two) = (
            Figure::measured(10.0, Unit::Seconds),
            Figure::measured(2.0, Unit::Count),
        );
        assert_eq!(above_idle(total, idle, seconds, two).value(), Some(600.0));
        let unknown = Figure::unknown(Unit::Watts);
        assert!(!above_idle(total, unknown, seconds, two).is_known());
    }
}
