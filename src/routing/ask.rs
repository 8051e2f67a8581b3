//! The ask inside a conversation: the last human turn, without the envelope an agent wrapped it in.
//!
//! Coding agents and chat front ends put the human's words between blocks of workspace state, reminders and attachments. Scored as
//! they are, such turns all look alike; what the human asked for is a small part of them.

use std::borrow::Cow;
use std::ops::Range;

/// Bytes of an ask that are kept at its head and, separately, at its tail: what is asked for stands at one of the ends.
pub(super) const WINDOW: usize = 4096;

/// Longest opening tag in bytes, attributes included.
const TAG: usize = 256;

/// Blocks that hold the human's words.
const PREFERRED: [&str; 4] = ["task", "userRequest", "user_query", "feedback"];

/// Blocks that hold everything else.
const REMOVED: [&str; 11] = [
    "environment_details",
    "system-reminder",
    "environment_context",
    "user_instructions",
    "recommended_plugins",
    "attachments",
    "context",
    "editorContext",
    "reminderInstructions",
    "additional_data",
    "repoContext",
];

/// Lines after which only the human's words follow.
const MARKERS: [&str; 1] = ["## My request for Codex:"];

/// How aider's turn about files starts; the human's words follow the last fence of it, if they are in the same turn.
const FILES_PREAMBLE: [&str; 2] = [
    "I have *added these files to the chat*",
    "Here are summaries of some files present in my git repo",
];

/// Where aider appends its own rules to the human's words.
const RULES_APPENDIX: &str = "# *SEARCH/REPLACE block* Rules:";

/// Longest ask in characters that can refer to the one before.
const REFERENTIAL: usize = 40;

/// Words that ask to go on with what was asked before.
const GO_ON: [&str; 46] = [
    "yes",
    "yep",
    "yeah",
    "y",
    "ok",
    "okay",
    "sure",
    "continue",
    "proceed",
    "go",
    "next",
    "again",
    "retry",
    "do",
    "finish",
    "resume",
    "sim",
    "claro",
    "prossiga",
    "continua",
    "continuar",
    "segue",
    "faz",
    "faca",
    "pode",
    "si",
    "sí",
    "vale",
    "dale",
    "sigue",
    "adelante",
    "hazlo",
    "ja",
    "weiter",
    "mach",
    "oui",
    "continuez",
    "vas",
    "继续",
    "好的",
    "好",
    "是的",
    "可以",
    "下一步",
    "はい",
    "続けて",
];

/// Words that may stand beside them without making it a new ask.
const FILLERS: [&str; 36] = [
    "please", "it", "that", "this", "on", "ahead", "keep", "going", "and", "the", "rest", "now",
    "try", "with", "then", "more", "good", "great", "sounds", "isso", "por", "favor", "em",
    "frente", "de", "novo", "vai", "o", "eso", "lo", "bitte", "gerne", "so", "y", "请", "吧",
];

/// Who wrote a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnRole {
    /// System or developer instructions.
    System,
    /// The human, or the agent on the human's behalf.
    User,
    /// The model.
    Assistant,
    /// A tool's result.
    Tool,
}

/// One turn of a conversation, text only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Who wrote it.
    pub role: TurnRole,
    /// Its text; parts of other kinds (images, files) are left out.
    pub text: String,
}

/// The ask of a conversation (see the module); never empty when any turn has text.
///
/// A turn that only says "yes" or "continue" stands for the ask before it. Long asks are cut to their first and last 4 KiB.
pub fn shape_ask(turns: &[Turn]) -> String {
    let human = || {
        turns
            .iter()
            .rev()
            .filter(|turn| turn.role == TurnRole::User)
    };
    let mut referring = None;
    for turn in human() {
        let ask = peel(&turn.text);
        let ask = ask.trim();
        if ask.is_empty() {
            continue;
        }
        if !is_referential(ask) {
            return window(ask).into_owned();
        }
        referring.get_or_insert_with(|| ask.to_owned());
    }
    referring.unwrap_or_else(|| {
        human()
            .chain(turns.iter().rev())
            .map(|turn| turn.text.trim())
            .find(|text| !text.is_empty())
            .map(|text| window(text).into_owned())
            .unwrap_or_default()
    })
}

/// The first and last 4 KiB of a text, cut between characters; the whole text when it is not longer than both.
pub(super) fn window(text: &str) -> Cow<'_, str> {
    if text.len() <= 2 * WINDOW {
        return Cow::Borrowed(text);
    }
    let head_end = (0..=WINDOW)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or_default();
    let tail_start = (text.len() - WINDOW..=text.len())
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or_default();
    let head = text.get(..head_end).unwrap_or_default();
    let tail = text.get(tail_start..).unwrap_or_default();
    Cow::Owned(format!("{head}\n{tail}"))
}

