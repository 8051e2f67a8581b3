//! What `README.md` says is what the program does.
//!
//! Its `console` blocks run, through trycmd, against the real binary: in front of simulated nodes, with the quick start's own
//! configuration, in the order in which they stand there. The README shows real output; what differs from run to run (ports, ids, times of day,
//! milliseconds) is compared as `[..]`, and the addresses of the quick start stand for the free ports of this run.
#![allow(
    clippy::print_stderr,
    reason = "what a test has to say goes to the test runner's stderr"
)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use clap::CommandFactory;
use clap::error::ErrorKind;
use gpurouter::cli::Cli;
use serde_json::json;

use common::registry::Registry;
use common::{LIMIT, Router, Scratch, Sim, client, command, eventually, gguf, nvml};

/// The router's address in the README, and those of its two nodes.
const ROUTER: &str = "127.0.0.1:8512";
const NODES: [&str; 2] = ["127.0.0.1:11434", "127.0.0.1:11435"];
/// Letters of a request id.
const ID: usize = 14;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn readme() -> String {
    fs::read_to_string(path("README.md")).expect("README.md")
}

/// A fenced block: its language, the number of its first line, its lines.
struct Block {
    language: String,
    line: usize,
    lines: Vec<String>,
}

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for (index, line) in text.lines().enumerate() {
        match line.strip_prefix("```") {
            Some("") if open => open = false,
            Some(language) => {
                open = true;
                blocks.push(Block {
                    language: language.to_owned(),
                    line: index + 2,
                    lines: Vec::new(),
                });
            }
            None if open => {
                let block = blocks.last_mut().expect("an open block");
                block.lines.push(line.to_owned());
            }
            None => {}
        }
    }
    assert!(!open, "a block of README.md has no end");
    blocks
}

fn of(language: &str) -> Vec<Block> {
    let mut blocks = blocks(&readme());
    blocks.retain(|block| block.language == language);
    assert!(!blocks.is_empty(), "README.md has no {language} block");
    blocks
}

/// What the driver of the README's machine says.
const DRIVER: &str = "\
name=NVIDIA GeForce RTX 4080 SUPER; total=16376; used=5210; reserved=280; gpu=0; temp=41; power=14.2; cc=8.9; cores=10240; bus=256; clock=11501; pci=1; uuid=GPU-8a4f1f56-7f4f-4d7c-9e0e-2f8f3b1c4d01
name=NVIDIA GeForce RTX 3060; total=12288; used=1480; reserved=230; gpu=0; temp=38; power=11.8; cc=8.6; cores=3584; bus=192; clock=7501; pci=4; uuid=GPU-1c9d4e77-3b2a-4c55-8d1f-6a7b8c9d0e02
";

/// The simulated nodes of the README, the router of its quick start before them, and the directory with its files.
struct Running {
    sim: Sim,
    router: Router,
    registry: Registry,
    driver: Driver,
}

/// The driver of the README's machine.
struct Driver {
    scratch: Scratch,
}

impl Driver {
    fn new() -> Option<Self> {
        let scratch = Scratch::new();
        scratch.write("gpus.txt", DRIVER);
        nvml::compile(
            "README.md's console blocks",
            &[],
            &scratch.path().join("nvml.so"),
        )
        .then_some(Self { scratch })
    }

