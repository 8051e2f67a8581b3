//! Whether a node read the whole prompt, judged by what it says it read.
//!
//! Servers cut a prompt that is longer than their window and say nothing: Ollama 0.32.15 reads 1,026 of 9,000 tokens at 2,048. All that
//! can be seen afterwards is the number of tokens that were read, and there are two ways to tell a cut from it:
//!
//! - It is smaller than the prompt can be. The estimate is hardly ever 60 % too high (see [`Prompt::of`]), so a count below five eighths of
//!   it (half of it, where the tokenizer is not known) is a cut, whatever the window.
//! - It is a number that cutting leaves: the window itself, the window less the room for the answer, or the half that llama.cpp's shift
//!   leaves, while the prompt may well be longer than the window. That finds the cuts that take little, as far as the window is known or is one
//!   of the sizes that people set.
//!
//! What neither tells stays open: a count below the window of a prompt that is about as long as the window may be whole, or may have lost
//! its oldest message (Ollama drops whole messages before it cuts).

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;

use serde::Serialize;

use super::Family;

/// Shortest prompt, as estimated, that is judged: shorter ones fit into any window, and templates weigh much in them.
const LEAST: u64 = 200;
/// Smallest window that is looked for without being known.
const LEAST_WINDOW: u64 = 2048;
/// Largest one.
const MOST_WINDOW: u64 = 1 << 20;
/// Tokens that servers leave free in a full window, at most: a marker, an end, a begin.
const SLACK: u64 = 8;
/// The same of a window that nobody told: each further number would make more whole prompts look like cut ones.
const BLIND_SLACK: u64 = 3;
/// Tokens that llama.cpp's context shift keeps from the front, when nobody says how many.
const KEPT: u64 = 4;
/// How many times the estimate a prompt may have, of scripts that its tokenizer hardly knows: Korean has 2.4 times as many tokens with Llama
/// 2 as with Qwen (`tests/data/token_counts.json`).
const UNDERESTIMATED: u64 = 5;
const UNDERESTIMATED_BY: u64 = 2;

/// What a prompt is estimated to have, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Prompt {
    /// The estimate.
    pub estimated: u64,
    /// It surely has at least so many …
    pub low: u64,
    /// … and at most so many.
    pub high: u64,
}

impl Prompt {
    /// The bounds of an estimate.
    ///
    /// `said` of its `characters` are the conversation; the rest (definitions and calls of tools, thoughts) is left out by some templates.
    /// `per_token` are the characters of a token, as the model was seen to count them: the smaller of the two estimates is the lower bound.
    /// The highest errors together come to 55 %: 25 % of a text, 8 % added for an unknown tokenizer, 15 % from sampling a long body (the
    /// figures that `decide` allows for too).
    /// A model of unknown family is estimated with Qwen's weights, which count each digit, and may have half of that.
    pub fn of(
        family: Family,
        estimated: u64,
        characters: u64,
        said: u64,
        per_token: Option<f64>,
    ) -> Self {
        let counted = per_token
            .filter(|ratio| ratio.is_finite() && *ratio > 0.1)
            .map(|ratio| whole(count(characters) / ratio));
        let least = counted.map_or(estimated, |counted| counted.min(estimated));
        let most = counted.map_or(estimated, |counted| counted.max(estimated));
        let share = if characters == 0 {
            1.0
        } else {
            count(said.min(characters)) / count(characters)
        };
        Self {
            estimated,
            low: match family {
                Family::Unknown => whole(count(least) * share) / 2,
                _ => whole(count(least) * share) / 8 * 5,
            },
            high: most.saturating_mul(UNDERESTIMATED) / UNDERESTIMATED_BY,
        }
    }
}