/// Whether an ask only refers to the one before it.
fn is_referential(ask: &str) -> bool {
    if ask.chars().nth(REFERENTIAL).is_some() {
        return false;
    }
    let lower = ask.to_lowercase();
    let mut goes_on = false;
    for word in lower.split(|c: char| !c.is_alphanumeric()) {
        if GO_ON.contains(&word) {
            goes_on = true;
        } else if !word.is_empty() && !FILLERS.contains(&word) {
            return false;
        }
    }
    goes_on
}

/// A human turn without its envelope; empty when it is nothing but envelope.
fn peel(text: &str) -> String {
    if is_tool_result(text) {
        return String::new();
    }
    let (kept, preferred) = without_blocks(text);
    let ask = preferred
        .and_then(|range| kept.get(range))
        .filter(|ask| !ask.trim().is_empty())
        .unwrap_or(&kept);
    let ask = MARKERS
        .iter()
        .filter_map(|marker| after_line(ask, marker))
        .next_back()
        .unwrap_or(ask);
    let ask = ask
        .find(RULES_APPENDIX)
        .map_or(ask, |at| ask.get(..at).unwrap_or(ask));
    if FILES_PREAMBLE
        .iter()
        .any(|preamble| ask.starts_with(preamble))
    {
        return ask
            .rfind("\n```")
            .and_then(|at| ask.get(at + 4..))
            .and_then(|rest| rest.split_once('\n'))
            .map(|(_, ask)| ask.to_owned())
            .unwrap_or_default();
    }
    without_metadata(ask)
}

/// Whether a turn is a tool's answer that its agent sends in the human's name (`[read_file for 'x'] Result:`).
fn is_tool_result(text: &str) -> bool {
    let first = text.trim_start().lines().next().unwrap_or_default();
    first.starts_with('[') && first.contains("] Result:")
}

fn after_line<'a>(text: &'a str, line: &str) -> Option<&'a str> {
    let at = text.rfind(line)?;
    text.get(at + line.len()..)
}

/// The text without removed blocks, and where in it the last preferred block's content is. Linear: a closing tag that was not found
/// once is not looked for again.
fn without_blocks(text: &str) -> (String, Option<Range<usize>>) {
    let mut kept = String::with_capacity(text.len().min(4 * WINDOW));
    let mut preferred = None;
    let mut open: Option<(&str, usize)> = None;
    let mut unclosed: Vec<&str> = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let (before, tag) = rest.split_at(at);
        kept.push_str(before);
        rest = tag;
        let at_line_start = kept.trim_end_matches([' ', '\t']).ends_with('\n') || kept.is_empty();
        if let Some(name) = REMOVED.iter().find(|name| opens(tag, name))
            && (at_line_start || name.contains(['_', '-']))
            && !unclosed.contains(name)
        {
            let closing = format!("</{name}>");
            if let Some(end) = tag.find(&closing) {
                rest = tag.get(end + closing.len()..).unwrap_or_default();
                continue;
            }
            unclosed.push(name);
        } else if let Some(name) = PREFERRED.iter().find(|name| opens(tag, name))
            && at_line_start
        {
            let content = tag.bytes().take(TAG).position(|byte| byte == b'>');
            let content = content.map_or(name.len() + 2, |end| end + 1);
            open = Some((name, kept.len() + content));
        } else if let Some((name, start)) = open
            && tag.strip_prefix("</").is_some_and(|tag| {
                tag.strip_prefix(name)
                    .is_some_and(|tag| tag.starts_with('>'))
            })
        {
            preferred = Some(start..kept.len());
            open = None;
        }
        kept.push('<');
        rest = rest.get(1..).unwrap_or_default();
    }
    kept.push_str(rest);
    (kept, preferred)
}

/// Whether a text starts with the opening tag of that name.
fn opens(text: &str, name: &str) -> bool {
    text.strip_prefix('<')
        .and_then(|text| text.strip_prefix(name))
        .is_some_and(|text| text.starts_with(['>', ' ']))
}

