//! Which node is likely to have the beginning of a prompt in its cache.
//!
//! A server keeps the last prompts of its slots; a request that begins like one of them reads only the rest. What is kept here is what
//! each node was sent last, as the hashes of the prompt's blocks, so that the saved tokens count in the decision: the same conversation goes to
//! the same node while that is cheaper than waiting for it.
//!
//! Where the hashes say nothing (a client that changes the beginning of its prompts, or a prompt that is shorter than a block), the
//! conversation that the client names says it instead. That is only its word, so how far it held so far counts: a name that never saved
//! anything is worth nothing.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Blocks of one prompt that are remembered: 262,144 tokens of 256.
const MOST_BLOCKS: usize = 1024;
/// Prompts that are remembered of one model on one node.
const MOST_PROMPTS: usize = 16;
/// Models on nodes that are remembered.
const MOST_PLACES: usize = 1024;
/// Parts of the whole in which a share is counted.
const WHOLE: u64 = 1024;

/// A conversation as its client names it, hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionKey(pub u64);

/// A prompt as it is remembered.
#[derive(Debug, Clone, Copy, Default)]
pub struct Remembered<'p> {
    /// Hashes of its beginning, block by block.
    pub blocks: &'p [u64],
    /// The conversation that it is part of, where its client names one.
    pub session: Option<SessionKey>,
    /// Its tokens.
    pub tokens: u64,
}

/// How much of a prompt a place is likely to have, and how that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Likely {
    /// Nothing is known.
    #[default]
    Nothing,
    /// So many leading blocks are those of a prompt that was sent there.
    Blocks(usize),
    /// The conversation was there. So many tokens, by what its client's names were worth before, out of so many that it may be.
    Session {
        /// Tokens that are expected.
        expected: u64,
        /// Tokens that both prompts have at most in common.
        most: u64,
    },
}

/// What was sent where, by place: a model on a node, in the caller's terms.
#[derive(Debug, Clone)]
pub struct Affinity<Place> {
    places: HashMap<Place, Held>,
}

/// What a place holds.
#[derive(Debug, Clone)]
struct Held {
    sent: VecDeque<Sent>,
    /// How much of what conversations promised was there, in parts of [`WHOLE`].
    kept_word: u64,
}

impl Default for Held {
    fn default() -> Self {
        Self {
            sent: VecDeque::new(),
            kept_word: WHOLE,
        }
    }
}

#[derive(Debug, Clone)]
struct Sent {
    blocks: Vec<u64>,
    session: Option<SessionKey>,
    tokens: u64,
}

impl<Place> Default for Affinity<Place> {
    fn default() -> Self {
        Self {
            places: HashMap::new(),
        }
    }
}

impl<Place: Eq + Hash + Clone> Affinity<Place> {
    /// Leading blocks of a prompt that the place is likely to have in its cache.
    pub fn cached_blocks(&self, place: &Place, prompt: &[u64]) -> usize {
        let held = self.places.get(place);
        let sent = held.into_iter().flat_map(|held| &held.sent);
        sent.map(|old| shared(&old.blocks, prompt))
            .max()
            .unwrap_or(0)
    }

    /// How much of a prompt the place is likely to have in its cache. What the prompt itself shows counts before what its client says.
    pub fn likely(&self, place: &Place, prompt: &Remembered<'_>) -> Likely {
        match self.cached_blocks(place, prompt.blocks) {
            0 => self.by_session(place, prompt).unwrap_or_default(),
            blocks => Likely::Blocks(blocks),
        }
    }

    fn by_session(&self, place: &Place, prompt: &Remembered<'_>) -> Option<Likely> {
        let session = prompt.session?;
        let held = self.places.get(place)?;
        let mut of_it = held.sent.iter().rev();
        let last = of_it.find(|old| old.session == Some(session))?;
        let most = last.tokens.min(prompt.tokens);
        Some(Likely::Session {
            expected: most.saturating_mul(held.kept_word) / WHOLE,
            most,
        })
    }

    /// The prompt was sent there; with so many slots at least, each of which remembers one. It replaces the one that it goes on from.
    pub fn sent(&mut self, place: &Place, prompt: &Remembered<'_>, slots: usize) {
        if prompt.blocks.is_empty() && prompt.session.is_none() {
            return;
        }
        if !self.places.contains_key(place) && self.places.len() >= MOST_PLACES {
            // Rare enough that which one goes does not matter; all of them would come back with the next requests.
            self.places.clear();
        }
        let sent = &mut self.places.entry(place.clone()).or_default().sent;
        let goes_on_from = |old: &Sent| {
            let blocks = shared(&old.blocks, prompt.blocks);
            let same = prompt.session.is_some() && old.session == prompt.session;
            (blocks, same)
        };
        let before = sent
            .iter()
            .map(goes_on_from)
            .enumerate()
            .max_by_key(|(index, alike)| (*alike, std::cmp::Reverse(*index)))
            .filter(|(_, (blocks, same))| *blocks > 0 || *same);
        let full = sent.len() >= slots.clamp(1, MOST_PROMPTS);
        match before {
            Some((index, _)) if full => {
                sent.remove(index);
            }
            None if full => {
                sent.pop_front();
            }
            _ => {}
        }
        let kept = prompt.blocks.len().min(MOST_BLOCKS);
        sent.push_back(Sent {
            blocks: prompt.blocks.get(..kept).unwrap_or_default().to_vec(),
            session: prompt.session,
            tokens: prompt.tokens,
        });
    }

