//! The order in which places are asked for a model, and the best answer among what they say.

use std::path::Path;

use reqwest::Url;

use super::cache::{Cache, Kept};
use super::error::{Service, SourceError};
use super::file;
use super::finder::Finder;
use super::found::Found;
use super::nearest::nearest;
use super::node;
use super::ollama::Blobs;
use super::ranged::Ranged;
use super::repository::Repository;
use super::spec::Spec;
use super::store::{Store, Stored};
use super::tag::OllamaName;
use super::web::{Token, Web};
use super::web_error::WebError;
use crate::cluster::{ModelName, NodeKind};
use crate::vram::{self, Basis, GgufError, Header, NamedQuant, NamedSize};

/// Most nodes that are asked to describe one model; they all have the same answer.
const MOST_NODES: usize = 4;

/// What is said of the registry when it is not to be asked.
const NOT_ASKED: &str = "the registry was not asked (offline)";

/// Looks for a model where its name says it is. A bare name is looked for on the nodes, in the local Ollama store, in the Ollama registry, in
/// the catalogue, and at last in what the name itself says of a size; the first header wins, else the surest size.
///
/// # Errors
/// When the named file, repository or address cannot be used, or when nothing is known of a name anywhere.
pub fn find(spec: &Spec, finder: &Finder<'_>) -> Result<Found, SourceError> {
    let mut search = Search::new(finder);
    let result = match spec {
        Spec::File(path) => search.file(path),
        Spec::FileOrName(text) if Path::new(text).is_file() => search.file(Path::new(text)),
        Spec::FileOrName(text) | Spec::Name(text) => {
            search.look_at_files(text);
            search.name(text, OllamaName::parse(text).as_ref(), Scope::Anywhere)
        }
        Spec::Ollama(name) => search.name(&name.to_string(), Some(name), Scope::Ollama),
        Spec::HuggingFace(repository) => search.hub(repository),
        Spec::Url(text) => search.url(text),
        Spec::Size(text) => search.size(text),
    };
    let mut found = result?;
    found.warnings.append(&mut search.warnings);
    found.tried.append(&mut search.tried);
    Ok(found)
}

/// Which nodes count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// All.
    Anywhere,
    /// Those that are Ollamas.
    Ollama,
}

/// One search.
pub(super) struct Search<'a> {
    pub(super) finder: &'a Finder<'a>,
    pub(super) web: Web,
    pub(super) cache: Cache,
    warnings: Vec<String>,
    tried: Vec<String>,
    /// Whether some node has the model, whatever it says of it.
    known: bool,
    /// Whether the registry said that there is no such model.
    missing: bool,
    /// Why the registry could not tell of it.
    failure: Option<SourceError>,
}

impl<'a> Search<'a> {
    fn new(finder: &'a Finder<'a>) -> Self {
        let places = finder.places;
        let token = places.hf_token.clone().and_then(|secret| {
            let origin = Url::parse(finder.huggingface).ok()?;
            Some(Token { origin, secret })
        });
        Self {
            finder,
            web: Web::new(finder.limits, places.proxies.clone(), token),
            cache: Cache::new(places.cache.clone()),
            warnings: Vec::new(),
            tried: Vec::new(),
            known: false,
            missing: false,
            failure: None,
        }
    }

