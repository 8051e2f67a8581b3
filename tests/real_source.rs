//! A real Ollama with a model made by `tests/tools/make_tiny_gguf.py`: what it says of the model and what lies in its store are what the
//! file says.

mod common;

use std::collections::BTreeMap;

use gpurouter::backend::Prober;
use gpurouter::cluster::Role;
use gpurouter::config::NodeConfig;
use gpurouter::source::{Finder, Found, Places, Spec, find};
use gpurouter::vram::{Basis, Header, Value};

use common::Scratch;
use common::fleet::{self, TinyOllama};

/// Nobody listens there: nothing may come from a registry.
const NOBODY: &str = "http://127.0.0.1:1";

fn look(model: &str, finder: &Finder<'_>) -> Found {
    let spec = Spec::parse(model).expect("a name");
    find(&spec, finder).unwrap_or_else(|error| panic!("{model}: {error}"))
}

fn tensors(header: &Header) -> BTreeMap<&str, (u32, &[u64])> {
    (header.tensors.iter())
        .map(|tensor| {
            (
                tensor.name.as_str(),
                (tensor.kind.0, tensor.dims.as_slice()),
            )
        })
        .collect()
}

/// The shape of the model: all metadata but the vocabulary's and what Ollama adds. As numbers of the file's own precision: JSON has
/// 1e-6 where the file has the nearest `f32`, and no difference between 10000 and 10000.0.
fn shape(header: &Header) -> BTreeMap<&str, String> {
    let architecture = header.architecture().expect("an architecture");
    let told = |value: &Value| match value.as_float() {
        #[expect(clippy::cast_possible_truncation, reason = "that is the point")]
        Some(number) => format!("{}", number as f32),
        None => format!("{value:?}"),
    };
    (header.metadata.0.iter())
        .filter(|(key, _)| key.starts_with(architecture))
        .map(|(key, value)| (key.as_str(), told(value)))
        .collect()
}

#[test]
fn a_real_ollama_and_its_store_say_what_the_file_says() {
    let Some(ollama) = TinyOllama::start("a_real_ollama_and_its_store_say_what_the_file_says")
    else {
        return;
    };
    let scratch = Scratch::new();
    let places = Places {
        home: Some(scratch.path().to_owned()),
        cache: Some(scratch.path().join("cache")),
        ..Places::default()
    };
    let nowhere = Finder {
        ollama_registry: NOBODY,
        huggingface: NOBODY,
        offline: true,
        ..Finder::new(&places)
    };
    let path = fleet::tiny_gguf();
    let file = look(path.to_str().expect("a path"), &nowhere);
    let written = file.header.as_ref().expect("a header");

    let prober = Prober::new();
    let config = NodeConfig {
        name: "real".to_owned(),
        url: ollama.url(),
        kind: None,
        role: Role::Any,
        gpu: None,
        vram_bytes: None,
    };
    let snapshot = prober.gather(&[config]);
    let asked = Finder {
        nodes: Some((&prober, &snapshot)),
        ..nowhere
    };
    let told = look("tiny", &asked);
    assert_eq!(told.basis, Basis::Api, "{:?}", told.tried);
    let header = told.header.as_ref().expect("a header");
    assert_eq!(tensors(header), tensors(written));
    assert_eq!(header.tensor_bytes(), written.tensor_bytes());
    assert_eq!(header.parameters(), written.parameters());
    assert_eq!(header.vocab_size(), written.vocab_size());
    assert_eq!(shape(header), shape(written));
    assert_eq!(told.ollama_params.num_ctx, Some(4096));
    assert_eq!(told.quantization, file.quantization);

    let own = Places {
        ollama_models: vec![ollama.models()],
        ..places.clone()
    };
    let stored = look(
        "ollama:tiny",
        &Finder {
            places: &own,
            ..nowhere
        },
    );
    assert_eq!(stored.basis, Basis::Header, "{:?}", stored.tried);
    // `ollama create` writes the file anew, with its tensors in another order.
    let header = stored.header.as_ref().expect("a header");
    assert!(header.metadata == written.metadata, "{header:?}");
    assert_eq!(tensors(header), tensors(written));
    assert_eq!(header.data_offset, written.data_offset);
    assert_eq!(stored.size_bytes, file.size_bytes);
    assert_eq!(stored.ollama_params.num_ctx, Some(4096));
    assert!(
        stored.source.starts_with("the local Ollama store"),
        "{}",
        stored.source
    );
}
