//! The order of the nodes that could take a request.

use super::{Candidate, NodeLoad};
use crate::cluster::Processor;

/// A node with the model, before ranking.
pub(super) struct Entry {
    pub(super) candidate: Candidate,
    pub(super) capable: bool,
    /// The window, when the prompt is surely longer than it.
    pub(super) too_small: Option<u64>,
    pub(super) preferred: bool,
    pub(super) full: bool,
    pub(super) load: NodeLoad,
    /// The node owes an answer for far longer than it takes.
    pub(super) suspect: bool,
    /// What the model runs on there, where it should run on a GPU and does not.
    pub(super) fallen: Option<Processor>,
    pub(super) order: usize,
}

impl Entry {
    fn on_cpu(&self) -> bool {
        self.fallen == Some(Processor::Cpu)
    }

    /// What makes it worse than one that is in order, the worst first.
    fn trouble(&self) -> Option<&'static str> {
        if self.suspect {
            Some("suspect")
        } else if self.on_cpu() {
            Some("on_cpu")
        } else if self.fallen.is_some() {
            Some("partly_on_cpu")
        } else {
            None
        }
    }
}

/// Orders the candidates and gives each the reason for its place.
pub(super) fn rank(mut entries: Vec<Entry>) -> Vec<Candidate> {
    let some_free = entries.iter().any(|entry| !entry.full);
    let all_predicted = entries
        .iter()
        .all(|entry| entry.candidate.predicted.total_ms().is_some());
    entries.sort_by_key(|entry| {
        let yields = !entry.preferred || (entry.full && some_free);
        // What it costs others counts like its own time, without being part of it.
        let evicts = entry.load.forecast.map_or(0, |forecast| forecast.evicts_ms);
        let predicted = if all_predicted {
            let total = entry.candidate.predicted.total_ms();
            total.map(|ms| ms.saturating_add(evicts))
        } else {
            None
        };
        let free = entry.load.slots.map_or(0, |slots| {
            slots.saturating_sub(entry.load.active + entry.load.queued)
        });
        let busyness = (
            entry.full,
            entry.load.active + entry.load.queued,
            std::cmp::Reverse(free),
        );
        // A full queue is tried last: it may have room by then.
        let possible = entry.load.forecast.is_none_or(|forecast| forecast.possible);
        (
            !possible,
            entry.suspect,
            entry.on_cpu(),
            yields,
            predicted,
            entry.fallen.is_some(),
            !entry.candidate.resident,
            busyness,
            entry.order,
        )
    });
    let alone = entries.len() == 1;
    let mut ranked: Vec<Candidate> = Vec::with_capacity(entries.len());
    let mut best: Option<(bool, bool, u32)> = None;
    let winner_trouble = entries.first().and_then(Entry::trouble);
    for entry in entries {
        // A part on the CPU only counts where no time is predicted.
        let partly = |trouble: &&str| *trouble == "partly_on_cpu";
        let trouble = entry
            .trouble()
            .filter(|trouble| winner_trouble.is_none() && !(all_predicted && partly(trouble)));
        let yields = !entry.preferred || (entry.full && some_free);
        let busy = entry.load.active + entry.load.queued;
        let reason = match best {
            None if !yields => "preferred",
            None if alone => "only_candidate",
            None if all_predicted => "soonest",
            None if entry.candidate.resident => "resident",
            None => "first_free",
            Some(_) if trouble.is_some() => trouble.unwrap_or_default(),
            Some((true, _, _)) => "not_preferred",
            Some(_) if all_predicted => "slower",
            Some((_, true, _)) if !entry.candidate.resident => "not_resident",
            Some((_, _, least)) if busy > least => "busier",
            Some(_) => "later_in_order",
        };
        best.get_or_insert((!yields, entry.candidate.resident, busy));
        ranked.push(Candidate {
            reason,
            ..entry.candidate
        });
    }
    ranked
}
