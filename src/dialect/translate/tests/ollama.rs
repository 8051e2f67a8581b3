//! Ollama chat and generate in front of chat completions.

use serde_json::json;

use super::*;

const CHAT: &str = r#"{"model":"m","messages":[{"role":"user","content":"x"}]}"#;

#[test]
fn a_chat_streams_by_default_and_keeps_its_options() {
    let body = r#"{"model":"m","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"}],
        "options":{"temperature":0.70,"seed":1,"num_predict":10,"num_ctx":4096,"repeat_penalty":1.1,"stop":["a"],"num_gpu":1},
        "keep_alive":"5m"}"#;
    let translated = send(Form::OllamaChat, body);
    assert_eq!(translated.path, "/v1/chat/completions");
    assert!(translated.reply.streams());
    assert_eq!(
        String::from_utf8(translated.body).unwrap(),
        concat!(
            r#"{"model":"at-node","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"}],"#,
            r#""temperature":0.70,"seed":1,"stop":["a"],"repeat_penalty":1.1,"repetition_penalty":1.1,"max_tokens":10,"#,
            r#""stream":true,"stream_options":{"include_usage":true}}"#
        )
    );
}

#[test]
fn no_limit_on_the_answer_is_no_limit() {
    for limit in ["-1", "-2", "0"] {
        let body = format!(
            r#"{{"messages":[{{"role":"user","content":"x"}}],"options":{{"num_predict":{limit}}}}}"#
        );
        assert_eq!(sent(Form::OllamaChat, &body)["max_tokens"], Value::Null);
    }
    let wrong = r#"{"prompt":"x","options":{"num_predict":"many"}}"#;
    assert_eq!(
        refusal(Form::OllamaGenerate, wrong),
        "option \"num_predict\" must be of type integer"
    );
}

#[test]
fn calls_and_results_are_tied_by_the_same_ids_every_time() {
    let body = r#"{"stream":false,"messages":[{"role":"user","content":"x"},
        {"role":"assistant","content":"","thinking":"hm","tool_calls":[
            {"function":{"name":"a","arguments":{"n": 12345678901234567890123}}},
            {"function":{"name":"b","arguments":{}}},{"id":"own","function":{"name":"c","arguments":"{}"}}]},
        {"role":"tool","tool_name":"b","content":"B"},{"role":"tool","content":"A"},{"role":"tool","tool_call_id":"own","content":"C"}]}"#;
    let sent = sent(Form::OllamaChat, body);
    let messages = sent["messages"].as_array().unwrap();
    assert_eq!(messages[1]["reasoning_content"], "hm");
    assert_eq!(
        messages[1]["tool_calls"][0],
        json!({"id": "call_0", "type": "function", "function": {"name": "a", "arguments": "{\"n\": 12345678901234567890123}"}})
    );
    let ids: Vec<&Value> = messages[2..]
        .iter()
        .map(|message| &message["tool_call_id"])
        .collect();
    assert_eq!(ids, ["call_1", "call_0", "own"]);
    assert_eq!(sent["stream_options"], Value::Null);
}

