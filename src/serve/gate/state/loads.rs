//! Loads and looks: what the scheduler orders, and what came of it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::{AUTOMATIC, LoadError, State, Verdict};
use crate::backend::LoadCall;
use crate::cluster::{LoadedModel, Node};
use crate::routing::Affinity;
use crate::routing::queue::{Action, ModelId, Occupied, RequestId, Seen};
use crate::routing::window::RunnerOptions;
use crate::serve::gate::loader::Order;
use crate::serve::gate::lost;

impl State {
    pub(super) fn order(
        &mut self,
        model: ModelId,
        context: u32,
        evict: &[ModelId],
        on_cpu: bool,
        first: RequestId,
    ) -> Option<Order> {
        self.counts.loads += 1;
        self.counts.evicted += evict.len() as u64;
        self.load += 1;
        for waiter in self.waiters.values_mut() {
            waiter.loads |= waiter.model == model;
        }
        for gone in evict.iter().chain([&model]) {
            self.affinity.forget(gone);
        }
        let evict = evict
            .iter()
            .filter_map(|gone| Some(self.known(*gone)?.name.clone()))
            .collect();
        let waiter = self.waiters.get(&first);
        let options = waiter.map(|waiter| waiter.options).unwrap_or_default();
        let explicit = waiter.is_some_and(|waiter| waiter.explicit);
        let keep_alive = waiter
            .and_then(|waiter| waiter.keep_alive.clone())
            .filter(|keep_alive| keep_alive.as_i64() != Some(0));
        let known = self.known(model)?;
        let usual = known
            .trained
            .map_or(AUTOMATIC, |trained| AUTOMATIC.min(trained));
        // Where nobody asked for a context, the node's own may come from its settings or the model's file: it is taken, and learned.
        let own = context == 0 || (!explicit && known.automatic.is_none() && context == usual);
        let mut call = LoadCall {
            model: known.name.clone(),
            embeds: known.embeds,
            context: (!own).then_some(context),
            options: written(&options),
            keep_alive,
        };
        if on_cpu {
            call.options.retain(|(name, _)| *name != "num_gpu");
            call.options.push(("num_gpu", 0.into()));
        }
        if let Some(known) = self.known_mut(model) {
            known.options = Some(options);
        }
        Some(Order {
            number: self.load,
            node: Arc::clone(&self.node),
            call,
            at_least: context,
            bytes: self.queue.loading_bytes(),
            evict,
        })
    }

    /// A load is done, after so many milliseconds; `held` is what the node holds now, where it tells.
    pub(in crate::serve::gate) fn loaded(
        &mut self,
        now: u64,
        order: &Order,
        held: Option<&[LoadedModel]>,
        load_ms: u64,
    ) {
        let Some(load) = self.queue.loading().filter(|_| order.number == self.load) else {
            return;
        };
        let model = load.model;
        let mut found = None;
        if let Some(held) = held {
            let seen: Vec<Seen> = held.iter().map(|loaded| self.seen(now, loaded)).collect();
            found = seen.iter().find(|seen| seen.model == model).copied();
            self.queue.observed(now, now, &seen);
        }
        let (context, occupied) = found.map_or((0, None), |seen| (seen.context, seen.occupied));
        if order.call.context.is_none()
            && context > 0
            && let Some(known) = self.known_mut(model)
        {
            known.automatic = Some(context);
        }
        self.queue.loaded(now, context, occupied, load_ms);
    }

    /// A load did not work.
    pub(in crate::serve::gate) fn load_failed(
        &mut self,
        number: u64,
        error: LoadError,
        out_of_memory: bool,
    ) {
        if number != self.load || self.queue.loading().is_none() {
            return;
        }
        self.counts.failed += 1;
        self.last_error = Some(error);
        for action in self.queue.load_failed(out_of_memory) {
            if let Action::Refuse { id, why } = action {
                let refusal = self.refusal(why);
                self.decide(id, Verdict::Refused(refusal));
            }
        }
    }

    /// Takes in a look at the node.
    pub(in crate::serve::gate) fn observed(&mut self, now: u64, as_of: u64, node: &Arc<Node>) {
        self.follow(node);
        if lost(node.state) {
            self.queue.restarted();
            // What a load that was under way says now is of no interest.
            self.load += 1;
            self.affinity = Affinity::default();
            for known in &mut self.models {
                known.lost();
            }
            return;
        }
        if !self.managed() || !node.state.usable() {
            return;
        }
        let seen: Vec<Seen> = node
            .loaded
            .iter()
            .map(|loaded| self.seen(now, loaded))
            .collect();
        self.learn_automatic(&seen);
        self.queue.observed(now, as_of, &seen);
    }

    /// A model that has another context than it was loaded with was loaded again by the node itself, for a request that carried none.
    fn learn_automatic(&mut self, seen: &[Seen]) {
        for seen in seen {
            let had = self
                .queue
                .residents()
                .find(|resident| resident.model == seen.model)
                .map_or(0, |resident| resident.context);
            if had > 0
                && seen.context > 0
                && had != seen.context
                && let Some(known) = self.known_mut(seen.model)
            {
                known.automatic = Some(seen.context);
                known.options = None;
            }
        }
    }

    pub(super) fn seen(&mut self, now: u64, loaded: &LoadedModel) -> Seen {
        let model = self.number_of_loaded(loaded);
        let occupied = loaded
            .vram_bytes
            .zip(loaded.size_bytes)
            .map(|(bytes, size)| Occupied {
                bytes,
                whole: bytes == size,
            });
        Seen {
            model,
            context: loaded
                .context
                .map_or(0, |tokens| u32::try_from(tokens).unwrap_or(u32::MAX)),
            occupied,
            expires_at: loaded.expires_at.as_deref().and_then(until).map(|left| {
                now.saturating_add(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
            }),
            embeds: self.known(model).is_some_and(|known| known.embeds),
        }
    }
}

/// The options that are set, as Ollama names them.
pub(in crate::serve) fn written(options: &RunnerOptions) -> Vec<(&'static str, Value)> {
    let numbers = [
        ("num_batch", options.num_batch),
        ("num_gpu", options.num_gpu),
        ("main_gpu", options.main_gpu),
        ("num_thread", options.num_thread),
        ("draft_num_predict", options.draft_num_predict),
    ];
    numbers
        .into_iter()
        .filter_map(|(name, number)| Some((name, Value::from(number?))))
        .chain(options.use_mmap.map(|mmap| ("use_mmap", Value::from(mmap))))
        .collect()
}

/// Time left until an RFC 3339 time; `None` for what is none or past.
fn until(time: &str) -> Option<Duration> {
    let (local, offset) = if let Some(local) = time.strip_suffix('Z') {
        (local, 0)
    } else {
        let (local, offset) = time.split_at_checked(time.len().checked_sub(6)?)?;
        let (hours, minutes) = offset.get(1..)?.split_once(':')?;
        let seconds = hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60;
        let west = offset.starts_with('-');
        (local, if west { -seconds } else { seconds })
    };
    let at = humantime::parse_rfc3339(&format!("{local}Z")).ok()?;
    let at = i64::try_from(at.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()? - offset;
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(at).ok()?))?;
    at.duration_since(SystemTime::now()).ok()
}
