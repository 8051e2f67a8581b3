//! This machine's GPUs beside the nodes: which one serves a node, how much of it can be had, and how both are told.

use std::collections::BTreeMap;

use serde::Serialize;

use super::gate::Measured;
use super::{Log, Reservation, Router, Warning, lock};
use crate::cluster::{
    Claim, ClusterSnapshot, Demand, Gpu, GpuProcess, GpuState, Knowledge, LoadedModel, Measure,
    ModelName, Need, Node, Room, Rules, Site, Surroundings, claims, place,
};
use crate::config::{Config, LogLevel, NodeConfig};
use crate::gpu::{Inventory, OnChange};
use crate::http::client::Origin;
use crate::vram::{Basis, Learned};

/// Words in front of a card's name that people leave away.
const MAKERS: [&str; 7] = ["nvidia", "geforce", "amd", "radeon", "intel", "r", "tm"];

impl Router {
    /// The nodes with what is known of their memory.
    fn sites(&self, snapshot: &ClusterSnapshot) -> Vec<Site> {
        let inventory = self.gpus.current();
        Surroundings {
            snapshot,
            local: inventory.known().then_some(inventory.gpus.as_slice()),
            // Nodes that are gpurouters load nothing for us.
            reported: &BTreeMap::new(),
            seen: &self.measurements.held(snapshot),
            measure: Measure {
                policy: self.config.memory,
                basis: Basis::Api,
                learned: &Learned::default(),
                cards: &self.config.gpu.cards,
            },
            ram_free: None,
            ram_bandwidth: None,
            nodes_only: true,
        }
        .sites()
    }

    /// Has each node's scheduler know the memory that there is for its models.
    pub(super) fn measure_memory(&self) {
        let snapshot = self.snapshot();
        let held = self.measurements.held(&snapshot);
        for site in self.sites(&snapshot) {
            // Its server may see a GPU that this program does not.
            let held = site.name().is_some_and(|name| held.contains_key(name));
            let measured = match (site.knowledge, site.capacity()) {
                (Knowledge::NoGpu, _) if !held => Measured::NoGpu,
                (_, Some(bytes)) => Measured::Bytes(bytes),
                (_, None) => Measured::Unknown,
            };
            if let Some(node) = site.node.filter(|node| node.loads_models()) {
                self.gates.measured(&node, measured);
            }
        }
    }

    /// Reserves the memory of a load at a node, so that no other load is planned with it; `evicts`: models that go before, as the node calls
    /// them. `None` where nothing is known of the node's memory. Memory that nobody else was promised is never refused: how much of it is
    /// free the node's scheduler has decided.
    pub(super) fn promise_load(
        &self,
        node: &Node,
        bytes: u64,
        evicts: &[String],
    ) -> Result<Option<Reservation>, String> {
        let snapshot = self.snapshot();
        let mut sites = self.sites(&snapshot).into_iter();
        let Some(site) = sites.find(|site| site.name() == Some(node.name.as_str())) else {
            return Ok(None);
        };
        let gone = site.node.iter().flat_map(|node| &node.loaded);
        let freed = gone
            .filter(|loaded| {
                evicts
                    .iter()
                    .any(|name| ModelName::new(name) == loaded.name)
            })
            .filter_map(|loaded| loaded.vram_bytes)
            .fold(0, u64::saturating_add);
        let rooms = site.rooms.into_iter().map(|room| Room {
            free_bytes: room.free_bytes.saturating_add(freed).min(room.usable_bytes),
            ..room
        });
        let rooms: Vec<Room> = self.reservations.rooms(&rooms.collect::<Vec<_>>());
        let demand = Demand {
            need: Need::Bytes(bytes),
            headroom: 1.0,
        };
        let rules = Rules {
            strategy: self.config.gpu.strategy,
            ..Rules::default()
        };
        let placement = place(&demand, &rooms, rules);
        let wanted = claims(&placement, &rooms);
        let promised = rooms.iter().any(|room| room.reserved_bytes > 0);
        if wanted.is_empty() {
            return if promised {
                Err(format!(
                    "memory of `{}` is promised to another load",
                    node.name
                ))
            } else {
                // More than there is: the node puts a part of it into main memory, and all that it has is taken.
                let all = rooms.iter().map(|room| Claim {
                    gpu: room.key(),
                    bytes: room.free_bytes,
                    free_bytes: room.free_bytes,
                });
                self.claim(node, &all.collect::<Vec<_>>())
            };
        }
        self.claim(node, &wanted)
    }

