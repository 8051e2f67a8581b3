//! Checks of answers that need no judge: a tool call, a JSON schema, a needle, a quantity.
//!
//! A check looks for what must be there and not for style, so that a small and a large model can both pass it. What an answer is worth
//! beyond that, no check says.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How deep a schema may nest.
const DEEPEST: usize = 32;

/// What an answer must hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// Each of these texts, in any case.
    Needle(Vec<String>),
    /// A number with its unit.
    Quantity {
        /// The number.
        value: f64,
        /// Spellings of the unit; none: the number alone.
        #[serde(default)]
        units: Vec<String>,
        /// How far the number may be off, as a share of it.
        #[serde(default)]
        tolerance: f64,
    },
    /// One JSON document that fits this schema: `type`, `properties`, `required`, `additionalProperties` (a boolean), `items`, `enum`,
    /// `const`, `minimum`, `maximum`, `minItems`, `maxItems`, `minLength` and `maxLength`.
    Schema(Value),
    /// Exactly one call of this tool with exactly these arguments.
    ToolCall(ToolCall),
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The tool.
    pub name: String,
    /// What it is called with.
    pub arguments: Value,
}

/// An answer as checks see it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reply {
    /// What was said, thoughts left out.
    pub text: String,
    /// The tools that were called.
    pub calls: Vec<ToolCall>,
}

impl Check {
    /// What is wrong with the check itself; a check that says less than it seems to is refused.
    ///
    /// # Errors
    /// A keyword of a schema that is not known here, an empty needle, a number that is none.
    pub fn valid(&self) -> Result<(), String> {
        match self {
            Self::Needle(needles) if needles.is_empty() || needles.iter().any(String::is_empty) => {
                Err("a needle is a text that is not empty".to_owned())
            }
            Self::Quantity {
                value, tolerance, ..
            } if !value.is_finite() || !(0.0..=1.0).contains(tolerance) => {
                Err("a quantity has a number, and a tolerance from 0 to 1".to_owned())
            }
            Self::Schema(schema) => valid_schema(schema, 0),
            Self::Needle(_) | Self::Quantity { .. } | Self::ToolCall(_) => Ok(()),
        }
    }

    /// Whether the answer holds it.
    pub fn passes(&self, reply: &Reply) -> bool {
        match self {
            Self::Needle(needles) => {
                let text = reply.text.to_lowercase();
                needles
                    .iter()
                    .all(|needle| text.contains(&needle.to_lowercase()))
            }
            Self::Quantity {
                value,
                units,
                tolerance,
            } => holds_quantity(&reply.text, *value, units, *tolerance),
            Self::Schema(schema) => serde_json::from_str(unfenced(&reply.text))
                .is_ok_and(|document: Value| fits(&document, schema, 0)),
            Self::ToolCall(call) => {
                matches!(reply.calls.as_slice(), [one] if one.name == call.name && same(&one.arguments, &call.arguments))
            }
        }
    }
}

/// The text inside a single Markdown fence, which many models put around a document; else the text itself.
fn unfenced(text: &str) -> &str {
    let text = text.trim();
    text.strip_prefix("```")
        .and_then(|rest| rest.split_once('\n'))
        .and_then(|(_, rest)| rest.trim_end().strip_suffix("```"))
        .map_or(text, str::trim)
}

/// Equal documents, numbers by their value: `2` and `2.0` are the same argument.
fn same(one: &Value, two: &Value) -> bool {
    match (one, two) {
        (Value::Number(one), Value::Number(two)) => one.as_f64() == two.as_f64(),
        (Value::Array(one), Value::Array(two)) => {
            one.len() == two.len() && one.iter().zip(two).all(|(one, two)| same(one, two))
        }
        (Value::Object(one), Value::Object(two)) => {
            one.len() == two.len()
                && one
                    .iter()
                    .all(|(name, value)| two.get(name).is_some_and(|other| same(value, other)))
        }
        _ => one == two,
    }
}

