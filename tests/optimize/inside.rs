//! The cycle inside `serve`, and its own route.

use std::time::Duration;

use gpurouter::sim::Speed;
use serde_json::{Value, json};

use super::common::{LIMIT, Router, Scratch, client, command, eventually};
use super::{calls, finish, holds, nodes_of, post, spec, start, steps};

const EMBEDDINGS: [&str; 2] = ["mxbai-embed-large", "nomic-embed-text"];
const BACK: [&str; 2] = [
    "mxbai-embed-large:latest 100% pinned",
    "nomic-embed-text:latest 100% pinned",
];

fn log_of(router: &Router) -> String {
    router.stderr().join("\n")
}

/// E13 and E14 inside `serve`: shortly after the start the priority models are on the GPU, and stay there without a further call.
#[test]
fn e13_priority_models_are_loaded_shortly_after_the_start() {
    let fleet = start(vec![spec("gpu0", 4, &EMBEDDINGS)]);
    let router = Router::start(
        &[],
        &format!("check_interval = \"300ms\"\n{}", nodes_of(&fleet)),
    );
    assert!(eventually(LIMIT, || holds(&fleet.urls()[0]) == BACK));
    assert!(eventually(LIMIT, || log_of(&router)
        .contains("info Running optimization cycle #4")));
    assert_eq!(calls(fleet.node(0)).len(), 2);
    assert!(log_of(&router).contains("mxbai-embed-large:latest is now on GPU at gpu0"));
    let metrics = client::get(router.addr, "/metrics").text();
    assert!(
        metrics.contains("gpurouter_optimize_changes_total{action=\"load\"} 2"),
        "{metrics}"
    );
}

/// E19
#[test]
fn e19_without_auto_optimize_nothing_is_changed() {
    let fleet = start(vec![spec("gpu0", 4, &EMBEDDINGS)]);
    let config = format!(
        "auto_optimize = false\ncheck_interval = \"50ms\"\n{}",
        nodes_of(&fleet)
    );
    let router = Router::start(&[], &config);
    let looks = || {
        fleet
            .node(0)
            .journal()
            .iter()
            .filter(|record| record.path == "/api/ps")
            .count()
    };
    assert!(eventually(LIMIT, || looks() >= 3));
    assert_eq!(calls(fleet.node(0)), [""; 0]);
    assert!(!log_of(&router).contains("optimization"));
    // Who asks is answered all the same.
    assert_eq!(steps(&router.api("/gpurouter/api/optimize")).len(), 2);
    assert_eq!(calls(fleet.node(0)), [""; 0]);
}

/// E27: a node that comes back is looked after at once, whatever the interval.
#[test]
fn e27_models_return_when_a_node_comes_back() {
    let fleet = start(vec![spec("gpu0", 4, &EMBEDDINGS)]);
    let router = Router::start(&[], &nodes_of(&fleet));
    assert!(eventually(LIMIT, || holds(&fleet.urls()[0]) == BACK));
    fleet.kill(0);
    assert!(eventually(LIMIT, || router.nodes_up() == Some(0)));
    fleet.revive(0).unwrap();
    assert!(eventually(LIMIT, || holds(&fleet.urls()[0]) == BACK));
    assert!(log_of(&router).contains("Running optimization cycle #2"));
}

/// E37 inside `serve`: with the default list, models that no node has are nobody's business.
#[test]
fn e37_models_that_no_node_has_are_passed_over_in_silence() {
    let fleet = start(vec![spec("gpu0", 4, &["llama3.2:1b"])]);
    let router = Router::start(
        &[],
        &format!("check_interval = \"100ms\"\n{}", nodes_of(&fleet)),
    );
    let cycles = || {
        let metrics = client::get(router.addr, "/metrics").text();
        let line = metrics
            .lines()
            .find(|line| line.starts_with("gpurouter_optimize_cycles_total"))
            .map(str::to_owned);
        line.and_then(|line| line.split(' ').nth(1)?.parse::<u64>().ok())
            .unwrap_or(0)
    };
    assert!(eventually(LIMIT, || cycles() >= 3));
    assert_eq!(calls(fleet.node(0)), [""; 0]);
    let log = log_of(&router);
    assert!(!log.contains("optimiz") && !log.contains("mxbai"), "{log}");
}

