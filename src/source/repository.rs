//! A repository of Hugging Face and which of its files is meant.

use std::fmt;

/// Which file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pick {
    /// The default quantisation.
    Default,
    /// The file of this quantisation.
    Quant(String),
    /// This file, by its path in the repository.
    File(String),
}

/// A repository of Hugging Face. Its parts are checked: they are safe in a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// User or organisation.
    pub owner: String,
    /// The repository's own name.
    pub name: String,
    /// Branch, tag or commit.
    pub revision: String,
    /// Which of its files.
    pub pick: Pick,
    /// Whether it was written as Ollama writes it (`hf.co/…`): then it may already be on a node or in the store.
    pub ollama: bool,
}

impl Repository {
    /// Reads `OWNER/REPO`, `OWNER/REPO:QUANT` or `OWNER/REPO/FILE.gguf`.
    pub fn parse(text: &str) -> Option<Self> {
        let (owner, rest) = text.split_once('/')?;
        if let Some((name, file)) = rest.split_once('/') {
            return Self::new(owner, name, "main", Pick::File(file.to_owned()));
        }
        match rest.split_once(':') {
            Some((name, quant)) => Self::new(owner, name, "main", Pick::Quant(quant.to_owned())),
            None => Self::new(owner, rest, "main", Pick::Default),
        }
    }

    /// Reads the path of a page or a download: `/OWNER/REPO`, `/OWNER/REPO/tree/REV`, `/OWNER/REPO/blob/REV/FILE`,
    /// `/OWNER/REPO/resolve/REV/FILE`.
    pub fn of_page(path: &str) -> Option<Self> {
        let path = unescaped(path.trim_matches('/'))?;
        let parts: Vec<&str> = path.splitn(5, '/').collect();
        match parts[..] {
            [_, _] => Self::parse(&path),
            [owner, name, "tree", revision] => Self::new(owner, name, revision, Pick::Default),
            [owner, name, "blob" | "resolve", revision, file] => {
                Self::new(owner, name, revision, Pick::File(file.to_owned()))
            }
            _ => None,
        }
    }

    /// The same, written as Ollama writes it.
    #[must_use]
    pub fn of_ollama(self) -> Self {
        Self {
            ollama: true,
            ..self
        }
    }

    /// The name under which an Ollama keeps it once it is pulled; `None` for a file, which Ollama cannot name.
    pub fn pulled_as(&self) -> Option<String> {
        let tag = match &self.pick {
            Pick::Default => "latest",
            Pick::Quant(quant) => quant,
            Pick::File(_) => return None,
        };
        Some(format!("hf.co/{}/{}:{tag}", self.owner, self.name))
    }

    fn new(owner: &str, name: &str, revision: &str, pick: Pick) -> Option<Self> {
        let file = match &pick {
            Pick::Default => true,
            Pick::Quant(quant) => is_part(quant),
            Pick::File(path) => is_file(path),
        };
        let good = file && is_part(owner) && is_part(name) && is_part(revision);
        good.then(|| Self {
            owner: owner.to_owned(),
            name: name.to_owned(),
            revision: revision.to_owned(),
            pick,
            ollama: false,
        })
    }
}

impl fmt::Display for Repository {
    /// As MODEL would be written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if self.ollama { "hf.co/" } else { "hf:" };
        write!(f, "{prefix}{}/{}", self.owner, self.name)?;
        match &self.pick {
            Pick::Default => Ok(()),
            Pick::Quant(quant) => write!(f, ":{quant}"),
            Pick::File(path) => write!(f, "/{path}"),
        }
    }
}

/// Longest part in bytes; Hugging Face allows 96 for a name.
const LONGEST_PART: usize = 128;

/// Longest path of a file in bytes.
const LONGEST_PATH: usize = 1024;

fn is_part(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= LONGEST_PART
        && !text.starts_with('.')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// Whether it is a path of a GGUF file that stays inside its repository.
pub(super) fn is_file(path: &str) -> bool {
    path.len() <= LONGEST_PATH
        && path.to_ascii_lowercase().ends_with(".gguf")
        && path
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
        && !path.chars().any(|c| c.is_control() || c == '\\')
}

/// A path without its percent escapes; `None` when they are no text.
fn unescaped(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            let digits = std::str::from_utf8(&digits).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_written_forms_and_back() {
        for text in ["o/r", "o/r:Q4_K_M", "o/r/sub/m.gguf"] {
            let repository = Repository::parse(text).expect("a repository");
            assert_eq!(repository.to_string(), format!("hf:{text}"));
        }
        let pulled = |text| Repository::parse(text).and_then(|it| it.pulled_as());
        assert_eq!(pulled("o/r").as_deref(), Some("hf.co/o/r:latest"));
        assert_eq!(pulled("o/r:Q8_0").as_deref(), Some("hf.co/o/r:Q8_0"));
        assert_eq!(pulled("o/r/m.gguf"), None);
    }

    #[test]
    fn what_could_leave_the_repository_is_refused() {
        for text in [
            "",
            "o",
            "o/",
            "/r",
            "o/r/",
            "o/r:",
            "o/..",
            "../r",
            "o/r/../m.gguf",
            "o/r//m.gguf",
            "o/r/m.bin",
            "o/r:a/b",
            "o /r",
            "o/r?x",
        ] {
            assert_eq!(Repository::parse(text), None, "{text}");
        }
        for path in [
            "/o/r/blob/main/%2e%2e/m.gguf",
            "/o/r/blob/main/%zz.gguf",
            "/o/r/tree/main/sub",
            "/o",
        ] {
            assert_eq!(Repository::of_page(path), None, "{path}");
        }
    }

    #[test]
    fn escapes_of_a_page_are_undone() {
        let page = Repository::of_page("/o/r/blob/main/a%20b/m.gguf").expect("a file");
        assert_eq!(page.pick, Pick::File("a b/m.gguf".to_owned()));
    }
}
