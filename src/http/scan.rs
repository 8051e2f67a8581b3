//! Finding the end of a head.

/// Notices cheaply when a head may be complete, so that a head that comes byte by byte is not parsed for each byte.
#[derive(Debug, Default)]
pub(crate) struct HeadScan {
    scanned: usize,
    parsed: usize,
}

impl HeadScan {
    /// Whether parsing `bytes`, which grew since the last call, is worth it: an empty line came, or twice as much as at the last attempt
    /// (which finds garbage early).
    pub(crate) fn worth_parsing(&mut self, bytes: &[u8]) -> bool {
        // An empty line may begin up to two bytes before the new ones.
        let from = self.scanned.saturating_sub(2);
        let new = bytes.get(from..).unwrap_or_default();
        self.scanned = bytes.len();
        let ended = memchr::memchr_iter(b'\n', new).any(|at| {
            let after = new.get(at + 1..).unwrap_or_default();
            after.starts_with(b"\n") || after.starts_with(b"\r\n")
        });
        if ended || bytes.len() >= self.parsed * 2 {
            self.parsed = bytes.len();
            return true;
        }
        false
    }
}
