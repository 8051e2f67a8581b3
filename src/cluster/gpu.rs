//! GPUs as plain data, as they were last sampled.

use serde::{Deserialize, Serialize};

/// Who made a GPU, and so how its memory is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Vendor {
    /// NVIDIA (NVML).
    Nvidia,
    /// AMD (amdgpu sysfs).
    Amd,
    /// Intel (xe or i915 sysfs).
    Intel,
    /// Apple (unified memory).
    Apple,
    /// Told by `--gpus` or a node's configuration.
    Other,
}

/// What a GPU can be relied on for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GpuState {
    /// Answers.
    #[default]
    Ok,
    /// Was there and no longer answers ("GPU is lost").
    Lost,
    /// Answers with an error.
    Error,
}

/// A process that holds memory of a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuProcess {
    /// Process id.
    pub pid: u32,
    /// Name, where it can be read.
    pub name: Option<String>,
    /// Bytes of GPU memory; `None` where the driver does not tell.
    pub used_bytes: Option<u64>,
}

/// One GPU. What was not measured is `None`, never a guess.
#[derive(Debug, Clone, PartialEq)]
pub struct Gpu {
    /// Node it belongs to; `None`: this machine.
    pub node: Option<String>,
    /// Position in PCI bus order.
    pub index: u32,
    /// Product name.
    pub name: String,
    /// NVML's UUID (`GPU-…`), the only name that CUDA and NVML agree on.
    pub uuid: Option<String>,
    /// PCI bus id (`00000000:01:00.0`).
    pub pci_bus_id: Option<String>,
    /// Who made it.
    pub vendor: Vendor,
    /// What it can be relied on for.
    pub state: GpuState,
    /// Why it is not [`GpuState::Ok`], as a sentence.
    pub cause: Option<String>,
    /// Whether it shares the machine's memory (an APU, Apple).
    pub unified: bool,
    /// Bytes of memory.
    pub total_bytes: Option<u64>,
    /// Bytes in use, by anybody.
    pub used_bytes: Option<u64>,
    /// Bytes free, as the driver says (its reserve is neither used nor free).
    pub free_bytes: Option<u64>,
    /// Percent of time at work.
    pub utilization: Option<u32>,
    /// Degrees Celsius.
    pub temperature_c: Option<u32>,
    /// Watts.
    pub power_w: Option<f64>,
    /// Joules since the driver was loaded.
    pub energy_j: Option<f64>,
    /// CUDA compute capability, major and minor.
    pub compute_capability: Option<(u32, u32)>,
    /// Streaming multiprocessors.
    pub multiprocessors: Option<u32>,
    /// Peak memory bandwidth in bytes per second, from the driver's bus width and clock.
    pub bandwidth: Option<u64>,
    /// Processes that hold memory of it.
    pub processes: Vec<GpuProcess>,
}

impl Gpu {
    /// A GPU of which nothing but this is known.
    pub fn unmeasured(vendor: Vendor, name: impl Into<String>) -> Self {
        Self {
            node: None,
            index: 0,
            name: name.into(),
            uuid: None,
            pci_bus_id: None,
            vendor,
            state: GpuState::Ok,
            cause: None,
            unified: false,
            total_bytes: None,
            used_bytes: None,
            free_bytes: None,
            utilization: None,
            temperature_c: None,
            power_w: None,
            energy_j: None,
            compute_capability: None,
            multiprocessors: None,
            bandwidth: None,
            processes: Vec::new(),
        }
    }

    /// The same GPU in that state: what was measured is dropped, because it no longer holds; what it is stays.
    #[must_use]
    pub fn failed(mut self, state: GpuState, cause: impl Into<String>) -> Self {
        self.state = state;
        self.cause = Some(cause.into());
        self.used_bytes = None;
        self.free_bytes = None;
        self.utilization = None;
        self.temperature_c = None;
        self.power_w = None;
        self.energy_j = None;
        self.processes.clear();
        self
    }
}
