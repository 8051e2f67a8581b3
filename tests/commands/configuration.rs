//! `serve --print-config` and `--check`, and what is wrong with a configuration.

use serde_json::{Value, json};

use super::common::{RefusedPort, Router, Scratch, command};
use super::{Done, User, fits, node};

fn value<'v>(document: &'v Value, key: &str) -> (&'v Value, &'v str) {
    let values = document["values"].as_array().unwrap();
    let entry = values
        .iter()
        .find(|entry| entry["key"] == key)
        .unwrap_or_else(|| panic!("no {key}: {document}"));
    (&entry["value"], entry["origin"].as_str().unwrap())
}

#[test]
fn every_value_has_its_origin_and_a_flag_goes_before_environment_file_and_default() {
    let scratch = Scratch::new();
    let file = scratch.write("c.toml", "listen = \"127.0.0.1:9001\"\nlog_level = \"debug\"\n[[node]]\nname = \"gpu0\"\nurl = \"http://127.0.0.1:1\"\n");
    let print = |arguments: &[&str], environment: &[(&str, &str)]| {
        let output = command(&scratch)
            .args(["serve", "--print-config", "--json", "--config"])
            .arg(&file)
            .args(arguments)
            .envs(environment.iter().copied())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let from_file = print(&[], &[]);
    assert_eq!(value(&from_file, "listen").0, "127.0.0.1:9001");
    assert!(
        value(&from_file, "listen").1.contains("c.toml"),
        "{from_file}"
    );
    assert_eq!(
        value(&from_file, "timeouts.connect"),
        (&json!("2s"), "default")
    );
    let from_flag = print(&["--listen", "127.0.0.1:9002"], &[]);
    assert_eq!(
        value(&from_flag, "listen"),
        (&json!("127.0.0.1:9002"), "flag --listen")
    );
    let from_environment = print(&[], &[("GPU0_URL", "http://127.0.0.1:2")]);
    assert_eq!(
        value(&from_environment, "node[0].url"),
        (&json!("http://127.0.0.1:2"), "env GPU0_URL")
    );
    let from_flag = print(
        &["--node", "gpu0=http://127.0.0.1:3"],
        &[("GPU0_URL", "http://127.0.0.1:2")],
    );
    assert_eq!(
        value(&from_flag, "node[0].url"),
        (&json!("http://127.0.0.1:3"), "flag --node")
    );
}

#[test]
fn the_printed_configuration_is_one_that_can_be_read_again() {
    let user = User::alone(
        "[routing]\nsimple = { model = \"m\", prefer = \"a\" }\n[[routing.tier]]\nname = \"huge\"\nmodel = \"h\"\nmin_tokens = 9\n[[node]]\nname = \"a\"\nurl = \"http://127.0.0.1:1\"\n[aliases]\n\"claude-*\" = \"m\"\n",
    );
    let printed = user.run(&["serve", "--print-config"]);
    assert_eq!((printed.code, printed.err.as_str()), (0, ""));
    let file = user.scratch.write("again.toml", &printed.out);
    let again = user.run(&[
        "serve",
        "--print-config",
        "--config",
        file.to_str().unwrap(),
    ]);
    let without_origins = |text: &str| -> Vec<String> {
        text.lines()
            .map(|line| line.split("  # ").next().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        without_origins(&again.out),
        without_origins(&printed.out),
        "{again:?}"
    );
}

#[test]
fn a_key_that_does_not_exist_names_file_line_and_the_nearest_one() {
    let user = User::alone("[timeouts]\nconect = \"2s\"\n");
    for command in [
        &["serve", "--check"][..],
        &["status"],
        &["route", "hi"],
        &["why", "1"],
    ] {
        let done = user.run(command);
        done.refused(2, "conect", "");
        assert!(
            done.err.contains("gpurouter.toml")
                && done.err.contains('3')
                && done.err.contains("`connect`"),
            "{done:?}"
        );
    }
    user.run(&["--config", "/nonexistent.toml", "status"])
        .refused(2, "/nonexistent.toml", "");
    User::alone("[[node]]\nname = \"a\"\n")
        .run(&["status"])
        .refused(2, "url", "");
}

#[test]
fn check_says_all_some_or_none() {
    let (live, dead) = (node(), RefusedPort::new());
    let user = User::alone("");
    let check = |nodes: &[String]| {
        let mut arguments = vec!["serve", "--check"];
        for node in nodes {
            arguments.extend(["--node", node]);
        }
        user.run(&arguments)
    };
    let [live, dead] = [
        format!("live={}", live.url()),
        format!("dead={}", dead.url()),
    ];
    let all: Done = check(std::slice::from_ref(&live));
    assert_eq!((all.code, all.out.contains("live")), (0, true), "{all:?}");
    let some = check(&[live, dead.clone()]);
    assert_eq!(some.code, 1);
    assert!(
        some.out.contains("warning: node `dead` is down") && some.out.contains("cure: "),
        "{some:?}"
    );
    fits(&some.out);
    assert_eq!(check(&[dead]).code, 3);
}

#[test]
fn one_node_only_when_the_environment_says_so() {
    let (base, other) = (node(), node());
    let scratch = Scratch::new();
    let output = command(&scratch)
        .args(["serve", "--check", "--json"])
        .envs([
            ("ENABLE_DUAL_GPU", "false".to_owned()),
            ("OLLAMA_BASE", base.url()),
            ("GPU1_URL", other.url()),
        ])
        .output()
        .unwrap();
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (
            status["nodes"].as_array().unwrap().len(),
            &status["nodes"][0]["url"]
        ),
        (1, &json!(base.url())),
        "{status}"
    );
}

#[test]
fn both_gpus_may_be_behind_one_address() {
    let stub = super::common::Stub::ollama(&["small", "large"], super::reply::healthy);
    let nodes = format!(
        "[[node]]\nname = \"gpu0\"\nurl = \"{0}\"\n[[node]]\nname = \"gpu1\"\nurl = \"{0}\"\n",
        stub.url()
    );
    let router = Router::start(&["--log-format", "json"], &nodes);
    router.wait_ready(2);
    let told = router.records().iter().any(|record| {
        record["message"]
            .as_str()
            .is_some_and(|text| text.contains("gpu0") && text.contains("gpu1"))
    });
    assert!(told, "a notice at the start: {:#?}", router.stderr());
}
