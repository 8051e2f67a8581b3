//! What a model needs, asked once for each content.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::backend::Prober;
use crate::cluster::{ClusterSnapshot, ModelName, ModelNeed, NodeKind};
use crate::config::Config;
use crate::source::{self, Finder, Found, Places, Spec};
use crate::vram::{Basis, Extras, NamedModel, Runtime, Settings, Shape, Subject, find_known};

/// Models whose needs are remembered; more than anybody keeps on GPUs.
const MOST: usize = 256;

/// A model that was understood.
#[derive(Debug)]
pub(super) struct Understood {
    subject: Subject,
    basis: Basis,
    settings: Settings,
    found: Found,
    draft: Option<Shape>,
}

impl Understood {
    pub(super) fn as_need(&self) -> ModelNeed<'_> {
        let projector = self.found.projector.as_ref();
        ModelNeed {
            subject: &self.subject,
            basis: self.basis,
            extras: Extras {
                projector: projector.and_then(|projector| projector.header.as_ref()),
                draft: self.draft.as_ref(),
            },
            settings: &self.settings,
        }
    }
}

/// Needs by digest: a digest never changes its content.
#[derive(Debug, Default)]
pub(super) struct Needs {
    known: HashMap<String, Arc<Understood>>,
    order: VecDeque<String>,
}

impl Needs {
    pub(super) fn get(&self, digest: Option<&str>) -> Option<Arc<Understood>> {
        self.known.get(digest?).map(Arc::clone)
    }

    pub(super) fn put(&mut self, digest: Option<&str>, need: &Arc<Understood>) {
        let Some(digest) = digest else { return };
        let new = self
            .known
            .insert(digest.to_owned(), Arc::clone(need))
            .is_none();
        if new {
            self.order.push_back(digest.to_owned());
        }
        if self.order.len() > MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

/// What the nodes say of a model, else the catalogue, else its name. No registry is asked.
pub(super) fn ask(
    prober: &Prober,
    snapshot: &ClusterSnapshot,
    config: &Config,
    name: &str,
) -> Option<Understood> {
    let places = Places::default();
    let known = |name: &ModelName| find_known(name.as_str(), &config.models).map(|known| known.mb);
    let finder = Finder {
        nodes: Some((prober, snapshot)),
        offline: true,
        known: &known,
        ..Finder::new(&places)
    };
    let found = source::find(&Spec::Name(name.to_owned()), &finder).ok()?;
    let llama = snapshot
        .usable()
        .filter(|node| node.model(&ModelName::new(name)).is_some())
        .all(|node| node.kind == Some(NodeKind::LlamaServer));
    let runtime = if llama {
        Runtime::LlamaServer
    } else {
        Runtime::Ollama
    };
    understand(found, runtime)
}

/// What the user's own sizes and the catalogue say of a model that no node has.
pub(super) fn catalogued(config: &Config, name: &ModelName) -> Option<Understood> {
    find_known(name.as_str(), &config.models)?;
    ask(
        &Prober::new(),
        &ClusterSnapshot::default(),
        config,
        name.as_str(),
    )
}

/// By the rules of `estimate` and `fit`: the header's shape, else a size that stands for everything.
fn understand(found: Found, runtime: Runtime) -> Option<Understood> {
    let shape = found
        .header
        .as_ref()
        .and_then(|header| Shape::of(header).ok());
    let subject = match shape {
        Some(shape) => Subject::Shaped(Box::new(shape)),
        None => Subject::Sized {
            bytes: match found.size_bytes {
                Some(bytes) => bytes,
                None => NamedModel::read(&found.name, None).ok()?.weights_bytes(),
            },
        },
    };
    let basis = match (&subject, found.basis) {
        (Subject::Sized { .. }, Basis::Header | Basis::Api) => Basis::Manifest,
        (_, basis) => basis,
    };
    let mut settings = match &subject {
        Subject::Shaped(shape) => Settings::defaults(runtime, shape),
        Subject::Sized { .. } => Settings::of_runtime(runtime, None),
    };
    if runtime == Runtime::Ollama {
        let params = &found.ollama_params;
        settings.ctx = params.num_ctx.unwrap_or(settings.ctx);
        settings.batch = params.num_batch.unwrap_or(settings.batch);
        settings.gpu_layers = params.num_gpu.and_then(|layers| u32::try_from(layers).ok());
    }
    let draft = found.draft.as_ref().and_then(|draft| draft.header.as_ref());
    let draft = draft.and_then(|header| Shape::of(header).ok());
    Some(Understood {
        subject,
        basis,
        settings,
        found,
        draft,
    })
}
