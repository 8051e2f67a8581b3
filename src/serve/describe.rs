//! Finds out how much memory the models take that requests ask for: in a thread of its own, so that no request waits for it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, Thread};
use std::time::Duration;

use super::Router;
use crate::cluster::{Model, ModelName, Node, NodeKind};

/// How often it looks by itself: a node that was away may have been asked in vain.
const LOOK: Duration = Duration::from_secs(30);

/// What the thread and those who want something of it share. Without a lock: it is woken with others held.
#[derive(Debug, Default)]
pub(super) struct Describer {
    thread: OnceLock<Thread>,
    stop: AtomicBool,
}

impl Describer {
    /// There is a model to be asked about.
    pub(super) fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Ends the thread; a node that is being asked is not waited for.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        self.wake();
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

/// Starts the thread `describe`.
///
/// # Errors
/// The thread cannot be started.
pub(super) fn start(router: &Arc<Router>) -> io::Result<()> {
    let shared = Arc::downgrade(router);
    thread::Builder::new()
        .name("describe".to_owned())
        .spawn(move || follow(&shared))
        .map(|handle| {
            let thread = handle.thread().clone();
            router.describer.thread.get_or_init(|| thread);
        })
}

fn follow(router: &Weak<Router>) {
    while let Some(router) = router.upgrade() {
        while !router.describer.stopped() && router.describe() {}
        if router.describer.stopped() {
            return;
        }
        drop(router);
        thread::park_timeout(LOOK);
    }
}

impl Router {
    /// Asks about a few models; whether there were any.
    fn describe(&self) -> bool {
        let snapshot = self.snapshot();
        let mut any = false;
        for node in snapshot.usable() {
            let likely = |name: &ModelName| self.config.routing.names(name);
            for model in self.gates.gate(node).without_sizes(likely) {
                if self.describer.stopped() {
                    return false;
                }
                any = true;
                self.describe_model(node, &model);
            }
        }
        any
    }

    fn describe_model(&self, node: &Arc<Node>, model: &Model) {
        let needs = self.optimizer.needs();
        let found = needs.of_node(&self.config, node, model);
        self.gates.gate(node).sized(model, |parallel| {
            let Some(found) = found else {
                return Vec::new();
            };
            let sizes = if node.kind == Some(NodeKind::Ollama) {
                found.sizes(parallel)
            } else {
                // Its context is the one that it was started with.
                vec![(0, found.usual_bytes())]
            };
            let policy = self.config.memory;
            let needed = sizes.into_iter();
            needed
                .map(|(context, bytes)| (context, policy.needed(bytes)))
                .collect()
        });
    }
}
