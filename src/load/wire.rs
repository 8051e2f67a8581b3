//! The bytes that go over the wire: requests, answers, and pieces that carry the time at which they were sent.

use std::time::Instant;

use super::Place;
use crate::measure::proxy::Form;

/// The model that requests name.
pub(super) const MODEL: &str = "bench:latest";
/// The model that the router chooses itself, by the class of the prompt.
pub(super) const AUTO: &str = "auto";
/// What stands before the time in a piece, and its number of digits.
pub(super) const MARK: &[u8] = b"\"T";
pub(super) const DIGITS: usize = 19;

/// Nanoseconds since it was started; one clock for both ends, which live in one process.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// Starts at zero.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Now.
    pub fn now(self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// A chat request.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    /// Which API, which is also the form of its streams.
    pub form: Form,
    /// Whether for the virtual model.
    pub auto: bool,
    /// Whether as a stream.
    pub stream: bool,
    /// Bytes of the body; at least about 100.
    pub bytes: u64,
}

impl Ask {
    /// Of about a kilobyte, in one piece, for the named model.
    pub const SMALL: Self = Self {
        form: Form::Lines,
        auto: false,
        stream: false,
        bytes: 1024,
    };

    /// The same as a stream.
    pub fn streamed(form: Form) -> Self {
        Self {
            form,
            stream: true,
            ..Self::SMALL
        }
    }

    /// Head and body for a place.
    pub fn to(self, place: &Place) -> Vec<u8> {
        let path = match self.form {
            Form::Lines => "/api/chat",
            Form::Events => "/v1/chat/completions",
        };
        let body = self.body();
        format!(
            "POST {}{path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: gpurouter-bench\r\nAccept: */*\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            place.prefix(),
            place.host(),
            body.len()
        )
        .into_bytes()
    }

    fn body(self) -> String {
        let model = if self.auto { AUTO } else { MODEL };
        let start = format!(
            "{{\"model\":\"{model}\",\"stream\":{},\"messages\":[{{\"role\":\"user\",\"content\":\"",
            self.stream
        );
        let end = "\"}]}";
        let text = "What does this function return when the list is empty? ";
        let room = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        let room = room.saturating_sub(start.len() + end.len());
        let filler: String = text.chars().cycle().take(room).collect();
        format!("{start}{filler}{end}")
    }
}

/// The fixed answer to a request that is no stream.
pub(super) fn json_answer(form: Form) -> Vec<u8> {
    let body = match form {
        Form::Lines => format!(
            r#"{{"model":"{MODEL}","created_at":"2026-11-01T00:00:00.000000000Z","message":{{"role":"assistant","content":"It returns zero."}},"done":true,"done_reason":"stop","total_duration":5000000,"load_duration":1000000,"prompt_eval_count":200,"prompt_eval_duration":1000000,"eval_count":4,"eval_duration":3000000}}"#
        ),
        Form::Events => format!(
            r#"{{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"{MODEL}","choices":[{{"index":0,"message":{{"role":"assistant","content":"It returns zero."}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":200,"completion_tokens":4,"total_tokens":204}}}}"#
        ),
    };
    whole_answer(&body)
}

/// An answer of known length.
pub(super) fn whole_answer(body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The head of a stream; a client of HTTP/1.0 gets no chunks, but the end of the connection as the end.
pub(super) fn stream_head(form: Form, chunked: bool) -> Vec<u8> {
    let content_type = match form {
        Form::Lines => "application/x-ndjson",
        Form::Events => "text/event-stream",
    };
    let framing = if chunked {
        "Transfer-Encoding: chunked"
    } else {
        "Connection: close"
    };
    format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n{framing}\r\n\r\n").into_bytes()
}

/// One piece; its text is the time at which it is sent.
pub(super) fn piece(form: Form, chunked: bool, now: u64) -> Vec<u8> {
    let data = match form {
        Form::Lines => format!(
            "{{\"model\":\"{MODEL}\",\"created_at\":\"2026-11-01T00:00:00.000000000Z\",\"message\":{{\"role\":\"assistant\",\"content\":\"T{now:019}\"}},\"done\":false}}\n"
        ),
        Form::Events => format!(
            "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"{MODEL}\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"T{now:019}\"}},\"finish_reason\":null}}]}}\n\n"
        ),
    };
    chunk(&data, chunked)
}

/// The terminal event and the end of the body.
pub(super) fn stream_end(form: Form, chunked: bool) -> Vec<u8> {
    let data = match form {
        Form::Lines => format!(
            "{{\"model\":\"{MODEL}\",\"created_at\":\"2026-11-01T00:00:00.000000000Z\",\"message\":{{\"role\":\"assistant\",\"content\":\"\"}},\"done\":true,\"done_reason\":\"stop\",\"total_duration\":5000000,\"load_duration\":1000000,\"prompt_eval_count\":200,\"prompt_eval_duration\":1000000,\"eval_count\":4,\"eval_duration\":3000000}}\n"
        ),
        Form::Events => "data: [DONE]\n\n".to_owned(),
    };
    let mut bytes = chunk(&data, chunked);
    if chunked {
        bytes.extend_from_slice(b"0\r\n\r\n");
    }
    bytes
}

fn chunk(data: &str, chunked: bool) -> Vec<u8> {
    if chunked {
        format!("{:x}\r\n{data}\r\n", data.len()).into_bytes()
    } else {
        data.as_bytes().to_vec()
    }
}

/// The value of a header in a head, by its name in lower case.
pub(super) fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    let text = std::str::from_utf8(head).ok()?;
    text.split("\r\n").skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_exactly_the_bytes_it_was_asked_for() {
        let place = Place::of_url("http://127.0.0.1:81/ollama").unwrap();
        for bytes in [1024, 200 * 1024] {
            let request = Ask {
                bytes,
                ..Ask::SMALL
            }
            .to(&place);
            let end = memchr::memmem::find(&request, b"\r\n\r\n").unwrap();
            let (head, body) = request.split_at(end + 4);
            assert_eq!(body.len() as u64, bytes);
            assert_eq!(
                header(head, "content-length"),
                Some(bytes.to_string().as_str())
            );
            assert!(head.starts_with(b"POST /ollama/api/chat HTTP/1.1\r\n"));
            let body: serde_json::Value = serde_json::from_slice(body).unwrap();
            assert_eq!(
                (body["model"].as_str(), body["stream"].as_bool()),
                (Some(MODEL), Some(false))
            );
        }
    }

    #[test]
    fn pieces_and_answers_are_json() {
        for form in [Form::Lines, Form::Events] {
            let answer = json_answer(form);
            let body = memchr::memmem::find(&answer, b"\r\n\r\n").unwrap() + 4;
            serde_json::from_slice::<serde_json::Value>(&answer[body..]).unwrap();
            let piece = piece(form, false, 42);
            let json = piece.strip_prefix(b"data: ").unwrap_or(&piece);
            serde_json::from_slice::<serde_json::Value>(json).unwrap();
            let at = memchr::memmem::find(&piece, MARK).unwrap() + MARK.len();
            assert_eq!(
                std::str::from_utf8(&piece[at..at + DIGITS])
                    .unwrap()
                    .parse(),
                Ok(42)
            );
        }
    }

    #[test]
    fn headers_are_found_whatever_their_case() {
        let head = b"HTTP/1.1 200 OK\r\nCONTENT-length:  7 \r\nX: y";
        assert_eq!(header(head, "content-length"), Some("7"));
        assert_eq!(header(head, "x"), Some("y"));
        assert_eq!(header(head, "http/1.1 200 ok"), None);
    }
}
