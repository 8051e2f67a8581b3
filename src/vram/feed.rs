//! The intermediate tensors of feed-forward networks and experts, in the order in which llama.cpp's graph allocates and frees them.

use super::arena::Block;
use super::graph::Graph;
use super::layer::{Feed, Gate, Network, Role};

impl Graph<'_> {
    pub(super) fn feed(&mut self, feed: &Feed, normed: Block) -> Block {
        match feed {
            Feed::None => normed,
            Feed::Dense(network) => self.network(network, normed),
            Feed::Experts {
                experts,
                used,
                each,
                shared,
            } => self.experts(*experts, *used, each, shared.as_ref(), normed),
        }
    }

    fn network(&mut self, network: &Network, normed: Block) -> Block {
        let inner = self.inner(network, 1, Some(normed), [Role::Up, Role::Gate]);
        self.multiply(inner, self.embedding, Role::Down)
    }

    /// Up, gate and their product for so many copies of a token. The input is given back when it is handed over.
    fn inner(
        &mut self,
        network: &Network,
        copies: u64,
        input: Option<Block>,
        [up, gate]: [Role; 2],
    ) -> Block {
        let width = network.width.saturating_mul(copies);
        let up_width = match network.gate {
            Gate::Fused => width.saturating_mul(2),
            Gate::None | Gate::Apart => width,
        };
        let up = self.product(up_width, up);
        let gate = (network.gate == Gate::Apart).then(|| self.product(width, gate));
        if let Some(input) = input {
            self.give(input);
        }
        if network.gate == Gate::None {
            return up;
        }
        let product = self.take(width);
        self.give(up);
        if let Some(gate) = gate {
            self.give(gate);
        }
        product
    }

    fn experts(
        &mut self,
        experts: u64,
        used: u64,
        each: &Network,
        shared: Option<&Network>,
        normed: Block,
    ) -> Block {
        let scores = self.take(experts);
        let order = self.take(experts);
        let weights = self.turn(scores, used);
        let sum = self.take(1);
        let weights = self.turn(weights, used);
        self.give(sum);
        let (kept, input) = if shared.is_some() {
            (Some(normed), None)
        } else {
            (None, Some(normed))
        };
        let inner = self.inner(each, used, input, [Role::ExpertUp, Role::ExpertGate]);
        let down = self.multiply(inner, self.embedding.saturating_mul(used), Role::ExpertDown);
        self.give(order);
        self.give(weights);
        let routed = self.turn(down, self.embedding);
        let (Some(shared), Some(normed)) = (shared, kept) else {
            return routed;
        };
        let beside = self.network(shared, normed);
        self.give(beside);
        routed
    }
}
