//! What the source documents promise of their own cluster: a card of 4 GB, nodes without one, one that is dead; their figures and sentences.

use serde_json::{Value, json};

use super::common::{RefusedPort, Router, Stub, reply};
use super::{Done, User, fits};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Nobody but the nodes is asked, and this machine has no GPU.
const ALONE: &str = "[sources]\noffline = true\n[gpu]\nenabled = false\n";

/// An Ollama that holds these models: name, bytes, bytes of them on the GPU.
fn ollama(held: &[(&str, u64, u64)]) -> Stub {
    let names: Vec<&str> = held.iter().map(|(name, ..)| *name).collect();
    let stub = Stub::ollama(&names, reply::healthy);
    let entry = |(name, size, vram): &(&str, u64, u64)| {
        json!({"name": name, "model": name, "size": size, "size_vram": vram, "digest": name,
               "expires_at": "2030-01-01T00:00:00Z", "context_length": 512})
    };
    let models: Vec<Value> = held.iter().map(entry).collect();
    stub.set_document("/api/ps", json!({ "models": models }));
    stub
}

fn node(name: &str, url: &str, vram: &str) -> String {
    format!("[[node]]\nname = \"{name}\"\nurl = \"{url}\"\nvram = \"{vram}\"\n")
}

/// The documents' three nodes: a dead one, the one with the card, one without a GPU.
struct Cluster {
    card: Stub,
    bare: Stub,
    dead: RefusedPort,
}

impl Cluster {
    /// With mxbai-embed-large on the card, as in the documents' samples.
    fn new() -> Self {
        Self {
            card: ollama(&[("mxbai-embed-large:latest", 705 * MIB, 705 * MIB)]),
            bare: ollama(&[]),
            dead: RefusedPort::new(),
        }
    }

    fn user(&self, keys: &str) -> User {
        let nodes = [
            node("node1", &self.dead.url(), "0B"),
            node("node2", &self.card.url(), "4GiB"),
            node("node3", &self.bare.url(), "0B"),
        ];
        User::alone(&format!("{keys}{}{ALONE}", nodes.concat()))
    }

    fn fit(&self, arguments: &[&str]) -> Done {
        let mut all = vec!["fit", "--nodes-only"];
        all.extend(arguments);
        self.user("").run(&all)
    }
}

/// The answer of that node.
fn of<'d>(document: &'d Value, node: &str) -> &'d Value {
    let nodes = document["nodes"].as_array().expect("nodes");
    nodes
        .iter()
        .find(|answer| answer["node"] == node)
        .unwrap_or_else(|| panic!("no {node} in {document}"))
}

#[test]
fn e02_memory_is_what_is_configured_or_another_router_reports_and_else_unknown() {
    let far = Router::start(&["--gpus", "24GiB"], "");
    let (told, silent) = (ollama(&[]), ollama(&[]));
    let anywhere = silent.url().replace("127.0.0.1", "0.0.0.0");
    let nodes = format!(
        "{}[[node]]\nname = \"router\"\nurl = \"{}\"\n[[node]]\nname = \"silent\"\nurl = \"{anywhere}\"\n",
        node("told", &told.url(), "4GiB"),
        far.url.replace("127.0.0.1", "0.0.0.0"),
    );
    let user = User::alone(&format!("vram_safety_margin = 0.8\n{nodes}{ALONE}"));
    let done = user.run(&["fit", "llama3.2:3b", "--nodes-only", "--json"]);
    let document = done.json();
    let usable = |name: &str| of(&document, name)["usable_bytes"].clone();
    assert_eq!(usable("told"), 3276 * MIB);
    assert_eq!(usable("router"), 19_660 * MIB, "{document}");
    // Neither 4096 nor 0.
    assert_eq!(usable("silent"), Value::Null, "{document}");
    assert_eq!(of(&document, "silent")["free_bytes"], Value::Null);
    assert_eq!(of(&document, "silent")["fits"], false);
    let text = user.run(&["fit", "llama3.2:3b", "--nodes-only"]).out;
    let row = text.lines().find(|line| line.starts_with(" silent"));
    assert!(row.is_some_and(|row| row.contains("unknown")), "{text}");
    assert!(
        !text.contains("4096MB") && !text.contains("4.0 GiB"),
        "{text}"
    );
}

#[test]
fn e03_of_4096_mib_3276_are_usable() {
    let cluster = Cluster::new();
    let document = cluster.fit(&["llama3.2:3b", "--json"]).json();
    assert_eq!(of(&document, "node2")["usable_bytes"], 3276 * MIB);
    let text = cluster.fit(&["llama3.2:3b"]).out;
    let row = text.lines().find(|line| line.starts_with(" node2"));
    assert!(row.is_some_and(|row| row.contains("3.2 GiB")), "{text}");
}

