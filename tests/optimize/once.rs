//! One plan, printed or carried out.

use std::time::{Duration, Instant};

use gpurouter::sim::{Fault, FaultKind, Gpu};
use serde_json::json;

use super::common::Stub;
use super::{User, calls, fits, holds, model, nodes_of, post, spec, start};

const EMBEDDINGS: [&str; 2] = ["mxbai-embed-large", "nomic-embed-text"];

/// E13: the two embedding models are on the CPU at first; afterwards `/api/ps` says that all of them is on the GPU.
#[test]
fn priority_models_come_to_the_gpu() {
    let fleet = start(vec![spec("gpu0", 4, &EMBEDDINGS)]);
    let url = &fleet.urls()[0];
    fleet
        .node(0)
        .set_faults(vec![Fault::always(FaultKind::Cpu)]);
    post(
        &format!("{url}/api/embed"),
        &json!({"model": "mxbai-embed-large", "input": "x"}),
    );
    fleet.node(0).set_faults(Vec::new());
    assert_eq!(holds(url), ["mxbai-embed-large:latest 0%"]);

    let user = User::new(&fleet, "");
    let planned = user.optimize(&["--json"]);
    assert_eq!(planned.code, 1, "changes are due: {planned:?}");
    let due = [
        "unload gpu0 mxbai-embed-large:latest",
        "load gpu0 mxbai-embed-large:latest",
        "load gpu0 nomic-embed-text:latest",
    ];
    assert_eq!(planned.changes(), due);
    assert_eq!(planned.json()["applied"], false);
    assert_eq!(
        holds(url),
        ["mxbai-embed-large:latest 0%"],
        "a plan changes nothing"
    );

    let before = calls(fleet.node(0)).len();
    let applied = user.optimize(&["--apply"]);
    assert_eq!(applied.code, 0, "{applied:?}");
    fits(&applied.out);
    for name in EMBEDDINGS {
        let line = format!("{name}:latest is now on GPU at gpu0");
        assert!(applied.out.contains(&line), "{}", applied.out);
    }
    assert_eq!(
        holds(url),
        [
            "mxbai-embed-large:latest 100% pinned",
            "nomic-embed-text:latest 100% pinned"
        ]
    );
    assert_eq!(
        calls(fleet.node(0))[before..],
        [
            "/api/generate mxbai-embed-large:latest",
            "/api/embed mxbai-embed-large:latest",
            "/api/embed nomic-embed-text:latest"
        ],
        "unloaded, then loaded through the route for embeddings"
    );
}

/// E14
#[test]
fn a_second_time_nothing_is_loaded_or_unloaded() {
    let fleet = start(vec![spec("gpu0", 4, &EMBEDDINGS)]);
    let user = User::new(&fleet, "");
    assert_eq!(user.optimize(&["--apply"]).code, 0);
    let before = calls(fleet.node(0));
    assert_eq!(before.len(), 2);
    let again = user.optimize(&["--apply", "--json"]);
    assert_eq!((again.code, again.changes()), (0, Vec::new()));
    assert_eq!(calls(fleet.node(0)), before);
    assert_eq!(user.optimize(&[]).code, 0, "nothing is due");
}

/// E15: 1900 + 1300 + 900 on 3276 usable.
#[test]
fn priority_models_never_take_more_than_there_is() {
    let wanted = ["llama3.2:3b", "llama3.2:1b", "qwen2.5-coder:1.5b"];
    let mut node = spec("gpu0", 4, &wanted);
    // What a context takes would be more than the whole table means.
    for model in &mut node.models {
        model.kv_bytes_per_token = 0;
    }
    let fleet = start(vec![node]);
    let user = User::new(
        &fleet,
        "vram_safety_margin = 0.8\npriority_models = [\"llama3.2:3b\", \"llama3.2:1b\", \"qwen2.5-coder:1.5b\"]",
    );
    let applied = user.optimize(&["--apply", "--json"]);
    assert_eq!(applied.code, 0, "{applied:?}");
    assert_eq!(calls(fleet.node(0)).len(), 2, "two loads");
    let refused = &applied.json()["impossible"][0];
    assert_eq!(refused["model"], "qwen2.5-coder:1.5b");
    assert_eq!(refused["need_bytes"], 900_u64 << 20);
    assert_eq!(refused["largest_usable_bytes"], 3276_u64 << 20);
    assert_eq!(user.optimize(&["--apply", "--strict"]).code, 1);
    assert_eq!(calls(fleet.node(0)).len(), 2);
}

