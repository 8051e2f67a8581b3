//! Which context a request is sent with: its `num_ctx` reconciled with what is loaded.
//!
//! A context that differs from the loaded one makes Ollama load the model again, which often takes longer than the answer; one that is too
//! small makes it cut the prompt without a word (9,000 tokens at 2,048 became 1,026). So a request gets the loaded context whenever that
//! is enough, and a larger one, in steps that later requests fit into as well, when it is not.
//!
//! Ollama's rules that this has to live with: `num_ctx` is clamped to the trained context; an absent one means an automatic value, which
//! never differs from another automatic one but does differ from an explicit one; the routes of other dialects cannot carry one; and a
//! handful of further options ([`RunnerOptions`]) reload as well when they differ.

use serde::{Deserialize, Serialize};

/// Smallest step of the ladder of contexts, in tokens: what Ollama itself took for granted for long.
pub const LADDER_START: u32 = 2048;

/// Tokens of an answer whose length nobody limited or measured.
const ANSWER: u64 = 1024;
/// Most tokens expected of an answer whose limit is known and whose usual length is not: clients send limits such as 32,000 by habit.
const LIMITED_ANSWER: u64 = 2048;
/// Tokens of the answer that room is kept for where the rest does not fit into memory.
const LEAST_ANSWER: u64 = 256;

/// What becomes of `num_ctx`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WindowPolicy {
    /// Nothing: every request is sent as it came.
    Pass,
    /// The loaded context while it is enough; else a larger one, which leaves room for more where there is room. Never a smaller one.
    #[default]
    RaiseOnly,
    /// One context for each model, whatever requests ask for.
    Pin,
    /// The loaded context while it is enough; else the smallest step of the ladder that is, never more.
    Bucket,
}

impl WindowPolicy {
    /// Every policy.
    pub const ALL: [Self; 4] = [Self::Pass, Self::RaiseOnly, Self::Pin, Self::Bucket];

    /// The policy that a word stands for.
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.as_str() == word)
    }

    /// The word used in configuration and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::RaiseOnly => "raise-only",
            Self::Pin => "pin",
            Self::Bucket => "bucket",
        }
    }
}

/// What a request says and is estimated to need, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wanted {
    /// `options.num_ctx`; `None` when it is absent.
    pub requested: Option<u32>,
    /// The prompt has at least so many: the estimate less its largest error.
    pub prompt_low: u64,
    /// The estimate itself.
    pub prompt: u64,
    /// The prompt hardly has more than so many: the estimate with its usual error.
    pub prompt_high: u64,
    /// Most tokens of the answer, where the client limits it.
    pub max_tokens: Option<u64>,
    /// Tokens of a usual answer of this model, where they were measured.
    pub usual_answer: Option<u64>,
    /// Whether the request's form can carry `num_ctx` (Ollama's own can, the others cannot).
    pub settable: bool,
}

impl Wanted {
    /// Tokens of the answer that room is kept for.
    fn answer(&self) -> u64 {
        match (self.max_tokens, self.usual_answer) {
            // Twice the usual, because half of all answers are longer than the usual one.
            (Some(most), Some(usual)) => most.min(usual.saturating_mul(2).max(ANSWER)),
            (Some(most), None) => most.min(LIMITED_ANSWER),
            (None, Some(usual)) => usual.saturating_mul(2).max(ANSWER),
            (None, None) => ANSWER,
        }
    }
}

/// What the model can be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Context the model was trained for; a node clamps to it.
    pub trained: Option<u32>,
    /// Largest context with which the model fits into the node's memory, as estimated.
    pub fits: Option<u32>,
    /// What the node takes for an absent `num_ctx`.
    pub automatic: Option<u32>,
    /// The one context that the configuration names for this model ([`WindowPolicy::Pin`]).
    pub pinned: Option<u32>,
}

impl Limits {
    /// The largest context there can be; `None` when nothing limits it that is known. What is loaded fits, whatever the estimate says.
    fn largest(&self, loaded: Option<u32>) -> Option<u32> {
        let fits = self
            .fits
            .map(|fits| loaded.map_or(fits, |loaded| fits.max(loaded)));
        match (self.trained, fits) {
            (Some(trained), Some(fits)) => Some(trained.min(fits).max(1)),
            (one, other) => one.or(other).map(|most| most.max(1)),
        }
    }

    /// What Ollama would make of the request by itself; `None` when it is automatic and the automatic value is unknown.
    fn plain(&self, requested: Option<u32>) -> Option<u32> {
        let asked = requested.or(self.automatic)?;
        Some(
            self.trained
                .map_or(asked, |trained| asked.min(trained.max(1))),
        )
    }
}

