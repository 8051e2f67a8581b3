//! The score of an ask: a sum of signed evidence, positive towards COMPLEX, zero for nothing known.
//!
//! What is requested sets the base. Only the heaviest request counts, so small talk around it, or a claim that it is trivial, takes
//! nothing away. What else is in the ask adds to that: how deep the subject is, how far the work reaches, how long the ask is.

use super::Signal;
use super::hits::{self, Hit, Request};
use super::lexicon::Group;
use super::text::Prose;

/// Words in a question that may be a mere look-up although no verb is known.
const SHORT_QUESTION: usize = 12;
/// Words in a greeting or in a sum.
const SHORT_GREETING: usize = 8;
/// Bytes at the head of an ask in which a housekeeping request names itself.
const HOUSEKEEPING_HEAD: usize = 400;
/// Words from which an ask counts as long.
const LONG: usize = 20;
/// Lines of code from which there is much of it.
const MUCH_CODE: usize = 30;

/// The evidence in an ask; its weights add up to the score. `context` is the size of what comes with it, in bytes.
pub(super) fn evidence(prose: &Prose, context: usize) -> Vec<Signal> {
    let hits = hits::find(prose);
    if let Some(hit) = housekeeping(&hits) {
        return vec![signal("housekeeping", -2.6, hit.entry)];
    }
    let requests = hits::requests(prose, &hits);
    let mut signals = Vec::new();
    let base = base(prose, &hits, &requests);
    let small = base.as_ref().is_some_and(|base| base.weight < -1.0);
    let consumed = requests.iter().find_map(|request| request.object);
    signals.extend(base);
    for (group, name, weight, most) in [
        (
            Group::DeepTopic,
            "deep-topic",
            if small { 0.3 } else { 0.55 },
            3,
        ),
        (Group::WideScope, "wide-scope", 0.7, 2),
        (Group::Analysis, "analysis", 0.7, 2),
        (Group::Depth, "depth", if small { 0.5 } else { 0.25 }, 2),
        (Group::Constraint, "constraint", 0.25, 3),
        (Group::Steps, "steps", 0.25, 2),
        (Group::LargeObject, "large-object", 0.3, 2),
    ] {
        let mut entries = distinct(&hits, group);
        // The object of a request has already been weighed with it.
        entries.retain(|entry| consumed.is_none_or(|(_, consumed)| consumed != *entry));
        entries.truncate(most);
        if !entries.is_empty() {
            signals.push(signal(
                name,
                weight * count(entries.len()),
                &entries.join(", "),
            ));
        }
    }
    signals.extend(several(&requests));
    signals.extend(shape(prose, small, context));
    signals.retain(|signal| signal.weight != 0.0);
    signals
}

fn signal(name: &str, weight: f64, matched: &str) -> Signal {
    Signal {
        name: name.to_owned(),
        weight,
        matched: matched.to_owned(),
    }
}

/// A count as a factor; counts here are small.
fn count(n: usize) -> f64 {
    u32::try_from(n).map_or(f64::from(u32::MAX), f64::from)
}

fn distinct(hits: &[Hit], group: Group) -> Vec<&'static str> {
    let mut entries: Vec<&'static str> = Vec::new();
    let mut end = 0;
    for hit in hits.iter().filter(|hit| hit.group == group) {
        // A longer entry that holds a shorter one counts once.
        if hit.start >= end && !entries.contains(&hit.entry) {
            entries.push(hit.entry);
            end = hit.end;
        }
    }
    entries
}

/// The housekeeping request that heads the ask, unless it asks for heavy work there as well.
fn housekeeping(hits: &[Hit]) -> Option<&Hit> {
    let head = || hits.iter().take_while(|hit| hit.start < HOUSEKEEPING_HEAD);
    head()
        .find(|hit| hit.group == Group::Housekeeping)
        .filter(|_| head().all(|hit| hit.group != Group::Heavy))
}

