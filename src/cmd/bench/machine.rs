//! The machine that a benchmark runs on.

use std::fs;
use std::thread;

use crate::cli::Global;
use crate::config::{self, Environment, Overrides};
use crate::gpu;
use crate::measure::Machine;

/// This machine with the names of its GPUs; a look that fails says nothing of them.
pub(super) fn with_gpus(global: &Global) -> Machine {
    let environment = Environment::of_process();
    let look = || {
        let loaded = config::load(global, &environment, &Overrides::default()).ok()?;
        let settings = crate::cmd::gpus(global, &environment, &loaded.config).ok()?;
        let inventory = gpu::look(&settings);
        let known = inventory.known() && !inventory.disabled();
        known.then(|| inventory.gpus.into_iter().map(|gpu| gpu.name).collect())
    };
    Machine {
        gpus: look(),
        ..this()
    }
}

/// What can be said of this machine without asking anybody. Its name is left out: receipts are made to be passed on.
pub(super) fn this() -> Machine {
    Machine {
        os: std::env::consts::OS.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        cpu: field("/proc/cpuinfo", "model name"),
        cores: thread::available_parallelism()
            .ok()
            .map(|cores| cores.get() as u64),
        memory_bytes: field("/proc/meminfo", "MemTotal").and_then(|text| kibibytes(&text)),
        gpus: None,
    }
}

/// The value of the first line `name: value` of a file of the kernel; `None` where there is no such file.
fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.trim() == name)
        .map(|(_, value)| value.trim().to_owned())
}

fn kibibytes(text: &str) -> Option<u64> {
    text.strip_suffix("kB")?
        .trim()
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}