/// E38: a model that fits nowhere is told with its numbers, the others are placed all the same.
#[test]
fn a_model_that_fits_nowhere_is_told_with_the_numbers() {
    let mut node = spec("gpu0", 4, &EMBEDDINGS);
    node.models.push(gpurouter::sim::Model::named(
        "llama3.1:70b",
        Some(40_000 << 20),
    ));
    let fleet = start(vec![node]);
    let user = User::new(
        &fleet,
        "vram_safety_margin = 0.8\npriority_models = [\"llama3.1:70b\", \"codellama:13b\", \"mxbai-embed-large\"]",
    );
    let applied = user.optimize(&["--apply"]);
    assert_eq!(applied.code, 0, "{applied:?}");
    fits(&applied.out);
    let text = applied.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        text.contains("Model too large (40000MB > 3276MB usable VRAM)"),
        "{text}"
    );
    assert!(
        text.contains("Model too large (6900MB > 3276MB usable VRAM), and no node has it"),
        "{text}"
    );
    assert_eq!(
        holds(&fleet.urls()[0]),
        ["mxbai-embed-large:latest 100% pinned"]
    );
    assert_eq!(user.optimize(&["--apply", "--strict"]).code, 1);
}

/// E20, and E08 and E29 in it.
#[test]
fn a_report_tells_what_would_fit_and_changes_nothing() {
    let fleet = start(vec![
        spec("gpu0", 4, &EMBEDDINGS),
        spec("gpu1", 8, &["llama3.1"]),
    ]);
    let user = User::new(&fleet, "vram_safety_margin = 0.8");
    post(
        &format!("{}/api/embed", fleet.urls()[0]),
        &json!({"model": "mxbai-embed-large", "input": ""}),
    );
    let before = calls(fleet.node(0));
    for flag in ["--report-only", "--status"] {
        let report = user.optimize(&[flag]);
        assert_eq!(report.code, 0, "{report:?}");
        fits(&report.out);
        assert!(
            report.out.contains("holds    mxbai-embed-large:latest"),
            "{}",
            report.out
        );
        assert!(report.out.contains("Room to spare"), "{}", report.out);
    }
    let report = user.optimize(&["--report-only", "--json"]).json();
    let can = |node: usize, model: &str| {
        let list = report["nodes"][node]["can_fit"].as_array().unwrap();
        list.iter().find(|can| can["model"] == model).unwrap()["fits"].clone()
    };
    assert_eq!(can(0, "mxbai-embed-large"), true);
    assert_eq!(can(0, "llama3.1:latest"), false);
    assert_eq!(can(1, "llama3.1:latest"), true);
    assert_eq!(calls(fleet.node(0)), before);
}

/// E21
#[test]
fn two_configurations_give_two_plans() {
    let fleet = start(vec![spec("gpu0", 12, &["mxbai-embed-large", "llama3.1"])]);
    let user = User::new(&fleet, "");
    let nodes = nodes_of(&fleet);
    user.configure(
        "embeddings.toml",
        &nodes,
        "priority_models = [\"mxbai-embed-large\"]",
    );
    user.configure("chat.toml", &nodes, "priority_models = [\"llama3.1\"]");
    let plan = |file| user.optimize(&["--json", "--config", file]).changes();
    assert_eq!(
        plan("embeddings.toml"),
        ["load gpu0 mxbai-embed-large:latest"]
    );
    assert_eq!(plan("chat.toml"), ["load gpu0 llama3.1:latest"]);
}

