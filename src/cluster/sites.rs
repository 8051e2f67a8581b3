//! Where a model may run: this machine and the nodes, each with what is known of its GPUs' memory.
//!
//! Known is, the surest first: what the driver of this machine says (for nodes at a loopback address), what another gpurouter in front of a
//! node reports, what the configuration says, the card that the configuration names, and what the node was ever seen to hold, which is a lower
//! bound. Beyond that nothing is known, and that is what is said.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::memory::{Bound, Measure};
use super::{ClusterSnapshot, Gpu, ModelName, Node, NodeKind, Room, Skipped};
use crate::vram::find_card;

/// Where the memory of a site is known from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Knowledge {
    /// The driver of this machine, or a fixed inventory in its place.
    Driver,
    /// Another gpurouter's report.
    Report,
    /// The configuration.
    Configuration,
    /// The card that the configuration names.
    Card,
    /// What the node was ever seen to hold: a lower bound.
    Seen,
    /// It has no GPU.
    NoGpu,
    /// Not at all.
    Nothing,
}

/// A place where a model may run.
#[derive(Debug, Clone)]
pub struct Site {
    /// The node; `None`: this machine, without a server that would load the model.
    pub node: Option<Arc<Node>>,
    /// Its GPUs.
    pub rooms: Vec<Room>,
    /// GPUs that cannot be used.
    pub skipped: Vec<Skipped>,
    /// Where that is known from.
    pub knowledge: Knowledge,
    /// Loaded models whose memory nobody tells and no driver shows: the free memory may be less by it.
    pub untold: Vec<ModelName>,
    /// Bytes of RAM that may be used; `None`: not known.
    pub ram_free: Option<u64>,
    /// Bytes per second of RAM; `None`: not known.
    pub ram_bandwidth: Option<f64>,
}

impl Site {
    /// Whether a model can be loaded there now. This machine always can; a node must answer, and be of a kind that loads what it is asked for.
    pub fn live(&self) -> bool {
        self.node
            .as_ref()
            .is_none_or(|node| node.state.usable() && node.kind == Some(NodeKind::Ollama))
    }

    /// Bytes of GPU memory that there are for the node's models, those that are loaded counted in: what is usable less what other nodes'
    /// models take of the same GPUs and, where the driver tells, other programs. `None` where nobody tells how much there is.
    pub fn capacity(&self) -> Option<u64> {
        match self.knowledge {
            Knowledge::Driver | Knowledge::Report | Knowledge::Configuration | Knowledge::Card => {}
            Knowledge::Seen | Knowledge::NoGpu | Knowledge::Nothing => return None,
        }
        let own = self.node.as_ref().map_or(0, |node| loaded_bytes(node));
        let sum = |of: fn(&Room) -> u64| self.rooms.iter().map(of).fold(0, u64::saturating_add);
        let usable = sum(|room| room.usable_bytes);
        let driver_tells = (self.rooms.iter()).all(|room| room.driver_free_bytes.is_some());
        // What a node does not tell of its models the driver has taken off already, as if somebody else held it.
        let node_tells = self
            .node
            .as_ref()
            .is_none_or(|node| untold(node).is_empty());
        if driver_tells && node_tells {
            return Some(sum(|room| room.free_bytes).saturating_add(own).min(usable));
        }
        let loaded = if driver_tells {
            sum(|room| room.loaded_bytes)
        } else {
            // The same sum is counted on each.
            let each = self.rooms.iter().map(|room| room.loaded_bytes);
            each.max().unwrap_or(0)
        };
        Some(usable.saturating_sub(loaded.saturating_sub(own)))
    }

    /// The node's name.
    pub fn name(&self) -> Option<&str> {
        self.node.as_ref().map(|node| node.name.as_str())
    }
}

/// Everything that is known of where models may run.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// The nodes as last seen.
    pub snapshot: &'a ClusterSnapshot,
    /// The GPUs of this machine; `None` when they were not looked for.
    pub local: Option<&'a [Gpu]>,
    /// What other gpurouters report of their GPUs, by node.
    pub reported: &'a BTreeMap<String, Vec<Gpu>>,
    /// The most GPU memory in bytes that each node was ever seen to hold.
    pub seen: &'a BTreeMap<String, u64>,
    /// How memory is measured.
    pub measure: Measure<'a>,
    /// Bytes of RAM of this machine that may be used.
    pub ram_free: Option<u64>,
    /// Bytes per second of this machine's RAM.
    pub ram_bandwidth: Option<f64>,
    /// Whether this machine is left out where no node runs on it.
    pub nodes_only: bool,
}

