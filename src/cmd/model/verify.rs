//! An estimate beside what a runtime said that it allocated.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Serialize;

use super::{Model, RunArgs};
use crate::cmd::usage;
use crate::render::Told;
use crate::vram::{
    BufferKind, CacheType, Estimate, Load, LoggedSettings, Offload, Parts, TensorType,
    read_fit_print, read_log,
};

/// Where the actual figures come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cmd) enum Against {
    /// The log of a runtime (`-`: standard input).
    Log(PathBuf),
    /// An installed llama-fit-params, which loads the model without allocating.
    FitParams,
}

/// Share of the total from which an estimate is off, in percent.
const TOLERANCE_PERCENT: f64 = 5.0;

/// Predicted against actual.
#[derive(Debug, Clone, Serialize)]
pub(in crate::cmd) struct Verification {
    /// What it was compared with.
    pub(in crate::cmd) against: String,
    /// Part by part; a part that is 0 on both sides is left out.
    pub(in crate::cmd) parts: Vec<Compared>,
    /// Sum of the predicted parts.
    pub(in crate::cmd) predicted_bytes: u64,
    /// Sum of the actual ones.
    pub(in crate::cmd) actual_bytes: u64,
    /// How far the sum is off, in percent of the actual.
    pub(in crate::cmd) error_percent: f64,
    /// Whether that is within 5 %.
    pub(in crate::cmd) holds: bool,
}

/// One part on one device.
#[derive(Debug, Clone, Serialize)]
pub(in crate::cmd) struct Compared {
    /// The runtime's name of the device; `host` for RAM.
    pub(in crate::cmd) device: String,
    /// What it is for.
    pub(in crate::cmd) part: &'static str,
    /// What the estimate says.
    pub(in crate::cmd) predicted_bytes: u64,
    /// What the runtime said.
    pub(in crate::cmd) actual_bytes: u64,
}

/// Compares; the settings that the log tells and no flag overrides become the model's.
pub(in crate::cmd) fn verify(
    model: &mut Model,
    given: &RunArgs,
    against: &Against,
) -> anyhow::Result<(Estimate, Vec<String>, Verification)> {
    let (load, told) = match against {
        Against::Log(path) => {
            let bytes = crate::cmd::read_file(path)?;
            // A log may hold what a model wrote; only the lines of the runtime are looked at.
            let text = String::from_utf8_lossy(&bytes);
            let load = read_log(&text).pop().ok_or_else(|| {
                Told::usage(format!(
                    "`{}` has no buffer lines of a loaded model",
                    path.display()
                ))
                .hint("start llama-server with -v (Ollama with OLLAMA_DEBUG=1) and load the model")
            })?;
            (load, path.display().to_string())
        }
        Against::FitParams => {
            as_fit_params(model, given);
            let load = fit_params(model)?;
            (load, "llama-fit-params".to_owned())
        }
    };
    adopt(model, given, &load.settings);
    let gpus = load.gpus();
    model.settings.cuda_kv_scratch = gpus.iter().any(|gpu| gpu.starts_with("CUDA"));
    let offload = offload(model, &load, &gpus);
    let estimate = model.estimate(&offload);
    let mut verification = compare(&estimate, &load, &gpus, told);
    if *against == Against::FitParams {
        verification.without_untold_parts();
    }
    let names = gpus.iter().map(|gpu| (*gpu).to_owned()).collect();
    Ok((estimate, names, verification))
}

/// Takes over what the log tells and no flag says.
fn adopt(model: &mut Model, given: &RunArgs, logged: &LoggedSettings) {
    let settings = &mut model.settings;
    let put = |slot: &mut u64, given: Option<u64>, logged: Option<u64>| {
        if let Some(value) = logged.filter(|_| given.is_none()) {
            *slot = value;
        }
    };
    put(&mut settings.ctx, given.ctx, logged.ctx);
    put(&mut settings.batch, given.batch, logged.batch);
    put(&mut settings.ubatch, given.ubatch, logged.ubatch);
    if let (None, Some(parallel)) = (given.parallel, logged.parallel) {
        settings.parallel = u32::try_from(parallel).unwrap_or(u32::MAX);
    }
    if let (None, Some(unified)) = (given.unified_kv, logged.unified_kv) {
        settings.unified_kv = unified;
    }
    if let (None, Some(on)) = (given.flash_attn, logged.flash_attention) {
        settings.flash_attention = on;
    }
    if given.kv.is_none() {
        let key = logged.cache_k.and_then(cache_type);
        let value = logged.cache_v.and_then(cache_type);
        settings.cache_k = key.unwrap_or(settings.cache_k);
        settings.cache_v = value.unwrap_or(settings.cache_v);
    }
    if let Some(outputs) = logged.outputs {
        settings.batch_logits = outputs >= settings.ubatch.min(settings.ctx);
    }
    if let (None, Some(layers)) = (given.ngl, logged.gpu_layers) {
        settings.gpu_layers = u32::try_from(layers).ok();
    }
}

fn cache_type(kind: TensorType) -> Option<CacheType> {
    kind.name()?.parse().ok()
}

