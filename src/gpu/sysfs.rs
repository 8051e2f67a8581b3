//! What the kernel tells without a library: AMD and Intel GPUs, and small facts of processes and the machine.

mod amd;
mod intel;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::inventory::bus_id;

pub(super) use amd::look as amd;
pub(super) use intel::look as intel;

/// PCI vendor ids.
pub(super) const NVIDIA: u32 = 0x10de;
const AMD: u32 = 0x1002;
const INTEL: u32 = 0x8086;

/// PCI classes of GPUs: VGA, 3D and other display controllers (`0x03`); AMD's Instinct cards call themselves accelerators (`0x12`).
const DISPLAY: u32 = 0x03;
const ACCELERATOR: u32 = 0x12;

/// Most cards and devices that are looked at.
const MOST_CARDS: usize = 256;
const MOST_DEVICES: usize = 4096;
/// Most bytes of a file that are read: every one of these holds a number or a word.
const LONGEST_FILE: u64 = 16 * 1024;

/// A graphics card of the kernel (`class/drm/cardN`).
#[derive(Debug, Clone)]
struct Card {
    /// Its own folder.
    path: PathBuf,
    /// That of its PCI device.
    device: PathBuf,
    vendor: u32,
}

impl Card {
    /// PCI bus id in NVML's form.
    fn bus_id(&self) -> Option<String> {
        let uevent = text(&self.device.join("uevent"));
        let slot = uevent.as_deref().and_then(|text| {
            text.lines()
                .find_map(|line| line.strip_prefix("PCI_SLOT_NAME="))
                .map(str::to_owned)
        });
        let linked = || {
            let target = fs::canonicalize(&self.device).ok()?;
            Some(target.file_name()?.to_str()?.to_owned())
        };
        slot.or_else(linked).map(|slot| bus_id(&slot))
    }

    /// Name of the kernel driver that serves it.
    fn driver(&self) -> Option<String> {
        let uevent = text(&self.device.join("uevent"))?;
        let driver = uevent
            .lines()
            .find_map(|line| line.strip_prefix("DRIVER="))?;
        Some(driver.to_owned())
    }

    /// Its sensors' folder.
    fn sensors(&self) -> Option<PathBuf> {
        entries(&self.device.join("hwmon"), MOST_CARDS)
            .into_iter()
            .next()
    }
}

/// The cards of a vendor, in the order of their numbers.
fn cards(sysfs: &Path, vendor: u32) -> Vec<Card> {
    let mut cards: Vec<(u32, Card)> = entries(&sysfs.join("class/drm"), MOST_DEVICES)
        .into_iter()
        .filter_map(|path| {
            // `card0-DP-1` is a connector of it.
            let number = path
                .file_name()?
                .to_str()?
                .strip_prefix("card")?
                .parse()
                .ok()?;
            let device = path.join("device");
            let vendor = hex(&device.join("vendor"))?;
            Some((
                number,
                Card {
                    path,
                    device,
                    vendor,
                },
            ))
        })
        .filter(|(_, card)| card.vendor == vendor)
        .collect();
    cards.sort_by_key(|(number, _)| *number);
    cards.truncate(MOST_CARDS);
    cards.into_iter().map(|(_, card)| card).collect()
}

/// PCI bus ids of that vendor's GPUs, whether a driver serves them or not.
pub(super) fn unserved(sysfs: &Path, vendor: u32) -> Vec<String> {
    let mut found: Vec<String> = entries(&sysfs.join("bus/pci/devices"), MOST_DEVICES)
        .into_iter()
        .filter(|device| hex(&device.join("vendor")) == Some(vendor))
        .filter(|device| {
            let class = hex(&device.join("class")).map(|class| class >> 16);
            matches!(class, Some(DISPLAY | ACCELERATOR))
        })
        .filter_map(|device| Some(bus_id(device.file_name()?.to_str()?)))
        .take(MOST_CARDS)
        .collect();
    found.sort();
    found
}

/// Bytes of memory of the machine, and those that can be had without swapping.
pub(super) fn machine_memory(procfs: &Path) -> Option<(u64, u64)> {
    let text = text(&procfs.join("meminfo"))?;
    let kib = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let number: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        number.checked_mul(1024)
    };
    Some((kib("MemTotal:")?, kib("MemAvailable:")?))
}

/// A process's name, where this user may read it.
pub(super) fn process_name(procfs: &Path, pid: u32) -> Option<String> {
    let name = text(&procfs.join(pid.to_string()).join("comm"))?;
    let name = name.trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// A file's text; `None` where there is none, or this card has no such figure (the kernel then fails the read).
fn text(path: &Path) -> Option<String> {
    String::from_utf8(bytes(path)?).ok()
}

/// A file's bytes.
fn bytes(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = fs::File::open(path).ok()?;
    file.take(LONGEST_FILE).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The word in a file, without the line end.
fn word(path: &Path) -> Option<String> {
    let text = text(path)?;
    let word = text.trim();
    (!word.is_empty()).then(|| word.to_owned())
}

/// A decimal number in a file.
fn number(path: &Path) -> Option<u64> {
    word(path)?.parse().ok()
}

/// A hexadecimal number in a file (`0x1002`).
fn hex(path: &Path) -> Option<u32> {
    let word = word(path)?;
    u32::from_str_radix(word.strip_prefix("0x").unwrap_or(&word), 16).ok()
}

/// A sensor in thousandths, in whole units.
fn thousandths(path: &Path) -> Option<u32> {
    u32::try_from(number(path)? / 1000).ok()
}

/// A sensor in millionths.
#[expect(
    clippy::cast_precision_loss,
    reason = "microwatts of a card and microjoules of years are far below 2^53"
)]
fn millionths(path: &Path) -> Option<f64> {
    number(path).map(|number| number as f64 / 1_000_000.0)
}

/// The paths in a folder, sorted; none where there is no such folder.
fn entries(folder: &Path, most: usize) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries
        .take(most)
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests;
