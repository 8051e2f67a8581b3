//! From a header to a shape: which tensor belongs where, and what each layer computes.

use std::collections::BTreeMap;

use super::altup::Streams;
use super::family::{Family, Memory, Owners, Recurrence, Windows};
use super::layer::{Heaviest, Layer, Role};
use super::shape::{Shape, ShapeError};
use super::{Header, Tensor};

/// Most layers a model may have (llama.cpp: `LLAMA_MAX_LAYERS`).
const MAX_LAYERS: u64 = 512;

/// Where a tensor's bytes go.
enum Home<'a> {
    /// RAM, always.
    Input,
    /// With a layer: its number and the name behind it.
    Layer(usize, &'a str),
    /// With the output layer.
    Output,
    /// Not part of the language model.
    Projector,
}

/// The home of a tensor by its name (llama.cpp: `LLM_TENSOR_INFOS`). What is of no layer but used in all of them comes with the first.
fn home(name: &str) -> Home<'_> {
    let blocks = name
        .strip_prefix("enc.")
        .or_else(|| name.strip_prefix("dec."))
        .unwrap_or(name);
    if let Some((number, rest)) =
        (blocks.strip_prefix("blk.")).and_then(|tail| tail.split_once('.'))
        && let Ok(layer) = number.parse()
    {
        return Home::Layer(layer, rest);
    }
    let stem = name.split_once('.').map_or(name, |(stem, _)| stem);
    match stem {
        "token_embd" | "per_layer_token_embd" | "position_embd" | "token_types" => Home::Input,
        "token_embd_norm"
        | "rope_freqs"
        | "rope_factors_long"
        | "rope_factors_short"
        | "per_layer_model_proj"
        | "per_layer_proj_norm" => Home::Layer(0, name),
        "v" | "mm" | "a" => Home::Projector,
        _ => Home::Output,
    }
}

/// Whether a tensor of a layer belongs to its experts (llama.cpp: `LLM_FFN_EXPS_REGEX`).
fn is_expert(name: &str) -> bool {
    ["up", "down", "gate_up", "gate"].iter().any(|part| {
        name.strip_prefix("ffn_")
            .and_then(|rest| rest.strip_prefix(part))
            .is_some_and(|rest| rest.starts_with("_exps") || rest.starts_with("_chexps"))
    })
}

/// The tensors of a layer by the name behind its number.
pub(super) type Tensors<'a> = BTreeMap<&'a str, &'a Tensor>;

/// A header on the way to its shape.
pub(super) struct Anatomy<'a> {
    /// The header.
    pub(super) header: &'a Header,
    /// What is known of its family.
    pub(super) family: Family,
    /// Layers that run.
    count: usize,
    /// Layers behind them that only predict further tokens.
    ahead: usize,
    /// The tensors of each layer.
    pub(super) layers: Vec<Tensors<'a>>,
    input: Vec<&'a Tensor>,
    output: Vec<&'a Tensor>,
    projector: Vec<&'a Tensor>,
    embedding: u64,
}

impl<'a> Anatomy<'a> {
    /// Sorts the tensors of a header.
    pub(super) fn new(header: &'a Header, family: Family) -> Result<Self, ShapeError> {
        let key = |key: &str| {
            ShapeError::Key(format!(
                "{}.{key}",
                header.architecture().unwrap_or_default()
            ))
        };
        let blocks = (header.arch_unsigned("block_count"))
            .filter(|&count| count <= MAX_LAYERS)
            .ok_or_else(|| key("block_count"))?;
        let embedding = (header.arch_unsigned("embedding_length"))
            .filter(|&width| width > 0)
            .ok_or_else(|| key("embedding_length"))?;
        // Layers that only predict further tokens run in a context of their own, if at all.
        let ahead = header.arch_unsigned("nextn_predict_layers").unwrap_or(0);
        let running = blocks.saturating_sub(ahead);
        let count = usize::try_from(running).unwrap_or(usize::MAX);
        let ahead = usize::try_from(blocks.saturating_sub(running)).unwrap_or(usize::MAX);
        let mut anatomy = Self {
            header,
            family,
            count,
            ahead,
            layers: vec![Tensors::new(); count],
            input: Vec::new(),
            output: Vec::new(),
            projector: Vec::new(),
            embedding,
        };
        for tensor in &header.tensors {
            match home(&tensor.name) {
                Home::Input => anatomy.input.push(tensor),
                Home::Output => anatomy.output.push(tensor),
                Home::Projector => anatomy.projector.push(tensor),
                Home::Layer(layer, name) => {
                    if let Some(tensors) = anatomy.layers.get_mut(layer) {
                        tensors.insert(name, tensor);
                    }
                }
            }
        }
        Ok(anatomy)
    }

