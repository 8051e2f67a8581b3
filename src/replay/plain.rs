//! What a user has without a router: each request goes to a node, and the node's own rules decide about loads.

use super::dice::{Dice, hash, hash_text};
use super::world::{Told, World};

/// How a client without a router finds its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Spread {
    /// Each session keeps to one node, as a client with one configured address does.
    #[default]
    Fixed,
    /// Any node for any request, as Open WebUI's `random.choices` does.
    Random,
}

/// Runs the trace.
pub(super) fn run(world: &mut World<'_>, spread: Spread, seed: u64) {
    while let Some(told) = world.next() {
        match told {
            Told::Sent(request) => send(world, request, spread, seed),
            Told::Died { request, .. } => world.fail(request, false),
            _ => {}
        }
    }
}

fn send(world: &mut World<'_>, request: usize, spread: Spread, seed: u64) {
    let Some((model, asked)) = world
        .model_of
        .get(request)
        .and_then(|model| world.models.get(*model))
        .zip(world.requests.get(request))
    else {
        return;
    };
    let having: Vec<usize> = (0..world.nodes.len())
        .filter(|node| {
            world
                .nodes
                .get(*node)
                .is_some_and(|node| node.spec.has(model))
        })
        .collect();
    let draw = match spread {
        Spread::Random => hash(&[seed, request as u64]),
        Spread::Fixed if asked.session.is_empty() => hash(&[seed, request as u64]),
        Spread::Fixed => hash(&[seed, hash_text(&asked.session)]),
    };
    let ctx = asked.ctx;
    let node = Dice::new(draw).pick(&having).copied();
    if !node.is_some_and(|node| world.submit(node, request, ctx)) {
        world.fail(request, false);
    }
}
