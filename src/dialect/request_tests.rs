//! Tests of what is read from requests.

use proptest::prelude::*;

use super::*;
use crate::routing::{Turn, estimate_tokens};

fn facts(endpoint: &Endpoint, body: &str) -> RequestFacts {
    parse(endpoint, body.as_bytes())
        .unwrap()
        .facts(Family::default(), true)
}

fn refused(endpoint: &Endpoint, body: &[u8]) -> String {
    let error = parse(endpoint, body).unwrap_err();
    assert_eq!(error.status, 400);
    error.message
}

fn turn(role: TurnRole, text: &str) -> Turn {
    Turn {
        role,
        text: text.to_owned(),
    }
}

#[test]
fn reads_the_fields_of_interest_and_their_place() {
    let body = br#" {"x":{"model":"no"},"model":"m\u0065:7b","stream":true,"options":{"num_ctx":8192,"num_predict":-1},"tools":[]} "#;
    let parsed = parse(&Endpoint::Chat, body).unwrap();
    assert_eq!(parsed.model(), Some("me:7b"));
    assert_eq!(&body[parsed.model_span().unwrap()], br#""m\u0065:7b""#);
    assert!(parsed.stream() && !parsed.tools());
    assert_eq!(
        (parsed.num_ctx(), parsed.max_tokens()),
        (Some(8192), None),
        "-1 is no limit"
    );
}

#[test]
fn refuses_what_cannot_be_read_in_ollamas_words() {
    assert_eq!(refused(&Endpoint::Chat, b""), "missing request body");
    assert_eq!(refused(&Endpoint::Chat, b"{\"model\":"), "unexpected EOF");
    assert!(refused(&Endpoint::Chat, b"[\"m\"]").contains("object"));
    assert!(refused(&Endpoint::Chat, b"{\"model\":7}").contains("`model` must be a string"));
    assert!(refused(&Endpoint::Chat, b"{\"stream\":\"yes\"}").contains("`stream`"));
    assert!(
        refused(&Endpoint::Chat, b"{\"model\":\"a\",\"model\":\"b\"}")
            .contains("`model` is given twice")
    );
    assert!(refused(&Endpoint::Chat, b"{\"a\":\"\xff\"}").contains("UTF-8"));
}

#[test]
fn what_the_node_judges_is_passed_on() {
    for body in [
        "{\"messages\":7}",
        "{\"messages\":[1,null,\"x\",{\"content\":{\"a\":[]},\"role\":3}]}",
        "{\"options\":\"x\",\"keep_alive\":{},\"tools\":{},\"max_tokens\":\"x\"}",
        "{\"model\":null,\"stream\":null}",
    ] {
        let parsed = parse(&Endpoint::ChatCompletions, body.as_bytes()).unwrap();
        parsed.facts(Family::default(), true);
        assert_eq!(parsed.model(), None);
        assert_eq!(parsed.max_tokens(), None);
    }
}

#[test]
fn every_spelling_of_the_model_and_of_the_limit_is_read() {
    let model = |endpoint: &Endpoint, body: &str| {
        parse(endpoint, body.as_bytes())
            .unwrap()
            .model()
            .map(str::to_owned)
    };
    assert_eq!(
        model(&Endpoint::Show, "{\"name\":\"a\"}").as_deref(),
        Some("a")
    );
    assert_eq!(
        model(&Endpoint::Pull, "{\"model\":\"\",\"name\":\"a\"}").as_deref(),
        Some("a")
    );
    assert_eq!(
        model(&Endpoint::Copy, "{\"source\":\"a\",\"destination\":\"b\"}").as_deref(),
        Some("a")
    );
    assert_eq!(model(&Endpoint::Chat, "{\"name\":\"a\"}"), None);
    for (endpoint, body) in [
        (Endpoint::Chat, "{\"options\":{\"num_predict\":9}}"),
        (Endpoint::ChatCompletions, "{\"max_tokens\":9}"),
        (Endpoint::ChatCompletions, "{\"max_completion_tokens\":9.0}"),
        (Endpoint::Responses, "{\"max_output_tokens\":9}"),
        (Endpoint::Messages, "{\"max_tokens\":9}"),
    ] {
        assert_eq!(facts(&endpoint, body).max_tokens, Some(9), "{body}");
    }
}

#[test]
fn streams_by_default_only_where_ollama_does() {
    assert!(parse(&Endpoint::Generate, b"{}").unwrap().stream());
    assert!(!parse(&Endpoint::Messages, b"{}").unwrap().stream());
    assert!(
        !parse(&Endpoint::Chat, b"{\"stream\":false}")
            .unwrap()
            .stream()
    );
}

#[test]
fn an_empty_request_only_loads_and_without_keeping_unloads() {
    let parsed = |endpoint, body: &'static str| parse(endpoint, body.as_bytes()).unwrap();
    for body in ["{}", "{\"messages\":[ ]}", "{\"messages\":null}"] {
        assert!(parsed(&Endpoint::Chat, body).load_only(), "{body}");
    }
    assert!(!parsed(&Endpoint::Chat, "{\"messages\":[{}]}").load_only());
    assert!(!parsed(&Endpoint::Generate, "{\"prompt\":\"a\"}").load_only());
    assert!(!parsed(&Endpoint::ChatCompletions, "{}").load_only());
    assert!(
        parsed(
            &Endpoint::Generate,
            "{\"prompt\":\"\",\"keep_alive\":\"0s\"}"
        )
        .unload()
    );
    assert!(!parsed(&Endpoint::Generate, "{\"prompt\":\"a\",\"keep_alive\":0}").unload());
}

#[test]
fn keep_alive_is_seconds_or_a_go_duration() {
    let seconds = |s| Some(KeepAlive::For(Duration::from_secs(s)));
    for (written, expected) in [
        ("0", Some(KeepAlive::Unload)),
        ("1800", seconds(1800)),
        ("-1", Some(KeepAlive::Forever)),
        ("\"5m\"", seconds(300)),
        ("\"1h30m\"", seconds(5400)),
        ("\"-1m\"", Some(KeepAlive::Forever)),
        ("\"0\"", Some(KeepAlive::Unload)),
        ("\"10\"", None),
        ("\"5 m\"", None),
        ("true", None),
    ] {
        let body = format!("{{\"keep_alive\":{written}}}");
        let parsed = parse(&Endpoint::Chat, body.as_bytes()).unwrap();
        assert_eq!(parsed.keep_alive(), expected, "{written}");
    }
}

#[test]
fn turns_are_read_from_every_dialect() {
    use TurnRole::{Assistant, System, Tool, User};
    let ollama = r#"{"messages":[{"role":"system","content":"S"},{"content":"a\n\"b\"","images":["QUJD"],"role":"user"},{"role":"assistant","content":"","tool_calls":[{"function":{"name":"f","arguments":{}}}]},{"role":"tool","content":"r"}]}"#;
    let read = facts(&Endpoint::Chat, ollama);
    assert_eq!(
        read.turns,
        [turn(System, "S"), turn(User, "a\n\"b\""), turn(Tool, "r")]
    );
    assert!(read.images);
    let openai = r#"{"messages":[{"role":"developer","content":"S"},{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"data:image/png;base64,AAAA"}},{"type":"text","text":"b"}]}],"tools":[{"type":"function"}]}"#;
    let read = facts(&Endpoint::ChatCompletions, openai);
    assert_eq!(read.turns, [turn(System, "S"), turn(User, "a\nb")]);
    assert!(read.images && read.tools);
    let anthropic = r#"{"system":[{"type":"text","text":"S"}],"messages":[{"role":"assistant","content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"x"},{"type":"tool_use","id":"1","input":{"a":1}}]},{"role":"user","content":[{"type":"tool_result","content":[{"type":"text","text":"r"},{"type":"image","source":{"type":"base64","data":"AAAA"}}]},{"type":"text","text":"a"}]}]}"#;
    let read = facts(&Endpoint::Messages, anthropic);
    assert_eq!(
        read.turns,
        [
            turn(System, "S"),
            turn(Assistant, "x"),
            turn(Tool, "r"),
            turn(User, "a")
        ]
    );
    assert!(read.images);
    let responses = r#"{"instructions":"S","input":[{"type":"message","role":"user","content":[{"type":"input_text","text":"a"}]},{"type":"function_call","name":"f","arguments":"{}"},{"type":"function_call_output","output":"r"},{"role":"user","content":"b"}]}"#;
    assert_eq!(
        facts(&Endpoint::Responses, responses).turns,
        [
            turn(System, "S"),
            turn(User, "a"),
            turn(Tool, "r"),
            turn(User, "b")
        ]
    );
    assert_eq!(
        facts(&Endpoint::Responses, r#"{"input":"a"}"#).turns,
        [turn(User, "a")]
    );
    assert_eq!(
        facts(&Endpoint::Generate, r#"{"system":"S","prompt":"a"}"#).turns,
        [turn(System, "S"), turn(User, "a")]
    );
}

#[test]
fn short_prompts_are_counted_exactly_and_images_not_at_all() {
    let family = Family::default();
    let text = "Explain what this function does, please.";
    let image = "A".repeat(100_000);
    let bodies = [
        format!(r#"{{"messages":[{{"role":"user","content":"{text}","images":["{image}"]}}]}}"#),
        format!(
            r#"{{"messages":[{{"role":"user","content":[{{"type":"text","text":"{text}"}},{{"type":"image_url","image_url":{{"url":"data:;base64,{image}"}}}}]}}]}}"#
        ),
        format!(
            r#"{{"messages":[{{"role":"user","content":[{{"type":"image","source":{{"data":"{image}"}}}},{{"type":"text","text":"{text}"}}]}}]}}"#
        ),
    ];
    for body in bodies {
        let read = facts(&Endpoint::ChatCompletions, &body);
        assert!(read.images);
        assert_eq!(read.prompt_tokens, estimate_tokens(text, family) + 4);
    }
}

#[test]
fn token_ids_count_as_tokens() {
    let read = facts(
        &Endpoint::Embeddings,
        r#"{"input":[[1,2,3],[4,5]],"model":"e"}"#,
    );
    assert_eq!((read.prompt_tokens, read.task), (5, Task::Embed));
}

#[test]
fn a_sample_of_mixed_text_is_close_to_the_full_count() {
    let family = Family::default();
    let prose = "The quick brown fox jumps over the lazy dog, and nobody asked why. ";
    let code = "fn main() {\n    let x = vec![1, 2, 3];\n\tprintln!(\"{:?}\", x);\n}\n";
    let other = "Ünïcödé täxt, 日本語の文章です。 Привет мир! ";
    let mut texts: Vec<String> = Vec::new();
    for round in 0..40 {
        texts.push(prose.repeat(10 + round % 7));
        texts.push(code.repeat(5 + round % 5));
        texts.push(other.repeat(8 + round % 3));
    }
    let messages: Vec<serde_json::Value> = texts
        .iter()
        .map(|text| serde_json::json!({ "role": "user", "content": text }))
        .collect();
    let body = serde_json::json!({ "messages": messages }).to_string();
    let full: u64 = texts
        .iter()
        .map(|text| estimate_tokens(text, family) + 4)
        .sum();
    let sampled = facts(&Endpoint::Chat, &body).prompt_tokens;
    let off = sampled.abs_diff(full) * 100 / full;
    assert!(off <= 15, "{sampled} of {full}: {off} % off");
}

#[test]
fn long_turns_keep_head_and_tail_and_old_turns_are_left_out() {
    let long = format!("HEAD{}TAIL", "x\\n".repeat(50_000));
    let body = format!(r#"{{"prompt":"{long}"}}"#);
    let turns = facts(&Endpoint::Generate, &body).turns;
    assert!(turns[0].text.len() < 9000);
    assert!(turns[0].text.starts_with("HEAD") && turns[0].text.ends_with("TAIL"));
    let many = vec![r#"{"role":"user","content":"old"}"#; 20_000].join(",");
    let body = format!(r#"{{"messages":[{many},{{"role":"user","content":"new"}}]}}"#);
    let read = facts(&Endpoint::Chat, &body);
    assert_eq!(read.turns.len(), 512);
    assert_eq!(read.turns.last().unwrap().text, "new");
    assert!(read.prompt_tokens >= 80_000, "{}", read.prompt_tokens);
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_or_refused(body in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = parse(&Endpoint::Chat, &body);
    }

    #[test]
    fn any_json_in_any_field_is_read_without_a_panic(
        fields in prop::collection::vec(("messages|prompt|input|system|tools|options|context|images|keep_alive|suffix", r#"[\[\]{}:,"\\a1é ]{0,20}|\[\{"(content|role|type|text|images|input)":(1|"a\\n"|null|\[\]|\{\}|\["x",\{"content":\[\{"text":"b"\}\]\}\])\}\]"#), 0..4),
    ) {
        let members: Vec<String> = fields.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
        let body = format!("{{{}}}", members.join(","));
        for endpoint in [Endpoint::Chat, Endpoint::Responses, Endpoint::Messages] {
            if let Ok(parsed) = parse(&endpoint, body.as_bytes()) {
                parsed.facts(Family::default(), true);
                let _ = (parsed.load_only(), parsed.keep_alive(), parsed.num_ctx());
            }
        }
    }
}

#[test]
fn equal_beginnings_have_equal_hashes_and_a_conversation_is_uncut() {
    let chat = |first: &str, ask: &str| {
        serde_json::json!({"model": "m", "messages": [
            {"role": "system", "content": first}, {"role": "user", "content": ask}]})
        .to_string()
    };
    let long = "jar ".repeat(5000);
    let of = |body: &str| {
        let hasher = std::hash::DefaultHasher::new();
        parse(&Endpoint::Chat, body.as_bytes())
            .unwrap()
            .prefix(1024, 100, hasher)
    };
    let (one, two) = (
        of(&chat(&long, "one")),
        of(&chat(&long, "two, and more of it")),
    );
    assert_eq!(one.len(), 19);
    assert_eq!(one, two);
    // A difference at the start is one in every hash after it.
    let other = of(&chat(&format!("x{long}"), "one"));
    assert!(one.iter().zip(&other).all(|(one, other)| one != other));
    // The same words in another role are another prompt.
    let user = chat(&long, "one").replacen("system", "user", 1);
    assert_ne!(of(&user)[0], one[0]);
    assert!(of(&chat("short", "ask")).is_empty());
    let body = chat(&long, "line\n\u{e9}");
    let parsed = parse(&Endpoint::Chat, body.as_bytes()).unwrap();
    let said = parsed.conversation();
    assert_eq!(said.len(), 2);
    assert_eq!((said[0].0, said[0].1.len()), (TurnRole::System, 20_000));
    assert_eq!(said[1], (TurnRole::User, "line\n\u{e9}".to_owned()));
}
