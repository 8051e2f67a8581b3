//! What a model that was found needs: the one answer of `estimate`, `fit`, `optimize` and `serve`.

use std::fmt;

use crate::cluster::{Demand, Layers, ModelNeed, Need, Placement, Room, Rules, place, size_only};
use crate::source::Found;
use crate::vram::{
    Backend, Basis, CacheType, Estimate, Extras, NameError, NamedModel, Offload, Range, Runtime,
    Settings, Shape, ShapeError, Subject, estimate_with, runtime_bytes,
};

/// Context of the first point of a table of sizes, in tokens.
const LEAST_CONTEXT: u64 = 1024;
/// Contexts of a model of which nobody tells what it was trained for end here.
const MOST_CONTEXT: u64 = 1 << 20;

/// How a model is to be run, where somebody says so; what is left away is the model's or the runtime's own default.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RunWish {
    /// Quantisation, where the model's name does not say one.
    pub quant: Option<String>,
    /// Context in tokens of all sequences together.
    pub ctx: Option<u64>,
    /// Sequences at once.
    pub parallel: Option<u32>,
    /// Types of the K and of the V cache.
    pub cache: Option<(CacheType, CacheType)>,
    /// Micro-batch in tokens.
    pub ubatch: Option<u64>,
    /// Batch in tokens.
    pub batch: Option<u64>,
    /// Flash attention.
    pub flash_attention: Option<bool>,
    /// Layers on GPUs, the output layer counted.
    pub gpu_layers: Option<u32>,
    /// The program; `None`: the one that follows from where the model was found.
    pub runtime: Option<Runtime>,
    /// Whether the sequences share one KV cache.
    pub unified_kv: Option<bool>,
}

/// Why a model was found and not understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotUnderstood {
    /// Its name is all there is, and does not tell enough.
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        error: NameError,
    },
    /// Its header is not that of a model.
    Header {
        /// Where the header is from.
        source: String,
        /// What is wrong with it.
        error: ShapeError,
    },
    /// Nothing tells its size.
    NoSize {
        /// Its name.
        name: String,
    },
    /// A quantised V cache without flash attention.
    QuantisedCache,
}

impl NotUnderstood {
    /// What to do, where that is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Name {
                error: NameError::NoQuantization(_),
                ..
            } => Some("name one: --quant Q4_K_M"),
            Self::QuantisedCache => Some("leave --flash-attn off away, or use --kv f16"),
            _ => None,
        }
    }
}

impl fmt::Display for NotUnderstood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name {
                name,
                error: NameError::NoQuantization(_),
            } => write!(f, "`{name}` does not say its quantisation"),
            Self::Name { error, .. } => error.fmt(f),
            Self::Header { source, error } => write!(f, "{source}: {error}"),
            Self::NoSize { name } => write!(f, "nothing tells how large `{name}` is"),
            Self::QuantisedCache => f.write_str("a quantised V cache needs flash attention"),
        }
    }
}

impl std::error::Error for NotUnderstood {}

/// A model that was found, and how it is to be run.
#[derive(Debug, Clone)]
pub struct Understood {
    /// What was found.
    pub found: Found,
    /// What is estimated.
    pub subject: Subject,
    /// The draft model that runs beside it.
    pub draft: Option<Box<Shape>>,
    /// How it is to be run.
    pub settings: Settings,
    /// Bytes of the KV cache of models of that size, where only the size is known.
    pub usual_kv: Option<Range>,
    /// What should be known, one sentence each.
    pub warnings: Vec<String>,
}

impl Understood {
    /// Shape, settings and warnings of what was found.
    ///
    /// # Errors
    /// What was found does not tell enough, or the model cannot be run like that.
    pub fn of(found: Found, wish: &RunWish) -> Result<Self, NotUnderstood> {
        let mut warnings = found.warnings.clone();
        let named = named(&found, wish.quant.as_deref())?;
        let subject = subject(&found, named, &mut warnings)?;
        let runtime = wish.runtime.unwrap_or(if found.of_ollama {
            Runtime::Ollama
        } else {
            Runtime::LlamaServer
        });
        let settings = settings(wish, &found, &subject, runtime)?;
        let usual_kv = named.map(|named| {
            warnings.extend(named.warnings(&settings));
            named.kv_bytes(&settings)
        });
        let draft = beside(&found, &mut warnings);
        Ok(Self {
            found,
            subject,
            draft,
            settings,
            usual_kv,
            warnings,
        })
    }

    /// The same where a size is better than nothing: a header that is not understood is left out.
    pub(super) fn at_least_its_size(mut found: Found, wish: &RunWish) -> Option<Self> {
        let unread = found
            .header
            .as_ref()
            .is_some_and(|header| Shape::of(header).is_err());
        if unread {
            found.header = None;
        }
        Self::of(found, wish).ok()
    }

