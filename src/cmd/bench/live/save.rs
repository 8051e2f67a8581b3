//! Both replies of every pair, to be read by a person.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::live::Seen;
use crate::measure::{Policy, Temperature};
use crate::render::Told;

/// A directory of replies.
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Makes it; one that is there must be empty.
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        let told = |error: &dyn std::fmt::Display| {
            Told::usage(format!(
                "cannot save replies in `{}`: {error}",
                path.display()
            ))
        };
        fs::create_dir_all(path).map_err(|error| told(&error))?;
        let mut entries = fs::read_dir(path).map_err(|error| told(&error))?;
        if entries.next().is_some() {
            return Err(told(&"it is not empty")
                .hint("replies are never written over: name another directory")
                .into());
        }
        Ok(Self(path.to_owned()))
    }

    /// Writes a reply under the name of its prompt, its run and its policy, and the prompt once.
    pub(super) fn keep(&self, seen: &Seen<'_>) -> io::Result<()> {
        let observation = &seen.observation;
        let temperature = match observation.temperature {
            Temperature::Cold => "cold",
            Temperature::Warm => "warm",
        };
        let policy = match observation.policy {
            Policy::Today => "today",
            Policy::Routed => "routed",
        };
        let name = &seen.prompt.name;
        let prompt = self.0.join(format!("{name}.prompt.txt"));
        if !prompt.exists() {
            let said: Vec<String> = seen
                .prompt
                .messages
                .iter()
                .map(|message| format!("[{}]\n{}\n", message.role, message.content))
                .collect();
            private(&prompt, &said.concat())?;
        }
        let file = self.0.join(format!(
            "{name}.run{}.{temperature}.{policy}.txt",
            seen.run + 1
        ));
        let mut text = seen.sent.reply.text.clone();
        for call in &seen.sent.reply.calls {
            // Writing to a String cannot fail.
            let _ = write!(text, "\n[calls {} with {}]\n", call.name, call.arguments);
        }
        if let Some(error) = &seen.sent.error {
            let _ = write!(text, "\n[failed: {error}]\n");
        }
        private(&file, &text)
    }
}

/// A new file that only its owner can read: a prompt may be anything.
fn private(path: &Path, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    options.open(path)?.write_all(text.as_bytes())
}
