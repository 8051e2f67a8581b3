//! How a request is worded for a node: as it came, with spans edited, or in another form.

use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

use super::asked::{Asked, foreign_form};
use super::exchange::Exchange;
use super::gate::{Admitted, written};
use crate::cluster::{Node, NodeKind};
use crate::dialect::translate::{
    self, Action, ForeignForm, Form, NativeSettings, ReplyTranslator, Stamp, TranslateError,
};
use crate::dialect::{ApiError, Edit, Endpoint, Parsed};
use crate::routing::Candidate;
use crate::routing::window::{Avoided, LADDER_START, RunnerEdit};

/// A request in another form.
pub(super) struct InOtherWords {
    /// Where the node takes it.
    pub(super) path: &'static str,
    pub(super) body: Vec<u8>,
    /// Reads the answer.
    pub(super) translator: Box<ReplyTranslator>,
}

/// What becomes of a request at a node.
pub(super) enum Prepared<'b> {
    /// It is sent in its own form, with spans edited.
    Native(Vec<Edit<'b>>),
    /// It is sent in the node's form, and a translator reads the answer.
    Translated(InOtherWords),
    /// It is answered here: a load of what the node holds all the time.
    Here(Vec<u8>),
}

/// The request as this node understands it: untouched, with spans edited, or translated.
pub(super) fn prepare<'b>(
    x: &Exchange<'_, '_>,
    parsed: &Parsed<'_>,
    body: &[u8],
    candidate: &'b Candidate,
    node: &Node,
) -> Result<Prepared<'b>, ApiError> {
    if let Some(form) = needs_translation(&x.endpoint, node) {
        let shown = shown_model(x, candidate);
        let action = translate::request(
            form,
            body,
            &candidate.model,
            shown,
            stamp(&x.draft.record.id),
        )
        .map_err(|error| ApiError::invalid(error.to_string()))?;
        return Ok(match action {
            Action::Send(translated) => Prepared::Translated(InOtherWords {
                path: translated.path,
                body: translated.body,
                translator: Box::new(translated.reply),
            }),
            Action::LoadOnly { answer, .. } => Prepared::Here(answer),
        });
    }
    let mut edits = Vec::new();
    let same = parsed
        .model()
        .is_some_and(|asked| asked == candidate.model || same_model(asked, &candidate.model));
    if !same {
        edits.push(Edit::Model(&candidate.model));
    }
    // Ollama reads only `max_tokens`; without it the answer would run on.
    if node.kind == Some(NodeKind::Ollama) && x.endpoint == Endpoint::ChatCompletions {
        edits.extend(parsed.max_tokens().map(Edit::AddMaxTokens));
    }
    Ok(Prepared::Native(edits))
}

/// The model's name for the client: as it wrote it, unless the router chose the model.
fn shown_model<'n>(x: &'n Exchange<'_, '_>, candidate: &'n Candidate) -> &'n str {
    let record = &x.draft.record;
    let written = record.requested_model.as_deref();
    written
        .filter(|_| record.complexity.is_none())
        .unwrap_or(&candidate.model)
}

/// Whether a node takes the name as it was written (`tiny` is `tiny:latest`).
fn same_model(asked: &str, at_node: &str) -> bool {
    crate::cluster::ModelName::new(asked) == crate::cluster::ModelName::new(at_node)
}

/// The form to translate from, when the node does not answer this endpoint itself.
fn needs_translation(endpoint: &Endpoint, node: &Node) -> Option<Form> {
    let native = node.native;
    match endpoint {
        Endpoint::Chat if !native.ollama => Some(Form::OllamaChat),
        Endpoint::Generate if !native.ollama => Some(Form::OllamaGenerate),
        Endpoint::Embed if !native.ollama => Some(Form::OllamaEmbed),
        Endpoint::LegacyEmbeddings if !native.ollama => Some(Form::OllamaLegacyEmbeddings),
        Endpoint::Messages if !native.messages => Some(Form::Messages),
        Endpoint::Responses if !native.responses => Some(Form::Responses),
        _ => None,
    }
}

fn stamp(id: &str) -> Stamp {
    let now = SystemTime::now();
    Stamp {
        created_unix: now
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs()),
        created_at: humantime::format_rfc3339_micros(now).to_string(),
        id: id.to_owned(),
    }
}

