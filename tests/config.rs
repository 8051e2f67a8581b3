//! The layers of the configuration: files that are right and wrong, the environment, flags, and what is printed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gpurouter::cli::Global;
use gpurouter::cluster::{self, NodeKind, Role};
use gpurouter::cmd::Exit;
use gpurouter::config::{self, Config, Environment, KEYS, Loaded, LogLevel, Overrides};
use gpurouter::render::Told;
use gpurouter::routing::{Canonical, ClassTarget, Copies, Tier};
use proptest::prelude::*;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/config")
}

/// Loads with flags, the variables and, unless they name another, an empty file.
fn load(flags: &Global, variables: &[(&str, &str)]) -> Result<Loaded, Told> {
    let empty = [("GPUROUTER_CONFIG", "valid/empty.toml")];
    let variables = empty.iter().chain(variables).copied();
    let environment = Environment::new(&data(), variables);
    config::load(flags, &environment, &Overrides::default())
}

fn with_environment(variables: &[(&str, &str)]) -> Loaded {
    load(&Global::default(), variables).unwrap()
}

fn with_nodes(nodes: &[&str]) -> Result<Loaded, Told> {
    let flags = Global {
        nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
        ..Global::default()
    };
    load(&flags, &[])
}

fn load_file(directory: &Path, name: &str) -> Result<Loaded, Told> {
    let flags = Global {
        config: Some(name.into()),
        ..Global::default()
    };
    let environment = Environment::new(directory, [] as [(&str, &str); 0]);
    config::load(&flags, &environment, &Overrides::default())
}

/// Loads a text as a file of its own.
fn load_text(text: &str) -> Result<Loaded, Told> {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let name = format!("config-{}-{number}.toml", std::process::id());
    fs::write(directory.join(&name), text).unwrap();
    let loaded = load_file(directory, &name);
    fs::remove_file(directory.join(&name)).unwrap();
    loaded
}

