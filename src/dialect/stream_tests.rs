//! Tests of the scanner that follows streams.

use proptest::prelude::*;

use super::super::wire_samples::body_of;
use super::*;

const STREAMS: [(&str, StreamForm); 9] = [
    ("ollama-0.32.15-cpu/chat_stream.txt", StreamForm::Ndjson),
    ("ollama-0.32.15-cpu/generate_stream.txt", StreamForm::Ndjson),
    ("ollama-0.32.15-cpu/pull_offline.txt", StreamForm::Ndjson),
    (
        "ollama-0.32.15-cpu/v1_chat_stream_usage.txt",
        StreamForm::SseDone,
    ),
    (
        "ollama-0.32.15-cpu/v1_messages_stream.txt",
        StreamForm::SseTyped,
    ),
    ("server/chat_stream.txt", StreamForm::SseDone),
    ("server/chat_stream_usage.txt", StreamForm::SseDone),
    (
        "llama-cpp-python-server/chat_stream.txt",
        StreamForm::SseDone,
    ),
    ("server/anthropic_messages_stream.txt", StreamForm::SseTyped),
];

/// What a watch told of a stream: what went out before its end, whether it was complete, and the rest.
#[derive(Debug, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent observations of one stream, not states of a machine"
)]
struct Seen {
    sent: Vec<u8>,
    left: Vec<u8>,
    complete: bool,
    terminal: bool,
    error: bool,
    content: bool,
    usage: Usage,
}

fn watch(form: StreamForm, pieces: &[&[u8]]) -> Seen {
    let mut watch = StreamWatch::new(form);
    let mut sent = Vec::new();
    for piece in pieces {
        let release = watch.push(piece);
        sent.extend_from_slice(release.held);
        sent.extend_from_slice(release.piece);
    }
    let (left, complete) = match watch.finish() {
        End::Complete { rest, missing } => ([rest, missing.as_bytes()].concat(), true),
        End::NoTerminal { held, .. } => (held.to_vec(), false),
    };
    Seen {
        sent,
        left,
        complete,
        terminal: watch.terminal_seen(),
        error: watch.error_seen(),
        content: watch.content_seen(),
        usage: watch.usage(),
    }
}

#[test]
fn real_streams_pass_unchanged_and_are_complete() {
    for (exchange, form) in STREAMS {
        let body = body_of(exchange);
        let seen = watch(form, &[&body]);
        assert_eq!(seen.sent, body, "{exchange}");
        assert!(seen.complete && seen.left.is_empty(), "{exchange}");
        assert_eq!(seen.error, exchange.contains("pull"), "{exchange}");
    }
}

#[test]
fn cutting_a_stream_into_pieces_at_any_byte_changes_nothing() {
    for (exchange, form) in STREAMS {
        let body = body_of(exchange);
        let whole = watch(form, &[&body]);
        for at in 0..=body.len() {
            assert_eq!(
                watch(form, &[&body[..at], &body[at..]]),
                whole,
                "{exchange} at {at}"
            );
        }
        let single: Vec<&[u8]> = body.chunks(1).collect();
        assert_eq!(watch(form, &single), whole, "{exchange} byte by byte");
    }
}

#[test]
fn a_stream_that_stops_early_is_never_complete_and_what_was_sent_ends_at_a_whole_event() {
    for (exchange, form) in STREAMS {
        let body = body_of(exchange);
        for at in 0..body.len() {
            let seen = watch(form, &[&body[..at]]);
            assert!(body.starts_with(&seen.sent), "{exchange} at {at}");
            let end: &[u8] = match form {
                StreamForm::Ndjson => b"\n",
                _ => b"\n\n",
            };
            assert!(
                seen.sent.is_empty() || seen.sent.ends_with(end),
                "{exchange} at {at}"
            );
            if seen.complete {
                // Only line ends were lost, and they are given back.
                assert_eq!(
                    [seen.sent, seen.left].concat(),
                    body,
                    "{exchange} at {at} of {}",
                    body.len()
                );
            } else {
                assert_eq!(
                    [seen.sent, seen.left].concat(),
                    &body[..at],
                    "{exchange} at {at}"
                );
            }
        }
    }
}

