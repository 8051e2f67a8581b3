//! What runs beside a model: the projector that turns images or sound into embeddings, a draft model, another runtime's ways.

use super::estimate::{Estimate, Offload, Parts, shaped};
use super::{Header, Settings, Shape};

/// What runs beside a model.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extras<'a> {
    /// The projector's header (`mmproj`, Ollama's projector layer).
    pub projector: Option<&'a Header>,
    /// The draft model of speculative decoding.
    pub draft: Option<&'a Shape>,
}

/// A projector: its tensors and a buffer for the largest input, on the first GPU, else in RAM.
pub(super) fn add_projector(estimate: &mut Estimate, bytes: u64) {
    let parts = estimate.devices.first_mut().unwrap_or(&mut estimate.host);
    parts.projector_bytes = parts.projector_bytes.saturating_add(bytes);
}

/// Bytes of a projector. A type without a known size leaves its tensors out, which the caller warns of.
pub(super) fn projector_bytes(header: &Header, flash: bool) -> u64 {
    let weights = header.tensors.iter().fold(0_u64, |sum, tensor| {
        sum.saturating_add(tensor.bytes().unwrap_or(0))
    });
    let compute = ["vision", "audio"].map(|part| encoder_bytes(header, part, flash));
    compute.into_iter().fold(weights, u64::saturating_add)
}

/// Frames of 30 seconds of sound behind the convolutions of a Whisper-like encoder.
const AUDIO_FRAMES: u64 = 1500;
/// Side of the largest image that is not cut, in pixels, where the header has none.
const IMAGE_SIZE: u64 = 1024;

/// The buffer of one encoder: its feed-forward phase and its attention over all patches or frames (`clip.cpp`; tiles of larger images are
/// encoded one after the other).
fn encoder_bytes(header: &Header, part: &str, flash: bool) -> u64 {
    let number = |key: &str| header.unsigned(&format!("clip.{part}.{key}"));
    let Some(width) = number("embedding_length") else {
        return 0;
    };
    let tokens = if part == "audio" {
        AUDIO_FRAMES
    } else {
        let side = number("image_size")
            .filter(|&size| size > 0)
            .unwrap_or(IMAGE_SIZE);
        let patches = side
            .checked_div(number("patch_size").unwrap_or(14))
            .unwrap_or(0);
        patches.saturating_mul(patches)
    };
    let inner = number("feed_forward_length").unwrap_or_else(|| width.saturating_mul(4));
    let heads = number("attention.head_count").unwrap_or(1);
    let row = inner
        .saturating_mul(2)
        .saturating_add(width.saturating_mul(4))
        .saturating_mul(4);
    let look = if flash { 2 } else { heads.saturating_mul(4) };
    tokens
        .saturating_mul(row)
        .saturating_add(tokens.saturating_mul(tokens).saturating_mul(look))
}

/// A draft model: a context of its own, as long as the model's, dealt out in the same shares.
pub(super) fn add_draft(
    estimate: &mut Estimate,
    draft: &Shape,
    settings: &Settings,
    offload: &Offload,
) {
    let offload = Offload {
        gpu_layers: None,
        cpu_experts: 0,
        split: offload.split.clone(),
    };
    let settings = Settings {
        gpu_layers: None,
        ..*settings
    };
    let beside = shaped(draft, &settings, &offload);
    for (parts, own) in estimate.devices.iter_mut().zip(&beside.devices) {
        parts.draft_bytes = own.total_bytes();
    }
    estimate.host.draft_bytes = beside.host.total_bytes();
}

/// Tokens of one page of vLLM's KV cache.
const PAGE: u64 = 16;

/// vLLM: every tensor and the cache of every layer, windows or not, in the given shares. It profiles its own activations and takes a share
/// of each card in any case, so neither is in here.
pub(super) fn vllm(shape: &Shape, settings: &Settings, offload: &Offload) -> Estimate {
    let context = match settings.ctx {
        0 => shape.trained_ctx,
        ctx => ctx,
    };
    let cells = context.checked_next_multiple_of(PAGE).unwrap_or(context);
    let sums = shape.sums.last().copied().unwrap_or_default();
    let wide = |full: u64, windowed: u64| full.saturating_add(windowed);
    let cell = (settings.cache_k.bytes(wide(sums.full.0, sums.windowed.0)))
        .saturating_add(settings.cache_v.bytes(wide(sums.full.1, sums.windowed.1)));
    // One embedding serves as output layer too.
    let output = shape.output_bytes.saturating_sub(shape.tied_bytes);
    let whole = Parts {
        layers: shape.gpu_layers(),
        weights_bytes: [sums.dense, sums.expert, shape.input_bytes, output]
            .into_iter()
            .fold(0, u64::saturating_add),
        kv_bytes: cell.saturating_mul(cells),
        state_bytes: sums
            .state
            .saturating_mul(u64::from(settings.parallel.max(1))),
        ..Parts::default()
    };
    let mut estimate = Estimate::default();
    if offload.split.is_empty() {
        estimate.host = whole;
        return estimate;
    }
    let sum: f64 = offload.split.iter().map(|share| share.max(0.0)).sum();
    for share in &offload.split {
        let part = |bytes: u64| share_of(bytes, share.max(0.0) / sum);
        estimate.devices.push(Parts {
            weights_bytes: part(whole.weights_bytes),
            kv_bytes: part(whole.kv_bytes),
            state_bytes: part(whole.state_bytes),
            ..whole
        });
    }
    estimate
}

/// A share of bytes, rounded up.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of a size, rounded up; the cast saturates"
)]
pub(super) fn share_of(bytes: u64, share: f64) -> u64 {
    (((bytes as f64) * share).ceil() as u64).min(bytes)
}
