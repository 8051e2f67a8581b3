//! Pairs whose report is known beforehand.

use super::*;
use crate::measure::figure::Tag;
use crate::measure::gate::{Comparability, Obstacle};

/// An answered request; `request` is its own pair.
fn answered(pair: u64, policy: Policy, total_ms: f64) -> Observation {
    Observation {
        n: 0,
        pair,
        request: pair,
        policy,
        temperature: Temperature::Warm,
        outcome: Outcome::Ok,
        ttft_ms: Some(total_ms / 10.0),
        total_ms: Some(total_ms),
        prefill_ms: Some(total_ms / 20.0),
        tokens_in: Some(1_000),
        tokens_cached: Some(0),
        tokens_out: Some(101),
        loads: Some(0),
        load_ms: Some(0.0),
        passed: Some(true),
        energy_j: Some(36.0),
    }
}

/// Pairs with these times.
fn pairs_of(times: &[(f64, f64)]) -> Vec<Observation> {
    let mut observations = Vec::new();
    for (pair, (today, routed)) in (0_u64..).zip(times) {
        observations.push(answered(pair, Policy::Today, *today));
        observations.push(answered(pair, Policy::Routed, *routed));
    }
    observations
}

fn report(observations: &[Observation]) -> PairedReport {
    paired_report(observations, &PairedSettings::default()).unwrap()
}

#[track_caller]
fn is(figure: crate::measure::Figure, value: f64) {
    let found = figure.value().expect("a known figure");
    assert!(
        (found - value).abs() <= 1e-9 * value.abs().max(1.0),
        "{found} instead of {value}"
    );
}

#[test]
fn twice_as_fast_and_half_as_fast_cancel() {
    let report = report(&pairs_of(&[(2_000.0, 1_000.0), (1_000.0, 2_000.0)]));
    is(report.all.end_to_end.ratio, 1.0);
    assert!(report.all.end_to_end.low.value() < Some(1.0));
    assert!(report.all.end_to_end.high.value() > Some(1.0));
}

#[test]
fn a_constant_factor_is_found_with_certainty() {
    let times: Vec<(f64, f64)> = (1..=30)
        .map(|at| (190.0 * f64::from(at), 10.0 * f64::from(at)))
        .collect();
    let group = report(&pairs_of(&times)).all;
    for speedup in [group.ttft, group.end_to_end, group.equal_length] {
        is(speedup.ratio, 19.0);
        is(speedup.low, 19.0);
        is(speedup.high, 19.0);
        assert_eq!((speedup.pairs, speedup.ratio.tag()), (30, Tag::Derived));
    }
    is(group.saved, 180.0 * 465.0 / 3_600_000.0);
}

#[test]
fn failures_count_at_the_time_out() {
    let mut observations = pairs_of(&[(1_000.0, 1_000.0), (1_000.0, 500.0)]);
    observations[3].outcome = Outcome::TimedOut;
    observations[3].passed = None;
    observations[3].total_ms = None;
    let report = report(&observations);
    is(
        report.all.end_to_end.ratio,
        (1_000.0_f64 / 600_000.0).sqrt(),
    );
    is(report.all.routed.total_p95, 1_000.0 + 0.95 * 599_000.0);
    assert_eq!(report.all.routed.failures, 1);
    // Its check counts as failed.
    assert_eq!(report.all.routed.checked, 2);
    is(report.all.routed.pass_rate, 0.5);
    // An answer that was cut is no answer either, however soon it ended.
    observations[3].outcome = Outcome::Cut;
    observations[3].ttft_ms = Some(1.0);
    observations[3].total_ms = Some(3.0);
    let cut = paired_report(&observations, &PairedSettings::default()).unwrap();
    assert_eq!(cut.all.end_to_end, report.all.end_to_end);
}

#[test]
fn repeats_are_no_further_evidence() {
    let settings = PairedSettings::default();
    let few = pairs_of(&[(3_000.0, 1_000.0), (1_000.0, 1_000.0), (4_000.0, 1_000.0)]);
    let mut many = Vec::new();
    for repeat in 0..5 {
        for observation in &few {
            many.push(Observation {
                pair: observation.pair + 3 * repeat,
                ..observation.clone()
            });
        }
    }
    let (few, many) = (
        paired_report(&few, &settings).unwrap(),
        paired_report(&many, &settings).unwrap(),
    );
    assert_eq!((many.all.pairs, many.all.requests), (15, 3));
    is(
        many.all.end_to_end.ratio,
        few.all.end_to_end.ratio.value().unwrap(),
    );
    is(
        many.all.end_to_end.low,
        few.all.end_to_end.low.value().unwrap(),
    );
    // One request alone says nothing about others.
    let one = report(&pairs_of(&[(2_000.0, 1_000.0)]));
    is(one.all.end_to_end.ratio, 2.0);
    assert!(!one.all.end_to_end.low.is_known());
}

#[test]
fn a_shorter_answer_is_no_faster_one() {
    let mut observations = pairs_of(&[(11_000.0, 6_000.0)]);
    for observation in &mut observations {
        observation.ttft_ms = Some(1_000.0);
    }
    observations[1].tokens_out = Some(51);
    let group = report(&observations).all;
    is(group.end_to_end.ratio, 11.0 / 6.0);
    is(group.equal_length.ratio, 1.0);
    // Without token counts nobody knows, and the pair is left out of that figure alone.
    observations[1].tokens_out = None;
    let group = report(&observations).all;
    assert!(!group.equal_length.ratio.is_known());
    assert_eq!((group.equal_length.pairs, group.end_to_end.pairs), (0, 1));
}

