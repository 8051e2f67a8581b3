//! One request and its answer, with the record that is written of it.

use std::borrow::Cow;
use std::fmt::Write;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::Router;
use super::early::Early;
use super::gate::Permit;
use super::measure::Place;
use super::reading::Sent;
use super::record::{Draft, Fallback, Outcome, RequestRecord, Timings, Tokens, millis};
use super::watch::Owing;
use crate::cluster::ModelName;
use crate::dialect::{ApiError, Dialect, Endpoint, ErrorKind, Usage, cors_answer};
use crate::http::server::{Framing, Reply, Request};
use crate::routing::{Candidate, Decision, Observation, Predicted};

/// Headers that a page may read.
const EXPOSED: &str = "X-Gpurouter-Id, X-Gpurouter-Node, X-Gpurouter-Model, X-Gpurouter-Tier, X-Gpurouter-Plan, X-Gpurouter-Reason, X-Gpurouter-Fallback, X-Gpurouter-Truncated, X-Gpurouter-Canonical";

/// One request under way.
pub(super) struct Exchange<'x, 'c> {
    pub(super) router: &'x Router,
    pub(super) request: &'x mut Request<'c>,
    pub(super) reply: &'x mut Reply<'c>,
    pub(super) endpoint: Endpoint,
    pub(super) dialect: Dialect,
    pub(super) draft: Draft,
    /// The slot of the node that is working on this request.
    pub(super) permit: Option<Permit>,
    /// What its answer's counters are compared with.
    pub(super) sent: Option<Sent>,
    /// What is to be learned from its answer.
    pub(super) seen: Option<(Place, Observation)>,
    /// The first byte that a node owes.
    pub(super) owing: Option<Owing<'x>>,
    /// An answer that may begin before the node's.
    pub(super) early: Option<Early>,
}

impl<'x, 'c> Exchange<'x, 'c> {
    pub(super) fn new(
        router: &'x Router,
        request: &'x mut Request<'c>,
        reply: &'x mut Reply<'c>,
    ) -> Self {
        let endpoint = Endpoint::of(request.method(), request.path());
        let dialect = if endpoint == Endpoint::Unknown {
            Dialect::of_path(request.path())
        } else {
            endpoint.dialect()
        };
        let agent = request.headers().get_str("user-agent").unwrap_or("-");
        let task = request
            .headers()
            .get_str("x-gpurouter-task")
            .unwrap_or("general");
        // Room for any address and usual agents at once: growing by parts costs more than writing.
        let mut client = String::with_capacity(128);
        // Writing to a String cannot fail.
        let _ = write!(client, "{} {agent}", request.peer());
        let record = RequestRecord {
            ts: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            id: router.next_id(),
            dialect: dialect.as_str(),
            path: clip(request.path(), 256),
            client: clip(&client, 160),
            requested_model: None,
            model: None,
            node: None,
            complexity: None,
            tier: None,
            plan: None,
            reason: String::new(),
            detail: String::new(),
            tokens: Tokens::default(),
            timings: Timings::default(),
            predicted: Predicted::default(),
            status: 0,
            outcome: Outcome::Ok,
            fallbacks: Vec::new(),
            gpu_used: None,
            gpu: None,
            cost_saved_usd: None,
            truncated: None,
            canonical: Vec::new(),
            task: clip(task, 64),
            candidates: Arc::default(),
            timeline: Vec::with_capacity(4),
        };
        Self {
            router,
            request,
            reply,
            endpoint,
            dialect,
            draft: Draft {
                record,
                started: Instant::now(),
                trace: None,
            },
            permit: None,
            sent: None,
            seen: None,
            owing: None,
            early: None,
        }
    }

    /// Gives the node's slot back. To be called before the last bytes go to the client: its next request may arrive before this one is
    /// written down, and must not find the node busy with an answer that is complete.
    pub(super) fn node_done(&mut self) {
        self.permit = None;
    }

    /// Notes what the node's own counters say of the time that the request waited inside it. To be called before [`Self::node_done`].
    pub(super) fn counted(&mut self, usage: &Usage) {
        let Some(permit) = &mut self.permit else {
            return;
        };
        if permit.was_promised() {
            let record = &self.draft.record;
            let place = record.node.as_deref().zip(record.model.as_deref());
            permit.cached(usage.cached_tokens.or_else(|| {
                // A node that does not tell shows it by the time that it took.
                let (node, model) = place?;
                let speeds = self.router.measurements.now();
                let speed = speeds.get(node, &ModelName::new(model));
                let read = speed.tokens_read(usage.prompt_ms?)?;
                Some(usage.prompt_tokens?.saturating_sub(read))
            }));
        }
        let parts = [usage.load_ms, usage.prompt_ms, usage.decode_ms];
        let worked = parts.into_iter().try_fold(0.0, |sum, ms| Some(sum + ms?));
        if let Some((all, worked)) = usage.total_ms.zip(worked) {
            let left = Duration::try_from_secs_f64((all - worked).max(0.0) / 1000.0);
            permit.waited(
                left.ok()
                    .and_then(|left| u64::try_from(left.as_millis()).ok()),
            );
        }
    }

