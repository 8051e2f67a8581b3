//! The bytes that go over the wire: requests, answers, tokens that carry the time they were sent.

use std::net::SocketAddr;
use std::time::Instant;

/// The model that every request names.
pub const MODEL: &str = "bench:latest";

/// Nanoseconds since the benchmark started; one clock for both ends, which live in one process.
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

/// Which stream form a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `/api/chat`: JSON lines.
    Ollama,
    /// `/v1/chat/completions`: server-sent events.
    OpenAi,
}

/// A chat request whose body is about `size` bytes.
pub fn request(host: SocketAddr, form: Form, model: &str, stream: bool, size: usize) -> Vec<u8> {
    let path = match form {
        Form::Ollama => "/api/chat",
        Form::OpenAi => "/v1/chat/completions",
    };
    let start = format!(
        "{{\"model\":\"{model}\",\"stream\":{stream},\"messages\":[{{\"role\":\"user\",\"content\":\""
    );
    let text = "What does this function return when the list is empty? ";
    let filler: String = text
        .chars()
        .cycle()
        .take(size.saturating_sub(start.len() + 4))
        .collect();
    let body = format!("{start}{filler}\"}}]}}");
    format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench\r\nAccept: */*\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The fixed answer to a request without `stream`.
pub fn json_answer(form: Form) -> Vec<u8> {
    let body = match form {
        Form::Ollama => format!(
            r#"{{"model":"{MODEL}","created_at":"2026-11-01T00:00:00.000000000Z","message":{{"role":"assistant","content":"It returns zero."}},"done":true,"done_reason":"stop","total_duration":5000000,"load_duration":1000000,"prompt_eval_count":200,"prompt_eval_duration":1000000,"eval_count":4,"eval_duration":3000000}}"#
        ),
        Form::OpenAi => format!(
            r#"{{"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"{MODEL}","choices":[{{"index":0,"message":{{"role":"assistant","content":"It returns zero."}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":200,"completion_tokens":4,"total_tokens":204}}}}"#
        ),
    };
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// The head of a stream.
pub fn stream_head(form: Form) -> Vec<u8> {
    let content_type = match form {
        Form::Ollama => "application/x-ndjson",
        Form::OpenAi => "text/event-stream",
    };
    format!("HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nTransfer-Encoding: chunked\r\n\r\n")
        .into_bytes()
}

/// One token as a chunk; its text is the time at which it is sent.
pub fn token(form: Form, now: u64) -> Vec<u8> {
    let data = match form {
        Form::Ollama => format!(
            "{{\"model\":\"{MODEL}\",\"created_at\":\"2026-11-01T00:00:00.000000000Z\",\"message\":{{\"role\":\"assistant\",\"content\":\"T{now:019}\"}},\"done\":false}}\n"
        ),
        Form::OpenAi => format!(
            "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"{MODEL}\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"T{now:019}\"}},\"finish_reason\":null}}]}}\n\n"
        ),
    };
    format!("{:x}\r\n{data}\r\n", data.len()).into_bytes()
}

/// The terminal event and the end of the chunked body.
pub fn stream_end(form: Form) -> Vec<u8> {
    let data = match form {
        Form::Ollama => format!(
            "{{\"model\":\"{MODEL}\",\"created_at\":\"2026-11-01T00:00:00.000000000Z\",\"message\":{{\"role\":\"assistant\",\"content\":\"\"}},\"done\":true,\"done_reason\":\"stop\",\"total_duration\":5000000,\"load_duration\":1000000,\"prompt_eval_count\":200,\"prompt_eval_duration\":1000000,\"eval_count\":4,\"eval_duration\":3000000}}\n"
        ),
        Form::OpenAi => "data: [DONE]\n\n".to_owned(),
    };
    format!("{:x}\r\n{data}\r\n0\r\n\r\n", data.len()).into_bytes()
}

/// What a reader has seen of one answer so far.
#[derive(Debug, Default)]
pub struct Answer {
    bytes: Vec<u8>,
    status: u16,
    length: Option<usize>,
    scanned: usize,
    head: usize,
}

impl Answer {
    /// Takes in what a read brought.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        if self.head == 0
            && let Some(end) = find(&self.bytes, b"\r\n\r\n")
        {
            self.head = end + 4;
            self.scanned = self.head;
            self.status = self
                .bytes
                .get(9..12)
                .and_then(|code| std::str::from_utf8(code).ok())
                .and_then(|code| code.parse().ok())
                .unwrap_or(0);
            self.length = content_length(&self.bytes[..end]);
        }
    }

    /// Whether it is whole, as a fixed length or as a chunked body.
    pub fn whole(&self) -> bool {
        self.head > 0
            && match self.length {
                Some(length) => self.bytes.len() >= self.head + length,
                None => self.bytes.ends_with(b"\r\n0\r\n\r\n"),
            }
    }

    /// Whether its status is 200.
    pub fn ok(&self) -> bool {
        self.status == 200
    }

    /// Calls `each` with the time inside every token that has come since the last call.
    pub fn stamps(&mut self, mut each: impl FnMut(u64)) {
        if self.head == 0 {
            return;
        }
        while let Some(at) = find(&self.bytes[self.scanned..], b"\"T") {
            let from = self.scanned + at + 2;
            let Some(digits) = self.bytes.get(from..from + 19) else {
                return;
            };
            if let Some(stamp) = std::str::from_utf8(digits)
                .ok()
                .and_then(|text| text.parse().ok())
            {
                each(stamp);
            }
            self.scanned = from + 19;
        }
        // The last byte may be the first half of the mark.
        self.scanned = self.scanned.max(self.bytes.len().saturating_sub(1));
        // A long stream is not kept: only its end says whether it is whole.
        if self.length.is_none() && self.scanned > 64 * 1024 {
            let keep = self.bytes.len() - 16;
            self.bytes.drain(..keep);
            self.scanned = self.scanned.saturating_sub(keep);
        }
    }

    /// Forgets everything, for the next answer on the connection.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.status = 0;
        self.length = None;
        self.scanned = 0;
        self.head = 0;
    }
}

/// The value of `Content-Length` in a head.
pub fn content_length(head: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(head).ok()?;
    text.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().ok())?
    })
}

/// Where `what` begins in `bytes`.
pub fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
