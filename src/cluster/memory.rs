//! How much of a GPU's memory is usable and how much of that is free.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Gpu, GpuState, Vendor};
use crate::vram::{Backend, Basis, GpuCard, Learned, Maker, Range, find_card, runtime_bytes};

/// How much of a GPU's memory counts as usable.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MemoryPolicy {
    /// Share of the memory that may be used; `None`: decided by how sure an estimate is.
    pub safety_margin: Option<f64>,
    /// What a need is multiplied by.
    pub headroom_factor: f64,
}

impl Default for MemoryPolicy {
    fn default() -> Self {
        Self {
            safety_margin: None,
            headroom_factor: 1.0,
        }
    }
}

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Share that may be used when a size is all that is known of a model: what is missing in it must find room in the rest.
const SIZE_MARGIN: f64 = 0.8;

impl MemoryPolicy {
    /// Usable bytes of `total`: floor(MiB × margin) where there is a margin (the configured one, or 0.8 where sizes are the whole need), else all but
    /// the smaller of 1 GiB and 20 %.
    pub fn usable(&self, total: u64, basis: Basis) -> u64 {
        let margin = self
            .safety_margin
            .or(size_only(basis).then_some(SIZE_MARGIN));
        match margin {
            Some(margin) => share_of_mib(total / MIB, margin) * MIB,
            None => total - GIB.min(total / 5),
        }
    }

    /// What a need of so many bytes counts as.
    pub fn needed(&self, bytes: u64) -> u64 {
        scaled(bytes, self.headroom_factor)
    }

    /// The share of memory that counts as usable in percent, where it is a share.
    pub fn margin(&self, basis: Basis) -> Option<f64> {
        self.safety_margin
            .or(size_only(basis).then_some(SIZE_MARGIN))
    }
}

/// Whether an estimate of this basis is a size without parts, which stands for the whole need.
pub fn size_only(basis: Basis) -> bool {
    matches!(basis, Basis::Catalog | Basis::Name | Basis::Manifest)
}

/// floor(`mib` × `margin`) as decimal arithmetic has it: 0.57 of 100 is 57, though the nearest float is a little less.
fn share_of_mib(mib: u64, margin: f64) -> u64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "MiB of a memory are far below 2^52, a margin is between 0 and 1"
    )]
    let share = (mib as f64 * margin.clamp(0.0, 1.0) + 1e-6).floor() as u64;
    share.min(mib)
}

/// `bytes` × `factor`, rounded up.
pub(super) fn scaled(bytes: u64, factor: f64) -> u64 {
    #[expect(
        clippy::float_cmp,
        reason = "exactly 1 is the default and must change nothing"
    )]
    if factor == 1.0 {
        return bytes;
    }
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a need of less than 2^52 bytes; the cast saturates"
    )]
    let scaled = (bytes as f64 * factor).ceil() as u64;
    scaled
}

/// What keeps a GPU's free memory from being more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bound {
    /// The usable memory and what is loaded in it.
    #[default]
    Usable,
    /// The driver has less: other processes hold memory.
    Driver,
    /// The total is only what the node was ever seen to hold; it has at least that.
    AtLeast,
}

/// One GPU with the room that a placement may use.
#[derive(Debug, Clone, PartialEq)]
pub struct Room {
    /// Node it belongs to; `None`: this machine.
    pub node: Option<String>,
    /// Whether it is one of this machine's, which several nodes may share.
    pub here: bool,
    /// Position in PCI bus order.
    pub index: u32,
    /// Product name.
    pub name: String,
    /// NVML's UUID.
    pub uuid: Option<String>,
    /// What computes on it; GPUs of different kinds are not split over.
    pub backend: Backend,
    /// Whether it shares the machine's memory.
    pub unified: bool,
    /// Bytes of memory.
    pub total_bytes: u64,
    /// Bytes that count as usable.
    pub usable_bytes: u64,
    /// Bytes that the node's own models take of it.
    pub loaded_bytes: u64,
    /// Bytes that others hold: what the driver counts beyond the node's models; `None` where the driver does not tell.
    pub others_bytes: Option<u64>,
    /// Bytes that the driver says are free; `None` where it does not tell.
    pub driver_free_bytes: Option<u64>,
    /// Bytes promised to models that are being loaded.
    pub reserved_bytes: u64,
    /// Bytes free: usable − loaded, never more than the driver's own free, less what is reserved.
    pub free_bytes: u64,
    /// What keeps the free memory from being more.
    pub bound: Bound,
    /// Peak memory bandwidth in bytes per second.
    pub bandwidth: Option<u64>,
    /// What the runtime adds on it outside of a model's buffers.
    pub runtime: Range,
}

