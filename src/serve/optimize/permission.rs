//! Each step of a plan goes through the scheduler of its node, so that the plan and the requests never load at the same time, and no model goes
//! that has got requests since the plan was made.
//!
//! Whoever waits for memory that is promised to another load holds a scheduler, and nobody waits for a scheduler with a promise in hand that he
//! will not give back by himself: so these waits end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::super::gate::{Claim, ClaimedLoad};
use super::super::{Reservation, Router, lock};
use crate::backend::LONGEST_LOAD;
use crate::cluster::{Action, Change, ClusterSnapshot};
use crate::keeper::{Done, Permits, Planned};

/// Claims by node, while a plan is carried out.
pub(super) struct Permission<'r> {
    router: &'r Router,
    snapshot: &'r ClusterSnapshot,
    planned: &'r Planned,
    held: Mutex<HashMap<String, Held>>,
}

/// A node whose scheduler waits.
struct Held {
    claim: Arc<Claim>,
    load: Option<ClaimedLoad>,
    /// The memory of what is loaded there.
    promise: Option<Reservation>,
}

impl<'r> Permission<'r> {
    /// Nothing is claimed yet.
    pub(super) fn of(
        router: &'r Router,
        snapshot: &'r ClusterSnapshot,
        planned: &'r Planned,
    ) -> Self {
        Self {
            router,
            snapshot,
            planned,
            held: Mutex::default(),
        }
    }

    /// The claim on a node, which is waited for, and on the memory that the plan's loads take there. Memory that was promised to somebody else
    /// since the plan was made is not waited for.
    fn claim(&self, node: &str) -> Result<Arc<Claim>, String> {
        if let Some(held) = lock(&self.held).get(node) {
            return Ok(Arc::clone(&held.claim));
        }
        let known = self.snapshot.node(node);
        let known = known.ok_or_else(|| "the node is no longer known".to_owned())?;
        let limit = self.router.config.timeouts.load;
        let gate = self.router.gates.gate(known);
        let stopped = || self.router.optimizer.stopped();
        let claim = gate.claim(limit.unwrap_or(LONGEST_LOAD), stopped);
        let claim = claim.ok_or_else(|| "another load is under way there".to_owned())?;
        let wanted = self.planned.claims(node);
        let promise = (!wanted.is_empty()).then(|| self.router.reservations.claim(&wanted));
        let promise = promise
            .transpose()
            .map_err(|_| "its memory is promised to another load".to_owned())?;
        let claim = Arc::new(claim);
        let held = Held {
            claim: Arc::clone(&claim),
            load: None,
            promise,
        };
        lock(&self.held).insert(node.to_owned(), held);
        Ok(claim)
    }
}

impl Permits for Permission<'_> {
    fn begin(&self, change: &Change) -> Result<Option<u64>, String> {
        let claim = self.claim(&change.node)?;
        match change.action {
            Action::Unload => {
                claim.take_out(&change.model)?;
                Ok(None)
            }
            // A copy that is there keeps its context: requests may be at work on it.
            Action::Pin => Ok(claim.context(&change.model).or(change.context)),
            Action::Load => {
                let load = claim.put_in(&change.model, change.context);
                let context = match load {
                    Some(_) => change.context,
                    None => claim.context(&change.model).or(change.context),
                };
                if let Some(held) = lock(&self.held).get_mut(&change.node) {
                    held.load = load;
                }
                Ok(context)
            }
        }
    }

    fn end(&self, change: &Change, done: &Done) {
        let ended = lock(&self.held)
            .get_mut(&change.node)
            .and_then(|held| Some((Arc::clone(&held.claim), held.load.take()?)));
        if let Some((claim, load)) = ended {
            claim.loaded(load, done.landed.as_ref(), done.error.as_deref());
            if done.ok() {
                let place = (change.node.clone(), change.model.clone());
                let took = Duration::from_millis(done.took_ms);
                self.router.measurements.loaded(&place, took);
            }
        }
    }

    fn rest(&self, node: &str) {
        let held = lock(&self.held).remove(node);
        let Some(Held { claim, promise, .. }) = held else {
            return;
        };
        drop(claim);
        if let Some(promise) = promise {
            self.router.poke(node);
            // From then on the node itself tells what it holds.
            self.router.seen_anew(&[node], self.snapshot);
            drop(promise);
        }
    }
}
