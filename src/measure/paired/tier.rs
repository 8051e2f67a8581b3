//! Times by class: what a small request takes, and what a large one.

use serde::{Deserialize, Serialize};

use super::report::{Speedup, known, rate, speedup};
use super::times::{self, Time};
use super::{LiveSettings, Observation, Pair, Temperature};
use crate::measure::figure::{Figure, Unit};
use crate::measure::statistics::quantile;

/// Kind of work, by how much model it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Class {
    /// A small model should do.
    Simple,
    /// In between.
    Moderate,
    /// The large model.
    Complex,
}

impl Class {
    /// Every class, the smallest first.
    pub const ALL: [Self; 3] = [Self::Simple, Self::Moderate, Self::Complex];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Simple => "SIMPLE",
            Self::Moderate => "MODERATE",
            Self::Complex => "COMPLEX",
        }
    }
}

/// Times to the end of an answer, failures at the time-out, and speeds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The middle.
    pub p50: Figure,
    /// 95 % are faster.
    pub p95: Figure,
    /// The fastest.
    pub min: Figure,
    /// The slowest.
    pub max: Figure,
    /// Answer tokens after the first, per second.
    pub decode_speed: Figure,
}

/// The requests of one class that began alike.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Tier {
    /// Their class.
    pub class: Class,
    /// Whether the model was in memory.
    pub temperature: Temperature,
    /// Pairs.
    pub pairs: u64,
    /// Policy 0.
    pub today: Spread,
    /// Policy 1.
    pub routed: Spread,
    /// By the time to the end.
    pub end_to_end: Speedup,
}

/// Every class and temperature that occurs, in that order.
pub(super) fn tiers(pairs: &[Pair<'_>], settings: &LiveSettings) -> Vec<Tier> {
    let class_of = |pair: &Pair<'_>| {
        let index = usize::try_from(pair.today.request).ok()?;
        settings.classes.get(index).copied()
    };
    let mut tiers = Vec::new();
    for class in Class::ALL {
        for temperature in [Temperature::Cold, Temperature::Warm] {
            let of: Vec<Pair<'_>> = pairs
                .iter()
                .copied()
                .filter(|pair| class_of(pair) == Some(class))
                .filter(|pair| pair.today.temperature == temperature)
                .collect();
            if !of.is_empty() {
                tiers.push(tier(class, temperature, &of, settings));
            }
        }
    }
    tiers
}

fn tier(
    class: Class,
    temperature: Temperature,
    pairs: &[Pair<'_>],
    settings: &LiveSettings,
) -> Tier {
    let paired = &settings.paired;
    let times: Vec<(f64, f64)> = pairs
        .iter()
        .filter_map(|pair| times::of_pair(*pair, Time::End, paired.timeout_ms))
        .collect();
    let (today, routed): (Vec<f64>, Vec<f64>) = times.into_iter().unzip();
    Tier {
        class,
        temperature,
        pairs: pairs.len() as u64,
        today: spread(
            &today,
            &pairs.iter().map(|pair| pair.today).collect::<Vec<_>>(),
        ),
        routed: spread(
            &routed,
            &pairs.iter().map(|pair| pair.routed).collect::<Vec<_>>(),
        ),
        end_to_end: speedup(pairs, Time::End, paired),
    }
}

fn spread(times: &[f64], observations: &[&Observation]) -> Spread {
    let at = |share| known(quantile(times, share), Unit::Milliseconds);
    Spread {
        p50: at(0.5),
        p95: at(0.95),
        min: at(0.0),
        max: at(1.0),
        decode_speed: rate(observations, |one| {
            Some((
                one.tokens_out?.checked_sub(1)?,
                one.total_ms? - one.ttft_ms?,
            ))
        }),
    }
}
