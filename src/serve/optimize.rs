//! Keeps the priority models on GPUs while the router runs, and answers what it would do.

mod permission;

use std::collections::HashMap;
use std::fmt::Write;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::gate::Pins;
use super::{Router, local, lock};
use crate::backend::{LONGEST_LOAD, Prober};
use crate::cluster::{Action, Change, ClusterSnapshot, Goal, Impossible, ModelName, Site, Usage};
use crate::config::{Config, LogLevel};
use crate::keeper::{self, Document, Done, Event, Keeper, Limits, Needs, Planned, View, Wish};
use crate::vram::Learned;
use permission::Permission;

/// How long after a cycle the nodes' new state is waited for, so that the next one does not plan for the old.
const SEEN_WITHIN: Duration = Duration::from_secs(3);
/// Time between two looks at what somebody else does.
const LOOK: Duration = Duration::from_millis(50);
/// Records of the ring that tell of a model's use.
const LATELY: usize = 512;

/// The models that requests leave in memory: the priority models, and those that somebody asked to be loaded for good.
pub(super) fn pins(config: &Config, wish: Option<&Wish>) -> Pins {
    let asked = wish
        .iter()
        .flat_map(|wish| &wish.models)
        .map(|(name, _)| name);
    let models = config.residency.models.iter().take(keeper::MOST_WANTED);
    models
        .chain(asked)
        .map(|name| ModelName::new(name))
        .collect()
}

/// What the cycles share.
#[derive(Debug)]
pub(super) struct Optimizer {
    keeper: Keeper,
    state: Mutex<State>,
    bell: Condvar,
    stop: AtomicBool,
    counts: Counts,
}

#[derive(Debug, Default)]
struct State {
    /// A plan is being carried out.
    running: bool,
    /// A cycle is wanted now.
    due: bool,
    /// What was warned of last, so that it is not told in every cycle.
    warned: Vec<String>,
}

#[derive(Debug, Default)]
struct Counts {
    cycles: AtomicU64,
    loads: AtomicU64,
    unloads: AtomicU64,
    pins: AtomicU64,
    moves: AtomicU64,
    failures: AtomicU64,
}

impl Optimizer {
    pub(super) fn new(prober: Arc<Prober>) -> Self {
        Self {
            keeper: Keeper::new(prober),
            state: Mutex::default(),
            bell: Condvar::new(),
            stop: AtomicBool::new(false),
            counts: Counts::default(),
        }
    }

    /// What models need, as far as it was asked.
    pub(super) fn needs(&self) -> &Needs {
        self.keeper.needs()
    }

    /// Wants a cycle now: a node has come back, perhaps with nothing in memory.
    pub(super) fn wake(&self, node: &str) {
        self.keeper.forget(node);
        self.state().due = true;
        self.bell.notify_all();
    }

    /// Ends the cycles; a load that is under way is not waited for.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(self.state());
        self.bell.notify_all();
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Waits until `interval` has passed or a cycle is wanted; false when it is over.
    fn rest(&self, interval: Duration) -> bool {
        let until = Instant::now() + interval;
        let mut state = self.state();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if self.stopped() {
                return false;
            }
            if std::mem::take(&mut state.due) || left.is_zero() {
                return true;
            }
            state = self
                .bell
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Waits until no other plan is being carried out; `None` when it is over.
    fn enter(&self) -> Option<Turn<'_>> {
        let mut state = self.state();
        while state.running {
            if self.stopped() {
                return None;
            }
            state = self
                .bell
                .wait_timeout(state, LOOK)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        state.running = true;
        Some(Turn(self))
    }

    /// The counters in Prometheus' text form.
    pub(super) fn metrics(&self) -> String {
        let counts = &self.counts;
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "# HELP gpurouter_optimize_cycles_total Optimisation cycles.\n\
             # TYPE gpurouter_optimize_cycles_total counter\n\
             gpurouter_optimize_cycles_total {}\n\
             # HELP gpurouter_optimize_changes_total What optimisation changed, by action; a move is a load whose old copy went.\n\
             # TYPE gpurouter_optimize_changes_total counter\n",
            of(&counts.cycles)
        );
        for (action, count) in [
            ("load", &counts.loads),
            ("unload", &counts.unloads),
            ("pin", &counts.pins),
            ("move", &counts.moves),
        ] {
            let _ = writeln!(
                out,
                "gpurouter_optimize_changes_total{{action=\"{action}\"}} {}",
                of(count)
            );
        }
        let _ = write!(
            out,
            "# HELP gpurouter_optimize_failures_total Changes that failed.\n\
             # TYPE gpurouter_optimize_failures_total counter\n\
             gpurouter_optimize_failures_total {}\n",
            of(&counts.failures)
        );
        out
    }

