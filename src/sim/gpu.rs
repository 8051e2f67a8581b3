//! GPUs that a simulated node may claim, and the speeds that follow from them.
//!
//! Decoding one token reads every weight once, so its upper bound is memory bandwidth divided by the model's bytes: the roofline of
//! Williams, Waterman and Patterson (2009) for an operation of about one multiply-add per byte. Real runs of llama.cpp reach about
//! 0.7 of it (`EFFICIENCY`). A prompt's tokens are computed together and share each read, which makes prefill bound by arithmetic;
//! on the cards of the table it is some 30 times the decode speed for 4-bit models (`PREFILL_GPU`), on a CPU some 5 times.
//! A model that is partly on the CPU pays for each part: the times add, not the speeds.

/// Share of the bandwidth that decoding reaches.
const EFFICIENCY: f64 = 0.7;
/// Prefill tokens per decoded token, on a GPU.
const PREFILL_GPU: f64 = 32.0;
/// Prefill tokens per decoded token, on a CPU.
const PREFILL_CPU: f64 = 5.0;
/// Bytes per second that a desktop CPU reads from two channels of DDR4-3200 (51.2 GB/s on paper).
const CPU_BANDWIDTH: f64 = 45e9;

const GIB: u64 = 1 << 30;

/// One entry of the table.
#[derive(Debug, Clone, PartialEq)]
pub struct Gpu {
    /// The name as it is printed, without the maker.
    pub name: String,
    /// Memory in bytes; 0: no GPU.
    pub vram_bytes: u64,
    /// Memory bandwidth in bytes per second, from the maker's data sheet.
    pub bandwidth: f64,
}

/// Name, GiB, GB/s, as the makers' data sheets say.
const TABLE: &[(&str, u64, u32)] = &[
    ("GTX 1050 Ti", 4, 112),
    ("GTX 1070", 8, 256),
    ("GTX 1080 Ti", 11, 484),
    ("GTX 1650", 4, 128),
    ("GTX 1660", 6, 192),
    ("RTX 2060", 6, 336),
    ("RTX 3050", 8, 224),
    ("RTX 3060", 12, 360),
    ("RTX 3070", 8, 448),
    ("RTX 3080", 10, 760),
    ("RTX 3090", 24, 936),
    ("RTX 4060", 8, 272),
    ("RTX 4060 Ti", 16, 288),
    ("RTX 4070", 12, 504),
    ("RTX 4080", 16, 717),
    ("RTX 4080 SUPER", 16, 736),
    ("RTX 4090", 24, 1008),
    ("RTX 5070", 12, 672),
    ("RTX 5080", 16, 960),
    ("RTX 5090", 32, 1792),
    ("RX 6800 XT", 16, 512),
    ("RX 7900 XTX", 24, 960),
    ("T4", 16, 320),
    ("L4", 24, 300),
    ("A10", 24, 600),
    ("A100", 80, 2039),
    ("H100", 80, 3350),
    ("H200", 141, 4800),
];

impl Gpu {
    /// No GPU: everything runs on the CPU.
    pub fn none() -> Self {
        Self {
            name: "CPU".to_owned(),
            vram_bytes: 0,
            bandwidth: 0.0,
        }
    }

    /// Finds a GPU by name, whatever the case, spaces and dashes (`rtx3060`, `RTX 3060`); `cpu` is none.
    pub fn find(name: &str) -> Option<Self> {
        let wanted = squeeze(name);
        if wanted == "cpu" {
            return Some(Self::none());
        }
        TABLE
            .iter()
            .find(|(known, ..)| squeeze(known) == wanted)
            .map(|(known, gib, gb_per_second)| Self {
                name: (*known).to_owned(),
                vram_bytes: gib * GIB,
                bandwidth: f64::from(*gb_per_second) * 1e9,
            })
    }

    /// Every name of the table, as it can be written on a command line.
    pub fn names() -> Vec<String> {
        std::iter::once("cpu".to_owned())
            .chain(TABLE.iter().map(|(name, ..)| squeeze(name)))
            .collect()
    }

