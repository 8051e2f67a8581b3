//! `gpurouter classify`.

mod answer;
mod check;
mod input;

use std::io::{self, Write};
use std::path::PathBuf;

use super::Exit;
use crate::cli::Global;
use crate::render::Told;
use crate::routing::Policy;

/// Flags of `classify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The prompt; its words are joined. None, or `-`: all of stdin is one prompt
    #[arg(value_name = "PROMPT")]
    pub prompt: Vec<String>,
    /// Classify every line of stdin by itself; empty lines are skipped
    #[arg(long, conflicts_with = "prompt")]
    pub lines: bool,
    /// A file that goes with the prompt: its size counts, its words do not
    #[arg(long, value_name = "FILE")]
    pub context: Option<PathBuf>,
    /// Show the evidence
    #[arg(long)]
    pub explain: bool,
    /// Classify the ask of a chat request body (JSON)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt", "lines", "context"])]
    pub messages: Option<PathBuf>,
    /// Check the 15 acceptance prompts
    #[arg(long, conflicts_with_all = ["prompt", "lines", "context", "messages", "explain"])]
    pub selftest: bool,
    /// Measure against a JSONL file with `prompt` and `label`
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt", "lines", "context", "messages", "explain", "selftest"])]
    pub eval: Option<PathBuf>,
    // clap drops `requires` when an argument that is present conflicts with the required one: the conflicts are repeated here.
    /// Exit 1 when the accuracy of --eval is lower (0 to 1)
    #[arg(long, value_name = "X", requires = "eval", conflicts_with_all = ["prompt", "lines", "context", "messages", "explain", "selftest"], value_parser = share)]
    pub min_accuracy: Option<f64>,
    /// What kind of task this is; recorded, not interpreted
    #[arg(long, value_name = "NAME", default_value = "general")]
    pub task: String,
}

fn share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| "a number from 0 to 1".to_owned())
}

/// Runs the command.
pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    let mut out = io::stdout().lock();
    if args.selftest {
        return check::selftest(&mut out, global.json);
    }
    if let Some(file) = &args.eval {
        let cases = check::Case::read(file)?;
        return check::eval(&mut out, &cases, args.min_accuracy, global.json);
    }
    let policy = policy(global);
    let context = args.context.as_deref().map(input::file).transpose()?;
    let answer =
        |input: &input::Input| answer::Answer::new(input, context.as_deref(), &args.task, &policy);
    if args.lines {
        let mut lines = input::Lines::new(io::stdin().lock());
        while let Some(line) = lines.next()? {
            let answer = answer(&input::Input::prompt(&line));
            if args.explain && !global.json {
                writeln!(out, "{}\n", answer.explained())?;
            } else if global.json {
                writeln!(out, "{}", serde_json::to_string(&answer.document())?)?;
            } else {
                writeln!(out, "{}", answer.class())?;
            }
        }
        out.flush()?;
        return Ok(Exit::Yes);
    }
    let input = if let Some(file) = &args.messages {
        input::messages(file)?
    } else if args.prompt.is_empty() || args.prompt == ["-"] {
        input::Input::prompt(&input::stdin(global.quiet)?)
    } else {
        input::Input::prompt(&args.prompt.join(" "))
    };
    if input.ask.trim().is_empty() {
        return Err(Told::usage("the prompt is empty")
            .hint("give it as arguments, or on stdin: echo \"Document this class\" | gpurouter classify")
            .into());
    }
    let answer = answer(&input);
    if global.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&answer.document())?)?;
    } else if args.explain {
        writeln!(out, "{}", answer.explained())?;
    } else {
        writeln!(out, "{}", answer.class())?;
    }
    out.flush()?;
    Ok(Exit::Yes)
}

/// Routing by class: the built-in defaults until the configuration is loaded here.
fn policy(_global: &Global) -> Policy {
    Policy::default()
}
