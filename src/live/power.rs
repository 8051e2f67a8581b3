//! What the GPUs of this machine take meanwhile: their energy counters, or their power sampled often enough to be integrated.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::send::millis;
use crate::cluster::Gpu;
use crate::gpu::{self, Inventory, Sampler};
use crate::measure::{Figure, PowerSample, Unit, above_idle, counted, integrated, mean};

/// Between two looks at the drivers. Twice as often as the slowest sampling that may be integrated, so that one late look does no harm.
const INTERVAL: Duration = Duration::from_millis(100);
/// Between two looks whether there was one.
const POLL: Duration = Duration::from_millis(10);
/// How long the GPUs are watched before the first request.
pub const IDLE_TIME: Duration = Duration::from_secs(3);
/// How long a look may take after a request's end.
const LATE: Duration = Duration::from_millis(500);
/// How long the first look may take.
const FIRST: Duration = Duration::from_secs(5);
/// Most samples that are kept: a quarter of an hour, longer than any time-out.
const KEPT: usize = 9_000;

/// All GPUs together at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sample {
    at_ms: f64,
    watts: Option<f64>,
    millijoules: Option<f64>,
}

impl Sample {
    /// The sums; none where one GPU does not say.
    fn of(gpus: &[Gpu], at_ms: f64) -> Self {
        let sum = |of: fn(&Gpu) -> Option<f64>| -> Option<f64> {
            gpus.iter()
                .map(of)
                .sum::<Option<f64>>()
                .filter(|_| !gpus.is_empty())
        };
        Self {
            at_ms,
            watts: sum(|gpu| gpu.power_w),
            millijoules: sum(|gpu| gpu.energy_j.map(|joules| joules * 1000.0)),
        }
    }
}

/// Samples the GPUs until it is dropped.
#[derive(Debug)]
pub struct Meter {
    start: Instant,
    samples: Arc<Mutex<VecDeque<Sample>>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    names: Vec<String>,
    idle: Figure,
}

impl Meter {
    /// Begins to sample; `None` when no GPU tells its power or energy.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(settings: &gpu::Settings) -> io::Result<Option<Self>> {
        let probe = Sampler::start(settings, Some(INTERVAL), Box::new(|_| {}))?;
        probe.wait_for_first(FIRST);
        let first = probe.current();
        let told = Sample::of(&first.gpus, 0.0);
        if told.watts.is_none() && told.millijoules.is_none() {
            return Ok(None);
        }
        let start = Instant::now();
        let (samples, over) = (
            Arc::new(Mutex::new(VecDeque::new())),
            Arc::new(AtomicBool::new(false)),
        );
        let (shared, end) = (Arc::clone(&samples), Arc::clone(&over));
        let thread = thread::Builder::new()
            .name("power".to_owned())
            .spawn(move || watch(&probe, start, &shared, &end))?;
        Ok(Some(Self {
            start,
            samples,
            over,
            thread: Some(thread),
            names: first.gpus.iter().map(|gpu| gpu.name.clone()).collect(),
            idle: Figure::unknown(Unit::Watts),
        }))
    }

    /// Watches the GPUs at rest, and remembers what they take.
    pub fn rest(&mut self) {
        thread::sleep(IDLE_TIME);
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let watts: Option<Vec<f64>> = samples.iter().map(|sample| sample.watts).collect();
        self.idle = watts
            .and_then(|watts| mean(&watts))
            .map_or(Figure::unknown(Unit::Watts), |watts| {
                Figure::measured(watts, Unit::Watts)
            });
    }

    /// The power at rest.
    pub fn idle(&self) -> Figure {
        self.idle
    }

    /// The GPUs.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Milliseconds since it began.
    pub(super) fn now(&self) -> f64 {
        millis(self.start.elapsed())
    }

    /// Joules of a request that was alone, above those at rest; waits for the sample after its end.
    pub(super) fn energy(&self, from_ms: f64, to_ms: f64) -> Option<f64> {
        let deadline = Instant::now() + LATE;
        loop {
            let samples: Vec<Sample> = {
                let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
                samples.iter().copied().collect()
            };
            if samples.last().is_some_and(|last| last.at_ms >= to_ms) {
                let seconds = Figure::measured((to_ms - from_ms) / 1000.0, Unit::Seconds);
                let one = Figure::measured(1.0, Unit::Count);
                return above_idle(taken(&samples, from_ms, to_ms), self.idle, seconds, one)
                    .value();
            }
            if Instant::now() > deadline {
                return None;
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic was told when it happened.
            let _ = thread.join();
        }
    }
}

