//! `gpurouter man`.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_mangen::Man;

use super::Exit;
use crate::cli::{Cli, Global};
use crate::config;
use crate::render::Told;

/// Flags of `man`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gpurouter man | man -l -
  gpurouter man serve > gpurouter-serve.1
  gpurouter man bench live | man -l -
  gpurouter man config | man -l -")]
pub struct Args {
    /// A command, or `config` for the configuration file
    #[arg(value_name = "COMMAND")]
    pub topic: Vec<String>,
}

/// Runs the command.
pub(super) fn run(_global: &Global, args: &Args) -> anyhow::Result<Exit> {
    let topic = args.topic.join("-");
    let name = match topic.as_str() {
        "" => "gpurouter.1".to_owned(),
        "config" => CONFIG_PAGE.to_owned(),
        command => format!("gpurouter-{command}.1"),
    };
    let pages = pages()?;
    let Some((_, page)) = pages.iter().find(|(file, _)| *file == name) else {
        let topics: Vec<&str> = pages
            .iter()
            .filter_map(|(file, _)| file.strip_prefix("gpurouter-")?.strip_suffix(".1"))
            .collect();
        let topic = args.topic.join(" ");
        let error = Told::usage(format!("no manual page for `{topic}`"));
        return Err(error
            .hint(format!("there is one for {}, config", topics.join(", ")))
            .into());
    };
    io::stdout().lock().write_all(page)?;
    Ok(Exit::Yes)
}

const CONFIG_PAGE: &str = "gpurouter.toml.5";

/// Every manual page with its file name: the program's, one per command and subcommand, and the configuration file's.
pub fn pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut program = Cli::command();
    program.build();
    let mut commands = vec![&program];
    let mut place = 0;
    while let Some(command) = commands.get(place).copied() {
        let further = command.get_subcommands();
        commands.extend(further.filter(|command| !command.is_hide_set()));
        place += 1;
    }
    let mut pages = Vec::new();
    for command in commands {
        let man =
            Man::new(command.clone()).source(format!("gpurouter {}", env!("CARGO_PKG_VERSION")));
        let mut page = Vec::new();
        man.render(&mut page)?;
        pages.push((man.get_filename(), page));
    }
    pages.push((CONFIG_PAGE.to_owned(), config::manual_page().into_bytes()));
    Ok(pages)
}
