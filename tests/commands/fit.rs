//! `estimate` and `fit`: what a model takes and where it goes, from files, registries and nodes.

use serde_json::{Value, json};

use super::common::Sim;
use super::common::gguf::{file_size, published};
use super::common::registry::{Fault, Registry};
use super::schemas::holds;
use super::{Done, User, fits};

const MIB: u64 = 1 << 20;

/// A user whose registries are this one, and who has no node.
fn with_registry(registry: &Registry, rest: &str) -> User {
    let url = registry.url();
    User::alone(&format!(
        "[[node]]\nname = \"none\"\nurl = \"http://127.0.0.1:9\"\n[sources]\nollama_registry = \"{url}\"\nhuggingface = \"{url}\"\n{rest}"
    ))
}

fn offline(rest: &str) -> User {
    User::alone(&format!(
        "{rest}\n[[node]]\nname = \"none\"\nurl = \"http://127.0.0.1:9\"\n[sources]\noffline = true\n"
    ))
}

/// The header of a published shape as a file of the user's.
fn model_file(user: &User, name: &str) -> String {
    let path = user.scratch.path().join(format!("{name}.gguf"));
    std::fs::write(&path, published(name)).unwrap();
    path.display().to_string()
}

fn number(document: &Value, key: &str) -> u64 {
    document[key]
        .as_u64()
        .unwrap_or_else(|| panic!("{key} of {document}"))
}

#[test]
fn an_estimate_of_a_file_has_every_part_and_adds_up() {
    let user = offline("");
    let file = model_file(&user, "llama-3.1-8b.q4_k_m");
    let done = user.run(&["estimate", &file, "--ctx", "8192", "--json"]);
    let document = done.json();
    holds("estimate", &document);
    assert_eq!(document["basis"], "header", "{document}");
    // 32 layers, 8 KV heads of 128, K and V, 2 bytes: 1 GiB at 8192 tokens (mission F10).
    assert_eq!(number(&document, "kv_bytes"), 1 << 30);
    let quantised = user.run(&["estimate", &file, "--ctx", "8192", "--kv", "q8_0", "--json"]);
    assert_eq!(number(&quantised.json(), "kv_bytes"), (1 << 30) / 64 * 34);
    let parts = [
        "weights_bytes",
        "kv_bytes",
        "state_bytes",
        "compute_bytes",
        "projector_bytes",
        "draft_bytes",
    ];
    let sum: u64 = parts.iter().map(|part| number(&document, part)).sum();
    assert_eq!(number(&document, "total_bytes"), sum);
    let range = &document["total_range_bytes"];
    assert_eq!(
        number(range, "high"),
        sum + number(&document["runtime_bytes"], "high")
    );
    // The token embeddings stay in RAM, the rest is on the GPU.
    let host = number(&document["host"], "weights_bytes");
    let bytes = published("llama-3.1-8b.q4_k_m");
    let header = super::common::gguf::parsed(&bytes);
    assert_eq!(
        number(&document, "weights_bytes") + host,
        header.tensor_bytes().unwrap()
    );
    let text = user.run(&["estimate", &file]);
    assert_eq!(text.code, 0, "{text:?}");
    for part in [
        "WEIGHTS",
        "KV",
        "COMPUTE",
        "RUNTIME",
        "RAM",
        "trained for 131072 tokens",
    ] {
        assert!(text.out.contains(part), "{part}: {}", text.out);
    }
}

#[test]
fn layers_and_devices_that_are_asked_for_are_the_ones_told() {
    let user = offline("");
    let file = model_file(&user, "llama-3.1-8b.q4_k_m");
    let partly = user
        .run(&["estimate", &file, "--ngl", "10", "--json"])
        .json();
    assert_eq!(partly["devices"][0]["layers"], 10, "{partly}");
    assert!(number(&partly["host"], "kv_bytes") > 0, "{partly}");
    let two = user
        .run(&["estimate", &file, "--gpus", "6GiB,4GiB", "--json"])
        .json();
    holds("estimate", &two);
    let devices = two["devices"].as_array().unwrap();
    assert_eq!(devices.len(), 2, "{two}");
    let layers: u64 = devices.iter().map(|device| number(device, "layers")).sum();
    assert_eq!(layers, 33, "{two}");
    let weights: u64 = devices
        .iter()
        .map(|device| number(device, "weights_bytes"))
        .sum();
    assert_eq!(number(&two, "weights_bytes"), weights);
    let none = user
        .run(&["estimate", &file, "--ngl", "0", "--json"])
        .json();
    assert_eq!(
        (number(&none, "weights_bytes"), number(&none, "kv_bytes")),
        (0, 0)
    );
}

