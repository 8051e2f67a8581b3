//! What a model's name says of its size: "7b", "8x7b", "30b-a3b", a quantisation.
//!
//! The last tier of all. Weights follow from the parameters and the mean bits per weight of a quantisation; the cache can only be bounded by
//! the families of that size that exist. Everything else is said to be unknown.

use std::fmt;

use serde::Serialize;

use super::{Range, Settings};

/// A quantisation as files are named after it, with what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct NamedQuant {
    /// Its name (`Q4_K_M`).
    pub name: &'static str,
    /// Mean bits per weight of a whole file: what llama.cpp's `llama-quantize` writes for Llama 3.1 8B, its better tensors counted. Files of
    /// other models of 1 to 70 billion parameters are within 6 % of it.
    pub bits: f64,
}

/// Ascending by bits.
const QUANTS: [NamedQuant; 33] = [
    quant("IQ1_S", 2.0042),
    quant("IQ1_M", 2.146),
    quant("TQ1_0", 2.19),
    quant("IQ2_XXS", 2.3824),
    quant("TQ2_0", 2.51),
    quant("IQ2_XS", 2.5882),
    quant("IQ2_S", 2.7403),
    quant("IQ2_M", 2.9294),
    quant("Q2_K_S", 2.9697),
    quant("Q2_K", 3.1593),
    quant("IQ3_XXS", 3.2548),
    quant("IQ3_XS", 3.4977),
    quant("Q3_K_S", 3.6429),
    quant("IQ3_S", 3.6606),
    quant("IQ3_M", 3.7628),
    quant("Q3_K_M", 3.996),
    quant("Q3_K_L", 4.2979),
    quant("IQ4_XS", 4.4597),
    quant("MXFP4", 4.63),
    quant("Q4_0", 4.6358),
    quant("Q4_K_S", 4.6672),
    quant("IQ4_NL", 4.6818),
    quant("Q4_K_M", 4.8944),
    quant("Q4_1", 5.11),
    quant("Q5_0", 5.57),
    quant("Q5_K_S", 5.5704),
    quant("Q5_K_M", 5.7036),
    quant("Q5_1", 6.04),
    quant("Q6_K", 6.5633),
    quant("Q8_0", 8.5008),
    quant("BF16", 16.0005),
    quant("F16", 16.0005),
    quant("F32", 32.0),
];

const fn quant(name: &'static str, bits: f64) -> NamedQuant {
    NamedQuant { name, bits }
}

/// Other spellings.
const SPELLINGS: [(&str, &str); 7] = [
    ("FP16", "F16"),
    ("FP32", "F32"),
    ("MXFP4_MOE", "MXFP4"),
    ("Q2_K_M", "Q2_K"),
    ("Q3_K", "Q3_K_M"),
    ("Q4_K", "Q4_K_M"),
    ("Q5_K", "Q5_K_M"),
];

/// A quantisation that is not known. Its text lists those that are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownQuant {
    /// What was written.
    pub written: String,
}

impl fmt::Display for UnknownQuant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown quantization `{}`; known are", self.written)?;
        for (at, known) in QUANTS.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma} {}", known.name)?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownQuant {}

impl NamedQuant {
    /// Those that are known, the smallest first.
    pub fn all() -> &'static [NamedQuant] {
        &QUANTS
    }

    /// The quantisation of that name, case and `-` for `_` aside; never a guess.
    pub fn parse(written: &str) -> Result<Self, UnknownQuant> {
        let plain = written.trim().to_uppercase().replace('-', "_");
        let name = SPELLINGS
            .iter()
            .find(|(spelling, _)| *spelling == plain)
            .map_or(plain.as_str(), |(_, name)| name);
        QUANTS
            .iter()
            .find(|known| known.name == name)
            .copied()
            .ok_or_else(|| UnknownQuant {
                written: written.to_owned(),
            })
    }

    /// The quantisation that a model's name ends in or holds as a word (`llama3.1:70b-instruct-q4_K_M`, `model-Q8_0.gguf`).
    pub fn in_name(name: &str) -> Option<Self> {
        last_part(name)
            .split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .rev()
            .find_map(|word| Self::parse(word).ok())
    }

    /// Bytes of that many parameters.
    pub fn bytes(self, parameters: u64) -> u64 {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an estimate from a rounded number of parameters"
        )]
        let bytes = (parameters as f64 * self.bits / 8.0) as u64;
        bytes
    }
}

