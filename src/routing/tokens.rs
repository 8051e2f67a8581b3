//! Token estimates without a tokenizer: one pass over the text counts words, digits, punctuation and scripts, and each tokenizer
//! family weighs the counts in its own way. Cheap enough to run on every request, whatever its size.

mod count;
#[expect(
    clippy::approx_constant,
    reason = "fitted weights may come near a constant"
)]
mod weights;

use weights::Weights;

/// A tokenizer family with weights of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Family {
    /// Qwen 2 and later.
    Qwen25,
    /// Llama 3 and later.
    Llama3,
    /// Gemma.
    Gemma2,
    /// Mistral models with the 32k vocabulary.
    Mistral1,
    /// Llama 1 and 2, and what was built on them.
    Llama2,
    /// `DeepSeek` V2 and later.
    DeepSeek3,
    /// `OpenAI` models up to GPT-4.
    Cl100k,
    /// `OpenAI` models from GPT-4o on.
    O200k,
    /// A model of unknown family: Qwen's weights and `UNKNOWN_MARGIN`.
    #[default]
    Unknown,
}

/// Factor on Qwen's estimate for a model of unknown family: from the same documents, a too small estimate puts one in 500 into too
/// small a context, without the margin one in 30.
const UNKNOWN_MARGIN: f64 = 1.08;

/// Parts of model names, most telling first: a distilled model is named after its teacher and its base, and has the base's tokenizer.
const NAMED: [(&str, Family); 36] = [
    ("qwen", Family::Qwen25),
    ("qwq", Family::Qwen25),
    // Ollama's small `deepseek-r1` models are distilled into Qwen; the large one is told by its size.
    ("deepseek-r1:671b", Family::DeepSeek3),
    ("deepseek-r1:", Family::Qwen25),
    ("gpt-oss", Family::O200k),
    ("gpt-4o", Family::O200k),
    ("gpt-4.1", Family::O200k),
    ("gpt-4.5", Family::O200k),
    ("gpt-5", Family::O200k),
    ("o200k", Family::O200k),
    ("gpt-4", Family::Cl100k),
    ("gpt-3.5", Family::Cl100k),
    ("cl100k", Family::Cl100k),
    ("phi-4", Family::Cl100k),
    ("phi4", Family::Cl100k),
    ("phi-3", Family::Llama2),
    ("phi3", Family::Llama2),
    ("codellama", Family::Llama2),
    ("code-llama", Family::Llama2),
    ("tinyllama", Family::Llama2),
    ("llama-2", Family::Llama2),
    ("llama2", Family::Llama2),
    ("vicuna", Family::Llama2),
    ("llama", Family::Llama3),
    ("gemma", Family::Gemma2),
    // Later Mistral models have another, larger vocabulary that was not fitted.
    ("mistral-nemo", Family::Unknown),
    ("mistral-small", Family::Unknown),
    ("mistral-medium", Family::Unknown),
    ("mistral-large", Family::Unknown),
    ("ministral", Family::Unknown),
    ("mistral", Family::Mistral1),
    ("mixtral", Family::Mistral1),
    ("zephyr", Family::Mistral1),
    ("hermes-2", Family::Mistral1),
    ("deepseek", Family::DeepSeek3),
    ("hermes-3", Family::Llama3),
];

/// The letters of each part of [`NAMED`]: a name without them all is not searched for it.
const NAMED_LETTERS: [u32; NAMED.len()] = {
    let mut needed = [0; NAMED.len()];
    let mut at = 0;
    while at < NAMED.len() {
        needed[at] = letters(NAMED[at].0.as_bytes());
        at += 1;
    }
    needed
};

/// Which letters a name has, one bit for each, without case.
const fn letters(name: &[u8]) -> u32 {
    let mut present = 0;
    let mut at = 0;
    while at < name.len() {
        let letter = name[at].to_ascii_lowercase();
        if letter.is_ascii_lowercase() {
            present |= 1 << (letter - b'a');
        }
        at += 1;
    }
    present
}

impl Family {
    /// Every family, [`Family::Unknown`] included.
    pub const ALL: [Self; 9] = [
        Self::Qwen25,
        Self::Llama3,
        Self::Gemma2,
        Self::Mistral1,
        Self::Llama2,
        Self::DeepSeek3,
        Self::Cl100k,
        Self::O200k,
        Self::Unknown,
    ];

