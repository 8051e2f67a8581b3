//! What a header says by key, by layer and as a whole.

use super::*;

fn header(values: &[(&str, Value)], tensors: &[(&str, u32, &[u64])]) -> Header {
    Header {
        metadata: Metadata(
            values
                .iter()
                .map(|(key, value)| ((*key).to_owned(), value.clone()))
                .collect(),
        ),
        tensors: tensors
            .iter()
            .map(|(name, kind, dims)| Tensor {
                name: (*name).to_owned(),
                kind: TensorType(*kind),
                dims: dims.to_vec(),
            })
            .collect(),
        ..Header::default()
    }
}

fn arch(name: &str) -> (&str, Value) {
    ("general.architecture", Value::Text(name.to_owned()))
}

#[test]
fn a_layers_figure_comes_from_a_number_or_from_an_array() {
    let model = header(
        &[
            arch("lfm2"),
            ("lfm2.head_count", Value::Unsigned(32)),
            (
                "lfm2.head_count_kv",
                Value::Numbers(vec![0.0, 8.0, -1.0, 0.5]),
            ),
            ("lfm2.swa", Value::Bool(true)),
            ("lfm2.many", Value::Length(2000)),
        ],
        &[],
    );
    assert_eq!(model.layer_unsigned("head_count", 7), Some(32));
    assert_eq!(model.layer_unsigned("head_count_kv", 0), Some(0));
    assert_eq!(model.layer_unsigned("head_count_kv", 1), Some(8));
    assert_eq!(model.layer_unsigned("head_count_kv", 2), None, "negative");
    assert_eq!(model.layer_unsigned("head_count_kv", 3), None, "a fraction");
    assert_eq!(
        model.layer_unsigned("head_count_kv", 4),
        None,
        "past the end"
    );
    assert_eq!(model.layer_unsigned("swa", 3), Some(1));
    assert_eq!(model.layer_bool("head_count_kv", 0), Some(false));
    assert_eq!(model.layer_float("many", 0), None);
    assert_eq!(model.layer_float("absent", 0), None);
}

#[test]
fn values_have_the_type_they_are_asked_for() {
    let model = header(
        &[
            arch("x"),
            ("x.signed", Value::Signed(4)),
            ("x.below", Value::Signed(-4)),
            ("x.base", Value::Unsigned(10_000)),
            ("x.causal", Value::Bool(false)),
        ],
        &[],
    );
    assert_eq!(model.arch_unsigned("signed"), Some(4));
    assert_eq!(model.arch_unsigned("below"), None);
    assert_eq!(model.arch_float("below"), Some(-4.0));
    assert_eq!(model.arch_float("base"), Some(10_000.0));
    assert_eq!(model.arch_bool("causal"), Some(false));
    assert_eq!(model.arch_text("causal"), None);
    assert_eq!(header(&[], &[]).arch_unsigned("signed"), None);
}

#[test]
fn the_vocabulary_is_found_in_three_places() {
    let output: &[(&str, u32, &[u64])] = &[
        ("token_embd.weight", 0, &[4, 30]),
        ("output.weight", 0, &[4, 32]),
    ];
    let tokens = ("tokenizer.ggml.tokens", Value::Length(31));
    let told = ("x.vocab_size", Value::Unsigned(33));
    let size = |values: &[(&str, Value)], tensors| header(values, tensors).vocab_size();
    assert_eq!(size(&[arch("x"), told, tokens.clone()], output), Some(33));
    assert_eq!(size(&[arch("x"), tokens], output), Some(31));
    let none = ("x.vocab_size", Value::Unsigned(0));
    assert_eq!(size(&[arch("x"), none], output), Some(32));
    assert_eq!(size(&[arch("x")], output), Some(32));
    assert_eq!(size(&[arch("x")], &output[..1]), Some(30));
    assert_eq!(size(&[arch("x")], &[]), None);
}

#[test]
fn sums_are_exact_or_name_the_types_that_are_not_known() {
    let model = header(&[], &[("a", 12, &[256, 2]), ("b", 0, &[3])]);
    assert_eq!(model.tensor_bytes(), Ok(2 * 144 + 12));
    assert_eq!(model.parameters(), Some(515));
    let model = header(&[], &[("a", 99, &[256]), ("b", 0, &[3]), ("c", 99, &[1])]);
    let error = model.tensor_bytes().expect_err("a type without a size");
    assert_eq!(
        error.to_string(),
        "tensors of a type without a known size: type 99"
    );
    assert_eq!(model.parameters(), Some(260));
    assert_eq!(model.tensor_bytes_of_file(1000), 1000);
}

#[test]
fn without_a_tensor_table_the_header_tells_the_parameters() {
    let count = ("general.parameter_count", Value::Unsigned(7));
    assert_eq!(header(&[count], &[]).parameters(), Some(7));
    assert_eq!(header(&[], &[]).parameters(), None);
}

#[test]
fn the_quantisation_is_the_told_one_or_the_heaviest_type() {
    let tensors: &[(&str, u32, &[u64])] = &[("a", 12, &[1024]), ("b", 0, &[256])];
    let called = |number: Option<u64>, tensors| {
        let values = number.map(|n| ("general.file_type", Value::Unsigned(n)));
        let model = header(values.as_slice(), tensors);
        model.quantization().map(|known| known.to_string())
    };
    assert_eq!(called(Some(15), tensors).as_deref(), Some("Q4_K_M"));
    assert_eq!(called(Some(700), tensors).as_deref(), Some("F32"));
    assert_eq!(called(None, tensors).as_deref(), Some("F32"));
    assert_eq!(called(None, &[]), None);
    let unknown: &[(&str, u32, &[u64])] = &[("a", 99, &[1024]), ("b", 0, &[256])];
    assert_eq!(called(None, unknown).as_deref(), Some("type 99"));
}
