//! The compute buffer of a device: what comes from outside, then the layers it holds, then perhaps the logits.

use super::altup::{self, Streams};
use super::arena::Block;
use super::arrival::{arrive, attention_inputs, logit_rows};
use super::geometry::Geometry;
use super::graph::{Graph, Turn};
use super::layer::{InRam, Kind};
use super::shape::Shape;

/// What the first layer of a device starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// The embeddings of the tokens, looked up in RAM.
    Embeddings,
    /// Layers in RAM: the two halves of their last sum.
    Host,
    /// Layers on another GPU, which has normed the stream already.
    Device,
}

/// The consecutive layers of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// First layer.
    pub(super) first: usize,
    /// Behind the last layer.
    pub(super) end: usize,
    /// Whether the output layer is here too.
    pub(super) output: bool,
    /// What the first layer starts from.
    pub(super) entry: Entry,
    /// Micro-batches under way at once (pipeline): copies of everything from outside, kept as long as the graph.
    pub(super) copies: u64,
    /// Before this layer everything lies in RAM.
    pub(super) in_ram: usize,
    /// Before this layer the experts lie in RAM.
    pub(super) experts_in_ram: usize,
    /// Whether the output layer lies in RAM.
    pub(super) output_in_ram: bool,
}

/// Layers of one kind that are followed; further ones repeat what the second did.
const REPEATS: u32 = 2;

/// Bytes of the compute buffer of a GPU that holds this span; 0 for an empty one.
pub(super) fn device_bytes(shape: &Shape, geometry: &Geometry, span: Span) -> u64 {
    if span.first >= span.end && !span.output {
        return 0;
    }
    let mut graph = Graph::new(geometry, shape);
    if let Some(streams) = &shape.streams {
        let layers = u64::try_from(shape.layers.len()).unwrap_or(u64::MAX);
        let each = graph.bytes(streams.per_layer.saturating_mul(layers));
        let per_layer = graph.outside(each, span.copies);
        let (stream, _) = arrive(&mut graph, shape, span);
        run_streams(&mut graph, shape, streams, span, stream, per_layer);
        return graph.arena.high();
    }
    if shape.per_layer > 0 {
        let each = graph.bytes(shape.per_layer);
        let per_layer = graph.outside(each, span.copies);
        graph.keep(per_layer);
    }
    let (stream, normed) = arrive(&mut graph, shape, span);
    run(&mut graph, shape, span, stream, normed);
    graph.arena.high()
}

/// Whether two spans of a model need equal buffers because the same happens in both: neither is the first nor the last, and their layers are
/// of the same kinds.
pub(super) fn alike(shape: &Shape, one: Span, other: Span) -> bool {
    let layers = |span: Span| shape.kind_of.get(span.first..span.end).unwrap_or_default();
    let inner = |span: Span| {
        span.entry == Entry::Device
            && !span.output
            && span.in_ram == 0
            && span.experts_in_ram <= span.first
            && span.end < shape.layers.len()
    };
    let uniform = |layers: &[usize]| {
        layers.len() > 2 && layers.iter().all(|kind| Some(kind) == layers.first())
    };
    let (ours, others) = (layers(one), layers(other));
    inner(one)
        && inner(other)
        && one.copies == other.copies
        && (ours == others || (uniform(ours) && uniform(others) && ours.first() == others.first()))
}

