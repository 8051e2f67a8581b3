//! The one figure that NVIDIA's own program tells and the library of an old driver does not.

use std::collections::HashMap;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The longest that the program may take.
const LIMIT: Duration = Duration::from_secs(3);
/// Time between two looks at whether it has ended.
const PAUSE: Duration = Duration::from_millis(10);
/// Most bytes of its answer that are read; a GPU takes about 60.
const LONGEST_ANSWER: u64 = 64 * 1024;

/// Bytes of memory by UUID; empty where there is no such program, or no answer in time.
pub(super) fn totals() -> HashMap<String, u64> {
    let started = Command::new("nvidia-smi")
        .args([
            "--query-gpu=uuid,memory.total",
            "--format=csv,noheader,nounits",
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = started else {
        return HashMap::new();
    };
    let began = Instant::now();
    // Its answer fits a pipe, so that it ends without being read.
    let ended = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status.success(),
            Ok(None) if began.elapsed() < LIMIT => std::thread::sleep(PAUSE),
            _ => {
                // Already gone is as good.
                let _ = child.kill();
                let _ = child.wait();
                break false;
            }
        }
    };
    let mut text = String::new();
    let read = child
        .stdout
        .take()
        .map(|out| out.take(LONGEST_ANSWER).read_to_string(&mut text));
    match read {
        Some(Ok(_)) if ended => parse(&text),
        _ => HashMap::new(),
    }
}

/// Lines of `UUID, MiB`.
fn parse(text: &str) -> HashMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let (uuid, mib) = line.split_once(',')?;
            let mib: u64 = mib.trim().parse().ok()?;
            Some((uuid.trim().to_owned(), mib.checked_mul(1 << 20)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_without_a_figure_are_passed_over() {
        let totals = parse("GPU-a, 11441\nGPU-b, [N/A]\n\nnonsense\n");
        assert_eq!(totals.len(), 1);
        assert_eq!(totals["GPU-a"], 11441 << 20);
    }
}