impl Surroundings<'_> {
    /// Every site, nodes in configuration order; this machine is one of its own where no node of it can load models.
    pub fn sites(&self) -> Vec<Site> {
        let here: Vec<&Arc<Node>> = self
            .snapshot
            .nodes
            .iter()
            .filter(|node| on_this_machine(&node.url))
            .collect();
        let mut sites: Vec<Site> = self
            .snapshot
            .nodes
            .iter()
            .map(|node| self.site(node, &here))
            .collect();
        let served = sites.iter().any(|site| {
            site.live()
                && site
                    .node
                    .as_ref()
                    .is_some_and(|node| on_this_machine(&node.url))
        });
        if let Some(gpus) = self.local
            && !served
            && !self.nodes_only
        {
            let (rooms, skipped) = self.measure.rooms(gpus, loaded_on(gpus, gpus, &here));
            sites.push(Site {
                node: None,
                knowledge: driver(&rooms, &skipped),
                rooms,
                skipped,
                untold: here.iter().flat_map(|node| untold(node)).collect(),
                ram_free: self.ram_free,
                ram_bandwidth: self.ram_bandwidth,
            });
        }
        sites
    }

    fn site(&self, node: &Arc<Node>, here: &[&Arc<Node>]) -> Site {
        let local = on_this_machine(&node.url);
        let (knowledge, rooms, skipped) = self.memory(node, local, here);
        let driver_tells = rooms.iter().all(|room| room.driver_free_bytes.is_some());
        let silent = !rooms.is_empty() && !driver_tells;
        Site {
            node: Some(Arc::clone(node)),
            untold: if silent { untold(node) } else { Vec::new() },
            rooms,
            skipped,
            knowledge,
            ram_free: self.ram_free.filter(|_| local),
            ram_bandwidth: self.ram_bandwidth.filter(|_| local),
        }
    }

    fn memory(
        &self,
        node: &Node,
        local: bool,
        here: &[&Arc<Node>],
    ) -> (Knowledge, Vec<Room>, Vec<Skipped>) {
        let measure = self.measure;
        let loaded = loaded_bytes(node);
        let named = |gpus: &[Gpu], loaded| {
            let (rooms, skipped) = measure.rooms(gpus, loaded);
            let owned = rooms.into_iter().map(|room| Room {
                node: Some(node.name.clone()),
                ..room
            });
            (owned.collect::<Vec<_>>(), skipped)
        };
        // A server that was kept off the GPU of its machine is the configuration's to tell.
        if node.vram_bytes == Some(0) {
            return (Knowledge::NoGpu, Vec::new(), Vec::new());
        }
        // An empty inventory of this machine is an answer unless the configuration knows better.
        let configured = node.vram_bytes.is_some() || node.gpu.is_some();
        if let Some(gpus) = self
            .local
            .filter(|gpus| local && !(gpus.is_empty() && configured))
        {
            let own = those_of(node, gpus);
            let (rooms, skipped) = named(&own, loaded_on(&own, gpus, here));
            return (driver(&rooms, &skipped), rooms, skipped);
        }
        if let Some(gpus) = self.reported.get(&node.name) {
            let (rooms, skipped) = named(&those_of(node, gpus), loaded);
            let knowledge = if rooms.is_empty() && skipped.is_empty() {
                Knowledge::NoGpu
            } else {
                Knowledge::Report
            };
            return (knowledge, rooms, skipped);
        }
        let gpu = node.gpu.as_deref();
        if let Some(total) = node.vram_bytes {
            let room = measure.remote(&node.name, gpu, total, loaded);
            return (Knowledge::Configuration, vec![room], Vec::new());
        }
        if let Some(card) = gpu.and_then(|gpu| find_card(gpu, None, measure.cards)) {
            let room = measure.remote(&node.name, gpu, card.card.vram_bytes, loaded);
            return (Knowledge::Card, vec![room], Vec::new());
        }
        let seen = self.seen.get(&node.name).copied().unwrap_or(0).max(loaded);
        if seen > 0 {
            let room = Room {
                bound: Bound::AtLeast,
                ..measure.remote(&node.name, gpu, seen, loaded)
            };
            let room = room.measured(measure.policy, measure.basis);
            return (Knowledge::Seen, vec![room], Vec::new());
        }
        (Knowledge::Nothing, Vec::new(), Vec::new())
    }
}

