//! `gpurouter bench roi`: what faster answers are worth.

use std::path::PathBuf;

use super::measured::Measured;
use super::price;
use crate::cli::Global;
use crate::config::{self, Environment, Overrides};
use crate::measure::{
    Attention, Bench, Figure, Hardware, PayingApi, Power, Price, RoiInputs, Rounding, Unit,
    Workload,
};
use crate::render::Told;

/// Flags of `bench roi`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gpurouter bench roi --slow 19 --fast 0.34 --requests 200 --days 250 --rate 50
  gpurouter bench roi --slow 6 --fast 2 --developers 10 --per-developer 20 \\
    --days 250 --rate 50 --attention 0.1
  gpurouter bench roi --from live.jsonl --requests 200 --days 250 \\
    --api-share 0.4 --retries 0.05 --idle-watts 25 --kwh 0.30 --capex 350 \\
    --life 4

The value of waiting: without --rate it is not counted, because people overlap
waits. --rate alone is the source documents' arithmetic, in which every waited
second is a paid one; --attention X says which share of it is. It is never
part of the net, which is the API's money less energy, idle power, hardware and
retries. What is not given is n/a, and so is what needs it.
Exit codes: 0 done, 1 the receipt of --from does not serve, 2 usage.")]
pub struct Args {
    /// Seconds of a request today
    #[arg(long, value_name = "S", value_parser = price::positive, required_unless_present = "from")]
    pub slow: Option<f64>,
    /// Seconds of the same request when it is routed
    #[arg(long, value_name = "S", value_parser = price::positive, required_unless_present = "from")]
    pub fast: Option<f64>,
    /// A receipt of `bench live` that has both, and more
    #[arg(long, value_name = "FILE", conflicts_with_all = ["slow", "fast"])]
    pub from: Option<PathBuf>,
    /// Requests a day, of everybody together
    #[arg(long, value_name = "N", value_parser = price::number,
          conflicts_with_all = ["developers", "per_developer"])]
    pub requests: Option<f64>,
    /// People who send requests
    #[arg(long, value_name = "N", value_parser = price::number, requires = "per_developer")]
    pub developers: Option<f64>,
    /// Requests a day of each of them
    #[arg(long, value_name = "N", value_parser = price::number, requires = "developers")]
    pub per_developer: Option<f64>,
    /// Working days a year
    #[arg(long, value_name = "N", value_parser = price::number)]
    pub days: Option<f64>,
    /// Money for an hour of somebody's time
    #[arg(long, value_name = "MONEY", value_parser = price::number)]
    pub rate: Option<f64>,
    /// Share of the waiting that is paid attention, 0 to 1
    #[arg(long, value_name = "X", value_parser = price::share, requires = "rate")]
    pub attention: Option<f64>,
    /// `source`: each step as they print it [default: exact]
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Steps::Exact,
          hide_default_value = true, hide_possible_values = true)]
    pub rounding: Steps,
    /// Share of the requests that would have gone to an API
    #[arg(long, value_name = "X", value_parser = price::share)]
    pub api_share: Option<f64>,
    /// Share of the requests that went there after all
    #[arg(long, value_name = "X", value_parser = price::share)]
    pub retries: Option<f64>,
    /// Prompt tokens of a request
    #[arg(long, value_name = "N", value_parser = price::number)]
    pub tokens_in: Option<f64>,
    /// Those of them that it had read before [default: 0]
    #[arg(long, value_name = "N", value_parser = price::number, requires = "tokens_in")]
    pub tokens_cached: Option<f64>,
    /// Answer tokens of a request
    #[arg(long, value_name = "N", value_parser = price::number)]
    pub tokens_out: Option<f64>,
    /// The API's model [default: `prices.reference`]
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Watt hours of a request, above idle
    #[arg(long, value_name = "WH", value_parser = price::number)]
    pub energy: Option<f64>,
    /// Watts of the machine when it waits
    #[arg(long, value_name = "W", value_parser = price::number)]
    pub idle_watts: Option<f64>,
    /// Hours for which it is on every day
    #[arg(long, value_name = "H", value_parser = hours, default_value_t = 24.0)]
    pub idle_hours: f64,
    /// Price of a kilowatt hour [default: `prices.kwh`]
    #[arg(long, value_name = "MONEY", value_parser = price::number)]
    pub kwh: Option<f64>,
    /// Price of the hardware; not given: not counted
    #[arg(long, value_name = "MONEY", value_parser = price::number, requires = "life")]
    pub capex: Option<f64>,
    /// Years for which the hardware is used
    #[arg(long, value_name = "YEARS", value_parser = price::positive, requires = "capex")]
    pub life: Option<f64>,
    /// Write observations and report as JSON lines
    #[arg(long, value_name = "FILE")]
    pub receipt: Option<PathBuf>,
}

