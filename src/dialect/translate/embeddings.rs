//! `/api/embed` and `/api/embeddings` as `/v1/embeddings`. Vectors are carried over as written, to the last digit.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::body::{Body, one_line};
use super::upstream::Upstream;
use super::{Action, ReplyTranslator, TranslateError, Translated};

#[derive(Debug)]
pub(super) struct EmbeddingsReply {
    /// Absent for the older form, whose answer is only the vector.
    model: Option<String>,
}

#[derive(Deserialize)]
struct EmbedBody<'a> {
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    #[serde(borrow)]
    dimensions: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct LegacyBody {
    prompt: Option<String>,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    data: Option<Vec<Row<'a>>>,
    usage: Option<Value>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Row<'a> {
    index: Option<u64>,
    #[serde(borrow)]
    embedding: &'a RawValue,
}

#[derive(Serialize)]
struct Told<'a> {
    model: &'a str,
    embeddings: Vec<Box<RawValue>>,
    total_duration: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_eval_count: Option<u64>,
}

pub(super) fn embed(
    body: &[u8],
    model_at_node: &str,
    shown_model: &str,
) -> Result<Action, TranslateError> {
    let request: EmbedBody<'_> = serde_json::from_slice(body)?;
    let Some(input) = request.input.filter(|input| !is_empty(input.get())) else {
        return Ok(Action::LoadOnly {
            unload: false,
            answer: serde_json::json!({"model": shown_model, "embeddings": []})
                .to_string()
                .into_bytes(),
        });
    };
    if !input.get().starts_with(['"', '[']) {
        return Err(TranslateError::new(
            "`input` must be a string or a list of strings",
        ));
    }
    let mut out = Body::new(model_at_node)?;
    out.copy("input", Some(input));
    out.copy("dimensions", request.dimensions);
    send(out, Some(shown_model.to_owned()))
}

pub(super) fn legacy(
    body: &[u8],
    model_at_node: &str,
    _shown_model: &str,
) -> Result<Action, TranslateError> {
    let request: LegacyBody = serde_json::from_slice(body)?;
    let Some(prompt) = request.prompt.filter(|prompt| !prompt.is_empty()) else {
        return Ok(Action::LoadOnly {
            unload: false,
            answer: br#"{"embedding":[]}"#.to_vec(),
        });
    };
    let mut out = Body::new(model_at_node)?;
    out.set("input", &prompt)?;
    send(out, None)
}

fn send(mut out: Body<'_>, model: Option<String>) -> Result<Action, TranslateError> {
    out.set("encoding_format", "float")?;
    Ok(Action::Send(Box::new(Translated {
        path: "/v1/embeddings",
        body: out.into_bytes()?,
        reply: ReplyTranslator::embeddings(EmbeddingsReply { model }),
    })))
}

fn is_empty(input: &str) -> bool {
    input == "\"\""
        || input
            .bytes()
            .filter(|byte| !byte.is_ascii_whitespace())
            .eq(*b"[]")
}

impl EmbeddingsReply {
    /// The answer in Ollama's form; token counts are left in `upstream`.
    pub(super) fn whole(
        &self,
        body: &[u8],
        elapsed_ns: u64,
        upstream: &mut Upstream,
    ) -> Result<Vec<u8>, TranslateError> {
        let answer: Answer<'_> = serde_json::from_slice(body).map_err(|error| {
            TranslateError::new(format!("the node sent no embeddings: {error}"))
        })?;
        let rest = serde_json::json!({"usage": answer.usage, "error": answer.error});
        upstream.absorb_rest(&rest).map_err(TranslateError::new)?;
        let mut rows = answer
            .data
            .ok_or_else(|| TranslateError::new("the node sent no embeddings"))?;
        rows.sort_by_key(|row| row.index);
        let mut vectors = Vec::with_capacity(rows.len());
        for row in rows {
            if !row.embedding.get().starts_with('[') {
                return Err(TranslateError::new(
                    "the node sent an embedding that is not a list",
                ));
            }
            vectors.push(RawValue::from_string(one_line(row.embedding.get()))?);
        }
        upstream.done = true;
        if let Some(model) = &self.model {
            return Ok(serde_json::to_vec(&Told {
                model,
                embeddings: vectors,
                total_duration: elapsed_ns,
                prompt_eval_count: upstream.usage.prompt,
            })?);
        }
        let [vector] = <[_; 1]>::try_from(vectors)
            .map_err(|_| TranslateError::new("the node did not send exactly one embedding"))?;
        let mut answer = b"{\"embedding\":".to_vec();
        answer.extend_from_slice(vector.get().as_bytes());
        answer.push(b'}');
        Ok(answer)
    }
}
