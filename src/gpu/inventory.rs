//! What was found, and in which state each source of it is.

use serde::Serialize;

use crate::cluster::{Gpu, GpuState, Vendor};

/// Share of a GPU's memory in use, in percent, above which it is nearly full (the advice of the source documents: reduce models).
const FULL_PERCENT: u64 = 90;
/// Share below which there is room for more (the same source: can add models).
const ROOM_PERCENT: u64 = 30;

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

/// Something about the GPUs that needs attention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// Short code.
    pub code: &'static str,
    /// What is so.
    pub text: String,
    /// What to do.
    pub cure: String,
}

impl Inventory {
    /// Puts together what the sources told. A fixed inventory keeps its order; probed GPUs are sorted by PCI bus id.
    pub(super) fn of(seen: impl IntoIterator<Item = Seen>) -> Self {
        let (mut gpus, mut sources) = (Vec::new(), Vec::new());
        for seen in seen {
            gpus.extend(seen.gpus);
            sources.push(seen.status);
        }
        // A stable sort: GPUs without a bus id keep the order in which they were told.
        gpus.sort_by(|a, b| a.pci_bus_id.cmp(&b.pci_bus_id));
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

    /// Why there is no GPU, in the words of the source that would most likely have one; `None` when there is one, when GPUs are
    /// switched off, and before anybody looked.
    pub fn missing(&self) -> Option<Advice> {
        if !self.gpus.is_empty() || self.disabled() || !self.known() {
            return None;
        }
        let unserved = |status: &&SourceStatus| !status.unserved.is_empty();
        let of_interest = self
            .sources
            .iter()
            .find(unserved)
            .or_else(|| self.sources.first())?;
        Some(no_gpu(of_interest))
    }

    /// What needs attention: no GPU at all, one in the machine without a driver, one that is lost, a source in trouble, a memory that
    /// is nearly full; and, where `serving` says that models are loaded on this machine, one that is nearly empty.
    pub fn advice(&self, serving: bool) -> Vec<Advice> {
        let mut advice: Vec<Advice> = self.missing().into_iter().collect();
        if advice.is_empty() {
            let told = self.sources.iter().filter(|status| in_trouble(status));
            advice.extend(told.map(no_gpu));
        }
        for gpu in &self.gpus {
            advice.extend(failed(gpu));
            advice.extend(use_of(gpu, serving));
        }
        advice
    }
}

/// Whether a source is worth a word although GPUs were found: those that merely have none are not.
fn in_trouble(status: &SourceStatus) -> bool {
    match status.state {
        SourceState::Ok | SourceState::Disabled | SourceState::Pending => false,
        SourceState::NoGpus | SourceState::NoLibrary | SourceState::NoDriver => {
            !status.unserved.is_empty()
        }
        _ => true,
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
fn gib(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let gib = bytes as f64 / f64::from(1 << 30);
    format!("{gib:.1} GiB")
}

fn no_gpu(status: &SourceStatus) -> Advice {
    match status.source {
        Source::Nvml => no_nvidia(status),
        Source::Fixed => Advice {
            code: "gpu_inventory",
            text: format!(
                "the fixed inventory of --gpus is wrong: {}",
                status.detail.as_deref().unwrap_or("it has no GPU")
            ),
            cure: "correct the file; it is read again at every look".to_owned(),
        },
        Source::Amdgpu | Source::Intel | Source::Apple => no_other(status),
    }
}

fn no_other(status: &SourceStatus) -> Advice {
    let (vendor, driver) = match status.source {
        Source::Amdgpu => ("AMD", "amdgpu"),
        Source::Intel => ("Intel", "xe or i915"),
        _ => ("Apple", "Metal"),
    };
    if let Some(place) = status.unserved.first() {
        return Advice {
            code: "gpu_no_driver",
            text: format!(
                "an {vendor} GPU is in this machine (PCI {place}), but the driver {driver} does not serve it"
            ),
            cure: format!(
                "load the kernel driver {driver}; in a container, mount /sys and pass /dev/dri through"
            ),
        };
    }
    Advice {
        code: "gpu_none",
        text: format!("no {vendor} GPU: CPU-only"),
        cure: NOTHING_TO_DO.to_owned(),
    }
}

const NOTHING_TO_DO: &str = "without a GPU nothing needs to be done; models run on the CPU";

fn no_nvidia(status: &SourceStatus) -> Advice {
    let detail = status.detail.as_deref().unwrap_or("unknown error");
    let (code, why, cure) = match status.state {
        SourceState::NoLibrary => (
            "gpu_no_library",
            match &status.detail {
                Some(detail) => format!("libnvidia-ml not found: {detail}"),
                None => "libnvidia-ml not found".to_owned(),
            },
            "with an NVIDIA GPU: install its driver and restart, or pass the GPU through to this container (docker run --gpus all); without one nothing needs to be done",
        ),
        SourceState::NoDriver => (
            "gpu_no_driver",
            "the driver is not loaded".to_owned(),
            "load it (`sudo modprobe nvidia`) or restart the machine; `nvidia-smi` must work first",
        ),
        SourceState::DriverMismatch => (
            "gpu_driver_mismatch",
            "the driver was updated while it runs: library and kernel module differ".to_owned(),
            "restart the machine",
        ),
        SourceState::NoPermission => (
            "gpu_no_permission",
            "access to the device is denied".to_owned(),
            "give this user read and write access to /dev/nvidia*; in a container, pass the GPUs through (docker run --gpus all)",
        ),
        SourceState::NotAnswering => (
            "gpu_not_answering",
            "the driver does not answer".to_owned(),
            "see `sudo dmesg` for Xid errors; where `nvidia-smi` hangs too, restart the machine",
        ),
        SourceState::NoGpus => (
            "gpu_none",
            "the driver finds none".to_owned(),
            "check that the card is seated and powered (`lspci`); in a container, check NVIDIA_VISIBLE_DEVICES",
        ),
        _ => (
            "gpu_failed",
            format!("NVML failed: {detail}"),
            "`nvidia-smi` must work first; see `sudo dmesg` for the driver's own words",
        ),
    };
    let text = match status.unserved.first() {
        Some(place) => {
            format!("an NVIDIA GPU is in this machine (PCI {place}), but {why}: CPU-only")
        }
        None => format!("no NVIDIA GPU ({why}) and none of another maker: CPU-only"),
    };
    Advice {
        code,
        text,
        cure: cure.to_owned(),
    }
}

/// How a GPU is called in a sentence.
fn called(gpu: &Gpu) -> String {
    format!("GPU {} ({})", gpu.index, gpu.name)
}

fn failed(gpu: &Gpu) -> Option<Advice> {
    let cause = gpu.cause.as_deref().unwrap_or("no cause known");
    let (code, word, cure) = match gpu.state {
        GpuState::Ok => return None,
        GpuState::Lost => (
            "gpu_lost",
            "is lost",
            "see `sudo dmesg` for the reason (Xid); it needs a reset or a restart of the machine",
        ),
        GpuState::Error => (
            "gpu_error",
            "is in trouble",
            "see `nvidia-smi` and `sudo dmesg`; a restart of the machine resets it",
        ),
    };
    Some(Advice {
        code,
        text: format!("{} {word}: {cause}", called(gpu)),
        cure: cure.to_owned(),
    })
}

fn use_of(gpu: &Gpu, serving: bool) -> Option<Advice> {
    let (total, used) = (gpu.total_bytes.filter(|total| *total > 0)?, gpu.used_bytes?);
    let percent = used.saturating_mul(100) / total;
    let told = format!("{percent} % of the memory of {} is used", called(gpu));
    if used.saturating_mul(100) > total.saturating_mul(FULL_PERCENT) {
        return Some(Advice {
            code: "gpu_memory_full",
            text: told,
            cure: "unload a model, or load it with a smaller context".to_owned(),
        });
    }
    let room = used.saturating_mul(100) < total.saturating_mul(ROOM_PERCENT);
    (room && serving && gpu.state == GpuState::Ok).then(|| Advice {
        code: "gpu_memory_free",
        text: told,
        cure: format!(
            "it can hold more models: {} are free",
            gib(gpu.free_bytes.unwrap_or(total - used))
        ),
    })
}

/// A PCI bus id in NVML's form (`00000000:01:00.0`), whichever way it is written.
pub(super) fn bus_id(text: &str) -> String {
    let text = text.trim().to_ascii_uppercase();
    match text.split_once(':') {
        Some((domain, rest)) if rest.contains(':') => format!("{domain:0>8}:{rest}"),
        _ => format!("00000000:{text}"),
    }
}

/// The maker of a source's GPUs.
pub(super) fn vendor(source: Source) -> Vendor {
    match source {
        Source::Nvml => Vendor::Nvidia,
        Source::Amdgpu => Vendor::Amd,
        Source::Intel => Vendor::Intel,
        Source::Apple => Vendor::Apple,
        Source::Fixed => Vendor::Other,
    }
}
