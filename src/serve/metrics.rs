//! Counters and histograms of the request path, and the figures of the GPUs, in Prometheus' text form.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

use super::record::{Outcome, RequestRecord};
use crate::cluster::{ClusterSnapshot, Gpu, GpuState};
use crate::gpu::Inventory;
use crate::routing::NodeLoad;

/// Upper bounds of the duration buckets in seconds: from a cached embedding to a cold load of a large model.
const BOUNDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 240.0, 600.0,
];
/// Series kept: node and model names come from the nodes, tiers from the configuration, but a bound is a bound.
const MOST_SERIES: usize = 4096;
/// Phases of a request, in the order of [`Series::durations`].
const PHASES: [&str; 4] = ["queue", "load", "ttft", "total"];
/// Kinds of tokens, in the order of [`Series::tokens`].
const KINDS: [&str; 3] = ["prompt", "completion", "cached"];

#[derive(Debug, Default, Clone)]
struct Histogram {
    /// Observations in each bucket alone; those beyond the last bound are only in `count`.
    buckets: [u64; BOUNDS.len()],
    count: u64,
    sum: f64,
}

impl Histogram {
    fn observe(&mut self, seconds: f64) {
        let within = BOUNDS.iter().position(|bound| seconds <= *bound);
        if let Some(bucket) = within.and_then(|at| self.buckets.get_mut(at)) {
            *bucket += 1;
        }
        self.count += 1;
        self.sum += seconds;
    }

    fn add(&mut self, other: &Self) {
        for (bucket, more) in self.buckets.iter_mut().zip(other.buckets) {
            *bucket += more;
        }
        self.count += other.count;
        self.sum += other.sum;
    }

    /// Observations up to each bound.
    fn cumulative(&self) -> impl Iterator<Item = u64> {
        self.buckets.iter().scan(0, |sum, bucket| {
            *sum += bucket;
            Some(*sum)
        })
    }
}

/// Everything counted of the requests that have these labels in common. The families of the text form are sums over it, so that a
/// request costs one look-up.
#[derive(Debug)]
struct Series {
    dialect: &'static str,
    node: Option<String>,
    model: String,
    tier: String,
    plan: &'static str,
    outcome: &'static str,
    status: u16,
    reason: String,
    requests: u64,
    durations: [Histogram; PHASES.len()],
    /// `None` while no node counted any.
    tokens: [Option<u64>; KINDS.len()],
}

impl Series {
    fn of(record: &RequestRecord) -> Self {
        Self {
            dialect: record.dialect,
            node: record.node.clone(),
            model: record.model.clone().unwrap_or_default(),
            tier: record.tier.clone().unwrap_or_default(),
            plan: record.plan.unwrap_or_default(),
            outcome: record.outcome.as_str(),
            status: record.status,
            reason: record.reason.clone(),
            requests: 0,
            durations: Default::default(),
            tokens: Default::default(),
        }
    }

    fn count(&mut self, record: &RequestRecord) {
        self.requests += 1;
        let timings = &record.timings;
        let phases = [
            timings.queue_ms,
            timings.load_ms,
            timings.ttft_ms,
            timings.total_ms,
        ];
        for (histogram, ms) in self.durations.iter_mut().zip(phases) {
            if let Some(ms) = ms {
                histogram.observe(ms / 1000.0);
            }
        }
        let tokens = &record.tokens;
        let kinds = [tokens.prompt, tokens.completion, tokens.cached];
        for (sum, tokens) in self.tokens.iter_mut().zip(kinds) {
            if let Some(tokens) = tokens {
                *sum = Some(sum.unwrap_or(0).saturating_add(tokens));
            }
        }
    }
}

#[derive(Debug, Default)]
struct Counted {
    series: HashMap<String, Series>,
    /// Memory of the key that is looked up.
    key: String,
    fallbacks: BTreeMap<String, u64>,
    truncated: BTreeMap<String, u64>,
    saved_usd: f64,
}