    /// So many tokens were in the cache of at most `most` that a conversation promised there ([`Likely::Session`]). The newest counts half.
    pub fn found(&mut self, place: &Place, cached: u64, most: u64) {
        if most == 0 {
            return;
        }
        if let Some(held) = self.places.get_mut(place) {
            let share = cached.min(most).saturating_mul(WHOLE) / most;
            held.kept_word = u64::midpoint(held.kept_word, share);
        }
    }

    /// What the place had is gone: its model was loaded again, or evicted. What conversations were worth there is still known.
    pub fn forget(&mut self, place: &Place) {
        if let Some(held) = self.places.get_mut(place) {
            held.sent.clear();
        }
    }
}

fn shared(one: &[u64], other: &[u64]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(blocks: &[u64]) -> Remembered<'_> {
        Remembered {
            blocks,
            ..Remembered::default()
        }
    }

    fn named(session: u64, blocks: &[u64], tokens: u64) -> Remembered<'_> {
        Remembered {
            blocks,
            session: Some(SessionKey(session)),
            tokens,
        }
    }

    #[test]
    fn a_conversation_is_found_where_it_was() {
        let mut affinity = Affinity::default();
        affinity.sent(&"a", &blocks(&[1, 2, 3]), 1);
        affinity.sent(&"b", &blocks(&[1, 9]), 1);
        assert_eq!(affinity.cached_blocks(&"a", &[1, 2, 3, 4]), 3);
        assert_eq!(affinity.cached_blocks(&"b", &[1, 2, 3, 4]), 1);
        affinity.forget(&"a");
        assert_eq!(affinity.cached_blocks(&"a", &[1, 2, 3, 4]), 0);
    }

    #[test]
    fn each_slot_remembers_one_prompt() {
        let mut affinity = Affinity::default();
        affinity.sent(&0, &blocks(&[1, 2]), 2);
        affinity.sent(&0, &blocks(&[5, 6]), 2);
        affinity.sent(&0, &blocks(&[1, 2, 3]), 2);
        assert_eq!(
            affinity.cached_blocks(&0, &[5, 6, 7]),
            2,
            "the other one was gone on from"
        );
        affinity.sent(&0, &blocks(&[8]), 2);
        assert_eq!(affinity.cached_blocks(&0, &[5, 6, 7]), 0);
        assert_eq!(affinity.cached_blocks(&0, &[1, 2, 3]), 3);
    }

    #[test]
    fn a_named_conversation_is_found_though_its_prompt_begins_differently() {
        let mut affinity = Affinity::default();
        affinity.sent(&"a", &named(7, &[1, 2], 600), 1);
        let next = named(7, &[8, 9], 900);
        let all = Likely::Session {
            expected: 600,
            most: 600,
        };
        assert_eq!(affinity.likely(&"a", &next), all);
        assert_eq!(affinity.likely(&"b", &next), Likely::Nothing);
        for other in [named(6, &[8, 9], 900), blocks(&[8, 9])] {
            assert_eq!(affinity.likely(&"a", &other), Likely::Nothing);
        }
        // Without any block too: a short prompt.
        affinity.sent(&"a", &named(7, &[], 40), 1);
        assert_eq!(
            affinity.likely(&"a", &named(7, &[], 60)),
            Likely::Session {
                expected: 40,
                most: 40
            }
        );
    }

    #[test]
    fn what_the_prompt_shows_counts_before_what_its_client_says() {
        let mut affinity = Affinity::default();
        affinity.sent(&0, &named(7, &[1, 2, 3], 900), 1);
        let next = named(7, &[1, 8, 9], 900);
        assert_eq!(affinity.likely(&0, &next), Likely::Blocks(1));
    }

    #[test]
    fn a_name_that_saves_nothing_is_worth_nothing_soon() {
        let mut affinity = Affinity::default();
        let expected = |affinity: &Affinity<u8>| match affinity.likely(&0, &named(7, &[2], 1024)) {
            Likely::Session { expected, .. } => expected,
            other => panic!("{other:?}"),
        };
        affinity.sent(&0, &named(7, &[1], 1024), 1);
        for after in [512, 256, 128, 64] {
            affinity.found(&0, 0, 1024);
            assert_eq!(expected(&affinity), after);
        }
        // A load makes it no more worth than it was.
        affinity.forget(&0);
        affinity.sent(&0, &named(7, &[1], 1024), 1);
        assert_eq!(expected(&affinity), 64);
        affinity.found(&0, 5000, 1024);
        assert!(expected(&affinity) > 512, "the newest counts half");
        affinity.found(&0, 1, 0);
    }

    #[test]
    fn memory_is_bounded() {
        let mut affinity = Affinity::default();
        for place in 0..5000_u64 {
            affinity.sent(&place, &blocks(&vec![place; 3000]), 100);
        }
        assert!(affinity.places.len() <= MOST_PLACES);
        for turn in 0..100 {
            let prompt = vec![turn + 10_000; 2000];
            affinity.sent(&0, &named(turn, &prompt, 9), 100);
            affinity.sent(&0, &named(turn + 1000, &[], 9), 100);
        }
        let sent = &affinity.places[&0].sent;
        assert!(sent.len() <= MOST_PROMPTS && sent.iter().all(|p| p.blocks.len() <= MOST_BLOCKS));
    }
}
