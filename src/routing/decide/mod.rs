//! The decision: which node answers a request, which ones stand by, and why each of the others lost.

mod predict;
mod rank;
mod refusal;

pub use predict::Predicted;
pub use refusal::Refusal;

use std::sync::Arc;

use serde::Serialize;

use predict::predict;
use rank::{Entry, Trouble, rank};
use refusal::refusal;

use super::queue::Forecast;
use super::target::{Target, targets};
use super::{Complexity, Copies, Policy, RequestFacts, Speed, Speeds, Task};
use crate::cluster::{Capability, ClusterSnapshot, Model, ModelName, Node, NodeState};

/// What becomes of the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "kebab-case")]
pub enum Plan {
    /// Sent as it is.
    #[default]
    Direct,
}

impl Plan {
    /// The word used in headers and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
        }
    }
}

/// One node considered for a request.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidate {
    /// Node name.
    pub node: String,
    /// The model as that node calls it: what is sent to it.
    pub model: String,
    /// Whether the request may go there.
    pub admitted: bool,
    /// Predicted milliseconds by phase.
    pub predicted: Predicted,
    /// Why it won or lost, as a short code.
    pub reason: &'static str,
    /// Whether the model is in the node's memory.
    #[serde(skip)]
    pub resident: bool,
    /// Whether it would have to be loaded at the cost of others, as far as its node's scheduler tells: something has to go for it or to be done
    /// first, or a part of it would not be on the GPU.
    #[serde(skip)]
    pub costs_others: bool,
}

/// Where a request goes, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Class of the request, when it was classified.
    pub complexity: Option<Complexity>,
    /// Tier in lower case; `explicit` for a model that the client named.
    pub tier: String,
    /// What becomes of the context.
    pub plan: Plan,
    /// Admitted candidates first, best first: the first is the winner, the further admitted ones are its fall-backs in order.
    pub candidates: Vec<Candidate>,
    /// Short code.
    pub reason: String,
    /// The reason as a sentence.
    pub detail: String,
    /// The class's own model where it would have had to be loaded first, and the winner answers in its place because it is loaded.
    pub spared: Option<Candidate>,
}

impl Decision {
    /// The node that answers; there always is one.
    pub fn winner(&self) -> Option<&Candidate> {
        self.candidates.first()
    }

    /// The winner and its fall-backs.
    pub fn admitted(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates
            .iter()
            .filter(|candidate| candidate.admitted)
    }
}

/// What this router has sent to a node and not got back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NodeLoad {
    /// Requests being answered.
    pub active: u32,
    /// Requests waiting here for a slot.
    pub queued: u32,
    /// Requests the node may have at once; `None` while unknown.
    pub slots: Option<u32>,
    /// What the node's scheduler expects for this very request; `None` where no scheduler was asked.
    pub forecast: Option<Forecast>,
    /// Tokens of this request's prompt that the node is likely to have in its cache.
    pub cached_tokens: u64,
}

impl NodeLoad {
    /// Whether a request sent now would have to wait; unknown slots never do.
    fn full(self) -> bool {
        match self.forecast {
            Some(forecast) => forecast.wait_ms != Some(0),
            None => self
                .slots
                .is_some_and(|slots| self.active + self.queued >= slots),
        }
    }
}

/// Decides where a request goes. `load` is parallel to the snapshot's nodes; a missing entry counts as idle.
///
/// See [`decide_by`], which also tells one model on a node from another.
pub fn decide(
    facts: &RequestFacts,
    snapshot: &ClusterSnapshot,
    load: &[NodeLoad],
    speeds: &Speeds,
    policy: &Policy,
) -> Result<Decision, Refusal> {
    let of_node = |order: usize, _: &Arc<Node>, _: &Model| {
        let known = load.get(order);
        known.copied().unwrap_or_default()
    };
    decide_by(facts, snapshot, &of_node, speeds, policy)
}

/// What sending the request to a model on a node would mean, with the node's position in the snapshot.
pub type LoadOf<'a> = &'a dyn Fn(usize, &Arc<Node>, &Model) -> NodeLoad;

