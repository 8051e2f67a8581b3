//! Counters and histograms of the request path, in Prometheus' text form.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

use super::record::{Outcome, RequestRecord};
use crate::cluster::ClusterSnapshot;
use crate::routing::NodeLoad;

/// Upper bounds of the duration buckets in seconds: from a cached embedding to a cold load of a large model.
const BOUNDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 240.0, 600.0,
];
/// Series kept per family: node and model names come from the nodes, tiers from the configuration, but a bound is a bound.
const MOST_SERIES: usize = 4096;

#[derive(Debug, Default, Clone)]
struct Histogram {
    buckets: [u64; BOUNDS.len()],
    count: u64,
    sum: f64,
}

impl Histogram {
    fn observe(&mut self, seconds: f64) {
        for (bucket, bound) in self.buckets.iter_mut().zip(BOUNDS) {
            *bucket += u64::from(seconds <= bound);
        }
        self.count += 1;
        self.sum += seconds;
    }
}

#[derive(Debug, Default)]
struct Families {
    requests: BTreeMap<String, u64>,
    durations: BTreeMap<String, Histogram>,
    tokens: BTreeMap<String, u64>,
    fallbacks: BTreeMap<String, u64>,
    selections: BTreeMap<String, u64>,
    saved_usd: f64,
}

/// What was counted since the start.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    families: Mutex<Families>,
}

impl Metrics {
    /// Counts a finished request.
    pub(super) fn count(&self, record: &RequestRecord) {
        let node = record.node.as_deref().unwrap_or("");
        let model = record.model.as_deref().unwrap_or("");
        let tier = record.tier.as_deref().unwrap_or("");
        let place = labels(&[("node", node), ("model", model), ("tier", tier)]);
        let mut guard = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        let families = &mut *guard;
        let status = record.status.to_string();
        let request = [
            ("dialect", record.dialect),
            ("node", node),
            ("model", model),
            ("tier", tier),
            ("outcome", record.outcome.as_str()),
            ("status", &status),
        ];
        add(&mut families.requests, labels(&request), 1);
        if record.node.is_some() {
            add(
                &mut families.selections,
                labels(&[("node", node), ("reason", &record.reason)]),
                1,
            );
        }
        let phases = [
            ("queue", record.timings.queue_ms),
            ("load", record.timings.load_ms),
            ("ttft", record.timings.ttft_ms),
            ("total", record.timings.total_ms),
        ];
        for (phase, ms) in phases {
            if let Some(ms) = ms {
                let key = format!("phase=\"{phase}\",{place}");
                if families.durations.len() < MOST_SERIES || families.durations.contains_key(&key) {
                    families
                        .durations
                        .entry(key)
                        .or_default()
                        .observe(ms / 1000.0);
                }
            }
        }
        let kinds = [
            ("prompt", record.tokens.prompt),
            ("completion", record.tokens.completion),
            ("cached", record.tokens.cached),
        ];
        for (kind, tokens) in kinds {
            if let Some(tokens) = tokens {
                add(
                    &mut families.tokens,
                    format!("kind=\"{kind}\",{place}"),
                    tokens,
                );
            }
        }
        for fallback in &record.fallbacks {
            add(
                &mut families.fallbacks,
                labels(&[("node", &fallback.node), ("reason", &fallback.reason)]),
                1,
            );
        }
        if record.outcome == Outcome::Ok {
            families.saved_usd += record.cost_saved_usd.unwrap_or(0.0);
        }
    }

