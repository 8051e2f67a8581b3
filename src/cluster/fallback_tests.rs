//! Tests of the CPU watch.

use super::*;
use crate::cluster::Vendor;

const GIB: u64 = 1 << 30;

fn loaded(size: u64, vram: u64) -> LoadedModel {
    LoadedModel {
        name: ModelName::new("m"),
        size_bytes: Some(size),
        vram_bytes: Some(vram),
        ..LoadedModel::default()
    }
}

fn gpu(used: u64) -> Gpu {
    Gpu {
        total_bytes: Some(16 * GIB),
        used_bytes: Some(used),
        ..Gpu::unmeasured(Vendor::Nvidia, "RTX 4080")
    }
}

fn with_gpu(gpu: &Gpu) -> Evidence<'_> {
    Evidence {
        has_gpu: true,
        gpu: Some(gpu),
        usable_bytes: Some(15 * GIB),
        ..Evidence::default()
    }
}

#[test]
fn full_partial_and_cpu_are_told_apart() {
    assert_eq!(loaded(100, 100).processor(), Some(Processor::Gpu));
    assert_eq!(
        loaded(42 * GIB, 20 * GIB).processor(),
        Some(Processor::Partly(48))
    );
    assert_eq!(loaded(42 * GIB, 2 * GIB).processor(), Some(Processor::Cpu));
    assert_eq!(
        loaded(13_998_489, 1_572_864).processor(),
        Some(Processor::Cpu)
    );
    assert_eq!(loaded(0, 0).processor(), None, "some builds say 0 of 0");
}

#[test]
fn a_node_without_a_gpu_does_not_fall_back() {
    assert_eq!(fallback(&loaded(4 * GIB, 0), &Evidence::default()), None);
}

#[test]
fn each_cause_is_told_with_its_cure() {
    let cause =
        |size, vram, gpu: &Gpu| fallback(&loaded(size, vram), &with_gpu(gpu)).unwrap().cause;
    assert!(matches!(
        cause(20 * GIB, 14 * GIB, &gpu(14 * GIB)),
        Cause::TooLarge { .. }
    ));
    assert!(matches!(
        cause(8 * GIB, 0, &gpu(12 * GIB)),
        Cause::Full { .. }
    ));
    assert_eq!(cause(8 * GIB, 0, &gpu(GIB)), Cause::Untold);
    assert!(matches!(
        cause(8 * GIB, 8 * GIB, &gpu(GIB / 2)),
        Cause::NotShown { .. }
    ));
    let lost = Gpu {
        state: GpuState::Lost,
        ..gpu(0)
    };
    assert!(matches!(cause(8 * GIB, 0, &lost), Cause::DriverLost(_)));
    for size in [20 * GIB, 8 * GIB] {
        let found = fallback(&loaded(size, 0), &with_gpu(&gpu(12 * GIB))).unwrap();
        assert!(found.text("a", &ModelName::new("m")).contains("on the CPU"));
        assert!(!found.cure().is_empty());
    }
}

#[test]
fn a_driver_that_shows_the_memory_in_use_agrees() {
    assert_eq!(
        fallback(&loaded(8 * GIB, 8 * GIB), &with_gpu(&gpu(9 * GIB))),
        None
    );
}

#[test]
fn far_slower_than_expected_is_not_the_gpu() {
    let speeds = |recent, expected| Evidence {
        has_gpu: true,
        recent_tps: Some(recent),
        expected_tps: Some(expected),
        ..Evidence::default()
    };
    let untold = LoadedModel::default();
    assert_eq!(fallback(&untold, &speeds(30.0, 80.0)), None);
    let found = fallback(&untold, &speeds(6.0, 80.0)).unwrap();
    assert!(matches!(found.cause, Cause::Slow { .. }));
}

fn node(models: Vec<LoadedModel>) -> Node {
    Node {
        loaded: models,
        ..Node::unseen("a", "http://a")
    }
}

#[test]
fn it_is_told_once_and_recovers_silently() {
    let mut watch = FallbackWatch::default();
    let nothing = |_: &LoadedModel| Evidence::default();
    let (on, off) = (node(vec![loaded(8, 8)]), node(vec![loaded(8, 0)]));
    assert!(watch.look(&off, nothing).is_empty(), "it never had a GPU");
    assert!(watch.look(&on, nothing).is_empty());
    assert_eq!(watch.look(&off, nothing).len(), 1);
    assert!(watch.look(&off, nothing).is_empty(), "told before");
    assert_eq!(watch.fallen().count(), 1);
    assert!(watch.look(&node(Vec::new()), nothing).is_empty());
    assert_eq!(watch.fallen().count(), 0, "it was unloaded");
    assert!(watch.look(&off, nothing).is_empty(), "the same again");
    assert!(watch.look(&on, nothing).is_empty());
    assert_eq!(watch.look(&off, nothing).len(), 1, "another time");
}

#[test]
fn its_own_speed_on_the_gpu_is_what_is_expected_of_it() {
    let mut watch = FallbackWatch::default();
    let at = |tps| {
        move |_: &LoadedModel| Evidence {
            recent_tps: Some(tps),
            ..Evidence::default()
        }
    };
    let on = node(vec![loaded(8, 8)]);
    assert!(watch.look(&on, at(90.0)).is_empty());
    assert!(watch.look(&on, at(40.0)).is_empty());
    let found = watch.look(&on, at(9.0));
    assert!(matches!(
        found[..],
        [(
            _,
            Fallback {
                cause: Cause::Slow { .. },
                ..
            }
        )]
    ));
    assert!(watch.look(&on, at(80.0)).is_empty());
    assert_eq!(watch.fallen().count(), 0);
}
