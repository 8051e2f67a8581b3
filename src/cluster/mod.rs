//! Nodes, their models and what is loaded, as plain data.
//!
//! How the data was obtained is the business of [`crate::backend`]; what follows from it is decided in [`crate::routing`].

mod fallback;
mod fit;
mod gpu;
mod ledger;
mod memory;
mod name;
mod node;
mod place;
mod residency;
mod sites;

pub use fallback::{
    Cause, Evidence, Fallback, FallbackWatch, ON_GPU_PERCENT, Processor, fallback,
};
pub use fit::{
    Advice, Best, Eviction, Fit, Launch, Question, Run, SiteFit, SitePlacement, Target, Variant,
    Verdict, fit,
};
pub use gpu::{Gpu, GpuProcess, GpuState, Vendor};
pub use ledger::{Claim, Ledger, Refused, Ticket, claims};
pub use memory::{Bound, GpuKey, Measure, MemoryPolicy, Room, Skipped, size_only};
pub use name::ModelName;
pub use node::{Capability, LoadedModel, Model, Native, Node, NodeKind, NodeState, Role};
pub use place::{
    Demand, Layers, Need, Placement, PlacementKind, Rules, Strategy, place, place_on_gpus,
};
pub use residency::{
    Action, CanFit, Change, Goal, Impossible, ModelNeed, NodeReport, ResidencyPlan, Resident,
    Scene, Usage, Wanted, report, residency,
};
pub use sites::{Knowledge, Site, Surroundings, on_this_machine};

use std::sync::Arc;

/// Every configured or discovered node as it was last seen, in configuration order.
#[derive(Debug, Clone, Default)]
pub struct ClusterSnapshot {
    /// The nodes; a node that is down keeps its last known models, so that lists do not flicker.
    pub nodes: Vec<Arc<Node>>,
}

impl ClusterSnapshot {
    /// The node of that name.
    pub fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// Nodes that answer requests now (up or busy).
    pub fn usable(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.iter().filter(|node| node.state.usable())
    }
}
