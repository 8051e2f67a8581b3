//! The source documents' figures, and everything that they leave out.

use super::report::*;
use super::*;
use crate::measure::cost::PriceBasis;
use crate::measure::figure::Tag;

fn known(value: f64, unit: Unit) -> Figure {
    Figure::configured(value, unit)
}

/// The source documents' headline and nothing else.
fn sources() -> RoiInputs {
    let unknown = Figure::unknown;
    RoiInputs {
        currency: "USD".to_owned(),
        rounding: Rounding::Exact,
        evidence: None,
        slow: known(19.0, Unit::Seconds),
        fast: known(0.34, Unit::Seconds),
        workload: Workload::PerDay {
            requests: known(200.0, Unit::Count),
        },
        days: known(250.0, Unit::Days),
        rate: known(50.0, Unit::MoneyPerHour),
        attention: Attention::Sources,
        api: PayingApi {
            share: unknown(Unit::Share),
            retries: unknown(Unit::Share),
            tokens_in: unknown(Unit::Tokens),
            tokens_cached: unknown(Unit::Tokens),
            tokens_out: unknown(Unit::Tokens),
            price: Price::unknown(),
        },
        power: Power {
            energy: unknown(Unit::WattHours),
            idle: unknown(Unit::Watts),
            idle_hours: known(24.0, Unit::Hours),
            kwh: unknown(Unit::MoneyPerKilowattHour),
        },
        hardware: None,
    }
}

/// With everything known: 50,000 requests a year that would cost 0.01 each, a quarter of them at the API.
fn complete() -> RoiInputs {
    let price = |price| known(price, Unit::MoneyPerMillionTokens);
    RoiInputs {
        api: PayingApi {
            share: known(0.25, Unit::Share),
            retries: known(0.02, Unit::Share),
            tokens_in: known(3_000.0, Unit::Tokens),
            tokens_cached: known(2_000.0, Unit::Tokens),
            tokens_out: known(1_000.0, Unit::Tokens),
            price: Price {
                basis: PriceBasis::Sheet {
                    model: "m".to_owned(),
                    as_of: Some("2026-11-01".to_owned()),
                },
                input: price(1.0),
                cached_input: price(0.5),
                output: price(8.0),
            },
        },
        power: Power {
            energy: known(0.4, Unit::WattHours),
            idle: known(10.0, Unit::Watts),
            idle_hours: known(12.0, Unit::Hours),
            kwh: known(0.3, Unit::MoneyPerKilowattHour),
        },
        hardware: Some(Hardware {
            capex: known(350.0, Unit::Money),
            life: known(4.0, Unit::Years),
        }),
        ..sources()
    }
}

#[track_caller]
fn is(figure: Figure, value: f64) {
    let found = figure.value().expect("a known figure");
    assert!(
        (found - value).abs() <= 1e-9 * value.abs().max(1.0),
        "{found} instead of {value}"
    );
}

#[test]
fn the_exact_arithmetic() {
    let report = roi(&sources());
    is(report.speedup, 19.0 / 0.34);
    is(report.reduction, 18.66 / 19.0);
    is(report.day.slow, 3_800.0 / 60.0);
    is(report.day.fast, 68.0 / 60.0);
    is(report.day.saved, 62.2);
    is(report.year.slow, 950_000.0 / 3_600.0);
    is(report.year.fast, 17_000.0 / 3_600.0);
    is(report.year.saved, 933_000.0 / 3_600.0);
    is(report.time.money, 12_958.0 + 1.0 / 3.0);
    assert_eq!(report.time.basis, Basis::Sources);
    assert_eq!(report.time.money.tag(), Tag::Configured);
}

#[test]
fn the_sources_arithmetic_rounds_every_step() {
    let report = roi(&RoiInputs {
        rounding: Rounding::Source,
        ..sources()
    });
    let exactly = |span: Span| [span.slow, span.fast, span.saved].map(Figure::value);
    assert_eq!(exactly(report.day), [Some(63.3), Some(1.1), Some(62.2)]);
    assert_eq!(exactly(report.year), [Some(264.0), Some(4.6), Some(259.4)]);
    is(report.time.money, 12_970.0);
}

#[test]
fn a_team_is_its_people_times_their_requests() {
    let team = RoiInputs {
        workload: Workload::Team {
            developers: known(10.0, Unit::Count),
            per_developer: known(20.0, Unit::Count),
        },
        ..sources()
    };
    let (team, alone) = (roi(&team), roi(&sources()));
    assert_eq!(team, alone);
    is(team.requests_per_day, 200.0);
}

#[test]
fn waiting_is_worth_what_somebody_vouches_for() {
    let with = |attention| {
        roi(&RoiInputs {
            attention,
            ..sources()
        })
    };
    let tenth = with(Attention::Share(known(0.1, Unit::Share)));
    is(tenth.time.hours, 25.0 + 11.0 / 12.0);
    is(tenth.time.money, 1_295.0 + 5.0 / 6.0);
    assert!(!tenth.notes.contains(&Note::SourcesArithmetic));
    is(with(Attention::NotCounted).time.money, 0.0);
    assert!(
        with(Attention::Sources)
            .notes
            .contains(&Note::SourcesArithmetic)
    );
    // It is never part of the net.
    let net = |attention| {
        roi(&RoiInputs {
            attention,
            ..complete()
        })
        .net
    };
    assert_eq!(net(Attention::Sources), net(Attention::NotCounted));
}