/// E24
#[test]
fn a_configuration_that_cannot_be_used_is_refused_with_its_line() {
    let fleet = start(vec![spec("gpu0", 4, &EMBEDDINGS)]);
    for (text, told) in [
        ("priority_model = [\"m\"]", "priority_models"),
        ("priority_models = \"m\"", "priority_models"),
        ("check_interval = 0", "check_interval"),
        ("auto_optimize = \"yes\"", "auto_optimize"),
        ("vram_safety_margin = 1.5", "vram_safety_margin"),
    ] {
        let done = User::new(&fleet, text).optimize(&[]);
        assert_eq!(done.code, 2, "{text}: {done:?}");
        assert!(
            done.err.contains("gpurouter.toml:2") && done.err.contains(told),
            "{done:?}"
        );
    }
    assert_eq!(calls(fleet.node(0)), [""; 0]);
}

/// E28: 8 + 8 + 4 GB and three priority models: the embeddings are on GPUs whatever else happens, the chat model where it has room.
#[test]
fn a_cluster_of_three_has_embeddings_and_chat_on_gpus() {
    let all = ["mxbai-embed-large", "nomic-embed-text", "llama3.1"];
    let fleet = start(vec![
        spec("node1", 8, &all),
        spec("node2", 8, &all),
        spec("node3", 4, &all),
    ]);
    let user = User::new(
        &fleet,
        "vram_safety_margin = 0.8\npriority_models = [\"mxbai-embed-large\", \"nomic-embed-text\", \"llama3.1\"]",
    );
    let applied = user.optimize(&["--apply", "--json"]);
    assert_eq!(applied.code, 0, "{applied:?}");
    assert_eq!(
        applied.changes(),
        [
            "load node1 mxbai-embed-large:latest",
            "load node2 nomic-embed-text:latest",
            "load node2 llama3.1:latest"
        ],
        "as in tests/golden/residency.json"
    );
    let resident = applied.json()["resident"].as_array().unwrap().clone();
    assert_eq!(resident.len(), 3);
    assert!(resident.iter().all(|one| one["gpu_percent"] == 100));
    assert_eq!(user.optimize(&["--apply", "--json"]).changes(), [""; 0]);
}

/// E31: a load that takes too long is given up after the configured time, and the others are not held up.
#[test]
fn a_load_has_a_time_limit_and_holds_nobody_up() {
    let mut slow = spec("slow", 8, &["llama3.1"]);
    slow.hardware.load_time = Some(Duration::from_secs(120));
    let fleet = start(vec![slow, spec("fast", 4, &["mxbai-embed-large"])]);
    let user = User::new(
        &fleet,
        "priority_models = [\"llama3.1\", \"mxbai-embed-large\"]",
    );
    user.configure(
        "gpurouter.toml",
        &(nodes_of(&fleet) + "[timeouts]\nload = \"1s\"\n"),
        "priority_models = [\"llama3.1\", \"mxbai-embed-large\"]",
    );
    let applied = user.optimize(&["--apply"]);
    assert_eq!(applied.code, 1, "{applied:?}");
    fits(&applied.out);
    assert!(
        applied
            .out
            .contains("mxbai-embed-large:latest is now on GPU at fast"),
        "{applied:?}"
    );
    let text = applied.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        text.contains("load of llama3.1:latest at slow: no complete answer within 1.0 s"),
        "{text}"
    );
    assert!(text.contains("1 change made, 1 failed"), "{text}");
}

