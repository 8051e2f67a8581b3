//! Seeded randomness of traces and of what the simulated nodes do: the same seed gives the same run on every machine.

/// `SplitMix64` (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Evenly in `0.0..1.0`.
    pub(super) fn unit(&mut self) -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            reason = "53 bits are what a double holds"
        )]
        let numerator = (self.next() >> 11) as f64;
        numerator / 9_007_199_254_740_992.0
    }

    /// A whole number in `low..=high`.
    pub(super) fn whole(&mut self, low: u32, high: u32) -> u32 {
        let width = u64::from(high.saturating_sub(low)) + 1;
        low + u32::try_from(self.next() % width).unwrap_or(0)
    }

    /// Around `middle`, half of the values within a factor of about 1.4 with `spread` 0.5: sizes of prompts and answers are many small
    /// ones and a few large ones.
    pub(super) fn around(&mut self, middle: f64, spread: f64) -> u32 {
        let value = middle * (spread * self.normal()).exp();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to what fits"
        )]
        let whole = value.clamp(1.0, 1e6) as u32;
        whole
    }

    /// The time to the next event of a process with that mean.
    pub(super) fn pause(&mut self, mean_ms: f64) -> u64 {
        let value = -mean_ms * (1.0 - self.unit()).ln();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to what fits"
        )]
        let whole = value.clamp(0.0, 1e9) as u64;
        whole
    }

    /// Mean 0, standard deviation 1.
    pub(super) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.unit().max(1e-12).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// One of several.
    pub(super) fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        let index = usize::try_from(self.next() % (of.len().max(1) as u64)).unwrap_or(0);
        of.get(index)
    }
}

/// A hash of some numbers: FNV-1a.
pub(super) fn hash(parts: &[u64]) -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parts.iter().flat_map(|part| part.to_le_bytes()) {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    state
}

/// A hash of a text.
pub(super) fn hash_text(text: &str) -> u64 {
    let bytes: Vec<u64> = text.bytes().map(u64::from).collect();
    hash(&bytes)
}
