//! What is said of a step that is over, in logs and on a terminal.

use super::Done;
use crate::cluster::{Action, Change, LoadedModel};
use crate::config::LogLevel;

/// One line on a step that is over, and how severe it is.
pub fn told(change: &Change, done: &Done) -> (LogLevel, String) {
    let (model, node) = (&change.model, &change.node);
    if let Some(error) = &done.error {
        let action = change.action.as_str();
        if done.put_off {
            let text = format!("{model} at {node}: {action} put off: {error}");
            return (LogLevel::Info, text);
        }
        return (
            LogLevel::Warning,
            format!("{model} at {node}: {action} failed: {error}"),
        );
    }
    let seconds = seconds(done.took_ms);
    let text = match change.action {
        Action::Load => {
            let landed = done.landed.as_ref();
            format!("{model} is {} at {node} ({seconds})", place(landed))
        }
        Action::Pin => format!("{model} stays {} at {node}", place(done.landed.as_ref())),
        Action::Unload => format!("{model} was unloaded at {node}: {}", lower(&change.reason)),
    };
    (LogLevel::Info, text)
}

/// Where a model is now.
fn place(landed: Option<&LoadedModel>) -> String {
    match landed.and_then(LoadedModel::gpu_percent) {
        Some(100) => "now on GPU".to_owned(),
        Some(0) => "now on the CPU".to_owned(),
        Some(percent) => format!("now {percent}% on GPU"),
        None => "now loaded".to_owned(),
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

fn lower(reason: &str) -> String {
    let mut letters = reason.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_lowercase().chain(letters).collect()
    })
}
