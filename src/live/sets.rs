//! The prompts that come with the program: eight asks of each class, alone and with notes or code beside them.
//!
//! Every one has a check that any model of some use passes, so that a speed-up that comes with worse answers is seen as that.

use serde_json::{Value, json};

use super::filler::{mixed, notes};
use super::prompt::{Prompt, Size, tokens};
use crate::measure::{Check, Class, ToolCall};

/// Tokens of the notes that come with an ask.
const MEDIUM: u64 = 700;
/// With its answer below 4,096 tokens, Ollama's window where nobody says otherwise.
const LONG: u64 = 2_200;
/// The kind of source text that asks of code are about.
const CODE: &str = "def total(prices, rate):\n    t = 0\n    for i in range(len(prices)):\n        t = t + prices[i]\n    t = t + t * rate\n    return t\n";

/// An ask with its check.
struct Ask {
    class: Class,
    text: String,
    check: Check,
    max_tokens: u32,
    format: Option<Value>,
    tools: Vec<Value>,
}

/// The prompts of these classes and sizes, the classes by turns: a small one, a moderate one, a complex one, as they come in practice.
pub fn built_in(classes: &[Class], sizes: &[Size], seed: u64) -> Vec<Prompt> {
    let asks = asks();
    let most = asks.len() / Class::ALL.len();
    let mut prompts = Vec::new();
    for size in sizes {
        for place in 0..most {
            for class in Class::ALL
                .into_iter()
                .filter(|class| classes.contains(class))
            {
                let ask = asks.iter().filter(|ask| ask.class == class).nth(place);
                prompts.extend(ask.map(|ask| prompt(ask, place, *size, seed)));
            }
        }
    }
    prompts
}

fn prompt(ask: &Ask, place: usize, size: Size, seed: u64) -> Prompt {
    let (word, length) = match size {
        Size::Short => ("short", 0),
        Size::Medium => ("medium", MEDIUM),
        Size::Long => ("long", LONG),
    };
    let name = format!("{}-{}-{word}", ask.class.as_str().to_lowercase(), place + 1);
    let seed = mixed(&[seed, place as u64, ask.class as u64, length]);
    let mut prompt = Prompt::ask(name, ask.class, ask.text.clone(), ask.max_tokens);
    if length > 0 {
        let beside = format!("Notes that may or may not matter:\n{}", notes(seed, length));
        prompt.tokens_in += tokens(&beside);
        // As a turn of its own: the last turn is the ask, by which requests are classed.
        let mut turn = |role: &str, content: String| {
            let at = prompt.messages.len() - 1;
            prompt.messages.insert(
                at,
                super::Message {
                    role: role.to_owned(),
                    content,
                },
            );
        };
        turn("user", beside);
        turn("assistant", "I have read the notes.".to_owned());
    }
    prompt.check = Some(ask.check.clone());
    prompt.format.clone_from(&ask.format);
    prompt.tools.clone_from(&ask.tools);
    prompt
}

fn asks() -> Vec<Ask> {
    let mut asks = simple();
    asks.extend(moderate());
    asks.extend(complex());
    asks
}

fn ask(class: Class, text: &str, check: Check, max_tokens: u32) -> Ask {
    Ask {
        class,
        text: text.to_owned(),
        check,
        max_tokens,
        format: None,
        tools: Vec::new(),
    }
}

/// An ask whose answer must be a document.
fn document(class: Class, text: &str, schema: Value, max_tokens: u32) -> Ask {
    Ask {
        format: Some(schema.clone()),
        ..ask(class, text, Check::Schema(schema), max_tokens)
    }
}

fn needle(words: &[&str]) -> Check {
    Check::Needle(words.iter().map(|word| (*word).to_owned()).collect())
}

fn quantity(value: f64, units: &[&str]) -> Check {
    Check::Quantity {
        value,
        units: units.iter().map(|unit| (*unit).to_owned()).collect(),
        tolerance: 0.0,
    }
}

