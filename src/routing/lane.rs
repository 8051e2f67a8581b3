//! Which lane a request belongs to, and whether it is housekeeping: work that a client does on the side, with a small model if there is one.

use super::queue::Lane;

/// What a request shows of itself.
#[derive(Debug, Clone, Copy, Default)]
pub struct Signs<'s> {
    /// The lane that the client names (`X-Gpurouter-Lane`).
    pub named: Option<&'s str>,
    /// Whether it asks for embeddings.
    pub embeds: bool,
    /// Whether a text is to be filled in before a given end.
    pub fills_in: bool,
    /// Whether tools are offered.
    pub tools: bool,
    /// The model as the client wrote it.
    pub model: Option<&'s str>,
    /// The client's `User-Agent`.
    pub agent: Option<&'s str>,
    /// The beginning of the last human turn; `None` where it was not looked at.
    pub last_turn: Option<&'s str>,
    /// Most tokens of the answer.
    pub max_tokens: Option<u64>,
}

/// What a request was recognised as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recognised {
    /// Its lane.
    pub lane: Lane,
    /// Whether it is housekeeping, which a helper node answers where there is one.
    pub housekeeping: bool,
}

/// How Open WebUI begins the prompts of its own tasks.
pub const TASK_MARK: &str = "### Task:";

/// First words of such tasks that nobody waits for: titles, tags, follow-up questions, emoji.
const UNAWAITED: [&str; 6] = [
    "generate a concise",
    "generate 1-3 broad tags",
    "suggest 3-5 relevant follow-up",
    "generate a title",
    "create a concise",
    "your task is to reflect the speaker's likely facial expression",
];

/// First words of those that hold up what somebody waits for: search queries, completions while typing.
const AWAITED: [&str; 2] = [
    "analyze the chat history to determine the necessity of generating search queries",
    "you are an autocompletion system",
];

/// Tokens with which a small model reads code to be filled in.
const FILL_IN_MARKS: [&str; 4] = ["<|fim_prefix|>", "<fim_prefix>", "<PRE>", "[SUFFIX]"];

/// Words in the `User-Agent` of programs that work on their own for a while.
const AGENTS: [&str; 8] = [
    "claude-cli",
    "codex",
    "cline",
    "roo-code",
    "opencode",
    "aider",
    "goose",
    "qwen-code",
];

/// First words of the small calls of Claude's own agent, which it sends to its small model.
const SMALL_CALLS: [&str; 4] = [
    "quota",
    "please write a 5-10 word title",
    "summarize this coding conversation",
    "analyze if this message indicates a new conversation topic",
];

/// Recognises a request. What nothing says anything of is interactive.
pub fn recognise(signs: &Signs<'_>) -> Recognised {
    let housekeeping = housekeeping(signs);
    let lane = signs
        .named
        .and_then(named)
        .or(housekeeping)
        .unwrap_or_else(|| usual(signs));
    Recognised {
        lane,
        housekeeping: housekeeping.is_some(),
    }
}

fn named(word: &str) -> Option<Lane> {
    Lane::ALL
        .into_iter()
        .find(|lane| lane.as_str().eq_ignore_ascii_case(word.trim()))
}

fn usual(signs: &Signs<'_>) -> Lane {
    let agent = signs.agent.unwrap_or_default();
    let by_agent = AGENTS.iter().any(|name| {
        agent
            .get(..name.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(name))
    });
    if signs.embeds {
        Lane::Embedding
    } else if signs.tools || by_agent {
        Lane::Agent
    } else {
        Lane::Interactive
    }
}

