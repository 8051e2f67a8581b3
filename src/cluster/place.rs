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