/// E16: a model that answers a request is not unloaded, however much its room is wanted; afterwards it is.
#[test]
fn e16_a_model_at_work_is_not_disturbed() {
    let mut node = spec("gpu0", 8, &["llama3.1", "llama3.2:3b"]);
    node.hardware.speed = Some(Speed {
        prefill: 1000.0,
        decode: 20.0,
    });
    node.answer_tokens = Some(60);
    let fleet = start(vec![node]);
    let config = format!(
        "vram_safety_margin = 0.8\nauto_optimize = false\npriority_models = [\"llama3.2:3b\"]\n{}",
        nodes_of(&fleet)
    );
    let router = Router::start(&[], &config);
    router.wait_ready(1);
    let url = router.url.clone();
    let asked = std::thread::spawn(move || {
        let body = json!({"model": "llama3.1", "stream": false, "messages": [{"role": "user", "content": "hello"}]});
        post(&format!("{url}/api/chat"), &body)
    });
    assert!(eventually(LIMIT, || fleet.node(0).active() > 0
        && !holds(&fleet.urls()[0]).is_empty()));
    // The router has to have seen that it is loaded.
    let loaded = || {
        router.api("/gpurouter/api/status")["nodes"][0]["loaded"]
            .as_array()
            .is_some_and(|list| !list.is_empty())
    };
    assert!(eventually(LIMIT, loaded));
    let busy = post(
        &format!("{}/gpurouter/api/optimize", router.url),
        &json!({}),
    );
    let busy: Value = busy.json();
    assert_eq!(steps(&busy), [""; 0], "{busy}");
    let reason = busy["impossible"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("at work"), "{reason}");
    // The load of the request itself is the router's own call, too.
    let before = ["/api/generate llama3.1:latest", "/api/chat llama3.1"];
    assert_eq!(calls(fleet.node(0)), before);
    let answer = asked.join().unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let done: Value = post(
        &format!("{}/gpurouter/api/optimize", router.url),
        &json!({}),
    )
    .json();
    assert_eq!(
        steps(&done),
        ["unload gpu0 llama3.1:latest", "load gpu0 llama3.2:3b"]
    );
    assert_eq!(done["applied"], true);
    assert_eq!(holds(&fleet.urls()[0]), ["llama3.2:3b 100% pinned"]);
}

/// A busy model does not protect an idle one beside it: which of a node's models are at work is known.
#[test]
fn an_idle_model_goes_although_another_one_at_the_node_is_at_work() {
    let mut node = spec("gpu0", 10, &["llama3.1", "llama3.2:1b", "llama3.2:3b"]);
    node.hardware.speed = Some(Speed {
        prefill: 1000.0,
        decode: 20.0,
    });
    node.answer_tokens = Some(60);
    let fleet = start(vec![node]);
    let config = format!(
        "vram_safety_margin = 0.8\nauto_optimize = false\npriority_models = [\"llama3.2:3b\"]\n{}",
        nodes_of(&fleet)
    );
    let router = Router::start(&[], &config);
    router.wait_ready(1);
    let ask = |model: &str, tokens: u64| {
        let url = router.url.clone();
        let body = json!({"model": model, "stream": false, "messages": [{"role": "user", "content": "hello"}],
            "options": {"num_predict": tokens, "num_ctx": 2048}});
        std::thread::spawn(move || post(&format!("{url}/api/chat"), &body))
    };
    assert_eq!(ask("llama3.2:1b", 1).join().unwrap().status, 200);
    let busy = ask("llama3.1", 60);
    // Its load is over, and the router has seen what is loaded.
    let answers = || calls(fleet.node(0)).contains(&"/api/chat llama3.1".to_owned());
    let loaded = || {
        let node = router.api("/gpurouter/api/status")["nodes"][0].clone();
        node["loaded"]
            .as_array()
            .is_some_and(|list| list.len() == 2)
    };
    assert!(eventually(LIMIT, || answers() && loaded()));
    let done: Value = post(
        &format!("{}/gpurouter/api/optimize", router.url),
        &json!({}),
    )
    .json();
    assert_eq!(
        steps(&done),
        ["unload gpu0 llama3.2:1b", "load gpu0 llama3.2:3b"],
        "{done}"
    );
    assert_eq!(
        (&done["failed"], &done["applied"]),
        (&json!([]), &json!(true))
    );
    assert!(!busy.is_finished(), "it was at work all the time");
    assert_eq!(busy.join().unwrap().status, 200);
}

/// When each load at a node began and ended, by model.
fn loads_of(
    node: &gpurouter::sim::Node,
) -> Vec<(String, std::time::Instant, Option<std::time::Instant>)> {
    let journal = node.journal();
    let loads = journal
        .iter()
        .filter(|record| matches!(record.path.as_str(), "/api/generate" | "/api/embed"));
    loads
        // A request whose body is still being read names no model yet.
        .filter_map(|record| Some((record.model.clone()?, record.started, record.ended)))
        .collect()
}

