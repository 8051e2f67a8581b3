//! The answer for one site.

use serde::Serialize;

use super::case::Case;
use super::{Eviction, Question, evict, mib, mib_needed, speed};
use crate::cluster::Knowledge;
use crate::cluster::place::largest;
use crate::cluster::{
    LoadedModel, ModelName, NodeKind, NodeState, Placement, PlacementKind, Room, Rules, Site,
};
use crate::vram::{Settings, TokensPerSecond};

/// How a model is placed on a site.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SitePlacement {
    /// In which way.
    pub kind: PlacementKind,
    /// Indices of the GPUs, in the order in which the runtime must see them.
    pub gpus: Vec<u32>,
    /// Their UUIDs; `None` where they have none.
    pub uuids: Vec<Option<String>>,
    /// Share of each, in sum 1.
    pub tensor_split: Vec<f64>,
    /// Layers on GPUs, the output layer counted; `None`: all.
    pub ngl: Option<u32>,
    /// First layers whose experts stay on the CPU.
    pub cpu_experts: u32,
    /// Bytes to be reserved on each GPU.
    pub needs_bytes: Vec<u64>,
}

/// What holds for one site.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SiteFit {
    /// The node; `None`: this machine.
    pub node: Option<String>,
    /// Its GPUs by name; `None` where there is none or none is known.
    pub gpu: Option<String>,
    /// Where its memory is known from.
    pub knowledge: Knowledge,
    /// Bytes that count as usable, all GPUs together; `None`: not known.
    pub usable_bytes: Option<u64>,
    /// Bytes free, all GPUs together; `None`: not known.
    pub free_bytes: Option<u64>,
    /// Whether all of it is or would be on GPUs.
    pub fits: bool,
    /// Why or why not, as a sentence.
    pub reason: String,
    /// Share of it that is in GPU memory already in percent; `None`: not loaded.
    pub loaded_percent: Option<u8>,
    /// Where it goes; `None`: nowhere.
    pub placement: Option<SitePlacement>,
    /// Largest context that fits on GPUs, a multiple of 256; `None`: none, or not known.
    pub max_context: Option<u64>,
    /// Tokens per second of one stream in a short conversation; `None`: not known.
    pub tokens_per_second: Option<TokensPerSecond>,
    /// Whether the speed was measured.
    pub speed_measured: bool,
    /// Loaded models that would have to go for all of it to fit, the least valuable first; empty where it fits or nothing would help.
    pub evicts: Vec<Eviction>,
    /// Whether it could run on the CPU here.
    #[serde(skip)]
    pub cpu: bool,
}

/// Answers for one site.
pub(super) fn answer(case: &Case<'_>, site: &Site) -> SiteFit {
    let question = case.question;
    let resident = resident(question, site);
    let shown = evict::measured(question, site.rooms.clone());
    let rooms = rooms(question, site);
    let mut answer = SiteFit {
        node: site.name().map(str::to_owned),
        gpu: gpu_names(site),
        knowledge: site.knowledge,
        usable_bytes: sum(site, &shown, |room| room.usable_bytes),
        free_bytes: sum(site, &shown, |room| room.free_bytes),
        fits: false,
        reason: String::new(),
        loaded_percent: resident.and_then(LoadedModel::gpu_percent),
        placement: None,
        max_context: None,
        tokens_per_second: None,
        speed_measured: false,
        evicts: Vec::new(),
        cpu: false,
    };
    if let Some(reason) = unusable(question, site, &mut answer.fits) {
        answer.reason = reason;
        return answer;
    }
    let rules = Rules {
        strategy: question.strategy,
        cpu_fallback: question.cpu_fallback,
        ram_free: site.ram_free,
    };
    // No layers on GPUs were asked for: as if there were none.
    let on_cpu = question.settings.gpu_layers == Some(0);
    let placement = case.place(if on_cpu { &[] } else { &rooms }, rules);
    let kind = kind(question, &placement);
    let enough = |loaded: &&LoadedModel| {
        let context = loaded
            .context
            .is_none_or(|context| context >= per_sequence(question.settings));
        loaded.gpu_percent() == Some(100) && context
    };
    let in_memory = resident.as_ref().is_some_and(enough);
    answer.fits = kind.fits() || in_memory;
    answer.cpu = kind == PlacementKind::Cpu;
    answer.reason = if in_memory && !kind.fits() {
        "In GPU memory already".to_owned()
    } else {
        reason(question, site, &shown, &placement, kind)
    };
    if !answer.fits && !on_cpu {
        answer.evicts = evict::needed(case, site, &rooms);
    }
    if question.thorough && !on_cpu {
        answer.max_context = max_context(case, &rooms);
    }
    speed_of(question, site, &rooms, &placement, &mut answer);
    answer.placement = outline(&rooms, &placement, kind);
    answer
}