/// A request of another API's form that no other form can say gets what the node gives to such requests by itself. To be known before anything is
/// loaded for it.
pub(super) fn judge_form(
    x: &mut Exchange<'_, '_>,
    body: &[u8],
    candidate: &Candidate,
    asked: &mut Asked,
) {
    if let Some(form) = foreign_form(&x.endpoint)
        && asked.settable
        && asked.could_exceed(LADDER_START)
        && let Err(error) = in_own_words(x, form, body, candidate, &Settings::default())
    {
        asked.settable = false;
        x.draft.step(format!("to be sent as it came: {error}"));
    }
}

/// A request in the form of another API, in Ollama's own: only that can carry a context, and say that a prompt is not to be cut.
pub(super) fn in_own_words(
    x: &Exchange<'_, '_>,
    form: ForeignForm,
    body: &[u8],
    candidate: &Candidate,
    settings: &Settings,
) -> Result<InOtherWords, TranslateError> {
    let shown = shown_model(x, candidate);
    let native = NativeSettings {
        options: &settings.options,
        refuses_long: settings.refuses_long,
    };
    let stamp = stamp(&x.draft.record.id);
    let done = translate::to_ollama(form, body, &candidate.model, shown, native, stamp)?;
    Ok(InOtherWords {
        path: done.path,
        body: done.body,
        translator: Box::new(done.reply),
    })
}

/// How a request is changed for the model that is loaded.
#[derive(Default)]
pub(super) struct Settings {
    /// `num_ctx` and further options, as JSON text.
    options: Vec<(&'static str, String)>,
    /// Whether the node is to refuse a prompt that is longer than the context instead of cutting it.
    pub(super) refuses_long: bool,
    loaded: bool,
    /// A load that is avoided.
    avoided: Option<Avoided>,
}

impl Settings {
    pub(super) fn of(
        parsed: &Parsed<'_>,
        asked: &Asked,
        admitted: &Admitted,
        native: bool,
    ) -> Self {
        let mut settings = Self {
            loaded: admitted.loaded,
            ..Self::default()
        };
        let Some(window) = admitted.window else {
            return settings;
        };
        settings.avoided = window.avoided;
        if !native {
            return settings;
        }
        let generates = matches!(parsed.endpoint(), Endpoint::Chat | Endpoint::Generate);
        let in_own_words = generates || window.sent.is_some();
        let foreign = asked.settable && foreign_form(parsed.endpoint()).is_some();
        settings.refuses_long = (generates || foreign)
            && !parsed.says_truncate()
            && !parsed.load_only()
            && window.context.is_some_and(|context| {
                // To say so in another form takes more than a word: not for what is most unlikely.
                asked.may_exceed(context) && (in_own_words || asked.could_exceed(context))
            });
        let mut set = |name, value: String| settings.options.push((name, value));
        if let Some(context) = window.sent {
            set("num_ctx", context.to_string());
        }
        if let RunnerEdit::Replaced(options) = &admitted.runner {
            let loaded = written(options);
            for (name, value) in &loaded {
                set(name, value.to_string());
            }
            // Ollama takes `null` for an absent option.
            for (name, _) in written(&asked.runner) {
                if !loaded.iter().any(|(kept, _)| *kept == name) {
                    set(name, "null".to_owned());
                }
            }
        }
        settings
    }

    /// Whether the node is to be told anything besides what the client said.
    pub(super) fn says_more(&self) -> bool {
        self.refuses_long || !self.options.is_empty()
    }

    /// Writes down what was done for the request before it is sent.
    pub(super) fn note(&self, x: &mut Exchange<'_, '_>, candidate: &Candidate) {
        if self.loaded {
            let (model, node) = (&candidate.model, &candidate.node);
            x.draft
                .step(format!("`{model}` was loaded for it on {node}"));
        }
        if let Some(avoided) = self.avoided {
            x.draft.step(match avoided.ms {
                Some(ms) => Cow::Owned(format!("reload avoided: about {ms} ms")),
                None => Cow::Borrowed("reload avoided"),
            });
        }
    }

    pub(super) fn edits(&self) -> Vec<Edit<'_>> {
        let options = self
            .options
            .iter()
            .map(|(name, value)| Edit::SetOption(name, value));
        let refuses = self
            .refuses_long
            .then_some(Edit::SetTop("truncate", "false"));
        options.chain(refuses).collect()
    }
}