/// Loads for requests and those of the plan are never under way at a node at the same time, and a request for what is being loaded joins.
#[test]
fn a_node_has_one_load_at_a_time_whoever_wants_it() {
    let mut node = spec(
        "gpu0",
        8,
        &["llama3.2:1b", "llama3.2:3b", "nomic-embed-text"],
    );
    node.hardware.load_time = Some(Duration::from_millis(700));
    let fleet = start(vec![node]);
    let config = format!(
        "auto_optimize = false\npriority_models = [\"llama3.2:3b\"]\n{}",
        nodes_of(&fleet)
    );
    let router = Router::start(&[], &config);
    router.wait_ready(1);
    let ask = |model: &str| {
        let url = router.url.clone();
        let body = json!({"model": model, "stream": false, "messages": [{"role": "user", "content": "hello"}],
            "options": {"num_predict": 2}});
        std::thread::spawn(move || post(&format!("{url}/api/chat"), &body))
    };
    let optimize = |models: &str| {
        let url = format!("{}/gpurouter/api/optimize?models={models}", router.url);
        std::thread::spawn(move || post(&url, &json!({})))
    };
    let begun = |count: usize| eventually(LIMIT, || loads_of(fleet.node(0)).len() >= count);
    // A request's load first, the plan's beside it.
    let first = ask("llama3.2:1b");
    assert!(begun(1));
    let planned = optimize("llama3.2:3b");
    assert!(begun(2));
    // While the plan's is under way: one request joins it, one wants another model loaded.
    let (joins, waits) = (ask("llama3.2:3b"), optimize("nomic-embed-text"));
    for asked in [first, joins] {
        assert_eq!(asked.join().unwrap().status, 200);
    }
    for planned in [planned, waits] {
        let done: Value = planned.join().unwrap().json();
        assert_eq!(done["failed"], json!([]), "{done}");
    }
    let loads = loads_of(fleet.node(0));
    let names: Vec<&str> = loads.iter().map(|(model, ..)| model.as_str()).collect();
    assert_eq!(
        names,
        ["llama3.2:1b", "llama3.2:3b", "nomic-embed-text:latest"]
    );
    for pair in loads.windows(2) {
        assert!(
            pair[0].2.is_some_and(|ended| ended <= pair[1].1),
            "{loads:?}"
        );
    }
}

/// F17 across nodes and across both: two servers share this machine's one GPU, and its memory is promised to one load at a time.
#[test]
fn memory_of_a_shared_gpu_is_promised_to_one_load_at_a_time() {
    let servers = ["one", "two"].map(|name| {
        let mut node = spec(name, 8, &["llama3.1"]);
        node.hardware.load_time = Some(Duration::from_millis(700));
        node
    });
    let fleet = start(servers.to_vec());
    let urls = fleet.urls();
    let config = format!(
        "auto_optimize = false\n[[node]]\nname = \"one\"\nurl = \"{}\"\n[[node]]\nname = \"two\"\nurl = \"{}\"\n",
        urls[0], urls[1]
    );
    let router = Router::start(&["--gpus", "8GiB"], &config);
    router.wait_ready(2);
    let ask = |node: usize| {
        let body = json!({"model": "llama3.1", "stream": false, "options": {"num_predict": 2},
            "messages": [{"role": "user", "content": format!("hello {node}")}]});
        let url = router.url.clone();
        std::thread::spawn(move || post(&format!("{url}/api/chat"), &body))
    };
    let first = ask(0);
    let loads = || [0, 1].map(|node| loads_of(fleet.node(node)).len());
    assert!(eventually(LIMIT, || loads().iter().sum::<usize>() == 1));
    // The other server has the model too, and to the plan it looks as if it had all the memory but what is promised.
    let plan = router.api("/gpurouter/api/optimize?models=llama3.1");
    assert_eq!(steps(&plan), [""; 0], "{plan}");
    assert_eq!(first.join().unwrap().status, 200);
}

