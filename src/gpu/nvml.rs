//! NVIDIA GPUs through NVML, whose library is opened at run time.
//!
//! Each figure is a call of its own and may be missing alone: old cards have no energy counter, laptops no power, containers no
//! processes. Only the calls that say which GPU it is decide whether there is one.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nvml_wrapper::device::Device;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;

use super::inventory::{Seen, bus_id};
use super::sysfs::{self, unserved};
use super::{Source, SourceState};
use crate::cluster::{Gpu, GpuProcess, GpuState, Vendor};

/// Where the library is when the loader does not know it: WSL, `NixOS`.
const FURTHER_PLACES: [&str; 2] = [
    "/usr/lib/wsl/lib/libnvidia-ml.so.1",
    "/run/opengl-driver/lib/libnvidia-ml.so.1",
];
/// Most GPUs that are asked.
const MOST_GPUS: u32 = 256;
/// Most processes of one GPU that are told.
const MOST_PROCESSES: usize = 128;
/// Time until a failed start is tried again; doubled after each failure …
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// … up to this: a driver that is installed later is found within five minutes.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// NVML and what it told before.
#[derive(Debug)]
pub(super) struct Nvml {
    library: Option<PathBuf>,
    sysfs: PathBuf,
    procfs: PathBuf,
    session: Option<nvml_wrapper::Nvml>,
    retry: Retry,
    last: Seen,
    /// Totals that only nvidia-smi could tell, by UUID.
    totals: Option<HashMap<String, u64>>,
}

/// When to start anew after failures.
#[derive(Debug)]
struct Retry {
    at: Option<Instant>,
    pause: Duration,
}

impl Retry {
    fn none() -> Self {
        Self {
            at: None,
            pause: FIRST_PAUSE,
        }
    }

