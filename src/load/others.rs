//! What programs that have no part in a measurement use of the machine meanwhile.

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::many::sleep_until;
use super::{Lane, process};
use crate::measure::proxy::{CALM, DIRECT};

/// How long they are looked at to see whether they rest.
const LOOK: Duration = Duration::from_secs(1);

/// What they used up to a time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Others {
    at: Instant,
    /// Nanoseconds.
    cpu: u64,
}

impl Others {
    /// Up to now; `None` when the processes of a proxy are unknown, because their time would count as others'.
    pub(super) fn now(lanes: &[Lane]) -> Option<Self> {
        let mut ours = vec![std::process::id()];
        for lane in lanes.iter().filter(|lane| lane.name != DIRECT) {
            ours.extend(lane.processes.as_ref()?.all());
        }
        Some(Self {
            at: Instant::now(),
            cpu: process::others(&ours),
        })
    }

    /// Processor time in nanoseconds, and in how long.
    pub(super) fn between((before, after): (Self, Self)) -> (u64, Duration) {
        let cpu = after.cpu.saturating_sub(before.cpu);
        (cpu, after.at.saturating_duration_since(before.at))
    }
}

/// Whether so much processor time in so long disturbs nothing.
pub(super) fn calm(cpu: u64, elapsed: Duration) -> bool {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    #[expect(clippy::cast_precision_loss, reason = "a share is compared")]
    let used = cpu as f64 / 1e9 / cores as f64;
    used <= CALM * elapsed.as_secs_f64()
}

/// Waits until they rest for a moment, or patience ends; takes the time from it.
pub(super) fn wait(lanes: &[Lane], patience: &mut Duration, stop: &AtomicBool) {
    let stopped = || stop.load(Ordering::Relaxed);
    while !patience.is_zero() && !stopped() {
        let before = Others::now(lanes);
        sleep_until(Instant::now() + LOOK, &stopped);
        let Some((cpu, elapsed)) = before.zip(Others::now(lanes)).map(Others::between) else {
            return;
        };
        *patience = patience.saturating_sub(elapsed);
        if calm(cpu, elapsed) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Place, Processes};
    use super::*;

    #[test]
    fn a_share_of_the_machine_disturbs_not_a_share_of_the_time() {
        let cores = thread::available_parallelism().map_or(1, NonZero::get) as u64;
        let second = Duration::from_secs(1);
        assert!(calm(cores * 49_000_000, second));
        assert!(!calm(cores * 51_000_000, second));
        assert!(calm(cores * 51_000_000, 2 * second));
    }

    #[test]
    fn nothing_can_be_told_when_a_proxys_processes_are_unknown() {
        let place = Place::at("127.0.0.1:1".parse().unwrap());
        let lane = |name: &str, processes| Lane {
            name: name.to_owned(),
            place: place.clone(),
            processes,
        };
        let own = Processes::of_pid(std::process::id());
        assert!(Others::now(&[lane(DIRECT, None), lane("x", own.clone())]).is_some());
        assert!(Others::now(&[lane(DIRECT, None), lane("x", own), lane("y", None)]).is_none());
        let mut patience = Duration::from_secs(60);
        wait(&[lane("y", None)], &mut patience, &AtomicBool::new(false));
        assert_eq!(patience, Duration::from_secs(60));
    }
}
