//! Which model a request is for: the one it names, or the one of its class.

use super::{Complexity, Policy, Refusal, RequestFacts, Task, classify, shape_ask, tier_of};
use crate::cluster::{ClusterSnapshot, ModelName, Role};

/// A model that would do, and where it should run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Target {
    pub(super) model: ModelName,
    pub(super) prefer: Option<String>,
    /// Short code of the task when the class chose it, not the client: `simple_task`.
    pub(super) task: Option<String>,
    /// What a reader of the reason should know besides.
    pub(super) note: Option<String>,
    /// Whether it is configured for the request's class or a larger one: what is loaded of these may answer before another is loaded.
    pub(super) good_enough: bool,
}

/// The models that would do, best first.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Wanted {
    /// As the client wrote it.
    pub(super) requested: String,
    pub(super) complexity: Option<Complexity>,
    pub(super) tier: String,
    pub(super) targets: Vec<Target>,
}

/// The models that would do for a request, best first.
pub(super) fn targets(
    facts: &RequestFacts,
    snapshot: &ClusterSnapshot,
    policy: &Policy,
) -> Result<Wanted, Refusal> {
    let requested = facts
        .model
        .as_deref()
        .filter(|model| !model.trim().is_empty());
    if !policy.routes_by_class(requested) {
        let requested = requested.ok_or(Refusal::NoModel)?.to_owned();
        let (model, note) = match policy.alias(&requested) {
            Some(real) => (real, Some(format!("alias of `{requested}`"))),
            None => (requested.as_str(), None),
        };
        let target = Target {
            prefer: helper(facts, snapshot, &ModelName::new(model)),
            model: ModelName::new(model),
            task: None,
            note,
            good_enough: false,
        };
        return Ok(Wanted {
            requested,
            complexity: None,
            tier: "explicit".to_owned(),
            targets: vec![target],
        });
    }
    let requested = requested.unwrap_or("auto").to_owned();
    if facts.task == Task::Embed {
        let targets = any_model(facts, snapshot, None, "first embedding model found");
        return Ok(Wanted {
            requested,
            complexity: None,
            tier: "explicit".to_owned(),
            targets,
        });
    }
    let classification = classify(&shape_ask(&facts.turns));
    let choice = tier_of(policy, &classification, facts.prompt_tokens);
    let mut targets = Vec::new();
    if let Some(model) = &choice.model {
        targets.push(Target {
            model: ModelName::new(model),
            prefer: choice.prefer.clone(),
            task: Some(choice.task.clone()),
            note: None,
            good_enough: false,
        });
    }
    // What stands in when no node can run the class's own model: larger classes first, because a larger model also answers.
    let larger_first = [
        (Complexity::Complex, &policy.complex),
        (Complexity::Moderate, &policy.moderate),
        (Complexity::Simple, &policy.simple),
    ];
    // A further tier was chosen for what no class's model is meant for.
    let of_class = choice.name == classification.complexity.tier();
    for (complexity, class) in larger_first {
        let Some(class) = class else { continue };
        let note = format!("stands in for the model of tier {}", choice.name);
        targets.push(Target {
            model: ModelName::new(&class.model),
            prefer: class.prefer.clone(),
            task: Some(choice.task.clone()),
            note: Some(note),
            good_enough: of_class && complexity >= classification.complexity,
        });
    }
    targets.extend(any_model(
        facts,
        snapshot,
        Some(&choice.task),
        "no usable node has a model configured for a class",
    ));
    Ok(Wanted {
        requested,
        complexity: Some(classification.complexity),
        tier: choice.name,
        targets,
    })
}

/// The helper node that has the model, for housekeeping.
fn helper(facts: &RequestFacts, snapshot: &ClusterSnapshot, model: &ModelName) -> Option<String> {
    if !facts.housekeeping {
        return None;
    }
    snapshot
        .usable()
        .find(|node| node.role == Role::Helper && node.model(model).is_some())
        .map(|node| node.name.clone())
}

/// Every model that can do the task: those in memory first, then by configuration order.
fn any_model(
    facts: &RequestFacts,
    snapshot: &ClusterSnapshot,
    task: Option<&str>,
    note: &str,
) -> Vec<Target> {
    let embeds = facts.task == Task::Embed;
    let mut models: Vec<(bool, ModelName)> = Vec::new();
    for node in snapshot.usable() {
        for model in &node.models {
            let fits = if embeds {
                model.embeds_only()
            } else {
                !model.embeds_only()
            };
            if fits && !models.iter().any(|(_, name)| *name == model.name) {
                models.push((node.resident(model).is_none(), model.name.clone()));
            }
        }
    }
    models.sort_by_key(|(cold, _)| *cold);
    models
        .into_iter()
        .map(|(_, model)| Target {
            model,
            prefer: None,
            task: task.map(str::to_owned),
            note: Some(note.to_owned()),
            good_enough: false,
        })
        .collect()
}
