//! What a node read of a prompt, compared with what it was sent.

use super::exchange::Exchange;
use super::measure::{LOADED_MS, Place};
use super::record::Outcome;
use crate::cluster::{ModelName, Node, NodeKind};
use crate::config::LogLevel;
use crate::dialect::{Parsed, Usage};
use crate::routing::speed::Load;
use crate::routing::truncation::{Cut, Prompt, Reading, Verdict, Windows, judge};
use crate::routing::window::Window;
use crate::routing::{Candidate, Family, Observation};

/// The name of the header or trailer that tells of a cut prompt.
pub(super) const TRUNCATED: &str = "X-Gpurouter-Truncated";

/// What has to be known of a prompt when its answer is there and its body is gone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    estimated: u64,
    characters: u64,
    /// Characters of the conversation itself.
    said: u64,
    /// Hash of its beginning.
    beginning: u64,
    one_text: bool,
    max_tokens: Option<u64>,
    /// The context that it is answered with, as far as that is decided here; `None`: the node's own.
    num_ctx: Option<u64>,
    /// Whether the node works on other requests when it begins.
    beside: bool,
}

impl Sent {
    /// Of a parsed request with its estimate.
    pub(super) fn of(parsed: &Parsed<'_>, estimated: u64) -> Self {
        let (characters, said) = parsed.prompt_characters();
        Self {
            estimated,
            characters,
            said,
            beginning: parsed.prompt_beginning(),
            one_text: parsed.one_prompt(),
            max_tokens: parsed.max_tokens(),
            num_ctx: parsed.num_ctx().filter(|tokens| *tokens > 0),
            beside: false,
        }
    }

    /// Which window the scheduler gave it, and whether the node is at work on others.
    pub(super) fn decided(&mut self, window: Option<Window>, beside: bool) {
        self.beside = beside;
        if let Some(context) = window.and_then(|window| window.context) {
            self.num_ctx = Some(context.into());
        }
    }
}

/// Compares what the node counted with what it was sent: notes the verdict in the record and what is to be learned from the answer, and
/// returns the value of the header or trailer when the prompt was cut. Called once for each answer, when its usage is known and its end was
/// not sent yet; learning waits until the client has it.
pub(super) fn check(
    x: &mut Exchange<'_, '_>,
    node: &Node,
    candidate: &Candidate,
    usage: &Usage,
) -> Option<String> {
    let sent = x.sent.take()?;
    if x.draft.record.outcome != Outcome::Ok || !x.endpoint.routed() {
        return None;
    }
    let place: Place = (node.name.clone(), ModelName::new(&candidate.model));
    let loaded = usage.load_ms.is_some_and(|ms| ms > LOADED_MS);
    let known = x.router.measurements.note(&place, sent.beginning, loaded);
    let speed = x.router.measurements.now().get(&place.0, &place.1);
    let prompt = Prompt::of(
        Family::of_model(&candidate.model),
        sent.estimated,
        sent.characters,
        sent.said,
        speed.characters_per_token,
    );
    let snapshot = x.router.snapshot();
    let now = snapshot.node(&node.name).map_or(node, AsRef::as_ref);
    let context = now.loaded(&place.1).and_then(|loaded| loaded.context);
    let windows = windows(now, &place.1, sent.num_ctx, context);
    let told = usage.cached_tokens.is_some() || known.counts_cached;
    let reading = Reading {
        tokens: usage.prompt_tokens,
        may_lack_cached: known.repeated && !told,
    };
    let windows = Windows {
        known: &windows,
        answer: sent.max_tokens,
        one_text: sent.one_text,
    };
    let verdict = judge(&prompt, &windows, &reading);
    if known.repeated && usage.cached_tokens.is_none() && verdict == Verdict::Whole {
        x.router.measurements.counted_cached(&place);
    }
    let seen = Observation {
        began_crowded: sent.beside,
        // Its own slot is still taken.
        crowded: sent.beside
            || snapshot
                .node(&node.name)
                .is_some_and(|node| x.router.active(node) > 1),
        ..observation(
            usage,
            &sent,
            verdict,
            context,
            known.repeated,
            speed.samples,
        )
    };
    x.draft.record.truncated = match verdict {
        Verdict::Cut(_) => Some(true),
        Verdict::Whole => usage.prompt_tokens.map(|_| false),
        Verdict::Unknown => None,
    };
    let told = match verdict {
        Verdict::Cut(cut) => Some(tell(x, node, &place, cut)),
        Verdict::Whole | Verdict::Unknown => None,
    };
    x.seen = Some((place, seen));
    told
}

/// The windows that the prompt may have met, likeliest first.
fn windows(node: &Node, model: &ModelName, num_ctx: Option<u64>, loaded: Option<u64>) -> Vec<u64> {
    let trained = node.model(model).and_then(|model| model.context);
    // Only Ollama takes a context from the request, and never more than the trained one.
    let asked = num_ctx
        .filter(|_| node.kind == Some(NodeKind::Ollama))
        .map(|asked| trained.map_or(asked, |trained| asked.min(trained)));
    let mut windows: Vec<u64> = Vec::with_capacity(3);
    for window in [asked, loaded, trained].into_iter().flatten() {
        if window > 0 && !windows.contains(&window) {
            windows.push(window);
        }
    }
    windows
}

fn observation(
    usage: &Usage,
    sent: &Sent,
    verdict: Verdict,
    context: Option<u64>,
    repeated: bool,
    samples: u64,
) -> Observation {
    let prompt_tokens = usage.prompt_tokens.unwrap_or(0);
    // Of a prompt that may have been in the cache nobody knows how many tokens took that time.
    let unclear = repeated && usage.cached_tokens.is_none();
    let kind = if samples == 0 { Load::Cold } else { Load::Warm };
    Observation {
        context: context.map_or(0, |tokens| u32::try_from(tokens).unwrap_or(u32::MAX)),
        prompt_tokens,
        cached_tokens: usage.cached_tokens.unwrap_or(0),
        characters: Some(sent.characters)
            .filter(|_| verdict == Verdict::Whole && prompt_tokens > 0),
        prompt_ms: usage.prompt_ms.filter(|_| !unclear),
        answer_tokens: usage.completion_tokens.unwrap_or(0),
        decode_ms: usage.decode_ms,
        load: usage
            .load_ms
            .filter(|ms| *ms > LOADED_MS)
            .map(|ms| (kind, ms)),
        ..Observation::default()
    }
}

/// Says it everywhere; returns the header's value.
fn tell(x: &mut Exchange<'_, '_>, node: &Node, place: &Place, cut: Cut) -> String {
    let window = cut
        .window
        .map_or_else(|| "unknown".to_owned(), |window| window.to_string());
    let Cut {
        estimated, read, ..
    } = cut;
    let step = format!(
        "{} cut the prompt: it read {read} of about {estimated} tokens (window {window})",
        node.name
    );
    x.router.log.event(
        LogLevel::Warning,
        &format!(
            "request {}: `{}` on {}: the prompt was cut: {read} of about {estimated} tokens were read (window {window})",
            x.draft.record.id, place.1, node.name
        ),
    );
    x.draft.step(step);
    x.router.watch.cut(place, cut);
    format!("1; estimated={estimated}, read={read}, window={window}")
}
