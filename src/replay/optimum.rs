//! The fewest loads that a trace can be served with by somebody who knows it in advance and serves it in its order.
//!
//! Exact where that is possible: dynamic programming over what is in memory after each request. A load is only worth making when a request
//! needs it, evicting only what is in its way, with a context that some later request wishes for; so a state has few successors. A state
//! that costs as much as the cheapest one plus a load for each of its models is worth nothing: the cheapest one can be turned into it. Where
//! there are too many states all the same, the nodes are pooled into one memory, which can only need fewer loads: a bound below the optimum.

use std::collections::{BTreeSet, HashMap};

use super::fleet::FleetNode;
use super::{Scenario, model_indices};
use crate::sim::model::Hardware;

/// Most states after one request.
const MOST_STATES: usize = 20_000;
/// Tokens of an answer that are not known count for nothing here: the trace tells their number.
const AUTOMATIC: u32 = 4096;

/// The fewest loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Optimum {
    /// So many.
    pub loads: u64,
    /// Whether it is the optimum itself, not a bound below it.
    pub exact: bool,
}

/// A step of the trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A request for a model that needs so much context.
    Serve {
        /// Index of the model.
        model: usize,
        /// Its tokens, the answer included.
        context: u32,
    },
    /// A node forgets everything.
    Restart {
        /// Its index.
        node: usize,
    },
}

/// What the optimum is computed of.
#[derive(Debug, Clone, Default)]
pub struct Problem {
    /// In the order of service.
    pub steps: Vec<Step>,
    /// Bytes of each node and the most models it holds at once.
    pub nodes: Vec<(u64, usize)>,
    /// By model: bytes without context, bytes per token.
    pub models: Vec<(u64, u64)>,
    /// By model: nodes that have it.
    pub places: Vec<Vec<usize>>,
    /// No model counts for more than this; `None`: each for what it is.
    pub most_bytes: Option<u64>,
}

/// Model and context of everything in memory, by node, in order.
type State = Vec<Vec<(usize, u32)>>;

impl Problem {
    /// The problem of a scenario. Embedding models may lie in main memory, where they are in nobody's way.
    fn of(scenario: &Scenario) -> Self {
        let models = scenario.models();
        let indices = model_indices(&scenario.requests, &models);
        let mut steps: Vec<(u64, Step)> = scenario
            .requests
            .iter()
            .zip(indices)
            .filter_map(|(request, model)| {
                let known = models.get(model)?;
                let context = if known.can("embedding") {
                    1
                } else {
                    let whole = request.tokens_in.saturating_add(request.tokens_out);
                    request
                        .ctx
                        .unwrap_or(AUTOMATIC)
                        .max(whole)
                        .min(known.context_length)
                };
                Some((request.at_ms, Step::Serve { model, context }))
            })
            .chain(
                scenario
                    .restarts
                    .iter()
                    .map(|(at, node)| (*at, Step::Restart { node: *node })),
            )
            .collect();
        steps.sort_by_key(|(at, _)| *at);
        let most = |node: &FleetNode| Hardware::with_gpu(node.gpu.clone()).max_loaded;
        let parallel = scenario
            .fleet
            .iter()
            .map(|node| node.parallel)
            .min()
            .unwrap_or(1);
        Self {
            steps: steps.into_iter().map(|(_, step)| step).collect(),
            nodes: scenario
                .fleet
                .iter()
                .map(|node| (node.usable_bytes(), most(node)))
                .collect(),
            models: models
                .iter()
                .map(|model| {
                    if model.can("embedding") {
                        (0, 0)
                    } else {
                        let slope = model.kv_bytes_per_token * parallel as u64;
                        (model.resident_bytes(0, parallel), slope)
                    }
                })
                .collect(),
            places: models
                .iter()
                .map(|model| {
                    (0..scenario.fleet.len())
                        .filter(|node| scenario.fleet.get(*node).is_some_and(|n| n.has(model)))
                        .collect()
                })
                .collect(),
            most_bytes: None,
        }
    }

    /// All nodes as one. A model that is larger than the smallest node counts for no more than that node, which it may have for itself.
    fn pooled(&self) -> Self {
        Self {
            steps: self
                .steps
                .iter()
                // A pool loses less than everything when one of its nodes does: nothing is a bound.
                .filter(|step| matches!(step, Step::Serve { .. }))
                .copied()
                .collect(),
            nodes: vec![self.nodes.iter().fold((0, 0), |(bytes, count), node| {
                (bytes + node.0, count + node.1)
            })],
            models: self.models.clone(),
            places: self
                .places
                .iter()
                .map(|places| {
                    if places.is_empty() {
                        Vec::new()
                    } else {
                        vec![0]
                    }
                })
                .collect(),
            most_bytes: self.nodes.iter().map(|(bytes, _)| *bytes).min(),
        }
    }

    fn bytes(&self, model: usize, context: u32) -> u64 {
        let bytes = self.models.get(model).map_or(0, |(base, slope)| {
            base.saturating_add(slope.saturating_mul(u64::from(context)))
        });
        self.most_bytes.map_or(bytes, |most| bytes.min(most))
    }

    /// The fewest loads; `None` when there are too many states.
    pub fn solve(&self) -> Option<u64> {
        self.solve_with(prune)
    }

