//! Placement: the sources' figures, the order of the ladder, and thousands of random machines against a check written on its own.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "numbers of tests are far below every limit"
)]

use super::*;
use crate::vram::{Backend, Parts, Range};
use proptest::prelude::{
    Just, ProptestConfig, Strategy as Generator, TestCaseError, prop_assert, prop_assert_eq,
    prop_oneof, proptest,
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn rooms(free: &[u64]) -> Vec<Room> {
    free.iter()
        .zip(0..)
        .map(|(free, index)| Room::bare(index, format!("gpu{index}"), *free, *free))
        .collect()
}

fn sized(need: u64, free: &[u64], strategy: Strategy) -> Placement {
    let demand = Demand {
        need: Need::Bytes(need * GIB),
        headroom: 1.1,
    };
    let free: Vec<u64> = free.iter().map(|free| free * GIB).collect();
    let rules = Rules {
        strategy,
        cpu_fallback: false,
        ram_free: None,
    };
    place(&demand, &rooms(&free), rules)
}

fn near(shares: &[f64], expected: &[f64]) {
    assert_eq!(shares.len(), expected.len(), "{shares:?}");
    for (share, expected) in shares.iter().zip(expected) {
        assert!((share - expected).abs() < 1e-4, "{shares:?}");
    }
}

fn gib(bytes: u64) -> f64 {
    (bytes as f64 / GIB as f64 * 1000.0).round() / 1000.0
}

#[test]
fn the_sources_figures() {
    let single = Strategy::SingleGpuPreferred;
    let both = sized(8, &[4, 5], single);
    assert_eq!(
        (both.kind, &both.gpus[..]),
        (PlacementKind::Split, &[1, 0][..])
    );
    near(&both.tensor_split, &[5.0 / 9.0, 4.0 / 9.0]);
    assert!((gib(both.need_bytes) - 8.8).abs() < 1e-9);
    assert_eq!(both.needs.iter().sum::<u64>(), both.need_bytes);

    let two_of_three = sized(6, &[2, 3, 4], single);
    assert_eq!(two_of_three.gpus, [2, 1]);
    near(&two_of_three.tensor_split, &[4.0 / 7.0, 3.0 / 7.0]);
    assert!((gib(two_of_three.need_bytes) - 6.6).abs() < 1e-9);

    let none = sized(7, &[3, 2], single);
    assert_eq!(none.kind, PlacementKind::None);
    assert!((gib(none.need_bytes) - 7.7).abs() < 1e-9);
    assert_eq!(none.available_bytes, 5 * GIB);

    let large = sized(30, &[23, 15], single);
    near(&large.tensor_split, &[0.6053, 0.3947]);
    assert!((gib(large.need_bytes) - 33.0).abs() < 1e-9);

    let best = sized(8, &[20, 12], single);
    assert_eq!(
        (best.kind, &best.gpus[..]),
        (PlacementKind::Single, &[1][..])
    );
    let small = sized(4, &[8, 24], single);
    assert_eq!(small.gpus, [0], "the large card stays free");
    let tie = sized(4, &[8, 8], single);
    assert_eq!(tie.gpus, [0], "a tie goes to the lower index");
}

#[test]
fn distribute_spreads() {
    let spread = sized(6, &[8, 2, 6], Strategy::Distribute);
    assert_eq!(
        (spread.kind, &spread.gpus[..]),
        (PlacementKind::Split, &[0, 2, 1][..])
    );
    near(&spread.tensor_split, &[8.0 / 16.0, 6.0 / 16.0, 2.0 / 16.0]);
    let single = sized(6, &[8, 2, 6], Strategy::SingleGpuPreferred);
    assert_eq!(
        (single.kind, &single.gpus[..]),
        (PlacementKind::Single, &[0][..])
    );
    let one = sized(6, &[8], Strategy::Distribute);
    assert_eq!(one.kind, PlacementKind::Single);
    let full = sized(6, &[8, 0], Strategy::Distribute);
    assert_eq!(full.gpus, [0], "a full GPU has no room");

    let toy = Toy::dense(32, 200 * MIB, 300 * MIB);
    let free = [12 * GIB, 10 * GIB, GIB / 4];
    let spread = toy.place(&rooms(&free), Strategy::Distribute, true);
    assert_eq!(
        spread.gpus,
        [0, 1],
        "the third cannot even hold the buffers"
    );
    let single = toy.place(&rooms(&free), Strategy::SingleGpuPreferred, true);
    assert_eq!(single.gpus, [1]);
}

#[test]
fn the_cpu_is_an_answer_only_where_it_is_wanted_and_has_room() {
    let demand = Demand {
        need: Need::Bytes(9 * GIB),
        headroom: 1.0,
    };
    let kind = |cpu_fallback, ram_free| {
        let rules = Rules {
            cpu_fallback,
            ram_free,
            ..Rules::default()
        };
        place(&demand, &rooms(&[4 * GIB]), rules).kind
    };
    assert_eq!(kind(true, None), PlacementKind::Cpu);
    assert_eq!(kind(true, Some(16 * GIB)), PlacementKind::Cpu);
    assert_eq!(kind(true, Some(8 * GIB)), PlacementKind::None);
    assert_eq!(kind(false, None), PlacementKind::None);
    assert_eq!(
        place(&demand, &[], Rules::default()).kind,
        PlacementKind::Cpu
    );
}

/// A model made up of layers of given sizes, with llama.cpp's rules of where a layer goes.
#[derive(Debug, Clone)]
struct Toy {
    /// Bytes of each layer beside its experts; the output layer is the last.
    layers: Vec<u64>,
    /// Bytes of the experts of each layer.
    experts: Vec<u64>,
    /// Cache of each layer but the last.
    kv: u64,
    /// Compute buffer of each device, once more for each further device.
    compute: u64,
}

impl Toy {
    fn dense(blocks: usize, layer: u64, output: u64) -> Self {
        let mut layers = vec![layer; blocks];
        layers.push(output);
        Self {
            experts: vec![0; layers.len()],
            layers,
            kv: 16 * MIB,
            compute: 256 * MIB,
        }
    }

    fn moe(blocks: usize, layer: u64, experts: u64) -> Self {
        let mut toy = Self::dense(blocks, layer, 300 * MIB);
        toy.experts[..blocks].fill(experts);
        toy
    }

    fn count(&self) -> u32 {
        u32::try_from(self.layers.len()).unwrap()
    }

    fn expert_layers(&self) -> u32 {
        let last = self.experts.iter().rposition(|bytes| *bytes > 0);
        last.map_or(0, |at| u32::try_from(at + 1).unwrap())
    }

    fn estimate(&self, offload: &Offload) -> Estimate {
        let all = self.layers.len();
        let on_gpu = offload
            .gpu_layers
            .map_or(all, |count| (count as usize).min(all));
        let first = if offload.split.is_empty() {
            all
        } else {
            all - on_gpu
        };
        let mut devices = vec![Parts::default(); offload.split.len()];
        let mut host = Parts {
            weights_bytes: 400 * MIB,
            compute_bytes: 20 * MIB,
            ..Parts::default()
        };
        let sum: f64 = offload.split.iter().sum();
        for (layer, bytes) in self.layers.iter().enumerate() {
            let kv = if layer + 1 < all { self.kv } else { 0 };
            let mut experts = self.experts[layer];
            if layer < offload.cpu_experts as usize {
                host.weights_bytes += experts;
                experts = 0;
            }
            let parts = if layer < first {
                &mut host
            } else {
                let position = (layer - first) as f64 / on_gpu as f64;
                let mut running = 0.0;
                let device = offload
                    .split
                    .iter()
                    .position(|share| {
                        running += share;
                        running / sum > position
                    })
                    .unwrap_or(devices.len() - 1);
                &mut devices[device]
            };
            parts.layers += 1;
            parts.weights_bytes += bytes + experts;
            parts.kv_bytes += kv;
        }
        let copies = devices.len() as u64;
        for parts in &mut devices {
            parts.compute_bytes = self.compute * (3 + copies) / 4;
        }
        Estimate {
            devices,
            host,
            warnings: Vec::new(),
        }
    }

    fn place_with(&self, rooms: &[Room], rules: Rules, headroom: f64) -> Placement {
        let estimate = |offload: &Offload| self.estimate(offload);
        let demand = Demand {
            need: Need::Layers(Layers {
                estimate: &estimate,
                gpu_layers: self.count(),
                expert_layers: self.expert_layers(),
            }),
            headroom,
        };
        place(&demand, rooms, rules)
    }

    fn place(&self, rooms: &[Room], strategy: Strategy, cpu_fallback: bool) -> Placement {
        let rules = Rules {
            strategy,
            cpu_fallback,
            ram_free: None,
        };
        self.place_with(rooms, rules, 1.0)
    }

    /// What device `at` of a placement takes, counted layer by layer from the printed shares alone.
    fn takes(&self, placement: &Placement, at: usize) -> u64 {
        let count = placement.gpu_layers.unwrap_or(self.count()) as usize;
        let first = self.layers.len() - count;
        let ends: Vec<f64> = (0..placement.tensor_split.len())
            .map(|upto| placement.tensor_split[..=upto].iter().sum())
            .collect();
        let all = ends.last().copied().unwrap_or(1.0);
        let mut bytes = self.compute * (3 + ends.len() as u64) / 4;
        for layer in first..self.layers.len() {
            let position = (layer - first) as f64 * all / count as f64;
            let device = ends.iter().filter(|end| **end <= position).count();
            if device.min(ends.len() - 1) != at {
                continue;
            }
            bytes += self.layers[layer];
            if layer + 1 < self.layers.len() {
                bytes += self.kv;
            }
            if layer >= placement.cpu_experts as usize {
                bytes += self.experts[layer];
            }
        }
        bytes
    }
}

#[test]
fn each_device_must_hold_its_own_share() {
    // 33 layers of 210 MiB: in shares by free memory the small card gets 5 layers, its buffers and the large output layer.
    let toy = Toy::dense(32, 194 * MIB, 1200 * MIB);
    let free = [7 * GIB, 1900 * MIB];
    let placement = toy.place(&rooms(&free), Strategy::SingleGpuPreferred, true);
    assert_eq!(placement.kind, PlacementKind::Split, "{placement:?}");
    for (at, gpu) in placement.gpus.iter().enumerate() {
        assert!(toy.takes(&placement, at) <= free[*gpu], "{placement:?}");
        assert_eq!(toy.takes(&placement, at), placement.needs[at]);
    }
}

#[test]
fn experts_go_to_the_cpu_before_layers_do() {
    let toy = Toy::moe(48, 30 * MIB, 300 * MIB);
    let placement = toy.place(&rooms(&[8 * GIB]), Strategy::SingleGpuPreferred, true);
    assert_eq!(placement.kind, PlacementKind::ExpertsOnCpu);
    assert_eq!(
        (placement.gpu_layers, placement.tensor_split.len()),
        (None, 1)
    );
    assert!(toy.takes(&placement, 0) <= 8 * GIB);
    let one_more = Placement {
        cpu_experts: placement.cpu_experts - 1,
        ..placement.clone()
    };
    assert!(toy.takes(&one_more, 0) > 8 * GIB, "not the fewest layers");
    // The fewest experts in RAM, not whether RAM would hold all of them, decides.
    let some = 420 * MIB + u64::from(placement.cpu_experts) * 300 * MIB;
    let with_ram = |ram_free| Rules {
        ram_free: Some(ram_free),
        ..Rules::default()
    };
    let enough = toy.place_with(&rooms(&[8 * GIB]), with_ram(some), 1.0);
    assert_eq!(enough.kind, PlacementKind::ExpertsOnCpu);
    let rules = with_ram(2 * GIB);
    let poor = toy.place_with(&rooms(&[8 * GIB]), rules, 1.0);
    assert_eq!(
        poor.kind,
        PlacementKind::None,
        "no RAM for the experts or the layers"
    );
}

#[test]
fn a_part_of_the_layers_as_many_as_fit() {
    let toy = Toy::dense(32, 194 * MIB, 400 * MIB);
    let placement = toy.place(&rooms(&[4 * GIB]), Strategy::SingleGpuPreferred, true);
    assert_eq!(placement.kind, PlacementKind::Partial);
    let layers = placement.gpu_layers.unwrap();
    assert!(toy.takes(&placement, 0) <= 4 * GIB);
    let one_more = Placement {
        gpu_layers: Some(layers + 1),
        ..placement.clone()
    };
    assert!(toy.takes(&one_more, 0) > 4 * GIB, "not the most layers");
    assert_eq!(
        placement.need_bytes,
        toy.takes(
            &Placement {
                gpu_layers: None,
                ..placement.clone()
            },
            0
        )
    );
    let behind = u64::from(toy.count() - layers) * 210 * MIB;
    let with_ram = |ram_free| {
        let rules = Rules {
            ram_free: Some(ram_free),
            ..Rules::default()
        };
        toy.place_with(&rooms(&[4 * GIB]), rules, 1.0).kind
    };
    assert_eq!(with_ram(420 * MIB + behind), PlacementKind::Partial);
    assert_eq!(with_ram(420 * MIB + behind - 1), PlacementKind::None);
    let two = toy.place(
        &rooms(&[2 * GIB, 2 * GIB]),
        Strategy::SingleGpuPreferred,
        true,
    );
    assert_eq!((two.kind, two.gpus.len()), (PlacementKind::Partial, 2));
    let nothing = toy.place(&rooms(&[100 * MIB]), Strategy::SingleGpuPreferred, true);
    assert_eq!(nothing.kind, PlacementKind::Cpu);
    let refused = toy.place(&rooms(&[100 * MIB]), Strategy::SingleGpuPreferred, false);
    assert_eq!(refused.kind, PlacementKind::None);
    assert!(refused.need_bytes > refused.available_bytes);
}

#[test]
fn what_the_runtime_adds_counts_on_each_device() {
    let toy = Toy::dense(32, 100 * MIB, 100 * MIB);
    let whole = toy.takes(
        &Placement {
            gpu_layers: None,
            tensor_split: vec![1.0],
            ..toy.place(&rooms(&[64 * GIB]), Strategy::SingleGpuPreferred, true)
        },
        0,
    );
    let mut room = rooms(&[whole + 299 * MIB]);
    room[0].runtime = Range {
        low: 64 * MIB,
        high: 300 * MIB,
    };
    assert_eq!(
        toy.place(&room, Strategy::SingleGpuPreferred, true).kind,
        PlacementKind::Partial
    );
    room[0].free_bytes += MIB;
    let fits = toy.place(&room, Strategy::SingleGpuPreferred, true);
    assert_eq!(
        (fits.kind, fits.needs[0]),
        (PlacementKind::Single, whole + 300 * MIB)
    );
    assert_eq!(fits.estimate.unwrap().devices[0].runtime.high, 300 * MIB);
    let headroom = toy.place_with(&room, Rules::default(), 1.1);
    assert_eq!(headroom.kind, PlacementKind::Partial);
}

#[test]
fn what_stays_in_shared_memory_counts_against_it() {
    let toy = Toy::dense(32, 100 * MIB, 100 * MIB);
    let whole = toy
        .place(&rooms(&[64 * GIB]), Strategy::SingleGpuPreferred, true)
        .needs[0];
    let mut room = rooms(&[whole + 419 * MIB]);
    assert_eq!(
        toy.place(&room, Strategy::SingleGpuPreferred, true).kind,
        PlacementKind::Single
    );
    room[0].unified = true;
    assert_ne!(
        toy.place(&room, Strategy::SingleGpuPreferred, true).kind,
        PlacementKind::Single
    );
    room[0].free_bytes += MIB;
    assert_eq!(
        toy.place(&room, Strategy::SingleGpuPreferred, true).kind,
        PlacementKind::Single
    );
}

#[test]
fn no_model_is_split_over_different_backends() {
    let mut mixed = rooms(&[5 * GIB, 5 * GIB]);
    mixed[1].backend = Backend::Rocm;
    let demand = Demand {
        need: Need::Bytes(8 * GIB),
        headroom: 1.0,
    };
    assert_eq!(
        place(&demand, &mixed, Rules::default()).kind,
        PlacementKind::Cpu
    );
    let toy = Toy::dense(32, 250 * MIB, 300 * MIB);
    let placement = toy.place(&mixed, Strategy::SingleGpuPreferred, true);
    assert_eq!(
        (placement.kind, placement.gpus.len()),
        (PlacementKind::Partial, 1)
    );
}

fn any_toy() -> impl Generator<Value = Toy> {
    let layer = 1_u64..600;
    let experts = prop_oneof![Just(0_u64), 50_u64..900];
    (
        2_usize..90,
        layer,
        experts,
        0_u64..3000,
        0_u64..200,
        1_u64..800,
    )
        .prop_map(|(blocks, layer, experts, output, kv, compute)| {
            let mut toy = Toy::moe(blocks, layer * MIB, experts * MIB);
            *toy.layers.last_mut().unwrap() = output * MIB;
            toy.kv = kv * MIB;
            toy.compute = compute * MIB;
            toy
        })
}

fn any_rooms() -> impl Generator<Value = Vec<Room>> {
    let card = prop_oneof![
        Just(2_u64),
        Just(4),
        Just(6),
        Just(8),
        Just(12),
        Just(16),
        Just(24),
        Just(32),
        Just(80)
    ];
    // Card, share that is taken by loaded models, what the runtime adds, shared memory or not.
    let room = (
        card,
        0.0..1.0_f64,
        0_u64..900,
        proptest::bool::weighted(0.1),
    );
    proptest::collection::vec(room, 0..6).prop_map(|cards| {
        let mut all = Vec::new();
        for ((gib, taken, runtime, unified), index) in cards.into_iter().zip(0..) {
            let usable = gib * GIB - GIB / 2;
            let loaded = (usable as f64 * taken) as u64;
            let mut room = Room::bare(index, "card", usable, usable - loaded);
            room.runtime = Range {
                low: runtime * MIB / 2,
                high: runtime * MIB,
            };
            room.unified = unified;
            all.push(room);
        }
        all
    })
}

/// Checks one placement from the shares that are printed, layer by layer, without anything of the code under test.
fn check(
    toy: &Toy,
    rooms: &[Room],
    placement: &Placement,
    headroom: f64,
) -> Result<(), TestCaseError> {
    let host = 420 * MIB;
    let needs: Vec<u64> = (0..placement.gpus.len())
        .map(|at| {
            let room = &rooms[placement.gpus[at]];
            let earlier = placement.gpus[..at].iter().any(|gpu| rooms[*gpu].unified);
            let mut bytes = toy.takes(placement, at) + room.runtime.high;
            if room.unified && !earlier {
                let count = placement.gpu_layers.unwrap_or(toy.count()) as usize;
                let behind = toy.layers.len() - count;
                let on_cpu: u64 = (0..toy.layers.len())
                    .map(|layer| {
                        let experts = layer < placement.cpu_experts as usize || layer < behind;
                        let rest = layer < behind;
                        let kv = if layer + 1 < toy.layers.len() {
                            toy.kv
                        } else {
                            0
                        };
                        u64::from(experts) * toy.experts[layer]
                            + u64::from(rest) * (toy.layers[layer] + kv)
                    })
                    .sum();
                bytes += host + on_cpu;
            }
            (bytes as f64 * headroom).ceil() as u64
        })
        .collect();
    for (at, gpu) in placement.gpus.iter().enumerate() {
        prop_assert!(
            needs[at] <= rooms[*gpu].free_bytes,
            "a false fit: {:?}",
            placement
        );
        prop_assert_eq!(needs[at], placement.needs[at]);
    }
    let mut once = placement.gpus.clone();
    once.sort_unstable();
    once.dedup();
    prop_assert_eq!(once.len(), placement.gpus.len(), "a GPU twice");
    // Whether any single room would have held it.
    let on_one = |room: &Room| {
        let all: u64 = toy.layers.iter().sum::<u64>()
            + toy.experts.iter().sum::<u64>()
            + toy.kv * (toy.layers.len() as u64 - 1)
            + toy.compute
            + room.runtime.high
            + if room.unified { host } else { 0 };
        room.free_bytes
            .checked_sub((all as f64 * headroom).ceil() as u64)
    };
    let tightest = rooms.iter().filter_map(on_one).min();
    if placement.kind == PlacementKind::Single {
        prop_assert_eq!(
            on_one(&rooms[placement.gpus[0]]),
            tightest,
            "not the tightest"
        );
    } else {
        prop_assert_eq!(tightest, None, "one GPU would do: {:?}", placement);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]
    #[test]
    fn no_false_fit_beside_loaded_models(toy in any_toy(), rooms in any_rooms(), headroom in prop_oneof![Just(1.0), Just(1.1)]) {
        let placement = toy.place_with(&rooms, Rules::default(), headroom);
        check(&toy, &rooms, &placement, headroom)?;
        if placement.kind == PlacementKind::Single || (placement.kind == PlacementKind::Split && placement.gpus.len() == 2) {
            return Ok(());
        }
        // No two GPUs would have done: every way to cut the layers in two, on the two largest of a kind, in both orders.
        for unified in [false, true] {
            let mut by_free: Vec<usize> = (0..rooms.len()).filter(|at| rooms[*at].unified == unified).collect();
            by_free.sort_by_key(|at| std::cmp::Reverse(rooms[*at].free_bytes));
            let [first, second, ..] = by_free[..] else { continue };
            for order in [[first, second], [second, first]] {
                for cut in 1..toy.count() {
                    let two = Placement {
                        gpus: order.to_vec(),
                        tensor_split: vec![f64::from(cut), f64::from(toy.count() - cut)],
                        gpu_layers: None,
                        cpu_experts: 0,
                        ..placement.clone()
                    };
                    prop_assert!(too_small(&toy, &rooms, &two, headroom), "two would do: {:?}", two);
                }
            }
        }
    }
}

/// Whether two GPUs do not hold it so cut.
fn too_small(toy: &Toy, rooms: &[Room], two: &Placement, headroom: f64) -> bool {
    let first_unified = two.gpus.iter().position(|gpu| rooms[*gpu].unified);
    (0..2).any(|at| {
        let room = &rooms[two.gpus[at]];
        let host = if first_unified == Some(at) {
            420 * MIB
        } else {
            0
        };
        let bytes = toy.takes(two, at) + room.runtime.high + host;
        (bytes as f64 * headroom).ceil() as u64 > room.free_bytes
    })
}
