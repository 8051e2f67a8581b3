//! The simulated nodes in virtual time: what happens next, and what was measured of it.
//!
//! The node's memory, slots, eviction and prompt cache are [`Machine`]'s, the simulation's model of Ollama; what the GPU does is
//! [`super::physics`]. A policy sees what a user of Ollama could see: `/api/ps`, and the counters at the end of an answer.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use super::fleet::FleetNode;
use super::node::{Counters, Inside, Ordered, Record, Shown, SimNode};
use super::physics::{Phase, Work};
use super::trace::TraceRequest;
use crate::sim::Model;
use crate::sim::model::{Grant, Hardware, Machine, Need};

/// How long a node that is started anew does not answer.
const RESTART: Duration = Duration::from_secs(5);

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// A client sends a request.
    Send(usize),
    /// The model of a request is in memory.
    Ready { node: usize, request: usize },
    /// A load that a policy asked for is done.
    Loaded { node: usize, serial: u64 },
    /// Some phase of some request ends, unless something changed since.
    Work { node: usize, epoch: u64 },
    /// A policy wanted to be called.
    Wake { node: usize },
    /// The node dies and starts anew.
    Restart { node: usize },
    /// It answers again.
    Up { node: usize },
}

/// Something a policy has to react to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Told {
    Sent(usize),
    FirstToken {
        node: usize,
        request: usize,
    },
    Finished {
        node: usize,
        request: usize,
        counters: Counters,
    },
    /// The node died under the request.
    Died {
        node: usize,
        request: usize,
    },
    Loaded {
        node: usize,
        took: Duration,
    },
    Wake {
        node: usize,
    },
    Restarted {
        node: usize,
    },
    Up {
        node: usize,
    },
}

pub(super) struct World<'a> {
    pub(super) requests: &'a [TraceRequest],
    pub(super) models: &'a [Arc<Model>],
    /// Index of each request's model.
    pub(super) model_of: Vec<usize>,
    pub(super) nodes: Vec<SimNode>,
    pub(super) records: Vec<Record>,
    pub(super) now: Duration,
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    serial: u64,
    pub(super) seed: u64,
    /// The request of the same session that comes after each.
    follows: Vec<Option<usize>>,
    /// What policies are told next.
    told: Vec<Told>,
}

impl<'a> World<'a> {
    pub(super) fn new(
        requests: &'a [TraceRequest],
        models: &'a [Arc<Model>],
        fleet: &[FleetNode],
        restarts: &[(u64, usize)],
        seed: u64,
    ) -> Self {
        let nodes = fleet
            .iter()
            .map(|spec| SimNode {
                machine: Machine::new(Hardware {
                    parallel: spec.parallel,
                    max_queue: requests.len(),
                    ..Hardware::with_gpu(spec.gpu.clone())
                }),
                spec: spec.clone(),
                work: Work::default(),
                inside: Vec::new(),
                ordered: None,
                up: true,
                loading_for: Duration::ZERO,
            })
            .collect();
        let mut world = Self {
            requests,
            models,
            model_of: super::model_indices(requests, models),
            nodes,
            records: vec![Record::default(); requests.len()],
            now: Duration::ZERO,
            events: BinaryHeap::new(),
            serial: 0,
            seed,
            follows: vec![None; requests.len()],
            told: Vec::new(),
        };
        world.schedule(restarts);
        world
    }

    /// The first request of each session is sent at its time, the others when the answer before them has come.
    fn schedule(&mut self, restarts: &[(u64, usize)]) {
        let mut last: std::collections::HashMap<&str, usize> = std::collections::HashMap::new();
        for (index, request) in self.requests.iter().enumerate() {
            let before = if request.session.is_empty() {
                None
            } else {
                last.insert(&request.session, index)
            };
            match before {
                Some(before) => {
                    if let Some(follows) = self.follows.get_mut(before) {
                        *follows = Some(index);
                    }
                }
                None => self.at(Duration::from_millis(request.at_ms), Event::Send(index)),
            }
        }
        for (at_ms, node) in restarts {
            if *node < self.nodes.len() {
                self.at(
                    Duration::from_millis(*at_ms),
                    Event::Restart { node: *node },
                );
            }
        }
    }

    pub(super) fn at(&mut self, at: Duration, event: Event) {
        self.serial += 1;
        self.events
            .push(Reverse((at.max(self.now), self.serial, event)));
    }

