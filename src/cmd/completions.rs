//! `gpurouter completions`.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use super::Exit;
use crate::cli::{Cli, Global};

/// Flags of `completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  eval \"$(gpurouter completions bash)\"     # in ~/.bashrc
  gpurouter completions zsh > ~/.zfunc/_gpurouter
  gpurouter completions fish > ~/.config/fish/completions/gpurouter.fish")]
pub struct Args {
    /// The shell
    pub shell: Shell,
}

/// Runs the command.
pub(super) fn run(_global: &Global, args: &Args) -> anyhow::Result<Exit> {
    io::stdout().lock().write_all(&script(args.shell))?;
    Ok(Exit::Yes)
}

/// A shell's completion script.
pub fn script(shell: Shell) -> Vec<u8> {
    let mut out = Vec::new();
    generate(shell, &mut Cli::command(), "gpurouter", &mut out);
    out
}
