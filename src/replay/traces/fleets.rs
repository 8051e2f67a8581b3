//! Several people on several nodes.

use super::super::Spread;
use super::super::dice::hash_text;
use super::Scenario;
use super::writer::{Say, Writer, embed, node};
use crate::routing::queue::Lane;

/// Five people with mixed models and contexts on a card of 24 GB and one of 12 GB, for ten minutes: a chat page with its housekeeping, an
/// aider, a document search, an agent, and nightly summaries that somebody started by day.
pub(super) fn team(seed: u64) -> Scenario {
    let mut writer = Writer::new(seed, 40);
    chat_page(&mut writer);
    growing(&mut writer);
    search(&mut writer);
    agent(&mut writer);
    for request in 0..60 {
        let say = Say {
            session: "summaries",
            lane: Lane::Batch,
            model: "llama3.2:3b",
            ctx: Some(8192),
            tokens_in: writer.dice.around(3500.0, 0.3).min(6500),
            tokens_out: writer.dice.around(150.0, 0.3).min(400),
            thread: request + 900,
        };
        writer.say(60_000 + request, say);
    }
    writer.on(vec![node("gpu0", "rtx3090"), node("gpu1", "rtx3060")])
}

fn chat_page(writer: &mut Writer) {
    let mut at = 2000;
    for message in 0..20 {
        let chat = Say {
            session: "page",
            lane: Lane::Interactive,
            model: "llama3.1:8b",
            ctx: Some(8192),
            tokens_in: (400 + 300 * message).min(6000),
            tokens_out: writer.dice.around(220.0, 0.4).min(600),
            thread: hash_text("page"),
        };
        writer.say(at, chat);
        let title = Say {
            lane: Lane::Batch,
            ctx: None,
            tokens_in: 500,
            tokens_out: 25,
            thread: 5,
            ..chat
        };
        writer.say(at + 1, title);
        at += 10_000 + writer.dice.pause(18_000.0);
    }
}

fn growing(writer: &mut Writer) {
    let mut at = 8000;
    let mut history = 2500;
    for _ in 0..20 {
        let say = Say {
            session: "aider",
            lane: Lane::Agent,
            model: "qwen2.5-coder:7b",
            ctx: Some(history + history / 4 + 8192),
            tokens_in: history,
            tokens_out: writer.dice.around(300.0, 0.4).min(800),
            thread: hash_text("aider"),
        };
        writer.say(at, say);
        history += writer.dice.around(500.0, 0.4);
        at += 15_000 + writer.dice.pause(15_000.0);
    }
}

fn search(writer: &mut Writer) {
    let mut at = 5000;
    for question in 0..25 {
        writer.say(
            at,
            embed("search", Lane::Embedding, "mxbai-embed-large", 50),
        );
        let say = Say {
            session: "search",
            lane: Lane::Interactive,
            model: "llama3.2:3b",
            ctx: Some(8192),
            tokens_in: writer.dice.around(4500.0, 0.2).min(7000),
            tokens_out: writer.dice.around(120.0, 0.4).min(400),
            thread: question + 500,
        };
        writer.say(at + 1, say);
        at += 12_000 + writer.dice.pause(12_000.0);
    }
}

fn agent(writer: &mut Writer) {
    let mut at = 15_000;
    let mut history = 9000;
    for _ in 0..50 {
        let answer = writer.dice.around(120.0, 0.6).min(700);
        let say = Say {
            session: "agent",
            lane: Lane::Agent,
            model: "qwen2.5-coder:14b",
            ctx: Some(32_768),
            tokens_in: history,
            tokens_out: answer,
            thread: hash_text("agent"),
        };
        writer.say(at, say);
        history = (history + answer + 200).min(28_000);
        at += 3000 + writer.dice.pause(4000.0);
    }
}

/// Twelve people, each with one of four models, 25 requests each about 15 seconds apart, on four unequal cards; the 14b model only fits on
/// one of them. Their pages choose nodes at random.
pub(super) fn unequal(seed: u64) -> Scenario {
    let mut writer = Writer::new(seed, 41);
    let models = [
        "qwen2.5-coder:14b",
        "qwen2.5-coder:7b",
        "qwen2.5-coder:7b",
        "llama3.2:3b",
        "llama3.2:3b",
        "qwen2.5-coder:1.5b",
    ];
    for (person, model) in (0..12).zip(models.into_iter().cycle()) {
        let session = format!("person-{person}");
        let mut at = writer.dice.pause(20_000.0);
        let mut history = writer.dice.around(500.0, 0.4);
        for _ in 0..25 {
            let answer = writer.dice.around(180.0, 0.5).min(600);
            let say = Say {
                session: &session,
                lane: Lane::Interactive,
                model,
                ctx: None,
                tokens_in: history.min(3400),
                tokens_out: answer,
                thread: hash_text(&session),
            };
            writer.say(at, say);
            history += answer + 60;
            at += 6000 + writer.dice.pause(12_000.0);
        }
    }
    Scenario {
        spread: Spread::Random,
        thrash: true,
        ..writer.on(vec![
            node("gpu0", "rtx4090"),
            node("gpu1", "rtx3060"),
            node("gpu2", "rtx2060"),
            node("gpu3", "gtx1050ti"),
        ])
    }
}

/// Twelve models of 2 to 5 GB on two cards of 8 GB. Two people try one after the other, eight requests with each; their page chooses nodes at
/// random. After two minutes somebody has all twelve answer the same ten prompts, all at once and in random order.
pub(super) fn twelve(seed: u64) -> Scenario {
    let mut writer = Writer::new(seed, 42);
    // 1.9, 2.5, 4.4 and 5.0 GB.
    let sizes = [3, 4, 7, 8].into_iter().cycle();
    let models: Vec<String> = (1..=12)
        .zip(sizes)
        .map(|(number, billions)| format!("model-{number}:{billions}b"))
        .collect();
    for session in ["lea", "max"] {
        let mut at = writer.dice.pause(8000.0);
        for _ in 0..12 {
            let Some(model) = writer.dice.pick(&models).cloned() else {
                continue;
            };
            for _ in 0..8 {
                let say = Say {
                    session,
                    lane: Lane::Interactive,
                    model: &model,
                    ctx: None,
                    tokens_in: writer.dice.around(700.0, 0.4).min(3000),
                    tokens_out: writer.dice.around(120.0, 0.4).min(400),
                    thread: hash_text(session),
                };
                writer.say(at, say);
                at += 2000 + writer.dice.pause(4000.0);
            }
        }
    }
    evaluation(&mut writer, &models);
    Scenario {
        spread: Spread::Random,
        ..writer.on(vec![node("gpu0", "rtx3050"), node("gpu1", "rtx3070")])
    }
}

/// Ten prompts through each model, sent at once by a script, in random order.
fn evaluation(writer: &mut Writer, models: &[String]) {
    let mut order: Vec<(u64, u64, &String)> = models
        .iter()
        .flat_map(|model| (0..10).map(move |prompt| (prompt, model)))
        .map(|(prompt, model)| (writer.dice.next(), prompt, model))
        .collect();
    order.sort_unstable();
    for (index, (_, prompt, model)) in (0..).zip(order) {
        let say = Say {
            session: "",
            lane: Lane::Batch,
            model,
            ctx: None,
            tokens_in: writer.dice.around(500.0, 0.2),
            tokens_out: writer.dice.around(100.0, 0.3).min(300),
            thread: prompt,
        };
        writer.say(120_000 + index, say);
    }
}