    /// Goes on to the next thing that a policy is told; `None` at the end.
    pub(super) fn next(&mut self) -> Option<Told> {
        loop {
            if !self.told.is_empty() {
                return Some(self.told.remove(0));
            }
            let Reverse((at, _, event)) = self.events.pop()?;
            self.now = at;
            self.happens(event);
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Send(index) => {
                if let Some(record) = self.records.get_mut(index) {
                    record.sent = self.now;
                }
                self.told.push(Told::Sent(index));
            }
            Event::Ready { node, request } => self.ready(node, request),
            Event::Loaded { node, serial } => self.load_done(node, serial),
            Event::Work { node, epoch } => self.work(node, epoch),
            Event::Wake { node } => self.told.push(Told::Wake { node }),
            Event::Restart { node } => self.restart(node),
            Event::Up { node } => {
                if let Some(node) = self.nodes.get_mut(node) {
                    node.up = true;
                }
                self.told.push(Told::Up { node });
            }
        }
    }

    /// Whether the node answers.
    pub(super) fn up(&self, node: usize) -> bool {
        self.nodes.get(node).is_some_and(|node| node.up)
    }

    /// Sends a request to a node. False when the node does not answer.
    pub(super) fn submit(&mut self, node: usize, request: usize, num_ctx: Option<u32>) -> bool {
        let now = self.now;
        let Some(need) = self.need(request, num_ctx) else {
            return false;
        };
        let Some(at) = self.nodes.get_mut(node).filter(|node| node.up) else {
            return false;
        };
        // The queue of a machine is as long as the trace.
        let Ok(ticket) = at.machine.submit(now, need) else {
            return false;
        };
        at.inside.push(Inside {
            request,
            ticket,
            submitted: now,
            granted: None,
            begun: false,
            cached: 0,
            left: 0,
        });
        if let Some(record) = self.records.get_mut(request) {
            record.node = Some(node);
        }
        self.poll(node);
        true
    }

    fn need(&self, request: usize, num_ctx: Option<u32>) -> Option<Need> {
        let model = self.models.get(*self.model_of.get(request)?)?;
        let asked = self.requests.get(request)?;
        Some(Need {
            num_ctx,
            prefix: asked.prefix.clone(),
            ..Need::of(Arc::clone(model))
        })
    }

    /// Loads a model, as an empty request does.
    pub(super) fn load(&mut self, node: usize, model: usize, num_ctx: Option<u32>, on_cpu: bool) {
        let now = self.now;
        let Some(model) = self.models.get(model) else {
            return;
        };
        let need = Need {
            num_ctx,
            num_gpu: on_cpu.then_some(0),
            load_only: true,
            ..Need::of(Arc::clone(model))
        };
        self.serial += 1;
        let serial = self.serial;
        if let Some(at) = self.nodes.get_mut(node)
            && let Ok(ticket) = at.machine.submit(now, need)
        {
            at.ordered = Some(Ordered {
                serial,
                ticket,
                since: now,
                ready: false,
            });
        }
        self.poll(node);
    }

    /// Unloads an idle model.
    pub(super) fn unload(&mut self, node: usize, model: usize) {
        let now = self.now;
        if let Some(model) = self.models.get(model)
            && let Some(at) = self.nodes.get_mut(node)
        {
            at.machine.unload(now, model);
        }
        self.poll(node);
    }

    /// What `/api/ps` would tell.
    pub(super) fn shown(&mut self, node: usize) -> Vec<Shown> {
        let now = self.now;
        let Some(at) = self.nodes.get_mut(node) else {
            return Vec::new();
        };
        at.machine
            .residents(now)
            .iter()
            .map(|resident| Shown {
                model: resident.model.name.clone(),
                context: resident.num_ctx,
                size: resident.size,
                size_vram: resident.size_vram,
                expires_at: resident.expires_at,
            })
            .collect()
    }

    pub(super) fn next_end(&mut self, node: usize) {
        if let Some(at) = self.nodes.get(node)
            && let Some(end) = at.work.next_end()
        {
            let epoch = at.work.epoch;
            self.at(end, Event::Work { node, epoch });
        }
    }

