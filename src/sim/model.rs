//! What a simulated node has in memory and who may use it: loading, eviction, slots, queue and expiry, as Ollama does them.
//!
//! A pure state machine: it learns the time (a [`Duration`] since some start) with every call and never waits. The rules are those of
//! Ollama's scheduler: one load at a time; a request that needs a load waits until enough idle models could be evicted, and whatever
//! was asked after it waits behind it; a request for a loaded model only waits for a slot; a model that does not fit on the empty GPU
//! is split between GPU and CPU.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::catalog::Model;
use super::gpu::{Gpu, Speed};

/// Bytes of prompt that one entry of [`Need::prefix`] covers.
pub const PREFIX_BLOCK: usize = 64;

/// What the machine is and how it is set up.
#[derive(Debug, Clone, PartialEq)]
pub struct Hardware {
    /// The GPU.
    pub gpu: Gpu,
    /// Speeds on the GPU, instead of those that follow from bandwidth and size.
    pub speed: Option<Speed>,
    /// Time until a model is loaded, instead of the one that follows from its size.
    pub load_time: Option<Duration>,
    /// Requests that a model works on at once (`OLLAMA_NUM_PARALLEL`).
    pub parallel: usize,
    /// Requests that may wait (`OLLAMA_MAX_QUEUE`).
    pub max_queue: usize,
    /// Models in memory at once (`OLLAMA_MAX_LOADED_MODELS`).
    pub max_loaded: usize,
    /// Context of a request that asks for none (`OLLAMA_CONTEXT_LENGTH`).
    pub default_ctx: u32,
    /// How long a model stays without work (`OLLAMA_KEEP_ALIVE`).
    pub keep_alive: KeepAlive,
}

impl Hardware {
    /// A machine with this GPU and Ollama's own defaults.
    pub fn with_gpu(gpu: Gpu) -> Self {
        Self {
            gpu,
            speed: None,
            load_time: None,
            parallel: 1,
            max_queue: 512,
            max_loaded: 3,
            default_ctx: 4096,
            keep_alive: KeepAlive::For(Duration::from_secs(300)),
        }
    }

    /// Bytes per second from disk to memory: a `PCIe` 3.0 SSD with the usual losses.
    const LOAD_RATE: u64 = 2_000_000_000;
    /// Start of a runner process: 0.26 s for a model of 2 MB in a recorded exchange of Ollama 0.32.15.
    const LOAD_START: Duration = Duration::from_millis(250);

    fn load_time(&self, bytes: u64) -> Duration {
        self.load_time.unwrap_or_else(|| {
            let millis = bytes / (Self::LOAD_RATE / 1000);
            Self::LOAD_START + Duration::from_millis(millis)
        })
    }
}

/// How long an idle model stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeepAlive {
    /// So long after its last request.
    For(Duration),
    /// Until it is evicted.
    Forever,
}

/// What a request needs from the machine.
#[derive(Debug, Clone)]
pub struct Need {
    /// The model.
    pub model: Arc<Model>,
    /// `options.num_ctx`.
    pub num_ctx: Option<u32>,
    /// `options.num_gpu`: layers on the GPU; negative or none: as many as fit.
    pub num_gpu: Option<i64>,
    /// `keep_alive`.
    pub keep_alive: Option<KeepAlive>,
    /// Only to have the model in memory: takes no slot.
    pub load_only: bool,
    /// A fault: a load goes to the CPU.
    pub force_cpu: bool,
    /// Hashes of the prompt's blocks of [`PREFIX_BLOCK`] bytes, for the prompt cache of the slots.
    pub prefix: Vec<u64>,
}

impl Need {
    /// A need with nothing but a model.
    pub fn of(model: Arc<Model>) -> Self {
        Self {
            model,
            num_ctx: None,
            num_gpu: None,
            keep_alive: None,
            load_only: false,
            force_cpu: false,
            prefix: Vec::new(),
        }
    }
}

