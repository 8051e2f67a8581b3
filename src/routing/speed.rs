//! Measured speeds. A speed that was not measured is unknown; none is ever invented.

mod fit;
mod kept;
mod learner;

pub use kept::{KeptAnswer, KeptModel};
pub use learner::{Learner, Observation};

use std::collections::{HashMap, HashSet};

use serde::Serialize;

use crate::cluster::{ModelName, Processor};

/// Prompts with fewer uncached tokens say more of the overhead than of the speed.
pub const LEAST_PREFILL: u64 = 256;
/// Answers with fewer tokens say nothing of the decode speed.
pub const LEAST_DECODE: u64 = 8;

/// What was measured of one model on one node; `None` where nothing was.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Speed {
    /// Prompt tokens per second.
    pub prefill_tps: Option<f64>,
    /// Answer tokens per second.
    pub decode_tps: Option<f64>,
    /// Milliseconds a load takes.
    pub load_ms: Option<f64>,
    /// Tokens of a usual answer.
    #[serde(skip)]
    pub completion_tokens: Option<f64>,
    /// Requests that were measured.
    pub samples: u64,
    /// Milliseconds that a prompt takes besides those of its tokens.
    #[serde(skip)]
    pub prompt_ms: Option<f64>,
    /// Milliseconds that each answer token takes longer for each token before it: the longer the context, the slower.
    #[serde(skip)]
    pub decode_slope: Option<f64>,
    /// Milliseconds of a load from disk, the first one for a while.
    #[serde(skip)]
    pub load_cold: Option<Range>,
    /// Milliseconds of a load from the file cache.
    #[serde(skip)]
    pub load_warm: Option<Range>,
    /// Characters of the prompt per token, as this model counts them.
    #[serde(skip)]
    pub characters_per_token: Option<f64>,
    /// Answer tokens per second of the newest answers that the node wrote alone, however long their prompts.
    #[serde(skip)]
    pub recent_tps: Option<f64>,
    /// What it runs on, where it should run on a GPU and does not.
    #[serde(skip)]
    pub fallen: Option<Processor>,
    /// What real times were of predicted ones: the middle 80 %, as factors around 1.
    #[serde(skip)]
    pub spread: Option<Range>,
    /// The same while the node worked on other requests as well; `None` until it was seen often enough.
    #[serde(skip)]
    pub spread_crowded: Option<Range>,
}

/// A middle and the range that holds 80 % of what happens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Range {
    /// As often exceeded as not.
    pub centre: f64,
    /// One in ten is below.
    pub low: f64,
    /// One in ten is above.
    pub high: f64,
}

/// What is asked of [`Speed::estimate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Tokens of the prompt that are not in the node's cache.
    pub uncached_tokens: u64,
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    pub answer_tokens: u64,
    /// Whether the model has to be loaded.
    pub load: Load,
    /// Whether the node works on other requests at the same time.
    pub crowded: bool,
}

/// Whether a model has to be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Load {
    /// It is in memory.
    #[default]
    No,
    /// From the file cache.
    Warm,
    /// From disk.
    Cold,
}

impl Speed {
    /// Milliseconds to read a prompt of which so many tokens are not in the cache.
    pub fn prefill_ms(&self, uncached_tokens: u64) -> Option<f64> {
        let own = self.prompt_ms.unwrap_or(0.0);
        match self.prefill_tps {
            Some(tps) if tps > 0.0 => Some(own + count(uncached_tokens) * 1000.0 / tps),
            // Nothing but short prompts was seen: another one takes as long.
            None if uncached_tokens < LEAST_PREFILL => self.prompt_ms,
            _ => None,
        }
    }

    /// Tokens that are read in so many milliseconds; `None` while only short prompts were seen.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float to integer cast saturates"
    )]
    pub fn tokens_read(&self, prompt_ms: f64) -> Option<u64> {
        let tps = self.prefill_tps.filter(|tps| *tps > 0.0)?;
        let ms = (prompt_ms - self.prompt_ms.unwrap_or(0.0)).max(0.0);
        Some((ms * tps / 1000.0).round() as u64)
    }

    /// Milliseconds to write an answer after so many tokens.
    pub fn decode_ms(&self, answer_tokens: u64, prompt_tokens: u64) -> Option<f64> {
        if answer_tokens == 0 {
            return Some(0.0);
        }
        let first = 1000.0 / self.decode_tps.filter(|tps| *tps > 0.0)?;
        let tokens = count(answer_tokens);
        let middle = count(prompt_tokens) + tokens / 2.0;
        Some(tokens * (first + self.decode_slope.unwrap_or(0.0) * middle))
    }

    /// Milliseconds of a load, of the wanted kind or else of the other.
    pub fn load(&self, load: Load) -> Option<Range> {
        match load {
            Load::No => Some(Range {
                centre: 0.0,
                low: 0.0,
                high: 0.0,
            }),
            Load::Warm => self.load_warm.or(self.load_cold),
            Load::Cold => self.load_cold.or(self.load_warm),
        }
    }

    /// Milliseconds from the start of the work to the end of the answer, with the range that holds 80 % of such requests; `None` while
    /// anything that it takes was never measured.
    pub fn estimate(&self, work: &Work) -> Option<Range> {
        let answer = self.prefill_ms(work.uncached_tokens)?
            + self.decode_ms(work.answer_tokens, work.prompt_tokens)?;
        let load = self.load(work.load)?;
        let crowded = self.spread_crowded.filter(|_| work.crowded);
        let spread = crowded.or(self.spread).unwrap_or(Range {
            centre: 1.0,
            low: 1.0,
            high: 1.0,
        });
        // Two independent errors add as the sides of a right angle.
        let below = (answer * (spread.centre - spread.low)).hypot(load.centre - load.low);
        let above = (answer * (spread.high - spread.centre)).hypot(load.high - load.centre);
        let centre = answer * spread.centre + load.centre;
        Some(Range {
            centre,
            low: (centre - below).max(0.0),
            high: centre + above,
        })
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "token counts are far below 2^52"
)]
fn count(tokens: u64) -> f64 {
    tokens as f64
}

/// Measured speeds by node and model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Speeds {
    /// Key: node name and full model name.
    pub by_node_and_model: HashMap<String, HashMap<ModelName, Speed>>,
    /// Nodes that owe an answer for far longer than it takes.
    pub suspect: HashSet<String>,
}

impl Speeds {
    /// What is known of that model on that node.
    pub fn get(&self, node: &str, model: &ModelName) -> Speed {
        self.by_node_and_model
            .get(node)
            .and_then(|models| models.get(model))
            .copied()
            .unwrap_or_default()
    }
}
