//! What settings mean for the graph: how many tokens, cells and logits it is reserved for.

use super::family::Memory;
use super::settings::{CacheType, Runtime, Settings};
use super::shape::Shape;

/// llama.cpp rounds contexts and windows up to whole multiples of this.
const CELL_BLOCK: u64 = 256;

/// Sizes of one reserved graph, in tokens, cells and rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    /// Tokens of a micro-batch.
    pub(super) tokens: u64,
    /// Rows of logits.
    pub(super) outputs: u64,
    /// Sequences at once.
    pub(super) sequences: u64,
    /// Caches beside each other: one for all sequences or one for each.
    pub(super) streams: u64,
    /// Cells of one stream in layers that attend to everything.
    pub(super) cells: u64,
    /// Cells of one stream in layers that attend to a window.
    pub(super) window_cells: u64,
    /// Whether flash attention is on.
    pub(super) flash: bool,
    /// Type of K.
    pub(super) key: CacheType,
    /// Type of V.
    pub(super) value: CacheType,
    /// Whether the graph takes tokens and embeddings mixed.
    pub(super) mixed_inputs: bool,
    /// Whether CUDA's f16 copy of quantised K and V counts.
    pub(super) cuda_scratch: bool,
}

fn blocks(cells: u64) -> u64 {
    cells
        .checked_next_multiple_of(CELL_BLOCK)
        .unwrap_or(u64::MAX)
}

impl Geometry {
    /// The graph that llama.cpp reserves for a model under these settings (`llama-context.cpp`).
    pub(super) fn new(shape: &Shape, settings: &Settings) -> Self {
        let sequences = u64::from(settings.parallel.max(1));
        let asked = match settings.ctx {
            0 => shape.trained_ctx,
            ctx => ctx,
        };
        let context = blocks(asked.max(1));
        let (cells, streams) = if settings.unified_kv {
            (context, 1)
        } else {
            (blocks((context / sequences).max(1)), sequences)
        };
        let context = cells.saturating_mul(streams);
        let encoder = shape.memory == Memory::Nothing;
        let batch = if encoder {
            settings.batch
        } else {
            settings.batch.min(context)
        };
        let ubatch = match settings.ubatch {
            0 => batch,
            ubatch => ubatch.min(batch),
        };
        let tokens = context.min(ubatch).max(1);
        let rows = if settings.batch_logits || encoder {
            batch
        } else {
            sequences
        };
        let shared = if settings.unified_kv { sequences } else { 1 };
        let window = blocks(shape.window.saturating_mul(shared).saturating_add(ubatch));
        Self {
            tokens,
            outputs: rows.min(tokens),
            sequences,
            streams,
            cells,
            window_cells: if settings.swa_full {
                cells
            } else {
                window.min(cells)
            },
            flash: settings.flash_attention,
            key: settings.cache_k,
            value: settings.cache_v,
            mixed_inputs: settings.input_copy,
            cuda_scratch: settings.cuda_kv_scratch && settings.runtime != Runtime::Vllm,
        }
    }

    /// Bytes of one 32-bit number for each token of the micro-batch.
    pub(super) fn word(&self) -> u64 {
        self.tokens.saturating_mul(4)
    }

    /// Cells of one stream that a layer attends to.
    pub(super) fn cells_of(&self, windowed: bool) -> u64 {
        if windowed {
            self.window_cells
        } else {
            self.cells
        }
    }

    /// Bytes of the mask of which token sees which cell.
    pub(super) fn mask(&self, windowed: bool) -> u64 {
        let cell = if self.flash { 2 } else { 4 };
        self.cells_of(windowed)
            .saturating_mul(self.tokens)
            .saturating_mul(cell)
    }
}