    /// The shape.
    pub(super) fn shape(&self, architecture: String, known: bool) -> Shape {
        let header = self.header;
        let tied = header.tensor("output.weight").is_none() && self.family.ties;
        let copy = header
            .tensor("token_embd.weight")
            .filter(|_| tied)
            .and_then(Tensor::bytes)
            .unwrap_or(0);
        let experts = (
            self.layer_number("expert_used_count", 0),
            header.arch_unsigned("expert_count").unwrap_or(0),
        );
        let mut kinds = Vec::new();
        let mut kind_of = Vec::with_capacity(self.count);
        let mut layers = Vec::with_capacity(self.count);
        let window = self.window();
        for index in 0..self.count {
            let layer = self.layer(index, window);
            let kind = self.kind(index, &layer);
            let place = kinds.iter().position(|known| *known == kind);
            kind_of.push(place.unwrap_or(kinds.len()));
            if place.is_none() {
                kinds.push(kind);
            }
            layers.push(layer);
        }
        let parameters = header.parameters().unwrap_or(u64::MAX);
        let idle = self.idle_parameters(experts);
        let widest_value = layers
            .iter()
            .map(|layer| layer.value_width)
            .max()
            .unwrap_or(0);
        Shape {
            architecture,
            known,
            trained_ctx: header.arch_unsigned("context_length").unwrap_or(0),
            embedding: self.embedding,
            vocab: header.vocab_size().unwrap_or(0),
            parameters,
            active_parameters: parameters.saturating_sub(idle),
            window: if layers.iter().any(|layer| layer.windowed) {
                window
            } else {
                0
            },
            layers,
            input_bytes: bytes(&self.input),
            output_bytes: bytes(&self.output).saturating_add(copy),
            tied_bytes: copy,
            projector_bytes: bytes(&self.projector),
            experts,
            widest_value,
            heaviest: self.heaviest(),
            memory: self.family.memory,
            position_rows: header.tensor("position_embd.weight").is_some(),
            logits: header.arch_get("pooling_type").is_none()
                && (tied || header.tensor("output.weight").is_some()),
            ahead: self.ahead,
            per_layer: self.per_layer(),
            position_parts: self.family.position_parts,
            keeps_last: self.family.keeps_last,
            streams: self.streams(),
            kinds,
            kind_of,
            sums: Vec::new(),
        }
    }

    /// The figure of a key for a layer, 0 without the key.
    pub(super) fn layer_number(&self, key: &str, layer: usize) -> u64 {
        self.header.layer_unsigned(key, layer).unwrap_or(0)
    }

    /// Width of the embeddings of all layers for one token (Gemma 4), where they come beside a single stream.
    fn per_layer(&self) -> u64 {
        let beside = self.header.tensor("per_layer_token_embd.weight");
        let rows = beside.and_then(|tensor| tensor.dims.first()).copied();
        rows.filter(|_| self.streams().is_none()).unwrap_or(0)
    }

    fn heaviest(&self) -> Heaviest {
        let mut heaviest = Heaviest::default();
        for (name, tensor) in self.layers.iter().flatten() {
            heaviest.add(Role::of(name), tensor.bytes().unwrap_or(u64::MAX));
        }
        heaviest
    }

    /// Several streams beside each other (Gemma 3n).
    fn streams(&self) -> Option<Streams> {
        let others = self.header.tensor("altup_proj.weight")?.dims.get(2)?;
        Some(Streams {
            count: others.saturating_add(1),
            per_layer: self
                .header
                .arch_unsigned("embedding_length_per_layer_input")?,
            residual: self.rows(0, "laurel_l.weight").unwrap_or(0),
        })
    }

