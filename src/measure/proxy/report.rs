//! From observations to the report.

use std::collections::HashMap;

use super::figures::{self, Definition, Kind, Limit, Section, Unit, float};
use super::observed::{End, Form, Moment, Observation, Seen, Settings};
use super::{DIRECT, MAX_ROUNDS, ROUTER, Spread};

/// How far the direct rate must be above a proxy's, so that what was measured is the proxy and not the generator.
const HEADROOM: f64 = 1.5;
/// The share of pieces due that must come on the direct way for the same reason.
const PIECES_DUE: f64 = 0.95;
/// Load average per processor above which other work disturbs the figures.
const BUSY: f64 = 0.5;

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
    for (form, streams) in [
        (Form::Lines, 1),
        (Form::Events, 1),
        (Form::Lines, figures::STREAMS),
    ] {
        if seen.pieces_late(form, streams) {
            let plural = if streams == 1 { "" } else { "s" };
            warnings.push(Warning {
                code: "generator_limit",
                text: format!("{streams} stream{plural} of {}: even the direct way did not bring the pieces in time, so no ratio is told", form.name()),
                cure: Some("repeat it on a quiet machine, or with more --threads".to_owned()),
            });
        }
    }
    for slow in headroom
        .iter()
        .filter(|headroom: &&Headroom| !headroom.enough)
    {
        let times = slow.ratio.map_or_else(
            || "an unknown multiple of".to_owned(),
            |ratio| format!("{ratio:.1} x"),
        );
        warnings.push(Warning {
            code: "generator_limit",
            text: format!("{}: mock and generator alone do {times} the fastest proxy's rate; below {HEADROOM} the generator is measured, so no ratio is told", slow.figure),
            cure: Some("raise --threads, or take a machine with more processors".to_owned()),
        });
    }
    if !unmeasurable.is_empty() {
        warnings.push(Warning {
            code: "not_measurable",
            text: format!(
                "not above the direct way's noise, and therefore unknown: {}",
                unmeasurable.join(", ")
            ),
            cure: Some("repeat it on a quiet machine with more --rounds".to_owned()),
        });
    }
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
        figures,
        cuts: cuts(&seen),
        headroom,
        warnings,
    }
}

/// The observations by target and round.
struct Index<'a> {
    settings: &'a Settings,
    seen: HashMap<(&'a str, u32), Vec<&'a Seen>>,
    completed: u32,
    /// Load averages and the time at the start, and at the end of the last round.
    first: Option<(Option<[f64; 3]>, u64)>,
    last: Option<(Option<[f64; 3]>, u64)>,
}

impl<'a> Index<'a> {
    fn new(settings: &'a Settings, observations: &'a [Observation]) -> Self {
        let mut index = Self {
            settings,
            seen: HashMap::new(),
            completed: 0,
            first: None,
            last: None,
        };
        for Observation {
            round,
            target,
            seen,
        } in observations
        {
            index
                .seen
                .entry((target.as_str(), *round))
                .or_default()
                .push(seen);
            if let Seen::Machine {
                moment,
                load_percent,
                elapsed_ns,
            } = seen
            {
                let load = load_percent.map(|load| load.map(|percent| f64::from(percent) / 100.0));
                if *moment == Moment::Start {
                    index.first = Some((load, *elapsed_ns));
                } else {
                    index.last = Some((load, *elapsed_ns));
                    index.completed = index.completed.max(round + 1);
                }
            }
        }
        index
    }

    /// What is looked at once in a run counts even when no round was completed.
    fn rounds(&self) -> std::ops::Range<u32> {
        0..self.completed.clamp(1, MAX_ROUNDS)
    }

    fn all(&self, target: &str) -> Vec<&'a Seen> {
        let rounds = self
            .rounds()
            .filter_map(|round| self.seen.get(&(target, round)));
        rounds.flatten().copied().collect()
    }

    /// A figure's value by round; `None` for a round without one.
    fn values(&self, definition: &Definition, target: &str) -> Vec<Option<f64>> {
        let value = |round| {
            let seen = self.seen.get(&(target, round))?;
            (definition.of)(seen).filter(|value| value.is_finite())
        };
        self.rounds().map(value).collect()
    }

    /// Whether the direct way brought fewer pieces than were due.
    fn pieces_late(&self, wanted: Form, number: u32) -> bool {
        let mut shares = Vec::new();
        for seen in self.all(DIRECT) {
            if let Seen::Pieces {
                form,
                streams,
                gap_ns,
                delays,
                elapsed_ns,
                ..
            } = seen
                && (*form, *streams) == (wanted, number)
            {
                let due = float(*elapsed_ns) / float(*gap_ns).max(1.0) * f64::from(*streams);
                shares.push(float(delays.count) / due.max(1.0));
            }
        }
        Spread::of(&shares).is_some_and(|share| share.median < PIECES_DUE)
    }
}