/// The contexts that a request can be served with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ContextNeed {
    /// Without at least this much the prompt or the expected answer would be cut; never more than `floor`.
    pub least: u32,
    /// A loaded model needs at least this much to take the request as its client asked for it; 0: any will do.
    pub floor: u32,
    /// A load for this request should have at least this much; never less than `floor`.
    pub wish: u32,
    /// Only a context of exactly `wish` will do.
    pub exact: bool,
    /// How many times the wish a load may take out of memory that is left over, because later requests are likely to wish for more.
    pub growth: u32,
    /// The wish is less than was asked for: as much as fits here.
    pub short: bool,
}

impl ContextNeed {
    /// Any context will do: nodes whose contexts are none of our business.
    pub const ANY: Self = Self {
        least: 0,
        floor: 0,
        wish: 0,
        exact: false,
        growth: 1,
        short: false,
    };

    /// Whether a model loaded with `context` can take the request as it is.
    pub fn covered_by(&self, context: u32) -> bool {
        if self.exact {
            context == self.wish || self.wish == 0
        } else {
            context >= self.floor
        }
    }
}

/// The prompt is longer than any context that the model can be given here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong {
    /// Tokens that the prompt has at least.
    pub tokens: u64,
    /// The largest context there can be.
    pub limit: u64,
}

/// A load that plain Ollama would have made and that is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Avoided {
    /// Milliseconds it would have taken, where loads of this model were measured.
    pub ms: Option<u64>,
}

/// How a request is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The `num_ctx` to send; `None`: leave the request as it is.
    pub sent: Option<u32>,
    /// The context that it will be answered with; `None` when that is the node's secret.
    pub context: Option<u32>,
    /// Whether the node will load the model again for it.
    pub reloads: bool,
    /// The load that is avoided.
    pub avoided: Option<Avoided>,
    /// Whether the prompt may be longer than the context, so that what was read of it must be compared afterwards.
    pub tight: bool,
}

/// The smallest step of the ladder (2048, 4096, 8192, …) that holds `tokens`.
pub fn bucket(tokens: u32) -> u32 {
    let mut step = LADDER_START;
    while step < tokens {
        match step.checked_mul(2) {
            Some(next) => step = next,
            None => return tokens,
        }
    }
    step
}

/// Contexts up to here are defaults of programs (Ollama's own on cards below 24 GiB).
const UNCHOSEN: u32 = 4096;
/// Most that is expected of growth.
pub(crate) const MOST_GROWTH: u32 = 4;

/// How much more than its wish a request is likely to be followed by: other clients have other settings, and conversations grow. A context that
/// is no step of the ladder was computed from the prompt, as aider does, and will be more with every request; one of 4,096 or less is what
/// programs send whose users never chose one, and the next program sends several times as much.
fn growth(requested: Option<u32>) -> u32 {
    if requested.is_some_and(|asked| bucket(asked) != asked || asked <= UNCHOSEN) {
        MOST_GROWTH
    } else {
        2
    }
}

/// The context to load a model with for a wish: the ladder's step where it fits; else the wish itself, or all there is if more will be wished
/// for.
pub fn load_context(policy: WindowPolicy, need: ContextNeed, largest: Option<u32>) -> u32 {
    if need.exact || need.wish == 0 {
        return need.wish;
    }
    let step = bucket(need.wish);
    match largest {
        Some(most) if step > most => match policy {
            WindowPolicy::RaiseOnly if need.growth > 1 => most.max(need.wish),
            _ => need.wish,
        },
        _ => step,
    }
}

/// What a request needs from a loaded model and from a load, under a policy.
pub fn need(
    policy: WindowPolicy,
    wanted: &Wanted,
    limits: &Limits,
    loaded: Option<u32>,
) -> Result<ContextNeed, TooLong> {
    let plain = limits.plain(wanted.requested);
    if policy == WindowPolicy::Pass || !wanted.settable {
        // An automatic value that nobody knows differs from nothing.
        return Ok(plain.map_or(ContextNeed::ANY, |context| ContextNeed {
            least: context,
            floor: context,
            wish: context,
            exact: true,
            growth: 1,
            short: false,
        }));
    }
    let largest = limits.largest(loaded);
    let most = largest.unwrap_or(u32::MAX);
    let trained = limits.trained.unwrap_or(u32::MAX).max(1);
    // What the prompt itself needs is not cut down to what fits into memory: a model that is split answers slowly, a cut prompt wrongly.
    let clamp = |tokens: u64| u32::try_from(tokens).unwrap_or(u32::MAX).min(trained);
    let mut enough = clamp(wanted.prompt_high.saturating_add(wanted.answer()));
    if enough > most {
        // Beyond the memory only for what is likely to be there, not for the error of an estimate.
        let answer = wanted.answer().min(LEAST_ANSWER);
        enough = most.max(clamp(wanted.prompt.saturating_add(answer)));
    }
    // With a limit on the answer a smaller context than the one asked for cannot make a difference.
    let surely = wanted.max_tokens.map_or(u32::MAX, |answer| {
        clamp(wanted.prompt_high.saturating_add(answer))
    });
    let asked = plain.unwrap_or(0);
    let wish = enough.max(asked.min(most));
    let free = ContextNeed {
        least: enough,
        floor: enough.max(asked.min(most).min(surely)),
        wish,
        exact: false,
        growth: growth(wanted.requested),
        short: asked > wish,
    };
    let need = if policy == WindowPolicy::Pin {
        let one = match limits.pinned.or(loaded) {
            Some(one) => one.min(trained),
            None => load_context(policy, free, largest),
        };
        ContextNeed {
            least: one,
            floor: one,
            wish: one,
            exact: true,
            growth: 1,
            short: false,
        }
    } else {
        free
    };
    let limit = if need.exact { Some(need.wish) } else { largest };
    match limit.map(u64::from) {
        // One token of an answer is the least that makes sense.
        Some(limit) if wanted.prompt_low.saturating_add(1) > limit => Err(TooLong {
            tokens: wanted.prompt_low,
            limit,
        }),
        _ => Ok(need),
    }
}

