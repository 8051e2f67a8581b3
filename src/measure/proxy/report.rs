//! From observations to the report.

use super::Spread;
use super::compare::figure;
use super::figures::{self, Section, Unit};
use super::index::Index;
use super::observed::{End, Form, Observation, Seen, Settings};
use super::warnings::{circumstances, failures, limits};

/// What a run tells.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The names of all targets, in the run's order.
    pub targets: Vec<String>,
    /// Rounds that were completed.
    pub completed: u32,
    /// How long the run took, nanoseconds.
    pub elapsed_ns: Option<u64>,
    /// Load averages of 1, 5 and 15 minutes when it began.
    pub load_before: Option<[f64; 3]>,
    /// The same at the end of the last round.
    pub load_after: Option<[f64; 3]>,
    /// The share of the machine's processors that programs used which have no part in the measurement; `None` where nobody knows.
    pub others_share: Option<f64>,
    /// Measurements that were repeated because of them.
    pub repeated: u32,
    /// The figures, all of them, in order.
    pub figures: Vec<Figure>,
    /// How a cut upstream looks to the client.
    pub cuts: Vec<Cut>,
    /// How much faster the generator was.
    pub headroom: Vec<Headroom>,
    /// What makes a figure unknown or doubtful.
    pub warnings: Vec<Warning>,
}

/// A figure of every target.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// Its name for programs.
    pub id: String,
    /// Where it belongs.
    pub section: Section,
    /// Its name for people, within the section.
    pub title: String,
    /// What it counts.
    pub unit: Unit,
    /// Whether it is what a proxy adds to the direct way; the direct way's own value is then absolute.
    pub added: bool,
    /// Whether less is better.
    pub less: bool,
    /// By target, in the run's order, over the rounds.
    pub values: Vec<Option<Spread>>,
    /// The router's value divided by that of each other proxy.
    pub ratios: Vec<Ratio>,
}

/// The router's figure divided by another proxy's.
#[derive(Debug, Clone, PartialEq)]
pub struct Ratio {
    /// The other proxy.
    pub to: String,
    /// Of an added time the ratio of the medians, else the median of the rounds' ratios; `None` where it would mean nothing.
    pub median: Option<f64>,
    /// The least and the greatest of the rounds' ratios, where every round has one.
    pub range: Option<(f64, f64)>,
}

/// How often a client saw which end of a stream whose upstream was cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The stream's form.
    pub form: Form,
    /// The target.
    pub target: String,
    /// What was seen, the worst of all rounds: a clean end hides the loss; `None` where it was not tried.
    pub end: Option<End>,
    /// How often it was tried.
    pub tries: usize,
}

/// The direct rate over the rate of the fastest proxy.
#[derive(Debug, Clone, PartialEq)]
pub struct Headroom {
    /// The figure that it concerns.
    pub figure: String,
    /// The ratio; `None` where one of the two was not measured.
    pub ratio: Option<f64>,
    /// Whether that is enough for the rates to be those of the proxies.
    pub enough: bool,
}

/// What makes a figure unknown or doubtful.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Its name for programs.
    pub code: &'static str,
    /// What is the matter.
    pub text: String,
    /// What can be done.
    pub cure: Option<String>,
}

/// What follows from the observations; those of targets that the settings do not name are ignored.
pub fn report(settings: &Settings, observations: &[Observation]) -> Report {
    let seen = Index::new(settings, observations);
    let mut warnings = circumstances(&seen);
    warnings.extend(failures(&seen));
    let mut headroom = Vec::new();
    let mut unmeasurable = Vec::new();
    let mut figures = Vec::new();
    for definition in figures::all() {
        let (figure, lost) = figure(&seen, &definition, &mut headroom);
        if !lost.is_empty() {
            unmeasurable.push(format!("{} ({})", figure.id, lost.join(", ")));
        }
        figures.push(figure);
    }
    warnings.extend(limits(&seen, &headroom, &unmeasurable));
    Report {
        targets: settings
            .targets
            .iter()
            .map(|target| target.name.clone())
            .collect(),
        completed: seen.completed,
        elapsed_ns: seen.last.map(|(_, elapsed)| elapsed),
        load_before: seen.first.and_then(|(load, _)| load),
        load_after: seen.last.and_then(|(load, _)| load),
        others_share: seen.others_share(),
        repeated: seen.others.map_or(0, |others| others.repeated),
        figures,
        cuts: cuts(&seen),
        headroom,
        warnings,
    }
}

fn cuts(seen: &Index<'_>) -> Vec<Cut> {
    let mut cuts = Vec::new();
    for wanted in [Form::Lines, Form::Events] {
        for target in &seen.settings.targets {
            let ends: Vec<End> = seen
                .all(&target.name)
                .into_iter()
                .filter_map(|seen| match seen {
                    Seen::Cut { form, end } if *form == wanted => Some(*end),
                    _ => None,
                })
                .collect();
            let worst = [End::Clean, End::Hung, End::Broken, End::Told];
            cuts.push(Cut {
                form: wanted,
                target: target.name.clone(),
                end: worst.into_iter().find(|end| ends.contains(end)),
                tries: ends.len(),
            });
        }
    }
    cuts
}