fn driver(rooms: &[Room], skipped: &[Skipped]) -> Knowledge {
    if rooms.is_empty() && skipped.is_empty() {
        Knowledge::NoGpu
    } else {
        Knowledge::Driver
    }
}

/// The GPUs that the node's configuration names, all of them where it names none that is there.
fn those_of(node: &Node, gpus: &[Gpu]) -> Vec<Gpu> {
    let key = |name: &str| find_card(name, None, &BTreeMap::new()).map(|card| card.name);
    let Some(wanted) = node.gpu.as_deref() else {
        return gpus.to_vec();
    };
    let named: Vec<Gpu> = gpus
        .iter()
        .filter(|gpu| {
            gpu.name.eq_ignore_ascii_case(wanted)
                || gpu.uuid.as_deref() == Some(wanted)
                || key(wanted).is_some_and(|wanted| key(&gpu.name) == Some(wanted))
        })
        .cloned()
        .collect();
    if named.is_empty() {
        gpus.to_vec()
    } else {
        named
    }
}

/// Bytes that the models of this machine's nodes take on these of its GPUs. A node that names its card holds its models there; one that names
/// none may hold them on any, and is counted in full.
fn loaded_on(these: &[Gpu], all: &[Gpu], here: &[&Arc<Node>]) -> u64 {
    let shares = |node: &&&Arc<Node>| {
        those_of(node, all)
            .iter()
            .any(|gpu| these.iter().any(|these| these.index == gpu.index))
    };
    here.iter()
        .filter(shares)
        .fold(0, |sum, node| sum.saturating_add(loaded_bytes(node)))
}

/// Bytes of GPU memory that the node's models take. A model that tells only its size is counted whole.
pub(super) fn loaded_bytes(node: &Node) -> u64 {
    node.loaded
        .iter()
        .filter_map(|loaded| loaded.vram_bytes.or(loaded.size_bytes))
        .fold(0, u64::saturating_add)
}

/// Loaded models of which neither is told.
fn untold(node: &Node) -> Vec<ModelName> {
    node.loaded
        .iter()
        .filter(|loaded| loaded.vram_bytes.or(loaded.size_bytes).is_none())
        .map(|loaded| loaded.name.clone())
        .collect()
}

/// Whether a base URL leads to this machine by its host alone: a loopback address or its name.
pub fn on_this_machine(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host_port = authority.rsplit('@').next().unwrap_or_default();
    let host = match host_port.strip_prefix('[') {
        Some(bracketed) => bracketed.split(']').next().unwrap_or_default(),
        None => host_port.split(':').next().unwrap_or_default(),
    };
    host.eq_ignore_ascii_case("localhost") || host == "::1" || is_127(host)
}

