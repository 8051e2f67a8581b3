//! The node for one wanted model, and which idle models make room for it there.

use std::cmp::Reverse;
use std::sync::Arc;

use super::ground::{Ground, without_model};
use super::{Goal, Impossible, ModelNeed, Rank, Scene, Usage, Wanted, copy_at};
use crate::cluster::{
    Fit, Launch, LoadedModel, ModelName, Node, NodeKind, NodeState, PlacementKind, Question, Role,
    Site, SiteFit, fit,
};
use crate::vram::Settings;

/// Where a model goes.
pub(super) struct Choice {
    /// Position of the site.
    pub(super) at: usize,
    /// Its node.
    pub(super) node: String,
    /// Models that make room, in the order in which they go.
    pub(super) evicts: Vec<ModelName>,
    /// Bytes to be reserved by index of the GPU; empty: in main memory.
    pub(super) needs: Vec<(u32, u64)>,
    /// Why, as a sentence.
    pub(super) reason: String,
    /// Context to ask for; `None`: the node's own.
    pub(super) context: Option<u64>,
    /// Whether all of it is on GPUs then.
    pub(super) whole: bool,
}

impl Choice {
    /// Bytes of GPU memory.
    pub(super) fn bytes(&self) -> u64 {
        self.needs
            .iter()
            .fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }
}

/// A site on which all of the model would be on GPUs.
struct Candidate {
    choice: Choice,
    /// Wanted models among those that make room.
    wanted_evicts: usize,
    free_bytes: u64,
    role: u8,
    preferred: bool,
    here_already: bool,
}

/// Chooses, or says why not. Fewest wanted models displaced, then fewest others, then the preferred node, the role, where a part of it is
/// already, the most free memory.
pub(super) fn choose(
    scene: &Scene<'_>,
    ground: &Ground,
    model: &Wanted<'_>,
    rank: &Rank<'_>,
) -> Result<Choice, Box<Impossible>> {
    let holders: Vec<(usize, &Site, &Arc<Node>)> = ground
        .sites()
        .iter()
        .enumerate()
        .filter_map(|(at, site)| {
            let node = site.node.as_ref()?;
            let has = node.model(&model.name).is_some() || node.loaded(&model.name).is_some();
            has.then_some((at, site, node))
        })
        .collect();
    let usable: Vec<(usize, &Site, &Arc<Node>)> = holders
        .iter()
        .filter(|(_, _, node)| node.state.usable())
        .copied()
        .collect();
    let impossible = |reason: String, answered: Option<&Answered>| {
        Box::new(Impossible {
            model: model.name.clone(),
            need_bytes: answered
                .map(|answered| answered.need_bytes)
                .filter(|bytes| *bytes > 0),
            largest_usable_bytes: answered.and_then(|answered| answered.largest_usable),
            absent: holders.is_empty(),
            reason,
        })
    };
    let case = model.need.map(|need| Case {
        scene,
        model,
        need,
        rank,
    });
    if usable.is_empty() {
        let told = case
            .filter(|_| holders.is_empty())
            .map(|case| case.absent(ground.sites()));
        let reason = unreachable(model, &holders);
        return Err(match told {
            Some(told) if !told.reason.is_empty() => impossible(told.reason.clone(), Some(&told)),
            told => impossible(reason, told.as_ref()),
        });
    }
    let Some(case) = case else {
        let text = "Nothing tells how large it is: set its size in [models]";
        return Err(impossible(text.to_owned(), None));
    };
    let answered = case.answer(&usable);
    let best = answered
        .candidates
        .iter()
        .enumerate()
        .min_by_key(|(order, candidate)| {
            (
                candidate.wanted_evicts,
                candidate.choice.evicts.len(),
                !candidate.preferred,
                candidate.role,
                !candidate.here_already,
                Reverse(candidate.free_bytes),
                *order,
            )
        });
    if let Some((best, _)) = best {
        let mut candidates = answered.candidates;
        return Ok(candidates.swap_remove(best).choice);
    }
    if scene.goal == Goal::Memory
        && usable
            .iter()
            .all(|(_, site, _)| copy_at(site, &model.name).is_none())
        && let Some(choice) = case.anywhere(&usable)
    {
        return Ok(choice);
    }
    Err(impossible(answered.reason.clone(), Some(&answered)))
}

fn unreachable(model: &Wanted<'_>, holders: &[(usize, &Site, &Arc<Node>)]) -> String {
    match holders.first() {
        None => format!(
            "No node has it, and gpurouter never pulls: ollama pull {}",
            model.name
        ),
        Some((_, _, node)) => {
            let state = match node.state {
                NodeState::Loading => "is loading",
                NodeState::Misconfigured => "cannot be used",
                _ => "does not answer",
            };
            format!("{}, which has it, {state}", node.name)
        }
    }
}

