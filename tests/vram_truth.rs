//! Estimates against what llama.cpp itself reports for the same model under the same settings.
//!
//! `memory_truth.csv`: llama-fit-params b11434 with RPC devices; `oracle_grid.json`: a no-allocation load of b11669 with one device. Both are
//! described in `tests/data/vram/README.md`. Every (model, type) of a row has its header under `headers/`.

#![expect(clippy::print_stdout, reason = "the test reports its distribution")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use gpurouter::vram::{
    CacheType, Estimate, Header, Offload, Runtime, Settings, Shape, Subject, estimate, read,
};

const MIB: f64 = 1024.0 * 1024.0;

/// Reads a header below `tests/data/vram`.
fn header(name: &str) -> Header {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/vram")
        .join(name);
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    read(&mut bytes.as_slice()).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A model's shape, by the name of its header file.
fn subject(name: &str) -> Subject {
    let header = header(name);
    Subject::Shaped(Box::new(
        Shape::of(&header).unwrap_or_else(|error| panic!("{name}: {error}")),
    ))
}

/// One device of a row: what was reported, what was estimated, in MiB.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Figures {
    weights: f64,
    memory: f64,
    compute: f64,
}

impl Figures {
    fn total(self) -> f64 {
        self.weights + self.memory + self.compute
    }
}

/// A row of a truth set.
struct Row {
    /// What to print when it is wrong.
    name: String,
    /// Groups it is reported in.
    family: String,
    mode: String,
    /// Weights and memory are only known in whole MiB.
    rounded: bool,
    truth: Vec<Figures>,
    estimate: Vec<Figures>,
}

/// What an estimate says of the devices of a row: the GPUs in order, or RAM without any.
fn estimated(estimate: &Estimate) -> Vec<Figures> {
    let figures = |parts: &gpurouter::vram::Parts| Figures {
        weights: bytes(parts.weights_bytes),
        memory: bytes(parts.kv_bytes + parts.state_bytes),
        compute: bytes(parts.compute_bytes),
    };
    let mut all: Vec<Figures> = estimate.devices.iter().map(figures).collect();
    all.push(figures(&estimate.host));
    all
}

#[expect(
    clippy::cast_precision_loss,
    reason = "sizes of models are far below 2^53"
)]
fn bytes(bytes: u64) -> f64 {
    bytes as f64 / MIB
}

/// The rows of `memory_truth.csv`.
fn memory_truth() -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vram/memory_truth.csv");
    let text = fs::read_to_string(path).expect("memory_truth.csv");
    let mut lines = text.lines();
    let columns: Vec<&str> = lines.next().expect("a header line").split(',').collect();
    let mut subjects = BTreeMap::new();
    lines
        .map(|line| {
            columns
                .iter()
                .copied()
                .zip(line.split(','))
                .collect::<BTreeMap<_, _>>()
        })
        .filter(|row| row["note"].is_empty())
        .map(|row| truth_row(&row, &mut subjects))
        .collect()
}

