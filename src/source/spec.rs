//! What the user wrote as MODEL, taken apart. Nothing is looked up here.

use std::fmt;
use std::path::PathBuf;

use reqwest::Url;

use super::repository::{Pick, Repository};
use super::tag::OllamaName;

/// Longest MODEL that is looked at, in bytes; the longest real names and signed URLs are a few hundred.
const LONGEST: usize = 4096;

/// A model as the user named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spec {
    /// A GGUF file, or any one of its shards.
    File(PathBuf),
    /// `a/b`: a file when there is one, else a model's name with its namespace.
    FileOrName(String),
    /// A bare name, looked for everywhere.
    Name(String),
    /// A name in Ollama's store and registry.
    Ollama(OllamaName),
    /// A repository of Hugging Face.
    HuggingFace(Repository),
    /// Any other address of a GGUF file.
    Url(String),
    /// A number of parameters and nothing else (`7b`, `8x7b`, `30b-a3b`).
    Size(String),
}

/// Why a text names no model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpecError {
    /// Nothing is left of it without its white space.
    Empty,
    /// It is longer than any name or address.
    TooLong,
    /// It holds a control character.
    Control(String),
    /// It says `ollama:`, but what follows is no name that Ollama would take.
    Ollama(String),
    /// It says `hf:`, but what follows is no repository.
    HuggingFace(String),
    /// It is no address that could be fetched.
    Url(String),
    /// The address holds a user name or a password, which would end in logs and process lists.
    Credentials,
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no model is named"),
            Self::TooLong => write!(f, "a model's name has at most {LONGEST} bytes"),
            Self::Control(text) => write!(f, "`{}` is no model's name", text.escape_debug()),
            Self::Ollama(text) => write!(f, "`{text}` is no Ollama name"),
            Self::HuggingFace(text) => write!(f, "`{text}` is no Hugging Face repository"),
            Self::Url(text) => write!(f, "`{text}` is no address of a model"),
            Self::Credentials => {
                f.write_str("the address of a model holds a user name or password")
            }
        }
    }
}

impl std::error::Error for SpecError {}

impl SpecError {
    /// What to write instead.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Empty | Self::TooLong | Self::Control(_) => {
                "write a name such as llama3.1:8b, hf:OWNER/REPO:Q4_K_M, a path such as ./model.gguf, a URL, or a size such as 7b"
            }
            Self::Ollama(_) => {
                "write ollama:NAME or ollama:NAME:TAG, for example ollama:llama3.1:8b"
            }
            Self::HuggingFace(_) => {
                "write hf:OWNER/REPO, hf:OWNER/REPO:QUANT or hf:OWNER/REPO/FILE.gguf, for example hf:bartowski/Qwen2.5-7B-Instruct-GGUF:Q4_K_M"
            }
            Self::Url(_) => "write the whole address, for example https://host/path/model.gguf",
            Self::Credentials => {
                "leave them out; for Hugging Face set HF_TOKEN, other servers must give the file to anybody"
            }
        }
    }
}

impl Spec {
    /// Reads MODEL.
    ///
    /// # Errors
    /// When it is empty, or says what it is (`ollama:`, `hf:`, a scheme) and then is no such thing.
    pub fn parse(written: &str) -> Result<Self, SpecError> {
        let text = written.trim();
        if text.is_empty() {
            return Err(SpecError::Empty);
        }
        if text.len() > LONGEST {
            return Err(SpecError::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(SpecError::Control(text.to_owned()));
        }
        if let Some(name) = after(text, "ollama:") {
            return OllamaName::parse(name)
                .map(Self::Ollama)
                .ok_or_else(|| SpecError::Ollama(text.to_owned()));
        }
        if let Some(rest) = after(text, "hf:") {
            return Repository::parse(rest.trim_start_matches('/'))
                .map(Self::HuggingFace)
                .ok_or_else(|| SpecError::HuggingFace(text.to_owned()));
        }
        if text.contains("://") {
            return url(text);
        }
        for host in ["hf.co/", "huggingface.co/"] {
            if let Some(rest) = after(text, host) {
                let repository =
                    Repository::parse(rest).filter(|it| !matches!(it.pick, Pick::File(_)));
                return repository
                    .map(|repository| Self::HuggingFace(repository.of_ollama()))
                    .ok_or_else(|| SpecError::HuggingFace(text.to_owned()));
            }
        }
        Ok(local(text))
    }
}

/// What comes after a prefix, whose case does not matter.
fn after<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix)
        .then(|| &text[prefix.len()..])
}