/// How the runtime dealt the layers out: which shares it was given nobody tells, so they are taken from the weights on each device.
fn offload(model: &Model, load: &Load, gpus: &[&str]) -> Offload {
    if gpus.is_empty() {
        return Offload::cpu();
    }
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    let share = |gpu: &&str| load.bytes(BufferKind::Model, Some(gpu)) as f64;
    Offload {
        split: gpus.iter().map(share).collect(),
        gpu_layers: model.settings.gpu_layers,
        cpu_experts: 0,
    }
}

impl Verification {
    /// Leaves out what llama-fit-params does not tell: the output buffer, and weights in RAM that it would pack anew.
    fn without_untold_parts(&mut self) {
        let told = |part: &Compared| {
            part.part != "output" && (part.device != HOST || part.part != "weights")
        };
        self.parts.retain(told);
        self.sum_up();
    }

    fn sum_up(&mut self) {
        let sum = |of: fn(&Compared) -> u64| self.parts.iter().map(of).fold(0, u64::saturating_add);
        self.predicted_bytes = sum(|part| part.predicted_bytes);
        self.actual_bytes = sum(|part| part.actual_bytes);
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let (predicted, actual) = (self.predicted_bytes as f64, self.actual_bytes as f64);
        self.error_percent = (predicted - actual) / actual.max(1.0) * 100.0;
        self.holds = self.error_percent.abs() <= TOLERANCE_PERCENT;
    }
}

/// What RAM is called beside the runtime's names of devices.
const HOST: &str = "host";

fn compare(estimate: &Estimate, load: &Load, gpus: &[&str], against: String) -> Verification {
    let mut parts = Vec::new();
    for (at, gpu) in gpus.iter().enumerate() {
        let predicted = estimate.devices.get(at).copied().unwrap_or_default();
        rows(&mut parts, gpu, &predicted, |kind| {
            load.bytes(kind, Some(gpu))
        });
    }
    rows(&mut parts, HOST, &estimate.host, |kind| {
        load.bytes(kind, None)
    });
    parts.retain(|part| part.predicted_bytes > 0 || part.actual_bytes > 0);
    let mut verification = Verification {
        against,
        parts,
        predicted_bytes: 0,
        actual_bytes: 0,
        error_percent: 0.0,
        holds: false,
    };
    verification.sum_up();
    verification
}

fn rows(
    parts: &mut Vec<Compared>,
    device: &str,
    predicted: &Parts,
    actual: impl Fn(BufferKind) -> u64,
) {
    // llama-fit-params tells caches and states as one figure, so they are compared as one.
    let pairs = [
        (
            "weights",
            predicted.weights_bytes,
            actual(BufferKind::Model),
        ),
        (
            "KV and state",
            predicted.kv_bytes.saturating_add(predicted.state_bytes),
            actual(BufferKind::Kv).saturating_add(actual(BufferKind::State)),
        ),
        (
            "compute",
            predicted.compute_bytes,
            actual(BufferKind::Compute),
        ),
        ("output", predicted.output_bytes, actual(BufferKind::Output)),
    ];
    for (part, predicted_bytes, actual_bytes) in pairs {
        parts.push(Compared {
            device: device.to_owned(),
            part,
            predicted_bytes,
            actual_bytes,
        });
    }
}

/// The tool reserves as llama-cli does: logits for a whole micro-batch, one sequence, a cache of its own for each.
fn as_fit_params(model: &mut Model, given: &RunArgs) {
    let settings = &mut model.settings;
    settings.batch_logits = true;
    settings.unified_kv = false;
    settings.parallel = given.parallel.unwrap_or(1);
}

/// Runs an installed llama-fit-params on the model's file with the model's settings.
fn fit_params(model: &Model) -> anyhow::Result<Load> {
    let file = Path::new(&model.found.source);
    if !file.is_file() {
        return Err(usage(
            "only a file on this machine can be verified with llama-fit-params; give the log of a runtime: --verify=FILE",
        ));
    }
    let settings = &model.settings;
    let mut command = Command::new("llama-fit-params");
    command.arg("-m").arg(file).stdin(Stdio::null());
    let on = |on: bool| if on { "on" } else { "off" };
    let flags = [
        ("-c", settings.ctx.to_string()),
        ("-np", settings.parallel.to_string()),
        ("-b", settings.batch.to_string()),
        ("-ub", settings.ubatch.to_string()),
        ("-ctk", settings.cache_k.to_string()),
        ("-ctv", settings.cache_v.to_string()),
        ("-fa", on(settings.flash_attention).to_owned()),
        ("-ngl", settings.gpu_layers.unwrap_or(999).to_string()),
        ("--fit-print", "on".to_owned()),
    ];
    for (flag, value) in flags {
        command.arg(flag).arg(value);
    }
    let output = command.output().map_err(|error| {
        Told::usage(format!("llama-fit-params cannot be started: {error}"))
            .hint("install llama.cpp, or give the log of a runtime: --verify=FILE")
    })?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let told = String::from_utf8_lossy(&output.stderr);
    read_fit_print(&printed).ok_or_else(|| {
        let last = told.lines().rev().find(|line| !line.trim().is_empty());
        let last = last.unwrap_or("it printed nothing").trim();
        usage(format!("llama-fit-params told no memory: {last}"))
    })
}
