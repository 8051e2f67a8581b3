//! Prices of the configuration, and how numbers are typed.

use crate::config::Prices;
use crate::measure::{Figure, Price, PriceBasis, Unit};
use crate::render::Told;

/// The currency of money where none is configured: the source documents'.
const CURRENCY: &str = "USD";

/// The currency of all money.
pub(super) fn currency(prices: &Prices) -> String {
    prices.currency.clone().unwrap_or(CURRENCY.to_owned())
}

/// The price of a model, or of the sheet's reference; `None` when neither is named.
pub(super) fn of(prices: &Prices, model: Option<&str>) -> Result<Option<Price>, Told> {
    let Some(model) = model.or(prices.reference.as_deref()) else {
        return Ok(None);
    };
    let Some(price) = prices.models.get(model) else {
        let known: Vec<&str> = prices.models.keys().map(String::as_str).collect();
        let hint = if known.is_empty() {
            "[prices.models] of the configuration is where prices are".to_owned()
        } else {
            format!("there are prices for {}", known.join(", "))
        };
        return Err(Told::usage(format!("no price is configured for `{model}`")).hint(hint));
    };
    let figure = |price| Figure::given(price, Unit::MoneyPerMillionTokens);
    Ok(Some(Price {
        basis: PriceBasis::Sheet {
            model: model.to_owned(),
            as_of: prices.as_of.clone(),
        },
        input: figure(Some(price.input)),
        cached_input: figure(price.cached_input),
        output: figure(Some(price.output)),
    }))
}

/// A number from 0.
pub(super) fn number(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number >= 0.0 && number.is_finite() => Ok(number),
        _ => Err("a number from 0 is expected".to_owned()),
    }
}

/// A number above 0.
pub(super) fn positive(text: &str) -> Result<f64, String> {
    match number(text) {
        Ok(number) if number > 0.0 => Ok(number),
        _ => Err("a number above 0 is expected".to_owned()),
    }
}

/// A share, 0 to 1.
pub(super) fn share(text: &str) -> Result<f64, String> {
    match number(text) {
        Ok(share) if share <= 1.0 => Ok(share),
        _ => Err("a share is a number from 0 to 1".to_owned()),
    }
}
