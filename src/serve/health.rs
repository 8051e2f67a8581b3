//! `/health`: always 200 while serving.
//!
//! The names of `gpu_pool_status`, of its GPUs and of `servers` are those of the source documents (sizes of a single GPU in GiB, of the
//! pool in MiB); what ends in `_bytes` says the same exactly. `null` is unknown.

use serde::Serialize;

use super::gpus;
use crate::cluster::{ClusterSnapshot, Gpu, GpuState, LoadedModel, Node, NodeState, Strategy};
use crate::config::Config;
use crate::gpu::{Inventory, SourceState};
use crate::http::client::Origin;

const MIB: u64 = 1 << 20;

#[derive(Debug, Serialize)]
struct Health<'a> {
    status: &'static str,
    version: &'static str,
    gpu_pool_status: Pool<'a>,
    nodes: Nodes,
    servers: Vec<Server<'a>>,
}

#[derive(Debug, Serialize)]
struct Nodes {
    up: usize,
    total: usize,
}

#[derive(Debug, Serialize)]
struct Pool<'a> {
    /// GPUs of this machine, those in error included.
    total_gpus: Option<usize>,
    /// Those on which a further model finds room.
    available_gpus: Option<usize>,
    /// MiB, rounded down, of the GPUs whose size is known.
    total_vram: Option<u64>,
    available_vram: Option<u64>,
    total_vram_bytes: Option<u64>,
    available_vram_bytes: Option<u64>,
    gpu_list: Vec<PoolGpu<'a>>,
    allocation_strategy: Strategy,
    /// Whether any GPU answers.
    gpu_available: Option<bool>,
}

#[derive(Debug, Serialize)]
struct PoolGpu<'a> {
    /// Position in PCI bus order.
    id: u32,
    name: &'a str,
    uuid: Option<&'a str>,
    state: GpuState,
    /// GiB.
    total_memory: Option<f64>,
    used_memory: Option<f64>,
    free_memory: Option<f64>,
    /// Percent.
    utilization: Option<u32>,
    /// Degrees Celsius.
    temperature: Option<u32>,
    /// Watts.
    power_usage: Option<f64>,
    compute_capability: Option<String>,
    /// Models in its memory, of nodes that are known to run on it.
    assigned_models: Vec<String>,
    total_bytes: Option<u64>,
    used_bytes: Option<u64>,
    /// As the driver says.
    free_bytes: Option<u64>,
    /// What a further model may take: usable under the margin, without what is loaded, never more than is free.
    available_bytes: Option<u64>,
}

/// A model in a node's memory; a node without any has one entry without a model.
#[derive(Debug, Serialize)]
struct Server<'a> {
    /// The node.
    id: &'a str,
    host: String,
    port: Option<u16>,
    model_id: Option<String>,
    status: &'static str,
    /// `None` where the model is not in a GPU's memory, or nobody knows in which.
    gpu_assignment: Option<Assignment>,
}

#[derive(Debug, Serialize)]
struct Assignment {
    gpu_ids: Vec<u32>,
    /// Share of each of them.
    tensor_splits: Vec<f64>,
    /// GiB; nothing is estimated for a model that somebody else has loaded.
    estimated_vram_required: Option<f64>,
    /// GiB, as the node says.
    actual_vram_used: Option<f64>,
    actual_vram_bytes: Option<u64>,
}

/// The document.
pub(super) fn health(
    snapshot: &ClusterSnapshot,
    inventory: &Inventory,
    config: &Config,
) -> serde_json::Result<Vec<u8>> {
    let up = snapshot.usable().count();
    serde_json::to_vec(&Health {
        status: if up > 0 { "ok" } else { "degraded" },
        version: env!("CARGO_PKG_VERSION"),
        gpu_pool_status: pool(snapshot, inventory, config),
        nodes: Nodes {
            up,
            total: snapshot.nodes.len(),
        },
        servers: snapshot
            .nodes
            .iter()
            .flat_map(|node| servers(node, inventory))
            .collect(),
    })
}

