//! Nodes that have the model already.

use gpurouter::backend::Prober;
use gpurouter::cluster::{ClusterSnapshot, NodeKind};
use gpurouter::config::NodeConfig;
use gpurouter::source::Finder;
use gpurouter::vram::Basis;
use serde_json::{Value, json};

use super::common::gguf::{Gguf, file_size, parsed, published};
use super::common::registry::Registry;
use super::common::{Kind, Peer, Request, Scratch, Stub, reply};
use super::{failed, finder, found, places, write};

/// Nobody listens there.
const NOBODY: &str = "http://127.0.0.1:1";

fn snapshot(prober: &Prober, urls: &[String]) -> ClusterSnapshot {
    let nodes: Vec<NodeConfig> = (urls.iter().enumerate())
        .map(|(number, url)| NodeConfig {
            name: format!("n{number}"),
            url: url.clone(),
            kind: None,
            role: gpurouter::cluster::Role::Any,
            gpu: None,
            vram_bytes: None,
        })
        .collect();
    prober.gather(&nodes)
}

/// What a real Ollama 0.32 answered to a verbose `/api/show`.
fn described() -> Value {
    const REPLY: &str = include_str!("../data/wire/ollama-0.32.15-cpu/show_verbose.txt");
    let start = REPLY.find("{\"modelfile\"").expect("a reply");
    let mut documents = serde_json::Deserializer::from_str(&REPLY[start..]).into_iter();
    documents.next().expect("a document").expect("valid JSON")
}

fn no_more(_: &Request, peer: &mut Peer) {
    peer.send(&reply::text(404, "404 page not found"));
}

#[test]
fn an_ollama_tells_all_of_the_header_itself() {
    let stub = Stub::ollama(&["tiny:latest"], no_more);
    let mut document = described();
    document["parameters"] = json!("num_ctx                        16384\nstop \"x\"");
    stub.set_document("/api/show", document);
    let (scratch, prober) = (Scratch::new(), Prober::new());
    let snapshot = snapshot(&prober, &[stub.url()]);
    let places = places(&scratch);
    let finder = Finder {
        nodes: Some((&prober, &snapshot)),
        ..finder(&places, NOBODY)
    };
    for name in ["tiny", "Tiny:latest", "ollama:tiny"] {
        let model = found(name, &finder);
        assert_eq!((model.basis, model.of_ollama), (Basis::Api, true), "{name}");
        let header = model.header.expect("a header");
        assert_eq!(header.architecture(), Some("llama"));
        assert!(header.tensor_bytes().is_ok_and(|bytes| bytes > 0));
        assert_eq!(model.ollama_params.num_ctx, Some(16384));
        assert!(model.size_bytes.is_some() && model.digest.is_some());
        assert_eq!(
            model.source,
            format!("/api/show of node n0 ({})", stub.url())
        );
    }
    let asked = stub.probes();
    let shows = asked.iter().filter(|request| request.path() == "/api/show");
    assert!(shows.map(Request::json).all(|body| body["verbose"] == true));
    // Tags are exact.
    let (error, hint) = failed("tiny:x", &finder);
    assert!(error.contains("no node that answers has it"), "{error}");
    assert_eq!(hint, "did you mean `tiny:latest`?");
}

#[test]
fn a_vocabulary_of_many_megabytes_is_taken_from_a_node() {
    let stub = Stub::ollama(&["tiny:latest"], no_more);
    let mut document = described();
    let tokens: Vec<String> = (0..300_000).map(|token| format!("{token:030}")).collect();
    document["model_info"]["tokenizer.ggml.tokens"] = json!(tokens);
    assert!(document.to_string().len() > 9 << 20);
    stub.set_document("/api/show", document);
    let (scratch, prober) = (Scratch::new(), Prober::new());
    let snapshot = snapshot(&prober, &[stub.url()]);
    let places = places(&scratch);
    let finder = Finder {
        nodes: Some((&prober, &snapshot)),
        ..finder(&places, NOBODY)
    };
    let header = found("tiny", &finder).header.expect("a header");
    assert_eq!(header.tokens(), Some(300_000));
}

#[test]
fn a_node_that_tells_a_size_only_is_the_answer_when_nobody_tells_more() {
    let stub = Stub::ollama(&["tiny:8b"], no_more);
    let (scratch, prober) = (Scratch::new(), Prober::new());
    let snapshot = snapshot(&prober, &[stub.url()]);
    let places = places(&scratch);
    let offline = Finder {
        nodes: Some((&prober, &snapshot)),
        offline: true,
        ..finder(&places, NOBODY)
    };
    let size = snapshot.nodes[0].models[0].size_bytes;
    let sized = found("tiny:8b", &offline);
    assert_eq!((sized.basis, sized.size_bytes), (Basis::Api, size));
    assert!(size.is_some() && sized.header.is_none());
    assert!(
        sized
            .tried
            .iter()
            .any(|tried| tried.contains("tells no tensors")),
        "{:?}",
        sized.tried
    );

    let registry = Registry::start();
    let header = published("llama-3.1-8b.q4_0");
    registry.ollama(
        "library/tiny:8b",
        &[("model", header.clone(), file_size(&header))],
    );
    let url = registry.url();
    let online = Finder {
        offline: false,
        ollama_registry: &url,
        ..offline
    };
    let whole = found("tiny:8b", &online);
    assert_eq!(
        (whole.basis, whole.header),
        (Basis::Header, Some(parsed(&header)))
    );
}

