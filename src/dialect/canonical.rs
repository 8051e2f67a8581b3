//! What known clients change in the beginning of their prompts from request to request, made constant.
//!
//! A node reads again everything behind the first token that differs from what it has in its cache. A rule names one such place; its
//! characters are overwritten with as many others, so that nothing else of the body moves or changes. Only what a system prompt says at
//! the very beginning of a conversation is looked at, and no rule is in force that the configuration does not name.

use std::ops::Range;

use super::Parsed;
use super::request::span_of;
use crate::routing::Canonical;

impl Canonical {
    /// What is to be overwritten in a text as it is written in JSON, each with as many bytes.
    fn places(self, written: &str) -> Vec<(Range<usize>, String)> {
        match self {
            Self::ClaudeCodeBilling => {
                let line = lines(written).next().unwrap_or_default();
                billing(written, line)
            }
            Self::HermesStarted => clock(written, "Conversation started: ", "12:00 AM"),
            Self::PiClock => clock(written, "Current date and time: ", "12:00:00 AM"),
        }
    }
}

/// A body in which something was made constant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canonicalised {
    /// The body, as long as it was.
    pub body: Vec<u8>,
    /// The rules that found something, in the order in which they were given.
    pub rules: Vec<Canonical>,
}

impl Parsed<'_> {
    /// The body with the places of these rules overwritten; `None` when none is in it, or all are as they would be.
    pub fn canonical(&self, rules: &[Canonical]) -> Option<Canonicalised> {
        if rules.is_empty() {
            return None;
        }
        let texts = self.opening();
        let mut body: Option<Vec<u8>> = None;
        let mut found = Vec::new();
        for rule in rules {
            let places = texts.iter().flat_map(|text| {
                let start = span_of(self.body, text).start;
                let shifted = move |(range, with): (Range<usize>, String)| {
                    (start + range.start..start + range.end, with)
                };
                rule.places(text).into_iter().map(shifted)
            });
            let mut applies = false;
            for (range, with) in places {
                let body = body.get_or_insert_with(|| self.body.as_bytes().to_vec());
                if let Some(place) = body.get_mut(range).filter(|old| **old != *with.as_bytes())
                    && place.len() == with.len()
                {
                    place.copy_from_slice(with.as_bytes());
                    applies = true;
                }
            }
            if applies {
                found.push(*rule);
            }
        }
        body.filter(|_| !found.is_empty())
            .map(|body| Canonicalised { body, rules: found })
    }
}

/// The lines of a text as it is written in a JSON string, as ranges.
fn lines(written: &str) -> impl Iterator<Item = Range<usize>> {
    let bytes = written.as_bytes();
    let mut at = Some(0);
    std::iter::from_fn(move || {
        let start = at?;
        let mut end = start;
        at = loop {
            match bytes.get(end) {
                None => break None,
                Some(b'\\') if bytes.get(end + 1) == Some(&b'n') => break Some(end + 2),
                Some(b'\\') => end += 2,
                Some(_) => end += 1,
            }
        };
        Some(start..end.min(bytes.len()))
    })
}

fn billing(written: &str, line: Range<usize>) -> Vec<(Range<usize>, String)> {
    let text = written.get(line.clone()).unwrap_or_default();
    let Some(fields) = text.strip_prefix("x-anthropic-billing-header:") else {
        return Vec::new();
    };
    let mut at = line.end - fields.len();
    let mut places = Vec::new();
    for field in fields.split_inclusive(';') {
        let value = |name: &str| field.trim_start().strip_prefix(name)?.strip_suffix(';');
        let changing = value("cch=").or_else(|| {
            // Major, minor, patch, and then what differs.
            value("cc_version=")?.splitn(4, '.').nth(3)
        });
        if let Some(digits) = changing
            && !digits.is_empty()
            && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            let end = at + field.len() - 1;
            places.push((end - digits.len()..end, "0".repeat(digits.len())));
        }
        at += field.len();
    }
    places
}

/// The time of day in the line that begins so. A line in which it is written in another way than `midnight` is left alone.
fn clock(written: &str, begins: &str, midnight: &str) -> Vec<(Range<usize>, String)> {
    let of_line = |line: Range<usize>| {
        let text = written.get(line.clone())?.strip_prefix(begins)?;
        let start = text.char_indices().map(|(at, _)| at).find(|at| {
            let before = text.get(..*at).unwrap_or_default();
            let here = text.get(*at..*at + midnight.len());
            before.ends_with(' ') && here.is_some_and(|here| alike(here, midnight))
        })?;
        let start = line.start + begins.len() + start;
        Some((start..start + midnight.len(), midnight.to_owned()))
    };
    lines(written).find_map(of_line).into_iter().collect()
}

