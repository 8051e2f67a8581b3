//! Weights of the token estimator: one row per tokenizer family, one column per feature.
//!
//! This project's own fit: non-negative least squares against the families' real tokenizers on about 2,900 samples of 35 kinds of text.
//! The fit had no Greek and next to no Hebrew text, so it says nothing about them: they are counted as the scripts whose measured
//! tokens per letter are nearest from above ([`Feature::Thai`], [`Feature::Arabic`]).

/// What the estimator counts, in the order of the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Feature {
    /// A run of Latin letters in text that reads as English or code.
    Word,
    /// Such a word of 7 letters or more.
    Word7,
    /// Such a word of 11 letters or more.
    Word11,
    /// Its letters beyond the fifteenth.
    ExtraLetter,
    /// A lower-case letter followed by an upper-case one.
    Camel,
    /// An upper-case letter inside a word, other than a camel hump.
    Upper,
    /// A decimal digit.
    Digit,
    /// Up to three digits in a row.
    DigitGroup,
    /// A run of ASCII punctuation.
    Punctuation,
    /// Its characters beyond the fourth.
    ExtraPunctuation,
    /// A run of line ends.
    Newline,
    /// A run of two or more blanks.
    Indent,
    /// Its characters beyond the eighth.
    ExtraIndent,
    /// A run of Latin letters in text that reads as another language.
    ForeignWord,
    /// Its letters beyond the third.
    ForeignLetter,
    /// A Latin letter outside ASCII, or a combining accent.
    Accent,
    /// A Cyrillic letter.
    Cyrillic,
    /// A run of Cyrillic letters.
    CyrillicWord,
    /// An Arabic letter; Hebrew ones too.
    Arabic,
    /// A letter of an Indic script.
    Indic,
    /// A Thai, Lao or Tibetan letter; Greek ones too.
    Thai,
    /// A kana.
    Kana,
    /// A Han character.
    Han,
    /// A Hangul syllable or letter.
    Hangul,
    /// CJK punctuation and full-width forms.
    CjkPunctuation,
    /// A symbol outside ASCII: dashes, quotes, arrows, box drawing.
    Symbol,
    /// Everything else: emoji, rarer scripts.
    Other,
}

/// How many there are.
pub(super) const FEATURES: usize = Feature::Other as usize + 1;

/// Tokens per unit of each feature.
pub(super) type Weights = [f64; FEATURES];

/// Qwen 2.5.
pub(super) const QWEN25: Weights = [
    1.011, 0.144, 0.135, 0.005, 0.915, 0.167, 0.703, 0.981, 0.771, 0.000, 0.415, 1.105, 0.000,
    0.600, 0.318, 0.453, 0.370, 0.000, 0.461, 1.137, 0.577, 0.678, 0.676, 0.888, 1.360, 0.526,
    1.105,
];

/// Llama 3.
pub(super) const LLAMA3: Weights = [
    1.012, 0.145, 0.142, 0.000, 0.997, 0.150, 0.000, 1.386, 0.787, 0.000, 0.380, 1.070, 0.000,
    0.642, 0.304, 0.353, 0.323, 0.109, 0.476, 0.635, 0.493, 0.694, 0.871, 0.811, 0.878, 0.527,
    2.894,
];

/// Gemma 2.
pub(super) const GEMMA2: Weights = [
    1.013, 0.031, 0.051, 0.115, 0.993, 0.142, 0.848, 0.560, 1.001, 0.030, 1.144, 0.984, 0.232,
    0.701, 0.192, 0.317, 0.211, 0.286, 0.390, 0.453, 0.373, 0.406, 0.625, 0.857, 0.983, 0.404,
    1.083,
];

/// Mistral 7B v0.1 (32k vocabulary).
pub(super) const MISTRAL1: Weights = [
    1.033, 0.316, 0.179, 0.000, 1.469, 0.390, 0.811, 0.619, 1.059, 0.058, 1.455, 0.872, 0.369,
    0.678, 0.294, 1.833, 0.389, 0.267, 1.104, 1.214, 1.035, 1.145, 1.087, 1.465, 1.126, 0.913,
    3.064,
];

/// Llama 1 and 2.
pub(super) const LLAMA2: Weights = [
    1.043, 0.367, 0.394, 0.000, 1.512, 0.378, 0.834, 0.575, 1.054, 0.063, 1.351, 0.954, 0.259,
    0.699, 0.261, 1.891, 0.299, 0.552, 1.128, 1.288, 1.127, 1.111, 1.449, 2.061, 1.903, 0.749,
    3.592,
];

/// `DeepSeek` V3.
pub(super) const DEEPSEEK3: Weights = [
    1.008, 0.137, 0.025, 0.076, 1.136, 0.345, 0.000, 1.375, 0.844, 0.041, 0.483, 1.193, 0.208,
    0.668, 0.255, 0.968, 0.286, 0.181, 0.443, 0.741, 0.346, 0.716, 0.621, 0.876, 0.885, 0.542,
    1.859,
];

/// `OpenAI`'s `cl100k_base`.
pub(super) const CL100K: Weights = [
    1.010, 0.145, 0.143, 0.000, 0.998, 0.126, 0.000, 1.393, 0.792, 0.000, 0.448, 1.002, 0.000,
    0.650, 0.258, 1.279, 0.486, 0.107, 0.870, 1.245, 0.986, 1.103, 1.134, 1.278, 1.146, 0.551,
    2.838,
];

/// `OpenAI`'s `o200k_base`.
pub(super) const O200K: Weights = [
    0.995, 0.155, 0.005, 0.000, 1.083, 0.162, 0.000, 1.403, 0.815, 0.002, 0.444, 0.989, 0.036,
    0.641, 0.234, 0.465, 0.286, 0.000, 0.387, 0.415, 0.424, 0.781, 0.825, 0.776, 0.808, 0.405,
    1.990,
];
