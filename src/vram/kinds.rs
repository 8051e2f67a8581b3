//! What each layer of a model computes, by its metadata and tensors.

use super::Tensor;
use super::anatomy::Anatomy;
use super::family::{Memory, Recurrence};
use super::layer::{
    Attention, Delta, Feed, Gate, Kind, Latent, Layer, Mixer, Network, Norms, Scan,
};

/// What layers compute.
impl Anatomy<'_> {
    pub(super) fn kind(&self, index: usize, layer: &Layer) -> Kind {
        Kind {
            mixer: self.mixer(index, layer.windowed),
            feed: self.feed(index),
            parallel: self.family.parallel,
            onto_stream: self.family.onto_stream,
            norms: self.norms(index),
            windowed: layer.windowed,
        }
    }

    fn norms(&self, index: usize) -> Norms {
        if self.tensor(index, "attn_output_norm.weight").is_some() {
            Norms::After
        } else if self.tensor(index, "attn_norm.weight").is_none()
            && self.tensor(index, "post_attention_norm.weight").is_some()
        {
            Norms::Inside
        } else {
            Norms::Before
        }
    }

    fn mixer(&self, index: usize, windowed: bool) -> Mixer {
        if self.attends(index) {
            return if self.latent() {
                Mixer::Latent(self.latent_widths(index))
            } else {
                Mixer::Attention(self.attention(index, windowed))
            };
        }
        let number = |key: &str| self.header.arch_unsigned(key).unwrap_or(0);
        let past = number("ssm.conv_kernel").saturating_sub(1);
        let (inner, state) = (number("ssm.inner_size"), number("ssm.state_size"));
        if !self.recurrent(index) {
            return Mixer::None;
        }
        let head = number("wkv.head_size");
        if head > 0 {
            let fused = self.tensor(index, "time_mix_lerp_fused.weight");
            let blends = fused
                .and_then(|tensor| tensor.dims.last())
                .copied()
                .unwrap_or(5);
            return Mixer::Decay { blends, head };
        }
        match number("shortconv.l_cache") {
            0 => {}
            length => {
                return Mixer::Convolution {
                    past: length.saturating_sub(1),
                };
            }
        }
        let (rank, groups) = (number("ssm.time_step_rank"), number("ssm.group_count"));
        if self.family.recurrence == Recurrence::Interval && inner > 0 {
            return Mixer::Delta(Delta {
                inner,
                key: groups.saturating_mul(state),
                state: state.saturating_mul(inner),
                heads: rank,
                past,
            });
        }
        if inner > 0 {
            return Mixer::Scan(Scan {
                inner,
                state,
                rank,
                groups,
                past,
            });
        }
        Mixer::None
    }

    fn latent_widths(&self, index: usize) -> Latent {
        let heads = self.layer_number("attention.head_count", index);
        let number = |key: &str| self.header.arch_unsigned(key).unwrap_or(0);
        let rotary = number("rope.dimension_count");
        Latent {
            heads,
            query_rank: number("attention.q_lora_rank"),
            query: heads.saturating_mul(number("attention.key_length_mla")),
            rank: number("attention.key_length").saturating_sub(rotary),
            rotary,
            value: heads.saturating_mul(number("attention.value_length_mla")),
        }
    }

    fn tensor(&self, layer: usize, name: &str) -> Option<&Tensor> {
        self.layers.get(layer)?.get(name).copied()
    }

    /// Rows of a layer's tensor: the elements per token that come out of it.
    pub(super) fn rows(&self, layer: usize, name: &str) -> Option<u64> {
        self.tensor(layer, name)?.dims.get(1).copied()
    }

    fn attention(&self, index: usize, windowed: bool) -> Attention {
        let heads = self.layer_number("attention.head_count", index);
        let (key, value) = self.head_widths(index, windowed);
        let kv_heads = self.kv_heads(index);
        let query = heads.saturating_mul(key);
        let gated = self
            .rows(index, "attn_q.weight")
            .is_some_and(|rows| rows == query.saturating_mul(2));
        Attention {
            heads,
            query,
            key: kv_heads.saturating_mul(key),
            value: kv_heads.saturating_mul(value),
            out: heads.saturating_mul(value),
            normed: self.tensor(index, "attn_q_norm.weight").is_some(),
            fused: self.tensor(index, "attn_qkv.weight").is_some(),
            gated,
            rotary: self.family.rotary,
            stored: self.owns_cache(index),
            cached: self.family.memory != Memory::Nothing,
        }
    }

    fn network(&self, index: usize, suffix: &str) -> Option<Network> {
        let gate = self.rows(index, &format!("ffn_gate{suffix}.weight"));
        let fused = self.rows(index, &format!("ffn_gate_up{suffix}.weight"));
        let up = self.rows(index, &format!("ffn_up{suffix}.weight"));
        let down = (self.tensor(index, &format!("ffn_down{suffix}.weight")))
            .and_then(|tensor| tensor.dims.first());
        let width = down.copied().or(gate).or(up)?;
        let gate = if gate.is_some() {
            Gate::Apart
        } else if fused.is_some() || up.is_some_and(|up| up > width) {
            Gate::Fused
        } else {
            Gate::None
        };
        Some(Network { width, gate })
    }

    fn feed(&self, index: usize) -> Feed {
        if let Some(each) = self.network(index, "_exps") {
            return Feed::Experts {
                experts: self.header.arch_unsigned("expert_count").unwrap_or(0),
                used: self.layer_number("expert_used_count", index),
                each,
                shared: self.network(index, "_shexp"),
            };
        }
        if let Some(width) = self.rows(index, "channel_mix_key.weight") {
            return Feed::Dense(Network {
                width,
                gate: Gate::None,
            });
        }
        self.network(index, "").map_or(Feed::None, Feed::Dense)
    }
}
