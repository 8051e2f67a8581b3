//! `--selftest` and `--eval`: the classifier against labels.

use std::io::Write;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::input;
use crate::cmd::Exit;
use crate::render::Told;
use crate::routing::{Complexity, SELFTEST, Turn, TurnRole, classify, shape_ask};

const CLASSES: [Complexity; 3] = [
    Complexity::Simple,
    Complexity::Moderate,
    Complexity::Complex,
];

/// Checks the acceptance prompts.
pub(super) fn selftest(out: &mut impl Write, json: bool) -> anyhow::Result<Exit> {
    let cases: Vec<Case> = SELFTEST
        .iter()
        .map(|&(prompt, label)| Case {
            prompt: prompt.to_owned(),
            label,
        })
        .collect();
    let result = Confusion::measure(&cases);
    let passed = result.right() == result.total();
    if json {
        let mut document = result.document();
        document.insert("passed".to_owned(), json!(passed));
        writeln!(out, "{}", serde_json::to_string_pretty(&document)?)?;
    } else {
        for case in &cases {
            let got = case.classified();
            if got != case.label {
                writeln!(
                    out,
                    "FAILED {:?}: {}, expected {}",
                    case.prompt,
                    got.as_str(),
                    case.label.as_str()
                )?;
            }
        }
        for class in CLASSES {
            let (right, total) = (result.count(class, class), result.labelled(class));
            writeln!(out, "{} {right}/{total}", class.as_str())?;
        }
        let percent = result.accuracy() * 100.0;
        writeln!(out, "{}/{} ({percent:.1}%)", result.right(), result.total())?;
        if passed {
            writeln!(out, "ALL TESTS PASSED")?;
        }
    }
    out.flush()?;
    Ok(if passed { Exit::Yes } else { Exit::No })
}

/// Measures against labelled prompts.
pub(super) fn eval(
    out: &mut impl Write,
    cases: &[Case],
    min_accuracy: Option<f64>,
    json: bool,
) -> anyhow::Result<Exit> {
    let result = Confusion::measure(cases);
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&result.document())?)?;
    } else {
        writeln!(
            out,
            "accuracy  {:.1}% ({}/{})",
            result.accuracy() * 100.0,
            result.right(),
            result.total()
        )?;
        writeln!(out, "macro-F1  {:.3}\n", result.macro_f1())?;
        writeln!(
            out,
            "{:>10}  {:>8}  {:>8}  {:>8}",
            "label", "SIMPLE", "MODERATE", "COMPLEX"
        )?;
        for label in CLASSES {
            write!(out, "{:>10}", label.as_str())?;
            for got in CLASSES {
                write!(out, "  {:>8}", result.count(label, got))?;
            }
            writeln!(out)?;
        }
    }
    out.flush()?;
    let enough = min_accuracy.is_none_or(|least| result.accuracy() >= least);
    Ok(if enough { Exit::Yes } else { Exit::No })
}

/// A prompt with its label.
pub(super) struct Case {
    prompt: String,
    label: Complexity,
}

impl Case {
    /// The labelled prompts of a JSONL file.
    pub(super) fn read(path: &Path) -> anyhow::Result<Vec<Self>> {
        #[derive(Deserialize)]
        struct Line {
            prompt: String,
            label: String,
        }
        let mut cases = Vec::new();
        for (at, line) in input::file(path)?.lines().enumerate() {
            if line.trim().is_empty() {
                continue;
            }
            let whence = format!("{}:{}", path.display(), at + 1);
            let line: Line = serde_json::from_str(line).map_err(|error| {
                Told::usage(format!("{whence}: {error}"))
                    .hint("each line is a JSON object: {\"prompt\": \"…\", \"label\": \"SIMPLE\"}")
            })?;
            let label = CLASSES
                .into_iter()
                .find(|class| class.as_str().eq_ignore_ascii_case(&line.label))
                .ok_or_else(|| {
                    Told::usage(format!("{whence}: unknown label {:?}", line.label))
                        .hint("labels are SIMPLE, MODERATE and COMPLEX")
                })?;
            cases.push(Self {
                prompt: line.prompt,
                label,
            });
        }
        if cases.is_empty() {
            return Err(Told::usage(format!("{}: no labelled prompts", path.display())).into());
        }
        Ok(cases)
    }

    fn classified(&self) -> Complexity {
        let turn = Turn {
            role: TurnRole::User,
            text: self.prompt.clone(),
        };
        classify(&shape_ask(&[turn])).complexity
    }
}

/// How often each label was given each class.
struct Confusion {
    counts: Vec<(Complexity, Complexity)>,
}

impl Confusion {
    fn measure(cases: &[Case]) -> Self {
        Self {
            counts: cases
                .iter()
                .map(|case| (case.label, case.classified()))
                .collect(),
        }
    }

    fn matching(&self, of: impl Fn(Complexity, Complexity) -> bool) -> u32 {
        let n = self.counts.iter().filter(|(label, got)| of(*label, *got));
        u32::try_from(n.count()).unwrap_or(u32::MAX)
    }

    fn count(&self, label: Complexity, got: Complexity) -> u32 {
        self.matching(|l, g| l == label && g == got)
    }

    fn labelled(&self, label: Complexity) -> u32 {
        self.matching(|l, _| l == label)
    }

    fn right(&self) -> u32 {
        self.matching(|label, got| label == got)
    }

    fn total(&self) -> u32 {
        self.matching(|_, _| true)
    }

    fn accuracy(&self) -> f64 {
        f64::from(self.right()) / f64::from(self.total())
    }

    /// Harmonic mean of precision and recall; `None` for a class that neither occurs nor is given.
    fn f1(&self, class: Complexity) -> Option<f64> {
        let either = self.labelled(class) + self.matching(|_, got| got == class);
        (either > 0).then(|| 2.0 * f64::from(self.count(class, class)) / f64::from(either))
    }

    /// Mean of the classes' F1.
    fn macro_f1(&self) -> f64 {
        let all: Vec<f64> = CLASSES
            .into_iter()
            .filter_map(|class| self.f1(class))
            .collect();
        let classes = u32::try_from(all.len()).unwrap_or(u32::MAX);
        all.iter().sum::<f64>() / f64::from(classes)
    }

    fn document(&self) -> Map<String, Value> {
        let confusion: Map<String, Value> = CLASSES
            .into_iter()
            .map(|label| {
                let row: Map<String, Value> = CLASSES
                    .into_iter()
                    .map(|got| (got.as_str().to_owned(), json!(self.count(label, got))))
                    .collect();
                (label.as_str().to_owned(), Value::Object(row))
            })
            .collect();
        Map::from_iter([
            ("schema".to_owned(), json!(1)),
            ("prompts".to_owned(), json!(self.total())),
            ("right".to_owned(), json!(self.right())),
            ("accuracy".to_owned(), json!(self.accuracy())),
            ("macro_f1".to_owned(), json!(self.macro_f1())),
            ("confusion".to_owned(), Value::Object(confusion)),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Complexity::{Complex, Moderate, Simple};

    #[test]
    fn f1_is_averaged_over_the_classes_that_occur() {
        let confusion = Confusion {
            counts: vec![
                (Simple, Simple),
                (Simple, Complex),
                (Complex, Complex),
                (Complex, Complex),
            ],
        };
        assert!((confusion.accuracy() - 0.75).abs() < 1e-12);
        assert_eq!(confusion.f1(Moderate), None);
        // SIMPLE: 2·1/(2+1); COMPLEX: 2·2/(2+3).
        assert!((confusion.macro_f1() - f64::midpoint(2.0 / 3.0, 0.8)).abs() < 1e-12);
    }
}
