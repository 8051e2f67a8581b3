//! A request's way through a simulated node: granted, begun, answered.

use super::dice::{Dice, hash};
use super::physics::{Job, Phase};
use super::trace::BLOCK;
use super::world::{Event, World};
use crate::sim::Shape;

/// Standard deviation of the logarithm of what a phase takes in reality: GPU clocks, batching, other processes.
const NOISE: f64 = 0.05;

impl World<'_> {
    /// Looks who of those that wait inside the node may start.
    pub(super) fn poll(&mut self, node: usize) {
        let now = self.now;
        let Some(at) = self.nodes.get_mut(node) else {
            return;
        };
        let mut due = Vec::new();
        for inside in &mut at.inside {
            if inside.granted.is_none()
                && let Some(grant) = at.machine.grant(now, inside.ticket)
            {
                inside.granted = Some((now, grant));
                let request = inside.request;
                due.push((grant.ready_at, Event::Ready { node, request }));
                at.loading_for += grant.ready_at.saturating_sub(now);
            }
        }
        if let Some(ordered) = at.ordered.as_mut().filter(|ordered| !ordered.ready)
            && let Some(grant) = at.machine.grant(now, ordered.ticket)
        {
            ordered.ready = true;
            let serial = ordered.serial;
            due.push((grant.ready_at, Event::Loaded { node, serial }));
            at.loading_for += grant.ready_at.saturating_sub(now);
        }
        for (at, event) in due {
            self.at(at, event);
        }
    }

    /// The model is in memory and the slot is the request's: the prompt is read.
    pub(super) fn ready(&mut self, node: usize, request: usize) {
        let (seed, now) = (self.seed, self.now);
        let Some((model, index)) = self
            .model_of
            .get(request)
            .and_then(|index| Some((self.models.get(*index)?, *index)))
        else {
            return;
        };
        let Some(asked) = self.requests.get(request) else {
            return;
        };
        let Some(at) = self.nodes.get_mut(node) else {
            return;
        };
        let Some(inside) = at
            .inside
            .iter_mut()
            .find(|inside| inside.request == request)
        else {
            return;
        };
        let Some((_, grant)) = inside.granted else {
            return;
        };
        // An event from before the node died says nothing of the request that was sent anew.
        if inside.begun || now < grant.ready_at {
            return;
        }
        inside.begun = true;
        let embeds = model.can("embedding");
        let left = if embeds {
            asked.tokens_in
        } else {
            Shape::Half.left(asked.tokens_in, grant.num_ctx, None, 0)
        };
        let cut = left < asked.tokens_in;
        let blocks = u32::try_from(grant.cached_blocks).unwrap_or(u32::MAX);
        let cached = if cut {
            0
        } else {
            blocks.saturating_mul(BLOCK).min(left.saturating_sub(1))
        };
        (inside.left, inside.cached) = (left, cached);
        let mut dice = Dice::new(hash(&[seed, request as u64]));
        let mut noise = || (NOISE * dice.normal()).exp();
        let fresh = f64::from(left.saturating_sub(cached).max(1));
        let prefill = fresh / grant.speed.prefill * noise();
        let middle = f64::from(left) + f64::from(asked.tokens_out) / 2.0;
        #[expect(clippy::cast_precision_loss, reason = "a ratio of sizes")]
        let slower = 1.0 + model.kv_bytes_per_token as f64 * middle / model.bytes.max(1) as f64;
        let decode = f64::from(asked.tokens_out) / grant.speed.decode * slower * noise();
        let on_gpu = at
            .machine
            .residents(now)
            .iter()
            .any(|resident| resident.model.digest == model.digest && resident.size_vram > 0);
        if let Some(record) = self.records.get_mut(request) {
            record.started = Some(now);
            record.truncated = cut;
        }
        at.work.begin(
            now,
            Job {
                request,
                model: index,
                on_gpu,
                phase: Phase::Prefill,
                left: prefill,
                next: decode,
            },
        );
        self.next_end(node);
    }
}