    /// As a residency plan takes it.
    pub fn as_need(&self) -> ModelNeed<'_> {
        ModelNeed {
            subject: &self.subject,
            basis: self.basis(),
            extras: self.extras(),
            settings: &self.settings,
        }
    }

    /// What the model takes when it is placed like this, with what runs beside it.
    pub fn estimate(&self, offload: &Offload) -> Estimate {
        estimate_with(&self.subject, &self.settings, offload, self.extras())
    }

    /// What runs beside it, as far as its headers were read.
    pub fn extras(&self) -> Extras<'_> {
        Extras {
            projector: self
                .found
                .projector
                .as_ref()
                .and_then(|projector| projector.header.as_ref()),
            draft: self.draft.as_deref(),
        }
    }

    /// Where it goes on these GPUs.
    pub fn place(&self, rooms: &[Room], headroom: f64, rules: Rules) -> Placement {
        let by_parts = |offload: &Offload| self.estimate(offload);
        let all = self.subject.gpu_layers();
        let need = match &self.subject {
            Subject::Sized { bytes } => Need::Bytes(*bytes),
            Subject::Shaped(_) => Need::Layers(Layers {
                estimate: &by_parts,
                gpu_layers: self
                    .settings
                    .gpu_layers
                    .map_or(all, |wanted| wanted.min(all)),
                expert_layers: self.subject.expert_layers(),
            }),
        };
        place(&Demand { need, headroom }, rooms, rules)
    }

    /// What the estimate is based on: where a header could not be understood the size is all that counts.
    pub fn basis(&self) -> Basis {
        match (&self.subject, self.found.basis) {
            (Subject::Sized { .. }, Basis::Header | Basis::Api) => Basis::Manifest,
            (_, basis) => basis,
        }
    }

    /// What a runtime adds on a GPU of which nothing is known. A size without parts stands for the whole need.
    pub fn runtime(&self) -> Range {
        if size_only(self.basis()) {
            Range::default()
        } else {
            runtime_bytes(Backend::Cuda, None)
        }
    }

    /// The context that it was trained for.
    pub fn trained_context(&self) -> Option<u64> {
        self.subject.max_context()
    }

    /// Contexts of one request, and the bytes that the model takes of one large GPU with them when it answers `parallel` requests at once:
    /// what a server reports of it, so without what the runtime takes outside the model's buffers. A model of which only a size is known has
    /// one point.
    pub fn sizes(&self, parallel: u32) -> Vec<(u32, u64)> {
        if let Subject::Sized { bytes } = self.subject {
            return vec![(0, bytes)];
        }
        let end = self.trained_context().unwrap_or(MOST_CONTEXT).max(1);
        let steps = std::iter::successors(Some(LEAST_CONTEXT), |context| Some(context * 2));
        let contexts = steps.take_while(|context| *context < end).chain([end]);
        contexts
            .map(|context| {
                let at = u32::try_from(context).unwrap_or(u32::MAX);
                (
                    at,
                    self.bytes(context.saturating_mul(u64::from(parallel.max(1))), parallel),
                )
            })
            .collect()
    }

    /// Bytes of one large GPU with a context of so many tokens, all sequences together.
    fn bytes(&self, ctx: u64, parallel: u32) -> u64 {
        let settings = Settings {
            ctx,
            parallel: parallel.max(1),
            ..self.settings
        };
        let all = Offload::single();
        let estimate = estimate_with(&self.subject, &settings, &all, self.extras());
        estimate
            .devices
            .iter()
            .fold(0, |sum, parts| sum.saturating_add(parts.total_bytes()))
    }

    /// The same with the settings that it is run with: of a server that takes no context from a request.
    pub fn usual_bytes(&self) -> u64 {
        match self.subject {
            Subject::Sized { bytes } => bytes,
            Subject::Shaped(_) => self.bytes(self.settings.ctx, self.settings.parallel),
        }
    }
}

/// What the name tells, where nothing else does.
fn named(found: &Found, quant: Option<&str>) -> Result<Option<NamedModel>, NotUnderstood> {
    if found.header.is_some() || found.size_bytes.is_some() {
        return Ok(None);
    }
    let told = |error| NotUnderstood::Name {
        name: found.name.clone(),
        error,
    };
    NamedModel::read(&found.name, quant).map(Some).map_err(told)
}

fn subject(
    found: &Found,
    named: Option<NamedModel>,
    warnings: &mut Vec<String>,
) -> Result<Subject, NotUnderstood> {
    if let Some(header) = &found.header {
        let error = match Shape::of(header) {
            Ok(shape) => return Ok(Subject::Shaped(Box::new(shape))),
            Err(error) => error,
        };
        // A type that this version does not know still has a size on disk; anything else is not a model.
        let sized = matches!(error, ShapeError::Types(_));
        let Some(bytes) = found.size_bytes.filter(|_| sized) else {
            let source = found.source.clone();
            return Err(NotUnderstood::Header { source, error });
        };
        warnings.push(format!(
            "{error}: the size of the file stands for the weights"
        ));
        return Ok(Subject::Sized { bytes });
    }
    match (found.size_bytes, named) {
        (Some(bytes), _) => Ok(Subject::Sized { bytes }),
        (None, Some(named)) => Ok(Subject::Sized {
            bytes: named.weights_bytes(),
        }),
        (None, None) => Err(NotUnderstood::NoSize {
            name: found.name.clone(),
        }),
    }
}

