//! An answer that begins before the node has said anything: clients with short patience get their head and pieces that say nothing.
//!
//! Until the first piece of content another node may still take over; what goes wrong is told inside the stream, and what would have stood
//! in the head is sent in trailers to clients that take them.

use std::io;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use super::exchange::Exchange;
use crate::dialect::{Endpoint, Parsed, StreamForm};
use crate::http::client::Tick;
use crate::http::server::{Framing, Reply};

/// Longest time between two such pieces: below the idle limits of proxies and clients.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Shortest one.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// The plan for an early answer, and how far it has come.
#[derive(Debug)]
pub(super) struct Early {
    /// When the next piece is due.
    at: Instant,
    pause: Duration,
    piece: Vec<u8>,
    content_type: &'static str,
    fields: Vec<(&'static str, String)>,
    started: bool,
}

impl Early {
    /// `None` where it is not wanted, or the client asked for no stream.
    pub(super) fn of(x: &Exchange<'_, '_>, parsed: &Parsed<'_>) -> Option<Self> {
        let after = x.router.config.context.early_response?;
        let form = x.endpoint.stream_form().filter(|_| parsed.stream())?;
        let content_type = if form == StreamForm::Ndjson {
            "application/x-ndjson"
        } else {
            "text/event-stream"
        };
        Some(Self {
            at: Instant::now() + after.saturating_sub(x.elapsed()),
            pause: after.clamp(SHORTEST_PAUSE, LONGEST_PAUSE),
            piece: piece(&x.endpoint, parsed.model().unwrap_or_default()),
            content_type,
            fields: x.early_fields(),
            started: false,
        })
    }

    /// Whether the head has been sent.
    pub(super) fn started(&self) -> bool {
        self.started
    }

    /// Sends what is due.
    fn tick(&mut self, reply: &mut Reply<'_>) -> io::Result<()> {
        if Instant::now() < self.at {
            return Ok(());
        }
        if !self.started {
            for (name, value) in &self.fields {
                reply.add_header(name, value.as_bytes());
            }
            let head = [
                ("Content-Type", self.content_type),
                ("X-Accel-Buffering", "no"),
            ];
            reply.start(200, &head, Framing::Chunked)?;
            self.started = true;
        }
        reply.push(&[&self.piece])?;
        self.at = Instant::now() + self.pause;
        Ok(())
    }
}

/// A piece that is legal before the first one of an answer, and says nothing.
fn piece(endpoint: &Endpoint, model: &str) -> Vec<u8> {
    // An empty line would be no JSON document.
    let created_at = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
    let text = match endpoint {
        Endpoint::Chat => {
            let message = json!({ "role": "assistant", "content": "" });
            let line = json!({ "model": model, "created_at": created_at, "message": message, "done": false });
            format!("{line}\n")
        }
        Endpoint::Generate => {
            let line =
                json!({ "model": model, "created_at": created_at, "response": "", "done": false });
            format!("{line}\n")
        }
        Endpoint::Messages => "event: ping\ndata: {\"type\": \"ping\"}\n\n".to_owned(),
        _ => ": ping\n\n".to_owned(),
    };
    text.into_bytes()
}

impl Exchange<'_, '_> {
    /// Whether the answer has begun before the node's.
    pub(super) fn early_started(&self) -> bool {
        self.early.as_ref().is_some_and(Early::started)
    }

    /// Sends the piece that is due; true when the client has left.
    pub(super) fn waits(&mut self) -> bool {
        let Some(early) = &mut self.early else {
            return self.reply.client_gone();
        };
        let before = early.started;
        let failed = early.tick(self.reply).is_err();
        if early.started && !before {
            self.draft.step("early answer");
        }
        failed || self.reply.client_gone()
    }

    /// Runs `send` with what keeps the client waiting meanwhile.
    pub(super) fn while_waiting<T>(
        &mut self,
        send: impl FnOnce(&crate::http::server::Request<'_>, Option<Tick<'_>>) -> T,
    ) -> T {
        let Some(early) = &mut self.early else {
            return send(self.request, None);
        };
        let reply = &mut *self.reply;
        let before = early.started;
        let at = early.at;
        let mut act = || {
            // A client that left is seen by whoever waits on its behalf.
            if early.tick(reply).is_err() {
                early.at = Instant::now() + LONGEST_PAUSE;
            }
            early.at
        };
        let result = send(self.request, Some(Tick { at, act: &mut act }));
        if self.early_started() && !before {
            self.draft.step("early answer");
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_say_nothing_in_the_client_s_own_form() {
        let text = |endpoint| String::from_utf8(piece(&endpoint, "m")).unwrap();
        for (endpoint, content) in [
            (Endpoint::Chat, "/message/content"),
            (Endpoint::Generate, "/response"),
        ] {
            let text = text(endpoint);
            assert!(
                text.ends_with("}\n") && text.trim_end().lines().count() == 1,
                "{text}"
            );
            let line: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(
                (line.pointer(content), &line["done"]),
                (Some(&json!("")), &json!(false))
            );
        }
        assert_eq!(text(Endpoint::ChatCompletions), ": ping\n\n");
        assert!(text(Endpoint::Messages).starts_with("event: ping\ndata: {"));
    }
}
