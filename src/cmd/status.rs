//! `gpurouter status`: nodes, GPUs, loaded models, queues, speeds, warnings.

use std::io::{self, Write};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::Exit;
use super::running::{self, Running};
use crate::cli::Global;
use crate::config::{self, Environment, Overrides};
use crate::gpu::{self, Sampler};
use crate::render;
use crate::routing::Speeds;
use crate::serve::Status;

/// Time between two looks at the GPUs that nobody asks for …
const WATCH_INTERVAL: Duration = Duration::from_secs(60);
/// … how long the first is waited for, and how long each that `--watch` asks for.
const FIRST_LOOK: Duration = Duration::from_secs(6);
const FRESH_LIMIT: Duration = Duration::from_secs(1);

/// Flags of `status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Asks the running router when it answers, else the nodes themselves; JSON says
which (`source`).
Exit codes: 0 some node is up, 3 none is.")]
pub struct Args {
    /// Repeat every SECONDS (2 when left away) until stopped
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub watch: Option<u64>,
}

/// Runs the command.
pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    let mut sampler = None;
    loop {
        let exit = once(global, args.watch.is_some(), &mut sampler)?;
        match args.watch {
            Some(seconds) => thread::sleep(Duration::from_secs(seconds)),
            None => return Ok(exit),
        }
    }
}

/// `sampler` keeps the driver open between the looks of `--watch`: to start it anew may take seconds.
fn once(global: &Global, again: bool, sampler: &mut Option<Sampler>) -> anyhow::Result<Exit> {
    let environment = Environment::of_process();
    let loaded = config::load(global, &environment, &Overrides::default())?;
    let gpus = super::gpus(global, &environment, &loaded.config)?;
    if let Some(router) = Running::find(global, &loaded.config) {
        let text = router.get("/gpurouter/api/status")?;
        let document: serde_json::Value = serde_json::from_str(&text)?;
        if global.json {
            render::line(&text)?;
        } else {
            show(again, |out| render::status(out, &document))?;
        }
        return Ok(if running::any_up(&document) {
            Exit::Yes
        } else {
            Exit::Unreachable
        });
    }
    let nodes = super::nodes(&loaded.config);
    if again && sampler.is_none() {
        *sampler = Some(Sampler::start(
            &gpus,
            Some(WATCH_INTERVAL),
            Box::new(|_| {}),
        )?);
    }
    let (snapshot, inventory) = super::gather(&nodes, || match sampler {
        Some(sampler) => {
            sampler.wait_for_first(FIRST_LOOK);
            sampler.fresh(FRESH_LIMIT)
        }
        None => Arc::new(gpu::look(&gpus)),
    });
    let status = Status::of(&snapshot, None, &Speeds::default(), &inventory);
    if global.json {
        render::json(&status)?;
    } else {
        show(again, |out| {
            render::status(out, &serde_json::to_value(&status)?)
        })?;
    }
    Ok(if snapshot.usable().next().is_some() {
        Exit::Yes
    } else {
        Exit::Unreachable
    })
}

/// Prints, on a clean screen when it is repeated on a terminal.
fn show(again: bool, print: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if again && io::IsTerminal::is_terminal(&out) {
        write!(out, "\x1b[H\x1b[2J")?;
    }
    print(&mut out)?;
    out.flush()
}