/// The weight of the heaviest request, or of what stands in for one.
fn base(prose: &Prose, hits: &[Hit], requests: &[Request]) -> Option<Signal> {
    let heaviest = requests
        .iter()
        .map(|request| (weight(request), request))
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    // Weighing and arguing is work, whatever small things are asked for beside it.
    let argues = hits.iter().any(|hit| hit.group == Group::Analysis);
    if let Some((weight, request)) = heaviest.filter(|(weight, _)| !argues || *weight > 0.0) {
        let matched = match request.object {
            Some((_, object)) if request.hit.group != Group::Tell => {
                format!("{} … {object}", request.hit.entry)
            }
            _ => request.hit.entry.to_owned(),
        };
        return Some(signal(request_name(request), weight, &matched));
    }
    if argues {
        return None;
    }
    let words = prose.tokens.len();
    if let Some(greeting) = hits.iter().find(|hit| hit.group == Group::Greet)
        && words <= SHORT_GREETING
    {
        return Some(signal("greeting", -2.2, greeting.entry));
    }
    let numbers = |token| prose.word(token).starts_with(|c: char| c.is_ascii_digit());
    if (1..=SHORT_GREETING).contains(&words) && prose.tokens.iter().all(numbers) {
        return Some(signal("calculation", -1.6, prose.text.trim()));
    }
    (prose.questions > 0 && words <= SHORT_QUESTION).then(|| signal("short-question", -1.4, "?"))
}

fn request_name(request: &Request) -> &'static str {
    match request.hit.group {
        Group::Heavy => "heavy-request",
        Group::Make => "request-to-make",
        Group::Light => "light-request",
        Group::Tell => "question",
        _ => "request",
    }
}

fn weight(request: &Request) -> f64 {
    let object = request.object.map(|(group, _)| group);
    if request.told_about {
        return match request.hit.group {
            Group::Heavy => -0.1,
            Group::Make | Group::Work => -0.8,
            _ => -1.8,
        };
    }
    match (request.hit.group, object) {
        (Group::Heavy, Some(Group::SmallObject)) => -0.6,
        (Group::Heavy, Some(Group::MediumObject)) => 0.4,
        (Group::Heavy, _) => 1.7,
        (Group::Make, Some(Group::LargeObject)) => 1.5,
        (Group::Make, Some(Group::SmallObject)) | (Group::Light, _) => -1.8,
        // "Convert 45 miles": a calculation.
        (Group::Work, None) if request.number && request.hit.entry.starts_with("conv") => -1.75,
        (Group::Work, Some(Group::SmallObject)) => -1.7,
        (Group::Tell, _) => -1.6,
        // Ordinary work: no evidence either way, but stronger than a small request beside it.
        _ => 0.05,
    }
}

/// Several pieces of work in one ask.
fn several(requests: &[Request]) -> Option<Signal> {
    let mut verbs: Vec<&str> = requests
        .iter()
        .filter(|request| !request.told_about && weight(request) > 0.0)
        .map(|request| request.hit.entry)
        .collect();
    verbs.dedup();
    verbs.truncate(3);
    (verbs.len() > 1).then(|| {
        signal(
            "several-requests",
            0.3 * count(verbs.len() - 1),
            &verbs.join(", "),
        )
    })
}

/// What the form of the ask says.
fn shape(prose: &Prose, small: bool, context: usize) -> Vec<Signal> {
    let words = prose.tokens.len();
    let mut signals = Vec::new();
    if words > LONG {
        let doublings = (count(words) / count(LONG)).log2();
        let weight = if small { 0.08 } else { 0.35 };
        signals.push(signal(
            "length",
            weight * doublings.min(4.0),
            &format!("{words} words"),
        ));
    }
    if prose.items > 1 {
        let weight = 0.15 * count(prose.items.min(4));
        signals.push(signal("list", weight, &format!("{} items", prose.items)));
    }
    if prose.questions > 2 {
        signals.push(signal(
            "questions",
            0.3,
            &format!("{} questions", prose.questions),
        ));
    }
    if prose.code_lines > 0 {
        let weight = if prose.code_lines >= MUCH_CODE {
            0.4
        } else {
            0.15
        };
        signals.push(signal(
            "code",
            weight,
            &format!("{} lines", prose.code_lines),
        ));
    }
    // Thresholds in bytes: about 2,000 and 8,000 tokens.
    let weight = match context {
        0..8_000 => 0.0,
        8_000..32_000 => 0.15,
        _ => 0.3,
    };
    signals.push(signal("context", weight, &format!("{context} bytes")));
    signals
}