fn watch(probe: &Sampler, start: Instant, samples: &Mutex<VecDeque<Sample>>, over: &AtomicBool) {
    let mut last: Option<Arc<Inventory>> = None;
    while !over.load(Ordering::Relaxed) {
        let now = probe.current();
        if !last.as_ref().is_some_and(|last| Arc::ptr_eq(last, &now)) {
            let mut kept = samples.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() == KEPT {
                kept.pop_front();
            }
            kept.push_back(Sample::of(&now.gpus, millis(start.elapsed())));
            last = Some(now);
        }
        thread::sleep(POLL);
    }
    probe.stop();
}

/// Joules in between: from the counters where all GPUs have one, else by integrating their power.
fn taken(samples: &[Sample], from_ms: f64, to_ms: f64) -> Figure {
    let reading = |at| read(samples, at);
    let by_counter = counted(reading(from_ms), reading(to_ms));
    if by_counter.is_known() {
        return by_counter;
    }
    let power: Option<Vec<PowerSample>> = samples
        .iter()
        .map(|sample| {
            sample.watts.map(|watts| PowerSample {
                at_ms: sample.at_ms,
                watts,
            })
        })
        .collect();
    power.map_or(Figure::unknown(Unit::Joules), |power| {
        integrated(&power, from_ms, to_ms)
    })
}

/// The counter at a moment between two samples.
fn read(samples: &[Sample], at_ms: f64) -> Option<u64> {
    let after = samples.iter().position(|sample| sample.at_ms >= at_ms)?;
    let (one, two) = (samples.get(after.checked_sub(1)?)?, samples.get(after)?);
    let (low, high) = (one.millijoules?, two.millijoules?);
    let share = (at_ms - one.at_ms) / (two.at_ms - one.at_ms).max(f64::MIN_POSITIVE);
    let value = low + (high - low) * share;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a counter of millijoules"
    )]
    (value >= 0.0).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(counter: bool) -> Vec<Sample> {
        (0..100)
            .map(|step| {
                let at_ms = f64::from(step) * 100.0;
                Sample {
                    at_ms,
                    watts: Some(140.0),
                    millijoules: counter.then_some(at_ms * 150.0),
                }
            })
            .collect()
    }

    #[test]
    fn a_counter_goes_before_integrated_power() {
        let joules = |counter| taken(&samples(counter), 1_050.0, 3_050.0).value().unwrap();
        assert!((joules(true) - 300.0).abs() < 0.01);
        assert!((joules(false) - 280.0).abs() < 0.01);
        assert!(!taken(&samples(true), 1_050.0, 99_000.0).is_known());
    }

    #[test]
    fn a_gpu_that_does_not_say_makes_the_sum_unknown() {
        let mut gpu = Gpu::unmeasured(crate::cluster::Vendor::Nvidia, "one");
        gpu.power_w = Some(20.0);
        let silent = Gpu::unmeasured(crate::cluster::Vendor::Nvidia, "two");
        assert_eq!(
            Sample::of(&[gpu.clone(), gpu.clone()], 0.0).watts,
            Some(40.0)
        );
        assert_eq!(Sample::of(&[gpu, silent], 0.0).watts, None);
        assert_eq!(Sample::of(&[], 0.0).watts, None);
    }
}