impl Room {
    /// A GPU of which only its memory is known: nothing loaded, nothing reserved.
    pub fn bare(index: u32, name: impl Into<String>, usable: u64, free: u64) -> Self {
        Self {
            node: None,
            here: false,
            index,
            name: name.into(),
            uuid: None,
            backend: Backend::Cuda,
            unified: false,
            total_bytes: usable,
            usable_bytes: usable,
            loaded_bytes: 0,
            others_bytes: None,
            driver_free_bytes: None,
            reserved_bytes: 0,
            free_bytes: free,
            bound: Bound::Usable,
            bandwidth: None,
            runtime: Range::default(),
        }
    }

    /// What identifies the GPU across samples: the UUID, else the node and the index. One of this machine's is the same for all its nodes.
    pub fn key(&self) -> GpuKey {
        let node = self.node.as_deref().filter(|_| !self.here);
        GpuKey::of(node, self.index, self.uuid.as_deref())
    }

    /// The same GPU with its usable and free memory as they are for an estimate of that basis.
    #[must_use]
    pub fn measured(mut self, policy: MemoryPolicy, basis: Basis) -> Self {
        self.usable_bytes = match self.bound {
            // What it was seen to hold it can hold; no share of it is in question.
            Bound::AtLeast => self.total_bytes,
            Bound::Usable | Bound::Driver => policy.usable(self.total_bytes, basis),
        };
        let by_models = self.usable_bytes.saturating_sub(self.loaded_bytes);
        let free = by_models.min(self.driver_free_bytes.unwrap_or(u64::MAX));
        self.free_bytes = free.saturating_sub(self.reserved_bytes);
        if self.bound != Bound::AtLeast {
            self.bound = if free < by_models {
                Bound::Driver
            } else {
                Bound::Usable
            };
        }
        self
    }

    /// The same GPU after models of so many bytes have gone from it. [`Room::measured`] must follow.
    #[must_use]
    pub(super) fn without(mut self, bytes: u64) -> Self {
        let bytes = bytes.min(self.loaded_bytes);
        self.loaded_bytes -= bytes;
        self.driver_free_bytes = self
            .driver_free_bytes
            .map(|free| free.saturating_add(bytes).min(self.total_bytes));
        self
    }

    /// Takes what is reserved on it off the free memory.
    #[must_use]
    pub fn less(mut self, reserved: u64) -> Self {
        self.reserved_bytes += reserved;
        self.free_bytes = self.free_bytes.saturating_sub(reserved);
        self
    }
}

/// What identifies a GPU across samples.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct GpuKey(String);

impl GpuKey {
    /// The UUID, else `node/index` (`/index` on this machine).
    pub fn of(node: Option<&str>, index: u32, uuid: Option<&str>) -> Self {
        Self(match uuid {
            Some(uuid) => uuid.to_owned(),
            None => format!("{}/{index}", node.unwrap_or_default()),
        })
    }
}

/// A GPU that no placement may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Position in PCI bus order.
    pub index: u32,
    /// Product name.
    pub name: String,
    /// Why, as a sentence.
    pub reason: String,
}

/// What decides the rooms of one machine beside its GPUs.
#[derive(Debug, Clone, Copy)]
pub struct Measure<'a> {
    /// How much of a memory counts as usable.
    pub policy: MemoryPolicy,
    /// What the estimate is based on that is to be placed.
    pub basis: Basis,
    /// What runtimes were seen to add.
    pub learned: &'a Learned,
    /// The user's own cards.
    pub cards: &'a BTreeMap<String, GpuCard>,
}

