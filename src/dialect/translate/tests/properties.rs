//! What holds for any bytes and any cut.

use proptest::prelude::*;

use super::*;

const FORMS: [(Form, &str); 4] = [
    (
        Form::OllamaChat,
        r#"{"messages":[{"role":"user","content":"x"}]}"#,
    ),
    (Form::OllamaGenerate, r#"{"prompt":"x"}"#),
    (
        Form::Messages,
        r#"{"messages":[{"role":"user","content":"x"}],"stream":true}"#,
    ),
    (Form::Responses, r#"{"input":"x","stream":true}"#),
];

const STREAMS: [&[u8]; 5] = [
    LLAMA_STREAM,
    LLAMA_COMPLETIONS,
    OLLAMA_STREAM,
    NO_USAGE_STREAM,
    TOOLS_STREAM,
];

#[test]
fn a_cut_at_any_byte_changes_nothing() {
    for (form, body) in FORMS {
        for upstream in STREAMS {
            let uncut = stream(form, body, upstream);
            let bytes: Vec<&[u8]> = upstream.chunks(1).collect();
            assert_eq!(stream_in(form, body, &bytes), uncut);
        }
        // Two pieces in every way, for the stream that has everything.
        let uncut = stream(form, body, TOOLS_STREAM);
        for at in 0..=TOOLS_STREAM.len() {
            let (head, tail) = TOOLS_STREAM.split_at(at);
            assert_eq!(
                stream_in(form, body, &[head, tail]),
                uncut,
                "{form:?} cut at {at}"
            );
        }
    }
}

#[test]
fn a_stream_that_stops_before_its_finish_reason_never_looks_complete() {
    for (form, body) in FORMS {
        for upstream in STREAMS {
            let said = |at: usize| {
                String::from_utf8_lossy(&upstream[..at]).contains(r#"finish_reason":""#)
                    || String::from_utf8_lossy(&upstream[..at]).contains(r#"finish_reason": ""#)
            };
            for at in 0..upstream.len() {
                if said(at) {
                    break;
                }
                let mut reply = send(form, body).reply;
                let mut out = Vec::new();
                reply.push(&upstream[..at], 1, &mut out);
                assert!(
                    reply.finish(2, &mut out).is_err(),
                    "{form:?} stopped at {at}"
                );
                let text = String::from_utf8(out).unwrap();
                for terminal in [r#""done":true"#, "message_stop", "response.completed"] {
                    assert!(!text.contains(terminal), "{form:?} stopped at {at}");
                }
            }
        }
    }
}

#[test]
fn the_terminal_event_is_written_once() {
    for (form, body) in FORMS {
        let mut reply = send(form, body).reply;
        let mut out = Vec::new();
        reply.push(LLAMA_STREAM, 1, &mut out);
        let length = out.len();
        assert!(reply.terminal_seen() && reply.content_seen());
        reply.push(LLAMA_STREAM, 2, &mut out);
        assert_eq!(reply.finish(3, &mut out), Ok(()));
        reply.fail("too late", &mut out);
        assert_eq!(out.len(), length);
    }
}

#[test]
fn an_error_inside_the_stream_is_told_and_ends_it() {
    let errors = [
        r#"data: {"error":{"code":500,"message":"boom","type":"server_error"}}"#,
        r#"data: {"error":"boom"}"#,
        r#"error: {"code":500,"message":"boom","type":"server_error"}"#,
        r#"data: {"object":"error","message":"boom","code":500}"#,
    ];
    for (form, body) in FORMS {
        for error in errors {
            let mut reply = send(form, body).reply;
            let mut out = Vec::new();
            reply.push(format!("{error}\n\n").as_bytes(), 1, &mut out);
            assert_eq!(reply.upstream_error(), Some("boom"), "{error}");
            reply.push(b"data: [DONE]\n\n", 1, &mut out);
            assert_eq!(reply.finish(2, &mut out).unwrap_err().reason, "boom");
            assert!(out.is_empty());
            reply.fail("boom", &mut out);
            let told = String::from_utf8(out).unwrap();
            assert!(told.contains("boom"));
            let first = told.strip_prefix("event: error\ndata: ").unwrap_or(&told);
            let first = first.lines().next().unwrap();
            assert!(serde_json::from_str::<Value>(first).unwrap()["error"] != Value::Null);
            let failed = told.contains("event: response.failed\ndata: ");
            assert_eq!(failed, form == Form::Responses, "{told}");
        }
    }
}

#[test]
fn a_client_that_asked_for_a_stream_gets_one_from_a_whole_answer() {
    for (form, body) in FORMS {
        let told = whole(form, body, LLAMA_WHOLE);
        assert!(told.contains(" world"));
        assert!(
            told.contains(r#""done":true"#)
                || told.contains("message_stop")
                || told.contains("response.completed")
        );
    }
}

#[test]
fn an_answer_without_a_choice_is_refused() {
    for (form, body) in FORMS {
        for answer in [
            "{}",
            "[]",
            "null",
            r#"{"choices":[]}"#,
            r#"{"error":"no"}"#,
            "x",
        ] {
            assert!(
                send(form, body).reply.whole(answer.as_bytes(), 1).is_err(),
                "{answer}"
            );
        }
    }
}

#[test]
fn a_deeply_nested_request_is_an_error_not_a_crash() {
    for form in [Form::OllamaChat, Form::Messages, Form::Responses] {
        let deep = "[".repeat(100_000);
        for body in [
            deep.clone(),
            format!(r#"{{"messages":{deep}"#),
            format!(r#"{{"input":{deep}"#),
        ] {
            assert!(act(form, &body).is_err());
        }
    }
}

fn any_form() -> impl Strategy<Value = Form> {
    prop::sample::select(vec![
        Form::OllamaChat,
        Form::OllamaGenerate,
        Form::OllamaEmbed,
        Form::OllamaLegacyEmbeddings,
        Form::Messages,
        Form::Responses,
    ])
}

/// Bytes that are nearly right: pieces of real streams with something cut out and something put in.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let source = prop::sample::select(STREAMS.to_vec());
    (
        source,
        any::<prop::sample::Index>(),
        0..40_usize,
        "[\\[\\]{}\",:a-z0-9\\n]{0,8}",
    )
        .prop_map(|(source, at, cut, put)| {
            let at = at.index(source.len());
            let mut bytes = source[..at].to_vec();
            bytes.extend_from_slice(put.as_bytes());
            bytes.extend_from_slice(&source[(at + cut).min(source.len())..]);
            bytes
        })
}

proptest! {
    #[test]
    fn any_request_is_translated_or_refused(form in any_form(), body in any::<Vec<u8>>(), text in "[\\[\\]{}\",:a-z0-9]{0,60}") {
        let _ = request(form, &body, "n", "s", stamp());
        let _ = request(form, text.as_bytes(), "n", "s", stamp());
    }

    #[test]
    fn any_answer_is_told_or_refused_and_every_line_is_json(which in 0..4_usize, bytes in nearly(), noise in any::<Vec<u8>>()) {
        let (form, body) = FORMS[which];
        let _ = send(form, body).reply.whole(&bytes, 1);
        for upstream in [bytes, noise] {
            let mut reply = send(form, body).reply;
            let mut out = Vec::new();
            reply.push(&upstream, 1, &mut out);
            let _ = reply.finish(2, &mut out);
            for line in String::from_utf8(out).unwrap().lines() {
                let data = line.strip_prefix("data: ").unwrap_or(line);
                if !data.is_empty() && !data.starts_with("event: ") {
                    prop_assert!(serde_json::from_str::<Value>(data).is_ok());
                }
            }
        }
    }
}