fn truth_row(row: &BTreeMap<&str, &str>, subjects: &mut BTreeMap<String, Subject>) -> Row {
    let file = format!("headers/{}.{}.header.gguf", row["model"], row["type"]);
    let subject = subjects
        .entry(file.clone())
        .or_insert_with(|| subject(&file));
    let Subject::Shaped(shape) = &*subject else {
        panic!("a header has a shape");
    };
    let number = |column: &str| {
        row[column]
            .parse::<u64>()
            .unwrap_or_else(|_| panic!("{column} of {row:?}"))
    };
    let devices = match row["devices"] {
        "dev1" => 1,
        "dev2" => 2,
        _ => 0,
    };
    let ngl = u32::try_from(number("ngl")).expect("a number of layers");
    let settings = Settings {
        ctx: number("ctx"),
        parallel: u32::try_from(number("parallel")).expect("a number of slots"),
        unified_kv: false,
        cache_k: row["ctk"].parse().expect("a cache type"),
        cache_v: row["ctv"].parse().expect("a cache type"),
        batch: number("batch"),
        ubatch: number("ubatch"),
        flash_attention: row["fa_resolved"] != "off",
        swa_full: row["swa_full"] == "1",
        batch_logits: row["n_outputs"] == "batch",
        input_copy: true,
        cuda_kv_scratch: false,
        op_offload: false,
        ..Settings::defaults(Runtime::LlamaServer, shape)
    };
    let offload = Offload {
        split: vec![1.0; devices],
        gpu_layers: Some(ngl),
        cpu_experts: 0,
    };
    // In the order of the devices, RAM last; every device calls itself RPC0.
    let buffers: Vec<f64> = row["compute_mib_exact"]
        .split(';')
        .filter_map(|buffer| buffer.split_once('='))
        .map(|(_, size)| size.parse().expect("MiB"))
        .collect();
    let buffer = |device: usize| buffers.get(device).copied().unwrap_or(0.0);
    let mib = |column: String| row[column.as_str()].parse::<f64>().unwrap_or(0.0);
    let mut truth: Vec<Figures> = (0..devices)
        .map(|device| Figures {
            weights: mib(format!("dev{device}_model_mib")),
            memory: mib(format!("dev{device}_context_mib")),
            compute: buffer(device),
        })
        .collect();
    truth.push(Figures {
        // The tool leaves re-packed tensors out of RAM's share; without a device all of the file is there.
        weights: if ngl == 0 {
            bytes(number("tensor_bytes"))
        } else {
            mib("host_model_mib".to_owned())
        },
        memory: mib("host_context_mib".to_owned()),
        compute: buffer(devices),
    });
    Row {
        name: format!(
            "{} {} {} ngl {} ctx {} np {} ub {} kv {} fa {} out {}",
            row["model"],
            row["type"],
            row["devices"],
            ngl,
            row["ctx"],
            row["parallel"],
            row["ubatch"],
            row["ctk"],
            row["fa_resolved"],
            row["n_outputs"]
        ),
        family: format!("{} ({})", row["arch"], row["model"]),
        mode: format!(
            "{}{}",
            row["devices"],
            if ngl == 99 || ngl == 0 {
                ""
            } else {
                " partial"
            }
        ),
        rounded: true,
        truth,
        estimate: estimated(&estimate(subject, &settings, &offload)),
    }
}

/// The rows of `oracle_grid.json`.
fn oracle_grid() -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vram/oracle_grid.json");
    let text = fs::read_to_string(path).expect("oracle_grid.json");
    let rows: Vec<serde_json::Value> = serde_json::from_str(&text).expect("oracle_grid.json");
    let mut subjects = BTreeMap::new();
    rows.iter()
        .map(|row| oracle_row(row, &mut subjects))
        .collect()
}

fn oracle_row(row: &serde_json::Value, subjects: &mut BTreeMap<String, Subject>) -> Row {
    let model = row["model"].as_str().expect("a model");
    let file = format!("oracle_headers/{model}.header.gguf");
    let subject = subjects
        .entry(file.clone())
        .or_insert_with(|| subject(&file));
    let Subject::Shaped(shape) = &*subject else {
        panic!("a header has a shape");
    };
    let server = row["mode"] == "server";
    let number = |key: &str| row[key].as_u64().expect("a number");
    let settings = Settings {
        ctx: number("c"),
        parallel: if server { 4 } else { 1 },
        unified_kv: server,
        ubatch: number("ub"),
        batch: 2048,
        cache_k: CacheType::F16,
        cache_v: CacheType::F16,
        flash_attention: row["fa"] == "on",
        batch_logits: !server,
        input_copy: false,
        cuda_kv_scratch: false,
        op_offload: false,
        ..Settings::defaults(Runtime::LlamaServer, shape)
    };
    let figures = |key: &str| {
        let part = |place: usize| bytes(row[key][place].as_u64().expect("bytes"));
        Figures {
            weights: part(0),
            memory: part(1),
            compute: part(2),
        }
    };
    Row {
        name: format!(
            "{model} ctx {} ub {} {} fa {}",
            row["c"], row["ub"], row["mode"], row["fa"]
        ),
        family: format!("oracle {} ({model})", shape.architecture),
        mode: "oracle".to_owned(),
        rounded: false,
        truth: vec![figures("gpu"), figures("cpu")],
        estimate: estimated(&estimate(subject, &settings, &Offload::single())),
    }
}

/// Weights, memory and compute of a row together: of its GPUs, without one of RAM.
fn counted(figures: &[Figures]) -> Figures {
    let gpus = figures.len().saturating_sub(1);
    let held = |figures: &&Figures| figures.weights > 0.0;
    let used: Vec<&Figures> = match figures[..gpus].iter().filter(held).collect::<Vec<_>>() {
        gpus if gpus.is_empty() => figures.iter().collect(),
        gpus => gpus,
    };
    Figures {
        weights: used.iter().map(|figures| figures.weights).sum(),
        memory: used.iter().map(|figures| figures.memory).sum(),
        compute: used.iter().map(|figures| figures.compute).sum(),
    }
}

