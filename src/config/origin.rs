//! Where a value comes from, and the problems found there.

use std::fmt::{self, Write};

use crate::render::Told;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// A line of the configuration file.
    File {
        /// The file as the user wrote it.
        path: String,
        /// Line, from 1.
        line: usize,
    },
    /// An environment variable.
    Env(&'static str),
    /// A flag.
    Flag(&'static str),
}

impl Origin {
    /// What an error message starts with.
    fn place(&self) -> String {
        match self {
            Self::Default => "default".to_owned(),
            Self::File { path, line } => format!("{path}:{line}"),
            Self::Env(name) | Self::Flag(name) => (*name).to_owned(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { .. } => write!(f, "file {}", self.place()),
            Self::Env(_) => write!(f, "env {}", self.place()),
            Self::Flag(_) => write!(f, "flag {}", self.place()),
        }
    }
}

#[derive(Debug)]
struct Problem {
    /// Line in the file; problems elsewhere come after those.
    line: usize,
    message: String,
    hint: Option<String>,
}

/// Everything that is wrong with a configuration.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

/// Problems that are told at most; a file of another kind would otherwise fill the screen.
const MOST_TOLD: usize = 20;

impl Problems {
    pub(super) fn add(&mut self, origin: &Origin, text: impl fmt::Display) {
        self.push(origin, text, None);
    }

    pub(super) fn add_with_hint(
        &mut self,
        origin: &Origin,
        text: impl fmt::Display,
        hint: impl Into<String>,
    ) {
        self.push(origin, text, Some(hint.into()));
    }

    fn push(&mut self, origin: &Origin, text: impl fmt::Display, hint: Option<String>) {
        let line = match origin {
            Origin::File { line, .. } => *line,
            _ => usize::MAX,
        };
        self.0.push(Problem {
            line,
            message: format!("{}: {text}", origin.place()),
            hint,
        });
    }

    /// One error for all problems: a line each, every one but the first with the prefix that [`crate::render::report`] gives the first.
    pub(super) fn into_result(mut self) -> Result<(), Told> {
        self.0.sort_by_key(|problem| problem.line);
        let total = self.0.len();
        let mut message = String::new();
        let mut last_hint: Option<String> = None;
        for problem in self.0.into_iter().take(MOST_TOLD) {
            if let Some(hint) = last_hint.take() {
                message.push_str("\nhint: ");
                message.push_str(&hint);
            }
            if !message.is_empty() {
                message.push_str("\nerror: ");
            }
            message.push_str(&problem.message);
            last_hint = problem.hint;
        }
        if message.is_empty() {
            return Ok(());
        }
        if total > MOST_TOLD {
            if let Some(hint) = last_hint.take() {
                message.push_str("\nhint: ");
                message.push_str(&hint);
            }
            let _ = write!(message, "\nerror: and {} more", total - MOST_TOLD);
        }
        let told = Told::usage(message);
        Err(match last_hint {
            Some(hint) => told.hint(hint),
            None => told,
        })
    }
}
