//! Speeds learned from the answers that pass through.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::fit::{self, Line};
use super::kept::{KeptAnswer, KeptModel};
use super::{LEAST_DECODE, LEAST_PREFILL, Load, Range, Speed, Speeds, Work, count};
use crate::cluster::ModelName;
use crate::routing::window;

/// Answers that count: enough for an 80 % range, few enough to follow a node that changes.
const KEPT: usize = 48;
/// Answers of a context that are kept across runs: enough for what is predicted to be about as good as before.
const KEPT_ACROSS: usize = 24;
/// Loads that count.
const KEPT_LOADS: usize = 16;
/// Models that are remembered for one node.
const MOST_MODELS: usize = 256;
/// Nodes that are remembered.
const MOST_NODES: usize = 4096;
/// Contexts of one model that are kept apart.
const MOST_CONTEXTS: usize = 6;
/// Answers that make up the newest speed …
const NEW: usize = 5;
/// … and how many of them there must be.
const LEAST_NEW: usize = 3;
/// Weight of the newest answer's length: about the last ten count.
const NEWEST: f64 = 0.2;
/// Answers below which a context's own figures count for less than those of the other contexts.
const ENOUGH: usize = 5;

/// What an answer told of itself.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Observation {
    /// The context that the model is loaded with; 0 when unknown. A model that is split for a large context has other speeds.
    pub context: u32,
    /// Tokens of the prompt, the cached ones included.
    pub prompt_tokens: u64,
    /// Tokens of the prompt that were in the cache.
    pub cached_tokens: u64,
    /// Characters of the prompt.
    pub characters: Option<u64>,
    /// Milliseconds of prefill.
    pub prompt_ms: Option<f64>,
    /// Tokens of the answer.
    pub answer_tokens: u64,
    /// Milliseconds of decode.
    pub decode_ms: Option<f64>,
    /// A load that the answer had to wait for, and its milliseconds.
    pub load: Option<(Load, f64)>,
    /// Whether the node was writing other answers at the same time, which all slow each other down.
    pub crowded: bool,
    /// Whether it was already when this one began, which is what can be known beforehand.
    pub began_crowded: bool,
}

impl Observation {
    fn uncached(&self) -> u64 {
        self.prompt_tokens.saturating_sub(self.cached_tokens)
    }

    fn prefill(&self) -> Option<f64> {
        self.prompt_ms.filter(|ms| ms.is_finite() && *ms > 0.0)
    }

    fn decode(&self) -> Option<f64> {
        self.decode_ms.filter(|ms| ms.is_finite() && *ms > 0.0)
    }
}

/// Everything that was learned, by node and model.
#[derive(Debug, Clone, Default)]
pub struct Learner {
    nodes: HashMap<String, HashMap<ModelName, Model>>,
}

/// One model on one node.
#[derive(Debug, Clone, Default)]
struct Model {
    /// By step of the ladder of contexts, the one used last at the end.
    contexts: Vec<(u32, Track)>,
    cold: VecDeque<f64>,
    warm: VecDeque<f64>,
    characters: VecDeque<f64>,
    /// Decode speeds of the newest answers that the node wrote alone, whatever their context.
    newest: VecDeque<f64>,
    answer: Option<f64>,
    samples: u64,
}

/// One model on one node with one step of context.
#[derive(Debug, Clone, Default)]
struct Track {
    answers: VecDeque<Observation>,
    speed: Speed,
}

impl Learner {
    /// Learns from one complete answer.
    pub fn observe(&mut self, node: &str, model: &ModelName, seen: &Observation) {
        if !self.nodes.contains_key(node) {
            if self.nodes.len() >= MOST_NODES {
                return;
            }
            self.nodes.insert(node.to_owned(), HashMap::new());
        }
        let Some(models) = self.nodes.get_mut(node) else {
            return;
        };
        if !models.contains_key(model) {
            if models.len() >= MOST_MODELS {
                return;
            }
            models.insert(model.clone(), Model::default());
        }
        if let Some(learned) = models.get_mut(model) {
            learned.observe(seen);
        }
    }

    /// What is known of a model on a node, loaded with a context; 0: with whichever it had last.
    pub fn speed(&self, node: &str, model: &ModelName, context: u32) -> Speed {
        self.nodes
            .get(node)
            .and_then(|models| models.get(model))
            .map(|learned| learned.speed(context))
            .unwrap_or_default()
    }

    /// Milliseconds of some work, with the range that holds 80 % of such requests; `None` while something that it takes was never measured.
    pub fn estimate(
        &self,
        node: &str,
        model: &ModelName,
        context: u32,
        work: &Work,
    ) -> Option<Range> {
        self.speed(node, model, context).estimate(work)
    }

    /// The speeds by node and model as they are now, for a decision.
    pub fn speeds(&self) -> Speeds {
        let of_node = |models: &HashMap<ModelName, Model>| {
            models
                .iter()
                .map(|(name, learned)| (name.clone(), learned.speed(0)))
                .collect()
        };
        Speeds {
            by_node_and_model: self
                .nodes
                .iter()
                .map(|(node, models)| (node.clone(), of_node(models)))
                .collect(),
            ..Speeds::default()
        }
    }

