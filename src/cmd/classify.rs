//! `gpurouter classify`.

use super::Exit;
use crate::cli::Global;

/// Flags of `classify`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
pub(super) fn run(_global: &Global, _args: &Args) -> anyhow::Result<Exit> {
    anyhow::bail!("not built yet")
}
