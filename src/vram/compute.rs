//! The compute buffer of a device: what comes from outside, then the layers it holds, then perhaps the logits.

use super::altup::{self, Streams};
use super::arena::Block;
use super::geometry::Geometry;
use super::graph::{CacheInputs, Graph, Turn};
use super::layer::{Feed, InRam, Kind, Mixer};
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

/// Tensors that come from outside, in the order in which the layers first use them, and the row-wise choice of the first device. Returns
/// the stream and what of it is already normed.
fn arrive(graph: &mut Graph<'_>, shape: &Shape, span: Span) -> (Block, Option<Block>) {
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
fn attention_inputs(graph: &mut Graph<'_>, shape: &Shape, span: Span) {
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
        let inputs = CacheInputs {
            turns: (outside(turns.0), outside(turns.1)),
            places: (outside(index), outside(value_places)),
            mask: outside(geometry.mask(kind.windowed)),
        };
        if let Some(place) = graph.caches.get_mut(cache) {
            *place = Some(inputs);
        }
    }
}

/// Which rows get logits.
fn logit_rows(graph: &mut Graph<'_>, shape: &Shape, span: Span) {
    if span.end >= shape.layers.len() && span.first < span.end {
        let rows = graph.outside(graph.geometry.outputs.saturating_mul(4), span.copies);
        graph.logit_rows = Some(rows);
    }
}
