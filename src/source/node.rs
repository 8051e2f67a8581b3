//! What a node says of a model that it has.

use std::path::Path;

use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;

use super::file;
use super::found::{Companion, Found};
use super::manifest::OllamaParams;
use super::web::is_loopback;
use crate::backend::Prober;
use crate::cluster::{Model, Node, NodeKind};
use crate::vram::{Basis, Header};

/// Ollama's description of a model, verbose.
#[derive(Deserialize)]
struct Shown {
    #[serde(default)]
    model_info: Value,
    #[serde(default)]
    tensors: Value,
    #[serde(default)]
    projector_info: Value,
    #[serde(default)]
    parameters: Option<String>,
    #[serde(default)]
    details: Details,
    #[serde(default)]
    remote_host: Option<String>,
}

#[derive(Default, Deserialize)]
struct Details {
    #[serde(default)]
    quantization_level: Option<String>,
}

/// A llama-server's entry in `/v1/models`.
#[derive(Default, Deserialize)]
struct Listing {
    #[serde(default)]
    meta: Option<Meta>,
    #[serde(default)]
    status: Option<Status>,
}

/// In router mode: the command line of the model's own server.
#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    args: Vec<String>,
}

impl Status {
    /// The file that it is or would be started with.
    fn file(&self) -> Option<&str> {
        let at = (self.args.iter()).position(|arg| matches!(arg.as_str(), "-m" | "--model"))?;
        self.args.get(at + 1).map(String::as_str)
    }
}

#[derive(Default, Deserialize)]
struct Meta {
    #[serde(default)]
    n_params: Option<u64>,
    #[serde(default)]
    size: Option<u64>,
}

/// What a node told.
pub(super) struct Told {
    /// What is known from it; without a header only a size.
    pub found: Found,
    /// Why there is no header; a sentence.
    pub without: Option<String>,
}

/// Asks a node for all it knows of a model. Neither loads nor keeps anything there.
pub(super) fn ask(prober: &Prober, node: &Node, model: &Model) -> Told {
    if node.kind == Some(NodeKind::LlamaServer) {
        return llama_server(prober, node, model);
    }
    // Another gpurouter and other imitations of Ollama answer it too; the rest say that they do not.
    let mut found = sized(node, model);
    let without = match prober.show_verbose(node, model) {
        Err(failure) => Some(format!("node {}: {failure}", node.name)),
        Ok(body) => match serde_json::from_slice::<Shown>(&body) {
            Err(_) => Some(format!(
                "node {}: its /api/show is no description of a model",
                node.name
            )),
            Ok(shown) => {
                let (described, without) = of_show(found, shown, node);
                found = described;
                without
            }
        },
    };
    Told { found, without }
}

/// What the node's list alone tells.
fn sized(node: &Node, model: &Model) -> Found {
    let mut found = Found::new(
        &model.id,
        format!("the list of node {}", node.name),
        Basis::Api,
    );
    found.size_bytes = model.size_bytes.filter(|size| *size > 0);
    found.digest.clone_from(&model.digest);
    found.of_ollama = node.kind == Some(NodeKind::Ollama);
    found
}

fn of_show(mut found: Found, shown: Shown, node: &Node) -> (Found, Option<String>) {
    found.ollama_params = OllamaParams::of_show(shown.parameters.as_deref().unwrap_or_default());
    found.quantization =
        (shown.details.quantization_level).filter(|level| !level.is_empty() && level != "unknown");
    let header = match Header::from_show(&shown.model_info, &shown.tensors) {
        Ok(header) => header,
        Err(error) => return (found, Some(format!("node {}: {error}", node.name))),
    };
    if header.tensors.is_empty() {
        // The metadata alone would make an estimate without weights.
        found.parameters = header.parameters();
        let why = match shown.remote_host.filter(|host| !host.is_empty()) {
            Some(host) => format!("it runs on {host}"),
            None => "it tells no tensors (an older version, or an imitation of Ollama)".to_owned(),
        };
        return (found, Some(format!("node {}: {why}", node.name)));
    }
    let projector = Header::from_show(&shown.projector_info, &Value::Null).ok();
    if let Some(projector) = projector.filter(|it| !it.metadata.0.is_empty()) {
        // The node tells one size for everything; what is not in the model's own tensors is the projector's, a few megabytes of
        // vocabulary aside.
        let own = header.tensor_bytes().unwrap_or_default();
        let rest = found.size_bytes.unwrap_or_default().saturating_sub(own);
        found.projector = Some(Companion {
            header: Some(projector),
            bytes: rest,
        });
        found.size_bytes = found.size_bytes.map(|size| size - rest);
    }
    found.source = format!("/api/show of node {} ({})", node.name, node.url);
    (found.with_header(header), None)
}

fn llama_server(prober: &Prober, node: &Node, model: &Model) -> Told {
    let mut found = sized(node, model);
    let listing: Listing = (model.listing.as_deref())
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let meta = listing.meta.unwrap_or_default();
    found.parameters = meta.n_params.filter(|count| *count > 0);
    found.size_bytes = found.size_bytes.or(meta.size);
    let status = listing.status.unwrap_or_default();
    let without = match served_file(prober, node, model, status.file()) {
        Err(why) => Some(format!("node {}: {why}", node.name)),
        Ok(path) => match file::read(Path::new(&path)) {
            Err(error) => Some(format!(
                "node {} serves a file that cannot be read: {error}",
                node.name
            )),
            Ok(local) => {
                found.basis = Basis::Header;
                found.source = format!("{path}, which node {} serves", node.name);
                found.size_bytes = Some(local.bytes);
                found = found.with_header(local.header);
                None
            }
        },
    };
    Told { found, without }
}

/// The path of the file that a llama-server on this machine serves. `told`: the one that it names in its list, which it does in router mode.
fn served_file(
    prober: &Prober,
    node: &Node,
    model: &Model,
    told: Option<&str>,
) -> Result<String, String> {
    let here = Url::parse(&node.url).is_ok_and(|url| is_loopback(&url));
    if !here {
        return Err(
            "a llama-server tells a model's size only, and its file is on another machine"
                .to_owned(),
        );
    }
    if let Some(path) = told.filter(|path| Path::new(path).is_absolute()) {
        return Ok(path.to_owned());
    }
    let props = prober
        .llama_props(node, model)
        .map_err(|failure| failure.to_string())?;
    // A relative path would be one of the server's own directory.
    props
        .model_path
        .filter(|path| Path::new(path).is_absolute())
        .ok_or_else(|| "it does not tell where its file is".to_owned())
}
