//! The report of a paired comparison.

use serde::Serialize;

use super::times::{self, Time};
use super::tier::{self, Tier};
use super::{
    LiveSettings, Observation, Outcome, Pair, PairedSettings, PairingError, Policy, Temperature,
    pairs,
};
use crate::measure::figure::{Figure, Unit};
use crate::measure::gate::{Checks, Comparability, gate};
use crate::measure::random::Random;
use crate::measure::statistics::{bootstrap_mean, count, mean, quantile};

/// A speed-up with its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Speedup {
    /// The geometric mean of today's time over the routed one.
    pub ratio: Figure,
    /// Lower end; unknown with fewer than two requests.
    pub low: Figure,
    /// Upper end; unknown with fewer than two requests.
    pub high: Figure,
    /// Pairs in it; those without the measured time are left out.
    pub pairs: u64,
}

/// What one policy did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PolicySummary {
    /// Requests.
    pub requests: u64,
    /// Those without a complete answer; they count at the time-out.
    pub failures: u64,
    /// Time to the first token: the middle.
    pub ttft_p50: Figure,
    /// Time to the first token: 95 % are faster.
    pub ttft_p95: Figure,
    /// Time to the end: the mean.
    pub total_mean: Figure,
    /// Time to the end: the middle.
    pub total_p50: Figure,
    /// Time to the end: 95 % are faster.
    pub total_p95: Figure,
    /// Prompt tokens that were read, per second of reading.
    pub prefill_speed: Figure,
    /// Answer tokens after the first, per second.
    pub decode_speed: Figure,
    /// Prompt tokens.
    pub tokens_in: Figure,
    /// Prompt tokens that did not have to be read again.
    pub tokens_cached: Figure,
    /// Answer tokens.
    pub tokens_out: Figure,
    /// Models that were loaded.
    pub loads: Figure,
    /// Milliseconds of loading.
    pub load_ms: Figure,
    /// Share of the checked answers that passed.
    pub pass_rate: Figure,
    /// Lower end of its 95 % interval.
    pub pass_low: Figure,
    /// Upper end of its 95 % interval.
    pub pass_high: Figure,
    /// Answers that were checked.
    pub checked: u64,
    /// Watt hours of a request above idle.
    pub energy_per_request: Figure,
}

/// Some of the pairs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Group {
    /// Pairs.
    pub pairs: u64,
    /// Different requests among them.
    pub requests: u64,
    /// Policy 0.
    pub today: PolicySummary,
    /// Policy 1.
    pub routed: PolicySummary,
    /// By the time to the first token.
    pub ttft: Speedup,
    /// By the time to the end.
    pub end_to_end: Speedup,
    /// By the time to the end, had both answers been as long as the shorter one.
    pub equal_length: Speedup,
    /// Loads under policy 0 that policy 1 did without.
    pub loads_avoided: Figure,
    /// Hours under policy 0 less those under policy 1, failures at the time-out.
    pub saved: Figure,
}

/// What a paired comparison found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PairedReport {
    /// The speed-up by the time to the end over all pairs; `None` where the answers are not comparable.
    pub headline: Option<Speedup>,
    /// Whether the answers are as good.
    pub quality: Comparability,
    /// Every pair.
    pub all: Group,
    /// Those that began without the model in memory.
    pub cold: Option<Group>,
    /// Those that began with it.
    pub warm: Option<Group>,
    /// By class and temperature, where the classes of the requests are known.
    pub tiers: Vec<Tier>,
}

/// Compares two policies by their observations.
pub fn paired_report(
    observations: &[Observation],
    settings: &PairedSettings,
) -> Result<PairedReport, PairingError> {
    settings.check()?;
    for observation in observations {
        observation.check()?;
    }
    let pairs = pairs(observations)?;
    let of = |temperature| {
        let some: Vec<Pair<'_>> = pairs
            .iter()
            .copied()
            .filter(|pair| pair.today.temperature == temperature)
            .collect();
        (!some.is_empty()).then(|| group(&some, settings))
    };
    let all = group(&pairs, settings);
    let (today, routed) = checks(&pairs);
    let quality = gate(today, routed, settings.quality_margin);
    Ok(PairedReport {
        headline: (quality == Comparability::Comparable).then_some(all.end_to_end),
        quality,
        all,
        cold: of(Temperature::Cold),
        warm: of(Temperature::Warm),
        tiers: Vec::new(),
    })
}

