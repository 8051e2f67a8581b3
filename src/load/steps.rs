//! What a run measures, in which order, and how long that takes.

use std::fmt;
use std::time::Duration;

use super::many::Until;
use crate::measure::proxy::{CONNECTIONS, Case, Form, SIZES, STREAMS, Window};

/// Unmeasured before every window.
pub(super) const WARM: Duration = Duration::from_millis(200);
/// Over which many streams are begun, so that they do not all send at once.
pub(super) const SPREAD: Duration = Duration::from_millis(500);
/// Time between the pieces of one stream, and of each of many.
const ONE_GAP: Duration = Duration::from_millis(1);
const MANY_GAP: Duration = Duration::from_millis(20);
/// The window of streams where requests are counted instead.
const STREAM_WINDOW: Duration = Duration::from_secs(2);
/// How many clients leave, or upstreams are cut, of each kind in a round.
pub(super) const TRIES: u32 = 3;
/// How long idle streams are left alone before memory is looked at, and until the next proxy's turn.
pub(super) const SETTLE: Duration = Duration::from_millis(500);

/// A part of the report that can be measured on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Latency of requests over one connection.
    Latency,
    /// Latency of a stream's first piece and of the others.
    Streams,
    /// Requests per second and their processor time.
    Rates,
    /// Memory, threads, idle streams.
    Idle,
    /// Clients that leave.
    Departures,
    /// An upstream that is cut.
    Cuts,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Latency,
        Self::Streams,
        Self::Rates,
        Self::Idle,
        Self::Departures,
        Self::Cuts,
    ];
}

/// Something that is measured once a round for every target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// One request after another, in turns.
    Latency(Case),
    /// So many streams with a piece every so often.
    Pieces(Form, u32, Duration),
    /// Requests of so many bytes over so many connections.
    Load(u64, u32),
    /// Clients leave before the first piece, or after it.
    Departures(bool),
    /// The upstream is cut.
    Cuts(Form),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latency(Case::Small) => write!(f, "1 KB requests"),
            Self::Latency(Case::SmallAuto) => write!(f, "1 KB requests for `auto`"),
            Self::Latency(Case::Large) => write!(f, "200 KB requests"),
            Self::Latency(Case::FirstPiece) => write!(f, "first pieces"),
            Self::Pieces(form, 1, _) => write!(f, "1 stream of {}", form.name()),
            Self::Pieces(form, streams, _) => write!(f, "{streams} streams of {}", form.name()),
            Self::Load(bytes, connections) => {
                write!(f, "{} KB requests, {connections} connections", bytes / 1024)
            }
            Self::Departures(false) => write!(f, "clients that leave before the first byte"),
            Self::Departures(true) => write!(f, "clients that leave after the first byte"),
            Self::Cuts(form) => write!(f, "a cut stream of {}", form.name()),
        }
    }
}

/// What to measure, and how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Rounds.
    pub rounds: u32,
    /// How long a load is measured.
    pub window: Window,
    /// Whether latencies are sampled less often, too.
    pub quick: bool,
    /// What is measured.
    pub parts: Vec<Part>,
    /// Idle streams at once.
    pub idle: u32,
    /// Threads of the generator.
    pub threads: u32,
    /// How long may be spent on repeating what other programs disturbed.
    pub patience: Duration,
}

impl Plan {
    /// Whether a part is measured.
    pub fn has(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    /// The steps of a round.
    pub fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.has(Part::Latency) {
            steps.extend([Case::Small, Case::SmallAuto, Case::Large].map(Step::Latency));
        }
        if self.has(Part::Streams) {
            steps.push(Step::Latency(Case::FirstPiece));
            steps.extend([Form::Lines, Form::Events].map(|form| Step::Pieces(form, 1, ONE_GAP)));
            steps.push(Step::Pieces(Form::Lines, STREAMS, MANY_GAP));
        }
        if self.has(Part::Rates) {
            let loads = SIZES
                .into_iter()
                .flat_map(|bytes| CONNECTIONS.map(|connections| Step::Load(bytes, connections)));
            steps.extend(loads);
        }
        if self.has(Part::Departures) {
            steps.extend([false, true].map(Step::Departures));
        }
        if self.has(Part::Cuts) {
            steps.extend([Form::Lines, Form::Events].map(Step::Cuts));
        }
        steps
    }