/// How a request is sent to a node that has (or has not) loaded the model with some context. `load_ms` is what a load takes.
pub fn reconcile(
    policy: WindowPolicy,
    wanted: &Wanted,
    limits: &Limits,
    loaded: Option<u32>,
    load_ms: Option<u64>,
) -> Result<Window, TooLong> {
    let need = need(policy, wanted, limits, loaded)?;
    let plain = limits.plain(wanted.requested);
    let prompt_in = |context: Option<u32>| {
        context.is_some_and(|context| wanted.prompt_high >= u64::from(context))
    };
    if policy == WindowPolicy::Pass || !wanted.settable {
        let context = plain.or(loaded);
        return Ok(Window {
            sent: None,
            context,
            reloads: loaded.is_some() && context != loaded,
            avoided: None,
            tight: prompt_in(context),
        });
    }
    let (context, reloads) = match loaded.filter(|context| need.covered_by(*context)) {
        Some(context) => (context, false),
        None => (
            load_context(policy, need, limits.largest(loaded)),
            loaded.is_some(),
        ),
    };
    let would_reload = loaded.is_some() && plain.is_some() && plain != loaded;
    Ok(Window {
        sent: Some(context),
        context: Some(context),
        reloads,
        avoided: (would_reload && !reloads).then_some(Avoided { ms: load_ms }),
        tight: prompt_in(Some(context)),
    })
}

/// Options besides `num_ctx` that make Ollama load a model again when they differ from those it was loaded with; `None` where they are
/// absent, which Ollama takes for its defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct RunnerOptions {
    /// Tokens computed together.
    pub num_batch: Option<i64>,
    /// Layers on the GPU; negative: as many as fit, which never differs from anything.
    pub num_gpu: Option<i64>,
    /// The GPU that holds what is not split.
    pub main_gpu: Option<i64>,
    /// Whether the file is mapped instead of read.
    pub use_mmap: Option<bool>,
    /// CPU threads.
    pub num_thread: Option<i64>,
    /// Tokens that a draft model proposes at once.
    pub draft_num_predict: Option<i64>,
}

impl RunnerOptions {
    /// Whether a runner that was loaded with `self` would be loaded again for a request with `asked`.
    pub fn reloads_for(&self, asked: &Self) -> bool {
        let split = |options: &Self| options.num_gpu.filter(|layers| *layers >= 0);
        let rest = |options: &Self| Self {
            num_gpu: None,
            ..*options
        };
        rest(self) != rest(asked) || (split(asked).is_some() && split(asked) != split(self))
    }
}

/// What becomes of a request's runner options.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RunnerEdit {
    /// They are sent as they are.
    #[default]
    Untouched,
    /// They are replaced by those the runner was loaded with (an option that is `None` is taken out); a load is avoided by it.
    Replaced(RunnerOptions),
}

/// Decides about the options besides `num_ctx`. `ours` are those of a load that this router made itself: only of such a load all options
/// are known, because no route of Ollama tells them. A request for a model that somebody else loaded keeps its own options, and so does
/// the request that a load is made for: its options become the runner's.
pub fn runner_options(
    policy: WindowPolicy,
    asked: &RunnerOptions,
    ours: Option<&RunnerOptions>,
) -> RunnerEdit {
    match ours {
        Some(loaded) if policy != WindowPolicy::Pass && loaded.reloads_for(asked) => {
            RunnerEdit::Replaced(*loaded)
        }
        _ => RunnerEdit::Untouched,
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
