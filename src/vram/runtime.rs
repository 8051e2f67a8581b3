//! What a runtime takes on a device outside of the buffers that it lists: the context of its library, its code, its memory pools.
//!
//! Seen from outside only: a driver counts it to the process, llama.cpp's own table does not. CUDA's context grows with the chip: 107 MiB on
//! an RTX 4060 Ti (34 multiprocessors), 555 MiB on an RTX PRO 6000 (188), so about 3 MiB for each, and up to 749 MiB in all were seen on the
//! latter (llama.cpp issues 23604 and 27953). Two cards are not many, which is why this is a range, and why it is learned per card.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Range;

/// The library that computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// NVIDIA's CUDA.
    Cuda,
    /// AMD's `ROCm` (HIP).
    Rocm,
    /// Vulkan, on any card.
    Vulkan,
    /// Apple's Metal.
    Metal,
    /// Intel's SYCL.
    Sycl,
    /// The processor.
    Cpu,
}

const MIB: u64 = 1 << 20;
/// CUDA context for each multiprocessor.
const CUDA_PER_SM: u64 = 3 * MIB;
/// CUDA beside the context: cuBLAS workspace, kernels, pools.
const CUDA_BESIDE: Range = Range {
    low: 64 * MIB,
    high: 300 * MIB,
};
/// CUDA on a card whose multiprocessors are not known: the smallest and the largest that was seen.
const CUDA_UNKNOWN: Range = Range {
    low: (107 + 64) * MIB,
    high: 749 * MIB,
};

/// What the runtime adds on one device.
pub fn runtime_bytes(backend: Backend, multiprocessors: Option<u32>) -> Range {
    match (backend, multiprocessors) {
        (Backend::Cuda, Some(count)) => Range {
            low: CUDA_BESIDE.low + CUDA_PER_SM * u64::from(count),
            high: CUDA_BESIDE.high + CUDA_PER_SM * u64::from(count),
        },
        (Backend::Cuda, None) => CUDA_UNKNOWN,
        // About 0.4 GiB was reported once; half of the range to either side.
        (Backend::Rocm, _) => Range {
            low: 256 * MIB,
            high: 614 * MIB,
        },
        // Not published anywhere: from a bare device to what Ollama sets aside on Metal (512 MiB).
        (Backend::Vulkan | Backend::Metal | Backend::Sycl, _) => Range {
            low: 64 * MIB,
            high: 512 * MIB,
        },
        (Backend::Cpu, _) => Range::default(),
    }
}

/// Cards that are remembered.
const MOST: usize = 256;

/// What the runtime was seen to add, by the UUID of the GPU.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Learned {
    gpus: BTreeMap<String, Seen>,
}

/// What was seen on one GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    low: u64,
    high: u64,
    samples: u64,
}

impl Learned {
    /// What was seen on that GPU, lowest to highest; replaces [`runtime_bytes`].
    pub fn get(&self, uuid: &str) -> Option<Range> {
        self.gpus.get(uuid).map(|seen| Range {
            low: seen.low,
            high: seen.high,
        })
    }

    /// Adds a measurement: the growth of the driver's used memory by a load, less the buffers that the runtime listed. More than 4 GiB was
    /// not the runtime and is refused, and so is a 257th GPU; says whether it was taken.
    pub fn learn(&mut self, uuid: &str, bytes: u64) -> bool {
        let full = self.gpus.len() >= MOST && !self.gpus.contains_key(uuid);
        if uuid.is_empty() || full || bytes > 4 << 30 {
            return false;
        }
        let seen = self.gpus.entry(uuid.to_owned()).or_insert(Seen {
            low: bytes,
            high: bytes,
            samples: 0,
        });
        seen.low = seen.low.min(bytes);
        seen.high = seen.high.max(bytes);
        seen.samples = seen.samples.saturating_add(1);
        true
    }

    /// GPUs of which something was learned.
    pub fn len(&self) -> usize {
        self.gpus.len()
    }

    /// Whether nothing was learned yet.
    pub fn is_empty(&self) -> bool {
        self.gpus.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_was_measured() {
        let within = |range: Range, mib: u64| (range.low..=range.high).contains(&(mib * MIB));
        // The whole unaccounted memory of an idle RTX PRO 6000.
        assert!(within(runtime_bytes(Backend::Cuda, Some(188)), 749));
        assert!(within(runtime_bytes(Backend::Cuda, None), 749));
        assert!(within(runtime_bytes(Backend::Rocm, None), 410));
        assert_eq!(runtime_bytes(Backend::Cpu, Some(8)), Range::default());
    }

    #[test]
    fn a_learned_value_widens_and_is_bounded() {
        let mut learned = Learned::default();
        assert!(learned.is_empty() && learned.get("GPU-a").is_none());
        assert!(learned.learn("GPU-a", 500 * MIB));
        assert!(learned.learn("GPU-a", 450 * MIB));
        assert!(!learned.learn("GPU-a", 5 << 30), "not the runtime");
        assert!(!learned.learn("", 1));
        let range = learned.get("GPU-a").unwrap();
        assert_eq!((range.low, range.high), (450 * MIB, 500 * MIB));
        for n in 1..300 {
            learned.learn(&format!("GPU-{n}"), MIB);
        }
        assert_eq!(learned.len(), MOST);
        assert!(
            learned.learn("GPU-a", 550 * MIB),
            "a known one still learns"
        );
        let text = serde_json::to_string(&learned).unwrap();
        assert_eq!(serde_json::from_str::<Learned>(&text).unwrap(), learned);
    }
}
