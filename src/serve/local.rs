//! What the router answers itself: lists, its own documents, and errors of the framing.

use super::exchange::Exchange;
use super::forward;
use super::health::health;
use super::optimize;
use super::record::{Outcome, RequestRecord};
use crate::dialect::{self, ApiError, Endpoint, ErrorKind, parse};
use crate::http::server::BodyError;
use serde::Serialize;
use std::time::Duration;

const JSON: &str = "application/json; charset=utf-8";

/// How long a document waits for a fresh look at the GPUs; after that it tells the last one.
pub(super) const FRESH_LIMIT: Duration = Duration::from_millis(100);

/// Decisions that `/gpurouter/api/decisions` tells when the client names no limit.
const USUAL_DECISIONS: usize = 100;

/// Answers one of the router's own routes; false when the path is none.
pub(super) fn own_route(x: &mut Exchange<'_, '_>) -> bool {
    let path = x.request.path().to_owned();
    let reading = matches!(x.request.method(), "GET" | "HEAD");
    match path.as_str() {
        "/health" if reading => {
            let inventory = x.router.gpus.fresh(FRESH_LIMIT);
            match health(&x.router.snapshot(), &inventory, &x.router.config) {
                Ok(body) => x.answer(200, JSON, &body),
                Err(error) => x.tell(&internal(&error), Outcome::Refused),
            }
        }
        "/metrics" if reading => {
            let snapshot = x.router.snapshot();
            let loads = x.router.loads(&snapshot);
            let inventory = x.router.gpus.fresh(FRESH_LIMIT);
            let mut text =
                x.router
                    .metrics
                    .text(&snapshot, &loads, x.router.connections(), &inventory);
            text.push_str(&x.router.optimizer.metrics());
            let counts = x.router.gates.counts(&snapshot.nodes);
            let counts: Vec<_> = counts.into_iter().map(|(counts, _)| counts).collect();
            super::gate::figures::write(&mut text, &snapshot.nodes, &counts);
            x.router.watch.metrics(&snapshot, &mut text);
            x.answer(
                200,
                "text/plain; version=0.0.4; charset=utf-8",
                text.as_bytes(),
            );
        }
        "/gpurouter/api/status" if reading => {
            let status = x.router.status();
            document(x, &status);
        }
        "/gpurouter/api/decisions" if reading => {
            let limit = x
                .request
                .query()
                .and_then(limit_of)
                .unwrap_or(USUAL_DECISIONS);
            let decisions = x.router.ring.newest(limit);
            let decisions: Vec<&RequestRecord> = decisions.iter().map(AsRef::as_ref).collect();
            document(
                x,
                &Decisions {
                    schema: 1,
                    decisions,
                },
            );
        }
        "/gpurouter/api/route" if x.request.method() == "POST" => route(x),
        "/gpurouter/api/optimize" if reading => {
            let wish = optimize::wish_of(x.request.query(), x.router);
            let plan = x.router.optimize_plan(&wish);
            document(x, &plan);
        }
        "/gpurouter/api/optimize" if x.request.method() == "POST" => {
            let wish = optimize::wish_of(x.request.query(), x.router);
            match x.router.optimize_apply(&wish) {
                Some(result) => document(x, &result),
                None => x.tell(&stopping(), Outcome::Refused),
            }
        }
        _ => match path.strip_prefix("/gpurouter/api/why/") {
            Some(id) if reading => why(x, id),
            _ => return false,
        },
    }
    true
}

#[derive(Serialize)]
struct Decisions<'a> {
    schema: u32,
    decisions: Vec<&'a RequestRecord>,
}

fn limit_of(query: &str) -> Option<usize> {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix("limit="))
        .and_then(|limit| limit.parse().ok())
}

/// The record with the nodes that were considered and the request's way.
#[derive(Serialize)]
struct Why<'a> {
    schema: u32,
    #[serde(flatten)]
    record: &'a RequestRecord,
    candidates: &'a [crate::routing::Candidate],
    timeline: &'a [super::record::Step],
}

fn why(x: &mut Exchange<'_, '_>, id: &str) {
    match x.router.ring.find(id) {
        Some(record) => document(
            x,
            &Why {
                schema: 1,
                record: &record,
                candidates: &record.candidates,
                timeline: &record.timeline,
            },
        ),
        None => unknown_id(x, id),
    }
}

fn unknown_id(x: &mut Exchange<'_, '_>, id: &str) {
    "unknown_id".clone_into(&mut x.draft.record.reason);
    x.tell(
        &ApiError::new(
            ErrorKind::NotFound,
            format!(
                "no decision with the id `{}` is remembered",
                super::exchange::header_safe(id)
            ),
        ),
        Outcome::Refused,
    );
}