    /// What is worth keeping across runs.
    pub fn kept(&self, node: &str) -> BTreeMap<String, KeptModel> {
        let models = self.nodes.get(node);
        let kept = models.into_iter().flatten();
        kept.map(|(name, model)| (name.to_string(), model.kept()))
            .collect()
    }

    /// Takes over what was kept of a model on a node; what is already known of it is newer.
    pub fn restore(&mut self, node: &str, model: &ModelName, kept: &KeptModel) {
        if !self.nodes.contains_key(node) && self.nodes.len() >= MOST_NODES {
            return;
        }
        let models = self.nodes.entry(node.to_owned()).or_default();
        if !models.contains_key(model) && models.len() < MOST_MODELS {
            models.insert(model.clone(), Model::restored(kept));
        }
    }

    /// Forgets a node that is no longer there.
    pub fn forget(&mut self, node: &str) {
        self.nodes.remove(node);
    }
}

impl Model {
    fn kept(&self) -> KeptModel {
        let list = |values: &VecDeque<f64>| values.iter().copied().collect();
        KeptModel {
            contexts: self
                .contexts
                .iter()
                .map(|(context, track)| {
                    let newest = track.answers.len().saturating_sub(KEPT_ACROSS);
                    let answers = track.answers.iter().skip(newest);
                    (*context, answers.map(KeptAnswer::from).collect())
                })
                .collect(),
            cold: list(&self.cold),
            warm: list(&self.warm),
            characters: list(&self.characters),
            answer: self.answer,
            samples: self.samples,
        }
    }

    fn restored(kept: &KeptModel) -> Self {
        let good = |values: &[f64], most| -> VecDeque<f64> {
            let positive = values.iter().copied().filter(|v| v.is_finite() && *v > 0.0);
            positive.take(most).collect()
        };
        let mut model = Self {
            cold: good(&kept.cold, KEPT_LOADS),
            warm: good(&kept.warm, KEPT_LOADS),
            characters: good(&kept.characters, KEPT),
            answer: kept
                .answer
                .filter(|tokens| tokens.is_finite() && *tokens > 0.0),
            samples: kept.samples,
            ..Self::default()
        };
        for (context, answers) in kept.contexts.iter().take(MOST_CONTEXTS) {
            for answer in answers.iter().take(KEPT) {
                model.keep(&answer.observation(*context));
            }
        }
        model
    }

    fn observe(&mut self, seen: &Observation) {
        if let Some((load, ms)) = seen.load.filter(|(_, ms)| ms.is_finite() && *ms > 0.0) {
            let loads = if load == Load::Cold {
                &mut self.cold
            } else {
                &mut self.warm
            };
            push(loads, ms, KEPT_LOADS);
        }
        if let Some(characters) = seen.characters
            && seen.prompt_tokens >= LEAST_PREFILL
        {
            let ratio = count(characters) / count(seen.prompt_tokens);
            push(&mut self.characters, ratio, KEPT);
        }
        if seen.answer_tokens > 0 {
            let tokens = count(seen.answer_tokens);
            let old = self.answer.unwrap_or(tokens);
            self.answer = Some(old + NEWEST * (tokens - old));
        }
        if let Some(ms) = seen
            .decode()
            .filter(|_| seen.answer_tokens >= LEAST_DECODE && !seen.crowded)
        {
            push(
                &mut self.newest,
                count(seen.answer_tokens) * 1000.0 / ms,
                NEW,
            );
        }
        if seen.prefill().is_none() && seen.decode().is_none() {
            return;
        }
        self.samples += 1;
        self.keep(seen);
    }

    /// Takes an answer into the figures of its context.
    fn keep(&mut self, seen: &Observation) {
        let step = step(seen.context);
        let known = self
            .contexts
            .iter()
            .position(|(context, _)| *context == step);
        let mut entry = match known {
            Some(index) => self.contexts.remove(index),
            None => (step, Track::default()),
        };
        if self.contexts.len() >= MOST_CONTEXTS {
            self.contexts.remove(0);
        }
        push(&mut entry.1.answers, *seen, KEPT);
        entry.1.fit();
        self.contexts.push(entry);
    }

