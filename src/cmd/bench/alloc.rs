//! `gpurouter bench alloc`: how long it takes to find a model's place among many simulated GPUs.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;

use super::{Exit, Run};
use crate::cli::Global;
use crate::cluster::{Demand, Layers, Need, Room, Rules, place};
use crate::measure::{AllocObservation, AllocSettings, Bench, Known, Random, Report};
use crate::vram::{
    Header, Metadata, Offload, Runtime, Settings, Shape, Subject, Tensor, TensorType, Value,
    estimate,
};

const GIB: u64 = 1 << 30;
/// Memory of the simulated GPUs.
const CARDS: [u64; 6] = [8, 12, 16, 24, 48, 80];
/// What the sources allow a decision to take.
const LIMIT_MS: f64 = 10.0;
/// Decisions before the first one that counts.
const WARM_UP: u32 = 100;
/// Decisions that are told at once.
const BATCH: usize = 1000;

/// Flags of `bench alloc`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gpurouter bench alloc
  gpurouter bench alloc --count 256 --iterations 20000

No node and no GPU is asked: the GPUs are simulated, with a random share of
each in use; the models are known only by their size, or by their layers, whose
parts are estimated anew for every device that is tried.
Exit codes: 0 the p99 is below 10 ms; 1 it is not; 2 usage.")]
pub struct Args {
    /// Simulated GPUs
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=4096))]
    count: u32,
    /// Decisions of each kind
    #[arg(long, value_name = "M", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..=10_000_000))]
    iterations: u32,
    /// Of the GPUs and models
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Write every decision's time and the report as JSON lines
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
}

/// Runs the command.
pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    let models = models()?;
    let settings = AllocSettings {
        count: args.count,
        iterations: args.iterations,
        seed: args.seed,
        limit_ms: LIMIT_MS,
        optimised: !cfg!(debug_assertions),
    };
    let mut run = Run::start(global, Bench::Alloc(settings), args.receipt.as_deref())?;
    for known in Known::ALL {
        measure(args, &models, known, &mut |batch| run.observe(&batch))
            .context("cannot write the receipt")?;
    }
    match run.finish(global)? {
        Report::Alloc(report) if report.below_limit => Ok(Exit::Yes),
        _ => Ok(Exit::No),
    }
}

/// A model as both kinds of decisions know it.
struct Model {
    subject: Subject,
    settings: Settings,
    bytes: u64,
}

/// Decides, and tells the decisions batch by batch.
fn measure(
    args: &Args,
    models: &[Model],
    known: Known,
    tell: &mut dyn FnMut(AllocObservation) -> io::Result<()>,
) -> io::Result<()> {
    let mut random = Random::new(args.seed);
    let none = || AllocObservation {
        known,
        placed: 0,
        times_ns: Vec::with_capacity(BATCH),
    };
    let mut batch = none();
    for iteration in 0..args.iterations.saturating_add(WARM_UP) {
        let rooms = rooms(args.count, &mut random);
        let Some(model) = models.get(random.below(models.len())) else {
            continue;
        };
        let start = Instant::now();
        let found = black_box(decide(model, &rooms, known));
        let elapsed = start.elapsed();
        if iteration >= WARM_UP {
            batch.placed += u32::from(found);
            batch
                .times_ns
                .push(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX));
        }
        if batch.times_ns.len() == BATCH {
            tell(std::mem::replace(&mut batch, none()))?;
        }
    }
    if batch.times_ns.is_empty() {
        return Ok(());
    }
    tell(batch)
}

/// Finds the place; whether there is one on GPUs.
fn decide(model: &Model, rooms: &[Room], known: Known) -> bool {
    let by_layers = |offload: &Offload| estimate(&model.subject, &model.settings, offload);
    let need = match known {
        Known::Size => Need::Bytes(model.bytes),
        Known::Layers => Need::Layers(Layers {
            estimate: &by_layers,
            gpu_layers: model.subject.gpu_layers(),
            expert_layers: model.subject.expert_layers(),
        }),
    };
    let demand = Demand {
        need,
        headroom: 1.1,
    };
    place(&demand, rooms, Rules::default()).kind.fits()
}

/// GPUs of which a random share is in use.
fn rooms(count: u32, random: &mut Random) -> Vec<Room> {
    (0..count)
        .map(|index| {
            let bytes = CARDS.get(random.below(CARDS.len())).copied().unwrap_or(8) * GIB;
            let free = bytes / 100 * random.below(101) as u64;
            Room::bare(index, "card", bytes, free)
        })
        .collect()
}