/// E34: a node that takes connections and says nothing delays a plan by its own limit and nothing else.
#[test]
fn a_black_hole_among_the_nodes_stops_nobody() {
    let fleet = start(vec![spec("gpu0", 4, &EMBEDDINGS)]);
    let hole = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let user = User::new(&fleet, "");
    let nodes = format!(
        "[[node]]\nname = \"hole\"\nurl = \"http://{}\"\nvram = \"24GiB\"\n{}",
        hole.local_addr().unwrap(),
        nodes_of(&fleet)
    );
    user.configure("gpurouter.toml", &nodes, "");
    let began = Instant::now();
    let applied = user.optimize(&["--apply", "--json"]);
    eprintln!("with a black hole: {:?}", began.elapsed());
    assert_eq!(applied.code, 0, "{applied:?}");
    assert_eq!(applied.json()["nodes"][0]["state"], "down");
    assert_eq!(holds(&fleet.urls()[0]).len(), 2);
    // The limit of one look is 5 s; this is no measurement but the proof that limits do not add up.
    assert!(began.elapsed() < Duration::from_secs(20));
}

/// No node at all: exit 3 with a way out, the document all the same.
#[test]
fn nodes_that_do_not_answer_are_exit_code_3() {
    let fleet = start(vec![spec("gpu0", 4, &EMBEDDINGS)]);
    fleet.kill(0);
    let done = User::new(&fleet, "").optimize(&["--json"]);
    assert_eq!(done.code, 3, "{done:?}");
    assert!(
        done.err.starts_with("error: no node answers\nhint: "),
        "{done:?}"
    );
    assert_eq!(done.json()["nodes"][0]["state"], "down");
}

/// E37: whatever is wanted and wherever it is, nothing is pulled, made, copied or deleted; [`calls`] looks at every request.
#[test]
fn nothing_is_ever_pulled_or_deleted() {
    let fleet = start(vec![
        spec("gpu0", 4, &EMBEDDINGS),
        spec("gpu1", 4, &["llama3.2:1b"]),
    ]);
    let user = User::new(
        &fleet,
        "priority_models = [\"nowhere:7b\", \"llama3.1:70b\", \"mxbai-embed-large\", \"llama3.2:1b\"]",
    );
    for arguments in [
        &["--report-only"][..],
        &[],
        &["--apply"],
        &["--apply", "--strict"],
        &["--warm"],
        &["--json", "--apply"],
    ] {
        user.optimize(arguments);
    }
    for node in fleet.nodes() {
        calls(node);
        let paths: std::collections::BTreeSet<String> = node
            .journal()
            .iter()
            .map(|record| format!("{} {}", record.method, record.path))
            .collect();
        let allowed = [
            "GET /api/version",
            "GET /api/ps",
            "GET /api/tags",
            "GET /props",
            "GET /v1/models",
            "POST /api/show",
            "POST /api/embed",
            "POST /api/generate",
            // Asked with an empty body, to learn whether the node has them.
            "POST /v1/messages",
            "POST /v1/messages/count_tokens",
            "POST /v1/responses",
        ];
        for path in paths {
            assert!(allowed.contains(&path.as_str()), "{path}");
        }
    }
    assert_eq!(calls(fleet.node(1)), ["/api/generate llama3.2:1b"]);
}

/// B15: both models are in memory before the first request; a second time nothing happens.
#[test]
fn warming_loads_priority_and_class_models_once() {
    let mut bare = spec(
        "cpu",
        4,
        &["mxbai-embed-large", "llama3.2:1b", "llama3.2:3b"],
    );
    bare.hardware.gpu = Gpu::none();
    for (kind, node, share) in [
        (
            "GPU",
            spec(
                "gpu",
                12,
                &["mxbai-embed-large", "llama3.2:1b", "llama3.2:3b"],
            ),
            "100%",
        ),
        ("CPU", bare, "0%"),
    ] {
        let fleet = start(vec![node]);
        let user = User::new(&fleet, "");
        user.configure(
            "gpurouter.toml",
            &(nodes_of(&fleet) + "[routing]\nsimple = { model = \"llama3.2:1b\" }\ncomplex = { model = \"llama3.2:3b\" }\n"),
            "priority_models = [\"mxbai-embed-large\"]",
        );
        let warm = user.optimize(&["--warm", "--json"]);
        assert_eq!(warm.code, 0, "{kind}: {warm:?}");
        let expected = ["llama3.2:1b", "llama3.2:3b", "mxbai-embed-large:latest"]
            .map(|name| format!("{name} {share} pinned"));
        assert_eq!(holds(&fleet.urls()[0]), expected, "{kind}");
        let once = calls(fleet.node(0));
        assert_eq!(once.len(), 3, "{kind}: {once:?}");
        let again = user.optimize(&["--warm", "--json"]);
        assert_eq!((again.code, again.changes()), (0, Vec::new()), "{kind}");
        assert_eq!(calls(fleet.node(0)), once, "{kind}");
    }
}

