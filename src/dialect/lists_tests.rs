//! Tests of the merged lists.

use std::sync::Arc;

use super::super::wire_samples::body_of;
use super::super::{ps, show_of, show_virtual};
use super::*;
use crate::cluster::LoadedModel;

fn node(name: &str, kind: NodeKind, models: Vec<Model>) -> Node {
    Node {
        kind: Some(kind),
        state: NodeState::Up,
        models,
        ..Node::unseen(name, "http://127.0.0.1:1")
    }
}

fn snapshot(nodes: Vec<Node>) -> ClusterSnapshot {
    ClusterSnapshot {
        nodes: nodes.into_iter().map(Arc::new).collect(),
    }
}

fn no_names() -> Policy {
    Policy {
        virtual_models: Vec::new(),
        ..Policy::default()
    }
}

/// The real entry of a recorded list.
fn entry(exchange: &str, list: &str) -> String {
    let body: Value = serde_json::from_slice(&body_of(exchange)).unwrap();
    body[list][0].to_string()
}

fn ollama_model(digest: &str, modified_at: &str) -> Model {
    let listing = entry("ollama-0.32.15-cpu/tags.txt", "models");
    Model {
        name: ModelName::new("tiny"),
        id: "tiny:latest".to_owned(),
        digest: Some(digest.to_owned()),
        modified_at: Some(modified_at.to_owned()),
        listing: Some(listing),
        ..Model::default()
    }
}

fn llama_model() -> Model {
    Model {
        name: ModelName::new("small"),
        id: "small".to_owned(),
        context: Some(2048),
        size_bytes: Some(1_920_000),
        listing: Some(entry("server/v1_models.txt", "data")),
        ..Model::default()
    }
}

fn read(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap()
}

const OLD: &str = "2026-11-20T21:32:24.046523792Z";
const NEW: &str = "2026-11-21T01:00:00+02:00";

#[test]
fn one_ollama_nodes_list_is_told_in_its_own_bytes() {
    let one = snapshot(vec![node(
        "a",
        NodeKind::Ollama,
        vec![ollama_model("d1", OLD)],
    )]);
    assert_eq!(
        tags(&one, &no_names()),
        body_of("ollama-0.32.15-cpu/tags.txt")
    );
    let real = read(&body_of("ollama-0.32.15-cpu/v1_models.txt"));
    assert_eq!(
        read(&models(&one, &no_names()))["data"][0]["id"],
        real["data"][0]["id"]
    );
}

