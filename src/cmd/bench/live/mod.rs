//! `gpurouter bench live`: the same requests under what there is today and under gpurouter.

mod concurrent;
mod save;
pub(super) mod sides;

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};

use super::{Exit, receipt};
use crate::cli::Global;
use crate::cmd::usage;
use crate::config::{self, Environment, Overrides};
use crate::http::client::Client;
use crate::live::{
    Campaign, Memory, Meter, Prompt, Seen, Sender, Size, Step, built_in, read_prompts, read_trace,
};
use crate::measure::{
    self, Bench, Class, Document, LiveSettings, Observation, Observations, PairedSettings, Policy,
    report,
};
use crate::render::{self, Told};
use save::Folder;
use sides::Setup;

/// Requests of a quick look.
pub(super) const QUICK: usize = 6;

/// Broken by hand to fit 80 columns.
const TODAY_HELP: &str = "\
What you have today: the address of an Ollama, of a
server with OpenAI's API, or of another proxy
[default: the first node, directly]";
const PROMPTS_HELP: &str = "\
Your own prompts: a text per line, or per line an
object {\"prompt\", \"class\", \"check\", ...}";
const CLASS_HELP: &str = "\
Of the built-in prompts only these classes: simple,
moderate, complex";
const SIZE_HELP: &str = "\
Of the built-in prompts only these sizes: short,
medium, long [default: short,medium]";
const CPU_HELP: &str = "\
Compare the GPU of the first Ollama with its own CPU
(num_gpu 0) instead";
const CONCURRENT_HELP: &str = "\
Only compare two requests to two nodes at once with
the same two one after the other";

/// Flags of `bench live`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gpurouter bench live --quick
  gpurouter bench live --today http://127.0.0.1:11434=ollama --save replies
  gpurouter bench live --prompts set.txt --cold --receipt run.jsonl
  gpurouter serve --record trace.jsonl; gpurouter bench live --trace trace.jsonl

Every request is sent once under each policy in each run, at temperature 0 and
with the same seed and limits; a run is a pass under the one policy and then
one under the other, by turns. Warm passes begin with the models in memory;
--cold adds passes that unload every model of your nodes before each request.
The GPUs' energy is counted where all nodes are on this machine.

Checks of your own prompts: {\"needle\": [\"text\", ...]},
{\"quantity\": {\"value\": 150, \"units\": [\"min\"]}}, {\"schema\": {\"type\": ...}},
{\"tool-call\": {\"name\": ..., \"arguments\": {...}}}.
There is no headline (NOT COMPARABLE) unless checked answers are as good when
routed: a tool call, a JSON schema, a needle or a quantity. 189 checks that all
pass are enough. Ctrl-C ends it and reports the pairs that are complete.
Exit codes: 0 done; 1 stopped; 2 usage; 3 no node answers.")]
#[allow(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub struct Args {
    #[arg(long, value_name = "URL[=NAME]", help = TODAY_HELP)]
    pub(super) today: Option<String>,
    /// Its model [default: the one in memory, or largest]
    #[arg(long, value_name = "M")]
    pub(super) model: Option<String>,
    /// The router [default: the running one, else its own]
    #[arg(long, value_name = "URL", conflicts_with_all = ["cpu"])]
    pub(super) routed: Option<String>,
    /// The model asked of it [default: auto]
    #[arg(long, value_name = "M", conflicts_with = "cpu")]
    pub(super) routed_model: Option<String>,
    #[arg(long, value_name = "FILE", conflicts_with = "trace", help = PROMPTS_HELP)]
    pub(super) prompts: Option<PathBuf>,
    /// A trace that `serve --record` wrote
    #[arg(long, value_name = "FILE")]
    pub(super) trace: Option<PathBuf>,
    #[arg(long = "class", value_name = "LIST", value_delimiter = ',', value_parser = class, conflicts_with_all = ["prompts", "trace"], help = CLASS_HELP)]
    pub(super) classes: Vec<Class>,
    #[arg(long = "size", value_name = "LIST", value_delimiter = ',', value_enum, hide_possible_values = true, conflicts_with_all = ["prompts", "trace"], help = SIZE_HELP)]
    pub(super) sizes: Vec<Size>,
    /// Only the first N requests
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) limit: Option<u32>,
    /// Repeats of each request
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) runs: u32,
    /// See that it works: six requests, once
    #[arg(long, conflicts_with_all = ["runs", "limit"])]
    pub(super) quick: bool,
    /// Most tokens of an answer, below what a request says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(super) max_tokens: Option<u32>,
    /// When a request counts as failed
    #[arg(long, value_name = "TIME", default_value = "600s", value_parser = duration)]
    pub(super) timeout: Duration,
    /// Of answers, notes, order and resampling
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(super) seed: u64,
    /// Also measure without the model in memory
    #[arg(long)]
    pub(super) cold: bool,
    #[arg(long, help = CPU_HELP)]
    pub(super) cpu: bool,
    #[arg(long, conflicts_with_all = ["cpu", "cold", "save", "trace", "chart", "today"], help = CONCURRENT_HELP)]
    pub(super) concurrent: bool,
    /// Keep both replies of every pair in a new directory
    #[arg(long, value_name = "DIR")]
    pub(super) save: Option<PathBuf>,
    /// Bars of the times by class
    #[arg(long)]
    pub(super) chart: bool,
    /// Write observations and report as JSON lines
    #[arg(long, value_name = "FILE")]
    pub(super) receipt: Option<PathBuf>,
}

impl Args {
    /// Repeats.
    pub(super) fn repeats(&self) -> u32 {
        if self.quick { 1 } else { self.runs }
    }
}

/// What is replayed, and what it is called.
pub(super) struct Trace {
    pub(super) name: String,
    pub(super) prompts: Vec<Prompt>,
    pub(super) notes: Vec<String>,
}

/// Runs the command.
pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    let environment = Environment::of_process();
    let loaded = config::load(global, &environment, &Overrides::default())?;
    let gpus = crate::cmd::gpus(global, &environment, &loaded.config)?;
    let stop = super::stopped_by_signals()?;
    let client = Client::new().map_err(io::Error::other)?;
    let mut trace = trace(args)?;
    for prompt in &mut trace.prompts {
        // A name that stands for whichever model fits: today that is the one that there is.
        if loaded
            .config
            .routing
            .routes_by_class(prompt.model.as_deref())
        {
            prompt.model = None;
        }
    }
    if args.concurrent {
        return concurrent::run(global, args, loaded.config, &client, &trace, &stop);
    }
    let setup = Setup::of(global, args, loaded.config, &trace.prompts)?;
    if args.cold && setup.nodes.is_empty() {
        return Err(usage(
            "--cold needs an Ollama: no other node unloads its model",
        ));
    }
    if !setup.tools && args.prompts.is_none() && args.trace.is_none() {
        let before = trace.prompts.len();
        trace.prompts.retain(|prompt| prompt.tools.is_empty());
        if trace.prompts.len() < before {
            let left_out = before - trace.prompts.len();
            trace.name = format!("{}, {left_out} with tools left out", trace.name);
            trace.notes.push(
                "a model that would be asked takes no tools; prompts with tools are left out"
                    .to_owned(),
            );
        }
    }
    let mut meter = if setup.local {
        Meter::start(&gpus)?
    } else {
        None
    };
    for note in trace.notes.iter().chain(&setup.notes) {
        say(global, note);
    }
    if let Some(meter) = &mut meter {
        say(
            global,
            &format!("watching {} at rest", meter.names().join(", ")),
        );
        meter.rest();
    }
    let header = super::header(
        global,
        Bench::Live(settings(args, &trace, &setup, meter.as_ref())),
    );
    let campaign = Campaign {
        prompts: &trace.prompts,
        sides: setup.sides.clone(),
        runs: args.repeats(),
        cold: args.cold,
        sender: Sender {
            client: &client,
            timeout: args.timeout,
            seed: args.seed,
            stop: &stop,
        },
        memory: Memory::new(&client, setup.nodes.clone(), setup.watched),
        meter: meter.as_ref(),
    };
    let recorder = args
        .receipt
        .as_ref()
        .map(|file| receipt::start(file, &header))
        .transpose()?;
    let folder = args.save.as_deref().map(Folder::create).transpose()?;
    observe(
        global,
        &campaign,
        &header,
        recorder,
        folder.as_ref(),
        args.chart,
    )
}