/// The lane of housekeeping; `None` for all other work.
fn housekeeping(signs: &Signs<'_>) -> Option<Lane> {
    if signs.embeds {
        return None;
    }
    if signs.fills_in {
        return Some(Lane::Interactive);
    }
    let turn = signs.last_turn.unwrap_or_default().trim_start();
    if FILL_IN_MARKS.iter().any(|mark| turn.contains(mark)) {
        return Some(Lane::Interactive);
    }
    if let Some(task) = turn.strip_prefix(TASK_MARK) {
        let begins = |words: &&str| {
            let task = task.trim_start();
            task.get(..words.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(words))
        };
        if UNAWAITED.iter().any(|words| begins(&words)) {
            return Some(Lane::Batch);
        }
        // Other tasks, such as an answer from documents, are the very thing that somebody waits for.
        if AWAITED.iter().any(|words| begins(&words)) {
            return Some(Lane::Interactive);
        }
        return None;
    }
    let small = signs.model.is_some_and(|model| {
        model.starts_with("claude-haiku") || model.starts_with("claude-3-5-haiku")
    });
    let said = |words: &&str| {
        turn.get(..words.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(words))
    };
    if small && !signs.tools {
        let quota = signs.max_tokens == Some(1) || SMALL_CALLS.iter().any(|words| said(&words));
        return Some(if quota { Lane::Batch } else { Lane::Agent });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(turn: &str) -> Recognised {
        recognise(&Signs {
            last_turn: Some(turn),
            ..Signs::default()
        })
    }

    #[test]
    fn a_plain_question_is_interactive_and_no_housekeeping() {
        for turn in [
            "What is a quota?",
            "Generate a title for my book",
            "### Tasks\nfix",
            "### Task:\nRespond to the user query using the provided context, incorporating inline citations",
        ] {
            assert_eq!(of(turn), Recognised::default(), "{turn}");
        }
    }

    #[test]
    fn open_webui_s_tasks_are_recognised_and_the_ones_somebody_waits_for_stay_interactive() {
        for (turn, lane) in [
            (
                "### Task:\nGenerate a concise, 3-5 word title with an emoji summarizing the chat history.",
                Lane::Batch,
            ),
            (
                "### Task:\nGenerate 1-3 broad tags categorizing the main themes",
                Lane::Batch,
            ),
            (
                "### Task:\nSuggest 3-5 relevant follow-up questions or prompts",
                Lane::Batch,
            ),
            (
                "### Task:\nYou are an autocompletion system. Continue the text in `<text>`",
                Lane::Interactive,
            ),
            (
                "### Task:\nAnalyze the chat history to determine the necessity of generating search queries, in the given language.",
                Lane::Interactive,
            ),
        ] {
            let expected = Recognised {
                lane,
                housekeeping: true,
            };
            assert_eq!(of(turn), expected, "{turn}");
        }
    }

    #[test]
    fn fill_in_the_middle_is_for_the_helper_and_urgent() {
        let expected = Recognised {
            lane: Lane::Interactive,
            housekeeping: true,
        };
        assert_eq!(
            of("<|fim_prefix|>fn main() {<|fim_suffix|>}<|fim_middle|>"),
            expected
        );
        let suffix = Signs {
            fills_in: true,
            ..Signs::default()
        };
        assert_eq!(recognise(&suffix), expected);
    }

    #[test]
    fn the_small_model_of_an_agent_does_housekeeping_unless_it_has_tools() {
        let small = Signs {
            model: Some("claude-haiku-4-5"),
            agent: Some("claude-cli/2.1 (external, cli)"),
            last_turn: Some("quota"),
            max_tokens: Some(1),
            ..Signs::default()
        };
        assert_eq!(
            recognise(&small),
            Recognised {
                lane: Lane::Batch,
                housekeeping: true
            }
        );
        let sub_agent = Signs {
            tools: true,
            max_tokens: None,
            last_turn: Some("Find the bug"),
            ..small
        };
        assert_eq!(
            recognise(&sub_agent),
            Recognised {
                lane: Lane::Agent,
                housekeeping: false
            }
        );
    }

    #[test]
    fn embeddings_agents_and_what_the_client_says_itself() {
        let embeds = Signs {
            embeds: true,
            ..Signs::default()
        };
        assert_eq!(recognise(&embeds).lane, Lane::Embedding);
        let named = Signs {
            named: Some(" Batch "),
            ..embeds
        };
        assert_eq!(recognise(&named).lane, Lane::Batch);
        let unknown = Signs {
            named: Some("fast"),
            tools: true,
            ..Signs::default()
        };
        assert_eq!(recognise(&unknown).lane, Lane::Agent);
    }
}
