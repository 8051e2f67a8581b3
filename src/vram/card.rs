//! The GPU catalogue: what can be known of a card from its name alone.

use serde::Serialize;

/// A card of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct GpuCard {
    /// Bytes of memory.
    pub vram_bytes: u64,
    /// Peak memory bandwidth in bytes per second.
    pub bandwidth: u64,
    /// Streaming multiprocessors (compute units, Xe cores).
    pub multiprocessors: u32,
}
