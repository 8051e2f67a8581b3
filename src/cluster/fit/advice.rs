//! What would fit when this does not.

use serde::Serialize;

use super::case::Case;
use super::site::rooms;
use super::{Question, SiteFit};
use crate::cluster::{Room, Site};
use crate::vram::{CacheType, Settings, Subject};

/// What would fit on GPUs somewhere, next to what is loaded; each on its own.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Advice {
    /// The same with a shorter context, in tokens: the largest that fits.
    pub context: Option<u64>,
    /// The same with another type of the K and V cache: the most exact that fits.
    pub cache: Option<CacheType>,
    /// Another file of the repository: the largest that fits.
    pub variant: Option<String>,
}

/// From exact to coarse.
const LADDER: [CacheType; 3] = [CacheType::F16, CacheType::Q8_0, CacheType::Q4_0];

pub(super) fn find(case: &Case<'_>, sites: &[Site], nodes: &[SiteFit]) -> Advice {
    let question = case.question;
    let open: Vec<Vec<Room>> = sites
        .iter()
        .filter(|site| site.live() && !site.rooms.is_empty())
        .map(|site| rooms(question, site))
        .collect();
    let anywhere = |subject: &Subject, settings: &Settings| {
        open.iter()
            .any(|rooms| case.goes_as(subject, settings, rooms))
    };
    Advice {
        context: nodes
            .iter()
            .filter_map(|node| node.max_context)
            .max()
            .filter(|context| *context < question.settings.ctx),
        cache: coarser(question).find(|kind| {
            let settings = Settings {
                cache_k: *kind,
                cache_v: *kind,
                ..*question.settings
            };
            anywhere(question.subject, &settings)
        }),
        variant: variant(case, &open),
    }
}

/// Cache types that take less than the present one and that llama.cpp would accept: a quantised V needs flash attention, and rows must be whole
/// blocks.
fn coarser<'a>(question: &'a Question<'_>) -> impl Iterator<Item = CacheType> + 'a {
    let per_block = |kind: CacheType| kind.bytes(1 << 10);
    let now = per_block(question.settings.cache_k) + per_block(question.settings.cache_v);
    let whole = |kind: CacheType| match question.subject {
        Subject::Shaped(shape) => shape.layers.iter().all(|layer| {
            // Without a V of its own (MLA) K serves as V, which no coarse type allows.
            let latent = layer.key_width > 0 && layer.value_width == 0;
            let block = kind.block().elements;
            !latent && layer.key_width % block == 0 && layer.value_width % block == 0
        }),
        Subject::Sized { .. } => false,
    };
    LADDER.into_iter().filter(move |kind| {
        2 * per_block(*kind) < now
            && (!kind.is_quantized() || (question.settings.flash_attention && whole(*kind)))
    })
}

fn variant(case: &Case<'_>, open: &[Vec<Room>]) -> Option<String> {
    let question = case.question;
    let size = |subject: &Subject| {
        let whole =
            crate::vram::estimate(subject, question.settings, &crate::vram::Offload::single());
        whole.devices.first().map_or(0, |parts| parts.weights_bytes)
    };
    question
        .variants
        .iter()
        .filter(|variant| {
            open.iter().any(|rooms| {
                let rooms: Vec<Room> = rooms
                    .iter()
                    .map(|room| room.clone().measured(question.policy, variant.basis))
                    .collect();
                case.goes_as(variant.subject, question.settings, &rooms)
            })
        })
        .max_by_key(|variant| size(variant.subject))
        .map(|variant| variant.name.to_owned())
}
