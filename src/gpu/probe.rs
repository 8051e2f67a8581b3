//! One look at every source, in a thread of its own: whatever hangs, hangs there.

use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender};
use std::thread;
use std::time::Instant;

use super::inventory::{Inventory, Seen};
use super::nvml::Nvml;
use super::{Fixed, Settings, Source, SourceState, sysfs};
use crate::cluster::Gpu;

/// What the probing thread and those who steer it say to the one who waits.
#[derive(Debug)]
pub(super) enum Event {
    /// A source has answered.
    Seen(Seen),
    /// All of them have.
    Done,
    /// The probing thread has ended.
    Ended,
    /// A fresh look is wanted.
    Wanted,
    /// No more looks.
    Stop,
}

/// What is asked.
#[derive(Debug)]
enum Prober {
    Machine { nvml: Box<Nvml>, sysfs: PathBuf },
    Fixed { fixed: Fixed, last: Vec<Gpu> },
}

impl Prober {
    fn new(settings: &Settings) -> Self {
        match &settings.fixed {
            Some(fixed) => Self::Fixed {
                fixed: fixed.clone(),
                last: fixed.gpus().to_vec(),
            },
            None => Self::Machine {
                nvml: Box::new(Nvml::new(
                    settings.nvml_library.as_deref(),
                    &settings.sysfs,
                    &settings.procfs,
                )),
                sysfs: settings.sysfs.clone(),
            },
        }
    }

    /// Asks everything; what hangs most often comes last.
    fn look(&mut self, mut tell: impl FnMut(Seen)) {
        match self {
            Self::Fixed { fixed, last } => tell(again(fixed, last)),
            Self::Machine { nvml, sysfs } => {
                tell(sysfs::amd(sysfs));
                tell(sysfs::intel(sysfs));
                #[cfg(target_os = "macos")]
                tell(super::apple::look());
                tell(nvml.look(Instant::now()));
            }
        }
    }
}

/// The fixed inventory as it is now. A file that became wrong, perhaps because it is being written, leaves the GPUs as they were.
fn again(fixed: &Fixed, last: &mut Vec<Gpu>) -> Seen {
    match fixed.read() {
        Ok(gpus) => {
            last.clone_from(&gpus);
            Seen::gpus(Source::Fixed, gpus)
        }
        Err(error) => {
            let mut seen = Seen::state(Source::Fixed, SourceState::Failed);
            seen.status.detail = Some(error.message);
            seen.gpus.clone_from(last);
            seen
        }
    }
}

/// The sources of these settings, in the order in which they are told.
fn sources(settings: &Settings) -> Vec<Source> {
    if settings.fixed.is_some() {
        return vec![Source::Fixed];
    }
    let mut sources = vec![Source::Nvml, Source::Amdgpu, Source::Intel];
    if cfg!(target_os = "macos") {
        sources.push(Source::Apple);
    }
    sources
}

/// Whether these settings look for anything.
pub(super) fn looks(settings: &Settings) -> bool {
    settings.enabled || settings.fixed.is_some()
}

/// The inventory of settings that look for nothing.
pub(super) fn disabled() -> Inventory {
    Inventory::of([Seen::state(Source::Nvml, SourceState::Disabled)])
}

/// What every source told last.
#[derive(Debug)]
pub(super) struct Slots(Vec<Slot>);

#[derive(Debug)]
struct Slot {
    seen: Seen,
    /// Whether it has answered in this look.
    fresh: bool,
}

impl Slots {
    pub(super) fn new(settings: &Settings) -> Self {
        let pending = |source| Slot {
            seen: Seen::state(source, SourceState::Pending),
            fresh: false,
        };
        Self(sources(settings).into_iter().map(pending).collect())
    }

    /// A new look has begun.
    pub(super) fn begin(&mut self) {
        for slot in &mut self.0 {
            slot.fresh = false;
        }
    }

    pub(super) fn take(&mut self, seen: Seen) {
        let source = seen.status.source;
        if let Some(slot) = self
            .0
            .iter_mut()
            .find(|slot| slot.seen.status.source == source)
        {
            *slot = Slot { seen, fresh: true };
        }
    }

    /// Nobody waits any longer for what has not answered in this look.
    pub(super) fn give_up(&mut self) {
        for slot in self.0.iter_mut().filter(|slot| !slot.fresh) {
            slot.seen = slot.seen.clone().not_answering();
        }
    }

    pub(super) fn inventory(&self) -> Inventory {
        Inventory::of(self.0.iter().map(|slot| slot.seen.clone()))
    }
}

/// Starts the probing thread: a look for each order, until no more orders can come.
///
/// # Errors
/// The thread cannot be started.
pub(super) fn start(
    settings: &Settings,
    orders: Receiver<()>,
    events: Sender<Event>,
) -> io::Result<()> {
    let mut prober = Prober::new(settings);
    thread::Builder::new()
        .name("gpu-driver".to_owned())
        .spawn(move || {
            // Made before the prober moves in, so that the library is closed when the end is told.
            let ended = Ended(events);
            let Ended(events) = &ended;
            while orders.recv().is_ok() {
                // Nobody listens any more: the next order cannot come either.
                prober.look(|seen| drop(events.send(Event::Seen(seen))));
                drop(events.send(Event::Done));
            }
            drop(prober);
        })
        .map(drop)
}

/// Tells the end, also that by a panic.
struct Ended(Sender<Event>);

impl Drop for Ended {
    fn drop(&mut self) {
        // Nobody listens any more.
        drop(self.0.send(Event::Ended));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{GpuState, Vendor};

    #[test]
    fn a_source_that_does_not_answer_keeps_its_gpus_but_not_their_figures() {
        let mut slots = Slots::new(&Settings::default());
        assert!(!slots.inventory().known());
        let gpu = Gpu {
            used_bytes: Some(1),
            total_bytes: Some(2),
            ..Gpu::unmeasured(Vendor::Nvidia, "x")
        };
        slots.take(Seen::gpus(Source::Nvml, vec![gpu]));
        slots.take(Seen::gpus(Source::Amdgpu, Vec::new()));
        slots.take(Seen::gpus(Source::Intel, Vec::new()));
        assert!(slots.inventory().known());
        slots.begin();
        slots.take(Seen::gpus(Source::Amdgpu, Vec::new()));
        slots.take(Seen::gpus(Source::Intel, Vec::new()));
        slots.give_up();
        let inventory = slots.inventory();
        assert_eq!(inventory.sources[0].state, SourceState::NotAnswering);
        assert_eq!(inventory.sources[1].state, SourceState::NoGpus);
        let gpu = &inventory.gpus[0];
        assert_eq!(
            (gpu.state, gpu.total_bytes, gpu.used_bytes),
            (GpuState::Error, Some(2), None)
        );
    }

    #[test]
    fn a_file_that_became_wrong_leaves_the_gpus_as_they_were() {
        let fixed = Fixed::new("8GiB").unwrap();
        let mut last = Vec::new();
        let seen = again(&fixed, &mut last);
        assert_eq!((seen.status.state, last.len()), (SourceState::Ok, 1));
    }
}
