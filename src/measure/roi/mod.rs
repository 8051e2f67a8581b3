//! Return on investment: what somebody has to know, and what follows from it.
//!
//! Time, money that was not paid to an API, energy, idle power and hardware are lines of their own. The time that people wait is no income:
//! it is valued only when somebody says which share of it was paid attention, and it is never part of the net.

mod report;

pub use report::{Avoided, Basis, Electricity, Missing, Note, Payback, RoiReport, Span, Time, roi};

use serde::{Deserialize, Serialize};

use super::cost::Price;
use super::figure::{Figure, Unit};

/// How many requests there are in a day.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Workload {
    /// So many, of everybody together.
    PerDay {
        /// Requests in a day.
        requests: Figure,
    },
    /// So many people with so many each.
    Team {
        /// People.
        developers: Figure,
        /// Requests of each of them in a day.
        per_developer: Figure,
    },
}

impl Workload {
    /// Requests in a day, of everybody together.
    pub fn per_day(self) -> Figure {
        match self {
            Self::PerDay { requests } => requests,
            Self::Team {
                developers,
                per_developer,
            } => developers.times(per_developer, Unit::Count),
        }
    }
}

/// Which share of the time that somebody waits is paid attention.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attention {
    /// None, the default: people overlap waits.
    NotCounted,
    /// All of it: the source documents' arithmetic, in which every waited second is a paid one.
    Sources,
    /// A share that the user vouches for, 0 to 1.
    Share(Figure),
}

impl Attention {
    /// The share.
    pub fn share(self) -> Figure {
        match self {
            Self::NotCounted => Figure::configured(0.0, Unit::Share),
            Self::Sources => Figure::configured(1.0, Unit::Share),
            Self::Share(share) => share,
        }
    }
}

/// Which numbers the arithmetic goes on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// The exact ones.
    #[default]
    Exact,
    /// Every intermediate figure as the source documents printed it: minutes to one decimal; hours to one decimal, from 100 on to whole hours.
    Source,
}

/// What would have been paid to an API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PayingApi {
    /// Share of the requests that would truly have gone there.
    pub share: Figure,
    /// Share of the requests that were answered here and then paid for there after all.
    pub retries: Figure,
    /// Input tokens of a request.
    pub tokens_in: Figure,
    /// Those of them that the API would have read before.
    pub tokens_cached: Figure,
    /// Output tokens of a request.
    pub tokens_out: Figure,
    /// Price of the cheapest model that passes the same checks.
    pub price: Price,
}

/// What the machine takes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Power {
    /// Watt hours of a request above what the machine takes when idle.
    pub energy: Figure,
    /// Watts when idle.
    pub idle: Figure,
    /// Hours in a day for which it is on, on 365 days of a year.
    pub idle_hours: Figure,
    /// Price of a kilowatt hour.
    pub kwh: Figure,
}

/// What was bought for it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hardware {
    /// Its price.
    pub capex: Figure,
    /// Years of use.
    pub life: Figure,
}

/// The receipt that measured inputs were taken from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// SHA-256 of its lines before the report.
    pub sha256: String,
    /// Pairs in it.
    pub pairs: u64,
}

/// Everything that `bench roi` has to know; what nobody said is an unknown figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoiInputs {
    /// Currency of all money.
    pub currency: String,
    /// Which numbers the arithmetic goes on with.
    pub rounding: Rounding,
    /// Where measured inputs come from; `None` when nothing was measured.
    pub evidence: Option<Evidence>,
    /// Seconds of a request today.
    pub slow: Figure,
    /// Seconds of the same request when it is routed.
    pub fast: Figure,
    /// Requests.
    pub workload: Workload,
    /// Working days in a year.
    pub days: Figure,
    /// Money for an hour of somebody's time.
    pub rate: Figure,
    /// Which share of waiting is paid attention.
    pub attention: Attention,
    /// What would have been paid to an API.
    pub api: PayingApi,
    /// What the machine takes.
    pub power: Power,
    /// What was bought; `None` is not counted.
    pub hardware: Option<Hardware>,
}

#[cfg(test)]
mod tests;
