//! What the GPU of a simulated node does with the requests on it: hidden from whoever schedules.
//!
//! Reading a prompt keeps the whole GPU busy; answers of one model are decoded together, because each step reads the weights once for all of
//! them; so there are as many *streams* as there are prompts being read and models that decode, and each gets its part of the GPU. A model in
//! main memory shares nothing with the GPU. Decoding slows down with the length of what is there already, because its keys and values are
//! read as well: by the bytes of them over the bytes of the weights.

use std::time::Duration;

/// Part of a nanosecond that counts as nothing left.
const NOTHING_LEFT: f64 = 1e-9;

/// What a request does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Prefill,
    Decode,
}

/// A request at work.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) request: usize,
    /// Index of its model.
    pub(super) model: usize,
    pub(super) on_gpu: bool,
    pub(super) phase: Phase,
    /// Seconds of the phase that are left, if it had the GPU for itself.
    pub(super) left: f64,
    /// Seconds of the phase after this one.
    pub(super) next: f64,
}

/// The requests at work on one node.
#[derive(Debug, Clone, Default)]
pub(super) struct Work {
    jobs: Vec<Job>,
    at: Duration,
    /// Time with at least one request.
    busy: Duration,
    /// Grows with every change, so that an end that was computed before one is known to be out of date.
    pub(super) epoch: u64,
}

impl Work {
    /// A request begins.
    pub(super) fn begin(&mut self, now: Duration, job: Job) {
        self.advance(now);
        self.jobs.push(job);
        self.epoch += 1;
    }

    /// Phases that are over at `now`, in the order of their requests; a request whose prefill is over decodes from here on.
    pub(super) fn ended(&mut self, now: Duration) -> Vec<(usize, Phase)> {
        self.advance(now);
        let mut ended = Vec::new();
        for job in &mut self.jobs {
            if job.left <= NOTHING_LEFT {
                ended.push((job.request, job.phase));
                if job.phase == Phase::Prefill && job.next > 0.0 {
                    job.phase = Phase::Decode;
                    job.left = job.next;
                    job.next = 0.0;
                } else if job.phase == Phase::Prefill {
                    ended.push((job.request, Phase::Decode));
                    job.phase = Phase::Decode;
                }
            }
        }
        self.jobs.retain(|job| job.left > NOTHING_LEFT);
        ended.sort_by_key(|(request, phase)| (*request, *phase == Phase::Decode));
        self.epoch += 1;
        ended
    }

    /// Everything stops.
    pub(super) fn clear(&mut self, now: Duration) -> Vec<usize> {
        self.advance(now);
        self.epoch += 1;
        self.jobs.drain(..).map(|job| job.request).collect()
    }

    /// When the next phase ends if nothing changes.
    pub(super) fn next_end(&self) -> Option<Duration> {
        let seconds = self
            .jobs
            .iter()
            .map(|job| job.left / self.rate(job))
            .min_by(f64::total_cmp)?;
        // Rounded up to the next nanosecond: an end that comes too early would find a little left.
        Some(self.at + Duration::from_secs_f64(seconds.max(0.0)) + Duration::from_nanos(1))
    }

    /// Time so far with at least one request.
    pub(super) fn busy(&self) -> Duration {
        self.busy
    }

    /// The part of the GPU that a request gets.
    fn rate(&self, job: &Job) -> f64 {
        if !job.on_gpu {
            return 1.0;
        }
        let prompts = self
            .jobs
            .iter()
            .filter(|other| other.on_gpu && other.phase == Phase::Prefill)
            .count();
        let mut decoding: Vec<usize> = self
            .jobs
            .iter()
            .filter(|other| other.on_gpu && other.phase == Phase::Decode)
            .map(|other| other.model)
            .collect();
        decoding.sort_unstable();
        decoding.dedup();
        let streams = u32::try_from(prompts + decoding.len()).unwrap_or(1).max(1);
        1.0 / f64::from(streams)
    }

    fn advance(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at);
        if !self.jobs.is_empty() {
            self.busy += passed;
        }
        let rates: Vec<f64> = self.jobs.iter().map(|job| self.rate(job)).collect();
        for (job, rate) in self.jobs.iter_mut().zip(rates) {
            job.left -= rate * passed.as_secs_f64();
        }
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(request: usize, model: usize, left: f64, next: f64) -> Job {
        Job {
            request,
            model,
            on_gpu: true,
            phase: Phase::Prefill,
            left,
            next,
        }
    }

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn near(time: Duration, wanted: f64) -> bool {
        (time.as_secs_f64() - wanted).abs() < 1e-6
    }

    #[test]
    fn two_prompts_share_the_gpu_and_answers_of_one_model_do_not() {
        let mut work = Work::default();
        work.begin(Duration::ZERO, job(0, 7, 1.0, 2.0));
        work.begin(Duration::ZERO, job(1, 7, 1.0, 2.0));
        let end = work.next_end().unwrap();
        assert!(near(end, 2.0), "{end:?}");
        assert_eq!(work.ended(end), [(0, Phase::Prefill), (1, Phase::Prefill)]);
        let end = work.next_end().unwrap();
        assert!(near(end, 4.0), "{end:?}");
        assert_eq!(work.ended(end), [(0, Phase::Decode), (1, Phase::Decode)]);
        assert!(near(work.busy(), 4.0));
    }

    #[test]
    fn a_prompt_slows_the_answers_of_another_model() {
        let mut work = Work::default();
        work.begin(Duration::ZERO, job(0, 1, 0.0, 3.0));
        work.ended(Duration::ZERO);
        work.begin(seconds(1.0), job(1, 2, 1.0, 0.0));
        let end = work.next_end().unwrap();
        assert!(near(end, 3.0), "{end:?}");
        assert_eq!(work.ended(end), [(1, Phase::Prefill), (1, Phase::Decode)]);
        assert!(near(work.next_end().unwrap(), 4.0));
    }

    #[test]
    fn a_model_in_main_memory_shares_nothing() {
        let mut work = Work::default();
        work.begin(Duration::ZERO, job(0, 1, 1.0, 0.0));
        work.begin(
            Duration::ZERO,
            Job {
                on_gpu: false,
                ..job(1, 2, 1.0, 0.0)
            },
        );
        assert!(near(work.next_end().unwrap(), 1.0));
        assert_eq!(work.clear(seconds(0.5)), [0, 1]);
        assert_eq!(work.next_end(), None);
    }
}