/// What a name says of a model's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct NamedSize {
    /// Parameters in all.
    pub parameters: u64,
    /// Parameters that one token uses, for a mixture of experts whose name tells.
    pub active: Option<u64>,
    /// Whether the total is an upper bound: "8x7b" of a mixture that is not known shares what is not experts.
    pub approximate: bool,
}

/// Mixtures named by experts and size: experts, billions each, parameters in all and in use, in millions (Mixtral's and Llama 4's model cards).
const MIXTURES: [(u64, u64, u64, u64); 4] = [
    (8, 7, 46_700, 12_900),
    (8, 22, 140_600, 39_100),
    (16, 17, 109_000, 17_000),
    (128, 17, 400_000, 17_000),
];

impl NamedSize {
    /// Reads the size from a name's last part, `None` where it names none. A size is a word of its own: `4bit`, `e4b` and a directory named
    /// `70b` are none. Of several sizes the largest counts.
    pub fn of(name: &str) -> Option<Self> {
        let mut largest: Option<Self> = None;
        let mut active = None;
        for word in last_part(name).split(|c: char| !(c.is_ascii_alphanumeric() || c == '.')) {
            let word = word.trim_matches('.').to_ascii_lowercase();
            let word = word.strip_suffix(".gguf").unwrap_or(&word);
            if let Some(size) = Self::word(word) {
                if largest.is_none_or(|largest| size.parameters > largest.parameters) {
                    largest = Some(size);
                }
            } else if let Some(millions) = word.strip_prefix('a').and_then(millions) {
                active = Some(millions * 1_000_000);
            }
        }
        let mut size = largest?;
        size.active = size.active.or(active);
        Some(size)
    }

    fn word(word: &str) -> Option<Self> {
        let plain = |millions: u64| Self {
            parameters: millions * 1_000_000,
            active: None,
            approximate: false,
        };
        let Some((experts, each)) = word.split_once('x') else {
            return millions(word).map(plain);
        };
        let (experts, each) = (experts.parse::<u64>().ok()?, millions(each)?);
        if !(2..=1024).contains(&experts) {
            return None;
        }
        let known = MIXTURES
            .iter()
            .find(|(count, billions, ..)| *count == experts && billions * 1000 == each);
        Some(match known {
            Some((.., total, active)) => Self {
                active: Some(active * 1_000_000),
                ..plain(*total)
            },
            None => Self {
                approximate: true,
                ..plain(experts.saturating_mul(each).min(MOST))
            },
        })
    }
}

/// Most millions of parameters that a name is believed: ten million millions.
const MOST: u64 = 10_000_000;