fn files(kind: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(data().join(kind))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn names_and_urls(loaded: &Loaded) -> Vec<(&str, &str)> {
    let nodes = loaded.config.nodes.iter();
    nodes
        .map(|node| (node.name.as_str(), node.url.as_str()))
        .collect()
}

#[test]
fn every_wrong_file_is_refused_with_its_line_and_reason() {
    for name in files("invalid") {
        let text = fs::read_to_string(data().join("invalid").join(&name)).unwrap();
        let first = text.lines().next().unwrap();
        let expected = first.strip_prefix("# expect: ").unwrap();
        let told = load_file(&data().join("invalid"), &name).expect_err(&name);
        assert_eq!(told.exit, Exit::Usage);
        let wanted = format!("{name}:{expected}");
        assert!(
            told.message.starts_with(&wanted) && !told.message.contains('\n'),
            "wanted: {wanted}\n   got: {}",
            told.message
        );
    }
}

#[test]
fn every_right_file_loads_and_its_printed_form_loads_to_the_same() {
    for name in files("valid") {
        let loaded = load_file(&data().join("valid"), &name).unwrap();
        let again = load_text(&loaded.print()).unwrap();
        assert_eq!(again.config, loaded.config, "{name}");
    }
}

#[test]
fn the_file_with_every_key_sets_every_value() {
    let text = fs::read_to_string(data().join("valid/every-key.toml")).unwrap();
    for key in KEYS.iter().filter(|key| !key.path.ends_with('*')) {
        assert!(text.contains(key.name()), "{} is missing", key.path);
    }
    let config = load_file(&data(), "valid/every-key.toml").unwrap().config;
    assert_eq!(config.listen, "127.0.0.1:0");
    assert_eq!(config.log_level, LogLevel::Warning);
    assert_eq!(config.nodes[0].url, "http://127.0.0.1:11434");
    assert_eq!(config.nodes[0].kind, Some(NodeKind::Ollama));
    assert_eq!(config.nodes[0].gpu.as_deref(), Some("RTX 4080 SUPER"));
    assert_eq!(config.nodes[1].role, Role::Helper);
    assert_eq!(config.routing.virtual_models, ["auto", "gpt-*"]);
    assert_eq!(config.routing.copies, Copies::One);
    let simple = config.routing.simple.unwrap();
    assert_eq!(
        (simple.model.as_str(), simple.prefer.as_deref()),
        ("qwen2.5-coder:1.5b", Some("gpu1"))
    );
    assert_eq!(config.routing.complex.unwrap().prefer, None);
    assert_eq!(config.routing.tiers[0].from, Some(0.9));
    assert_eq!(config.routing.tiers[0].min_tokens, Some(4000));
    assert_eq!(config.timeouts.connect, Duration::from_millis(500));
    assert_eq!(config.timeouts.load, Some(Duration::from_secs(600)));
    assert_eq!(config.timeouts.idle, Some(Duration::from_secs(180)));
    assert_eq!(config.timeouts.total, None);
    assert_eq!(config.admission.max_connections, 64);
    assert_eq!(config.admission.queue, 0);
    assert_eq!(config.admission.slots, Some(4));
    assert!(!config.affinity.sessions);
    assert_eq!(
        config.affinity.canonical,
        [Canonical::ClaudeCodeBilling, Canonical::PiClock]
    );
    assert_eq!(config.routing.aliases["claude-*"], "qwen2.5-coder:7b");
    assert_eq!(config.prices.as_of.as_deref(), Some("2026-11-01"));
    assert!((config.prices.models["gpt-5-mini"].output - 2.0).abs() < f64::EPSILON);
    assert_eq!(config.prices.models["gpt-5-mini"].cached_input, Some(0.025));
    assert_eq!(config.prices.kwh, Some(0.3));
    assert_eq!(config.prices.reference.as_deref(), Some("gpt-5-mini"));
    assert_eq!(config.security.hosts, ["router.lan"]);
    assert_eq!(config.security.max_body, 1 << 20);
    assert_eq!(config.memory.safety_margin, Some(0.8));
    assert!((config.memory.headroom_factor - 1.1).abs() < f64::EPSILON);
    assert_eq!(config.nodes[1].vram_bytes, Some(8 << 30));
    assert!(!config.gpu.enabled && !config.gpu.monitoring && !config.gpu.cpu_fallback);
    assert_eq!(config.gpu.monitoring_interval, Duration::from_millis(2500));
    assert_eq!(config.gpu.strategy, cluster::Strategy::Distribute);
    let card = config.gpu.cards["Home-made 9000"];
    assert_eq!(
        (card.vram_bytes, card.bandwidth, card.multiprocessors),
        (12 << 30, 360_500_000_000, 28)
    );
    assert_eq!(config.sources.ollama_registry, "http://127.0.0.1:5000");
    assert_eq!(config.sources.huggingface, "http://127.0.0.1:5001");
    assert!(config.sources.offline);
    let state = config.sources.state_dir.unwrap();
    assert_eq!(state, Path::new("/var/lib/gpurouter"));
    assert_eq!(config.models["my-custom-model"], 2500);
}

/// The smallest file in which a key stands with that value.
fn file_with(path: &str, value: &str) -> String {
    let (table, name) = path.rsplit_once('.').unwrap_or(("", path));
    match table {
        "" => format!("{name} = {value}"),
        "aliases" => format!("[aliases]\nx = {value}"),
        table => match table.strip_suffix("[]") {
            Some("node") => format!("[[node]]\nname = \"a\"\nurl = \"http://h\"\n{name} = {value}"),
            Some(list) => {
                format!("[[{list}]]\nname = \"a\"\nmodel = \"m\"\nfrom = 0\n{name} = {value}")
            }
            None => format!("[{table}]\n{name} = {value}"),
        },
    }
}

#[test]
fn the_table_says_the_defaults_that_are_built_in() {
    for key in KEYS.iter().filter(|key| !key.default.is_empty()) {
        let said = load_text(&file_with(key.path, key.default)).expect(key.path);
        let unsaid = if key.path.contains("[]") {
            load_text(
                &file_with(key.path, key.default)
                    .replace(&format!("\n{} = {}", key.name(), key.default), ""),
            )
            .unwrap()
        } else {
            with_environment(&[])
        };
        assert_eq!(said.config, unsaid.config, "{}", key.path);
    }
    assert_eq!(with_environment(&[]).config, Config::default());
}

#[test]
fn the_example_of_the_manual_page_loads() {
    let page = config::manual_page();
    let (_, rest) = page.split_once(".nf\n").unwrap();
    let (example, _) = rest.split_once(".fi\n").unwrap();
    let loaded = load_text(&example.replace("\\-", "-")).unwrap();
    assert_eq!(loaded.config.nodes.len(), 2);
}

#[test]
fn all_problems_are_told_one_per_line() {
    let told = load_text(
        "zone = 1\nlog_level = \"loud\"\n[timeouts]\nidel = 1\n[admission]\nqueue = -1\n",
    )
    .unwrap_err();
    let lines: Vec<&str> = told.message.lines().collect();
    assert_eq!(lines.len(), 5, "{}", told.message);
    assert!(lines[0].ends_with(":1: unknown key `zone`"));
    assert!(lines[1].starts_with("error: ") && lines[1].contains(":2: `log_level` must be"));
    assert!(lines[2].ends_with(":4: unknown key `idel` in [timeouts]"));
    assert_eq!(lines[3], "hint: did you mean `idle`?");
    assert!(lines[4].starts_with("error: ") && lines[4].contains(":6: `queue` must be"));
    assert_eq!(told.hint, None);
}

#[test]
fn the_hint_of_a_single_problem_stands_by_itself() {
    let told = load_file(&data().join("invalid"), "unknown-key.toml").unwrap_err();
    assert_eq!(told.hint.as_deref(), Some("did you mean [timeouts]?"));
}

#[test]
fn a_file_that_is_named_must_exist() {
    for (flag, variable) in [(Some("no.toml"), "valid/empty.toml"), (None, "no.toml")] {
        let flags = Global {
            config: flag.map(Into::into),
            ..Global::default()
        };
        let told = load(&flags, &[("GPUROUTER_CONFIG", variable)]).unwrap_err();
        assert_eq!(told.exit, Exit::Usage);
        assert!(
            told.message.contains("cannot read no.toml: "),
            "{}",
            told.message
        );
    }
}

#[test]
fn a_file_that_is_not_text_is_refused() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let name = format!("bytes-{}.toml", std::process::id());
    fs::write(directory.join(&name), b"# a\n\xff\xfe").unwrap();
    let told = load_file(directory, &name).unwrap_err();
    fs::remove_file(directory.join(&name)).unwrap();
    assert!(
        told.message.ends_with("line 2 is not UTF-8"),
        "{}",
        told.message
    );
    assert!(load_file(directory, ".").is_err());
}

