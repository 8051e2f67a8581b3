//! Anthropic messages in front of chat completions.

use serde_json::json;

use super::*;

const STREAM: &str =
    r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}],"stream":true}"#;
const WHOLE: &str = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}]}"#;

#[test]
fn a_conversation_with_tools_and_images_becomes_chat_messages() {
    let body = r#"{"model":"m","max_tokens":100,"system":[{"type":"text","text":"One","cache_control":{"type":"ephemeral"}},{"type":"text","text":"Two"}],
        "stop_sequences":["END"],"temperature":0.50,"top_k":5,"metadata":{"user_id":"u"},
        "thinking":{"type":"enabled","budget_tokens":2048},
        "tools":[{"name":"look","description":"d","input_schema":{"type":"object","properties":{"a":{"maximum":1.50}}}}],
        "tool_choice":{"type":"any","disable_parallel_tool_use":true},
        "messages":[
          {"role":"user","content":[{"type":"text","text":"See"},{"type":"image","source":{"type":"base64","media_type":"image/png","data":"AAAA"}}]},
          {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":""},{"type":"text","text":"Ok"},
             {"type":"tool_use","id":"t1","name":"look","input":{"n": 1.50}}]},
          {"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","is_error":true,"content":[{"type":"text","text":"bad"},
             {"type":"image","source":{"type":"url","url":"http://i/x.png"}}]},{"type":"text","text":"And?"}]},
          {"role":"user","content":[{"type":"document","title":"T","source":{"type":"text","media_type":"text/plain","data":"body"}}]}]}"#;
    let translated = send(Form::Messages, body);
    let text = String::from_utf8(translated.body).unwrap();
    assert!(text.contains(r#""temperature":0.50"#) && text.contains(r#""maximum":1.50"#));
    let sent: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        sent["messages"],
        json!([
            {"role": "system", "content": "One\n\nTwo"},
            {"role": "user", "content": [{"type": "text", "text": "See"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]},
            {"role": "assistant", "content": "Ok", "reasoning_content": "hm",
             "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "look", "arguments": "{\"n\": 1.50}"}}]},
            {"role": "tool", "content": "Error: bad", "tool_call_id": "t1"},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://i/x.png"}}, {"type": "text", "text": "And?"}]},
            {"role": "user", "content": "T\nbody"},
        ])
    );
    assert_eq!(sent["stop"], json!(["END"]));
    assert_eq!(sent["max_tokens"], 100);
    assert_eq!(sent["user"], "u");
    assert_eq!(sent["thinking_budget_tokens"], 2048);
    assert_eq!(sent["tool_choice"], "required");
    assert_eq!(sent["parallel_tool_calls"], false);
    assert_eq!(sent["tools"][0]["function"]["name"], "look");
    assert_eq!(sent["stream"], false);
}

#[test]
fn what_only_anthropics_service_knows_is_refused_by_name() {
    let with = |more: &str| {
        refusal(
            Form::Messages,
            &WHOLE.replacen('{', &format!("{{{more},"), 1),
        )
    };
    assert!(
        with(r#""tools":[{"type":"web_search_20250305","name":"web_search"}]"#)
            .contains("web_search_20250305")
    );
    assert!(with(r#""mcp_servers":[{"url":"x"}]"#).contains("mcp_servers"));
    assert!(with(r#""output_format":{"type":"yaml"}"#).contains("yaml"));
    let block = r#"{"messages":[{"role":"user","content":[{"type":"document","source":{"type":"base64","data":"JVBE"}}]}]}"#;
    assert!(refusal(Form::Messages, block).contains("base64"));
    assert!(refusal(Form::Messages, r#"{"messages":[]}"#).contains("messages"));
}

#[test]
fn a_text_stream_has_anthropics_events_in_order() {
    let told = events(&stream(Form::Messages, STREAM, LLAMA_STREAM));
    assert_eq!(
        Value::Array(told),
        json!([
            {"type": "message_start", "message": {"id": "msg_7f", "type": "message", "role": "assistant", "model": "shown", "content": [],
                "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 0, "output_tokens": 0}}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " world"}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null},
                "usage": {"input_tokens": 1, "cache_read_input_tokens": 37, "output_tokens": 2}},
            {"type": "message_stop"},
        ])
    );
}

#[test]
fn thinking_text_and_calls_are_blocks_of_their_own() {
    let told = events(&stream(Form::Messages, STREAM, TOOLS_STREAM));
    let deltas: Vec<&Value> = told
        .iter()
        .filter(|event| event["type"] == "content_block_delta")
        .collect();
    assert_eq!(
        deltas[0],
        &json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Let me "}})
    );
    assert_eq!(deltas[2]["index"], 1);
    let input: String = deltas[3..]
        .iter()
        .map(|delta| delta["delta"]["partial_json"].as_str().unwrap())
        .collect();
    assert_eq!(
        input,
        "{\"zone\": \"UTC\",\n\"n\": 12345678901234567890123}"
    );
    let starts: Vec<&Value> = told
        .iter()
        .filter(|event| event["type"] == "content_block_start")
        .collect();
    assert_eq!(
        starts[2]["content_block"],
        json!({"type": "tool_use", "id": "abc", "name": "get_time", "input": {}})
    );
    assert_eq!(starts[3]["content_block"]["id"], "call_7f_1");
    assert_eq!(
        types(&told)
            .iter()
            .filter(|kind| **kind == "content_block_stop")
            .count(),
        4
    );
    let end = &told[told.len() - 2];
    assert_eq!(end["delta"]["stop_reason"], "tool_use");
    assert_eq!(
        end["usage"],
        json!({"input_tokens": 10, "cache_read_input_tokens": 40, "output_tokens": 20})
    );
}

#[test]
fn a_whole_answer_is_one_message() {
    assert_eq!(
        whole(Form::Messages, WHOLE, LLAMA_WHOLE),
        concat!(
            r#"{"id":"msg_7f","type":"message","role":"assistant","model":"shown","content":[{"type":"text","text":" world"}],"#,
            r#""stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":38,"cache_read_input_tokens":0,"output_tokens":2}}"#
        )
    );
    let calls = br#"{"choices":[{"index":0,"finish_reason":"tool_calls","message":{"content":null,"reasoning":"hm","tool_calls":[
        {"id":"a","type":"function","function":{"name":"f","arguments":"{\"n\": 1.50}"}}]}}]}"#;
    let told = whole(Form::Messages, WHOLE, calls);
    assert!(told.contains(concat!(
        r#""content":[{"type":"thinking","thinking":"hm","signature":""},{"type":"tool_use","id":"a","name":"f","input":{"n": 1.50}}],"#,
        r#""stop_reason":"tool_use""#
    )), "{told}");
}

#[test]
fn the_reason_to_stop_is_told_in_anthropics_words() {
    for (choice, reason, sequence) in [
        (r#""finish_reason":"length""#, "max_tokens", Value::Null),
        (
            r#""finish_reason":"stop","stop_reason":"END""#,
            "stop_sequence",
            json!("END"),
        ),
        (
            r#""finish_reason":"stop","stop_reason":null"#,
            "end_turn",
            Value::Null,
        ),
        (
            r#""finish_reason":"content_filter""#,
            "refusal",
            Value::Null,
        ),
    ] {
        let answer =
            format!(r#"{{"choices":[{{"index":0,"message":{{"content":"x"}},{choice}}}]}}"#);
        let told: Value =
            serde_json::from_str(&whole(Form::Messages, WHOLE, answer.as_bytes())).unwrap();
        assert_eq!(told["stop_reason"], reason);
        assert_eq!(told["stop_sequence"], sequence);
    }
}
