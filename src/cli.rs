//! The command line: what can be said, not what is done with it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::cmd;

/// One address in front of your GPUs and model servers.
#[derive(Debug, Parser)]
#[command(
    name = "gpurouter",
    version,
    about,
    propagate_version = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// Flags that every command knows.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags that every command knows.
#[derive(Debug, Clone, Default, Args)]
pub struct Global {
    /// Configuration file (else $GPUROUTER_CONFIG, ./gpurouter.toml, the user's, /etc/gpurouter/config.toml)
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// A node, instead of the configured ones (repeatable)
    #[arg(long = "node", global = true, value_name = "[NAME=]URL")]
    pub nodes: Vec<String>,
    /// Print one JSON document instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// Say more (repeatable)
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// Say only what went wrong
    #[arg(short, long, global = true)]
    pub quiet: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the router
    Serve(cmd::serve::Args),
    /// See it work: simulated nodes, the router and three prompts through it
    Demo(cmd::demo::Args),
    /// Send one prompt through the same decision and print the answer
    Ask(cmd::ask::Args),
    /// Tell how much model a prompt needs: SIMPLE, MODERATE or COMPLEX
    Classify(cmd::classify::Args),
    /// Tell where a request would go, without sending it
    Route(cmd::route::Args),
    /// Show nodes, loaded models, queues, speeds and warnings
    Status(cmd::status::Args),
    /// Explain the recorded decision of a request
    Why(cmd::why::Args),
    /// Run simulated nodes
    Sim(cmd::sim::Args),
    /// Print a shell's completion script
    Completions(cmd::completions::Args),
    /// Print the manual page
    Man(cmd::man::Args),
}
