//! What is learned from the answers that pass through: speeds, characters per token, and what nodes were seen to hold.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::kept::{Kept, KeptNode};
use crate::cluster::{ClusterSnapshot, ModelName, Node, Processor};
use crate::routing::speed::Load;
use crate::routing::truncation::Beginnings;
use crate::routing::{Learner, Observation, Speeds};

/// Milliseconds from which a node has really loaded the model: a resident one "loads" in a few.
pub(super) const LOADED_MS: f64 = 100.0;

/// A model on a node.
pub(super) type Place = (String, ModelName);

/// What was measured so far. The speeds are replaced whole, so that a decision reads one consistent state.
#[derive(Debug, Default)]
pub(super) struct Measurements {
    learned: Mutex<Learned>,
    speeds: Mutex<Arc<Speeds>>,
}

#[derive(Debug, Default)]
struct Learned {
    learner: Learner,
    beginnings: Beginnings<Place>,
    /// What was kept of nodes when this run began, and what they were seen to hold since.
    kept: Kept,
    changed: bool,
}

/// What a prompt's beginning tells of the node's cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    /// The node was sent a prompt that begins like this one and has not loaded the model since.
    pub(super) repeated: bool,
    /// The node counts tokens from its cache.
    pub(super) counts_cached: bool,
}

impl Measurements {
    /// The speeds as they are now.
    pub(super) fn now(&self) -> Arc<Speeds> {
        Arc::clone(&lock(&self.speeds))
    }

    /// Notes the beginning of a prompt that a node answered; `loaded`: it loaded the model for it.
    pub(super) fn note(&self, place: &Place, beginning: u64, loaded: bool) -> Known {
        let beginnings = &mut lock(&self.learned).beginnings;
        if loaded {
            beginnings.forget(place);
        }
        Known {
            repeated: beginnings.note(place, beginning),
            counts_cached: beginnings.counts_cached(place),
        }
    }

    /// The node counted a prompt whole that was in its cache for the most part.
    pub(super) fn counted_cached(&self, place: &Place) {
        lock(&self.learned).beginnings.counted_cached(place);
    }

    /// Learns from a complete answer.
    pub(super) fn learn(&self, place: &Place, seen: &Observation) {
        let (node, model) = place;
        let speed = {
            let mut learned = lock(&self.learned);
            learned.learner.observe(node, model, seen);
            learned.changed = true;
            learned.learner.speed(node, model, 0)
        };
        let mut guard = lock(&self.speeds);
        let speeds = Arc::make_mut(&mut guard);
        if !speeds.by_node_and_model.contains_key(node) {
            speeds
                .by_node_and_model
                .insert(node.clone(), HashMap::new());
        }
        if let Some(models) = speeds.by_node_and_model.get_mut(node) {
            let fallen = models.get(model).and_then(|before| before.fallen);
            let speed = crate::routing::Speed { fallen, ..speed };
            models.insert(model.clone(), speed);
        }
    }

    /// The router itself had a model loaded there; its cache is empty.
    pub(super) fn loaded(&self, place: &Place, took: Duration) {
        lock(&self.learned).beginnings.forget(place);
        let known = self.now().get(&place.0, &place.1);
        let kind = if known.samples == 0 && known.load_ms.is_none() {
            Load::Cold
        } else {
            Load::Warm
        };
        let load = Some((kind, took.as_secs_f64() * 1000.0));
        let seen = Observation {
            load,
            ..Observation::default()
        };
        self.learn(place, &seen);
    }

    /// Takes over which models fell back to the CPU, and which nodes are suspect.
    pub(super) fn trouble(&self, fallen: &[(Place, Processor)], suspect: HashSet<String>) {
        let mut guard = lock(&self.speeds);
        let now = |speeds: &Speeds| {
            let mut now: Vec<(Place, Processor)> = Vec::new();
            for (node, models) in &speeds.by_node_and_model {
                let fell = models
                    .iter()
                    .filter_map(|(model, speed)| Some((model, speed.fallen?)));
                now.extend(
                    fell.map(|(model, processor)| ((node.clone(), model.clone()), processor)),
                );
            }
            now.sort();
            now
        };
        let mut wanted = fallen.to_vec();
        wanted.sort();
        if guard.suspect == suspect && now(&guard) == wanted {
            return;
        }
        let speeds = Arc::make_mut(&mut guard);
        speeds.suspect = suspect;
        for speed in speeds
            .by_node_and_model
            .values_mut()
            .flat_map(HashMap::values_mut)
        {
            speed.fallen = None;
        }
        for ((node, model), processor) in wanted {
            let models = speeds.by_node_and_model.entry(node).or_default();
            models.entry(model).or_default().fallen = Some(processor);
        }
    }

