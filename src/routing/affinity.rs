//! Which node is likely to have the beginning of a prompt in its cache.
//!
//! A server keeps the last prompts of its slots; a request that begins like one of them reads only the rest. What is kept here is what
//! each node was sent last, as the hashes of the prompt's blocks, so that the saved tokens count in the decision: the same conversation goes to
//! the same node while that is cheaper than waiting for it.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Blocks of one prompt that are remembered: 262,144 tokens of 256.
const MOST_BLOCKS: usize = 1024;
/// Prompts that are remembered of one model on one node.
const MOST_PROMPTS: usize = 16;
/// Models on nodes that are remembered.
const MOST_PLACES: usize = 1024;

/// What was sent where, by place: a model on a node, in the caller's terms.
#[derive(Debug, Clone)]
pub struct Affinity<Place> {
    sent: HashMap<Place, VecDeque<Vec<u64>>>,
}

impl<Place> Default for Affinity<Place> {
    fn default() -> Self {
        Self {
            sent: HashMap::new(),
        }
    }
}

impl<Place: Eq + Hash + Clone> Affinity<Place> {
    /// Leading blocks of a prompt that the place is likely to have in its cache.
    pub fn cached_blocks(&self, place: &Place, prompt: &[u64]) -> usize {
        let Some(sent) = self.sent.get(place) else {
            return 0;
        };
        sent.iter()
            .map(|old| shared(old, prompt))
            .max()
            .unwrap_or(0)
    }

    /// The prompt was sent there; with so many slots at least, each of which remembers one. It replaces the one that it goes on from.
    pub fn sent(&mut self, place: &Place, prompt: &[u64], slots: usize) {
        if prompt.is_empty() {
            return;
        }
        if !self.sent.contains_key(place) && self.sent.len() >= MOST_PLACES {
            // Rare enough that which one goes does not matter; all of them would come back with the next requests.
            self.sent.clear();
        }
        let sent = self.sent.entry(place.clone()).or_default();
        let longest = sent
            .iter()
            .map(|old| shared(old, prompt))
            .enumerate()
            .max_by_key(|(index, blocks)| (*blocks, std::cmp::Reverse(*index)))
            .filter(|(_, blocks)| *blocks > 0);
        let full = sent.len() >= slots.clamp(1, MOST_PROMPTS);
        match longest {
            Some((index, _)) if full => {
                sent.remove(index);
            }
            None if full => {
                sent.pop_front();
            }
            _ => {}
        }
        let kept = prompt.len().min(MOST_BLOCKS);
        sent.push_back(prompt.get(..kept).unwrap_or_default().to_vec());
    }

    /// What the place had is gone: its model was loaded again, or evicted.
    pub fn forget(&mut self, place: &Place) {
        self.sent.remove(place);
    }
}

fn shared(one: &[u64], other: &[u64]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_is_found_where_it_was() {
        let mut affinity = Affinity::default();
        affinity.sent(&"a", &[1, 2, 3], 1);
        affinity.sent(&"b", &[1, 9], 1);
        assert_eq!(affinity.cached_blocks(&"a", &[1, 2, 3, 4]), 3);
        assert_eq!(affinity.cached_blocks(&"b", &[1, 2, 3, 4]), 1);
        affinity.forget(&"a");
        assert_eq!(affinity.cached_blocks(&"a", &[1, 2, 3, 4]), 0);
    }

    #[test]
    fn each_slot_remembers_one_prompt() {
        let mut affinity = Affinity::default();
        affinity.sent(&0, &[1, 2], 2);
        affinity.sent(&0, &[5, 6], 2);
        affinity.sent(&0, &[1, 2, 3], 2);
        assert_eq!(
            affinity.cached_blocks(&0, &[5, 6, 7]),
            2,
            "the other one was gone on from"
        );
        affinity.sent(&0, &[8], 2);
        assert_eq!(affinity.cached_blocks(&0, &[5, 6, 7]), 0);
        assert_eq!(affinity.cached_blocks(&0, &[1, 2, 3]), 3);
    }

    #[test]
    fn memory_is_bounded() {
        let mut affinity = Affinity::default();
        for place in 0..5000_u64 {
            affinity.sent(&place, &vec![place; 3000], 100);
        }
        assert!(affinity.sent.len() <= MOST_PLACES);
        for turn in 0..100 {
            affinity.sent(&0, &vec![turn + 10_000; 2000], 100);
        }
        let sent = &affinity.sent[&0];
        assert!(sent.len() <= MOST_PROMPTS && sent.iter().all(|p| p.len() <= MOST_BLOCKS));
    }
}
