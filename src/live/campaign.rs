//! The order of a paired replay, and what is observed of each request.

use std::io;
use std::sync::atomic::Ordering;

use super::filler::{mixed, word};
use super::nodes::{Memory, Resident};
use super::power::Meter;
use super::prompt::Prompt;
use super::send::{Sender, Sent, Target};
use crate::measure::{Class, Observation, Outcome, Policy, Temperature};

/// One policy.
#[derive(Debug, Clone)]
pub struct Side {
    /// Which one.
    pub policy: Policy,
    /// Where its requests go.
    pub target: Target,
}

/// A paired replay.
#[derive(Debug)]
pub struct Campaign<'a> {
    /// The trace.
    pub prompts: &'a [Prompt],
    /// Today's side, then the routed one.
    pub sides: [Side; 2],
    /// Repeats.
    pub runs: u32,
    /// Whether one prompt of each class is also sent without the model in memory.
    pub cold: bool,
    /// Sends the requests.
    pub sender: Sender<'a>,
    /// The nodes' memory.
    pub memory: Memory<'a>,
    /// The GPUs' power.
    pub meter: Option<&'a Meter>,
}

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// Requests that are done, those that are not measured included.
    pub done: u64,
    /// Requests of the whole run.
    pub of: u64,
    /// The policy whose turn it is.
    pub policy: Policy,
    /// The repeat, from 0.
    pub run: u32,
}

/// A request that was measured.
#[derive(Debug)]
pub struct Seen<'a> {
    /// What was observed; its number is the recorder's to give.
    pub observation: Observation,
    /// What was asked.
    pub prompt: &'a Prompt,
    /// What came back.
    pub sent: &'a Sent,
    /// The repeat, from 0.
    pub run: u32,
}

/// A pass of the trace under one policy.
#[derive(Clone, Copy)]
struct Pass<'a> {
    run: u32,
    side: &'a Side,
    temperature: Temperature,
}

/// Why a run ended before its end.
type Ended = Result<bool, io::Error>;

