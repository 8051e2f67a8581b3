//! The documents against the schemas of `tests/schemas`.

use std::fs;
use std::path::Path;

use jsonschema::Validator;
use serde_json::{Map, Value, json};

use super::common::{RefusedPort, Router, Sim, Stub, client, reply};
use super::{User, node};

fn directory() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schemas")
}

/// A committed schema, with the files that it refers to in place of the references.
fn schema(name: &str) -> Value {
    let text = fs::read_to_string(directory().join(name))
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    inlined(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}")))
}

fn inlined(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut fields: Map<String, Value> = fields
                .into_iter()
                .map(|(key, value)| (key, inlined(value)))
                .collect();
            if let Some(Value::String(file)) = fields.remove("$ref") {
                fields.insert("allOf".to_owned(), json!([schema(&file)]));
            }
            Value::Object(fields)
        }
        Value::Array(items) => items.into_iter().map(inlined).collect(),
        other => other,
    }
}

fn validator(name: &str) -> Validator {
    let schema = schema(&format!("{name}.json"));
    jsonschema::draft202012::new(&schema).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Fails with every violation.
pub(super) fn holds(name: &str, document: &Value) {
    let validator = validator(name);
    let errors: Vec<String> = validator
        .iter_errors(document)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{name}: {errors:#?} in {document}");
    // The schema says something: a field that is missing, unknown or of another type breaks it.
    for (field, _) in document.as_object().expect("a document is an object") {
        let mut missing = document.clone();
        missing.as_object_mut().unwrap().shift_remove(field);
        assert!(!validator.is_valid(&missing), "{name} without {field}");
        let mut wrong = document.clone();
        wrong[field] = json!({"no": ["such", "thing"]});
        assert!(!validator.is_valid(&wrong), "{name} with a wrong {field}");
    }
    let mut unknown = document.clone();
    unknown["one_more"] = json!(1);
    assert!(
        !validator.is_valid(&unknown),
        "{name} with an unknown field"
    );
}

fn chat(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "Write a docstring"}], "stream": false})
}

#[test]
fn every_schema_is_a_schema() {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let schema = schema(&name);
        assert_eq!(
            schema["$schema"], "https://json-schema.org/draft/2020-12/schema",
            "{name}"
        );
        assert!(jsonschema::meta::is_valid(&schema), "{name}");
        names.push(name);
    }
    assert!(names.len() >= 10, "{names:?}");
}

#[test]
fn what_the_router_tells() {
    let sim = Sim::start(&["--gpu", "rtx3060", "--clock", "virtual"]);
    let (dead, llama) = (
        RefusedPort::new(),
        Stub::llama_server("tiny", reply::healthy),
    );
    let failing = Stub::ollama(&["f"], |_, peer| peer.close());
    let backup = Stub::ollama(&["f"], reply::healthy);
    let nodes = [
        ("sim", sim.urls[0].clone()),
        ("dead", dead.url()),
        ("llama", llama.url()),
        ("failing", failing.url()),
        ("backup", backup.url()),
    ];
    let mut config = String::new();
    for (name, url) in nodes {
        let node = format!("[[node]]\nname = \"{name}\"\nurl = \"{url}\"\ngpu = \"RTX\"\n");
        config.push_str(&node);
    }
    let router = Router::start(
        &["--log-format", "json"],
        &(config + "[prices]\nreference = \"r\"\n[prices.models.r]\ninput = 1.0\noutput = 2.0\n"),
    );
    router.wait_ready(4);
    let sent = [
        ("/api/chat", "qwen2.5-coder:7b", 200),
        ("/v1/chat/completions", "auto", 200),
        ("/api/chat", "tiny", 200),
        ("/v1/chat/completions", "f", 200),
        ("/api/chat", "nope", 404),
    ];
    for (path, model, status) in sent {
        let answer = client::post(router.addr, path, &chat(model));
        assert_eq!(answer.status, status, "{path} {model}: {answer:?}");
        let id = answer.header("x-gpurouter-id").unwrap();
        holds("log", &router.wait_record(|record| record["id"] == id));
        holds("why", &router.api(&format!("/gpurouter/api/why/{id}")));
    }
    let decisions = router.api("/gpurouter/api/decisions");
    assert_eq!(decisions["decisions"].as_array().unwrap().len(), sent.len());
    holds("decisions", &decisions);
    holds("health", &router.api("/health"));
    holds("status", &router.api("/gpurouter/api/status"));
    let speeds = &router.api("/gpurouter/api/status")["nodes"][0]["speeds"];
    assert!(
        speeds.as_array().is_some_and(|speeds| !speeds.is_empty()),
        "measured ones were checked: {speeds}"
    );
    let user = User::of(&router);
    holds("status", &user.run(&["status", "--json"]).json());
    holds(
        "route",
        &user.run(&["route", "--json", "--model", "f", "hi"]).json(),
    );
    holds("route", &user.run(&["route", "--json", "hi"]).json());
    drop(sim);
}

