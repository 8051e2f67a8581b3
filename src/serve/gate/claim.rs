//! What `optimize` does with a node's models goes through the node's scheduler: one load at a time, and never under a request's feet.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Gate, LOOK, LoadError};
use crate::cluster::{LoadedModel, ModelName};

/// The right to change what a node holds, given back on drop. Requests for what is in memory flow meanwhile; no load begins for them.
#[derive(Debug)]
pub(in crate::serve) struct Claim {
    gate: Arc<Gate>,
}

/// A load of the claimant's that is under way.
#[derive(Debug, Clone, Copy)]
pub(in crate::serve) struct ClaimedLoad {
    number: u64,
    began: Instant,
}

impl Gate {
    /// Whether requests are at work on a model, wait for it, or have it loaded.
    pub(in crate::serve) fn at_work(&self, model: &ModelName) -> bool {
        self.state().at_work(model)
    }

    /// Waits until nothing is being loaded; `None` when that took too long, or when it is stopped.
    pub(in crate::serve) fn claim(
        self: &Arc<Self>,
        limit: Duration,
        stopped: impl Fn() -> bool,
    ) -> Option<Claim> {
        let until = Instant::now() + limit;
        let mut granted = self.state().claim();
        let claim = Claim {
            gate: Arc::clone(self),
        };
        while !granted {
            if Instant::now() >= until || stopped() {
                return None;
            }
            std::thread::sleep(LOOK);
            granted = self.state().claim();
        }
        Some(claim)
    }

    /// Whether a load is still waited for.
    pub(super) fn awaits(&self, number: u64) -> bool {
        self.state().awaits(number)
    }
}

impl Claim {
    /// From now on nothing starts on the model, which is about to be unloaded.
    pub(in crate::serve) fn take_out(&self, model: &ModelName) -> Result<(), String> {
        self.gate.change(|state, now| state.take_out(now, model))
    }

    /// The context that a copy of the model has which is in memory.
    pub(in crate::serve) fn context(&self, model: &ModelName) -> Option<u64> {
        self.gate.state().context(model)
    }

    /// The model is about to be loaded; `None` where the scheduler has it in memory already.
    pub(in crate::serve) fn put_in(
        &self,
        model: &ModelName,
        context: Option<u64>,
    ) -> Option<ClaimedLoad> {
        let began = Instant::now();
        let number = self
            .gate
            .change(|state, now| state.put_in(now, model, context))?;
        Some(ClaimedLoad { number, began })
    }

    /// What came of it.
    pub(in crate::serve) fn loaded(
        &self,
        load: ClaimedLoad,
        landed: Option<&LoadedModel>,
        error: Option<&str>,
    ) {
        let took = super::millis(load.began.elapsed());
        self.gate.change(|state, now| match (landed, error) {
            (None, Some(error)) => {
                let error = LoadError {
                    text: error.to_owned(),
                    status: None,
                    code: "load_failed",
                    timed_out: false,
                };
                state.load_failed(load.number, error, false);
            }
            // One that is in memory although it is not where it was to be counts as loaded.
            (landed, _) => state.put_in_done(now, load.number, landed, took),
        });
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.gate.change(|state, _| state.give_back());
    }
}