/// What the sites say of one model.
struct Answered {
    candidates: Vec<Candidate>,
    need_bytes: u64,
    largest_usable: Option<u64>,
    /// Why it is not on the site that comes nearest.
    reason: String,
}

struct Case<'a> {
    scene: &'a Scene<'a>,
    model: &'a Wanted<'a>,
    need: ModelNeed<'a>,
    rank: &'a Rank<'a>,
}

impl Case<'_> {
    /// What the sites say of a model that no node has: how much it needs, and whether it would fit anywhere if one had it.
    fn absent(&self, sites: &[Site]) -> Answered {
        let mut answered = Answered {
            candidates: Vec::new(),
            need_bytes: 0,
            largest_usable: None,
            reason: String::new(),
        };
        let answers: Vec<(Fit, SiteFit)> = sites
            .iter()
            .filter(|site| site.live())
            .filter_map(|site| self.asks(site, self.need.settings))
            .collect();
        for (fit, site) in &answers {
            answered.need_bytes = answered.need_bytes.max(fit.need_bytes);
            answered.largest_usable = answered.largest_usable.max(site.usable_bytes);
        }
        if let Some(usable) = answered.largest_usable
            && answered.need_bytes > usable
        {
            answered.reason = format!(
                "Model too large ({}MB > {}MB usable VRAM), and no node has it",
                answered.need_bytes.div_ceil(1 << 20),
                usable >> 20
            );
        }
        answered
    }

    fn answer(&self, usable: &[(usize, &Site, &Arc<Node>)]) -> Answered {
        let mut answered = Answered {
            candidates: Vec::new(),
            need_bytes: 0,
            largest_usable: None,
            reason: String::new(),
        };
        let mut nearest: Option<(u64, u64)> = None;
        for (at, site, node) in usable {
            let (told, site_fit) = match self.at(*at, site, node) {
                Tried::Goes(candidate) => {
                    answered.candidates.push(*candidate);
                    continue;
                }
                Tried::Not(told, site_fit) => (told, site_fit),
            };
            let Some((fit, site_fit)) = site_fit.as_deref() else {
                if answered.reason.is_empty() {
                    answered.reason = told;
                }
                continue;
            };
            answered.need_bytes = answered.need_bytes.max(fit.need_bytes);
            answered.largest_usable = answered.largest_usable.max(site_fit.usable_bytes);
            let room = (
                site_fit.usable_bytes.unwrap_or(0),
                site_fit.free_bytes.unwrap_or(0),
            );
            if nearest.is_none_or(|nearest| room > nearest) {
                nearest = Some(room);
                answered.reason = told;
            }
        }
        answered
    }

    /// The site's answer: where it goes there, with what making room, or why not.
    fn at(&self, at: usize, site: &Site, node: &Arc<Node>) -> Tried {
        let name = &self.model.name;
        let (settings, context) = self.settings(node);
        let whole = self.asks(site, &settings);
        let refused = |reason: String, whole: Option<(Fit, SiteFit)>| {
            Tried::Not(format!("{}: {reason}", node.name), whole.map(Box::new))
        };
        if !loads(node, name) {
            return refused("serves only what it was started with".to_owned(), whole);
        }
        let Some((fit, answer)) = whole else {
            return refused("it gave no answer".to_owned(), None);
        };
        if let Some(why) = (self.scene.held_back)(&node.name, name) {
            return refused(why, Some((fit, answer)));
        }
        if copy_at(site, name).is_some() && self.usage(node, name).active {
            let text = "it is at work there, on the CPU in part; the next cycle looks again";
            return refused(text.to_owned(), Some((fit, answer)));
        }
        let (evicts, answer) = if goes(&answer) {
            (Vec::new(), answer)
        } else {
            let Some(made) = self.room_for(site, node, &settings) else {
                let text = self.why_no_room(node, fit.need_bytes, &answer);
                return refused(text, Some((fit, answer)));
            };
            made
        };
        let wanted = |gone: &&ModelName| self.later(gone);
        Tried::Goes(Box::new(Candidate {
            wanted_evicts: evicts.iter().filter(wanted).count(),
            free_bytes: answer.free_bytes.unwrap_or(0),
            role: self.role(node),
            preferred: self.model.prefer == Some(node.name.as_str()),
            here_already: copy_at(site, name).is_some(),
            choice: Choice {
                at,
                node: node.name.clone(),
                needs: needs(&answer),
                reason: answer.reason.clone(),
                evicts,
                context,
                whole: true,
            },
        }))
    }

    /// The settings at a node: a copy that is there was loaded with a context that somebody asked for, and keeps it.
    fn settings(&self, node: &Node) -> (Settings, Option<u64>) {
        let mut settings = *self.need.settings;
        let loaded = node
            .loaded(&self.model.name)
            .and_then(|loaded| loaded.context);
        let larger = loaded.filter(|context| *context > settings.ctx);
        if let Some(context) = larger {
            settings.ctx = context;
        }
        (settings, larger)
    }

    /// `fit`'s answer for one site.
    fn asks(&self, site: &Site, settings: &Settings) -> Option<(Fit, SiteFit)> {
        let question = Question {
            model: self.model.name.as_str(),
            subject: self.need.subject,
            basis: self.need.basis,
            extras: self.need.extras,
            settings,
            policy: self.scene.policy,
            strategy: self.scene.strategy,
            cpu_fallback: true,
            variants: &[],
            launch: Launch::Nothing,
            // Which ones would make room is decided here.
            keep: &|_, _| true,
            measured: &|_| None,
            thorough: false,
        };
        let mut fit = fit(&question, std::slice::from_ref(&as_loader(site)));
        let answer = fit.nodes.pop()?;
        Some((fit, answer))
    }

    /// The fewest idle models without which it goes, the cheapest of them, and the answer without them.
    fn room_for(
        &self,
        site: &Site,
        node: &Node,
        settings: &Settings,
    ) -> Option<(Vec<ModelName>, SiteFit)> {
        if node.kind != Some(NodeKind::Ollama) {
            return None;
        }
        let idle = self.idle(node);
        let answer_without = |gone: &[ModelName]| {
            let site = gone
                .iter()
                .fold(site.clone(), |site, name| without_model(&site, name));
            let (_, answer) = self.asks(&site, settings)?;
            goes(&answer).then_some(answer)
        };
        let count = (1..=idle.len())
            .find(|count| answer_without(idle.get(..*count).unwrap_or_default()).is_some())?;
        let mut gone = idle.get(..count)?.to_vec();
        // What was taken before the one that made room may not have been needed; the most valuable is spared first.
        for at in (0..gone.len()).rev() {
            let mut fewer = gone.clone();
            fewer.remove(at);
            if answer_without(&fewer).is_some() {
                gone = fewer;
            }
        }
        let answer = answer_without(&gone)?;
        Some((gone, answer))
    }

    /// Models that may make room, the least valuable first.
    fn idle(&self, node: &Node) -> Vec<ModelName> {
        let mut idle: Vec<&LoadedModel> = node
            .loaded
            .iter()
            .filter(|loaded| loaded.vram_bytes.is_some_and(|bytes| bytes > 0))
            .filter(|loaded| self.may_go(node, &loaded.name))
            .collect();
        idle.sort_by_cached_key(|loaded| {
            let usage = self.usage(node, &loaded.name);
            (
                self.later(&loaded.name),
                // Whole minutes: what differs by seconds was last used at the same time.
                Reverse(usage.idle_ms.unwrap_or(u64::MAX) / 60_000),
                usage.demand,
                millis(usage.load_ms),
                loaded.expires_at.is_none(),
                loaded.expires_at.clone(),
                Reverse(loaded.vram_bytes),
                loaded.name.clone(),
            )
        });
        idle.into_iter().map(|loaded| loaded.name.clone()).collect()
    }

    fn may_go(&self, node: &Node, name: &ModelName) -> bool {
        let wanted_before = self
            .rank
            .earlier
            .iter()
            .any(|wanted| same(node, &wanted.name, name));
        let own = same(node, &self.model.name, name);
        let spared = self.embeds(node) && answers(node, name);
        !(own || wanted_before || spared || self.usage(node, name).active)
    }

    /// Whether that is a model which is wanted after this one.
    fn later(&self, name: &ModelName) -> bool {
        self.rank.later.iter().any(|wanted| wanted.name == *name)
    }

    fn usage(&self, node: &Node, name: &ModelName) -> Usage {
        (self.scene.usage)(&node.name, name)
    }

    fn embeds(&self, node: &Node) -> bool {
        node.model(&self.model.name)
            .is_some_and(crate::cluster::Model::embeds_only)
    }

    /// How far a node is meant for the model: one for embeddings is for them and the others are for the rest; one without a role is for both.
    fn role(&self, node: &Node) -> u8 {
        match (node.role, self.embeds(node)) {
            (Role::Embed, true) | (Role::Main | Role::Helper, false) => 0,
            (Role::Any, _) => 1,
            (Role::Embed, false) | (Role::Main | Role::Helper, true) => 2,
        }
    }

    fn why_no_room(&self, node: &Node, need: u64, answer: &SiteFit) -> String {
        let need = Some(need);
        let busy = node
            .loaded
            .iter()
            .any(|loaded| loaded.vram_bytes > Some(0) && self.usage(node, &loaded.name).active);
        let chat = self.embeds(node)
            && node
                .loaded
                .iter()
                .any(|loaded| loaded.vram_bytes > Some(0) && answers(node, &loaded.name));
        let fits_when_empty =
            answer.usable_bytes > answer.free_bytes && need <= answer.usable_bytes;
        match (fits_when_empty, busy, chat) {
            (true, true, _) => format!("{}; what is loaded there is at work", answer.reason),
            (true, false, true) => {
                format!(
                    "{}; embeddings displace no model that answers",
                    answer.reason
                )
            }
            _ => answer.reason.clone(),
        }
    }

    /// Into any memory: on the GPU in part, or on the CPU.
    fn anywhere(&self, usable: &[(usize, &Site, &Arc<Node>)]) -> Option<Choice> {
        let mut best: Option<(Order, Choice)> = None;
        for (at, site, node) in usable {
            let held = (self.scene.held_back)(&node.name, &self.model.name).is_some();
            if !loads(node, &self.model.name) || held {
                continue;
            }
            let (settings, context) = self.settings(node);
            let Some((_, answer)) = self.asks(site, &settings) else {
                continue;
            };
            let needs = match answer.kind() {
                kind if kind.partial() => needs(&answer),
                PlacementKind::Cpu if self.scene.cpu_fallback => Vec::new(),
                _ => continue,
            };
            let key = (
                self.model.prefer != Some(node.name.as_str()),
                needs.is_empty(),
                Reverse(answer.free_bytes.unwrap_or(0)),
            );
            if best.as_ref().is_none_or(|(known, _)| key < *known) {
                let choice = Choice {
                    at: *at,
                    node: node.name.clone(),
                    evicts: Vec::new(),
                    reason: answer.reason.clone(),
                    needs,
                    context,
                    whole: false,
                };
                best = Some((key, choice));
            }
        }
        best.map(|(_, choice)| choice)
    }
}

