//! Traces: one request per line, as JSON, without a word of what was said.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

use crate::routing::queue::Lane;

/// Tokens of the prompt that one entry of [`TraceRequest::prefix`] stands for.
pub const BLOCK: u32 = 256;
/// Most requests of a trace.
const MOST_REQUESTS: usize = 1_000_000;
/// Longest line, in bytes.
const LONGEST_LINE: usize = 1 << 20;
/// Most blocks of one prompt.
const MOST_BLOCKS: usize = 16_384;
/// Most tokens of a prompt or an answer.
const MOST_TOKENS: u32 = 16_000_000;
/// Latest time of a request: a year.
const LATEST_MS: u64 = 366 * 86_400_000;
/// Longest name of a model or a session.
const LONGEST_NAME: usize = 512;

/// One request of a trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TraceRequest {
    /// Milliseconds from the start of the trace. A request of a session is never sent before the answer to the one before it.
    pub at_ms: u64,
    /// The conversation or client that it belongs to; empty: nobody's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub session: String,
    /// What kind of work it is.
    #[serde(default)]
    pub lane: Lane,
    /// The model as the client writes it.
    pub model: String,
    /// `num_ctx`, when the client sends one.
    #[serde(default)]
    pub ctx: Option<u32>,
    /// Tokens of the prompt.
    #[serde(default)]
    pub tokens_in: u32,
    /// Tokens of the answer.
    #[serde(default)]
    pub tokens_out: u32,
    /// A hash of each 256 tokens of the prompt; equal beginnings have equal hashes.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "hashes"
    )]
    pub prefix: Vec<u64>,
    /// Pictures in the prompt.
    #[serde(
        default,
        skip_serializing_if = "is_zero",
        deserialize_with = "number_or_flag"
    )]
    pub images: u32,
    /// Whether the answer is streamed.
    #[serde(default = "yes")]
    pub stream: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn yes() -> bool {
    true
}

/// Hashes as numbers or as hexadecimal text.
fn hashes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Hash {
        Number(u64),
        Text(String),
    }
    let hash = |hash| match hash {
        Hash::Number(number) => Ok(number),
        Hash::Text(text) => u64::from_str_radix(text.trim_start_matches("0x"), 16).map_err(|_| {
            serde::de::Error::custom("a hash is a number or up to 16 hexadecimal digits")
        }),
    };
    Vec::<Hash>::deserialize(from)?
        .into_iter()
        .map(hash)
        .collect()
}

/// A number, or `true` for one.
fn number_or_flag<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Images {
        Number(u32),
        Flag(bool),
    }
    Ok(match Images::deserialize(from)? {
        Images::Number(number) => number,
        Images::Flag(flag) => u32::from(flag),
    })
}

/// What is wrong with a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceError {
    /// The line, counted from 1; 0 for the whole.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        f.write_str(&self.what)
    }
}

impl std::error::Error for TraceError {}

/// Reads a trace; the requests come in the order of their times. Empty lines are skipped, unknown fields ignored.
pub fn parse(text: &str) -> Result<Vec<TraceRequest>, TraceError> {
    let mut requests = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        if text.trim().is_empty() {
            continue;
        }
        let wrong = |what: String| TraceError { line, what };
        if text.len() > LONGEST_LINE {
            return Err(wrong(format!("longer than {LONGEST_LINE} bytes")));
        }
        if requests.len() >= MOST_REQUESTS {
            return Err(wrong(format!("more than {MOST_REQUESTS} requests")));
        }
        let request: TraceRequest = serde_json::from_str(text)
            .map_err(|error| wrong(format!("not a request of a trace: {}", told(&error))))?;
        check(&request).map_err(wrong)?;
        requests.push(request);
    }
    if requests.is_empty() {
        return Err(TraceError {
            line: 0,
            what: "the trace holds no request".to_owned(),
        });
    }
    requests.sort_by_key(|request| request.at_ms);
    Ok(requests)
}

/// serde's words without its own line number, which is always 1 here.
fn told(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.split_once(" at line 1 column ") {
        Some((what, column)) => format!("{what} (column {column})"),
        None => text,
    }
}

