//! The threads that load models: a load belongs to the node, not to the request that it was begun for.

use std::sync::{Arc, OnceLock, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::Gate;
use super::state::LoadError;
use crate::backend::{Failure, LoadCall, LoadFailure, Prober};
use crate::cluster::{LoadedModel, ModelName, Node};
use crate::config::LogLevel;
use crate::serve::{Log, Reservation, Router};

/// Time between two looks whether memory that is promised to another load is free.
const LOOK: Duration = Duration::from_millis(50);

/// A load that a scheduler has decided.
#[derive(Debug, Clone)]
pub(super) struct Order {
    /// Which of the gate's loads.
    pub(super) number: u64,
    pub(super) node: Arc<Node>,
    pub(super) call: LoadCall,
    /// The context that it has to have; 0: any.
    pub(super) at_least: u32,
    /// Bytes of GPU memory that it takes, where that is known.
    pub(super) bytes: Option<u64>,
    /// Models that have to go first, as the node calls them.
    pub(super) evict: Vec<String>,
}

/// What loads need of the router.
#[derive(Debug)]
pub(in crate::serve) struct Loader {
    prober: Arc<Prober>,
    /// Limit of one load; `None`: none.
    limit: Option<Duration>,
    log: Log,
    router: OnceLock<Weak<Router>>,
}

impl Loader {
    pub(in crate::serve) fn new(prober: Arc<Prober>, limit: Option<Duration>, log: Log) -> Self {
        Self {
            prober,
            limit,
            log,
            router: OnceLock::new(),
        }
    }

    /// Whom to tell what was learned.
    pub(in crate::serve) fn tell(&self, router: &Arc<Router>) {
        self.router.get_or_init(|| Arc::downgrade(router));
    }

    /// A model is in use of which only the file's size is known.
    pub(super) fn wants_sizes(&self) {
        if let Some(router) = self.router() {
            router.describer.wake();
        }
    }

    /// Carries out an order in a thread of its own.
    pub(super) fn carry_out(gate: &Arc<Gate>, order: &Arc<Order>) {
        let own = Arc::clone(gate);
        let name = format!("node-{}-load", order.node.name);
        let told = Arc::clone(order);
        let spawned = thread::Builder::new()
            .name(name)
            .stack_size(256 * 1024)
            .spawn(move || {
                let unfinished = Unfinished {
                    gate: &own,
                    order: &told,
                };
                own.loader.run(&own, &told);
                std::mem::forget(unfinished);
            });
        if let Err(error) = spawned {
            failed(gate, order, format!("no thread for it: {error}"));
        }
    }

    fn run(&self, gate: &Arc<Gate>, order: &Order) {
        let (node, call) = (&order.node, &order.call);
        let promise = match self.promise(gate, order) {
            Ok(promise) => promise,
            Err(text) => return failed(gate, order, text),
        };
        let promise = promise.and_then(|promise| {
            let model = ModelName::new(&call.model);
            self.router()?
                .keep_promise(&node.name, order.number, &model, promise)
        });
        for gone in &order.evict {
            // One that stays all the same is seen afterwards.
            if let Err(error) = self.prober.evict(node, gone) {
                let text = format!("node `{}`: unloading `{gone}`: {error}", node.name);
                self.log.event(LogLevel::Warning, &text);
            }
        }
        let before = self
            .router()
            .map(|router| router.snapshot())
            .unwrap_or_default();
        let began = Instant::now();
        let (result, held) = self.load(order);
        let took = began.elapsed();
        let ms = super::millis(took);
        match result {
            Ok(()) => {
                let text = format!(
                    "node `{}` loaded `{}`{} in {:.1} s",
                    node.name,
                    call.model,
                    call.context
                        .map(|context| format!(" with a context of {context}"))
                        .unwrap_or_default(),
                    took.as_secs_f64()
                );
                self.log.event(LogLevel::Info, &text);
                if let Some(router) = self.router() {
                    let place = (node.name.clone(), ModelName::new(&call.model));
                    router.measurements.loaded(&place, took);
                }
                gate.change(|state, now| state.loaded(now, order, held.as_deref(), ms));
            }
            Err(error) => {
                let text = format!(
                    "node `{}` could not load `{}`: {error}",
                    node.name, call.model
                );
                // A node that is out of reach is told once, as such.
                let level = match &error {
                    LoadFailure::Failed(Failure::Connect(_)) => LogLevel::Debug,
                    _ => LogLevel::Warning,
                };
                self.log.event(level, &text);
                let told = LoadError {
                    text,
                    status: match &error {
                        LoadFailure::Refused(status, _) => Some(*status),
                        LoadFailure::Failed(_) => None,
                    },
                    code: match &error {
                        LoadFailure::Failed(Failure::Connect(_)) => "connect_failed",
                        LoadFailure::Failed(Failure::Timeout(_)) => "no_answer_in_time",
                        LoadFailure::Failed(Failure::Broken(_)) => "closed_without_answer",
                        _ => "load_failed",
                    },
                    timed_out: matches!(error, LoadFailure::Failed(Failure::Timeout(_))),
                };
                let memory = error.out_of_memory();
                gate.change(|state, _| state.load_failed(order.number, told, memory));
                // Afterwards: a node that is down starts anew, and whoever waits would cause another load.
                if let LoadFailure::Failed(Failure::Connect(text)) = &error
                    && let Some(router) = self.router()
                {
                    router.unreachable(node, text.clone());
                }
            }
        }
        if let Some(router) = self.router() {
            router.poke(&node.name);
            // From then on the node itself tells what it holds.
            router.seen_anew(&[node.name.as_str()], &before);
            router.forget_promise(&node.name, order.number);
        }
        drop(promise);
    }

    /// Reserves the memory that the load takes, so that nobody else plans with it; waits while it is promised to another load.
    fn promise(&self, gate: &Gate, order: &Order) -> Result<Option<Reservation>, String> {
        let Some((router, bytes)) = self.router().zip(order.bytes) else {
            return Ok(None);
        };
        let until = self.limit.map(|limit| Instant::now() + limit);
        loop {
            match router.promise_load(&order.node, bytes, &order.evict) {
                Ok(promise) => return Ok(promise),
                Err(why) if until.is_some_and(|until| Instant::now() >= until) => return Err(why),
                // The node was lost meanwhile.
                Err(why) if !gate.awaits(order.number) => return Err(why),
                Err(_) => thread::sleep(LOOK),
            }
        }
    }

    fn router(&self) -> Option<Arc<Router>> {
        self.router.get().and_then(Weak::upgrade)
    }

    /// The load itself, and what the node holds then.
    fn load(&self, order: &Order) -> (Result<(), LoadFailure>, Option<Vec<LoadedModel>>) {
        let (node, call) = (&order.node, &order.call);
        let mut result = self.prober.load_for(node, call, self.limit);
        if result.is_err() {
            return (result, None);
        }
        let mut held = self.prober.in_memory(node).ok();
        let name = ModelName::new(&call.model);
        let context = held
            .iter()
            .flatten()
            .find(|loaded| loaded.name == name)
            .and_then(|loaded| loaded.context);
        let trained = node.model(&name).and_then(|model| model.context);
        let least = u64::from(order.at_least).min(trained.unwrap_or(u64::MAX));
        if call.context.is_none() && context.is_some_and(|context| context < least) {
            // The node's own context turned out to be smaller than what is needed.
            let explicit = LoadCall {
                context: Some(order.at_least),
                ..call.clone()
            };
            result = self.prober.load_for(node, &explicit, self.limit);
            held = self.prober.in_memory(node).ok();
        }
        (result, held)
    }
}

fn failed(gate: &Arc<Gate>, order: &Order, text: String) {
    let error = LoadError {
        text,
        status: None,
        code: "load_failed",
        timed_out: false,
    };
    gate.change(|state, _| state.load_failed(order.number, error, false));
}

/// A load whose thread has not come to its end; a panic must not leave anybody waiting.
struct Unfinished<'g> {
    gate: &'g Arc<Gate>,
    order: &'g Order,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        failed(
            self.gate,
            self.order,
            "the load failed inside the router".to_owned(),
        );
    }
}
