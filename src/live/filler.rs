//! Text without meaning of a wanted length: notes of a warehouse that does not exist.

use std::fmt::Write;

use crate::measure::Random;

const THINGS: &[&str] = &[
    "copper pipe",
    "oak board",
    "paper roll",
    "glass jar",
    "steel bolt",
    "rubber seal",
    "cotton sheet",
    "brass hinge",
    "tin lid",
    "cork tile",
    "wool felt",
    "clay brick",
];
const PLACES: &[&str] = &[
    "north hall",
    "lower cellar",
    "east ramp",
    "river dock",
    "old mill",
    "yard shed",
    "glass house",
    "upper loft",
];
const DEEDS: &[&str] = &[
    "were counted twice",
    "arrived late",
    "were moved",
    "are reserved",
    "were returned",
    "need a new label",
    "wait for inspection",
    "were repacked",
];

/// About `tokens` tokens of notes that follow from the seed alone.
pub(super) fn notes(seed: u64, tokens: u64) -> String {
    let mut random = Random::new(seed);
    let mut text = String::new();
    let wanted = usize::try_from(tokens.saturating_mul(4)).unwrap_or(usize::MAX);
    while text.len() < wanted {
        let (thing, place, deed) = (
            pick(&mut random, THINGS),
            pick(&mut random, PLACES),
            pick(&mut random, DEEDS),
        );
        let (count, shelf) = (2 + random.below(97), 1 + random.below(40));
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "{count} {thing}s at the {place}, shelf {shelf}, {deed}. "
        );
    }
    // All of it is ASCII.
    text.truncate(wanted);
    text
}

/// A word of eight letters that follows from the seed.
pub(super) fn word(seed: u64) -> String {
    const CONSONANTS: &[&str] = &[
        "b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "v", "z",
    ];
    const VOWELS: &[&str] = &["a", "e", "i", "o", "u"];
    let mut random = Random::new(seed);
    let mut word = String::new();
    for _ in 0..4 {
        word.push_str(pick(&mut random, CONSONANTS));
        word.push_str(pick(&mut random, VOWELS));
    }
    word
}

fn pick(random: &mut Random, from: &[&'static str]) -> &'static str {
    from.get(random.below(from.len()))
        .copied()
        .unwrap_or_default()
}

/// A seed that follows from several numbers.
pub(super) fn mixed(numbers: &[u64]) -> u64 {
    numbers
        .iter()
        .fold(0, |seed, number| Random::new(seed ^ *number).next_u64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides_the_text_and_the_length_is_as_wanted() {
        assert_eq!(notes(1, 700), notes(1, 700));
        assert_ne!(notes(1, 700), notes(2, 700));
        assert_eq!(notes(3, 256).len(), 1024);
        assert_eq!(notes(3, 0), "");
        assert_eq!(word(5).len(), 8);
        assert_ne!(mixed(&[1, 2]), mixed(&[2, 1]));
    }
}