    fn speed(&self, context: u32) -> Speed {
        let own = self
            .contexts
            .iter()
            .find(|(step, _)| context > 0 && *step == step_of(context))
            .map(|(_, track)| track);
        let last = self.contexts.last().map(|(_, track)| track);
        // A context that is new takes what is known of the one used last, until it has answers enough of its own.
        let track = match (own, last) {
            (Some(own), _) if own.answers.len() >= ENOUGH => Some(own),
            (own, last) => [own, last]
                .into_iter()
                .flatten()
                .max_by_key(|track| track.answers.len()),
        };
        let loads = |loads: &VecDeque<f64>| {
            let loads: Vec<f64> = loads.iter().copied().collect();
            fit::range(&loads)
        };
        let (load_cold, load_warm) = (loads(&self.cold), loads(&self.warm));
        let ratios: Vec<f64> = self.characters.iter().copied().collect();
        let newest: Vec<f64> = self.newest.iter().copied().collect();
        Speed {
            recent_tps: fit::median(&newest).filter(|_| newest.len() >= LEAST_NEW),
            load_ms: load_warm.or(load_cold).map(|range| range.centre),
            completion_tokens: self.answer,
            samples: self.samples,
            load_cold,
            load_warm,
            characters_per_token: fit::median(&ratios),
            ..track.map(|track| track.speed).unwrap_or_default()
        }
    }
}

impl Track {
    /// Prefill: time per token against one over the number of tokens, so that a long prompt does not outweigh the others; decode: time per
    /// token against the place in the context. Then what the real times were of those that the lines give.
    fn fit(&mut self) {
        // What a node does for one request alone, as soon as it was seen doing that; requests beside each other take longer, by their own factor.
        let alone = self.answers.iter().filter(|seen| !seen.crowded).count() >= ENOUGH;
        let counted = || self.answers.iter().filter(|seen| !(alone && seen.crowded));
        let prefill: Vec<(f64, f64)> = counted()
            .filter(|seen| seen.uncached() >= LEAST_PREFILL)
            .filter_map(|seen| {
                let tokens = count(seen.uncached());
                Some((1.0 / tokens, seen.prefill()? / tokens))
            })
            .collect();
        let short: Vec<f64> = counted()
            .filter(|seen| seen.uncached() < LEAST_PREFILL)
            .filter_map(Observation::prefill)
            .collect();
        let decode: Vec<(f64, f64)> = counted()
            .filter(|seen| seen.answer_tokens >= LEAST_DECODE)
            .filter_map(|seen| {
                let tokens = count(seen.answer_tokens);
                Some((
                    count(seen.prompt_tokens) + tokens / 2.0,
                    seen.decode()? / tokens,
                ))
            })
            .collect();
        let per_token = fit::line(&prefill);
        let per_answer_token: Option<Line> = fit::line(&decode);
        let mut speed = Speed {
            prefill_tps: per_token.map(|line| 1000.0 / line.at_zero),
            prompt_ms: match per_token {
                Some(line) => Some(line.slope),
                None => fit::median(&short),
            },
            decode_tps: per_answer_token.map(|line| 1000.0 / line.at_zero),
            decode_slope: per_answer_token.map(|line| line.slope),
            ..Speed::default()
        };
        // Who comes in between is not known beforehand, so it widens the range of what began alone.
        let beside = self
            .answers
            .iter()
            .filter(|seen| seen.began_crowded)
            .count();
        let apart = self.answers.len() - beside >= ENOUGH;
        speed.spread = self.spread(&speed, |seen| !(apart && seen.began_crowded));
        if apart && beside >= ENOUGH {
            speed.spread_crowded = self.spread(&speed, |seen| seen.began_crowded);
        }
        self.speed = speed;
    }

    /// Real times over predicted ones. The lines were fitted to the same answers, which makes them look better than they are: the widths
    /// grow by what fitting takes away. Of the four fitted numbers two matter for an answer, those of the phase that is most of it.
    fn spread(&self, speed: &Speed, of: impl Fn(&Observation) -> bool) -> Option<Range> {
        let ratios: Vec<f64> = self
            .answers
            .iter()
            .filter(|seen| of(seen))
            .filter_map(|seen| {
                let answer = if seen.decode().is_some() {
                    speed.decode_ms(seen.answer_tokens, seen.prompt_tokens)?
                } else {
                    0.0
                };
                let predicted = speed.prefill_ms(seen.uncached())? + answer;
                let real = seen.prefill()? + seen.decode().unwrap_or(0.0);
                (predicted > 0.0).then(|| (real / predicted).ln())
            })
            .collect();
        let logs = fit::range(&ratios)?;
        #[expect(clippy::cast_precision_loss, reason = "a few dozen answers")]
        let n = ratios.len() as f64;
        let fitted = 2.0;
        let wider = ((n + fitted) / (n - fitted).max(1.0)).sqrt();
        Some(Range {
            centre: logs.centre.exp(),
            low: (logs.centre - (logs.centre - logs.low) * wider).exp(),
            high: (logs.centre + (logs.high - logs.centre) * wider).exp(),
        })
    }
}

/// The ladder's step of a context; 0 stays 0.
fn step(context: u32) -> u32 {
    if context == 0 { 0 } else { step_of(context) }
}

fn step_of(context: u32) -> u32 {
    window::bucket(context)
}

fn push<T>(kept: &mut VecDeque<T>, value: T, most: usize) {
    if kept.len() >= most {
        kept.pop_front();
    }
    kept.push_back(value);
}

#[cfg(test)]
#[path = "learner_tests.rs"]
mod tests;
