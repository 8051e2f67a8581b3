//! What is known of each model on the node, and which ones are in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Footprint, LOAD_GUESS_MS, ModelId, Request};

/// Models that are remembered; those in memory and pinned ones always are.
const MOST_KNOWN: usize = 256;
/// After so long without a wish for it, the largest context that was ever wished for no longer counts.
const PEAK_LASTS_MS: u64 = 3_600_000;
/// A model that was asked for within this time is expected to be asked for again.
pub(super) const LATELY_MS: u64 = 600_000;
/// Rest between two uses of a model of which nothing is known, and the limits of what is believed of others.
const USUAL_REST_MS: u64 = 30_000;
const SHORTEST_REST_MS: u64 = 10_000;
const LONGEST_REST_MS: u64 = 300_000;
/// Context whose bytes stand for those of a context that only the node knows.
const USUAL_CONTEXT: u32 = 4096;

/// Whether a model may be evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Pin {
    /// By its value.
    #[default]
    No,
    /// Only when nothing else is left to evict.
    Last,
    /// Never by a request.
    Never,
}

/// A model in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resident {
    /// Which.
    pub model: ModelId,
    /// The context it is loaded with; 0 when only the node knows.
    pub context: u32,
    /// Bytes that count against the node's capacity.
    pub bytes: u64,
    /// Whether it was loaded into main memory on purpose.
    pub on_cpu: bool,
    /// Requests that it is working on.
    pub active: u32,
    /// Whether this router loaded it.
    pub ours: bool,
    /// Whether it is an embedding model.
    pub embeds: bool,
    /// When it was loaded or first seen.
    pub since: u64,
    /// When it was last used.
    pub last_use: u64,
    /// When the node means to unload it.
    pub expires_at: Option<u64>,
    /// When an interactive or agent request last used it.
    pub(super) urgent_use: Option<u64>,
}

/// What is remembered of a model, in memory or not.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) footprint: Arc<Footprint>,
    /// A context and the bytes that the node showed for it.
    pub(super) seen: Option<(u32, u64)>,
    /// Milliseconds of its last load.
    pub(super) load_ms: Option<u64>,
    /// Usual milliseconds from its last answer to its next request.
    pub(super) gap_ms: Option<u64>,
    /// The longest that it rested between two requests, lately.
    rest_ms: Option<u64>,
    /// Since when it has had nothing to do.
    pub(super) idle_since: Option<u64>,
    pub(super) last_arrival: Option<u64>,
    /// The largest context that was wished for, and when.
    pub(super) peak: (u32, u64),
    /// The node gives it no more than this.
    pub(super) ceiling: Option<u32>,
    /// When it left the memory, or was last changed there, by our doing.
    pub(super) changed_at: Option<u64>,
    pub(super) embeds: bool,
    pub(super) pin: Pin,
}

impl Known {
    /// Bytes with a context: the estimate, moved by what the node showed.
    pub(super) fn bytes(&self, context: u32) -> Option<u64> {
        let context = if context == 0 { USUAL_CONTEXT } else { context };
        let estimate = self.footprint.bytes(context);
        match (self.seen, estimate) {
            (Some((seen_with, seen)), Some(estimate)) => {
                let then = self.footprint.bytes(seen_with).unwrap_or(estimate);
                let more = estimate.saturating_sub(then);
                let less = then.saturating_sub(estimate);
                Some(seen.saturating_add(more).saturating_sub(less))
            }
            (Some((_, seen)), None) => Some(seen),
            (None, estimate) => estimate,
        }
    }

    /// The largest context with which it takes at most `room` bytes, as far as the node and the model's training allow.
    pub(super) fn largest_context(&self, room: u64) -> Option<u32> {
        let shown = self.seen.and_then(|(context, bytes)| {
            let estimate = self.footprint.bytes(context)?;
            Some((bytes, estimate))
        });
        // What the node showed moves the estimate; here the room moves the other way.
        let room = shown.map_or(room, |(bytes, estimate)| {
            room.saturating_add(estimate).saturating_sub(bytes)
        });
        let fits = self.footprint.largest_context(room)?;
        Some(self.ceiling.map_or(fits, |ceiling| fits.min(ceiling)))
    }

    /// The most context it can have at all.
    pub(super) fn end(&self) -> u32 {
        let trained = self.footprint.trained().unwrap_or(u32::MAX);
        self.ceiling.map_or(trained, |ceiling| trained.min(ceiling))
    }

    /// Milliseconds that it usually rests at most before it is asked for again.
    pub(super) fn usual_rest(&self) -> u64 {
        self.rest_ms
            .unwrap_or(USUAL_REST_MS)
            .clamp(SHORTEST_REST_MS, LONGEST_REST_MS)
    }

    /// How likely it is asked for again, in thousandths, when it has been idle for so long: certain within its usual rest, then less and less.
    pub(super) fn likely(&self, idle_ms: u64) -> u64 {
        let usual = self.usual_rest();
        if idle_ms <= usual {
            1000
        } else {
            (1000 * usual / idle_ms).pow(2) / 1000
        }
    }

