//! Real or virtual time, and waits that end early when the client leaves.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Where virtual time starts: 2026-01-01T00:00:00Z, so that time stamps of a virtual run are the same every time.
const VIRTUAL_START: Duration = Duration::from_secs(1_767_225_600);

/// The clock of a fleet. Clones share their time.
///
/// On a virtual clock nobody sleeps: a wait moves the clock to its end and returns. Socket I/O stays real.
#[derive(Debug, Clone)]
pub struct Clock {
    wall_start: SystemTime,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Real(Instant),
    Virtual(Arc<Mutex<Duration>>),
}

impl Clock {
    /// A clock that runs as the machine's does.
    pub fn real() -> Self {
        Self {
            wall_start: SystemTime::now(),
            kind: Kind::Real(Instant::now()),
        }
    }

    /// A clock that moves only when somebody waits or calls [`Clock::advance`].
    pub fn virtual_time() -> Self {
        Self {
            wall_start: SystemTime::UNIX_EPOCH + VIRTUAL_START,
            kind: Kind::Virtual(Arc::default()),
        }
    }

    /// Time since the clock was made.
    pub fn now(&self) -> Duration {
        match &self.kind {
            Kind::Real(start) => start.elapsed(),
            Kind::Virtual(now) => *lock(now),
        }
    }

    /// The date and time that `at` (as given by [`Clock::now`]) stands for.
    pub fn wall(&self, at: Duration) -> SystemTime {
        self.wall_start.checked_add(at).unwrap_or(self.wall_start)
    }

    /// Moves a virtual clock; a real one takes no notice.
    pub fn advance(&self, by: Duration) {
        if let Kind::Virtual(now) = &self.kind {
            let mut now = lock(now);
            *now = now.saturating_add(by);
        }
    }

    /// Waits until the clock shows `until`. False when `cancel` came first.
    pub fn wait_until(&self, until: Duration, cancel: &Cancel) -> bool {
        match &self.kind {
            Kind::Real(start) => {
                let remaining = until.saturating_sub(start.elapsed());
                !cancel.wait_at_most(remaining)
            }
            Kind::Virtual(now) => {
                if cancel.is_cancelled() {
                    return false;
                }
                let mut now = lock(now);
                *now = (*now).max(until);
                true
            }
        }
    }
}

/// Told once, for ever: whoever waited for this exchange may stop.
#[derive(Debug, Default)]
pub struct Cancel {
    cancelled: Mutex<bool>,
    changed: Condvar,
}

impl Cancel {
    /// Ends every present and future wait.
    pub fn cancel(&self) {
        *lock(&self.cancelled) = true;
        self.changed.notify_all();
    }

    /// Whether [`Cancel::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        *lock(&self.cancelled)
    }

    /// Waits for the cancellation, at most `limit`; true when it came.
    pub fn wait_at_most(&self, limit: Duration) -> bool {
        let guard = lock(&self.cancelled);
        let (cancelled, _) = self
            .changed
            .wait_timeout_while(guard, limit, |cancelled| !*cancelled)
            .unwrap_or_else(PoisonError::into_inner);
        *cancelled
    }

    /// Waits for the cancellation, without limit: what a hanging node does.
    pub fn wait(&self) {
        let guard = lock(&self.cancelled);
        let _cancelled = self
            .changed
            .wait_while(guard, |cancelled| !*cancelled)
            .unwrap_or_else(PoisonError::into_inner);
    }
}

/// A panic in another thread leaves plain numbers and flags behind, which stay usable.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_waits_take_no_real_time() {
        let clock = Clock::virtual_time();
        let started = Instant::now();
        assert!(clock.wait_until(Duration::from_secs(3600), &Cancel::default()));
        assert_eq!(clock.now(), Duration::from_secs(3600));
        assert!(started.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn virtual_time_never_goes_back() {
        let clock = Clock::virtual_time();
        clock.advance(Duration::from_secs(10));
        assert!(clock.wait_until(Duration::from_secs(5), &Cancel::default()));
        assert_eq!(clock.now(), Duration::from_secs(10));
    }

    #[test]
    fn a_cancelled_wait_says_so() {
        let cancel = Cancel::default();
        cancel.cancel();
        assert!(!Clock::real().wait_until(Duration::from_secs(3600), &cancel));
        assert!(!Clock::virtual_time().wait_until(Duration::from_secs(1), &cancel));
    }
}
