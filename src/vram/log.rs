//! What a runtime says that it allocated: the buffer lines in the log of llama.cpp's programs and of Ollama, which runs one of them.
//!
//! llama-server prints these lines with `-v`; older builds always did.

use super::TensorType;

/// What a buffer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BufferKind {
    /// Weights.
    Model,
    /// K and V cache; one buffer per device and kind of layer (sliding-window layers have their own).
    Kv,
    /// Recurrent state.
    State,
    /// The graph's intermediate results.
    Compute,
    /// Logits and embeddings.
    Output,
    /// An adapter.
    Lora,
    /// The compute buffer of a projector (vision, audio).
    Projector,
}

/// One buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buffer {
    /// The runtime's name of the memory it lies in (`CUDA0`, `CUDA_Host`, `CPU_Mapped`, `Vulkan1`).
    pub device: String,
    /// What it is for.
    pub kind: BufferKind,
    /// Its size. Printed in MiB with two decimals (whole MiB by llama-fit-params), so off by half of the last digit at most.
    pub bytes: u64,
}

impl Buffer {
    /// The GPU it lies on, without the suffix for how it is mapped (`MTL0` for `MTL0_Mapped`); `None` for host memory.
    pub fn gpu(&self) -> Option<&str> {
        let device = self.device.as_str();
        let host = device.starts_with("CPU")
            || device.ends_with("_Host")
            || matches!(device, "Host" | "AMX" | "BLAS");
        if host {
            return None;
        }
        // A remote device carries its address, which may hold anything.
        let name = if device.contains('[') {
            device
        } else {
            device.split('_').next().unwrap_or(device)
        };
        Some(name)
    }
}

/// How the runtime ran the model, as far as the log tells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LoggedSettings {
    /// Context in tokens of all sequences together.
    pub ctx: Option<u64>,
    /// Sequences at once.
    pub parallel: Option<u64>,
    /// Logical batch in tokens.
    pub batch: Option<u64>,
    /// Micro-batch in tokens.
    pub ubatch: Option<u64>,
    /// Rows of logits that are reserved.
    pub outputs: Option<u64>,
    /// Whether the sequences share one cache.
    pub unified_kv: Option<bool>,
    /// Whether flash attention was used.
    pub flash_attention: Option<bool>,
    /// Type of the K cache.
    pub cache_k: Option<TensorType>,
    /// Type of the V cache.
    pub cache_v: Option<TensorType>,
    /// Layers on GPUs, the output layer counted.
    pub gpu_layers: Option<u64>,
    /// Layers that there are, the output layer counted.
    pub layers: Option<u64>,
}

/// One model as it was loaded: its weights and every context made of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Load {
    /// Its buffers, in the order of the log.
    pub buffers: Vec<Buffer>,
    /// How it was run; of several contexts, the first.
    pub settings: LoggedSettings,
}

impl Load {
    /// Its GPUs, in the order of the log.
    pub fn gpus(&self) -> Vec<&str> {
        let mut gpus: Vec<&str> = Vec::new();
        for gpu in self.buffers.iter().filter_map(Buffer::gpu) {
            if !gpus.contains(&gpu) {
                gpus.push(gpu);
            }
        }
        gpus
    }

    /// Bytes of its buffers of one kind on a GPU; `None`: in host memory.
    pub fn bytes(&self, kind: BufferKind, gpu: Option<&str>) -> u64 {
        (self.buffers.iter())
            .filter(|buffer| buffer.kind == kind && buffer.gpu() == gpu)
            .fold(0, |sum, buffer| sum.saturating_add(buffer.bytes))
    }

    fn has_context(&self) -> bool {
        let model = |buffer: &Buffer| buffer.kind == BufferKind::Model;
        !self.buffers.iter().all(model)
    }

    /// llama.cpp tries the load without allocating before the real one; its lines say 0 for the weights.
    fn is_dry_run(&self) -> bool {
        let weightless = |b: &Buffer| b.kind != BufferKind::Model || b.bytes == 0;
        self.buffers.iter().all(weightless)
    }
}

/// Every load in a log, in its order: a draft model is a load of its own, a server that loads models one after the other has one for each.
/// The last one is what is in memory now, where there is only one model. Dry runs are left out. Lines that are not understood say nothing.
pub fn read_log(log: &str) -> Vec<Load> {
    let mut loads = Vec::new();
    let mut current = Load::default();
    for line in log.lines() {
        let buffer = buffer(line);
        let model = matches!(&buffer, Some(buffer) if buffer.kind == BufferKind::Model);
        if (model || offloaded(line).is_some()) && current.has_context() {
            loads.push(std::mem::take(&mut current));
        }
        match buffer {
            Some(buffer) => add(&mut current.buffers, buffer),
            None => settle(&mut current.settings, line),
        }
    }
    loads.push(current);
    loads.retain(|load| !load.is_dry_run());
    loads
}

/// Adds a buffer. A graph that is laid out again prints its devices again with nothing in between: the new size holds.
fn add(buffers: &mut Vec<Buffer>, buffer: Buffer) {
    if buffer.kind == BufferKind::Compute {
        let again = (buffers.iter_mut().rev())
            .take_while(|before| before.kind == BufferKind::Compute)
            .find(|before| before.device == buffer.device);
        if let Some(before) = again {
            before.bytes = buffer.bytes;
            return;
        }
    }
    buffers.push(buffer);
}

