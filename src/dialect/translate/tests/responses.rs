//! OpenAI responses in front of chat completions.

use serde_json::json;

use super::*;

const STREAM: &str = r#"{"model":"m","input":"Hello","stream":true}"#;

#[test]
fn items_become_chat_messages_with_one_system_message() {
    let body = r#"{"model":"m","instructions":"I","max_output_tokens":6,"temperature":0.50,"reasoning":{"effort":"minimal","summary":"auto"},
        "text":{"format":{"type":"json_schema","name":"s","strict":true,"schema":{"type":"object"}}},
        "tools":[{"type":"function","name":"f","description":"d","parameters":{"type":"object"},"strict":false}],
        "tool_choice":{"type":"function","name":"f"},"parallel_tool_calls":false,"store":false,"include":[],
        "input":[{"type":"message","role":"developer","content":[{"type":"input_text","text":"D"}]},
          {"role":"user","content":[{"type":"input_text","text":"See"},{"type":"input_image","image_url":"data:x","detail":"low"}]},
          {"type":"reasoning","id":"rs_1","summary":[]},
          {"type":"message","role":"assistant","content":[{"type":"output_text","text":"Ok","annotations":[]}]},
          {"type":"function_call","call_id":"c1","name":"f","arguments":"{\"n\": 1.50}"},
          {"type":"function_call","call_id":"c2","name":"f","arguments":"{}"},
          {"type":"function_call_output","call_id":"c1","output":"R"},
          {"type":"function_call_output","call_id":"c2","output":[{"type":"input_text","text":"S"},{"type":"input_image","image_url":"data:y"}]}]}"#;
    let sent = sent(Form::Responses, body);
    let call = |id: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": arguments}});
    assert_eq!(
        sent["messages"],
        json!([
            {"role": "system", "content": "I\n\nD"},
            {"role": "user", "content": [{"type": "text", "text": "See"}, {"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}}]},
            {"role": "assistant", "content": "Ok", "tool_calls": [call("c1", "{\"n\": 1.50}"), call("c2", "{}")]},
            {"role": "tool", "content": "R", "tool_call_id": "c1"},
            {"role": "tool", "content": "S", "tool_call_id": "c2"},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:y"}}]},
        ])
    );
    assert_eq!(sent["max_tokens"], 6);
    assert_eq!(sent["reasoning_effort"], "low");
    assert_eq!(
        sent["response_format"]["json_schema"],
        json!({"name": "s", "schema": {"type": "object"}, "strict": true})
    );
    assert_eq!(
        sent["tool_choice"],
        json!({"type": "function", "function": {"name": "f"}})
    );
    assert_eq!(
        sent["tools"][0]["function"],
        json!({"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": false})
    );
}

#[test]
fn what_needs_a_store_or_a_service_is_refused_by_name() {
    for (body, word) in [
        (
            r#"{"input":"x","previous_response_id":"resp_1"}"#,
            "previous_response_id",
        ),
        (
            r#"{"input":"x","tools":[{"type":"web_search"}]}"#,
            "web_search",
        ),
        (
            r#"{"input":[{"type":"item_reference","id":"x"}]}"#,
            "item_reference",
        ),
        (
            r#"{"input":[{"role":"user","content":[{"type":"input_file","file_id":"f"}]}]}"#,
            "input_file",
        ),
        (r#"{"model":"m"}"#, "input"),
        (r#"{"input":[]}"#, "input"),
    ] {
        assert!(refusal(Form::Responses, body).contains(word), "{body}");
    }
}

#[test]
fn a_text_stream_has_the_typed_events_in_order() {
    let told = events(&stream(Form::Responses, STREAM, LLAMA_STREAM));
    assert_eq!(
        types(&told),
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    for (number, event) in told.iter().enumerate() {
        assert_eq!(event["sequence_number"], number);
    }
    assert_eq!(told[4]["delta"], " world");
    assert_eq!(told[4]["item_id"], told[2]["item"]["id"]);
    let response = &told[8]["response"];
    assert_eq!(response["id"], "resp_7f");
    assert_eq!(response["status"], "completed");
    assert_eq!(response["output"], json!([told[7]["item"]]));
    assert_eq!(
        response["usage"],
        json!({"input_tokens": 38, "input_tokens_details": {"cached_tokens": 37, "cache_write_tokens": 0}, "output_tokens": 2,
            "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 40})
    );
}

#[test]
fn reasoning_and_calls_are_items_of_their_own() {
    let told = events(&stream(Form::Responses, STREAM, TOOLS_STREAM));
    let output = told.last().unwrap()["response"]["output"].clone();
    let kinds: Vec<&str> = output
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        ["reasoning", "message", "function_call", "function_call"]
    );
    assert_eq!(output[0]["content"][0]["text"], "Let me see");
    assert_eq!(
        output[2],
        json!({"id": "fc_7f_2", "type": "function_call", "status": "completed", "call_id": "abc", "name": "get_time",
            "arguments": "{\"zone\": \"UTC\",\n\"n\": 12345678901234567890123}"})
    );
    assert_eq!(output[3]["arguments"], "{}");
    for call in [2, 3] {
        let deltas: String = told
            .iter()
            .filter(|event| {
                event["type"] == "response.function_call_arguments.delta"
                    && event["output_index"] == call
            })
            .map(|event| event["delta"].as_str().unwrap())
            .collect();
        assert_eq!(output[call]["arguments"], deltas);
    }
}

#[test]
fn a_whole_answer_repeats_what_was_asked() {
    let body = r#"{"model":"m","input":"Hello","temperature":0.50,"tools":[{"type":"function","name":"f",
        "parameters":{}}]}"#;
    let text = whole(Form::Responses, body, LLAMA_WHOLE);
    assert!(text.contains(r#""temperature":0.50"#));
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(told["object"], "response");
    assert_eq!(told["created_at"], 1_795_209_373);
    assert_eq!(told["output"][0]["content"][0]["text"], " world");
    assert_eq!(told["tools"][0]["name"], "f");
    assert_eq!(told["parallel_tool_calls"], true);
}

#[test]
fn an_answer_cut_by_the_limit_is_incomplete() {
    let told = events(&stream(Form::Responses, STREAM, LLAMA_COMPLETIONS));
    let last = told.last().unwrap();
    assert_eq!(last["type"], "response.incomplete");
    assert_eq!(
        last["response"]["incomplete_details"],
        json!({"reason": "max_output_tokens"})
    );
    let text = whole(
        Form::Responses,
        r#"{"input":"x"}"#,
        br#"{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"length"}]}"#,
    );
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(told["status"], "incomplete");
    assert_eq!(told["usage"], Value::Null);
}
