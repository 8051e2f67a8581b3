//! `gpurouter classify`: how much model a prompt needs.

use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Exit;
use crate::cli::Global;
use crate::config::{self, Environment, Overrides};
use crate::dialect::{Endpoint, parse};
use crate::render::{self, Told};
use crate::routing::{
    Classification, Complexity, Family, Policy, Probabilities, SELFTEST, Signal, TierChoice, Turn,
    TurnRole, classify, classify_with_context, estimate_tokens, shape_ask, tier_of,
};

/// Flags of `classify`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gpurouter classify \"Document this class\"
  printf '%s\\n' \"Fix the typo\" \"Design a queue\" | gpurouter classify --lines
  gpurouter classify --eval labelled.jsonl --min-accuracy 0.7

No node is asked. It knows English and Portuguese best.
Exit codes: 0 classified, 1 --selftest or --min-accuracy failed, 2 usage.")]
pub struct Args {
    /// The prompt; none or `-`: all of standard input is one prompt
    #[arg(value_name = "PROMPT")]
    pub prompt: Vec<String>,
    /// One prompt per line of standard input
    #[arg(long, conflicts_with_all = ["prompt", "messages", "eval", "selftest"])]
    pub lines: bool,
    /// A file that comes with it: only its size counts
    #[arg(long, value_name = "FILE")]
    pub context: Option<PathBuf>,
    /// A chat request body instead of a prompt (`-`: stdin)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prompt", "eval", "selftest"])]
    pub messages: Option<PathBuf>,
    /// Show every signal with its weight
    #[arg(long)]
    pub explain: bool,
    /// Classify 15 known prompts and check every answer
    #[arg(long, conflicts_with_all = ["prompt", "eval"])]
    pub selftest: bool,
    /// Measure on a file of JSON lines: `prompt`, `label`
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub eval: Option<PathBuf>,
    /// With --eval: exit 1 below this accuracy (0 to 1)
    #[arg(long, value_name = "X", requires = "eval", value_parser = share)]
    pub min_accuracy: Option<f64>,
    /// What it is for; told back in JSON
    #[arg(long, value_name = "NAME", default_value = "general")]
    pub task: String,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("a share is a number from 0 to 1".to_owned()),
    }
}

/// Runs the command.
pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Exit> {
    if args.selftest {
        let cases = SELFTEST.map(|(prompt, label)| Case {
            prompt: prompt.to_owned(),
            label,
        });
        return selftest(global, &cases);
    }
    if let Some(file) = &args.eval {
        return evaluate(global, file, args.min_accuracy);
    }
    let loaded = config::load(global, &Environment::of_process(), &Overrides::default())?;
    let policy = &loaded.config.routing;
    let context = match &args.context {
        Some(file) => super::read_file(file)?.len(),
        None => 0,
    };
    if args.lines {
        for line in io::stdin().lock().lines() {
            let line = line.map_err(|error| {
                super::usage(format!("standard input cannot be read as lines: {error}"))
            })?;
            tell(global, args, policy, &Prompt::text(line), context)?;
        }
        return Ok(Exit::Yes);
    }
    let prompt = match &args.messages {
        Some(file) => Prompt::messages(&super::read_file(file)?)?,
        None if args.prompt.is_empty() => Prompt::text(super::prompt_of(&["-".to_owned()])?),
        None => Prompt::text(super::prompt_of(&args.prompt)?),
    };
    if prompt.ask.trim().is_empty() {
        return Err(Told::usage("the prompt is empty")
            .hint("gpurouter classify \"Document this class\"")
            .into());
    }
    tell(global, args, policy, &prompt, context)?;
    Ok(Exit::Yes)
}

/// What is to be classified.
struct Prompt {
    ask: String,
    tokens: u64,
}

impl Prompt {
    fn text(text: String) -> Self {
        let tokens = estimate_tokens(&text, Family::default());
        let turn = Turn {
            role: TurnRole::User,
            text,
        };
        Self {
            ask: shape_ask(&[turn]),
            tokens,
        }
    }

