//! The order of the nodes that could take a request.

use super::{Candidate, Forecast, NodeLoad};
use crate::cluster::Processor;
use crate::routing::Copies;

/// How many times the time of a load a request must wait for the copies in memory before another node loads one: a wait now and then costs
/// less than the load, and the second copy takes memory from others.
const SPILL_LOADS: u64 = 2;

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
    /// Milliseconds that a load of the model takes there, where that was measured.
    pub(super) measured_load_ms: Option<u64>,
}

/// Whether a node could take the request at once and nobody knows how long it would take.
fn untried(entry: &Entry) -> bool {
    entry.candidate.predicted.total_ms().is_none()
        && entry.load.forecast.is_some_and(|forecast| {
            forecast.needs_load
                && forecast.wait_ms == Some(0)
                && forecast.evicts_ms == 0
                && !forecast.splits
        })
}

/// Whether all that have the model in memory would let the request wait longer than [`SPILL_LOADS`] loads take.
fn spills(entries: &[Entry]) -> bool {
    let mut resident = entries
        .iter()
        .filter(|entry| entry.candidate.resident)
        .peekable();
    resident.peek().is_some()
        && resident.all(|entry| {
            let wait = entry.load.forecast.and_then(|forecast| forecast.wait_ms);
            wait.zip(entry.measured_load_ms)
                .is_some_and(|(wait, load)| wait > load.saturating_mul(SPILL_LOADS))
        })
}

/// Milliseconds that a load counts besides its own time when the model is in memory elsewhere: with it, a load has to save [`SPILL_LOADS`]
/// times what it takes.
fn another_copy(entry: &Entry) -> u64 {
    if entry.candidate.resident {
        return 0;
    }
    let load = entry.candidate.predicted.load_ms.unwrap_or(0);
    load.saturating_mul(SPILL_LOADS - 1)
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
///
/// Where every time is predicted, the shortest wins, what it costs others counted in. Where some are not: nodes with the model in memory, by
/// their predictions if all of them have one, then those where it waits least and least has to go for it, then the free ones, then those that
/// have read most of the prompt before, then configuration order. A node that was never measured is tried when the others would let the request
/// wait longer than [`SPILL_LOADS`] loads take there.
pub(super) fn rank(mut entries: Vec<Entry>, copies: Copies) -> Vec<Candidate> {
    let some_free = entries.iter().any(|entry| !entry.full);
    let predicted = |entry: &Entry| entry.candidate.predicted.total_ms();
    let all_predicted = entries.iter().all(|entry| predicted(entry).is_some());
    let group_predicted = [false, true].map(|resident| {
        entries
            .iter()
            .filter(|entry| entry.candidate.resident == resident)
            .all(|entry| predicted(entry).is_some())
    });
    let tries = copies == Copies::AsNeeded && spills(&entries);
    let elsewhere = entries
        .iter()
        .any(|entry| entry.candidate.resident && entry.trouble.is_none());
    let one_copy = elsewhere && copies == Copies::One;
    entries.sort_by_key(|entry| {
        let yields = !entry.preferred || (entry.full && some_free);
        let forecast = entry.load.forecast.unwrap_or(Forecast {
            possible: true,
            ..Forecast::default()
        });
        let resident = entry.candidate.resident;
        let [cold_known, warm_known] = group_predicted;
        let known = all_predicted || if resident { warm_known } else { cold_known };
        // What it costs others counts like its own time, without being part of it.
        let total = predicted(entry)
            .filter(|_| known)
            .map(|ms| ms.saturating_add(forecast.evicts_ms))
            .map(|ms| ms.saturating_add(if elsewhere { another_copy(entry) } else { 0 }));
        let free = entry.load.slots.map_or(0, |slots| {
            slots.saturating_sub(entry.load.active + entry.load.queued)
        });
        let busyness = (
            entry.full,
            entry.load.active + entry.load.queued,
            // Of nodes that are as busy, the one that has read the beginning.
            std::cmp::Reverse(entry.load.cached_tokens),
            std::cmp::Reverse(free),
        );
        (
            // A full queue is tried last: it may have room by then.
            (
                !forecast.possible,
                entry
                    .trouble
                    .filter(|trouble| *trouble > Trouble::PartlyOnCpu),
                forecast.splits,
                forecast.short,
                yields,
                one_copy && !resident,
            ),
            tries && !untried(entry),
            !all_predicted && !resident,
            total,
            entry.trouble,
            forecast.wait_ms.is_none(),
            forecast
                .wait_ms
                .unwrap_or(0)
                .saturating_add(forecast.evicts_ms),
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
            None if all_predicted && !(one_copy && entry.candidate.resident) => "soonest",
            None if entry.candidate.resident => "resident",
            None => "first_free",
            Some(_) if trouble.is_some() => trouble.map_or("slower", Trouble::reason),
            Some((true, _, _)) => "not_preferred",
            Some((_, true, _)) if one_copy && !entry.candidate.resident => "further_copy",
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
