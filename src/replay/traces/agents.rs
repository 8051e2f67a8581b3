//! Programs that write code.

use super::super::dice::hash_text;
use super::Scenario;
use super::writer::{Say, Writer, node};
use crate::routing::queue::Lane;

const CODER: &str = "qwen2.5-coder:7b";
const LARGE: &str = "qwen2.5-coder:14b";
const SMALL: &str = "qwen2.5-coder:1.5b";

/// aider sends `num_ctx` = 1.25 times the tokens of the prompt and 8,192 more, so each request asks for another one; after each edit a
/// short request writes the commit message. 30 edits, half a minute apart, from 2,000 to some 14,000 tokens.
pub(super) fn aider(seed: u64) -> Scenario {
    let mut writer = Writer::new(seed, 20);
    let window = |tokens: u32| Some(tokens + tokens / 4 + 8192);
    let mut at = 0;
    let mut history = 2000;
    for _ in 0..30 {
        let answer = writer.dice.around(300.0, 0.4).min(900);
        let edit = Say {
            session: "aider",
            lane: Lane::Agent,
            model: CODER,
            ctx: window(history),
            tokens_in: history,
            tokens_out: answer,
            thread: 1,
        };
        writer.say(at, edit);
        let diff = writer.dice.around(600.0, 0.3);
        let commit = Say {
            ctx: window(diff),
            tokens_in: diff,
            tokens_out: writer.dice.around(20.0, 0.2),
            thread: u64::from(diff),
            ..edit
        };
        writer.say(at + 1, commit);
        history = (history + answer + writer.dice.around(150.0, 0.5)).min(18_000);
        at += 20_000 + writer.dice.pause(12_000.0);
    }
    Scenario {
        thrash: true,
        ..writer.on(vec![node("gpu0", "rtx3060")])
    }
}

/// Two agents of the Claude Code kind: prompts of 14,000 tokens and more, of which all but the newest are the same each time, an answer of a
/// tool call or a few lines, the next request a few seconds later; and calls to the small model in the background. Neither asks for a context,
/// so plain Ollama cuts every one of the long prompts.
pub(super) fn coding(seed: u64) -> Scenario {
    let mut writer = Writer::new(seed, 21);
    for session in ["agent-1", "agent-2"] {
        let mut at = writer.dice.pause(6000.0);
        let mut history = 14_000;
        for _ in 0..40 {
            let answer = writer.dice.around(130.0, 0.6).min(900);
            let step = Say {
                session,
                lane: Lane::Agent,
                model: LARGE,
                ctx: None,
                tokens_in: history,
                tokens_out: answer,
                thread: hash_text(session),
            };
            writer.say(at, step);
            history = (history + answer + writer.dice.around(180.0, 0.8)).min(28_000);
            at += 2500 + writer.dice.pause(3000.0);
        }
        let background = format!("{session}-background");
        let mut at = writer.dice.pause(6000.0);
        for _ in 0..40 {
            let call = Say {
                session: &background,
                lane: Lane::Batch,
                model: SMALL,
                ctx: None,
                tokens_in: writer.dice.around(700.0, 0.4).min(2500),
                tokens_out: writer.dice.around(30.0, 0.4).min(100),
                thread: hash_text(&background),
            };
            writer.say(at, call);
            at += 4000 + writer.dice.pause(8000.0);
        }
    }
    let mut gpu = node("gpu0", "rtx3090");
    gpu.parallel = 2;
    writer.on(vec![gpu])
}
