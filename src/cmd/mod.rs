//! One file per subcommand: gather, decide, act, print.

pub mod ask;
pub mod bench;
pub mod classify;
pub mod completions;
pub mod demo;
pub mod man;
pub mod route;
mod running;
pub mod serve;
pub mod sim;
pub mod status;
pub mod why;

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::Path;

use serde_json::json;

use crate::cli::{Cli, Command};
use crate::config::{Config, NodeConfig};
pub use crate::render::Exit;
use crate::render::Told;
use crate::routing::Refusal;

/// What to do when no node answers.
const SEE_NODES: &str = "gpurouter status shows the nodes";
/// Longest prompt or request file that a command reads.
const LONGEST_INPUT: u64 = 64 * 1024 * 1024;

/// Runs a parsed command line.
pub fn run(cli: &Cli) -> anyhow::Result<Exit> {
    let global = &cli.global;
    match &cli.command {
        Command::Serve(args) => serve::run(global, args),
        Command::Demo(args) => demo::run(global, args),
        Command::Ask(args) => ask::run(global, args),
        Command::Classify(args) => classify::run(global, args),
        Command::Route(args) => route::run(global, args),
        Command::Status(args) => status::run(global, args),
        Command::Why(args) => why::run(global, args),
        Command::Bench(args) => bench::run(global, args),
        Command::Sim(args) => sim::run(global, args),
        Command::Completions(args) => completions::run(global, args),
        Command::Man(args) => man::run(global, args),
    }
}

/// The configured nodes, or those found on this machine.
fn nodes(config: &Config) -> Vec<NodeConfig> {
    if config.nodes.is_empty() {
        discover(config)
    } else {
        config.nodes.clone()
    }
}

/// The servers found on this machine, gpurouter's own address left out.
fn discover(config: &Config) -> Vec<NodeConfig> {
    let own = config
        .listen
        .parse()
        .unwrap_or_else(|_| SocketAddr::from(([127, 0, 0, 1], 8512)));
    crate::backend::discover(config.ollama_host.as_deref(), own)
}

/// A usage error.
fn usage(message: impl Into<String>) -> anyhow::Error {
    Told::usage(message).into()
}

/// A refusal of the decision as an error with its exit code.
fn refused(refusal: &Refusal) -> anyhow::Error {
    match refusal {
        Refusal::NoModel => usage("no model is named"),
        Refusal::UnknownModel { model, nearest } => {
            let told = Told {
                message: format!("no node has the model `{model}`"),
                hint: None,
                exit: Exit::No,
            };
            match nearest {
                Some(nearest) => told.hint(format!("did you mean `{nearest}`?")).into(),
                None => told.into(),
            }
        }
        Refusal::TooLong { tokens, limit } => Told {
            message: format!("the prompt has about {tokens} tokens, the largest window {limit}"),
            hint: None,
            exit: Exit::No,
        }
        .into(),
        Refusal::Loading { detail } | Refusal::NoNode { detail } => {
            Told::unreachable(detail.clone()).hint(SEE_NODES).into()
        }
    }
}

/// A chat request in the form that every dialect's parser here knows.
fn chat_body(model: &str, prompt: &str, stream: bool) -> Vec<u8> {
    let messages = if prompt.is_empty() {
        json!([])
    } else {
        json!([{ "role": "user", "content": prompt }])
    };
    json!({ "model": model, "messages": messages, "stream": stream })
        .to_string()
        .into_bytes()
}

/// The prompt from the command line, or standard input for `-`.
fn prompt_of(words: &[String]) -> anyhow::Result<String> {
    if words.len() == 1 && words.first().is_some_and(|word| word == "-") {
        let bytes = read_file(Path::new("-"))?;
        return String::from_utf8(bytes).map_err(|_| usage("standard input is not UTF-8 text"));
    }
    Ok(words.join(" "))
}

/// A file's bytes, or standard input's for `-`, up to a limit.
fn read_file(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin()
            .lock()
            .take(LONGEST_INPUT + 1)
            .read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(LONGEST_INPUT + 1).read_to_end(&mut bytes))
    };
    match read {
        Err(error) => Err(usage(format!("cannot read `{}`: {error}", path.display()))),
        Ok(count) if count as u64 > LONGEST_INPUT => Err(usage(format!(
            "`{}` is larger than {LONGEST_INPUT} bytes",
            path.display()
        ))),
        Ok(_) => Ok(bytes),
    }
}