#[test]
fn a_registry_is_asked_for_the_header_only_and_its_answer_fits_or_not() {
    let registry = Registry::start();
    let header = published("llama-3.1-8b.q4_k_m");
    let size = file_size(&header);
    let blobs = registry.ollama("library/llama3.1:8b", &[("model", header, size)]);
    let user = with_registry(&registry, "");
    let done = user.run(&[
        "fit",
        "llama3.1:8b",
        "--gpus",
        "8GiB",
        "--ctx",
        "8192",
        "--json",
    ]);
    assert_eq!(done.code, 0, "{done:?}");
    let document = done.json();
    holds("fit", &document);
    assert_eq!(
        (&document["verdict"], &document["estimate"]["basis"]),
        (&json!("fits"), &json!("header"))
    );
    let read: u64 = registry
        .ranges(&blobs[0])
        .iter()
        .map(|(_, bytes)| bytes)
        .sum();
    assert!(read <= 5 * MIB, "{read} bytes of {size} were read");
    assert_eq!(
        document["run"]["command"], "ollama run llama3.1:8b",
        "{document}"
    );
    assert_eq!(document["run"]["options"]["num_ctx"], 8192);
    // 32,768 tokens of f16 KV are 4 GiB beside 4.3 GiB of weights: too much for 8 GiB, and the way out is told.
    let long = user.run(&[
        "fit",
        "ollama:llama3.1:8b",
        "--gpus",
        "8GiB",
        "--ctx",
        "32768",
        "--json",
    ]);
    assert_eq!(long.code, 1, "{long:?}");
    let document = long.json();
    holds("fit", &document);
    assert_eq!(document["verdict"], "partial");
    let cache = document["advice"]["cache"]
        .as_str()
        .expect("a type")
        .to_owned();
    let context = number(&document["advice"], "context");
    assert!((8192..32768).contains(&context), "{context}");
    // What is advised holds.
    let context = context.to_string();
    let shorter = user.run(&["fit", "llama3.1:8b", "--gpus", "8GiB", "--ctx", &context]);
    assert_eq!(shorter.code, 0, "{shorter:?}");
    let quantised = user.run(&[
        "fit",
        "llama3.1:8b",
        "--gpus",
        "8GiB",
        "--ctx",
        "32768",
        "--kv",
        &cache,
    ]);
    assert_eq!(quantised.code, 0, "{quantised:?}");
    fits_but_for_the_command(&long_text(&user));
}

fn long_text(user: &User) -> Done {
    user.run(&["fit", "llama3.1:8b", "--gpus", "8GiB", "--ctx", "32768"])
}

/// Everything fits 80 columns but the command at the end, which must be pasted as it is.
fn fits_but_for_the_command(done: &Done) {
    let text = done.out.rsplit_once("Result: ").expect("a result").0;
    fits(text);
    assert!(
        text.contains("instead") && text.contains("--kv q4_0"),
        "{text}"
    );
}

#[test]
fn a_repository_of_hugging_face_tells_its_other_quantisations() {
    let registry = Registry::start();
    let (large, small) = (
        published("llama-3.1-8b.q8_0"),
        published("llama-3.1-8b.q4_0"),
    );
    let sizes = (file_size(&large), file_size(&small));
    registry.hub(
        "owner/repo",
        &[
            ("model-Q8_0.gguf", large, sizes.0),
            ("model-Q4_0.gguf", small, sizes.1),
        ],
    );
    let user = with_registry(&registry, "");
    let done = user.run(&["fit", "hf:owner/repo:Q8_0", "--gpus", "8GiB", "--json"]);
    assert_eq!(done.code, 1, "{done:?}");
    let document = done.json();
    holds("fit", &document);
    assert_eq!(document["advice"]["variant"], "Q4_0", "{document}");
    let smaller = user.run(&["fit", "hf:owner/repo:Q4_0", "--gpus", "8GiB", "--json"]);
    assert_eq!(smaller.code, 0, "{smaller:?}");
    let command = smaller.json()["run"]["command"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        command.contains("llama-server -hf owner/repo:Q4_0 -ngl 33"),
        "{command}"
    );
}