/// Sends everything and reports.
fn observe(
    global: &Global,
    campaign: &Campaign<'_>,
    header: &measure::Header,
    mut recorder: Option<measure::Recorder<std::fs::File>>,
    folder: Option<&Folder>,
    chart: bool,
) -> anyhow::Result<Exit> {
    say(
        global,
        &format!(
            "{} requests: {} under each policy, {}, warming up included; Ctrl-C ends it and reports what is complete",
            campaign.requests(),
            campaign.prompts.len(),
            if campaign.runs == 1 {
                "once".to_owned()
            } else {
                format!("{} times", campaign.runs)
            }
        ),
    );
    let bar = bar(global, campaign.requests())?;
    let mut observations: Vec<Observation> = Vec::new();
    let mut troubles: Vec<String> = Vec::new();
    let mut seen = |seen: Seen<'_>| -> io::Result<()> {
        let mut observation = seen.observation.clone();
        if let Some(recorder) = &mut recorder {
            recorder.observe(&observation)?;
        }
        observation.n = observations.len() as u64;
        if let Some(folder) = folder {
            folder.keep(&seen)?;
        }
        if let Some(error) = &seen.sent.error {
            troubles.push(format!(
                "{} ({}): {error}",
                seen.prompt.name,
                policy(seen.observation.policy)
            ));
        }
        observations.push(observation);
        Ok(())
    };
    let mut step = |step: Step| {
        bar.set_message(format!(
            "run {} of {}, {}",
            step.run + 1,
            campaign.runs,
            policy(step.policy)
        ));
        bar.set_position(step.done);
    };
    let whole = campaign
        .run(&mut seen, &mut step)
        .context("the run broke off")?;
    bar.finish_and_clear();
    if let Some(first) = troubles.first() {
        say(
            global,
            &format!("{} requests failed; the first: {first}", troubles.len()),
        );
    }
    let complete = complete_pairs(&observations);
    if complete.is_empty() {
        return Err(Told {
            message: "no pair is complete: nothing to report".to_owned(),
            hint: None,
            exit: Exit::No,
        }
        .into());
    }
    let figures = report(&header.bench, &Observations::Live(complete))?;
    let document = Document::new(header, figures);
    if let Some(recorder) = recorder.filter(|_| whole) {
        recorder.finish(&document)?;
    }
    if global.json {
        render::json(&document)?;
    } else {
        let mut out = io::stdout().lock();
        render::bench(&mut out, header, &document.figures)?;
        if chart {
            render::chart(&mut out, &document.figures)?;
        }
    }
    if !whole {
        say(
            global,
            "stopped: what is above is of the pairs that were complete; the receipt, if any, has no report",
        );
    }
    Ok(if whole { Exit::Yes } else { Exit::No })
}

