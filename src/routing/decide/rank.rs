//! The order of the nodes that could take a request.

use super::{Candidate, NodeLoad};

/// A node with the model, before ranking.
pub(super) struct Entry {
    pub(super) candidate: Candidate,
    pub(super) capable: bool,
    /// The window, when the prompt is surely longer than it.
    pub(super) too_small: Option<u64>,
    pub(super) preferred: bool,
    pub(super) full: bool,
    pub(super) load: NodeLoad,
    pub(super) order: usize,
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
            yields,
            predicted,
            !entry.candidate.resident,
            busyness,
            entry.order,
        )
    });
    let alone = entries.len() == 1;
    let mut ranked: Vec<Candidate> = Vec::with_capacity(entries.len());
    let mut best: Option<(bool, bool, u32)> = None;
    for entry in entries {
        let yields = !entry.preferred || (entry.full && some_free);
        let busy = entry.load.active + entry.load.queued;
        let reason = match best {
            None if !yields => "preferred",
            None if alone => "only_candidate",
            None if all_predicted => "soonest",
            None if entry.candidate.resident => "resident",
            None => "first_free",
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
