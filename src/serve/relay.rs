//! The answer on its way back: pieces as they arrive for streams, complete bodies for the rest, and the truth when a node stops short.

use std::borrow::Cow;
use std::time::Duration;

use super::exchange::{Exchange, header_safe};
use super::reading::{TRUNCATED, check};
use super::record::{Outcome, millis};
use super::trouble;
use crate::cluster::Node;
use crate::dialect::translate::ReplyTranslator;
use crate::dialect::{
    ApiError, End as StreamEnd, Endpoint, ErrorKind, StreamForm, StreamWatch, Usage,
    keep_response_header, usage_of_body, usage_of_json,
};
use crate::http::client::{Incoming, ReadError};
use crate::http::server::Framing;
use crate::routing::Candidate;

/// Longest answer that is held until it is complete, so that a cut one can still be told as an error; longer ones are passed on as they come.
const HELD: usize = 4 * 1024 * 1024;
/// Longest answer that is translated as a whole.
const TRANSLATED: usize = 64 * 1024 * 1024;

/// An opened upstream whose head is there.
pub(super) struct Upstream<'n> {
    pub(super) incoming: Incoming,
    pub(super) node: &'n Node,
    pub(super) candidate: &'n Candidate,
    pub(super) translator: Option<Box<ReplyTranslator>>,
    /// Whether the client asked for a stream.
    pub(super) stream: bool,
}

/// Passes the answer on and completes the record.
pub(super) fn relay(x: &mut Exchange<'_, '_>, mut upstream: Upstream<'_>) {
    let status = upstream.incoming.status();
    let early = x.early_started();
    let content_type = upstream
        .incoming
        .headers()
        .get_str("content-type")
        .unwrap_or("")
        .to_owned();
    // Without a type, what was asked for decides how the answer is watched.
    let streamed = content_type.starts_with("text/event-stream")
        || content_type.starts_with("application/x-ndjson")
        || (content_type.is_empty() && upstream.stream);
    x.draft.record.status = if early { 200 } else { status };
    let usage = if status >= 400 {
        error_answer(x, &mut upstream, &content_type);
        None
    } else if let Some(text) = no_answer(x, &upstream, streamed) {
        x.tell(
            &ApiError::new(ErrorKind::Upstream, text),
            Outcome::UpstreamError,
        );
        None
    } else if let Some(translator) = upstream.translator.take() {
        if streamed && translator.streams() {
            translated_stream(x, &mut upstream, translator)
        } else {
            translated_whole(x, &mut upstream, translator)
        }
    } else if let Some(form) = x.endpoint.stream_form().filter(|_| streamed) {
        native_stream(x, &mut upstream, form)
    } else if early {
        let node = &upstream.node.name;
        let text = format!("node `{node}` answered without the stream that was asked for");
        x.tell(
            &ApiError::new(ErrorKind::Upstream, text),
            Outcome::UpstreamError,
        );
        None
    } else {
        whole(x, &mut upstream)
    };
    finish_record(x, &upstream, usage.unwrap_or_default());
}

/// Why what came from the node cannot be a model's answer, whatever its body says.
fn no_answer(x: &Exchange<'_, '_>, upstream: &Upstream<'_>, streamed: bool) -> Option<String> {
    let (status, node) = (upstream.incoming.status(), &upstream.node.name);
    let streams = x.endpoint.stream_form().is_some();
    if !x.endpoint.routed() {
        None
    } else if status != 200 {
        Some(format!("node `{node}` answered with status {status}"))
    } else if streamed && streams && !upstream.stream && upstream.translator.is_none() {
        Some(format!(
            "node `{node}` answered with a stream that was not asked for"
        ))
    } else {
        None
    }
}

/// What the answer's own counters say goes into the record and the measurements.
fn finish_record(x: &mut Exchange<'_, '_>, upstream: &Upstream<'_>, usage: Usage) {
    let tokens = &mut x.draft.record.tokens;
    tokens.prompt = usage.prompt_tokens;
    tokens.completion = usage.completion_tokens;
    tokens.cached = usage.cached_tokens;
    x.draft.record.timings.load_ms = usage.load_ms;
    if let Some((place, seen)) = x.seen.take() {
        x.router.measurements.learn(&place, &seen);
    }
    if x.draft.record.outcome == Outcome::Ok {
        x.draft.record.cost_saved_usd = x.router.cost(&usage);
        if !upstream.candidate.resident {
            // The node has loaded the model for this answer; the next decision should know.
            x.router.poke(&upstream.node.name);
        }
    }
}

