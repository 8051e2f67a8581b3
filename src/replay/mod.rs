//! Traces replayed in virtual time: what a fleet would have done with them without a router, and what it does with one.
//!
//! The nodes are simulated ([`crate::sim::model`], plus what their GPUs do); the router's side is the code that `serve` runs: the decision,
//! the schedulers, the reconciliation of contexts, speeds learned from answers. The nodes' parameters are hidden from it: it sees what Ollama
//! would show. The same seed gives the same report on every machine.

mod dice;
mod fleet;
mod inside;
mod node;
pub mod optimum;
mod physics;
mod plain;
mod report;
mod router;
mod trace;
mod traces;
mod world;

pub use fleet::{FleetNode, Power, with};
pub use plain::Spread;
pub use report::{
    LaneReport, NodeReport, OptimumReport, PolicyReport, Predictions, Quantiles, Report,
    Starvation, Totals, TraceReport,
};
pub use trace::{BLOCK, TraceError, TraceRequest, parse, write};
pub use traces::{Builtin, builtin, builtins};

use std::sync::Arc;

use serde::Serialize;

use crate::routing::queue::Lane;
use crate::routing::{Copies, WindowPolicy};
use crate::sim::Model;
use router::Router;
use world::World;

/// A trace with the nodes that it runs on.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// What it is, as a sentence.
    pub about: String,
    /// The nodes.
    pub fleet: Vec<FleetNode>,
    /// The requests, in the order of their times.
    pub requests: Vec<TraceRequest>,
    /// Nodes (by index) that die and start anew, and when.
    pub restarts: Vec<(u64, usize)>,
    /// How clients without a router find their nodes.
    pub spread: Spread,
    /// Full names of models that are evicted last.
    pub pinned: Vec<String>,
    /// Whether plain Ollama loads models over and over in it, and nearly all of that could be avoided.
    pub thrash: bool,
}

impl Scenario {
    /// A recorded trace on some nodes.
    pub fn recorded(name: &str, requests: Vec<TraceRequest>, fleet: Vec<FleetNode>) -> Self {
        Self {
            name: name.to_owned(),
            about: "a recorded trace".to_owned(),
            fleet,
            requests,
            restarts: Vec::new(),
            spread: Spread::Fixed,
            pinned: Vec::new(),
            thrash: false,
        }
    }

    /// The same without the requests of some lanes.
    #[must_use]
    pub fn without(&self, lanes: &[Lane]) -> Self {
        let mut rest = self.clone();
        rest.requests
            .retain(|request| !lanes.contains(&request.lane));
        rest
    }

    /// The models of its requests, each once.
    fn models(&self) -> Vec<Arc<Model>> {
        fleet::models(self.requests.iter().map(|request| request.model.as_str()))
    }
}

/// What of the router's configuration a replay depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Rules {
    /// What becomes of `num_ctx`.
    pub num_ctx: WindowPolicy,
    /// On how many nodes a model is loaded at once.
    pub copies: Copies,
}

/// Index of each request's model.
fn model_indices(requests: &[TraceRequest], models: &[Arc<Model>]) -> Vec<usize> {
    requests
        .iter()
        .map(|request| {
            let name = crate::sim::catalog::full_name(&request.model);
            models
                .iter()
                .position(|model| model.name == name)
                .unwrap_or(0)
        })
        .collect()
}

/// Replays a trace under both policies.
pub fn replay(scenario: &Scenario, rules: Rules, seed: u64) -> TraceReport {
    let policies = vec![
        replay_plain(scenario, seed),
        replay_router(scenario, rules, seed),
    ];
    let optimum = optimum::of(scenario);
    TraceReport::new(scenario, policies, optimum)
}

/// Replays a trace without a router.
pub fn replay_plain(scenario: &Scenario, seed: u64) -> PolicyReport {
    let models = scenario.models();
    let mut world = World::new(
        &scenario.requests,
        &models,
        &scenario.fleet,
        &scenario.restarts,
        seed,
    );
    plain::run(&mut world, scenario.spread, seed);
    PolicyReport::of_plain(&world)
}

/// Replays a trace with the router.
pub fn replay_router(scenario: &Scenario, rules: Rules, seed: u64) -> PolicyReport {
    let models = scenario.models();
    let mut world = World::new(
        &scenario.requests,
        &models,
        &scenario.fleet,
        &scenario.restarts,
        seed,
    );
    let mut router = Router::new(&world, rules, &scenario.pinned, seed);
    router.run(&mut world);
    PolicyReport::of_router(&world, &router)
}
