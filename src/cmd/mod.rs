//! One file per subcommand: gather, decide, act, print.

pub mod ask;
pub mod classify;
pub mod completions;
pub mod demo;
pub mod man;
pub mod route;
pub mod serve;
pub mod sim;
pub mod status;
pub mod why;

use crate::cli::{Cli, Command};

/// Exit codes of every command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Yes, done.
    Yes,
    /// No: a check failed, it does not fit.
    No,
    /// The command line or the configuration is wrong.
    Usage,
    /// No backend could be reached.
    Unreachable,
}

impl Exit {
    /// The process's exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Yes => 0,
            Self::No => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
        }
    }
}

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
        Command::Sim(args) => sim::run(global, args),
        Command::Completions(args) => completions::run(global, args),
        Command::Man(args) => man::run(global, args),
    }
}