#[test]
fn a_slip_of_the_pen_is_told_and_not_estimated() {
    let stub = Stub::ollama(&["llama3.1:8b"], no_more);
    let vllm = Stub::start(Kind::OpenAi, &["Org/Model-7B"], no_more);
    let (scratch, prober) = (Scratch::new(), Prober::new());
    let snapshot = snapshot(&prober, &[stub.url(), vllm.url()]);
    let places = places(&scratch);
    let registry = Registry::start();
    let url = registry.url();
    let online = Finder {
        nodes: Some((&prober, &snapshot)),
        ..finder(&places, &url)
    };
    let (error, hint) = failed("lama3.1:8b", &online);
    assert!(
        error.contains("the Ollama registry has no `lama3.1:8b`"),
        "{error}"
    );
    assert_eq!(hint, "did you mean `llama3.1:8b`?");
    // Where the registry is not asked, it may well be a model of its own.
    let offline = Finder {
        offline: true,
        ..online
    };
    let named = found("lama3.1:8b", &offline);
    assert_eq!(named.basis, Basis::Name);
    assert_eq!(named.warnings[1], "did you mean llama3.1:8b?");
    // A node has it, though it tells nothing of its size.
    let served = found("org/model-7b", &online);
    assert_eq!(
        (served.basis, served.parameters),
        (Basis::Name, Some(7_000_000_000))
    );
    assert_eq!(served.warnings.len(), 1, "{:?}", served.warnings);
}

#[test]
fn a_llama_server_on_this_machine_tells_where_its_file_is() {
    let scratch = Scratch::new();
    let header = Gguf::new("llama")
        .tensor("token_embd.weight", 64, 32)
        .bytes();
    let path = scratch.path().join("served.gguf");
    write(&path, &header, 50_000);
    let stub = Stub::llama_server("solo", no_more);
    let props = |path: &str| {
        json!({"default_generation_settings": {"n_ctx": 8192}, "total_slots": 4,
               "model_path": path, "build_info": "b11669-stub"})
    };
    stub.set_document("/props", props(path.to_str().expect("a path")));
    let entry = json!({"id": "solo", "object": "model", "owned_by": "llamacpp",
                       "meta": {"n_params": 2048, "size": 4096, "n_ctx_train": 8192}});
    stub.set_document("/v1/models", json!({"object": "list", "data": [entry]}));
    let prober = Prober::new();
    let snapshot = snapshot(&prober, &[stub.url()]);
    let places = places(&scratch);
    let finder = Finder {
        nodes: Some((&prober, &snapshot)),
        offline: true,
        ..finder(&places, NOBODY)
    };
    let solo = found("solo", &finder);
    assert_eq!(
        (solo.basis, solo.header),
        (Basis::Header, Some(parsed(&header)))
    );
    assert_eq!((solo.size_bytes, solo.of_ollama), (Some(50_000), false));

    for (path, why) in [
        ("models/served.gguf", "does not tell where"),
        ("/nowhere/m.gguf", "no such file"),
    ] {
        stub.set_document("/props", props(path));
        let sized = found("solo", &finder);
        assert_eq!((sized.basis, sized.size_bytes), (Basis::Api, Some(4096)));
        assert_eq!((sized.header, sized.parameters), (None, Some(2048)));
        assert!(sized.tried[0].contains(why), "{:?}", sized.tried);
    }
    // A name that is said to be Ollama's is not this one.
    let (error, hint) = failed("ollama:solo", &finder);
    assert!(error.contains("no such model"), "{error}");
    assert_eq!(hint, "did you mean `solo`?");
}

#[test]
fn a_node_that_is_down_is_named_and_not_asked() {
    let mut stub = Stub::ollama(&["tiny:latest"], no_more);
    let (scratch, prober) = (Scratch::new(), Prober::new());
    let mut seen = snapshot(&prober, &[stub.url()]);
    assert_eq!(seen.nodes[0].kind, Some(NodeKind::Ollama));
    stub.kill();
    let config = NodeConfig {
        name: "n0".to_owned(),
        url: seen.nodes[0].url.clone(),
        kind: None,
        role: gpurouter::cluster::Role::Any,
        gpu: None,
        vram_bytes: None,
    };
    seen.nodes = vec![prober.probe(&config, &seen.nodes[0]).into()];
    let places = places(&scratch);
    let finder = Finder {
        nodes: Some((&prober, &seen)),
        offline: true,
        ..finder(&places, NOBODY)
    };
    let (error, _) = failed("tiny", &finder);
    assert!(error.contains("node n0 has it but is down"), "{error}");
}

#[test]
fn another_gpurouter_tells_its_gpus() {
    let stub = Stub::start(Kind::OpenAi, &["m"], no_more);
    let pool = json!({"total_gpus": 1, "total_vram_bytes": 8_u64 << 30, "available_vram_bytes": 5_u64 << 30,
                      "gpu_list": [{"id": 0, "name": "RTX", "total_bytes": 8_u64 << 30, "free_bytes": 6_u64 << 30}]});
    let prober = Prober::new();
    let seen = snapshot(&prober, &[stub.url()]);
    let node = &seen.nodes[0];
    assert_eq!(node.kind, Some(NodeKind::OpenAi));
    assert_eq!(
        prober.remote_gpus(node).expect("an answer"),
        None,
        "no pool, no gpurouter"
    );
    stub.set_document("/health", json!({"status": "ok", "gpu_pool_status": pool}));
    let remote = prober
        .remote_gpus(node)
        .expect("an answer")
        .expect("a pool");
    assert_eq!(
        (remote.total_bytes, remote.available_bytes),
        (Some(8 << 30), Some(5 << 30))
    );
    assert_eq!(remote.gpus[0].node.as_deref(), Some("n0"));
    assert_eq!(remote.gpus[0].free_bytes, Some(6 << 30));
}
