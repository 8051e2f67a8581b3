//! Which models are loaded where, and what is to be done about it.

use std::io::{self, Write};

use serde_json::Value;

use super::tables::{align_right, array, print, sentence, size, table, text};

/// `optimize`: the nodes, where the wanted models are, the plan or what came of it. `full`: with the known models that would fit on each node.
pub fn optimize(out: &mut dyn Write, document: &Value, full: bool) -> io::Result<()> {
    nodes(out, array(&document["nodes"]))?;
    if full {
        for node in array(&document["nodes"]) {
            room(out, node)?;
        }
    }
    writeln!(out)?;
    for resident in array(&document["resident"]) {
        let line = format!(
            "{} at {}: {}",
            text(&resident["model"]),
            text(&resident["node"]),
            share(&resident["gpu_percent"])
        );
        sentence(out, "resident  ", &Value::from(line))?;
    }
    let applied = document["applied"] == true;
    if !applied {
        for change in array(&document["changes"]) {
            step(out, change)?;
        }
    }
    for failed in array(&document["failed"]) {
        let line = format!(
            "{} of {} at {}: {}",
            text(&failed["action"]),
            text(&failed["model"]),
            text(&failed["node"]),
            text(&failed["error"])
        );
        sentence(out, "failed    ", &Value::from(line))?;
    }
    for one in array(&document["impossible"]) {
        impossible(out, one)?;
    }
    sentence(out, "Result: ", &Value::from(result(document)))
}

/// A line that may be too long, broken at blanks.
pub fn told(out: &mut dyn Write, line: &str) -> io::Result<()> {
    sentence(out, "", &Value::from(line))
}

fn nodes(out: &mut dyn Write, nodes: &[Value]) -> io::Result<()> {
    if nodes.is_empty() {
        return writeln!(out, "no nodes");
    }
    let mut table = table(&["NODE", "STATE", "GPU", "USABLE", "FREE", "USED", "LOADED"]);
    align_right(&mut table, &[3, 4, 5, 6]);
    for node in nodes {
        let used = node["used_percent"]
            .as_u64()
            .map_or_else(|| "-".to_owned(), |percent| format!("{percent} %"));
        table.add_row(vec![
            text(&node["node"]),
            text(&node["state"]),
            text(&node["gpu"]),
            size(&node["usable_bytes"]),
            size(&node["free_bytes"]),
            used,
            array(&node["loaded"]).len().to_string(),
        ]);
    }
    print(out, &table)
}

/// What a node holds and which of the known models would fit next to that.
fn room(out: &mut dyn Write, node: &Value) -> io::Result<()> {
    writeln!(out)?;
    writeln!(out, "{}", text(&node["node"]))?;
    for loaded in array(&node["loaded"]) {
        let line = format!(
            "{} ({}): {}",
            text(&loaded["model"]),
            size(&loaded["vram_bytes"]),
            share(&loaded["gpu_percent"])
        );
        sentence(out, "  holds    ", &Value::from(line))?;
    }
    if !node["advice"].is_null() {
        sentence(out, "  advice   ", &node["advice"])?;
    }
    let can_fit = array(&node["can_fit"]);
    if can_fit.is_empty() {
        return sentence(
            out,
            "  can fit  ",
            &Value::from("not known: no GPU memory is known of this node"),
        );
    }
    for (label, wanted) in [("  can fit  ", true), ("  cannot   ", false)] {
        let names: Vec<String> = can_fit
            .iter()
            .filter(|can| can["fits"] == wanted)
            .map(|can| text(&can["model"]))
            .collect();
        if !names.is_empty() {
            sentence(out, label, &Value::from(names.join(", ")))?;
        }
    }
    Ok(())
}

fn step(out: &mut dyn Write, change: &Value) -> io::Result<()> {
    let label = format!("{:<10}", text(&change["action"]));
    let bytes = change["bytes"].as_u64().filter(|bytes| *bytes > 0);
    let takes = bytes.map_or_else(String::new, |bytes| {
        format!(", {}", size(&Value::from(bytes)))
    });
    let cost = change["cost_ms"].as_f64().map_or_else(String::new, |ms| {
        let again = if change["action"] == "unload" {
            " to load again"
        } else {
            ""
        };
        format!(", {:.1} s{again}", ms / 1000.0)
    });
    let line = format!(
        "{} at {}{takes}{cost}: {}",
        text(&change["model"]),
        text(&change["node"]),
        text(&change["reason"])
    );
    sentence(out, &label, &Value::from(line))
}

fn impossible(out: &mut dyn Write, one: &Value) -> io::Result<()> {
    let mut numbers = Vec::new();
    if one["need_bytes"].as_u64() > Some(0) {
        numbers.push(format!("needs {}", size(&one["need_bytes"])));
    }
    if !one["largest_usable_bytes"].is_null() {
        let usable = size(&one["largest_usable_bytes"]);
        numbers.push(format!("largest usable {usable}"));
    }
    let numbers = if numbers.is_empty() {
        String::new()
    } else {
        format!(" ({})", numbers.join(", "))
    };
    let line = format!("{}{numbers}: {}", text(&one["model"]), text(&one["reason"]));
    sentence(out, "cannot    ", &Value::from(line))
}

fn share(percent: &Value) -> String {
    match percent.as_u64() {
        Some(100) => "on GPU".to_owned(),
        Some(0) => "on the CPU".to_owned(),
        Some(percent) => format!("{percent}% GPU"),
        None => "served there, how much of it on GPU is not told".to_owned(),
    }
}

fn result(document: &Value) -> String {
    let changes = array(&document["changes"]).len();
    let failed = array(&document["failed"]).len();
    let counted = |count: usize| match count {
        1 => "1 change".to_owned(),
        count => format!("{count} changes"),
    };
    match (document["applied"] == true, changes) {
        (_, 0) => "nothing to do".to_owned(),
        (false, _) => format!("{} due; --apply makes them", counted(changes)),
        (true, _) if failed == 0 => format!("{} made", counted(changes)),
        (true, _) => format!("{} made, {failed} failed", counted(changes - failed)),
    }
}
