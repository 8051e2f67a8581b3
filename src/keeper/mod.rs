//! Keeps the wanted models where they should be: gathers what a residency plan needs, and carries it out. `optimize` and `serve` both do it here.

mod apply;
mod ask;
mod document;
mod need;
mod told;
mod tries;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use apply::{Alone, Done, Event, Limits, Permits, Tell, after};
pub use ask::Needs;
pub use document::{Document, Failed};
pub use need::{NotUnderstood, RunWish, Understood};
pub use told::told;

use crate::backend::Prober;
use crate::cluster::{
    self, Action, Change, Claim, ClusterSnapshot, Goal, Gpu, Measure, ModelName, NodeReport,
    ResidencyPlan, Scene, Site, Surroundings, Usage, Wanted,
};
use crate::config::Config;
use crate::vram::{Basis, Learned, known_models};
use tries::Tries;

/// Most models that are planned for at once; a plan costs some placements per model and node.
pub const MOST_WANTED: usize = 64;

impl Planned {
    /// What the plan's loads take of each GPU of a node. What the plan frees there before counts as free.
    pub fn claims(&self, node: &str) -> Vec<Claim> {
        let here = |change: &&Change| change.node == node;
        let freed: u64 = (self.plan.changes.iter().filter(here))
            .filter(|change| change.action == Action::Unload)
            .fold(0, |sum, change| sum.saturating_add(change.bytes));
        let rooms = self.sites.iter().find(|site| site.name() == Some(node));
        let rooms = rooms.map_or(&[][..], |site| &site.rooms);
        let loads = self.plan.changes.iter().filter(here);
        loads
            .flat_map(|change| &change.needs)
            .filter_map(|(index, bytes)| {
                let room = rooms.iter().find(|room| room.index == *index)?;
                let free = room.free_bytes.saturating_add(room.reserved_bytes);
                Some(Claim {
                    gpu: room.key(),
                    bytes: *bytes,
                    free_bytes: free.saturating_add(freed),
                })
            })
            .collect()
    }
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The models, the most important first, each with the node that is taken before others.
    pub models: Vec<(String, Option<String>)>,
    /// What is enough.
    pub goal: Goal,
}

impl Wish {
    /// The priority models on GPUs.
    pub fn priority(config: &Config) -> Self {
        Self::of(config.residency.models.iter(), Goal::Gpu)
    }

    /// These models.
    pub fn of<'a>(models: impl Iterator<Item = &'a String>, goal: Goal) -> Self {
        Self {
            models: models
                .take(MOST_WANTED)
                .map(|name| (name.clone(), None))
                .collect(),
            goal,
        }
    }

    /// The priority models and those of the classes and tiers, in any memory where no GPU has room.
    pub fn warm(config: &Config) -> Self {
        let routing = &config.routing;
        let classes = [&routing.simple, &routing.moderate, &routing.complex];
        let classes = classes
            .into_iter()
            .flatten()
            .map(|target| (target.model.clone(), target.prefer.clone()));
        let tiers = routing
            .tiers
            .iter()
            .map(|tier| (tier.model.clone(), tier.prefer.clone()));
        let mut models = Self::priority(config).models;
        models.extend(classes.chain(tiers));
        models.truncate(MOST_WANTED);
        Self {
            models,
            goal: Goal::Memory,
        }
    }
}

/// The cluster as it is seen now.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The nodes.
    pub snapshot: &'a ClusterSnapshot,
    /// The GPUs of this machine; `None` when they are not known yet.
    pub local: Option<&'a [Gpu]>,
    /// What runtimes were seen to add.
    pub learned: &'a Learned,
    /// Bytes of RAM of this machine that may be used.
    pub ram_free: Option<u64>,
    /// What other gpurouters report of their GPUs, by node.
    pub reported: &'a BTreeMap<String, Vec<Gpu>>,
    /// The most GPU memory in bytes that each node was ever seen to hold.
    pub seen: &'a BTreeMap<String, u64>,
    /// How the site's rooms are with what is promised to others taken off.
    pub promised: &'a dyn Fn(Vec<Site>) -> Vec<Site>,
    /// Use of a model on a node.
    pub usage: &'a dyn Fn(&str, &ModelName) -> Usage,
}

