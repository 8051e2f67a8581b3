//! One question with the estimates that its sites share.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::Question;
use crate::cluster::{Demand, Layers, Need, Placement, Room, Rules, place, place_on_gpus};
use crate::vram::{Estimate, Offload, Settings, Subject, estimate_with};

/// Context, devices (none or one), layers on GPUs, layers with experts in RAM.
type Key = (u64, usize, Option<u32>, u32);

/// A question that is being answered. What a model takes on one device is the same at every site, and is worked out once.
pub(super) struct Case<'a> {
    pub(super) question: &'a Question<'a>,
    kept: RefCell<BTreeMap<Key, Estimate>>,
}

impl<'a> Case<'a> {
    pub(super) fn new(question: &'a Question<'a>) -> Self {
        Self {
            question,
            kept: RefCell::new(BTreeMap::new()),
        }
    }

    /// All of it on one device that is large enough.
    pub(super) fn whole(&self) -> Estimate {
        self.estimate(self.question.settings, &Offload::single())
    }

    /// The question's settings, another context aside.
    fn estimate(&self, settings: &Settings, offload: &Offload) -> Estimate {
        let subject = self.question.subject;
        if offload.split.len() > 1 {
            return estimate_with(subject, settings, offload, self.question.extras);
        }
        let key = (
            settings.ctx,
            offload.split.len(),
            offload.gpu_layers,
            offload.cpu_experts,
        );
        if let Some(kept) = self.kept.borrow().get(&key) {
            return kept.clone();
        }
        let fresh = estimate_with(subject, settings, offload, self.question.extras);
        self.kept.borrow_mut().insert(key, fresh.clone());
        fresh
    }

    /// Where it goes.
    pub(super) fn place(&self, rooms: &[Room], rules: Rules) -> Placement {
        let settings = self.question.settings;
        let by_parts = |offload: &Offload| self.estimate(settings, offload);
        place(&self.demand(settings, &by_parts), rooms, rules)
    }

    /// Whether all of it goes on GPUs with a context of so many tokens.
    pub(super) fn goes(&self, ctx: u64, rooms: &[Room]) -> bool {
        let settings = Settings {
            ctx,
            ..*self.question.settings
        };
        let by_parts = |offload: &Offload| self.estimate(&settings, offload);
        let demand = self.demand(&settings, &by_parts);
        place_on_gpus(&demand, rooms, self.question.strategy).is_some()
    }

    fn demand<'b>(
        &self,
        settings: &Settings,
        by_parts: &'b dyn Fn(&Offload) -> Estimate,
    ) -> Demand<'b> {
        demand(
            self.question.subject,
            settings,
            self.question.policy.headroom_factor,
            by_parts,
        )
    }

    /// Whether all of another subject, or of this one under other settings, goes on GPUs.
    pub(super) fn goes_as(&self, subject: &Subject, settings: &Settings, rooms: &[Room]) -> bool {
        let extras = self.question.extras;
        let by_parts = |offload: &Offload| estimate_with(subject, settings, offload, extras);
        let headroom = self.question.policy.headroom_factor;
        let demand = demand(subject, settings, headroom, &by_parts);
        place_on_gpus(&demand, rooms, self.question.strategy).is_some()
    }
}

fn demand<'b>(
    subject: &Subject,
    settings: &Settings,
    headroom: f64,
    by_parts: &'b dyn Fn(&Offload) -> Estimate,
) -> Demand<'b> {
    let all = subject.gpu_layers();
    let need = match subject {
        Subject::Sized { bytes } => Need::Bytes(*bytes),
        Subject::Shaped(_) => Need::Layers(Layers {
            estimate: by_parts,
            gpu_layers: settings.gpu_layers.map_or(all, |wanted| wanted.min(all)),
            expert_layers: subject.expert_layers(),
        }),
    };
    Demand { need, headroom }
}