fn check(request: &TraceRequest) -> Result<(), String> {
    let most = |name: &str, value: u64, most: u64| {
        if value > most {
            Err(format!("{name} is {value}, more than {most}"))
        } else {
            Ok(())
        }
    };
    if request.model.trim().is_empty() {
        return Err("model is empty".to_owned());
    }
    most("at_ms", request.at_ms, LATEST_MS)?;
    most("tokens_in", request.tokens_in.into(), MOST_TOKENS.into())?;
    most("tokens_out", request.tokens_out.into(), MOST_TOKENS.into())?;
    most(
        "the length of model",
        request.model.len() as u64,
        LONGEST_NAME as u64,
    )?;
    most(
        "the length of session",
        request.session.len() as u64,
        LONGEST_NAME as u64,
    )?;
    most(
        "the number of hashes in prefix",
        request.prefix.len() as u64,
        MOST_BLOCKS as u64,
    )?;
    if request.ctx == Some(0) {
        return Err("ctx is 0; leave it out when the client sends none".to_owned());
    }
    Ok(())
}

/// Writes a trace, one request per line.
pub fn write(requests: &[TraceRequest]) -> String {
    let mut text = String::new();
    for request in requests {
        // Numbers, texts and lists of numbers always have a JSON form.
        text.push_str(&serde_json::to_string(request).unwrap_or_default());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_needs_a_time_and_a_model() {
        let trace = parse("{\"at_ms\":5,\"model\":\"m\"}\n\n{\"at_ms\":1,\"model\":\"n\",\"images\":true,\"prefix\":[7,\"ff\"]}\n").unwrap();
        assert_eq!(trace[0].model, "n");
        assert_eq!(
            (trace[0].images, trace[0].prefix.clone()),
            (1, vec![7, 255])
        );
        assert_eq!(
            (trace[1].lane, trace[1].ctx, trace[1].stream),
            (Lane::Interactive, None, true)
        );
    }

    #[test]
    fn errors_name_the_line() {
        let of = |text: &str| parse(text).unwrap_err().to_string();
        assert_eq!(of(""), "the trace holds no request");
        let good = "{\"at_ms\":5,\"model\":\"m\"}\n";
        assert!(
            of(&format!("{good}{{\"at_ms\":5}}"))
                .starts_with("line 2: not a request of a trace: missing field `model`")
        );
        assert!(of(&format!("{good}\nnonsense")).starts_with("line 3: "));
        assert_eq!(
            of("{\"at_ms\":5,\"model\":\" \"}"),
            "line 1: model is empty"
        );
        assert!(of("{\"at_ms\":5,\"model\":\"m\",\"ctx\":0}").contains("ctx is 0"));
        assert!(of("{\"at_ms\":5,\"model\":\"m\",\"tokens_in\":99000000}").contains("tokens_in"));
        assert!(of("{\"at_ms\":5,\"model\":\"m\",\"lane\":\"fast\"}").contains("interactive"));
        assert!(
            of(&format!(
                "{{\"at_ms\":5,\"model\":\"{}\"}}",
                "m".repeat(LONGEST_LINE)
            ))
            .contains("longer")
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            times in prop::collection::vec((0_u64..1_000_000, any::<u32>(), prop::option::of(1_u32..9999), any::<bool>()), 1..20)
        ) {
            let mut requests: Vec<TraceRequest> = times.into_iter().map(|(at_ms, seed, ctx, stream)| TraceRequest {
                at_ms,
                session: format!("s\"{seed}"),
                lane: Lane::ALL[seed as usize % 4],
                model: "m".to_owned(),
                ctx,
                tokens_in: seed % 1000,
                tokens_out: seed % 77,
                prefix: vec![u64::from(seed) << 20; seed as usize % 5],
                images: seed % 3,
                stream,
            }).collect();
            requests.sort_by_key(|request| request.at_ms);
            prop_assert_eq!(parse(&write(&requests)).unwrap(), requests);
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = parse(&text);
        }
    }
}
