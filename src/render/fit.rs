//! Where a model fits.

use std::io::{self, Write};

use serde_json::Value;

use super::estimate::{between, head};
use super::tables::{align_right, array, card, print, sentence, size, table, text};

/// `fit`.
pub fn fit(out: &mut dyn Write, document: &Value) -> io::Result<()> {
    let estimate = &document["estimate"];
    head(out, estimate)?;
    takes(out, document)?;
    writeln!(out)?;
    let nodes = array(&document["nodes"]);
    if nodes.is_empty() {
        sentence(
            out,
            "",
            &Value::from(
                "There is no node, and this machine has no GPU that could be asked: see gpurouter status",
            ),
        )?;
    } else {
        sites(out, nodes)?;
        writeln!(out)?;
    }
    for node in nodes {
        let label = format!("{}: ", name(node));
        let mut reason = text(&node["reason"]);
        let evicts: Vec<String> = array(&node["evicts"])
            .iter()
            .map(|gone| text(&gone["model"]))
            .collect();
        if !evicts.is_empty() {
            reason = format!("{reason}; it would fit without {}", evicts.join(", "));
        }
        sentence(out, &label, &Value::from(reason))?;
    }
    advice(out, &document["advice"])?;
    if let Some(percent) = document["margin_percent"].as_u64() {
        sentence(
            out,
            "usable    ",
            &Value::from(format!("{percent} % of a GPU's memory ({percent}% safety)")),
        )?;
    }
    for warning in array(&estimate["warnings"]) {
        sentence(out, "note      ", warning)?;
    }
    result(out, document)
}

/// What it takes, in one line.
fn takes(out: &mut dyn Write, document: &Value) -> io::Result<()> {
    let estimate = &document["estimate"];
    let range = &estimate["total_range_bytes"];
    let ends = (
        range["low"].as_u64().unwrap_or_default(),
        range["high"].as_u64().unwrap_or_default(),
    );
    let mut parts = vec![format!("{} weights", size(&estimate["weights_bytes"]))];
    for (part, label) in [
        ("kv_bytes", "KV"),
        ("state_bytes", "state"),
        ("compute_bytes", "compute"),
        ("projector_bytes", "projector"),
        ("draft_bytes", "draft"),
    ] {
        if estimate[part].as_u64() > Some(0) {
            parts.push(format!("{} {label}", size(&estimate[part])));
        }
    }
    let runtime = &estimate["runtime_bytes"];
    if runtime["high"].as_u64() > Some(0) {
        let ends = (
            runtime["low"].as_u64().unwrap_or_default(),
            runtime["high"].as_u64().unwrap_or_default(),
        );
        parts.push(format!("{} runtime", between(ends.0, ends.1)));
    }
    let line = format!(
        "{} on one GPU: {}",
        between(ends.0, ends.1),
        parts.join(" + ")
    );
    sentence(out, "takes     ", &Value::from(line))
}

fn sites(out: &mut dyn Write, nodes: &[Value]) -> io::Result<()> {
    let mut table = table(&[
        "NODE",
        "GPU",
        "USABLE",
        "FREE",
        "FITS",
        "MAX CONTEXT",
        "TOKENS/S",
    ]);
    align_right(&mut table, &[2, 3, 5, 6]);
    for node in nodes {
        let speed = &node["tokens_per_second"];
        let speed = match (speed["low"].as_f64(), speed["high"].as_f64()) {
            (Some(low), Some(_)) if node["speed_measured"] == true => format!("{low:.0}"),
            (Some(low), Some(high)) => format!("{low:.0}-{high:.0}"),
            _ => "-".to_owned(),
        };
        let fits = match node["placement"]["kind"].as_str() {
            _ if node["fits"] == true => "yes",
            Some("partial" | "experts-on-cpu") => "partly",
            _ if node["usable_bytes"].is_null() => "unknown",
            _ => "no",
        };
        table.add_row(vec![
            name(node),
            card(&node["gpu"]),
            size(&node["usable_bytes"]),
            size(&node["free_bytes"]),
            fits.to_owned(),
            text(&node["max_context"]),
            speed,
        ]);
    }
    print(out, &table)
}

fn name(node: &Value) -> String {
    node["node"].as_str().unwrap_or("this machine").to_owned()
}

fn advice(out: &mut dyn Write, advice: &Value) -> io::Result<()> {
    let mut instead = Vec::new();
    if let Some(context) = advice["context"].as_u64() {
        instead.push(format!("--ctx {context}"));
    }
    if let Some(cache) = advice["cache"].as_str() {
        instead.push(format!("--kv {cache}"));
    }
    if let Some(variant) = advice["variant"].as_str() {
        instead.push(format!("the quantisation {variant}"));
    }
    if instead.is_empty() {
        return Ok(());
    }
    sentence(
        out,
        "instead   ",
        &Value::from(format!("would fit: {}", instead.join(", or "))),
    )
}

fn result(out: &mut dyn Write, document: &Value) -> io::Result<()> {
    let best = &document["best"];
    let place = best["node"].as_str().unwrap_or("this machine");
    let told = match (document["verdict"].as_str(), best["target"].as_str()) {
        (Some("fits"), _) => format!("Fits on {place}"),
        (Some("partial"), _) => format!("Fits only partly, best on {place}"),
        (_, Some("CPU")) => format!("Model must run on CPU, best on {place}"),
        _ => "Model fits nowhere".to_owned(),
    };
    sentence(out, "Result: ", &Value::from(told))?;
    let run = &document["run"];
    if let Some(command) = run["command"].as_str() {
        writeln!(out, "{command}")?;
        let options = run["options"].as_object().into_iter().flatten();
        for (option, value) in options {
            writeln!(out, ">>> /set parameter {option} {value}")?;
        }
    }
    Ok(())
}