#[test]
fn the_working_directory_goes_before_the_users_own_file() {
    let directory =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("places-{}", std::process::id()));
    let user = directory.join("home/.config/gpurouter");
    fs::create_dir_all(&user).unwrap();
    fs::write(user.join("config.toml"), "log_level = \"debug\"").unwrap();
    let home = directory.join("home");
    let environment = Environment::new(&directory, [("HOME", home.as_os_str())]);
    let load = || config::load(&Global::default(), &environment, &Overrides::default()).unwrap();
    assert_eq!(load().config.log_level, LogLevel::Debug);
    fs::write(directory.join("gpurouter.toml"), "log_level = \"error\"").unwrap();
    let here = load();
    fs::remove_dir_all(&directory).unwrap();
    assert_eq!(here.config.log_level, LogLevel::Error);
    assert_eq!(here.file, Some(directory.join("gpurouter.toml")));
    assert!(
        here.print()
            .contains("log_level = \"error\"  # file gpurouter.toml:1")
    );
}

#[test]
fn the_variables_make_the_two_nodes() {
    let loaded = with_environment(&[("GPU0_URL", "gpu:11434"), ("GPU1_URL", "http://gpu:11435/")]);
    assert_eq!(
        names_and_urls(&loaded),
        [("gpu0", "http://gpu:11434"), ("gpu1", "http://gpu:11435")]
    );
    assert_eq!(loaded.config.nodes[0].role, Role::Main);
    assert_eq!(loaded.config.nodes[1].role, Role::Helper);
    assert_eq!(loaded.config.routing.simple, None);
    assert!(loaded.notices.is_empty());
    let printed = loaded.print();
    assert!(
        printed.contains("url = \"http://gpu:11434\"  # env GPU0_URL"),
        "{printed}"
    );
    assert!(printed.contains("idle = \"180s\"  # default"), "{printed}");
}

