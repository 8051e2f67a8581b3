//! Where the lexicon's words occur in an ask, and which of them are requests.

use super::index;
use super::lexicon::{CONJUNCTIONS, DETERMINERS, Group};
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
    let mut hits = Vec::new();
    for (at, token) in prose.tokens.iter().enumerate() {
        for (group, entry) in index::starting_with(prose.word(token)) {
            let end = if token.cjk {
                substring(prose, token, entry)
            } else {
                whole_words(prose, at, entry)
            };
            hits.extend(end.map(|end| Hit {
                group,
                entry,
                token: at,
                start: token.start,
                end,
                clause: token.clause,
            }));
        }
    }
    hits.sort_by_key(|hit| (hit.start, std::cmp::Reverse(hit.end)));
    hits
}

/// The byte after an entry that starts with that character.
fn substring(prose: &Prose, token: &Token, entry: &str) -> Option<usize> {
    let rest = prose.text.get(token.start..)?;
    rest.starts_with(entry).then(|| token.start + entry.len())
}

/// The byte after an entry whose first word is that token.
fn whole_words(prose: &Prose, at: usize, entry: &str) -> Option<usize> {
    let mut tokens = prose.tokens.iter().skip(at);
    let first = tokens.next()?;
    let mut end = first.end;
    for word in entry.split(' ').skip(1) {
        let next = tokens.next()?;
        if next.clause != first.clause || prose.word(next) != word {
            return None;
        }
        end = next.end;
    }
    Some(end)
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
    // The clause of the last question: what follows in it is what is asked about.
    let mut question = None;
    for (at, hit) in hits.iter().enumerate() {
        let verb = matches!(
            hit.group,
            Group::Heavy | Group::Make | Group::Work | Group::Light | Group::Tell
        );
        let (earlier, later) = (hits.get(..at), hits.get(at + 1..));
        let (earlier, later) = (earlier.unwrap_or_default(), later.unwrap_or_default());
        if !verb || !is_request(prose, earlier, hit) || is_negated(earlier, hit) {
            continue;
        }
        // "Devise a scheme and show it": the verb that leads is not in the lists, and the small one beside it is not all there is.
        let small = matches!(hit.group, Group::Light | Group::Tell);
        let led = requests
            .iter()
            .any(|request| request.hit.clause == hit.clause);
        if small && joined(prose, hit) && !led {
            continue;
        }
        let told_about = question == Some(hit.clause) && !joined(prose, hit);
        if hit.group == Group::Tell {
            question = Some(hit.clause);
        }
        requests.push(Request {
            hit: *hit,
            object: object(later, hit),
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

fn is_request(prose: &Prose, earlier: &[Hit], hit: &Hit) -> bool {
    let Some(before) = before(prose, hit).filter(|token| !token.cjk) else {
        return true;
    };
    // "How do I implement": the subject belongs to the question.
    let asked = near(earlier, hit).any(|question| {
        question.group == Group::Tell && question.start < before.start && question.end == before.end
    });
    let before = prose.word(before);
    if hit.entry.starts_with(|c: char| !c.is_ascii()) {
        return true;
    }
    match hit.group {
        // Frequent words that mean a request only where one begins.
        Group::Light | Group::Tell => LEAD_INS.contains(&before) || CONJUNCTIONS.contains(&before),
        _ => asked || !(DETERMINERS.contains(&before) || SUBJECTS.contains(&before)),
    }
}

/// The hits that start shortly before another, nearest first.
fn near<'a>(earlier: &'a [Hit], hit: &Hit) -> impl Iterator<Item = &'a Hit> {
    let start = hit.start;
    earlier
        .iter()
        .rev()
        .take_while(move |earlier| start - earlier.start <= 2 * NEGATION_REACH)
}

fn is_negated(earlier: &[Hit], verb: &Hit) -> bool {
    near(earlier, verb).any(|hit| {
        hit.group == Group::Negation
            && hit.clause == verb.clause
            && hit.end <= verb.start
            && verb.start - hit.end <= NEGATION_REACH
    })
}

/// The nearest object after a verb in its clause.
fn object(later: &[Hit], verb: &Hit) -> Option<(Group, &'static str)> {
    later
        .iter()
        .take_while(|hit| hit.start <= verb.end + OBJECT_REACH && hit.clause == verb.clause)
        .filter(|hit| hit.start >= verb.end)
        .find(|hit| {
            matches!(
                hit.group,
                Group::SmallObject | Group::MediumObject | Group::LargeObject
            )
        })
        .map(|hit| (hit.group, hit.entry))
}
