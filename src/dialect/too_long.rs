//! The refusal of a prompt that does not fit, as llama.cpp words it, alone or inside Ollama's error text.

use serde_json::Value;

/// Tokens of the prompt and of the context, when the body of a 400 says that the prompt is longer than the context.
pub fn too_long(body: &[u8]) -> Option<(u64, u64)> {
    let told: Value = serde_json::from_slice(body).ok()?;
    let error = told.get("error")?;
    if let Some(found) = numbers(error) {
        return Some(found);
    }
    let inner: Value = serde_json::from_str(error.as_str()?).ok()?;
    numbers(inner.get("error")?)
}

fn numbers(error: &Value) -> Option<(u64, u64)> {
    let number = |key| error.get(key)?.as_u64();
    Some((number("n_prompt_tokens")?, number("n_ctx")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_numbers_are_found_in_llama_cpp_s_words_and_in_ollama_s() {
        let plain = r#"{"error":{"code":400,"message":"request (31470 tokens) exceeds the available context size (2048 tokens), try increasing it","type":"exceed_context_size_error","n_prompt_tokens":31470,"n_ctx":2048}}"#;
        assert_eq!(too_long(plain.as_bytes()), Some((31_470, 2048)));
        let wrapped = serde_json::json!({ "error": plain }).to_string();
        assert_eq!(too_long(wrapped.as_bytes()), Some((31_470, 2048)));
        for other in ["", "{}", r#"{"error":"no"}"#, r#"{"error":{"n_ctx":1}}"#] {
            assert_eq!(too_long(other.as_bytes()), None, "{other}");
        }
    }
}
