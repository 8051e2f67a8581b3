//! `gpurouter ask`: one request through the same decision, its answer as it streams.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Deserialize;

use super::Exit;
use super::running::{Running, error_text};
use crate::cli::Global;
use crate::config::{self, Environment, LogLevel, Overrides};
use crate::gpu;
use crate::http::server::Stopper;
use crate::render::{self, Told};
use crate::serve::{Bound, Log, LogFormat};

/// Longest line of a stream: the limit of Ollama's own client.
const LONGEST_LINE: u64 = 8 * 1024 * 1024;

/// Time for the record of an answered request to be there, and between two looks for it.
const RECORD_LIMIT: Duration = Duration::from_secs(1);
const RECORD_PAUSE: Duration = Duration::from_millis(5);

/// Flags of `ask`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gpurouter ask \"Write a docstring for a sort function\"
  git diff | gpurouter ask --model qwen2.5-coder:7b -

Uses the running router when it answers, else decides and sends by itself.
With --json the answer is followed by the record of the request.
Exit codes: 0 answered, 1 refused or broken off, 3 no node could be reached.")]
pub struct Args {
    /// The prompt; `-` reads standard input
    #[arg(value_name = "PROMPT", required = true)]
    pub prompt: Vec<String>,
    /// The model; `auto` chooses by class
    #[arg(long, value_name = "M", default_value = "auto")]
    pub model: String,
    /// What it is for; noted in the log
    #[arg(long, value_name = "NAME", default_value = "general")]
    pub task: String,
}

/// Runs the command.
pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    let loaded = config::load(global, &Environment::of_process(), &Overrides::default())?;
    let prompt = super::prompt_of(&args.prompt)?;
    let router = match Running::find(global, &loaded.config) {
        Some(router) => Asked { router, own: None },
        None => Asked::start(loaded.config, global.verbose)?,
    };
    let id = stream_answer(
        &mut io::stdout().lock(),
        &router.router,
        &args.model,
        &args.task,
        &prompt,
    )?;
    if global.json {
        render::line(&record(&router.router, &id)?)?;
    }
    Ok(Exit::Yes)
}

/// The router that is asked: the running one, or one of our own for this request.
pub(super) struct Asked {
    pub(super) router: Running,
    own: Option<(Stopper, JoinHandle<io::Result<usize>>)>,
}

impl Asked {
    /// Starts one on a free port over the configuration's nodes; it ends with what is returned.
    pub(super) fn start(mut config: config::Config, verbose: u8) -> anyhow::Result<Self> {
        let nodes = super::nodes(&config);
        "127.0.0.1:0".clone_into(&mut config.listen);
        let log = Log {
            // What goes wrong is the command's own error; the log would tell it twice.
            level: (verbose > 0).then_some(LogLevel::Info),
            format: LogFormat::Text,
        };
        let bound = Bound::new(config, &nodes, &gpu::Settings::disabled(), log)?;
        let router = Running::at(&format!("http://{}", bound.address()))?;
        let stopper = bound.stopper();
        let thread = thread::Builder::new()
            .name("router".to_owned())
            .spawn(move || bound.serve())?;
        Ok(Self {
            router,
            own: Some((stopper, thread)),
        })
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some((stopper, thread)) = self.own.take() {
            stopper.stop();
            // A panic of the router was told when it happened.
            let _ = thread.join();
        }
    }
}

/// The record of an answered request. The router writes it after the answer's last byte, so it may take a moment to be there.
pub(super) fn record(router: &Running, id: &str) -> anyhow::Result<String> {
    let path = format!("/gpurouter/api/why/{id}");
    let started = Instant::now();
    loop {
        match router.get(&path) {
            Err(_) if started.elapsed() < RECORD_LIMIT => thread::sleep(RECORD_PAUSE),
            result => return result,
        }
    }
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    message: Message,
    #[serde(default)]
    done: bool,
    error: Option<String>,
}

#[derive(Deserialize, Default)]
struct Message {
    #[serde(default)]
    content: String,
}

/// Prints the answer as it streams; returns the request's id.
pub(super) fn stream_answer(
    out: &mut dyn Write,
    router: &Running,
    model: &str,
    task: &str,
    prompt: &str,
) -> anyhow::Result<String> {
    // A cold load takes minutes: the router has the time limits, this side has none.
    let client = crate::backend::router_client(None)?;
    let answer = client
        .post(format!("{}/api/chat", router.base()))
        .header("content-type", "application/json")
        .header("x-gpurouter-task", task)
        .body(super::chat_body(model, prompt, true))
        .send()
        .with_context(|| format!("the router at {} does not answer", router.base()))?;
    let status = answer.status();
    let id = answer
        .headers()
        .get("x-gpurouter-id")
        .and_then(|id| id.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    if !status.is_success() {
        let message = error_text(&answer.text()?);
        // A node's own 500 is an answer: somebody was reached.
        let told = if matches!(status.as_u16(), 502..=504) {
            Told::unreachable(message).hint(super::SEE_NODES)
        } else {
            Told {
                message,
                hint: None,
                exit: Exit::No,
            }
        };
        return Err(told.into());
    }
    let mut lines = BufReader::new(answer);
    let mut line = String::new();
    loop {
        line.clear();
        if lines.by_ref().take(LONGEST_LINE).read_line(&mut line)? == 0 {
            let told = Told {
                message: "the answer ended before it was complete".to_owned(),
                hint: None,
                exit: Exit::No,
            };
            return Err(told.into());
        }
        let piece: Line =
            serde_json::from_str(&line).context("the answer holds a line that is not JSON")?;
        if let Some(message) = piece.error {
            writeln!(out)?;
            return Err(Told {
                message,
                hint: None,
                exit: Exit::No,
            }
            .into());
        }
        out.write_all(piece.message.content.as_bytes())?;
        out.flush()?;
        if piece.done {
            writeln!(out)?;
            // To the very end: a connection that is closed before it looks like a client that left.
            io::copy(&mut lines.take(LONGEST_LINE), &mut io::sink())?;
            return Ok(id);
        }
    }
}
