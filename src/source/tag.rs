//! A name in Ollama's store and registry: `[HOST/][NAMESPACE/]MODEL[:TAG]`.

use std::fmt;

/// Host of names that say none.
pub(super) const HOST: &str = "registry.ollama.ai";

/// Namespace of names that say none.
pub(super) const NAMESPACE: &str = "library";

/// Longest part of a name in bytes, as Ollama has it.
const LONGEST_PART: usize = 80;

/// Longest host in bytes.
const LONGEST_HOST: usize = 350;

/// A full name. Its parts are checked: they are safe in a URL and as names of files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OllamaName {
    /// Registry, with its port where it has one.
    pub host: String,
    /// User or organisation.
    pub namespace: String,
    /// The model.
    pub model: String,
    /// The tag.
    pub tag: String,
}

impl OllamaName {
    /// Reads a name; what it does not say is Ollama's default.
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let (host, namespace, last) = match parts[..] {
            [last] => (HOST, NAMESPACE, last),
            [namespace, last] => (HOST, namespace, last),
            [host, namespace, last] => (host, namespace, last),
            _ => return None,
        };
        let (model, tag) = last.split_once(':').unwrap_or((last, "latest"));
        let good = is_host(host) && [namespace, model, tag].into_iter().all(is_part);
        good.then(|| Self {
            host: host.to_owned(),
            namespace: namespace.to_owned(),
            model: model.to_owned(),
            tag: tag.to_owned(),
        })
    }

    /// Whether it is a name of the registry that is asked by default.
    pub fn is_default_host(&self) -> bool {
        self.host.eq_ignore_ascii_case(HOST)
    }
}

impl fmt::Display for OllamaName {
    /// As Ollama's lists show it: without the default host and namespace, with the tag.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let default = self.is_default_host();
        if !default {
            write!(f, "{}/", self.host)?;
        }
        if !default || !self.namespace.eq_ignore_ascii_case(NAMESPACE) {
            write!(f, "{}/", self.namespace)?;
        }
        write!(f, "{}:{}", self.model, self.tag)
    }
}

fn is_part(text: &str) -> bool {
    let first = text
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    first
        && text.len() <= LONGEST_PART
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn is_host(text: &str) -> bool {
    let (name, port) = text.split_once(':').unwrap_or((text, "1"));
    let first = name
        .bytes()
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    first
        && text.len() <= LONGEST_HOST
        && port.parse::<u16>().is_ok_and(|port| port > 0)
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_ollamas_default() {
        let name = OllamaName::parse("tiny").expect("a name");
        assert_eq!(
            [&*name.host, &*name.namespace, &*name.model, &*name.tag],
            [HOST, "library", "tiny", "latest"]
        );
        for (text, told) in [
            ("tiny:1b", "tiny:1b"),
            ("me/tiny", "me/tiny:latest"),
            ("library/tiny", "tiny:latest"),
            ("hub:5000/library/tiny:x", "hub:5000/library/tiny:x"),
            ("hf.co/me/Tiny-GGUF:Q4_K_M", "hf.co/me/Tiny-GGUF:Q4_K_M"),
        ] {
            let name = OllamaName::parse(text).expect("a name");
            assert_eq!(name.to_string(), told);
            assert_eq!(OllamaName::parse(told), Some(name));
        }
    }

    #[test]
    fn what_could_leave_a_directory_or_a_url_is_no_name() {
        for text in [
            "",
            ":",
            "a:",
            ":a",
            "a/b/c/d",
            "../x",
            "a/..",
            "..:x",
            "a:../b",
            "a b",
            "a?b",
            "a#b",
            "a%2f",
            "/a",
            "a/",
            "host:0/a/b",
            "host:x/a/b",
            "a:b:c",
            ".a",
            "a@sha256:0",
        ] {
            assert_eq!(OllamaName::parse(text), None, "{text}");
        }
        assert_eq!(OllamaName::parse(&"a".repeat(81)), None);
    }
}
