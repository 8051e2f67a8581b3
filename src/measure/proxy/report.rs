//! From observations to the report.

use super::figures::{self, Definition, Kind, Limit, Section, Unit, float};
use super::observed::{End, Form, Observation, Run, Seen};
use super::{DIRECT, ROUTER, Spread};

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

/// What follows from the observations; those of targets that the run does not name are ignored.
pub fn report(run: &Run, observations: &[Observation]) -> Report {
    let seen = Index { run, observations };
    let mut warnings = circumstances(run);
    warnings.extend(failures(&seen));
    let mut headroom = Vec::new();
    let mut unmeasurable = Vec::new();
    let mut figures = Vec::new();
    for definition in figures::all() {
        let figure = figure(&seen, &definition, &mut headroom);
        if figure.added {
            unmeasurable.extend(below_noise(&seen, &figure));
        }
        figures.push(figure);
    }
    for (limit, name) in [(1, "1 stream"), (figures::STREAMS, "many streams")] {
        for form in [Form::Lines, Form::Events] {
            if seen.pieces_late(form, limit) {
                warnings.push(Warning {
                    code: "generator_limit",
                    text: format!("{name} ({form:?}): even the direct way did not bring the pieces in time, so no ratio is told"),
                    cure: Some("repeat it on a quiet machine, or with more --threads".to_owned()),
                });
            }
        }
    }
    for slow in headroom.iter().filter(|headroom: &&Headroom| !headroom.enough) {
        let times = slow.ratio.map_or_else(|| "an unknown multiple of".to_owned(), |ratio| format!("{ratio:.1} x"));
        warnings.push(Warning {
            code: "generator_limit",
            text: format!("{}: mock and generator alone do {times} the fastest proxy's rate; below {HEADROOM} the generator is measured, so no ratio is told", slow.figure),
            cure: Some("raise --threads, or take a machine with more processors".to_owned()),
        });
    }
    if !unmeasurable.is_empty() {
        warnings.push(Warning {
            code: "not_measurable",
            text: format!("not above the direct way's noise, and therefore unknown: {}", unmeasurable.join(", ")),
            cure: Some("repeat it on a quiet machine with more --rounds".to_owned()),
        });
    }
    Report {
        targets: run.targets.iter().map(|target| target.name.clone()).collect(),
        figures,
        cuts: cuts(&seen),
        headroom,
        warnings,
    }
}

/// The observations by round and target.
struct Index<'a> {
    run: &'a Run,
    observations: &'a [Observation],
}

impl<'a> Index<'a> {
    fn all(&self, target: &str) -> impl Iterator<Item = &'a Observation> {
        self.observations.iter().filter(move |observation| observation.target == target)
    }

    /// A figure's value by round; `None` for a round without one.
    fn rounds(&self, definition: &Definition, target: &str) -> Vec<Option<f64>> {
        let rounds = 0..self.run.completed.max(1);
        let value = |round| {
            let seen: Vec<&Seen> = self.all(target).filter(|one| one.round == round).map(|one| &one.seen).collect();
            (definition.of)(&seen).filter(|value| value.is_finite())
        };
        rounds.map(value).collect()
    }

    /// Whether the direct way brought fewer pieces than were due.
    fn pieces_late(&self, wanted: Form, number: u32) -> bool {
        let mut shares = Vec::new();
        for observation in self.all(DIRECT) {
            if let Seen::Pieces { form, streams, gap_ns, delays, elapsed_ns, .. } = &observation.seen
                && (*form, *streams) == (wanted, number)
            {
                let due = float(*elapsed_ns) / float(*gap_ns).max(1.0) * f64::from(*streams);
                shares.push(float(delays.count) / due.max(1.0));
            }
        }
        Spread::of(&shares).is_some_and(|share| share.median < PIECES_DUE)
    }
}