/// What is known of the windows that the prompt may have met.
#[derive(Debug, Clone, Copy, Default)]
pub struct Windows<'a> {
    /// The context that was sent or loaded, and others that the node may have used instead, likeliest first.
    pub known: &'a [u64],
    /// Most tokens of the answer, where the request limits it.
    pub answer: Option<u64>,
    /// Whether the prompt is one text: counts of several embeddings together tell nothing of a window.
    pub one_text: bool,
}

/// What the node says it read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reading {
    /// Tokens of the prompt.
    pub tokens: Option<u64>,
    /// Whether tokens of its cache may be missing in that: a prompt that begins like an earlier one, at a node that does not tell its cached
    /// tokens and was not seen to count them.
    pub may_lack_cached: bool,
}

/// A prompt that was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cut {
    /// Tokens it was estimated to have.
    pub estimated: u64,
    /// Tokens that were read.
    pub read: u64,
    /// The window that it was cut to; `None`: not known.
    pub window: Option<u64>,
}

/// What is to be thought of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A part of the prompt was not read.
    Cut(Cut),
    /// All of it was read, as far as its length tells.
    Whole,
    /// It cannot be told.
    Unknown,
}

/// Judges what a node read of a prompt.
pub fn judge(prompt: &Prompt, windows: &Windows<'_>, reading: &Reading) -> Verdict {
    let Some(read) = reading.tokens.filter(|tokens| *tokens > 0) else {
        return Verdict::Unknown;
    };
    if prompt.estimated < LEAST {
        return Verdict::Whole;
    }
    let cut = |window| {
        Verdict::Cut(Cut {
            estimated: prompt.estimated,
            read,
            window,
        })
    };
    if windows.one_text
        && let Some(window) = left_by_a_cut(prompt, windows, read)
    {
        return cut(Some(window));
    }
    if read < prompt.low {
        if reading.may_lack_cached {
            return Verdict::Unknown;
        }
        let fitting = windows.known.iter().copied();
        return cut(fitting
            .filter(|window| *window >= read && windows.one_text)
            .min());
    }
    let doubtful = windows
        .known
        .first()
        .is_some_and(|window| read <= *window && prompt.estimated > *window);
    if doubtful && windows.one_text {
        Verdict::Unknown
    } else {
        Verdict::Whole
    }
}

/// The window, if cutting to it leaves just so many tokens and the prompt may be longer than it.
fn left_by_a_cut(prompt: &Prompt, windows: &Windows<'_>, read: u64) -> Option<u64> {
    let may_exceed = |window: &u64| prompt.high > *window;
    let answer = windows.answer.unwrap_or(0);
    let known = windows.known.iter().copied().find(|window| {
        let full = read <= *window && read.saturating_add(SLACK) >= *window;
        let with_room = answer > 0 && read.saturating_add(answer.min(window / 2)) == *window;
        let half = read.abs_diff(window.saturating_add(KEPT) / 2) <= KEPT / 2;
        *window >= SLACK * 4 && may_exceed(window) && (full || with_room || half)
    });
    known.or_else(|| {
        let full = sizes().find(|size| read <= *size && read.saturating_add(BLIND_SLACK) >= *size);
        let with_room =
            sizes().find(|size| answer > 0 && read.saturating_add(answer.min(size / 2)) == *size);
        let half = sizes().find(|size| read == (size + KEPT) / 2);
        full.filter(may_exceed)
            .or(with_room.filter(may_exceed))
            .or(half.filter(|size| may_exceed(size) && prompt.estimated > read))
    })
}

/// Windows that people and programs set: powers of two, and half as much again.
fn sizes() -> impl Iterator<Item = u64> {
    std::iter::successors(Some(LEAST_WINDOW), |size| {
        Some(size * 2).filter(|size| *size <= MOST_WINDOW)
    })
    .flat_map(|size| [size, size / 2 * 3])
}

/// Prompts whose beginnings are remembered for one place.
const MOST_BEGINNINGS: usize = 64;
/// Places that are remembered.
const MOST_PLACES: usize = 1024;