    fn work(&mut self, node: usize, epoch: u64) {
        let now = self.now;
        let Some(at) = self.nodes.get_mut(node) else {
            return;
        };
        if at.work.epoch != epoch {
            return;
        }
        for (request, phase) in at.work.ended(now) {
            match phase {
                Phase::Prefill => {
                    if let Some(record) = self.records.get_mut(request) {
                        record.first_token = Some(now);
                    }
                    self.told.push(Told::FirstToken { node, request });
                }
                Phase::Decode => self.finished(node, request),
            }
        }
        self.poll(node);
        self.next_end(node);
    }

    fn finished(&mut self, node: usize, request: usize) {
        let now = self.now;
        let Some(at) = self.nodes.get_mut(node) else {
            return;
        };
        let Some(index) = at
            .inside
            .iter()
            .position(|inside| inside.request == request)
        else {
            return;
        };
        let inside = at.inside.remove(index);
        at.machine.finish(now, inside.ticket);
        let Some(record) = self.records.get_mut(request) else {
            return;
        };
        record.ended = Some(now);
        let (granted, grant) = inside.granted.unwrap_or((
            now,
            Grant {
                ready_at: now,
                num_ctx: 0,
                speed: crate::sim::Speed {
                    prefill: 1.0,
                    decode: 1.0,
                },
                cached_blocks: 0,
            },
        ));
        let started = record.started.unwrap_or(now);
        let first = record.first_token.unwrap_or(now);
        let counters = Counters {
            total: now.saturating_sub(inside.submitted),
            load: grant.ready_at.saturating_sub(granted),
            prompt_tokens: inside.left,
            cached_tokens: inside.cached,
            prompt: first.saturating_sub(started),
            answer_tokens: self
                .requests
                .get(request)
                .map_or(0, |asked| asked.tokens_out),
            answer: now.saturating_sub(first),
            context: grant.num_ctx,
        };
        self.told.push(Told::Finished {
            node,
            request,
            counters,
        });
        self.answered(request);
    }

    /// The client has its answer, or an error: its next request may come.
    pub(super) fn answered(&mut self, request: usize) {
        let Some(Some(next)) = self.follows.get(request).copied() else {
            return;
        };
        let at = self.requests.get(next).map_or(0, |asked| asked.at_ms);
        self.at(Duration::from_millis(at), Event::Send(next));
    }

    /// The client gets an error.
    pub(super) fn fail(&mut self, request: usize, refused: bool) {
        let now = self.now;
        if let Some(record) = self.records.get_mut(request) {
            record.failed = !refused;
            record.refused = refused;
            record.ended = Some(now);
        }
        self.answered(request);
    }

    fn load_done(&mut self, node: usize, serial: u64) {
        let now = self.now;
        let Some(at) = self.nodes.get_mut(node) else {
            return;
        };
        let Some(ordered) = at.ordered.take_if(|ordered| ordered.serial == serial) else {
            return;
        };
        at.machine.finish(now, ordered.ticket);
        let took = now.saturating_sub(ordered.since);
        self.told.push(Told::Loaded { node, took });
        self.poll(node);
    }

    fn restart(&mut self, node: usize) {
        let now = self.now;
        let Some(at) = self.nodes.get_mut(node) else {
            return;
        };
        at.machine.clear();
        at.ordered = None;
        at.up = false;
        at.work.clear(now);
        let lost: Vec<usize> = at.inside.drain(..).map(|inside| inside.request).collect();
        for request in lost {
            self.told.push(Told::Died { node, request });
        }
        self.told.push(Told::Restarted { node });
        self.at(now + RESTART, Event::Up { node });
    }

    /// Loads that were begun on all nodes.
    pub(super) fn loads(&self) -> u64 {
        self.nodes.iter().map(|node| node.machine.loads()).sum()
    }

    /// Models that the nodes threw out by themselves.
    pub(super) fn evictions(&self) -> u64 {
        self.nodes.iter().map(|node| node.machine.evictions()).sum()
    }

    /// Watt-hours of all nodes up to now; `None` when one of them is unknown.
    pub(super) fn energy_wh(&self) -> Option<f64> {
        let mut all = 0.0;
        for node in &self.nodes {
            let power = node.spec.power?;
            let busy = (node.work.busy() + node.loading_for)
                .min(self.now)
                .as_secs_f64();
            let idle = (self.now.as_secs_f64() - busy).max(0.0);
            all += (power.busy * busy + power.idle * idle) / 3600.0;
        }
        Some(all)
    }
}
