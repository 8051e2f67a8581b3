//! What the generators share: a seeded writer of requests.

use super::super::dice::{Dice, hash};
use super::super::trace::{BLOCK, TraceRequest};
use super::super::{FleetNode, Scenario, Spread};
use crate::routing::queue::Lane;
use crate::sim::Gpu;

/// Hashes are written as numbers of 48 bits, which every reader of JSON keeps.
const HASH_BITS: u64 = (1 << 48) - 1;

pub(super) struct Writer {
    pub(super) dice: Dice,
    requests: Vec<TraceRequest>,
}

/// What one request says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Say<'a> {
    pub(super) session: &'a str,
    pub(super) lane: Lane,
    pub(super) model: &'a str,
    pub(super) ctx: Option<u32>,
    pub(super) tokens_in: u32,
    pub(super) tokens_out: u32,
    /// Prompts of one thread begin alike.
    pub(super) thread: u64,
}

impl Writer {
    pub(super) fn new(seed: u64, trace: u64) -> Self {
        Self {
            dice: Dice::new(hash(&[seed, trace])),
            requests: Vec::new(),
        }
    }

    pub(super) fn say(&mut self, at_ms: u64, say: Say<'_>) {
        // Embeddings leave nothing in the prompt cache.
        let blocks = if say.tokens_out == 0 {
            0
        } else {
            u64::from(say.tokens_in / BLOCK)
        };
        self.requests.push(TraceRequest {
            at_ms,
            session: say.session.to_owned(),
            lane: say.lane,
            model: say.model.to_owned(),
            ctx: say.ctx,
            tokens_in: say.tokens_in,
            tokens_out: say.tokens_out,
            prefix: (0..blocks)
                .map(|block| hash(&[say.thread, block]) & HASH_BITS)
                .collect(),
            images: 0,
            stream: say.tokens_out > 0,
        });
    }

    /// The scenario of what was said.
    pub(super) fn on(mut self, fleet: Vec<FleetNode>) -> Scenario {
        self.requests.sort_by_key(|request| request.at_ms);
        Scenario {
            name: String::new(),
            about: String::new(),
            fleet,
            requests: self.requests,
            restarts: Vec::new(),
            spread: Spread::Fixed,
            pinned: Vec::new(),
            thrash: false,
        }
    }
}

/// A node with a GPU of the simulation's table.
pub(super) fn node(name: &str, gpu: &str) -> FleetNode {
    FleetNode::new(name, Gpu::find(gpu).unwrap_or_else(Gpu::none))
}

/// A request that embeds so many tokens.
pub(super) fn embed<'a>(session: &'a str, lane: Lane, model: &'a str, tokens: u32) -> Say<'a> {
    Say {
        session,
        lane,
        model,
        ctx: None,
        tokens_in: tokens,
        tokens_out: 0,
        thread: u64::from(tokens),
    }
}