/// Whether a text has digits where the other one has, A or P where it has its letters, and is the same elsewhere.
fn alike(text: &str, form: &str) -> bool {
    text.len() == form.len()
        && text
            .bytes()
            .zip(form.bytes())
            .all(|(here, form)| match form {
                b'0'..=b'9' => here.is_ascii_digit(),
                b'A' => matches!(here, b'A' | b'P'),
                other => here == other,
            })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Endpoint, parse};
    use super::*;

    const BILLING: &str =
        "x-anthropic-billing-header: cc_version=2.1.37.0d9; cc_entrypoint=cli; cch=fa690;";
    const CONSTANT: &str =
        "x-anthropic-billing-header: cc_version=2.1.37.000; cc_entrypoint=cli; cch=00000;";

    fn canonical(endpoint: &Endpoint, body: &str) -> Option<(String, Vec<Canonical>)> {
        let parsed = parse(endpoint, body.as_bytes()).unwrap();
        let done = parsed.canonical(&Canonical::ALL)?;
        Some((String::from_utf8(done.body).unwrap(), done.rules))
    }

    #[test]
    fn the_billing_line_is_constant_in_every_form_that_it_comes_in() {
        let forms = [
            (
                Endpoint::Messages,
                r#"{"system":[{"type":"text","text":"@"},{"type":"text","text":"You are"}],"messages":[]}"#,
            ),
            (
                Endpoint::Messages,
                r#"{"system":"@\nYou are","messages":[]}"#,
            ),
            (
                Endpoint::ChatCompletions,
                r#"{"messages":[{"role":"system","content":"@\n\nYou are"},{"role":"user","content":"hi"}]}"#,
            ),
            (
                Endpoint::Chat,
                r#"{"messages":[{"content":[{"type":"text","text":"@"}],"role":"system"}]}"#,
            ),
            (Endpoint::Responses, r#"{"input":"hi","instructions":"@"}"#),
        ];
        for (endpoint, form) in forms {
            let (body, rules) = canonical(&endpoint, &form.replace('@', BILLING)).unwrap();
            assert_eq!(body, form.replace('@', CONSTANT));
            assert_eq!(rules, [Canonical::ClaudeCodeBilling]);
        }
    }

    #[test]
    fn what_the_user_says_or_a_later_text_quotes_is_left_alone() {
        for form in [
            r#"{"messages":[{"role":"user","content":"@"}]}"#,
            r#"{"messages":[{"role":"system","content":"See: @"}]}"#,
            r#"{"messages":[{"role":"user","content":"hi"},{"role":"system","content":"@"}]}"#,
            r#"{"messages":[{"role":"system","content":"a\\n@"}]}"#,
        ] {
            let body = form.replace('@', BILLING);
            assert_eq!(canonical(&Endpoint::Chat, &body), None, "{body}");
        }
        let constant = format!("{{\"system\":\"{CONSTANT}\"}}");
        assert_eq!(canonical(&Endpoint::Messages, &constant), None);
        let other = r#"{"system":"x-anthropic-billing-header: cc_version=2.1; cch=later;"}"#;
        assert_eq!(canonical(&Endpoint::Messages, other), None);
    }

    #[test]
    fn a_clock_shows_midnight() {
        let form = r#"{"messages":[{"role":"system","content":"You are\nConversation started: Monday, April 13, 2026 @\nBe kind"}]}"#;
        let (body, rules) = canonical(&Endpoint::Chat, &form.replace('@', "12:06 PM")).unwrap();
        assert_eq!(body, form.replace('@', "12:00 AM"));
        assert_eq!(rules, [Canonical::HermesStarted]);
        let form = r#"{"system":"You are\nCurrent date and time: Monday, March 9, 2026 at @ PDT"}"#;
        let (body, rules) =
            canonical(&Endpoint::Messages, &form.replace('@', "06:00:31 PM")).unwrap();
        assert_eq!(body, form.replace('@', "12:00:00 AM"));
        assert_eq!(rules, [Canonical::PiClock]);
        let vague = form.replace('@', "teatime");
        assert_eq!(canonical(&Endpoint::Messages, &vague), None);
    }

    #[test]
    fn without_rules_nothing_is_looked_at() {
        let body = format!("{{\"system\":\"{BILLING}\"}}");
        let parsed = parse(&Endpoint::Messages, body.as_bytes()).unwrap();
        assert_eq!(parsed.canonical(&[]), None);
        let only = parsed.canonical(&[Canonical::HermesStarted]);
        assert_eq!(only, None);
    }

    proptest! {
        #[test]
        fn nothing_outside_of_the_place_changes(
            before in "[ \n]{0,3}", after in ".{0,60}", said in ".{0,60}", cch in "[0-9a-f]{5}", build in "[0-9a-f]{3}",
        ) {
            let line = BILLING.replace("fa690", &cch).replace("0d9", &build);
            let system = serde_json::Value::from(format!("{line}\n{after}"));
            let said = serde_json::Value::from(format!("{line}{said}"));
            let body = format!("{before}{{\"system\":{system},\"messages\":[{{\"role\":\"user\",\"content\":{said}}}]}}");
            let wanted = body.replacen(&line, CONSTANT, 1);
            let told = canonical(&Endpoint::Messages, &body).map_or(body, |(told, _)| told);
            prop_assert_eq!(told, wanted);
        }

        #[test]
        fn no_text_panics_and_none_grows(system in ".{0,80}", marks in "(cch=|;|\\\\|:|Conversation started: |x-anthropic-billing-header:){0,4}") {
            let system = serde_json::Value::from(marks + &system);
            let body = format!("{{\"system\":{system}}}");
            if let Some((told, _)) = canonical(&Endpoint::Messages, &body) {
                prop_assert_eq!(told.len(), body.len());
            }
        }
    }
}