/// A request inside the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(u64);

/// The queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

/// What a request got.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grant {
    /// When the model is (or was) in memory.
    pub ready_at: Duration,
    /// The context it is loaded with.
    pub num_ctx: u32,
    /// Its speed.
    pub speed: Speed,
    /// Blocks of the prompt that the slot already has in its cache.
    pub cached_blocks: usize,
}

/// A model in memory.
#[derive(Debug, Clone)]
pub struct Resident {
    /// The model.
    pub model: Arc<Model>,
    /// Bytes in all memories.
    pub size: u64,
    /// Bytes of them on the GPU.
    pub size_vram: u64,
    /// Context it is loaded with.
    pub num_ctx: u32,
    /// When an idle model goes; none: it stays. While there is work, the time moves on.
    pub expires_at: Option<Duration>,
    ready_at: Duration,
    num_gpu: Option<i64>,
    keep_alive: KeepAlive,
    last_used: Duration,
    slots: Vec<Slot>,
    /// Requests that hold it, with and without a slot.
    users: usize,
}

#[derive(Debug, Clone, Default)]
struct Slot {
    busy: bool,
    cache: Vec<u64>,
}

#[derive(Debug)]
struct Running {
    grant: Grant,
    digest: String,
    slot: Option<usize>,
}

enum Start {
    Running(Running),
    /// All slots of the loaded model are taken.
    WaitsForSlot,
    /// Others have to leave the memory first.
    WaitsForLoad,
}

/// The memory and the scheduler of one node.
#[derive(Debug)]
pub struct Machine {
    hardware: Hardware,
    residents: Vec<Resident>,
    queue: VecDeque<(Ticket, Need)>,
    running: HashMap<Ticket, Running>,
    next: u64,
    loads: u64,
    evictions: u64,
}

impl Machine {
    /// An empty machine.
    pub fn new(hardware: Hardware) -> Self {
        Self {
            hardware,
            residents: Vec::new(),
            queue: VecDeque::new(),
            running: HashMap::new(),
            next: 0,
            loads: 0,
            evictions: 0,
        }
    }

    /// What the machine is.
    pub fn hardware(&self) -> &Hardware {
        &self.hardware
    }

    /// Takes a request in. [`Machine::grant`] tells when it may start; [`Machine::finish`] must be called in the end.
    pub fn submit(&mut self, now: Duration, need: Need) -> Result<Ticket, Busy> {
        self.settle(now);
        let ticket = Ticket(self.next);
        self.next += 1;
        self.queue.push_back((ticket, need));
        self.settle(now);
        if self.queue.len() > self.hardware.max_queue
            && self.queue.back().is_some_and(|(last, _)| *last == ticket)
        {
            self.queue.pop_back();
            return Err(Busy);
        }
        Ok(ticket)
    }

    /// What the request got, as soon as it got something.
    pub fn grant(&mut self, now: Duration, ticket: Ticket) -> Option<Grant> {
        self.settle(now);
        self.running.get(&ticket).map(|running| running.grant)
    }

    /// The request is over or its client left. A load that nobody waits for any more is given up, as Ollama does.
    pub fn finish(&mut self, now: Duration, ticket: Ticket) {
        self.queue.retain(|(waiting, _)| *waiting != ticket);
        if let Some(running) = self.running.remove(&ticket)
            && let Some(index) = self.position(&running.digest)
            && let Some(resident) = self.residents.get_mut(index)
        {
            resident.users = resident.users.saturating_sub(1);
            if let Some(slot) = running.slot.and_then(|slot| resident.slots.get_mut(slot)) {
                slot.busy = false;
            }
            resident.touch(now);
            if now < resident.ready_at && resident.users == 0 {
                self.residents.remove(index);
            }
        }
        self.settle(now);
    }

