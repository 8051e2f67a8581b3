//! A recorded trace as prompts: text of the recorded length with the recorded common beginnings, or the recorded text itself.

use serde::Deserialize;

use super::filler::{mixed, notes};
use super::prompt::{Message, Prompt, PromptError, class_of, tokens};
use crate::replay::{self, BLOCK};
use crate::routing::queue::Lane;

/// Most tokens that an answer may have, whatever the recorded one had.
const MOST_TOKENS: u32 = 4096;

/// What of a trace can be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// The requests in the order of their times.
    pub prompts: Vec<Prompt>,
    /// Embeddings and pictures, which are left out.
    pub left_out: usize,
    /// Whether the text was recorded too.
    pub text: bool,
}

/// What `--record-prompts` adds to a line.
#[derive(Deserialize)]
struct Said {
    #[serde(default)]
    at_ms: u64,
    #[serde(default)]
    prompt: Option<Vec<Message>>,
}

/// Reads a trace for sending. Where its text was not recorded, every 256 tokens are text that follows from their hash, so that requests share
/// their beginnings as the recorded ones did; such prompts have no class of their own and nothing to check.
///
/// # Errors
/// A line that is no request of a trace, or nothing that can be sent.
pub fn read_trace(text: &str) -> Result<Recorded, PromptError> {
    let requests = replay::parse(text).map_err(|error| PromptError {
        line: error.line,
        what: error.what,
    })?;
    // In the order of `replay::parse`: by time, equal times as they are written.
    let mut said: Vec<Said> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    said.sort_by_key(|said| said.at_ms);
    let mut recorded = Recorded {
        prompts: Vec::new(),
        left_out: 0,
        text: false,
    };
    for (index, (request, said)) in requests.iter().zip(said).enumerate() {
        if request.lane == Lane::Embedding || request.images > 0 {
            recorded.left_out += 1;
            continue;
        }
        let name = format!("request-{}", index + 1);
        let most = request.tokens_out.clamp(1, MOST_TOKENS);
        let spoken = said.prompt.filter(|messages| !messages.is_empty());
        let mut prompt = if let Some(messages) = spoken {
            recorded.text = true;
            let ask = messages.iter().rfind(|message| message.role == "user");
            let class = class_of(ask.map_or("", |message| message.content.as_str()));
            let length = messages.iter().map(|message| tokens(&message.content));
            Prompt {
                tokens_in: length.sum(),
                messages,
                ..Prompt::ask(name, class, String::new(), most)
            }
        } else {
            let text = text_of(request, index as u64);
            Prompt::ask(name, class_of(&text), text, most)
        };
        prompt.model = Some(request.model.clone());
        prompt.ctx = request.ctx;
        prompt.shared = true;
        recorded.prompts.push(prompt);
    }
    if recorded.prompts.is_empty() {
        return Err(PromptError {
            line: 0,
            what: "it holds nothing but embeddings and pictures, which are not sent".to_owned(),
        });
    }
    Ok(recorded)
}

fn text_of(request: &replay::TraceRequest, index: u64) -> String {
    let mut text: String = request
        .prefix
        .iter()
        .map(|hash| notes(*hash, BLOCK.into()))
        .collect();
    let known = request.prefix.len() as u64 * u64::from(BLOCK);
    let rest = u64::from(request.tokens_in).saturating_sub(known).max(8);
    text.push_str(&notes(mixed(&[index, 0x74_7261_6365]), rest));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_share_their_beginnings_as_the_recorded_ones_did() {
        let trace = "{\"at_ms\":9,\"model\":\"m\",\"tokens_in\":600,\"tokens_out\":20,\"prefix\":[1,2],\"ctx\":2048}\n\
                     {\"at_ms\":5,\"model\":\"n\",\"tokens_in\":300,\"tokens_out\":0,\"prefix\":[1]}\n\
                     {\"at_ms\":7,\"model\":\"e\",\"lane\":\"embedding\"}\n";
        let recorded = read_trace(trace).unwrap();
        assert_eq!(
            (recorded.prompts.len(), recorded.left_out, recorded.text),
            (2, 1, false)
        );
        let [short, long] = &recorded.prompts[..] else {
            panic!()
        };
        assert_eq!((short.model.as_deref(), short.max_tokens), (Some("n"), 1));
        assert_eq!(
            (long.model.as_deref(), long.max_tokens, long.ctx),
            (Some("m"), 20, Some(2048))
        );
        let (short, long) = (&short.messages[0].content, &long.messages[0].content);
        assert_eq!((short.len(), long.len()), (1200, 2400));
        assert_eq!(short[..1024], long[..1024]);
        assert_ne!(short[1024..1200], long[1024..1200]);
    }

    #[test]
    fn recorded_text_is_used_as_it_is() {
        let trace = "{\"at_ms\":2,\"model\":\"m\",\"tokens_out\":4,\"prompt\":[{\"role\":\"user\",\"content\":\"Design a queue\"}]}\n";
        let recorded = read_trace(trace).unwrap();
        assert!(recorded.text);
        assert_eq!(recorded.prompts[0].messages[0].content, "Design a queue");
        assert!(read_trace("{\"at_ms\":2,\"model\":\"m\",\"lane\":\"embedding\"}").is_err());
        assert_eq!(read_trace("{\"at_ms\":2}").unwrap_err().line, 1);
    }
}