    /// How many turns of how many requests a case is sampled in.
    pub(super) fn turns(&self, case: Case) -> (u32, u32) {
        let turn = match (case, self.quick) {
            (Case::Large | Case::FirstPiece, true) => 3,
            (Case::Large | Case::FirstPiece, false) => 40,
            (_, true) => 20,
            (_, false) => 200,
        };
        (if self.quick { 3 } else { 10 }, turn)
    }

    /// The window of a load of requests.
    pub(super) fn until(&self) -> Until {
        match self.window {
            Window::Ms(ms) => Until::Time(Duration::from_millis(ms)),
            Window::Requests(count) => Until::Count(count),
        }
    }

    /// The window of a load of streams.
    pub(super) fn stream_window(&self) -> Duration {
        match self.window {
            Window::Ms(ms) => Duration::from_millis(ms),
            Window::Requests(_) => STREAM_WINDOW,
        }
    }

    /// About how long a step takes for one target; a guess only where it depends on how fast the target is.
    pub fn time_of(&self, step: Step) -> Duration {
        match step {
            Step::Latency(case) => {
                let each = match case {
                    Case::Small | Case::SmallAuto => Duration::from_micros(80),
                    Case::Large => Duration::from_micros(400),
                    Case::FirstPiece => Duration::from_millis(1),
                };
                let (turns, turn) = self.turns(case);
                each * turn * (turns + 1)
            }
            Step::Pieces(_, 1, _) => WARM + self.stream_window(),
            Step::Pieces(..) => SPREAD + WARM + self.stream_window(),
            Step::Load(..) => match self.until() {
                Until::Time(window) => WARM + window,
                Until::Count(count) => {
                    WARM + Duration::from_micros(100) * u32::try_from(count).unwrap_or(u32::MAX)
                }
            },
            Step::Departures(_) | Step::Cuts(_) => Duration::from_millis(40) * TRIES,
        }
    }

    /// About how long the look at idle streams takes for one proxy.
    pub fn time_of_idle(&self) -> Duration {
        Duration::from_millis(2) * self.idle + SETTLE * 2 + self.stream_window()
    }

    /// About how long everything takes with so many targets, the direct way among them.
    pub fn time(&self, targets: u32) -> Duration {
        let round: Duration = self
            .steps()
            .into_iter()
            .map(|step| self.time_of(step))
            .sum();
        let idle = if self.has(Part::Idle) {
            self.time_of_idle()
        } else {
            Duration::ZERO
        };
        round * targets * self.rounds + idle * targets.saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(parts: &[Part]) -> Plan {
        Plan {
            rounds: 5,
            window: Window::Ms(2000),
            quick: false,
            parts: parts.to_vec(),
            idle: 1000,
            threads: 1,
            patience: Duration::ZERO,
        }
    }

    #[test]
    fn the_steps_are_those_of_the_chosen_parts() {
        assert_eq!(plan(&Part::ALL).steps().len(), 3 + 4 + 6 + 2 + 2);
        assert_eq!(plan(&[Part::Idle]).steps(), []);
        assert_eq!(
            plan(&[Part::Cuts]).steps(),
            [Step::Cuts(Form::Lines), Step::Cuts(Form::Events)]
        );
    }

    #[test]
    fn the_estimate_grows_with_targets_rounds_and_windows() {
        let all = plan(&Part::ALL);
        assert!(all.time(4) > all.time(2) * 19 / 10);
        assert!(all.time(2) > Duration::from_secs(120) && all.time(2) < Duration::from_secs(600));
        let quick = Plan {
            rounds: 1,
            quick: true,
            window: Window::Ms(250),
            idle: 100,
            ..all
        };
        assert!(quick.time(2) < Duration::from_secs(20));
    }
}
