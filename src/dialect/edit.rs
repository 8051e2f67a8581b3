//! Changes to a body that leave every other byte as it came.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::Value;

use super::Parsed;
use super::cursor::{Cursor, Kind, unescaped};
use super::request::span_of;

/// One change to a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edit<'e> {
    /// Names another model, in the field that named it (or as `model` where none did).
    Model(&'e str),
    /// Adds `max_tokens` where it is absent: Ollama does not read `max_completion_tokens` and would run without a limit.
    AddMaxTokens(u64),
    /// Sets a field of the body: its key, and its value as JSON text.
    SetTop(&'e str, &'e str),
    /// Sets a field of Ollama's `options`: its key, and its value as JSON text. `options` of a wrong type stay for the node to judge.
    SetOption(&'e str, &'e str),
}

/// The bytes with one range replaced; a range outside of them changes nothing.
pub fn splice(bytes: &[u8], range: Range<usize>, replacement: &[u8]) -> Vec<u8> {
    match (bytes.get(..range.start), bytes.get(range.end..)) {
        (Some(before), Some(after)) if range.start <= range.end => {
            [before, replacement, after].concat()
        }
        _ => bytes.to_vec(),
    }
}

impl<'a> Parsed<'a> {
    /// The body with those changes; every byte outside of them as it came, and the body itself where nothing changes.
    pub fn edited(&self, edits: &[Edit<'_>]) -> Cow<'a, [u8]> {
        let mut changes = Changes::default();
        let mut options = Vec::new();
        for edit in edits {
            match *edit {
                Edit::Model(name) => {
                    let name = Value::from(name).to_string();
                    match self.model_span() {
                        Some(span) => changes.replace(span, name),
                        None => changes.set(self.body, 0, "model", &name),
                    }
                }
                Edit::AddMaxTokens(limit) => {
                    let limit = limit.to_string();
                    match self.fields.max_tokens {
                        None => changes.insert(self.body, "max_tokens", &limit),
                        Some("null") => changes.set(self.body, 0, "max_tokens", &limit),
                        Some(_) => {}
                    }
                }
                Edit::SetTop(key, value) => changes.set(self.body, 0, key, value),
                Edit::SetOption(key, value) => options.push((key, value)),
            }
        }
        self.set_options(&mut changes, &options);
        changes.applied_to(self.body)
    }

    fn set_options(&self, changes: &mut Changes, options: &[(&str, &str)]) {
        if options.is_empty() {
            return;
        }
        match self.fields.options {
            Some(object) if object.starts_with('{') => {
                let start = span_of(self.body, object).start;
                for (key, value) in options {
                    changes.set(self.body, start, key, value);
                }
            }
            Some(other) if other != "null" => {}
            _ => {
                let members: Vec<String> = options
                    .iter()
                    .map(|(key, value)| member(key, value))
                    .collect();
                changes.set(
                    self.body,
                    0,
                    "options",
                    &format!("{{{}}}", members.join(",")),
                );
            }
        }
    }
}

fn member(key: &str, value: &str) -> String {
    format!("{}:{value}", Value::from(key))
}

#[derive(Default)]
struct Changes {
    /// Ranges of the body and what takes their place; an empty range is an insertion.
    replaced: Vec<(Range<usize>, String)>,
}

impl Changes {
    fn replace(&mut self, range: Range<usize>, text: String) {
        // The last one wins where two edits name the same field.
        self.replaced
            .retain(|(earlier, _)| *earlier != range || range.is_empty());
        self.replaced.push((range, text));
    }

    /// Adds a member to the body, which has none of that key.
    fn insert(&mut self, body: &str, key: &str, value: &str) {
        let mut cursor = Cursor::new(body);
        if cursor.kind() == Kind::Object {
            cursor.enter();
            let inside = cursor.at();
            let comma = if cursor.key().is_some() { "," } else { "" };
            self.replace(inside..inside, member(key, value) + comma);
        }
    }

    /// Sets a member of the object that starts at `start`: every value that the key has there, or a new first member.
    fn set(&mut self, body: &str, start: usize, key: &str, value: &str) {
        let mut cursor = Cursor::new(body.get(start..).unwrap_or_default());
        if cursor.kind() != Kind::Object {
            return;
        }
        cursor.enter();
        let inside = start + cursor.at();
        let (mut found, mut empty) = (false, true);
        while let Some(written) = cursor.key() {
            empty = false;
            cursor.kind();
            let value_start = start + cursor.at();
            cursor.skip();
            if unescaped(written) == key {
                found = true;
                self.replace(value_start..start + cursor.at(), value.to_owned());
            }
        }
        if !found {
            let comma = if empty { "" } else { "," };
            self.replace(inside..inside, member(key, value) + comma);
        }
    }

    fn applied_to(mut self, body: &str) -> Cow<'_, [u8]> {
        if self.replaced.is_empty() {
            return Cow::Borrowed(body.as_bytes());
        }
        self.replaced.sort_by_key(|(range, _)| range.start);
        let added: usize = self.replaced.iter().map(|(_, text)| text.len()).sum();
        let mut edited = Vec::with_capacity(body.len() + added);
        let mut at = 0;
        for (range, text) in &self.replaced {
            if range.start < at {
                // Inside of what another edit already replaced as a whole.
                continue;
            }
            edited.extend_from_slice(body.as_bytes().get(at..range.start).unwrap_or_default());
            edited.extend_from_slice(text.as_bytes());
            at = range.end;
        }
        edited.extend_from_slice(body.as_bytes().get(at..).unwrap_or_default());
        Cow::Owned(edited)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Endpoint, parse};
    use super::*;

    fn edited(endpoint: &Endpoint, body: &str, edits: &[Edit<'_>]) -> String {
        let parsed = parse(endpoint, body.as_bytes()).unwrap();
        String::from_utf8(parsed.edited(edits).into_owned()).unwrap()
    }

    #[test]
    fn replaces_only_the_models_span() {
        let body = "{ \"messages\":[{\"model\":\"no\"}] ,\n \"model\" : \"a\\u0031\" , \"x\":1e3}";
        assert_eq!(
            edited(&Endpoint::Chat, body, &[Edit::Model("b:\"q\"")]),
            "{ \"messages\":[{\"model\":\"no\"}] ,\n \"model\" : \"b:\\\"q\\\"\" , \"x\":1e3}"
        );
        assert_eq!(
            edited(&Endpoint::Show, "{\"name\":\"a\"}", &[Edit::Model("b")]),
            "{\"name\":\"b\"}"
        );
        assert_eq!(
            edited(&Endpoint::Chat, "{}", &[Edit::Model("b")]),
            "{\"model\":\"b\"}"
        );
        assert_eq!(
            edited(
                &Endpoint::Chat,
                "{\"model\":null,\"a\":1}",
                &[Edit::Model("b")]
            ),
            "{\"model\":\"b\",\"a\":1}"
        );
    }

    #[test]
    fn without_a_change_the_body_is_borrowed() {
        let body = b"{\"model\":\"a\",\"max_tokens\":3}";
        let parsed = parse(&Endpoint::ChatCompletions, body).unwrap();
        for edits in [&[][..], &[Edit::AddMaxTokens(9)][..]] {
            let Cow::Borrowed(same) = parsed.edited(edits) else {
                panic!("copied");
            };
            assert_eq!(same.as_ptr(), body.as_ptr());
        }
    }

    #[test]
    fn adds_max_tokens_and_options_where_they_are_absent() {
        assert_eq!(
            edited(
                &Endpoint::ChatCompletions,
                "{\"max_completion_tokens\":5}",
                &[Edit::AddMaxTokens(5)]
            ),
            "{\"max_tokens\":5,\"max_completion_tokens\":5}"
        );
        let set = [
            Edit::SetOption("num_ctx", "4096"),
            Edit::SetOption("seed", "1"),
        ];
        assert_eq!(
            edited(&Endpoint::Chat, "{\"a\":1}", &set),
            "{\"options\":{\"num_ctx\":4096,\"seed\":1},\"a\":1}"
        );
        assert_eq!(
            edited(&Endpoint::Chat, "{\"options\":null}", &set),
            "{\"options\":{\"num_ctx\":4096,\"seed\":1}}"
        );
        assert_eq!(
            edited(
                &Endpoint::Chat,
                "{\"options\":{\"num_ctx\":2048 , \"top_k\":1}}",
                &set
            ),
            "{\"options\":{\"seed\":1,\"num_ctx\":4096 , \"top_k\":1}}"
        );
        assert_eq!(
            edited(&Endpoint::Chat, "{\"options\":7}", &set),
            "{\"options\":7}"
        );
    }

    #[test]
    fn a_field_set_as_a_whole_wins_over_edits_within_it() {
        assert_eq!(
            edited(
                &Endpoint::Chat,
                "{\"options\":{\"seed\":1}}",
                &[Edit::SetOption("seed", "2"), Edit::SetTop("options", "{}")]
            ),
            "{\"options\":{}}"
        );
        assert_eq!(
            edited(&Endpoint::Messages, " { } ", &[Edit::AddMaxTokens(2)]),
            " {\"max_tokens\":2 } "
        );
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z\"\\\\]{0,4}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn an_edit_changes_its_field_and_nothing_else(
            members in prop::collection::btree_map("[a-h\"\\\\é]{1,3}", any_json(), 0..6),
            model in any::<String>(), key in "[a-h]", space in "[ \n\t]{0,2}",
        ) {
            let mut members = members;
            members.insert("model".to_owned(), Value::from("before"));
            let body = members.iter()
                .map(|(key, value)| format!("{space}{}{space}:{space}{value}{space}", Value::from(key.as_str())))
                .collect::<Vec<_>>().join(",");
            let body = format!("{space}{{{body}}}{space}");
            let told = edited(&Endpoint::Chat, &body, &[Edit::Model(&model), Edit::SetTop(&key, "[1.50]")]);
            let mut after: std::collections::BTreeMap<String, Value> = serde_json::from_str(&told).unwrap();
            prop_assert_eq!(after.remove("model"), Some(Value::from(model)));
            prop_assert_eq!(after.remove(&key), Some(serde_json::json!([1.5])));
            members.remove("model");
            members.remove(&key);
            prop_assert_eq!(after, members);
        }
    }
}
