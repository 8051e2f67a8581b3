//! What a simulated model says: words chosen by the seed and the prompt, marked as simulated.

use super::model::PREFIX_BLOCK;
use super::seed::{Rng, hash};

/// Words of an answer. They mean nothing, and are meant to look so.
const WORDS: &[&str] = &[
    "amber", "basin", "cedar", "delta", "ember", "fjord", "grove", "harbor", "island", "juniper",
    "kettle", "lantern", "meadow", "north", "orchard", "pebble", "quartz", "river", "saddle",
    "timber", "umbra", "valley", "willow", "yarrow", "zephyr",
];

/// Tokens of an answer that nobody limits, at least and beyond that.
const LENGTH: (u32, u64) = (12, 37);

/// Tokens of `text`: four characters each, the usual rule of thumb for English.
pub(super) fn tokens(text: &str) -> u32 {
    u32::try_from(text.chars().count().div_ceil(4)).unwrap_or(u32::MAX)
}

/// Hashes of the prompt's blocks, for the prompt cache. The unfinished last block counts for nothing, as a later prompt may go on.
pub(super) fn prefix(prompt: &str) -> Vec<u64> {
    prompt
        .as_bytes()
        .chunks_exact(PREFIX_BLOCK)
        .map(|block| hash(&[block]))
        .collect()
}

/// An answer, token by token, with the reason why it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// One piece per token.
    pub pieces: Vec<String>,
    /// It ended because of the limit, not by itself.
    pub cut_by_limit: bool,
}

/// The answer of node `node` to `prompt`. The words follow from `seed` and the prompt only; `natural` replaces the length that they
/// choose, `limit` cuts it (`num_predict`).
pub(super) fn answer(
    node: &str,
    seed: u64,
    prompt: &str,
    natural: Option<u32>,
    limit: Option<u32>,
) -> Answer {
    let mut rng = Rng::new(hash(&[&seed.to_le_bytes(), prompt.as_bytes()]));
    let chosen = LENGTH.0 + u32::try_from(rng.below(LENGTH.1)).unwrap_or(0);
    let natural = natural.unwrap_or(chosen).max(1);
    let count = natural.min(limit.unwrap_or(u32::MAX));
    let mark = [
        "[simulated".to_owned(),
        " by".to_owned(),
        format!(" {node}]"),
    ];
    let words = std::iter::repeat_with(|| {
        let index = rng.below(WORDS.len() as u64);
        let word = usize::try_from(index).ok().and_then(|i| WORDS.get(i));
        format!(" {}", word.unwrap_or(&"word"))
    });
    Answer {
        pieces: mark.into_iter().chain(words).take(count as usize).collect(),
        cut_by_limit: count < natural,
    }
}

/// The answer to a request that wants JSON: a small document that says what it is.
pub(super) fn json_answer(node: &str, limit: Option<u32>) -> Answer {
    let document = [
        "{\"".to_owned(),
        "simulated".to_owned(),
        "_by".to_owned(),
        "\":\"".to_owned(),
        node.to_owned(),
        "\"}".to_owned(),
    ];
    let limit = limit.unwrap_or(u32::MAX) as usize;
    Answer {
        cut_by_limit: limit < document.len(),
        pieces: document.into_iter().take(limit).collect(),
    }
}

/// A unit vector of `length` numbers that follows from the text alone.
pub(super) fn embedding(text: &str, length: u32) -> Vec<f64> {
    let mut rng = Rng::new(hash(&[text.as_bytes()]));
    let raw: Vec<f64> = (0..length).map(|_| rng.unit() - 0.5).collect();
    let norm = raw
        .iter()
        .map(|x| x * x)
        .sum::<f64>()
        .sqrt()
        .max(f64::MIN_POSITIVE);
    // Six digits: what a 32-bit float holds.
    raw.iter().map(|x| (x / norm * 1e6).round() / 1e6).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_and_the_prompt_decide_the_answer() {
        let say = |seed, prompt| answer("sim-1", seed, prompt, None, None);
        assert_eq!(say(1, "hello"), say(1, "hello"));
        assert_ne!(say(1, "hello"), say(2, "hello"));
        assert_ne!(say(1, "hello"), say(1, "hello!"));
    }

    #[test]
    fn an_answer_says_that_it_is_simulated() {
        let text = answer("sim-2", 0, "x", None, None).pieces.concat();
        assert!(text.starts_with("[simulated by sim-2] "), "{text}");
    }

    #[test]
    fn a_limit_cuts_and_says_so() {
        let cut = answer("sim-1", 0, "x", None, Some(5));
        assert_eq!((cut.pieces.len(), cut.cut_by_limit), (5, true));
        let whole = answer("sim-1", 0, "x", Some(100), Some(100));
        assert_eq!((whole.pieces.len(), whole.cut_by_limit), (100, false));
    }

    #[test]
    fn json_is_json_unless_cut() {
        let text = json_answer("sim-1", None).pieces.concat();
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
        assert!(json_answer("sim-1", Some(2)).cut_by_limit);
    }

    #[test]
    fn embeddings_are_unit_vectors_of_their_text() {
        let vector = embedding("hello", 1024);
        let norm: f64 = vector.iter().map(|x| x * x).sum();
        assert!((norm - 1.0).abs() < 1e-3);
        assert_eq!(vector, embedding("hello", 1024));
        assert_ne!(vector, embedding("hallo", 1024));
    }

    #[test]
    fn a_longer_prompt_keeps_its_beginning() {
        let short = prefix(&"a".repeat(200));
        let long = prefix(&"a".repeat(400));
        assert_eq!(short.len(), 3);
        assert_eq!(short[..], long[..3]);
    }
}
