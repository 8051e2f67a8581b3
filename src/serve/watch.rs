//! What goes wrong without an error: cut prompts, models that fell back to the CPU, nodes that owe an answer. Noticed here, told once, and kept
//! in mind for decisions; and the file of what was measured, written now and then.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::kept::Kept;
use super::measure::Place;
use super::{Router, Warning, gpus};
use crate::cluster::{
    ClusterSnapshot, Evidence, FallbackWatch, LoadedModel, Node, NodeKind, Processor,
};
use crate::config::LogLevel;
use crate::gpu::Inventory;
use crate::routing::progress::{Progress, Waiting};
use crate::routing::truncation::Cut;
use crate::vram::{DeviceRead, decode_speed, find_card};

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(2);
/// Least time between two writings of the file.
const KEEP_INTERVAL: Duration = Duration::from_secs(30);
/// How long `status` tells of a cut prompt.
const TOLD_FOR: Duration = Duration::from_secs(3600);
/// Models on nodes whose cuts are remembered.
const MOST_CUTS: usize = 256;
/// Layers of a usual model, for the time that each costs whatever its size.
const USUAL_LAYERS: u32 = 32;

/// What was noticed.
#[derive(Debug)]
pub(super) struct Watch {
    state: Mutex<State>,
    started: Instant,
    stopped: Mutex<bool>,
    bell: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct State {
    fallback: FallbackWatch,
    cuts: BTreeMap<Place, Cuts>,
    progress: Progress,
}

#[derive(Debug)]
struct Cuts {
    count: u64,
    last: Cut,
    at: Instant,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            started: Instant::now(),
            stopped: Mutex::new(false),
            bell: Condvar::new(),
            thread: Mutex::new(None),
        }
    }
}

/// A request that waits for its first byte. Dropping it without a word says nothing of the node.
#[derive(Debug)]
pub(super) struct Owing<'x> {
    router: &'x Router,
    node: String,
    id: Waiting,
    told: bool,
}

impl Owing<'_> {
    /// The first byte is there.
    pub(super) fn answered(mut self) {
        self.told = true;
        self.router
            .watch
            .lock()
            .progress
            .answered(&self.node, self.id);
    }

    /// The time limit is over.
    pub(super) fn given_up(mut self) {
        self.told = true;
        let watch = &self.router.watch;
        let now = watch.millis();
        watch.lock().progress.given_up(&self.node, self.id, now);
        self.router.measurements.suspect(&self.node);
    }
}

