//! The measurements of a run, in interleaved rounds.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::many::{Load, Many, Timing, sleep_until};
use super::others::{self, Others, calm};
use super::process::Usage;
use super::steps::{SETTLE, SPREAD, TRIES, WARM};
use super::upstream::Script;
use super::{Ask, Part, Place, Plan, Processes, Single, Step, Upstream, leave, load_percent};
use crate::measure::proxy::{Case, DIRECT, Form, MACHINE, Moment, Observation, Seen, Times};

/// How long idle streams may take until all have begun.
const BEGIN: Duration = Duration::from_secs(20);

/// A target as it is measured.
#[derive(Debug, Clone)]
pub struct Lane {
    /// Its name in the report.
    pub name: String,
    /// Where it is.
    pub place: Place,
    /// Its processes; `None` for the direct way, and where they are unknown.
    pub processes: Option<Processes>,
}

/// How far a run is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The part of the estimated time that is over.
    pub done: Duration,
    /// What comes now.
    pub text: String,
}

/// A run: a plan, its targets, and the mock behind all of them.
#[derive(Debug)]
pub struct Campaign<'a> {
    /// What to measure.
    pub plan: &'a Plan,
    /// The targets, the direct way first.
    pub lanes: &'a [Lane],
    /// The mock.
    pub upstream: &'a Upstream,
    /// Ends the run early, after the rounds that are complete.
    pub stop: &'a AtomicBool,
}