#[test]
fn a_variable_moves_the_files_node_and_leaves_the_rest_of_it() {
    let loaded = with_environment(&[
        ("GPUROUTER_CONFIG", "valid/every-key.toml"),
        ("GPU1_URL", "http://elsewhere:1"),
    ]);
    assert_eq!(
        names_and_urls(&loaded),
        [
            ("gpu0", "http://127.0.0.1:11434"),
            ("gpu1", "http://elsewhere:1")
        ]
    );
    let printed = loaded.print();
    assert!(printed.contains("url = \"http://elsewhere:1\"  # env GPU1_URL"));
    assert!(
        printed.contains("name = \"gpu1\"  # file valid/every-key.toml:18"),
        "{printed}"
    );
}

#[test]
fn both_variables_on_one_server_work_and_are_noticed() {
    let loaded = with_environment(&[
        ("GPU0_URL", "http://localhost:11434"),
        ("GPU1_URL", "http://127.0.0.1:11434"),
    ]);
    assert_eq!(loaded.config.nodes.len(), 2);
    assert_eq!(loaded.notices.len(), 1);
    assert!(loaded.notices[0].starts_with("nodes gpu0 and gpu1 are the same server"));
}

#[test]
fn without_dual_gpu_one_node_is_left() {
    let both = [("GPU0_URL", "http://a:1"), ("GPU1_URL", "http://b:1")];
    for off in ["false", "0", "No"] {
        let loaded = with_environment(&[both[0], both[1], ("ENABLE_DUAL_GPU", off)]);
        assert_eq!(names_and_urls(&loaded), [("gpu0", "http://a:1")]);
        assert_eq!(loaded.notices.len(), 1);
    }
    let single = [
        both[0],
        both[1],
        ("ENABLE_DUAL_GPU", "false"),
        ("OLLAMA_BASE", "http://c:1"),
    ];
    assert_eq!(
        names_and_urls(&with_environment(&single)),
        [("ollama", "http://c:1")]
    );
    let dual = [
        both[0],
        both[1],
        ("ENABLE_DUAL_GPU", "true"),
        ("OLLAMA_BASE", "http://c:1"),
    ];
    assert_eq!(with_environment(&dual).config.nodes.len(), 2);
    let alone = with_environment(&[("OLLAMA_BASE", "http://c:1")]);
    assert_eq!(names_and_urls(&alone), [("ollama", "http://c:1")]);
    let none = with_environment(&[("ENABLE_DUAL_GPU", "false")]);
    assert!(none.config.nodes.is_empty() && none.notices.len() == 1);
}

#[test]
fn a_wrong_variable_is_named() {
    for (variable, value) in [
        ("GPU0_URL", "ftp://a"),
        ("GPU1_URL", "http://"),
        ("OLLAMA_BASE", "a b"),
        ("ENABLE_DUAL_GPU", "perhaps"),
        ("OLLAMA_HOST", "gpu:port"),
    ] {
        let told = load(&Global::default(), &[(variable, value)]).unwrap_err();
        assert!(
            told.message
                .starts_with(&format!("{variable}: the value must be")),
            "{}",
            told.message
        );
        assert_eq!(told.exit, Exit::Usage);
    }
    assert_eq!(
        with_environment(&[("GPU0_URL", ""), ("OLLAMA_HOST", " ")]).config,
        Config::default()
    );
}