impl Drop for Owing<'_> {
    fn drop(&mut self) {
        if !self.told {
            self.router.watch.lock().progress.ended(&self.node, self.id);
        }
    }
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A node cut a prompt.
    pub(super) fn cut(&self, place: &Place, cut: Cut) {
        let cuts = &mut self.lock().cuts;
        if cuts.len() >= MOST_CUTS && !cuts.contains_key(place) {
            return;
        }
        let known = cuts.entry(place.clone()).or_insert(Cuts {
            count: 0,
            last: cut,
            at: Instant::now(),
        });
        known.count += 1;
        known.last = cut;
        known.at = Instant::now();
    }

    /// What `status` tells of it all.
    pub(super) fn warnings(&self, snapshot: &ClusterSnapshot) -> Vec<Warning> {
        let state = self.lock();
        let fallen = state
            .fallback
            .fallen()
            .map(|(node, model, fallback)| Warning {
                code: match fallback.processor {
                    Processor::Partly(_) => "partly_on_cpu",
                    _ => "on_cpu",
                },
                text: fallback.text(node, model),
                cure: fallback.cure(),
            });
        let lately = state
            .cuts
            .iter()
            .filter(|(_, cuts)| cuts.at.elapsed() < TOLD_FOR);
        let cut = lately.map(|((node, model), cuts)| {
            let Cut { estimated, read, window } = cuts.last;
            let window = window.map_or_else(String::new, |window| format!(" at a window of {window}"));
            let (times, last) = match cuts.count {
                1 => ("a prompt was cut".to_owned(), ""),
                count => (format!("{count} prompts were cut"), "the last time "),
            };
            let kind = snapshot.node(node).and_then(|node| node.kind);
            Warning {
                code: "prompt_truncated",
                text: format!("`{model}` on {node}: {times}: {last}{read} of about {estimated} tokens were read{window}"),
                cure: match kind {
                    Some(NodeKind::Ollama) => "give the model a larger context: `options.num_ctx` in the request, `PARAMETER num_ctx` in its Modelfile, or OLLAMA_CONTEXT_LENGTH for the server; `gpurouter fit MODEL --max-ctx` tells how large it can be",
                    Some(NodeKind::LlamaServer) => "start the llama-server with a larger context (`-c`; it is shared among its slots), or send shorter prompts",
                    _ => "start the server with a larger context, or send shorter prompts",
                }
                .to_owned(),
            }
        });
        fallen.chain(cut).collect()
    }

    /// The gauge of models that fell back, in Prometheus' text form.
    pub(super) fn metrics(&self, snapshot: &ClusterSnapshot, out: &mut String) {
        let state = self.lock();
        let ratio = |node: &Node, loaded: &LoadedModel| {
            let mut fallen = state.fallback.fallen();
            let found =
                fallen.find(|(name, model, _)| *name == node.name && **model == loaded.name);
            match found.map(|(_, _, fallback)| fallback.processor) {
                Some(Processor::Cpu) => 1.0,
                Some(Processor::Partly(percent)) => {
                    f64::from(100_u8.saturating_sub(percent)) / 100.0
                }
                Some(Processor::Gpu) | None => 0.0,
            }
        };
        let mut lines = String::new();
        for node in &snapshot.nodes {
            for loaded in &node.loaded {
                let labels = super::metrics::labels(&[
                    ("node", &node.name),
                    ("model", loaded.name.as_str()),
                ]);
                // Writing to a String cannot fail.
                let _ = writeln!(
                    lines,
                    "gpurouter_cpu_fallback_ratio{{{labels}}} {}",
                    ratio(node, loaded)
                );
            }
        }
        out.push_str("# HELP gpurouter_cpu_fallback_ratio Share of a loaded model that runs on the CPU although its node has a GPU.\n# TYPE gpurouter_cpu_fallback_ratio gauge\n");
        out.push_str(&lines);
    }

    /// Ends the thread; what was measured is written before.
    pub(super) fn stop(&self) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.bell.notify_all();
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // A panic of the thread was told when it happened.
            drop(thread.join());
        }
    }

    /// Waits for the next look; false when there is none.
    fn rest(&self) -> bool {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .bell
            .wait_timeout_while(stopped, INTERVAL, |stopped| !*stopped);
        !*waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Takes over what was kept, and starts the thread `watch`.
///
/// # Errors
/// The thread cannot be started.
pub(super) fn start(router: &Arc<Router>) -> io::Result<()> {
    let path = router.config.state.as_deref().map(Kept::path);
    if let Some(path) = &path {
        router.restore(path);
    }
    let shared = Arc::downgrade(router);
    let thread = thread::Builder::new()
        .name("watch".to_owned())
        .stack_size(256 * 1024)
        .spawn(move || follow(&shared, path.as_deref()))?;
    let kept = &router.watch.thread;
    *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
    Ok(())
}

/// The life of the thread.
fn follow(router: &Weak<Router>, path: Option<&Path>) {
    let mut written = Instant::now();
    let mut failed = false;
    while let Some(router) = router.upgrade() {
        let goes_on = router.watch.rest();
        router.look_around();
        router.measure_memory();
        if goes_on && written.elapsed() < KEEP_INTERVAL {
            continue;
        }
        if let Some(path) = path
            && let Some(kept) = router.measurements.changed(&router.snapshot())
        {
            written = Instant::now();
            if let Err(error) = kept.store(path) {
                router.measurements.not_kept();
                if !std::mem::replace(&mut failed, true) {
                    let text = format!(
                        "what was measured cannot be kept in {}: {error}",
                        path.display()
                    );
                    router.log.event(LogLevel::Warning, &text);
                }
            } else {
                failed = false;
            }
        }
        if !goes_on {
            return;
        }
    }
}

impl Router {
    /// A request was sent and owes its first byte.
    pub(super) fn owes(&self, node: &str, predicted_ms: Option<u64>) -> Owing<'_> {
        let now = self.watch.millis();
        Owing {
            router: self,
            node: node.to_owned(),
            id: self.watch.lock().progress.sent(node, now, predicted_ms),
            told: false,
        }
    }

    fn restore(&self, path: &Path) {
        let kept = match Kept::load(path) {
            Ok(kept) => kept,
            Err(error) => {
                let what = match Kept::set_aside(path) {
                    Ok(aside) => format!("it is now {}", aside.display()),
                    Err(error) => format!("it could not be moved out of the way either: {error}"),
                };
                let text = format!(
                    "what was measured before cannot be read from {}: {error}; {what}. Measuring starts anew",
                    path.display()
                );
                return self.log.event(LogLevel::Warning, &text);
            }
        };
        let had_gpu = self.measurements.restore(kept, &self.snapshot());
        let mut state = self.watch.lock();
        for node in had_gpu {
            state.fallback.had_gpu(&node);
        }
    }

    /// One look at everything that goes wrong without an error.
    fn look_around(&self) {
        let snapshot = self.snapshot();
        let inventory = self.gpus.current();
        let speeds = self.measurements.now();
        let mut new = Vec::new();
        let (fallen, suspect) = {
            let mut state = self.watch.lock();
            for node in &snapshot.nodes {
                let found = state.fallback.look(node, |loaded| {
                    self.evidence(
                        node,
                        loaded,
                        &inventory,
                        speeds.get(&node.name, &loaded.name).recent_tps,
                    )
                });
                let told = found.into_iter().map(|(model, fallback)| {
                    format!("{}; {}", fallback.text(&node.name, &model), fallback.cure())
                });
                new.extend(told);
            }
            let fallen: Vec<(Place, Processor)> = state
                .fallback
                .fallen()
                .map(|(node, model, fallback)| {
                    ((node.to_owned(), model.clone()), fallback.processor)
                })
                .collect();
            let suspect = state.progress.suspects(self.watch.millis());
            (fallen, suspect.map(str::to_owned).collect())
        };
        self.measurements.trouble(&fallen, suspect);
        for text in new {
            self.log.event(LogLevel::Warning, &text);
        }
    }

    fn evidence<'i>(
        &self,
        node: &Node,
        loaded: &LoadedModel,
        inventory: &'i Inventory,
        recent_tps: Option<f64>,
    ) -> Evidence<'i> {
        let gpu = gpus::behind(node, inventory);
        let configured = node.vram_bytes.is_some_and(|bytes| bytes > 0)
            || (node.gpu.is_some() && node.vram_bytes != Some(0));
        let usable_bytes = gpu.and_then(|gpu| gpu.total_bytes).or(node.vram_bytes);
        let name = gpu.map(|gpu| gpu.name.as_str()).or(node.gpu.as_deref());
        let card = name.and_then(|name| find_card(name, usable_bytes, &self.config.gpu.cards));
        #[expect(clippy::cast_precision_loss, reason = "a speed needs three digits")]
        let law = card.zip(loaded.size_bytes).and_then(|(card, bytes)| {
            decode_speed(&[DeviceRead {
                bytes: bytes as f64,
                bandwidth: Some(card.card.bandwidth as f64),
                layers: USUAL_LAYERS,
            }])
        });
        Evidence {
            has_gpu: configured || gpu.is_some(),
            gpu,
            usable_bytes,
            recent_tps,
            expected_tps: law.map(|speed| speed.low),
        }
    }
}