/// Tells proxies in front of this one not to hold a stream back.
const UNBUFFERED: (&str, &str) = ("X-Accel-Buffering", "no");

/// Puts into the head that is started next the node's own fields that belong to the client, then the router's.
fn add_head(x: &mut Exchange<'_, '_>, incoming: &Incoming, translated: bool) {
    if x.early_started() {
        return;
    }
    let connection = incoming.headers().get_str("connection");
    for (name, value) in incoming.headers().iter() {
        let ours = name
            .get(..12)
            .is_some_and(|prefix| prefix.eq_ignore_ascii_case("x-gpurouter-"));
        if keep_response_header(name, connection)
            && !ours
            && !(translated && name.eq_ignore_ascii_case("content-type"))
        {
            x.reply.add_header(name, value);
        }
    }
    x.add_own_headers();
}

/// A stream in the client's own form, passed on piece by piece.
fn native_stream(
    x: &mut Exchange<'_, '_>,
    upstream: &mut Upstream<'_>,
    form: StreamForm,
) -> Option<Usage> {
    add_head(x, &upstream.incoming, false);
    let told = upstream.incoming.headers().get(UNBUFFERED.0).is_some();
    let further: &[_] = if told { &[] } else { &[UNBUFFERED] };
    let status = upstream.incoming.status();
    let mut watch = StreamWatch::new(form);
    x.request.release_memory();
    if x.start(status, further, Framing::Chunked).is_err() {
        client_gone(x);
        return None;
    }
    let trouble = loop {
        match upstream.incoming.next(Some(x.reply.watch())) {
            Ok(Some(piece)) => {
                let release = watch.push(piece);
                if release.is_empty() {
                    continue;
                }
                if x.reply.push(&[release.held, release.piece]).is_err() {
                    client_gone(x);
                    return Some(watch.usage());
                }
                x.first_byte();
            }
            Ok(None) => break None,
            Err(ReadError::ClientGone) => {
                client_gone(x);
                return Some(watch.usage());
            }
            Err(error) => break Some(error),
        }
    };
    let (error_seen, finish_reason_seen, usage) = (
        watch.error_seen(),
        watch.finish_reason_seen(),
        watch.usage(),
    );
    x.counted(&usage);
    match watch.finish() {
        StreamEnd::Complete { rest, missing } => {
            if error_seen {
                x.draft.record.outcome = Outcome::UpstreamError;
                "the node reported an error in the stream".clone_into(&mut x.draft.record.detail);
            }
            let cut = check(x, upstream.node, upstream.candidate, &usage);
            end_told(x, &[rest, missing.as_bytes()], cut);
        }
        // Some servers close after the last chunk without `[DONE]`: the answer is complete, its terminal event is supplied.
        StreamEnd::NoTerminal {
            held: [],
            mid_event: false,
        } if finish_reason_seen && trouble.is_none() => {
            let cut = check(x, upstream.node, upstream.candidate, &usage);
            end_told(x, &[b"data: [DONE]\n\n"], cut);
        }
        StreamEnd::NoTerminal { mid_event, .. } => {
            if mid_event
                && x.reply
                    .push(&[b"\n\n"
                        .get(..if form == StreamForm::Ndjson { 1 } else { 2 })
                        .unwrap_or_default()])
                    .is_err()
            {
                client_gone(x);
            } else {
                cut_stream(x, upstream.node, trouble.as_ref());
            }
        }
    }
    Some(usage)
}

/// Ends a stream that is complete.
fn end_reply(x: &mut Exchange<'_, '_>, last: &[&[u8]]) {
    x.node_done();
    if x.push_last(last).is_err() {
        client_gone(x);
    }
}

/// Ends a stream that is complete, with the news that the node cut the prompt for a client that takes trailers.
fn end_told(x: &mut Exchange<'_, '_>, last: &[&[u8]], cut: Option<String>) {
    let Some(cut) = cut.filter(|_| x.reply.accepts_trailers()) else {
        return end_reply(x, last);
    };
    x.node_done();
    if x.reply
        .end_with_trailers(last, &[(TRUNCATED, &cut)])
        .is_err()
    {
        client_gone(x);
    }
}