/// Whether any number of the text is the one, directly before its unit. Commas between digits group them.
fn holds_quantity(text: &str, value: f64, units: &[String], tolerance: f64) -> bool {
    let text = text.to_lowercase();
    let mut rest = text.as_str();
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(start);
        let end = from
            .find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | ',')))
            .unwrap_or(from.len());
        let (digits, after) = from.split_at(end);
        let digits = digits.trim_end_matches(['.', ',']).replace(',', "");
        let number = digits.parse::<f64>().ok();
        let number = number.map(|number| {
            if before.ends_with('-') {
                -number
            } else {
                number
            }
        });
        let near = number.is_some_and(|number| (number - value).abs() <= tolerance * value.abs());
        let unit_follows = || {
            let after = after.trim_start_matches([' ', '*', '\u{a0}', '\u{202f}', '_', '$', '\\']);
            units.iter().any(|unit| {
                after
                    .strip_prefix(&unit.to_lowercase())
                    .is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
            })
        };
        if near && (units.is_empty() || unit_follows()) {
            return true;
        }
        rest = after;
    }
    false
}

fn valid_schema(schema: &Value, depth: usize) -> Result<(), String> {
    let Some(fields) = schema.as_object().filter(|_| depth < DEEPEST) else {
        return Err("a schema is an object, not nested too deeply".to_owned());
    };
    for (keyword, value) in fields {
        let good = match keyword.as_str() {
            "type" => value.is_string(),
            "properties" => {
                for schema in value.as_object().into_iter().flat_map(|map| map.values()) {
                    valid_schema(schema, depth + 1)?;
                }
                value.is_object()
            }
            "items" => {
                valid_schema(value, depth + 1)?;
                true
            }
            "required" | "enum" => value.is_array(),
            "additionalProperties" => value.is_boolean(),
            "const" => true,
            "minimum" | "maximum" => value.is_number(),
            "minItems" | "maxItems" | "minLength" | "maxLength" => value.is_u64(),
            _ => {
                return Err(format!(
                    "the schema's keyword `{keyword}` is not known here"
                ));
            }
        };
        if !good {
            return Err(format!("the schema's `{keyword}` has another type"));
        }
    }
    Ok(())
}

fn fits(document: &Value, schema: &Value, depth: usize) -> bool {
    let Some(fields) = schema.as_object().filter(|_| depth < DEEPEST) else {
        return false;
    };
    fields
        .iter()
        .all(|(keyword, value)| match keyword.as_str() {
            "type" => has_type(document, value.as_str().unwrap_or_default()),
            "const" => same(document, value),
            "enum" => list(value).iter().any(|one| same(document, one)),
            "minimum" => number(document).is_none_or(|number| Some(number) >= value.as_f64()),
            "maximum" => number(document).is_none_or(|number| Some(number) <= value.as_f64()),
            "minItems" => length(document.as_array().map(Vec::len)) >= value.as_u64(),
            "maxItems" => document
                .as_array()
                .is_none_or(|list| length(Some(list.len())) <= value.as_u64()),
            "minLength" => {
                length(document.as_str().map(|text| text.chars().count())) >= value.as_u64()
            }
            "maxLength" => document
                .as_str()
                .is_none_or(|text| length(Some(text.chars().count())) <= value.as_u64()),
            "items" => list(document).iter().all(|one| fits(one, value, depth + 1)),
            "required" => list(value)
                .iter()
                .filter_map(Value::as_str)
                .all(|name| document.get(name).is_some()),
            "properties" => value.as_object().is_some_and(|schemas| {
                schemas.iter().all(|(name, schema)| {
                    document
                        .get(name)
                        .is_none_or(|inner| fits(inner, schema, depth + 1))
                })
            }),
            "additionalProperties" => {
                let known = fields.get("properties").and_then(Value::as_object);
                value == &Value::Bool(true)
                    || document.as_object().is_none_or(|map| {
                        map.keys()
                            .all(|name| known.is_some_and(|known| known.contains_key(name)))
                    })
            }
            _ => false,
        })
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64()
}

fn length(of: Option<usize>) -> Option<u64> {
    of.and_then(|length| u64::try_from(length).ok())
}