impl Counted {
    /// The series of a record; `None` beyond the limit.
    fn series(&mut self, record: &RequestRecord) -> Option<&mut Series> {
        self.key.clear();
        for part in [
            record.dialect,
            record.node.as_deref().unwrap_or_default(),
            record.model.as_deref().unwrap_or_default(),
            record.tier.as_deref().unwrap_or_default(),
            record.plan.unwrap_or_default(),
            record.outcome.as_str(),
            &record.reason,
        ] {
            self.key.push_str(part);
            self.key.push('\0');
        }
        self.key.extend(char::from_u32(record.status.into()));
        if !self.series.contains_key(&self.key) {
            if self.series.len() >= MOST_SERIES {
                return None;
            }
            self.series.insert(self.key.clone(), Series::of(record));
        }
        self.series.get_mut(&self.key)
    }
}

/// What was counted since the start.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    counted: Mutex<Counted>,
}

/// The families of the text form, by their written labels.
#[derive(Default)]
struct Families {
    requests: BTreeMap<String, u64>,
    durations: BTreeMap<String, Histogram>,
    tokens: BTreeMap<String, u64>,
    selections: BTreeMap<String, u64>,
}

impl Families {
    fn add(&mut self, series: &Series) {
        let node = series.node.as_deref().unwrap_or_default();
        let (model, tier) = (series.model.as_str(), series.tier.as_str());
        let place = labels(&[("node", node), ("model", model), ("tier", tier)]);
        let planned = labels(&[("plan", series.plan)]);
        let request = labels(&[
            ("dialect", series.dialect),
            ("node", node),
            ("model", model),
            ("tier", tier),
            ("outcome", series.outcome),
            ("status", &series.status.to_string()),
        ]);
        *self.requests.entry(request).or_default() += series.requests;
        if series.node.is_some() {
            let selection = labels(&[("node", node), ("reason", &series.reason)]);
            *self.selections.entry(selection).or_default() += series.requests;
        }
        for (phase, histogram) in PHASES.iter().zip(&series.durations) {
            if histogram.count > 0 {
                let key = format!("phase=\"{phase}\",{planned},{place}");
                self.durations.entry(key).or_default().add(histogram);
            }
        }
        for (kind, tokens) in KINDS.iter().zip(series.tokens) {
            if let Some(tokens) = tokens {
                let key = format!("kind=\"{kind}\",{place}");
                *self.tokens.entry(key).or_default() += tokens;
            }
        }
    }
}

impl Metrics {
    /// Counts a finished request.
    pub(super) fn count(&self, record: &RequestRecord) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = counted.series(record) {
            series.count(record);
        }
        for fallback in &record.fallbacks {
            let key = labels(&[("node", &fallback.node), ("reason", &fallback.reason)]);
            add(&mut counted.fallbacks, key, 1);
        }
        if record.truncated == Some(true) {
            let key = labels(&[
                ("node", record.node.as_deref().unwrap_or_default()),
                ("model", record.model.as_deref().unwrap_or_default()),
            ]);
            add(&mut counted.truncated, key, 1);
        }
        if record.outcome == Outcome::Ok {
            counted.saved_usd += record.cost_saved_usd.unwrap_or(0.0);
        }
    }

    /// The whole document. `loads` is parallel to the snapshot's nodes.
    pub(super) fn text(
        &self,
        snapshot: &ClusterSnapshot,
        loads: &[NodeLoad],
        connections: usize,
        inventory: &Inventory,
    ) -> String {
        let mut out = String::with_capacity(8192);
        {
            let counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
            let mut families = Families::default();
            for series in counted.series.values() {
                families.add(series);
            }
            for (name, help, series) in [
                (
                    "gpurouter_requests_total",
                    "Finished requests.",
                    &families.requests,
                ),
                (
                    "gpurouter_selections_total",
                    "Requests that a node was chosen for, by reason.",
                    &families.selections,
                ),
                (
                    "gpurouter_tokens_total",
                    "Tokens as the nodes counted them.",
                    &families.tokens,
                ),
                (
                    "gpurouter_fallbacks_total",
                    "Nodes that were tried in vain.",
                    &counted.fallbacks,
                ),
                (
                    "gpurouter_truncated_prompts_total",
                    "Prompts of which the node read only a part.",
                    &counted.truncated,
                ),
            ] {
                counter(&mut out, name, help, series);
            }
            head(
                &mut out,
                "gpurouter_cost_saved_usd_total",
                "counter",
                "Price of the answered tokens at the configured reference model; 0 without one.",
            );
            let _ = writeln!(out, "gpurouter_cost_saved_usd_total {}", counted.saved_usd);
            head(
                &mut out,
                "gpurouter_request_duration_seconds",
                "histogram",
                "Durations by phase.",
            );
            durations(&mut out, &families.durations);
        }
        let name = "gpurouter_connections";
        head(&mut out, name, "gauge", "Open client connections.");
        let _ = writeln!(out, "{name} {connections}");
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
        gpus(&mut out, &inventory.gpus);
        out
    }
}