fn settings(args: &Args, trace: &Trace, setup: &Setup, meter: Option<&Meter>) -> LiveSettings {
    LiveSettings {
        today: setup.today.clone(),
        routed: setup.routed.clone(),
        trace: trace.name.clone(),
        repeats: args.repeats(),
        max_tokens: trace.prompts.iter().map(|prompt| prompt.max_tokens).max(),
        paired: PairedSettings {
            timeout_ms: args.timeout.as_secs_f64() * 1000.0,
            seed: args.seed,
            ..PairedSettings::default()
        },
        classes: trace.prompts.iter().map(|prompt| prompt.class).collect(),
        idle_power: meter.map_or(measure::Figure::unknown(measure::Unit::Watts), Meter::idle),
    }
}

/// The observations whose pair is whole.
fn complete_pairs(observations: &[Observation]) -> Vec<Observation> {
    let mut counts = std::collections::HashMap::new();
    for observation in observations {
        *counts.entry(observation.pair).or_insert(0_u32) += 1;
    }
    let whole = |one: &&Observation| counts.get(&one.pair) == Some(&2);
    observations.iter().filter(whole).cloned().collect()
}

/// What the command line asks for.
pub(super) fn trace(args: &Args) -> anyhow::Result<Trace> {
    let mut trace = match (&args.prompts, &args.trace) {
        (Some(file), _) => Trace {
            name: file.display().to_string(),
            prompts: read_prompts(&text_of(file)?)
                .map_err(|error| Told::usage(format!("`{}`: {error}", file.display())))?,
            notes: Vec::new(),
        },
        (None, Some(file)) => recorded(file)?,
        (None, None) => built_in_trace(args),
    };
    let limit = args.limit.and_then(|limit| usize::try_from(limit).ok());
    if let Some(limit) = if args.quick { Some(QUICK) } else { limit } {
        if limit < trace.prompts.len() {
            trace.name = format!(
                "{}, the first {limit} of {}",
                trace.name,
                trace.prompts.len()
            );
        }
        trace.prompts.truncate(limit);
    }
    for prompt in &mut trace.prompts {
        prompt.max_tokens = prompt.max_tokens.min(args.max_tokens.unwrap_or(u32::MAX));
    }
    Ok(trace)
}

