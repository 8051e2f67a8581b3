//! Fake roots: what each driver tells on machines of that kind.

use super::*;
use crate::gpu::SourceState;

/// A root of sysfs in a folder of its own, removed on drop.
struct Root(PathBuf);

impl Root {
    /// Every test runs in a thread of its own.
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!(
            "gpurouter-sysfs-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    /// A card with its driver and the numbers that every card has.
    fn card(&self, number: u32, slot: &str, driver: &str, ids: [&str; 3]) -> String {
        let device = format!("class/drm/card{number}/device");
        self.file(
            &format!("{device}/uevent"),
            format!("DRIVER={driver}\nPCI_SLOT_NAME={slot}\n"),
        );
        for (name, id) in ["vendor", "device", "revision"].iter().zip(ids) {
            self.file(&format!("{device}/{name}"), format!("{id}\n"));
        }
        device
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[test]
fn a_machine_without_cards_has_none() {
    let root = Root::new();
    assert_eq!(amd(&root.0).status.state, SourceState::NoGpus);
    assert_eq!(intel(&root.0).status.state, SourceState::NoGpus);
    assert_eq!(unserved(&root.0, NVIDIA), [""; 0]);
}

#[test]
fn an_amd_card_with_everything_that_amdgpu_tells() {
    let root = Root::new();
    let device = root.card(1, "0000:03:00.0", "amdgpu", ["0x1002", "0x744c", "0xc8"]);
    root.file("class/drm/card1-DP-1/status", "connected\n");
    for (name, content) in [
        ("mem_info_vram_total", "25753026560\n"),
        ("mem_info_vram_used", "1048576000\n"),
        ("mem_info_gtt_total", "33554432000\n"),
        ("mem_info_gtt_used", "50000000\n"),
        ("gpu_busy_percent", "37\n"),
        ("unique_id", "3f8a1c2b4d5e6f70\n"),
        ("hwmon/hwmon4/temp1_input", "51000\n"),
        ("hwmon/hwmon4/power1_average", "84000000\n"),
    ] {
        root.file(&format!("{device}/{name}"), content);
    }
    // Form 1: a card, so that GTT does not count.
    root.file(&format!("{device}/gpu_metrics"), [0x78, 0x00, 0x01, 0x03]);
    let seen = amd(&root.0);
    assert_eq!((seen.status.state, seen.gpus.len()), (SourceState::Ok, 1));
    let gpu = &seen.gpus[0];
    assert_eq!(gpu.name, "AMD Radeon RX 7900 XTX");
    assert_eq!(gpu.uuid.as_deref(), Some("GPU-3f8a1c2b4d5e6f70"));
    assert_eq!(gpu.pci_bus_id.as_deref(), Some("00000000:03:00.0"));
    assert!(!gpu.unified);
    assert_eq!(gpu.total_bytes, Some(25_753_026_560));
    assert_eq!(gpu.used_bytes, Some(1_048_576_000));
    assert_eq!(gpu.free_bytes, Some(24_704_450_560));
    assert_eq!((gpu.utilization, gpu.temperature_c), (Some(37), Some(51)));
    assert_eq!(gpu.power_w, Some(84.0));
    assert_eq!(gpu.energy_j, None);
}

#[test]
fn on_an_apu_gtt_counts_and_what_is_missing_is_unknown() {
    let root = Root::new();
    let device = root.card(0, "0000:c5:00.0", "amdgpu", ["0x1002", "0x1586", "0xc1"]);
    for (name, content) in [
        ("mem_info_vram_total", "536870912\n"),
        ("mem_info_vram_used", "100000000\n"),
        ("mem_info_gtt_total", "66571993088\n"),
        ("mem_info_gtt_used", "1000000\n"),
        ("hwmon/hwmon2/power1_input", "9500000\n"),
        ("product_name", "\n"),
    ] {
        root.file(&format!("{device}/{name}"), content);
    }
    root.file(&format!("{device}/gpu_metrics"), [0x08, 0x01, 0x03, 0x00]);
    let seen = amd(&root.0);
    let gpu = &seen.gpus[0];
    assert!(gpu.unified);
    assert_eq!(gpu.total_bytes, Some(536_870_912 + 66_571_993_088));
    assert_eq!(gpu.used_bytes, Some(101_000_000));
    assert_eq!(gpu.power_w, Some(9.5));
    assert_eq!(
        (gpu.utilization, gpu.temperature_c, &gpu.uuid),
        (None, None, &None)
    );
}

#[test]
fn an_unknown_amd_card_is_called_by_its_number_and_an_instinct_by_its_own_name() {
    let root = Root::new();
    root.card(0, "0000:03:00.0", "amdgpu", ["0x1002", "0xabcd", "0x00"]);
    let device = root.card(1, "0000:83:00.0", "amdgpu", ["0x1002", "0x74a1", "0x00"]);
    root.file(
        &format!("{device}/product_name"),
        "AMD Instinct MI300X OAM\n",
    );
    let names: Vec<_> = amd(&root.0).gpus.into_iter().map(|gpu| gpu.name).collect();
    assert_eq!(names, ["AMD GPU 0xabcd", "AMD Instinct MI300X OAM"]);
}

#[test]
fn intel_cards_tell_their_memory_in_two_ways_or_not_at_all() {
    let root = Root::new();
    root.card(0, "0000:00:02.0", "i915", ["0x8086", "0x46a6", "0x0c"]);
    let arc = root.card(1, "0000:03:00.0", "i915", ["0x8086", "0x56a0", "0x08"]);
    root.file("class/drm/card1/lmem_total_bytes", "16225243136\n")
        .file("class/drm/card1/lmem_avail_bytes", "15225243136\n")
        .file(&format!("{arc}/hwmon/hwmon3/energy1_input"), "1234500000\n");
    let battlemage = root.card(2, "0000:07:00.0", "xe", ["0x8086", "0xe20b", "0x00"]);
    root.file(
        &format!("{battlemage}/tile0/physical_vram_size_bytes"),
        "12817793024\n",
    )
    .file(&format!("{battlemage}/hwmon/hwmon5/temp2_input"), "43000\n");
    root.card(3, "0000:08:00.0", "vfio-pci", ["0x8086", "0xe20c", "0x00"]);
    let gpus = intel(&root.0).gpus;
    let told: Vec<_> = gpus
        .iter()
        .map(|gpu| {
            (
                gpu.name.as_str(),
                gpu.unified,
                gpu.total_bytes,
                gpu.used_bytes,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("Intel integrated graphics 0x46a6", true, None, None),
            (
                "Intel Arc A770",
                false,
                Some(16_225_243_136),
                Some(1_000_000_000)
            ),
            ("Intel Arc B580", false, Some(12_817_793_024), None),
        ]
    );
    assert_eq!(gpus[1].energy_j, Some(1234.5));
    assert_eq!(gpus[2].temperature_c, Some(43));
}

#[test]
fn a_gpu_without_its_driver_is_seen_on_the_bus() {
    let root = Root::new();
    for (slot, vendor, class) in [
        ("0000:01:00.0", "0x10de", "0x030000"),
        ("0000:01:00.1", "0x10de", "0x040300"),
        ("0000:41:00.0", "0x10de", "0x030200"),
        ("0000:00:1f.0", "0x8086", "0x060100"),
    ] {
        root.file(&format!("bus/pci/devices/{slot}/vendor"), vendor)
            .file(&format!("bus/pci/devices/{slot}/class"), class);
    }
    assert_eq!(
        unserved(&root.0, NVIDIA),
        ["00000000:01:00.0", "00000000:41:00.0"]
    );
    assert_eq!(unserved(&root.0, INTEL), [""; 0]);
}

#[test]
fn facts_of_processes_and_the_machine() {
    let root = Root::new();
    root.file("77/comm", "ollama\n").file(
        "meminfo",
        "MemTotal:       127600748 kB\nMemFree:         1000 kB\nMemAvailable:   118566368 kB\n",
    );
    assert_eq!(process_name(&root.0, 77).as_deref(), Some("ollama"));
    assert_eq!(process_name(&root.0, 78), None);
    assert_eq!(
        machine_memory(&root.0),
        Some((127_600_748 * 1024, 118_566_368 * 1024))
    );
}

#[test]
fn files_that_are_no_numbers_are_unknown() {
    let root = Root::new();
    let device = root.card(0, "0000:03:00.0", "amdgpu", ["0x1002", "0x744c", "0xc8"]);
    for name in [
        "mem_info_vram_total",
        "mem_info_vram_used",
        "gpu_busy_percent",
    ] {
        root.file(&format!("{device}/{name}"), [0xff, 0xfe, 0x00]);
    }
    let gpu = &amd(&root.0).gpus[0];
    assert_eq!(
        (gpu.total_bytes, gpu.used_bytes, gpu.utilization),
        (None, None, None)
    );
}
