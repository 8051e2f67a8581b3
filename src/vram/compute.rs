//! The compute buffer of a device: inputs, then the layers it holds, then perhaps the logits.

use super::arena::Block;
use super::geometry::Geometry;
use super::graph::Graph;
use super::layer::{Kind, Mixer};
use super::shape::Shape;

/// The consecutive layers of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// First layer.
    pub(super) first: usize,
    /// Behind the last layer.
    pub(super) end: usize,
    /// Whether the output layer is here too.
    pub(super) output: bool,
}

/// Layers of one kind that are followed; further ones repeat what the second did.
const REPEATS: u32 = 2;

/// Bytes of the compute buffer for a span.
pub(super) fn compute_bytes(shape: &Shape, geometry: &Geometry, span: Span) -> u64 {
    let mut graph = Graph::new(geometry, shape.embedding);
    let mut stream = inputs(&mut graph, shape, span);
    let mut seen = vec![0_u32; shape.kinds.len()];
    let last = shape.layers.len().checked_sub(1);
    for index in span.first..span.end {
        let Some(&place) = shape.kind_of.get(index) else {
            break;
        };
        let (Some(kind), Some(count)) = (shape.kinds.get(place), seen.get_mut(place)) else {
            break;
        };
        let is_last = Some(index) == last;
        if *count >= REPEATS && !is_last {
            continue;
        }
        *count += 1;
        stream = graph.layer(kind, stream, is_last);
    }
    if span.output {
        graph.logits(stream, shape.vocab);
    }
    graph.arena.high()
}

/// Tensors that come from outside, in the order in which the layers first use them. They live as long as the graph.
fn inputs(graph: &mut Graph<'_>, shape: &Shape, span: Span) -> Block {
    let geometry = graph.geometry;
    let word = geometry.word();
    let stream_bytes = word.saturating_mul(shape.embedding);
    let mixed = (geometry.mixed_inputs && span.first == 0).then(|| {
        [stream_bytes, stream_bytes, word.saturating_mul(2)].map(|bytes| graph.arena.take(bytes))
    });
    let stream = graph.arena.take(stream_bytes);
    // Positions.
    graph.arena.take(word);
    let mut full = false;
    let mut windowed = false;
    for &place in shape.kind_of.get(span.first..span.end).unwrap_or_default() {
        let Some(kind) = shape.kinds.get(place) else {
            continue;
        };
        let seen = if kind.windowed {
            &mut windowed
        } else {
            &mut full
        };
        if !*seen && attention_inputs(graph, kind) {
            *seen = true;
        }
        if full && windowed {
            break;
        }
    }
    if span.end >= shape.layers.len() {
        graph.arena.take(geometry.outputs.saturating_mul(4));
    }
    if let Some(mixed) = mixed {
        // The row-wise choice between tokens and embeddings ends in a tensor that nothing frees.
        graph.arena.take(stream_bytes);
        for block in mixed {
            graph.arena.give(block);
        }
    }
    stream
}

/// Where K and V go and what may be seen: once for each cache.
fn attention_inputs(graph: &mut Graph<'_>, kind: &Kind) -> bool {
    let Mixer::Attention(widths) = &kind.mixer else {
        return false;
    };
    let geometry = graph.geometry;
    let index = geometry.tokens.saturating_mul(8);
    graph.arena.take(index);
    // Without flash attention V is stored transposed, element by element.
    let spread = if geometry.flash { 1 } else { widths.value };
    graph.arena.take(index.saturating_mul(spread));
    graph.arena.take(geometry.mask(kind.windowed));
    true
}
