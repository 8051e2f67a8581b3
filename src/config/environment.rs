//! The environment as data.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Environment variables, and the directory that relative paths start from.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
    directory: PathBuf,
}

impl Environment {
    /// The process's own.
    pub fn of_process() -> Self {
        Self {
            variables: std::env::vars_os().collect(),
            directory: PathBuf::new(),
        }
    }

    /// These variables and no others, in that directory.
    pub fn new<N: Into<OsString>, V: Into<OsString>>(
        directory: &Path,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        Self {
            variables: variables
                .into_iter()
                .map(|(name, value)| (name.into(), value.into()))
                .collect(),
            directory: directory.to_owned(),
        }
    }

    /// A variable that is set and not empty; an empty one counts as unset, as shells and service units use it to switch a variable off.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.variables
            .get(OsStr::new(name))
            .map(OsString::as_os_str)
            .filter(|value| !value.is_empty())
    }

    /// A variable's text; bytes that are not UTF-8 are replaced, and then refused by whatever reads the value.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.get(name)
            .map(|value| value.to_string_lossy().trim().to_owned())
            .filter(|text| !text.is_empty())
    }

    /// The directory that relative paths start from; empty for the process's own.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }
}