/// Decides where a request goes, with the load of each model on each node.
///
/// Among the nodes that have the model by full name or digest the one with the fewest predicted milliseconds wins. Where a speed was
/// never measured there is no prediction, and nodes are ordered by resident, then free slots, then configuration order.
///
/// Of the models that a class's request may get, one that is loaded and idle wins over the class's own that would have to be loaded first, if it
/// is configured for that class or a larger one and is sooner by what was measured; where that is not known, if the load would cost others
/// something.
pub fn decide_by(
    facts: &RequestFacts,
    snapshot: &ClusterSnapshot,
    load: LoadOf<'_>,
    speeds: &Speeds,
    policy: &Policy,
) -> Result<Decision, Refusal> {
    let wanted = targets(facts, snapshot, policy)?;
    let mut admitted: Vec<Candidate> = Vec::new();
    let mut lost: Vec<Candidate> = Vec::new();
    let mut chosen: Option<&Target> = None;
    let mut stand_in: Option<(usize, &Target)> = None;
    let mut largest_window: Option<u64> = None;
    for target in &wanted.targets {
        let Considered {
            admitted: mut group,
            lost: out,
            window,
        } = consider(target, facts, snapshot, load, speeds, policy.copies);
        largest_window = largest_window.max(window);
        group.retain(|new| {
            !admitted
                .iter()
                .any(|old| old.node == new.node && old.model == new.model)
        });
        let of_class = target.task.is_some();
        if !group.is_empty() && chosen.is_none() {
            chosen = Some(target);
            // The same model loaded elsewhere comes before another one.
            let loaded = group.first().and_then(|own| {
                let mut others = group.iter().skip(1);
                others.position(|other| of_class && spares(own, other))
            });
            stand_in = loaded.map(|at| (at + 1, target));
        } else if target.good_enough && stand_in.is_none() {
            let best = admitted.first().zip(group.first());
            stand_in = best
                .is_some_and(|(own, other)| spares(own, other))
                .then_some((admitted.len(), target));
        }
        admitted.extend(group);
        for candidate in out {
            let known =
                |old: &Candidate| old.node == candidate.node && old.model == candidate.model;
            if !admitted.iter().any(known) && !lost.iter().any(known) {
                lost.push(candidate);
            }
        }
    }
    let mut spared = None;
    if let Some((at, target)) = stand_in {
        spared = admitted.first().cloned();
        if let Some(own) = admitted.first_mut() {
            own.reason = "not_loaded";
        }
        let winner = admitted.remove(at);
        admitted.insert(0, winner);
        chosen = Some(target);
    }
    let (Some(target), Some(winner)) = (chosen, admitted.first()) else {
        return Err(match largest_window {
            Some(limit) => Refusal::TooLong {
                tokens: facts.prompt_tokens,
                limit,
            },
            None => refusal(&wanted.requested, snapshot, &lost),
        });
    };
    // Those that come last for a reason of their own may have been sooner.
    let set_back =
        |candidate: &&Candidate| matches!(candidate.reason, "suspect" | "on_cpu" | "further_copy");
    let compared = admitted.len() - admitted.iter().filter(set_back).count();
    let (reason, mut detail) = explain(winner, target, compared);
    if let Some(own) = &spared {
        let (other, node) = (&winner.model, &winner.node);
        detail = format!(
            "`{other}` on {node}: it is loaded, and `{}` on {} would have to be loaded first",
            own.model, own.node
        );
    }
    admitted.extend(lost);
    Ok(Decision {
        complexity: wanted.complexity,
        tier: wanted.tier,
        plan: Plan::Direct,
        candidates: admitted,
        reason,
        detail,
        spared,
    })
}

/// Whether a model that is loaded answers in place of one that is not.
fn spares(own: &Candidate, other: &Candidate) -> bool {
    let sound = !matches!(other.reason, "suspect" | "on_cpu" | "partly_on_cpu");
    let times = own.predicted.total_ms().zip(other.predicted.total_ms());
    // Where nobody knows what would be sooner, what was configured counts for more than a load that costs nobody anything.
    let sooner = times.map_or(own.costs_others, |(own, other)| other < own);
    !own.resident && other.resident && other.predicted.wait_ms == Some(0) && sound && sooner
}

