//! The machine's own memory, where what is not on a GPU goes.

use std::fs;
use std::path::Path;

/// Bytes of RAM that a new program can have without swapping: `MemAvailable` of `/proc/meminfo`. `None` where it is not told.
pub fn available_ram(procfs: &Path) -> Option<u64> {
    let text = fs::read_to_string(procfs.join("meminfo")).ok()?;
    available(&text)
}

fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_available_counts() {
        let text = "MemTotal:       24000000 kB\nMemFree:  1 kB\nMemAvailable:   22999040 kB\n";
        assert_eq!(available(text), Some(22_999_040 * 1024));
        assert_eq!(available("MemTotal: 1 kB\n"), None);
        assert_eq!(available("MemAvailable: lots\n"), None);
        assert_eq!(available("MemAvailable: 99999999999999999999 kB\n"), None);
    }
}
