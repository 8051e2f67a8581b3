//! What makes figures unknown or doubtful.

use super::compare::HEADROOM;
use super::figures::{STREAMS, float};
use super::index::Index;
use super::observed::{Form, Seen};
use super::report::{Headroom, Warning};
use super::{CALM, DIRECT};

/// Load average per processor above which other work disturbs the figures.
const BUSY: f64 = 0.5;

/// What is doubtful about the run as a whole.
pub(super) fn circumstances(seen: &Index<'_>) -> Vec<Warning> {
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
    if let Some(busy) = busy(seen) {
        warn(
            "busy_machine",
            busy,
            Some("repeat it when the machine is quiet, or with --patience 30m"),
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

/// How other programs disturbed: what they used, or else what the load average was before anything was measured.
fn busy(seen: &Index<'_>) -> Option<String> {
    if let Some(share) = seen.others_share() {
        let percent = 100.0 * share;
        return (share > CALM).then(|| {
            format!(
                "other programs used {percent:.0} % of the processors: they disturb the figures"
            )
        });
    }
    let (load, cores) = (seen.first?.0?[0], seen.settings.cores?);
    (load > BUSY * float(cores)).then(|| {
        format!("the load average was {load:.2} on {cores} processors when it began: other work disturbs the figures")
    })
}

/// What could not be measured, by target.
pub(super) fn failures(seen: &Index<'_>) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for target in &seen.settings.targets {
        let mut warn = |code, text| {
            warnings.push(Warning {
                code,
                text,
                cure: None,
            });
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

/// Where the generator was too slow, or a difference too small.
pub(super) fn limits(
    seen: &Index<'_>,
    headroom: &[Headroom],
    unmeasurable: &[String],
) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for (form, streams) in [(Form::Lines, 1), (Form::Events, 1), (Form::Lines, STREAMS)] {
        if seen.pieces_late(form, streams) {
            let plural = if streams == 1 { "" } else { "s" };
            warnings.push(Warning {
                code: "generator_limit",
                text: format!("{streams} stream{plural} of {}: even the direct way did not bring the pieces in time, so no ratio is told", form.name()),
                cure: Some("repeat it on a quiet machine, or with more --threads".to_owned()),
            });
        }
    }
    for slow in headroom.iter().filter(|headroom| !headroom.enough) {
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
    warnings
}
