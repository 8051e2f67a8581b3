//! Model names as Ollama compares them.

use std::fmt;

use serde::{Serialize, Serializer};

/// A full model name: a name without a tag is `:latest`, on every kind of node; Ollama's default host and namespace are left out,
/// and case does not matter. Two names are equal when they name the same model; never by prefix, never without the tag.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ModelName(String);

impl ModelName {
    /// Normalises a name as a client or a node wrote it.
    pub fn new(written: &str) -> Self {
        let lower = written.trim().to_lowercase();
        let name = lower
            .strip_prefix("registry.ollama.ai/")
            .unwrap_or(&lower)
            .strip_prefix("library/")
            .unwrap_or(lower.strip_prefix("registry.ollama.ai/").unwrap_or(&lower));
        // The tag's colon comes after the last slash; a colon before it belongs to a host's port.
        let tagged = name
            .rsplit('/')
            .next()
            .is_some_and(|last| last.contains(':'));
        Self(if tagged || name.is_empty() {
            name.to_owned()
        } else {
            format!("{name}:latest")
        })
    }

    /// The normalised text, tag included.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for ModelName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_without_a_tag_is_latest() {
        assert_eq!(ModelName::new("tiny"), ModelName::new("tiny:latest"));
        assert_eq!(
            ModelName::new("Library/Tiny"),
            ModelName::new("tiny:latest")
        );
        assert_eq!(
            ModelName::new("registry.ollama.ai/library/tiny:1b"),
            ModelName::new("tiny:1b")
        );
        assert_eq!(
            ModelName::new("hub:5000/me/tiny"),
            ModelName::new("hub:5000/me/tiny:latest")
        );
    }

    #[test]
    fn different_tags_and_prefixes_are_different_models() {
        assert_ne!(
            ModelName::new("qwen2.5-coder"),
            ModelName::new("qwen2.5-coder:7b")
        );
        assert_ne!(ModelName::new("qwen2.5:2b"), ModelName::new("qwen2.5:32b"));
        assert_ne!(ModelName::new("me/tiny"), ModelName::new("tiny"));
    }
}