    fn environment(&self) -> [(&'static str, String); 3] {
        let path = |name: &str| self.scratch.path().join(name).display().to_string();
        [
            ("GPUROUTER_NVML_LIB", path("nvml.so")),
            ("FAKE_NVML", path("gpus.txt")),
            ("GPUROUTER_SYSFS_ROOT", path("sys")),
        ]
    }
}

/// What the README's registries hold.
fn registry() -> Registry {
    let registry = Registry::start();
    let published = |name: &str| {
        (
            gguf::published(name),
            gguf::file_size(&gguf::published(name)),
        )
    };
    let (header, size) = published("llama-3.1-8b.q4_k_m");
    registry.ollama("library/llama3.1:8b", &[("model", header, size)]);
    let files = [
        ("Llama-3.1-8B-Q8_0.gguf", published("llama-3.1-8b.q8_0")),
        ("Llama-3.1-8B-Q4_K_M.gguf", published("llama-3.1-8b.q4_k_m")),
        ("Llama-3.1-8B-Q4_0.gguf", published("llama-3.1-8b.q4_0")),
    ];
    let files: Vec<(&str, Vec<u8>, u64)> = files
        .into_iter()
        .map(|(name, (header, size))| (name, header, size))
        .collect();
    registry.hub("someone/Llama-3.1-8B-GGUF", &files);
    registry
}

impl Running {
    fn start() -> Option<Self> {
        let driver = Driver::new()?;
        let registry = registry();
        let sim = Sim::start(&[
            "--gpu",
            "rtx4080super",
            "--gpu",
            "rtx3060",
            "--clock",
            "virtual",
        ]);
        let quick_start = of("toml").remove(0).lines.join("\n");
        // The optimizer's cycles come by the clock, so what it has loaded when a block runs would be chance.
        let mut config = format!("auto_optimize = false\n{quick_start}");
        for (node, url) in NODES.iter().zip(&sim.urls) {
            config = config.replace(&format!("http://{node}"), url);
        }
        let environment = driver.environment();
        let environment: Vec<(&str, &str)> = environment
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let router = Router::start_in(&environment, &[], &config);
        router.wait_ready(NODES.len());
        Some(Self {
            sim,
            router,
            registry,
            driver,
        })
    }

    /// Has both models of the quick start loaded, as after a while of use, and returns the id of the request that the README's
    /// `gpurouter why` is about.
    fn warm_up(&self) -> String {
        let (seen, _) = self.ask("qwen2.5-coder:7b", "Why is the sky blue?");
        let (_, node) = self.ask("auto", "Write a docstring for a sort function");
        assert_eq!(node, "gpu1", "the quick start's class routing");
        let known = eventually(LIMIT, || {
            let status = self.router.api("/gpurouter/api/status");
            let nodes = status["nodes"].as_array().expect("nodes");
            nodes.iter().all(|node| {
                node["loaded"]
                    .as_array()
                    .is_some_and(|loaded| loaded.len() == 1)
            })
        });
        assert!(known, "the monitor does not see the loaded models");
        seen
    }