fn has_type(document: &Value, name: &str) -> bool {
    match name {
        "object" => document.is_object(),
        "array" => document.is_array(),
        "string" => document.is_string(),
        "boolean" => document.is_boolean(),
        "null" => document.is_null(),
        "number" => document.is_number(),
        "integer" => document
            .as_f64()
            .is_some_and(|number| number.fract() == 0.0),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn said(text: &str) -> Reply {
        Reply {
            text: text.to_owned(),
            calls: Vec::new(),
        }
    }

    #[test]
    fn a_needle_is_found_in_any_case_and_all_of_them_must_be() {
        let check = Check::Needle(vec!["Harbour-41".to_owned(), "blue".to_owned()]);
        assert!(check.passes(&said("It is BLUE: harbour-41.")));
        assert!(!check.passes(&said("It is harbour-41.")));
        assert!(Check::Needle(vec![String::new()]).valid().is_err());
        assert!(Check::Needle(Vec::new()).valid().is_err());
    }

    #[test]
    fn a_quantity_is_a_number_directly_before_its_unit() {
        let minutes = |value| Check::Quantity {
            value,
            units: vec!["min".to_owned(), "minutes".to_owned()],
            tolerance: 0.0,
        };
        for good in [
            "150 minutes",
            "That is **150** min.",
            "150min",
            "2.5 h = 150 minutes",
        ] {
            assert!(minutes(150.0).passes(&said(good)), "{good}");
        }
        for bad in [
            "150",
            "1500 minutes",
            "150 hours",
            "15 0 minutes",
            "150 minutely",
            "-150 min",
            "",
        ] {
            assert!(!minutes(150.0).passes(&said(bad)), "{bad}");
        }
        assert!(minutes(1_500.0).passes(&said("1,500 minutes.")));
        let bare = Check::Quantity {
            value: 0.5,
            units: Vec::new(),
            tolerance: 0.1,
        };
        assert!(bare.passes(&said("about 0.52.")));
        assert!(!bare.passes(&said("about 0.6")));
    }

    #[test]
    fn a_schema_judges_the_whole_answer() {
        let schema = json!({
            "type": "object",
            "properties": {
                "name": {"type": "string", "minLength": 1},
                "age": {"type": "integer", "minimum": 0, "maximum": 150},
                "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2}
            },
            "required": ["name", "age"],
            "additionalProperties": false
        });
        let check = Check::Schema(schema.clone());
        assert_eq!(check.valid(), Ok(()));
        // An independent judge agrees on each of these.
        let judge = jsonschema::draft202012::new(&schema).unwrap();
        for document in [
            json!({"name": "Ada", "age": 36}),
            json!({"name": "Ada", "age": 36.0, "tags": ["a", "b"]}),
            json!({"name": "", "age": 36}),
            json!({"name": "Ada"}),
            json!({"name": "Ada", "age": -1}),
            json!({"name": "Ada", "age": 151}),
            json!({"name": "Ada", "age": 1.5}),
            json!({"name": "Ada", "age": "36"}),
            json!({"name": "Ada", "age": 36, "more": 1}),
            json!({"name": "Ada", "age": 36, "tags": ["c"]}),
            json!({"name": "Ada", "age": 36, "tags": ["a", "a", "a"]}),
            json!([]),
            json!(null),
        ] {
            let ours = check.passes(&said(&document.to_string()));
            assert_eq!(ours, judge.is_valid(&document), "{document}");
        }
        assert!(check.passes(&said("```json\n{\"name\": \"Ada\", \"age\": 36}\n```\n")));
        assert!(!check.passes(&said("Here you are: {\"name\": \"Ada\", \"age\": 36}")));
        for unknown in [
            json!({"pattern": "a"}),
            json!({"items": {"oneOf": []}}),
            json!([]),
            json!({"type": 1}),
        ] {
            assert!(Check::Schema(unknown.clone()).valid().is_err(), "{unknown}");
        }
    }

    #[test]
    fn a_tool_call_is_exact() {
        let call = |name: &str, arguments| ToolCall {
            name: name.to_owned(),
            arguments,
        };
        let check = Check::ToolCall(call("add", json!({"a": 2, "b": 3})));
        let called = |calls: Vec<ToolCall>| Reply {
            text: String::new(),
            calls,
        };
        assert!(check.passes(&called(vec![call("add", json!({"b": 3.0, "a": 2}))])));
        for wrong in [
            vec![],
            vec![call("sub", json!({"a": 2, "b": 3}))],
            vec![call("add", json!({"a": 2}))],
            vec![call("add", json!({"a": 2, "b": 3, "c": 4}))],
            vec![
                call("add", json!({"a": 2, "b": 3})),
                call("add", json!({"a": 2, "b": 3})),
            ],
        ] {
            assert!(!check.passes(&called(wrong)));
        }
        assert!(!check.passes(&said("add(2, 3)")));
    }

    proptest! {
        #[test]
        fn no_answer_panics(text in "\\PC*", value in any::<f64>()) {
            for check in [
                Check::Needle(vec!["a".to_owned()]),
                Check::Quantity { value, units: vec!["m".to_owned()], tolerance: 0.5 },
                Check::Schema(json!({"type": "object", "minLength": 1})),
            ] {
                let _ = check.passes(&said(&text));
            }
        }
    }
}