/// A stream that ended without its terminal event: an error before the head, an error event after it, never a clean end.
fn cut_stream(x: &mut Exchange<'_, '_>, node: &Node, broken: Option<&ReadError>) {
    let error = trouble::of_read(node, broken);
    if matches!(broken, Some(ReadError::Idle | ReadError::Total))
        && let Some(owing) = x.owing.take()
    {
        owing.given_up();
    }
    x.draft.step(error.message.clone());
    if !x.reply.committed() {
        x.tell(&error, Outcome::Cut);
        return;
    }
    x.draft.record.outcome = Outcome::Cut;
    x.draft.record.detail.clone_from(&error.message);
    let event = error.in_band(&x.endpoint, &x.draft.record.id);
    end_reply(x, &[&event]);
}

fn client_gone(x: &mut Exchange<'_, '_>) {
    x.draft.record.outcome = Outcome::ClientGone;
    "the client left before the end of the answer".clone_into(&mut x.draft.record.detail);
    x.reply.abort();
}

/// The start of an answer that is read here instead of being relayed, at most `most` bytes; `None` when the client left (told already).
pub(super) fn short_body(
    x: &mut Exchange<'_, '_>,
    incoming: &mut Incoming,
    most: usize,
) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        match incoming.next(Some(x.reply.watch())) {
            Ok(Some(piece)) if body.len() + piece.len() <= most => {
                body.extend_from_slice(piece);
            }
            Err(ReadError::ClientGone) => {
                x.client_left();
                return None;
            }
            // A cut error is told by its status alone.
            Ok(_) | Err(_) => return Some(body),
        }
    }
}

/// Why a body could not be collected.
enum NotCollected {
    ClientGone,
    TooLong,
    Broken(ReadError),
}

/// The whole body, up to a limit.
fn collect(
    x: &mut Exchange<'_, '_>,
    incoming: &mut Incoming,
    body: &mut Vec<u8>,
    most: usize,
) -> Result<(), NotCollected> {
    if let Some(length) = incoming
        .length()
        .and_then(|length| usize::try_from(length).ok())
    {
        body.reserve_exact(length.min(most));
    }
    loop {
        match incoming.next(Some(x.reply.watch())) {
            Ok(Some(piece)) => {
                body.extend_from_slice(piece);
                x.first_byte();
                if body.len() > most {
                    return Err(NotCollected::TooLong);
                }
            }
            Ok(None) => return Ok(()),
            Err(ReadError::ClientGone) => return Err(NotCollected::ClientGone),
            Err(error) => return Err(NotCollected::Broken(error)),
        }
    }
}

/// A body that is not a stream: held until it is complete when it is short enough.
fn whole(x: &mut Exchange<'_, '_>, upstream: &mut Upstream<'_>) -> Option<Usage> {
    let mut body = Vec::new();
    match collect(x, &mut upstream.incoming, &mut body, HELD) {
        Ok(()) => {}
        Err(NotCollected::TooLong) => {
            pass_on(x, upstream, &body);
            return None;
        }
        Err(NotCollected::ClientGone) => {
            client_gone(x);
            return None;
        }
        Err(NotCollected::Broken(error)) => {
            let error = trouble::of_read(upstream.node, Some(&error));
            x.tell(&error, Outcome::Cut);
            return None;
        }
    }
    let usage = if only_json(x) {
        usage_of_json(&body)
    } else {
        Some(Usage::default())
    };
    let Some(usage) = usage else {
        let text = format!(
            "node `{}` answered with a body that is not JSON",
            upstream.node.name
        );
        x.tell(
            &ApiError::new(ErrorKind::Upstream, text),
            Outcome::UpstreamError,
        );
        return None;
    };
    if let Some(cut) = check(x, upstream.node, upstream.candidate, &usage) {
        x.reply.add_header(TRUNCATED, cut.as_bytes());
    }
    add_head(x, &upstream.incoming, false);
    x.counted(&usage);
    x.node_done();
    if x.reply
        .full(upstream.incoming.status(), &[], &body)
        .is_err()
    {
        client_gone(x);
    }
    Some(usage)
}

