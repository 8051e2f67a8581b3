//! What a person sees: tables, JSON, errors, colour and width rules.

mod bench;
mod estimate;
mod fit;
mod optimize;
mod replay;
mod tables;

use std::io::{self, Write};

use serde::Serialize;

pub use bench::{bench, chart, verdict};
pub use estimate::{counted, estimate, verification};
pub use fit::fit;
pub use optimize::{optimize, told};
pub use replay::replay;
pub use tables::{models, route, signals, status, why};

/// Exit codes of every command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Yes, done.
    Yes,
    /// No: a check failed, it does not fit.
    No,
    /// The command line or the configuration is wrong.
    Usage,
    /// No backend could be reached.
    Unreachable,
}

impl Exit {
    /// The process's exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Yes => 0,
            Self::No => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
        }
    }
}

/// Prints one JSON document on stdout.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(&serde_json::to_string(value)?)
}

/// Prints one line on stdout.
pub fn line(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.trim_end().as_bytes())?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

/// An error whose exit code is not the usual one, with a way out.
#[derive(Debug)]
pub struct Told {
    /// What happened and where.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
    /// The exit code.
    pub exit: Exit,
}

impl Told {
    /// A usage or configuration error.
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            exit: Exit::Usage,
        }
    }

    /// No backend could be reached.
    pub fn unreachable(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            exit: Exit::Unreachable,
        }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Told {}

/// Tells an error on stderr as `error: …` and, where there is one, `hint: …`; returns the exit code. A closed pipe is a quiet end.
pub fn report(error: &anyhow::Error) -> Exit {
    let closed_pipe = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe);
    if closed_pipe {
        return Exit::Yes;
    }
    let mut stderr = io::stderr().lock();
    // Nobody is left to tell when stderr itself is closed.
    let _ = writeln!(stderr, "error: {error:#}");
    let told = error.chain().find_map(|cause| cause.downcast_ref::<Told>());
    if let Some(hint) = told.and_then(|told| told.hint.as_ref()) {
        let _ = writeln!(stderr, "hint: {hint}");
    }
    told.map_or(Exit::Usage, |told| told.exit)
}
