//! How fast a model answers: decoding reads every weight that a token uses once, so memory bandwidth decides.
//!
//! t = 1.276 · bytes / bandwidth + 30.8 µs · layers, seconds per token on a GPU. Fitted to 17 llama-bench rows (0.1 to 14 billion parameters,
//! RTX 5080 and RTX 3060), which it meets with a median error of 2 % and 29 % at worst; the same rows served for the fit and the test and all
//! cards were NVIDIA's. So it is given as a range of 0.6 to 1.6 times the speed, and never beyond what the bandwidth allows.
//! Devices work one after the other, so their times add. A bandwidth that is not known makes the speed unknown.

use serde::{Deserialize, Serialize};

/// Share of the time that reading takes beyond bytes / bandwidth.
const READING: f64 = 1.276;
/// Seconds that each layer costs on a GPU whatever its size: kernel launches.
const PER_LAYER: f64 = 30.8e-6;
/// Ends of the range, as multiples of the speed.
const LOW: f64 = 0.6;
const HIGH: f64 = 1.6;

/// Tokens per second of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TokensPerSecond {
    /// Lowest.
    pub low: f64,
    /// Highest.
    pub high: f64,
}

/// What one device does for a token.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct DeviceRead {
    /// Bytes that it reads: weights in use and the cache of the tokens so far.
    pub bytes: f64,
    /// Bytes per second of its memory; `None`: not known.
    pub bandwidth: Option<f64>,
    /// Layers on it; 0 for the processor, whose launches cost nothing.
    pub layers: u32,
}

/// Decode speed of a model whose layers lie on these devices; `None` where a bandwidth is not known or nothing is read.
pub fn decode_speed(shares: &[DeviceRead]) -> Option<TokensPerSecond> {
    let (mut seconds, mut bound) = (0.0, 0.0);
    for share in shares.iter().filter(|share| share.bytes > 0.0) {
        let bandwidth = share.bandwidth.filter(|bandwidth| *bandwidth > 0.0)?;
        let reading = share.bytes / bandwidth;
        bound += reading;
        seconds += if share.layers > 0 {
            READING * reading + PER_LAYER * f64::from(share.layers)
        } else {
            READING * reading
        };
    }
    (bound > 0.0).then(|| TokensPerSecond {
        low: LOW / seconds,
        high: (HIGH / seconds).min(1.0 / bound),
    })
}

/// Bytes of weights that one token reads, of the weights on a device.
///
/// A mixture of experts reads `used` of `count` of its experts; embedding rows, which are looked up and not read through, are to be left out
/// by the caller.
pub fn bytes_read(weights: u64, experts: u64, used: u32, count: u32) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a speed needs three digits")]
    let (weights, experts) = (weights as f64, experts.min(weights) as f64);
    if count == 0 {
        return weights;
    }
    let share = f64::from(used.min(count)) / f64::from(count);
    weights - experts + experts * share
}

/// Whether a measured speed can be: nothing reads more than its bandwidth. A twentieth more is allowed, because published bandwidths are rounded
/// and caches help small models.
pub fn plausible_speed(tokens_per_second: f64, bytes: f64, bandwidth: f64) -> bool {
    tokens_per_second > 0.0
        && tokens_per_second.is_finite()
        && tokens_per_second * bytes <= 1.05 * bandwidth
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(bytes: f64, bandwidth: f64, layers: u32) -> DeviceRead {
        DeviceRead {
            bytes,
            bandwidth: Some(bandwidth),
            layers,
        }
    }

    #[test]
    fn a_known_card_and_model() {
        // Llama 3.1 8B Q4_K_M without its embedding rows on an RTX 3060: 50 tokens/s are commonly reported.
        let speed = decode_speed(&[gpu(4.61e9, 360e9, 33)]).unwrap();
        assert!(speed.low < 50.0 && 50.0 < speed.high, "{speed:?}");
        assert!(speed.high <= 360e9 / 4.61e9, "beyond the bandwidth");
        assert!(speed.high / speed.low < 1.6 / 0.6 + 1e-9);
    }

    #[test]
    fn devices_add_and_the_unknown_stays_unknown() {
        let one = decode_speed(&[gpu(4e9, 400e9, 32)]).unwrap();
        let two = decode_speed(&[gpu(2e9, 400e9, 16), gpu(2e9, 400e9, 16)]).unwrap();
        assert!((one.low - two.low).abs() < 1e-9);
        let slower = decode_speed(&[gpu(2e9, 400e9, 16), gpu(2e9, 100e9, 16)]).unwrap();
        assert!(slower.low < one.low);
        let unknown = DeviceRead {
            bytes: 1.0,
            bandwidth: None,
            layers: 0,
        };
        assert_eq!(decode_speed(&[gpu(2e9, 400e9, 16), unknown]), None);
        let nothing = DeviceRead {
            bytes: 0.0,
            ..unknown
        };
        assert!(decode_speed(&[gpu(2e9, 400e9, 16), nothing]).is_some());
        assert_eq!(decode_speed(&[]), None);
    }

    #[test]
    fn experts_are_read_in_part() {
        assert!((bytes_read(100, 80, 8, 128) - 25.0).abs() < 1e-9);
        assert!((bytes_read(100, 0, 0, 0) - 100.0).abs() < 1e-9);
        assert!((bytes_read(100, 80, 128, 8) - 100.0).abs() < 1e-9);
    }

    #[test]
    fn physics_refuses_what_cannot_be() {
        // "Qwen3.6-27B 521 tok/s on a 3090".
        assert!(!plausible_speed(521.0, 16.5e9, 936e9));
        assert!(plausible_speed(40.0, 16.5e9, 936e9));
        assert!(!plausible_speed(0.0, 1.0, 1.0));
        assert!(!plausible_speed(f64::INFINITY, 1.0, 1.0));
    }
}
