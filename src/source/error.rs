//! Why nothing was found of a model: what happened, where, and what to do next.

use std::path::PathBuf;
use std::{fmt, io};

use super::spec::SpecError;
use super::web_error::{Trouble, WebError};
use crate::vram::{GgufError, ShardError};

/// Which kind of server was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// The Ollama registry, or another one that speaks its protocol.
    Ollama,
    /// Hugging Face.
    HuggingFace,
    /// Any other web server.
    Web,
}

/// What is wrong with a file.
#[derive(Debug)]
pub enum FileTrouble {
    /// It cannot be opened or read.
    Io(io::Error),
    /// It is a directory, a socket or something else without content.
    NotAFile,
    /// It is not a whole model.
    Header(GgufError),
    /// The files of a split model do not go together.
    Shards(ShardError),
}

/// Why nothing was found of a model.
#[derive(Debug)]
pub enum SourceError {
    /// The text names no model.
    Spec(SpecError),
    /// A file on this machine cannot be used.
    File {
        /// Its path.
        path: PathBuf,
        /// Why.
        trouble: FileTrouble,
    },
    /// A server gave no usable answer.
    Web {
        /// What kind of server.
        service: Service,
        /// What went wrong.
        error: WebError,
    },
    /// What a server sent is not the header of a model.
    Header {
        /// Its address.
        url: String,
        /// Why.
        error: GgufError,
    },
    /// The files of a split model on a server do not go together.
    Shards {
        /// Address of the first.
        url: String,
        /// Why.
        error: ShardError,
    },
    /// Only the network could tell, and it is not to be asked.
    Offline {
        /// The model.
        name: String,
        /// What was tried without it.
        tried: Vec<String>,
    },
    /// No place has a model of that name.
    NotFound {
        /// The model.
        name: String,
        /// Where it was looked for and what came of it, one sentence each.
        tried: Vec<String>,
        /// Known names that are most like it, the nearest first.
        nearest: Vec<String>,
    },
    /// A repository has no such file.
    NoFile {
        /// The repository.
        repository: String,
        /// The quantisation or file that was wanted; `None`: any GGUF file.
        wanted: Option<String>,
        /// What it has: quantisations, else files.
        there: Vec<String>,
    },
    /// There is such a model, but nothing of it goes into memory here.
    NoWeights {
        /// The model.
        name: String,
        /// Who runs it instead.
        remote_host: Option<String>,
    },
}

impl From<SpecError> for SourceError {
    fn from(error: SpecError) -> Self {
        Self::Spec(error)
    }
}

/// Most names that one line lists.
const MOST_LISTED: usize = 12;

fn listed(names: &[String]) -> String {
    let shown = names.iter().take(MOST_LISTED).map(String::as_str);
    let text = shown.collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(MOST_LISTED) {
        Some(more) if more > 0 => format!("{text} and {more} more"),
        _ => text,
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spec(error) => error.fmt(f),
            Self::File { path, trouble } => write!(f, "{}: {trouble}", path.display()),
            Self::Web {
                service: Service::Ollama,
                error,
            } => write!(f, "the Ollama registry: {error}"),
            Self::Web {
                service: Service::HuggingFace,
                error,
            } => write!(f, "Hugging Face: {error}"),
            Self::Web {
                service: Service::Web,
                error,
            } => error.fmt(f),
            Self::Header { url, error } => write!(f, "{url}: {error}"),
            Self::Shards { url, error } => write!(f, "{url}: {error}"),
            Self::Offline { name, tried } => {
                write!(f, "`{name}`: ")?;
                tried.iter().try_for_each(|tried| write!(f, "{tried}; "))?;
                f.write_str("the network was not asked (offline)")
            }
            Self::NotFound { name, tried, .. } => {
                write!(f, "`{name}`: no such model was found")?;
                tried.iter().try_for_each(|tried| write!(f, "; {tried}"))
            }
            Self::NoFile {
                repository,
                wanted: Some(wanted),
                there,
            } => write!(
                f,
                "{repository} has no `{wanted}`; it has {}",
                listed(there)
            ),
            Self::NoFile {
                repository,
                wanted: None,
                ..
            } => write!(f, "{repository} has no GGUF file"),
            Self::NoWeights {
                name,
                remote_host: Some(host),
            } => write!(f, "`{name}` runs on {host} and takes no memory here"),
            Self::NoWeights {
                name,
                remote_host: None,
            } => write!(f, "the manifest of `{name}` names no weights"),
        }
    }
}

impl std::error::Error for SourceError {}

impl SourceError {
    /// What to do next.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Spec(error) => error.hint().to_owned(),
            Self::File { trouble, .. } => return trouble.hint().map(str::to_owned),
            Self::Web { service, error } => web_hint(*service, &error.trouble).to_owned(),
            Self::Header {
                error: GgufError::Truncated { .. },
                ..
            } => "the upload is incomplete; name another file".to_owned(),
            Self::Header { .. } => "name the address of a GGUF file".to_owned(),
            Self::Shards { .. } => {
                "name the first of the files; all of them must be there".to_owned()
            }
            Self::Offline { .. } => {
                "leave --offline away, or name a file, or a size such as 7b".to_owned()
            }
            Self::NotFound { nearest, name, .. } => match nearest.as_slice() {
                [] => format!(
                    "check the spelling, or name a file, hf:OWNER/REPO, or a size such as 7b instead of `{name}`"
                ),
                [only] => format!("did you mean `{only}`?"),
                several => format!("did you mean one of {}?", listed(several)),
            },
            Self::NoFile {
                wanted: Some(_), ..
            } => "choose one of those, or none for the default".to_owned(),
            Self::NoFile { wanted: None, .. } => {
                "look for a repository whose name ends in -GGUF".to_owned()
            }
            Self::NoWeights { .. } => return None,
        };
        Some(hint)
    }
}

fn web_hint(service: Service, trouble: &Trouble) -> &'static str {
    match (service, trouble) {
        (Service::Ollama, Trouble::Denied { .. }) => {
            "private models need Ollama's own key, which is not used here; pull it with Ollama, then ask again"
        }
        (Service::HuggingFace, Trouble::Denied { token: false, .. }) => {
            "check the spelling; for a private or gated repository set HF_TOKEN"
        }
        (Service::HuggingFace, Trouble::Denied { token: true, .. }) => {
            "check the spelling and that HF_TOKEN may read it; a gated repository's licence is accepted on its page"
        }
        (_, trouble) => trouble.hint(),
    }
}

impl fmt::Display for FileTrouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) if error.kind() == io::ErrorKind::NotFound => {
                f.write_str("there is no such file")
            }
            Self::Io(error) => error.fmt(f),
            Self::NotAFile => f.write_str("not a file"),
            Self::Header(error) => error.fmt(f),
            Self::Shards(error) => error.fmt(f),
        }
    }
}

impl FileTrouble {
    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Io(error) => match error.kind() {
                io::ErrorKind::NotFound => Some("check the path"),
                io::ErrorKind::PermissionDenied => Some("it must be readable for you"),
                _ => None,
            },
            Self::NotAFile => Some("name the GGUF file itself"),
            // Both say what to do in their own text.
            Self::Header(_) | Self::Shards(_) => None,
        }
    }
}