/// A family of the GPUs: its name, kind and help, and a GPU's figure, without which the GPU is absent from it.
type GpuFamily = (
    &'static str,
    &'static str,
    &'static str,
    fn(&Gpu) -> Option<f64>,
);

#[expect(
    clippy::cast_precision_loss,
    reason = "bytes of a GPU's memory are far below 2^53"
)]
const GPU_FAMILIES: [GpuFamily; 8] = [
    (
        "gpurouter_gpu_up",
        "gauge",
        "1 when the GPU answers.",
        |gpu| Some(f64::from(u8::from(gpu.state == GpuState::Ok))),
    ),
    (
        "gpurouter_gpu_memory_total_bytes",
        "gauge",
        "Memory of the GPU.",
        |gpu| gpu.total_bytes.map(|bytes| bytes as f64),
    ),
    (
        "gpurouter_gpu_memory_used_bytes",
        "gauge",
        "Memory in use, by anybody.",
        |gpu| gpu.used_bytes.map(|bytes| bytes as f64),
    ),
    (
        "gpurouter_gpu_memory_free_bytes",
        "gauge",
        "Memory that is free, as the driver says.",
        |gpu| gpu.free_bytes.map(|bytes| bytes as f64),
    ),
    (
        "gpurouter_gpu_utilization_ratio",
        "gauge",
        "Share of time at work, from 0 to 1.",
        |gpu| gpu.utilization.map(|percent| f64::from(percent) / 100.0),
    ),
    (
        "gpurouter_gpu_temperature_celsius",
        "gauge",
        "Temperature.",
        |gpu| gpu.temperature_c.map(f64::from),
    ),
    ("gpurouter_gpu_power_watts", "gauge", "Power draw.", |gpu| {
        gpu.power_w
    }),
    (
        "gpurouter_gpu_energy_joules_total",
        "counter",
        "Energy since the driver was loaded.",
        |gpu| gpu.energy_j,
    ),
];

/// Figures of the GPUs; what is unknown is absent.
fn gpus(out: &mut String, gpus: &[Gpu]) {
    for (name, kind, help, figure) in GPU_FAMILIES {
        let mut figures = gpus
            .iter()
            .filter_map(|gpu| Some((gpu, figure(gpu)?)))
            .peekable();
        if figures.peek().is_some() {
            head(out, name, kind, help);
        }
        for (gpu, figure) in figures {
            let labels = labels(&[
                ("gpu", &gpu.index.to_string()),
                ("uuid", gpu.uuid.as_deref().unwrap_or_default()),
                ("name", &gpu.name),
            ]);
            let _ = writeln!(out, "{name}{{{labels}}} {figure}");
        }
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
pub(super) fn labels(pairs: &[(&str, &str)]) -> String {
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

pub(super) fn head(out: &mut String, name: &str, kind: &str, help: &str) {
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
        for (bound, count) in BOUNDS.iter().zip(histogram.cumulative()) {
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
        let cumulative: Vec<u64> = histogram.cumulative().collect();
        assert_eq!(cumulative[1], 0);
        assert_eq!(cumulative[2], 1);
        assert_eq!(cumulative[12], 2);
        assert_eq!(histogram.count, 2);
        assert_eq!(labels(&[("a", "x\"y\\z\n")]), "a=\"x\\\"y\\\\z\\n\"");
    }
}