/// Bytes of the compute buffer in RAM, where every graph begins: the first `layers` run there, and the logits when `output` is set. `copies`
/// as in [`Span`].
pub(super) fn host_bytes(
    shape: &Shape,
    geometry: &Geometry,
    layers: usize,
    output: bool,
    copies: u64,
) -> u64 {
    let mut graph = Graph::new(geometry, shape);
    let word = geometry.word();
    let width = word.saturating_mul(shape.embedding);
    let token_ids = graph.outside(word, copies);
    let mixed_ids = geometry.mixed_inputs.then(|| graph.outside(word, copies));
    // Embeddings that a client could send instead of tokens: reserved, never used.
    let unused = graph.outside(width, copies);
    let mixed = geometry.mixed_inputs.then(|| {
        let slots = graph.outside(word.saturating_mul(2), copies);
        (slots, graph.outside(width, copies))
    });
    graph.keep(unused);
    let whole = Span {
        first: 0,
        end: shape.layers.len(),
        output,
        entry: Entry::Embeddings,
        copies,
        in_ram: 0,
        experts_in_ram: 0,
        output_in_ram: false,
    };
    attention_inputs(&mut graph, shape, whole);
    logit_rows(&mut graph, shape, whole);
    if shape.position_rows {
        let rows = graph.arena.take(width);
        graph.keep(rows);
    }
    let stream = graph.arena.take(width);
    graph.arena.give(token_ids);
    if let (Some(ids), Some((slots, embeddings))) = (mixed_ids, mixed) {
        let looked_up = graph.arena.take(width);
        graph.arena.give(ids);
        if layers > 0 || output || shape.streams.is_some() {
            // The row-wise choice between tokens and embeddings ends in a tensor that nothing frees.
            let chosen = graph.arena.take(width);
            graph.keep(chosen);
            graph.arena.give(embeddings);
            graph.arena.give(looked_up);
            graph.arena.give(slots);
        }
    }
    if shape.per_layer > 0 {
        let each = graph.bytes(shape.per_layer);
        let per_layer = graph.arena.take(each);
        graph.keep(per_layer);
    }
    let here = Span {
        end: layers,
        ..whole
    };
    if let Some(streams) = &shape.streams {
        let count = u64::try_from(shape.layers.len()).unwrap_or(u64::MAX);
        let each = graph.bytes(streams.per_layer.saturating_mul(count));
        let per_layer = graph.arena.take(each);
        if layers > 0 {
            run_streams(&mut graph, shape, streams, here, stream, per_layer);
        } else {
            graph.keep(per_layer);
        }
    } else if layers > 0 || output {
        run(&mut graph, shape, here, stream, None);
    }
    graph.arena.high()
}

/// Follows the layers of a span.
fn run(graph: &mut Graph<'_>, shape: &Shape, span: Span, stream: Block, normed: Option<Block>) {
    let mut stream = stream;
    let mut normed = normed;
    let mut seen = vec![0_u32; shape.kinds.len()];
    let turns = Turns::new(shape, span);
    for index in span.first..span.end {
        let Some(&place) = shape.kind_of.get(index) else {
            break;
        };
        let (Some(kind), Some(count)) = (shape.kinds.get(place), seen.get_mut(place)) else {
            break;
        };
        let turn = turns.at(index);
        if *count >= REPEATS && turn == Turn::default() {
            continue;
        }
        *count = count.saturating_add(1);
        graph.in_ram = if index < span.in_ram {
            InRam::Everything
        } else if index < span.experts_in_ram {
            InRam::Experts
        } else {
            InRam::Nothing
        };
        stream = graph.layer(kind, stream, normed.take(), turn);
    }
    if span.output {
        graph.in_ram = if span.output_in_ram {
            InRam::Everything
        } else {
            InRam::Nothing
        };
        if shape.logits {
            graph.logits(stream, shape);
        }
    } else {
        // The next GPU gets the stream normed.
        let next = graph.take(shape.embedding);
        graph.keep(next);
    }
}

/// Follows the layers of a span of a model with several streams.
fn run_streams(
    graph: &mut Graph<'_>,
    shape: &Shape,
    streams: &Streams,
    span: Span,
    stream: Block,
    per_layer: Block,
) {
    let turns = Turns::new(shape, span);
    let merged = altup::run(graph, shape, streams, span, stream, per_layer, |index| {
        turns.at(index)
    });
    if span.output {
        graph.logits(merged, shape);
    }
}

/// Which layers of a span are the last to need something.
struct Turns {
    last: Option<usize>,
    of_caches: [Option<usize>; 2],
    of_positions: Option<usize>,
}

impl Turns {
    fn new(shape: &Shape, span: Span) -> Self {
        let of_caches =
            [false, true].map(|windowed| last_user(shape, span, |kind| kind.windowed == windowed));
        Self {
            last: shape.layers.len().checked_sub(1),
            of_caches,
            of_positions: of_caches.iter().flatten().max().copied(),
        }
    }

    fn at(&self, index: usize) -> Turn {
        Turn {
            last: self.last == Some(index),
            last_of_cache: self.of_caches.contains(&Some(index)),
            last_of_positions: self.of_positions == Some(index),
        }
    }
}

/// The last layer of a span that attends and is of such a kind.
fn last_user(shape: &Shape, span: Span, is: impl Fn(&Kind) -> bool) -> Option<usize> {
    let attends = |place: &usize| {
        let kind = shape.kinds.get(*place);
        kind.is_some_and(|kind| kind.mixer.attends() && is(kind))
    };
    let here = shape.kind_of.get(span.first..span.end)?;
    here.iter()
        .rposition(attends)
        .map(|place| place.saturating_add(span.first))
}
