//! Why no node can take a request.

use super::Candidate;
use crate::cluster::{ClusterSnapshot, Node, NodeState};

/// Why no node can take a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The client named no model.
    NoModel,
    /// No node has the model.
    UnknownModel {
        /// As the client wrote it.
        model: String,
        /// The nearest name that some node has.
        nearest: Option<String>,
    },
    /// The prompt is longer than the model's window on every node that could take it.
    TooLong {
        /// Estimated tokens of the prompt.
        tokens: u64,
        /// Tokens of the largest window.
        limit: u64,
    },
    /// A node that has the model is still loading it.
    Loading {
        /// What was tried and why not, as a sentence.
        detail: String,
    },
    /// Every node that has the model, or every node, is down.
    NoNode {
        /// What was tried and why not, as a sentence.
        detail: String,
    },
}

/// Why nothing was admitted.
pub(super) fn refusal(requested: &str, snapshot: &ClusterSnapshot, lost: &[Candidate]) -> Refusal {
    let having: Vec<&Candidate> = lost
        .iter()
        .filter(|candidate| {
            candidate.reason != "model_missing"
                && snapshot
                    .node(&candidate.node)
                    .is_some_and(|node| node.models.iter().any(|model| model.id == candidate.model))
        })
        .collect();
    let causes = |nodes: Vec<&Node>| {
        nodes
            .iter()
            .map(|node| {
                let cause = node.cause.as_deref().unwrap_or("no cause known");
                format!(
                    "node `{}` at {} is {}: {cause}",
                    node.name,
                    node.url,
                    node.state.as_str()
                )
            })
            .collect::<Vec<_>>()
            .join("; ")
    };
    if !having.is_empty() {
        let nodes: Vec<&Node> = having
            .iter()
            .filter_map(|candidate| snapshot.node(&candidate.node))
            .map(AsRef::as_ref)
            .collect();
        let loading = nodes.iter().any(|node| node.state == NodeState::Loading);
        let detail = format!(
            "no node that has `{requested}` can answer: {}",
            causes(nodes)
        );
        return if loading {
            Refusal::Loading { detail }
        } else {
            Refusal::NoNode { detail }
        };
    }
    if snapshot.usable().next().is_none() {
        let detail = if snapshot.nodes.is_empty() {
            "no node is configured and none was found on this machine".to_owned()
        } else {
            format!(
                "no node answers: {}",
                causes(snapshot.nodes.iter().map(AsRef::as_ref).collect())
            )
        };
        let loading = snapshot
            .nodes
            .iter()
            .any(|node| node.state == NodeState::Loading);
        return if loading {
            Refusal::Loading { detail }
        } else {
            Refusal::NoNode { detail }
        };
    }
    let nearest = snapshot
        .usable()
        .flat_map(|node| &node.models)
        .map(|model| {
            (
                strsim::jaro_winkler(&model.id.to_lowercase(), &requested.to_lowercase()),
                &model.id,
            )
        })
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, id)| id.clone());
    Refusal::UnknownModel {
        model: requested.to_owned(),
        nearest,
    }
}