/// Whether it is a dotted address of 127.0.0.0/8.
fn is_127(host: &str) -> bool {
    let mut numbers = host.split('.').map(|number| number.parse::<u8>().ok());
    numbers.next() == Some(Some(127))
        && numbers.clone().count() == 3
        && numbers.all(|n| n.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{GpuState, LoadedModel, MemoryPolicy, NodeState, Vendor};
    use crate::vram::{Basis, Learned};

    const GIB: u64 = 1 << 30;

    fn node(name: &str, url: &str) -> Node {
        let mut node = Node::unseen(name, url);
        node.kind = Some(NodeKind::Ollama);
        node.state = NodeState::Up;
        node
    }

    fn gpu(index: u32, name: &str, gib: u64) -> Gpu {
        Gpu {
            node: None,
            index,
            name: name.to_owned(),
            uuid: Some(format!("GPU-{index}")),
            pci_bus_id: None,
            vendor: Vendor::Nvidia,
            state: GpuState::Ok,
            cause: None,
            unified: false,
            total_bytes: Some(gib * GIB),
            used_bytes: None,
            free_bytes: None,
            utilization: None,
            temperature_c: None,
            power_w: None,
            energy_j: None,
            compute_capability: None,
            multiprocessors: None,
            bandwidth: None,
            processes: Vec::new(),
        }
    }

    /// Each site's name, how its memory is known and the GiB of its GPUs.
    fn sites(
        nodes: Vec<Node>,
        local: Option<&[Gpu]>,
        reported: &BTreeMap<String, Vec<Gpu>>,
    ) -> Vec<(String, Knowledge, Vec<u64>)> {
        Surroundings {
            snapshot: &ClusterSnapshot {
                nodes: nodes.into_iter().map(Arc::new).collect(),
            },
            local,
            reported,
            seen: &BTreeMap::new(),
            measure: Measure {
                policy: MemoryPolicy::default(),
                basis: Basis::Header,
                learned: &Learned::default(),
                cards: &BTreeMap::new(),
            },
            ram_free: None,
            ram_bandwidth: None,
            nodes_only: false,
        }
        .sites()
        .into_iter()
        .map(|site| {
            let gib = site.rooms.iter().map(|room| room.total_bytes / GIB);
            let name = site.name().unwrap_or("this machine").to_owned();
            (name, site.knowledge, gib.collect())
        })
        .collect()
    }

    #[test]
    fn addresses_of_this_machine() {
        for here in [
            "http://127.0.0.1:11434",
            "http://localhost:11434/v1",
            "https://LOCALHOST",
            "http://[::1]:8080",
            "http://user@127.9.0.1:1/x",
        ] {
            assert!(on_this_machine(here), "{here}");
        }
        for elsewhere in [
            "http://10.0.0.1:11434",
            "http://127.0.0.1.example.org",
            "http://localhost.example.org",
            "http://[fe80::1]:1",
            "http://gpu0/127.0.0.1",
            "http://1270.0.0.1",
            "http://127.0.0",
            "",
        ] {
            assert!(!on_this_machine(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn a_node_that_names_its_card_holds_its_models_there_and_nowhere_else() {
        let inventory = [gpu(0, "RTX 4080 SUPER", 16), gpu(1, "RTX 3060", 12)];
        let local = |name: &str, card: Option<&str>, gib: u64| {
            let mut node = node(name, "http://127.0.0.1:1");
            node.gpu = card.map(str::to_owned);
            node.loaded = vec![LoadedModel {
                vram_bytes: Some(gib * GIB),
                ..LoadedModel::default()
            }];
            Arc::new(node)
        };
        let on = |here: &[&Arc<Node>]| {
            [0, 1].map(|at| loaded_on(&inventory[at..=at], &inventory, here) / GIB)
        };
        let (big, small) = (
            local("a", Some("RTX 4080 SUPER"), 5),
            local("b", Some("RTX 3060"), 2),
        );
        assert_eq!(on(&[&big, &small]), [5, 2]);
        // Where it is not told it may be anywhere.
        assert_eq!(on(&[&big, &local("c", None, 1)]), [6, 1]);
    }

    #[test]
    fn the_surest_knowledge_counts() {
        let inventory = [
            gpu(0, "NVIDIA GeForce RTX 4080 SUPER", 16),
            gpu(1, "Quadro M4000", 8),
        ];
        let mut big = node("big", "http://127.0.0.1:11434");
        big.gpu = Some("RTX 4080 SUPER".to_owned());
        let mut small = node("small", "http://127.0.0.1:11435");
        small.gpu = Some("GPU-1".to_owned());
        let mut router = node("router", "http://far:8512");
        router.vram_bytes = Some(GIB);
        let reported =
            BTreeMap::from([("router".to_owned(), vec![gpu(0, "A", 24), gpu(1, "B", 24)])]);
        let mut told = node("told", "http://there:11434");
        told.vram_bytes = Some(12 * GIB);
        let mut named = node("named", "http://there2:11434");
        named.gpu = Some("Tesla P40".to_owned());
        let mut seen = node("seen", "http://there3:11434");
        seen.loaded = vec![LoadedModel {
            vram_bytes: Some(5 * GIB),
            ..LoadedModel::default()
        }];
        let idle = node("idle", "http://there4:11434");
        let found = sites(
            vec![big, small, router, told, named, seen, idle],
            Some(&inventory),
            &reported,
        );
        let expected = [
            ("big", Knowledge::Driver, vec![16]),
            ("small", Knowledge::Driver, vec![8]),
            ("router", Knowledge::Report, vec![24, 24]),
            ("told", Knowledge::Configuration, vec![12]),
            ("named", Knowledge::Card, vec![22]),
            ("seen", Knowledge::Seen, vec![5]),
            ("idle", Knowledge::Nothing, vec![]),
        ];
        assert_eq!(
            found,
            expected.map(|(name, knowledge, gib)| (name.to_owned(), knowledge, gib))
        );
    }

    /// The GiB that there are for each node's models.
    fn capacities(
        nodes: Vec<Node>,
        local: Option<&[Gpu]>,
        seen: &[(&str, u64)],
    ) -> Vec<Option<u64>> {
        let seen = seen
            .iter()
            .map(|(name, bytes)| ((*name).to_owned(), *bytes));
        Surroundings {
            snapshot: &ClusterSnapshot {
                nodes: nodes.into_iter().map(Arc::new).collect(),
            },
            local,
            reported: &BTreeMap::new(),
            seen: &seen.collect(),
            measure: Measure {
                policy: MemoryPolicy {
                    safety_margin: Some(1.0),
                    ..MemoryPolicy::default()
                },
                basis: Basis::Header,
                learned: &Learned::default(),
                cards: &BTreeMap::new(),
            },
            ram_free: None,
            ram_bandwidth: None,
            nodes_only: true,
        }
        .sites()
        .iter()
        .map(|site| site.capacity().map(|bytes| bytes / GIB))
        .collect()
    }

    #[test]
    fn what_there_is_for_a_nodes_models_is_not_what_others_hold() {
        let holding = |name: &str, url: &str, gib: u64| {
            let mut node = node(name, url);
            node.loaded = vec![LoadedModel {
                vram_bytes: Some(gib * GIB),
                ..LoadedModel::default()
            }];
            node
        };
        let here = |name: &str, gib: u64| holding(name, "http://127.0.0.1:1", gib);
        let driver = |used: u64| Gpu {
            used_bytes: Some(used * GIB),
            free_bytes: Some((24 - used) * GIB),
            ..gpu(0, "A", 24)
        };
        let two = || vec![here("a", 5), here("b", 3)];
        assert_eq!(
            capacities(two(), Some(&[driver(8)]), &[]),
            [Some(21), Some(19)]
        );
        // A game holds 6.
        assert_eq!(
            capacities(two(), Some(&[driver(14)]), &[]),
            [Some(15), Some(13)]
        );
        // The driver says nothing of two cards: what is loaded may be on either, but is loaded once.
        let silent = [gpu(0, "A", 24), gpu(1, "B", 8)];
        assert_eq!(capacities(two(), Some(&silent), &[]), [Some(29), Some(27)]);
        // A llama-server in router mode does not tell what its models take.
        let mut silent_node = here("c", 0);
        silent_node.loaded = vec![LoadedModel::default()];
        let both = vec![silent_node, here("b", 3)];
        assert_eq!(
            capacities(both, Some(&[driver(11)]), &[]),
            [Some(21), Some(16)]
        );
        let mut told = holding("far", "http://far:1", 4);
        told.vram_bytes = Some(8 * GIB);
        let unknown = holding("seen", "http://there:1", 4);
        let mut none = node("none", "http://bare:1");
        none.vram_bytes = Some(0);
        let found = capacities(vec![told, unknown, none], None, &[("seen", 6 * GIB)]);
        assert_eq!(found, [Some(8), None, None], "what was seen is no limit");
    }

    #[test]
    fn a_machine_without_gpus_and_one_that_was_not_asked() {
        let mut told = node("told", "http://127.0.0.1:11434");
        told.vram_bytes = Some(4 * GIB);
        let bare = node("bare", "http://127.0.0.1:11435");
        let none = BTreeMap::new();
        let found = sites(vec![told.clone(), bare.clone()], Some(&[]), &none);
        assert_eq!(
            found[0],
            ("told".to_owned(), Knowledge::Configuration, vec![4])
        );
        assert_eq!(found[1], ("bare".to_owned(), Knowledge::NoGpu, vec![]));
        assert_eq!(found.len(), 2, "its nodes stand for this machine");
        assert_eq!(sites(vec![bare], None, &none)[0].1, Knowledge::Nothing);
        let alone = sites(Vec::new(), Some(&[gpu(0, "x", 8)]), &none);
        assert_eq!(
            alone,
            [("this machine".to_owned(), Knowledge::Driver, vec![8])]
        );
        // A llama-server here loads nothing else, so this machine is a site beside it.
        told.kind = Some(NodeKind::LlamaServer);
        assert_eq!(sites(vec![told], Some(&[gpu(0, "x", 8)]), &none).len(), 2);
        let mut without = node("without", "http://far:1");
        without.vram_bytes = Some(0);
        assert_eq!(sites(vec![without], None, &none)[0].1, Knowledge::NoGpu);
    }
}