fn built_in_trace(args: &Args) -> Trace {
    let classes = if args.classes.is_empty() {
        Class::ALL.to_vec()
    } else {
        args.classes.clone()
    };
    let sizes = if args.sizes.is_empty() {
        vec![Size::Short, Size::Medium]
    } else {
        args.sizes.clone()
    };
    let prompts = built_in(&classes, &sizes, args.seed);
    let classes: Vec<&str> = classes.iter().map(|class| class.as_str()).collect();
    let sizes: Vec<&str> = sizes
        .iter()
        .map(|size| match size {
            Size::Short => "short",
            Size::Medium => "medium",
            Size::Long => "long",
        })
        .collect();
    Trace {
        name: format!(
            "built-in, {} prompts: {}; {}",
            prompts.len(),
            classes.join(", "),
            sizes.join(", ")
        ),
        prompts,
        notes: Vec::new(),
    }
}

fn recorded(file: &std::path::Path) -> anyhow::Result<Trace> {
    let told =
        |error: &dyn std::fmt::Display| Told::usage(format!("`{}`: {error}", file.display()));
    let recorded = read_trace(&text_of(file)?).map_err(|error| told(&error))?;
    let mut notes = Vec::new();
    if recorded.left_out > 0 {
        notes.push(format!(
            "{} requests of the trace are embeddings or hold pictures and are left out",
            recorded.left_out
        ));
    }
    if !recorded.text {
        notes.push("the trace holds no text: requests have the recorded lengths and common beginnings, and no answer is checked".to_owned());
    }
    Ok(Trace {
        name: file.display().to_string(),
        prompts: recorded.prompts,
        notes,
    })
}

fn text_of(file: &std::path::Path) -> anyhow::Result<String> {
    let bytes = crate::cmd::read_file(file)?;
    String::from_utf8(bytes).map_err(|_| usage(format!("`{}` is not UTF-8 text", file.display())))
}

fn bar(global: &Global, length: u64) -> anyhow::Result<ProgressBar> {
    let bar = if global.quiet {
        ProgressBar::hidden()
    } else {
        ProgressBar::new(length)
    };
    bar.set_style(ProgressStyle::with_template(
        "{bar:24} {pos}/{len}  {msg}  {eta} left",
    )?);
    Ok(bar)
}

/// A note for a person.
fn say(global: &Global, note: &str) {
    if !global.quiet {
        // Nobody reads stderr: the figures are as good without the note.
        let _ = writeln!(io::stderr().lock(), "note: {note}");
    }
}

fn policy(policy: Policy) -> &'static str {
    match policy {
        Policy::Today => "today",
        Policy::Routed => "routed",
    }
}

fn class(text: &str) -> Result<Class, String> {
    Class::ALL
        .into_iter()
        .find(|class| class.as_str().eq_ignore_ascii_case(text.trim()))
        .ok_or_else(|| "expected simple, moderate or complex".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration < Duration::from_millis(100) || duration > Duration::from_secs(86_400) {
        return Err("a time-out is 100 ms to a day".to_owned());
    }
    Ok(duration)
}
