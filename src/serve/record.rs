//! What is written down of a request: the log line, the ring's entry and `ask --json` are all this record.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::trace::TraceDraft;
use crate::routing::{Candidate, Complexity, Predicted};

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The answer is complete.
    Ok,
    /// The client left before the end.
    ClientGone,
    /// The node answered with an error, or not at all.
    UpstreamError,
    /// The node stopped in the middle of an answer.
    Cut,
    /// The router itself said no.
    Refused,
}

impl Outcome {
    /// The word used in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::ClientGone => "client_gone",
            Self::UpstreamError => "upstream_error",
            Self::Cut => "cut",
            Self::Refused => "refused",
        }
    }
}

/// Tokens of a request; `None` where nobody counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Tokens {
    /// Estimated before sending.
    pub prompt_estimated: Option<u64>,
    /// As the node counted the prompt.
    pub prompt: Option<u64>,
    /// As the node counted the answer.
    pub completion: Option<u64>,
    /// Prompt tokens that the node did not have to read again.
    pub cached: Option<u64>,
}

/// Milliseconds by phase; `None` where a phase did not happen or nobody measured it.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
#[expect(
    clippy::struct_field_names,
    reason = "the contract names them so, with their unit"
)]
pub struct Timings {
    /// Waiting for a slot here.
    pub queue_ms: Option<f64>,
    /// Loading the model, as the node says.
    pub load_ms: Option<f64>,
    /// From the request to the first byte of the answer's body.
    pub ttft_ms: Option<f64>,
    /// From the request to the end of the answer.
    pub total_ms: Option<f64>,
}

/// A node that was tried in vain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fallback {
    /// Node name.
    pub node: String,
    /// What happened there.
    pub reason: String,
}

/// One step of a request's way.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// Milliseconds since the request was read.
    pub ms: f64,
    /// What happened.
    pub event: Cow<'static, str>,
}

/// The record of a request, as cli.md fixes it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RequestRecord {
    /// RFC 3339 time at which the request was read.
    pub ts: String,
    /// Identifier, also in `X-Gpurouter-Id`.
    pub id: String,
    /// `ollama`, `openai` or `anthropic`.
    pub dialect: &'static str,
    /// Path without its query.
    pub path: String,
    /// Address of the client, and its `User-Agent`.
    pub client: String,
    /// The model as the client wrote it.
    pub requested_model: Option<String>,
    /// The model that answered, as its node calls it.
    pub model: Option<String>,
    /// The node that answered.
    pub node: Option<String>,
    /// Class, when the request was classified.
    pub complexity: Option<Complexity>,
    /// Tier in lower case.
    pub tier: Option<String>,
    /// What became of the context.
    pub plan: Option<&'static str>,
    /// Short code.
    pub reason: String,
    /// The reason as a sentence.
    pub detail: String,
    /// Tokens.
    pub tokens: Tokens,
    /// Measured milliseconds.
    pub timings: Timings,
    /// Predicted milliseconds of the node that answered.
    pub predicted: Predicted,
    /// Status sent to the client; 499 when it left before one was sent.
    pub status: u16,
    /// How it ended.
    pub outcome: Outcome,
    /// Nodes that were tried in vain.
    pub fallbacks: Vec<Fallback>,
    /// Whether the model was on a GPU; `None` when the node does not tell.
    pub gpu_used: Option<bool>,
    /// Name of the GPU, where the configuration names one.
    pub gpu: Option<String>,
    /// What the same tokens cost at the configured reference price; `None` without one.
    pub cost_saved_usd: Option<f64>,
    /// Whether the node cut the prompt; `None` when it does not tell what it read, or that leaves it open.
    pub truncated: Option<bool>,
    /// Rules of `[affinity] canonical` that made something of the prompt constant.
    pub canonical: Vec<&'static str>,
    /// What the client said the request is for (`X-Gpurouter-Task`), `general` when it said nothing.
    pub task: String,
    /// Every node that was considered; told by `why`.
    #[serde(skip)]
    pub candidates: Arc<[Candidate]>,
    /// The way of the request; told by `why`.
    #[serde(skip)]
    pub timeline: Vec<Step>,
}