    /// Time since the request was read.
    pub(super) fn elapsed(&self) -> Duration {
        self.draft.started.elapsed()
    }

    /// Notes what was decided, and hands the candidates back.
    pub(super) fn decided(&mut self, decision: Decision) -> Arc<[Candidate]> {
        let candidates: Arc<[Candidate]> = decision.candidates.into();
        let record = &mut self.draft.record;
        record.complexity = decision.complexity;
        record.tier = Some(decision.tier);
        record.plan = Some(decision.plan.as_str());
        record.reason = decision.reason;
        record.detail = decision.detail;
        record.candidates = Arc::clone(&candidates);
        candidates
    }

    /// Notes the node that is being tried.
    pub(super) fn trying(&mut self, candidate: &Candidate) {
        let record = &mut self.draft.record;
        record.node = Some(candidate.node.clone());
        record.model = Some(candidate.model.clone());
        record.predicted = candidate.predicted;
        self.owing = Some(
            self.router
                .owes(&candidate.node, candidate.predicted.total_ms()),
        );
        if let Some(tried) = record.fallbacks.last() {
            record.reason = format!("fallback_to_{}", candidate.node);
            record.detail = format!(
                "`{}` on {}: took over after {} ({})",
                candidate.model, candidate.node, tried.node, tried.reason
            );
        }
        self.draft.step(format!("sent to {}", candidate.node));
    }

    /// Notes a node that was tried in vain.
    pub(super) fn failed(&mut self, candidate: &Candidate, reason: &str) {
        self.draft
            .step(format!("{} failed: {reason}", candidate.node));
        self.draft.record.fallbacks.push(Fallback {
            node: candidate.node.clone(),
            reason: reason.to_owned(),
        });
    }

    /// Notes the first byte of the answer's body.
    pub(super) fn first_byte(&mut self) {
        if self.draft.record.timings.ttft_ms.is_none() {
            self.draft.record.timings.ttft_ms = Some(millis(self.elapsed()));
            self.draft.step("first byte");
            if let Some(permit) = &mut self.permit {
                permit.answering();
            }
        }
        if let Some(owing) = self.owing.take() {
            owing.answered();
        }
    }

