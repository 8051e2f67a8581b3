//! Where [`find`](fn@super::find) may look, as data: nothing is taken from the process's own environment.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::web::{Limits, Proxies};
use crate::backend::Prober;
use crate::cluster::{ClusterSnapshot, ModelName};

/// Places and secrets of the user.
#[derive(Clone, Default)]
pub struct Places {
    /// Home directory; what `~/` stands for.
    pub home: Option<PathBuf>,
    /// Directories that an Ollama on this machine may keep its models in.
    pub ollama_models: Vec<PathBuf>,
    /// Directory of kept headers; `None`: nothing is kept.
    pub cache: Option<PathBuf>,
    /// Token for Hugging Face.
    pub hf_token: Option<String>,
    /// Proxies for registries.
    pub proxies: Proxies,
}

/// Without the token, so that no log shows it.
impl std::fmt::Debug for Places {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Places")
            .field("home", &self.home)
            .field("ollama_models", &self.ollama_models)
            .field("cache", &self.cache)
            .field("hf_token", &self.hf_token.as_ref().map(|_| "…"))
            .finish_non_exhaustive()
    }
}

/// Where the service that Ollama's own installer sets up on Linux keeps its models.
const SERVICE_MODELS: &str = "/usr/share/ollama/.ollama/models";

impl Places {
    /// What an environment says, variable by variable (`HOME`, `XDG_CACHE_HOME`, `OLLAMA_MODELS`, `HF_TOKEN`, the proxies); a variable that
    /// is empty counts as unset.
    pub fn of_environment<'e>(get: &dyn Fn(&str) -> Option<&'e OsStr>) -> Self {
        let path = |name: &str| {
            let path = PathBuf::from(get(name).filter(|value| !value.is_empty())?);
            // XDG: a path that is not absolute is to be ignored; a relative home would depend on the directory.
            path.is_absolute().then_some(path)
        };
        let text = |names: [&str; 2]| {
            names.into_iter().find_map(|name| {
                let text = get(name)?.to_str()?.trim();
                (!text.is_empty()).then(|| text.to_owned())
            })
        };
        let home = path("HOME").or_else(|| path("USERPROFILE"));
        let below_home = |below: &str| home.as_ref().map(|home| home.join(below));
        let ollama_models = match get("OLLAMA_MODELS").filter(|value| !value.is_empty()) {
            Some(chosen) => vec![PathBuf::from(OsString::from(chosen))],
            None => (below_home(".ollama/models").into_iter())
                .chain([PathBuf::from(SERVICE_MODELS)])
                .collect(),
        };
        Self {
            ollama_models,
            cache: path("XDG_CACHE_HOME")
                .or_else(|| below_home(".cache"))
                .map(|cache| cache.join("gpurouter/headers")),
            hf_token: text(["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"]),
            proxies: Proxies {
                http: text(["http_proxy", "HTTP_PROXY"]),
                https: text(["https_proxy", "HTTPS_PROXY"]),
                all: text(["all_proxy", "ALL_PROXY"]),
                none: text(["no_proxy", "NO_PROXY"]),
            },
            home,
        }
    }

    /// A path as the user wrote it, `~/` resolved: in quotes the shell leaves it as it is.
    pub(super) fn expand(&self, path: &Path) -> PathBuf {
        match (path.strip_prefix("~"), &self.home) {
            (Ok(below), Some(home)) => home.join(below),
            _ => path.to_owned(),
        }
    }
}

/// How far a long reading is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    /// What is being read, for people.
    pub what: &'a str,
    /// Bytes so far.
    pub done_bytes: u64,
    /// Bytes in all; `None` where it is not known, as for a header, which says how long it is only at its end.
    pub total_bytes: Option<u64>,
}

/// Where [`find`](fn@super::find) may look.
#[derive(Clone, Copy)]
pub struct Finder<'a> {
    /// Places and secrets of the user.
    pub places: &'a Places,
    /// The nodes as they were last seen, and who asks them; `None`: no node is asked.
    pub nodes: Option<(&'a Prober, &'a ClusterSnapshot)>,
    /// Base URL of the Ollama registry.
    pub ollama_registry: &'a str,
    /// Base URL of Hugging Face.
    pub huggingface: &'a str,
    /// Whether registries and other addresses on the network are left out; nodes are asked all the same.
    pub offline: bool,
    /// The quantisation wanted where the name does not say one.
    pub quant: Option<&'a str>,
    /// Known sizes in MB (read as MiB): the user's own and the catalogue's.
    pub known: &'a dyn Fn(&ModelName) -> Option<u64>,
    /// Told how far a long reading is.
    pub progress: &'a dyn Fn(Progress<'_>),
    /// How long things may take.
    pub limits: Limits,
}

impl<'a> Finder<'a> {
    /// One that looks at these places, the public registries among them, and at no node; it knows no sizes and tells no progress.
    pub fn new(places: &'a Places) -> Self {
        Self {
            places,
            nodes: None,
            ollama_registry: "https://registry.ollama.ai",
            huggingface: "https://huggingface.co",
            offline: false,
            quant: None,
            known: &|_| None,
            progress: &|_| (),
            limits: Limits::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(variables: &[(&'static str, &'static str)]) -> Places {
        Places::of_environment(&|name| {
            let (_, value) = variables.iter().find(|(known, _)| *known == name)?;
            Some(OsStr::new(*value))
        })
    }

    #[test]
    fn the_environment_says_where_to_look() {
        let places = places(&[
            ("HOME", "/home/me"),
            ("HF_TOKEN", " hf_x "),
            ("HTTPS_PROXY", "http://p"),
        ]);
        assert_eq!(
            places.ollama_models,
            [
                Path::new("/home/me/.ollama/models"),
                Path::new(SERVICE_MODELS)
            ]
        );
        assert_eq!(
            places.cache.as_deref(),
            Some(Path::new("/home/me/.cache/gpurouter/headers"))
        );
        assert_eq!(places.hf_token.as_deref(), Some("hf_x"));
        assert_eq!(places.proxies.https.as_deref(), Some("http://p"));
        assert_eq!(
            places.expand(Path::new("~/m.gguf")),
            Path::new("/home/me/m.gguf")
        );
        assert!(!format!("{places:?}").contains("hf_x"));
    }

    #[test]
    fn a_chosen_directory_is_the_only_one() {
        let chosen = places(&[
            ("HOME", "/home/me"),
            ("OLLAMA_MODELS", "/srv/models"),
            ("XDG_CACHE_HOME", "/var/cache"),
            ("HF_TOKEN", ""),
        ]);
        assert_eq!(chosen.ollama_models, [Path::new("/srv/models")]);
        assert_eq!(
            chosen.cache.as_deref(),
            Some(Path::new("/var/cache/gpurouter/headers"))
        );
        assert_eq!(chosen.hf_token, None);
        let bare = places(&[("XDG_CACHE_HOME", "relative")]);
        assert_eq!(bare.cache, None);
        assert_eq!(bare.expand(Path::new("~/m.gguf")), Path::new("~/m.gguf"));
    }
}
