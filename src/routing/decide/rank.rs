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
    pub(super) trouble: Option<Trouble>,
    pub(super) order: usize,
}

/// What makes a node worse than one that is in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    /// The model runs on the CPU in part, though the node has a GPU.
    PartlyOnCpu,
    /// The model runs on the CPU, though the node has a GPU.
    OnCpu,
    /// The node owes an answer for far longer than it takes.
    Suspect,
}

impl Trouble {
    pub(super) fn of(suspect: bool, fallen: Option<Processor>) -> Option<Self> {
        match fallen {
            _ if suspect => Some(Self::Suspect),
            Some(Processor::Cpu) => Some(Self::OnCpu),
            Some(Processor::Partly(_)) => Some(Self::PartlyOnCpu),
            Some(Processor::Gpu) | None => None,
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::PartlyOnCpu => "partly_on_cpu",
            Self::OnCpu => "on_cpu",
            Self::Suspect => "suspect",
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
            entry
                .trouble
                .filter(|trouble| *trouble > Trouble::PartlyOnCpu),
            yields,
            predicted,
            entry.trouble,
            !entry.candidate.resident,
            busyness,
            entry.order,
        )
    });
    let alone = entries.len() == 1;
    let mut ranked: Vec<Candidate> = Vec::with_capacity(entries.len());
    let mut best: Option<(bool, bool, u32)> = None;
    let sound = entries.first().is_some_and(|best| best.trouble.is_none());
    for entry in entries {
        // A part on the CPU only counts where no time is predicted.
        let trouble = entry
            .trouble
            .filter(|trouble| sound && !(all_predicted && *trouble == Trouble::PartlyOnCpu));
        let yields = !entry.preferred || (entry.full && some_free);
        let busy = entry.load.active + entry.load.queued;
        let reason = match best {
            None if !yields => "preferred",
            None if alone => "only_candidate",
            None if all_predicted => "soonest",
            None if entry.candidate.resident => "resident",
            None => "first_free",
            Some(_) if trouble.is_some() => trouble.map_or("slower", Trouble::reason),
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
