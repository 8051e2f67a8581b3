//! Embeddings: vectors keep every digit.

use serde_json::json;

use super::*;

#[test]
fn embed_asks_for_floats_and_keeps_the_dimensions() {
    let translated = send(
        Form::OllamaEmbed,
        r#"{"model":"m","input":["a","b"],"dimensions":64,"truncate":true}"#,
    );
    assert_eq!(translated.path, "/v1/embeddings");
    assert_eq!(
        serde_json::from_slice::<Value>(&translated.body).unwrap(),
        json!({"model": "at-node", "input": ["a", "b"], "dimensions": 64, "encoding_format": "float"})
    );
}

#[test]
fn vectors_keep_every_digit_and_the_order_of_the_input() {
    let told = whole(
        Form::OllamaEmbed,
        r#"{"input":["a","b"]}"#,
        LLAMA_EMBEDDINGS,
    );
    assert!(told.starts_with(
        r#"{"model":"shown","embeddings":[[-0.032532449811697006,0.09134300798177719,"#
    ));
    assert!(
        told.ends_with(r#"0.007645179517567158]],"total_duration":9000,"prompt_eval_count":7}"#)
    );
    let swapped = br#"{"data":[{"index":1,"embedding":[2.50]},{"index":0,"embedding":[1e-7,
        1.000]}]}"#;
    let told = whole(Form::OllamaEmbed, r#"{"input":["a","b"]}"#, swapped);
    assert!(told.contains(r#""embeddings":[[1e-7,"#) && told.contains("1.000],[2.50]]"));
    assert!(!told.contains('\n') && !told.contains("prompt_eval_count"));
}

#[test]
fn the_older_form_gives_one_bare_vector() {
    let body = r#"{"model":"m","prompt":"a"}"#;
    assert_eq!(sent(Form::OllamaLegacyEmbeddings, body)["input"], "a");
    let told = whole(
        Form::OllamaLegacyEmbeddings,
        body,
        br#"{"data":[{"index":0,"embedding":[1.50]}]}"#,
    );
    assert_eq!(told, r#"{"embedding":[1.50]}"#);
    let two = send(Form::OllamaLegacyEmbeddings, body)
        .reply
        .whole(LLAMA_EMBEDDINGS, 1);
    assert!(two.is_err());
}

#[test]
fn no_input_only_loads() {
    for body in ["{}", r#"{"input":[]}"#, r#"{"input":""}"#] {
        let Ok(Action::LoadOnly { answer, .. }) = act(Form::OllamaEmbed, body) else {
            panic!("{body}");
        };
        assert_eq!(answer, br#"{"model":"shown","embeddings":[]}"#);
    }
}

#[test]
fn a_vector_that_is_not_a_list_is_refused() {
    for answer in [
        r#"{"data":[{"embedding":"AAAA"}]}"#,
        r#"{"data":1}"#,
        "{}",
        r#"{"error":{"message":"no"}}"#,
    ] {
        assert!(
            send(Form::OllamaEmbed, r#"{"input":"a"}"#)
                .reply
                .whole(answer.as_bytes(), 1)
                .is_err()
        );
    }
}
