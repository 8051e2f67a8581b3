//! The Ollama registry: manifests, blobs by range, and what is answered when it does not answer.

use gpurouter::source::{Finder, OllamaParams};
use gpurouter::vram::Basis;
use serde_json::json;

use super::common::Scratch;
use super::common::gguf::{Gguf, file_size, parsed, published};
use super::common::registry::{Fault, Registry};
use super::{failed, finder, found, places};

const BLOB: &str = "llama-3.1-8b.q4_k_m";

/// `tiny:8b` in a registry: a published header in a file of its real size.
fn tiny(registry: &Registry) -> String {
    let header = published(BLOB);
    let size = file_size(&header);
    let params = json!({"num_ctx": 16384, "num_gpu": -1, "stop": ["<|eot|>"]});
    let params = params.to_string().into_bytes();
    let paths = registry.ollama(
        "library/tiny:8b",
        &[
            ("model", header, size),
            ("params", params, 0),
            ("license", vec![b'x'; 9000], 0),
        ],
    );
    paths[0].clone()
}

#[test]
fn a_header_comes_by_range_and_is_kept_for_the_next_time() {
    let registry = Registry::start();
    let blob = tiny(&registry);
    let (scratch, url) = (Scratch::new(), registry.url());
    let places = places(&scratch);
    let finder = finder(&places, &url);

    let first = found("tiny:8b", &finder);
    assert_eq!(first.basis, Basis::Header);
    assert_eq!(first.header, Some(parsed(&published(BLOB))));
    assert_eq!(first.size_bytes, Some(file_size(&published(BLOB))));
    assert_eq!((first.name.as_str(), first.of_ollama), ("tiny:8b", true));
    assert_eq!(first.quantization.as_deref(), Some("Q4_K_M"));
    let params = OllamaParams {
        num_ctx: Some(16384),
        num_batch: None,
        num_gpu: Some(-1),
    };
    assert_eq!(first.ollama_params, params);
    assert!(first.warnings.is_empty(), "{:?}", first.warnings);
    assert!(
        first
            .digest
            .as_deref()
            .is_some_and(|digest| blob.ends_with(digest))
    );
    assert_eq!(registry.ranges(&blob), [(0, (4 << 20) - 1)]);
    let asked = registry.asked();
    assert!(asked.iter().all(|asked| !asked.token), "{asked:?}");
    assert_eq!(asked.len(), 3, "manifest, options, blob: {asked:?}");

    let second = found("tiny:8b", &finder);
    assert_eq!(second, first);
    assert_eq!(
        registry.counts()[&blob],
        1,
        "the blob was not asked for again"
    );
}

#[test]
fn a_vocabulary_beyond_the_first_piece_is_read_on_and_never_twice() {
    let registry = Registry::start();
    let header = Gguf::new("llama")
        .number("llama.block_count", 1)
        .vocabulary(150_000)
        .tensor("token_embd.weight", 150_000, 64)
        .bytes();
    assert!(header.len() > 5 << 20, "{} bytes", header.len());
    let size = file_size(&header);
    let paths = registry.ollama("library/wide:latest", &[("model", header.clone(), size)]);
    let (scratch, url) = (Scratch::new(), registry.url());
    let places = places(&scratch);
    let told = std::cell::RefCell::new(Vec::new());
    let progress = |at: gpurouter::source::Progress<'_>| {
        told.borrow_mut().push((at.what.to_owned(), at.done_bytes));
    };
    let finder = Finder {
        progress: &progress,
        ..finder(&places, &url)
    };

    let wide = found("ollama:wide", &finder);
    assert_eq!(wide.header, Some(parsed(&header)));
    assert_eq!(
        registry.ranges(&paths[0]),
        [(0, (4 << 20) - 1), (4 << 20, (8 << 20) - 1)],
        "each byte once"
    );
    let told = told.into_inner();
    assert!(told.len() > 10, "{told:?}");
    assert!(told.iter().all(|(what, _)| what == "header of wide:latest"));
    assert!(
        told.windows(2).all(|pair| pair[0].1 < pair[1].1),
        "{told:?}"
    );
}