/// A plan with what it was made for.
#[derive(Debug)]
pub struct Planned {
    /// What is to be done.
    pub plan: ResidencyPlan,
    /// The nodes' memory before it.
    pub nodes: Vec<NodeReport>,
    /// The same in detail, as the plan saw it.
    pub sites: Vec<Site>,
}

/// Plans, carries plans out, and remembers what came of it.
#[derive(Debug)]
pub struct Keeper {
    prober: Arc<Prober>,
    needs: Needs,
    tries: Mutex<Tries>,
}

impl Keeper {
    /// One that asks nodes through this prober.
    pub fn new(prober: Arc<Prober>) -> Self {
        Self {
            needs: Needs::new(Arc::clone(&prober)),
            prober,
            tries: Mutex::default(),
        }
    }

    /// What models need, as far as it was asked.
    pub fn needs(&self) -> &Needs {
        &self.needs
    }

    /// Forgets what failed at a node: it was away and has come back.
    pub fn forget(&self, node: &str) {
        lock(&self.tries).forget(node);
    }

    /// Begins a cycle: what failed some cycles ago may be tried again. Returns its number, from 1.
    pub fn begin(&self, snapshot: &ClusterSnapshot) -> u64 {
        let mut tries = lock(&self.tries);
        for node in &snapshot.nodes {
            // What comes back may be another server, or the same one in better health.
            if !node.state.usable() {
                tries.forget(&node.name);
            }
        }
        tries.begin()
    }

    /// Plans for what is wanted. Asks nodes to describe a model that is not where it should be, once for each content.
    pub fn plan(&self, config: &Config, wish: &Wish, view: View<'_>) -> Planned {
        let sites = (view.promised)(sites(config, view));
        let names: Vec<ModelName> = wish
            .models
            .iter()
            .map(|(name, _)| ModelName::new(name))
            .collect();
        let needs: Vec<Option<Arc<Understood>>> = names
            .iter()
            .map(|name| self.need(config, view.snapshot, name))
            .collect();
        let wanted: Vec<Wanted<'_>> = names
            .iter()
            .zip(&needs)
            .zip(&wish.models)
            .map(|((name, need), (_, prefer))| Wanted {
                name: name.clone(),
                need: need.as_ref().map(|need| need.as_need()),
                prefer: prefer.as_deref(),
            })
            .collect();
        let tries = lock(&self.tries).clone();
        let plan = cluster::residency(&Scene {
            sites: &sites,
            wanted: &wanted,
            policy: config.memory,
            strategy: config.gpu.strategy,
            cpu_fallback: config.gpu.cpu_fallback,
            goal: wish.goal,
            usage: view.usage,
            held_back: &|node, model| tries.held_back(node, model),
        });
        let known = known_models(&config.models);
        Planned {
            nodes: cluster::report(&sites, &known, config.memory),
            sites,
            plan,
        }
    }

    /// What the model needs, where that has to be known: it is not all on some GPU.
    fn need(
        &self,
        config: &Config,
        snapshot: &ClusterSnapshot,
        name: &ModelName,
    ) -> Option<Arc<Understood>> {
        let placed = snapshot.usable().any(|node| {
            let loaded = node.loaded(name);
            loaded.is_some_and(|loaded| loaded.gpu_percent() == Some(100))
        });
        let holder = snapshot
            .usable()
            .find_map(|node| Some((node, node.model(name)?)));
        let Some((node, model)) = holder else {
            return ask::catalogued(config, name).map(Arc::new);
        };
        if placed {
            return self.needs.known(node, model);
        }
        self.needs.ask(config, snapshot, node, model)
    }
}

/// The nodes as sites; this machine counts only where a node of it can load models.
fn sites(config: &Config, view: View<'_>) -> Vec<Site> {
    Surroundings {
        snapshot: view.snapshot,
        local: view.local,
        reported: view.reported,
        seen: view.seen,
        measure: Measure {
            policy: config.memory,
            // Each model's own basis counts when it is placed.
            basis: Basis::Header,
            learned: view.learned,
            cards: &config.gpu.cards,
        },
        ram_free: view.ram_free,
        ram_bandwidth: None,
        nodes_only: true,
    }
    .sites()
}

/// A lock whose data is complete after every change, so that a panic elsewhere cannot have left it half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
