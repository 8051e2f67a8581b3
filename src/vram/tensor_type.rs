//! The tensor types of GGUF with their exact block sizes.

use std::fmt;

/// A tensor type of ggml, by its number in a GGUF file. A number that this version does not know is kept as it is: it has no name and no
/// size, and is never taken for another type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TensorType(pub u32);

/// How a type stores its elements: whole blocks, each with its scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Elements of one block; the length of a row is a multiple of it.
    pub elements: u64,
    /// Bytes of one block.
    pub bytes: u64,
}

/// The number under which Ollama's own gpt-oss files keep MXFP4.
const OLLAMA_MXFP4: u32 = 4;

/// A row of the table below: number, name, elements and bytes of a block.
type Known = (u32, &'static str, u64, u64);

/// Every type that ggml still reads (`ggml.h`, `ggml-common.h`, b11669). Numbers that are missing were removed from ggml, apart from 4:
/// Ollama's own gpt-oss files keep MXFP4 under it, with the blocks laid out differently but of the same size, and Ollama loads them as 39.
const KNOWN: [Known; 36] = [
    (0, "F32", 1, 4),
    (1, "F16", 1, 2),
    (2, "Q4_0", 32, 18),
    (3, "Q4_1", 32, 20),
    (6, "Q5_0", 32, 22),
    (7, "Q5_1", 32, 24),
    (8, "Q8_0", 32, 34),
    (9, "Q8_1", 32, 36),
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (12, "Q4_K", 256, 144),
    (13, "Q5_K", 256, 176),
    (14, "Q6_K", 256, 210),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (30, "BF16", 1, 2),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17),
    (40, "NVFP4", 64, 36),
    (41, "Q1_0", 128, 18),
    (42, "Q2_0", 64, 18),
    (OLLAMA_MXFP4, "MXFP4", 32, 17),
];

impl TensorType {
    /// 32-bit floats.
    pub const F32: Self = Self(0);
    /// 16-bit floats.
    pub const F16: Self = Self(1);
    /// Brain floats.
    pub const BF16: Self = Self(30);
    /// A type of which nothing but a name that is not ggml's was told.
    pub const UNKNOWN: Self = Self(u32::MAX);

    /// The type with this number, known or not.
    pub const fn from_id(id: u32) -> Self {
        Self(id)
    }

    /// The type with this name (`Q4_K`, `q4_k`), as ggml and Ollama's `/api/show` write it.
    pub fn from_name(name: &str) -> Option<Self> {
        KNOWN
            .iter()
            .find(|known| known.1.eq_ignore_ascii_case(name))
            .map(|known| Self(known.0))
    }

    /// Every type that has a size, each name once.
    pub fn all() -> impl Iterator<Item = Self> {
        KNOWN
            .iter()
            .map(|known| Self(known.0))
            .filter(|kind| kind.0 != OLLAMA_MXFP4)
    }

    fn known(self) -> Option<&'static Known> {
        KNOWN.iter().find(|known| known.0 == self.0)
    }

    /// ggml's name in capitals; `None` for an unknown type (its [`Display`](fmt::Display) form tells the number).
    pub fn name(self) -> Option<&'static str> {
        self.known().map(|known| known.1)
    }

    /// Its block; `None` for an unknown type.
    pub fn block(self) -> Option<Block> {
        self.known()
            .map(|&(_, _, elements, bytes)| Block { elements, bytes })
    }

    /// Bytes of a tensor of these dimensions, the row length first. `None` for an unknown type, a row that is not a whole number of blocks
    /// (ggml refuses it), and a size beyond 64 bits.
    pub fn bytes(self, dims: &[u64]) -> Option<u64> {
        let block = self.block()?;
        let (&row, rows) = dims.split_first().unwrap_or((&1, &[]));
        if row % block.elements != 0 {
            return None;
        }
        let row_bytes = (row / block.elements).checked_mul(block.bytes)?;
        rows.iter()
            .try_fold(row_bytes, |bytes, &dim| bytes.checked_mul(dim))
    }
}

