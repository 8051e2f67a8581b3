//! Gemma 3n: several streams beside each other of which each layer computes one and predicts the others, and an embedding for each layer
//! (`gemma3n.cpp`).

use super::arena::Block;
use super::compute::Span;
use super::graph::{Graph, Turn};
use super::layer::{Attention, Feed, Kind, Mixer};
use super::shape::Shape;

/// The streams of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Streams {
    /// How many.
    pub(super) count: u64,
    /// Width of a layer's own embedding.
    pub(super) per_layer: u64,
    /// Rank of the learned residual beside attention.
    pub(super) residual: u64,
}

/// First layers whose feed-forward keeps only the largest activations, which takes a copy of them.
const SPARSE_LAYERS: usize = 10;

/// What lives from layer to layer.
struct State {
    streams: Block,
    /// The embeddings of the tokens, until the first layer has used them.
    scaled: Option<Block>,
    /// The embeddings for all layers.
    per_layer: Option<Block>,
}

/// Follows a span; returns what is normed for the logits.
pub(super) fn run(
    graph: &mut Graph<'_>,
    shape: &Shape,
    streams: &Streams,
    span: Span,
    embedded: Block,
    per_layer: Block,
    turns: impl Fn(usize) -> Turn,
) -> Block {
    let streams_block = enter(graph, streams);
    let mut state = State {
        streams: streams_block,
        scaled: Some(embedded),
        per_layer: Some(per_layer),
    };
    let last = span.end.saturating_sub(1);
    for index in span.first..span.end {
        let Some(kind) = shape
            .kind_of
            .get(index)
            .and_then(|&place| shape.kinds.get(place))
        else {
            break;
        };
        let turn = turns(index);
        let sparse = index < SPARSE_LAYERS;
        // Beyond the second of each sort nothing new happens.
        let place = index.saturating_sub(span.first);
        let repeats =
            place > 5 && place % 5 < 3 && !sparse && turn == Turn::default() && index != last;
        if !repeats {
            layer(graph, shape, streams, kind, &mut state, sparse, turn);
        }
    }
    leave(graph, streams, state)
}

/// All streams from the one that comes in.
fn enter(graph: &mut Graph<'_>, streams: &Streams) -> Block {
    let width = graph.embedding;
    let others = streams.count.saturating_sub(1).saturating_mul(width);
    let repeated = graph.take(others);
    let projected = graph.turn(repeated, others);
    let scaled = measured(graph, streams, projected);
    let stacked = graph.take(streams.count.saturating_mul(width));
    graph.give(scaled);
    stacked
}

/// The other streams scaled to the size of the first.
fn measured(graph: &mut Graph<'_>, streams: &Streams, projected: Block) -> Block {
    let width = graph.embedding;
    let others = streams.count.saturating_sub(1);
    let squares = graph.take(width);
    let size = graph.turn(squares, 1);
    let scaled = graph.take(others.saturating_mul(width));
    graph.give(size);
    let sizes = graph.turn(projected, others);
    graph.give(sizes);
    scaled
}

fn layer(
    graph: &mut Graph<'_>,
    shape: &Shape,
    streams: &Streams,
    kind: &Kind,
    state: &mut State,
    sparse: bool,
    turn: Turn,
) {
    let width = graph.embedding;
    let count = streams.count;
    let all = count.saturating_mul(width);
    let turned = graph.take(all);
    let normed = graph.take(width);
    let router = graph.turn(normed, count);
    let coefficients = graph.turn(router, count.saturating_mul(count));
    let mixed = graph.take(all);
    graph.give(turned);
    graph.give(coefficients);
    let predictions = graph.turn(mixed, all);
    graph.give(std::mem::take(&mut state.streams));

    let normed = graph.take(width);
    let attended = match &kind.mixer {
        Mixer::Attention(widths) => attention(graph, widths, kind, turn),
        _ => graph.take(width),
    };
    let low = graph.take(streams.residual);
    let residual = graph.turn(low, width);
    graph.give(normed);
    graph.give(residual);
    let fed = feed(graph, kind, sparse);
    graph.give(attended);

    let innovation = graph.take(width);
    let corrected = graph.turn(innovation, all);
    let router = graph.turn(fed, count);
    let router = graph.turn(router, count);
    let router = graph.turn(router, count);
    graph.give(router);
    graph.give(predictions);

    let first = graph.take(width);
    let gated = graph.turn(first, streams.per_layer);
    if let Some(scaled) = state.scaled.take() {
        let layers = u64::try_from(shape.layers.len()).unwrap_or(u64::MAX);
        let each = streams.per_layer.saturating_mul(layers);
        let projected = graph.take(each);
        graph.give(scaled);
        let normed = graph.turn(projected, each);
        if let Some(selected) = state.per_layer.take() {
            graph.give(selected);
        }
        state.per_layer = Some(graph.turn(normed, each));
    }
    if turn.last
        && let Some(per_layer) = state.per_layer.take()
    {
        graph.give(per_layer);
    }
    let projected = graph.turn(gated, width);
    let others = graph.take(count.saturating_sub(1).saturating_mul(width));
    graph.give(projected);
    state.streams = graph.take(all);
    graph.give(corrected);
    graph.give(others);
}

fn attention(graph: &mut Graph<'_>, widths: &Attention, kind: &Kind, turn: Turn) -> Block {
    let query = graph.take(widths.query);
    let query = graph.turn(query, widths.query);
    let (key, value) = if widths.stored {
        let key = graph.take(widths.key);
        let key = graph.turn(key, widths.key);
        let value = graph.take(widths.value);
        (Some(key), Some(graph.turn(value, widths.value)))
    } else {
        (None, None)
    };
    let out = graph.look(kind, turn, (query, key, value), |graph, query| {
        graph.attend(widths, query, kind.windowed)
    });
    let width = graph.embedding;
    graph.turn(out, width)
}

fn feed(graph: &mut Graph<'_>, kind: &Kind, sparse: bool) -> Block {
    let width = graph.embedding;
    let normed = graph.take(width);
    let Feed::Dense(network) = &kind.feed else {
        return normed;
    };
    let up = graph.take(network.width);
    let gate = graph.take(network.width);
    graph.give(normed);
    if sparse {
        let mean = graph.take(1);
        let spread = graph.take(network.width);
        let sum = graph.turn(spread, 1);
        graph.give(sum);
        graph.give(mean);
    }
    graph.give(gate);
    graph.turn(up, width)
}

/// One stream from all of them, of which only rows with logits go on.
fn leave(graph: &mut Graph<'_>, streams: &Streams, state: State) -> Block {
    let width = graph.embedding;
    let others = streams.count.saturating_sub(1).saturating_mul(width);
    let projected = graph.take(others);
    let scaled = measured(graph, streams, projected);
    let merged = graph.take(width);
    graph.give(state.streams);
    graph.give(scaled);
    graph.only_logit_rows();
    let rows = graph.turn(merged, width);
    if let Some(ids) = graph.logit_rows.take() {
        graph.give(ids);
    }
    rows
}