/// Which numbers the arithmetic goes on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Steps {
    /// The exact ones
    Exact,
    /// Each step as the source documents printed it
    Source,
}

fn hours(text: &str) -> Result<f64, String> {
    match price::number(text) {
        Ok(hours) if hours <= 24.0 => Ok(hours),
        _ => Err("a day has 0 to 24 hours".to_owned()),
    }
}

/// What the flags and the configuration say.
pub(super) fn inputs(global: &Global, args: &Args) -> anyhow::Result<Bench> {
    let loaded = config::load(global, &Environment::of_process(), &Overrides::default())?;
    let prices = &loaded.config.prices;
    let measured = args.from.as_deref().map(Measured::read).transpose()?;
    let measured = measured.as_ref();
    let count = |value| Figure::given(value, Unit::Count);
    let tokens = |value| Figure::given(value, Unit::Tokens);
    let share = |value| Figure::given(value, Unit::Share);
    if args.tokens_cached > args.tokens_in {
        return Err(Told::usage("--tokens-cached is more than --tokens-in").into());
    }
    Ok(Bench::Roi(Box::new(RoiInputs {
        currency: price::currency(prices),
        rounding: match args.rounding {
            Steps::Exact => Rounding::Exact,
            Steps::Source => Rounding::Source,
        },
        evidence: measured.map(|measured| measured.evidence.clone()),
        slow: measured.map_or(Figure::given(args.slow, Unit::Seconds), |one| one.slow),
        fast: measured.map_or(Figure::given(args.fast, Unit::Seconds), |one| one.fast),
        workload: match args.developers {
            None => Workload::PerDay {
                requests: count(args.requests),
            },
            developers => Workload::Team {
                developers: count(developers),
                per_developer: count(args.per_developer),
            },
        },
        days: Figure::given(args.days, Unit::Days),
        rate: Figure::given(args.rate, Unit::MoneyPerHour),
        attention: match (args.rate, args.attention) {
            (None, _) => Attention::NotCounted,
            (Some(_), None) => Attention::Sources,
            (Some(_), attention) => Attention::Share(share(attention)),
        },
        api: PayingApi {
            share: share(args.api_share),
            retries: share(args.retries),
            tokens_in: tokens(args.tokens_in).or(measured.map(|one| one.tokens_in)),
            tokens_cached: tokens(args.tokens_in.map(|_| args.tokens_cached.unwrap_or(0.0)))
                .or(measured.map(|one| one.tokens_cached)),
            tokens_out: tokens(args.tokens_out).or(measured.map(|one| one.tokens_out)),
            price: price::of(prices, args.model.as_deref())?.unwrap_or_else(Price::unknown),
        },
        power: Power {
            energy: Figure::given(args.energy, Unit::WattHours).or(measured.map(|one| one.energy)),
            idle: Figure::given(args.idle_watts, Unit::Watts),
            idle_hours: Figure::configured(args.idle_hours, Unit::Hours),
            kwh: Figure::given(args.kwh.or(prices.kwh), Unit::MoneyPerKilowattHour),
        },
        hardware: args.capex.map(|capex| Hardware {
            capex: Figure::configured(capex, Unit::Money),
            life: Figure::given(args.life, Unit::Years),
        }),
    })))
}