/// Whether it is another than the preferred node, whether no part goes on a GPU, and the free memory.
type Order = (bool, bool, Reverse<u64>);

/// What came of asking a site.
enum Tried {
    Goes(Box<Candidate>),
    /// Why not, and the numbers.
    Not(String, Option<Box<(Fit, SiteFit)>>),
}

/// Whether all of it is on GPUs there.
fn goes(answer: &SiteFit) -> bool {
    answer.fits && answer.kind().fits()
}

fn needs(answer: &SiteFit) -> Vec<(u32, u64)> {
    answer
        .placement
        .as_ref()
        .map_or_else(Vec::new, |placement| {
            placement
                .gpus
                .iter()
                .copied()
                .zip(placement.needs_bytes.iter().copied())
                .collect()
        })
}

/// Whether the node loads that model when it is told to; a llama-server in router mode cannot load anew what it serves already.
fn loads(node: &Node, name: &ModelName) -> bool {
    node.loads_models() && (node.kind == Some(NodeKind::Ollama) || node.loaded(name).is_none())
}

/// `fit` asks only Ollamas whether there is room; a llama-server in router mode loads what it is asked for just so.
fn as_loader(site: &Site) -> Site {
    let mut site = site.clone();
    if let Some(node) = &mut site.node
        && node.kind == Some(NodeKind::LlamaServer)
    {
        Arc::make_mut(node).kind = Some(NodeKind::Ollama);
    }
    site
}

/// Whether two names are one content on that node.
fn same(node: &Node, a: &ModelName, b: &ModelName) -> bool {
    let digest = |name| node.model(name).and_then(|model| model.digest.as_ref());
    a == b || (digest(a).is_some() && digest(a) == digest(b))
}

/// Whether a model may be one that answers prompts: all but those that are known to embed only.
fn answers(node: &Node, name: &ModelName) -> bool {
    node.model(name).is_none_or(|model| !model.embeds_only())
}

/// Whole milliseconds, so that they can be ordered; what was not measured counts as slow.
fn millis(load_ms: Option<f64>) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a time that is not negative; the cast saturates"
    )]
    load_ms.map_or(u64::MAX, |ms| ms.max(0.0) as u64)
}