/// Dense models with the shapes of common ones: parameters 1, 8, 29 and 70 billion.
fn models() -> anyhow::Result<Vec<Model>> {
    const SHAPES: [Dense; 4] = [
        Dense {
            layers: 16,
            width: 2048,
            inner: 8192,
            heads: 32,
            kv_heads: 8,
        },
        Dense {
            layers: 32,
            width: 4096,
            inner: 14_336,
            heads: 32,
            kv_heads: 8,
        },
        Dense {
            layers: 64,
            width: 5120,
            inner: 25_600,
            heads: 40,
            kv_heads: 8,
        },
        Dense {
            layers: 80,
            width: 8192,
            inner: 28_672,
            heads: 64,
            kv_heads: 8,
        },
    ];
    SHAPES
        .iter()
        .map(|dense| {
            let header = dense.header();
            let shape = Shape::of(&header).context("a built-in shape")?;
            let bytes = header.tensors.iter().filter_map(Tensor::bytes).sum();
            let settings = Settings::defaults(Runtime::LlamaServer, &shape);
            Ok(Model {
                subject: Subject::Shaped(Box::new(shape)),
                settings,
                bytes,
            })
        })
        .collect()
}

/// The shape of a model without experts.
struct Dense {
    layers: u64,
    width: u64,
    inner: u64,
    heads: u64,
    kv_heads: u64,
}

impl Dense {
    /// The header that a file of it would have, in `Q4_K`.
    fn header(&self) -> Header {
        const VOCABULARY: u64 = 128_256;
        const Q4_K: TensorType = TensorType::from_id(12);
        let text = |text: &str| Value::Text(text.to_owned());
        let number = Value::Unsigned;
        let metadata = BTreeMap::from([
            ("general.architecture".to_owned(), text("llama")),
            ("llama.block_count".to_owned(), number(self.layers)),
            ("llama.context_length".to_owned(), number(131_072)),
            ("llama.embedding_length".to_owned(), number(self.width)),
            ("llama.feed_forward_length".to_owned(), number(self.inner)),
            ("llama.attention.head_count".to_owned(), number(self.heads)),
            (
                "llama.attention.head_count_kv".to_owned(),
                number(self.kv_heads),
            ),
            ("llama.vocab_size".to_owned(), number(VOCABULARY)),
            (
                "tokenizer.ggml.tokens".to_owned(),
                Value::Length(VOCABULARY),
            ),
        ]);
        let tensor = |name: String, kind, dims: &[u64]| Tensor {
            name,
            kind,
            dims: dims.to_vec(),
        };
        let kv = self.width / self.heads * self.kv_heads;
        let mut tensors = vec![
            tensor(
                "token_embd.weight".to_owned(),
                Q4_K,
                &[self.width, VOCABULARY],
            ),
            tensor("output.weight".to_owned(), Q4_K, &[self.width, VOCABULARY]),
            tensor(
                "output_norm.weight".to_owned(),
                TensorType::F32,
                &[self.width],
            ),
        ];
        for layer in 0..self.layers {
            let parts = [
                ("attn_q", self.width, self.width),
                ("attn_k", self.width, kv),
                ("attn_v", self.width, kv),
                ("attn_output", self.width, self.width),
                ("ffn_gate", self.width, self.inner),
                ("ffn_up", self.width, self.inner),
                ("ffn_down", self.inner, self.width),
            ];
            tensors.extend(parts.map(|(part, input, output)| {
                tensor(format!("blk.{layer}.{part}.weight"), Q4_K, &[input, output])
            }));
            for norm in ["attn_norm", "ffn_norm"] {
                tensors.push(tensor(
                    format!("blk.{layer}.{norm}.weight"),
                    TensorType::F32,
                    &[self.width],
                ));
            }
        }
        Header {
            version: 3,
            big_endian: false,
            metadata: Metadata(metadata),
            tensors,
            data_offset: 0,
            shards: 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_models_have_the_sizes_of_their_shapes() {
        let gib: Vec<u64> = models()
            .unwrap()
            .iter()
            .map(|model| model.bytes / GIB)
            .collect();
        assert_eq!(gib, [0, 4, 15, 36]);
        for model in models().unwrap() {
            let whole = estimate(&model.subject, &model.settings, &Offload::single());
            let weights: u64 = whole
                .devices
                .iter()
                .map(|parts| parts.weights_bytes)
                .sum::<u64>()
                + whole.host.weights_bytes;
            assert!(
                weights >= model.bytes * 9 / 10,
                "{weights} of {}",
                model.bytes
            );
        }
    }
}
