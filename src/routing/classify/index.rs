//! A hash table over the first words of the lexicon, made at compile time: a prompt is looked up word by word, and most words are not
//! in the lexicon.

use super::lexicon::{Group, LEXICON};

/// Entries of all lists.
const ENTRIES: usize = {
    let mut entries = 0;
    let mut list = 0;
    while list < LEXICON.len() {
        entries += LEXICON[list].1.len();
        list += 1;
    }
    entries
};

/// Slots of the table; a power of two, at least twice the entries, so that probing is short.
const SLOTS: usize = (2 * ENTRIES).next_power_of_two();

/// Group and entry in each slot.
type Table = [Option<(Group, &'static str)>; SLOTS];

const TABLE: &Table = &table();

#[expect(clippy::large_stack_arrays, reason = "evaluated at compile time")]
const fn table() -> Table {
    let mut table: Table = [None; SLOTS];
    let mut list = 0;
    while list < LEXICON.len() {
        let (group, words) = LEXICON[list];
        let mut word = 0;
        while word < words.len() {
            let bytes = words[word].as_bytes();
            let mut slot = hash(bytes, key_length(bytes));
            while table[slot].is_some() {
                slot = (slot + 1) % SLOTS;
            }
            table[slot] = Some((group, words[word]));
            word += 1;
        }
        list += 1;
    }
    table
}

/// Bytes of an entry's first word; of its first character in a script without blanks.
const fn key_length(entry: &[u8]) -> usize {
    let ascii = !entry.is_empty() && entry[0] < 0x80;
    let mut end = 1;
    while end < entry.len() {
        let ends = if ascii {
            entry[end] == b' '
        } else {
            // The next character starts: not a continuation byte.
            entry[end] & 0xC0 != 0x80
        };
        if ends {
            break;
        }
        end += 1;
    }
    end
}

/// The slot where probing for a word starts (FNV-1a).
const fn hash(word: &[u8], length: usize) -> usize {
    let mut hash: u32 = 0x811c_9dc5;
    let mut at = 0;
    while at < length && at < word.len() {
        hash = (hash ^ word[at] as u32).wrapping_mul(0x0100_0193);
        at += 1;
    }
    hash as usize % SLOTS
}

/// The entries whose first word (first character, in a script without blanks) is that word.
pub(super) fn starting_with(word: &str) -> impl Iterator<Item = (Group, &'static str)> {
    let start = hash(word.as_bytes(), word.len());
    let (before, from) = TABLE.split_at_checked(start).unwrap_or_default();
    from.iter()
        .chain(before)
        .map_while(|slot| *slot)
        .filter(move |(_, entry)| entry.get(..key_length(entry.as_bytes())) == Some(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_found_by_its_first_word() {
        for (group, words) in LEXICON {
            for entry in *words {
                let word = entry.get(..key_length(entry.as_bytes())).unwrap();
                assert!(
                    starting_with(word).any(|found| found == (*group, *entry)),
                    "{entry}"
                );
            }
        }
        assert_eq!(starting_with("zebra").count(), 0);
        assert_eq!(starting_with("").count(), 0);
    }
}