    /// Notes what should be known about the answer, once.
    pub(super) fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    fn file(&mut self, path: &Path) -> Result<Found, SourceError> {
        let path = self.finder.places.expand(path);
        let local = file::read(&path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut found = Found::new(name.clone(), path.display().to_string(), Basis::Header);
        found.size_bytes = Some(local.bytes);
        found.quantization = super::files::quantization(&name);
        Ok(found.with_header(local.header))
    }

    /// A name that could have been meant as a file's.
    fn look_at_files(&mut self, text: &str) {
        if text.contains('/') {
            self.tried.push("there is no file of that name".to_owned());
        } else if Path::new(text).is_file() {
            self.tried
                .push(format!("the file of that name is ./{text}"));
        }
    }

    fn name(
        &mut self,
        written: &str,
        name: Option<&OllamaName>,
        scope: Scope,
    ) -> Result<Found, SourceError> {
        let mut sized = match self.on_nodes(written, scope) {
            Some(found) if found.header.is_some() => return Ok(found),
            other => other,
        };
        if let Some(name) = name {
            for tier in [Self::in_stores, Self::in_registry] {
                match tier(self, name) {
                    Some(found) if found.header.is_some() => return Ok(found),
                    // A node's size is that of what is really there.
                    Some(found) => sized = sized.or(Some(found)),
                    None => {}
                }
            }
        }
        (sized.or_else(|| self.in_catalogue(written)))
            .or_else(|| self.in_name(written))
            .map_or_else(|| Err(self.unknown(written)), Ok)
    }

    /// What the nodes that have the model say; without a header, the best size.
    fn on_nodes(&mut self, written: &str, scope: Scope) -> Option<Found> {
        let (prober, snapshot) = self.finder.nodes?;
        let name = ModelName::new(written);
        let mut sized: Option<Found> = None;
        let mut asked = 0;
        for node in &snapshot.nodes {
            let counts = scope == Scope::Anywhere || node.kind == Some(NodeKind::Ollama);
            let Some(model) = node.model(&name).filter(|_| counts) else {
                continue;
            };
            self.known = true;
            if !node.state.usable() {
                let state = node.state.as_str();
                self.tried
                    .push(format!("node {} has it but is {state}", node.name));
                continue;
            }
            if asked == MOST_NODES {
                break;
            }
            asked += 1;
            let told = node::ask(prober, node, model);
            if told.found.header.is_some() {
                return Some(told.found);
            }
            self.tried.extend(told.without);
            if sized.is_none() && told.found.size_bytes.is_some() {
                sized = Some(told.found);
            }
        }
        if asked == 0 && !snapshot.nodes.is_empty() {
            self.tried.push("no node that answers has it".to_owned());
        }
        sized
    }

    fn in_stores(&mut self, name: &OllamaName) -> Option<Found> {
        let places = self.finder.places;
        for directory in &places.ollama_models {
            let store = Store::new(directory);
            let manifest = match store.find(name) {
                None => {
                    if store.is_closed() {
                        let place = store.place();
                        self.tried
                            .push(format!("the store {place} is closed to you"));
                    }
                    continue;
                }
                Some(Stored::Unreadable(why)) => {
                    self.tried.push(why);
                    continue;
                }
                Some(Stored::Manifest(manifest)) => manifest,
            };
            match self.assemble(name, &Blobs::Store(store), &manifest) {
                Ok(found) => return Some(found),
                Err(error) => self.tried.push(error.to_string()),
            }
        }
        None
    }

    fn in_registry(&mut self, name: &OllamaName) -> Option<Found> {
        if self.finder.offline {
            self.tried
                .push("the registry was not asked (offline)".to_owned());
            return None;
        }
        let answer = (self.registry_manifest(name))
            .and_then(|(blobs, manifest)| self.assemble(name, &blobs, &manifest));
        match answer {
            Ok(found) => Some(found),
            Err(SourceError::Web { error, .. }) if error.is_not_found() => {
                self.missing = true;
                self.tried
                    .push(format!("the Ollama registry has no `{name}`"));
                None
            }
            Err(error) => {
                self.tried.push(error.to_string());
                self.failure = Some(error);
                None
            }
        }
    }

    fn in_catalogue(&mut self, written: &str) -> Option<Found> {
        let mb = (self.finder.known)(&ModelName::new(written))?;
        let mut found = Found::new(written, "the catalogue of known sizes", Basis::Catalog);
        found.size_bytes = Some(mb.saturating_mul(1 << 20));
        found.quantization = NamedQuant::in_name(written).map(|quant| quant.name.to_owned());
        found.parameters = NamedSize::of(written).map(|size| size.parameters);
        found.of_ollama = true;
        self.say_why("the size is that of the catalogue");
        Some(found)
    }

    fn in_name(&mut self, written: &str) -> Option<Found> {
        let size = NamedSize::of(written)?;
        let alike = if self.known {
            Vec::new()
        } else {
            nearest(written, self.names())
        };
        // Nobody has it and the registry does not know it, but there is one much like it: a slip of the pen, and no answer for it.
        if self.missing && !alike.is_empty() {
            return None;
        }
        let mut found = self.named(written, size);
        found.of_ollama = true;
        self.say_why("the size is the one in the name");
        if !alike.is_empty() {
            self.warn(format!("did you mean {}?", alike.join(" or ")));
        }
        Some(found)
    }

    /// A size and nothing else.
    fn size(&mut self, written: &str) -> Result<Found, SourceError> {
        match NamedSize::of(written) {
            Some(size) => Ok(self.named(written, size)),
            None => Err(self.unknown(written)),
        }
    }

    fn named(&self, written: &str, size: NamedSize) -> Found {
        let mut found = Found::new(written, "the size in the name", Basis::Name);
        found.quantization = (self.finder.quant.map(str::to_owned))
            .or_else(|| NamedQuant::in_name(written).map(|quant| quant.name.to_owned()));
        found.parameters = Some(size.parameters);
        found.named = Some(size);
        found
    }

    /// One line on why the answer is not a better one.
    fn say_why(&mut self, what: &str) {
        let why = self.tried.join("; ");
        self.warn(if why.is_empty() {
            what.to_owned()
        } else {
            format!("{what}: {why}")
        });
    }

    fn unknown(&mut self, written: &str) -> SourceError {
        let nearest = nearest(written, self.names());
        if nearest.is_empty() {
            // A registry that could not be asked may well have it.
            if let Some(failure) = self.failure.take() {
                return failure;
            }
            if self.finder.offline {
                return self.offline(written);
            }
        }
        SourceError::NotFound {
            name: written.to_owned(),
            tried: self.tried.clone(),
            nearest,
        }
    }

    fn offline(&self, written: &str) -> SourceError {
        let mut tried = self.tried.clone();
        tried.retain(|tried| tried != NOT_ASKED);
        SourceError::Offline {
            name: written.to_owned(),
            tried,
        }
    }

    /// All names that nodes and stores know.
    fn names(&self) -> Vec<String> {
        let nodes = self.finder.nodes.map(|(_, snapshot)| snapshot);
        let on_nodes = (nodes.into_iter())
            .flat_map(|snapshot| &snapshot.nodes)
            .flat_map(|node| node.models.iter().map(|model| model.id.clone()));
        let in_stores = (self.finder.places.ollama_models.iter())
            .flat_map(|directory| Store::new(directory).names());
        on_nodes.chain(in_stores).collect()
    }

    /// A repository. As Ollama writes it, it may be on a node or in the store; as `hf:` it is asked for first, because only the repository
    /// tells its other quantisations.
    fn hub(&mut self, repository: &Repository) -> Result<Found, SourceError> {
        let pulled = repository.pulled_as();
        let local = |search: &mut Self| {
            let written = pulled.as_deref()?;
            let found = search.on_nodes(written, Scope::Anywhere);
            let found = found.filter(|found| found.header.is_some());
            found.or_else(|| search.in_stores(&OllamaName::parse(written)?))
        };
        if repository.ollama || self.finder.offline {
            if let Some(found) = local(self) {
                return Ok(found);
            }
            if self.finder.offline {
                return Err(self.offline(&repository.to_string()));
            }
        }
        self.repository(repository)
    }

    fn url(&mut self, text: &str) -> Result<Found, SourceError> {
        // A mirror's pages are those of Hugging Face.
        let base = self.finder.huggingface.trim_end_matches('/');
        let page = text
            .strip_prefix(base)
            .filter(|path| path.starts_with('/'))
            .and_then(|path| Repository::of_page(path.split(['?', '#']).next().unwrap_or(path)));
        if let Some(repository) = page {
            return self.hub(&repository);
        }
        if self.finder.offline {
            return Err(self.offline(text));
        }
        self.address(text)
    }

    /// The header at a URL: kept from an earlier time, or read now and kept. `key` is the content's digest where it is known before; else
    /// the server's `ETag` identifies it.
    pub(super) fn remote(
        &mut self,
        url: &Url,
        first: u64,
        what: &str,
        key: Option<&str>,
        service: Service,
    ) -> Result<Kept, SourceError> {
        if let Some(kept) = key.and_then(|key| self.cache.get(key)) {
            return Ok(kept);
        }
        let finder = self.finder;
        let web_failed = |error| SourceError::Web { service, error };
        let mut ranged =
            Ranged::open(&self.web, url, first, what, finder.progress).map_err(web_failed)?;
        let tagged = ranged.etag().map(|etag| format!("{url} {etag}"));
        let key = key.map(str::to_owned).or(tagged);
        if let Some(kept) = key.as_deref().and_then(|key| self.cache.get(key)) {
            return Ok(kept);
        }
        let header = read(&mut ranged, url, service)?;
        let size = ranged.size();
        drop(ranged);
        if let Some(key) = key {
            self.keep(&key, &header, size);
        }
        Ok(Kept { header, size })
    }

    /// The header at a URL, read now and not kept.
    pub(super) fn fetch(
        &self,
        url: &Url,
        first: u64,
        what: &str,
        service: Service,
    ) -> Result<Kept, SourceError> {
        let mut ranged = Ranged::open(&self.web, url, first, what, self.finder.progress)
            .map_err(|error| SourceError::Web { service, error })?;
        let header = read(&mut ranged, url, service)?;
        let size = ranged.size();
        Ok(Kept { header, size })
    }

    pub(super) fn keep(&mut self, key: &str, header: &Header, size: Option<u64>) {
        let kept = Kept {
            header: header.clone(),
            size,
        };
        if let Err(error) = self.cache.put(key, &kept) {
            self.warn(error.to_string());
        }
    }
}

fn read(ranged: &mut Ranged<'_>, url: &Url, service: Service) -> Result<Header, SourceError> {
    vram::read(ranged).map_err(|error| match error {
        GgufError::Io(error) => match error.downcast::<WebError>() {
            Ok(error) => SourceError::Web { service, error },
            Err(error) => header_failed(url, GgufError::Io(error)),
        },
        error => header_failed(url, error),
    })
}

fn header_failed(url: &Url, error: GgufError) -> SourceError {
    SourceError::Header {
        url: super::web_error::shown(url),
        error,
    }
}