    /// The whole document. `loads` is parallel to the snapshot's nodes.
    pub(super) fn text(
        &self,
        snapshot: &ClusterSnapshot,
        loads: &[NodeLoad],
        connections: usize,
    ) -> String {
        let mut out = String::with_capacity(8192);
        {
            let families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
            counter(
                &mut out,
                "gpurouter_requests_total",
                "Finished requests.",
                &families.requests,
            );
            counter(
                &mut out,
                "gpurouter_selections_total",
                "Requests that a node was chosen for, by reason.",
                &families.selections,
            );
            counter(
                &mut out,
                "gpurouter_tokens_total",
                "Tokens as the nodes counted them.",
                &families.tokens,
            );
            counter(
                &mut out,
                "gpurouter_fallbacks_total",
                "Nodes that were tried in vain.",
                &families.fallbacks,
            );
            head(
                &mut out,
                "gpurouter_cost_saved_usd_total",
                "counter",
                "Price of the answered tokens at the configured reference model; 0 without one.",
            );
            let _ = writeln!(out, "gpurouter_cost_saved_usd_total {}", families.saved_usd);
            head(
                &mut out,
                "gpurouter_request_duration_seconds",
                "histogram",
                "Durations by phase.",
            );
            durations(&mut out, &families.durations);
        }
        head(
            &mut out,
            "gpurouter_connections",
            "gauge",
            "Open client connections.",
        );
        let _ = writeln!(out, "gpurouter_connections {connections}");
        head(
            &mut out,
            "gpurouter_node_up",
            "gauge",
            "1 when the node takes requests.",
        );
        for node in &snapshot.nodes {
            let _ = writeln!(
                out,
                "gpurouter_node_up{{{}}} {}",
                labels(&[("node", &node.name)]),
                u8::from(node.state.usable())
            );
        }
        head(
            &mut out,
            "gpurouter_in_flight",
            "gauge",
            "Requests being answered by the node.",
        );
        for (node, load) in snapshot.nodes.iter().zip(loads) {
            let _ = writeln!(
                out,
                "gpurouter_in_flight{{{}}} {}",
                labels(&[("node", &node.name)]),
                load.active
            );
        }
        head(
            &mut out,
            "gpurouter_queued",
            "gauge",
            "Requests waiting here for a slot of the node.",
        );
        for (node, load) in snapshot.nodes.iter().zip(loads) {
            let _ = writeln!(
                out,
                "gpurouter_queued{{{}}} {}",
                labels(&[("node", &node.name)]),
                load.queued
            );
        }
        out
    }
}

fn add(family: &mut BTreeMap<String, u64>, key: String, amount: u64) {
    if let Some(count) = family.get_mut(&key) {
        *count += amount;
    } else if family.len() < MOST_SERIES {
        family.insert(key, amount);
    }
}

/// Label pairs with values escaped as the text form demands.
fn labels(pairs: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (index, (name, value)) in pairs.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let value = value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n");
        let _ = write!(out, "{comma}{name}=\"{value}\"");
    }
    out
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn counter(out: &mut String, name: &str, help: &str, series: &BTreeMap<String, u64>) {
    head(out, name, "counter", help);
    for (labels, count) in series {
        let _ = writeln!(out, "{name}{{{labels}}} {count}");
    }
}

fn durations(out: &mut String, series: &BTreeMap<String, Histogram>) {
    let name = "gpurouter_request_duration_seconds";
    for (labels, histogram) in series {
        for (bound, count) in BOUNDS.iter().zip(histogram.buckets) {
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
        }
        let _ = writeln!(
            out,
            "{name}_bucket{{{labels},le=\"+Inf\"}} {}",
            histogram.count
        );
        let _ = writeln!(out, "{name}_sum{{{labels}}} {}", histogram.sum);
        let _ = writeln!(out, "{name}_count{{{labels}}} {}", histogram.count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_labels_escaped() {
        let mut histogram = Histogram::default();
        histogram.observe(0.02);
        histogram.observe(100.0);
        assert_eq!(histogram.buckets[1], 0);
        assert_eq!(histogram.buckets[2], 1);
        assert_eq!(histogram.buckets[12], 2);
        assert_eq!(histogram.count, 2);
        assert_eq!(labels(&[("a", "x\"y\\z\n")]), "a=\"x\\\"y\\\\z\\n\"");
    }
}