#[test]
fn e04_free_is_2571_beside_mxbai_and_3276_when_nothing_is_loaded() {
    let cluster = Cluster::new();
    let free = || {
        let document = cluster.fit(&["llama3.2:1b", "--json"]).json();
        of(&document, "node2")["free_bytes"].clone()
    };
    assert_eq!(free(), 2571 * MIB);
    cluster.card.set_document("/api/ps", json!({"models": []}));
    assert_eq!(free(), 3276 * MIB);
}

#[test]
fn e06_a_model_that_is_too_large_is_told_in_the_sources_words() {
    let cluster = Cluster::new();
    let done = cluster.fit(&["llama3.1:latest"]);
    assert_eq!(done.code, 1, "{done:?}");
    fits(&done.out);
    for line in [
        "node2: Model too large (4700MB > 3276MB usable VRAM)",
        "node3: Node has no GPU",
        "Result: Model must run on CPU, best on node3",
    ] {
        assert!(
            done.out.lines().any(|told| told == line),
            "{line}: {done:?}"
        );
    }
    assert_eq!(cluster.fit(&["llama3.2:3b"]).code, 0);
}

#[test]
fn e07_the_way_of_mxbai_is_the_node_with_the_card() {
    let done = Cluster::new().fit(&["mxbai-embed-large", "--json"]);
    assert_eq!(done.code, 0, "{done:?}");
    let document = done.json();
    let told = "Fits in 3276MB VRAM (2571MB free)";
    assert_eq!(of(&document, "node2")["reason"], told);
    assert_eq!(of(&document, "node3")["reason"], "Node has no GPU");
    let best = &document["best"];
    assert_eq!(
        (&best["node"], &best["target"], &best["reason"]),
        (&json!("node2"), &json!("GPU"), &json!(told))
    );
}

#[test]
fn e09_of_two_equal_cards_the_one_with_more_free_memory_wins() {
    let (used, free) = (ollama(&[("other", 3 * GIB, 3 * GIB)]), ollama(&[]));
    for (first, second) in [(&used, &free), (&free, &used)] {
        let nodes = node("a", &first.url(), "8GiB") + &node("b", &second.url(), "8GiB");
        let done = User::alone(&format!("{nodes}{ALONE}")).run(&[
            "fit",
            "llama3.2:1b",
            "--nodes-only",
            "--json",
        ]);
        let document = done.json();
        let wanted = if std::ptr::eq(first, &raw const free) {
            "a"
        } else {
            "b"
        };
        assert_eq!(document["best"]["node"], wanted, "{document}");
    }
}

#[test]
fn e10_what_is_too_large_goes_to_a_live_node_without_a_gpu() {
    let cluster = Cluster::new();
    let best = |user: &User| {
        let done = user.run(&["fit", "llama3.1", "--nodes-only", "--json"]);
        assert_eq!(done.code, 1, "{done:?}");
        let best = done.json()["best"].clone();
        assert_eq!(best["target"], "CPU", "{best}");
        best["node"].as_str().expect("a node").to_owned()
    };
    // The first node has no GPU either, and is dead.
    assert_eq!(best(&cluster.user("")), "node3");
    let alive = ollama(&[]);
    let nodes = [
        node("node1", &alive.url(), "0B"),
        node("node2", &cluster.card.url(), "4GiB"),
        node("node3", &cluster.bare.url(), "0B"),
    ];
    assert_eq!(
        best(&User::alone(&format!("{}{ALONE}", nodes.concat()))),
        "node1"
    );
    // A node with a GPU comes last, and is better than none.
    let nodes = node("node1", &cluster.dead.url(), "0B") + &nodes[1];
    assert_eq!(best(&User::alone(&format!("{nodes}{ALONE}"))), "node2");
}

