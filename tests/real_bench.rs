//! `gpurouter bench` before two real Ollamas. Needs what `tests/real.rs` needs.

mod common;

use std::process::{Output, Stdio};

use common::fleet::Fleet;
use common::{Scratch, command, json};
use serde_json::Value;

fn bench(scratch: &Scratch, args: &[&str]) -> Output {
    command(scratch)
        .arg("bench")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("the binary that cargo built")
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

#[test]
fn live_runs_from_end_to_end_cold_and_warm() {
    let Some(fleet) = Fleet::own("live_runs_from_end_to_end_cold_and_warm") else {
        return;
    };
    let scratch = Scratch::new();
    let urls = fleet
        .ollama
        .each_ref()
        .map(|ollama| format!("--node={}", ollama.url()));
    let prompts = "Write a docstring\n{\"prompt\":\"Design a queue\",\"format\":\"json\",\"check\":{\"schema\":{\"type\":\"object\"}},\"max_tokens\":24}\n";
    scratch.write("set.txt", prompts);
    let args = [
        "live",
        &urls[0],
        &urls[1],
        "--prompts",
        "set.txt",
        "--runs",
        "2",
        "--max-tokens",
        "24",
        "--cold",
        "--receipt",
        "run.jsonl",
        "--save",
        "replies",
        "--routed-model",
        "tiny",
        "--json",
    ];
    let document = json(printed(&bench(&scratch, &args)).as_bytes());
    let figures = &document["figures"];
    for (temperature, pairs) in [("cold", 4), ("warm", 4)] {
        let group = &figures[temperature];
        assert_eq!(group["pairs"], pairs, "{document}");
        for side in ["today", "routed"] {
            let of = |name: &str| group[side][name]["value"].as_f64();
            assert_eq!(group[side]["failures"], 0, "{group}");
            // An answer that ends before its first word has no first token: the two are not always of the same requests.
            assert!(
                of("ttft_p50") > Some(0.0) && of("total_p50") > Some(0.0),
                "{group}"
            );
            assert!(
                of("tokens_in") > Some(0.0) && of("tokens_out") > Some(0.0),
                "{group}"
            );
            assert!(
                of("prefill_speed") > Some(0.0) && of("decode_speed") > Some(0.0),
                "{group}"
            );
            let loads = of("loads");
            assert_eq!(
                loads,
                Some(if temperature == "cold" { 4.0 } else { 0.0 }),
                "{group}"
            );
        }
    }
    assert!(
        figures["cold"]["today"]["load_ms"]["value"].as_f64()
            > figures["warm"]["today"]["load_ms"]["value"].as_f64()
    );
    let again = printed(&bench(&scratch, &["--recompute", "run.jsonl"]));
    assert!(again.contains("the receipt holds"), "{again}");
    // The tiny model takes no tools: a request that offers some would only fail.
    let built_in = bench(
        &scratch,
        &[
            "live",
            &urls[0],
            "--class",
            "complex",
            "--size",
            "short",
            "--runs",
            "1",
            "--max-tokens",
            "4",
            "--routed-model",
            "tiny",
        ],
    );
    let text = printed(&built_in);
    assert!(text.contains("1 with tools left out"), "{text}");
    assert!(
        text.contains("failed, counted at the time-out                    0           0"),
        "{text}"
    );
    let overview = printed(&bench(&scratch, &[&urls[0], &urls[1]]));
    assert!(overview.contains("tiny"), "{overview}");
}

#[test]
fn two_real_nodes_answer_at_once() {
    let Some(fleet) = Fleet::shared("two_real_nodes_answer_at_once") else {
        return;
    };
    let scratch = Scratch::new();
    let urls = fleet
        .ollama
        .each_ref()
        .map(|ollama| format!("--node={}", ollama.url()));
    let args = [
        "live",
        "--concurrent",
        "--quick",
        "--max-tokens",
        "32",
        "--json",
        &urls[0],
        &urls[1],
    ];
    let document: Value = json(printed(&bench(&scratch, &args)).as_bytes());
    assert!(
        document["figures"]["direct"]["ratio"]["value"].as_f64() > Some(0.0),
        "{document}"
    );
}

/// An Ollama with a GPU (a software one will do: the row is about the comparison, not about its outcome).
#[test]
#[expect(
    clippy::print_stdout,
    reason = "whoever runs the test with --nocapture sees the figure it was about"
)]
fn e32_a_real_gpu_against_the_cpu_of_the_same_node() {
    let Some([gpu, _cpu]) =
        common::fleet::gpu_and_cpu("e32_a_real_gpu_against_the_cpu_of_the_same_node")
    else {
        return;
    };
    let scratch = Scratch::new();
    scratch.write("set.txt", "Write a docstring\nName three colours\n");
    let node = format!("--node={}", gpu.url());
    let args = [
        "live",
        "--cpu",
        "--prompts",
        "set.txt",
        "--runs=1",
        "--max-tokens=16",
        "--json",
        "--receipt",
        "r.jsonl",
        &node,
    ];
    let document = json(printed(&bench(&scratch, &args)).as_bytes());
    let settings = &document["settings"];
    assert!(
        settings["today"]
            .as_str()
            .is_some_and(|today| today.contains("num_gpu 0")),
        "{settings}"
    );
    let warm = &document["figures"]["warm"];
    for side in ["today", "routed"] {
        assert_eq!(warm[side]["failures"], 0, "{warm}");
        assert!(
            warm[side]["decode_speed"]["value"].as_f64() > Some(0.0),
            "{warm}"
        );
    }
    let ratio = warm["end_to_end"]["ratio"]["value"].as_f64();
    println!("the GPU is {ratio:?} times as fast as the CPU");
    assert!(ratio > Some(0.0), "{warm}");
    let again = printed(&bench(&scratch, &["--recompute", "r.jsonl"]));
    assert!(again.contains("the receipt holds"), "{again}");
}

#[test]
fn f50_a_loaded_real_model_answers_in_less_than_five_seconds() {
    let Some(fleet) = Fleet::shared("f50_a_loaded_real_model_answers_in_less_than_five_seconds")
    else {
        return;
    };
    let scratch = Scratch::new();
    let node = format!("--node={}", fleet.ollama[0].url());
    let args = [
        "live",
        "--quick",
        "--max-tokens=8",
        "--routed-model=tiny",
        "--json",
        &node,
    ];
    let document = json(printed(&bench(&scratch, &args)).as_bytes());
    let routed = &document["figures"]["warm"]["routed"];
    let p95 = routed["total_p95"]["value"].as_f64();
    assert!(
        p95 > Some(0.0) && p95 < Some(5_000.0) && routed["failures"] == 0,
        "{routed}"
    );
}