/// The error of a row's total in per cent.
fn total_error(row: &Row) -> f64 {
    let truth = counted(&row.truth).total();
    (counted(&row.estimate).total() - truth) / truth * 100.0
}

/// How far a figure may be from one that was rounded down to whole MiB.
fn same(row: &Row, truth: f64, estimate: f64) -> bool {
    if row.rounded {
        // Two decimals are rounded as well.
        (-0.01..1.01).contains(&(estimate - truth))
    } else {
        (estimate - truth).abs() < 1e-6
    }
}

/// Weights and memory that differ, device by device. RAM is left out where the tool leaves out what it re-packs there.
fn unequal(row: &Row) -> Vec<String> {
    let mut wrong = Vec::new();
    for (place, (truth, estimate)) in row.truth.iter().zip(&row.estimate).enumerate() {
        let ram = place + 1 == row.truth.len();
        let repacked = ram && row.rounded && estimate.weights > truth.weights;
        if !repacked && !same(row, truth.weights, estimate.weights) {
            wrong.push(format!(
                "{} device {place}: weights {} for {}",
                row.name, estimate.weights, truth.weights
            ));
        }
        if !same(row, truth.memory, estimate.memory) {
            wrong.push(format!(
                "{} device {place}: memory {} for {}",
                row.name, estimate.memory, truth.memory
            ));
        }
    }
    wrong
}

/// Prints how far estimates are from the truth, by group: the total's error, and what part of all errors comes from which part.
fn report(rows: &[Row]) {
    let mut groups: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        for group in [row.family.as_str(), row.mode.as_str(), "all"] {
            groups.entry(group).or_default().push(row);
        }
    }
    println!(
        "{:36} {:>5}  {:>7} {:>7} {:>7}   share of the error",
        "", "rows", "p50 %", "p95 %", "max %"
    );
    for (group, rows) in &groups {
        let errors = sorted(rows.iter().map(|row| total_error(row).abs()).collect());
        let mut parts = [0.0; 3];
        for row in rows {
            let (truth, estimate) = (counted(&row.truth), counted(&row.estimate));
            parts[0] += (estimate.weights - truth.weights).abs();
            parts[1] += (estimate.memory - truth.memory).abs();
            parts[2] += (estimate.compute - truth.compute).abs();
        }
        let sum = parts.iter().sum::<f64>().max(f64::MIN_POSITIVE);
        let [weights, memory, compute] = parts.map(|part| part / sum * 100.0);
        println!(
            "{group:36} {:5}  {:7.3} {:7.3} {:7.3}   weights {weights:3.0} %, memory {memory:3.0} %, compute {compute:3.0} %",
            rows.len(),
            percentile(&errors, 50),
            percentile(&errors, 95),
            percentile(&errors, 100),
        );
    }
}

fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

fn percentile(sorted: &[f64], share: usize) -> f64 {
    sorted[(sorted.len() - 1) * share / 100]
}

/// Asserts the acceptance: weights and memory equal, the total within 1 % in 95 % of rows and never more than 5 % off.
fn accept(rows: &[Row]) {
    let wrong: Vec<String> = rows.iter().flat_map(unequal).collect();
    assert!(
        wrong.is_empty(),
        "{} of {} rows: {:#?}",
        wrong.len(),
        rows.len(),
        &wrong[..wrong.len().min(10)]
    );
    let errors = sorted(rows.iter().map(|row| total_error(row).abs()).collect());
    assert!(
        percentile(&errors, 95) <= 1.0,
        "p95 {} %",
        percentile(&errors, 95)
    );
    assert!(
        percentile(&errors, 100) <= 5.0,
        "max {} %",
        percentile(&errors, 100)
    );
}

#[test]
fn estimates_agree_with_llama_cpp() {
    let rows: Vec<Row> = memory_truth().into_iter().chain(oracle_grid()).collect();
    assert_eq!(rows.len(), 2018 + 340);
    report(&rows);
    accept(&rows);
}

#[test]
fn each_gpu_of_two_is_right_by_itself() {
    let rows = memory_truth();
    for row in rows.iter().filter(|row| row.truth.len() == 3) {
        for (truth, estimate) in row.truth[..2]
            .iter()
            .zip(&row.estimate)
            .filter(|(truth, _)| truth.weights > 0.0)
        {
            let error = (estimate.total() - truth.total()) / truth.total();
            assert!(
                error.abs() < 0.01,
                "{}: {estimate:?} for {truth:?}",
                row.name
            );
        }
    }
}

