//! The nodes' memory at a glance, and which known models would fit next to what is loaded.

use serde::Serialize;

use crate::cluster::{MemoryPolicy, ModelName, NodeState, Room, Site};
use crate::vram::{Basis, KnownModel};

/// Shares of the usable memory in percent, from the source documents: above the first a node is full, below the second it has room to spare.
const FULL: u64 = 90;
const SPARE: u64 = 30;

/// One node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeReport {
    /// The node.
    pub node: String,
    /// What it can be relied on for.
    pub state: NodeState,
    /// Its GPUs by name; `None`: none, or none is known.
    pub gpu: Option<String>,
    /// Bytes of memory of all its GPUs; `None`: not known.
    pub total_bytes: Option<u64>,
    /// Bytes that count as usable; `None`: not known.
    pub usable_bytes: Option<u64>,
    /// Bytes free; `None`: not known.
    pub free_bytes: Option<u64>,
    /// Share of the usable memory that is taken in percent; `None`: not known.
    pub used_percent: Option<u64>,
    /// What is loaded there.
    pub loaded: Vec<LoadedReport>,
    /// Known models and whether they fit next to that; empty where nothing is known.
    pub can_fit: Vec<CanFit>,
    /// What the share says, as a sentence.
    pub advice: Option<&'static str>,
}

/// A loaded model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LoadedReport {
    /// The model.
    pub model: ModelName,
    /// Share of it in GPU memory in percent; `None`: not told.
    pub gpu_percent: Option<u8>,
    /// Bytes in GPU memory; `None`: not told.
    pub vram_bytes: Option<u64>,
}

/// Whether a known model fits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CanFit {
    /// The model.
    pub model: String,
    /// Bytes that it takes by the table.
    pub bytes: u64,
    /// Whether so many are free on one GPU.
    pub fits: bool,
}

/// Every node's memory, and which of the known models would fit there.
pub fn report(sites: &[Site], known: &[KnownModel], policy: MemoryPolicy) -> Vec<NodeReport> {
    sites
        .iter()
        .filter_map(|site| {
            let node = site.node.as_ref()?;
            // The table's sizes stand for the whole need.
            let rooms: Vec<Room> = site
                .rooms
                .iter()
                .map(|room| room.clone().measured(policy, Basis::Catalog))
                .collect();
            let bare = site.knowledge == crate::cluster::Knowledge::NoGpu;
            let sum = |of: fn(&Room) -> u64| {
                (bare || !rooms.is_empty())
                    .then(|| rooms.iter().map(of).fold(0, u64::saturating_add))
            };
            let (usable, free) = (sum(|room| room.usable_bytes), sum(|room| room.free_bytes));
            let used_percent = usable.zip(free).and_then(|(usable, free)| {
                let used = u128::from(usable.saturating_sub(free)) * 100;
                u64::try_from(used.checked_div(u128::from(usable))?).ok()
            });
            let largest = rooms.iter().map(|room| room.free_bytes).max();
            let names: Vec<&str> = rooms
                .iter()
                .map(|room| room.name.as_str())
                .filter(|name| !name.is_empty())
                .collect();
            Some(NodeReport {
                node: node.name.clone(),
                state: node.state,
                gpu: (!names.is_empty()).then(|| names.join(", ")),
                total_bytes: sum(|room| room.total_bytes),
                usable_bytes: usable,
                free_bytes: free,
                used_percent,
                loaded: node.loaded.iter().map(LoadedReport::of).collect(),
                can_fit: largest.map_or_else(Vec::new, |free| can_fit(known, policy, free)),
                advice: usable
                    .zip(free)
                    .and_then(|(usable, free)| advice(usable, free)),
            })
        })
        .collect()
}

impl LoadedReport {
    fn of(loaded: &crate::cluster::LoadedModel) -> Self {
        Self {
            model: loaded.name.clone(),
            gpu_percent: loaded.gpu_percent(),
            vram_bytes: loaded.vram_bytes,
        }
    }
}

fn can_fit(known: &[KnownModel], policy: MemoryPolicy, free: u64) -> Vec<CanFit> {
    known
        .iter()
        .map(|model| CanFit {
            model: model.name.clone(),
            bytes: model.bytes,
            fits: crate::cluster::memory::scaled(model.bytes, policy.headroom_factor) <= free,
        })
        .collect()
}

fn advice(usable: u64, free: u64) -> Option<&'static str> {
    let share = |percent: u64| u128::from(usable) * u128::from(percent);
    let used = u128::from(usable.saturating_sub(free)) * 100;
    if usable == 0 {
        None
    } else if used > share(FULL) {
        Some("Nearly full: take a model out or shorten contexts")
    } else if used < share(SPARE) {
        Some("Room to spare: more models can be kept here")
    } else {
        None
    }
}
