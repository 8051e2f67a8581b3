//! Intel GPUs as the kernel drivers xe and i915 tell them.

use std::path::Path;

use super::{Card, INTEL, cards, entries, hex, millionths, number, thousandths, unserved};
use crate::cluster::{Gpu, Vendor};
use crate::gpu::Source;
use crate::gpu::inventory::Seen;

/// Cards that people run models on, by device. Numbers from the kernel's table of PCI ids (`include/drm/intel/pciids.h`).
const KNOWN: [(u32, &str); 9] = [
    (0x56a0, "Intel Arc A770"),
    (0x56a1, "Intel Arc A750"),
    (0x56a2, "Intel Arc A580"),
    (0x56a5, "Intel Arc A380"),
    (0x56a6, "Intel Arc A310"),
    (0x56c0, "Intel Data Center GPU Flex 170"),
    (0x56c1, "Intel Data Center GPU Flex 140"),
    (0xe20b, "Intel Arc B580"),
    (0xe20c, "Intel Arc B570"),
];
/// Place of the graphics inside a processor on every Intel machine.
const INTEGRATED: &str = "00000000:00:02.0";

/// The Intel GPUs of this machine.
pub(in crate::gpu) fn look(sysfs: &Path) -> Seen {
    let gpus = cards(sysfs, INTEL)
        .iter()
        .filter(|card| {
            card.driver()
                .is_none_or(|driver| matches!(driver.as_str(), "i915" | "xe"))
        })
        .map(read)
        .collect();
    let mut seen = Seen::gpus(Source::Intel, gpus);
    if seen.gpus.is_empty() {
        seen.status.unserved = unserved(sysfs, INTEL);
    }
    seen
}

fn read(card: &Card) -> Gpu {
    let bus_id = card.bus_id();
    let unified = bus_id.as_deref() == Some(INTEGRATED);
    let mut gpu = Gpu::unmeasured(Vendor::Intel, name(card, unified));
    gpu.pci_bus_id = bus_id;
    gpu.unified = unified;
    gpu.total_bytes = total(card);
    gpu.free_bytes = number(&card.path.join("lmem_avail_bytes"));
    gpu.used_bytes = gpu
        .total_bytes
        .zip(gpu.free_bytes)
        .map(|(total, free)| total.saturating_sub(free));
    if let Some(sensors) = card.sensors() {
        // xe counts its package first and has its temperature second; i915 has the first.
        gpu.temperature_c = thousandths(&sensors.join("temp1_input"))
            .or_else(|| thousandths(&sensors.join("temp2_input")));
        gpu.energy_j = millionths(&sensors.join("energy1_input"));
    }
    gpu
}

/// Bytes of memory of its own, where a driver tells them: Intel's own i915 for the card, xe for each of its tiles. The i915 of the
/// kernel tells nothing.
fn total(card: &Card) -> Option<u64> {
    let whole = number(&card.path.join("lmem_total_bytes"));
    let tiles = || {
        let tiles = entries(&card.device, 1024)
            .into_iter()
            .filter(|path| {
                path.file_name()
                    .and_then(|name| name.to_str())
                    .is_some_and(|name| name.starts_with("tile"))
            })
            .filter_map(|tile| number(&tile.join("physical_vram_size_bytes")));
        tiles.reduce(u64::saturating_add)
    };
    whole.or_else(tiles).filter(|bytes| *bytes > 0)
}

fn name(card: &Card, unified: bool) -> String {
    let device = hex(&card.device.join("device"));
    let known = device.and_then(|device| KNOWN.iter().find(|known| known.0 == device));
    match (known, device) {
        (Some(known), _) => known.1.to_owned(),
        (None, Some(device)) if unified => format!("Intel integrated graphics 0x{device:04x}"),
        (None, Some(device)) => format!("Intel GPU 0x{device:04x}"),
        (None, None) => "Intel GPU".to_owned(),
    }
}