/// Whether nothing but a JSON document can be the answer; a transcription may be text.
fn only_json(x: &Exchange<'_, '_>) -> bool {
    x.endpoint.routed() && x.endpoint != Endpoint::Transcriptions
}

/// The last byte that is no white space.
fn last_byte(piece: &[u8]) -> Option<u8> {
    let mut backwards = piece.iter().rev();
    backwards.find(|byte| !byte.is_ascii_whitespace()).copied()
}

/// A long body: what was held so far, then the rest as it comes.
fn pass_on(x: &mut Exchange<'_, '_>, upstream: &mut Upstream<'_>, held: &[u8]) {
    add_head(x, &upstream.incoming, false);
    let framing = upstream
        .incoming
        .length()
        .map_or(Framing::Chunked, Framing::Length);
    let status = upstream.incoming.status();
    if x.reply.start(status, &[], framing).is_err() || x.reply.push(&[held]).is_err() {
        return client_gone(x);
    }
    // The end of a connection may be a cut: then the end of the document decides.
    let must_close = upstream.incoming.close_delimited() && only_json(x);
    let mut last = last_byte(held);
    loop {
        match upstream.incoming.next(Some(x.reply.watch())) {
            Ok(Some(piece)) => {
                last = last_byte(piece).or(last);
                if x.reply.push(&[piece]).is_err() {
                    return client_gone(x);
                }
            }
            Ok(None) if must_close && !matches!(last, Some(b'}' | b']')) => {
                return cut_document(x, upstream.node, None);
            }
            Ok(None) => return end_reply(x, &[]),
            Err(ReadError::ClientGone) => return client_gone(x),
            Err(error) => return cut_document(x, upstream.node, Some(&error)),
        }
    }
}

/// A long document that stopped short: there is no place for an error in it, so its framing stays open.
fn cut_document(x: &mut Exchange<'_, '_>, node: &Node, broken: Option<&ReadError>) {
    x.draft.record.outcome = Outcome::Cut;
    x.draft.record.detail = trouble::of_read(node, broken).message;
    x.reply.abort();
}

/// An error of the node: its own words where they are in the client's dialect, else the same said in it.
fn error_answer(x: &mut Exchange<'_, '_>, upstream: &mut Upstream<'_>, content_type: &str) {
    let status = upstream.incoming.status();
    let mut body = Vec::new();
    match collect(x, &mut upstream.incoming, &mut body, HELD) {
        Ok(()) => {}
        Err(NotCollected::ClientGone) => return client_gone(x),
        Err(NotCollected::TooLong | NotCollected::Broken(_)) => body.clear(),
    }
    x.draft.record.outcome = Outcome::UpstreamError;
    let error = ApiError::from_upstream(status, &body);
    let native = content_type.starts_with("application/json") && ApiError::speaks(x.dialect, &body);
    if native && !x.early_started() {
        x.draft.record.detail = error.message;
        add_head(x, &upstream.incoming, false);
        x.node_done();
        if x.reply.full(status, &[], &body).is_err() {
            client_gone(x);
        }
        return;
    }
    x.tell(&error, Outcome::UpstreamError);
}

/// A stream in another form, translated event by event.
fn translated_stream(
    x: &mut Exchange<'_, '_>,
    upstream: &mut Upstream<'_>,
    mut translator: Box<ReplyTranslator>,
) -> Option<Usage> {
    add_head(x, &upstream.incoming, true);
    let further = [("Content-Type", translator.content_type()), UNBUFFERED];
    let told = upstream.incoming.headers().get(UNBUFFERED.0).is_some();
    let further = further.get(..if told { 1 } else { 2 }).unwrap_or(&further);
    x.request.release_memory();
    if x.start(200, further, Framing::Chunked).is_err() {
        client_gone(x);
        return None;
    }
    let mut out = Vec::new();
    let trouble = loop {
        out.clear();
        match upstream.incoming.next(Some(x.reply.watch())) {
            Ok(Some(piece)) => {
                translator.push(piece, nanos(x), &mut out);
                if out.is_empty() {
                    continue;
                }
                if x.reply.push(&[&out]).is_err() {
                    client_gone(x);
                    return Some(translated_usage(&translator));
                }
                x.first_byte();
                if translator.upstream_error().is_some() {
                    break None;
                }
            }
            Ok(None) => break None,
            Err(ReadError::ClientGone) => {
                client_gone(x);
                return Some(translated_usage(&translator));
            }
            Err(error) => break Some(error),
        }
    };
    out.clear();
    let (error, outcome) = if let Some(told) = translator.upstream_error() {
        let error = ApiError::new(ErrorKind::Upstream, told);
        (error, Outcome::UpstreamError)
    } else if translator.finish(nanos(x), &mut out).is_ok() {
        let usage = translated_usage(&translator);
        x.counted(&usage);
        let cut = check(x, upstream.node, upstream.candidate, &usage);
        end_told(x, &[&out], cut);
        return Some(usage);
    } else {
        (
            trouble::of_read(upstream.node, trouble.as_ref()),
            Outcome::Cut,
        )
    };
    if x.reply.committed() {
        x.draft.record.outcome = outcome;
        x.draft.record.detail.clone_from(&error.message);
        out.clear();
        translator.fail(&error.message, &mut out);
        end_reply(x, &[&out]);
    } else {
        x.tell(&error, outcome);
    }
    Some(translated_usage(&translator))
}