    fn failed(&mut self, now: Instant) {
        self.at = Some(now + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    fn waits(&self, now: Instant) -> bool {
        self.at.is_some_and(|at| now < at)
    }
}

impl Nvml {
    /// NVML in that library, or in the usual places; nothing is opened yet.
    pub(super) fn new(library: Option<&Path>, sysfs: &Path, procfs: &Path) -> Self {
        Self {
            library: library.map(Path::to_owned),
            sysfs: sysfs.to_owned(),
            procfs: procfs.to_owned(),
            session: None,
            retry: Retry::none(),
            last: Seen::state(Source::Nvml, SourceState::Pending),
            totals: None,
        }
    }

    /// Looks at every GPU. What failed is tried anew with growing pauses; in between a library that could not be started is not asked.
    pub(super) fn look(&mut self, now: Instant) -> Seen {
        if self.session.is_some() && self.retry.at.is_some() && !self.retry.waits(now) {
            // Only a fresh start makes a GPU that was reset known again.
            self.close();
        }
        if self.session.is_none() {
            if self.retry.waits(now) {
                return self.last.clone();
            }
            match open(self.library.as_deref()) {
                Ok(session) => self.session = Some(session),
                Err(error) => return self.trouble(&error, now),
            }
        }
        let gpus = match &self.session {
            Some(session) => look_at(session, &self.last.gpus, &self.procfs),
            None => Ok(Vec::new()),
        };
        let mut gpus = match gpus {
            Ok(gpus) => gpus,
            Err(error) => {
                self.close();
                return self.trouble(&error, now);
            }
        };
        self.fill_totals(&mut gpus);
        if gpus.iter().all(|gpu| gpu.state == GpuState::Ok) {
            self.retry = Retry::none();
        } else if !self.retry.waits(now) {
            self.retry.failed(now);
        }
        let mut seen = Seen::gpus(Source::Nvml, gpus);
        if seen.gpus.is_empty() {
            seen.status.unserved = unserved(&self.sysfs, sysfs::NVIDIA);
        }
        self.last = seen.clone();
        seen
    }

    /// NVML cannot be asked: GPUs that it told before are in error now.
    fn trouble(&mut self, error: &NvmlError, now: Instant) -> Seen {
        self.retry.failed(now);
        let mut seen = Seen::state(Source::Nvml, state_of(error));
        seen.status.detail = detail_of(error);
        seen.status.unserved = unserved(&self.sysfs, sysfs::NVIDIA);
        let known = std::mem::take(&mut self.last.gpus);
        let cause = error.to_string();
        seen.gpus = known
            .into_iter()
            .map(|gpu| gpu.failed(GpuState::Error, cause.clone()))
            .collect();
        self.last = seen.clone();
        seen
    }

    /// Drivers before 510 have no second version of the memory call, and the wrapper only that. Their total is asked of nvidia-smi,
    /// once; how much is free stays unknown.
    fn fill_totals(&mut self, gpus: &mut [Gpu]) {
        let lacks = |gpu: &Gpu| gpu.state == GpuState::Ok && gpu.total_bytes.is_none();
        if !gpus.iter().any(lacks) {
            return;
        }
        let totals = self.totals.get_or_insert_with(super::nvidia_smi::totals);
        for gpu in gpus.iter_mut().filter(|gpu| lacks(gpu)) {
            gpu.total_bytes = gpu.uuid.as_ref().and_then(|uuid| totals.get(uuid)).copied();
        }
    }

    fn close(&mut self) {
        if let Some(session) = self.session.take() {
            shut(session);
        }
    }
}

impl Drop for Nvml {
    fn drop(&mut self) {
        self.close();
    }
}

/// Ends a session. The wrapper's own drop panics when the library lacks `nvmlShutdown`; such a one stays open.
fn shut(session: nvml_wrapper::Nvml) {
    if session.lib().nvmlShutdown.is_err() {
        std::mem::forget(session);
    }
}

fn open(library: Option<&Path>) -> Result<nvml_wrapper::Nvml, NvmlError> {
    let at = |path: &OsStr| nvml_wrapper::Nvml::builder().lib_path(path).init();
    if let Some(path) = library {
        return at(path.as_os_str());
    }
    let usual = nvml_wrapper::Nvml::init();
    if !matches!(usual, Err(NvmlError::LibloadingError(_))) {
        return usual;
    }
    let found = FURTHER_PLACES
        .iter()
        .find(|place| Path::new(place).exists());
    match found {
        Some(place) => at(OsStr::new(place)),
        None => usual,
    }
}

fn state_of(error: &NvmlError) -> SourceState {
    match error {
        NvmlError::LibloadingError(_)
        | NvmlError::FailedToLoadSymbol(_)
        | NvmlError::LibraryNotFound => SourceState::NoLibrary,
        NvmlError::DriverNotLoaded => SourceState::NoDriver,
        NvmlError::LibRmVersionMismatch => SourceState::DriverMismatch,
        NvmlError::NoPermission | NvmlError::OperatingSystem => SourceState::NoPermission,
        NvmlError::NotFound => SourceState::NoGpus,
        _ => SourceState::Failed,
    }
}

/// The library's own words, where they say more than the state: a file that is not there needs none.
fn detail_of(error: &NvmlError) -> Option<String> {
    match error {
        NvmlError::LibloadingError(error) => {
            let text = error.to_string();
            (!text.contains("No such file")).then_some(text)
        }
        NvmlError::LibraryNotFound | NvmlError::DriverNotLoaded => None,
        other => Some(other.to_string()),
    }
}

fn is_lost(error: &NvmlError) -> bool {
    matches!(error, NvmlError::GpuLost | NvmlError::ResetRequired)
}

/// Every GPU of the library, in its own order.
fn look_at(
    session: &nvml_wrapper::Nvml,
    known: &[Gpu],
    procfs: &Path,
) -> Result<Vec<Gpu>, NvmlError> {
    let count = session.device_count()?.min(MOST_GPUS);
    let told: Vec<(u32, Result<Gpu, NvmlError>)> = (0..count)
        .map(|index| {
            let device = session.device_by_index(index);
            (index, device.and_then(|device| read(&device, procfs)))
        })
        // Access to single GPUs may be denied to a container: those are not its own.
        .filter(|(_, told)| !matches!(told, Err(NvmlError::NoPermission)))
        .collect();
    if count > 0 && told.is_empty() {
        return Err(NvmlError::NoPermission);
    }
    let answering: Vec<Gpu> = told
        .iter()
        .filter_map(|(_, told)| told.as_ref().ok())
        .cloned()
        .collect();
    let gpus = told.into_iter().map(|(index, told)| {
        told.unwrap_or_else(|error| {
            let (state, cause) = match &error {
                NvmlError::GpuLost => (GpuState::Lost, "it fell off the bus".to_owned()),
                NvmlError::ResetRequired => (GpuState::Lost, "it needs a reset".to_owned()),
                other => (GpuState::Error, other.to_string()),
            };
            identity(index, known, &answering).failed(state, cause)
        })
    });
    Ok(gpus.collect())
}

/// What was known of the GPU that now fails at this place: the one that had the place, unless it answers elsewhere.
fn identity(index: u32, known: &[Gpu], answering: &[Gpu]) -> Gpu {
    let gone = |gpu: &&Gpu| answering.iter().all(|other| other.uuid != gpu.uuid);
    known
        .get(index as usize)
        .filter(gone)
        .or_else(|| known.iter().find(gone))
        .cloned()
        .unwrap_or_else(|| Gpu::unmeasured(Vendor::Nvidia, "NVIDIA GPU"))
}

/// One GPU. Its name must be told; a call that says that the GPU is lost ends it, any other missing figure is unknown.
fn read(device: &Device<'_>, procfs: &Path) -> Result<Gpu, NvmlError> {
    let mut gpu = Gpu::unmeasured(Vendor::Nvidia, device.name()?);
    gpu.uuid = told(device.uuid())?;
    gpu.pci_bus_id = told(device.pci_info())?.map(|pci| bus_id(&pci.bus_id));
    memory(&mut gpu, device, procfs)?;
    gpu.utilization = told(device.utilization_rates())?.map(|rates| rates.gpu.min(100));
    gpu.temperature_c = told(device.temperature(TemperatureSensor::Gpu))?;
    gpu.power_w = told(device.power_usage())?.map(|milliwatts| f64::from(milliwatts) / 1000.0);
    gpu.energy_j = told(device.total_energy_consumption())?.map(joules);
    gpu.compute_capability = told(device.cuda_compute_capability())?.and_then(|capability| {
        Some((
            u32::try_from(capability.major).ok()?,
            u32::try_from(capability.minor).ok()?,
        ))
    });
    let cores = told(device.num_cores())?;
    gpu.multiprocessors = cores
        .zip(gpu.compute_capability)
        .and_then(|(cores, capability)| multiprocessors(cores, capability));
    let width = told(device.memory_bus_width())?;
    let clock = told(device.max_clock_info(Clock::Memory))?;
    gpu.bandwidth = width
        .zip(clock)
        .and_then(|(bits, mhz)| bandwidth(bits, mhz));
    gpu.processes = processes(device, procfs);
    Ok(gpu)
}

/// A figure, or `None` where the driver does not tell it; an error when the GPU itself is gone.
fn told<T>(result: Result<T, NvmlError>) -> Result<Option<T>, NvmlError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_lost(&error) => Err(error),
        Err(_) => Ok(None),
    }
}