fn settings(
    wish: &RunWish,
    found: &Found,
    subject: &Subject,
    runtime: Runtime,
) -> Result<Settings, NotUnderstood> {
    let mut settings = match subject {
        Subject::Shaped(shape) => Settings::defaults(runtime, shape),
        Subject::Sized { .. } => Settings::of_runtime(runtime, None),
    };
    let of_ollama = |option: Option<u64>| option.filter(|_| runtime == Runtime::Ollama);
    let put = |slot: &mut u64, value: Option<u64>| {
        if let Some(value) = value {
            *slot = value;
        }
    };
    let params = &found.ollama_params;
    put(
        &mut settings.ctx,
        wish.ctx.or_else(|| of_ollama(params.num_ctx)),
    );
    put(
        &mut settings.batch,
        wish.batch.or_else(|| of_ollama(params.num_batch)),
    );
    put(&mut settings.ubatch, wish.ubatch);
    settings.parallel = wish.parallel.unwrap_or(settings.parallel);
    if let Some((key, value)) = wish.cache {
        settings.cache_k = key;
        settings.cache_v = value;
    }
    settings.flash_attention = wish.flash_attention.unwrap_or(settings.flash_attention);
    settings.unified_kv = wish.unified_kv.unwrap_or(settings.unified_kv);
    let of_params = params.num_gpu.filter(|_| runtime == Runtime::Ollama);
    settings.gpu_layers = wish
        .gpu_layers
        .or_else(|| of_params.and_then(|layers| u32::try_from(layers).ok()));
    if settings.cache_v.is_quantized() && !settings.flash_attention {
        return Err(NotUnderstood::QuantisedCache);
    }
    Ok(settings)
}

/// The draft model, and what should be known of parts that could not be read.
fn beside(found: &Found, warnings: &mut Vec<String>) -> Option<Box<Shape>> {
    // Without a header of the model the size is everything that goes into memory already.
    found.header.as_ref()?;
    let mut unread = |part: &str, bytes: u64| {
        if bytes > 0 {
            warnings.push(format!("{bytes} bytes of {part} are not in this estimate"));
        }
    };
    unread("adapters", found.adapter_bytes);
    if let Some(projector) = found
        .projector
        .as_ref()
        .filter(|projector| projector.header.is_none())
    {
        unread(
            "a projector whose header could not be read",
            projector.bytes,
        );
    }
    let draft = found.draft.as_ref()?;
    let shape = draft.header.as_ref().map(Shape::of);
    if let Some(Ok(shape)) = shape {
        return Some(Box::new(shape));
    }
    unread("a draft model whose header could not be read", draft.bytes);
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{self, Finder, Places, Spec};
    use std::path::Path;

    fn found(header: &str) -> Found {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vram/arch_headers");
        let places = Places::default();
        let finder = Finder::new(&places);
        source::find(&Spec::File(data.join(header)), &finder).unwrap()
    }

    #[test]
    fn sizes_by_context_are_the_estimates_of_each() {
        for header in ["falcon.gguf", "gemma3.gguf"] {
            for parallel in [1, 4] {
                let own = Understood::of(found(header), &RunWish::default()).unwrap();
                let sizes = own.sizes(parallel);
                let trained = own.trained_context().unwrap();
                assert_eq!(
                    sizes.last().map(|(context, _)| u64::from(*context)),
                    Some(trained)
                );
                assert!(sizes.is_sorted() && sizes.len() > 1, "{header}: {sizes:?}");
                for (context, bytes) in sizes {
                    let wish = RunWish {
                        ctx: Some(u64::from(context) * u64::from(parallel)),
                        parallel: Some(parallel),
                        ..RunWish::default()
                    };
                    let alone = Understood::of(found(header), &wish).unwrap();
                    let estimate = alone.estimate(&Offload::single());
                    assert_eq!(
                        bytes,
                        estimate.devices[0].total_bytes(),
                        "{header} at {context}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_header_that_is_no_models_leaves_the_size() {
        let mut unread = found("falcon.gguf");
        unread
            .header
            .as_mut()
            .unwrap()
            .metadata
            .0
            .remove("general.architecture");
        let told = Understood::of(unread.clone(), &RunWish::default()).unwrap_err();
        assert!(matches!(told, NotUnderstood::Header { .. }), "{told}");
        let bytes = unread.size_bytes.unwrap();
        let sized = Understood::at_least_its_size(unread, &RunWish::default()).unwrap();
        assert_eq!(
            (sized.basis(), sized.sizes(4)),
            (Basis::Manifest, vec![(0, bytes)])
        );
        assert_eq!(sized.usual_bytes(), bytes);
    }
}
