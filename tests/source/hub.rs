//! Hugging Face: which file of a repository is meant, its other quantisations, and whom the token is shown.

use gpurouter::source::Finder;
use gpurouter::vram::Basis;
use serde_json::json;

use super::common::Scratch;
use super::common::gguf::{Gguf, file_size, parsed, published};
use super::common::registry::{Fault, Registry};
use super::{failed, finder, found, places};

/// A repository as publishers make them.
fn usual(registry: &Registry) {
    let real = |name: &str| {
        let header = published(name);
        let size = file_size(&header);
        (header, size)
    };
    let (q4, q4_size) = real("llama-3.1-8b.q4_k_m");
    let (q8, q8_size) = real("llama-3.1-8b.q8_0");
    let first = Gguf::new("llama")
        .split(0, 2, 2)
        .tensor("a", 32, 32)
        .bytes();
    let second = Gguf::part(1, 2, 2).tensor("b", 64, 32).bytes();
    registry.hub(
        "o/Llama-GGUF",
        &[
            ("README.md", b"text".to_vec(), 0),
            ("Llama-Q8_0.gguf", q8, q8_size),
            ("Llama-Q4_K_M.gguf", q4, q4_size),
            ("F16/Llama-F16-00001-of-00002.gguf", first, 9_000_000_000),
            ("F16/Llama-F16-00002-of-00002.gguf", second, 7_000_000_000),
            (
                "mmproj-F16.gguf",
                Gguf::new("clip").tensor("v", 32, 32).bytes(),
                800_000_000,
            ),
        ],
    );
}

#[test]
fn the_default_is_q4_k_m_and_the_others_are_listed() {
    let registry = Registry::start();
    usual(&registry);
    let (scratch, url) = (Scratch::new(), registry.url());
    let places = places(&scratch);
    let model = found("hf:o/Llama-GGUF", &finder(&places, &url));
    assert_eq!(model.basis, Basis::Header);
    assert_eq!(
        model.header,
        Some(parsed(&published("llama-3.1-8b.q4_k_m")))
    );
    assert_eq!(model.quantization.as_deref(), Some("Q4_K_M"));
    let listed: Vec<_> = (model.variants.iter())
        .map(|variant| {
            (
                variant.quantization.as_deref().unwrap_or_default(),
                variant.files,
                variant.bytes,
            )
        })
        .collect();
    assert_eq!(
        listed,
        [
            ("Q4_K_M", 1, file_size(&published("llama-3.1-8b.q4_k_m"))),
            ("Q8_0", 1, file_size(&published("llama-3.1-8b.q8_0"))),
            ("F16", 2, 16_000_000_000),
        ]
    );
    let projector = model.projector.expect("a projector");
    assert_eq!(projector.bytes, 800_000_000);
    assert!(projector.header.is_some() && model.warnings.is_empty());
    assert!(
        model
            .source
            .contains("Llama-Q4_K_M.gguf of http://127.0.0.1"),
        "{}",
        model.source
    );
    assert_eq!(registry.counts()["/api/models/o/Llama-GGUF/tree/main"], 1);
}

#[test]
fn quantisations_and_files_are_chosen_by_name() {
    let registry = Registry::start();
    usual(&registry);
    let (scratch, url) = (Scratch::new(), registry.url());
    let places = places(&scratch);
    let finder = finder(&places, &url);
    let size = |model: &str| found(model, &finder).size_bytes;
    let q8 = Some(file_size(&published("llama-3.1-8b.q8_0")));
    assert_eq!(size("hf:o/Llama-GGUF:q8_0"), q8);
    assert_eq!(size("hf.co/o/Llama-GGUF:Q8_0"), q8);
    assert_eq!(size("hf:o/Llama-GGUF/Llama-Q8_0.gguf"), q8);
    assert_eq!(
        size(&format!("{url}/o/Llama-GGUF/blob/main/Llama-Q8_0.gguf")),
        q8
    );
    assert_eq!(
        size(&format!(
            "{url}/o/Llama-GGUF/resolve/main/Llama-Q8_0.gguf?download=true"
        )),
        q8
    );
    let wished = Finder {
        quant: Some("Q8_0"),
        ..finder
    };
    assert_eq!(found("hf:o/Llama-GGUF", &wished).size_bytes, q8);
    let (error, hint) = failed("hf:o/Llama-GGUF:Q5_K_M", &finder);
    assert_eq!(
        error,
        "hf:o/Llama-GGUF:Q5_K_M has no `Q5_K_M`; it has Q4_K_M, Q8_0, F16"
    );
    assert!(hint.contains("choose one"), "{hint}");
}

#[test]
fn a_split_model_is_read_from_all_its_files_and_kept_as_one() {
    let registry = Registry::start();
    usual(&registry);
    let (scratch, url) = (Scratch::new(), registry.url());
    let places = places(&scratch);
    let finder = finder(&places, &url);
    let model = found("hf:o/Llama-GGUF:F16", &finder);
    let header = model.header.clone().expect("a header");
    assert_eq!((header.tensors.len(), header.shards), (2, 2));
    assert_eq!(model.size_bytes, Some(16_000_000_000));
    let second = "/o/Llama-GGUF/resolve/main/F16/Llama-F16-00002-of-00002.gguf";
    assert_eq!(registry.ranges(second), [(0, 256 * 1024 - 1)]);
    assert_eq!(found("hf:o/Llama-GGUF:F16", &finder), model);
    assert_eq!(registry.ranges(second).len(), 1, "kept");
}

