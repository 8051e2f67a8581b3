//! GPUs beside a running router: drivers that come, go and hang.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::common::{LIMIT, RefusedPort, Router, Stub, client, eventually, reply};
use super::{Machine, TWO, codes, holds, state};

/// "At once", for an answer that waits for no driver.
const QUICK: Duration = Duration::from_secs(2);

fn pool(router: &Router) -> Value {
    let health = router.api("/health");
    holds("health", &health);
    health["gpu_pool_status"].clone()
}

/// Lines of the log with that word.
fn lines(router: &Router, word: &str) -> Vec<String> {
    let mut lines = router.stderr();
    lines.retain(|line| line.contains(word));
    lines
}

#[test]
fn a_machine_without_a_gpu_serves_and_says_so_once() {
    let stub = Stub::ollama(&["m"], reply::healthy);
    let router = Router::start(&["--node", &stub.url()], "");
    router.wait_ready(1);
    let pool = pool(&router);
    assert_eq!(
        pool,
        json!({
            "total_gpus": 0, "available_gpus": 0, "total_vram": 0, "available_vram": 0,
            "total_vram_bytes": 0, "available_vram_bytes": 0, "gpu_list": [],
            "allocation_strategy": "single-gpu-preferred", "gpu_available": false
        })
    );
    for _ in 0..3 {
        let asked =
            json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": false});
        assert_eq!(client::post(router.addr, "/api/chat", &asked).status, 200);
        assert_eq!(client::get(router.addr, "/health").status, 200);
    }
    let told = lines(&router, "CPU-only");
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(
        told[0].contains(" warning no NVIDIA GPU (libnvidia-ml not found)"),
        "{told:?}"
    );
    assert!(
        !client::get(router.addr, "/metrics")
            .text()
            .contains("gpurouter_gpu_")
    );
}

#[test]
fn a_router_before_other_machines_is_not_warned_about_its_own() {
    let far = "http://192.0.2.1:11434";
    let router = Router::start(&["--node", far], "");
    let told = lines(&router, "CPU-only");
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].contains(" info "), "{told:?}");
    assert_eq!(codes(&router.api("/gpurouter/api/status")), [""; 0]);
}

#[test]
fn a_driver_that_comes_later_is_found_and_a_gpu_that_is_lost_comes_back() {
    let Some(machine) = Machine::new(
        "a_driver_that_comes_later_is_found_and_a_gpu_that_is_lost_comes_back",
        &[],
    ) else {
        return;
    };
    machine.driver("! 9\n");
    let nobody = RefusedPort::new();
    let router = machine.serve(&["--node", &nobody.url()]);
    assert_eq!(pool(&router)["total_gpus"], 0);
    machine.driver(TWO);
    let found = eventually(LIMIT, || pool(&router)["total_gpus"] == 2);
    assert!(found, "{:#?}", router.stderr());
    let [first, ..] = &lines(&router, "2 GPUs")[..] else {
        panic!("{:#?}", router.stderr());
    };
    assert!(
        first.ends_with(
            " info 2 GPUs: NVIDIA GeForce RTX 3090 (24.0 GiB), NVIDIA GeForce RTX 3060 (12.0 GiB)"
        ),
        "{first}"
    );

    // The 3060 falls off the bus: it keeps its name, the other its figures.
    machine.driver(&TWO.replacen("name=", "state=15; name=", 1));
    let states = || {
        let status = router.api("/gpurouter/api/status");
        holds("status", &status);
        let gpus = status["gpus"].as_array().unwrap().clone();
        let told: Vec<String> = gpus
            .iter()
            .map(|gpu| format!("{} {} {}", gpu["name"], gpu["state"], gpu["temperature_c"]))
            .collect();
        told
    };
    let lost = [
        "\"NVIDIA GeForce RTX 3090\" \"ok\" 41",
        "\"NVIDIA GeForce RTX 3060\" \"lost\" null",
    ];
    assert!(eventually(LIMIT, || states() == lost), "{:?}", states());
    assert_eq!(codes(&router.api("/gpurouter/api/status")), ["gpu_lost"]);
    let pool_ = pool(&router);
    assert_eq!(
        (&pool_["total_gpus"], &pool_["available_gpus"]),
        (&json!(2), &json!(1))
    );
    let metrics = client::get(router.addr, "/metrics").text();
    let down = "gpurouter_gpu_up{gpu=\"1\",uuid=\"GPU-b\",name=\"NVIDIA GeForce RTX 3060\"} 0";
    assert!(metrics.lines().any(|line| line == down), "{metrics}");

    // The driver goes away whole (a reset): nothing is forgotten, nothing is made up.
    machine.driver("count 9\n! 9\n");
    let gone = eventually(LIMIT, || pool(&router)["gpu_available"] == false);
    assert!(gone, "{:#?}", router.stderr());
    assert_eq!(pool(&router)["total_gpus"], 2);
    machine.driver(TWO);
    let back = eventually(LIMIT, || pool(&router)["available_gpus"] == 2);
    assert!(back, "{:#?}", router.stderr());
}

