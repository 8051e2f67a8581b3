//! What reaches a device from outside before its first layer: the stream, positions, places in the caches, masks.

use super::arena::Block;
use super::compute::{Entry, Span};
use super::graph::{CacheInputs, Graph};
use super::layer::{Feed, Mixer};
use super::shape::Shape;

/// Tensors that come from outside, in the order in which the layers first use them, and the row-wise choice of the first device. Returns
/// the stream and what of it is already normed.
pub(super) fn arrive(graph: &mut Graph<'_>, shape: &Shape, span: Span) -> (Block, Option<Block>) {
    let geometry = graph.geometry;
    let word = geometry.word();
    let copies = span.copies;
    if span.first >= span.end {
        graph.only_logit_rows();
    }
    let width = graph.bytes(shape.embedding);
    // With several streams the choice is made in RAM.
    let mixed = (geometry.mixed_inputs
        && span.entry == Entry::Embeddings
        && shape.streams.is_none())
    .then(|| [width, width, word.saturating_mul(2)].map(|bytes| graph.outside(bytes, copies)));
    let (stream, other) = match span.entry {
        Entry::Embeddings => {
            let stream = graph.outside(width, copies);
            let rows = shape.position_rows.then(|| graph.outside(width, copies));
            (Some(stream), rows.into_iter().collect())
        }
        Entry::Host => {
            // The sums behind the last weights of the layer before are left to this device.
            let parts = parts_of_layer(shape, span.first).map(|width| graph.bytes(width));
            let mut parts = parts
                .into_iter()
                .filter(|&bytes| bytes > 0)
                .map(|bytes| graph.outside(bytes, copies));
            (parts.next(), parts.collect())
        }
        Entry::Device => (None, vec![graph.outside(width, copies)]),
    };
    attention_inputs(graph, shape, span);
    let stream = stream.unwrap_or_else(|| graph.outside(width, copies));
    logit_rows(graph, shape, span);
    if let Some(mixed) = mixed {
        let chosen = graph.arena.take(width);
        graph.keep(chosen);
        for block in mixed {
            graph.arena.give(block);
        }
    }
    let mut other = other.into_iter();
    if span.entry == Entry::Device {
        let normed = other.next();
        if copies == 1 {
            return (stream, normed);
        }
        // A copy of the pipeline is not overwritten.
        return (stream, Some(graph.arena.take(width)));
    }
    let stream = if span.entry == Entry::Host && leaves_experts(shape, span.first) {
        other
            .next()
            .into_iter()
            .for_each(|weights| graph.arena.give(weights));
        let sum = graph.arena.take(width);
        graph.arena.give(stream);
        sum
    } else {
        stream
    };
    other.for_each(|part| graph.arena.give(part));
    (stream, None)
}

/// Whether the layer before this one ends in a sum over experts.
fn leaves_experts(shape: &Shape, layer: usize) -> bool {
    matches!(
        feed_before(shape, layer),
        Some(Feed::Experts { shared: None, .. })
    )
}

/// What the layer before this one does to each token.
fn feed_before(shape: &Shape, layer: usize) -> Option<&Feed> {
    let &place = shape.kind_of.get(layer.checked_sub(1)?)?;
    Some(&shape.kinds.get(place)?.feed)
}

/// The widths of what is left of the layer before this one behind its last weights.
fn parts_of_layer(shape: &Shape, layer: usize) -> [u64; 3] {
    let width = shape.embedding;
    match feed_before(shape, layer) {
        Some(Feed::Experts {
            used, shared: None, ..
        }) => [width.saturating_mul(*used), *used, width],
        Some(Feed::Experts {
            shared: Some(_), ..
        }) => [width; 3],
        _ => [width, width, 0],
    }
}

/// Positions, where K and V go, and which token sees which cell: once for each cache.
pub(super) fn attention_inputs(graph: &mut Graph<'_>, shape: &Shape, span: Span) {
    let geometry = graph.geometry;
    for &place in shape.kind_of.get(span.first..span.end).unwrap_or_default() {
        let Some(kind) = shape.kinds.get(place) else {
            continue;
        };
        if !kind.mixer.attends() {
            continue;
        }
        let cache = usize::from(kind.windowed);
        if graph.caches.get(cache).is_none_or(Option::is_some) {
            continue;
        }
        if graph.positions.is_none() {
            graph.positions = Some(graph.outside(
                geometry.word().saturating_mul(shape.position_parts),
                span.copies,
            ));
        }
        let index = geometry.tokens.saturating_mul(8);
        let (turns, value_places) = match &kind.mixer {
            Mixer::Attention(widths) if !widths.cached => {
                // Tokens look at tokens: nothing is stored.
                let cell = if geometry.flash { 2 } else { 4 };
                let mask = geometry
                    .tokens
                    .saturating_mul(geometry.tokens)
                    .saturating_mul(cell);
                let nothing = Block::default;
                let inputs = CacheInputs {
                    turns: (nothing(), nothing()),
                    places: (nothing(), nothing()),
                    mask: graph.outside(mask, span.copies),
                };
                if let Some(place) = graph.caches.get_mut(cache) {
                    *place = Some(inputs);
                }
                continue;
            }
            // Without flash attention V is stored transposed, element by element.
            Mixer::Attention(widths) if !geometry.flash => {
                (graph.turns(widths), index.saturating_mul(widths.value))
            }
            Mixer::Attention(widths) => (graph.turns(widths), index),
            _ => ((0, 0), 0),
        };
        let mut outside = |bytes: u64| graph.outside(bytes, span.copies);
        let turns = (outside(turns.0), outside(turns.1));
        let places = (outside(index), outside(value_places));
        // The mask comes behind the first copies of K and V out of RAM, which leave a hole.
        let copies = match &kind.mixer {
            Mixer::Attention(widths) if span.in_ram > 0 => {
                Some(graph.cache_copies(widths, geometry.cells_of(kind.windowed)))
            }
            _ => None,
        };
        let mask = graph.outside(geometry.mask(kind.windowed), span.copies);
        if let Some((key, value)) = copies {
            graph.arena.give(key);
            graph.arena.give(value);
        }
        let inputs = CacheInputs {
            turns,
            places,
            mask,
        };
        if let Some(place) = graph.caches.get_mut(cache) {
            *place = Some(inputs);
        }
    }
}

/// Which rows get logits.
pub(super) fn logit_rows(graph: &mut Graph<'_>, shape: &Shape, span: Span) {
    if span.end >= shape.layers.len() && span.first < span.end {
        let rows = graph.outside(graph.geometry.outputs.saturating_mul(4), span.copies);
        graph.logit_rows = Some(rows);
    }
}
