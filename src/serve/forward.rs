//! The way of a request that a model answers: parse, decide, try the candidates, relay.

use std::borrow::Cow;
use std::sync::Arc;

use super::asked::{self, Asked};
use super::attempt::{Failure, Opened, Tried, attempt};
use super::early::Early;
use super::exchange::Exchange;
use super::reading::Sent;
use super::record::Outcome;
use super::relay::{self, Upstream};
use crate::cluster::{ClusterSnapshot, Model, Node};
use crate::dialect::{self, ApiError, Endpoint, ErrorKind, Parsed, parse};
use crate::routing::{Candidate, Decision, Family, Refusal, decide_by};

/// Answers a request that a model answers.
pub(super) fn forward(x: &mut Exchange<'_, '_>) {
    let Some((opened, node, candidates, at)) = open(x) else {
        return;
    };
    if let Some(candidate) = candidates.get(at) {
        pass_on(x, *opened, &node, candidate);
    }
}

fn pass_on(x: &mut Exchange<'_, '_>, opened: Opened, node: &Node, candidate: &Candidate) {
    let upstream = Upstream {
        incoming: opened.incoming,
        node,
        candidate,
        translator: opened.translator,
        stream: opened.stream,
    };
    relay::relay(x, upstream);
}

type Won = (Box<Opened>, Arc<Node>, Arc<[Candidate]>, usize);

/// Finds the node that answers: the answer, the node and its place among the candidates; `None` when everything is told.
fn open(x: &mut Exchange<'_, '_>) -> Option<Won> {
    let raw = match x.request.read_body() {
        Ok(raw) => raw,
        Err(error) => {
            super::local::body_error(x, &error);
            return None;
        }
    };
    let encoding = x
        .request
        .headers()
        .get_str("content-encoding")
        .map(str::to_owned);
    let limit = usize::try_from(x.router.config.security.max_body).unwrap_or(usize::MAX);
    let body = match crate::dialect::decode_content(encoding.as_deref(), &raw, limit) {
        Ok(body) => body,
        Err(error) => {
            x.tell(&error, Outcome::Refused);
            return None;
        }
    };
    let endpoint = x.endpoint.clone();
    let body = made_constant(x, &endpoint, &body).map_or(body, Cow::Owned);
    let parsed = match parse(&endpoint, &body) {
        Ok(parsed) => parsed,
        Err(error) => {
            x.tell(&error, Outcome::Refused);
            return None;
        }
    };
    x.draft.record.requested_model = parsed.model().map(str::to_owned);
    if parsed.unload() && super::spread::unload(x, &parsed, &body) {
        return None;
    }
    x.draft.trace = x.router.trace.get().and_then(|trace| trace.begin(&parsed));
    let snapshot = x.router.snapshot();
    let (decision, mut asked) = match decide_for(x, &parsed, &snapshot) {
        Ok(decided) => decided,
        Err(refusal) => {
            refuse(x, &refusal);
            return None;
        }
    };
    if let Some(spared) = &decision.spared {
        x.router.load_ahead(&snapshot, spared, &asked);
    }
    let candidates = x.decided(decision);
    x.early = Early::of(x, &parsed);
    let mut failures: Vec<Failure> = Vec::new();
    let admitted = candidates.iter().enumerate();
    for (at, candidate) in admitted.filter(|(_, candidate)| candidate.admitted) {
        let Some(node) = snapshot.node(&candidate.node).map(Arc::clone) else {
            continue;
        };
        match attempt(x, &parsed, &body, candidate, &node, &mut asked) {
            Tried::Answered => return None,
            Tried::Opened(opened) => return Some((opened, node, Arc::clone(&candidates), at)),
            Tried::Failed(failure) => {
                x.node_done();
                x.failed(candidate, &failure.reason);
                failures.push(failure);
            }
        }
    }
    give_up(x, failures);
    None
}

/// The body with what the configuration makes constant in it; `None` when that is nothing. All that follows sees it so.
fn made_constant(x: &mut Exchange<'_, '_>, endpoint: &Endpoint, body: &[u8]) -> Option<Vec<u8>> {
    let rules = &x.router.config.affinity.canonical;
    if rules.is_empty() {
        return None;
    }
    // What is wrong with a body is told by whoever reads it next.
    let done = parse(endpoint, body).ok()?.canonical(rules)?;
    x.draft.record.canonical = done.rules.iter().map(|rule| rule.as_str()).collect();
    let names = x.draft.record.canonical.join(", ");
    x.draft
        .step(format!("made constant in the prompt: {names}"));
    Some(done.body)
}

