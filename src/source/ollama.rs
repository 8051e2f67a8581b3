//! A model out of its manifest, wherever the blobs are: in a store on this machine or in a registry.

use reqwest::Url;

use super::error::{FileTrouble, Service, SourceError};
use super::file;
use super::find::Search;
use super::found::{Companion, Found};
use super::manifest::{self, Kind, Layer, Manifest, ModelConfig, OllamaParams};
use super::ranged::{FIRST, FIRST_SMALL};
use super::store::Store;
use super::tag::OllamaName;
use super::web_error::{Trouble, WebError};
use crate::vram::{self, Basis, Header};

/// What a registry is asked for.
const ACCEPT: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Most files that a model's manifest may split it into.
const MOST_LAYERS: usize = 512;

/// Where blobs come from.
pub(super) enum Blobs<'a> {
    /// A store on this machine.
    Store(Store<'a>),
    /// A registry: the URL that manifests and blobs are below.
    Registry(Url),
}

impl Search<'_> {
    /// The model's manifest in its registry.
    pub(super) fn registry_manifest(
        &self,
        name: &OllamaName,
    ) -> Result<(Blobs<'static>, Manifest), SourceError> {
        let base = if name.is_default_host() {
            self.finder.ollama_registry.to_owned()
        } else {
            format!("https://{}", name.host)
        };
        let url = |tail: &[&str]| {
            let mut url = Url::parse(&base).ok()?;
            url.path_segments_mut()
                .ok()?
                .pop_if_empty()
                .extend(["v2", &name.namespace, &name.model])
                .extend(tail);
            Some(url)
        };
        let (Some(root), Some(address)) = (url(&[]), url(&["manifests", &name.tag])) else {
            return Err(SourceError::Spec(super::SpecError::Url(base)));
        };
        let document = self
            .web
            .document(&address, ACCEPT, manifest::LIMIT)
            .map_err(registry)?;
        let manifest = Manifest::parse(&document.body)
            .ok_or_else(|| registry(WebError::new(&address, Trouble::NotA("manifest"))))?;
        Ok((Blobs::Registry(root), manifest))
    }

    /// What a manifest and its blobs tell. Where the weights have no header that can be read, the sizes in the manifest.
    pub(super) fn assemble(
        &mut self,
        name: &OllamaName,
        blobs: &Blobs<'_>,
        manifest: &Manifest,
    ) -> Result<Found, SourceError> {
        let models: Vec<&Layer> = manifest.of(Kind::Model).take(MOST_LAYERS).collect();
        if models.is_empty() && manifest.of(Kind::Tensor).next().is_none() {
            return Err(SourceError::NoWeights {
                name: name.to_string(),
                remote_host: self.config(blobs, manifest).remote_host,
            });
        }
        let place = match blobs {
            Blobs::Store(store) => format!("the local Ollama store ({})", store.place()),
            Blobs::Registry(url) => format!("the registry {}", url.host_str().unwrap_or_default()),
        };
        let mut found = Found::new(name.to_string(), place, Basis::Header);
        found.of_ollama = true;
        found.digest = models.first().map(|layer| layer.digest.clone());
        found.adapter_bytes = manifest.bytes(Kind::Adapter);
        found.ollama_params = self.params(blobs, manifest);
        match self.model(name, blobs, &models) {
            Ok(header) => {
                found.size_bytes = Some(manifest.bytes(Kind::Model));
                found = found.with_header(header);
            }
            Err(why) => {
                found.basis = Basis::Manifest;
                found.size_bytes = Some(manifest.weights_bytes());
                self.warn(format!("only the sizes in the manifest are known: {why}"));
            }
        }
        found.projector = self.companion(name, blobs, manifest, Kind::Projector);
        found.draft = self.companion(name, blobs, manifest, Kind::Draft);
        if found.header.is_none() || found.quantization.is_none() {
            let config = self.config(blobs, manifest);
            found.quantization = found.quantization.or(config.quantization);
            let size = config.size.as_deref().and_then(vram::NamedSize::of);
            found.parameters = found.parameters.or(size.map(|size| size.parameters));
        }
        Ok(found)
    }

    fn model(
        &mut self,
        name: &OllamaName,
        blobs: &Blobs<'_>,
        layers: &[&Layer],
    ) -> Result<Header, SourceError> {
        if layers.is_empty() {
            // Safetensors, tensor by tensor.
            return Err(SourceError::NoFile {
                repository: name.to_string(),
                wanted: None,
                there: Vec::new(),
            });
        }
        let mut headers = Vec::new();
        for (at, layer) in layers.iter().enumerate() {
            let first = if at == 0 { FIRST } else { FIRST_SMALL };
            headers.push(self.blob_header(name, blobs, layer, first)?);
        }
        // The parts of one model may be in blobs of their own without being a split file.
        if headers.len() > 1 && headers.iter().all(|header| header.split().is_none()) {
            let mut whole = headers.remove(0);
            for header in headers {
                whole.tensors.extend(header.tensors);
                whole.shards += 1;
            }
            return Ok(whole);
        }
        vram::merge(headers).map_err(|error| SourceError::Shards {
            url: name.to_string(),
            error,
        })
    }

    fn companion(
        &mut self,
        name: &OllamaName,
        blobs: &Blobs<'_>,
        manifest: &Manifest,
        kind: Kind,
    ) -> Option<Companion> {
        let layer = manifest.of(kind).next()?;
        let header = match self.blob_header(name, blobs, layer, FIRST_SMALL) {
            Ok(header) => Some(header),
            Err(error) => {
                self.warn(format!(
                    "of a part of `{name}` only the size is known: {error}"
                ));
                None
            }
        };
        Some(Companion {
            header,
            bytes: manifest.bytes(kind),
        })
    }

    fn blob_header(
        &mut self,
        name: &OllamaName,
        blobs: &Blobs<'_>,
        layer: &Layer,
        first: u64,
    ) -> Result<Header, SourceError> {
        match blobs {
            Blobs::Store(store) => file::read_one(&store.blob(&layer.digest)).map(|it| it.header),
            Blobs::Registry(root) => {
                let url = blob_url(root, &layer.digest);
                let what = format!("header of {name}");
                self.remote(&url, first, &what, Some(&layer.digest), Service::Ollama)
                    .map(|kept| kept.header)
            }
        }
    }

    fn params(&mut self, blobs: &Blobs<'_>, manifest: &Manifest) -> OllamaParams {
        let Some(layer) = manifest.of(Kind::Params).next() else {
            return OllamaParams::default();
        };
        match self.small_blob(blobs, &layer.digest) {
            Ok(bytes) => OllamaParams::parse(&bytes),
            Err(error) => {
                self.warn(format!("the model's own options are not known: {error}"));
                OllamaParams::default()
            }
        }
    }

    /// The model's configuration; what cannot be read of it is not known, which costs an answer nothing but two words.
    fn config(&self, blobs: &Blobs<'_>, manifest: &Manifest) -> ModelConfig {
        let digest = manifest.config.as_deref();
        let bytes = digest.and_then(|digest| self.small_blob(blobs, digest).ok());
        bytes
            .map(|bytes| ModelConfig::parse(&bytes))
            .unwrap_or_default()
    }

    fn small_blob(&self, blobs: &Blobs<'_>, digest: &str) -> Result<Vec<u8>, SourceError> {
        match blobs {
            Blobs::Store(store) => store.small_blob(digest).map_err(|error| SourceError::File {
                path: store.blob(digest),
                trouble: FileTrouble::Io(error),
            }),
            Blobs::Registry(root) => self
                .web
                .document(&blob_url(root, digest), "*/*", manifest::SMALL_BLOB)
                .map(|document| document.body)
                .map_err(registry),
        }
    }
}

fn blob_url(root: &Url, digest: &str) -> Url {
    let mut url = root.clone();
    // It fails only for URLs that cannot have a path, and this one has one.
    if let Ok(mut path) = url.path_segments_mut() {
        path.extend(["blobs", digest]);
    }
    url
}

fn registry(error: WebError) -> SourceError {
    SourceError::Web {
        service: Service::Ollama,
        error,
    }
}