#[test]
fn a_name_that_is_nowhere_gets_one_clear_error() {
    let registry = Registry::start();
    let user = with_registry(&registry, "");
    let done = user.run(&["fit", "no-such-model"]);
    done.refused(1, "no-such-model", "");
    // A registry that is out of reach is something else, and the table of known models answers instead.
    registry.fault("/v2/library/llama3.1/manifests/8b", Fault::Status(503, ""));
    let known = user.run(&["fit", "llama3.1:8b", "--gpus", "8GiB", "--json"]);
    assert_eq!(known.json()["estimate"]["basis"], "catalog", "{known:?}");
    user.run(&["fit", ""]).refused(2, "no model is named", "7b");
    user.run(&["estimate", "7b"])
        .refused(2, "quantisation", "--quant");
    user.run(&["estimate", "7b", "--quant", "Q9_Z"])
        .refused(2, "Q9_Z", "");
    user.run(&["estimate", "./missing.gguf"])
        .refused(1, "missing.gguf", "path");
    user.run(&[
        "estimate",
        "7b",
        "--quant",
        "Q4_0",
        "--kv",
        "q4_0",
        "--flash-attn",
        "off",
    ])
    .refused(2, "flash attention", "--kv f16");
    user.run(&["fit", "7b", "--margin", "1.5"])
        .refused(2, "0 to 1", "");
}

#[test]
fn what_is_loaded_counts_and_what_would_have_to_go_is_named() {
    let sim = Sim::start(&["--gpu", "rtx3060", "--clock", "virtual"]);
    let user = User::alone(&format!(
        "[[node]]\nname = \"live\"\nurl = \"{}\"\ngpu = \"RTX 3060\"\n[sources]\noffline = true\n",
        sim.urls[0]
    ));
    let document = user
        .run(&["fit", "qwen2.5-coder:7b", "--nodes-only", "--json"])
        .json();
    holds("fit", &document);
    let answer = &document["nodes"][0];
    assert_eq!(answer["node"], "live", "{document}");
    assert_eq!(answer["knowledge"], "card", "{document}");
    let unknown = User::alone(&format!(
        "[[node]]\nname = \"live\"\nurl = \"{}\"\n[sources]\noffline = true\n[gpu]\nenabled = false\n",
        sim.urls[0]
    ));
    let text = unknown.run(&["fit", "7b", "--quant", "Q4_K_M", "--nodes-only"]);
    fits(&text.out);
}

#[test]
fn a_text_is_counted_and_the_sources_rule_is_told_beside_it() {
    let user = User::alone("");
    let done = user.run_with(
        &["estimate", "--tokens", "-", "--json"],
        "O que é Python?\n",
    );
    let document = done.json();
    holds("tokens", &document);
    assert_eq!(
        (&document["chars4"], &document["characters"]),
        (&json!(3), &json!(15))
    );
    let empty = user.run_with(&["estimate", "--tokens", "-", "--json"], "");
    assert_eq!(empty.json()["tokens"], 0);
}

#[test]
fn a_log_that_says_something_else_fails_the_verification() {
    let user = offline("");
    let file = model_file(&user, "llama-3.2-1b.q4_0");
    let log = "load_tensors: CPU_Mapped model buffer size = 205.00 MiB\n\
               load_tensors: CUDA0 model buffer size = 727.75 MiB\n\
               llama_kv_cache: CUDA0 KV buffer size = 256.00 MiB\n\
               sched_reserve: CUDA0 compute buffer size = 254.50 MiB\n\
               sched_reserve: CUDA_Host compute buffer size = 20.02 MiB\n";
    let other = log.replace("256.00", "512.00");
    let path = user.scratch.write("other.log", &other);
    let flag = format!("--verify={}", path.display());
    let done = user.run(&["estimate", &file, "--runtime", "llama-cli", &flag, "--json"]);
    assert_eq!(done.code, 1, "{done:?}");
    holds("verify", &done.json());
    let parts = done.json()["verification"]["parts"].clone();
    let kv = parts
        .as_array()
        .unwrap()
        .iter()
        .find(|part| part["part"] == "KV and state" && part["device"] == "CUDA0");
    assert_eq!(
        (
            &kv.unwrap()["predicted_bytes"],
            &kv.unwrap()["actual_bytes"]
        ),
        (&json!(256 * MIB), &json!(512 * MIB))
    );
    let path = user.scratch.write("nothing.log", "hello\n");
    let flag = format!("--verify={}", path.display());
    user.run(&["estimate", &file, &flag])
        .refused(2, "no buffer lines", "-v");
}
