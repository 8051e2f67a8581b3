//! What came in another API's form, in Ollama's own, and its answers back.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{ForeignForm, NativeSettings, Translated, to_ollama};
use super::stamp;

const PLAIN: NativeSettings<'_> = NativeSettings {
    options: &[],
    refuses_long: false,
};

fn translated(form: ForeignForm, body: &Value) -> Translated {
    to_ollama(
        form,
        body.to_string().as_bytes(),
        "at-node",
        "shown",
        PLAIN,
        stamp(),
    )
    .unwrap()
}

fn sent(form: ForeignForm, body: &Value) -> Value {
    serde_json::from_slice(&translated(form, body).body).unwrap()
}

fn refusal(form: ForeignForm, body: &Value) -> String {
    let body = body.to_string();
    let done = to_ollama(form, body.as_bytes(), "at-node", "shown", PLAIN, stamp());
    done.unwrap_err().message
}

fn streamed(form: ForeignForm, body: &Value, pieces: &[&[u8]]) -> String {
    let mut reply = translated(form, body).reply;
    let mut out = Vec::new();
    for piece in pieces {
        reply.push(piece, 5_000, &mut out);
    }
    reply.finish(9_000, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn said() -> Value {
    json!([{"role": "user", "content": "Hi"}])
}

#[test]
fn a_chat_completion_is_said_with_openai_s_defaults_and_what_it_could_not_say() {
    let options = [("num_ctx", "16384".to_owned())];
    let settings = NativeSettings {
        options: &options,
        refuses_long: true,
    };
    let body = json!({"model": "m", "messages": said(), "user": "u", "n": 1, "logit_bias": {}});
    let body = body.to_string();
    let done = to_ollama(
        ForeignForm::ChatCompletions,
        body.as_bytes(),
        "at-node",
        "shown",
        settings,
        stamp(),
    )
    .unwrap();
    assert_eq!(done.path, "/api/chat");
    assert_eq!(
        String::from_utf8(done.body).unwrap(),
        concat!(
            r#"{"model":"at-node","messages":[{"role":"user","content":"Hi"}],"stream":false,"#,
            r#""options":{"temperature":1.0,"top_p":1.0,"num_ctx":16384},"truncate":false}"#
        )
    );
}

#[test]
fn every_setting_keeps_its_meaning_and_its_spelling() {
    let body = r#"{"messages":[{"role":"user","content":"x"}],"max_completion_tokens":5,"seed":1,"stop":"a","temperature":0.70,
        "top_p":0.90,"frequency_penalty":1e-1,"presence_penalty":-0.5,"reasoning_effort":"low","logprobs":true,"top_logprobs":2,
        "tools":[{"type":"function","function":{"name":"f","parameters":{"n":12345678901234567890123}}}],
        "response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"integer"}}}}"#;
    let done = to_ollama(
        ForeignForm::ChatCompletions,
        body.as_bytes(),
        "m",
        "m",
        PLAIN,
        stamp(),
    )
    .unwrap();
    let text = String::from_utf8(done.body).unwrap();
    for kept in [
        r#""options":{"stop":["a"],"num_predict":5,"temperature":0.70,"top_p":0.90,"seed":1,"frequency_penalty":1e-1,"presence_penalty":-0.5}"#,
        r#""format":{"type":"integer"}"#,
        r#""think":"low","logprobs":true,"top_logprobs":2"#,
        r#""parameters":{"n":12345678901234567890123}"#,
    ] {
        assert!(text.contains(kept), "{kept}: {text}");
    }
    let object = json!({"messages": said(), "response_format": {"type": "json_object"},
                        "reasoning": {"effort": "none"}, "max_tokens": 1, "max_completion_tokens": 2});
    let object = sent(ForeignForm::ChatCompletions, &object);
    assert_eq!(
        (&object["format"], &object["think"]),
        (&json!("json"), &json!(false))
    );
    assert_eq!(object["options"]["num_predict"], 1);
}

#[test]
fn parts_calls_and_results_are_messages_as_ollama_makes_them() {
    let body = json!({"messages": [
        {"role": "user", "content": [{"type": "text", "text": "a"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]},
        {"role": "assistant", "content": null, "reasoning": "hm", "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1.50}"}}]},
        {"role": "tool", "tool_call_id": "c1", "content": "42"}]});
    let sent = sent(ForeignForm::ChatCompletions, &body);
    assert_eq!(
        sent["messages"],
        json!([
            {"role": "user", "content": "a"},
            {"role": "user", "content": "", "images": ["iVBORw0KGgo="]},
            {"role": "assistant", "content": "", "thinking": "hm",
             "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": {"x": 1.5}}}]},
            {"role": "tool", "content": "42", "tool_name": "f", "tool_call_id": "c1"}
        ])
    );
}

