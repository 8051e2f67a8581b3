//! Estimates as tables of parts and devices.

use std::io::{self, Write};

use serde_json::Value;

use super::tables::{align_right, array, print, sentence, size, table, text};

/// `estimate`.
pub fn estimate(out: &mut dyn Write, document: &Value) -> io::Result<()> {
    head(out, document)?;
    writeln!(out)?;
    parts(out, document)?;
    writeln!(out)?;
    total(out, document)?;
    for warning in array(&document["warnings"]) {
        sentence(out, "note: ", warning)?;
    }
    Ok(())
}

/// The model and what was assumed of it.
pub(super) fn head(out: &mut dyn Write, document: &Value) -> io::Result<()> {
    let named = format!(
        "{} ({})",
        text(&document["model"]),
        basis(&document["basis"])
    );
    sentence(out, "model     ", &Value::from(named))?;
    sentence(out, "from      ", &document["source"])?;
    let mut facts = Vec::new();
    facts.extend(document["architecture"].as_str().map(str::to_owned));
    facts.extend(document["parameters"].as_u64().map(parameters));
    facts.extend(document["quantization"].as_str().map(str::to_owned));
    let trained = document["trained_context"].as_u64();
    facts.extend(trained.map(|tokens| format!("trained for {tokens} tokens")));
    if !facts.is_empty() {
        sentence(out, "is        ", &Value::from(facts.join(", ")))?;
    }
    let settings = &document["settings"];
    let sequences = match settings["parallel"].as_u64() {
        Some(1) => "1 sequence".to_owned(),
        many => format!("{} sequences", many.unwrap_or_default()),
    };
    let ngl = settings["ngl"]
        .as_u64()
        .map_or_else(String::new, |layers| format!(", {layers} layers on GPUs"));
    let assumed = format!(
        "{}, context {}, {sequences}, KV {}, batch {}/{}, flash attention {}{ngl}",
        text(&settings["runtime"]),
        text(&settings["ctx"]),
        text(&settings["kv"]),
        text(&settings["batch"]),
        text(&settings["ubatch"]),
        text(&settings["flash_attn"]),
    );
    sentence(out, "run by    ", &Value::from(assumed))
}

fn parts(out: &mut dyn Write, document: &Value) -> io::Result<()> {
    let others = |parts: &Value| {
        let bytes =
            ["projector_bytes", "draft_bytes"].map(|part| parts[part].as_u64().unwrap_or(0));
        bytes.iter().sum::<u64>()
    };
    let rows = array(&document["devices"]);
    let companions = rows.iter().any(|row| others(row) > 0);
    let state = rows.iter().any(|row| row["state_bytes"].as_u64() > Some(0))
        || document["host"]["state_bytes"].as_u64() > Some(0);
    let mut header = vec!["ON", "LAYERS", "WEIGHTS", "KV"];
    header.extend(state.then_some("STATE"));
    header.push("COMPUTE");
    header.extend(companions.then_some("BESIDE"));
    header.extend(["RUNTIME", "TOTAL"]);
    let mut table = table(&header);
    align_right(&mut table, &(1..header.len()).collect::<Vec<_>>());
    let row = |name: String, layers: String, parts: &Value, runtime: String, total: String| {
        let mut cells = vec![
            name,
            layers,
            size(&parts["weights_bytes"]),
            size(&parts["kv_bytes"]),
        ];
        cells.extend(state.then(|| size(&parts["state_bytes"])));
        cells.push(size(&parts["compute_bytes"]));
        cells.extend(companions.then(|| size(&Value::from(others(parts)))));
        cells.extend([runtime, total]);
        cells
    };
    for device in rows {
        let runtime = &device["runtime_bytes"];
        let total = device["total_bytes"].as_u64().unwrap_or_default();
        let end = |end: &str| total.saturating_add(runtime[end].as_u64().unwrap_or_default());
        table.add_row(row(
            text(&device["device"]),
            text(&device["layers"]),
            device,
            between(
                runtime["low"].as_u64().unwrap_or_default(),
                runtime["high"].as_u64().unwrap_or_default(),
            ),
            between(end("low"), end("high")),
        ));
    }
    let host = &document["host"];
    table.add_row(row(
        "RAM".to_owned(),
        "-".to_owned(),
        host,
        "-".to_owned(),
        size(&host["total_bytes"]),
    ));
    print(out, &table)
}