    /// The ask and the size of a request body, exactly as `serve` reads them.
    fn messages(body: &[u8]) -> anyhow::Result<Self> {
        let parsed = parse(&Endpoint::ChatCompletions, body)
            .map_err(|error| super::usage(format!("not a chat request: {}", error.message)))?;
        let facts = parsed.facts(Family::of_model(parsed.model().unwrap_or_default()), true);
        Ok(Self {
            ask: shape_ask(&facts.turns),
            tokens: facts.prompt_tokens,
        })
    }
}

/// `classify --json`.
#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    complexity: Complexity,
    confidence: f64,
    probabilities: Probabilities,
    tokens: u64,
    tier: &'a str,
    model: Option<&'a str>,
    node: Option<&'a str>,
    reason: String,
    task: &'a str,
    signals: &'a [Signal],
    ask: &'a str,
}

fn tell(
    global: &Global,
    args: &Args,
    policy: &Policy,
    prompt: &Prompt,
    context: usize,
) -> anyhow::Result<()> {
    let found = classify_with_context(&prompt.ask, context);
    let tier = tier_of(policy, &found, prompt.tokens);
    if global.json {
        return render::json(&Document {
            schema: 1,
            complexity: found.complexity,
            confidence: found.confidence,
            probabilities: found.probabilities,
            tokens: prompt.tokens,
            tier: &tier.name,
            model: tier.model.as_deref(),
            node: tier.prefer.as_deref(),
            reason: tier.reason(tier.prefer.as_deref()),
            task: &args.task,
            signals: &found.signals,
            ask: &prompt.ask,
        });
    }
    let mut out = io::stdout().lock();
    writeln!(out, "{}", found.complexity.as_str())?;
    if args.explain {
        explain(&mut out, &found, &tier, prompt)?;
    }
    Ok(out.flush()?)
}

fn explain(
    out: &mut dyn Write,
    found: &Classification,
    tier: &TierChoice,
    prompt: &Prompt,
) -> io::Result<()> {
    let Probabilities {
        simple,
        moderate,
        complex,
    } = found.probabilities;
    writeln!(
        out,
        "probabilities  simple {simple:.2}  moderate {moderate:.2}  complex {complex:.2}"
    )?;
    writeln!(out, "tokens         about {}", prompt.tokens)?;
    writeln!(out, "tier           {}", tier.name)?;
    writeln!(
        out,
        "model          {}",
        tier.model.as_deref().unwrap_or("none is configured")
    )?;
    writeln!(
        out,
        "reason         {}",
        tier.reason(tier.prefer.as_deref())
    )?;
    if !found.signals.is_empty() {
        writeln!(out)?;
    }
    render::signals(out, &serde_json::to_value(&found.signals)?)?;
    writeln!(out, "\nscore {:+.2}, which is their sum", found.score)
}

/// A prompt with the class that it should have.
#[derive(Deserialize)]
struct Case {
    prompt: String,
    label: Complexity,
}

const CLASSES: [Complexity; 3] = [
    Complexity::Simple,
    Complexity::Moderate,
    Complexity::Complex,
];

/// How often each class was taken for each.
#[derive(Default)]
struct Confusion {
    /// First index: the true class; second: the one that was found.
    counts: [[u32; 3]; 3],
}

impl Confusion {
    fn of(cases: &[Case]) -> Self {
        let mut confusion = Self::default();
        for case in cases {
            let found = classify(&shape_ask(&[Turn {
                role: TurnRole::User,
                text: case.prompt.clone(),
            }]));
            let place = |class: Complexity| CLASSES.iter().position(|known| *known == class);
            let row = place(case.label).and_then(|row| confusion.counts.get_mut(row));
            if let Some(count) =
                row.and_then(|row| place(found.complexity).and_then(|column| row.get_mut(column)))
            {
                *count += 1;
            }
        }
        confusion
    }

    fn at(&self, truth: usize, found: usize) -> u32 {
        self.counts
            .get(truth)
            .and_then(|row| row.get(found))
            .copied()
            .unwrap_or(0)
    }

    fn right(&self) -> u32 {
        (0..3).map(|class| self.at(class, class)).sum()
    }

    fn of_class(&self, class: usize) -> u32 {
        (0..3).map(|found| self.at(class, found)).sum()
    }