    /// Keeps what was promised to a load until the node lists the model; `None`: it lists a copy of it already, and the caller has to keep it.
    pub(super) fn keep_promise(
        &self,
        node: &str,
        load: u64,
        model: &ModelName,
        promise: Reservation,
    ) -> Option<Reservation> {
        let snapshot = self.snapshot();
        if snapshot
            .node(node)
            .is_some_and(|node| node.loaded(model).is_some())
        {
            return Some(promise);
        }
        let before = lock(&self.promised).insert(node.to_owned(), (load, model.clone(), promise));
        // Given back without the lock.
        drop(before);
        None
    }

    /// That load is over.
    pub(super) fn forget_promise(&self, node: &str, load: u64) {
        let promise = {
            let mut promised = lock(&self.promised);
            let kept = promised.get(node);
            kept.is_some_and(|(number, ..)| *number == load)
                .then(|| promised.remove(node))
        };
        drop(promise);
    }

    /// From when on a node lists a model it is the node that tells what it holds.
    pub(super) fn shows(&self, node: &Node) {
        let promise = {
            let mut promised = lock(&self.promised);
            let kept = promised.get(&node.name);
            kept.is_some_and(|(_, model, _)| node.loaded(model).is_some())
                .then(|| promised.remove(&node.name))
        };
        drop(promise);
    }

    fn claim(&self, node: &Node, claims: &[Claim]) -> Result<Option<Reservation>, String> {
        if claims.is_empty() {
            return Ok(None);
        }
        let promise = self.reservations.claim(claims);
        promise
            .map(Some)
            .map_err(|_| format!("memory of `{}` is promised to another load", node.name))
    }
}

/// One GPU of [`super::Status`].
#[derive(Debug, Clone, Serialize)]
pub struct GpuStatus {
    /// Node it belongs to; `None`: this machine.
    pub node: Option<String>,
    /// Position in PCI bus order.
    pub index: u32,
    /// Product name.
    pub name: String,
    /// The driver's UUID.
    pub uuid: Option<String>,
    /// What it can be relied on for.
    pub state: GpuState,
    /// Bytes of memory.
    pub total_bytes: Option<u64>,
    /// Bytes in use, by anybody.
    pub used_bytes: Option<u64>,
    /// Bytes free, as the driver says.
    pub free_bytes: Option<u64>,
    /// Percent of time at work.
    pub utilization: Option<u32>,
    /// Degrees Celsius.
    pub temperature_c: Option<u32>,
    /// Watts.
    pub power_w: Option<f64>,
    /// Joules since the driver was loaded.
    pub energy_j: Option<f64>,
    /// CUDA compute capability (`8.9`).
    pub compute_capability: Option<String>,
    /// Processes that hold memory of it.
    pub processes: Vec<GpuProcess>,
}

impl GpuStatus {
    fn of(gpu: &Gpu) -> Self {
        Self {
            node: gpu.node.clone(),
            index: gpu.index,
            name: gpu.name.clone(),
            uuid: gpu.uuid.clone(),
            state: gpu.state,
            total_bytes: gpu.total_bytes,
            used_bytes: gpu.used_bytes,
            free_bytes: gpu.free_bytes,
            utilization: gpu.utilization,
            temperature_c: gpu.temperature_c,
            power_w: gpu.power_w,
            energy_j: gpu.energy_j,
            compute_capability: capability(gpu),
            processes: gpu.processes.clone(),
        }
    }
}

/// The GPUs as [`super::Status`] tells them.
pub(super) fn told(inventory: &Inventory) -> Vec<GpuStatus> {
    inventory.gpus.iter().map(GpuStatus::of).collect()
}

/// Compute capability as people write it.
pub(super) fn capability(gpu: &Gpu) -> Option<String> {
    gpu.compute_capability
        .map(|(major, minor)| format!("{major}.{minor}"))
}

