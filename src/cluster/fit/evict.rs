//! Which loaded models would have to go.

use serde::Serialize;

use super::Question;
use super::case::Case;
use crate::cluster::{LoadedModel, ModelName, NodeKind, Room, Site};

/// A loaded model that would have to go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Eviction {
    /// The model.
    pub model: ModelName,
    /// Bytes of GPU memory that it would free.
    pub bytes: u64,
}

/// The fewest of the least valuable models without which all of it goes on GPUs. Least valuable is what the node itself would unload first.
/// Models that must stay, and nodes that cannot unload, are left alone; empty where nothing helps.
pub(super) fn needed(case: &Case<'_>, site: &Site, rooms: &[Room]) -> Vec<Eviction> {
    let question = case.question;
    let Some(node) = site
        .node
        .as_ref()
        .filter(|node| node.kind == Some(NodeKind::Ollama) && !rooms.is_empty())
    else {
        return Vec::new();
    };
    let own = ModelName::new(question.model);
    let mut idle: Vec<&LoadedModel> = node
        .loaded
        .iter()
        .filter(|loaded| {
            loaded.vram_bytes.is_some_and(|bytes| bytes > 0)
                && loaded.name != own
                && !(question.keep)(&node.name, &loaded.name)
        })
        .collect();
    // A node that tells no time keeps the model: such a one goes last. Of equals the larger goes, so that fewer must.
    idle.sort_by_key(|loaded| {
        (
            loaded.expires_at.is_none(),
            loaded.expires_at.clone(),
            std::cmp::Reverse(loaded.vram_bytes),
        )
    });
    let goes_without = |gone: &[&LoadedModel]| {
        let bytes = gone.iter().filter_map(|loaded| loaded.vram_bytes).sum();
        let rooms = measured(question, without(rooms, bytes));
        case.goes(question.settings.ctx, &rooms)
    };
    let Some(count) = (1..=idle.len()).find(|count| goes_without(&idle[..*count])) else {
        return Vec::new();
    };
    let mut gone = idle[..count].to_vec();
    // What was taken before the one that made room may not have been needed; the most valuable is spared first.
    for at in (0..gone.len()).rev() {
        let mut fewer = gone.clone();
        fewer.remove(at);
        if goes_without(&fewer) {
            gone = fewer;
        }
    }
    gone.into_iter()
        .map(|loaded| Eviction {
            model: loaded.name.clone(),
            bytes: loaded.vram_bytes.unwrap_or(0),
        })
        .collect()
}

/// The rooms after models of so many bytes have gone. Which card they were on is not known where there are several: taken in proportion to
/// what is loaded there.
pub(in crate::cluster) fn without(rooms: &[Room], bytes: u64) -> Vec<Room> {
    let loaded: u128 = rooms.iter().map(|room| u128::from(room.loaded_bytes)).sum();
    rooms
        .iter()
        .map(|room| {
            let part = u128::from(bytes.min(u64::try_from(loaded).unwrap_or(u64::MAX)))
                * u128::from(room.loaded_bytes)
                / loaded.max(1);
            room.clone()
                .without(u64::try_from(part).unwrap_or(u64::MAX))
        })
        .collect()
}

/// The rooms as they are for an estimate of this basis.
pub(super) fn measured(question: &Question<'_>, rooms: Vec<Room>) -> Vec<Room> {
    rooms
        .into_iter()
        .map(|room| room.measured(question.policy, question.basis))
        .collect()
}
