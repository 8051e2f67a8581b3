//! Parses, runs, and turns the result into an exit code.

use std::process::ExitCode;

use clap::Parser;
use gpurouter::{cli::Cli, cmd, render};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cmd::run(&cli) {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(error) => ExitCode::from(render::report(&error).code()),
    }
}