impl Campaign<'_> {
    /// Measures. `keep` gets what was seen as soon as it counts: a round that was not completed leaves nothing.
    ///
    /// # Errors
    /// Of `keep`, which ends the run.
    pub fn run(
        &self,
        tell: &mut dyn FnMut(&Progress),
        keep: &mut dyn FnMut(Vec<Observation>) -> io::Result<()>,
    ) -> io::Result<()> {
        let begun = Instant::now();
        let mut seen = vec![busy(0, Moment::Start, begun)];
        let (mut done, mut patience) = (Duration::ZERO, self.plan.patience);
        if self.plan.has(Part::Idle) {
            // Before the load, whose memory nobody gives back in full; what stays is told at the end.
            for lane in self.lanes.iter().filter(|lane| lane.name != DIRECT) {
                tell(&Progress {
                    done,
                    text: format!("{} idle streams of {}", self.plan.idle, lane.name),
                });
                seen.extend(memory(lane, Moment::Start));
                seen.extend(self.idle(lane));
                done += self.plan.time_of_idle();
            }
        }
        keep(seen)?;
        for round in 0..self.plan.rounds {
            let mut found = Vec::new();
            for step in self.plan.steps() {
                let text = format!("round {} of {}: {step}", round + 1, self.plan.rounds);
                tell(&Progress { done, text });
                found.extend(self.undisturbed(step, round, &mut patience));
                done += self.plan.time_of(step) * u32::try_from(self.lanes.len()).unwrap_or(1);
                if self.stopped() {
                    break;
                }
            }
            if self.stopped() {
                break;
            }
            found.push(busy(round, Moment::End, begun));
            keep(found)?;
        }
        if self.plan.has(Part::Idle) {
            let held = self.lanes.iter();
            keep(held.filter_map(|lane| memory(lane, Moment::End)).collect())?;
        }
        Ok(())
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// The targets in an order that rotates with the round.
    fn order(&self, round: u32) -> impl Iterator<Item = &Lane> {
        let shift = round as usize % self.lanes.len().max(1);
        self.lanes.iter().cycle().skip(shift).take(self.lanes.len())
    }

    /// A step, again for as long as other programs disturb it and patience lasts.
    fn undisturbed(&self, step: Step, round: u32, patience: &mut Duration) -> Vec<Observation> {
        let mut repeated = 0;
        loop {
            let before = Others::now(self.lanes);
            let mut found = Vec::new();
            self.step(step, round, &mut found);
            let Some((cpu, elapsed)) = before.zip(Others::now(self.lanes)).map(Others::between)
            else {
                return found;
            };
            if calm(cpu, elapsed) || patience.is_zero() || self.stopped() {
                let seen = Seen::Others {
                    step: step.to_string(),
                    cpu_ns: cpu,
                    elapsed_ns: nanos(elapsed),
                    repeated,
                };
                found.push(Observation {
                    round,
                    target: MACHINE.to_owned(),
                    seen,
                });
                return found;
            }
            repeated += 1;
            *patience = patience.saturating_sub(elapsed);
            others::wait(self.lanes, patience, self.stop);
        }
    }

    fn step(&self, step: Step, round: u32, found: &mut Vec<Observation>) {
        if let Step::Latency(case) = step {
            return self.latency(case, round, found);
        }
        for lane in self.order(round) {
            if self.stopped() {
                return;
            }
            let seen = match step {
                Step::Latency(_) => continue,
                Step::Pieces(form, streams, gap) => {
                    self.pieces(lane, form, streams, gap).map(|seen| vec![seen])
                }
                Step::Load(bytes, connections) => {
                    self.load(lane, bytes, connections).map(|seen| vec![seen])
                }
                Step::Departures(after_first) => (0..TRIES)
                    .map(|_| {
                        let waited_ns = leave::departure(&lane.place, self.upstream, after_first)?;
                        Ok(Seen::Departure {
                            after_first,
                            waited_ns,
                        })
                    })
                    .collect(),
                Step::Cuts(form) => (0..TRIES)
                    .map(|_| {
                        let end = leave::cut(&lane.place, self.upstream, form)?;
                        Ok(Seen::Cut { form, end })
                    })
                    .collect(),
            };
            let seen = seen.unwrap_or_else(|error| vec![failed(&step, &error)]);
            found.extend(seen.into_iter().map(|seen| observed(round, lane, seen)));
        }
    }

    /// Requests over one connection to each target, in short turns.
    fn latency(&self, case: Case, round: u32, found: &mut Vec<Observation>) {
        let (turns, turn) = self.plan.turns(case);
        let ask = match case {
            Case::Small => Ask::SMALL,
            Case::SmallAuto => Ask {
                auto: true,
                ..Ask::SMALL
            },
            Case::Large => Ask {
                bytes: crate::measure::proxy::SIZES[1],
                ..Ask::SMALL
            },
            Case::FirstPiece => Ask::streamed(Form::Lines),
        };
        self.upstream
            .play(Script::whole(2, Duration::from_micros(500)));
        let mut open: Vec<(&Lane, Vec<u8>, Single, Vec<u64>)> = Vec::new();
        let mut broken: HashMap<String, io::Error> = HashMap::new();
        for lane in self.order(round) {
            match Single::open(&lane.place) {
                Ok(single) => open.push((lane, ask.to(&lane.place), single, Vec::new())),
                Err(error) => drop(broken.insert(lane.name.clone(), error)),
            }
        }
        // The first turn warms the connections up.
        for measured in std::iter::once(false).chain((0..turns).map(|_| true)) {
            for (lane, request, single, times) in &mut open {
                if self.stopped() || broken.contains_key(&lane.name) {
                    continue;
                }
                for _ in 0..turn {
                    match single.exchange(request) {
                        Ok(took) if measured => times.push(if case == Case::FirstPiece {
                            took.first
                        } else {
                            took.whole
                        }),
                        Ok(_) => {}
                        Err(error) => {
                            broken.insert(lane.name.clone(), error);
                            break;
                        }
                    }
                }
            }
        }
        for lane in self.lanes {
            if let Some(error) = broken.get(&lane.name) {
                found.push(observed(round, lane, failed(&Step::Latency(case), error)));
            }
        }
        for (lane, _, _, times) in open {
            if !broken.contains_key(&lane.name) {
                let seen = Seen::Latency {
                    case,
                    times: Times::of(times),
                };
                found.push(observed(round, lane, seen));
            }
        }
    }

    fn pieces(&self, lane: &Lane, form: Form, streams: u32, gap: Duration) -> io::Result<Seen> {
        self.upstream.play(Script::whole(Script::ENDLESS, gap));
        let request = Ask::streamed(form).to(&lane.place);
        let many = self.open(lane, streams, &request, true)?;
        let spread = if streams > 1 { SPREAD } else { Duration::ZERO };
        let until = super::many::Until::Time(self.plan.stream_window());
        let load = conduct(lane, |cpu| {
            many.streams(Timing {
                spread,
                warm: WARM,
                until,
                stop: self.stop,
                cpu,
            })
        })?;
        Ok(Seen::Pieces {
            form,
            streams,
            gap_ns: nanos(gap),
            failed: load.failed,
            elapsed_ns: load.elapsed,
            cpu_ns: load.cpu,
            delays: Times::of(load.delays),
        })
    }

    fn load(&self, lane: &Lane, bytes: u64, connections: u32) -> io::Result<Seen> {
        let request = Ask {
            bytes,
            ..Ask::SMALL
        }
        .to(&lane.place);
        let many = self.open(lane, connections, &request, false)?;
        let until = self.plan.until();
        let load = conduct(lane, |cpu| {
            many.requests(Timing {
                spread: Duration::ZERO,
                warm: WARM,
                until,
                stop: self.stop,
                cpu,
            })
        })?;
        Ok(Seen::Load {
            bytes,
            connections,
            answers: load.count,
            failed: load.failed,
            elapsed_ns: load.elapsed,
            cpu_ns: load.cpu,
        })
    }

    fn open(
        &self,
        lane: &Lane,
        connections: u32,
        request: &[u8],
        stamped: bool,
    ) -> io::Result<Many> {
        Many::open(
            &lane.place,
            connections,
            self.plan.threads,
            request,
            stamped,
            self.upstream.clock(),
        )
    }

    /// Streams that have begun and then say nothing.
    fn idle(&self, lane: &Lane) -> Vec<Observation> {
        self.upstream.play(Script::silent());
        let request = Ask::streamed(Form::Lines).to(&lane.place);
        let stopped = || self.stopped();
        let mut found = Vec::new();
        let held = self
            .open(lane, self.plan.idle, &request, true)
            .and_then(|mut many| {
                let began = many.hold(BEGIN, self.stop)?;
                sleep_until(Instant::now() + SETTLE, &stopped);
                let pids = lane
                    .processes
                    .as_ref()
                    .map(Processes::all)
                    .unwrap_or_default();
                let (before, start) = (Usage::of(&pids), Instant::now());
                sleep_until(start + self.plan.stream_window(), &stopped);
                let cpu = Usage::of(&pids);
                found.extend(memory(lane, Moment::Streams));
                Ok(Seen::Idle {
                    asked: self.plan.idle,
                    began,
                    cpu_ns: before.zip(cpu).map(|(before, after)| after.since(before)),
                    elapsed_ns: nanos(start.elapsed()),
                })
            });
        let seen = held.unwrap_or_else(|error| failed(&"idle streams", &error));
        found.push(observed(0, lane, seen));
        sleep_until(Instant::now() + SETTLE, &stopped);
        found
    }
}