/// The decision for a parsed request; the same call answers `route`.
pub(super) fn decide_for(
    x: &mut Exchange<'_, '_>,
    parsed: &Parsed<'_>,
    snapshot: &ClusterSnapshot,
) -> Result<(Decision, Asked), Refusal> {
    let policy = &x.router.config.routing;
    let family = Family::of_model(parsed.model().unwrap_or_default());
    let mut facts = parsed.facts(family, policy.routes_by_class(parsed.model()));
    x.draft.record.tokens.prompt_estimated = Some(facts.prompt_tokens);
    x.sent = Some(Sent::of(parsed, facts.prompt_tokens));
    let lane = asked::recognised(x, parsed, &mut facts);
    let asked = Asked::of(x, parsed, &facts, lane);
    let speeds = x.router.measurements.now();
    let forecast = |_: usize, node: &Arc<Node>, model: &Model| {
        x.router.forecast(&facts, &asked, &speeds, node, model)
    };
    let decision = decide_by(&facts, snapshot, &forecast, &speeds, policy)?;
    Ok((decision, asked))
}

/// Tells why no node was even tried.
pub(super) fn refuse(x: &mut Exchange<'_, '_>, refusal: &Refusal) {
    let (error, outcome) = refusal_error(refusal);
    x.tell(&error, outcome);
}

/// A refusal in the words of the client's API.
fn refusal_error(refusal: &Refusal) -> (ApiError, Outcome) {
    match refusal {
        Refusal::NoModel => (ApiError::model_required(), Outcome::Refused),
        Refusal::UnknownModel { model, nearest } => (
            ApiError::model_not_found(model, nearest.as_deref()),
            Outcome::Refused,
        ),
        Refusal::TooLong { tokens, limit } => (
            ApiError::context_too_long(*tokens, *limit),
            Outcome::Refused,
        ),
        Refusal::Loading { detail } => (
            ApiError::new(ErrorKind::Overloaded, detail.clone()),
            Outcome::Refused,
        ),
        Refusal::NoNode { detail } => (
            ApiError::new(ErrorKind::Upstream, detail.clone()),
            Outcome::UpstreamError,
        ),
    }
}

/// Every candidate failed: an answer that a node gave beats the router's own words.
fn give_up(x: &mut Exchange<'_, '_>, failures: Vec<Failure>) {
    // The loop noted the last one as a fall-back, but nothing came after it.
    let summary: Vec<String> = x
        .draft
        .record
        .fallbacks
        .iter()
        .map(|tried| format!("{}: {}", tried.node, tried.reason))
        .collect();
    let spoken = failures.into_iter().reduce(|kept, new| {
        if kept.error.status == 502 || new.error.status != 502 {
            new
        } else {
            kept
        }
    });
    let mut error = match spoken {
        Some(failure) => failure.error,
        None => ApiError::new(ErrorKind::Upstream, "no node could be tried"),
    };
    if error.status == 502 && summary.len() > 1 {
        error.message = format!("no node could answer ({})", summary.join("; "));
    }
    "no_node_answered".clone_into(&mut x.draft.record.reason);
    x.tell(&error, Outcome::UpstreamError);
}

/// `/v1/messages/count_tokens`: the node's own count where it has one, else the estimate that routing uses.
pub(super) fn count_tokens(x: &mut Exchange<'_, '_>) {
    let body = match x.request.read_body() {
        Ok(body) => body,
        Err(error) => return super::local::body_error(x, &error),
    };
    let endpoint = x.endpoint.clone();
    let parsed = match parse(&endpoint, &body) {
        Ok(parsed) => parsed,
        Err(error) => return x.tell(&error, Outcome::Refused),
    };
    x.draft.record.requested_model = parsed.model().map(str::to_owned);
    let snapshot = x.router.snapshot();
    let (decision, mut asked) = match decide_for(x, &parsed, &snapshot) {
        Ok(decided) => decided,
        Err(refusal) => return refuse(x, &refusal),
    };
    let candidates = x.decided(decision);
    let mut admitted = candidates.iter().filter(|candidate| candidate.admitted);
    let counting = admitted.find_map(|candidate| {
        Some((
            candidate,
            snapshot
                .node(&candidate.node)
                .filter(|node| node.native.count_tokens)?,
        ))
    });
    if let Some((candidate, node)) = counting {
        match attempt(x, &parsed, &body, candidate, node, &mut asked) {
            Tried::Answered => return,
            Tried::Opened(opened) => return pass_on(x, *opened, node, candidate),
            Tried::Failed(failure) => {
                x.node_done();
                x.failed(candidate, &failure.reason);
            }
        }
    }
    x.draft.record.node = None;
    "estimated_here".clone_into(&mut x.draft.record.reason);
    let tokens = x.draft.record.tokens.prompt_estimated.unwrap_or_default();
    x.answer(200, "application/json", &dialect::count_tokens(tokens));
}