/// The same the other way round: what a plan loads at one server keeps a request's load at the other waiting.
#[test]
fn a_request_s_load_waits_for_memory_that_a_plan_s_was_promised() {
    let server = |name: &str, model: &str| {
        let mut node = spec(name, 8, &[model]);
        node.hardware.load_time = Some(Duration::from_millis(700));
        node
    };
    // Together they are larger than what is usable of 8 GiB.
    let fleet = start(vec![
        server("one", "llama3.1"),
        server("two", "llama3.2:3b"),
    ]);
    let urls = fleet.urls();
    let config = format!(
        "auto_optimize = false\nvram_safety_margin = 0.8\n[[node]]\nname = \"one\"\nurl = \"{}\"\n[[node]]\nname = \"two\"\nurl = \"{}\"\n",
        urls[0], urls[1]
    );
    let router = Router::start(&["--gpus", "8GiB"], &config);
    router.wait_ready(2);
    let url = router.url.clone();
    let planned = std::thread::spawn(move || {
        post(
            &format!("{url}/gpurouter/api/optimize?models=llama3.1"),
            &json!({}),
        )
    });
    assert!(eventually(LIMIT, || loads_of(fleet.node(0)).len() == 1));
    let body = json!({"model": "llama3.2:3b", "stream": false, "options": {"num_predict": 2},
        "messages": [{"role": "user", "content": "hello"}]});
    let answer = post(&format!("{}/api/chat", router.url), &body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let done: Value = planned.join().unwrap().json();
    assert_eq!(done["failed"], json!([]), "{done}");
    let (one, two) = (loads_of(fleet.node(0)), loads_of(fleet.node(1)));
    assert_eq!((one.len(), two.len()), (1, 1));
    assert!(
        one[0].2.is_some_and(|ended| ended <= two[0].1),
        "{one:?} {two:?}"
    );
}

/// The command asks the running router, which knows what is at work, and has it act.
#[test]
fn the_command_goes_through_the_running_router() {
    let fleet = start(vec![spec("gpu0", 4, &EMBEDDINGS)]);
    let router = Router::start(&[], &format!("auto_optimize = false\n{}", nodes_of(&fleet)));
    router.wait_ready(1);
    let scratch = Scratch::new();
    scratch.write(
        "gpurouter.toml",
        &format!(
            "listen = \"{}\"\npriority_models = [\"nomic-embed-text\"]\n",
            router.addr
        ),
    );
    let run = |arguments: &[&str]| {
        let child = command(&scratch)
            .arg("optimize")
            .args(arguments)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        finish(child, LIMIT)
    };
    let plan = run(&["--json"]);
    assert_eq!(
        (plan.code, plan.changes()),
        (1, vec!["load gpu0 nomic-embed-text:latest".to_owned()])
    );
    assert_eq!(plan.json()["source"], "router");
    let applied = run(&["--apply"]);
    assert_eq!(applied.code, 0, "{applied:?}");
    assert!(
        applied
            .out
            .contains("nomic-embed-text:latest is now on GPU at gpu0"),
        "{applied:?}"
    );
    assert_eq!(
        holds(&fleet.urls()[0]),
        ["nomic-embed-text:latest 100% pinned"]
    );
    assert_eq!(run(&["--apply"]).code, 0);
    assert_eq!(calls(fleet.node(0)).len(), 1);
}

/// A page in a browser must not make the router load anything.
#[test]
fn the_route_that_acts_refuses_foreign_pages() {
    let fleet = start(vec![spec("gpu0", 4, &EMBEDDINGS)]);
    let router = Router::start(&[], &format!("auto_optimize = false\n{}", nodes_of(&fleet)));
    for field in [
        "Host: evil.example",
        "Host: 127.0.0.1\r\nOrigin: http://evil.example",
    ] {
        let raw = format!(
            "POST /gpurouter/api/optimize HTTP/1.1\r\n{field}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        let mut stream = std::net::TcpStream::connect(router.addr).unwrap();
        std::io::Write::write_all(&mut stream, raw.as_bytes()).unwrap();
        let mut text = String::new();
        drop(std::io::Read::read_to_string(&mut stream, &mut text));
        assert!(text.starts_with("HTTP/1.1 403"), "{text}");
    }
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(calls(fleet.node(0)), [""; 0]);
}

/// The router ends although a load is under way.
#[test]
fn a_load_does_not_keep_the_router_from_ending() {
    let mut slow = spec("gpu0", 4, &EMBEDDINGS);
    slow.hardware.load_time = Some(Duration::from_secs(600));
    let fleet = start(vec![slow]);
    let mut router = Router::start(&[], &nodes_of(&fleet));
    assert!(eventually(LIMIT, || !calls(fleet.node(0)).is_empty()));
    router.terminate();
    let status = router.wait_exit(LIMIT).expect("it ends");
    assert!(status.success());
}