fn object(properties: &Value) -> Value {
    let required: Vec<&String> = properties
        .as_object()
        .into_iter()
        .flat_map(|map| map.keys())
        .collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

fn simple() -> Vec<Ask> {
    let class = Class::Simple;
    vec![
        ask(
            class,
            "Write a docstring for a function called sort_by_price.",
            needle(&["sort", "price"]),
            96,
        ),
        ask(
            class,
            "Add a comment to this line: shelf_count = len(shelves)",
            needle(&["#", "shelf_count"]),
            64,
        ),
        ask(
            class,
            "Format this date as ISO 8601: 3 May 2026",
            needle(&["2026-05-03"]),
            32,
        ),
        ask(
            class,
            "Format this number with its unit and nothing else: 150 minutes",
            quantity(150.0, &["minutes", "min"]),
            24,
        ),
        document(
            class,
            "Format as JSON with name and age: Ada is 36 years old.",
            object(&json!({"name": {"type": "string"}, "age": {"type": "integer"}})),
            48,
        ),
        ask(
            class,
            "Write a docstring for a class called Shelf.",
            needle(&["shelf"]),
            96,
        ),
        ask(
            class,
            "Rename the variable x to price in this line: x = 3",
            needle(&["price = 3"]),
            32,
        ),
        ask(
            class,
            "Add the missing import statement for json.loads in Python.",
            needle(&["import json"]),
            48,
        ),
    ]
}

fn moderate() -> Vec<Ask> {
    let class = Class::Moderate;
    let code = |text: &str| format!("{text}\n\n{CODE}");
    vec![
        ask(
            class,
            &code("Refactor this function to use sum() and keep its name:"),
            needle(&["def total", "sum("]),
            192,
        ),
        ask(
            class,
            &code("Refactor this function into a class Basket with a method total:"),
            needle(&["class Basket", "def total"]),
            256,
        ),
        ask(
            class,
            &code("Write a unit test for this function:"),
            needle(&["total(", "assert"]),
            256,
        ),
        document(
            class,
            &code(
                "Review this function. Answer as JSON with a list of findings, each with line and text.",
            ),
            object(
                &json!({"findings": {"type": "array", "items": object(&json!({"line": {"type": "integer"}, "text": {"type": "string"}}))}}),
            ),
            256,
        ),
        ask(
            class,
            &code("Add error handling to this function: raise ValueError when rate is negative:"),
            needle(&["raise", "ValueError"]),
            224,
        ),
        ask(
            class,
            &code("Add type hints to this function:"),
            needle(&["def total", "float", "->"]),
            192,
        ),
        ask(
            class,
            &code(
                "Debug this function step by step: what does total([10, 20], 0.5) return? End with that number.",
            ),
            quantity(45.0, &[]),
            256,
        ),
        ask(
            class,
            &code("Debug this function: with prices [] and rate None it fails. Explain why."),
            needle(&["None"]),
            192,
        ),
    ]
}

fn complex() -> Vec<Ask> {
    let class = Class::Complex;
    let call = json!({"type": "function", "function": {
        "name": "create_index", "description": "Creates an index on a column of a table",
        "parameters": {"type": "object", "properties": {"table": {"type": "string"}, "column": {"type": "string"}}, "required": ["table", "column"]},
    }});
    vec![
        ask(
            class,
            "Implement a binary search tree in Python with insert and contains.",
            needle(&["class", "def insert", "def contains"]),
            448,
        ),
        ask(
            class,
            "Design a thread-safe queue in Python with put and get.",
            needle(&["class", "lock", "def put", "def get"]),
            448,
        ),
        document(
            class,
            "Design a REST API for user management. Answer as JSON: a list of endpoints, each with method and path.",
            object(
                &json!({"endpoints": {"type": "array", "items": object(&json!({"method": {"type": "string"}, "path": {"type": "string"}}))}}),
            ),
            384,
        ),
        ask(
            class,
            "Build a caching layer with a time to live in Python: a class TtlCache with get and set.",
            needle(&["class TtlCache", "def get", "def set"]),
            448,
        ),
        Ask {
            tools: vec![call],
            ..ask(
                class,
                "Architect the database of a shop. Begin with the index that finds orders by customer: create it on table orders, column customer_id, with the tool.",
                Check::ToolCall(ToolCall {
                    name: "create_index".to_owned(),
                    arguments: json!({"table": "orders", "column": "customer_id"}),
                }),
                192,
            )
        },
        ask(
            class,
            "Implement a rate limiter with a token bucket in Python: a class TokenBucket with the method allow.",
            needle(&["class TokenBucket", "def allow"]),
            448,
        ),
        ask(
            class,
            "Design the architecture of a system that resizes uploaded pictures: name its queue, its workers and its storage.",
            needle(&["queue", "worker", "storage"]),
            448,
        ),
        ask(
            class,
            "Implement Dijkstra's algorithm in Python with heapq.",
            needle(&["import heapq", "heappush", "heappop"]),
            448,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::prompt::class_of;

    const ALL: [Size; 3] = [Size::Short, Size::Medium, Size::Long];

    #[test]
    fn every_class_has_as_many_prompts_and_the_seed_decides_the_notes() {
        let prompts = built_in(&Class::ALL, &ALL, 1);
        assert_eq!(prompts.len(), 72);
        for class in Class::ALL {
            assert_eq!(
                prompts
                    .iter()
                    .filter(|prompt| prompt.class == class)
                    .count(),
                24
            );
        }
        assert_eq!(prompts, built_in(&Class::ALL, &ALL, 1));
        assert_ne!(prompts, built_in(&Class::ALL, &ALL, 2));
        let mut names: Vec<&str> = prompts.iter().map(|prompt| prompt.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 72);
    }

    #[test]
    fn every_check_is_valid_and_every_prompt_fits_ollamas_usual_window() {
        for prompt in built_in(&Class::ALL, &ALL, 1) {
            assert_eq!(
                prompt.check.as_ref().unwrap().valid(),
                Ok(()),
                "{}",
                prompt.name
            );
            assert!(
                prompt.tokens_in + u64::from(prompt.max_tokens) < 3_500,
                "{}",
                prompt.name
            );
        }
    }

    #[test]
    fn the_classifier_sees_the_classes_that_the_set_says() {
        let wrong: Vec<String> = asks()
            .iter()
            .filter(|ask| class_of(&ask.text) != ask.class)
            .map(|ask| {
                format!(
                    "{:?} is seen as {:?}: {}",
                    ask.class,
                    class_of(&ask.text),
                    ask.text
                )
            })
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
