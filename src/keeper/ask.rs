//! What models need, asked once for each content and remembered.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use super::lock;
use super::need::{RunWish, Understood};
use crate::backend::Prober;
use crate::cluster::{ClusterSnapshot, Model, ModelName, Node, NodeKind};
use crate::config::Config;
use crate::source::{self, Finder, Places, Spec};
use crate::vram::find_known;

/// Models whose needs are remembered; more than anybody keeps on GPUs.
const MOST: usize = 256;

/// Needs by content: a digest never changes what it stands for; without one it is the model of that name and size on that node.
#[derive(Debug)]
pub struct Needs {
    prober: Arc<Prober>,
    remembered: Mutex<Remembered>,
}

#[derive(Debug, Default)]
struct Remembered {
    known: HashMap<String, Arc<Understood>>,
    order: VecDeque<String>,
}

impl Needs {
    /// Nothing is known yet; nodes are asked through this prober.
    pub fn new(prober: Arc<Prober>) -> Self {
        Self {
            prober,
            remembered: Mutex::default(),
        }
    }

    /// What is remembered of a node's model. Asks nobody.
    pub fn known(&self, node: &Node, model: &Model) -> Option<Arc<Understood>> {
        let remembered = lock(&self.remembered);
        remembered.known.get(&key(node, model)).map(Arc::clone)
    }

    /// What this node says of its model, else the catalogue, else its name; remembered. Takes half a minute at most.
    pub fn of_node(
        &self,
        config: &Config,
        node: &Arc<Node>,
        model: &Model,
    ) -> Option<Arc<Understood>> {
        let alone = ClusterSnapshot {
            nodes: vec![Arc::clone(node)],
        };
        self.ask(config, &alone, node, model)
    }

    /// What the nodes say of a model that this one has, else the catalogue, else its name; remembered. No registry is asked. The lock is not
    /// held over the calls.
    pub(super) fn ask(
        &self,
        config: &Config,
        snapshot: &ClusterSnapshot,
        node: &Node,
        model: &Model,
    ) -> Option<Arc<Understood>> {
        if let Some(known) = self.known(node, model) {
            return Some(known);
        }
        let wish = RunWish {
            // It serves what it was started with, and says how much that is.
            ctx: model
                .context
                .filter(|_| node.kind == Some(NodeKind::LlamaServer)),
            ..RunWish::default()
        };
        let found = find(&self.prober, snapshot, config, &model.id, &wish).map(Arc::new)?;
        let key = key(node, model);
        let mut remembered = lock(&self.remembered);
        let new = remembered
            .known
            .insert(key.clone(), Arc::clone(&found))
            .is_none();
        if new {
            remembered.order.push_back(key);
        }
        if remembered.order.len() > MOST
            && let Some(oldest) = remembered.order.pop_front()
        {
            remembered.known.remove(&oldest);
        }
        Some(found)
    }
}

fn key(node: &Node, model: &Model) -> String {
    match &model.digest {
        Some(digest) => digest.clone(),
        None => format!("{} {} {:?}", node.url, model.id, model.context),
    }
}

/// What the user's own sizes and the catalogue say of a model that no node has.
pub(super) fn catalogued(config: &Config, name: &ModelName) -> Option<Understood> {
    find_known(name.as_str(), &config.models)?;
    let wish = RunWish::default();
    find(
        &Prober::new(),
        &ClusterSnapshot::default(),
        config,
        name.as_str(),
        &wish,
    )
}

fn find(
    prober: &Prober,
    snapshot: &ClusterSnapshot,
    config: &Config,
    name: &str,
    wish: &RunWish,
) -> Option<Understood> {
    let places = Places::default();
    let known = |name: &ModelName| find_known(name.as_str(), &config.models).map(|known| known.mb);
    let finder = Finder {
        nodes: Some((prober, snapshot)),
        offline: true,
        known: &known,
        ..Finder::new(&places)
    };
    let found = source::find(&Spec::Name(name.to_owned()), &finder).ok()?;
    Understood::at_least_its_size(found, wish)
}