/// The model where it is in the node's memory already.
fn resident<'a>(question: &Question<'_>, site: &'a Site) -> Option<&'a LoadedModel> {
    let name = ModelName::new(question.model);
    site.node.as_ref()?.loaded(&name)
}

/// The rooms as they are for this question: without the model itself, which would be replaced.
pub(super) fn rooms(question: &Question<'_>, site: &Site) -> Vec<Room> {
    let own = resident(question, site).and_then(|loaded| loaded.vram_bytes);
    evict::measured(question, evict::without(&site.rooms, own.unwrap_or(0)))
}

/// What there is to say of a site that loads no model for us. `fits` where it serves this one all the same.
fn unusable(question: &Question<'_>, site: &Site, fits: &mut bool) -> Option<String> {
    let node = site.node.as_ref()?;
    let cause = node.cause.as_deref().unwrap_or("no cause is known");
    match node.state {
        NodeState::Down => return Some(format!("Node does not answer: {cause}")),
        NodeState::Misconfigured => return Some(format!("Node cannot be used: {cause}")),
        NodeState::Up | NodeState::Busy | NodeState::Loading => {}
    }
    if node.kind == Some(NodeKind::Ollama) {
        return None;
    }
    let name = ModelName::new(question.model);
    *fits = node.model(&name).is_some() || node.loaded(&name).is_some();
    Some(if *fits {
        "Served there already".to_owned()
    } else {
        "Node serves only what it was started with".to_owned()
    })
}

fn gpu_names(site: &Site) -> Option<String> {
    let names: Vec<&str> = site
        .rooms
        .iter()
        .map(|room| room.name.as_str())
        .filter(|name| !name.is_empty())
        .collect();
    let configured = || site.node.as_ref()?.gpu.clone();
    if names.is_empty() {
        configured()
    } else {
        Some(names.join(", "))
    }
}

fn sum(site: &Site, rooms: &[Room], of: impl Fn(&Room) -> u64) -> Option<u64> {
    match site.knowledge {
        Knowledge::Nothing => None,
        _ => Some(rooms.iter().map(of).fold(0, u64::saturating_add)),
    }
}

/// All layers that were wished for may be fewer than there are.
fn kind(question: &Question<'_>, placement: &Placement) -> PlacementKind {
    let all = question.subject.gpu_layers();
    match question.settings.gpu_layers {
        Some(wished) if wished < all && placement.kind.fits() => PlacementKind::Partial,
        _ => placement.kind,
    }
}

/// Contexts are multiples of it (llama.cpp pads to it).
const CONTEXT_STEP: u64 = 256;

fn max_context(case: &Case<'_>, rooms: &[Room]) -> Option<u64> {
    let trained = case.question.subject.max_context()?;
    if rooms.is_empty() {
        return None;
    }
    let most = u32::try_from(trained / CONTEXT_STEP).ok()?;
    let holds = |steps: u32| case.goes(u64::from(steps) * CONTEXT_STEP, rooms);
    let steps = if most > 0 && holds(most) {
        most
    } else {
        largest(1, most.saturating_sub(1), holds)?
    };
    Some(u64::from(steps) * CONTEXT_STEP)
}

fn per_sequence(settings: &Settings) -> u64 {
    settings.ctx / u64::from(settings.parallel.max(1))
}