#[test]
fn cold_and_warm_are_told_apart() {
    let mut observations = pairs_of(&[(60_000.0, 2_000.0), (2_500.0, 2_382.0)]);
    for observation in &mut observations[..2] {
        observation.temperature = Temperature::Cold;
    }
    observations[0].loads = Some(1);
    let report = report(&observations);
    is(report.cold.unwrap().end_to_end.ratio, 30.0);
    is(report.warm.unwrap().end_to_end.ratio, 2_500.0 / 2_382.0);
    is(report.all.loads_avoided, 1.0);
    is(report.warm.unwrap().loads_avoided, 0.0);
    observations.truncate(2);
    let cold = paired_report(&observations, &PairedSettings::default()).unwrap();
    assert!(cold.warm.is_none() && cold.cold.is_some());
}

#[test]
fn there_is_no_headline_without_as_good_answers() {
    let times = vec![(2_000.0, 1_000.0); 200];
    let good = pairs_of(&times);
    let all_passed = report(&good);
    assert_eq!(all_passed.quality, Comparability::Comparable);
    assert_eq!(all_passed.headline, Some(all_passed.all.end_to_end));
    let obstacle = |observations: &[Observation]| {
        let report = report(observations);
        assert!(report.headline.is_none());
        match report.quality {
            Comparability::Comparable => None,
            Comparability::NotComparable { obstacle, .. } => Some(obstacle),
        }
    };
    let mut worse = good.clone();
    for observation in worse
        .iter_mut()
        .filter(|one| one.policy == Policy::Routed)
        .take(10)
    {
        observation.passed = Some(false);
    }
    assert_eq!(obstacle(&worse), Some(Obstacle::WorseAnswers));
    assert_eq!(obstacle(&good[..100]), Some(Obstacle::TooFewChecks));
    let mut unchecked = good;
    for observation in &mut unchecked {
        observation.passed = None;
    }
    assert_eq!(obstacle(&unchecked), Some(Obstacle::NoChecks));
}

#[test]
fn sums_with_an_unknown_are_unknown() {
    let mut observations = pairs_of(&[(2_000.0, 1_000.0), (2_000.0, 1_000.0)]);
    let known = report(&observations).all;
    is(known.today.energy_per_request, 0.01);
    is(known.today.tokens_out, 202.0);
    is(known.today.decode_speed, 200.0 / 3.6);
    is(known.today.prefill_speed, 2_000.0 / 0.2);
    observations[0].energy_j = None;
    observations[0].loads = None;
    let less = report(&observations).all;
    for figure in [
        less.today.energy_per_request,
        less.today.loads,
        less.loads_avoided,
    ] {
        assert_eq!((figure.value(), figure.tag()), (None, Tag::Unknown));
    }
    assert!(less.routed.loads.is_known());
}

#[test]
fn no_observation_is_no_figure() {
    let report = report(&[]);
    assert!(!report.all.end_to_end.ratio.is_known());
    assert!(!report.all.today.total_p50.is_known());
    assert!(report.headline.is_none());
}

type Spoil = fn(&mut Vec<Observation>);

#[test]
fn what_are_no_pairs_is_refused() {
    let good = pairs_of(&[(2_000.0, 1_000.0), (2_000.0, 1_000.0)]);
    let spoil: [(Spoil, &str); 12] = [
        (|all| all.truncate(3), "pair 1 needs one"),
        (|all| all.push(all[0].clone()), "it has 2 and 1"),
        (|all| all[1].policy = Policy::Today, "it has 2 and 0"),
        (|all| all[1].request = 7, "different requests"),
        (
            |all| all[1].temperature = Temperature::Cold,
            "different requests",
        ),
        (|all| all[1].total_ms = Some(0.0), "`total_ms`"),
        (|all| all[1].total_ms = None, "`total_ms`"),
        (|all| all[1].ttft_ms = Some(f64::NAN), "`ttft_ms`"),
        (
            |all| all[1].ttft_ms = Some(5_000.0),
            "no later than the end",
        ),
        (|all| all[1].load_ms = Some(-1.0), "`load_ms`"),
        (|all| all[1].tokens_cached = Some(1_001), "`tokens_cached`"),
        (|all| all[1].outcome = Outcome::Failed, "`passed`"),
    ];
    for (spoil, told) in spoil {
        let mut observations = good.clone();
        spoil(&mut observations);
        let error = paired_report(&observations, &PairedSettings::default()).unwrap_err();
        assert!(error.to_string().contains(told), "{error}");
    }
    for settings in [
        PairedSettings {
            timeout_ms: 0.0,
            ..PairedSettings::default()
        },
        PairedSettings {
            resamples: 0,
            ..PairedSettings::default()
        },
        PairedSettings {
            resamples: MAX_RESAMPLES + 1,
            ..PairedSettings::default()
        },
        PairedSettings {
            quality_margin: 1.5,
            ..PairedSettings::default()
        },
    ] {
        assert!(paired_report(&good, &settings).is_err(), "{settings:?}");
    }
}

#[test]
fn the_seed_decides_the_interval_and_nothing_else() {
    let times: Vec<(f64, f64)> = (1..=20)
        .map(|at| (f64::from(at * at), f64::from(at)))
        .collect();
    let with = |seed| {
        let settings = PairedSettings {
            seed,
            ..PairedSettings::default()
        };
        paired_report(&pairs_of(&times), &settings)
            .unwrap()
            .all
            .end_to_end
    };
    assert_eq!(with(7), with(7));
    assert_eq!(with(7).ratio, with(8).ratio);
    assert_ne!(with(7).low, with(8).low);
}
