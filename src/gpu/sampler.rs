//! Looks at the GPUs again and again beside the requests, or once with a limit.
//!
//! The thread `gpu` only waits: for the probing thread, for the next look's time, for a wish, for the end. So neither a driver that
//! hangs nor a stop is ever waited for without a limit.

use std::fmt;
use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::probe::{self, Event, Slots};
use super::{Inventory, Settings};

/// How long a look may take before its sources count as not answering. Starting a driver that is not kept loaded takes a second for
/// each GPU.
const PATIENCE: Duration = Duration::from_secs(5);
/// Least time between two looks at drivers, however many wishes there are. A fixed inventory may be read at every wish.
const LEAST_GAP: Duration = Duration::from_secs(1);
/// How long a stop waits for the probing thread to close its library …
const CLOSE_LIMIT: Duration = Duration::from_millis(200);
/// … and [`Sampler::stop`] for all of it.
const STOP_LIMIT: Duration = Duration::from_millis(400);

/// Takes each inventory in which other GPUs or states are than in the one before, the first included. Called from the thread `gpu`; it
/// must be quick.
pub type OnChange = Box<dyn Fn(&Inventory) + Send>;

/// One look at the GPUs, within about five seconds; what has not answered by then says so in its state.
pub fn look(settings: &Settings) -> Inventory {
    if !probe::looks(settings) {
        return probe::disabled();
    }
    let (orders, received) = mpsc::channel();
    let (sender, events) = mpsc::channel();
    let mut slots = Slots::new(settings);
    let started = probe::start(settings, received, sender);
    // The thread that would hear the order may not have started.
    if started.is_ok() && orders.send(()).is_ok() {
        let deadline = Instant::now() + PATIENCE;
        while let Ok(event) =
            events.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            match event {
                Event::Seen(seen) => slots.take(seen),
                _ => break,
            }
        }
    }
    drop(orders);
    close(&events);
    slots.give_up();
    slots.inventory()
}

/// The thread `gpu` and what it found. Dropping it stops it.
pub struct Sampler {
    shared: Arc<Shared>,
    events: Sender<Event>,
    /// Least time between looks.
    gap: Duration,
}

struct Shared {
    state: Mutex<State>,
    /// Rung after each look, when one is given up, and at the end.
    bell: Condvar,
}

struct State {
    current: Arc<Inventory>,
    /// Looks that were begun, and those that ended.
    begun: u64,
    ended: u64,
    /// When the last one ended.
    at: Option<Instant>,
    /// A look is under way that is no longer waited for.
    hanging: bool,
    /// There will be no more looks.
    over: bool,
}

impl fmt::Debug for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sampler").finish_non_exhaustive()
    }
}

