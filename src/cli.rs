//! The command line: what can be said, not what is done with it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::cmd;

/// What the last part of `gpurouter --help` says.
const ENVIRONMENT_AND_EXIT_CODES: &str = "\
Environment:
  GPUROUTER_CONFIG    Configuration file, like --config
  GPU0_URL, GPU1_URL  Nodes gpu0 (main) and gpu1 (helper), or their new URLs
  ENABLE_DUAL_GPU     false: one node only, OLLAMA_BASE or else gpu0
  OLLAMA_BASE         The only node, where no other one is configured
  OLLAMA_HOST         An Ollama to look for when no node is configured
  NO_COLOR            Plain output

A flag goes before the environment, that before the configuration file.

Exit codes:
  0  Yes, or done
  1  No: a check failed
  2  The command line or the configuration is wrong
  3  No backend could be reached";

/// Broken by hand to fit 80 columns: clap wraps only with a feature that asks the terminal.
const CONFIG_HELP: &str = "\
Configuration file [default: $GPUROUTER_CONFIG, else
./gpurouter.toml, ~/.config/gpurouter/config.toml,
/etc/gpurouter/config.toml, else none]";

/// One address in front of your GPUs and model servers.
#[derive(Debug, Parser)]
#[command(
    name = "gpurouter",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    after_help = ENVIRONMENT_AND_EXIT_CODES
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
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Configuration file, instead of looking in the usual places.
    #[arg(long, global = true, value_name = "FILE", help = CONFIG_HELP)]
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
    /// See it work: simulated nodes and three prompts through the router
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
    /// Measure, replay and compare
    Bench(cmd::bench::Args),
    /// Run simulated nodes
    Sim(cmd::sim::Args),
    /// Print a shell's completion script
    Completions(cmd::completions::Args),
    /// Print the manual page
    Man(cmd::man::Args),
}