#[test]
fn further_parts_are_told_apart_from_the_model() {
    let registry = Registry::start();
    let model = published("llama-3.2-1b.q8_0");
    let projector = Gguf::new("clip").tensor("v.weight", 16, 64).bytes();
    let draft = Gguf::new("llama")
        .tensor("token_embd.weight", 8, 32)
        .bytes();
    registry.ollama(
        "me/eyes:1b",
        &[
            ("model", model.clone(), file_size(&model)),
            ("projector", projector.clone(), 5000),
            ("adapter", Vec::new(), 700),
            ("draft", draft.clone(), 600),
        ],
    );
    let (scratch, url) = (Scratch::new(), registry.url());
    let places = places(&scratch);
    let eyes = found("me/eyes:1b", &finder(&places, &url));
    assert_eq!(eyes.size_bytes, Some(file_size(&model)));
    assert_eq!(eyes.adapter_bytes, 700);
    let part = eyes.projector.expect("a projector");
    assert_eq!((part.bytes, part.header), (5000, Some(parsed(&projector))));
    let part = eyes.draft.expect("a draft model");
    assert_eq!(
        (part.bytes, part.header),
        (600.max(draft.len() as u64), Some(parsed(&draft)))
    );
}

#[test]
fn weights_that_are_no_gguf_leave_the_sizes_of_the_manifest() {
    let registry = Registry::start();
    registry.ollama(
        "library/odd:1",
        &[
            ("model", vec![b'x'; 5000], 9_000),
            ("projector", vec![b'y'; 10], 100),
        ],
    );
    registry.ollama(
        "library/mlx:1",
        &[("tensor", Vec::new(), 4_000), ("tensor", Vec::new(), 3_000)],
    );
    let (scratch, url) = (Scratch::new(), registry.url());
    let places = places(&scratch);
    let finder = finder(&places, &url);
    let odd = found("odd:1", &finder);
    assert_eq!((odd.basis, odd.size_bytes), (Basis::Manifest, Some(9_100)));
    assert!(
        odd.header.is_none() && odd.warnings[0].contains("not a GGUF file"),
        "{odd:?}"
    );
    assert_eq!(
        odd.parameters,
        Some(8_000_000_000),
        "from the configuration"
    );
    let mlx = found("mlx:1", &finder);
    assert_eq!((mlx.basis, mlx.size_bytes), (Basis::Manifest, Some(7_000)));
    assert_eq!(mlx.quantization.as_deref(), Some("Q4_K_M"));
}

#[test]
fn a_model_that_runs_elsewhere_takes_nothing_here() {
    let registry = Registry::start();
    registry.ollama("library/cloud:1", &[("license", vec![b'x'], 0)]);
    let (scratch, url) = (Scratch::new(), registry.url());
    let places = places(&scratch);
    let (error, _) = failed("ollama:cloud:1", &finder(&places, &url));
    assert!(error.contains("names no weights"), "{error}");
}

#[test]
fn what_the_registry_refuses_is_told_with_the_reason() {
    let registry = Registry::start();
    tiny(&registry);
    let (scratch, url) = (Scratch::new(), registry.url());
    let places = places(&scratch);
    let finder = finder(&places, &url);
    let manifest = "/v2/library/tiny/manifests/8b";
    for (fault, text) in [
        (Fault::Status(401, ""), "access denied (401)"),
        (Fault::Status(404, ""), "has no `tiny:8b`"),
        (
            Fault::Status(429, "retry-after: 3600\r\n"),
            "too many requests (429); it asks to wait 3600 s",
        ),
        (Fault::Status(500, ""), "answered 500"),
        (Fault::Redirect("ftp://x/".to_owned()), "not followed"),
    ] {
        registry.fault(manifest, fault.clone());
        // The size in the name is what remains, and the answer says why it is no better.
        let named = found("tiny:8b", &finder);
        assert_eq!(named.basis, Basis::Name, "{fault:?}");
        assert_eq!(named.parameters, Some(8_000_000_000));
        assert!(
            named.warnings[0].contains(text),
            "{fault:?}: {:?}",
            named.warnings
        );
    }
    // Without a size in the name nothing remains, and the reason is the error.
    registry.fault(
        "/v2/library/secret/manifests/latest",
        Fault::Status(401, ""),
    );
    let (error, hint) = failed("secret", &finder);
    assert!(error.contains("access denied (401)"), "{error}");
    assert!(hint.contains("pull it with Ollama"), "{hint}");
    let (error, hint) = failed("nothing", &finder);
    assert!(
        error.contains("the Ollama registry has no `nothing:latest`"),
        "{error}"
    );
    assert!(hint.contains("check the spelling"), "{hint}");
}

