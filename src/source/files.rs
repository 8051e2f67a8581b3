//! What the names of GGUF files say: quantisation, projectors. The names follow a convention, not a rule; nothing here is sure.

/// The quantisation that a file's path names, in the usual capitals: `Q4_K_M`, `IQ2_XXS`, `UD-Q4_K_XL`, `BF16`, `MXFP4`. The last one
/// counts, and the file's own name before its directory's.
pub fn quantization(path: &str) -> Option<String> {
    let (directory, file) = path.rsplit_once('/').unwrap_or(("", path));
    last_word(file).or_else(|| last_word(directory))
}

fn last_word(text: &str) -> Option<String> {
    let upper = text.to_ascii_uppercase();
    let mut found = None;
    for (at, _) in upper.char_indices() {
        let before = upper[..at].chars().next_back();
        if before.is_some_and(char::is_alphanumeric) {
            continue;
        }
        let Some(length) = length_of(&upper[at..]) else {
            continue;
        };
        // `Q4_K_M` holds no second word, but its `_` would start one.
        if found.is_none_or(|(_, end)| at >= end) {
            found = Some((at, at + length));
        }
    }
    let (start, end) = found?;
    let dynamic = upper[..start].ends_with("UD-");
    let word = &upper[start..end];
    let word = word.replace("FP16", "F16").replace("FP32", "F32");
    Some(if dynamic { format!("UD-{word}") } else { word })
}

/// Bytes of the quantisation that a text in capitals starts with.
fn length_of(text: &str) -> Option<usize> {
    let whole = |length: usize| {
        let after = text[length..].chars().next();
        (!after.is_some_and(char::is_alphanumeric)).then_some(length)
    };
    for word in [
        "BF16",
        "FP16",
        "FP32",
        "F16",
        "F32",
        "MXFP4_MOE",
        "MXFP4",
        "NVFP4",
    ] {
        if text.starts_with(word)
            && let Some(length) = whole(word.len())
        {
            return Some(length);
        }
    }
    let letters = ["IQ", "TQ", "Q"]
        .into_iter()
        .find(|letters| text.starts_with(letters))?;
    let bits = text[letters.len()..]
        .bytes()
        .take_while(u8::is_ascii_digit)
        .count();
    if !(1..=2).contains(&bits) {
        return None;
    }
    let mut length = letters.len() + bits;
    // What may follow the bits, part by part.
    while let Some(rest) = text[length..].strip_prefix('_') {
        let part: &str = rest
            .split(|c: char| !c.is_ascii_alphanumeric())
            .next()
            .unwrap_or_default();
        let known = [
            "K", "S", "M", "L", "XS", "XXS", "XL", "XXL", "NL", "0", "1", "4", "8",
        ];
        if !known.contains(&part) {
            break;
        }
        length += 1 + part.len();
    }
    whole(length)
}

/// Whether the name is that of a projector (vision, audio).
pub(super) fn is_projector(path: &str) -> bool {
    file_name(path).contains("mmproj")
}

/// Whether the name is that of a GGUF file that holds no model: an importance matrix, a vocabulary, a control vector.
pub(super) fn is_no_model(path: &str) -> bool {
    let name = file_name(path);
    ["imatrix", "vocab-only", "control-vector"]
        .iter()
        .any(|word| name.contains(word))
}

fn file_name(path: &str) -> String {
    path.rsplit(['/', '\\'])
        .next()
        .unwrap_or(path)
        .to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_names_that_publishers_use() {
        for (path, quant) in [
            ("Qwen2.5-7B-Instruct-Q4_K_M.gguf", Some("Q4_K_M")),
            ("llama-2-7b.Q4_0.gguf", Some("Q4_0")),
            ("gemma-3-4b-it-UD-Q4_K_XL.gguf", Some("UD-Q4_K_XL")),
            ("m-iq2_xxs.gguf", Some("IQ2_XXS")),
            ("m-IQ4_NL.gguf", Some("IQ4_NL")),
            ("qwen2.5-0.5b-instruct-q4_k_m.gguf", Some("Q4_K_M")),
            ("BF16/m-BF16-00001-of-00002.gguf", Some("BF16")),
            ("Q8_0/m-00001-of-00002.gguf", Some("Q8_0")),
            ("ggml-model-f16.gguf", Some("F16")),
            ("m.fp16.gguf", Some("F16")),
            ("gpt-oss-20b-mxfp4.gguf", Some("MXFP4")),
            ("m-MXFP4_MOE.gguf", Some("MXFP4_MOE")),
            ("m-TQ1_0.gguf", Some("TQ1_0")),
            ("Phi-3-mini-4k-instruct-q4.gguf", Some("Q4")),
            ("m-Q4_K_M-imat.gguf", Some("Q4_K_M")),
            ("m_Q6_K.gguf", Some("Q6_K")),
            ("m-Q4_0_4_8.gguf", Some("Q4_0_4_8")),
            ("m-Q2_K_L.gguf", Some("Q2_K_L")),
            ("qwen.gguf", None),
            ("Q4K.gguf", None),
            ("model.gguf", None),
        ] {
            assert_eq!(quantization(path).as_deref(), quant, "{path}");
        }
    }

    #[test]
    fn projectors_and_matrices_are_no_models() {
        assert!(is_projector("sub/mmproj-model-F16.gguf") && is_projector("m.mmproj.gguf"));
        assert!(!is_projector("mmproj/m.gguf") && is_no_model("m.imatrix.gguf"));
    }

    proptest::proptest! {
        #[test]
        fn any_path_is_read_without_a_panic(path in "\\PC{0,40}(\\.gguf)?") {
            let _ = quantization(&path);
            let _ = (is_projector(&path), is_no_model(&path));
        }
    }
}