/// The decision for the request in the body, which is not sent anywhere.
fn route(x: &mut Exchange<'_, '_>) {
    let body = match x.request.read_body() {
        Ok(body) => body,
        Err(error) => return body_error(x, &error),
    };
    x.endpoint = Endpoint::ChatCompletions;
    let parsed = match parse(&Endpoint::ChatCompletions, &body) {
        Ok(parsed) => parsed,
        Err(error) => return x.tell(&error, Outcome::Refused),
    };
    let snapshot = x.router.snapshot();
    match forward::decide_for(x, &parsed, &snapshot) {
        Ok((decision, _)) => {
            let document_ = RouteDocument::of(&decision, "router");
            document(x, &document_);
        }
        Err(refusal) => forward::refuse(x, &refusal),
    }
}

/// `route --json`.
#[derive(Debug, Serialize)]
pub struct RouteDocument<'a> {
    schema: u32,
    source: &'static str,
    decision: RouteDecision<'a>,
    candidates: &'a [crate::routing::Candidate],
}

#[derive(Debug, Serialize)]
struct RouteDecision<'a> {
    node: Option<&'a str>,
    model: Option<&'a str>,
    complexity: Option<crate::routing::Complexity>,
    tier: &'a str,
    plan: &'static str,
    reason: &'a str,
    detail: &'a str,
    predicted: crate::routing::Predicted,
}

impl<'a> RouteDocument<'a> {
    /// The document of a decision; `source` is `router` or `probe`.
    pub fn of(decision: &'a crate::routing::Decision, source: &'static str) -> Self {
        let winner = decision.winner();
        Self {
            schema: 1,
            source,
            decision: RouteDecision {
                node: winner.map(|winner| winner.node.as_str()),
                model: winner.map(|winner| winner.model.as_str()),
                complexity: decision.complexity,
                tier: &decision.tier,
                plan: decision.plan.as_str(),
                reason: &decision.reason,
                detail: &decision.detail,
                predicted: winner.map(|winner| winner.predicted).unwrap_or_default(),
            },
            candidates: &decision.candidates,
        }
    }
}

fn document(x: &mut Exchange<'_, '_>, value: &impl Serialize) {
    match serde_json::to_vec(value) {
        Ok(body) => x.answer(200, JSON, &body),
        Err(error) => x.tell(&internal(&error), Outcome::Refused),
    }
}

fn stopping() -> ApiError {
    ApiError::new(ErrorKind::Overloaded, "the router is stopping")
}

fn internal(error: &serde_json::Error) -> ApiError {
    ApiError::new(ErrorKind::Internal, error.to_string())
}

/// Answers a list from the snapshot; false when the endpoint is none.
pub(super) fn list(x: &mut Exchange<'_, '_>) -> bool {
    let snapshot = x.router.snapshot();
    let policy = &x.router.config.routing;
    match x.endpoint.clone() {
        Endpoint::Root if snapshot.usable().next().is_some() => x.answer(
            200,
            "text/plain; charset=utf-8",
            dialect::ROOT_TEXT.as_bytes(),
        ),
        Endpoint::Root => x.answer(503, "text/plain; charset=utf-8", b"no node is up"),
        Endpoint::Version => x.answer(200, JSON, &dialect::version(&snapshot)),
        Endpoint::Tags => x.answer(200, JSON, &dialect::tags(&snapshot, policy)),
        Endpoint::Ps => x.answer(200, JSON, &dialect::ps(&snapshot)),
        Endpoint::Models => x.answer(200, JSON, &dialect::models(&snapshot, policy)),
        Endpoint::Model(id) => match dialect::model(&snapshot, policy, &id) {
            Ok(body) => x.answer(200, JSON, &body),
            Err(error) => x.tell(&error, Outcome::Refused),
        },
        _ => return false,
    }
    true
}

/// A body that could not be read.
pub(super) fn body_error(x: &mut Exchange<'_, '_>, error: &BodyError) {
    let kind = match error {
        BodyError::TooLarge(_) => ErrorKind::TooLarge,
        BodyError::Timeout => ErrorKind::Timeout,
        BodyError::Truncated | BodyError::Io(_) => return x.client_left(),
        BodyError::Malformed(_) => ErrorKind::InvalidRequest,
    };
    let mut told = ApiError::new(kind, error.to_string());
    told.status = error.status();
    x.tell(&told, Outcome::Refused);
}