    /// The name with the memory: `RTX 3060 12 GiB`.
    pub fn label(&self) -> String {
        if self.vram_bytes == 0 {
            return self.name.clone();
        }
        format!("{} {} GiB", self.name, self.vram_bytes / GIB)
    }
}

fn squeeze(name: &str) -> String {
    name.chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

/// Tokens per second of one loaded model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speed {
    /// Prompt tokens per second.
    pub prefill: f64,
    /// Generated tokens per second.
    pub decode: f64,
}

impl Speed {
    /// What `gpu` reaches with a model of `bytes` of which the share `on_gpu` (0 to 1) lies in its memory. `declared` replaces the
    /// formula's figures for the part on the GPU.
    pub fn of(gpu: &Gpu, bytes: u64, on_gpu: f64, declared: Option<Speed>) -> Self {
        #[allow(
            clippy::cast_precision_loss,
            reason = "a speed needs three digits, not sixteen"
        )]
        let bytes = bytes.max(1) as f64;
        let slow = EFFICIENCY * CPU_BANDWIDTH / bytes;
        let cpu = Speed {
            prefill: PREFILL_CPU * slow,
            decode: slow,
        };
        let fast = EFFICIENCY * gpu.bandwidth / bytes;
        let gpu = declared.unwrap_or(Speed {
            prefill: PREFILL_GPU * fast,
            decode: fast,
        });
        Self {
            prefill: blend(gpu.prefill, cpu.prefill, on_gpu),
            decode: blend(gpu.decode, cpu.decode, on_gpu),
        }
    }
}

/// Each part takes its own time: the weighted harmonic mean of the speeds.
fn blend(gpu: f64, cpu: f64, on_gpu: f64) -> f64 {
    let seconds = if on_gpu > 0.0 { on_gpu / gpu } else { 0.0 }
        + if on_gpu < 1.0 {
            (1.0 - on_gpu) / cpu
        } else {
            0.0
        };
    1.0 / seconds.max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_gpu_however_it_is_written() {
        for name in ["rtx3060", "RTX 3060", "rtx-3060"] {
            assert_eq!(Gpu::find(name).unwrap().label(), "RTX 3060 12 GiB");
        }
        assert_eq!(Gpu::find("rtx4060").unwrap().vram_bytes, 8 * GIB);
        assert_eq!(Gpu::find("rtx4060ti").unwrap().vram_bytes, 16 * GIB);
        assert_eq!(Gpu::find("cpu").unwrap().vram_bytes, 0);
        assert_eq!(Gpu::find("voodoo2"), None);
    }

    #[test]
    fn every_listed_name_is_found() {
        assert!(Gpu::names().iter().all(|name| Gpu::find(name).is_some()));
    }

    #[test]
    fn each_layer_on_the_cpu_costs() {
        let gpu = Gpu::find("rtx3060").unwrap();
        let full = Speed::of(&gpu, 4_700_000_000, 1.0, None);
        let half = Speed::of(&gpu, 4_700_000_000, 0.5, None);
        let none = Speed::of(&gpu, 4_700_000_000, 0.0, None);
        assert!((50.0..60.0).contains(&full.decode), "{full:?}");
        assert!(full.decode > 3.0 * half.decode && half.decode > none.decode);
        assert!(full.prefill > half.prefill && half.prefill > none.prefill);
    }

    #[test]
    fn declared_speeds_hold_on_the_gpu_only() {
        let declared = Some(Speed {
            prefill: 100.0,
            decode: 10.0,
        });
        let gpu = Gpu::find("t4").unwrap();
        assert_eq!(Some(Speed::of(&gpu, 1 << 30, 1.0, declared)), declared);
        assert_eq!(
            Speed::of(&gpu, 1 << 30, 0.0, declared),
            Speed::of(&Gpu::none(), 1 << 30, 0.0, None)
        );
    }
}
