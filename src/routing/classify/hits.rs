//! Where the lexicon's words occur in an ask, and which of them are requests.

use super::lexicon::{CONJUNCTIONS, DETERMINERS, Group, LEXICON};
use super::text::{Prose, Token};

/// An occurrence of a lexicon entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hit {
    /// What it says.
    pub group: Group,
    /// The entry.
    pub entry: &'static str,
    /// Its first token.
    pub token: usize,
    /// First byte in the prose.
    pub start: usize,
    /// Byte after the last.
    pub end: usize,
    /// Its clause.
    pub clause: usize,
}

/// Words before a verb that make it no request of the ask but a statement.
const SUBJECTS: [&str; 8] = ["we", "they", "it", "i", "who", "eles", "nos", "ellos"];

/// Words before a verb that introduce a request.
const LEAD_INS: [&str; 26] = [
    "please", "just", "to", "now", "also", "you", "let's", "lets", "kindly", "only", "simply",
    "quickly", "favor", "me", "bitte", "pls", "so", "apenas", "agora", "tambem", "solo", "ahora",
    "vous", "moi", "need", "help",
];

/// Bytes between a negation and the verb that it negates.
const NEGATION_REACH: usize = 24;

/// All occurrences, in the order of the text.
pub(super) fn find(prose: &Prose) -> Vec<Hit> {
    let mut by_word: Vec<(&str, usize)> = prose
        .tokens
        .iter()
        .enumerate()
        .map(|(at, token)| (prose.word(token), at))
        .collect();
    by_word.sort_unstable();
    let has_cjk = prose.tokens.iter().any(|token| token.cjk);
    let mut hits = Vec::new();
    for &(group, entries) in LEXICON {
        for &entry in entries {
            if entry.starts_with(|c: char| !c.is_ascii()) {
                if has_cjk {
                    substring(prose, group, entry, &mut hits);
                }
            } else {
                whole_words(prose, &by_word, group, entry, &mut hits);
            }
        }
    }
    hits.sort_unstable_by_key(|hit| (hit.start, std::cmp::Reverse(hit.end)));
    hits
}

fn substring(prose: &Prose, group: Group, entry: &'static str, hits: &mut Vec<Hit>) {
    for (start, _) in prose.text.match_indices(entry) {
        let token = prose.tokens.partition_point(|token| token.end <= start);
        let clause = prose.tokens.get(token).map_or(0, |token| token.clause);
        hits.push(Hit {
            group,
            entry,
            token,
            start,
            end: start + entry.len(),
            clause,
        });
    }
}

fn whole_words(
    prose: &Prose,
    by_word: &[(&str, usize)],
    group: Group,
    entry: &'static str,
    hits: &mut Vec<Hit>,
) {
    let mut words = entry.split(' ');
    let first = words.next().unwrap_or_default();
    let from = by_word.partition_point(|(word, _)| *word < first);
    let same = by_word.get(from..).unwrap_or_default();
    for &(_, at) in same.iter().take_while(|(word, _)| *word == first) {
        let Some(token) = prose.tokens.get(at) else {
            continue;
        };
        let mut end = token.end;
        let mut rest = prose.tokens.iter().skip(at + 1);
        let follow = words.clone().all(|word| {
            rest.next().is_some_and(|next| {
                end = next.end;
                next.clause == token.clause && prose.word(next) == word
            })
        });
        if follow {
            hits.push(Hit {
                group,
                entry,
                token: at,
                start: token.start,
                end,
                clause: token.clause,
            });
        }
    }
}

/// Something that the ask requests.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    /// The verb, or the question word.
    pub hit: Hit,
    /// Its object: what kind, and the word.
    pub object: Option<(Group, &'static str)>,
    /// Whether it is only what an explanation is about.
    pub told_about: bool,
    /// Whether a number follows.
    pub number: bool,
}

/// Bytes between a verb and its object.
const OBJECT_REACH: usize = 56;

/// The requests among the hits.
pub(super) fn requests(prose: &Prose, hits: &[Hit]) -> Vec<Request> {
    let mut requests: Vec<Request> = Vec::new();
    for hit in hits {
        let verb = matches!(
            hit.group,
            Group::Heavy | Group::Make | Group::Work | Group::Light | Group::Tell
        );
        if !verb || !is_request(prose, hit) || is_negated(hits, hit) {
            continue;
        }
        let told_about = !joined(prose, hit)
            && requests.iter().any(|earlier| {
                earlier.hit.group == Group::Tell
                    && earlier.hit.clause == hit.clause
                    && earlier.hit.end <= hit.start
            });
        requests.push(Request {
            hit: *hit,
            object: object(hits, hit),
            told_about,
            number: prose
                .tokens
                .iter()
                .skip(hit.token + 1)
                .take(1)
                .any(|token| prose.word(token).starts_with(|c: char| c.is_ascii_digit())),
        });
    }
    requests
}

fn before<'a>(prose: &'a Prose, hit: &Hit) -> Option<&'a Token> {
    let before = hit.token.checked_sub(1)?;
    prose
        .tokens
        .get(before)
        .filter(|token| token.clause == hit.clause)
}

/// Whether a conjunction stands before the hit.
fn joined(prose: &Prose, hit: &Hit) -> bool {
    before(prose, hit).is_some_and(|token| CONJUNCTIONS.contains(&prose.word(token)))
}

fn is_request(prose: &Prose, hit: &Hit) -> bool {
    let Some(before) = before(prose, hit).filter(|token| !token.cjk) else {
        return true;
    };
    let before = prose.word(before);
    if hit.entry.starts_with(|c: char| !c.is_ascii()) {
        return true;
    }
    match hit.group {
        // Frequent words that mean a request only where one begins.
        Group::Light | Group::Tell => LEAD_INS.contains(&before) || CONJUNCTIONS.contains(&before),
        _ => !DETERMINERS.contains(&before) && !SUBJECTS.contains(&before),
    }
}

fn is_negated(hits: &[Hit], verb: &Hit) -> bool {
    hits.iter().any(|hit| {
        hit.group == Group::Negation
            && hit.clause == verb.clause
            && hit.end <= verb.start
            && verb.start - hit.end <= NEGATION_REACH
    })
}

/// The nearest object after a verb in its clause.
fn object(hits: &[Hit], verb: &Hit) -> Option<(Group, &'static str)> {
    hits.iter()
        .filter(|hit| {
            hit.clause == verb.clause
                && hit.start >= verb.end
                && hit.start - verb.end <= OBJECT_REACH
        })
        .find(|hit| {
            matches!(
                hit.group,
                Group::SmallObject | Group::MediumObject | Group::LargeObject
            )
        })
        .map(|hit| (hit.group, hit.entry))
}