/// What of the GPUs needs attention. That there is none concerns nobody whose nodes are all on other machines.
pub(super) fn warnings(snapshot: &ClusterSnapshot, inventory: &Inventory) -> Vec<Warning> {
    let local = |node: &&std::sync::Arc<Node>| is_local(&node.url);
    let mut locals = snapshot.nodes.iter().filter(local).peekable();
    let elsewhere = locals.peek().is_none() && !snapshot.nodes.is_empty();
    if elsewhere && inventory.gpus.is_empty() {
        return Vec::new();
    }
    let serving = locals.any(|node| !node.loaded.is_empty());
    let warning = |advice: crate::gpu::Advice| Warning {
        code: advice.code,
        text: advice.text,
        cure: advice.cure,
    };
    inventory.advice(serving).into_iter().map(warning).collect()
}

/// Writes the GPUs to the log when they are first known, and when others are there or their states change.
pub(super) fn logging(log: Log, nodes: &[NodeConfig]) -> OnChange {
    let elsewhere = !nodes.is_empty() && !nodes.iter().any(|node| is_local(&node.url));
    Box::new(move |inventory| {
        let well = inventory.gpus.iter().all(|gpu| gpu.state == GpuState::Ok);
        let missing = inventory.missing().is_some();
        let level = if (missing && !elsewhere) || !well {
            LogLevel::Warning
        } else {
            LogLevel::Info
        };
        log.event(level, &inventory.summary());
    })
}

/// Whether an address is one of this machine's own, as far as it says so itself.
fn is_local(url: &str) -> bool {
    let Ok(origin) = Origin::parse(url) else {
        return false;
    };
    let host = origin.host();
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// The GPU behind a node: that of this machine which the node's configuration names, by UUID or name; without a name the only one
/// there is. `None` for a node on another machine, and where it would be a guess.
pub(super) fn behind<'i>(node: &Node, inventory: &'i Inventory) -> Option<&'i Gpu> {
    if !is_local(&node.url) {
        return None;
    }
    let Some(named) = &node.gpu else {
        return inventory.only_gpu();
    };
    let is_named = |gpu: &&Gpu| {
        let uuid = gpu.uuid.as_deref();
        uuid.is_some_and(|uuid| uuid.eq_ignore_ascii_case(named))
            || plain(&gpu.name) == plain(named)
    };
    let mut matching = inventory.gpus.iter().filter(is_named);
    matching.next().filter(|_| matching.next().is_none())
}

/// The words that tell a card from another: `NVIDIA GeForce RTX 4080 SUPER` and `RTX 4080 Super` are one.
fn plain(name: &str) -> Vec<String> {
    name.to_lowercase()
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty() && !MAKERS.contains(word))
        .map(str::to_owned)
        .collect()
}

/// The models in that GPU's memory, as far as their nodes tell.
pub(super) fn held<'s>(
    gpu: &Gpu,
    snapshot: &'s ClusterSnapshot,
    inventory: &Inventory,
) -> Vec<&'s LoadedModel> {
    let mut held = Vec::new();
    for node in &snapshot.nodes {
        if behind(node, inventory).is_some_and(|behind| behind.index == gpu.index) {
            let on_gpu = |loaded: &&LoadedModel| loaded.vram_bytes.is_some_and(|bytes| bytes > 0);
            held.extend(node.loaded.iter().filter(on_gpu));
        }
    }
    held
}

