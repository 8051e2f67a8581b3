//! The machine that a benchmark runs on.

use std::fs;
use std::thread;

use crate::measure::Machine;

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