fn pool<'a>(snapshot: &ClusterSnapshot, inventory: &'a Inventory, config: &Config) -> Pool<'a> {
    let gpu_list: Vec<PoolGpu<'a>> = inventory
        .gpus
        .iter()
        .zip(gpus::available(snapshot, inventory, config))
        .map(|(gpu, available)| pool_gpu(gpu, available, snapshot, inventory))
        .collect();
    let counted = counted(inventory);
    let sum = |of: fn(&PoolGpu) -> Option<u64>| {
        let known: Vec<u64> = gpu_list.iter().filter_map(of).collect();
        // The sum of sizes that are all unknown is unknown.
        (counted && (gpu_list.is_empty() || !known.is_empty())).then(|| known.iter().sum::<u64>())
    };
    let (total, available) = (sum(|gpu| gpu.total_bytes), sum(|gpu| gpu.available_bytes));
    let roomy = |gpu: &&PoolGpu| gpu.available_bytes.is_some_and(|bytes| bytes > 0);
    let answers = |gpu: &PoolGpu| gpu.state == GpuState::Ok;
    Pool {
        total_gpus: counted.then_some(gpu_list.len()),
        available_gpus: counted.then(|| gpu_list.iter().filter(roomy).count()),
        total_vram: total.map(|bytes| bytes / MIB),
        available_vram: available.map(|bytes| bytes / MIB),
        total_vram_bytes: total,
        available_vram_bytes: available,
        allocation_strategy: config.gpu.strategy,
        gpu_available: counted.then(|| gpu_list.iter().any(answers)),
        gpu_list,
    }
}

/// Whether the number of GPUs is known: not before the first look, and not from a driver that never answered.
fn counted(inventory: &Inventory) -> bool {
    let silent = |state| matches!(state, SourceState::Pending | SourceState::NotAnswering);
    let mut sources = inventory.sources.iter();
    !inventory.gpus.is_empty() || !sources.any(|source| silent(source.state))
}

fn pool_gpu<'a>(
    gpu: &'a Gpu,
    available_bytes: Option<u64>,
    snapshot: &ClusterSnapshot,
    inventory: &Inventory,
) -> PoolGpu<'a> {
    let mut assigned_models: Vec<String> = Vec::new();
    for loaded in gpus::held(gpu, snapshot, inventory) {
        let name = loaded.name.to_string();
        if !assigned_models.contains(&name) {
            assigned_models.push(name);
        }
    }
    PoolGpu {
        id: gpu.index,
        name: &gpu.name,
        uuid: gpu.uuid.as_deref(),
        state: gpu.state,
        total_memory: gpu.total_bytes.map(gib),
        used_memory: gpu.used_bytes.map(gib),
        free_memory: gpu.free_bytes.map(gib),
        utilization: gpu.utilization,
        temperature: gpu.temperature_c,
        power_usage: gpu.power_w,
        compute_capability: gpus::capability(gpu),
        assigned_models,
        total_bytes: gpu.total_bytes,
        used_bytes: gpu.used_bytes,
        free_bytes: gpu.free_bytes,
        available_bytes,
    }
}

/// Bytes in GiB, as the source documents count "GB": two decimals.
#[expect(
    clippy::cast_precision_loss,
    reason = "rounded to hundredths of a GiB anyway"
)]
fn gib(bytes: u64) -> f64 {
    (bytes as f64 / f64::from(1 << 30) * 100.0).round() / 100.0
}

fn servers<'a>(node: &'a Node, inventory: &Inventory) -> Vec<Server<'a>> {
    let origin = Origin::parse(&node.url).ok();
    let server = |loaded: Option<&LoadedModel>| Server {
        id: &node.name,
        host: origin
            .as_ref()
            .map_or_else(|| node.url.clone(), |origin| origin.host().to_owned()),
        port: origin.as_ref().map(Origin::port),
        model_id: loaded.map(|loaded| loaded.name.to_string()),
        status: match node.state {
            NodeState::Up | NodeState::Busy | NodeState::Loading => "running",
            NodeState::Down => "stopped",
            NodeState::Misconfigured => "error",
        },
        gpu_assignment: loaded.and_then(|loaded| assignment(node, loaded, inventory)),
    };
    if node.loaded.is_empty() {
        return vec![server(None)];
    }
    node.loaded
        .iter()
        .map(|loaded| server(Some(loaded)))
        .collect()
}

fn assignment(node: &Node, loaded: &LoadedModel, inventory: &Inventory) -> Option<Assignment> {
    let bytes = loaded.vram_bytes.filter(|bytes| *bytes > 0)?;
    let gpu = gpus::behind(node, inventory)?;
    Some(Assignment {
        gpu_ids: vec![gpu.index],
        tensor_splits: vec![1.0],
        estimated_vram_required: None,
        actual_vram_used: Some(gib(bytes)),
        actual_vram_bytes: Some(bytes),
    })
}