    fn total(&self) -> u32 {
        (0..3).map(|class| self.of_class(class)).sum()
    }

    fn accuracy(&self) -> f64 {
        f64::from(self.right()) / f64::from(self.total().max(1))
    }

    /// Mean over the classes that occur of the harmonic mean of precision and recall.
    fn macro_f1(&self) -> f64 {
        let mut scores = Vec::new();
        for class in 0..3 {
            let found: u32 = (0..3).map(|truth| self.at(truth, class)).sum();
            let relevant = self.of_class(class);
            if found + relevant > 0 {
                scores.push(2.0 * f64::from(self.at(class, class)) / f64::from(found + relevant));
            }
        }
        let classes = u32::try_from(scores.len()).unwrap_or(1).max(1);
        scores.iter().sum::<f64>() / f64::from(classes)
    }

    /// One line per class, then all together.
    fn tell(&self, out: &mut dyn Write) -> io::Result<()> {
        for (class, name) in CLASSES.iter().enumerate() {
            let (right, all) = (self.at(class, class), self.of_class(class));
            writeln!(out, "{:<9} {right}/{all}", name.as_str())?;
        }
        let percent = 100.0 * self.accuracy();
        writeln!(out, "{}/{} ({percent:.1}%)", self.right(), self.total())
    }
}

/// `--selftest --json` and `--eval --json`.
#[derive(Serialize)]
struct Measured {
    schema: u32,
    prompts: u32,
    right: u32,
    accuracy: f64,
    macro_f1: f64,
    /// Rows: the true class; columns: the one found; order SIMPLE, MODERATE, COMPLEX.
    confusion: [[u32; 3]; 3],
}

impl Measured {
    fn of(confusion: &Confusion) -> Self {
        Self {
            schema: 1,
            prompts: confusion.total(),
            right: confusion.right(),
            accuracy: confusion.accuracy(),
            macro_f1: confusion.macro_f1(),
            confusion: confusion.counts,
        }
    }
}

fn selftest(global: &Global, cases: &[Case]) -> anyhow::Result<Exit> {
    let confusion = Confusion::of(cases);
    let all_right = confusion.right() == confusion.total();
    if global.json {
        render::json(&Measured::of(&confusion))?;
    } else {
        let mut out = io::stdout().lock();
        confusion.tell(&mut out)?;
        writeln!(
            out,
            "{}",
            if all_right {
                "ALL TESTS PASSED"
            } else {
                "SOME TESTS FAILED"
            }
        )?;
        out.flush()?;
    }
    Ok(if all_right { Exit::Yes } else { Exit::No })
}

fn evaluate(global: &Global, file: &Path, least: Option<f64>) -> anyhow::Result<Exit> {
    let bytes = super::read_file(file)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| super::usage(format!("`{}` is not UTF-8 text", file.display())))?;
    let mut cases: Vec<Case> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let case = serde_json::from_str(line).map_err(|error| {
            Told::usage(format!("{}:{}: {error}", file.display(), index + 1)).hint(
                "a line looks like {\"prompt\": \"Document this class\", \"label\": \"SIMPLE\"}",
            )
        })?;
        cases.push(case);
    }
    if cases.is_empty() {
        return Err(super::usage(format!(
            "`{}` holds no prompts",
            file.display()
        )));
    }
    let confusion = Confusion::of(&cases);
    if global.json {
        render::json(&Measured::of(&confusion))?;
    } else {
        let mut out = io::stdout().lock();
        confusion.tell(&mut out)?;
        writeln!(out, "macro-F1  {:.3}", confusion.macro_f1())?;
        writeln!(out, "\ntrue      found SIMPLE  MODERATE  COMPLEX")?;
        for (class, name) in CLASSES.iter().enumerate() {
            writeln!(
                out,
                "{:<9} {:>12}  {:>8}  {:>7}",
                name.as_str(),
                confusion.at(class, 0),
                confusion.at(class, 1),
                confusion.at(class, 2)
            )?;
        }
        out.flush()?;
    }
    let enough = least.is_none_or(|least| confusion.accuracy() >= least);
    Ok(if enough { Exit::Yes } else { Exit::No })
}