/// `[time] function: DEVICE [KIND] buffer size = 12.34 MiB`.
fn buffer(line: &str) -> Option<Buffer> {
    let (before, after) = line.split_once("buffer size")?;
    let bytes = mebibytes(after.trim_start().strip_prefix('=')?)?;
    let (function, named) = match before.rsplit_once(": ") {
        Some((prefix, named)) => (
            prefix.rsplit([' ', '\t', '"']).next().unwrap_or(prefix),
            named,
        ),
        None => ("", before),
    };
    let mut words = named.split_ascii_whitespace();
    let device = words.next()?.to_owned();
    let kind = match words.next_back() {
        Some("model") => BufferKind::Model,
        Some("KV") => BufferKind::Kv,
        // `RS`, and the compressed caches of DeepSeek V4 (`DSV4 shift state`).
        Some("RS" | "state") => BufferKind::State,
        Some("compute") if function.ends_with("_compute_meta") => BufferKind::Projector,
        Some("compute") => BufferKind::Compute,
        Some("output") => BufferKind::Output,
        Some("LoRA") => BufferKind::Lora,
        // Builds of 2023 and 2024 did not name the weights.
        None if function.ends_with("load_tensors") => BufferKind::Model,
        _ => return None,
    };
    Some(Buffer {
        device,
        kind,
        bytes,
    })
}

/// Bytes of ` 12.34 MiB…`, to the nearest byte.
fn mebibytes(text: &str) -> Option<u64> {
    const MIB: u64 = 1 << 20;
    let (number, unit) = text.trim_start().split_once(' ')?;
    if !unit.trim_start().starts_with("MiB") {
        return None;
    }
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || fraction.len() > 6 || !digits(whole) || !digits(fraction) {
        return None;
    }
    let scale = fraction.bytes().fold(1_u64, |scale, _| scale * 10);
    let part: u64 = if fraction.is_empty() {
        0
    } else {
        fraction.parse().ok()?
    };
    let whole: u64 = whole.parse().ok()?;
    whole
        .checked_mul(MIB)?
        .checked_add((part * MIB + scale / 2) / scale)
}

/// `load_tensors: offloaded 33/33 layers to GPU`.
fn offloaded(line: &str) -> Option<(u64, u64)> {
    let (_, after) = line.split_once("offloaded ")?;
    let (layers, _) = after.split_once(" layers to GPU")?;
    let (on_gpu, all) = layers.split_once('/')?;
    Some((on_gpu.parse().ok()?, all.parse().ok()?))
}

/// Takes from a line what it tells of the settings; the first to tell is believed.
fn settle(settings: &mut LoggedSettings, line: &str) {
    if let Some((on_gpu, all)) = offloaded(line) {
        settings.gpu_layers.get_or_insert(on_gpu);
        settings.layers.get_or_insert(all);
    } else if line.contains("Flash Attention") {
        let on = match line.trim_end().rsplit(' ').next() {
            Some("enabled") => true,
            Some("disabled") => false,
            _ => return,
        };
        settings.flash_attention.get_or_insert(on);
    } else if line.contains(" K (") {
        let kind = |mark: &str| {
            let (_, after) = line.split_once(mark)?;
            TensorType::from_name(after.split_once(')')?.0)
        };
        settings.cache_k = settings.cache_k.or_else(|| kind(" K ("));
        settings.cache_v = settings.cache_v.or_else(|| kind(" V ("));
    } else if line.contains("llama_context: ") || line.contains("llama_new_context_with_model: ") {
        context(settings, line);
    }
}

/// `llama_context: n_ctx                 = 2048`.
fn context(settings: &mut LoggedSettings, line: &str) {
    let Some((key, value)) = line.split_once('=') else {
        return;
    };
    let key = key.split_ascii_whitespace().next_back();
    let number = value.trim().parse().ok();
    let truth = match value.trim() {
        "1" | "true" | "enabled" => Some(true),
        "0" | "false" | "disabled" => Some(false),
        _ => None,
    };
    let slot = match key {
        Some("n_ctx") => &mut settings.ctx,
        Some("n_seq_max") => &mut settings.parallel,
        Some("n_batch") => &mut settings.batch,
        Some("n_ubatch") => &mut settings.ubatch,
        Some("n_outputs_max") => &mut settings.outputs,
        Some("kv_unified") => {
            settings.unified_kv = settings.unified_kv.or(truth);
            return;
        }
        Some("flash_attn") => {
            settings.flash_attention = settings.flash_attention.or(truth);
            return;
        }
        _ => return,
    };
    *slot = slot.or(number);
}

/// What `llama-fit-params --fit-print on` prints: `DEVICE MODEL CONTEXT COMPUTE` in whole MiB, one line for each device. The context is told
/// as [`BufferKind::Kv`], recurrent state included. `None` without such a line.
pub fn read_fit_print(text: &str) -> Option<Load> {
    let mut load = Load::default();
    for line in text.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [device, figures @ ..] = words.as_slice() else {
            continue;
        };
        let kinds = [BufferKind::Model, BufferKind::Kv, BufferKind::Compute];
        let bytes: Option<Vec<u64>> = figures
            .iter()
            .map(|figure| figure.parse::<u64>().ok()?.checked_mul(1 << 20))
            .collect();
        let Some(bytes) = bytes.filter(|bytes| bytes.len() == kinds.len()) else {
            continue;
        };
        for (kind, bytes) in kinds.into_iter().zip(bytes) {
            load.buffers.push(Buffer {
                device: (*device).to_owned(),
                kind,
                bytes,
            });
        }
    }
    (!load.buffers.is_empty()).then_some(load)
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
