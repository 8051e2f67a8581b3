//! One request, sent and timed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::answer::Answer;
use super::body::{Fixed, Form, body};
use super::prompt::Prompt;
use crate::http::client::{
    Client, Deadlines, Origin, Outgoing, OutgoingBody, ReadError, SendError,
};
use crate::measure::{Outcome, Reply};

/// The longest that connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// Most of an error's body that is read.
const LONGEST_ERROR: usize = 64 * 1024;
/// Most of an error's text that is told.
const TOLD: usize = 300;

/// Where requests go, and in which form.
#[derive(Debug, Clone)]
pub struct Target {
    /// The address.
    pub origin: Origin,
    /// What it speaks.
    pub form: Form,
    /// The model for prompts that name none.
    pub model: String,
    /// Whether that model also stands in for those that prompts name.
    pub replaces: bool,
    /// Layers on the GPU, where that is told.
    pub num_gpu: Option<u32>,
}

impl Target {
    /// The model that a prompt is sent to.
    pub fn model_for<'a>(&'a self, prompt: &'a Prompt) -> &'a str {
        match &prompt.model {
            Some(model) if !self.replaces => model,
            _ => &self.model,
        }
    }
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    /// How it ended.
    pub outcome: Outcome,
    /// Milliseconds to the first token.
    pub ttft_ms: Option<f64>,
    /// Milliseconds to the end of the answer.
    pub total_ms: Option<f64>,
    /// What the server counted.
    pub usage: crate::dialect::Usage,
    /// What came of the answer.
    pub reply: Reply,
    /// The node that answered, as the router says.
    pub node: Option<String>,
    /// What went wrong.
    pub error: Option<String>,
}

/// Sends requests one by one.
#[derive(Debug)]
pub struct Sender<'a> {
    /// The connections.
    pub client: &'a Client,
    /// When a request counts as failed.
    pub timeout: Duration,
    /// Seed of the answers.
    pub seed: u64,
    /// Ends a request early.
    pub stop: &'a AtomicBool,
}

impl Sender<'_> {
    /// Sends a prompt and reads its whole answer; `None` when it was stopped meanwhile.
    pub fn send(&self, target: &Target, prompt: &Prompt, pass: &str) -> Option<Sent> {
        let fixed = Fixed {
            model: target.model_for(prompt),
            seed: self.seed,
            num_gpu: target.num_gpu,
            pass,
        };
        let body = body(target.form, prompt, fixed);
        let outgoing = Outgoing {
            method: "POST",
            target: target.form.path(),
            headers: &[
                ("Content-Type", b"application/json"),
                ("User-Agent", b"gpurouter-bench"),
            ],
            body: OutgoingBody::Bytes(&body),
        };
        let deadlines = Deadlines {
            connect: CONNECT,
            first_byte: None,
            between: None,
            total: Some(self.timeout),
        };
        let start = Instant::now();
        let mut incoming = match self.client.send(&target.origin, outgoing, &deadlines, None) {
            Ok(incoming) => incoming,
            Err(error) => return Some(failed(outcome_of_send(&error), error.to_string())),
        };
        let node = incoming
            .headers()
            .get_str("x-gpurouter-node")
            .map(str::to_owned);
        if incoming.status() != 200 {
            let status = incoming.status();
            let said = incoming.read_all(LONGEST_ERROR, None).unwrap_or_default();
            return Some(Sent {
                node,
                ..failed(
                    Outcome::Failed,
                    format!("status {status}: {}", short(&said)),
                )
            });
        }
        let mut answer = Answer::default();
        let (mut first, mut end) = (None, None);
        let trouble = loop {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            match incoming.next(None) {
                Ok(Some(piece)) => {
                    let at = start.elapsed();
                    if answer.push(target.form, piece) {
                        first.get_or_insert(at);
                    }
                    if answer.ended {
                        end.get_or_insert(at);
                    }
                }
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        answer.close(target.form);
        // An end that stood in the last, unfinished line came when the connection ended.
        let end = end.or_else(|| answer.ended.then(|| start.elapsed()));
        let outcome = match (&trouble, &answer.error) {
            (Some(ReadError::Total), _) => Outcome::TimedOut,
            (_, Some(_)) => Outcome::Failed,
            (None, None) if answer.ended => Outcome::Ok,
            _ => Outcome::Cut,
        };
        let error = answer
            .error
            .or_else(|| trouble.map(|error| error.to_string()));
        Some(Sent {
            outcome,
            ttft_ms: first.map(millis),
            total_ms: end.filter(|_| outcome == Outcome::Ok).map(millis),
            usage: answer.usage,
            reply: answer.reply,
            node,
            error: error.or_else(|| {
                (outcome == Outcome::Cut)
                    .then(|| "the answer ended before its end was told".to_owned())
            }),
        })
    }
}

fn failed(outcome: Outcome, error: String) -> Sent {
    Sent {
        outcome,
        ttft_ms: None,
        total_ms: None,
        usage: crate::dialect::Usage::default(),
        reply: Reply::default(),
        node: None,
        error: Some(error),
    }
}

fn outcome_of_send(error: &SendError) -> Outcome {
    match error {
        SendError::TotalTimeout | SendError::FirstByteTimeout => Outcome::TimedOut,
        _ => Outcome::Failed,
    }
}

/// The message of an error's body, or its beginning.
fn short(body: &[u8]) -> String {
    let document: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let error = document.get("error");
    let text = error.and_then(|error| error.as_str().or_else(|| error.get("message")?.as_str()));
    let text = text.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    text.chars()
        .filter(|c| !c.is_control())
        .take(TOLD)
        .collect()
}

pub(super) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
