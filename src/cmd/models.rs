//! `gpurouter models`: the known-model table and what the nodes offer.

use std::io;

use serde::Serialize;

use super::Exit;
use crate::backend;
use crate::cli::Global;
use crate::cluster::{Capability, ClusterSnapshot};
use crate::config::{self, Environment, Overrides};
use crate::render;
use crate::vram::{KnownModel, known_models};

/// Flags of `models`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The first table is what is known of a model from its name alone; [models] in the
configuration adds to it. The second is what the nodes offer now.
Exit code: 0, also when no node answers.")]
pub struct Args {
    /// Ask no node: the table of known models only
    #[arg(long)]
    pub known: bool,
}

/// `models --json`.
#[derive(Debug, Serialize)]
struct Document {
    schema: u32,
    /// Ascending by size.
    known: Vec<KnownModel>,
    /// In configuration order; a node that does not answer has no models.
    nodes: Vec<Offered>,
}

/// What one node offers.
#[derive(Debug, Serialize)]
struct Offered {
    node: String,
    models: Vec<OfferedModel>,
}

#[derive(Debug, Serialize)]
struct OfferedModel {
    name: String,
    size_bytes: Option<u64>,
    digest: Option<String>,
    capabilities: Vec<Capability>,
    context: Option<u64>,
}

/// Runs the command.
pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    let loaded = config::load(global, &Environment::of_process(), &Overrides::default())?;
    let snapshot = if args.known {
        ClusterSnapshot::default()
    } else {
        backend::gather(&super::nodes(&loaded.config))
    };
    let document = Document {
        schema: 1,
        known: known_models(&loaded.config.models),
        nodes: offered(&snapshot),
    };
    if global.json {
        render::json(&document)?;
    } else {
        let nodes = serde_json::to_value(&document.nodes)?;
        render::models(&mut io::stdout().lock(), &document.known, &nodes)?;
    }
    Ok(Exit::Yes)
}

fn offered(snapshot: &ClusterSnapshot) -> Vec<Offered> {
    let model = |model: &crate::cluster::Model| OfferedModel {
        name: model.id.clone(),
        size_bytes: model.size_bytes,
        digest: model.digest.clone(),
        capabilities: model.capabilities.clone(),
        context: model.context,
    };
    let nodes = snapshot.nodes.iter();
    nodes
        .map(|node| Offered {
            node: node.name.clone(),
            models: node.models.iter().map(model).collect(),
        })
        .collect()
}