impl Measure<'_> {
    /// The rooms of one machine's GPUs, `loaded` bytes of whose memory its own models take, as its server says.
    ///
    /// A server tells the sum, not the card. Where the driver tells each card's used memory the sum is shared out by it; where it does not, the
    /// whole of it may lie on any one card and is counted on each, so that nothing is promised that may be taken.
    pub fn rooms(&self, gpus: &[Gpu], loaded: u64) -> (Vec<Room>, Vec<Skipped>) {
        let (mut rooms, mut skipped) = (Vec::new(), Vec::new());
        let all: u64 = gpus.iter().filter_map(used).fold(0, u64::saturating_add);
        for gpu in gpus {
            let reason = match (gpu.state, gpu.total_bytes) {
                (GpuState::Ok, Some(total)) if total > 0 => {
                    let here = part_of(loaded, used(gpu), all);
                    rooms.push(self.room(gpu, total, here));
                    continue;
                }
                (GpuState::Ok, _) => "its memory is not known",
                (GpuState::Lost, _) => "it no longer answers",
                (GpuState::Error, _) => "it answers with an error",
            };
            skipped.push(Skipped {
                index: gpu.index,
                name: gpu.name.clone(),
                reason: gpu.cause.clone().unwrap_or_else(|| reason.to_owned()),
            });
        }
        (rooms, skipped)
    }

    fn room(&self, gpu: &Gpu, total: u64, loaded: u64) -> Room {
        let known = find_card(&gpu.name, gpu.total_bytes, self.cards);
        let card = known.as_ref().map(|known| known.card);
        let multiprocessors = gpu
            .multiprocessors
            .or(card.map(|card| card.multiprocessors))
            .filter(|count| *count > 0);
        let backend = backend(gpu.vendor, known.as_ref().and_then(|known| known.maker));
        Room {
            node: gpu.node.clone(),
            here: gpu.node.is_none(),
            index: gpu.index,
            name: gpu.name.clone(),
            uuid: gpu.uuid.clone(),
            backend,
            unified: gpu.unified,
            total_bytes: total,
            usable_bytes: 0,
            loaded_bytes: loaded,
            others_bytes: used(gpu).map(|used| used.saturating_sub(loaded)),
            driver_free_bytes: gpu
                .free_bytes
                .or_else(|| Some(total.saturating_sub(gpu.used_bytes?))),
            reserved_bytes: 0,
            free_bytes: 0,
            bound: Bound::Usable,
            bandwidth: gpu.bandwidth.or(card.map(|card| card.bandwidth)),
            runtime: self.runtime(gpu.uuid.as_deref(), backend, multiprocessors),
        }
        .measured(self.policy, self.basis)
    }

    /// The room of a node's GPU that is known by configuration, catalogue or observation only.
    pub fn remote(&self, node: &str, gpu: Option<&str>, total: u64, loaded: u64) -> Room {
        let known = gpu.and_then(|name| find_card(name, Some(total), self.cards));
        let backend = backend(Vendor::Other, known.as_ref().and_then(|known| known.maker));
        let card = known.as_ref().map(|known| known.card);
        let multiprocessors = card
            .map(|card| card.multiprocessors)
            .filter(|count| *count > 0);
        Room {
            node: Some(node.to_owned()),
            name: gpu.unwrap_or_default().to_owned(),
            backend,
            unified: known.as_ref().is_some_and(|known| known.unified),
            total_bytes: total,
            loaded_bytes: loaded,
            bandwidth: card.map(|card| card.bandwidth),
            runtime: self.runtime(None, backend, multiprocessors),
            ..Room::bare(0, "", total, total)
        }
        .measured(self.policy, self.basis)
    }

    fn runtime(&self, uuid: Option<&str>, backend: Backend, multiprocessors: Option<u32>) -> Range {
        uuid.and_then(|uuid| self.learned.get(uuid))
            .unwrap_or_else(|| runtime_bytes(backend, multiprocessors))
    }
}