/// A model's route follows from what the node says of it, not from its name.
#[test]
fn an_embedding_model_is_known_by_its_capabilities() {
    let mut node = spec("gpu0", 8, &[]);
    let mut bge = model("bge-m3");
    bge.capabilities = &["embedding"];
    let mut chat = model("embedded-expert");
    chat.capabilities = &["completion"];
    node.models = vec![bge, chat];
    let fleet = start(vec![node]);
    let user = User::new(
        &fleet,
        "priority_models = [\"bge-m3\", \"embedded-expert\"]",
    );
    let applied = user.optimize(&["--apply", "--json"]);
    assert_eq!(applied.code, 0, "{applied:?}");
    assert_eq!(
        calls(fleet.node(0)),
        [
            "/api/embed bge-m3:latest",
            "/api/generate embedded-expert:latest"
        ]
    );
}

/// A load that comes out on the CPU though there is room is told, and not repeated without end.
#[test]
fn a_load_that_lands_on_the_cpu_is_told() {
    let fleet = start(vec![spec("gpu0", 4, &EMBEDDINGS)]);
    fleet
        .node(0)
        .set_faults(vec![Fault::always(FaultKind::Cpu)]);
    let applied = User::new(&fleet, "").optimize(&["--apply", "--json"]);
    assert_eq!(applied.code, 1, "{applied:?}");
    let failed = &applied.json()["failed"];
    assert_eq!(
        failed[0]["error"],
        "the node loaded it on the CPU though its GPU has room"
    );
    assert_eq!(applied.json()["resident"][0]["gpu_percent"], 0);
}

/// A model that is on the GPU with a context of its own is pinned as it is: another context would load it anew.
#[test]
fn a_pin_keeps_the_context() {
    let fleet = start(vec![spec("gpu0", 8, &["llama3.2:1b"])]);
    let url = &fleet.urls()[0];
    let body = json!({"model": "llama3.2:1b", "options": {"num_ctx": 8192}});
    post(&format!("{url}/api/generate"), &body);
    let user = User::new(&fleet, "priority_models = [\"llama3.2:1b\"]");
    let applied = user.optimize(&["--apply", "--json"]);
    assert_eq!(
        (applied.code, applied.changes()),
        (0, vec!["pin gpu0 llama3.2:1b".to_owned()])
    );
    assert_eq!(holds(url), ["llama3.2:1b 100% pinned"]);
    let ps = super::common::json(&super::get(&format!("{url}/api/ps")));
    assert_eq!(ps["models"][0]["context_length"], 8192);
}

/// A node of a kind that loads nothing gets no such call.
#[test]
fn a_server_that_loads_nothing_is_left_alone() {
    let stub = Stub::llama_server("llama3.2:1b", super::common::reply::healthy);
    let fleet = start(vec![]);
    let user = User::new(&fleet, "");
    let nodes = format!("[[node]]\nname = \"llama\"\nurl = \"{}\"\n", stub.url());
    user.configure(
        "gpurouter.toml",
        &nodes,
        "priority_models = [\"llama3.2:1b\"]",
    );
    let done = user.optimize(&["--apply", "--json"]);
    assert_eq!((done.code, done.changes()), (0, Vec::new()), "{done:?}");
    assert_eq!(done.json()["resident"][0]["node"], "llama");
    assert!(stub.requests().is_empty(), "{:?}", stub.requests());
}