/// "7b" is 7000, "0.5b" 500, "135m" 135.
fn millions(word: &str) -> Option<u64> {
    let (number, factor) = match word.strip_suffix('b') {
        Some(number) => (number, 1000),
        None => (word.strip_suffix('m')?, 1),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 3 {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let scale = 10_u64.pow(u32::try_from(fraction.len()).ok()?);
    let part = fraction.parse::<u64>().ok()? * factor / scale;
    let millions = whole.checked_mul(factor)?.checked_add(part)?;
    (1..=MOST).contains(&millions).then_some(millions)
}

fn last_part(name: &str) -> &str {
    name.rsplit(['/', '\\']).next().unwrap_or(name)
}

/// A usual dense model of a size, and the extremes among models of that size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct UsualShape {
    /// The published model whose shape it is.
    pub like: &'static str,
    /// Layers, without the output layer.
    pub layers: u32,
    /// Width of a token between layers.
    pub embedding: u64,
    /// Width inside of the feed-forward part.
    pub feed_forward: u64,
    /// Tokens of the vocabulary.
    pub vocabulary: u64,
    /// Elements of K and V together per token in the usual model.
    pub kv_elements: u64,
    /// The same in the leanest and the most lavish published model of that size (grouped queries against one K and V per head).
    pub kv_elements_range: Range,
}

/// Parameters in millions and the shape. The range's ends are published models too: Qwen2.5 0.5B, `TinyLlama`, Qwen2.5 3B and 7B, Phi-2,
/// Llama 2 7B and 13B, Mistral Small, Code Llama 34B, `LLaMA` 30B and 65B.
const SHAPES: [(u64, UsualShape); 8] = [
    (
        500,
        shape(
            "Qwen3 0.6B",
            28,
            1024,
            3072,
            151_936,
            (6_144, 57_344, 57_344),
        ),
    ),
    (
        1_200,
        shape(
            "Llama 3.2 1B",
            16,
            2048,
            8192,
            128_256,
            (11_264, 16_384, 65_536),
        ),
    ),
    (
        3_200,
        shape(
            "Llama 3.2 3B",
            28,
            3072,
            8192,
            128_256,
            (18_432, 57_344, 163_840),
        ),
    ),
    (
        7_500,
        shape(
            "Llama 3.1 8B",
            32,
            4096,
            14_336,
            128_256,
            (28_672, 65_536, 262_144),
        ),
    ),
    (
        14_000,
        shape(
            "Qwen3 14B",
            40,
            5120,
            17_408,
            151_936,
            (81_920, 81_920, 409_600),
        ),
    ),
    (
        32_000,
        shape(
            "Qwen3 32B",
            64,
            5120,
            25_600,
            151_936,
            (81_920, 131_072, 798_720),
        ),
    ),
    (
        70_000,
        shape(
            "Llama 3.1 70B",
            80,
            8192,
            28_672,
            128_256,
            (163_840, 163_840, 1_310_720),
        ),
    ),
    (
        405_000,
        shape(
            "Llama 3.1 405B",
            126,
            16_384,
            53_248,
            128_256,
            (258_048, 258_048, 516_096),
        ),
    ),
];

const fn shape(
    like: &'static str,
    layers: u32,
    embedding: u64,
    feed_forward: u64,
    vocabulary: u64,
    (low, usual, high): (u64, u64, u64),
) -> UsualShape {
    UsualShape {
        like,
        layers,
        embedding,
        feed_forward,
        vocabulary,
        kv_elements: usual,
        kv_elements_range: Range { low, high },
    }
}

impl UsualShape {
    /// The shape nearest to that many parameters, by ratio.
    pub fn of(parameters: u64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a distance between sizes")]
        let ratio = |millions: u64| {
            (parameters.max(1) as f64 / (millions * 1_000_000) as f64)
                .ln()
                .abs()
        };
        let [(_, first), ..] = SHAPES;
        SHAPES
            .iter()
            .min_by(|a, b| ratio(a.0).total_cmp(&ratio(b.0)))
            .map_or(first, |(_, shape)| *shape)
    }

    /// Bytes of the K and V cache of `cells` tokens, the leanest to the most lavish model of the size; `bytes` per element (f16: 2).
    pub fn kv_bytes(&self, cells: u64, bytes: f64) -> Range {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a range whose ends are a factor apart"
        )]
        let of = |elements: u64| (elements as f64 * cells as f64 * bytes) as u64;
        Range {
            low: of(self.kv_elements_range.low),
            high: of(self.kv_elements_range.high),
        }
    }
}

/// A model of which nothing but a name is known: `7b` with a quantisation, or a name that says both.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct NamedModel {
    /// Its size.
    pub size: NamedSize,
    /// Its quantisation.
    pub quant: NamedQuant,
    /// What models of that size look like.
    pub usual: UsualShape,
}

/// A name that does not say enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameError {
    /// It names no number of parameters.
    NoSize(String),
    /// Neither it nor the user names a quantisation, which is never guessed.
    NoQuantization(String),
    /// A quantisation that is not known.
    Quantization(UnknownQuant),
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSize(name) => write!(
                f,
                "`{name}` does not say how many parameters it has (as `7b` does)"
            ),
            Self::NoQuantization(name) => {
                write!(
                    f,
                    "`{name}` does not say its quantization; name one (as in `--quant Q4_K_M`)"
                )
            }
            Self::Quantization(unknown) => unknown.fmt(f),
        }
    }
}

impl std::error::Error for NameError {}