/// The same for a live benchmark, whose settings may tell the class of each request.
pub fn live_report(
    observations: &[Observation],
    settings: &LiveSettings,
) -> Result<PairedReport, PairingError> {
    let report = paired_report(observations, &settings.paired)?;
    let tiers = tier::tiers(&pairs(observations)?, settings);
    Ok(PairedReport { tiers, ..report })
}

fn group(pairs: &[Pair<'_>], settings: &PairedSettings) -> Group {
    let (today, routed) = checks(pairs);
    let today = summary(pairs, Policy::Today, today, settings.timeout_ms);
    let routed = summary(pairs, Policy::Routed, routed, settings.timeout_ms);
    let by = |time| speedup(pairs, time, settings);
    Group {
        pairs: pairs.len() as u64,
        requests: by_request(pairs).count() as u64,
        today,
        routed,
        ttft: by(Time::FirstToken),
        end_to_end: by(Time::End),
        equal_length: by(Time::EndAtEqualLength),
        loads_avoided: today.loads.minus(routed.loads),
        saved: saved(pairs, settings.timeout_ms),
    }
}

/// The pairs of each request of the trace; `pairs` may hold them in any order.
fn by_request<'a>(pairs: &[Pair<'a>]) -> impl Iterator<Item = Vec<Pair<'a>>> {
    let mut sorted = pairs.to_vec();
    sorted.sort_by_key(|pair| pair.today.request);
    let groups: Vec<Vec<Pair<'a>>> = sorted
        .chunk_by(|one, two| one.today.request == two.today.request)
        .map(<[Pair<'a>]>::to_vec)
        .collect();
    groups.into_iter()
}

/// The geometric mean over requests of today's time over the routed one. Repeats of a request are averaged first and drawn together: they are no
/// further evidence about other requests, and an interval that took them for that would be too narrow.
pub(super) fn speedup(pairs: &[Pair<'_>], time: Time, settings: &PairedSettings) -> Speedup {
    let mut counted = 0_u64;
    let mut logs = Vec::new();
    for repeats in by_request(pairs) {
        let of_request: Vec<f64> = repeats
            .into_iter()
            .filter_map(|pair| times::of_pair(pair, time, settings.timeout_ms))
            .map(|(today, routed)| (today / routed).ln())
            .collect();
        counted += of_request.len() as u64;
        logs.extend(mean(&of_request));
    }
    // Every interval starts from the seed itself, so that it can be recomputed alone.
    let interval = bootstrap_mean(&logs, settings.resamples, &mut Random::new(settings.seed));
    let ratio = |log: Option<f64>| {
        log.map_or(Figure::unknown(Unit::Ratio), |log| {
            Figure::derived(log.exp(), Unit::Ratio)
        })
    };
    Speedup {
        ratio: ratio(mean(&logs)),
        low: ratio(interval.map(|interval| interval.low)),
        high: ratio(interval.map(|interval| interval.high)),
        pairs: counted,
    }
}

/// Hours under policy 0 less those under policy 1.
fn saved(pairs: &[Pair<'_>], timeout_ms: f64) -> Figure {
    let mut milliseconds = 0.0;
    for pair in pairs {
        let Some((today, routed)) = times::of_pair(*pair, Time::End, timeout_ms) else {
            return Figure::unknown(Unit::Hours);
        };
        milliseconds += today - routed;
    }
    Figure::derived(milliseconds / 3_600_000.0, Unit::Hours)
}

/// What both policies passed. A request that was not answered did not pass the check that its pair had.
fn checks(pairs: &[Pair<'_>]) -> (Checks, Checks) {
    let (mut today, mut routed) = (Checks::default(), Checks::default());
    for pair in pairs {
        if pair.today.passed.is_none() && pair.routed.passed.is_none() {
            continue;
        }
        for (checks, observation) in [(&mut today, pair.today), (&mut routed, pair.routed)] {
            match (observation.outcome, observation.passed) {
                (Outcome::Ok, None) => {}
                (Outcome::Ok, Some(passed)) => checks.add(passed),
                _ => checks.add(false),
            }
        }
    }
    (today, routed)
}

fn summary(pairs: &[Pair<'_>], policy: Policy, checks: Checks, timeout_ms: f64) -> PolicySummary {
    let observations: Vec<&Observation> = pairs
        .iter()
        .map(|pair| match policy {
            Policy::Today => pair.today,
            Policy::Routed => pair.routed,
        })
        .collect();
    let failed = |observation: &Observation| observation.outcome != Outcome::Ok;
    let times = |of: fn(&Observation) -> Option<f64>| -> Vec<f64> {
        observations
            .iter()
            .filter_map(|one| {
                if failed(one) {
                    Some(timeout_ms)
                } else {
                    of(one)
                }
            })
            .collect()
    };
    let (first, end) = (times(|one| one.ttft_ms), times(|one| one.total_ms));
    let share = |value| known(value, Unit::Share);
    let interval = checks.interval();
    PolicySummary {
        requests: observations.len() as u64,
        failures: observations.iter().filter(|one| failed(one)).count() as u64,
        ttft_p50: known(quantile(&first, 0.5), Unit::Milliseconds),
        ttft_p95: known(quantile(&first, 0.95), Unit::Milliseconds),
        total_mean: known(mean(&end), Unit::Milliseconds),
        total_p50: known(quantile(&end, 0.5), Unit::Milliseconds),
        total_p95: known(quantile(&end, 0.95), Unit::Milliseconds),
        prefill_speed: rate(&observations, |one| {
            let read = one.tokens_in?.checked_sub(one.tokens_cached?)?;
            Some((read, one.prefill_ms?))
        }),
        decode_speed: rate(&observations, |one| {
            Some((
                one.tokens_out?.checked_sub(1)?,
                one.total_ms? - one.ttft_ms?,
            ))
        }),
        tokens_in: total(&observations, |one| one.tokens_in, Unit::Tokens),
        tokens_cached: total(&observations, |one| one.tokens_cached, Unit::Tokens),
        tokens_out: total(&observations, |one| one.tokens_out, Unit::Tokens),
        loads: total(&observations, |one| one.loads, Unit::Count),
        load_ms: sum(&observations, |one| one.load_ms, Unit::Milliseconds),
        pass_rate: share(checks.rate()),
        pass_low: share(interval.map(|interval| interval.low)),
        pass_high: share(interval.map(|interval| interval.high)),
        checked: checks.checked,
        energy_per_request: sum(&observations, |one| one.energy_j, Unit::Joules)
            .adjusted(Unit::WattHours, |joules| {
                joules / 3600.0 / count(observations.len())
            }),
    }
}

pub(super) fn known(value: Option<f64>, unit: Unit) -> Figure {
    value.map_or(Figure::unknown(unit), |value| Figure::measured(value, unit))
}

/// The sum over all of them; unknown as soon as one is, because a sum of the others would look like the whole.
fn sum(
    observations: &[&Observation],
    of: impl Fn(&Observation) -> Option<f64>,
    unit: Unit,
) -> Figure {
    let values: Option<Vec<f64>> = observations.iter().map(|one| of(one)).collect();
    known(
        values
            .filter(|values| !values.is_empty())
            .map(|values| values.iter().sum()),
        unit,
    )
}

fn total(
    observations: &[&Observation],
    of: impl Fn(&Observation) -> Option<u64>,
    unit: Unit,
) -> Figure {
    #[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
    let of = |one: &Observation| of(one).map(|count| count as f64);
    sum(observations, of, unit)
}

/// Tokens per second over the answered requests for which both numbers are known.
pub(super) fn rate(
    observations: &[&Observation], of: impl Fn(&Observation) -> Option<(u64, f64)>) -> Figure {
    let (mut tokens, mut milliseconds) = (0_u64, 0.0);
    let answered = observations.iter().filter(|one| one.outcome == Outcome::Ok);
    for (of_one, time) in answered.filter_map(|one| of(one)) {
        tokens = tokens.saturating_add(of_one);
        milliseconds += time;
    }
    #[expect(clippy::cast_precision_loss, reason = "tokens are far below 2^53")]
    let speed = tokens as f64 / (milliseconds / 1000.0);
    if tokens == 0 {
        return Figure::unknown(Unit::TokensPerSecond);
    }
    Figure::derived(speed, Unit::TokensPerSecond)
}