#[test]
fn e11_the_size_of_a_model_that_the_table_does_not_know_is_the_nodes_own() {
    let stub = Stub::ollama(&["my-model"], reply::healthy);
    let size = 1_234_567_890_u64;
    let tag = json!({"name": "my-model:latest", "model": "my-model:latest", "size": size, "digest": "1",
                     "capabilities": ["completion"]});
    stub.set_document("/api/tags", json!({"models": [tag]}));
    // As a server that describes no model: nothing but the list tells.
    stub.set_document("/api/show", json!({}));
    let user = User::alone(&format!("{}{ALONE}", node("n", &stub.url(), "4GiB")));
    let done = user.run(&["fit", "my-model", "--nodes-only", "--json"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(done.json()["need_bytes"], size);
    // Nothing is known of this one, and nothing is made up.
    let unknown = user.run(&["fit", "no-such-model", "--nodes-only"]);
    unknown.refused(1, "no-such-model", "");
    assert!(!unknown.err.contains("5000"), "{unknown:?}");
}

#[test]
fn e12_a_model_with_2_of_42_gb_on_the_gpu_is_told_as_5_percent() {
    let stub = ollama(&[
        ("llama3.1:70b", 42 * GIB, 2 * GIB),
        ("mxbai-embed-large:latest", GIB, GIB),
        ("nomic-embed-text:latest", GIB, 0),
    ]);
    let user = User::alone(&format!("{}{ALONE}", node("n", &stub.url(), "8GiB")));
    let report = user.run(&["optimize", "--report-only"]).out;
    for line in [
        "  holds    llama3.1:70b (2.0 GiB): 5% GPU",
        "  holds    mxbai-embed-large:latest (1.0 GiB): on GPU",
        "  holds    nomic-embed-text:latest (0 B): on the CPU",
    ] {
        assert!(report.lines().any(|told| told == line), "{line}: {report}");
    }
    let status = user.run(&["status", "--json"]).json();
    let loaded = status["nodes"][0]["loaded"].as_array().unwrap().clone();
    let percents: Vec<&Value> = loaded.iter().map(|one| &one["gpu_percent"]).collect();
    assert_eq!(percents, [5, 100, 0]);
    let table = user.run(&["status"]).out;
    let row = table.lines().find(|line| line.starts_with(" llama3.1:70b"));
    assert!(row.is_some_and(|row| row.contains(" 5 % ")), "{table}");
}

#[test]
fn e22_the_safety_margin_counts_and_is_told() {
    let cluster = Cluster::new();
    let fit = |margin: &str| {
        let user = cluster.user(&format!("vram_safety_margin = {margin}\n"));
        let usable = user.run(&["fit", "llama3.2:3b", "--nodes-only", "--json"]);
        let usable = of(&usable.json(), "node2")["usable_bytes"].clone();
        (
            usable,
            user.run(&["fit", "llama3.2:3b", "--nodes-only"]).out,
        )
    };
    for (margin, mib, told) in [
        ("0.5", 2048, "(50% safety)"),
        ("0.8", 3276, "(80% safety)"),
        ("1.0", 4096, "(100% safety)"),
        ("0.0", 0, "(0% safety)"),
    ] {
        let (usable, text) = fit(margin);
        assert_eq!(usable, mib * MIB, "{margin}");
        assert!(text.contains(told), "{margin}: {text}");
    }
    let default = cluster.fit(&["llama3.2:3b"]).out;
    assert!(default.contains("(80% safety)"), "{default}");
    for wrong in ["1.5", "-0.1"] {
        let user = cluster.user(&format!("vram_safety_margin = {wrong}\n"));
        user.run(&["fit", "llama3.2:3b"])
            .refused(2, "gpurouter.toml:2", "");
    }
    // The first report follows it, too.
    let user = cluster.user("vram_safety_margin = 0.5\n");
    let report = user.run(&["optimize", "--report-only", "--json"]).json();
    assert_eq!(of(&report, "node2")["usable_bytes"], 2048 * MIB);
    let flag = cluster.fit(&["llama3.2:3b", "--margin", "0.5", "--json"]);
    assert_eq!(of(&flag.json(), "node2")["usable_bytes"], 2048 * MIB);
}

#[test]
fn e25_a_size_of_the_users_own_counts() {
    let stub = ollama(&[]);
    let user = User::alone(&format!(
        "[models]\n\"my-custom-model\" = 2500\n{}{ALONE}",
        node("n", &stub.url(), "4GiB")
    ));
    let done = user.run(&["fit", "my-custom-model", "--nodes-only", "--json"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert_eq!(done.json()["need_bytes"], 2500 * MIB);
    let table = user.run(&["models", "--known"]).out;
    let row = " my-custom-model     2500  2.44";
    assert!(table.lines().any(|line| line == row), "{table}");
}

#[test]
fn e26_names_are_whole_names() {
    let stub = ollama(&[]);
    let user = User::alone(&format!(
        "[models]\n\"qwen2.5:2b\" = 1600\n{}{ALONE}",
        node("n", &stub.url(), "24GiB")
    ));
    let need = |name: &str| {
        let done = user.run(&["fit", name, "--nodes-only", "--json"]);
        assert!(done.code == 0 || done.code == 1, "{name}: {done:?}");
        done.json()["need_bytes"].as_u64().expect("a size") / MIB
    };
    assert_eq!(need("llama3.1"), need("llama3.1:latest"));
    assert_eq!(need("LLAMA3.1"), 4700);
    assert_eq!(need("qwen2.5:2b"), 1600);
    // The table's 500 and 1600 are sizes of other tags; without a tag it is `latest`, which nobody knows.
    let bare = user.run(&["fit", "qwen2.5-coder", "--nodes-only"]);
    bare.refused(1, "`qwen2.5-coder`", "");
    let large = user.run(&["fit", "qwen2.5:32b", "--nodes-only"]);
    large.refused(2, "`qwen2.5:32b` does not say its quantisation", "--quant");
    let said = user.run(&["fit", "qwen2.5:32b", "--quant", "Q4_K_M", "--nodes-only"]);
    assert_eq!(said.code, 0, "{said:?}");
    // The suffix is the quantisation: 8.5 bits a weight and not the 4400 MB of the 7b tag.
    assert!(need("qwen2.5-coder:7b-instruct-q8_0") > 7000);
    assert_eq!(need("qwen2.5-coder:7b"), 4400);
    user.run(&["fit", ""]).refused(2, "no model is named", "7b");
}
