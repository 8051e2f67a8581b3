//! What the schedulers have to know of a request, whichever node it goes to.

use std::borrow::Cow;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher};

use foldhash::quality::FixedState;
use serde_json::Value;

use super::exchange::Exchange;
use crate::cluster::Node;
use crate::dialect::translate::ForeignForm;
use crate::dialect::{Endpoint, Parsed};
use crate::routing::queue::{ClientId, Lane};
use crate::routing::window::{RunnerOptions, Wanted, WindowPolicy};
use crate::routing::{
    FILL_IN_MARKS, Remembered, RequestFacts, SessionKey, Signs, TASK_MARK, Task, recognise,
};

/// Bytes of a prompt as it is written that count as a block of its prefix.
const BLOCK: usize = 1024;
/// Tokens that such a block has, about.
pub(super) const BLOCK_TOKENS: u64 = 256;
/// Blocks of a prompt that are looked at.
const MOST_BLOCKS: usize = 1024;
/// Tokens that a template may add to the prompt.
const TEMPLATE: u64 = 256;
/// Longest prompt whose last turn is read to recognise housekeeping: such calls are made of a few messages.
const MOST_READ: usize = 64 * 1024;

/// What the schedulers have to know of a request.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) lane: Lane,
    pub(super) client: ClientId,
    /// Whether embeddings are asked for.
    pub(super) embeds: bool,
    /// Whether its form can carry `num_ctx`, or can be put into one that can.
    pub(super) settable: bool,
    pub(super) num_ctx: Option<u32>,
    pub(super) prompt_tokens: u64,
    /// Bytes of the prompt as it is written; no tokenizer makes more tokens of them.
    pub(super) prompt_bytes: u64,
    /// Whether it holds images, which are tokens without bytes.
    pub(super) images: bool,
    /// Tokens of the prompt as a node counted them.
    pub(super) counted: Option<u64>,
    pub(super) max_tokens: Option<u64>,
    pub(super) runner: RunnerOptions,
    pub(super) keep_alive: Option<Value>,
    /// Hashes of the prompt's beginning, block by block; each stands for all before it too.
    pub(super) prefix: Vec<u64>,
    /// The conversation that the client says it is part of.
    pub(super) session: Option<SessionKey>,
}

/// Notes in the facts whether it is housekeeping, and returns the lane.
pub(super) fn recognised(
    x: &Exchange<'_, '_>,
    parsed: &Parsed<'_>,
    facts: &mut RequestFacts,
) -> Lane {
    let headers = x.request.headers();
    let embeds = facts.task == Task::Embed;
    let model = parsed.model();
    let small = model.is_some_and(|model| model.starts_with("claude-"));
    let size: usize = parsed.prompt_parts().map(str::len).sum();
    let raw = matches!(
        parsed.endpoint(),
        Endpoint::Generate | Endpoint::Completions
    );
    let holds =
        |part: &str, mark: &str| memchr::memmem::find(part.as_bytes(), mark.as_bytes()).is_some();
    let marked = |part: &str| {
        holds(part, TASK_MARK) || (raw && FILL_IN_MARKS.iter().any(|mark| holds(part, mark)))
    };
    let read = !embeds && size <= MOST_READ && (small || parsed.prompt_parts().any(marked));
    let last_turn = read.then(|| parsed.last_turn()).flatten();
    let found = recognise(&Signs {
        named: headers.get_str("x-gpurouter-lane"),
        embeds,
        fills_in: parsed.fills_in(),
        tools: facts.tools,
        model,
        agent: headers.get_str("user-agent"),
        last_turn: last_turn.as_deref(),
        max_tokens: facts.max_tokens,
    });
    facts.housekeeping = found.housekeeping;
    found.lane
}

impl Asked {
    /// Of a parsed request.
    pub(super) fn of(
        x: &Exchange<'_, '_>,
        parsed: &Parsed<'_>,
        facts: &RequestFacts,
        lane: Lane,
    ) -> Self {
        let native = matches!(
            parsed.endpoint(),
            Endpoint::Chat | Endpoint::Generate | Endpoint::Embed | Endpoint::LegacyEmbeddings
        );
        // Ollama reads options in no other form.
        let option = |name: &str| parsed.option(name).filter(|_| native);
        let number = |name: &str| -> Option<i64> { option(name)?.parse().ok() };
        let runner = RunnerOptions {
            num_batch: number("num_batch"),
            num_gpu: number("num_gpu"),
            main_gpu: number("main_gpu"),
            use_mmap: option("use_mmap").and_then(|written| written.parse().ok()),
            num_thread: number("num_thread"),
            draft_num_predict: number("draft_num_predict"),
        };
        // With `pass` a request is sent as it came.
        let passes = x.router.config.context.num_ctx == WindowPolicy::Pass;
        let settable = native || (foreign_form(parsed.endpoint()).is_some() && !passes);
        Self {
            lane,
            client: client_of(x),
            embeds: facts.task == Task::Embed,
            settable,
            num_ctx: parsed
                .num_ctx()
                .filter(|tokens| native && *tokens > 0)
                .map(|tokens| u32::try_from(tokens).unwrap_or(u32::MAX)),
            prompt_tokens: facts.prompt_tokens,
            prompt_bytes: parsed.prompt_parts().map(|part| part.len() as u64).sum(),
            images: facts.images,
            counted: None,
            max_tokens: facts.max_tokens,
            runner,
            keep_alive: parsed
                .keep_alive_text()
                .filter(|_| native)
                .and_then(|text| serde_json::from_str(text).ok()),
            prefix: if facts.task == Task::Embed {
                Vec::new()
            } else {
                prefix(parsed)
            },
            session: (facts.task != Task::Embed)
                .then(|| session_of(x, parsed))
                .flatten(),
        }
    }