fn figure(seen: &Index<'_>, definition: &Definition, headroom: &mut Vec<Headroom>) -> Figure {
    let added = definition.kind == Kind::Added;
    let direct = seen.rounds(definition, DIRECT);
    let rounds: Vec<(&str, Vec<Option<f64>>)> = seen
        .run
        .targets
        .iter()
        .map(|target| {
            let own = seen.rounds(definition, &target.name);
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
    let rate = |at: usize| values.get(at).copied().flatten().map(|spread| spread.median);
    let limit = match definition.limit {
        Limit::Rate => of(DIRECT).and_then(rate).map(|rate| rate / HEADROOM),
        _ => None,
    };
    let late = matches!(definition.limit, Limit::Pieces(form, streams) if seen.pieces_late(form, streams));
    let mut ratios = Vec::new();
    for (at, (name, theirs)) in rounds.iter().enumerate() {
        if [DIRECT, ROUTER].contains(name) {
            continue;
        }
        let slow = definition.limit == Limit::Rate
            && [of(ROUTER).and_then(rate), rate(at)].into_iter().flatten().any(|rate| limit.is_none_or(|limit| rate > limit));
        let ours = of(ROUTER).and_then(|at| Some((rounds.get(at)?.1.as_slice(), values.get(at).copied()??)));
        let both = ours.zip(values.get(at).copied().flatten()).filter(|_| !slow && !late);
        ratios.push(ratio(name, both.map(|((ours, middle), other)| (ours, theirs.as_slice(), middle, other)), added));
    }
    if definition.limit == Limit::Rate {
        headroom.extend(headroom_of(definition, &rounds, &values));
    }
    Figure {
        id: definition.id.clone(),
        section: definition.section,
        title: definition.title.clone(),
        unit: definition.unit,
        added,
        less: definition.less,
        values,
        ratios,
    }
}

type Both<'a> = (&'a [Option<f64>], &'a [Option<f64>], Spread, Spread);

fn ratio(to: &str, both: Option<Both<'_>>, added: bool) -> Ratio {
    let unknown = Ratio { to: to.to_owned(), median: None, range: None };
    let Some((ours, theirs, our_middle, their_middle)) = both else {
        return unknown;
    };
    if their_middle.median <= 0.0 {
        return unknown;
    }
    let pairs: Vec<(f64, f64)> = ours.iter().zip(theirs).filter_map(|(a, b)| (*a).zip(*b)).collect();
    // With a denominator of nothing or less a round has no ratio, and a spread of the others would be chosen.
    let sound = pairs.iter().all(|(ours, theirs)| *theirs > 0.0 && (!added || *ours > 0.0));
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

fn headroom_of(definition: &Definition, rounds: &[(&str, Vec<Option<f64>>)], values: &[Option<Spread>]) -> Option<Headroom> {
    let medians = rounds.iter().zip(values).filter_map(|((name, _), value)| Some((*name, (*value)?.median)));
    let (direct, proxies): (Vec<_>, Vec<_>) = medians.partition(|(name, _)| *name == DIRECT);
    let fastest = proxies.iter().map(|(_, rate)| *rate).fold(f64::NAN, f64::max);
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
    a.iter().zip(b).map(|(a, b)| Some(f((*a)?, (*b)?))).collect()
}

/// The targets for which an added time was measured but is unknown, with the figure's name.
fn below_noise(seen: &Index<'_>, figure: &Figure) -> Option<String> {
    let definition = figures::all().into_iter().find(|one| one.id == figure.id)?;
    let lost: Vec<&str> = seen
        .run
        .targets
        .iter()
        .zip(&figure.values)
        .filter(|(target, value)| value.is_none() && seen.rounds(&definition, &target.name).iter().any(Option::is_some))
        .map(|(target, _)| target.name.as_str())
        .collect();
    (!lost.is_empty()).then(|| format!("{} ({})", figure.id, lost.join(", ")))
}

/// What is doubtful about the run as a whole.
fn circumstances(run: &Run) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut warn = |code, text: String, cure: Option<&str>| {
        warnings.push(Warning { code, text, cure: cure.map(str::to_owned) });
    };
    if run.completed < run.rounds {
        warn("stopped", format!("stopped after {} of {} rounds", run.completed, run.rounds), None);
    }
    if run.quick {
        warn("quick", "--quick measures for too short a time to compare anything".to_owned(), Some("leave --quick out"));
    }
    if let (Some([load, ..]), Some(processors)) = (run.load_before, run.machine.processors)
        && load > BUSY * float(processors)
    {
        warn(
            "busy_machine",
            format!("the load average was {load:.2} on {processors} processors when it began: other work disturbs the figures"),
            Some("repeat it when the machine is quiet"),
        );
    }
    for target in run.targets.iter().filter(|target| target.name != DIRECT && target.pids.is_empty()) {
        warn(
            "no_process",
            format!("the processes of {} were not found: its processor time and memory are unknown", target.name),
            Some("name its main process with --pid NAME=PID, and run as the same user or root"),
        );
    }
    warnings
}

/// What could not be measured, by target.
fn failures(seen: &Index<'_>) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for target in &seen.run.targets {
        let mut warn = |code, text| warnings.push(Warning { code, text, cure: None });
        let name = &target.name;
        let (mut failed, mut answers, mut unseen) = (0, 0, 0);
        let mut steps: Vec<(&str, &str)> = Vec::new();
        for observation in seen.all(name) {
            match &observation.seen {
                Seen::Load { failed: n, answers: good, .. } => {
                    failed += n;
                    answers += n + good;
                }
                Seen::Pieces { failed: n, streams, .. } => {
                    failed += n;
                    answers += u64::from(*streams);
                }
                Seen::Idle { asked, began, .. } if began < asked => {
                    warn("idle_streams", format!("{name}: only {began} of {asked} idle streams began"));
                }
                Seen::Departure { waited_ns: None, .. } => unseen += 1,
                Seen::Failed { step, cause } if !steps.iter().any(|(known, _)| known == step) => {
                    steps.push((step, cause));
                }
                _ => {}
            }
        }
        if failed > 0 {
            warn("failed_answers", format!("{name}: {failed} of {answers} answers failed"));
        }
        if unseen > 0 {
            warn("departure_unseen", format!("{name}: the upstream never saw {unseen} of the clients that left"));
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
        for target in &seen.run.targets {
            let ends: Vec<End> = seen
                .all(&target.name)
                .filter_map(|observation| match observation.seen {
                    Seen::Cut { form, end } if form == wanted => Some(end),
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