/// A complete answer in another form.
fn translated_whole(
    x: &mut Exchange<'_, '_>,
    upstream: &mut Upstream<'_>,
    mut translator: Box<ReplyTranslator>,
) -> Option<Usage> {
    let mut body = Vec::new();
    match collect(x, &mut upstream.incoming, &mut body, TRANSLATED) {
        Ok(()) => {}
        Err(NotCollected::ClientGone) => {
            client_gone(x);
            return None;
        }
        Err(NotCollected::TooLong) => {
            let text = format!(
                "node `{}` answered with more than {TRANSLATED} bytes",
                upstream.node.name
            );
            x.tell(
                &ApiError::new(ErrorKind::Upstream, text),
                Outcome::UpstreamError,
            );
            return None;
        }
        Err(NotCollected::Broken(error)) => {
            let error = trouble::of_read(upstream.node, Some(&error));
            x.tell(&error, Outcome::Cut);
            return None;
        }
    }
    let answer: Cow<'_, [u8]> = match translator.whole(&body, nanos(x)) {
        Ok(answer) => Cow::Owned(answer),
        Err(error) => {
            let text = format!(
                "node `{}` answered in a form that cannot be translated: {error}",
                upstream.node.name
            );
            x.tell(
                &ApiError::new(ErrorKind::Upstream, header_safe(&text)),
                Outcome::UpstreamError,
            );
            return None;
        }
    };
    let mut usage = usage_of_body(&body);
    let counted = translated_usage(&translator);
    usage.prompt_tokens = usage.prompt_tokens.or(counted.prompt_tokens);
    usage.completion_tokens = usage.completion_tokens.or(counted.completion_tokens);
    if let Some(cut) = check(x, upstream.node, upstream.candidate, &usage) {
        x.reply.add_header(TRUNCATED, cut.as_bytes());
    }
    add_head(x, &upstream.incoming, true);
    let further = [("Content-Type", translator.content_type())];
    x.counted(&usage);
    x.node_done();
    if x.reply.full(200, &further, &answer).is_err() {
        client_gone(x);
    }
    Some(usage)
}

fn nanos(x: &Exchange<'_, '_>) -> u64 {
    u64::try_from(x.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn translated_usage(translator: &ReplyTranslator) -> Usage {
    let (prompt_tokens, completion_tokens, cached_tokens) = translator.usage();
    let milliseconds =
        |nanos: Option<u64>| Some(Duration::from_nanos(nanos?).as_secs_f64() * 1000.0);
    let (prompt_ms, decode_ms) = translator.times();
    let (prompt_ms, decode_ms) = (milliseconds(prompt_ms), milliseconds(decode_ms));
    Usage {
        prompt_tokens,
        completion_tokens,
        cached_tokens,
        prompt_ms,
        decode_ms,
        ..Usage::default()
    }
}

/// Notes the total; called once per request, when everything is said.
pub(super) fn close_record(x: &mut Exchange<'_, '_>) {
    x.draft.record.timings.total_ms = Some(millis(x.elapsed()));
    x.draft.step(match x.draft.record.outcome {
        Outcome::Ok => "done: ok".into(),
        other => Cow::from(format!("done: {}", other.as_str())),
    });
}