/// A figure, and the targets whose added time was measured but is unknown for being lost in noise.
fn figure<'a>(
    seen: &Index<'a>,
    definition: &Definition,
    headroom: &mut Vec<Headroom>,
) -> (Figure, Vec<&'a str>) {
    let added = definition.kind == Kind::Added;
    let direct = seen.values(definition, DIRECT);
    let rounds: Vec<(&'a str, Vec<Option<f64>>)> = seen
        .settings
        .targets
        .iter()
        .map(|target| {
            let own = seen.values(definition, &target.name);
            let values = if added && target.name != DIRECT {
                combine(&own, &direct, |with, without| with - without)
            } else {
                own
            };
            (target.name.as_str(), values)
        })
        .collect();
    let spread = |values: &[Option<f64>]| {
        let known: Vec<f64> = values.iter().flatten().copied().collect();
        // An added time of nothing or less only says that the noise is larger.
        Spread::of(&known).filter(|spread| !added || spread.median > 0.0)
    };
    let values: Vec<Option<Spread>> = rounds.iter().map(|(_, values)| spread(values)).collect();
    let of = |name: &str| rounds.iter().position(|(target, _)| *target == name);
    let rate = |at: usize| {
        values
            .get(at)
            .copied()
            .flatten()
            .map(|spread| spread.median)
    };
    let limit = match definition.limit {
        Limit::Rate => of(DIRECT).and_then(rate).map(|rate| rate / HEADROOM),
        _ => None,
    };
    let late =
        matches!(definition.limit, Limit::Pieces(form, streams) if seen.pieces_late(form, streams));
    let mut ratios = Vec::new();
    for (at, (name, theirs)) in rounds.iter().enumerate() {
        if [DIRECT, ROUTER].contains(name) {
            continue;
        }
        let slow = definition.limit == Limit::Rate
            && [of(ROUTER).and_then(rate), rate(at)]
                .into_iter()
                .flatten()
                .any(|rate| limit.is_none_or(|limit| rate > limit));
        let ours = of(ROUTER)
            .and_then(|at| Some((rounds.get(at)?.1.as_slice(), values.get(at).copied()??)));
        let both = ours
            .zip(values.get(at).copied().flatten())
            .filter(|_| !slow && !late);
        ratios.push(ratio(
            name,
            both.map(|((ours, middle), other)| (ours, theirs.as_slice(), middle, other)),
            added,
        ));
    }
    if definition.limit == Limit::Rate {
        headroom.extend(headroom_of(definition, &rounds, &values));
    }
    let lost = rounds.iter().zip(&values).filter(|((_, rounds), value)| {
        added && value.is_none() && rounds.iter().any(Option::is_some)
    });
    let lost = lost.map(|((name, _), _)| *name).collect();
    let figure = Figure {
        id: definition.id.clone(),
        section: definition.section,
        title: definition.title.clone(),
        unit: definition.unit,
        added,
        less: definition.less,
        values,
        ratios,
    };
    (figure, lost)
}

type Both<'a> = (&'a [Option<f64>], &'a [Option<f64>], Spread, Spread);

fn ratio(to: &str, both: Option<Both<'_>>, added: bool) -> Ratio {
    let unknown = Ratio {
        to: to.to_owned(),
        median: None,
        range: None,
    };
    let Some((ours, theirs, our_middle, their_middle)) = both else {
        return unknown;
    };
    if their_middle.median <= 0.0 {
        return unknown;
    }
    let pairs: Vec<(f64, f64)> = ours
        .iter()
        .zip(theirs)
        .filter_map(|(a, b)| (*a).zip(*b))
        .collect();
    // With a denominator of nothing or less a round has no ratio, and a spread of the others would be chosen.
    let sound = pairs
        .iter()
        .all(|(ours, theirs)| *theirs > 0.0 && (!added || *ours > 0.0));
    let each: Vec<f64> = pairs.iter().map(|(ours, theirs)| ours / theirs).collect();
    let spread = Spread::of(&each).filter(|_| sound);
    let median = if added {
        Some(our_middle.median / their_middle.median)
    } else {
        spread.map(|spread| spread.median)
    };
    Ratio {
        median,
        range: spread.map(|spread| (spread.min, spread.max)),
        ..unknown
    }
}

fn headroom_of(
    definition: &Definition,
    rounds: &[(&str, Vec<Option<f64>>)],
    values: &[Option<Spread>],
) -> Option<Headroom> {
    let medians = rounds
        .iter()
        .zip(values)
        .filter_map(|((name, _), value)| Some((*name, (*value)?.median)));
    let (direct, proxies): (Vec<_>, Vec<_>) = medians.partition(|(name, _)| *name == DIRECT);
    let fastest = proxies
        .iter()
        .map(|(_, rate)| *rate)
        .fold(f64::NAN, f64::max);
    if fastest.is_nan() {
        return None;
    }
    let ratio = direct.first().map(|(_, rate)| rate / fastest);
    Some(Headroom {
        figure: definition.id.clone(),
        ratio,
        enough: ratio.is_some_and(|ratio| ratio >= HEADROOM),
    })
}

fn combine(a: &[Option<f64>], b: &[Option<f64>], f: impl Fn(f64, f64) -> f64) -> Vec<Option<f64>> {
    a.iter()
        .zip(b)
        .map(|(a, b)| Some(f((*a)?, (*b)?)))
        .collect()
}

/// What is doubtful about the run as a whole.
fn circumstances(seen: &Index<'_>) -> Vec<Warning> {
    let (settings, completed) = (seen.settings, seen.completed);
    let mut warnings = Vec::new();
    let mut warn = |code, text: String, cure: Option<&str>| {
        warnings.push(Warning {
            code,
            text,
            cure: cure.map(str::to_owned),
        });
    };
    if completed < settings.rounds {
        warn(
            "stopped",
            format!("stopped after {completed} of {} rounds", settings.rounds),
            None,
        );
    }
    if settings.quick {
        warn(
            "quick",
            "--quick measures for too short a time to compare anything".to_owned(),
            Some("leave --quick out"),
        );
    }
    if let (Some((Some([load, ..]), _)), Some(cores)) = (seen.first, settings.cores)
        && load > BUSY * float(cores)
    {
        warn(
            "busy_machine",
            format!(
                "the load average was {load:.2} on {cores} processors when it began: other work disturbs the figures"
            ),
            Some("repeat it when the machine is quiet"),
        );
    }
    for target in settings
        .targets
        .iter()
        .filter(|target| target.name != DIRECT && target.pids.is_empty())
    {
        warn(
            "no_process",
            format!(
                "the processes of {} were not found: its processor time and memory are unknown",
                target.name
            ),
            Some("name its main process with --pid NAME=PID, and run as the same user or root"),
        );
    }
    warnings
}

/// What could not be measured, by target.
fn failures(seen: &Index<'_>) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for target in &seen.settings.targets {
        let mut warn = |code, text| {
            warnings.push(Warning {
                code,
                text,
                cure: None,
            })
        };
        let name = &target.name;
        let (mut failed, mut answers, mut empty, mut unseen) = (0, 0, 0, 0);
        let mut steps: Vec<(&str, &str)> = Vec::new();
        for one in seen.all(name) {
            match one {
                Seen::Load {
                    failed: n,
                    answers: good,
                    ..
                } => {
                    failed += n;
                    answers += n + good;
                    empty += u64::from(*good == 0);
                }
                Seen::Pieces {
                    failed: n, streams, ..
                } => {
                    failed += n;
                    answers += u64::from(*streams);
                }
                Seen::Idle { asked, began, .. } if began < asked => {
                    warn(
                        "idle_streams",
                        format!("{name}: only {began} of {asked} idle streams began"),
                    );
                }
                Seen::Departure {
                    waited_ns: None, ..
                } => unseen += 1,
                Seen::Failed { step, cause } if !steps.iter().any(|(known, _)| known == step) => {
                    steps.push((step, cause));
                }
                _ => {}
            }
        }
        if failed > 0 {
            warn(
                "failed_answers",
                format!("{name}: {failed} of {answers} answers failed"),
            );
        }
        if empty > 0 {
            warn(
                "no_answer",
                format!("{name}: in {empty} windows no answer came"),
            );
        }
        if unseen > 0 {
            warn(
                "departure_unseen",
                format!("{name}: the upstream never saw {unseen} of the clients that left"),
            );
        }
        for (step, cause) in steps {
            warn("failed_step", format!("{name}: {step}: {cause}"));
        }
    }
    warnings
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