#[test]
fn what_commands_tell_without_a_router() {
    let (stub, dead) = (node(), RefusedPort::new());
    let user = User::alone(&format!(
        "[[node]]\nname = \"a\"\nurl = \"{}\"\n[[node]]\nname = \"b\"\nurl = \"{}\"\n",
        stub.url(),
        dead.url()
    ));
    holds("status", &user.run(&["status", "--json"]).json());
    holds("status", &user.run(&["serve", "--check", "--json"]).json());
    holds(
        "route",
        &user.run(&["route", "--json", "--model", "m", "hi"]).json(),
    );
    holds(
        "print-config",
        &user.run(&["serve", "--print-config", "--json"]).json(),
    );
    let asked = user.run(&["ask", "--json", "--model", "m", "hi"]);
    holds(
        "why",
        &serde_json::from_str(asked.out.lines().last().unwrap()).unwrap(),
    );
}

#[test]
fn what_classify_tells() {
    let stub = node();
    let user = User::alone(&format!(
        "[[node]]\nname = \"a\"\nurl = \"{}\"\n[routing]\nsimple = {{ model = \"m\" }}\n",
        stub.url()
    ));
    let one = user.run(&[
        "classify",
        "--json",
        "Write a docstring for a sort function",
    ]);
    assert_eq!(one.json()["complexity"], "SIMPLE", "{one:?}");
    let replayed = user.run(&["bench", "replay", "--trace", "contexts", "--json"]);
    holds("replay", &replayed.json());
    holds("classify", &one.json());
    let lines = user.run_with(
        &["classify", "--json", "--lines"],
        "Document this\nDesign a database\n",
    );
    assert_eq!((lines.code, lines.out.lines().count()), (0, 2), "{lines:?}");
    for line in lines.out.lines() {
        holds("classify", &serde_json::from_str(line).unwrap());
    }
}

#[test]
fn what_sim_tells() {
    use std::io::{BufRead, BufReader};
    let user = User::alone("");
    let mut child = user.start(&["sim", "--json", "--gpu", "rtx3060", "--gpu", "cpu"]);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    drop(child.kill());
    drop(child.wait());
    holds("sim", &serde_json::from_str(&line).unwrap());
}

#[test]
fn optimize_is_a_plan_and_what_came_of_it() {
    let sim = Sim::start(&["--gpu", "rtx3060"]);
    let nodes = format!(
        "vram_safety_margin = 0.8\npriority_models = [\"mxbai-embed-large\", \"codellama:13b\", \"llama3.1:70b\"]\n[[node]]\nname = \"gpu0\"\nurl = \"{}\"\nvram = \"12GiB\"\n",
        sim.urls[0]
    );
    let user = User::alone(&nodes);
    let plan = user.run(&["optimize", "--json"]);
    assert_eq!(plan.code, 1, "{plan:?}");
    holds("optimize", &plan.json());
    let applied = user.run(&["optimize", "--apply", "--json"]);
    assert_eq!(applied.code, 0, "{applied:?}");
    holds("optimize", &applied.json());
    let router = Router::start(&[], &format!("auto_optimize = false\n{nodes}"));
    router.wait_ready(1);
    holds("optimize", &router.api("/gpurouter/api/optimize"));
}