/// Which places were sent which beginnings of prompts before, and which of them count tokens from their caches.
#[derive(Debug, Clone)]
pub struct Beginnings<Place> {
    sent: HashMap<Place, VecDeque<u64>>,
    counting: HashSet<Place>,
}

impl<Place> Default for Beginnings<Place> {
    fn default() -> Self {
        Self {
            sent: HashMap::new(),
            counting: HashSet::new(),
        }
    }
}

impl<Place: Eq + Hash + Clone> Beginnings<Place> {
    /// Notes a prompt by the hash of its beginning; whether the place was sent one that begins like it before.
    pub fn note(&mut self, place: &Place, beginning: u64) -> bool {
        if self.sent.len() >= MOST_PLACES && !self.sent.contains_key(place) {
            // Rare enough that which one goes does not matter.
            self.sent.clear();
            self.counting.clear();
        }
        let sent = self.sent.entry(place.clone()).or_default();
        let before = sent.iter().position(|known| *known == beginning);
        if let Some(before) = before {
            sent.remove(before);
        } else if sent.len() >= MOST_BEGINNINGS {
            sent.pop_front();
        }
        sent.push_back(beginning);
        before.is_some()
    }

    /// Whether the place was seen to count tokens from its cache.
    pub fn counts_cached(&self, place: &Place) -> bool {
        self.counting.contains(place)
    }

    /// A prompt that was in the cache for the most part was counted whole.
    pub fn counted_cached(&mut self, place: &Place) {
        if self.sent.contains_key(place) {
            self.counting.insert(place.clone());
        }
    }

    /// What the place had is gone: its model was loaded again.
    pub fn forget(&mut self, place: &Place) {
        self.sent.remove(place);
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "token counts are far below 2^52"
)]
fn count(number: u64) -> f64 {
    number as f64
}