impl Sampler {
    /// Starts looking: every `interval`, or once without one.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(
        settings: &Settings,
        interval: Option<Duration>,
        on_change: OnChange,
    ) -> io::Result<Self> {
        let (events, received) = mpsc::channel();
        let looks = probe::looks(settings);
        let slots = Slots::new(settings);
        let first = if looks {
            slots.inventory()
        } else {
            probe::disabled()
        };
        let sampler = Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State {
                    current: Arc::new(first),
                    begun: 0,
                    ended: 0,
                    at: None,
                    hanging: false,
                    over: !looks,
                }),
                bell: Condvar::new(),
            }),
            gap: if settings.fixed.is_some() {
                Duration::ZERO
            } else {
                LEAST_GAP
            },
            events: events.clone(),
        };
        if !looks {
            on_change(&sampler.current());
            return Ok(sampler);
        }
        let (orders, ordered) = mpsc::channel();
        probe::start(settings, ordered, events)?;
        let keeper = Keeper {
            shared: Arc::clone(&sampler.shared),
            orders: Some(orders),
            slots,
            interval,
            gap: sampler.gap,
            on_change,
        };
        thread::Builder::new()
            .name("gpu".to_owned())
            .stack_size(128 * 1024)
            .spawn(move || keeper.keep(&received))?;
        Ok(sampler)
    }

    /// What the last look found; never waits for a driver.
    pub fn current(&self) -> Arc<Inventory> {
        Arc::clone(&self.shared.state().current)
    }

    /// What a look that begins now finds, where it takes no longer than `limit` and the last one is not too recent; else what is
    /// known.
    pub fn fresh(&self, limit: Duration) -> Arc<Inventory> {
        let state = self.shared.state();
        let recent = state.at.is_some_and(|at| at.elapsed() < self.gap);
        if recent || state.hanging || state.over {
            return Arc::clone(&state.current);
        }
        let wanted = state.begun;
        // The thread has ended: what is known is all that there is.
        if self.events.send(Event::Wanted).is_ok() {
            let waits = |state: &mut State| {
                (state.begun <= wanted || state.ended < state.begun)
                    && !state.hanging
                    && !state.over
            };
            let (state, _) = self
                .shared
                .bell
                .wait_timeout_while(state, limit, waits)
                .unwrap_or_else(PoisonError::into_inner);
            return Arc::clone(&state.current);
        }
        Arc::clone(&state.current)
    }

    /// Waits for the first look, at most `limit`.
    pub fn wait_for_first(&self, limit: Duration) {
        let waits = |state: &mut State| state.ended == 0 && !state.hanging && !state.over;
        let state = self.shared.state();
        drop(self.shared.bell.wait_timeout_while(state, limit, waits));
    }

    /// Ends the looks. A driver that hangs is not waited for.
    pub fn stop(&self) {
        if self.events.send(Event::Stop).is_err() {
            return;
        }
        let state = self.shared.state();
        drop(
            self.shared
                .bell
                .wait_timeout_while(state, STOP_LIMIT, |state| !state.over),
        );
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // The data is replaced whole, so that a panic elsewhere cannot have left it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The life of the thread `gpu`.
struct Keeper {
    shared: Arc<Shared>,
    /// To the probing thread, which ends without it.
    orders: Option<Sender<()>>,
    slots: Slots,
    interval: Option<Duration>,
    gap: Duration,
    on_change: OnChange,
}

impl Keeper {
    fn keep(mut self, events: &Receiver<Event>) {
        let mut due = Instant::now();
        let mut wanted = false;
        // When the look that is under way is given up; `None` afterwards, and while there is none.
        let mut deadline = None;
        let mut looking = false;
        let mut told: Option<Arc<Inventory>> = None;
        loop {
            let now = Instant::now();
            let rested = self.shared.state().at.is_none_or(|at| now >= at + self.gap);
            if !looking && (now >= due || (wanted && rested)) {
                self.begin();
                (looking, wanted) = (true, false);
                deadline = Some(now + PATIENCE);
                due = now + self.interval.unwrap_or_default();
            }
            let until = if looking { deadline } else { Some(due) };
            match next(events, until) {
                Some(Event::Seen(seen)) => self.slots.take(seen),
                Some(Event::Done) => {
                    (looking, deadline) = (false, None);
                    self.publish(&mut told, false);
                    if self.interval.is_none() {
                        break;
                    }
                }
                Some(Event::Wanted) => wanted = true,
                Some(Event::Stop) => break,
                Some(Event::Ended) => {
                    self.slots.give_up();
                    self.publish(&mut told, false);
                    break;
                }
                None if looking && deadline.is_some() => {
                    deadline = None;
                    self.slots.give_up();
                    self.publish(&mut told, true);
                }
                None => {}
            }
        }
        self.close(events);
    }

    fn begin(&mut self) {
        self.slots.begin();
        self.shared.state().begun += 1;
        if let Some(orders) = &self.orders {
            // A probing thread that is gone tells its end as an event.
            let _ = orders.send(());
        }
    }

    /// Makes known what was found, or that it is no longer waited for.
    fn publish(&self, told: &mut Option<Arc<Inventory>>, hanging: bool) {
        let inventory = Arc::new(self.slots.inventory());
        // Before anybody who waits for the look goes on.
        if told.as_ref().is_none_or(|told| !told.same_gpus(&inventory)) {
            (self.on_change)(&inventory);
            *told = Some(Arc::clone(&inventory));
        }
        let mut state = self.shared.state();
        state.current = inventory;
        state.hanging = hanging;
        if !hanging {
            state.ended = state.begun;
            state.at = Some(Instant::now());
        }
        drop(state);
        self.shared.bell.notify_all();
    }

    /// Lets the probing thread close its library, if it still can.
    fn close(&mut self, events: &Receiver<Event>) {
        self.orders = None;
        close(events);
        self.shared.state().over = true;
        self.shared.bell.notify_all();
    }
}

/// Waits until the probing thread, which gets no more orders, has closed its library; not for one that hangs.
fn close(events: &Receiver<Event>) {
    let deadline = Instant::now() + CLOSE_LIMIT;
    while !matches!(
        next(events, Some(deadline)),
        None | Some(Event::Ended | Event::Stop)
    ) {}
}

/// The next event; `None` when none comes until then.
fn next(events: &Receiver<Event>, until: Option<Instant>) -> Option<Event> {
    let Some(until) = until else {
        return Some(events.recv().unwrap_or(Event::Stop));
    };
    match events.recv_timeout(until.saturating_duration_since(Instant::now())) {
        Ok(event) => Some(event),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => Some(Event::Stop),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::gpu::{Fixed, SourceState};

    fn fixed(text: &str) -> Settings {
        Settings {
            fixed: Some(Fixed::new(text).unwrap()),
            ..Settings::default()
        }
    }

    /// Counts how often a change was told.
    fn counting() -> (Arc<AtomicUsize>, OnChange) {
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        let on_change: OnChange = Box::new(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        (count, on_change)
    }

    #[test]
    fn nothing_is_looked_for_when_gpus_are_switched_off() {
        let settings = Settings::disabled();
        assert!(look(&settings).disabled());
        let (told, on_change) = counting();
        let sampler = Sampler::start(&settings, Some(Duration::from_millis(1)), on_change).unwrap();
        assert!(sampler.fresh(Duration::from_secs(5)).disabled());
        assert_eq!(told.load(Ordering::Relaxed), 1);
        sampler.stop();
    }

    #[test]
    fn the_flag_goes_before_the_switch() {
        let settings = Settings {
            enabled: false,
            ..fixed("8GiB")
        };
        assert_eq!(look(&settings).gpus.len(), 1);
    }

    #[test]
    fn a_wish_is_a_fresh_look_and_only_changes_are_told() {
        let file = std::env::temp_dir().join(format!("gpurouter-sampler-{}", std::process::id()));
        std::fs::write(&file, "[{\"total_bytes\": 1000, \"used_bytes\": 1}]").unwrap();
        let (told, on_change) = counting();
        let settings = fixed(file.to_str().unwrap());
        let sampler =
            Sampler::start(&settings, Some(Duration::from_secs(3600)), on_change).unwrap();
        sampler.wait_for_first(Duration::from_secs(30));
        assert_eq!(sampler.current().gpus[0].used_bytes, Some(1));
        std::fs::write(&file, "[{\"total_bytes\": 1000, \"used_bytes\": 2}]").unwrap();
        let seen = sampler.fresh(Duration::from_secs(30));
        assert_eq!(seen.gpus[0].used_bytes, Some(2));
        assert_eq!(told.load(Ordering::Relaxed), 1, "a figure is no change");
        std::fs::write(&file, "[{").unwrap();
        let seen = sampler.fresh(Duration::from_secs(30));
        assert_eq!(seen.sources[0].state, SourceState::Failed);
        assert_eq!(seen.gpus[0].used_bytes, Some(2), "the last good one");
        assert_eq!(told.load(Ordering::Relaxed), 2);
        sampler.stop();
        assert_eq!(sampler.fresh(Duration::from_secs(30)).gpus.len(), 1);
        drop(std::fs::remove_file(&file));
    }

    #[test]
    fn without_an_interval_there_is_one_look() {
        let (told, on_change) = counting();
        let sampler = Sampler::start(&fixed("8GiB"), None, on_change).unwrap();
        sampler.wait_for_first(Duration::from_secs(30));
        assert_eq!(sampler.current().gpus.len(), 1);
        assert_eq!(told.load(Ordering::Relaxed), 1);
        assert_eq!(sampler.fresh(Duration::from_secs(30)).gpus.len(), 1);
    }
}