#[test]
fn a_registry_that_is_busy_for_a_moment_is_asked_once_more() {
    let registry = Registry::start();
    tiny(&registry);
    let (scratch, url) = (Scratch::new(), registry.url());
    let places = places(&scratch);
    let finder = finder(&places, &url);
    let manifest = "/v2/library/tiny/manifests/8b";
    registry.fault(manifest, Fault::Times(1, 429, "retry-after: 0\r\n"));
    assert_eq!(found("tiny:8b", &finder).basis, Basis::Header);
    assert_eq!(registry.counts()[manifest], 2);
    registry.fault(manifest, Fault::Times(9, 503, "retry-after: 0\r\n"));
    assert_eq!(found("tiny:8b", &finder).basis, Basis::Name);
    assert_eq!(registry.counts()[manifest], 4, "once more, and not again");
}

#[test]
fn a_manifest_that_is_none_or_endless_is_refused() {
    let registry = Registry::start();
    registry.file("/v2/library/garbage/manifests/1", b"<html>".to_vec(), 0);
    registry.file(
        "/v2/library/endless/manifests/1",
        b"{\"layers\":[".to_vec(),
        1 << 40,
    );
    let (scratch, url) = (Scratch::new(), registry.url());
    let places = places(&scratch);
    let finder = finder(&places, &url);
    let (error, _) = failed("garbage:1", &finder);
    assert!(error.contains("the answer is no manifest"), "{error}");
    let (error, _) = failed("endless:1", &finder);
    assert!(error.contains("exceeds 4 MiB"), "{error}");
}

#[test]
fn a_blob_that_fails_leaves_the_sizes_of_the_manifest() {
    let registry = Registry::start();
    let blob = tiny(&registry);
    let (scratch, url) = (Scratch::new(), registry.url());
    let mut places = places(&scratch);
    places.cache = None;
    let finder = finder(&places, &url);
    for (fault, text) in [
        (Fault::Status(403, ""), "access denied (403)"),
        (Fault::Cut(1000), "cut at byte 3000 of"),
        (Fault::Stall(1000), "no byte within 0.7 s"),
        (
            Fault::Range("bytes 5-9/100"),
            "the server sent `bytes 5-9/100`",
        ),
    ] {
        registry.fault(&blob, fault.clone());
        let tiny = found("tiny:8b", &finder);
        assert_eq!(tiny.basis, Basis::Manifest, "{fault:?}");
        assert_eq!(tiny.size_bytes, Some(file_size(&published(BLOB))));
        assert!(
            tiny.warnings[0].contains(text),
            "{fault:?}: {:?}",
            tiny.warnings
        );
    }
}

#[test]
fn offline_is_one_line_and_the_best_that_remains() {
    let registry = Registry::start();
    tiny(&registry);
    let (scratch, url) = (Scratch::new(), registry.url());
    let places = places(&scratch);
    let known =
        |name: &gpurouter::cluster::ModelName| (name.as_str() == "my-own:latest").then_some(2500);
    let finder = Finder {
        offline: true,
        known: &known,
        ..finder(&places, &url)
    };
    let own = found("My-Own", &finder);
    assert_eq!(
        (own.basis, own.size_bytes),
        (Basis::Catalog, Some(2500 << 20))
    );
    assert_eq!(
        own.warnings,
        ["the size is that of the catalogue: the registry was not asked (offline)"]
    );
    let named = found("tiny:8b", &finder);
    assert_eq!((named.basis, named.size_bytes), (Basis::Name, None));
    for model in ["unknown", "hf:o/r", "http://127.0.0.1:1/m.gguf"] {
        let (error, hint) = failed(model, &finder);
        assert!(
            error.contains("offline") && hint.contains("--offline"),
            "{error} {hint}"
        );
    }
    assert!(registry.asked().is_empty());
}

#[test]
fn a_size_needs_nobody() {
    let scratch = Scratch::new();
    let places = places(&scratch);
    let finder = Finder {
        quant: Some("Q8_0"),
        ..finder(&places, "http://127.0.0.1:1")
    };
    let size = found("30B-A3B", &finder);
    assert_eq!(
        (size.basis, size.parameters),
        (Basis::Name, Some(30_000_000_000))
    );
    assert_eq!(
        size.named.and_then(|named| named.active),
        Some(3_000_000_000)
    );
    assert_eq!(size.quantization.as_deref(), Some("Q8_0"));
    assert!(size.warnings.is_empty() && !size.of_ollama);
}