    /// The largest context wished for lately.
    pub(super) fn peak(&self, now: u64) -> u32 {
        if now.saturating_sub(self.peak.1) <= PEAK_LASTS_MS {
            self.peak.0
        } else {
            0
        }
    }

    fn arrived(&mut self, now: u64, request: &Request) {
        /// Part of the newest gap in the usual one: about the last three count.
        const NEWEST: u64 = 3;
        self.footprint = Arc::clone(&request.footprint);
        self.embeds = request.embeds;
        if let Some(since) = self.idle_since {
            let gap = now.saturating_sub(since);
            self.gap_ms = Some(match self.gap_ms {
                Some(usual) => (usual * (NEWEST - 1) + gap) / NEWEST,
                None => gap,
            });
            // The longest one counts for about the next ten.
            let faded = self.rest_ms.map_or(0, |rest| rest / 8 * 7);
            self.rest_ms = Some(gap.max(faded));
            self.idle_since = None;
        }
        self.last_arrival = Some(now);
        if request.context.wish >= self.peak(now) {
            self.peak = (request.context.wish, now);
        }
    }
}

/// The models of one node.
#[derive(Debug, Clone, Default)]
pub(super) struct Models {
    known: BTreeMap<ModelId, Known>,
    residents: BTreeMap<ModelId, Resident>,
}

impl Models {
    pub(super) fn known(&self, model: ModelId) -> Option<&Known> {
        self.known.get(&model)
    }

    /// What is known of a model, made if need be; the one that was not asked for longest makes room.
    pub(super) fn know(&mut self, model: ModelId) -> &mut Known {
        if !self.known.contains_key(&model) && self.known.len() >= MOST_KNOWN {
            let oldest = self
                .known
                .iter()
                .filter(|(id, known)| known.pin == Pin::No && !self.residents.contains_key(id))
                .min_by_key(|(_, known)| known.last_arrival)
                .map(|(id, _)| *id);
            if let Some(oldest) = oldest {
                self.known.remove(&oldest);
            }
        }
        self.known.entry(model).or_default()
    }

    pub(super) fn arrived(&mut self, now: u64, request: &Request) {
        self.know(request.model).arrived(now, request);
    }

    pub(super) fn resident(&self, model: ModelId) -> Option<&Resident> {
        self.residents.get(&model)
    }

    pub(super) fn resident_mut(&mut self, model: ModelId) -> Option<&mut Resident> {
        self.residents.get_mut(&model)
    }

    pub(super) fn residents(&self) -> impl Iterator<Item = &Resident> {
        self.residents.values()
    }

    pub(super) fn insert(&mut self, resident: Resident) {
        self.residents.insert(resident.model, resident);
    }

    /// Takes a model out of memory by our doing.
    pub(super) fn evict(&mut self, now: u64, model: ModelId) {
        self.residents.remove(&model);
        self.know(model).changed_at = Some(now);
    }

    /// A model is no longer there, by somebody else's doing.
    pub(super) fn lose(&mut self, model: ModelId) {
        self.residents.remove(&model);
    }

    pub(super) fn clear(&mut self) {
        self.residents.clear();
    }

    /// Forgets idle models that the node has unloaded by now.
    pub(super) fn expire(&mut self, now: u64) {
        self.residents.retain(|_, resident| {
            resident.active > 0 || resident.expires_at.is_none_or(|at| now < at)
        });
    }

    pub(super) fn bytes(&self, model: ModelId, context: u32) -> Option<u64> {
        self.known(model).and_then(|known| known.bytes(context))
    }

    /// Bytes and number of the models in memory, some left out.
    pub(super) fn used(&self, without: impl Fn(ModelId) -> bool) -> (u64, u32) {
        self.residents
            .values()
            .filter(|resident| !without(resident.model))
            .fold((0, 0), |(bytes, count), resident| {
                (resident.bytes.saturating_add(bytes), count + 1)
            })
    }

    /// Time of a load, for holds and values.
    pub(super) fn load_ms(&self, model: ModelId) -> u64 {
        self.known(model)
            .and_then(|known| known.load_ms)
            .unwrap_or(LOAD_GUESS_MS)
    }

    pub(super) fn pin(&self, model: ModelId) -> Pin {
        self.known(model).map_or(Pin::No, |known| known.pin)
    }

    /// What is known of the models that are not in memory, one left out.
    pub(super) fn absent(&self, without: ModelId) -> impl Iterator<Item = &Known> {
        self.known
            .iter()
            .filter(move |(id, _)| **id != without && !self.residents.contains_key(id))
            .map(|(_, known)| known)
    }

    /// Models that were asked for lately and are not in memory, the latest first.
    pub(super) fn missed(&self, now: u64) -> Vec<(ModelId, &Known)> {
        let mut missed: Vec<_> = self
            .known
            .iter()
            .filter(|(id, known)| {
                !self.residents.contains_key(id)
                    && known
                        .last_arrival
                        .is_some_and(|at| now.saturating_sub(at) <= LATELY_MS)
            })
            .map(|(id, known)| (*id, known))
            .collect();
        missed.sort_by_key(|(id, known)| (std::cmp::Reverse(known.last_arrival), *id));
        missed
    }
}