/// Every node's answer to one target: those that may take the request, best first, and those that may not.
fn consider(
    target: &Target,
    facts: &RequestFacts,
    snapshot: &ClusterSnapshot,
    load: LoadOf<'_>,
    speeds: &Speeds,
    copies: Copies,
) -> Considered {
    let digests = digests_of(&target.model, snapshot);
    let mut entries = Vec::new();
    let mut lost = Vec::new();
    let usual = usual_answer(snapshot, speeds, |node| find(node, &target.model, &digests));
    for (order, node) in snapshot.nodes.iter().enumerate() {
        let Some(model) = find(node, &target.model, &digests) else {
            lost.push(losing(
                node,
                target.model.as_str(),
                node_trouble(node).unwrap_or("model_missing"),
            ));
            continue;
        };
        if let Some(reason) = node_trouble(node) {
            lost.push(losing(node, &model.id, reason));
            continue;
        }
        let load = load(order, node, model);
        let speed = Speed {
            completion_tokens: usual,
            ..speeds.get(&node.name, &model.name)
        };
        let resident = load
            .forecast
            .map_or_else(|| node.resident(model).is_some(), |f| !f.needs_load);
        entries.push(Entry {
            candidate: Candidate {
                node: node.name.clone(),
                model: model.id.clone(),
                admitted: true,
                predicted: predict(facts, resident, load, &speed),
                reason: "candidate",
                resident,
                costs_others: load.forecast.is_some_and(|forecast| {
                    let waits = forecast.wait_ms != Some(0);
                    forecast.needs_load && (forecast.evicts_ms > 0 || forecast.splits || waits)
                }),
            },
            capable: capable(model, facts),
            too_small: model.context.filter(|window| surely_longer(facts, *window)),
            preferred: target.prefer.as_deref() == Some(node.name.as_str()),
            full: load.full() || node.state == NodeState::Busy,
            load,
            trouble: Trouble::of(
                speeds.suspect.contains(&node.name),
                speed.fallen.filter(|_| resident),
            ),
            order,
            measured_load_ms: load
                .forecast
                .and_then(|forecast| forecast.load_ms)
                .or_else(|| speed.load_ms.and_then(predict::whole)),
        });
    }
    // A node that says that it lacks a capability loses to one that has it; where none has it, the node's own error is the answer.
    if entries.iter().any(|entry| entry.capable) {
        let (able, unable): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.capable);
        lost.extend(unable.into_iter().map(|entry| Candidate {
            admitted: false,
            reason: "lacks_capability",
            ..entry.candidate
        }));
        entries = able;
    }
    let (small, entries): (Vec<_>, Vec<_>) = entries
        .into_iter()
        .partition(|entry| entry.too_small.is_some());
    let window = if entries.is_empty() {
        small.iter().filter_map(|entry| entry.too_small).max()
    } else {
        None
    };
    lost.extend(small.into_iter().map(|entry| Candidate {
        admitted: false,
        reason: "context_too_small",
        ..entry.candidate
    }));
    Considered {
        admitted: rank(entries, copies),
        lost,
        window,
    }
}

/// Tokens of a usual answer of a model, whichever node wrote it, so that a node does not seem slow that happened to write the long ones:
/// the mean over the nodes by what they answered, none counting more than [`MOST_ANSWERS`] times.
fn usual_answer<'a>(
    snapshot: &'a ClusterSnapshot,
    speeds: &Speeds,
    find: impl Fn(&'a Node) -> Option<&'a Model>,
) -> Option<f64> {
    let (mut tokens, mut answers) = (0.0, 0.0);
    for node in &snapshot.nodes {
        let Some(model) = find(node) else { continue };
        let speed = speeds.get(&node.name, &model.name);
        if let Some(usual) = speed.completion_tokens {
            let weight = f64::from(
                u16::try_from(speed.samples)
                    .unwrap_or(MOST_ANSWERS)
                    .clamp(1, MOST_ANSWERS),
            );
            tokens += usual * weight;
            answers += weight;
        }
    }
    (answers > 0.0).then(|| tokens / answers)
}