#[test]
fn ollama_host_is_for_discovery_only() {
    let found = with_environment(&[("OLLAMA_HOST", "0.0.0.0:5000/prefix")]);
    assert_eq!(
        found.config.ollama_host.as_deref(),
        Some("http://127.0.0.1:5000/prefix")
    );
    let configured = with_environment(&[("OLLAMA_HOST", "gpu"), ("GPU0_URL", "http://a:1")]);
    assert_eq!(configured.config.ollama_host, None);
}

#[test]
fn node_flags_replace_every_other_node() {
    let flags = Global {
        nodes: vec!["127.0.0.1:1".to_owned(), "big=https://gpu/x".to_owned()],
        ..Global::default()
    };
    let loaded = load(
        &flags,
        &[
            ("GPUROUTER_CONFIG", "valid/every-key.toml"),
            ("GPU0_URL", "http://a:1"),
        ],
    )
    .unwrap();
    assert_eq!(
        names_and_urls(&loaded),
        [
            ("127.0.0.1:1", "http://127.0.0.1:1"),
            ("big", "https://gpu/x")
        ]
    );
    assert!(loaded.print().contains("name = \"big\"  # flag --node"));
    // The file's classes prefer nodes that the flag replaced: told, not refused.
    assert_eq!(loaded.notices.len(), 2, "{:?}", loaded.notices);
    assert_eq!(
        names_and_urls(&with_nodes(&["http://h"]).unwrap()),
        [("h:80", "http://h")]
    );
}

#[test]
fn node_flags_must_be_right_and_unique() {
    for nodes in [
        &["ftp://a"][..],
        &["=http://a"],
        &["a b=http://a"],
        &["a=http://a", "a=http://b"],
        &["h:1", "http://h:1/x"],
        &[""],
    ] {
        let told = with_nodes(nodes).unwrap_err();
        assert!(told.message.starts_with("--node: "), "{}", told.message);
    }
}

#[test]
fn flags_go_before_the_file() {
    let flags = Global {
        config: Some("valid/every-key.toml".into()),
        verbose: 1,
        ..Global::default()
    };
    let environment = Environment::new(&data(), [] as [(&str, &str); 0]);
    let overrides = Overrides {
        listen: Some("[::1]:9".to_owned()),
    };
    let loaded = config::load(&flags, &environment, &overrides).unwrap();
    assert_eq!(loaded.config.listen, "[::1]:9");
    assert_eq!(loaded.config.log_level, LogLevel::Debug);
    let printed = loaded.print();
    assert!(
        printed.starts_with(
            "listen = \"[::1]:9\"  # flag --listen\nlog_level = \"debug\"  # flag --verbose\n"
        ),
        "{printed}"
    );
    let overrides = Overrides {
        listen: Some("0.0.0.0:9".to_owned()),
    };
    let told = config::load(&flags, &environment, &overrides).unwrap_err();
    assert!(told.message.starts_with("--listen: ") && told.message.contains("keys come later"));
}

#[test]
fn the_json_twin_has_every_value_with_its_origin() {
    let loaded = with_environment(&[
        ("GPU0_URL", "http://a:1"),
        ("GPUROUTER_CONFIG", "valid/crlf.toml"),
    ]);
    let document = loaded.print_json();
    assert_eq!(document["schema"], 1);
    let find = |key: &str| {
        let values = document["values"].as_array().unwrap().iter();
        let entry = values.clone().find(|entry| entry["key"] == key).unwrap();
        (
            entry["value"].clone(),
            entry["origin"].as_str().unwrap().to_owned(),
        )
    };
    assert_eq!(
        find("node[0].url"),
        ("http://a:1".into(), "env GPU0_URL".to_owned())
    );
    assert_eq!(
        find("timeouts.idle"),
        ("2500ms".into(), "file valid/crlf.toml:3".to_owned())
    );
    assert_eq!(
        find("routing.simple.model"),
        (serde_json::Value::Null, "default".to_owned())
    );
    assert_eq!(find("admission.queue"), (256.into(), "default".to_owned()));
}

fn name() -> impl Strategy<Value = String> {
    "[A-Za-z0-9:._@/\\[\\]#-]{1,12}"
}