#[test]
fn further_architectures_and_options_agree() {
    let rows = measured();
    assert_eq!(rows.len(), 406);
    report(&rows);
    // In RAM llama.cpp lists gemma4's tied embeddings twice; both are the same mapped pages of the file.
    let listed_twice = |row: &&Row| row.name == "gemma4 ram";
    let wrong: Vec<String> = rows
        .iter()
        .filter(|row| !listed_twice(row))
        .flat_map(unequal)
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {} rows: {:#?}",
        wrong.len(),
        rows.len(),
        &wrong[..wrong.len().min(10)]
    );
    // Small models of eight layers: a buffer weighs more here than in a real one. Pipelines of recurrent layers are the worst.
    let errors = sorted(rows.iter().map(|row| total_error(row).abs()).collect());
    assert!(
        percentile(&errors, 90) <= 1.0,
        "p90 {} %",
        percentile(&errors, 90)
    );
    assert!(
        percentile(&errors, 95) <= 2.0,
        "p95 {} %",
        percentile(&errors, 95)
    );
}

#[test]
fn prints_rows_by_name() {
    // VRAM_TRUTH_SHOW=gemma-3 cargo test --test vram_truth -- --nocapture prints_rows
    let Ok(show) = std::env::var("VRAM_TRUTH_SHOW") else {
        return;
    };
    let rows = memory_truth()
        .into_iter()
        .chain(oracle_grid())
        .chain(measured());
    for row in rows.filter(|row| row.name.contains(&show)) {
        println!("{:8.3} % {}", total_error(&row), row.name);
        for (truth, estimate) in row.truth.iter().zip(&row.estimate) {
            println!(
                "      weights {:10.2} {:+.2}  memory {:10.2} {:+.2}  compute {:10.2} {:+.2}",
                truth.weights,
                estimate.weights - truth.weights,
                truth.memory,
                estimate.memory - truth.memory,
                truth.compute,
                estimate.compute - truth.compute
            );
        }
    }
}

/// The rows of `measured.csv`: shapes and options that are in neither of the two sets.
fn measured() -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vram/measured.csv");
    let text = fs::read_to_string(path).expect("measured.csv");
    let mut lines = text.lines();
    let columns: Vec<&str> = lines.next().expect("a header line").split(',').collect();
    let mut subjects = BTreeMap::new();
    lines
        .map(|line| {
            columns
                .iter()
                .copied()
                .zip(line.split(','))
                .collect::<BTreeMap<_, _>>()
        })
        .map(|row| measured_row(&row, &mut subjects))
        .collect()
}

fn measured_row(row: &BTreeMap<&str, &str>, subjects: &mut BTreeMap<String, Subject>) -> Row {
    let file = format!("arch_headers/{}.gguf", row["model"]);
    let subject = subjects
        .entry(file.clone())
        .or_insert_with(|| subject(&file));
    let Subject::Shaped(shape) = &*subject else {
        panic!("a header has a shape");
    };
    let number = |column: &str| {
        row[column]
            .parse::<u64>()
            .unwrap_or_else(|_| panic!("{column} of {row:?}"))
    };
    let small = |column: &str| u32::try_from(number(column)).expect("a small number");
    let devices = usize::try_from(number("devices")).expect("a number of devices");
    let settings = Settings {
        ctx: number("ctx"),
        parallel: small("parallel"),
        unified_kv: row["unified"] == "1",
        cache_k: row["cache_k"].parse().expect("a cache type"),
        cache_v: row["cache_v"].parse().expect("a cache type"),
        batch: number("batch"),
        ubatch: number("ubatch"),
        flash_attention: row["flash"] == "on",
        batch_logits: row["outputs"] == "batch",
        input_copy: true,
        cuda_kv_scratch: false,
        op_offload: false,
        ..Settings::defaults(Runtime::LlamaServer, shape)
    };
    let offload = Offload {
        split: vec![1.0; devices],
        gpu_layers: Some(small("gpu_layers")),
        cpu_experts: 0,
    };
    let figures = |device: &str| {
        let part = |part: &str| {
            row[format!("{device}_{part}").as_str()]
                .parse()
                .unwrap_or(0.0)
        };
        Figures {
            weights: part("weights"),
            memory: part("memory"),
            compute: part("compute"),
        }
    };
    let mut truth: Vec<Figures> = (0..devices)
        .map(|device| figures(&format!("dev{device}")))
        .collect();
    truth.push(figures("host"));
    Row {
        name: format!("{} {}", row["model"], row["case"]),
        family: format!("measured {}", row["model"]),
        mode: format!("measured ({})", row["case"]),
        rounded: true,
        truth,
        estimate: estimated(&estimate(subject, &settings, &offload)),
    }
}
