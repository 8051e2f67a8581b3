//! `gpurouter bench cost`: what a number of tokens costs at an API.

use std::path::PathBuf;

use super::price;
use crate::cli::Global;
use crate::config::{self, Environment, Overrides};
use crate::measure::{Bench, CostInputs, Figure, Price, Unit};
use crate::render::Told;

/// Flags of `bench cost`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gpurouter bench cost --tokens-in 10 --tokens-out 261
  gpurouter bench cost --tokens-in 9000 --tokens-cached 8000 --tokens-out 400 \\
    --model gpt-5-mini

Prices are those of [prices.models] in the configuration, with the sheet's
date. Without --model: those of `prices.reference`; without that one either:
the source documents' $0.02 per thousand tokens, which is nobody's price list.
Exit codes: 0 done, 2 usage.")]
pub struct Args {
    /// Prompt tokens
    #[arg(long, value_name = "N")]
    pub tokens_in: u32,
    /// Those of them that it had read before
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub tokens_cached: u32,
    /// Answer tokens
    #[arg(long, value_name = "N")]
    pub tokens_out: u32,
    /// A model of the configured price sheet
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Write observations and report as JSON lines
    #[arg(long, value_name = "FILE")]
    pub receipt: Option<PathBuf>,
}

/// What the flags and the configuration say.
pub(super) fn inputs(global: &Global, args: &Args) -> anyhow::Result<Bench> {
    if args.tokens_cached > args.tokens_in {
        return Err(Told::usage("--tokens-cached is more than --tokens-in").into());
    }
    let loaded = config::load(global, &Environment::of_process(), &Overrides::default())?;
    let prices = &loaded.config.prices;
    let tokens = |count: u32| Figure::configured(f64::from(count), Unit::Tokens);
    Ok(Bench::Cost(CostInputs {
        currency: price::currency(prices),
        tokens_in: tokens(args.tokens_in),
        tokens_cached: tokens(args.tokens_cached),
        tokens_out: tokens(args.tokens_out),
        price: price::of(prices, args.model.as_deref())?.unwrap_or_else(Price::of_the_sources),
    }))
}
