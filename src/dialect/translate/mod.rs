//! Translation between what a client speaks and `/v1/chat/completions`, `/v1/completions` or `/v1/embeddings`.
//!
//! With it the Ollama dialect works in front of llama-server and OpenAI-compatible nodes, and `/v1/messages` and `/v1/responses` in
//! front of nodes that only know chat completions. [`request`] turns a client's body into the node's and hands out the
//! [`ReplyTranslator`] that turns the node's answer, whole or streamed, back. Both are pure: time stamps, ids, names and elapsed
//! times come in as arguments.
//!
//! Numbers that a model or a program will read (tool arguments, schemas, options, vectors, log probabilities) are carried over as the
//! text they were written in, never through a float.

mod anthropic_reply;
mod anthropic_request;
mod body;
mod embeddings;
mod native_request;
mod ndjson;
mod ollama_reply;
mod ollama_request;
mod openai_reply;
mod reply;
mod responses_reply;
mod responses_request;
mod sse;
mod upstream;

#[cfg(test)]
mod tests;

pub use native_request::NativeSettings;
pub use reply::{ReplyTranslator, Unfinished};

use std::fmt;

use native_request::Defaults;
use openai_reply::OpenAiReply;

/// What an answer carries that only the caller can know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Seconds since 1970-01-01 UTC, for the forms that count so.
    pub created_unix: u64,
    /// The same moment in RFC 3339, for Ollama's `created_at`.
    pub created_at: String,
    /// Unique among answers and without a prefix: the answers' ids are made from it (`msg_…`, `resp_…`, `call_…`).
    pub id: String,
}

/// The form a client wrote its request in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// `POST /api/chat`.
    OllamaChat,
    /// `POST /api/generate`.
    OllamaGenerate,
    /// `POST /api/embed`.
    OllamaEmbed,
    /// `POST /api/embeddings`.
    OllamaLegacyEmbeddings,
    /// `POST /v1/messages` (Anthropic).
    Messages,
    /// `POST /v1/responses` (OpenAI).
    Responses,
}

/// A request in the node's words, and the way back for its answer.
#[derive(Debug)]
pub struct Translated {
    /// Where the node takes it: `/v1/chat/completions`, `/v1/completions`, `/v1/embeddings` or `/api/chat`.
    pub path: &'static str,
    /// The JSON body for the node.
    pub body: Vec<u8>,
    /// Turns the node's answer into the client's form.
    pub reply: ReplyTranslator,
}

/// What is to be done for a client's request.
#[derive(Debug)]
pub enum Action {
    /// Send this to the node.
    Send(Box<Translated>),
    /// An Ollama request without messages, prompt or input, which only loads or unloads the model. There is nothing to translate:
    /// the caller loads (or unloads) where the node can do that and answers 200 `application/json` with `answer`.
    LoadOnly {
        /// `keep_alive` is zero: the model is to be unloaded.
        unload: bool,
        /// Ollama's own answer to such a request.
        answer: Vec<u8>,
    },
}

/// A request that cannot be expressed for the node, or an answer that cannot be expressed for the client.
///
/// From [`request`] it is the client's fault (400 in the client's dialect), from [`ReplyTranslator::whole`] the node's (502).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TranslateError {
    /// One sentence for the reader of the client's error, without a full stop.
    pub message: String,
}

impl TranslateError {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
        }
    }
}

impl fmt::Display for TranslateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for TranslateError {}

impl From<serde_json::Error> for TranslateError {
    fn from(error: serde_json::Error) -> Self {
        Self::new(format!("invalid request body: {error}"))
    }
}

/// Translates a client's request.
///
/// `model_at_node` goes into the node's body, `shown_model` into the client's answer. The body's own `model` is not read.
///
/// # Errors
/// When the body is not JSON of this form, or asks for something chat completions cannot express; never a silent loss of meaning.
pub fn request(
    form: Form,
    body: &[u8],
    model_at_node: &str,
    shown_model: &str,
    stamp: Stamp,
) -> Result<Action, TranslateError> {
    match form {
        Form::OllamaChat => ollama_request::chat(body, model_at_node, shown_model, stamp),
        Form::OllamaGenerate => ollama_request::generate(body, model_at_node, shown_model, stamp),
        Form::OllamaEmbed => embeddings::embed(body, model_at_node, shown_model),
        Form::OllamaLegacyEmbeddings => embeddings::legacy(body, model_at_node, shown_model),
        Form::Messages => anthropic_request::messages(body, model_at_node, shown_model, &stamp),
        Form::Responses => responses_request::responses(body, model_at_node, shown_model, &stamp),
    }
}

/// The form of another API that Ollama answers, and that can be said in Ollama's own as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ForeignForm {
    /// `POST /v1/chat/completions`.
    ChatCompletions,
    /// `POST /v1/messages` (Anthropic).
    Messages,
    /// `POST /v1/responses` (OpenAI).
    Responses,
}

/// Says in Ollama's own form what came in another one, for what the other one has no words for ([`NativeSettings`]).
///
/// # Errors
/// When the body is not of this form, or says something that only the node can judge: it is then to be sent as it came.
pub fn to_ollama(
    form: ForeignForm,
    body: &[u8],
    model_at_node: &str,
    shown_model: &str,
    settings: NativeSettings<'_>,
    stamp: Stamp,
) -> Result<Translated, TranslateError> {
    let further = match form {
        ForeignForm::ChatCompletions => {
            let native = native_request::chat(body, model_at_node, settings, Defaults::OpenAi)?;
            let reply = OpenAiReply::new(shown_model, &stamp, native.stream, native.include_usage);
            let reply = ReplyTranslator::new(Box::new(reply), native.stream, stamp.id);
            return Ok(to_chat(native.body, reply));
        }
        ForeignForm::Messages => (Form::Messages, Defaults::Model),
        ForeignForm::Responses => (Form::Responses, Defaults::OpenAi),
    };
    let (form, defaults) = further;
    match request(form, body, model_at_node, shown_model, stamp)? {
        Action::Send(between) if between.path == "/v1/chat/completions" => {
            let native = native_request::chat(&between.body, model_at_node, settings, defaults)?;
            Ok(to_chat(native.body, between.reply))
        }
        _ => Err(TranslateError::new("it asks for no chat")),
    }
}

fn to_chat(body: Vec<u8>, reply: ReplyTranslator) -> Translated {
    Translated {
        path: "/api/chat",
        body,
        reply: reply.of_ollama(),
    }
}
