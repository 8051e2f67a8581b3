//! What a number of tokens costs at somebody's price.

use serde::{Deserialize, Serialize};

use super::figure::{Figure, Unit};

/// The price in the source documents, per million tokens, input and output alike ($0.02 per thousand).
pub const SOURCES_PRICE: f64 = 20.0;

/// Whose price it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum PriceBasis {
    /// The source documents': $0.02 per thousand tokens, input and output alike. Nobody's price list says so.
    Sources,
    /// A line of the configured price sheet.
    Sheet {
        /// The model.
        model: String,
        /// Date of the sheet, where it has one.
        as_of: Option<String>,
    },
    /// Nobody's: no price is configured.
    None,
}

/// Prices of a model, per million tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Whose price it is.
    pub basis: PriceBasis,
    /// Of input tokens that the provider has to read.
    pub input: Figure,
    /// Of input tokens that the provider had read before; unknown where the sheet does not say.
    pub cached_input: Figure,
    /// Of output tokens.
    pub output: Figure,
}

impl Price {
    /// The source documents' price.
    pub fn of_the_sources() -> Self {
        let price = Figure::configured(SOURCES_PRICE, Unit::MoneyPerMillionTokens);
        Self {
            basis: PriceBasis::Sources,
            input: price,
            cached_input: price,
            output: price,
        }
    }

    /// No price at all.
    pub fn unknown() -> Self {
        let price = Figure::unknown(Unit::MoneyPerMillionTokens);
        Self {
            basis: PriceBasis::None,
            input: price,
            cached_input: price,
            output: price,
        }
    }

    /// Cost of a request. `cached` counts those of the input tokens that the provider had read before; none of them need no price.
    pub(super) fn cost(&self, input: Figure, cached: Figure, output: Figure) -> Figure {
        // Summed before it is divided: prices in whole cents then give an exact sum.
        let part = |tokens: Figure, price: Figure| tokens.times(price, Unit::Money);
        let fresh = part(input.minus(cached), self.input);
        let mut sum = fresh.plus(part(output, self.output));
        if cached.value() != Some(0.0) {
            sum = sum.plus(part(cached, self.cached_input));
        }
        sum.adjusted(Unit::Money, |millionths| millionths / 1e6)
    }
}

/// What `bench cost` is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CostInputs {
    /// Currency of the price.
    pub currency: String,
    /// Input tokens.
    pub tokens_in: Figure,
    /// Those of them that the provider had read before.
    pub tokens_cached: Figure,
    /// Output tokens.
    pub tokens_out: Figure,
    /// The price.
    pub price: Price,
}

/// What `bench cost` answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CostReport {
    /// Input and output tokens together.
    pub tokens: Figure,
    /// What they cost.
    pub cost: Figure,
}

/// What a number of tokens costs.
pub fn cost(inputs: &CostInputs) -> CostReport {
    CostReport {
        tokens: inputs.tokens_in.plus(inputs.tokens_out),
        cost: inputs
            .price
            .cost(inputs.tokens_in, inputs.tokens_cached, inputs.tokens_out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(count: f64) -> Figure {
        Figure::configured(count, Unit::Tokens)
    }

    fn sheet(input: f64, cached: Option<f64>, output: f64) -> Price {
        let price = |price| Figure::given(price, Unit::MoneyPerMillionTokens);
        Price {
            basis: PriceBasis::Sheet {
                model: "m".to_owned(),
                as_of: None,
            },
            input: price(Some(input)),
            cached_input: price(cached),
            output: price(Some(output)),
        }
    }

    #[test]
    fn the_sources_arithmetic_is_reproduced() {
        let report = cost(&CostInputs {
            currency: "USD".to_owned(),
            tokens_in: tokens(10.0),
            tokens_cached: tokens(0.0),
            tokens_out: tokens(261.0),
            price: Price::of_the_sources(),
        });
        assert_eq!(report.tokens, tokens(271.0));
        assert_eq!(report.cost, Figure::configured(0.005_42, Unit::Money));
    }

    #[test]
    fn cached_tokens_have_their_own_price_or_none() {
        let known = sheet(2.0, Some(0.5), 8.0);
        let cost = |price: &Price, cached| {
            price
                .cost(tokens(1000.0), tokens(cached), tokens(100.0))
                .value()
        };
        assert_eq!(cost(&known, 0.0), Some(0.0028));
        assert_eq!(cost(&known, 1000.0), Some(0.0013));
        let silent = sheet(2.0, None, 8.0);
        assert_eq!(cost(&silent, 0.0), Some(0.0028));
        assert_eq!(cost(&silent, 1.0), None, "an unknown price is no price");
        assert_eq!(cost(&Price::unknown(), 0.0), None);
    }
}