/// The text without "untrusted metadata" lines and the fence that follows each.
fn without_metadata(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut lines = text.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        if !line.trim_end().ends_with("(untrusted metadata):") {
            kept.push_str(line);
            continue;
        }
        if lines.next_if(|line| line.starts_with("```")).is_some() {
            for line in lines.by_ref() {
                if line.starts_with("```") {
                    break;
                }
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn user(text: &str) -> Turn {
        turn(TurnRole::User, text)
    }

    fn turn(role: TurnRole, text: &str) -> Turn {
        Turn {
            role,
            text: text.to_owned(),
        }
    }

    #[test]
    fn the_last_human_turn_is_the_ask() {
        let turns = [
            turn(
                TurnRole::System,
                "You are a helpful assistant. Design everything.",
            ),
            user("Explain what this does"),
            turn(TurnRole::Assistant, "It sorts."),
            user("Add a comment to it"),
            turn(TurnRole::Tool, "implement a compiler"),
        ];
        assert_eq!(shape_ask(&turns), "Add a comment to it");
    }

    #[test]
    fn known_envelopes_are_peeled() {
        for wrapped in [
            "<task>\nRename x to count\n</task>\n<environment_details>\n# Visible files\nsrc/design.rs\n</environment_details>",
            "<system-reminder>\nImplement and build everything.\n</system-reminder>\nRename x to count",
            "Rename x to count<system-reminder>Plan mode is active</system-reminder>",
            "<attachments>\n<attachment>design.md</attachment>\n</attachments>\n<userRequest>\nRename x to count\n</userRequest>",
            "<additional_data>\nopen file: build.rs\n</additional_data>\n<user_query>\nRename x to count\n</user_query>",
            "<task>Build an app</task>\nThe user said:\n<feedback>\nRename x to count\n</feedback>",
            "Conversation info (untrusted metadata):\n```json\n{\"sender\": \"implement\"}\n```\n\nRename x to count",
            "# Context from my IDE setup:\n## Open tabs:\n- build.rs\n## My request for Codex:\nRename x to count",
            "I have *added these files to the chat* so you can go ahead and edit them.\n\nbuild.rs\n```\nfn build() {}\n```\nRename x to count",
            "Rename x to count\n# *SEARCH/REPLACE block* Rules:\n\nEvery block must use this format",
        ] {
            assert_eq!(
                shape_ask(&[user(wrapped)]),
                "Rename x to count",
                "{wrapped}"
            );
        }
    }

    #[test]
    fn a_turn_that_is_all_envelope_stands_for_the_one_before() {
        let turns = [
            user("Design a queue"),
            turn(TurnRole::Assistant, "Reading."),
            user(
                "[read_file for 'src/lib.rs'] Result:\nfn rename() {}\n<environment_details>x</environment_details>",
            ),
            user("<system-reminder>The file changed.</system-reminder>"),
        ];
        assert_eq!(shape_ask(&turns), "Design a queue");
    }

    #[test]
    fn yes_and_continue_stand_for_the_ask_before() {
        for reply in [
            "yes",
            "Continue",
            "ok, go ahead please",
            "sim, pode continuar",
            "继续",
            "Yes, do it!",
        ] {
            let turns = [
                user("Design a queue"),
                turn(TurnRole::Assistant, "Shall I?"),
                user(reply),
            ];
            assert_eq!(shape_ask(&turns), "Design a queue", "{reply}");
        }
        let turns = [user("Design a queue"), user("yes, and rename x to count")];
        assert_eq!(shape_ask(&turns), "yes, and rename x to count");
        assert_eq!(shape_ask(&[user("continue")]), "continue");
    }

    #[test]
    fn markup_that_is_no_envelope_stays() {
        for ask in [
            "Why does `Vec<task>` not compile? See <context> and a < b",
            "Explain the <context> element",
            "<system-reminder> is never closed here",
        ] {
            assert_eq!(shape_ask(&[user(ask)]), ask);
        }
    }

    #[test]
    fn falls_back_to_the_original_when_nothing_is_left() {
        let only = "<environment_details>\nls\n</environment_details>";
        assert_eq!(shape_ask(&[user(only)]), only);
        assert_eq!(
            shape_ask(&[turn(TurnRole::System, "Be brief.")]),
            "Be brief."
        );
        assert_eq!(shape_ask(&[]), "");
    }

    #[test]
    fn a_long_ask_keeps_its_ends() {
        let long = format!("Explain this: {} Thanks, rename é", "é".repeat(100_000));
        let ask = shape_ask(&[user(&long)]);
        assert!(ask.len() <= 2 * WINDOW + 1);
        assert!(ask.starts_with("Explain this") && ask.ends_with("rename é"));
    }

    #[test]
    fn many_open_tags_cost_no_more_than_one_pass() {
        // 264,000 tags: quadratic behaviour would take minutes.
        let text = "<context>\n<system-reminder><task>\n<task \n".repeat(66_000);
        assert!(!shape_ask(&[user(&text)]).is_empty());
    }

    proptest! {
        #[test]
        fn never_empty_when_there_is_text(texts in prop::collection::vec("(<task>|</task>|<context>|</context>|```\n|yes|\n|[a-zé ]){0,12}", 1..4)) {
            let turns: Vec<_> = texts.iter().map(|text| user(text)).collect();
            let has_text = texts.iter().any(|text| !text.trim().is_empty());
            prop_assert_eq!(shape_ask(&turns).trim().is_empty(), !has_text);
        }
    }
}