impl Campaign<'_> {
    /// Indices of the prompts that are sent cold: the first of each class and model, because a load says nothing of the prompt.
    fn cold_prompts(&self) -> Vec<usize> {
        let mut seen: Vec<(Class, Option<&str>)> = Vec::new();
        let mut first = Vec::new();
        for (index, prompt) in self.prompts.iter().enumerate() {
            let key = (prompt.class, prompt.model.as_deref());
            if !seen.contains(&key) {
                seen.push(key);
                first.push(index);
            }
        }
        first
    }

    /// Requests of the whole run.
    pub fn requests(&self) -> u64 {
        let first = self.cold_prompts().len() as u64;
        let cold = if self.cold { first } else { 0 };
        let warm = self.prompts.len() as u64;
        u64::from(self.runs) * 2 * (cold + warm + first)
    }

    /// Sends everything; returns whether all of it was sent. `seen` gets every measured request, `step` is told before each request.
    ///
    /// # Errors
    /// `seen` failed, or a node's memory could not be emptied.
    pub fn run(
        &self,
        seen: &mut dyn FnMut(Seen<'_>) -> io::Result<()>,
        step: &mut dyn FnMut(Step),
    ) -> Ended {
        let mut done = 0;
        let all: Vec<usize> = (0..self.prompts.len()).collect();
        let cold = self.cold_prompts();
        for run in 0..self.runs {
            let mut order: Vec<&Side> = self.sides.iter().collect();
            // By turns, so that what changes with time (a warmer GPU, a fuller disk cache) helps neither.
            if (u64::from(run) + self.sender.seed) % 2 == 1 {
                order.reverse();
            }
            let mut passes = Vec::new();
            if self.cold {
                passes.extend(order.iter().map(|side| (Temperature::Cold, *side)));
            }
            passes.extend(order.iter().map(|side| (Temperature::Warm, *side)));
            for (temperature, side) in passes {
                let pass = Pass {
                    run,
                    side,
                    temperature,
                };
                let mut tell = |done: u64| {
                    step(Step {
                        done,
                        of: self.requests(),
                        policy: side.policy,
                        run,
                    });
                };
                let whole = if temperature == Temperature::Warm {
                    self.warm_up(pass, &cold, &mut done, &mut tell)
                        && self.pass(pass, &all, &mut done, seen, &mut tell)?
                } else {
                    self.pass(pass, &cold, &mut done, seen, &mut tell)?
                };
                if !whole {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The word that tells a pass from all others, and in it a prompt that shares its beginning with nobody.
    fn word(&self, pass: Pass<'_>, warm_up: bool, prompt: Option<usize>) -> String {
        word(mixed(&[
            self.sender.seed,
            pass.run.into(),
            u64::from(pass.side.policy == Policy::Routed),
            u64::from(pass.temperature == Temperature::Cold),
            warm_up.into(),
            prompt.map_or(0, |index| index as u64 + 1),
        ]))
    }

    /// Requests that nobody measures, so that the pass begins with what it needs in memory.
    fn warm_up(
        &self,
        pass: Pass<'_>,
        first: &[usize],
        done: &mut u64,
        tell: &mut dyn FnMut(u64),
    ) -> bool {
        let word = self.word(pass, true, None);
        for prompt in first.iter().filter_map(|index| self.prompts.get(*index)) {
            tell(*done);
            let short = Prompt {
                max_tokens: 1,
                ..prompt.clone()
            };
            if self.stopped() || self.sender.send(&pass.side.target, &short, &word).is_none() {
                return false;
            }
            *done += 1;
        }
        true
    }

    fn stopped(&self) -> bool {
        self.sender.stop.load(Ordering::Relaxed)
    }

    fn pass(
        &self,
        pass: Pass<'_>,
        indices: &[usize],
        done: &mut u64,
        seen: &mut dyn FnMut(Seen<'_>) -> io::Result<()>,
        tell: &mut dyn FnMut(u64),
    ) -> Ended {
        let cold = pass.temperature == Temperature::Cold;
        let mut before = self.memory.resident();
        for (index, prompt) in indices
            .iter()
            .filter_map(|index| Some((*index, self.prompts.get(*index)?)))
        {
            tell(*done);
            if self.stopped() {
                return Ok(false);
            }
            if cold {
                self.memory.unload_all().map_err(io::Error::other)?;
                before = self.memory.resident();
            }
            let word = self.word(pass, false, (!prompt.shared).then_some(index));
            let from = self.meter.map(Meter::now);
            let Some(sent) = self.sender.send(&pass.side.target, prompt, &word) else {
                return Ok(false);
            };
            let energy = self
                .meter
                .zip(from)
                .and_then(|(meter, from)| meter.energy(from, meter.now()));
            let after = self.memory.resident();
            let loads = loads(before.as_ref(), after.as_ref());
            before = after;
            *done += 1;
            let observation = Observation {
                n: 0,
                pair: self.pair(pass, index),
                request: index as u64,
                policy: pass.side.policy,
                temperature: pass.temperature,
                loads,
                energy_j: energy.filter(|_| sent.outcome == Outcome::Ok),
                ..observed(prompt, &sent)
            };
            seen(Seen {
                observation,
                prompt,
                sent: &sent,
                run: pass.run,
            })?;
        }
        Ok(true)
    }

    fn pair(&self, pass: Pass<'_>, index: usize) -> u64 {
        let half = u64::from(pass.temperature == Temperature::Warm);
        (u64::from(pass.run) * 2 + half) * self.prompts.len() as u64 + index as u64
    }
}

/// Models that are in memory now and were not before.
fn loads(before: Option<&Resident>, after: Option<&Resident>) -> Option<u64> {
    Some(after?.difference(before?).count() as u64)
}

/// What an answer says by itself.
fn observed(prompt: &Prompt, sent: &Sent) -> Observation {
    let usage = sent.usage;
    let answered = sent.outcome == Outcome::Ok;
    let positive = |ms: Option<f64>| ms.filter(|ms| *ms >= 0.0 && ms.is_finite());
    Observation {
        n: 0,
        pair: 0,
        request: 0,
        policy: Policy::Today,
        temperature: Temperature::Warm,
        outcome: sent.outcome,
        ttft_ms: sent
            .ttft_ms
            .filter(|first| sent.total_ms.is_none_or(|end| *first <= end)),
        total_ms: sent.total_ms,
        prefill_ms: positive(usage.prompt_ms),
        tokens_in: usage.prompt_tokens,
        // Ollama (0.32) counts cached tokens among the others and does not tell how many. Of a prompt that begins with a word of its own there
        // are none but the few that every prompt of the model begins with.
        tokens_cached: usage
            .cached_tokens
            .filter(|cached| usage.prompt_tokens.is_none_or(|all| *cached <= all))
            .or_else(|| {
                usage
                    .prompt_tokens
                    .filter(|_| answered && !prompt.shared)
                    .map(|_| 0)
            }),
        tokens_out: usage.completion_tokens,
        loads: None,
        load_ms: positive(usage.load_ms),
        passed: match &prompt.check {
            Some(check) if answered => Some(check.passes(&sent.reply)),
            Some(_) => Some(false),
            None => None,
        },
        energy_j: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resident(names: &[(&str, u64)]) -> Resident {
        names
            .iter()
            .map(|(name, context)| (0, (*name).to_owned(), Some(*context)))
            .collect()
    }

    #[test]
    fn a_load_is_a_model_or_a_context_that_was_not_there() {
        let (a, b) = (
            resident(&[("a", 4096)]),
            resident(&[("b", 4096), ("a", 8192)]),
        );
        assert_eq!(loads(Some(&a), Some(&a)), Some(0));
        assert_eq!(loads(Some(&a), Some(&b)), Some(2));
        assert_eq!(loads(None, Some(&b)), None);
        assert_eq!(loads(Some(&Resident::new()), Some(&a)), Some(1));
    }
}