#[test]
fn a_driver_that_hangs_from_the_start_delays_nothing() {
    let Some(machine) = Machine::new("a_driver_that_hangs_from_the_start_delays_nothing", &[])
    else {
        return;
    };
    machine.driver("hang\n");
    let nobody = RefusedPort::new();
    let mut router = machine.serve(&["--node", &nobody.url()]);
    let began = Instant::now();
    assert_eq!(pool(&router)["total_gpus"], Value::Null);
    assert_eq!(pool(&router)["gpu_available"], Value::Null);
    assert!(began.elapsed() < QUICK, "{:?}", began.elapsed());
    let told = eventually(LIMIT, || {
        state(&router.api("/gpurouter/api/status"), "nvml") == "not_answering"
    });
    assert!(told, "{:#?}", router.stderr());
    assert!(eventually(LIMIT, || {
        lines(&router, "the driver does not answer").len() == 1
    }));
    router.terminate();
    let ended = router.wait_exit(QUICK).expect("it stops all the same");
    assert!(ended.success(), "{ended}");
}

#[test]
fn a_driver_that_begins_to_hang_takes_the_figures_with_it_and_brings_them_back() {
    let Some(machine) = Machine::new(
        "a_driver_that_begins_to_hang_takes_the_figures_with_it_and_brings_them_back",
        &[],
    ) else {
        return;
    };
    let nobody = RefusedPort::new();
    let mut router = machine.serve(&["--node", &nobody.url()]);
    assert_eq!(pool(&router)["available_gpus"], 2);
    machine.driver(&format!("sleep 2500\n{TWO}"));
    let silent = eventually(LIMIT, || {
        let began = Instant::now();
        let pool = pool(&router);
        assert!(began.elapsed() < QUICK, "{:?}", began.elapsed());
        pool["gpu_list"][0]["state"] == "error"
    });
    assert!(silent, "{:#?}", router.stderr());
    let pool_ = pool(&router);
    let gpu = &pool_["gpu_list"][0];
    assert_eq!(
        (&gpu["uuid"], &gpu["total_bytes"], &gpu["used_bytes"]),
        (&json!("GPU-a"), &json!(24_u64 << 30), &Value::Null)
    );
    machine.driver(TWO);
    let back = eventually(LIMIT, || {
        pool(&router)["gpu_list"][0]["used_bytes"].is_u64()
    });
    assert!(back, "{:#?}", router.stderr());
    router.terminate();
    assert!(
        router
            .wait_exit(LIMIT)
            .is_some_and(|status| status.success())
    );
    let closed = std::fs::read_to_string(machine.scratch.path().join("shutdown"));
    assert_eq!(
        closed.unwrap(),
        "shutdown\n",
        "the library is closed at the end"
    );
}

#[test]
fn a_request_names_the_only_gpu_behind_its_node() {
    let stub = Stub::ollama(&["m"], reply::healthy);
    let loaded = json!({"name": "m", "model": "m", "size": 1000, "size_vram": 1000});
    stub.set_document("/api/ps", json!({"models": [loaded]}));
    let Some(machine) = Machine::new("a_request_names_the_only_gpu_behind_its_node", &[]) else {
        return;
    };
    let one = TWO.lines().next().unwrap();
    machine.driver(&format!("{one}\n"));
    let router = machine.serve(&["--node", &stub.url()]);
    router.wait_ready(1);
    let asked =
        json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": false});
    assert_eq!(client::post(router.addr, "/api/chat", &asked).status, 200);
    let mut record = Value::Null;
    eventually(LIMIT, || {
        record = router.api("/gpurouter/api/decisions")["decisions"][0].clone();
        record.is_object()
    });
    assert_eq!(
        (&record["gpu_used"], &record["gpu"]),
        (&json!(true), &json!("NVIDIA GeForce RTX 3060")),
        "{record}"
    );
}