/// The name, or `type 99` for a number that this version does not know.
impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None if *self == Self::UNKNOWN => f.write_str("unknown type"),
            None => write!(f, "type {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of 4,096 × 3 elements, worked out by hand from the bits per weight of each type.
    const GOLDEN: [(&str, u64); 35] = [
        ("F32", 49_152),
        ("F16", 24_576),
        ("BF16", 24_576),
        ("F64", 98_304),
        ("I8", 12_288),
        ("I16", 24_576),
        ("I32", 49_152),
        ("I64", 98_304),
        ("Q4_0", 6_912),
        ("Q4_1", 7_680),
        ("Q5_0", 8_448),
        ("Q5_1", 9_216),
        ("Q8_0", 13_056),
        ("Q8_1", 13_824),
        ("Q2_K", 4_032),
        ("Q3_K", 5_280),
        ("Q4_K", 6_912),
        ("Q5_K", 8_448),
        ("Q6_K", 10_080),
        ("Q8_K", 14_016),
        ("IQ1_S", 2_400),
        ("IQ1_M", 2_688),
        ("IQ2_XXS", 3_168),
        ("IQ2_XS", 3_552),
        ("IQ2_S", 3_936),
        ("IQ3_XXS", 4_704),
        ("IQ3_S", 5_280),
        ("IQ4_NL", 6_912),
        ("IQ4_XS", 6_528),
        ("TQ1_0", 2_592),
        ("TQ2_0", 3_168),
        ("MXFP4", 6_528),
        ("NVFP4", 6_912),
        ("Q1_0", 1_728),
        ("Q2_0", 3_456),
    ];

    #[test]
    fn every_type_has_its_exact_size() {
        for (name, bytes) in GOLDEN {
            let kind = TensorType::from_name(name).expect(name);
            assert_eq!(kind.name(), Some(name));
            assert_eq!(kind.bytes(&[4096, 3]), Some(bytes), "{name}");
        }
        assert_eq!(TensorType::all().count(), GOLDEN.len());
    }

    #[test]
    fn names_are_found_in_any_case_and_numbers_are_kept() {
        assert_eq!(TensorType::from_name("q4_k"), Some(TensorType(12)));
        assert_eq!(TensorType::from_name("MXFP4"), Some(TensorType(39)));
        assert_eq!(TensorType::from_name("Q4_K_M"), None);
        assert_eq!(TensorType::from_id(40).to_string(), "NVFP4");
    }

    #[test]
    fn the_mxfp4_of_ollamas_own_files_has_a_size() {
        let kind = TensorType::from_id(4);
        assert_eq!(kind.to_string(), "MXFP4");
        assert_eq!(kind.bytes(&[2880, 2880]), Some(2880 / 32 * 17 * 2880));
    }

    #[test]
    fn an_unknown_type_is_told_and_has_no_size() {
        for id in [5, 31, 32, 33, 36, 37, 38, 43, 99, u32::MAX] {
            let kind = TensorType::from_id(id);
            assert_eq!(kind.name(), None, "{id}");
            assert_eq!(kind.bytes(&[32, 32]), None, "{id}");
        }
        assert_eq!(TensorType::from_id(99).to_string(), "type 99");
        assert_eq!(TensorType::UNKNOWN.to_string(), "unknown type");
    }

    #[test]
    fn sizes_are_checked() {
        let q4_k = TensorType(12);
        assert_eq!(q4_k.bytes(&[255, 4]), None, "part of a block");
        assert_eq!(q4_k.bytes(&[1 << 40, 1 << 40]), None, "beyond 64 bits");
        assert_eq!(q4_k.bytes(&[256, 0]), Some(0));
        assert_eq!(TensorType::F32.bytes(&[]), Some(4), "a single number");
    }
}
