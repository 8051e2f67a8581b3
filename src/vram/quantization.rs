//! What a person calls the quantisation of a file: `Q4_K_M`, `MXFP4`, `F16`.

use std::fmt;

use super::TensorType;

/// The mixture of tensor types that a quantiser was asked for: `general.file_type` of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileType(pub u32);

/// Added to the number when the converter guessed it from the tensors.
const GUESSED: u32 = 1024;

/// `llama_ftype` of llama.h. 4 is Ollama's number for MXFP4 (a mixture with F16 long ago); 33 to 35 are no longer written.
const NAMES: [(u32, &str); 40] = [
    (0, "F32"),
    (1, "F16"),
    (2, "Q4_0"),
    (3, "Q4_1"),
    (4, "MXFP4"),
    (7, "Q8_0"),
    (8, "Q5_0"),
    (9, "Q5_1"),
    (10, "Q2_K"),
    (11, "Q3_K_S"),
    (12, "Q3_K_M"),
    (13, "Q3_K_L"),
    (14, "Q4_K_S"),
    (15, "Q4_K_M"),
    (16, "Q5_K_S"),
    (17, "Q5_K_M"),
    (18, "Q6_K"),
    (19, "IQ2_XXS"),
    (20, "IQ2_XS"),
    (21, "Q2_K_S"),
    (22, "IQ3_XS"),
    (23, "IQ3_XXS"),
    (24, "IQ1_S"),
    (25, "IQ4_NL"),
    (26, "IQ3_S"),
    (27, "IQ3_M"),
    (28, "IQ2_S"),
    (29, "IQ2_M"),
    (30, "IQ4_XS"),
    (31, "IQ1_M"),
    (32, "BF16"),
    (33, "Q4_0_4_4"),
    (34, "Q4_0_4_8"),
    (35, "Q4_0_8_8"),
    (36, "TQ1_0"),
    (37, "TQ2_0"),
    (38, "MXFP4_MOE"),
    (39, "NVFP4"),
    (40, "Q1_0"),
    (41, "Q2_0"),
];

impl FileType {
    /// Its name as llama-quantize takes it; `None` for a number that this version does not know.
    pub fn name(self) -> Option<&'static str> {
        let number = self.0 & !GUESSED;
        (NAMES.iter().find(|(known, _)| *known == number)).map(|(_, name)| *name)
    }

    /// The mixture with this name, in any case (`q4_k_m`).
    pub fn from_name(name: &str) -> Option<Self> {
        (NAMES.iter())
            .find(|(_, known)| known.eq_ignore_ascii_case(name))
            .map(|(number, _)| Self(*number))
    }
}

/// The quantisation of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantization {
    /// As its header tells it.
    Told(FileType),
    /// The type that holds most of its bytes: the header tells none, or one that this version does not know.
    Mostly(TensorType),
}

impl fmt::Display for Quantization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Told(file_type) => match file_type.name() {
                Some(name) => f.write_str(name),
                None => write!(f, "file type {}", file_type.0),
            },
            Self::Mostly(kind) => kind.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_types_have_the_names_that_people_use() {
        assert_eq!(FileType(15).name(), Some("Q4_K_M"));
        assert_eq!(FileType(GUESSED + 18).name(), Some("Q6_K"));
        assert_eq!(FileType(5).name(), None);
        assert_eq!(FileType::from_name("q4_k_m"), Some(FileType(15)));
        assert_eq!(FileType::from_name("q4_k_x"), None);
    }

    #[test]
    fn a_quantisation_is_told_by_name_or_by_number() {
        let told = |number| Quantization::Told(FileType(number)).to_string();
        assert_eq!(told(15), "Q4_K_M");
        assert_eq!(told(99), "file type 99");
        assert_eq!(Quantization::Mostly(TensorType(99)).to_string(), "type 99");
    }
}
