//! Apple's GPUs, which share the machine's memory.

use std::process::{Command, Stdio};

use super::inventory::Seen;
use super::{Source, SourceState};
use crate::cluster::{Gpu, Vendor};

/// Machines up to this size give the GPU two thirds of their memory, larger ones three quarters: what Metal's recommended working set is
/// on them unless `iogpu.wired_limit_mb` says otherwise.
const SMALL: u64 = 36 << 30;

/// The GPU of this machine.
pub(super) fn look() -> Seen {
    let Some(memory) = sysctl("hw.memsize").and_then(|text| text.parse().ok()) else {
        return Seen::state(Source::Apple, SourceState::Failed);
    };
    let name = sysctl("machdep.cpu.brand_string").unwrap_or_else(|| "Apple GPU".to_owned());
    let mut gpu = Gpu::unmeasured(Vendor::Apple, name);
    gpu.unified = true;
    gpu.total_bytes = Some(working_set(memory));
    Seen::gpus(Source::Apple, vec![gpu])
}

fn working_set(memory: u64) -> u64 {
    if memory <= SMALL {
        memory / 3 * 2
    } else {
        memory / 4 * 3
    }
}

fn sysctl(name: &str) -> Option<String> {
    let output = Command::new("/usr/sbin/sysctl")
        .args(["-n", name])
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}