#[test]
fn the_token_is_for_hugging_face_and_never_for_where_it_redirects_to() {
    let registry = Registry::start();
    usual(&registry);
    let path = "/o/Llama-GGUF/resolve/main/Llama-Q4_K_M.gguf";
    registry.fault(path, Fault::Elsewhere("localhost"));
    let (scratch, url) = (Scratch::new(), registry.url());
    let mut places = places(&scratch);
    places.hf_token = Some("hf_secret".to_owned());
    let model = found("hf:o/Llama-GGUF", &finder(&places, &url));
    assert_eq!(model.basis, Basis::Header);
    let (home, away): (Vec<_>, Vec<_>) =
        (registry.asked().into_iter()).partition(|asked| asked.host.starts_with("127.0.0.1"));
    assert!(
        home.len() >= 3 && home.iter().all(|asked| asked.token),
        "{home:?}"
    );
    assert_eq!(away.len(), 1, "{away:?}");
    assert!(
        !away[0].token && away[0].host.starts_with("localhost"),
        "{away:?}"
    );

    // Another server's address gets none either, nor does the Ollama registry.
    let other = format!("http://localhost:{}{path}", registry.port());
    registry.heal();
    found(&other, &finder(&places, &url));
    assert!(!registry.asked().last().expect("a request").token);
}

#[test]
fn a_long_list_is_read_to_its_end_on_the_same_server_only() {
    let registry = Registry::start();
    let header = published("llama-3.2-1b.q4_0");
    registry.hub("o/r", &[("m-Q4_0.gguf", header, 0)]);
    let first = json!([{"type": "file", "path": "README.md", "size": 1}]);
    let tree = "/api/models/o/r/tree/main";
    let second = json!([{"type": "file", "path": "m-Q4_0.gguf", "size": 5}]);
    registry.document("/next", &second);
    let (scratch, url) = (Scratch::new(), registry.url());
    let mut places = places(&scratch);
    places.hf_token = Some("hf_secret".to_owned());
    let finder = finder(&places, &url);
    // As it should be, and as a mirror says it that repeats the original's words.
    for next in [
        format!("{url}/next?cursor=1"),
        "http://elsewhere.invalid/next?cursor=1".to_owned(),
    ] {
        registry.paged(tree, &first, Some(next));
        let model = found("hf:o/r", &finder);
        assert_eq!(model.variants.len(), 1);
        assert_eq!(
            model.warnings,
            ["hf:o/r has no Q4_K_M; m-Q4_0.gguf is taken"]
        );
    }
    registry.paged(tree, &first, Some(format!("{url}{tree}")));
    let (error, _) = failed("hf:o/r", &finder);
    assert!(error.contains("list of files that ends"), "{error}");
}

#[test]
fn what_hugging_face_refuses_is_told_with_the_way_out() {
    let registry = Registry::start();
    usual(&registry);
    let tree = "/api/models/o/Llama-GGUF/tree/main";
    let (scratch, url) = (Scratch::new(), registry.url());
    let mut with_token = places(&scratch);
    with_token.hf_token = Some("hf_secret".to_owned());
    let without = places(&scratch);
    registry.fault(tree, Fault::Status(401, ""));
    let (error, hint) = failed("hf:o/Llama-GGUF", &finder(&without, &url));
    assert!(
        error.starts_with("Hugging Face: http://127.0.0.1"),
        "{error}"
    );
    assert!(hint.contains("set HF_TOKEN"), "{hint}");
    let (error, hint) = failed("hf:o/Llama-GGUF", &finder(&with_token, &url));
    assert!(
        hint.contains("licence") && !error.contains("hf_secret"),
        "{error} {hint}"
    );
    registry.fault(tree, Fault::Status(429, "retry-after: 99\r\n"));
    let (error, _) = failed("hf:o/Llama-GGUF", &finder(&without, &url));
    assert!(error.contains("asks to wait 99 s"), "{error}");
    registry.document("/api/models/o/other/tree/main", &json!({"error": "x"}));
    let (error, _) = failed("hf:o/other", &finder(&without, &url));
    assert!(error.contains("is no list of files"), "{error}");
}

#[test]
fn a_repository_without_gguf_still_has_a_size() {
    let registry = Registry::start();
    registry.hub(
        "o/base",
        &[
            ("model-00001-of-00002.safetensors", vec![1], 5_000),
            ("model-00002-of-00002.safetensors", vec![1], 3_000),
        ],
    );
    let (scratch, url) = (Scratch::new(), registry.url());
    let places = places(&scratch);
    let base = found("hf:o/base", &finder(&places, &url));
    assert_eq!(
        (base.basis, base.size_bytes),
        (Basis::Manifest, Some(8_000))
    );
    assert!(base.header.is_none() && base.warnings[0].contains("no GGUF file"));
    let (error, hint) = failed("hf:o/base:Q4_K_M", &finder(&places, &url));
    assert!(
        error.contains("has no GGUF file") && hint.contains("-GGUF"),
        "{error} {hint}"
    );
}