/// Runs a load with the processor time of the target's processes at hand.
fn conduct(
    lane: &Lane,
    load: impl FnOnce(&dyn Fn() -> Option<Usage>) -> io::Result<Load>,
) -> io::Result<Load> {
    let pids = lane.processes.as_ref().map(Processes::all);
    load(&|| pids.as_ref().and_then(|pids| Usage::of(pids)))
}

fn memory(lane: &Lane, moment: Moment) -> Option<Observation> {
    let held = lane.processes.as_ref()?.held()?;
    let seen = Seen::Memory {
        moment,
        rss_bytes: held.rss,
        pss_bytes: held.pss,
        threads: held.threads,
    };
    Some(observed(0, lane, seen))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn busy(round: u32, moment: Moment, begun: Instant) -> Observation {
    Observation {
        round,
        target: MACHINE.to_owned(),
        seen: Seen::Machine {
            moment,
            load_percent: load_percent(),
            elapsed_ns: nanos(begun.elapsed()),
        },
    }
}

fn observed(round: u32, lane: &Lane, seen: Seen) -> Observation {
    Observation {
        round,
        target: lane.name.clone(),
        seen,
    }
}

fn failed(step: &dyn std::fmt::Display, error: &io::Error) -> Seen {
    Seen::Failed {
        step: step.to_string(),
        cause: error.to_string(),
    }
}
