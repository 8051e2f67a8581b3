//! People who chat, and what their programs ask for besides.

use super::super::dice::hash_text;
use super::Scenario;
use super::writer::{Say, Writer, embed, node};
use crate::routing::queue::Lane;

const CODER: &str = "qwen2.5-coder:7b";
const LLAMA: &str = "llama3.1:8b";
const SMALL: &str = "llama3.2:3b";
const MXBAI: &str = "mxbai-embed-large";

/// The 36 requests of the issue that began this: a request every three seconds, the contexts in turn.
pub(super) fn contexts(seed: u64) -> Scenario {
    let mut writer = Writer::new(seed, 1);
    for (at, ctx) in (0..36).zip([2048, 4096, 3000].into_iter().cycle()) {
        let say = Say {
            session: "client",
            lane: Lane::Interactive,
            model: CODER,
            ctx: Some(ctx),
            tokens_in: writer.dice.around(300.0, 0.4).min(1500),
            tokens_out: writer.dice.around(80.0, 0.4).min(400),
            thread: u64::from(ctx),
        };
        writer.say(at * 3000, say);
    }
    Scenario {
        thrash: true,
        ..writer.on(vec![node("gpu0", "rtx3060")])
    }
}

/// An editor (4,096), a chat page (8,192) and a script (16,384) use the same model; 30 requests each, about eight seconds apart.
pub(super) fn three_clients(seed: u64) -> Scenario {
    let mut writer = Writer::new(seed, 2);
    for (session, ctx) in [("editor", 4096), ("page", 8192), ("script", 16_384)] {
        let mut at = writer.dice.pause(4000.0);
        for _ in 0..30 {
            let say = Say {
                session,
                lane: Lane::Interactive,
                model: CODER,
                ctx: Some(ctx),
                tokens_in: writer.dice.around(900.0, 0.5).min(3000),
                tokens_out: writer.dice.around(120.0, 0.5).min(600),
                thread: hash_text(session),
            };
            writer.say(at, say);
            at += 1500 + writer.dice.pause(6500.0);
        }
    }
    Scenario {
        thrash: true,
        ..writer.on(vec![node("gpu0", "rtx3060")])
    }
}

/// Four people on Open WebUI, each with a model set to 8,192 tokens; after each answer follow-ups and tags, after the first a title, for
/// which the program sends no context. Half a minute between messages, 15 messages each.
pub(super) fn open_webui(seed: u64) -> Scenario {
    let mut writer = Writer::new(seed, 3);
    for session in ["ana", "bruno", "chen", "dana"] {
        let mut at = writer.dice.pause(15_000.0);
        let mut history = writer.dice.around(400.0, 0.3);
        for message in 0..15 {
            let answer = writer.dice.around(220.0, 0.5).min(700);
            let chat = Say {
                session,
                lane: Lane::Interactive,
                model: LLAMA,
                ctx: Some(8192),
                tokens_in: history.min(6500),
                tokens_out: answer,
                thread: hash_text(session),
            };
            writer.say(at, chat);
            let calls = if message == 0 { 3 } else { 2 };
            for call in 0..calls {
                let house = Say {
                    lane: Lane::Batch,
                    ctx: None,
                    tokens_in: (history / 3 + 250).min(2400),
                    tokens_out: writer.dice.around(25.0, 0.3).min(80),
                    thread: hash_text(session) ^ (call + 1),
                    ..chat
                };
                writer.say(at + 1 + call, house);
            }
            history += answer + writer.dice.around(90.0, 0.6).min(600);
            at += 8000 + writer.dice.pause(22_000.0);
        }
    }
    Scenario {
        thrash: true,
        ..writer.on(vec![node("gpu0", "rtx3060")])
    }
}