    /// Puts the router's own headers, and those that a browser needs, into the head that is started next.
    pub(super) fn add_own_headers(&mut self) {
        let record = &self.draft.record;
        let reply = &mut *self.reply;
        let mut add = |name: &str, value: &str| reply.add_header(name, safe(value).as_bytes());
        add("X-Gpurouter-Id", &record.id);
        let optional = [
            ("X-Gpurouter-Node", record.node.as_deref()),
            ("X-Gpurouter-Model", record.model.as_deref()),
            ("X-Gpurouter-Tier", record.tier.as_deref()),
            ("X-Gpurouter-Plan", record.plan),
            (
                "X-Gpurouter-Reason",
                Some(record.reason.as_str()).filter(|reason| !reason.is_empty()),
            ),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                add(name, value);
            }
        }
        if !record.fallbacks.is_empty() {
            let tried: Vec<String> = record
                .fallbacks
                .iter()
                .map(|tried| format!("{}={}", tried.node, tried.reason))
                .collect();
            add("X-Gpurouter-Fallback", &tried.join(", "));
        }
        if !record.canonical.is_empty() {
            add("X-Gpurouter-Canonical", &record.canonical.join(", "));
        }
        for (name, value) in cors(self.router, self.request) {
            add(name, &value);
        }
    }

    /// What is known of the answer before any node has said anything.
    pub(super) fn early_fields(&self) -> Vec<(&'static str, String)> {
        let record = &self.draft.record;
        let optional = [
            ("X-Gpurouter-Tier", record.tier.as_deref()),
            ("X-Gpurouter-Plan", record.plan),
        ];
        let mut fields = vec![("X-Gpurouter-Id", record.id.clone())];
        fields.extend(
            optional
                .into_iter()
                .filter_map(|(name, value)| Some((name, header_safe(value?)))),
        );
        fields.extend(cors(self.router, self.request));
        fields
    }

    /// Starts the answer, unless it has begun before the node's.
    pub(super) fn start(
        &mut self,
        status: u16,
        headers: &[(&str, &str)],
        framing: Framing,
    ) -> io::Result<()> {
        if self.early_started() {
            return Ok(());
        }
        self.reply.start(status, headers, framing)
    }

    /// Sends the last piece; with what a head that went out early could not say, for a client that takes trailers.
    pub(super) fn push_last(&mut self, last: &[&[u8]]) -> io::Result<()> {
        if !self.early_started() {
            return self.reply.push_last(last);
        }
        let record = &self.draft.record;
        let tried: Vec<String> = record
            .fallbacks
            .iter()
            .map(|tried| format!("{}={}", tried.node, tried.reason))
            .collect();
        let told = [
            ("X-Gpurouter-Node", record.node.clone()),
            ("X-Gpurouter-Model", record.model.clone()),
            ("X-Gpurouter-Reason", Some(record.reason.clone())),
            (
                "X-Gpurouter-Fallback",
                (!tried.is_empty()).then(|| tried.join(", ")),
            ),
            (
                "X-Gpurouter-Canonical",
                (!record.canonical.is_empty()).then(|| record.canonical.join(", ")),
            ),
        ];
        let told: Vec<(&str, String)> = told
            .into_iter()
            .filter_map(|(name, value)| Some((name, header_safe(&value?))))
            .collect();
        let trailers: Vec<(&str, &str)> = told
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        self.reply.end_with_trailers(last, &trailers)
    }

    /// Answers with a whole body made here.
    pub(super) fn answer(&mut self, status: u16, content_type: &str, body: &[u8]) {
        self.answer_with(status, content_type, body, &[]);
    }

    /// Answers with a whole body and further headers.
    pub(super) fn answer_with(
        &mut self,
        status: u16,
        content_type: &str,
        body: &[u8],
        further: &[(&str, &str)],
    ) {
        self.add_own_headers();
        let mut headers: Vec<(&str, &str)> = Vec::with_capacity(further.len() + 1);
        if !content_type.is_empty() {
            headers.push(("Content-Type", content_type));
        }
        headers.extend_from_slice(further);
        self.draft.record.status = status;
        self.node_done();
        if self.reply.full(status, &headers, body).is_err() {
            self.draft.record.outcome = Outcome::ClientGone;
        }
    }

    /// Answers with an error in the client's dialect; `outcome` says whose fault it is.
    pub(super) fn tell(&mut self, error: &ApiError, outcome: Outcome) {
        if self.draft.record.reason.is_empty() {
            reason_of(error.kind).clone_into(&mut self.draft.record.reason);
        }
        self.draft.record.outcome = outcome;
        self.draft.record.detail.clone_from(&error.message);
        if self.early_started() {
            let event = error.in_band(&self.endpoint, &self.draft.record.id);
            self.draft.record.status = 200;
            self.node_done();
            if self.push_last(&[&event]).is_err() {
                self.draft.record.outcome = Outcome::ClientGone;
            }
            return;
        }
        let body = error.body(self.dialect, &self.draft.record.id);
        let seconds = error.retry_after_s.unwrap_or(1).to_string();
        let retry = [("Retry-After", seconds.as_str())];
        let further: &[(&str, &str)] = if matches!(error.status, 429 | 503) {
            &retry
        } else {
            &[]
        };
        self.answer_with(
            error.status,
            error.content_type(self.dialect),
            &body,
            further,
        );
    }

    /// The client left before anything was answered.
    pub(super) fn client_left(&mut self) {
        self.draft.record.outcome = Outcome::ClientGone;
        "client left before the answer".clone_into(&mut self.draft.record.detail);
        if self.draft.record.status == 0 {
            self.draft.record.status = 499;
        }
        self.reply.abort();
    }
}

/// What a browser needs to let a page read the answer.
fn cors(router: &Router, request: &Request<'_>) -> Vec<(&'static str, String)> {
    let origin = request.headers().get_str("origin");
    origin
        .filter(|origin| router.hosts.allows_origin(origin))
        .map(|origin| cors_answer(origin, EXPOSED).into_iter().collect())
        .unwrap_or_default()
}

/// Short code of an error that the router told by itself.
fn reason_of(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidRequest | ErrorKind::ContextTooLong { .. } => "invalid_request",
        ErrorKind::Authentication => "authentication",
        ErrorKind::Permission => "not_allowed",
        ErrorKind::NotFound => "model_not_found",
        ErrorKind::NoRoute => "no_such_path",
        ErrorKind::WrongMethod => "wrong_method",
        ErrorKind::TooLarge => "too_large",
        ErrorKind::UnsupportedMedia => "unsupported_encoding",
        ErrorKind::RateLimit | ErrorKind::Overloaded => "overloaded",
        ErrorKind::Upstream => "no_node_answered",
        ErrorKind::Timeout => "timeout",
        ErrorKind::NotSupported => "not_supported",
        ErrorKind::Internal => "internal",
    }
}

/// A value that may stand in a header: printable ASCII only.
pub(super) fn header_safe(value: &str) -> String {
    safe(value).into_owned()
}

fn safe(value: &str) -> Cow<'_, str> {
    const MOST: usize = 512;
    if value.len() <= MOST && printable(value) {
        return Cow::Borrowed(value);
    }
    let printable = |c: char| {
        if c.is_ascii() && !c.is_ascii_control() {
            c
        } else {
            '?'
        }
    };
    Cow::Owned(value.chars().map(printable).take(MOST).collect())
}

fn printable(text: &str) -> bool {
    text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

/// At most `most` characters: what a client sends must not grow the log without limit.
fn clip(text: &str, most: usize) -> String {
    if text.len() <= most && printable(text) {
        return text.to_owned();
    }
    text.chars()
        .filter(|c| !c.is_control())
        .take(most)
        .collect()
}
