//! What was found, and in which state each source of it is.

use serde::Serialize;

use crate::cluster::{Gpu, GpuState};

/// A place that knows about GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// NVIDIA's management library.
    Nvml,
    /// AMD's kernel driver.
    Amdgpu,
    /// Intel's kernel drivers (xe, i915).
    Intel,
    /// macOS.
    Apple,
    /// `--gpus`.
    Fixed,
}

/// What a source could say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceState {
    /// It tells GPUs.
    Ok,
    /// It answers, and there is none.
    NoGpus,
    /// Its library is not there.
    NoLibrary,
    /// The library is there, the kernel's driver is not loaded.
    NoDriver,
    /// Library and kernel module are of different versions: the driver was updated and is still running.
    DriverMismatch,
    /// This user or container may not use the devices.
    NoPermission,
    /// It did not answer in time.
    NotAnswering,
    /// It failed in another way.
    Failed,
    /// The configuration switches GPUs off.
    Disabled,
    /// It has not been asked yet.
    Pending,
}

/// A source and its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SourceStatus {
    /// Which one.
    pub source: Source,
    /// What it could say.
    pub state: SourceState,
    /// Its own words, where it failed.
    pub detail: Option<String>,
    /// PCI bus ids of GPUs of its vendor that are in the machine, although it tells none.
    pub unserved: Vec<String>,
}

impl SourceStatus {
    /// A source in that state, with nothing to add.
    pub(super) fn new(source: Source, state: SourceState) -> Self {
        Self {
            source,
            state,
            detail: None,
            unserved: Vec::new(),
        }
    }
}

/// What one source told.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    pub(super) status: SourceStatus,
    pub(super) gpus: Vec<Gpu>,
}

impl Seen {
    pub(super) fn state(source: Source, state: SourceState) -> Self {
        Self {
            status: SourceStatus::new(source, state),
            gpus: Vec::new(),
        }
    }

    /// These GPUs; none is a state of its own.
    pub(super) fn gpus(source: Source, gpus: Vec<Gpu>) -> Self {
        let state = if gpus.is_empty() {
            SourceState::NoGpus
        } else {
            SourceState::Ok
        };
        Self {
            status: SourceStatus::new(source, state),
            gpus,
        }
    }

    /// The source no longer answers: what was measured is forgotten, which GPUs there are is not.
    pub(super) fn not_answering(self) -> Self {
        let cause = "the driver does not answer";
        Self {
            status: SourceStatus {
                state: SourceState::NotAnswering,
                detail: None,
                ..self.status
            },
            gpus: self
                .gpus
                .into_iter()
                .map(|gpu| gpu.failed(GpuState::Error, cause))
                .collect(),
        }
    }
}

/// The GPUs of this machine, in PCI bus order, and the state of every source that was asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Inventory {
    /// The GPUs; those that no longer answer are among them.
    pub gpus: Vec<Gpu>,
    /// The sources, in the order in which they are asked.
    pub sources: Vec<SourceStatus>,
}

impl Inventory {
    /// Puts together what the sources told. A fixed inventory keeps its order; probed GPUs are sorted by PCI bus id.
    pub(super) fn of(seen: impl IntoIterator<Item = Seen>) -> Self {
        let (mut gpus, mut sources) = (Vec::new(), Vec::new());
        for seen in seen {
            gpus.extend(seen.gpus);
            sources.push(seen.status);
        }
        // A stable sort: GPUs without a bus id come last, in the order in which they were told.
        gpus.sort_by(|a, b| {
            let place = |gpu: &Gpu| (gpu.pci_bus_id.is_none(), gpu.pci_bus_id.clone());
            place(a).cmp(&place(b))
        });
        for (index, gpu) in (0..).zip(&mut gpus) {
            gpu.index = index;
        }
        Self { gpus, sources }
    }

    /// Whether somebody has looked at all.
    pub fn known(&self) -> bool {
        let pending = |status: &SourceStatus| status.state == SourceState::Pending;
        !self.sources.iter().any(pending)
    }

    /// Whether GPUs are switched off.
    pub fn disabled(&self) -> bool {
        let disabled = |status: &SourceStatus| status.state == SourceState::Disabled;
        self.sources.iter().any(disabled)
    }

    /// The only GPU that a model server here can mean: the one with memory of a known size, where there is exactly one. Integrated
    /// graphics without figures of their own do not count.
    pub fn only_gpu(&self) -> Option<&Gpu> {
        let mut sized = self.gpus.iter().filter(|gpu| gpu.total_bytes.is_some());
        sized.next().filter(|_| sized.next().is_none())
    }

    /// Whether the same GPUs are there in the same states, whatever was measured.
    pub fn same_gpus(&self, other: &Self) -> bool {
        let states = |inventory: &Self| -> Vec<SourceState> {
            inventory
                .sources
                .iter()
                .map(|source| source.state)
                .collect()
        };
        let same = |a: &Gpu, b: &Gpu| {
            (&a.uuid, &a.name, a.state, a.total_bytes) == (&b.uuid, &b.name, b.state, b.total_bytes)
        };
        states(self) == states(other)
            && self.gpus.len() == other.gpus.len()
            && self.gpus.iter().zip(&other.gpus).all(|(a, b)| same(a, b))
    }

    /// One line for the log: the GPUs, or why there is none.
    pub fn summary(&self) -> String {
        match self.gpus.len() {
            0 => match self.missing() {
                Some(advice) => format!("{}; {}", advice.text, advice.cure),
                None if self.disabled() => {
                    "GPUs are switched off (gpu.enabled): CPU-only".to_owned()
                }
                None => "the GPUs have not been looked at yet".to_owned(),
            },
            1 => format!("1 GPU: {}", self.names()),
            count => format!("{count} GPUs: {}", self.names()),
        }
    }

    fn names(&self) -> String {
        let told: Vec<String> = self.gpus.iter().map(one_line).collect();
        told.join(", ")
    }
}

fn one_line(gpu: &Gpu) -> String {
    let size = gpu
        .total_bytes
        .map_or_else(|| "memory unknown".to_owned(), gib);
    match (&gpu.state, &gpu.cause) {
        (GpuState::Ok, _) => format!("{} ({size})", gpu.name),
        (GpuState::Lost, _) => format!("{} (lost)", gpu.name),
        (GpuState::Error, Some(cause)) => format!("{} ({cause})", gpu.name),
        (GpuState::Error, None) => format!("{} (in error)", gpu.name),
    }
}

/// Bytes in GiB with one decimal.
pub(super) fn gib(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let gib = bytes as f64 / f64::from(1 << 30);
    format!("{gib:.1} GiB")
}

/// A PCI bus id in NVML's form (`00000000:01:00.0`), whichever way it is written.
pub(super) fn bus_id(text: &str) -> String {
    let text = text.trim().to_ascii_uppercase();
    match text.split_once(':') {
        Some((domain, rest)) if rest.contains(':') => format!("{domain:0>8}:{rest}"),
        _ => format!("00000000:{text}"),
    }
}