#[test]
fn usage_is_read_from_each_form() {
    let usage = |exchange, form| watch(form, &[&body_of(exchange)]).usage;
    let ollama = usage("ollama-0.32.15-cpu/chat_stream.txt", StreamForm::Ndjson);
    assert_eq!(
        (ollama.prompt_tokens, ollama.completion_tokens),
        (Some(38), Some(2))
    );
    assert_eq!(ollama.total_ms, Some(6.580_706));
    let llama = usage("server/chat_stream_usage.txt", StreamForm::SseDone);
    assert_eq!(
        (llama.prompt_tokens, llama.cached_tokens, llama.prompt_ms),
        (Some(38), Some(37), Some(0.22))
    );
    // Without include_usage llama-server's timings still tell.
    let unasked = usage("server/chat_stream.txt", StreamForm::SseDone);
    assert_eq!(
        (unasked.prompt_tokens, unasked.completion_tokens),
        (Some(38), Some(2))
    );
    let anthropic = usage("server/anthropic_messages_stream.txt", StreamForm::SseTyped);
    assert_eq!(
        (
            anthropic.prompt_tokens,
            anthropic.cached_tokens,
            anthropic.completion_tokens
        ),
        (Some(22), Some(21), Some(4))
    );
    let later = usage(
        "ollama-0.32.15-cpu/v1_messages_stream.txt",
        StreamForm::SseTyped,
    );
    assert_eq!(later.prompt_tokens, Some(22), "message_delta corrects 8");
}

#[test]
fn words_of_the_end_inside_texts_and_arguments_end_nothing() {
    let lines = concat!(
        r#"{"message":{"content":"say \"done\":true and {\"error\":\"x\"}"},"done":false}"#,
        "\n",
        r#"{"message":{"tool_calls":[{"function":{"arguments":{"done":true,"error":"no"}}}]},"done":false}"#,
        "\n"
    );
    let seen = watch(StreamForm::Ndjson, &[lines.as_bytes()]);
    assert!(!seen.complete && !seen.terminal && !seen.error && seen.content);
    let chunk = "data: {\"choices\":[{\"delta\":{\"content\":\"[DONE] \\\"usage\\\":{\"}}]}\n\n";
    let seen = watch(StreamForm::SseDone, &[chunk.as_bytes()]);
    assert!(!seen.complete && seen.usage == Usage::default());
}

#[test]
fn openings_and_keep_alives_are_not_content() {
    let content = |form, text: &str| watch(form, &[text.as_bytes()]).content;
    assert!(!content(
        StreamForm::Ndjson,
        "{\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":false}\n"
    ));
    assert!(content(
        StreamForm::Ndjson,
        "{\"response\":\"a\",\"done\":false}\n"
    ));
    assert!(!content(
        StreamForm::SseDone,
        ": ping\n\ndata: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":null}}]}\n\n"
    ));
    assert!(content(
        StreamForm::SseDone,
        "data: {\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\"}}]}\n\n"
    ));
    assert!(!content(
        StreamForm::SseTyped,
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{}}\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\n"
    ));
    assert!(content(
        StreamForm::SseTyped,
        "event: content_block_start\ndata: {\"type\":\"content_block_start\"}\n\n"
    ));
}

#[test]
fn an_error_in_band_is_an_end_and_a_finish_reason_alone_is_none() {
    let error = b"data: {\"error\":{\"message\":\"gone\"}}\n\n";
    let seen = watch(StreamForm::SseDone, &[error]);
    assert!(seen.complete && seen.error && !seen.terminal);
    let mut watch = StreamWatch::new(StreamForm::SseDone);
    watch.push(b"data: {\"choices\":[{\"delta\":{},\"finish_reason\":null}]}\n\n");
    assert!(!watch.finish_reason_seen());
    watch.push(b"data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n");
    assert!(watch.finish_reason_seen());
    assert!(matches!(watch.finish(), End::NoTerminal { held: b"", .. }));
}

