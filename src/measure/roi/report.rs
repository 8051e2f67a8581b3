//! The arithmetic of the return on investment.

use serde::Serialize;

use super::{Attention, Hardware, RoiInputs, Rounding};
use crate::measure::figure::{Figure, Unit};

/// Days of a year for which a machine that is always on is on.
const DAYS_ON: f64 = 365.0;
/// The two figures behind the source documents' headline, in seconds.
const SOURCES_INPUTS: (f64, f64) = (19.0, 0.34);
/// Seconds that the source documents' own log gives for the request that their headline puts at 0.34 s.
const SOURCES_LOGGED: f64 = 2.382;
/// Seconds that the source documents' FAQ gives for the same request on the big model when it is loaded: the middle of "2-3 seconds".
const SOURCES_WARM: f64 = 2.5;

/// The same quantity under both policies.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Span {
    /// Today.
    pub slow: Figure,
    /// Routed.
    pub fast: Figure,
    /// Their difference; below 0 when routing costs time.
    pub saved: Figure,
}

impl Span {
    fn of(slow: Figure, fast: Figure) -> Self {
        Self {
            slow,
            fast,
            saved: slow.minus(fast),
        }
    }
}

/// The time that people wait, and what somebody says it is worth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Time {
    /// Where the share comes from.
    pub basis: Basis,
    /// Share of the waiting that counts as paid attention.
    pub attention: Figure,
    /// Saved hours of paid attention in a year.
    pub hours: Figure,
    /// What they are worth.
    pub money: Figure,
}

/// Where the share of paid attention comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// Nobody said one: waiting is worth nothing.
    NotCounted,
    /// The source documents' arithmetic: every waited second counts as paid.
    Sources,
    /// The user's own.
    Configured,
}

/// Money that an API did not get, and what it got all the same.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Avoided {
    /// What one request would have cost there.
    pub per_request: Figure,
    /// What was not paid in a year.
    pub avoided: Figure,
    /// What was paid in a year for requests that were answered here first.
    pub retries: Figure,
}

/// Energy of a year.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Electricity {
    /// Of the requests, above idle.
    pub energy: Figure,
    /// What it costs.
    pub energy_cost: Figure,
    /// Of a machine that waits.
    pub idle: Figure,
    /// What it costs.
    pub idle_cost: Figure,
}

/// When the hardware has paid for itself.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Payback {
    /// After so many months.
    After {
        /// Months.
        months: Figure,
    },
    /// Never: a year costs as much as it saves, or more.
    Never,
    /// No hardware is counted.
    NoHardware,
    /// A number that it needs is unknown.
    Unknown,
}

/// A number without which there is no net.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// Requests in a day.
    Requests,
    /// Working days in a year.
    Days,
    /// Share of the requests that would have gone to an API.
    Share,
    /// Share of the requests that were paid for there after all.
    Retries,
    /// Tokens of a request.
    Tokens,
    /// A price of the API.
    Price,
    /// Energy of a request.
    Energy,
    /// Idle power.
    IdlePower,
    /// Price of a kilowatt hour.
    KilowattHour,
    /// Years of use of the hardware.
    Life,
}

/// What a reader must know beside the figures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "code", rename_all = "kebab-case")]
pub enum Note {
    /// Money for time follows the source documents: every waited second counts as paid.
    SourcesArithmetic,
    /// The source documents' 19 s and 0.34 s are not like for like: their own log has `logged` for the routed request, and their FAQ `warm` for the
    /// big model once it is loaded. This is what the same arithmetic says of those.
    NotLikeForLike {
        /// Seconds of the routed request in the source documents' own log.
        logged: Figure,
        /// Seconds of the big model when it is loaded, in their FAQ.
        warm: Figure,
        /// Warm against warm.
        speedup: Figure,
        /// Saved hours in a year.
        hours: Figure,
        /// What they are worth in the source documents' arithmetic.
        money: Figure,
    },
}