    /// Sends a prompt; returns the request's id and node.
    fn ask(&self, model: &str, prompt: &str) -> (String, String) {
        let body = json!({
            "model": model,
            "stream": false,
            "options": { "num_predict": 24 },
            "messages": [{ "role": "user", "content": prompt }],
        });
        let body = body.to_string();
        let request = format!(
            "POST /api/chat HTTP/1.1\r\nHost: {}\r\nUser-Agent: curl/8.5.0\r\nContent-Length: {}\r\n\r\n{body}",
            self.router.addr,
            body.len()
        );
        let answer = client::send(self.router.addr, request.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
        let header = |name| {
            answer
                .header(name)
                .expect("a header of the router")
                .to_owned()
        };
        (header("x-gpurouter-id"), header("x-gpurouter-node"))
    }

    /// The text with this run's addresses in place of the README's.
    fn translate(&self, text: &str) -> String {
        let mut text = text.replace(ROUTER, &self.router.addr.to_string());
        text = text.replace(
            "https://huggingface.co/someone",
            &format!("{}/someone", self.registry.url()),
        );
        text = text.replace("the registry registry.ollama.ai", "the registry 127.0.0.1");
        for (node, url) in NODES.iter().zip(&self.sim.urls) {
            text = text.replace(&format!("http://{node}"), url);
        }
        text
    }
}

#[test]
fn console_blocks_print_what_they_show() {
    let Some(running) = Running::start() else {
        return;
    };
    let seen = running.warm_up();
    let scratch = Scratch::new();
    let input = scratch.path().join("README.in");
    fs::create_dir(&input).expect("a writable scratch directory");
    let quick_start = of("toml").remove(0).lines.join("\n");
    let file = |name: &str, text: &str| {
        fs::write(input.join(name), text).expect("a writable scratch directory");
    };
    let registry = running.registry.url();
    let sources =
        format!("\n[sources]\nollama_registry = \"{registry}\"\nhuggingface = \"{registry}\"\n");
    file(
        "gpurouter.toml",
        &(running.translate(&quick_start) + &sources),
    );
    file("empty.toml", &sources);
    file(
        "llama-3.1.txt",
        "The quick brown fox jumps over the lazy dog.\n",
    );
    let model = "llama-3.1-8b-q4_k_m.gguf";
    fs::write(input.join(model), gguf::published("llama-3.1-8b.q4_k_m")).expect("a model");
    file("misspelt.toml", "[timeouts]\nidel = \"5m\"\n");
    fs::create_dir_all(input.join("tests/data/bench")).expect("a writable scratch directory");
    for data in ["tests/data/fresh.jsonl", "tests/data/bench/proxy.jsonl"] {
        fs::copy(path(data), input.join(data)).expect("data that the README names");
    }
    let case = scratch.write("README.md", &case(&running, &seen));
    let cases = trycmd::TestCases::new();
    for variable in [
        "GPUROUTER_CONFIG",
        "GPU0_URL",
        "GPU1_URL",
        "OLLAMA_BASE",
        "OLLAMA_HOST",
        "ENABLE_DUAL_GPU",
    ] {
        // Empty counts as unset: the developer's own settings stay out.
        cases.env(variable, "");
    }
    for (name, value) in running.driver.environment() {
        cases.env(name, value);
    }
    // Neither the developer's headers nor their models.
    for variable in ["HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME", "OLLAMA_MODELS"] {
        cases.env(variable, scratch.path().display().to_string());
    }
    cases.register_bin(
        "gpurouter",
        trycmd::cargo::cargo_bin!("gpurouter").to_path_buf(),
    );
    cases.register_bin("curl", on_path("curl"));
    cases.case(case).run();
}

/// The program of that name, or none: blocks that need it are then not run.
fn on_path(name: &str) -> trycmd::schema::Bin {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|directory| directory.join(name));
    if let Some(file) = found.into_iter().find(|file| file.is_file()) {
        trycmd::schema::Bin::Path(file)
    } else {
        eprintln!("skipped: the blocks of README.md that call {name}, which is not installed");
        trycmd::schema::Bin::Ignore
    }
}

/// The README as a case of trycmd: addresses and ids of this run in the commands, `[..]` for what varies in the output.
fn case(running: &Running, seen: &str) -> String {
    let mut out = String::new();
    let mut console = false;
    let mut ends_with_newline = true;
    for line in readme().lines() {
        let fence = line.strip_prefix("```");
        if let Some(language) = fence {
            if console && ends_with_newline {
                // An empty last line is how trycmd writes that the output's last line has an end.
                out.push('\n');
            }
            console = language == "console";
        }
        // A JSON document of the API has none.
        ends_with_newline = !line.starts_with('{');
        let line = running.translate(line);
        let line = match line.get(..2) {
            _ if !console || fence.is_some() => line,
            Some("$ ") => replace_words(&line, |word| is_id(word).then(|| seen.to_owned())),
            Some("? ") => line,
            _ => varying(&line, &running.router.addr.to_string()),
        };
        out.push_str(&line);
        out.push('\n');
    }
    out
}

/// The line of output with `[..]` for ids, times, milliseconds and ports that nobody chose.
fn varying(line: &str, router: &str) -> String {
    if let Some((name @ ("Date" | "Content-Length"), _)) = line.split_once(": ") {
        return format!("{name}: [..]");
    }
    let words: Vec<&str> = line.split(' ').collect();
    let milliseconds = |index: usize| {
        words
            .get(index + 1)
            .is_some_and(|next| next.trim_end_matches(',') == "ms")
            && words[index].parse::<f64>().is_ok()
    };
    let word = |(index, word): (usize, &&str)| {
        let port = word
            .split_once("127.0.0.1:")
            .filter(|(_, port)| port.len() > 4 && !word.contains(router));
        if milliseconds(index) || is_id(word) || is_time(word) {
            "[..]".to_owned()
        } else if let Some((before, _)) = port {
            format!("{before}127.0.0.1:[..]")
        } else {
            (*word).to_owned()
        }
    };
    let line: Vec<String> = words.iter().enumerate().map(word).collect();
    let line = line.join(" ");
    // A column of milliseconds is as wide as their digits make it.
    if let Some((before, after)) = line.split_once(" LOAD ")
        && after.trim_start() == "SAMPLES"
    {
        return format!("{before} LOAD[..]SAMPLES");
    }
    if let Some((before, samples)) = line.rsplit_once("[..] ms ")
        && samples.trim_start().parse::<u32>().is_ok()
    {
        return format!("{before}[..] ms[..] {}", samples.trim_start());
    }
    // The spaces before right-aligned milliseconds are as many as their digits leave.
    if line.trim_start().starts_with("[..] ms") {
        return line.trim_start().to_owned();
    }
    line
}

fn is_id(word: &str) -> bool {
    word.len() == ID && word.starts_with('6') && word.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_time(word: &str) -> bool {
    humantime::parse_rfc3339(word).is_ok()
}

fn replace_words(line: &str, replacement: impl Fn(&str) -> Option<String>) -> String {
    let words = line
        .split(' ')
        .map(|word| replacement(word).unwrap_or_else(|| word.to_owned()));
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn configurations_load() {
    for block in of("toml") {
        let scratch = Scratch::new();
        let file = scratch.write("gpurouter.toml", &block.lines.join("\n"));
        let output = command(&scratch)
            .args(["serve", "--print-config", "--config"])
            .arg(file)
            .stdin(Stdio::null())
            .output()
            .expect("the binary that cargo built");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && told.is_empty(),
            "README.md:{}: {told}",
            block.line
        );
    }
}

/// E01: the sources' YAML file and what becomes of it: every value of the one is in the other.
#[test]
fn e01_the_yaml_file_of_the_sources_and_its_toml_say_the_same() {
    let yaml = of("yaml").remove(0);
    let toml = of("toml");
    let toml = toml.iter().find(|block| block.line > yaml.line);
    let toml = toml.expect("the same in TOML").lines.join("\n");
    let scratch = Scratch::new();
    let file = scratch.write("gpurouter.toml", &toml);
    let output = command(&scratch)
        .args(["serve", "--print-config", "--json", "--config"])
        .arg(file)
        .output()
        .expect("the binary that cargo built");
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let values = document["values"].as_array().expect("values");
    let value = |key: &str| {
        let found = values.iter().find(|value| value["key"] == key);
        found.unwrap_or_else(|| panic!("no {key}"))["value"].clone()
    };
    // The file has lists of texts below a key, and keys with a value.
    let mut lists: Vec<(String, Vec<String>)> = Vec::new();
    let mut single = Vec::new();
    for line in &yaml.lines {
        match line.trim().strip_prefix("- ") {
            Some(entry) => lists.last_mut().expect("a key").1.push(entry.to_owned()),
            None => match line.split_once(':').expect("a key") {
                (key, "") => lists.push((key.to_owned(), Vec::new())),
                (key, value) => single.push((key, value.trim())),
            },
        }
    }
    assert_eq!(lists[0].0, "nodes");
    assert_eq!(lists[0].1.len(), 3, "as in the sources' sample");
    for (number, url) in lists[0].1.iter().enumerate() {
        assert_eq!(value(&format!("node[{number}].url")), *url);
    }
    assert!(!values.iter().any(|value| value["key"] == "node[3].url"));
    assert_eq!(value("priority_models"), json!(lists[1].1));
    assert_eq!(
        single,
        [
            ("check_interval", "300"),
            ("vram_safety_margin", "0.8"),
            ("auto_optimize", "true"),
            ("log_level", "INFO"),
        ]
    );
    assert_eq!(value("check_interval"), "300s");
    assert_eq!(value("vram_safety_margin"), 0.8);
    assert_eq!(value("auto_optimize"), true);
    assert_eq!(value("log_level"), "info");
}

#[test]
fn commands_name_subcommands_and_flags_that_exist() {
    let mut seen = 0;
    for (line, words) in command_lines() {
        seen += 1;
        let Err(error) = Cli::command().try_get_matches_from(&words) else {
            continue;
        };
        // A command is often named without its arguments, or with a placeholder for them.
        let fine = matches!(
            error.kind(),
            ErrorKind::MissingRequiredArgument
                | ErrorKind::MissingSubcommand
                | ErrorKind::DisplayHelp
                | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        );
        assert!(fine, "README.md:{line}: {words:?}: {error}");
    }
    assert!(seen > 30, "only {seen} commands were found");
}

/// Every `gpurouter …` in a block of commands or in a code span, as words, with its line.
fn command_lines() -> Vec<(usize, Vec<String>)> {
    let text = readme();
    let mut found = Vec::new();
    let mut block: Option<&str> = None;
    for (index, line) in text.lines().enumerate() {
        if let Some(language) = line.strip_prefix("```") {
            block = if block.is_some() {
                None
            } else {
                Some(language)
            };
            continue;
        }
        let spans: Vec<&str> = match block {
            None => line.split('`').skip(1).step_by(2).collect(),
            Some("sh") => vec![line],
            Some(_) => line.strip_prefix("$ ").into_iter().collect(),
        };
        for part in spans.iter().flat_map(|span| span.split(['|', '>', '('])) {
            let words = words(part);
            if words.first().is_some_and(|word| word == "gpurouter") {
                found.push((index + 1, words));
            }
        }
    }
    found
}

/// Words as a shell sees them: quotes hold them together, `#` begins a comment, `)` ends a substitution.
fn words(part: &str) -> Vec<String> {
    let mut words = vec![];
    let mut word = String::new();
    let mut quote = None;
    for c in part.chars() {
        match (c, quote) {
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            (' ', None) => {
                words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty()));
            }
            ('#' | ')', None) => break,
            (c, _) => word.push(c),
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

#[test]
fn every_subcommand_and_flag_is_told() {
    let text = readme();
    for subcommand in Cli::command().get_subcommands() {
        let name = subcommand.get_name();
        assert!(
            text.contains(&format!("`{name}`")),
            "README.md does not name {name}"
        );
        for flag in subcommand.get_arguments().filter_map(clap::Arg::get_long) {
            assert!(
                text.contains(&format!("--{flag}")),
                "README.md does not name --{flag} of {name}"
            );
        }
    }
}

#[test]
fn metrics_and_record_fields_exist() {
    let Some(running) = Running::start() else {
        return;
    };
    let (id, _) = running.ask("qwen2.5-coder:7b", "Why is the sky blue?");
    let metrics = client::get(running.router.addr, "/metrics").text();
    let text = readme();
    let spans: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
    let named: Vec<&&str> = spans
        .iter()
        .filter(|span| span.starts_with("gpurouter_"))
        .collect();
    assert!(named.len() >= 10, "{named:?}");
    for name in named {
        assert!(
            metrics.contains(&format!("# TYPE {name} ")),
            "README.md names the metric {name}"
        );
    }
    // Written when the last byte of the answer is out.
    let path = format!("/gpurouter/api/why/{id}");
    assert!(eventually(LIMIT, || client::get(
        running.router.addr,
        &path
    )
    .status
        == 200));
    let record = running.router.api(&path);
    let section = text
        .split("## What it logs")
        .nth(1)
        .and_then(|rest| rest.split("\n## ").next());
    let rows = section
        .expect("a section")
        .lines()
        .filter(|line| line.starts_with("| `"));
    let fields: Vec<&str> = rows
        .flat_map(|row| {
            row.split('|')
                .nth(1)
                .unwrap_or("")
                .split('`')
                .skip(1)
                .step_by(2)
        })
        .collect();
    for name in &fields {
        assert!(
            record.get(name).is_some(),
            "README.md names the field {name}"
        );
    }
    for name in record.as_object().expect("an object").keys() {
        let elsewhere = ["schema", "candidates", "timeline"].contains(&name.as_str());
        assert!(
            elsewhere || fields.contains(&name.as_str()),
            "README.md does not name the field {name}"
        );
    }
}

#[test]
fn links_lead_somewhere() {
    let text = readme();
    let anchors: Vec<String> = text
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title
                .chars()
                .filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-');
            kept.collect::<String>().replace(' ', "-")
        })
        .collect();
    for target in text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
    {
        match target.strip_prefix('#') {
            Some(anchor) => assert!(
                anchors.iter().any(|known| known == anchor),
                "README.md: #{anchor}"
            ),
            None if target.starts_with("https://") => {}
            None => assert!(path(target).exists(), "README.md: {target}"),
        }
    }
}
