//! A model in a repository of Hugging Face, and any other address of a GGUF file.

use reqwest::Url;

use super::error::{Service, SourceError};
use super::find::Search;
use super::found::{Companion, Found};
use super::ranged::{FIRST, FIRST_SMALL};
use super::repository::{Pick, Repository};
use super::tree::{self, Group, RepositoryFile, Tree};
use super::web_error::{Trouble, WebError};
use crate::vram::{self, Basis, Header, ShardName};

/// Largest page of a listing in bytes; a thousand files take less than 1 MB.
const PAGE_LIMIT: u64 = 8 * 1024 * 1024;

/// Most pages that are read; a repository with more files is not one of a model.
const MOST_PAGES: usize = 20;

impl Search<'_> {
    /// The model that is meant in a repository.
    pub(super) fn repository(&mut self, repository: &Repository) -> Result<Found, SourceError> {
        let tree = self.tree(repository)?;
        for first in &tree.incomplete {
            self.warn(format!(
                "{first} is left out: not all of its files are there"
            ));
        }
        let Some(group) = tree.pick(&repository.pick, self.finder.quant) else {
            return self.without_gguf(repository, &tree);
        };
        self.say_choice(repository, &tree, group);
        let header = self.group_header(repository, group)?;
        let mut found = Found::new(
            repository.to_string(),
            format!("{} of {}", group.path(), self.page(repository)),
            Basis::Header,
        );
        found.size_bytes = Some(group.bytes());
        found.quantization.clone_from(&group.quantization);
        found.digest = group.files.first().and_then(|file| file.digest.clone());
        found.of_ollama = repository.ollama;
        found.variants = tree.groups.iter().map(Group::variant).collect();
        let mut found = found.with_header(header);
        // The name says more than the header: `UD-Q4_K_XL` is Q4_K_M to it.
        found.quantization = group.quantization.clone().or(found.quantization);
        if let Some(file) = tree.projector(group) {
            found.projector = Some(Companion {
                header: self.projector_header(repository, file),
                bytes: file.bytes,
            });
        }
        Ok(found)
    }

    /// All files of a repository.
    fn tree(&self, repository: &Repository) -> Result<Tree, SourceError> {
        let path = [
            "api",
            "models",
            &repository.owner,
            &repository.name,
            "tree",
            &repository.revision,
        ];
        let mut url = self.hub_url(&path)?;
        url.set_query(Some("recursive=true"));
        let mut files = Vec::new();
        for _ in 0..MOST_PAGES {
            let document = self
                .web
                .document(&url, "application/json", PAGE_LIMIT)
                .map_err(hub)?;
            let page = tree::page(&document.body)
                .ok_or_else(|| hub(WebError::new(&url, Trouble::NotA("list of files"))))?;
            files.extend(page);
            match document.next {
                Some(next) => url = next,
                None => return Ok(Tree::new(files)),
            }
        }
        Err(hub(WebError::new(
            &url,
            Trouble::NotA("list of files that ends"),
        )))
    }

    /// No GGUF file that is meant: an error, unless the size of other weights is an answer.
    fn without_gguf(&mut self, repository: &Repository, tree: &Tree) -> Result<Found, SourceError> {
        let wanted = match &repository.pick {
            Pick::Default => self.finder.quant.map(str::to_owned),
            Pick::Quant(quant) => Some(quant.clone()),
            Pick::File(path) => Some(path.clone()),
        };
        if wanted.is_none() && tree.safetensors_bytes > 0 {
            let page = self.page(repository);
            let source = format!("the sizes of the safetensors files of {page}");
            let mut found = Found::new(repository.to_string(), source, Basis::Manifest);
            found.size_bytes = Some(tree.safetensors_bytes);
            self.warn(format!(
                "{repository} has no GGUF file; only the sizes of its files are known"
            ));
            return Ok(found);
        }
        Err(SourceError::NoFile {
            repository: repository.to_string(),
            wanted: wanted.filter(|_| !tree.groups.is_empty()),
            there: tree.choices(),
        })
    }

    /// Says which file is meant where the user left it open.
    fn say_choice(&mut self, repository: &Repository, tree: &Tree, group: &Group) {
        let wanted = match &repository.pick {
            Pick::File(_) => return,
            Pick::Quant(quant) => Some(quant.as_str()),
            Pick::Default => self.finder.quant,
        };
        match wanted {
            None if !Tree::is_default(group) => {
                self.warn(format!(
                    "{repository} has no Q4_K_M; {} is taken",
                    group.path()
                ));
            }
            Some(quant) if tree.of_quantization(quant).count() > 1 => {
                self.warn(format!(
                    "{repository} has several files of {quant}; {} is taken",
                    group.path()
                ));
            }
            _ => {}
        }
    }

    fn group_header(
        &mut self,
        repository: &Repository,
        group: &Group,
    ) -> Result<Header, SourceError> {
        let key = group.key();
        if let Some(kept) = key.as_deref().and_then(|key| self.cache.get(key)) {
            return Ok(kept.header);
        }
        let mut headers = Vec::new();
        for (at, file) in group.files.iter().enumerate() {
            let first = if at == 0 { FIRST } else { FIRST_SMALL };
            headers.push(self.file_header(repository, file, first, group.files.len() > 1)?);
        }
        let header = vram::merge(headers).map_err(|error| SourceError::Shards {
            url: group.path().to_owned(),
            error,
        })?;
        if let Some(key) = key.filter(|_| group.files.len() > 1) {
            self.keep(&key, &header, Some(group.bytes()));
        }
        Ok(header)
    }

    /// The header of one file. Those of a split model are kept together, not one by one.
    fn file_header(
        &mut self,
        repository: &Repository,
        file: &RepositoryFile,
        first: u64,
        part: bool,
    ) -> Result<Header, SourceError> {
        let mut path = vec![
            repository.owner.as_str(),
            &repository.name,
            "resolve",
            &repository.revision,
        ];
        path.extend(file.path.split('/'));
        let url = self.hub_url(&path)?;
        let what = format!("header of {}", file.path);
        if part {
            return self
                .fetch(&url, first, &what, Service::HuggingFace)
                .map(|kept| kept.header);
        }
        let key = file.digest.as_deref();
        self.remote(&url, first, &what, key, Service::HuggingFace)
            .map(|kept| kept.header)
    }

    fn projector_header(
        &mut self,
        repository: &Repository,
        file: &RepositoryFile,
    ) -> Option<Header> {
        match self.file_header(repository, file, FIRST_SMALL, false) {
            Ok(header) => Some(header),
            Err(error) => {
                self.warn(format!("of {} only the size is known: {error}", file.path));
                None
            }
        }
    }

    fn page(&self, repository: &Repository) -> String {
        let base = self.finder.huggingface.trim_end_matches('/');
        format!("{base}/{}/{}", repository.owner, repository.name)
    }

    fn hub_url(&self, path: &[&str]) -> Result<Url, SourceError> {
        let base = self.finder.huggingface;
        let wrong = || SourceError::Spec(super::SpecError::Url(base.to_owned()));
        let mut url = Url::parse(base).map_err(|_| wrong())?;
        url.path_segments_mut()
            .map_err(|()| wrong())?
            .pop_if_empty()
            .extend(path);
        Ok(url)
    }

    /// The model at an address, with all its shards where the address names one.
    pub(super) fn address(&mut self, text: &str) -> Result<Found, SourceError> {
        let wrong = || SourceError::Spec(super::SpecError::Url(text.to_owned()));
        let url = Url::parse(text).map_err(|_| wrong())?;
        let path = url.path().to_owned();
        let paths: Vec<String> = match ShardName::parse(&path) {
            Some(shard) => shard.all().collect(),
            None => vec![path.clone()],
        };
        let mut headers = Vec::new();
        let mut size = Some(0_u64);
        for (at, path) in paths.iter().enumerate() {
            let mut url = url.clone();
            url.set_path(path);
            let name = path.rsplit('/').next().unwrap_or(path);
            let first = if at == 0 { FIRST } else { FIRST_SMALL };
            let kept = self.remote(
                &url,
                first,
                &format!("header of {name}"),
                None,
                Service::Web,
            )?;
            size = size
                .zip(kept.size)
                .map(|(sum, size)| sum.saturating_add(size));
            headers.push(kept.header);
        }
        let shown = super::web_error::shown(&url);
        let header = vram::merge(headers).map_err(|error| SourceError::Shards {
            url: shown.clone(),
            error,
        })?;
        let name = path.rsplit('/').next().unwrap_or(&path).to_owned();
        let mut found = Found::new(name, shown, Basis::Header);
        found.size_bytes = size;
        found.quantization = super::files::quantization(&path);
        Ok(found.with_header(header))
    }
}

fn hub(error: WebError) -> SourceError {
    SourceError::Web {
        service: Service::HuggingFace,
        error,
    }
}