    /// Makes a node suspect at once.
    pub(super) fn suspect(&self, node: &str) {
        let mut guard = lock(&self.speeds);
        if !guard.suspect.contains(node) {
            Arc::make_mut(&mut guard).suspect.insert(node.to_owned());
        }
    }

    /// Notes what a node's models hold of its GPU.
    pub(super) fn saw(&self, node: &Node) {
        let on_gpu = node
            .loaded
            .iter()
            .filter(|loaded| loaded.processor().is_some_and(|on| on != Processor::Cpu));
        let held = on_gpu
            .filter_map(|loaded| loaded.vram_bytes)
            .fold(0, u64::saturating_add);
        if held == 0 {
            return;
        }
        let mut learned = lock(&self.learned);
        let Learned { kept, changed, .. } = &mut *learned;
        let known = kept.nodes.entry(node.name.clone()).or_default();
        if known.url != node.url {
            *known = KeptNode {
                url: node.url.clone(),
                ..KeptNode::default()
            };
        }
        if held > known.vram_seen_bytes {
            known.vram_seen_bytes = held;
            *changed = true;
        }
    }

    /// The most GPU memory in bytes that each of these nodes was ever seen to hold, by node.
    pub(super) fn held(&self, snapshot: &ClusterSnapshot) -> BTreeMap<String, u64> {
        lock(&self.learned).kept.held(snapshot)
    }

    /// Takes over what was kept of these nodes; returns those that were seen to hold something on a GPU.
    pub(super) fn restore(&self, kept: Kept, snapshot: &ClusterSnapshot) -> Vec<String> {
        let mut had_gpu = Vec::new();
        let speeds = {
            let mut learned = lock(&self.learned);
            for node in &snapshot.nodes {
                let Some(known) = kept
                    .nodes
                    .get(&node.name)
                    .filter(|known| known.url == node.url)
                else {
                    continue;
                };
                if known.vram_seen_bytes > 0 {
                    had_gpu.push(node.name.clone());
                }
                for (model, measured) in &known.models {
                    let model = ModelName::new(model);
                    learned.learner.restore(&node.name, &model, measured);
                }
            }
            // What was seen since the start is newer.
            let seen = std::mem::replace(&mut learned.kept, kept);
            for (name, node) in seen.nodes {
                let known = learned.kept.nodes.entry(name).or_default();
                if known.url == node.url {
                    known.vram_seen_bytes = known.vram_seen_bytes.max(node.vram_seen_bytes);
                } else {
                    *known = node;
                }
            }
            learned.learner.speeds()
        };
        *lock(&self.speeds) = Arc::new(speeds);
        had_gpu
    }

    /// What is to be kept, if it changed since the last time.
    pub(super) fn changed(&self, snapshot: &ClusterSnapshot) -> Option<Kept> {
        let mut learned = lock(&self.learned);
        if !std::mem::take(&mut learned.changed) {
            return None;
        }
        let Learned { learner, kept, .. } = &mut *learned;
        for node in &snapshot.nodes {
            let models: BTreeMap<_, _> = learner.kept(&node.name);
            let known = kept.nodes.entry(node.name.clone()).or_default();
            if known.url != node.url {
                *known = KeptNode {
                    url: node.url.clone(),
                    ..KeptNode::default()
                };
            }
            known.models.extend(models);
        }
        *kept = std::mem::take(kept).bounded();
        Some(kept.clone())
    }

    /// What was to be kept could not be; it is tried again.
    pub(super) fn not_kept(&self) {
        lock(&self.learned).changed = true;
    }
}

