//! What the schedulers counted, in Prometheus' text form.

use std::fmt::Write;
use std::sync::Arc;

use super::Counts;
use crate::cluster::Node;
use crate::routing::queue::Lane;
use crate::serve::metrics::{head, labels};

type Family = (&'static str, &'static str, fn(&Counts) -> u64);

const FAMILIES: [Family; 4] = [
    (
        "gpurouter_loads_total",
        "Loads of models that the router began.",
        |counts| counts.loads,
    ),
    (
        "gpurouter_loads_failed_total",
        "Loads that did not work.",
        |counts| counts.failed,
    ),
    (
        "gpurouter_evictions_total",
        "Models that were unloaded to make room for others.",
        |counts| counts.evicted,
    ),
    (
        "gpurouter_reloads_avoided_total",
        "Loads that the node would have made for a request's own context and that were not needed.",
        |counts| counts.avoided,
    ),
];

/// Appends the figures of these nodes; `counts` is parallel to them.
pub(in crate::serve) fn write(out: &mut String, nodes: &[Arc<Node>], counts: &[Counts]) {
    for (name, help, figure) in FAMILIES {
        head(out, name, "counter", help);
        for (node, counts) in nodes.iter().zip(counts) {
            let node = labels(&[("node", &node.name)]);
            let _ = writeln!(out, "{name}{{{node}}} {}", figure(counts));
        }
    }
    let name = "gpurouter_reload_seconds_avoided_total";
    let help = "Seconds that avoided loads would have taken, as far as loads of their models were measured.";
    head(out, name, "counter", help);
    for (node, counts) in nodes.iter().zip(counts) {
        let node = labels(&[("node", &node.name)]);
        let _ = writeln!(out, "{name}{{{node}}} {}", seconds(counts.avoided_ms));
    }
    for (name, help) in [
        (
            "gpurouter_lane_requests_total",
            "Requests that a node began, by lane.",
        ),
        (
            "gpurouter_lane_wait_seconds_total",
            "Seconds that they waited here before, loads included.",
        ),
    ] {
        head(out, name, "counter", help);
        for (node, counts) in nodes.iter().zip(counts) {
            for (lane, (starts, waited)) in Lane::ALL.iter().zip(counts.waits) {
                if starts == 0 {
                    continue;
                }
                let labels = labels(&[("node", &node.name), ("lane", lane.as_str())]);
                let _ = if name.ends_with("requests_total") {
                    writeln!(out, "{name}{{{labels}}} {starts}")
                } else {
                    writeln!(out, "{name}{{{labels}}} {}", seconds(waited))
                };
            }
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds are far below 2^52"
)]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}