impl NamedModel {
    /// Reads a name. `quant` is the user's word and comes before the name's own.
    pub fn read(name: &str, quant: Option<&str>) -> Result<Self, NameError> {
        let size = NamedSize::of(name).ok_or_else(|| NameError::NoSize(name.to_owned()))?;
        let quant = match quant {
            Some(written) => NamedQuant::parse(written).map_err(NameError::Quantization)?,
            None => NamedQuant::in_name(name)
                .ok_or_else(|| NameError::NoQuantization(name.to_owned()))?,
        };
        Ok(Self {
            size,
            quant,
            usual: UsualShape::of(size.parameters),
        })
    }

    /// Bytes of its weights.
    pub fn weights_bytes(&self) -> u64 {
        self.quant.bytes(self.size.parameters)
    }

    /// Bytes of its K and V cache, between the leanest and the most lavish model of that size.
    pub fn kv_bytes(&self, settings: &Settings) -> Range {
        const ELEMENTS: u64 = 1 << 10;
        let both = settings.cache_k.bytes(ELEMENTS) + settings.cache_v.bytes(ELEMENTS);
        #[expect(clippy::cast_precision_loss, reason = "a few thousand bytes")]
        let each = both as f64 / (2 * ELEMENTS) as f64;
        self.usual.kv_bytes(settings.ctx, each)
    }

    /// What should be known about such an estimate, one sentence each.
    pub fn warnings(&self, settings: &Settings) -> Vec<String> {
        let range = self.kv_bytes(settings);
        let mib = |bytes: u64| bytes >> 20;
        let mut warnings = vec![
            format!(
                "only the name is known: weights are {} million parameters at {} bits each ({})",
                self.size.parameters / 1_000_000,
                self.quant.bits,
                self.quant.name
            ),
            format!(
                "the KV cache at {} tokens is {} to {} MiB in models of this size",
                settings.ctx,
                mib(range.low),
                mib(range.high)
            ),
        ];
        if self.size.approximate {
            warnings.push(
                "a mixture of experts that is not known here: its parameters are an upper bound"
                    .to_owned(),
            );
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    #![expect(
        clippy::cast_precision_loss,
        reason = "sizes of tests are far below 2^52"
    )]

    use super::*;

    fn billions(name: &str) -> Option<f64> {
        NamedSize::of(name).map(|size| size.parameters as f64 / 1e9)
    }

    #[test]
    fn sizes_are_whole_words_of_the_last_part() {
        for (name, expected) in [
            ("7b", Some(7.0)),
            ("llama3.1:70b-instruct-q4_K_M", Some(70.0)),
            ("qwen2.5:32b", Some(32.0)),
            ("qwen2.5-coder:0.5b", Some(0.5)),
            ("Qwen3-1.7B-Q8_0.gguf", Some(1.7)),
            ("smollm2:135m", Some(0.135)),
            ("/data/4bit/llama-8B", Some(8.0)),
            ("/models/70b/phi-3-mini.gguf", None),
            ("Phi-3-mini", None),
            ("gemma3n:e4b", None),
            ("llama-4bit", None),
            ("qwen3-30b-a3b", Some(30.0)),
            ("mixtral:8x7b", Some(46.7)),
            ("mixtral-8x22b-instruct", Some(140.6)),
            ("llama4:16x17b", Some(109.0)),
            ("", None),
            ("0b", None),
            ("99999999999999999999b", None),
            ("llama3.1", None),
        ] {
            assert_eq!(billions(name), expected, "{name}");
        }
    }

    #[test]
    fn mixtures() {
        let a3b = NamedSize::of("Qwen3-30B-A3B-Q4_K_M.gguf").unwrap();
        assert_eq!(a3b.active, Some(3_000_000_000));
        assert!(!a3b.approximate);
        let mixtral = NamedSize::of("mixtral:8x7b").unwrap();
        assert_eq!(mixtral.active, Some(12_900_000_000));
        let unknown = NamedSize::of("merge-4x8b").unwrap();
        assert_eq!(unknown.parameters, 32_000_000_000);
        assert!(unknown.approximate);
    }