/// Bytes of each GPU's memory that a further model may take, in the order of the inventory: by the rule of every placement
/// ([`Measure::rooms`]), for a model whose size is known from its header. `None` where the size of the memory is unknown; 0 on a GPU that
/// cannot be relied on.
pub(super) fn available(
    snapshot: &ClusterSnapshot,
    inventory: &Inventory,
    config: &Config,
) -> Vec<Option<u64>> {
    let loaded = snapshot
        .nodes
        .iter()
        .filter(|node| is_local(&node.url))
        .flat_map(|node| &node.loaded)
        .filter_map(|loaded| loaded.vram_bytes)
        .fold(0, u64::saturating_add);
    let measure = Measure {
        policy: config.memory,
        basis: Basis::Header,
        learned: &Learned::default(),
        cards: &config.gpu.cards,
    };
    let (rooms, _) = measure.rooms(&inventory.gpus, loaded);
    let room = |gpu: &Gpu| rooms.iter().find(|room| room.index == gpu.index);
    inventory
        .gpus
        .iter()
        .map(|gpu| match room(gpu) {
            Some(room) => Some(room.free_bytes),
            None => gpu.total_bytes.map(|_| 0),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Vendor;

    fn gpu(name: &str, uuid: &str, total: u64) -> Gpu {
        Gpu {
            uuid: Some(uuid.to_owned()),
            total_bytes: Some(total),
            ..Gpu::unmeasured(Vendor::Nvidia, name)
        }
    }

    fn machine(gpus: Vec<Gpu>) -> Inventory {
        let gpus = (0..).zip(gpus).map(|(index, gpu)| Gpu { index, ..gpu });
        Inventory {
            gpus: gpus.collect(),
            sources: Vec::new(),
        }
    }

    fn node(url: &str, gpu: Option<&str>) -> Node {
        Node {
            gpu: gpu.map(str::to_owned),
            ..Node::unseen("n", url)
        }
    }

    #[test]
    fn free_is_usable_without_what_is_loaded_and_never_more_than_the_driver_says() {
        let mut config = Config::default();
        config.memory.safety_margin = Some(0.8);
        let loaded = LoadedModel {
            vram_bytes: Some(705 << 20),
            ..LoadedModel::default()
        };
        let mut node = node("http://127.0.0.1:11434", None);
        let with = |node: &Node| ClusterSnapshot {
            nodes: vec![std::sync::Arc::new(node.clone())],
        };
        let mut card = gpu("x", "a", 4096 << 20);
        let of = |card: &Gpu, node: &Node| {
            available(&with(node), &machine(vec![card.clone()]), &config)[0]
        };
        assert_eq!(of(&card, &node), Some(3276 << 20));
        node.loaded = vec![loaded];
        assert_eq!(of(&card, &node), Some(2571 << 20));
        card.free_bytes = Some(100 << 20);
        assert_eq!(of(&card, &node), Some(100 << 20));
        card.state = GpuState::Lost;
        assert_eq!(of(&card, &node), Some(0));
        card.total_bytes = None;
        assert_eq!(of(&card, &node), None);
    }

    #[test]
    fn a_node_has_the_gpu_that_it_names_or_the_only_one() {
        let one = machine(vec![gpu("NVIDIA GeForce RTX 4080", "GPU-a", 1)]);
        let two = machine(vec![
            gpu("NVIDIA GeForce RTX 4080", "GPU-a", 1),
            gpu("NVIDIA GeForce RTX 4080 SUPER", "GPU-b", 1),
        ]);
        let index = |node: &Node, inventory| behind(node, inventory).map(|gpu| gpu.index);
        let here = "http://127.0.0.1:11434";
        assert_eq!(index(&node(here, None), &one), Some(0));
        assert_eq!(index(&node("http://[::1]:1", None), &one), Some(0));
        assert_eq!(index(&node("http://10.0.0.5:11434", None), &one), None);
        assert_eq!(index(&node(here, None), &two), None);
        assert_eq!(index(&node(here, Some("rtx 4080 super")), &two), Some(1));
        assert_eq!(index(&node(here, Some("GeForce RTX 4080")), &two), Some(0));
        assert_eq!(index(&node(here, Some("gpu-B")), &two), Some(1));
        assert_eq!(index(&node(here, Some("RTX 3090")), &one), None);
        assert_eq!(
            index(&node("http://10.0.0.5:1", Some("RTX 4080")), &one),
            None,
            "another machine's"
        );
        let twins = machine(vec![
            gpu("RTX 3090", "GPU-a", 1),
            gpu("RTX 3090", "GPU-b", 1),
        ]);
        assert_eq!(index(&node(here, Some("RTX 3090")), &twins), None);
    }

    #[test]
    fn integrated_graphics_without_a_size_are_not_the_only_gpu() {
        let laptop = machine(vec![
            Gpu::unmeasured(Vendor::Intel, "Intel integrated graphics"),
            gpu("NVIDIA GeForce RTX 4060 Laptop GPU", "GPU-a", 8 << 30),
        ]);
        let behind = behind(&node("http://localhost:11434", None), &laptop);
        assert_eq!(behind.map(|gpu| gpu.index), Some(1));
    }
}