/// The JSON log's line: the record, and beside it the names that the source documents' log readers know.
#[derive(Debug, Serialize)]
pub(super) struct LogLine<'a> {
    #[serde(flatten)]
    record: &'a RequestRecord,
    /// Always `local`: nothing is ever sent to a cloud.
    route: &'static str,
    tokens_in: Option<u64>,
    tokens_out: Option<u64>,
    total_tokens: Option<u64>,
    latency_ms: Option<f64>,
    /// Whether there is more than one node to choose from.
    dual_gpu_enabled: bool,
}

impl<'a> LogLine<'a> {
    /// The line of a record; `nodes` is how many there are.
    pub(super) fn of(record: &'a RequestRecord, nodes: usize) -> Self {
        let (tokens_in, tokens_out) = (record.tokens.prompt, record.tokens.completion);
        Self {
            record,
            route: "local",
            tokens_in,
            tokens_out,
            total_tokens: tokens_in
                .zip(tokens_out)
                .map(|(read, written)| read + written),
            latency_ms: record.timings.total_ms,
            dual_gpu_enabled: nodes > 1,
        }
    }
}

/// Milliseconds with three decimals, which is all a log needs.
pub(super) fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1000.0
}

/// A record under way, with the clock it started on.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) record: RequestRecord,
    pub(super) started: Instant,
    /// Its line of the trace, where one is recorded.
    pub(super) trace: Option<Box<TraceDraft>>,
}

impl Draft {
    /// Notes a step of the request's way; a request with very many tries keeps the first steps.
    pub(super) fn step(&mut self, event: impl Into<Cow<'static, str>>) {
        const MOST: usize = 64;
        if self.record.timeline.len() < MOST {
            self.record.timeline.push(Step {
                ms: millis(self.started.elapsed()),
                event: event.into(),
            });
        }
    }
}

impl RequestRecord {
    /// The line of the text log.
    pub fn text(&self) -> String {
        use std::fmt::Write;
        let mut line = format!(
            "{} {} {} {} {}",
            self.ts,
            self.id,
            self.client.split(' ').next().unwrap_or("-"),
            self.path,
            self.status
        );
        let word = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        // Writing to a String cannot fail.
        let _ = write!(
            line,
            " {} model={} node={} tier={}",
            self.outcome.as_str(),
            word(&self.model),
            word(&self.node),
            word(&self.tier)
        );
        if let Some(complexity) = self.complexity {
            let _ = write!(line, " complexity={}", complexity.as_str());
        }
        let _ = write!(line, " reason={}", self.reason);
        let count =
            |count: Option<u64>| count.map_or_else(|| "?".to_owned(), |count| count.to_string());
        let _ = write!(
            line,
            " tokens={}+{}",
            count(self.tokens.prompt.or(self.tokens.prompt_estimated)),
            count(self.tokens.completion)
        );
        for (name, value) in [
            ("queue", self.timings.queue_ms),
            ("ttft", self.timings.ttft_ms),
            ("total", self.timings.total_ms),
        ] {
            if let Some(ms) = value {
                let _ = write!(line, " {name}={ms:.1}ms");
            }
        }
        if !self.canonical.is_empty() {
            let _ = write!(line, " canonical={}", self.canonical.join(","));
        }
        if let Some(gpu) = self.gpu_used {
            let _ = write!(line, " gpu_used={gpu}");
        }
        if self.truncated == Some(true) {
            line.push_str(" truncated=true");
        }
        for fallback in &self.fallbacks {
            let _ = write!(line, " fallback={}({})", fallback.node, fallback.reason);
        }
        if self.outcome != Outcome::Ok {
            let _ = write!(line, " detail={:?}", self.detail);
        }
        line
    }
}