#[test]
fn without_nodes_the_lists_are_empty_and_never_null() {
    let none = ClusterSnapshot::default();
    assert_eq!(tags(&none, &no_names()), br#"{"models":[]}"#);
    assert_eq!(ps(&none), br#"{"models":[]}"#);
    assert_eq!(
        models(&none, &no_names()),
        br#"{"object":"list","data":[]}"#
    );
}

#[test]
fn the_same_model_is_listed_once_and_differing_digests_are_marked() {
    let same = snapshot(vec![
        node("a", NodeKind::Ollama, vec![ollama_model("d1", OLD)]),
        node("b", NodeKind::Ollama, vec![ollama_model("d1", NEW)]),
    ]);
    let told = read(&tags(&same, &no_names()));
    assert_eq!(told["models"].as_array().unwrap().len(), 1);
    assert_eq!(told["models"][0].get("gpurouter"), None);
    let mut newer = ollama_model("d2", NEW);
    newer.listing = newer
        .listing
        .map(|text| text.replace("\"size\":1940006", "\"size\":7"));
    let differ = snapshot(vec![
        node("a", NodeKind::Ollama, vec![ollama_model("d1", OLD)]),
        node("b", NodeKind::Ollama, vec![newer]),
    ]);
    let told = read(&tags(&differ, &no_names()));
    assert_eq!(told["models"][0]["size"], 7, "the newest wins");
    assert_eq!(told["models"][0]["gpurouter"]["digests_differ"], true);
    assert_eq!(told["models"][0]["gpurouter"]["digests"]["a"], "d1");
}

#[test]
fn a_node_that_is_down_vanishes_from_every_list() {
    let mut dead = node("a", NodeKind::Ollama, vec![ollama_model("d1", OLD)]);
    dead.state = NodeState::Down;
    dead.version = Some("0.1.0".to_owned());
    dead.loaded = vec![LoadedModel::default()];
    let dead = snapshot(vec![dead]);
    assert_eq!(tags(&dead, &no_names()), br#"{"models":[]}"#);
    assert_eq!(ps(&dead), br#"{"models":[]}"#);
    assert_eq!(read(&version(&dead))["version"], WIRE_VERSION);
    assert_eq!(model(&dead, &no_names(), "tiny").unwrap_err().status, 404);
}

#[test]
fn models_of_other_servers_and_virtual_names_have_what_ollamas_client_reads() {
    let llama = snapshot(vec![node("l", NodeKind::LlamaServer, vec![llama_model()])]);
    let told = read(&tags(&llama, &Policy::default()));
    let (auto, small) = (&told["models"][0], &told["models"][1]);
    assert_eq!(auto["name"], "auto");
    assert_eq!(small["name"], "small:latest");
    assert_eq!(small["details"]["parameter_size"], "959K");
    assert_eq!(small["details"]["quantization_level"], "F16");
    assert_eq!(small["details"]["context_length"], 2048);
    for entry in [auto, small] {
        assert!(entry["digest"].as_str().unwrap().len() >= 12);
        assert!(entry["modified_at"].as_str().unwrap().ends_with('Z'));
        assert_eq!(entry["capabilities"][0], "completion");
    }
    let told = read(&models(&llama, &Policy::default()));
    assert_eq!(told["data"][0]["id"], "auto");
    assert_eq!(told["data"][1]["meta"]["n_ctx"], 2048, "its own bytes");
}

#[test]
fn a_model_is_found_by_its_full_name_only() {
    let one = snapshot(vec![node(
        "a",
        NodeKind::Ollama,
        vec![ollama_model("d1", OLD)],
    )]);
    let mut policy = Policy::default();
    policy
        .aliases
        .insert("claude-*".to_owned(), "tiny".to_owned());
    policy.aliases.insert("gone".to_owned(), "nope".to_owned());
    let id = |id: &str| {
        model(&one, &policy, id)
            .map(|body| read(&body)["id"].as_str().unwrap().to_owned())
            .map_err(|error| error.status)
    };
    assert_eq!(id("tiny"), Ok("tiny".to_owned()));
    assert_eq!(id("tiny:latest"), Ok("tiny:latest".to_owned()));
    assert_eq!(id("auto"), Ok("auto".to_owned()));
    assert_eq!(
        id("claude-haiku-4-5-20251001"),
        Ok("claude-haiku-4-5-20251001".to_owned())
    );
    assert_eq!(id("tin"), Err(404));
    assert_eq!(id("tiny:7b"), Err(404));
    assert_eq!(id("gone"), Err(404));
}

#[test]
fn the_lowest_version_is_told_compared_as_numbers() {
    let versions = |list: &[&str]| {
        let nodes = list
            .iter()
            .map(|version| Node {
                version: Some((*version).to_owned()),
                ..node("a", NodeKind::Ollama, Vec::new())
            })
            .collect();
        read(&version(&snapshot(nodes)))["version"].clone()
    };
    assert_eq!(versions(&["0.32.15", "0.9.6"]), "0.9.6");
    assert_eq!(versions(&["0.32.15", "0.32.2-rc1"]), "0.32.2-rc1");
    assert_eq!(versions(&["main"]), WIRE_VERSION);
}

fn loaded(size: u64, expires_at: &str) -> LoadedModel {
    LoadedModel {
        name: ModelName::new("mid-qwen3"),
        size_bytes: Some(size),
        vram_bytes: Some(size / 2),
        context: Some(2048),
        expires_at: Some(expires_at.to_owned()),
        listing: Some(entry(
            "ollama-0.32.15-vulkan-llvmpipe/ps_two_models_full.txt",
            "models",
        )),
        ..LoadedModel::default()
    }
}

#[test]
fn a_model_loaded_on_two_nodes_is_one_row_with_both_told() {
    let mut a = node("a", NodeKind::Ollama, Vec::new());
    a.loaded = vec![loaded(100, "2026-11-20T21:40:03Z")];
    let one = read(&ps(&snapshot(vec![a.clone()])));
    assert_eq!(one["models"][0]["size"], 59_653_487, "its own bytes");
    let mut b = node("b", NodeKind::Ollama, Vec::new());
    b.loaded = vec![loaded(60, "2026-11-20T21:50:03Z")];
    let both = read(&ps(&snapshot(vec![a, b])));
    let rows = both["models"].as_array().unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (&rows[0]["size"], &rows[0]["size_vram"]),
        (&json!(160), &json!(80))
    );
    assert_eq!(
        rows[0]["gpurouter"]["nodes"][0]["node"], "b",
        "lives longest"
    );
    assert_eq!(rows[0]["gpurouter"]["nodes"][1]["size"], 100);
}

#[test]
fn the_row_of_several_nodes_tells_the_latest_expiry() {
    let mut a = node("a", NodeKind::Ollama, Vec::new());
    a.loaded = vec![loaded(100, "2026-11-20T21:40:03Z")];
    let mut b = node("b", NodeKind::Ollama, Vec::new());
    let mut later = loaded(60, "2026-11-20T23:50:03+02:00");
    later.listing = None;
    b.loaded = vec![later];
    let told = read(&ps(&snapshot(vec![a, b])));
    assert_eq!(told["models"][0]["expires_at"], "2026-11-20T23:50:03+02:00");
}

#[test]
fn a_llama_servers_model_is_shown_in_ollamas_shape() {
    let node = node("l", NodeKind::LlamaServer, Vec::new());
    let shown = read(&show_of(
        &node,
        &llama_model(),
        Some(&body_of("server/props.txt")),
    ));
    let architecture = shown["model_info"]["general.architecture"]
        .as_str()
        .unwrap();
    assert_eq!(
        shown["model_info"][format!("{architecture}.context_length")],
        2048
    );
    assert!(
        shown["template"]
            .as_str()
            .unwrap()
            .contains("add_generation_prompt")
    );
    assert_eq!(shown["capabilities"], json!(["completion"]));
    assert_eq!(shown["details"]["quantization_level"], "F16");
    let bare = read(&show_of(&node, &Model::default(), Some(b"not json")));
    assert_eq!(bare["template"], "");
}

#[test]
fn a_virtual_name_shows_what_all_its_models_can() {
    let both = snapshot(vec![node(
        "l",
        NodeKind::Ollama,
        vec![
            Model {
                context: Some(4096),
                capabilities: vec![Capability::Completion, Capability::Tools],
                ..llama_model()
            },
            Model {
                name: ModelName::new("tiny"),
                context: Some(8192),
                capabilities: vec![Capability::Completion, Capability::Vision],
                ..Model::default()
            },
        ],
    )]);
    let target = |model: &str| {
        Some(crate::routing::ClassTarget {
            model: model.to_owned(),
            prefer: None,
        })
    };
    let policy = Policy {
        simple: target("small"),
        complex: target("tiny"),
        ..Policy::default()
    };
    let shown = read(&show_virtual(&both, &policy, "auto:latest").unwrap());
    assert_eq!(shown["capabilities"], json!(["completion"]));
    assert_eq!(shown["model_info"]["unknown.context_length"], 4096);
    assert_eq!(show_virtual(&both, &policy, "small"), None);
}

#[test]
fn times_of_any_offset_are_compared_as_times() {
    let utc = parse_time("2026-11-20T21:32:24Z").unwrap();
    assert_eq!(parse_time("2026-11-20T23:32:24+02:00"), Some(utc));
    assert_eq!(parse_time("2026-11-20T16:02:24.000-05:30"), Some(utc));
    assert_eq!(parse_time("yesterday"), None);
    assert_eq!(parse_time(""), None);
}
