//! Files on this machine, and the store of an Ollama.

use std::path::{Path, PathBuf};

use gpurouter::source::OllamaParams;
use gpurouter::vram::Basis;
use serde_json::json;

use super::common::Scratch;
use super::common::gguf::{Gguf, file_size, parsed, published};
use super::{Finder, failed, finder, found, places, write};

/// A registry that must not be asked: nothing listens there.
const NOBODY: &str = "http://127.0.0.1:1";

#[test]
fn a_file_is_read_from_its_header_alone() {
    let scratch = Scratch::new();
    let places = places(&scratch);
    let finder = finder(&places, NOBODY);
    let header = published("qwen3-30b-a3b.q4_k_m");
    let path = scratch.path().join("qwen.gguf");
    write(&path, &header, file_size(&header));
    let model = found(path.to_str().expect("a path"), &finder);
    assert_eq!(model.basis, Basis::Header);
    assert_eq!(model.header, Some(parsed(&header)));
    assert_eq!(model.size_bytes, Some(file_size(&header)));
    assert_eq!(model.name, "qwen.gguf");
    assert!(!model.of_ollama && model.warnings.is_empty());
    assert_eq!(found("~/qwen.gguf", &finder).header, model.header);
}

#[test]
fn any_shard_stands_for_the_whole_model() {
    let scratch = Scratch::new();
    let places = places(&scratch);
    let finder = finder(&places, NOBODY);
    let first = Gguf::new("llama")
        .split(0, 2, 2)
        .tensor("a", 32, 32)
        .bytes();
    let second = Gguf::part(1, 2, 2).tensor("b", 64, 32).bytes();
    let at = |name: &str| scratch.path().join(name);
    write(&at("m-00001-of-00002.gguf"), &first, 9_000);
    let named = |name: &str| at(name).to_str().expect("a path").to_owned();
    let (error, hint) = failed(&named("m-00001-of-00002.gguf"), &finder);
    assert!(
        error.contains("m-00002-of-00002.gguf: there is no such file"),
        "{error}"
    );
    assert_eq!(hint, "check the path");
    write(&at("m-00002-of-00002.gguf"), &second, 8_000);
    for name in ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"] {
        let model = found(&named(name), &finder);
        assert_eq!(model.size_bytes, Some(17_000));
        assert_eq!(model.header.map(|header| header.shards), Some(2));
    }
    write(&at("alone.gguf"), &first, 0);
    let (error, _) = failed(&named("alone.gguf"), &finder);
    assert!(error.contains("file 2 of 2"), "{error}");
}

#[test]
fn what_is_no_model_is_told_by_its_looks() {
    let scratch = Scratch::new();
    let places = places(&scratch);
    let finder = finder(&places, NOBODY);
    write(&scratch.path().join("page.gguf"), b"<!DOCTYPE html>", 0);
    std::fs::create_dir(scratch.path().join("d.gguf")).expect("a directory");
    for (name, text) in [
        ("page.gguf", "web page"),
        ("d.gguf", "not a file"),
        ("none.gguf", "there is no such file"),
    ] {
        let path = scratch.path().join(name);
        let (error, _) = failed(path.to_str().expect("a path"), &finder);
        assert!(error.contains(text) && error.contains(name), "{error}");
    }
}

/// Writes a model into a store as Ollama does.
fn store(root: &Path, manifest: &str, layers: &[(&str, Vec<u8>, u64)]) -> PathBuf {
    let digest = |number: usize| {
        let name = manifest
            .bytes()
            .fold(7_u64, |sum, byte| sum * 31 % 1_000_003 + u64::from(byte));
        format!("sha256:{name:032x}{number:032x}")
    };
    let mut listed = Vec::new();
    for (number, (kind, start, size)) in layers.iter().enumerate() {
        write(
            &root.join("blobs").join(digest(number).replace(':', "-")),
            start,
            *size,
        );
        listed.push(json!({
            "mediaType": format!("application/vnd.ollama.image.{kind}"),
            "digest": digest(number), "size": (*size).max(start.len() as u64),
        }));
    }
    let path = root.join("manifests").join(manifest);
    write(
        &path,
        json!({"schemaVersion": 2, "layers": listed})
            .to_string()
            .as_bytes(),
        0,
    );
    path
}

#[test]
fn a_pulled_model_is_found_in_the_store() {
    let scratch = Scratch::new();
    let places = places(&scratch);
    let finder = finder(&places, NOBODY);
    let root = scratch.path().join("models");
    let header = published("gemma-3-1b.q8_0");
    let size = file_size(&header);
    let params = br#"{"num_ctx":32768,"num_batch":256}"#.to_vec();
    store(
        &root,
        "registry.ollama.ai/library/gemma3/1b",
        &[
            ("model", header.clone(), size),
            ("params", params, 0),
            ("projector", header.clone(), 0),
        ],
    );
    store(
        &root,
        "hf.co/Me/Tiny-GGUF/Q8_0",
        &[("model", header.clone(), size)],
    );
    store(
        &root,
        "registry.ollama.ai/me/own/latest",
        &[("model", header.clone(), size)],
    );

    let model = found("gemma3:1b", &finder);
    assert_eq!((model.basis, model.size_bytes), (Basis::Header, Some(size)));
    assert_eq!(model.header, Some(parsed(&header)));
    let params = OllamaParams {
        num_ctx: Some(32768),
        num_batch: Some(256),
        num_gpu: None,
    };
    assert_eq!((model.ollama_params, model.of_ollama), (params, true));
    assert_eq!(
        model.projector.map(|part| part.bytes),
        Some(header.len() as u64)
    );
    assert!(
        model.source.starts_with("the local Ollama store"),
        "{}",
        model.source
    );

    for name in [
        "GEMMA3:1B",
        "ollama:gemma3:1b",
        "library/gemma3:1b",
        "hf.co/me/tiny-gguf:q8_0",
        "me/own",
    ] {
        assert_eq!(found(name, &finder).basis, Basis::Header, "{name}");
    }
    let offline = Finder {
        offline: true,
        ..finder
    };
    assert_eq!(found("hf:Me/Tiny-GGUF:Q8_0", &offline).basis, Basis::Header);
    // Another tag is another model.
    let (error, hint) = failed("gemma3:latest", &offline);
    assert!(error.contains("no such model"), "{error}");
    assert_eq!(hint, "did you mean `gemma3:1b`?");
    let (_, hint) = failed("gema3", &offline);
    assert_eq!(hint, "did you mean `gemma3:1b`?");
}

#[test]
fn a_damaged_store_is_told_and_passed_over() {
    let scratch = Scratch::new();
    let places = places(&scratch);
    let finder = Finder {
        offline: true,
        ..finder(&places, NOBODY)
    };
    let root = scratch.path().join("models");
    let manifest = store(
        &root,
        "registry.ollama.ai/library/a/7b",
        &[("model", b"junk".to_vec(), 900)],
    );
    let sized = found("a:7b", &finder);
    assert_eq!(
        (sized.basis, sized.size_bytes),
        (Basis::Manifest, Some(900))
    );
    assert!(
        sized.warnings[0].contains("not a GGUF file"),
        "{:?}",
        sized.warnings
    );
    std::fs::write(&manifest, "no JSON").expect("the manifest");
    let named = found("a:7b", &finder);
    assert_eq!(named.basis, Basis::Name);
    assert!(
        named.warnings[0].contains("7b is no manifest"),
        "{:?}",
        named.warnings
    );
}