/// A lock whose data is plain arithmetic, so that a panic elsewhere cannot have left it half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::LoadedModel;

    fn place(model: &str) -> Place {
        ("a".to_owned(), ModelName::new(model))
    }

    fn snapshot(url: &str) -> ClusterSnapshot {
        ClusterSnapshot {
            nodes: vec![Arc::new(Node::unseen("a", url))],
        }
    }

    const ANSWER: Observation = Observation {
        context: 4096,
        prompt_tokens: 1100,
        cached_tokens: 100,
        characters: Some(4400),
        prompt_ms: Some(500.0),
        answer_tokens: 50,
        decode_ms: Some(1000.0),
        load: None,
        crowded: false,
        began_crowded: false,
    };

    #[test]
    fn speeds_come_from_the_answers_own_counters_and_nothing_else() {
        let measurements = Measurements::default();
        measurements.learn(&place("m"), &ANSWER);
        let speed = measurements.now().get("a", &ModelName::new("m"));
        assert_eq!(speed.prefill_tps, Some(2000.0));
        assert_eq!(speed.decode_tps, Some(50.0));
        assert_eq!((speed.load_ms, speed.samples), (None, 1));
        assert_eq!(speed.characters_per_token, Some(4.0));
        let unknown = measurements.now().get("b", &ModelName::new("m"));
        assert_eq!(unknown.decode_tps, None);
    }

    #[test]
    fn what_is_kept_is_taken_over_by_the_next_run_if_the_node_is_still_there() {
        let first = Measurements::default();
        assert_eq!(first.changed(&snapshot("http://a")), None);
        first.learn(&place("m"), &ANSWER);
        let mut node = Node::unseen("a", "http://a");
        node.loaded = vec![LoadedModel {
            size_bytes: Some(700),
            vram_bytes: Some(700),
            ..LoadedModel::default()
        }];
        first.saw(&node);
        node.loaded.clear();
        first.saw(&node);
        let kept = first.changed(&snapshot("http://a")).unwrap();
        assert_eq!(first.changed(&snapshot("http://a")), None, "only once");
        assert_eq!(kept.nodes["a"].vram_seen_bytes, 700);
        let text = serde_json::to_string(&kept).unwrap();
        let kept: Kept = serde_json::from_str(&text).unwrap();
        let second = Measurements::default();
        node.loaded = vec![LoadedModel {
            size_bytes: Some(900),
            vram_bytes: Some(900),
            ..LoadedModel::default()
        }];
        second.saw(&node);
        let had_gpu = second.restore(kept.clone(), &snapshot("http://a"));
        assert_eq!(had_gpu, ["a"]);
        let speed = second.now().get("a", &ModelName::new("m"));
        assert_eq!(speed.decode_tps, Some(50.0));
        let held = second.changed(&snapshot("http://a")).unwrap();
        assert_eq!(
            held.nodes["a"].vram_seen_bytes, 900,
            "seen before the rest was read"
        );
        let moved = Measurements::default();
        assert!(moved.restore(kept, &snapshot("http://b")).is_empty());
        let speed = moved.now().get("a", &ModelName::new("m"));
        assert_eq!(speed.decode_tps, None, "another machine");
    }

    #[test]
    fn a_load_is_measured_and_empties_the_cache() {
        let measurements = Measurements::default();
        let place = place("m");
        measurements.note(&place, 7, false);
        assert!(measurements.note(&place, 7, false).repeated);
        measurements.loaded(&place, Duration::from_secs(9));
        measurements.loaded(&place, Duration::from_secs(3));
        let speed = measurements.now().get("a", &place.1);
        assert_eq!(speed.load_cold.map(|range| range.centre), Some(9000.0));
        assert_eq!(speed.load_warm.map(|range| range.centre), Some(3000.0));
        assert!(!measurements.note(&place, 7, false).repeated);
    }

    #[test]
    fn trouble_comes_and_goes_without_touching_the_speeds() {
        let measurements = Measurements::default();
        measurements.learn(&place("m"), &ANSWER);
        let fallen = [(place("m"), Processor::Cpu)];
        measurements.trouble(&fallen, HashSet::from(["b".to_owned()]));
        let speeds = measurements.now();
        let speed = speeds.get("a", &ModelName::new("m"));
        assert_eq!(
            (speed.fallen, speed.decode_tps),
            (Some(Processor::Cpu), Some(50.0))
        );
        assert!(speeds.suspect.contains("b"));
        measurements.learn(&place("m"), &ANSWER);
        assert!(
            measurements
                .now()
                .get("a", &ModelName::new("m"))
                .fallen
                .is_some()
        );
        measurements.trouble(&[], HashSet::new());
        let speeds = measurements.now();
        assert_eq!(speeds.get("a", &ModelName::new("m")).fallen, None);
        assert!(speeds.suspect.is_empty());
    }
}
