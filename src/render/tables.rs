//! Documents as tables that fit 80 columns and are plain text.

use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

/// Columns that every table fits in.
const WIDTH: u16 = 80;

pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH)
        .set_header(header.to_vec());
    table
}

pub(super) fn print(out: &mut dyn Write, table: &Table) -> io::Result<()> {
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

pub(super) fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A sentence behind its label, broken at blanks and indented by the label's width; a word that is too long for a line stays whole.
pub(super) fn sentence(out: &mut dyn Write, label: &str, value: &Value) -> io::Result<()> {
    let indent = label.chars().count();
    let mut line = label.to_owned();
    for word in text(value).split_whitespace() {
        let started = line.chars().count() > indent;
        if started && line.chars().count() + 1 + word.chars().count() > usize::from(WIDTH) {
            writeln!(out, "{line}")?;
            line = " ".repeat(indent);
        } else if started {
            line.push(' ');
        }
        line.push_str(word);
    }
    writeln!(out, "{}", line.trim_end())
}

/// A size in the unit that a person reads at a glance.
fn size(value: &Value) -> String {
    let Some(bytes) = value.as_u64() else {
        return "-".to_owned();
    };
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let bytes = bytes as f64;
    let units = [
        ("GiB", 1024.0 * 1024.0 * 1024.0),
        ("MiB", 1024.0 * 1024.0),
        ("KiB", 1024.0),
    ];
    match units.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{:.1} {name}", bytes / unit),
        None => format!("{bytes} B"),
    }
}

fn rounded(value: &Value, unit: &str) -> String {
    value
        .as_f64()
        .map_or_else(|| "-".to_owned(), |number| format!("{number:.1}{unit}"))
}

/// `status`.
pub fn status(out: &mut dyn Write, document: &Value) -> io::Result<()> {
    let mut nodes = table(&["NODE", "KIND", "STATE", "ACTIVE", "SLOTS", "MODELS", "URL"]);
    for node in array(&document["nodes"]) {
        let busy = match (&node["active"], &node["queued"]) {
            (Value::Null, _) => "-".to_owned(),
            (active, queued) if queued.as_u64() == Some(0) => text(active),
            (active, queued) => format!("{active}+{queued}"),
        };
        let row = [
            text(&node["name"]),
            text(&node["kind"]),
            text(&node["state"]),
            busy,
            text(&node["slots"]),
            array(&node["models"]).len().to_string(),
            text(&node["url"]),
        ];
        nodes.add_row(row.to_vec());
    }
    if array(&document["nodes"]).is_empty() {
        writeln!(out, "no nodes")?;
    } else {
        print(out, &nodes)?;
    }
    let mut loaded = table(&["LOADED", "NODE", "SIZE", "ON GPU", "CONTEXT"]);
    let mut speeds = table(&["MEASURED", "NODE", "PREFILL", "DECODE", "LOAD", "SAMPLES"]);
    for node in array(&document["nodes"]) {
        for model in array(&node["loaded"]) {
            let share = model["gpu_percent"]
                .as_u64()
                .map_or_else(|| "-".to_owned(), |percent| format!("{percent} %"));
            loaded.add_row(vec![
                text(&model["model"]),
                text(&node["name"]),
                size(&model["size_bytes"]),
                share,
                text(&model["context"]),
            ]);
        }
        for speed in array(&node["speeds"]) {
            let row = [
                text(&speed["model"]),
                text(&node["name"]),
                rounded(&speed["prefill_tps"], " t/s"),
                rounded(&speed["decode_tps"], " t/s"),
                rounded(&speed["load_ms"], " ms"),
                text(&speed["samples"]),
            ];
            speeds.add_row(row.to_vec());
        }
    }
    for table in [loaded, speeds] {
        if table.row_count() > 0 {
            writeln!(out)?;
            print(out, &table)?;
        }
    }
    let warnings = array(&document["warnings"]);
    if !warnings.is_empty() {
        writeln!(out)?;
    }
    for warning in warnings {
        sentence(out, "warning: ", &warning["text"])?;
        sentence(out, "   cure: ", &warning["cure"])?;
    }
    Ok(())
}

