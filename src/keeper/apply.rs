//! Carries a plan out: one thread per node, each step after those that it needs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{Keeper, lock};
use crate::backend::Failure;
use crate::cluster::{Action, Change, ClusterSnapshot, LoadedModel, ModelName, ResidencyPlan};

/// How often a step that waits for another looks whether all of it was stopped.
const LOOK: Duration = Duration::from_millis(100);

/// What happens while a plan is carried out.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A step begins.
    Begun(&'a Change),
    /// A step is over.
    Ended(&'a Change, &'a Done),
}

/// Who else changes what nodes hold, and has to be asked before each step and told after it. Called from a thread for each node.
pub trait Permits: Sync {
    /// May this step be done now? For a load and a pin: with this context. It may take until what is under way at the node is done.
    ///
    /// # Errors
    /// Why not, as a sentence; a later plan will know better.
    fn begin(&self, change: &Change) -> Result<Option<u64>, String>;

    /// A step that was permitted is over.
    fn end(&self, change: &Change, done: &Done);

    /// Nothing is done at that node for now.
    fn rest(&self, node: &str);
}

/// For whoever acts alone.
#[derive(Debug, Clone, Copy)]
pub struct Alone;

impl Permits for Alone {
    fn begin(&self, change: &Change) -> Result<Option<u64>, String> {
        Ok(change.context)
    }

    fn end(&self, _: &Change, _: &Done) {}

    fn rest(&self, _: &str) {}
}

