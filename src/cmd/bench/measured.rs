//! What a receipt of `bench live` says about the worth of routing.

use std::path::Path;

use super::Exit;
use crate::measure::{Comparability, Evidence, Figure, Report, Unit, check};
use crate::render::Told;

/// What a live receipt measured of a request, as means; failures count at the time-out.
pub(super) struct Measured {
    pub(super) evidence: Evidence,
    pub(super) slow: Figure,
    pub(super) fast: Figure,
    pub(super) tokens_in: Figure,
    pub(super) tokens_cached: Figure,
    pub(super) tokens_out: Figure,
    pub(super) energy: Figure,
}

impl Measured {
    /// Reads a receipt that holds, of answers that are as good.
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
        let refused = |told: String| Told {
            message: format!("`{}`: {told}", file.display()),
            hint: Some(format!(
                "gpurouter bench --recompute {} says more",
                file.display()
            )),
            exit: Exit::No,
        };
        let bytes = super::super::read_file(file)?;
        let checked = check(&bytes)
            .map_err(|error| Told::usage(format!("`{}` is no receipt: {error}", file.display())))?;
        let Report::Live(report) = &checked.figures else {
            return Err(super::super::usage(format!(
                "`{}` is no receipt of `bench live`",
                file.display()
            )));
        };
        if !checked.findings.is_empty() {
            return Err(refused("the receipt does not hold".to_owned()).into());
        }
        if report.quality != Comparability::Comparable {
            return Err(refused("the answers are not comparable".to_owned()).into());
        }
        let all = report.all;
        let seconds = |figure: Figure| figure.converted(1e-3, Unit::Seconds);
        #[expect(clippy::cast_precision_loss, reason = "requests are far below 2^53")]
        let requests = Figure::measured(all.routed.requests as f64, Unit::Count);
        let each = |sum: Figure| sum.over(requests, Unit::Tokens);
        Ok(Self {
            evidence: Evidence {
                sha256: checked.receipt.sha256.clone(),
                pairs: all.pairs,
            },
            slow: seconds(all.today.total_mean),
            fast: seconds(all.routed.total_mean),
            tokens_in: each(all.routed.tokens_in),
            tokens_cached: each(all.routed.tokens_cached),
            tokens_out: each(all.routed.tokens_out),
            energy: all.routed.energy_per_request,
        })
    }
}