/// What follows from the inputs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RoiReport {
    /// Requests in a day, of everybody together.
    pub requests_per_day: Figure,
    /// Today's time over the routed one.
    pub speedup: Figure,
    /// Share of the time that is saved.
    pub reduction: Figure,
    /// Minutes in a day.
    pub day: Span,
    /// Hours in a year.
    pub year: Span,
    /// What the saved time is worth; no part of the net.
    pub time: Time,
    /// Money that an API did not get in a year.
    pub api: Avoided,
    /// Energy of a year.
    pub electricity: Electricity,
    /// The hardware's price spread over its years of use, of one year; `None` where none is counted.
    pub hardware: Option<Figure>,
    /// Energy, idle power and hardware of a year.
    pub cost: Figure,
    /// What is left in a year: the API's money, less the cost and the retries. Without the value of time.
    pub net: Figure,
    /// When the hardware has paid for itself.
    pub payback: Payback,
    /// What the net still needs.
    pub missing: Vec<Missing>,
    /// What a reader must know beside the figures.
    pub notes: Vec<Note>,
}

/// Computes the return on investment.
pub fn roi(inputs: &RoiInputs) -> RoiReport {
    let requests_per_day = inputs.workload.per_day();
    let per_year = requests_per_day.times(inputs.days, Unit::Count);
    let (day, year) = spans(inputs, inputs.slow, inputs.fast);
    let time = time(inputs, year.saved);
    let api = avoided(inputs, per_year);
    let electricity = electricity(inputs, per_year);
    let hardware = inputs
        .hardware
        .map(|bought| bought.capex.over(bought.life, Unit::Money));
    let running = electricity.energy_cost.plus(electricity.idle_cost);
    let cost = hardware.map_or(running, |hardware| running.plus(hardware));
    let earned = api.avoided.minus(api.retries);
    RoiReport {
        requests_per_day,
        speedup: inputs.slow.over(inputs.fast, Unit::Ratio),
        reduction: inputs
            .slow
            .minus(inputs.fast)
            .over(inputs.slow, Unit::Share),
        day,
        year,
        time,
        api,
        electricity,
        hardware,
        cost,
        net: earned.minus(cost),
        payback: payback(inputs.hardware, earned.minus(running)),
        missing: missing(inputs),
        notes: notes(inputs),
    }
}

/// Minutes of a day and hours of a year.
fn spans(inputs: &RoiInputs, slow: Figure, fast: Figure) -> (Span, Span) {
    let per_day = inputs.workload.per_day();
    let minutes = |seconds: Figure| {
        let minutes = seconds
            .times(per_day, Unit::Seconds)
            .adjusted(Unit::Minutes, |seconds| seconds / 60.0);
        rounded(minutes, inputs.rounding)
    };
    let hours = |minutes: Figure| {
        let hours = minutes
            .times(inputs.days, Unit::Minutes)
            .adjusted(Unit::Hours, |minutes| minutes / 60.0);
        rounded(hours, inputs.rounding)
    };
    let day = Span::of(minutes(slow), minutes(fast));
    let year = Span::of(hours(day.slow), hours(day.fast));
    let tidy = |span: Span| Span {
        // A difference of rounded numbers has their decimals, whatever binary arithmetic makes of it.
        saved: match inputs.rounding {
            Rounding::Exact => span.saved,
            Rounding::Source => span.saved.adjusted(span.saved.unit(), to_one_decimal),
        },
        ..span
    };
    (tidy(day), tidy(year))
}