fn memory(gpu: &mut Gpu, device: &Device<'_>, procfs: &Path) -> Result<(), NvmlError> {
    match device.memory_info() {
        Ok(memory) if memory.total > 0 => {
            gpu.total_bytes = Some(memory.total);
            gpu.used_bytes = Some(memory.used);
            gpu.free_bytes = Some(memory.free);
        }
        // GPUs inside the processor (GB10, Jetson) have no memory of their own; NVML then says "not supported" or zero.
        Ok(_) | Err(NvmlError::NotSupported) => {
            gpu.unified = true;
            if let Some((total, free)) = sysfs::machine_memory(procfs) {
                gpu.total_bytes = Some(total);
                gpu.free_bytes = Some(free);
                gpu.used_bytes = Some(total.saturating_sub(free));
            }
        }
        Err(error) if is_lost(&error) => return Err(error),
        Err(_) => {}
    }
    Ok(())
}

/// Millijoules in joules.
#[expect(
    clippy::cast_precision_loss,
    reason = "2^53 millijoules are 285 years at 1000 W"
)]
fn joules(millijoules: u64) -> f64 {
    millijoules as f64 / 1000.0
}

/// Multiprocessors of a GPU with that many CUDA cores. Cores for each: "Arithmetic Instructions" in NVIDIA's CUDA C++ Programming
/// Guide (results per cycle of 32-bit floating-point add, by compute capability). A newer generation is unknown.
fn multiprocessors(cores: u32, (major, minor): (u32, u32)) -> Option<u32> {
    let each = match (major, minor) {
        (3, _) => 192,
        (6 | 8, 0) | (7, _) => 64,
        (5 | 6 | 8 | 9 | 10 | 11 | 12, _) => 128,
        _ => return None,
    };
    (cores > 0 && cores.is_multiple_of(each)).then_some(cores / each)
}

