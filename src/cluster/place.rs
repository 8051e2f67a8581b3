//! Where a model goes: which GPUs, in which shares, and what stays on the CPU.

use serde::{Deserialize, Serialize};

/// How GPUs are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// One GPU where one is enough (the one that is left with the least), else the fewest.
    #[default]
    SingleGpuPreferred,
    /// All GPUs that have room, in shares by their free memory.
    Distribute,
}

impl Strategy {
    /// The word used in configuration and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SingleGpuPreferred => "single-gpu-preferred",
            Self::Distribute => "distribute",
        }
    }
}