    fn count(&self, change: &Change, done: &Done) {
        let counts = &self.counts;
        let one = |count: &AtomicU64| count.fetch_add(1, Ordering::Relaxed);
        if !done.ok() {
            if !done.put_off {
                one(&counts.failures);
            }
            return;
        }
        match change.action {
            Action::Load => one(&counts.loads),
            Action::Unload => one(&counts.unloads),
            Action::Pin => one(&counts.pins),
        };
        if change.after.is_some() {
            one(&counts.moves);
        }
    }
}

/// The right to carry a plan out, given back on drop.
struct Turn<'a>(&'a Optimizer);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.state().running = false;
        self.0.bell.notify_all();
    }
}

/// Starts the thread `optimize`, if the configuration wants it.
///
/// # Errors
/// The thread cannot be started.
pub(super) fn start(router: &Arc<Router>) -> io::Result<()> {
    let residency = &router.config.residency;
    if !residency.auto || residency.models.is_empty() {
        return Ok(());
    }
    let router = Arc::clone(router);
    thread::Builder::new()
        .name("optimize".to_owned())
        .spawn(move || {
            let wish = Wish::priority(&router.config);
            loop {
                router.cycle(&wish);
                if !router
                    .optimizer
                    .rest(router.config.residency.check_interval)
                {
                    return;
                }
            }
        })
        .map(drop)
}

impl Router {
    /// What would be done for that wish now.
    pub(super) fn optimize_plan(&self, wish: &Wish) -> Document {
        Document::planned("router", self.planned(wish, &self.snapshot()))
    }

    /// Does it, and tells what came of it; `None` when the router is stopping.
    pub(super) fn optimize_apply(&self, wish: &Wish) -> Option<Document> {
        let _turn = self.optimizer.enter()?;
        self.gates.pin(pins(&self.config, Some(wish)));
        self.optimizer.keeper.begin(&self.snapshot());
        Some(self.carry_out(wish))
    }

    /// One cycle.
    fn cycle(&self, wish: &Wish) {
        let Some(_turn) = self.optimizer.enter() else {
            return;
        };
        let snapshot = self.snapshot();
        let number = self.optimizer.keeper.begin(&snapshot);
        self.optimizer.counts.cycles.fetch_add(1, Ordering::Relaxed);
        // Where nobody has a wanted model there is nothing that anybody wants to read of.
        let concerned = wish.models.iter().any(|(name, _)| {
            let name = ModelName::new(name);
            snapshot
                .usable()
                .any(|node| node.model(&name).is_some() || node.loaded(&name).is_some())
        });
        let level = if concerned {
            LogLevel::Info
        } else {
            LogLevel::Debug
        };
        self.log
            .event(level, &format!("Running optimization cycle #{number}"));
        if concerned {
            let document = self.carry_out(wish);
            self.warn(&document.impossible);
        }
    }

    /// Plans and does it. The caller holds the turn.
    fn carry_out(&self, wish: &Wish) -> Document {
        let snapshot = self.snapshot();
        let planned = self.planned(wish, &snapshot);
        if planned.plan.settled() {
            return Document::settled("router", planned);
        }
        let tell = |event: Event<'_>| self.tell_step(event);
        let permits = Permission::of(self, &snapshot, &planned);
        let limits = Limits {
            load: self.config.timeouts.load.unwrap_or(LONGEST_LOAD),
            stop: &self.optimizer.stop,
            permits: &permits,
        };
        let done = self
            .optimizer
            .keeper
            .apply(&planned.plan, &snapshot, limits, &tell);
        drop(permits);
        for (change, done) in planned.plan.changes.iter().zip(&done) {
            self.optimizer.count(change, done);
        }
        let now = keeper::after(&snapshot, &planned.plan.changes, &done);
        let document = Document::applied("router", planned, &done, self.planned(wish, &now));
        self.look_again(&document.changes, &snapshot);
        document
    }

    fn planned(&self, wish: &Wish, snapshot: &ClusterSnapshot) -> Planned {
        let inventory = self.gpus.fresh(local::FRESH_LIMIT);
        let uses = self.uses(snapshot);
        let usage = |node: &str, model: &ModelName| {
            let key = (node.to_owned(), model.clone());
            uses.get(&key).copied().unwrap_or(Usage {
                active: self.at_work(snapshot, node, model),
                load_ms: self.measurements.now().get(node, model).load_ms,
                ..Usage::default()
            })
        };
        let view = View {
            snapshot,
            local: inventory.known().then_some(inventory.gpus.as_slice()),
            learned: &Learned::default(),
            ram_free: None,
            reported: &self.prober.reported(snapshot),
            seen: &self.measurements.held(snapshot),
            promised: &|sites: Vec<Site>| {
                sites
                    .into_iter()
                    .map(|site| Site {
                        rooms: self.reservations.rooms(&site.rooms),
                        ..site
                    })
                    .collect()
            },
            usage: &usage,
        };
        self.optimizer.keeper.plan(&self.config, wish, view)
    }