fn to_one_decimal(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// A number as the source documents print it, where it is to be rounded at all.
fn rounded(figure: Figure, rounding: Rounding) -> Figure {
    let unit = figure.unit();
    match rounding {
        Rounding::Exact => figure,
        Rounding::Source => figure.adjusted(unit, |value| {
            if unit == Unit::Hours && value >= 100.0 {
                value.round()
            } else {
                to_one_decimal(value)
            }
        }),
    }
}

fn time(inputs: &RoiInputs, saved: Figure) -> Time {
    let attention = inputs.attention.share();
    let hours = saved.times(attention, Unit::Hours);
    Time {
        basis: match inputs.attention {
            Attention::NotCounted => Basis::NotCounted,
            Attention::Sources => Basis::Sources,
            Attention::Share(_) => Basis::Configured,
        },
        attention,
        hours,
        money: hours.times(inputs.rate, Unit::Money),
    }
}

fn avoided(inputs: &RoiInputs, per_year: Figure) -> Avoided {
    let api = &inputs.api;
    let per_request = api
        .price
        .cost(api.tokens_in, api.tokens_cached, api.tokens_out);
    let of = |share: Figure| {
        share
            .times(per_year, Unit::Count)
            .times(per_request, Unit::Money)
    };
    Avoided {
        per_request,
        avoided: of(api.share),
        retries: of(api.retries),
    }
}

fn electricity(inputs: &RoiInputs, per_year: Figure) -> Electricity {
    let power = inputs.power;
    let kilo = |figure: Figure| figure.adjusted(Unit::KilowattHours, |hours| hours / 1000.0);
    let energy = kilo(power.energy.times(per_year, Unit::WattHours));
    let idle = kilo(
        power
            .idle
            .times(power.idle_hours, Unit::WattHours)
            .converted(DAYS_ON, Unit::WattHours),
    );
    Electricity {
        energy,
        energy_cost: energy.times(power.kwh, Unit::Money),
        idle,
        idle_cost: idle.times(power.kwh, Unit::Money),
    }
}

/// The price of the hardware over what is left in a month. Its own depreciation is not taken off first: that would count it twice.
fn payback(hardware: Option<Hardware>, left_per_year: Figure) -> Payback {
    let Some(hardware) = hardware else {
        return Payback::NoHardware;
    };
    let Some(left) = left_per_year.value() else {
        return Payback::Unknown;
    };
    if left <= 0.0 {
        return Payback::Never;
    }
    let per_month = left_per_year.adjusted(Unit::Money, |year| year / 12.0);
    Payback::After {
        months: hardware.capex.over(per_month, Unit::Months),
    }
}

fn missing(inputs: &RoiInputs) -> Vec<Missing> {
    let (api, power) = (&inputs.api, inputs.power);
    let counted = [api.tokens_in, api.tokens_cached, api.tokens_out]
        .iter()
        .all(|tokens| tokens.is_known());
    let priced = if counted {
        api.price
            .cost(api.tokens_in, api.tokens_cached, api.tokens_out)
            .is_known()
    } else {
        api.price.input.is_known()
    };
    let needs = [
        (inputs.workload.per_day().is_known(), Missing::Requests),
        (inputs.days.is_known(), Missing::Days),
        (api.share.is_known(), Missing::Share),
        (api.retries.is_known(), Missing::Retries),
        (counted, Missing::Tokens),
        (priced, Missing::Price),
        (power.energy.is_known(), Missing::Energy),
        (
            power.idle.is_known() && power.idle_hours.is_known(),
            Missing::IdlePower,
        ),
        (power.kwh.is_known(), Missing::KilowattHour),
        (
            inputs
                .hardware
                .is_none_or(|hardware| hardware.life.is_known()),
            Missing::Life,
        ),
    ];
    needs
        .into_iter()
        .filter_map(|(known, missing)| (!known).then_some(missing))
        .collect()
}

fn notes(inputs: &RoiInputs) -> Vec<Note> {
    let mut notes = Vec::new();
    if inputs.attention == Attention::Sources {
        notes.push(Note::SourcesArithmetic);
    }
    if (inputs.slow.value(), inputs.fast.value())
        == (Some(SOURCES_INPUTS.0), Some(SOURCES_INPUTS.1))
    {
        let (warm, logged) = (
            Figure::configured(SOURCES_WARM, Unit::Seconds),
            Figure::configured(SOURCES_LOGGED, Unit::Seconds),
        );
        let exact = RoiInputs {
            rounding: Rounding::Exact,
            ..inputs.clone()
        };
        let hours = spans(&exact, warm, logged).1.saved;
        notes.push(Note::NotLikeForLike {
            logged,
            warm,
            speedup: warm.over(logged, Unit::Ratio),
            hours,
            money: hours.times(inputs.rate, Unit::Money),
        });
    }
    notes
}