/// `route`.
pub fn route(out: &mut dyn Write, document: &Value, explain: bool) -> io::Result<()> {
    let decision = &document["decision"];
    writeln!(out, "node    {}", text(&decision["node"]))?;
    writeln!(out, "model   {}", text(&decision["model"]))?;
    let tier = text(&decision["tier"]);
    match decision["complexity"].as_str() {
        Some(complexity) => writeln!(out, "tier    {tier} ({complexity})")?,
        None => writeln!(out, "tier    {tier}")?,
    }
    writeln!(out, "reason  {}", text(&decision["reason"]))?;
    sentence(out, "        ", &decision["detail"])?;
    if explain {
        writeln!(out)?;
        candidates(out, &document["candidates"])?;
    }
    Ok(())
}

fn candidates(out: &mut dyn Write, rows: &Value) -> io::Result<()> {
    let mut table = table(&[
        "NODE", "MODEL", "TAKEN", "WAIT", "LOAD", "PREFILL", "DECODE", "WHY",
    ]);
    for row in array(rows) {
        let predicted = &row["predicted"];
        let admitted = if row["admitted"].as_bool() == Some(true) {
            "yes"
        } else {
            "no"
        };
        let ms = |phase: &str| {
            predicted[phase]
                .as_u64()
                .map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"))
        };
        table.add_row(vec![
            text(&row["node"]),
            text(&row["model"]),
            admitted.to_owned(),
            ms("wait_ms"),
            ms("load_ms"),
            ms("prefill_ms"),
            ms("decode_ms"),
            text(&row["reason"]),
        ]);
    }
    print(out, &table)
}

/// The signals of a classification.
pub fn signals(out: &mut dyn Write, signals: &Value) -> io::Result<()> {
    let mut table = table(&["WEIGHT", "SIGNAL", "MATCHED"]);
    for signal in array(signals) {
        let weight = format!("{:+.2}", signal["weight"].as_f64().unwrap_or_default());
        table.add_row(vec![
            weight,
            text(&signal["name"]),
            text(&signal["matched"]),
        ]);
    }
    if array(signals).is_empty() {
        return Ok(());
    }
    print(out, &table)
}

/// `why`.
pub fn why(out: &mut dyn Write, document: &Value) -> io::Result<()> {
    let field = |name: &str| text(&document[name]);
    writeln!(out, "request  {} at {}", field("id"), field("ts"))?;
    writeln!(
        out,
        "path     {} ({}) from {}",
        field("path"),
        field("dialect"),
        field("client")
    )?;
    writeln!(out, "asked    {}", field("requested_model"))?;
    writeln!(out, "went to  {} on {}", field("model"), field("node"))?;
    writeln!(out, "outcome  {} {}", field("status"), field("outcome"))?;
    writeln!(out, "reason   {}", field("reason"))?;
    sentence(out, "         ", &document["detail"])?;
    for tried in array(&document["fallbacks"]) {
        writeln!(
            out,
            "tried    {}: {}",
            text(&tried["node"]),
            text(&tried["reason"])
        )?;
    }
    if !array(&document["candidates"]).is_empty() {
        writeln!(out)?;
        candidates(out, &document["candidates"])?;
    }
    writeln!(out)?;
    for step in array(&document["timeline"]) {
        writeln!(
            out,
            "{:>10} ms  {}",
            format!("{:.1}", step["ms"].as_f64().unwrap_or_default()),
            text(&step["event"])
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_status_with_long_names_fits_80_columns_and_is_plain() {
        let name = "a-node-with-a-rather-long-name";
        let model = json!({ "model": "hf.co/somebody/some-model-with-a-long-name:Q4_K_M", "size_bytes": 5_000_000_000_u64, "gpu_percent": 47, "context": 8192 });
        let node = json!({ "name": name, "kind": "ollama", "state": "up", "active": 1, "queued": 2, "slots": null, "models": ["a"], "url": "http://a-host-with-a-long-name.local:11434", "loaded": [model], "speeds": [] });
        let document = json!({ "nodes": [node], "warnings": [] });
        let mut out = Vec::new();
        status(&mut out, &document).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        assert!(
            text.contains("1+2") && text.contains("47 %") && text.contains("4.7 GiB"),
            "{text}"
        );
        assert!(!text.contains('\x1b'));
    }
}