    /// The family of a model, by its name; owner, tag and file name count as part of it.
    pub fn of_model(name: &str) -> Self {
        let contains = |part: &str| {
            name.as_bytes()
                .windows(part.len())
                .any(|window| window.eq_ignore_ascii_case(part.as_bytes()))
        };
        let present = letters(name.as_bytes());
        NAMED
            .iter()
            .zip(NAMED_LETTERS)
            .find(|((part, _), needed)| needed & !present == 0 && contains(part))
            .map_or(Self::Unknown, |(&(_, family), _)| family)
    }

    /// The word used in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Qwen25 => "qwen25",
            Self::Llama3 => "llama3",
            Self::Gemma2 => "gemma2",
            Self::Mistral1 => "mistral1",
            Self::Llama2 => "llama2",
            Self::DeepSeek3 => "deepseek3",
            Self::Cl100k => "cl100k",
            Self::O200k => "o200k",
            Self::Unknown => "unknown",
        }
    }

    /// Its weights and the factor on their sum.
    fn weights(self) -> (&'static Weights, f64) {
        match self {
            Self::Qwen25 => (&weights::QWEN25, 1.0),
            Self::Llama3 => (&weights::LLAMA3, 1.0),
            Self::Gemma2 => (&weights::GEMMA2, 1.0),
            Self::Mistral1 => (&weights::MISTRAL1, 1.0),
            Self::Llama2 => (&weights::LLAMA2, 1.0),
            Self::DeepSeek3 => (&weights::DEEPSEEK3, 1.0),
            Self::Cl100k => (&weights::CL100K, 1.0),
            Self::O200k => (&weights::O200K, 1.0),
            Self::Unknown => (&weights::QWEN25, UNKNOWN_MARGIN),
        }
    }
}

/// Estimated tokens of a text, without a chat template's. At least 1 for a text that is not empty.
pub fn estimate_tokens(text: &str, family: Family) -> u64 {
    if text.is_empty() {
        return 0;
    }
    let (weights, factor) = family.weights();
    let tokens = count::weighted(text, weights) * factor;
    // A text has fewer than 2^52 characters and no weight is negative.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "finite, positive and far below 2^64"
    )]
    let tokens = tokens.round() as u64;
    tokens.max(1)
}

/// The source documents' estimate: Unicode characters divided by four, rounded down.
pub fn chars4(text: &str) -> u64 {
    text.chars().count() as u64 / 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_name_tells_its_family() {
        for (name, family) in [
            ("qwen2.5-coder:7b", Family::Qwen25),
            (
                "hf.co/bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M",
                Family::Llama3,
            ),
            ("codellama:13b", Family::Llama2),
            ("DeepSeek-R1-Distill-Llama-8B", Family::Llama3),
            ("deepseek-r1:7b", Family::Qwen25),
            ("deepseek-v3", Family::DeepSeek3),
            ("mistral:7b", Family::Mistral1),
            ("mistral-nemo", Family::Unknown),
            ("gemma3:4b", Family::Gemma2),
            ("gpt-4o-mini", Family::O200k),
            ("gpt-4-turbo", Family::Cl100k),
            ("nomic-embed-text", Family::Unknown),
            ("", Family::Unknown),
        ] {
            assert_eq!(Family::of_model(name), family, "{name}");
        }
    }

    #[test]
    fn an_unknown_family_is_estimated_with_a_margin() {
        let text = "The quick brown fox jumps over the lazy dog. ".repeat(50);
        let qwen = estimate_tokens(&text, Family::Qwen25);
        let unknown = estimate_tokens(&text, Family::Unknown);
        assert!(
            unknown > qwen && unknown < qwen * 11 / 10,
            "{qwen} {unknown}"
        );
    }

    #[test]
    fn chars4_counts_characters_and_rounds_down() {
        assert_eq!(chars4(""), 0);
        assert_eq!(chars4("abc"), 0);
        assert_eq!(chars4("ação de"), 1);
        assert_eq!(chars4("日本語文日本語文"), 2);
    }

    #[test]
    fn nothing_is_no_tokens_and_anything_is_at_least_one() {
        for family in Family::ALL {
            assert_eq!(estimate_tokens("", family), 0);
            assert_eq!(estimate_tokens(" ", family), 1);
            assert_eq!(estimate_tokens("a", family), 1);
        }
    }
}