/// Answers of a node that count in [`usual_answer`].
const MOST_ANSWERS: u16 = 100;

/// What became of one target.
struct Considered {
    /// Best first.
    admitted: Vec<Candidate>,
    lost: Vec<Candidate>,
    /// The largest window, when the prompt is longer than every one.
    window: Option<u64>,
}

/// Whether the prompt is longer than a window even if the estimate is 60 % too high. The highest errors together come to 55 %: 25 % of a
/// text (bound of `tests/classify.rs`), 8 % added for an unknown tokenizer, 15 % from sampling a long body (bound in `dialect`'s
/// tests). A refusal of a prompt that fits would be worse than leaving the judgement to the node. Embeddings are cut by the servers on
/// purpose.
fn surely_longer(facts: &RequestFacts, window: u64) -> bool {
    facts.task == Task::Complete && facts.prompt_tokens / 8 * 5 > window
}

fn losing(node: &Node, model: &str, reason: &'static str) -> Candidate {
    Candidate {
        node: node.name.clone(),
        model: model.to_owned(),
        admitted: false,
        predicted: Predicted::default(),
        reason,
        resident: false,
        costs_others: false,
    }
}

fn node_trouble(node: &Node) -> Option<&'static str> {
    match node.state {
        NodeState::Up | NodeState::Busy => None,
        NodeState::Loading => Some("loading"),
        NodeState::Down => Some("down"),
        NodeState::Misconfigured => Some("misconfigured"),
    }
}

/// Digests that the name stands for on any node.
fn digests_of<'a>(name: &ModelName, snapshot: &'a ClusterSnapshot) -> Vec<&'a str> {
    snapshot
        .nodes
        .iter()
        .filter_map(|node| node.model(name))
        .filter_map(|model| model.digest.as_deref())
        .collect()
}

/// The model on a node: by full name, else by the digest that the name has elsewhere.
fn find<'a>(node: &'a Node, name: &ModelName, digests: &[&str]) -> Option<&'a Model> {
    node.model(name).or_else(|| {
        node.models.iter().find(|model| {
            model
                .digest
                .as_deref()
                .is_some_and(|digest| digests.contains(&digest))
        })
    })
}

/// Whether the model can do what is asked, as far as the node tells; a node that tells nothing is taken at its word.
fn capable(model: &Model, facts: &RequestFacts) -> bool {
    let has =
        |capability| model.capabilities.is_empty() || model.capabilities.contains(&capability);
    match facts.task {
        Task::Embed => has(Capability::Embedding),
        Task::Complete => {
            has(Capability::Completion)
                && (!facts.images || has(Capability::Vision))
                && (!facts.tools || has(Capability::Tools))
        }
    }
}

/// Short code and sentence of the winner.
fn explain(winner: &Candidate, target: &Target, admitted: usize) -> (String, String) {
    let node = &winner.node;
    let why = match winner.reason {
        "only_candidate" => "it is the only usable node that has the model".to_owned(),
        "preferred" => "the configuration prefers it for this tier".to_owned(),
        "soonest" => match winner.predicted.total_ms() {
            Some(ms) => format!("its predicted time of {ms} ms is the shortest of {admitted}"),
            None => "its predicted time is the shortest".to_owned(),
        },
        "resident" => "the model is loaded there and no measured speed says otherwise".to_owned(),
        _ => "it has the fewest requests and no measured speed says otherwise".to_owned(),
    };
    let code = if let Some(task) = &target.task {
        format!("{task}_to_{node}")
    } else {
        match winner.reason {
            "only_candidate" => "only_candidate".to_owned(),
            other => format!("{other}_on_{node}"),
        }
    };
    let addition = target
        .note
        .as_deref()
        .map(|note| format!(" ({note})"))
        .unwrap_or_default();
    (
        code,
        format!("`{}` on {node}: {why}{addition}", winner.model),
    )
}

#[cfg(test)]
mod tests;