    fn solve_with(&self, prune: fn(HashMap<State, u64>) -> HashMap<State, u64>) -> Option<u64> {
        let mut wishes: Vec<BTreeSet<u32>> = vec![BTreeSet::new(); self.models.len()];
        for step in &self.steps {
            if let Step::Serve { model, context } = step
                && let Some(wishes) = wishes.get_mut(*model)
            {
                wishes.insert(*context);
            }
        }
        let mut states: HashMap<State, u64> = HashMap::new();
        states.insert(vec![Vec::new(); self.nodes.len()], 0);
        for step in &self.steps {
            let mut next: HashMap<State, u64> = HashMap::with_capacity(states.len());
            for (state, cost) in states {
                match step {
                    Step::Restart { node } => {
                        let mut state = state;
                        if let Some(held) = state.get_mut(*node) {
                            held.clear();
                        }
                        keep(&mut next, state, cost);
                    }
                    Step::Serve { model, context } => {
                        self.serve(&state, cost, *model, *context, &wishes, &mut next);
                    }
                }
            }
            states = prune(next);
            if states.len() > MOST_STATES {
                return None;
            }
        }
        states.into_values().min()
    }

    fn serve(
        &self,
        state: &State,
        cost: u64,
        model: usize,
        context: u32,
        wishes: &[BTreeSet<u32>],
        next: &mut HashMap<State, u64>,
    ) {
        let covers = |held: &(usize, u32)| held.0 == model && held.1 >= context;
        if state.iter().flatten().any(covers) {
            keep(next, state.clone(), cost);
            return;
        }
        let Some(places) = self.places.get(model).filter(|places| !places.is_empty()) else {
            keep(next, state.clone(), cost);
            return;
        };
        for node in places {
            let Some(held) = state.get(*node) else {
                continue;
            };
            let others: Vec<(usize, u32)> = held
                .iter()
                .copied()
                .filter(|(other, _)| *other != model)
                .collect();
            let options = wishes.get(model).map(|wishes| wishes.range(context..));
            for option in options.into_iter().flatten() {
                for kept in self.least_evictions(*node, &others, self.bytes(model, *option)) {
                    let mut held = kept;
                    held.push((model, *option));
                    held.sort_unstable();
                    let mut after = state.clone();
                    if let Some(place) = after.get_mut(*node) {
                        *place = held;
                    }
                    keep(next, after, cost + 1);
                }
            }
        }
    }

    /// What may stay beside `need` bytes: every largest set.
    fn least_evictions(
        &self,
        node: usize,
        others: &[(usize, u32)],
        need: u64,
    ) -> Vec<Vec<(usize, u32)>> {
        let Some((capacity, most)) = self.nodes.get(node).copied() else {
            return Vec::new();
        };
        let mut fitting: Vec<u32> = Vec::new();
        // From the full set down, so that a set inside one that fits is seen to be.
        let mut sets: Vec<u32> = (0..1_u32 << others.len().min(16)).collect();
        sets.sort_by_key(|set| std::cmp::Reverse(set.count_ones()));
        for set in sets {
            if fitting.iter().any(|larger| larger & set == set) {
                continue;
            }
            let kept = chosen(others, set);
            let used: u64 = kept
                .iter()
                .map(|(model, context)| self.bytes(*model, *context))
                .sum();
            // Alone it may be larger than the node, which splits it.
            let alone = used == 0;
            if kept.len() < most && (used.saturating_add(need) <= capacity || alone) {
                fitting.push(set);
            }
        }
        fitting.into_iter().map(|set| chosen(others, set)).collect()
    }
}

fn chosen(others: &[(usize, u32)], set: u32) -> Vec<(usize, u32)> {
    others
        .iter()
        .enumerate()
        .filter(|(index, _)| set & (1 << index) != 0)
        .map(|(_, held)| *held)
        .collect()
}

fn keep(states: &mut HashMap<State, u64>, state: State, cost: u64) {
    states
        .entry(state)
        .and_modify(|least| *least = (*least).min(cost))
        .or_insert(cost);
}

/// Drops states that the cheapest one can be turned into at their cost or less.
fn prune(states: HashMap<State, u64>) -> HashMap<State, u64> {
    let least = states.values().copied().min().unwrap_or(0);
    let best = states
        .iter()
        .filter(|(_, cost)| **cost == least)
        .map(|(state, _)| state.clone())
        .min();
    states
        .into_iter()
        .filter(|(state, cost)| {
            let models = state.iter().map(Vec::len).sum::<usize>() as u64;
            *cost < least + models || Some(state) == best.as_ref()
        })
        .collect()
}

/// The fewest loads of a scenario, or a bound below them.
pub fn of(scenario: &Scenario) -> Optimum {
    let problem = Problem::of(scenario);
    if let Some(loads) = problem.solve() {
        return Optimum { loads, exact: true };
    }
    let pooled = problem.pooled();
    let used: BTreeSet<usize> = problem
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Serve { model, .. } => Some(*model),
            Step::Restart { .. } => None,
        })
        .collect();
    Optimum {
        // Every model that is used is loaded once at least.
        loads: pooled.solve().unwrap_or(used.len() as u64),
        exact: false,
    }
}

#[cfg(test)]
#[path = "optimum_tests.rs"]
mod tests;
