//! What a request needs of this node: the contexts that will do, and the work that it is.

use std::sync::Arc;

use super::{AUTOMATIC, State, rounded};
use crate::cluster::Model;
use crate::routing::queue::{ModelId, Request, RequestId, Residency};
use crate::routing::speed::{Load, Work};
use crate::routing::window::{self, ContextNeed, Limits, TooLong, Wanted};
use crate::routing::{Likely, NodeLoad, Speed};
use crate::serve::asked::{Asked, BLOCK_TOKENS};
use crate::serve::gate::loader::Order;

impl State {
    pub(super) fn limits(&self, model: ModelId, automatic: Option<u32>) -> Limits {
        let known = self.known(model);
        Limits {
            trained: known.and_then(|known| known.trained),
            // What is larger than the node even with the smallest context is split anyway; then nothing limits it here.
            fits: self.queue.largest_context(model),
            automatic,
            pinned: None,
        }
    }

    pub(super) fn managed(&self) -> bool {
        self.settings.residency == Residency::Managed
    }

    /// The contexts that will do for a request here, or why none does.
    fn need(
        &self,
        model: ModelId,
        asked: &Asked,
        usual: Option<u64>,
    ) -> Result<ContextNeed, TooLong> {
        // A llama-server in router mode loads each model with the context that it was started with.
        if !self.managed()
            || self.node.on_demand
            || (asked.embeds && !(asked.settable && asked.num_ctx.is_some()))
        {
            return Ok(ContextNeed::ANY);
        }
        let wanted = asked.wanted(usual, asked.settable);
        let loaded = self.queue.context_of(model);
        let learned = self.known(model).and_then(|known| known.automatic);
        let automatic = if asked.settable {
            // A request that carries none is content with whatever is loaded and large enough.
            if asked.num_ctx.is_none() && loaded.is_some() {
                None
            } else {
                learned.or(Some(AUTOMATIC))
            }
        } else {
            learned
        };
        let limits = self.limits(model, automatic);
        if !asked.settable {
            // No larger window can be had for it: the form cannot ask for one.
            too_long_for(&wanted, learned)?;
        }
        window::need(self.rules.policy, &wanted, &limits, loaded)
    }

    pub(super) fn request(
        &mut self,
        id: RequestId,
        model: &Model,
        asked: &Asked,
        speed: &Speed,
    ) -> Result<Request, TooLong> {
        let number = self.number(model);
        let usual = speed.completion_tokens.map(rounded);
        let context = self.need(number, asked, usual)?;
        let known = self.known(number);
        Ok(Request {
            id,
            lane: asked.lane,
            client: asked.client,
            model: number,
            context,
            footprint: known
                .map(|known| Arc::clone(&known.footprint))
                .unwrap_or_default(),
            embeds: asked.embeds,
            work_ms: self.work_ms(number, asked, speed, usual),
        })
    }

    fn cached_tokens(&self, model: ModelId, asked: &Asked) -> u64 {
        match self.affinity.likely(&model, &asked.remembered()) {
            Likely::Nothing => 0,
            Likely::Blocks(blocks) => (blocks as u64 * BLOCK_TOKENS).min(asked.prompt_tokens),
            Likely::Session { expected, .. } => expected,
        }
    }

    fn work_ms(
        &self,
        model: ModelId,
        asked: &Asked,
        speed: &Speed,
        usual: Option<u64>,
    ) -> Option<u64> {
        let answer_tokens = match (asked.embeds, asked.max_tokens, usual) {
            (true, ..) => 0,
            (_, Some(most), Some(usual)) => most.min(usual),
            (_, one, other) => one.or(other)?,
        };
        let work = Work {
            uncached_tokens: asked.prompt_tokens - self.cached_tokens(model, asked),
            prompt_tokens: asked.prompt_tokens,
            answer_tokens,
            load: Load::No,
            crowded: self.queue.active() > 0,
        };
        speed.estimate(&work).map(|range| rounded(range.centre))
    }

    /// Loads a model as if the request had come for it, without a request that waits; nothing where that would cost anybody anything.
    pub(in crate::serve::gate) fn load_ahead(
        &mut self,
        now: u64,
        model: &Model,
        asked: &Asked,
        speed: &Speed,
    ) -> Vec<Order> {
        let id = RequestId(self.next);
        let Ok(request) = self.request(id, model, asked, speed) else {
            return Vec::new();
        };
        let forecast = self.queue.forecast(now, &request);
        let free = forecast.possible && forecast.wait_ms == Some(0) && forecast.evicts_ms == 0;
        if !forecast.needs_load || !free || forecast.splits {
            return Vec::new();
        }
        self.next += 1;
        if self.queue.arrive(now, request).is_err() {
            return Vec::new();
        }
        let orders = self.pump(now);
        // The load goes on, as it does when a client leaves.
        self.queue.cancelled(id);
        orders
    }

    pub(in crate::serve::gate) fn forecast(
        &mut self,
        now: u64,
        model: &Model,
        asked: &Asked,
        speed: &Speed,
    ) -> NodeLoad {
        let node = Arc::clone(&self.node);
        let load = self.load(&node);
        let Ok(request) = self.request(RequestId(u64::MAX), model, asked, speed) else {
            return load;
        };
        NodeLoad {
            forecast: Some(self.queue.forecast(now, &request)),
            cached_tokens: self.cached_tokens(request.model, asked),
            ..load
        }
    }
}

pub(super) fn too_long_for(wanted: &Wanted, context: Option<u32>) -> Result<(), TooLong> {
    match context.map(u64::from) {
        Some(limit) if wanted.prompt_low.saturating_add(1) > limit => Err(TooLong {
            tokens: wanted.prompt_low,
            limit,
        }),
        _ => Ok(()),
    }
}