fn local(text: &str) -> Spec {
    let relative = ["/", "./", "../", "~/", ".\\", "..\\"];
    let path = text.to_ascii_lowercase().ends_with(".gguf")
        || text.contains('\\')
        || relative.iter().any(|start| text.starts_with(start));
    if path {
        Spec::File(PathBuf::from(text))
    } else if text.contains('/') {
        Spec::FileOrName(text.to_owned())
    } else if is_size(text) {
        Spec::Size(text.to_ascii_lowercase())
    } else {
        Spec::Name(text.to_owned())
    }
}

/// Whether the text is a number of parameters: `7b`, `0.5b`, `270m`, `8x7b`, `30b-a3b`.
fn is_size(text: &str) -> bool {
    let number = |text: &str| {
        let digits = |text: &str| {
            (1..=6).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        digits(whole) && digits(fraction)
    };
    let count = |text: &str| text.strip_suffix(['b', 'm']).is_some_and(number);
    let lower = text.to_ascii_lowercase();
    let (total, active) = lower.split_once("-a").unwrap_or((&lower, "1b"));
    let (experts, each) = total.split_once('x').unwrap_or(("1", total));
    number(experts) && count(each) && count(active)
}

fn url(text: &str) -> Result<Spec, SpecError> {
    let wrong = || SpecError::Url(text.to_owned());
    let url = Url::parse(text).map_err(|_| wrong())?;
    let host = url.host_str().unwrap_or_default();
    if !matches!(url.scheme(), "http" | "https") || host.is_empty() {
        return Err(wrong());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(SpecError::Credentials);
    }
    match host {
        "huggingface.co" | "www.huggingface.co" | "hf.co" => Repository::of_page(url.path())
            .map(Spec::HuggingFace)
            .ok_or_else(|| SpecError::HuggingFace(text.to_owned())),
        "ollama.com" | "www.ollama.com" | "registry.ollama.ai" => {
            OllamaName::parse(url.path().trim_matches('/'))
                .map(Spec::Ollama)
                .ok_or_else(|| SpecError::Ollama(text.to_owned()))
        }
        _ => Ok(Spec::Url(url.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Spec {
        Spec::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_path_is_what_ends_in_gguf_or_starts_like_one() {
        for text in [
            "model.gguf",
            "a/b/model-00001-of-00003.GGUF",
            "./model",
            "/srv/blobs/sha256-00",
            "~/m",
            r"C:\models\m.gguf",
        ] {
            assert_eq!(parsed(text), Spec::File(text.into()), "{text}");
        }
        assert_eq!(parsed("me/tiny"), Spec::FileOrName("me/tiny".to_owned()));
    }

    #[test]
    fn names_and_sizes_are_told_apart() {
        assert_eq!(
            parsed(" llama3.1:8b "),
            Spec::Name("llama3.1:8b".to_owned())
        );
        for name in [
            "7b:latest",
            "qwen2.5-coder",
            "b",
            "7",
            ".5b",
            "7b-q4",
            "30b-a",
            "phi3:mini",
            "x7b",
        ] {
            assert_eq!(parsed(name), Spec::Name(name.to_owned()));
        }
        for size in ["7b", "0.5b", "8x7b", "30b-a3b", "270m"] {
            assert_eq!(
                parsed(&size.to_uppercase()),
                Spec::Size(size.to_owned()),
                "{size}"
            );
        }
    }

    #[test]
    fn prefixes_say_what_it_is() {
        let Spec::Ollama(name) = parsed("ollama:Llama3.1:8b") else {
            panic!("an Ollama name");
        };
        assert_eq!(name.to_string(), "Llama3.1:8b");
        let Spec::HuggingFace(repository) = parsed("hf:o/r:q4_k_m") else {
            panic!("a repository");
        };
        assert_eq!(repository.pick, Pick::Quant("q4_k_m".to_owned()));
        assert!(!repository.ollama);
        let Spec::HuggingFace(repository) = parsed("hf.co/o/r:Q8_0") else {
            panic!("a repository");
        };
        assert!(repository.ollama);
    }

    #[test]
    fn known_pages_are_what_they_show() {
        let Spec::HuggingFace(file) =
            parsed("https://huggingface.co/o/r/blob/main/sub/m-Q4_K_M.gguf?download=true")
        else {
            panic!("a file of a repository");
        };
        assert_eq!(file.pick, Pick::File("sub/m-Q4_K_M.gguf".to_owned()));
        assert_eq!(file.revision, "main");
        let Spec::HuggingFace(file) = parsed("https://hf.co/o/r/resolve/v1.0/m.gguf") else {
            panic!("a file of a repository");
        };
        assert_eq!(file.revision, "v1.0");
        assert!(matches!(
            parsed("https://huggingface.co/o/r"),
            Spec::HuggingFace(_)
        ));
        let Spec::Ollama(name) = parsed("https://ollama.com/library/llama3.1:8b") else {
            panic!("an Ollama name");
        };
        assert_eq!(name.to_string(), "llama3.1:8b");
        assert_eq!(
            parsed("http://host:1/m.gguf?x=1"),
            Spec::Url("http://host:1/m.gguf?x=1".to_owned())
        );
    }

    #[test]
    fn what_names_no_model_is_refused_with_a_way_out() {
        for (text, error) in [
            ("", SpecError::Empty),
            (" \t", SpecError::Empty),
            ("a\nb", SpecError::Control("a\nb".to_owned())),
            ("ollama:", SpecError::Ollama("ollama:".to_owned())),
            (
                "ollama:a/../b",
                SpecError::Ollama("ollama:a/../b".to_owned()),
            ),
            ("hf:owner", SpecError::HuggingFace("hf:owner".to_owned())),
            (
                "hf:o/r/file.txt",
                SpecError::HuggingFace("hf:o/r/file.txt".to_owned()),
            ),
            ("hf.co/o", SpecError::HuggingFace("hf.co/o".to_owned())),
            (
                "ftp://host/m.gguf",
                SpecError::Url("ftp://host/m.gguf".to_owned()),
            ),
            ("http://", SpecError::Url("http://".to_owned())),
            ("https://me:secret@host/m.gguf", SpecError::Credentials),
            (
                "https://huggingface.co/o/r/blob/main/README.md",
                SpecError::HuggingFace("https://huggingface.co/o/r/blob/main/README.md".to_owned()),
            ),
        ] {
            let told = Spec::parse(text).unwrap_err();
            assert_eq!(told, error, "{text}");
            assert!(!told.hint().is_empty() && !told.to_string().contains("secret"));
        }
        assert_eq!(Spec::parse(&"a".repeat(5000)), Err(SpecError::TooLong));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_taken_apart_without_a_panic(text in "\\PC{0,80}") {
            let _ = Spec::parse(&text);
        }

        #[test]
        fn any_reference_is_taken_apart_without_a_panic(text in "(hf:|ollama:|hf\\.co/|https?://(hf\\.co/)?)?[a-zA-Z0-9.:/@?%-]{0,40}") {
            let _ = Spec::parse(&text);
        }
    }
}