#[test]
fn typed_streams_end_by_the_type_in_the_data_when_no_event_line_names_it() {
    let text = "data: {\"type\":\"response.created\",\"response\":{}}\n\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"a\"}\n\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}}\n\n";
    let seen = watch(StreamForm::SseTyped, &[text.as_bytes()]);
    assert!(seen.terminal && seen.content);
    assert_eq!(seen.usage.prompt_tokens, Some(3));
    let failed =
        "event: response.failed\r\ndata: {\"type\":\"response.failed\",\"response\":{}}\r\n\r\n";
    let seen = watch(StreamForm::SseTyped, &[failed.as_bytes()]);
    assert!(seen.terminal && seen.error && seen.left.is_empty());
}

#[test]
fn a_line_too_long_to_hold_passes_and_its_end_is_still_seen() {
    let context = vec!["12345"; 60_000].join(",");
    let last = format!(
        "{{\"model\":\"m\",\"response\":\"\",\"done\":true,\"context\":[{context}],\"total_duration\":5000000,\"prompt_eval_count\":7}}\n"
    );
    let before = "{\"response\":\"a\",\"done\":false}\n";
    let body = [before.as_bytes(), last.as_bytes()].concat();
    let whole = watch(StreamForm::Ndjson, &[&body]);
    assert!(whole.complete);
    assert_eq!(whole.usage.prompt_tokens, Some(7));
    for size in [1000, 40_000, 70_000, 200_000] {
        let pieces: Vec<&[u8]> = body.chunks(size).collect();
        assert_eq!(
            watch(StreamForm::Ndjson, &pieces),
            whole,
            "pieces of {size}"
        );
    }
    let mut cut = StreamWatch::new(StreamForm::Ndjson);
    let mut sent = 0;
    for piece in body[..200_000].chunks(10_000) {
        let release = cut.push(piece);
        sent += release.held.len() + release.piece.len();
    }
    assert_eq!(sent, 200_000);
    assert!(matches!(
        cut.finish(),
        End::NoTerminal {
            held: b"",
            mid_event: true
        }
    ));
}

#[test]
fn a_typed_event_too_long_to_hold_ends_its_stream() {
    let text = "word ".repeat(40_000);
    let body = format!(
        "event: response.completed\ndata: {{\"type\":\"response.completed\",\"response\":{{\"text\":\"{text}\",\"usage\":{{\"input_tokens\":5,\"output_tokens\":9}}}}}}\n\n"
    );
    let whole = watch(StreamForm::SseTyped, &[body.as_bytes()]);
    assert!(whole.complete && whole.terminal);
    for size in [100, 65_000, 100_000] {
        let pieces: Vec<&[u8]> = body.as_bytes().chunks(size).collect();
        let seen = watch(StreamForm::SseTyped, &pieces);
        assert!(seen.complete && seen.sent == body.as_bytes(), "{size}");
        assert_eq!(seen.usage, whole.usage, "{size}");
    }
}

#[test]
fn complete_events_of_a_piece_are_not_copied() {
    let piece = b"{\"done\":false}\n{\"done\":false}\n{\"do";
    let mut watch = StreamWatch::new(StreamForm::Ndjson);
    let release = watch.push(piece);
    assert!(release.held.is_empty());
    assert_eq!(release.piece.as_ptr(), piece.as_ptr());
    assert_eq!(release.piece.len(), piece.len() - 4);
}

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_come_out_in_order(
        pieces in prop::collection::vec(prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b'd'), Just(b'"'), any::<u8>()], 0..12), 0..12),
        form in prop_oneof![Just(StreamForm::Ndjson), Just(StreamForm::SseDone), Just(StreamForm::SseTyped)],
    ) {
        let slices: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let whole = pieces.concat();
        let seen = watch(form, &slices);
        prop_assert_eq!(&watch(form, &[&whole]), &seen);
        if !seen.complete {
            prop_assert_eq!([seen.sent, seen.left].concat(), whole);
        }
    }
}
