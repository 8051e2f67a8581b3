//! The GPU catalogue: what can be known of a card from its name alone.
//!
//! Figures are the makers' published ones as far as they are known here (entered by hand in November 2026; tests check that they are plausible
//! and unique, not each against its data sheet). What a driver tells of a card goes before them. Three rules where one name does not decide: a name that covers several memory sizes without saying which means the smallest; a chip that shares the machine's
//! memory is listed with its smallest configuration; cards that keep error correction inside their memory (T4, A10, L4, …) are listed with
//! what their driver then reports. A name matches whole or not at all: a laptop's chip is never the desktop card, `T4` never `T400`.

use std::collections::BTreeMap;

use serde::Serialize;

/// A card of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct GpuCard {
    /// Bytes of memory.
    pub vram_bytes: u64,
    /// Peak memory bandwidth in bytes per second.
    pub bandwidth: u64,
    /// Streaming multiprocessors (compute units, Xe cores); 0 where a user's card does not tell.
    pub multiprocessors: u32,
}

/// Who made a card, as far as its name tells; decides what a runtime adds on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Maker {
    /// NVIDIA.
    Nvidia,
    /// AMD.
    Amd,
    /// Intel.
    Intel,
    /// Apple.
    Apple,
}

/// What the catalogue or the user knows under a name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NamedCard {
    /// The name as it is printed, without the maker; the user's own spelling for the user's own cards.
    pub name: String,
    /// Who made it; `None` for a card of the user's.
    pub maker: Option<Maker>,
    /// Whether it shares the machine's memory.
    pub unified: bool,
    /// Its figures.
    pub card: GpuCard,
}