fn text() -> impl Strategy<Value = String> {
    "[^\\p{Cc}]{0,8}[!-~][^\\p{Cc}]{0,8}"
}

fn time() -> impl Strategy<Value = Option<Duration>> {
    (0u64..31_536_000_000)
        .prop_map(|ms| Some(Duration::from_millis(ms)).filter(|time| !time.is_zero()))
}

fn target() -> impl Strategy<Value = Option<ClassTarget>> {
    prop::option::of(
        (text(), prop::option::of(name()))
            .prop_map(|(model, prefer)| ClassTarget { model, prefer }),
    )
}

fn configuration() -> impl Strategy<Value = Config> {
    let nodes = prop::collection::btree_map(name(), (1u16.., prop::option::of(text())), 0..4);
    let tiers = prop::collection::btree_map(
        "[a-z]{8}",
        (text(), 0.0..=1.0f64, prop::option::of(0..=i64::MAX as u64)),
        0..3,
    );
    let maps = (
        prop::collection::btree_map(
            text()
                .prop_map(|name| name.replace('*', ""))
                .prop_filter("said", |name| !name.trim().is_empty()),
            text(),
            0..4,
        ),
        prop::collection::btree_map(text(), (0.0..1e9f64, 0.0..1e9f64), 0..3),
    );
    let scalars = (
        time(),
        time(),
        prop::option::of(1u32..),
        any::<u32>(),
        1u64..=1 << 40,
        prop::collection::vec(text(), 0..3),
    );
    (nodes, tiers, maps, scalars, (target(), target())).prop_map(
        |(nodes, tiers, (aliases, prices), scalars, (simple, complex))| {
            let mut config = Config::default();
            config.nodes = nodes
                .into_iter()
                .map(|(name, (port, gpu))| config::NodeConfig {
                    name,
                    url: format!("http://h:{port}"),
                    kind: Some(NodeKind::OpenAi),
                    role: Role::Embed,
                    gpu,
                    vram_bytes: None,
                })
                .collect();
            // A port that is the scheme's own is left away in the canonical form.
            config.nodes.retain(|node| node.url != "http://h:80");
            config.routing.tiers = tiers
                .into_iter()
                .map(|(name, (model, from, min_tokens))| Tier {
                    name,
                    model,
                    prefer: None,
                    from: Some(from),
                    min_tokens,
                })
                .filter(|tier| !["moderate", "explicit"].contains(&tier.name.as_str()))
                .collect();
            config.routing.aliases = aliases;
            let prefers = |target: Option<ClassTarget>| {
                target.map(|target| ClassTarget {
                    prefer: config
                        .nodes
                        .first()
                        .map(|node| node.name.clone())
                        .or(target.prefer),
                    ..target
                })
            };
            config.routing.simple = prefers(simple);
            config.routing.complex = prefers(complex);
            config.prices.reference = prices.keys().next().cloned();
            config.prices.models = prices
                .into_iter()
                .map(|(model, (input, output))| {
                    let cached_input = (input > 1.0).then_some(input / 10.0);
                    let price = config::Price {
                        input,
                        cached_input,
                        output,
                    };
                    (model, price)
                })
                .collect();
            config.timeouts.load = scalars.0;
            config.timeouts.idle = scalars.1;
            config.admission.slots = scalars.2;
            config.admission.queue = scalars.3;
            config.security.max_body = scalars.4;
            config.routing.virtual_models = scalars.5;
            config
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_loads_to_the_same(config in configuration()) {
        let mut loaded = with_environment(&[]);
        loaded.config = config;
        let printed = loaded.print();
        match load_text(&printed) {
            Ok(again) => prop_assert_eq!(again.config, loaded.config),
            Err(told) => prop_assert!(false, "{}\n{}", told, printed),
        }
    }

    #[test]
    fn no_file_panics(text in "(\\[*(node|routing|timeouts|prices\\.models)[a-z.]*\\]*|[a-z_]{2,9} ?= ?[\"0-9a-z{}\\[\\]-]{0,6}|\\PC{0,6}|\n){0,12}") {
        let _ = load_text(&text);
    }
}