/// Used bytes of a card that answers, `None` where the driver is silent.
fn used(gpu: &Gpu) -> Option<u64> {
    gpu.used_bytes
        .or_else(|| Some(gpu.total_bytes?.saturating_sub(gpu.free_bytes?)))
        .filter(|_| gpu.state == GpuState::Ok)
}

/// The part of `loaded` that lies on a card with `here` of all `used` bytes.
fn part_of(loaded: u64, here: Option<u64>, used: u64) -> u64 {
    match here {
        // The driver's sample is older than the load: what it does not show yet may be on any card.
        Some(here) if used < loaded => here + (loaded - used),
        Some(here) if used > 0 => {
            let part = u128::from(loaded) * u128::from(here) / u128::from(used);
            u64::try_from(part).unwrap_or(u64::MAX)
        }
        Some(_) => 0,
        None => loaded,
    }
}

fn backend(vendor: Vendor, maker: Option<Maker>) -> Backend {
    match (vendor, maker) {
        (Vendor::Amd, _) | (Vendor::Other, Some(Maker::Amd)) => Backend::Rocm,
        (Vendor::Intel, _) | (Vendor::Other, Some(Maker::Intel)) => Backend::Sycl,
        (Vendor::Apple, _) | (Vendor::Other, Some(Maker::Apple)) => Backend::Metal,
        // What is not known gets the widest range, which is CUDA's.
        (Vendor::Nvidia | Vendor::Other, _) => Backend::Cuda,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(margin: Option<f64>) -> MemoryPolicy {
        MemoryPolicy {
            safety_margin: margin,
            ..MemoryPolicy::default()
        }
    }

    fn gpu(total: u64, used: Option<u64>) -> Gpu {
        Gpu {
            node: None,
            index: 0,
            name: "GTX 1050 Ti".to_owned(),
            uuid: None,
            pci_bus_id: None,
            vendor: Vendor::Nvidia,
            state: GpuState::Ok,
            cause: None,
            unified: false,
            total_bytes: Some(total),
            used_bytes: used,
            free_bytes: used.map(|used| total - used),
            utilization: None,
            temperature_c: None,
            power_w: None,
            energy_j: None,
            compute_capability: None,
            multiprocessors: None,
            bandwidth: None,
            processes: Vec::new(),
        }
    }

    fn rooms(basis: Basis, gpus: &[Gpu], loaded: u64) -> Vec<Room> {
        Measure {
            policy: policy(None),
            basis,
            learned: &Learned::default(),
            cards: &BTreeMap::new(),
        }
        .rooms(gpus, loaded)
        .0
    }

    #[test]
    fn usable_as_the_sources_have_it() {
        let total = 4096 * MIB;
        for basis in [Basis::Catalog, Basis::Name, Basis::Manifest] {
            assert_eq!(policy(None).usable(total, basis), 3276 * MIB);
            assert_eq!(policy(Some(0.5)).usable(total, basis), 2048 * MIB);
        }
        for basis in [Basis::Header, Basis::Api] {
            assert_eq!(policy(None).usable(96 * GIB, basis), 95 * GIB);
            assert_eq!(policy(None).usable(total, basis), total - total / 5);
            assert_eq!(policy(Some(0.8)).usable(total, basis), 3276 * MIB);
            assert_eq!(policy(Some(1.0)).usable(total, basis), total);
        }
        assert_eq!(policy(Some(0.57)).usable(100 * MIB, Basis::Api), 57 * MIB);
        assert_eq!(policy(Some(0.0)).usable(total, Basis::Api), 0);
    }

    #[test]
    fn free_is_usable_less_loaded_and_never_more_than_the_drivers() {
        let total = 4096 * MIB;
        let empty = &rooms(Basis::Catalog, &[gpu(total, Some(0))], 0)[0];
        assert_eq!(empty.free_bytes, 3276 * MIB);
        let loaded = 705 * MIB;
        let room = &rooms(Basis::Catalog, &[gpu(total, Some(1005 * MIB))], loaded)[0];
        assert_eq!(
            (room.usable_bytes, room.free_bytes),
            (3276 * MIB, 2571 * MIB)
        );
        assert_eq!(room.others_bytes, Some(300 * MIB));
        assert_eq!(room.bound, Bound::Usable);
        let crowded = &rooms(Basis::Catalog, &[gpu(total, Some(3000 * MIB))], loaded)[0];
        assert_eq!(crowded.free_bytes, 1096 * MIB);
        assert_eq!(crowded.bound, Bound::Driver);
        let silent = &rooms(Basis::Catalog, &[gpu(total, None)], loaded)[0];
        assert_eq!((silent.free_bytes, silent.others_bytes), (2571 * MIB, None));
    }

    #[test]
    fn a_sum_of_loaded_bytes_is_never_promised_again() {
        let total = 24 * GIB;
        let two = [gpu(total, Some(10 * GIB)), gpu(total, Some(0))];
        let told = rooms(Basis::Header, &two, 9 * GIB);
        assert_eq!(
            (told[0].free_bytes, told[1].free_bytes),
            (14 * GIB, 23 * GIB)
        );
        let silent = rooms(
            Basis::Header,
            &[gpu(total, None), gpu(total, None)],
            9 * GIB,
        );
        assert_eq!(
            (silent[0].free_bytes, silent[1].free_bytes),
            (14 * GIB, 14 * GIB)
        );
        // The driver was sampled before the load.
        let stale = rooms(
            Basis::Header,
            &[gpu(total, Some(GIB)), gpu(total, Some(0))],
            9 * GIB,
        );
        assert_eq!(
            (stale[0].free_bytes, stale[1].free_bytes),
            (14 * GIB, 15 * GIB)
        );
    }

    #[test]
    fn a_gpu_that_does_not_answer_is_no_room() {
        let mut lost = gpu(GIB, None);
        lost.state = GpuState::Lost;
        lost.cause = Some("GPU is lost".to_owned());
        let unknown = Gpu {
            total_bytes: None,
            ..gpu(GIB, None)
        };
        let (rooms, skipped) = Measure {
            policy: policy(None),
            basis: Basis::Header,
            learned: &Learned::default(),
            cards: &BTreeMap::new(),
        }
        .rooms(&[lost, unknown], 0);
        assert!(rooms.is_empty());
        assert_eq!(skipped[0].reason, "GPU is lost");
        assert_eq!(skipped[1].reason, "its memory is not known");
    }

    #[test]
    fn what_the_runtime_adds_is_learned_by_uuid() {
        let mut learned = Learned::default();
        learned.learn("GPU-a", 420 * MIB);
        let mut known = gpu(8 * GIB, None);
        known.uuid = Some("GPU-a".to_owned());
        known.multiprocessors = Some(34);
        let other = Gpu {
            uuid: Some("GPU-b".to_owned()),
            ..known.clone()
        };
        let (rooms, _) = Measure {
            policy: policy(None),
            basis: Basis::Header,
            learned: &learned,
            cards: &BTreeMap::new(),
        }
        .rooms(&[known, other], 0);
        let high: Vec<u64> = rooms.iter().map(|room| room.runtime.high / MIB).collect();
        assert_eq!(high, [420, 3 * 34 + 300]);
    }

    #[test]
    fn a_remote_card_is_looked_up_by_name() {
        let measure = Measure {
            policy: policy(None),
            basis: Basis::Header,
            learned: &Learned::default(),
            cards: &BTreeMap::new(),
        };
        let room = measure.remote("far", Some("RX 7900 XTX"), 24 * GIB, GIB);
        assert_eq!(room.backend, Backend::Rocm);
        assert_eq!(room.bandwidth, Some(960_000_000_000));
        assert_eq!(room.free_bytes, 22 * GIB);
        assert_eq!(room.key(), GpuKey::of(Some("far"), 0, None));
    }
}
