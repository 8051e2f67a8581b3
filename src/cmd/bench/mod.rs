//! `gpurouter bench`: figures that anyone can recompute. One file per subcommand.

pub mod replay;

use super::Exit;
use crate::cli::Global;

/// Flags of `bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to measure.
    #[command(subcommand)]
    pub command: Bench,
}

/// What to measure.
#[derive(Debug, clap::Subcommand)]
pub enum Bench {
    /// Replay traces over simulated nodes, without and with gpurouter
    Replay(replay::Args),
}

/// Runs the command.
pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    match &args.command {
        Bench::Replay(args) => replay::run(global, args),
    }
}
