//! Two requests to two nodes at once against the same two one after the other.

use serde::{Deserialize, Serialize};

use super::figure::{Figure, Unit};
use super::random::Random;
use super::statistics::{bootstrap_mean, mean, quantile};

/// What is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConcurrentSettings {
    /// Names of the two nodes.
    pub names: [String; 2],
    /// Their addresses.
    pub nodes: [String; 2],
    /// What each is asked for.
    pub models: [String; 2],
    /// What stands between, such as `gpurouter at http://127.0.0.1:8512`.
    pub routed: String,
    /// Repeats that count.
    pub repeats: u32,
    /// Names of the two prompts.
    pub prompts: [String; 2],
    /// Seed of the resampling.
    pub seed: u64,
    /// Resamples of an interval.
    pub resamples: u32,
}

/// The way that requests take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// To each node itself.
    Direct,
    /// Both through the router.
    Routed,
}

/// Both requests, one after the other and at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConcurrentObservation {
    /// How they were sent.
    pub way: Way,
    /// Milliseconds of both one after the other.
    pub apart_ms: f64,
    /// Milliseconds of both at once.
    pub together_ms: f64,
    /// The nodes that answered at once, where the answers say it.
    pub nodes: [Option<String>; 2],
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ConcurrentReport {
    /// Directly.
    pub direct: Ways,
    /// Through the router.
    pub routed: Ways,
    /// Repeats in which the router sent the two to different nodes.
    pub on_two_nodes: Figure,
}

/// The figures of one way.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ways {
    /// Milliseconds of one after the other, the median.
    pub apart_p50: Figure,
    /// Milliseconds of both at once, the median.
    pub together_p50: Figure,
    /// The first over the second, the geometric mean of the repeats.
    pub ratio: Figure,
    /// The lower end of its 95 % interval.
    pub low: Figure,
    /// The upper end.
    pub high: Figure,
}

/// What follows from the repeats.
pub(super) fn concurrent(
    settings: &ConcurrentSettings,
    observations: &[ConcurrentObservation],
) -> ConcurrentReport {
    let routed = || observations.iter().filter(|one| one.way == Way::Routed);
    let named = |node: &Option<String>| {
        settings
            .names
            .iter()
            .any(|name| Some(name) == node.as_ref())
    };
    let apart = routed()
        .filter(|one| one.nodes.iter().all(named) && one.nodes[0] != one.nodes[1])
        .count();
    let told = routed().any(|one| one.nodes.iter().any(Option::is_some));
    #[expect(clippy::cast_precision_loss, reason = "repeats")]
    let apart = apart as f64;
    ConcurrentReport {
        direct: Ways::of(Way::Direct, observations, settings),
        routed: Ways::of(Way::Routed, observations, settings),
        on_two_nodes: if told {
            Figure::measured(apart, Unit::Count)
        } else {
            Figure::unknown(Unit::Count)
        },
    }
}

impl Ways {
    fn of(way: Way, observations: &[ConcurrentObservation], settings: &ConcurrentSettings) -> Self {
        let repeats = || observations.iter().filter(|one| one.way == way);
        let middle = |of: fn(&ConcurrentObservation) -> f64| {
            let times: Vec<f64> = repeats().map(of).collect();
            quantile(&times, 0.5).map_or(Figure::unknown(Unit::Milliseconds), |ms| {
                Figure::measured(ms, Unit::Milliseconds)
            })
        };
        let logs: Vec<f64> = repeats()
            .map(|one| (one.apart_ms / one.together_ms).ln())
            .collect();
        let interval = bootstrap_mean(&logs, settings.resamples, &mut Random::new(settings.seed));
        let ratio = |log: Option<f64>| {
            log.map_or(Figure::unknown(Unit::Ratio), |log| {
                Figure::derived(log.exp(), Unit::Ratio)
            })
        };
        Self {
            apart_p50: middle(|one| one.apart_ms),
            together_p50: middle(|one| one.together_ms),
            ratio: ratio(mean(&logs)),
            low: ratio(interval.map(|interval| interval.low)),
            high: ratio(interval.map(|interval| interval.high)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sources_ratio_is_one_pair_of_times() {
        let settings = ConcurrentSettings {
            names: ["a", "b"].map(str::to_owned),
            nodes: ["http://a", "http://b"].map(str::to_owned),
            models: ["m", "n"].map(str::to_owned),
            routed: "gpurouter".to_owned(),
            repeats: 1,
            prompts: ["x", "y"].map(str::to_owned),
            seed: 1,
            resamples: 20,
        };
        let seen = |way, nodes: [Option<&str>; 2]| ConcurrentObservation {
            way,
            apart_ms: 45_120.0,
            together_ms: 24_000.0,
            nodes: nodes.map(|node| node.map(str::to_owned)),
        };
        let all = [
            seen(Way::Direct, [None, None]),
            seen(Way::Routed, [Some("a"), Some("b")]),
        ];
        let report = concurrent(&settings, &all);
        assert!((report.direct.ratio.value().unwrap() - 1.88).abs() < 1e-9);
        assert_eq!(report.direct.low.value(), None, "one repeat has no spread");
        assert_eq!(report.on_two_nodes.value(), Some(1.0));
        let same = [seen(Way::Routed, [Some("a"), Some("a")])];
        assert_eq!(concurrent(&settings, &same).on_two_nodes.value(), Some(0.0));
        let untold = [seen(Way::Routed, [None, None])];
        assert_eq!(concurrent(&settings, &untold).on_two_nodes.value(), None);
    }
}