#[test]
fn what_only_the_node_can_judge_is_not_put_into_other_words() {
    let chat = ForeignForm::ChatCompletions;
    let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}]);
    for (body, word) in [
        (
            json!({"messages": said(), "tool_choice": "required"}),
            "tool_choice",
        ),
        (
            json!({"messages": said(), "reasoning_effort": "boundless"}),
            "effort",
        ),
        (json!({"messages": image}), "image"),
        (
            json!({"messages": [{"role": "user", "content": null}]}),
            "content",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "audio"}]}]}),
            "audio",
        ),
        (json!({"messages": []}), "generated"),
        (json!({"messages": 7}), "invalid"),
    ] {
        assert!(refusal(chat, &body).contains(word), "{body}");
    }
    let auto = json!({"messages": said(), "tool_choice": "auto"});
    assert_eq!(sent(chat, &auto)["messages"], said());
}

#[test]
fn messages_and_responses_are_said_too_with_the_defaults_of_each() {
    let messages = json!({"model": "m", "max_tokens": 9, "system": "Be kind.", "messages": said(), "top_k": 3});
    let sent_messages = sent(ForeignForm::Messages, &messages);
    assert_eq!(
        sent_messages["messages"][0],
        json!({"role": "system", "content": "Be kind."})
    );
    assert_eq!(
        sent_messages["options"],
        json!({"num_predict": 9, "top_k": 3})
    );
    let responses =
        json!({"model": "m", "input": "Hi", "instructions": "Be kind.", "max_output_tokens": 9});
    let sent_responses = sent(ForeignForm::Responses, &responses);
    assert_eq!(
        sent_responses["options"],
        json!({"num_predict": 9, "temperature": 1.0, "top_p": 1.0})
    );
    assert_eq!(sent_responses["messages"].as_array().map(Vec::len), Some(2));
}

/// As Ollama 0.32 writes it; the call by hand, because the tiny model of the recordings makes none.
const LINES: &str = concat!(
    r#"{"model":"tiny","created_at":"2026-11-20T21:46:10.05Z","message":{"role":"assistant","content":"","thinking":"hm"},"done":false}"#,
    "\n",
    r#"{"model":"tiny","created_at":"2026-11-20T21:46:10.05Z","message":{"role":"assistant","content":" wörld"},"done":false}"#,
    "\n",
    r#"{"model":"tiny","created_at":"2026-11-20T21:46:10.05Z","message":{"role":"assistant","content":"","tool_calls":[{"id":"call_x","function":{"index":0,"name":"f","arguments":{"n":12345678901234567890123}}}]},"done":false}"#,
    "\n",
    r#"{"model":"tiny","created_at":"2026-11-20T21:46:10.05Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","total_duration":6580706,"load_duration":393632,"prompt_eval_count":38,"prompt_eval_duration":457000,"eval_count":2,"eval_duration":199000}"#,
    "\n",
);

fn asks_for_a_stream() -> Value {
    json!({"model": "m", "messages": said(), "stream": true, "max_tokens": 9, "stream_options": {"include_usage": true}})
}

