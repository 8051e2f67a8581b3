//! Nodes from the environment and from `--node`, over those of the file.

use super::address;
use super::draft::{Draft, Section};
use super::environment::Environment;
use super::origin::{Origin, Problems};
use super::value::{Kind, Value};

/// Lays the variables of the source documents over the file's nodes: `GPU0_URL` and `GPU1_URL` make or move the nodes `gpu0` and `gpu1`;
/// `ENABLE_DUAL_GPU=false` leaves one node; `OLLAMA_BASE` is that one, or the only one when nothing else says where the nodes are.
pub(super) fn from_environment(
    draft: &mut Draft,
    environment: &Environment,
    notices: &mut Vec<String>,
    problems: &mut Problems,
) {
    for (variable, name, role) in [("GPU0_URL", "gpu0", "main"), ("GPU1_URL", "gpu1", "helper")] {
        let Some(url) = url_of(environment, variable, problems) else {
            continue;
        };
        let origin = Origin::Env(variable);
        let existing = draft
            .nodes
            .iter_mut()
            .find(|node| node.text("name") == Some(name));
        if let Some(node) = existing {
            node.set("url", url, origin);
        } else {
            draft.nodes.push(new_node(name, url, Some(role), &origin));
        }
    }
    let dual = dual_gpu(environment, problems);
    if dual && !draft.nodes.is_empty() {
        return;
    }
    if let Some(url) = url_of(environment, "OLLAMA_BASE", problems) {
        let origin = Origin::Env("OLLAMA_BASE");
        tell_left_out(&draft.nodes, "ollama", notices);
        draft.nodes = vec![new_node("ollama", url, None, &origin)];
    } else if !dual {
        let kept = draft
            .nodes
            .iter()
            .position(|node| node.text("name") == Some("gpu0"))
            .unwrap_or(0);
        if kept < draft.nodes.len() {
            let node = draft.nodes.swap_remove(kept);
            tell_left_out(&draft.nodes, node.text("name").unwrap_or_default(), notices);
            draft.nodes = vec![node];
        } else {
            notices.push(
                "ENABLE_DUAL_GPU=false changes nothing: no node is configured, so every local server that is found is used".to_owned(),
            );
        }
    }
}

fn tell_left_out(others: &[Section], kept: &str, notices: &mut Vec<String>) {
    let names: Vec<&str> = others.iter().filter_map(|node| node.text("name")).collect();
    if !names.is_empty() {
        notices.push(format!(
            "ENABLE_DUAL_GPU=false: everything goes to node {kept}; left out: {}",
            names.join(", ")
        ));
    }
}

fn new_node(name: &str, url: Value, role: Option<&str>, origin: &Origin) -> Section {
    let mut node = Section::new(origin.clone());
    node.set("name", Value::Text(name.to_owned()), origin.clone());
    node.set("url", url, origin.clone());
    if let Some(role) = role {
        node.set("role", Value::Text(role.to_owned()), origin.clone());
    }
    node
}

fn url_of(
    environment: &Environment,
    variable: &'static str,
    problems: &mut Problems,
) -> Option<Value> {
    let text = environment.text(variable)?;
    Kind::Url
        .read_text(&text)
        .map_err(|reason| problems.add(&Origin::Env(variable), format!("the value {reason}")))
        .ok()
}

fn dual_gpu(environment: &Environment, problems: &mut Problems) -> bool {
    let Some(text) = environment.text("ENABLE_DUAL_GPU") else {
        return true;
    };
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => true,
        "false" | "0" | "no" | "off" => false,
        _ => {
            let reason = format!(
                "the value must be true or false, not `{}`",
                text.escape_debug()
            );
            problems.add(&Origin::Env("ENABLE_DUAL_GPU"), reason);
            true
        }
    }
}

/// Replaces the nodes by those of `--node [NAME=]URL`.
pub(super) fn from_flags(draft: &mut Draft, flags: &[String], problems: &mut Problems) {
    let origin = Origin::Flag("--node");
    draft.nodes.clear();
    for flag in flags {
        let (name, url) = match flag.split_once('=') {
            Some((name, url)) => (Some(name), url),
            None => (None, flag.as_str()),
        };
        let url = match Kind::Url.read_text(url) {
            Ok(url) => url,
            Err(reason) => {
                problems.add(&origin, format!("the URL {reason}"));
                continue;
            }
        };
        let name = name
            .map(str::to_owned)
            .or_else(|| address::host_and_port(url.text()?))
            .unwrap_or_default();
        match Kind::NodeName.read_text(&name) {
            Ok(_) => draft.nodes.push(new_node(&name, url, None, &origin)),
            Err(reason) => problems.add_with_hint(
                &origin,
                format!("the name {reason}"),
                "write --node NAME=URL",
            ),
        }
    }
}

/// The base URL of `OLLAMA_HOST`.
pub(super) fn discovery_host(environment: &Environment, problems: &mut Problems) -> Option<String> {
    let text = environment.text("OLLAMA_HOST")?;
    let url = address::ollama_host(&text);
    if url.is_none() {
        let reason = format!(
            "the value must be a host, host:port or an http:// or https:// URL, not `{}`",
            text.escape_debug()
        );
        problems.add(&Origin::Env("OLLAMA_HOST"), reason);
    }
    url
}