    /// Whether a model has requests, ours or, where the node tells that it has more than those, anybody's: which models these use is not known,
    /// so all of them are at work.
    fn at_work(&self, snapshot: &ClusterSnapshot, node: &str, model: &ModelName) -> bool {
        let Some(node) = snapshot.node(node) else {
            return false;
        };
        let ours = self.active(node);
        // A load that requests wait for is work too.
        node.running > Some(ours) || self.gates.gate(node).at_work(model)
    }

    /// The use of every model that had requests lately.
    fn uses(&self, snapshot: &ClusterSnapshot) -> HashMap<(String, ModelName), Usage> {
        let now = SystemTime::now();
        let speeds = self.measurements.now();
        let mut uses: HashMap<(String, ModelName), Usage> = HashMap::new();
        for record in self.ring.newest(LATELY) {
            let (Some(node), Some(model)) = (&record.node, &record.model) else {
                continue;
            };
            let model = ModelName::new(model);
            let idle = humantime::parse_rfc3339(&record.ts)
                .ok()
                .and_then(|then| now.duration_since(then).ok())
                .map_or(0, |idle| {
                    u64::try_from(idle.as_millis()).unwrap_or(u64::MAX)
                });
            let entry = uses
                .entry((node.clone(), model.clone()))
                .or_insert_with(|| Usage {
                    active: self.at_work(snapshot, node, &model),
                    load_ms: speeds.get(node, &model).load_ms,
                    ..Usage::default()
                });
            entry.demand += 1;
            entry.idle_ms = Some(entry.idle_ms.map_or(idle, |known| known.min(idle)));
        }
        uses
    }

    fn tell_step(&self, event: Event<'_>) {
        match event {
            Event::Begun(change) => self.log.event(
                LogLevel::Debug,
                &format!(
                    "{} of `{}` at `{}`: {}",
                    change.action.as_str(),
                    change.model,
                    change.node,
                    change.reason
                ),
            ),
            Event::Ended(change, done) => {
                let (level, text) = keeper::told(change, done);
                self.log.event(level, &text);
            }
        }
    }

    /// Warns of wanted models that cannot be placed though a node that has them has a GPU, once as long as it is the same.
    fn warn(&self, impossible: &[Impossible]) {
        let warnings: Vec<String> = impossible
            .iter()
            .filter(|one| !one.absent && one.largest_usable_bytes > Some(0))
            .map(|one| format!("`{}` is not on a GPU: {}", one.model, one.reason))
            .collect();
        let before = std::mem::replace(&mut self.optimizer.state().warned, warnings.clone());
        for warning in &warnings {
            let level = if before.contains(warning) {
                LogLevel::Debug
            } else {
                LogLevel::Warning
            };
            self.log.event(level, warning);
        }
    }

    /// Has the nodes looked at that were changed, and waits a moment for it.
    fn look_again(&self, changes: &[Change], before: &ClusterSnapshot) {
        let mut names: Vec<&str> = changes.iter().map(|change| change.node.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        for name in &names {
            self.poke(name);
        }
        self.seen_anew(&names, before);
    }

    /// Waits a moment until these nodes have been looked at since that snapshot.
    pub(super) fn seen_anew(&self, names: &[&str], before: &ClusterSnapshot) {
        let until = Instant::now() + SEEN_WITHIN;
        let stale = || {
            let now = self.snapshot();
            names
                .iter()
                .any(|name| match (before.node(name), now.node(name)) {
                    (Some(before), Some(now)) => Arc::ptr_eq(before, now),
                    _ => false,
                })
        };
        while stale() && Instant::now() < until && !self.optimizer.stopped() {
            thread::sleep(LOOK);
        }
    }
}

/// What `/gpurouter/api/optimize` is asked for: `models=A,B`, `goal=memory`; without models those of the configuration.
pub(super) fn wish_of(query: Option<&str>, router: &Router) -> Wish {
    let pairs = query.unwrap_or_default().split('&');
    let mut models: Option<Vec<String>> = None;
    let mut goal = Goal::Gpu;
    for pair in pairs {
        match pair.split_once('=') {
            Some(("models", list)) => {
                let names = list.split(',').map(decoded);
                models = Some(names.filter(|name| !name.is_empty()).collect());
            }
            Some(("goal", "memory")) => goal = Goal::Memory,
            _ => {}
        }
    }
    match models {
        Some(models) => Wish::of(models.iter(), goal),
        None if goal == Goal::Memory => Wish::warm(&router.config),
        None => Wish::priority(&router.config),
    }
}

/// A query value without its percent signs.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = tail
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let (b'%', Some(code)) = (first, code) {
            bytes.push(code);
            rest = tail.get(2..).unwrap_or_default();
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
