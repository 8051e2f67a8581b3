//! What is shown while changes are made: a spinner per load on a terminal, one line per step that is over.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::cli::Global;
use crate::cluster::{Action, Change};
use crate::config::LogLevel;
use crate::keeper::{Event, told};
use crate::render;
use crate::serve::Log;

/// Time between two frames of a spinner.
const FRAME: Duration = Duration::from_millis(100);

/// Shows progress.
pub(super) struct Progress {
    bars: Option<MultiProgress>,
    running: Mutex<HashMap<(String, String), ProgressBar>>,
    /// Where lines go: to the log when cycles repeat, else to stdout beside the text.
    log: Option<Log>,
    lines: bool,
}

impl Progress {
    pub(super) fn new(global: &Global, log: Log, repeats: bool) -> Self {
        let terminal = io::IsTerminal::is_terminal(&io::stderr());
        let shown = terminal && !global.quiet && !repeats;
        Self {
            bars: shown.then(MultiProgress::new),
            running: Mutex::default(),
            log: repeats.then_some(log),
            lines: !global.json,
        }
    }

    pub(super) fn tell(&self, event: Event<'_>) {
        match event {
            Event::Begun(change) => {
                let text = doing(change);
                if let Some(bar) = self.spinner(&text) {
                    self.running().insert(key(change), bar);
                }
                if let Some(log) = self.log {
                    log.event(LogLevel::Info, &text);
                }
            }
            Event::Ended(change, done) => {
                if let Some(bar) = self.running().remove(&key(change)) {
                    bar.finish_and_clear();
                }
                let (level, text) = told(change, done);
                match self.log {
                    Some(log) => log.event(level, &text),
                    // Failures are in the document.
                    None if self.lines && done.ok() => self.line(&text),
                    None => {}
                }
            }
        }
    }

    /// A spinner for what somebody else does; ends when it is dropped.
    pub(super) fn waiting(&self, plan: &Value) -> Option<Spinner> {
        let count = plan["changes"].as_array().map_or(0, Vec::len);
        let text = format!("{count} changes are being made by the router");
        let bar = (count > 0).then(|| self.spinner(&text)).flatten();
        bar.map(Spinner)
    }

    /// The lines of a document that the router made.
    pub(super) fn tell_document(&self, document: &Value) {
        let list = |name: &str| document[name].as_array().cloned().unwrap_or_default();
        for change in list("changes") {
            let same = |other: &Value| {
                other["node"] == change["node"] && other["model"] == change["model"]
            };
            let failed = list("failed");
            if failed
                .iter()
                .any(|failed| same(failed) && failed["action"] == change["action"])
            {
                continue;
            }
            let place = |resident: &Value| match resident["gpu_percent"].as_u64() {
                Some(100) => "now on GPU".to_owned(),
                Some(0) => "now on the CPU".to_owned(),
                Some(percent) => format!("now {percent}% on GPU"),
                None => "now loaded".to_owned(),
            };
            let place = list("resident").iter().find(|one| same(one)).map(place);
            let (model, node) = (
                change["model"].as_str().unwrap_or_default(),
                change["node"].as_str().unwrap_or_default(),
            );
            let text = match (change["action"].as_str(), place) {
                (Some("load"), Some(place)) => format!("{model} is {place} at {node}"),
                (Some("pin"), Some(place)) => format!("{model} stays {place} at {node}"),
                _ => format!("{model} was unloaded at {node}"),
            };
            match self.log {
                Some(log) => log.event(LogLevel::Info, &text),
                None if self.lines => self.line(&text),
                None => {}
            }
        }
    }

    fn spinner(&self, text: &str) -> Option<ProgressBar> {
        let bar = self.bars.as_ref()?.add(ProgressBar::new_spinner());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(text.to_owned());
        bar.enable_steady_tick(FRAME);
        Some(bar)
    }

    fn line(&self, text: &str) {
        let write = || {
            // A closed pipe is found by the document that follows.
            let _ = render::told(&mut io::stdout().lock(), text);
        };
        match &self.bars {
            Some(bars) => bars.suspend(write),
            None => write(),
        }
    }

    fn running(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), ProgressBar>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A spinner that ends when it is dropped.
pub(super) struct Spinner(ProgressBar);

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn key(change: &Change) -> (String, String) {
    (change.node.clone(), change.model.to_string())
}

fn doing(change: &Change) -> String {
    let word = match change.action {
        Action::Load => "loading",
        Action::Unload => "unloading",
        Action::Pin => "pinning",
    };
    format!("{word} {} at {}", change.model, change.node)
}