/// One row: name, the GB in its name or on its box, MiB of memory, GB/s, multiprocessors.
type Row = (&'static str, u32, u64, u64, u32);

const NVIDIA: &[Row] = &[
    ("GTX 1050", 2, 2_048, 112, 5),
    ("GTX 1050 Ti", 4, 4_096, 112, 6),
    ("GTX 1060 3GB", 3, 3_072, 192, 9),
    ("GTX 1060 6GB", 6, 6_144, 192, 10),
    ("GTX 1070", 8, 8_192, 256, 15),
    ("GTX 1070 Ti", 8, 8_192, 256, 19),
    ("GTX 1080", 8, 8_192, 320, 20),
    ("GTX 1080 Ti", 11, 11_264, 484, 28),
    ("GTX 1650", 4, 4_096, 128, 14),
    ("GTX 1650 SUPER", 4, 4_096, 192, 20),
    ("GTX 1660", 6, 6_144, 192, 22),
    ("GTX 1660 SUPER", 6, 6_144, 336, 22),
    ("GTX 1660 Ti", 6, 6_144, 288, 24),
    ("RTX 2060", 6, 6_144, 336, 30),
    ("RTX 2060 SUPER", 8, 8_192, 448, 34),
    ("RTX 2070", 8, 8_192, 448, 36),
    ("RTX 2070 SUPER", 8, 8_192, 448, 40),
    ("RTX 2080", 8, 8_192, 448, 46),
    ("RTX 2080 SUPER", 8, 8_192, 496, 48),
    ("RTX 2080 Ti", 11, 11_264, 616, 68),
    ("TITAN RTX", 24, 24_576, 672, 72),
    ("RTX 3050", 8, 8_192, 224, 20),
    ("RTX 3060", 12, 12_288, 360, 28),
    ("RTX 3060 Ti", 8, 8_192, 448, 38),
    ("RTX 3070", 8, 8_192, 448, 46),
    ("RTX 3070 Ti", 8, 8_192, 608, 48),
    ("RTX 3080 10GB", 10, 10_240, 760, 68),
    ("RTX 3080 12GB", 12, 12_288, 912, 70),
    ("RTX 3080 Ti", 12, 12_288, 912, 80),
    ("RTX 3090", 24, 24_576, 936, 82),
    ("RTX 3090 Ti", 24, 24_576, 1_008, 84),
    ("RTX 4060", 8, 8_192, 272, 24),
    ("RTX 4060 Ti 8GB", 8, 8_192, 288, 34),
    ("RTX 4060 Ti 16GB", 16, 16_384, 288, 34),
    ("RTX 4070", 12, 12_288, 504, 46),
    ("RTX 4070 SUPER", 12, 12_288, 504, 56),
    ("RTX 4070 Ti", 12, 12_288, 504, 60),
    ("RTX 4070 Ti SUPER", 16, 16_384, 672, 66),
    ("RTX 4080", 16, 16_384, 717, 76),
    ("RTX 4080 SUPER", 16, 16_384, 736, 80),
    ("RTX 4090", 24, 24_576, 1_008, 128),
    ("RTX 5050", 8, 8_192, 320, 20),
    ("RTX 5060", 8, 8_192, 448, 30),
    ("RTX 5060 Ti 8GB", 8, 8_192, 448, 36),
    ("RTX 5060 Ti 16GB", 16, 16_384, 448, 36),
    ("RTX 5070", 12, 12_288, 672, 48),
    ("RTX 5070 Ti", 16, 16_384, 896, 70),
    ("RTX 5080", 16, 16_384, 960, 84),
    ("RTX 5090", 32, 32_768, 1_792, 170),
    ("RTX 3060 Laptop", 6, 6_144, 336, 30),
    ("RTX 3070 Laptop", 8, 8_192, 448, 40),
    ("RTX 3080 Laptop 8GB", 8, 8_192, 448, 48),
    ("RTX 3080 Laptop 16GB", 16, 16_384, 448, 48),
    ("RTX 3080 Ti Laptop", 16, 16_384, 512, 58),
    ("RTX 4050 Laptop", 6, 6_144, 192, 20),
    ("RTX 4060 Laptop", 8, 8_192, 256, 24),
    ("RTX 4070 Laptop", 8, 8_192, 256, 36),
    ("RTX 4080 Laptop", 12, 12_288, 432, 58),
    ("RTX 4090 Laptop", 16, 16_384, 576, 76),
    ("RTX 5070 Laptop", 8, 8_192, 384, 36),
    ("RTX 5070 Ti Laptop", 12, 12_288, 672, 46),
    ("RTX 5080 Laptop", 16, 16_384, 896, 60),
    ("RTX 5090 Laptop", 24, 24_576, 896, 82),
    ("Quadro M4000", 8, 8_192, 192, 13),
    ("Quadro P2000", 5, 5_120, 140, 8),
    ("Quadro RTX 8000", 48, 49_152, 672, 72),
    ("RTX A2000 6GB", 6, 6_144, 288, 26),
    ("RTX A2000 12GB", 12, 12_288, 288, 26),
    ("RTX A4000", 16, 16_384, 448, 48),
    ("RTX A5000", 24, 24_576, 768, 64),
    ("RTX A6000", 48, 49_152, 768, 84),
    ("RTX 4000 Ada Generation", 20, 20_480, 360, 48),
    ("RTX 6000 Ada Generation", 48, 49_152, 960, 142),
    (
        "RTX PRO 6000 Blackwell Workstation Edition",
        96,
        98_304,
        1_792,
        188,
    ),
    (
        "RTX PRO 6000 Blackwell Max-Q Workstation Edition",
        96,
        98_304,
        1_792,
        188,
    ),
    (
        "RTX PRO 6000 Blackwell Server Edition",
        96,
        98_304,
        1_597,
        188,
    ),
    ("T4", 16, 15_360, 320, 40),
    ("P40", 24, 23_040, 346, 30),
    ("P100 PCIe 12GB", 12, 12_288, 549, 56),
    ("P100 PCIe 16GB", 16, 16_384, 732, 56),
    ("P100 SXM2 16GB", 16, 16_384, 732, 56),
    ("V100 PCIe 16GB", 16, 16_384, 900, 80),
    ("V100 PCIe 32GB", 32, 32_768, 900, 80),
    ("V100 SXM2 16GB", 16, 16_384, 900, 80),
    ("V100 SXM2 32GB", 32, 32_768, 900, 80),
    ("A10", 24, 23_028, 600, 72),
    ("A10G", 24, 23_028, 600, 80),
    ("A16", 16, 15_356, 200, 10),
    ("A30", 24, 24_576, 933, 56),
    ("A40", 48, 46_068, 696, 84),
    ("L4", 24, 23_034, 300, 58),
    ("L40S", 48, 46_068, 864, 142),
    ("A100 PCIe 40GB", 40, 40_960, 1_555, 108),
    ("A100 PCIe 80GB", 80, 81_920, 1_935, 108),
    ("A100 SXM4 40GB", 40, 40_960, 1_555, 108),
    ("A100 SXM4 80GB", 80, 81_920, 2_039, 108),
    ("H100 PCIe", 80, 81_559, 2_039, 114),
    ("H100 HBM3", 80, 81_559, 3_350, 132),
    ("H100 NVL", 94, 95_830, 3_938, 132),
    ("H200", 141, 143_771, 4_800, 132),
    ("B200", 180, 183_359, 8_000, 148),
];

const AMD: &[Row] = &[
    ("RX 6600 XT", 8, 8_192, 256, 32),
    ("RX 6700 XT", 12, 12_288, 384, 40),
    ("RX 6800", 16, 16_384, 512, 60),
    ("RX 6800 XT", 16, 16_384, 512, 72),
    ("RX 6900 XT", 16, 16_384, 512, 80),
    ("RX 7600", 8, 8_192, 288, 32),
    ("RX 7600 XT", 16, 16_384, 288, 32),
    ("RX 7700 XT", 12, 12_288, 432, 54),
    ("RX 7800 XT", 16, 16_384, 624, 60),
    ("RX 7900 XT", 20, 20_480, 800, 84),
    ("RX 7900 XTX", 24, 24_576, 960, 96),
    ("RX 9060 XT 8GB", 8, 8_192, 320, 32),
    ("RX 9060 XT 16GB", 16, 16_384, 320, 32),
    ("RX 9070", 16, 16_384, 640, 56),
    ("RX 9070 XT", 16, 16_384, 640, 64),
    ("PRO W7900", 48, 49_152, 864, 96),
    ("MI210", 64, 65_536, 1_638, 104),
    // One of its two dies: that is how drivers list them, and no tensor spans both.
    ("MI250", 64, 65_536, 1_638, 104),
    ("MI300X", 192, 196_608, 5_300, 304),
];

const INTEL: &[Row] = &[
    ("Arc A380", 6, 6_144, 186, 8),
    ("Arc A750", 8, 8_192, 512, 28),
    ("Arc A770 8GB", 8, 8_192, 512, 32),
    ("Arc A770 16GB", 16, 16_384, 560, 32),
    ("Arc B570", 10, 10_240, 380, 18),
    ("Arc B580", 12, 12_288, 456, 20),
];

/// Chips that share the machine's memory, each with its smallest configuration.
const UNIFIED: &[(Maker, Row)] = &[
    (Maker::Nvidia, ("GB10", 128, 131_072, 273, 48)),
    (Maker::Amd, ("8060S", 32, 32_768, 256, 40)),
    (Maker::Apple, ("M1", 8, 8_192, 68, 7)),
    (Maker::Apple, ("M1 Pro", 16, 16_384, 200, 14)),
    (Maker::Apple, ("M1 Max", 32, 32_768, 400, 24)),
    (Maker::Apple, ("M1 Ultra", 64, 65_536, 800, 48)),
    (Maker::Apple, ("M2", 8, 8_192, 100, 8)),
    (Maker::Apple, ("M2 Pro", 16, 16_384, 200, 16)),
    (Maker::Apple, ("M2 Max", 32, 32_768, 400, 30)),
    (Maker::Apple, ("M2 Ultra", 64, 65_536, 800, 60)),
    (Maker::Apple, ("M3", 8, 8_192, 100, 8)),
    (Maker::Apple, ("M3 Pro", 18, 18_432, 150, 14)),
    (Maker::Apple, ("M3 Max", 36, 36_864, 300, 30)),
    (Maker::Apple, ("M3 Ultra", 96, 98_304, 819, 60)),
    (Maker::Apple, ("M4", 16, 16_384, 120, 8)),
    (Maker::Apple, ("M4 Pro", 24, 24_576, 273, 16)),
    (Maker::Apple, ("M4 Max", 36, 36_864, 410, 32)),
];

/// Other names of a row, and short names that leave a choice open: they mean the slowest of what they may mean.
const ALIASES: &[(&str, &str)] = &[
    ("P100", "P100 PCIe"),
    ("V100", "V100 PCIe"),
    ("A100", "A100 PCIe"),
    ("A100 SXM", "A100 SXM4"),
    ("H100", "H100 PCIe"),
    ("H100 SXM", "H100 HBM3"),
    ("H100 SXM5", "H100 HBM3"),
    ("RTX 4000 Ada", "RTX 4000 Ada Generation"),
    ("RTX 6000 Ada", "RTX 6000 Ada Generation"),
    ("RTX PRO 6000", "RTX PRO 6000 Blackwell Server Edition"),
    (
        "RTX PRO 6000 Blackwell",
        "RTX PRO 6000 Blackwell Server Edition",
    ),
    (
        "RTX PRO 6000 Max-Q",
        "RTX PRO 6000 Blackwell Max-Q Workstation Edition",
    ),
    ("M4000", "Quadro M4000"),
    ("P2000", "Quadro P2000"),
    ("A770", "Arc A770"),
    ("A750", "Arc A750"),
    ("A380", "Arc A380"),
    ("B570", "Arc B570"),
    ("B580", "Arc B580"),
    ("W7900", "PRO W7900"),
    ("Ryzen AI Max 395", "8060S"),
];

const MIB: u64 = 1 << 20;

/// Every card of the catalogue, NVIDIA's first, each maker's as listed.
pub fn cards() -> impl Iterator<Item = NamedCard> {
    rows().map(|(maker, unified, row)| named(maker, unified, row))
}

/// The card of that name: the user's own first, then the catalogue's. Case, spaces, dashes, the maker's and the series' name ("NVIDIA `GeForce`",
/// "Tesla", "AMD Radeon", "(TM)") and a closing "GPU" or "Graphics" do not matter; everything else must be the same.
///
/// Where one name stands for several memory sizes, "16GB" in the name decides, else `total` (the bytes the driver reports), else it is
/// the smallest.
pub fn find_card(
    name: &str,
    total: Option<u64>,
    own: &BTreeMap<String, GpuCard>,
) -> Option<NamedCard> {
    let wanted = Key::of(name);
    if wanted.text.is_empty() {
        return None;
    }
    let users = own.iter().find(|(own, _)| Key::of(own) == wanted);
    if let Some((own, card)) = users {
        return Some(NamedCard {
            name: own.clone(),
            maker: None,
            unified: false,
            card: *card,
        });
    }
    let alias = ALIASES
        .iter()
        .find(|(alias, _)| is_named(alias, &wanted.text));
    let text = alias.map_or(wanted.text, |(_, row)| Key::of(row).text);
    let matching = || rows().filter(|(_, _, row)| is_named(row.0, &text));
    let found = match (wanted.gigabytes, total) {
        (Some(gigabytes), _) => matching().find(|(_, _, row)| row.1 == gigabytes),
        (None, Some(total)) => matching().min_by_key(|(_, _, row)| (row.2 * MIB).abs_diff(total)),
        (None, None) => matching().min_by_key(|(_, _, row)| row.2),
    };
    found.map(|(maker, unified, row)| named(maker, unified, row))
}

fn rows() -> impl Iterator<Item = (Maker, bool, &'static Row)> {
    let discrete = [
        (Maker::Nvidia, NVIDIA),
        (Maker::Amd, AMD),
        (Maker::Intel, INTEL),
    ];
    discrete
        .into_iter()
        .flat_map(|(maker, rows)| rows.iter().map(move |row| (maker, false, row)))
        .chain(UNIFIED.iter().map(|(maker, row)| (*maker, true, row)))
}

fn named(maker: Maker, unified: bool, row: &Row) -> NamedCard {
    let (name, _, mib, gigabytes_per_second, multiprocessors) = *row;
    NamedCard {
        name: name.to_owned(),
        maker: Some(maker),
        unified,
        card: GpuCard {
            vram_bytes: mib * MIB,
            bandwidth: gigabytes_per_second * 1_000_000_000,
            multiprocessors,
        },
    }
}

/// What of a name decides.
#[derive(Debug, PartialEq, Eq)]
struct Key {
    /// Its letters and digits, without what does not matter.
    text: String,
    /// The memory size that it names.
    gigabytes: Option<u32>,
}

impl Key {
    fn of(name: &str) -> Self {
        let plain = name
            .to_lowercase()
            .replace("(r)", " ")
            .replace("(tm)", " ")
            .replace("(c)", " ");
        let mut words: Vec<&str> = plain
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_empty() && !IGNORED.contains(word))
            .collect();
        if matches!(words.last(), Some(&("gpu" | "graphics"))) {
            words.pop();
        }
        let mut gigabytes = None;
        let mut text = String::new();
        for word in words {
            match memory(word) {
                Some(size) if gigabytes.is_none() => gigabytes = Some(size),
                _ => text.push_str(if word == "mobile" { "laptop" } else { word }),
            }
        }
        Self { text, gigabytes }
    }
}

