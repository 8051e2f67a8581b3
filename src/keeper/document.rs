//! `optimize --json`, which a running router answers too.

use serde::Serialize;

use super::{Done, Planned};
use crate::cluster::{Action, Change, Impossible, ModelName, NodeReport, Resident};

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failed {
    /// What was to be done.
    pub action: Action,
    /// At which node.
    pub node: String,
    /// With which model.
    pub model: ModelName,
    /// Why it was not.
    pub error: String,
}

/// A plan, or what came of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Document {
    /// Version of this form.
    pub schema: u32,
    /// Who looked: `router` or `probe`.
    pub source: &'static str,
    /// What is to be done, or was done.
    pub changes: Vec<Change>,
    /// Where the wanted models are now.
    pub resident: Vec<Resident>,
    /// Wanted models that stay where they are, or out of memory.
    pub impossible: Vec<Impossible>,
    /// Whether the changes were made.
    pub applied: bool,
    /// Changes that were tried and not made.
    pub failed: Vec<Failed>,
    /// The nodes' memory now.
    pub nodes: Vec<NodeReport>,
}

impl Document {
    /// A plan that nobody has carried out.
    pub fn planned(source: &'static str, planned: Planned) -> Self {
        Self {
            schema: 1,
            source,
            changes: planned.plan.changes,
            resident: planned.plan.resident,
            impossible: planned.plan.impossible,
            applied: false,
            failed: Vec::new(),
            nodes: planned.nodes,
        }
    }

    /// What there is to say when there is nothing to do.
    pub fn settled(source: &'static str, planned: Planned) -> Self {
        Self {
            applied: true,
            ..Self::planned(source, planned)
        }
    }

    /// What came of a plan; `now`: the plan for what is there afterwards.
    pub fn applied(source: &'static str, before: Planned, done: &[Done], now: Planned) -> Self {
        let failed = before.plan.changes.iter().zip(done);
        let failed = failed.filter_map(|(change, done)| {
            Some(Failed {
                action: change.action,
                node: change.node.clone(),
                model: change.model.clone(),
                error: done.error.clone()?,
            })
        });
        Self {
            schema: 1,
            source,
            failed: failed.collect(),
            changes: before.plan.changes,
            resident: now.plan.resident,
            impossible: before.plan.impossible,
            applied: true,
            nodes: now.nodes,
        }
    }
}
