//! What was found of a model.

use super::manifest::OllamaParams;
use crate::vram::{Basis, Header, NamedSize};

/// What was found of a model, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// What it is called, tag or quantisation included.
    pub name: String,
    /// Where this comes from, in one line.
    pub source: String,
    /// How sure it is. Without a [`header`](Self::header) the size is all there is, whatever the basis.
    pub basis: Basis,
    /// The header; of all shards together.
    pub header: Option<Header>,
    /// The projector (vision, audio) that is loaded beside it.
    pub projector: Option<Companion>,
    /// The draft model that is loaded beside it.
    pub draft: Option<Companion>,
    /// Bytes of adapters.
    pub adapter_bytes: u64,
    /// With a header: bytes of the model's own files. Without one: of everything that goes into memory, as far as is known. Sizes of the
    /// catalogue are MiB.
    pub size_bytes: Option<u64>,
    /// Digest of the content (`sha256:…`), where the source tells one: of the model's file, or of the manifest where a node tells it.
    pub digest: Option<String>,
    /// Quantisation.
    pub quantization: Option<String>,
    /// Parameters in all.
    pub parameters: Option<u64>,
    /// What the name alone says of its size; only where the basis is [`Basis::Name`].
    pub named: Option<NamedSize>,
    /// Options that Ollama would run it with.
    pub ollama_params: OllamaParams,
    /// Whether Ollama would run it: what [`crate::vram::Runtime`] follows from where nobody says another.
    pub of_ollama: bool,
    /// Quantisations in the same repository, this one among them.
    pub variants: Vec<Variant>,
    /// What should be known about this answer, one sentence each.
    pub warnings: Vec<String>,
    /// What was tried before and why it did not answer, one sentence each.
    pub tried: Vec<String>,
}

/// A part of a model in a file of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Companion {
    /// Its header, where it could be read.
    pub header: Option<Header>,
    /// Bytes of its file, else of all that the source says beyond the model itself.
    pub bytes: u64,
}

/// One quantisation in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Quantisation as the file's name tells it.
    pub quantization: Option<String>,
    /// Path of the (first) file in the repository.
    pub file: String,
    /// How many files it is split into.
    pub files: u32,
    /// Bytes of all of them.
    pub bytes: u64,
}

impl Found {
    /// Nothing but a name and where it comes from.
    pub(super) fn new(name: impl Into<String>, source: impl Into<String>, basis: Basis) -> Self {
        Self {
            name: name.into(),
            source: source.into(),
            basis,
            header: None,
            projector: None,
            draft: None,
            adapter_bytes: 0,
            size_bytes: None,
            digest: None,
            quantization: None,
            parameters: None,
            named: None,
            ollama_params: OllamaParams::default(),
            of_ollama: false,
            variants: Vec::new(),
            warnings: Vec::new(),
            tried: Vec::new(),
        }
    }

    /// Takes a header and what follows from it; what it does not say stays as it was.
    pub(super) fn with_header(mut self, header: Header) -> Self {
        if let Some(quantization) = header.quantization() {
            self.quantization = Some(quantization.to_string());
        }
        self.parameters = header.parameters().or(self.parameters);
        self.header = Some(header);
        self
    }
}
