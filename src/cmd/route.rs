//! `gpurouter route`: the decision for a request, without sending it.

use std::io;
use std::path::PathBuf;

use super::Exit;
use super::running::Running;
use crate::backend;
use crate::cli::Global;
use crate::config::{self, Environment, Overrides};
use crate::dialect::{Endpoint, parse};
use crate::render;
use crate::routing::{Family, Speeds, decide};
use crate::serve::RouteDocument;

/// Flags of `route`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gpurouter route \"Write a docstring for a sort function\"
  gpurouter route --model qwen2.5-coder:7b --explain

Asks the running router when it answers, else the nodes themselves.
Exit codes: 0 decided, 1 no node has the model, 2 usage, 3 no node is up.")]
pub struct Args {
    /// The prompt; with --model alone: where would this model run
    #[arg(value_name = "PROMPT")]
    pub prompt: Vec<String>,
    /// The model that is asked for
    #[arg(long, value_name = "M", default_value = "auto")]
    pub model: String,
    /// A chat request body instead of a prompt (`-`: stdin)
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub messages: Option<PathBuf>,
    /// Show every node that was considered
    #[arg(long)]
    pub explain: bool,
}

/// Runs the command.
pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    let loaded = config::load(global, &Environment::of_process(), &Overrides::default())?;
    let body = match &args.messages {
        Some(file) => super::read_file(file)?,
        None => super::chat_body(&args.model, &args.prompt.join(" "), false),
    };
    let text = if let Some(router) = Running::find(global, &loaded.config) {
        router.post("/gpurouter/api/route", body)?
    } else {
        let endpoint = Endpoint::ChatCompletions;
        let parsed = parse(&endpoint, &body).map_err(|error| super::usage(error.message))?;
        let policy = &loaded.config.routing;
        let facts = parsed.facts(
            Family::of_model(parsed.model().unwrap_or_default()),
            policy.routes_by_class(parsed.model()),
        );
        let snapshot = backend::gather(&super::nodes(&loaded.config));
        let decision = decide(&facts, &snapshot, &[], &Speeds::default(), policy)
            .map_err(|refusal| super::refused(&refusal))?;
        serde_json::to_string(&RouteDocument::of(&decision, "probe"))?
    };
    if global.json {
        render::line(&text)?;
    } else {
        render::route(
            &mut io::stdout().lock(),
            &serde_json::from_str(&text)?,
            args.explain,
        )?;
    }
    Ok(Exit::Yes)
}