    #[test]
    fn quantizations_by_name_and_never_a_guess() {
        assert_eq!(NamedQuant::parse("q4_k_m").unwrap().name, "Q4_K_M");
        assert_eq!(NamedQuant::parse("fp16").unwrap().name, "F16");
        for known in ["Q4_0", "IQ4_XS", "Q3_K_L", "BF16", "MXFP4", "F32"] {
            assert_eq!(NamedQuant::parse(known).unwrap().name, known);
        }
        let error = NamedQuant::parse("Q4_X").unwrap_err().to_string();
        assert!(
            error.starts_with("unknown quantization `Q4_X`; known are IQ1_S, IQ1_M,"),
            "{error}"
        );
        assert!(error.ends_with(", F32"));
        assert_eq!(
            NamedQuant::in_name("codellama:13b-instruct-fp16")
                .unwrap()
                .name,
            "F16"
        );
        assert_eq!(NamedQuant::in_name("a-Q8_0.gguf").unwrap().name, "Q8_0");
        assert_eq!(NamedQuant::in_name("llama3.1:8b"), None);
        for known in NamedQuant::all() {
            let file_type = super::super::FileType::from_name(known.name);
            assert!(file_type.is_some(), "{} is no file type", known.name);
        }
        assert!(QUANTS.is_sorted_by(|a, b| a.bits <= b.bits));
    }

    #[test]
    fn weights_are_near_those_of_real_files() {
        // Parameters and tensor bytes of files that llama-quantize's choice of types gives (tests/data/vram).
        for (parameters, name, bits) in [
            (9_241_705_984, "Q4_K_M", 4.9818),
            (6_738_415_616, "Q4_0", 4.5412),
            (8_030_261_312, "Q4_K_M", 4.8944),
            (1_235_814_432, "Q4_K_M", 5.1779),
            (1_235_814_432, "Q5_K_M", 5.8499),
            (70_553_706_560, "Q4_K_M", 4.8204),
            (30_532_122_624, "Q4_K_M", 4.8606),
            (999_885_952, "Q8_0", 8.5032),
        ] {
            let said = NamedQuant::parse(name).unwrap().bytes(parameters) as f64;
            let real = parameters as f64 * bits / 8.0;
            assert!((said / real - 1.0).abs() < 0.06, "{name}: {said} {real}");
        }
    }

    #[test]
    fn the_cache_of_a_usual_7b() {
        let usual = UsualShape::of(7_000_000_000);
        assert_eq!(usual.like, "Llama 3.1 8B");
        let range = usual.kv_bytes(4096, 2.0);
        // Qwen2.5 7B: 56 KiB per token; Llama 2 7B: 512 KiB.
        assert_eq!(range.low, 4096 * 57_344);
        assert_eq!(range.high, 4096 * 524_288);
        for (millions, shape) in SHAPES {
            assert_eq!(UsualShape::of(millions * 1_000_000), shape);
            let range = shape.kv_elements_range;
            assert!(range.low <= shape.kv_elements && shape.kv_elements <= range.high);
        }
    }

    #[test]
    fn a_name_is_enough_for_weights_and_a_range_of_the_cache() {
        let settings = Settings {
            ctx: 4096,
            ..Settings::of_runtime(super::super::Runtime::LlamaServer, None)
        };
        let model = NamedModel::read("7b", Some("Q4_K_M")).unwrap();
        // Llama 2 7B Q4_K_M (6.74 billion) is a file of 4.08 GB.
        assert_eq!(model.weights_bytes() / 10_000_000, 428);
        let range = model.kv_bytes(&settings);
        // Qwen2.5 7B 224 MiB, Llama 2 7B 2 GiB.
        assert_eq!((range.low >> 20, range.high >> 20), (224, 2048));
        let half = Settings {
            cache_k: super::super::CacheType::Q8_0,
            cache_v: super::super::CacheType::Q8_0,
            ..settings
        };
        assert_eq!(model.kv_bytes(&half).high, range.high * 34 / 64);
        assert!(model.warnings(&settings)[1].contains("224 to 2048 MiB"));
        assert_eq!(
            NamedModel::read("qwen2.5:7b-instruct-q8_0", None)
                .unwrap()
                .quant
                .name,
            "Q8_0"
        );
        assert!(matches!(
            NamedModel::read("7b", None),
            Err(NameError::NoQuantization(_))
        ));
        assert!(matches!(
            NamedModel::read("phi", Some("Q4_0")),
            Err(NameError::NoSize(_))
        ));
        assert!(matches!(
            NamedModel::read("7b", Some("Q9")),
            Err(NameError::Quantization(_))
        ));
        let merge = NamedModel::read("merge-4x8b", Some("Q4_0")).unwrap();
        assert_eq!(merge.warnings(&settings).len(), 3);
    }
}