#[test]
fn images_become_data_uris_of_their_type() {
    let body =
        r#"{"messages":[{"role":"user","content":"see","images":["iVBORw0KGgoAAA","/9j/4AAQ"]}]}"#;
    assert_eq!(
        sent(Form::OllamaChat, body)["messages"][0]["content"],
        json!([
            {"type": "text", "text": "see"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgoAAA"}},
            {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,/9j/4AAQ"}},
        ])
    );
    let wrong = r#"{"messages":[{"role":"user","content":"see","images":["<svg>"]}]}"#;
    assert_eq!(refusal(Form::OllamaChat, wrong), "an image is not base64");
}

#[test]
fn thinking_and_formats_are_asked_for() {
    let chat = |more: &str| {
        sent(
            Form::OllamaChat,
            &CHAT.replacen('{', &format!("{{{more},"), 1),
        )
    };
    assert_eq!(
        chat(r#""think":false"#)["chat_template_kwargs"],
        json!({"enable_thinking": false})
    );
    let high = chat(r#""think":"high""#);
    assert_eq!(high["reasoning_effort"], "high");
    assert_eq!(
        high["chat_template_kwargs"],
        json!({"enable_thinking": true})
    );
    assert_eq!(
        chat(r#""format":"json""#)["response_format"],
        json!({"type": "json_object"})
    );
    assert_eq!(
        chat(r#""format":{"type":"object"}"#)["response_format"],
        json!({"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}})
    );
    assert_eq!(chat(r#""format":"""#)["response_format"], Value::Null);
    let xml = CHAT.replacen('{', r#"{"format":"xml","#, 1);
    assert!(refusal(Form::OllamaChat, &xml).contains("`format`"));
}

#[test]
fn generate_is_a_chat_unless_it_is_raw_or_has_a_suffix() {
    let translated = send(
        Form::OllamaGenerate,
        r#"{"prompt":"p","system":"s","context":[1,2]}"#,
    );
    assert_eq!(translated.path, "/v1/chat/completions");
    let body: Value = serde_json::from_slice(&translated.body).unwrap();
    assert_eq!(
        body["messages"],
        json!([{"role": "system", "content": "s"}, {"role": "user", "content": "p"}])
    );
    for more in [r#""raw":true"#, r#""suffix":"z""#] {
        let translated = send(Form::OllamaGenerate, &format!(r#"{{"prompt":"p",{more}}}"#));
        assert_eq!(translated.path, "/v1/completions");
        let body: Value = serde_json::from_slice(&translated.body).unwrap();
        assert_eq!(body["prompt"], "p");
    }
}

#[test]
fn nothing_to_say_only_loads_or_unloads() {
    let answer = |form, body: &str| match act(form, body) {
        Ok(Action::LoadOnly { unload, answer }) => (unload, String::from_utf8(answer).unwrap()),
        other => panic!("{other:?}"),
    };
    let (unload, told) = answer(Form::OllamaChat, r#"{"model":"m","messages":[]}"#);
    assert!(!unload);
    assert_eq!(
        told,
        r#"{"model":"shown","created_at":"2026-11-20T21:46:10Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"load"}"#
    );
    for zero in ["0", "\"0s\"", "0.0"] {
        let (unload, told) = answer(Form::OllamaGenerate, &format!(r#"{{"keep_alive":{zero}}}"#));
        assert!(unload);
        assert!(told.ends_with(r#""response":"","done":true,"done_reason":"unload"}"#));
    }
    assert!(!answer(Form::OllamaGenerate, r#"{"keep_alive":"10m"}"#).0);
}

#[test]
fn a_stream_of_llama_server_becomes_ollamas_lines() {
    assert_eq!(
        stream(Form::OllamaChat, CHAT, LLAMA_STREAM),
        concat!(
            r#"{"model":"shown","created_at":"2026-11-20T21:46:10Z","message":{"role":"assistant","content":" world"},"done":false}"#,
            "\n",
            r#"{"model":"shown","created_at":"2026-11-20T21:46:10Z","message":{"role":"assistant","content":""},"done":true,"done_reason":"stop","#,
            r#""total_duration":5000,"prompt_eval_count":38,"prompt_eval_duration":220000,"eval_count":2,"eval_duration":207000}"#,
            "\n"
        )
    );
}

#[test]
fn what_the_node_does_not_tell_is_left_out() {
    let told = stream(Form::OllamaChat, CHAT, NO_USAGE_STREAM);
    assert!(
        told.ends_with("\"done\":true,\"done_reason\":\"stop\",\"total_duration\":5000}\n"),
        "{told}"
    );
    let mut reply = send(Form::OllamaChat, CHAT).reply;
    let mut out = Vec::new();
    let (head, tail) = OLLAMA_STREAM.split_at(OLLAMA_STREAM.len() - 14);
    reply.push(head, 100, &mut out);
    reply.push(tail, 350, &mut out);
    let told = String::from_utf8(out).unwrap();
    assert!(
        told.ends_with("\"prompt_eval_count\":38,\"eval_count\":2,\"eval_duration\":250}\n"),
        "{told}"
    );
}

#[test]
fn a_finish_reason_without_done_is_an_end() {
    let upstream = LLAMA_STREAM.strip_suffix(b"data: [DONE]\n\n").unwrap();
    assert_eq!(
        stream(Form::OllamaChat, CHAT, upstream).replace("9000", "5000"),
        stream(Form::OllamaChat, CHAT, LLAMA_STREAM)
    );
}

#[test]
fn fragments_of_calls_become_whole_calls_with_objects() {
    let told = stream(Form::OllamaChat, CHAT, TOOLS_STREAM);
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 5);
    assert!(lines[0].contains(r#""content":"","thinking":"Let me "}"#));
    assert!(lines[2].contains("Já vou 🦀"));
    assert!(lines[3].ends_with(concat!(
        r#""message":{"role":"assistant","content":"","tool_calls":["#,
        r#"{"id":"abc","function":{"index":0,"name":"get_time","arguments":{"zone": "UTC", "n": 12345678901234567890123}}},"#,
        r#"{"id":"call_7f_1","function":{"index":1,"name":"now","arguments":{}}}]},"done":false}"#
    )), "{}", lines[3]);
    assert!(lines[4].contains(r#""done_reason":"stop""#));
}

#[test]
fn a_call_cut_short_by_the_limit_is_left_out_and_a_broken_one_is_an_error() {
    let upstream = |reason: &str| {
        format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"tool_calls\":[{{\"index\":0,\"id\":\"x\",\"function\":{{\"name\":\"f\",\"arguments\":\"{{\"}}}}]}},\"finish_reason\":\"{reason}\"}}]}}\n\ndata: [DONE]\n\n"
        )
    };
    let told = stream(Form::OllamaChat, CHAT, upstream("length").as_bytes());
    assert_eq!(told.lines().count(), 1);
    assert!(told.contains(r#""done_reason":"length""#));
    let mut reply = send(Form::OllamaChat, CHAT).reply;
    let mut out = Vec::new();
    reply.push(upstream("tool_calls").as_bytes(), 1, &mut out);
    assert!(reply.upstream_error().unwrap().contains("`f`"));
    assert!(out.is_empty());
}

#[test]
fn a_generate_stream_of_plain_completions() {
    let told = stream(
        Form::OllamaGenerate,
        r#"{"prompt":"p","raw":true}"#,
        LLAMA_COMPLETIONS,
    );
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(
        lines[0],
        r#"{"model":"shown","created_at":"2026-11-20T21:46:10Z","response":" advantages","done":false}"#
    );
    assert_eq!(lines.len(), 5);
    assert!(lines[4].contains(r#""response":"","done":true,"done_reason":"length""#));
    assert!(lines[4].contains(r#""eval_count":4,"eval_duration":577000"#));
}

#[test]
fn a_whole_answer_is_one_object() {
    let body = CHAT.replacen('{', r#"{"stream":false,"#, 1);
    let translated = send(Form::OllamaChat, &body);
    assert_eq!(
        translated.reply.content_type(),
        "application/json; charset=utf-8"
    );
    assert_eq!(
        whole(Form::OllamaChat, &body, LLAMA_WHOLE),
        concat!(
            r#"{"model":"shown","created_at":"2026-11-20T21:46:10Z","message":{"role":"assistant","content":" world"},"done":true,"done_reason":"stop","#,
            r#""total_duration":9000,"prompt_eval_count":38,"prompt_eval_duration":3425000,"eval_count":2,"eval_duration":272000}"#
        )
    );
    let with = whole(Form::OllamaChat, &body, LLAMA_LOGPROBS);
    assert!(with.contains(r#""logprobs":[{"id":660,"token":" world","bytes":[32,119,111,114,108,100],"logprob":-4.043096542358398,"#));
}
