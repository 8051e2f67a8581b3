//! AMD GPUs as the kernel driver amdgpu tells them.

use std::path::Path;

use super::{AMD, Card, bytes, cards, hex, millionths, number, text, thousandths, unserved, word};
use crate::cluster::{Gpu, Vendor};
use crate::gpu::Source;
use crate::gpu::inventory::Seen;

/// Where Mesa and `ROCm` installations keep the names of AMD's cards (`DEVICE, REVISION, NAME`, both in hexadecimal).
const NAMES: &str = "/usr/share/libdrm/amdgpu.ids";

/// Cards that people run models on, by device and revision, for machines without [`NAMES`] (servers, containers). Checked against
/// libdrm's list.
const KNOWN: [(u32, u32, &str); 33] = [
    (0x15bf, 0xc4, "AMD Radeon 780M"),
    (0x1681, 0xc7, "AMD Radeon 680M"),
    (0x66a1, 0x02, "AMD Instinct MI60 / MI50"),
    (0x66a1, 0x06, "AMD Radeon Pro VII"),
    (0x66af, 0xc1, "AMD Radeon VII"),
    (0x6860, 0x00, "AMD Radeon Instinct MI25"),
    (0x687f, 0xc1, "AMD Radeon RX Vega"),
    (0x731f, 0xc1, "AMD Radeon RX 5700 XT"),
    (0x731f, 0xc4, "AMD Radeon RX 5700"),
    (0x738c, 0x01, "AMD Instinct MI100"),
    (0x73a3, 0x00, "AMD Radeon Pro W6800"),
    (0x73a5, 0xc0, "AMD Radeon RX 6950 XT"),
    (0x73af, 0xc0, "AMD Radeon RX 6900 XT"),
    (0x73bf, 0xc0, "AMD Radeon RX 6900 XT"),
    (0x73bf, 0xc1, "AMD Radeon RX 6800 XT"),
    (0x73bf, 0xc3, "AMD Radeon RX 6800"),
    (0x73df, 0xc0, "AMD Radeon RX 6750 XT"),
    (0x73df, 0xc1, "AMD Radeon RX 6700 XT"),
    (0x73ff, 0xc1, "AMD Radeon RX 6600 XT"),
    (0x73ff, 0xc7, "AMD Radeon RX 6600"),
    (0x7408, 0x00, "AMD Instinct MI250X"),
    (0x740c, 0x01, "AMD Instinct MI250X / MI250"),
    (0x740f, 0x02, "AMD Instinct MI210"),
    (0x7448, 0x00, "AMD Radeon Pro W7900"),
    (0x744c, 0xc8, "AMD Radeon RX 7900 XTX"),
    (0x744c, 0xcc, "AMD Radeon RX 7900 XT"),
    (0x744c, 0xce, "AMD Radeon RX 7900 GRE"),
    (0x747e, 0xc8, "AMD Radeon RX 7800 XT"),
    (0x747e, 0xff, "AMD Radeon RX 7700 XT"),
    (0x7480, 0xc0, "AMD Radeon RX 7600 XT"),
    (0x7480, 0xcf, "AMD Radeon RX 7600"),
    (0x74a1, 0x00, "AMD Instinct MI300X"),
    (0x74a5, 0x00, "AMD Instinct MI325X"),
];

/// The AMD GPUs of this machine.
pub(in crate::gpu) fn look(sysfs: &Path) -> Seen {
    let gpus = cards(sysfs, AMD)
        .iter()
        .filter(|card| card.driver().is_none_or(|driver| driver == "amdgpu"))
        .map(read)
        .collect();
    let mut seen = Seen::gpus(Source::Amdgpu, gpus);
    if seen.gpus.is_empty() {
        seen.status.unserved = unserved(sysfs, AMD);
    }
    seen
}

fn read(card: &Card) -> Gpu {
    let device = &card.device;
    let file = |name: &str| number(&device.join(name));
    let mut gpu = Gpu::unmeasured(Vendor::Amd, name(card));
    gpu.pci_bus_id = card.bus_id();
    // ROCm makes the UUID that ROCR_VISIBLE_DEVICES knows of it.
    gpu.uuid = word(&device.join("unique_id")).map(|id| format!("GPU-{id}"));
    gpu.unified = is_apu(card);
    // An APU's "video memory" is a piece of RAM set aside by the firmware; the rest of what the GPU may use is GTT.
    let with_gtt = |vram: Option<u64>, gtt: &str| {
        let gtt = if gpu.unified { file(gtt)? } else { 0 };
        vram?.checked_add(gtt)
    };
    let total = with_gtt(file("mem_info_vram_total"), "mem_info_gtt_total");
    let used = with_gtt(file("mem_info_vram_used"), "mem_info_gtt_used");
    gpu.total_bytes = total.filter(|total| *total > 0);
    gpu.used_bytes = used;
    gpu.free_bytes = gpu
        .total_bytes
        .zip(used)
        .map(|(total, used)| total.saturating_sub(used));
    gpu.utilization = file("gpu_busy_percent")
        .and_then(|percent| u32::try_from(percent).ok())
        .map(|percent| percent.min(100));
    if let Some(sensors) = card.sensors() {
        gpu.temperature_c = thousandths(&sensors.join("temp1_input"));
        gpu.power_w = millionths(&sensors.join("power1_average"))
            .or_else(|| millionths(&sensors.join("power1_input")));
    }
    gpu
}

/// Whether the GPU is part of a processor. The driver's table of measurements has one form for cards (1) and others for APUs (2, 3);
/// the form is its third byte (`struct metrics_table_header` of the kernel).
fn is_apu(card: &Card) -> bool {
    let table = bytes(&card.device.join("gpu_metrics"));
    table.is_some_and(|table| table.get(2).is_some_and(|form| *form >= 2))
}

/// Its product name: its own, libdrm's, or that of a card known here; else its number.
fn name(card: &Card) -> String {
    let device = hex(&card.device.join("device"));
    let revision = hex(&card.device.join("revision"));
    let listed = || {
        let (device, revision) = (device?, revision?);
        let known = KNOWN
            .iter()
            .find(|known| (known.0, known.1) == (device, revision));
        known
            .map(|known| known.2.to_owned())
            .or_else(|| in_list(&text(Path::new(NAMES))?, device, revision))
    };
    word(&card.device.join("product_name"))
        .or_else(listed)
        .unwrap_or_else(|| match device {
            Some(device) => format!("AMD GPU 0x{device:04x}"),
            None => "AMD GPU".to_owned(),
        })
}

/// The name of a device in libdrm's list.
fn in_list(list: &str, device: u32, revision: u32) -> Option<String> {
    list.lines().find_map(|line| {
        let mut columns = line.splitn(3, ',').map(str::trim);
        let mut number = || u32::from_str_radix(columns.next()?, 16).ok();
        let found = (number()?, number()?) == (device, revision);
        columns.next().filter(|_| found).map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_names_is_read_by_device_and_revision() {
        let list = "# List of AMDGPU IDs\n\n1.0.0\n744C,\tC8,\tAMD Radeon RX 7900 XTX\n744C,\tCC,\tAMD Radeon RX 7900 XT\n";
        assert_eq!(
            in_list(list, 0x744c, 0xcc).as_deref(),
            Some("AMD Radeon RX 7900 XT")
        );
        assert_eq!(in_list(list, 0x744c, 0x01), None);
    }
}
