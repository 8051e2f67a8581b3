//! The GPUs of this machine: NVML, amdgpu and Intel sysfs, Apple, or a fixed inventory.
//!
//! What the drivers say comes out as plain data ([`Inventory`]); what follows from it is decided elsewhere. A driver may hang: every
//! call into one is made in a thread of its own, and nobody waits for it without a limit.

mod advice;
#[cfg(target_os = "macos")]
mod apple;
mod fixed;
mod inventory;
mod nvidia_smi;
mod nvml;
mod probe;
mod ram;
mod sampler;
mod sysfs;
mod visible;

pub use advice::Advice;
pub use fixed::{Fixed, FixedError};
pub use inventory::{Inventory, Source, SourceState, SourceStatus};
pub use ram::available_ram;
pub use sampler::{OnChange, Sampler, look};
pub use visible::visible_devices;

use std::path::PathBuf;

/// Where GPUs are looked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Whether they are looked for at all; a fixed inventory counts all the same.
    pub enabled: bool,
    /// The GPUs to tell instead of looking for any (`--gpus`).
    pub fixed: Option<Fixed>,
    /// NVML's library, instead of the usual places (`GPUROUTER_NVML_LIB`).
    pub nvml_library: Option<PathBuf>,
    /// Where sysfs is mounted (`GPUROUTER_SYSFS_ROOT`).
    pub sysfs: PathBuf,
    /// Where procfs is mounted.
    pub procfs: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            fixed: None,
            nvml_library: None,
            sysfs: PathBuf::from("/sys"),
            procfs: PathBuf::from("/proc"),
        }
    }
}

impl Settings {
    /// No GPU is looked for.
    pub fn disabled() -> Self {
        Self {
            enabled: false,
            ..Self::default()
        }
    }
}
