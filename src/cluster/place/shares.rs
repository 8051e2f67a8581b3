//! Shares of several GPUs: by size, and as a runtime turns them into layers.

/// A share is printed and passed on with so many decimals.
const SCALE: f64 = 10_000.0;
/// A boundary between devices that is nearer than this to a layer may fall to either side of it: the runtime computes in single precision
/// and gets rounded shares.
const NEAR: f64 = 0.02;

/// Shares in proportion, in sum 1.
pub(super) fn by_size(sizes: &[u64]) -> Vec<f64> {
    #[expect(clippy::cast_precision_loss, reason = "memory sizes are below 2^52")]
    let sizes: Vec<f64> = sizes.iter().map(|size| *size as f64).collect();
    let sum: f64 = sizes.iter().sum();
    if sum <= 0.0 {
        return vec![0.0; sizes.len()];
    }
    sizes.iter().map(|size| size / sum).collect()
}

/// `need` in whole bytes in proportion to `free`, in sum exactly `need`, no part more than its `free` where `need` is not more than all of it.
pub(super) fn divide(need: u64, free: &[u64]) -> Vec<u64> {
    let all: u128 = free.iter().map(|free| u128::from(*free)).sum();
    if all == 0 {
        return vec![0; free.len()];
    }
    // The difference of rounded-down running sums: each part is its proportion rounded down or up, and rounding up never exceeds `free`
    // because need ≤ all.
    let (mut until, mut given) = (0_u128, 0_u128);
    free.iter()
        .map(|free| {
            until += u128::from(*free);
            let upto = u128::from(need) * until / all;
            let part = upto - given;
            given = upto;
            u64::try_from(part).unwrap_or(u64::MAX)
        })
        .collect()
}

/// How many of `layers` each share gets: a layer goes to the first device whose running share is beyond its position (llama.cpp).
pub(super) fn layers_of(shares: &[f64], layers: u32) -> Vec<u32> {
    let sum: f64 = shares.iter().sum();
    let mut counts = vec![0; shares.len()];
    for layer in 0..layers {
        let position = f64::from(layer) / f64::from(layers);
        let mut running = 0.0;
        let device = shares.iter().position(|share| {
            running += share;
            running / sum > position
        });
        // Rounding may leave the last running share a little below 1.
        let device = device.unwrap_or(shares.len().saturating_sub(1));
        if let Some(count) = counts.get_mut(device) {
            *count += 1;
        }
    }
    counts
}

/// Shares that give each device so many layers, with each boundary half a layer away from the next ones, so that rounding moves none.
pub(super) fn of_layers(counts: &[u32]) -> Vec<f64> {
    let layers: u32 = counts.iter().sum();
    let (mut upto, mut before) = (0, 0.0);
    counts
        .iter()
        .enumerate()
        .map(|(at, count)| {
            upto += count;
            let boundary = if at + 1 == counts.len() {
                1.0
            } else {
                rounded(((f64::from(upto) - 0.5) / f64::from(layers.max(1))).max(0.0))
            };
            let share = rounded(boundary - before).max(0.0);
            before = boundary;
            share
        })
        .collect()
}

/// The shares as they are to be passed on: rounded, and moved off layers that they would cut at.
pub(super) fn passed_on(shares: &[f64], layers: u32) -> Vec<f64> {
    let short: Vec<f64> = shares.iter().map(|share| rounded(*share)).collect();
    let sum: f64 = short.iter().sum();
    let mut running = 0.0;
    let safe = short
        .iter()
        .take(shares.len().saturating_sub(1))
        .all(|share| {
            running += share;
            let position = running / sum * f64::from(layers);
            (position - position.round()).abs() > NEAR
        });
    if safe {
        short
    } else {
        of_layers(&layers_of(shares, layers))
    }
}

fn rounded(share: f64) -> f64 {
    (share * SCALE).round() / SCALE
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "numbers of tests are far below every limit"
    )]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shares_in_proportion() {
        assert_eq!(by_size(&[3, 1]), [0.75, 0.25]);
        assert_eq!(by_size(&[0, 0]), [0.0, 0.0]);
        assert_eq!(divide(10, &[1, 1, 1]), [3, 3, 4]);
        assert_eq!(divide(3, &[0, 3]), [0, 3]);
    }

    #[test]
    fn layers_as_llama_cpp_gives_them() {
        // Two equal devices and 33 layers: 17 and 16.
        assert_eq!(layers_of(&[0.5, 0.5], 33), [17, 16]);
        assert_eq!(layers_of(&[1.0], 33), [33]);
        assert_eq!(layers_of(&[0.0, 1.0], 4), [0, 4]);
        assert_eq!(layers_of(&[3.0, 1.0], 4), [3, 1]);
        assert_eq!(passed_on(&[23.0 / 38.0, 15.0 / 38.0], 33), [0.6053, 0.3947]);
        // 0.5 of 40 layers cuts at a layer: moved half a layer away.
        assert_eq!(passed_on(&[0.5, 0.5], 40), [0.4875, 0.5125]);
        assert_eq!(layers_of(&[0.4875, 0.5125], 40), [20, 20]);
    }

    proptest! {
        #[test]
        fn counts_survive_rounding(counts in proptest::collection::vec(0_u32..70, 1..8)) {
            let layers: u32 = counts.iter().sum();
            prop_assume!(layers > 0);
            let shares = of_layers(&counts);
            prop_assert_eq!(layers_of(&shares, layers), counts.clone());
            // As a runtime that computes in single precision.
            let (mut running, sum) = (0.0_f32, shares.iter().map(|share| *share as f32).sum::<f32>());
            let ends: Vec<f32> = shares.iter().map(|share| { running += *share as f32; running / sum }).collect();
            let mut single = vec![0; counts.len()];
            for layer in 0..layers {
                let position = layer as f32 / layers as f32;
                single[ends.iter().position(|end| *end > position).unwrap_or(ends.len() - 1)] += 1;
            }
            prop_assert_eq!(single, counts);
        }

        #[test]
        fn parts_add_up_and_fit(free in proptest::collection::vec(0_u64..1 << 40, 1..16), part in 0.0..=1.0_f64) {
            let all: u64 = free.iter().sum();
            let need = (all as f64 * part) as u64;
            let parts = divide(need.min(all), &free);
            prop_assert_eq!(parts.iter().sum::<u64>(), need.min(all));
            prop_assert!(parts.iter().zip(&free).all(|(part, free)| part <= free));
        }
    }
}