#[test]
fn gpus_that_are_switched_off_are_not_looked_for_and_that_is_no_warning() {
    let Some(machine) = Machine::new(
        "gpus_that_are_switched_off_are_not_looked_for_and_that_is_no_warning",
        &[],
    ) else {
        return;
    };
    let router = machine.serve_with(&[], "[gpu]\nenabled = false\n");
    let pool_ = pool(&router);
    assert_eq!(
        (&pool_["total_gpus"], &pool_["gpu_available"]),
        (&json!(0), &json!(false))
    );
    let status = router.api("/gpurouter/api/status");
    holds("status", &status);
    assert_eq!(
        (state(&status, "nvml"), codes(&status)),
        ("disabled", vec![])
    );
    let told = lines(&router, "CPU-only");
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(
        told[0].ends_with(" info GPUs are switched off (gpu.enabled): CPU-only"),
        "{told:?}"
    );
    assert!(!machine.scratch.path().join("shutdown").exists());
}

#[test]
fn the_strategy_is_told() {
    let router = Router::start(&[], "[gpu]\ngpu_allocation_strategy = \"distribute\"\n");
    assert_eq!(pool(&router)["allocation_strategy"], "distribute");
}

#[test]
fn without_monitoring_there_is_one_look_and_with_it_one_in_each_interval() {
    let Some(machine) = Machine::new(
        "without_monitoring_there_is_one_look_and_with_it_one_in_each_interval",
        &[],
    ) else {
        return;
    };
    let once = machine.serve_with(&[], "[gpu]\nenable_gpu_monitoring = false\n");
    let often = machine.serve_with(&[], "[gpu]\nmonitoring_interval = \"100ms\"\n");
    // Its library is closed after the only look.
    let closed = || std::fs::read_to_string(machine.scratch.path().join("shutdown"));
    assert!(eventually(LIMIT, || closed().is_ok()));
    machine.driver("");
    // Nobody asks: the log tells.
    let seen = eventually(LIMIT, || lines(&often, "the driver finds none").len() == 1);
    assert!(seen, "{:#?}", often.stderr());
    assert_eq!(pool(&often)["total_gpus"], 0);
    assert_eq!(pool(&once)["total_gpus"], 2);
}

/// C39 where nobody configured a memory: the driver's, or that of the card which the configuration names.
#[test]
fn c39_the_driver_and_the_cards_name_limit_windows_too() {
    let Some(machine) = Machine::new("c39_the_driver_and_the_cards_name_limit_windows_too", &[])
    else {
        return;
    };
    machine.driver("name=NVIDIA GeForce RTX 3070; total=8192; used=0; cc=8.6; pci=1; uuid=GPU-a\n");
    let window = |gpu: &str, host: &str| {
        let stub = Stub::llama_8b();
        let url = stub.url().replace("127.0.0.1", host);
        let config =
            format!("auto_optimize = false\n[[node]]\nname = \"n\"\nurl = \"{url}\"\n{gpu}");
        let router = machine.serve_with(&[], &config);
        router.wait_ready(1);
        assert!(eventually(LIMIT, || pool(&router)["total_gpus"] == 1));
        // A look at the node after the first one at the GPU.
        std::thread::sleep(Duration::from_millis(2500));
        for context in [2048, 131_072] {
            let asked = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": false,
                "options": {"num_ctx": context}});
            let answer = client::post(router.addr, "/api/chat", &asked);
            assert_eq!(answer.status, 200, "{}", answer.text());
            // The first request does not wait until the node has described its model.
            let described = || {
                stub.probes()
                    .iter()
                    .any(|probe| probe.path() == "/api/show")
            };
            assert!(eventually(LIMIT, described));
            std::thread::sleep(Duration::from_millis(300));
        }
        let sent = stub.requests().pop().expect("a request").json();
        sent["options"]["num_ctx"].as_u64().expect("a window")
    };
    let of_driver = window("", "127.0.0.1");
    assert!((8192..=20_544).contains(&of_driver), "{of_driver}");
    // As if on another machine: the driver of this one has nothing to do with it.
    let of_card = window("gpu = \"RTX 3060\"\n", "0.0.0.0");
    assert!((32_768..=53_312).contains(&of_card), "{of_card}");
    assert_eq!(window("", "0.0.0.0"), 131_072, "nothing is known");
    assert_eq!(
        window("vram = 0\n", "127.0.0.1"),
        131_072,
        "its memory is the machine's"
    );
}