fn reason(
    question: &Question<'_>,
    site: &Site,
    rooms: &[Room],
    placement: &Placement,
    kind: PlacementKind,
) -> String {
    let of = |count: usize| match count {
        0 | 1 => "VRAM".to_owned(),
        count => format!("VRAM of {count} GPUs"),
    };
    let sum = |gpus: &[usize], of: fn(&Room) -> u64| {
        mib(gpus
            .iter()
            .map(|gpu| of(&rooms[*gpu]))
            .fold(0, u64::saturating_add))
    };
    let every: Vec<usize> = (0..rooms.len()).collect();
    let (usable, free) = (
        sum(&every, |room| room.usable_bytes),
        sum(&every, |room| room.free_bytes),
    );
    let need = mib_needed(placement.need_bytes);
    if question.settings.gpu_layers == Some(0) {
        return "All of it on the CPU, as asked".to_owned();
    }
    let text = match (site.knowledge, kind) {
        (Knowledge::NoGpu, _) => return "Node has no GPU".to_owned(),
        (Knowledge::Nothing, _) => {
            return "GPU memory of this node is not known: set its `vram`".to_owned();
        }
        (_, _) if rooms.is_empty() => {
            let causes: Vec<&str> = site.skipped.iter().map(|gpu| gpu.reason.as_str()).collect();
            return format!("No GPU can be used: {}", causes.join("; "));
        }
        (_, PlacementKind::Single | PlacementKind::Split) => {
            let gpus = &placement.gpus;
            format!(
                "Fits in {}MB {} ({}MB free)",
                sum(gpus, |room| room.usable_bytes),
                of(gpus.len()),
                sum(gpus, |room| room.free_bytes)
            )
        }
        (_, PlacementKind::ExpertsOnCpu) => format!(
            "Fits with the experts of {} layers on the CPU ({need}MB needed for all, {free}MB free)",
            placement.cpu_experts
        ),
        (_, PlacementKind::Partial) => {
            let all = question.subject.gpu_layers();
            let layers = placement.gpu_layers.or(question.settings.gpu_layers);
            format!(
                "Fits partly: {} of {all} layers on the GPU ({need}MB needed for all, {free}MB free)",
                layers.unwrap_or(all)
            )
        }
        (Knowledge::Seen, PlacementKind::Cpu | PlacementKind::None) => {
            format!(
                "{need}MB needed; all that is known of this node is that it has at least {usable}MB VRAM"
            )
        }
        (_, PlacementKind::Cpu | PlacementKind::None) => {
            if need > usable {
                format!("Model too large ({need}MB > {usable}MB usable VRAM)")
            } else if need > free {
                format!("Not enough free VRAM ({need}MB needed, {free}MB free)")
            } else {
                format!(
                    "No way to split it over {} ({need}MB needed, {free}MB free)",
                    of(rooms.len())
                )
            }
        }
    };
    if let Some(model) = site.untold.first() {
        return format!("{text}; what {model} holds there is not known");
    }
    text
}

fn speed_of(
    question: &Question<'_>,
    site: &Site,
    rooms: &[Room],
    placement: &Placement,
    answer: &mut SiteFit,
) {
    let measured = (question.measured)(site.name()).filter(|speed| *speed > 0.0);
    answer.speed_measured = measured.is_some();
    answer.tokens_per_second = match measured {
        Some(speed) => Some(TokensPerSecond {
            low: speed,
            high: speed,
        }),
        None => speed::predict(question, site, rooms, placement),
    };
}

fn outline(rooms: &[Room], placement: &Placement, kind: PlacementKind) -> Option<SitePlacement> {
    let on = |gpu: &usize| &rooms[*gpu];
    (kind != PlacementKind::None).then(|| SitePlacement {
        kind,
        gpus: placement.gpus.iter().map(|gpu| on(gpu).index).collect(),
        uuids: placement
            .gpus
            .iter()
            .map(|gpu| on(gpu).uuid.clone())
            .collect(),
        tensor_split: placement.tensor_split.clone(),
        ngl: placement.gpu_layers,
        cpu_experts: placement.cpu_experts,
        needs_bytes: placement.needs.clone(),
    })
}
