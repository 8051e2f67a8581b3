//! What the router knows of requests, models and nodes: estimates, never the simulation's own figures.

use std::sync::Arc;

use super::super::dice::{Dice, hash, hash_text};
use super::super::node::Shown;
use super::super::trace::{BLOCK, TraceRequest};
use super::super::world::World;
use super::{Router, id_of, model_id, ms};
use crate::cluster::{self, Capability, ModelName, Node, NodeState};
use crate::routing::NodeLoad;
use crate::routing::queue::{ClientId, Footprint, NodeQueue, Occupied, Request, Seen};
use crate::routing::speed::{Load, Work};
use crate::routing::window::{self, Limits, Wanted};
use crate::sim::Model;

/// Standard deviation of the router's token estimates.
const ESTIMATE_ERROR: f64 = 0.08;
/// Standard deviation of its estimates of compute buffers; weights and keys are exact in a header.
const BUFFER_ERROR: f64 = 0.2;
/// What Ollama takes for an absent `num_ctx` on a card below 24 GiB.
const AUTOMATIC: u32 = 4096;

impl Router {
    /// What is estimated of a request: its prompt, give or take the error that such estimates have.
    pub(super) fn wanted(&self, asked: &TraceRequest, request: usize, embeds: bool) -> Wanted {
        let mut dice = Dice::new(hash(&[self.seed, 5, request as u64]));
        let error = (ESTIMATE_ERROR * dice.normal()).clamp(-0.2, 0.2).exp();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "tokens times about one"
        )]
        let estimate = (f64::from(asked.tokens_in) * error) as u64;
        Wanted {
            requested: asked.ctx,
            prompt_low: estimate * 5 / 8,
            prompt: estimate,
            prompt_high: estimate * 5 / 4,
            max_tokens: None,
            usual_answer: None,
            settable: !embeds,
        }
    }

    /// The request as a node's scheduler gets it; `None` when its prompt is too long for every window there.
    #[expect(clippy::too_many_arguments, reason = "what a request is made of")]
    pub(super) fn request_at(
        &self,
        node: usize,
        model: usize,
        request: usize,
        asked: &TraceRequest,
        wanted: &Wanted,
        embeds: bool,
        trained: u32,
    ) -> Option<Request> {
        let queue = self.queues.get(node)?;
        let id = model_id(model);
        let footprint = Arc::clone(self.footprints.get(node)?.get(model)?);
        let speed = self
            .speeds
            .get(&self.snapshot.nodes.get(node)?.name, self.names.get(model)?);
        let limits = self.limits(node, &footprint, trained);
        let context = if embeds {
            window::ContextNeed::ANY
        } else {
            let wanted = Wanted {
                usual_answer: speed.completion_tokens.map(rounded),
                ..*wanted
            };
            window::need(self.policy, &wanted, &limits, queue.context_of(id)).ok()?
        };
        Some(Request {
            id: id_of(request),
            lane: asked.lane,
            client: ClientId(hash_text(&asked.session)),
            model: id,
            context,
            footprint,
            embeds,
            work_ms: None,
        })
    }

    pub(super) fn limits(&self, node: usize, footprint: &Footprint, trained: u32) -> Limits {
        let capacity = self.queues.get(node).and_then(NodeQueue::capacity);
        Limits {
            trained: Some(trained),
            // What is larger than the node even with the smallest context is split anyway; then nothing limits it here.
            fits: capacity.and_then(|bytes| footprint.largest_context(bytes)),
            automatic: Some(AUTOMATIC),
            pinned: None,
        }
    }

    /// What the decision has to know of a node, and the request with the work it would be there.
    pub(super) fn load_of(
        &mut self,
        now: u64,
        node: usize,
        model: usize,
        asked: &TraceRequest,
        request: Option<Request>,
    ) -> (NodeLoad, Option<Request>) {
        let (Some(queue), Some(mut request)) = (self.queues.get_mut(node), request) else {
            return (NodeLoad::default(), None);
        };
        let cached =
            self.affinity.cached_blocks(&(node, model), &asked.prefix) as u64 * u64::from(BLOCK);
        let name = self
            .snapshot
            .nodes
            .get(node)
            .map_or("", |node| node.name.as_str());
        let speed = self
            .names
            .get(model)
            .map(|model| self.speeds.get(name, model))
            .unwrap_or_default();
        let answer = if request.embeds {
            Some(0)
        } else {
            speed.completion_tokens.map(rounded)
        };
        let prompt = u64::from(asked.tokens_in);
        request.work_ms = answer
            .and_then(|answer| {
                speed.estimate(&Work {
                    uncached_tokens: prompt.saturating_sub(cached),
                    prompt_tokens: prompt,
                    answer_tokens: answer,
                    load: Load::No,
                    crowded: queue.active() > 0,
                })
            })
            .map(|range| rounded(range.centre));
        let load = NodeLoad {
            active: u32::try_from(queue.active()).unwrap_or(u32::MAX),
            queued: u32::try_from(queue.queued()).unwrap_or(u32::MAX),
            slots: queue.slots(),
            forecast: Some(queue.forecast(now, &request)),
            cached_tokens: cached,
        };
        (load, Some(request))
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float to integer cast saturates"
)]
pub(super) fn rounded(number: f64) -> u64 {
    number.round() as u64
}

/// A model's footprint as an estimate from its header gives it: exact but for the compute buffers.
pub(super) fn estimated(model: &Model, parallel: usize, dice: &mut Dice) -> Footprint {
    let exact = model.resident_bytes(0, parallel);
    let buffers = exact.saturating_sub(model.bytes);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "bytes of a buffer times about one"
    )]
    let buffers = (buffers as f64 * (BUFFER_ERROR * dice.normal()).exp()) as u64;
    let per_token = model.kv_bytes_per_token.saturating_mul(parallel as u64);
    Footprint::linear(model.bytes + buffers, per_token, Some(model.context_length))
}

/// A node as the router's monitor sees it.
pub(super) fn as_seen(name: &str, models: &[Arc<Model>], has: impl Fn(&Model) -> bool) -> Node {
    let offered = |model: &Arc<Model>| cluster::Model {
        name: ModelName::new(&model.name),
        id: model.name.clone(),
        digest: Some(model.digest.clone()),
        size_bytes: Some(model.bytes),
        capabilities: if model.can("embedding") {
            vec![Capability::Embedding]
        } else {
            vec![
                Capability::Completion,
                Capability::Tools,
                Capability::Vision,
            ]
        },
        context: Some(model.context_length.into()),
        ..cluster::Model::default()
    };
    let mut node = Node::unseen(name, format!("http://{name}"));
    node.state = NodeState::Up;
    node.seen = true;
    node.models = models
        .iter()
        .filter(|model| has(model))
        .map(offered)
        .collect();
    node
}

/// A look at a node in the scheduler's terms.
pub(super) fn seen(world: &World<'_>, shown: &[Shown]) -> Vec<Seen> {
    shown
        .iter()
        .filter_map(|shown| {
            let model = world.models.iter().position(|m| m.name == shown.model)?;
            Some(Seen {
                model: model_id(model),
                context: shown.context,
                occupied: Some(Occupied {
                    bytes: shown.size_vram,
                    whole: shown.size == shown.size_vram,
                }),
                expires_at: shown.expires_at.map(ms),
                embeds: world.models.get(model)?.can("embedding"),
            })
        })
        .collect()
}