    /// `keep_alive: 0` without a prompt: the model goes as soon as nobody uses it. False when it is not in memory.
    pub fn unload(&mut self, now: Duration, model: &Model) -> bool {
        let Some(resident) = self
            .residents
            .iter_mut()
            .find(|resident| resident.model.digest == model.digest)
        else {
            return false;
        };
        resident.keep_alive = KeepAlive::For(Duration::ZERO);
        resident.touch(now);
        self.settle(now);
        true
    }

    /// The models in memory, the one that stays longest first.
    pub fn residents(&mut self, now: Duration) -> Vec<Resident> {
        self.settle(now);
        let mut list = self.residents.clone();
        list.sort_by_key(|resident| {
            std::cmp::Reverse(resident.expires_at.unwrap_or(Duration::MAX))
        });
        list
    }

    /// Requests that wait.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Requests that hold a model.
    pub fn active(&self) -> usize {
        self.running.len()
    }

    /// Loads that were begun so far, reloads included.
    pub fn loads(&self) -> u64 {
        self.loads
    }

    /// Models that were thrown out so far to make room for others.
    pub fn evictions(&self) -> u64 {
        self.evictions
    }

    /// The process died: nothing is in memory and nobody waits.
    pub fn clear(&mut self) {
        self.residents.clear();
        self.queue.clear();
        self.running.clear();
    }

    fn settle(&mut self, now: Duration) {
        self.residents.retain(|resident| {
            resident.users > 0
                || now < resident.ready_at
                || resident.expires_at.is_none_or(|at| now < at)
        });
        let mut index = 0;
        while let Some((ticket, need)) = self.queue.get(index).cloned() {
            match self.try_start(now, &need) {
                Start::Running(running) => {
                    self.queue.remove(index);
                    self.running.insert(ticket, running);
                }
                Start::WaitsForSlot => index += 1,
                Start::WaitsForLoad => break,
            }
        }
    }

    fn position(&self, digest: &str) -> Option<usize> {
        self.residents
            .iter()
            .position(|resident| resident.model.digest == digest)
    }

    fn loading(&self, now: Duration) -> bool {
        self.residents
            .iter()
            .any(|resident| now < resident.ready_at)
    }

    fn try_start(&mut self, now: Duration, need: &Need) -> Start {
        let num_ctx = need
            .num_ctx
            .unwrap_or(self.hardware.default_ctx)
            .clamp(1, need.model.context_length.max(1));
        if let Some(index) = self.position(&need.model.digest) {
            let Some(resident) = self.residents.get_mut(index) else {
                return Start::WaitsForLoad;
            };
            if !resident.needs_reload(num_ctx, need.num_gpu) {
                return resident.enter(now, need, &self.hardware);
            }
            if resident.users > 0 || self.loading(now) {
                return Start::WaitsForLoad;
            }
            self.residents.remove(index);
        }
        if self.loading(now) {
            return Start::WaitsForLoad;
        }
        let size = need
            .model
            .resident_bytes(num_ctx, self.hardware.parallel.max(1));
        let wanted = self.wanted_vram(need, size);
        if !self.make_room(wanted) {
            return Start::WaitsForLoad;
        }
        let size_vram = wanted.min(self.free_vram());
        let mut resident = Resident {
            model: Arc::clone(&need.model),
            size,
            size_vram,
            num_ctx,
            expires_at: None,
            ready_at: now.saturating_add(self.hardware.load_time(need.model.bytes)),
            num_gpu: need.num_gpu,
            keep_alive: self.hardware.keep_alive,
            last_used: now,
            slots: vec![Slot::default(); self.hardware.parallel.max(1)],
            users: 0,
        };
        let start = resident.enter(now, need, &self.hardware);
        self.loads += 1;
        self.residents.push(resident);
        start
    }

