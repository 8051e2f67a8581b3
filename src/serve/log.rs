//! Log lines on stderr, as text or JSON.

use std::io::{self, Write};
use std::time::SystemTime;

use serde::Serialize;

use super::record::{LogLine, Outcome, RequestRecord};
use crate::config::LogLevel;

/// Form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// One line of words per event.
    #[default]
    Text,
    /// One JSON document per line.
    Json,
}

/// Writes log lines.
#[derive(Debug, Clone, Copy)]
pub struct Log {
    /// Least severe level that is written; `None` writes nothing, for a command that tells its errors itself.
    pub level: Option<LogLevel>,
    /// Form.
    pub format: LogFormat,
}

#[derive(Serialize)]
struct Event<'a> {
    ts: String,
    level: LogLevel,
    message: &'a str,
}

impl Log {
    /// Whether events of that level are written.
    pub(super) fn writes(self, level: LogLevel) -> bool {
        self.level.is_some_and(|least| level >= least)
    }

    /// Writes one event that is not a request.
    pub fn event(self, level: LogLevel, message: &str) {
        if !self.writes(level) {
            return;
        }
        let ts = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        match self.format {
            LogFormat::Text => write_line(format!("{ts} {} {message}", word(level))),
            LogFormat::Json => match serde_json::to_string(&Event { ts, level, message }) {
                Ok(line) => write_line(line),
                Err(error) => write_line(format!("error {error}")),
            },
        }
    }

    /// Writes the line of a finished request.
    pub(super) fn request(self, record: &RequestRecord, nodes: usize) {
        let level = match record.outcome {
            Outcome::Ok | Outcome::ClientGone | Outcome::Refused => LogLevel::Info,
            Outcome::UpstreamError | Outcome::Cut => LogLevel::Error,
        };
        if !self.writes(level) {
            return;
        }
        match self.format {
            LogFormat::Text => write_line(record.text()),
            LogFormat::Json => match serde_json::to_string(&LogLine::of(record, nodes)) {
                Ok(line) => write_line(line),
                Err(error) => write_line(format!("{} error {error}", record.ts)),
            },
        }
    }
}

fn word(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warning => "warning",
        LogLevel::Error => "error",
    }
}

/// One write per line, so that lines of many threads never mix.
fn write_line(mut line: String) {
    line.push('\n');
    // A log that cannot be written must not stop the router, and there is nowhere else to tell it.
    let _ = io::stderr().lock().write_all(line.as_bytes());
}
