//! `bench replay` as tables.

use std::io::{self, Write};

use serde_json::Value;

use super::tables::{array, print, sentence, table, text};

/// The report of `bench replay`: one line for each trace; of a single one the lanes as well.
pub fn replay(out: &mut dyn Write, document: &Value) -> io::Result<()> {
    let traces = array(&document["traces"]);
    writeln!(
        out,
        "Simulated nodes, virtual time, seed {}; plain: Ollama by itself, ours: gpurouter\n",
        document["seed"]
    )?;
    writeln!(
        out,
        "{:<14}{:>5}  {:>17}  {:>15}  {:>10}  {:>11}",
        "TRACE", "ASKED", "LOADS", "TTFT P95 (s)", "CUT", "ENERGY (Wh)"
    )?;
    writeln!(
        out,
        "{:<14}{:>5}  {:>5} {:>5} {:>5}  {:>7} {:>7}  {:>5} {:>4}  {:>5} {:>5}",
        "", "", "plain", "ours", "best", "plain", "ours", "plain", "ours", "plain", "ours"
    )?;
    for trace in traces {
        line(out, trace)?;
    }
    writeln!(
        out,
        "\nTTFT: of the most urgent lane. CUT: prompts that were cut without a word.\n\
         BEST: the fewest loads of somebody who knew the trace and served it in order."
    )?;
    if let [trace] = traces {
        return details(out, trace);
    }
    totals(out, &document["totals"])
}

/// One trace in 80 columns; a name that is too long has a line of its own.
fn line(out: &mut dyn Write, trace: &Value) -> io::Result<()> {
    const NAME: usize = 14;
    let [plain, ours] = [policy(trace, "plain"), policy(trace, "gpurouter")];
    let mut name = text(&trace["trace"]);
    if name.chars().count() >= NAME {
        writeln!(out, "{name}")?;
        name.clear();
    }
    let bound = if trace["optimum"]["exact"] == true {
        ""
    } else {
        ">"
    };
    writeln!(
        out,
        "{name:<NAME$}{:>5}  {:>5} {:>5} {:>5}  {:>7} {:>7}  {:>5} {:>4}  {:>5} {:>5}",
        text(&plain["requests"]),
        text(&plain["loads"]),
        text(&ours["loads"]),
        format!("{bound}{}", trace["optimum"]["loads"]),
        first_token(plain),
        first_token(ours),
        text(&plain["truncated"]),
        text(&ours["truncated"]),
        energy(plain),
        energy(ours),
    )
}

fn policy<'a>(trace: &'a Value, name: &str) -> &'a Value {
    array(&trace["policies"])
        .iter()
        .find(|report| report["policy"] == name)
        .unwrap_or(&Value::Null)
}

fn seconds(milliseconds: &Value) -> String {
    milliseconds
        .as_f64()
        .map_or_else(|| "-".to_owned(), |ms| format!("{:.1}", ms / 1000.0))
}

fn first_token(report: &Value) -> String {
    seconds(&report["lanes"][0]["ttft_ms"]["p95"])
}

fn energy(report: &Value) -> String {
    report["energy_wh"]
        .as_f64()
        .map_or_else(|| "-".to_owned(), |wh| format!("{wh:.0}"))
}

fn totals(out: &mut dyn Write, totals: &Value) -> io::Result<()> {
    let percent = |value: &Value| {
        value
            .as_f64()
            .map_or_else(|| "-".to_owned(), |p| format!("{p:.1} %"))
    };
    writeln!(
        out,
        "\nAll: {} loads instead of {}, {} times the best; a trace's own figure is\n{} in the mean. {} fewer where Ollama loads over and over.\nWaits longer than promised: {}.",
        totals["gpurouter_loads"],
        totals["plain_loads"],
        text(&totals["loads_over_optimum"]),
        text(&totals["loads_over_optimum_mean"]),
        percent(&totals["fewer_loads_percent"]),
        totals["starved"]
    )?;
    predictions(out, &totals["predictions"])
}

fn details(out: &mut dyn Write, trace: &Value) -> io::Result<()> {
    writeln!(out)?;
    sentence(out, "trace    ", &trace["about"])?;
    for node in array(&trace["nodes"]) {
        writeln!(
            out,
            "node     {}: {}, {} at once",
            text(&node["name"]),
            text(&node["gpu"]),
            node["parallel"]
        )?;
    }
    writeln!(out)?;
    let mut rows = table(&[
        "POLICY",
        "LANE",
        "ANSWERED",
        "TTFT P50",
        "P95",
        "MAX",
        "TOTAL P50",
        "P95",
    ]);
    for report in array(&trace["policies"]) {
        for lane in array(&report["lanes"]) {
            rows.add_row(vec![
                text(&report["policy"]),
                text(&lane["lane"]),
                text(&lane["answered"]),
                seconds(&lane["ttft_ms"]["p50"]),
                seconds(&lane["ttft_ms"]["p95"]),
                seconds(&lane["ttft_ms"]["max"]),
                seconds(&lane["total_ms"]["p50"]),
                seconds(&lane["total_ms"]["p95"]),
            ]);
        }
    }
    print(out, &rows)?;
    let ours = policy(trace, "gpurouter");
    writeln!(out)?;
    for report in array(&trace["policies"]) {
        writeln!(
            out,
            "{:<10} {} evictions, {} failed, {} refused, waits up to {} s, all in {} s",
            text(&report["policy"]),
            report["evictions"],
            report["failed"],
            report["refused"],
            seconds(&report["wait_ms"]["max"]),
            seconds(&report["duration_ms"])
        )?;
    }
    writeln!(
        out,
        "\n{} reloads avoided, {} s of them",
        ours["reloads_avoided"],
        seconds(&ours["avoided_ms"]),
    )?;
    predictions(out, &ours["predictions"])
}

/// Of requests that were held out: what was predicted of them before they were sent, by what earlier answers had shown.
fn predictions(out: &mut dyn Write, predictions: &Value) -> io::Result<()> {
    let made = predictions["made"].as_f64().filter(|made| *made > 0.0);
    let share = |name: &str| {
        let part = predictions[name].as_f64().zip(made);
        part.map_or_else(
            || "-".to_owned(),
            |(part, made)| format!("{:.1} %", 100.0 * part / made),
        )
    };
    writeln!(
        out,
        "Of {} times foretold, {} came within 20 %, {} in their 80 % range.",
        predictions["made"],
        share("within_20_percent"),
        share("in_range")
    )
}