/// Two people ask their documents: each question is embedded, then answered from 10,000 tokens of them in a context of 20,480, on a card of
/// 8 GB; meanwhile 60 documents are embedded. Both models together need some 200 MB more than there are.
pub(super) fn rag(seed: u64) -> Scenario {
    let mut writer = Writer::new(seed, 4);
    for session in ["eva", "finn"] {
        let mut at = writer.dice.pause(8000.0);
        for question in 0..20 {
            writer.say(at, embed(session, Lane::Embedding, MXBAI, 40));
            let chat = Say {
                session,
                lane: Lane::Interactive,
                model: LLAMA,
                ctx: Some(20_480),
                tokens_in: writer.dice.around(10_000.0, 0.1).min(12_000),
                tokens_out: writer.dice.around(180.0, 0.4).min(500),
                thread: hash_text(session) ^ question,
            };
            writer.say(at + 1, chat);
            at += 20_000 + writer.dice.pause(15_000.0);
        }
    }
    let mut at = 30_000;
    for _ in 0..60 {
        let tokens = writer.dice.whole(512, 2048);
        writer.say(at, embed("ingest", Lane::Batch, MXBAI, tokens));
        at += writer.dice.pause(8000.0);
    }
    Scenario {
        thrash: true,
        ..writer.on(vec![node("gpu0", "rtx3050")])
    }
}

/// Three people chat (prompts of about 2,000 tokens, 20 messages each) while three workers embed as fast as they get answers:
/// 1,300 requests of 1,024 tokens each, four minutes of the card's time and more.
pub(super) fn batch(seed: u64) -> Scenario {
    let mut writer = Writer::new(seed, 5);
    for session in ["gita", "hugo", "iris"] {
        let mut at = 3000 + writer.dice.pause(6000.0);
        for message in 0..20 {
            let chat = Say {
                session,
                lane: Lane::Interactive,
                model: CODER,
                ctx: None,
                tokens_in: writer.dice.around(2000.0, 0.3).min(3200),
                tokens_out: writer.dice.around(60.0, 0.4).min(200),
                thread: hash_text(session) ^ message,
            };
            writer.say(at, chat);
            at += 6000 + writer.dice.pause(9000.0);
        }
    }
    for session in ["worker-1", "worker-2", "worker-3"] {
        for request in 0..1300 {
            writer.say(request, embed(session, Lane::Batch, MXBAI, 1024));
        }
    }
    let mut gpu = node("gpu0", "rtx3060");
    gpu.parallel = 2;
    writer.on(vec![gpu])
}

/// A card of 8 GB, an embedding model that is configured as a priority model and used all the time, and three chat models that one person
/// after the other prefers: ten minutes, ten requests at a stretch.
pub(super) fn priority(seed: u64) -> Scenario {
    let mut writer = Writer::new(seed, 6);
    let mut at = 0;
    while at < 600_000 {
        writer.say(at, embed("search", Lane::Embedding, MXBAI, 120));
        at += writer.dice.pause(2500.0);
    }
    let models = [CODER, LLAMA, SMALL, CODER, LLAMA, CODER];
    let mut at = 5000;
    for (stretch, model) in (0..).zip(models) {
        for _ in 0..10 {
            let chat = Say {
                session: "people",
                lane: Lane::Interactive,
                model,
                ctx: None,
                tokens_in: writer.dice.around(1200.0, 0.4).min(3000),
                tokens_out: writer.dice.around(150.0, 0.4).min(500),
                thread: stretch,
            };
            writer.say(at, chat);
            at += 3000 + writer.dice.pause(6000.0);
        }
    }
    Scenario {
        pinned: vec!["mxbai-embed-large:latest".to_owned()],
        ..writer.on(vec![node("gpu0", "rtx3070")])
    }
}

/// Two people chat and search; after five of ten minutes the node dies and comes back with nothing in memory.
pub(super) fn restart(seed: u64) -> Scenario {
    let mut writer = Writer::new(seed, 7);
    for session in ["jo", "kim"] {
        let mut at = writer.dice.pause(5000.0);
        while at < 600_000 {
            writer.say(at, embed(session, Lane::Embedding, MXBAI, 60));
            let chat = Say {
                session,
                lane: Lane::Interactive,
                model: LLAMA,
                ctx: Some(4096),
                tokens_in: writer.dice.around(1000.0, 0.4).min(3000),
                tokens_out: writer.dice.around(150.0, 0.4).min(400),
                thread: hash_text(session),
            };
            writer.say(at + 1, chat);
            at += 8000 + writer.dice.pause(12_000.0);
        }
    }
    Scenario {
        restarts: vec![(300_000, 0)],
        ..writer.on(vec![node("gpu0", "rtx3060")])
    }
}