    /// Bytes that a load would like to have on the GPU.
    fn wanted_vram(&self, need: &Need, size: u64) -> u64 {
        if need.force_cpu || self.hardware.gpu.vram_bytes == 0 {
            return 0;
        }
        match need.num_gpu {
            Some(layers) if layers >= 0 => {
                let all = u64::from(need.model.layers) + 1;
                let layers = u64::try_from(layers).unwrap_or(0).min(all);
                u64::try_from(u128::from(size) * u128::from(layers) / u128::from(all))
                    .unwrap_or(size)
            }
            _ => size,
        }
    }

    fn free_vram(&self) -> u64 {
        let used: u64 = self.residents.iter().map(|r| r.size_vram).sum();
        self.hardware.gpu.vram_bytes.saturating_sub(used)
    }

    /// Evicts idle models, the one with the shortest stay first and among equals the least recently used, until `bytes` are free or the
    /// GPU is empty. False when models at work are in the way; what was idle is gone then too, as with Ollama.
    fn make_room(&mut self, bytes: u64) -> bool {
        loop {
            let crowded = self.residents.len() >= self.hardware.max_loaded.max(1);
            if self.residents.is_empty() || (!crowded && self.free_vram() >= bytes) {
                return true;
            }
            let victim = self
                .residents
                .iter()
                .enumerate()
                .filter(|(_, r)| r.users == 0 && (crowded || r.size_vram > 0))
                .min_by_key(|(_, r)| (r.keep_alive, r.last_used))
                .map(|(index, _)| index);
            match victim {
                Some(index) => {
                    self.residents.remove(index);
                    self.evictions += 1;
                }
                // Whoever is left lies in main memory and is not in the way of the GPU.
                None if !crowded && self.residents.iter().all(|r| r.size_vram == 0) => return true,
                None => return false,
            }
        }
    }
}

impl Resident {
    /// A different context or split needs a new runner; an absent context means the default one, an absent split any.
    fn needs_reload(&self, num_ctx: u32, num_gpu: Option<i64>) -> bool {
        let asked = num_gpu.filter(|layers| *layers >= 0);
        self.num_ctx != num_ctx || (asked.is_some() && asked != self.num_gpu)
    }

    fn touch(&mut self, now: Duration) {
        self.last_used = now;
        self.expires_at = match self.keep_alive {
            KeepAlive::For(stay) => now.max(self.ready_at).checked_add(stay),
            KeepAlive::Forever => None,
        };
    }

    /// Lets a request in if it needs no slot or one is free: the free slot whose cache shares most of the prompt.
    fn enter(&mut self, now: Duration, need: &Need, hardware: &Hardware) -> Start {
        let mut cached_blocks = 0;
        let slot = if need.load_only {
            None
        } else {
            let best = self
                .slots
                .iter()
                .enumerate()
                .filter(|(_, slot)| !slot.busy)
                .map(|(index, slot)| (slot.shared(&need.prefix), std::cmp::Reverse(index)))
                .max();
            let Some((shared, std::cmp::Reverse(index))) = best else {
                return Start::WaitsForSlot;
            };
            cached_blocks = shared;
            if let Some(slot) = self.slots.get_mut(index) {
                slot.busy = true;
                slot.cache.clone_from(&need.prefix);
            }
            Some(index)
        };
        if let Some(keep_alive) = need.keep_alive {
            self.keep_alive = keep_alive;
        }
        self.users += 1;
        self.touch(now);
        #[allow(
            clippy::cast_precision_loss,
            reason = "a share needs three digits, not sixteen"
        )]
        let on_gpu = self.size_vram as f64 / self.size.max(1) as f64;
        Start::Running(Running {
            grant: Grant {
                ready_at: self.ready_at,
                num_ctx: self.num_ctx,
                speed: Speed::of(&hardware.gpu, self.model.bytes, on_gpu, hardware.speed),
                cached_blocks,
            },
            digest: self.model.digest.clone(),
            slot,
        })
    }
}

impl Slot {
    fn shared(&self, prefix: &[u64]) -> usize {
        self.cache
            .iter()
            .zip(prefix)
            .take_while(|(cached, wanted)| cached == wanted)
            .count()
    }
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
