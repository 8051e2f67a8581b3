//! Which conversation a request says it belongs to.
//!
//! Only names that a client or an API documents as one value for a whole conversation are read. Left out on purpose: `user` (a person),
//! `previous_response_id` (another value with every request), and `x-client-request-id` (one request, for everybody but Codex).

use std::borrow::Cow;

use super::Parsed;
use super::cursor::{Cursor, Kind, unescaped};

/// A header that names a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionHeader {
    /// Its name, in lower case.
    pub name: &'static str,
    /// Who sends it.
    pub client: &'static str,
    /// Where that is documented.
    pub source: &'static str,
}

/// The headers, the most specific first: the first one that is there counts.
pub const SESSION_HEADERS: [SessionHeader; 6] = [
    SessionHeader {
        name: "x-openwebui-chat-id",
        client: "Open WebUI with ENABLE_FORWARD_USER_INFO_HEADERS",
        source: "docs.openwebui.com, environment configuration",
    },
    SessionHeader {
        name: "x-claude-code-session-id",
        client: "Claude Code",
        source: "code.claude.com/docs/en/llm-gateway-protocol",
    },
    SessionHeader {
        name: "session-id",
        client: "Codex",
        source: "github.com/raine/claude-code-proxy/pull/156, of Codex",
    },
    SessionHeader {
        name: "session_id",
        client: "Codex, its older versions",
        source: "github.com/openai/codex/pull/1614 and 9107",
    },
    SessionHeader {
        name: "x-session-id",
        client: "OpenCode",
        source: "github.com/anomalyco/opencode/pull/31511",
    },
    SessionHeader {
        name: "x-session-affinity",
        client: "OpenCode, its older versions",
        source: "github.com/anomalyco/opencode/pull/31511",
    },
];

/// Longest name of a conversation in bytes; a longer one is something else.
const MOST_BYTES: usize = 512;

/// Fields of a body that may name a conversation, as they are written.
#[derive(Debug, Default)]
pub(super) struct SessionFields<'a> {
    /// `OpenAI`: requests with equal keys share a cache (platform.openai.com/docs/guides/prompt-caching). Codex puts its conversation in it.
    prompt_cache_key: Option<&'a str>,
    /// `OpenAI`'s Responses: the conversation that the answer becomes part of, a string or an object with `id`.
    conversation: Option<&'a str>,
    /// Anthropic's `metadata`, for its `user_id`.
    metadata: Option<&'a str>,
}

impl<'a> SessionFields<'a> {
    /// Notes a field, the first of its name: a hint is no reason to refuse a request.
    pub(super) fn note(&mut self, key: &str, value: &'a str) {
        let slot = match key {
            "prompt_cache_key" => &mut self.prompt_cache_key,
            "conversation" => &mut self.conversation,
            "metadata" => &mut self.metadata,
            _ => return,
        };
        slot.get_or_insert(value);
    }

    fn named(&self) -> Option<Cow<'a, str>> {
        let conversation = || {
            let written = self.conversation?;
            text(written).or_else(|| text(member(written, "id")?))
        };
        let of_claude_code = || {
            // `user_…_account_…_session_…`, or since 2.1.78 a JSON text with `session_id` (github.com/ding113/claude-code-hub/pull/939).
            // Any other value names a person.
            text(member(self.metadata?, "user_id")?).filter(|user| user.contains("session_"))
        };
        self.prompt_cache_key
            .and_then(text)
            .or_else(conversation)
            .or_else(of_claude_code)
    }
}

impl<'a> Parsed<'a> {
    /// The conversation that the request says it belongs to: by a header of [`SESSION_HEADERS`], else by a field of its body; `None` when
    /// neither names one. `header` gives the value of a header by its name in lower case.
    pub fn session<'h>(&self, header: impl Fn(&str) -> Option<&'h str>) -> Option<Cow<'h, str>>
    where
        'a: 'h,
    {
        SESSION_HEADERS
            .iter()
            .filter_map(|known| header(known.name))
            .find(|value| is_name(value))
            .map(Cow::Borrowed)
            .or_else(|| self.sessions.named())
    }
}

/// A JSON string's text, if it can name something.
fn text(written: &str) -> Option<Cow<'_, str>> {
    let inside = written.strip_prefix('"')?.strip_suffix('"')?;
    let text = unescaped(inside);
    is_name(&text).then_some(text)
}

fn is_name(value: &str) -> bool {
    !value.trim().is_empty() && value.len() <= MOST_BYTES
}

/// A member of a JSON object, as it is written.
fn member<'a>(object: &'a str, wanted: &str) -> Option<&'a str> {
    let mut cursor = Cursor::new(object);
    if cursor.kind() != Kind::Object {
        return None;
    }
    cursor.enter();
    while let Some(key) = cursor.key() {
        let value = cursor.skip();
        if unescaped(key) == wanted {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::{Endpoint, parse};
    use super::*;

    fn session(endpoint: &Endpoint, body: &str, headers: &[(&str, &str)]) -> Option<String> {
        let parsed = parse(endpoint, body.as_bytes()).unwrap();
        let header = |name: &str| {
            let found = headers.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| *value)
        };
        parsed.session(header).map(Cow::into_owned)
    }

    #[test]
    fn each_known_header_names_a_conversation_and_the_more_specific_one_counts() {
        for known in SESSION_HEADERS {
            let found = session(&Endpoint::Chat, "{}", &[(known.name, "c1")]);
            assert_eq!(found.as_deref(), Some("c1"), "{}", known.client);
            assert!(!known.source.is_empty());
        }
        let both = [("x-session-id", "a"), ("x-openwebui-chat-id", "b")];
        assert_eq!(session(&Endpoint::Chat, "{}", &both).as_deref(), Some("b"));
    }

    #[test]
    fn fields_of_a_body_name_one_too() {
        let chat = &Endpoint::ChatCompletions;
        for (body, named) in [
            (r#"{"prompt_cache_key":"k\u0031"}"#, Some("k1")),
            (r#"{"conversation":"conv_1"}"#, Some("conv_1")),
            (r#"{"conversation":{"id":"conv_2"}}"#, Some("conv_2")),
            (
                r#"{"metadata":{"user_id":"user_ab_account__session_c3"}}"#,
                Some("user_ab_account__session_c3"),
            ),
            (
                r#"{"metadata":{"user_id":"{\"device_id\":\"d\",\"session_id\":\"s\"}"}}"#,
                Some(r#"{"device_id":"d","session_id":"s"}"#),
            ),
            (r#"{"metadata":{"user_id":"someone"}}"#, None),
            (r#"{"user":"someone","previous_response_id":"r"}"#, None),
            (
                r#"{"prompt_cache_key":"","conversation":7,"metadata":[]}"#,
                None,
            ),
            (
                r#"{"prompt_cache_key":"first","prompt_cache_key":"second"}"#,
                Some("first"),
            ),
        ] {
            assert_eq!(session(chat, body, &[]).as_deref(), named, "{body}");
        }
    }

    #[test]
    fn what_cannot_be_a_name_is_as_if_it_were_not_there() {
        let long = "x".repeat(MOST_BYTES + 1);
        for value in ["", "  ", long.as_str()] {
            let headers = [("x-session-id", value), ("x-session-affinity", "c")];
            let found = session(&Endpoint::Chat, "{}", &headers);
            assert_eq!(found.as_deref(), Some("c"));
            assert_eq!(
                session(&Endpoint::Chat, "{}", &[("x-session-id", value)]),
                None
            );
        }
    }
}