/// Peak bytes per second of a memory bus of that many bits at that clock: two transfers per cycle, as NVML's memory clock counts
/// GDDR and HBM (an RTX 3090 says 384 bits and 9751 MHz: 936 GB/s).
fn bandwidth(bits: u32, mhz: u32) -> Option<u64> {
    let bytes_per_second = u64::from(bits) / 8 * u64::from(mhz) * 2 * 1_000_000;
    (bytes_per_second > 0).then_some(bytes_per_second)
}

/// Processes that compute or draw, each once, with the larger of the figures told for it.
fn processes(device: &Device<'_>, procfs: &Path) -> Vec<GpuProcess> {
    let lists = [
        device.running_compute_processes(),
        device.running_graphics_processes(),
    ];
    let mut processes: Vec<GpuProcess> = Vec::new();
    // A list that this user may not see is as good as an empty one.
    for process in lists.into_iter().flatten().flatten() {
        let used_bytes = match process.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => Some(bytes),
            UsedGpuMemory::Unavailable => None,
        };
        let known = processes.iter_mut().find(|known| known.pid == process.pid);
        if let Some(known) = known {
            known.used_bytes = known.used_bytes.max(used_bytes);
        } else if processes.len() < MOST_PROCESSES {
            processes.push(GpuProcess {
                pid: process.pid,
                name: sysfs::process_name(procfs, process.pid),
                used_bytes,
            });
        }
    }
    processes.sort_by_key(|process| (std::cmp::Reverse(process.used_bytes), process.pid));
    processes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiprocessors_of_known_cards() {
        for (name, cores, capability, expected) in [
            ("GTX 1080 Ti", 3584, (6, 1), 28),
            ("Tesla P100", 3584, (6, 0), 56),
            ("RTX 2080 Ti", 4352, (7, 5), 68),
            ("A100", 6912, (8, 0), 108),
            ("RTX 3090", 10496, (8, 6), 82),
            ("RTX 4090", 16384, (8, 9), 128),
            ("H100 SXM", 16896, (9, 0), 132),
            ("RTX 5090", 21760, (12, 0), 170),
        ] {
            assert_eq!(multiprocessors(cores, capability), Some(expected), "{name}");
        }
        assert_eq!(multiprocessors(1000, (8, 6)), None, "no whole number");
        assert_eq!(multiprocessors(4096, (99, 0)), None);
    }

    #[test]
    fn bandwidth_of_known_cards() {
        assert_eq!(bandwidth(384, 9751), Some(936_096_000_000), "RTX 3090");
        assert_eq!(bandwidth(5120, 1215), Some(1_555_200_000_000), "A100 40 GB");
        assert_eq!(bandwidth(0, 9751), None);
    }

    #[test]
    fn pauses_grow_up_to_a_limit() {
        let mut retry = Retry::none();
        let now = Instant::now();
        assert!(!retry.waits(now));
        for _ in 0..20 {
            retry.failed(now);
        }
        assert!(retry.waits(now + Duration::from_secs(299)));
        assert!(!retry.waits(now + LONGEST_PAUSE));
    }

    #[test]
    fn a_gpu_that_fails_keeps_the_name_it_had() {
        let gpu = |uuid: &str| Gpu {
            uuid: Some(uuid.to_owned()),
            ..Gpu::unmeasured(Vendor::Nvidia, uuid)
        };
        let known = [gpu("a"), gpu("b")];
        assert_eq!(identity(1, &known, &[gpu("a")]).name, "b");
        // After a restart of the driver the numbers moved: `b` answers at the first place.
        assert_eq!(identity(1, &known, &[gpu("b")]).name, "a");
        assert_eq!(identity(0, &[], &[]).name, "NVIDIA GPU");
    }
}