fn total(out: &mut dyn Write, document: &Value) -> io::Result<()> {
    let range = &document["total_range_bytes"];
    let (low, high) = (range["low"].as_u64(), range["high"].as_u64());
    let all = between(low.unwrap_or_default(), high.unwrap_or_default());
    let usual = &document["kv_range_bytes"];
    let with = match (usual["low"].as_u64(), usual["high"].as_u64()) {
        (Some(low), Some(high)) => format!(
            ", {} of it KV cache of a model of this size",
            between(low, high)
        ),
        _ => String::new(),
    };
    if array(&document["devices"]).is_empty() {
        sentence(out, "", &Value::from("nothing of it is on a GPU"))
    } else {
        sentence(
            out,
            "",
            &Value::from(format!("{all} of GPU memory in all{with}")),
        )
    }
}

/// A range in one unit: "0.2-0.7 GiB".
pub(super) fn between(low: u64, high: u64) -> String {
    let (low_text, high_text) = (size(&Value::from(low)), size(&Value::from(high)));
    if low_text == high_text {
        return high_text;
    }
    match (low_text.split_once(' '), high_text.split_once(' ')) {
        (Some((number, unit)), Some((_, same))) if unit == same => format!("{number}-{high_text}"),
        _ => format!("{low_text}-{high_text}"),
    }
}

fn basis(value: &Value) -> &'static str {
    match value.as_str() {
        Some("header") => "its header was read",
        Some("api") => "a node described it",
        Some("manifest") => "its size in a registry",
        Some("catalog") => "its size in a table",
        _ => "its size from its name",
    }
}

/// "8.0 B parameters".
pub(super) fn parameters(count: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let count = count as f64;
    if count >= 1e9 {
        format!("{:.1} B parameters", count / 1e9)
    } else {
        format!("{:.0} M parameters", count / 1e6)
    }
}

/// `estimate --verify`.
pub fn verification(out: &mut dyn Write, document: &Value) -> io::Result<()> {
    head(out, &document["estimate"])?;
    let verification = &document["verification"];
    writeln!(out)?;
    let mut table = table(&["ON", "PART", "PREDICTED", "ACTUAL", "OFF BY"]);
    align_right(&mut table, &[2, 3, 4]);
    let row = |device: &str, part: &str, predicted: &Value, actual: &Value| {
        let off = match (predicted.as_u64(), actual.as_u64()) {
            (Some(predicted), Some(actual)) => i128::from(predicted) - i128::from(actual),
            _ => 0,
        };
        // Logs are printed in hundredths of a MiB.
        #[expect(clippy::cast_precision_loss, reason = "two decimals are shown")]
        let mib = off as f64 / f64::from(1 << 20);
        let off = if mib.abs() < 0.006 {
            "-".to_owned()
        } else {
            format!("{mib:+.2} MiB")
        };
        vec![
            device.to_owned(),
            part.to_owned(),
            size(predicted),
            size(actual),
            off,
        ]
    };
    for part in array(&verification["parts"]) {
        table.add_row(row(
            &text(&part["device"]),
            &text(&part["part"]),
            &part["predicted_bytes"],
            &part["actual_bytes"],
        ));
    }
    table.add_row(row(
        "all",
        "",
        &verification["predicted_bytes"],
        &verification["actual_bytes"],
    ));
    print(out, &table)?;
    writeln!(out)?;
    let error = verification["error_percent"].as_f64().unwrap_or_default();
    let against = text(&verification["against"]);
    let held = if verification["holds"] == true {
        "within"
    } else {
        "beyond"
    };
    sentence(
        out,
        "",
        &Value::from(format!("{error:+.2} % off {against}, {held} 5 %")),
    )?;
    let learned = &document["learned"];
    if learned.is_object() {
        let line = format!(
            "{} beside the buffers on {}, kept in {}",
            size(&learned["runtime_bytes"]),
            text(&learned["gpu"]),
            text(&learned["kept_in"])
        );
        sentence(out, "learned   ", &Value::from(line))?;
    }
    Ok(())
}

/// `estimate --tokens`.
pub fn counted(out: &mut dyn Write, document: &Value) -> io::Result<()> {
    writeln!(out, "tokens      about {}", text(&document["tokens"]))?;
    writeln!(out, "family      {}", text(&document["family"]))?;
    writeln!(out, "characters  {}", text(&document["characters"]))?;
    writeln!(out, "chars4      {}", text(&document["chars4"]))
}
