//! The intermediate tensors of attention, in the order in which llama.cpp's graph allocates and frees them.

use super::arena::Block;
use super::graph::{CacheInputs, Graph, Mixed, Turn};
use super::layer::{Attention, InRam, Kind, Latent, Role};
use super::settings::CacheType;

impl Graph<'_> {
    /// Attention of all tokens of a text to each other: K and V are padded and cast where a cache would hold them.
    fn attention_without_cache(
        &mut self,
        widths: &Attention,
        normed: Block,
        kind: &Kind,
        turn: Turn,
    ) -> Mixed {
        let (query, key, value) = if widths.fused {
            let all = self.take(
                widths
                    .query
                    .saturating_add(widths.key)
                    .saturating_add(widths.value),
            );
            self.give(normed);
            (self.take(widths.query), self.take(widths.key), all)
        } else {
            let query = self.take(widths.query);
            let key = self.take(widths.key);
            let value = self.take(widths.value);
            self.give(normed);
            (query, key, value)
        };
        let query = if widths.fused {
            query
        } else {
            self.place(widths, query, widths.query)
        };
        let out = self.look(kind, turn, (query, None, None), |graph, query| {
            if graph.geometry.flash {
                let half = |width: u64| {
                    width
                        .saturating_mul(graph.geometry.tokens)
                        .saturating_mul(2)
                };
                let (key_half, value_half) = (half(widths.key), half(widths.value));
                let padded = graph.turn(key, widths.key);
                let key = graph.arena.take(key_half);
                graph.give(padded);
                let padded = graph.turn(value, widths.value);
                let value = graph.arena.take(value_half);
                graph.give(padded);
                let out = graph.turn(query, widths.out);
                graph.give(key);
                graph.give(value);
                return out;
            }
            let padded = graph.turn(value, widths.value);
            let value = graph.turn(padded, widths.value);
            let key = graph.turn(key, widths.key);
            let scores = graph.take(graph.geometry.tokens.saturating_mul(widths.heads));
            graph.give(key);
            graph.give(query);
            let out = graph.take(widths.out);
            graph.give(value);
            graph.give(scores);
            graph.turn(out, widths.out)
        });
        Mixed::new(self.turn(out, self.embedding))
    }

    pub(super) fn attention(
        &mut self,
        widths: &Attention,
        normed: Block,
        kind: &Kind,
        turn: Turn,
    ) -> Mixed {
        if !widths.cached {
            return self.attention_without_cache(widths, normed, kind, turn);
        }
        let mut normed = Some(normed);
        let mut gate = None;
        let (query, key, value) = if widths.fused {
            let all = widths
                .query
                .saturating_add(widths.key)
                .saturating_add(widths.value);
            let all = self.product(all, Role::Fused);
            if !kind.parallel
                && let Some(normed) = normed.take()
            {
                self.give(normed);
            }
            if widths.rotary || widths.normed {
                let query = self.take(widths.query);
                let key = self.take(widths.key);
                (query, key, all)
            } else {
                (all, self.arena.take(0), self.arena.take(0))
            }
        } else {
            let query = if widths.gated {
                gate = Some(self.product(widths.query.saturating_mul(2), Role::Query));
                self.take(widths.query)
            } else {
                let query = self.product(widths.query, Role::Query);
                self.place(widths, query, widths.query)
            };
            let (value, key) = if widths.stored {
                (
                    self.product(widths.value, Role::Value),
                    self.product(widths.key, Role::Key),
                )
            } else {
                Default::default()
            };
            if !kind.parallel
                && let Some(normed) = normed.take()
            {
                self.give(normed);
            }
            let key = if widths.stored {
                self.place(widths, key, widths.key)
            } else {
                key
            };
            (query, key, value)
        };
        let (query, key, value) = self.rotate(widths, query, key, value);
        let out = self.look(
            kind,
            turn,
            (query, Some(key), Some(value)),
            |graph, query| graph.attend(widths, query, kind.windowed),
        );
        let out = self.rotate_back(widths, out);
        let out = match gate {
            Some(gate) => {
                let opened = self.turn(gate, widths.out);
                self.give(out);
                opened
            }
            None => out,
        };
        let out = self.multiply(out, self.embedding, Role::Out);
        Mixed {
            kept: normed,
            ..Mixed::new(out)
        }
    }

    /// Q or K normed or turned by positions: both work on a view and take a new tensor, once.
    fn place(&mut self, widths: &Attention, block: Block, width: u64) -> Block {
        if widths.rotary || widths.normed {
            self.turn(block, width)
        } else {
            block
        }
    }

    /// Stores K and V, gives back what of the inputs is not needed any more, and attends.
    pub(super) fn look(
        &mut self,
        kind: &Kind,
        turn: Turn,
        (query, key, value): (Block, Option<Block>, Option<Block>),
        attend: impl FnOnce(&mut Self, Block) -> Block,
    ) -> Block {
        if turn.last_of_positions
            && let Some(positions) = self.positions.take()
        {
            self.give(positions);
        }
        let inputs = self
            .caches
            .get_mut(usize::from(kind.windowed))
            .filter(|_| turn.last_of_cache)
            .and_then(Option::take);
        let (places, rest) = match inputs {
            Some(CacheInputs {
                turns,
                places,
                mask,
            }) => (Some(places), Some((turns, mask))),
            None => (None, None),
        };
        let (key_places, value_places) = places.unzip();
        for block in [key, key_places, value, value_places].into_iter().flatten() {
            self.give(block);
        }
        let out = attend(self, query);
        if let Some(((key, value), mask)) = rest {
            for block in [mask, key, value] {
                self.give(block);
            }
        }
        out
    }

    /// Attention over one compressed form of K and V, with the decompression moved behind it (`deepseek2.cpp`).
    pub(super) fn latent(
        &mut self,
        widths: &Latent,
        normed: Block,
        kind: &Kind,
        turn: Turn,
    ) -> Block {
        let head = widths.rank.saturating_add(widths.rotary);
        let query = if widths.query_rank > 0 {
            let compressed = self.take(widths.query_rank);
            self.turn(compressed, widths.query)
        } else {
            self.take(widths.query)
        };
        let absorbed = self.take(widths.heads.saturating_mul(widths.rank));
        let turned = self.take(widths.heads.saturating_mul(widths.rotary));
        self.give(query);
        let query = self.take(widths.heads.saturating_mul(head));
        self.give(absorbed);
        self.give(turned);
        let both = self.take(head);
        self.give(normed);
        let compressed = self.take(widths.rank);
        let turned = self.take(widths.rotary);
        self.give(both);
        let key = self.take(head);
        self.give(compressed);
        self.give(turned);
        let latent = widths.heads.saturating_mul(widths.rank);
        let out = self.look(kind, turn, (query, Some(key), None), |graph, query| {
            if graph.geometry.flash {
                let out = graph.turn(query, latent);
                return graph.turn(out, widths.value);
            }
            let cells = graph.geometry.cells_of(kind.windowed);
            // The cells of V, transposed as they are stored.
            let values = graph.arena.take(
                graph
                    .geometry
                    .value
                    .bytes(widths.rank.saturating_mul(cells)),
            );
            let scores = graph.turn(query, cells.saturating_mul(widths.heads));
            let out = graph.take(latent);
            graph.give(values);
            graph.give(scores);
            graph.turn(out, widths.value)
        });
        let out = self.turn(out, widths.value);
        self.turn(out, self.embedding)
    }

    /// Quantised caches hold K and V turned by a Hadamard matrix where head sizes allow it.
    fn rotate(
        &mut self,
        widths: &Attention,
        query: Block,
        key: Block,
        value: Block,
    ) -> (Block, Block, Block) {
        let (mut query, mut key, mut value) = (query, key, value);
        if self.rotates_key(widths) {
            query = self.turn(query, widths.query);
        }
        if self.rotates_key(widths) && widths.stored {
            key = self.turn(key, widths.key);
        }
        if self.rotates_value(widths) && widths.stored {
            value = self.turn(value, widths.value);
        }
        (query, key, value)
    }

    fn rotate_back(&mut self, widths: &Attention, out: Block) -> Block {
        if self.rotates_value(widths) {
            self.turn(out, widths.out)
        } else {
            out
        }
    }

    pub(super) fn rotates_key(&self, widths: &Attention) -> bool {
        self.geometry.key.is_quantized()
            && widths
                .query
                .checked_div(widths.heads)
                .is_some_and(|head| head % 64 == 0)
    }

    pub(super) fn rotates_value(&self, widths: &Attention) -> bool {
        self.geometry.value.is_quantized()
            && widths
                .out
                .checked_div(widths.heads)
                .is_some_and(|head| head % 64 == 0)
    }

    /// Attention proper: one tensor with flash attention, the scores of all heads without.
    pub(super) fn attend(&mut self, widths: &Attention, query: Block, windowed: bool) -> Block {
        let cells = self.geometry.cells_of(windowed);
        let copies = (self.in_ram == InRam::Everything).then(|| self.cache_copies(widths, cells));
        let out = if self.geometry.flash {
            let bytes = self
                .bytes(widths.out)
                .saturating_add(self.half_copy(widths, cells));
            let out = self.arena.take(bytes);
            self.give(query);
            out
        } else {
            let scores = self.turn(query, cells.saturating_mul(widths.heads));
            let out = self.turn(scores, widths.out);
            self.turn(out, widths.out)
        };
        if let Some((key, value)) = copies {
            self.give(key);
            self.give(value);
        }
        out
    }

    /// Copies of a layer's K and V that lie in RAM.
    pub(super) fn cache_copies(&mut self, widths: &Attention, cells: u64) -> (Block, Block) {
        let all = cells.saturating_mul(self.geometry.streams);
        let key = self.geometry.key.bytes(widths.key).saturating_mul(all);
        let value = self.geometry.value.bytes(widths.value).saturating_mul(all);
        (self.arena.take(key), self.arena.take(value))
    }

    /// CUDA computes flash attention over K and V of other types than f16 with a copy of both, behind the outcome
    /// (`ggml_cuda_flash_attn_ext_get_alloc_size`).
    fn half_copy(&self, widths: &Attention, cells: u64) -> u64 {
        if !self.geometry.cuda_scratch {
            return 0;
        }
        let copied = |kind: CacheType, width: u64| if kind == CacheType::F16 { 0 } else { width };
        copied(self.geometry.key, widths.key)
            .saturating_add(copied(self.geometry.value, widths.value))
            .saturating_mul(cells)
            .saturating_mul(self.geometry.streams)
            .saturating_mul(2)
    }
}