#[test]
fn lines_become_chunks() {
    let told = streamed(
        ForeignForm::ChatCompletions,
        &asks_for_a_stream(),
        &[LINES.as_bytes()],
    );
    let head = r#"{"id":"chatcmpl-7f","object":"chat.completion.chunk","created":1795209373,"model":"shown","system_fingerprint":"fp_ollama","choices":["#;
    let deltas = [
        r#"{"index":0,"delta":{"role":"assistant","content":"","reasoning":"hm"},"finish_reason":null}]}"#,
        r#"{"index":0,"delta":{"content":" wörld"},"finish_reason":null}]}"#,
        r#"{"index":0,"delta":{"content":"","tool_calls":[{"id":"call_x","index":0,"type":"function","function":{"name":"f","arguments":"{\"n\":12345678901234567890123}"}}]},"finish_reason":null}]}"#,
        r#"{"index":0,"delta":{},"finish_reason":"tool_calls"}]}"#,
        r#"],"usage":{"prompt_tokens":38,"completion_tokens":2,"total_tokens":40}}"#,
    ];
    let mut expected: Vec<String> = deltas
        .iter()
        .map(|delta| format!("data: {head}{delta}"))
        .collect();
    expected.push("data: [DONE]\n\n".to_owned());
    let expected = expected.join("\n\n");
    assert_eq!(told, expected);
}

#[test]
fn a_whole_answer_and_its_counters_come_back() {
    let body = r#"{"model":"tiny","created_at":"x","message":{"role":"assistant","content":"Hi"},"done":true,"done_reason":"length","prompt_eval_count":38,"prompt_eval_duration":2068000,"eval_count":2,"eval_duration":391000}"#;
    let asks = json!({"model": "m", "messages": said()});
    let mut reply = translated(ForeignForm::ChatCompletions, &asks).reply;
    assert_eq!(reply.content_type(), "application/json");
    let told: Value =
        serde_json::from_slice(&reply.whole(body.as_bytes(), 9_000).unwrap()).unwrap();
    assert_eq!(
        told["choices"],
        json!([{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "length"}])
    );
    assert_eq!(reply.usage(), (Some(38), Some(2), None));
    assert_eq!(reply.times(), (Some(2_068_000), Some(391_000)));
    let asks = json!({"model": "m", "messages": said(), "max_tokens": 2});
    let mut reply = translated(ForeignForm::Messages, &asks).reply;
    let told: Value =
        serde_json::from_slice(&reply.whole(body.as_bytes(), 9_000).unwrap()).unwrap();
    assert_eq!(told["stop_reason"], "max_tokens");
    assert_eq!(told["usage"]["input_tokens"], 38);
}

#[test]
fn an_error_or_a_cut_within_the_lines_is_no_clean_end() {
    let first = LINES.split_inclusive('\n').next().unwrap();
    let error =
        "{\"error\":\"an error was encountered while running the model: unexpected EOF\"}\n";
    for (rest, reason) in [
        (error, "unexpected EOF"),
        ("", "before the answer was complete"),
        ("{\"x\":1}\n", "without a message"),
        ("nonsense\n", "not JSON"),
    ] {
        let mut reply = translated(ForeignForm::ChatCompletions, &asks_for_a_stream()).reply;
        let mut out = Vec::new();
        reply.push(first.as_bytes(), 1, &mut out);
        reply.push(rest.as_bytes(), 2, &mut out);
        let told = reply.finish(3, &mut out).unwrap_err();
        assert!(told.reason.contains(reason), "{rest}: {told}");
        reply.fail(&told.reason, &mut out);
        let told = String::from_utf8(out).unwrap();
        assert!(
            !told.contains("finish_reason\":\"") && told.ends_with("data: [DONE]\n\n"),
            "{told}"
        );
    }
}

proptest! {
    #[test]
    fn pieces_may_be_cut_anywhere(size in 1usize..200) {
        for form in [ForeignForm::ChatCompletions, ForeignForm::Messages] {
            let pieces: Vec<&[u8]> = LINES.as_bytes().chunks(size).collect();
            let whole = streamed(form, &asks_for_a_stream(), &[LINES.as_bytes()]);
            prop_assert_eq!(streamed(form, &asks_for_a_stream(), &pieces), whole);
        }
    }

    #[test]
    fn no_body_panics(text in ".{0,200}", key in "(messages|tools|stop|reasoning|stream_options|response_format)") {
        let value = Value::from(text.clone());
        let body = json!({"messages": said(), key: value});
        for form in [ForeignForm::ChatCompletions, ForeignForm::Messages, ForeignForm::Responses] {
            let _ = to_ollama(form, body.to_string().as_bytes(), "m", "m", PLAIN, stamp());
            let _ = to_ollama(form, text.as_bytes(), "m", "m", PLAIN, stamp());
        }
    }
}