#[test]
fn the_headline_inputs_are_held_against_their_own_log() {
    let Some(Note::NotLikeForLike {
        speedup,
        hours,
        money,
        ..
    }) = roi(&sources()).notes.last().copied()
    else {
        panic!("no note");
    };
    // The audit's figures: 1.05x, 1.6 h, $82.
    is(speedup, 2.5 / 2.382);
    assert_eq!(format!("{:.1}", hours.value().unwrap()), "1.6");
    assert_eq!(format!("{:.0}", money.value().unwrap()), "82");
    let other = RoiInputs {
        fast: known(0.35, Unit::Seconds),
        attention: Attention::NotCounted,
        ..sources()
    };
    assert!(roi(&other).notes.is_empty());
}

#[test]
fn every_line_of_a_year() {
    let report = roi(&complete());
    is(report.api.per_request, 0.01);
    is(report.api.avoided, 125.0);
    is(report.api.retries, 10.0);
    is(report.electricity.energy, 20.0);
    is(report.electricity.energy_cost, 6.0);
    is(report.electricity.idle, 43.8);
    is(report.electricity.idle_cost, 13.14);
    is(report.hardware.unwrap(), 87.5);
    is(report.cost, 106.64);
    is(report.net, 125.0 - 10.0 - 106.64);
    let Payback::After { months } = report.payback else {
        panic!("{:?}", report.payback);
    };
    is(months, 350.0 / ((125.0 - 10.0 - 19.14) / 12.0));
    assert!(report.missing.is_empty());
}

#[test]
fn an_idle_machine_is_dear() {
    // The audit's figure: 200 W around the clock are 1,752 kWh and $526 at $0.30.
    let mut inputs = complete();
    inputs.power.idle = known(200.0, Unit::Watts);
    inputs.power.idle_hours = known(24.0, Unit::Hours);
    let report = roi(&inputs);
    is(report.electricity.idle, 1_752.0);
    is(report.electricity.idle_cost, 525.6);
    assert_eq!(report.payback, Payback::Never);
    assert!(report.net.value().unwrap() < 0.0);
}

type Forget = fn(&mut RoiInputs);

#[test]
fn what_is_missing_is_told_and_never_guessed() {
    let report = roi(&sources());
    for figure in [
        report.api.avoided,
        report.electricity.energy_cost,
        report.electricity.idle_cost,
        report.cost,
        report.net,
    ] {
        assert_eq!((figure.value(), figure.tag()), (None, Tag::Unknown));
    }
    assert_eq!(report.payback, Payback::NoHardware);
    let forget: [(Forget, Missing); 10] = [
        (
            |inputs| {
                inputs.workload = Workload::PerDay {
                    requests: Figure::unknown(Unit::Count),
                };
            },
            Missing::Requests,
        ),
        (
            |inputs| inputs.days = Figure::unknown(Unit::Days),
            Missing::Days,
        ),
        (
            |inputs| inputs.api.share = Figure::unknown(Unit::Share),
            Missing::Share,
        ),
        (
            |inputs| inputs.api.retries = Figure::unknown(Unit::Share),
            Missing::Retries,
        ),
        (
            |inputs| inputs.api.tokens_out = Figure::unknown(Unit::Tokens),
            Missing::Tokens,
        ),
        (
            |inputs| inputs.api.price.cached_input = Figure::unknown(Unit::MoneyPerMillionTokens),
            Missing::Price,
        ),
        (
            |inputs| inputs.power.energy = Figure::unknown(Unit::WattHours),
            Missing::Energy,
        ),
        (
            |inputs| inputs.power.idle = Figure::unknown(Unit::Watts),
            Missing::IdlePower,
        ),
        (
            |inputs| inputs.power.kwh = Figure::unknown(Unit::MoneyPerKilowattHour),
            Missing::KilowattHour,
        ),
        (
            |inputs| inputs.hardware.as_mut().unwrap().life = Figure::unknown(Unit::Years),
            Missing::Life,
        ),
    ];
    for (forget, missing) in forget {
        let mut inputs = complete();
        forget(&mut inputs);
        let report = roi(&inputs);
        assert!(!report.net.is_known(), "{missing:?}");
        assert_eq!(report.missing, [missing]);
    }
}

#[test]
fn routing_that_costs_time_saves_less_than_nothing() {
    let report = roi(&RoiInputs {
        slow: known(1.0, Unit::Seconds),
        fast: known(2.0, Unit::Seconds),
        ..sources()
    });
    is(report.speedup, 0.5);
    is(report.reduction, -1.0);
    assert!(report.year.saved.value().unwrap() < 0.0);
    assert!(report.time.money.value().unwrap() < 0.0);
}