    /// What it is estimated to need. The estimate is off by a quarter at most for known tokenizers, and by 60 % for what nobody knows.
    pub(super) fn wanted(&self, usual_answer: Option<u64>, settable: bool) -> Wanted {
        let tokens = if self.embeds { 0 } else { self.prompt_tokens };
        let (low, high) = match self.counted {
            Some(tokens) => (tokens, tokens),
            None => (tokens / 8 * 5, tokens.saturating_mul(5) / 4),
        };
        Wanted {
            requested: self.num_ctx.filter(|_| settable),
            prompt_low: low,
            prompt: self.counted.unwrap_or(tokens),
            prompt_high: high,
            max_tokens: if self.embeds {
                Some(0)
            } else {
                self.max_tokens
            },
            usual_answer,
            settable,
        }
    }
}

impl Asked {
    /// Whether the prompt may be longer than a context. Tokenizers differ by more than any estimate could allow for, so that only the number
    /// of its bytes is certain.
    pub(super) fn may_exceed(&self, context: u32) -> bool {
        self.images || self.prompt_bytes.saturating_add(TEMPLATE) >= u64::from(context)
    }

    /// Whether it may be longer than a context by the largest error that the estimate has.
    pub(super) fn could_exceed(&self, context: u32) -> bool {
        let most = self
            .counted
            .unwrap_or(self.prompt_tokens.saturating_mul(8) / 5);
        self.images || most.saturating_add(TEMPLATE) >= u64::from(context)
    }

    /// As it is remembered of a node that it is sent to.
    pub(super) fn remembered(&self) -> Remembered<'_> {
        Remembered {
            blocks: &self.prefix,
            session: self.session,
            tokens: self.prompt_tokens,
        }
    }

    /// As it is for a node: only an Ollama gets the form that can carry `num_ctx`.
    pub(super) fn for_node(&self, node: &Node) -> Cow<'_, Self> {
        if self.settable && !node.native.ollama {
            Cow::Owned(Self {
                settable: false,
                ..self.clone()
            })
        } else {
            Cow::Borrowed(self)
        }
    }
}

/// The form of another API that an Ollama answers and that can be said in its own words too.
pub(super) fn foreign_form(endpoint: &Endpoint) -> Option<ForeignForm> {
    Some(match endpoint {
        Endpoint::ChatCompletions => ForeignForm::ChatCompletions,
        Endpoint::Messages => ForeignForm::Messages,
        Endpoint::Responses => ForeignForm::Responses,
        _ => return None,
    })
}

/// The conversation that the client names, with who says so: names such as `1` are chosen by more than one client.
fn session_of(x: &Exchange<'_, '_>, parsed: &Parsed<'_>) -> Option<SessionKey> {
    if !x.router.config.affinity.sessions {
        return None;
    }
    let headers = x.request.headers();
    let name = parsed.session(|header| headers.get_str(header))?;
    let mut hasher = DefaultHasher::new();
    client_of(x).0.hash(&mut hasher);
    name.hash(&mut hasher);
    Some(SessionKey(hasher.finish()))
}

/// Whoever is to be treated as one party: the user that a front end names, else the key and the address.
fn client_of(x: &Exchange<'_, '_>) -> ClientId {
    let headers = x.request.headers();
    let mut hasher = DefaultHasher::new();
    if let Some(user) = headers.get("x-openwebui-user-id") {
        user.hash(&mut hasher);
    } else {
        headers.get("authorization").hash(&mut hasher);
        headers.get("x-api-key").hash(&mut hasher);
        x.request.peer().ip().hash(&mut hasher);
    }
    ClientId(hasher.finish())
}

/// The beginning of a prompt as it is written: a conversation that goes on begins like its last request.
fn prefix(parsed: &Parsed<'_>) -> Vec<u64> {
    // Of up to a megabyte in every request; nobody gains by making two prompts alike.
    let mut hasher = FixedState::default().build_hasher();
    let mut blocks = Vec::new();
    let mut room = BLOCK;
    for part in parsed.prompt_parts() {
        // The bracket at the end of a list stands where the next message will.
        let mut rest = part.strip_suffix(']').unwrap_or(part).as_bytes();
        while let Some((now, later)) = rest.split_at_checked(room) {
            hasher.write(now);
            if blocks.len() == MOST_BLOCKS {
                return blocks;
            }
            blocks.push(hasher.finish());
            rest = later;
            room = BLOCK;
        }
        hasher.write(rest);
        room -= rest.len();
    }
    blocks
}