    /// Parameters of experts that a token does not use.
    fn idle_parameters(&self, (used, there): (u64, u64)) -> u64 {
        let Some(idle) = there.checked_sub(used).filter(|_| used > 0) else {
            return 0;
        };
        let tensors = self.layers.iter().flatten();
        let experts = tensors
            .filter(|(name, _)| is_expert(name))
            .fold(0_u128, |sum, (_, tensor)| {
                sum.saturating_add(u128::from(tensor.elements().unwrap_or(0)))
            });
        let share = experts.saturating_mul(u128::from(idle)) / u128::from(there.max(1));
        u64::try_from(share).unwrap_or(u64::MAX)
    }

    /// Tokens of the sliding window of the layers that have one; 0: none has.
    fn window(&self) -> u64 {
        let key = self.header.arch_unsigned("attention.sliding_window");
        match self.family.windows {
            Windows::Never => 0,
            Windows::Keyed { .. } | Windows::Listed => key.unwrap_or(0),
            Windows::Always { tokens, .. } => key.unwrap_or(tokens),
            Windows::Fixed {
                tokens,
                without_key,
                ..
            } => match key {
                Some(0) => 0,
                None if !without_key => 0,
                _ => tokens,
            },
            Windows::Sized { layers, tokens, .. } => {
                if u64::try_from(self.count) == Ok(layers) {
                    key.unwrap_or(tokens)
                } else {
                    0
                }
            }
        }
    }

    /// Whether a layer attends to the window only.
    fn windowed(&self, layer: usize, window: u64) -> bool {
        const KEY: &str = "attention.sliding_window_pattern";
        if window == 0 {
            return false;
        }
        if let Some(listed) =
            (self.header.arch_get(KEY)).filter(|value| value.array_len().is_some())
        {
            return listed.at_layer(layer).is_some_and(|flag| flag != 0.0);
        }
        let (period, full_first) = match self.family.windows {
            Windows::Never | Windows::Listed => return false,
            Windows::Keyed { period, full_first }
            | Windows::Fixed {
                period, full_first, ..
            } => (period, full_first),
            Windows::Always { period, .. } | Windows::Sized { period, .. } => (period, false),
        };
        let period = self.header.arch_unsigned(KEY).unwrap_or(period);
        let place = u64::try_from(layer).unwrap_or(u64::MAX).checked_rem(period);
        match place {
            None => true,
            Some(place) if full_first => place != 0,
            Some(place) => place.saturating_add(1) < period,
        }
    }

    /// Whether a layer carries a state.
    pub(super) fn recurrent(&self, layer: usize) -> bool {
        let heads = || self.layer_number("attention.head_count_kv", layer);
        match self.family.recurrence {
            Recurrence::Never => false,
            Recurrence::Always | Recurrence::Beside => true,
            Recurrence::WithoutHeads => heads() == 0,
            Recurrence::WithoutHeadsAndFeed => {
                heads() == 0 && self.layer_number("feed_forward_length", layer) == 0
            }
            Recurrence::Interval => {
                if let Some(listed) = self.header.layer_bool("attention.recurrent_layers", layer) {
                    return listed;
                }
                let interval = self
                    .header
                    .arch_unsigned("full_attention_interval")
                    .unwrap_or(4);
                let number = u64::try_from(layer).unwrap_or(u64::MAX).saturating_add(1);
                number.checked_rem(interval).is_none_or(|rest| rest != 0)
            }
        }
    }

    /// Whether a layer attends.
    pub(super) fn attends(&self, layer: usize) -> bool {
        let recurrent = self.family.recurrence == Recurrence::Always
            || (self.family.recurrence != Recurrence::Beside && self.recurrent(layer));
        !recurrent && self.kv_heads(layer) > 0
    }

    /// KV heads of a layer, as many as query heads where the header does not say.
    pub(super) fn kv_heads(&self, layer: usize) -> u64 {
        (self.header.layer_unsigned("attention.head_count_kv", layer))
            .unwrap_or_else(|| self.layer_number("attention.head_count", layer))
    }