/// Whether [`Key::of`] of a name of the table has this text; without a copy of the name, because every row is asked.
fn is_named(row: &str, text: &str) -> bool {
    let mut rest = text.as_bytes();
    for word in row.split([' ', '-']).filter(|word| !is_size(word)) {
        let Some((here, after)) = rest.split_at_checked(word.len()) else {
            return false;
        };
        if !here.eq_ignore_ascii_case(word.as_bytes()) {
            return false;
        }
        rest = after;
    }
    rest.is_empty()
}

/// Whether a word of the table is a memory size ("16GB").
fn is_size(word: &str) -> bool {
    word.strip_suffix("GB")
        .is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Words that name a maker or a series and decide nothing.
const IGNORED: [&str; 10] = [
    "nvidia",
    "geforce",
    "tesla",
    "amd",
    "ati",
    "radeon",
    "instinct",
    "intel",
    "apple",
    "corporation",
];

fn memory(word: &str) -> Option<u32> {
    word.strip_suffix("gb")
        .or_else(|| word.strip_suffix("gib"))?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn find(name: &str) -> Option<NamedCard> {
        find_card(name, None, &BTreeMap::new())
    }

    fn name(written: &str) -> String {
        find(written).map_or_else(|| format!("no {written}"), |card| card.name)
    }

    #[test]
    fn every_row_is_physically_plausible_and_found_by_its_name() {
        let all: Vec<NamedCard> = cards().collect();
        assert!((60..=200).contains(&all.len()), "{} cards", all.len());
        for row in &all {
            let card = row.card;
            let gib = card.vram_bytes / GIB;
            assert!((2..=192).contains(&gib), "{row:?}");
            assert!(
                (60_000_000_000..=8_000_000_000_000).contains(&card.bandwidth),
                "{row:?}"
            );
            assert!((5..=304).contains(&card.multiprocessors), "{row:?}");
            // Reading all of its memory once takes between 5 ms (SRAM-like) and half a second (a laptop's shared memory).
            let milliseconds = card.vram_bytes * 1000 / card.bandwidth;
            assert!((8..=550).contains(&milliseconds), "{row:?}: {milliseconds}");
            assert_eq!(find(&row.name).as_ref(), Some(row));
            let shouted = row.name.to_uppercase().replace(' ', "-");
            assert_eq!(find(&shouted).as_ref(), Some(row), "{shouted}");
        }
        for row in &all {
            // The two ways to read a name of the table agree.
            assert!(is_named(&row.name, &Key::of(&row.name).text), "{row:?}");
        }
        let mut keys: Vec<_> = all
            .iter()
            .map(|row| {
                let key = Key::of(&row.name);
                (key.text, key.gigabytes)
            })
            .collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), all.len(), "two rows of one name");
    }

    #[test]
    fn aliases_lead_to_rows_and_hide_none() {
        for (alias, row) in ALIASES {
            let row_key = Key::of(row).text;
            assert!(
                rows().any(|(_, _, row)| Key::of(row.0).text == row_key),
                "{alias} leads to no row"
            );
            assert!(
                rows().all(|(_, _, row)| Key::of(row.0).text != Key::of(alias).text),
                "{alias} hides a row"
            );
        }
    }

    #[test]
    fn names_as_drivers_report_them() {
        for (written, expected) in [
            ("NVIDIA GeForce RTX 4090", "RTX 4090"),
            ("NVIDIA GeForce RTX 4090 Laptop GPU", "RTX 4090 Laptop"),
            ("NVIDIA GeForce GTX 1060 6GB", "GTX 1060 6GB"),
            ("GeForce GTX 1050 Ti", "GTX 1050 Ti"),
            ("NVIDIA GeForce RTX 4080 SUPER", "RTX 4080 SUPER"),
            ("Quadro M4000", "Quadro M4000"),
            ("Tesla T4", "T4"),
            ("NVIDIA A100-SXM4-80GB", "A100 SXM4 80GB"),
            ("NVIDIA A100 80GB PCIe", "A100 PCIe 80GB"),
            ("NVIDIA A100-PCIE-40GB", "A100 PCIe 40GB"),
            ("Tesla V100-SXM2-32GB", "V100 SXM2 32GB"),
            ("Tesla P100-PCIE-16GB", "P100 PCIe 16GB"),
            ("NVIDIA H100 80GB HBM3", "H100 HBM3"),
            ("NVIDIA H100 PCIe", "H100 PCIe"),
            ("NVIDIA L4", "L4"),
            ("NVIDIA RTX A6000", "RTX A6000"),
            ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada Generation"),
            (
                "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition",
                "RTX PRO 6000 Blackwell Max-Q Workstation Edition",
            ),
            ("NVIDIA GB10", "GB10"),
            ("AMD Radeon RX 7900 XTX", "RX 7900 XTX"),
            ("AMD Instinct MI300X", "MI300X"),
            ("AMD Radeon 8060S Graphics", "8060S"),
            ("AMD Ryzen AI Max+ 395", "8060S"),
            ("Intel(R) Arc(TM) B580 Graphics", "Arc B580"),
            ("Apple M4 Max", "M4 Max"),
            ("rtx3060", "RTX 3060"),
            ("RTX 3060 12GB", "RTX 3060"),
        ] {
            assert_eq!(name(written), expected, "{written}");
        }
    }

    #[test]
    fn never_a_part_of_a_name() {
        for written in [
            "",
            "NVIDIA",
            "T400",
            "NVIDIA T400 4GB",
            "RTX",
            "RTX 30",
            "RTX 5060 Laptop",
            "RTX 3060 8GB",
            "GTX 1060 Max-Q",
            "NVIDIA GeForce RTX 4090 D",
            "A100X",
            "Quadro RTX 6000",
            "NVIDIA H100 PCIe MIG 1g.10gb",
        ] {
            assert_eq!(find(written), None, "{written}");
        }
        assert_ne!(
            find("RTX 5070 Laptop GPU").unwrap().card,
            find("RTX 5070").unwrap().card
        );
    }

    #[test]
    fn several_sizes_under_one_name() {
        assert_eq!(name("RTX 4060 Ti"), "RTX 4060 Ti 8GB");
        assert_eq!(name("RTX 4060 Ti 16GB"), "RTX 4060 Ti 16GB");
        assert_eq!(name("RTX 3080"), "RTX 3080 10GB");
        assert_eq!(name("A100"), "A100 PCIe 40GB");
        assert_eq!(name("A100 80GB"), "A100 PCIe 80GB");
        let told = find_card(
            "NVIDIA GeForce RTX 4060 Ti",
            Some(16_380 * MIB),
            &BTreeMap::new(),
        );
        assert_eq!(told.unwrap().name, "RTX 4060 Ti 16GB");
    }

    #[test]
    fn the_users_cards_come_first() {
        let card = GpuCard {
            vram_bytes: 22 * GIB,
            bandwidth: 616_000_000_000,
            multiprocessors: 68,
        };
        let own = BTreeMap::from([
            ("RTX 2080 Ti 22GB".to_owned(), card),
            ("rtx 3060".to_owned(), card),
        ]);
        assert_eq!(
            find_card("NVIDIA GeForce RTX 2080 Ti 22GB", None, &own)
                .unwrap()
                .card,
            card
        );
        assert_eq!(
            find_card("RTX 2080 Ti", None, &own).unwrap().maker,
            Some(Maker::Nvidia)
        );
        assert_eq!(find_card("RTX 3060", None, &own).unwrap().card, card);
    }
}
