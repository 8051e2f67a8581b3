//! What is wrong with the GPUs, or could be better, in words and with a cure.

use super::inventory::{Inventory, Source, SourceState, SourceStatus, gib};
use crate::cluster::{Gpu, GpuState};

/// Share of a GPU's memory in use, in percent, above which it is nearly full (the advice of the source documents: reduce models).
const FULL_PERCENT: u64 = 90;
/// Share below which there is room for more (the same source: can add models).
const ROOM_PERCENT: u64 = 30;

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