    /// Elements of a key and of a value head.
    pub(super) fn head_widths(&self, layer: usize, windowed: bool) -> (u64, u64) {
        let heads = self.layer_number("attention.head_count", layer);
        let even = self.embedding.checked_div(heads).unwrap_or(0);
        let width = |key: &str, window_key: &str| {
            let own = self.header.arch_unsigned(window_key).filter(|_| windowed);
            own.or_else(|| self.header.arch_unsigned(key))
                .unwrap_or(even)
        };
        (
            width("attention.key_length", "attention.key_length_swa"),
            width("attention.value_length", "attention.value_length_swa"),
        )
    }

    /// Whether K holds a compressed form of both K and V.
    pub(super) fn latent(&self) -> bool {
        self.header
            .arch_unsigned("attention.key_length_mla")
            .is_some_and(|width| width > 0)
    }

    /// Whether a layer owns its KV cache.
    pub(super) fn owns_cache(&self, layer: usize) -> bool {
        let owners = match self.family.owners {
            Owners::All => return true,
            Owners::First(owners) => owners,
            Owners::Keyed => {
                let shared = self
                    .header
                    .arch_unsigned("attention.shared_kv_layers")
                    .unwrap_or(0);
                u64::try_from(self.count)
                    .unwrap_or(u64::MAX)
                    .saturating_sub(shared)
            }
        };
        u64::try_from(layer).is_ok_and(|layer| layer < owners)
    }

    /// Weight and memory of a layer.
    fn layer(&self, index: usize, window: u64) -> Layer {
        let mut layer = Layer {
            windowed: self.windowed(index, window),
            ..Layer::default()
        };
        for (name, tensor) in self.layers.get(index).into_iter().flatten() {
            let sum = if is_expert(name) {
                &mut layer.expert_bytes
            } else {
                &mut layer.dense_bytes
            };
            *sum = sum.saturating_add(tensor.bytes().unwrap_or(u64::MAX));
        }
        if self.attends(index) && self.owns_cache(index) && self.family.memory != Memory::Nothing {
            let (key, value) = self.head_widths(index, layer.windowed);
            let heads = self.kv_heads(index);
            // An index of the keys lies beside them, in a cache of the same cells.
            let index = if self.family.memory == Memory::Indexed {
                self.layer_number("attention.indexer.key_length", index)
            } else {
                0
            };
            layer.key_width = key.saturating_mul(heads).saturating_add(index);
            layer.value_width = if self.latent() {
                0
            } else {
                value.saturating_mul(heads)
            };
        }
        if self.recurrent(index) {
            layer.state_bytes = self.state_elements().saturating_mul(4);
        }
        layer
    }

    /// Elements of the state of a recurrent layer for one sequence (llama.cpp: `n_embd_r` and `n_embd_s`).
    fn state_elements(&self) -> u64 {
        let number = |key: &str| self.header.arch_unsigned(key).unwrap_or(0);
        let heads = self.layer_number("attention.head_count", 0);
        let kernel = number("ssm.conv_kernel");
        let past = kernel.saturating_sub(1);
        let product = |factors: &[u64]| {
            factors
                .iter()
                .fold(1_u64, |product, &factor| product.saturating_mul(factor))
        };
        let rwkv = number("wkv.head_size");
        if rwkv > 0 {
            let shifts = self.header.arch_unsigned("token_shift_count").unwrap_or(2);
            return self.embedding.saturating_mul(shifts.saturating_add(rwkv));
        }
        let short = number("shortconv.l_cache");
        if short > 0 {
            return self.embedding.saturating_mul(short.saturating_sub(1));
        }
        let kda = number("kda.head_dim");
        if kda > 0 {
            let past = if kernel > 0 { past } else { 3 };
            return product(&[3, past, heads, kda]).saturating_add(product(&[kda, kda, heads]));
        }
        let inner = number("ssm.inner_size");
        let state = number("ssm.state_size");
        let channels = inner.saturating_add(product(&[2, number("ssm.group_count"), state]));
        past.saturating_mul(channels)
            .saturating_add(state.saturating_mul(inner))
    }
}

/// Bytes of tensors together. Types without a size were refused before.
fn bytes(tensors: &[&Tensor]) -> u64 {
    tensors.iter().fold(0, |sum, tensor| {
        sum.saturating_add(tensor.bytes().unwrap_or(u64::MAX))
    })
}