/// Told what happens, from several threads.
pub type Tell<'a> = &'a (dyn Fn(Event<'_>) + Sync);

/// How long things may take, and when all of it ends.
#[derive(Clone, Copy)]
pub struct Limits<'a> {
    /// For one load.
    pub load: Duration,
    /// No step begins once it is set.
    pub stop: &'a AtomicBool,
    /// Who has to be asked.
    pub permits: &'a dyn Permits,
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// What the node holds of the model after a load or a pin.
    pub landed: Option<LoadedModel>,
    /// Why it failed; `None`: it did not.
    pub error: Option<String>,
    /// Milliseconds that it took.
    pub took_ms: u64,
    /// Whether it was not even tried, because something is at work there: a later plan will know better.
    pub put_off: bool,
}

impl Done {
    /// Whether it was done.
    pub fn ok(&self) -> bool {
        self.error.is_none()
    }
}

/// Steps that are over, for those that wait.
#[derive(Default)]
struct Board {
    over: Mutex<BTreeMap<(String, ModelName), bool>>,
    bell: Condvar,
}

impl Board {
    fn post(&self, change: &Change, ok: bool) {
        lock(&self.over).insert((change.node.clone(), change.model.clone()), ok);
        self.bell.notify_all();
    }

    /// Whether the load of the model at that node was done; false also when all of it was stopped.
    fn wait(&self, node: &str, model: &ModelName, stop: &AtomicBool) -> bool {
        let key = (node.to_owned(), model.clone());
        let mut over = lock(&self.over);
        loop {
            if let Some(ok) = over.get(&key) {
                return *ok;
            }
            if stop.load(Ordering::SeqCst) {
                return false;
            }
            over = self
                .bell
                .wait_timeout(over, LOOK)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// The nodes after the steps of a plan that were done, before anybody looked again.
pub fn after(snapshot: &ClusterSnapshot, changes: &[Change], done: &[Done]) -> ClusterSnapshot {
    let mut nodes = snapshot.nodes.clone();
    for (change, done) in changes.iter().zip(done) {
        let node = nodes.iter_mut().find(|node| node.name == change.node);
        let (Some(node), true) = (node, done.landed.is_some() || done.ok()) else {
            continue;
        };
        let node = Arc::make_mut(node);
        let held = node.loaded(&change.model).map(|loaded| loaded.name.clone());
        node.loaded
            .retain(|loaded| Some(&loaded.name) != held.as_ref());
        node.loaded.extend(done.landed.clone());
    }
    ClusterSnapshot { nodes }
}

impl Keeper {
    /// Does every step of the plan, nodes at the same time, and returns what came of each in the plan's order. The first step that fails at a node
    /// ends what was planned there: the rest may have counted on its memory.
    pub fn apply(
        &self,
        plan: &ResidencyPlan,
        snapshot: &ClusterSnapshot,
        limits: Limits<'_>,
        tell: Tell<'_>,
    ) -> Vec<Done> {
        let mut nodes: BTreeMap<&str, Vec<(usize, &Change)>> = BTreeMap::new();
        for (at, change) in plan.changes.iter().enumerate() {
            nodes.entry(&change.node).or_default().push((at, change));
        }
        let board = Board::default();
        let done: Mutex<BTreeMap<usize, Done>> = Mutex::default();
        thread::scope(|scope| {
            for (node, steps) in &nodes {
                let (board, done) = (&board, &done);
                let work = move || {
                    let mut broken = false;
                    for (at, change) in steps {
                        let result = if broken {
                            skipped("a step before it failed")
                        } else {
                            self.step(change, snapshot, limits, board, tell)
                        };
                        broken |= !result.ok();
                        board.post(change, result.ok());
                        lock(done).insert(*at, result);
                    }
                    limits.permits.rest(node);
                };
                let named = thread::Builder::new().name(format!("node-{node}"));
                if named.spawn_scoped(scope, work).is_err() {
                    for (at, change) in steps {
                        board.post(change, false);
                        lock(done).insert(*at, skipped("no thread could be started"));
                    }
                }
            }
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        (0..plan.changes.len())
            .map(|at| {
                done.remove(&at)
                    .unwrap_or_else(|| skipped("it was not begun"))
            })
            .collect()
    }

    fn step(
        &self,
        change: &Change,
        snapshot: &ClusterSnapshot,
        limits: Limits<'_>,
        board: &Board,
        tell: Tell<'_>,
    ) -> Done {
        if change.after.is_some() {
            limits.permits.rest(&change.node);
        }
        if let Some(after) = &change.after
            && !board.wait(after, &change.model, limits.stop)
        {
            return skipped("its load elsewhere failed");
        }
        if limits.stop.load(Ordering::SeqCst) {
            return skipped("it was stopped");
        }
        let context = match limits.permits.begin(change) {
            Ok(context) => context,
            Err(why) => {
                let done = Done {
                    put_off: true,
                    ..skipped(&why)
                };
                tell(Event::Ended(change, &done));
                return done;
            }
        };
        tell(Event::Begun(change));
        let began = Instant::now();
        let (landed, failure) = match self.call(change, context, snapshot, limits.load) {
            Ok(landed) => (landed, None),
            Err(failure) => (None, Some(failure)),
        };
        // A node that went away says nothing of the next try.
        let gone = matches!(failure, Some(Failure::Connect(_) | Failure::Broken(_)));
        let error = failure.map(|failure| failure.to_string());
        let done = Done {
            error: error.or_else(|| missed(change, landed.as_ref())),
            landed,
            took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            put_off: false,
        };
        if change.action == Action::Load && !gone {
            let mut tries = lock(&self.tries);
            match &done.error {
                Some(why) => tries.failed(&change.node, &change.model, why.clone()),
                None => tries.succeeded(&change.node, &change.model),
            }
        }
        limits.permits.end(change, &done);
        tell(Event::Ended(change, &done));
        done
    }

    fn call(
        &self,
        change: &Change,
        context: Option<u64>,
        snapshot: &ClusterSnapshot,
        limit: Duration,
    ) -> Result<Option<LoadedModel>, Failure> {
        let node = snapshot
            .node(&change.node)
            .ok_or_else(|| Failure::Connect("the node is no longer known".to_owned()))?;
        let prober = &self.prober;
        match change.action {
            Action::Load | Action::Pin => {
                prober.load(node, &change.model, context, limit).map(Some)
            }
            Action::Unload => prober.unload(node, &change.model).map(|()| None),
        }
    }
}

/// What is wrong with a load that the node calls done: it was to be on the GPU and is not.
fn missed(change: &Change, landed: Option<&LoadedModel>) -> Option<String> {
    match landed?.gpu_percent()? {
        100 => None,
        _ if change.action != Action::Load || !change.whole => None,
        0 => Some("the node loaded it on the CPU though its GPU has room".to_owned()),
        percent => Some(format!(
            "the node loaded only {percent}% of it on the GPU though that has room for all"
        )),
    }
}

fn skipped(why: &str) -> Done {
    Done {
        landed: None,
        error: Some(why.to_owned()),
        took_ms: 0,
        put_off: false,
    }
}