/// A positive number without its fraction.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float to integer cast saturates, and nothing here is negative"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(tokens: u64) -> Reading {
        Reading {
            tokens: Some(tokens),
            may_lack_cached: false,
        }
    }

    fn at(known: &[u64]) -> Windows<'_> {
        Windows {
            known,
            answer: None,
            one_text: true,
        }
    }

    fn about(tokens: u64) -> Prompt {
        Prompt::of(Family::Llama3, tokens, tokens * 4, tokens * 4, None)
    }

    /// The window of a cut; 0: not known.
    fn window(verdict: Verdict) -> Option<u64> {
        match verdict {
            Verdict::Cut(cut) => Some(cut.window.unwrap_or(0)),
            _ => None,
        }
    }

    #[test]
    fn what_real_servers_were_seen_to_leave_is_a_cut() {
        // Ollama 0.32.15: prompts of 3,000 and 9,000 words, and one of 31 messages of which it dropped the oldest.
        for (estimated, known, left) in [
            (3000, 2048, 1026),
            (9000, 2048, 1026),
            (9000, 4096, 2050),
            (6500, 2048, 1839),
        ] {
            let verdict = judge(&about(estimated), &at(&[known]), &read(left));
            assert_eq!(window(verdict), Some(known), "{estimated}");
        }
        // The same while nobody knows the window; that of the messages then stays unknown too.
        assert_eq!(
            window(judge(&about(3000), &at(&[]), &read(1026))),
            Some(2048)
        );
        assert_eq!(window(judge(&about(6500), &at(&[]), &read(1839))), Some(0));
    }

    #[test]
    fn a_cut_that_takes_little_shows_in_the_number_that_it_leaves() {
        let full = judge(&about(4200), &at(&[4096]), &read(4096));
        assert_eq!(window(full), Some(4096));
        let with_room = Windows {
            answer: Some(500),
            ..at(&[4096])
        };
        let verdict = judge(&about(3700), &with_room, &read(3596));
        assert_eq!(window(verdict), Some(4096));
        assert_eq!(judge(&about(3700), &with_room, &read(3590)), Verdict::Whole);
    }

    #[test]
    fn a_whole_prompt_is_whole_and_a_doubtful_one_is_not_judged() {
        assert_eq!(
            judge(&about(3000), &at(&[8192]), &read(2600)),
            Verdict::Whole
        );
        assert_eq!(
            judge(&about(3000), &at(&[8192]), &read(3900)),
            Verdict::Whole
        );
        assert_eq!(
            judge(&about(8500), &at(&[8192]), &read(7900)),
            Verdict::Unknown
        );
        assert_eq!(
            judge(&about(9000), &at(&[8192]), &Reading::default()),
            Verdict::Unknown
        );
        assert_eq!(judge(&about(150), &at(&[2048]), &read(20)), Verdict::Whole);
    }

    #[test]
    fn tokens_of_a_cache_that_are_not_counted_are_no_cut() {
        let cached = Reading {
            may_lack_cached: true,
            ..read(25)
        };
        assert_eq!(judge(&about(5000), &at(&[8192]), &cached), Verdict::Unknown);
        let half = Reading {
            may_lack_cached: true,
            ..read(1026)
        };
        assert_eq!(window(judge(&about(5000), &at(&[2048]), &half)), Some(2048));
    }

    #[test]
    fn definitions_of_tools_that_a_template_leaves_out_are_no_cut() {
        // 6,000 of 8,000 characters are tools.
        let prompt = Prompt::of(Family::Llama3, 2000, 8000, 2000, None);
        assert_eq!(judge(&prompt, &at(&[8192]), &read(480)), Verdict::Whole);
        assert_eq!(prompt.low, 310);
    }

    #[test]
    fn what_a_model_was_seen_to_count_widens_the_lower_bound_and_never_narrows_it() {
        let of = |ratio| Prompt::of(Family::Llama3, 1000, 4000, 4000, ratio);
        assert_eq!(of(Some(8.0)).low, 310);
        assert_eq!(of(Some(2.0)).low, 625);
        assert_eq!(of(Some(2.0)).high, 5000);
        assert_eq!(of(Some(f64::NAN)).low, 625);
    }

    #[test]
    fn beginnings_are_remembered_within_bounds() {
        let mut beginnings = Beginnings::default();
        assert!(!beginnings.note(&1, 7));
        assert!(beginnings.note(&1, 7) && !beginnings.note(&2, 7));
        beginnings.counted_cached(&1);
        assert!(beginnings.counts_cached(&1) && !beginnings.counts_cached(&2));
        beginnings.forget(&1);
        assert!(!beginnings.note(&1, 7), "its model was loaded again");
        for place in 0..3000 {
            for beginning in 0..100 {
                beginnings.note(&place, beginning);
            }
        }
        assert!(beginnings.sent.len() <= MOST_PLACES);
        assert!(
            beginnings
                .sent
                .values()
                .all(|sent| sent.len() <= MOST_BEGINNINGS)
        );
    }

    proptest! {
        /// Whatever is told, nothing panics, and nothing is called a cut that read as much as the prompt may have.
        #[test]
        fn all_that_there_may_be_is_never_a_cut(
            estimated in any::<u64>(),
            characters in any::<u64>(),
            said in any::<u64>(),
            ratio in prop::option::of(-1.0_f64..100.0),
            known in prop::collection::vec(any::<u64>(), 0..3),
            answer in prop::option::of(any::<u64>()),
            tokens in prop::option::of(any::<u64>()),
        ) {
            let prompt = Prompt::of(Family::Unknown, estimated / 4, characters, said, ratio);
            let windows = Windows { known: &known, answer: answer.map(|answer| answer / 2), one_text: true };
            let reading = Reading { tokens: tokens.map(|tokens| tokens / 4), may_lack_cached: false };
            if let Verdict::Cut(cut) = judge(&prompt, &windows, &reading) {
                prop_assert!(cut.read < prompt.high);
            }
        }
    }
}
